"""Several kinds of tokens side by side, static ones among them."""

import json
from hashlib import sha256

import pytest

from tests.auth.support import (
    APPLICATION,
    AUDIENCE,
    OTHER_RSA,
    RSA,
    FakeIssuer,
    Reply,
    claims,
    sign,
    tokens_of,
)
from tests.factories import FixedClock
from watchword.auth.chain import Chain
from watchword.auth.claims import ClaimRules, NumericSubjects
from watchword.auth.egress import Egress
from watchword.auth.introspection import IntrospectedTokens
from watchword.auth.static import StaticTokens, new_token
from watchword.domain.user import UserId
from watchword.engine.ports import SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind

CAROL = Principal(kind=PrincipalKind.PERSONAL, user_id=UserId(9), profile_ids=frozenset({9}))


# --- static tokens ----------------------------------------------------------------------------


async def test_a_new_token_is_told_by_its_digest() -> None:
    new = new_token(SystemEntropy())
    assert new.sha256 == sha256(new.token.encode()).hexdigest()
    tokens = StaticTokens()
    tokens.add_digest(new.sha256, CAROL)
    assert await tokens.authenticate(new.token) == CAROL
    assert await tokens.authenticate(new.sha256) is None
    assert await tokens.authenticate(new.token.upper()) is None


def test_a_new_token_is_long_unlike_any_other_and_not_shown() -> None:
    entropy = SystemEntropy()
    made = [new_token(entropy) for _ in range(100)]
    assert len({new.token for new in made}) == 100
    assert {len(new.token) for new in made} == {68}
    assert made[0].token not in repr(made[0])


@pytest.mark.parametrize("digits", ["", "00", "0" * 63, "0" * 65, "0" * 62, "x" * 64, "carol"])
def test_what_is_no_digest_is_not_taken_for_one(digits: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        StaticTokens().add_digest(digits, CAROL)


# --- the chain --------------------------------------------------------------------------------


def _introspected(issuer: FakeIssuer, egress: Egress, clock: FixedClock) -> IntrospectedTokens:
    issuer.replies["/introspect"] = Reply(json.dumps({"active": True, "sub": "5", "aud": AUDIENCE}).encode())
    url = f"{issuer.url}/introspect"
    rules = ClaimRules(users=NumericSubjects(url))
    return IntrospectedTokens(url, egress, rules, clock, client_id="us", client_secret="secret")


async def test_each_token_goes_to_whom_it_belongs(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    async with FakeIssuer() as second:
        second.publish(OTHER_RSA)
        chain = Chain(
            static=StaticTokens({"carol": CAROL}),
            issuers=[tokens_of(issuer, egress, clock), tokens_of(second, egress, clock)],
            introspected=_introspected(second, egress, clock),
        )
        assert await chain.authenticate("carol") == CAROL
        assert (issuer.asked, second.asked) == ([], [])

        by_first = await chain.authenticate(sign(claims(issuer.url)))
        assert by_first is not None
        assert (by_first.user_id, by_first.application) == (7, APPLICATION)
        assert second.asked == []

        asked = len(issuer.asked)
        by_second = await chain.authenticate(sign(claims(second.url, sub="8"), OTHER_RSA))
        assert by_second is not None
        assert by_second.user_id == 8
        assert len(issuer.asked) == asked

        opaque = await chain.authenticate("opaque")
        assert opaque is not None
        assert opaque.user_id == 5


async def test_what_an_issuer_refuses_no_other_is_asked_about(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    async with FakeIssuer() as second:
        second.publish(OTHER_RSA)
        chain = Chain(
            issuers=[tokens_of(issuer, egress, clock), tokens_of(second, egress, clock)],
            introspected=_introspected(second, egress, clock),
        )
        assert await chain.authenticate(sign(claims(issuer.url), OTHER_RSA)) is None
        assert await chain.authenticate(sign(claims(second.url), RSA)) is None
        assert second.count("/introspect") == 0


async def test_a_jwt_of_an_unknown_issuer_is_a_matter_of_introspection_or_nobodys(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    token = sign(claims("https://issuer.other.example"))
    asking = Chain(
        issuers=[tokens_of(issuer, egress, clock)], introspected=_introspected(issuer, egress, clock)
    )
    found = await asking.authenticate(token)
    assert found is not None
    assert found.user_id == 5
    assert await Chain(issuers=[tokens_of(issuer, egress, clock)]).authenticate(token) is None


async def test_an_empty_chain_knows_nobody() -> None:
    assert await Chain().authenticate("carol") is None
    assert await Chain(static=StaticTokens()).authenticate("carol") is None


async def test_an_issuer_stands_in_a_chain_once(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock
) -> None:
    with pytest.raises(ValueError, match="twice"):
        Chain(issuers=[tokens_of(issuer, egress, clock)] * 2)


async def test_two_issuers_numbers_are_not_the_same_people(issuer: FakeIssuer) -> None:
    users = NumericSubjects(issuer.url)
    assert await users.user_id(issuer.url, "7") == 7
    assert await users.user_id("https://issuer.other.example", "7") is None
