"""
What happens when PostgreSQL dies, freezes, fails over, or its answers are lost.

Real processes. Each promise stands beside a control: the same fault where the promise was not asked
for, which must break it, since a fault that breaks nothing proves nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import msgspec
import pytest

from tests.factories import NOW, make_token, make_user
from tests.store.postgres import SUPERUSER, Programs, Server, until
from tests.store.proxy import Proxy
from tests.store.support import event, next_user, next_version, ready, spend, with_user
from tests.stores import fresh_schema
from watchword.domain.decision import Change, EventName
from watchword.domain.token import Cleared, OneTimeToken, Spent, TokenId
from watchword.domain.user import UserId
from watchword.store.base import Store, StoreUnavailableError, UnusableStoreError
from watchword.store.postgres import PostgresSettings, PostgresStore

ANSWER_SECONDS = 2.0
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def victim(programs: Programs) -> Iterator[Server]:
    """A server that is broken again and again, and stands each time."""
    with Server(programs, settings={"max_connections": "20", "deadlock_timeout": "50ms"}) as server:
        server.create()
        server.start()
        yield server


@pytest.fixture
async def store(victim: Server) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(victim.url, settings=in_time())
    yield store
    await store.close()


def in_time() -> PostgresSettings:
    """Return the settings that we ship, in a schema of its own."""
    return PostgresSettings(schema=fresh_schema().schema)


def cleared(number: int) -> OneTimeToken:
    return make_token(Cleared(NOW), id=number.to_bytes(32))


async def recovered(store: Store) -> None:
    """Wait until the store answers again, by itself."""
    give_up = time.monotonic() + 20
    while True:
        try:
            await store.ping()
        except StoreUnavailableError:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        else:
            return


async def refused_in_time(work: Awaitable[object]) -> float:
    """Expect that the store says that it is not there; return how long that took."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await work
    took = time.monotonic() - started
    assert took < ANSWER_SECONDS
    return took


async def issued(store: Store, numbers: Sequence[int]) -> None:
    for number in numbers:
        assert await store.commit(Change(token=cleared(number)))


# --- one server -------------------------------------------------------------------------------


async def _write_until_it_dies(store: Store, first: int, acknowledged: list[int]) -> None:
    try:
        for number in range(first, first + 10**6):
            assert await store.commit(Change(user=make_user(id=UserId(number)), events=(event(user=number),)))
            acknowledged.append(number)
    except StoreUnavailableError:
        pass


@pytest.mark.attack(152)
async def test_nothing_acknowledged_is_lost_when_every_process_is_killed(
    victim: Server, store: PostgresStore
) -> None:
    """And the store goes on by itself. A default of the role's that would lose it is overruled."""
    victim.psql("ALTER ROLE tester SET synchronous_commit = off")
    acknowledged: list[int] = []
    for round_ in range(2):
        known = len(acknowledged)
        writers = [
            asyncio.ensure_future(_write_until_it_dies(store, (10 * round_ + n) * 10**7, acknowledged))
            for n in range(4)
        ]
        while len(acknowledged) < known + 300:
            assert not any(writer.done() for writer in writers)
            await asyncio.sleep(0.01)
        victim.kill()
        await asyncio.gather(*writers)
        victim.start()
        await recovered(store)
        for number in acknowledged:
            assert await store.user(UserId(number)) is not None
    told = {entry.details["user"] for _, entry in await store.events(limit=10**6)}
    assert told >= set(acknowledged)
    victim.psql("ALTER ROLE tester RESET synchronous_commit")


async def test_control_killing_loses_what_was_acknowledged_too_early(victim: Server) -> None:
    connection = await asyncpg.connect(victim.url)
    victim.psql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    victim.psql("SELECT pg_reload_conf()")
    await connection.execute("SET synchronous_commit = off; CREATE TABLE control (number bigint)")
    await connection.execute("CHECKPOINT")
    for number in range(300):
        await connection.execute("INSERT INTO control VALUES ($1)", number)
    victim.kill()
    connection.terminate()
    victim.start()
    assert int(victim.psql("SELECT count(*) FROM control")) < 300
    victim.psql("ALTER SYSTEM RESET wal_writer_delay")
    victim.psql("SELECT pg_reload_conf(); DROP TABLE control")


@pytest.mark.attack(155)
async def test_a_frozen_server_is_told_in_time_and_thaws_without_a_restart(
    victim: Server, store: PostgresStore
) -> None:
    user = await with_user(store)
    await issued(store, range(40))
    await asyncio.gather(*(store.ping() for _ in range(20)))
    victim.freeze()
    try:
        many = [refused_in_time(spend(store, TokenId(number.to_bytes(32)))) for number in range(30)]
        many += [refused_in_time(store.user(user.id)), refused_in_time(store.ping())]
        await asyncio.gather(*many)
        # It is known by now: nobody waits any more.
        for _ in range(100):
            assert await refused_in_time(store.commit(Change(user=next_user(user)))) < 0.5
    finally:
        victim.thaw()
    await recovered(store)
    for number in range(40):
        await spend(store, TokenId(number.to_bytes(32)))
    # What was asked while it was frozen happened or not; never twice.
    spent = [entry for _, entry in await store.events() if entry.name is EventName.TOKEN_SPENT]
    assert len(spent) == 40


@pytest.mark.attack(155)
async def test_a_server_that_goes_and_comes_is_found_again(victim: Server, store: PostgresStore) -> None:
    user = await with_user(store)
    await asyncio.gather(*(store.ping() for _ in range(20)))
    victim.stop()
    try:
        await asyncio.gather(*(refused_in_time(store.ping()) for _ in range(50)))
        for _ in range(100):
            assert await refused_in_time(store.user(user.id)) < 0.5
        with pytest.raises(StoreUnavailableError):
            await PostgresStore.open(victim.url, settings=in_time())
    finally:
        victim.start()
    await recovered(store)
    assert await store.user(user.id) == user


@pytest.mark.attack(155)
async def test_no_connection_left_is_told_and_over_once_there_is_one(victim: Server) -> None:
    settings = in_time()
    store = await PostgresStore.open(victim.url, settings=settings)
    others: list[Any] = []
    try:
        await _take_every_connection(victim, others)
        await asyncio.gather(*(refused_in_time(store.ping()) for _ in range(20)))
    finally:
        for other in others:
            other.terminate()
    await recovered(store)
    await store.close()


async def _take_every_connection(server: Server, taken: list[Any]) -> None:
    while True:
        try:
            taken.append(await asyncpg.connect(server.url))
        except asyncpg.TooManyConnectionsError:
            return


@pytest.mark.attack(157)
async def test_an_answer_that_is_lost_after_its_commit_leaves_one_verdict(victim: Server) -> None:
    settings = msgspec.structs.replace(in_time(), pool_size=1)
    async with Proxy(victim.port) as proxy:
        url = f"postgresql://{SUPERUSER}@127.0.0.1:{proxy.port}/postgres"
        store = await PostgresStore.open(url, settings=settings)
        for number in range(5):
            # So that the statement is prepared: the next answer is that of its execution.
            assert await spend(store, (await ready(store, b"other %d" % number)).id)
            token = await ready(store, number.to_bytes(32))
            change = Change(
                token=replace(next_version(token), state=Spent(NOW)), events=(event(EventName.TOKEN_SPENT),)
            )
            proxy.lose_the_next_answer()
            with pytest.raises(StoreUnavailableError):
                await store.commit(change)
            assert proxy.lost == number + 1
            await recovered(store)
            # Whoever repeats it learns that it happened, and it happened once.
            assert not await store.commit(change)
            assert not await spend(store, token.id)
        assert [entry.name for _, entry in await store.events()] == [EventName.TOKEN_SPENT] * 10
        await store.close()


async def test_a_change_waits_no_longer_for_another_than_it_may(victim: Server) -> None:
    settings = msgspec.structs.replace(in_time(), lock_seconds=0.2)
    store = await PostgresStore.open(victim.url, settings=settings)
    user = await with_user(store)
    other = await asyncpg.connect(victim.url, server_settings={"search_path": settings.schema})
    async with other.transaction():
        await other.execute("SELECT 1 FROM user_security FOR UPDATE")
        assert await refused_in_time(store.commit(Change(user=next_user(user)))) > 0.2
    assert await store.commit(Change(user=next_user(user)))
    await other.close()
    await store.close()


async def test_whoever_loses_a_deadlock_tries_again(victim: Server) -> None:
    settings = in_time()
    store = await PostgresStore.open(victim.url, settings=settings)
    user, token = await with_user(store), await ready(store)
    there = {"search_path": settings.schema}
    other, watching = [await asyncpg.connect(victim.url, server_settings=there) for _ in range(2)]
    for _ in range(20):
        user, token, other_lost = next_user(user), next_version(token), False
        held = other.transaction()
        await held.start()
        await other.execute("SELECT 1 FROM token FOR UPDATE")
        both = asyncio.ensure_future(store.commit(Change(user=user, token=token)))
        await waits_for_a_lock(watching)
        try:
            # Now each has what the other wants, and the server stops whoever has waited for 50 ms.
            await other.execute("SELECT 1 FROM user_security FOR UPDATE")
        except asyncpg.DeadlockDetectedError:
            other_lost = True
        await held.rollback()
        assert await both
        if not other_lost:
            break
    else:
        pytest.fail("it was never the store that lost")
    for each in (store, other, watching):
        await each.close()


async def waits_for_a_lock(watching: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while not await watching.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ):
            pass


async def test_what_fails_again_and_again_is_given_up(victim: Server) -> None:
    settings = in_time()
    store = await PostgresStore.open(victim.url, settings=settings)
    other = await asyncpg.connect(victim.url, server_settings={"search_path": settings.schema})
    await other.execute("""
        CREATE SEQUENCE tries;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON user_security EXECUTE FUNCTION fail()
    """)
    with pytest.raises(StoreUnavailableError, match="injected"):
        await store.commit(Change(user=make_user()))
    assert await other.fetchval("SELECT last_value FROM tries") == 3
    await other.execute("DROP TRIGGER fail ON user_security")
    assert await store.commit(Change(user=make_user()))
    await other.close()
    await store.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_would_lose_what_it_acknowledged_is_refused(victim: Server, setting: str) -> None:
    victim.stop()
    kept = dict(victim.settings)
    try:
        victim.settings[setting] = "off"
        victim.start()
        with pytest.raises(UnusableStoreError, match=f"{setting} = off .* switch it on"):
            await PostgresStore.open(victim.url, settings=in_time())
    finally:
        victim.stop()
        victim.settings = kept
        victim.start()


# --- a primary and its standby ----------------------------------------------------------------


class Pair:
    """A primary and a standby, and how to reach whichever is the primary."""

    def __init__(self, programs: Programs) -> None:
        self.primary, self.standby = Server(programs), Server(programs)

    @property
    def url(self) -> str:
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://{SUPERUSER}@{hosts}/postgres"

    def start(self) -> None:
        self.primary.create()
        self.primary.start()
        self.standby.copy(self.primary)
        self.standby.start()
        self.caught_up()

    def caught_up(self) -> None:
        """Wait until the standby has all that was written."""
        behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
        until(lambda: self.primary.psql(behind) == "1", "the standby is behind")

    def wait_for_the_standby(self) -> None:
        """Make each commit wait until the standby has it too."""
        self.primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.psql("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        until(lambda: self.primary.psql(state) == "sync", "the standby does not count")

    def stall(self) -> int:
        """Stop sending to the standby; without this all that was acknowledged would be there already."""
        sender = self.primary.process("walsender")
        self.primary.signal(sender, frozen=True)
        return sender

    def close(self) -> None:
        self.primary.close()
        self.standby.close()


@pytest.fixture
def pair(programs: Programs) -> Iterator[Pair]:
    pair = Pair(programs)
    try:
        pair.start()
        yield pair
    finally:
        pair.close()


@pytest.mark.attack(158)
async def test_a_spend_that_a_failover_loses_is_no_second_spend(pair: Pair) -> None:
    """With the fence what was issued before is void on the new primary; without it spends are repeated."""
    settings = {fence: msgspec.structs.replace(in_time(), fence=fence) for fence in ("auto", "off")}
    stores = {fence: await PostgresStore.open(pair.url, settings=each) for fence, each in settings.items()}
    told: list[str] = []
    for fence, store in stores.items():
        store.on_new_lineage = lambda fence=fence: told.append(fence)
        await with_user(store)
        await issued(store, range(40))
        assert await store.commit(Change(events=(event(number=1),)))
    seen = {fence: (await store.events())[-1][0] for fence, store in stores.items()}
    pair.caught_up()
    with pytest.raises(UnusableStoreError, match="standby"):
        await PostgresStore.open(pair.standby.url, settings=settings["auto"])
    pair.stall()
    for store in stores.values():
        assert all([await spend(store, cleared(number).id) for number in range(30)])
    # The standby takes over while the primary still runs, cut off: neither knows of the other.
    pair.standby.promote()
    promoted = {
        fence: await PostgresStore.open(pair.standby.url, settings=each) for fence, each in settings.items()
    }
    on_the_old = {f: [await _spends(store, n) for n in range(30, 40)] for f, store in stores.items()}
    on_the_new = {f: [await _spends(store, n) for n in range(40)] for f, store in promoted.items()}
    assert on_the_old == {"auto": [True] * 10, "off": [True] * 10}
    assert on_the_new == {"auto": [False] * 40, "off": [True] * 40}
    # Void means unknown, and nothing can be stored from it.
    assert await promoted["auto"].token(cleared(1).id) is None
    assert not await promoted["auto"].commit(Change(token=next_version(cleared(1))))
    # Who was connected to the old one goes over, and goes on: other records and new tokens are good.
    pair.primary.kill()
    assert told == []
    for fence, store in stores.items():
        await recovered(store)
        assert await store.user(make_user().id) == make_user()
        assert await store.commit(Change(token=cleared(100), events=(event(number=2),)))
        assert await spend(store, cleared(100).id)
        # Nothing that is told from now on is hidden behind numbers that were lost.
        news = [entry for _, entry in await store.events(after=seen[fence] + 1000)]
        assert event(number=2) in news
    assert set(told) == {"auto", "off"}
    for store in (*stores.values(), *promoted.values()):
        await store.close()


async def _spends(store: Store, number: int) -> bool:
    token_id = cleared(number).id
    return await store.token(token_id) is not None and await spend(store, token_id)


@pytest.mark.attack(158)
async def test_a_synchronous_standby_has_all_that_was_acknowledged(pair: Pair) -> None:
    """And what waits for it is unknown, never a success; not even if somebody cancels the wait."""
    pair.wait_for_the_standby()
    settings = msgspec.structs.replace(in_time(), pool_size=4)
    store = await PostgresStore.open(pair.url, settings=settings)
    await issued(store, range(20))
    assert all([await spend(store, cleared(number).id) for number in range(15)])
    sender = pair.stall()
    # A caller's time is up, but nobody cancels: the standby comes back, and it has happened.
    await refused_in_time(store.commit(Change(user=make_user())))
    pair.primary.signal(sender, frozen=False)
    await recovered(store)
    assert await store.user(make_user().id) == make_user()
    pair.stall()
    # Somebody cancels: the server says that all is well, and warns.
    doubtful = asyncio.ensure_future(store.commit(Change(token=next_version(cleared(19)))))
    await asyncio.to_thread(until, lambda: pair.primary.psql(WAITING), "it does not wait")
    pair.primary.psql(f"SELECT pg_cancel_backend(({WAITING}))")
    with pytest.raises(StoreUnavailableError, match="doubt"):
        await doubtful
    # Closing cancels nothing either.
    closing = asyncio.ensure_future(store.commit(Change(user=make_user(id=UserId(7)))))
    await asyncio.to_thread(until, lambda: pair.primary.psql(WAITING), "it does not wait")
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await closing
    assert pair.primary.psql(WAITING)
    pair.primary.kill()
    pair.standby.promote()
    pair.standby.psql("ALTER SYSTEM RESET synchronous_standby_names")
    pair.standby.psql("SELECT pg_reload_conf()")
    unfenced = msgspec.structs.replace(settings, fence="off")
    store = await PostgresStore.open(pair.url, settings=unfenced)
    assert [await _spends(store, number) for number in range(20)] == [False] * 15 + [True] * 5
    await store.close()


async def test_control_a_cancelled_wait_for_a_standby_looks_like_a_success(pair: Pair) -> None:
    pair.wait_for_the_standby()
    connection = await asyncpg.connect(pair.primary.url)
    await connection.execute("CREATE TABLE control (number bigint)")
    pair.stall()
    insert = asyncio.ensure_future(connection.execute("INSERT INTO control VALUES (1)"))
    await asyncio.to_thread(until, lambda: pair.primary.psql(WAITING), "it does not wait")
    pair.primary.psql(f"SELECT pg_cancel_backend(({WAITING}))")
    assert await insert == "INSERT 0 1"
    connection.terminate()
    pair.primary.kill()
    pair.standby.promote()
    assert pair.standby.psql("SELECT count(*) FROM control") == "0"
