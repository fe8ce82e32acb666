"""
Proves from a history, and from what the store holds at the end, that nothing happened that must not.

Pure: it asks nobody. Each rule is a generator of violations; a call whose outcome is unknown counts
as one that may have happened, and may not. None of them trusts the server about what it let through:
that is what handlers wrote down themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from tests.faults.history import (
    Effect,
    FaultKind,
    Held,
    History,
    Mark,
    Operation,
    Outcome,
    Promised,
    Run,
    Verb,
)
from tests.faults.promises import Promises
from watchword.domain.action import Risk
from watchword.domain.decision import Event, EventName
from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import CLOCKS_APART_SECONDS, DAY_SECONDS, Limits
from watchword.domain.method import CredentialKind, Factor, Method
from watchword.domain.token import OneTimeToken


class Rule(StrEnum):
    """What must hold."""

    SPENT_TWICE = "an OTT let two requests through"
    NOT_PASSED = "a request ran whose challenges were not passed"
    OTHER_REQUEST = "a request ran that its OTT was not issued for"
    NEVER_RAN = "a request was acknowledged that never ran"
    TOO_MANY_GUESSES = "more wrong answers were compared than the limit"
    FORGOTTEN_LOCK = "a lock was forgotten"
    LOST_VERIFICATION = "an acknowledged verification does not hold"
    MISSING_EVENT = "something was acknowledged that has no audit event"
    EVENT_WITHOUT_CHANGE = "an audit event tells of what nobody did"
    IMPOSSIBLE_TRAIL = "the audit trail tells an impossible story"
    RECORD_DIFFERS = "a record is not what its audit events tell"
    OUTLIVED_CREDENTIALS = "a token was used after what it was issued on had changed"
    TOO_MANY_CODES = "more codes were sent than the limit"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, and where."""

    rule: Rule
    where: str

    def __str__(self) -> str:
        """Say so in a line."""
        return f"{self.rule.name}: {self.rule.value}: {self.where}"


_MATCHED = frozenset(
    {
        EventName.TOKEN_ISSUED,
        EventName.PAGE_OPENED,
        EventName.PAGE_CLOSED,
        EventName.CODE_SENT,
        EventName.CODE_UNDELIVERED,
        EventName.CHALLENGE_PASSED,
        EventName.CHALLENGE_FAILED,
        EventName.TOKEN_RESERVED,
        EventName.TOKEN_RELEASED,
        EventName.TOKEN_SPENT,
        EventName.SESSION_USED,
        EventName.CREDENTIALS_CHANGED,
    }
)
"""The events that a call of a client brings about directly; the others follow from these."""

_WORKED_ON = frozenset(
    {EventName.TOKEN_ISSUED, EventName.CODE_SENT, EventName.CHALLENGE_PASSED, EventName.CHALLENGE_FAILED}
)
"""What nobody can do while he is locked."""

_USED = frozenset({EventName.CHALLENGE_PASSED, EventName.TOKEN_RESERVED, EventName.TOKEN_SPENT})

_NEXT: dict[tuple[str, EventName], str] = {
    ("", EventName.TOKEN_ISSUED): "Pending",
    ("Pending", EventName.CODE_SENT): "Pending",
    ("Pending", EventName.CODE_UNDELIVERED): "Pending",
    ("Pending", EventName.CHALLENGE_PASSED): "Pending",
    ("Pending", EventName.CHALLENGE_FAILED): "Pending",
    ("Pending", EventName.USER_LOCKED): "Pending",
    ("Pending", EventName.TOKEN_CLEARED): "Cleared",
    ("Cleared", EventName.TOKEN_RESERVED): "Reserved",
    ("Cleared", EventName.TOKEN_SPENT): "Spent",
    ("Reserved", EventName.TOKEN_SPENT): "Spent",
    ("Reserved", EventName.TOKEN_RELEASED): "Cleared",
    **dict.fromkeys(
        ((state, EventName.TOKEN_REVOKED) for state in ("Pending", "Cleared", "Reserved")), "Revoked"
    ),
    **{(state, page): state for state in ("Pending", "Cleared") for page in (EventName.PAGE_OPENED,
                                                                              EventName.PAGE_CLOSED)},
}  # fmt: skip
"""The story of one token: its state as the trail tells it, and what may happen next."""


def check(history: History, held: Held, *, limits: Limits, promises: Promises) -> list[Violation]:
    """Return every violation; none where all that must hold does."""
    return list(_Case(history, held, limits, promises).violations())


def lost(history: History, held: Held, *, limits: Limits, promises: Promises) -> Counter[str]:
    """
    Count what is gone of what was acknowledged, also where it may be.

    By its event, where it should have one; else by the rule that would be broken if it had to be kept.
    """
    strict = Promises(voids_at=frozenset(), fences_at=promises.voids_at | promises.fences_at)
    case = _Case(history, held, limits, strict)
    gone = Counter(violation.rule.name for violation in case.violations())
    del gone[Rule.MISSING_EVENT.name]
    for effect, times in case.missing().items():
        gone[effect.event.value] += times
    return gone


@dataclass
class _Case:
    history: History
    held: Held
    limits: Limits
    promises: Promises
    losses: list[Mark] = field(init=False)
    fences: list[Mark] = field(init=False)
    by_token: dict[str, list[Event]] = field(init=False)
    calls: dict[str, list[Operation]] = field(init=False)
    by_user: dict[int, list[Event]] = field(init=False)

    def __post_init__(self) -> None:
        self.losses = self._marks(self.promises.voids_at)
        self.fences = self._marks(self.promises.voids_at | self.promises.fences_at)
        self.by_token, self.by_user = defaultdict(list), defaultdict(list)
        self.calls = defaultdict(list)
        for operation in self.history.operations:
            self.calls[operation.token].append(operation)
        for event in self.held.events:
            if event.token_id is not None:
                self.by_token[event.token_id.hex()].append(event)
            if event.user_id is not None:
                self.by_user[event.user_id].append(event)

    def violations(self) -> Iterator[Violation]:
        yield from self._runs()
        yield from self._guesses_that_clients_saw()
        yield from self._events_and_answers()
        for token, events in self.by_token.items():
            yield from self._story_of(token, events)
        for user, events in self.by_user.items():
            # Where counts may be lost and their events be kept elsewhere, what clients saw has to do.
            yield from () if self.losses else self._failures_of(user, events)
            yield from self._pin_of(user, events)
            yield from self._tokens_of(user, events)
        yield from self._verifications()
        yield from self._locks_that_are_held()

    def _marks(self, kinds: frozenset[FaultKind]) -> list[Mark]:
        return [mark for mark in self.history.marks if mark.fault in kinds]

    def _may_be_lost(self, ended: int | None) -> bool:
        """Tell whether what was acknowledged at that place may be gone by the end."""
        return _over_by_then(ended, self.losses)

    def _may_be_void(self, ended: int | None) -> bool:
        """Tell whether a token of that place may be good for nothing at the end."""
        return _over_by_then(ended, self.fences)

    # --- what ran -----------------------------------------------------------------------------

    def _runs(self) -> Iterator[Violation]:
        under = defaultdict[str, list[Run]](list)
        for run in self.history.runs:
            if run.token:
                under[run.token].append(run)
                yield from self._one_run(run)
            elif self._is_high(run) or not self._cleared_anything(run):
                yield Violation(Rule.NOT_PASSED, f"{run.action} of {run.user} by a session")
        for token, runs in under.items():
            # The next may only begin once the one before said that it did nothing.
            for one, other in pairwise(runs):
                if not one.failed or one.ended is None or one.ended > other.began:
                    yield Violation(Rule.SPENT_TWICE, token)
        for operation in self.history.operations:
            let_through = {EventName.TOKEN_SPENT, EventName.TOKEN_RESERVED}
            if operation.verb is Verb.REQUEST and any(
                effect.event in let_through and effect.token not in under for effect in operation.certain
            ):
                yield Violation(Rule.NEVER_RAN, operation.token)

    def _one_run(self, run: Run) -> Iterator[Violation]:
        promised = self.history.tokens.get(run.token)
        if promised is None:
            # An OTT that its client never got: nobody can have passed its challenges.
            yield Violation(Rule.NOT_PASSED, f"{run.token} was given to nobody")
            return
        if (promised.user, promised.action) != (run.user, run.action) or promised.request not in {
            "",
            run.request,
        }:
            yield Violation(Rule.OTHER_REQUEST, f"{run.action} of {run.user} under {run.token}")
        given = {
            operation.method
            for operation in self._answers(run.token)
            if operation.right and operation.outcome is not Outcome.FAIL and operation.began < run.began
        }
        if not _passable(promised, given):
            yield Violation(Rule.NOT_PASSED, f"{run.token}: given right before it ran: {sorted(given)}")

    def _answers(self, token: str) -> list[Operation]:
        answering = {Verb.VERIFY, Verb.REQUEST}
        return [each for each in self.calls[token] if each.method and each.verb in answering]

    def _is_high(self, run: Run) -> bool:
        return any(
            promised.action == run.action and promised.risk is Risk.HIGH
            for promised in self.history.tokens.values()
        )

    def _cleared_anything(self, run: Run) -> bool:
        return any(
            operation.user == run.user and operation.right and operation.began < run.began
            for operation in self.history.operations
            if operation.outcome is not Outcome.FAIL
        )

    # --- guesses ------------------------------------------------------------------------------

    def _guesses_that_clients_saw(self) -> Iterator[Violation]:
        """
        Count the wrong answers that were compared, by what clients were told alone.

        Of one user's, with no right answer among them and no lock that could have run out, no more
        than the limit are compared.
        """
        by_user = defaultdict[int, list[Operation]](list)
        for operation in self.history.operations:
            if operation.method:
                by_user[operation.user].append(operation)
        for user, operations in by_user.items():
            right = [each for each in operations if each.right and each.outcome is not Outcome.FAIL]
            rows = defaultdict[int, list[Operation]](list)
            for operation in operations:
                if not any(effect.event is EventName.CHALLENGE_FAILED for effect in operation.certain):
                    continue
                if not any(_overlap(operation, each) for each in right):
                    rows[sum(_before(each, operation) for each in right)].append(operation)
            for row in rows.values():
                if self._too_many(row):
                    yield Violation(Rule.TOO_MANY_GUESSES, f"{user} was told of {len(row)} wrong answers")

    def _too_many(self, row: list[Operation]) -> bool:
        for start, first in enumerate(row):
            if first.epoch is None:
                continue  # When the clock goes back, so does the end of a lock.
            same_lock = [
                each
                for each in row[start:]
                if each.epoch == first.epoch and each.until < after(first.since, self.limits.lock_seconds)
            ]
            began_anew = sum(
                mark.began < row[-1].began and (mark.ended is None or mark.ended > first.began)
                for mark in self.losses
            )
            if len(same_lock) > self.limits.failures * (1 + began_anew):
                return True
        return False

    def _failures_of(self, user: int, events: list[Event]) -> Iterator[Violation]:
        """Replay one user's failures and locks as the trail tells them; compare with what is stored."""
        row: dict[Factor | None, int] = dict.fromkeys((*Factor, None), 0)
        locked_until = NEVER
        for event in events:
            if event.name in _WORKED_ON and event.at < locked_until:
                yield Violation(Rule.FORGOTTEN_LOCK, f"{event.name} of {user} while he was locked")
            if event.name is EventName.CHALLENGE_FAILED:
                for factor in (_factor(event), None):
                    row[factor] += 1
                if max(row.values()) > self.limits.failures:
                    yield Violation(Rule.TOO_MANY_GUESSES, f"{user} by the audit trail")
            elif event.name is EventName.CHALLENGE_PASSED:
                row |= {_factor(event): 0, None: 0}
            elif event.name is EventName.USER_LOCKED:
                if self.limits.failures not in row.values():
                    yield Violation(Rule.IMPOSSIBLE_TRAIL, f"{user} was locked for nothing")
                # The lock consumes the counts that led to it, and no others.
                led = {factor for factor, count in row.items() if count >= self.limits.failures}
                row |= dict.fromkeys((*led, None), 0)
                locked_until = after(event.at, self.limits.lock_seconds)
        yield from self._stored_failures(user, row[None], locked_until)

    def _pin_of(self, user: int, events: list[Event]) -> Iterator[Violation]:
        """Compare with what is stored whether a user has a PIN, by the last change of it in the trail."""
        changes = [
            event.details["what"]
            for event in events
            if event.name is EventName.CREDENTIALS_CHANGED and event.details.get("credential") == "pin"
        ]
        stored = self.held.users.get(user)
        if changes and stored and stored.holds(CredentialKind.PIN) == (changes[-1] == "removed"):
            yield Violation(Rule.RECORD_DIFFERS, f"the PIN of {user} was {changes[-1]}, by the trail")

    def _stored_failures(self, user: int, consecutive: int, locked_until: Instant) -> Iterator[Violation]:
        stored = self.held.users.get(user)
        if stored is None:
            yield Violation(Rule.RECORD_DIFFERS, f"there is no user {user}")
        elif (stored.attempts.consecutive, stored.attempts.locked_until) != (consecutive, locked_until):
            rule = Rule.TOO_MANY_GUESSES if stored.attempts.consecutive < consecutive else Rule.RECORD_DIFFERS
            rule = Rule.FORGOTTEN_LOCK if stored.attempts.locked_until < locked_until else rule
            yield Violation(rule, f"{user} is stored with {stored.attempts}, and the trail has {consecutive}")

    def _tokens_of(self, user: int, events: list[Event]) -> Iterator[Violation]:
        """Look for what one user could use too long, or was sent too often."""
        issued: dict[bytes | None, Instant] = {}
        void = set[bytes | None]()
        latest, sent = NEVER, list[Instant]()
        for event in events:
            latest = max(latest, event.at)
            if event.name is EventName.TOKEN_ISSUED:
                issued[event.token_id] = after(event.at, self.limits.token_seconds)
            elif event.name is EventName.CREDENTIALS_CHANGED:
                # What was over by then is on nobody's list any more; a clock that goes back revives it.
                void |= {token for token, until in issued.items() if until > latest}
            elif event.name in _USED and event.token_id in void:
                yield Violation(Rule.OUTLIVED_CREDENTIALS, f"{event.name} of {user}")
            elif event.name is EventName.CODE_SENT:
                sent.append(event.at)
        for start in sent:
            day = [at for at in sent if start <= at < after(start, DAY_SECONDS)]
            if len(day) > self.limits.sends_per_number:
                yield Violation(Rule.TOO_MANY_CODES, f"{len(day)} to {user} in a day")

    def _locks_that_are_held(self) -> Iterator[Violation]:
        """A client that was told of a lock is told nothing else until it is over."""
        told = dict[int, Operation]()
        for operation in self.history.operations:
            lock = told.get(operation.user)
            counted = {effect.event for effect in operation.certain} & _WORKED_ON
            if (
                lock is not None
                and lock.ended is not None
                and operation.began > lock.ended
                and counted
                and operation.latest < after(lock.since, lock.locked - 1)
                and not self._may_be_lost(lock.ended)
            ):
                yield Violation(
                    Rule.FORGOTTEN_LOCK, f"{operation.answer} of {operation.user}, who was locked"
                )
            if operation.locked and operation.epoch is not None:
                told[operation.user] = operation

    # --- what was acknowledged ----------------------------------------------------------------

    def _issued(self, token: str) -> int:
        """Return a place before which a token was not issued; the first where no client was told of it."""
        return next(
            (
                operation.began
                for operation in self.history.operations
                if any(
                    effect.event is EventName.TOKEN_ISSUED and effect.token == token
                    for effect in operation.certain
                )
            ),
            0,
        )

    def _verifications(self) -> Iterator[Violation]:
        """Look for acknowledged verifications that do not hold: at each look of a client, and at the end."""
        for token, promised in self.history.tokens.items():
            passed = [
                operation
                for operation in self._answers(token)
                if any(effect.event is EventName.CHALLENGE_PASSED for effect in operation.certain)
            ]
            if not passed:
                continue
            seen = [each for each in self.calls[token] if each.user == promised.user]
            for operation in seen:
                before = [each for each in passed if _before(each, operation)]
                if before and self._is_lost(operation, promised, before, seen):
                    yield Violation(Rule.LOST_VERIFICATION, f"{token}: {operation.verb}: {operation.answer}")
            stored = self.held.tokens.get(token)
            by: set[Method | None] = (
                set() if stored is None else {challenge.passed_by for challenge in stored.challenges}
            )
            for operation in passed:
                excused = self._may_be_void if stored is None else self._may_be_lost
                if Method(operation.method) not in by and not excused(operation.ended):
                    yield Violation(Rule.LOST_VERIFICATION, f"{token}: {operation.method} in the store")

    def _is_lost(
        self, operation: Operation, promised: Promised, passed: list[Operation], seen: list[Operation]
    ) -> bool:
        if operation.left is not None:
            return operation.left > len(promised.challenges) - len(passed)
        refused_as_void = operation.outcome is Outcome.FAIL and operation.verb is Verb.STATUS
        replaced = operation.fits and any(
            effect.event is EventName.TOKEN_ISSUED for effect in operation.certain
        )
        all_passed = len(passed) == len(promised.challenges)
        if not (refused_as_void or (replaced and all_passed)):
            return False
        return not (
            any(self._may_be_void(each.ended) for each in passed)
            or self._may_be_over(operation, promised, passed)
            or any(
                each.verb is Verb.REQUEST and each is not operation and each.began < (operation.ended or 0)
                for each in seen
            )
        )

    def _may_be_over(self, operation: Operation, promised: Promised, passed: list[Operation]) -> bool:
        """Tell whether a token may have run out or been revoked by the time of *operation*."""
        until = after(promised.issued_at, self.limits.token_seconds)
        if self.limits.spend_within_seconds is not None:
            until = min(until, after(passed[-1].since, self.limits.spend_within_seconds))
        if any(each.epoch is None for each in passed):
            return True  # Nobody knows from when on it counts.
        revoked = any(event.name is EventName.TOKEN_REVOKED for event in self.by_token[operation.token])
        ahead = operation.since <= after(promised.issued_at, -CLOCKS_APART_SECONDS)
        return revoked or ahead or operation.latest >= until

    # --- the audit trail ----------------------------------------------------------------------

    def _events_and_answers(self) -> Iterator[Violation]:
        """Hold the events against the answers: one for each that was acknowledged, none for no call."""
        certain, possible, stored = self._acknowledged_and_stored()
        for effect in stored.keys() | certain.keys():
            if stored[effect] < certain[effect]:
                yield Violation(Rule.MISSING_EVENT, f"{effect}: {stored[effect]} of {certain[effect]}")
            if stored[effect] > certain[effect] + possible[effect]:
                might = certain[effect] + possible[effect]
                yield Violation(Rule.EVENT_WITHOUT_CHANGE, f"{effect}: {stored[effect]}, at most {might}")

    def missing(self) -> Counter[Effect]:
        """Return what was acknowledged and has no event."""
        certain, _, stored = self._acknowledged_and_stored()
        return certain - stored

    def _acknowledged_and_stored(self) -> tuple[Counter[Effect], Counter[Effect], Counter[Effect]]:
        certain, possible = Counter[Effect](), Counter[Effect]()
        for operation in self.history.operations:
            may_be_lost = self._may_be_lost(operation.ended)
            (possible if may_be_lost else certain).update(operation.certain)
            possible.update(operation.possible)
        stored = Counter(self._effect(event) for event in self.held.events if event.name in _MATCHED)
        return certain, possible, stored

    def _effect(self, event: Event) -> Effect:
        token = "" if event.token_id is None else event.token_id.hex()
        method = str(event.details.get("method", ""))
        return Effect(event.name, event.user_id or 0, token if token in self.history.tokens else "", method)

    def _story_of(self, token: str, events: list[Event]) -> Iterator[Violation]:
        """Replay the events of one token, and compare where they lead with what is stored."""
        state, passed = "", set[str]()
        for event in events:
            following = _NEXT.get((state, event.name))
            if following is None:
                yield Violation(Rule.IMPOSSIBLE_TRAIL, f"{token}: {event.name} while {state or 'not issued'}")
                return
            state = following
            if event.name is EventName.CHALLENGE_PASSED:
                passed.add(str(event.details["method"]))
            promised = self.history.tokens.get(token)
            if event.name is EventName.TOKEN_CLEARED and promised and not _passable(promised, passed):
                yield Violation(Rule.NOT_PASSED, f"{token} was cleared by {sorted(passed)}")
        stored = self.held.tokens.get(token)
        if self.losses:
            return
        if stored is None:
            if not self._may_be_void(self._issued(token)):
                yield Violation(Rule.RECORD_DIFFERS, f"there is no token {token}")
        elif (type(stored.state).__name__, _passed_by(stored)) != (state, passed):
            yield Violation(Rule.RECORD_DIFFERS, f"{token} is {stored.state}, and the trail says {state}")


def _over_by_then(ended: int | None, marks: Iterable[Mark]) -> bool:
    return ended is not None and any(mark.ended is None or ended < mark.ended for mark in marks)


def _passable(promised: Promised, methods: set[str]) -> bool:
    """Tell whether each challenge can have been passed by a method of its own, of enough factors in all."""
    return _assigned(promised.challenges, methods, frozenset(), promised.factors)


def _assigned(
    challenges: tuple[tuple[str, ...], ...], given: set[str], used: frozenset[str], factors: int
) -> bool:
    if not challenges:
        return len({Method(method).factor for method in used}) >= factors
    return any(
        _assigned(challenges[1:], given, used | {method}, factors)
        for method in challenges[0]
        if method in given - used
    )


def _passed_by(token: OneTimeToken) -> set[str]:
    return {challenge.passed_by.value for challenge in token.challenges if challenge.passed_by is not None}


def _factor(event: Event) -> Factor:
    return Method(str(event.details["method"])).factor


def _before(one: Operation, other: Operation) -> bool:
    return one.ended is not None and one.ended < other.began


def _overlap(one: Operation, other: Operation) -> bool:
    """Tell whether the two may have happened in either order; what is not answered may happen any time."""
    return not (_before(one, other) or _before(other, one))
