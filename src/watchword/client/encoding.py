"""
How a secret is put into the body of a verification, and where that body goes.

This is the one place that knows it: a method that wants its secret encrypted changes its row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_PATH: Final = "/v1/one-time-token/status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a method is verified, under which key the secret goes, and where its code is asked for."""

    verify_path: str
    key: str
    trigger_path: str | None = None


def _phone(channel: str) -> Route:
    base = f"/v1/one-time-token/{channel}"
    return Route(verify_path=f"{base}/verify", key="otpCode", trigger_path=f"{base}/trigger")


# The methods that this client can serve. One that is missing here is offered to nobody.
ROUTES: Final[Mapping[str, Route]] = {
    "PIN": Route(verify_path="/v1/one-time-token/pin/verify", key="pin"),
    "PARTNER_DEVICE_FINGERPRINT": Route(
        verify_path="/v1/one-time-token/partner-device-fingerprint/verify", key="deviceFingerprint"
    ),
    "SMS": _phone("sms"),
    "WHATSAPP": _phone("whatsapp"),
    "VOICE": _phone("voice"),
}


def encode_secret(route: Route, secret: str) -> bytes:
    """Return the body of a verification."""
    return msgspec.json.encode({route.key: secret})
