"""A small honest server for the client to talk to, and a person who answers as told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx2 as httpx

from watchword.client import Auth, Choice, Instead, SecretQuestion
from watchword.client.resolver import AsyncResolver, Resolver

HOME = "https://bank.example"
ELSEWHERE = "https://elsewhere.example"
BEARER = "the-bearer-token"
PIN = "4711"
CODE = "111111"
FINGERPRINT = "3207da22-a0d3-4b6b-a591-6297e646fe32"
MASKED = "*********8888"
SECRETS = {
    "PIN": ("pin", PIN, "pin.incorrect"),
    "PARTNER_DEVICE_FINGERPRINT": ("deviceFingerprint", FINGERPRINT, "device.fingerprint.incorrect"),
    "SMS": ("otpCode", CODE, "otp.incorrect"),
    "WHATSAPP": ("otpCode", CODE, "otp.incorrect"),
    "VOICE": ("otpCode", CODE, "otp.incorrect"),
}
SEGMENTS = {
    "pin": "PIN",
    "partner-device-fingerprint": "PARTNER_DEVICE_FINGERPRINT",
    "sms": "SMS",
    "whatsapp": "WHATSAPP",
    "voice": "VOICE",
}


@dataclass(frozen=True)
class Exchange:
    """One request as it arrived."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        """Method and path, the origin left out when it is home."""
        return f"{self.method} {self.url.removeprefix(HOME)}"


Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeServer:
    """
    Issues one-time tokens for every call outside `/v1/one-time-token/`, and lets through what is cleared.

    `challenges` are lists of methods, the primary first. `scripts` hold answers that come before its
    own: for a path, what to answer in order; None stands for its own answer.
    """

    challenges: Sequence[Sequence[str]] = (("PIN",),)
    drops_solved: bool = True
    bare_alternatives: bool = False
    attempts: int = 5
    prefix: str = ""
    scripts: dict[str, list[httpx.Response | Handler | None]] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    timeouts: list[Any] = field(default_factory=list)
    executions: list[bytes] = field(default_factory=list)
    issued: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.exchanges.append(
            Exchange(request.method, str(request.url), dict(request.headers), request.content)
        )
        self.timeouts.append(request.extensions.get("timeout"))
        script = self.scripts.get(request.url.path)
        scripted = script.pop(0) if script else None
        if callable(scripted):
            return scripted(request)
        if scripted is not None:  # a copy, since a response is bound to the request that it answered
            return httpx.Response(
                scripted.status_code, headers=scripted.headers.raw, content=scripted.content
            )
        base = f"{self.prefix}/v1/one-time-token/"
        if request.url.path.startswith(base):
            return self._side(request, request.url.path.removeprefix(base))
        return self._protected(request)

    @property
    def lines(self) -> list[str]:
        """What was asked for, in order."""
        return [exchange.line for exchange in self.exchanges]

    def _protected(self, request: httpx.Request) -> httpx.Response:
        token = self.issued.get(request.headers.get("x-2fa-approval", ""))
        bound = (request.method, request.url.raw_path, request.content)
        if token and not any(self._open(token)) and token["bound"] == bound and not token["spent"]:
            token["spent"] = True
            self.executions.append(request.content)
            return httpx.Response(201, headers={"x-2fa-approval-result": "APPROVED"}, json={"ran": True})
        name = f"00000000-0000-4000-8000-{len(self.issued):012x}"
        self.issued[name] = {
            "bound": bound,
            "passed": [False] * len(self.challenges),
            "triggered": set(),
            "failures": 0,
            "spent": False,
        }
        return refusal(name)

    def _side(self, request: httpx.Request, path: str) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {BEARER}":
            return httpx.Response(401, json={"error": "invalid_token", "error_description": "No."})
        token = self.issued.get(request.headers.get("one-time-token", ""))
        if token is None:
            return problem(404, "ott.not.found")
        if path == "status":
            assert request.method == "GET"
            return self._state(request.headers["one-time-token"], token)
        assert request.method == "POST"
        segment, _, verb = path.partition("/")
        method = SEGMENTS[segment]
        position = next(
            (i for i, c in enumerate(self.challenges) if method in c and not token["passed"][i]), None
        )
        if position is None:
            return problem(400, "challenge.not.offered")
        if verb == "trigger":
            assert request.content == b""
            token["triggered"].add(method)
            return httpx.Response(200, json={"obfuscatedPhoneNo": MASKED})
        assert verb == "verify"
        key, secret, wrong = SECRETS[method]
        if key == "otpCode" and method not in token["triggered"]:
            return problem(400, "otp.not.triggered")
        if json.loads(request.content) != {key: secret}:
            token["failures"] += 1
            return problem(400, wrong, [self.attempts - token["failures"]])
        token["passed"][position] = True
        return self._state(request.headers["one-time-token"], token, slim=True)

    def _open(self, token: dict[str, Any]) -> list[bool]:
        return [not passed for passed in token["passed"]]

    def _state(self, name: str, token: dict[str, Any], *, slim: bool = False) -> httpx.Response:
        challenges = [
            {
                "primaryChallenge": shape(methods[0]),
                "alternatives": [m if self.bare_alternatives else shape(m) for m in methods[1:]],
                "required": True,
                "passed": passed,
            }
            for methods, passed in zip(self.challenges, token["passed"], strict=True)
            if not (passed and self.drops_solved)
        ]
        properties: dict[str, Any] = {"oneTimeToken": name, "challenges": challenges, "validity": 3600}
        if not slim:
            properties |= {"actionType": "TRANSFER__FUND", "userId": 6146956}
        return httpx.Response(200, json={"oneTimeTokenProperties": properties})


def shape(method: str) -> dict[str, Any]:
    """Return one way to pass a challenge as the wire has it."""
    return {"type": method, "viewData": {"attributes": {"userId": 6146956}}}


def refusal(token: str, status: int = 403) -> httpx.Response:
    """Return what a protected call is answered without a cleared one-time token."""
    headers = {"X-2FA-Approval-Result": "REJECTED", "X-2FA-Approval": token}
    return httpx.Response(status, headers=headers, json={"status": 403, "errors": [{"code": "sca.required"}]})


def problem(status: int, code: str, arguments: list[Any] | None = None, **headers: str) -> httpx.Response:
    """Return an error in the common shape. Underscores in header names become hyphens."""
    error: dict[str, Any] = {"code": code, "message": f"About {code}."}
    if arguments is not None:
        error["arguments"] = arguments
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, json={"errors": [error]})


def redirect(location: str, status: int = 307) -> httpx.Response:
    """Return a redirect."""
    return httpx.Response(status, headers={"location": location})


@dataclass
class Person:
    """Picks and types what the test says, in order, and remembers what was asked."""

    picks: list[str]
    types: list[str | Instead]
    choices: list[Choice] = field(default_factory=list)
    questions: list[SecretQuestion] = field(default_factory=list)

    def choose(self, choice: Choice, /) -> str:
        """Pick the next method."""
        self.choices.append(choice)
        return self.picks.pop(0)

    def secret(self, question: SecretQuestion, /) -> str | Instead:
        """Type the next secret."""
        self.questions.append(question)
        return self.types.pop(0)


class AsyncPerson:
    """A person behind an asynchronous application."""

    def __init__(self, person: Resolver) -> None:
        """Answer as *person* does."""
        self._person = person

    async def choose(self, choice: Choice, /) -> str:
        """Pick the next method."""
        await anyio.lowlevel.checkpoint()
        return self._person.choose(choice)

    async def secret(self, question: SecretQuestion, /) -> str | Instead:
        """Type the next secret."""
        await anyio.lowlevel.checkpoint()
        return self._person.secret(question)


@dataclass(frozen=True)
class Sender:
    """Makes one request through an `Auth`, the synchronous or the asynchronous way."""

    mode: str

    def __call__(
        self,
        server: Handler,
        resolver: Resolver | AsyncResolver,
        method: str = "POST",
        url: str = f"{HOME}/v3/payments?a=%7e1",
        *,
        token: str | None = BEARER,
        base_url: str | None = None,
        follow_redirects: bool = False,
        chunks: Sequence[bytes] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send, and return the answer."""
        transport = httpx.MockTransport(server)
        settings: dict[str, Any] = {"transport": transport, "follow_redirects": follow_redirects}
        if self.mode == "sync":
            auth = Auth(resolver, token=token, base_url=base_url)
            if chunks is not None:
                options["content"] = iterate(chunks)
            with httpx.Client(auth=auth, **settings) as client:
                return client.request(method, url, **options)

        async def send() -> httpx.Response:
            waiting = AsyncPerson(resolver) if isinstance(resolver, Person) else resolver
            auth = Auth(waiting, token=token, base_url=base_url)
            if chunks is not None:
                options["content"] = iterate_async(chunks)
            async with httpx.AsyncClient(auth=auth, **settings) as client:
                return await client.request(method, url, **options)

        return anyio.run(send)


def iterate(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Stream a body that can be read only once."""
    yield from chunks


async def iterate_async(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Stream a body that can be read only once."""
    for chunk in chunks:
        yield chunk
