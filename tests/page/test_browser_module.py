"""
The module for openers in a real browser, against a page that plays the approval page's part.

The part is small: it takes the form, and says to its opener what the test wants. So each way in which
an approval can end is tried, also those that the real page never takes.
"""

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Frame, Page, expect

from tests.page.browser import DESKTOP, PHONE, Theme, Visitor, axe, sideways
from tests.page.conftest import Visit
from tests.page.sites import HTML, JAVASCRIPT, NOTHING, Answer, Call, Site
from tests.page.support import OPENERS, Shop, go, results

STATIC = files("watchword.page").joinpath("static")
OTT = "e1a5ff5c-7a4f-4a59-9a57-1a4cf9e0a6f3"
SUCCESS, FAILED, CLOSED = (f"tw-approve-api-action-{outcome}" for outcome in ("success", "failed", "closed"))
FLOWS = ("dialog", "popup", "tab")
APPROVED = {"status": 201, "body": '"paid"'}
OPEN = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "content-type, x-2fa-approval",
    "access-control-allow-methods": "*",
    "access-control-expose-headers": "x-2fa-approval",
}
PART = """<!DOCTYPE html><html lang="en"><title>Approve</title><link rel="icon" href="data:,">
<h1 tabindex="-1">Approve</h1><p>{text}</p>
<script>
  const opener = window.parent === window ? window.opener : window.parent;
  window.heard = [];
  window.tell = (data) => opener.postMessage(data, "*");
  window.addEventListener("message", ({{ origin, data }}) => {{
    heard.push([origin, data]);
    const [name] = String(data).split(":");
    if (name.startsWith("[iFrameSizer]")) tell(`${{name}}:480:400:init`);
  }});
</script>"""


class Server:
    """A protected call, and the page that clears it; the test says what each answers."""

    def __init__(self) -> None:
        self.refusal = Answer('"refused"', "application/json", 403, {"x-2fa-approval": OTT})
        self.approved = Answer('"paid"', "application/json", 201)

    def answer(self, call: Call) -> Answer:
        match call.path:
            case "/pay":
                return self._pay(call)
            case "/watchword.js":
                module = STATIC.joinpath("watchword.js").read_text(encoding="utf-8")
                return Answer(module, JAVASCRIPT, headers=OPEN)
            case "/approve-api-action/":
                return Answer(PART.format(text=call.method), HTML)
            case "/other":
                return Answer(PART.format(text="another page of that origin"), HTML)
            case _:
                return NOTHING

    def _pay(self, call: Call) -> Answer:
        if call.method == "OPTIONS":
            return Answer(headers=OPEN)
        answer = self.approved if "x-2fa-approval" in call.headers else self.refusal
        return Answer(answer.body, answer.media, answer.status, {**OPEN, **answer.headers})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def page_site(server: Server) -> Iterator[Site]:
    with Site(server.answer) as site:
        yield site


@pytest.fixture
def shop(page_site: Site) -> Iterator[Shop]:
    with Shop(page_site.origin()) as started:
        yield started


def _address(shop: Shop, **plan: Any) -> str:
    server = shop.backend
    plan = {"module": f"{server}/watchword.js", "url": f"{server}/pay", "init": {"method": "POST"}, **plan}
    return shop.address("/", plan)


def _enter(visitor: Visitor, shop: Shop, **plan: Any) -> Page:
    return go(visitor, _address(shop, **plan))


def _opened(visitor: Visitor, flow: str) -> Page | Frame:
    """Press the button; return the page that asks."""
    return _in_a_dialog(visitor) if flow == "dialog" else _in_a_window(visitor)


def _in_a_dialog(visitor: Visitor) -> Frame:
    visitor.page.get_by_role("button", name="Pay").click()
    return _frame(visitor.page)


def _in_a_window(visitor: Visitor) -> Page:
    opened = visitor.opens(visitor.page.get_by_role("button", name="Pay").click)
    opened.get_by_role("heading", name="Approve").wait_for()
    return opened


def _frame(page: Page) -> Frame:
    expect(page.get_by_role("dialog")).to_be_visible()
    page.frame_locator("iframe").get_by_role("heading", name="Approve").wait_for()
    return page.frames[-1]


def _tell(asking: Page | Frame, message: object) -> None:
    asking.evaluate("message => setTimeout(() => tell(message))", message)


def _lead(asking: Page | Frame, url: str) -> None:
    """Lead a page elsewhere as its own script would, so that it keeps its opener."""
    asking.evaluate("url => void setTimeout(() => location.assign(url))", url)
    asking.wait_for_url(url)


def _refusal(reason: str, cause: str | None = None) -> dict[str, Any]:
    return {"error": "ApprovalError", "reason": reason, "ours": True, "cause": cause}


# --- it goes well -----------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
def test_an_approved_call_is_repeated_once_and_word_for_word(
    visit: Visit, shop: Shop, page_site: Site, flow: str
) -> None:
    visitor = visit()
    init = {"method": "PUT", "body": '{"amount":7}', "headers": {"content-type": "application/json"}}
    page = _enter(visitor, shop, options={"flow": flow}, init=init)
    asking = _opened(visitor, flow)
    visitor.shot(flow)
    _tell(asking, SUCCESS)
    assert results(page) == [APPROVED]
    first, second = page_site.to("/pay")
    assert first.method == second.method == "PUT"
    assert first.body == second.body == b'{"amount":7}'
    assert "x-2fa-approval" not in first.headers
    assert second.headers["x-2fa-approval"] == OTT
    assert page.evaluate("stages") == ["start", "end"]
    assert len(visitor.context.pages) == 1
    assert page.locator("iframe, form").count() == 0


@pytest.mark.parametrize("flow", FLOWS)
def test_the_token_travels_in_a_form_and_is_in_no_address_and_no_log(
    visit: Visit, shop: Shop, page_site: Site, flow: str
) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow, "lang": "fr"})
    asking = _opened(visitor, flow)
    (call,) = page_site.to("/approve-api-action/")
    assert (call.method, call.query) == ("POST", "lang=fr")
    assert call.headers["Content-Type"] == "application/x-www-form-urlencoded"
    named = {"dialog": "iframe"}.get(flow, flow)
    assert call.form == {"ott": OTT, "libVersion": "1", "parentHostname": "127.0.0.1", "flow": named}
    _tell(asking, SUCCESS)
    results(page)
    # The plan, which is in the shop's own address, names no token.
    assert not [url for url in [*visitor.urls, *visitor.console] if OTT in unquote(url)]
    assert OTT not in page.content()


@pytest.mark.parametrize(
    ("status", "header", "asks"), [(400, OTT, True), (403, "", False), (401, OTT, False), (500, OTT, False)]
)
def test_only_403_and_400_with_a_token_ask_for_approval(
    visit: Visit, shop: Shop, server: Server, status: int, header: str, asks: bool
) -> None:
    server.refusal = Answer('"refused"', "application/json", status, {"x-2fa-approval": header})
    visitor = visit()
    page = _enter(visitor, shop)
    if asks:
        _tell(_in_a_dialog(visitor), SUCCESS)
        assert results(page) == [APPROVED]
    else:
        page.get_by_role("button", name="Pay").click()
        assert results(page) == [{"status": status, "body": '"refused"'}]
        assert page.evaluate("stages") == []


def test_a_second_refusal_is_the_result_and_asks_no_more(
    visit: Visit, shop: Shop, server: Server, page_site: Site
) -> None:
    server.approved = Answer('"refused again"', "application/json", 403, {"x-2fa-approval": OTT})
    visitor = visit()
    page = _enter(visitor, shop)
    _tell(_in_a_dialog(visitor), SUCCESS)
    assert results(page) == [{"status": 403, "body": '"refused again"'}]
    assert len(page_site.to("/pay")) == 2
    assert page.get_by_role("dialog").count() == 0


def test_a_form_with_a_file_is_repeated_byte_for_byte(visit: Visit, shop: Shop, page_site: Site) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    page.evaluate("""() => {
      const body = new FormData();
      body.append("amount", "7");
      body.append("receipt", new File([new Uint8Array([0, 255, 13, 10])], "receipt.bin"));
      keep(call({ init: { body } }));
    }""")
    _tell(_frame(page), SUCCESS)
    results(page)
    first, second = page_site.to("/pay")
    assert b"\x00\xff\r\n" in first.body
    assert first.body == second.body
    assert first.headers["Content-Type"] == second.headers["Content-Type"]


def test_a_body_that_cannot_be_sent_twice_is_refused_before_anything_is_sent(
    visit: Visit, shop: Shop, page_site: Site
) -> None:
    page = _enter(visit(), shop)
    page.evaluate(
        "() => void keep(call({ init: { body: new Blob(['7']).stream(), duplex: 'half' } }))",
    )
    assert results(page)[0]["error"] == "TypeError"
    assert page_site.to("/pay") == []


def test_a_request_object_can_be_passed_as_with_fetch(visit: Visit, shop: Shop, page_site: Site) -> None:
    page = _enter(visit(), shop)
    page.evaluate(
        """url => {
          const headers = { "content-type": "text/x-mine" };
          keep(stepUpFetch()(new Request(url, { method: "POST", body: "of the request", headers })));
        }""",
        f"{shop.backend}/pay",
    )
    _tell(_frame(page), SUCCESS)
    assert results(page) == [APPROVED]
    for call in page_site.to("/pay"):
        assert (call.body, call.headers["content-type"]) == (b"of the request", "text/x-mine")


def test_calls_at_the_same_time_are_asked_about_in_turn(visit: Visit, shop: Shop, page_site: Site) -> None:
    visitor = visit()
    page = _enter(visitor, shop, calls=3)
    frame = _in_a_dialog(visitor)
    ended: Any = []
    for number in range(1, 4):
        assert page.get_by_role("dialog").count() == 1
        assert len(page_site.to("/approve-api-action/")) == number
        _tell(frame, CLOSED if number == 2 else SUCCESS)
        ended = results(page, number)
        if number < 3:
            frame = _frame(page)
    assert sorted(ended, key=str) == sorted([APPROVED, _refusal("closed"), APPROVED], key=str)
    assert len(page_site.to("/pay")) == 3 + 2


# --- it ends otherwise ------------------------------------------------------------------------


def _press_the_button(page: Page) -> None:
    page.get_by_role("button", name="Close").click()


def _press_escape(page: Page) -> None:
    page.get_by_role("button", name="Close").focus()
    page.keyboard.press("Escape")


def _remove_it(page: Page) -> None:
    page.evaluate("document.querySelector('iframe').parentNode.remove()")


def _replace_the_page(page: Page) -> None:
    page.evaluate("document.body.replaceChildren()")


@pytest.mark.parametrize("close", [_press_the_button, _press_escape, _remove_it, _replace_the_page])
def test_a_dialog_that_goes_in_any_way_settles_the_call(
    visit: Visit, shop: Shop, page_site: Site, close: Callable[[Page], None]
) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    _in_a_dialog(visitor)
    close(page)
    assert results(page) == [_refusal("closed")]
    assert page.evaluate("stages") == ["start", "end: closed"]
    assert page.locator("iframe").count() == 0
    assert len(page_site.to("/pay")) == 1


@pytest.mark.parametrize("flow", ["popup", "tab"])
def test_a_window_that_is_closed_settles_the_call(visit: Visit, shop: Shop, flow: str) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow})
    _in_a_window(visitor).close()
    assert results(page) == [_refusal("closed")]


@pytest.mark.parametrize("flow", ["popup", "tab"])
def test_a_window_that_says_success_and_closes_itself_at_once_was_heard(
    visit: Visit, shop: Shop, flow: str
) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow})
    asking = _opened(visitor, flow)
    asking.evaluate("message => void setTimeout(() => { tell(message); window.close(); })", SUCCESS)
    assert results(page) == [APPROVED]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("message", "reason"), [(FAILED, "failed"), (CLOSED, "closed")])
def test_what_the_page_says_ends_the_call(
    visit: Visit, shop: Shop, flow: str, message: str, reason: str
) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow})
    _tell(_opened(visitor, flow), message)
    assert results(page) == [_refusal(reason)]
    assert len(visitor.context.pages) == 1
    assert page.locator("iframe").count() == 0


@pytest.mark.parametrize("flow", ["popup", "tab"])
def test_a_window_that_the_browser_blocks_since_nobody_clicked_settles_the_call(
    visit: Visit, shop: Shop, page_site: Site, flow: str
) -> None:
    visitor = visit()
    page = visitor.page
    with page.expect_console_message(lambda message: message.text == "settled"):
        page.goto(_address(shop, options={"flow": flow}, unasked=True))
    assert results(page) == [_refusal("blocked")]
    assert page_site.to("/approve-api-action/") == []


@pytest.mark.parametrize("flow", FLOWS)
def test_a_shop_can_call_it_off(visit: Visit, shop: Shop, flow: str) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow})
    _opened(visitor, flow)
    page.evaluate("controller.abort()")
    assert results(page) == [_refusal("aborted", "AbortError")]
    page.wait_for_function("() => !document.querySelector('iframe')")
    assert len(visitor.context.pages) == 1


def test_the_signal_of_the_call_itself_calls_it_off(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    page.evaluate("""() => {
      window.own = new AbortController();
      keep(call({ init: { signal: own.signal } }));
    }""")
    _frame(page)
    page.evaluate("own.abort()")
    assert results(page) == [_refusal("aborted", "AbortError")]
    assert page.get_by_role("dialog").count() == 0


def test_who_waits_for_his_turn_can_be_called_off_too(visit: Visit, shop: Shop, page_site: Site) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    frame = _in_a_dialog(visitor)
    page.evaluate(
        """ott => {
      window.later = new AbortController();
      keep(approve(ott, { signal: later.signal }));
    }""",
        OTT,
    )
    page.evaluate("later.abort()")
    assert results(page) == [_refusal("aborted", "AbortError")]
    assert page.get_by_role("dialog").count() == 1
    page.evaluate("ott => void keep(approve(ott, { signal: AbortSignal.abort() }))", OTT)
    assert results(page, 2)[1] == _refusal("aborted", "AbortError")
    _tell(frame, SUCCESS)
    assert results(page, 3)[2] == APPROVED
    assert len(page_site.to("/approve-api-action/")) == 1


# --- whom it hears ----------------------------------------------------------------------------


@pytest.mark.attack(121)
@pytest.mark.parametrize("flow", FLOWS)
def test_only_that_very_window_on_that_very_origin_is_heard(
    visit: Visit, shop: Shop, page_site: Site, flow: str
) -> None:
    visitor = visit()
    page = _enter(visitor, shop, options={"flow": flow})
    asking = _opened(visitor, flow)
    # The shop's own window; a frame of the right origin that is not the one; frames of other origins.
    page.evaluate("message => postMessage(message, '*')", SUCCESS)
    for place in (f"{page_site.origin()}/other", f"{page_site.origin('evil.test')}/other", "about:blank"):
        page.evaluate(
            """src => new Promise((done) => {
              const frame = Object.assign(document.createElement("iframe"), { src, onload: done });
              document.querySelector("main").append(frame);
            })""",
            place,
        )
        page.frames[-1].evaluate("message => parent.postMessage(message, '*')", SUCCESS)
    # The right window says what is no outcome.
    for shape in ({"type": SUCCESS}, [SUCCESS], None, 1, SUCCESS.upper(), f"{SUCCESS} ", "success", ""):
        asking.evaluate("message => tell(message)", shape)
    # The right window while it shows somebody else's page.
    _lead(asking, f"{page_site.origin('evil.test')}/other")
    asking.evaluate("message => tell(message)", SUCCESS)
    page.evaluate(
        "() => new Promise((done) => { addEventListener('message', done); postMessage('last', '*'); })"
    )
    assert page.evaluate("results") == []
    _lead(asking, f"{page_site.origin()}/other")
    _tell(asking, FAILED)
    assert results(page) == [_refusal("failed")]
    assert len(page_site.to("/pay")) == 1


@pytest.mark.attack(121)
def test_messages_without_number_change_nothing(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    frame = _in_a_dialog(visitor)
    frame.evaluate(
        "for (let number = 0; number < 20000; number++) tell(`[iFrameSizer]other:${number}:1:size`)"
    )
    _tell(frame, SUCCESS)
    assert results(page) == [APPROVED]


# --- how it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_dialog_is_for_everybody(visit: Visit, shop: Shop, theme: Theme, size: Any) -> None:
    visitor = visit(theme=theme, size=size)
    page = _enter(visitor, shop)
    frame = _in_a_dialog(visitor)
    dialog = page.get_by_role("dialog", name="Approval")
    expect(dialog).to_be_visible()
    assert page.get_by_title("Approval").get_attribute("name") == frame.name
    # Who uses a keyboard or a screen reader is inside the page at once.
    page.wait_for_function("() => document.activeElement.localName === 'iframe'")
    assert axe(page) == []
    assert sideways(page) == 0
    box = page.locator("iframe").bounding_box()
    assert box is not None
    assert box["width"] == 320 if size is PHONE else 400 < box["width"] < 500
    visitor.shot("dialog")


def test_the_focus_goes_back_to_where_it_was(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    page.get_by_role("button", name="Pay").focus()
    page.keyboard.press("Enter")
    frame = _frame(page)
    _tell(frame, SUCCESS)
    results(page)
    expect(page.get_by_role("button", name="Pay")).to_be_focused()


def test_what_lies_behind_cannot_be_reached(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    _in_a_dialog(visitor)
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") != "pay"


def test_a_click_that_strays_does_not_close_the_dialog(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    frame = _in_a_dialog(visitor)
    page.mouse.click(10, 10)
    expect(page.get_by_role("dialog")).to_be_visible()
    _tell(frame, SUCCESS)
    assert results(page) == [APPROVED]


def test_text_that_is_marked_beyond_the_edge_does_not_close_the_dialog(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    _in_a_dialog(visitor)
    box = page.get_by_role("heading", name="Approval").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(10, 10)
    page.mouse.up()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_page_tells_how_high_it_is(visit: Visit, shop: Shop, page_site: Site) -> None:
    visitor = visit()
    page = _enter(visitor, shop)
    frame = _in_a_dialog(visitor)
    frame.wait_for_function("() => heard.length > 0")
    origin, message = frame.evaluate("heard[0]")
    assert origin == shop.origin()
    assert message.startswith(f"[iFrameSizer]{frame.name}:")
    iframe = page.locator("iframe")
    frame.evaluate("name => tell(`[iFrameSizer]${name}:333:400:size`)", frame.name)
    expect(iframe).to_have_css("height", "333px")
    for odd in ("-1", "abc", "", "1e99", "0x99"):
        frame.evaluate("([name, odd]) => tell(`[iFrameSizer]${name}:${odd}:400:size`)", [frame.name, odd])
    frame.evaluate("name => tell(`[iFrameSizer]${name}:99999999:400:size`)", frame.name)
    page.wait_for_function(
        "() => parseFloat(getComputedStyle(document.querySelector('iframe')).height) > 500"
    )
    dialog = page.get_by_role("dialog").bounding_box()
    assert dialog is not None
    assert dialog["height"] <= DESKTOP["height"]


@pytest.mark.parametrize(
    ("locale", "options", "title", "close", "direction"),
    [
        ("de-AT", {}, "Freigabe", "Schließen", "ltr"),
        ("ja", {}, "Approval", "Close", "ltr"),
        ("en", {"lang": "ar"}, "الموافقة", "إغلاق", "rtl"),
        ("en", {"title": "Pay 7 €", "closeLabel": "Go back"}, "Pay 7 €", "Go back", "ltr"),
    ],
)
def test_the_dialog_speaks_the_language_of_the_page(
    visit: Visit, shop: Shop, locale: str, options: dict[str, str], title: str, close: str, direction: str
) -> None:
    visitor = visit(locale=locale)
    page = _enter(visitor, shop, options=options)
    _in_a_dialog(visitor)
    dialog = page.get_by_role("dialog", name=title)
    expect(dialog).to_have_css("direction", direction)
    expect(dialog.get_by_role("button", name=close)).to_be_visible()


def test_the_style_of_the_shop_does_not_reach_the_dialog(visit: Visit, shop: Shop) -> None:
    visitor = visit()
    plain = _enter(visitor, shop)
    _in_a_dialog(visitor)
    boxes = [plain.get_by_role("dialog").bounding_box(), plain.locator("iframe").bounding_box()]
    other = visit()
    shop.style = (OPENERS / "hostile.css").read_text(encoding="utf-8")
    page = _enter(other, shop)
    page.evaluate("void keep(call())")
    _frame(page)
    other.shot("hostile")
    assert [page.get_by_role("dialog").bounding_box(), page.locator("iframe").bounding_box()] == boxes
