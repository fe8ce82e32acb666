"""The public keys that applications upload: what is taken, and which member is to blame."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, strategies as st

from tests.jose import oracle
from tests.jose.support import Client
from watchword.domain.application import ClientKey, KeyScope
from watchword.domain.instant import Instant
from watchword.jose.client_keys import ClientKeyError, format_time, parse_client_key, parse_time

ES512_KEY = ec.generate_private_key(ec.SECP521R1()).public_key()
ID = "6da49495-1632-43cd-9a03-dd324603ecd7"


def _material(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    return base64.b64encode(oracle.spki(key)).decode()


def _parse(**changes: Any) -> ClientKey:
    members: dict[str, Any] = {
        "key_id": ID,
        "scope": "PAYLOAD_SIGNING",
        "algorithm": "ES512",
        "material": _material(ES512_KEY),
        "valid_from": "2023-04-27 00:00:00",
        "valid_till": "2024-04-01 00:00:00",
    }
    return parse_client_key(**(members | changes))


def _refusal(**changes: Any) -> ClientKeyError:
    with pytest.raises(ClientKeyError) as raised:
        _parse(**changes)
    return raised.value


def test_the_published_sample_is_taken() -> None:
    assert _parse() == ClientKey(
        id=ID,
        scope=KeyScope.PAYLOAD_SIGNING,
        algorithm="ES512",
        spki=oracle.spki(ES512_KEY),
        valid_from=Instant(1_682_553_600_000),
        valid_till=Instant(1_711_929_600_000),
    )


def test_every_algorithm_takes_a_key_that_fits(clients: dict[str, Client]) -> None:
    for algorithm, client in clients.items():
        scope = "PAYLOAD_ENCRYPTION" if algorithm == "RSA_OAEP_256" else "PAYLOAD_SIGNING"
        material = _material(client.private.public_key())
        parsed = _parse(scope=scope, algorithm=algorithm, material=material)
        assert (parsed.algorithm, parsed.spki) == (algorithm, client.key.spki)


def test_an_rsa_key_in_its_older_form_is_kept_in_the_usual_one(rsa_key: rsa.RSAPrivateKey) -> None:
    older = rsa_key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    parsed = _parse(algorithm="PS256", material=base64.b64encode(older).decode())
    assert parsed.spki == oracle.spki(rsa_key.public_key())


def test_what_openssl_writes_is_taken(tmp_path: Path) -> None:
    private = tmp_path / "key.pem"
    curve = "ec_paramgen_curve:P-256"
    make = ["openssl", "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", curve, "-out", str(private)]
    write = ["openssl", "pkey", "-pubout", "-outform", "DER", "-in", str(private)]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    written = subprocess.run(write, check=True, capture_output=True, timeout=30).stdout
    assert _parse(algorithm="ES256", material=base64.b64encode(written).decode()).spki == written


# --- what is wrong, and where -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "key_id", ["", "1", ID + "0", ID[:-1], ID.replace("-", ""), f" {ID}", f"{ID}\n", "../../etc"]
)
def test_the_id_must_be_a_uuid(key_id: str) -> None:
    assert _refusal(key_id=key_id).path == "keyId"


@pytest.mark.parametrize("scope", ["", "payload_signing", "SIGNING", "PAYLOAD_SIGNING "])
def test_the_scope_must_be_one_of_two(scope: str) -> None:
    refusal = _refusal(scope=scope)
    assert (refusal.path, str(refusal)) == ("scope", "must be PAYLOAD_SIGNING or PAYLOAD_ENCRYPTION")


@pytest.mark.parametrize(
    ("scope", "algorithm"),
    [
        ("PAYLOAD_SIGNING", "RSA_OAEP_256"),
        ("PAYLOAD_ENCRYPTION", "ES512"),
        ("PAYLOAD_ENCRYPTION", "RSA-OAEP-256"),
        ("PAYLOAD_SIGNING", "HS256"),
        ("PAYLOAD_SIGNING", "none"),
        ("PAYLOAD_SIGNING", "RS256"),
        ("PAYLOAD_SIGNING", "es512"),
        ("PAYLOAD_SIGNING", ""),
    ],
)
def test_the_algorithm_must_be_one_of_the_scope(scope: str, algorithm: str) -> None:
    assert _refusal(scope=scope, algorithm=algorithm).path == "publicKeyMaterial.algorithm"


@pytest.mark.attack(103)
@pytest.mark.parametrize(
    ("algorithm", "curve"),
    [
        ("ES256", ec.SECP384R1()),
        ("ES256", ec.SECP256K1()),
        ("ES256", ec.BrainpoolP256R1()),
        ("ES384", ec.SECP521R1()),
        ("ES512", ec.SECP256R1()),
    ],
)
def test_a_key_on_another_curve_is_refused(algorithm: str, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()
    refusal = _refusal(algorithm=algorithm, material=_material(key))
    assert refusal.path == "publicKeyMaterial.keyMaterial"
    assert f"{algorithm} takes a key on the curve" in str(refusal)


@pytest.mark.attack(103)
@pytest.mark.parametrize("flaw", ["off-curve", "infinity", "zero"])
def test_a_point_that_is_none_of_the_curve_is_refused(flaw: str) -> None:
    whole = oracle.spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    point = {
        "off-curve": whole[-65:-1] + bytes([whole[-1] ^ 1]),
        "infinity": b"\x00",
        "zero": b"\x04" + bytes(64),
    }
    head = bytearray(whole[:-65])
    # The lengths of the outer sequence and of the bit string follow the point.
    head[1] -= 65 - len(point[flaw])
    head[-2] -= 65 - len(point[flaw])
    material = base64.b64encode(bytes(head) + point[flaw]).decode()
    assert _refusal(algorithm="ES256", material=material).path == "publicKeyMaterial.keyMaterial"


@pytest.mark.attack(109)
@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_rsa_key_is_refused(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits).public_key()
    refusal = _refusal(algorithm="PS256", material=_material(key))
    assert str(refusal) == f"an RSA key has 2048 to 8192 bits, this one {bits}"


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        pytest.param(2**8192 + 1, 65537, id="too-long"),
        pytest.param(2**20000 + 1, 65537, id="far-too-long"),
        pytest.param(2**2047 + 1, 3, id="exponent-of-3"),
        pytest.param(2**2047 + 1, 2**32 + 1, id="exponent-of-33-bits"),
        pytest.param(2**2047 + 1, 2**2046 + 1, id="exponent-as-long-as-the-key"),
        pytest.param(2**2047 + 2**2000, 65537, id="even-modulus"),
    ],
)
def test_an_rsa_key_that_is_costly_or_broken_is_refused(modulus: int, exponent: int) -> None:
    """A verification under such a key would cost us what the client wants it to."""
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    for scope, algorithm in (("PAYLOAD_SIGNING", "PS512"), ("PAYLOAD_ENCRYPTION", "RSA_OAEP_256")):
        refusal = _refusal(scope=scope, algorithm=algorithm, material=_material(key))
        assert refusal.path == "publicKeyMaterial.keyMaterial"


def test_a_key_of_another_kind_is_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    assert "ES512 takes a key on" in str(_refusal(material=_material(rsa_key.public_key())))
    assert "PS256 takes an RSA key" in str(_refusal(algorithm="PS256"))
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    der = edwards.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert "ES512 takes a key on" in str(_refusal(material=base64.b64encode(der).decode()))


TEXT = _material(ES512_KEY)


@pytest.mark.parametrize(
    "material",
    [
        pytest.param("", id="empty"),
        pytest.param("A" * 5000, id="far-too-long"),
        pytest.param(TEXT[:-4], id="cut-short"),
        pytest.param(f"{TEXT[:10]}\n{TEXT[10:]}", id="line-break"),
        pytest.param(f"{TEXT}AAAA", id="more-behind"),
        pytest.param(f"-----BEGIN PUBLIC KEY-----\n{TEXT}\n-----END PUBLIC KEY-----\n", id="pem"),
        pytest.param('{"kty":"EC","crv":"P-521"}', id="jwk"),
        pytest.param(base64.b64encode(TEXT.encode()).decode(), id="encoded-twice"),
        pytest.param(TEXT.replace("A", "\uff21"), id="full-width"),
    ],
)
def test_what_is_no_key_is_refused_with_a_word_on_what_to_send(material: str) -> None:
    refusal = _refusal(material=material)
    assert refusal.path == "publicKeyMaterial.keyMaterial"
    assert "BEGIN PUBLIC KEY" in str(refusal) or "longer than any key" in str(refusal)


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["validFrom", "validTill"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-04-01",
        "2024-04-01T00:00:00",
        "2024-04-01T00:00:00Z",
        "2024-04-01 00:00:00Z",
        "2024-4-1 0:0:0",
        " 2024-04-01 00:00:00",
        "2024-04-01 00:00:00\n",
        "2024-13-01 00:00:00",
        "2023-02-29 00:00:00",
        "2024-04-01 24:00:00",
        "2024-04-01 00:00:60",
        "1969-12-31 23:59:59",
        "0000-01-01 00:00:00",
        "\uff12\uff10\uff12\uff14-04-01 00:00:00",
    ],
)
def test_a_time_that_is_written_otherwise_is_refused(path: str, text: str) -> None:
    member = {"validFrom": "valid_from", "validTill": "valid_till"}[path]
    assert _refusal(**{member: text}).path == path


@pytest.mark.parametrize("till", ["2023-04-27 00:00:00", "2023-04-26 23:59:59"])
def test_a_key_must_be_good_for_some_time(till: str) -> None:
    assert _refusal(valid_till=till).path == "validTill"


@given(seconds=st.integers(0, 253_402_300_799))
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    moment = Instant(seconds * 1000)
    assert parse_time(format_time(moment)) == moment


def test_what_is_less_than_a_second_is_left_out() -> None:
    assert format_time(Instant(1_682_553_600_999)) == "2023-04-27 00:00:00"
    assert format_time(Instant(0)) == "1970-01-01 00:00:00"


def test_a_time_that_cannot_be_read_alone_says_how_it_is_written() -> None:
    with pytest.raises(ValueError, match="yyyy-MM-dd HH:mm:ss"):
        parse_time("tomorrow")
    with pytest.raises(ValueError, match="before 1970"):
        parse_time("1969-12-31 23:59:59")


@given(text=st.text(max_size=40))
def test_a_refusal_repeats_nothing_of_what_was_sent(text: str) -> None:
    marked = f"\x01{text}"
    for member in ("key_id", "scope", "algorithm", "material", "valid_from", "valid_till"):
        assert marked not in str(_refusal(**{member: marked}))
