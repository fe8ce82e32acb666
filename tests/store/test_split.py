"""What the split store promises: when who changes both sides dies, and when one side loses what it had."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from tests.factories import ADA, GRACE, NOW, make_credential, make_token, make_user
from tests.store.postgres import Programs, Server
from tests.store.support import (
    event,
    make_application,
    make_owner,
    next_user,
    next_version,
    spend,
)
from tests.store.valkey import ALWAYS, Server as ValkeyServer, empty, patient, shared_cluster, shared_server
from tests.stores import fresh_schema
from watchword.domain.credential import Pin
from watchword.domain.decision import Change, EventName
from watchword.domain.instant import after
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.lockout import Attempts, Tally
from watchword.domain.method import CredentialKind
from watchword.domain.token import Cleared, Spent, TokenId
from watchword.domain.user import OpenToken, UserId, UserSecurity
from watchword.serving.settings import Deployment, UnusableDeploymentError, parse
from watchword.serving.stores import open_store, pending_steps, watch_lineage
from watchword.store.base import StoreCorruptError, StoreUnavailableError, UnreadableUser
from watchword.store.postgres import PostgresSettings, PostgresStore
from watchword.store.split import SplitStore
from watchword.store.split.ledger import Ledger
from watchword.store.valkey import ValkeySettings, ValkeyStore, Waiting
from watchword.store.valkey.changes import Changes
from watchword.store.valkey.link import Link

PHONE = make_user(CredentialKind.PHONE)
BOTH = (*PHONE.credentials, make_credential(CredentialKind.PIN))
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
LOCKED = Attempts(failures=Tally(3, NOW), locked_until=after(NOW, 60))


class Ground:
    """Two servers, and places there that nobody else uses."""

    def __init__(self, tokens: str, postgres: Server, *, valkey: ValkeySettings | None = None) -> None:
        self.users: PostgresSettings = fresh_schema()
        self.valkey = valkey or patient(self.users.schema)
        self.postgres = postgres
        self._tokens = tokens
        self._opened: list[SplitStore | PostgresStore] = []

    async def open(self) -> SplitStore:
        """Open a store, one of several on the same servers."""
        users = await PostgresStore.open(self.postgres.url, settings=self.users)
        store = await SplitStore.of(await ValkeyStore.open(self._tokens, settings=self.valkey), users)
        self._opened.append(store)
        return store

    async def open_users(self) -> PostgresStore:
        """Open what is kept in PostgreSQL, as a store that is not split."""
        store = await PostgresStore.open(self.postgres.url, settings=self.users)
        self._opened.append(store)
        return store

    def sql(self, statement: str) -> str:
        """Ask PostgreSQL, past every store."""
        return self.postgres.psql(f"SET search_path = {self.users.schema}; {statement}")

    def decisions(self) -> int:
        """Count what is still known of changes that reached both sides."""
        return int(self.sql("SELECT count(*) FROM decision"))

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture(params=["server", "cluster"])
async def ground(request: pytest.FixtureRequest, postgres: Server) -> AsyncIterator[Ground]:
    tokens = shared_server() if request.param == "server" else shared_cluster()
    ground = Ground(tokens.url, postgres)
    yield ground
    await ground.close()


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A server that a test may break."""
    server = ValkeyServer(**ALWAYS)
    yield server
    server.remove()


@pytest.fixture
async def fragile(valkey: ValkeyServer, postgres: Server) -> AsyncIterator[Ground]:
    """A ground whose Valkey may be broken."""
    ground = Ground(valkey.url, postgres)
    yield ground
    await ground.close()


def token(user_id: UserId = ADA, *, id: bytes = b"token") -> Change:
    """Begin a token that is ready to be spent."""
    return Change(token=replace(make_token(Cleared(NOW), id=id), user_id=user_id))


def pin(sealed: bytes) -> Pin:
    """Make a PIN that is another one."""
    return Pin(id="pin", sealed=sealed, enrolled_at=NOW)


async def enrol(store: SplitStore) -> bool:
    """Add a PIN to Ada's phone, for which a token is spent, and a number claimed."""
    user, approval = await store.user(ADA), await store.token(TokenId(b"token"))
    assert user is not None
    assert approval is not None
    return await store.commit(
        Change(
            user=replace(next_user(user), credentials=BOTH, attempts=LOCKED),
            token=replace(next_version(approval), state=Spent(NOW)),
            owners=(make_owner(),),
            events=(event(EventName.CREDENTIALS_CHANGED),),
        )
    )


async def enrolled(ground: Ground) -> SplitStore:
    """Open a store with Ada, who has a phone, and a token of hers."""
    store = await ground.open()
    assert await store.commit(Change(user=PHONE))
    assert await store.commit(token())
    return store


async def assert_nothing_of_it(store: SplitStore) -> None:
    assert await store.user(ADA) == PHONE
    approval = await store.token(TokenId(b"token"))
    assert approval is not None
    assert approval.state == Cleared(NOW)
    assert await store.owner(make_owner().id) is None
    assert await store.events() == []


async def assert_all_of_it(store: SplitStore) -> None:
    user = await store.user(ADA)
    assert user == replace(next_user(PHONE), credentials=BOTH, attempts=LOCKED)
    approval = await store.token(TokenId(b"token"))
    assert approval is not None
    assert approval.state == Spent(NOW)
    assert await store.owner(make_owner().id) == make_owner()
    assert [entry.name for _, entry in await store.events()] == [EventName.CREDENTIALS_CHANGED]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is the case."""
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110 - it happens in a server.
            await asyncio.sleep(0.02)


async def nothing(*_: object) -> None:
    """Stand for what somebody who died did not do."""


async def dies(*_: object) -> bool:
    """Stand for what somebody died in."""
    raise StoreUnavailableError("died")


# --- a change of both -----------------------------------------------------------------------------


async def test_a_change_of_both_sides_leaves_nothing_behind(ground: Ground) -> None:
    store = await enrolled(ground)
    assert await enrol(store)
    await assert_all_of_it(await ground.open())

    async def settled() -> bool:
        return not ground.decisions()

    await until(settled)


async def test_who_dies_before_it_is_decided_has_changed_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever meets the intents ends them; what then comes late from the dead is refused."""
    store, other, decide = await enrolled(ground), await ground.open(), Ledger.decide
    late: list[Callable[[], Awaitable[bool]]] = []

    async def dying(ledger: Ledger, change: Change, commit: bytes, reach: bytes) -> bool:
        late.append(partial(decide, ledger, change, commit, reach))
        raise StoreUnavailableError("died")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", dying)
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
    await assert_nothing_of_it(other)
    [come_late] = late
    assert not await come_late()
    await assert_nothing_of_it(other)
    assert await enrol(other)
    await assert_all_of_it(other)


async def test_who_dies_while_records_take_intents_has_changed_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = await enrolled(ground), await ground.open()
    calls = store._tokens.link.call  # noqa: SLF001 - the only place where one of several is seen.

    async def dying(function: str, *arguments: list[bytes]) -> object:
        answer = await calls(function, *arguments)
        if function == "prepare":
            raise StoreUnavailableError("died")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(store._tokens.link, "call", dying)  # noqa: SLF001 - as above.
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
    await assert_nothing_of_it(other)
    assert await enrol(store)
    await assert_all_of_it(other)


async def test_who_dies_after_it_was_decided_has_changed_everything(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = await enrolled(ground), await ground.open()
    with monkeypatch.context() as patch:
        patch.setattr(Changes, "settle", nothing)
        assert await enrol(store)
    assert ground.decisions() == 1
    await assert_all_of_it(other)
    await other.sweep(NOW, limit=100)
    assert ground.decisions() == 0
    await assert_all_of_it(other)


async def test_a_sweep_settles_what_nobody_met(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = await enrolled(ground), await ground.open()
    with monkeypatch.context() as patch:
        patch.setattr(Changes, "settle", nothing)
        assert await enrol(store)
    await other.sweep(NOW, limit=100)
    assert ground.decisions() == 0
    await assert_all_of_it(other)


async def test_who_does_not_hear_what_was_decided_is_told_that_nobody_knows(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL did it and the answer was lost: the change holds, on both sides."""
    store, decide = await enrolled(ground), Ledger.decide

    async def unheard(ledger: Ledger, change: Change, commit: bytes, reach: bytes) -> bool:
        assert await decide(ledger, change, commit, reach)
        raise StoreUnavailableError("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", unheard)
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
    await assert_all_of_it(store)


async def test_what_was_decided_is_kept_while_an_intent_may_come_back(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was settled, and replicas may not have that yet."""
    store, decide = await enrolled(ground), Ledger.decide

    async def decided(ledger: Ledger, change: Change, commit: bytes, reach: bytes) -> bool:
        done = await decide(ledger, change, commit, reach)
        monkeypatch.setattr(Link, "replicated", dies)
        return done

    monkeypatch.setattr(Ledger, "decide", decided)
    assert await enrol(store)
    await store.close()
    assert ground.decisions() == 1
    monkeypatch.undo()
    other = await ground.open()
    await other.sweep(NOW, limit=100)
    assert ground.decisions() == 0
    await assert_all_of_it(other)


async def test_a_change_is_done_or_ended_and_never_both(ground: Ground) -> None:
    store = await ground.open()
    ledger = Ledger(await ground.open_users())
    done = 0
    for number in range(40):
        commit = b"commit %d" % number
        kept = Change(owners=(make_owner(id=commit),))
        decided, outcome = await asyncio.gather(
            ledger.decide(kept, commit, b"reach"), ledger.outcome(commit, end=True)
        )
        assert outcome == (b"done" if decided else b"undone")
        assert outcome == await ledger.outcome(commit, end=True)
        assert (await store.owner(commit) is not None) is decided
        done += decided
    assert await ledger.outcome(b"another", end=False) == b"open"
    assert ground.decisions() == 40
    assert len(await ledger.unsettled(limit=100)) == done


async def test_a_change_that_is_slow_is_ended_and_decided_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another loses patience with it; what it decided from still holds, and it may try again."""
    store, other, go = await enrolled(ground), await ground.open(), asyncio.Event()
    decide = Ledger.decide

    async def slow(ledger: Ledger, change: Change, commit: bytes, reach: bytes) -> bool:
        begun.set()
        await go.wait()
        return await decide(ledger, change, commit, reach)

    begun = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", slow)
        enrolling = asyncio.create_task(enrol(store))
        await begun.wait()
        assert await other.user(ADA) == PHONE
        go.set()
        assert not await enrolling
    assert await enrol(store)
    await assert_all_of_it(other)


async def test_what_came_to_nothing_is_forgotten_a_day_later(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await enrolled(ground)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", dies)
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
    await assert_nothing_of_it(store)
    for younger, left in (("1 minute", 1), ("0", 0)):
        ground.sql(f"UPDATE decision SET made_at = now() - interval '1 day' + interval '{younger}'")  # noqa: S608 - ours.
        await store.sweep(NOW, limit=100)
        assert ground.decisions() == left


async def test_of_two_who_change_credentials_from_the_same_one_comes_too_late(ground: Ground) -> None:
    one, other = await enrolled(ground), await ground.open()
    for number in range(10):
        user = await one.user(ADA)
        assert user is not None
        assert await other.user(ADA) == user
        changed = [replace(next_user(user), credentials=(pin(b"%d %d" % (number, who)),)) for who in range(2)]
        won = await asyncio.gather(one.commit(Change(user=changed[0])), other.commit(Change(user=changed[1])))
        assert sorted(won) == [False, True]
        assert await one.user(ADA) == await other.user(ADA) == changed[won.index(True)]


async def test_credentials_decided_from_what_is_past_are_not_stored(ground: Ground) -> None:
    """A failure that was counted meanwhile is in Valkey alone, and stops it all the same."""
    one, other = await enrolled(ground), await ground.open()
    assert await other.commit(Change(user=replace(next_user(PHONE), attempts=LOCKED)))
    assert not await one.commit(Change(user=replace(next_user(PHONE), credentials=BOTH)))
    assert not await one.commit(Change(seen=PHONE, owners=(make_owner(),)))
    user = await one.user(ADA)
    assert user == replace(next_user(PHONE), attempts=LOCKED)
    assert await one.commit(Change(seen=user, owners=(make_owner(),)))
    assert await other.owner(make_owner().id) == make_owner()
    assert await other.user(ADA) == user


# --- a side that loses what it had ----------------------------------------------------------------


async def test_a_valkey_that_is_emptied_takes_tokens_and_locks_with_it_and_no_credential(
    fragile: Ground, valkey: ValkeyServer
) -> None:
    store = await enrolled(fragile)
    assert await enrol(store)
    enrolled_last = await store.user(ADA)
    assert enrolled_last is not None
    before = next_user(enrolled_last)
    assert await store.commit(Change(user=before))
    assert await store.events()
    empty(valkey)
    assert [user.id for user in await store.users()] == [ADA]
    user = await store.user(ADA)
    assert user is not None
    assert (user.credentials, user.attempts) == (BOTH, UserSecurity(id=ADA).attempts)
    assert await store.token(TokenId(b"token")) is None
    # Nothing that was decided before fits any more.
    assert user.version > before.version
    assert not await store.commit(Change(user=next_user(before)))
    assert await store.commit(Change(user=next_user(user)))
    assert await (await fragile.open()).user(ADA) == next_user(user)
    # Nor is an event let by, as if it had arrived already.
    assert await store.commit(replace(token(), events=(event(number=1),)))
    assert [entry.name for _, entry in await store.events()] == [
        EventName.CREDENTIALS_CHANGED,
        EventName.TOKEN_ISSUED,
    ]


@pytest.mark.parametrize("changed_meanwhile", [False, True])
async def test_who_lost_his_intents_overwrites_no_credentials(
    fragile: Ground, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, changed_meanwhile: bool
) -> None:
    """Valkey forgot that he was about to change them; PostgreSQL knows from what he did."""
    store, other, decide = await enrolled(fragile), await fragile.open(), Ledger.decide
    late: list[Callable[[], Awaitable[bool]]] = []

    async def slow(ledger: Ledger, change: Change, commit: bytes, reach: bytes) -> bool:
        late.append(partial(decide, ledger, change, commit, reach))
        raise StoreUnavailableError("it takes long")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", slow)
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
    empty(valkey)
    user = await other.user(ADA)
    assert user is not None
    assert user.credentials == PHONE.credentials
    if changed_meanwhile:
        user = replace(next_user(user), credentials=(pin(b"another"),))
        assert await other.commit(Change(user=user))
    [come_late] = late
    assert await come_late() is not changed_meanwhile
    left = await other.user(ADA)
    assert left is not None
    assert left.credentials == (user.credentials if changed_meanwhile else BOTH)
    assert await other.token(TokenId(b"token")) is None


async def test_a_failover_of_valkey_that_loses_a_change_of_credentials_does_not_undo_it(
    postgres: Server,
) -> None:
    primary, replica = ValkeyServer(), ValkeyServer()
    replica.follow(primary)
    ground = Ground(
        f"{primary.url},127.0.0.1:{replica.port}",
        postgres,
        valkey=ValkeySettings(replicas=0, fsync=False, timeout_seconds=1.9),
    )
    try:
        store = await enrolled(ground)
        told: list[None] = []
        store.on_new_lineage = lambda: told.append(None)

        async def caught_up() -> bool:
            return len(replica.tell("KEYS", "*:s:*")) == 1 and len(replica.tell("KEYS", "*:t:*")) == 1

        await until(caught_up)
        replica.tell("REPLICAOF", "NO", "ONE")
        assert await enrol(store)
        primary.kill()

        async def seen() -> bool:
            return bool(told)

        await until(seen)
        other = await _again(ground)
        user = await other.user(ADA)
        assert user is not None
        assert user.credentials == BOTH
        assert user.attempts == PHONE.attempts  # Lost, with the primary.
        assert await other.token(TokenId(b"token")) is None
        assert await other.owner(make_owner().id) == make_owner()
        assert await other.commit(Change(user=replace(next_user(user), credentials=PHONE.credentials)))
        user = await other.user(ADA)
        assert user is not None
        assert user.credentials == PHONE.credentials
    finally:
        await ground.close()
        primary.remove()
        replica.remove()


async def test_what_was_read_of_a_server_that_was_taken_over_from_meanwhile_is_not_remembered(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it a change would be taken for one that leaves credentials alone, though it removes them."""
    store = await enrolled(ground)
    look_up = PostgresStore.user

    async def slow(users: PostgresStore, user_id: UserId) -> UserSecurity | None:
        store._begin_anew()  # noqa: SLF001 - what either side calls.
        return await look_up(users, user_id)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresStore, "user", slow)
        assert await store.user(ADA) == PHONE
    assert ADA not in store._known  # noqa: SLF001 - it shows only where versions come again.


async def _again(ground: Ground) -> SplitStore:
    for _ in range(100):
        with suppress(StoreUnavailableError):
            return await ground.open()
        await asyncio.sleep(0.05)
    raise AssertionError("it does not open again")


async def test_credentials_that_postgresql_lost_are_lost_and_what_was_decided_from_them_is_past(
    ground: Ground,
) -> None:
    """As with an asynchronous standby, or a copy that was restored."""
    store = await enrolled(ground)
    ground.sql("CREATE TABLE copy AS SELECT * FROM user_security")
    assert await enrol(store)
    before = await store.user(ADA)
    assert before is not None
    ground.sql("DELETE FROM user_security; INSERT INTO user_security SELECT * FROM copy")
    user = await store.user(ADA)
    assert user is not None
    assert (user.credentials, user.attempts) == (PHONE.credentials, LOCKED)
    assert not await store.commit(Change(user=next_user(before)))
    assert await store.commit(Change(user=replace(next_user(user), credentials=BOTH)))
    assert await (await ground.open()).user(ADA) == replace(next_user(user), credentials=BOTH)


async def test_users_that_were_not_split_before_keep_credentials_and_locks(ground: Ground) -> None:
    users = await ground.open_users()
    old = replace(
        PHONE, attempts=LOCKED, session_until=after(NOW, 60), open_tokens=(OpenToken(b"t", after(NOW, 60)),)
    )
    assert await users.commit(Change(user=old))
    assert await users.commit(Change(user=replace(next_user(old))))
    store = await ground.open()
    user = await store.user(ADA)
    assert user is not None
    assert (user.credentials, user.attempts) == (PHONE.credentials, LOCKED)
    assert (user.session_until, user.open_tokens) == (UserSecurity(id=ADA).session_until, ())
    assert await store.commit(Change(user=replace(next_user(user), credentials=BOTH)))
    assert await store.users() == [await store.user(ADA)]


async def test_while_postgresql_is_away_nothing_is_decided_there_and_nothing_lost(
    programs: Programs,
) -> None:
    """What Valkey alone decides goes on, and its events arrive when there is a trail again."""
    with Server(programs) as server:
        server.create()
        server.start()
        ground = Ground(shared_server().url, server)
        store = await enrolled(ground)
        user = await store.user(ADA)
        assert user is not None
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await enrol(store)
        with pytest.raises(StoreUnavailableError):
            await store.commit(Change(application=make_application()))
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        assert await spend(store, TokenId(b"token"))
        assert await store.commit(Change(user=replace(next_user(user), attempts=LOCKED)))
        server.start()

        async def well() -> bool:
            with suppress(StoreUnavailableError):
                await store.ping()
                return True
            return False

        await until(well)
        assert await store.user(ADA) == replace(next_user(user), attempts=LOCKED)
        assert [entry.name for _, entry in await store.events()] == [EventName.TOKEN_SPENT]
        await ground.close()


@pytest.fixture
async def standalone(programs: Programs) -> AsyncIterator[Ground]:
    """A ground whose PostgreSQL may be broken."""
    with Server(programs) as server:
        server.create()
        server.start()
        ground = Ground(shared_server().url, server)
        ground.users = structs.replace(ground.users, statement_seconds=0.5)
        yield ground
        await ground.close()


async def cut_off(ground: Ground, store: SplitStore) -> None:
    """Let PostgreSQL read on, and store nothing: its standby is gone, or was promoted in its place."""
    # Over several connections, so that one that waits is not in the way of who reads.
    await asyncio.gather(*(store.user(UserId(number)) for number in range(100, 120)))
    ground.postgres.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    ground.postgres.psql("SELECT pg_reload_conf()")
    users = await ground.open_users()

    async def stores_nothing() -> bool:
        try:
            await users.commit(Change(events=(event(number=0),)))
        except StoreUnavailableError:
            return True
        return False

    await until(stores_nothing)


async def test_a_change_that_postgresql_cannot_store_stands_in_the_way_of_the_next(
    standalone: Ground,
) -> None:
    """It may be stored yet: whoever was told that nobody knows may try again, and finds out."""
    store = await enrolled(standalone)
    await cut_off(standalone, store)
    assert await store.commit(
        replace(token(id=b"another"), events=(event(number=1),))
    )  # It waits to be moved.
    removed = replace(next_user(PHONE), credentials=())
    with pytest.raises(StoreUnavailableError):
        await store.commit(Change(user=removed))
    with pytest.raises(StoreUnavailableError):
        await store.commit(Change(user=next_user(PHONE)))


async def test_a_postgresql_that_was_replaced_brings_no_credential_back_that_was_removed(
    standalone: Ground,
) -> None:
    """It reads on, and knows nothing of what the other has stored since."""
    store = await enrolled(standalone)
    standalone.sql("CREATE TABLE copy AS SELECT * FROM user_security")
    assert await store.commit(Change(user=replace(next_user(PHONE), credentials=())))
    standalone.sql("DELETE FROM user_security; INSERT INTO user_security SELECT * FROM copy")
    await cut_off(standalone, store)
    with pytest.raises(StoreUnavailableError):
        await store.user(ADA)


async def test_what_was_decided_is_not_believed_of_a_postgresql_that_stores_nothing(
    standalone: Ground,
) -> None:
    """As it may have been ended there alone, by a write that was never acknowledged."""
    store = await standalone.open()
    ledger = Ledger(await standalone.open_users())
    assert await ledger.outcome(b"commit", end=True) == b"undone"
    await cut_off(standalone, store)
    for end in (False, True):
        with pytest.raises(StoreUnavailableError):
            await ledger.outcome(b"commit", end=end)


async def test_events_wait_on_while_it_is_in_doubt_that_they_have_arrived(standalone: Ground) -> None:
    """Somebody cancels the wait for a standby: the server says that all is well, and warns."""
    store = await standalone.open()
    store._mover.cancel()  # noqa: SLF001 - what this moves, nobody else shall.
    await cut_off(standalone, store)
    assert await store.commit(replace(token(), events=(event(number=1),)))
    before = set(standalone.postgres.psql(WAITING).split())
    moving = asyncio.create_task(store.move_events())

    async def waits() -> bool:
        return bool(set(standalone.postgres.psql(WAITING).split()) - before)

    await until(waits)
    for process in set(standalone.postgres.psql(WAITING).split()) - before:
        standalone.postgres.psql(f"SELECT pg_cancel_backend({process})")
    with pytest.raises(StoreUnavailableError, match="doubt"):
        await moving
    assert len(await store._tokens.waiting()) == 1  # noqa: SLF001 - as above.


# --- as a configuration names it ------------------------------------------------------------------


def deployment(ground: Ground, tokens: str, *, prefix: str | None = None) -> Deployment:
    """Return what a server is told of this ground."""
    found, mistakes = parse(
        f'[store]\ntokens = "{tokens}"\nusers = "{ground.postgres.url}"\n'
        f'[store.valkey]\nprefix = "{prefix or ground.users.schema}"\n'
        f'[store.postgresql]\nschema = "{ground.users.schema}"\n',
        folder=Path("/nowhere"),
    )
    assert mistakes == []
    return found


async def test_a_configuration_opens_both_sides_once_the_schema_is_there(
    fragile: Ground, valkey: ValkeyServer
) -> None:
    named = deployment(fragile, valkey.url)
    steps = await pending_steps(named)
    assert steps == sorted(steps)
    assert len(steps) >= 2
    with pytest.raises(UnusableDeploymentError, match=r"^store\.users: .* run `watchword migrate`"):
        await open_store(named, migrate=False)
    store = await open_store(named)
    told: list[str] = []
    watch_lineage(store, lambda: told.append("anew"))
    assert isinstance(store, SplitStore)
    assert await store.commit(Change(user=PHONE))
    store._begin_anew()  # noqa: SLF001 - what either side calls; what makes them do so, their own tests show.
    assert told == ["anew"]
    await store.close()
    assert await pending_steps(named) == []
    assert await (await fragile.open()).user(ADA) == PHONE


async def test_the_side_that_cannot_be_opened_is_named(fragile: Ground) -> None:
    with pytest.raises(UnusableDeploymentError, match=r"^store\.tokens: "):
        await open_store(deployment(fragile, "valkey://127.0.0.1:1"))


async def test_tokens_of_one_database_are_not_served_with_another(
    fragile: Ground, valkey: ValkeyServer
) -> None:
    """Whoever has the same id there would share sessions and tokens that were cleared elsewhere."""
    for _ in range(2):
        await (await open_store(deployment(fragile, valkey.url))).close()
    other = deployment(Ground(valkey.url, fragile.postgres), valkey.url, prefix=fragile.users.schema)
    with pytest.raises(UnusableDeploymentError, match=r"^store\.tokens: .* another database"):
        await open_store(other)


# --- users, and the trail -------------------------------------------------------------------------


async def test_users_of_either_side_are_read_in_order_and_once(fragile: Ground, valkey: ValkeyServer) -> None:
    store = await fragile.open()
    for number in (5, 1, 3):
        assert await store.commit(Change(user=make_user(id=UserId(number))))
    empty(valkey)
    bare = [UserSecurity(id=UserId(number), version=1, attempts=LOCKED) for number in (4, 2, 6)]
    assert all([await store.commit(Change(user=user)) for user in bare])
    assert await store.user(UserId(3)) is not None
    for limit in (1, 2, 5, 6, 7):
        ids: list[int] = []
        last: UserId | None = None
        while page := await store.users(after=last, limit=limit):
            assert len(page) <= limit
            ids += [user.id for user in page]
            last = page[-1].id
        assert ids == [1, 2, 3, 4, 5, 6]


async def told(store: SplitStore) -> list[str | int]:
    return [entry.details["number"] for _, entry in await store.events(limit=10_000)]


@pytest.mark.parametrize("step", [(Ledger, "arrive"), (ValkeyStore, "taken")], ids=["before", "after"])
async def test_events_arrive_once_though_who_moves_them_dies(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    """Before they are in the trail they wait on; after it they are let by."""
    store = await ground.open()
    with monkeypatch.context() as patch:
        patch.setattr(*step, dies)
        for number in range(5):
            change = token(UserId(number), id=b"%d" % number)
            assert await store.commit(replace(change, events=(event(number=number),)))
        with pytest.raises(StoreUnavailableError):
            await store.events()
    other = await ground.open()
    assert await other.commit(Change(events=(event(number=5),)))
    assert sorted(await told(other)) == list(range(6))
    assert await told(store) == await told(other)


async def test_events_arrive_once_though_several_move_them(ground: Ground) -> None:
    stores = [await ground.open() for _ in range(3)]
    for start in range(0, 300, 30):
        commits = (
            store.commit(
                replace(token(UserId(number), id=number.to_bytes(2)), events=(event(number=number),))
            )
            for number, store in zip(range(start, start + 30), stores * 10, strict=True)
        )
        moving = [asyncio.create_task(store.move_events()) for store in stores]
        assert all(await asyncio.gather(*commits))
        await asyncio.gather(*moving, *(store.move_events() for store in stores))
    assert sorted(await told(stores[0]), key=int) == list(range(300))


async def test_events_arrive_though_nobody_reads_the_trail(ground: Ground) -> None:
    store = await ground.open()
    assert await store.commit(replace(token(), events=(event(number=1),)))

    async def arrived() -> bool:
        return ground.sql("SELECT count(*) FROM event_inbox") == "1"

    await until(arrived)
    assert await told(store) == [1]


async def test_more_events_than_are_moved_at_once_arrive_in_order(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchword.store.split.PARCEL_MAX", 3)
    waiting = ValkeyStore.waiting

    async def three(store: ValkeyStore) -> object:
        return await waiting(store, limit=3)

    monkeypatch.setattr(ValkeyStore, "waiting", three)
    store = await ground.open()
    for count in (2, 3, 4, 6, 7):
        before = len(await told(store))
        for number in range(count):
            change = token(GRACE, id=b"%d %d" % (count, number))
            assert await store.commit(replace(change, events=(event(number=number),)))
        assert (await told(store))[before:] == list(range(count))


async def test_what_was_spent_before_credentials_changed_stands_before_it_in_the_trail(
    ground: Ground,
) -> None:
    store = await enrolled(ground)
    assert await store.commit(token(id=b"another"))
    assert await spend(store, TokenId(b"another"))
    assert await enrol(store)
    assert [entry.name for _, entry in await store.events()] == [
        EventName.TOKEN_SPENT,
        EventName.CREDENTIALS_CHANGED,
    ]


async def test_a_user_who_cannot_be_read_stops_nobody(ground: Ground) -> None:
    store = await ground.open()
    for number in (1, 2, 3):
        assert await store.commit(Change(user=make_user(id=UserId(number))))
    ground.sql("UPDATE user_security SET body = 'damaged' WHERE id = 2")
    assert [type(user) for user in await store.users()] == [UserSecurity, UnreadableUser, UserSecurity]
    with pytest.raises(StoreCorruptError):
        await store.user(UserId(2))


async def test_an_event_that_arrived_is_let_by_by_its_number(ground: Ground) -> None:
    ledger = Ledger(await ground.open_users())
    store = await ground.open()
    for first, last in ((1, 3), (1, 3), (3, 3), (2, 5), (6, 6)):
        await ledger.arrive(
            [
                Waiting(source, number, 0, event(number=number))
                for number in range(first, last + 1)
                for source in (1, 2)
            ]
        )
    assert await told(store) == [number for number in range(1, 7) for _ in range(2)]


async def test_a_sweep_takes_tokens_of_either_side(ground: Ground) -> None:
    """Those in PostgreSQL were issued before the store was split."""
    users = await ground.open_users()
    assert await users.commit(token(id=b"old"))
    store = await ground.open()
    assert await store.commit(token())
    expiry = make_token().expires_at
    assert await store.sweep(after(expiry, DAY_SECONDS - 1), limit=10) == 0
    assert await store.sweep(after(expiry, DAY_SECONDS), limit=1) == 1
    assert await store.sweep(after(expiry, DAY_SECONDS), limit=10) == 1
