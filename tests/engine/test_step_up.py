"""The whole of a step-up: a protected call, its challenges, the call again."""

from dataclasses import replace

import pytest

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
    UNKNOWN_OTT,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.delivery.base import DeliveryError
from watchword.domain.action import Action, Bind
from watchword.domain.binding import Binding, bind
from watchword.domain.decision import EventName, Reason, Refusal
from watchword.domain.instant import Instant, after
from watchword.domain.limits import DAY_SECONDS, Limits, Retention
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, Reserved, Revoked, Spent
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, Wrong, identify, in_words

ada, grace = Caller(ADA), Caller(GRACE)
OTHER = bind("POST", b"/v3/profiles/435036/transfers/10/payments", b"")


@pytest.fixture
async def world() -> World:
    """Ada has a PIN, a phone and a device; Grace a phone."""
    world = make_world()
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(), enrolled_fingerprint())
    await world.enrol(GRACE, enrolled_phone(GRACE, "+447700900123"))
    return world


async def stepped_up(
    world: World,
    action: Action = PAYMENT,
    binding: Binding = PAY,
    caller: Caller = ada,
    ott: str | None = None,
) -> str:
    """Call, and return the OTT that the call was answered with."""
    answer = await world.engine.protect(caller, action, binding, ott=ott)
    assert isinstance(answer, StepUp), answer
    return answer.ott


async def cleared(
    world: World, action: Action = PAYMENT, binding: Binding = PAY, caller: Caller = ada
) -> str:
    """Call, and clear the OTT that the call was answered with."""
    ott = await stepped_up(world, action, binding, caller)
    if action.risk == "high":
        assert isinstance(await world.engine.verify(caller, ott, Method.PIN, PIN), Snapshot)
    assert isinstance(await world.engine.trigger(caller, ott, Method.SMS), str)
    answer = await world.engine.verify(caller, ott, Method.SMS, CODE)
    assert isinstance(answer, Snapshot)
    assert isinstance(answer.token.state, Cleared)
    return ott


# --- the flow ---------------------------------------------------------------------------------


@pytest.mark.attack(1)
async def test_a_payment_runs_once_after_two_factors(world: World) -> None:
    ott = await stepped_up(world)
    shown = await world.engine.status(ada, ott)
    assert isinstance(shown, Snapshot)
    assert (shown.token.action, shown.seconds_left) == ("TRANSFER__FUND", 900)
    assert shown.token.open_methods() == [
        (Method.PIN,),
        (Method.SMS, Method.WHATSAPP, Method.VOICE, Method.PARTNER_DEVICE_FINGERPRINT),
    ]
    assert isinstance(await world.engine.verify(ada, ott, Method.PIN, PIN), Snapshot)
    assert await world.engine.trigger(ada, ott, Method.SMS) == "*********8888"
    (message,) = world.outbox.messages
    assert (message.channel, message.to, message.code) == (Method.SMS, NUMBER, CODE)
    assert message.text == f"{CODE} is your code for transfer: fund. Do not share it with anybody."
    assert isinstance(await world.engine.verify(ada, ott, Method.SMS, CODE), Snapshot)
    approved = await world.engine.protect(ada, PAYMENT, PAY, ott=ott)
    assert isinstance(approved, Approved)
    assert approved.token == await world.token(ott)
    assert approved.token is not None
    assert (approved.token.state, approved.reserved) == (Spent(NOW), False)
    assert await stepped_up(world, ott=ott) != ott
    assert (await world.event_names())[2:] == [
        "token.issued",
        "challenge.passed",
        "code.sent",
        "challenge.passed",
        "token.cleared",
        "token.spent",
        "token.issued",
    ]


async def test_either_alternative_of_a_challenge_passes_it(world: World) -> None:
    ott = await stepped_up(world)
    await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    await world.engine.verify(ada, ott, Method.PIN, PIN)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)
    assert world.outbox.messages == []


@pytest.mark.attack(23)
async def test_two_alternatives_of_one_challenge_are_not_two_challenges(world: World) -> None:
    ott = await stepped_up(world)
    await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    assert await world.engine.trigger(ada, ott, Method.SMS) == Refusal(Reason.NOT_OFFERED)
    assert await world.engine.verify(ada, ott, Method.SMS, CODE) == Refusal(Reason.NOT_OFFERED)
    assert await stepped_up(world, ott=ott) != ott


@pytest.mark.attack(23)
async def test_an_unfinished_token_is_answered_with_a_new_one_and_stays_usable(world: World) -> None:
    ott = await stepped_up(world)
    await world.engine.verify(ada, ott, Method.PIN, PIN)
    assert await stepped_up(world, ott=ott) != ott
    await world.engine.trigger(ada, ott, Method.VOICE)
    await world.engine.verify(ada, ott, Method.VOICE, CODE)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)


async def test_whoever_has_not_enrolled_enough_gets_no_token(world: World) -> None:
    refusal = await world.engine.protect(grace, PAYMENT, PAY)
    assert refusal == Refusal(Reason.NOT_ENROLLED, methods=("PIN",))
    nobody = Caller(type(ADA)(1))
    assert isinstance(await world.engine.protect(nobody, STATEMENT, READ), Refusal)


# --- the low-risk session ---------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "open_still"), [(-1, True), (0, False), (1, False)])
async def test_after_a_cleared_token_low_risk_passes_for_as_long_as_the_session(
    world: World, offset: int, open_still: bool
) -> None:
    await cleared(world, STATEMENT, READ)
    world.clock.at = Instant(after(NOW, 300) + offset)
    answer = await world.engine.protect(ada, STATEMENT, READ)
    assert (answer == Approved()) == open_still
    assert ("session.used" in await world.event_names()) == open_still


async def test_high_risk_asks_whatever_the_session(world: World) -> None:
    await cleared(world)
    await stepped_up(world)


async def test_a_presented_token_that_does_not_fit_is_answered_with_a_new_one_even_in_a_session(
    world: World,
) -> None:
    await cleared(world, STATEMENT, READ)
    await stepped_up(world, STATEMENT, READ, ott=UNKNOWN_OTT)


async def test_with_a_session_of_no_seconds_every_call_asks() -> None:
    world = make_world(limits=Limits(session_seconds=0))
    await world.enrol(ADA, enrolled_phone())
    ott = await cleared(world, STATEMENT, READ)
    assert isinstance(await world.engine.protect(ada, STATEMENT, READ, ott=ott), Approved)
    await stepped_up(world, STATEMENT, READ)


async def test_a_token_to_authorise_a_session_opens_it_and_lets_no_request_through(world: World) -> None:
    authorised = await world.engine.authorise(ada, READ)
    assert not isinstance(authorised, Refusal)
    ott, shown = authorised
    assert (shown.token.action, shown.seconds_left) == ("IDENTITY__AUTHORISE_SESSION", 900)
    assert isinstance(await world.engine.verify(ada, ott, Method.PIN, PIN), Snapshot)
    await stepped_up(world, STATEMENT, READ, ott=ott)
    assert await world.engine.protect(ada, STATEMENT, READ) == Approved()


async def test_whoever_has_nothing_enrolled_cannot_authorise_a_session(world: World) -> None:
    refused = await world.engine.authorise(Caller(type(ADA)(1)), READ)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOT_ENROLLED


# --- binding ----------------------------------------------------------------------------------


@pytest.mark.attack(2)
async def test_another_users_token_is_unknown_to_everybody_else_and_left_untouched(world: World) -> None:
    ott = await cleared(world)
    before = await world.token(ott)
    sent = len(world.outbox.messages)
    for stranger in (grace, Caller(type(ADA)(1))):
        assert await world.engine.status(stranger, ott) == Refusal(Reason.UNKNOWN)
        assert await world.engine.trigger(stranger, ott, Method.SMS) == Refusal(Reason.UNKNOWN)
        assert await world.engine.verify(stranger, ott, Method.SMS, CODE) == Refusal(Reason.UNKNOWN)
    await stepped_up(world, STATEMENT, READ, grace, ott=ott)
    assert await world.token(ott) == before
    assert len(world.outbox.messages) == sent
    assert (await world.user(GRACE)).attempts.consecutive == 0
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)


@pytest.mark.attack(2)
async def test_the_audit_names_whose_token_a_stranger_presented(world: World) -> None:
    ott = await stepped_up(world)
    await stepped_up(world, STATEMENT, READ, grace, ott=ott)
    await stepped_up(world, STATEMENT, READ, grace, ott=UNKNOWN_OTT)
    foreign, unknown = [event for _, event in await world.store.events()][-2:]
    assert (foreign.user_id, foreign.details["presented"], foreign.details["owner"]) == (
        GRACE,
        "unknown",
        ADA,
    )
    assert "owner" not in unknown.details


@pytest.mark.attack(5)
async def test_a_token_of_another_action_is_refused_and_not_consumed(world: World) -> None:
    ott = await cleared(world)
    await stepped_up(world, BATCH, OTHER, ott=ott)
    assert isinstance((await world.token(ott)).state, Cleared)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)


@pytest.mark.attack(3)
@pytest.mark.attack(4)
async def test_a_changed_request_voids_a_token_that_is_bound_to_its_request(world: World) -> None:
    for ott in (await cleared(world), await stepped_up(world)):
        new = await stepped_up(world, binding=OTHER, ott=ott)
        assert new != ott
        assert (await world.token(ott)).state == Revoked(NOW, "other-request")
        assert await world.engine.status(ada, ott) == Refusal(Reason.REVOKED)
        await stepped_up(world, ott=ott)


async def test_a_changed_request_is_served_by_a_token_that_is_bound_to_its_action(world: World) -> None:
    ott = await cleared(world, STATEMENT, READ)
    other = bind("GET", b"/v1/profiles/435036/balance-statements/8/statement.json", b"type=ACCOUNTING")
    assert isinstance(await world.engine.protect(ada, STATEMENT, other, ott=ott), Approved)


async def test_a_high_risk_action_may_be_bound_to_the_action_where_it_is_so_configured(world: World) -> None:
    action = replace(PAYMENT, bind=Bind.ACTION)
    ott = await cleared(world, action)
    assert isinstance(await world.engine.protect(ada, action, OTHER, ott=ott), Approved)


@pytest.mark.attack(20)
async def test_a_change_of_credentials_voids_open_tokens_and_ends_the_session_but_keeps_counts(
    world: World,
) -> None:
    ready, pending = await cleared(world), await stepped_up(world)
    await world.engine.verify(ada, pending, Method.PIN, "0000")
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(number="+6511111111"))
    for ott in (ready, pending):
        assert (await world.token(ott)).state == Revoked(NOW, "credentials-changed")
        await stepped_up(world, ott=ott)
    await stepped_up(world, STATEMENT, READ)
    ott = await stepped_up(world)
    assert await world.engine.verify(ada, ott, Method.PIN, "0000") == Wrong(Method.PIN, 3)


@pytest.mark.attack(20)
async def test_a_token_that_was_reserved_while_others_crowded_it_is_voided_with_the_credentials(
    world: World,
) -> None:
    ott = await cleared(world, BATCH, OTHER)
    held = await world.engine.protect(ada, BATCH, OTHER, ott=ott)
    assert isinstance(held, Approved)
    for _ in range(21):
        await stepped_up(world)
    await world.engine.release(ada, identify(ott))
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(number="+6511111111"))
    await stepped_up(world, BATCH, OTHER, ott=ott)


# --- expiry -----------------------------------------------------------------------------------


@pytest.mark.attack(38)
async def test_an_expired_token_answers_nothing_and_is_replaced(world: World) -> None:
    ott = await stepped_up(world)
    world.clock.advance(900)
    assert await world.engine.status(ada, ott) == Refusal(Reason.EXPIRED)
    assert await world.engine.trigger(ada, ott, Method.SMS) == Refusal(Reason.EXPIRED)
    assert await world.engine.verify(ada, ott, Method.PIN, PIN) == Refusal(Reason.EXPIRED)
    assert world.methods.compared[Method.PIN] == 0
    await stepped_up(world, ott=ott)


async def test_validity_counts_down_and_is_short_once_cleared(world: World) -> None:
    ott = await stepped_up(world)
    world.clock.advance(100.5)
    shown = await world.engine.status(ada, ott)
    assert isinstance(shown, Snapshot)
    assert shown.seconds_left == 800
    ott = await cleared(world)
    shown = await world.engine.status(ada, ott)
    assert isinstance(shown, Snapshot)
    assert shown.seconds_left == 300


@pytest.mark.attack(37)
async def test_a_spent_token_does_nothing_more_and_sends_nothing(world: World) -> None:
    ott = await cleared(world)
    await world.engine.protect(ada, PAYMENT, PAY, ott=ott)
    sent, before = len(world.outbox.messages), await world.token(ott)
    for answer in (
        await world.engine.status(ada, ott),
        await world.engine.trigger(ada, ott, Method.SMS),
        await world.engine.verify(ada, ott, Method.SMS, CODE),
    ):
        assert answer == Refusal(Reason.ALREADY_SPENT)
    assert len(world.outbox.messages) == sent
    assert await world.token(ott) == before


async def test_long_after_its_expiry_a_token_is_swept(world: World) -> None:
    await stepped_up(world)
    world.clock.advance(900 + DAY_SECONDS - 1)
    assert await world.engine.sweep() == 0
    world.clock.advance(1)
    assert await world.engine.sweep() == 1


@pytest.mark.parametrize("days", [1, 2, 30])
async def test_a_token_stays_as_long_as_it_is_to_be_kept(world: World, days: int) -> None:
    await stepped_up(world)
    world.engine.retention = Retention(tokens_days=days)
    world.clock.advance(900 + days * DAY_SECONDS - 0.001)
    assert await world.engine.sweep() == 0
    world.clock.advance(0.001)
    assert await world.engine.sweep() == 1


async def test_events_are_kept_for_ever_unless_the_operator_says_how_long(world: World) -> None:
    for _ in range(3):
        await stepped_up(world)
    before = len(await world.event_names())
    world.clock.advance(100 * 365 * DAY_SECONDS)
    await world.engine.sweep()
    assert len(await world.event_names()) == before


async def test_an_event_stays_as_long_as_it_is_to_be_kept_and_few_go_at_once(world: World) -> None:
    for _ in range(4):
        await stepped_up(world)
    kept = len(await world.event_names())
    world.engine.retention = Retention(tokens_days=1000, audit_days=400)
    world.clock.advance(400 * DAY_SECONDS)
    assert await world.engine.sweep() == 0
    world.clock.advance(0.001)
    assert [await world.engine.sweep(limit=2) for _ in range(4)] == [2, 2, kept - 5, 0]


# --- open tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize(("issued", "oldest_lives"), [(19, True), (20, True), (21, False)])
async def test_the_twenty_first_open_token_voids_the_oldest(
    world: World, issued: int, oldest_lives: bool
) -> None:
    otts = [await stepped_up(world) for _ in range(issued)]
    first = await world.engine.status(ada, otts[0])
    assert isinstance(first, Snapshot) == oldest_lives
    if not oldest_lives:
        assert first == Refusal(Reason.REVOKED)
    for ott in otts[1:]:
        assert isinstance(await world.engine.status(ada, ott), Snapshot)


async def test_spent_tokens_make_room(world: World) -> None:
    oldest = await stepped_up(world, STATEMENT, READ)
    for _ in range(25):
        ott = await stepped_up(world)
        await world.engine.verify(ada, ott, Method.PIN, PIN)
        await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
        assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)
    assert isinstance(await world.engine.status(ada, oldest), Snapshot)


# --- codes ------------------------------------------------------------------------------------


@pytest.mark.attack(29)
async def test_a_code_of_one_token_fails_on_another_and_counts(world: World) -> None:
    world.entropy = type(world.entropy)(["123456", "654321"])
    world.engine.entropy = world.entropy
    one, two = await stepped_up(world, STATEMENT, READ), await stepped_up(world, STATEMENT, READ)
    assert one != two
    for ott in (one, two):
        await world.engine.trigger(ada, ott, Method.SMS)
    assert await world.engine.verify(ada, two, Method.SMS, "123456") == Wrong(Method.SMS, 4)
    assert isinstance(await world.engine.verify(ada, one, Method.SMS, "123456"), Snapshot)


@pytest.mark.attack(29)
async def test_even_the_same_digits_sent_for_another_token_prove_only_their_own(world: World) -> None:
    one, two = await stepped_up(world), await stepped_up(world)
    await world.engine.trigger(ada, one, Method.SMS)
    assert await world.engine.verify(ada, two, Method.SMS, CODE) == Refusal(Reason.NOT_TRIGGERED)


@pytest.mark.attack(28)
async def test_a_code_passes_once(world: World) -> None:
    ott = await stepped_up(world)
    await world.engine.trigger(ada, ott, Method.SMS)
    assert isinstance(await world.engine.verify(ada, ott, Method.SMS, CODE), Snapshot)
    assert await world.engine.verify(ada, ott, Method.SMS, CODE) == Refusal(Reason.NOT_OFFERED)


async def test_nobody_is_sent_a_code_too_soon_and_the_refusal_sends_nothing(world: World) -> None:
    ott = await stepped_up(world)
    await world.engine.trigger(ada, ott, Method.SMS)
    world.clock.advance(29)
    assert await world.engine.trigger(ada, ott, Method.SMS) == Refusal(Reason.RESENT_TOO_SOON, retry_after=1)
    assert len(world.outbox.messages) == 1
    world.clock.advance(1)
    assert isinstance(await world.engine.trigger(ada, ott, Method.SMS), str)


@pytest.mark.attack(62)
async def test_a_number_that_two_users_share_receives_one_share_in_a_day(world: World) -> None:
    await world.enrol(GRACE, enrolled_phone(GRACE))
    for count in range(10):
        caller = (ada, grace)[count % 2]
        ott = await stepped_up(world, STATEMENT, READ, caller)
        assert isinstance(await world.engine.trigger(caller, ott, Method.SMS), str)
    for caller in (ada, grace):
        ott = await stepped_up(world, STATEMENT, READ, caller)
        refusal = await world.engine.trigger(caller, ott, Method.VOICE)
        assert refusal == Refusal(Reason.SENDS_EXHAUSTED, retry_after=DAY_SECONDS)
    world.clock.advance(DAY_SECONDS)
    ott = await stepped_up(world, STATEMENT, READ)
    assert isinstance(await world.engine.trigger(ada, ott, Method.SMS), str)


@pytest.mark.attack(71)
async def test_when_nobody_could_deliver_the_token_stays_usable_at_once(world: World) -> None:
    ott = await stepped_up(world)
    world.outbox.down = True
    with pytest.raises(DeliveryError):
        await world.engine.trigger(ada, ott, Method.SMS)
    # The code that nobody received is dead, even to whoever guesses it.
    assert await world.engine.verify(ada, ott, Method.SMS, CODE) == Refusal(Reason.CODE_EXPIRED)
    world.outbox.down = False
    assert isinstance(await world.engine.trigger(ada, ott, Method.SMS), str)
    assert isinstance(await world.engine.verify(ada, ott, Method.SMS, CODE), Snapshot)
    assert "code.undelivered" in await world.event_names()


async def test_where_nobody_carries_codes_any_more_a_token_from_before_is_not_delivered(world: World) -> None:
    ott = await stepped_up(world)
    without = Engine(
        store=world.store,
        clock=world.clock,
        entropy=world.entropy,
        methods=world.methods,
        delivery=None,
        limits=world.engine.limits,
    )
    with pytest.raises(DeliveryError):
        await without.trigger(ada, ott, Method.SMS)
    issued = await without.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    assert issued.token.open_methods() == [(Method.PIN, Method.PARTNER_DEVICE_FINGERPRINT)]


async def test_undelivered_codes_stay_counted_so_that_a_failing_provider_is_not_called_without_end(
    world: World,
) -> None:
    ott = await stepped_up(world)
    world.outbox.down = True
    for _ in range(5):
        with pytest.raises(DeliveryError):
            await world.engine.trigger(ada, ott, Method.SMS)
    assert await world.engine.trigger(ada, ott, Method.SMS) == Refusal(
        Reason.SENDS_EXHAUSTED, retry_after=900
    )


# --- guessing ---------------------------------------------------------------------------------


@pytest.mark.attack(44)
async def test_five_wrong_answers_over_tokens_and_methods_lock_trigger_verify_and_new_tokens(
    world: World,
) -> None:
    otts = [await stepped_up(world) for _ in range(5)]
    ready = await cleared(world)
    wrong = [
        (Method.PIN, "0000"),
        (Method.PARTNER_DEVICE_FINGERPRINT, "x"),
        (Method.PIN, "0001"),
        (Method.PARTNER_DEVICE_FINGERPRINT, "y"),
        (Method.PIN, "0002"),
    ]
    for left, (ott, (method, answer)) in zip((4, 3, 2, 1, 0), zip(otts, wrong, strict=True), strict=True):
        assert await world.engine.verify(ada, ott, method, answer) == Wrong(method, left)
    locked = Refusal(Reason.LOCKED, retry_after=900)
    assert await world.engine.verify(ada, otts[0], Method.PIN, PIN) == locked
    assert await world.engine.trigger(ada, otts[0], Method.SMS) == locked
    assert await world.engine.protect(ada, PAYMENT, PAY) == locked
    assert await world.engine.authorise(ada, READ) == locked
    # What needs no new token still runs: the token was cleared, and the session is open.
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ready), Approved)
    assert await world.engine.protect(ada, STATEMENT, READ) == Approved()


@pytest.mark.attack(52)
async def test_the_lock_ends_after_its_time_and_the_right_answer_passes_again() -> None:
    world = make_world(limits=Limits(token_seconds=3600))
    await world.enrol(ADA, enrolled_phone(), enrolled_fingerprint())
    ott = await stepped_up(world, STATEMENT, READ)
    for _ in range(5):
        await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, "x")
    world.clock.advance(899.999)
    refusal = await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    assert refusal == Refusal(Reason.LOCKED, retry_after=1)
    assert world.methods.compared[Method.PARTNER_DEVICE_FINGERPRINT] == 5
    world.clock.advance(0.001)
    assert isinstance(
        await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT), Snapshot
    )


async def test_a_lock_comes_before_what_is_not_enrolled(world: World) -> None:
    ott = await stepped_up(world, STATEMENT, READ, grace)
    await world.engine.trigger(grace, ott, Method.SMS)
    for _ in range(5):
        await world.engine.verify(grace, ott, Method.SMS, "000000")
    assert await world.engine.protect(grace, PAYMENT, PAY) == Refusal(Reason.LOCKED, retry_after=900)


@pytest.mark.attack(55)
async def test_ten_wrong_pins_over_two_locks_disable_the_pin_until_a_new_one_is_enrolled() -> None:
    world = make_world(limits=Limits(token_seconds=10_000))
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    ott = await stepped_up(world)
    for count in range(10):
        assert isinstance(await world.engine.verify(ada, ott, Method.PIN, "0000"), Wrong)
        if count == 4:
            world.clock.advance(900)
    world.clock.advance(900)
    assert CredentialKind.PIN not in (await world.user()).enrolled()
    assert EventName.CREDENTIAL_DISABLED.value in await world.event_names()
    assert await world.engine.verify(ada, ott, Method.PIN, PIN) == Refusal(Reason.REVOKED)
    refusal = await world.engine.protect(ada, PAYMENT, PAY)
    assert refusal == Refusal(Reason.NOT_ENROLLED, methods=("PIN",))
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    await stepped_up(world)


# --- spend on success -------------------------------------------------------------------------


async def reserved(world: World) -> str:
    ott = await cleared(world, BATCH, OTHER)
    held = await world.engine.protect(ada, BATCH, OTHER, ott=ott)
    assert isinstance(held, Approved)
    assert held.reserved
    return ott


async def test_while_a_handler_runs_its_token_lets_nobody_else_through(world: World) -> None:
    ott = await reserved(world)
    assert (await world.token(ott)).state == Reserved(NOW, after(NOW, 60))
    await stepped_up(world, BATCH, OTHER, ott=ott)
    assert await world.engine.status(ada, ott) == Refusal(Reason.RESERVED)


async def test_a_handler_that_succeeded_has_spent_its_token(world: World) -> None:
    ott = await reserved(world)
    await world.engine.confirm(ada, identify(ott))
    assert (await world.token(ott)).state == Spent(NOW)
    await world.engine.release(ada, identify(ott))
    assert (await world.token(ott)).state == Spent(NOW)


async def test_a_handler_that_failed_gives_its_token_back_for_one_more_try(world: World) -> None:
    ott = await reserved(world)
    await world.engine.release(ada, identify(ott))
    assert isinstance(await world.engine.protect(ada, BATCH, OTHER, ott=ott), Approved)
    await world.engine.confirm(ada, identify(ott))
    await stepped_up(world, BATCH, OTHER, ott=ott)


async def test_a_handler_that_crashed_leaves_its_token_spent(world: World) -> None:
    ott = await reserved(world)
    world.clock.advance(60)
    await world.engine.release(ada, identify(ott))
    await stepped_up(world, BATCH, OTHER, ott=ott)
    assert isinstance((await world.token(ott)).state, Reserved)


async def test_a_stranger_neither_confirms_nor_releases(world: World) -> None:
    ott = await reserved(world)
    await world.engine.confirm(grace, identify(ott))
    await world.engine.release(grace, identify(ott))
    assert isinstance((await world.token(ott)).state, Reserved)


# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "words"),
    [("BALANCE__GET_STATEMENT", "balance: get statement"), ("TRANSFER__FUND", "transfer: fund"), ("X", "x")],
)
def test_an_action_is_told_to_a_person_in_words(action: str, words: str) -> None:
    assert in_words(action) == words


def test_a_token_is_stored_under_a_digest_of_its_ott() -> None:
    assert identify(UNKNOWN_OTT) != identify(UNKNOWN_OTT[:-1] + "1")
    assert len(identify(UNKNOWN_OTT)) == 32
