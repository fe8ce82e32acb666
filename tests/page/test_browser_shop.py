"""The sandbox's own shop in a real browser: what a person sees who started the sandbox."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.browser import DESKTOP, PHONE, Theme, Visitor, axe, sideways
from tests.page.conftest import Visit
from tests.page.support import PAGE, Approval, Bank, framed

FLOWS = {"dialog": "over this page", "popup": "in a small window", "tab": "in a new tab"}


def _opened(visitor: Visitor, bank: Bank, flow: str) -> Approval:
    page = visitor.page
    page.goto(f"{bank.origin}/sandbox/shop")
    page.get_by_label(FLOWS[flow]).check()
    pay = page.get_by_role("button", name="Pay 150.00")
    if flow != "dialog":
        return Approval(visitor, visitor.opens(pay.click)).at("pin")
    pay.click()
    return framed(visitor).at("pin")


@pytest.mark.parametrize("flow", FLOWS)
def test_the_shop_is_paid_once_and_tells_the_story(visit: Visit, bank: Bank, flow: str) -> None:
    visitor = visit()
    page = visitor.page
    approval = _opened(visitor, bank, flow)
    visitor.shot(f"{flow}-asked")
    approval.pay()
    outcome = page.get_by_role("status")
    expect(outcome).to_contain_text("Paid.")
    expect(outcome).to_be_focused()
    log = page.get_by_role("log").get_by_role("listitem")
    expect(log).to_have_count(4)
    expect(log.nth(1)).to_contain_text("403")
    expect(log.nth(3)).to_contain_text("201 COMPLETED")
    visitor.shot(f"{flow}-paid")
    assert axe(page) == []
    (ott,) = visitor.otts
    assert bank.runs(ott) == bank.runs() == {"TRANSFER__FUND": 1}
    page.get_by_role("link", name="See what the server saw").click()
    expect(page.get_by_role("heading", name="Watchword sandbox")).to_be_visible()
    expect(page.locator("[data-live=outbox]")).to_contain_text("111111")


def test_who_leaves_is_told_that_nothing_was_paid_and_can_try_again(visit: Visit, bank: Bank) -> None:
    visitor = visit()
    _opened(visitor, bank, "dialog")
    visitor.page.get_by_role("button", name="Close").click()
    expect(visitor.page.get_by_role("status")).to_contain_text("Nothing was paid")
    visitor.shot("left")
    assert bank.runs() == {}
    visitor.page.get_by_role("button", name="Pay 150.00").click()
    framed(visitor).pay()
    expect(visitor.page.get_by_role("status")).to_contain_text("Paid.")


def test_a_bank_that_cannot_be_reached_is_said(visit: Visit, bank: Bank) -> None:
    visitor = visit()
    visitor.page.goto(f"{bank.origin}/sandbox/shop")
    visitor.context.set_offline(True)
    visitor.page.get_by_role("button", name="Pay 150.00").click()
    expect(visitor.page.get_by_role("status")).to_contain_text("cannot be reached")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_shop_is_for_everybody(visit: Visit, bank: Bank, theme: Theme, size: Any) -> None:
    visitor = visit(theme=theme, size=size)
    visitor.page.goto(f"{bank.origin}/sandbox/shop")
    visitor.shot("shop")
    assert axe(visitor.page) == []
    assert sideways(visitor.page) == 0
    visitor.page.get_by_role("button", name="Pay 150.00").click()
    framed(visitor).at("pin").check("asked")
    assert axe(visitor.page) == []


def test_without_scripts_the_shop_says_what_it_needs(visit: Visit, bank: Bank) -> None:
    visitor = visit(javascript=False)
    visitor.page.goto(f"{bank.origin}/sandbox/shop")
    hint = visitor.page.locator("noscript p")
    expect(hint).to_be_visible()
    assert hint.inner_text().startswith("This shop needs JavaScript.")


def test_the_page_of_the_sandbox_is_found_from_its_front_door(visit: Visit, bank: Bank) -> None:
    visitor = visit()
    visitor.page.goto(bank.origin)
    visitor.page.get_by_role("link", name="demo shop").click()
    expect(visitor.page.get_by_role("button", name="Pay 150.00")).to_be_visible()
    assert axe(visitor.page) == []
    assert PAGE not in visitor.urls
