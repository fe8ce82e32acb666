# `make help` lists what a person can do here. Every target sets up what it needs by itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Options for what a target runs: make sandbox ARGS="--port 8123", make test ARGS="-k spend -x".
ARGS ?=
# What the server is tested over, beside a store in memory.
STORES := sqlite postgres valkey valkey-cluster split
# What must be covered to the last branch.
COVERED := src/watchword/domain/*,src/watchword/methods/*,src/watchword/engine/*

UV_VERSION := 0.13.9
UV := .uv/bin/uv
UV_READY := .uv/.ready-$(UV_VERSION)
READY := .venv/.ready
BIN := .venv/bin
PY := $(BIN)/python

# An environment or a configuration that happens to be active around us must not leak in.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT UV_PYTHON PYTHONPATH PYTHONHOME
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# Without a home to write to, as in some containers, the cache lives here.
ifeq ($(shell d="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$d" 2>/dev/null && test -w "$$d" && echo yes),)
export UV_CACHE_DIR := $(CURDIR)/.uv/cache
export PIP_NO_CACHE_DIR := 1
endif
# Trust what this machine trusts, where it says what that is: a company's own authority, say.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem),)
export UV_SYSTEM_CERTS ?= true
endif

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 18
	@printf '\n  ARGS="…" passes options on:  make test ARGS="-k spend -x"\n'

$(UV_READY):
	@bash scripts/bootstrap $(UV_VERSION)
	@touch $@

$(READY): pyproject.toml uv.lock $(UV_READY)
	@echo '== environment: .venv'
	@$(UV) sync --quiet --frozen --all-extras --all-groups --python .uv/bin/python
	@touch $@

.PHONY: setup
setup: $(READY) ## make the environment in .venv
	@echo '== ready: $(BIN)'

.PHONY: sandbox
sandbox: $(READY) ## run the whole product with a demo bank: ARGS="--port 8123"
	@exec $(BIN)/watchword sandbox $(ARGS)

.PHONY: chromium
chromium: ## make sure that there is a Chromium for the tests of the approval page
	@bash scripts/chromium >/dev/null

.PHONY: test
test: $(READY) chromium ## run every test; domain, methods and engine must be covered completely
	@echo '== tests'
	@$(PY) -m pytest --numprocesses=auto --cov --cov-report= $(ARGS)
ifeq ($(strip $(ARGS)),)
	@for store in $(STORES); do \
	  echo "== the server over $$store"; \
	  $(PY) -m pytest --numprocesses=auto --store=$$store -m 'not slow' tests/server tests/wire; \
	done
	@echo '== branch coverage of domain, methods and engine: 100 %'
	@$(PY) -m coverage report --include='$(COVERED)' --fail-under=100
else
	@echo '== coverage is not judged: ARGS may have left tests out'
endif

.PHONY: check
check: format lint types imports lock docs ## everything that is checked beside the tests
	@echo '== check: all good'

.PHONY: format
format: $(READY) ## check the formatting
	@echo '== formatting'
	@$(BIN)/ruff format --check --quiet --diff .

.PHONY: lint
lint: $(READY) ## check the rules of pyproject.toml
	@echo '== lint'
	@$(BIN)/ruff check --quiet .

.PHONY: types
types: mypy pyright ## check the types, with mypy and pyright

.PHONY: mypy
mypy: $(READY)
	@echo '== types: mypy'
	@$(BIN)/mypy --no-error-summary

.PHONY: pyright
pyright: $(READY)
	@echo '== types: pyright'
	@$(BIN)/pyright --warnings

.PHONY: imports
imports: $(READY) ## check who imports whom
	@echo '== imports'
	@$(BIN)/lint-imports --no-logo

.PHONY: lock
lock: $(READY) ## check that uv.lock fits pyproject.toml
	@echo '== lock file'
	@$(UV) lock --quiet --check --python .uv/bin/python

.PHONY: docs
docs: $(READY) ## check the documentation against the product
	@echo '== documentation'
	@$(PY) -m pytest --quiet tests/docs

.PHONY: fmt
fmt: $(READY) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(READY) ## run the benchmarks; writes bench/results.json
	@$(PY) -m bench.run $(ARGS)

.PHONY: torture
torture: $(READY) ## break servers and their stores, and prove what held: ARGS="--minutes 30 --store sqlite --seed 17"
	@$(PY) -m tests.faults.torture $(ARGS)

.PHONY: clean
clean: ## remove what the tools left behind; the environment stays
	@rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis build dist \
		tests/page/screenshots torture.json torture-*.jsonl
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
