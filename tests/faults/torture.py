"""
Torture: a real server under load, faults at seeded moments, and proof that nothing happened that must not.

It goes in chapters. Each has a server of its own over an empty store, a seed of its own, and clients
that pay and guess while one fault after the other is made and mended; at the end the checker holds
what they saw and what handlers ran against what the store holds. SQLite loses its power besides,
in this process. It ends with a table and a file of results; a violation makes it fail.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random

from tests.faults.checker import Violation, check, lost
from tests.faults.deployment import LIMITS, Deployment, Ledger, Provider
from tests.faults.history import FaultKind, History, Outcome
from tests.faults.load import Client, Counts
from tests.faults.people import held_by
from tests.faults.postgres import Postgres
from tests.faults.power import lose_power
from tests.faults.split import Split
from tests.faults.under_test import Fault, Sqlite, StoreUnderTest
from tests.faults.valkey import Valkey, ValkeyCluster

STORES: dict[str, Callable[[], StoreUnderTest]] = {
    "sqlite": Sqlite,
    "postgresql": Postgres,
    "postgresql-async": partial(Postgres, synchronous=False),
    "valkey": Valkey,
    "valkey-cluster": ValkeyCluster,
    "split": Split,
}
LESSER: dict[str, Callable[[], StoreUnderTest]] = {"valkey-without-wait": partial(ValkeyCluster, waits=False)}
"""Set up so that they lose what was acknowledged: not among all, and to be seen beside them."""
CHAPTER_SECONDS = 60.0
PAYERS, GUESSERS = 10, 6
POWER_LOSSES = 20
RECOVERY_SECONDS = 30.0
"""How long a server may take to serve again, and a slow machine to get anywhere."""
OFTEN = {
    FaultKind.SERVER_KILLED: 8,
    FaultKind.FAIL_OVER: 4,
    FaultKind.PARTITION: 4,
    FaultKind.STORE_KILLED: 2,
}
"""How often a fault is drawn, as against once."""
AT_ONCE = frozenset({FaultKind.SERVER_KILLED, FaultKind.CLOCK_BACK, FaultKind.CLOCK_FORWARD})
"""Faults that are over as soon as they are made."""


@dataclass
class Chapter:
    """What was done, and what came of it."""

    store: str
    seed: int
    seconds: float = 0.0
    faults: Counter[FaultKind] = field(default_factory=Counter[FaultKind])
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    slowest: dict[FaultKind, float] = field(default_factory=dict[FaultKind, float])
    runs: int = 0
    events: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    lost: Counter[str] = field(default_factory=Counter[str])
    unexpected: list[str] = field(default_factory=list[str])
    history: History = field(default_factory=History, repr=False)

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.outcomes.total()


async def torture(
    store: StoreUnderTest,
    folder: Path,
    *,
    seed: int,
    seconds: float,
    before: int = 0,
    least: int = 0,
    weakness: str | None = None,
    only: frozenset[FaultKind] | None = None,
) -> Chapter:
    """
    Write one chapter.

    Args:
        seconds: How long faults are made.
        before: How many handlers run before anything is broken.
        least: Until how many handlers ran they are made besides, on a machine that is slow.
        weakness: What is wrong with the server on purpose, for a negative control.
        only: The faults to be made instead of all that can be: each once at least, and none more often.
    """
    chapter, chance = Chapter(store.name, seed), Random(seed)
    history, counts = chapter.history, Counts()
    started = time.monotonic()
    async with AsyncExitStack() as running:
        await store.start(folder)
        running.push_async_callback(store.stop)
        provider = await running.enter_async_context(Provider())
        ledger = await running.enter_async_context(Ledger(folder, history, Random(seed)))
        deployment = Deployment(folder, store, history, chance)
        running.push_async_callback(deployment.kill)
        await deployment.install(provider, PAYERS + GUESSERS)
        await deployment.start(ledger, weakness)
        clients = [
            Client(deployment, provider, holder, Random(f"{seed} {number}"), counts, guesses=number >= PAYERS)
            for number, holder in enumerate(deployment.holders)
        ]

        def enough() -> bool:
            return len(history.runs) >= least and chapter.faults.keys() >= (only or set())

        async with asyncio.TaskGroup() as living:
            for client in clients:
                living.create_task(client.live())
            faults = {**deployment.faults(), **provider.faults(), **store.faults(deployment)}
            often = [kind for kind in faults for _ in range(OFTEN.get(kind, 1))]
            try:
                await _ran(history, before)
                await _make(faults, sorted(only or often), chapter, chance, enough, seconds)
                if not await _ran(history, len(history.runs) + 1):
                    counts.unexpected.append(f"nobody was served after the last fault:\n{deployment.said}")
            finally:
                for client in clients:
                    client.stopped = True
        await deployment.stop()
        opened = await store.open()
        held = await held_by(opened)
        await opened.close()
    chapter.violations = check(history, held, limits=LIMITS, promises=store.promises)
    chapter.lost = lost(history, held, limits=LIMITS, promises=store.promises)
    chapter.unexpected, chapter.slowest = counts.unexpected, counts.slowest
    chapter.outcomes = Counter(operation.outcome for operation in history.operations)
    chapter.runs, chapter.events = len(history.runs), len(held.events)
    chapter.seconds = time.monotonic() - started
    return chapter


async def _make(
    faults: Mapping[FaultKind, Fault],
    kinds: Sequence[FaultKind],
    chapter: Chapter,
    chance: Random,
    enough: Callable[[], bool],
    seconds: float,
) -> None:
    """Make one fault of *kinds* after the other: in which order, when and for how long, the seed says."""
    until, left = time.monotonic() + seconds, list[FaultKind]()
    while True:
        await asyncio.sleep(0.2 + chance.random())
        late = time.monotonic() - until
        if late > (0 if enough() else RECOVERY_SECONDS):
            return
        left = left or chance.sample(kinds, len(kinds))
        kind = left.pop()
        hold = 0.0 if kind in AT_ONCE else 0.5 + chance.random() * 3
        mark = chapter.history.mark(kind)
        chapter.faults[kind] += 1
        async with faults[kind]():
            await asyncio.sleep(hold)
        chapter.history.mended(mark)


async def _ran(history: History, runs: int) -> bool:
    """Wait until so many handlers have run; tell whether they have."""
    until = time.monotonic() + RECOVERY_SECONDS
    while len(history.runs) < runs and time.monotonic() < until:  # noqa: ASYNC110 - it has an end.
        await asyncio.sleep(0.05)
    return len(history.runs) >= runs


async def cut_power(folder: Path, *, seed: int, losses: int) -> Chapter:
    """Write the chapter in which the power fails under SQLite, again and again."""
    chapter = Chapter("sqlite", seed)
    started = time.monotonic()
    lost = await lose_power(folder, seed=seed, losses=losses)
    chapter.history, chapter.violations = lost.history, lost.violations
    chapter.faults[FaultKind.POWER_LOST] = losses
    chapter.outcomes = Counter(operation.outcome for operation in lost.history.operations)
    chapter.runs, chapter.events = len(lost.history.runs), lost.events
    chapter.seconds = time.monotonic() - started
    return chapter


# --- the results ------------------------------------------------------------------------------


def report(chapters: list[Chapter]) -> str:
    """Write the table: what was done to each store, and what came of it."""
    lines = [f"{'store':<22}{'fault':<34}{'times':>8}{'longest wait for a 503':>26}"]
    for store in sorted({chapter.store for chapter in chapters}):
        faults = sum((each.faults for each in chapters if each.store == store), Counter[FaultKind]())
        for kind, times in sorted(faults.items()):
            wait = max(each.slowest.get(kind, 0.0) for each in chapters if each.store == store)
            lines.append(f"{store:<22}{kind.value:<34}{times:>8}" + (f"{wait:>24.2f} s" if wait else ""))
    columns = (
        "store",
        "minutes",
        "calls",
        "acknowledged",
        "refused",
        "unknown",
        "runs",
        "events",
        "violations",
    )
    lines += ["", _row(columns)]
    for store in sorted({chapter.store for chapter in chapters}):
        theirs = [chapter for chapter in chapters if chapter.store == store]
        outcomes = sum((each.outcomes for each in theirs), Counter[Outcome]())
        values = (
            store,
            f"{sum(each.seconds for each in theirs) / 60:.1f}",
            outcomes.total(),
            outcomes[Outcome.OK],
            outcomes[Outcome.FAIL],
            outcomes[Outcome.UNKNOWN],
            sum(each.runs for each in theirs),
            sum(each.events for each in theirs),
            sum(len(each.violations) + len(each.unexpected) for each in theirs),
        )
        lines.append(_row(values))
    for store in sorted({chapter.store for chapter in chapters}):
        gone = sum((each.lost for each in chapters if each.store == store), Counter[str]())
        if gone:
            told = ", ".join(f"{what} {times}" for what, times in sorted(gone.items()))
            lines += ["", f"{store} lost of what it acknowledged: {told}"]
    return "\n".join(lines)


def _row(values: Sequence[object]) -> str:
    return f"{values[0]!s:<22}" + "".join(f"{value!s:>13}" for value in values[1:])


def results(chapters: list[Chapter]) -> list[dict[str, object]]:
    """Return the same for a program to read."""
    return [
        {
            "store": each.store,
            "seed": each.seed,
            "seconds": round(each.seconds, 1),
            "faults": {kind.value: times for kind, times in sorted(each.faults.items())},
            "calls": {outcome.value: each.outcomes[outcome] for outcome in Outcome},
            "runs": each.runs,
            "events": each.events,
            "slowest_503_seconds": {kind.value: round(wait, 3) for kind, wait in each.slowest.items()},
            "lost": dict(sorted(each.lost.items())),
            "violations": [*map(str, each.violations), *each.unexpected],
        }
        for each in chapters
    ]


def main() -> int:
    """Torture from the command line."""
    parser = argparse.ArgumentParser(prog="make torture", description="Torture a server and its store.")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (3)")
    parser.add_argument(
        "--store", choices=[*STORES, *LESSER, "all"], default="all", help="over which store (all, in turn)"
    )
    parser.add_argument("--seed", type=int, default=None, help="the seed of the first chapter (the time)")
    parser.add_argument(
        "--results", type=Path, default=Path("torture.json"), help="where to write the results (torture.json)"
    )
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    names = cycle(STORES if options.store == "all" else [options.store])
    until = time.monotonic() + options.minutes * 60
    chapters: list[Chapter] = []
    print(f"seed {seed}; each chapter counts one up, and is repeated alone with --seed", flush=True)
    # What a store says of a disk without power is no news here.
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        while (left := until - time.monotonic()) > 0:
            for chapter in _chapters(next(names), Path(folder), seed, min(CHAPTER_SECONDS, left)):
                chapters.append(chapter)
                _tell(chapter, options.results.parent)
            seed += 1
    print(report(chapters))
    options.results.write_text(json.dumps(results(chapters), indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.results}")
    return any(chapter.violations or chapter.unexpected for chapter in chapters)


def _chapters(name: str, folder: Path, seed: int, seconds: float) -> list[Chapter]:
    """Write the chapters of one seed."""
    place = folder / f"{name}-{seed}"
    place.mkdir(mode=0o700)
    chapters = [asyncio.run(torture((STORES | LESSER)[name](), place, seed=seed, seconds=seconds))]
    if name == "sqlite":
        chapters.append(asyncio.run(cut_power(place / "power", seed=seed, losses=POWER_LOSSES)))
    return chapters


def _tell(chapter: Chapter, folder: Path) -> None:
    print(
        f"{chapter.store} seed {chapter.seed}: {chapter.calls} calls, {chapter.faults.total()} faults,"
        f" {len(chapter.violations) + len(chapter.unexpected)} violations",
        flush=True,
    )
    for violation in [*map(str, chapter.violations), *chapter.unexpected]:
        print(f"  {violation}", flush=True)
    if chapter.violations:
        file = folder / f"torture-{chapter.store}-{chapter.seed}.jsonl"
        file.write_text("\n".join(chapter.history.lines()) + "\n", encoding="utf-8")
        print(f"  its history: {file}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
