"""
The OTT API: the operations of the public protocol, in all three generations.

Each operation stands once, with every path that reaches it; routes and the OpenAPI document are
both made from this table. A path that exists answers 405 to other methods.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Route

from watchword import problems, wire
from watchword.asgi import OTT_PATTERN, Document, Headers, Receive, Scope, Send, bearer
from watchword.domain.binding import bind
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import Method
from watchword.engine.engine import Caller, Engine, Snapshot, Wrong
from watchword.engine.principal import Authenticator, Principal, PrincipalKind
from watchword.problems import Problem
from watchword.server import shapes
from watchword.server.body import BODY_MAX, BadRequestError, read, read_json

CALENDAR_PATTERN = r"20[0-9]{2}Q[1-4]"
"""A calendar version, ``2026Q3``: an opaque alias of the unversioned API."""

_AS_JSON = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_ONE_TIME_TOKEN = wire.ONE_TIME_TOKEN.encode()
_ENCODER = msgspec.json.Encoder()


class _Calendar(StringConvertor):
    regex = CALENDAR_PATTERN


register_url_convertor("calendar", _Calendar())


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is authenticated and well-formed so far."""

    request: Request
    principal: Principal
    caller: Caller
    ott: str


Handler = Callable[[Call], Awaitable[msgspec.Struct | Problem]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One operation of the protocol.

    Attributes:
        name: Its OpenAPI ``operationId``; unique.
        paths: Starlette path templates; ``{version:calendar}`` is the calendar generation.
        takes_ott: Whether the ``One-Time-Token`` header names the token.
        body: The shape of the JSON body; None where no body is read.
        answer: The shape of the answer.
        errors: The statuses that it can answer with besides the common ones.
    """

    name: str
    summary: str
    method: str
    paths: tuple[str, ...]
    handler: Handler
    answer: type[msgspec.Struct]
    takes_ott: bool = True
    body: type[msgspec.Struct] | None = None
    errors: tuple[int, ...] = ()


class Api:
    """The operations, over one engine."""

    def __init__(self, engine: Engine, authenticator: Authenticator) -> None:
        """Make the table of operations."""
        self._engine = engine
        self._authenticator = authenticator
        self.operations = [*self._codes(), *self._status(), *self._direct(), *self._session()]

    def routes(self) -> list[Route]:
        """Return one route for each path; those of a payment's usual way come first."""
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            for path in operation.paths:
                by_path.setdefault(path, {})[operation.method] = operation
        return [Route(path, self._endpoint(operations)) for path, operations in by_path.items()]

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
                    answer=shapes.VerifiedAnswer,
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
                    answer=shapes.SlimToken,
                    errors=(400, 404, 408, 413, 415, 429),
                ),
            ]
        return operations

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
                takes_ott=False,
                errors=(400, 404, 408, 413, 429),
            )
        ]

    # --- the handlers -------------------------------------------------------------------------

    async def _show(self, call: Call) -> msgspec.Struct | Problem:
        found = await self._engine.status(call.caller, call.ott)
        return problems.refused(found) if isinstance(found, Refusal) else shapes.status(call.ott, found)

    def _trigger(self, method: Method) -> Handler:
        async def trigger(call: Call) -> msgspec.Struct | Problem:
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
        async def verify(call: Call) -> msgspec.Struct | Problem:
            answer: str = getattr(await read_json(call.request, body), field)
            outcome = await self._engine.verify(call.caller, call.ott, method, answer)
            if isinstance(outcome, Wrong):
                return problems.incorrect(outcome)
            if isinstance(outcome, Snapshot):
                return show(call.ott, outcome)
            if second_generation and outcome.reason is Reason.LOCKED and method is Method.PIN:
                return problems.pin_blocked(outcome.retry_after or problems.RETRY_SOON_SECONDS)
            if second_generation and outcome.reason is Reason.NOT_OFFERED:
                enrolled = await self._engine.enrolled(call.caller.user_id)
                if method.credential not in enrolled:
                    return problems.not_set_up(method)
            return problems.refused(outcome)

        return verify

    async def _authorise(self, call: Call) -> msgspec.Struct | Problem:
        await read(call.request, limit=BODY_MAX)
        scope = call.request.scope
        binding = bind("POST", scope.get("raw_path") or scope["path"].encode(), b"")
        issued = await self._engine.authorise(call.caller, binding)
        if isinstance(issued, Refusal):
            return problems.refused(issued)
        return shapes.SessionAnswer(shapes.slim(*issued))

    # --- what every call has in common --------------------------------------------------------

    def _endpoint(self, operations: dict[str, Operation]) -> "Endpoint":
        return Endpoint(self._authenticator, operations)


class Endpoint:
    """One path as an ASGI application: its methods, who may call them, and in what form."""

    def __init__(self, authenticator: Authenticator, operations: dict[str, Operation]) -> None:
        self._authenticator = authenticator
        self._operations = operations
        self._allow = ", ".join(sorted(operations))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Document:
        """Check in order: method, access token, its kind, profile, OTT header; then serve."""
        operation = self._operations.get(scope["method"])
        if operation is None:
            return method_not_allowed(self._allow)
        authorizations, presented = _credentials(scope["headers"])
        token = bearer(authorizations[0]) if len(authorizations) == 1 else None
        principal = None if token is None else await self._authenticator.authenticate(token)
        if principal is None:
            return problems.unauthenticated()
        if principal.user_id is None:
            return problems.user_needed()
        profile = scope.get("path_params", {}).get("profileId")
        if profile is not None and not owns(principal, profile):
            return profile_not_allowed()
        ott = ""
        if operation.takes_ott:
            if len(presented) != 1 or not OTT_PATTERN.fullmatch(presented[0]):
                return problems.ott_header_invalid("One-Time-Token")
            ott = presented[0].decode("ascii")
        caller = Caller(principal.user_id, signs=principal.kind is PrincipalKind.PERSONAL)
        try:
            answer = await operation.handler(Call(Request(scope, receive), principal, caller, ott))
        except BadRequestError as error:
            return error.problem
        if isinstance(answer, Problem):
            return answer
        return Document(200, _ENCODER.encode(answer), _AS_JSON)


def _credentials(headers: Headers) -> tuple[list[bytes], list[bytes]]:
    """Pick the two headers that tell who calls and of which token."""
    authorizations: list[bytes] = []
    presented: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            authorizations.append(value)
        elif name == _ONE_TIME_TOKEN:
            presented.append(value)
    return authorizations, presented


def owns(principal: Principal, profile: str) -> bool:
    """Tell whether a profile, as it stands in a path, is one of the caller's own."""
    return profile in {str(own) for own in principal.profile_ids}


def profile_not_allowed() -> Problem:
    """Answer a call on a profile that is another's, or nobody's: the same either way."""
    return problems.problem(403, wire.Code.PROFILE_NOT_ALLOWED, "This profile is not one of yours.")


def method_not_allowed(allow: str) -> Problem:
    """Answer a method that the path does not have."""
    return problems.problem(
        405, wire.Code.METHOD_NOT_ALLOWED, f"This path takes {allow}.", headers={"allow": allow}
    )


def not_found() -> Problem:
    """Answer a path that does not exist."""
    return problems.problem(404, wire.Code.NOT_FOUND, "There is nothing at this path.")


def _verified_passed_too(ott: str, snapshot: Snapshot) -> shapes.VerifiedAnswer:
    return shapes.verified(ott, snapshot, passed_too=True)
