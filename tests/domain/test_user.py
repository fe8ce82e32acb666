"""Small facts about time and a user's state."""

from dataclasses import replace

import pytest

from tests.factories import NOW, make_credential, make_token, make_user, opened
from watchword.domain.action import Risk
from watchword.domain.instant import NEVER, Instant, after, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind
from watchword.domain.user import disable


@pytest.mark.parametrize(
    ("milliseconds", "seconds"), [(-5000, 0), (-1, 0), (0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)]
)
def test_seconds_left_are_rounded_up_and_never_negative(milliseconds: int, seconds: int) -> None:
    assert seconds_until(Instant(NOW + milliseconds), NOW) == seconds


def test_fractions_of_a_second_are_exact_to_the_millisecond() -> None:
    assert after(NOW, 0.001) == NOW + 1
    assert after(NOW, 1.5) == NOW + 1500


def test_never_is_over_before_any_moment() -> None:
    assert make_user().session(limits=Limits(), now=NOW) == NEVER
    assert NEVER < NOW


@pytest.mark.attack(38)
@pytest.mark.parametrize(
    ("left", "is_open"), [(0, False), (0.001, True), (300, True), (600, True), (600.001, False)]
)
def test_a_session_that_would_last_longer_than_sessions_do_is_none(left: float, is_open: bool) -> None:
    """It was opened under a clock that is ahead by more than clocks may be apart, which is five minutes."""
    until = after(NOW, left)
    user = replace(make_user(), session_until=until)
    assert user.session(limits=Limits(), now=NOW) == (until if is_open else NEVER)
    assert user.session(limits=Limits(session_seconds=0), now=NOW) == NEVER


def test_tokens_are_still_open_until_the_millisecond_in_which_they_expire() -> None:
    token = make_token()
    user = make_user()
    user = type(user)(id=user.id, open_tokens=opened(token))
    assert user.still_open(Instant(token.expires_at - 1)) == opened(token)
    assert user.still_open(token.expires_at) == ()


def test_disabling_one_kind_leaves_the_others_enrolled() -> None:
    credentials = [make_credential(CredentialKind.PIN), make_credential(CredentialKind.PHONE)]
    pin, phone = disable(credentials, [CredentialKind.PIN])
    assert pin.disabled
    assert not phone.disabled


# --- the cool-down ----------------------------------------------------------------------------

COOL = Limits(high_risk_after_seconds=3600)


@pytest.mark.parametrize(
    ("age_ms", "counts"), [(0, False), (3_599_999, False), (3_600_000, True), (3_600_001, True)]
)
def test_a_new_credential_counts_at_high_risk_once_its_time_is_over(age_ms: int, *, counts: bool) -> None:
    now = Instant(NOW + age_ms)
    user = make_user(CredentialKind.PIN)
    assert bool(user.counting(Risk.HIGH, limits=COOL, now=now).credentials) is counts
    assert user.counting(Risk.LOW, limits=COOL, now=now) is user
    assert user.counting(Risk.HIGH, limits=Limits(), now=now) is user


def test_an_old_credential_goes_on_counting_beside_a_new_one() -> None:
    old = make_credential(CredentialKind.DEVICE_FINGERPRINT)
    new = replace(old, id="new", enrolled_at=after(NOW, 3000))
    user = replace(make_user(), credentials=(old, new))
    assert user.counting(Risk.HIGH, limits=COOL, now=after(NOW, 3600)).credentials == (old,)
    assert user.counting(Risk.HIGH, limits=COOL, now=after(NOW, 6600)).credentials == (old, new)


# --- what there is ----------------------------------------------------------------------------


def test_what_is_disabled_is_there_and_proves_nothing() -> None:
    user = make_user(CredentialKind.PIN, CredentialKind.PHONE)
    user = replace(user, credentials=disable(user.credentials, [CredentialKind.PHONE]))
    assert user.enrolled() == {CredentialKind.PIN}
    assert (user.has(CredentialKind.PIN), user.has(CredentialKind.PHONE)) == (True, False)
    assert user.holds(CredentialKind.PHONE)
    assert user.holds(CredentialKind.PHONE, "phone")
    assert not user.holds(CredentialKind.PHONE, "pin")
    assert not user.holds(CredentialKind.FACE_MAP)
    assert list(user.phones()) == []
    assert [phone.id for phone in user.phones_too(None)] == ["phone"]
    assert [phone.id for phone in user.phones_too("phone")] == ["phone"]
    assert list(user.phones_too("pin")) == []
