"""
A user's security state: what is enrolled, what failed, what is open.

One record a user, written by every issue and every answer to a challenge, so that its version
is what concurrent guesses and concurrent issues meet on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NewType

from watchword.domain.action import Risk
from watchword.domain.credential import KINDS, Credential, Phone
from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import CLOCKS_APART_SECONDS, Limits
from watchword.domain.lockout import NO_ATTEMPTS, Attempts
from watchword.domain.method import CredentialKind, Method

UserId = NewType("UserId", int)


@dataclass(frozen=True, slots=True)
class OpenToken:
    """A token of the user's that may still be open: enough to find it and to let it lapse."""

    id: bytes
    expires_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSecurity:
    """
    The security state of one user; version 0 is a user of whom nothing is stored yet.

    Attributes:
        credentials: What is enrolled, in the order of enrolment.
        preferred: The method that the user is offered first.
        attempts: The failures and the lock.
        session_until: The end of the low-risk session.
        open_tokens: Tokens that may still be open, oldest first.
    """

    id: UserId
    version: int = 0
    credentials: tuple[Credential, ...] = ()
    preferred: Method | None = None
    attempts: Attempts = NO_ATTEMPTS
    session_until: Instant = NEVER
    open_tokens: tuple[OpenToken, ...] = ()

    def enrolled(self) -> frozenset[CredentialKind]:
        """Return the kinds of credentials that the user can prove now."""
        return frozenset(
            KINDS[type(credential)] for credential in self.credentials if not credential.disabled
        )

    def has(self, kind: CredentialKind) -> bool:
        """Tell whether the user can prove a credential of *kind* now."""
        return any(
            KINDS[type(credential)] is kind and not credential.disabled for credential in self.credentials
        )

    def counting(self, risk: Risk, *, limits: Limits, now: Instant) -> "UserSecurity":
        """Return the user with the credentials that count at *risk*: at high risk none too new."""
        if risk is Risk.LOW or not limits.high_risk_after_seconds:
            return self
        since = after(now, -limits.high_risk_after_seconds)
        return replace(
            self, credentials=tuple(each for each in self.credentials if each.enrolled_at <= since)
        )

    def holds(self, kind: CredentialKind, credential_id: str | None = None) -> bool:
        """Tell whether there is a credential of *kind*, disabled or not; by that id, where one is given."""
        return any(
            KINDS[type(credential)] is kind and credential_id in {None, credential.id}
            for credential in self.credentials
        )

    def phones(self) -> Iterator[Phone]:
        """Yield the numbers that codes can be sent to, the first enrolled first."""
        return (
            credential
            for credential in self.credentials
            if isinstance(credential, Phone) and not credential.disabled
        )

    def phones_too(self, credential_id: str | None) -> Iterator[Phone]:
        """Yield the numbers by that id, or all of them, disabled ones too."""
        return (
            credential
            for credential in self.credentials
            if isinstance(credential, Phone) and credential_id in {None, credential.id}
        )

    def session(self, *, limits: Limits, now: Instant) -> Instant:
        """
        Return the end of the low-risk session that is open now; NEVER for none.

        One that would be open for longer than sessions are was opened under a clock that is ahead, or
        under a longer limit: it is none.
        """
        longest = after(now, limits.session_seconds + CLOCKS_APART_SECONDS)
        is_open = limits.session_seconds > 0 and now < self.session_until <= longest
        return self.session_until if is_open else NEVER

    def still_open(self, now: Instant) -> tuple[OpenToken, ...]:
        """Return the tokens that may still be open, oldest first."""
        return tuple(entry for entry in self.open_tokens if now < entry.expires_at)


def disable(credentials: Sequence[Credential], kinds: Iterable[CredentialKind]) -> tuple[Credential, ...]:
    """Return *credentials* with those of *kinds* disabled."""
    disabled = frozenset(kinds)
    return tuple(
        replace(credential, disabled=True) if KINDS[type(credential)] in disabled else credential
        for credential in credentials
    )
