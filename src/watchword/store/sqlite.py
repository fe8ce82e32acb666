"""
The default store: one SQLite file, made fast by committing in groups (``group``).

A group is compared and written with a few statements of many rows, since each call into SQLite
costs a hand-over of the interpreter's lock. Reads have a connection of their own and are done
where they are asked for: a look-up by key takes less time than handing it to another thread.

Several processes of one machine may share the file; what keeps them apart is the versions, as
for everybody else. Several machines may not: SQLite's locks do not hold on a network file system.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple, TypeVar, cast

import apsw

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec
from watchword.store.base import StoreUnavailableError, UnreadableUser, UnusableStoreError
from watchword.store.group import Database, GroupCommit, close, patience, roll_back, unavailable
from watchword.store.migrations import needed_by, steps as migration_steps
from watchword.store.rows import Key, Record, Row, Rows, record, user as user_of

ROWS_MAX = 32
"""How many rows one statement writes at the most: each number is a statement of its own, kept prepared."""

CHECKPOINT_PAGES = 8_000
"""
At how many pages the write-ahead log is copied into the database.

Rarely, since nobody is answered meanwhile; not too rarely, since the log is read at a start.
"""

SWEPT_AT_ONCE = 20
"""How many records one transaction removes, so that no change waits long behind it."""

_APPLICATION_ID = 0x57574F54
_NETWORK_FILE_SYSTEMS = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "gpfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)


_SWEEP_TOKENS = """
DELETE FROM token
 WHERE seq IN (SELECT seq FROM token WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
"""
_SWEEP_DESTINATIONS = """
DELETE FROM destination
 WHERE id IN (SELECT id FROM destination WHERE last_at <= ? ORDER BY last_at LIMIT ?)
"""

_FORGET = "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE seq <= ? ORDER BY seq LIMIT ?)"

T = TypeVar("T")
Synchronous = Literal["FULL", "EXTRA", "NORMAL", "OFF"]


class UnusableFileError(UnusableStoreError):
    """The file cannot be the store; the message says why, and what would help."""


class _Removal(NamedTuple):
    """A statement that removes records, and up to where."""

    statement: str
    last: int
    limit: int


class SqliteStore:
    """A ``Store`` in one SQLite file."""

    def __init__(self, open_: Callable[[], Database], *, checkpoint_pages: int) -> None:
        """Use ``SqliteStore.open``."""
        self._open = open_
        self._reader: Database | None = open_()
        # A connection serves one thread at a time; there may be an event loop in each.
        self._reading = Lock()
        self._closed = False
        self._writer = GroupCommit[Rows | _Removal, int](open_, _write, checkpoint_pages=checkpoint_pages)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        checkpoint_pages: int = CHECKPOINT_PAGES,
        vfs: str | None = None,
    ) -> "SqliteStore":
        """
        Open the store, making or upgrading the file where that is needed.

        Args:
            path: The file; made readable by its owner alone.
            synchronous: Anything below ``FULL`` loses what was acknowledged when the power fails.
            checkpoint_pages: How long the write-ahead log may get.
            vfs: SQLite's access to files, for tests that break it.

        Raises:
            UnusableFileError: The file is no database of ours, is newer than this version, or lies
                on a network file system.
            StoreUnavailableError: It cannot be opened now.
        """
        file = Path(path).absolute()
        _refuse_network(file)
        try:
            # SQLite gives its two companion files the mode of the first.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            connection = _connect(file, synchronous, vfs)
            try:
                migrate(connection)
            finally:
                close(connection)
            return cls(lambda: _connect(file, synchronous, vfs), checkpoint_pages=checkpoint_pages)
        except apsw.NotADBError as error:
            raise UnusableFileError(f"{file} is not an SQLite database") from error
        except (apsw.Error, OSError) as error:
            raise StoreUnavailableError(f"{file} cannot be opened: {error}") from error

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        return self._record("token", codec.decode_token, token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        return self._record("user", codec.decode_user, user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        return self._record("destination", codec.decode_destination, destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        return self._record("application", codec.decode_application, application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        return self._record("owner", codec.decode_owner, owner_id)

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """Read users page by page."""
        where, keys = ("", ()) if after is None else (" WHERE id > ?", (after,))
        rows: list[tuple[int, bytes]] = self._reads(
            lambda reader: reader.execute(
                f"SELECT id, body FROM user{where} ORDER BY id LIMIT ?",  # noqa: S608 - one of two, both ours.
                (*keys, limit),
            ).fetchall()
        )
        return [user_of(id_, body) for id_, body in rows]

    async def commit(self, change: Change) -> bool:
        """
        Store a change, or do nothing.

        Cancelling does not take the change back: the outcome is unknown then.
        """
        return bool(await self._writer.submit(Rows(change)))

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day, a little at a time."""
        day_ago = later(now, -DAY_SECONDS)
        removed = await self._remove(_SWEEP_TOKENS, day_ago, limit=limit)
        return removed + await self._remove(_SWEEP_DESTINATIONS, day_ago, limit=limit - removed)

    async def _remove(self, statement: str, last: int, *, limit: int) -> int:
        removed = 0
        while removed < limit:
            asked = min(SWEPT_AT_ONCE, limit - removed)
            gone = await self._writer.submit(_Removal(statement, last, asked))
            removed += gone
            if gone < asked:
                break
        return removed

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail."""
        rows: list[tuple[int, bytes]] = self._reads(
            lambda reader: reader.execute(
                "SELECT seq, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        )
        return [(seq, codec.decode_event(body)) for seq, body in rows]

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events, a little at a time."""
        # The newest of those that are read stays, so that one is left.
        oldest = await self.events(limit=limit + 1)
        last = 0
        for seq, event in oldest[:-1]:
            if event.at >= before:
                break
            last = seq
        return await self._remove(_FORGET, last, limit=limit) if last else 0

    async def ping(self) -> None:
        """Find out whether the file can be written: a transaction that changes nothing."""
        await self._writer.submit(_Removal(_FORGET, 0, 0))

    async def close(self) -> None:
        """Finish what was accepted, then let go of the file."""
        self._closed = True
        await self._writer.close()
        with self._reading:
            reader, self._reader = self._reader, None
            close(reader)

    def _record(self, table: str, decode: Callable[[bytes], Record], key: Key) -> Record | None:
        query = f"SELECT body FROM {table} WHERE id = ?"  # noqa: S608 - a name of ours.
        body: bytes | None = self._reads(lambda reader: reader.execute(query, (key,)).get)
        return record(decode, key, body)

    def _reads(self, read: Callable[[Database], T]) -> T:
        with self._reading:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            try:
                if self._reader is None:
                    self._reader = self._open()
                return read(self._reader)
            except apsw.Error as error:
                # The next read starts afresh: some faults stay with a connection.
                reader, self._reader = self._reader, None
                close(reader)
                raise unavailable("read", error) from error


# --- a group ----------------------------------------------------------------------------------


def _write(connection: Database, group: Sequence[Rows | _Removal]) -> list[int]:
    """
    Write what may happen of *group*, and say which did; of a removal, how many records went.

    A change is compared with what those before it left. Of a record that several of them write
    only the last form reaches the file: nobody can see those between.
    """
    changes = [each for each in group if isinstance(each, Rows)]
    written = iter(_write_changes(connection, changes) if changes else ())
    return [next(written) if isinstance(each, Rows) else _remove(connection, each) for each in group]


def _remove(connection: Database, removal: _Removal) -> int:
    connection.execute(removal.statement, (removal.last, removal.limit))
    return connection.changes()


def _write_changes(connection: Database, group: Sequence[Rows]) -> list[bool]:
    keys: defaultdict[str, set[Key]] = defaultdict(set)
    for each in group:
        for name, row in each.rows:
            keys[name].add(row.key)
        if each.seen is not None:
            keys["user"].add(each.seen.id)
    tables = {name: _Table(connection, name, wanted) for name, wanted in keys.items()}
    events: list[object] = []
    outcomes: list[bool] = []
    for each in group:
        fits = all(tables[name].holds(row.key, row.version - 1) for name, row in each.rows) and (
            each.seen is None or tables["user"].holds(each.seen.id, each.seen.version)
        )
        outcomes.append(fits)
        if fits:
            for name, row in each.rows:
                tables[name].put(row)
            events += each.events
    for table in tables.values():
        table.write()
    for start in range(0, len(events), ROWS_MAX):
        part = events[start : start + ROWS_MAX]
        connection.execute(_insert("event", len(part)), part)
    return outcomes


class _Table:
    """The versions that one group meets in one table, and the rows that it leaves there."""

    __slots__ = ("_connection", "_name", "_rows", "_versions")

    def __init__(self, connection: Database, name: str, keys: set[Key]) -> None:
        self._connection = connection
        self._name = name
        self._rows: dict[Key, Row] = {}
        self._versions: dict[Key, int] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), ROWS_MAX):
            part = wanted[start : start + ROWS_MAX]
            found: Sequence[int | None] = connection.execute(_versions(name, len(part)), part).fetchall()[0]
            self._versions.update(zip(part, [version or 0 for version in found], strict=True))

    def holds(self, key: Key, version: int) -> bool:
        """Tell whether what is stored is of *version*."""
        return self._versions[key] == version

    def put(self, row: Row) -> None:
        """Take *row* as what is stored."""
        self._versions[row.key] = row.version
        self._rows[row.key] = row

    def write(self) -> None:
        """Write what was put."""
        rows = list(self._rows.values())
        for start in range(0, len(rows), ROWS_MAX):
            part = rows[start : start + ROWS_MAX]
            values: list[object] = []
            for row in part:
                if self._name in _SWEPT:
                    values += row
                else:
                    values += (row.key, row.version, row.body)
            self._connection.execute(_insert(self._name, len(part)), values)


_SWEPT = frozenset({"token", "destination"})
_UPDATE = " ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body"
_INSERTS = {
    "token": (
        "token (id, version, expires_at, body)",
        "(?,?,?,?)",
        _UPDATE,
    ),
    "user": (
        "user (id, version, body)",
        "(?,?,?)",
        _UPDATE,
    ),
    "destination": (
        "destination (id, version, last_at, body)",
        "(?,?,?,?)",
        f"{_UPDATE}, last_at = excluded.last_at",
    ),
    "application": (
        "application (id, version, body)",
        "(?,?,?)",
        _UPDATE,
    ),
    "owner": (
        "owner (id, version, body)",
        "(?,?,?)",
        _UPDATE,
    ),
    "event": ("event (body)", "(?)", ""),
}


@cache
def _versions(table: str, rows: int) -> str:
    # One row with a column for each key: stepping through many rows would cost a hand-over each.
    column = f"(SELECT version FROM {table} WHERE id = ?)"  # noqa: S608  # a name of ours
    return "SELECT " + ",".join([column] * rows)


@cache
def _insert(table: str, rows: int) -> str:
    into, values, conflict = _INSERTS[table]
    return f"INSERT INTO {into} VALUES " + ",".join([values] * rows) + conflict  # noqa: S608  # names of ours


# --- the file ---------------------------------------------------------------------------------


def _connect(file: Path, synchronous: Synchronous, vfs: str | None) -> Database:
    connection = cast(
        "Database",
        apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=256),
    )
    # Another process may be making the file at this moment.
    connection.set_busy_handler(patience())
    connection.wal_autocheckpoint(0)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -32768")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.set_busy_timeout(100)
    return connection


def migrations() -> list[str]:
    """Return the steps of the schema, in order."""
    return list(migration_steps("sqlite").values())


def pending(path: Path) -> list[str]:
    """
    Name the steps that a file lacks, in order; of a file that is not there, all. Changes nothing.

    Raises:
        UnusableFileError: The file is no database of ours, or this version cannot share it.
        StoreUnavailableError: It cannot be read now.
    """
    names = list(migration_steps("sqlite"))
    if not path.exists():
        return names
    try:
        connection = reading(path)
        try:
            return names[_schema(connection, len(names)) :]
        finally:
            close(connection)
    except apsw.NotADBError as error:
        raise UnusableFileError(f"{path} is not an SQLite database") from error
    except apsw.Error as error:
        raise StoreUnavailableError(f"{path} cannot be read: {error}") from error


def reading(path: Path) -> Database:
    """Open a file to be read only."""
    connection = cast("Database", apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY))
    connection.set_busy_handler(patience())
    return connection


def migrate(connection: Database, steps: Sequence[str] | None = None) -> int:
    """
    Bring the file to the newest schema; of processes that start at once one does it.

    Returns:
        How many steps were taken.

    Raises:
        UnusableFileError: It is no database of ours, or of a newer version.
    """
    steps = migrations() if steps is None else steps
    connection.set_busy_handler(patience())
    found = _schema(connection, len(steps))  # Before anything is changed: it may be another program's.
    _use_write_ahead_log(connection)
    if found >= len(steps):
        return 0
    connection.execute("BEGIN EXCLUSIVE")
    try:
        done = _schema(connection, len(steps))
        for number, step in enumerate(steps[done:], start=done + 1):
            connection.execute(step)
            _say_who_may_share(connection, step, number)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(done, len(steps))}")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return max(0, len(steps) - done)


def _say_who_may_share(connection: Database, step: str, number: int) -> None:
    if _says_what_it_needs(connection):
        upsert = "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
        connection.execute(f"INSERT INTO about VALUES ('needs', ?) {upsert}", (needed_by(step, number),))  # noqa: S608


def _says_what_it_needs(connection: Database) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'about'").get)


def _use_write_ahead_log(connection: Database) -> None:
    """Switch to WAL; SQLite does not wait by itself where two do this at once."""
    wait, tries = patience(), 0
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            if not wait(tries):
                raise
            tries += 1
        else:
            return


def _schema(connection: Database, newest: int) -> int:
    schema: int = connection.execute("PRAGMA user_version").get
    application: int = connection.execute("PRAGMA application_id").get
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if application != _APPLICATION_ID and (application or schema or tables):
        raise UnusableFileError(f"{connection.filename} is a database of another program")
    needs = schema
    if _says_what_it_needs(connection):
        needs = connection.execute("SELECT value FROM about WHERE name = 'needs'").get
    if needs > newest:
        raise UnusableFileError(
            f"{connection.filename} has schema {schema}, and this version of Watchword knows schemas up to"
            f" {newest}: start the newer version that wrote it"
        )
    return schema


def _refuse_network(file: Path) -> None:
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # No Linux: nothing to go by.
    kind = file_system(file.parent.resolve(), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise UnusableFileError(
            f"{file} lies on a network file system ({kind}), where SQLite's locks and syncs do not hold:"
            " use a local disk"
        )


def file_system(folder: Path, mounts: str) -> str | None:
    """Return the type of the file system that *folder* lies on, by what ``/proc/mounts`` says."""
    best, kind = -1, None
    for line in mounts.splitlines():
        _, point, type_ = line.split(" ")[:3]
        point = point.encode("latin-1", "replace").decode("unicode_escape")
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), type_
    return kind
