"""The PIN: compared in the same way for everybody, and worthless to whoever has only the store."""

from dataclasses import replace

import pytest
from argon2.low_level import Type, hash_secret_raw

from tests.factories import ADA, GRACE, KEYRING, NOW, PIN, enrolled_pin, make_token, make_user
from watchword.domain.credential import Pin
from watchword.domain.user import UserSecurity
from watchword.methods import pin as module
from watchword.methods.base import row
from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered
from watchword.methods.pin import PinMethod

METHOD = PinMethod(KEYRING)


def having(*credentials: Pin, user: UserSecurity | None = None) -> UserSecurity:
    return replace(user or make_user(), credentials=credentials)


def verify(answer: str, user: UserSecurity, method: PinMethod = METHOD) -> bool:
    return method.verify(answer, user=user, token=make_token())


def test_the_right_pin_passes_and_any_other_does_not() -> None:
    ada = having(enrolled_pin())
    assert verify(PIN, ada)
    for answer in ("1235", "", "12345", "123", "01234"):
        assert not verify(answer, ada)


@pytest.mark.attack(32)
@pytest.mark.parametrize(
    "answer", [" 1234", "1234 ", "+1234", "\uff11\uff12\uff13\uff14", "1234\u200b", "1234\0"]
)
def test_what_only_looks_like_the_pin_does_not_pass(answer: str) -> None:
    assert not verify(answer, having(enrolled_pin()))


@pytest.mark.attack(179)
def test_a_pin_that_was_moved_to_another_user_or_row_does_not_open() -> None:
    with pytest.raises(Tampered):
        verify(PIN, having(enrolled_pin(ADA), user=make_user(id=GRACE)))
    with pytest.raises(Tampered):
        verify(PIN, having(replace(enrolled_pin(), id="another row")))


@pytest.mark.attack(178)
def test_the_stored_form_cannot_be_recomputed_from_the_pin_without_the_key() -> None:
    pin = enrolled_pin()
    # Whoever holds the dump alone: any key but the right one, and the bytes of the record.
    for guess in (bytes(32), bytes([255] * 32)):
        with pytest.raises(Tampered):
            verify(PIN, having(pin), PinMethod(Keyring({1: guess}, active=1)))
    opened = KEYRING.open(Purpose.PIN, pin.sealed, bound_to=row(ADA, pin.id))
    salt, digest = opened[:16], opened[16:]
    # Salt and hash are inside the ciphertext: the record holds nothing to compare a guess with.
    assert salt not in pin.sealed
    assert digest not in pin.sealed
    assert PIN.encode() not in pin.sealed
    assert METHOD.enrol(PIN, user_id=ADA, credential_id="pin", now=NOW).sealed != pin.sealed


def test_what_is_sealed_is_argon2id_at_no_less_than_the_recommended_cost() -> None:
    pin = enrolled_pin()
    opened = KEYRING.open(Purpose.PIN, pin.sealed, bound_to=row(ADA, pin.id))
    expected = hash_secret_raw(
        PIN.encode(),
        opened[:16],
        time_cost=2,
        memory_cost=19 * 1024,
        parallelism=1,
        hash_len=32,
        type=Type.ID,
    )
    assert opened[16:] == expected


@pytest.mark.attack(76)
@pytest.mark.parametrize("credentials", [(), (replace(enrolled_pin(), disabled=True),)])
def test_a_user_without_a_usable_pin_costs_the_same_hash_and_never_passes(
    credentials: tuple[Pin, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    plain = module._hash  # noqa: SLF001 - the one place where the cost is spent.

    def counted(pin: str, salt: bytes) -> bytes:
        hashed.append(pin)
        return plain(pin, salt)

    monkeypatch.setattr(module, "_hash", counted)
    assert not verify(PIN, having(*credentials))
    assert hashed == [PIN]


def test_nobodys_hash_is_no_pin_even_when_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_hash", lambda *_: bytes(32))
    assert not verify(PIN, having())


@pytest.mark.attack(182)
def test_a_pin_under_an_old_key_still_passes_and_under_a_removed_one_is_an_error() -> None:
    old, new = bytes(range(32)), bytes([7] * 32)
    ada = having(enrolled_pin())
    rotated = PinMethod(Keyring({1: old, 2: new}, active=2))
    assert verify(PIN, ada, rotated)
    assert not verify("9999", ada, rotated)
    with pytest.raises(KeyMissingError):
        verify(PIN, ada, PinMethod(Keyring({2: new}, active=2)))


def test_a_pin_is_compared_off_the_event_loop() -> None:
    assert METHOD.slow


# --- what is guessed first --------------------------------------------------------------------


@pytest.mark.parametrize(
    "pin",
    [
        *(digit * 4 for digit in "0123456789"),  # One digit over and over,
        *("1212", "6969", "0707", "9090", "121212", "12121"),  # one pair over and over,
        *("0123", "1234", "6789", "7890", "8901", "012345", "90123"),  # a run up, past nine too,
        *("3210", "9876", "4321", "1098", "0987", "543210"),  # a run down,
        *("2580", "0852", "1379", "7913", "1397"),  # a way over the keypad,
        *("1900", "1984", "1999", "2000", "2001", "2029"),  # a year of birth.
    ],
)
def test_what_is_guessed_first_is_trivial(pin: str) -> None:
    assert module.is_trivial(pin)


@pytest.mark.parametrize(
    "pin",
    [
        *("4711", "1235", "1243", "0124", "9875", "1221", "1122", "1213", "7135", "5555556"),
        *("1899", "2030", "2100", "1800", "9119", "198412", "2468", "1357", "9630", "00001"),
    ],
)
def test_other_pins_are_not(pin: str) -> None:
    assert not module.is_trivial(pin)


def test_of_all_pins_of_four_digits_few_are_refused() -> None:
    trivial = [pin for pin in (f"{number:04}" for number in range(10_000)) if module.is_trivial(pin)]
    # 10 digits, 90 pairs, 10 runs each way, 5 on the keypad, 130 years; 1919 and 2020 are two of these.
    assert len(trivial) == 10 + 90 + 20 + 5 + 130 - 2
