"""
Lanes: a few connections, each with a task that does one job after another.

Whoever asks for a job only waits for its outcome. If he goes away, or his time is up, the job goes on:
a statement that was sent is never cancelled, since a cancelled COMMIT may have committed, and on a
primary that waits for its standby it answers as if all were well.

What cannot be answered is refused in time, and nothing piles up: a job that waits is refused when its
time is up, so many may wait and no more, and while no lane is well a job is refused at once. Lanes get
well by themselves: a connection that was lost is opened anew, after pauses that grow; one whose answer
is overdue is kept, since most likely the server works on it yet, and given up later, after patience
that grows too, so that a server which is stuck is not showered with connections.
"""

import asyncio
import logging
import random  # noqa: TID251 - pauses that differ between processes; nothing is decided by them.
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from watchword.store.base import StoreUnavailableError

WAITING_MAX = 10_000
"""How many jobs may wait; one more is refused at once."""

PAUSE_SECONDS = (0.05, 2.0)
"""The first pause before a connection is tried again, and the longest."""

OVERDUE_SECONDS = (10.0, 600.0)
"""How long an answer may be overdue before its connection is given up: the first time, and at the most."""

CLOSE_SECONDS = 0.5
"""How long a server may take over the end of a connection."""

_log = logging.getLogger(__name__)
T = TypeVar("T")
C = TypeVar("C", bound="Closable")


def jitter(seconds: float) -> float:
    """Return a pause of about *seconds*: processes that lost the same server come back one by one."""
    return seconds * (0.5 + random.random())  # noqa: S311 - nothing is decided by it.


class Closable(Protocol):
    """What lanes know of a connection."""

    def is_closed(self) -> bool:
        """Whether it is of no more use."""
        ...

    async def close(self) -> None:
        """End it in order."""
        ...

    def terminate(self) -> None:
        """Let go of it, whatever it does."""
        ...


async def hang_up(connection: Closable) -> None:
    """End a connection that nobody uses, in order if the server is quick about it."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    connection.terminate()


class _Job(Generic[C]):
    """What is to be done over a connection, and who waits for it."""

    __slots__ = ("ahead", "do", "future", "keys", "timer")

    def __init__(
        self, do: Callable[[C], Awaitable[Any]], keys: Sequence[Hashable], future: "asyncio.Future[Any]"
    ) -> None:
        self.do = do
        self.keys = keys
        self.future = future
        self.timer: asyncio.TimerHandle | None = None
        # Behind how many others it stands, one for each key at the most.
        self.ahead = 0


class Lanes(Generic[C]):
    """Does jobs over a bounded number of connections."""

    def __init__(
        self, connect: Callable[[], Awaitable[C]], *, size: int, answer_seconds: float, what: str
    ) -> None:
        """
        Take what is needed; nothing is opened before the first job.

        Args:
            connect: Opens a connection; what it raises is told to whoever is refused meanwhile.
            answer_seconds: How long a caller waits, be it for a lane or for an answer.
            what: What the store is called in messages.
        """
        self._connect = connect
        self._size = size
        self._answer_seconds = answer_seconds
        self._what = what
        self._waiting: deque[_Job[C]] = deque()
        self._queues: dict[Hashable, deque[_Job[C]]] = {}
        self._lanes: list[_Lane[C]] = []
        self._idle: list[_Lane[C]] = []
        self._unfinished = 0
        self._finished = asyncio.Event()
        self._closed = False

    async def do(self, job: Callable[[C], Awaitable[T]], keys: Sequence[Hashable] = ()) -> T:
        """
        Do a job, after all that came before it with one of the same keys.

        Raises:
            StoreUnavailableError: It was not done, or nobody knows.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._unfinished >= WAITING_MAX:
            raise StoreUnavailableError(f"{self._what} is overloaded")
        if self._lanes and all(lane.trouble for lane in self._lanes):
            raise StoreUnavailableError(f"{self._what} cannot be reached: {self._lanes[0].trouble}")
        loop = asyncio.get_running_loop()
        # Each key once: nobody stands behind himself.
        keys = list(dict.fromkeys(keys))
        waiting = _Job[C](job, keys, loop.create_future())
        waiting.timer = loop.call_later(self._answer_seconds, self._overdue, waiting)
        self._unfinished += 1
        for key in keys:
            queue = self._queues.setdefault(key, deque())
            waiting.ahead += bool(queue)
            queue.append(waiting)
        if not waiting.ahead:
            self._offer(waiting)
        outcome: T = await waiting.future
        return outcome

    def _overdue(self, job: _Job[C]) -> None:
        if not job.future.done():
            job.future.set_exception(
                StoreUnavailableError(f"{self._what} did not answer within {self._answer_seconds:g} s")
            )
        for lane in self._lanes:
            if lane.job is job or lane.is_opening:
                lane.trouble = lane.trouble or "its answers are overdue"

    def _offer(self, job: _Job[C]) -> None:
        """Hand a job to a lane, a new one if all are busy and there may be more."""
        self._waiting.append(job)
        if self._idle:
            # One that need not connect first, if there is one.
            ready = next((lane for lane in reversed(self._idle) if not lane.is_opening), self._idle[-1])
            self._idle.remove(ready)
            ready.wake()
        elif len(self._lanes) < self._size and not any(lane.trouble for lane in self._lanes):
            lane = _Lane(self._connect, self._next, self._done, self._rest)
            self._lanes.append(lane)
            lane.start()

    def _next(self) -> _Job[C] | None:
        """Return the job that waits longest, but for those that nobody waits for any more."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.future.done():
                return job
            self._done(job)
        return None

    def refuse_waiting(self, why: str) -> None:
        """Do nothing of what waits, be it behind others; and believe no answer that is still to come."""
        for job in {*self._waiting, *(job for queue in self._queues.values() for job in queue)}:
            if not job.future.done():
                job.future.set_exception(StoreUnavailableError(why))

    def _rest(self, lane: "_Lane[C]") -> None:
        self._idle.append(lane)

    def _done(self, job: _Job[C]) -> None:
        """Let those go on who stand behind *job*."""
        if job.timer is not None:
            job.timer.cancel()
        for key in job.keys:
            queue = self._queues[key]
            queue.popleft()
            if not queue:
                del self._queues[key]
                continue
            queue[0].ahead -= 1
            if not queue[0].ahead:
                self._offer(queue[0])
        self._unfinished -= 1
        if not self._unfinished:
            self._finished.set()

    async def close(self) -> None:
        """Finish what was accepted, as far as the server answers in time; then let go of everything."""
        self._closed = True
        if self._unfinished:
            self._finished.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._answer_seconds):
                    await self._finished.wait()
        await asyncio.gather(*(lane.close() for lane in self._lanes))


class _Lane(Generic[C]):
    """One connection, and the task that uses it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        next_: Callable[[], _Job[C] | None],
        done: Callable[[_Job[C]], None],
        rest: Callable[["_Lane[C]"], None],
    ) -> None:
        self.job: _Job[C] | None = None
        self.trouble: str | None = None
        self._open = connect
        self._next = next_
        self._done = done
        self._rest = rest
        self._connection: C | None = None
        self._pause, _ = PAUSE_SECONDS
        self._patience, _ = OVERDUE_SECONDS
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_opening(self) -> bool:
        """Whether it waits for a connection."""
        return self._connection is None or (self.job is None and self._connection.is_closed())

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._woken.set()

    async def close(self) -> None:
        self._closed = True
        self._woken.set()
        if self._task is None:
            return
        if self.job is not None and self._connection is not None:
            # Not cancelled: that would reach the server, and what it works on may be a commit.
            self._connection.terminate()
        elif self._connection is None or self._connection.is_closed():
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._closed:
            connection = await self._connected()
            self.job = self._next()
            if self.job is None:
                self._woken.clear()
                self._rest(self)
                await self._woken.wait()
                continue
            await self._work(connection, self.job)
            self._done(self.job)
            self.job = None
        if self._connection is not None:
            await hang_up(self._connection)

    async def _connected(self) -> C:
        while self._connection is None or self._connection.is_closed():
            try:
                self._connection = await self._open()
            except Exception as error:  # noqa: BLE001 - whatever it is, a lane tries on.
                if self.trouble is None:
                    _log.warning("%s", error)
                self.trouble = str(error)
                await asyncio.sleep(jitter(self._pause))
                self._pause = min(2 * self._pause, PAUSE_SECONDS[1])
            else:
                self.trouble = None
                self._pause, _ = PAUSE_SECONDS
        return self._connection

    async def _work(self, connection: C, job: _Job[C]) -> None:
        giving_up = asyncio.get_running_loop().call_later(self._patience, self._give_up, connection)
        try:
            outcome = await job.do(connection)
        except Exception as error:  # noqa: BLE001 - whoever asked for it is told.
            if not job.future.done():
                job.future.set_exception(error)
        else:
            self._patience, _ = OVERDUE_SECONDS
            if not job.future.done():
                job.future.set_result(outcome)
        finally:
            giving_up.cancel()
        if not connection.is_closed():
            self.trouble = None

    def _give_up(self, connection: C) -> None:
        self._patience = min(2 * self._patience, OVERDUE_SECONDS[1])
        connection.terminate()
