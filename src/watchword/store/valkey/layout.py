"""
Where in Valkey which record lies, and what a change is as operations on keys.

Records are spread over a fixed number of buckets, each of which is one hash tag and so lies in one
slot: all that belongs to a user (his record, his tokens, the events of their changes) is in one bucket
and is written by one function. Buckets and not users, since a bucket can have what must lie in the
same slot and is not one user's: the events that wait to be read, and the indexes of users and of
expiries. The tags are chosen so that the buckets' slots are spread evenly.
"""

from binascii import crc32, crc_hqx
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec

BUCKETS: Final = 64
"""How many parts the records are in, and so how many primaries can share them; fixed for ever."""

_SLOTS = 16384
_USER_OFFSET = 1 << 63


Record: TypeAlias = OneTimeToken | UserSecurity | Destination | Application | Owner


def _tags() -> tuple[bytes, ...]:
    """Return, for each bucket, the first number whose slot is in the bucket's share of all slots."""
    tags: dict[int, bytes] = {}
    number = 0
    while len(tags) < BUCKETS:
        tag = b"%d" % number
        tags.setdefault(crc_hqx(tag, 0) % _SLOTS * BUCKETS // _SLOTS, tag)
        number += 1
    return tuple(tags[bucket] for bucket in range(BUCKETS))


_TAGS = _tags()


def bucket_of_user(user_id: UserId | None) -> int:
    """Return the bucket of a user and of all his tokens; of None, that of what is nobody's."""
    return crc32(b"" if user_id is None else b"%d" % user_id) % BUCKETS


def bucket_of_id(id_: bytes) -> int:
    """Return the bucket of what belongs to no user: a destination, an owner, an application."""
    return crc32(id_) % BUCKETS


@dataclass(frozen=True, slots=True)
class Key:
    """
    A record's key: its bucket, and its name there.

    Attributes:
        name: The kind, and the id.
    """

    bucket: int
    name: bytes

    @property
    def kind(self) -> bytes:
        """The kind of record, one letter."""
        return self.name[:1]


def token_key(token_id: TokenId, user_id: UserId) -> Key:
    """Return where a token is."""
    return Key(bucket_of_user(user_id), b"t:" + token_id.hex().encode())


def user_key(user_id: UserId) -> Key:
    """Return where a user is."""
    return Key(bucket_of_user(user_id), b"u:%d" % user_id)


def state_key(user_id: UserId) -> Key:
    """Return where the part of a user is whose credentials lie in another store."""
    return Key(bucket_of_user(user_id), b"s:%d" % user_id)


def destination_key(destination_id: bytes) -> Key:
    """Return where a destination is."""
    return Key(bucket_of_id(destination_id), b"d:" + destination_id.hex().encode())


def application_key(application_id: ApplicationId) -> Key:
    """Return where an application is."""
    id_ = application_id.encode()
    return Key(bucket_of_id(id_), b"a:" + id_.hex().encode())


def owner_key(owner_id: bytes) -> Key:
    """Return where an owner is."""
    return Key(bucket_of_id(owner_id), b"o:" + owner_id.hex().encode())


def place_key(token_id: TokenId) -> Key:
    """Return where it is written whose a token is, for whoever knows the token alone."""
    return Key(bucket_of_id(token_id), b"p:" + token_id.hex().encode())


def user_member(user_id: UserId) -> bytes:
    """Return a user's place in the index of users, which is sorted as text."""
    return b"%020d" % (user_id + _USER_OFFSET)


def user_of_member(member: bytes) -> UserId:
    """Return the user at a place in the index."""
    return UserId(int(member) - _USER_OFFSET)


def key_of(record: Record) -> Key:
    """Return where a record is."""
    match record:
        case OneTimeToken():
            return token_key(record.id, record.user_id)
        case UserSecurity():
            return user_key(record.id)
        case Destination():
            return destination_key(record.id)
        case Application():
            return application_key(record.id)
        case Owner():
            return owner_key(record.id)


def with_version(key: Key, body: bytes, version: int) -> bytes:
    """Return the stored form of a record as one of that version."""
    match key.kind:
        case b"u":
            return codec.encode_user(replace(codec.decode_user(body), version=version))
        case b"s":
            state, enrolled = decode_state(body)
            return encode_state(replace(state, version=version), enrolled)
        case b"d":
            return codec.encode_destination(replace(codec.decode_destination(body), version=version))
        case b"a":
            return codec.encode_application(replace(codec.decode_application(body), version=version))
        case b"o":
            return codec.encode_owner(replace(codec.decode_owner(body), version=version))
        case _:
            raise ValueError(key)


def encode_state(state: UserSecurity, enrolled: int) -> bytes:
    """Return the stored form of a user without credentials, with the version that those are of."""
    return enrolled.to_bytes(8) + codec.encode_user(state)


def decode_state(body: bytes) -> tuple[UserSecurity, int]:
    """Return what ``encode_state`` was given."""
    return codec.decode_user(body[8:]), int.from_bytes(body[:8])


class Names:
    """The names of keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        """Begin every name with *prefix*."""
        self._prefixes = tuple(b"%s:{%s}:" % (prefix.encode(), tag) for tag in _TAGS)

    def __call__(self, key: Key) -> bytes:
        """Return a key's whole name."""
        return self._prefixes[key.bucket] + key.name

    def of(self, bucket: int, name: bytes) -> bytes:
        """Return the name of something that a bucket has one of."""
        return self._prefixes[bucket] + name

    def key(self, whole: bytes) -> Key:
        """Return the key with that whole name."""
        for bucket, prefix in enumerate(self._prefixes):
            if whole.startswith(prefix):
                return Key(bucket, whole.removeprefix(prefix))
        raise ValueError(whole)


CONTROL: Final = b"control"
"""What each bucket has one of: its counters,"""
EVENTS: Final = b"events"
"""the events that wait,"""
DECIDED: Final = b"decided"
"""the changes over several slots that were decided and are not yet settled,"""
USERS: Final = b"users"
"""the index of users,"""
EXPIRIES: Final = b"expiries"
"""that of what a sweep looks for,"""
MARK: Final = b"mark"
"""what is written to see how far replicas have come,"""
TRIAL: Final = b"trial"
"""and what is written to see whether it may be."""
REPLICAS: Final = b"r"
"""In the first bucket's counters: how many replicas every change reaches."""
PARTNER: Final = b"u"
"""There too: with which database this goes, where users are in another."""
LOG, LOG_CONTROL = b"log", b"log-control"
"""The audit trail, and how far it has taken in each bucket's events; in the first bucket alone."""


@dataclass(frozen=True, slots=True)
class Write:
    """
    One record of a change, compared and written.

    Attributes:
        version: Its own version; None where it is only compared.
        made_from: The version that must be stored.
        known: The lineage that the bucket was read in when the change was decided; empty where it was not.
        fenced: Whether what was stored in another lineage counts for nothing.
        index: The index of its bucket that it is to be found by; empty for none.
    """

    key: Key
    version: int | None
    made_from: int
    known: bytes
    body: bytes = b""
    fenced: bool = False
    index: bytes = b""
    score: int = 0
    member: bytes = b""

    def arguments(self) -> tuple[bytes, ...]:
        """Return what the functions want to know of it."""
        return (
            b"%d" % self.made_from,
            b"" if self.version is None else b"%d" % self.version,
            b"1" if self.fenced else b"0",
            self.known,
            b"%d" % self.score,
            self.member,
            self.body,
        )


def writes(change: Change, lineages: Mapping[int, bytes]) -> list[Write]:
    """Return the records of a change; the first decides in which bucket its events are."""
    return list(_writes(change, lineages))


def _writes(change: Change, lineages: Mapping[int, bytes]) -> Iterator[Write]:
    def known(key: Key) -> bytes:
        return lineages.get(key.bucket, b"")

    if (user := change.user) is not None:
        key, body = user_key(user.id), codec.encode_user(user)
        if user.version == 1:
            yield Write(key, 1, 0, known(key), body, index=USERS, member=user_member(user.id))
        else:
            yield Write(key, user.version, user.version - 1, known(key), body)
    if (seen := change.seen) is not None:
        key = user_key(seen.id)
        yield Write(key, None, seen.version, known(key))
    if (token := change.token) is not None:
        yield _token(token, lineages)
    if (application := change.application) is not None:
        key, body = application_key(application.id), codec.encode_application(application)
        yield Write(key, application.version, application.version - 1, known(key), body)
    for owner in change.owners:
        key, body = owner_key(owner.id), codec.encode_owner(owner)
        yield Write(key, owner.version, owner.version - 1, known(key), body)
    if (destination := change.destination) is not None:
        key = destination_key(destination.id)
        yield Write(
            key,
            destination.version,
            destination.version - 1,
            known(key),
            codec.encode_destination(destination),
            index=EXPIRIES,
            score=destination.sent_at[-1] if destination.sent_at else 0,
            member=key.name,
        )
    for token in change.revoked:
        yield _token(token, lineages)


def state_write(
    state: UserSecurity, enrolled: int, lineages: Mapping[int, bytes], *, made_from: int
) -> Write:
    """Return how the part of a user is written whose credentials, of version *enrolled*, lie elsewhere."""
    key, body = state_key(state.id), encode_state(state, enrolled)
    known = lineages.get(key.bucket, b"")
    if made_from:
        return Write(key, state.version, made_from, known, body)
    return Write(key, state.version, 0, known, body, index=USERS, member=user_member(state.id))


def state_seen(user: UserSecurity, lineages: Mapping[int, bytes]) -> Write:
    """Return how that part is compared alone."""
    key = state_key(user.id)
    return Write(key, None, user.version, lineages.get(key.bucket, b""))


def _token(token: OneTimeToken, lineages: Mapping[int, bytes]) -> Write:
    key = token_key(token.id, token.user_id)
    return Write(
        key,
        token.version,
        token.version - 1,
        lineages.get(key.bucket, b""),
        codec.encode_token(token),
        fenced=True,
        index=EXPIRIES,
        score=token.expires_at,
        member=key.name,
    )


def home(change: Change, records: Sequence[Write]) -> int:
    """Return the bucket that decides a change and takes its events."""
    if records:
        return records[0].key.bucket
    return bucket_of_user(change.events[0].user_id if change.events else None)
