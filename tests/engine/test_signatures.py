"""Personal tokens: a program signs its OTT on the retry itself."""

import asyncio

import pytest

from tests.engine.stores import Unavailable
from tests.factories import (
    ADA,
    BATCH,
    FINGERPRINT,
    GRACE,
    PAY,
    PAYMENT,
    READ,
    STATEMENT,
    World,
    enrolled_fingerprint,
    enrolled_pin,
    make_world,
    public_pem,
    signature_of,
)
from watchword.domain.action import Action
from watchword.domain.binding import Binding, bind
from watchword.domain.decision import Reason, Refusal
from watchword.domain.instant import after
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Pending, Reserved, Revoked, Spent
from watchword.engine.engine import Approved, Caller, Engine, StepUp, Wrong
from watchword.store.base import StoreUnavailableError

ada, program = Caller(ADA), Caller(ADA, signs=True)
OTHER = bind("POST", PAY.path.encode(), b"amount=2")
WRONG = Wrong(Method.SIGNATURE, 4)


async def world_with(*keys: int, limits: Limits = Limits(), store: Unavailable | None = None) -> World:  # noqa: B008 - frozen.
    world = make_world(limits=limits, store=store)
    for number in keys or (0,):
        await world.engine.enrolment.add_public_key(ADA, public_pem(number))
    return world


@pytest.fixture
async def world() -> World:
    return await world_with()


async def asked(world: World, action: Action = PAYMENT, binding: Binding = PAY) -> str:
    issued = await world.engine.protect(program, action, binding)
    assert isinstance(issued, StepUp), issued
    assert issued.token.open_methods() == [(Method.SIGNATURE,)]
    return issued.ott


async def retry(
    world: World,
    ott: str,
    signature: str | None,
    *,
    caller: Caller = program,
    action: Action = PAYMENT,
    binding: Binding = PAY,
) -> Approved | StepUp | Wrong | Refusal:
    return await world.engine.protect(caller, action, binding, ott=ott, signature=signature)


@pytest.mark.parametrize("action", [PAYMENT, STATEMENT])
async def test_one_signature_suffices_at_any_risk_and_is_good_once(world: World, action: Action) -> None:
    ott = await asked(world, action)
    signature = signature_of(ott)
    answer = await retry(world, ott, signature, action=action)
    assert isinstance(answer, Approved)
    assert answer.token is not None
    assert not answer.reserved
    assert isinstance((await world.token(ott)).state, Spent)
    again = await retry(world, ott, signature, action=action)
    assert isinstance(again, StepUp)
    assert again.ott != ott
    assert (await world.event_names())[1:5] == [
        "token.issued",
        "challenge.passed",
        "token.cleared",
        "token.spent",
    ]


async def test_it_is_verified_and_spent_in_one_commit() -> None:
    store = Unavailable()
    world = await world_with(store=store)
    ott = await asked(world)
    before = await world.user()
    store.down = True
    with pytest.raises(StoreUnavailableError):
        await retry(world, ott, signature_of(ott))
    store.down = False
    # Nothing of it: neither cleared, nor counted as a success.
    assert isinstance((await world.token(ott)).state, Pending)
    assert await world.user() == before
    assert isinstance(await retry(world, ott, signature_of(ott)), Approved)


async def test_a_wrong_signature_is_counted_and_the_token_stays_usable(world: World) -> None:
    ott, other = await asked(world), await asked(world)
    for number, signature in enumerate(("", "!", "AAAA", signature_of(other))):
        assert await retry(world, ott, signature) == Wrong(Method.SIGNATURE, 4 - number)
    assert isinstance(await retry(world, ott, signature_of(ott)), Approved)
    assert (await world.user()).attempts.consecutive == 0


async def test_the_fifth_wrong_one_locks_and_then_nothing_is_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ott = await asked(world)
    for left in (4, 3, 2, 1, 0):
        assert await retry(world, ott, "AAAA") == Wrong(Method.SIGNATURE, left)

    def never(*_: object, **__: object) -> bool:
        raise AssertionError("compared during a lock")

    monkeypatch.setattr(world.methods.signature, "verify", never)
    locked = await retry(world, ott, signature_of(ott))
    assert locked == Refusal(Reason.LOCKED, retry_after=900)
    monkeypatch.undo()
    assert isinstance((await world.token(ott)).state, Pending)
    world.clock.advance(900)
    assert isinstance(await retry(world, ott, signature_of(ott)), StepUp), "it expired with the lock"


async def test_failures_of_a_signature_and_of_a_device_are_one_factors_count(world: World) -> None:
    await world.engine.enrolment.add_device_fingerprint(ADA, FINGERPRINT)
    ott = await asked(world)
    for _ in range(3):
        await retry(world, ott, "AAAA")
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    method = Method.PARTNER_DEVICE_FINGERPRINT
    assert await world.engine.verify(ada, issued.ott, method, "wrong") == Wrong(method, 1)


async def test_another_request_voids_the_token_whatever_the_signature(world: World) -> None:
    ott = await asked(world)
    answer = await retry(world, ott, signature_of(ott), binding=OTHER)
    assert isinstance(answer, StepUp)
    state = (await world.token(ott)).state
    assert isinstance(state, Revoked)
    assert state.why == "other-request"
    assert isinstance(await retry(world, ott, signature_of(ott)), StepUp)
    assert (await world.user()).attempts.consecutive == 0


async def test_at_low_risk_another_query_is_the_same_action(world: World) -> None:
    ott = await asked(world, STATEMENT, READ)
    answer = await retry(world, ott, signature_of(ott), action=STATEMENT, binding=OTHER)
    assert isinstance(answer, Approved)


async def test_where_a_token_is_spent_on_success_it_is_reserved_and_can_be_released(world: World) -> None:
    ott = await asked(world, BATCH)
    answer = await retry(world, ott, signature_of(ott), action=BATCH)
    assert isinstance(answer, Approved)
    assert answer.reserved
    assert answer.token is not None
    assert isinstance((await world.token(ott)).state, Reserved)
    assert isinstance(await retry(world, ott, signature_of(ott), action=BATCH), StepUp)
    await world.engine.release(program, answer.token.id)
    # It is cleared now, and asks for no signature any more.
    again = await retry(world, ott, None, action=BATCH)
    assert isinstance(again, Approved)
    await world.engine.confirm(program, answer.token.id)
    assert isinstance((await world.token(ott)).state, Spent)


async def test_without_a_signature_the_token_is_answered_with_a_new_one_and_stays_good(world: World) -> None:
    ott = await asked(world)
    assert isinstance(await retry(world, ott, None), StepUp)
    assert isinstance(await retry(world, ott, signature_of(ott)), Approved)


async def test_a_signature_is_not_looked_at_where_the_token_asks_for_none(world: World) -> None:
    await world.enrol(ADA, enrolled_pin(), enrolled_fingerprint())
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    for signature in ("garbage", signature_of(issued.ott)):
        answer = await retry(world, issued.ott, signature, caller=ada, action=STATEMENT, binding=READ)
        assert isinstance(answer, StepUp)
    assert (await world.user()).attempts.consecutive == 0
    await world.engine.verify(ada, issued.ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)
    # Either proof alone: what is cleared passes with or without one.
    answer = await retry(world, issued.ott, "garbage", caller=ada, action=STATEMENT, binding=READ)
    assert isinstance(answer, Approved)


async def test_another_user_neither_spends_nor_counts_nor_voids(world: World) -> None:
    await world.engine.enrolment.add_public_key(GRACE, public_pem(1))
    grace = Caller(GRACE, signs=True)
    ott = await asked(world)
    for signature in (signature_of(ott), signature_of(ott, 1), "AAAA"):
        for binding in (PAY, OTHER):
            assert isinstance(await retry(world, ott, signature, caller=grace, binding=binding), StepUp)
    assert (await world.user(GRACE)).attempts.consecutive == 0
    assert (await world.user()).attempts.consecutive == 0
    assert isinstance(await retry(world, ott, signature_of(ott)), Approved)


async def test_any_of_the_users_keys_signs_and_a_removed_one_does_not() -> None:
    world = await world_with(0, 1)
    for number in (0, 1):
        ott = await asked(world)
        assert isinstance(await retry(world, ott, signature_of(ott, number)), Approved)
    first = (await world.user()).credentials[0]
    ready = await asked(world)
    assert await world.engine.enrolment.remove(ADA, Method.SIGNATURE.credential, first.id) is None
    assert isinstance(await retry(world, ready, signature_of(ready)), StepUp), "issued on what was there"
    ott = await asked(world)
    assert await retry(world, ott, signature_of(ott, 0)) == WRONG
    assert isinstance(await retry(world, ott, signature_of(ott, 1)), Approved)


async def test_a_new_key_beside_an_old_one_does_not_sign_at_high_risk_yet() -> None:
    world = await world_with(0, limits=Limits(high_risk_after_seconds=3600))
    assert isinstance(await world.engine.protect(program, PAYMENT, PAY), Refusal)
    world.clock.advance(3600)
    await world.engine.enrolment.add_public_key(ADA, public_pem(1))
    low, high = await asked(world, STATEMENT, READ), await asked(world)
    assert await retry(world, high, signature_of(high, 1)) == WRONG
    answer = await retry(world, low, signature_of(low, 1), action=STATEMENT, binding=READ)
    assert isinstance(answer, Approved)
    assert isinstance(await retry(world, high, signature_of(high, 0)), Approved)


@pytest.mark.attack(20)
async def test_the_hard_cap_disables_the_keys_and_voids_every_open_token() -> None:
    world = await world_with(limits=Limits(disable_possession_after=3, session_seconds=300))
    passed = await asked(world)
    await retry(world, passed, signature_of(passed))  # Opens the session.
    ready = await asked(world, BATCH)
    held = await retry(world, ready, signature_of(ready), action=BATCH)
    assert isinstance(held, Approved)
    assert held.token is not None
    await world.engine.release(program, held.token.id)
    pending, ott = await asked(world), await asked(world)
    for left in (4, 3, 2):
        assert await retry(world, ott, "AAAA") == Wrong(Method.SIGNATURE, left)
    user = await world.user()
    assert [credential.disabled for credential in user.credentials] == [True]
    assert user.open_tokens == ()
    assert not user.session(limits=world.engine.limits, now=world.clock.now())
    for each in (ready, pending, ott):
        assert isinstance((await world.token(each)).state, Revoked)
    assert isinstance(await retry(world, ready, None, action=BATCH), Refusal), "nothing is enrolled now"
    # The same key may be enrolled anew, by an application: it was the tries that ran out.
    await world.engine.enrolment.add_public_key(ADA, public_pem(), application="acme")
    ott = await asked(world)
    assert isinstance(await retry(world, ott, signature_of(ott)), Approved)


@pytest.mark.attack(25)
@pytest.mark.parametrize("processes", [1, 4])
async def test_of_32_who_race_one_signature_one_is_let_through(processes: int) -> None:
    world = await world_with(limits=Limits(tokens_live=1000))
    engines = [world.engine] + [
        Engine(
            store=world.store,
            clock=world.clock,
            entropy=world.entropy,
            methods=world.methods,
            delivery=world.outbox,
            limits=world.engine.limits,
        )
        for _ in range(processes - 1)
    ]
    ott = await asked(world)
    signature = signature_of(ott)
    answers = await asyncio.gather(
        *(
            engines[number % processes].protect(program, PAYMENT, PAY, ott=ott, signature=signature)
            for number in range(32)
        )
    )
    assert sum(isinstance(answer, Approved) for answer in answers) == 1
    assert sum(isinstance(answer, StepUp) for answer in answers) == 31
    assert (await world.event_names()).count("token.spent") == 1


@pytest.mark.attack(43)
async def test_of_64_wrong_signatures_at_once_five_are_counted(world: World) -> None:
    ott = await asked(world)
    answers = await asyncio.gather(*(retry(world, ott, "AAAA") for _ in range(64)))
    assert [answer.attempts_left for answer in answers if isinstance(answer, Wrong)] == [4, 3, 2, 1, 0]
    assert sum(isinstance(answer, Refusal) for answer in answers) == 59
    assert (await world.user()).attempts.locked_until == after(world.clock.now(), 900)
