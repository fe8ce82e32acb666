"""Signed bodies, compared with tokens that are made by hand; and signed bodies inside encrypted ones."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.jose import oracle
from tests.jose.support import (
    FROM,
    NOW,
    PAYLOAD,
    TILL,
    URL,
    Client,
    client_key,
    fault,
    open_nested,
    published,
    verify,
)
from watchword.domain.instant import Instant
from watchword.jose.compact import JoseFault
from watchword.jose.envelope import open_jwe, sign, signature_algorithm
from watchword.jose.keys import SIGNING, Algorithm, ServerKeys

ALGORITHMS = sorted(SIGNING)


# --- what is taken ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_client_signed_is_verified(clients: dict[str, Client], algorithm: str) -> None:
    client = clients[algorithm]
    assert verify(client.sign(), client.key) == PAYLOAD
    assert verify(client.sign(b""), client.key) == b""


def test_the_header_of_the_published_sample_is_taken(client: Client) -> None:
    header = b'{"alg":"ES512","typ":"JWT","url":"/v1/auth/jose/playground/jws"}'
    assert verify(oracle.jws(PAYLOAD, client.private, header), client.key) == PAYLOAD


def test_the_type_and_the_key_may_be_left_out(client: Client) -> None:
    assert verify(oracle.jws(PAYLOAD, client.private, {"alg": "ES512", "url": URL}), client.key) == PAYLOAD


def test_the_key_that_is_named_is_used_however_many_there_are(client: Client) -> None:
    others = [client_key(ec.generate_private_key(ec.SECP521R1()), "ES512") for _ in range(5)]
    body = client.sign(kid=client.key.id)
    assert verify(body, *others, client.key) == PAYLOAD
    assert fault(verify, client.sign(kid=others[0].id), *others, client.key) is JoseFault.UNVERIFIED


@pytest.mark.parametrize("header", [{}, {"kid": "our-first-key"}], ids=["unnamed", "a-name-of-its-own"])
def test_without_a_name_the_two_newest_keys_are_tried(client: Client, header: dict[str, str]) -> None:
    """A client that has just rotated need not name its key; one that has piled up keys must."""
    others = [client_key(ec.generate_private_key(ec.SECP521R1()), "ES512") for _ in range(2)]
    body = client.sign(**header)
    assert verify(body, others[0], client.key) == PAYLOAD
    assert fault(verify, body, *others, client.key) is JoseFault.UNVERIFIED


def test_keys_of_another_use_are_passed_over(clients: dict[str, Client], client: Client) -> None:
    others = [each.key for name, each in clients.items() if name != "ES512"]
    assert verify(client.sign(), *others, client.key) == PAYLOAD


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_to_answer_with_is_read_from_the_request(
    clients: dict[str, Client], algorithm: str
) -> None:
    assert signature_algorithm(clients[algorithm].sign()) == algorithm
    assert fault(signature_algorithm, clients[algorithm].sign(alg="none")) is JoseFault.ALGORITHM


# --- what is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "good"),
    [(FROM - 1, False), (FROM, True), (TILL - 1, True), (TILL, False)],
    ids=["too-early", "first-moment", "last-moment", "over"],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_key_is_good_within_its_time(client: Client, now: int, good: bool, named: bool) -> None:
    body = client.sign(kid=client.key.id) if named else client.sign()
    if good:
        assert verify(body, client.key, now=Instant(now)) == PAYLOAD
    else:
        assert fault(verify, body, client.key, now=Instant(now)) is JoseFault.UNVERIFIED


def test_a_signature_without_any_key_to_verify_it_is_refused(client: Client) -> None:
    assert fault(verify, client.sign()) is JoseFault.UNVERIFIED


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_somebody_elses_signature_is_refused(clients: dict[str, Client], algorithm: str) -> None:
    client = clients[algorithm]
    other: oracle.Private
    if isinstance(client.private, rsa.RSAPrivateKey):
        other = rsa.generate_private_key(65537, 2048)
    else:
        other = ec.generate_private_key(client.private.curve)
    body = oracle.jws(PAYLOAD, other, {"alg": algorithm, "url": URL, "kid": client.key.id})
    assert fault(verify, body, client.key) is JoseFault.UNVERIFIED


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "/",
        URL + "/",
        URL + "?",
        URL + "?a=b",
        URL.upper(),
        URL[1:],
        f"https://api.example.com{URL}",
        f"/{URL}",
        URL.replace("v1", "2026Q3"),
        URL.replace("/jws", "/%6aws"),
        f"{URL}\x00",
        f" {URL}",
    ],
)
def test_a_signed_body_is_good_for_the_path_in_it_only(client: Client, url: str | None) -> None:
    header = {"alg": "ES512"} if url is None else {"alg": "ES512", "url": url}
    body = oracle.jws(PAYLOAD, client.private, header)
    assert fault(verify, body, client.key) is JoseFault.URL


@pytest.mark.parametrize(
    ("signed", "claimed"),
    [("PS256", "PS384"), ("PS512", "PS256"), ("PS384", "PS512")],
)
def test_a_key_is_good_for_the_algorithm_that_it_was_uploaded_for(
    clients: dict[str, Client], signed: str, claimed: str
) -> None:
    """One RSA key could do all three."""
    client = clients[signed]
    body = oracle.jws(PAYLOAD, client.private, {"alg": claimed, "url": URL, "kid": client.key.id})
    assert fault(verify, body, client.key) is JoseFault.UNVERIFIED


def _resigned(client: Client, signature: bytes) -> bytes:
    return client.sign().rpartition(b".")[0] + b"." + oracle.b64(signature)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_a_signature_in_another_form_is_refused(clients: dict[str, Client], algorithm: str) -> None:
    client = clients[algorithm]
    assert isinstance(client.private, ec.EllipticCurvePrivateKey)
    size = -(-client.private.curve.key_size // 8)
    signed = client.sign().rpartition(b".")[0]
    raw = oracle.raw_signature(signed, algorithm, client.private)
    order = client.private.curve.group_order
    forms = {
        "der": client.private.sign(signed, ec.ECDSA(oracle.HASHES[algorithm[2:]]())),
        "zero": bytes(2 * size),
        "r-zero": bytes(size) + raw[size:],
        "s-zero": raw[:size] + bytes(size),
        "as-large-as-the-order": order.to_bytes(size, "big") * 2,
        "ones": b"\xff" * 2 * size,
        "short": raw[:-1],
        "long": raw + b"\x00",
        "empty": b"",
        "huge": raw * 200,
    }
    for name, signature in forms.items():
        body = signed + b"." + oracle.b64(signature)
        assert fault(verify, body, client.key) is JoseFault.UNVERIFIED, name


def test_an_rsa_signature_in_another_form_is_refused(clients: dict[str, Client]) -> None:
    client = clients["PS256"]
    assert isinstance(client.private, rsa.RSAPrivateKey)
    signed = client.sign().rpartition(b".")[0]
    sha = hashes.SHA256()
    forms = {
        "pkcs1": client.private.sign(signed, padding.PKCS1v15(), sha),
        "no-salt": client.private.sign(signed, padding.PSS(padding.MGF1(sha), 0), sha),
        "longest-salt": client.private.sign(
            signed, padding.PSS(padding.MGF1(sha), padding.PSS.MAX_LENGTH), sha
        ),
        "other-mask": client.private.sign(signed, padding.PSS(padding.MGF1(oracle.OLD_HASH), 32), sha),
        "zero": bytes(256),
        "ones": b"\xff" * 256,
        "long": bytes(257),
        "empty": b"",
        "huge": bytes(40_000),
    }
    for name, signature in forms.items():
        body = signed + b"." + oracle.b64(signature)
        assert fault(verify, body, client.key) is JoseFault.UNVERIFIED, name


def test_a_token_cut_into_another_payload_is_refused(client: Client) -> None:
    header, payload, signature = client.sign().split(b".")
    for changed in (b"", payload[4:], b"AAAA" + payload, oracle.b64(b'{"message":"other"}')):
        body = b".".join([header, changed, signature])
        assert fault(verify, body, client.key) is JoseFault.UNVERIFIED


def test_the_examples_of_rfc_7515_are_good_for_no_path(client: Client) -> None:
    body = (
        b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA"
        b".AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xdt"
        b"AG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
    )
    assert fault(verify, body, client.key) is JoseFault.URL


# --- what is answered -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_answer_verifies_with_the_published_key(keys: ServerKeys, algorithm: Algorithm) -> None:
    token = sign(PAYLOAD, algorithm, keys=keys)
    key = load_der_public_key(published(keys, algorithm).spki)
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    assert oracle.verify_jws(token, key) == PAYLOAD
    assert oracle.unb64(token.split(b".")[0]) == f'{{"version":1,"alg":"{algorithm}"}}'.encode()


def test_a_signature_of_es512_has_132_bytes(keys: ServerKeys) -> None:
    for _ in range(20):
        token = sign(PAYLOAD, Algorithm.ES512, keys=keys)
        assert len(oracle.unb64(token.rpartition(b".")[2])) == 132


def test_the_key_that_decrypts_is_not_signed_with(keys: ServerKeys) -> None:
    with pytest.raises(ValueError, match="an algorithm for signatures"):
        sign(PAYLOAD, Algorithm.RSA_OAEP_256, keys=keys)


def test_our_own_answer_is_no_request(keys: ServerKeys) -> None:
    own = client_key_of(keys)
    assert fault(verify, sign(PAYLOAD, Algorithm.ES512, keys=keys), own) is JoseFault.URL


def client_key_of(keys: ServerKeys) -> Any:
    """Pretend that a client uploaded our public key."""
    private = keys.signing_key(Algorithm.ES512)[1]
    return client_key(private, "ES512")


# --- signed, then encrypted -------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("content_type", [None, "JWT", "jwt", "JOSE", "jose"])
def test_what_was_signed_then_encrypted_is_opened_and_verified(
    keys: ServerKeys,
    to_us: rsa.RSAPublicKey,
    clients: dict[str, Client],
    algorithm: str,
    content_type: str | None,
) -> None:
    client = clients[algorithm]
    header: dict[str, Any] = oracle.JWE_HEADER | {"ott": "mine", "iat": 1, "kid": "any"}
    if content_type is not None:
        header["cty"] = content_type
    content_key = bytes(range(32))
    body = oracle.jwe(client.sign(), to_us, header, content_key=content_key)
    opened = open_nested(body, keys, client.key)
    assert (opened.payload, opened.content_key) == (PAYLOAD, content_key)
    assert opened.signed_by == algorithm
    assert (opened.kid, opened.ott, opened.issued_at) == ("any", "mine", 1)


@pytest.mark.attack(101)
@pytest.mark.parametrize(
    "content_type", ["", "JWS", "JWE", "application/json", "JWT ", "text/plain", "at+jwt"]
)
def test_a_content_type_that_is_not_what_must_be_inside_is_refused(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client, content_type: str
) -> None:
    body = oracle.jwe(client.sign(), to_us, oracle.JWE_HEADER | {"cty": content_type})
    assert fault(open_nested, body, keys, client.key) is JoseFault.CONTENT_TYPE


@pytest.mark.attack(101)
def test_encryption_is_not_taken_for_a_signature(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client
) -> None:
    """Anybody can encrypt to us."""
    signed, encrypted = client.sign(), oracle.jwe(PAYLOAD, to_us)
    nested = oracle.jwe(signed, to_us)
    claims_signature = oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | {"url": URL, "alg": "ES512"})
    inside_out = oracle.jws(encrypted, client.private, {"alg": "ES512", "url": URL})
    for body in (encrypted, nested, claims_signature):
        assert fault(verify, body, client.key) is JoseFault.MALFORMED
    for body in (signed, inside_out):
        assert fault(open_jwe, body, keys=keys) is JoseFault.MALFORMED
        assert fault(open_nested, body, keys, client.key) is JoseFault.MALFORMED
    for inner in (PAYLOAD, encrypted, nested, b"", signed.rpartition(b".")[0] + b"."):
        body = oracle.jwe(inner, to_us, oracle.JWE_HEADER | {"cty": "JWT"})
        refused = fault(open_nested, body, keys, client.key)
        assert refused in {JoseFault.MALFORMED, JoseFault.UNVERIFIED}


def test_the_signature_inside_is_looked_at_as_closely(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client
) -> None:
    elsewhere = oracle.jwe(client.sign(url="/v1/other"), to_us)
    assert fault(open_nested, elsewhere, keys, client.key) is JoseFault.URL
    foreign = oracle.jws(PAYLOAD, ec.generate_private_key(ec.SECP521R1()), {"alg": "ES512", "url": URL})
    assert fault(open_nested, oracle.jwe(foreign, to_us), keys, client.key) is JoseFault.UNVERIFIED
    unsigned = oracle.b64(b'{"alg":"none","url":"%s"}' % URL.encode()) + b"." + oracle.b64(PAYLOAD) + b"."
    assert fault(open_nested, oracle.jwe(unsigned, to_us), keys, client.key) is JoseFault.ALGORITHM


def test_now_is_the_moment_that_the_caller_gives(client: Client) -> None:
    """The keys of these tests are over by the world's clock; nothing here looks at it."""
    assert verify(client.sign(), client.key, now=NOW) == PAYLOAD
