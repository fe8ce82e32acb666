"""
How fast the PostgreSQL store commits, beside a bare loop of the same statements over the same driver.

``python -m bench.postgres`` starts a server of its own. A change is a token, its user and an event; each
token is issued and changed three times, as in a step-up. The bare loop has its statements and arguments
made before; the store also has to encode records, and to keep order, deadlines and connections.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from tests.factories import make_token, make_user
from tests.store.postgres import Programs, Server
from tests.store.support import event
from watchword.domain.decision import Change
from watchword.domain.user import UserId
from watchword.store.postgres import PostgresStore, statements
from watchword.store.postgres.connection import Fence
from watchword.store.rows import Rows

CONNECTIONS = 10
WAITING = 32
VERSIONS = 4
FENCE = Fence(lineage="substring(pg_walfile_name(pg_current_wal_lsn()) for 8)", compared=True)
SESSION = {"search_path": "watchword", "enable_seqscan": "off", "jit": "off"}


def cycles(first: int, count: int) -> list[list[Change]]:
    """Return the changes of *count* step-ups, those of each in their order."""
    return [
        [
            Change(
                token=replace(make_token(id=number.to_bytes(32)), version=version),
                user=replace(make_user(id=UserId(number)), version=version),
                events=(event(),),
            )
            for version in range(1, VERSIONS + 1)
        ]
        for number in range(first, first + count)
    ]


async def through_the_store(url: str, first: int, count: int) -> float:
    """Commit *count* step-ups through the store; return commits per second."""
    store = await PostgresStore.open(url)
    await asyncio.gather(*(store.ping() for _ in range(5 * CONNECTIONS)))

    async def commit(change: Change) -> object:
        return await store.commit(change)

    rate = await _timed([commit] * WAITING, cycles(first, count))
    await store.close()
    return rate


async def bare(url: str, first: int, count: int) -> float:
    """Run the same statements over as many connections, and nothing else."""
    connections = [await asyncpg.connect(url, server_settings=SESSION) for _ in range(CONNECTIONS)]
    work = [[statements.commit(Rows(change), FENCE) for change in cycle] for cycle in cycles(first, count)]

    def running(connection: Any) -> Callable[[tuple[str, list[object]]], Awaitable[object]]:  # noqa: ANN401 - asyncpg's
        async def run(statement: tuple[str, list[object]]) -> object:
            return await connection.fetchval(statement[0], *statement[1]) == statements.STORED

        return run

    rate = await _timed([running(connection) for connection in connections], work)
    for connection in connections:
        await connection.close()
    return rate


async def _timed(
    workers: Sequence[Callable[[Any], Awaitable[object]]], work: Sequence[Sequence[Any]]
) -> float:
    left: Iterator[Sequence[Any]] = iter(work)

    async def drain(do: Callable[[Any], Awaitable[object]]) -> None:
        for cycle in left:
            for each in cycle:
                assert await do(each)

    started = time.perf_counter()
    await asyncio.gather(*(drain(do) for do in workers))
    return len(work) * VERSIONS / (time.perf_counter() - started)


KINDS = {"store": through_the_store, "bare": bare}


def main() -> None:
    """Compare both, with one and with two processes, turn about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "URL", "FIRST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, url, first = options.worker
        print(asyncio.run(KINDS[kind](url, int(first), options.cycles)))
        return
    with Programs() as programs, Server(programs) as server:
        server.create()
        server.start()
        _compare(server.url, options.cycles, options.rounds)


def _compare(url: str, count: int, rounds: int) -> None:
    first = 0
    for processes in (1, 2):
        rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind, found in rates.items():
                running = []
                for _ in range(processes):
                    first += count
                    command = [sys.executable, "-m", "bench.postgres", "--cycles", str(count)]
                    command += ["--worker", kind, url, str(first)]
                    running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                found.append(sum(float(process.communicate()[0]) for process in running))
        medians = {kind: sorted(found)[rounds // 2] for kind, found in rates.items()}
        print(
            f"{processes} process(es), commits/s, median of {rounds}:"
            f" store {medians['store']:.0f}, bare {medians['bare']:.0f},"
            f" ratio {medians['store'] / medians['bare']:.2f};"
            f" store {min(rates['store']):.0f} to {max(rates['store']):.0f},"
            f" bare {min(rates['bare']):.0f} to {max(rates['bare']):.0f}"
        )


if __name__ == "__main__":
    main()
