"""
What is put under torture: a store with the faults that can be made in it, and the server before it.

A fault is a context manager without arguments. To enter it is to make the fault, to leave it is to
mend it, and whatever it broke works again when it is left. So that a store is tortured it needs one
class here: how it is started, what the server's file says of it, and which faults it knows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit
from typing import Protocol, TypeAlias

import apsw

from tests.faults.history import FaultKind
from tests.faults.promises import KEEPS, Promises
from watchword.store.base import Store
from watchword.store.sqlite import SqliteStore

Fault: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class Processes(Protocol):
    """The server, as far as a fault of its store has to know it."""

    def pids(self) -> Sequence[int]:
        """Return its processes."""
        ...


class StoreUnderTest(Protocol):
    """
    A store, with processes of its own or without.

    Its faults: ``STORE_KILLED`` kills every process of it and starts it again; ``STORE_FROZEN`` stops
    one so that it answers nobody and holds its connections; ``FAIL_OVER`` holds replication back,
    kills the primary under load and promotes another copy; ``PARTITION`` puts the primary and the
    server on one side and the others on the other, until these have gone on without it. Those of
    the link come from ``proxy.Proxy``, before which the server's file puts the store.
    """

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    @property
    def promises(self) -> Promises:
        """What the checker holds it to."""
        ...

    async def start(self, folder: Path) -> None:
        """Start it, empty; *folder* is its own."""
        ...

    async def stop(self) -> None:
        """End it, and every process of it."""
        ...

    def table(self) -> str:
        """Return the server's ``[store]``, with what stands between them."""
        ...

    async def open(self) -> Store:
        """Open it for the harness, past whatever stands between, to enrol users and to read the end."""
        ...

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Return the faults that can be made in it while *server* runs."""
        ...


class Sqlite:
    """The default: a file."""

    name = "sqlite"
    promises = KEEPS

    def __init__(self) -> None:
        """Make it; it is nowhere yet."""
        self._file = Path()

    async def start(self, folder: Path) -> None:
        """Lie in *folder*."""
        self._file = folder / "watchword.db"

    async def stop(self) -> None:
        """There is nothing to end."""

    def table(self) -> str:
        """Name the file."""
        return f'[store]\npath = "{self._file}"\n'

    async def open(self) -> Store:
        """Open the file."""
        return SqliteStore.open(self._file)

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Fill its disk, hold its lock."""

        @asynccontextmanager
        async def full() -> AsyncIterator[None]:
            # No file of the server's may grow, or be written, past its first page.
            limited = [pid for pid in server.pids() if _limit_files(pid, 4096)]
            try:
                yield
            finally:
                for pid in limited:
                    _limit_files(pid, RLIM_INFINITY)

        @asynccontextmanager
        async def locked() -> AsyncIterator[None]:
            other = apsw.Connection(str(self._file))
            other.set_busy_timeout(2000)
            try:
                await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
                yield
            except apsw.BusyError:
                yield  # The server itself held it all the time, for it is busy: no fault was made.
            finally:
                other.close()

        return {FaultKind.DISK_FULL: full, FaultKind.FILE_LOCKED: locked}


def _limit_files(pid: int, size: int) -> bool:
    """Limit the size of files that a process may write; tell whether it was there."""
    try:
        prlimit(pid, RLIMIT_FSIZE, (size, RLIM_INFINITY))
    except ProcessLookupError:
        return False
    return True
