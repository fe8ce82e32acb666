"""
Group commit: what waits to be written is written together, and synced to the disk once.

Statements run on the event loop; only the waiting is left to a thread: for the disk at a commit,
for another process's lock, for a checkpoint. Each call into SQLite gives the interpreter's lock
away and must win it back, so that a thread which ran the statements would fight the loop for it
at every one (measured: 1,840 µs of CPU a step-up so, 1,160 µs this way). While a group waits
for the disk the next one gathers, so that a slow disk makes larger groups, not a longer queue.

Each moment the connection belongs to one side: to the loop, or to the thread while a job is out.
One event loop writes; another may only take over once that one is closed.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import apsw

from watchword.store.base import StoreUnavailableError

WAITING_MAX = 10_000
"""How many changes may wait; one more is told at once that the store cannot answer."""

GROUP_MAX = 512
"""How many changes one transaction takes at the most."""

BUSY_SECONDS = 2.0
"""How long a write waits for another process at the most; and no less than half of it."""

IDLE_SECONDS = 1.0
"""After how long without a write the log is copied into the database, whatever its length."""

FAULTS_OF_THE_FILE = (
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
"""What no other group would fare better with; some stay with a connection, so that the next is a new one."""

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


Group: TypeAlias = list[tuple[Item, asyncio.Future[Outcome], float]]
"""Items, who waits for each, and since when."""

Job: TypeAlias = Callable[[], Callable[[], None]]
"""What the thread does; returns how its loop goes on."""


class Rows(Protocol):
    """What a statement found."""

    @property
    def get(self) -> Any:  # noqa: ANN401 - whatever is stored.
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

    def set_busy_handler(self, handler: Callable[[int], bool] | None, /) -> None:
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

    def close(self, force: bool = ...) -> None:  # noqa: FBT001 - as apsw has it.
        """Let go of the file."""
        ...


class GroupCommit(Generic[Item, Outcome]):
    """Writes items in groups, each group in a transaction of its own."""

    def __init__(
        self,
        open_: Callable[[], Database],
        write: Callable[[Database, Sequence[Item]], Sequence[Outcome]],
        *,
        checkpoint_pages: int,
    ) -> None:
        """
        Be ready to write.

        Args:
            open_: Opens the file.
            write: Writes a group inside a transaction, and says what came of each item.
            checkpoint_pages: By how many pages the write-ahead log grows before it is copied into
                the database.
        """
        self._open = open_
        self._write = write
        self._checkpoint_pages = checkpoint_pages
        self._connection: Database | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taking_over = Lock()
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome], float]] = deque()
        self._alone = 0  # How many of those that wait are written one by one, to find the one at fault.
        self._busy = False
        self._idle: asyncio.Event | None = None
        self._closed = False
        self._pages = self._copied = 0
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, Group[Item, Outcome], Job] | None] = (
            SimpleQueue()
        )
        self._thread: Thread | None = None

    async def submit(self, item: Item) -> Outcome:
        """
        Write *item*; returns what came of it, once it is on the disk.

        Cancelling does not take the item back: the outcome is unknown then.

        Raises:
            StoreUnavailableError: It was not taken, or its outcome is unknown.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        loop = self._belong()
        if len(self._waiting) >= WAITING_MAX:
            raise StoreUnavailableError("too many changes wait to be stored")
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((item, future, time.monotonic()))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next)  # What this turn of the loop still brings joins the group.
        return await future

    async def close(self) -> None:
        """Write what was taken, then let go of the file."""
        self._closed = True
        loop = self._loop
        if loop is asyncio.get_running_loop():
            await self._rested()
        elif loop is not None and loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._rested(), loop))
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
        self._checkpoint(1)
        self._forget()

    async def _rested(self) -> None:
        """Wait until everything that was taken is written."""
        if self._busy:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def _belong(self) -> asyncio.AbstractEventLoop:
        """Make the running loop the one that writes, unless another one is."""
        loop = asyncio.get_running_loop()
        with self._taking_over:
            if self._loop is loop:
                return loop
            if self._loop is not None and not self._loop.is_closed():
                raise StoreUnavailableError("the store is being written to by another event loop")
            left, self._loop = self._loop, loop
            if self._thread is None:
                self._thread = Thread(target=self._work, name="watchword-store", daemon=True)
                self._thread.start()
            if left is not None:
                self._take_over()
        return loop

    def _take_over(self) -> None:
        """Begin anew after a loop that was closed, once the thread is done with what that one gave it."""
        while self._waiting:
            _, future, _ = self._waiting.popleft()
            with suppress(RuntimeError, asyncio.InvalidStateError):  # Nobody hears, or he was cancelled.
                future.set_exception(StoreUnavailableError("the event loop was closed before the write"))
        self._alone, self._idle, self._busy = 0, None, True
        self._lend([], self._clear)

    # --- on the loop --------------------------------------------------------------------------

    def _next(self) -> None:
        """Begin the next group; the connection is the loop's."""
        if not self._waiting:
            self._rest()
            return
        size = 1 if self._alone else min(len(self._waiting), GROUP_MAX)
        self._alone = max(0, self._alone - 1)
        group = [self._waiting.popleft() for _ in range(size)]
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            self._lend(group, lambda: self._begin(group))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is.
            self._failed(group, error)
        else:
            self._apply(group)

    def _apply(self, group: Group[Item, Outcome]) -> None:
        """Write a group inside the transaction that has begun, and leave the commit to the thread."""
        assert self._connection is not None
        try:
            outcomes = self._write(self._connection, [item for item, _, _ in group])
        except Exception as error:  # noqa: BLE001 - as above.
            self._roll_back()
            if len(group) > 1 and not isinstance(error, FAULTS_OF_THE_FILE):
                # One of them is at fault, which shall not harm the others.
                self._waiting.extendleft(reversed(group))
                self._alone += len(group)
                self._next()
            else:
                self._failed(group, error)
        else:
            self._lend(group, lambda: self._commit(group, outcomes))

    def _failed(self, group: Group[Item, Outcome], error: Exception) -> None:
        if isinstance(error, FAULTS_OF_THE_FILE):
            self._forget()
        self._roll_back()
        if isinstance(error, apsw.BusyError):
            # Whoever came late gets his share of the waiting, with those who came since.
            since = time.monotonic() - BUSY_SECONDS / 2
            self._waiting.extendleft(each for each in reversed(group) if each[2] > since)
            group = [each for each in group if each[2] <= since]
        for _, future, _ in group:
            if not future.done():  # Whoever waited was cancelled.
                # Each gets an exception of its own: one that is raised grows a traceback.
                future.set_exception(unavailable("written", error))
        # Not at once: were the fault to stay, a long queue would hold the loop.
        assert self._loop is not None
        self._loop.call_soon(self._next)

    def _committed(self, group: Group[Item, Outcome], outcomes: Sequence[Outcome]) -> None:
        for (_, future, _), outcome in zip(group, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
        if self._pages - self._copied >= self._checkpoint_pages:
            # Nobody waits for this one: it comes after the answers.
            self._lend([], lambda: self._copy(self._checkpoint_pages))
        else:
            self._next()

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None:
            self._idle.set()
        elif self._pages > self._copied and self._loop is not None:
            self._loop.call_later(IDLE_SECONDS, self._tidy, self._pages)

    def _tidy(self, pages: int) -> None:
        """Copy the log if nothing was written since."""
        if not self._busy and not self._closed and self._pages == pages:
            self._busy = True
            self._lend([], lambda: self._copy(1))

    def _lend(self, group: Group[Item, Outcome], job: Job) -> None:
        """Leave the connection to the thread for *job*, which *group* waits for."""
        assert self._loop is not None
        self._jobs.put((self._loop, group, job))

    # --- in the thread, while the connection is lent to it ------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, group, do = job
            answer: Callable[[], None]
            try:
                answer = do()
            except Exception as error:  # noqa: BLE001 - as above; and this thread must outlive it.
                # Closing ends its transaction as well, which a ROLLBACK that fails would not.
                self._forget()
                answer = partial(self._failed, group, error)
            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:
                # The loop is closed: nobody waits any more, and another loop may take over.
                _log.debug("an event loop ended before it was answered")

    def _begin(self, group: Group[Item, Outcome]) -> Callable[[], None]:
        """Wait for another process to end its transaction."""
        if self._connection is None:
            self._connection = self._connect()
        # Counted from when the first of them came: it may have waited behind another group that waited.
        self._connection.set_busy_handler(patience(group[0][2]))
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.set_busy_handler(None)
        return lambda: self._apply(group)

    def _commit(self, group: Group[Item, Outcome], outcomes: Sequence[Outcome]) -> Callable[[], None]:
        """Wait for the disk."""
        assert self._connection is not None
        self._connection.execute("COMMIT")
        return lambda: self._committed(group, outcomes)

    def _copy(self, threshold: int) -> Callable[[], None]:
        self._checkpoint(threshold)
        return self._next

    def _clear(self) -> Callable[[], None]:
        self._roll_back()
        return self._next

    # --- on whichever side has the connection -------------------------------------------------

    def _connect(self) -> Database:
        connection = self._open()
        connection.set_busy_handler(None)
        connection.set_wal_hook(self._grown)
        return connection

    def _grown(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._pages = pages
        if pages < self._copied:
            self._copied = 0  # The log began anew.
        return apsw.SQLITE_OK

    def _checkpoint(self, threshold: int) -> None:
        """Copy the log into the database, once it grew by *threshold* pages."""
        if self._connection is None or self._pages - self._copied < threshold:
            return
        self._copied = self._pages
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            _log.debug("another process is copying the write-ahead log")
        except apsw.Error as error:
            # The log just grows, and the next one tries again.
            _log.warning("the write-ahead log could not be copied into the database: %s", error)

    def _roll_back(self) -> None:
        """End what transaction there is, if need be with the connection."""
        if self._connection is not None:
            roll_back(self._connection)
            if self._connection.in_transaction:
                self._forget()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        self._pages = self._copied = 0
        close(connection)


def unavailable(what: str, error: Exception) -> StoreUnavailableError:
    """Say that the store cannot be read or written, and why."""
    wrapped = StoreUnavailableError(f"the store cannot be {what}: {error}")
    wrapped.__cause__ = error
    return wrapped


def patience(since: float | None = None) -> Callable[[int], bool]:
    """
    Return what SQLite asks whether to wait longer for another process.

    Its own answer waits longer and longer between tries, so that a busy neighbour always wins.

    Args:
        since: From when on it waits, by ``time.monotonic``; by default from when it is first asked.
    """
    started = since

    def wait(tries: int) -> bool:
        nonlocal started
        if started is None or (since is None and not tries):
            started = time.monotonic()
        elif time.monotonic() - started > BUSY_SECONDS:
            return False
        time.sleep(0.0005)
        return True

    return wait


def close(connection: Database | None) -> None:
    """Close a connection; what cannot be closed properly is recovered by whoever opens the file next."""
    if connection is not None:
        with suppress(apsw.Error):
            connection.close(force=True)


def roll_back(connection: Database) -> None:
    """End a transaction that came to nothing."""
    # SQLite has done so by itself after some faults.
    if connection.in_transaction:
        with suppress(apsw.Error):
            connection.execute("ROLLBACK")
