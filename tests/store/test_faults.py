"""
What a broken disk does to the store: it says so, stores nothing by halves, and recovers by itself.

Attack 154: within two seconds an error, nobody let through, no restart needed, nothing corrupt.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from tests.factories import GRACE, NOW, make_token, make_user
from tests.store.disk import Disk, Fault
from tests.store.support import at_once, claim, event, next_user, ready, spend, with_user
from watchword.domain.decision import Change
from watchword.domain.user import UserId
from watchword.store.base import StoreUnavailableError
from watchword.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
WRITING_FAULTS = (Fault.FULL, Fault.UNWRITABLE, Fault.UNSYNCABLE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path) as disk:
        yield disk


@pytest.fixture
async def store(disk: Disk, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "store.db", vfs=disk.name, checkpoint_pages=20)
    yield store
    disk.fault = None
    await store.close()


def integrity(file: Path) -> str:
    connection = apsw.Connection(str(file))
    result: str = connection.execute("PRAGMA integrity_check").get
    connection.close()
    return result


@pytest.mark.attack(154)
@pytest.mark.parametrize("fault", WRITING_FAULTS, ids=str)
async def test_a_broken_disk_is_told_and_the_store_recovers_by_itself(
    store: SqliteStore, disk: Disk, tmp_path: Path, fault: Fault
) -> None:
    token, user = await ready(store), await with_user(store)
    stored = await store.events()
    for _ in range(3):
        disk.fault = fault
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await spend(store, token.id)
            with pytest.raises(StoreUnavailableError):
                await store.commit(Change(user=next_user(user), events=(event(),)))
            with pytest.raises(StoreUnavailableError):
                await claim(store, GRACE, b"number")
        assert time.monotonic() - started < 2
        # What is stored can still be read, and is what it was.
        assert await store.token(token.id) == token
        assert await store.events() == stored
        assert await store.owner(b"number") is None
        disk.fault = None
        user = next_user(user)
        assert await store.commit(Change(user=user, events=(event(),)))
        stored = await store.events()
    assert await spend(store, token.id)
    assert not await spend(store, token.id)
    assert await claim(store, GRACE, b"number")
    await store.close()
    assert integrity(tmp_path / "store.db") == "ok"


@pytest.mark.attack(154)
async def test_everybody_in_a_group_that_fails_is_told(store: SqliteStore, disk: Disk) -> None:
    await ready(store)
    disk.fault = Fault.UNSYNCABLE
    ends = await asyncio.gather(
        *(store.commit(Change(user=make_user(id=UserId(number)))) for number in range(50)),
        return_exceptions=True,
    )
    assert all(type(end) is StoreUnavailableError for end in ends)
    assert len({id(end) for end in ends}) == 50


@pytest.mark.attack(154)
async def test_a_disk_that_cannot_be_read_is_told(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    store = SqliteStore.open(file, vfs=disk.name)
    token = await ready(store)
    await store.close()
    disk.fault = Fault.UNREADABLE
    with pytest.raises(StoreUnavailableError):
        SqliteStore.open(file, vfs=disk.name)
    disk.fault = None
    again = SqliteStore.open(file, vfs=disk.name)
    disk.fault = Fault.UNREADABLE
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await again.events()
    disk.fault = None
    assert await again.token(token.id) == token
    await again.close()


async def test_every_acknowledged_change_was_synced(store: SqliteStore, disk: Disk) -> None:
    """The cheap guard: without a sync there is no acknowledgement, whatever the tests of power loss draw."""
    for number in range(50):
        before = disk.syncs
        assert await store.commit(Change(token=make_token(id=number.to_bytes(32))))
        assert disk.syncs > before


async def test_the_cheap_guard_would_see_a_sync_that_is_missing(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db", vfs=disk.name, synchronous="OFF")
    before = disk.syncs
    assert await store.commit(Change(token=make_token()))
    assert disk.syncs == before
    await store.close()


async def test_changes_that_wait_together_share_a_sync(store: SqliteStore, disk: Disk) -> None:
    await ready(store)
    before = disk.syncs
    assert all(
        await at_once(*(store.commit(Change(user=make_user(id=UserId(number)))) for number in range(100)))
    )
    assert disk.syncs - before < 20


async def test_a_change_that_cannot_be_written_harms_no_other(store: SqliteStore) -> None:
    too_large = UserId(2**63)  # SQLite's integers end one earlier.
    changes = [Change(user=make_user(id=UserId(number))) for number in range(10)]
    changes.insert(5, Change(user=make_user(id=too_large), events=(event(),)))
    ends = await asyncio.gather(*(store.commit(change) for change in changes), return_exceptions=True)
    assert isinstance(ends.pop(5), StoreUnavailableError)
    assert ends == [True] * 10
    assert await store.events() == []


async def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    waiting = asyncio.ensure_future(store.commit(Change(token=make_token())))
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert await waiting
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.commit(Change(token=make_token()))
    with pytest.raises(StoreUnavailableError):
        await store.token(make_token().id)
    with pytest.raises(StoreUnavailableError):
        await store.sweep(NOW, limit=1)


async def test_too_many_that_wait_are_turned_away_at_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchword.store.group.WAITING_MAX", 10)
    ends = await asyncio.gather(
        *(store.commit(Change(user=make_user(id=UserId(number)))) for number in range(30)),
        return_exceptions=True,
    )
    assert sum(end is True for end in ends) == 10
    assert sum(isinstance(end, StoreUnavailableError) for end in ends) == 20
    assert await store.commit(Change(token=make_token()))


async def test_another_process_that_holds_the_file_too_long_is_told(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchword.store.group.BUSY_SECONDS", 0.05)
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        await store.commit(Change(token=make_token()))
    assert await store.token(make_token().id) is None
    other.execute("ROLLBACK")
    assert await store.commit(Change(token=make_token()))
    other.close()


async def test_nobody_waits_behind_others_who_wait_for_another_process(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as long as a write may wait, and not first as long as those before it."""
    monkeypatch.setattr("watchword.store.group.BUSY_SECONDS", 1.0)

    async def told_after(number: int, seconds: float) -> float:
        await asyncio.sleep(seconds)
        asked = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.commit(Change(token=make_token(id=number.to_bytes(32))))
        return time.monotonic() - asked

    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("BEGIN IMMEDIATE")
    waited = await asyncio.gather(*(told_after(number, number / 10) for number in range(10)))
    other.execute("ROLLBACK")
    other.close()
    assert min(waited) > 0.4
    assert max(waited) < 1.4
    assert await store.commit(Change(token=make_token()))


async def test_a_write_waits_for_another_process(store: SqliteStore, tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.commit(Change(token=make_token())))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    other.execute("ROLLBACK")
    other.close()
    assert await waiting


FILL = """
import asyncio, resource, sys
from dataclasses import replace
from tests.factories import make_token
from tests.store.support import event
from watchword.domain.decision import Change
from watchword.store.base import StoreUnavailableError
from watchword.store.sqlite import SqliteStore

async def main() -> None:
    store = SqliteStore.open(sys.argv[1])
    number, size = 0, 60 * 4096
    for _ in range(10):
        size += 30 * 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
        while True:
            try:
                assert await store.commit(Change(token=make_token(id=number.to_bytes(32)), events=(event(),)))
            except StoreUnavailableError:
                break
            number += 1
        for known in range(number):
            assert await store.token(make_token(id=known.to_bytes(32)).id)
        print(number, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    assert await store.commit(Change(token=make_token(id=b"after")))
    assert len(await store.events(limit=10**6)) == number
    await store.close()

asyncio.run(main())
"""


@pytest.mark.attack(154)
def test_files_that_may_not_grow_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The kernel itself refuses to write past a limit, which is raised ten times."""
    file = tmp_path / "store.db"
    done = subprocess.run(
        [sys.executable, "-c", FILL, file], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert len(acknowledged) == 10
    assert acknowledged[-1] > acknowledged[0] > 0
    assert integrity(file) == "ok"
