"""
Records as bytes, and back.

A stored form is a msgpack array whose first element is the number of its schema, with a CRC-32
of the whole in front of it: a row that was damaged, cut short, or belongs to another kind of
record is reported, never taken for another record. Structs guard this border, since only they
check types while they decode; inside it the domain's own records are used.

A later form is another Struct with the next number, decoded beside the old ones. Positions in an
array have no names, so a form that was released never changes, but for what one of them may hold:
a new kind of credential, say. The same commit raises the number of the schema then, so that no
older version opens a file where it would meet what it cannot read.
"""

from collections.abc import Mapping
from zlib import crc32

import msgspec

from watchword.domain.action import Bind, Risk, Spend
from watchword.domain.application import Application, ApplicationId, ClientKey, KeyScope
from watchword.domain.binding import Binding
from watchword.domain.challenge import Challenge
from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone, Pin, PublicKey
from watchword.domain.decision import Event, EventName
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant
from watchword.domain.lockout import NO_ATTEMPTS, Attempts, Tally
from watchword.domain.method import Method
from watchword.domain.owner import Owner
from watchword.domain.token import (
    Cleared,
    LiveCode,
    OneTimeToken,
    Pending,
    Reserved,
    Revoked,
    Sends,
    Spent,
    State,
    TokenId,
)
from watchword.domain.user import OpenToken, UserId, UserSecurity
from watchword.store.base import StoreCorruptError

_CRC_BYTES = 4
# What the checksum starts from, so that the bytes of one kind never pass for another's.
_TOKEN, _USER, _DESTINATION, _EVENT, _APPLICATION, _OWNER = 1, 2, 3, 4, 5, 6


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What every stored form has in common."""


class _Code(_Stored, frozen=True):
    method: Method
    credential_id: str
    digest: bytes
    expires_at: Instant
    wrong: int


class _Pending(_Stored, frozen=True, tag=0):
    code: _Code | None


class _Cleared(_Stored, frozen=True, tag=1):
    at: Instant


class _Reserved(_Stored, frozen=True, tag=2):
    cleared_at: Instant
    lease_until: Instant


class _Spent(_Stored, frozen=True, tag=3):
    at: Instant


class _Revoked(_Stored, frozen=True, tag=4):
    at: Instant
    why: str


class _Token(_Stored, frozen=True, tag=1):
    id: TokenId
    user_id: UserId
    action: str
    risk: Risk
    bind: Bind
    spend_mode: Spend
    binding: tuple[str, str, bytes, bytes]
    challenges: tuple[tuple[Method, tuple[Method, ...], Method | None], ...]
    factors: int
    issued_at: Instant
    expires_at: Instant
    state: _Pending | _Cleared | _Reserved | _Spent | _Revoked
    sends: tuple[tuple[Method, int, Instant], ...]
    version: int


class _TokenOfPage(_Token, frozen=True, tag=2):
    application: str | None
    details: bytes
    page: bytes


class _Pin(_Stored, frozen=True, tag=0):
    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool


class _Phone(_Stored, frozen=True, tag=1):
    id: str
    sealed: bytes
    digest: bytes
    enrolled_at: Instant
    disabled: bool


class _DeviceFingerprint(_Stored, frozen=True, tag=2):
    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool


class _PublicKey(_Stored, frozen=True, tag=3):
    id: str
    spki: bytes
    enrolled_at: Instant
    disabled: bool


class _FaceMap(_Stored, frozen=True, tag=4):
    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool


_Credential = _Pin | _Phone | _DeviceFingerprint | _PublicKey | _FaceMap


class _Attempts(_Stored, frozen=True):
    failures: tuple[int, int, int]
    consecutive: int
    streak: tuple[int, int, int]
    locked_until: Instant


class _User(_Stored, frozen=True, tag=1):
    id: UserId
    version: int
    credentials: tuple[_Credential, ...]
    preferred: Method | None
    attempts: _Attempts | None
    session_until: Instant
    open_tokens: tuple[tuple[bytes, Instant], ...]


class _Destination(_Stored, frozen=True, tag=1):
    id: bytes
    sent_at: tuple[Instant, ...]
    version: int


class _Application(_Stored, frozen=True, tag=1):
    id: ApplicationId
    version: int
    keys: tuple[tuple[str, KeyScope, str, bytes, Instant, Instant], ...]


class _Owner(_Stored, frozen=True, tag=1):
    id: bytes
    user_id: UserId | None
    version: int


class _Event(_Stored, frozen=True, tag=1):
    name: EventName
    at: Instant
    user_id: UserId | None
    token_id: TokenId | None
    details: dict[str, str | int]


_encode = msgspec.msgpack.Encoder().encode
_decode_token = msgspec.msgpack.Decoder(_Token | _TokenOfPage).decode
_decode_user = msgspec.msgpack.Decoder(_User).decode
_decode_destination = msgspec.msgpack.Decoder(_Destination).decode
_decode_application = msgspec.msgpack.Decoder(_Application).decode
_decode_owner = msgspec.msgpack.Decoder(_Owner).decode
_decode_event = msgspec.msgpack.Decoder(_Event).decode


# --- tokens -----------------------------------------------------------------------------------


def encode_token(token: OneTimeToken) -> bytes:
    """Return the stored form of a token: the shortest that holds all of it."""
    binding = token.binding
    first = (
        token.id,
        token.user_id,
        token.action,
        token.risk,
        token.bind,
        token.spend_mode,
        (binding.method, binding.path, binding.target, binding.body),
        tuple([(each.primary, each.alternatives, each.passed_by) for each in token.challenges]),
        token.factors,
        token.issued_at,
        token.expires_at,
        _state_out(token.state),
        tuple([(sends.method, sends.count, sends.last_at) for sends in token.sends]),
        token.version,
    )
    if token.application is None and not token.details and not token.page:
        return _seal(_TOKEN, _Token(*first))
    return _seal(_TOKEN, _TokenOfPage(*first, token.application, token.details, token.page))


def decode_token(body: bytes) -> OneTimeToken:
    """
    Return the token that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not a token's.
    """
    try:
        stored = _decode_token(_opened(_TOKEN, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored token cannot be read: {error}") from error
    method, path, target, digest = stored.binding
    return OneTimeToken(
        id=stored.id,
        user_id=stored.user_id,
        action=stored.action,
        risk=stored.risk,
        bind=stored.bind,
        spend_mode=stored.spend_mode,
        binding=Binding(method=method, path=path, target=target, body=digest),
        challenges=tuple([Challenge(*each) for each in stored.challenges]),
        factors=stored.factors,
        issued_at=stored.issued_at,
        expires_at=stored.expires_at,
        state=_state_in(stored.state),
        sends=tuple([Sends(*each) for each in stored.sends]),
        version=stored.version,
        application=stored.application if isinstance(stored, _TokenOfPage) else None,
        details=stored.details if isinstance(stored, _TokenOfPage) else b"",
        page=stored.page if isinstance(stored, _TokenOfPage) else b"",
    )


def _state_out(state: State) -> _Pending | _Cleared | _Reserved | _Spent | _Revoked:
    match state:
        case Pending(code):
            if code is None:
                return _Pending(None)
            return _Pending(_Code(code.method, code.credential_id, code.digest, code.expires_at, code.wrong))
        case Cleared(at):
            return _Cleared(at)
        case Reserved(cleared_at, lease_until):
            return _Reserved(cleared_at, lease_until)
        case Spent(at):
            return _Spent(at)
        case Revoked(at, why):
            return _Revoked(at, why)


def _state_in(stored: _Pending | _Cleared | _Reserved | _Spent | _Revoked) -> State:
    match stored:
        case _Pending():
            code = stored.code
            if code is None:
                return Pending()
            return Pending(
                LiveCode(
                    method=code.method,
                    credential_id=code.credential_id,
                    digest=code.digest,
                    expires_at=code.expires_at,
                    wrong=code.wrong,
                )
            )
        case _Cleared():
            return Cleared(stored.at)
        case _Reserved():
            return Reserved(stored.cleared_at, stored.lease_until)
        case _Spent():
            return Spent(stored.at)
        case _Revoked():
            return Revoked(stored.at, stored.why)


# --- users ------------------------------------------------------------------------------------


def encode_user(user: UserSecurity) -> bytes:
    """Return the stored form of a user's security state."""
    attempts = user.attempts
    return _seal(
        _USER,
        _User(
            user.id,
            user.version,
            tuple([_credential_out(credential) for credential in user.credentials]),
            user.preferred,
            None
            if attempts is NO_ATTEMPTS
            else _Attempts(
                _tally_out(attempts.failures),
                attempts.consecutive,
                _tally_out(attempts.streak),
                attempts.locked_until,
            ),
            user.session_until,
            tuple([(entry.id, entry.expires_at) for entry in user.open_tokens]),
        ),
    )


def decode_user(body: bytes) -> UserSecurity:
    """
    Return the user's security state that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not a user's.
    """
    try:
        stored = _decode_user(_opened(_USER, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored user cannot be read: {error}") from error
    attempts = stored.attempts
    return UserSecurity(
        id=stored.id,
        version=stored.version,
        credentials=tuple([_credential_in(credential) for credential in stored.credentials]),
        preferred=stored.preferred,
        attempts=NO_ATTEMPTS
        if attempts is None
        else Attempts(
            failures=Tally(*attempts.failures),
            consecutive=attempts.consecutive,
            streak=Tally(*attempts.streak),
            locked_until=attempts.locked_until,
        ),
        session_until=stored.session_until,
        open_tokens=tuple([OpenToken(*each) for each in stored.open_tokens]),
    )


def _tally_out(tally: Tally) -> tuple[int, int, int]:
    return tally.knowledge, tally.possession, tally.inherence


def _credential_out(credential: Credential) -> _Credential:
    match credential:
        case Pin():
            return _Pin(credential.id, credential.sealed, credential.enrolled_at, credential.disabled)
        case Phone():
            return _Phone(
                credential.id,
                credential.sealed,
                credential.digest,
                credential.enrolled_at,
                credential.disabled,
            )
        case DeviceFingerprint():
            return _DeviceFingerprint(
                credential.id, credential.sealed, credential.enrolled_at, credential.disabled
            )
        case PublicKey():
            return _PublicKey(credential.id, credential.spki, credential.enrolled_at, credential.disabled)
        case FaceMap():
            return _FaceMap(credential.id, credential.sealed, credential.enrolled_at, credential.disabled)


def _credential_in(stored: _Credential) -> Credential:
    match stored:
        case _Phone():
            return Phone(
                id=stored.id,
                sealed=stored.sealed,
                digest=stored.digest,
                enrolled_at=stored.enrolled_at,
                disabled=stored.disabled,
            )
        case _Pin():
            return Pin(
                id=stored.id, sealed=stored.sealed, enrolled_at=stored.enrolled_at, disabled=stored.disabled
            )
        case _DeviceFingerprint():
            return DeviceFingerprint(
                id=stored.id, sealed=stored.sealed, enrolled_at=stored.enrolled_at, disabled=stored.disabled
            )
        case _PublicKey():
            return PublicKey(
                id=stored.id, spki=stored.spki, enrolled_at=stored.enrolled_at, disabled=stored.disabled
            )
        case _FaceMap():
            return FaceMap(
                id=stored.id, sealed=stored.sealed, enrolled_at=stored.enrolled_at, disabled=stored.disabled
            )


# --- destinations -----------------------------------------------------------------------------


def encode_destination(destination: Destination) -> bytes:
    """Return the stored form of what was sent to a number."""
    return _seal(_DESTINATION, _Destination(destination.id, destination.sent_at, destination.version))


def decode_destination(body: bytes) -> Destination:
    """
    Return what was sent to the number that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not a destination's.
    """
    try:
        stored = _decode_destination(_opened(_DESTINATION, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored destination cannot be read: {error}") from error
    return Destination(id=stored.id, sent_at=stored.sent_at, version=stored.version)


# --- applications -----------------------------------------------------------------------------


def encode_application(application: Application) -> bytes:
    """Return the stored form of an application."""
    return _seal(
        _APPLICATION,
        _Application(
            application.id,
            application.version,
            tuple(
                [
                    (key.id, key.scope, key.algorithm, key.spki, key.valid_from, key.valid_till)
                    for key in application.keys
                ]
            ),
        ),
    )


def decode_application(body: bytes) -> Application:
    """
    Return the application that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not an application's.
    """
    try:
        stored = _decode_application(_opened(_APPLICATION, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored application cannot be read: {error}") from error
    return Application(
        id=stored.id,
        version=stored.version,
        keys=tuple(
            [
                ClientKey(
                    id=id_,
                    scope=scope,
                    algorithm=algorithm,
                    spki=spki,
                    valid_from=valid_from,
                    valid_till=valid_till,
                )
                for id_, scope, algorithm, spki, valid_from, valid_till in stored.keys
            ]
        ),
    )


# --- owners -----------------------------------------------------------------------------------


def encode_owner(owner: Owner) -> bytes:
    """Return the stored form of an owner."""
    return _seal(_OWNER, _Owner(owner.id, owner.user_id, owner.version))


def decode_owner(body: bytes) -> Owner:
    """
    Return the owner that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not an owner's.
    """
    try:
        stored = _decode_owner(_opened(_OWNER, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored owner cannot be read: {error}") from error
    return Owner(id=stored.id, user_id=stored.user_id, version=stored.version)


# --- events -----------------------------------------------------------------------------------


def encode_event(event: Event) -> bytes:
    """Return the stored form of an event."""
    details: Mapping[str, str | int] = event.details
    if not isinstance(details, dict):
        details = dict(details)
    return _seal(_EVENT, _Event(event.name, event.at, event.user_id, event.token_id, details))


def decode_event(body: bytes) -> Event:
    """
    Return the event that *body* is the stored form of.

    Raises:
        StoreCorruptError: It is not an event's.
    """
    try:
        stored = _decode_event(_opened(_EVENT, body))
    except msgspec.MsgspecError as error:
        raise StoreCorruptError(f"a stored event cannot be read: {error}") from error
    return Event(
        name=stored.name,
        at=stored.at,
        user_id=stored.user_id,
        token_id=stored.token_id,
        details=stored.details,
    )


# ----------------------------------------------------------------------------------------------


def _seal(kind: int, stored: _Stored) -> bytes:
    payload = _encode(stored)
    return crc32(payload, kind).to_bytes(_CRC_BYTES, "big") + payload


def _opened(kind: int, body: bytes) -> bytes:
    payload = body[_CRC_BYTES:]
    if crc32(payload, kind).to_bytes(_CRC_BYTES, "big") != body[:_CRC_BYTES]:
        raise StoreCorruptError("a stored record does not match its checksum")
    return payload
