"""
Measure the main job over every store: ``python -m bench.stores --help``.

As ``bench.run`` does over SQLite alone, with the same cycle and the same load. The floor is another: it makes
the product's own statements, through the client that the product's store uses, and decides nothing
(``bench/bare.py``). Each store is run for real, on the cores that floor, product and load share. Floor and
product take turns, with one worker and with two; ratios are of the two halves of a pair.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import load
from bench.bare import prefill
from bench.exchange import walk
from bench.load import BenchError, Cycles
from bench.process import ROOT, serving
from tests.stores import KINDS, Place, running

RESULTS = ROOT / "bench" / "stores.json"
WARM_UP = 1.0
WORKERS = (1, 2)
FLOOR, PRODUCT = "floor", "product"
MODULES = {FLOOR: "bench.bare", PRODUCT: "bench.server"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One server under load once."""

    store: str
    workers: int
    server: str
    round: int
    cycles: Cycles
    cpu_us_per_cycle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The medians over the rounds of one store and one number of workers."""

    store: str
    workers: int
    cycles_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_cycle: float
    floor_cycles_per_second: float
    ratio_to_floor: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description=__doc__)
    parser.add_argument("--stores", default=",".join(KINDS[1:]), help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--users", type=int, default=32, help="users at once")
    parser.add_argument("--people", type=int, default=12_000, help="users to draw from")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        load.ensure_wrk()
        measured = [each for kind in options.stores.split(",") for each in _measure(kind, options)]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    summaries = summarise(measured)
    print(f"\n{table(summaries)}")
    document = {"summary": list(map(asdict, summaries)), "measurements": list(map(asdict, measured))}
    options.results.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {options.results}")
    return 0


def _measure(kind: str, options: argparse.Namespace) -> list[Measured]:
    if kind not in KINDS[1:]:
        raise BenchError(f"there is no store {kind}: {', '.join(KINDS[1:])}")
    found: list[Measured] = []
    with running(kind) as base, tempfile.TemporaryDirectory() as folder:
        for workers in WORKERS:
            for number in range(options.rounds):
                for server in (FLOOR, PRODUCT) if number % 2 == 0 else (PRODUCT, FLOOR):
                    # Each an empty one: the floor's changes are made from people who have never paid.
                    place = base.empty()
                    asyncio.run(prefill(place, people=options.people))
                    cycles, cpu = _drive(server, place, workers, Path(folder), options)
                    one = Measured(
                        store=kind,
                        workers=workers,
                        server=server,
                        round=number + 1,
                        cycles=cycles,
                        cpu_us_per_cycle=cpu,
                    )
                    found.append(one)
                    print(
                        f"{kind:<15}{workers} worker(s)  round {one.round}  {server:<8}"
                        f"{cycles.per_second:>7,.0f} cycles/s  p50 {cycles.p50_ms:5.1f} ms"
                        f"  p99 {cycles.p99_ms:5.1f} ms  {cpu:5.0f} µs CPU",
                        flush=True,
                    )
    return found


def _drive(
    server: str, place: Place, workers: int, folder: Path, options: argparse.Namespace
) -> tuple[Cycles, float]:
    """Put load on a server; return what came of it, and the server's own processor time a cycle in µs."""
    log = folder / f"{server}.log"
    with serving(f"{MODULES[server]}:create_app", str(place), log=log, workers=workers) as served:
        try:
            walk(served.port, person=options.people - 1)
        except OSError as error:
            raise BenchError(f"the {server} does not answer: {error}: {log.read_text()[-500:]}") from error
        used = served.cpu_seconds()
        cycles, _ = load.drive(
            served.port,
            users=options.users,
            people=options.people - 1,  # The last one has walked already.
            seconds=options.seconds,
            warm_up=WARM_UP,
        )
        used = served.cpu_seconds() - used
    return cycles, used / (cycles.per_second * (options.seconds + WARM_UP)) * 1e6


def summarise(measured: Sequence[Measured]) -> list[Summary]:
    """Reduce the rounds to one line for each store and number of workers."""
    found: list[Summary] = []
    for store, workers in dict.fromkeys((one.store, one.workers) for one in measured):
        rounds = {
            name: [one for one in measured if (one.store, one.workers, one.server) == (store, workers, name)]
            for name in MODULES
        }
        product = rounds[PRODUCT]
        floor = {one.round: one.cycles.per_second for one in rounds[FLOOR]}
        found.append(
            Summary(
                store=store,
                workers=workers,
                cycles_per_second=median(one.cycles.per_second for one in product),
                p50_ms=median(one.cycles.p50_ms for one in product),
                p99_ms=median(one.cycles.p99_ms for one in product),
                cpu_us_per_cycle=median(one.cpu_us_per_cycle for one in product),
                floor_cycles_per_second=median(floor.values()),
                ratio_to_floor=median(one.cycles.per_second / floor[one.round] for one in product),
            )
        )
    return found


def table(summaries: Sequence[Summary]) -> str:
    """Lay the summaries out for a terminal."""
    lines = ["store           workers  cycles/s  p50 ms  p99 ms  CPU µs/cycle  floor's cycles/s  ratio"]
    lines += [
        f"{one.store:<15} {one.workers:>7}  {one.cycles_per_second:>8,.0f}  {one.p50_ms:>6.1f}"
        f"  {one.p99_ms:>6.1f}  {one.cpu_us_per_cycle:>12,.0f}  {one.floor_cycles_per_second:>16,.0f}"
        f"  {one.ratio_to_floor:>5.2f}"
        for one in summaries
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
