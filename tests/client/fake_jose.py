"""The server's side of JOSE, with `cryptography` alone: nothing of what the client uses is used here."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
NONCE = bytes(range(12))


@dataclass(frozen=True)
class Unsealed:
    """What was in an encrypted request."""

    header: dict[str, Any]
    payload: bytes
    content_key: bytes


@cache
def private_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a key that is made once; *number* tells one from another."""
    return rsa.generate_private_key(65537, bits)


def spki(key: rsa.RSAPrivateKey) -> bytes:
    """Return the public half in DER."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return the private half in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return the public half in PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def unsegment(segment: bytes) -> bytes:
    """Decode base64url without padding."""
    assert b"=" not in segment
    return base64.b64decode(segment + b"=" * (-len(segment) % 4), altchars=b"-_", validate=True)


def segment(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unseal(compact: bytes, key: rsa.RSAPrivateKey) -> Unsealed:
    """Open a request; raises `ValueError` if it was not for that key."""
    protected, wrapped, nonce, ciphertext, tag = compact.split(b".")
    content_key = key.decrypt(unsegment(wrapped), OAEP)
    assert len(content_key) == 32
    assert len(unsegment(nonce)) == 12
    assert len(unsegment(tag)) == 16
    payload = AESGCM(content_key).decrypt(unsegment(nonce), unsegment(ciphertext) + unsegment(tag), protected)
    return Unsealed(json.loads(unsegment(protected)), payload, content_key)


def seal_answer(payload: bytes, content_key: bytes, header: dict[str, Any] | None = None) -> bytes:
    """Encrypt an answer under the request's content key."""
    protected = segment(json.dumps(header or {"enc": "A256GCM", "alg": "dir"}).encode())
    sealed = AESGCM(content_key).encrypt(NONCE, payload, protected)
    return b".".join((protected, b"", segment(NONCE), segment(sealed[:-16]), segment(sealed[-16:])))


def seal_to(payload: bytes, key: rsa.RSAPublicKey) -> bytes:
    """Encrypt an answer to a client's own key."""
    content_key = bytes(range(32))
    protected = segment(
        b'{"kid":"6da49495-1632-43cd-9a03-dd324603ecd7","enc":"A256GCM","alg":"RSA-OAEP-256"}'
    )
    sealed = AESGCM(content_key).encrypt(NONCE, payload, protected)
    parts = (key.encrypt(content_key, OAEP), NONCE, sealed[:-16], sealed[-16:])
    return b".".join((protected, *map(segment, parts)))
