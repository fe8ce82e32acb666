"""
The sandbox's matcher of faces: it looks at bytes, and at no face.

What was enrolled matches itself, byte for byte, and nothing else does, so that a test can be right
and wrong as it likes. A face map that begins with ``unusable``, or that is shorter than 16 bytes,
holds no usable face.
"""

from functools import cached_property
from hashlib import sha256
from hmac import compare_digest

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.faces.base import FaceUnavailableError, FaceUnusableError

LEAST_BYTES = 16
"""What is shorter holds no face."""
UNUSABLE = b"unusable"
"""What a face map begins with that shall hold no usable face."""

_TEMPLATE = b"sb\x01"


class SandboxFaces:
    """A ``FaceMatcher`` for tests: a face is its bytes."""

    @property
    def public_key(self) -> str:
        """
        Return a key that looks like a matcher's, new for each process.

        Nobody has the private one: a face map that was encrypted to it is enrolled as it is, and
        matches only if it is sent again, byte for byte.
        """
        return self._key

    @cached_property
    def _key(self) -> str:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    async def enrol(self, reference: str, face_map: bytes) -> bytes:
        """Return a digest of *face_map*."""
        return _TEMPLATE + _digest(face_map)

    async def match(self, template: bytes, face_map: bytes) -> bool:
        """Compare digests."""
        if not template.startswith(_TEMPLATE):
            raise FaceUnavailableError("the template is of another matcher: the face must be enrolled anew")
        return compare_digest(template, _TEMPLATE + _digest(face_map))

    async def forget(self, template: bytes) -> None:
        """Do nothing: nothing is kept here."""


def _digest(face_map: bytes) -> bytes:
    if len(face_map) < LEAST_BYTES or face_map.startswith(UNUSABLE):
        raise FaceUnusableError
    return sha256(face_map).digest()
