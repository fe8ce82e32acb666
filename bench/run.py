"""
Measure the main job: ``make bench``, or ``python -m bench.run --help``.

**What.** The *cycle* is the five HTTP requests of one step-up: a protected call answered 403, status,
SMS trigger, SMS verify, the protected call again answered 200. Each cycle is a user of its own, 32 walk
at once, over real sockets, on SQLite with ``synchronous=FULL``. The *product* is Watchword with all of
its parts: guard, engine, store, HTTP (``bench/server.py``). The *floor* is the least this could cost:
a bare Starlette application on the same server with the same options, whose answers have the same size
and whose four writing calls each wait for one row through a group commit (``bench/floor.py``).

**How.** wrk walks the cycles in one thread (``bench/cycle.lua``) and notes when each ended and how long
it took; the first second is left out. How much of a core wrk used stands in the table: well under 1, it
is not the limit. Machines are noisy, so floor and product run in turn, one pair after another, the
order changing each round, and ratios are of the two halves of a pair; what is printed is the median
over the rounds. The server's processor time for a cycle stands beside the rates, because it depends
less on what else the machine does. Memory is the largest resident size of all processes of the server,
added up.

**Size.** Each measurement starts from a fresh copy of a database that holds as many tokens as the table
says. It lies in ``bench/data``, which should be on a real disk: in memory ``FULL`` costs nothing.
What one flush of this disk takes is printed first.

**The page.** At the end the first screen of the approval page is opened on an idle server: its weight and
its time (``bench/page.py``).

The figures go to ``bench/results.json``, each measurement and the summary.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median

from bench import load, report
from bench.exchange import walk
from bench.load import BenchError
from bench.page import CUSTOMERS, FirstScreen, first_screen
from bench.process import ROOT, serving
from bench.report import Measurement

RESULTS = ROOT / "bench" / "results.json"
WARM_UP = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server to measure: a module with ``create_app()`` and ``prefill(path, people=…, tokens=…)``."""

    name: str
    module: str

    def prefill(self, path: Path, *, people: int, tokens: int) -> None:
        """Make the database that a measurement starts from."""
        fill: Callable[..., None] = import_module(self.module).prefill
        fill(path, people=people, tokens=tokens)


CANDIDATES = (Candidate("floor", "bench.floor"), Candidate("product", "bench.server"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    rounds: int
    seconds: int
    users: int
    people: int
    tokens: tuple[int, ...]
    only: str | None
    data: Path
    results: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the results."""
    options = _parse(arguments)
    try:
        load.ensure_wrk()
        options.data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.data) as directory:
            _run(options, Path(directory))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Measure the step-up cycle beside its floor.",
        epilog="example: make bench ARGS='--rounds 3 --tokens 1000'",
    )
    parser.add_argument("--rounds", type=int, default=5, help="pairs to run at each size (default 5)")
    parser.add_argument("--seconds", type=int, default=6, help="seconds of each measurement (default 6)")
    parser.add_argument("--users", type=int, default=32, help="users at once (default 32)")
    parser.add_argument("--people", type=int, default=50_000, help="users to draw from (default 50000)")
    parser.add_argument(
        "--tokens", default="1000,100000,1000000", help="tokens stored at the start, several sizes"
    )
    parser.add_argument("--only", choices=[one.name for one in CANDIDATES], help="measure just this one")
    parser.add_argument("--quick", action="store_true", help="one short round at the smallest size")
    parser.add_argument("--data", type=Path, default=ROOT / "bench" / "data", help="where databases lie")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures go")
    given = parser.parse_args(arguments)
    try:
        sizes = tuple(sorted(int(size) for size in given.tokens.split(",")))
    except ValueError:
        parser.error("--tokens takes numbers with commas between them")
    return Options(
        rounds=1 if given.quick else given.rounds,
        seconds=2 if given.quick else given.seconds,
        users=given.users,
        people=given.people,
        tokens=sizes[:1] if given.quick else sizes,
        only=given.only,
        data=given.data,
        results=given.results,
    )


def _run(options: Options, directory: Path) -> None:
    machine = _machine(directory)
    print(
        f"{machine['cores']} cores, Python {machine['python']}, a flush of this disk takes "
        f"{machine['flush_us_p50']:.0f} µs; {options.users} users, {options.rounds} rounds of "
        f"{options.seconds} s\n",
        flush=True,
    )
    candidates = [one for one in CANDIDATES if options.only in {None, one.name}]
    measurements: list[Measurement] = []
    for tokens in options.tokens:
        stored = {one.name: directory / f"{one.name}-{tokens}.db" for one in candidates}
        for one in candidates:
            begun = time.perf_counter()
            one.prefill(stored[one.name], people=options.people, tokens=tokens)
            mib = stored[one.name].stat().st_size / 2**20
            took = time.perf_counter() - begun
            print(f"stored {tokens:,} tokens for the {one.name}: {mib:,.0f} MiB in {took:.0f} s", flush=True)
    for number in range(options.rounds):
        # Whatever drifts meanwhile, heat or neighbours, meets each of them first and last in turn.
        turn = 1 if number % 2 == 0 else -1
        for tokens in options.tokens[::turn]:
            for one in candidates[::turn]:
                source = directory / f"{one.name}-{tokens}.db"
                measured = _measure(one, source, tokens=tokens, number=number, options=options)
                measurements.append(measured)
                print(_line(measured), flush=True)
    summaries = report.summarise(measurements)
    found = report.targets(measurements)
    print(f"\nmedians\n{report.table(summaries)}")
    for name, sizes in {one.server: one.answer_bytes for one in measurements}.items():
        print(f"bytes of the five answers, {name}: {', '.join(map(str, sizes))}")
    screen = _first_screen(directory) if options.only in {None, "product"} else None
    if screen is not None:
        print(f"\n{screen.line()}")
    if found:
        print(f"\n{report.verdicts(found)}")
    busiest = max(line.generator_cores for line in summaries)
    if busiest > report.GENERATOR_MAX:
        print(f"\nwrk kept {busiest:.2f} cores busy: it may be the limit, not the server")
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "options": {"users": options.users, "rounds": options.rounds, "seconds": options.seconds},
        "summary": [asdict(line) for line in summaries],
        "first_screen": None if screen is None else asdict(screen),
        "targets": [asdict(target) for target in found],
        "measurements": [asdict(one) for one in measurements],
    }
    options.results.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {options.results}")


def _measure(one: Candidate, source: Path, *, tokens: int, number: int, options: Options) -> Measurement:
    database = source.with_name("live.db")
    for left_over in database.parent.glob("live.db*"):
        left_over.unlink()
    _copy(source, database)
    with serving(f"{one.module}:create_app", _place(database), log=database.with_suffix(".log")) as server:
        try:
            sizes = walk(server.port, person=options.people - 1)
        except OSError as error:
            raise BenchError(f"the {one.name} does not answer: {error}") from error
        used = server.cpu_seconds()
        cycles, generator = load.drive(
            server.port,
            users=options.users,
            people=options.people - 1,  # the last one has walked already
            seconds=options.seconds,
            warm_up=WARM_UP,
        )
        used = server.cpu_seconds() - used
        # The processor time includes the warm-up; its cycles are estimated at the measured rate.
        walked = cycles.per_second * (options.seconds + WARM_UP)
        return Measurement(
            server=one.name,
            tokens=tokens,
            round=number + 1,
            cycles=cycles,
            cpu_us_per_cycle=used / walked * 1e6,
            peak_memory_mib=server.peak_memory_mib(),
            generator_cores=generator,
            answer_bytes=tuple(sizes),
        )


def _first_screen(directory: Path) -> FirstScreen:
    """Open the approval page of a server that nobody else uses."""
    database = directory / "page.db"
    product = CANDIDATES[-1]
    product.prefill(database, people=CUSTOMERS, tokens=0)
    with serving(
        f"{product.module}:create_app", _place(database), log=database.with_suffix(".log")
    ) as server:
        try:
            return first_screen(server.port)
        except OSError as error:
            raise BenchError(f"the page does not answer: {error}") from error


def _place(database: Path) -> str:
    return f"sqlite {database.parent} {database.name}"


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    # Written back now, so that it does not compete with the flushes to be measured.
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _line(one: Measurement) -> str:
    cycles = one.cycles
    return (
        f"round {one.round}  {one.tokens:>9,} tokens  {one.server:<8}{cycles.per_second:>7,.0f} cycles/s"
        f"  p50 {cycles.p50_ms:5.1f} ms  p99 {cycles.p99_ms:5.1f} ms  {one.cpu_us_per_cycle:5.0f} µs CPU"
    )


def _machine(directory: Path) -> dict[str, str | int | float]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "flush_us_p50": _flush_us(directory / "flush"),
    }


def _flush_us(path: Path) -> float:
    took: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1e6)
    path.unlink()
    return median(took)


if __name__ == "__main__":
    sys.exit(main())
