"""
What clients asked and were told, what handlers ran, and what went wrong on purpose, in one order.

Each call of a client is noted twice: before it is made, and once its answer is there. A call whose
answer never came stays *unknown*: whatever it asked for may have happened, or may happen yet. Each
run of a protected handler is noted by the handler itself, outside the server, before it answers.
The ``checker`` goes by this and by what the store holds at the end, and by nothing else.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import NamedTuple

from watchword.domain.action import Risk
from watchword.domain.decision import Event, EventName
from watchword.domain.instant import NEVER, Instant
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserSecurity


class Outcome(StrEnum):
    """What a client knows of his call."""

    OK = "ok"
    """It was answered, and did what it was for."""
    FAIL = "fail"
    """It was answered, and refused."""
    UNKNOWN = "unknown"
    """It was not answered, or with an error that tells nothing."""


class FaultKind(StrEnum):
    """What is made to go wrong."""

    SERVER_KILLED = "server killed"
    SERVER_FROZEN = "server frozen"
    CLOCK_BACK = "clock back"
    CLOCK_FORWARD = "clock forward"
    PROVIDER_DOWN = "provider down"
    PROVIDER_SLOW = "provider slow"
    DISK_FULL = "disk full"
    FILE_LOCKED = "file locked"
    POWER_LOST = "power lost"
    STORE_KILLED = "store killed"
    STORE_FROZEN = "store frozen"
    FAIL_OVER = "fail-over"
    """Another copy of the data goes on, which may not have all of it."""
    PARTITION = "partition"
    CUT_BEFORE = "cut before the commit arrived"
    CUT_AFTER = "cut after the commit arrived"
    DELAYED = "link delayed"
    BLACKHOLE = "link dead without a word"


class Verb(StrEnum):
    """What a client asks for."""

    REQUEST = "request"
    """A protected request, with an OTT or without."""
    STATUS = "status"
    TRIGGER = "trigger"
    VERIFY = "verify"
    SETTLE = "settle"
    """The end of a handler: confirm or release."""
    ENROL = "enrol"
    PAGE = "page"


class Effect(NamedTuple):
    """
    A change as the audit trail tells it.

    Attributes:
        token: The stored id of the token, in hexadecimal; empty for one that no client got to know.
        note: The method, where there is one.
    """

    event: EventName
    user: int
    token: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """
    A token as whoever made the policy knows it, without asking the server.

    Attributes:
        request: What names the one request that it is good for; empty for any of its action.
        challenges: The methods that pass each challenge.
        factors: How many different factors they have to be of.
    """

    user: int
    action: str
    risk: Risk
    request: str
    reserves: bool
    challenges: tuple[tuple[str, ...], ...]
    factors: int
    issued_at: Instant


@dataclass(slots=True, kw_only=True)
class Operation:
    """
    One call of one client.

    Attributes:
        began, ended: Places in the order of all that was noted.
        since, until: What the server's clock showed then.
        latest: The latest that it ever showed until the end.
        epoch: How often the server's clock had gone back by then; None if it did in between.
        fits: A request is the one that its OTT was issued for.
        certain: What happened, by the answer.
        possible: What may have happened besides.
        left: How many challenges a status showed as not passed.
        locked: For how many seconds the user is locked, as he was told.
    """

    verb: Verb
    user: int
    token: str
    method: str
    right: bool
    began: int
    since: Instant
    epoch: int | None
    fits: bool
    possible: tuple[Effect, ...]
    ended: int | None = None
    until: Instant = NEVER
    latest: Instant = NEVER
    outcome: Outcome = Outcome.UNKNOWN
    answer: str = ""
    certain: tuple[Effect, ...] = ()
    left: int | None = None
    locked: int = 0


@dataclass(slots=True, kw_only=True)
class Run:
    """
    One run of a protected handler; an ``ended`` of None is one that crashed, or still runs.

    Attributes:
        token: The token it ran under; empty for a session.
        failed: The handler said that it did nothing.
    """

    token: str
    user: int
    action: str
    request: str
    began: int
    ended: int | None = None
    failed: bool = False


@dataclass(slots=True)
class Mark:
    """A fault: its kind, and from where to where in the order of all it lasted."""

    fault: FaultKind
    began: int
    ended: int | None = None


@dataclass(slots=True)
class History:
    """All that was noted, in order."""

    operations: list[Operation] = field(default_factory=list[Operation])
    runs: list[Run] = field(default_factory=list[Run])
    marks: list[Mark] = field(default_factory=list[Mark])
    tokens: dict[str, Promised] = field(default_factory=dict[str, Promised])
    _noted: int = 0
    _clock: Instant = NEVER
    _latest: Instant = NEVER
    _went_back: int = 0

    def begin(
        self,
        verb: Verb,
        user: int,
        *,
        now: Instant,
        token: str = "",
        method: str = "",
        right: bool = False,
        fits: bool = False,
        possible: Iterable[Effect] = (),
    ) -> Operation:
        """Note that a call is about to be made; until it ends, its outcome is unknown."""
        began = self._next(now)
        operation = Operation(
            verb=verb,
            user=user,
            token=token,
            method=method,
            right=right,
            began=began,
            since=now,
            epoch=self._went_back,
            fits=fits,
            possible=tuple(possible),
        )
        self.operations.append(operation)
        return operation

    def end(
        self,
        operation: Operation,
        outcome: Outcome,
        answer: str,
        *,
        now: Instant,
        certain: Iterable[Effect] = (),
        possible: Iterable[Effect] | None = (),
        left: int | None = None,
        locked: int = 0,
    ) -> None:
        """Note the answer to a call; *possible* None leaves open all that was possible before."""
        operation.ended, operation.until = self._next(now), now
        operation.latest = self._latest
        if operation.epoch != self._went_back:
            operation.epoch = None
        operation.outcome, operation.answer = outcome, answer
        operation.left, operation.locked = left, locked
        operation.certain = tuple(certain)
        if possible is not None:
            operation.possible = tuple(possible)

    def run(self, token: str, user: int, action: str, request: str) -> Run:
        """Note that a protected handler begins."""
        run = Run(token=token, user=user, action=action, request=request, began=self._next())
        self.runs.append(run)
        return run

    def ran(self, run: Run, *, failed: bool) -> None:
        """Note that a protected handler is done."""
        run.ended, run.failed = self._next(), failed

    def mark(self, fault: FaultKind) -> Mark:
        """Note a fault that is being made."""
        mark = Mark(fault, self._next())
        self.marks.append(mark)
        return mark

    def mended(self, mark: Mark) -> None:
        """Note that a fault is over."""
        mark.ended = self._next()

    def tick(self, now: Instant) -> None:
        """Note what the server's clock shows, also where it shows it to nobody."""
        self._went_back += now < self._clock
        self._clock, self._latest = now, max(self._latest, now)

    def _next(self, now: Instant | None = None) -> int:
        self._noted += 1
        if now is not None:
            self.tick(now)
        return self._noted

    def lines(self) -> list[str]:
        """Return everything as lines of JSON, to be kept, or compared with another run's."""
        noted: list[tuple[int, str, Operation | Run | Mark]] = [
            *((each.began, "operation", each) for each in self.operations),
            *((each.began, "run", each) for each in self.runs),
            *((each.began, "fault", each) for each in self.marks),
        ]
        noted.sort(key=lambda entry: entry[0])
        return [json.dumps({"what": what} | asdict(entry)) for _, what, entry in noted]


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds at the end, read once nobody writes any more."""

    events: Sequence[Event]
    tokens: dict[str, OneTimeToken]
    users: dict[int, UserSecurity]
