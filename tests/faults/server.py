"""
The server for production in a process of its own, with a clock that can be stepped.

``python -m tests.faults.server CONFIG CLOCK [WEAKNESS]`` serves exactly as ``watchword serve`` does,
but for two things that production has no switch for, so that they are put in its place here: the
clock adds what a file says to the machine's, and, for a negative control, the store is a weak one.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from watchword.asgi import ASGIApp
from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.ports import SystemClock
from watchword.server.run import IsDraining, run
from watchword.serving.app import Server, application, checked
from watchword.store.base import Store
from watchword.store.memory import MemoryStore
from watchword.store.postgres import connection
from watchword.store.sqlite import SqliteStore
from watchword.store.valkey import link

OFFSET_BYTES = 8
BEHIND_SECONDS = 0.5


class SteppedClock(SystemClock):
    """The machine's clock, and what the file says besides, in milliseconds."""

    def __init__(self, file: int) -> None:
        """Read the open *file* at each look."""
        self._file = file

    def now(self) -> Instant:
        """Return what it shows."""
        offset = int.from_bytes(os.pread(self._file, OFFSET_BYTES, 0), "big", signed=True)
        return Instant(super().now() + offset)


def write_offset(file: Path, milliseconds: int) -> None:
    """Step the clock that reads *file*, in one write."""
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.pwrite(descriptor, milliseconds.to_bytes(OFFSET_BYTES, "big", signed=True), 0)
    finally:
        os.close(descriptor)


class WritesBehind(MemoryStore):
    """
    A weak store: it acknowledges what is in memory, and writes it to its file a little later.

    What a killed process takes with it was acknowledged: every crash must show that.
    """

    def __init__(self, behind: Store) -> None:
        """Stand before the real store."""
        super().__init__()
        self._real = behind
        self._waiting: list[Change] = []
        self._writing: asyncio.Task[None] | None = None

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        found = self._tokens.get(token_id) or await self._real.token(token_id)
        return None if found is None else self._tokens.setdefault(token_id, found)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user up."""
        found = self._users.get(user_id) or await self._real.user(user_id)
        return None if found is None else self._users.setdefault(user_id, found)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look a number up."""
        found = self._destinations.get(destination_id) or await self._real.destination(destination_id)
        return None if found is None else self._destinations.setdefault(destination_id, found)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        return await self._real.application(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look an owner up."""
        return await self._real.owner(owner_id)

    async def commit(self, change: Change) -> bool:
        """Say that it is stored."""
        stored = await super().commit(change)
        if stored:
            self._waiting.append(change)
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write())
        return stored

    async def _write(self) -> None:
        await asyncio.sleep(BEHIND_SECONDS)
        while self._waiting:
            changes, self._waiting = self._waiting, []
            for change in changes:
                await self._real.commit(change)

    async def close(self) -> None:
        """Write what waits, as long as there is a process to do it."""
        if self._writing is not None:
            await self._writing
        await self._real.close()


class _WeakStore:
    @staticmethod
    def open(file: Path) -> Store:
        return WritesBehind(SqliteStore.open(file))


def _write_one_lineage() -> None:
    """Let functions take every primary of Valkey for the one that wrote what they compare."""
    fence = "return replid, replid, info"
    assert fence in link.CODE
    name = f"{link.LIBRARY}_unfenced"
    patch.object(
        link, "CODE", link.CODE.replace(fence, "return replid, 'alone', info").replace(link.LIBRARY, name)
    ).start()
    patch.object(link, "LIBRARY", name).start()


def _syncs_nothing() -> None:
    """Let each session with PostgreSQL go on before what it committed is synced."""
    prepare = connection._prepare  # noqa: SLF001 - where a session is told what to wait for.

    async def careless(session: connection.Connection, *more: Any) -> None:
        await prepare(session, *more)
        await session.execute("SET synchronous_commit = off")

    patch("watchword.store.postgres.connection._prepare", careless).start()


WEAKNESSES: dict[str, Callable[[], object]] = {
    "writes-behind": lambda: patch("watchword.serving.stores.SqliteStore", _WeakStore).start(),
    "no-fence": _write_one_lineage,
    "syncs-nothing": _syncs_nothing,
}


def _application(config: Path, clock: Path, weakness: str | None, is_draining: IsDraining) -> ASGIApp:
    file = os.open(clock, os.O_RDONLY)
    patch("watchword.serving.app.SystemClock", partial(SteppedClock, file)).start()
    if weakness is not None:
        WEAKNESSES[weakness]()
    deployment = checked(config)
    return Server(deployment, application(deployment), is_draining=is_draining)


def main() -> None:
    """Serve until told to stop."""
    config, clock, *weakness = sys.argv[1:]
    deployment = checked(Path(config))
    run(
        partial(_application, Path(config), Path(clock), weakness[0] if weakness else None),
        host=deployment.server.host,
        port=deployment.server.port,
    )


if __name__ == "__main__":
    main()
