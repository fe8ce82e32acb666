"""Turns: one user's calls go one after the other, different users' at once, and nothing is kept."""

import asyncio

import pytest

from tests.factories import ADA, GRACE
from watchword.engine.turns import Turns


async def test_one_users_turns_come_one_after_the_other_in_order() -> None:
    turns, seen = Turns(), list[str]()

    async def take(name: str) -> None:
        async with turns.of(ADA):
            seen.append(f"{name} in")
            await asyncio.sleep(0)
            seen.append(f"{name} out")

    await asyncio.gather(*(take(name) for name in "abc"))
    assert seen == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_different_users_do_not_wait_for_each_other() -> None:
    turns = Turns()
    async with turns.of(ADA), turns.of(GRACE):
        assert len(turns) == 2


async def test_nothing_is_kept_of_a_user_once_nobody_waits() -> None:
    turns = Turns()
    async with turns.of(ADA):
        assert len(turns) == 1
    assert len(turns) == 0
    with pytest.raises(KeyError):
        async with turns.of(ADA):
            raise KeyError
    assert len(turns) == 0


async def test_whoever_goes_away_while_waiting_leaves_no_trace() -> None:
    turns = Turns()

    async def take() -> None:
        async with turns.of(ADA):
            await asyncio.Event().wait()

    holder, waiter = asyncio.create_task(take()), asyncio.create_task(take())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in (waiter, holder):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(turns) == (1 if task is waiter else 0)
    async with asyncio.timeout(10), turns.of(ADA):
        assert len(turns) == 1
