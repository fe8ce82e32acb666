"""
PIN: something the user knows.

Stored is the Argon2id output (RFC 9106), as AES-256-GCM ciphertext bound to user and row: four
digits fall to any hash once its key is known, so the key lives outside the database, and can be
changed without the user. A user without a PIN costs the same work as one with (attack 76).
"""

import hmac
import os
from itertools import pairwise

from argon2.low_level import Type, hash_secret_raw

from watchword.domain.credential import Pin
from watchword.domain.instant import Instant
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.base import row
from watchword.methods.keyring import Keyring, Purpose

_SALT_BYTES = 16
_HASH_BYTES = 32
# OWASP Password Storage, the minimum for small hosts: about 20 ms of a core.
_TIME, _MEMORY_KIB, _LANES = 2, 19 * 1024, 1
_YEAR_DIGITS, _LAST_YEAR = 4, 2029
_KEYPAD = frozenset({"2580", "0852", "1379", "7913", "1397"})
_NOBODY = bytes(_SALT_BYTES + _HASH_BYTES)


class PinMethod:
    """Enrols and compares PINs."""

    slow = True

    def __init__(self, keyring: Keyring) -> None:
        """Take the keys."""
        self._keyring = keyring

    def enrol(self, pin: str, *, user_id: UserId, credential_id: str, now: Instant) -> Pin:
        """Make the stored form of *pin*. Slow: keep it off the event loop."""
        salt = os.urandom(_SALT_BYTES)  # noqa: TID251 - a salt decides nothing that a test must steer.
        sealed = self._keyring.seal(
            Purpose.PIN, salt + _hash(pin, salt), bound_to=row(user_id, credential_id)
        )
        return Pin(id=credential_id, sealed=sealed, enrolled_at=now)

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare *answer* with the user's PIN."""
        del token
        pin = next(
            (entry for entry in user.credentials if isinstance(entry, Pin) and not entry.disabled), None
        )
        stored = (
            _NOBODY
            if pin is None
            else self._keyring.open(Purpose.PIN, pin.sealed, bound_to=row(user.id, pin.id))
        )
        hashed = _hash(answer, stored[:_SALT_BYTES])
        return hmac.compare_digest(hashed, stored[_SALT_BYTES:]) and pin is not None


def is_trivial(pin: str) -> bool:
    """
    Tell whether a PIN is among those that are guessed first.

    One digit or one pair over and over, a run up or down, the middle column of a keypad, a year of
    birth (NIST SP 800-63B-4 section 3.1.1.2 asks for a list; four digits leave no room for a long one).
    """
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    pair, year = pin[:2], pin[:2] in {"19", "20"} and len(pin) == _YEAR_DIGITS
    return (
        steps in ({0}, {1}, {9})
        or pin == (pair * len(pin))[: len(pin)]
        or pin in _KEYPAD
        or (year and int(pin) <= _LAST_YEAR)
    )


def _hash(pin: str, salt: bytes) -> bytes:
    return hash_secret_raw(
        pin.encode(),
        salt,
        time_cost=_TIME,
        memory_cost=_MEMORY_KIB,
        parallelism=_LANES,
        hash_len=_HASH_BYTES,
        type=Type.ID,
    )
