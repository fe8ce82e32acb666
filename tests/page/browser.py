"""
A real browser, for the tests of the approval page: Debian's Chromium, driven by Playwright.

A `Visitor` is one person at one fresh browser. Whatever goes wrong unseen on a page, an error that
nothing caught or a breach of a Content-Security-Policy, is kept, and fails the test at its end.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Frame,
    Page,
    Playwright,
    Response,
    ViewportSize,
    WebError,
    sync_playwright,
)

from tests.page.installed import MODULES

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
TIMEOUT_MS = 20_000
"""How long the browser waits for what should come; the machine may be busy with other tests."""

Theme = Literal["light", "dark"]
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 320, "height": 640}
"""As narrow as WCAG 2.2 asks (1.4.10): 1280 pixels at 400 %."""

_FLAGS = (
    "--no-sandbox",  # Chromium has none when root runs it, as in a container; only our own pages are opened.
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Other origins without any name server, and nothing beyond them.
    "--host-resolver-rules=MAP *.test 127.0.0.1, EXCLUDE localhost, EXCLUDE 127.0.0.1, MAP * ~NOTFOUND",
)
_INSTALL_SECONDS = 110
_VIOLATION = "[securitypolicyviolation]"
_WATCH = f"""
document.addEventListener("securitypolicyviolation", (event) => {{
  console.error("{_VIOLATION}", event.documentURI, event.effectiveDirective, event.blockedURI, event.sample);
}});
"""
_CSP = re.compile(rf"{re.escape(_VIOLATION)}|Content[ -]Security[ -]Policy|Trusted ?Type", re.IGNORECASE)
_AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "iframes": False,
    "resultTypes": ["violations"],
}


@contextmanager
def browser() -> Iterator[Browser]:
    """Run the browser. While it runs, this thread can run no other event loop."""
    found = subprocess.run(
        ["bash", ROOT / "scripts/chromium"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_INSTALL_SECONDS,
    )
    with sync_playwright() as playwright:
        launched = _launch(playwright, found.stdout.strip())
        try:
            yield launched
        finally:
            launched.close()


def _launch(playwright: Playwright, path: str) -> Browser:
    # Pop-ups are blocked as they are for everybody: only what follows a click opens a window.
    return playwright.chromium.launch(
        executable_path=path, args=[*_FLAGS], ignore_default_args=["--disable-popup-blocking"]
    )


class Visitor:
    """One person at one browser, with nothing from before."""

    def __init__(
        self,
        launched: Browser,
        test: str,
        *,
        theme: Theme = "light",
        size: ViewportSize = DESKTOP,
        javascript: bool = True,
        locale: str = "en",
        **options: Any,
    ) -> None:
        """
        Sit down.

        Args:
            test: Names the folder of the screenshots.
            javascript: Whether pages may run scripts.
            options: What else ``Browser.new_context`` takes.
        """
        self.context: BrowserContext = launched.new_context(
            color_scheme=theme, viewport=size, java_script_enabled=javascript, locale=locale, **options
        )
        self.context.set_default_timeout(TIMEOUT_MS)
        self.context.add_init_script(_WATCH)
        self.javascript = javascript
        self.faults: list[str] = []
        self.console: list[str] = []
        self.urls: list[str] = []
        self.otts: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self._label = f"{theme}-{size['width']}"
        self._folder = SCREENSHOTS / re.sub(r"[^\w.-]+", "-", test).strip("-")
        self.context.on("console", self._on_console)
        self.context.on("weberror", self._on_error)
        self.context.on("request", lambda request: self.urls.append(request.url))
        self.context.on("response", self._on_response)
        self.page: Page = self.context.new_page()

    def expect(self, pattern: str) -> None:
        """Let a fault pass that is the point of the test."""
        self._expected.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        """Return the faults that nobody expected."""
        return [fault for fault in self.faults if not any(known.search(fault) for known in self._expected)]

    def leave(self) -> None:
        """Close all windows."""
        self.context.close()

    def shot(self, screen: str, page: Page | None = None) -> None:
        """Keep a picture, to be looked at by a person: ``<test>/<screen>-<theme>-<width>.png``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{screen}-{self._label}.png"
        # To hide the caret it would put a style into the page, which has to let nobody do that.
        (page or self.page).screenshot(path=self._folder / name, caret="initial")

    def opens(self, act: Callable[[], object]) -> Page:
        """Do what opens a window, and return that."""
        with self.context.expect_page() as opened:
            act()
        return opened.value

    def _on_response(self, response: Response) -> None:
        ott = response.headers.get("x-2fa-approval")
        if ott is not None and response.status == 403:
            self.otts.append(ott)

    def _on_console(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)
        if message.type in {"error", "warning"} and _CSP.search(message.text):
            self.faults.append(f"{message.type}: {message.text}")

    def _on_error(self, error: WebError) -> None:
        self.faults.append(f"uncaught: {error.error}")


def axe(frame: Frame | Page) -> list[str]:
    """Return what axe-core finds wrong with a document: each rule with the elements that break it."""
    source = (MODULES / "axe-core/axe.min.js").read_text(encoding="utf-8")
    frame.evaluate(f"{source}; undefined")
    found = frame.evaluate("options => axe.run(document, options)", _AXE)
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'] for node in rule['nodes']]}"
        for rule in found["violations"]
    ]


def sideways(frame: Frame | Page) -> int:
    """Return by how many pixels a document is wider than its window: WCAG 1.4.10 wants none."""
    width: int = frame.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
