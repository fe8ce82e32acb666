"""
Clients over HTTP: they pay, answer rightly and wrongly, try again, send things twice, and guess.

Each goes by what it was told and by nothing else; each call is noted in the history before it is
made. What is not answered, or answered with an error that tells nothing, stays unknown.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tests.faults.bank import name_of
from tests.faults.deployment import PIN, Deployment, Holder, Provider
from tests.faults.history import Effect, FaultKind, Operation, Outcome, Promised, Verb
from tests.system.wire import Answer, AsyncWire, encode
from watchword.domain.action import Risk
from watchword.domain.decision import EventName
from watchword.domain.method import Method
from watchword.engine.engine import identify

ANSWER_SECONDS = 12.0
THINKING_SECONDS = 0.03
WRONG = 0.1
LATER = 0.3
"""How often somebody who has passed every challenge goes on to something else first."""
NEW_PIN = 0.04
"""How often somebody with a PIN takes another one, which is the same."""
KEPT = 3
"""How many such there are before he comes back to one."""
AGAIN = 0.3
"""How often somebody tries once more what he had before."""
REMEMBERED = 10
"""How many of these he chooses from; after trouble, and at the end, he tries all of them."""
LAST_SECONDS = 10.0
"""For how long he does so at the end."""
LOCKED = "sca.locked"
ENROLLED = "pin.already.setup"
_PATHS = {
    Method.PIN: ("pin", "pin"),
    Method.PARTNER_DEVICE_FINGERPRINT: ("partner-device-fingerprint", "deviceFingerprint"),
    Method.SMS: ("sms", "otpCode"),
}
_INCORRECT = frozenset({"pin.incorrect", "otp.incorrect", "device.fingerprint.incorrect"})


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be done that is protected."""

    action: str
    risk: Risk
    method: str
    target: str
    body: bytes
    methods: tuple[Method, ...]
    reserves: bool = False
    bound: bool = True

    @property
    def name(self) -> str:
        """What bank and client call the request."""
        return name_of(self.method, self.target, self.body)


_NUMBERS = count(1)


def errand(chance: Random) -> Errand:
    """Think of something to do."""
    number = next(_NUMBERS)
    body = b'{"amount": %d}' % number
    match chance.randrange(3):
        case 0:
            return Errand(
                "STATEMENT__GET",
                Risk.LOW,
                "GET",
                f"/statements/{number}",
                b"",
                (Method.PARTNER_DEVICE_FINGERPRINT,),
                bound=False,
            )
        case 1:
            return Errand("PAYMENT__MAKE", Risk.LOW, "POST", f"/payments/{number}", body, (Method.SMS,))
        case _:
            return Errand(
                "BATCH__MAKE",
                Risk.HIGH,
                "POST",
                f"/batches/{number}",
                body,
                (Method.PIN, Method.PARTNER_DEVICE_FINGERPRINT),
                reserves=True,
            )


@dataclass
class Counts:
    """What became of all calls."""

    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    statuses: Counter[int] = field(default_factory=Counter[int])
    unexpected: list[str] = field(default_factory=list[str])
    slowest: dict[FaultKind, float] = field(default_factory=dict[FaultKind, float])
    """The longest that somebody waited for a 503, by the fault that was made last."""


@dataclass
class Client:
    """One person with his program."""

    deployment: Deployment
    provider: Provider
    holder: Holder
    chance: Random
    counts: Counts
    guesses: bool = False
    stopped: bool = False
    _wires: list[AsyncWire] = field(default_factory=list[AsyncWire])
    _otts: list[tuple[str, Errand]] = field(default_factory=list[tuple[str, Errand]])
    _troubled: bool = False
    _kept: list[tuple[str, Errand]] = field(default_factory=list[tuple[str, Errand]])

    async def live(self) -> None:
        """Do one thing after the other, until stopped; then try once more all that may have been done."""
        while not self.stopped:
            if self.guesses:
                await self._guess()
            else:
                await self._do(errand(self.chance))
                if self.chance.random() < NEW_PIN:
                    await self._change_pin()
            await asyncio.sleep(self.chance.random() * THINKING_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._try_all_again()
        for wire in self._wires:
            wire.close()

    # --- what people do -----------------------------------------------------------------------

    async def _do(self, what: Errand) -> None:
        ott = await self._request(what)
        if ott is None:
            self._troubled = True
            return
        if self._troubled:
            self._troubled = False
            await self._try_all_again()
        self._otts.append((ott, what))
        for method in what.methods:
            if self.chance.random() < 0.2:
                await self._status(ott)
            if not await self._pass(ott, method):
                break
        if self.chance.random() < LATER:
            self._kept.append((ott, what))
            if len(self._kept) < KEPT:
                return
            ott, what = self._kept.pop(self.chance.randrange(KEPT))
            self._otts.append((ott, what))
        if self.chance.random() < 0.3:
            await self._status(ott)
        # Some press the button twice; some, later, once more.
        twice = 2 if self.chance.random() < 0.2 else 1
        await asyncio.gather(*(self._request(what, ott) for _ in range(twice)))
        if self.chance.random() < AGAIN:
            old, errand_of_old = self.chance.choice(self._otts[-REMEMBERED:])
            await self._request(errand_of_old, old)

    async def _try_all_again(self) -> None:
        """Take it that whatever was broken has forgotten what was spent."""
        for ott, what in self._otts[-REMEMBERED:]:
            await self._request(what, ott)

    async def _pass(self, ott: str, method: Method) -> bool:
        """Answer one challenge, as often as a person would try."""
        for _ in range(3):
            if self.stopped:
                return False
            if method is Method.SMS:
                await self._trigger(ott)
            if await self._verify(ott, method, right=self.chance.random() >= WRONG):
                return True
        return False

    async def _change_pin(self) -> None:
        """Remove the PIN and enrol one; what was not answered is asked for again."""
        await self._enrol("DELETE", f"/v2/profiles/{self.holder.user}/pin")
        for _ in range(3):
            if self.stopped or await self._enrol("POST", "/v1/user/pin", {"pin": PIN}):
                return

    async def _guess(self) -> None:
        """Guess from three places at once: PINs and devices, never the right one."""
        what = errand(Random(2 if self.chance.random() < 0.5 else 1))
        ott = await self._request(what)
        if ott is not None:
            method = self.chance.choice([each for each in what.methods if each is not Method.SMS] or [None])
            if method is not None:
                await asyncio.gather(*(self._verify(ott, method, right=False) for _ in range(3)))
        else:
            await asyncio.sleep(0.2)

    # --- the calls ----------------------------------------------------------------------------

    async def _request(self, what: Errand, ott: str | None = None) -> str | None:
        """Make the protected request; return the new OTT where it was answered with one."""
        token = "" if ott is None else identify(ott).hex()
        let = EventName.TOKEN_RESERVED if what.reserves else EventName.TOKEN_SPENT
        # What the guard does at the end of a handler its client cannot see.
        after = (EventName.TOKEN_SPENT, EventName.TOKEN_RELEASED) if what.reserves else ()
        events = [EventName.TOKEN_ISSUED, *([let, *after] if ott else [])]
        operation = self._begin(Verb.REQUEST, token, events, fits=ott is not None)
        headers = [("x-2fa-approval", ott)] if ott else []
        answer = await self._exchange(what.method, what.target, headers, what.body or None)
        if answer is None:
            return None
        if answer.header("x-2fa-approval-result") == "APPROVED" and ott is None:
            self.counts.unexpected.append(f"{what.name} was let through without an OTT: {answer}")
        elif answer.header("x-2fa-approval-result") == "APPROVED":
            possible = [self._effect(event, token) for event in after]
            self._end(operation, Outcome.OK, answer, self._effect(let, token), possible=possible)
        elif answer.status == 403 and (new := answer.header("x-2fa-approval")) is not None:
            issued = identify(new).hex()
            self.deployment.history.tokens[issued] = Promised(
                user=self.holder.user,
                action=what.action,
                risk=what.risk,
                request=what.name if what.bound else "",
                reserves=what.reserves,
                challenges=tuple((method.value,) for method in what.methods),
                factors=2 if what.risk is Risk.HIGH else 1,
                issued_at=operation.since,
            )
            self._end(operation, Outcome.OK, answer, Effect(EventName.TOKEN_ISSUED, self.holder.user, issued))
            return new
        else:
            self._end_otherwise(operation, answer)
        return None

    async def _status(self, ott: str) -> None:
        token = identify(ott).hex()
        operation = self._begin(Verb.STATUS, token, [])
        answer = await self._exchange("GET", "/v1/one-time-token/status", [("One-Time-Token", ott)])
        if answer is not None and answer.status == 200:
            left = len(answer.json()["oneTimeTokenProperties"]["challenges"])
            self._end(operation, Outcome.OK, answer, left=left)
        elif answer is not None:
            self._end_otherwise(operation, answer)

    async def _trigger(self, ott: str) -> None:
        token, method = identify(ott).hex(), Method.SMS
        events = [EventName.CODE_SENT, EventName.CODE_UNDELIVERED]
        operation = self._begin(Verb.TRIGGER, token, events, method=method)
        answer = await self._about(ott, "sms/trigger", None)
        if answer is not None and answer.status == 200:
            self._end(operation, Outcome.OK, answer, self._effect(EventName.CODE_SENT, token, method))
        elif answer is not None:
            self._end_otherwise(operation, answer)

    async def _verify(self, ott: str, method: Method, *, right: bool) -> bool:
        token = identify(ott).hex()
        answers = {
            Method.PIN: PIN,
            Method.PARTNER_DEVICE_FINGERPRINT: self.holder.device,
            Method.SMS: self.provider.codes.get(self.holder.number, "000000"),
        }
        wrong = {
            Method.PIN: f"{self.chance.randrange(7000):04d}",
            Method.PARTNER_DEVICE_FINGERPRINT: f"another-device-{self.chance.random()}",
            Method.SMS: "000000",
        }
        events = [EventName.CHALLENGE_PASSED, EventName.CHALLENGE_FAILED]
        operation = self._begin(Verb.VERIFY, token, events, method=method, right=right)
        path, field_ = _PATHS[method]
        said = (answers if right else wrong)[method]
        answer = await self._about(ott, f"{path}/verify", {field_: said})
        if answer is None:
            return False
        if answer.status == 200:
            self._end(operation, Outcome.OK, answer, self._effect(EventName.CHALLENGE_PASSED, token, method))
            return True
        if answer.status == 400 and answer.code in _INCORRECT:
            self._end(operation, Outcome.OK, answer, self._effect(EventName.CHALLENGE_FAILED, token, method))
        else:
            self._end_otherwise(operation, answer)
        return False

    async def _enrol(self, method: str, target: str, body: object = None) -> bool:
        """Change what is enrolled; say whether that is as it should be now."""
        operation = self._begin(Verb.ENROL, "", [EventName.CREDENTIALS_CHANGED])
        content = None if body is None else json.dumps(body).encode()
        answer = await self._exchange(method, target, [("Content-Type", "application/json")], content)
        if answer is not None and answer.status < 300:
            self._end(operation, Outcome.OK, answer, self._effect(EventName.CREDENTIALS_CHANGED, ""))
            return True
        if answer is not None:
            self._end_otherwise(operation, answer)
        return answer is not None and answer.code == ENROLLED

    # ------------------------------------------------------------------------------------------

    def _begin(
        self,
        verb: Verb,
        token: str,
        events: Sequence[EventName],
        *,
        method: Method | None = None,
        right: bool = False,
        fits: bool = False,
    ) -> Operation:
        return self.deployment.history.begin(
            verb,
            self.holder.user,
            now=self.deployment.now(),
            token=token,
            method="" if method is None else method.value,
            right=right,
            fits=fits,
            possible=[self._effect(event, token, method) for event in events],
        )

    def _effect(self, event: EventName, token: str, method: Method | None = None) -> Effect:
        known = "" if event is EventName.TOKEN_ISSUED else token
        return Effect(event, self.holder.user, known, "" if method is None else method.value)

    def _end(
        self,
        operation: Operation,
        outcome: Outcome,
        answer: Answer,
        *certain: Effect,
        possible: Sequence[Effect] = (),
        left: int | None = None,
        locked: int = 0,
    ) -> None:
        self.deployment.history.end(
            operation,
            outcome,
            str(answer.status),
            now=self.deployment.now(),
            certain=certain,
            possible=possible,
            left=left,
            locked=locked,
        )

    def _end_otherwise(self, operation: Operation, answer: Answer) -> None:
        """Note an answer that did nothing, or that tells nothing."""
        if answer.status >= 500:
            operation.answer = f"{answer.status} {answer.code}"
            if answer.status != 503:
                self.counts.unexpected.append(f"{operation.verb} of {operation.user}: {answer}")
            return
        locked = 0
        if answer.status == 429 and answer.code == LOCKED:
            locked = int(answer.header("retry-after") or 0)
        self._end(operation, Outcome.FAIL, answer, locked=locked)

    async def _about(self, ott: str, path: str, body: object) -> Answer | None:
        content = b"" if body is None else json.dumps(body).encode()
        headers = [("One-Time-Token", ott), ("Content-Type", "application/json")]
        return await self._exchange("POST", f"/v1/one-time-token/{path}", headers, content)

    async def _exchange(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None = None
    ) -> Answer | None:
        """Make one call; None where no answer came."""
        await self.deployment.up.wait()
        given = [("Authorization", f"Bearer {self.holder.bearer}"), *headers]
        asked = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._over_some_wire(encode(method, target, given, body))
        except (OSError, TimeoutError):
            return None
        self.counts.statuses[answer.status] += 1
        if answer.status == 503 and (marks := self.deployment.history.marks):
            slowest, fault = self.counts.slowest, marks[-1].fault
            slowest[fault] = max(slowest.get(fault, 0.0), time.monotonic() - asked)
        return answer

    async def _over_some_wire(self, request: bytes) -> Answer:
        wire = self._wires.pop() if self._wires else await AsyncWire.open(self.deployment.address)
        try:
            answer = await wire.send(request)
        except BaseException:
            wire.close()
            raise
        self._wires.append(wire)
        return answer
