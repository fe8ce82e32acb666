"""
What both ends of the wire share: header names, error codes and the JSON answers that a client reads.

The server writes these shapes and the client reads them, so they stand once. The package imports
nothing of either side: an application installs the client without any server code.

Decoding is lenient on purpose. A client meets servers of several generations: members may be
missing, unknown ones may appear, and an alternative may be an object or a bare string.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

# Lower case, as ASGI wants them; HTTP does not care.
APPROVAL: Final = "x-2fa-approval"
APPROVAL_RESULT: Final = "x-2fa-approval-result"
ONE_TIME_TOKEN: Final = "one-time-token"
CORRELATION_ID: Final = "x-external-correlation-id"
TRACE_ID: Final = "x-trace-id"
SIGNATURE: Final = "x-signature"
JOSE_METHOD: Final = "x-tw-jose-method"
RETRY_AFTER: Final = "retry-after"

# The only two values of APPROVAL_RESULT.
APPROVED: Final = "APPROVED"
REJECTED: Final = "REJECTED"


class Code(StrEnum):
    """The error codes that a client acts on. A server may answer others; a client keeps those as they are."""

    SCA_REQUIRED = "sca.required"
    SCA_LOCKED = "sca.locked"
    SCA_ENROLMENT_REQUIRED = "sca.enrolment.required"
    OTT_HEADER_INVALID = "ott.header.invalid"
    OTT_NOT_FOUND = "ott.not.found"
    CHALLENGE_NOT_OFFERED = "challenge.not.offered"
    OTP_NOT_TRIGGERED = "otp.not.triggered"
    OTP_EXPIRED = "otp.expired"
    OTP_RESEND_TOO_SOON = "otp.resend.too.soon"
    OTP_SENDS_EXHAUSTED = "otp.sends.exhausted"
    OTP_DELIVERY_FAILED = "otp.delivery.failed"
    OTP_INCORRECT = "otp.incorrect"
    PIN_INCORRECT = "pin.incorrect"
    PIN_BLOCKED = "pin.blocked"
    DEVICE_FINGERPRINT_INCORRECT = "device.fingerprint.incorrect"
    FACEMAP_INCORRECT = "facemap.incorrect"
    SIGNATURE_INCORRECT = "signature.incorrect"
    PIN_NOT_SETUP = "pin.not.setup"
    PIN_ALREADY_SETUP = "pin.already.setup"
    PIN_TOO_SIMPLE = "pin.too.simple"
    FACEMAP_NOT_SETUP = "facemap.not.setup"
    FACEMAP_ALREADY_SETUP = "facemap.already.setup"
    FACEMAP_UNUSABLE = "facemap.unusable"
    DEVICE_FINGERPRINT_NOT_SETUP = "device.fingerprint.not.setup"
    DEVICE_FINGERPRINT_REPEATED = "device.fingerprint.repeated"
    DEVICE_FINGERPRINT_LIMIT = "device.fingerprint.limit.reached"
    PHONE_NUMBER_REPEATED = "phone.number.repeated"
    PHONE_NUMBER_LIMIT = "phone.number.limit.reached"
    PHONE_NUMBER_INVALID = "phone.number.invalid"
    PHONE_NUMBER_NOT_FOUND = "phone.number.not.found"
    PUBLIC_KEY_INVALID = "public.key.invalid"
    PUBLIC_KEY_REPEATED = "public.key.repeated"
    PUBLIC_KEY_LIMIT = "public.key.limit.reached"
    PUBLIC_KEY_NOT_FOUND = "public.key.not.found"
    USER_NOT_FOUND = "user.not.found"
    JOSE_KEY_NOT_FOUND = "jose.key.not.found"
    JOSE_KEY_INVALID = "jose.key.invalid"
    JOSE_KEY_REPEATED = "jose.key.repeated"
    JOSE_KEY_LIMIT = "jose.key.limit.reached"
    REQUEST_MALFORMED = "request.malformed"
    REQUEST_TOO_LARGE = "request.too.large"
    REQUEST_TIMED_OUT = "request.timed.out"
    MEDIA_TYPE_UNSUPPORTED = "media.type.unsupported"
    METHOD_NOT_ALLOWED = "method.not.allowed"
    NOT_FOUND = "not.found"
    PRINCIPAL_NOT_ALLOWED = "principal.not.allowed"
    PROFILE_NOT_ALLOWED = "profile.not.allowed"
    SERVICE_UNAVAILABLE = "service.unavailable"
    INTERNAL_ERROR = "internal.error"


class Discreet(Struct, frozen=True):
    """What holds a secret: printed, it tells its type and nothing else."""

    def __repr__(self) -> str:
        """Hide everything."""
        return f"{type(self).__name__}(...)"


class ErrorItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of `errors`."""

    code: str
    message: str = ""
    path: str | None = None
    arguments: tuple[Any, ...] | None = None


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """The error shape of every endpoint; the 403 of a protected call has more members around it."""

    errors: tuple[ErrorItem, ...]


class BearerErrorAnswer(Struct, frozen=True, kw_only=True):
    """What a missing or bad bearer token is answered with."""

    error: str
    error_description: str = ""


class ChallengeMethod(Struct, frozen=True, kw_only=True, rename="camel"):
    """One way to pass a challenge."""

    type: str
    view_data: dict[str, Any] | None = None


class Challenge(Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing the user must pass. The slim shape has neither `alternatives` nor `required`."""

    primary_challenge: ChallengeMethod
    alternatives: tuple[ChallengeMethod | str, ...] = ()
    required: bool = True
    passed: bool = False


class OneTimeTokenProperties(Discreet, frozen=True, kw_only=True, rename="camel"):
    """A one-time token as its owner sees it. A verification's answer may lack `actionType` and `userId`."""

    one_time_token: str
    challenges: tuple[Challenge, ...]
    validity: int | None = None
    action_type: str | None = None
    user_id: int | None = None


class OneTimeTokenAnswer(Struct, frozen=True, kw_only=True, rename="camel"):
    """The wrapped answer of status and of the v1 verifications."""

    one_time_token_properties: OneTimeTokenProperties


class TriggerAnswer(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a code was sent, masked."""

    obfuscated_phone_no: str
