"""What reviews of the module for openers found, in a real browser: redirects, and frames that stay silent."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.page.browser import Visitor
from tests.page.conftest import Visit
from tests.page.sites import HTML, JAVASCRIPT, NOTHING, Answer, Call, Site
from tests.page.support import Bank, Shop, enter, results

MODULE = files("watchword.page").joinpath("static", "watchword.js").read_text(encoding="utf-8")
OTT = "e1a5ff5c-7a4f-4a59-9a57-1a4cf9e0a6f3"
OPEN = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "content-type, x-2fa-approval",
    "access-control-allow-methods": "*",
    "access-control-expose-headers": "x-2fa-approval",
}
BLOCKED = {"error": "ApprovalError", "reason": "blocked", "ours": True}


def _answer(call: Call) -> Answer:
    """Pay at once and lead on to what is protected; show a page that says nothing."""
    match call.path:
        case "/watchword.js":
            return Answer(MODULE, JAVASCRIPT, headers=OPEN)
        case _ if call.method == "OPTIONS":
            return Answer(headers=OPEN)
        case "/pay":
            return Answer(status=303, headers={**OPEN, "location": "/receipt"})
        case "/receipt":
            return Answer('"refused"', "application/json", 403, {**OPEN, "x-2fa-approval": OTT})
        case "/approve-api-action/":
            return Answer('<!DOCTYPE html><html lang="en"><title>Silent</title><h1>Silent</h1>', HTML)
        case _:
            return NOTHING


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(_answer) as started:
        yield started


@pytest.fixture
def shop_of_site(site: Site) -> Iterator[Shop]:
    with Shop(site.origin()) as started:
        yield started


def _enter(visitor: Visitor, shop: Shop, path: str = "/pay", **plan: Any) -> Page:
    plan = {
        "module": f"{shop.backend}/watchword.js",
        "url": f"{shop.backend}{path}",
        "init": {"method": "POST"},
        **plan,
    }
    visitor.page.goto(f"{shop.origin()}/?plan={quote(json.dumps(plan))}")
    visitor.page.wait_for_selector("[data-ready]", state="attached")
    return visitor.page


def test_a_call_that_was_redirected_is_never_repeated(visit: Visit, shop_of_site: Shop, site: Site) -> None:
    page = _enter(visit(), shop_of_site)
    page.get_by_role("button", name="Pay").click()
    assert results(page) == [{"status": 403, "body": '"refused"'}]
    assert [call.method for call in site.to("/pay")] == ["POST"]
    assert [call.method for call in site.to("/receipt")] == ["GET"]
    assert page.evaluate("stages") == []
    assert page.get_by_role("dialog").count() == 0


def test_a_call_that_cannot_carry_the_header_is_not_asked_about(
    visit: Visit, shop_of_site: Shop, site: Site
) -> None:
    visitor = visit()
    # Of the same origin even such a call could be read: the shop's own site plays the bank.
    page = _enter(visitor, shop_of_site, "/receipt", init={"mode": "no-cors"})
    page.evaluate("""() => {
      const real = window.fetch;
      window.fetch = (...call) => {
        window.asked = (window.asked ?? 0) + 1;
        return real(...call).then(() => new Response("refused", {
          status: 403, headers: { "x-2fa-approval": "e1a5ff5c-7a4f-4a59-9a57-1a4cf9e0a6f3" },
        }));
      };
    }""")
    page.get_by_role("button", name="Pay").click()
    assert results(page) == [{"status": 403, "body": "refused"}]
    assert page.evaluate("asked") == 1
    assert page.evaluate("stages") == []
    assert site.to("/approve-api-action/") == []


def test_a_frame_that_shows_no_page_of_ours_settles_the_call(
    visit: Visit, shop_of_site: Shop, site: Site
) -> None:
    visitor = visit()
    page = _enter(visitor, shop_of_site, "/receipt", init={"method": "GET"})
    page.get_by_role("button", name="Pay").click()
    page.frame_locator("iframe").get_by_role("heading", name="Silent").wait_for()
    expect(page.get_by_role("dialog")).to_be_visible()
    (result,) = results(page)
    assert result.items() >= BLOCKED.items()
    assert page.get_by_role("dialog").count() == 0
    assert page.evaluate("stages") == ["start", "end: blocked"]
    assert len(site.to("/receipt")) == 1


@pytest.mark.attack(116)
def test_a_shop_that_is_not_listed_is_told_why_nothing_is_shown(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    visitor.expect("frame-ancestors")
    page = enter(visitor, shop, bank, host="evil.test")
    # The bank's own list of who may call it is not at issue here.
    page.evaluate(
        "ott => void keep(approve(ott, { page: new URLSearchParams(location.search).get('plan') "
        "&& JSON.parse(new URLSearchParams(location.search).get('plan')).page }))",
        bank.ott(),
    )
    (result,) = results(page)
    assert result.items() >= BLOCKED.items()
    (line,) = [line for line in visitor.console if line.startswith("Watchword:")]
    assert "page.openers" in line
    assert shop.origin("evil.test") in line
    assert bank.origin in line
    assert page.locator("iframe").count() == 0


def test_a_page_that_has_shown_itself_may_be_slow_afterwards(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit()
    visitor.page.clock.install()
    page = enter(visitor, shop, bank)
    page.get_by_role("button", name="Pay").click()
    page.frame_locator("iframe").locator("#main[data-screen=pin]").wait_for()
    page.frame_locator("iframe").locator("html[data-ready]").wait_for(state="attached")
    page.clock.run_for(60_000)
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("results") == []
