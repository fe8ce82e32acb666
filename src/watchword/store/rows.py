"""A change as rows: what every store that keeps tables writes, and what it compares."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

from watchword.domain.application import Application
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec
from watchword.store.base import StoreCorruptError, UnreadableUser

Key: TypeAlias = bytes | int | str
Record = TypeVar("Record", OneTimeToken, UserSecurity, Destination, Application, Owner)


class Row(NamedTuple):
    """A record as it is to be written; ``at`` is what a sweep looks for, if it looks for it."""

    key: Key
    version: int
    at: int
    body: bytes


class Rows:
    """
    One change, as it is to be written.

    Attributes:
        rows: The records, each with the name of its table.
        seen: The user that must not have moved.
        events: The bodies of the events.
    """

    __slots__ = ("events", "rows", "seen")

    def __init__(self, change: Change) -> None:
        rows: list[tuple[str, Row]] = []
        if (token := change.token) is not None:
            rows.append(("token", _token(token)))
        if (user := change.user) is not None:
            rows.append(("user", Row(user.id, user.version, 0, codec.encode_user(user))))
        if (destination := change.destination) is not None:
            last_at = destination.sent_at[-1] if destination.sent_at else 0
            body = codec.encode_destination(destination)
            rows.append(("destination", Row(destination.id, destination.version, last_at, body)))
        if (application := change.application) is not None:
            body = codec.encode_application(application)
            rows.append(("application", Row(application.id, application.version, 0, body)))
        rows += [
            ("owner", Row(owner.id, owner.version, 0, codec.encode_owner(owner))) for owner in change.owners
        ]
        rows += [("token", _token(token)) for token in change.revoked]
        self.rows = rows
        self.seen = change.seen
        self.events = [codec.encode_event(event) for event in change.events]


def _token(token: OneTimeToken) -> Row:
    return Row(token.id, token.version, token.expires_at, codec.encode_token(token))


def record(decode: Callable[[bytes], Record], key: Key, body: bytes | None) -> Record | None:
    """
    Return the record that was found under *key*; None if nothing was.

    Raises:
        StoreCorruptError: It cannot be read, or belongs under another key.
    """
    if body is None:
        return None
    found = decode(body)
    if found.id != key:
        raise StoreCorruptError(f"a record ({type(found).__name__}) is stored under the id of another")
    return found


def user(id_: int, body: bytes) -> UserSecurity | UnreadableUser:
    """Return the user that was found as *id_*, or that he cannot be read."""
    try:
        found = record(codec.decode_user, UserId(id_), body)
    except StoreCorruptError:
        found = None
    return found or UnreadableUser(UserId(id_))
