"""
The product in one process: the engine in memory, the OTT API, a small bank behind the guard.

``call`` speaks ASGI by hand, for requests that no honest client would send; ``Product.client`` is
an ordinary HTTP client.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.factories import (
    ADA,
    BATCH,
    CODE,
    FINGERPRINT,
    GRACE,
    PAYMENT,
    PIN,
    STATEMENT,
    Faces,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from tests.stores import open_chosen
from watchword.asgi import ASGIApp, ASGIMessage, Receive, Scope, Send
from watchword.auth.static import StaticTokens
from watchword.domain.action import Action, Actions, Bind, Risk
from watchword.domain.decision import Change
from watchword.domain.limits import Limits
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.ports import SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.guard.asgi import BODY_MAX, BODY_SECONDS, Guard, approval
from watchword.guard.details import Describe
from watchword.guard.starlette import protects
from watchword.server.app import api_routes, compose
from watchword.server.edge import Edge
from watchword.store.base import Store, StoreUnavailableError
from watchword.store.memory import MemoryStore

PROFILE = 435036
GRACE_PROFILE = 435037
OTHER_PROFILE = 1
STATEMENT_PATH = f"/v1/profiles/{PROFILE}/balance-statements/7/statement.json"
PAYMENT_PATH = f"/v3/profiles/{PROFILE}/transfers/9/payments"
BATCH_PATH = f"/v3/profiles/{PROFILE}/batch-payments/9/payments"
KEY_PATH = "/keys"
KEY = Action(name="KEY__ROTATE", risk=Risk.HIGH, bind=Bind.REQUEST)
ACTIONS = (STATEMENT, PAYMENT, BATCH, KEY)
JSON = {"content-type": "application/json"}

Headers = Sequence[tuple[str, str | bytes]]


@dataclass
class Bank:
    """An application to protect; it counts what really ran, and fails when told to."""

    executions: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 201
    error: Exception | None = None
    waits: Callable[[], Awaitable[object]] | None = None

    def routes(self) -> list[Route | WebSocketRoute]:
        """Return the bank's routes."""
        return [
            Route(STATEMENT.routes[0].template, self.handler("statement"), methods=["GET"]),
            Route(PAYMENT.routes[0].template, self.handler("payment"), methods=["POST", "PUT"]),
            Route(BATCH.routes[0].template, self.handler("batch"), methods=["POST"]),
            Route("/v1/profiles", self.handler("open")),
            Route("/plain", self.handler("plain"), methods=["GET", "POST", "PUT", "DELETE"]),
            WebSocketRoute(PAYMENT.routes[0].template, self._socket),
            WebSocketRoute(STATEMENT.routes[0].template, self._socket),
            WebSocketRoute("/socket", self._socket),
        ]

    def handler(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            self.executions[name] += 1
            self.bodies.append(await request.body())
            if self.waits is not None:
                await self.waits()
            if self.error is not None:
                raise self.error
            by = approval(request.scope)
            # What an application says of approvals is not believed.
            headers = {
                "x-2fa-approval-result": "FORGED",
                "X-2FA-Approval": "forged",
                "cache-control": "public",
            }
            status = self.status if request.method == "POST" else 200
            return JSONResponse(
                {"ran": name, "ott": None if by is None else by.ott},
                status_code=status,
                headers={} if by is None else headers,
            )

        return handler

    async def _socket(self, socket: WebSocket) -> None:
        self.executions["socket"] += 1
        await socket.accept()
        await socket.close()

    async def stream(self, _request: Request) -> Response:
        """Answer in three pieces."""

        async def pieces() -> Any:
            for number in range(3):
                yield f"data: {number}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")


class Faulty(MemoryStore):
    """A store that cannot be reached wherever it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[str] = set()
        self.after_commit = False

    def _reach(self, what: str) -> None:
        if what in self.down:
            raise StoreUnavailableError

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        self._reach("token")
        return await super().token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        self._reach("user")
        return await super().user(user_id)

    async def commit(self, change: Change) -> bool:
        if not self.after_commit:
            self._reach("commit")
        done = await super().commit(change)
        self._reach("commit")  # The answer was lost on its way: stored, and nobody knows.
        return done


@dataclass(kw_only=True)
class Product:
    """All of it, to be called and looked into."""

    world: World
    bank: Bank
    guard: Guard
    app: ASGIApp
    tokens: StaticTokens
    client: httpx2.AsyncClient

    async def call(
        self, method: str, path: str, *, token: str | None = "ada", **more: Any
    ) -> httpx2.Response:
        """Make a call as *token*."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        headers.update(more.pop("headers", {}))
        return await self.client.request(method, path, headers=headers, **more)

    async def ott(self, method: str = "GET", path: str = STATEMENT_PATH, **more: Any) -> str:
        """Make a protected call and return the OTT that it is answered with."""
        answer = await self.call(method, path, **more)
        assert answer.status_code == 403, answer.text
        return str(answer.headers["x-2fa-approval"])

    async def payment_ott(self, body: bytes = b"{}", **more: Any) -> str:
        """Ask for a payment and return its OTT."""
        return await self.ott("POST", PAYMENT_PATH, content=body, headers=JSON, **more)

    async def on(self, ott: str, operation: str, body: object = None, **more: Any) -> httpx2.Response:
        """Call an operation of the OTT API on *ott*."""
        headers = {"one-time-token": ott, **more.pop("headers", {})}
        path = operation if operation.startswith("/") else f"/v1/one-time-token/{operation}"
        method = "GET" if path.endswith("/status") else "POST"
        if body is not None:
            more["json"] = body
        return await self.call(method, path, headers=headers, **more)

    async def pass_pin(self, ott: str, **more: Any) -> httpx2.Response:
        """Answer with the right PIN."""
        return await self.on(ott, "pin/verify", {"pin": PIN}, **more)

    async def pass_sms(self, ott: str, **more: Any) -> httpx2.Response:
        """Ask for a code by SMS and answer with it."""
        assert (await self.on(ott, "sms/trigger", **more)).status_code == 200
        return await self.on(ott, "sms/verify", {"otpCode": CODE}, **more)

    async def cleared_statement(self, **more: Any) -> str:
        """Return an OTT that is ready for a statement."""
        ott = await self.ott(**more)
        assert (await self.pass_sms(ott)).status_code == 200
        return ott

    async def cleared_payment(self, body: bytes = b"{}", *, path: str = PAYMENT_PATH) -> str:
        """Return an OTT that is ready for a payment."""
        ott = await self.ott("POST", path, content=body, headers=JSON)
        for passed in (await self.pass_pin(ott), await self.pass_sms(ott)):
            assert passed.status_code == 200, passed.text
        return ott

    async def pay(
        self, ott: str | None = None, body: bytes = b"{}", *, path: str = PAYMENT_PATH, **more: Any
    ) -> httpx2.Response:
        """Ask for a payment, with *ott*."""
        headers = JSON | ({} if ott is None else {"x-2fa-approval": ott}) | more.pop("headers", {})
        return await self.call(more.pop("method", "POST"), path, content=body, headers=headers, **more)

    async def raw(self, method: str, target: str, headers: Headers = (), **more: Any) -> "Answer":
        """Speak ASGI by hand, as Ada."""
        return await call(self.app, method, target, [("authorization", "Bearer ada"), *headers], **more)

    async def lock(self) -> None:
        """Lock Ada: five wrong answers."""
        ott = await self.ott()
        for _ in range(5):
            assert (await self.on(ott, "pin/verify", {"pin": "0000"})).status_code == 400


async def make_product(
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen.
    store: Store | None = None,
    actions: Iterable[Action] = ACTIONS,
    describe: Describe | None = None,
    body_max: int = BODY_MAX,
    body_seconds: float = BODY_SECONDS,
    faces: Faces | None = None,
) -> Product:
    """Make the product, with Ada (everything enrolled), Grace (a phone) and an application."""
    world = make_world(limits=limits, store=store or await open_chosen(), faces=faces)
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(), enrolled_fingerprint())
    await world.enrol(GRACE, enrolled_phone(GRACE, "+447700900123"))
    tokens = StaticTokens(
        {
            "ada": Principal(kind=PrincipalKind.USER, user_id=ADA, profile_ids=frozenset({PROFILE})),
            "grace": Principal(
                kind=PrincipalKind.USER, user_id=GRACE, profile_ids=frozenset({GRACE_PROFILE})
            ),
            "application": Principal(kind=PrincipalKind.APPLICATION),
        }
    )
    bank = Bank()
    inner = compose(bank.routes(), world.engine)
    guard = Guard(
        inner,
        engine=world.engine,
        actions=Actions(actions),
        authenticator=tokens,
        describe=describe,
        body_max=body_max,
        body_seconds=body_seconds,
    )
    inner.router.routes += [
        Route(KEY_PATH, protects(guard, KEY.name)(bank.handler("key")), methods=["POST"]),
        Route("/stream", protects(guard, STATEMENT.name)(bank.stream), methods=["GET"]),
    ]
    app = Edge(
        compose([*api_routes(world.engine, tokens), Mount("/", app=guard)], world.engine),
        trace_id=SystemEntropy().trace_id,
    )
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://bank.test")
    return Product(world=world, bank=bank, guard=guard, app=app, tokens=tokens, client=client)


# --- ASGI by hand -----------------------------------------------------------------------------


@dataclass
class Answer:
    """What an application sent."""

    sent: list[ASGIMessage] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The status; 0 where nothing was answered."""
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def all(self, name: str) -> list[str]:
        """Return each value of a header."""
        return [
            value.decode("latin-1")
            for key, value in (self.sent[0]["headers"] if self.sent else ())
            if key.lower() == name.encode()
        ]

    def header(self, name: str) -> str | None:
        """Return the one value of a header."""
        found = self.all(name)
        assert len(found) <= 1, found
        return found[0] if found else None

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.json()["errors"][0]["code"])


async def call(
    app: ASGIApp,
    method: str,
    target: str,
    headers: Headers = (),
    *,
    body: bytes | Sequence[bytes] = b"",
    receive: Receive | None = None,
    scope: Mapping[str, Any] | None = None,
) -> Answer:
    """Make one request of *app*; *target* is the raw path and query."""
    raw_path, _, query = target.encode("latin-1").partition(b"?")
    pieces = [body] if isinstance(body, bytes) else list(body)
    request: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [
            (name.lower().encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in headers
        ],
        "client": ("127.0.0.1", 1),
        "server": ("bank.test", 80),
        **(scope or {}),
    }
    answer = Answer()

    async def pieces_one_by_one() -> ASGIMessage:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: ASGIMessage) -> None:
        answer.sent.append(message)

    sending: Send = send
    await app(request, receive or pieces_one_by_one, sending)
    return answer


__all__ = ["CODE", "FINGERPRINT", "PIN"]
