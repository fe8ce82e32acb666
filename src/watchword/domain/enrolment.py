"""
Enrolment: adding, replacing and removing credentials.

Any change voids the user's open tokens, which were issued on what was enrolled before, and ends the
session. Counts and locks stay (NIST SP 800-63B-4 section 3.2.2). While a user is locked he changes
nothing himself; an application that acts for him may.

A change is an action of its own, ``CREDENTIAL__CHANGE``: what guards money is worth no more than
what guards the way to change it (RTS art. 24(2)(b), association by remote means).
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from watchword.domain.action import Action, Bind, Risk
from watchword.domain.credential import KINDS, Credential
from watchword.domain.decision import Change, Event, EventName, Reason, Refusal
from watchword.domain.instant import NEVER, Instant, seconds_until
from watchword.domain.limits import Limits
from watchword.domain.method import PERSONAL_METHODS, CredentialKind, Factor, Method
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserSecurity
from watchword.domain.verbs import revoked_with

CREDENTIAL_CHANGE = Action(name="CREDENTIAL__CHANGE", risk=Risk.HIGH, bind=Bind.REQUEST)
"""Changes what a user has enrolled."""


class StepUpFor(StrEnum):
    """Which changes of credentials, made by the user himself, ask for a step-up."""

    NOTHING = "nothing"
    TWO_FACTORS = "two-factors"
    """Every change once two factors are enrolled; before that every one but what brings the second."""
    EVERYTHING = "everything"
    """Every change but the very first credential."""


def step_up(
    user: UserSecurity, *, adds: CredentialKind | None, when: StepUpFor, action: Action = CREDENTIAL_CHANGE
) -> Action | None:
    """
    Say what a change of *user*'s credentials asks for; None for nothing.

    Who has one factor can be asked for no more than that one, and is not asked on his way to the
    second. But one more of the factor that is there is no step on that way, nor is one in the place
    of a disabled one: by either an access token alone would come to two factors of its holder's own.
    A disabled credential counts as one that is there, so that to exhaust somebody's tries opens
    nothing.

    Args:
        adds: The kind of what is added; None for a change that takes something away, or puts
            something in its place.
        action: ``CREDENTIAL__CHANGE`` as it is configured.
    """
    kinds = {KINDS[type(credential)] for credential in user.credentials}
    factors = {_FACTORS[kind] for kind in kinds if kind in _FACTORS}
    if when is StepUpFor.NOTHING or not factors:
        return None
    if len(factors) > 1:
        return action
    disabled = any(credential.disabled for credential in user.credentials)
    brings_second = adds is not None and _FACTORS.get(adds) not in factors and not disabled
    if brings_second and when is StepUpFor.TWO_FACTORS:
        return None
    return replace(action, risk=Risk.LOW, challenges=None)


def add(
    user: UserSecurity,
    new: Credential,
    *,
    repeated: bool = False,
    owners: tuple[Owner, ...] = (),
    given_back: tuple[Owner, ...] = (),
    open_tokens: tuple[OneTimeToken, ...] = (),
    application: str | None = None,
    unasked: StepUpFor = StepUpFor.NOTHING,
    limits: Limits,
    now: Instant,
) -> Change | Refusal:
    """
    Enrol one more credential; disabled ones of its kind make room.

    Args:
        repeated: The user has this very one already.
        owners: Who owns what can have one owner only: a phone number, by each of its names.
        given_back: What the disabled ones stood for that make room.
        open_tokens: The tokens that ``user.still_open`` names.
        application: The application that does it for the user; None for the user himself.
        unasked: The rule by which the user was asked for no step-up; it has to hold still, or of
            two additions at once each would pass for the one that is free.

    Returns:
        A ``Refusal``: ``LOCKED``, ``ALREADY_ENROLLED``, ``TOO_MANY``, ``TAKEN``; or ``NOT_READY``
        where a step-up is needed by now.
    """
    kind = KINDS[type(new)]
    refusal = _locked(user, application, now)
    if refusal is None and owners and (repeated or _taken(owners, user)):
        return Refusal(Reason.TAKEN)
    refusal = can_add(user, kind, repeated=repeated, application=application, limits=limits, now=now)
    if refusal is not None:
        return refusal
    if step_up(user, adds=kind, when=unasked) is not None:
        return Refusal(Reason.NOT_READY)
    kept = tuple(
        credential
        for credential in user.credentials
        if KINDS[type(credential)] is not kind or not credential.disabled
    )
    return change(
        user,
        credentials=(*kept, new),
        preferred=user.preferred,
        owners=_claimed(owners, given_back, user),
        open_tokens=open_tokens,
        details=_details("added", kind, application),
        now=now,
    )


def can_add(
    user: UserSecurity,
    kind: CredentialKind,
    *,
    repeated: bool = False,
    application: str | None = None,
    limits: Limits,
    now: Instant,
) -> Refusal | None:
    """Say why no credential of *kind* may be added now; None where one may."""
    locked = _locked(user, application, now)
    if locked is not None:
        return locked
    most = _AT_MOST.get(kind)
    there = sum(
        KINDS[type(credential)] is kind and not credential.disabled for credential in user.credentials
    )
    if most is None:
        return Refusal(Reason.ALREADY_ENROLLED) if there else None
    if repeated:
        return Refusal(Reason.ALREADY_ENROLLED)
    return Refusal(Reason.TOO_MANY) if there >= most(limits) else None


def substitute(
    user: UserSecurity,
    credential_id: str,
    new: Credential,
    *,
    owners: tuple[Owner, ...] = (),
    given_back: tuple[Owner, ...] = (),
    open_tokens: tuple[OneTimeToken, ...] = (),
    application: str | None = None,
    now: Instant,
) -> Change | Refusal:
    """
    Put *new* in the place of a credential of the same kind.

    Args:
        owners: Who owns what *new* stands for, by each of its names.
        given_back: What the old one stood for, and its user owns.
    """
    old = _find(user, credential_id, KINDS[type(new)])
    refusal = _locked(user, application, now)
    if refusal is not None:
        return refusal
    if old is None:
        return Refusal(Reason.NOT_SET_UP)
    if _taken(owners, user):
        return Refusal(Reason.TAKEN)
    return change(
        user,
        credentials=tuple(new if each is old else each for each in user.credentials),
        preferred=user.preferred,
        owners=_claimed(owners, given_back, user),
        open_tokens=open_tokens,
        details=_details("replaced", KINDS[type(new)], application),
        now=now,
    )


def remove(
    user: UserSecurity,
    kind: CredentialKind,
    credential_id: str | None = None,
    *,
    given_back: tuple[Owner, ...] = (),
    open_tokens: tuple[OneTimeToken, ...] = (),
    application: str | None = None,
    now: Instant,
) -> Change | Refusal:
    """
    Remove a credential; of a kind that has one only, that one.

    Args:
        given_back: What it stood for, and its user owns.

    Returns:
        A ``Refusal``: ``LOCKED`` or ``NOT_SET_UP``.
    """
    locked = _locked(user, application, now)
    if locked is not None:
        return locked
    gone = _find(user, credential_id, kind)
    if gone is None:
        return Refusal(Reason.NOT_SET_UP)
    kept = tuple(each for each in user.credentials if each is not gone)
    still = {KINDS[type(each)] for each in kept}
    return change(
        user,
        credentials=kept,
        preferred=user.preferred if user.preferred is None or user.preferred.credential in still else None,
        owners=_claimed((), given_back, user),
        open_tokens=open_tokens,
        details=_details("removed", kind, application),
        now=now,
    )


def change(
    user: UserSecurity,
    *,
    credentials: tuple[Credential, ...],
    preferred: Method | None,
    owners: tuple[Owner, ...] = (),
    open_tokens: tuple[OneTimeToken, ...],
    details: dict[str, str | int] | None = None,
    now: Instant,
) -> Change:
    """
    Replace what *user* has enrolled.

    Args:
        credentials: All that is enrolled from now on.
        preferred: The method to offer first.
        open_tokens: The tokens that ``user.still_open`` names.
    """
    voided, events = revoked_with(open_tokens, why="credentials-changed", now=now)
    changed = Event(name=EventName.CREDENTIALS_CHANGED, at=now, user_id=user.id, details=details or {})
    return Change(
        user=replace(
            user,
            version=user.version + 1,
            credentials=credentials,
            preferred=preferred,
            session_until=NEVER,
            open_tokens=(),
        ),
        owners=owners,
        revoked=voided,
        events=(changed, *events),
    )


def _taken(owners: tuple[Owner, ...], user: UserSecurity) -> bool:
    return any(each.user_id not in {None, user.id} for each in owners)


def _claimed(
    owners: tuple[Owner, ...], given_back: tuple[Owner, ...], user: UserSecurity
) -> tuple[Owner, ...]:
    kept = {each.id for each in owners}
    freed = (each.taken(None) for each in given_back if each.id not in kept)
    return (*freed, *(each.taken(user.id) for each in owners))


def _locked(user: UserSecurity, application: str | None, now: Instant) -> Refusal | None:
    if application is None and user.attempts.is_locked(now):
        return Refusal(Reason.LOCKED, retry_after=seconds_until(user.attempts.locked_until, now))
    return None


def _find(user: UserSecurity, credential_id: str | None, kind: CredentialKind) -> Credential | None:
    return next(
        (each for each in user.credentials if KINDS[type(each)] is kind and credential_id in {None, each.id}),
        None,
    )


def _details(what: str, kind: CredentialKind, application: str | None) -> dict[str, str | int]:
    details: dict[str, str | int] = {"what": what, "credential": kind.value}
    if application is not None:
        details["application"] = application
    return details


# Of every other kind a user has one.
_AT_MOST: dict[CredentialKind, Callable[[Limits], int]] = {
    CredentialKind.DEVICE_FINGERPRINT: lambda limits: limits.device_fingerprints,
    CredentialKind.PUBLIC_KEY: lambda limits: limits.public_keys,
}
# Of what a person can pass: a key that a program signs with is asked of nobody else.
_FACTORS: dict[CredentialKind, Factor] = {method.credential: method.factor for method in PERSONAL_METHODS}
