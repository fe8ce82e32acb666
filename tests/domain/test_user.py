"""Small facts about time and a user's state."""

import pytest

from tests.factories import NOW, make_credential, make_token, make_user, opened
from watchword.domain.instant import NEVER, Instant, after, seconds_until
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
    assert not make_user().in_session(NOW)
    assert NEVER < NOW


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
