"""
The approval page in a real browser, opened by shops on another origin: from the refused call to its repeat.

Each flow ends at the bank: what ran there, and how often.
"""

import re

import pytest
from playwright.sync_api import Keyboard, Page, expect

from tests.page.conftest import Visit
from tests.page.support import (
    CODE,
    PIN,
    SMS,
    STATEMENT,
    VOICE,
    WHATSAPP,
    Approval,
    Bank,
    Shop,
    alone,
    enter,
    framed,
    go,
    opened,
    results,
)

COMPLETED = {"status": 201, "body": '{"type":"BALANCE","status":"COMPLETED","errorCode":null}'}
RAN_ONCE = {"TRANSFER__FUND": 1}


# --- all the way ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opener", "flow"),
    [
        *(("module", flow) for flow in ("dialog", "popup", "tab")),
        *(("helper", flow) for flow in ("iframe", "popup", "tab")),
    ],
)
def test_a_payment_is_approved_with_two_factors_and_runs_once(
    visit: Visit, shop: Shop, bank: Bank, opener: str, flow: str
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, opener=opener, flow=flow)
    approval = opened(visitor, flow)
    approval.at("pin").check(f"{opener}-{flow}-pin").type(PIN)
    approval.at("choose").check(f"{opener}-{flow}-choose")
    assert bank.sent() == []
    approval.press(SMS)
    approval.at("code").check(f"{opener}-{flow}-code").type(CODE)
    assert results(page) == [COMPLETED]
    assert page.evaluate("stages") == ["start", "end"]
    (ott,) = visitor.otts
    assert bank.runs(ott) == bank.runs() == RAN_ONCE
    assert len(bank.sent()) == 1
    assert len(visitor.context.pages) == 1
    assert page.locator("iframe").count() == 0
    assert not [url for url in visitor.urls if ott in url]
    assert not [line for line in visitor.console if ott in line]


@pytest.mark.parametrize("flow", ["dialog", "popup", "tab"])
def test_a_shop_on_another_site_needs_no_cookies_of_other_sites(
    visit: Visit, shop: Shop, bank: Bank, flow: str
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, host="localhost", flow=flow)
    opened(visitor, flow).pay()
    assert results(page) == [COMPLETED]
    assert bank.runs() == RAN_ONCE


def test_a_call_of_one_factor_is_approved_and_opens_a_session(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    headers = {"authorization": "Bearer demo-ada"}
    plan = bank.plan() | {"url": f"{bank.origin}{STATEMENT}", "init": {"headers": headers}}
    page = go(visitor, shop.address("/", plan))
    opened(visitor, "dialog").at("choose").press(SMS).at("code").type(CODE)
    assert results(page)[0]["status"] == 200
    page.get_by_role("button", name="Pay").click()
    assert results(page, 2)[1]["status"] == 200
    assert len(visitor.otts) == 1


# --- errors, and the ways out of them ----------------------------------------------------------


def test_a_wrong_pin_and_a_wrong_code_say_so_and_can_be_put_right(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").type("9999")
    _expect_error(approval, "That is not your PIN. Check it and try again.")
    approval.check("wrong-pin").type(PIN).at("choose").press(SMS).at("code").type("999999")
    _expect_error(approval, "That is not the code that we sent. Check it and try again.")
    approval.check("wrong-code").type(CODE)
    assert results(page) == [COMPLETED]
    assert bank.runs() == RAN_ONCE


def _expect_error(approval: Approval, text: str) -> None:
    answer = approval.place.locator("#answer")
    expect(answer).to_have_attribute("aria-invalid", "true")
    expect(answer).to_be_focused()
    expect(answer).to_have_accessible_description(re.compile(re.escape(text) + r".* tr(y|ies) left"))
    expect(approval.place.get_by_role("alert")).to_contain_text(text)
    assert str(approval.place.evaluate("document.title")).startswith("Error:")


@pytest.mark.parametrize("way", ["button", "escape"])
@pytest.mark.parametrize("flow", ["dialog", "popup", "tab"])
def test_who_cancels_is_back_in_the_shop_and_nothing_ran(
    visit: Visit, shop: Shop, bank: Bank, flow: str, way: str
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, flow=flow)
    approval = opened(visitor, flow).at("pin")
    if way == "button":
        approval.press("Cancel")
    else:
        # Before its script runs the page knows no key.
        approval.ready().act(lambda: approval.place.locator("#answer").press("Escape"))
    assert results(page)[0]["reason"] == "closed"
    assert len(visitor.context.pages) == 1
    assert bank.runs() == {}


def test_who_cancels_in_the_helper_is_back_in_the_shop(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, opener="helper", flow="iframe")
    opened(visitor, "iframe").at("pin").press("Cancel")
    expect(page.locator("iframe")).to_have_count(0)
    # The helper says nothing more to its shop then (its documentation does not tell why).
    assert page.evaluate("results") == []
    assert bank.runs() == {}


@pytest.mark.parametrize(
    ("opener", "flow"), [("module", "dialog"), ("helper", "iframe"), ("module", "popup")]
)
def test_what_has_expired_can_only_be_closed_and_fails_the_call(
    visit: Visit, shop: Shop, bank: Bank, opener: str, flow: str
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, opener=opener, flow=flow)
    approval = opened(visitor, flow).at("pin")
    bank.advance(3601)
    approval.type(PIN).at("over").check("expired")
    assert "expired" in approval.text()
    approval.press("Close")
    assert ("reason", "failed") in results(page)[0].items() or opener == "helper"
    assert bank.runs() == {}
    assert len(visitor.context.pages) == 1


def test_too_many_wrong_answers_lock_and_the_page_says_until_when(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin")
    for left in (4, 3, 2, 1):
        approval.type("9999")
        expect(approval.place.locator("#answer-error")).to_contain_text(re.compile(rf"{left} tr(y|ies) left"))
    approval.type("9999").at("locked").check("locked")
    until = re.compile(r"You can try again at \d+:\d\d\s?[AP]M, in 1[45]:\d\d")
    expect(approval.place.locator("#main")).to_contain_text(until)
    approval.press("Close")
    assert results(page)[0]["reason"] == "failed"
    # Who starts again while it lasts is refused without a question; afterwards all is as before.
    page.get_by_role("button", name="Pay").click()
    assert results(page, 2)[1]["status"] == 429
    bank.advance(901)
    opened(visitor, "dialog").pay()
    assert results(page, 3)[2] == COMPLETED
    assert bank.runs() == RAN_ONCE


def test_another_code_can_be_asked_for_once_the_countdown_is_over(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    visitor.page.clock.install()
    approval = alone(visitor, shop, bank.ott(STATEMENT)).at("choose").press(SMS).at("code")
    again = visitor.page.get_by_role("button", name="Send another code")
    left = visitor.page.locator("[data-left]")
    expect(again).to_be_disabled()
    expect(left).to_have_text(re.compile(r"^0:\d\d$"))
    approval.check("countdown")
    minutes, seconds = left.inner_text().split(":")
    wait = 60 * int(minutes) + int(seconds)
    visitor.page.clock.run_for(1000 * (wait // 2))
    expect(again).to_be_disabled()
    visitor.page.clock.run_for(1000 * (wait - wait // 2))
    expect(again).to_be_enabled()
    expect(visitor.page.get_by_role("status")).to_have_text("You can ask for another code now.")
    bank.advance(wait + 1)
    assert len(bank.sent()) == 1
    again.click()
    expect(left).to_have_text(re.compile(r"^0:\d\d$"))
    expect(again).to_be_disabled()
    assert [message["channel"] for message in bank.sent()] == ["SMS", "SMS"]
    approval.type(CODE).at("done")


def test_another_way_can_be_chosen_and_nothing_is_sent_before(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").type(PIN).at("choose")
    assert bank.sent() == []
    approval.press(SMS).at("code").press("Try another way").at("choose").check("another-way")
    assert len(bank.sent()) == 1
    approval.press(WHATSAPP).at("code")
    assert "WhatsApp" in approval.text()
    assert [message["channel"] for message in bank.sent()] == ["SMS", "WHATSAPP"]
    approval.press("Try another way").at("choose").press(VOICE).at("code").type(CODE)
    assert results(page) == [COMPLETED]
    assert bank.runs() == RAN_ONCE


def test_without_a_connection_nothing_that_was_typed_is_lost(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin")
    visitor.context.set_offline(True)
    approval.type(PIN)
    expect(approval.place.get_by_role("alert")).to_contain_text("could not be reached")
    approval.check("offline")
    expect(approval.place.locator("#answer")).to_have_value(PIN)
    visitor.context.set_offline(False)
    approval.press("Confirm").at("choose").press(SMS).at("code").type(CODE)
    assert results(page) == [COMPLETED]


# --- for everybody ----------------------------------------------------------------------------


@pytest.mark.attack(133)
def test_without_scripts_plain_forms_do_it(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(javascript=False)
    ott = bank.ott()
    approval = alone(visitor, shop, ott).at("pin")
    approval.type("9999").refused()
    assert "That is not your PIN" in approval.text()
    approval.type(PIN).at("choose")
    visitor.shot("choose")
    approval.press("Text message").at("code")
    visitor.shot("code")
    approval.press("Try another way").at("choose").press("Phone call").at("code").type(CODE).at("done")
    visitor.shot("done")
    assert "Close it and go on where you came from" in approval.text()
    assert bank.call(ott=ott).status_code == 201
    assert bank.runs(ott) == RAN_ONCE


@pytest.mark.attack(133)
def test_without_scripts_cancel_says_what_to_do(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(javascript=False)
    approval = alone(visitor, shop, bank.ott()).at("pin").press("Cancel").at("cancelled")
    visitor.shot("cancelled")
    assert "Nothing was approved" in approval.text()


@pytest.mark.attack(133)
@pytest.mark.parametrize("flow", ["dialog", "popup"])
def test_a_keyboard_is_enough(visit: Visit, shop: Shop, bank: Bank, flow: str) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, flow=flow)
    page.keyboard.press("Tab")
    if flow == "popup":
        approval = Approval(visitor, visitor.opens(lambda: page.keyboard.press("Enter")))
    else:
        page.keyboard.press("Enter")
        approval = framed(visitor)
    keys = (approval.place if isinstance(approval.place, Page) else page).keyboard
    approval.at("pin")
    expect(approval.place.locator("#answer")).to_be_focused()
    approval.ready()
    keys.type(PIN)
    keys.press("Enter")
    approval.at("choose").ready()
    _tab_to(approval, keys, SMS)
    keys.press("Enter")
    approval.at("code").ready()
    expect(approval.place.locator("#answer")).to_be_focused()
    keys.type(CODE)
    keys.press("Enter")
    assert results(page) == [COMPLETED]
    if flow == "dialog":
        expect(page.get_by_role("button", name="Pay")).to_be_focused()


def _tab_to(approval: Approval, keys: Keyboard, name: str) -> None:
    wanted = approval.place.get_by_role("button", name=name)
    for _ in range(10):
        keys.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
            shadow = wanted.evaluate("element => getComputedStyle(element).boxShadow")
            assert (outline, shadow) != ("none", "none"), "where the focus is cannot be seen"
            return
    pytest.fail(f"Tab never comes to {name}")


@pytest.mark.attack(133)
@pytest.mark.parametrize("written", ["111 111", " 111111\n", "111-111", "\u0661" * 6])
def test_a_code_can_be_pasted_as_it_is_written(visit: Visit, shop: Shop, bank: Bank, written: str) -> None:
    visitor = visit()
    approval = alone(visitor, shop, bank.ott(STATEMENT)).at("choose").press(SMS).at("code")
    field = visitor.page.get_by_label("Code", exact=True)
    expect(field).to_have_attribute("autocomplete", "one-time-code")
    field.evaluate(
        """(field, text) => {
          field.focus();
          document.execCommand("insertText", false, text);
        }""",
        written,
    )
    approval.press("Confirm").at("done")


def test_the_page_leaves_one_entry_in_the_history(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    approval = alone(visitor, shop, bank.ott()).at("pin")
    before = visitor.page.evaluate("history.length")
    approval.pay()
    approval.at("done").check("alone")
    assert visitor.page.evaluate("history.length") == before
    assert "You can close this page now" in approval.text()
