"""Every example in the documentation does what it shows."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
import pytest

from tests.docs.documents import NAMES, ROOT, Block, blocks, read
from tests.docs.shell import Transcript, environment
from watchword.serving.settings import parse

SANDBOX = "127.0.0.1:8000"
OWN = "127.0.0.1:9000"
READY_SECONDS = 60.0
SCRIPT_SECONDS = 60.0

NOT_RUN = {("docs/how-to/use-the-client.md", "console"): "a person answers at the terminal"}
EXECUTED = {"console", "python"}
LANGUAGES = EXECUTED | {
    "sh",  # What goes on until it is stopped, or sets a machine up: tests of their own run it.
    "toml",
    "json",
    "http",  # A fragment of a message.
    "html",  # Run in a browser: tests/page/test_browser_docs.py.
    "js",  # A fragment; the tests of the page have whole ones.
    "jinja",  # A template of the page, which is drawn: tests/page/test_docs_templates.py.
    "text",
    "",  # CONTRIBUTING and others may show a fragment of anything.
}
WITH_EXAMPLES = [
    name
    for name in NAMES
    if any(
        block.language in EXECUTED and (name, block.language) not in NOT_RUN for block in blocks(read(name))
    )
]


def test_there_are_examples_to_run() -> None:
    assert {"README.md", "docs/tutorial/first-step-up.md", "docs/how-to/use-the-client.md"} <= {
        *WITH_EXAMPLES
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_of_a_kind_that_is_known(name: str) -> None:
    assert [block for block in blocks(read(name)) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_shown_is_one_that_is_taken(name: str) -> None:
    for block in blocks(read(name)):
        if block.language == "toml" and block.file != "pyproject.toml":
            _, mistakes = parse(block.text, folder=ROOT, source=f"{name}:{block.line}")
            assert mistakes == []


@pytest.mark.parametrize("name", NAMES)
def test_every_json_shown_is_json(name: str) -> None:
    for block in blocks(read(name)):
        if block.language == "json":
            msgspec.json.decode(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_example_does_what_it_shows(name: str, tmp_path: Path) -> None:
    examples = list(blocks(read(name)))
    with (
        _sandbox_where_it_is_used(examples, tmp_path) as sandbox,
        _Own(tmp_path) as own,
        Transcript(tmp_path, {SANDBOX: sandbox, OWN: own.address}) as shell,
    ):
        for block in examples:
            where = f"{name}:{block.line}"
            text = block.text.replace(SANDBOX, sandbox).replace(OWN, own.address)
            if block.file is not None:
                (tmp_path / block.file).write_text(text, encoding="utf-8")
                if re.search(r"^app = ", text, re.MULTILINE):
                    own.serve(Path(block.file).stem)
            elif block.language == "python":
                _run_script(text, tmp_path, where)
            elif block.language == "console" and (name, block.language) not in NOT_RUN:
                assert own.is_well(), own.log()
                other_way = shell.repeat(block.text)
                assert other_way is None, f"{where}\n{other_way}\n{own.log()}"


def _run_script(text: str, folder: Path, where: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, f"{where}\n{ran.stdout}{ran.stderr}"


@contextmanager
def _sandbox_where_it_is_used(examples: list[Block], folder: Path) -> Iterator[str]:
    """Run a sandbox while a document needs one; yields its address."""
    if not any(SANDBOX in block.text for block in examples if block.language in EXECUTED):
        yield SANDBOX
        return
    options = ["--port", "0"]
    policy = next((block for block in examples if block.file == "policy.toml"), None)
    if policy is not None:  # The reader is told to start it with the file that he wrote.
        (folder / "policy.toml").write_text(policy.text, encoding="utf-8")
        options += ["--config", "policy.toml"]
    server = subprocess.Popen(
        ["watchword", "sandbox", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    late = threading.Timer(READY_SECONDS, server.kill)
    late.start()
    try:
        assert server.stdout is not None
        ready = re.fullmatch(r"Ready: http://(127\.0\.0\.1:\d+)\n", server.stdout.readline())
        late.cancel()
        assert ready is not None, "the sandbox never said Ready"
        yield ready[1]
    finally:
        late.cancel()
        server.terminate()
        server.communicate(timeout=READY_SECONDS)
    assert server.returncode == 0


class _Own:
    """The application that a document has the reader write, served as he is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.communicate(timeout=READY_SECONDS)

    def serve(self, module: str) -> None:
        with (self._folder / "served.log").open("wb") as log:
            self._server = subprocess.Popen(
                ["granian", "--interface", "asgi", "--port", str(self._port), f"{module}:app"],
                cwd=self._folder,
                env=environment(WATCHWORD_KEY=os.urandom(32).hex()),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self.is_well(), self.log()
            assert time.monotonic() < deadline, self.log()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        except OSError:
            return self._stopped.wait(0.05)  # Never set: an interval between two tries.

    def is_well(self) -> bool:
        return self._server is None or self._server.poll() is None

    def log(self) -> str:
        path = self._folder / "served.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""
