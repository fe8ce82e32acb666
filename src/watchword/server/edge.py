"""
The outermost layer: what holds for every request and every answer, whoever makes it.

Repeated slashes in a path are folded before anything is judged, requests that two parties could
frame or attribute differently are refused, every answer gets a trace id, and no exception leaves
as anything but an error document that says nothing about the inside.
"""

import logging
import re
from collections.abc import Callable, Mapping
from traceback import format_tb
from typing import cast

from watchword import problems, wire
from watchword.asgi import ASGIApp, ASGIMessage, Headers, Receive, Scope, Send
from watchword.problems import Problem

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SLASHES = re.compile(r"/{2,}")
_SLASHES_RAW = re.compile(rb"/{2,}")
_CORRELATION_ID = wire.CORRELATION_ID.encode()
_CORRELATION_ID_MAX = 36
_TRACE_ID = wire.TRACE_ID.encode()

_log = logging.getLogger("watchword")


class BrokenOffError(Exception):
    """The application failed after its answer had begun; names the trace id under which it is logged."""


class Edge:
    """ASGI middleware for the whole server."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        trace_id: Callable[[], str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        Stand before *app*.

        Args:
            trace_id: Makes the trace ids, 32 hexadecimal digits each.
            headers: Put on every answer.
        """
        self._app = app
        self._trace_id = trace_id
        self._headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and see to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = self._trace_id()
        added = [(_TRACE_ID, trace_id.encode()), *self._headers]
        fault = _examine(scope["path"], scope["headers"], added)
        started = False

        async def sending(message: ASGIMessage) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            await (fault or self._app)(_folded(scope), receive, sending)
        except Exception as error:  # noqa: BLE001 - whatever it is, its message may be a secret.
            answer = _explain(error, trace_id)
            if started:
                # The server must break the answer off. It logs what it is given, so not the error itself,
                # whose message may hold what was sent.
                raise BrokenOffError(trace_id) from None
            await answer(scope, receive, sending)


def _examine(path: str, headers: Headers, added: list[tuple[bytes, bytes]]) -> Problem | None:
    """Look at path and headers once: what to refuse, and what to echo."""
    lengths = authorizations = 0
    chunked = False
    for name, value in headers:
        if name == b"authorization":
            authorizations += 1
        elif name == b"content-length":
            lengths += 1
        elif name == b"transfer-encoding":
            chunked = True
        elif name == _CORRELATION_ID and len(value) <= _CORRELATION_ID_MAX:
            added.append((name, value))
    if _CONTROL.search(path):
        # Some routers end a path at a line break, others do not.
        return problems.malformed("The path has a character that cannot stand in one.")
    if authorizations > 1:
        return problems.malformed("There are two Authorization headers.")
    if chunked or lengths > 1:
        # The HTTP parser drops Content-Length where Transfer-Encoding stands beside it, so that the
        # two cannot be told from an honest chunked message here (RFC 9112 section 6.1: both is an
        # attempt to smuggle). Neither is let in.
        return problems.malformed("Tell the length of the body once, by Content-Length.")
    return None


def _folded(scope: Scope) -> Scope:
    if "//" not in scope["path"]:
        return scope
    folded = {**scope, "path": _SLASHES.sub("/", scope["path"])}
    raw = cast("bytes | None", scope.get("raw_path"))
    if raw is not None:
        folded["raw_path"] = _SLASHES_RAW.sub(b"/", raw)
    return folded


def _explain(error: Exception, trace_id: str) -> Problem:
    if isinstance(error, problems.TROUBLES):
        _log.warning("%s: %s", trace_id, problems.cause(error))
        return problems.trouble(error)
    # Where it happened and no message: that may hold what was sent, which stays out of the log.
    where = "".join(format_tb(error.__traceback__))
    _log.error("%s: unexpected %s\n%s", trace_id, type(error).__name__, where)
    return problems.problem(500, wire.Code.INTERNAL_ERROR, f"Something went wrong. Trace id: {trace_id}")
