"""
The default store: one SQLite file, made fast by committing in groups.

One thread writes. It takes every change that waits, compares the versions of each, and writes
those that may happen in one transaction; only when that is on the disk are all of them
answered. While it waits for the disk the next group gathers, so that a slow disk makes larger
groups rather than a longer queue. Each call into SQLite costs a hand-over of the interpreter's
lock, so a group is compared and written with a few statements of many rows.

Reads have a connection of their own and are done where they are asked for: a look-up by key takes
less time than handing it to another thread.

Several processes of one machine may share the file; what keeps them apart is the versions, as
for everybody else. Several machines may not: SQLite's locks do not hold on a network file system.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

import apsw

from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec
from watchword.store.base import StoreUnavailableError

WAITING_MAX = 10_000
"""How many changes may wait; one more is told at once that the store cannot answer."""

GROUP_MAX = 512
"""How many changes one transaction takes at the most."""

ROWS_MAX = 32
"""How many rows one statement writes at the most: each number is a statement of its own, kept prepared."""

BUSY_SECONDS = 2.0
"""How long a write waits for another process."""

CHECKPOINT_PAGES = 8_000
"""
At how many pages the write-ahead log is copied into the database.

Rarely, since nobody is answered meanwhile; not too rarely, since the log is read at a start.
"""

SWEPT_AT_ONCE = 100
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

_log = logging.getLogger(__name__)
T = TypeVar("T")
Synchronous = Literal["FULL", "EXTRA", "NORMAL", "OFF"]


class UnusableFileError(Exception):
    """The file cannot be the store; the message says why, and what would help."""


class Rows(Protocol):
    """What a statement found."""

    @property
    def get(self) -> Any:  # noqa: ANN401  # as the query has it
        """The one value, the one row, or all rows; None for nothing."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        ...


class Database(Protocol):
    """What is used of an SQLite connection; its own types name some that Python 3.11 has not."""

    @property
    def filename(self) -> str:
        """The file."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is under way."""
        ...

    def execute(self, statements: str, bindings: Sequence[object] = ..., /) -> Rows:
        """Run statements."""
        ...

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        ...

    def set_busy_timeout(self, milliseconds: int, /) -> None:
        """Wait that long for other processes."""
        ...

    def set_busy_handler(self, handler: Callable[[int], bool], /) -> None:
        """Ask *handler* whether to wait longer for other processes."""
        ...

    def set_wal_hook(self, hook: Callable[[apsw.Connection, str, int], int], /) -> None:
        """Tell *hook* of each commit, and of the length of the log after it."""
        ...

    def wal_autocheckpoint(self, pages: int, /) -> None:
        """Copy the log into the database each time it is that long; 0 for never."""
        ...

    def wal_checkpoint(self, *, mode: int) -> tuple[int, int]:
        """Copy the log into the database."""
        ...

    def close(self, *, force: bool = ...) -> None:
        """Let go of the file."""
        ...


class _Row(NamedTuple):
    """A record as it is to be written; ``at`` is what a sweep looks for, if it looks for it."""

    key: bytes | int
    version: int
    at: int
    body: bytes


class _Submitted:
    """One change on its way, and whoever waits for it."""

    __slots__ = ("destinations", "events", "future", "loop", "tokens", "users")

    def __init__(self, change: Change, loop: asyncio.AbstractEventLoop) -> None:
        tokens = change.revoked if change.token is None else (change.token, *change.revoked)
        self.tokens = [
            _Row(token.id, token.version, token.expires_at, codec.encode_token(token)) for token in tokens
        ]
        user, destination = change.user, change.destination
        self.users = [] if user is None else [_Row(user.id, user.version, 0, codec.encode_user(user))]
        self.destinations = (
            []
            if destination is None
            else [
                _Row(
                    destination.id,
                    destination.version,
                    destination.sent_at[-1] if destination.sent_at else 0,
                    codec.encode_destination(destination),
                )
            ]
        )
        self.events = [codec.encode_event(event) for event in change.events]
        self.loop = loop
        self.future: asyncio.Future[bool] = loop.create_future()


class _Errand:
    """Something else that the writer does between two groups."""

    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Callable[[Database], int], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[int] = loop.create_future()


class SqliteStore:
    """A ``Store`` in one SQLite file."""

    def __init__(self, open_: Callable[[], Database], *, checkpoint_pages: int) -> None:
        """Use ``SqliteStore.open``."""
        self._open = open_
        self._reader: Database | None = open_()
        # A connection serves one thread at a time; there may be an event loop in each.
        self._reading = Lock()
        self._closed = False
        self._writer = _Writer(open_, checkpoint_pages=checkpoint_pages)

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
                connection.close()
            return cls(lambda: _connect(file, synchronous, vfs), checkpoint_pages=checkpoint_pages)
        except apsw.NotADBError as error:
            raise UnusableFileError(f"{file} is not an SQLite database") from error
        except (apsw.Error, OSError) as error:
            raise StoreUnavailableError(f"{file} cannot be opened: {error}") from error

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        body = self._read("SELECT body FROM token WHERE id = ?", token_id)
        if body is None:
            return None
        token = codec.decode_token(body)
        if token.id != token_id:
            raise codec.StoreCorruptError("a token is stored under the id of another")
        return token

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        body = self._read("SELECT body FROM user WHERE id = ?", user_id)
        if body is None:
            return None
        user = codec.decode_user(body)
        if user.id != user_id:
            raise codec.StoreCorruptError("a user is stored under the id of another")
        return user

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        body = self._read("SELECT body FROM destination WHERE id = ?", destination_id)
        if body is None:
            return None
        destination = codec.decode_destination(body)
        if destination.id != destination_id:
            raise codec.StoreCorruptError("a destination is stored under the id of another")
        return destination

    async def commit(self, change: Change) -> bool:
        """
        Store a change, or do nothing.

        Cancelling does not take the change back: the outcome is unknown then.
        """
        submitted = _Submitted(change, asyncio.get_running_loop())
        self._writer.submit(submitted)
        return await submitted.future

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day, a little at a time."""
        day_ago = later(now, -DAY_SECONDS)
        removed = 0
        for statement in (_SWEEP_TOKENS, _SWEEP_DESTINATIONS):
            while removed < limit:
                asked = min(SWEPT_AT_ONCE, limit - removed)
                gone = await self._remove(statement, day_ago, asked)
                removed += gone
                if gone < asked:
                    break
        return removed

    async def _remove(self, statement: str, day_ago: Instant, limit: int) -> int:
        def remove(connection: Database) -> int:
            connection.execute(statement, (day_ago, limit))
            return connection.changes()

        errand = _Errand(remove, asyncio.get_running_loop())
        self._writer.submit(errand)
        return await errand.future

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail."""
        rows: list[tuple[int, bytes]] = self._reads(
            lambda reader: reader.execute(
                "SELECT seq, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        )
        return [(seq, codec.decode_event(body)) for seq, body in rows]

    async def close(self) -> None:
        """Finish what was accepted, then let go of the file."""
        self._closed = True
        await asyncio.to_thread(self._writer.close)
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()

    def _read(self, query: str, key: bytes | int) -> bytes | None:
        body: bytes | None = self._reads(lambda reader: reader.execute(query, (key,)).get)
        return body

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
                if reader is not None:
                    reader.close(force=True)
                raise StoreUnavailableError(f"the store cannot be read: {error}") from error


class _Writer:
    """The one thread that writes, and what waits for it."""

    def __init__(self, open_: Callable[[], Database], *, checkpoint_pages: int) -> None:
        self._open = open_
        self._connection: Database | None = None
        self._waiting: SimpleQueue[_Submitted | _Errand | None] = SimpleQueue()
        # Between a look at `_closed` and a put nobody else may close.
        self._submitting = Lock()
        self._closed = False
        self._checkpoint_pages = checkpoint_pages
        self._pages = 0
        self._copied_at = 0
        self._thread = Thread(target=self._run, name="watchword-store", daemon=True)
        self._thread.start()

    def submit(self, item: _Submitted | _Errand) -> None:
        """
        Take *item*; its future is settled in time.

        Raises:
            StoreUnavailableError: It was not taken.
        """
        with self._submitting:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            if self._waiting.qsize() >= WAITING_MAX:
                raise StoreUnavailableError("too many changes wait to be stored")
            self._waiting.put(item)

    def close(self) -> None:
        """Finish what was taken, and end the thread."""
        with self._submitting:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        open_ = True
        while open_:
            changes: list[_Submitted] = []
            errands: list[_Errand] = []
            item = self._next()
            while True:
                if item is None:
                    open_ = False
                elif isinstance(item, _Submitted):
                    changes.append(item)
                else:
                    errands.append(item)
                if not open_ or len(changes) >= GROUP_MAX or self._waiting.empty():
                    break
                item = self._waiting.get_nowait()
            if changes:
                self._answer_group(changes)
            for errand in errands:
                self._answer(errand)
            self._checkpoint(self._checkpoint_pages)
        self._checkpoint(1)
        self._forget()

    def _next(self) -> _Submitted | _Errand | None:
        if self._pages > self._copied_at:
            try:
                return self._waiting.get(timeout=1)
            except Empty:
                self._checkpoint(1)
        return self._waiting.get()

    def _answer_group(self, group: list[_Submitted]) -> None:
        outcomes: list[bool] | StoreUnavailableError
        try:
            outcomes = self._transaction(lambda connection: _write(connection, group))
        except StoreUnavailableError as error:
            if len(group) > 1 and not isinstance(error.__cause__, _FAULTS_OF_THE_FILE):
                # One of them is at fault, which shall not harm the others.
                for submitted in group:
                    self._answer_group([submitted])
                return
            outcomes = error
        if isinstance(outcomes, StoreUnavailableError):
            _settle([(submitted.loop, submitted.future, outcomes) for submitted in group])
        else:
            _settle(
                [
                    (submitted.loop, submitted.future, outcome)
                    for submitted, outcome in zip(group, outcomes, strict=True)
                ]
            )

    def _answer(self, errand: _Errand) -> None:
        try:
            outcome: int | StoreUnavailableError = self._transaction(errand.work)
        except StoreUnavailableError as error:
            outcome = error
        _settle([(errand.loop, errand.future, outcome)])

    def _transaction(self, work: Callable[[Database], T]) -> T:
        """
        Do *work* in a transaction of its own.

        Raises:
            StoreUnavailableError: Something failed; it is known to be not stored only if that was
                before the commit.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
        except Exception as error:  # Whatever it is, whoever waits must hear of it.
            if isinstance(error, _FAULTS_OF_THE_FILE):
                # The next one starts afresh: some faults stay with a connection.
                self._forget()
            raise StoreUnavailableError(f"the store cannot be written: {error}") from error
        return result

    def _connect(self) -> Database:
        connection = self._open()
        connection.set_busy_handler(_patience())
        connection.set_wal_hook(self._committed)
        return connection

    def _committed(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._pages = pages
        if pages < self._copied_at:
            self._copied_at = 0  # The log began anew.
        return apsw.SQLITE_OK

    def _checkpoint(self, threshold: int) -> None:
        """
        Copy the log into the database, once it grew by *threshold* pages.

        Nobody waits for this one: it comes after the answers. If it fails the log just grows, and
        the next one tries again.
        """
        if self._connection is None or self._pages - self._copied_at < threshold:
            return
        self._copied_at = self._pages
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            _log.warning("the write-ahead log could not be copied into the database: %s", error)

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        self._pages = self._copied_at = 0
        if connection is not None:
            connection.close(force=True)


_FAULTS_OF_THE_FILE = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)
"""What no other group of changes would fare better with."""


def _settle(
    outcomes: Sequence[tuple[asyncio.AbstractEventLoop, "asyncio.Future[T]", T | StoreUnavailableError]],
) -> None:
    """Answer all who wait, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[T], T | StoreUnavailableError]]] = {}
    for loop, future, outcome in outcomes:
        by_loop.setdefault(loop, []).append((future, outcome))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer_all, answers)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            _log.debug("an event loop ended before it was answered")


def _answer_all(answers: Sequence[tuple["asyncio.Future[T]", T | StoreUnavailableError]]) -> None:
    for future, outcome in answers:
        if future.done():
            continue  # Whoever waited was cancelled.
        if isinstance(outcome, StoreUnavailableError):
            # Each gets an exception of its own: one that is raised grows a traceback.
            future.set_exception(_like(outcome))
        else:
            future.set_result(outcome)


def _like(error: StoreUnavailableError) -> StoreUnavailableError:
    copy = StoreUnavailableError(*error.args)
    copy.__cause__ = error.__cause__
    return copy


# --- a group ----------------------------------------------------------------------------------


def _write(connection: Database, group: Sequence[_Submitted]) -> list[bool]:
    """
    Write what may happen of *group*, and say which did.

    A change is compared with what those before it left. Of a record that several of them write
    only the last form reaches the file: nobody can see those between.
    """
    tokens = _Table(connection, "token", {row.key for each in group for row in each.tokens})
    users = _Table(connection, "user", {row.key for each in group for row in each.users})
    destinations = _Table(connection, "destination", {row.key for each in group for row in each.destinations})
    events: list[object] = []
    outcomes: list[bool] = []
    for each in group:
        fits = tokens.fit(each.tokens) and users.fit(each.users) and destinations.fit(each.destinations)
        outcomes.append(fits)
        if fits:
            tokens.put(each.tokens)
            users.put(each.users)
            destinations.put(each.destinations)
            events += each.events
    tokens.write()
    users.write()
    destinations.write()
    for start in range(0, len(events), ROWS_MAX):
        part = events[start : start + ROWS_MAX]
        connection.execute(_insert("event", len(part)), part)
    return outcomes


class _Table:
    """The versions that one group meets in one table, and the rows that it leaves there."""

    __slots__ = ("_connection", "_name", "_rows", "_versions")

    def __init__(self, connection: Database, name: str, keys: set[bytes | int]) -> None:
        self._connection = connection
        self._name = name
        self._rows: dict[bytes | int, _Row] = {}
        self._versions: dict[bytes | int, int] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), ROWS_MAX):
            part = wanted[start : start + ROWS_MAX]
            found: Sequence[int | None] = connection.execute(_versions(name, len(part)), part).fetchall()[0]
            self._versions.update(zip(part, [version or 0 for version in found], strict=True))

    def fit(self, rows: Sequence[_Row]) -> bool:
        """Tell whether each of *rows* was made from the version that is stored."""
        return all(row.version - 1 == self._versions[row.key] for row in rows)

    def put(self, rows: Sequence[_Row]) -> None:
        """Take *rows* as what is stored."""
        for row in rows:
            self._versions[row.key] = row.version
            self._rows[row.key] = row

    def write(self) -> None:
        """Write what was put."""
        rows = list(self._rows.values())
        for start in range(0, len(rows), ROWS_MAX):
            part = rows[start : start + ROWS_MAX]
            values: list[object] = []
            for row in part:
                if self._name == "user":
                    values += (row.key, row.version, row.body)
                else:
                    values += row
            self._connection.execute(_insert(self._name, len(part)), values)


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
    connection.set_busy_timeout(100)
    connection.wal_autocheckpoint(0)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -32768")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _patience() -> Callable[[int], bool]:
    """
    Return what SQLite asks whether to wait longer for another process.

    Its own answer waits longer and longer between tries, so that a busy neighbour always wins.
    """
    started = 0.0

    def wait(tries: int) -> bool:
        nonlocal started
        if not tries:
            started = time.monotonic()
        elif time.monotonic() - started > BUSY_SECONDS:
            return False
        time.sleep(0.0005)
        return True

    return wait


def _roll_back(connection: Database) -> None:
    # SQLite has done so by itself after some faults.
    if connection.in_transaction:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")


def migrations() -> list[str]:
    """Return the steps of the schema, in order."""
    folder = resources.files("watchword.store").joinpath("migrations")
    steps = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [step.read_text(encoding="utf-8") for step in steps]


def migrate(connection: Database, steps: Sequence[str] | None = None) -> int:
    """
    Bring the file to the newest schema; of processes that start at once one does it.

    Returns:
        How many steps were taken.

    Raises:
        UnusableFileError: It is no database of ours, or of a newer version.
    """
    steps = migrations() if steps is None else steps
    connection.set_busy_handler(_patience())
    _use_write_ahead_log(connection)
    if _schema(connection, len(steps)) == len(steps):
        return 0
    connection.execute("BEGIN EXCLUSIVE")
    try:
        done = _schema(connection, len(steps))
        for step in steps[done:]:
            connection.execute(step)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return len(steps) - done


def _use_write_ahead_log(connection: Database) -> None:
    """Switch to WAL; SQLite does not wait by itself where two do this at once."""
    wait, tries = _patience(), 0
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
    if schema > newest:
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
