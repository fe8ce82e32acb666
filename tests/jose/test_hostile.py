"""The attacks on JOSE of the security plan, one after the other."""

import base64
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.jose import oracle
from tests.jose.support import PAYLOAD, URL, Client, fault, open_nested, published, verify
from watchword.jose import envelope
from watchword.jose.compact import JoseError, JoseFault
from watchword.jose.envelope import open_jwe
from watchword.jose.keys import Algorithm, ServerKeys


def _cost(call: Callable[..., object], *arguments: Any, **named: Any) -> float:
    """Return the processor time of the best of five refused calls, in seconds."""
    costs = []
    for _ in range(5):
        started = time.thread_time()
        with pytest.raises(JoseError):
            call(*arguments, **named)
        costs.append(time.thread_time() - started)
    return min(costs)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever touches a key: what is refused here is refused before."""

    def touch(*args: object, **kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ServerKeys, "decryption_keys", touch)
    monkeypatch.setattr(envelope, "_public", touch)


# --- plain JSON -------------------------------------------------------------------------------------


@pytest.mark.attack(98)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("body", [b'{"pin":"1234"}', b'"1234"', b"1234", b"", b"pin=1234"])
def test_plain_bodies_are_not_read_where_a_token_must_be(
    keys: ServerKeys, client: Client, body: bytes
) -> None:
    assert fault(open_jwe, body, keys=keys) is JoseFault.MALFORMED
    assert fault(verify, body, client.key) is JoseFault.MALFORMED
    assert fault(open_nested, body, keys, client.key) is JoseFault.MALFORMED


# --- confusion of algorithms ------------------------------------------------------------------------


def _secrets(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> dict[str, bytes]:
    """List what an HMAC could be keyed with by somebody who has the public key only."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forms = {
        "pem": pem,
        "pem-without-line-end": pem.rstrip(),
        "pem-of-another-system": pem.replace(b"\n", b"\r\n"),
        "pem-with-space": b" " + pem + b" \n",
        "der": der,
        "base64": base64.b64encode(der),
    }
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        forms["pkcs1"] = key.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
        modulus = oracle.b64(numbers.n.to_bytes(key.key_size // 8, "big")).decode()
        forms["jwk"] = json.dumps({"kty": "RSA", "n": modulus, "e": "AQAB"}).encode()
    else:
        forms["point"] = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        forms["jwk"] = json.dumps({"kty": "EC", "crv": "P-521"}).encode()
    return forms


@pytest.mark.attack(100)
@pytest.mark.parametrize("size", ["256", "384", "512"])
@pytest.mark.parametrize("algorithm", ["ES512", "PS256"])
def test_an_hmac_keyed_with_a_public_key_is_no_signature(
    clients: dict[str, Client], algorithm: str, size: str
) -> None:
    client = clients[algorithm]
    for form, secret in _secrets(client.private.public_key()).items():
        for more in ({}, {"kid": client.key.id}):
            header = oracle.to_json({"alg": f"HS{size}", "url": URL} | more)
            signed = oracle.b64(header) + b"." + oracle.b64(PAYLOAD)
            mac = hmac.HMAC(secret, oracle.HASHES[size]())
            mac.update(signed)
            body = signed + b"." + oracle.b64(mac.finalize())
            assert fault(verify, body, client.key) is JoseFault.ALGORITHM, form


@pytest.mark.attack(100)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "RS256", "EdDSA", "ES256K", "dir", "RSA-OAEP-256", "PS256 "]
)
@pytest.mark.parametrize("signature", [b"", b"AA", oracle.b64(bytes(132))])
def test_no_signature_and_no_other_algorithm_is_taken(client: Client, alg: str, signature: bytes) -> None:
    header = oracle.to_json({"alg": alg, "url": URL, "kid": client.key.id})
    body = b".".join([oracle.b64(header), oracle.b64(PAYLOAD), signature])
    assert fault(verify, body, client.key) is JoseFault.ALGORITHM


# --- elliptic curves in a header --------------------------------------------------------------------


@pytest.mark.attack(103)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("flaw", ["off-curve", "infinity", "other-curve", "none"])
@pytest.mark.parametrize("alg", ["ECDH-ES", "ECDH-ES+A256KW", "RSA-OAEP-256"])
def test_a_key_to_agree_with_is_refused_wherever_it_lies(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, alg: str, flaw: str
) -> None:
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = {
        "off-curve": (numbers.x, numbers.y ^ 1),
        "infinity": (0, 0),
        "other-curve": (numbers.x, numbers.y),
        "none": (numbers.x, numbers.y),
    }[flaw]
    curve = "P-521" if flaw == "other-curve" else "P-256"
    point = {"x": oracle.b64(x.to_bytes(32, "big")).decode(), "y": oracle.b64(y.to_bytes(32, "big")).decode()}
    header = {"alg": alg, "enc": "A256GCM", "epk": {"kty": "EC", "crv": curve} | point}
    assert fault(open_jwe, oracle.jwe(PAYLOAD, to_us, header), keys=keys) is JoseFault.HEADER


# --- work that somebody orders ----------------------------------------------------------------------


@pytest.mark.attack(104)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("alg", ["PBES2-HS256+A128KW", "PBES2-HS512+A256KW", "RSA-OAEP-256"])
@pytest.mark.parametrize("count", [1, 300_000, 2**31 - 1, 2**53, 10**400])
def test_no_key_is_derived_from_a_password(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, alg: str, count: int
) -> None:
    header = {"alg": alg, "enc": "A256GCM", "p2c": count, "p2s": "AAAAAAAAAAAAAAAAAAAAAA"}
    body = oracle.jwe(PAYLOAD, to_us, header)
    assert fault(open_jwe, body, keys=keys) in {JoseFault.HEADER, JoseFault.MALFORMED}
    assert _cost(open_jwe, body, keys=keys) < 0.01


@pytest.mark.attack(106)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("filler", [b"A", b".", b"[", b"=", b" ", b"\xff", b"e30."])
def test_a_token_of_a_mebibyte_is_not_looked_at(keys: ServerKeys, client: Client, filler: bytes) -> None:
    body = filler * (2**20 // len(filler))
    for call in (
        lambda: open_jwe(body, keys=keys),
        lambda: verify(body, client.key),
        lambda: open_nested(body, keys, client.key),
    ):
        assert fault(call) is JoseFault.TOO_LARGE
        assert _cost(call) < 0.001


@pytest.mark.attack(106)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "more", [{"b64": False, "crit": ["b64"]}, {"b64": False}, {"b64": True}, {"crit": ["b64"]}]
)
def test_a_payload_that_is_not_encoded_is_refused(client: Client, more: dict[str, Any]) -> None:
    protected = oracle.b64(oracle.to_json({"alg": "ES512", "url": URL} | more))
    signed = protected + b"." + PAYLOAD
    body = signed + b"." + oracle.b64(oracle.raw_signature(signed, "ES512", client.private))
    assert fault(verify, body, client.key) is JoseFault.HEADER


@pytest.mark.attack(106)
def test_what_is_logged_of_a_refusal_does_not_grow_with_the_token(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    for header in (b'{"alg":"' + b"A" * 4000 + b'"}', b'{"kid":"' + b"A" * 60_000 + b'"}', b"{" * 900):
        with pytest.raises(JoseError) as raised:
            open_jwe(oracle.jwe(PAYLOAD, to_us, header), keys=keys)
        assert len(str(raised.value)) < 80
        assert str(raised.value) in {each.value for each in JoseFault}


def test_what_would_explode_is_not_decompressed(keys: ServerKeys, to_us: rsa.RSAPublicKey) -> None:
    for name in ("DEF", "GZIP", "", None):
        body = oracle.jwe(bytes(1000), to_us, oracle.JWE_HEADER | {"zip": name})
        assert fault(open_jwe, body, keys=keys) is JoseFault.HEADER


# --- keys that a header brings, or points at --------------------------------------------------------


@pytest.mark.attack(107)
def test_a_key_that_a_header_brings_or_points_at_is_never_used(client: Client) -> None:
    """A canary listens where the header points at: nobody comes."""
    stranger = ec.generate_private_key(ec.SECP521R1())
    numbers = stranger.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-521",
        "x": oracle.b64(numbers.x.to_bytes(66, "big")).decode(),
        "y": oracle.b64(numbers.y.to_bytes(66, "big")).decode(),
    }
    certificate = base64.b64encode(oracle.spki(stranger.public_key())).decode()
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/keys"
        for more in ({"jwk": jwk}, {"jku": url}, {"x5u": url}, {"x5c": [certificate]}):
            header = {"alg": "ES512", "url": URL} | more
            body = oracle.jws(PAYLOAD, stranger, header)
            assert fault(verify, body, client.key) is JoseFault.HEADER
            # Not even beside a signature that is right.
            assert fault(verify, client.sign(**more), client.key) is JoseFault.HEADER
        body = oracle.jws(PAYLOAD, stranger, {"alg": "ES512", "url": URL, "kid": url})
        assert fault(verify, body, client.key) is JoseFault.UNVERIFIED
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.attack(107)
@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "file:///etc/passwd",
        "http://127.0.0.1:9/key",
        "' OR ''='",
        "x\x00y",
        "",
        "\u202e",
    ],
)
def test_the_name_of_a_key_is_compared_and_nothing_else(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client, kid: str
) -> None:
    """What is keyed with nothing, as a file that is empty would be, is refused; what is right stays right."""
    assert verify(client.sign(kid=kid), client.key) == PAYLOAD
    assert (
        open_jwe(oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | {"kid": kid}), keys=keys).payload == PAYLOAD
    )
    stranger = oracle.jws(
        PAYLOAD, ec.generate_private_key(ec.SECP521R1()), {"alg": "ES512", "url": URL, "kid": kid}
    )
    assert fault(verify, stranger, client.key) is JoseFault.UNVERIFIED


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "epk", "crit", "zip", "b64", "p2c", "p2s"])
@pytest.mark.usefixtures("untouched")
def test_such_members_are_refused_before_any_key_is_touched(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client, member: str
) -> None:
    assert fault(verify, client.sign(**{member: "x"}), client.key) is JoseFault.HEADER
    body = oracle.jwe(client.sign(), to_us, oracle.JWE_HEADER | {member: "x"})
    assert fault(open_jwe, body, keys=keys) is JoseFault.HEADER
    assert fault(open_nested, body, keys, client.key) is JoseFault.HEADER


# --- other spellings of a token ---------------------------------------------------------------------


@pytest.mark.attack(110)
@pytest.mark.usefixtures("untouched")
def test_only_compact_serialization_is_read(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client
) -> None:
    header, encrypted_key, iv, ciphertext, tag = oracle.jwe(PAYLOAD, to_us).decode().split(".")
    sealed: dict[str, Any] = {"protected": header, "iv": iv, "ciphertext": ciphertext, "tag": tag}
    recipient = {"header": {"alg": "RSA-OAEP-256"}, "encrypted_key": encrypted_key}
    for each in (
        sealed | {"encrypted_key": encrypted_key},
        sealed | {"encrypted_key": encrypted_key, "unprotected": {"alg": "dir"}},
        sealed | {"recipients": [recipient]},
        sealed | {"recipients": [recipient, recipient]},
    ):
        assert fault(open_jwe, oracle.to_json(each), keys=keys) is JoseFault.MALFORMED
    protected, payload, signature = client.sign().decode().split(".")
    signed = {"protected": protected, "signature": signature}
    for each in (
        {"payload": payload} | signed,
        {"payload": payload, "header": {"alg": "none"}} | signed,
        {"payload": payload, "signatures": [signed]},
        {"payload": payload, "signatures": [signed, signed]},
    ):
        assert fault(verify, oracle.to_json(each), client.key) is JoseFault.MALFORMED


@pytest.mark.attack(110)
@pytest.mark.parametrize("method", ["jwe", "jws"])
def test_a_token_has_one_spelling(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, client: Client, method: str
) -> None:
    body = oracle.jwe(PAYLOAD, to_us) if method == "jwe" else client.sign()
    segments = body.split(b".")

    def refused(changed: bytes) -> None:
        call: Callable[[], object] = (
            (lambda: open_jwe(changed, keys=keys))
            if method == "jwe"
            else (lambda: verify(changed, client.key))
        )
        assert fault(call) is JoseFault.MALFORMED

    for before, after in (
        (b" ", b""),
        (b"", b"\n"),
        (b"", b" "),
        (b"\xef\xbb\xbf", b""),
        (b"", b"."),
        (b"", b"\x00"),
    ):
        refused(before + body + after)
    for index, segment in enumerate(segments):
        for changed in (
            segment + b"=" * (-len(segment) % 4 or 4),
            segment + b"\n",
            b" " + segment,
            segment + b"A" * 5,
        ):
            if len(changed) % 4 == 1 or changed[-1:] != b"A":
                refused(b".".join([*segments[:index], changed, *segments[index + 1 :]]))


# --- one error, and one time ------------------------------------------------------------------------


@pytest.mark.attack(113)
def test_every_byte_of_an_encrypted_body_counts_and_all_are_refused_alike(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    """Each byte of each part, one after the other: what was flipped does not show in the answer."""
    segments = oracle.jwe(PAYLOAD, to_us).split(b".")
    for index, segment in enumerate(segments):
        data = oracle.unb64(segment)
        for at in range(len(data)):
            flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            body = b".".join([*segments[:index], oracle.b64(flipped), *segments[index + 1 :]])
            found = fault(open_jwe, body, keys=keys)
            # In the header it may be JSON no longer, or name another algorithm: everybody sees that.
            assert found is JoseFault.UNDECRYPTABLE or (index == 0 and found is not JoseFault.UNVERIFIED)


@pytest.mark.attack(113)
def test_every_byte_of_a_signed_body_counts(client: Client) -> None:
    segments = client.sign().split(b".")
    for index, segment in enumerate(segments):
        data = oracle.unb64(segment)
        for at in range(len(data)):
            flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            body = b".".join([*segments[:index], oracle.b64(flipped), *segments[index + 1 :]])
            found = fault(verify, body, client.key)
            assert found is JoseFault.UNVERIFIED or index == 0


@pytest.mark.attack(113)
def test_a_key_that_does_not_decrypt_takes_the_work_of_one_that_does(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The same operations are done whatever is wrong: all keys in question, then the content.

    Counted rather than timed: a clock on a busy machine would let a difference through.
    """
    rotated = keys.rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048)
    work: list[str] = []

    class CountedKey:
        def __init__(self, key: rsa.RSAPrivateKey) -> None:
            self.key, self.key_size = key, key.key_size

        def decrypt(self, *arguments: Any) -> bytes:
            work.append("key")
            return self.key.decrypt(*arguments)

    class CountedCipher:
        def __init__(self, key: bytes) -> None:
            assert len(key) == 32
            self.cipher = AESGCM(key)

        def decrypt(self, *arguments: Any) -> bytes:
            work.append("content")
            return self.cipher.decrypt(*arguments)

    tried = rotated.decryption_keys
    monkeypatch.setattr(rotated, "decryption_keys", lambda kid: [CountedKey(key) for key in tried(kid)])
    monkeypatch.setattr(envelope, "AESGCM", CountedCipher)
    good = oracle.jwe(PAYLOAD, to_us)  # To the older key: the newer one never fits.
    for index in (None, 1, 2, 3, 4):
        segments = good.split(b".")
        if index is not None:
            data = bytearray(oracle.unb64(segments[index]))
            data[-1] ^= 1
            segments[index] = oracle.b64(bytes(data))
        work.clear()
        body = b".".join(segments)
        if index is None:
            assert open_jwe(body, keys=rotated).payload == PAYLOAD
        else:
            assert fault(open_jwe, body, keys=rotated) is JoseFault.UNDECRYPTABLE
        assert work == ["key", "key", "content"]


def test_a_body_under_the_key_that_stands_in_for_none_cannot_be_made(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    """Where no content key was found another one decrypts, to take the time: it is drawn anew each time."""
    protected, iv = oracle.b64(oracle.to_json(oracle.JWE_HEADER)), bytes(12)
    for guess in (bytes(32), b"\xff" * 32, b"\x01" * 32):
        sealed = AESGCM(guess).encrypt(iv, PAYLOAD, protected)
        parts = [bytes(to_us.key_size // 8), iv, sealed[:-16], sealed[-16:]]
        body = b".".join([protected, *map(oracle.b64, parts)])
        assert fault(open_jwe, body, keys=keys) is JoseFault.UNDECRYPTABLE


def test_a_named_key_is_the_only_one_that_is_tried(keys: ServerKeys) -> None:
    """So naming a key makes a body cheaper, never dearer."""
    rotated = keys.rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048)
    for version in (1, 2):
        kid = published(rotated, Algorithm.RSA_OAEP_256, version).id
        assert len(rotated.decryption_keys(kid)) == 1
