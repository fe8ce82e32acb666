"""Sandboxes in processes of their own, and connections to them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import Running
from tests.system.wire import Person, Wire

ADA_PIN = "1234"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One sandbox for a module; ``wire`` puts it back to the start before each test."""
    with Running() as running:
        yield running


@pytest.fixture
def wire(server: Running) -> Iterator[Wire]:
    with Wire(server.address) as opened:
        opened.control("POST", "/sandbox/reset")
        yield opened


@pytest.fixture
def ada(wire: Wire) -> Person:
    return Person(wire, "demo-ada", 6146956, 435036)


@pytest.fixture
def grace(wire: Wire) -> Person:
    return Person(wire, "demo-grace", 6146957, 435037)


@pytest.fixture(scope="session")
def curl() -> Path:
    """Return the machine's curl; what is missing is installed, or fails here."""
    found = shutil.which("curl")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "curl"]):
            subprocess.run(["apt-get", "-qq", *command], check=False, stdin=subprocess.DEVNULL)
        found = shutil.which("curl")
    assert found is not None, "curl is missing: install it, e.g. `sudo apt-get install curl`"
    return Path(found)
