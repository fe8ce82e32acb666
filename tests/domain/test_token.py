"""The verbs of a token, one limit and one refusal at a time."""

from dataclasses import replace

import pytest

from tests.factories import (
    ADA,
    BATCH,
    CODE,
    NOW,
    PAY,
    PAYMENT,
    READ,
    STATEMENT,
    enrolled_phone,
    make_code,
    make_destination,
    make_token,
    make_user,
    opened,
)
from watchword.domain import enrolment, verbs
from watchword.domain.action import Action
from watchword.domain.binding import bind
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Change, EventName, Reason, Refusal, WrongAnswer
from watchword.domain.destination import Destination
from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import Limits
from watchword.domain.lockout import Attempts, Tally
from watchword.domain.method import CredentialKind, Factor, Method
from watchword.domain.policy import required
from watchword.domain.token import (
    Cleared,
    OneTimeToken,
    Pending,
    Reserved,
    Revoked,
    Sends,
    Spent,
    State,
    TokenId,
    refused_as,
)
from watchword.domain.user import UserId, UserSecurity, disable

LIMITS = Limits()
USER = make_user()
LOCKED = replace(USER, attempts=Attempts(locked_until=after(NOW, 900)))


def changed(decision: Change | Refusal) -> Change:
    assert isinstance(decision, Change), decision
    return decision


def token_of(decision: Change | Refusal) -> OneTimeToken:
    token = changed(decision).token
    assert token is not None
    return token


def user_of(decision: Change | Refusal) -> UserSecurity:
    user = changed(decision).user
    assert user is not None
    return user


def names(decision: Change | Refusal) -> list[EventName]:
    return [event.name for event in changed(decision).events]


def reason(decision: Change | Refusal | None) -> Reason | None:
    return decision.reason if isinstance(decision, Refusal) else None


# --- issue ------------------------------------------------------------------------------------


def issue(
    user: UserSecurity = USER,
    *,
    action: Action = PAYMENT,
    oldest: tuple[OneTimeToken, ...] = (),
    presented: Reason | None = None,
    owner: UserId | None = None,
    limits: Limits = LIMITS,
    now: Instant = NOW,
) -> Change | Refusal:
    return verbs.issue(
        TokenId(b"new"),
        action=action,
        required=required(action, user),
        binding=PAY,
        user=user,
        oldest=oldest,
        presented=presented,
        owner=owner,
        limits=limits,
        now=now,
    )


def test_an_issued_token_is_pending_and_bound_to_user_action_and_request() -> None:
    decision = issue()
    token = token_of(decision)
    assert (token.user_id, token.action, token.binding) == (ADA, "TRANSFER__FUND", PAY)
    assert (token.state, token.version, token.expires_at) == (Pending(), 1, after(NOW, 900))
    assert user_of(decision).open_tokens == opened(token)
    assert user_of(decision).version == USER.version + 1
    (event,) = changed(decision).events
    assert event.name is EventName.TOKEN_ISSUED
    assert event.details == {"action": "TRANSFER__FUND", "risk": "high"}


def test_the_audit_of_an_issue_tells_why_the_presented_token_did_not_do_and_whose_it_is() -> None:
    (event,) = changed(issue(presented=Reason.UNKNOWN, owner=UserId(7))).events
    assert (event.details["presented"], event.details["owner"]) == ("unknown", 7)


def test_a_locked_user_gets_no_token() -> None:
    assert issue(LOCKED) == Refusal(Reason.LOCKED, retry_after=900)
    assert isinstance(issue(LOCKED, now=after(NOW, 900)), Change)


def test_the_lock_is_told_before_what_is_not_enrolled() -> None:
    nothing = replace(LOCKED, credentials=())
    assert reason(issue(nothing)) is Reason.LOCKED
    assert reason(issue(nothing, now=after(NOW, 900))) is Reason.NOT_ENROLLED


def live(count: int, state: State = Pending()) -> tuple[OneTimeToken, ...]:  # noqa: B008 - frozen.
    return tuple(make_token(state, id=b"%d" % number) for number in range(count))


@pytest.mark.parametrize(("already", "goes"), [(18, 0), (19, 0), (20, 1), (21, 2)])
def test_the_oldest_token_goes_when_there_are_more_than_twenty(already: int, goes: int) -> None:
    tokens_open = live(already)
    decision = issue(replace(USER, open_tokens=opened(*tokens_open)), oldest=tokens_open)
    revoked = changed(decision).revoked
    assert [token.id for token in revoked] == [token.id for token in tokens_open[:goes]]
    assert all(token.state == Revoked(NOW, "too-many") for token in revoked)
    assert all(token.version == 2 for token in revoked)
    entries = user_of(decision).open_tokens
    assert [entry.id for entry in entries] == [token.id for token in tokens_open[goes:]] + [b"new"]
    assert names(decision) == [EventName.TOKEN_ISSUED, *[EventName.TOKEN_REVOKED] * goes]


@pytest.mark.parametrize(
    "state", [Spent(NOW), Revoked(NOW, "x"), Reserved(NOW, NOW), Cleared(after(NOW, -300))]
)
def test_tokens_that_are_over_do_not_count_and_are_forgotten(state: State) -> None:
    over, left = live(15, state), tuple(make_token(id=b"open %d" % number) for number in range(5))
    decision = issue(replace(USER, open_tokens=opened(*over, *left)), oldest=(*over, *left))
    assert changed(decision).revoked == ()
    assert [entry.id for entry in user_of(decision).open_tokens] == [*(token.id for token in left), b"new"]


def test_a_reserved_token_is_open_while_its_lease_runs_for_it_may_be_released() -> None:
    held = make_token(Reserved(NOW, after(NOW, 60)), action=BATCH)
    assert held.is_open(limits=LIMITS, now=after(NOW, 59.999))
    assert not held.is_open(limits=LIMITS, now=after(NOW, 60))
    others = tuple(replace(token, state=Spent(NOW)) for token in live(20))
    decision = issue(replace(USER, open_tokens=opened(held, *others)), oldest=(held, *others))
    assert opened(held)[0] in user_of(decision).open_tokens


def test_expired_tokens_are_dropped_without_being_looked_at() -> None:
    user = replace(USER, open_tokens=opened(*live(20)))
    decision = issue(user, now=after(NOW, 900))
    assert [entry.id for entry in user_of(decision).open_tokens] == [b"new"]


# --- how long a token is good -----------------------------------------------------------------


@pytest.mark.attack(38)
@pytest.mark.parametrize(("offset", "over"), [(-1, Reason.EXPIRED), (0, None), (1, None)])
def test_no_token_is_good_long_before_it_was_issued(offset: int, over: Reason | None) -> None:
    """Where a clock was set back by more than clocks may be apart; it can be made void all the same."""
    now = Instant(after(NOW, -300) + offset)
    token = make_token(Cleared(NOW))
    assert refused_as(token, limits=LIMITS, now=now) is over
    spent = verbs.spend(token, action=PAYMENT, binding=PAY, limits=LIMITS, now=now)
    assert isinstance(spent, Refusal) == (over is not None)
    revoked = verbs.revoke(token, why="asked", limits=LIMITS, now=now)
    assert isinstance(token_of(revoked).state, Revoked)
    assert token.is_open(limits=LIMITS, now=now)


@pytest.mark.attack(38)
@pytest.mark.parametrize(("offset", "over"), [(-1, None), (0, Reason.EXPIRED), (1, Reason.EXPIRED)])
def test_a_token_is_over_in_the_millisecond_in_which_it_expires(offset: int, over: Reason | None) -> None:
    now = Instant(after(NOW, LIMITS.token_seconds) + offset)
    token = make_token(Pending(make_code(seconds=2000)))
    assert refused_as(token, limits=LIMITS, now=now) is over
    verified = verbs.verify(token, Method.SMS, right=True, user=USER, limits=LIMITS, now=now)
    assert reason(verified) is over
    assert reason(verbs.can_trigger(token, Method.VOICE, user=USER, limits=LIMITS, now=now)) is over
    assert token.is_open(limits=LIMITS, now=now) == (over is None)


@pytest.mark.parametrize(("offset", "over"), [(-1, None), (0, Reason.EXPIRED), (1, Reason.EXPIRED)])
def test_a_cleared_token_must_be_spent_within_its_time(offset: int, over: Reason | None) -> None:
    now = Instant(after(NOW, 300) + offset)
    spent = verbs.spend(make_token(Cleared(NOW)), action=PAYMENT, binding=PAY, limits=LIMITS, now=now)
    assert reason(spent) is over


def test_a_cleared_token_never_outlives_its_expiry() -> None:
    token = make_token(Cleared(after(NOW, 800)))
    assert token.good_until(LIMITS) == after(NOW, 900)
    assert token.good_until(Limits(spend_within_seconds=None)) == after(NOW, 900)


def test_without_a_time_to_spend_a_cleared_token_lives_as_long_as_any() -> None:
    limits = Limits(spend_within_seconds=None)
    late = Instant(after(NOW, 900) - 1)
    assert token_of(
        verbs.spend(make_token(Cleared(NOW)), action=PAYMENT, binding=PAY, limits=limits, now=late)
    ).state == Spent(late)


# --- trigger ----------------------------------------------------------------------------------


def trigger(
    token: OneTimeToken,
    method: Method = Method.SMS,
    *,
    user: UserSecurity = USER,
    destination: Destination | None = None,
    limits: Limits = LIMITS,
    now: Instant = NOW,
    digest: bytes = b"code",
) -> Change | Refusal:
    return verbs.trigger(
        token,
        replace(make_code(method, digest=digest), expires_at=after(now, limits.code_seconds)),
        user=user,
        destination=destination or make_destination(),
        limits=limits,
        now=now,
    )


def test_a_triggered_code_is_the_one_live_code_and_counted_for_token_and_number() -> None:
    decision = trigger(make_token())
    token = token_of(decision)
    assert token.state == Pending(make_code())
    assert token.sends == (Sends(Method.SMS, 1, NOW),)
    assert changed(decision).destination == Destination(id=b"digest", sent_at=(NOW,), version=1)
    assert names(decision) == [EventName.CODE_SENT]


@pytest.mark.attack(61)
@pytest.mark.parametrize(
    ("milliseconds", "retry"), [(0, 30), (1, 30), (29_999, 1), (30_000, None), (30_001, None)]
)
def test_a_code_is_sent_again_after_the_cooldown_only(milliseconds: int, retry: int | None) -> None:
    token = token_of(trigger(make_token()))
    decision = trigger(token, now=Instant(NOW + milliseconds))
    if retry is None:
        assert token_of(decision).sends == (Sends(Method.SMS, 2, Instant(NOW + milliseconds)),)
    else:
        assert decision == Refusal(Reason.RESENT_TOO_SOON, retry_after=retry)


def test_another_channel_is_no_resend_and_its_code_takes_the_place_of_the_first() -> None:
    token = token_of(trigger(make_token()))
    token = token_of(trigger(token, Method.VOICE, digest=b"newer"))
    assert isinstance(token.state, Pending)
    assert token.state.code is not None
    assert (token.state.code.method, token.state.code.digest) == (Method.VOICE, b"newer")
    assert {sends.method for sends in token.sends} == {Method.SMS, Method.VOICE}
    assert reason(trigger(token, Method.VOICE)) is Reason.RESENT_TOO_SOON
    assert reason(trigger(token, Method.SMS)) is Reason.RESENT_TOO_SOON


@pytest.mark.attack(61)
def test_a_token_sends_five_codes_over_all_channels_and_no_sixth() -> None:
    token, now = make_token(), NOW
    for method in (Method.SMS, Method.VOICE, Method.WHATSAPP, Method.SMS, Method.VOICE):
        token = token_of(trigger(token, method, now=now))
        now = after(now, 30)
    refusal = trigger(token, Method.WHATSAPP, now=now)
    assert refusal == Refusal(Reason.SENDS_EXHAUSTED, retry_after=900 - 150)


@pytest.mark.attack(62)
def test_a_number_that_received_its_share_gets_no_code_whatever_the_token() -> None:
    full = Destination(id=b"digest", sent_at=(NOW,) * 10, version=10)
    assert reason(trigger(make_token(), destination=full)) is Reason.SENDS_EXHAUSTED


def test_a_locked_user_gets_no_code() -> None:
    assert trigger(make_token(), user=LOCKED) == Refusal(Reason.LOCKED, retry_after=900)


@pytest.mark.parametrize("passed", [Method.SMS, Method.VOICE])
def test_a_challenge_that_is_passed_sends_no_code(passed: Method) -> None:
    challenges = (Challenge(Method.PIN), Challenge(Method.SMS, (Method.VOICE,), passed_by=passed))
    token = make_token(challenges=challenges)
    for method in (Method.SMS, Method.VOICE, Method.WHATSAPP):
        assert reason(trigger(token, method)) is Reason.NOT_OFFERED


@pytest.mark.parametrize("kind", [CredentialKind.PIN, CredentialKind.PHONE])
def test_a_credential_that_was_disabled_under_an_open_token_opens_nothing(kind: CredentialKind) -> None:
    user = replace(USER, credentials=disable(USER.credentials, [kind]))
    token = token_of(trigger(make_token()))
    closed = Method.PIN if kind is CredentialKind.PIN else Method.SMS
    other = Method.SMS if kind is CredentialKind.PIN else Method.PIN
    for method, refused in ((closed, Reason.NOT_OFFERED), (other, None)):
        verified = verbs.verify(token, method, right=True, user=user, limits=LIMITS, now=NOW)
        assert reason(verified) is refused
    assert reason(trigger(token, Method.VOICE, user=user)) is (
        Reason.NOT_OFFERED if closed is Method.SMS else None
    )


def test_a_code_that_nobody_could_deliver_is_taken_back_with_its_cooldown_but_stays_counted() -> None:
    token = token_of(trigger(token_of(trigger(make_token(), Method.VOICE))))
    decision = verbs.undelivered(token, make_code(), now=after(NOW, 1))
    back = token_of(decision)
    assert back.state == Pending()
    assert back.sends == (Sends(Method.VOICE, 1, NOW), Sends(Method.SMS, 1, NEVER))
    assert names(decision) == [EventName.CODE_UNDELIVERED]
    assert isinstance(trigger(back, now=after(NOW, 1)), Change)
    assert reason(trigger(back, Method.VOICE, now=after(NOW, 1))) is Reason.RESENT_TOO_SOON


@pytest.mark.parametrize(
    "state", [Pending(), Pending(make_code(digest=b"newer")), Cleared(NOW), Revoked(NOW, "x")]
)
def test_a_delivery_that_failed_late_takes_nothing_from_what_came_after_it(state: State) -> None:
    assert verbs.undelivered(make_token(state), make_code(), now=NOW) == Refusal(Reason.NOT_TRIGGERED)


# --- verify -----------------------------------------------------------------------------------


def verify(
    token: OneTimeToken,
    method: Method,
    *,
    right: bool = True,
    user: UserSecurity = USER,
    limits: Limits = LIMITS,
    now: Instant = NOW,
) -> Change | Refusal:
    return verbs.verify(token, method, right=right, user=user, limits=limits, now=now)


def wrong(*args: OneTimeToken | Method, user: UserSecurity = USER, limits: Limits = LIMITS) -> WrongAnswer:
    token, method = args
    assert isinstance(token, OneTimeToken)
    assert isinstance(method, Method)
    decision = verify(token, method, right=False, user=user, limits=limits)
    assert isinstance(decision, WrongAnswer)
    return decision


def test_a_first_passed_challenge_leaves_the_token_pending() -> None:
    decision = verify(make_token(), Method.PIN)
    token = token_of(decision)
    assert token.state == Pending()
    assert [challenge.passed_by for challenge in token.challenges] == [Method.PIN, None]
    assert user_of(decision).session_until == NEVER
    assert names(decision) == [EventName.CHALLENGE_PASSED]


def test_the_last_passed_challenge_clears_the_token_and_opens_the_session() -> None:
    decision = verify(token_of(verify(make_token(), Method.PIN)), Method.SMS, user=USER)
    assert reason(decision) is Reason.NOT_TRIGGERED
    token = token_of(trigger(token_of(verify(make_token(), Method.PIN))))
    decision = verify(token, Method.SMS, now=after(NOW, 7))
    assert token_of(decision).state == Cleared(after(NOW, 7))
    user = user_of(decision)
    assert user.session_until == after(NOW, 307)
    assert names(decision) == [EventName.CHALLENGE_PASSED, EventName.TOKEN_CLEARED]
    for offset, in_session in ((-1, True), (0, False), (1, False)):
        until = user.session(limits=LIMITS, now=Instant(after(NOW, 307) + offset))
        assert until == (after(NOW, 307) if in_session else NEVER)


def test_a_session_of_no_seconds_is_never_open() -> None:
    token = make_token(action=STATEMENT, challenges=(Challenge(Method.PIN),))
    user = user_of(verify(token, Method.PIN, limits=Limits(session_seconds=0)))
    for now in (NOW, after(NOW, -1)):
        assert user.session(limits=LIMITS, now=now) == NEVER, "a clock that goes back opens it"


@pytest.mark.attack(38)
def test_a_session_of_a_clock_that_is_far_ahead_ends_with_the_next_change() -> None:
    """So that it does not come to be good when everybody else is there."""
    far = replace(USER, session_until=after(NOW, 3600))
    token = make_token(action=STATEMENT, challenges=(Challenge(Method.PIN),))
    assert user_of(verify(token, Method.PIN, user=far)).session_until == after(NOW, 300)
    assert user_of(issue(user=far)).session_until == NEVER
    held = replace(USER, session_until=after(NOW, 200))
    assert user_of(issue(user=held)).session_until == after(NOW, 200)


def test_a_session_is_never_shortened_by_another_token() -> None:
    long = replace(USER, session_until=after(NOW, 400))
    token = make_token(action=STATEMENT, challenges=(Challenge(Method.PIN),))
    assert user_of(verify(token, Method.PIN, user=long)).session_until == after(NOW, 400)


def test_a_code_is_used_up_by_its_success_and_survives_that_of_another_method() -> None:
    token = token_of(trigger(make_token()))
    after_pin = token_of(verify(token, Method.PIN))
    assert after_pin.state == Pending(make_code())
    after_code = token_of(verify(token, Method.SMS))
    assert after_code.state == Pending()
    assert reason(verify(after_code, Method.SMS)) is Reason.NOT_OFFERED


@pytest.mark.parametrize(
    ("offset", "refused"), [(-1, None), (0, Reason.CODE_EXPIRED), (1, Reason.CODE_EXPIRED)]
)
@pytest.mark.attack(79)
def test_a_code_is_over_in_the_millisecond_in_which_it_expires(offset: int, refused: Reason | None) -> None:
    token = token_of(trigger(make_token()))
    now = Instant(after(NOW, LIMITS.code_seconds) + offset)
    for right in (True, False):
        assert reason(verify(token, Method.SMS, right=right, now=now)) is refused


def test_a_code_is_good_for_the_channel_that_it_went_over_only() -> None:
    token = token_of(trigger(make_token()))
    assert reason(verify(token, Method.VOICE)) is Reason.NOT_TRIGGERED
    token = token_of(trigger(token, Method.VOICE))
    assert reason(verify(token, Method.SMS)) is Reason.CODE_EXPIRED


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_a_code_dies_with_its_last_wrong_try_and_a_newer_one_lives(tries: int) -> None:
    limits = Limits(code_tries=tries, failures=50)
    token, user = token_of(trigger(make_token())), USER
    for number in range(tries):
        assert reason(verbs.can_verify(token, Method.SMS, user=user, limits=limits, now=NOW)) is None
        decision = wrong(token, Method.SMS, user=user, limits=limits)
        assert decision.attempts_left == tries - number - 1
        token, user = token_of(decision), user_of(decision)
    for right in (True, False):
        assert reason(verify(token, Method.SMS, right=right, limits=limits)) is Reason.CODE_EXPIRED
    token = token_of(trigger(token, now=after(NOW, 30), limits=limits))
    assert isinstance(verify(token, Method.SMS, limits=limits, now=after(NOW, 30)), Change)


def test_a_newer_code_does_not_reset_the_count_of_failures() -> None:
    decision = wrong(token_of(trigger(make_token())), Method.SMS)
    again = token_of(trigger(token_of(decision), Method.VOICE))
    assert wrong(again, Method.VOICE, user=user_of(decision)).attempts_left == 3


@pytest.mark.attack(44)
def test_the_attempts_left_count_down_over_several_tokens_and_the_last_one_locks() -> None:
    user = USER
    for number, left in enumerate((4, 3, 2, 1, 0)):
        decision = wrong(make_token(id=b"%d" % number), Method.PIN, user=user)
        assert decision.attempts_left == left
        assert user_of(decision).version == user.version + 1
        user = user_of(decision)
        locked = [] if left else [EventName.USER_LOCKED]
        assert names(decision) == [EventName.CHALLENGE_FAILED, *locked]
    assert verify(make_token(), Method.PIN, user=user) == Refusal(Reason.LOCKED, retry_after=900)


@pytest.mark.attack(52)
@pytest.mark.parametrize(("offset", "refused"), [(-1, Reason.LOCKED), (0, None), (1, None)])
def test_right_and_wrong_are_refused_alike_until_the_lock_ends(offset: int, refused: Reason | None) -> None:
    token = replace(make_token(), expires_at=after(NOW, 3600))
    now = Instant(after(NOW, 900) + offset)
    answers = [verify(token, Method.PIN, right=right, user=LOCKED, now=now) for right in (True, False)]
    assert [reason(answer) for answer in answers] == [refused, refused]


@pytest.mark.attack(79)
def test_a_method_that_is_not_offered_or_was_passed_is_not_looked_at() -> None:
    token = token_of(verify(make_token(), Method.PIN))
    for method in (Method.PIN, Method.PARTNER_DEVICE_FINGERPRINT, Method.FACE_MAP):
        for right in (True, False):
            assert reason(verify(token, method, right=right)) is Reason.NOT_OFFERED


def streak(knowledge: int = 0, possession: int = 0) -> UserSecurity:
    return replace(USER, attempts=Attempts(streak=Tally(knowledge, possession)))


def after_all(decision: Change | Refusal, *, limits: Limits = LIMITS) -> UserSecurity:
    """Return the user once what a wrong answer led to is carried out."""
    user = user_of(decision)
    if not user.attempts.exhausted(limits):
        return user
    return user_of(verbs.disable_exhausted(user, limits=limits, now=NOW))


@pytest.mark.attack(55)
@pytest.mark.parametrize(("before", "disabled"), [(8, False), (9, True)])
def test_the_tenth_wrong_pin_in_a_row_over_all_locks_disables_it(before: int, disabled: bool) -> None:
    counted = user_of(wrong(make_token(), Method.PIN, user=streak(knowledge=before)))
    assert counted.credentials is USER.credentials, "what is counted reaches no credential"
    unlocked = replace(counted, attempts=replace(counted.attempts, locked_until=NEVER))
    for right in (True, False):
        refused = reason(verify(make_token(), Method.PIN, right=right, user=unlocked))
        assert (refused is Reason.NOT_OFFERED) == disabled
        assert reason(verify(token_of(trigger(make_token())), Method.SMS, right=right, user=unlocked)) is None
    assert counted.attempts.exhausted(LIMITS) == ((Factor.KNOWLEDGE,) if disabled else ())
    if disabled:
        decision = verbs.disable_exhausted(counted, limits=LIMITS, now=NOW)
        user = user_of(decision)
        assert CredentialKind.PIN not in user.enrolled()
        assert CredentialKind.PHONE in user.enrolled()
        assert [(event.name, event.details) for event in decision.events] == [
            (EventName.CREDENTIAL_DISABLED, {"factor": "knowledge"})
        ]
        assert len(user.credentials) == len(USER.credentials)
        assert user.attempts.exhausted(LIMITS) == ()


@pytest.mark.attack(55)
@pytest.mark.parametrize(("before", "disabled"), [(98, False), (99, True)])
def test_the_hundredth_wrong_possession_disables_all_of_that_factor(before: int, disabled: bool) -> None:
    token = token_of(trigger(make_token()))
    user = after_all(wrong(token, Method.SMS, user=streak(possession=before)))
    possession = {CredentialKind.PHONE, CredentialKind.DEVICE_FINGERPRINT}
    assert (user.enrolled() & possession == set()) == disabled
    assert CredentialKind.PIN in user.enrolled()


@pytest.mark.attack(55)
@pytest.mark.parametrize(
    ("before", "refused"), [(9, None), (10, Reason.NOT_OFFERED), (11, Reason.NOT_OFFERED)]
)
def test_what_was_guessed_at_too_often_proves_nothing_though_it_is_not_disabled_yet(
    before: int, refused: Reason | None
) -> None:
    for right in (True, False):
        assert reason(verify(make_token(), Method.PIN, right=right, user=streak(before))) is refused


@pytest.mark.attack(55)
@pytest.mark.parametrize(
    ("before", "refused"), [(99, None), (100, Reason.NOT_OFFERED), (101, Reason.NOT_OFFERED)]
)
def test_no_code_is_sent_of_what_was_guessed_at_too_often(before: int, refused: Reason | None) -> None:
    assert reason(trigger(make_token(), user=streak(possession=before))) is refused


def test_a_new_pin_starts_with_no_streak() -> None:
    disabled = after_all(wrong(make_token(), Method.PIN, user=streak(knowledge=9)))
    assert disabled.attempts.streak == Tally()
    rebound = replace(disabled, credentials=USER.credentials)
    assert CredentialKind.PIN in after_all(wrong(make_token(), Method.PIN, user=rebound)).enrolled()


def test_a_cap_of_zero_never_disables() -> None:
    limits = Limits(disable_pin_after=0)
    user = after_all(
        wrong(make_token(), Method.PIN, user=streak(knowledge=500), limits=limits), limits=limits
    )
    assert CredentialKind.PIN in user.enrolled()
    assert user.attempts.streak == Tally(501)


# --- spend, reserve, confirm, release ---------------------------------------------------------


def spend(
    token: OneTimeToken, *, action: Action = PAYMENT, now: Instant = NOW, path: bytes | None = None
) -> Change | Refusal:
    binding = PAY if path is None else bind("POST", path, b"")
    return verbs.spend(token, action=action, binding=binding, limits=LIMITS, now=now)


@pytest.mark.attack(1)
def test_a_cleared_token_is_spent_by_its_own_request() -> None:
    decision = spend(make_token(Cleared(NOW)), now=after(NOW, 1))
    assert token_of(decision).state == Spent(after(NOW, 1))
    assert names(decision) == [EventName.TOKEN_SPENT]


@pytest.mark.attack(23)
@pytest.mark.parametrize("passed", [0, 1])
def test_a_token_with_a_challenge_left_is_not_spent(passed: int) -> None:
    token = make_token() if passed == 0 else token_of(verify(make_token(), Method.PIN))
    assert spend(token) == Refusal(Reason.NOT_READY)


@pytest.mark.attack(5)
@pytest.mark.parametrize("state", [Cleared(NOW), Pending()])
def test_a_token_of_another_action_is_refused_before_its_request_is_compared(state: State) -> None:
    assert spend(make_token(state), action=BATCH, path=b"/other") == Refusal(Reason.OTHER_ACTION)


@pytest.mark.attack(3)
@pytest.mark.parametrize("state", [Cleared(NOW), Pending()])
def test_another_request_is_refused_where_the_token_is_bound_to_its_request(state: State) -> None:
    assert spend(make_token(state), path=b"/other") == Refusal(Reason.OTHER_REQUEST)


def test_a_token_bound_to_its_action_serves_any_request_of_it() -> None:
    token = make_token(Cleared(NOW), action=STATEMENT, binding=READ)
    assert isinstance(spend(token, action=STATEMENT, path=b"/other"), Change)


def test_a_token_spent_on_success_is_reserved_first_with_a_lease() -> None:
    decision = spend(make_token(Cleared(NOW), action=BATCH), action=BATCH, now=after(NOW, 5))
    assert token_of(decision).state == Reserved(NOW, after(NOW, 65))
    assert names(decision) == [EventName.TOKEN_RESERVED]


@pytest.mark.parametrize(("offset", "released"), [(-1, True), (0, False), (1, False)])
def test_a_reserved_token_is_given_back_within_its_lease_only(offset: int, released: bool) -> None:
    token = make_token(Reserved(NOW, after(NOW, 60)), action=BATCH)
    decision = verbs.release(token, now=Instant(after(NOW, 60) + offset))
    assert isinstance(decision, Change) == released
    if released:
        # It may be spent as long as before, no longer.
        assert token_of(decision).state == Cleared(NOW)
        assert names(decision) == [EventName.TOKEN_RELEASED]
    else:
        assert decision == Refusal(Reason.EXPIRED)


def test_a_lease_beyond_the_expiry_gives_nothing_back_once_the_token_expired() -> None:
    token = make_token(Reserved(after(NOW, 880), after(NOW, 940)), action=BATCH)
    for offset, open_still in ((-1, True), (0, False), (1, False)):
        now = Instant(after(NOW, 900) + offset)
        assert isinstance(verbs.release(token, now=now), Change) == open_still
        assert token.is_open(limits=LIMITS, now=now) == open_still


def test_a_handler_that_succeeds_after_its_lease_still_spends_the_token() -> None:
    token = make_token(Reserved(NOW, after(NOW, 60)), action=BATCH)
    assert token_of(verbs.confirm(token, now=after(NOW, 5000))).state == Spent(after(NOW, 5000))


def test_a_lapsed_lease_is_not_good_for_another_request() -> None:
    token = make_token(Reserved(NOW, after(NOW, 60)), action=BATCH)
    for seconds in (0, 59, 60, 61, 5000):
        assert spend(token, action=BATCH, now=after(NOW, seconds)) == Refusal(Reason.RESERVED)


# --- revoke, and a change of credentials ------------------------------------------------------


def test_what_is_revoked_says_why() -> None:
    decision = verbs.revoke(make_token(Cleared(NOW)), why="other-request", limits=LIMITS, now=NOW)
    assert token_of(decision).state == Revoked(NOW, "other-request")
    (event,) = changed(decision).events
    assert (event.name, event.details) == (EventName.TOKEN_REVOKED, {"why": "other-request"})


@pytest.mark.attack(20)
def test_a_change_of_credentials_voids_what_is_open_and_ends_the_session_but_keeps_the_counts() -> None:
    states: list[State] = [
        Pending(),
        Cleared(NOW),
        Reserved(NOW, after(NOW, 60)),
        Spent(NOW),
        Revoked(NOW, "x"),
    ]
    issued = tuple(make_token(state, id=b"%d" % number) for number, state in enumerate(states))
    attempts = Attempts(failures=Tally(3), consecutive=3, streak=Tally(8), locked_until=after(NOW, 900))
    user = replace(USER, session_until=after(NOW, 300), open_tokens=opened(*issued), attempts=attempts)
    phone = enrolled_phone()
    decision = enrolment.change(
        user, credentials=(phone,), preferred=Method.VOICE, open_tokens=issued, now=NOW
    )
    assert [token.id for token in decision.revoked] == [b"0", b"1", b"2"]
    assert all(isinstance(token.state, Revoked) for token in decision.revoked)
    assert user_of(decision) == UserSecurity(
        id=ADA, version=2, credentials=(phone,), preferred=Method.VOICE, attempts=attempts
    )
    assert names(decision) == [EventName.CREDENTIALS_CHANGED, *[EventName.TOKEN_REVOKED] * 3]


def test_no_event_of_a_token_holds_more_than_names_and_numbers() -> None:
    decisions = [
        issue(presented=Reason.UNKNOWN),
        trigger(make_token()),
        wrong(make_token(), Method.PIN, user=streak(knowledge=9)),
        spend(make_token(Cleared(NOW))),
    ]
    for decision in decisions:
        for event in changed(decision).events:
            shown = repr(dict(event.details))
            assert CODE not in shown
            assert all(isinstance(value, str | int) for value in event.details.values())


@pytest.mark.attack(19)
def test_a_token_that_was_cleared_under_other_challenges_is_not_of_the_action_as_it_is_now() -> None:
    token = make_token(
        Cleared(NOW),
        challenges=(
            Challenge(Method.PIN, passed_by=Method.PIN),
            Challenge(Method.SMS, (Method.VOICE,), passed_by=Method.VOICE),
        ),
    )
    same = replace(PAYMENT, challenges=((Method.PIN,), (Method.SMS, Method.WHATSAPP, Method.VOICE)))
    assert isinstance(spend(token, action=same), Change)
    for raised in (
        ((Method.PIN,), (Method.SMS,)),
        ((Method.PIN,), (Method.SMS, Method.VOICE), (Method.FACE_MAP,)),
        ((Method.FACE_MAP,), (Method.SMS, Method.VOICE)),
    ):
        assert spend(token, action=replace(PAYMENT, challenges=raised)) == Refusal(Reason.OTHER_ACTION)
    signed = make_token(Cleared(NOW), challenges=(Challenge(Method.SIGNATURE, passed_by=Method.SIGNATURE),))
    assert isinstance(spend(signed, action=same), Change)
