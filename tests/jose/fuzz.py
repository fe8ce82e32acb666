"""
Hostile bodies, of every kind that somebody has tried: ``malformed(rng, keys, method)``.

What it makes must be refused, always. The sender is the worst one there is: a client in good
standing, who has our public key and a signing key of its own that we know. So most bodies are honest
in all but one thing: they decrypt, and they verify, if that one thing is overlooked.

The same seed gives bodies of the same structure. They are not the same bytes, as RSA-OAEP and
signatures draw chance of their own.
"""

import base64
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.jose import oracle

BODY_MAX = 64 * 1024
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
METHODS = ("jwe", "jws", "jws+jwe")

Header = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """
    What the sender has.

    Attributes:
        server: The public key that requests are encrypted to.
        client: The sender's own key, whose public half was uploaded for *algorithm* as *kid*.
        url: The path that is called.
        payload: What an honest body would say.
    """

    server: rsa.RSAPublicKey
    client: oracle.Private
    algorithm: str
    kid: str
    url: str
    payload: bytes = b'{"message":"hello"}'

    def signed(self) -> Header:
        """Return the header of an honest signature."""
        return {"alg": self.algorithm, "typ": "JWT", "url": self.url}


# Made once: what they are does not matter, only that nobody here knows them.
_STRANGER_EC = ec.generate_private_key(ec.SECP521R1())
_STRANGER_P256 = ec.generate_private_key(ec.SECP256R1())
_STRANGER_RSA = rsa.generate_private_key(65537, 2048)


def honest(rng: random.Random, keys: Keys, method: str) -> bytes:
    """Make a body that must be taken."""
    if method == "jwe":
        return oracle.jwe(keys.payload, keys.server, content_key=rng.randbytes(32))
    signed = oracle.jws(keys.payload, keys.client, keys.signed())
    return signed if method == "jws" else oracle.jwe(signed, keys.server, content_key=rng.randbytes(32))


def malformed(rng: random.Random, keys: Keys, method: str) -> bytes:
    """Make a body that must be refused when it is sent with *method*."""
    return make(rng, keys, method)[1]


def make(rng: random.Random, keys: Keys, method: str) -> tuple[str, bytes]:
    """Make a body that must be refused, and name its kind."""
    if method == "jws+jwe" and rng.random() < 0.5:
        name, inner = make(rng, keys, "jws")
        return f"inside {name}", oracle.jwe(inner, keys.server, content_key=rng.randbytes(32))
    kinds: list[Callable[[random.Random, Keys, str], bytes]] = [
        *_ANY,
        *(_SIGNED if method == "jws" else _ENCRYPTED),
    ]
    if method == "jws+jwe":
        kinds += _NESTED
    kind = rng.choice(kinds)
    return kind.__name__.strip("_"), kind(rng, keys, method)


# --- text ------------------------------------------------------------------------------------------


def _changed_character(rng: random.Random, keys: Keys, method: str) -> bytes:
    body = bytearray(honest(rng, keys, method))
    at = rng.choice([index for index, each in enumerate(body) if each != ord(".")])
    body[at] = rng.choice([each for each in ALPHABET if each != body[at]])
    return bytes(body)


def _changed_byte(rng: random.Random, keys: Keys, method: str) -> bytes:
    body = bytearray(honest(rng, keys, method))
    at = rng.randrange(len(body))
    body[at] ^= 1 << rng.randrange(8)
    return bytes(body)


def _flipped_bit(rng: random.Random, keys: Keys, method: str) -> bytes:
    """What decodes is well-formed, and not what was sent."""
    segments = honest(rng, keys, method).split(b".")
    index = rng.randrange(1, len(segments))
    data = bytearray(oracle.unb64(segments[index]))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    segments[index] = oracle.b64(bytes(data))
    return b".".join(segments)


def _cut(rng: random.Random, keys: Keys, method: str) -> bytes:
    body = honest(rng, keys, method)
    return body[: rng.randrange(len(body))]


def _cut_at_the_start(rng: random.Random, keys: Keys, method: str) -> bytes:
    body = honest(rng, keys, method)
    return body[rng.randrange(1, len(body)) :]


def _inserted(rng: random.Random, keys: Keys, method: str) -> bytes:
    body = honest(rng, keys, method)
    at = rng.choice([0, len(body), rng.randrange(len(body))])
    junk = [
        b" ",
        b"\n",
        b"\r\n",
        b"\t",
        b"=",
        b"==",
        b".",
        b"..",
        b"%2e",
        b"\x00",
        b"+",
        b"/",
        b"\xff",
        b"A",
        b"\xc2\xa0",
    ]
    return body[:at] + rng.choice(junk) + body[at:]


def _segments(rng: random.Random, keys: Keys, method: str) -> bytes:
    """Parts that are missing, twice, empty or in another order."""
    segments = honest(rng, keys, method).split(b".")
    at = rng.randrange(len(segments))
    match rng.randrange(5):
        case 0:
            del segments[at]
        case 1:
            segments.insert(at, segments[at])
        case 2:
            segments[at] = b""
        case 3:
            segments = segments * rng.randrange(2, 60)
        case _:
            other = (at + rng.randrange(1, len(segments))) % len(segments)
            segments[at], segments[other] = segments[other], segments[at]
    return b".".join(segments)


def _padded(rng: random.Random, keys: Keys, method: str) -> bytes:
    segments = honest(rng, keys, method).split(b".")
    lacking = [index for index, each in enumerate(segments) if len(each) % 4] or [0]
    at = rng.choice(lacking)
    segments[at] += b"=" * (-len(segments[at]) % 4 or 1)
    return b".".join(segments)


def _stray_bits(rng: random.Random, keys: Keys, method: str) -> bytes:
    segments = honest(rng, keys, method).split(b".")
    loose = [index for index, each in enumerate(segments) if len(each) % 4]
    if not loose:
        return b".".join(segments) + b"="
    at = rng.choice(loose)
    last = ALPHABET.index(segments[at][-1])
    segments[at] = segments[at][:-1] + bytes([ALPHABET[last | rng.choice([1, 2, 3])]])
    return b".".join(segments) if last % 4 == 0 else b""


def _json_serialization(rng: random.Random, keys: Keys, method: str) -> bytes:
    segments = [each.decode() for each in honest(rng, keys, method).split(b".")]
    if method == "jws":
        flat: Header = {"payload": segments[1], "protected": segments[0], "signature": segments[2]}
        general: Header = {"payload": segments[1], "signatures": [flat] * rng.choice([1, 2, 500])}
    else:
        names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
        flat = dict(zip(names, segments, strict=True)) | {"unprotected": {"alg": "dir"}}
        general = flat | {"recipients": [{"encrypted_key": segments[1]}] * rng.choice([1, 2, 150])}
    return oracle.to_json(rng.choice([flat, general]))


def _plain(rng: random.Random, keys: Keys, method: str) -> bytes:
    return rng.choice(
        [keys.payload, b"", b"null", b"{}", b"message=hello", b"<a/>", b"." * 2, b"." * 4, b"\x00"]
    )


def _noise(rng: random.Random, keys: Keys, method: str) -> bytes:
    return rng.randbytes(rng.choice([1, 10, 1000, BODY_MAX]))


def _noise_in_form(rng: random.Random, keys: Keys, method: str) -> bytes:
    parts = 3 if method == "jws" else 5
    return b".".join(oracle.b64(rng.randbytes(rng.randrange(300))) for _ in range(parts))


def _large(rng: random.Random, keys: Keys, method: str) -> bytes:
    """As large as may be, of what costs parsers most."""
    filler = rng.choice([b".", b"A", b"[", b"{", b'{"a":', b"=", b" ", b"\x00", b"\xff", b"e30.", b"AAAA"])
    return (filler * BODY_MAX)[: rng.choice([BODY_MAX, BODY_MAX, BODY_MAX + 1])]


def _large_segment(rng: random.Random, keys: Keys, method: str) -> bytes:
    segments = honest(rng, keys, method).split(b".")
    at = rng.randrange(len(segments))
    room = BODY_MAX - sum(map(len, segments)) - len(segments)
    filler = rng.choice([b"A", b"_", segments[at], oracle.b64(rng.randbytes(99))])
    segments[at] += (filler * room)[:room]
    return b".".join(segments)


def _other_kind(rng: random.Random, keys: Keys, method: str) -> bytes:
    """A JWS where a JWE must be, and the reverse."""
    if method == "jws":
        return honest(rng, keys, rng.choice(["jwe", "jws+jwe"]))
    return rng.choice(
        [honest(rng, keys, "jws"), oracle.jws(honest(rng, keys, "jwe"), keys.client, keys.signed())]
    )


# --- headers ---------------------------------------------------------------------------------------


def _point(flaw: str) -> Header:
    numbers = _STRANGER_P256.public_key().public_numbers()
    y = {"off": numbers.y ^ 1, "infinity": 0}.get(flaw, numbers.y)
    x = 0 if flaw == "infinity" else numbers.x
    curve = "P-521" if flaw == "other" else "P-256"
    return {"kty": "EC", "crv": curve} | {
        name: oracle.b64(value.to_bytes(32, "big")).decode() for name, value in (("x", x), ("y", y))
    }


def _refused_member(rng: random.Random) -> Header:
    url = rng.choice(["http://127.0.0.1:9/keys", "file:///etc/passwd", "//x", "a' OR 1=1 --", "\u202e" * 40])
    certificate = base64.b64encode(rng.randbytes(rng.choice([10, 900]))).decode()
    return rng.choice(
        [
            {"zip": "DEF"},
            {"zip": None},
            {"crit": ["exp"], "exp": 1},
            {"crit": []},
            {"b64": False, "crit": ["b64"]},
            {"b64": True},
            {"p2c": 2**31 - 1, "p2s": "AAAAAAAAAAAAAAAAAAAAAA"},
            {"p2c": 10**15},
            {"p2s": "A" * 2000},
            {"epk": _point(rng.choice(["off", "infinity", "other", "fine"]))},
            {"jwk": _point("fine")},
            {"jwk": {"kty": "oct", "k": "AAAA"}},
            {"jku": url},
            {"x5u": url},
            {"x5c": [certificate] * rng.choice([1, 2])},
        ]
    )


def _wrong_type(rng: random.Random) -> Header:
    names = ["alg", "enc", "kid", "typ", "cty", "url", "ott"]
    value = rng.choice([None, True, 0, -1.5, [], ["ES512"], {}, {"alg": "none"}, [["a"] * 20]])
    return rng.choice([{rng.choice(names): value}, {"iat": rng.choice(["0", 1.5, None, True, [1]])}])


def _text_that_is_no_header(rng: random.Random, header: Header) -> bytes:
    """What is inside the header's base64 is no JSON object, or one that means two things."""
    good = oracle.to_json(header)
    deep = rng.choice([10, 40, 600])
    return rng.choice(
        [
            b"",
            b"null",
            b"[]",
            good[:-1],
            good + b"}",
            good + good,
            b"\xef\xbb\xbf" + good,
            good.decode().encode("utf-16"),
            good + b"\x00",
            b'{"alg":"none",' + good[1:],
            good[:-1] + b',"alg":"none"}',
            good[:-1] + b',"\\u0061lg":"RS256"}',
            good[:-1] + b',"x":' + b"9" * 1000 + b"}",
            good[:-1] + b',"x":NaN}',
            good[:-1] + b',"x":1e999}',
            good[:-1] + b',"x":"\\ud800"}',
            good[:-1] + b',"x":"\xff"}',
            good[:-1] + b',"x":' + b"[" * (32 + deep) + b"]" * (32 + deep) + b"}",
            good[:-1] + b',"x":' + b'{"a":' * (32 + deep) + b"1" + b"}" * (32 + deep) + b"}",
            good[:-1] + b"," + b'"a":1,' * deep + b'"a":2}',
            good[:-1] + b',"x":"' + b"a" * rng.choice([4_200, 40_000]) + b'"}',
            good[:-1] + b',"kid":"' + b"/../" * 1_500 + b'"}',
            good.replace(b'"', b"'"),
        ]
    )


def _header(rng: random.Random, keys: Keys, method: str) -> bytes:
    """All is encrypted or signed as it must be, under a header that may not be."""
    good = keys.signed() if method == "jws" else dict(oracle.JWE_HEADER)
    bad: Header | bytes
    match rng.randrange(3):
        case 0:
            bad = good | _refused_member(rng)
        case 1:
            bad = good | _wrong_type(rng)
        case _:
            bad = _text_that_is_no_header(rng, good)
    if method == "jws":
        return oracle.jws(keys.payload, keys.client, bad, keys.algorithm)
    inner = honest(rng, keys, "jws") if method == "jws+jwe" else keys.payload
    return oracle.jwe(inner, keys.server, bad)


_ANY: list[Callable[[random.Random, Keys, str], bytes]] = [
    _changed_character,
    _changed_byte,
    _flipped_bit,
    _cut,
    _cut_at_the_start,
    _inserted,
    _segments,
    _padded,
    _stray_bits,
    _json_serialization,
    _plain,
    _noise,
    _noise_in_form,
    _large,
    _large_segment,
    _other_kind,
    _header,
    _header,
    _header,
]


# --- encrypted --------------------------------------------------------------------------------------


def _inner(rng: random.Random, keys: Keys, method: str) -> bytes:
    return honest(rng, keys, "jws") if method == "jws+jwe" else keys.payload


def _assembled(header: Header, encrypted_key: bytes, iv: bytes, sealed: bytes, tag_size: int = 16) -> bytes:
    tag = sealed[len(sealed) - 16 :][:tag_size]
    parts = [oracle.to_json(header), encrypted_key, iv, sealed[:-16], tag]
    return b".".join(map(oracle.b64, parts))


def _encrypted_with_another_algorithm(rng: random.Random, keys: Keys, method: str) -> bytes:
    names = [
        "RSA-OAEP",
        "RSA1_5",
        "dir",
        "A256KW",
        "A256GCMKW",
        "ECDH-ES",
        "ECDH-ES+A256KW",
        "none",
        "",
        "rsa-oaep-256",
    ]
    names += ["PBES2-HS256+A128KW", "PBES2-HS512+A256KW", "ES512", "RSA_OAEP_256", "RSA-OAEP-256\x00"]
    header: Header = oracle.JWE_HEADER | {"alg": rng.choice(names)}
    if header["alg"].startswith("PBES2"):
        header |= {"p2c": rng.choice([1, 2**31 - 1, 2**53]), "p2s": "AAAAAAAAAAAAAAAAAAAAAA"}
    if header["alg"].startswith("ECDH"):
        header["epk"] = _point(rng.choice(["off", "infinity", "other", "fine"]))
    if header["alg"] == "dir":
        content_key, iv = rng.randbytes(32), rng.randbytes(12)
        sealed = AESGCM(content_key).encrypt(iv, keys.payload, oracle.b64(oracle.to_json(header)))
        return _assembled(header, b"", iv, sealed)
    older = {
        "RSA1_5": padding.PKCS1v15(),
        "RSA-OAEP": oracle.OAEP_1,
    }
    oaep = older.get(header["alg"], oracle.OAEP_256)
    return oracle.jwe(_inner(rng, keys, method), keys.server, header, oaep=oaep)


def _other_content_encryption(rng: random.Random, keys: Keys, method: str) -> bytes:
    name, size = rng.choice(
        [("A128GCM", 16), ("A192GCM", 24), ("A256CBC-HS512", 32), ("A256GCM", 16), ("A256GCM", 24)]
    )
    header = oracle.JWE_HEADER | {"enc": name}
    return oracle.jwe(_inner(rng, keys, method), keys.server, header, content_key=rng.randbytes(size))


def _other_lengths(rng: random.Random, keys: Keys, method: str) -> bytes:
    header: Header = dict(oracle.JWE_HEADER)
    content_key, iv, tag = rng.choice(
        [(32, 8, 16), (32, 16, 16), (32, 64, 16), (32, 12, 12), (32, 12, 4), (32, 12, 0)]
    )
    key, vector = rng.randbytes(content_key), rng.randbytes(iv)
    sealed = AESGCM(key).encrypt(vector, _inner(rng, keys, method), oracle.b64(oracle.to_json(header)))
    return _assembled(header, keys.server.encrypt(key, oracle.OAEP_256), vector, sealed, tag)


def _content_key_of_another_size(rng: random.Random, keys: Keys, method: str) -> bytes:
    header: Header = dict(oracle.JWE_HEADER)
    iv, key = rng.randbytes(12), rng.randbytes(rng.choice([0, 1, 31, 33, 64, 128]))
    sealed = AESGCM(bytes(32)).encrypt(iv, _inner(rng, keys, method), oracle.b64(oracle.to_json(header)))
    return _assembled(header, keys.server.encrypt(key, oracle.OAEP_256), iv, sealed)


def _encrypted_to_a_stranger(rng: random.Random, keys: Keys, method: str) -> bytes:
    header = oracle.JWE_HEADER | rng.choice(
        [{}, {"kid": keys.kid}, {"kid": "' OR ''='"}, {"kid": "../../key.pem"}]
    )
    return oracle.jwe(_inner(rng, keys, method), _STRANGER_RSA.public_key(), header)


def _no_encrypted_key(rng: random.Random, keys: Keys, method: str) -> bytes:
    header: Header = dict(oracle.JWE_HEADER)
    size = keys.server.key_size // 8
    modulus = keys.server.public_numbers().n
    none = [b"", b"\x00", bytes(size), b"\xff" * size, bytes(size + 1), bytes(size - 1), bytes(BODY_MAX // 2)]
    none += [(modulus - 1).to_bytes(size, "big"), (1).to_bytes(size, "big"), modulus.to_bytes(size, "big")]
    iv = rng.randbytes(12)
    sealed = AESGCM(bytes(32)).encrypt(iv, _inner(rng, keys, method), oracle.b64(oracle.to_json(header)))
    return _assembled(header, rng.choice(none), iv, sealed)


def _mixed(rng: random.Random, keys: Keys, method: str) -> bytes:
    """Parts of two honest tokens."""
    one, other = (honest(rng, keys, method).split(b".") for _ in range(2))
    one[rng.randrange(1, 5)] = other[0]
    at = rng.randrange(1, 5)
    one[at] = other[at]
    return b".".join(one)


@cache
def _explosive() -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(bytes(20_000_000)) + compressor.flush()


def _bomb(rng: random.Random, keys: Keys, method: str) -> bytes:
    return oracle.jwe(_explosive(), keys.server, oracle.JWE_HEADER | {"zip": "DEF"})


_ENCRYPTED: list[Callable[[random.Random, Keys, str], bytes]] = [
    _encrypted_with_another_algorithm,
    _encrypted_with_another_algorithm,
    _other_content_encryption,
    _other_lengths,
    _content_key_of_another_size,
    _encrypted_to_a_stranger,
    _no_encrypted_key,
    _mixed,
    _bomb,
]


# --- signed -----------------------------------------------------------------------------------------


def _unsigned(rng: random.Random, keys: Keys, method: str) -> bytes:
    header = keys.signed() | {"alg": rng.choice(["none", "None", "NONE", "nOnE", ""])}
    signed = oracle.b64(oracle.to_json(header)) + b"." + oracle.b64(keys.payload)
    return signed + b"." + rng.choice([b"", oracle.b64(rng.randbytes(132))])


def _keyed_with_a_public_key(rng: random.Random, keys: Keys, method: str) -> bytes:
    """An HMAC whose key everybody has."""
    public = rng.choice([keys.server, keys.client.public_key()])
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secrets = [
        pem,
        pem.strip(),
        pem.replace(b"\n", b"\r\n"),
        b"\n" + pem,
        der,
        base64.b64encode(der),
        b"",
        b"\x00" * 32,
    ]
    secrets.append(json.dumps({"kty": "RSA", "kid": keys.kid}).encode())
    size = rng.choice(["256", "384", "512"])
    header = keys.signed() | {"alg": f"HS{size}"} | rng.choice([{}, {"kid": keys.kid}])
    signed = oracle.b64(oracle.to_json(header)) + b"." + oracle.b64(keys.payload)
    mac = hmac.HMAC(rng.choice([each for each in secrets if each]), oracle.HASHES[size]())
    mac.update(signed)
    return signed + b"." + oracle.b64(mac.finalize())


def _another_algorithm_claimed(rng: random.Random, keys: Keys, method: str) -> bytes:
    names = [
        "ES256",
        "ES384",
        "ES512",
        "PS256",
        "PS384",
        "PS512",
        "RS256",
        "RS512",
        "EdDSA",
        "ES256K",
        "RSA-OAEP-256",
    ]
    claimed = rng.choice([name for name in names if name != keys.algorithm])
    header = keys.signed() | {"alg": claimed} | rng.choice([{}, {"kid": keys.kid}])
    return oracle.jws(keys.payload, keys.client, header, keys.algorithm)


def _signed_by_a_stranger(rng: random.Random, keys: Keys, method: str) -> bytes:
    strangers: list[tuple[oracle.Private, str]] = [
        (_STRANGER_EC, "ES512"),
        (_STRANGER_P256, "ES256"),
        (_STRANGER_RSA, "PS256"),
        (_STRANGER_RSA, "PS512"),
    ]
    stranger, name = rng.choice(strangers)
    claimed = rng.choice([name, keys.algorithm])
    named: Header = rng.choice([{}, {"kid": keys.kid}, {"kid": "' OR ''='"}, {"kid": "file:///dev/null"}])
    return oracle.jws(keys.payload, stranger, keys.signed() | {"alg": claimed} | named, name)


def _another_path(rng: random.Random, keys: Keys, method: str) -> bytes:
    header = keys.signed()
    others = [
        "",
        "/",
        keys.url + "/",
        keys.url + "?a=b",
        keys.url.upper(),
        f"https://example.com{keys.url}",
        keys.url * 50,
    ]
    header["url"] = rng.choice(others)
    if rng.random() < 0.2:
        del header["url"]
    return oracle.jws(keys.payload, keys.client, header)


def _no_signature(rng: random.Random, keys: Keys, method: str) -> bytes:
    signed, _, segment = honest(rng, keys, "jws").rpartition(b".")
    size = len(oracle.unb64(segment))
    none = [b"", b"\x00", bytes(size), b"\xff" * size, bytes(size + 1), bytes(size - 1), bytes(BODY_MAX // 2)]
    none += [oracle.unb64(segment) * 2, (1).to_bytes(size, "big"), oracle.unb64(segment)[::-1]]
    return signed + b"." + oracle.b64(rng.choice(none))


def _another_payload(rng: random.Random, keys: Keys, method: str) -> bytes:
    header, _, signature = honest(rng, keys, "jws").split(b".")
    others = [
        b"",
        b"{}",
        keys.payload + b" ",
        keys.payload[:-1],
        bytes(BODY_MAX // 2),
        honest(rng, keys, "jws"),
    ]
    return b".".join([header, oracle.b64(rng.choice(others)), signature])


def _signature_of_another_token(rng: random.Random, keys: Keys, method: str) -> bytes:
    other = oracle.jws(b'{"message":"other"}', keys.client, keys.signed())
    return honest(rng, keys, "jws").rpartition(b".")[0] + b"." + other.rpartition(b".")[2]


_SIGNED: list[Callable[[random.Random, Keys, str], bytes]] = [
    _unsigned,
    _keyed_with_a_public_key,
    _keyed_with_a_public_key,
    _another_algorithm_claimed,
    _signed_by_a_stranger,
    _another_path,
    _no_signature,
    _another_payload,
    _signature_of_another_token,
]


# --- signed, then encrypted -------------------------------------------------------------------------


def _encrypted_only(rng: random.Random, keys: Keys, method: str) -> bytes:
    header = oracle.JWE_HEADER | rng.choice([{}, {"cty": "JWT"}, {"url": keys.url}])
    return oracle.jwe(keys.payload, keys.server, header)


def _another_content_type(rng: random.Random, keys: Keys, method: str) -> bytes:
    named = rng.choice(["", "JWE", "JWS", "application/json", "text/plain", "JWT " * 100])
    return oracle.jwe(honest(rng, keys, "jws"), keys.server, oracle.JWE_HEADER | {"cty": named})


def _many_layers(rng: random.Random, keys: Keys, method: str) -> bytes:
    """Encrypted again and again, as often as there is room for."""
    body = honest(rng, keys, "jws")
    for _ in range(rng.randrange(2, 8)):
        layer = oracle.jwe(body, keys.server, oracle.JWE_HEADER | {"cty": "JWT"})
        if len(layer) > BODY_MAX:
            break
        body = layer
    return body


def _signed_twice(rng: random.Random, keys: Keys, method: str) -> bytes:
    inner = oracle.jws(honest(rng, keys, "jws"), keys.client, keys.signed() | {"crit": ["b64"], "b64": False})
    return oracle.jwe(inner, keys.server)


_NESTED: list[Callable[[random.Random, Keys, str], bytes]] = [
    _encrypted_only,
    _another_content_type,
    _many_layers,
    _signed_twice,
]
