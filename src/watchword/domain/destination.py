"""
How much was sent to one phone number today, whoever asked for it.

Counted by number and not by user, so that a number which moves between users, or is shared by
them, still receives no more than its share (toll fraud, flooding).
"""

from dataclasses import dataclass

from watchword.domain.decision import Reason, Refusal
from watchword.domain.instant import Instant, after, seconds_until
from watchword.domain.limits import DAY_SECONDS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """
    The sends to one number in the last day.

    Attributes:
        id: The keyed digest of the number.
        sent_at: When each was sent, oldest first; at most the daily limit.
    """

    id: bytes
    sent_at: tuple[Instant, ...] = ()
    version: int = 0

    def send(self, *, limits: Limits, now: Instant) -> "Destination | Refusal":
        """Count one more send, or refuse it for today."""
        recent = tuple(at for at in self.sent_at if now < after(at, DAY_SECONDS))
        if len(recent) >= limits.sends_per_number:
            # The oldest send whose leaving the window makes room again.
            frees = after(recent[len(recent) - limits.sends_per_number], DAY_SECONDS)
            return Refusal(Reason.SENDS_EXHAUSTED, retry_after=seconds_until(frees, now))
        return Destination(id=self.id, sent_at=(*recent, now), version=self.version + 1)
