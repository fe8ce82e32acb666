"""
A seeded simulation: many clients, two processes, one store that fails in every way it may.

Clients call in random order with random answers; the store says that another was faster, fails
before it wrote, or after; messages get lost; the clock jumps. What was answered and what was
stored is then held against the invariants of the security plan. A seed repeats a run exactly.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from tests.engine.stores import OverStore
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
    Outbox,
    ScriptedEntropy,
    enrolled_fingerprint,
    enrolled_phone,
)
from watchword.delivery.base import DeliveryError
from watchword.domain.action import Action, Bind, Spend
from watchword.domain.application import Application, ApplicationId
from watchword.domain.binding import Binding, bind
from watchword.domain.challenge import all_passed
from watchword.domain.credential import Credential, DeviceFingerprint, Pin, PublicKey
from watchword.domain.decision import Change, Event, EventName, Refusal
from watchword.domain.destination import Destination
from watchword.domain.instant import after
from watchword.domain.limits import DAY_SECONDS, Limits
from watchword.domain.method import CredentialKind, Factor, Method
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import StoreContendedError
from watchword.engine.engine import Approved, Caller, Engine, Snapshot, StepUp, Wrong, identify
from watchword.methods.base import Verifier
from watchword.methods.keyring import Keyring
from watchword.methods.registry import Methods
from watchword.methods.signature import SignatureMethod
from watchword.store.base import Store, StoreUnavailableError
from watchword.store.memory import MemoryStore

SEEDS = 200
CLIENTS = 6
STEPS = 40
CHANGES = 0.01
"""How often somebody enrols or removes something, which voids all that is open."""
LIMITS = Limits(tokens_live=5, sends_per_number=6, disable_pin_after=0)
REQUESTS = {
    STATEMENT: [READ, bind("GET", b"/other", b"")],
    PAYMENT: [PAY, bind("POST", PAY.path.encode(), b"amount=2")],
    BATCH: [bind("POST", b"/batch", b""), bind("POST", b"/batch", b"", b"another body")],
}
ACTIONS = {action.name: action for action in REQUESTS}
PROGRAM = UserId(GRACE + 1)
"""Signs, and answers nothing else."""
USERS = (ADA, GRACE, PROGRAM)
RIGHT = {Method.PIN: PIN, Method.PARTNER_DEVICE_FINGERPRINT: FINGERPRINT}
NOT_TRIED = {
    EventName.CREDENTIAL_DISABLED,
    EventName.TOKEN_SPENT,  # Counted by how it was spent.
    *(name for name in EventName if name.value.startswith(("key.", "subject."))),  # Of applications.
}
SIGNATURE = "right"
ANSWERED = (*[Method.PIN] * 3, *[Method.PARTNER_DEVICE_FINGERPRINT] * 3, Method.SMS, Method.VOICE)

Maker = Callable[[], Store]


class QuickPin:
    """A PIN that costs nothing, so that 200 runs cost little."""

    slow = False

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        return answer == PIN and any(isinstance(entry, Pin) for entry in user.credentials)


class QuickSignature(SignatureMethod):
    """A signature that costs nothing either."""

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        return answer == SIGNATURE and any(isinstance(entry, PublicKey) for entry in user.credentials)


class QuickMethods(Methods):
    """The real methods, but for the PIN and signatures."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__(keyring)
        self.signature = QuickSignature()

    def verifier(self, method: Method) -> Verifier | None:
        return QuickPin() if method is Method.PIN else super().verifier(method)


class FaultyStore(OverStore):
    """Fails at random, as seeded; remembers what was stored without anybody being told."""

    def __init__(self, inner: Store, random: Random) -> None:
        super().__init__(inner)
        self.random = random
        self.calm = False
        self.lost = Counter[str]()

    async def _wait(self) -> None:
        """Let others go first, sometimes several times; sometimes do not answer at all."""
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)
        if not self.calm and self.random.random() < 0.01:
            raise StoreUnavailableError

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        await self._wait()
        return await self.inner.token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        await self._wait()
        return await self.inner.user(user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        await self._wait()
        return await self.inner.destination(destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        await self._wait()
        return await self.inner.application(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        await self._wait()
        return await self.inner.owner(owner_id)

    async def commit(self, change: Change) -> bool:
        await self._wait()
        fate = 1.0 if self.calm else self.random.random()
        if fate < 0.03:
            raise StoreUnavailableError
        if fate < 0.10:
            return False
        stored = await self.inner.commit(change)
        if stored and fate < 0.14:
            self.lost.update(key(event) for event in change.events)
            raise StoreUnavailableError
        return stored


class Unversioned(MemoryStore):
    """A store that is broken: it writes whatever it is given."""

    def _versions(self, change: Change) -> "list[tuple[int, int]]":  # type: ignore[override]
        return []


def key(event: Event) -> str:
    """Name an event; of a spent token also how it was spent."""
    if event.name is EventName.TOKEN_SPENT:
        return f"{event.name.value} {ACTIONS[str(event.details['action'])].spend.value}"
    return event.name.value


@dataclass
class Issued:
    """An OTT as its client got it."""

    ott: str
    user_id: UserId
    action: Action
    binding: Binding


@dataclass
class Run:
    """One simulation: what was answered, to be held against what was stored."""

    random: Random
    store: FaultyStore
    clock: FixedClock
    outbox: Outbox
    engines: list[Engine]
    issued: list[Issued] = field(default_factory=list[Issued])
    answered: Counter[str] = field(default_factory=Counter[str])
    given: Counter[tuple[str, Method]] = field(default_factory=Counter[tuple[str, Method]])
    passed: list[tuple[str, Method]] = field(default_factory=list[tuple[str, Method]])
    busy: Counter[str] = field(default_factory=Counter[str])
    done: Counter[str] = field(default_factory=Counter[str])
    signed: set[str] = field(default_factory=set[str])
    log: list[str] = field(default_factory=list[str])
    skill: float = 1.0

    # --- what clients do ----------------------------------------------------------------------

    async def client(self) -> None:
        personal = [self.protect] * 4 + [self.verify] * 12 + [self.trigger] * 3 + [self.look, self.world]
        for _ in range(STEPS):
            user_id = self.random.choice((ADA, ADA, ADA, ADA, GRACE, GRACE, PROGRAM))
            signs = user_id == PROGRAM
            step = self.random.choice([self.protect] if signs else personal)
            if self.random.random() < CHANGES:
                step = self.change
            try:
                await step(Caller(user_id, signs=signs))
            except (StoreUnavailableError, StoreContendedError) as error:
                self.log.append(type(error).__name__)

    def some(self, caller: Caller) -> Issued | None:
        """Choose one of the last tokens: mostly the caller's own."""
        own = [entry for entry in self.issued if entry.user_id == caller.user_id]
        lot = (own if self.random.random() < 0.95 else self.issued)[-3:]
        return self.random.choice(lot) if lot else None

    async def protect(self, caller: Caller) -> None:
        presented = self.some(caller) if self.random.random() < 0.9 else None
        action = self.random.choice(list(REQUESTS))
        binding = self.random.choice(REQUESTS[action])
        if presented is not None and self.random.random() < 0.95:
            action, binding = presented.action, presented.binding
        ott = None if presented is None else presented.ott
        engine = self.random.choice(self.engines)
        signature = None
        if caller.signs and presented is not None:
            signature = SIGNATURE if self.random.random() < self.skill else "wrong"
            self.given[presented.ott, Method.SIGNATURE] += signature == SIGNATURE
        answer = await engine.protect(caller, action, binding, ott=ott, signature=signature)
        self.log.append(repr(answer))
        if isinstance(answer, Wrong):
            assert signature == "wrong"
            self.answered["challenge.failed"] += 1
        elif isinstance(answer, StepUp):
            self.answered["token.issued"] += 1
            self.issued.append(Issued(answer.ott, caller.user_id, action, binding))
        elif isinstance(answer, Approved) and answer.token is None:
            self.answered["session.used"] += 1
            assert action.risk == "low", "high risk passed without a token"
        elif isinstance(answer, Approved):
            assert presented is not None
            if caller.signs and presented.ott not in self.signed:
                # Once; one that was given back is not signed for again.
                self.signed.add(presented.ott)
                self.answered["challenge.passed"] += 1
                self.passed.append((presented.ott, Method.SIGNATURE))
            await self.handle(engine, caller, action, binding, presented, answer)

    async def handle(
        self, engine: Engine, caller: Caller, action: Action, binding: Binding, ours: Issued, answer: Approved
    ) -> None:
        """Run the protected handler, once the engine said that it may."""
        assert answer.token is not None
        on_success = action.spend is Spend.ON_SUCCESS
        assert answer.reserved == on_success
        self.answered["token.reserved" if on_success else "token.spent before"] += 1
        # I2: what runs is what the token was issued for.
        assert (caller.user_id, action) == (ours.user_id, ours.action)
        assert action.bind is Bind.ACTION or binding == ours.binding
        # I3: and all of it was passed, with enough factors.
        methods = [challenge.passed_by for challenge in answer.token.challenges]
        assert all_passed(answer.token.challenges)
        assert len({method.factor for method in methods if method}) >= answer.token.factors
        # I1: and nobody else runs under it, nor did.
        assert not self.busy[ours.ott], "two handlers at once"
        assert not self.done[ours.ott], "a second run"
        self.busy[ours.ott] += 1
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        fate = self.random.random() if on_success else 0.0
        if fate < 0.5:
            self.done[ours.ott] += 1
        if fate < 0.8:
            self.busy[ours.ott] -= 1
        if on_success and fate < 0.5:
            await engine.confirm(caller, identify(ours.ott))
        elif fate < 0.8:
            await engine.release(caller, identify(ours.ott))
        # Else it crashed, and stays busy for ever.

    async def verify(self, caller: Caller) -> None:
        ours = self.some(caller)
        if ours is None:
            return
        method = self.random.choice(ANSWERED)
        right = self.random.random() < self.skill
        if right:
            self.given[ours.ott, method] += 1
        answer = await self.random.choice(self.engines).verify(
            caller, ours.ott, method, RIGHT.get(method, CODE) if right else "000000"
        )
        self.log.append(repr(answer))
        if isinstance(answer, Wrong):
            assert not right or method.is_code
            self.answered["challenge.failed"] += 1
        elif isinstance(answer, Snapshot):
            assert right, "a wrong answer passed"
            self.answered["challenge.passed"] += 1
            self.passed.append((ours.ott, method))

    async def trigger(self, caller: Caller) -> None:
        ours = self.some(caller)
        if ours is None:
            return
        method = self.random.choice((Method.SMS, Method.VOICE))
        try:
            answer = await self.random.choice(self.engines).trigger(caller, ours.ott, method)
            self.log.append(repr(answer))
        except DeliveryError:
            self.log.append("undelivered")

    async def look(self, caller: Caller) -> None:
        ours = self.some(caller)
        if ours is not None:
            self.log.append(repr(await self.random.choice(self.engines).status(caller, ours.ott)))

    async def world(self, caller: Caller) -> None:
        """Let something happen outside: time, the provider, an administrator."""
        match self.random.randrange(4):
            case 0:
                self.clock.advance(self.random.choice((1, 31, 31, 61, 301, 901)))
            case 1:
                self.outbox.down = not self.outbox.down
            case 2 if self.random.random() < 0.2:
                await self.anew(caller)
            case _:
                self.clock.advance(0.5)

    async def change(self, caller: Caller) -> None:
        """Enrol one device more, or remove one of these, or begin anew."""
        enrolment = self.random.choice(self.engines).enrolment
        fate = self.random.random()
        if caller.signs or fate < 0.2:
            await self.anew(caller)
            return
        answer: object
        if fate < 0.6:
            name = f"device {self.random.randrange(5)}"
            answer = await enrolment.add_device_fingerprint(caller.user_id, name)
        else:
            user = await enrolment.user(caller.user_id)
            assert user is not None
            # The first one stays: it is what clients answer with.
            more = [each.id for each in user.credentials if isinstance(each, DeviceFingerprint)][1:]
            answer = await enrolment.remove(
                caller.user_id, CredentialKind.DEVICE_FINGERPRINT, self.random.choice([*more, "unknown"])
            )
        self.log.append(repr(answer))
        self.answered["credentials.changed"] += not isinstance(answer, Refusal)

    async def anew(self, caller: Caller) -> None:
        await self.engines[0].enrolment.set(caller.user_id, credentials(caller.user_id))
        self.answered["credentials.changed"] += 1

    # --- what must hold -----------------------------------------------------------------------

    async def check(self) -> None:
        events = [event for _, event in await self.store.inner.events(limit=100_000)]
        await self._passed_stays_passed()
        self._each_answer_has_its_event(events)
        for user_id in USERS:
            theirs = [event for event in events if event.user_id == user_id]
            self._guesses_are_limited(theirs)
            self._credentials_void_tokens(theirs)
            self._sends_are_limited(theirs)
            await self._few_are_open(user_id)
            await self._few_are_enrolled(user_id)

    async def _passed_stays_passed(self) -> None:
        """I3 and I4: passed is exactly what was answered right, and stays so."""
        for entry in self.issued:
            token = await self.store.inner.token(identify(entry.ott))
            assert token is not None
            for challenge in token.challenges:
                if challenge.passed_by is not None:
                    assert self.given[entry.ott, challenge.passed_by], "passed without a right answer"
        for ott, method in self.passed:
            token = await self.store.inner.token(identify(ott))
            assert token is not None
            assert any(challenge.passed_by is method for challenge in token.challenges), "a pass was lost"

    def _each_answer_has_its_event(self, events: list[Event]) -> None:
        """I6 and I7: an event for each answer, and no other but those whose answer was lost."""
        stored = Counter(key(event) for event in events)
        for name in (
            "token.issued",
            "challenge.failed",
            "challenge.passed",
            "token.spent before",
            "token.reserved",
            "session.used",
            "credentials.changed",
        ):
            assert stored[name] == self.answered[name] + self.store.lost[name], name
        assert len(self.outbox.messages) <= stored["code.sent"]

    def _guesses_are_limited(self, events: list[Event]) -> None:
        """I5: never more failures than the limit before a lock, and nothing while it lasts."""
        locked_until = NOW
        row: dict[Factor | None, int] = dict.fromkeys((*Factor, None), 0)
        for event in events:
            if event.name in {
                EventName.CHALLENGE_FAILED,
                EventName.CHALLENGE_PASSED,
                EventName.TOKEN_ISSUED,
            }:
                assert event.at >= locked_until, "something happened during a lock"
            if event.name is EventName.CREDENTIALS_CHANGED and event.details:
                assert event.at >= locked_until, "he changed something while he was locked"
            if event.name is EventName.CHALLENGE_FAILED:
                for factor in (Method(str(event.details["method"])).factor, None):
                    row[factor] += 1
            elif event.name is EventName.CHALLENGE_PASSED:
                for factor in (Method(str(event.details["method"])).factor, None):
                    row[factor] = 0
            elif event.name is EventName.USER_LOCKED:
                assert LIMITS.failures in row.values(), "locked too early"
                # The lock consumes the counts that led to it, and no others.
                led = {factor for factor, count in row.items() if count >= LIMITS.failures} | {None}
                row = {factor: 0 if factor in led else count for factor, count in row.items()}
                locked_until = after(event.at, LIMITS.lock_seconds)
            assert max(row.values()) <= LIMITS.failures, "too many guesses"

    def _credentials_void_tokens(self, events: list[Event]) -> None:
        issued_at: dict[TokenId | None, int] = {}
        changed_at = -1
        for index, event in enumerate(events):
            if event.name is EventName.CREDENTIALS_CHANGED:
                changed_at = index
            elif event.name is EventName.TOKEN_ISSUED:
                issued_at[event.token_id] = index
            elif event.name in {EventName.TOKEN_RESERVED, EventName.TOKEN_SPENT, EventName.CHALLENGE_PASSED}:
                assert issued_at[event.token_id] > changed_at, "a token outlived its credentials"

    def _sends_are_limited(self, events: list[Event]) -> None:
        sent = [event.at for event in events if event.name is EventName.CODE_SENT]
        for start in sent:
            window = [at for at in sent if start <= at < after(start, DAY_SECONDS)]
            assert len(window) <= LIMITS.sends_per_number, "too many codes to one number"

    async def _few_are_open(self, user_id: UserId) -> None:
        stored = [await self.store.inner.token(identify(entry.ott)) for entry in self.issued]
        theirs = [token for token in stored if token is not None and token.user_id == user_id]
        now = self.clock.now()
        assert sum(token.is_open(limits=LIMITS, now=now) for token in theirs) <= LIMITS.tokens_live

    async def _few_are_enrolled(self, user_id: UserId) -> None:
        user = await self.store.inner.user(user_id)
        assert user is not None
        devices = [each.digest for each in user.credentials if isinstance(each, DeviceFingerprint)]
        assert len(set(devices)) == len(devices) <= LIMITS.device_fingerprints


def credentials(user_id: UserId) -> tuple[Credential, ...]:
    if user_id == PROGRAM:
        return (PublicKey(id="key", spki=b"", enrolled_at=NOW),)
    return (
        Pin(id="pin", sealed=b"", enrolled_at=NOW),
        enrolled_phone(user_id, f"+65{user_id:08}"),
        enrolled_fingerprint(user_id),
    )


async def simulate(seed: int, make_store: Maker = MemoryStore) -> Run:
    """Run one simulation to its end and check it."""
    random = Random(seed)
    store = FaultyStore(make_store(), random)
    clock, outbox, entropy = FixedClock(), Outbox(), ScriptedEntropy()
    engines = [
        Engine(
            store=store,
            clock=clock,
            entropy=entropy,
            methods=QuickMethods(KEYRING),
            delivery=outbox,
            limits=LIMITS,
        )
        for _ in range(2)
    ]
    run = Run(random, store, clock, outbox, engines, skill=random.choice((0.3, 0.85, 0.85)))
    store.calm = True
    for user_id in USERS:
        await run.anew(Caller(user_id))
    store.calm = False
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(run.client())
    store.calm = True
    await run.check()
    return run


@pytest.mark.attack(25)
@pytest.mark.attack(157)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_invariants_hold_whatever_happens_in_whatever_order(seed: int) -> None:
    await simulate(seed)


async def test_a_seed_repeats_its_run_exactly() -> None:
    one, two = await simulate(7), await simulate(7)
    assert one.log == two.log
    assert one.log != (await simulate(8)).log


async def test_the_runs_reach_what_they_are_meant_to_try() -> None:
    total, lost = Counter[str](), Counter[str]()
    for seed in range(30):
        run = await simulate(seed)
        total += Counter(key(event) for _, event in await run.store.inner.events(limit=100_000))
        lost += run.store.lost
    for name in EventName:
        if name not in NOT_TRIED:
            assert total[name.value] > 0, name
    assert total["token.spent before"] > 20
    assert total["token.spent on-success"] > 5
    assert total["user.locked"] > 5
    assert total["credentials.changed"] > 30 * len(USERS) + 20
    assert lost["token.spent before"] > 0
    assert lost["challenge.failed"] > 0


async def test_a_store_that_does_not_compare_versions_is_found_out() -> None:
    found = 0
    for seed in range(20):
        try:
            await simulate(seed, Unversioned)
        except* AssertionError:
            found += 1
    assert found > 10
