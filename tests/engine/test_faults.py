"""What holds when the store conflicts, does not answer, or loses its reply."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from tests.engine.stores import Conflicting, OverStore, Unavailable
from tests.factories import (
    ADA,
    BATCH,
    FINGERPRINT,
    GRACE,
    PAY,
    READ,
    STATEMENT,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.domain.credential import Phone
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, Reserved, Spent
from watchword.engine.deciding import CONFLICTS_MAX, StoreContendedError
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, identify
from watchword.store.base import Store, StoreUnavailableError

ada = Caller(ADA)
DEVICE = Method.PARTNER_DEVICE_FINGERPRINT


@dataclass(kw_only=True)
class Prepared:
    """Ada in the middle of things: a pending token and a ready one, and no session."""

    world: World
    pending: str
    ready: str

    @property
    def engine(self) -> Engine:
        return self.world.engine


async def prepare(store: Store) -> Prepared:
    world = make_world(store=store, limits=Limits(session_seconds=0))
    await world.enrol(ADA, enrolled_phone(), enrolled_fingerprint())
    otts: list[str] = []
    for _ in range(2):
        issued = await world.engine.protect(ada, STATEMENT, READ)
        assert isinstance(issued, StepUp)
        otts.append(issued.ott)
    await world.engine.verify(ada, otts[1], DEVICE, FINGERPRINT)
    return Prepared(world=world, pending=otts[0], ready=otts[1])


WRITES: dict[str, Callable[[Prepared], Awaitable[object]]] = {
    "issue": lambda at: at.engine.protect(ada, STATEMENT, READ),
    "spend": lambda at: at.engine.protect(ada, STATEMENT, READ, ott=at.ready),
    "authorise": lambda at: at.engine.authorise(ada, READ),
    "trigger": lambda at: at.engine.trigger(ada, at.pending, Method.SMS),
    "right": lambda at: at.engine.verify(ada, at.pending, DEVICE, FINGERPRINT),
    "wrong": lambda at: at.engine.verify(ada, at.pending, DEVICE, "x"),
    "enrol": lambda at: at.engine.enrolment.set(ADA, (enrolled_fingerprint(),)),
    "add": lambda at: at.engine.enrolment.add_device_fingerprint(ADA, "another"),
    "claim": lambda at: at.engine.enrolment.add_phone(GRACE, "+447700900123"),
    "replace": lambda at: at.engine.enrolment.replace_phone(ADA, "phone", "+447700900123"),
    "remove": lambda at: at.engine.enrolment.remove(ADA, CredentialKind.PHONE),
}
"""The use cases that write."""


async def records(at: Prepared) -> list[object]:
    """Return all that is stored and can be compared between two worlds."""
    user = replace(await at.world.user(), credentials=())
    tokens = [await at.world.token(ott) for ott in (at.pending, at.ready)]
    return [user, *tokens, await at.world.event_names()]


@pytest.mark.parametrize("conflicts", [1, 2, CONFLICTS_MAX - 1])
@pytest.mark.parametrize("name", WRITES)
async def test_a_conflict_is_decided_anew_until_it_is_stored(name: str, conflicts: int) -> None:
    calm, stormy = Conflicting(), Conflicting()
    answers: list[str] = []
    ends: list[list[object]] = []
    for store, number in ((calm, 0), (stormy, conflicts)):
        at = await prepare(store)
        store.conflicts = number
        answer = await WRITES[name](at)
        # The same number is never sealed alike.
        answers.append(repr(replace(answer, sealed=b"") if isinstance(answer, Phone) else answer))
        assert store.refused == number
        ends.append(await records(at))
    # The same as if nobody had been faster.
    assert answers[0] == answers[1]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", WRITES)
async def test_conflicts_without_end_are_given_up_and_nothing_is_stored(name: str) -> None:
    store = Conflicting()
    at = await prepare(store)
    before = await records(at)
    store.conflicts = CONFLICTS_MAX * 2
    with pytest.raises(StoreContendedError):
        await WRITES[name](at)
    assert await records(at) == before
    assert at.world.outbox.messages == []


@pytest.mark.parametrize("name", WRITES)
async def test_while_the_store_does_not_answer_nothing_is_told_or_sent(name: str) -> None:
    store = Unavailable()
    at = await prepare(store)
    before = await records(at)
    store.down = True
    with pytest.raises(StoreUnavailableError):
        await WRITES[name](at)
    store.down = False
    assert await records(at) == before
    assert at.world.outbox.messages == []


async def test_nobody_passes_in_a_session_while_the_store_cannot_record_it() -> None:
    store = Unavailable()
    world = make_world(store=store)
    await world.enrol(ADA, enrolled_fingerprint())
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    await world.engine.verify(ada, issued.ott, DEVICE, FINGERPRINT)
    assert await world.engine.protect(ada, STATEMENT, READ) == Approved()
    store.down = True
    with pytest.raises(StoreUnavailableError):
        await world.engine.protect(ada, STATEMENT, READ)


@pytest.mark.attack(157)
async def test_a_spending_whose_reply_was_lost_lets_nobody_through_and_is_not_repeated() -> None:
    store = Unavailable()
    at = await prepare(store)
    store.down = store.loses_replies = True
    with pytest.raises(StoreUnavailableError):
        await at.engine.protect(ada, STATEMENT, READ, ott=at.ready)
    store.down = False
    assert isinstance((await at.world.token(at.ready)).state, Spent)
    assert isinstance(await at.engine.protect(ada, STATEMENT, READ, ott=at.ready), StepUp)


@pytest.mark.attack(157)
async def test_a_passed_challenge_whose_reply_was_lost_is_passed() -> None:
    store = Unavailable()
    at = await prepare(store)
    store.down = store.loses_replies = True
    with pytest.raises(StoreUnavailableError):
        await at.engine.verify(ada, at.pending, DEVICE, FINGERPRINT)
    store.down = False
    shown = await at.engine.status(ada, at.pending)
    assert isinstance(shown, Snapshot)
    assert isinstance(shown.token.state, Cleared)


@pytest.mark.attack(157)
async def test_a_wrong_answer_whose_reply_was_lost_is_counted() -> None:
    store = Unavailable()
    at = await prepare(store)
    store.down = store.loses_replies = True
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            await at.engine.verify(ada, at.pending, DEVICE, "x")
    assert (await at.world.user()).attempts.is_locked(at.world.clock.now())


async def test_a_code_whose_send_could_not_be_recorded_is_never_sent() -> None:
    store = Unavailable()
    at = await prepare(store)
    store.down = store.loses_replies = True
    with pytest.raises(StoreUnavailableError):
        await at.engine.trigger(ada, at.pending, Method.SMS)
    assert at.world.outbox.messages == []


@pytest.mark.parametrize("loses_replies", [True, False])
async def test_a_handlers_end_that_could_not_be_recorded_leaves_the_token_unusable(
    loses_replies: bool,
) -> None:
    store = Unavailable()
    world = make_world(store=store)
    await world.enrol(ADA, enrolled_pin(), enrolled_fingerprint())
    issued = await world.engine.protect(ada, BATCH, PAY)
    assert isinstance(issued, StepUp)
    await world.engine.verify(ada, issued.ott, Method.PIN, "1234")
    await world.engine.verify(ada, issued.ott, DEVICE, FINGERPRINT)
    assert isinstance(await world.engine.protect(ada, BATCH, PAY, ott=issued.ott), Approved)
    store.down, store.loses_replies = True, loses_replies
    with pytest.raises(StoreUnavailableError):
        await world.engine.confirm(ada, identify(issued.ott))
    store.down = False
    assert isinstance((await world.token(issued.ott)).state, Spent if loses_replies else Reserved)
    assert isinstance(await world.engine.protect(ada, BATCH, PAY, ott=issued.ott), StepUp)


async def test_a_failing_look_up_passes_nobody() -> None:
    class Blind(OverStore):
        async def token(self, token_id: object) -> None:
            raise StoreUnavailableError

    world = make_world(store=Blind())
    await world.enrol(ADA, enrolled_phone())
    for call in (
        world.engine.protect(ada, STATEMENT, READ, ott="x"),
        world.engine.status(ada, "x"),
        world.engine.verify(ada, "x", DEVICE, FINGERPRINT),
        world.engine.trigger(ada, "x", Method.SMS),
    ):
        with pytest.raises(StoreUnavailableError):
            await call
