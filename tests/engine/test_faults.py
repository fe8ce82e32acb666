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
    PAYMENT,
    PIN,
    READ,
    STATEMENT,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.domain.credential import DeviceFingerprint, Phone
from watchword.domain.decision import Change, EventName, Reason, Refusal
from watchword.domain.limits import Limits
from watchword.domain.lockout import Attempts
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, OneTimeToken, Reserved, Revoked, Spent, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import CONFLICTS_MAX, StoreContendedError
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, Wrong, identify
from watchword.store.base import Store, StoreUnavailableError
from watchword.store.memory import MemoryStore

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
        # Nothing is ever sealed alike.
        shown = replace(answer, sealed=b"") if isinstance(answer, Phone | DeviceFingerprint) else answer
        answers.append(repr(shown))
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


# --- the last of too many guesses -------------------------------------------------------------


class WithoutCredentials(OverStore):
    """Stores everything but changes of credentials, as two stores do while the one of credentials is slow."""

    slow: type[Exception] | None = None

    async def commit(self, change: Change) -> bool:
        user = change.user
        if user is not None:
            stored = await self.inner.user(user.id)
            if stored is not None and stored.credentials != user.credentials:
                if self.slow is StoreContendedError:
                    return False
                if self.slow is not None:
                    raise self.slow
        return await self.inner.commit(change)


@pytest.mark.attack(55)
@pytest.mark.parametrize("how", [StoreUnavailableError, StoreContendedError])
async def test_the_last_guess_counts_though_its_credential_cannot_be_disabled_yet(
    how: type[Exception],
) -> None:
    """Else a 503 for what is wrong, and none for what is right, would tell them apart for ever."""
    store = WithoutCredentials()
    world = make_world(
        store=store, limits=Limits(token_seconds=10_000, disable_pin_after=2, session_seconds=0)
    )
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    otts: list[str] = []
    for _ in range(2):
        issued = await world.engine.protect(ada, PAYMENT, PAY)
        assert isinstance(issued, StepUp)
        otts.append(issued.ott)
    store.slow = how
    for left in (4, 3):
        assert await world.engine.verify(ada, otts[0], Method.PIN, "0000") == Wrong(Method.PIN, left)
    compared = world.methods.compared[Method.PIN]
    for answer in (PIN, "0000"):
        for ott in otts:
            with pytest.raises(how):
                await world.engine.verify(ada, ott, Method.PIN, answer)
    with pytest.raises(how):
        await world.engine.protect(ada, PAYMENT, PAY)
    assert world.methods.compared[Method.PIN] == compared
    assert (await world.user()).has(CredentialKind.PIN)

    store.slow = None
    refusal = await world.engine.protect(ada, PAYMENT, PAY)
    assert refusal == Refusal(Reason.NOT_ENROLLED, methods=("PIN",))
    assert not (await world.user()).has(CredentialKind.PIN)
    assert (await world.event_names()).count(EventName.CREDENTIAL_DISABLED.value) == 1


@pytest.mark.attack(55)
async def test_nothing_is_disabled_for_what_a_server_had_that_another_took_over_from() -> None:
    """A version that fits would prove nothing: they come again there, with other contents."""

    class TakenOver(OverStore):
        async def user(self, user_id: UserId) -> UserSecurity | None:
            user = await self.inner.user(user_id)
            if user is not None and user.attempts.exhausted(lowered):
                there = MemoryStore()
                for version in range(1, user.version + 1):
                    assert await there.commit(
                        Change(user=replace(user, version=version, attempts=Attempts()))
                    )
                self.inner = there
                world.engine.decider.recent.begin_anew()
            return user

    lowered = Limits(disable_pin_after=1)
    store = OverStore()
    before = make_world(store=store)
    await before.enrol(ADA, enrolled_pin(), enrolled_phone())
    issued = await before.engine.protect(ada, PAYMENT, PAY)
    assert isinstance(issued, StepUp)
    assert await before.engine.verify(ada, issued.ott, Method.PIN, "0000") == Wrong(Method.PIN, 4)
    world = make_world(store=TakenOver(store.inner), limits=lowered)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY), StepUp)
    assert (await world.user()).has(CredentialKind.PIN)


class OneDamaged(OverStore):
    """Cannot read one of its tokens."""

    damaged: TokenId | None = None

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        if token_id == self.damaged:
            raise StoreUnavailableError
        return await self.inner.token(token_id)


@pytest.mark.attack(55)
async def test_the_last_guess_counts_though_another_token_cannot_be_read() -> None:
    """It lies on another server of a cluster, say: else who guesses has as many tries as that is away."""
    store = OneDamaged()
    world = make_world(store=store, limits=Limits(disable_pin_after=2, session_seconds=0))
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    otts: list[str] = []
    for _ in range(2):
        issued = await world.engine.protect(ada, PAYMENT, PAY)
        assert isinstance(issued, StepUp)
        otts.append(issued.ott)
    store.damaged = identify(otts[0])
    for left in (4, 3):
        assert await world.engine.verify(ada, otts[1], Method.PIN, "0000") == Wrong(Method.PIN, left)
    for answer in (PIN, "0000"):
        with pytest.raises(StoreUnavailableError):
            await world.engine.verify(ada, otts[1], Method.PIN, answer)
    assert world.methods.compared[Method.PIN] == 2
    store.damaged = None
    assert await world.engine.verify(ada, otts[1], Method.PIN, PIN) == Refusal(Reason.REVOKED)
    assert isinstance((await world.token(otts[0])).state, Revoked)


@pytest.mark.attack(55)
async def test_a_cap_that_was_lowered_voids_what_the_exhausted_credential_had_cleared() -> None:
    world = make_world(limits=Limits(session_seconds=300))
    await world.enrol(ADA, enrolled_pin(), enrolled_fingerprint())
    issued = [await world.engine.protect(ada, STATEMENT, READ) for _ in range(2)]
    [passing, ready] = [each.ott for each in issued if isinstance(each, StepUp)]
    for ott in (passing, ready):
        assert isinstance(await world.engine.verify(ada, ott, DEVICE, FINGERPRINT), Snapshot)
    high = await world.engine.protect(ada, PAYMENT, PAY)
    assert isinstance(high, StepUp)
    for left in (4, 3, 2):
        assert await world.engine.verify(ada, high.ott, Method.PIN, "0000") == Wrong(Method.PIN, left)
    assert await world.engine.protect(ada, STATEMENT, READ) == Approved(), "in the session"
    limits = Limits(disable_pin_after=3)
    lowered = make_world(store=world.store, clock=world.clock, entropy=world.entropy, limits=limits)
    for presented in (None, ready):
        assert isinstance(await lowered.engine.protect(ada, STATEMENT, READ, ott=presented), StepUp)
