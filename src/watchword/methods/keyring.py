"""
Keys, kept outside the database, and the two things done with them: seal and digest.

Every purpose has a key of its own, derived from a master key (HKDF, RFC 5869), so that a value
made for one purpose is worth nothing for another. A master key has a number, which is the first
byte of all that it made: a new one can be made active while what the old ones made stays good.
"""

import hmac
import os
from collections.abc import Mapping
from enum import StrEnum
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32
_NONCE_BYTES = 12


class Purpose(StrEnum):
    """What a derived key is for."""

    PIN = "pin"
    PHONE = "phone"
    PHONE_DIGEST = "phone-digest"
    DEVICE_FINGERPRINT = "device-fingerprint"
    DEVICE = "device"
    CODE = "code"
    FACE_MAP = "face-map"
    REQUEST = "request"
    DETAILS = "details"
    PAGE = "page"


class KeyMissingError(Exception):
    """The key that made a value is not in the ring; it was removed too early, or the ring is another's."""


class Tampered(Exception):  # noqa: N818 - it names what happened.
    """A sealed value is not one of ours, or stands where it was not put."""


class Keyring:
    """Numbered master keys, one of them active."""

    def __init__(self, keys: Mapping[int, bytes], *, active: int) -> None:
        """
        Take the keys.

        Args:
            keys: 32 random bytes each, by number from 0 to 255.
            active: The number of the key that makes new values.

        Raises:
            ValueError: A key has another length, or the active one is missing.
        """
        for number, key in keys.items():
            if len(key) != KEY_BYTES or not 0 <= number <= 255:  # noqa: PLR2004
                message = f"key {number} must be {KEY_BYTES} bytes, and its number one byte"
                raise ValueError(message)
        if active not in keys:
            message = f"the active key, {active}, is not in the ring"
            raise ValueError(message)
        self._keys = dict(keys)
        self._active = active
        self._derived = cache(self._derive)
        self._ciphers = cache(self._cipher)

    def seal(self, purpose: Purpose, plain: bytes, *, bound_to: bytes) -> bytes:
        """
        Encrypt and authenticate (AES-256-GCM).

        Args:
            bound_to: Names the row; a value moved to another row does not open.
        """
        nonce = os.urandom(_NONCE_BYTES)  # noqa: TID251 - a nonce decides nothing that a test must steer.
        cipher = self._ciphers(self._active, purpose)
        return bytes([self._active]) + nonce + cipher.encrypt(nonce, plain, bound_to)

    def open(self, purpose: Purpose, sealed: bytes, *, bound_to: bytes) -> bytes:
        """
        Decrypt what ``seal`` made.

        Raises:
            KeyMissingError: Its key is not in the ring.
            Tampered: It was changed, or belongs to another row or purpose.
        """
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if len(nonce) < _NONCE_BYTES:
            raise Tampered(purpose)
        try:
            return self._ciphers(sealed[0], purpose).decrypt(nonce, box, bound_to)
        except InvalidTag as error:
            raise Tampered(purpose) from error

    @property
    def active(self) -> int:
        """The number of the key that makes new values."""
        return self._active

    def is_current(self, value: bytes) -> bool:
        """Tell whether the active key made *value*."""
        return value[:1] == bytes([self._active])

    def reseal(self, purpose: Purpose, sealed: bytes, *, bound_to: bytes) -> bytes:
        """
        Seal anew under the active key what ``seal`` made under any.

        Raises:
            KeyMissingError: Its key is not in the ring.
            Tampered: It was changed, or belongs to another row or purpose.
        """
        return self.seal(purpose, self.open(purpose, sealed, bound_to=bound_to), bound_to=bound_to)

    def digest(self, purpose: Purpose, *fields: bytes, like: bytes = b"") -> bytes:
        """
        Return a keyed digest (HMAC-SHA-256) of *fields*, under the active key.

        Args:
            like: A digest that it will be compared with; where that one's key is in the ring, it is
                this one's too.
        """
        number = like[0] if like and like[0] in self._keys else self._active
        return self._mac(number, purpose, fields)

    def digests(self, purpose: Purpose, *fields: bytes) -> list[bytes]:
        """Return the digests of *fields* under every key, that of the active one first."""
        return [self._mac(number, purpose, fields) for number in self._by_activity()]

    def lasting(self, purpose: Purpose, *fields: bytes) -> list[bytes]:
        """
        Return the digests of *fields* under the active key and those that will follow it.

        What is claimed under all of these, two servers cannot both claim while one of them has
        changed its key and the other has not yet: each step of a rotation leaves them one in common.
        """
        return [
            self._mac(number, purpose, fields) for number in self._by_activity() if number >= self._active
        ]

    def enclosed(self, purpose: Purpose, digest: bytes) -> tuple[bytes, bytes]:
        """
        Return the derived key of a digest, and the digest without its number.

        Both together, sealed, are as good as the digest, and need its master key no more.

        Raises:
            KeyMissingError: Its key is not in the ring.
        """
        return self._derived(digest[0], purpose), digest[1:]

    def _by_activity(self) -> list[int]:
        return sorted(self._keys, key=lambda number: (number != self._active, number))

    def matches(self, purpose: Purpose, digest: bytes, *fields: bytes) -> bool:
        """
        Tell, in constant time, whether *digest* is that of *fields*.

        Raises:
            KeyMissingError: Its key is not in the ring.
            Tampered: It is no digest of ours.
        """
        if not digest:
            raise Tampered(purpose)
        return hmac.compare_digest(digest, self._mac(digest[0], purpose, fields))

    def _mac(self, number: int, purpose: Purpose, fields: tuple[bytes, ...]) -> bytes:
        return bytes([number]) + mac(self._derived(number, purpose), *fields)

    def _derive(self, number: int, purpose: Purpose) -> bytes:
        master = self._keys.get(number)
        if master is None:
            message = f"key {number} is not in the ring"
            raise KeyMissingError(message)
        info = b"watchword/1/" + purpose.value.encode()
        return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=info).derive(master)

    def _cipher(self, number: int, purpose: Purpose) -> AESGCM:
        return AESGCM(self._derived(number, purpose))

    def __repr__(self) -> str:
        """Name the numbers, never the keys."""
        return f"Keyring({sorted(self._keys)}, active={self._active})"


def mac(key: bytes, *fields: bytes) -> bytes:
    """Return the HMAC-SHA-256 of *fields*."""
    # Lengths go first: ("ab", "c") and ("a", "bc") must not meet.
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return hmac.digest(key, message, "sha256")
