"""
Opens what clients encrypted or signed, and encrypts and signs what they are answered.

The algorithm is fixed by the key, never by the token (RFC 8725 section 3.1): RSA-OAEP-256 with
A256GCM for what comes in, and for a signature the one algorithm that the client's key was uploaded
for. Tokens are taken apart by ``compact``; signatures and what goes out are joserfc's. What comes
in encrypted is opened with ``cryptography`` alone, since the answer needs the content key, which
joserfc keeps to itself.

A refusal is a ``JoseError`` and nothing else. What a stranger sends costs no more than what a
client sends: at most two operations with a private key, or two verifications.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from joserfc import jwe, jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from watchword.domain.application import ClientKey
from watchword.domain.instant import Instant
from watchword.jose import compact
from watchword.jose.compact import JoseError, JoseFault
from watchword.jose.keys import (
    SIGNING,
    TRIED_MAX,
    Algorithm,
    PrivateKey,
    PublicKey,
    ServerKeys,
    check_public_key,
)

_KEY_BYTES, _IV_BYTES, _TAG_BYTES = 32, 12, 16
_OAEP = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)
_KEY_ALGORITHM, _CONTENT_ALGORITHM = "RSA-OAEP-256", "A256GCM"
_NESTED = frozenset({"JWT", "JOSE"})

_SIGNATURES = jws.JWSRegistry(algorithms=list(SIGNING), strict_check_header=False)
_DIRECT = jwe.JWERegistry(algorithms=["dir", _CONTENT_ALGORITHM])
_TO_KEY = jwe.JWERegistry(algorithms=[_KEY_ALGORITHM, _CONTENT_ALGORITHM])


class JoseMethod(StrEnum):
    """How a body travels, as the method header says."""

    JWE = "jwe"
    JWS = "jws"
    JWS_JWE = "jws+jwe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """
    What was in an encrypted body.

    Attributes:
        payload: The plaintext; of a JWS in a JWE, the JWS's payload.
        content_key: What a direct answer is encrypted with.
        kid: The ``kid`` of the JWE: one of our keys, or the client's for the answer, or anything.
        ott: The one-time token that the client bound the body to, if it did.
        issued_at: Its ``iat``, in seconds since 1970, if there is one.
        signed_by: Of a JWS in a JWE, the algorithm that it was verified with.
    """

    payload: bytes = field(repr=False)
    content_key: bytes = field(repr=False)
    kid: str | None = None
    ott: str | None = field(default=None, repr=False)
    issued_at: int | None = None
    signed_by: Algorithm | None = None


def open_jwe(body: bytes, *, keys: ServerKeys) -> Opened:
    """
    Decrypt a body that was encrypted to us.

    Encryption proves nothing about who sent it: anybody has our public key.

    Raises:
        JoseError: It is refused. Once the parts have their right lengths, whatever is wrong with
            the encrypted key, the content or the tag is one fault and takes the same time
            (RFC 7516 section 11.5).
    """
    opened, _ = _open(body, keys)
    return opened


def verify_jws(body: bytes, *, url: str, keys: Sequence[ClientKey], now: Instant) -> bytes:
    """
    Verify a body that was signed by the application, and return its payload.

    Args:
        url: The path as it was called, without the query; the header's ``url`` must be there and
            be exactly this, so that a signed body is good for one path only.
        keys: The application's keys, the newest first. Those that are for something else or are
            not good *now* are passed over. Where ``kid`` names none, the newest two are tried.

    Raises:
        JoseError: It is refused.
    """
    payload, _ = _verify(body, url, keys, now)
    return payload


def signature_algorithm(body: bytes) -> Algorithm:
    """
    Read which algorithm a JWS names: once it is verified, the one to sign the answer with.

    Raises:
        JoseError: It is not one of ours.
    """
    return _signing(compact.header(compact.split(body, 3)[0]))


def open_jws_jwe(
    body: bytes, *, url: str, keys: ServerKeys, client_keys: Sequence[ClientKey], now: Instant
) -> Opened:
    """
    Decrypt a body that was encrypted to us, and verify the JWS that must be in it.

    Raises:
        JoseError: It is refused; so is one without a signature inside.
    """
    opened, content_type = _open(body, keys)
    if content_type is not None and content_type.upper() not in _NESTED:
        raise JoseError(JoseFault.CONTENT_TYPE, inside=True)
    try:
        payload, algorithm = _verify(opened.payload, url, client_keys, now)
    except JoseError as error:
        raise JoseError(error.fault, inside=True) from None
    # What is signed binds; what merely surrounds it may say the same, or nothing.
    signed = compact.header(opened.payload.partition(b".")[0])
    ott, issued_at = signed.get("ott", opened.ott), signed.get("iat", opened.issued_at)
    if opened.ott not in {None, ott} or opened.issued_at not in {None, issued_at}:
        raise JoseError(JoseFault.HEADER, inside=True)
    return replace(opened, payload=payload, signed_by=algorithm, ott=ott, issued_at=issued_at)


def seal_direct(payload: bytes, content_key: bytes) -> bytes:
    """Encrypt *payload* with the content key of the request, as a JWE of ``dir`` and A256GCM."""
    header = {"enc": _CONTENT_ALGORITHM, "alg": "dir"}
    return jwe.encrypt_compact(header, payload, OctKey.import_key(content_key), registry=_DIRECT).encode()


def seal_to(payload: bytes, client_key: ClientKey) -> bytes:
    """
    Encrypt *payload* to a key that the application uploaded, under a content key of its own.

    Raises:
        ValueError: The key is not one for encryption.
    """
    if client_key.algorithm != Algorithm.RSA_OAEP_256:
        raise ValueError("answers are encrypted to a key for encryption")
    header = {"kid": client_key.id, "enc": _CONTENT_ALGORITHM, "alg": _KEY_ALGORITHM}
    return jwe.encrypt_compact(header, payload, _joserfc_key(_public(client_key)), registry=_TO_KEY).encode()


def sign(payload: bytes, algorithm: Algorithm, *, keys: ServerKeys) -> bytes:
    """
    Sign *payload* with our newest key for *algorithm*; the header names its version.

    Raises:
        ValueError: The algorithm is not one for signatures.
    """
    if algorithm not in SIGNING:
        raise ValueError("answers are signed with an algorithm for signatures")
    version, private = keys.signing_key(algorithm)
    header = {"version": version, "alg": algorithm.value}
    return jws.serialize_compact(header, payload, _joserfc_key(private), registry=_SIGNATURES).encode()


def _open(body: bytes, keys: ServerKeys) -> tuple[Opened, str | None]:
    # (1) What the token looks like, before any key is touched.
    header_segment, *segments = compact.split(body, 5)
    header = compact.header(header_segment)
    if header.get("alg") != _KEY_ALGORITHM or header.get("enc") != _CONTENT_ALGORITHM:
        raise JoseError(JoseFault.ALGORITHM)
    encrypted_key, iv, ciphertext, tag = map(compact.decode, segments)
    if len(iv) != _IV_BYTES or len(tag) != _TAG_BYTES:
        raise JoseError(JoseFault.MALFORMED)
    privates = [
        private
        for private in keys.decryption_keys(header.get("kid"))
        if -(-private.key_size // 8) == len(encrypted_key)
    ]
    if not privates:
        raise JoseError(JoseFault.UNDECRYPTABLE)
    # (2) Every key that comes into question, whether one before it fitted or not; and one that
    #     nobody knows in place of none: what is wrong must not show in the time it takes.
    content_key = stand_in = os.urandom(_KEY_BYTES)  # noqa: TID251 - it only keeps the time.
    for private in privates:
        try:
            decrypted = private.decrypt(encrypted_key, _OAEP)
        except ValueError:
            continue
        if content_key is stand_in and len(decrypted) == _KEY_BYTES:
            content_key = decrypted
    # (3) The content, whose tag covers the header too.
    try:
        payload = AESGCM(content_key).decrypt(iv, ciphertext + tag, header_segment)
    except InvalidTag:
        raise JoseError(JoseFault.UNDECRYPTABLE) from None
    opened = Opened(
        payload=payload,
        content_key=content_key,
        kid=header.get("kid"),
        ott=header.get("ott"),
        issued_at=header.get("iat"),
    )
    return opened, header.get("cty")


def _verify(body: bytes, url: str, keys: Sequence[ClientKey], now: Instant) -> tuple[bytes, Algorithm]:
    header_segment, payload_segment, signature_segment = compact.split(body, 3)
    header = compact.header(header_segment)
    algorithm = _signing(header)
    if header.get("url") != url:
        raise JoseError(JoseFault.URL)
    payload = compact.decode(payload_segment)
    signature = compact.decode(signature_segment)
    signed = header_segment + b"." + payload_segment
    model = _SIGNATURES.get_alg(algorithm)
    for key in _candidates(keys, algorithm, header.get("kid"), now):
        if model.verify(signed, signature, _joserfc_key(_public(key))):
            return payload, algorithm
    raise JoseError(JoseFault.UNVERIFIED)


def _signing(header: compact.Header) -> Algorithm:
    algorithm = next((each for each in SIGNING if each == header.get("alg")), None)
    if algorithm is None:
        raise JoseError(JoseFault.ALGORITHM)
    return algorithm


def _candidates(
    keys: Sequence[ClientKey], algorithm: Algorithm, kid: str | None, now: Instant
) -> Sequence[ClientKey]:
    fitting = [key for key in keys if key.algorithm == algorithm and key.is_valid(now)]
    named = [key for key in fitting if key.id == kid]
    return named or fitting[:TRIED_MAX]


def _public(key: ClientKey) -> PublicKey:
    return check_public_key(load_der_public_key(key.spki), Algorithm(key.algorithm))


def _joserfc_key(key: PrivateKey | PublicKey) -> ECKey | RSAKey:
    if isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        return ECKey.import_key(key)
    return RSAKey.import_key(key)
