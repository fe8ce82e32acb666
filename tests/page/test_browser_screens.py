"""
Every screen of the approval page, in both themes, on a desktop and on the narrowest phone.

Each is held to axe-core's rules for WCAG 2.2 AA, needs no scrolling sideways, breaks no
Content-Security-Policy, and leaves a picture in ``tests/page/screenshots/`` for a person to look at.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.page.browser import DESKTOP, PHONE, Theme, Visitor, axe
from tests.page.conftest import Visit
from tests.page.sites import HTML
from tests.page.support import CODE, PAGE, PIN, SMS, STATEMENT, Approval, Bank, Shop, alone, enter, opened
from watchword.domain.method import Method
from watchword.page import screens
from watchword.page.assets import Assets
from watchword.page.brand import DEFAULT
from watchword.page.language import Language
from watchword.page.render import Renderer
from watchword.page.view import Detail, Screen, View, Way

EVERYWHERE = pytest.mark.parametrize(
    ("theme", "size"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)],
    ids=["light-desktop", "dark-desktop", "light-phone", "dark-phone"],
)
EMPTY_OTT = "00000000-0000-4000-8000-000000000000"


@EVERYWHERE
def test_the_screens_on_the_way_are_for_everybody(
    visit: Visit, shop: Shop, bank: Bank, theme: Theme, size: Any
) -> None:
    visitor = visit(theme=theme, size=size)
    visitor.page.goto(f"{bank.origin}{PAGE}")
    Approval(visitor, visitor.page).at("bare").check("bare")
    approval = alone(visitor, shop, bank.ott()).at("pin").check("pin")
    approval.type("9999").refused().check("pin-wrong")
    approval.type(PIN).at("choose").check("choose")
    approval.press(SMS).at("code").check("code")
    approval.type("999999").refused().check("code-wrong")
    approval.type(CODE).at("done").check("done")


@EVERYWHERE
def test_the_screens_where_it_ends_are_for_everybody(
    visit: Visit, shop: Shop, bank: Bank, theme: Theme, size: Any
) -> None:
    visitor = visit(theme=theme, size=size)
    alone(visitor, shop, bank.ott()).at("pin").press("Cancel").at("cancelled").check("cancelled")
    alone(visitor, shop, EMPTY_OTT).at("over").check("unknown")
    approval = alone(visitor, shop, bank.ott()).at("pin")
    bank.advance(3601)
    approval.type(PIN).at("over").check("expired")
    bank.make(token="of-a-device", profileIds=[435036], deviceFingerprints=["of-this-test"])
    alone(visitor, shop, bank.ott(STATEMENT, token="of-a-device")).at("unable").check("unable")
    approval = alone(visitor, shop, bank.ott()).at("pin")
    for _ in range(5):
        approval.type("9999").place.wait_for_selector("#main:not([aria-busy])")
    approval.at("locked").check("locked")


@EVERYWHERE
def test_the_page_in_a_dialog_is_for_everybody(
    visit: Visit, shop: Shop, bank: Bank, theme: Theme, size: Any
) -> None:
    visitor = visit(theme=theme, size=size)
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog").at("pin").check("pin")
    assert axe(page) == []
    approval.type(PIN).at("choose").check("choose").press(SMS).at("code").check("code")


def test_the_frame_is_as_high_as_the_page_that_stands_in_it(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(size={"width": 1280, "height": 1600})
    page = enter(visitor, shop, bank)
    approval = opened(visitor, "dialog")
    for screen in ("pin", "choose", "code"):
        approval.at(screen)
        page.wait_for_function(
            """high => Math.abs(document.querySelector("iframe").clientHeight - high) <= 1""",
            arg=approval.place.evaluate("Math.ceil(document.body.getBoundingClientRect().height)"),
        )
        assert approval.place.evaluate("document.documentElement.scrollHeight - innerHeight") <= 1
        visitor.shot(screen)
        if screen == "pin":
            approval.type(PIN)
        elif screen == "choose":
            approval.press(SMS)


# --- what no sandbox brings about, drawn as the server would ------------------------------------


def _trouble(language: Language) -> View:
    return screens.trouble(language, page="of-this-test")


def _undelivered(_language: Language) -> View:
    return View(
        screen=Screen.CHOOSE,
        heading="Confirm that it is you",
        text=("Choose how to get your code. Nothing is sent before you choose.",),
        error="The code could not be delivered. Choose another way, or try again.",
        page="of-this-test",
        action="Pay a transfer",
        ways=(
            Way(Method.SMS, "Text message (SMS)", "••• 8888", failed=True),
            Way(Method.VOICE, "Phone call", "••• 8888"),
        ),
    )


def _hostile(_language: Language) -> View:
    payee = "\u2067moc.knab\u2069 <img src=x onerror=alert(1)>"
    return View(
        screen=Screen.PIN,
        heading="Enter your PIN",
        page="of-this-test",
        method=Method.PIN,
        action="Pay " + "w" * 200,
        asked_by="A partner",
        stranger="evil.test",
        details=(
            Detail("Amount", "1,000,000,000,000.00 GBP", strong=True),
            Detail("To", payee, full=payee * 50, odd=True, strong=True),
            Detail("Reference", "x" * 300),
        ),
    )


@EVERYWHERE
@pytest.mark.parametrize(
    ("name", "made"),
    [("trouble", _trouble), ("undelivered", _undelivered), ("hostile", _hostile)],
    ids=["trouble", "undelivered", "hostile"],
)
@pytest.mark.attack(127)
def test_the_screens_of_bad_days_are_for_everybody(
    visit: Visit, bank: Bank, theme: Theme, size: Any, name: str, made: Callable[[Language], View]
) -> None:
    visitor = visit(theme=theme, size=size)
    approval = _draw(visitor, bank, made, "en").check(name)
    if name == "hostile":
        visitor.page.get_by_text("Show all of it").click()
        approval.check("hostile-open")
        assert visitor.page.locator("img").count() == 0


# --- languages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "direction"), [("ar", "rtl"), ("de", "ltr"), ("es", "ltr"), ("fr", "ltr")]
)
def test_every_language_is_for_everybody(
    visit: Visit, shop: Shop, bank: Bank, language: str, direction: str
) -> None:
    visitor = visit(size=PHONE)
    approval = alone(visitor, shop, bank.ott(), lang=language).at("pin")
    html = visitor.page.locator("html")
    expect(html).to_have_attribute("lang", language)
    expect(html).to_have_attribute("dir", direction)
    approval.check(f"{language}-pin")
    _answer(approval, "9999").refused().check(f"{language}-pin-wrong")
    _answer(approval, PIN).at("choose").check(f"{language}-choose")
    approval.ready().place.locator("button.way").first.click()
    approval.at("code").check(f"{language}-code")
    _answer(approval, CODE).at("done").check(f"{language}-done")


def test_the_browsers_language_is_the_pages(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(locale="fr-CA")
    alone(visitor, shop, bank.ott()).at("pin")
    expect(visitor.page.locator("html")).to_have_attribute("lang", "fr")


# --- how people set their browsers ------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", [{"forced_colors": "active"}, {"reduced_motion": "reduce"}, {"contrast": "more"}]
)
def test_what_people_set_in_their_browser_is_respected(
    visit: Visit, shop: Shop, bank: Bank, setting: dict[str, str]
) -> None:
    visitor = visit(**setting)
    approval = alone(visitor, shop, bank.ott()).at("pin").check("pin")
    if "reduced_motion" in setting:
        moving = approval.place.evaluate("document.getAnimations().length")
        assert moving == 0
        durations = approval.place.evaluate(
            "[...document.querySelectorAll('*')].map((each) => getComputedStyle(each).transitionDuration)"
        )
        assert {float(each.rstrip("s")) for entry in durations for each in entry.split(", ")} <= {
            0.0,
            1e-05,
            1e-06,
        }


def test_large_text_and_wide_spacing_cut_nothing_off(visit: Visit, shop: Shop, bank: Bank) -> None:
    visitor = visit(size=PHONE)
    approval = alone(visitor, shop, bank.ott()).at("pin")
    # WCAG 2.2, 1.4.12; in a sheet made by script, which the page's policy lets nobody but a test bring.
    approval.place.evaluate("""() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`html { font-size: 200% } * {
        line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important }`);
      document.adoptedStyleSheets = [sheet];
    }""")
    approval.check("spaced")
    cut = approval.place.evaluate("""() => [...document.querySelectorAll("button, p, h1, dd, label")]
      .filter((element) => element.clientWidth && element.scrollWidth > element.clientWidth + 1
        && getComputedStyle(element).overflowX !== "visible")
      .map((element) => element.outerHTML)""")
    assert cut == []


def _answer(approval: Approval, text: str) -> Approval:
    """Answer in whatever language."""
    approval.ready().place.locator("#answer").fill(text)
    approval.place.locator("button.main").click()
    approval.place.wait_for_selector("#main:not([aria-busy])")
    return approval


def _draw(visitor: Visitor, bank: Bank, made: Callable[[Language], View], tag: str) -> Approval:
    language = Language.by_tag(tag)
    html = Renderer(DEFAULT, None, Assets()).render(made(language), language=language, nonce="n", flow="tab")
    policy = (
        "default-src 'none'; script-src 'nonce-n'; style-src 'nonce-n'; img-src data:; connect-src 'self'"
    )

    def fulfil(route: Route) -> None:
        route.fulfill(body=html, headers={"content-security-policy": policy, "content-type": HTML})

    visitor.page.route(f"**{PAGE}", fulfil)
    visitor.page.goto(f"{bank.origin}{PAGE}")
    return Approval(visitor, visitor.page)
