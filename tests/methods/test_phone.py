"""Codes to a phone: good for one user, one token, one channel and one number, and exact."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tests.factories import (
    ADA,
    CODE,
    GRACE,
    KEYRING,
    NOW,
    NUMBER,
    enrolled_phone,
    enrolled_pin,
    make_token,
    make_user,
)
from watchword.domain.credential import Credential
from watchword.domain.instant import after
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Cleared, OneTimeToken, Pending
from watchword.domain.user import UserSecurity
from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered
from watchword.methods.phone import PhoneMethod, obfuscated

LIMITS = Limits()
SMS = PhoneMethod(KEYRING, Method.SMS)


def having(*credentials: Credential, user: UserSecurity | None = None) -> UserSecurity:
    return replace(user or make_user(), credentials=credentials)


ADAS = having(enrolled_phone())


def sent(
    digits: str = CODE,
    *,
    method: PhoneMethod = SMS,
    user: UserSecurity = ADAS,
    token: OneTimeToken | None = None,
) -> OneTimeToken:
    """Return the token after *digits* were sent for it."""
    token = token or make_token()
    started = method.start(digits, user=user, token=token, limits=LIMITS, now=NOW)
    return replace(token, state=Pending(started.code))


def test_a_started_code_lives_five_minutes_and_goes_to_the_users_number() -> None:
    started = SMS.start(CODE, user=ADAS, token=make_token(), limits=LIMITS, now=NOW)
    assert (started.digits, started.to) == (CODE, NUMBER)
    assert (started.code.method, started.code.credential_id) == (Method.SMS, "phone")
    assert started.code.expires_at == after(NOW, 300)


def test_the_code_that_was_sent_passes_and_any_other_does_not() -> None:
    token = sent("048213")
    assert SMS.verify("048213", user=ADAS, token=token)
    for answer in ("048214", "48213", "0482130", "", "04821"):
        assert not SMS.verify(answer, user=ADAS, token=token)


@pytest.mark.attack(32)
@pytest.mark.parametrize(
    "answer",
    [
        " 111111",
        "111111 ",
        "111 111",
        "111-111",
        "+111111",
        "111111\n",
        "111111\u200b",
        "\uff11\uff11\uff11\uff11\uff11\uff11",
        "\u0661\u0661\u0661\u0661\u0661\u0661",
        "1e5",
        "111111.0",
        "0x1b207",
    ],
)
def test_what_only_looks_like_the_code_does_not_pass(answer: str) -> None:
    assert not SMS.verify(answer, user=ADAS, token=sent())


@given(digits=st.from_regex(r"[0-9]{6}", fullmatch=True), answer=st.from_regex(r"[0-9]{6}", fullmatch=True))
def test_a_code_is_passed_by_itself_alone(digits: str, answer: str) -> None:
    assert SMS.verify(answer, user=ADAS, token=sent(digits)) == (answer == digits)


@pytest.mark.attack(29)
def test_a_code_is_good_for_its_own_token_only() -> None:
    first = sent(token=make_token(id=b"one"))
    moved = replace(make_token(id=b"two"), state=first.state)
    assert SMS.verify(CODE, user=ADAS, token=first)
    assert not SMS.verify(CODE, user=ADAS, token=moved)


@pytest.mark.attack(179)
def test_a_code_is_good_for_its_own_user_only() -> None:
    grace = having(enrolled_phone(GRACE), user=make_user(id=GRACE))
    assert not SMS.verify(CODE, user=grace, token=sent())


def test_a_code_is_good_for_its_own_channel_only() -> None:
    voice = PhoneMethod(KEYRING, Method.VOICE)
    assert not voice.verify(CODE, user=ADAS, token=sent())


def test_a_code_is_good_for_the_number_that_it_went_to_only() -> None:
    token = sent()
    other_number = having(enrolled_phone(number="+447700900123"))
    other_row = having(replace(enrolled_phone(), id="another"))
    disabled = having(replace(enrolled_phone(), disabled=True))
    for user in (other_number, other_row, disabled, having()):
        assert not SMS.verify(CODE, user=user, token=token)


@pytest.mark.parametrize("state", [Pending(), Cleared(NOW)])
def test_a_token_without_a_live_code_passes_none(state: Pending | Cleared) -> None:
    assert not SMS.verify(CODE, user=ADAS, token=make_token(state))


@pytest.mark.attack(178)
def test_the_stored_form_of_a_code_cannot_be_searched_without_the_key() -> None:
    token = sent()
    assert isinstance(token.state, Pending)
    assert token.state.code is not None
    fields = (str(ADA).encode(), token.id, b"SMS", NUMBER.encode(), CODE.encode())
    assert KEYRING.digest(Purpose.CODE, *fields) == token.state.code.digest
    for key in (bytes(32), bytes([255] * 32)):
        assert Keyring({1: key}, active=1).digest(Purpose.CODE, *fields) != token.state.code.digest


@pytest.mark.attack(182)
def test_a_code_under_an_old_key_still_passes_and_under_a_removed_one_is_an_error() -> None:
    old, new = bytes(range(32)), bytes([7] * 32)
    token = sent()
    rotated = PhoneMethod(Keyring({1: old, 2: new}, active=2), Method.SMS)
    assert rotated.verify(CODE, user=ADAS, token=token)
    assert not rotated.verify("222222", user=ADAS, token=token)
    with pytest.raises(KeyMissingError):
        PhoneMethod(Keyring({2: new}, active=2), Method.SMS).verify(CODE, user=ADAS, token=token)


# --- numbers ----------------------------------------------------------------------------------


def test_a_number_is_sealed_to_its_user_and_the_same_number_is_counted_as_one() -> None:
    adas, graces = enrolled_phone(ADA), enrolled_phone(GRACE)
    assert SMS.number(ADA, adas) == NUMBER
    assert NUMBER.encode() not in adas.sealed + adas.digest
    assert adas.digest == graces.digest
    with pytest.raises(Tampered):
        SMS.number(GRACE, adas)


def test_the_first_number_that_is_not_disabled_is_sent_to() -> None:
    off = replace(enrolled_phone(), id="off", disabled=True)
    assert SMS.phone(having(enrolled_pin(), off, enrolled_phone())).id == "phone"
    with pytest.raises(LookupError):
        SMS.phone(having(off))


@pytest.mark.attack(80)
@pytest.mark.parametrize("number", [NUMBER, "+447700900123", "+1" + "5" * 13, "+12345"])
def test_a_number_is_shown_by_its_last_four_digits_behind_a_mask_of_one_length(number: str) -> None:
    assert obfuscated(number) == "*" * 9 + number[-4:]


def test_a_started_code_shows_neither_its_digits_nor_its_number() -> None:
    started = SMS.start("048213", user=ADAS, token=make_token(), limits=LIMITS, now=NOW)
    assert repr(started) == "Started(SMS)"


def test_a_live_code_holds_a_digest_only() -> None:
    assert "048213" not in repr(sent("048213"))
