"""
From claims to a caller: what an issuer says of a token, told in our words.

A token of client credentials has its client as subject (RFC 9068 section 2.2). That client must be
one of the configured applications, or the token is nobody's: every client of an issuer can get such
a token, also one that we have never heard of.

A user whose subject *is* some client's id (RFC 9068 section 5 warns of issuers that let users choose
theirs) could pass for an application only with a token that was issued to that very client. Such a
token tells of a person who logged in (``auth_time``, ``amr``, ``sid``), and a token that says both is
nobody's. With a token of any other client he is the ordinary user that he is.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import msgspec

from watchword.domain.instant import Instant, after
from watchword.domain.user import UserId
from watchword.engine.principal import Principal, PrincipalKind
from watchword.strict_json import INTEGER_MAX

SUBJECT_CLAIM = "sub"
PROFILES_CLAIM = "profile_ids"
ID_MAX = 2**53 - 1
"""The largest id that every JSON parser reads as written."""

_SUBJECT_MAX = 255  # OpenID Connect Core 1.0 section 2.
_PROFILES_MAX = 1_000
_ID = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_SOMEBODY_LOGGED_IN = ("auth_time", "amr", "sid")
_OF_A_USER = (SUBJECT_CLAIM, "username")
# What issuers write of access tokens under ``typ``, ``token_type`` and ``token_use``.
_ACCESS_TYPES = {"bearer", "jwt", "at+jwt", "application/at+jwt", "access", "access_token"}


class NobodysTokenError(Exception):
    """A token that is not to be honoured; says why, in words of ours alone, so that it can be logged."""


class Users(Protocol):
    """Knows an issuer's users by our numbers."""

    async def user_id(self, issuer: str, subject: str) -> UserId | None:
        """
        Return the user that *issuer* calls *subject*; None where there shall be none.

        Two issuers may use one name for two people, so the pair is the key.
        """
        ...


class NumericSubjects:
    """Users of one issuer whose names for them are numbers already: those are our numbers too."""

    def __init__(self, issuer: str) -> None:
        """Take that issuer; a second one's numbers would mean other people."""
        self._issuer = issuer

    async def user_id(self, issuer: str, subject: str) -> UserId | None:
        """Return the number that *subject* is, from 1 to 2^53 - 1."""
        number = numeric_id(subject)
        return None if issuer != self._issuer or number is None else UserId(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """
    How the claims of one issuer are read.

    Attributes:
        applications: The client ids that are this issuer's to name. Another issuer's are not: it may have
            a client of the same id, and whoever registers that one would be the application.
        user_claim: What names the user: ``sub``, or another that never changes and is never given twice.
        profiles_claim: What lists the user's profiles; without it he has one, of his own number.
        subjectless_applications: Whether a token without any subject is its client's own. So say some
            introspection endpoints, while others name no subject of a user's token either.
    """

    users: Users
    applications: Container[str] = frozenset[str]()
    user_claim: str = SUBJECT_CLAIM
    profiles_claim: str = PROFILES_CLAIM
    subjectless_applications: bool = False

    async def principal(self, issuer: str, claims: Mapping[str, Any]) -> Principal:
        """
        Return whose token it is.

        Raises:
            NobodysTokenError: It is nobody's.
        """
        check_use(claims)
        subject = _name(claims.get(SUBJECT_CLAIM))
        client = client_of(claims)
        listed = client is not None and client in self.applications
        if client is not None and (subject == client or self._is_its_clients_own(claims)):
            if not listed:
                refuse("client credentials of an application that is not configured")
            if any(claim in claims for claim in _SOMEBODY_LOGGED_IN):
                refuse("its subject is a client, and yet somebody logged in")
            return Principal(kind=PrincipalKind.APPLICATION, application=client)
        name = subject if self.user_claim == SUBJECT_CLAIM else _name(claims.get(self.user_claim))
        if name is None:
            refuse("no claim names the user")
        user_id = await self.users.user_id(issuer, name)
        if user_id is None:
            refuse("a user who is not known")
        return Principal(
            kind=PrincipalKind.USER,
            user_id=user_id,
            profile_ids=self._profiles(claims, user_id),
            application=client if listed else None,
        )

    def _is_its_clients_own(self, claims: Mapping[str, Any]) -> bool:
        return self.subjectless_applications and not any(claim in claims for claim in _OF_A_USER)

    def _profiles(self, claims: Mapping[str, Any], user_id: UserId) -> frozenset[int]:
        listed = claims.get(self.profiles_claim)
        if listed is None:
            return frozenset({int(user_id)})
        try:
            profiles = [numeric_id(each) for each in msgspec.convert(listed, list[int | str])]
        except msgspec.ValidationError:
            refuse("its profiles are not a list of numbers")
        if len(profiles) > _PROFILES_MAX:
            refuse("its profiles are too many")
        if None in profiles:
            refuse("a profile is not a number")
        return frozenset(profile for profile in profiles if profile is not None)


def check_use(claims: Mapping[str, Any]) -> None:
    """
    Refuse what an issuer marks as another token than an access token that any bearer may use.

    Raises:
        NobodysTokenError: It is a refresh token, say; or one that its sender must prove to hold, which
            nobody here can check (RFC 7800, RFC 8705, RFC 9449): as a bearer token it is a stolen one.
    """
    if "cnf" in claims:
        refuse("it is bound to a key of its sender, which is not checked here")
    for claim in ("typ", "token_type", "token_use"):
        said = claims.get(claim, "bearer")
        if not isinstance(said, str) or said.lower() not in _ACCESS_TYPES:
            refuse(f"its {claim} is another")


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """
    Refuse what is for others.

    Raises:
        NobodysTokenError: It does not name *audience*, alone or among others.
    """
    named = claims.get("aud")
    if named != audience and not (isinstance(named, list) and audience in named):
        refuse("its audience is another")


def check_times(claims: Mapping[str, Any], now: Instant, leeway: int) -> Instant | None:
    """
    Refuse what is over, or does not begin yet, by a clock that may differ by *leeway* seconds.

    Returns:
        When the token ends; None where it does not say.

    Raises:
        NobodysTokenError: It is not good now.
    """
    expires = _moment(claims, "exp")
    if expires is not None and now >= after(expires, leeway):
        refuse("it is over")
    for claim in ("nbf", "iat"):
        since = _moment(claims, claim)
        if since is not None and since > after(now, leeway):
            refuse("it is not valid yet")
    return expires


def client_of(claims: Mapping[str, Any]) -> str | None:
    """
    Return the client that a token was issued to.

    Raises:
        NobodysTokenError: It names two.
    """
    named = {claims[claim] for claim in ("client_id", "azp") if isinstance(claims.get(claim), str)}
    if len(named) > 1:
        refuse("client_id and azp differ")
    return named.pop() if named else None


def numeric_id(value: object) -> int | None:
    """Return the id that a claim or a header holds, as a number or in digits; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str):
        if not _ID.fullmatch(value):
            return None
        value = int(value)
    return value if 1 <= value <= ID_MAX else None


def refuse(why: str) -> NoReturn:
    """Raise ``NobodysTokenError``."""
    raise NobodysTokenError(why)


def _moment(claims: Mapping[str, Any], claim: str) -> Instant | None:
    seconds = claims.get(claim)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or abs(seconds) > INTEGER_MAX:
        refuse(f"its {claim} is not a time")
    return Instant(int(seconds * 1000))


def _name(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= _SUBJECT_MAX:
        return None
    return value
