"""A gateway that tells in headers who calls: when it is believed, and when not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.app import Answer, call
from watchword.asgi import Document, Receive, Scope, Send
from watchword.auth.gateway import GatewayHeaders, TrustedGateway
from watchword.auth.static import StaticTokens
from watchword.caller import SCOPE_KEY, who
from watchword.domain.user import UserId
from watchword.engine.principal import Principal, PrincipalKind

SECRET = "a-gateway's-secret-of-32-characters-or-more"
NEXT_SECRET = "the-secret-that-the-gateway-gets-next-week"
CAROL = Principal(kind=PrincipalKind.USER, user_id=UserId(9), profile_ids=frozenset({9}))
SEVEN = Principal(kind=PrincipalKind.USER, user_id=UserId(7), profile_ids=frozenset({7}))
Headers = Sequence[tuple[str, str | bytes]]


class Inner:
    """What stands behind: it remembers what reached it."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.principal: Principal | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        if scope["type"] == "http":
            self.principal = await who(scope, StaticTokens({"carol": CAROL}))
            await Document(200, b"", ())(scope, receive, send)


@pytest.fixture
def inner() -> Inner:
    return Inner()


async def _call(
    inner: Inner, headers: Headers, /, *, scope: dict[str, Any] | None = None, **settings: Any
) -> Answer:
    gateway = TrustedGateway(inner, **{"secrets": [SECRET], "applications": {"bank-app"}, **settings})
    return await call(gateway, "GET", "/", list(headers), scope=scope)


def _told(**values: str) -> list[tuple[str, str]]:
    told = {
        "gateway-secret": SECRET,
        "user": "7",
        **{name.replace("_", "-"): value for name, value in values.items()},
    }
    return [(f"x-watchword-{name}", value) for name, value in told.items() if value != "-"]


def _seen(inner: Inner) -> set[bytes]:
    return {name for name, _ in inner.scope["headers"]}


# --- believed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "principal"),
    [
        (_told(), SEVEN),
        (_told(kind="user"), SEVEN),
        (
            _told(profiles="435036, 435037", application="bank-app"),
            Principal(
                kind=PrincipalKind.USER,
                user_id=UserId(7),
                profile_ids=frozenset({435036, 435037}),
                application="bank-app",
            ),
        ),
        (_told(application="somebody-elses"), SEVEN),
        (
            _told(kind="personal"),
            Principal(kind=PrincipalKind.PERSONAL, user_id=UserId(7), profile_ids=frozenset({7})),
        ),
        (
            _told(kind="application", user="-", application="bank-app"),
            Principal(kind=PrincipalKind.APPLICATION, application="bank-app"),
        ),
    ],
    ids=["user", "kind", "profiles", "unknown application", "personal", "application"],
)
async def test_who_the_gateway_names_is_who_calls(
    inner: Inner, headers: Headers, principal: Principal
) -> None:
    answer = await _call(inner, headers)
    assert answer.status == 200
    assert inner.principal == principal


async def test_each_of_several_secrets_is_good(inner: Inner) -> None:
    for secret in (SECRET, NEXT_SECRET):
        answer = await _call(inner, _told(gateway_secret=secret), secrets=[SECRET, NEXT_SECRET])
        assert answer.status == 200
        assert inner.principal == SEVEN


async def test_the_headers_can_have_other_names(inner: Inner) -> None:
    names = GatewayHeaders(secret="x-secret", user="x-user-id", profiles="x-p", application="x-a", kind="x-k")
    answer = await _call(
        inner, [("x-secret", SECRET), ("x-user-id", "7"), ("x-watchword-user", "8")], headers=names
    )
    assert answer.status == 200
    assert inner.principal == SEVEN
    assert _seen(inner) == {b"x-watchword-user"}


async def test_users_may_have_names_that_are_no_numbers(inner: Inner) -> None:
    class Names:
        async def user_id(self, issuer: str, subject: str) -> UserId | None:
            return UserId(7) if (issuer, subject) == ("gateway", "ada@bank.example") else None

    assert (await _call(inner, _told(user="ada@bank.example"), users=Names())).status == 200
    assert inner.principal == SEVEN
    assert (await _call(inner, _told(user="eve@bank.example"), users=Names())).status == 400


@pytest.mark.parametrize(
    ("server", "trusted"),
    [
        (("/run/watchword.sock", None), True),
        (["/run/watchword.sock", "0"], True),
        (("127.0.0.1", 8000), False),
        (("run/watchword.sock", None), False),
        (None, False),
        ((), False),
    ],
    ids=repr,
)
async def test_a_unix_socket_tells_the_gateway_where_that_is_configured(
    inner: Inner, server: object, trusted: bool
) -> None:
    headers = _told(gateway_secret="-")
    await _call(inner, headers, scope={"server": server}, secrets=(), unix_socket=True)
    assert inner.principal == (SEVEN if trusted else None)
    await _call(inner, headers, scope={"server": server})
    assert inner.principal is None


# --- not believed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["", "x", SECRET[:-1], SECRET + "x", SECRET.upper(), "\u00e9" * 40, NEXT_SECRET], ids=repr
)
async def test_a_wrong_secret_is_401_and_nothing_behind_is_asked(inner: Inner, secret: str) -> None:
    answer = await _call(inner, _told(gateway_secret=secret))
    assert answer.status == 401
    assert inner.scope == {}
    also_with_a_token = [*_told(gateway_secret=secret), ("authorization", "Bearer carol")]
    assert (await _call(inner, also_with_a_token)).status == 401


async def test_without_the_secret_the_headers_count_for_nothing(inner: Inner) -> None:
    assert (await _call(inner, _told(gateway_secret="-"))).status == 200
    assert inner.principal is None
    headers = [*_told(gateway_secret="-"), ("authorization", "Bearer carol")]
    assert (await _call(inner, headers)).status == 200
    assert inner.principal == CAROL


@pytest.mark.parametrize(
    "name",
    [
        "x-watchword-user",
        "x_watchword_user",
        "x-watchword_user",
        "x_watchword-kind",
        "x_watchword_profiles",
        "x-watchword-application",
        "x_watchword_gateway_secret",
    ],
)
async def test_nothing_behind_sees_these_headers_or_what_is_taken_for_them(inner: Inner, name: str) -> None:
    for headers in ([(name, SECRET)], [*_told(), (name.replace("-", "_"), "8")]):
        answer = await _call(inner, [*headers, ("x-kept", "yes")])
        if answer.status == 200:
            assert _seen(inner) == {b"x-kept"}
    assert inner.principal == SEVEN


async def test_a_request_without_these_headers_passes_as_it_is(inner: Inner) -> None:
    assert (await _call(inner, [("authorization", "Bearer carol"), ("x-other", "1")])).status == 200
    assert inner.principal == CAROL
    assert _seen(inner) == {b"authorization", b"x-other"}


async def test_the_secret_alone_names_nobody(inner: Inner) -> None:
    headers = [("x-watchword-gateway-secret", SECRET), ("authorization", "Bearer carol")]
    assert (await _call(inner, headers)).status == 200
    assert inner.principal == CAROL
    assert _seen(inner) == {b"authorization"}


async def test_what_stood_in_the_scope_before_is_not_the_gateways_word(inner: Inner) -> None:
    await _call(inner, [], scope={SCOPE_KEY: SEVEN})
    assert inner.principal is None


@pytest.mark.parametrize("scheme", ["Bearer carol", "bearer carol", " Bearer carol", "BEARER"])
async def test_a_caller_who_is_named_twice_is_refused(inner: Inner, scheme: str) -> None:
    assert (await _call(inner, [*_told(), ("authorization", scheme)])).status == 400
    assert inner.scope == {}


@pytest.mark.parametrize("name", GatewayHeaders().names())
async def test_a_header_that_stands_twice_is_refused(inner: Inner, name: str) -> None:
    value = dict(_told(profiles="7", application="bank-app", kind="user"))[name]
    headers = [*_told(profiles="7", application="bank-app", kind="user"), (name, value)]
    assert (await _call(inner, headers)).status == 400
    assert inner.scope == {}


@pytest.mark.parametrize(
    "values",
    [
        {"user": "-", "profiles": "7"},
        {"user": "-", "kind": "user"},
        {"user": ""},
        {"user": "0"},
        {"user": "-7"},
        {"user": "07"},
        {"user": "7.0"},
        {"user": "7,8"},
        {"user": "\u00b2"},
        {"user": str(2**53)},
        {"user": "7\t8"},
        {"user": "9" * 300},
        {"profiles": ""},
        {"profiles": "7,"},
        {"profiles": "7;8"},
        {"profiles": "7,-8"},
        {"profiles": ",".join(["7"] * 1001)},
        {"kind": ""},
        {"kind": "USER"},
        {"kind": "admin"},
        {"kind": "application"},
        {"kind": "application", "user": "-"},
        {"kind": "application", "user": "-", "application": "somebody-elses"},
        {"kind": "application", "user": "-", "application": "bank-app", "profiles": "7"},
        {"kind": "application", "application": "bank-app"},
        {"application": ""},
        {"application": "x" * 256},
        {"application": "b\u00e4nk"},
    ],
    ids=repr,
)
async def test_what_the_gateway_says_is_read_strictly(inner: Inner, values: dict[str, str]) -> None:
    answer = await _call(inner, _told(**values))
    assert answer.status == 400
    assert inner.scope == {}


async def test_a_websocket_is_closed_where_a_request_would_be_refused(inner: Inner) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    gateway = TrustedGateway(inner, secrets=[SECRET])
    headers = [(b"x-watchword-gateway-secret", b"wrong"), (b"x-watchword-user", b"7")]
    await gateway({"type": "websocket", "headers": headers}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    good = [(b"x-watchword-gateway-secret", SECRET.encode()), (b"x-watchword-user", b"7")]
    await gateway({"type": "websocket", "headers": good}, receive, send)
    assert inner.scope[SCOPE_KEY] == SEVEN
    await gateway({"type": "lifespan"}, receive, send)
    assert inner.scope == {"type": "lifespan"}


@pytest.mark.parametrize(
    "settings",
    [
        {"secrets": []},
        {"secrets": ["x" * 31]},
        {"secrets": [SECRET, ""]},
        {"secrets": ["\u00e9" * 32]},
        {"headers": GatewayHeaders(user="x-watchword-kind")},
    ],
    ids=repr,
)
def test_a_gateway_that_anybody_could_be_does_not_start(inner: Inner, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="gateway"):
        TrustedGateway(inner, **{"secrets": [SECRET], **settings})


def test_no_secret_is_shown(inner: Inner, tmp_path: Path) -> None:
    assert SECRET not in repr(vars(TrustedGateway(inner, secrets=[SECRET])))
