"""Several processes on one store: what each is told holds for all of them."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.factories import NOW, make_token, make_user
from tests.store.support import LIMITS, at_once
from tests.store.test_faults import integrity
from tests.stores import KINDS, Place
from watchword.domain.decision import Change, EventName
from watchword.domain.token import Cleared, OneTimeToken
from watchword.domain.user import UserId

ROOT = Path(__file__).parents[2]
PROCESSES = 3
TOKENS = 600

PROLOGUE = """
import asyncio, sys
from tests.factories import make_token, make_user
from tests.store.support import answer_wrongly, claim, spend
from watchword.domain.decision import Change
from watchword.domain.token import TokenId
from watchword.domain.user import UserId
from tests.stores import Place

place, name = Place.parse(sys.argv[1]), int(sys.argv[2])

def wait_for_the_others() -> None:
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def processes(place: Place, script: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Run *script* in several processes at once."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + script, str(place), str(name)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in range(PROCESSES)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield running
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def start(running: list[subprocess.Popen[str]]) -> None:
    """Let all of them begin at the same moment."""
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def killed(process: subprocess.Popen[str], lines: int) -> list[int]:
    """Kill a process once it printed some lines; return the numbers that it printed."""
    assert process.stdout is not None
    printed = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    # The last line may be cut short.
    return [int(line) for line in [*printed, *rest.splitlines(keepends=True)] if line.endswith("\n")]


def let_go(running: list[subprocess.Popen[str]]) -> list[list[int]]:
    """Let all of them run to their end; return the numbers that each of them printed."""
    start(running)
    printed: list[list[int]] = []
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        printed.append([int(number) for number in output.split()])
    return printed


@pytest.fixture(params=KINDS[1:])
def places(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Iterator[Place]:
    """Places that processes of one machine, or of several, may share; each is empty."""
    return (place_of(request.param).empty() for _ in itertools.count())


@pytest.fixture
def place(places: Iterator[Place]) -> Place:
    return next(places)


def assert_whole(place: Place) -> None:
    """Of a file SQLite itself can tell whether it was damaged."""
    if place.kind == "sqlite":
        assert integrity(Path(place.where) / place.name) == "ok"


async def test_a_token_is_spent_by_one_process_only(place: Place) -> None:
    """Each process tries each token, several at once; no token is spent twice, none is left over."""
    store = await place.open()
    await at_once(*(store.commit(Change(token=_ready(number))) for number in range(TOKENS)))
    script = f"""
async def main() -> None:
    store = await place.open()
    wait_for_the_others()
    for start in range(0, {TOKENS}, 5):
        numbers = range(start, start + 5)
        won = await asyncio.gather(*(spend(store, TokenId(number.to_bytes(32))) for number in numbers))
        print(*(number for number, this in zip(numbers, won) if this))
    await store.close()

asyncio.run(main())
"""
    with processes(place, script) as running:
        spent = let_go(running)
    assert sorted(number for each in spent for number in each) == list(range(TOKENS))
    assert sum(bool(each) for each in spent) > 1  # They did race.
    names = [entry.name for _, entry in await store.events(limit=2 * TOKENS)]
    assert names == [EventName.TOKEN_SPENT] * TOKENS
    await store.close()
    assert_whole(place)


async def test_a_thing_is_claimed_by_one_process_only(place: Place) -> None:
    """Each process claims each pair of things for a user of its own; of each pair one user has both."""
    store = await place.open()
    script = f"""
async def main() -> None:
    store = await place.open()
    wait_for_the_others()
    for start in range(0, {TOKENS}, 5):
        numbers = range(start, start + 5)
        claims = ([b"one %d" % number, b"two %d" % number] for number in numbers)
        users = [UserId(number * 10 + name) for number in numbers]
        won = await asyncio.gather(*(claim(store, user, *both) for user, both in zip(users, claims)))
        print(*(user for user, this in zip(users, won) if this))
    await store.close()

asyncio.run(main())
"""
    with processes(place, script) as running:
        won = let_go(running)
    owners = sorted(user for each in won for user in each)
    assert [user // 10 for user in owners] == list(range(TOKENS))
    assert sum(bool(each) for each in won) > 1  # They did race.
    for user in owners:
        for name in (b"one", b"two"):
            owner = await store.owner(b"%s %d" % (name, user // 10))
            assert owner is not None
            assert owner.user_id == user
    assert len(await store.events(limit=2 * TOKENS)) == TOKENS
    await store.close()
    assert_whole(place)


def _ready(number: int) -> OneTimeToken:
    return make_token(Cleared(NOW), id=number.to_bytes(32))


async def test_wrong_answers_are_counted_over_all_processes(place: Place) -> None:
    store = await place.open()
    assert await store.commit(Change(user=make_user()))
    await at_once(*(store.commit(Change(token=make_token(id=number.to_bytes(32)))) for number in range(30)))
    script = """
async def main() -> None:
    store = await place.open()
    wait_for_the_others()
    answers = (answer_wrongly(store, TokenId(number.to_bytes(32))) for number in range(30))
    print(sum(await asyncio.gather(*answers)))
    await store.close()

asyncio.run(main())
"""
    with processes(place, script) as running:
        looked_at = let_go(running)
    assert sum(number for each in looked_at for number in each) == LIMITS.failures
    await store.close()


async def test_processes_that_write_at_once_only_wait_for_each_other(place: Place) -> None:
    """No change of another record is refused, and none is told that the file is locked."""
    script = """
async def main() -> None:
    store = await place.open()
    wait_for_the_others()
    for number in range(100):
        own = UserId(number * 10 + name)
        assert await store.commit(Change(user=make_user(id=own)))
        assert await store.user(own) == make_user(id=own)
        print(own)
    await store.close()

asyncio.run(main())
"""
    with processes(place, script) as running:
        written = sorted(number for each in let_go(running) for number in each)
    assert len(written) == 100 * PROCESSES
    store = await place.open()
    assert all([await store.user(UserId(number)) for number in written])
    await store.close()


async def test_processes_that_start_at_once_make_one_store(places: Iterator[Place]) -> None:
    """Each makes file or schema if it is not there, and none is in the way of another."""
    script = """
async def main() -> None:
    wait_for_the_others()
    store = await place.open()
    assert await store.commit(Change(user=make_user(id=UserId(name))))
    print(name)
    await store.close()

asyncio.run(main())
"""
    for place in itertools.islice(places, 3):
        with processes(place, script) as running:
            assert let_go(running) == [[name] for name in range(PROCESSES)]
        store = await place.open()
        assert all([await store.user(UserId(name)) for name in range(PROCESSES)])
        await store.close()


async def test_a_process_that_is_killed_takes_nothing_with_it(places: Iterator[Place]) -> None:
    """What it acknowledged stays, the others go on, and the store is whole."""
    script = """
async def main() -> None:
    store = await place.open()
    wait_for_the_others()
    for number in range(10**6):
        own = UserId(number * 10 + name)
        assert await store.commit(Change(user=make_user(id=own)))
        print(own, flush=True)

asyncio.run(main())
"""
    for acknowledgements, place in zip((1, 20, 50), places, strict=False):
        with processes(place, script) as running:
            start(running)
            written = [number for process in running for number in killed(process, acknowledgements)]
        assert len(written) >= acknowledgements * PROCESSES
        store = await place.open()
        assert all([await store.user(UserId(number)) for number in written])
        await store.close()
        assert_whole(place)
