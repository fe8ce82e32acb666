"""
PostgreSQL under torture: a primary and a standby, real processes, with proxies on every link.

With a synchronous standby what is acknowledged survives everything, a fail-over as well, though the fence
voids what is open then. With an asynchronous one a fail-over loses what the standby has not got.

The power is lost by leaving on the disk what is synced and nothing else: all files as they were at the
last checkpoint, and the log as far as it is flushed at the moment of the loss. What that is the server
says itself, asked once no answer of its reaches anybody any more.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, Self

import asyncpg  # type: ignore[import-untyped]

from tests.faults.history import FaultKind
from tests.faults.promises import FOLLOWS, VOIDS
from tests.faults.proxy import Proxy
from tests.faults.under_test import Fault, Processes
from tests.store.postgres import SUPERUSER, Programs, Server, until
from watchword.domain.decision import EventName
from watchword.store.postgres import PostgresSettings, PostgresStore

SEGMENT_BYTES = 4 * 1024 * 1024
"""How long a file of the log is, as ``Server`` makes it."""
BOTH_RUN_SECONDS = 0.5
"""How long two servers believe to be the primary, and can both be reached."""
COMMIT = b"|".join(re.escape(name.encode()) for name in EventName)
"""A change brings its events along, as arguments; nothing else that is sent has their names in it."""
_FLUSHED = """
SELECT (pg_current_wal_flush_lsn() - '0/0')::text, substring(pg_walfile_name(pg_current_wal_lsn()) for 8)
"""


class _Node:
    """A server with two links to it: its clients', and its standby's."""

    def __init__(self, programs: Programs, settings: Mapping[str, str]) -> None:
        self.server = Server(programs, settings=settings)
        where = ("127.0.0.1", self.server.port)
        self.clients, self.standbys = Proxy(where, commit=COMMIT), Proxy(where, commit=COMMIT)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as entering:
            await entering.enter_async_context(self.clients)
            await entering.enter_async_context(self.standbys)
            entering.push_async_callback(asyncio.to_thread, self.server.close)
            self._entered = entering.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._entered.aclose()


class Postgres:
    """A primary and its standby, which change places when the primary dies."""

    def __init__(self, *, synchronous: bool = True, fence: Literal["auto", "off"] = "auto") -> None:
        """
        Make it; nothing runs yet.

        Args:
            fence: "off" leaves tokens open that another primary does not know all of.
        """
        self.name = "postgresql" if synchronous else "postgresql-async"
        self.promises = FOLLOWS if synchronous else VOIDS
        self._sync_state = "sync" if synchronous else "async"
        self._fence = fence
        self._running = AsyncExitStack()

    async def start(self, folder: Path) -> None:
        """Start both; their files lie elsewhere, where they may be another user's."""
        settings = {
            "synchronous_standby_names": "*" if self._sync_state == "sync" else "",
            "max_connections": "50",
            "wal_keep_size": "128MB",
            "wal_retrieve_retry_interval": "100ms",
            # What nobody waits for is not synced by chance.
            "wal_writer_delay": "10s",
            "checkpoint_timeout": "1h",
            # At each start: one sync for all, and not one for each of a thousand files.
            "recovery_init_sync_method": "syncfs",
        }
        async with AsyncExitStack() as starting:
            programs = starting.enter_context(Programs())
            self._base = programs.folder / "synced"
            self._primary, self._standby = [
                await starting.enter_async_context(_Node(programs, settings)) for _ in range(2)
            ]
            await asyncio.to_thread(self._primary.server.create)
            await asyncio.to_thread(self._primary.server.start)
            await self._stand_by()
            self._running = starting.pop_all()

    async def stop(self) -> None:
        """End both, with all that stands before them."""
        await self._running.aclose()

    @property
    def url(self) -> str:
        """Name both, by their proxies."""
        return _url(node.clients.address for node in (self._primary, self._standby))

    @property
    def settings(self) -> str:
        """Say what the server's file says besides."""
        return f'[store.postgresql]\nfence = "{self._fence}"\n'

    def table(self) -> str:
        """Name both."""
        return f'[store]\nurl = "{self.url}"\n{self.settings}'

    async def open(self) -> PostgresStore:
        """Open the primary, patiently; what the fence voids is seen too, and has to be as it was."""
        settings = PostgresSettings(fence="off", connect_seconds=20, statement_seconds=20, lock_seconds=20)
        return await PostgresStore.open(self._primary.server.url, settings=settings)

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Kill it, freeze it, cut it off, fill its disk, take its power."""
        links = (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.DELAYED, FaultKind.BLACKHOLE)
        return {
            FaultKind.STORE_KILLED: self._killed,
            FaultKind.STORE_FROZEN: self._frozen,
            FaultKind.FAIL_OVER: self._fails_over,
            FaultKind.PARTITION: self._parted,
            FaultKind.DISK_FULL: self._full,
            FaultKind.POWER_LOST: self._loses_power,
            **{kind: partial(self._link, kind) for kind in links},
        }

    # --- one server ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _killed(self) -> AsyncIterator[None]:
        await self._restart()
        yield

    async def _restart(self) -> None:
        await asyncio.to_thread(self._primary.server.kill)
        await asyncio.to_thread(self._primary.server.start)
        await self._replicated()

    @asynccontextmanager
    async def _frozen(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self._primary.server.freeze)
        try:
            yield
        finally:
            await asyncio.to_thread(self._primary.server.thaw)

    @asynccontextmanager
    async def _full(self) -> AsyncIterator[None]:
        # The log can be written no more: PostgreSQL gives up, and somebody starts it once there is room.
        await asyncio.to_thread(self._primary.server.limit_files, "4096")
        yield
        await self._restart()

    @asynccontextmanager
    async def _link(self, kind: FaultKind) -> AsyncIterator[None]:
        async with self._primary.clients.faults()[kind]():
            yield

    # --- its power ----------------------------------------------------------------------------

    @asynccontextmanager
    async def _loses_power(self) -> AsyncIterator[None]:
        """The power goes when this is left: until then something is written that may be lost."""
        server = self._primary.server
        connection = await asyncpg.connect(server.url)
        try:
            await connection.execute("CHECKPOINT")
            await asyncio.to_thread(_copy, server, self._base)
            await connection.fetchrow(_FLUSHED)  # So that it is prepared, and quick.
            yield
            # What is flushed from here on nobody was told of, and no standby has got.
            async with _silence(self._primary.clients), _silence(self._primary.standbys):
                position, timeline = await connection.fetchrow(_FLUSHED)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(_forget, server, self._base, int(position), timeline)
        finally:
            connection.terminate()
        await asyncio.to_thread(server.start)
        await self._replicated()

    # --- two servers --------------------------------------------------------------------------

    @asynccontextmanager
    async def _fails_over(self) -> AsyncIterator[None]:
        """The primary dies when this is left: until then nothing reaches the standby."""
        async with _silence(self._primary.standbys):
            yield
            await asyncio.to_thread(self._primary.server.kill)
            await asyncio.to_thread(self._standby.server.promote)
        await self._stand_by(in_place_of_the_primary=True)

    @asynccontextmanager
    async def _parted(self) -> AsyncIterator[None]:
        """The standby is on the other side, and goes on without the primary, which lives."""
        async with _silence(self._primary.standbys), _silence(self._standby.clients):
            await asyncio.to_thread(self._standby.server.promote)
            yield
        await asyncio.sleep(BOTH_RUN_SECONDS)
        await asyncio.to_thread(self._primary.server.kill)
        await self._stand_by(in_place_of_the_primary=True)

    async def _stand_by(self, *, in_place_of_the_primary: bool = False) -> None:
        """Make the standby anew; what was the primary, if the standby is that now."""
        if in_place_of_the_primary:
            self._primary, self._standby = self._standby, self._primary
        server = self._standby.server
        await asyncio.to_thread(shutil.rmtree, server.data, ignore_errors=True)
        _, port = self._primary.standbys.address
        await asyncio.to_thread(server.copy, self._primary.server, port=port)
        await asyncio.to_thread(server.start)
        await self._replicated()

    async def _replicated(self) -> None:
        """Wait until the standby gets what is written."""
        streams = "SELECT application_name, state, sync_state FROM pg_stat_replication"
        wanted = f"{self._standby.server.name}|streaming|{self._sync_state}"
        primary = self._primary.server
        await asyncio.to_thread(until, lambda: primary.psql(streams) == wanted, "the standby does not follow")


def _url(hosts: Iterable[tuple[str, int]]) -> str:
    return f"postgresql://{SUPERUSER}@{','.join(f'{host}:{port}' for host, port in hosts)}/postgres"


def _silence(link: Proxy) -> AbstractAsyncContextManager[None]:
    return link.faults()[FaultKind.BLACKHOLE]()


def _copy(server: Server, base: Path) -> None:
    """Copy all files but the log, just after a checkpoint."""
    base.mkdir()
    server.freeze()
    try:
        files = [entry for entry in server.data.iterdir() if entry.name not in {"pg_wal", "postmaster.pid"}]
        subprocess.run(["cp", "-a", *files, base], check=True)
    finally:
        server.thaw()


def _forget(server: Server, base: Path, position: int, timeline: str) -> None:
    """Leave of a server that is dead what was synced: the files of *base*, and its log up to *position*."""
    for entry in server.data.iterdir():
        if entry.name != "pg_wal":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for entry in base.iterdir():
        entry.rename(server.data / entry.name)
    base.rmdir()
    high, low = divmod(position, 1 << 32)
    last = f"{timeline}{high:08X}{low // SEGMENT_BYTES:08X}"
    for file in (server.data / "pg_wal").iterdir():
        if file.name == last:
            os.truncate(file, position % SEGMENT_BYTES)
            os.truncate(file, SEGMENT_BYTES)  # The rest is zero.
        elif len(file.name) == len(last) and file.name > last:
            file.unlink()
