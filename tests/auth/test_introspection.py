"""Access tokens that the issuer is asked about."""

import asyncio
import json
import logging
from base64 import b64decode
from contextlib import suppress
from typing import Any

import pytest

from tests.auth.support import (
    APPLICATION,
    AUDIENCE,
    OTHER_RSA,
    SECONDS,
    FakeIssuer,
    Reply,
    claims,
    sign,
    tokens_of,
)
from tests.factories import FixedClock
from watchword.auth.claims import ClaimRules, NumericSubjects
from watchword.auth.egress import Egress
from watchword.auth.introspection import REMEMBER_NO_SECONDS, REMEMBER_SECONDS, IntrospectedTokens
from watchword.auth.jwt import TOKEN_MAX
from watchword.auth.recent import Recent
from watchword.domain.instant import after
from watchword.domain.user import UserId
from watchword.engine.principal import AuthenticatorUnavailableError, Principal, PrincipalKind

PATH = "/introspect"
ISSUER = "https://issuer.example"
SEVEN = Principal(
    kind=PrincipalKind.USER, user_id=UserId(7), profile_ids=frozenset({7}), application=APPLICATION
)


def _answer(**changes: Any) -> dict[str, Any]:
    good = {
        "active": True,
        "sub": "7",
        "client_id": APPLICATION,
        "aud": AUDIENCE,
        "iss": ISSUER,
        "exp": SECONDS + 300,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def _say(issuer: FakeIssuer, **changes: Any) -> None:
    issuer.replies[PATH] = Reply(json.dumps(_answer(**changes)).encode())


def _tokens(issuer: FakeIssuer, egress: Egress, clock: FixedClock, /, **settings: Any) -> IntrospectedTokens:
    rules = ClaimRules(
        users=NumericSubjects(ISSUER),
        applications=frozenset({APPLICATION}),
        subjectless_applications=settings.pop("subjectless", False),
    )
    named: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, **settings}
    url = f"{issuer.url}{PATH}"
    return IntrospectedTokens(url, egress, rules, clock, client_id="us:1", client_secret="s cret", **named)


@pytest.fixture
def tokens(issuer: FakeIssuer, egress: Egress, clock: FixedClock) -> IntrospectedTokens:
    _say(issuer)
    return _tokens(issuer, egress, clock)


async def test_an_active_token_is_its_users(issuer: FakeIssuer, tokens: IntrospectedTokens) -> None:
    assert await tokens.authenticate("opaque-1") == SEVEN
    (asked,) = issuer.asked
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"us%3A1:s+cret"
    assert asked.body == b"token=opaque-1&token_type_hint=access_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": "true"},
        {"active": 1},
        {"active": None},
        {"aud": "https://api.other.example"},
        {"aud": None},
        {"iss": "https://issuer.other.example"},
        {"exp": SECONDS - 30},
        {"exp": "x"},
        {"nbf": SECONDS + 31},
        {"sub": None},
        {"sub": "nobody"},
        {"sub": "stranger", "client_id": "stranger"},
        {"token_type": "refresh_token"},
        {"token_use": "refresh_token"},
        {"typ": "Refresh"},
        {"token_type": "DPoP"},
        {"cnf": {"jkt": "x"}},
        {"profile_ids": ["x"]},
    ],
)
async def test_any_other_answer_makes_the_token_nobodys(
    issuer: FakeIssuer, tokens: IntrospectedTokens, changes: dict[str, Any]
) -> None:
    _say(issuer, **changes)
    assert await tokens.authenticate("opaque-1") is None


async def test_what_the_answer_leaves_out_is_taken_from_the_configuration(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    _say(issuer, iss=None, exp=None, aud=None, token_type="Bearer", profile_ids=[435036])
    found = await _tokens(issuer, egress, clock, audience=None).authenticate("opaque-1")
    assert found is not None
    assert (found.user_id, found.profile_ids) == (UserId(7), frozenset({435036}))


async def test_without_a_named_issuer_its_users_are_those_of_the_endpoint(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    """A user number of the other issuer's name is not taken over: nobody said that they are one."""
    _say(issuer)
    assert await _tokens(issuer, egress, clock, issuer=None).authenticate("opaque-1") is None


async def test_client_credentials_are_the_applications(
    issuer: FakeIssuer, tokens: IntrospectedTokens
) -> None:
    _say(issuer, sub=APPLICATION)
    found = await tokens.authenticate("opaque-1")
    assert found == Principal(kind=PrincipalKind.APPLICATION, application=APPLICATION)


async def test_a_token_without_a_subject_is_an_applications_only_if_the_configuration_says_so(
    issuer: FakeIssuer, tokens: IntrospectedTokens, egress: Egress, clock: FixedClock
) -> None:
    said = _tokens(issuer, egress, clock, subjectless=True)
    _say(issuer, sub=None)
    assert await tokens.authenticate("opaque-1") is None
    assert await said.authenticate("opaque-1") == Principal(
        kind=PrincipalKind.APPLICATION, application=APPLICATION
    )
    others: list[dict[str, Any]] = [
        {"username": "ada"},
        {"auth_time": SECONDS},
        {"client_id": None},
        {"client_id": "stranger"},
    ]
    for number, changes in enumerate(others):
        _say(issuer, sub=None, **changes)
        assert await said.authenticate(f"opaque-2{number}") is None


# --- what is remembered -----------------------------------------------------------------------


async def test_an_answer_is_believed_for_a_while(
    issuer: FakeIssuer, tokens: IntrospectedTokens, clock: FixedClock
) -> None:
    assert await tokens.authenticate("opaque-1") == SEVEN
    _say(issuer, active=False)
    clock.advance(REMEMBER_SECONDS - 1)
    assert await tokens.authenticate("opaque-1") == SEVEN
    assert await tokens.authenticate("opaque-2") is None
    clock.advance(1)
    assert await tokens.authenticate("opaque-1") is None


async def test_an_answer_is_never_believed_past_the_tokens_end(
    issuer: FakeIssuer, tokens: IntrospectedTokens, clock: FixedClock
) -> None:
    _say(issuer, exp=SECONDS + 10)
    assert await tokens.authenticate("opaque-1") == SEVEN
    _say(issuer, active=False)
    clock.advance(9)
    assert await tokens.authenticate("opaque-1") == SEVEN
    clock.advance(1)
    assert await tokens.authenticate("opaque-1") is None


async def test_a_no_is_believed_for_less(
    issuer: FakeIssuer, tokens: IntrospectedTokens, clock: FixedClock
) -> None:
    _say(issuer, active=False)
    for _ in range(3):
        assert await tokens.authenticate("opaque-1") is None
    assert issuer.count(PATH) == 1
    _say(issuer)
    clock.advance(REMEMBER_NO_SECONDS)
    assert await tokens.authenticate("opaque-1") == SEVEN


async def test_one_token_that_comes_often_at_once_is_asked_about_once(
    issuer: FakeIssuer, tokens: IntrospectedTokens
) -> None:
    found = await asyncio.gather(*(tokens.authenticate("opaque-1") for _ in range(50)))
    assert found == [SEVEN] * 50
    assert issuer.count(PATH) == 1


async def test_who_gives_up_does_not_end_the_request_that_others_wait_for(
    issuer: FakeIssuer, tokens: IntrospectedTokens
) -> None:
    gate = issuer.replies[PATH].gate = asyncio.Event()
    first = asyncio.create_task(tokens.authenticate("opaque-1"))
    await issuer.arrived.wait()
    second = asyncio.create_task(tokens.authenticate("opaque-1"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await second == SEVEN


def test_made_up_tokens_cost_a_bounded_memory(clock: FixedClock) -> None:
    recent = Recent(most=3)
    for number in range(10):
        recent.put(bytes([number]), None, now=clock.now(), until=after(clock.now(), 5))
        assert recent.get(b"\0", clock.now()) == ((None,) if number < 10 else None)
    assert len(recent) == 3
    assert recent.get(b"\1", clock.now()) is None  # The longest unused made room.


def test_a_clock_that_is_set_back_remembers_nothing_longer(clock: FixedClock) -> None:
    recent = Recent()
    recent.put(b"x", SEVEN, now=clock.now(), until=after(clock.now(), 30))
    clock.advance(-3600)
    assert recent.get(b"x", clock.now()) is None


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["", "a b", "a\nb", "t\u00f6ken", "=", "a=b", "a" * (TOKEN_MAX + 1), "a&token=b", "a\x00"],
    ids=repr,
)
async def test_what_cannot_be_a_token_is_not_asked_about(
    issuer: FakeIssuer, tokens: IntrospectedTokens, token: str
) -> None:
    assert await tokens.authenticate(token) is None
    assert issuer.asked == []


@pytest.mark.parametrize("status", [201, 302, 400, 401, 403, 404, 429, 500, 503])
async def test_an_endpoint_that_does_not_answer_lets_nobody_through_and_refuses_nobody(
    issuer: FakeIssuer, tokens: IntrospectedTokens, clock: FixedClock, status: int
) -> None:
    issuer.replies[PATH] = Reply(json.dumps(_answer()).encode(), status, {"location": f"{issuer.url}/x"})
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate("opaque-1")
    assert issuer.count("/x") == 0
    _say(issuer)
    assert await tokens.authenticate("opaque-1") == SEVEN


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"active": true, "active": false}'])
async def test_an_answer_that_is_something_else_is_no_answer(
    issuer: FakeIssuer, tokens: IntrospectedTokens, body: bytes
) -> None:
    issuer.replies[PATH] = Reply(body)
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate("opaque-1")


async def test_an_endpoint_that_is_gone_is_no_answer(issuer: FakeIssuer, tokens: IntrospectedTokens) -> None:
    await issuer.stop()
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate("opaque-1")


async def test_no_log_line_holds_a_token_or_a_secret(
    issuer: FakeIssuer,
    tokens: IntrospectedTokens,
    egress: Egress,
    clock: FixedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    signed = sign(
        claims(issuer.url, sub="the-user", aud="the-audience", pad="the-claim"), OTHER_RSA, kid="the-kid"
    )
    assert await tokens_of(issuer, egress, clock).authenticate(signed) is None
    for status in (200, 500):
        issuer.replies[PATH] = Reply(b'{"active": false, "sub": "the-user"}', status)
        with suppress(AuthenticatorUnavailableError):
            await tokens.authenticate(f"the-token-{status}")
    assert "refused" in caplog.text
    assert "cannot be asked" in caplog.text
    said = [word for word in ("the-", "s cret", "s+cret", *signed.split(".")) if word in caplog.text]
    assert said == []


async def test_no_more_requests_are_on_their_way_than_allowed_and_no_more_wait(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    _say(issuer)
    gate = issuer.replies[PATH].gate = asyncio.Event()
    tokens = _tokens(issuer, egress, clock, at_once=2, waiting_max=3)
    calls = [asyncio.create_task(tokens.authenticate(f"opaque-{number}")) for number in range(5)]
    while issuer.count(PATH) < 2:
        issuer.arrived.clear()
        await issuer.arrived.wait()
    with pytest.raises(AuthenticatorUnavailableError):
        await tokens.authenticate("opaque-6")
    assert issuer.count(PATH) == 2
    gate.set()
    assert await asyncio.gather(*calls) == [SEVEN] * 5
    assert await tokens.authenticate("opaque-6") == SEVEN
