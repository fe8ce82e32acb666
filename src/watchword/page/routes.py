"""
The page over HTTP: its two methods, its headers, its files, and the module for openers.

What the headers say (attack 116): nothing but our own script and style runs, nothing is loaded from or
sent to elsewhere, nobody frames the page but those listed, no address and no form is kept or told to
anybody. There is no ``X-Frame-Options``, which knows no list, and no ``Cross-Origin-Opener-Policy``,
which would cut a window off from the page that waits for it.
"""

import logging
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from watchword import problems
from watchword.engine.engine import Engine
from watchword.page import module, screens
from watchword.page.assets import PATH as FILES, Assets
from watchword.page.flow import Browser, Flow, Shown
from watchword.page.forms import BadFormError, cookies, read_form
from watchword.page.language import negotiate
from watchword.page.openers import named_origin
from watchword.page.render import Renderer, plain_trouble
from watchword.page.settings import PageSettings
from watchword.page.ticket import TOTAL_SECONDS
from watchword.server.body import BadRequestError
from watchword.server.endpoint import not_found

PATH = "/approve-api-action/"
_FRAMES = frozenset({"iframe", "frame", "embed", "object", "fencedframe"})
_HSTS = "max-age=31536000"
_FOREVER = "public, max-age=31536000, immutable"

_PLAIN = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
# An image that is opened by itself runs nothing either.
_INERT = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
_NO_PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "autoplay",
        "camera",
        "clipboard-read",
        "display-capture",
        "encrypted-media",
        "fullscreen",
        "geolocation",
        "gyroscope",
        "hid",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "serial",
        "usb",
        "xr-spatial-tracking",
    )
)

_log = logging.getLogger("watchword.page")


class ApprovalPage:
    """The page, over one engine."""

    def __init__(self, engine: Engine, settings: PageSettings) -> None:
        """Read templates and files."""
        self._engine = engine
        self._settings = settings
        self._assets = Assets(settings.brand.files)
        self._renderer = Renderer(settings.brand, settings.templates, self._assets)
        self._flow = Flow(engine, settings)

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route(PATH, self.page, methods=["GET", "POST"]),
            # Whoever leaves the slash out means the same; a redirect would lose the form.
            Route(PATH.rstrip("/"), self.page, methods=["GET", "POST"]),
            Route(f"{FILES}{{name}}", self.file, methods=["GET"]),
            *module.routes(),
        ]

    async def page(self, request: Request) -> Response:
        """Answer a form with the next screen; a request without one with a harmless page."""
        language = negotiate(request.query_params.get("lang"), request.headers.get("accept-language"))
        if request.method != "POST":
            return self._answer(Shown(view=screens.bare(language), language=language))
        form: dict[str, str] = {}
        browser = _browser(request, self._settings)
        try:
            form = await read_form(request)
            step = self._flow.go_on if "page" in form else self._flow.open
            return self._answer(await step(form, browser, language))
        except BadFormError as error:
            view, status = screens.malformed(language), error.status
        except BadRequestError as error:
            view, status = screens.malformed(language), error.problem.status
        except problems.TROUBLES as error:
            _log.warning("the page: nothing was decided: %s", problems.cause(error))
            view, status = screens.trouble(language, page=form.get("page", "")), 503
        view = replace(view, openers=self._flow.openers(form, browser))
        return self._answer(Shown(view=view, status=status, language=language))

    async def file(self, request: Request) -> Response:
        """Serve one of the page's files; its name changes with it, so it is kept for ever."""
        found = self._assets.get(request.path_params["name"])
        if found is None:
            answer = not_found()
            return Response(
                answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers}
            )
        headers = _PLAIN | {"cache-control": _FOREVER, "content-security-policy": _INERT}
        return Response(found.body, 200, headers, media_type=found.content_type)

    def _draw(self, shown: Shown, nonce: str) -> str | None:
        """Draw a screen; None where the operator's templates fail at what they never met before."""
        try:
            return self._renderer.render(shown.view, language=shown.language, nonce=nonce, flow=shown.flow)
        except Exception as error:  # noqa: BLE001 - a template may raise anything; its message may hold a secret.
            _log.error("the page: %s.html failed: %s", shown.view.screen, type(error).__name__)
            return None

    def _draw_plainly(self, shown: Shown, nonce: str) -> str:
        """Draw that something is not working; how it ended is told all the same."""
        view = replace(
            screens.trouble(shown.language), outcome=shown.view.outcome, openers=shown.view.openers
        )
        return plain_trouble(view, language=shown.language, nonce=nonce, flow=shown.flow, assets=self._assets)

    def _answer(self, shown: Shown) -> Response:
        nonce = self._engine.entropy.uuid()
        body, status = self._draw(shown, nonce), shown.status
        if body is None:
            body, status = self._draw_plainly(shown, nonce), 500
        headers = _PLAIN | {
            "cache-control": "no-store",
            "content-language": shown.language.tag,
            "content-security-policy": _policy(nonce, shown.view.openers),
            "permissions-policy": _NO_PERMISSIONS,
            "cross-origin-resource-policy": "same-origin",
            "vary": "accept-language, cookie",
        }
        if self._settings.secure:
            headers["strict-transport-security"] = _HSTS
        if status in {429, 503}:
            headers["retry-after"] = str(max(1, shown.view.ends_in_seconds if status == 429 else 1))  # noqa: PLR2004
        response = Response(body, status, headers, media_type="text/html")
        if shown.cookie is not None:
            name, value = shown.cookie
            response.headers.append("set-cookie", _cookie(name, value, secure=self._settings.secure))
        return response


def _browser(request: Request, settings: PageSettings) -> Browser:
    headers = request.headers
    origin = named_origin(headers.get("origin"))
    return Browser(
        origin=origin,
        same_origin=_same_origin(headers.get("sec-fetch-site"), origin, headers.get("host", ""), settings),
        loopback=_loopback(headers.get("host", "")),
        framed=headers.get("sec-fetch-dest") in _FRAMES,
        cookies={
            name.removeprefix("__Host-"): value
            for name, value in cookies(request.scope["headers"]).items()
            if name.startswith("__Host-") == settings.secure
        },
    )


def _same_origin(site: str | None, origin: str | None, host: str, settings: PageSettings) -> bool:
    """
    Tell whether a form can be the page's own; what the browser leaves out speaks neither way.

    The page's own forms come with ``Origin: null``, since it tells its address to nobody.
    """
    if site is not None and site != "same-origin":
        return False
    return origin is None or origin == settings.origin or origin.partition("://")[2] == host


def _loopback(host: str) -> str:
    """Return a host that is this machine, whatever its port; no other is taken from a request."""
    name = host.partition(":")[0].lower()
    return name if name in {"localhost", "127.0.0.1"} else ""


def _policy(nonce: str, ancestors: tuple[str, ...]) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            f"style-src 'nonce-{nonce}'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "object-src 'none'",
            "frame-ancestors " + (" ".join(ancestors) or "'none'"),
        )
    )


def _cookie(name: str, value: str, *, secure: bool) -> str:
    """Write a cookie, or take it back where it has no value."""
    seconds = TOTAL_SECONDS if value else 0
    if not secure:
        # This machine alone, over plain HTTP, where no browser takes the rest.
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
    # In a frame of another site, kept for that site alone (CHIPS).
    name, marks = f"__Host-{name}", "HttpOnly; Secure; SameSite=None; Partitioned"
    return f"{name}={value}; Path=/; Max-Age={seconds}; {marks}"
