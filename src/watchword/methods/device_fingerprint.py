"""
Device fingerprint: an opaque string that the partner's app keeps on the user's device.

Compared as a digest under a key of its own, and both are sealed, bound to user and row: nobody could
digest it anew for another master key while the device is away. It stands for possession as the public
protocol has it; nothing in it proves that the device is there (NIST SP 800-63B-4 section 3.2.1), which
``docs/divergences.md`` says to whoever chooses it.
"""

import hmac
import os
from dataclasses import replace

from watchword.domain.credential import DeviceFingerprint
from watchword.domain.instant import Instant
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.base import row
from watchword.methods.keyring import KEY_BYTES, Keyring, Purpose, mac

# What schemas before the fourth hold: the number of a master key, and a digest under what is derived of it.
_DIGEST_BYTES = 1 + 32


class DeviceFingerprintMethod:
    """Enrols and compares device fingerprints."""

    slow = False

    def __init__(self, keyring: Keyring) -> None:
        """Take the keys."""
        self._keyring = keyring

    def enrol(
        self, fingerprint: str, *, user_id: UserId, credential_id: str, now: Instant
    ) -> DeviceFingerprint:
        """Make the stored form of *fingerprint*."""
        key = os.urandom(KEY_BYTES)  # noqa: TID251 - it decides nothing that a test must steer.
        digest = mac(key, *_fields(user_id, fingerprint))
        sealed = self._keyring.seal(Purpose.DEVICE, key + digest, bound_to=row(user_id, credential_id))
        return DeviceFingerprint(id=credential_id, sealed=sealed, enrolled_at=now)

    def renewed(self, device: DeviceFingerprint, *, user_id: UserId) -> DeviceFingerprint:
        """
        Seal anew under the active key; also what was only digested.

        Raises:
            KeyMissingError, Tampered: It cannot be read.
        """
        bound_to = row(user_id, device.id)
        if is_only_digested(device):
            key, digest = self._keyring.enclosed(Purpose.DEVICE_FINGERPRINT, device.sealed)
            sealed = self._keyring.seal(Purpose.DEVICE, key + digest, bound_to=bound_to)
        else:
            sealed = self._keyring.reseal(Purpose.DEVICE, device.sealed, bound_to=bound_to)
        return replace(device, sealed=sealed)

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare *answer* with every device of the user's."""
        del token
        return self.is_enrolled(answer, user=user)

    def is_enrolled(self, fingerprint: str, *, user: UserSecurity) -> bool:
        """Tell whether *fingerprint* is one of the user's devices, looking at all of them each time."""
        matches = [
            self._is(entry, fingerprint, user_id=user.id)
            for entry in user.credentials
            if isinstance(entry, DeviceFingerprint) and not entry.disabled
        ]
        return any(matches)

    def _is(self, device: DeviceFingerprint, fingerprint: str, *, user_id: UserId) -> bool:
        fields = _fields(user_id, fingerprint)
        if is_only_digested(device):
            return self._keyring.matches(Purpose.DEVICE_FINGERPRINT, device.sealed, *fields)
        opened = self._keyring.open(Purpose.DEVICE, device.sealed, bound_to=row(user_id, device.id))
        return hmac.compare_digest(opened[KEY_BYTES:], mac(opened[:KEY_BYTES], *fields))


def is_only_digested(device: DeviceFingerprint) -> bool:
    """Tell whether a device is as schemas before the fourth have it."""
    return len(device.sealed) == _DIGEST_BYTES


def _fields(user_id: UserId, fingerprint: str) -> tuple[bytes, bytes]:
    return str(user_id).encode(), fingerprint.encode()
