"""
What the page's forms do: one opens a page, the others choose, send, answer, go back or cancel.

Whatever comes, the answer is a whole screen. A form that cannot be judged changes nothing.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from watchword.asgi import OTT_PATTERN
from watchword.delivery.base import DeliveryError
from watchword.domain.action import Risk
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import Method
from watchword.domain.token import OneTimeToken, Pending
from watchword.engine.engine import Engine, Write, Wrong
from watchword.engine.page import Pages, Sight
from watchword.page import messages, screens
from watchword.page.language import Language
from watchword.page.openers import Opener, host_of, named_host
from watchword.page.screens import Screens, code_on_its_way, offered
from watchword.page.settings import PageSettings
from watchword.page.ticket import Ticket, digest_of, seal, unseal
from watchword.page.view import Screen, View

FLOWS = ("iframe", "popup", "tab")
WINDOW = "window"
_NO_PAGE = frozenset({Reason.ALREADY_SPENT, Reason.REVOKED, Reason.UNKNOWN})
ANSWER_MAX = 128
"""Characters of an answer; a code has six, a PIN twelve at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """
    What the request says of the browser that sends it.

    Attributes:
        origin: The origin that it names; None where it names none, ``?`` for what is no origin.
        same_origin: Nothing that the browser says speaks against the form's being the page's own.
        loopback: The host that it was asked as, where that is this machine; empty otherwise.
        framed: The browser says that the page stands in a frame.
    """

    origin: str | None
    same_origin: bool
    loopback: str
    framed: bool
    cookies: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    A screen and what goes with it.

    Attributes:
        cookie: The name and value of a cookie to set.
    """

    view: View
    status: int = 200
    language: Language
    flow: str = ""
    cookie: tuple[str, str] | None = None


class Flow:
    """The forms, over one engine."""

    def __init__(self, engine: Engine, settings: PageSettings) -> None:
        """Take the engine, and what the operator decides."""
        self._engine = engine
        self._pages = Pages(engine)
        self._settings = settings
        self._keyring = engine.methods.keyring

    # --- opening ------------------------------------------------------------------------------

    async def open(self, form: Mapping[str, str], browser: Browser, language: Language) -> Shown:
        """Open the page of the token that a form names."""
        ott = form.get("ott", "")
        flow = form["flow"] if form.get("flow") in FLOWS else ""
        if not OTT_PATTERN.fullmatch(ott.encode("utf-8", "replace")):
            return self._over(Reason.UNKNOWN, browser, language, flow)
        opened = await self._pages.open(ott)
        if isinstance(opened, Refusal):
            return self._over(opened.reason, browser, language, flow)
        handle, sight = opened
        cookie = self._engine.entropy.uuid()
        ticket = Ticket(
            token_id=sight.token.id,
            handle=handle,
            version=sight.token.version,
            opened_at=sight.now,
            shown_at=sight.now,
            method=None,
            application=sight.token.application,
            opener=browser.origin,
            hostname=named_host(form.get("parentHostname", "")),
            host=self._settings.host or browser.loopback,
            flow=flow,
            framed=browser.framed,
            asks_to_be_seen=False,
            language=language.tag,
            cookie=digest_of(cookie),
            proven=False,
        )
        shown = self._show(ticket, sight, language, Screens.next)
        return replace(shown, cookie=(cookie_name(ticket), cookie))

    def _over(self, reason: Reason, browser: Browser, language: Language, flow: str) -> Shown:
        view = replace(screens.over(language, reason), openers=self.openers({}, browser))
        return Shown(view=view, status=404, language=language, flow=flow)

    def openers(self, form: Mapping[str, str], browser: Browser) -> tuple[str, ...]:
        """
        Return who may frame, and is told of, a page whose token was not looked at.

        Where no form of ours says who opened it, it is an origin that the browser names and some
        application lists. The list itself is nobody's to read.
        """
        ticket = unseal(form.get("page", ""), self._keyring)
        if ticket is not None:
            return self._opener(ticket).told
        listed = self._settings.all_openers if browser.origin is not None else ()
        return Opener.of(listed, origin=browser.origin, hostname="").told

    # --- going on -----------------------------------------------------------------------------

    async def go_on(self, form: Mapping[str, str], browser: Browser, language: Language) -> Shown:
        """Do what a form of the page asks."""
        now = self._engine.clock.now()
        ticket = unseal(form.get("page", ""), self._keyring)
        if ticket is None or not browser.same_origin:
            view = replace(screens.malformed(language), openers=self.openers(form, browser))
            return Shown(view=view, status=400, language=language)
        language = Language.by_tag(ticket.language)
        do = form.get("do", "")
        cookie = browser.cookies.get(cookie_name(ticket))
        if now >= ticket.good_until:
            return self._ended(Reason.EXPIRED, ticket, language)
        if do == WINDOW and ticket.asks_to_be_seen:
            # A window does not have the cookie that its frame keeps.
            return await self._in_a_window(ticket, browser, language)
        if not ticket.admits(cookie):
            return self._ended(Reason.OTHER_PAGE, ticket, language)
        sight = await self._pages.look(ticket.page)
        if isinstance(sight, Refusal):
            return self._ended(sight.reason, ticket, language)
        ticket = msgspec.structs.replace(ticket, proven=ticket.proven or cookie is not None, shown_at=now)
        if do == "cancel":
            return await self._cancel(ticket, sight, language)
        return await self._do(do, form, ticket, sight, language)

    async def _cancel(self, ticket: Ticket, sight: Sight, language: Language) -> Shown:
        """End the page, unless there is nothing left to cancel."""
        if not isinstance(sight.token.state, Pending):
            return self._show(ticket, sight, language, Screens.next)
        closed = await self._pages.close(ticket.page)
        if isinstance(closed, Refusal):
            return self._ended(closed.reason, ticket, language)
        shown = self._show(ticket, closed, language, Screens.cancelled)
        return replace(shown, cookie=(cookie_name(ticket), ""))

    async def _do(
        self, do: str, form: Mapping[str, str], ticket: Ticket, sight: Sight, language: Language
    ) -> Shown:
        if do in {"choose", "send", "answer"} and ticket.asks_to_be_seen:
            seen = form.get("seen") == "1" and self._settings.frame_high_risk
            if not seen:
                return self._show(ticket, sight, language, Screens.window)
        if do == "ways":
            return self._show(ticket, sight, language, Screens.ways)
        if do in {"choose", "send"}:
            return await self._picked(do, form.get("method", ""), ticket, sight, language)
        if do == "answer" and ticket.method is not None:
            answer = typed(form.get("answer", ""))
            if not answer:
                return self._show(ticket, sight, language, lambda now: now.empty(ticket.method), status=400)
            return await self._answer(ticket.method, answer, ticket, sight, language)
        return self._show(ticket, sight, language, lambda now: now.next(ticket.method))

    async def _picked(self, do: str, named: str, ticket: Ticket, sight: Sight, language: Language) -> Shown:
        """Go on with the way that was picked; send a code, unless one is on its way over it already."""
        method = ticket.method if do == "send" else _method(named, sight.token)
        if method is None:
            return self._show(ticket, sight, language, Screens.next, status=400)
        ticket = msgspec.structs.replace(ticket, method=method)
        if not method.is_code or (do == "choose" and code_on_its_way(sight, self._engine.limits) is method):
            return self._show(ticket, sight, language, lambda now: now.next(method))
        try:
            sent = await self._pages.trigger(
                ticket.page, sight, method, self._words(method, ticket, sight, language)
            )
        except DeliveryError:
            return await self._again(ticket, language, lambda now: now.undelivered(method), status=503)
        if isinstance(sent, Refusal):
            return await self._refused(sent, ticket, language)
        return await self._again(ticket, language, lambda now: now.next(method))

    async def _answer(
        self, method: Method, answer: str, ticket: Ticket, sight: Sight, language: Language
    ) -> Shown:
        outcome = await self._pages.verify(ticket.page, sight, method, answer)
        if isinstance(outcome, Wrong):
            left = outcome.attempts_left
            return await self._again(ticket, language, lambda now: now.wrong(method, left), status=400)
        if isinstance(outcome, Refusal):
            return await self._refused(outcome, ticket, language)
        return await self._again(msgspec.structs.replace(ticket, method=None), language, Screens.next)

    async def _refused(self, refusal: Refusal, ticket: Ticket, language: Language) -> Shown:
        status = 200 if refusal.reason is Reason.MOVED_ON else 429 if refusal.retry_after else 400
        return await self._again(
            ticket, language, lambda now: now.refused(refusal, ticket.method), status=status
        )

    async def _in_a_window(self, ticket: Ticket, browser: Browser, language: Language) -> Shown:
        """
        Go on in a window of its own: a page anew, so that the one in the frame is dead from now on.

        But for this: a window that was closed can be opened again from the frame.
        """
        opened = await self._pages.open_again(ticket.token_id)
        if isinstance(opened, Refusal):
            return self._ended(opened.reason, ticket, language)
        handle, sight = opened
        cookie = self._engine.entropy.uuid()
        ticket = msgspec.structs.replace(
            ticket,
            handle=handle,
            version=sight.token.version,
            method=None,
            flow=WINDOW,
            framed=browser.framed,
            cookie=digest_of(cookie),
            proven=False,
        )
        shown = self._show(ticket, sight, language, Screens.next)
        return replace(shown, cookie=(cookie_name(ticket), cookie))

    # --- showing ------------------------------------------------------------------------------

    async def _again(
        self, ticket: Ticket, language: Language, draw: Callable[[Screens], View], *, status: int = 200
    ) -> Shown:
        """Show a page's token as it is now."""
        sight = await self._pages.look(ticket.page)
        if isinstance(sight, Refusal):
            return self._ended(sight.reason, ticket, language)
        return self._show(ticket, sight, language, draw, status=status)

    def _show(
        self,
        ticket: Ticket,
        sight: Sight,
        language: Language,
        draw: Callable[[Screens], View],
        *,
        status: int = 200,
    ) -> Shown:
        token, opener = sight.token, self._opener(ticket)
        asks = ticket.framed and token.risk is Risk.HIGH
        ticket = msgspec.structs.replace(
            ticket, version=token.version, shown_at=sight.now, asks_to_be_seen=asks
        )
        view = draw(
            Screens(
                language=language,
                limits=self._engine.limits,
                sight=sight,
                page=seal(ticket, self._keyring),
                until=min(sight.good_until, ticket.good_until),
                title=self._settings.title(token.action, language.tag),
                asked_by=self._settings.asked_by(token.application),
                stranger=opener.stranger,
                told=opener.told,
                must_be_seen=asks,
                never_framed=asks and not self._settings.frame_high_risk,
            )
        )
        if view.method is not ticket.method and view.page:
            # What the next form answers is what this screen asks.
            view = replace(
                view, page=seal(msgspec.structs.replace(ticket, method=view.method), self._keyring)
            )
        return Shown(
            view=view,
            status=429 if view.screen is Screen.LOCKED else status,
            language=language,
            flow=ticket.flow,
        )

    def _ended(self, reason: Reason, ticket: Ticket, language: Language) -> Shown:
        view = replace(screens.over(language, reason), openers=self._opener(ticket).told)
        # Where the token is over no page of it needs its cookie; of two pages the newer one does.
        gone = (cookie_name(ticket), "") if reason in _NO_PAGE else None
        return Shown(view=view, status=404, language=language, flow=ticket.flow, cookie=gone)

    def _opener(self, ticket: Ticket) -> Opener:
        listed = self._settings.openers_of(ticket.application)
        return Opener.of(listed, origin=ticket.opener, hostname=ticket.hostname)

    def _words(self, method: Method, ticket: Ticket, sight: Sight, language: Language) -> Write:
        opener = self._opener(ticket)
        framed = ticket.flow == "iframe" and len(opener.told) == 1
        top = host_of(opener.told[0]) if framed else ""
        return messages.writer(
            method,
            title=self._settings.title(sight.token.action, language.tag),
            details=sight.details,
            hosts=tuple(filter(None, (top, ticket.host))) if ticket.host else (),
            language=language,
        )


def _method(named: str, token: OneTimeToken) -> Method | None:
    """Return the way that a form names, if it is open."""
    return next((method for method in offered(token) if method.value == named), None)


def typed(answer: str) -> str:
    """
    Return an answer as it was meant.

    People paste ``123 456`` with a space that no message has, and type the digits of their keyboard:
    both are the code (ASVS 6.2.7 asks that pasting works). Only digits of other scripts, spaces and
    dashes are read so; anything else stays, and is wrong.
    """
    if len(answer) > ANSWER_MAX:
        return answer[:ANSWER_MAX]
    folded = "".join(
        str(unicodedata.decimal(character)) if unicodedata.decimal(character, None) is not None else character
        for character in answer
    )
    return "".join(
        character
        for character in folded
        if not character.isspace() and unicodedata.category(character) not in {"Pd", "Cf"}
    )


def cookie_name(ticket: Ticket) -> str:
    """Name the cookie of one token's page; each token has its own, so that two pages do not meet."""
    return f"watchword-{ticket.token_id[:6].hex()}"
