"""Who is calling, as an access token tells it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from watchword.domain.user import UserId


class PrincipalKind(StrEnum):
    """What kind of token the caller holds."""

    USER = "user"
    """A user's own access token."""
    PERSONAL = "personal"
    """A user's token for programs, which sign instead of answering challenges."""
    APPLICATION = "application"
    """Client credentials: an application that acts for its users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    The caller.

    Attributes:
        user_id: The user; None for an application.
        profile_ids: The user's own profiles.
        application: The application that the access token was issued to, by its client id.
    """

    kind: PrincipalKind
    user_id: UserId | None = None
    profile_ids: frozenset[int] = frozenset()
    application: str | None = None


class AuthenticatorUnavailableError(Exception):
    """Whoever could tell whose a token is cannot be asked now: nobody is let through, nobody refused."""


class Authenticator(Protocol):
    """Tells who holds an access token."""

    async def authenticate(self, token: str) -> Principal | None:
        """
        Return the holder of *token*; None where the token is not valid.

        Raises:
            AuthenticatorUnavailableError: It cannot be told now, so that the answer is 503.
        """
        ...
