"""Stores that misbehave in one way each, over the reference store."""

from collections.abc import Sequence

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store, StoreUnavailableError, UnreadableUser
from watchword.store.memory import MemoryStore


class OverStore:
    """Passes everything on."""

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        return await self.inner.token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        return await self.inner.user(user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        return await self.inner.destination(destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        return await self.inner.application(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        return await self.inner.owner(owner_id)

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        return await self.inner.users(after=after, limit=limit)

    async def commit(self, change: Change) -> bool:
        return await self.inner.commit(change)

    async def sweep(self, now: Instant, *, limit: int) -> int:
        return await self.inner.sweep(now, limit=limit)

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        return await self.inner.events(after=after, limit=limit)

    async def forget(self, before: Instant, *, limit: int) -> int:
        return await self.inner.forget(before, limit=limit)

    async def ping(self) -> None:
        await self.inner.ping()

    async def close(self) -> None:
        await self.inner.close()


class Conflicting(OverStore):
    """Says of the next *conflicts* changes that another was faster."""

    def __init__(self, inner: Store | None = None) -> None:
        super().__init__(inner)
        self.conflicts = 0
        self.refused = 0

    async def commit(self, change: Change) -> bool:
        if self.conflicts > 0:
            self.conflicts -= 1
            self.refused += 1
            return False
        return await super().commit(change)


class Unavailable(OverStore):
    """Does not answer while it is *down*; stores all the same where it *loses replies*."""

    def __init__(self, inner: Store | None = None) -> None:
        super().__init__(inner)
        self.down = False
        self.loses_replies = False

    async def commit(self, change: Change) -> bool:
        if self.down:
            if self.loses_replies:
                await super().commit(change)
            raise StoreUnavailableError
        return await super().commit(change)
