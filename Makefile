# `make help` lists what a person can do here.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=
UV := .uv/bin/uv
ENV := .venv/.ready

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(UV):
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(ENV): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --all-extras --all-groups
	@touch $@

setup: $(ENV) ## make the environment in .venv

sandbox: $(ENV) ## run the whole product with a demo bank; ARGS="--port 8123" passes options on
	@.venv/bin/watchword sandbox $(ARGS)

.PHONY: help setup sandbox
