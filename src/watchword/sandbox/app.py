"""
The sandbox: OTT server, demo bank and control API in one application, on one origin.

A reset throws the world away and composes the next one. It lets requests that are under way
finish in the old one first; those that come meanwhile wait for the new one.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Self

from jinja2 import TemplateError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from watchword import wire
from watchword.asgi import ASGIApp, Receive, Scope, Send
from watchword.config import Config, ConfigError, load
from watchword.engine.engine import Engine, identify
from watchword.engine.ports import SystemEntropy
from watchword.guard.asgi import Guard, approval
from watchword.page.assets import Assets
from watchword.page.brand import BrandError
from watchword.page.render import Renderer
from watchword.page.routes import PATH as PAGE, ApprovalPage
from watchword.page.settings import PageSettings
from watchword.sandbox.bank import Handler, bank, describe
from watchword.sandbox.control import Control
from watchword.sandbox.ledger import Ledger
from watchword.sandbox.world import OpensStore, UnusableDataError, World, new_keys, prepare, wipe
from watchword.server.app import api_routes, compose
from watchword.server.edge import Edge
from watchword.server.run import IsDraining, run
from watchword.serving.page import page_settings
from watchword.serving.settings import load as load_deployment
from watchword.store.base import Store

__all__ = ["Sandbox", "UnusableDataError", "create", "run_sandbox"]

HEADERS = {"x-watchword-sandbox": "true"}
"""On every answer: this server is not for production."""

BANNER = """\
Watchword sandbox: NOT FOR PRODUCTION. Every code is 111111, nothing is sent, and whoever reaches
it may do anything. Open /sandbox in a browser to see what would be sent, and what to try.\
"""


ORIGINS = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?")
"""Whose pages may call API and bank: this machine's. Never with cookies, and never the control API."""

DRAIN_SECONDS = 5.0
"""How long a reset waits for requests that are under way; a slow upload must not hold it up for ever."""


class Sandbox:
    """
    The sandbox as an ASGI application with a life: it opens its world at start, and closes it.

    A server that speaks ASGI's lifespan starts and stops it; elsewhere use ``async with``.
    """

    def __init__(
        self,
        config: Config | None = None,
        data: Path | None = None,
        page: PageSettings | None = None,
        store: OpensStore | None = None,
    ) -> None:
        """
        Prepare a sandbox; nothing is opened yet.

        Args:
            config: What replaces the sandbox's own actions and limits.
            data: Where everything is kept; without it nothing is.
            page: How the approval page looks; who may open it stays the sandbox's affair.
            store: Opens an empty store, at the start and at each reset; instead of *data*.
        """
        self._page = page
        self._config = config
        self._data = data
        self._store = store
        self._keys = new_keys()  # They outlive a reset, as those in *data* do.
        self._world: World | None = None
        self._front: Starlette | None = None
        self._opened = AsyncExitStack()
        self._resetting = asyncio.Lock()
        self._under_way = 0
        self._idle = asyncio.Event()
        self.app: ASGIApp = Edge(CrossOrigin(self._serve), trace_id=SystemEntropy().trace_id, headers=HEADERS)

    @property
    def world(self) -> World:
        """The world as it is now; a reset puts another in its place."""
        assert self._world is not None, "the sandbox is not started"
        return self._world

    @property
    def engine(self) -> Engine:
        """The engine of the world."""
        return self.world.engine

    @property
    def store(self) -> Store:
        """The store of the world."""
        return self.engine.store

    async def start(self) -> None:
        """
        Open the world.

        Raises:
            UnusableDataError: The data directory is no place to keep anything.
        """
        if self._data is not None:
            prepare(self._data)
        world = await World.open(self._config, self._data, self._page, self._store, self._keys)
        front = _compose(world, reset=self._reset_by_request)
        self._opened.callback(world.ledger.close)
        await self._opened.enter_async_context(front.router.lifespan_context(front))
        self._world, self._front = world, front

    async def stop(self) -> None:
        """Close the world; what is kept in the data directory stays."""
        await self._opened.aclose()

    async def reset(self) -> World:
        """
        Go back to the start: forget everything, and open a new world.

        Raises:
            UnusableDataError: The data directory could not be opened again; nothing was forgotten.
        """
        async with self._resetting:
            if self._data is not None:
                prepare(self._data)
            await self._drain()
            await self.stop()
            if self._data is not None:
                wipe(self._data)
            await self.start()
            return self.world

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        while self._resetting.locked():
            # Between two worlds; the new one answers.
            async with self._resetting:
                pass
        assert self._front is not None, "the sandbox is not started"
        self._enter()
        try:
            await self._front(scope, receive, send)
        finally:
            self._leave()

    def _enter(self) -> None:
        self._under_way += 1

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def _drain(self) -> None:
        """Wait until nothing is under way, or long enough."""
        self._idle.clear()
        if self._under_way:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS)

    async def _reset_by_request(self) -> World:
        """Reset, without waiting for the request that asks for it, or for others that do."""
        self._leave()
        try:
            return await self.reset()
        finally:
            self._enter()

    async def _live(self, receive: Receive, send: Send) -> None:
        """Speak ASGI's lifespan: start, wait for the end, stop."""
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


class CrossOrigin:
    """Lets pages of this machine call from another port, and read the headers that step-up is told by."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before *app*."""
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origin_regex=ORIGINS.pattern,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=(
                "authorization",
                "content-type",
                wire.ONE_TIME_TOKEN,
                wire.APPROVAL,
                wire.SIGNATURE,
                wire.JOSE_METHOD,
                wire.CORRELATION_ID,
            ),
            expose_headers=(wire.APPROVAL, wire.APPROVAL_RESULT, wire.TRACE_ID),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; of a page that may call, with the answer made readable to it."""
        app = self._open if scope["type"] == "http" and _is_from_a_page_here(scope) else self._app
        await app(scope, receive, send)


def _is_from_a_page_here(scope: Scope) -> bool:
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    path: str = scope["path"]
    return (
        len(origins) == 1
        and ORIGINS.fullmatch(origins[0]) is not None
        # Neither is to be read by another page: who can read the approval page can go on in it.
        and path not in {"/sandbox", PAGE.rstrip("/")}
        and not path.startswith(("/sandbox/", PAGE))
    )


def _compose(world: World, *, reset: Callable[[], Awaitable[World]]) -> Starlette:
    """Put the server, the control API and the bank behind one front."""
    front = compose(
        [
            *api_routes(world.engine, world.people, keys=world.keys, settings=world.settings),
            *Control(world, reset=reset).routes(),
            *ApprovalPage(world.engine, world.page).routes(),
        ],
        world.engine,
    )
    guard = Middleware(
        Guard,
        engine=world.engine,
        actions=world.actions,
        authenticator=world.people,
        describe=describe,
    )
    front.router.default = bank(world.people, guard=guard, counted=partial(_counted, world.ledger))
    return front


def _counted(ledger: Ledger, handler: Handler) -> Handler:
    """Count each run of *handler* that the guard let through."""

    @wraps(handler)
    async def run_and_count(request: Request) -> Response:
        approved = approval(request.scope)
        if approved is not None:
            ledger.count(approved.action, None if approved.ott is None else identify(approved.ott))
        return await handler(request)

    return run_and_count


def create(
    config: Config | None = None, data: Path | None = None, page: PageSettings | None = None
) -> Sandbox:
    """Make a sandbox; see ``Sandbox``."""
    return Sandbox(config, data, page)


def look_of(config: Path) -> PageSettings:
    """
    Return how the approval page of a configuration looks: its ``[page]``, as far as a sandbox goes by it.

    Raises:
        ConfigError: The table has mistakes, or its files cannot be used.
    """
    deployment, mistakes = load_deployment(config)
    mistakes = [mistake for mistake in mistakes if mistake.startswith("page")]
    if not mistakes:
        try:
            settings = page_settings(deployment)
            Renderer(settings.brand, settings.templates, Assets(settings.brand.files))
        except (BrandError, TemplateError, OSError) as error:
            mistakes = [f"page: {error}"]
        else:
            return settings
    raise ConfigError(str(config), mistakes)


def run_sandbox(*, host: str, port: int, data: Path | None, config: Path | None) -> None:
    """
    Run the sandbox until SIGINT or SIGTERM.

    Raises:
        ConfigError: The configuration has mistakes.
        UnusableDataError: The data directory is no place to keep anything.
        CannotListenError: The address is in use, or not one of this machine's.
    """
    settings = None if config is None else load(config)
    page = (
        look_of(config)
        if config is not None and settings is not None and "page" in settings.serving
        else None
    )
    if data is not None:
        # Here, where a fault can still be told in one line.
        asyncio.run(_rehearse(settings, data))
    # On stderr, so that stdout holds the one line that a script waits for.
    print(BANNER, file=sys.stderr, flush=True)
    run(partial(_application, settings, data, page), host=host, port=port)


async def _rehearse(config: Config | None, data: Path) -> None:
    async with create(config, data):
        pass


def _application(
    config: Config | None, data: Path | None, page: PageSettings | None, _: IsDraining
) -> ASGIApp:
    return create(config, data, page).app
