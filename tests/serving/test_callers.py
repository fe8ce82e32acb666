"""Several who tell who calls: none may name what is another's."""

from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import pytest

from tests.serving.test_refusals import refused
from watchword.auth.gateway import ISSUER as GATEWAY
from watchword.serving.callers import applications_by_source
from watchword.serving.settings import parse

A, B = "https://login.a.example", "https://login.b.example"
ASK = "https://login.b.example/introspect"
SECRET = "a-gateway's-secret-of-32-characters-or-more"


def issuer(url: str, more: str = "") -> str:
    return f'[[issuers]]\nissuer = "{url}"\naudience = "https://api.example"\n{more}'


def introspection(folder: Path, more: str = 'audience = "https://api.example"') -> str:
    secret = folder / "introspection.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return f'[introspection]\nurl = "{ASK}"\nclient_id = "us"\nclient_secret_file = "{secret}"\n{more}\n'


def gateway(folder: Path) -> str:
    secret = folder / "gateway.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return f'[gateway]\nsecret_file = "{secret}"\n'


def application(issuer: str | None = None, name: str = "back-office") -> str:
    told = "" if issuer is None else f'issuer = "{issuer}"\n'
    return f'[[applications]]\nid = "{name}"\nmanages_users = true\n{told}'


def named(*tables: str) -> dict[str, frozenset[str]]:
    deployment, mistakes = parse("\n".join(tables), folder=Path())
    assert mistakes == []
    return dict(applications_by_source(deployment))


def test_with_one_source_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert refused(tmp_path, issuer(A), application()) == []
    assert named(issuer(A), application()) == {A: {"back-office"}}


@pytest.mark.parametrize("other", ["issuer", "introspection", "gateway"])
def test_with_two_sources_each_application_says_whose_client_it_is(tmp_path: Path, other: str) -> None:
    table, name = {
        "issuer": (issuer(B), B),
        "introspection": (introspection(tmp_path), ASK),
        "gateway": (gateway(tmp_path), GATEWAY),
    }[other]
    (found,) = refused(tmp_path, issuer(A), table, application())
    assert found == (
        "applications[1].issuer: must say whose client back-office is, or any issuer's client of that id"
        f' passes for it; write one of "{A}", "{name}", "tokens"'
    )
    for told in (A, name, "tokens"):
        assert refused(tmp_path, issuer(A), table, application(told)) == []
    assert named(issuer(A), table, application(name)) == {A: frozenset(), name: {"back-office"}}
    assert named(issuer(A), table, application("tokens")) == {A: frozenset(), name: frozenset()}


def test_an_application_that_a_static_token_names_says_whose_it_is(tmp_path: Path) -> None:
    digest = sha256(token_hex(32).encode()).hexdigest()
    token = f'[[tokens]]\nsha256 = "{digest}"\nkind = "application"\napplication = "back-office"\n'
    assert refused(tmp_path, token, application()) == []
    (found,) = refused(tmp_path, issuer(A), token, application())
    assert found.startswith(
        "applications[1].issuer: must say whose client back-office is, as [[tokens]] names it"
    )
    for told in (A, "tokens"):
        assert refused(tmp_path, issuer(A), token, application(told)) == []


def test_an_application_of_nobody_is_refused(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, issuer(A), application(B))
    assert found.startswith("applications[1].issuer: is nobody who is configured; write one of")


def test_one_id_at_two_issuers_is_refused(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, issuer(A), issuer(B), application(A), application(B))
    assert found.startswith(
        "applications[2].id: stands in an earlier entry already, which is one application"
    )


def test_an_issuer_that_is_asked_too_is_one_source(tmp_path: Path) -> None:
    both = (issuer(B), introspection(tmp_path, f'issuer = "{B}"\naudience = "https://api.example"'))
    assert refused(tmp_path, *both, application()) == []
    assert named(*both, application()) == {B: {"back-office"}}


def test_an_issuer_that_is_asked_too_names_its_users_in_one_way(tmp_path: Path) -> None:
    both = (
        issuer(B, 'user_claim = "customer"\n'),
        introspection(tmp_path, f'issuer = "{B}"\naudience = "https://api.example"'),
    )
    (found,) = refused(tmp_path, *both)
    assert found.startswith("introspection.user_claim: is sub, and issuers[1].user_claim is customer")


def test_an_audience_that_is_a_client_is_refused(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, issuer(A), application(name="https://api.example"))
    assert found.startswith("issuers[1].audience: https://api.example is one of [[applications]]")
    (found,) = refused(tmp_path, introspection(tmp_path), application(name="https://api.example"))
    assert found.startswith("introspection.audience: https://api.example is one of [[applications]]")


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("client_id", "is the same for many users"),
        ("azp", "is the same for many users"),
        ("iss", "is the same for many users"),
        ("https://bank.example/roles", "is the same for many users"),
        ("jti", "is another in each token"),
        ("session_state", "is another in each token"),
        ("Email", "may change or be given to somebody else"),
        ("https://bank.example/email", "may change or be given to somebody else"),
        ("preferred_username", "may change or be given to somebody else"),
    ],
)
def test_a_claim_that_is_no_users_own_is_refused(tmp_path: Path, claim: str, why: str) -> None:
    (found,) = refused(tmp_path, issuer(A, f'user_claim = "{claim}"\n'))
    assert found.startswith(f"issuers[1].user_claim: {claim} {why}")
    assert "write sub" in found


@pytest.mark.parametrize("claim", ["sub", "oid", "customer_id", "https://bank.example/customer"])
def test_a_claim_that_may_be_a_users_own_is_taken(tmp_path: Path, claim: str) -> None:
    assert refused(tmp_path, issuer(A, f'user_claim = "{claim}"\n')) == []
