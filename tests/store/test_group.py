"""Group commit by itself: whatever goes wrong, who waits is told, and the next write is a new one."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import apsw
import pytest

from watchword.store.base import StoreUnavailableError
from watchword.store.group import Database, GroupCommit

pytestmark = pytest.mark.timeout(20)


class Faulty:
    """A connection that fails where it is told to."""

    def __init__(self, connection: apsw.Connection, faults: dict[str, Exception]) -> None:
        self._connection = connection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *bindings: Any) -> Any:
        """Run a statement, unless it is to fail."""
        if statement in self._faults:
            raise self._faults[statement]
        return self._connection.execute(statement, *bindings)

    def set_busy_handler(self, handler: Callable[[int], bool] | None) -> None:
        """Fail when there is somebody to ask."""
        if handler is not None and "busy handler" in self._faults:
            raise self._faults["busy handler"]
        self._connection.set_busy_handler(handler)


class File:
    """A table of numbers in a file, and who writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: dict[str, Exception] = {}
        self.opened = 0
        self.writing: Callable[[], None] = lambda: None
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("CREATE TABLE number (value INTEGER PRIMARY KEY)")
        connection.close()
        self.commit = GroupCommit[int, int](self._open, self._write, checkpoint_pages=1000)

    def _open(self) -> Database:
        self.opened += 1
        return cast("Database", Faulty(apsw.Connection(str(self.path)), self.faults))

    def _write(self, connection: Database, numbers: Sequence[int]) -> Sequence[int]:
        self.writing()
        for number in numbers:
            connection.execute("INSERT INTO number VALUES (?)", (number,))
        return numbers

    def stored(self) -> list[int]:
        """Return what any other process would see."""
        connection = apsw.Connection(str(self.path))
        numbers = [value for (value,) in connection.execute("SELECT value FROM number ORDER BY value")]
        connection.close()
        return numbers


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "group.db")
    yield file
    file.faults.clear()
    asyncio.run(file.commit.close())


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.attack(154)
async def test_a_commit_that_fails_and_cannot_be_rolled_back_spoils_no_later_one(file: File) -> None:
    assert await file.commit.submit(1) == 1
    file.faults.update(COMMIT=apsw.InterruptError("interrupted"), ROLLBACK=apsw.SQLError("no"))
    with pytest.raises(StoreUnavailableError, match="interrupted"):
        await file.commit.submit(2)
    del file.faults["COMMIT"]
    assert await file.commit.submit(3) == 3
    assert file.stored() == [1, 3]
    await file.commit.close()


@pytest.mark.attack(154)
async def test_a_write_that_fails_and_cannot_be_rolled_back_spoils_no_later_one(file: File) -> None:
    file.faults["ROLLBACK"] = apsw.SQLError("no")
    ends = await asyncio.gather(*(file.commit.submit(n) for n in (1, 2, 2, 3)), return_exceptions=True)
    assert isinstance(ends.pop(2), StoreUnavailableError)
    assert ends == [1, 2, 3]
    assert file.stored() == [1, 2, 3]
    await file.commit.close()


@pytest.mark.attack(154)
@pytest.mark.parametrize("fault", [RuntimeError("a bug"), apsw.ThreadingViolationError("busy")], ids=repr)
async def test_whatever_fails_in_the_thread_is_told_and_the_next_write_is_a_new_one(
    file: File, fault: Exception
) -> None:
    assert await file.commit.submit(1) == 1
    other = apsw.Connection(str(file.path))
    other.execute("BEGIN IMMEDIATE")  # So that waiting is left to the thread.
    file.faults["busy handler"] = fault
    with pytest.raises(StoreUnavailableError, match=str(fault)):
        await asyncio.wait_for(file.commit.submit(2), timeout=5)
    other.close()
    file.faults.clear()
    assert await asyncio.wait_for(file.commit.submit(3), timeout=5) == 3
    assert file.stored() == [1, 3]
    assert file.opened == 2
    await file.commit.close()


# --- event loops ------------------------------------------------------------------------------


def in_a_loop_of_its_own(work: Callable[[], Any]) -> Thread:
    """Run a coroutine in another thread, with another event loop."""
    thread = Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    return thread


async def test_while_one_loop_lives_another_one_is_told_that_it_cannot_write(file: File) -> None:
    """Even while the first one rests: it may come back at any moment."""
    ends: list[object] = []

    async def intrude() -> None:
        try:
            ends.append(await file.commit.submit(2))
        except StoreUnavailableError as error:
            ends.append(str(error))

    assert await file.commit.submit(1) == 1
    await asyncio.to_thread(in_a_loop_of_its_own(intrude).join)
    assert ends == ["the store is being written to by another event loop"]
    assert await file.commit.submit(3) == 3
    assert file.stored() == [1, 3]
    await file.commit.close()


async def test_of_loops_that_begin_at_once_one_writes_and_the_others_are_told(file: File) -> None:
    ends: list[object] = []

    async def write(number: int) -> None:
        try:
            ends.append(await asyncio.wait_for(file.commit.submit(number), timeout=5))
        except (StoreUnavailableError, TimeoutError) as error:
            ends.append(type(error))

    threads = [in_a_loop_of_its_own(partial(write, number)) for number in range(8)]
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert set(map(type, ends)) <= {int, type}
    assert TimeoutError not in ends
    assert sorted(end for end in ends if isinstance(end, int)) == file.stored() != []


def test_a_loop_takes_over_from_one_that_was_closed(file: File) -> None:
    assert asyncio.run(file.commit.submit(1)) == 1
    assert asyncio.run(file.commit.submit(2)) == 2
    assert file.stored() == [1, 2]


def test_what_a_closed_loop_left_behind_is_ended_and_told(file: File) -> None:
    """It began a transaction that nobody ends, and one more waited."""
    left = asyncio.new_event_loop()
    other = apsw.Connection(str(file.path))
    other.execute("BEGIN IMMEDIATE")
    begun = left.create_task(file.commit.submit(1))
    for _ in range(3):  # It is taken, and finds the file locked.
        left.run_until_complete(asyncio.sleep(0))
    waiting = left.create_task(file.commit.submit(2))
    left.run_until_complete(asyncio.sleep(0))
    ((_, future, _),) = file.commit._waiting  # noqa: SLF001 - a task of a closed loop cannot be asked.
    left.close()
    other.close()  # Now the thread's BEGIN succeeds, and no loop goes on with it.
    assert asyncio.run(asyncio.wait_for(file.commit.submit(3), timeout=5)) == 3
    assert asyncio.run(asyncio.wait_for(file.commit.submit(4), timeout=5)) == 4
    assert file.stored() == [3, 4]
    assert isinstance(future.exception(), StoreUnavailableError)
    for task in (begun, waiting):
        assert not task.done()
        vars(asyncio.Task)["_log_destroy_pending"].__set__(task, False)  # That nobody ends them is the point.


async def test_closing_from_another_loop_writes_what_was_taken(file: File) -> None:
    closing = Event()

    def close_first() -> None:
        if not closing.is_set():
            closing.set()
            threads.append(in_a_loop_of_its_own(file.commit.close))

    threads: list[Thread] = []
    file.writing = close_first
    ends = await asyncio.gather(*(file.commit.submit(n) for n in range(2000)), return_exceptions=True)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert ends == list(range(2000))
    assert file.stored() == list(range(2000))
