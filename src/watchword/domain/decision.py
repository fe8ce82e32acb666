"""
What a verb answers: a ``Change`` to be stored, or a ``Refusal`` that changes nothing.

A wrong answer to a challenge is a ``Change`` too (a counter moved), told apart as
``WrongAnswer``. Neither can be overlooked: strict typing demands the ``isinstance``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchword.domain.application import Application
    from watchword.domain.destination import Destination
    from watchword.domain.instant import Instant
    from watchword.domain.owner import Owner
    from watchword.domain.token import OneTimeToken, TokenId
    from watchword.domain.user import UserId, UserSecurity


class EventName(StrEnum):
    """What happened, in the past tense of the verb that did it."""

    TOKEN_ISSUED = "token.issued"
    PAGE_OPENED = "page.opened"
    PAGE_CLOSED = "page.closed"
    CODE_SENT = "code.sent"
    CODE_UNDELIVERED = "code.undelivered"
    CHALLENGE_PASSED = "challenge.passed"
    CHALLENGE_FAILED = "challenge.failed"
    TOKEN_CLEARED = "token.cleared"
    TOKEN_RESERVED = "token.reserved"
    TOKEN_RELEASED = "token.released"
    TOKEN_SPENT = "token.spent"
    TOKEN_REVOKED = "token.revoked"
    SESSION_USED = "session.used"
    USER_LOCKED = "user.locked"
    CREDENTIALS_CHANGED = "credentials.changed"
    CREDENTIALS_RESEALED = "credentials.resealed"
    CREDENTIAL_DISABLED = "credential.disabled"
    STORE_RESTORED = "store.restored"
    SUBJECT_LINKED = "subject.linked"
    KEY_UPLOADED = "key.uploaded"
    KEY_REVOKED = "key.revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One line of the audit trail, stored in the same commit as what it tells of.

    ``details`` hold names and numbers only: never a secret, never a phone number, never an OTT.

    Attributes:
        user_id: Whom it is about; None for what is an application's own.
    """

    name: EventName
    at: "Instant"
    user_id: "UserId | None"
    token_id: "TokenId | None" = None
    details: Mapping[str, str | int] = field(default_factory=dict[str, str | int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    Records as they are to be stored, with their events: all of it, or none.

    The version of each record is one more than that of the record it was made from. A store
    that holds any other version refuses the change, for what it was decided from is past.

    Attributes:
        owners: Who owns what from now on.
        seen: A user that the decision rests on and does not change; a store that holds any other
            version refuses the change as well.
    """

    token: "OneTimeToken | None" = None
    user: "UserSecurity | None" = None
    destination: "Destination | None" = None
    application: "Application | None" = None
    owners: tuple["Owner", ...] = ()
    revoked: tuple["OneTimeToken", ...] = ()
    seen: "UserSecurity | None" = None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongAnswer(Change):
    """The secret was not the right one; the change counts it."""

    attempts_left: int


class Reason(StrEnum):
    """Why a verb refused. Closed: the border maps each one, and a test asserts it."""

    UNKNOWN = "unknown"
    """No such token, or another user's."""
    EXPIRED = "expired"
    NOT_READY = "not-ready"
    ALREADY_SPENT = "already-spent"
    REVOKED = "revoked"
    RESERVED = "reserved"
    """A handler holds it right now, or crashed while it did."""
    NOT_RESERVED = "not-reserved"
    OTHER_ACTION = "other-action"
    OTHER_REQUEST = "other-request"
    NOT_OFFERED = "not-offered"
    """No challenge of the token is open to this method."""
    NOT_TRIGGERED = "not-triggered"
    CODE_EXPIRED = "code-expired"
    RESENT_TOO_SOON = "resent-too-soon"
    SENDS_EXHAUSTED = "sends-exhausted"
    LOCKED = "locked"
    NOT_ENROLLED = "not-enrolled"
    """The user has not enrolled enough for the action."""
    ALREADY_ENROLLED = "already-enrolled"
    """There is one already, and no more than one may be; or this very one is there."""
    TOO_MANY = "too-many"
    """There are as many of these as are allowed."""
    NOT_SET_UP = "not-set-up"
    """There is nothing of this kind, or by this id, to remove."""
    MOVED_ON = "moved-on"
    """The token is no longer as it was when the approval page showed it."""
    OTHER_PAGE = "other-page"
    """The approval page of this token was opened again, elsewhere."""
    TAKEN = "taken"
    """It is somebody's already, and can be nobody else's."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Nothing happened, and why.

    Attributes:
        reason: Why.
        retry_after: Seconds after which the same may succeed; None where waiting is no help.
        methods: The names of the methods that would do (``NOT_ENROLLED``).
    """

    reason: Reason
    retry_after: int | None = None
    methods: tuple[str, ...] = ()
