"""A sandbox in a process of its own, as everybody sees it from outside."""

from collections.abc import Iterator

import pytest

from tests.system.processes import Running
from tests.system.wire import Person, Wire
from tests.wire import support


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-table",
        action="store_true",
        help="write docs/reference/wire-table.md anew from what the server answers",
    )


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
def application(wire: Wire) -> Person:
    return support.application(wire)
