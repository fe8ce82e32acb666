"""
The one-time token (OTT): the state holder of one step-up.

A state holds only its own data. Expired is computed, never stored: a token past ``expires_at``,
or past the time it may stay cleared, is over whatever its state. So is one that was issued long after
now: where a clock was set back, no token is good before its time, though it may come to be again. What
can be done with a token in which state stands in ``verbs``.
"""

from dataclasses import dataclass
from typing import NewType, assert_never

from watchword.domain.action import Bind, Risk, Spend
from watchword.domain.binding import Binding
from watchword.domain.challenge import Challenge, open_methods
from watchword.domain.decision import Reason
from watchword.domain.instant import Instant, after
from watchword.domain.limits import CLOCKS_APART_SECONDS, Limits
from watchword.domain.method import Method
from watchword.domain.user import UserId

TokenId = NewType("TokenId", bytes)
"""The SHA-256 of the OTT on the wire: 122 random bits need no slower digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCode:
    """
    The code that was sent last. Only its digest is kept; a newer code takes its place.

    Attributes:
        method: The channel it went over, which is the only one it is good for.
        credential_id: The phone it went to.
        wrong: How many wrong tries it has seen.
    """

    method: Method
    credential_id: str
    digest: bytes
    expires_at: Instant
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """Challenges are left; the user has the next move."""

    code: LiveCode | None = None


@dataclass(frozen=True, slots=True)
class Cleared:
    """Every challenge is passed; the token is ready to be spent."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Reserved:
    """A handler runs under this token until *lease_until* at the latest."""

    cleared_at: Instant
    lease_until: Instant


@dataclass(frozen=True, slots=True)
class Spent:
    """It let its one request through."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Revoked:
    """It was voided before it was spent."""

    at: Instant
    why: str


State = Pending | Cleared | Reserved | Spent | Revoked


@dataclass(frozen=True, slots=True)
class Sends:
    """How many codes went over one channel, and when the last one did."""

    method: Method
    count: int
    last_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeToken:
    """
    One step-up.

    Attributes:
        factors: How many different factors the passed methods must cover.
        binding: The request it was issued for; compared where *bind* says so.
        sends: What was sent for it, by channel.
        application: The application whose user's call it was issued for, by client id.
        details: What is approved, sealed, to be shown to the user.
        page: The digest of the handle of the approval page that is open for it; empty for none.
        version: One more with each stored change; 1 is the issue.
    """

    id: TokenId
    user_id: UserId
    action: str
    risk: Risk
    bind: Bind
    spend_mode: Spend
    binding: Binding
    challenges: tuple[Challenge, ...]
    factors: int
    issued_at: Instant
    expires_at: Instant
    state: State
    sends: tuple[Sends, ...] = ()
    application: str | None = None
    details: bytes = b""
    page: bytes = b""
    version: int = 1

    def good_until(self, limits: Limits) -> Instant:
        """Return when it is over: its expiry, or earlier once it is cleared."""
        if isinstance(self.state, Cleared) and limits.spend_within_seconds is not None:
            return min(self.expires_at, after(self.state.at, limits.spend_within_seconds))
        return self.expires_at

    def is_open(self, *, limits: Limits, now: Instant) -> bool:
        """Tell whether it can still come to let a request through; a reserved one may be released."""
        match self.state:
            case Pending() | Cleared():
                return now < self.good_until(limits)
            case Reserved(lease_until=lease_until):
                return now < min(lease_until, self.expires_at)
            case Spent() | Revoked():
                return False
            case _:
                assert_never(self.state)

    def is_early(self, now: Instant) -> bool:
        """Tell whether it was issued under a clock that is ahead, or one that was set back since."""
        return now < after(self.issued_at, -CLOCKS_APART_SECONDS)

    def open_methods(self) -> list[tuple[Method, ...]]:
        """Return, for each challenge, the methods that would pass it now."""
        return open_methods(self.challenges, factors=self.factors)


def refused_as(token: OneTimeToken, *, limits: Limits, now: Instant) -> Reason | None:
    """Say why a token is over; None while it is pending or cleared."""
    match token.state:
        case Spent():
            return Reason.ALREADY_SPENT
        case Revoked():
            return Reason.REVOKED
        case Reserved():
            return Reason.RESERVED
        case Pending() | Cleared():
            return None if now < token.good_until(limits) and not token.is_early(now) else Reason.EXPIRED
        case _:
            assert_never(token.state)
