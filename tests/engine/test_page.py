"""The use cases of the approval page: one page a token, and no form that counts twice."""

import asyncio
from dataclasses import replace

import pytest

from tests.engine.test_step_up import ada, stepped_up
from tests.factories import (
    ADA,
    CODE,
    PAY,
    PAYMENT,
    PIN,
    READ,
    STATEMENT,
    UNKNOWN_OTT,
    World,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.delivery.base import DeliveryError
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import Method
from watchword.domain.token import Cleared, OneTimeToken, TokenId
from watchword.engine.engine import Approved, Snapshot, StepUp, Wrong, identify
from watchword.engine.page import Opened, PageOf, Pages, Sight
from watchword.methods.keyring import Tampered

SHOWN = (("amount", "150.00"), ("currency", "GBP"), ("payee", "Charles Babbage"))


def in_short(digits: str, token: OneTimeToken) -> str:
    return f"{digits} for {token.action}"


@pytest.fixture
async def world() -> World:
    world = make_world()
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    return world


@pytest.fixture
def pages(world: World) -> Pages:
    return Pages(world.engine)


async def open_page(pages: Pages, ott: str) -> tuple[PageOf, Sight]:
    opened = await pages.open(ott)
    assert isinstance(opened, Opened), opened
    return page_of(opened.handle, opened.sight), opened.sight


def page_of(handle: str, sight: Sight) -> PageOf:
    return PageOf(token_id=sight.token.id, handle=handle, version=sight.token.version)


async def seen(pages: Pages, page: PageOf) -> tuple[PageOf, Sight]:
    sight = await pages.look(page)
    assert isinstance(sight, Sight), sight
    return page_of(page.handle, sight), sight


async def test_a_page_shows_what_is_approved_and_where_codes_go(world: World, pages: Pages) -> None:
    answer = await world.engine.protect(ada, PAYMENT, PAY, details=SHOWN)
    assert isinstance(answer, StepUp)
    _, sight = await open_page(pages, answer.ott)
    assert sight.details == SHOWN
    assert sight.number == "*********8888"
    assert sight.locked_until is None


async def test_what_is_approved_is_nobodys_to_read_in_the_store(world: World) -> None:
    answer = await world.engine.protect(ada, PAYMENT, PAY, details=SHOWN)
    assert isinstance(answer, StepUp)
    stored = (await world.token(answer.ott)).details
    assert stored
    assert b"Babbage" not in stored
    assert b"150" not in stored


@pytest.mark.attack(127)
async def test_what_is_approved_is_shown_for_its_own_token_alone(world: World) -> None:
    first = await world.engine.protect(ada, PAYMENT, PAY, details=(("payee", "A"),))
    second = await world.engine.protect(ada, PAYMENT, PAY, details=(("payee", "B"),))
    assert isinstance(first, StepUp)
    assert isinstance(second, StepUp)
    details = (await world.token(second.ott)).details
    moved = replace(await world.token(first.ott), details=details)
    with pytest.raises(Tampered):
        world.engine.methods.details.open(moved)


async def test_a_token_is_cleared_on_its_page_and_lets_its_request_through(
    world: World, pages: Pages
) -> None:
    ott = await stepped_up(world)
    page, sight = await open_page(pages, ott)
    assert isinstance(await pages.verify(page, sight, Method.PIN, PIN), Snapshot)
    page, sight = await seen(pages, page)
    assert await pages.trigger(page, sight, Method.SMS, in_short) == "*********8888"
    assert world.outbox.messages[-1].text == f"{CODE} for {PAYMENT.name}"
    page, sight = await seen(pages, page)
    assert isinstance(await pages.verify(page, sight, Method.SMS, CODE), Snapshot)
    page, sight = await seen(pages, page)
    assert isinstance(sight.token.state, Cleared)
    assert isinstance(await world.engine.protect(ada, PAYMENT, PAY, ott=ott), Approved)
    assert await pages.look(page) == Refusal(Reason.ALREADY_SPENT)


@pytest.mark.attack(128)
async def test_a_page_is_dead_once_its_token_is_opened_elsewhere(world: World, pages: Pages) -> None:
    ott = await stepped_up(world)
    first, sight = await open_page(pages, ott)
    second, _ = await open_page(pages, ott)
    assert await pages.look(first) == Refusal(Reason.OTHER_PAGE)
    # Even where it was looked at just before.
    assert await pages.verify(first, sight, Method.PIN, PIN) == Refusal(Reason.MOVED_ON)
    assert await pages.trigger(first, sight, Method.SMS, in_short) == Refusal(Reason.MOVED_ON)
    assert isinstance(await pages.look(second), Sight)


async def test_a_page_goes_on_in_another_that_takes_its_place(world: World, pages: Pages) -> None:
    page, _ = await open_page(pages, await stepped_up(world))
    for _attempt in range(2):
        opened = await pages.open_again(page.token_id)
        assert isinstance(opened, Opened)
        assert await pages.look(page) == Refusal(Reason.OTHER_PAGE)
        assert isinstance(await pages.look(page_of(opened.handle, opened.sight)), Sight)
        assert opened.handle not in repr(opened)
    assert await pages.open_again(TokenId(b"?")) == Refusal(Reason.UNKNOWN)


async def test_of_pages_that_are_opened_at_once_one_is_open(world: World, pages: Pages) -> None:
    ott = await stepped_up(world)
    opened = await asyncio.gather(*(pages.open(ott) for _ in range(8)))
    looks = [
        await pages.look(page_of(each.handle, each.sight)) for each in opened if isinstance(each, Opened)
    ]
    assert len(looks) == 8
    assert sum(isinstance(look, Sight) for look in looks) == 1


async def test_a_page_that_is_closed_is_dead_and_its_token_is_not(world: World, pages: Pages) -> None:
    ott = await stepped_up(world)
    page, sight = await open_page(pages, ott)
    closed = await pages.close(page)
    assert isinstance(closed, Sight)
    assert await pages.look(page) == Refusal(Reason.OTHER_PAGE)
    assert await pages.close(page) == Refusal(Reason.OTHER_PAGE)
    assert await pages.open_again(page.token_id) == Refusal(Reason.OTHER_PAGE)
    assert await pages.verify(page, sight, Method.PIN, PIN) == Refusal(Reason.MOVED_ON)
    assert (await world.event_names())[-2:] == ["page.opened", "page.closed"]
    page, sight = await open_page(pages, ott)
    assert isinstance(await pages.verify(page, sight, Method.PIN, PIN), Snapshot)


async def test_a_page_of_what_is_over_cannot_be_closed(world: World, pages: Pages) -> None:
    page, _ = await open_page(pages, await stepped_up(world))
    world.clock.advance(world.engine.limits.token_seconds)
    assert await pages.close(page) == Refusal(Reason.EXPIRED)


async def test_a_form_that_comes_twice_sends_one_message(world: World, pages: Pages) -> None:
    page, sight = await open_page(pages, await stepped_up(world))
    sent = await asyncio.gather(*(pages.trigger(page, sight, Method.SMS, in_short) for _ in range(8)))
    assert "*********8888" in sent
    assert sent.count(Refusal(Reason.MOVED_ON)) == 7
    assert len(world.outbox.messages) == 1


async def test_a_form_that_comes_twice_costs_one_attempt(world: World, pages: Pages) -> None:
    page, sight = await open_page(pages, await stepped_up(world))
    answers = await asyncio.gather(*(pages.verify(page, sight, Method.PIN, "0000") for _ in range(8)))
    assert answers.count(Wrong(Method.PIN, 4)) == 1
    assert answers.count(Refusal(Reason.MOVED_ON)) == 7
    assert world.methods.compared[Method.PIN] == 1


async def test_an_unknown_handle_shows_nothing(world: World, pages: Pages) -> None:
    page, _ = await open_page(pages, await stepped_up(world))
    other = PageOf(token_id=page.token_id, handle=UNKNOWN_OTT, version=page.version)
    assert await pages.look(other) == Refusal(Reason.OTHER_PAGE)
    assert UNKNOWN_OTT not in repr(other)


async def test_a_token_whose_page_was_never_opened_is_shown_to_no_handle(world: World, pages: Pages) -> None:
    ott = await stepped_up(world)
    version = (await world.token(ott)).version
    for handle in ("", "x"):
        page = PageOf(token_id=identify(ott), handle=handle, version=version)
        assert await pages.look(page) == Refusal(Reason.OTHER_PAGE)


async def test_there_is_no_page_of_an_unknown_token(pages: Pages) -> None:
    assert await pages.open(UNKNOWN_OTT) == Refusal(Reason.UNKNOWN)
    nowhere = PageOf(token_id=TokenId(b"?"), handle="x", version=1)
    assert await pages.look(nowhere) == Refusal(Reason.UNKNOWN)


async def test_there_is_no_page_of_a_token_that_is_over(world: World, pages: Pages) -> None:
    ott = await stepped_up(world)
    page, _ = await open_page(pages, ott)
    world.clock.advance(world.engine.limits.token_seconds)
    assert await pages.open(ott) == Refusal(Reason.EXPIRED)
    assert await pages.look(page) == Refusal(Reason.EXPIRED)


async def test_a_code_that_nobody_delivers_can_be_asked_for_again(world: World, pages: Pages) -> None:
    page, sight = await open_page(pages, await stepped_up(world))
    world.outbox.down = True
    with pytest.raises(DeliveryError):
        await pages.trigger(page, sight, Method.SMS, in_short)
    world.outbox.down = False
    page, sight = await seen(pages, page)
    assert await pages.trigger(page, sight, Method.SMS, in_short) == "*********8888"


async def test_a_page_says_until_when_its_user_is_locked(world: World, pages: Pages) -> None:
    page, sight = await open_page(pages, await stepped_up(world))
    for _ in range(5):
        assert isinstance(await pages.verify(page, sight, Method.PIN, "0000"), Wrong)
        page, sight = await seen(pages, page)
    assert sight.locked_until is not None
    refused = await pages.verify(page, sight, Method.PIN, PIN)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.LOCKED


async def test_the_page_of_a_user_without_a_number_shows_none() -> None:
    lone = make_world()
    await lone.enrol(ADA, enrolled_pin())
    answer = await lone.engine.protect(ada, STATEMENT, READ)
    assert isinstance(answer, StepUp)
    _, sight = await open_page(Pages(lone.engine), answer.ott)
    assert sight.number == ""
    assert sight.details == ()
