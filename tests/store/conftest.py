"""Every store there is, for the tests that hold for all of them."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests import stores as kinds
from tests.store.postgres import Programs, Server
from tests.store.support import Stores, kept
from tests.stores import KINDS, Place
from watchword.store.memory import MemoryStore


@pytest.fixture(scope="session")
def place_of() -> Iterator[Callable[[str], Place]]:
    """Run what a kind of store needs when it is first asked for; it stays for the session."""
    with ExitStack() as running:
        yield cache(lambda kind: running.enter_context(kinds.running(kind)))


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """PostgreSQL's programs."""
    with Programs() as programs:
        yield programs


@pytest.fixture(scope="session")
def postgres(programs: Programs) -> Iterator[Server]:
    """A server that nobody breaks."""
    with Server(programs) as server:
        server.create()
        server.start()
        yield server


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> AsyncIterator[Stores]:
    """A store of each kind, empty."""
    place = place_of(request.param).empty()
    stores = Stores(kept(MemoryStore()) if place.kind == "memory" else place.open)
    yield stores
    await stores.close()
