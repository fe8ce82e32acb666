"""JOSE as the client writes and reads it, checked with `cryptography` alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.client import fake_jose
from watchword.client import jose

PATH = "/v1/auth/jose/playground/jws"
PAYLOAD = b'{"message":"hello"}'
KEY = fake_jose.private_key()
NUMBERS = KEY.public_key().public_numbers()


def base64url(number: int) -> str:
    return fake_jose.segment(number.to_bytes((number.bit_length() + 7) // 8)).decode()


JWK = {"kty": "RSA", "n": base64url(NUMBERS.n), "e": base64url(NUMBERS.e)}
DER = fake_jose.spki(KEY)
PKCS1 = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)


# ------------------------------------------------------------------------------- the server's key


WRITTEN: dict[str, jose.KeyMaterial] = {
    "PEM": fake_jose.public_pem(KEY),
    "PEM in text": fake_jose.public_pem(KEY).decode(),
    "PEM with space around": b"\n  " + fake_jose.public_pem(KEY) + b"\n",
    "PKCS#1": PKCS1,
    "JWK": JWK,
    "JWK in text": json.dumps(JWK),
    "JWK with more": JWK | {"use": "enc", "alg": "RSA-OAEP-256", "kid": "1"},
    "DER": DER,
    "base64": base64.b64encode(DER),
    "base64 in text": base64.b64encode(DER).decode(),
    "base64 in lines": base64.encodebytes(DER).decode(),
    "loaded": KEY.public_key(),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_servers_key_is_understood_however_it_is_written(form: str) -> None:
    assert jose.server_key(WRITTEN[form]) == jose.ServerKey(DER, KEY.public_key())


def test_two_keys_are_two() -> None:
    assert jose.server_key(DER) != jose.server_key(fake_jose.spki(fake_jose.private_key(1)))


EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("material", "said"),
    [
        ("", "not a public key"),
        ("gibberish", "not a public key"),
        ("schlüssel", "not a public key"),
        (b"\x30\x00", "not a public key"),
        ({}, "not a public key"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "not a public key"),
        ("{}", "not a public key"),
        ("[]", "not a public key"),
        (fake_jose.private_pem(KEY), "not a public key"),
        (
            EC_KEY.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "needs an RSA key",
        ),
        (fake_jose.public_pem(fake_jose.private_key(9, 1024)), "at least 2048 bits, this one has 1024"),
    ],
)
def test_what_is_no_such_key_is_refused_and_not_repeated(material: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        jose.server_key(material)
    assert caught.value.__cause__ is None
    assert "PRIVATE" not in str(caught.value)


# ------------------------------------------------------------------------------- encryption


def test_only_the_server_opens_what_is_encrypted_to_it() -> None:
    sealed = jose.seal(PAYLOAD, jose.server_key(DER))
    opened = fake_jose.unseal(sealed.compact, KEY)
    assert (opened.payload, opened.content_key) == (PAYLOAD, sealed.content_key)
    with pytest.raises(ValueError, match=r"."):
        fake_jose.unseal(sealed.compact, fake_jose.private_key(1))


def test_a_message_and_its_key_do_not_show() -> None:
    sealed = jose.seal(PAYLOAD, jose.server_key(DER))
    assert repr(sealed) == "Sealed()"


def test_an_answer_is_opened_with_the_key_of_the_request() -> None:
    sealed = jose.seal(PAYLOAD, jose.server_key(DER))
    assert jose.open_direct(fake_jose.seal_answer(b"[]", sealed.content_key), sealed.content_key) == b"[]"


def test_a_member_of_the_header_that_nobody_knows_changes_nothing() -> None:
    key = bytes(range(32))
    header = {"enc": "A256GCM", "alg": "dir", "kid": "1", "url": PATH}
    assert jose.open_direct(fake_jose.seal_answer(b"[]", key, header), key) == b"[]"


@pytest.mark.parametrize(
    "header",
    [
        {"enc": "A128GCM", "alg": "dir"},
        {"enc": "A256CBC-HS512", "alg": "dir"},
        {"enc": "A256GCM", "alg": "A256KW"},
        {"enc": "A256GCM", "alg": "A256GCMKW"},
        {"enc": "A256GCM", "alg": "PBES2-HS256+A128KW", "p2c": 2**31 - 1, "p2s": "c2FsdA"},
        {"enc": "A256GCM", "alg": "none"},
        {"enc": "A256GCM", "alg": "dir", "zip": "DEF"},
        {"enc": "A256GCM", "alg": "dir", "crit": ["exp"], "exp": 1},
        {"enc": "A256GCM"},
        {"alg": "dir"},
        {},
    ],
)
def test_an_answer_with_another_algorithm_is_refused(header: dict[str, Any]) -> None:
    key = bytes(range(32))
    assert jose.open_direct(fake_jose.seal_answer(b"[]", key, {"enc": "A256GCM", "alg": "dir"}), key) == b"[]"
    protected = fake_jose.segment(json.dumps(header).encode())
    rest = fake_jose.seal_answer(b"[]", key).split(b".", 1)[1]
    with pytest.raises(ValueError, match="cannot be opened"):
        jose.open_direct(protected + b"." + rest, key)
    if header:
        with pytest.raises(ValueError, match="cannot be opened"):
            jose.open_direct(fake_jose.seal_answer(b"[]", key, header), key)


def test_an_answer_to_a_key_of_ours_is_opened_with_it() -> None:
    assert jose.open_normal(fake_jose.seal_to(b"[]", KEY.public_key()), KEY) == b"[]"
    with pytest.raises(ValueError, match="cannot be opened"):
        jose.open_normal(fake_jose.seal_to(b"[]", KEY.public_key()), fake_jose.private_key(1))
    with pytest.raises(ValueError, match="cannot be opened"):
        jose.open_normal(fake_jose.seal_answer(b"[]", bytes(32)), KEY)


# ------------------------------------------------------------------------------- signatures

EcKey = ec.EllipticCurvePrivateKey
CURVES: dict[str, tuple[Callable[[], EcKey], type[hashes.HashAlgorithm], int]] = {
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), hashes.SHA256, 32),
    "ES384": (lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384, 48),
    "ES512": (lambda: ec.generate_private_key(ec.SECP521R1()), hashes.SHA512, 66),
}
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "PS256": hashes.SHA256,
    "PS384": hashes.SHA384,
    "PS512": hashes.SHA512,
}


def parts(compact: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    protected, payload, signature = compact.split(b".")
    header = json.loads(fake_jose.unsegment(protected))
    return header, fake_jose.unsegment(payload), protected + b"." + payload, fake_jose.unsegment(signature)


@pytest.mark.parametrize("algorithm", CURVES)
def test_a_request_is_signed_with_what_the_curve_is_for(algorithm: str) -> None:
    make, digest, size = CURVES[algorithm]
    key = make()
    header, payload, signed, signature = parts(jose.sign(PAYLOAD, key, url=PATH))
    assert header == {"alg": algorithm, "typ": "JWT", "url": PATH}
    assert payload == PAYLOAD
    assert len(signature) == 2 * size
    r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
    key.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest()))


@pytest.mark.parametrize("algorithm", HASHES)
def test_a_request_is_signed_with_the_hash_that_was_asked_for(algorithm: str) -> None:
    header, payload, signed, signature = parts(
        jose.sign(PAYLOAD, KEY, url=PATH, algorithm=algorithm, key_id="k1")
    )
    assert header == {"alg": algorithm, "typ": "JWT", "url": PATH, "kid": "k1"}
    assert payload == PAYLOAD
    digest = HASHES[algorithm]()
    KEY.public_key().verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


def signed_by_hand(key: EcKey, header: dict[str, Any], digest: hashes.HashAlgorithm, size: int) -> bytes:
    head = fake_jose.segment(json.dumps(header).encode()) + b"." + fake_jose.segment(PAYLOAD)
    r, s = decode_dss_signature(key.sign(head, ec.ECDSA(digest)))
    return head + b"." + fake_jose.segment(r.to_bytes(size) + s.to_bytes(size))


@pytest.mark.parametrize("algorithm", CURVES)
def test_a_signed_answer_is_read_if_the_key_fits(algorithm: str) -> None:
    make, digest, size = CURVES[algorithm]
    key = make()
    compact = signed_by_hand(key, {"version": 1, "alg": algorithm}, digest(), size)
    assert jose.verify(compact, key.public_key()) == PAYLOAD
    with pytest.raises(ValueError, match="does not fit"):
        jose.verify(compact, make().public_key())
    other = compact.replace(fake_jose.segment(PAYLOAD), fake_jose.segment(PAYLOAD + b" "))
    with pytest.raises(ValueError, match="does not fit"):
        jose.verify(other, key.public_key())


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"alg": "PS256"}, {}]
)
def test_what_a_message_says_of_its_algorithm_changes_nothing(header: dict[str, Any]) -> None:
    compact = signed_by_hand(EC_KEY, header, hashes.SHA256(), 32)
    with pytest.raises(ValueError, match="does not fit"):
        jose.verify(compact, EC_KEY.public_key())


@pytest.mark.parametrize("compact", [b"", b"..", b"no message", "grüße", b"e30.e30."])
def test_what_is_no_signed_message_is_refused(compact: bytes | str) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        jose.verify(compact, EC_KEY.public_key())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256K1()), None),
        (EC_KEY, "ES384"),
        (EC_KEY, "PS256"),
        (KEY, "RS256"),
        (KEY, "ES256"),
        (KEY, "none"),
        (fake_jose.private_key(9, 1024), None),
    ],
)
def test_a_key_that_is_for_something_else_signs_nothing(
    key: rsa.RSAPrivateKey | EcKey, algorithm: str | None
) -> None:
    with pytest.raises(ValueError, match=r"not for that algorithm|at least 2048 bits"):
        jose.sign(PAYLOAD, key, url=PATH, algorithm=algorithm)
    with pytest.raises(ValueError, match=r"not for that algorithm|at least 2048 bits"):
        jose.verify(b"e30.e30.e30", key.public_key(), algorithm=algorithm)


def test_a_message_can_be_signed_and_then_encrypted() -> None:
    sealed = jose.seal(jose.sign(PAYLOAD, EC_KEY, url=PATH), jose.server_key(DER))
    inner = fake_jose.unseal(sealed.compact, KEY).payload
    assert jose.verify(inner, EC_KEY.public_key()) == PAYLOAD
    _, _, signed, signature = parts(inner)
    wrong = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]) ^ 1)
    with pytest.raises(InvalidSignature):
        EC_KEY.public_key().verify(wrong, signed, ec.ECDSA(hashes.SHA256()))
