"""What tests of stores share: a store that can be opened again, and small changes to commit."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.factories import ADA, NOW, PAY, PAYMENT, make_token, make_user
from watchword.domain import token as tokens
from watchword.domain.decision import Change, Event, EventName, Refusal
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Cleared, OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store
from watchword.store.memory import MemoryStore

LIMITS = Limits()


class Stores:
    """One store that can be opened again and again."""

    def __init__(self, open_: Callable[[], Store]) -> None:
        self._open = open_
        self._opened: list[Store] = []

    def open(self) -> Store:
        """Open it, be it for the first time."""
        store = self._open()
        if isinstance(store, MemoryStore):
            # Its memory stands for the file: what was closed is there again.
            store._shut = False  # noqa: SLF001 - nothing but these tests opens it twice.
        self._opened.append(store)
        return store

    async def reopen(self, store: Store) -> Store:
        """Close *store* and open it anew."""
        await store.close()
        return self.open()

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
        decision = tokens.spend(token, action=PAYMENT, binding=PAY, limits=LIMITS, now=now)
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
        decision = tokens.verify(token, Method.PIN, right=False, user=user, limits=LIMITS, now=NOW)
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
