"""The JSON of the OTT API: what its operations take and answer."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from watchword.domain.instant import Instant
from watchword.domain.method import Method
from watchword.engine.engine import Snapshot
from watchword.wire import Discreet


class CodeBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a phone challenge."""

    otp_code: str


class PinBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a PIN challenge, or a PIN to enrol."""

    pin: str


class DeviceFingerprintBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a device fingerprint challenge, or a fingerprint to enrol."""

    device_fingerprint: str


class FaceMapBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a face map challenge, or a face to enrol; Base64."""

    face_map: Annotated[bytes, Meta(min_length=1)]


class PhoneNumberBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A phone number, with its country's code: ``+6588888888``."""

    phone_number: str


class PublicKeyBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A public key to check signatures with: PEM, SPKI or PKCS#1."""

    public_key: str


class DeviceFingerprintCreated(Struct, frozen=True, rename="camel"):
    """A device fingerprint as it is listed: never the value itself."""

    device_fingerprint_id: str
    created_at: str


class PhoneNumber(Discreet, frozen=True, rename="camel"):
    """A phone number, as the application that enrolled it sees it."""

    id: int
    phone_number: str
    type: str
    verified: bool
    client_id: str


class PublicKeyView(Struct, frozen=True, rename="camel"):
    """A public key of a user's programs."""

    public_key_id: str
    created_at: str
    sha256: str


class KeyMaterial(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A public key: DER SubjectPublicKeyInfo in Base64."""

    algorithm: str
    key_material: str


class ResponseKey(Struct, frozen=True, rename="camel"):
    """A public key of ours."""

    key_id: str
    version: int
    key_material: KeyMaterial
    scope: str


class RequestKeyBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A public key of an application's, to be kept."""

    key_id: str
    scope: str
    valid_from: str
    valid_till: str
    public_key_material: KeyMaterial


class RequestKey(Struct, frozen=True, rename="camel"):
    """A public key of an application's, as it is kept."""

    key_id: str
    scope: str
    valid_from: str
    valid_till: str
    public_key_material: KeyMaterial
    client_id: str | None
    deactivation_timestamp: str | None


class PlaygroundBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the playground says back."""

    message: Annotated[str, Meta(max_length=100)]


class PlaygroundAnswer(Struct, frozen=True):
    """What the playground says."""

    message: str
    method: str


class Attributes(Struct, frozen=True, rename="camel"):
    """What every view has: whose challenge it is."""

    user_id: int


class ViewData(Struct, frozen=True, rename="camel"):
    """What a client needs to show a challenge."""

    attributes: Attributes


class MethodView(Struct, frozen=True, rename="camel"):
    """One way to pass a challenge."""

    type: str
    view_data: ViewData


class ChallengeView(Struct, frozen=True, rename="camel"):
    """A challenge, in full."""

    primary_challenge: MethodView
    alternatives: list[MethodView]
    required: bool
    passed: bool


class StatusProperties(Discreet, frozen=True, rename="camel"):
    """A token, in full."""

    one_time_token: str
    challenges: list[ChallengeView]
    validity: int
    action_type: str
    user_id: int


class StatusAnswer(Struct, frozen=True, rename="camel"):
    """The answer of the status."""

    one_time_token_properties: StatusProperties


class VerifiedProperties(Discreet, frozen=True, rename="camel"):
    """A token after a verification of the first generation: what is left to pass."""

    one_time_token: str
    challenges: list[ChallengeView]
    validity: int


class VerifiedAnswer(Struct, frozen=True, rename="camel"):
    """The answer of a verification of the first generation."""

    one_time_token_properties: VerifiedProperties


class SlimMethod(Struct, frozen=True):
    """A method, by name."""

    type: str


class SlimChallenge(Struct, frozen=True, rename="camel"):
    """A challenge as the second generation shows it."""

    primary_challenge: SlimMethod
    passed: bool


class SlimToken(Discreet, frozen=True, rename="camel"):
    """A token as the second generation shows it."""

    one_time_token: str
    challenges: list[SlimChallenge]
    validity: int


class SessionAnswer(Struct, frozen=True, rename="camel"):
    """The answer of ``sca-sessions/authorise``."""

    one_time_token_properties: SlimToken


class TriggeredAnswer(Struct, frozen=True, rename="camel"):
    """Where the code went."""

    obfuscated_phone_no: str


def status(ott: str, snapshot: Snapshot) -> StatusAnswer:
    """Show a token: what is left to pass."""
    return StatusAnswer(
        StatusProperties(
            one_time_token=ott,
            challenges=_challenges(snapshot, passed_too=False),
            validity=snapshot.seconds_left,
            action_type=snapshot.token.action,
            user_id=snapshot.token.user_id,
        )
    )


def verified(ott: str, snapshot: Snapshot, *, passed_too: bool = False) -> VerifiedAnswer:
    """Show a token after a verification."""
    return VerifiedAnswer(
        VerifiedProperties(
            one_time_token=ott,
            challenges=_challenges(snapshot, passed_too=passed_too),
            validity=snapshot.seconds_left,
        )
    )


def slim(ott: str, snapshot: Snapshot) -> SlimToken:
    """Show a token as the second generation does: every challenge, passed or not."""
    return SlimToken(
        one_time_token=ott,
        challenges=[
            SlimChallenge(
                SlimMethod(offer[0] if offer else challenge.primary),
                challenge.passed_by is not None,
            )
            for challenge, offer in zip(snapshot.token.challenges, snapshot.token.open_methods(), strict=True)
        ],
        validity=snapshot.seconds_left,
    )


def _challenges(snapshot: Snapshot, *, passed_too: bool) -> list[ChallengeView]:
    token = snapshot.token
    view = ViewData(Attributes(token.user_id))

    def show(method: Method) -> MethodView:
        return MethodView(method.value, view)

    shown: list[ChallengeView] = []
    for challenge, offer in zip(token.challenges, token.open_methods(), strict=True):
        if challenge.passed_by is None:
            views = [show(method) for method in offer]
            shown.append(ChallengeView(views[0], views[1:], required=True, passed=False))
        elif passed_too:
            alternatives = [show(method) for method in challenge.alternatives]
            shown.append(ChallengeView(show(challenge.primary), alternatives, required=True, passed=True))
    return shown


def nanoseconds(moment: Instant) -> str:
    """Write a moment as the public API writes the creation of a credential: with nine decimals."""
    second = datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{moment % 1000:03d}000000Z"
