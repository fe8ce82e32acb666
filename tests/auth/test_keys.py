"""An issuer's keys: rotated, fetched no more often than needed, and done without for a while."""

import asyncio
import json
from typing import Any

import pytest

from tests.auth.support import OTHER_RSA, RSA, FakeIssuer, Reply, claims, jwk, sign, tokens_of
from tests.factories import FixedClock
from watchword.auth.egress import ANSWER_MAX, Egress
from watchword.auth.jwt import JwtTokens
from watchword.auth.keys import (
    ASK_AGAIN_SECONDS,
    MAX_AGE_SECONDS,
    STALE_SECONDS,
    IssuerKeys,
    KeysError,
    read_keys,
)
from watchword.engine.principal import AuthenticatorUnavailableError

JWKS = "/jwks"
DISCOVERY = "/.well-known/openid-configuration"


async def test_the_keys_are_fetched_once_for_many_tokens(issuer: FakeIssuer, tokens: JwtTokens) -> None:
    good = [sign(claims(issuer.url, jti=str(number))) for number in range(20)]
    found = await asyncio.gather(*(tokens.authenticate(token) for token in good))
    assert None not in found
    assert (issuer.count(DISCOVERY), issuer.count(JWKS)) == (1, 1)


async def test_a_configured_place_of_the_keys_needs_no_discovery(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    tokens = tokens_of(issuer, egress, clock, url=f"{issuer.url}/keys")
    issuer.replies["/keys"] = issuer.replies.pop(JWKS)
    assert await tokens.authenticate(sign(claims(issuer.url))) is not None
    assert [asked.path for asked in issuer.asked] == ["/keys"]


# --- rotation ---------------------------------------------------------------------------------


async def test_a_new_key_is_picked_up_when_a_token_names_it(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url))) is not None
    issuer.publish(OTHER_RSA)
    clock.advance(ASK_AGAIN_SECONDS)
    assert await tokens.authenticate(sign(claims(issuer.url), OTHER_RSA)) is not None


async def test_a_new_key_without_an_id_is_picked_up_when_the_old_one_does_not_fit(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    issuer.publish(jwk(RSA, kid=None))
    assert await tokens.authenticate(sign(claims(issuer.url), kid=None)) is not None
    issuer.publish(jwk(OTHER_RSA, kid=None))
    clock.advance(ASK_AGAIN_SECONDS)
    assert await tokens.authenticate(sign(claims(issuer.url), OTHER_RSA, kid=None)) is not None


async def test_what_a_removed_key_vouched_for_is_forgotten_with_it(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    old = sign(claims(issuer.url))
    assert await tokens.authenticate(old) is not None
    assert await tokens.authenticate(old) is not None
    issuer.publish(OTHER_RSA)
    clock.advance(ASK_AGAIN_SECONDS)
    assert await tokens.authenticate(sign(claims(issuer.url), OTHER_RSA)) is not None
    assert await tokens.authenticate(old) is None


async def test_a_removed_key_ends_by_itself_when_the_keys_are_too_old(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    def by_the_old_key(number: int) -> str:
        return sign(claims(issuer.url, jti=str(number), exp=clock.now() // 1000 + 3600))

    remembered = by_the_old_key(1)
    assert await tokens.authenticate(remembered) is not None
    issuer.publish(OTHER_RSA)
    clock.advance(MAX_AGE_SECONDS - 1)
    assert await tokens.authenticate(remembered) is not None
    assert await tokens.authenticate(by_the_old_key(2)) is not None
    clock.advance(1)
    assert await tokens.authenticate(by_the_old_key(3)) is None
    assert await tokens.authenticate(remembered) is None


async def test_a_flood_of_made_up_keys_is_no_flood_of_requests(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    def made_up(number: int) -> str:
        return sign(claims(issuer.url), OTHER_RSA, kid=f"made-up-{number}")

    assert await tokens.authenticate(sign(claims(issuer.url))) is not None
    clock.advance(ASK_AGAIN_SECONDS)
    for batch in range(4):
        flood = [tokens.authenticate(made_up(100 * batch + number)) for number in range(100)]
        assert set(await asyncio.gather(*flood)) == {None}
        assert issuer.count(JWKS) == 2
    clock.advance(ASK_AGAIN_SECONDS)
    assert await tokens.authenticate(made_up(1)) is None
    assert issuer.count(JWKS) == 3


async def test_a_token_that_is_refused_anyway_asks_nobody_for_keys(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    for changes in ({"aud": "x"}, {"exp": 1}, {"iss": "x"}):
        assert await tokens.authenticate(sign(claims(issuer.url, **changes), OTHER_RSA)) is None
    assert issuer.asked == []


async def test_who_gives_up_waiting_does_not_end_the_request_that_others_wait_for(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    gate = asyncio.Event()
    issuer.replies[JWKS].gate = gate
    token = sign(claims(issuer.url))
    first = asyncio.create_task(tokens.authenticate(token))
    await issuer.arrived.wait()
    second = asyncio.create_task(tokens.authenticate(token))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await second is not None
    assert issuer.count(JWKS) == 1


# --- an issuer that cannot be asked -----------------------------------------------------------


async def test_without_any_keys_nobody_is_let_through_and_nobody_refused(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    await issuer.stop()
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))
    # Nor while it is not asked again yet.
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))


async def test_keys_stay_good_for_a_bounded_time_while_the_issuer_is_down(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    token = sign(claims(issuer.url, exp=clock.now() // 1000 + 2 * STALE_SECONDS))
    assert await tokens.authenticate(token) is not None
    await issuer.stop()
    clock.advance(MAX_AGE_SECONDS + STALE_SECONDS - 1)
    assert await tokens.authenticate(token) is not None
    clock.advance(60)
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(token)


async def test_whether_a_key_is_new_cannot_be_told_while_the_issuer_is_down(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    assert await tokens.authenticate(sign(claims(issuer.url))) is not None
    await issuer.stop()
    clock.advance(ASK_AGAIN_SECONDS)
    for _ in range(2):
        with pytest.raises(AuthenticatorUnavailableError):
            await tokens.authenticate(sign(claims(issuer.url), OTHER_RSA))
    assert await tokens.authenticate(sign(claims(issuer.url, jti="2"))) is not None


async def test_an_issuer_that_comes_back_is_asked_again(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    published = issuer.replies.pop(JWKS)
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))
    issuer.replies[JWKS] = published
    clock.advance(1)
    assert await tokens.authenticate(sign(claims(issuer.url))) is not None


async def test_a_clock_that_is_set_back_makes_no_key_younger(
    issuer: FakeIssuer, tokens: JwtTokens, clock: FixedClock
) -> None:
    token = sign(claims(issuer.url, iat=None))
    assert await tokens.authenticate(token) is not None
    clock.advance(-3600)
    issuer.publish(OTHER_RSA)
    assert await tokens.authenticate(token) is None


@pytest.mark.attack(169)
@pytest.mark.parametrize("path", [JWKS, DISCOVERY])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(
    issuer: FakeIssuer, tokens: JwtTokens, path: str, status: int
) -> None:
    issuer.replies["/elsewhere"] = issuer.replies[path]
    issuer.replies[path] = Reply(status=status, headers={"location": f"{issuer.url}/elsewhere"})
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))
    assert issuer.count("/elsewhere") == 0


@pytest.mark.attack(169)
@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "https://[::ffff:169.254.169.254]/",
        "http://192.0.2.1/jwks",
        "http://issuer.example/jwks",
        "https://user:password@127.0.0.1/jwks",
        "ftp://127.0.0.1/jwks",
        "//127.0.0.1/jwks",
        "/jwks",
        "https://",
        "http://0.0.0.0/jwks",
        "",
        7,
        None,
    ],
    ids=repr,
)
async def test_a_discovery_document_that_leads_astray_is_not_followed(
    issuer: FakeIssuer, tokens: JwtTokens, place: Any
) -> None:
    issuer.discover(jwks_uri=place)
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))


@pytest.mark.parametrize("name", ["https://issuer.example", None, "", 7], ids=repr)
async def test_a_discovery_document_of_another_issuer_is_not_this_ones(
    issuer: FakeIssuer, tokens: JwtTokens, name: Any
) -> None:
    issuer.discover(issuer=name)
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))
    assert issuer.count(JWKS) == 0


async def test_an_issuer_on_https_does_not_lead_to_keys_on_anything_else(clock: FixedClock) -> None:
    """Also not to this machine, where plain HTTP is allowed to whom the configuration names."""
    issuer = "https://issuer.example"
    documents: dict[str, dict[str, Any]] = {
        f"{issuer}{DISCOVERY}": {"issuer": issuer, "jwks_uri": "http://127.0.0.1/jwks"},
        "http://127.0.0.1/jwks": {"keys": [jwk(RSA)]},
    }

    class Published(Egress):
        async def get(self, url: str) -> bytes:
            return json.dumps(documents[url]).encode()

    keys = IssuerKeys(issuer, Published(), clock)
    with pytest.raises(AuthenticatorUnavailableError):
        await keys.fitting(None, "RS256")
    documents[f"{issuer}{DISCOVERY}"]["jwks_uri"] = f"{issuer}/jwks"
    documents[f"{issuer}/jwks"] = {"keys": [jwk(RSA)]}
    clock.advance(1)
    assert len(await keys.fitting(None, "RS256")) == 1


BAD_ANSWERS = {
    "too large": Reply(json.dumps({"keys": [jwk(RSA)], "pad": "x" * ANSWER_MAX}).encode()),
    "an error": Reply(json.dumps({"keys": [jwk(RSA)]}).encode(), status=500),
    "nothing": Reply(),
    "not JSON": Reply(b"<html>"),
    "no keys": Reply(b"{}"),
    "keys of text": Reply(b'{"keys": ["x"]}'),
    "a list": Reply(b"[]"),
    "a key twice": Reply(b'{"keys": [], "keys": []}'),
    "too deep": Reply(b'{"keys": ' + b"[" * 100_000),
    "compressed": Reply(json.dumps({"keys": [jwk(RSA)]}).encode(), headers={"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("reply", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_an_answer_that_is_no_key_set_is_no_answer(
    issuer: FakeIssuer, tokens: JwtTokens, reply: Reply
) -> None:
    issuer.replies[JWKS] = reply
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate(sign(claims(issuer.url)))


async def test_a_slow_issuer_is_not_waited_for_without_end(issuer: FakeIssuer, clock: FixedClock) -> None:
    issuer.replies[JWKS].gate = asyncio.Event()
    async with Egress(seconds=0.1) as egress:
        tokens = tokens_of(issuer, egress, clock)
        with pytest.raises(AuthenticatorUnavailableError):
            await tokens.authenticate(sign(claims(issuer.url)))


async def test_an_issuer_that_takes_back_all_its_keys_is_believed(
    issuer: FakeIssuer, tokens: JwtTokens
) -> None:
    issuer.publish()
    assert await tokens.authenticate(sign(claims(issuer.url))) is None


def test_of_a_huge_set_the_first_hundred_keys_are_read() -> None:
    entries = [jwk(RSA, kid=str(number)) for number in range(101)]
    assert [key.kid for key in read_keys(json.dumps({"keys": entries}).encode())] == [
        str(number) for number in range(100)
    ]


def test_what_is_no_key_set_says_so() -> None:
    with pytest.raises(KeysError, match="no list of keys"):
        read_keys(b'{"keys": 1}')
