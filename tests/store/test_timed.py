"""A store that hangs is one that does not answer."""

import asyncio

import pytest

from tests.engine.stores import OverStore
from watchword.domain.decision import Change
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store, StoreUnavailableError
from watchword.store.timed import CALL_SECONDS, TimedStore

TOKEN = TokenId(bytes(32))
CHANGE = Change(user=UserSecurity(id=UserId(7), version=1))


class Hanging(OverStore):
    """Answers nobody while it hangs; what it is given it does later all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        self.asked += 1
        await self.answers.wait()
        return await super().token(token_id)

    async def commit(self, change: Change) -> bool:
        self.asked += 1
        await self.answers.wait()
        return await super().commit(change)


def timed(store: Store) -> TimedStore:
    return TimedStore(store, call_seconds=0.1, pause_seconds=0.2)


def test_a_call_ends_before_a_request_must_be_answered() -> None:
    assert CALL_SECONDS < 2


async def test_what_is_answered_in_time_is_passed_on() -> None:
    inner = Hanging()
    store = timed(inner)
    assert await store.commit(CHANGE)
    assert not await store.commit(CHANGE)
    assert await store.user(UserId(7)) == CHANGE.user
    assert await store.token(TOKEN) is None
    assert await store.users() == [CHANGE.user]
    await store.ping()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.token(TOKEN)


@pytest.mark.attack(155)
async def test_of_a_store_that_hangs_callers_hear_in_time_and_the_next_at_once() -> None:
    inner = Hanging()
    store, loop = timed(inner), asyncio.get_running_loop()
    inner.answers.clear()
    began = loop.time()
    outcomes = await asyncio.gather(*(store.commit(CHANGE) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(each, StoreUnavailableError) for each in outcomes)
    assert loop.time() - began < 1
    assert inner.asked == 20
    for _ in range(20):
        with pytest.raises(StoreUnavailableError):
            await store.token(TOKEN)
    assert inner.asked == 20  # Nobody asked it again so soon.


async def test_a_store_that_answers_again_is_asked_again_after_a_moment() -> None:
    inner = Hanging()
    store = timed(inner)
    inner.answers.clear()
    with pytest.raises(StoreUnavailableError):
        await store.token(TOKEN)
    inner.answers.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await store.token(TOKEN) is None
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.02)


async def test_a_fault_that_is_told_at_once_makes_nobody_wait() -> None:
    inner = Hanging()
    store = timed(inner)
    await inner.close()
    with pytest.raises(StoreUnavailableError):
        await store.token(TOKEN)
    with pytest.raises(StoreUnavailableError):
        await store.token(TOKEN)
    assert inner.asked == 2
