"""
The floor: the same five exchanges with nothing decided, the least that they can cost here.

A bare Starlette application on the same server answers with the same headers and the same bodies.
Its four writing calls each wait until one row, of a token's size, is where the store keeps it.
"""

import os
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.exchange import STATEMENT
from bench.group_commit import SCHEMA, Row, connect, group_commit

BODY = bytes(600)
"""As large as a stored token."""

Step: TypeAlias = Callable[[Request, str, int], Awaitable[None]]
"""What an exchange waits for: of which token, and the how manieth exchange of the cycle it is, from 0."""

_encode = msgspec.json.Encoder().encode
_VIEW = {"viewData": {"attributes": {"userId": 1_000_000}}}
_CHALLENGE = {
    "primaryChallenge": {"type": "SMS", **_VIEW},
    "alternatives": [{"type": "WHATSAPP", **_VIEW}, {"type": "VOICE", **_VIEW}],
    "required": True,
    "passed": False,
}
_MESSAGE = "This action needs your confirmation. Clear the one-time token, then repeat the request."


class _VerifyRequest(msgspec.Struct):
    otp_code: str = msgspec.field(name="otpCode")


_decode = msgspec.json.Decoder(_VerifyRequest).decode


def _answer(
    request: Request, body: bytes, status: int = 200, *, headers: dict[str, str] | None = None
) -> Response:
    common = {
        "x-trace-id": secrets.token_hex(16),
        "cache-control": "no-store",
        "x-external-correlation-id": request.headers["x-external-correlation-id"],
    }
    return Response(body, status, {**common, **(headers or {})}, "application/json")


def key(ott: str) -> bytes:
    """Return what a token is stored under: 32 bytes, as a digest has."""
    return bytes.fromhex(ott.replace("-", "")) * 2


async def _step(request: Request, ott: str, number: int) -> None:
    step: Step = request.state.step
    await step(request, ott, number)


async def statement(request: Request) -> Response:
    """Answer 403 with a new token, or 200 where one is sent."""
    ott = request.headers.get("x-2fa-approval")
    if ott is not None:
        await _step(request, ott, 4)
        return _answer(request, STATEMENT, headers={"x-2fa-approval-result": "APPROVED"})
    ott = str(uuid.uuid4())
    await _step(request, ott, 0)
    refusal = {
        "timestamp": "2026-01-03T12:34:56.789+0000",
        "status": 403,
        "error": "Forbidden",
        "message": _MESSAGE,
        "path": request.url.path,
        "errors": [{"code": "sca.required", "message": _MESSAGE}],
    }
    approval = {"x-2fa-approval-result": "REJECTED", "x-2fa-approval": ott}
    return _answer(request, _encode(refusal), 403, headers=approval)


def _properties(ott: str, **more: Any) -> bytes:  # noqa: ANN401  # values of a JSON document
    return _encode({"oneTimeTokenProperties": {"oneTimeToken": ott, **more}})


async def status(request: Request) -> Response:
    """Answer with one challenge that is open."""
    ott = request.headers["one-time-token"]
    await _step(request, ott, 1)
    about = {"validity": 900, "actionType": "BALANCE__GET_STATEMENT", "userId": 1_000_000}
    return _answer(request, _properties(ott, challenges=[_CHALLENGE], **about))


async def trigger(request: Request) -> Response:
    """Answer as if a message had gone out."""
    await _step(request, request.headers["one-time-token"], 2)
    return _answer(request, _encode({"obfuscatedPhoneNo": "*********8888"}))


async def verify(request: Request) -> Response:
    """Answer that no challenge is left."""
    ott = request.headers["one-time-token"]
    _decode(await request.body())
    await _step(request, ott, 3)
    return _answer(request, _properties(ott, challenges=[], validity=300))


ROUTES = [
    Route("/v1/profiles/{profile}/balance-statements/{balance}/statement.json", statement),
    Route("/v1/one-time-token/status", status),
    Route("/v1/one-time-token/sms/trigger", trigger, methods=["POST"]),
    Route("/v1/one-time-token/sms/verify", verify, methods=["POST"]),
]
VERSIONS = {0: 1, 2: 2, 3: 3, 4: 4}
"""What the writing exchanges leave."""


@asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[dict[str, Step]]:
    _, where, name = os.environ["WATCHWORD_BENCH_PLACE"].split(" ")
    commit = group_commit(Path(where) / name)

    async def step(_request: Request, ott: str, number: int) -> None:
        if number in VERSIONS:
            await commit.submit(Row(key(ott), VERSIONS[number], BODY))

    yield {"step": step}
    await commit.close()


def create_app() -> Starlette:
    """Compose the floor over the file that the environment names."""
    return Starlette(routes=ROUTES, lifespan=_lifespan)


def prefill(path: Path, *, people: int, tokens: int) -> None:
    """Store *tokens* rows as they would be after as many cycles; *people* need nothing stored."""
    del people

    def rows() -> Iterator[tuple[bytes, int, bytes]]:
        for _ in range(tokens):
            yield secrets.token_bytes(16) * 2, 4, BODY

    connection = connect(path)
    # Nothing is lost if this is cut short: the file is made anew.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("DROP INDEX token_id")
    with connection:
        connection.executemany("INSERT INTO token VALUES (?, ?, ?)", rows())
    # In order and at once: much faster than a random insert for each row.
    for statement_ in SCHEMA:
        connection.execute(statement_)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
