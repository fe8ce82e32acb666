"""
Turns: what meets on one record is done one after the other, within this process.

This is a courtesy, not the guard. The guard is the version that each commit compares, and it
holds between processes too; but sixty-four requests that race for one user's record would
mostly undo each other's work, and a guess that waits its turn meets the lock before it costs a
comparison.
"""

import asyncio
from collections.abc import Hashable
from types import TracebackType


class Turns:
    """One queue a key (a user, a number), kept only while somebody is in it."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._turns: dict[Hashable, Turn] = {}

    def of(self, key: Hashable) -> "Turn":
        """Return the key's turn, to be waited for and held with ``async with``."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn(self._turns, key)
        return turn

    def __len__(self) -> int:
        """Return how many keys have somebody waiting or working."""
        return len(self._turns)


class Turn:
    """A lock that forgets itself once nobody holds it or waits for it."""

    __slots__ = ("_all", "_inside", "_key", "_lock")

    def __init__(self, turns: "dict[Hashable, Turn]", key: Hashable) -> None:
        """Belong to *turns*."""
        self._all = turns
        self._key = key
        self._lock = asyncio.Lock()
        self._inside = 0

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        self._inside += 1
        try:
            await self._lock.acquire()
        except asyncio.CancelledError:
            self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Pass the turn on."""
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            del self._all[self._key]
