"""A signature on the retry itself: verified and spent in one change, and counted when it is wrong."""

from dataclasses import replace

import pytest

from tests.factories import ADA, BATCH, NOW, PAY, PAYMENT, make_token, make_user, opened
from watchword.domain import verbs
from watchword.domain.action import Action, Risk
from watchword.domain.binding import Binding, bind
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Change, EventName, Reason, Refusal, WrongAnswer
from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import Limits
from watchword.domain.lockout import Attempts, Tally
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import Cleared, OneTimeToken, Pending, Reserved, Revoked, Spent, State
from watchword.domain.user import UserSecurity, disable

LIMITS = Limits()
SIGNER = replace(make_user(CredentialKind.PUBLIC_KEY), attempts=Attempts(failures=Tally(0, 3), consecutive=3))
OTHER = bind("POST", PAY.path.encode(), b"amount=2")


def asking(state: State = Pending(), *, action: Action = PAYMENT, id: bytes = b"token") -> OneTimeToken:  # noqa: B008 - frozen.
    passed = None if isinstance(state, Pending) else Method.SIGNATURE
    challenges = (Challenge(Method.SIGNATURE, passed_by=passed),)
    return replace(make_token(state, action=action, challenges=challenges, id=id), factors=1)


def sign(
    token: OneTimeToken | None = None,
    *,
    right: bool = True,
    action: Action = PAYMENT,
    binding: Binding = PAY,
    user: UserSecurity = SIGNER,
    limits: Limits = LIMITS,
    now: Instant = NOW,
) -> Change | Refusal:
    token = token or asking(action=action)
    decision = verbs.sign(
        token,
        right=right,
        action=action,
        binding=binding,
        user=user,
        limits=limits,
        now=now,
    )
    before = verbs.can_sign(token, action=action, binding=binding, user=user, limits=limits, now=now)
    # What is refused is refused before anything is compared.
    assert decision == before if before is not None else isinstance(decision, Change)
    return decision


def test_a_right_signature_passes_clears_and_spends_in_one_change() -> None:
    decision = sign()
    assert isinstance(decision, Change)
    token, user = decision.token, decision.user
    assert token == replace(asking(Spent(NOW)), version=2), "one version, or the change would be refused"
    assert user is not None
    assert (user.version, user.attempts.failures, user.attempts.consecutive) == (2, Tally(0, 0), 0)
    assert user.session_until == after(NOW, LIMITS.session_seconds)
    assert [event.name for event in decision.events] == [
        EventName.CHALLENGE_PASSED,
        EventName.TOKEN_CLEARED,
        EventName.TOKEN_SPENT,
    ]


def test_where_a_token_is_spent_on_success_it_is_reserved() -> None:
    decision = sign(action=BATCH)
    assert isinstance(decision, Change)
    assert decision.token == replace(asking(Reserved(NOW, after(NOW, 60)), action=BATCH), version=2)
    assert decision.events[-1].name is EventName.TOKEN_RESERVED


def test_a_wrong_one_is_counted_and_the_token_stays_as_good_as_it_was() -> None:
    decision = sign(right=False)
    assert isinstance(decision, WrongAnswer)
    assert decision.attempts_left == 1
    assert decision.token == replace(asking(), version=2)
    assert decision.user is not None
    assert decision.user.attempts.failures == Tally(0, 4)


def test_the_fifth_wrong_one_locks() -> None:
    user = replace(SIGNER, attempts=Attempts(failures=Tally(0, 4), consecutive=4))
    decision = sign(right=False, user=user)
    assert isinstance(decision, WrongAnswer)
    assert decision.attempts_left == 0
    assert decision.user is not None
    assert decision.user.attempts.locked_until == after(NOW, 900)


@pytest.mark.attack(20)
def test_the_one_that_disables_the_keys_voids_all_that_was_issued_on_them() -> None:
    others = (asking(Cleared(NOW), id=b"ready"), asking(id=b"pending"), asking(Spent(NOW), id=b"spent"))
    token = asking()
    user = replace(
        SIGNER,
        attempts=Attempts(streak=Tally(0, 99)),
        session_until=after(NOW, 300),
        open_tokens=opened(token, *others),
    )
    counted = sign(token, right=False, user=user)
    assert isinstance(counted, WrongAnswer)
    assert counted.user is not None
    assert counted.token is not None
    assert counted.revoked == (), "what is counted reaches no other token"
    issued = (counted.token, *others)
    decision = verbs.disable_exhausted(counted.user, open_tokens=issued, limits=LIMITS, now=NOW)
    assert decision.user is not None
    assert [each.disabled for each in decision.user.credentials] == [True]
    assert (decision.user.session_until, decision.user.open_tokens) == (NEVER, ())
    assert [each.id for each in decision.revoked] == [token.id, b"ready", b"pending"]
    assert all(each.state == Revoked(NOW, "credentials-changed") for each in decision.revoked)


@pytest.mark.parametrize(
    ("token", "more", "reason"),
    [
        (asking(Spent(NOW)), {}, Reason.ALREADY_SPENT),
        (asking(Revoked(NOW, "x")), {}, Reason.REVOKED),
        (asking(Reserved(NOW, after(NOW, 60))), {}, Reason.RESERVED),
        (asking(), {"now": after(NOW, 900)}, Reason.EXPIRED),
        (asking(), {"action": replace(PAYMENT, name="OTHER")}, Reason.OTHER_ACTION),
        (asking(), {"action": replace(PAYMENT, risk=Risk.LOW)}, Reason.OTHER_ACTION),
        (asking(), {"binding": OTHER}, Reason.OTHER_REQUEST),
        (
            asking(),
            {"user": replace(SIGNER, attempts=Attempts(locked_until=Instant(NOW + 1)))},
            Reason.LOCKED,
        ),
        (
            asking(),
            {"user": replace(SIGNER, credentials=disable(SIGNER.credentials, [CredentialKind.PUBLIC_KEY]))},
            Reason.NOT_OFFERED,
        ),
        (asking(), {"user": make_user()}, Reason.NOT_OFFERED),
        (asking(Cleared(NOW)), {}, Reason.NOT_OFFERED),
        (make_token(), {}, Reason.NOT_OFFERED),
    ],
)
@pytest.mark.parametrize("right", [True, False])
def test_where_it_is_not_looked_at_nothing_is_counted(
    token: OneTimeToken, more: dict[str, object], reason: Reason, *, right: bool
) -> None:
    refusal = sign(token, right=right, **more)  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason


def test_another_request_comes_before_the_lock_so_that_it_voids_the_token_all_the_same() -> None:
    user = replace(SIGNER, attempts=Attempts(locked_until=after(NOW, 900)))
    assert sign(user=user, binding=OTHER) == Refusal(Reason.OTHER_REQUEST)


def test_it_is_good_to_the_last_millisecond_of_the_token() -> None:
    assert isinstance(sign(now=Instant(after(NOW, 900) - 1)), Change)


def test_the_user_of_another_token_is_not_asked_here() -> None:
    # Whose token it is the engine looks at; here the record says it, and the events follow it.
    decision = sign()
    assert isinstance(decision, Change)
    assert {event.user_id for event in decision.events} == {ADA}
