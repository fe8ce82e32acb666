"""
Each rule of the checker on a history made by hand: what is just allowed, and the first thing that is not.

That broken stores and engines are caught by it stands in ``test_simulation``.
"""

from dataclasses import dataclass, field, replace

import pytest

from tests.factories import NOW, PAY, PAYMENT, make_token, make_user
from tests.faults.checker import Rule, check, lost
from tests.faults.history import Effect, FaultKind, Held, History, Operation, Outcome, Promised, Run, Verb
from tests.faults.promises import FENCES, KEEPS, VOIDS, Promises
from watchword.domain.action import Risk
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Event, EventName
from watchword.domain.instant import Instant, after
from watchword.domain.limits import CLOCKS_APART_SECONDS, Limits
from watchword.domain.lockout import Attempts
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, Pending, Spent, State, TokenId
from watchword.domain.user import UserId

LIMITS = Limits()
ADA = 6146956
OTT = b"token"
TOKEN = OTT.hex()


@dataclass
class Story:
    """Ada's payment, told by hand: it may be told wrongly."""

    history: History = field(default_factory=History)
    events: list[Event] = field(default_factory=list[Event])
    now: Instant = NOW
    state: State = field(default_factory=Pending)
    passed: list[Method] = field(default_factory=list[Method])
    attempts: Attempts = field(default_factory=Attempts)
    void: bool = False
    pin: bool = False

    def tell(self, name: EventName, method: Method | None = None, *, token: bytes = OTT) -> None:
        details = {} if method is None else {"method": method.value}
        self.events.append(
            Event(name=name, at=self.now, user_id=UserId(ADA), token_id=TokenId(token), details=details)
        )

    def call(
        self,
        verb: Verb,
        *effects: EventName,
        method: Method | None = None,
        right: bool = False,
        outcome: Outcome = Outcome.OK,
        left: int | None = None,
        locked: int = 0,
        presented: str = TOKEN,
    ) -> Operation:
        note = "" if method is None else method.value
        told = [
            Effect(each, ADA, TOKEN, note if each.value.startswith(("challenge", "code")) else "")
            for each in effects
        ]
        operation = self.history.begin(
            verb,
            ADA,
            now=self.now,
            token=presented,
            method=note,
            right=right,
            fits=True,
            possible=told,
        )
        if outcome is not Outcome.UNKNOWN:
            self.history.end(operation, outcome, "told", now=self.now, certain=told, left=left, locked=locked)
        return operation

    def issue(self) -> "Story":
        self.history.tokens[TOKEN] = Promised(
            user=ADA,
            action=PAYMENT.name,
            risk=Risk.HIGH,
            request="this payment",
            reserves=False,
            challenges=(("PIN",), ("SMS", "VOICE")),
            factors=2,
            issued_at=self.now,
        )
        self.call(Verb.REQUEST, EventName.TOKEN_ISSUED, presented="")
        self.tell(EventName.TOKEN_ISSUED)
        return self

    def answer(self, method: Method, *, outcome: Outcome = Outcome.OK) -> "Story":
        self.call(Verb.VERIFY, EventName.CHALLENGE_PASSED, method=method, right=True, outcome=outcome)
        self.tell(EventName.CHALLENGE_PASSED, method)
        self.passed.append(method)
        return self

    def clear(self) -> "Story":
        self.answer(Method.PIN).answer(Method.SMS)
        self.tell(EventName.TOKEN_CLEARED)
        self.state = Cleared(self.now)
        return self

    def run(self, *, request: str = "this payment", user: int = ADA, failed: bool = False) -> Run:
        run = self.history.run(TOKEN, user, PAYMENT.name, request)
        self.history.ran(run, failed=failed)
        return run

    def spend(self) -> "Story":
        self.run()
        self.call(Verb.REQUEST, EventName.TOKEN_SPENT)
        self.tell(EventName.TOKEN_SPENT)
        self.state = Spent(self.now)
        return self

    def fail(self, times: int) -> "Story":
        for _ in range(times):
            self.call(Verb.VERIFY, EventName.CHALLENGE_FAILED, method=Method.PIN)
            self.tell(EventName.CHALLENGE_FAILED, Method.PIN)
            self.attempts = replace(self.attempts, consecutive=self.attempts.consecutive + 1)
        return self

    def lock(self) -> "Story":
        self.tell(EventName.USER_LOCKED)
        self.attempts = Attempts(locked_until=after(self.now, LIMITS.lock_seconds))
        return self

    def held(self) -> Held:
        challenges = tuple(
            replace(challenge, passed_by=method if method in self.passed else None)
            for challenge, method in (
                (Challenge(Method.PIN), Method.PIN),
                (Challenge(Method.SMS, (Method.VOICE,)), Method.SMS),
            )
        )
        token = make_token(self.state, challenges=challenges, binding=PAY, id=OTT)
        kind = CredentialKind.PIN if self.pin else CredentialKind.PHONE
        user = replace(make_user(kind, id=UserId(ADA)), attempts=self.attempts)
        tokens = {TOKEN: token} if TOKEN in self.history.tokens else {}
        return Held(self.events, {} if self.void else tokens, {ADA: user})

    def broken(self, promises: Promises = KEEPS) -> set[Rule]:
        held = self.held()
        found = check(self.history, held, limits=LIMITS, promises=promises)
        assert all(str(violation) for violation in found)
        return {violation.rule for violation in found}


def test_a_payment_as_it_should_be_breaks_no_rule() -> None:
    assert Story().issue().clear().spend().broken() == set()
    assert Story().broken() == set()


# --- what ran ---------------------------------------------------------------------------------


def test_a_second_run_is_one_too_many() -> None:
    story = Story().issue().clear().spend()
    story.run()
    assert story.broken() == {Rule.SPENT_TWICE}


def test_a_run_that_said_that_it_did_nothing_may_be_followed_by_another() -> None:
    story = Story().issue().clear()
    story.run(failed=True)
    assert story.spend().broken() == set()


def test_a_run_that_crashed_may_not() -> None:
    story = Story().issue().clear()
    story.history.run(TOKEN, ADA, PAYMENT.name, "this payment")
    assert story.spend().broken() == {Rule.SPENT_TWICE}


def test_two_runs_at_once_are_one_too_many_even_if_the_first_fails_later() -> None:
    story = Story().issue().clear()
    first = story.history.run(TOKEN, ADA, PAYMENT.name, "this payment")
    story.spend()
    story.history.ran(first, failed=True)
    assert story.broken() == {Rule.SPENT_TWICE}


def test_a_run_needs_a_right_answer_to_each_challenge_before_it() -> None:
    story = Story().issue()
    story.answer(Method.PIN)
    story.run()
    assert story.broken() == {Rule.NOT_PASSED}


def test_a_right_answer_that_was_not_answered_may_have_counted() -> None:
    story = Story().issue()
    story.answer(Method.PIN).answer(Method.SMS, outcome=Outcome.UNKNOWN)
    story.tell(EventName.TOKEN_CLEARED)
    assert story.spend().broken() == set()


def test_a_right_answer_that_was_refused_did_not_count() -> None:
    story = Story().issue()
    story.answer(Method.PIN)
    story.call(Verb.VERIFY, method=Method.SMS, right=True, outcome=Outcome.FAIL)
    story.run()
    assert story.broken() == {Rule.NOT_PASSED}


def test_two_answers_of_one_factor_are_not_two_factors() -> None:
    story = Story().issue()
    story.history.tokens[TOKEN] = replace(
        story.history.tokens[TOKEN], challenges=(("SMS",), ("VOICE",)), factors=2
    )
    for method in (Method.SMS, Method.VOICE):
        story.call(Verb.VERIFY, method=method, right=True)
    story.run()
    assert Rule.NOT_PASSED in story.broken()


def test_a_run_under_an_ott_that_nobody_was_given_was_not_passed_by_anybody() -> None:
    story = Story()
    story.run()
    assert story.broken() == {Rule.NOT_PASSED}


@pytest.mark.parametrize("other", [{"request": "another payment"}, {"user": ADA + 1}])
def test_a_run_of_something_else_is_not_what_was_approved(other: dict[str, object]) -> None:
    story = Story().issue().clear()
    story.run(**other)  # type: ignore[arg-type]
    assert story.broken() == {Rule.OTHER_REQUEST}


def test_a_high_risk_request_does_not_run_by_a_session() -> None:
    story = Story().issue().clear().spend()
    story.history.run("", ADA, PAYMENT.name, "this payment")
    assert story.broken() == {Rule.NOT_PASSED}


def test_a_session_begins_with_a_right_answer() -> None:
    story = Story().issue()
    story.history.run("", ADA, "BALANCE", "")
    assert story.broken() == {Rule.NOT_PASSED}
    story = Story().issue().clear().spend()
    story.history.run("", ADA, "BALANCE", "")
    assert story.broken() == set()


def test_what_was_acknowledged_did_run() -> None:
    story = Story().issue().clear()
    story.call(Verb.REQUEST, EventName.TOKEN_SPENT)
    story.tell(EventName.TOKEN_SPENT)
    story.state = Spent(NOW)
    assert story.broken() == {Rule.NEVER_RAN}


# --- guesses ----------------------------------------------------------------------------------


def test_as_many_wrong_answers_as_the_limit_lead_to_a_lock_and_one_more_is_too_many() -> None:
    assert Story().issue().fail(4).broken() == set()
    assert Story().issue().fail(5).lock().broken() == set()
    assert Story().issue().fail(6).broken() == {Rule.TOO_MANY_GUESSES}


def test_what_clients_were_told_is_enough_whatever_the_trail_says() -> None:
    story = Story().issue().fail(6)
    story.events[1:] = []
    story.attempts = Attempts()
    assert Rule.TOO_MANY_GUESSES in story.broken()


def test_a_count_that_the_store_lost_is_found_at_the_end() -> None:
    story = Story().issue().fail(3)
    story.attempts = Attempts(consecutive=2)
    assert story.broken() == {Rule.TOO_MANY_GUESSES}


def test_a_lock_lasts_to_its_last_second() -> None:
    for seconds, broken in ((LIMITS.lock_seconds - 1, {Rule.FORGOTTEN_LOCK}), (LIMITS.lock_seconds, set())):
        story = Story().issue().fail(5).lock()
        locked = story.attempts
        story.now = after(story.now, seconds)
        story.history.tokens[TOKEN] = replace(story.history.tokens[TOKEN], issued_at=story.now)
        story.fail(1)
        story.attempts = replace(locked, consecutive=1)
        assert story.broken() - {Rule.TOO_MANY_GUESSES} == broken


def test_a_client_that_was_told_of_a_lock_is_told_nothing_else_until_it_is_over() -> None:
    story = Story().issue()
    story.call(Verb.VERIFY, method=Method.PIN, outcome=Outcome.FAIL, locked=900)
    story.answer(Method.PIN)
    assert story.broken() == {Rule.FORGOTTEN_LOCK}


def test_a_lock_that_the_store_lost_is_found_at_the_end() -> None:
    story = Story().issue().fail(5).lock()
    story.attempts = Attempts()
    assert story.broken() == {Rule.FORGOTTEN_LOCK}


def test_counts_begin_anew_once_for_each_fail_over_where_that_is_all_that_is_promised() -> None:
    for promises, failures, too_many in ((VOIDS, 10, False), (VOIDS, 11, True), (KEEPS, 10, True)):
        story = Story().issue().fail(5)
        story.history.mended(story.history.mark(FaultKind.FAIL_OVER))
        story.fail(failures - 5)
        story.events[1:] = []
        story.attempts = Attempts()
        assert (Rule.TOO_MANY_GUESSES in story.broken(promises)) is too_many


# --- what was acknowledged --------------------------------------------------------------------


def test_a_challenge_that_is_shown_again_after_it_was_passed_is_a_lost_verification() -> None:
    for left, broken in ((1, set()), (2, {Rule.LOST_VERIFICATION})):
        story = Story().issue().answer(Method.PIN)
        story.call(Verb.STATUS, left=left)
        assert story.broken() == broken


def test_a_token_that_is_gone_before_its_time_is_a_lost_verification() -> None:
    story = Story().issue().answer(Method.PIN)
    story.call(Verb.STATUS, outcome=Outcome.FAIL)
    assert story.broken() == {Rule.LOST_VERIFICATION}
    story = Story().issue().answer(Method.PIN)
    story.now = after(story.now, LIMITS.spend_within_seconds or 0)
    story.call(Verb.STATUS, outcome=Outcome.FAIL)
    assert story.broken() == set()
    # One from a clock that was too far ahead counts for nothing until the time has come.
    for back, broken in ((CLOCKS_APART_SECONDS, set()), (CLOCKS_APART_SECONDS - 1, {Rule.LOST_VERIFICATION})):
        story = Story().issue().answer(Method.PIN)
        story.now = after(story.now, -back)
        story.call(Verb.STATUS, outcome=Outcome.FAIL)
        assert story.broken() == broken


def test_a_cleared_token_that_lets_nothing_through_is_a_lost_verification() -> None:
    story = Story().issue().clear()
    other = Effect(EventName.TOKEN_ISSUED, ADA)
    operation = story.history.begin(Verb.REQUEST, ADA, now=NOW, token=TOKEN, fits=True)
    story.history.end(operation, Outcome.OK, "another OTT", now=NOW, certain=[other])
    story.tell(EventName.TOKEN_ISSUED, token=b"other")
    assert Rule.LOST_VERIFICATION in story.broken()


def test_after_a_fail_over_a_token_may_be_void_where_no_more_is_promised_but_never_half() -> None:
    for promises, left, outcome, broken in (
        (VOIDS, None, Outcome.FAIL, set()),
        (KEEPS, None, Outcome.FAIL, {Rule.LOST_VERIFICATION}),
        (VOIDS, 2, Outcome.OK, {Rule.LOST_VERIFICATION}),
    ):
        story = Story().issue().answer(Method.PIN)
        story.history.mended(story.history.mark(FaultKind.FAIL_OVER))
        story.call(Verb.STATUS, outcome=outcome, left=left)
        assert story.broken(promises) == broken


def test_what_is_acknowledged_after_a_fail_over_is_not_lost_by_it() -> None:
    for begins in (True, False):
        story = Story().issue()
        mark = story.history.mark(FaultKind.FAIL_OVER)
        if not begins:
            story.history.mended(mark)
        story.answer(Method.PIN)
        if begins:
            story.history.mended(mark)
        story.call(Verb.STATUS, outcome=Outcome.FAIL)
        assert story.broken(VOIDS) == (set() if begins else {Rule.LOST_VERIFICATION})


def test_a_spending_that_a_fail_over_lost_is_still_one_spending() -> None:
    story = Story().issue().clear().spend()
    story.history.mended(story.history.mark(FaultKind.FAIL_OVER))
    assert story.broken(VOIDS) == set()
    story.run()
    assert story.broken(VOIDS) == {Rule.SPENT_TWICE}


def test_a_fence_voids_what_was_open_before_it_and_excuses_nothing_else() -> None:
    for promises, broken in (
        (FENCES, set()),
        (VOIDS, set()),
        (KEEPS, {Rule.LOST_VERIFICATION, Rule.RECORD_DIFFERS}),
    ):
        story = Story(void=True).issue().answer(Method.PIN)
        story.history.mended(story.history.mark(FaultKind.FAIL_OVER))
        story.call(Verb.STATUS, outcome=Outcome.FAIL)
        assert story.broken(promises) == broken
    # Also where nobody presented it before.
    unseen = Story(void=True).issue()
    unseen.history.mended(unseen.history.mark(FaultKind.FAIL_OVER))
    unseen.call(Verb.STATUS, outcome=Outcome.FAIL)
    assert unseen.broken(FENCES) == set()
    # What is still there is whole; what came after the fence is there.
    half = Story().issue().answer(Method.PIN)
    half.passed.clear()
    half.history.mended(half.history.mark(FaultKind.FAIL_OVER))
    assert half.broken(FENCES) == {Rule.LOST_VERIFICATION, Rule.RECORD_DIFFERS}
    after_it = Story(void=True)
    after_it.history.mended(after_it.history.mark(FaultKind.FAIL_OVER))
    after_it.issue().answer(Method.PIN)
    assert after_it.broken(FENCES) == {Rule.LOST_VERIFICATION, Rule.RECORD_DIFFERS}
    # And counts go on.
    forgotten = Story().issue().fail(1)
    forgotten.attempts = Attempts()
    forgotten.history.mended(forgotten.history.mark(FaultKind.FAIL_OVER))
    assert forgotten.broken(FENCES) == {Rule.TOO_MANY_GUESSES}


def test_what_was_lost_is_counted_by_its_event_whether_it_might_be_or_not() -> None:
    for promises in (VOIDS, FENCES):
        story = Story().issue().fail(2)
        story.history.mended(story.history.mark(FaultKind.FAIL_OVER))
        story.events.pop()
        story.attempts = Attempts(consecutive=1)
        assert lost(story.history, story.held(), limits=LIMITS, promises=promises) == {"challenge.failed": 1}
        assert story.broken(promises) == (set() if promises is VOIDS else {Rule.MISSING_EVENT})


# --- the audit trail --------------------------------------------------------------------------


def test_an_acknowledged_change_without_its_event_is_missing_one() -> None:
    story = Story().issue()
    story.call(Verb.VERIFY, EventName.CHALLENGE_FAILED, method=Method.PIN)
    assert story.broken() == {Rule.MISSING_EVENT}


def test_a_change_that_was_not_answered_may_have_its_event_or_not() -> None:
    for happened in (True, False):
        story = Story().issue()
        story.call(Verb.VERIFY, EventName.CHALLENGE_FAILED, method=Method.PIN, outcome=Outcome.UNKNOWN)
        if happened:
            story.tell(EventName.CHALLENGE_FAILED, Method.PIN)
            story.attempts = Attempts(consecutive=1)
        assert story.broken() == set()


def test_an_event_that_no_call_brought_about_is_one_too_many() -> None:
    story = Story().issue()
    story.tell(EventName.CODE_SENT, Method.SMS)
    assert story.broken() == {Rule.EVENT_WITHOUT_CHANGE}


def test_a_token_cannot_be_spent_before_it_is_cleared() -> None:
    story = Story().issue()
    story.run()
    story.call(Verb.REQUEST, EventName.TOKEN_SPENT)
    story.tell(EventName.TOKEN_SPENT)
    assert story.broken() == {Rule.NOT_PASSED, Rule.IMPOSSIBLE_TRAIL}


def test_a_record_that_is_not_what_the_trail_tells_differs() -> None:
    story = Story().issue().clear().spend()
    story.state = Cleared(NOW)
    assert story.broken() == {Rule.RECORD_DIFFERS}


def test_a_token_that_was_open_when_credentials_changed_is_void() -> None:
    story = Story().issue()
    story.events.append(Event(name=EventName.CREDENTIALS_CHANGED, at=NOW, user_id=UserId(ADA)))
    operation = story.history.begin(Verb.ENROL, ADA, now=NOW)
    changed = Effect(EventName.CREDENTIALS_CHANGED, ADA)
    story.history.end(operation, Outcome.OK, "told", now=NOW, certain=[changed])
    assert story.broken() == set()
    story.answer(Method.PIN)
    assert story.broken() == {Rule.OUTLIVED_CREDENTIALS}


@pytest.mark.parametrize("has_one", [True, False])
@pytest.mark.parametrize("last", ["added", "replaced", "removed"])
def test_a_pin_is_there_or_gone_as_the_trail_tells_last(last: str, has_one: bool) -> None:
    story = Story(pin=has_one)
    for what in ("removed", "added", last):
        details = {"what": what, "credential": "pin"}
        name = EventName.CREDENTIALS_CHANGED
        story.events.append(Event(name=name, at=NOW, user_id=UserId(ADA), details=details))
        operation = story.history.begin(Verb.ENROL, ADA, now=NOW)
        story.history.end(operation, Outcome.OK, "told", now=NOW, certain=[Effect(name, ADA)])
    assert story.broken() == (set() if has_one == (last != "removed") else {Rule.RECORD_DIFFERS})


def test_as_many_codes_as_the_limit_may_go_to_a_number_in_a_day() -> None:
    for codes, broken in (
        (LIMITS.sends_per_number, set()),
        (LIMITS.sends_per_number + 1, {Rule.TOO_MANY_CODES}),
    ):
        story = Story().issue()
        for _ in range(codes):
            story.call(Verb.TRIGGER, EventName.CODE_SENT, method=Method.SMS)
            story.tell(EventName.CODE_SENT, Method.SMS)
        assert story.broken() == broken
