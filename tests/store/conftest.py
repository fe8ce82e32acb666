"""Every store there is, for the tests that hold for all of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.store.support import Stores
from watchword.store.base import Store
from watchword.store.memory import MemoryStore
from watchword.store.sqlite import SqliteStore


def _memory(_: Path) -> Callable[[], Store]:
    kept = MemoryStore()
    return lambda: kept


def _sqlite(folder: Path) -> Callable[[], Store]:
    return lambda: SqliteStore.open(folder / "store.db")


KINDS = {"memory": _memory, "sqlite": _sqlite}


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """A store of each kind, empty."""
    stores = Stores(KINDS[request.param](tmp_path))
    yield stores
    await stores.close()
