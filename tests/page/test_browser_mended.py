"""
What reviews of the approval page found, in a real browser: what must be seen, small windows, and waiting.

The page counts a form in a frame, at high risk, only while what is approved and its own controls are
in view. What nothing shows is the embedder's doing; what is scrolled away inside the frame is the person's.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.page.browser import PHONE, Theme, Visitor
from tests.page.conftest import Visit
from tests.page.support import (
    CODE,
    PAGE,
    PIN,
    SMS,
    STATEMENT,
    Approval,
    Bank,
    Shop,
    alone,
    enter,
    go,
    opened,
    results,
)
from tests.system.processes import Running

LACKING = "delete IntersectionObserverEntry.prototype.isVisible;"
"""What makes a browser one that cannot tell what lies over a page, as all but Chromium's family."""
WHOLE = "width: 480px; height: 760px; border: 0"
BOTH = pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same-site", "cross-site"])
"""A frame of another site runs in a process of its own, and is told by others what it shows."""
SIGHTS = pytest.mark.parametrize(
    ("host", "lacking"), [("127.0.0.1", True), ("localhost", False)], ids=["same-site-v1", "cross-site-v2"]
)
EYES = pytest.mark.parametrize("lacking", [False, True], ids=["v2", "v1"])


def _sit(visit: Visit, *, lacking: bool = False, **options: Any) -> Visitor:
    visitor = visit(**options)
    if lacking:
        visitor.context.add_init_script(LACKING)
    return visitor


def _raw(
    visitor: Visitor, shop: Shop, bank: Bank, ott: str, *, wrapper: str = "", host: str, style: str = WHOLE
) -> Approval:
    """Open the page in a frame by hand, with whatever around it."""
    plan = {
        "ott": ott,
        "page": f"{bank.origin}{PAGE}",
        "flow": "iframe",
        "target": "approval",
        "style": style,
    }
    page = go(visitor, shop.address("/raw", plan, host=host))
    _style(page, "main", wrapper)
    page.get_by_role("button", name="Pay").evaluate("(button) => { button.hidden = true; button.click(); }")
    approval = Approval(visitor, page.frames[-1])
    approval.place.locator("#answer").wait_for(state="attached")
    return approval.ready()


def _style(page: Page, selector: str, style: str) -> None:
    page.evaluate(
        "([selector, style]) => void (document.querySelector(selector).style.cssText += style)",
        [selector, style],
    )


def _submit(approval: Approval) -> None:
    approval.place.locator("#answer").evaluate(
        "(answer, pin) => { answer.value = pin; answer.form.requestSubmit(); }", PIN
    )


def _refused(approval: Approval, bank: Bank, ott: str) -> None:
    """The right PIN was sent, and was not even compared."""
    approval.place.wait_for_selector('#main[data-screen="window"]', state="attached")
    assert bank.look(ott)["challenges"][0]["passed"] is False
    assert bank.runs() == {}


def _middle(approval: Approval, selector: str) -> int:
    """Where the middle of something is, from the top of the frame."""
    middle: float = approval.place.locator(selector).evaluate(
        "(part) => part.getBoundingClientRect().top + part.getBoundingClientRect().height / 2"
    )
    return round(middle)


# --- what hides the page ----------------------------------------------------------------------


@pytest.mark.attack(118)
@SIGHTS
def test_a_frame_that_can_be_seen_is_answered(
    visit: Visit, shop: Shop, bank: Bank, host: str, lacking: bool
) -> None:
    visitor = _sit(visit, lacking=lacking)
    approval = _raw(visitor, shop, bank, bank.ott(), host=host)
    _submit(approval)
    approval.at("choose").press(SMS).at("code").type(CODE).at("done")


@pytest.mark.attack(118)
@SIGHTS
@pytest.mark.parametrize("part", [".what", "#answer"])
def test_a_strip_of_the_page_is_not_the_page(
    visit: Visit, shop: Shop, bank: Bank, host: str, lacking: bool, part: str
) -> None:
    visitor = _sit(visit, lacking=lacking)
    ott = bank.ott()
    wrapper = "; position: relative; width: 480px; height: 3px; overflow: hidden; padding: 0"
    approval = _raw(visitor, shop, bank, ott, wrapper=wrapper, host=host)
    top = _middle(approval, part)
    _style(visitor.page, "iframe", f"; position: absolute; left: 0; top: {-top}px")
    _submit(approval)
    _refused(approval, bank, ott)


@pytest.mark.attack(118)
@EYES
@pytest.mark.parametrize(
    "style",
    ["width: 480px; height: 3px; border: 0", "width: 2px; height: 760px; border: 0"],
    ids=["low", "narrow"],
)
def test_a_frame_too_small_to_show_anything_counts_for_nothing(
    visit: Visit, shop: Shop, bank: Bank, lacking: bool, style: str
) -> None:
    visitor = _sit(visit, lacking=lacking)
    ott = bank.ott()
    approval = _raw(visitor, shop, bank, ott, host="127.0.0.1", style=style)
    _submit(approval)
    _refused(approval, bank, ott)


@pytest.mark.attack(118)
@SIGHTS
@pytest.mark.parametrize(
    "wrapper",
    [
        "; height: 3px; overflow: hidden",
        # What is approved is scrolled out, and the form stays.
        "; height: 300px; overflow: hidden; margin: 0",
        "; position: absolute; left: -2000px",
    ],
    ids=["clipped", "scrolled", "moved"],
)
def test_what_was_shown_first_and_then_taken_out_of_sight_counts_for_nothing(
    visit: Visit, shop: Shop, bank: Bank, host: str, lacking: bool, wrapper: str
) -> None:
    visitor = _sit(visit, lacking=lacking)
    ott = bank.ott()
    approval = _raw(visitor, shop, bank, ott, host=host)
    _style(visitor.page, "main", wrapper)
    if "300px" in wrapper:
        top = _middle(approval, "#answer")
        visitor.page.evaluate("top => { document.querySelector('main').scrollTop = top - 100 }", top)
    _submit(approval)
    _refused(approval, bank, ott)


@pytest.mark.attack(118)
@BOTH
@pytest.mark.parametrize("part", [".what", "#answer", "button.main"])
def test_what_is_covered_in_part_counts_for_nothing(
    visit: Visit, shop: Shop, bank: Bank, host: str, part: str
) -> None:
    visitor = visit()
    ott = bank.ott()
    approval = _raw(visitor, shop, bank, ott, host=host)
    visitor.page.evaluate(
        """(top) => {
          const cover = document.createElement("div");
          const frame = document.querySelector("iframe").getBoundingClientRect();
          cover.style.cssText = `position: absolute; left: ${frame.left}px;
            top: ${frame.top + scrollY + top - 8}px; width: 480px; height: 16px;
            background: white; pointer-events: none`;
          document.body.append(cover);
        }""",
        _middle(approval, part),
    )
    _submit(approval)
    _refused(approval, bank, ott)


@pytest.mark.attack(118)
@BOTH
def test_what_turns_clear_later_counts_for_nothing(visit: Visit, shop: Shop, bank: Bank, host: str) -> None:
    visitor = visit()
    ott = bank.ott()
    approval = _raw(visitor, shop, bank, ott, host=host)
    _style(visitor.page, "iframe", "; opacity: 0.01")
    _submit(approval)
    _refused(approval, bank, ott)


# --- small windows ----------------------------------------------------------------------------

CONFIG = """
[[actions]]
name = "NOTE__WRITE"
risk = "high"
bind = "request"
match = ["POST /v3/profiles/{profileId}/batch-payments/{batchGroupId}/payments"]
title = { en = "Pay somebody with a long name" }
show = { amount = "/amount", currency = "/currency", payee = "/to" }
"""
PAYEES = {
    "ordinary": "Charles Babbage",
    "long": "The Society for the Promotion of Very Long Names in Payments to Remote Places and Elsewhere",
}


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config: Path = tmp_path_factory.mktemp("naming") / "watchword.toml"
    config.write_text(CONFIG, encoding="utf-8")
    with Running("--config", config) as started:
        yield started


@pytest.mark.attack(118)
@pytest.mark.attack(133)
@EYES
@pytest.mark.parametrize("payee", ["ordinary", "long"])
@pytest.mark.parametrize("size", [(320, 256), (640, 300)], ids=["400-percent", "landscape"])
def test_an_honest_payment_passes_in_a_small_window(
    visit: Visit, naming: Running, size: tuple[int, int], payee: str, lacking: bool
) -> None:
    visitor = _sit(visit, lacking=lacking, size={"width": size[0], "height": size[1]})
    with Bank(naming) as bank, Shop(bank.origin) as shop:
        bank.reset()
        plan = bank.plan()
        plan["url"] = f"{bank.origin}/v3/profiles/435036/batch-payments/7/payments"
        plan["init"]["body"] = json.dumps({"to": PAYEES[payee], "amount": "1250.00", "currency": "EUR"})
        page = go(visitor, shop.address("/", plan))
        approval = opened(visitor, "dialog").at("pin")
        visitor.shot(f"{payee}-pin")
        approval.type(PIN).at("choose")
        visitor.shot(f"{payee}-choose")
        approval.press(SMS).at("code")
        visitor.shot(f"{payee}-code")
        approval.type(CODE)
        # Whether the sandbox knows that payment is another matter: it was let through.
        assert results(page)[0]["status"] != 403
        assert all(challenge["passed"] for challenge in bank.look(visitor.otts[0])["challenges"])


@pytest.mark.attack(118)
@pytest.mark.attack(133)
def test_a_shops_own_window_that_scrolls_on_a_phone_is_scrolled_to_what_is_approved(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit(size=PHONE)
    # The helper's frame is as high as the page, and its modal scrolls.
    enter(visitor, shop, bank, opener="helper", flow="iframe")
    opened(visitor, "iframe").at("pin").type(PIN).at("choose").press(SMS).at("code")


# --- screen readers ---------------------------------------------------------------------------


def _description(page: Page, selector: str) -> str:
    """Return the description that Chromium gives to a screen reader."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    tree = session.send("Accessibility.getPartialAXTree", {"nodeId": node, "fetchRelatives": False})
    session.detach()
    return re.sub(r"\s+", " ", tree["nodes"][0].get("description", {}).get("value", ""))


@pytest.mark.attack(133)
def test_a_screen_reader_says_what_the_focus_skips(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    visitor.page.goto(
        shop.address("/form", {"ott": bank.ott()}, host="evil.test")  # A stranger.
    )
    visitor.page.get_by_role("button", name="Go on").click()
    approval = Approval(visitor, visitor.page).at("pin")
    first = _description(visitor.page, "#answer")
    assert "150.00\u00a0GBP".replace("\u00a0", " ") in first
    assert "Charles Babbage" in first
    assert "evil.test opened this page" in first
    approval.type("9999").refused()
    wrong = _description(visitor.page, "#answer")
    assert wrong.startswith("Error: That is not your PIN.")
    assert "evil.test opened this page" in wrong
    assert "Charles Babbage" not in wrong
    approval.type(PIN).at("choose").press(SMS).at("code")
    code = _description(visitor.page, "#answer")
    assert "We sent a text message with a code to" in code
    assert "Charles Babbage" not in code


def test_a_screen_reader_says_what_is_approved_where_a_way_is_picked_first(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    alone(visitor, shop, bank.ott(STATEMENT)).at("choose")
    (action,) = visitor.page.locator(".action").all_inner_texts()
    assert action in _description(visitor.page, "h1")


# --- time -------------------------------------------------------------------------------------


def test_the_last_minute_is_seen_and_said_and_the_end_comes_by_itself(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    page = visitor.page
    page.clock.install()
    approval = alone(visitor, shop, bank.ott()).at("pin").ready()
    page.clock.fast_forward(538_000)
    minute = "One minute is left to confirm this."
    expect(page.locator("[data-ends]")).not_to_contain_text(minute)
    page.clock.run_for(5_000)
    expect(page.locator("[data-ends]")).to_contain_text(minute)
    expect(page.locator("#live")).to_have_text(minute)
    approval.check("last-minute")
    page.clock.run_for(30_000)
    assert page.locator("[data-ends]").inner_text().count(minute) == 1
    bank.advance(601)
    page.clock.run_for(30_000)
    approval.at("over")
    expect(page.locator("#live")).to_have_text("This request has expired")
    expect(page.locator("h1")).to_be_focused()


# --- waiting, and what comes back -------------------------------------------------------------


class Slow:
    """A connection that holds every answer of the page back until it is let go."""

    def __init__(self, visitor: Visitor, do: str) -> None:
        self.held: list[Route] = []
        self.ended: list[str] = []
        self._do = do
        visitor.context.on("requestfailed", self._on_failed)
        visitor.context.route(f"**{PAGE}", self._hold)

    def _hold(self, route: Route) -> None:
        if f"do={self._do}" in (route.request.post_data or ""):
            self.held.append(route)
        else:
            route.continue_()

    def _on_failed(self, request: Request) -> None:
        self.ended.append(str(request.failure))


def test_who_has_to_wait_is_told(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    slow = Slow(visitor, "answer")
    approval = alone(visitor, shop, bank.ott()).at("pin").ready()
    visitor.page.locator("#answer").fill(PIN)
    visitor.page.get_by_role("button", name="Confirm").click()
    moment = "One moment…"
    expect(visitor.page.locator("button.main")).to_have_text(moment)
    expect(visitor.page.locator("#live")).to_have_text(moment)
    visitor.shot("moment")
    slow.held.pop().abort()
    expect(visitor.page.get_by_role("alert")).to_contain_text("could not be reached")
    expect(visitor.page.locator("button.main")).to_have_text("Confirm")
    expect(visitor.page.locator("#live")).to_have_text("")
    visitor.shot("offline")
    assert approval.place.locator("#main[aria-busy]").count() == 0


@pytest.mark.parametrize("way", ["button", "escape"])
def test_who_cancels_while_a_form_is_on_its_way_is_heard(
    visit: Visit, shop: Shop, bank: Bank, way: str
) -> None:
    visitor = visit()
    slow = Slow(visitor, "answer")
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").ready()
    approval.place.locator("#answer").fill(PIN)
    approval.place.get_by_role("button", name="Confirm").click()
    expect(approval.place.locator("button.main")).to_have_text("One moment…")
    if way == "button":
        approval.place.get_by_role("button", name="Cancel").click()
    else:
        approval.place.locator("#answer").press("Escape")
    assert results(page)[0]["reason"] == "closed"
    assert len(slow.held) == 1
    assert bank.runs() == {}


def test_who_cancels_where_nobody_listens_is_told_so(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    slow = Slow(visitor, "answer")
    approval = alone(visitor, shop, bank.ott()).at("pin").ready()
    visitor.page.locator("#answer").fill(PIN)
    visitor.page.get_by_role("button", name="Confirm").click()
    expect(visitor.page.locator("button.main")).to_have_text("One moment…")
    visitor.page.get_by_role("button", name="Cancel").click()
    approval.at("cancelled")
    assert len(slow.held) == 1
    assert visitor.page.get_by_role("alert").count() == 0


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_answer_of_somebody_between_says_that_something_is_not_working(
    visit: Visit, shop: Shop, bank: Bank, status: int
) -> None:
    visitor = visit()
    approval = alone(visitor, shop, bank.ott()).at("pin").ready()
    broken = re.compile(re.escape(PAGE))
    visitor.page.route(
        broken,
        lambda route: route.fulfill(status=status, body="<h1>Bad gateway</h1>", content_type="text/html"),
    )
    approval.type(PIN)
    alert = visitor.page.get_by_role("alert")
    expect(alert).to_have_text("Something is not working. Nothing more was sent; try again in a moment.")
    expect(alert).to_be_focused()
    expect(visitor.page.locator("#answer")).to_have_value(PIN)
    title = visitor.page.title()
    assert title.startswith("Error: Enter your PIN")
    approval.type(PIN)
    expect(alert).to_have_count(1)
    assert visitor.page.title() == title
    approval.check("between")
    visitor.page.unroute(broken)
    approval.type(PIN).at("choose")
    assert not visitor.page.title().startswith("Error")


def test_where_nothing_was_typed_nothing_is_said_to_be_kept(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    approval = alone(visitor, shop, bank.ott(STATEMENT)).at("choose").ready()
    visitor.context.set_offline(True)
    approval.press(SMS)
    expect(visitor.page.get_by_role("alert")).to_have_text(
        "This page could not be reached. Check your connection and try again."
    )


# --- keys and empty fields --------------------------------------------------------------------


def test_escape_does_nothing_where_there_is_nowhere_to_go_back_to(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    approval = alone(visitor, shop, bank.ott()).at("pin").ready()
    visitor.page.locator("#answer").press("Escape")
    approval.type(PIN).at("choose")


@pytest.mark.parametrize("flow", ["dialog", "popup"])
def test_escape_does_not_throw_away_what_was_typed(visit: Visit, shop: Shop, bank: Bank, flow: str) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank, flow=flow)
    approval = opened(visitor, flow).at("pin").ready()
    field = approval.place.locator("#answer")
    field.fill("12")
    field.press("Escape")
    expect(field).to_have_value("12")
    assert page.evaluate("results") == []
    field.fill("")
    approval.act(lambda: field.press("Escape"))
    assert results(page)[0]["reason"] == "closed"


def test_an_empty_answer_is_refused_in_the_language_of_the_page(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(locale="fr")
    approval = alone(visitor, shop, bank.ott(), lang="en").at("pin").ready()
    visitor.page.get_by_role("button", name="Confirm").click()
    expect(visitor.page.locator("#answer-error")).to_contain_text("Enter your PIN to go on.")
    expect(visitor.page.locator("#answer")).to_be_focused()
    approval.check("empty")
    # Without a script the browser's own word has to do.
    expect(visitor.page.locator("#answer")).to_have_attribute("required", "")


# --- a window of its own ----------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_the_frame_says_that_it_goes_on_in_the_window(
    visit: Visit, shop: Shop, bank: Bank, theme: Theme, lang: str
) -> None:
    visitor = visit(theme=theme, size=PHONE)
    enter(visitor, shop, bank, lang=lang)
    approval = opened(visitor, "dialog").at("pin")
    _style(visitor.page, "iframe", "")
    approval.place.evaluate("URLSearchParams.prototype.set = () => undefined")
    _submit(approval.ready())
    approval.at("window").ready()
    went = approval.place.locator("[data-went]")
    expect(went).to_be_hidden()
    other = visitor.opens(approval.place.locator("form[target] button").click)
    Approval(visitor, other).at("pin")
    expect(went).to_be_visible()
    if lang == "en":
        expect(went).to_have_text(
            "Go on in the window that opened. If you closed it, cancel and start again."
        )
    expect(approval.place.locator("#live")).to_have_text(went.inner_text())
    approval.check(f"went-{lang}")
