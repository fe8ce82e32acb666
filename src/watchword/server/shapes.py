"""The JSON of the OTT API: what its operations take and answer."""

from msgspec import Struct

from watchword.domain.method import Method
from watchword.engine.engine import Snapshot
from watchword.wire import Discreet


class CodeBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a phone challenge."""

    otp_code: str


class PinBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a PIN challenge."""

    pin: str


class DeviceFingerprintBody(Discreet, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The answer to a device fingerprint challenge."""

    device_fingerprint: str


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
