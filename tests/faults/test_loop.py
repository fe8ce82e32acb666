"""The loop of the simulation: time is counted, order is drawn, and a seed repeats both."""

import asyncio
import time
from random import Random

import pytest

from tests.faults.loop import StuckError, run_seeded


async def _race(order: list[int]) -> None:
    async def one(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(one(number))


def _order(seed: int) -> list[int]:
    order: list[int] = []
    run_seeded(Random(seed), _race(order))
    return order


def test_a_seed_repeats_an_order_and_another_gives_another() -> None:
    assert _order(1) == _order(1)
    assert len({tuple(_order(seed)) for seed in range(20)}) > 15


def test_hours_go_by_at_once() -> None:
    async def sleep() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(7200)
        return loop.time() - before

    started = time.monotonic()
    assert run_seeded(Random(1), sleep()) == 7200
    assert time.monotonic() - started < 10


def test_a_timeout_cancels_what_takes_longer_and_nothing_else() -> None:
    async def late() -> str:
        async with asyncio.timeout(1):
            await asyncio.sleep(0.9)
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(1.1)
        except TimeoutError:
            return "late"
        return "in time"

    assert run_seeded(Random(1), late()) == "late"


def test_work_for_a_thread_is_done_without_one() -> None:
    async def threaded() -> int:
        return await asyncio.to_thread(lambda: 42)

    assert run_seeded(Random(1), threaded()) == 42


def test_whoever_waits_for_what_never_comes_is_told() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_seeded(Random(1), wait())


def test_an_error_that_nobody_waits_for_stops_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "x")
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="invalid literal"):
        run_seeded(Random(1), main())
