"""Face maps: what a matcher made of a face is kept for one user and one row, and only sealed."""

from dataclasses import replace

import pytest

from tests.factories import ADA, GRACE, KEYRING, NOW, enrolled_pin, make_user
from watchword.domain.credential import FaceMap
from watchword.domain.user import UserId
from watchword.methods.face_map import FaceMapMethod
from watchword.methods.keyring import KeyMissingError, Keyring, Tampered

METHOD = FaceMapMethod(KEYRING)
TEMPLATE = b"what a matcher made of a face, a few hundred numbers"


def enrolled(user_id: UserId = ADA, *, number: str = "face", template: bytes = TEMPLATE) -> FaceMap:
    return METHOD.enrol(template, user_id=user_id, credential_id=number, now=NOW)


def test_the_template_of_the_users_face_is_what_was_enrolled() -> None:
    user = replace(make_user(), credentials=(enrolled_pin(), enrolled()))
    assert METHOD.template(user) == TEMPLATE


def test_a_user_without_a_face_or_with_a_disabled_one_has_no_template() -> None:
    assert METHOD.template(replace(make_user(), credentials=())) is None
    assert METHOD.template(replace(make_user(), credentials=(enrolled_pin(),))) is None
    disabled = replace(enrolled(), disabled=True)
    assert METHOD.template(replace(make_user(), credentials=(disabled,))) is None
    assert METHOD.open(disabled, user_id=ADA) == TEMPLATE  # So that a matcher can be told to forget it.


@pytest.mark.attack(178)
def test_what_is_stored_shows_nothing_of_the_template() -> None:
    one, other = enrolled(), enrolled()
    assert one.sealed != other.sealed
    for size in range(4, len(TEMPLATE)):
        assert TEMPLATE[:size] not in one.sealed
    with pytest.raises(Tampered):
        FaceMapMethod(Keyring({1: bytes(32)}, active=1)).open(one, user_id=ADA)


@pytest.mark.attack(179)
def test_anothers_face_does_not_open_nor_does_ones_own_in_another_row() -> None:
    hers = enrolled(GRACE)
    for moved in (hers, replace(hers, id="other"), replace(enrolled(), id="other")):
        with pytest.raises(Tampered):
            METHOD.template(replace(make_user(), credentials=(moved,)))


@pytest.mark.attack(179)
@pytest.mark.parametrize("at", range(0, 80, 7))
def test_a_changed_byte_does_not_open(at: int) -> None:
    face = enrolled()
    sealed = bytearray(face.sealed)
    sealed[at] ^= 1
    with pytest.raises((Tampered, KeyMissingError)):
        METHOD.open(replace(face, sealed=bytes(sealed)), user_id=ADA)


@pytest.mark.attack(182)
def test_a_face_opens_under_an_older_key_until_that_is_removed() -> None:
    keys = {1: bytes(range(32)), 2: bytes(range(32, 64))}
    face = FaceMapMethod(Keyring({1: keys[1]}, active=1)).enrol(
        TEMPLATE, user_id=ADA, credential_id="face", now=NOW
    )
    rotated = FaceMapMethod(Keyring(keys, active=2))
    assert rotated.open(face, user_id=ADA) == TEMPLATE
    newer = rotated.enrol(TEMPLATE, user_id=ADA, credential_id="face", now=NOW)
    removed = FaceMapMethod(Keyring({2: keys[2]}, active=2))
    assert removed.open(newer, user_id=ADA) == TEMPLATE
    with pytest.raises(KeyMissingError):
        removed.open(face, user_id=ADA)
