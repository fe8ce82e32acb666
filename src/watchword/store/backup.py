"""
Copies of an SQLite store: made while it serves, or put in its place.

A copy is of the past, and must not let through what was let through since: no copy holds a token or an
open session. So a token is void after a restore by whatever copy it comes from, and nobody has to
remember to see to it.
"""

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import apsw

from watchword.domain.decision import Event, EventName
from watchword.domain.instant import NEVER, Instant
from watchword.domain.user import UserSecurity
from watchword.store import codec
from watchword.store.base import StoreCorruptError, StoreUnavailableError
from watchword.store.group import Database, close, roll_back
from watchword.store.sqlite import UnusableFileError, pending, reading

_NUMBERS_A_MILLISECOND = 1_000
"""After a restore numbers go by the time, past all that were given before it: readers have seen some."""
_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds."""

    users: int
    events: int
    damaged: int
    """How many users cannot be read."""


class CopyError(Exception):
    """There is no copy; says why. What was there is as it was."""


def _nothing(_: UserSecurity) -> None:
    pass


def copy(
    source: Path,
    target: Path,
    *,
    restored_at: Instant | None = None,
    look: Callable[[UserSecurity], None] = _nothing,
) -> Copied:
    """
    Copy the store in *source*, which others may use meanwhile, to *target*, whole or not at all.

    Args:
        restored_at: Now, where the copy will be served from: the trail says so.
        look: Sees each user; if it raises, there is no copy.

    Raises:
        CopyError: The source cannot be read or is damaged, or the target cannot be written or is there.
    """
    try:
        pending(source)  # Refuses what is no store of ours, or one that this version cannot read.
        with _partial(target) as partial:
            _copy(source, partial)
            copied = _without_what_is_open(partial, restored_at, look)
            _give_name(partial, target)
    except FileExistsError as error:
        raise CopyError(f"{target}: there already, and left as it is") from error
    except (UnusableFileError, StoreUnavailableError) as error:
        raise CopyError(str(error)) from error
    except (apsw.Error, OSError) as error:
        raise CopyError(f"{target}: {error}") from error
    return copied


@contextmanager
def _partial(target: Path) -> Generator[Path]:
    if os.path.lexists(target):
        raise FileExistsError(target)
    # Nobody else may read it, from its first byte on.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for suffix in ("", "-journal"):
            Path(name + suffix).unlink(missing_ok=True)


def _copy(source: Path, partial: Path) -> None:
    if not source.exists():
        raise UnusableFileError(f"{source}: there is no store")
    connection = reading(source)
    try:
        # One read transaction: whoever writes meanwhile neither waits nor is seen.
        connection.execute("VACUUM INTO ?", (str(partial),))
    finally:
        close(connection)


def _without_what_is_open(
    partial: Path, restored_at: Instant | None, look: Callable[[UserSecurity], None]
) -> Copied:
    connection = cast("Database", apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READWRITE))
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # Not even in pages that are free.
        connection.execute("BEGIN EXCLUSIVE")
        try:
            connection.execute("DELETE FROM token")
            users, damaged = _end_sessions(connection, look)
            events: int = connection.execute("SELECT count(*) FROM event").get
            if restored_at is not None:
                _say_that_it_was_restored(connection, restored_at)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        found: str = connection.execute("PRAGMA integrity_check").get
        if found != "ok":
            raise UnusableFileError(f"the store is damaged: {found.splitlines()[0]}")
    finally:
        close(connection)
    return Copied(users=users, events=events, damaged=damaged)


def _end_sessions(connection: Database, look: Callable[[UserSecurity], None]) -> tuple[int, int]:
    """Let no user have a session or an open token; returns how many there are, and who cannot be read."""
    users, damaged, last = 0, 0, -(2**63)
    while rows := connection.execute(
        "SELECT id, body FROM user WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS)
    ).fetchall():
        for id_, body in rows:
            try:
                user = codec.decode_user(body)
            except StoreCorruptError:
                # Of no use to anybody, and no reason to leave all others without a copy.
                damaged += 1
                continue
            look(user)
            if user.session_until != NEVER or user.open_tokens:
                closed = replace(user, session_until=NEVER, open_tokens=(), version=user.version + 1)
                row = closed.version, codec.encode_user(closed), id_
                connection.execute("UPDATE user SET version = ?, body = ? WHERE id = ?", row)
        users += len(rows)
        last = rows[-1][0]
    return users, damaged


def _say_that_it_was_restored(connection: Database, at: Instant) -> None:
    body = codec.encode_event(Event(name=EventName.STORE_RESTORED, at=at, user_id=None))
    newest: int = connection.execute("SELECT coalesce(max(seq), 0) FROM event").get
    number = max(newest + 1, at * _NUMBERS_A_MILLISECOND)
    connection.execute("INSERT INTO event (seq, body) VALUES (?, ?)", (number, body))


def _give_name(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.link(partial, target, follow_symlinks=False)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
