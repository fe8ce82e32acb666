"""What a process remembers is a first guess: a wrong one is found out, and nothing else rests on it."""

from dataclasses import replace

from tests.factories import ADA, enrolled_phone, make_token, make_user, make_world
from watchword.domain.action import Action, Risk
from watchword.domain.binding import bind
from watchword.domain.decision import Change, Reason, Refusal
from watchword.domain.method import Method
from watchword.domain.token import Pending, TokenId
from watchword.engine.engine import Approved, Caller, StepUp, Wrong
from watchword.engine.recent import Recent, Records
from watchword.store.memory import MemoryStore

READ = Action(name="BALANCE__GET_STATEMENT", risk=Risk.LOW)
REQUEST = bind("GET", b"/statement", b"")
CALLER = Caller(ADA)


async def test_a_lock_that_another_process_set_is_met() -> None:
    store = MemoryStore()
    one, other = make_world(store=store, codes=["111111"] * 9), make_world(store=store, codes=["111111"] * 9)
    await one.enrol(ADA, enrolled_phone(ADA))
    issued = await one.engine.protect(CALLER, READ, REQUEST)
    assert isinstance(issued, StepUp)
    await one.engine.trigger(CALLER, issued.ott, Method.SMS)
    for left in (4, 3, 2, 1, 0):
        assert await other.engine.verify(CALLER, issued.ott, Method.SMS, "222222") == Wrong(Method.SMS, left)
    for refused in (
        await one.engine.verify(CALLER, issued.ott, Method.SMS, "111111"),
        await one.engine.trigger(CALLER, issued.ott, Method.VOICE),
        await one.engine.protect(CALLER, READ, REQUEST),
    ):
        assert refused == Refusal(Reason.LOCKED, 900)


async def test_a_token_that_another_process_spent_is_spent() -> None:
    store = MemoryStore()
    one, other = make_world(store=store, codes=["111111"] * 9), make_world(store=store)
    await one.enrol(ADA, enrolled_phone(ADA))
    issued = await one.engine.protect(CALLER, READ, REQUEST)
    assert isinstance(issued, StepUp)
    await one.engine.trigger(CALLER, issued.ott, Method.SMS)
    await one.engine.verify(CALLER, issued.ott, Method.SMS, "111111")
    assert isinstance(await other.engine.protect(CALLER, READ, REQUEST, ott=issued.ott), Approved)
    assert isinstance(await one.engine.protect(CALLER, READ, REQUEST, ott=issued.ott), StepUp)


async def test_a_session_that_another_process_ended_is_over() -> None:
    store = MemoryStore()
    one, other = make_world(store=store, codes=["111111"] * 9), make_world(store=store)
    await one.enrol(ADA, enrolled_phone(ADA))
    issued = await one.engine.protect(CALLER, READ, REQUEST)
    assert isinstance(issued, StepUp)
    await one.engine.trigger(CALLER, issued.ott, Method.SMS)
    await one.engine.verify(CALLER, issued.ott, Method.SMS, "111111")
    assert await one.engine.protect(CALLER, READ, REQUEST) == Approved()
    await other.enrol(ADA, enrolled_phone(ADA))
    assert isinstance(await one.engine.protect(CALLER, READ, REQUEST), StepUp)


async def test_as_many_are_remembered_as_is_said_and_the_first_goes_first() -> None:
    store = MemoryStore()
    recent = Recent(store, remembered=2)
    changes = [
        Change(
            token=make_token(Pending(), id=TokenId(bytes([number]) * 32)),
            user=replace(make_user(), version=number),
        )
        for number in (1, 2, 3)
    ]
    for change in changes:
        assert await recent.commit(change)
    store._tokens.clear()  # noqa: SLF001 - so that what is found is remembered.
    found = [await recent.token(change.token.id) for change in changes if change.token is not None]
    assert [token is not None for token in found] == [False, True, True]
    user = await recent.user(make_user().id)
    assert user is not None
    assert user.version == 3


async def test_a_change_that_was_not_stored_is_not_remembered() -> None:
    store = MemoryStore()
    recent = Recent(store)
    token = make_token(Pending())
    assert await recent.commit(Change(token=token))
    assert not await recent.commit(Change(token=replace(token, version=9)))
    assert await recent.token(token.id) == token


async def test_what_was_decided_before_another_server_took_over_is_decided_again() -> None:
    """Its versions may come again there, with other contents: a version that fits would prove nothing."""
    world = make_world()
    decider = world.engine.decider
    decided: list[Records] = []

    async def decide(records: Records) -> Change:
        decided.append(records)
        if len(decided) == 1:
            decider.recent.begin_anew()
        return Change(user=make_user())

    assert await decider.settle(decide) == Change(user=make_user())
    assert decided == [decider.recent, world.store]


async def test_nothing_is_remembered_of_a_server_that_another_took_over_from() -> None:
    store = MemoryStore()
    recent = Recent(store)
    token, user = make_token(), make_user()
    assert await recent.commit(Change(token=token, user=user))
    store._tokens.clear()  # noqa: SLF001 - what a failover loses.
    store._users.clear()  # noqa: SLF001 - as above.
    assert (await recent.token(token.id), await recent.user(user.id)) == (token, user)
    recent.begin_anew()
    assert (await recent.token(token.id), await recent.user(user.id)) == (None, None)


async def test_an_answer_of_a_server_that_another_took_over_from_meanwhile_is_not_remembered() -> None:
    class TakenOver(MemoryStore):
        async def commit(self, change: Change) -> bool:
            done = await super().commit(change)
            recent.begin_anew()
            return done

    store = TakenOver()
    recent = Recent(store)
    assert await recent.commit(Change(user=make_user()))
    store._users.clear()  # noqa: SLF001 - what a failover loses.
    assert await recent.user(ADA) is None
