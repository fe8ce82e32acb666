"""What the floor waits for: one row each, through the product's own group commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from watchword.store.group import Database, GroupCommit
from watchword.store.sqlite import CHECKPOINT_PAGES

SCHEMA = (
    # An ordinary rowid table: fresh rows lie together at its end, and only the index is random.
    "CREATE TABLE IF NOT EXISTS token (id BLOB NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS token_id ON token (id)",
)


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
    connection.wal_autocheckpoint(0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for statement in SCHEMA:
        connection.execute(statement)
    return connection


def group_commit(path: Path) -> GroupCommit[Row, None]:
    """Return the product's group commit over rows of our own."""
    return GroupCommit[Row, None](lambda: connect(path), _write, checkpoint_pages=CHECKPOINT_PAGES)


def _write(connection: Database, rows: Sequence[Row]) -> list[None]:
    for row in rows:
        if row.version == 1:
            connection.execute("INSERT INTO token VALUES (?, ?, ?)", (row.id, row.version, row.body))
        else:
            connection.execute(
                "UPDATE token SET version = ?, body = ? WHERE id = ?", (row.version, row.body, row.id)
            )
    return [None] * len(rows)
