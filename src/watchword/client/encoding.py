"""
How a secret is put into the body of a verification, and where that body goes.

This is the one place that knows it: a method with other needs changes its row here. Whether the body
then travels encrypted is the business of `envelope`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_PATH: Final = "/v1/one-time-token/status"

# The method that asks for no secret: the repeated request itself carries the proof.
SIGNATURE: Final = "SIGNATURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    Where a method is verified, and how.

    Attributes:
        verify_path: Where the secret goes.
        key: Under which name.
        trigger_path: Where a code is asked for.
        sealable: Whether the wire has an encrypted form of it.
        binary: Whether the secret is bytes, which travel as base64.
    """

    verify_path: str
    key: str
    trigger_path: str | None = None
    sealable: bool = False
    binary: bool = False


def _phone(channel: str) -> Route:
    base = f"/v1/one-time-token/{channel}"
    return Route(verify_path=f"{base}/verify", key="otpCode", trigger_path=f"{base}/trigger")


# The methods that this client can serve. One that is missing here is offered to nobody.
ROUTES: Final[Mapping[str, Route]] = {
    "PIN": Route(verify_path="/v1/one-time-token/pin/verify", key="pin", sealable=True),
    "PARTNER_DEVICE_FINGERPRINT": Route(
        verify_path="/v1/one-time-token/partner-device-fingerprint/verify",
        key="deviceFingerprint",
        sealable=True,
    ),
    "FACE_MAP": Route(verify_path="/v1/one-time-token/facemap/verify", key="faceMap", binary=True),
    "SMS": _phone("sms"),
    "WHATSAPP": _phone("whatsapp"),
    "VOICE": _phone("voice"),
}


def encode_secret(route: Route, secret: str | bytes) -> bytes:
    """
    Return the body of a verification.

    Raises:
        TypeError: *secret* is bytes, and the method wants words.
    """
    if isinstance(secret, bytes):
        if not route.binary:
            raise TypeError(f"a resolver must answer {route.key} with a string, not with bytes")
        secret = as_base64(secret)
    return msgspec.json.encode({route.key: secret})


def as_base64(data: str | bytes) -> str:
    """Return bytes as base64. A string is that already."""
    return data if isinstance(data, str) else base64.b64encode(data).decode("ascii")
