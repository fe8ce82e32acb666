"""The commands of the README do what it says, in a clone that has never been touched."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, blocks, read

SET_UP_SECONDS = 240
STOP_SECONDS = 30
COMMANDS = next(block.text for block in blocks(read("README.md")) if "git clone" in block.text).splitlines()

# What is active around the tests is none of the reader's; what says where packages come from is.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(
        ("VIRTUAL_ENV", "PYTEST", "COV", "MAKE", "MFLAGS", "ARGS", "GIT_DIR", "GIT_WORK", "GIT_INDEX")
    )
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    command, enter = COMMANDS[0].split(" && ")
    subprocess.run(
        ["bash", "-c", command.replace("<url>", f"file://{ROOT}")],
        cwd=folder,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder / enter.removeprefix("cd ")


@contextmanager
def _started(command: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a command that goes on until it is stopped, and whatever it starts, in a group of its own."""
    running = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


@pytest.mark.slow
@pytest.mark.timeout(SET_UP_SECONDS + STOP_SECONDS + 60)
def test_make_sandbox_reaches_ready_and_ends_well(clone: Path) -> None:
    assert COMMANDS[1:] == ["make sandbox"]
    with _started(f'timeout {SET_UP_SECONDS} {COMMANDS[1]} ARGS="--port 0"', clone) as sandbox:
        assert sandbox.stdout is not None
        said: list[str] = []
        for line in sandbox.stdout:
            said.append(line)
            if line.startswith("Ready: "):
                break
        ready = re.fullmatch(r"Ready: (http://127\.0\.0\.1:\d+)\n", said[-1])
        assert ready is not None, "".join(said)
        answer = subprocess.run(
            ["curl", "-s", f"{ready[1]}/v1/me", "-H", "Authorization: Bearer demo-ada"],
            capture_output=True,
            timeout=STOP_SECONDS,
            check=True,
        )
        assert b'"id":6146956' in answer.stdout
        os.killpg(sandbox.pid, signal.SIGINT)  # What Ctrl-C at the terminal does.
        assert "Error" not in sandbox.stdout.read()
        sandbox.wait(STOP_SECONDS)


def test_make_help_lists_what_the_readme_names(clone: Path) -> None:
    listed = subprocess.run(
        ["make", "help"], cwd=clone, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    named = set(re.findall(r"`(make [a-z]+)`", read("README.md")))
    assert "make sandbox" in named
    assert [name for name in named if name not in listed] == []
