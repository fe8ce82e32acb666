"""
JOSE as this wire uses it: messages encrypted to a key, messages signed with one, both in compact form.

    seal, open_direct       a request to the server's key, and the answer under the request's content key
    open_normal             an answer to a key of ours that the server was given
    sign, verify            a request with a key of ours, an answer with the server's

A message that is signed, then encrypted is `seal(sign(…))`, and its answer `verify(open_…(…))`. Which
algorithm a key is for follows from the key and never from a message.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from joserfc import jwe, jwk, jws
    from joserfc.errors import JoseError
except ImportError as error:  # pragma: no cover - the test environment has every extra
    message = "JOSE needs cryptography and joserfc: pip install 'watchword[client-jose]'"
    raise ImportError(message) from error

__all__ = ["Sealed", "ServerKey", "open_direct", "open_normal", "seal", "server_key", "sign", "verify"]

KEY_BITS_MIN: Final = 2048

_CONTENT_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_DER_SEQUENCE: Final = b"\x30"
_OAEP: Final = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
_EC_ALGORITHMS: Final[Mapping[str, str]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS: Final = ("PS256", "PS384", "PS512")

# How a server's key may be written.
KeyMaterial = str | bytes | Mapping[str, Any] | rsa.RSAPublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's public key for what is encrypted to it. Two are equal if the keys are."""

    spki: bytes
    public: rsa.RSAPublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """
    An encrypted message, and what its answer will be encrypted with.

    Attributes:
        compact: The message as it is sent.
        content_key: Keep it from everybody else.
    """

    compact: bytes = field(repr=False)
    content_key: bytes = field(repr=False)


def server_key(material: KeyMaterial) -> ServerKey:
    """
    Return a server's public key, whichever way it is written.

    Args:
        material: PEM (SPKI or PKCS#1), a JWK as a mapping or as JSON, DER, or DER in base64, as the key
            endpoint has it.

    Raises:
        ValueError: It is none of these, or the key is not RSA, or shorter than 2048 bits.
    """
    if isinstance(material, rsa.RSAPublicKey):
        public: object = material
    else:
        try:
            public = _parse(material)
        except (ValueError, TypeError, KeyError, UnsupportedAlgorithm, JoseError):
            # Without the cause: somebody may have handed in his private key.
            raise ValueError("not a public key in PEM, JWK, DER or base64 DER") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("what is encrypted for a server needs an RSA key")  # noqa: TRY004 - of the right type, it is the wrong value
    if public.key_size < KEY_BITS_MIN:
        raise ValueError(f"an RSA key must have at least {KEY_BITS_MIN} bits, this one has {public.key_size}")
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ServerKey(spki, public)


def _parse(material: str | bytes | Mapping[str, Any]) -> object:
    if isinstance(material, Mapping):
        return jwk.import_key(
            {name: value for name, value in material.items() if name in {"kty", "n", "e"}}
        ).raw_value
    data = material.encode("ascii") if isinstance(material, str) else material
    if data.startswith(_DER_SEQUENCE):
        return serialization.load_der_public_key(data)
    text = data.strip()
    if text.startswith(b"-----BEGIN"):
        return serialization.load_pem_public_key(text)
    if text.startswith(b"{"):
        return _parse(json.loads(text))
    return serialization.load_der_public_key(base64.b64decode(b"".join(text.split()), validate=True))


def seal(payload: bytes, key: ServerKey, header: Mapping[str, Any] | None = None) -> Sealed:
    """
    Encrypt a message: RSA-OAEP-256 for its key, A256GCM for the content.

    Args:
        payload: The message.
        key: Whose it is for.
        header: Members of the protected header beside `enc` and `alg`.
    """
    content_key = os.urandom(_CONTENT_KEY_BYTES)  # noqa: TID251 - a client has no engine to take chance from
    nonce = os.urandom(_NONCE_BYTES)  # noqa: TID251 - as above; one nonce a key
    protected = _segment(
        json.dumps(
            {"enc": "A256GCM", "alg": "RSA-OAEP-256", **(header or {})}, separators=(",", ":")
        ).encode()
    )
    wrapped = key.public.encrypt(content_key, _OAEP)
    ciphertext = AESGCM(content_key).encrypt(nonce, payload, protected)
    parts = (wrapped, nonce, ciphertext[:-_TAG_BYTES], ciphertext[-_TAG_BYTES:])
    return Sealed(b".".join((protected, *map(_segment, parts))), content_key)


def open_direct(compact: str | bytes, content_key: bytes) -> bytes:
    """
    Decrypt an answer under the content key of its request.

    Raises:
        ValueError: It is no such message, or was changed on its way.
    """
    return _decrypt(compact, jwk.OctKey.import_key(content_key), "dir")


def open_normal(compact: str | bytes, key: rsa.RSAPrivateKey) -> bytes:
    """
    Decrypt an answer to a key of ours.

    Raises:
        ValueError: It is no such message, or was changed on its way.
    """
    return _decrypt(compact, jwk.RSAKey.import_key(key), "RSA-OAEP-256")


def _decrypt(compact: str | bytes, key: jwk.OctKey | jwk.RSAKey, algorithm: str) -> bytes:
    # Not strict: servers add a `kid`. What matters is listed, and no compression is.
    registry = jwe.JWERegistry(algorithms=[algorithm, "A256GCM"], strict_check_header=False)
    try:
        plaintext = jwe.decrypt_compact(compact, key, registry=registry).plaintext
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("the encrypted answer cannot be opened") from None
    assert plaintext is not None, "decryption ends with a plaintext or an error"
    return plaintext


def sign(
    payload: bytes, key: PrivateKey, *, url: str, key_id: str | None = None, algorithm: str | None = None
) -> bytes:
    """
    Sign a request: JWS, compact.

    Args:
        payload: The body.
        key: Ours; the server was given its public half.
        url: Path of the request. The server compares it.
        key_id: The identifier under which the server has the key.
        algorithm: For an RSA key: `PS256` unless it is `PS384` or `PS512`.

    Raises:
        ValueError: The key is too short, on another curve, or for another algorithm.
    """
    chosen = _algorithm_for(key, algorithm)
    protected = {"alg": chosen, "typ": "JWT", "url": url}
    if key_id is not None:
        protected["kid"] = key_id
    signed = jws.serialize_compact(protected, payload, _as_jwk(key), registry=_signatures(chosen))
    return signed.encode("ascii")


def verify(compact: str | bytes, key: PublicKey, *, algorithm: str | None = None) -> bytes:
    """
    Return what was signed, if it was signed with that key.

    Args:
        compact: The JWS.
        key: The server's.
        algorithm: As for `sign`.

    Raises:
        ValueError: It was not, or the key is unfit.
    """
    chosen = _algorithm_for(key, algorithm)
    try:
        return jws.deserialize_compact(compact, _as_jwk(key), registry=_signatures(chosen)).payload
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("the signature does not fit") from None


def _signatures(algorithm: str) -> jws.JWSRegistry:
    # Not strict: `url` and `version` are members that no standard knows.
    return jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)


def _algorithm_for(key: PrivateKey | PublicKey, wanted: str | None) -> str:
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        if key.key_size < KEY_BITS_MIN:
            raise ValueError(
                f"an RSA key must have at least {KEY_BITS_MIN} bits, this one has {key.key_size}"
            )
        fits: tuple[str, ...] = _RSA_ALGORITHMS
    else:
        named = _EC_ALGORITHMS.get(key.curve.name)
        fits = () if named is None else (named,)
    chosen = wanted or next(iter(fits), None)
    if chosen is None or chosen not in fits:
        raise ValueError("that key is not for that algorithm")
    return chosen


def _as_jwk(key: PrivateKey | PublicKey) -> jwk.RSAKey | jwk.ECKey:
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return jwk.RSAKey.import_key(key)
    return jwk.ECKey.import_key(key)


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
