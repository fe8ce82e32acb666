"""The outbox: where messages land that any other server would send."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from watchword.delivery.base import Message
from watchword.domain.instant import Instant
from watchword.domain.user import UserId
from watchword.engine.ports import Clock

KEPT = 10_000
"""How many messages are kept, of all users together; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, and when it would have been sent."""

    message: Message
    at: Instant


class Outbox:
    """A ``Delivery`` that keeps messages in memory, in order, and sends nothing."""

    def __init__(self, clock: Clock, *, kept: int = KEPT) -> None:
        """
        Start empty.

        Args:
            clock: Tells when a message was sent.
            kept: How many messages to keep.
        """
        self._clock = clock
        self._kept = kept
        self._all: deque[Sent] = deque()
        self._of: dict[UserId, deque[Sent]] = {}

    async def send(self, message: Message) -> None:
        """Keep *message*."""
        sent = Sent(message, self._clock.now())
        self._all.append(sent)
        self._of.setdefault(message.user_id, deque()).append(sent)
        if len(self._all) > self._kept:
            self._drop_oldest()

    def messages(self, user_id: UserId | None = None) -> Sequence[Sent]:
        """Return what was sent to a user, or to anybody, oldest first."""
        return list(self._all if user_id is None else self._of.get(user_id, ()))

    def latest(self, count: int) -> Sequence[Sent]:
        """Return the *count* messages sent last, newest first."""
        return list(islice(reversed(self._all), count))

    def _drop_oldest(self) -> None:
        oldest = self._all.popleft().message.user_id
        # The oldest of all is the oldest of its user too.
        self._of[oldest].popleft()
        if not self._of[oldest]:
            del self._of[oldest]
