"""
The product under measurement: the OTT API, and one protected handler behind the guard, over one store.

Composed of the same parts as the real servers. Only three things are not theirs: ``bench-<n>`` is the
access token of a user who exists, codes are always 111111, and no message leaves.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.exchange import STATEMENT
from bench.prefill import FIRST_USER, KEYRING, STATEMENT as ACTION, fill
from watchword.asgi import ASGIApp, Receive, Scope, Send
from watchword.delivery.base import Message
from watchword.domain.action import Actions, Route as Matched
from watchword.domain.limits import Limits
from watchword.domain.user import UserId
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemClock, SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.guard.asgi import Guard
from watchword.methods.registry import Methods
from watchword.page.routes import ApprovalPage
from watchword.page.settings import PageSettings
from watchword.server.app import api_routes, compose
from watchword.server.edge import Edge
from watchword.store.base import Store
from watchword.store.sqlite import SqliteStore

PATH = "/v1/profiles/{profileId}/balance-statements/{balanceId}/statement.json"


class _Entropy(SystemEntropy):
    def code(self, digits: int) -> str:
        return "1" * digits


class _Nowhere:
    async def send(self, message: Message) -> None:
        """Take the message and drop it."""


class _People:
    async def authenticate(self, token: str) -> Principal | None:
        """Return the user whose number stands in *token*."""
        prefix, _, number = token.partition("-")
        if prefix != "bench" or not number.isdecimal():
            return None
        return Principal(kind=PrincipalKind.USER, user_id=UserId(FIRST_USER + int(number)))


async def statement(_: Request) -> Response:
    """Answer what the floor answers."""
    return Response(STATEMENT, media_type="application/json")


class Product:
    """The product, over the store that the environment names; it opens it as it starts."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or live."""
        if self._app is None:
            self._app = compose_over(await _open(os.environ["WATCHWORD_BENCH_PLACE"]))
        await self._app(scope, receive, send)


async def _open(place: str) -> Store:
    kind, where, name = place.split(" ")
    if kind == "sqlite":
        return SqliteStore.open(Path(where) / name)
    from tests.stores import Place  # noqa: PLC0415 - it brings the clients of all stores, which take memory.

    return await Place.parse(place).open()


def create_app() -> ASGIApp:
    """Make the product."""
    return Product()


def compose_over(store: Store) -> ASGIApp:
    """Compose the product over *store*."""
    engine = Engine(
        store=store,
        clock=SystemClock(),
        entropy=_Entropy(),
        methods=Methods(KEYRING),
        delivery=_Nowhere(),
        limits=replace(Limits(), session_seconds=0),  # each cycle is challenged
    )
    actions = Actions([replace(ACTION, routes=(Matched.parse(f"GET {PATH}"),))])
    people = _People()
    page = ApprovalPage(engine, PageSettings(openers=("https://shop.example",)))
    front = compose([*api_routes(engine, people), *page.routes()], engine)
    # As in the sandbox: the guard stands before the application that it protects, and nothing else.
    front.router.default = Guard(
        Starlette(routes=[Route(PATH, statement)]), engine=engine, actions=actions, authenticator=people
    )
    return Edge(front, trace_id=SystemEntropy().trace_id)


def prefill(path: Path, *, people: int, tokens: int) -> None:
    """Enrol *people* and store *tokens* of the past."""

    async def run() -> None:
        # Made anew if it is cut short, so nothing needs to be durable on the way.
        store = SqliteStore.open(path, synchronous="OFF")
        await fill(store, people=people, tokens=tokens, now=SystemClock().now())
        await store.close()

    asyncio.run(run())
