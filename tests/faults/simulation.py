"""
The seeded simulation: the real engine, several processes of it, many clients, and everything that goes wrong.

A seed decides what clients do, in which order everything happens, and what fails: the store before
or after it wrote, or late; callers who go away; a provider that is slow or down; a clock that jumps,
back as well. The same seed gives the same history to the last line. Run as a program it tries
seeds, or replays one and prints its history: ``python -m tests.faults.simulation --seed 17``.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.factories import FixedClock, ScriptedEntropy
from tests.faults.checker import Rule, Violation, check
from tests.faults.history import Held, History
from tests.faults.loop import run_seeded
from tests.faults.people import LIMITS, USERS, People, Provider, held_by, make_engine
from tests.faults.promises import KEEPS
from tests.faults.stores import CALM, FaultyStore, Rates
from watchword.domain.instant import after
from watchword.engine.engine import Engine
from watchword.store.base import Store
from watchword.store.memory import MemoryStore

CLIENTS = 4
STEPS = 12
REPLAY = "python -m tests.faults.simulation --seed {seed}"


@dataclass(frozen=True, slots=True)
class Simulated:
    """
    A simulation that is over.

    Attributes:
        made: How often each fault was made.
    """

    seed: int
    history: History
    held: Held
    violations: list[Violation]
    made: Counter[str]

    def __str__(self) -> str:
        """Tell what was found, and how to see it again."""
        found = "".join(f"\n  {violation}" for violation in self.violations)
        return f"seed {self.seed}: replay with: {REPLAY.format(seed=self.seed)}{found}"

    @property
    def broken(self) -> set[Rule]:
        """The rules that were broken."""
        return {violation.rule for violation in self.violations}


def simulate(
    seed: int, *, store: Callable[[], Store] = MemoryStore, mutate: Callable[[Engine], object] | None = None
) -> Simulated:
    """
    Run the simulation of *seed*.

    Args:
        store: Makes the store; another than the reference is one that is broken.
        mutate: Breaks an engine.
    """
    chance = Random(seed)
    try:
        return run_seeded(chance, _simulate(seed, chance, store(), mutate))
    except BaseException as error:
        error.add_note(f"seed {seed}: replay with: {REPLAY.format(seed=seed)}")
        raise


async def _simulate(
    seed: int, chance: Random, inner: Store, mutate: Callable[[Engine], object] | None
) -> Simulated:
    store, clock, provider = FaultyStore(inner, chance), FixedClock(), Provider()
    entropy = ScriptedEntropy()
    engines = [make_engine(store, clock, provider, entropy) for _ in range(chance.choice((1, 2, 2, 3)))]
    for engine in engines:
        if mutate is not None:
            mutate(engine)
    people = People(
        chance=chance,
        clock=clock,
        provider=provider,
        engines=engines,
        skill=chance.choice((0.3, 0.85, 0.95)),
        impatience=chance.choice((0.0, 0.0, 0.05)),
    )
    await people.begin(*USERS)
    store.rates = _rates(chance)
    world = asyncio.create_task(_world(chance, people, store.made))
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(people.act(STEPS))
    world.cancel()
    store.rates = CALM
    await store.settle()
    held = await held_by(inner)
    violations = check(people.history, held, limits=LIMITS, promises=KEEPS)
    return Simulated(seed, people.history, held, violations, store.made)


def _rates(chance: Random) -> Rates:
    """Draw which faults a run has: few of them, and often, find more than all of them seldom."""

    def often(*rates: float) -> float:
        return chance.choice((0.0, *rates))

    return Rates(
        unread=often(0.01),
        before=often(0.03),
        outrun=often(0.05, 0.2),
        unanswered=often(0.05, 0.15),
        late=often(0.03, 0.1),
        slow=often(0.05, 0.2),
    )


async def _world(chance: Random, people: People, made: Counter[str]) -> None:
    """Let things happen outside: time, that goes by and jumps; a provider that fails."""
    jumps = chance.random() < 0.3
    while True:
        await asyncio.sleep(chance.random() * 0.5)
        match chance.randrange(6):
            case 0:
                people.provider.down = not people.provider.down
                made["provider down"] += people.provider.down
            case 1:
                people.provider.seconds = chance.choice((0.0, 0.0, 5.0))
                made["provider slow"] += people.provider.seconds > 0
            case 2 if jumps:
                seconds = chance.choice((-901, -301, -31, -1, 901))
                people.clock.at = after(people.clock.at, seconds)
                made["clock back" if seconds < 0 else "clock forward"] += 1
            case _:
                people.clock.advance(chance.choice((0.5, 1, 1, 31, 31, 61, 301)))
        people.history.tick(people.clock.now())


def main() -> int:
    """Try seeds, or replay one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and print its history")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to try seeds (10)")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with (0)")
    options = parser.parse_args()
    if options.seed is not None:
        one = simulate(options.seed)
        print(*one.history.lines(), one, sep="\n")
        return bool(one.violations)
    started, tried, found, made = time.monotonic(), 0, 0, Counter[str]()
    calls = 0
    while time.monotonic() - started < options.seconds:
        one = simulate(options.first + tried)
        tried, calls = tried + 1, calls + len(one.history.operations)
        made += one.made
        if one.violations:
            found += 1
            print(one)
    taken = time.monotonic() - started
    print(f"{tried} runs in {taken:.1f} s ({tried / taken:.0f}/s), {calls} calls, {found} with violations")
    print(f"faults: {dict(sorted(made.items()))}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
