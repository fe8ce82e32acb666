"""
Users of an engine, in process: they ask for things, answer challenges, run handlers; all of it is noted.

What they do is drawn from a seed. They go by what they were told, as real clients do.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from tests.factories import (
    ADA,
    BATCH,
    CODE,
    FINGERPRINT,
    GRACE,
    KEYRING,
    NOW,
    PAY,
    PAYMENT,
    PIN,
    READ,
    STATEMENT,
    FixedClock,
    ScriptedEntropy,
    enrolled_fingerprint,
    enrolled_phone,
)
from tests.faults.history import Effect, Held, History, Operation, Outcome, Promised, Verb
from watchword.delivery.base import DeliveryError, Message
from watchword.domain.action import Action, Bind, Risk, Spend
from watchword.domain.binding import Binding, bind
from watchword.domain.credential import Credential, DeviceFingerprint, Pin, PublicKey
from watchword.domain.decision import EventName, Reason, Refusal
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import BusyError, StoreContendedError
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, Wrong, identify
from watchword.engine.page import PageOf, Pages
from watchword.methods.base import Verifier
from watchword.methods.keyring import Keyring
from watchword.methods.registry import Methods
from watchword.methods.signature import SignatureMethod
from watchword.store.base import Store, StoreUnavailableError

LIMITS = Limits(tokens_live=5, sends_per_number=3, disable_pin_after=0)
REQUESTS: dict[str, tuple[Action, list[Binding]]] = {
    STATEMENT.name: (STATEMENT, [READ, bind("GET", b"/other", b"")]),
    PAYMENT.name: (PAYMENT, [PAY, bind("POST", PAY.path.encode(), b"amount=2")]),
    BATCH.name: (BATCH, [bind("POST", b"/batch", b""), bind("POST", b"/batch", b"", b"another body")]),
}
PROGRAM = UserId(GRACE + 1)
"""Signs, and answers nothing else."""
USERS = (ADA, GRACE, PROGRAM)
SIGNATURE = "right"
RIGHT = {Method.PIN: PIN, Method.PARTNER_DEVICE_FINGERPRINT: FINGERPRINT}
ANSWERED = (*[Method.PIN] * 3, *[Method.PARTNER_DEVICE_FINGERPRINT] * 3, Method.SMS, Method.VOICE)


class QuickPin:
    """A PIN that costs nothing: thousands of runs take seconds."""

    slow = True

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare."""
        return answer == PIN and any(isinstance(entry, Pin) for entry in user.credentials)


class QuickSignature(SignatureMethod):
    """A signature that costs nothing either."""

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare."""
        return answer == SIGNATURE and any(isinstance(entry, PublicKey) for entry in user.credentials)


class QuickMethods(Methods):
    """The real methods, but for the PIN and signatures."""

    def __init__(self, keyring: Keyring = KEYRING) -> None:
        """Make them."""
        super().__init__(keyring)
        self.signature = QuickSignature()

    def verifier(self, method: Method) -> Verifier | None:
        """Return who compares."""
        return QuickPin() if method is Method.PIN else super().verifier(method)


@dataclass(slots=True)
class Provider:
    """Carries codes; it fails, or takes its time."""

    down: bool = False
    seconds: float = 0.0
    taken: int = 0

    async def send(self, message: Message) -> None:
        """Take a message."""
        await asyncio.sleep(self.seconds)
        if self.down:
            raise DeliveryError
        self.taken += 1


def credentials(user_id: UserId) -> tuple[Credential, ...]:
    """Return what a user has enrolled at the beginning."""
    if user_id == PROGRAM:
        return (PublicKey(id="key", spki=b"", enrolled_at=NOW),)
    return (
        Pin(id="pin", sealed=b"", enrolled_at=NOW),
        enrolled_phone(user_id, f"+65{user_id:08}"),
        enrolled_fingerprint(user_id),
    )


@dataclass(frozen=True, slots=True)
class Got:
    """An OTT as its client got it."""

    ott: str
    user: UserId
    action: Action
    binding: Binding

    @property
    def token(self) -> str:
        """The id that it is stored under."""
        return identify(self.ott).hex()


@dataclass(kw_only=True)
class People:
    """
    All users together.

    Attributes:
        engines: As many processes as there are engines; each call goes to one of them.
        skill: How often an answer is the right one.
        impatience: How often a caller goes away before he is answered.
        handling: How many seconds a handler takes at the most.
        changes: How often somebody enrols or removes something, which voids all that is open.
    """

    chance: Random
    clock: FixedClock
    provider: Provider
    engines: list[Engine]
    history: History = field(default_factory=History)
    skill: float = 0.85
    impatience: float = 0.0
    changes: float = 0.01
    handling: float = 1.0
    stopped: bool = False
    got: list[Got] = field(default_factory=list[Got])
    signed: set[str] = field(default_factory=set[str])
    pages: dict[str, str] = field(default_factory=dict[str, str])

    async def act(self, steps: int) -> None:
        """Do so many things, one after the other; fewer if all is stopped."""
        personal = [self.request] * 5 + [self.verify] * 12 + [self.trigger] * 3 + [self.status, self.page]
        for _ in range(steps):
            if self.stopped:
                return
            user = self.chance.choice((ADA, ADA, ADA, ADA, GRACE, GRACE, PROGRAM))
            step = self.request if user == PROGRAM else self.chance.choice(personal)
            if self.chance.random() < self.changes:
                step = self.enrol
            await step(Caller(user, signs=user == PROGRAM))

    async def begin(self, *users: UserId) -> None:
        """Enrol what users begin with."""
        for user in users:
            await self.engines[0].enrolment.set(user, credentials(user))
            changed = Effect(EventName.CREDENTIALS_CHANGED, user)
            operation = self.history.begin(Verb.ENROL, user, now=self.clock.now())
            self._end(operation, None, changed)

    @property
    def _engine(self) -> Engine:
        return self.chance.choice(self.engines)

    def _some(self, caller: Caller) -> Got | None:
        """Choose one of the last tokens: mostly the caller's own."""
        own = [each for each in self.got if each.user == caller.user_id]
        lot = (own if self.chance.random() < 0.95 else self.got)[-3:]
        return self.chance.choice(lot) if lot else None

    @asynccontextmanager
    async def _noted(
        self,
        verb: Verb,
        caller: Caller,
        of: Got | None = None,
        *events: EventName,
        method: Method | None = None,
        right: bool = False,
        fits: bool = False,
    ) -> AsyncIterator[Operation]:
        """Note a call; what it raises that tells nothing leaves its outcome unknown."""
        token, note = "" if of is None else of.token, "" if method is None else method.value
        operation = self.history.begin(
            verb,
            caller.user_id,
            now=self.clock.now(),
            token=token,
            method=note,
            right=right,
            fits=fits,
            possible=[self._effect(event, caller, token, method) for event in events],
        )
        try:
            if self.chance.random() < self.impatience:
                # Whatever is under way is cancelled, as a server does for a caller who hung up.
                async with asyncio.timeout(self.chance.random()):
                    yield operation
            else:
                yield operation
        except (StoreUnavailableError, StoreContendedError, BusyError, TimeoutError) as error:
            operation.answer = type(error).__name__

    def _effect(
        self, event: EventName, caller: Caller, token: str = "", method: Method | None = None
    ) -> Effect:
        of_method = event in {
            EventName.CHALLENGE_FAILED,
            EventName.CHALLENGE_PASSED,
            EventName.CODE_SENT,
            EventName.CODE_UNDELIVERED,
        }
        known = "" if event in {EventName.TOKEN_ISSUED, EventName.SESSION_USED} else token
        return Effect(event, caller.user_id, known, method.value if method and of_method else "")

    def _end(
        self,
        operation: Operation,
        answer: object,
        *certain: Effect,
        possible: tuple[Effect, ...] = (),
        left: int | None = None,
    ) -> None:
        outcome, told, locked = Outcome.OK, type(answer).__name__, 0
        if isinstance(answer, Refusal):
            outcome, told = Outcome.FAIL, answer.reason.value
            locked = (answer.retry_after or 0) if answer.reason is Reason.LOCKED else 0
        self.history.end(
            operation,
            outcome,
            told,
            now=self.clock.now(),
            certain=certain,
            possible=possible,
            left=left,
            locked=locked,
        )

    # --- the protected request ----------------------------------------------------------------

    async def request(self, caller: Caller) -> None:
        """Make a protected request, mostly again with an OTT; where it is let through its handler runs."""
        presented = self._some(caller) if self.chance.random() < 0.9 else None
        action, bindings = REQUESTS[self.chance.choice(tuple(REQUESTS))]
        binding = self.chance.choice(bindings)
        fate = self.chance.random()
        if presented is not None and fate < 0.97:
            action = presented.action
            binding = presented.binding if fate < 0.85 else self.chance.choice(REQUESTS[action.name][1])
        signs = caller.signs and presented is not None
        signature = (SIGNATURE if self.chance.random() < self.skill else "wrong") if signs else None
        method = Method.SIGNATURE if signs else None
        engine = self._engine
        async with self._noted(
            Verb.REQUEST,
            caller,
            presented,
            EventName.TOKEN_ISSUED,
            EventName.SESSION_USED,
            EventName.TOKEN_SPENT,
            EventName.TOKEN_RESERVED,
            *((EventName.CHALLENGE_PASSED, EventName.CHALLENGE_FAILED) if signs else ()),
            method=method,
            right=signature == SIGNATURE,
            fits=presented is not None and (presented.action, presented.binding) == (action, binding),
        ) as operation:
            ott = None if presented is None else presented.ott
            answer = await engine.protect(caller, action, binding, ott=ott, signature=signature)
            token = operation.token
            match answer:
                case Approved(token=None):
                    self.history.ran(
                        self.history.run("", caller.user_id, action.name, _name(binding)), failed=False
                    )
                    self._end(operation, answer, self._effect(EventName.SESSION_USED, caller))
                case Approved():
                    assert presented is not None
                    let = EventName.TOKEN_RESERVED if answer.reserved else EventName.TOKEN_SPENT
                    certain = [self._effect(let, caller, token)]
                    if signs and token not in self.signed:
                        # Once; one that was given back is not signed for again.
                        self.signed.add(token)
                        certain.append(self._effect(EventName.CHALLENGE_PASSED, caller, token, method))
                    await self._handle(engine, caller, presented, action, binding, reserved=answer.reserved)
                    self._end(operation, answer, *certain)
                case StepUp():
                    new = self._took(caller, action, binding, answer)
                    self._end(operation, answer, Effect(EventName.TOKEN_ISSUED, caller.user_id, new.token))
                case Wrong():
                    self._end(
                        operation, answer, self._effect(EventName.CHALLENGE_FAILED, caller, token, method)
                    )
                case Refusal():
                    self._end(operation, answer)

    def _took(self, caller: Caller, action: Action, binding: Binding, answer: StepUp) -> Got:
        new = Got(answer.ott, caller.user_id, action, binding)
        self.got.append(new)
        self.history.tokens[new.token] = Promised(
            user=caller.user_id,
            action=action.name,
            risk=action.risk,
            request=_name(binding) if action.bind is Bind.REQUEST else "",
            reserves=action.spend is Spend.ON_SUCCESS,
            challenges=tuple(
                tuple(method.value for method in challenge.methods) for challenge in answer.token.challenges
            ),
            # One signature stands for both; everybody else proves two things where the risk is high.
            factors=2 if action.risk is Risk.HIGH and not caller.signs else 1,
            issued_at=answer.token.issued_at,
        )
        return new

    async def _handle(
        self,
        engine: Engine,
        caller: Caller,
        presented: Got,
        action: Action,
        binding: Binding,
        *,
        reserved: bool,
    ) -> None:
        """Be the protected handler: say so first, then do it; crash, now and then."""
        run = self.history.run(presented.token, caller.user_id, action.name, _name(binding))
        await asyncio.sleep(self.chance.random() * self.handling if reserved else 0)
        fate = self.chance.random() if reserved else 0.0
        if fate > 0.9:
            return  # It crashed: nobody knows what it did.
        self.history.ran(run, failed=fate > 0.5)
        if reserved:
            settle, event = (
                (engine.release, EventName.TOKEN_RELEASED)
                if run.failed
                else (engine.confirm, EventName.TOKEN_SPENT)
            )
            # What was not settled in time, or revoked meanwhile, stays as it is: nobody is told.
            async with self._noted(Verb.SETTLE, caller, presented, event):
                await settle(caller, identify(presented.ott))

    # --- the challenges -----------------------------------------------------------------------

    async def verify(self, caller: Caller) -> None:
        """Answer a challenge, rightly or not."""
        ours = self._some(caller)
        if ours is None:
            return
        method = self.chance.choice(ANSWERED)
        right = self.chance.random() < self.skill
        events = (EventName.CHALLENGE_PASSED, EventName.CHALLENGE_FAILED)
        async with self._noted(Verb.VERIFY, caller, ours, *events, method=method, right=right) as operation:
            answer = await self._engine.verify(
                caller, ours.ott, method, RIGHT.get(method, CODE) if right else "000000"
            )
            told = {Snapshot: EventName.CHALLENGE_PASSED, Wrong: EventName.CHALLENGE_FAILED}.get(type(answer))
            self._end(operation, answer, *([self._effect(told, caller, ours.token, method)] if told else ()))

    async def trigger(self, caller: Caller) -> None:
        """Ask for a code."""
        ours = self._some(caller)
        if ours is None:
            return
        method = self.chance.choice((Method.SMS, Method.VOICE))
        sent = self._effect(EventName.CODE_SENT, caller, ours.token, method)
        events = (EventName.CODE_SENT, EventName.CODE_UNDELIVERED)
        async with self._noted(Verb.TRIGGER, caller, ours, *events, method=method) as operation:
            try:
                answer = await self._engine.trigger(caller, ours.ott, method)
            except DeliveryError as error:
                taken_back = self._effect(EventName.CODE_UNDELIVERED, caller, ours.token, method)
                self._end(operation, error, sent, possible=(taken_back,))
            else:
                self._end(operation, answer, *(() if isinstance(answer, Refusal) else (sent,)))

    async def status(self, caller: Caller) -> None:
        """Look at a token."""
        ours = self._some(caller)
        if ours is None:
            return
        async with self._noted(Verb.STATUS, caller, ours) as operation:
            answer = await self._engine.status(caller, ours.ott)
            left = None
            if isinstance(answer, Snapshot):
                left = sum(challenge.passed_by is None for challenge in answer.token.challenges)
            self._end(operation, answer, left=left)

    async def page(self, caller: Caller) -> None:
        """Open an approval page, or close the one that was opened last."""
        ours = self._some(caller)
        if ours is None or ours.user != caller.user_id:
            return
        pages = Pages(self._engine)
        handle = self.pages.pop(ours.token, None)
        event = EventName.PAGE_OPENED if handle is None else EventName.PAGE_CLOSED
        async with self._noted(Verb.PAGE, caller, ours, event) as operation:
            told = self._effect(event, caller, ours.token)
            if handle is None:
                opened = await pages.open(ours.ott)
                if not isinstance(opened, Refusal):
                    self.pages[ours.token] = opened.handle
                answer: object = opened
            else:
                answer = await pages.close(PageOf(token_id=identify(ours.ott), handle=handle, version=0))
            self._end(operation, answer, *(() if isinstance(answer, Refusal) else (told,)))

    # --- credentials --------------------------------------------------------------------------

    async def enrol(self, caller: Caller) -> None:
        """Enrol one device more, or remove one of these, or begin anew."""
        enrolment = self._engine.enrolment
        fate = 0.0 if caller.signs else self.chance.random()
        async with self._noted(Verb.ENROL, caller, None, EventName.CREDENTIALS_CHANGED) as operation:
            answer: object
            if fate < 0.2:
                await enrolment.set(caller.user_id, credentials(caller.user_id))
                answer = None
            elif fate < 0.6:
                name = f"device {self.chance.randrange(5)}"
                answer = await enrolment.add_device_fingerprint(caller.user_id, name)
            else:
                user = await enrolment.user(caller.user_id)
                # The first one stays: it is what clients answer with.
                more = [
                    each.id for each in user.credentials if isinstance(each, DeviceFingerprint)
                ][1:] if user else []  # fmt: skip
                answer = await enrolment.remove(
                    caller.user_id,
                    CredentialKind.DEVICE_FINGERPRINT,
                    self.chance.choice([*more, "unknown"]),
                )
            changed = self._effect(EventName.CREDENTIALS_CHANGED, caller)
            self._end(operation, answer, *(() if isinstance(answer, Refusal) else (changed,)))


def _name(binding: Binding) -> str:
    return repr(binding)


def make_engine(store: Store, clock: FixedClock, provider: Provider, entropy: ScriptedEntropy) -> Engine:
    """Make an engine as one process has it."""
    return Engine(
        store=store,
        clock=clock,
        entropy=entropy,
        methods=QuickMethods(),
        delivery=provider,
        limits=LIMITS,
    )


async def held_by(store: Store) -> Held:
    """Read all that a store holds."""
    events, after = [], 0
    while page := await store.events(after=after):
        after = page[-1][0]
        events += [event for _, event in page]
    tokens = {event.token_id for event in events if event.token_id is not None}
    users = {event.user_id for event in events if event.user_id is not None}
    found = [await store.token(TokenId(each)) for each in tokens]
    known = [await store.user(each) for each in users]
    return Held(
        events=events,
        tokens={token.id.hex(): token for token in found if token is not None},
        users={user.id: user for user in known if user is not None},
    )
