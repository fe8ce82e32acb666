"""
A bank to be protected. Its ledger lies outside the server, so that no fault of the server can lose a line.

Each run of a handler is written there before anything is done, and again when it is over: what is
begun and not ended has crashed. The ledger tells the handler what shall become of it.
"""

import asyncio
import json
import os
from hashlib import sha256

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from watchword.engine.engine import identify
from watchword.guard.asgi import approval

SOCKET = "FAULTS_LEDGER"
"""The variable of the environment that names the ledger's socket."""


def name_of(method: str, path: str, body: bytes) -> str:
    """Name one request, as bank and clients both know it."""
    return f"{method} {path} {sha256(body).hexdigest()[:16]}"


async def handle(request: Request) -> Response:
    """Run: nothing is done that is not in the ledger."""
    by = approval(request.scope)
    assert by is not None, "the guard let through what it did not approve"
    reader, writer = await asyncio.open_unix_connection(os.environ[SOCKET])
    try:
        run = {
            "token": "" if by.ott is None else identify(by.ott).hex(),
            "user": by.principal.user_id,
            "action": by.action,
            "request": name_of(request.method, request.url.path, await request.body()),
        }
        writer.write(json.dumps(run).encode() + b"\n")
        fate = json.loads(await reader.readline())
        await asyncio.sleep(fate["seconds"])
        writer.write(b'{"ended": true}\n')
        await reader.readline()
    finally:
        writer.close()
    return JSONResponse({}, 500 if fate["fails"] else 201)


app = Starlette(
    routes=[
        Route("/statements/{id}", handle, methods=["GET"]),
        Route("/payments/{id}", handle, methods=["POST"]),
        Route("/batches/{id}", handle, methods=["POST"]),
    ]
)
