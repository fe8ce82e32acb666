"""
Applications: the relying services that call us for their users, and the JOSE keys they uploaded.

Only public halves are kept. A key is good for one scope and one algorithm, from one moment to
another; a newer one does not end an older one, so that a client rotates without a gap.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NewType

from watchword.domain.decision import Change, Event, EventName, Reason, Refusal
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits

ApplicationId = NewType("ApplicationId", str)
"""What the issuer of access tokens calls it: its ``client_id``."""


class KeyScope(StrEnum):
    """What an uploaded key is for."""

    PAYLOAD_SIGNING = "PAYLOAD_SIGNING"
    """We verify the application's signatures with it."""
    PAYLOAD_ENCRYPTION = "PAYLOAD_ENCRYPTION"
    """We encrypt our answers to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """
    The public half of an application's key.

    Attributes:
        id: A UUID, chosen by the application.
        algorithm: As the wire writes it: ``ES512``, ``RSA_OAEP_256``.
        spki: DER SubjectPublicKeyInfo.
        valid_from: The first moment it is good for.
        valid_till: The first moment it is no longer good for.
    """

    id: str
    scope: KeyScope
    algorithm: str
    spki: bytes
    valid_from: Instant
    valid_till: Instant

    def is_valid(self, now: Instant) -> bool:
        """Tell whether it is good now."""
        return self.valid_from <= now < self.valid_till


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """
    What is stored of an application; version 0 is one of which nothing is stored yet.

    Attributes:
        keys: What it uploaded, oldest first.
    """

    id: ApplicationId
    version: int = 0
    keys: tuple[ClientKey, ...] = ()

    def valid_keys(self, scope: KeyScope, now: Instant) -> tuple[ClientKey, ...]:
        """Return the keys of *scope* that are good now, the newest upload first."""
        return tuple(key for key in reversed(self.keys) if key.scope is scope and key.is_valid(now))


def revoke_key(application: Application, key_id: str, *, now: Instant) -> Change | Refusal:
    """Let a key be good no longer; ``NOT_SET_UP`` where there is none by that id."""
    kept = tuple(each for each in application.keys if each.id != key_id)
    if len(kept) == len(application.keys):
        return Refusal(Reason.NOT_SET_UP)
    return Change(
        application=replace(application, version=application.version + 1, keys=kept),
        events=(
            Event(
                name=EventName.KEY_REVOKED,
                at=now,
                user_id=None,
                details={"application": application.id, "key": key_id},
            ),
        ),
    )


def upload_key(application: Application, key: ClientKey, *, limits: Limits, now: Instant) -> Change | Refusal:
    """
    Keep *key*, beside those that are there; the ones that ran out make room.

    Returns:
        ``ALREADY_ENROLLED`` where another key has that id, ``TOO_MANY`` where there are as many
        as are allowed. The same key once more changes nothing but its place.
    """
    kept = tuple(each for each in application.keys if now < each.valid_till and each != key)
    if any(each.id == key.id for each in kept):
        return Refusal(Reason.ALREADY_ENROLLED)
    if len(kept) >= limits.keys_per_application:
        return Refusal(Reason.TOO_MANY)
    return Change(
        application=replace(application, version=application.version + 1, keys=(*kept, key)),
        events=(
            Event(
                name=EventName.KEY_UPLOADED,
                at=now,
                user_id=None,
                details={"application": application.id, "key": key.id, "scope": key.scope.value},
            ),
        ),
    )
