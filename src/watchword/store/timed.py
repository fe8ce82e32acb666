"""
A store that answers in time, or is taken for one that does not answer.

A disk that hangs and a network that swallows what it is given raise nothing, and whoever waits for them
makes others wait: for a user's turn, for a place at the server. So every call has a limit; and for a
moment after one that met it, the next ones are refused at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store, StoreUnavailableError, UnreadableUser

CALL_SECONDS = 1.5
"""How long one call may take: less than the two seconds in which a request is answered."""

PAUSE_SECONDS = 0.5
"""For how long nobody asks a store that did not answer in time."""

T = TypeVar("T")


class TimedStore:
    """A ``Store`` over another: look-ups and commits have a limit; what runs beside requests has none."""

    def __init__(
        self, store: Store, *, call_seconds: float = CALL_SECONDS, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        """Stand before *store*."""
        self._store = store
        self._call_seconds = call_seconds
        self._pause_seconds = pause_seconds
        self._pausing_until = 0.0

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        return await self._in_time(lambda: self._store.token(token_id))

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        return await self._in_time(lambda: self._store.user(user_id))

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        return await self._in_time(lambda: self._store.destination(destination_id))

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        return await self._in_time(lambda: self._store.application(application_id))

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        return await self._in_time(lambda: self._store.owner(owner_id))

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """Read users in the order of their ids."""
        return await self._store.users(after=after, limit=limit)

    async def commit(self, change: Change) -> bool:
        """Store a change, or do nothing; of one that took too long the outcome is unknown."""
        return await self._in_time(lambda: self._store.commit(change))

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day."""
        return await self._store.sweep(now, limit=limit)

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail."""
        return await self._store.events(after=after, limit=limit)

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events."""
        return await self._store.forget(before, limit=limit)

    async def ping(self) -> None:
        """Find out whether the store would take a write; whoever asks has a limit of his own."""
        await self._store.ping()

    async def close(self) -> None:
        """Finish what was accepted, then let go of files and connections."""
        await self._store.close()

    async def _in_time(self, ask: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        if loop.time() < self._pausing_until:
            raise StoreUnavailableError("the store did not answer in time a moment ago")
        try:
            async with asyncio.timeout(self._call_seconds):
                return await ask()
        except TimeoutError as error:
            self._pausing_until = loop.time() + self._pause_seconds
            raise StoreUnavailableError("the store does not answer in time") from error
