"""What everybody would try is known, and what somebody drew is not."""

from hashlib import sha256
from secrets import token_bytes, token_hex

import pytest

from watchword.auth.guessable import DIFFERENT_MIN, is_guessable, is_well_known


@pytest.mark.parametrize(
    "word", ["", "\n", "test", "test\n", "Test", "TEST", "secret", "changeme", "my_token", "admin123", "1234"]
)
def test_the_digest_of_what_everybody_tries_is_known(word: str) -> None:
    digest = sha256(word.encode()).hexdigest()
    assert is_well_known(digest)
    assert is_well_known(digest.upper())


def test_the_digest_of_a_random_token_is_not() -> None:
    assert not is_well_known(sha256(token_hex(32).encode()).hexdigest())


@pytest.mark.parametrize(
    ("different", "expected"), [(DIFFERENT_MIN - 1, True), (DIFFERENT_MIN, False), (DIFFERENT_MIN + 1, False)]
)
def test_a_secret_has_so_many_different_characters(different: int, expected: bool) -> None:
    text = ("abcdefghijkl"[:different] * 40)[:40]
    assert is_guessable(text) is expected
    assert is_guessable(text.encode()) is expected


def test_what_was_drawn_is_never_taken_for_guessable() -> None:
    # 32 hexadecimal digits with fewer than eight different ones: less than once in 10^10.
    assert not any(is_guessable(token_hex(32)) or is_guessable(token_bytes(32)) for _ in range(1_000))
