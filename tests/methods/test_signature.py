"""Signatures: what a program signs with a key of its user's passes, and nothing else does."""

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tests.factories import enrolled_pin, make_token, make_user
from watchword.domain.credential import Credential, PublicKey
from watchword.domain.instant import Instant
from watchword.domain.token import TokenId
from watchword.methods.signature import RSA_BITS_MAX, RSA_BITS_MIN, SignatureMethod, UnfitKeyError

METHOD = SignatureMethod()
# Published by the public API's documentation: an OTT, the key, and what its signing step prints.
OTT = "be2f6579-9426-480b-9cb7-d8f1116cc8b9"
PUBLISHED_KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA3qfjPkhbTPKJQqLm+KfH
P14wJ2U318Rh/4TV8xLi605xFW7rApzXzLLxBb7zSkBc9wFIEH7wU7/BaFivg440
R7ktYR07/QXZi+i0grKbfhEBW1nUjkI2eZxT3vE4VIK7Yt2jr84JiCYmjL2b/w1D
atXZM9Xoa3j9YHda5cKLOfCCIeTsI3beYI9UmSnidYaXpX7q4gfHME+A/1F/19L8
jFvX+c7MXapdCdY/NUHXBCJFfBzgOBlXbPKhdjtEnx+Hg5Sq/Frsld6dKwF1CDMO
96YoeXBdi58JkLL/CLyy1i7UcXTbSRy0Gbd3NWSAamWdpJDDg51UR6yRJdXjtnhp
dQIDAQAB
-----END PUBLIC KEY-----
"""
PUBLISHED_SIGNATURE = (
    "1ZCN1MIDdmonOJvNQvsCxRHMXihsqZ/xNvybhb3oYNQgRkyj2P0hCVVaWUbr313LicFGwRTW8kcxTwvpXQdeurGtcN2z"
    "GoweVTopI06dmJ8vQMfTkrqjMZG3UUX0EcU+tJaDlBemvS7gv2aNGyHDMiRPZOZRPA6TH0LPJvLdVRMsEbXrbj8HqEop"
    "czmf1jChRxftmg2XoeQUMhhlOiSjSbJmlyAIegioI40/BTii+Q7f/HWZqk6N2vmHWPomwHQMz8Hy6frLYJb5tchjg/i+"
    "RRvZjEVbUH53QfG8Tbmx4JM/wN1LYeR8rebSdGEpLOd8QRcjuDur54qHNWXvKRM8aQ=="
)


def enrolled(pem: str = PUBLISHED_KEY, *, number: int = 1) -> PublicKey:
    return METHOD.enrol(pem, credential_id=str(number), now=Instant(0))


def verify(signature: str, *credentials: Credential, ott: str = OTT) -> bool:
    user = replace(make_user(), credentials=credentials)
    token = replace(make_token(), id=TokenId(sha256(ott.encode()).digest()))
    return METHOD.verify(signature, user=user, token=token)


def written(key: rsa.RSAPublicKey, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    return key.public_bytes(Encoding.PEM, form).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, RSA_BITS_MIN)


def signed(key: rsa.RSAPrivateKey, message: bytes = OTT.encode()) -> str:
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def test_the_published_example_passes() -> None:
    assert verify(PUBLISHED_SIGNATURE, enrolled())


def test_the_published_example_passes_for_nothing_else() -> None:
    assert not verify(PUBLISHED_SIGNATURE, enrolled(), ott="be2f6579-9426-480b-9cb7-d8f1116cc8ba")
    assert not verify(PUBLISHED_SIGNATURE)
    assert not verify(PUBLISHED_SIGNATURE, enrolled_pin())
    assert not verify(PUBLISHED_SIGNATURE, replace(enrolled(), disabled=True))


def test_any_of_the_users_keys_will_do(key: rsa.RSAPrivateKey) -> None:
    keys = (enrolled(), enrolled(written(key.public_key()), number=2))
    assert verify(PUBLISHED_SIGNATURE, *keys)
    assert verify(signed(key), *keys)
    assert not verify(signed(key), keys[0])


def test_a_key_is_one_key_however_it_is_written() -> None:
    loaded = load_pem_public_key(PUBLISHED_KEY.encode())
    assert isinstance(loaded, rsa.RSAPublicKey)
    pkcs1 = written(loaded, PublicFormat.PKCS1)
    assert pkcs1.startswith("-----BEGIN RSA PUBLIC KEY-----")
    for text in (
        pkcs1,
        PUBLISHED_KEY.replace("\n", "\r\n"),
        f"My key:\n{PUBLISHED_KEY}",
        PUBLISHED_KEY.strip(),
    ):
        assert enrolled(text) == enrolled()
        assert verify(PUBLISHED_SIGNATURE, enrolled(text))


@pytest.mark.parametrize(
    "message",
    [
        f"{OTT}\n".encode(),
        OTT.upper().encode(),
        f" {OTT}".encode(),
        b"",
        sha256(OTT.encode()).digest(),
        sha256(OTT.encode()).hexdigest().encode(),
        f"{OTT}/v3/profiles/1/transfers/2/payments".encode(),
    ],
)
def test_what_is_signed_is_the_ott_alone(key: rsa.RSAPrivateKey, message: bytes) -> None:
    assert not verify(signed(key, message), enrolled(written(key.public_key())))


def test_another_padding_or_hash_does_not_pass(key: rsa.RSAPrivateKey) -> None:
    public = enrolled(written(key.public_key()))
    for scheme, digest in (
        (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - to be refused.
        (padding.PKCS1v15(), hashes.SHA512()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ):
        other = key.sign(OTT.encode(), scheme, digest)
        assert not verify(base64.b64encode(other).decode(), public)


_RAW = base64.b64decode(PUBLISHED_SIGNATURE)
SPELLINGS = {
    "nothing": "",
    "cut": PUBLISHED_SIGNATURE[:-4],
    "no padding": PUBLISHED_SIGNATURE.rstrip("="),
    "more padding": f"{PUBLISHED_SIGNATURE}=",
    "a line's end": f"{PUBLISHED_SIGNATURE}\n",
    "two lines": f"{PUBLISHED_SIGNATURE[:76]}\n{PUBLISHED_SIGNATURE[76:]}",
    "a space": f" {PUBLISHED_SIGNATURE}",
    "base64url": PUBLISHED_SIGNATURE.replace("+", "-").replace("/", "_"),
    "one letter": "2" + PUBLISHED_SIGNATURE[1:],
    "a byte more": base64.b64encode(b"\x00" + _RAW).decode(),
    "zero": base64.b64encode(bytes(256)).decode(),
    "the greatest": base64.b64encode(b"\xff" * 256).decode(),
    "hexadecimal": _RAW.hex(),
    "a Cyrillic letter": PUBLISHED_SIGNATURE.replace("A", "\u0410"),
}


@pytest.mark.parametrize("signature", SPELLINGS.values(), ids=SPELLINGS)
def test_a_signature_has_one_spelling(signature: str) -> None:
    assert not verify(signature, enrolled())


@pytest.mark.parametrize("bits", [1024, RSA_BITS_MIN - 1])
def test_a_short_key_is_refused(bits: int) -> None:
    short = rsa.generate_private_key(65537, bits).public_key()
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        with pytest.raises(UnfitKeyError):
            enrolled(written(short, form))


@pytest.mark.parametrize(("bits", "fit"), [(RSA_BITS_MAX, True), (RSA_BITS_MAX + 1, False), (16384, False)])
def test_a_long_key_is_refused(bits: int, *, fit: bool) -> None:
    # Nobody has the private half: to make one takes a minute, and only its length is looked at.
    public = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
    if fit:
        assert len(enrolled(written(public)).spki) > RSA_BITS_MAX // 8
        return
    with pytest.raises(UnfitKeyError):
        enrolled(written(public))


def test_a_key_with_a_needless_exponent_is_refused(key: rsa.RSAPrivateKey) -> None:
    modulus = key.public_key().public_numbers().n
    public = rsa.RSAPublicNumbers(2**40 + 1, modulus).public_key()
    with pytest.raises(UnfitKeyError):
        enrolled(written(public))


def test_a_key_of_another_kind_is_refused() -> None:
    for public in (
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ):
        with pytest.raises(UnfitKeyError):
            enrolled(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        PUBLISHED_KEY[:200],
        PUBLISHED_KEY.replace("PUBLIC", "PRIVATE"),
        PUBLISHED_KEY.replace("MIIB", "AAAA"),
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        " " * 20_000 + PUBLISHED_KEY,
        "\ud800",
        "-----BEGIN PUBLIC KEY-----\n\u00e9\n-----END PUBLIC KEY-----",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UnfitKeyError):
        enrolled(text)
