"""
The floor: the same five exchanges with nothing decided, the least that they can cost here.

A bare Starlette application on the same server answers with the same headers and the same bodies.
Its four writing calls each wait until one row, of a token's size, is on the disk.
"""

import os
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.exchange import STATEMENT
from bench.group_commit import SCHEMA, Row, connect, group_commit
from watchword.store.group import GroupCommit

BODY = bytes(600)
"""As large as a stored token."""

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


def _key(ott: str) -> bytes:
    return bytes.fromhex(ott.replace("-", "")) * 2  # 32 bytes, as a digest has


async def _write(request: Request, ott: str, version: int) -> None:
    commit: GroupCommit[Row, None] = request.state.commit
    await commit.submit(Row(_key(ott), version, BODY))


async def statement(request: Request) -> Response:
    """Answer 403 with a new token, or 200 where one is sent."""
    ott = request.headers.get("x-2fa-approval")
    if ott is not None:
        await _write(request, ott, 4)
        return _answer(request, STATEMENT, headers={"x-2fa-approval-result": "APPROVED"})
    ott = str(uuid.uuid4())
    await _write(request, ott, 1)
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
    about = {"validity": 900, "actionType": "BALANCE__GET_STATEMENT", "userId": 1_000_000}
    return _answer(request, _properties(ott, challenges=[_CHALLENGE], **about))


async def trigger(request: Request) -> Response:
    """Answer as if a message had gone out."""
    await _write(request, request.headers["one-time-token"], 2)
    return _answer(request, _encode({"obfuscatedPhoneNo": "*********8888"}))


async def verify(request: Request) -> Response:
    """Answer that no challenge is left."""
    ott = request.headers["one-time-token"]
    _decode(await request.body())
    await _write(request, ott, 3)
    return _answer(request, _properties(ott, challenges=[], validity=300))


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[dict[str, GroupCommit[Row, None]]]:
    commit = group_commit(Path(os.environ["WATCHWORD_BENCH_DATABASE"]))
    yield {"commit": commit}
    await commit.close()


def create_app() -> Starlette:
    """Compose the floor over the database that the environment names."""
    return Starlette(
        routes=[
            Route("/v1/profiles/{profile}/balance-statements/{balance}/statement.json", statement),
            Route("/v1/one-time-token/status", status),
            Route("/v1/one-time-token/sms/trigger", trigger, methods=["POST"]),
            Route("/v1/one-time-token/sms/verify", verify, methods=["POST"]),
        ],
        lifespan=_lifespan,
    )


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
