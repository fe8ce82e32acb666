"""
Counting failures, and the lock they lead to.

Locked is the user, for a while, after five failures of one factor with no success of that
factor in between, or five of the user with no success at all in between, whatever the
methods, tokens and API generations (RTS art. 4(3)(b)). A success ends the count of its own
factor and that of the user, never another factor's. Nothing else resets a count: no resend,
no new token, no new credential. A lock consumes the counts that led to it, no others, and ends by time.

``streak`` survives locks: it bounds guessing over weeks, until a success or a disabling.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import Limits
from watchword.domain.method import Factor


@dataclass(frozen=True, slots=True)
class Tally:
    """One count for each factor."""

    knowledge: int = 0
    possession: int = 0
    inherence: int = 0

    def of(self, factor: Factor) -> int:
        """Return the count of *factor*."""
        match factor:
            case Factor.KNOWLEDGE:
                return self.knowledge
            case Factor.POSSESSION:
                return self.possession
            case Factor.INHERENCE:
                return self.inherence
            case _:
                assert_never(factor)

    def with_(self, factor: Factor, count: int) -> "Tally":
        """Return this tally with *factor* at *count*."""
        match factor:
            case Factor.KNOWLEDGE:
                return Tally(count, self.possession, self.inherence)
            case Factor.POSSESSION:
                return Tally(self.knowledge, count, self.inherence)
            case Factor.INHERENCE:
                return Tally(self.knowledge, self.possession, count)
            case _:
                assert_never(factor)


ZERO = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """
    The failures of one user.

    Attributes:
        failures: Of each factor, since its last success or the last lock.
        consecutive: Of the user, since the last success of any factor or the last lock.
        streak: Of each factor, since its last success, over all locks.
        locked_until: The end of the last lock.
    """

    failures: Tally = ZERO
    consecutive: int = 0
    streak: Tally = ZERO
    locked_until: Instant = NEVER

    def is_locked(self, now: Instant) -> bool:
        """Tell whether the user may not try now."""
        return now < self.locked_until

    def left(self, factor: Factor, limits: Limits) -> int:
        """Return how many failures of *factor* are left before the lock."""
        return limits.failures - max(self.failures.of(factor), self.consecutive)

    def exhausted(self, limits: Limits) -> tuple[Factor, ...]:
        """Return the factors whose streak is as long as one may be: they prove nothing any more."""
        if self.streak == ZERO:
            return ()
        return tuple(each for each in Factor if 0 < disable_after(each, limits) <= self.streak.of(each))

    def succeeded(self, factor: Factor) -> "Attempts":
        """Count a success of *factor*."""
        return replace(
            self,
            failures=self.failures.with_(factor, 0),
            streak=self.streak.with_(factor, 0),
            consecutive=0,
        )

    def failed(self, factor: Factor, *, limits: Limits, now: Instant) -> "Attempts":
        """Count a failure of *factor*; lock where it is the last one allowed."""
        counted = replace(
            self,
            failures=self.failures.with_(factor, self.failures.of(factor) + 1),
            streak=self.streak.with_(factor, self.streak.of(factor) + 1),
            consecutive=self.consecutive + 1,
        )
        if counted.left(factor, limits) > 0:
            return counted
        led_here = counted.failures.of(factor) >= limits.failures
        return replace(
            counted,
            failures=counted.failures.with_(factor, 0) if led_here else counted.failures,
            consecutive=0,
            locked_until=after(now, limits.lock_seconds),
        )


NO_ATTEMPTS = Attempts()


def disable_after(factor: Factor, limits: Limits) -> int:
    """Return the streak of *factor* that disables its credentials; 0 for never."""
    match factor:
        case Factor.KNOWLEDGE:
            return limits.disable_pin_after
        case Factor.POSSESSION:
            return limits.disable_possession_after
        case Factor.INHERENCE:
            return limits.disable_face_after
        case _:
            assert_never(factor)
