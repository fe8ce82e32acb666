"""The browser, what npm installs for these tests, and a person who visits."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.browser import Visitor, browser
from tests.page.installed import install
from tests.page.support import Bank, Shop
from tests.system.processes import Running

Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def node_modules() -> None:
    """Install what npm brings."""
    install()


@pytest.fixture(scope="module")
def chromium(node_modules: None) -> Iterator[Browser]:
    """
    Run a browser.

    For a module: as long as it runs, no asynchronous test can, so a module has tests of one kind.
    """
    with browser() as launched:
        yield launched


@pytest.fixture
def visit(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Let people visit; at the end nothing may have gone wrong unseen in any of their browsers."""
    visitors: list[Visitor] = []

    def sit_down(**options: object) -> Visitor:
        visitors.append(Visitor(chromium, request.node.name, **options))  # type: ignore[arg-type]  # As given.
        return visitors[-1]

    yield sit_down
    faults = [fault for visitor in visitors for fault in visitor.unexpected()]
    for visitor in visitors:
        visitor.leave()
    assert not faults


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Run a sandbox in processes of its own."""
    with Running() as started:
        yield started


@pytest.fixture
def bank(running: Running) -> Iterator[Bank]:
    """Return the sandbox, at its start."""
    with Bank(running) as opened:
        opened.reset()
        yield opened


@pytest.fixture
def shop(bank: Bank) -> Iterator[Shop]:
    """Open a shop on an origin of its own."""
    with Shop(bank.origin) as started:
        yield started
