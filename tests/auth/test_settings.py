"""Settings of access tokens: what is unsafe is named, with what to write instead."""

import os
import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.app import call
from tests.auth.support import APPLICATION, AUDIENCE, FakeIssuer, claims, sign
from tests.docs.documents import blocks, read
from tests.factories import FixedClock
from watchword.asgi import Document, Receive, Scope, Send
from watchword.auth.claims import NumericSubjects
from watchword.auth.compose import behind_gateway, chain
from watchword.auth.egress import Egress
from watchword.auth.settings import (
    GatewayTable,
    IntrospectionTable,
    IssuerTable,
    SecretFileError,
    TokenTable,
    gateway_secrets,
    read_secrets,
    repeated_tokens,
)
from watchword.caller import SCOPE_KEY
from watchword.domain.user import UserId
from watchword.engine.principal import Principal, PrincipalKind

DIGEST = sha256(b"carol").hexdigest()
ISSUER = {"issuer": "https://login.bank.example", "audience": "https://api.bank.example"}
INTROSPECTION = {
    "url": "https://login.bank.example/introspect",
    "client_id": "watchword",
    "client_secret_file": "introspection.secret",
    "audience": "https://api.bank.example",
}
TOKEN = {"sha256": DIGEST, "kind": "user", "user_id": 7}
GATEWAY = {"secret_file": "gateway.secret"}
GOOD: Mapping[Any, Mapping[str, Any]] = {
    IssuerTable: ISSUER,
    IntrospectionTable: INTROSPECTION,
    TokenTable: TOKEN,
    GatewayTable: GATEWAY,
}
SECRET = "a-gateway's-secret-of-32-characters-or-more"


def _secret(folder: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (IssuerTable, ISSUER),
        (IssuerTable, {**ISSUER, "issuer": "http://127.0.0.1:8080", "jwks_url": "http://[::1]:1/jwks"}),
        (
            IssuerTable,
            {**ISSUER, "issuer": "http://localhost/realms/bank", "algorithms": ["ES256"], "typ": "at+jwt"},
        ),
        (IssuerTable, {**ISSUER, "issuer": "https://10.0.0.7/", "leeway_seconds": 0}),
        (IssuerTable, {**ISSUER, "issuer": f"https://{'a' * 63}.login_service./"}),
        (IssuerTable, {**ISSUER, "issuer": f"https://{'a.' * 126}a"}),
        (IntrospectionTable, INTROSPECTION),
        (
            IntrospectionTable,
            {**INTROSPECTION, "issuer": ISSUER["issuer"], "audience": "*", "cache_seconds": 0},
        ),
        (TokenTable, TOKEN),
        (TokenTable, {**TOKEN, "sha256": DIGEST.upper(), "kind": "personal", "profile_ids": [1, 2]}),
        (TokenTable, {"sha256": DIGEST, "kind": "application", "application": "bank-app"}),
        (GatewayTable, GATEWAY),
        (GatewayTable, {**GATEWAY, "user_header": "X-Remote-User"}),
    ],
)
def test_safe_settings_have_no_faults(table: type[Any], values: Mapping[str, Any]) -> None:
    assert list(msgspec.convert(values, table).faults()) == []


@pytest.mark.parametrize(
    ("table", "changes", "expected"),
    [
        (IssuerTable, {"issuer": "http://login.bank.example"}, "issuer: write https://"),
        (IssuerTable, {"issuer": "login.bank.example"}, "issuer: not a URL with a host"),
        (IssuerTable, {"issuer": "https://[login"}, "issuer: not a URL"),
        (IssuerTable, {"issuer": "https://login..bank.example"}, "issuer: not a URL with a host that can be"),
        (IssuerTable, {"issuer": f"https://{'a' * 64}.example"}, "issuer: not a URL with a host that can be"),
        (IssuerTable, {"issuer": f"https://{'a.' * 126}ab"}, "issuer: not a URL with a host that can be"),
        (IssuerTable, {"issuer": "https://login.bank.example:x"}, "issuer: not a URL"),
        (IssuerTable, {"issuer": "https://login.bank.example/#x"}, "issuer: a URL to be fetched has no #"),
        (IssuerTable, {"issuer": "https://me@login.bank.example"}, "issuer: a URL holds no user"),
        (IssuerTable, {"jwks_url": "file:///etc/jwks"}, "jwks_url: not a URL with a host"),
        (IssuerTable, {"jwks_url": "http://10.0.0.7/jwks"}, "jwks_url: write https://"),
        (IssuerTable, {"jwks_url": "https://169.254.169.254/"}, "jwks_url: not an address of an issuer"),
        (IssuerTable, {"jwks_url": "https://[::ffff:a9fe:a9fe]/"}, "jwks_url: not an address of an issuer"),
        (IssuerTable, {"audience": ""}, "audience: must not be empty"),
        (IssuerTable, {"audience": "*"}, "audience: must be one name"),
        (IssuerTable, {"algorithms": []}, "algorithms: must not be empty"),
        (IssuerTable, {"algorithms": ["HS256"]}, "algorithms: 'HS256' is not taken; write some of"),
        (IssuerTable, {"algorithms": ["RS256", "none"]}, "algorithms: 'none' is not taken"),
        (IssuerTable, {"user_claim": ""}, "user_claim: must not be empty"),
        (IssuerTable, {"user_claim": "email"}, "user_claim: email may change"),
        (IssuerTable, {"profiles_claim": ""}, "profiles_claim: must not be empty"),
        (IssuerTable, {"leeway_seconds": 301}, "leeway_seconds: must be from 0 to 300"),
        (IssuerTable, {"leeway_seconds": -1}, "leeway_seconds: must be from 0 to 300"),
        (IntrospectionTable, {"url": "http://login.bank.example"}, "url: write https://"),
        (IntrospectionTable, {"client_id": ""}, "client_id: must not be empty"),
        (IntrospectionTable, {"client_secret_file": ""}, "client_secret_file: must name a file"),
        (IntrospectionTable, {"cache_seconds": 301}, "cache_seconds: must be from 0 to 300"),
        (IntrospectionTable, {"issuer": ""}, "issuer: must not be empty"),
        (IntrospectionTable, {"audience": ""}, "audience: must be what the issuer puts"),
        (IntrospectionTable, {"audience": None}, "audience: must be what the issuer puts"),
        (IntrospectionTable, {"issuer": "gateway"}, "issuer: gateway means something else"),
        (IntrospectionTable, {"issuer": "tokens"}, "issuer: tokens means something else"),
        (IntrospectionTable, {"user_claim": "preferred_username"}, "user_claim: preferred_username may"),
        (TokenTable, {"sha256": "carol"}, "sha256: must be the 64 hexadecimal digits"),
        (TokenTable, {"sha256": DIGEST[:-1]}, "sha256: must be the 64 hexadecimal digits"),
        (TokenTable, {"sha256": DIGEST[:-2] + "0x"}, "sha256: must be the 64 hexadecimal digits"),
        (TokenTable, {"sha256": "0" * 64}, "sha256: is the digest of no token"),
        (TokenTable, {"user_id": None}, "user_id: must be the number of the user"),
        (TokenTable, {"user_id": 0}, "user_id: must be from 1"),
        (TokenTable, {"user_id": 2**53}, "user_id: must be from 1"),
        (TokenTable, {"profile_ids": [0]}, "profile_ids: must be from 1"),
        (TokenTable, {"profile_ids": [1] * 1001}, "profile_ids: must be 1000 at most"),
        (TokenTable, {"application": ""}, "application: must not be empty"),
        (TokenTable, {"kind": "application", "user_id": None}, "application: must be the client id"),
        (TokenTable, {"kind": "application", "application": "x"}, "user_id, profile_ids: an application's"),
        (GatewayTable, {"secret_file": ""}, "secret_file: must name a file"),
        (GatewayTable, {"user_header": "x user"}, "user_header: must be a header's name"),
        (GatewayTable, {"user_header": "x_user"}, "user_header: must be a header's name"),
        (GatewayTable, {"kind_header": ""}, "kind_header: must be a header's name"),
        (GatewayTable, {"secret_header": "Authorization"}, "secret_header: authorization has a meaning"),
        (GatewayTable, {"user_header": "X-Watchword-Kind"}, "five different names"),
    ],
    ids=repr,
)
def test_an_unsafe_setting_is_named_with_what_to_write(
    table: type[Any], changes: Mapping[str, Any], expected: str
) -> None:
    (fault,) = msgspec.convert({**GOOD[table], **changes}, table).faults()
    assert expected in fault


def test_a_token_that_stands_where_its_digest_belongs_is_not_shown() -> None:
    (fault,) = msgspec.convert({**TOKEN, "sha256": "wwt_secret"}, TokenTable).faults()
    assert "wwt_secret" not in fault


def test_all_faults_are_named_together() -> None:
    table = IssuerTable(issuer="x", audience="", algorithms=("HS256",), leeway_seconds=-1)
    assert len(list(table.faults())) == 4


@pytest.mark.parametrize("table", [IssuerTable, IntrospectionTable, TokenTable, GatewayTable])
def test_a_setting_that_is_misspelt_is_none(table: type[Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**GOOD[table], "audiense": "x"}, table)


def test_a_token_with_two_holders_is_named() -> None:
    tables = [
        TokenTable(sha256=digest, kind="user", user_id=7) for digest in (DIGEST, "1" * 64, DIGEST.upper())
    ]
    (fault,) = repeated_tokens(tables)
    assert fault.startswith("tokens[3].sha256")


# --- the documentation ------------------------------------------------------------------------

HOW_TO = read("docs/how-to/take-your-access-tokens.md")
TABLES = {
    "issuers": IssuerTable,
    "introspection": IntrospectionTable,
    "tokens": TokenTable,
    "gateway": GatewayTable,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_setting_is_told_of(table: type[msgspec.Struct]) -> None:
    told = {
        name for row in re.findall(r"^\|.*\|$", HOW_TO, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert set(table.__struct_fields__) - told == set()


def test_every_table_shown_is_safe() -> None:
    shown: list[str] = []
    for block in blocks(HOW_TO):
        if block.text.startswith("["):
            for name, value in tomllib.loads(block.text).items():
                entry = value[0] if isinstance(value, list) else value
                if name in TABLES:
                    assert list(msgspec.convert(entry, TABLES[name]).faults()) == []
                    shown.append(name)
    assert set(shown) == set(TABLES)


# --- files with secrets -----------------------------------------------------------------------


def test_secrets_are_read_one_a_line(tmp_path: Path) -> None:
    path = _secret(tmp_path, "gateway.secret", f"{SECRET}\n\n  {SECRET}-next \n")
    assert gateway_secrets(path) == (SECRET, f"{SECRET}-next")


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("", 0o600, "is empty"),
        (" \n", 0o600, "is empty"),
        ("caf\u00e9", 0o600, "ASCII"),
        (SECRET, 0o640, "chmod 600"),
        (SECRET, 0o604, "chmod 600"),
        ("short", 0o600, "openssl rand"),
    ],
)
def test_a_secret_that_is_none_says_what_to_do(tmp_path: Path, text: str, mode: int, expected: str) -> None:
    path = _secret(tmp_path, "gateway.secret", text, mode)
    with pytest.raises(SecretFileError, match=expected) as caught:
        gateway_secrets(path)
    assert SECRET not in str(caught.value)


def test_a_secret_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match=os.strerror(2)):
        read_secrets(tmp_path / "gateway.secret")


# --- from tables to authenticators ------------------------------------------------------------


async def test_tables_become_a_chain(
    issuer: FakeIssuer, egress: Egress, clock: FixedClock, tmp_path: Path
) -> None:
    _secret(tmp_path, "introspection.secret", "of the client\n")
    made = chain(
        users=NumericSubjects(issuer.url),
        applications={issuer.url: frozenset({APPLICATION})},
        egress=egress,
        clock=clock,
        issuers=[IssuerTable(issuer=issuer.url, audience=AUDIENCE, typ="at+jwt")],
        introspection=IntrospectionTable(
            url=f"{issuer.url}/introspect",
            client_id="us",
            client_secret_file="introspection.secret",
            audience="*",
        ),
        tokens=[
            TokenTable(sha256=DIGEST, kind="personal", user_id=7, profile_ids=(1, 2), application="a"),
            TokenTable(sha256=sha256(b"app").hexdigest(), kind="application", application="a"),
            TokenTable(sha256=sha256(b"bare").hexdigest(), kind="user", user_id=8),
        ],
        folder=tmp_path,
    )
    assert await made.authenticate("carol") == Principal(
        kind=PrincipalKind.PERSONAL, user_id=UserId(7), profile_ids=frozenset({1, 2}), application="a"
    )
    assert await made.authenticate("app") == Principal(kind=PrincipalKind.APPLICATION, application="a")
    assert await made.authenticate("bare") == Principal(
        kind=PrincipalKind.USER, user_id=UserId(8), profile_ids=frozenset({8})
    )
    assert await made.authenticate(sign(claims(issuer.url))) is not None
    assert await made.authenticate(sign(claims(issuer.url), typ="JWT")) is None
    issuer.replies["/introspect"] = issuer.replies["/jwks"]
    assert await made.authenticate("opaque") is None
    assert issuer.count("/introspect") == 1


async def test_a_table_becomes_a_gateway(tmp_path: Path, clock: FixedClock) -> None:
    _secret(tmp_path, "gateway.secret", SECRET)
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get(SCOPE_KEY))
        await Document(200, b"", ())(scope, receive, send)

    table = GatewayTable(secret_file="gateway.secret", user_header="X-Remote-User")
    gateway = behind_gateway(app, table, users=None, applications=frozenset(), clock=clock, folder=tmp_path)
    headers = [("X-Watchword-Gateway-Secret", SECRET), ("X-Remote-User", "7")]
    assert (await call(gateway, "GET", "/", headers)).status == 200
    assert seen == [
        Principal(kind=PrincipalKind.USER, user_id=UserId(7), profile_ids=frozenset({7})),
    ]
