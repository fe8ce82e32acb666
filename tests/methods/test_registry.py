"""Which methods can be answered."""

from tests.factories import KEYRING
from watchword.domain.method import Method
from watchword.methods.registry import Methods


def test_every_method_has_a_verifier_but_for_faces_which_a_matcher_compares() -> None:
    methods = Methods(KEYRING)
    without = {method for method in Method if methods.verifier(method) is None}
    assert without == {Method.FACE_MAP}


def test_only_the_pin_is_slow() -> None:
    verifiers = {method: Methods(KEYRING).verifier(method) for method in Method}
    assert [method for method, verifier in verifiers.items() if verifier and verifier.slow] == [Method.PIN]


def test_each_channel_of_a_code_can_be_started() -> None:
    assert set(Methods(KEYRING).phone) == {method for method in Method if method.is_code}
