"""
Settings: how access tokens are told apart, as a configuration file says it.

Each table reads strictly and names its own faults: what is unsafe, and what to write instead.
"""

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from watchword.auth.claims import ID_MAX, PROFILES_CLAIM, SUBJECT_CLAIM
from watchword.auth.egress import url_fault
from watchword.auth.gateway import ISSUER as GATEWAY, SECRET_CHARACTERS_MIN, GatewayHeaders
from watchword.auth.guessable import DIFFERENT_MIN, is_guessable, is_well_known
from watchword.auth.introspection import REMEMBER_SECONDS
from watchword.auth.jwt import LEEWAY_SECONDS, LEEWAY_SECONDS_MAX
from watchword.auth.keys import ALGORITHMS
from watchword.auth.static import DIGEST_BYTES

INTROSPECTION_SECONDS_MAX = 300
ANY_AUDIENCE = "*"
"""What an operator writes where an issuer's introspection endpoint knows by itself what is for us."""

STATIC = "tokens"
"""The source of an application that ``[[tokens]]`` alone names."""

_HEADER_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_HEX = frozenset("0123456789abcdef")
_PROFILES_MAX = 1_000
# Headers that something else between a client and us reads, or writes, or that the wire has.
_TAKEN_HEADERS = frozenset(
    {
        *("authorization", "cookie", "set-cookie", "host", "connection", "keep-alive", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "range", "date", "via", "forwarded", "origin", "referer"),
        *("user-agent", "from", "cache-control", "pragma", "location", "server", "vary", "age", "x-real-ip"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id"),
        *("x-http-method", "x-http-method-override", "x-method-override", "traceparent", "tracestate"),
        *("one-time-token", "x-2fa-approval", "x-2fa-approval-result", "x-signature", "x-trace-id"),
        *("x-external-correlation-id", "x-rate-limited-by", "x-device-key", "x-watchword-sandbox"),
    }
)
_TAKEN_BEGINNINGS = ("accept", "access-control-", "content-", "if-", "proxy-", "sec-", "x-tw-")

# Claims by what they cannot be for, without case and punctuation.
_SHARED_CLAIMS = frozenset(
    {
        *("iss", "aud", "clientid", "azp", "appid", "org", "scope", "scp", "tid", "acr", "amr", "typ"),
        *("active", "tokentype", "tokenuse", "role", "roles", "groups", "permissions", "locale"),
        *("zoneinfo", "gender", "emailverified", "phonenumberverified", "profileids", "orgid"),
        *("tenant", "tenantid"),
    }
)
_PASSING_CLAIMS = frozenset(
    {
        *("exp", "iat", "nbf", "jti", "sid", "authtime", "nonce", "athash", "chash", "shash", "uti"),
        *("origjti", "updatedat", "sessionstate", "ver"),
    }
)
_GIVEN_CLAIMS = frozenset(
    {
        *("name", "givenname", "familyname", "middlename", "nickname", "displayname", "uniquename"),
        *("upn", "login", "loginname", "loginid", "phone", "phoneno", "telephone", "contact"),
        *("phonenumber", "mobile", "msisdn", "mail", "picture", "profile", "birthdate", "address"),
    }
)
_GIVEN_PARTS = ("email", "username", "mailaddress")


class SecretFileError(Exception):
    """A file with a secret cannot be used; says what to do."""


class IssuerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One ``[[issuers]]`` entry: an issuer of signed access tokens.

    Attributes:
        issuer: Exactly as its tokens name it in ``iss``.
        audience: What its tokens for us name in ``aud``.
        jwks_url: Where its keys are; without it, its OpenID Connect discovery document tells.
        algorithms: Which signatures are taken.
        user_claim: The claim that names the user.
        profiles_claim: The claim that lists the user's profiles.
        leeway_seconds: By how much its clock may differ from ours.
        typ: ``at+jwt`` takes what follows RFC 9068 to the letter; ``jwt`` also takes ``typ: JWT`` or
            none, where the claims tell an access token.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ALGORITHMS
    user_claim: str = SUBJECT_CLAIM
    profiles_claim: str = PROFILES_CLAIM
    leeway_seconds: int = LEEWAY_SECONDS
    typ: Literal["at+jwt", "jwt"] = "jwt"

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead."""
        for name, url in (("issuer", self.issuer), ("jwks_url", self.jwks_url)):
            wrong = None if url is None else url_fault(url)
            if wrong is not None:
                yield f"{name}: {wrong}"
        if not self.audience:
            yield "audience: must not be empty; write what the issuer puts into aud of tokens for this API"
        if self.audience == ANY_AUDIENCE:
            yield "audience: must be one name; write what the issuer puts into aud of tokens for this API"
        if not self.algorithms:
            yield f"algorithms: must not be empty; leave it out for all of {', '.join(ALGORITHMS)}"
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                yield f"algorithms: {_shown(algorithm)} is not taken; write some of {', '.join(ALGORITHMS)}"
        yield from _claim_faults(self.user_claim, self.profiles_claim)
        if not 0 <= self.leeway_seconds <= LEEWAY_SECONDS_MAX:
            yield f"leeway_seconds: must be from 0 to {LEEWAY_SECONDS_MAX}; {LEEWAY_SECONDS} is usual"


class IntrospectionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[introspection]`` table: an issuer that is asked about each access token.

    Attributes:
        url: Its introspection endpoint.
        client_id: As whom we ask.
        client_secret_file: Where that client's secret is.
        cache_seconds: For how long an answer is believed, and a revoked token goes on.
        issuer: Whose users they are; name the same as in ``[[issuers]]`` if it is the same issuer.
        audience: What a token must name in ``aud``; ``*`` says that the issuer answers us for tokens of
            this API alone, so that it need not be looked at.
        user_claim: The member that names the user.
        profiles_claim: The member that lists the user's profiles.
        subjectless_applications: Whether an answer with neither ``sub`` nor ``username`` is of an
            application's own token. Ask the issuer's documentation before: a user's token that is
            answered for so would be taken for its application's.
    """

    url: str
    client_id: str
    client_secret_file: str
    cache_seconds: int = REMEMBER_SECONDS
    issuer: str | None = None
    audience: str | None = None
    user_claim: str = SUBJECT_CLAIM
    profiles_claim: str = PROFILES_CLAIM
    subjectless_applications: bool = False

    @property
    def source(self) -> str:
        """Under which name its users are kept, and its applications named."""
        return self.issuer or self.url

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead."""
        wrong = url_fault(self.url)
        if wrong is not None:
            yield f"url: {wrong}"
        if not self.client_id:
            yield "client_id: must not be empty; the issuer answers only clients that it knows"
        if not self.client_secret_file:
            yield "client_secret_file: must name a file; a secret does not belong in this one"
        if not 0 <= self.cache_seconds <= INTROSPECTION_SECONDS_MAX:
            yield (
                f"cache_seconds: must be from 0 to {INTROSPECTION_SECONDS_MAX}: so long a revoked token "
                f"goes on; {REMEMBER_SECONDS} is usual"
            )
        if self.issuer is not None and not self.issuer:
            yield "issuer: must not be empty; leave it out where nothing else has its users"
        if self.issuer in {GATEWAY, STATIC}:
            yield f"issuer: {self.issuer} means something else here; write the issuer's URL"
        if not self.audience:
            yield (
                "audience: must be what the issuer puts into aud of tokens for this API, or a token for any"
                f' other API is good here; write "{ANY_AUDIENCE}" if the issuer answers this client for'
                " tokens of this API alone"
            )
        yield from _claim_faults(self.user_claim, self.profiles_claim)


class TokenTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One ``[[tokens]]`` entry: an access token that never changes, for programs and for trying out.

    Attributes:
        sha256: The SHA-256 of the token, in hexadecimal digits; the token itself stands nowhere.
        kind: Whose it is: a user's, a user's for programs, or an application's own.
        user_id: The user; none for an application.
        profile_ids: The user's profiles; without it one, of his own number.
        application: The application's client id.
    """

    sha256: str
    kind: Literal["user", "personal", "application"]
    user_id: int | None = None
    profile_ids: tuple[int, ...] | None = None
    application: str | None = None

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead."""
        digits = self.sha256.lower()
        if len(digits) != 2 * DIGEST_BYTES or not _HEX.issuperset(digits):
            # Not shown: what stands there may be the token itself.
            yield "sha256: must be the 64 hexadecimal digits of the token's SHA-256, and not the token"
        elif len(set(digits)) == 1:
            yield "sha256: is the digest of no token; write the one of a random token"
        elif is_well_known(digits):
            yield (
                "sha256: is that of nothing, or of a word that everybody tries; make a token with:"
                " openssl rand -hex 32"
            )
        yield from self._holder_faults()
        if self.application is not None and not self.application:
            yield "application: must not be empty; leave it out where the token belongs to none"
        if self.profile_ids is not None:
            if not all(1 <= profile <= ID_MAX for profile in self.profile_ids):
                yield "profile_ids: must be from 1 to 2^53 - 1"
            if len(self.profile_ids) > _PROFILES_MAX:
                yield f"profile_ids: must be {_PROFILES_MAX} at most"

    def _holder_faults(self) -> Iterator[str]:
        if self.kind == "application":
            if self.application is None:
                yield "application: must be the client id of the application whose token it is"
            if self.user_id is not None or self.profile_ids is not None:
                yield "user_id, profile_ids: an application's own token has no user; leave them out"
        elif self.user_id is None:
            yield "user_id: must be the number of the user whose token it is"
        elif not 1 <= self.user_id <= ID_MAX:
            yield "user_id: must be from 1 to 2^53 - 1"


class GatewayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[gateway]`` table: a gateway in front that authenticates, and tells in headers who calls.

    Attributes:
        secret_file: Holds the secret that the gateway sends; a second line is good as well.
        secret_header: Where the gateway sends it.
        user_header: Holds the user's id.
        profiles_header: Holds the user's profiles, separated by commas.
        application_header: Holds the application's client id.
        kind_header: Holds ``user``, ``personal`` or ``application``.
    """

    secret_file: str
    secret_header: str = GatewayHeaders.secret
    user_header: str = GatewayHeaders.user
    profiles_header: str = GatewayHeaders.profiles
    application_header: str = GatewayHeaders.application
    kind_header: str = GatewayHeaders.kind

    def headers(self) -> GatewayHeaders:
        """Return the names in lower case, as they come."""
        return GatewayHeaders(
            secret=self.secret_header.lower(),
            user=self.user_header.lower(),
            profiles=self.profiles_header.lower(),
            application=self.application_header.lower(),
            kind=self.kind_header.lower(),
        )

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead."""
        if not self.secret_file:
            yield "secret_file: must name a file; without a secret everybody is the gateway"
        names = self.headers().names()
        fields = ("secret_header", "user_header", "profiles_header", "application_header", "kind_header")
        for field, name in zip(fields, names, strict=True):
            if not name or not _HEADER_CHARACTERS.issuperset(name):
                yield f"{field}: must be a header's name, of letters, digits and hyphens"
            elif name in _TAKEN_HEADERS or name.startswith(_TAKEN_BEGINNINGS):
                yield f"{field}: {name} has a meaning of its own; write one that only the gateway sends"
        if len(set(names)) < len(names):
            yield f"{', '.join(fields)}: must be five different names"


def read_secrets(path: Path) -> tuple[str, ...]:
    """
    Return the secrets of a file, one a line.

    Raises:
        SecretFileError: It is missing, empty, or others than its owner may read it.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SecretFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise SecretFileError(f"{path}: a secret is of ASCII characters") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretFileError(f"{path}: others may read it; run: chmod 600 {path}")
    secrets = tuple(line.strip() for line in lines if line.strip())
    if not secrets:
        raise SecretFileError(f"{path}: is empty; write the secret into it")
    return secrets


def gateway_secrets(path: Path) -> tuple[str, ...]:
    """
    Return the secrets that a gateway may send.

    Raises:
        SecretFileError: The file cannot be used, or one of them could be guessed.
    """
    secrets = read_secrets(path)
    check_random(path, secrets)
    if any(len(secret) < SECRET_CHARACTERS_MIN for secret in secrets):
        raise SecretFileError(
            f"{path}: a secret is shorter than {SECRET_CHARACTERS_MIN} characters; "
            f"make one with: openssl rand -hex {SECRET_CHARACTERS_MIN}"
        )
    return secrets


def client_secret(path: Path) -> str:
    """
    Return the secret with which we ask an issuer.

    Raises:
        SecretFileError: The file cannot be used, or the secret could be guessed.
    """
    secrets = read_secrets(path)
    check_random(path, secrets)
    return secrets[0]


def check_random(
    path: Path, secrets: Iterable[str | bytes], *, make: str = f"openssl rand -hex {SECRET_CHARACTERS_MIN}"
) -> None:
    """
    Refuse what nobody drew at random.

    Args:
        make: The command that makes a good one.

    Raises:
        SecretFileError: A secret has too few different characters.
    """
    if any(is_guessable(secret) for secret in secrets):
        raise SecretFileError(
            f"{path}: a secret has fewer than {DIFFERENT_MIN} different characters, so that it is not random;"
            f" make one with: {make}"
        )


def repeated_tokens(tables: Iterable[TokenTable]) -> Iterator[str]:
    """Name the entries whose token another one has already: it can have one holder only."""
    seen: set[str] = set()
    for number, table in enumerate(tables, start=1):
        digits = table.sha256.lower()
        if digits in seen:
            yield f"tokens[{number}].sha256: stands in an earlier entry already"
        seen.add(digits)


def _claim_faults(user_claim: str, profiles_claim: str) -> Iterator[str]:
    if not user_claim:
        yield f"user_claim: must not be empty; {SUBJECT_CLAIM} is the usual one"
    else:
        yield from _user_claim_faults(user_claim)
    if not profiles_claim:
        yield f"profiles_claim: must not be empty; {PROFILES_CLAIM} is the usual one"


def _user_claim_faults(claim: str) -> Iterator[str]:
    # Some issuers put claims of their own under a URL: https://bank.example/email.
    last = re.split(r"[/:]", claim.rstrip("/:"))[-1]
    plain = "".join(character for character in last.casefold() if character.isalnum())
    instead = f"write {SUBJECT_CLAIM}, or a claim that is one user's for ever"
    if plain in _SHARED_CLAIMS:
        yield f"user_claim: {claim} is the same for many users, who would be one; {instead}"
    elif plain in _PASSING_CLAIMS:
        yield f"user_claim: {claim} is another in each token or session, and nobody's name; {instead}"
    elif plain in _GIVEN_CLAIMS or any(part in plain for part in _GIVEN_PARTS):
        # What users may change, or what is given to another one later, makes one user another.
        yield f"user_claim: {claim} may change or be given to somebody else; {instead}"


def _shown(value: str) -> str:
    return repr(value[:40])
