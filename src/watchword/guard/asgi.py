"""
The guard for ASGI applications, in process with the engine.

It matches each request against the actions, and lets a protected one through only when the
engine approves. The body is read once, bounded, hashed and replayed; the answer streams through
untouched but for its approval headers. Whatever cannot be decided is refused.

Put it *inside* whatever decides who may see what: a caller who may not touch a resource should
hear that, and not be asked for a code first.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import unquote_to_bytes

from watchword import problems, protected, strict_json, wire
from watchword.asgi import ASGIApp, ASGIMessage, Headers, Receive, Scope, Send
from watchword.caller import AmbiguousCallerError, who
from watchword.domain.action import Action, Actions, AmbiguousPathError, Bind
from watchword.domain.binding import NO_BODY, Binding, bind
from watchword.domain.decision import Refusal
from watchword.domain.details import Details
from watchword.domain.token import TokenId
from watchword.engine.engine import Approved, Caller, Engine
from watchword.engine.principal import Authenticator, Principal, PrincipalKind
from watchword.guard.details import Describe, UndescribedError, UnshownError, described, of_body
from watchword.problems import Problem

BODY_MAX = 1 << 20
BODY_SECONDS = 30.0
_READ_AT_ONCE = 64 * 1024
"""Bytes of JSON that are read before anybody else is served; more of it is read beside them."""

_APPROVAL = wire.APPROVAL.encode()
_APPROVAL_RESULT = wire.APPROVAL_RESULT.encode()
_OURS = frozenset({_APPROVAL, _APPROVAL_RESULT, b"cache-control"})
_OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_JSON = re.compile(
    rb"(?:application|text)/(?!jose\+)(?:[\w.+-]+\+)?json\s*(?:;(.*))?", re.IGNORECASE | re.DOTALL
)
_CHARSET = re.compile(rb"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_UTF_8 = frozenset({b"utf-8", b"utf8"})
_ONE_READING = re.compile(
    rb"(?:text/[\w.+-]+|application/(?:octet-stream|json))\s*(?:;.*)?",
    re.IGNORECASE | re.DOTALL,
)
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_NO_SLASH = "\ufffd".encode()
_KEY = "watchword"
_VERDICT = "watchword.verdict"

_log = logging.getLogger("watchword.guard")


@dataclass(frozen=True, slots=True)
class Approval:
    """
    What let a request through, for its handler to read.

    Attributes:
        ott: The OTT that was spent or reserved; None where the session was enough.
    """

    action: str
    principal: Principal
    ott: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class _Verdict:
    """Shared by the gates that one request passes: an inner one may refuse what an outer one approved."""

    refused: bool = False


def approval(scope: Scope) -> Approval | None:
    """Return what let this request through; None for a request that no action covers."""
    found = scope.get(_KEY)
    return found if isinstance(found, Approval) else None


class Guard:
    """ASGI middleware that protects the requests of *actions*."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        engine: Engine,
        actions: Actions,
        authenticator: Authenticator,
        describe: Describe | None = None,
        body_max: int = BODY_MAX,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        """
        Stand before *app*.

        Args:
            describe: Says of each request-bound call, and again of its retry, what the person is shown
                beside what the action's ``show`` names: what stands in the application's books.
            body_max: Bytes of a request-bound body; one more is 413.
            body_seconds: How long such a body may take to arrive.
        """
        self._app = app
        self._actions = actions
        self._methods = {route.method for action in actions.by_name.values() for route in action.routes}
        self._gate = Gate(
            engine, authenticator, describe=describe, body_max=body_max, body_seconds=body_seconds
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        try:
            action = self._match(scope["method"], scope)
        except AmbiguousPathError:
            await problems.malformed("The path can be read in more than one way.")(scope, receive, send)
            return
        if _overrides_method(scope):
            await problems.malformed("The method cannot be overridden by a header.")(scope, receive, send)
            return
        if action is None:
            await self._app(scope, receive, send)
            return
        await self._gate.pass_through(action, self._app, scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a WebSocket on a protected path: no action is carried out over one."""
        try:
            protected = any(self._match(method, scope) is not None for method in self._methods)
        except AmbiguousPathError:
            protected = True
        if protected:
            await send({"type": "websocket.close", "code": 1008, "reason": "protected"})
        else:
            await self._app(scope, receive, send)

    def _match(self, method: str, scope: Scope) -> Action | None:
        """
        Find the action of a request, however the application comes to read its path.

        Routers take the root path off where a server put it before; some split the raw path, where
        an encoded slash is a part of its segment.

        Raises:
            AmbiguousPathError: Readings differ on what is called.
        """
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        found = self._of_readings(method, path, root)
        raw: bytes = scope.get("raw_path") or b""
        if b"%2" in raw and _ENCODED_SLASH.search(raw):
            unsplit = unquote_to_bytes(_ENCODED_SLASH.sub(_NO_SLASH, raw.partition(b"?")[0]))
            if self._of_readings(method, unsplit.decode("utf-8", "replace"), root) is not found:
                raise AmbiguousPathError(path)
        return found

    def _of_readings(self, method: str, path: str, root: str) -> Action | None:
        found = self._actions.match(method, path)
        if root and path.startswith(root + "/"):
            within = self._actions.match(method, path[len(root) :])
            if None not in (found, within) and found is not within:
                raise AmbiguousPathError(path)
            return found or within
        return found

    def protects(self, action: str) -> Callable[[ASGIApp], ASGIApp]:
        """
        Protect one endpoint, whatever its path.

        Returns:
            A decorator for an ASGI endpoint; ``guard.starlette`` has one for handlers.

        Raises:
            KeyError: There is no such action.
        """
        return self._gate.protects(self._actions.by_name[action])


class Gate:
    """What happens at one protected request, however it was found to be one."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        *,
        describe: Describe | None = None,
        body_max: int = BODY_MAX,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._describe = describe
        self._body_max = body_max
        self._body_seconds = body_seconds

    def protects(self, action: Action) -> Callable[[ASGIApp], ASGIApp]:
        """Return a decorator that lets only approved requests of *action* through."""

        def decorate(app: ASGIApp) -> ASGIApp:
            return Protected(self, action, app)

        return decorate

    async def pass_through(
        self, action: Action, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run *app* if the request is approved; answer it otherwise."""
        already = approval(scope)
        if already is not None and already.action == action.name:
            await app(scope, receive, send)  # A decorator behind a middleware: once is enough.
            return
        # One for all gates of a request, so that the outer ones know an inner one's answer for what it is.
        verdict: _Verdict = scope.setdefault(_VERDICT, _Verdict())
        try:
            principal = await self._principal(scope)
            ott = protected.presented_ott(scope["headers"])
            signature = None if ott is None else protected.presented_signature(scope["headers"])
            binding, details, receive = await self._bind(action, scope, receive)
            caller = _caller(principal)
            decision = await self._engine.protect(
                caller, action, binding, ott=ott, signature=signature, details=details
            )
        except (_Refused, UnshownError, protected.HeaderError) as refused:
            answer = refused.problem
        except UndescribedError as error:
            answer = problems.trouble(error)
        except problems.TROUBLES as error:
            _log.warning("%s: nothing was decided: %s", action.name, problems.cause(error))
            answer = problems.trouble(error)
        else:
            if isinstance(decision, Approved):
                by = None if decision.token is None else ott
                scope[_KEY] = Approval(action.name, principal, by)
                approving = _approving(send, verdict)
                if decision.reserved and decision.token is not None:
                    lease = _Lease(self._engine, caller, decision.token.id, verdict)
                    await lease.run(app, scope, receive, approving)
                else:
                    await app(scope, receive, approving)
                return
            answer = (
                problems.refused(decision)
                if isinstance(decision, Refusal)
                else protected.refused(decision, scope, now=self._engine.clock.now())
            )
        verdict.refused = True
        await answer(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        try:
            principal = await who(scope, self._authenticator)
        except AmbiguousCallerError as error:
            raise _Refused(problems.malformed("There are two Authorization headers.")) from error
        if principal is None:
            raise _Refused(problems.unauthenticated())
        if principal.user_id is None:
            raise _Refused(problems.user_needed())
        return principal

    async def _bind(self, action: Action, scope: Scope, receive: Receive) -> tuple[Binding, Details, Receive]:
        raw_path = protected.raw_path(scope)
        digest, details = NO_BODY, Details()
        if action.bind is Bind.REQUEST:
            body, document = await self._read(action, scope["headers"], receive)
            digest = _digest(body, scope["headers"])
            receive = _replay(body, receive)
            details = of_body(action, document)
            if self._describe is not None:
                details = await described(self._describe, action, scope, body, details)
        binding = bind(scope["method"], raw_path, scope["query_string"], digest, details=details)
        return binding, details, receive

    async def _read(self, action: Action, headers: Headers, receive: Receive) -> tuple[bytes, Any]:
        """
        Read the whole body: a digest of a part of it would approve what nobody saw.

        Returns:
            The body, and what it holds where it is JSON.
        """
        media_type = _media_type(headers)
        for name, value in headers:
            if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
                raise _unsupported("A protected body is sent without Content-Encoding.")
            if name == b"content-length" and value.isdigit() and _exceeds(value, self._body_max):
                raise _Refused(_too_large(self._body_max))
        is_json = _JSON.fullmatch(media_type)
        if is_json is not None and not _UTF_8.issuperset(_CHARSET.findall((is_json[1] or b"").lower())):
            raise _unsupported("JSON is sent in UTF-8.")
        if action.show and is_json is None and media_type:
            raise _unsupported("What is to be approved is sent as JSON: Content-Type: application/json.")
        body = await self._receive(receive)
        if body and (is_json is not None or action.show):
            try:
                return body, await _parsed(body, as_written=bool(action.show))
            except strict_json.MalformedJsonError as error:
                if is_json is None:
                    raise _unsupported(
                        f"What is to be approved is sent as JSON, and this is {error}."
                    ) from error
                raise _Refused(problems.malformed(f"The body cannot be read: {error}.")) from error
        elif strict_json.is_ambiguous(body):
            raise _Refused(problems.malformed("The body is JSON that can be read in more than one way."))
        return body, None

    async def _receive(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        # He may have ended his side alone, and wait for an answer.
                        raise _Refused(problems.malformed("The body ended early."))
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._body_max:
                        raise _Refused(_too_large(self._body_max))
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as error:
            raise _Refused(
                problems.problem(408, wire.Code.REQUEST_TIMED_OUT, "The body took too long to arrive.")
            ) from error


class _Lease:
    """A reserved token while its handler runs."""

    def __init__(self, engine: Engine, caller: Caller, token_id: TokenId, verdict: _Verdict) -> None:
        self._engine, self._caller, self._token_id, self._verdict = engine, caller, token_id, verdict
        self._settled = self._hung_up = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run *app*: an answer below 500 spends the token, trouble gives it back."""

        async def settling(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                await self._settle(succeeded=message["status"] < 500 and not self._verdict.refused)  # noqa: PLR2004
            await send(message)

        async def watching() -> ASGIMessage:
            message = await receive()
            self._hung_up = self._hung_up or message["type"] == "http.disconnect"
            return message

        try:
            await app(scope, watching, settling)
        except Exception:
            await self._settle(succeeded=False)
            raise

    async def _settle(self, *, succeeded: bool) -> None:
        if self._settled:
            return
        self._settled = True
        if self._hung_up and not succeeded:
            # A caller who hangs up makes handlers fail when he likes, maybe after they did their work.
            return
        settle_as = self._engine.confirm if succeeded else self._engine.release
        # Should this fail the lease runs out, and the token is as good as spent.
        with suppress(*problems.TROUBLES):
            await settle_as(self._caller, self._token_id)


class Protected:
    """An ASGI endpoint behind a gate."""

    def __init__(self, gate: Gate, action: Action, app: ASGIApp) -> None:
        self._gate, self._action, self._app = gate, action, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        await self._gate.pass_through(self._action, self._app, scope, receive, send)


class _Refused(Exception):  # noqa: N818 - it carries an answer, not an error.
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


def _caller(principal: Principal) -> Caller:
    assert principal.user_id is not None
    return Caller(
        principal.user_id,
        signs=principal.kind is PrincipalKind.PERSONAL,
        application=principal.application,
    )


async def _parsed(body: bytes, *, as_written: bool) -> Any:  # noqa: ANN401 - JSON.
    if len(body) > _READ_AT_ONCE:
        return await asyncio.to_thread(strict_json.loads, body, as_written=as_written)
    return strict_json.loads(body, as_written=as_written)


def _media_type(headers: Headers) -> bytes:
    presented = [value.strip() for name, value in headers if name == b"content-type"]
    if len(presented) > 1:
        raise _Refused(problems.malformed("There are two Content-Type headers."))
    return presented[0] if presented else b""


def _digest(body: bytes, headers: Headers) -> bytes:
    """
    Digest a body, and with it what makes one thing of it.

    The same bytes are one payment as JSON and may be another as a form, between another boundary's
    lines, or in another version of a vendor's type. Plain JSON and text are told by the bytes
    alone: clients leave their type out.
    """
    media_type = _media_type(headers)
    if not body or not media_type or _ONE_READING.fullmatch(media_type):
        return sha256(body).digest()
    # Another function, so that no body of the one kind can be made to match one of the other.
    return blake2b(body, digest_size=32, key=sha256(media_type).digest()).digest()


def _exceeds(digits: bytes, limit: int) -> bool:
    # The length first: to convert 5,000 digits is itself an attack.
    return len(digits) > len(str(limit)) or int(digits) > limit


def _unsupported(message: str) -> _Refused:
    return _Refused(problems.problem(415, wire.Code.MEDIA_TYPE_UNSUPPORTED, message))


def _overrides_method(scope: Scope) -> bool:
    return any(
        # Bridges to CGI and WSGI make one name of both spellings.
        name.replace(b"_", b"-") in _OVERRIDES and value.strip().upper() != scope["method"].encode()
        for name, value in scope["headers"]
    )


def _too_large(limit: int) -> Problem:
    return problems.problem(413, wire.Code.REQUEST_TOO_LARGE, f"The body is larger than {limit} bytes.")


def _replay(body: bytes, receive: Receive) -> Receive:
    replayed = False

    async def replay() -> ASGIMessage:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _approving(send: Send, verdict: _Verdict) -> Send:
    """Mark the handler's answer as approved; an application cannot set these headers itself."""

    async def approving(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start" and not verdict.refused:
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _OURS]
            headers.append((_APPROVAL_RESULT, wire.APPROVED.encode()))
            headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return approving
