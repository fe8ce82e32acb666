"""From settings to authenticators."""

from collections.abc import Container, Iterable, Mapping, Sequence
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
    ANY_AUDIENCE,
    GatewayTable,
    IntrospectionTable,
    IssuerTable,
    TokenTable,
    client_secret,
    gateway_secrets,
)
from watchword.auth.static import StaticTokens
from watchword.domain.user import UserId
from watchword.engine.ports import Clock
from watchword.engine.principal import Principal, PrincipalKind


def chain(
    *,
    users: Users,
    applications: Mapping[str, Container[str]],
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
        applications: The client ids that each issuer may name, by the issuer.
        folder: Where the configuration file is, which files with secrets are named from.

    Raises:
        SecretFileError: A file with a secret cannot be used.
    """
    return Chain(
        static=static_tokens(tokens) if tokens else None,
        issuers=[
            jwt_tokens(
                table,
                users=users,
                applications=applications.get(table.issuer, ()),
                egress=egress,
                clock=clock,
            )
            for table in issuers
        ],
        introspected=None
        if introspection is None
        else introspected_tokens(
            introspection,
            users=users,
            applications=applications.get(introspection.source, ()),
            egress=egress,
            clock=clock,
            folder=folder,
        ),
        clock=clock,
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
        SecretFileError: The client's secret cannot be had, or could be guessed.
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
        client_secret=client_secret(folder / table.client_secret_file),
        issuer=table.issuer,
        audience=None if table.audience == ANY_AUDIENCE else table.audience,
        remember=table.cache_seconds,
        remember_no=min(table.cache_seconds, 5),
    )


def behind_gateway(
    app: ASGIApp,
    table: GatewayTable,
    *,
    users: Users | None,
    applications: Container[str],
    clock: Clock,
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
        clock=clock,
    )
