"""What the engine is given of the outside world: the time, and chance."""

import os
import time
from secrets import randbelow
from typing import Protocol
from uuid import UUID

from watchword.domain.instant import Instant


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> Instant:
        """Return the present moment."""
        ...


class Entropy(Protocol):
    """Draws what nobody may guess."""

    def uuid(self) -> str:
        """Return a random UUID v4, in lower case."""
        ...

    def code(self, digits: int) -> str:
        """Return a code, each one equally likely."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Instant:
        """Return the present moment."""
        return Instant(time.time_ns() // 1_000_000)


class SystemEntropy:
    """The operating system's random numbers."""

    def uuid(self) -> str:
        """Return a random UUID v4."""
        return str(UUID(bytes=os.urandom(16), version=4))

    def code(self, digits: int) -> str:
        """Return a code; ``randbelow`` rejects rather than folds, so that no code is likelier."""
        return f"{randbelow(10**digits):0{digits}d}"
