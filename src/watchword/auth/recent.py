"""What was found out about a token, for a while: a bounded memory, by the token's digest."""

from collections import OrderedDict
from hashlib import sha256

from watchword.domain.instant import Instant
from watchword.engine.principal import Principal

REMEMBERED = 10_000


class Recent:
    """
    Answers by token, the longest unused of which make room.

    A token itself is never kept. An answer is None where the token is known to be nobody's.
    """

    def __init__(self, *, most: int = REMEMBERED) -> None:
        """Start with nothing."""
        self._most = most
        self._answers: OrderedDict[bytes, tuple[Instant, Instant, Principal | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, digest: bytes, now: Instant) -> tuple[Principal | None] | None:
        """Return the answer in a tuple, since it may be None itself; None where there is none."""
        found = self._answers.get(digest)
        if found is None:
            return None
        since, until, principal = found
        # A clock that was set back must not lengthen what it once measured.
        if not since <= now < until:
            del self._answers[digest]
            return None
        self._answers.move_to_end(digest)
        return (principal,)

    def put(self, digest: bytes, principal: Principal | None, *, now: Instant, until: Instant) -> None:
        """Keep an answer until a moment."""
        if until <= now:
            return
        self._answers[digest] = (now, until, principal)
        self._answers.move_to_end(digest)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()


def digest(token: str) -> bytes:
    """Return what stands for *token* wherever it is kept."""
    return sha256(token.encode()).digest()
