"""Face maps: what a matcher gave is kept sealed, and opens in its place alone."""

from dataclasses import replace

import pytest

from tests.factories import ADA, GRACE, KEYRING, NOW, enrolled_pin, make_user
from watchword.domain.credential import Credential, FaceMap
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.face_map import FaceMapMethod
from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered

METHOD = FaceMapMethod(KEYRING)
TEMPLATE = b"the template of ada's face"


def enrolled(user_id: UserId = ADA, template: bytes = TEMPLATE) -> FaceMap:
    return METHOD.enrol(template, user_id=user_id, credential_id="face", now=NOW)


def having(*credentials: Credential, id: UserId = ADA) -> UserSecurity:
    return replace(make_user(id=id), credentials=credentials)


def test_the_template_comes_back_as_it_was_and_is_nowhere_in_the_record() -> None:
    face = enrolled()
    assert (face.id, face.enrolled_at, face.disabled) == ("face", NOW, False)
    assert METHOD.template(having(enrolled_pin(), face)) == TEMPLATE
    assert TEMPLATE not in face.sealed
    assert enrolled().sealed != face.sealed


def test_who_has_none_or_a_disabled_one_has_no_template_to_compare_with() -> None:
    disabled = replace(enrolled(), disabled=True)
    assert METHOD.template(having(enrolled_pin())) is None
    assert METHOD.template(having(disabled)) is None
    # It can still be told to the matcher, which shall forget it.
    assert METHOD.open(disabled, user_id=ADA) == TEMPLATE


@pytest.mark.attack(179)
def test_a_template_that_was_moved_to_another_user_row_or_purpose_does_not_open() -> None:
    with pytest.raises(Tampered):
        METHOD.template(having(enrolled(GRACE)))
    with pytest.raises(Tampered):
        METHOD.template(having(enrolled(), id=GRACE))
    with pytest.raises(Tampered):
        METHOD.template(having(replace(enrolled(), id="another row")))
    with pytest.raises(Tampered):
        METHOD.template(having(replace(enrolled(), sealed=enrolled_pin().sealed)))
    with pytest.raises(Tampered):
        KEYRING.open(Purpose.PIN, enrolled().sealed, bound_to=b"6146956/face")


@pytest.mark.attack(182)
def test_a_template_under_an_old_key_still_opens_and_under_a_removed_one_is_an_error() -> None:
    user, new = having(enrolled()), bytes([7] * 32)
    assert FaceMapMethod(Keyring({1: bytes(range(32)), 2: new}, active=2)).template(user) == TEMPLATE
    with pytest.raises(KeyMissingError):
        FaceMapMethod(Keyring({2: new}, active=2)).template(user)
