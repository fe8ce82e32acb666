"""
Face maps: something the user is.

Matching is a matcher's affair (``watchword.faces``). What it gives for an enrolled face, the template,
is kept encrypted under a key outside the database, bound to user and row: nobody can be given another face.
"""

from watchword.domain.credential import FaceMap
from watchword.domain.instant import Instant
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.base import row
from watchword.methods.keyring import Keyring, Purpose


class FaceMapMethod:
    """Seals templates, and opens them for the matcher."""

    def __init__(self, keyring: Keyring) -> None:
        """Take the keys."""
        self._keyring = keyring

    def enrol(self, template: bytes, *, user_id: UserId, credential_id: str, now: Instant) -> FaceMap:
        """Make the stored form of *template*."""
        sealed = self._keyring.seal(Purpose.FACE_MAP, template, bound_to=row(user_id, credential_id))
        return FaceMap(id=credential_id, sealed=sealed, enrolled_at=now)

    def template(self, user: UserSecurity) -> bytes | None:
        """Return the template of the user's face; None for a user who has not enrolled one."""
        for entry in user.credentials:
            if isinstance(entry, FaceMap) and not entry.disabled:
                return self.open(entry, user_id=user.id)
        return None

    def open(self, face: FaceMap, *, user_id: UserId) -> bytes:
        """Return the template of *face*, disabled or not."""
        return self._keyring.open(Purpose.FACE_MAP, face.sealed, bound_to=row(user_id, face.id))
