"""Access tokens of a real OpenID provider, and what else it issues."""

import base64
import json

import pytest

from tests import issuer as real
from tests.factories import FixedClock
from watchword.auth.chain import Chain
from watchword.auth.claims import ClaimRules, NumericSubjects
from watchword.auth.egress import Egress
from watchword.auth.introspection import IntrospectedTokens
from watchword.auth.jwt import JwtTokens
from watchword.auth.keys import ASK_AGAIN_SECONDS, IssuerKeys
from watchword.domain.user import UserId
from watchword.engine.ports import SystemClock
from watchword.engine.principal import Principal, PrincipalKind

ADA = Principal(
    kind=PrincipalKind.USER,
    user_id=UserId(6146956),
    profile_ids=frozenset({435036, 435037}),
    application=real.APPLICATION,
)


@pytest.fixture
def clock() -> FixedClock:
    """Return the moment by the issuer's own clock, to be moved from there."""
    return FixedClock(SystemClock().now())


def _rules(provider: real.Issuer) -> ClaimRules:
    return ClaimRules(
        users=NumericSubjects(provider.url),
        applications=frozenset({real.APPLICATION}),
        subjectless_applications=True,  # That is how this provider answers for client credentials.
    )


def _tokens(
    provider: real.Issuer, egress: Egress, clock: FixedClock, audience: str = real.AUDIENCE
) -> JwtTokens:
    keys = IssuerKeys(provider.url, egress, clock)
    return JwtTokens(provider.url, audience, keys, _rules(provider), clock, strict_type=True)


def _introspected(provider: real.Issuer, egress: Egress, clock: FixedClock) -> IntrospectedTokens:
    return IntrospectedTokens(
        f"{provider.url}/token/introspection",
        egress,
        _rules(provider),
        clock,
        client_id=real.APPLICATION,
        client_secret=real.CLIENT_SECRET,
        issuer=provider.url,
        audience=real.OPAQUE_AUDIENCE,
    )


async def test_a_user_who_logged_in_is_that_user(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    issued = provider.user("6146956", profile_ids=[435036, 435037])
    assert await _tokens(provider, egress, clock).authenticate(issued.access_token) == ADA


async def test_an_application_is_itself_and_another_client_of_the_issuer_is_nobody(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    tokens = _tokens(provider, egress, clock)
    found = await tokens.authenticate(provider.application_token())
    assert found == Principal(kind=PrincipalKind.APPLICATION, application=real.APPLICATION)
    assert await tokens.authenticate(provider.application_token(real.STRANGER)) is None


async def test_a_user_who_is_called_like_an_application_is_not_that_application(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    """With a token of another client he is a user, whose name here is no number; nobody, that is."""
    issued = provider.user(real.APPLICATION, client=real.STRANGER)
    assert await _tokens(provider, egress, clock).authenticate(issued.access_token) is None


async def test_an_id_token_is_no_access_token(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    """Not even where its audience, the client, is taken for ours."""
    issued = provider.user("6146956")
    keys = IssuerKeys(provider.url, egress, clock)
    lax = JwtTokens(provider.url, real.APPLICATION, keys, _rules(provider), clock)
    for tokens in (_tokens(provider, egress, clock), _tokens(provider, egress, clock, real.APPLICATION), lax):
        assert await tokens.authenticate(issued.id_token) is None


async def test_a_token_for_another_api_is_nobodys(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    issued = provider.user("6146956", resource=real.OTHER_AUDIENCE)
    assert await _tokens(provider, egress, clock).authenticate(issued.access_token) is None
    theirs = _tokens(provider, egress, clock, real.OTHER_AUDIENCE)
    assert await theirs.authenticate(issued.access_token) is not None


async def test_an_expired_token_is_nobodys(provider: real.Issuer, egress: Egress, clock: FixedClock) -> None:
    tokens = _tokens(provider, egress, clock)
    issued = provider.user("6146956")
    clock.advance(real.TOKEN_SECONDS - 5)
    assert await tokens.authenticate(issued.access_token) is not None
    clock.advance(60)
    assert await tokens.authenticate(issued.access_token) is None


@pytest.mark.parametrize("keep", [True, False])
async def test_a_rotated_signing_key_is_picked_up_at_once(
    provider: real.Issuer, egress: Egress, clock: FixedClock, keep: bool
) -> None:
    tokens = _tokens(provider, egress, clock)
    before = provider.user("6146956").access_token
    assert await tokens.authenticate(before) is not None
    kid = provider.rotate(keep=keep)
    clock.advance(ASK_AGAIN_SECONDS)
    after = provider.user("6146956").access_token
    assert json.loads(base64.urlsafe_b64decode(after.split(".")[0] + "=="))["kid"] == kid
    assert await tokens.authenticate(after) is not None
    assert (await tokens.authenticate(before) is not None) is keep


async def test_another_provider_cannot_speak_for_this_one(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    with real.started() as other:
        chain = Chain(issuers=[_tokens(provider, egress, clock)])
        both = Chain(issuers=[_tokens(provider, egress, clock), _tokens(other, egress, clock)])
        token = other.user("6146956").access_token
        assert await chain.authenticate(token) is None
        assert await both.authenticate(token) is not None


async def test_an_opaque_token_is_told_by_introspection_until_it_is_revoked(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    tokens = _introspected(provider, egress, clock)
    token = provider.user("6146956", profile_ids=[435036, 435037], resource=real.OPAQUE_AUDIENCE).access_token
    assert token.count(".") == 0
    assert await tokens.authenticate(token) == ADA
    provider.revoke(token)
    clock.advance(30)
    assert await tokens.authenticate(token) is None


async def test_introspection_knows_applications_and_no_others(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    tokens = _introspected(provider, egress, clock)
    known = provider.application_token(resource=real.OPAQUE_AUDIENCE)
    stranger = provider.application_token(real.STRANGER, resource=real.OPAQUE_AUDIENCE)
    found = await tokens.authenticate(known)
    assert found == Principal(kind=PrincipalKind.APPLICATION, application=real.APPLICATION)
    assert await tokens.authenticate(stranger) is None
    assert await tokens.authenticate("made-up") is None


async def test_one_server_takes_signed_and_opaque_tokens(
    provider: real.Issuer, egress: Egress, clock: FixedClock
) -> None:
    chain = Chain(
        issuers=[_tokens(provider, egress, clock)], introspected=_introspected(provider, egress, clock)
    )
    for resource in (real.AUDIENCE, real.OPAQUE_AUDIENCE):
        token = provider.user("6146956", profile_ids=[435036, 435037], resource=resource).access_token
        assert await chain.authenticate(token) == ADA
