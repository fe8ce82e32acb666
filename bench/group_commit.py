"""A group commit in its plainest form: what the floor waits for."""

import asyncio
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import apsw

SCHEMA = (
    # An ordinary rowid table: fresh rows lie together at its end, and only the index is random.
    "CREATE TABLE IF NOT EXISTS token (id BLOB NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS token_id ON token (id)",
)
GROUP_MAX = 256


@dataclass(frozen=True, slots=True)
class Row:
    """One row to be written: version 1 is new, a later one replaces."""

    id: bytes
    version: int
    body: bytes


def connect(path: Path) -> apsw.Connection:
    """Open *path* so that what is committed survives a power cut."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for statement in SCHEMA:
        connection.execute(statement)
    return connection


class GroupCommit:
    """
    One thread that writes every row that waits in one transaction, then wakes all who wait.

    While it waits for the disk the next group gathers, so a slow disk makes larger groups, not a
    longer queue.
    """

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[Row, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(path,), name="group-commit")
        self._thread.start()

    def write(self, row: Row) -> asyncio.Future[None]:
        """Store *row*; the future is done once it is on the disk."""
        stored = self._loop.create_future()
        self._waiting.put((row, stored))
        return stored

    async def close(self) -> None:
        """Finish what waits and end the thread."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self, path: Path) -> None:
        connection = connect(path)
        open_ = True
        while open_:
            entries = [self._waiting.get()]
            while len(entries) < GROUP_MAX and not self._waiting.empty():
                entries.append(self._waiting.get_nowait())
            group = [entry for entry in entries if entry is not None]
            open_ = len(group) == len(entries)
            failure: apsw.Error | None = None
            try:
                self._commit(connection, [row for row, _ in group])
            except apsw.Error as error:
                failure = error
            self._loop.call_soon_threadsafe(_settle, [stored for _, stored in group], failure)
        connection.close()

    @staticmethod
    def _commit(connection: apsw.Connection, rows: list[Row]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                if row.version == 1:
                    connection.execute("INSERT INTO token VALUES (?, ?, ?)", (row.id, row.version, row.body))
                else:
                    connection.execute(
                        "UPDATE token SET version = ?, body = ? WHERE id = ?", (row.version, row.body, row.id)
                    )
            connection.execute("COMMIT")
        except apsw.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _settle(waiting: list[asyncio.Future[None]], failure: apsw.Error | None) -> None:
    for stored in waiting:
        if stored.done():  # whoever waited has gone
            continue
        if failure is None:
            stored.set_result(None)
        else:
            stored.set_exception(failure)
