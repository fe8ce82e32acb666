"""
The reference store and a real one, side by side.

Two engines do the same at the same time, one over each store; whatever they answer, and whatever
the stores hold afterwards, must be the same. What is done, hypothesis chooses.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.factories import (
    ADA,
    CODE,
    FINGERPRINT,
    GRACE,
    PAY,
    PAYMENT,
    READ,
    STATEMENT,
    UNKNOWN_OTT,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    make_world,
)
from tests.store import broken
from tests.store.postgres import Server
from tests.store.support import claim, event, make_application, make_key
from tests.store.valkey import (
    Cluster as ValkeyCluster,
    Server as ValkeyServer,
    patient,
    shared_cluster,
    shared_server,
)
from tests.stores import Place, fresh_name, fresh_schema
from watchword.domain.action import Action, Spend
from watchword.domain.application import ApplicationId
from watchword.domain.credential import DeviceFingerprint, Phone
from watchword.domain.decision import Change
from watchword.domain.limits import DAY_SECONDS, Limits
from watchword.domain.method import Method
from watchword.domain.owner import Owner
from watchword.domain.user import UserId
from watchword.engine.engine import Caller, StepUp, identify
from watchword.engine.recent import Recent
from watchword.store.base import Store
from watchword.store.memory import MemoryStore
from watchword.store.postgres import PostgresStore
from watchword.store.sqlite import SqliteStore
from watchword.store.valkey import ValkeyStore

T = TypeVar("T")

RESERVING = replace(STATEMENT, name="REPORT__MAKE", spend=Spend.ON_SUCCESS)
ACTIONS = {STATEMENT: READ, RESERVING: READ, PAYMENT: PAY}
PEOPLE: dict[UserId, dict[str, Phone | DeviceFingerprint]] = {
    # They share a number, so that its count is shared too.
    user_id: {"phone": enrolled_phone(user_id), "device": enrolled_fingerprint(user_id)}
    for user_id in (ADA, GRACE)
}
NUMBERS = {enrolled_phone(user_id).digest for user_id in PEOPLE}
CLAIMED = (b"one", b"two", b"three")
APPLICATIONS = (ApplicationId("partner"), ApplicationId("Partner"))
METHODS = (Method.SMS, Method.VOICE, Method.PARTNER_DEVICE_FINGERPRINT)
# Few of each, so that a run meets them.
LIMITS = Limits(tokens_live=3, sends_per_token=2, sends_per_number=6)

callers = st.sampled_from([Caller(user_id) for user_id in PEOPLE])
answers = st.sampled_from([CODE, "222222", FINGERPRINT])


class SideBySide(RuleBasedStateMachine):
    """Both worlds, and what they were asked so far."""

    otts = Bundle("otts")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.begin()
        self.memory = make_world(store=MemoryStore(), limits=LIMITS)
        self.real = make_world(store=self.open(), limits=LIMITS)
        self.known = {UNKNOWN_OTT}
        # Numbers grow in each store as that store counts.
        self.last_seen: dict[int, int] = {}

    def begin(self) -> None:
        """Make room for an empty store."""
        self.folder = tempfile.TemporaryDirectory()

    def open(self) -> Store:
        """Open the real store."""
        file = Path(self.folder.name) / "store.db"
        return SqliteStore.open(file, synchronous="OFF", checkpoint_pages=50)  # No power is lost here.

    def end(self) -> None:
        """Let go of the room."""
        self.folder.cleanup()

    def both(self, do: Callable[[World], Awaitable[T]]) -> T:
        """Do the same in both worlds; return what they agree on."""

        async def run(world: World) -> T:
            return await do(world)

        expected = self.runner.run(run(self.memory))
        assert self.runner.run(run(self.real)) == expected
        return expected

    @initialize()
    def enrol(self) -> None:
        for user_id, credentials in PEOPLE.items():
            self.both(lambda world: world.enrol(user_id, *credentials.values()))  # noqa: B023 - called at once.

    # --- what clients do ----------------------------------------------------------------------

    @rule(target=otts, caller=callers, action=st.sampled_from(list(ACTIONS)), ott=st.none() | otts)
    def protect(self, caller: Caller, action: Action, ott: str | None) -> MultipleResults[str]:
        answer = self.both(lambda world: world.engine.protect(caller, action, ACTIONS[action], ott=ott))
        return multiple(*([self.remember(answer.ott)] if isinstance(answer, StepUp) else []))

    @rule(target=otts, caller=callers)
    def authorise(self, caller: Caller) -> MultipleResults[str]:
        answer = self.both(lambda world: world.engine.authorise(caller, READ))
        return multiple(*([self.remember(answer[0])] if isinstance(answer, tuple) else []))

    @rule(caller=callers, ott=otts)
    def status(self, caller: Caller, ott: str) -> None:
        self.both(lambda world: world.engine.status(caller, ott))

    @rule(caller=callers, ott=otts, method=st.sampled_from([Method.SMS, Method.VOICE]))
    def trigger(self, caller: Caller, ott: str, method: Method) -> None:
        self.both(lambda world: world.engine.trigger(caller, ott, method))

    @rule(caller=callers, ott=otts, method=st.sampled_from(METHODS), answer=answers)
    def verify(self, caller: Caller, ott: str, method: Method, answer: str) -> None:
        self.both(lambda world: world.engine.verify(caller, ott, method, answer))

    @rule(ott=otts, caller=callers)
    def clear_by_device(self, ott: str, caller: Caller) -> None:
        """Do what chance alone would do too seldom."""
        self.verify(caller, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)

    @rule(caller=callers, ott=otts)
    def confirm(self, caller: Caller, ott: str) -> None:
        self.both(lambda world: world.engine.confirm(caller, identify(ott)))

    @rule(caller=callers, ott=otts)
    def release(self, caller: Caller, ott: str) -> None:
        self.both(lambda world: world.engine.release(caller, identify(ott)))

    @rule(user_id=st.sampled_from(list(PEOPLE)), names=st.sets(st.sampled_from(["phone", "device"])))
    def set_credentials(self, user_id: UserId, names: set[str]) -> None:
        chosen = [PEOPLE[user_id][name] for name in sorted(names)]
        self.both(lambda world: world.enrol(user_id, *chosen))

    # --- what is done to the stores -----------------------------------------------------------

    @rule(ott=otts, step=st.integers(-2, 3))
    def commit_a_token_directly(self, ott: str, step: int) -> None:
        token = self.both(lambda world: world.store.token(identify(ott)))
        if token is not None:
            change = Change(token=replace(token, version=token.version + step), events=(event(step=step),))
            assert self.both(lambda world: world.store.commit(change)) is (step == 1)

    @rule(user_id=st.sampled_from(list(PEOPLE)), step=st.integers(-2, 3), ott=otts)
    def commit_a_user_and_a_token_directly(self, user_id: UserId, step: int, ott: str) -> None:
        user = self.both(lambda world: world.user(user_id))
        token = self.both(lambda world: world.store.token(identify(ott)))
        change = Change(
            user=replace(user, version=user.version + step),
            revoked=() if token is None else (replace(token, version=token.version + 1),),
        )
        assert self.both(lambda world: world.store.commit(change)) is (step == 1)

    @rule(user_id=st.sampled_from(list(PEOPLE)), owned=st.sets(st.sampled_from(CLAIMED), min_size=1))
    def claim(self, user_id: UserId, owned: set[bytes]) -> None:
        self.both(lambda world: claim(world.store, user_id, *sorted(owned)))

    @rule(
        user_id=st.none() | st.sampled_from(list(PEOPLE)),
        id_=st.sampled_from(CLAIMED),
        step=st.integers(-2, 2),
    )
    def commit_an_owner_directly(self, user_id: UserId | None, id_: bytes, step: int) -> None:
        owner = self.both(lambda world: world.store.owner(id_)) or Owner(id=id_)
        other = self.both(lambda world: world.store.owner(b"other")) or Owner(id=b"other")
        stale = replace(owner.taken(user_id), version=owner.version + step)
        change = Change(owners=(other.taken(user_id), stale), events=(event(step=step),))
        assert self.both(lambda world: world.store.commit(change)) is (step == 1)

    @rule(id_=st.sampled_from(APPLICATIONS), step=st.integers(-2, 2), names=st.lists(st.sampled_from("abc")))
    def commit_an_application_directly(self, id_: ApplicationId, step: int, names: list[str]) -> None:
        found = self.both(lambda world: world.store.application(id_))
        version = (0 if found is None else found.version) + step
        application = replace(make_application(*map(make_key, names), id=id_), version=version)
        change = Change(application=application, events=(event(step=step),))
        assert self.both(lambda world: world.store.commit(change)) is (step == 1)

    @rule(seconds=st.sampled_from([1, 29, 30, 299, 300, 900, DAY_SECONDS - 900, DAY_SECONDS]))
    def wait(self, seconds: int) -> None:
        self.memory.clock.advance(seconds)
        self.real.clock.advance(seconds)

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        """Sweep to the end: which records one batch takes is each store's own affair."""
        while self.both(lambda world: world.engine.sweep(limit=limit)):
            pass

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.real.store.close())
        engine = self.real.engine
        self.real.store = engine.store = engine.decider.store = self.open()
        # As a server that has just started: it remembers nothing.
        engine.decider.recent = Recent(self.real.store)

    # --- what must hold -----------------------------------------------------------------------

    def remember(self, ott: str) -> str:
        """Look at the token from now on."""
        self.known.add(ott)
        return ott

    @invariant()
    def both_hold_the_same(self) -> None:
        async def everything(world: World) -> list[object]:
            last = self.last_seen.get(id(world), 0)
            numbered = await world.store.events(after=last)
            self.last_seen[id(world)] = max((number for number, _ in numbered), default=last)
            return [
                *[await world.store.token(identify(ott)) for ott in sorted(self.known)],
                *[await world.store.user(user_id) for user_id in PEOPLE],
                *[await world.store.destination(number) for number in NUMBERS],
                *[await world.store.owner(id_) for id_ in (*CLAIMED, b"other")],
                *[await world.store.application(id_) for id_ in APPLICATIONS],
                *[entry for _, entry in numbered],
            ]

        self.both(everything)

    def teardown(self) -> None:
        """Let go of the store."""
        self.runner.run(self.real.store.close())
        self.runner.close()
        self.end()


RUN = settings(max_examples=25, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])


def test_both_stores_always_hold_the_same() -> None:
    run_state_machine_as_test(SideBySide, settings=RUN)


def test_postgresql_always_holds_the_same(postgres: Server) -> None:
    class OnPostgres(SideBySide):
        def begin(self) -> None:
            self.schema = fresh_schema()

        def open(self) -> Store:
            return self.runner.run(PostgresStore.open(postgres.url, settings=self.schema))

        def end(self) -> None:
            pass

    # Fewer: each begins with a schema of its own.
    run_state_machine_as_test(OnPostgres, settings=settings(RUN, max_examples=10))


@pytest.mark.parametrize("server", [shared_server, shared_cluster])
def test_valkey_always_holds_the_same(server: Callable[[], ValkeyServer | ValkeyCluster]) -> None:
    class OnValkey(SideBySide):
        def begin(self) -> None:
            self.settings = patient(fresh_name())

        def open(self) -> Store:
            return self.runner.run(ValkeyStore.open(server().url, settings=self.settings))

        def end(self) -> None:
            pass

    run_state_machine_as_test(OnValkey, settings=settings(RUN, max_examples=10))


def test_a_split_store_always_holds_the_same(postgres: Server) -> None:
    class OnBoth(SideBySide):
        def begin(self) -> None:
            self.place = Place("split", f"{shared_server().url}+{postgres.url}", fresh_name())

        def open(self) -> Store:
            return self.runner.run(self.place.open())

        def end(self) -> None:
            pass

    run_state_machine_as_test(OnBoth, settings=settings(RUN, max_examples=10))


@pytest.mark.parametrize(
    "kind",
    [
        broken.ComparesNoToken,
        broken.ComparesNoUser,
        broken.ComparesTheFirstOwnerOnly,
        broken.ComparesNoApplication,
        broken.KeepsEventsOfRefusedChanges,
    ],
)
def test_a_store_that_is_broken_is_told_from_the_reference(kind: type[MemoryStore]) -> None:
    class Broken(SideBySide):
        def open(self) -> Store:
            return kind()

    # The first difference will do; the shortest way to it is of no interest.
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broken, settings=settings(RUN, phases=[Phase.generate]))
