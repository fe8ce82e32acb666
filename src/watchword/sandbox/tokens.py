"""A one-time token as the sandbox shows it: everything about it but what is secret."""

from typing import Literal

from msgspec import Struct

from watchword.domain.action import Risk, Spend
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Reason
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import (
    Cleared,
    LiveCode,
    OneTimeToken,
    Pending,
    Reserved,
    Revoked,
    Spent,
    refused_as,
)
from watchword.sandbox.clock import iso

State = Literal["pending", "cleared", "reserved", "spent", "revoked", "expired"]


class ShownMethod(Struct, frozen=True):
    """A way to pass a challenge."""

    type: Method


class ShownChallenge(Struct, frozen=True, kw_only=True, rename="camel"):
    """A challenge in the public API's shape, and what passed it."""

    primary_challenge: ShownMethod
    alternatives: tuple[ShownMethod, ...]
    required: bool = True
    passed: bool
    passed_by: Method | None


class ShownBinding(Struct, frozen=True, kw_only=True, rename="camel"):
    """
    The request that the token was issued for.

    Attributes:
        to: What a retry is compared with: all of it, or the action alone.
        target_sha256: The digest of the raw path and query.
    """

    to: Literal["request", "action"]
    method: str
    path: str
    target_sha256: str
    body_sha256: str


class ShownSends(Struct, frozen=True, rename="camel"):
    """How many codes went over one channel."""

    channel: Method
    count: int
    last_sent_at: str


class ShownCode(Struct, frozen=True, rename="camel"):
    """The code that is good now, but for its digits."""

    channel: Method
    expires_at: str
    wrong_tries: int


class ShownToken(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A token. Times that have not come are left out."""

    state: State
    user_id: int
    action: str
    risk: Risk
    spend: Spend
    binding: ShownBinding
    challenges: tuple[ShownChallenge, ...]
    factors: int
    sends: tuple[ShownSends, ...]
    issued_at: str
    expires_at: str
    cleared_at: str | None = None
    lease_until: str | None = None
    spent_at: str | None = None
    revoked_at: str | None = None
    revoked_because: str | None = None
    code: ShownCode | None = None


def state_of(token: OneTimeToken, *, limits: Limits, now: Instant) -> State:
    """Name the state of a token, expiry included."""
    match token.state:
        case Spent():
            return "spent"
        case Revoked():
            return "revoked"
        case Reserved():
            return "reserved"
        case Pending() | Cleared() if refused_as(token, limits=limits, now=now) is Reason.EXPIRED:
            return "expired"
        case Pending():
            return "pending"
        case Cleared():
            return "cleared"


def show(token: OneTimeToken, *, limits: Limits, now: Instant) -> ShownToken:
    """Show a token."""
    state = token.state
    return ShownToken(
        state=state_of(token, limits=limits, now=now),
        user_id=token.user_id,
        action=token.action,
        risk=token.risk,
        spend=token.spend_mode,
        binding=ShownBinding(
            to=token.bind.value,
            method=token.binding.method,
            path=token.binding.path,
            target_sha256=token.binding.target.hex(),
            body_sha256=token.binding.body.hex(),
        ),
        challenges=tuple(_challenge(challenge) for challenge in token.challenges),
        factors=token.factors,
        sends=tuple(ShownSends(sends.method, sends.count, iso(sends.last_at)) for sends in token.sends),
        issued_at=iso(token.issued_at),
        expires_at=iso(token.good_until(limits)),
        cleared_at=_cleared_at(token),
        lease_until=iso(state.lease_until) if isinstance(state, Reserved) else None,
        spent_at=iso(state.at) if isinstance(state, Spent) else None,
        revoked_at=iso(state.at) if isinstance(state, Revoked) else None,
        revoked_because=state.why if isinstance(state, Revoked) else None,
        code=_code(state.code) if isinstance(state, Pending) and state.code is not None else None,
    )


def _cleared_at(token: OneTimeToken) -> str | None:
    match token.state:
        case Cleared(at=at) | Reserved(cleared_at=at):
            return iso(at)
        case _:
            return None


def _challenge(challenge: Challenge) -> ShownChallenge:
    return ShownChallenge(
        primary_challenge=ShownMethod(challenge.primary),
        alternatives=tuple(ShownMethod(method) for method in challenge.alternatives),
        passed=challenge.passed_by is not None,
        passed_by=challenge.passed_by,
    )


def _code(code: LiveCode) -> ShownCode:
    return ShownCode(code.method, iso(code.expires_at), code.wrong)
