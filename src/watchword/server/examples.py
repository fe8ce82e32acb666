"""
Examples for the OpenAPI document, one for each shape.

They are made of the shapes themselves, so that none can go out of date; a test holds each answer's
to its schema. Values are those of the sandbox: what an example shows can be tried.
"""

from typing import Any

import msgspec

from watchword import wire
from watchword.server import shapes

_OTT = "be2f6579-9426-480b-9cb7-d8f1116cc8b9"
_USER = 6146956
_KEY_ID = "6da49495-1632-43cd-9a03-dd324603ecd7"
_CREATED = "2026-11-23T07:27:58.273000000Z"
_KEY = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEXRZcH9vJyjLkJ6sCzJ7EoWuZrHFS0sWZ9vVqUjzVbB1oTCNoQ8nXW5yF"
_VIEW = shapes.ViewData(shapes.Attributes(_USER))


def _view(name: str) -> shapes.MethodView:
    return shapes.MethodView(name, _VIEW)


_CHALLENGES = [
    shapes.ChallengeView(_view("PIN"), [], required=True, passed=False),
    shapes.ChallengeView(_view("SMS"), [_view("WHATSAPP"), _view("VOICE")], required=True, passed=False),
]
_SLIM = shapes.SlimToken(
    _OTT,
    [
        shapes.SlimChallenge(shapes.SlimMethod("PIN"), passed=True),
        shapes.SlimChallenge(shapes.SlimMethod("SMS"), passed=False),
    ],
    3600,
)

_ALL: list[msgspec.Struct] = [
    shapes.CodeBody("111111"),
    shapes.PinBody("1234"),
    shapes.DeviceFingerprintBody("3207da22-a0d3-4b6b-a591-6297e646fe32"),
    shapes.FaceMapBody(b"an export of a scanner, or a photograph"),
    shapes.PhoneNumberBody("+6588888888"),
    shapes.PublicKeyBody("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEF\n-----END PUBLIC KEY-----\n"),
    shapes.PlaygroundBody("hello"),
    shapes.RequestKeyBody(
        _KEY_ID,
        "PAYLOAD_SIGNING",
        "2026-04-27 00:00:00",
        "2027-04-01 00:00:00",
        shapes.KeyMaterial("ES256", _KEY),
    ),
    shapes.StatusAnswer(shapes.StatusProperties(_OTT, _CHALLENGES, 3600, "TRANSFER__FUND", _USER)),
    shapes.VerifiedAnswer(shapes.VerifiedProperties(_OTT, _CHALLENGES[1:], 3600)),
    _SLIM,
    shapes.SessionAnswer(_SLIM),
    shapes.TriggeredAnswer("*********8888"),
    shapes.DeviceFingerprintCreated("0f4bd3d5-45f5-4a56-b1b7-3d2a4f0c9f5e", _CREATED),
    shapes.PhoneNumber(1230944, "+6588888888", "PRIMARY", verified=True, client_id="demo-application"),
    shapes.PublicKeyView(
        "5f0c64b1-0e27-4b27-9d3c-5f0c0b5d7e21", _CREATED, "9f86d081884c7d659a2feaa0c55ad015"
    ),
    shapes.ResponseKey(_KEY_ID, 1, shapes.KeyMaterial("ES256", _KEY), "PAYLOAD_SIGNING"),
    shapes.RequestKey(
        _KEY_ID,
        "PAYLOAD_SIGNING",
        "2026-04-27 00:00:00",
        "2027-04-01 00:00:00",
        shapes.KeyMaterial("ES256", _KEY),
        client_id=None,
        deactivation_timestamp=None,
    ),
    shapes.PlaygroundAnswer("jose-playground-response-hello", "POST"),
    wire.ErrorAnswer(errors=(wire.ErrorItem(code=wire.Code.PIN_INCORRECT, message="…", arguments=(4,)),)),
    wire.BearerErrorAnswer(error="invalid_token", error_description="A valid access token is needed"),
]

_EXAMPLES: dict[Any, Any] = {type(example): msgspec.to_builtins(example) for example in _ALL}


def example_of(shape: Any) -> Any:  # noqa: ANN401 - a struct, or a list of one kind.
    """
    Return an example of a shape, as JSON has it.

    Raises:
        KeyError: There is none.
    """
    if shape in _EXAMPLES:
        return _EXAMPLES[shape]
    (item,) = shape.__args__
    return [_EXAMPLES[item]]
