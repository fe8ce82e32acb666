"""
The use cases of the approval page: it knows one OTT, and nobody's access token.

Whoever opened a page can see and clear the challenges of its one token, and nothing else: a cleared
token is worth nothing without its user's access token. One page is open for a token at a time, and
what is asked of it names the version of the token that it showed, so that a form that is sent twice
(a reload, a double click, the way back in a browser's history) never sends a second message and never
costs a second attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

from watchword.domain import verbs
from watchword.domain.decision import Change, Reason, Refusal
from watchword.domain.details import Details
from watchword.domain.instant import Instant
from watchword.domain.method import Method
from watchword.domain.token import OneTimeToken, TokenId, refused_as
from watchword.domain.user import UserSecurity
from watchword.engine.engine import Caller, Engine, Snapshot, Write, Wrong, identify
from watchword.engine.recent import Records
from watchword.methods.phone import obfuscated


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOf:
    """
    A page that is open, and what it showed last.

    Attributes:
        handle: What it proves itself by.
        version: The version of the token that it showed.
    """

    token_id: TokenId
    handle: str
    version: int

    def __repr__(self) -> str:
        """Hide the handle."""
        return f"PageOf(version={self.version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """
    A token as its page may show it.

    Attributes:
        details: What is approved.
        number: Where codes would go, obfuscated; empty where the user has no number.
        locked_until: The end of the user's lock; None where he may try.
    """

    token: OneTimeToken
    details: Details
    number: str
    locked_until: Instant | None
    good_until: Instant
    now: Instant


class Opened(NamedTuple):
    """A page that was just opened."""

    handle: str
    sight: Sight

    def __repr__(self) -> str:
        """Hide the handle."""
        return f"Opened({self.sight.token.action})"


class Pages:
    """The approval pages of all tokens, over one engine."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine."""
        self._engine = engine

    async def open(self, ott: str) -> Opened | Refusal:
        """
        Open the page of a token; whatever page was open for it is dead from now on.

        Raises:
            StoreUnavailableError, StoreContendedError: Nothing was opened.
        """
        return await self._open(identify(ott))

    async def open_again(self, token_id: TokenId) -> Opened | Refusal:
        """
        Open another page in place of the one that is open by now; none where it was closed.

        Raises:
            StoreUnavailableError, StoreContendedError: Nothing was opened.
        """
        return await self._open(token_id, in_place_of_one=True)

    async def _open(self, token_id: TokenId, *, in_place_of_one: bool = False) -> Opened | Refusal:
        engine = self._engine
        handle = engine.entropy.uuid()

        def open_(token: OneTimeToken) -> Change | Refusal:
            if in_place_of_one and not token.page:
                return Refusal(Reason.OTHER_PAGE)
            return verbs.open_page(token, _digest(handle), limits=engine.limits, now=engine.clock.now())

        opened = await self._settle(token_id, open_)
        return opened if isinstance(opened, Refusal) else Opened(handle, await self._sight(opened))

    async def close(self, page: PageOf) -> Sight | Refusal:
        """
        Close a page, as its customer asked; its forms are dead from now on.

        Raises:
            StoreUnavailableError, StoreContendedError: It is open still.
        """
        engine = self._engine

        def close(token: OneTimeToken) -> Change | Refusal:
            if not _is_of(page, token):
                return Refusal(Reason.OTHER_PAGE)
            return verbs.close_page(token, limits=engine.limits, now=engine.clock.now())

        closed = await self._settle(page.token_id, close)
        return closed if isinstance(closed, Refusal) else await self._sight(closed)

    async def _settle(
        self, token_id: TokenId, verb: Callable[[OneTimeToken], Change | Refusal]
    ) -> OneTimeToken | Refusal:
        """Carry out a verb that needs the token alone, whosever it is."""
        engine = self._engine
        found = await engine.store.token(token_id)
        if found is None:
            return Refusal(Reason.UNKNOWN)

        async def decide(records: Records) -> Change | Refusal:
            token = await records.token(token_id)
            return Refusal(Reason.UNKNOWN) if token is None else verb(token)

        async with engine.decider.turn(found.user_id):
            settled = await engine.decider.settle(decide)
        if isinstance(settled, Refusal):
            return settled
        assert settled.token is not None
        return settled.token

    async def look(self, page: PageOf) -> Sight | Refusal:
        """Return what a page shows now, whatever it showed before."""
        token = await self._engine.store.token(page.token_id)
        if token is None:
            return Refusal(Reason.UNKNOWN)
        if not _is_of(page, token):
            return Refusal(Reason.OTHER_PAGE)
        over = refused_as(token, limits=self._engine.limits, now=self._engine.clock.now())
        return await self._sight(token) if over is None else Refusal(over)

    async def trigger(self, page: PageOf, sight: Sight, method: Method, write: Write) -> str | Refusal:
        """
        Send a code over *method*; see ``Engine.trigger``.

        Raises:
            DeliveryError: Nobody could deliver it; the token stays as good as it was.
        """
        caller = Caller(sight.token.user_id)
        return await self._engine.trigger(caller, page.token_id, method, at=page.version, write=write)

    async def verify(
        self, page: PageOf, sight: Sight, method: Method, answer: str
    ) -> Snapshot | Wrong | Refusal:
        """
        Answer a challenge; see ``Engine.verify``.

        Raises:
            BusyError: Nothing was compared.
        """
        caller = Caller(sight.token.user_id)
        return await self._engine.verify(caller, page.token_id, method, answer, at=page.version)

    async def _sight(self, token: OneTimeToken) -> Sight:
        engine = self._engine
        user = await engine.store.user(token.user_id) or UserSecurity(id=token.user_id)
        now = engine.clock.now()
        return Sight(
            token=token,
            details=engine.methods.details.open(token),
            number=self._number(user),
            locked_until=user.attempts.locked_until if user.attempts.is_locked(now) else None,
            good_until=token.good_until(engine.limits),
            now=now,
        )

    def _number(self, user: UserSecurity) -> str:
        sender = self._engine.methods.phone[Method.SMS]
        phone = next(user.phones(), None)
        return "" if phone is None else obfuscated(sender.number(user.id, phone))


def _is_of(page: PageOf, token: OneTimeToken) -> bool:
    """Tell whether *page* is the one that is open for its token."""
    return compare_digest(token.page, _digest(page.handle))


def _digest(handle: str) -> bytes:
    return sha256(handle.encode()).digest()
