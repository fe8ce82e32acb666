"""The operations on a token: its status, triggering and answering its challenges, starting a session."""

from collections.abc import Callable

import msgspec

from watchword import problems, protected
from watchword.domain.binding import bind
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import Method
from watchword.engine.engine import Engine, Snapshot, Wrong
from watchword.server import shapes
from watchword.server.body import BODY_MAX, read
from watchword.server.endpoint import Answer, Call, Handler, Jose, Operation

FACE_MAP_MAX = 4 * 1024 * 1024


class OneTimeTokens:
    """The operations on a token, over one engine."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine."""
        self._engine = engine

    def operations(self) -> list[Operation]:
        """Return the table; what a payment's usual way takes comes first."""
        return [*self._codes(), *self._status(), *self._direct(), *self._faces(), *self._session()]

    # --- the table ----------------------------------------------------------------------------

    def _codes(self) -> list[Operation]:
        operations: list[Operation] = []
        for method in (Method.SMS, Method.WHATSAPP, Method.VOICE):
            channel = method.lower()
            stem = f"one-time-token/{channel}"
            operations += [
                Operation(
                    name=f"{channel}-trigger",
                    summary=f"Send a code by {method}, once the user picked it",
                    method="POST",
                    paths=(f"/v1/{stem}/trigger", f"/{{version:calendar}}/{stem}/trigger"),
                    handler=self._trigger(method),
                    answer=shapes.TriggeredAnswer,
                    takes_ott=True,
                    errors=(400, 404, 408, 413, 429, 503),
                ),
                Operation(
                    name=f"{channel}-verify",
                    summary=f"Answer with the code that came by {method}",
                    method="POST",
                    paths=(f"/v1/{stem}/verify",),
                    handler=self._verify(method, shapes.CodeBody, "otp_code", shapes.verified),
                    body=shapes.CodeBody,
                    answer=shapes.VerifiedAnswer,
                    takes_ott=True,
                    errors=(400, 404, 408, 413, 415, 429),
                ),
                Operation(
                    name=f"{channel}-verify-calendar",
                    summary=f"Answer with the code that came by {method}",
                    method="POST",
                    paths=(f"/{{version:calendar}}/{stem}/verify",),
                    handler=self._verify(method, shapes.CodeBody, "otp_code", _verified_passed_too),
                    body=shapes.CodeBody,
                    answer=shapes.VerifiedAnswer,
                    takes_ott=True,
                    errors=(400, 404, 408, 413, 415, 429),
                ),
            ]
        return operations

    def _status(self) -> list[Operation]:
        return [
            Operation(
                name="status",
                summary="Show a token: what is left to pass",
                method="GET",
                paths=(
                    "/v1/one-time-token/status",
                    "/{version:calendar}/one-time-token/status",
                    "/v1/identity/one-time-token/status",
                ),
                handler=self._show,
                answer=shapes.StatusAnswer,
                takes_ott=True,
                errors=(400, 404),
            )
        ]

    def _direct(self) -> list[Operation]:
        """List what is verified by one call without a trigger: PIN and device fingerprint."""
        table = (
            (Method.PIN, shapes.PinBody, "pin", "pin", "pin"),
            (
                Method.PARTNER_DEVICE_FINGERPRINT,
                shapes.DeviceFingerprintBody,
                "device_fingerprint",
                "partner-device-fingerprint",
                "device-fingerprints",
            ),
        )
        operations: list[Operation] = []
        for method, body, field, first, second in table:
            operations += [
                Operation(
                    name=f"{first}-verify",
                    summary=f"Answer a {method} challenge",
                    method="POST",
                    paths=(f"/v1/one-time-token/{first}/verify",),
                    handler=self._verify(method, body, field, shapes.verified),
                    body=body,
                    jose=Jose.DIRECT,
                    answer=shapes.VerifiedAnswer,
                    takes_ott=True,
                    errors=(400, 404, 408, 413, 415, 429),
                ),
                Operation(
                    name=f"{first}-verify-profile",
                    summary=f"Answer a {method} challenge, under a profile",
                    method="POST",
                    paths=(
                        f"/v2/profiles/{{profileId}}/{second}/verify",
                        f"/{{version:calendar}}/profiles/{{profileId}}/{second}/verify",
                    ),
                    handler=self._verify(method, body, field, shapes.slim, second_generation=True),
                    body=body,
                    jose=Jose.DIRECT,
                    answer=shapes.SlimToken,
                    takes_ott=True,
                    errors=(400, 404, 408, 413, 415, 429),
                ),
            ]
        return operations

    def _faces(self) -> list[Operation]:
        table = (
            (
                "facemap-verify",
                ("/v1/one-time-token/facemap/verify",),
                shapes.verified,
                shapes.VerifiedAnswer,
            ),
            (
                "facemap-verify-profile",
                (
                    "/v2/profiles/{profileId}/facemaps/verify",
                    "/{version:calendar}/profiles/{profileId}/facemaps/verify",
                ),
                shapes.slim,
                shapes.SlimToken,
            ),
        )
        return [
            Operation(
                name=name,
                summary="Answer a FACE_MAP challenge",
                method="POST",
                paths=paths,
                handler=self._verify(Method.FACE_MAP, shapes.FaceMapBody, "face_map", show),
                body=shapes.FaceMapBody,
                body_max=FACE_MAP_MAX,
                answer=answer,
                takes_ott=True,
                errors=(400, 404, 408, 413, 415, 429),
            )
            for name, paths, show, answer in table
        ]

    def _session(self) -> list[Operation]:
        return [
            Operation(
                name="session-authorise",
                summary="Start step-up by hand, to open the low-risk session",
                method="POST",
                paths=(
                    "/v2/profiles/{profileId}/sca-sessions/authorise",
                    "/{version:calendar}/profiles/{profileId}/sca-sessions/authorise",
                    "/v1/mfa-session/authorise",
                ),
                handler=self._authorise,
                answer=shapes.SessionAnswer,
                errors=(400, 404, 408, 413, 429),
            )
        ]

    # --- the handlers -------------------------------------------------------------------------

    async def _show(self, call: Call) -> Answer:
        found = await self._engine.status(call.caller, call.ott)
        return problems.refused(found) if isinstance(found, Refusal) else shapes.status(call.ott, found)

    def _trigger(self, method: Method) -> Handler:
        async def trigger(call: Call) -> Answer:
            await read(call.request, limit=BODY_MAX)  # Nothing in it matters, but how much there is.
            sent = await self._engine.trigger(call.caller, call.ott, method)
            return problems.refused(sent) if isinstance(sent, Refusal) else shapes.TriggeredAnswer(sent)

        return trigger

    def _verify(
        self,
        method: Method,
        body: type[msgspec.Struct],
        field: str,
        show: Callable[[str, Snapshot], msgspec.Struct],
        *,
        second_generation: bool = False,
    ) -> Handler:
        async def verify(call: Call) -> Answer:
            answer: str | bytes = getattr(call.read(body), field)
            outcome = await self._engine.verify(call.caller, call.ott, method, answer)
            if isinstance(outcome, Wrong):
                return problems.incorrect(outcome)
            if isinstance(outcome, Snapshot):
                return show(call.ott, outcome)
            if second_generation and outcome.reason is Reason.LOCKED and method is Method.PIN:
                return problems.pin_blocked(outcome.retry_after or problems.RETRY_SOON_SECONDS)
            if second_generation and outcome.reason is Reason.NOT_OFFERED:
                user = await self._engine.enrolment.user(call.user_id)
                if user is None or not user.has(method.credential):
                    return problems.not_set_up(method.credential)
            return problems.refused(outcome)

        return verify

    async def _authorise(self, call: Call) -> Answer:
        await read(call.request, limit=BODY_MAX)
        binding = bind("POST", protected.raw_path(call.scope), b"")
        issued = await self._engine.authorise(call.caller, binding)
        if isinstance(issued, Refusal):
            return problems.refused(issued)
        return shapes.SessionAnswer(shapes.slim(*issued))


def _verified_passed_too(ott: str, snapshot: Snapshot) -> shapes.VerifiedAnswer:
    return shapes.verified(ott, snapshot, passed_too=True)
