"""Encrypted bodies, compared with tokens that are made by hand."""

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, strategies as st

from tests.jose import oracle
from tests.jose.support import PAYLOAD, Client, client_key, fault, published
from watchword.jose.compact import BODY_MAX, HEADER_MAX, JoseFault
from watchword.jose.envelope import JoseMethod, open_jwe, seal_direct, seal_to
from watchword.jose.keys import Algorithm, ServerKeys


def _swap(token: bytes, index: int, segment: bytes) -> bytes:
    segments = token.split(b".")
    return b".".join([*segments[:index], segment, *segments[index + 1 :]])


def test_the_methods_are_those_of_the_wire() -> None:
    assert [str(each) for each in JoseMethod] == ["jwe", "jws", "jws+jwe"]


# --- what is taken ----------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [PAYLOAD, b"", b"\x00" * 16, '{"pin":"1234","x":"é"}'.encode()])
def test_what_a_client_encrypted_is_opened(keys: ServerKeys, to_us: rsa.RSAPublicKey, payload: bytes) -> None:
    content_key = os.urandom(32)
    opened = open_jwe(oracle.jwe(payload, to_us, content_key=content_key), keys=keys)
    assert (opened.payload, opened.content_key) == (payload, content_key)
    assert (opened.kid, opened.ott, opened.issued_at) == (None, None, None)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"url": "/v1/auth/jose/playground/jwe"}, id="the-published-sample"),
        pytest.param({"typ": "JOSE", "cty": "application/json"}, id="types"),
        pytest.param({"x5t": "AAAA", "apu": "QQ", "apv": "QQ", "vendor": [1, {"a": None}]}, id="unknown"),
    ],
)
def test_members_that_mean_nothing_here_are_ignored(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, more: dict[str, Any]
) -> None:
    assert open_jwe(oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | more), keys=keys).payload == PAYLOAD


def test_the_key_may_be_named_or_another_be_named(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    for kid in (published(keys, Algorithm.RSA_OAEP_256).id, "6da49495-1632-43cd-9a03-dd324603ecd7", ""):
        opened = open_jwe(oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | {"kid": kid}), keys=keys)
        assert (opened.payload, opened.kid) == (PAYLOAD, kid)


def test_what_binds_a_body_to_a_token_is_told_to_the_caller(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    header = oracle.JWE_HEADER | {"ott": "be2f6579-9426-480b-9cb7-d8f1116cc8b9", "iat": 1_700_000_000}
    opened = open_jwe(oracle.jwe(PAYLOAD, to_us, header), keys=keys)
    assert (opened.ott, opened.issued_at) == ("be2f6579-9426-480b-9cb7-d8f1116cc8b9", 1_700_000_000)


def test_what_binds_a_body_cannot_be_exchanged(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    body = oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | {"ott": "mine", "iat": 1_700_000_000})
    for changes in ({"ott": "yours"}, {"iat": 1_700_000_001}):
        other = oracle.b64(oracle.to_json(oracle.header_of(body) | changes))
        assert fault(open_jwe, _swap(body, 0, other), keys=keys) is JoseFault.UNDECRYPTABLE


def test_the_largest_body_and_the_largest_header_are_opened(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    header = oracle.JWE_HEADER | {"x": ""}
    header["x"] = "a" * (HEADER_MAX - len(oracle.to_json(header)))
    smallest = oracle.jwe(b"", to_us, header)
    payload = b"a" * ((BODY_MAX - len(smallest)) * 3 // 4)
    body = oracle.jwe(payload, to_us, header)
    assert BODY_MAX - 2 <= len(body) <= BODY_MAX
    assert open_jwe(body, keys=keys).payload == payload


def test_nothing_that_was_opened_is_shown(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    header = oracle.JWE_HEADER | {"ott": "be2f6579-9426-480b-9cb7-d8f1116cc8b9"}
    opened = open_jwe(oracle.jwe(PAYLOAD, to_us, header), keys=keys)
    assert repr(opened) == "Opened(kid=None, issued_at=None, signed_by=None)"


# --- what is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"alg": "RSA-OAEP-256"},
        {"enc": "A256GCM"},
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
        {"alg": "RSA1_5", "enc": "A256GCM"},
        {"alg": "RSA-OAEP-384", "enc": "A256GCM"},
        {"alg": "RSA-OAEP-512", "enc": "A256GCM"},
        {"alg": "RSA_OAEP_256", "enc": "A256GCM"},
        {"alg": "rsa-oaep-256", "enc": "A256GCM"},
        {"alg": "RSA-OAEP-256 ", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "A256KW", "enc": "A256GCM"},
        {"alg": "A256GCMKW", "enc": "A256GCM"},
        {"alg": "ECDH-ES", "enc": "A256GCM"},
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        {"alg": "PBES2-HS256+A128KW", "enc": "A256GCM"},
        {"alg": "none", "enc": "A256GCM"},
        {"alg": "", "enc": "A256GCM"},
        {"alg": "ES512", "enc": "A256GCM"},
        {"alg": "RSA-OAEP-256", "enc": "A128GCM"},
        {"alg": "RSA-OAEP-256", "enc": "A192GCM"},
        {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512"},
        {"alg": "RSA-OAEP-256", "enc": "a256gcm"},
        {"alg": "RSA-OAEP-256", "enc": "none"},
        {"alg": "RSA-OAEP-256", "enc": ""},
    ],
    ids=lambda header: f"{header.get('alg', 'absent')}/{header.get('enc', 'absent')}",
)
def test_one_pair_of_algorithms_is_taken_and_no_other(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, header: dict[str, str]
) -> None:
    """All of these would decrypt, were the header not looked at."""
    assert fault(open_jwe, oracle.jwe(PAYLOAD, to_us, header), keys=keys) is JoseFault.ALGORITHM


@pytest.mark.parametrize("size", [0, 16, 24])
def test_a_content_key_of_another_length_is_as_good_as_none(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, size: int
) -> None:
    protected, iv = oracle.b64(oracle.to_json(oracle.JWE_HEADER)), os.urandom(12)
    content_key = os.urandom(size)
    sealed = AESGCM(content_key or bytes(16)).encrypt(iv, PAYLOAD, protected)
    parts = [to_us.encrypt(content_key, oracle.OAEP_256), iv, sealed[:-16], sealed[-16:]]
    body = b".".join([protected, *map(oracle.b64, parts)])
    assert fault(open_jwe, body, keys=keys) is JoseFault.UNDECRYPTABLE


@pytest.mark.parametrize("size", [8, 11, 13, 16, 64])
def test_another_length_of_the_initialisation_vector_is_refused(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, size: int
) -> None:
    body = oracle.jwe(PAYLOAD, to_us, iv=os.urandom(size))
    assert fault(open_jwe, body, keys=keys) is JoseFault.MALFORMED


@pytest.mark.parametrize("size", [0, 1, 4, 12, 15])
def test_a_shortened_tag_is_refused(keys: ServerKeys, to_us: rsa.RSAPublicKey, size: int) -> None:
    """Truncated tags are easier to guess; a lenient decryptor takes them."""
    body = oracle.jwe(PAYLOAD, to_us)
    tag = oracle.unb64(body.rpartition(b".")[2])[:size]
    assert fault(open_jwe, _swap(body, 4, oracle.b64(tag)), keys=keys) is JoseFault.MALFORMED


def test_a_tag_that_borrows_from_the_content_is_refused(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    *_, ciphertext, tag = map(oracle.unb64, (body := oracle.jwe(PAYLOAD, to_us)).split(b"."))
    moved = _swap(_swap(body, 3, oracle.b64(ciphertext[:-1])), 4, oracle.b64(ciphertext[-1:] + tag))
    assert fault(open_jwe, moved, keys=keys) is JoseFault.MALFORMED


@pytest.mark.parametrize("oaep_hash", [oracle.OLD_HASH, hashes.SHA512()], ids=["sha-1", "sha-512"])
def test_a_content_key_that_was_encrypted_otherwise_is_refused(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, oaep_hash: hashes.HashAlgorithm
) -> None:
    other = padding.OAEP(padding.MGF1(oaep_hash), oaep_hash, None)
    body = oracle.jwe(PAYLOAD, to_us, oaep=other)
    assert fault(open_jwe, body, keys=keys) is JoseFault.UNDECRYPTABLE
    older = oracle.jwe(PAYLOAD, to_us, oaep=padding.PKCS1v15())
    assert fault(open_jwe, older, keys=keys) is JoseFault.UNDECRYPTABLE


def test_what_was_encrypted_to_somebody_else_is_refused(keys: ServerKeys, rsa_key: rsa.RSAPrivateKey) -> None:
    body = oracle.jwe(PAYLOAD, rsa_key.public_key())
    assert fault(open_jwe, body, keys=keys) is JoseFault.UNDECRYPTABLE


@pytest.mark.parametrize(
    "encrypted_key",
    [b"", b"\x00", bytes(255), bytes(256), b"\xff" * 256, bytes(257), bytes(1024), bytes(40_000)],
)
def test_an_encrypted_key_that_is_none_is_refused(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, encrypted_key: bytes
) -> None:
    body = _swap(oracle.jwe(PAYLOAD, to_us), 1, oracle.b64(encrypted_key))
    assert fault(open_jwe, body, keys=keys) is JoseFault.UNDECRYPTABLE


def test_the_parts_of_two_tokens_do_not_mix(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    one, other = (oracle.jwe(PAYLOAD, to_us) for _ in range(2))
    for index, segment in enumerate(other.split(b".")[1:], start=1):
        mixed = _swap(one, index, segment)
        assert mixed in {one, other} or fault(open_jwe, mixed, keys=keys) is JoseFault.UNDECRYPTABLE


# --- what is answered -------------------------------------------------------------------------------


@given(payload=st.binary(max_size=200), content_key=st.binary(min_size=32, max_size=32))
def test_a_direct_answer_opens_with_the_content_key_of_the_request(
    payload: bytes, content_key: bytes
) -> None:
    assert oracle.open_direct(seal_direct(payload, content_key), content_key) == payload


def test_a_direct_answer_looks_as_published() -> None:
    header, encrypted_key, iv, *_ = seal_direct(PAYLOAD, bytes(32)).split(b".")
    assert header == b"eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0"
    assert oracle.unb64(header) == b'{"enc":"A256GCM","alg":"dir"}'
    assert encrypted_key == b""
    assert len(oracle.unb64(iv)) == 12


def test_no_two_answers_share_an_initialisation_vector() -> None:
    """With one key, that would give both away."""
    vectors = {seal_direct(PAYLOAD, bytes(32)).split(b".")[2] for _ in range(200)}
    assert len(vectors) == 200


def test_an_answer_to_an_uploaded_key_opens_with_its_private_half(clients: dict[str, Client]) -> None:
    client = clients["RSA_OAEP_256"]
    assert isinstance(client.private, rsa.RSAPrivateKey)
    token = seal_to(PAYLOAD, client.key)
    assert oracle.open_jwe(token, client.private) == PAYLOAD
    expected = f'{{"kid":"{client.key.id}","enc":"A256GCM","alg":"RSA-OAEP-256"}}'.encode()
    assert oracle.unb64(token.split(b".")[0]) == expected


def test_each_answer_has_a_content_key_of_its_own(clients: dict[str, Client]) -> None:
    client = clients["RSA_OAEP_256"]
    assert isinstance(client.private, rsa.RSAPrivateKey)
    found = {
        client.private.decrypt(oracle.unb64(seal_to(PAYLOAD, client.key).split(b".")[1]), oracle.OAEP_256)
        for _ in range(5)
    }
    assert {len(each) for each in found} == {32}
    assert len(found) == 5


def test_nothing_is_encrypted_to_a_key_that_signs(
    clients: dict[str, Client], rsa_key: rsa.RSAPrivateKey
) -> None:
    for key in (clients["ES512"].key, client_key(rsa_key, "PS256")):
        with pytest.raises(ValueError, match="a key for encryption"):
            seal_to(PAYLOAD, key)
