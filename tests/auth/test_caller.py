"""Who makes a request."""

import pytest

from tests.app import call
from watchword import problems
from watchword.asgi import Scope
from watchword.auth.static import StaticTokens
from watchword.caller import SCOPE_KEY, AmbiguousCallerError, who
from watchword.domain.user import UserId
from watchword.engine.principal import AuthenticatorUnavailableError, Principal, PrincipalKind
from watchword.server.edge import Edge

CAROL = Principal(kind=PrincipalKind.USER, user_id=UserId(9))
DAVE = Principal(kind=PrincipalKind.USER, user_id=UserId(10))
TOKENS = StaticTokens({"carol": CAROL})
BEARER = (b"authorization", b"Bearer carol")


@pytest.mark.parametrize(
    ("scope", "principal"),
    [
        ({"headers": [BEARER]}, CAROL),
        ({"headers": [(b"accept", b"*/*"), (b"authorization", b"bearer  carol ")]}, CAROL),
        ({"headers": []}, None),
        ({"headers": [(b"authorization", b"Bearer dave")]}, None),
        ({"headers": [(b"authorization", b"Basic carol")]}, None),
        ({"headers": [(b"authorization", b"Bearer")]}, None),
        ({"headers": [(b"authorization", b"Bearer c\xe4rol")]}, None),
        ({"headers": [], SCOPE_KEY: DAVE}, DAVE),
    ],
)
async def test_a_caller_is_whom_the_gateway_or_the_token_tells(
    scope: Scope, principal: Principal | None
) -> None:
    assert await who(scope, TOKENS) == principal


async def test_two_access_tokens_tell_nobody() -> None:
    with pytest.raises(AmbiguousCallerError):
        await who({"headers": [BEARER, BEARER]}, TOKENS)


async def test_an_issuer_that_cannot_be_asked_is_a_503() -> None:
    class Down:
        async def authenticate(self, token: str) -> Principal | None:
            raise AuthenticatorUnavailableError

    async def app(scope: Scope, receive: object, send: object) -> None:
        await who(scope, Down())

    answer = await call(Edge(app, trace_id=lambda: "0" * 32), "GET", "/", [("authorization", "Bearer carol")])
    assert answer.status == 503
    assert answer.header("retry-after") == str(problems.RETRY_SOON_SECONDS)
