"""
The page's own token: what its forms carry instead of the OTT.

It is sealed, so that nobody but this server reads or makes one. It names one token, proves the one page
that is open for it, and is both the page's session where a browser keeps no cookies for a frame and the
proof that a form is the page's own (CSRF). It dies with the page: after ten minutes without a form,
fifteen in all, or once the page was opened elsewhere.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest

import msgspec

from watchword.domain.instant import Instant, after
from watchword.domain.method import Method
from watchword.domain.token import TokenId
from watchword.engine.page import PageOf
from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered

IDLE_SECONDS = 600
"""How long a page waits for its next form: twice as long as a code lives."""

TOTAL_SECONDS = 900
"""How long a page lives in all; a token may live longer, and can be opened again."""

TICKET_MAX = 2048
_BOUND_TO = b"page/1"
_BASE64 = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    What a form says about the page that it stands on.

    Attributes:
        version: The version of the token that the page showed.
        method: What it asks to be answered.
        application: The application that the token was issued to.
        opener: The origin that opened it, where the browser named one; ``?`` for what is none.
        hostname: The host that the form named.
        host: The page's own, which codes are bound to; empty where it is not configured.
        flow: How it was opened: ``iframe``, ``popup``, ``tab``, or ``window`` from within a frame.
        framed: The browser itself said that it stands in a frame.
        asks_to_be_seen: Its forms count only while it is in view; under another it could be worked blindly.
        cookie: The digest of the cookie that was set with it.
        proven: The browser showed that cookie, and must from now on.
    """

    token_id: TokenId
    handle: str
    version: int
    opened_at: Instant
    shown_at: Instant
    method: Method | None
    application: str | None
    opener: str | None
    hostname: str
    host: str
    flow: str
    framed: bool
    asks_to_be_seen: bool
    language: str
    cookie: bytes
    proven: bool

    def __repr__(self) -> str:
        """Hide the handle."""
        return f"Ticket(version={self.version})"

    @property
    def page(self) -> PageOf:
        """The page that it proves."""
        return PageOf(token_id=self.token_id, handle=self.handle, version=self.version)

    @property
    def good_until(self) -> Instant:
        """When the page has lived its time."""
        return min(after(self.opened_at, TOTAL_SECONDS), after(self.shown_at, IDLE_SECONDS))

    def admits(self, cookie: str | None) -> bool:
        """
        Tell whether the browser that sends the form is the one that was shown the page.

        Some browsers keep no cookie in a frame of another site. One that showed it once must go on.
        """
        if cookie is None:
            return not self.proven
        return compare_digest(self.cookie, digest_of(cookie))


def digest_of(cookie: str) -> bytes:
    """Return what is kept of a cookie."""
    return sha256(cookie.encode("utf-8", "surrogateescape")).digest()


def seal(ticket: Ticket, keyring: Keyring) -> str:
    """Return a ticket as it stands in a form."""
    sealed = keyring.seal(Purpose.PAGE, msgspec.msgpack.encode(ticket), bound_to=_BOUND_TO)
    return urlsafe_b64encode(sealed).decode().rstrip("=")


def unseal(text: str, keyring: Keyring) -> Ticket | None:
    """Return the ticket of a form; None where it is none of ours."""
    if len(text) > TICKET_MAX or not _BASE64.fullmatch(text):
        return None
    try:
        sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        plain = keyring.open(Purpose.PAGE, sealed, bound_to=_BOUND_TO)
        return msgspec.msgpack.decode(plain, type=Ticket)
    except (ValueError, Tampered, KeyMissingError):
        return None
