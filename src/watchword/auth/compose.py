"""From settings to authenticators."""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from watchword.asgi import ASGIApp
from watchword.auth.chain import Chain
from watchword.auth.claims import ClaimRules, Users
from watchword.auth.egress import Egress
from watchword.auth.gateway import TrustedGateway
from watchword.auth.introspection import IntrospectedTokens
from watchword.auth.jwt import JwtTokens
from watchword.auth.keys import IssuerKeys
from watchword.auth.settings import (
    GatewayTable,
    IntrospectionTable,
    IssuerTable,
    TokenTable,
    gateway_secrets,
    read_secrets,
)
from watchword.auth.static import StaticTokens
from watchword.domain.user import UserId
from watchword.engine.ports import Clock
from watchword.engine.principal import Principal, PrincipalKind


def chain(
    *,
    users: Users,
    applications: Container[str],
    egress: Egress,
    clock: Clock,
    issuers: Sequence[IssuerTable] = (),
    introspection: IntrospectionTable | None = None,
    tokens: Sequence[TokenTable] = (),
    folder: Path,
) -> Chain:
    """
    Make the authenticator of a server; its tables have no faults.

    Args:
        applications: The client ids of the applications that are configured.
        folder: Where the configuration file is, which files with secrets are named from.

    Raises:
        SecretFileError: A file with a secret cannot be used.
    """
    return Chain(
        static=static_tokens(tokens) if tokens else None,
        issuers=[
            jwt_tokens(table, users=users, applications=applications, egress=egress, clock=clock)
            for table in issuers
        ],
        introspected=None
        if introspection is None
        else introspected_tokens(
            introspection, users=users, applications=applications, egress=egress, clock=clock, folder=folder
        ),
    )


def static_tokens(tables: Iterable[TokenTable]) -> StaticTokens:
    """Make the authenticator of ``[[tokens]]``."""
    tokens = StaticTokens()
    for table in tables:
        user_id = None if table.user_id is None else UserId(table.user_id)
        own = () if user_id is None else (int(user_id),)
        tokens.add_digest(
            table.sha256,
            Principal(
                kind=PrincipalKind(table.kind),
                user_id=user_id,
                profile_ids=frozenset(own if table.profile_ids is None else table.profile_ids),
                application=table.application,
            ),
        )
    return tokens


def jwt_tokens(
    table: IssuerTable, *, users: Users, applications: Container[str], egress: Egress, clock: Clock
) -> JwtTokens:
    """Make the authenticator of one ``[[issuers]]`` entry."""
    return JwtTokens(
        table.issuer,
        table.audience,
        IssuerKeys(table.issuer, egress, clock, url=table.jwks_url),
        ClaimRules(
            users=users,
            applications=applications,
            user_claim=table.user_claim,
            profiles_claim=table.profiles_claim,
        ),
        clock,
        algorithms=table.algorithms,
        leeway=table.leeway_seconds,
        strict_type=table.typ == "at+jwt",
    )


def introspected_tokens(
    table: IntrospectionTable,
    *,
    users: Users,
    applications: Container[str],
    egress: Egress,
    clock: Clock,
    folder: Path,
) -> IntrospectedTokens:
    """
    Make the authenticator of ``[introspection]``.

    Raises:
        SecretFileError: The client's secret cannot be had.
    """
    return IntrospectedTokens(
        table.url,
        egress,
        ClaimRules(
            users=users,
            applications=applications,
            user_claim=table.user_claim,
            profiles_claim=table.profiles_claim,
            subjectless_applications=table.subjectless_applications,
        ),
        clock,
        client_id=table.client_id,
        client_secret=read_secrets(folder / table.client_secret_file)[0],
        issuer=table.issuer,
        audience=table.audience,
        remember=table.cache_seconds,
        remember_no=min(table.cache_seconds, 5),
    )


def behind_gateway(
    app: ASGIApp,
    table: GatewayTable,
    *,
    users: Users | None,
    applications: Container[str],
    folder: Path,
) -> TrustedGateway:
    """
    Make the middleware of ``[gateway]``.

    Raises:
        SecretFileError: The gateway's secret cannot be had, or could be guessed.
    """
    return TrustedGateway(
        app,
        secrets=gateway_secrets(folder / table.secret_file),
        headers=table.headers(),
        users=users,
        applications=applications,
    )
