"""The use cases of a step-up: protect, status, trigger, verify, authorise, confirm, release."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, TypeVar

from watchword.delivery.base import Delivery, DeliveryError, Message
from watchword.domain import session as sessions, token as tokens
from watchword.domain.action import AUTHORISE_SESSION, Action, Risk
from watchword.domain.binding import Binding
from watchword.domain.credential import Credential
from watchword.domain.decision import Change, Reason, Refusal, WrongAnswer
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.policy import required
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.ports import Clock, Entropy
from watchword.engine.recent import Recent, Records
from watchword.engine.turns import Turns
from watchword.methods.base import Started
from watchword.methods.phone import CODE_DIGITS, obfuscated
from watchword.methods.registry import Methods
from watchword.store.base import Store

CONFLICTS_MAX = 32
"""How often one use case decides anew before it gives up; within one process turns see to it."""

SLOW_WAIT_SECONDS = 2.0
"""How long a slow comparison waits for its turn before the caller is told to come back."""

T = TypeVar("T")


class StoreContendedError(Exception):
    """Others kept changing the same records; nothing was stored. Try again in a moment."""


class BusyError(Exception):
    """Too many slow comparisons are under way; nothing was looked at. Try again in a moment."""


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who calls.

    Attributes:
        signs: The caller holds a personal token, and signs rather than answers challenges.
    """

    user_id: UserId
    signs: bool = False


@dataclass(frozen=True, slots=True)
class Approved:
    """
    The request may run.

    Attributes:
        token: The token that it was let through by; None where none was needed.
        reserved: The token waits for ``confirm`` or ``release``.
    """

    token: OneTimeToken | None = None
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class StepUp:
    """The request may not run yet: here is a token to clear."""

    ott: str
    token: OneTimeToken

    def __repr__(self) -> str:
        """Hide the OTT."""
        return f"StepUp({self.token.action})"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A token as its owner may see it."""

    token: OneTimeToken
    seconds_left: int


class Authorised(NamedTuple):
    """A token to clear for the session's sake, and its OTT."""

    ott: str
    snapshot: Snapshot

    def __repr__(self) -> str:
        """Hide the OTT."""
        return f"Authorised({self.snapshot})"


@dataclass(frozen=True, slots=True)
class Wrong:
    """The answer was wrong, and is counted."""

    method: Method
    attempts_left: int


class Engine:
    """Decides and stores. Everything that it is given is shared by all requests."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        entropy: Entropy,
        methods: Methods,
        delivery: Delivery,
        limits: Limits,
        slow_at_once: int = 2,
    ) -> None:
        """
        Take the ports.

        Args:
            slow_at_once: How many slow comparisons (PIN) may run at the same time.
        """
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.methods = methods
        self.delivery = delivery
        self.limits = limits
        self._recent = Recent(store)
        self._turns = Turns()
        self._numbers = Turns()
        self._slow = asyncio.Semaphore(slow_at_once)

    # --- the protected call -------------------------------------------------------------------

    async def protect(
        self, caller: Caller, action: Action, binding: Binding, *, ott: str | None = None
    ) -> Approved | StepUp | Refusal:
        """
        Decide on a protected call, before its handler runs.

        A presented OTT is judged by itself: one that does not fit is answered with a new one,
        even while a session is open.

        Args:
            ott: The OTT that came with the call.

        Raises:
            StoreUnavailableError, StoreContendedError: Let nobody through.
        """
        async with self._turns.of(caller.user_id):
            presented: Reason | None = None
            owner: UserId | None = None
            if ott is not None:
                spent = await self._spend(caller, action, binding, token_id=identify(ott))
                if isinstance(spent, Approved):
                    return spent
                presented = spent
                if presented is Reason.UNKNOWN:
                    strange = await self.store.token(identify(ott))
                    owner = None if strange is None else strange.user_id
            return await self._pass_or_issue(caller, action, binding, presented=presented, owner=owner)

    async def _spend(
        self, caller: Caller, action: Action, binding: Binding, *, token_id: TokenId
    ) -> Approved | Reason:
        def spend(token: OneTimeToken) -> Change | Refusal:
            now = self.clock.now()
            decision = tokens.spend(token, action=action, binding=binding, limits=self.limits, now=now)
            if isinstance(decision, Refusal) and decision.reason is Reason.OTHER_REQUEST:
                # RTS art. 5(1)(d): any change to what was agreed invalidates the code.
                return tokens.revoke(token, why=decision.reason.value, limits=self.limits, now=now)
            return decision

        decision = await self._decide(caller, token_id, spend)
        if isinstance(decision, Refusal):
            return decision.reason
        assert decision.token is not None
        if isinstance(decision.token.state, tokens.Revoked):
            return Reason.OTHER_REQUEST
        return Approved(decision.token, reserved=isinstance(decision.token.state, tokens.Reserved))

    async def _pass_or_issue(
        self,
        caller: Caller,
        action: Action,
        binding: Binding,
        *,
        presented: Reason | None = None,
        owner: UserId | None = None,
    ) -> Approved | StepUp | Refusal:
        ott = self.entropy.uuid()
        by_session = action.risk is Risk.LOW and presented is None and action is not AUTHORISE_SESSION

        async def decide(records: Records) -> Change | Refusal:
            user = await self._user(records, caller.user_id)
            now = self.clock.now()
            if by_session and user.in_session(now):
                return sessions.use(user, action=action, now=now)
            return tokens.issue(
                identify(ott),
                action=action,
                required=required(action, user, signs=caller.signs),
                binding=binding,
                user=user,
                oldest=await self._open_tokens(user, at_least=self.limits.tokens_live, now=now),
                presented=presented,
                owner=owner,
                limits=self.limits,
                now=now,
            )

        decision = await self._settle(decide)
        if isinstance(decision, Refusal):
            return decision
        return Approved() if decision.token is None else StepUp(ott, decision.token)

    async def confirm(self, caller: Caller, token_id: TokenId) -> None:
        """Spend a reserved token: its handler succeeded."""
        async with self._turns.of(caller.user_id):
            await self._decide(caller, token_id, lambda token: tokens.confirm(token, now=self.clock.now()))

    async def release(self, caller: Caller, token_id: TokenId) -> None:
        """Give a reserved token back: its handler failed."""
        async with self._turns.of(caller.user_id):
            await self._decide(caller, token_id, lambda token: tokens.release(token, now=self.clock.now()))

    # --- clearing a token ---------------------------------------------------------------------

    async def authorise(self, caller: Caller, binding: Binding) -> Authorised | Refusal:
        """Issue a token whose only use is to open the low-risk session; returns its OTT with it."""
        async with self._turns.of(caller.user_id):
            issued = await self._pass_or_issue(caller, AUTHORISE_SESSION, binding)
        if isinstance(issued, Refusal):
            return issued
        assert isinstance(issued, StepUp)
        return Authorised(issued.ott, self._snapshot(issued.token))

    async def status(self, caller: Caller, ott: str) -> Snapshot | Refusal:
        """Show a token to its owner."""
        token = await self._owned(self.store, caller, identify(ott))
        if token is None:
            return Refusal(Reason.UNKNOWN)
        over = tokens.refused_as(token, limits=self.limits, now=self.clock.now())
        return self._snapshot(token) if over is None else Refusal(over)

    async def trigger(self, caller: Caller, ott: str, method: Method) -> str | Refusal:
        """
        Send a code over *method*.

        Returns:
            The number that it went to, obfuscated.

        Raises:
            DeliveryError: Nobody could deliver it; the token stays as good as it was.
        """
        async with self._turns.of(caller.user_id):
            started = await self._start(caller, identify(ott), method)
        if isinstance(started, Refusal):
            return started
        sent, action = started
        message = Message(
            channel=method,
            user_id=caller.user_id,
            to=sent.to,
            text=f"{sent.digits} is your code for {in_words(action)}. Do not share it with anybody.",
            code=sent.digits,
        )
        try:
            await self.delivery.send(message)
        except DeliveryError:
            async with self._turns.of(caller.user_id):
                await self._decide(
                    caller,
                    identify(ott),
                    lambda token: tokens.undelivered(token, sent.code, now=self.clock.now()),
                )
            raise
        return obfuscated(sent.to)

    async def _start(
        self, caller: Caller, token_id: TokenId, method: Method
    ) -> tuple[Started, str] | Refusal:
        digits = self.entropy.code(CODE_DIGITS)
        started: Started | None = None

        async def decide(records: Records) -> Change | Refusal:
            nonlocal started
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
            user, now = await self._user(records, caller.user_id), self.clock.now()
            refusal = tokens.can_trigger(token, method, user=user, limits=self.limits, now=now)
            if refusal is not None:
                return refusal
            sender = self.methods.phone[method]
            started = sender.start(digits, user=user, token=token, limits=self.limits, now=now)
            number = sender.phone(user).digest
            destination = await self.store.destination(number) or Destination(id=number)
            return tokens.trigger(
                token, started.code, user=user, destination=destination, limits=self.limits, now=now
            )

        user = await self._user(self._recent, caller.user_id)
        # Users who share a number meet on what was sent to it.
        async with self._numbers.of(next((phone.digest for phone in user.phones()), None)):
            sent = await self._settle(decide)
        if isinstance(sent, Refusal):
            return sent
        assert sent.token is not None
        assert started is not None
        return started, sent.token.action

    async def verify(
        self, caller: Caller, ott: str, method: Method, answer: str
    ) -> Snapshot | Wrong | Refusal:
        """
        Answer a challenge.

        Expiry and locks are looked at before the answer is, and the answer is told only once it
        is counted: one that another was faster than is compared again, or refused.

        Raises:
            BusyError: Nothing was compared.
        """
        token_id = identify(ott)

        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
            user = await self._user(records, caller.user_id)
            refusal = tokens.can_verify(token, method, user=user, limits=self.limits, now=self.clock.now())
            if refusal is not None:
                return refusal
            right = await self._compare(method, answer, user=user, token=token)
            return tokens.verify(
                token, method, right=right, user=user, limits=self.limits, now=self.clock.now()
            )

        async with self._turns.of(caller.user_id):
            counted = await self._settle(decide)
        if isinstance(counted, Refusal):
            return counted
        if isinstance(counted, WrongAnswer):
            return Wrong(method, counted.attempts_left)
        assert counted.token is not None
        return self._snapshot(counted.token)

    async def _compare(self, method: Method, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        verifier = self.methods.verifier(method)
        if verifier is None:
            return False
        if not verifier.slow:
            return verifier.verify(answer, user=user, token=token)
        return await self.slowly(lambda: verifier.verify(answer, user=user, token=token))

    async def slowly(self, work: Callable[[], T]) -> T:
        """
        Run CPU-bound *work* off the event loop, a few at a time.

        Raises:
            BusyError: It did not get its turn in time.
        """
        try:
            async with asyncio.timeout(SLOW_WAIT_SECONDS):
                await self._slow.acquire()
        except TimeoutError as error:
            raise BusyError from error
        running = asyncio.ensure_future(asyncio.to_thread(work))
        # A thread cannot be stopped: its place is free when it is done, not when its caller has gone.
        running.add_done_callback(lambda _: self._slow.release())
        return await asyncio.shield(running)

    # --- users --------------------------------------------------------------------------------

    async def set_credentials(
        self,
        user_id: UserId,
        credentials: tuple[Credential, ...],
        *,
        preferred: Method | None = None,
    ) -> None:
        """Replace all that a user has enrolled; open tokens are void and the session ends."""

        async def decide(records: Records) -> Change:
            user, now = await self._user(records, user_id), self.clock.now()
            return tokens.change_credentials(
                user,
                credentials=credentials,
                preferred=preferred,
                open_tokens=await self._open_tokens(user, now=now),
                now=now,
            )

        async with self._turns.of(user_id):
            await self._settle(decide)

    async def enrolled(self, user_id: UserId) -> frozenset[CredentialKind]:
        """Tell what kinds of credentials a user can prove."""
        return (await self._user(self.store, user_id)).enrolled()

    async def sweep(self, *, limit: int = 500) -> int:
        """Remove what is long over; returns how many records went."""
        return await self.store.sweep(self.clock.now(), limit=limit)

    # --- shared -------------------------------------------------------------------------------

    async def _settle(self, decide: Callable[[Records], Awaitable[Change | Refusal]]) -> Change | Refusal:
        """Decide, first from what this process stored last, then from the store, until it is stored."""
        for attempt in range(CONFLICTS_MAX):
            decision = await decide(self.store if attempt else self._recent)
            if isinstance(decision, Refusal):
                if attempt:
                    return decision
            elif await self._recent.commit(decision):
                return decision
        raise StoreContendedError

    async def _decide(
        self, caller: Caller, token_id: TokenId, verb: Callable[[OneTimeToken], Change | Refusal]
    ) -> Change | Refusal:
        """Carry out a verb that needs the token alone."""

        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            return Refusal(Reason.UNKNOWN) if token is None else verb(token)

        return await self._settle(decide)

    async def _owned(self, records: Records, caller: Caller, token_id: TokenId) -> OneTimeToken | None:
        token = await records.token(token_id)
        return token if token is not None and token.user_id == caller.user_id else None

    async def _user(self, records: Records, user_id: UserId) -> UserSecurity:
        return await records.user(user_id) or UserSecurity(id=user_id)

    async def _open_tokens(
        self, user: UserSecurity, *, at_least: int = 0, now: Instant
    ) -> tuple[OneTimeToken, ...]:
        entries = user.still_open(now)
        if len(entries) < at_least:
            return ()
        found = [await self.store.token(TokenId(entry.id)) for entry in entries]
        return tuple(token for token in found if token is not None)

    def _snapshot(self, token: OneTimeToken) -> Snapshot:
        return Snapshot(token, seconds_until(token.good_until(self.limits), self.clock.now()))


def identify(ott: str) -> TokenId:
    """Return the id under which an OTT is stored."""
    return TokenId(sha256(ott.encode()).digest())


def in_words(action: str) -> str:
    """Turn ``BALANCE__GET_STATEMENT`` into words for a person."""
    return action.replace("__", ": ").replace("_", " ").lower()
