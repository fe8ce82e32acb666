"""A clock that can be moved forward, so that nobody has to wait for a code to expire."""

from datetime import UTC, datetime

from watchword.domain.instant import Instant, after
from watchword.engine.ports import Clock, SystemClock

ADVANCE_MAX_SECONDS = 100 * 366 * 24 * 60 * 60
"""A century: far beyond every limit, and short of the years that dates cannot hold."""


class MovableClock:
    """The machine's clock, and how far it was moved."""

    def __init__(self, *, real: Clock | None = None, moved_ms: int = 0) -> None:
        """
        Start *moved_ms* ahead of the real time.

        Args:
            real: The clock to move; the machine's by default.
            moved_ms: How far it was moved before.
        """
        self._real = SystemClock() if real is None else real
        self.moved_ms = moved_ms

    def now(self) -> Instant:
        """Return the present moment, as far as the product is concerned."""
        return Instant(self._real.now() + self.moved_ms)

    def advance(self, seconds: float) -> Instant:
        """
        Move forward and return the new time.

        Raises:
            ValueError: *seconds* is negative or no number, or more than a century in all.
        """
        # Written so that NaN, which is neither more nor less than anything, is refused too.
        if not 0 <= seconds <= ADVANCE_MAX_SECONDS:
            raise ValueError("the clock moves forward only, and by a century at the most")
        moved_ms = after(Instant(self.moved_ms), seconds)
        if moved_ms > ADVANCE_MAX_SECONDS * 1000:
            raise ValueError("the clock moves a century at the most")
        self.moved_ms = moved_ms
        return self.now()


def iso(moment: Instant) -> str:
    """Write a moment as ISO 8601 in UTC, to the millisecond: ``2026-01-31T23:59:59.999Z``."""
    second = datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{moment % 1000:03d}Z"
