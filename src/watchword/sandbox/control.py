"""
The control API under ``/sandbox/``: what a tester does to the sandbox from outside.

It exists in the sandbox only, and asks for no access token. It refuses what another site's page
makes a browser send.
"""

from collections.abc import Awaitable, Callable
from functools import wraps

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from watchword import problems, wire
from watchword.asgi import OTT_PATTERN
from watchword.domain.credential import KINDS
from watchword.domain.method import Method
from watchword.domain.token import TokenId
from watchword.domain.user import UserId
from watchword.engine.engine import identify
from watchword.engine.principal import PrincipalKind
from watchword.sandbox.answers import refuse
from watchword.sandbox.clock import iso
from watchword.sandbox.outbox import Sent
from watchword.sandbox.page import CONTENT_SECURITY_POLICY, origin_of, page
from watchword.sandbox.people import NewUser, UnfitError
from watchword.sandbox.shop import CONTENT_SECURITY_POLICY as SHOP_POLICY, shop
from watchword.sandbox.tokens import show
from watchword.sandbox.world import World
from watchword.server.body import BadRequestError, read_json

Handler = Callable[[Request], Awaitable[Response]]
_ENCODER = msgspec.json.Encoder()
_DIGITS_MAX = 16

CROSS_SITE = "sandbox.cross.site"
"""The error code for what another site's page sends; only the sandbox answers it."""


class Advance(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How far to move the clock."""

    advance_seconds: float


class Now(msgspec.Struct, frozen=True):
    """The time, as far as the product is concerned."""

    now: str


class OutboxMessage(wire.Discreet, frozen=True, rename="camel"):
    """A message in the outbox."""

    channel: Method
    to: str
    text: str
    code: str
    sent_at: str


class MadeUser(wire.Discreet, frozen=True, kw_only=True, rename="camel"):
    """
    A user as he was made.

    Attributes:
        methods: How he can pass challenges from now on.
    """

    token: str
    user_id: int
    profile_ids: tuple[int, ...]
    kind: PrincipalKind
    phone_number: str | None
    methods: tuple[Method, ...]


class Control:
    """The calls of the control API, over one world."""

    def __init__(self, world: World, *, reset: Callable[[], Awaitable[World]]) -> None:
        """
        Control *world*.

        Args:
            reset: Puts a new world in its place.
        """
        self._world = world
        self._reset = reset

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/", to_the_page, methods=["GET"]),
            Route("/sandbox", guarded(self.show_page), methods=["GET"]),
            Route("/sandbox/", to_the_page, methods=["GET"]),
            Route("/sandbox/shop", guarded(self.show_shop), methods=["GET"]),
            Route("/sandbox/users", guarded(self.make_user), methods=["POST"]),
            Route("/sandbox/outbox", guarded(self.outbox), methods=["GET"]),
            Route("/sandbox/executions", guarded(self.executions), methods=["GET"]),
            Route("/sandbox/clock", guarded(self.advance), methods=["POST"]),
            Route("/sandbox/tokens/{ott}", guarded(self.token), methods=["GET"]),
            Route("/sandbox/reset", guarded(self.reset), methods=["POST"]),
        ]

    async def make_user(self, request: Request) -> Response:
        """Make a user, or replace what he has."""
        new = await read_json(request, NewUser)
        try:
            made = await self._world.people.make(new)
        except UnfitError as error:
            raise BadRequestError(problems.malformed(str(error), path=error.member)) from error
        kinds = {KINDS[type(credential)] for credential in made.credentials}
        answer = MadeUser(
            token=new.token,
            user_id=made.user_id,
            profile_ids=made.profile_ids,
            kind=made.kind,
            phone_number=new.phone_number,
            methods=tuple(method for method in Method if method.credential in kinds),
        )
        return _json(answer, 201)

    async def outbox(self, request: Request) -> Response:
        """List what was sent: to a user, or to everybody; oldest first."""
        user_id = request.query_params.get("userId")
        if user_id is None:
            sent = self._world.outbox.messages()
        elif user_id.isascii() and user_id.isdigit() and len(user_id) <= _DIGITS_MAX:
            sent = self._world.outbox.messages(UserId(int(user_id)))
        else:
            raise BadRequestError(problems.malformed("A user's id is a number.", path="userId"))
        return _json([_message(entry) for entry in sent])

    async def executions(self, request: Request) -> Response:
        """Say how often each action's handlers ran: in all, or under one OTT."""
        ott = request.query_params.get("ott")
        return _json(self._world.executions(None if ott is None else _token_id(ott)))

    async def advance(self, request: Request) -> Response:
        """Move the clock forward."""
        seconds = (await read_json(request, Advance)).advance_seconds
        try:
            now = self._world.advance(seconds)
        except ValueError as error:
            raise BadRequestError(problems.malformed(f"{error}.", path="advanceSeconds")) from error
        return _json(Now(iso(now)))

    async def token(self, request: Request) -> Response:
        """Show a token, whoever's it is."""
        engine = self._world.engine
        ott: str = request.path_params["ott"]
        token = await engine.store.token(identify(ott))
        if token is None:
            return refuse(problems.problem(404, wire.Code.OTT_NOT_FOUND, "There is no such one-time token."))
        return _json(show(token, limits=engine.limits, now=engine.clock.now()))

    async def reset(self, request: Request) -> Response:
        """Go back to the start."""
        world = await self._reset()
        return _json(Now(iso(world.clock.now())))

    async def show_page(self, request: Request) -> Response:
        """Show what there is, to a person."""
        html = await page(self._world, host=request.headers.get("host", ""))
        return _page(html, CONTENT_SECURITY_POLICY)

    async def show_shop(self, request: Request) -> Response:
        """Show a shop, whose payment has to be approved."""
        return _page(shop(origin=origin_of(request.headers.get("host", ""))), SHOP_POLICY)


async def to_the_page(_request: Request) -> Response:
    """Lead a person to the page."""
    return RedirectResponse("/sandbox", 307)


def guarded(handler: Handler) -> Handler:
    """Answer bad requests, and refuse those that another site's page sends."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        if request.method != "GET" and request.headers.get("sec-fetch-site", "none") not in {
            "none",
            "same-origin",
        }:
            return refuse(problems.problem(403, CROSS_SITE, "Another site's page may not call this."))
        try:
            return await handler(request)
        except BadRequestError as error:
            return refuse(error.problem)
        except problems.TROUBLES as error:
            return refuse(problems.trouble(error))

    return answer


def _token_id(ott: str) -> TokenId:
    if not OTT_PATTERN.fullmatch(ott.encode()):
        raise BadRequestError(problems.malformed("An OTT is a lower-case UUID.", path="ott"))
    return identify(ott)


def _message(entry: Sent) -> OutboxMessage:
    message = entry.message
    return OutboxMessage(message.channel, message.to, message.text, message.code, iso(entry.at))


def _page(html: str, policy: str) -> Response:
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return Response(html, headers=headers, media_type="text/html")


def _json(answer: object, status: int = 200) -> Response:
    return Response(
        _ENCODER.encode(answer), status, headers={"cache-control": "no-store"}, media_type="application/json"
    )
