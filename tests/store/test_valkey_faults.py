"""What the store on Valkey promises when servers die, freeze, fill up, are emptied, or are cut off."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.factories import ADA, GRACE, NOW, make_token, make_user
from tests.store.support import claim, event, make_owner, next_user, next_version, ready, spend, with_user
from tests.store.valkey import ALWAYS, PATIENT, Cluster, Server, empty, shared_cluster, until
from tests.store.wire import Wire
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.token import Cleared, OneTimeToken, Spent
from watchword.domain.user import UserId
from watchword.serving.stores import watch_lineage
from watchword.store.base import Store, StoreCorruptError, StoreUnavailableError, UnreadableUser
from watchword.store.valkey import ValkeySettings, ValkeyStore, link as links
from watchword.store.valkey.layout import BUCKETS, Names, bucket_of_id, bucket_of_user, user_key, writes

FAST = ValkeySettings(timeout_seconds=0.5)
NO_REPLICAS = ValkeySettings(replicas=0, fsync=False)
SOME_REPLICA = ValkeySettings(replicas=1, fsync=False)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(**ALWAYS)
    yield server
    server.remove()


class Pair:
    """A primary, and a replica that hears of it over a wire."""

    def __init__(self) -> None:
        self.primary = Server()
        self.wire = Wire(self.primary.port)
        self.replica = Server()
        self.replica.tell("REPLICAOF", "127.0.0.1", self.wire.port)
        until(lambda: self.replica.info("replication").get("master_link_status") == "up")
        # Both are known to whoever may need either.
        self.url = f"{self.primary.url},127.0.0.1:{self.replica.port}"

    def fail_over(self) -> None:
        """Kill the primary, and make a primary of the replica with what has reached it."""
        self.primary.kill()
        self.wire.cut()
        self.replica.tell("REPLICAOF", "NO", "ONE")

    def change_roles(self) -> None:
        """Make a primary of the replica with what has reached it, and of the primary its replica."""
        self.replica.tell("REPLICAOF", "NO", "ONE")
        self.wire.cut()
        self.primary.tell("REPLICAOF", "127.0.0.1", self.replica.port)

    def remove(self) -> None:
        self.wire.remove()
        self.primary.remove()
        self.replica.remove()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.remove()


@asynccontextmanager
async def opened(url: str, settings: ValkeySettings | None = None) -> AsyncIterator[ValkeyStore]:
    """Open a store for a while."""
    store = await ValkeyStore.open(url, settings=settings)
    try:
        yield store
    finally:
        await store.close()


async def again(store: Store) -> None:
    """Wait until a store answers again."""
    for _ in range(400):
        with suppress(StoreUnavailableError):
            return await store.ping()
        await asyncio.sleep(0.05)
    raise AssertionError("it does not answer again")


def tokens(count: int, *, start: int = 0) -> list[OneTimeToken]:
    """Make tokens that are ready to be spent, each of another user."""
    return [
        replace(make_token(Cleared(NOW), id=number.to_bytes(32)), user_id=UserId(number))
        for number in range(start, start + count)
    ]


async def store_all(store: Store, some: Sequence[OneTimeToken]) -> None:
    for start in range(0, len(some), 100):
        part = some[start : start + 100]
        assert all(await asyncio.gather(*(store.commit(Change(token=token)) for token in part)))


async def spend_all(
    store: Store, some: Sequence[OneTimeToken], *, then: Callable[[], None] | None = None, after: int = 0
) -> tuple[list[OneTimeToken], int]:
    """
    Spend tokens, many at once; do something *then*, *after* that many, and begin no more.

    Returns:
        Those whose spending was acknowledged, and how many others were begun.
    """
    left, spent, others = iter(some), list[OneTimeToken](), 0

    async def work() -> None:
        nonlocal left, others
        while (token := next(left, None)) is not None:
            with suppress(StoreUnavailableError):
                if await _spend(store, token):
                    spent.append(token)
                    if then is not None and len(spent) == after:
                        then()
                        left = iter(())
                    continue
            others += 1
            if then is not None:
                return

    await asyncio.gather(*(work() for _ in range(50)))
    return spent, others


async def _spend(store: Store, token: OneTimeToken) -> bool:
    return await store.commit(
        Change(token=replace(next_version(token), state=Spent(NOW)), events=(event(token=token.id.hex()),))
    )


async def spendable(store: Store, some: Sequence[OneTimeToken]) -> int:
    """Count the tokens that can be spent, and spend them."""
    count = 0
    for token in some:
        found = await store.token(token.id)
        count += found is not None and await spend(store, token.id)
    return count


# --- one server ---------------------------------------------------------------------------------


@pytest.mark.attack(158)
async def test_a_server_that_is_killed_under_load_loses_nothing_that_it_acknowledged(server: Server) -> None:
    some = tokens(3000)
    async with opened(server.url) as store:
        await store_all(store, some)
        spent, _ = await spend_all(store, some[:2000], then=server.kill, after=300)
    assert len(spent) >= 300
    server.start()
    async with opened(server.url) as store:
        for token in spent:
            assert await store.token(token.id) == replace(next_version(token), state=Spent(NOW))
        assert not await spendable(store, spent)
        # What was not touched is as it was: here a restart is no failover.
        assert await spendable(store, some[2000:2100]) == 100
        names = [entry.details.get("token") for _, entry in await store.events(limit=9000)]
        assert {token.id.hex() for token in spent} <= set(names)


async def test_a_server_that_keeps_nothing_loses_all_of_it(server: Server) -> None:
    """The test above could fail: here it would."""
    server.kill()
    server.options = {"save": ""} | {"maxmemory-policy": "noeviction"}
    for file in server.folder.glob("appendonlydir/*"):
        file.unlink()
    server.start()
    settings = msgspec.structs.replace(FAST, fsync=False)
    async with opened(server.url, settings) as store:
        await store_all(store, tokens(10))
        server.kill()
        server.start()
        await again(store)
        assert [await store.token(token.id) for token in tokens(10)] == [None] * 10


@pytest.mark.attack(158)
async def test_tokens_are_void_after_a_restart_that_may_have_lost_something(server: Server) -> None:
    """Other records go on, with a version that nothing that was lost can have had."""
    server.tell("CONFIG", "SET", "appendfsync", "everysec")
    async with opened(server.url, msgspec.structs.replace(FAST, fsync=False)) as store:
        token, user = await ready(store), await with_user(store)
        server.kill()
        until(lambda: _restarted(server))
        await again(store)
        assert await store.token(token.id) is None
        assert not await store.commit(Change(token=replace(next_version(token), state=Spent(NOW))))
        found = await store.user(ADA)
        assert found is not None
        assert found.version > user.version + 1_000_000
        assert replace(found, version=1) == replace(user, version=1)
        # Whoever remembers the user from before decides from what may be lost.
        assert not await store.commit(Change(user=next_user(user)))
        assert await store.commit(Change(user=next_user(found)))
        # The token's name is free again.
        assert await store.commit(Change(token=token))


def _restarted(server: Server) -> bool:
    server.start()
    return True


@pytest.mark.attack(155)
async def test_a_frozen_server_is_given_up_within_two_seconds_and_works_again_by_itself(
    server: Server,
) -> None:
    async with opened(server.url, ValkeySettings()) as store:
        token = await ready(store)
        server.send(signal.SIGSTOP)
        started = time.monotonic()
        asked: list[Awaitable[Any]] = [
            *(store.token(token.id) for _ in range(100)),
            *(store.commit(Change(user=make_user(id=UserId(number)))) for number in range(100)),
            store.ping(),
            store.events(),
            store.sweep(NOW, limit=1),
        ]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(end) for end in ends} == {StoreUnavailableError}
        assert time.monotonic() - started < 2
        server.send(signal.SIGCONT)
        await again(store)
        assert await store.token(token.id) == token
        # Those that were given up may have been written, each of them whole.
        for number in range(100):
            assert await store.user(UserId(number)) in {None, make_user(id=UserId(number))}


@pytest.mark.attack(155)
async def test_a_server_that_is_gone_is_told_and_works_again_by_itself(server: Server) -> None:
    async with opened(server.url, FAST) as store:
        token = await ready(store)
        server.kill()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await store.token(token.id)
            with pytest.raises(StoreUnavailableError):
                await store.commit(Change(user=make_user()))
            with pytest.raises(StoreUnavailableError):
                await store.ping()
            assert time.monotonic() - started < 3 * 2
        server.start()
        await again(store)
        assert await store.token(token.id) == token


@pytest.mark.attack(155)
async def test_a_server_that_was_emptied_knows_no_token(server: Server) -> None:
    """Nor its functions, which are loaded again; what was spent is unknown, not spendable."""
    async with opened(server.url) as store:
        [token, other] = tokens(2)
        await store_all(store, [token, other])
        assert await spend(store, token.id)
        server.tell("FLUSHALL")
        server.tell("FUNCTION", "FLUSH")
        assert await store.token(token.id) is None
        assert not await _spend(store, token)
        assert not await _spend(store, other)
        assert await store.user(ADA) is None
        assert await store.commit(Change(user=make_user()))


@pytest.mark.attack(155)
async def test_a_server_without_memory_left_takes_nothing_and_keeps_everything(server: Server) -> None:
    async with opened(server.url) as store:
        token, user = await ready(store), await with_user(store)
        server.tell("CONFIG", "SET", "maxmemory", "1mb")
        for change in (
            Change(token=replace(next_version(token), state=Spent(NOW)), user=next_user(user)),
            Change(events=(event(),)),
        ):
            with pytest.raises(StoreUnavailableError):
                await store.commit(change)
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        assert await store.token(token.id) == token
        assert await store.user(ADA) == user
        server.tell("CONFIG", "SET", "maxmemory", "0")
        assert await store.events() == []
        assert await spend(store, token.id)


@pytest.mark.attack(157)
async def test_a_change_whose_answer_is_lost_was_made_once_at_the_most(server: Server) -> None:
    """The client does not send it again by itself: an event that was alone in its change stands once."""
    wire = Wire(server.port)
    try:
        async with opened(f"valkey://127.0.0.1:{wire.port}", FAST) as store:
            for number in range(5):
                wire.hold_up_answers()
                lost = asyncio.create_task(store.commit(Change(events=(event(number=number),))))
                await asyncio.sleep(0.05)
                wire.cut()
                with pytest.raises(StoreUnavailableError):
                    await lost
                await again(store)
            numbers = [entry.details["number"] for _, entry in await store.events()]
            assert numbers == sorted(set(numbers))
            assert numbers
    finally:
        wire.remove()


async def test_tokens_of_a_server_alone_are_void_once_it_has_a_replica(server: Server) -> None:
    """And stay so when the replica is gone: it may have taken them with it."""
    async with opened(server.url) as store:
        token = await ready(store)
        replica = Server()
        replica.follow(server)
        assert await store.token(token.id) is None
        replica.remove()
        until(lambda: not server.replicas())
        assert await store.token(token.id) is None
        assert not await _spend(store, token)
        assert await spend(store, (await ready(store, b"other")).id)


async def test_a_user_whose_record_is_damaged_stops_nobody_who_goes_through_all(server: Server) -> None:
    async with opened(server.url) as store:
        users = [make_user(id=UserId(number)) for number in range(3)]
        for user in users:
            assert await store.commit(Change(user=user))
        name = Names(ValkeySettings().prefix)(user_key(UserId(1)))
        server.tell("HSET", name, "b", b"damage")
        with pytest.raises(StoreCorruptError):
            await store.user(UserId(1))
        assert list(await store.users()) == [users[0], UnreadableUser(UserId(1)), users[2]]


# --- a replica takes over -----------------------------------------------------------------------

HERE = "local replid = string.match(info, 'master_replid:(%x+)')"
UNFENCED = links.CODE.replace(HERE, f"{HERE}\n  if true then return replid, 'none', info end")


@pytest.mark.attack(158)
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("fenced", [True, False])
async def test_what_is_spent_as_a_primary_dies_is_not_spent_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, *, waits: bool, fenced: bool
) -> None:
    """
    The replica is held up while tokens are spent; then the primary dies, and the replica takes over.

    With neither the wait for replicas nor the fence, what was acknowledged can be spent again: the
    test would see it.
    """
    if not fenced:
        assert UNFENCED != links.CODE
        monkeypatch.setattr(links, "CODE", UNFENCED.replace(links.LIBRARY, "unfenced"))
        monkeypatch.setattr(links, "LIBRARY", "unfenced")
    settings = SOME_REPLICA if waits else NO_REPLICAS
    some = tokens(300)
    async with opened(pair.url, settings) as store:
        await store_all(store, some)
        before, refused_before = await spend_all(store, some[:100])
        until(lambda: _caught_up(pair))
        pair.wire.hold_up()
        spent, refused = await spend_all(store, some[100:200])
        pair.fail_over()
    assert (len(before), refused_before) == (100, 0)
    assert (len(spent), refused) == ((0, 100) if waits else (100, 0))
    async with opened(pair.replica.url, NO_REPLICAS) as store:
        assert not await spendable(store, before)
        again_ = await spendable(store, spent)
        # The price of the fence: tokens that nobody has spent are void as well.
        unused = await spendable(store, some[200:])
    assert unused == (0 if fenced else 100)
    if waits or fenced:
        assert again_ == 0
    else:
        assert again_ > 0


def _caught_up(pair: Pair) -> bool:
    mine, its = pair.primary.info("replication"), pair.replica.info("replication")
    caught_up: bool = mine["master_repl_offset"] == its["slave_repl_offset"]
    return caught_up


async def test_a_store_follows_its_primary(pair: Pair) -> None:
    """Who was told of both servers goes on with the one that takes writes."""
    async with opened(pair.url, NO_REPLICAS) as store:
        await with_user(store)
        until(lambda: _caught_up(pair))
        pair.change_roles()
        await again(store)
        user = await store.user(ADA)
        assert user is not None
        assert await store.commit(Change(user=next_user(user)))
    async with opened(pair.replica.url, NO_REPLICAS) as store:
        assert await store.user(ADA) == next_user(user)


class Successors(Pair):
    """A primary, and two replicas that hear of it over one wire, so that they have come equally far."""

    def __init__(self) -> None:
        super().__init__()
        self.other = Server()
        self.other.tell("REPLICAOF", "127.0.0.1", self.wire.port)
        until(lambda: self.other.info("replication").get("master_link_status") == "up")

    def remove(self) -> None:
        super().remove()
        self.other.remove()


async def test_numbers_of_events_grow_over_failovers_also_twice_from_the_same_state() -> None:
    """A reader who goes on from the last number that he was given is given all that comes."""
    servers = Successors()
    try:
        seen: list[tuple[int, int]] = []

        async def two_more(server: Server) -> None:
            """Write in one bucket, see the numbers there and those of the log."""
            async with opened(server.url, NO_REPLICAS) as store:
                for _ in range(2):
                    assert await store.commit(Change(events=(event(number=len(seen)),)))
                    [waiting] = await store.waiting()
                    [(number, read)] = await store.events(after=seen[-1][1] if seen else 0)
                    assert read == event(number=len(seen))
                    seen.append((waiting.number, number))

        await two_more(servers.primary)
        until(lambda: _caught_up(servers))
        servers.wire.hold_up()
        await two_more(servers.primary)
        servers.fail_over()
        await two_more(servers.replica)
        servers.replica.kill()
        # This one knows nothing of what the first two have counted since.
        servers.other.tell("REPLICAOF", "NO", "ONE")
        await two_more(servers.other)
        for numbers in zip(*seen, strict=True):
            assert list(numbers) == sorted(set(numbers))
            assert numbers[-1] < 2**53
    finally:
        servers.remove()


async def test_nobody_is_given_an_event_that_no_replica_has(pair: Pair) -> None:
    """Neither the first who comes for it, nor who finds it in the log."""
    async with opened(pair.url, SOME_REPLICA) as reader, opened(pair.url, NO_REPLICAS) as writer:
        pair.wire.hold_up()
        assert await writer.commit(Change(events=(event(number=1),)))
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            await reader.waiting()
        [(_, told)] = await writer.events()  # It moves it to the log, and waits for nobody.
        assert told == event(number=1)
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            await reader.events()
        pair.wire.cut()
        await again(reader)
        [(_, told)] = await reader.events()
        assert told == event(number=1)


async def test_a_replica_that_is_still_being_filled_is_not_counted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = links.CODE.replace(
        HERE, f"info = string.gsub(info, 'state=online', 'state=send_bulk')\n  {HERE}"
    )
    assert filling != links.CODE
    monkeypatch.setattr(links, "CODE", filling.replace(links.LIBRARY, "filling"))
    monkeypatch.setattr(links, "LIBRARY", "filling")
    with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
        await ValkeyStore.open(pair.url, settings=SOME_REPLICA)


async def test_a_store_that_is_asked_nothing_sees_that_another_server_took_over(pair: Pair) -> None:
    """And tells whoever remembers something, before he decides from it for long."""
    told = asyncio.Event()
    async with opened(pair.url, NO_REPLICAS) as store:
        user = await with_user(store)
        assert await store.user(ADA) == user
        until(lambda: _caught_up(pair))
        watch_lineage(store, told.set)
        pair.fail_over()
        async with asyncio.timeout(30):
            await told.wait()
        assert await store.user(ADA) is not None


async def test_what_was_decided_from_a_lost_record_does_not_fit_the_one_that_was_made_anew(
    pair: Pair,
) -> None:
    """Though it has the same version, and the one who decided has not heard yet of the other server."""
    async with opened(pair.url, NO_REPLICAS) as store:
        pair.wire.hold_up()
        lost = await with_user(store)
        assert await store.user(ADA) == lost
        pair.fail_over()
        anew = replace(make_user(), session_until=NOW)
        async with opened(pair.replica.url, NO_REPLICAS) as other:
            assert await other.user(ADA) is None
            assert await other.commit(Change(user=anew))
        await again(store)
        for change in (Change(user=next_user(lost)), Change(seen=lost, events=(event(),))):
            assert not await store.commit(change)
        assert await store.user(ADA) == anew
        assert await store.commit(Change(user=next_user(anew)))


async def test_a_sweep_does_not_believe_a_server_that_was_cut_off(pair: Pair) -> None:
    """It says that a change was decided, of which the one that has taken over knows nothing."""
    owner, names = make_owner(ADA, b"one"), Names(NO_REPLICAS.prefix)
    bucket = bucket_of_user(ADA)
    settings = msgspec.structs.replace(NO_REPLICAS, timeout_seconds=1.9)
    async with opened(pair.url, settings) as store:
        [write] = writes(Change(owners=(owner,)), {})
        epoch = await store.link.call("epoch", [names.of(bucket, b"control")], [b"0"])
        arguments = [b"0", b"lost", b"%d" % bucket, epoch, *write.arguments()]
        name = names(write.key)
        code, _ = await store.link.call("prepare", [name, name], arguments)
        assert code == b"ok"
        until(lambda: _caught_up(pair))
        pair.wire.hold_up()
        pair.primary.tell("HSET", names.of(bucket, b"decided"), b"lost", name)
        send = store.link.send

        async def send_before_it_dies(*commands: Sequence[bytes]) -> list[Any]:
            answers = await send(*commands)
            if commands[0][0] == b"HGETALL":
                assert answers[bucket] == {b"lost": name}
                pair.change_roles()
                await again(store)
            return answers

        store.link.send = send_before_it_dies  # type: ignore[method-assign]
        assert await store.sweep(NOW, limit=1) == 0
        assert await store.owner(b"one") is None


# --- changes over several slots -----------------------------------------------------------------

APART = [b"one", b"two"]
"""Owners in other buckets than Ada's, and than each other's."""


@pytest.fixture
def cluster() -> Cluster:
    cluster = shared_cluster()
    empty(*cluster.primaries())
    return cluster


class DiedError(StoreUnavailableError):
    """The process was killed here."""


class Doomed:
    """Lets a store die at one of its steps: before it, or after it and before its answer is heard."""

    def __init__(self, store: ValkeyStore, step: int, *, after: bool) -> None:
        self.steps: list[str] = []
        self._step = step
        self._after = after
        for name in ("call", "send", "replicated"):
            setattr(store.link, name, self._dying(name, getattr(store.link, name)))

    def _dying(self, name: str, do: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*arguments: Any) -> Any:
            if len(self.steps) > self._step:
                raise DiedError
            self.steps.append(arguments[0] if name == "call" else name)
            last = len(self.steps) > self._step
            if last and not self._after:
                raise DiedError
            answer = await do(*arguments)
            if last:
                raise DiedError
            return answer

        return step


def claiming(user_id: UserId) -> Change:
    """Make the change in which a user who was never stored takes two things."""
    return Change(
        user=make_user(id=user_id),
        owners=tuple(make_owner(user_id, id_) for id_ in APART),
        events=(event(user=user_id),),
    )


async def all_or_nothing(store: Store, user_id: UserId) -> bool:
    """Tell whether a user has what he claimed; there is nothing between."""
    user, owners = await store.user(user_id), [await store.owner(id_) for id_ in APART]
    events = [entry for _, entry in await store.events() if entry.details["user"] == user_id]
    if user is None:
        assert owners == [None, None]
        assert not events
        return False
    assert user == make_user(id=user_id)
    assert owners == [make_owner(user_id, id_) for id_ in APART]
    assert len(events) == 1
    return True


def test_the_records_of_these_tests_are_apart() -> None:
    assert len({bucket_of_user(ADA), bucket_of_user(GRACE), *map(bucket_of_id, APART)}) == 4


async def _steps(cluster: Cluster) -> list[str]:
    """Return the steps of the change, in order."""
    async with opened(cluster.url, PATIENT) as store:
        doomed = Doomed(store, 10**9, after=False)
        assert await store.commit(claiming(ADA))
    empty(*cluster.primaries())
    return doomed.steps


@pytest.mark.attack(157)
@pytest.mark.parametrize("after", [False, True])
async def test_a_change_over_several_slots_is_made_or_not_wherever_its_process_dies(
    cluster: Cluster, *, after: bool
) -> None:
    """And nothing of it is in anybody's way."""
    steps = await _steps(cluster)
    assert steps[steps.index("prepare") :].count("prepare") == 2
    decided = steps.index("commit")
    outcomes: list[bool] = []
    for step in range(len(steps)):
        empty(*cluster.primaries())
        doomed = await ValkeyStore.open(cluster.url, settings=PATIENT)
        Doomed(doomed, step, after=after)
        told = False
        with suppress(DiedError):
            told = await doomed.commit(claiming(ADA))
        await doomed.close()
        async with opened(cluster.url, PATIENT) as store:
            done = await all_or_nothing(store, ADA)
            assert done or not told
            # Whoever comes now finds nothing in his way.
            assert await claim(store, GRACE, *APART) is not done
            assert await store.user(ADA) == (make_user() if done else None)
            assert await store.commit(Change(user=replace(make_user(), version=2 if done else 1)))
        outcomes.append(done)
    assert outcomes == [step > decided or (step == decided and after) for step in range(len(steps))]


async def test_a_change_that_was_ended_by_others_is_decided_anew(cluster: Cluster) -> None:
    """A slow one whose intents somebody has taken back does not decide over them."""
    async with opened(cluster.url, PATIENT) as slow, opened(cluster.url, PATIENT) as other:
        waiting, go_on = asyncio.Event(), asyncio.Event()
        call = slow.link.call

        async def held_up(function: str, *arguments: Any) -> Any:
            if function == "commit":
                waiting.set()
                await go_on.wait()
            return await call(function, *arguments)

        slow.link.call = held_up  # type: ignore[assignment,method-assign]
        committing = asyncio.create_task(slow.commit(claiming(ADA)))
        await waiting.wait()
        assert [await other.owner(id_) for id_ in APART] == [None, None]
        assert await claim(other, GRACE, *APART)
        go_on.set()
        assert not await committing
        assert await other.user(ADA) is None
        assert [await other.owner(id_) for id_ in APART] == [make_owner(GRACE, id_) for id_ in APART]


async def test_a_sweep_settles_what_a_dead_process_left(cluster: Cluster) -> None:
    steps = await _steps(cluster)
    doomed = await ValkeyStore.open(cluster.url, settings=PATIENT)
    Doomed(doomed, steps.index("commit"), after=True)
    with pytest.raises(DiedError):
        await doomed.commit(claiming(ADA))
    await doomed.close()
    async with opened(cluster.url, PATIENT) as store:
        keys = [key for each in cluster.primaries() for key in each.tell("KEYS", "*:decided")]
        assert len(keys) == 1
        assert await store.sweep(NOW, limit=10) == 0
        keys = [key for each in cluster.primaries() for key in each.tell("KEYS", "*:decided")]
        assert keys == []
        assert await all_or_nothing(store, ADA)


async def test_many_who_change_the_same_from_several_slots_all_come_to_an_end(cluster: Cluster) -> None:
    """What is sent to one number is counted by users of all buckets; no count is lost."""
    number = b"number"
    async with opened(cluster.url, PATIENT) as one, opened(cluster.url, PATIENT) as two:

        async def send(store: Store, user_id: UserId) -> None:
            for _ in range(100):
                found = await store.destination(number) or Destination(id=number)
                sent = replace(found, sent_at=(*found.sent_at, NOW), version=found.version + 1)
                user = await store.user(user_id)
                assert user is not None
                if await store.commit(Change(seen=user, destination=sent, events=(event(user=user_id),))):
                    return
            raise AssertionError("it never came to its turn")

        users = [UserId(number) for number in range(12)]
        for user_id in users:
            await with_user(one, user_id)
        await asyncio.gather(*(send((one, two)[user_id % 2], user_id) for user_id in users))
        found = await one.destination(number)
        assert found is not None
        assert (found.version, len(found.sent_at)) == (len(users), len(users))
        assert sorted(entry.details["user"] for _, entry in await two.events()) == users


async def test_a_token_counts_as_stored_once_replicas_have_where_it_lies(cluster: Cluster) -> None:
    """Nobody would find it otherwise to make it void, if just that part failed over."""
    settings = msgspec.structs.replace(PATIENT, wait_milliseconds=100)
    user_id = next(UserId(n) for n in range(1000) if bucket_of_user(UserId(n)) == 0)
    far, near = (
        next(id_ for n in range(1000) if bucket_of_id(id_ := b"%d" % n) == bucket) for bucket in (63, 1)
    )
    replica = cluster.servers[5]
    async with opened(cluster.url, settings) as store:
        replica.send(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
                await store.commit(Change(token=replace(make_token(id=far), user_id=user_id)))
            assert await store.commit(Change(token=replace(make_token(id=near), user_id=user_id)))
        finally:
            replica.send(signal.SIGCONT)
            await asyncio.to_thread(until, cluster.whole)


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
async def test_events_are_moved_once_wherever_whoever_moves_them_dies(server: Server, *, after: bool) -> None:
    async with opened(server.url) as store:
        number = 0
        for step in range(6):
            for _ in range(3):
                for user_id in (ADA, GRACE):
                    number += 1
                    change = Change(events=(replace(event(number=number), user_id=user_id),))
                    assert await store.commit(change)
            doomed = await ValkeyStore.open(server.url)
            Doomed(doomed, step, after=after)
            with suppress(DiedError):
                await doomed.events()
            await doomed.close()
        found = await store.events()
        assert sorted(entry.details["number"] for _, entry in found) == list(range(1, number + 1))
        for user_id in (ADA, GRACE):
            mine = [entry.details["number"] for _, entry in found if entry.user_id == user_id]
            assert mine == sorted(mine)


async def test_who_reads_on_from_the_last_number_misses_nothing(cluster: Cluster) -> None:
    """While several processes write and others read, each reader sees each event once."""
    async with opened(cluster.url, PATIENT) as one, opened(cluster.url, PATIENT) as two:
        last: dict[Store, int] = {one: 0, two: 0}
        seen: dict[Store, list[int | str]] = {one: [], two: []}

        async def write(store: Store, start: int) -> None:
            for number in range(start, start + 100):
                change = Change(events=(replace(event(number=number), user_id=UserId(number)),))
                assert await store.commit(change)

        async def read(store: Store) -> None:
            while len(seen[store]) < 200:
                for seq, entry in await store.events(after=last[store], limit=7):
                    last[store] = seq
                    seen[store].append(entry.details["number"])

        await asyncio.gather(write(one, 0), write(two, 100), read(one), read(two))
        assert seen[one] == seen[two]
        assert sorted(seen[one], key=int) == list(range(200))


async def test_whoever_keeps_the_trail_elsewhere_gets_each_event_until_he_has_it(server: Server) -> None:
    async with opened(server.url) as store:
        for number in range(5):
            assert await store.commit(Change(events=(event(number=number),)))
        first = await store.waiting(limit=3)
        assert await store.waiting(limit=3) == first
        assert [each.event.details["number"] for each in first] == [0, 1, 2]
        await store.taken(first)
        rest = await store.waiting()
        assert [each.event.details["number"] for each in rest] == [3, 4]
        assert rest[0].number > first[-1].number
        await store.taken(rest)
        assert await store.waiting() == []


# --- a cluster ----------------------------------------------------------------------------------


@pytest.mark.attack(158)
async def test_a_primary_of_a_cluster_that_dies_under_load_takes_nothing_acknowledged_with_it() -> None:
    """Its replica takes over; what was acknowledged is there, and no token is spent twice."""
    cluster = Cluster()
    settings = msgspec.structs.replace(PATIENT, fsync=False)
    try:
        some = tokens(600)
        async with opened(cluster.url, settings) as store:
            await store_all(store, some)
            victim = cluster.servers[2]
            spent, _ = await spend_all(store, some[:400], then=victim.kill, after=100)
            await asyncio.to_thread(until, lambda: len(cluster.primaries()) == 3)
            # Until there is a replica again, nothing in that part counts as stored.
            victim.start()
            for _ in range(BUCKETS):  # Each time it asks another.
                await again(store)
            # The very store that saw the primary die goes on with the one that took over.
            assert not await spendable(store, spent)
            left = await spendable(store, some[400:])
            assert 0 < left < 200  # Void are those of the part that failed over, and no others.
            users = [make_user(id=token.user_id) for token in some[:100]]
            assert all(await asyncio.gather(*(store.commit(Change(user=user)) for user in users)))
    finally:
        cluster.remove()
