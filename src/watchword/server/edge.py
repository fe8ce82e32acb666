"""
The outermost layer: what holds for every request and every answer, whoever makes it.

Repeated slashes in a path are folded before anything is judged, requests that two parties could
frame or attribute differently are refused, every answer gets a trace id, and no exception leaves
as anything but an error document that says nothing about the inside.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import cast

from watchword import problems, wire
from watchword.guard.asgi import ASGIApp, ASGIMessage, Receive, Scope, Send
from watchword.problems import Problem

_SLASHES = re.compile(r"/{2,}")
_SLASHES_RAW = re.compile(rb"/{2,}")
_CORRELATION_ID = wire.CORRELATION_ID.encode()
_CORRELATION_ID_MAX = 36
_TRACE_ID = wire.TRACE_ID.encode()

_log = logging.getLogger("watchword")


class Edge:
    """ASGI middleware for the whole server."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        new_id: Callable[[], str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        Stand before *app*.

        Args:
            new_id: Makes a UUID, for the trace ids.
            headers: Put on every answer.
        """
        self._app = app
        self._new_id = new_id
        self._headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and see to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "//" in scope["path"]:
            scope = {**scope, "path": _SLASHES.sub("/", scope["path"])}
            raw = cast("bytes | None", scope.get("raw_path"))
            if raw is not None:
                scope["raw_path"] = _SLASHES_RAW.sub(b"/", raw)
        trace_id = self._new_id().replace("-", "")
        added = [(_TRACE_ID, trace_id.encode()), *self._headers]
        fault = None
        lengths = authorizations = 0
        chunked = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorizations += 1
            elif name == b"content-length":
                lengths += 1
            elif name == b"transfer-encoding":
                chunked = True
            elif name == _CORRELATION_ID and len(value) <= _CORRELATION_ID_MAX:
                added.append((name, value))
        if authorizations > 1:
            fault = problems.malformed("There are two Authorization headers.")
        elif chunked or lengths > 1:
            # Our HTTP parser drops Content-Length where Transfer-Encoding stands beside it, so that the
            # two cannot be told from an honest chunked message here (RFC 9112 section 6.1: both is an
            # attempt to smuggle). Neither is let in.
            fault = problems.malformed("Tell the length of the body once, by Content-Length.")
        started = False

        async def sending(message: ASGIMessage) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        if fault is not None:
            await respond(fault, sending)
            return
        try:
            await self._app(scope, receive, sending)
        except problems.TROUBLES as error:
            _log.warning("%s: %s", trace_id, type(error).__name__)
            if not started:
                await respond(problems.trouble(error), sending)
        except Exception:
            # The traceback names code, not values; what was sent stays out of the log.
            _log.exception("%s: unexpected error", trace_id)
            if started:
                raise
            await respond(
                problems.problem(500, wire.Code.INTERNAL_ERROR, f"Something went wrong. Trace id: {trace_id}"),
                sending,
            )


async def respond(problem: Problem, send: Send) -> None:
    """Send an error document."""
    length = (b"content-length", str(len(problem.body)).encode())
    await send({"type": "http.response.start", "status": problem.status, "headers": [*problem.headers, length]})
    await send({"type": "http.response.body", "body": problem.body})
