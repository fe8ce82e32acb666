"""What others try with the approval page, in a real browser: framing, forging, rushing, reusing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.browser import Visitor
from tests.page.conftest import Visit
from tests.page.support import (
    ADA_ID,
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
from watchword.domain.details import VALUE_MAX

SUCCESS = "tw-approve-api-action-success"
RAN_ONCE = {"TRANSFER__FUND": 1}


def _raw(visitor: Visitor, shop: Shop, bank: Bank, ott: str, *, host: str = "127.0.0.1", **plan: str) -> Page:
    """Enter a site that opens the page by hand."""
    plan = {"ott": ott, "page": f"{bank.origin}{PAGE}", "flow": "iframe", "target": "approval", **plan}
    return go(visitor, shop.address("/raw", plan, host=host))


# --- origins that are not on the list -----------------------------------------------------------


@pytest.mark.attack(116)
def test_a_site_that_is_not_listed_cannot_frame_the_page(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    visitor.expect("frame-ancestors")
    page = _raw(visitor, shop, bank, bank.ott(), host="evil.test")
    with page.expect_event("console", lambda message: "frame-ancestors" in message.text):
        page.get_by_role("button", name="Pay").click()
    page.frames[-1].wait_for_url(re.compile("^chrome-error:"))
    assert page.frame_locator("iframe").locator("#main").count() == 0
    assert page.evaluate("heard") == []


@pytest.mark.attack(116)
@pytest.mark.parametrize("flow", ["popup", "tab"])
def test_a_site_that_is_not_listed_is_named_to_the_person_and_told_nothing(
    visit: Visit, shop: Shop, bank: Bank, flow: str
) -> None:
    visitor = visit()
    ott = bank.ott()
    page = _raw(visitor, shop, bank, ott, host="evil.test", flow=flow)
    approval = Approval(visitor, visitor.opens(page.get_by_role("button", name="Pay").click)).at("pin")
    approval.check("stranger")
    assert "evil.test" in approval.text()
    approval.pay()
    approval.at("done").check("stranger-done")
    assert "You can close this page now" in approval.text()
    _let_messages_come(page)
    assert page.evaluate("heard") == ["last"]
    assert page.evaluate(
        "() => { try { return opened.location.href } catch (error) { return error.name } }"
    ) == ("SecurityError")


def _let_messages_come(page: Page) -> None:
    """Messages come in order: after this one there is none that was sent before."""
    page.evaluate("""() => new Promise((done) => {
      heard.length = 0;
      addEventListener("message", ({ data }) => (heard[0] = data, done()), { once: true });
      postMessage("last", "*");
    })""")


@pytest.mark.attack(130)
def test_no_other_site_can_read_the_page_or_send_its_forms(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    ott = bank.ott()
    for host in ("127.0.0.1", "localhost", "evil.test"):
        page = _raw(visitor, shop, bank, ott, host=host)
        read = page.evaluate(
            """async ([url, ott]) => {
              const body = new URLSearchParams({ ott, flow: "tab", parentHostname: location.hostname });
              const modes = [{}, { credentials: "include" }];
              const ask = (mode) => fetch(url, { method: "POST", body, ...mode });
              return Promise.all(modes.map((mode) => ask(mode).then((it) => it.text(), () => "refused")));
            }""",
            [f"{bank.origin}{PAGE}", ott],
        )
        assert read == ["refused", "refused"]


# --- the answer of the page is no authority -----------------------------------------------------


@pytest.mark.attack(122)
def test_a_success_that_was_not_is_found_out_at_the_bank(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()

    def forge(route: Route) -> None:
        body = f"<!DOCTYPE html><script>parent.postMessage('{SUCCESS}', '*')</script>"
        route.fulfill(body=body, headers={"content-type": "text/html"})

    visitor.context.route(f"**{PAGE}", forge)
    page = enter(visitor, shop, bank)
    page.get_by_role("button", name="Pay").click()
    assert results(page)[0]["status"] == 403
    assert bank.runs() == {}


@pytest.mark.attack(121)
def test_what_the_page_is_told_changes_nothing(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").ready()
    before = approval.text()
    told = [
        *(f"tw-approve-api-action-{outcome}" for outcome in ("success", "failed", "closed")),
        "[iFrameSizer]x:0:false:false:32:true:true:null:bodyOffset",
        "[iFrameSizer]<script>:1:1:1:1:1:1",
        "[iFrameSizer]" + "x" * 10_000,
        {"type": "success"},
        None,
        7,
    ]
    page.evaluate(
        """(told) => {
          const { contentWindow } = document.querySelector("iframe");
          for (let round = 0; round < 1000; round++) {
            for (const data of told) contentWindow.postMessage(data, "*");
          }
        }""",
        told,
    )
    # Others in the page tell it too: a frame beside it, of no origin.
    page.evaluate(
        """(data) => new Promise((done) => {
          const frame = Object.assign(document.createElement("iframe"), { sandbox: "allow-scripts" });
          frame.onload = done;
          document.querySelector("main").append(frame);
        })""",
        SUCCESS,
    )
    assert approval.text() == before
    approval.pay()
    assert results(page)[0]["status"] == 201


# --- redress ------------------------------------------------------------------------------------


@pytest.mark.attack(118)
@pytest.mark.parametrize(
    "style",
    [
        "width: 480px; height: 900px; opacity: 0",
        "width: 480px; height: 900px; opacity: 0.1",
        "width: 1px; height: 1px",
        "width: 480px; height: 900px; position: absolute; left: -2000px",
        "width: 480px; height: 900px; clip-path: inset(700px 0 0 0)",
        "width: 480px; height: 900px; transform: scale(0.02)",
        "width: 480px; height: 900px; filter: blur(9px)",
    ],
    ids=["clear", "nearly-clear", "a-pixel", "outside", "clipped", "tiny", "blurred"],
)
def test_a_payment_is_not_approved_in_a_frame_that_cannot_be_seen(
    visit: Visit, shop: Shop, bank: Bank, style: str
) -> None:
    visitor = visit()
    ott = bank.ott()
    page = _raw(visitor, shop, bank, ott, style=style)
    page.get_by_role("button", name="Pay").click()
    approval = Approval(visitor, page.frames[-1])
    answer = approval.place.locator("#answer")
    answer.wait_for(state="attached")
    approval.ready()
    answer.evaluate("(answer, pin) => { answer.value = pin; answer.form.requestSubmit(); }", PIN)
    approval.place.wait_for_selector('#main[data-screen="window"]', state="attached")
    assert bank.look(ott)["challenges"][0]["passed"] is False


@pytest.mark.attack(118)
def test_a_payment_is_not_approved_under_what_covers_it(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    ott = bank.ott()
    page = _raw(visitor, shop, bank, ott)
    page.evaluate("""() => {
      const cover = document.createElement("div");
      cover.textContent = "You have won!";
      cover.style.cssText = "position: fixed; inset: 0; background: white; pointer-events: none";
      document.body.append(cover);
    }""")
    page.get_by_role("button", name="Pay").click()
    approval = Approval(visitor, page.frames[-1]).at("pin").ready()
    approval.place.locator("#answer").fill(PIN)
    approval.place.get_by_role("button", name="Confirm").click()
    approval.at("window")
    assert bank.look(ott)["challenges"][0]["passed"] is False
    visitor.shot("covered")


@pytest.mark.attack(118)
def test_who_is_led_to_a_window_goes_on_there_and_the_shop_hears_of_it(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").ready()
    # As in a browser that cannot tell.
    approval.place.locator("#answer").evaluate(
        """(answer, pin) => {
          URLSearchParams.prototype.set = () => undefined;
          answer.value = pin;
          answer.form.requestSubmit();
        }""",
        PIN,
    )
    approval.at("window").check("window")
    other = Approval(
        visitor, visitor.opens(approval.place.get_by_role("button", name="Continue in a new window").click)
    )
    other.pay()
    assert results(page)[0]["status"] == 201
    assert bank.runs() == RAN_ONCE
    assert len(visitor.context.pages) == 1


@pytest.mark.attack(119)
def test_a_click_that_comes_too_soon_is_meant_for_something_else(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    visitor = visit()
    ott = bank.ott(STATEMENT)
    page = visitor.page
    page.clock.install()
    approval = alone(visitor, shop, ott).at("choose").ready()
    page.clock.pause_at(page.evaluate("Date.now()") + 10_000)
    page.evaluate("dispatchEvent(new Event('focus'))")
    button = page.get_by_role("button", name=SMS)
    button.click()
    button.dblclick()
    page.clock.run_for(700)
    button.click()
    assert bank.sent() == []
    page.clock.run_for(200)
    button.click()
    page.clock.resume()
    approval.at("code")
    assert len(bank.sent()) == 1


# --- whose page it is ---------------------------------------------------------------------------


@pytest.mark.attack(124)
def test_an_approval_of_somebody_else_says_what_it_is_and_takes_only_the_owners_secrets(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    bank.make(token="mallory", profileIds=[700001], pin="9999", phoneNumber="+15005550006")
    payment = "/v3/profiles/700001/transfers/16521632/payments"
    ott = bank.ott(payment, token="mallory")
    visitor = visit()
    approval = alone(visitor, shop, ott).at("pin")
    assert "150.00\u00a0GBP" in approval.text()
    assert "Charles Babbage" in approval.text()
    approval.type(PIN).refused()
    # What Ada types there costs Mallory an attempt, and Ada nothing.
    assert "4 tries left" in approval.text()
    alone(visitor, shop, bank.ott()).at("pin").pay()
    assert bank.sent(ADA_ID) != []


@pytest.mark.attack(128)
def test_a_page_is_good_in_one_browser_and_dead_once_it_is_opened_anew(
    visit: Visit, shop: Shop, bank: Bank
) -> None:
    ott = bank.ott()
    first, second = visit(), visit()
    old = alone(first, shop, ott).at("pin")
    new = alone(second, shop, ott).at("pin")
    old.type(PIN).at("over")
    assert "opened somewhere else" in old.text()
    new.pay()
    new.at("done")


@pytest.mark.attack(128)
def test_a_page_does_nothing_more_after_the_end(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    ott = bank.ott()
    approval = alone(visitor, shop, ott).at("pin")
    token = approval.place.locator("[name=page]").first.get_attribute("value")
    approval.pay()
    approval.at("done")
    assert bank.call(ott=ott).status_code == 201
    # Back leads to the shop at once; what follows is what a kept copy of the first screen would send.
    visitor.page.go_back()
    expect(visitor.page.get_by_role("button", name="Go on")).to_be_visible()
    visitor.page.goto(f"{bank.origin}{PAGE}")
    visitor.page.evaluate(
        """(page) => {
          const form = Object.assign(document.createElement("form"), { method: "POST", target: "_self" });
          for (const [name, value] of Object.entries({ page, do: "answer", answer: "1234" })) {
            form.append(Object.assign(document.createElement("input"), { name, value }));
          }
          document.body.append(form);
          form.submit();
        }""",
        token,
    )
    approval.at("over")
    assert bank.runs(ott) == RAN_ONCE
    assert bank.call(ott=ott).status_code == 403
    alone(visitor, shop, ott).at("over")


def test_the_second_approval_of_a_shop_is_its_own(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    page = enter(visitor, shop, bank)
    opened(visitor, "dialog").pay()
    results(page)
    opened(visitor, "dialog").pay()
    assert [result["status"] for result in results(page, 2)] == [201, 201]
    assert len(set(visitor.otts)) == 2
    assert bank.runs() == {"TRANSFER__FUND": 2}
    for ott in visitor.otts:
        assert bank.runs(ott) == RAN_ONCE


# --- what others wrote --------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>${7*7}{{7*7}}"
CONFIG = """
[[actions]]
name = "NOTE__WRITE"
risk = "high"
bind = "request"
match = ["POST /v3/profiles/{profileId}/batch-payments/{batchGroupId}/payments"]
title = { en = "Write to <b>everybody</b> javascript:alert(3)" }
show = { payee = "/to", reference = "/text" }
"""
"""What a bank of its own might configure: what is shown is what the request says."""


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[Bank]:
    config = tmp_path / "watchword.toml"
    config.write_text(CONFIG, encoding="utf-8")
    with Running("--config", config) as running, Bank(running) as started:
        yield started


@pytest.mark.attack(125)
@pytest.mark.attack(127)
def test_what_others_wrote_is_text_and_looks_like_itself(visit: Visit, noted: Bank) -> None:
    visitor = visit()
    body = {"to": "\u202emoc.knab\u202c \u200bAda", "text": HOSTILE + "x" * (VALUE_MAX - len(HOSTILE))}
    path = "/v3/profiles/435036/batch-payments/7/payments"
    refused = noted.call(path, body={**body, "text": "x" * 5000})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "/text")
    ott = noted.ott(path, body=body)
    with Shop(noted.origin) as shop:
        approval = alone(visitor, shop, ott).at("pin").check("hostile")
    text = approval.text()
    assert "Write to <b>everybody</b> javascript:alert(3)" in text
    assert HOSTILE[:20] in text
    assert "unusual characters" in text
    assert "\u202e" not in text
    assert "49" not in text
    assert len(text) < 3000
    for tag in ("img", "b", "script:not([src])", "a[href^=javascript]"):
        assert visitor.page.locator(f"main {tag}").count() == 0
    visitor.page.get_by_text("Show all of it").first.click()
    assert "x" * 200 in re.sub(r"\s", "", approval.text())
    expect(visitor.page.locator("details[open]")).to_have_count(1)
