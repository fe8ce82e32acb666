"""Access tokens that an issuer signed: which ones are whose, and which are nobody's."""

import json
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from hmac import digest as hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.support import (
    APPLICATION,
    AUDIENCE,
    ED25519,
    OTHER_RSA,
    P256,
    P384,
    P521,
    RSA,
    SECONDS,
    FakeIssuer,
    Key,
    Reply,
    b64,
    claims,
    jwk,
    sign,
    sign_raw,
    tokens_of,
)
from tests.factories import FixedClock
from watchword.auth.egress import Egress
from watchword.auth.jwt import TOKEN_MAX, JwtTokens, issuer_of
from watchword.domain.user import UserId
from watchword.engine.principal import Principal, PrincipalKind

SEVEN = Principal(
    kind=PrincipalKind.USER, user_id=UserId(7), profile_ids=frozenset({7}), application=APPLICATION
)


# --- whose it is ------------------------------------------------------------------------------


async def test_a_users_token_is_the_users(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url))) == SEVEN


@pytest.mark.parametrize("profiles", [[435036, 435037], ["435036", "435037"]])
async def test_the_profiles_are_those_that_the_token_lists(
    issuer: FakeIssuer, tokens: JwtTokens, profiles: list[Any]
) -> None:
    found = await tokens.authenticate(sign(claims(issuer.url, profile_ids=profiles)))
    assert found is not None
    assert found.profile_ids == {435036, 435037}


@pytest.mark.parametrize(
    "profiles", [[0], [-1], ["x"], ["07"], [2**53 + 1], "435036", [True], [1.0], [1] * 1001]
)
async def test_profiles_that_are_no_list_of_ids_make_the_token_nobodys(
    issuer: FakeIssuer, tokens: JwtTokens, profiles: Any
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, profile_ids=profiles))) is None


@pytest.mark.parametrize(
    "subject", ["x", "0", "-7", "07", "7.0", "", "9" * 17, str(2**53), "\uff17", None, 7.5, [7]]
)
async def test_a_subject_that_is_no_id_is_nobody(issuer: FakeIssuer, tokens: JwtTokens, subject: Any) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, sub=subject))) is None


async def test_another_claim_may_name_the_user(issuer: FakeIssuer, egress: Egress, clock: FixedClock) -> None:
    tokens = tokens_of(issuer, egress, clock, user_claim="customer")
    found = await tokens.authenticate(sign(claims(issuer.url, sub="somebody", customer=8)))
    assert found is not None
    assert found.user_id == 8
    assert await tokens.authenticate(sign(claims(issuer.url, sub="7"))) is None


async def test_the_application_of_a_users_token_is_told_if_it_is_a_configured_one(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    by_azp = await tokens.authenticate(sign(claims(issuer.url, client_id=None, azp=APPLICATION)))
    stranger = await tokens.authenticate(sign(claims(issuer.url, client_id="somebody-elses-app")))
    assert by_azp == SEVEN
    assert stranger is not None
    assert stranger.application is None


async def test_client_credentials_of_a_configured_application_are_the_applications(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    found = await tokens.authenticate(sign(claims(issuer.url, sub=APPLICATION)))
    assert found == Principal(kind=PrincipalKind.APPLICATION, application=APPLICATION)


async def test_client_credentials_of_any_other_client_are_nobodys(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    """Also where its id is a number, and so would be a user's."""
    tokens = tokens_of(issuer, egress, clock)
    for client in ("somebody-elses-app", "8"):
        assert await tokens.authenticate(sign(claims(issuer.url, sub=client, client_id=client))) is None


@pytest.mark.parametrize("said", [{"auth_time": SECONDS}, {"amr": ["pwd"]}, {"sid": "1"}])
async def test_a_user_who_took_an_applications_name_is_not_that_application(
    issuer: FakeIssuer, tokens: JwtTokens, said: dict[str, Any]
) -> None:
    """RFC 9068 section 5: an issuer may let users choose their subject."""
    assert await tokens.authenticate(sign(claims(issuer.url, sub=APPLICATION, **said))) is None


async def test_a_token_that_names_two_clients_is_nobodys(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, azp="another"))) is None


# --- signatures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (P256, "ES256"),
        (P384, "ES384"),
        (P521, "ES512"),
        (ED25519, "EdDSA"),
        (ED25519, "Ed25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_algorithm_is_taken_with_its_kind_of_key(
    issuer: FakeIssuer, tokens: JwtTokens, key: Key, algorithm: str
) -> None:
    issuer.publish(RSA, P256, P384, P521, ED25519)
    token = sign(claims(issuer.url), key, algorithm)
    assert await tokens.authenticate(token) == SEVEN
    assert (
        await tokens.authenticate(sign(claims(issuer.url, sub="8"), key, algorithm)[:-8] + token[-8:]) is None
    )


async def test_an_algorithm_that_the_configuration_leaves_out_is_refused(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    tokens = tokens_of(issuer, egress, clock, algorithms=["PS256"])
    assert await tokens.authenticate(sign(claims(issuer.url), algorithm="RS256")) is None
    assert await tokens.authenticate(sign(claims(issuer.url), algorithm="PS256")) == SEVEN


@pytest.mark.parametrize("algorithms", [["HS256"], ["none"], ["RS256", "HS256"], ["ES256K"], []])
async def test_an_algorithm_that_is_never_taken_cannot_be_configured(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock, algorithms: list[str]
) -> None:
    with pytest.raises(ValueError, match="algorithms are some of"):
        tokens_of(issuer, egress, clock, algorithms=algorithms)


async def test_a_key_is_good_only_for_the_algorithm_that_its_entry_names(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    issuer.publish(jwk(RSA, alg="PS256"))
    assert await tokens.authenticate(sign(claims(issuer.url), algorithm="RS256")) is None
    assert await tokens.authenticate(sign(claims(issuer.url), algorithm="PS256")) == SEVEN


@pytest.mark.parametrize(
    "changes", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": 1}, {"kid": 1}, {"alg": []}]
)
async def test_a_key_that_is_not_for_signatures_signs_nothing(
    issuer: FakeIssuer, tokens: JwtTokens, changes: dict[str, Any]
) -> None:
    issuer.publish(jwk(RSA, **changes))
    assert await tokens.authenticate(sign(claims(issuer.url))) is None


@pytest.mark.attack(109)
@pytest.mark.parametrize(
    "entry",
    [
        {"n": b64(b"\xff" * 128)},  # 1,024 bits.
        {"n": b64(b"\xff" * 2048)},  # 16,384 bits, which only cost time.
        {"e": b64(b"\x01" + b"\x00" * 200 + b"\x01")},
        {"e": "AQ"},
        {"n": "!"},
        {"n": ""},
        {"n": "\u00e9" * 400},
        {"d": "AQAB"},
        {"alg": "ES256"},
    ],
    ids=[
        "short",
        "long",
        "large exponent",
        "exponent 1",
        "not base64url",
        "empty",
        "not ASCII",
        "private",
        "of another kind",
    ],
)
async def test_a_weak_key_or_one_that_is_no_longer_secret_is_left_out_of_the_set(
    issuer: FakeIssuer, tokens: JwtTokens, entry: dict[str, str]
) -> None:
    issuer.publish(jwk(RSA, **entry), P256)
    assert await tokens.authenticate(sign(claims(issuer.url))) is None
    assert await tokens.authenticate(sign(claims(issuer.url), P256, "ES256")) == SEVEN


async def test_a_point_off_the_curve_is_no_key(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    issuer.publish(
        jwk(P256, y=b64(b"\x01" * 32)), jwk(ED25519, x="AA"), {"kty": "EC", "crv": "secp256k1"}, RSA
    )
    assert await tokens.authenticate(sign(claims(issuer.url), P256, "ES256")) is None
    assert await tokens.authenticate(sign(claims(issuer.url))) == SEVEN


@pytest.mark.attack(100)
@pytest.mark.parametrize(
    "secret",
    [
        RSA.as_pem(private=False),
        RSA.as_pem(private=False).replace(b"\n", b""),
        RSA.as_pem(private=False).rstrip(),
        RSA.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        RSA.public_key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        json.dumps(jwk(RSA)).encode(),
        json.dumps(jwk(RSA), separators=(",", ":")).encode(),
        b64decode(jwk(RSA)["n"] + "==", altchars=b"-_"),
        b"",
    ],
    ids=["PEM", "PEM in one line", "PEM trimmed", "DER", "PKCS1", "JWK", "JWK compact", "modulus", "empty"],
)
async def test_a_public_key_is_no_secret_to_authenticate_with(
    issuer: FakeIssuer, tokens: JwtTokens, secret: bytes
) -> None:
    for name in ("HS256", "HS384", "HS512", "RS256"):
        signed = ".".join(sign(claims(issuer.url), alg=name).split(".")[:2])
        mac = hmac(secret or b"\0", signed.encode(), name.replace("HS", "SHA") if "HS" in name else "SHA256")
        assert await tokens.authenticate(f"{signed}.{b64(mac)}") is None


@pytest.mark.attack(100)
async def test_an_oct_key_in_the_set_makes_no_hmac_good(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    issuer.publish({"kty": "oct", "k": b64(b"0" * 32), "kid": "mac"}, RSA)
    signed = ".".join(sign(claims(issuer.url), alg="HS256", kid="mac").split(".")[:2])
    assert await tokens.authenticate(f"{signed}.{b64(hmac(b'0' * 32, signed.encode(), sha256))}") is None


@pytest.mark.attack(100)
@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", None, 1, [], {}, ["RS256"], "rs256"], ids=repr
)
async def test_a_token_without_a_signature_is_nobodys(
    issuer: FakeIssuer, tokens: JwtTokens, name: Any
) -> None:
    token = sign(claims(issuer.url), alg=name)
    unsigned = token.rpartition(".")[0]
    for signature in ("", token.rpartition(".")[2]):
        assert await tokens.authenticate(f"{unsigned}.{signature}") is None


async def test_another_issuers_key_signs_nothing(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    token = sign(claims(issuer.url), OTHER_RSA, kid=RSA.thumbprint())
    assert await tokens.authenticate(token) is None


@pytest.mark.attack(107)
async def test_a_token_brings_no_key_and_names_no_place_to_look_for_one(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    """The canary is the issuer itself: a request to any other path of it would be seen."""
    canary = f"{issuer.url}/canary"
    issuer.replies["/canary"] = Reply(json.dumps({"keys": [jwk(OTHER_RSA)]}).encode())
    for header in (
        {"jwk": jwk(OTHER_RSA)},
        {"jku": canary},
        {"x5u": canary},
        {"x5c": [b64(b"certificate")]},
        {"jku": canary, "kid": canary},
        {"kid": "../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "file:///etc/passwd"},
    ):
        assert await tokens.authenticate(sign(claims(issuer.url), OTHER_RSA, **header)) is None
    assert {asked.path for asked in issuer.asked} == {"/.well-known/openid-configuration", "/jwks"}


@pytest.mark.attack(107)
async def test_what_a_token_says_of_keys_does_not_disturb_where_the_signature_is_good(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    token = sign(claims(issuer.url), jku=f"{issuer.url}/canary", jwk=jwk(OTHER_RSA))
    assert await tokens.authenticate(token) == SEVEN
    assert issuer.count("/canary") == 0


# --- what a token must say --------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://api.other.example"},
        {"aud": ["https://api.other.example"]},
        {"aud": f"{AUDIENCE}/"},
        {"aud": AUDIENCE.upper()},
        {"aud": None},
        {"aud": []},
        {"aud": {AUDIENCE: 1}},
        {"iss": "https://issuer.other.example"},
        {"iss": None},
        {"iss": ["x"]},
    ],
)
async def test_a_token_for_others_or_by_others_is_nobodys(
    issuer: FakeIssuer, tokens: JwtTokens, changes: dict[str, Any]
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, **changes))) is None


@pytest.mark.parametrize("suffix", ["/", "#", "?", " ", "/x"])
async def test_an_issuer_that_is_nearly_ours_is_another(
    issuer: FakeIssuer, tokens: JwtTokens, suffix: str
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url + suffix))) is None


async def test_an_audience_among_others_is_ours(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, aud=["https://x.example", AUDIENCE]))) == SEVEN


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"exp": SECONDS + 1}, True),
        ({"exp": SECONDS - 29}, True),
        ({"exp": SECONDS - 30}, False),
        ({"exp": None}, False),
        ({"exp": str(SECONDS + 300)}, False),
        ({"exp": True}, False),
        ({"exp": 1e300}, False),
        ({"nbf": SECONDS + 30}, True),
        ({"nbf": SECONDS + 31}, False),
        ({"nbf": "now"}, False),
        ({"iat": SECONDS + 30}, True),
        ({"iat": SECONDS + 31}, False),
        ({"iat": [SECONDS]}, False),
    ],
)
async def test_a_token_is_good_between_its_times_with_a_leeway(
    issuer: FakeIssuer, tokens: JwtTokens, changes: dict[str, Any], good: bool
) -> None:
    assert (await tokens.authenticate(sign(claims(issuer.url, **changes))) is not None) is good


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False}, {"zip": "DEF"}]
)
async def test_a_header_that_wants_something_critical_is_refused(
    issuer: FakeIssuer, tokens: JwtTokens, header: dict[str, Any]
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url), **header)) is None


@pytest.mark.parametrize("kid", [1, ["x"], {}, "x" * 257])
async def test_a_key_id_is_short_text(issuer: FakeIssuer, tokens: JwtTokens, kid: Any) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url), kid=kid)) is None


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
@pytest.mark.parametrize("strict", [True, False])
async def test_an_access_token_that_says_what_it_is_needs_to_prove_no_more(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock, typ: str, strict: bool
) -> None:
    tokens = tokens_of(issuer, egress, clock, strict_type=strict)
    token = sign(claims(issuer.url, scope=None, client_id=None, azp=APPLICATION), typ=typ)
    assert await tokens.authenticate(token) == SEVEN


@pytest.mark.parametrize("typ", ["JWT", None])
async def test_a_token_that_does_not_say_what_it_is_must_show_it(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock, typ: str | None
) -> None:
    lax, strict = (tokens_of(issuer, egress, clock, strict_type=strict) for strict in (False, True))
    shown = sign(claims(issuer.url), typ=typ)
    assert await lax.authenticate(shown) == SEVEN
    assert await strict.authenticate(shown) is None
    bare = claims(issuer.url, scope=None, client_id=None, azp=APPLICATION)
    assert await lax.authenticate(sign(bare, typ=typ)) is None
    for name in ("nonce", "at_hash", "c_hash", "s_hash", "events"):
        assert await lax.authenticate(sign(claims(issuer.url, **{name: "x"}), typ=typ)) is None


@pytest.mark.parametrize(
    "typ", ["id+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "at", "jwt+at", "JOSE", 1, []]
)
async def test_another_kind_of_token_is_no_access_token(
    issuer: FakeIssuer, tokens: JwtTokens, typ: Any
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url), typ=typ)) is None


@pytest.mark.parametrize(
    "said",
    [
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"token_use": "id"},
        {"token_use": ["access"]},
        {"token_type": "refresh_token"},
        {"cnf": {"jkt": "x"}},
        {"cnf": {"x5t#S256": "x"}},
        {"cnf": {}},
    ],
)
async def test_what_an_issuer_marks_as_another_token_is_refused(
    issuer: FakeIssuer, tokens: JwtTokens, said: dict[str, Any]
) -> None:
    """And one that is bound to a key of its sender, since whoever sends it here proved nothing."""
    assert await tokens.authenticate(sign(claims(issuer.url, **said))) is None


@pytest.mark.parametrize("said", [{"typ": "Bearer"}, {"token_use": "access"}, {"token_type": "Bearer"}])
async def test_what_an_issuer_marks_as_an_access_token_is_one(
    issuer: FakeIssuer, tokens: JwtTokens, said: dict[str, Any]
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url, **said))) == SEVEN


# --- its form ---------------------------------------------------------------------------------


def _respelled(token: str) -> str:
    """Change bits of the last character that no byte is made of."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


SPOILT: dict[str, Callable[[str], str]] = {
    "padded": lambda token: token + "=",
    "padded inside": lambda token: token.replace(".", "=.", 1),
    "a fourth part, empty": lambda token: token + ".",
    "a fourth part": lambda token: token + ".x",
    "an empty first part": lambda token: "." + token,
    "two parts": lambda token: token.replace(".", "", 1),
    "a space before": lambda token: f" {token}",
    "a line end after": lambda token: f"{token}\n",
    "a space inside": lambda token: token.replace(".", " .", 1),
    "a letter beyond ASCII": lambda token: token[:9] + "\u00e9" + token[9:],
    "bits that nobody reads": _respelled,
    "JSON": lambda token: json.dumps(
        dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))
    ),
    "five parts": lambda token: "..".join(token.split(".")),
    "dots": lambda token: token[:0] + "..",
    "nothing": lambda token: token[:0],
}


@pytest.mark.attack(110)
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
async def test_only_the_compact_form_in_its_one_spelling_is_a_token(
    issuer: FakeIssuer, tokens: JwtTokens, spoil: Callable[[str], str]
) -> None:
    token = sign(claims(issuer.url))
    assert await tokens.authenticate(token) == SEVEN
    assert await tokens.authenticate(spoil(token)) is None


@pytest.mark.attack(110)
async def test_plus_and_slash_are_not_of_this_alphabet(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    many = (sign(claims(issuer.url, jti=str(number))) for number in range(200))
    token = next(token for token in many if "-" in token or "_" in token)
    assert await tokens.authenticate(token.replace("-", "+").replace("_", "/")) is None
    assert await tokens.authenticate(token) == SEVEN


@pytest.mark.attack(110)
async def test_a_key_that_stands_twice_in_header_or_claims_makes_the_token_nobodys(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    header = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": RSA.thumbprint()})
    payload = json.dumps(claims(issuer.url))
    assert await tokens.authenticate(sign_raw(header.encode(), payload.encode())) == SEVEN
    twice = [
        ('{"alg": "none", ' + header[1:], payload),
        (header, '{"sub": "8", ' + payload[1:]),
    ]
    for one, other in twice:
        assert await tokens.authenticate(sign_raw(one.encode(), other.encode())) is None


@pytest.mark.attack(110)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"\xff",
        b'{"exp": NaN}',
        b"[" * 5000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
)
async def test_what_is_no_json_object_is_nobodys(issuer: FakeIssuer, tokens: JwtTokens, text: bytes) -> None:
    good_header = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": RSA.thumbprint()}).encode()
    good_claims = json.dumps(claims(issuer.url)).encode()
    assert await tokens.authenticate(sign_raw(text, good_claims)) is None
    assert await tokens.authenticate(sign_raw(good_header, text)) is None


@pytest.mark.attack(106)
async def test_a_token_over_the_limit_is_not_even_parsed(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    base = len(sign(claims(issuer.url, pad="")))
    largest = sign(claims(issuer.url, pad="x" * ((TOKEN_MAX - base) * 3 // 4)))
    assert TOKEN_MAX - 4 <= len(largest) <= TOKEN_MAX
    assert await tokens.authenticate(largest) == SEVEN
    assert await tokens.authenticate(sign(claims(issuer.url, pad="x" * TOKEN_MAX))) is None
    assert await tokens.authenticate("x" * 1_048_576) is None


def test_the_issuer_that_a_token_names_is_read_without_belief() -> None:
    assert issuer_of(sign(claims("https://issuer.example"))) == "https://issuer.example"
    for odd in (
        "",
        "a.b",
        "a.b.c",
        "a.!.c",
        f"a.{b64(b'[]')}.c",
        f"a.{b64(b'{}')}.c",
        "a." + b64(b'{"iss":1}') + ".c",
    ):
        assert issuer_of(odd) is None
    assert issuer_of("." * (TOKEN_MAX + 1)) is None


# --- verified once ----------------------------------------------------------------------------


async def test_a_verified_token_is_not_verified_again_for_a_minute(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    token = sign(claims(issuer.url))
    assert await tokens.authenticate(token) == SEVEN
    first = await tokens.authenticate(token)
    clock.advance(59)
    assert await tokens.authenticate(token) is first
    clock.advance(1)
    again = await tokens.authenticate(token)
    assert again == SEVEN
    assert again is not first


async def test_a_remembered_token_ends_when_it_ends(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    token = sign(claims(issuer.url, exp=SECONDS + 10))
    assert await tokens.authenticate(token) == SEVEN
    assert await tokens.authenticate(token) == SEVEN
    clock.advance(39)
    assert await tokens.authenticate(token) == SEVEN
    clock.advance(1)
    assert await tokens.authenticate(token) is None


async def test_a_refused_token_is_judged_anew_each_time(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    token = sign(claims(issuer.url, nbf=SECONDS + 60))
    assert await tokens.authenticate(token) is None
    clock.advance(30)
    assert await tokens.authenticate(token) == SEVEN
