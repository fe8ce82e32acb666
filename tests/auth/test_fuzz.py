"""Whatever a token says of itself, signed or not: it is somebody's or nobody's, and never an error."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings, strategies as st

from tests.auth.support import AUDIENCE, RSA, b64, claims, jwk, sign, sign_raw
from tests.factories import FixedClock
from watchword.auth.chain import Chain
from watchword.auth.claims import ClaimRules, NumericSubjects
from watchword.auth.egress import Egress
from watchword.auth.jwt import JwtTokens
from watchword.auth.keys import IssuerKeys, KeysError, read_keys
from watchword.engine.principal import Principal

ISSUER = "https://issuer.example"
KEY_SET = json.dumps({"keys": [jwk(RSA)]}).encode()

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = st.sampled_from(
    ["iss", "aud", "sub", "client_id", "azp", "exp", "nbf", "iat", "typ", "token_use", "cnf", "profile_ids"]
)
HEADERS = st.sampled_from(["alg", "typ", "kid", "crit", "jku", "jwk", "b64", "zip"])


class _Published(Egress):
    """An issuer's documents, without an issuer."""

    async def get(self, url: str) -> bytes:
        return KEY_SET


def _authenticate(token: str) -> Principal | None:
    clock = FixedClock()
    keys = IssuerKeys(ISSUER, _Published(), clock, url=f"{ISSUER}/jwks")
    rules = ClaimRules(users=NumericSubjects(ISSUER), applications=frozenset({"bank-app"}))
    return asyncio.run(Chain(issuers=[JwtTokens(ISSUER, AUDIENCE, keys, rules, clock)]).authenticate(token))


def test_the_token_that_is_spoilt_below_is_a_good_one() -> None:
    assert _authenticate(sign(claims(ISSUER))) is not None


@settings(max_examples=150)
@given(
    header=st.dictionaries(HEADERS, ANYTHING, max_size=3), said=st.dictionaries(CLAIMS, ANYTHING, max_size=4)
)
def test_a_signed_token_that_says_anything_is_no_error(header: dict[str, Any], said: dict[str, Any]) -> None:
    head = {"alg": "RS256", "typ": "at+jwt", "kid": RSA.thumbprint(), **header}
    payload = {**claims(ISSUER), **said}
    found = _authenticate(sign_raw(json.dumps(head).encode(), json.dumps(payload).encode()))
    assert found is None or said.get("aud", AUDIENCE) == AUDIENCE or AUDIENCE in said["aud"]


@settings(max_examples=150)
@given(parts=st.lists(st.binary(max_size=60).map(b64) | st.text(max_size=60), max_size=5))
def test_a_token_of_any_parts_is_no_error(parts: list[str]) -> None:
    assert _authenticate(".".join(parts)) is None


@settings(max_examples=150)
@given(
    entries=st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "n", "e", "crv", "x", "y", "kid", "use", "alg", "key_ops"]),
            ANYTHING
            | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB"])
            | st.binary().map(b64),
        ),
        max_size=3,
    )
)
def test_a_key_set_of_anything_is_read_or_says_what_is_wrong(entries: list[dict[str, Any]]) -> None:
    body = json.dumps({"keys": [*entries, jwk(RSA)]}).encode()
    try:
        keys = read_keys(body)
    except KeysError:
        return  # What holds NaN or an integer beyond 2^53 is no JSON that means one thing only.
    assert keys[-1].kid == RSA.thumbprint()
