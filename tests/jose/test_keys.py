"""Our own keys: what is published, how they rotate, and what a key file may not hold."""

import base64
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from tests.jose import oracle
from tests.jose.support import PAYLOAD, fault, published
from watchword.domain.application import KeyScope
from watchword.jose.compact import JoseFault
from watchword.jose.envelope import open_jwe, sign
from watchword.jose.keys import SIGNING, Algorithm, KeyFileError, ServerKeys

SHORT = 1024
SIGN, ENCRYPT = KeyScope.PAYLOAD_SIGNING, KeyScope.PAYLOAD_ENCRYPTION


def _pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.fixture(scope="session")
def other_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def blocks(rsa_key: rsa.RSAPrivateKey, other_rsa: rsa.RSAPrivateKey) -> dict[str, bytes]:
    """A whole key file, by the title of each key."""
    return {
        "ES256 version 1": _pem(ec.generate_private_key(ec.SECP256R1())),
        "ES384 version 1": _pem(ec.generate_private_key(ec.SECP384R1())),
        "ES512 version 1": _pem(ec.generate_private_key(ec.SECP521R1())),
        "PS256 PS384 PS512 version 1": _pem(rsa_key),
        "RSA_OAEP_256 version 1": _pem(other_rsa),
    }


def _file(blocks: dict[str, bytes]) -> bytes:
    return b"\n".join(b"# %s\n%s" % (title.encode(), pem) for title, pem in blocks.items())


# --- what is published ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "curve"),
    [("ES256", "secp256r1"), ("ES384", "secp384r1"), ("ES512", "secp521r1")],
)
def test_each_curve_is_the_one_of_its_algorithm(keys: ServerKeys, algorithm: str, curve: str) -> None:
    found = keys.published(Algorithm(algorithm), SIGN)
    assert found is not None
    key = load_der_public_key(base64.b64decode(found.material))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == curve


def test_keys_that_are_made_for_production_have_3072_bits() -> None:
    key = load_der_public_key(published(ServerKeys.generate(), Algorithm.RSA_OAEP_256).spki)
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 3072


def test_each_algorithm_has_a_key_for_its_own_scope_only(keys: ServerKeys) -> None:
    for algorithm in Algorithm:
        own, other = (ENCRYPT, SIGN) if algorithm is Algorithm.RSA_OAEP_256 else (SIGN, ENCRYPT)
        found = keys.published(algorithm, own)
        assert found is not None
        assert (found.algorithm, found.scope, found.version) == (algorithm, own, 1)
        assert keys.published(algorithm, other) is None


def test_a_version_that_is_not_there_is_none(keys: ServerKeys) -> None:
    assert keys.published(Algorithm.ES512, SIGN, 1) == keys.published(Algorithm.ES512, SIGN)
    for version in (-1, 0, 2, 2**31):
        assert keys.published(Algorithm.ES512, SIGN, version) is None


def test_the_key_that_decrypts_signs_nothing(keys: ServerKeys) -> None:
    assert published(keys, Algorithm.PS256).spki == published(keys, Algorithm.PS512).spki
    assert published(keys, Algorithm.PS256).spki != published(keys, Algorithm.RSA_OAEP_256).spki


def test_every_key_has_a_uuid_of_its_own_and_keeps_it(keys: ServerKeys) -> None:
    ids = {algorithm: published(keys, algorithm).id for algorithm in Algorithm}
    assert len(set(ids.values())) == len(Algorithm)
    assert all(str(uuid.UUID(each)) == each for each in ids.values())
    again = ServerKeys.from_pem(keys.to_pem())
    assert {algorithm: published(again, algorithm).id for algorithm in Algorithm} == ids


# --- made when they are asked for -----------------------------------------------------------------


def test_nothing_is_made_before_it_is_asked_for() -> None:
    """A sandbox starts without waiting for RSA keys."""
    started = time.process_time()
    ServerKeys.generate(rsa_bits=8192)  # Seconds, were they made.
    assert time.process_time() - started < 0.1


def test_threads_that_ask_at_once_are_given_one_key() -> None:
    fresh = ServerKeys.generate(rsa_bits=2048)
    together = threading.Barrier(8)
    found: list[bytes] = []

    def ask() -> None:
        together.wait()
        found.append(published(fresh, Algorithm.RSA_OAEP_256).spki)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_what_was_warmed_is_what_is_used() -> None:
    fresh = ServerKeys.generate(rsa_bits=2048)
    fresh.warm()
    started = time.process_time()
    for algorithm in Algorithm:
        published(fresh, algorithm)
    assert time.process_time() - started < 0.02


@pytest.mark.attack(109)
@pytest.mark.parametrize("bits", [0, 512, 1024, 2047, 8193])
def test_keys_of_an_unsafe_size_are_not_made(bits: int) -> None:
    with pytest.raises(ValueError, match="2048 to 8192 bits"):
        ServerKeys.generate(rsa_bits=bits)


# --- rotation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(SIGNING))
def test_a_rotated_key_signs_and_the_old_one_is_still_published(
    keys: ServerKeys, algorithm: Algorithm
) -> None:
    rotated = keys.rotated(algorithm, rsa_bits=2048)
    assert published(rotated, algorithm).version == 2
    assert published(rotated, algorithm, 1) == published(keys, algorithm)
    token = sign(PAYLOAD, algorithm, keys=rotated)
    assert oracle.header_of(token) == {"version": 2, "alg": algorithm}
    key = load_der_public_key(published(rotated, algorithm, 2).spki)
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    assert oracle.verify_jws(token, key) == PAYLOAD


def test_rotating_one_of_three_that_share_a_key_rotates_all_three(keys: ServerKeys) -> None:
    rotated = keys.rotated(Algorithm.PS384, rsa_bits=2048)
    versions = {algorithm: published(rotated, algorithm).version for algorithm in Algorithm}
    assert {name for name, version in versions.items() if version == 2} == {"PS256", "PS384", "PS512"}


@pytest.mark.parametrize("named", [False, True], ids=["without-kid", "with-kid"])
def test_an_older_version_decrypts_until_it_is_removed(
    keys: ServerKeys, to_us: rsa.RSAPublicKey, named: bool
) -> None:
    header: dict[str, object] = dict(oracle.JWE_HEADER)
    if named:
        header["kid"] = published(keys, Algorithm.RSA_OAEP_256).id
    body = oracle.jwe(PAYLOAD, to_us, header)
    rotated = keys.rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048)
    assert open_jwe(body, keys=rotated).payload == PAYLOAD
    without = re.sub(
        rb"# RSA_OAEP_256 version 1\n.*?-----END [A-Z ]+-----\n", b"", rotated.to_pem(), flags=re.DOTALL
    )
    removed = ServerKeys.from_pem(without)
    assert published(removed, Algorithm.RSA_OAEP_256).version == 2
    assert fault(open_jwe, body, keys=removed) is JoseFault.UNDECRYPTABLE


def test_no_more_than_two_of_many_versions_are_tried_unless_one_is_named(
    keys: ServerKeys, to_us: rsa.RSAPublicKey
) -> None:
    often = keys.rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048).rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048)
    first = published(keys, Algorithm.RSA_OAEP_256).id
    assert len(often.decryption_keys(None)) == 2
    assert len(often.decryption_keys("another")) == 2
    assert len(often.decryption_keys(first)) == 1
    assert fault(open_jwe, oracle.jwe(PAYLOAD, to_us), keys=often) is JoseFault.UNDECRYPTABLE
    named = oracle.jwe(PAYLOAD, to_us, oracle.JWE_HEADER | {"kid": first})
    assert open_jwe(named, keys=often).payload == PAYLOAD


# --- the key file -----------------------------------------------------------------------------------


def test_a_key_file_is_read_as_it_was_written(keys: ServerKeys) -> None:
    rotated = keys.rotated(Algorithm.ES512).rotated(Algorithm.PS256, rsa_bits=2048)
    again = ServerKeys.from_pem(rotated.to_pem())
    assert again.to_pem() == rotated.to_pem()
    assert repr(again) == repr(rotated)
    for algorithm in Algorithm:
        assert published(again, algorithm) == published(rotated, algorithm)
        assert published(again, algorithm, 1) == published(rotated, algorithm, 1)


def test_a_key_file_may_be_written_by_hand(blocks: dict[str, bytes]) -> None:
    text = _file(dict(reversed(blocks.items()))).replace(b"\n", b"\r\n")
    read = ServerKeys.from_pem(b"# Keys of the staging server.\r\n\r\n" + text)
    assert repr(read) == "ServerKeys(ES256 1, ES384 1, ES512 1, PS256/PS384/PS512 1, RSA_OAEP_256 1)"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_may_stand_in_either_form(
    blocks: dict[str, bytes], rsa_key: rsa.RSAPrivateKey, form: PrivateFormat
) -> None:
    read = ServerKeys.from_pem(_file(blocks | {"PS256 PS384 PS512 version 1": _pem(rsa_key, form)}))
    assert published(read, Algorithm.PS256).spki == oracle.spki(rsa_key.public_key())


def test_openssl_makes_keys_that_fit(blocks: dict[str, bytes]) -> None:
    command = ["openssl", "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]
    made = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    assert (
        published(ServerKeys.from_pem(_file(blocks | {"ES512 version 7": made})), Algorithm.ES512).version
        == 7
    )


@pytest.mark.attack(109)
@pytest.mark.parametrize(
    ("title", "make", "says"),
    [
        pytest.param(
            "RSA_OAEP_256",
            lambda: rsa.generate_private_key(65537, SHORT),
            "2048 to 8192 bits, this one 1024",
            id="short-to-decrypt-with",
        ),
        pytest.param(
            "PS256 PS384 PS512",
            lambda: rsa.generate_private_key(65537, SHORT),
            "2048 to 8192 bits, this one 1024",
            id="short-to-sign-with",
        ),
        pytest.param(
            "RSA_OAEP_256",
            lambda: rsa.generate_private_key(3, 2048),
            "exponent or modulus",
            id="exponent-of-3",
        ),
        pytest.param(
            "RSA_OAEP_256",
            lambda: ec.generate_private_key(ec.SECP256R1()),
            "RSA_OAEP_256 takes an RSA key",
            id="curve-for-rsa",
        ),
        pytest.param(
            "ES256",
            lambda: ec.generate_private_key(ec.SECP384R1()),
            "ES256 takes a key on the curve secp256r1",
            id="longer-curve",
        ),
        pytest.param(
            "ES256",
            lambda: ec.generate_private_key(ec.SECP256K1()),
            "ES256 takes a key on the curve secp256r1",
            id="other-curve",
        ),
        pytest.param(
            "ES512",
            lambda: ec.generate_private_key(ec.SECP256R1()),
            "ES512 takes a key on the curve secp521r1",
            id="shorter-curve",
        ),
        pytest.param(
            "ES384",
            lambda: rsa.generate_private_key(65537, 2048),
            "ES384 takes a key on the curve secp384r1",
            id="rsa-for-curve",
        ),
        pytest.param(
            "ES256",
            ed25519.Ed25519PrivateKey.generate,
            "neither an RSA key nor one on an elliptic curve",
            id="other-kind",
        ),
    ],
)
def test_a_weak_or_unfit_key_is_refused_and_named(
    blocks: dict[str, bytes],
    title: str,
    make: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey],
    says: str,
) -> None:
    with pytest.raises(KeyFileError, match=f"{title} version 1: .*{says}"):
        ServerKeys.from_pem(_file(blocks | {f"{title} version 1": _pem(make())}))


@pytest.mark.attack(109)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_refused(
    blocks: dict[str, bytes], rsa_key: rsa.RSAPrivateKey, form: PrivateFormat
) -> None:
    pem = _pem(rsa_key, form, BestAvailableEncryption(b"password"))
    with pytest.raises(KeyFileError, match="RSA_OAEP_256 version 1: the key is encrypted"):
        ServerKeys.from_pem(_file(blocks | {"RSA_OAEP_256 version 1": pem}))


@pytest.mark.parametrize(
    ("title", "says"),
    [
        ("RS256 version 1", "«RS256 version 1» is no use of a key that we know"),
        ("PS256 version 1", "«PS256 version 1» is no use of a key that we know"),
        ("ES512 version 0", "«ES512 version 0» is no use of a key that we know"),
        ("ES512 version 2147483648", "is no use of a key that we know"),
        ("ES512", "each key needs a line above it such as: # ES512 version 1"),
        ("ES512 version one", "each key needs a line above it such as: # ES512 version 1"),
        ("ES512 version 1", "ES512 version 1 stands there twice"),
    ],
)
def test_a_line_that_nobody_understands_is_refused(blocks: dict[str, bytes], title: str, says: str) -> None:
    more = b"\n# %s\n%s" % (title.encode(), _pem(ec.generate_private_key(ec.SECP521R1())))
    with pytest.raises(KeyFileError, match=says):
        ServerKeys.from_pem(_file(blocks) + more)


def test_a_key_without_a_line_is_refused(blocks: dict[str, bytes]) -> None:
    with pytest.raises(KeyFileError, match="each key needs a line above it"):
        ServerKeys.from_pem(_file(blocks) + _pem(ec.generate_private_key(ec.SECP521R1())))


@pytest.mark.parametrize("title", ["RSA_OAEP_256 version 1", "RSA_OAEP_256 version 2"])
def test_one_key_has_one_use_and_one_version(blocks: dict[str, bytes], title: str) -> None:
    """Signing with what decrypts would let one be used as the other."""
    used = blocks["PS256 PS384 PS512 version 1"]
    with pytest.raises(KeyFileError, match="one key stands there twice"):
        ServerKeys.from_pem(_file(blocks | {title: used}))


@pytest.mark.parametrize("absent", ["ES256", "ES384", "ES512", "PS256 PS384 PS512", "RSA_OAEP_256"])
def test_every_algorithm_needs_a_key(blocks: dict[str, bytes], absent: str) -> None:
    rest = {title: pem for title, pem in blocks.items() if not title.startswith(absent)}
    with pytest.raises(KeyFileError, match=f"^no key for {absent.replace(' ', ', ')}$"):
        ServerKeys.from_pem(_file(rest))


@pytest.mark.parametrize("damage", ["public", "cut", "text"])
def test_what_is_no_private_key_is_refused_without_being_shown(blocks: dict[str, bytes], damage: str) -> None:
    pem = blocks["ES256 version 1"]
    damaged = {
        "public": pem.replace(b"PRIVATE", b"PUBLIC"),
        "cut": b"\n".join(pem.splitlines()[:2] + pem.splitlines()[-1:]) + b"\n",
        "text": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    }[damage]
    with pytest.raises(KeyFileError, match=r"^ES256 version 1: no private key in PEM$") as raised:
        ServerKeys.from_pem(_file(blocks | {"ES256 version 1": damaged}))
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("text", [b"", b"nothing\n", b"\xff\x00"])
def test_an_empty_file_is_refused(text: bytes) -> None:
    with pytest.raises(KeyFileError, match="no key for ES256, ES384, ES512, PS256"):
        ServerKeys.from_pem(text)


def test_keys_are_never_shown(keys: ServerKeys) -> None:
    expected = "ServerKeys(ES256 1, ES384 1, ES512 1, PS256/PS384/PS512 1, RSA_OAEP_256 1)"
    assert repr(keys) == str(keys) == expected
