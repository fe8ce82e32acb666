"""What the engine is given of the outside world: the time, and chance."""

import os
import time
from collections.abc import Iterator
from secrets import randbelow
from typing import Protocol
from weakref import WeakSet

from watchword.domain.instant import Instant

_DRAWN_AT_ONCE = 64


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
    """
    The operating system's random numbers.

    They are drawn a block at a time, since each draw is a system call that gives the interpreter's
    lock away. No byte is used twice: not by two threads, and not by a process and its fork.
    """

    def __init__(self) -> None:
        """Start with nothing drawn."""
        self._block: Iterator[bytes] = iter(())
        _drawing.add(self)

    def uuid(self) -> str:
        """Return a random UUID v4."""
        digits = self._sixteen().hex()
        # RFC 9562 section 5.4: the version is 4, and the variant's two bits are 10.
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def trace_id(self) -> str:
        """Return 32 random hexadecimal digits."""
        return self._sixteen().hex()

    def _sixteen(self) -> bytes:
        drawn = next(self._block, None)
        while drawn is None:
            block = os.urandom(16 * _DRAWN_AT_ONCE)
            self._block = iter([block[start : start + 16] for start in range(0, len(block), 16)])
            drawn = next(self._block, None)
        return drawn

    def forget(self) -> None:
        """Drop what lies ready: in a fork it is another process's."""
        self._block = iter(())

    def code(self, digits: int) -> str:
        """Return a code; ``randbelow`` rejects rather than folds, so that no code is likelier."""
        return f"{randbelow(10**digits):0{digits}d}"


_drawing: WeakSet[SystemEntropy] = WeakSet()


def forget_all() -> None:
    """Drop what lies ready anywhere in this process: it is a fork, and another process draws it too."""
    for entropy in _drawing:
        entropy.forget()


# One hook that keeps none of them: what is registered at a fork is never let go of.
os.register_at_fork(after_in_child=forget_all)
