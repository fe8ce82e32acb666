"""
An event loop whose order is drawn from a seed, and whose time is counted, not waited for.

Of everything that could go on, one thing goes on, drawn at random: so that a task can be overtaken
wherever it waits. When nothing can, time jumps to whatever is due next. There are no threads: what
is handed to an executor is done at once. The same seed gives the same order, to the last step.
"""

import asyncio
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar, TypeVarTuple

TIME_PASSES = 0.02
"""How often something that is due is done although others could go on: they were too slow."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StuckError(Exception):
    """Nothing can go on, and nothing is due: somebody waits for what never comes."""


class SeededLoop(AbstractEventLoop):
    """As much of an event loop as tasks, locks, timeouts and executors need."""

    def __init__(self, chance: Random) -> None:
        """Draw the order from *chance*."""
        self._chance = chance
        self._ready: list[tuple[Handle, Callable[..., object], tuple[object, ...], Context]] = []
        self._timers: list[tuple[float, int, TimerHandle, Callable[..., object], tuple[object, ...]]] = []
        self._numbers = count()
        self._now = 0.0
        self._error: BaseException | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """
        Run *main* to its end.

        Raises:
            StuckError: It waits for what never comes.
        """
        task = self.create_task(main)
        asyncio._set_running_loop(self)  # noqa: SLF001 - documented as what event loops are to call.
        try:
            while not task.done():
                self._go_on()
            while self._ready:
                self._go_on()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
        return task.result()

    def _go_on(self) -> None:
        ready = self._ready
        if not ready or (self._timers and self._chance.random() < TIME_PASSES):
            self._jump()
        chosen = int(self._chance.random() * len(ready))
        ready[chosen], ready[-1] = ready[-1], ready[chosen]
        handle, callback, arguments, context = ready.pop()
        if not handle.cancelled():
            context.run(callback, *arguments)
        if self._error is not None:
            raise self._error

    def _jump(self) -> None:
        while self._timers:
            due, _, handle, callback, arguments = heappop(self._timers)
            if not handle.cancelled():
                self._now = due
                self._ready.append((handle, callback, arguments, copy_context()))
                return
        if not self._ready:
            raise StuckError

    # --- what asyncio asks for ----------------------------------------------------------------

    def time(self) -> float:
        """Return the time, in seconds since the beginning."""
        return self._now

    def get_debug(self) -> bool:
        """Nobody debugs."""
        return False

    def is_running(self) -> bool:
        """Always."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """Call it some time, in whatever order."""
        handle = Handle(callback, args, self)
        self._ready.append((handle, callback, args, context or copy_context()))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call it once so much time has passed."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call it then."""
        handle = TimerHandle(when, callback, args, self)
        heappush(self._timers, (when, next(self._numbers), handle, callback, args))
        return handle

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """It is passed over when it is due."""

    def create_future(self) -> "Future[Any]":
        """Make a future."""
        return Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> Task[T]:
        """Make a task."""
        return Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: None, func: Callable[..., T], *args: Any
    ) -> "Future[T]":
        """Do it at once; whoever waits hears of it some time."""
        done: Future[T] = self.create_future()
        done.set_result(func(*args))
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Stop at what nobody else would hear of."""
        self._error = context.get("exception") or RuntimeError(context["message"])


def run_seeded(chance: Random, main: Coroutine[Any, Any, T]) -> T:
    """Run *main* in an order drawn from *chance*."""
    return SeededLoop(chance).run(main)  # type: ignore[abstract]
