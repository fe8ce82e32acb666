"""
Error documents: what a refusal, a bad request or our own trouble looks like from outside.

Documents are made only here, at the edge. The server and the guard share them, so that a client
meets one shape whoever answers. Strangers get one answer for unknown, expired, spent and foreign
tokens; the audit trail has the real reason.
"""

from collections.abc import Mapping, Sequence

import msgspec

from watchword import wire
from watchword.asgi import Document
from watchword.delivery.base import DeliveryError
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import CredentialKind
from watchword.engine.deciding import BusyError, StoreContendedError
from watchword.engine.engine import Wrong
from watchword.engine.principal import AuthenticatorUnavailableError
from watchword.faces.base import FaceUnavailableError
from watchword.methods.keyring import KeyMissingError, Tampered
from watchword.store.base import StoreUnavailableError

RETRY_SOON_SECONDS = 1
RATE_LIMITED_BY = "watchword"

TROUBLES = (
    StoreUnavailableError,
    StoreContendedError,
    BusyError,
    DeliveryError,
    AuthenticatorUnavailableError,
    FaceUnavailableError,
    KeyMissingError,
    Tampered,
)
"""What is our fault or the world's, and no decision: 503."""


class Problem(Document):
    """An answer that says no."""


def problem(
    status: int,
    code: str,
    message: str,
    *,
    path: str | None = None,
    arguments: Sequence[str | int] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """
    Make an error document.

    Args:
        code: What a program decides by.
        message: What a person reads.
        path: The member of the request that is at fault.
        arguments: What the code is about, such as the attempts left.
    """
    item = wire.ErrorItem(
        code=code,
        message=message,
        path=path,
        arguments=None if arguments is None else tuple(arguments),
    )
    return document(status, wire.ErrorAnswer(errors=(item,)), headers or {})


def document(status: int, answer: msgspec.Struct, headers: Mapping[str, str]) -> Problem:
    """Make an answer of any struct; no answer that says no is ever cached."""
    pairs = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
    ]
    return Problem(status, msgspec.json.encode(answer), tuple(pairs))


def unauthenticated() -> Problem:
    """Answer a call without a valid access token (RFC 6750 section 3)."""
    answer = wire.BearerErrorAnswer(
        error="invalid_token",
        error_description="A valid access token is needed: Authorization: Bearer <token>",
    )
    return document(401, answer, {"www-authenticate": "Bearer"})


def user_needed() -> Problem:
    """Answer an application that makes a user's call."""
    return problem(403, wire.Code.PRINCIPAL_NOT_ALLOWED, "This call needs a user's access token.")


def application_needed() -> Problem:
    """Answer a user who makes an application's call, or an application that may not make it."""
    return problem(
        403,
        wire.Code.PRINCIPAL_NOT_ALLOWED,
        "This call needs an application's access token (client credentials), of one that may manage users.",
    )


def ott_header_invalid(header: str) -> Problem:
    """Answer a missing, repeated or malformed OTT header."""
    return problem(
        400, wire.Code.OTT_HEADER_INVALID, f"Send one {header} header that holds one lower-case UUID."
    )


def locked(seconds: int) -> Problem:
    """Answer a user who is locked."""
    return problem(
        429,
        wire.Code.SCA_LOCKED,
        f"Too many failures. Try again in {seconds} seconds.",
        headers={
            **_slow_down(seconds),
            wire.APPROVAL_RESULT: wire.REJECTED,
        },
    )


def pin_blocked(seconds: int) -> Problem:
    """Answer a v2 PIN verification of a user who is locked, which that generation has a code for."""
    return problem(
        400,
        wire.Code.PIN_BLOCKED,
        f"The PIN is blocked. Try again in {seconds} seconds.",
        headers={wire.RETRY_AFTER: str(seconds)},
    )


def refused(refusal: Refusal) -> Problem:
    """Answer a refusal of status, trigger, verify or authorise, or one that leaves no OTT to give."""
    match refusal.reason:
        case Reason.LOCKED:
            return locked(refusal.retry_after or RETRY_SOON_SECONDS)
        case Reason.NOT_ENROLLED:
            return problem(
                403,
                wire.Code.SCA_ENROLMENT_REQUIRED,
                "Not enough is enrolled for this action. One of these methods would do.",
                arguments=refusal.methods,
                headers={wire.APPROVAL_RESULT: wire.REJECTED},
            )
        case Reason.NOT_OFFERED:
            return problem(
                400, wire.Code.CHALLENGE_NOT_OFFERED, "No open challenge of this token takes this method."
            )
        case Reason.NOT_TRIGGERED:
            return problem(400, wire.Code.OTP_NOT_TRIGGERED, "No code was sent over this channel yet.")
        case Reason.CODE_EXPIRED:
            return problem(400, wire.Code.OTP_EXPIRED, "The code is no longer valid. Ask for a new one.")
        case Reason.RESENT_TOO_SOON:
            seconds = refusal.retry_after or RETRY_SOON_SECONDS
            return problem(
                429,
                wire.Code.OTP_RESEND_TOO_SOON,
                f"A code was sent a moment ago. Ask again in {seconds} seconds.",
                headers=_slow_down(seconds),
            )
        case Reason.SENDS_EXHAUSTED:
            return problem(
                429,
                wire.Code.OTP_SENDS_EXHAUSTED,
                "No more codes can be sent for now. Choose another method.",
                headers=_slow_down(refusal.retry_after or RETRY_SOON_SECONDS),
            )
        case _:
            # One answer for all of these: whether a token exists is nobody's business but its owner's.
            return problem(404, wire.Code.OTT_NOT_FOUND, "There is no such one-time token.")


_INCORRECT = {
    CredentialKind.PIN: (wire.Code.PIN_INCORRECT, "PIN"),
    CredentialKind.PHONE: (wire.Code.OTP_INCORRECT, "code"),
    CredentialKind.DEVICE_FINGERPRINT: (wire.Code.DEVICE_FINGERPRINT_INCORRECT, "device fingerprint"),
    CredentialKind.FACE_MAP: (wire.Code.FACEMAP_INCORRECT, "face map"),
    CredentialKind.PUBLIC_KEY: (wire.Code.SIGNATURE_INCORRECT, "signature"),
}


def incorrect(wrong: Wrong) -> Problem:
    """Answer a wrong secret."""
    code, noun = _INCORRECT[wrong.method.credential]
    left = wrong.attempts_left
    return problem(400, code, f"The {noun} is not the right one. Attempts left: {left}.", arguments=(left,))


def signature_incorrect(wrong: Wrong) -> Problem:
    """Answer a wrong signature on a retry: with no OTT, or existing clients would sign without end."""
    return problem(
        403,
        wire.Code.SIGNATURE_INCORRECT,
        f"The signature is not the right one. Attempts left: {wrong.attempts_left}.",
        arguments=(wrong.attempts_left,),
        headers={wire.APPROVAL_RESULT: wire.REJECTED},
    )


_NOT_SET_UP = {
    CredentialKind.PIN: (wire.Code.PIN_NOT_SETUP, "PIN has not been setup."),
    CredentialKind.PHONE: (wire.Code.PHONE_NUMBER_NOT_FOUND, "There is no such phone number."),
    CredentialKind.DEVICE_FINGERPRINT: (
        wire.Code.DEVICE_FINGERPRINT_NOT_SETUP,
        "Device fingerprint has not been setup.",
    ),
    CredentialKind.FACE_MAP: (wire.Code.FACEMAP_NOT_SETUP, "FaceMap has not been setup."),
    CredentialKind.PUBLIC_KEY: (wire.Code.PUBLIC_KEY_NOT_FOUND, "There is no such public key."),
}

_REPEATED = {
    CredentialKind.PIN: (409, wire.Code.PIN_ALREADY_SETUP, "PIN has already been setup."),
    CredentialKind.PHONE: (422, wire.Code.PHONE_NUMBER_LIMIT, "The user has a phone number already."),
    CredentialKind.DEVICE_FINGERPRINT: (
        409,
        wire.Code.DEVICE_FINGERPRINT_REPEATED,
        "This device fingerprint has already been created.",
    ),
    CredentialKind.FACE_MAP: (409, wire.Code.FACEMAP_ALREADY_SETUP, "FaceMap has already been enrolled."),
    CredentialKind.PUBLIC_KEY: (409, wire.Code.PUBLIC_KEY_REPEATED, "This public key is there already."),
}

_TOO_MANY = {
    CredentialKind.DEVICE_FINGERPRINT: (wire.Code.DEVICE_FINGERPRINT_LIMIT, "device fingerprints"),
    CredentialKind.PUBLIC_KEY: (wire.Code.PUBLIC_KEY_LIMIT, "public keys"),
}


def not_set_up(kind: CredentialKind) -> Problem:
    """Answer a call about something that the user has not enrolled."""
    code, message = _NOT_SET_UP[kind]
    return problem(404, code, message)


def not_enrolled(refusal: Refusal, kind: CredentialKind) -> Problem:
    """Answer a change of credentials that was refused."""
    match refusal.reason:
        case Reason.NOT_SET_UP:
            return not_set_up(kind)
        case Reason.ALREADY_ENROLLED:
            status, code, message = _REPEATED[kind]
            return problem(status, code, message)
        case Reason.TOO_MANY:
            code, noun = _TOO_MANY[kind]
            return problem(400, code, f"The user has as many {noun} as are allowed. Delete one first.")
        case Reason.TAKEN:
            return problem(422, wire.Code.PHONE_NUMBER_REPEATED, "It's linked to another account.")
        case _:
            return refused(refusal)


def trouble(error: Exception) -> Problem:
    """Answer when the store, a provider or our own processors cannot."""
    if isinstance(error, DeliveryError):
        code, message = wire.Code.OTP_DELIVERY_FAILED, "The code could not be delivered. Try again."
    else:
        code, message = wire.Code.SERVICE_UNAVAILABLE, "Nothing was decided. Try again in a moment."
    return problem(503, code, message, headers={wire.RETRY_AFTER: str(RETRY_SOON_SECONDS)})


def cause(error: Exception) -> str:
    """Say in the log what happened, without a word of what was sent or stored."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, KeyMissingError | Tampered) else name


def jose_refused(reason: str, *, signed: bool) -> Problem:
    """
    Answer a body whose envelope cannot be opened.

    The public protocol has a code for a signature that does not verify; for what cannot be decrypted it
    answers a bare 500, which tells a client nothing and an operator of a fault that is not his.
    """
    if signed:
        answer = wire.BearerErrorAnswer(
            error="jws_error", error_description=f"Unable to verify the request signature: {reason}"
        )
    else:
        answer = wire.BearerErrorAnswer(
            error="jwe_error", error_description=f"Unable to decrypt the request: {reason}"
        )
    return document(400, answer, {})


def busy() -> Problem:
    """Answer when a part of the server has as much to do as it takes at once."""
    return problem(
        503,
        wire.Code.SERVICE_UNAVAILABLE,
        "Nothing was decided. Try again in a moment.",
        headers={wire.RETRY_AFTER: str(RETRY_SOON_SECONDS)},
    )


def malformed(message: str, *, path: str | None = None) -> Problem:
    """Answer a request that cannot be read."""
    return problem(400, wire.Code.REQUEST_MALFORMED, message, path=path)


def _slow_down(seconds: int) -> dict[str, str]:
    return {wire.RETRY_AFTER: str(seconds), "x-rate-limited-by": RATE_LIMITED_BY}
