"""HTTP as bytes on sockets: a small client that sends exactly what it is told to."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from types import TracebackType
from typing import Any, Self

Address = tuple[str, int]
ANSWER_SECONDS = 60.0
CODE = "111111"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the one value of a header; None where it is missing."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error document."""
        code: str = self.json()["errors"][0]["code"]
        return code

    @property
    def ott(self) -> str:
        """The new OTT of a refusal; asserts that it is one."""
        assert self.status == 403, self
        assert self.header("x-2fa-approval-result") == "REJECTED", self
        ott = self.header("x-2fa-approval")
        assert ott is not None, self
        assert self.code == "sca.required", self
        return ott


def encode(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """Write a request down."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: sandbox.test",
        *(f"{key}: {text}" for key, text in headers),
    ]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Wire:
    """One connection that stays open."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, method: str = "GET") -> Answer:
        """
        Read one answer, to a request of that method.

        Raises:
            ConnectionError: The whole of an answer never came.
        """
        _, status, *_ = self._line().split(" ")
        pairs = []
        while line := self._line():
            name, _, value = line.partition(":")
            pairs.append((name.lower(), value.strip()))
        answer = Answer(int(status), tuple(pairs), b"")
        if answer.status == 204:
            return answer  # It has no body, and says nothing of its length (RFC 9110 section 8.6).
        length = answer.header("content-length")
        assert length is not None, answer
        size = 0 if method == "HEAD" else int(length)
        body = self._file.read(size)
        if len(body) < size:
            raise ConnectionError("the answer ended early")
        return replace(answer, body=body)

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("there was no answer")
        return line[:-2].decode("latin-1")

    def at_end(self) -> bool:
        """Wait for what comes next; tell whether it is the end of the connection."""
        return self._file.read(1) == b""

    def call(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Answer:
        self.send(encode(method, target, headers, body))
        return self.receive(method)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Call the control API, which has to agree."""
        content = None if body is None else json.dumps(body).encode()
        kind = () if content is None else (("Content-Type", "application/json"),)
        answer = self.call(method, path, kind, content)
        assert answer.status in {200, 201}, answer
        return answer.json()

    def executions(self, action: str, ott: str | None = None) -> int:
        """Return how often an action's handlers ran: the one oracle that counts."""
        counts = self.control("GET", "/sandbox/executions" + ("" if ott is None else f"?ott={ott}"))
        number: int = counts[action]
        return number

    def advance(self, seconds: float) -> str:
        """Move the product's clock; return what it shows then."""
        now: str = self.control("POST", "/sandbox/clock", {"advanceSeconds": seconds})["now"]
        return now

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncWire:
    """The same for many at once: a connection, and the few things of HTTP that a load needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: Address) -> Self:
        return cls(*await asyncio.open_connection(*address))

    async def send(self, request: bytes) -> Answer:
        """
        Exchange a request for an answer.

        Raises:
            ConnectionError: The whole of an answer never came.
        """
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            pairs = (line.partition(":") for line in lines)
            headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
            status = int(first.split(" ")[1])
            length = 0 if status == 204 else int(dict(headers)["content-length"])
            body = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError from error
        return Answer(status, headers, body)

    def close(self) -> None:
        self._writer.close()


def volley(wires: Sequence[Wire], requests: Sequence[bytes]) -> list[Answer]:
    """
    Send many requests at once, one a connection; return their answers in the same order.

    All but the last byte of each goes first, so that the last bytes alone decide when they start.
    """
    assert len(wires) >= len(requests)
    armed = list(zip(wires, requests, strict=False))
    for wire, request in armed:
        wire.send(request[:-1])
    for wire, request in armed:
        wire.send(request[-1:])
    return [wire.receive() for wire, _ in armed]


_numbers = count(1)


@dataclass(frozen=True)
class Person:
    """Somebody with an access token, and the connection that he calls over."""

    wire: Wire
    token: str
    user_id: int
    profile: int

    @classmethod
    def make(cls, wire: Wire, **enrolled: object) -> "Person":
        """Make a user who nobody knows yet; with a phone number of his own unless told otherwise."""
        number = next(_numbers)
        new: dict[str, object] = {
            "token": f"token-{number}",
            "phoneNumber": f"+4477009{number:05d}",
        } | enrolled
        made = wire.control("POST", "/sandbox/users", new)
        return cls(wire, str(new["token"]), made["userId"], made["profileIds"][0])

    def over(self, wire: Wire) -> "Person":
        """Return the same person, calling over another connection."""
        return replace(self, wire=wire)

    @property
    def statement(self) -> str:
        return f"/v1/profiles/{self.profile}/balance-statements/200001/statement.json"

    @property
    def payment(self) -> str:
        return f"/v3/profiles/{self.profile}/transfers/16521632/payments"

    def request(
        self,
        method: str,
        target: str,
        *,
        ott: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> bytes:
        """Write down a call of his."""
        given = [("Authorization", f"Bearer {self.token}"), *(headers or {}).items()]
        if ott is not None:
            given.append(("x-2fa-approval", ott))
        content: bytes | None = None
        if isinstance(body, bytes):
            content = body
        elif body is not None:
            content = json.dumps(body).encode()
            given.append(("Content-Type", "application/json"))
        elif method == "POST":
            content = b""
        return encode(method, target, given, content)

    def about(self, method: str, path: str, ott: str, body: object = None) -> bytes:
        """Write down a call about an OTT; *path* may leave the first generation's stem out."""
        target = path if path.startswith("/") else f"/v1/one-time-token/{path}"
        return self.request(method, target, headers={"One-Time-Token": ott}, body=body)

    def pay_request(self, *, ott: str | None = None, body: object = None) -> bytes:
        return self.request("POST", self.payment, ott=ott, body=body or {"type": "BALANCE"})

    def get_request(self, target: str, *, ott: str | None = None) -> bytes:
        return self.request("GET", target, ott=ott)

    def send(self, request: bytes) -> Answer:
        self.wire.send(request)
        return self.wire.receive(request.partition(b" ")[0].decode())

    def get(self, target: str, *, ott: str | None = None) -> Answer:
        return self.send(self.get_request(target, ott=ott))

    def pay(self, *, ott: str | None = None, body: object = None) -> Answer:
        return self.send(self.pay_request(ott=ott, body=body))

    def status(self, ott: str) -> Answer:
        return self.send(self.about("GET", "status", ott))

    def challenges(self, ott: str) -> list[list[str]]:
        """Return the methods of each challenge that is left, primary first."""
        answer = self.status(ott)
        assert answer.status == 200, answer
        return [
            [entry["primaryChallenge"]["type"], *(other["type"] for other in entry["alternatives"])]
            for entry in answer.json()["oneTimeTokenProperties"]["challenges"]
            if not entry["passed"]
        ]

    def trigger(self, ott: str, channel: str = "sms") -> Answer:
        answer = self.send(self.about("POST", f"{channel}/trigger", ott))
        assert answer.status == 200, answer
        return answer

    def verify_code(self, ott: str, code: str = CODE, channel: str = "sms") -> Answer:
        return self.send(self.about("POST", f"{channel}/verify", ott, {"otpCode": code}))

    def verify_pin(self, ott: str, pin: str) -> Answer:
        return self.send(self.about("POST", "pin/verify", ott, {"pin": pin}))

    def clear_code(self, ott: str) -> None:
        """Pass a phone challenge."""
        self.trigger(ott)
        answer = self.verify_code(ott)
        assert answer.status == 200, answer

    def clear_pin(self, ott: str, pin: str) -> None:
        """Pass a PIN challenge."""
        answer = self.verify_pin(ott, pin)
        assert answer.status == 200, answer

    def ready_payment(self, pin: str, *, body: object = None) -> str:
        """Return an OTT that is ready for his payment."""
        ott = self.pay(body=body).ott
        self.clear_pin(ott, pin)
        self.clear_code(ott)
        return ott


Make = Callable[..., Person]
