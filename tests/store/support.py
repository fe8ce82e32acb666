"""What tests of stores share: a store that can be opened again, and small changes to commit."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from tests.factories import ADA, NOW, PAY, PAYMENT, make_token, make_user
from watchword.domain import verbs
from watchword.domain.application import Application, ApplicationId, ClientKey, KeyScope
from watchword.domain.decision import Change, Event, EventName, Refusal
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.owner import Owner
from watchword.domain.token import Cleared, OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store
from watchword.store.memory import MemoryStore

LIMITS = Limits()
PARTNER = ApplicationId("partner-1")


Opening: TypeAlias = Callable[[], Awaitable[Store]]


def kept(store: Store) -> Opening:
    """Return what opens *store* again and again, which lives in memory."""

    async def open_() -> Store:
        return store

    return open_


class Stores:
    """One store that can be opened again and again."""

    def __init__(self, open_: Opening) -> None:
        self._open = open_
        self._opened: list[Store] = []

    async def open(self) -> Store:
        """Open it, be it for the first time."""
        store = await self._open()
        if isinstance(store, MemoryStore):
            # Its memory stands for the file: what was closed is there again.
            store._shut = False  # noqa: SLF001 - nothing but these tests opens it twice.
        self._opened.append(store)
        return store

    async def reopen(self, store: Store) -> Store:
        """Close *store* and open it anew."""
        await store.close()
        return await self.open()

    async def close(self) -> None:
        """Close whatever is open."""
        for store in self._opened:
            await store.close()


def event(name: EventName = EventName.TOKEN_ISSUED, **details: str | int) -> Event:
    """Make an event of Ada's."""
    return Event(name=name, at=NOW, user_id=ADA, details=details)


def next_version(token: OneTimeToken) -> OneTimeToken:
    """Return *token* as a later change of it would be stored."""
    return replace(token, version=token.version + 1)


def next_user(user: UserSecurity) -> UserSecurity:
    """Return *user* as a later change of it would be stored."""
    return replace(user, version=user.version + 1)


def make_key(id: str = "key", scope: KeyScope = KeyScope.PAYLOAD_SIGNING) -> ClientKey:
    """Make a key that is good for an hour."""
    return ClientKey(
        id=id, scope=scope, algorithm="ES512", spki=b"der", valid_from=NOW, valid_till=after(NOW, 3600)
    )


def make_application(*keys: ClientKey, id: ApplicationId = PARTNER) -> Application:
    """Make an application as it is stored first."""
    return Application(id=id, version=1, keys=keys)


def make_owner(user_id: UserId | None = ADA, id: bytes = b"number") -> Owner:
    """Make the record of something that was just claimed."""
    return Owner(id=id).taken(user_id)


async def claim(store: Store, user_id: UserId, *owned: bytes) -> bool:
    """Take what nobody owns as the engine does, with the user's record; tell whether it is the user's."""
    while True:
        user = await store.user(user_id)
        found = [await store.owner(id_) or Owner(id=id_) for id_ in owned]
        if any(owner.user_id is not None for owner in found):
            return False
        change = Change(
            user=make_user(id=user_id) if user is None else next_user(user),
            owners=tuple(owner.taken(user_id) for owner in found),
            events=(event(EventName.CREDENTIALS_CHANGED, user=user_id),),
        )
        if await store.commit(change):
            return True


async def ready(store: Store, id_: bytes = b"token") -> OneTimeToken:
    """Store a token that is ready to be spent."""
    token = make_token(Cleared(NOW), id=id_)
    assert await store.commit(Change(token=token))
    return token


async def spend(store: Store, token_id: TokenId, *, now: Instant = NOW) -> bool:
    """Spend a token as the engine does; tell whether this was the spending that counts."""
    while True:
        token = await store.token(token_id)
        assert token is not None
        decision = verbs.spend(token, action=PAYMENT, binding=PAY, limits=LIMITS, now=now)
        if isinstance(decision, Refusal):
            return False
        if await store.commit(decision):
            return True


async def answer_wrongly(store: Store, token_id: TokenId, user_id: UserId = ADA) -> bool:
    """Give a wrong PIN as the engine does; tell whether it was looked at."""
    while True:
        token, user = await store.token(token_id), await store.user(user_id)
        assert token is not None
        assert user is not None
        decision = verbs.verify(token, Method.PIN, right=False, user=user, limits=LIMITS, now=NOW)
        if isinstance(decision, Refusal):
            return False
        if await store.commit(decision):
            return True


async def with_user(store: Store, id_: UserId = ADA) -> UserSecurity:
    """Store a user who has enrolled everything."""
    user = make_user(id=id_)
    assert await store.commit(Change(user=user))
    return user


async def at_once(*work: Awaitable[bool]) -> list[bool]:
    """Do all of *work* at the same time."""
    return await asyncio.gather(*work)
