"""
Device fingerprint: an opaque string that the partner's app keeps on the user's device.

Compared as a keyed digest bound to the user. It stands for possession as the public protocol
has it; nothing in it proves that the device is there (NIST SP 800-63B-4 section 3.2.1), which
``docs/divergences.md`` says to whoever chooses it.
"""

from watchword.domain.credential import DeviceFingerprint
from watchword.domain.instant import Instant
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.keyring import Keyring, Purpose


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
        digest = self._keyring.digest(Purpose.DEVICE_FINGERPRINT, str(user_id).encode(), fingerprint.encode())
        return DeviceFingerprint(id=credential_id, digest=digest, enrolled_at=now)

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare *answer* with every device of the user's."""
        del token
        return self.is_enrolled(answer, user=user)

    def is_enrolled(self, fingerprint: str, *, user: UserSecurity) -> bool:
        """Tell whether *fingerprint* is one of the user's devices, looking at all of them each time."""
        fields = (str(user.id).encode(), fingerprint.encode())
        matches = [
            self._keyring.matches(Purpose.DEVICE_FINGERPRINT, entry.digest, *fields)
            for entry in user.credentials
            if isinstance(entry, DeviceFingerprint) and not entry.disabled
        ]
        return any(matches)
