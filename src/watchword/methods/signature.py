"""
Signatures: a program holds a private key, and signs the OTT on the retry itself.

RSA with PKCS#1 v1.5 and SHA-256 over the OTT's ASCII bytes (RFC 8017 section 8.2), in Base64 on one
line. A token is stored under the SHA-256 of its OTT, which is just what is signed.
"""

import binascii
from base64 import b64decode

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from watchword.domain.credential import PublicKey
from watchword.domain.instant import Instant
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserSecurity

RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192
"""To verify with a longer key costs more than a caller may ask for."""
_EXPONENT_MAX = 2**32
_PEM_MAX = 16 * 1024


class UnfitKeyError(ValueError):
    """The text is no public key that signatures can be checked with; says why."""


class SignatureMethod:
    """Enrols public keys and checks signatures."""

    slow = False

    def enrol(self, pem: str, *, credential_id: str, now: Instant) -> PublicKey:
        """
        Make the stored form of a key, which is no secret.

        Args:
            pem: SubjectPublicKeyInfo, or PKCS#1 (``BEGIN RSA PUBLIC KEY``).

        Raises:
            UnfitKeyError: It is no RSA public key of 2048 to 8192 bits.
        """
        return PublicKey(id=credential_id, spki=_spki(pem), enrolled_at=now)

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Check *answer* against each of the user's keys."""
        try:
            signature = b64decode(answer, validate=True)
        except (binascii.Error, ValueError):
            return False
        return any(
            _signed(entry, signature, token.id)
            for entry in user.credentials
            if isinstance(entry, PublicKey) and not entry.disabled
        )


def _signed(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    public = load_der_public_key(key.spki)
    assert isinstance(public, RSAPublicKey)  # Nothing else is enrolled.
    try:
        public.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
    except InvalidSignature:
        return False
    return True


def _spki(pem: str) -> bytes:
    try:
        key = load_pem_public_key(pem[:_PEM_MAX].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnfitKeyError("A public key is a PEM text, SPKI or PKCS#1.") from error
    if not isinstance(key, RSAPublicKey) or not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise UnfitKeyError(f"A public key is an RSA key of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits.")
    exponent = key.public_numbers().e
    if not 2 < exponent < _EXPONENT_MAX:  # noqa: PLR2004
        raise UnfitKeyError("A public key has a small odd exponent, such as 65537.")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
