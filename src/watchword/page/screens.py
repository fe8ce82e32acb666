"""
What each screen says, in the customer's language: from a token as its page may show it, to a view.

Every text says what to do next. None says more than the API does: of a wrong answer how many are left,
of a lock when it ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchword.domain.action import AUTHORISE_SESSION
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Reason, Refusal
from watchword.domain.details import CURRENCY_SHOWN_MAX, Details, cut, odd, shown
from watchword.domain.enrolment import CREDENTIAL_CHANGE
from watchword.domain.instant import Instant, after, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import OneTimeToken, Pending
from watchword.engine.engine import in_words
from watchword.engine.page import Sight
from watchword.page.language import Language, message
from watchword.page.view import Detail, Outcome, Progress, Screen, Step, View, Way

HERE = frozenset({Method.PIN, Method.SMS, Method.WHATSAPP, Method.VOICE})
"""What a page can carry out. A device's fingerprint, a face map and a signature are the application's."""

_LABELS = {
    Method.PIN: message("Your PIN"),
    Method.SMS: message("Text message (SMS)"),
    Method.WHATSAPP: message("WhatsApp message"),
    Method.VOICE: message("Phone call"),
}
_DETAILS = {
    "amount": message("Amount"),
    "payee": message("To"),
    "account": message("Account"),
    "reference": message("Reference"),
}
_TITLES = {
    AUTHORISE_SESSION.name: message("See your account"),
    CREDENTIAL_CHANGE.name: message("Change how you confirm that it is you"),
}
_STRONG = frozenset({"amount", "payee"})
_OVER: Mapping[Reason, tuple[str, str]] = {
    Reason.EXPIRED: (
        message("This request has expired"),
        message("Nothing was approved. Go back and start again; you will be asked once more."),
    ),
    Reason.ALREADY_SPENT: (
        message("This request was already used"),
        message("It lets one action through, and did. To do it again, go back and start again."),
    ),
    Reason.RESERVED: (
        message("This request was already used"),
        message("It lets one action through, and did. To do it again, go back and start again."),
    ),
    Reason.REVOKED: (
        message("This request is no longer valid"),
        message("What you were asked to approve has changed, or was cancelled. Go back and start again."),
    ),
    Reason.OTHER_PAGE: (
        message("This page was opened somewhere else"),
        message("For your safety only the newest one works. Go on there, or go back and start again."),
    ),
}
_UNKNOWN = (
    message("This request was not found"),
    message("It may be over already. Go back and start again; you will be asked once more."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Screens:
    """
    The screens of one token.

    Attributes:
        page: The page's own token, sealed.
        until: How long this screen can be used.
        title: What the operator calls the action, in this language; empty for the action's own name.
        asked_by: The application that asks.
        told: The origins that may be told.
        must_be_seen: Forms count only while the page is in view.
        never_framed: They do not count in a frame at all.
    """

    language: Language
    limits: Limits
    sight: Sight
    page: str
    until: Instant
    title: str = ""
    asked_by: str = ""
    stranger: str = ""
    told: tuple[str, ...] = ()
    must_be_seen: bool = False
    never_framed: bool = False

    def next(self, method: Method | None = None) -> View:
        """
        Show what is to be done next.

        Args:
            method: What the person picked before; shown as long as it can be answered. Without it a
                code that is on its way is asked for.
        """
        sight, token = self.sight, self.sight.token
        if sight.locked_until is not None:
            return self.locked(sight.locked_until)
        if not isinstance(token.state, Pending):
            return self.done()
        if self.never_framed:
            return self.window()
        if not offered(token):
            return self.unable()
        ways = self._ways_left()
        if not ways:
            return self.no_more()
        sent = token.state.code
        method = method or self._good_code()
        if method is Method.PIN and method in ways:
            return self._pin(ways)
        if method is not None and method in ways and sent is not None and sent.method is method:
            return self._code(method, ways)
        return self._pin(ways) if ways == (Method.PIN,) else self.choose()

    def choose(self, *, failed: Method | None = None) -> View:
        """Show the ways to pass the challenge; no message is sent before one is picked."""
        _ = self.language.gettext
        ways = self._ways_left()
        codes = [way for way in ways if way.is_code]
        if len(ways) == 1:
            text = _("We send a code to your phone. Nothing is sent before you ask for it.")
        elif len(codes) == len(ways):
            text = _("Choose how to get your code. Nothing is sent before you choose.")
        else:
            text = _("Choose one way. Nothing is sent before you choose.")
        return self._view(
            Screen.CHOOSE,
            _("Confirm that it is you"),
            text=(text,),
            ways=self._ways(ways, failed=failed),
            error=self._undelivered(failed, ways) if failed is not None else "",
        )

    def undelivered(self, method: Method) -> View:
        """Show that a code could not be delivered, with what else there is."""
        return self.choose(failed=method)

    def locked(self, until: Instant) -> View:
        """Show that the person may not try for now, and when again."""
        _ = self.language.gettext
        seconds = seconds_until(until, self.sight.now)
        return self._view(
            Screen.LOCKED,
            _("Too many wrong answers"),
            text=(
                _("To protect you, nothing can be confirmed for now."),
                _("Was it not you who tried? Then tell us, by the number that you know."),
            ),
            ends_at=until,
            ends_in_seconds=seconds,
            on_close=Outcome.FAILED,
            page="",
        )

    def done(self) -> View:
        """Show that all is passed; the opener is told at once."""
        _ = self.language.gettext
        return self._view(
            Screen.DONE,
            _("Confirmed"),
            text=(_("We know that it is you. What you approved can now be carried out, once."),),
            outcome=Outcome.SUCCESS,
            on_close=Outcome.SUCCESS,
            page="",
        )

    def unable(self) -> View:
        """Show that nothing on this page could pass the challenge."""
        _ = self.language.gettext
        return self._view(
            Screen.UNABLE,
            _("This cannot be confirmed here"),
            text=(
                _("It takes the app or the device that you have set up for it. Go back and use that one."),
            ),
            on_close=Outcome.FAILED,
            page="",
        )

    def no_more(self) -> View:
        """Show that every way is used up: no code is left, and none can be sent."""
        _ = self.language.gettext
        return self._view(
            Screen.OVER,
            _("No more codes can be sent"),
            text=(_("Nothing was approved. Go back and start again; you will be asked once more."),),
            on_close=Outcome.FAILED,
            page="",
        )

    def cancelled(self) -> View:
        """Show that nothing was approved, as asked."""
        _ = self.language.gettext
        return self._view(
            Screen.CANCELLED,
            _("Cancelled"),
            text=(_("Nothing was approved."),),
            outcome=Outcome.CLOSED,
            on_close=Outcome.CLOSED,
            page="",
        )

    def window(self) -> View:
        """Show that the form counts only where the page can be seen: in a window of its own."""
        _ = self.language.gettext
        return self._view(
            Screen.WINDOW,
            _("Continue in a window of its own"),
            text=(
                _("Your browser cannot tell us that this page is fully in view. Nothing was sent."),
                _("Continue in a new window, then come back here."),
            ),
        )

    def wrong(self, method: Method, attempts_left: int) -> View:
        """Show that an answer was wrong, and how many are left."""
        if method is Method.PIN:
            error = self.language.gettext("That is not your PIN. Check it and try again.")
        else:
            error = self.language.gettext("That is not the code that we sent. Check it and try again.")
        return self._with(method, error=error, attempts_left=attempts_left)

    def empty(self, method: Method | None) -> View:
        """Show that nothing was typed."""
        if method is Method.PIN:
            return self._with(method, error=self.language.gettext("Enter your PIN to go on."))
        return self._with(method, error=self.language.gettext("Enter the code to go on."))

    def ways(self) -> View:
        """Show the ways to pass the challenge, where there is one to pass."""
        shown_next = self.next()
        return self.choose() if shown_next.screen in {Screen.PIN, Screen.CODE} else shown_next

    def refused(self, refusal: Refusal, method: Method | None) -> View:
        """Show why nothing was sent or compared, and what to do."""
        _ = self.language.gettext
        duration = self.language.duration(refusal.retry_after or 1)
        match refusal.reason:
            case Reason.RESENT_TOO_SOON:
                text = _("A code was sent a moment ago. Wait %(time)s for it, or ask again then.")
                return self._with(method, notice=text % {"time": duration})
            case Reason.SENDS_EXHAUSTED:
                good = self._good_code()
                if good is not None:
                    text = _("No more codes can be sent for now. Use the last one that we sent.")
                    return self._with(good, notice=text)
                text = _("No more codes can be sent to this number for now. Try again later.")
                return self._with(method, notice=text)
            case Reason.CODE_EXPIRED | Reason.NOT_TRIGGERED:
                if self.next(method).method is method:
                    return self._with(method, error=_("That code is no longer valid. Ask for a new one."))
                text = _("That code is no longer valid, and no more can be sent. Confirm in another way.")
                return self._with(method, notice=text)
            case Reason.MOVED_ON:
                text = _("This was sent already, so it was not sent again. Here is how things stand.")
                return self._with(method, notice=text)
            case _:
                text = _("This way cannot be used now. Choose another one.")
                return self._with(None, error=text)

    def _with(
        self,
        method: Method | None,
        *,
        error: str = "",
        notice: str = "",
        attempts_left: int | None = None,
    ) -> View:
        """Show what is next, with what just went wrong; where nothing can be done any more, that alone."""
        view = self.next(method)
        if view.screen not in {Screen.CHOOSE, Screen.CODE, Screen.PIN}:
            return view
        return replace(view, error=error, notice=notice, attempts_left=attempts_left)

    def _good_code(self) -> Method | None:
        return code_on_its_way(self.sight, self.limits)

    def _all_sent(self) -> bool:
        """Tell whether as many codes were sent as one token may have."""
        return sum(entry.count for entry in self.sight.token.sends) >= self.limits.sends_per_token

    def _ways_left(self) -> tuple[Method, ...]:
        """Return the ways that still lead somewhere: where no code can be sent, the one that was alone."""
        ways, good = offered(self.sight.token), self._good_code()
        if not self._all_sent():
            return ways
        return tuple(way for way in ways if not way.is_code or way is good)

    # --- parts --------------------------------------------------------------------------------

    def _pin(self, ways: tuple[Method, ...]) -> View:
        return self._view(
            Screen.PIN,
            self.language.gettext("Enter your PIN"),
            method=Method.PIN,
            ways=self._ways(ways, without=Method.PIN),
        )

    def _code(self, method: Method, ways: tuple[Method, ...]) -> View:
        _ = self.language.gettext
        token = self.sight.token
        text = {
            Method.SMS: _("We sent a text message with a code to %(number)s."),
            Method.WHATSAPP: _("We sent a WhatsApp message with a code to %(number)s."),
            Method.VOICE: _("We call %(number)s and tell you a code."),
        }[method]
        sends = next(entry for entry in token.sends if entry.method is method)
        again = after(sends.last_at, self.limits.resend_seconds)
        return self._view(
            Screen.CODE,
            _("Enter the code"),
            text=(text % {"number": _isolated(_masked(self.sight.number))},),
            method=method,
            destination=_masked(self.sight.number),
            ways=self._ways(ways, without=method),
            resend_seconds=None if self._all_sent() else seconds_until(again, self.sight.now),
        )

    def _ways(
        self, methods: tuple[Method, ...], *, without: Method | None = None, failed: Method | None = None
    ) -> tuple[Way, ...]:
        _ = self.language.gettext
        return tuple(
            Way(
                method=method,
                label=_(_LABELS[method]),
                hint=_masked(self.sight.number) if method.is_code else "",
                failed=method is failed,
            )
            for method in methods
            if method is not without
        )

    def _undelivered(self, failed: Method, ways: tuple[Method, ...]) -> str:
        _ = self.language.gettext
        if any(way is not failed for way in ways):
            return _("The code could not be delivered. Choose another way, or try again.")
        return _("The code could not be delivered. Try again in a moment.")

    def _view(
        self,
        screen: Screen,
        heading: str,
        *,
        text: tuple[str, ...] = (),
        error: str = "",
        page: str | None = None,
        method: Method | None = None,
        ways: tuple[Way, ...] = (),
        destination: str = "",
        resend_seconds: int | None = None,
        ends_at: Instant | None = None,
        ends_in_seconds: int = 0,
        outcome: Outcome | None = None,
        on_close: Outcome = Outcome.CLOSED,
    ) -> View:
        return View(
            screen=screen,
            heading=heading,
            text=text,
            error=error,
            page=self.page if page is None else page,
            action=self._title(),
            asked_by=self.asked_by,
            details=details_in(self.language, self.sight.details),
            stranger=self.stranger if page is None else "",  # Where it is over there is nothing to warn of.
            steps=self._steps(),
            ways=ways,
            method=method,
            destination=destination,
            resend_seconds=resend_seconds,
            ends_at=ends_at or self.until,
            ends_in_seconds=ends_in_seconds or seconds_until(self.until, self.sight.now),
            outcome=outcome,
            on_close=on_close,
            openers=self.told,
            must_be_seen=self.must_be_seen,
        )

    def _title(self) -> str:
        action = self.sight.token.action
        if action in _TITLES:
            return self.title or self.language.gettext(_TITLES[action])
        return self.title or in_words(action).capitalize()

    def _steps(self) -> tuple[Step, ...]:
        """Return the progress line; one step alone needs none."""
        challenges = self.sight.token.challenges
        if len(challenges) == 1:
            return ()
        current = next((each for each in challenges if each.passed_by is None), None)
        return tuple(
            Step(
                self._step(challenge),
                Progress.DONE
                if challenge.passed_by is not None
                else Progress.CURRENT
                if challenge is current
                else Progress.TODO,
            )
            for challenge in challenges
        )

    def _step(self, challenge: Challenge) -> str:
        _ = self.language.gettext
        here = tuple(method for method in challenge.methods if method in HERE) or challenge.methods
        methods = here if challenge.passed_by is None else (challenge.passed_by,)
        kinds = {method.credential for method in methods}
        if kinds == {CredentialKind.PIN}:
            return _("PIN")
        return _("Code") if kinds == {CredentialKind.PHONE} else _("Confirmation")


def offered(token: OneTimeToken) -> tuple[Method, ...]:
    """Return the ways to pass the challenge that comes next, as far as a page can."""
    for methods in token.open_methods():
        if methods:
            return tuple(method for method in methods if method in HERE)
    return ()


def code_on_its_way(sight: Sight, limits: Limits) -> Method | None:
    """Return how a code was sent that can still be answered; None where there is none."""
    state = sight.token.state
    code = state.code if isinstance(state, Pending) else None
    if code is None or sight.now >= code.expires_at or code.wrong >= limits.code_tries:
        return None
    return code.method if code.method in offered(sight.token) else None


def over(language: Language, reason: Reason) -> View:
    """Show that nothing more can be done with a token."""
    heading, text = _OVER.get(reason, _UNKNOWN)
    return View(
        screen=Screen.OVER,
        heading=language.gettext(heading),
        text=(language.gettext(text),),
        on_close=Outcome.FAILED,
    )


def bare(language: Language) -> View:
    """Show a window that was opened and awaits its form; nothing is asked here."""
    _ = language.gettext
    return View(
        screen=Screen.BARE,
        heading=_("Nothing to confirm here"),
        text=(
            _("This page is opened by the site or app in which you want to do something."),
            _("If it stays like this, go back there and start again."),
        ),
    )


def trouble(language: Language, *, page: str = "") -> View:
    """Show that it is our fault or the world's; what came of the last form may not be known."""
    _ = language.gettext
    return View(
        screen=Screen.TROUBLE,
        heading=_("Something is not working"),
        text=(_("It is not your fault. Try again in a moment."),),
        page=page,
        on_close=Outcome.FAILED,
    )


def malformed(language: Language) -> View:
    """Show that a form cannot be read."""
    _ = language.gettext
    return View(
        screen=Screen.OVER,
        heading=_("This page cannot be used like this"),
        text=(_("Nothing was approved. Go back and start again."),),
        on_close=Outcome.FAILED,
    )


def details_in(language: Language, details: Details) -> tuple[Detail, ...]:
    """Word what is approved: an amount with its currency, and what cannot be trusted to look right marked."""
    values = dict(details)
    currency = values.pop("currency", "")
    worded: list[Detail] = []
    for key, value in details:
        if key == "currency" and "amount" in values:
            continue
        label = language.gettext(_DETAILS[key]) if key in _DETAILS else key.replace("_", " ").capitalize()
        # First made visible, then worded: an amount in Arabic holds marks of its own.
        full = shown(value)
        strange = odd(value)
        if key == "amount" and currency:
            beside = cut(shown(currency), CURRENCY_SHOWN_MAX)
            full = language.money(full, beside)
            strange = strange or beside != currency or odd(currency)
        short = cut(full)
        worded.append(
            Detail(
                label=label,
                value=short,
                full=full if short != full else "",
                odd=strange,
                strong=key in _STRONG,
            )
        )
    return tuple(worded)


def _isolated(text: str) -> str:
    """Keep the signs of *text* in their order, whichever way the sentence around it is written."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


def _masked(number: str) -> str:
    """Show what the API shows of a number, in fewer signs."""
    return f"••• {number.lstrip('*')}" if number else ""
