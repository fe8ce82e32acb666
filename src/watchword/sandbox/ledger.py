"""
What the sandbox remembers beside the store: bearer tokens, profiles, executions, the clock.

A small SQLite file of its own, in memory where nothing is to be kept. Bearer tokens and OTTs
stand in it as SHA-256 digests. A commit reaches the operating system before it answers, so the
counts survive a crash of the process; the last of them may be lost with the power.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from watchword.domain.token import TokenId
from watchword.domain.user import UserId
from watchword.engine.principal import PrincipalKind
from watchword.store.base import StoreUnavailableError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    seq INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, profiles TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS bearers (
    digest BLOB PRIMARY KEY, kind TEXT NOT NULL, user_id INTEGER REFERENCES users (id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS executions (
    ott BLOB NOT NULL, action TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (ott, action)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), moved_ms INTEGER NOT NULL) STRICT;
"""

_NO_OTT = b""
"""Stands for an execution that needed no OTT."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds an access token."""

    digest: bytes
    kind: PrincipalKind
    user_id: UserId | None


class Ledger:
    """
    The sandbox's own records; used from one event loop.

    Every method but ``close`` raises ``StoreUnavailableError`` when the file cannot be read or
    written, or is closed.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or create the file at *path*; without one, keep everything in memory."""
        self._db = sqlite3.connect(
            ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- people -------------------------------------------------------------------------------

    def save_user(self, user_id: UserId, profiles: tuple[int, ...], bearer: Bearer | None = None) -> None:
        """Remember a user's profiles, and one more token of his."""
        with self._transaction():
            self._write(
                "INSERT INTO users VALUES (NULL, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET profiles = excluded.profiles",
                user_id,
                msgspec.json.encode(profiles).decode(),
            )
            if bearer is not None:
                self.save_bearer(bearer)

    def save_bearer(self, bearer: Bearer) -> None:
        """Remember who holds a token."""
        self._write(
            "INSERT OR REPLACE INTO bearers VALUES (?, ?, ?)",
            bearer.digest,
            bearer.kind.value,
            bearer.user_id,
        )

    def users(self) -> dict[UserId, tuple[int, ...]]:
        """Return every user's profiles, in the order in which the users were made."""
        rows = self._rows("SELECT id, profiles FROM users ORDER BY seq")
        return {
            UserId(user_id): msgspec.json.decode(profiles, type=tuple[int, ...]) for user_id, profiles in rows
        }

    def bearers(self) -> list[Bearer]:
        """Return who holds which token."""
        rows = self._rows("SELECT digest, kind, user_id FROM bearers")
        return [Bearer(digest, PrincipalKind(kind), user_id) for digest, kind, user_id in rows]

    # --- executions ---------------------------------------------------------------------------

    def count(self, action: str, token_id: TokenId | None) -> None:
        """Count one run of a protected handler."""
        self._write(
            "INSERT INTO executions VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
            _NO_OTT if token_id is None else token_id,
            action,
        )

    def executions(self, token_id: TokenId | None = None) -> dict[str, int]:
        """Return how often the handlers of each action ran: in all, or under one OTT."""
        if token_id is None:
            rows = self._rows("SELECT action, SUM(count) FROM executions GROUP BY action")
        else:
            rows = self._rows("SELECT action, count FROM executions WHERE ott = ?", token_id)
        return dict(rows)

    # --- the clock ----------------------------------------------------------------------------

    def moved_ms(self) -> int:
        """Return how far the clock was moved."""
        rows = self._rows("SELECT moved_ms FROM clock")
        return rows[0][0] if rows else 0

    def save_moved_ms(self, moved_ms: int) -> None:
        """Remember how far the clock was moved: records of the future make no sense without it."""
        self._write("INSERT OR REPLACE INTO clock VALUES (1, ?)", moved_ms)

    # ------------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: bytes) -> list[tuple[Any, ...]]:
        with _told(), closing(self._db.execute(query, values)) as cursor:
            return cursor.fetchall()

    def _write(self, statement: str, *values: bytes | str | int | None) -> None:
        with _told():
            self._db.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._write("BEGIN IMMEDIATE")
        try:
            yield
            self._write("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself.
            if self._db.in_transaction:
                self._write("ROLLBACK")
            raise


@contextmanager
def _told() -> Generator[None]:
    """Tell in our words that the file does not answer: it is full, or of a world that is over."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # Not the file's fault but ours.
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"the ledger: {error}") from error
