"""Device fingerprints: any of the user's devices passes, nobody else's does."""

from dataclasses import replace

import pytest

from tests.factories import (
    ADA,
    FINGERPRINT,
    GRACE,
    KEYRING,
    NOW,
    enrolled_fingerprint,
    enrolled_phone,
    make_token,
    make_user,
)
from watchword.domain.credential import Credential, DeviceFingerprint
from watchword.domain.user import UserId
from watchword.methods.device_fingerprint import DeviceFingerprintMethod
from watchword.methods.keyring import Keyring, Purpose, Tampered

METHOD = DeviceFingerprintMethod(KEYRING)


def verify(answer: str, *credentials: Credential, user_id: UserId = ADA) -> bool:
    user = replace(make_user(id=user_id), credentials=credentials)
    return METHOD.verify(answer, user=user, token=make_token())


def test_each_of_the_users_devices_passes() -> None:
    devices = (enrolled_phone(), enrolled_fingerprint(fingerprint="other"), enrolled_fingerprint())
    assert verify(FINGERPRINT, *devices)
    assert verify("other", *devices)


@pytest.mark.parametrize("answer", ["", FINGERPRINT.upper(), FINGERPRINT + " ", FINGERPRINT[:-1]])
def test_another_fingerprint_does_not_pass(answer: str) -> None:
    assert not verify(answer, enrolled_fingerprint())


def test_a_disabled_device_or_none_does_not_pass() -> None:
    assert not verify(FINGERPRINT, replace(enrolled_fingerprint(), disabled=True))
    assert not verify(FINGERPRINT)


@pytest.mark.attack(179)
def test_a_device_that_was_moved_to_another_user_does_not_pass() -> None:
    with pytest.raises(Tampered):
        verify(FINGERPRINT, enrolled_fingerprint(ADA), user_id=GRACE)
    with pytest.raises(Tampered):
        verify(FINGERPRINT, replace(enrolled_fingerprint(), id="another row"))


def test_the_stored_form_does_not_hold_the_fingerprint() -> None:
    assert FINGERPRINT not in repr(enrolled_fingerprint())


@pytest.mark.attack(182)
def test_a_device_under_an_old_key_still_passes() -> None:
    rotated = DeviceFingerprintMethod(Keyring({1: bytes(range(32)), 2: bytes([7] * 32)}, active=2))
    user = replace(make_user(), credentials=(enrolled_fingerprint(),))
    assert rotated.is_enrolled(FINGERPRINT, user=user)
    assert not rotated.is_enrolled("another", user=user)


@pytest.mark.attack(182)
def test_a_device_that_an_earlier_version_only_digested_still_passes_its_own_user() -> None:
    digest = KEYRING.digest(Purpose.DEVICE_FINGERPRINT, str(ADA).encode(), FINGERPRINT.encode())
    older = DeviceFingerprint(id="device", sealed=digest, enrolled_at=NOW)
    assert verify(FINGERPRINT, older)
    assert not verify("another", older)
    assert not verify(FINGERPRINT, older, user_id=GRACE)
