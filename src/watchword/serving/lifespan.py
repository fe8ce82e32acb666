"""The life of an application that we serve for somebody else: started before us, stopped after."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from watchword.asgi import ASGIApp, ASGIMessage, Scope

SLOW_SECONDS = 10.0

_log = logging.getLogger("watchword")


class AppStartError(Exception):
    """The application could not start; says why, in its own words."""


@asynccontextmanager
async def living(app: ASGIApp) -> AsyncGenerator[dict[str, Any]]:
    """
    Start *app*, and stop it at the end; an application that knows no lifespan has none.

    Yields:
        What it put into the state of its requests.

    Raises:
        AppStartError: It could not start.
    """
    life = _Life(app)
    await life.start()
    try:
        yield life.state
    finally:
        await life.stop()


def _say_that_it_is_slow() -> None:
    _log.warning("the application has not started after %g s; nothing is served until it has", SLOW_SECONDS)


class _Life:
    """One talk over ASGI's lifespan, in a task of its own: it must start and end in one context."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._told: asyncio.Queue[ASGIMessage] = asyncio.Queue()
        self._started = asyncio.Event()
        self._refused: str | None = None
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._told.put_nowait({"type": "lifespan.startup"})
        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, _say_that_it_is_slow)
        try:
            await self._started.wait()
        finally:
            slow.cancel()
        if self._refused is not None:
            await self._task
            raise AppStartError(self._refused)

    async def stop(self) -> None:
        self._told.put_nowait({"type": "lifespan.shutdown"})
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._told.get, self._send)
        except Exception as error:  # noqa: BLE001 - it is another's application: whatever it raises, we go on.
            # ASGI's lifespan: an exception before any answer says that it is not known there.
            if self._started.is_set() and self._refused is None:
                _log.error("the application failed as it stopped: %s", type(error).__name__)
        finally:
            self._started.set()

    async def _send(self, message: ASGIMessage) -> None:
        match message["type"]:
            case "lifespan.startup.failed":
                self._refused = str(message.get("message", "")) or "it says no more"
                self._started.set()
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.shutdown.failed":
                _log.error("the application failed as it stopped")
            case _:
                pass
