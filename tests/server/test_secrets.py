"""No secret shows in what the wire's bodies and answers look like when they are printed."""

from collections.abc import Mapping

import msgspec
import pytest

from watchword import wire
from watchword.sandbox import control
from watchword.server import shapes

SECRET = "83615297"
TOKEN: Mapping[str, object] = {
    "oneTimeToken": SECRET,
    "challenges": [],
    "validity": 1,
    "actionType": "A__B",
    "userId": 7,
}
WRAPPED: Mapping[str, object] = {"oneTimeTokenProperties": TOKEN}
HOLD_SECRETS: list[tuple[type[msgspec.Struct], Mapping[str, object]]] = [
    (shapes.CodeBody, {"otpCode": SECRET}),
    (shapes.PinBody, {"pin": SECRET}),
    (shapes.DeviceFingerprintBody, {"deviceFingerprint": SECRET}),
    (shapes.StatusProperties, TOKEN),
    (shapes.StatusAnswer, WRAPPED),
    (shapes.VerifiedProperties, TOKEN),
    (shapes.VerifiedAnswer, WRAPPED),
    (shapes.SlimToken, TOKEN),
    (shapes.SessionAnswer, WRAPPED),
    (wire.OneTimeTokenProperties, TOKEN),
    (wire.OneTimeTokenAnswer, WRAPPED),
    (
        control.OutboxMessage,
        {"channel": "SMS", "to": SECRET, "text": SECRET, "code": SECRET, "sentAt": "now"},
    ),
    (
        control.MadeUser,
        {
            "token": SECRET,
            "userId": 7,
            "profileIds": [8],
            "kind": "user",
            "phoneNumber": SECRET,
            "methods": [],
        },
    ),
]


@pytest.mark.parametrize(("kind", "body"), HOLD_SECRETS, ids=[kind.__name__ for kind, _ in HOLD_SECRETS])
def test_what_holds_a_secret_tells_its_type_alone(
    kind: type[msgspec.Struct], body: Mapping[str, object]
) -> None:
    held = msgspec.convert(body, kind)
    assert SECRET.encode() in msgspec.json.encode(held)
    for shown in (repr(held), str(held), f"{held}"):
        assert shown.startswith(kind.__name__)
        assert SECRET not in shown
