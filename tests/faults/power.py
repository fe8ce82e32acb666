"""
The power fails under SQLite, in process: the engine over a disk that forgets what was not synced.

The same people as in the simulation, on an ordinary event loop, since the store waits for its disk
in a thread: what they do is drawn from the seed, when exactly the power fails is not.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.factories import FixedClock, ScriptedEntropy
from tests.faults.checker import Violation, check
from tests.faults.history import FaultKind, History
from tests.faults.people import LIMITS, USERS, People, Provider, held_by, make_engine
from tests.faults.promises import KEEPS
from tests.store.disk import Disk
from watchword.store.base import StoreUnavailableError
from watchword.store.sqlite import SqliteStore, Synchronous

CLIENTS = 6
STEPS = 40
CHECKPOINT_PAGES = 40
"""So few that the log is copied several times in a round."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What came of it."""

    history: History
    events: int
    violations: list[Violation]


async def lose_power(
    folder: Path, *, seed: int, losses: int, synchronous: Synchronous = "FULL", torn: bool = True
) -> Lost:
    """
    Lose the power so many times in *folder*, and check what survived.

    Args:
        synchronous: Anything but FULL must lose something: the negative control.
        torn: Every other time parts of what was not synced survive, in any order.
    """
    await asyncio.to_thread(folder.mkdir)
    chance, clock, entropy = Random(seed), FixedClock(), ScriptedEntropy()
    people = People(chance=chance, clock=clock, provider=Provider(), engines=[])
    people.changes, people.handling = 0.0, 0.005
    store = SqliteStore.open(folder / "store.db")
    people.engines = [make_engine(store, clock, people.provider, entropy)]
    await people.begin(*USERS)
    await store.close()
    for number in range(losses):
        # Locks end, so that there is something to do.
        clock.advance(901)
        with Disk(folder) as disk:
            await _until_the_power_goes(disk, folder, people, entropy, synchronous)
            people.history.mended(people.history.mark(FaultKind.POWER_LOST))
            disk.cut_power()
            disk.salvage(folder, chance if torn and number % 2 else None)
    store = SqliteStore.open(folder / "store.db")
    held = await held_by(store)
    await store.close()
    violations = check(people.history, held, limits=LIMITS, promises=KEEPS)
    return Lost(people.history, len(held.events), violations)


async def _until_the_power_goes(
    disk: Disk, folder: Path, people: People, entropy: ScriptedEntropy, synchronous: Synchronous
) -> None:
    moment = people.chance.randrange(1_500)

    def perhaps() -> None:
        if disk.operations >= moment:
            disk.cut_power()
            people.stopped = True

    people.stopped, disk.on_operation = False, perhaps
    with suppress(StoreUnavailableError):
        store = SqliteStore.open(
            folder / "store.db",
            vfs=disk.name,
            synchronous=synchronous,
            checkpoint_pages=CHECKPOINT_PAGES,
        )
        people.engines = [make_engine(store, people.clock, people.provider, entropy)]
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(people.act(STEPS))
        disk.cut_power()
        await store.close()
