"""
What every operation of the API has in common: who may call it, in what form, and what is answered.

An operation stands once, with every path that reaches it; routes and the OpenAPI document are both
made from it. A path that exists answers 405 to other methods.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from watchword import problems, protected, wire
from watchword.asgi import OTT_PATTERN, Document, Receive, Scope, Send
from watchword.caller import AmbiguousCallerError, who
from watchword.domain.action import Action, Bind, Spend
from watchword.domain.binding import NO_BODY, Binding, bind
from watchword.domain.decision import Refusal
from watchword.domain.enrolment import StepUpFor
from watchword.domain.method import CredentialKind
from watchword.domain.user import UserId
from watchword.engine.engine import Approved, Caller, Engine, identify
from watchword.engine.principal import Authenticator, Principal, PrincipalKind
from watchword.jose.envelope import JoseMethod
from watchword.methods.keyring import Purpose
from watchword.problems import Problem
from watchword.server.body import BODY_MAX, BadRequestError
from watchword.server.envelope import Envelope, Sealed
from watchword.server.settings import Settings

_NO_STORE = (b"cache-control", b"no-store")
_AS_JSON = ((b"content-type", b"application/json"), _NO_STORE)
_APPROVED = (wire.APPROVAL_RESULT.encode(), wire.APPROVED.encode())
_ONE_TIME_TOKEN = wire.ONE_TIME_TOKEN.encode()
_ENCODER = msgspec.json.Encoder()
_USER_ID = re.compile(r"[1-9][0-9]{0,15}")
_USER_ID_MAX = 2**53 - 1

_NOBODY = UserId(0)
"""The user of a call that is about none; no user has this number."""

S = TypeVar("S")


class By(Enum):
    """Whose access token a call takes."""

    USER = "UserToken"
    """A user's, or his personal token for programs."""
    PERSON = "UserToken, no personal token"
    """A user's own: nothing that a program signs for."""
    APPLICATION = "ClientCredentialsToken"
    MANAGER = "ClientCredentialsToken of an application that may manage users"


@dataclass(slots=True)
class Call:
    """
    A call that is authenticated and well-formed so far.

    Attributes:
        caller: The user who calls; of an application's call the one whom its path names, if any.
        ott: The token named by ``One-Time-Token``, where the operation takes one.
        payload: The body as it was meant, out of its envelope.
        body: The body, in the operation's shape.
        sealed: How the body came and how the answer leaves; None for plain JSON.
        approved: A step-up let this call through.
    """

    request: Request
    principal: Principal
    caller: Caller
    ott: str = field(default="", repr=False)
    payload: bytes = field(default=b"", repr=False)
    body: Any = field(default=None, repr=False)
    sealed: Sealed | None = None
    approved: bool = False

    def read(self, shape: type[S]) -> S:
        """Return the body, which is of the shape that its operation names."""
        assert isinstance(self.body, shape)
        return self.body

    @property
    def user_id(self) -> UserId:
        """The user whom the call is about."""
        return self.caller.user_id

    @property
    def application(self) -> str | None:
        """The application that acts; None where the user does it himself."""
        if self.principal.kind is not PrincipalKind.APPLICATION:
            return None
        return self.principal.application or ""

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        return self.request.scope


Answer = msgspec.Struct | list[Any] | str | Problem | None
Handler = Callable[[Call], Awaitable[Answer]]


class Jose(Enum):
    """Which envelopes an operation takes, and how it answers."""

    DIRECT = "direct"
    """Any of them, or none; a JWE is answered under the request's own content key."""
    JWS = "jws"
    JWE = "jwe"
    """Answered under the key that the application uploaded."""
    JWE_DIRECT = "jwe-direct-encryption"
    JWS_JWE = "jws+jwe"

    @property
    def only(self) -> JoseMethod | None:
        """The one method it takes; None where there is a choice."""
        return _ONLY.get(self)

    @property
    def to_uploaded_key(self) -> bool:
        """Whether the answer is encrypted to the application's own key."""
        return self in {Jose.JWE, Jose.JWS_JWE}


_ONLY = {
    Jose.JWS: JoseMethod.JWS,
    Jose.JWE: JoseMethod.JWE,
    Jose.JWE_DIRECT: JoseMethod.JWE,
    Jose.JWS_JWE: JoseMethod.JWS_JWE,
}


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A member of the query; required where one of *values* must be named."""

    name: str
    description: str
    values: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One operation of the protocol.

    Attributes:
        name: Its OpenAPI ``operationId``; unique.
        paths: Starlette path templates; ``{version:calendar}`` is the calendar generation.
        answer: The shape of the answer; ``str`` is plain text, None no body at all.
        status: The status of success.
        by: Whose access token it takes.
        takes_ott: Whether the ``One-Time-Token`` header names the token.
        query: The members of the query that it looks at.
        body: The shape of the JSON body; None where no body is read.
        body_max: Bytes of the body.
        jose: Whether body and answer may be in a JOSE envelope.
        errors: The statuses that it can answer with besides the common ones.
    """

    name: str
    summary: str
    method: str
    paths: tuple[str, ...]
    handler: Handler
    answer: Any
    status: int = 200
    by: By = By.USER
    takes_ott: bool = False
    query: tuple[QueryParameter, ...] = ()
    body: type[msgspec.Struct] | None = None
    body_max: int = BODY_MAX
    jose: Jose | None = None
    errors: tuple[int, ...] = ()


class Endpoint:
    """One path as an ASGI application: its methods, who may call them, and in what form."""

    def __init__(
        self,
        authenticator: Authenticator,
        operations: Mapping[str, Operation],
        *,
        envelope: Envelope,
        settings: Settings,
    ) -> None:
        self._authenticator = authenticator
        self._operations = operations
        self._allow = ", ".join(sorted(operations))
        self._envelope = envelope
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Document:
        """Check in order: method, access token, its kind, user or profile, OTT header, body; then serve."""
        operation = self._operations.get(scope["method"])
        if operation is None:
            return method_not_allowed(self._allow)
        try:
            principal = await who(scope, self._authenticator)
        except AmbiguousCallerError:
            return problems.malformed("There are two Authorization headers.")
        if principal is None:
            return problems.unauthenticated()
        caller = self._caller(operation.by, principal, scope.get("path_params", {}))
        if isinstance(caller, Problem):
            return caller
        call = Call(Request(scope, receive), principal, caller)
        if operation.takes_ott:
            presented = [value for name, value in scope["headers"] if name == _ONE_TIME_TOKEN]
            if len(presented) != 1 or not OTT_PATTERN.fullmatch(presented[0]):
                return problems.ott_header_invalid("One-Time-Token")
            call.ott = presented[0].decode("ascii")
        try:
            if operation.body is not None or operation.jose is not None:
                required = self._settings.of(principal).jose_required
                await self._envelope.open(call, operation, required=required)
            return await self._seal(call, operation, await operation.handler(call))
        except (BadRequestError, protected.HeaderError) as error:
            return error.problem

    def _caller(self, by: By, principal: Principal, parameters: Mapping[str, str]) -> Caller | Problem:
        if by is By.APPLICATION or by is By.MANAGER:
            if principal.kind is not PrincipalKind.APPLICATION:
                return problems.application_needed()
            if by is By.MANAGER and not self._settings.of(principal).manages_users:
                return problems.application_needed()
            named = parameters.get("userId")
            return Caller(_NOBODY) if named is None else _named(named)
        if principal.user_id is None or (by is By.PERSON and principal.kind is not PrincipalKind.USER):
            return problems.user_needed()
        profile = parameters.get("profileId")
        if profile is not None and not owns(principal, profile):
            return profile_not_allowed()
        return Caller(
            principal.user_id,
            signs=principal.kind is PrincipalKind.PERSONAL,
            application=principal.application,
        )

    async def _seal(self, call: Call, operation: Operation, answer: Answer) -> Document:
        if isinstance(answer, Problem):
            return answer
        approved = (_APPROVED,) if call.approved else ()
        if answer is None:
            return Document(operation.status, b"", (_NO_STORE, *approved))
        if isinstance(answer, str):
            headers = ((b"content-type", b"text/plain; charset=utf-8"), *approved)
            return Document(operation.status, answer.encode(), headers)
        body = _ENCODER.encode(answer)
        if call.sealed is None:
            return Document(operation.status, body, (*_AS_JSON, *approved) if approved else _AS_JSON)
        sealed = await self._envelope.seal(body, call)
        headers = ((b"content-type", b"application/jose+json"), _NO_STORE, *approved)
        return Document(operation.status, sealed, headers)


class StepUp:
    """Asks a user to confirm a change of his own credentials."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        # Whatever was configured: to confirm one change is to confirm no other.
        self._action = replace(settings.credential_change, bind=Bind.REQUEST, spend=Spend.BEFORE)

    async def refuse(self, call: Call, *, adds: CredentialKind | None) -> Problem | None:
        """
        Return the answer that asks for a step-up, or refuses; None where the change may be made.

        An application is not asked: it acts by its own access token. Bound is the request with
        what its body means, under a key: an envelope is another with each repetition, and a
        plain digest of a PIN would be the PIN.
        """
        engine, action = self._engine, await self._needed(call, adds)
        if action is None:
            return None
        headers = call.scope["headers"]
        ott = protected.presented_ott(headers)
        signature = None if ott is None else protected.presented_signature(headers)
        anew = self._bound(call)
        binding = anew if ott is None else await self._as_presented(call, ott)
        decision = await engine.protect(call.caller, action, binding, anew=anew, ott=ott, signature=signature)
        if isinstance(decision, Refusal):
            return problems.refused(decision)
        if not isinstance(decision, Approved):
            return protected.refused(decision, call.scope, now=engine.clock.now())
        call.approved = True
        return None

    async def asks(self, call: Call, *, adds: CredentialKind | None) -> bool:
        """Tell whether a change has to be confirmed."""
        return await self._needed(call, adds) is not None

    async def _needed(self, call: Call, adds: CredentialKind | None) -> Action | None:
        if call.application is not None:
            return None
        return await self._engine.enrolment.step_up(
            call.user_id, adds=adds, when=self._settings.step_up, action=self._action
        )

    def unasked(self, call: Call) -> StepUpFor:
        """Return the rule by which a call was not asked for a step-up; NOTHING where none can be."""
        asked = call.approved or call.application is not None
        return StepUpFor.NOTHING if asked else self._settings.step_up

    async def _as_presented(self, call: Call, ott: str) -> Binding:
        """Bind the call as the caller's own token was: that may have been before a change of keys."""
        token = await self._engine.store.token(identify(ott))
        mine = token is not None and token.user_id == call.caller.user_id
        return self._bound(call, like=token.binding.body if token is not None and mine else b"")

    def _bound(self, call: Call, *, like: bytes = b"") -> Binding:
        scope, keyring = call.scope, self._engine.methods.keyring
        digest = keyring.digest(Purpose.REQUEST, call.payload, like=like) if call.payload else NO_BODY
        return bind(scope["method"], protected.raw_path(scope), scope["query_string"], digest)


def _named(user_id: str) -> Caller | Problem:
    # In one spelling only: who guards these paths in front of us must not be told another name.
    if not _USER_ID.fullmatch(user_id) or int(user_id) > _USER_ID_MAX:
        return not_found()
    return Caller(UserId(int(user_id)))


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
