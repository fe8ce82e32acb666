"""A 3D matching server to test against: real sockets, real HTTP, and faces that are texts."""

import asyncio
import json
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

from tests.listening import listening

Json = dict[str, Any]
FOUND_OUT = {
    "replayCheckSucceeded": True,
    "sessionTokenCheckSucceeded": True,
    "auditTrailVerificationCheckSucceeded": True,
    "faceScanLivenessCheckSucceeded": True,
}


@dataclass
class Asked:
    """One request, as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Json:
        loaded: Json = json.loads(self.body)
        return loaded


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What the reply claims to be long; as long as it is, by default."""
    hangs_up: bool = False
    """Whether the connection is closed behind it."""

    @classmethod
    def of(cls, document: Json, status: int = 200) -> Self:
        return cls(status, json.dumps(document).encode(), {"content-type": "application/json"})


def scanned(*, live: bool = True, success: bool = True, **more: Any) -> Json:
    """Return an answer about a face scan, in the members of the server's version 9."""
    return {
        "success": success and live,
        "error": False,
        "wasProcessed": True,
        "faceScanSecurityChecks": FOUND_OUT | {"faceScanLivenessCheckSucceeded": live},
        "serverInfo": {"version": "9.4.6", "mode": "Production"},
        "retryScreenEnumInt": 0,
        "scanResultBlob": "AAEAAAA=",
        **more,
    }


def failed(message: str) -> Json:
    return {"success": False, "error": True, "errorMessage": message}


class MatchingServer:
    """
    Keeps faces by reference.

    A face map is the text ``face:NAME`` of somebody alive, or ``photo:NAME`` of a picture of him;
    anything else is not a face. ``answer`` can be replaced, so that it answers differently.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.kept: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.connections = 0
        self.answer: Callable[[Asked], Awaitable[Reply]] = self.play
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        _, self.port = await self._stack.enter_async_context(listening(self._serve, tls=self._tls))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def always(self, reply: Reply) -> None:
        async def answer(_: Asked) -> Reply:
            return reply

        self.answer = answer

    async def play(self, asked: Asked) -> Reply:
        """Answer as the server does."""
        if asked.method == "DELETE":
            reference = unquote(asked.path.rpartition("/")[2])
            if self.kept.pop(reference, None) is None:
                return Reply.of(failed("No entry found in the database for this externalDatabaseRefID."))
            return Reply.of({"success": True, "error": False})
        body = asked.json()
        reference, scan = body["externalDatabaseRefID"], b64decode(body["faceScan"]).decode()
        kind, _, who = scan.partition(":")
        if kind not in {"face", "photo"}:
            return Reply.of(scanned(wasProcessed=False, success=False))
        if kind == "photo":
            return Reply.of(scanned(live=False))
        if asked.path == "/enrollment-3d":
            if reference in self.kept:
                return Reply.of(failed("An enrollment already exists for this externalDatabaseRefID."))
            self.kept[reference] = who
            return Reply.of(scanned(externalDatabaseRefID=reference))
        if reference not in self.kept:
            return Reply.of(failed("An enrollment does not exist for this externalDatabaseRefID."))
        same = self.kept[reference] == who
        return Reply.of(scanned(success=same, matchLevel=15 if same else 0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            await self._one(head, reader, writer)

    async def _one(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, body)
        self.asked.append(asked)
        reply = await self.answer(asked)
        length = len(reply.body) if reply.length is None else reply.length
        told = {"content-length": str(length)} | reply.headers
        start = f"HTTP/1.1 {reply.status} -\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in told.items()
        )
        writer.write(start.encode() + b"\r\n" + reply.body)
        await writer.drain()
        if reply.hangs_up:
            raise ConnectionAbortedError
