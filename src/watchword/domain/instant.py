"""
Time, as the domain counts it.

Whole milliseconds since the Unix epoch, UTC: exact, cheap to compare and to store, and the
same in every store. Seconds appear only at the borders: settings, ``validity``, ``Retry-After``.
"""

from typing import NewType

Instant = NewType("Instant", int)

NEVER = Instant(0)
"""Before every real moment: «has not happened», «is already over»."""


def after(now: Instant, seconds: float) -> Instant:
    """Return the moment *seconds* after *now*."""
    return Instant(now + round(seconds * 1000))


def seconds_until(moment: Instant, now: Instant) -> int:
    """Return the whole seconds left until *moment*, rounded up, never negative."""
    return max(0, -((now - moment) // 1000))
