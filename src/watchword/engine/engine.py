"""The use cases of a step-up: protect, status, trigger, verify, authorise, confirm, release."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from watchword.delivery.base import Delivery, DeliveryError, Message
from watchword.domain import session as sessions, verbs
from watchword.domain.action import AUTHORISE_SESSION, Action, Risk
from watchword.domain.binding import Binding
from watchword.domain.decision import Change, Reason, Refusal, WrongAnswer
from watchword.domain.destination import Destination
from watchword.domain.enrolment import CREDENTIAL_CHANGE
from watchword.domain.instant import Instant, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import PERSONAL_METHODS, Method
from watchword.domain.policy import required
from watchword.domain.token import OneTimeToken, Reserved, Revoked, TokenId, refused_as
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.applications import Applications
from watchword.engine.deciding import Decider
from watchword.engine.enrolment import Enrolment
from watchword.engine.ports import Clock, Entropy
from watchword.engine.recent import Records
from watchword.faces.base import FaceMatcher, FaceUnavailableError, FaceUnusableError
from watchword.methods.base import Started
from watchword.methods.phone import CODE_DIGITS, obfuscated
from watchword.methods.registry import Methods
from watchword.store.base import Store

_NEVER_BY_SESSION = frozenset({AUTHORISE_SESSION.name, CREDENTIAL_CHANGE.name})


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
        delivery: Delivery | None,
        faces: FaceMatcher | None = None,
        limits: Limits,
        slow_at_once: int = 2,
    ) -> None:
        """
        Take the ports.

        Args:
            delivery: Carries codes; without it none are offered.
            faces: Compares faces; without it they are not offered.
            slow_at_once: How many slow comparisons (PIN) may run at the same time.
        """
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.methods = methods
        self.delivery = delivery
        self.faces = faces
        self.limits = limits
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
        ott: str | None = None,
        signature: str | None = None,
    ) -> Approved | StepUp | Wrong | Refusal:
        """
        Decide on a protected call, before its handler runs.

        A presented OTT is judged by itself: one that does not fit is answered with a new one,
        even while a session is open.

        Args:
            ott: The OTT that came with the call.
            signature: A signature over it, in Base64; looked at where the token asks for one.

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
            return await self._pass_or_issue(caller, action, binding, presented=presented, owner=owner)

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
            open_tokens=await self._voided_by(user, Method.SIGNATURE, right=right, now=now),
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
    ) -> Approved | StepUp | Refusal:
        ott = self.entropy.uuid()
        by_session = action.risk is Risk.LOW and presented is None and action.name not in _NEVER_BY_SESSION

        async def decide(records: Records) -> Change | Refusal:
            user = await self.decider.user(records, caller.user_id)
            now = self.clock.now()
            if by_session and user.in_session(now):
                return sessions.use(user, action=action, now=now)
            return verbs.issue(
                identify(ott),
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

    async def trigger(self, caller: Caller, ott: str, method: Method) -> str | Refusal:
        """
        Send a code over *method*.

        Returns:
            The number that it went to, obfuscated.

        Raises:
            DeliveryError: Nobody could deliver it; the token stays as good as it was.
        """
        async with self.decider.turn(caller.user_id):
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

    async def _deliver(self, message: Message) -> None:
        if self.delivery is None:
            raise DeliveryError
        await self.delivery.send(message)

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
        return started, sent.token.action

    async def verify(
        self, caller: Caller, ott: str, method: Method, answer: str | bytes
    ) -> Snapshot | Wrong | Refusal:
        """
        Answer a challenge.

        Expiry and locks are looked at before the answer is, and the answer is told only once it
        is counted: one that another was faster than is compared again, or refused.

        Args:
            answer: What the user answered; a face map as bytes.

        Raises:
            BusyError, FaceUnavailableError: Nothing was compared.
        """
        token_id = identify(ott)

        async def decide(records: Records) -> Change | Refusal:
            token = await self._owned(records, caller, token_id)
            if token is None:
                return Refusal(Reason.UNKNOWN)
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
                open_tokens=await self._voided_by(user, method, right=right, now=now),
                limits=self.limits,
                now=now,
            )

        async with self.decider.turn(caller.user_id):
            counted = await self.decider.settle(decide)
        if isinstance(counted, Refusal):
            return counted
        if isinstance(counted, WrongAnswer):
            return Wrong(method, counted.attempts_left)
        assert counted.token is not None
        return self._snapshot(counted.token)

    async def _voided_by(
        self, user: UserSecurity, method: Method, *, right: bool, now: Instant
    ) -> tuple[OneTimeToken, ...]:
        """Return the tokens that an answer may void, which is where a wrong one disables a credential."""
        if right or not verbs.may_disable(user, method, limits=self.limits):
            return ()
        return await self.decider.open_tokens(user, now=now)

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
        return await self.store.sweep(self.clock.now(), limit=limit)

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


def identify(ott: str) -> TokenId:
    """Return the id under which an OTT is stored."""
    return TokenId(sha256(ott.encode()).digest())


def in_words(action: str) -> str:
    """Turn ``BALANCE__GET_STATEMENT`` into words for a person."""
    return action.replace("__", ": ").replace("_", " ").lower()
