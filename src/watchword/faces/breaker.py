"""
A circuit breaker: who has failed many times in a row is left alone for a while.

So that a matcher that hangs costs each caller nothing but a refusal, and is not asked by all of
them at once when it comes back. States: closed, everybody may call; open, nobody, until a moment;
half-open, one caller probes and the others wait for what becomes of it.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from watchword.domain.instant import NEVER, Instant, after


class OpenError(Exception):
    """Nobody may call now."""


class Breaker:
    """Counts the failures in a row of one party, within this process."""

    def __init__(self, now: Callable[[], Instant], *, failures: int, open_seconds: float) -> None:
        """
        Start closed.

        Args:
            now: Tells the time.
            failures: How many in a row open it.
            open_seconds: How long it then stays open.
        """
        self._now = now
        self._most = failures
        self._open_seconds = open_seconds
        self._failures = 0
        self._open_until = NEVER
        self._probing = False

    @contextmanager
    def call(self, fault: type[Exception]) -> Generator[None]:
        """
        Count what happens inside: *fault* as a failure, the end as a success.

        Any other exception says nothing of the other party: neither one who was cancelled, nor one
        who found a fault of his own.

        Raises:
            OpenError: Nobody may call now.
        """
        probes = self._failures >= self._most
        if probes and (self._probing or self._now() < self._open_until):
            raise OpenError
        self._probing = probes
        try:
            yield
        except fault:
            self._failures += 1
            if self._failures >= self._most:
                self._open_until = after(self._now(), self._open_seconds)
            raise
        else:
            self._failures = 0
        finally:
            if probes:
                self._probing = False
