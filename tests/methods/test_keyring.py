"""Sealing and digesting: nothing opens or matches in another place, or without its key."""

import os

import pytest
from hypothesis import given, strategies as st

from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered

OLD, NEW = bytes(32), bytes(range(32))
RING = Keyring({1: NEW}, active=1)
AT = b"6146956/pin"


def test_what_is_sealed_opens_in_its_place() -> None:
    sealed = RING.seal(Purpose.PIN, b"secret", bound_to=AT)
    assert RING.open(Purpose.PIN, sealed, bound_to=AT) == b"secret"
    assert b"secret" not in sealed


def test_the_same_value_is_never_sealed_alike() -> None:
    assert RING.seal(Purpose.PIN, b"secret", bound_to=AT) != RING.seal(Purpose.PIN, b"secret", bound_to=AT)


@pytest.mark.attack(179)
def test_a_sealed_value_does_not_open_in_another_row_or_for_another_purpose() -> None:
    sealed = RING.seal(Purpose.PIN, b"secret", bound_to=AT)
    with pytest.raises(Tampered):
        RING.open(Purpose.PIN, sealed, bound_to=b"6146957/pin")
    with pytest.raises(Tampered):
        RING.open(Purpose.PHONE, sealed, bound_to=AT)


@given(data=st.data())
def test_a_sealed_value_with_one_bit_changed_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(RING.seal(Purpose.PIN, b"secret", bound_to=AT))
    index = data.draw(st.integers(1, len(sealed) - 1))
    sealed[index] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Tampered):
        RING.open(Purpose.PIN, bytes(sealed), bound_to=AT)


@pytest.mark.parametrize("length", [0, 1, 2, 12, 13, 28])
def test_a_sealed_value_that_was_cut_short_does_not_open(length: int) -> None:
    sealed = RING.seal(Purpose.PIN, b"secret", bound_to=AT)
    with pytest.raises(Tampered):
        RING.open(Purpose.PIN, sealed[:length], bound_to=AT)


def test_an_empty_digest_is_tampered_with_rather_than_no_match() -> None:
    with pytest.raises(Tampered):
        RING.matches(Purpose.CODE, b"", b"111111")


@given(fields=st.lists(st.binary(max_size=4), max_size=4), other=st.lists(st.binary(max_size=4), max_size=4))
def test_a_digest_matches_its_own_fields_only_however_they_are_cut(
    fields: list[bytes], other: list[bytes]
) -> None:
    digest = RING.digest(Purpose.CODE, *fields)
    assert RING.matches(Purpose.CODE, digest, *other) == (fields == other)


def test_a_digest_for_one_purpose_is_none_for_another() -> None:
    digest = RING.digest(Purpose.CODE, b"111111")
    assert not RING.matches(Purpose.PHONE_DIGEST, digest, b"111111")


@pytest.mark.attack(178)
def test_another_key_neither_opens_nor_matches() -> None:
    other = Keyring({1: OLD}, active=1)
    with pytest.raises(Tampered):
        other.open(Purpose.PIN, RING.seal(Purpose.PIN, b"secret", bound_to=AT), bound_to=AT)
    assert not other.matches(Purpose.CODE, RING.digest(Purpose.CODE, b"111111"), b"111111")


# --- rotation ---------------------------------------------------------------------------------


@pytest.mark.attack(182)
def test_what_an_old_key_made_stays_good_while_the_new_one_makes_what_is_new() -> None:
    before = Keyring({1: OLD}, active=1)
    sealed = before.seal(Purpose.PIN, b"secret", bound_to=AT)
    digest = before.digest(Purpose.CODE, b"111111")
    rotated = Keyring({1: OLD, 2: NEW}, active=2)
    assert rotated.open(Purpose.PIN, sealed, bound_to=AT) == b"secret"
    assert rotated.matches(Purpose.CODE, digest, b"111111")
    assert not rotated.matches(Purpose.CODE, digest, b"222222")
    assert rotated.seal(Purpose.PIN, b"secret", bound_to=AT)[0] == 2
    assert rotated.digest(Purpose.CODE, b"111111")[0] == 2


@pytest.mark.attack(182)
def test_a_key_that_was_removed_is_named_and_nothing_passes() -> None:
    before = Keyring({1: OLD}, active=1)
    sealed = before.seal(Purpose.PIN, b"secret", bound_to=AT)
    digest = before.digest(Purpose.CODE, b"111111")
    without = Keyring({2: NEW}, active=2)
    with pytest.raises(KeyMissingError, match="key 1 is not in the ring"):
        without.open(Purpose.PIN, sealed, bound_to=AT)
    with pytest.raises(KeyMissingError, match="key 1 is not in the ring"):
        without.matches(Purpose.CODE, digest, b"111111")


# --- unsafe rings -----------------------------------------------------------------------------


@pytest.mark.attack(109)
@pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="key 1 must be 32 bytes"):
        Keyring({1: os.urandom(length)}, active=1)


@pytest.mark.parametrize("number", [-1, 256])
def test_a_key_whose_number_is_no_byte_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="its number one byte"):
        Keyring({number: NEW}, active=number)


@pytest.mark.parametrize("number", [0, 255])
def test_every_byte_numbers_a_key(number: int) -> None:
    ring = Keyring({number: NEW}, active=number)
    assert ring.matches(Purpose.CODE, ring.digest(Purpose.CODE, b"1"), b"1")


@pytest.mark.attack(109)
def test_a_ring_without_its_active_key_is_refused() -> None:
    with pytest.raises(ValueError, match="the active key, 2, is not in the ring"):
        Keyring({1: NEW}, active=2)


def test_a_ring_never_shows_its_keys() -> None:
    assert repr(Keyring({2: NEW, 1: OLD}, active=1)) == "Keyring([1, 2], active=1)"


# --- digests under every key ------------------------------------------------------------------


@pytest.mark.attack(182)
def test_digests_come_under_every_key_of_the_ring_the_active_one_first() -> None:
    ring = Keyring({1: NEW, 2: OLD, 3: bytes([3] * 32)}, active=2)
    digests = ring.digests(Purpose.PHONE_DIGEST, b"+6588888888")
    assert [digest[0] for digest in digests] == [2, 1, 3]
    assert digests[0] == ring.digest(Purpose.PHONE_DIGEST, b"+6588888888")
    assert digests[1] == RING.digest(Purpose.PHONE_DIGEST, b"+6588888888")
    assert len({digest[1:] for digest in digests}) == 3
    assert all(ring.matches(Purpose.PHONE_DIGEST, digest, b"+6588888888") for digest in digests)


def test_digests_for_another_purpose_or_of_other_fields_are_others() -> None:
    ring = Keyring({1: NEW, 2: OLD}, active=1)
    digests = set(ring.digests(Purpose.PHONE_DIGEST, b"ab", b"c"))
    assert not digests & set(ring.digests(Purpose.CODE, b"ab", b"c"))
    assert not digests & set(ring.digests(Purpose.PHONE_DIGEST, b"a", b"bc"))
    assert RING.digests(Purpose.CODE, b"x") == [RING.digest(Purpose.CODE, b"x")]
