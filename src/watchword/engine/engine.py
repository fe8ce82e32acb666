"""The use cases of a step-up: protect, status, trigger, verify, authorise, confirm, release."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from watchword.delivery.base import Delivery, DeliveryError, Message
from watchword.domain import session as sessions, verbs
from watchword.domain.action import AUTHORISE_SESSION, Action, Risk
from watchword.domain.binding import Binding
from watchword.domain.decision import Change, Reason, Refusal, WrongAnswer
from watchword.domain.destination import Destination
from watchword.domain.details import Details, in_brief
from watchword.domain.enrolment import CREDENTIAL_CHANGE
from watchword.domain.instant import NEVER, after, seconds_until
from watchword.domain.limits import DAY_SECONDS, KEEP, Limits, Retention
from watchword.domain.method import PERSONAL_METHODS, Method
from watchword.domain.policy import required
from watchword.domain.token import OneTimeToken, Reserved, Revoked, TokenId, refused_as
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.applications import Applications
from watchword.engine.deciding import Decider, StoreContendedError
from watchword.engine.enrolment import Enrolment
from watchword.engine.ports import Clock, Entropy
from watchword.engine.recent import Records
from watchword.faces.base import FaceMatcher, FaceUnavailableError, FaceUnusableError
from watchword.methods.base import Started
from watchword.methods.phone import CODE_DIGITS, obfuscated
from watchword.methods.registry import Methods
from watchword.store.base import Store, StoreUnavailableError

Write = Callable[[str, OneTimeToken], str]
"""Words a message from its code and the token that it is for."""

_NEVER_BY_SESSION = frozenset({AUTHORISE_SESSION.name, CREDENTIAL_CHANGE.name})


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who calls.

    Attributes:
        signs: The caller holds a personal token, and signs rather than answers challenges.
        application: The application that calls for the user, by its client id.
    """

    user_id: UserId
    signs: bool = False
    application: str | None = None


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
        delivery: Delivery | None,
        faces: FaceMatcher | None = None,
        limits: Limits,
        retention: Retention = KEEP,
        slow_at_once: int = 2,
    ) -> None:
        """
        Take the ports.

        Args:
            delivery: Carries codes; without it none are offered.
            faces: Compares faces; without it they are not offered.
            retention: How long is kept what is over.
            slow_at_once: How many slow comparisons (PIN) may run at the same time.
        """
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.methods = methods
        self.delivery = delivery
        self.faces = faces
        self.limits = limits
        self.retention = retention
        self.available = tuple(
            method
            for method in PERSONAL_METHODS
            if (delivery is not None or not method.is_code)
            and (faces is not None or method is not Method.FACE_MAP)
        )
        self.decider = Decider(store=store, clock=clock, limits=limits, slow_at_once=slow_at_once)
        self.enrolment = Enrolment(self.decider, methods=methods, entropy=entropy, faces=faces)
        self.applications = Applications(self.decider, entropy=entropy)
        self.slowly = self.decider.slowly

    # --- the protected call -------------------------------------------------------------------

    async def protect(
        self,
        caller: Caller,
        action: Action,
        binding: Binding,
        *,
        anew: Binding | None = None,
        ott: str | None = None,
        signature: str | None = None,
        details: Details = (),
    ) -> Approved | StepUp | Wrong | Refusal:
        """
        Decide on a protected call, before its handler runs.

        A presented OTT is judged by itself: one that does not fit is answered with a new one,
        even while a session is open.

        Args:
            anew: What a new token is bound to, where *binding* is made under a key of before.
            ott: The OTT that came with the call.
            signature: A signature over it, in Base64; looked at where the token asks for one.
            details: What is asked for, as the user is shown it; part of *binding* already.

        Raises:
            StoreUnavailableError, StoreContendedError: Let nobody through.
        """
        async with self.decider.turn(caller.user_id):
            presented: Reason | None = None
            owner: UserId | None = None
            if ott is not None:
                spent = await self._spend(caller, action, binding, identify(ott), signature=signature)
                if isinstance(spent, Approved | Wrong):
                    return spent
                presented = spent
                if presented is Reason.UNKNOWN:
                    strange = await self.store.token(identify(ott))
                    owner = None if strange is None else strange.user_id
            return await self._pass_or_issue(
                caller, action, anew or binding, presented=presented, owner=owner, details=details
            )

    async def _spend(
        self,
        caller: Caller,
        action: Action,
        binding: Binding,
        token_id: TokenId,
        *,
        signature: str | None,
    ) -> Approved | Wrong | Reason:
        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
            if signature is not None and _asks_for_signature(token):
                user = await self.decider.user(records, caller.user_id)
                decision = await self._sign(token, signature, user=user, action=action, binding=binding)
            else:
                decision = verbs.spend(
                    token, action=action, binding=binding, limits=self.limits, now=self.clock.now()
                )
            if isinstance(decision, Refusal) and decision.reason is Reason.OTHER_REQUEST:
                # RTS art. 5(1)(d): any change to what was agreed invalidates the code.
                why = decision.reason.value
                return verbs.revoke(token, why=why, limits=self.limits, now=self.clock.now())
            return decision

        decision = await self.decider.settle(decide)
        if isinstance(decision, Refusal):
            return decision.reason
        if isinstance(decision, WrongAnswer):
            await self._disable_exhausted(caller.user_id)
            return Wrong(Method.SIGNATURE, decision.attempts_left)
        assert decision.token is not None
        if isinstance(decision.token.state, Revoked):
            return Reason.OTHER_REQUEST
        return Approved(decision.token, reserved=isinstance(decision.token.state, Reserved))

    async def _sign(
        self, token: OneTimeToken, signature: str, *, user: UserSecurity, action: Action, binding: Binding
    ) -> Change | Refusal:
        now = self.clock.now()
        refusal = verbs.can_sign(
            token, action=action, binding=binding, user=user, limits=self.limits, now=now
        )
        if refusal is not None:
            return refusal
        counting = user.counting(token.risk, limits=self.limits, now=now)
        right = self.methods.signature.verify(signature, user=counting, token=token)
        return verbs.sign(
            token,
            right=right,
            action=action,
            binding=binding,
            user=user,
            limits=self.limits,
            now=now,
        )

    async def _pass_or_issue(
        self,
        caller: Caller,
        action: Action,
        binding: Binding,
        *,
        presented: Reason | None = None,
        owner: UserId | None = None,
        details: Details = (),
    ) -> Approved | StepUp | Refusal:
        ott = self.entropy.uuid()
        token_id = identify(ott)
        sealed = self.methods.details.seal(details, token_id) if details else b""
        by_session = action.risk is Risk.LOW and presented is None and action.name not in _NEVER_BY_SESSION

        async def decide(records: Records) -> Change | Refusal:
            user = await self.decider.user(records, caller.user_id)
            now = self.clock.now()
            if by_session and user.session(limits=self.limits, now=now) != NEVER:
                return sessions.use(user, action=action, now=now)
            return verbs.issue(
                token_id,
                action=action,
                required=required(
                    action,
                    user.counting(action.risk, limits=self.limits, now=now),
                    signs=caller.signs,
                    available=self.available,
                ),
                binding=binding,
                user=user,
                oldest=await self.decider.open_tokens(user, at_least=self.limits.tokens_live, now=now),
                presented=presented,
                owner=owner,
                application=caller.application,
                details=sealed,
                limits=self.limits,
                now=now,
            )

        decision = await self.decider.settle(decide)
        if isinstance(decision, Refusal):
            return decision
        return Approved() if decision.token is None else StepUp(ott, decision.token)

    async def confirm(self, caller: Caller, token_id: TokenId) -> None:
        """Spend a reserved token: its handler succeeded."""
        async with self.decider.turn(caller.user_id):
            await self._decide(caller, token_id, lambda token: verbs.confirm(token, now=self.clock.now()))

    async def release(self, caller: Caller, token_id: TokenId) -> None:
        """Give a reserved token back: its handler failed."""
        async with self.decider.turn(caller.user_id):
            await self._decide(caller, token_id, lambda token: verbs.release(token, now=self.clock.now()))

    # --- clearing a token ---------------------------------------------------------------------

    async def authorise(self, caller: Caller, binding: Binding) -> Authorised | Refusal:
        """Issue a token whose only use is to open the low-risk session; returns its OTT with it."""
        async with self.decider.turn(caller.user_id):
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
        over = refused_as(token, limits=self.limits, now=self.clock.now())
        return self._snapshot(token) if over is None else Refusal(over)

    async def trigger(
        self,
        caller: Caller,
        ott: str | TokenId,
        method: Method,
        *,
        at: int | None = None,
        write: Write | None = None,
    ) -> str | Refusal:
        """
        Send a code over *method*.

        Args:
            at: The version of the token that the caller has seen; at any other nothing is sent.
            write: Words the message; without it, it is in plain English.

        Returns:
            The number that it went to, obfuscated.

        Raises:
            DeliveryError: Nobody could deliver it; the token stays as good as it was.
        """
        async with self.decider.turn(caller.user_id):
            started = await self._start(caller, identify(ott), method, at=at)
        if isinstance(started, Refusal):
            return started
        sent, token = started
        message = Message(
            channel=method,
            user_id=caller.user_id,
            to=sent.to,
            text=(write or self._in_english)(sent.digits, token),
            code=sent.digits,
        )
        try:
            await self._deliver(message)
        except DeliveryError:
            async with self.decider.turn(caller.user_id):
                await self._decide(
                    caller,
                    identify(ott),
                    lambda token: verbs.undelivered(token, sent.code, now=self.clock.now()),
                )
            raise
        return obfuscated(sent.to)

    def _in_english(self, digits: str, token: OneTimeToken) -> str:
        what = (in_words(token.action), *in_brief(self.methods.details.open(token)))
        return f"{digits} is your code for {', '.join(what)}. Do not share it with anybody."

    async def _deliver(self, message: Message) -> None:
        if self.delivery is None:
            raise DeliveryError
        await self.delivery.send(message)

    async def _start(
        self, caller: Caller, token_id: TokenId, method: Method, *, at: int | None
    ) -> tuple[Started, OneTimeToken] | Refusal:
        digits = self.entropy.code(CODE_DIGITS)
        started: Started | None = None

        async def decide(records: Records) -> Change | Refusal:
            nonlocal started
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
            if at is not None and token.version != at:
                return Refusal(Reason.MOVED_ON)
            user, now = await self.decider.user(records, caller.user_id), self.clock.now()
            refusal = verbs.can_trigger(token, method, user=user, limits=self.limits, now=now)
            if refusal is not None:
                return refusal
            sender = self.methods.phone[method]
            started = sender.start(digits, user=user, token=token, limits=self.limits, now=now)
            number = sender.phone(user).digest
            destination = await self.store.destination(number) or Destination(id=number)
            return verbs.trigger(
                token, started.code, user=user, destination=destination, limits=self.limits, now=now
            )

        user = await self.decider.user(self.decider.recent, caller.user_id)
        # Users who share a number meet on what was sent to it.
        async with self.decider.turn_of_number(next((phone.digest for phone in user.phones()), None)):
            sent = await self.decider.settle(decide)
        if isinstance(sent, Refusal):
            return sent
        assert sent.token is not None
        assert started is not None
        return started, sent.token

    async def verify(
        self,
        caller: Caller,
        ott: str | TokenId,
        method: Method,
        answer: str | bytes,
        *,
        at: int | None = None,
    ) -> Snapshot | Wrong | Refusal:
        """
        Answer a challenge.

        Expiry and locks are looked at before the answer is, and the answer is told only once it
        is counted: one that another was faster than is compared again, or refused.

        Args:
            answer: What the user answered; a face map as bytes.
            at: The version of the token that the caller has seen; at any other nothing is compared.

        Raises:
            BusyError, FaceUnavailableError: Nothing was compared.
        """
        token_id = identify(ott)

        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
            if at is not None and token.version != at:
                return Refusal(Reason.MOVED_ON)
            user = await self.decider.user(records, caller.user_id)
            refusal = verbs.can_verify(token, method, user=user, limits=self.limits, now=self.clock.now())
            if refusal is not None:
                return refusal
            right = await self._compare(method, answer, user=user, token=token)
            now = self.clock.now()
            return verbs.verify(
                token,
                method,
                right=right,
                user=user,
                limits=self.limits,
                now=now,
            )

        async with self.decider.turn(caller.user_id):
            counted = await self.decider.settle(decide)
            if isinstance(counted, WrongAnswer):
                await self._disable_exhausted(caller.user_id)
        if isinstance(counted, Refusal):
            return counted
        if isinstance(counted, WrongAnswer):
            return Wrong(method, counted.attempts_left)
        assert counted.token is not None
        return self._snapshot(counted.token)

    async def _disable_exhausted(self, user_id: UserId) -> None:
        """Carry out what a wrong answer may have led to; where that fails, whoever is next does it first."""
        with suppress(StoreUnavailableError, StoreContendedError):
            await self.decider.user(self.decider.recent, user_id)

    async def _compare(
        self, method: Method, answer: str | bytes, *, user: UserSecurity, token: OneTimeToken
    ) -> bool:
        counting = user.counting(token.risk, limits=self.limits, now=self.clock.now())
        verifier = self.methods.verifier(method)
        if verifier is None:
            return await self._match(answer, user=counting)
        assert isinstance(answer, str)
        if not verifier.slow:
            return verifier.verify(answer, user=counting, token=token)
        return await self.slowly(lambda: verifier.verify(answer, user=counting, token=token))

    async def _match(self, answer: str | bytes, *, user: UserSecurity) -> bool:
        if self.faces is None:
            raise FaceUnavailableError
        template = self.methods.face_map.template(user)
        if template is None:
            return False
        assert isinstance(answer, bytes)
        try:
            return await self.faces.match(template, answer)
        except FaceUnusableError:
            return False

    # ------------------------------------------------------------------------------------------

    async def sweep(self, *, limit: int = 500) -> int:
        """Remove what is long over; returns how many records went."""
        now, kept = self.clock.now(), self.retention
        # A store keeps tokens for a day by itself.
        gone = await self.store.sweep(after(now, -(kept.tokens_days - 1) * DAY_SECONDS), limit=limit)
        if kept.audit_days:
            gone += await self.store.forget(after(now, -kept.audit_days * DAY_SECONDS), limit=limit)
        return gone

    async def _decide(
        self, caller: Caller, token_id: TokenId, verb: Callable[[OneTimeToken], Change | Refusal]
    ) -> Change | Refusal:
        """Carry out a verb that needs the token alone."""

        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            return Refusal(Reason.UNKNOWN) if token is None else verb(token)

        return await self.decider.settle(decide)

    async def _owned(self, records: Records, caller: Caller, token_id: TokenId) -> OneTimeToken | None:
        token = await records.token(token_id)
        return token if token is not None and token.user_id == caller.user_id else None

    def _snapshot(self, token: OneTimeToken) -> Snapshot:
        return Snapshot(token, seconds_until(token.good_until(self.limits), self.clock.now()))


def _asks_for_signature(token: OneTimeToken) -> bool:
    return any(Method.SIGNATURE in offer for offer in token.open_methods())


def identify(ott: str | TokenId) -> TokenId:
    """Return the id under which an OTT is stored; what is an id already stays."""
    return TokenId(sha256(ott.encode()).digest()) if isinstance(ott, str) else ott


def in_words(action: str) -> str:
    """Turn ``BALANCE__GET_STATEMENT`` into words for a person."""
    return action.replace("__", ": ").replace("_", " ").lower()
