"""Shops that open the approval page, the sandbox behind it, and a person who acts on it."""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, quote

import httpx2
from playwright.sync_api import Error, Frame, Page, expect

from tests.page.browser import Visitor, axe, sideways
from tests.page.installed import MODULES
from tests.page.sites import HTML, JAVASCRIPT, NOTHING, Answer, Call, Site
from tests.system.processes import Running

OPENERS = Path(__file__).parent / "openers"
HELPER = MODULES / "@transferwise/approve-api-action-helpers/dist/main.js"
PAGE = "/approve-api-action/"
ADA, ADA_ID = "demo-ada", 6146956
GRACE, GRACE_ID = "demo-grace", 6146957
PIN, CODE = "1234", "111111"
SMS, WHATSAPP, VOICE = "Text message (SMS)", "WhatsApp message", "Phone call"
PAYMENT = "/v3/profiles/435036/transfers/16521632/payments"
STATEMENT = "/v1/profiles/435036/balance-statements/200001/statement.json"
GRACES_STATEMENT = STATEMENT.replace("435036", "435037")


class Shop:
    """
    A shop on an origin of its own, whose pages call a backend that is elsewhere.

    Its Content-Security-Policy is as tight as the module's documentation says that it may be.
    """

    def __init__(self, backend: str) -> None:
        """Open the shop; *backend* is the origin of API and approval page."""
        self.backend = backend
        self.style = _file("shop.css")
        self.site = Site(self._answer)

    def origin(self, host: str = "127.0.0.1") -> str:
        """Return the origin under one of its names."""
        return self.site.origin(host)

    def address(self, path: str, plan: object, *, host: str = "127.0.0.1") -> str:
        """Return where a page is that does what *plan* says."""
        return f"{self.origin(host)}{path}?plan={quote(json.dumps(plan))}"

    def __enter__(self) -> Self:
        self.site.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self.site.__exit__(*about)

    def _answer(self, call: Call) -> Answer:
        match call.path:
            case "/":
                return self._page(_file("shop.html"))
            case "/raw":
                # What somebody does who hides a frame.
                return self._page(_file("shop.html").replace("/shop.js", "/raw.js"))
            case "/helper":
                page = _file("shop.html").replace("/shop.js", "/helper.js")
                script = '<script src="/main.js"></script>'
                # It brings a style sheet of its own into the page.
                return self._page(page.replace("</main>", f"</main>{script}"), style="'self' 'unsafe-inline'")
            case "/form":
                (plan,) = parse_qs(call.query)["plan"]
                return self._page(_form(f"{self.backend}{PAGE}", **json.loads(plan)))
            case "/shop.css":
                return Answer(self.style, "text/css; charset=utf-8")
            case "/main.js":
                return Answer(HELPER.read_text(encoding="utf-8"), JAVASCRIPT)
            case "/shop.js" | "/raw.js" | "/helper.js":
                return Answer(_file(call.path[1:]), JAVASCRIPT)
            case _:
                return NOTHING

    def _page(self, html: str, *, style: str = "'self'") -> Answer:
        policy = (
            "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; img-src data:; "
            f"style-src {style}; script-src 'self' {self.backend}; connect-src {self.backend}; "
            f"form-action {self.backend}; frame-src *"
        )
        return Answer(html, HTML, headers={"content-security-policy": policy, "cache-control": "no-store"})


def _form(page: str, *, ott: str, lang: str = "", flow: str = "tab") -> str:
    fields = {"ott": ott, "libVersion": "1", "parentHostname": "127.0.0.1", "flow": flow}
    inputs = "".join(
        f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in fields.items()
    )
    action = f"{page}?lang={lang}" if lang else page
    form = f'<form method="post" action="{action}">{inputs}<button>Go on</button></form>'
    return f'<!DOCTYPE html><html lang="en"><title>A shop</title><link rel="icon" href="data:,">{form}'


class Bank:
    """A real sandbox, and what a test does to it from outside."""

    def __init__(self, running: Running) -> None:
        """Talk to one that runs."""
        self.origin = running.origin
        self.running = running
        self._http = httpx2.Client(base_url=running.origin, trust_env=False, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def reset(self) -> None:
        """Go back to the start."""
        self._json("POST", "/sandbox/reset")

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._json("POST", "/sandbox/clock", {"advanceSeconds": seconds})

    def runs(self, ott: str | None = None) -> dict[str, int]:
        """Return what really ran: in all, or for one token."""
        counts: dict[str, int] = self._json("GET", f"/sandbox/executions{f'?ott={ott}' if ott else ''}")
        return {action: count for action, count in counts.items() if count}

    def sent(self, user_id: int = ADA_ID) -> list[dict[str, Any]]:
        """Return the messages that a user got."""
        messages: list[dict[str, Any]] = self._json("GET", f"/sandbox/outbox?userId={user_id}")
        return messages

    def look(self, ott: str) -> dict[str, Any]:
        """Return what a token has come to."""
        token: dict[str, Any] = self._json("GET", f"/sandbox/tokens/{ott}")
        return token

    def make(self, **user: Any) -> dict[str, Any]:
        """Make a user."""
        made: dict[str, Any] = self._json("POST", "/sandbox/users", user)
        return made

    def ott(self, path: str = PAYMENT, *, token: str = ADA, body: object = None) -> str:
        """Make a protected call that is refused; return its one-time token."""
        answer = self.call(path, token=token, body=body)
        assert answer.status_code == 403, answer.text
        ott: str = answer.headers["x-2fa-approval"]
        return ott

    def call(
        self, path: str = PAYMENT, *, token: str = ADA, ott: str | None = None, body: object = None
    ) -> httpx2.Response:
        """Make a protected call, as the application does from its own server."""
        headers = {"authorization": f"Bearer {token}"} | ({} if ott is None else {"x-2fa-approval": ott})
        if path.endswith("/payments"):
            return self._http.post(path, headers=headers, json=body or {"type": "BALANCE"})
        return self._http.get(path, headers=headers)

    def plan(self, **options: Any) -> dict[str, Any]:
        """Return what a shop does to pay for Ada's transfer."""
        headers = {"authorization": f"Bearer {ADA}", "content-type": "application/json"}
        return {
            "module": f"{self.origin}/watchword.js",
            "page": f"{self.origin}{PAGE}",
            "url": f"{self.origin}{PAYMENT}",
            "init": {"method": "POST", "headers": headers, "body": '{"type":"BALANCE"}'},
            "options": options,
        }

    def _json(self, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()


class Approval:
    """The approval page, in whatever window or frame it stands, and a person who acts on it."""

    def __init__(self, visitor: Visitor, place: Page | Frame) -> None:
        """Look at it."""
        self.visitor = visitor
        self.place = place

    def at(self, screen: str) -> Self:
        """Wait for a screen."""
        self.place.wait_for_selector(f'#main[data-screen="{screen}"]')
        return self

    def ready(self) -> Self:
        """Wait until the page takes clicks: with a script it ignores those right after it came into sight."""
        if self.visitor.javascript:
            self.place.wait_for_selector("html[data-ready]", state="attached")
        return self

    def press(self, name: str) -> Self:
        """Click a button."""
        self.ready()
        return self.act(self.place.get_by_role("button", name=name).click)

    def act(self, act: Callable[[], None]) -> Self:
        """Do something, after which the page may be gone sooner than the browser can say that it was done."""
        try:
            act()
        except Error:
            gone = self.place.is_closed() if isinstance(self.place, Page) else self.place.is_detached()
            if not gone:
                raise
        return self

    def type(self, answer: str) -> Self:
        """Type a code or a PIN, and confirm it."""
        self.place.locator("#answer").fill(answer)
        return self.press("Confirm")

    def refused(self) -> Self:
        """Wait until an answer was found wrong."""
        self.place.wait_for_selector("#main:not([aria-busy]) [role=alert]")
        return self

    def text(self) -> str:
        """Return all that can be read."""
        return self.place.locator("main").inner_text()

    def check(self, name: str) -> Self:
        """Hold a screen to what holds for all of them, and keep a picture of it."""
        self.ready()
        page = self.place if isinstance(self.place, Page) else self.place.page
        self.visitor.shot(name, page)
        assert axe(self.place) == [], name
        assert sideways(self.place) == 0, name
        return self

    def pay(self) -> None:
        """Pass both factors of a payment."""
        self.at("pin").type(PIN)
        self.at("choose").press(SMS)
        self.at("code").type(CODE)


def go(visitor: Visitor, url: str) -> Page:
    """Go to a page of the shop, and wait until it is ready."""
    visitor.page.goto(url)
    visitor.page.wait_for_selector("[data-ready]", state="attached")
    return visitor.page


def enter(
    visitor: Visitor,
    shop: Shop,
    bank: Bank,
    *,
    opener: str = "module",
    host: str = "127.0.0.1",
    **options: object,
) -> Page:
    """Enter a shop that opens the page through the module or through the helper."""
    path = {"module": "/", "helper": "/helper"}[opener]
    return go(visitor, shop.address(path, bank.plan(**options), host=host))


def alone(visitor: Visitor, shop: Shop, ott: str, **fields: str) -> Approval:
    """Open the page alone in the window, as from a link: nobody is told how it ends."""
    visitor.page.goto(shop.address("/form", {"ott": ott, **fields}))
    visitor.page.get_by_role("button", name="Go on").click()
    return Approval(visitor, visitor.page)


def opened(visitor: Visitor, flow: str) -> Approval:
    """Press the shop's button, and return the page that opens."""
    pay = visitor.page.get_by_role("button", name="Pay")
    if flow in {"popup", "tab"}:
        return Approval(visitor, visitor.opens(pay.click))
    pay.click()
    return framed(visitor)


def framed(visitor: Visitor) -> Approval:
    """Return the approval page that stands in a frame."""
    page = visitor.page
    expect(page.locator("iframe")).to_be_visible()
    page.frame_locator("iframe").locator("#main").wait_for()
    return Approval(visitor, page.frames[-1])


def results(page: Page, count: int = 1) -> Any:
    """Wait until the shop's calls have ended; return how."""
    page.wait_for_function("count => results.length >= count", arg=count, polling=50)
    return page.evaluate("results")


def _file(name: str) -> str:
    return (OPENERS / name).read_text(encoding="utf-8")
