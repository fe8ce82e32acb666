"""What many do at once, one does."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import pytest

from tests.engine.stores import OverStore
from tests.factories import (
    ADA,
    BATCH,
    CODE,
    FINGERPRINT,
    GRACE,
    NOW,
    NUMBER,
    PAY,
    PAYMENT,
    PIN,
    READ,
    STATEMENT,
    Faces,
    FixedClock,
    WatchedMethods,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.domain.action import Action
from watchword.domain.credential import FaceMap, Phone, Pin
from watchword.domain.decision import Change, Reason, Refusal
from watchword.domain.enrolment import StepUpFor
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, Reserved, Revoked, Spent
from watchword.domain.user import UserId
from watchword.engine import deciding as module
from watchword.engine.deciding import BusyError, StoreContendedError
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, Wrong, identify
from watchword.methods.base import Verifier

T = TypeVar("T")
ada = Caller(ADA)


async def at_once(calls: Sequence[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))


def kinds(answers: Sequence[object]) -> Counter[str]:
    """Count answers by what they are: refusals by their reason."""
    return Counter(
        answer.reason.value if isinstance(answer, Refusal) else type(answer).__name__ for answer in answers
    )


def another_process(world: World, methods: WatchedMethods | None = None) -> Engine:
    """Return an engine of its own on the same store: turns are taken within one process only."""
    return Engine(
        store=world.store,
        clock=world.clock,
        entropy=world.entropy,
        methods=methods or world.methods,
        delivery=world.outbox,
        faces=world.faces,
        limits=world.engine.limits,
    )


async def ready(world: World, action: Action = PAYMENT) -> str:
    """Return an OTT of Ada's that is cleared."""
    issued = await world.engine.protect(ada, action, PAY)
    assert isinstance(issued, StepUp)
    await world.engine.verify(ada, issued.ott, Method.PIN, PIN)
    await world.engine.verify(ada, issued.ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    return issued.ott


@pytest.fixture
async def world() -> World:
    """Ada has everything; room for as many tokens as there are racers."""
    world = make_world(limits=Limits(tokens_live=1000), faces=Faces())
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(), enrolled_fingerprint())
    return world


@pytest.mark.attack(25)
@pytest.mark.parametrize("processes", [1, 2, 8])
async def test_of_64_who_race_one_ready_token_one_is_let_through(world: World, processes: int) -> None:
    ott = await ready(world)
    engines = [world.engine, *(another_process(world) for _ in range(processes - 1))]
    answers = await at_once(
        [engines[number % processes].protect(ada, PAYMENT, PAY, ott=ott) for number in range(64)]
    )
    assert kinds(answers) == {"Approved": 1, "StepUp": 63}
    assert len({answer.ott for answer in answers if isinstance(answer, StepUp)}) == 63
    assert (await world.event_names()).count("token.spent") == 1


@pytest.mark.attack(25)
async def test_of_64_who_race_one_token_that_is_spent_on_success_one_is_let_through(world: World) -> None:
    ott = await ready(world, BATCH)
    answers = await at_once([world.engine.protect(ada, BATCH, PAY, ott=ott) for _ in range(64)])
    assert kinds(answers) == {"Approved": 1, "StepUp": 63}
    assert isinstance((await world.token(ott)).state, Reserved)


@pytest.mark.attack(43)
async def test_of_200_wrong_codes_at_once_five_are_compared_and_the_rest_meet_the_lock(world: World) -> None:
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    await world.engine.trigger(ada, issued.ott, Method.SMS)
    answers = await at_once(
        [world.engine.verify(ada, issued.ott, Method.SMS, f"{number:06}") for number in range(200)]
    )
    assert kinds(answers) == {"Wrong": 5, "locked": 195}
    assert [answer.attempts_left for answer in answers if isinstance(answer, Wrong)] == [4, 3, 2, 1, 0]
    assert world.methods.compared == {Method.SMS: 5}


@pytest.mark.attack(43)
@pytest.mark.attack(44)
async def test_wrong_answers_spread_over_tokens_methods_and_processes_share_one_count(world: World) -> None:
    issued = [await world.engine.protect(ada, PAYMENT, PAY) for _ in range(40)]
    engines = [world.engine, another_process(world), another_process(world), another_process(world)]
    otts = [answer.ott for answer in issued if isinstance(answer, StepUp)]
    for ott in otts[:10]:
        await world.engine.trigger(ada, ott, Method.SMS)

    def guess(number: int) -> Awaitable[object]:
        engine = engines[number % 4]
        if number % 2:
            return engine.verify(ada, otts[number % 10], Method.SMS, "x")
        return engine.verify(ada, otts[number], Method.PARTNER_DEVICE_FINGERPRINT, "x")

    answers = await at_once([guess(number) for number in range(40)])
    # Two processes may compare at once, but only what was counted is answered.
    assert kinds(answers) == {"Wrong": 5, "locked": 35}
    assert (await world.event_names()).count("challenge.failed") == 5


@pytest.mark.attack(28)
async def test_of_16_who_give_the_right_code_at_once_one_passes(world: World) -> None:
    for engines in ([world.engine], [world.engine, another_process(world)]):
        issued = await world.engine.protect(ada, PAYMENT, PAY)
        assert isinstance(issued, StepUp)
        await world.engine.trigger(ada, issued.ott, Method.VOICE)
        answers = await at_once(
            [
                engines[number % len(engines)].verify(ada, issued.ott, Method.VOICE, CODE)
                for number in range(16)
            ]
        )
        assert kinds(answers) == {"Snapshot": 1, "not-offered": 15}


async def test_a_right_answer_among_wrong_ones_comes_before_the_lock_or_never(
    world: World,
) -> None:
    for right_at in (0, 4, 5, 100):
        await world.enrol(ADA, enrolled_fingerprint())
        world.clock.advance(901)
        issued = await world.engine.protect(ada, STATEMENT, READ)
        assert isinstance(issued, StepUp)
        method = Method.PARTNER_DEVICE_FINGERPRINT
        answers = await at_once(
            [
                world.engine.verify(ada, issued.ott, method, FINGERPRINT if number == right_at else "x")
                for number in range(101)
            ]
        )
        assert isinstance(answers[right_at], Snapshot) == (right_at < 5)


async def test_64_calls_at_once_get_a_token_each_and_no_more_are_open_than_may_be() -> None:
    world = make_world(limits=Limits(tokens_live=20))
    await world.enrol(ADA, enrolled_phone())
    second = another_process(world)
    answers = await at_once(
        [(world.engine, second)[number % 2].protect(ada, STATEMENT, READ) for number in range(64)]
    )
    assert kinds(answers) == {"StepUp": 64}
    states = [type((await world.token(answer.ott)).state) for answer in answers if isinstance(answer, StepUp)]
    assert states.count(Revoked) == 44
    assert len((await world.user()).open_tokens) == 20


async def test_triggers_at_once_send_one_code(world: World) -> None:
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    engines = (world.engine, another_process(world))
    answers = await at_once(
        [engines[number % 2].trigger(ada, issued.ott, Method.SMS) for number in range(16)]
    )
    assert kinds(answers) == {"str": 1, "resent-too-soon": 15}
    assert len(world.outbox.messages) == 1


@pytest.mark.attack(20)
async def test_a_change_of_credentials_in_the_middle_of_a_race_leaves_nothing_to_spend(world: World) -> None:
    ott = await ready(world)
    second = another_process(world)
    _, answer = await asyncio.gather(
        second.enrolment.set(ADA, (enrolled_phone(),)), world.engine.protect(ada, PAYMENT, PAY, ott=ott)
    )
    state = (await world.token(ott)).state
    assert isinstance(state, Spent if isinstance(answer, Approved) else Revoked)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Refusal)


# --- enrolment --------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 4])
async def test_of_8_who_create_a_pin_at_once_one_does(processes: int) -> None:
    world = make_world()
    engines = [world.engine, *(another_process(world) for _ in range(processes - 1))]
    answers = await at_once(
        [engines[number % processes].enrolment.add_pin(ADA, f"{number}471") for number in range(8)]
    )
    assert kinds(answers) == {"Pin": 1, "already-enrolled": 7}
    (pin,) = [answer for answer in answers if isinstance(answer, Pin)]
    assert (await world.user()).credentials == (pin,)
    assert await world.event_names() == ["credentials.changed"]


@pytest.mark.parametrize("processes", [1, 8])
async def test_of_8_who_enrol_a_face_at_once_one_does_and_the_matcher_keeps_that_one_alone(
    processes: int,
) -> None:
    world = make_world(faces=Faces())
    engines = [world.engine, *(another_process(world) for _ in range(processes - 1))]
    answers = await at_once(
        [engines[number % processes].enrolment.add_face_map(ADA, b"face %d" % number) for number in range(8)]
    )
    assert kinds(answers) == {"FaceMap": 1, "already-enrolled": 7}
    (face,) = (await world.user()).credentials
    assert isinstance(face, FaceMap)
    assert world.faces is not None
    assert world.faces.kept == [world.methods.face_map.open(face, user_id=ADA)]


@pytest.mark.parametrize("processes", [1, 4])
async def test_of_16_fingerprints_at_once_as_many_are_kept_as_are_allowed(processes: int) -> None:
    world = make_world()
    engines = [world.engine, *(another_process(world) for _ in range(processes - 1))]
    answers = await at_once(
        [
            engines[number % processes].enrolment.add_device_fingerprint(ADA, f"device {number % 8}")
            for number in range(16)
        ]
    )
    assert kinds(answers)["DeviceFingerprint"] == 3
    user = await world.user()
    known = [
        device
        for device in (f"device {number}" for number in range(8))
        if world.methods.device_fingerprint.is_enrolled(device, user=user)
    ]
    assert len(user.credentials) == len(known) == 3


@pytest.mark.parametrize("processes", [1, 4])
async def test_of_8_users_who_claim_a_number_at_once_one_gets_it(processes: int) -> None:
    world = make_world()
    engines = [world.engine, *(another_process(world) for _ in range(processes - 1))]
    users = [UserId(7_000 + number) for number in range(8)]
    answers = await at_once(
        [
            engines[number % processes].enrolment.add_phone(user_id, NUMBER)
            for number, user_id in enumerate(users)
        ]
    )
    assert kinds(answers) == {"Phone": 1, "taken": 7}
    assert sum([bool((await world.user(user_id)).credentials) for user_id in users]) == 1


async def test_a_number_that_is_given_back_while_another_claims_it_has_one_owner_or_none(
    world: World,
) -> None:
    second = another_process(world)
    removed, claimed = await asyncio.gather(
        world.engine.enrolment.remove(ADA, CredentialKind.PHONE),
        second.enrolment.add_phone(GRACE, NUMBER),
    )
    assert removed is None
    assert isinstance(claimed, Phone) or claimed == Refusal(Reason.TAKEN)
    if not isinstance(claimed, Phone):
        assert isinstance(await second.enrolment.add_phone(GRACE, NUMBER), Phone)
    assert await second.enrolment.add_phone(UserId(7_000), NUMBER) == Refusal(Reason.TAKEN)


async def test_two_who_exchange_their_numbers_at_once_never_have_the_same() -> None:
    world = make_world()
    second, other = another_process(world), "+447700900123"
    mine, theirs = (
        await world.engine.enrolment.add_phone(ADA, NUMBER),
        await world.engine.enrolment.add_phone(GRACE, other),
    )
    assert isinstance(mine, Phone)
    assert isinstance(theirs, Phone)
    answers = await at_once(
        [
            world.engine.enrolment.replace_phone(ADA, mine.id, other),
            second.enrolment.replace_phone(GRACE, theirs.id, NUMBER),
        ]
    )
    assert kinds(answers)["taken"] >= 1
    digests = [phone.digest for user_id in (ADA, GRACE) for phone in (await world.user(user_id)).phones()]
    assert len(set(digests)) == 2


@pytest.mark.attack(20)
@pytest.mark.parametrize("processes", [1, 2])
async def test_of_enrolling_and_spending_at_once_the_token_is_spent_before_or_never(
    world: World, processes: int
) -> None:
    for _ in range(8):
        ott = await ready(world)
        before = len(await world.event_names())
        other = world.engine if processes == 1 else another_process(world)
        added, answer = await asyncio.gather(
            other.enrolment.add_face_map(ADA, b"a face"), world.engine.protect(ada, PAYMENT, PAY, ott=ott)
        )
        assert isinstance(added, FaceMap)
        names = (await world.event_names())[before:]
        state = (await world.token(ott)).state
        if isinstance(answer, Approved):
            assert isinstance(state, Spent)
            assert names.index("token.spent") < names.index("credentials.changed")
        else:
            assert isinstance(state, Revoked)
        assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), StepUp)
        assert await other.enrolment.remove(ADA, CredentialKind.FACE_MAP) is None


@pytest.mark.attack(20)
@pytest.mark.parametrize("processes", [1, 2])
async def test_of_two_additions_that_are_each_free_one_is_made(processes: int) -> None:
    """Ada has a phone; whoever holds her access token alone gets no two factors of his own."""
    world = make_world(faces=Faces())
    await world.enrol(ADA, enrolled_phone())
    rule = StepUpFor.TWO_FACTORS
    engines = [world.engine, another_process(world)][:processes]
    for kind in (CredentialKind.PIN, CredentialKind.FACE_MAP):
        assert await engines[-1].enrolment.step_up(ADA, adds=kind, when=rule) is None
    answers = await asyncio.gather(
        engines[0].enrolment.add_pin(ADA, "4711", unasked=rule),
        engines[-1].enrolment.add_face_map(ADA, b"a face", unasked=rule),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StoreContendedError) for answer in answers) == 1
    user = await world.user()
    assert len(user.credentials) == 2
    assert world.faces is not None
    assert len(world.faces.kept) == sum(isinstance(each, FaceMap) for each in user.credentials)


# --- what happens between the look and the write ----------------------------------------------


class Meanwhile(OverStore):
    """Lets a test do something just before the next write."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Awaitable[object] | None = None

    async def commit(self, change: Change) -> bool:
        first, self.first = self.first, None
        if first is not None:
            await first
        return await super().commit(change)


async def test_a_guess_that_lost_its_version_is_compared_again_or_refused() -> None:
    store = Meanwhile()
    world = make_world(store=store, limits=Limits(failures=1))
    await world.enrol(ADA, enrolled_fingerprint())
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    method = Method.PARTNER_DEVICE_FINGERPRINT
    store.first = another_process(world).verify(ada, issued.ott, method, "wrong")
    # It was right when it was compared, but the other one was counted first, and locked.
    answer = await world.engine.verify(ada, issued.ott, method, FINGERPRINT)
    assert answer == Refusal(Reason.LOCKED, retry_after=900)


async def test_a_token_that_expires_while_its_answer_is_compared_is_not_cleared() -> None:
    clock = FixedClock()

    class Slowly(WatchedMethods):
        def verifier(self, method: Method) -> Verifier | None:
            clock.advance(900)
            return super().verifier(method)

    world = make_world(methods=Slowly(), clock=clock)
    await world.enrol(ADA, enrolled_fingerprint())
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    answer = await world.engine.verify(ada, issued.ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    assert answer == Refusal(Reason.EXPIRED)
    assert not isinstance((await world.token(issued.ott)).state, Cleared)


async def test_an_open_token_is_not_forgotten_when_another_expires_while_they_are_counted() -> None:
    class Ticking(FixedClock):
        """Each look at it takes a millisecond."""

        def now(self) -> Instant:
            self.advance(0.001)
            return super().now()

    clock = FixedClock()
    world = make_world(limits=Limits(tokens_live=3, token_seconds=10), clock=clock)
    await world.enrol(ADA, enrolled_phone())
    await world.engine.protect(ada, STATEMENT, READ)
    clock.advance(1)
    kept = [await world.engine.protect(ada, STATEMENT, READ) for _ in range(2)]
    world.engine.clock = Ticking(Instant(NOW + 9_997))
    await world.engine.protect(ada, STATEMENT, READ)
    entries = {entry.id for entry in (await world.user()).open_tokens}
    assert {identify(answer.ott) for answer in kept if isinstance(answer, StepUp)} <= entries


# --- slow comparisons -------------------------------------------------------------------------


async def test_slow_work_runs_off_the_event_loop_and_a_few_at_a_time(world: World) -> None:
    running, most, lock, go = 0, 0, threading.Lock(), threading.Event()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                loop.call_soon_threadsafe(started.set)
        go.wait(10)
        with lock:
            running -= 1
        return threading.current_thread().name

    waiting = [asyncio.create_task(world.engine.slowly(work)) for _ in range(6)]
    await started.wait()
    go.set()
    names = await asyncio.gather(*waiting)
    assert most == 2
    assert threading.current_thread().name not in names


async def test_who_gets_no_turn_in_time_is_told_to_come_back_and_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLOW_WAIT_SECONDS", 0.01)
    world = make_world(slow_at_once=1)
    await world.enrol(ADA, enrolled_pin())
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    go, running = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(running.set)
        go.wait(10)

    held = asyncio.create_task(world.engine.slowly(work))
    await running.wait()
    with pytest.raises(BusyError):
        await world.engine.verify(ada, issued.ott, Method.PIN, "0000")
    assert world.methods.compared[Method.PIN] == 0
    assert (await world.user()).attempts.consecutive == 0
    go.set()
    await held
    assert await world.engine.verify(ada, issued.ott, Method.PIN, "0000") == Wrong(Method.PIN, 4)


async def test_a_caller_who_goes_away_leaves_the_place_taken_until_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLOW_WAIT_SECONDS", 0.01)
    world = make_world(slow_at_once=1)
    go, running, done = threading.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(running.set)
        go.wait(10)
        loop.call_soon_threadsafe(done.set)

    gone = asyncio.create_task(world.engine.slowly(work))
    await running.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    with pytest.raises(BusyError):
        await world.engine.slowly(lambda: None)
    go.set()
    await done.wait()
    monkeypatch.setattr(module, "SLOW_WAIT_SECONDS", 10)
    assert await world.engine.slowly(lambda: 7) == 7


async def test_the_error_of_slow_work_is_its_callers(world: World) -> None:
    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await world.engine.slowly(work)
    assert await world.engine.slowly(lambda: 7) == 7


@pytest.mark.attack(62)
async def test_users_who_share_a_number_do_not_fail_each_other() -> None:
    """What was sent to a number is one record: sixty-four triggers at once meet on it."""
    world = make_world(limits=Limits(sends_per_number=1000), codes=[CODE] * 100)
    callers = [Caller(UserId(7_000 + number)) for number in range(64)]
    otts: list[str] = []
    for caller in callers:
        await world.enrol(caller.user_id, enrolled_phone(caller.user_id))
        issued = await world.engine.protect(caller, STATEMENT, READ)
        assert isinstance(issued, StepUp)
        otts.append(issued.ott)
    sent = await asyncio.gather(
        *(world.engine.trigger(caller, ott, Method.SMS) for caller, ott in zip(callers, otts, strict=True))
    )
    assert sent == ["*********8888"] * 64
    assert len(world.outbox.messages) == 64
