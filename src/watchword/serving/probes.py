"""
What load balancers and service managers ask: are you alive, and should anybody be sent to you?

Anybody may ask, so that the answer says no more than that, and asking often costs the store nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec

from watchword import problems
from watchword.asgi import ASGIApp, Document, Receive, Scope, Send
from watchword.server.endpoint import method_not_allowed
from watchword.store.base import StoreUnavailableError

ALIVE = "/healthz"
READY = "/readyz"
PING_SECONDS = 1.0
"""How long the store may take to say that it would take a write."""

REMEMBER_SECONDS = 1.0
"""For how long an answer of the store's is good, however many ask."""

_log = logging.getLogger("watchword")


class Probes:
    """``/healthz`` and ``/readyz``."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        *,
        is_draining: Callable[[], bool],
        ping_seconds: float = PING_SECONDS,
        remember_seconds: float = REMEMBER_SECONDS,
    ) -> None:
        """
        Ask nothing yet.

        Args:
            ping: Raises ``StoreUnavailableError`` unless the store would take a write now.
            is_draining: Tells whether this server will stop soon.
        """
        self._ping = ping
        self._is_draining = is_draining
        self._ping_seconds = ping_seconds
        self._remember_seconds = remember_seconds
        self._well = False
        self._good_until = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._apps: dict[str, ASGIApp] = {ALIVE: self._alive, READY: self._ready}

    def at(self, path: str) -> ASGIApp | None:
        """Return what answers at *path*; None where that is not ours."""
        return self._apps.get(path)

    async def _alive(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(scope, HTTPStatus.OK, "alive")(scope, receive, send)

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_draining():
            answer = _answer(scope, HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        elif await self._store_is_well():
            answer = _answer(scope, HTTPStatus.OK, "ready")
        else:
            answer = _answer(scope, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
        await answer(scope, receive, send)

    async def _store_is_well(self) -> bool:
        """Ask the store, unless somebody just did; whoever comes meanwhile waits for the same answer."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._good_until:
            if self._asking is None:
                # A task of its own: it must not end with the one probe that happened to start it.
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
        return self._well

    async def _ask(self) -> None:
        was_well, self._well = self._well, False
        try:
            async with asyncio.timeout(self._ping_seconds):
                await self._ping()
            self._well = True
        except (TimeoutError, *problems.TROUBLES) as error:
            if was_well:
                _log.warning("not ready: %s", problems.cause(error))
        finally:
            self._good_until = asyncio.get_running_loop().time() + self._remember_seconds
            self._asking = None


def _answer(scope: Scope, status: HTTPStatus, word: str) -> Document:
    if scope["method"] not in {"GET", "HEAD"}:
        return method_not_allowed("GET, HEAD")
    headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    return Document(status, msgspec.json.encode({"status": word}), headers)


async def never_started() -> None:
    """Answer for a store that is not open."""
    raise StoreUnavailableError("the server is not started")
