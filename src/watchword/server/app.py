"""The composition of the server: routes, their outermost layer, and what runs beside them."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from watchword import problems
from watchword.asgi import ASGIApp, Receive, Scope, Send
from watchword.engine.engine import Engine
from watchword.engine.principal import Authenticator
from watchword.jose.keys import ServerKeys
from watchword.server.api import Api
from watchword.server.endpoint import Endpoint, method_not_allowed, not_found
from watchword.server.openapi import document
from watchword.server.settings import Settings

SWEEP_EVERY_SECONDS = 30.0
SWEEPS_AT_ONCE = 1000
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_log = logging.getLogger("watchword")


def api_routes(
    engine: Engine,
    authenticator: Authenticator,
    *,
    keys: ServerKeys | None = None,
    settings: Settings | None = None,
) -> list[BaseRoute]:
    """
    Return the routes of the API, with its OpenAPI document.

    Args:
        keys: Our own keys for JOSE; without any, fresh ones that nobody keeps.
    """
    api = Api(engine, authenticator, keys=keys or ServerKeys.generate(), settings=settings or Settings())
    described = document(api.operations)

    async def openapi(_request: Request) -> Response:
        return Response(described, media_type="application/json")

    return [*api.routes(), Route("/openapi.json", openapi, methods=["GET"])]


def compose(routes: Sequence[BaseRoute], engine: Engine) -> "Front":
    """Make an application of *routes* that answers errors in our shape and sweeps as it runs."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        sweeper = asyncio.create_task(_sweep(engine))
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
            await engine.store.close()

    return Front(routes, lifespan=lifespan)


class Front(Starlette):
    """
    An application that finds the way of most requests without trying route after route.

    A path without parameters goes straight to its endpoint. One that is no route's goes straight
    to what the router falls back to: the application behind us, whose requests are most of all.
    """

    def __init__(self, routes: Sequence[BaseRoute], *, lifespan: Lifespan[Starlette]) -> None:
        """Serve *routes*."""
        super().__init__(routes=routes, lifespan=lifespan)
        self.router.redirect_slashes = False  # A redirected payment is repeated by some clients as a GET.
        self._nothing_behind = self.router.default
        plain = [route for route in routes if isinstance(route, Route)]
        self._endpoints = {
            route.path: route.endpoint
            for route in plain
            if isinstance(route.endpoint, Endpoint) and "{" not in route.path
        }
        known = "|".join(_NAMED_GROUP.sub("(?:", route.path_regex.pattern) for route in plain)
        self._known = re.compile(known if len(plain) == len(routes) else "")

    def build_middleware_stack(self) -> ASGIApp:
        """Leave exceptions to ``Edge``: Starlette itself would answer 500 to a store that is away."""
        return ExceptionMiddleware(self.router, handlers={HTTPException: _failed})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        way: ASGIApp = super().__call__
        if scope["type"] == "http":
            path = scope["path"]
            if path in self._endpoints:
                way = self._endpoints[path]
            elif self.router.default != self._nothing_behind and not self._known.match(path):
                way = self.router.default
        await way(scope, receive, send)


async def _failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer = method_not_allowed((error.headers or {}).get("Allow", "other methods"))
    else:
        answer = not_found()
    return Response(answer.body, answer.status, headers=dict(_text(answer.headers)))


def api(
    engine: Engine,
    authenticator: Authenticator,
    *,
    keys: ServerKeys | None = None,
    settings: Settings | None = None,
) -> "Front":
    """Make an application of the API alone; see ``api_routes``."""
    return compose(api_routes(engine, authenticator, keys=keys, settings=settings), engine)


def _text(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


async def _sweep(engine: Engine) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY_SECONDS)
        try:
            for _ in range(SWEEPS_AT_ONCE):
                if not await engine.sweep():
                    break
        except problems.TROUBLES as error:
            _log.warning("sweep: %s", problems.cause(error))
