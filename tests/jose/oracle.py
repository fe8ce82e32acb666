"""
JOSE by hand, from the RFCs and `cryptography` alone: what our code is compared with.

Nothing of it comes from the package under test, nor from the library that the package uses.
"""

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}
JWE_HEADER = {"enc": "A256GCM", "alg": "RSA-OAEP-256"}
# What older clients and careless ones use; here to be refused.
OLD_HASH = hashes.SHA1()  # noqa: S303
OAEP_1 = padding.OAEP(padding.MGF1(OLD_HASH), OLD_HASH, None)
OAEP_256 = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unb64(segment: bytes) -> bytes:
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def spki(key: Public) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def to_json(members: object) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def header_of(token: bytes) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(unb64(token.split(b".", maxsplit=1)[0]))
    return members


def jwe(
    payload: bytes,
    key: rsa.RSAPublicKey,
    header: dict[str, Any] | bytes = JWE_HEADER,
    *,
    content_key: bytes | None = None,
    iv: bytes | None = None,
    oaep: padding.AsymmetricPadding = OAEP_256,
) -> bytes:
    """Encrypt as RFC 7516 section 5.1 says; the header may be bytes that are no JSON at all."""
    protected = b64(header if isinstance(header, bytes) else to_json(header))
    content_key = os.urandom(32) if content_key is None else content_key
    iv = os.urandom(12) if iv is None else iv
    sealed = AESGCM(content_key).encrypt(iv, payload, protected)
    parts = [protected, b64(key.encrypt(content_key, oaep)), b64(iv), b64(sealed[:-16]), b64(sealed[-16:])]
    return b".".join(parts)


def open_direct(token: bytes, content_key: bytes) -> bytes:
    """Decrypt an answer of `dir`, as a client would."""
    protected, encrypted_key, iv, ciphertext, tag = token.split(b".")
    assert encrypted_key == b""
    return AESGCM(content_key).decrypt(unb64(iv), unb64(ciphertext) + unb64(tag), protected)


def open_jwe(token: bytes, key: rsa.RSAPrivateKey) -> bytes:
    protected, encrypted_key, iv, ciphertext, tag = token.split(b".")
    content_key = key.decrypt(unb64(encrypted_key), OAEP_256)
    return AESGCM(content_key).decrypt(unb64(iv), unb64(ciphertext) + unb64(tag), protected)


def raw_signature(data: bytes, algorithm: str, key: Private) -> bytes:
    """Sign as RFC 7518 sections 3.4 and 3.5 say: R beside S, or PSS with a salt as long as the hash."""
    digest = HASHES[algorithm[2:]]()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    size = -(-key.curve.key_size // 8)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def jws(payload: bytes, key: Private, header: dict[str, Any] | bytes, algorithm: str | None = None) -> bytes:
    """Sign with *algorithm*, which is the header's unless something else shall be claimed."""
    protected = header if isinstance(header, bytes) else to_json(header)
    if algorithm is None:
        algorithm = str(json.loads(protected)["alg"])
    signed = b64(protected) + b"." + b64(payload)
    return signed + b"." + b64(raw_signature(signed, algorithm, key))


def verify_jws(token: bytes, key: Public) -> bytes:
    """Verify an answer as a client would; raises InvalidSignature."""
    signed, _, segment = token.rpartition(b".")
    algorithm, signature = header_of(token)["alg"], unb64(segment)
    digest = HASHES[algorithm[2:]]()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    else:
        size = -(-key.curve.key_size // 8)
        assert len(signature) == 2 * size
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
    return unb64(signed.split(b".")[1])
