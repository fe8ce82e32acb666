"""A small honest server for the client to talk to, and a person who answers as told."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx2 as httpx
import requests
import requests.adapters
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.client import fake_jose
from watchword.client import Auth, Choice, Instead, Jose, RequestsAuth, SecretQuestion
from watchword.client.resolver import AsyncResolver, Resolver

HOME = "https://bank.example"
ELSEWHERE = "https://elsewhere.example"
BEARER = "the-bearer-token"
APPLICATION = "the-application-token"
PIN = "4711"
CODE = "111111"
FINGERPRINT = "3207da22-a0d3-4b6b-a591-6297e646fe32"
FACE = b"\x00\xff a face map"
MASKED = "*********8888"
SECRETS = {
    "PIN": ("pin", PIN, "pin.incorrect"),
    "PARTNER_DEVICE_FINGERPRINT": ("deviceFingerprint", FINGERPRINT, "device.fingerprint.incorrect"),
    "FACE_MAP": ("faceMap", base64.b64encode(FACE).decode(), "facemap.incorrect"),
    "SMS": ("otpCode", CODE, "otp.incorrect"),
    "WHATSAPP": ("otpCode", CODE, "otp.incorrect"),
    "VOICE": ("otpCode", CODE, "otp.incorrect"),
}
SEGMENTS = {
    "pin": "PIN",
    "partner-device-fingerprint": "PARTNER_DEVICE_FINGERPRINT",
    "facemap": "FACE_MAP",
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
        # One library writes the tilde, another its number: each twice the same.
        return f"{self.method} {self.url.removeprefix(HOME).replace('~', '%7e')}"


Handler = Callable[[httpx.Request], httpx.Response]
SEALABLE = {"PIN", "PARTNER_DEVICE_FINGERPRINT"}
KEYS = "/v1/auth/jose/response/public-keys"
JOSE_HEADERS = {
    "content-type": "application/jose+json",
    "accept": "application/jose+json",
    "x-tw-jose-method": "jwe",
    "accept-encoding": "identity",
    "content-encoding": "identity",
}


@dataclass
class FakeServer:
    """
    Issues one-time tokens for every call outside `/v1/one-time-token/`, and lets through what is cleared.

    `challenges` are lists of methods, the primary first. `scripts` hold answers that come before its
    own: for a path, what to answer in order; None stands for its own answer.

    `jose` says whether PIN and fingerprint must come encrypted (`required`) or may (`optional`).
    `unsealed` holds what did.
    """

    challenges: Sequence[Sequence[str]] = (("PIN",),)
    drops_solved: bool = True
    bare_alternatives: bool = False
    attempts: int = 5
    prefix: str = ""
    jose: str = "optional"
    key: rsa.RSAPrivateKey | None = None
    published: Sequence[rsa.RSAPrivateKey] = ()
    answers_sealed: bool = True
    not_opened: httpx.Response | None = None
    signers: Sequence[rsa.RSAPublicKey] = ()
    unsealed: list[fake_jose.Unsealed] = field(default_factory=list)
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
        if scripted is not None:
            return copy_of(scripted)
        if request.url.path == self.prefix + KEYS:
            return self._keys(request)
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
        signature = request.headers.get("x-signature")
        if token and signature is not None and not self._sign(request, token, signature):
            return problem(403, "signature.incorrect", x_2fa_approval_result="REJECTED")
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

    def _sign(self, request: httpx.Request, token: dict[str, Any], signature: str) -> bool:
        """Pass what a signature passes, if it fits any key."""
        signed = request.headers["x-2fa-approval"].encode()
        for key in self.signers:
            with suppress(InvalidSignature):
                key.verify(base64.b64decode(signature, validate=True), signed, PKCS1v15(), SHA256())
                token["passed"] = [
                    passed or "SIGNATURE" in methods
                    for methods, passed in zip(self.challenges, token["passed"], strict=True)
                ]
                return True
        return False

    def _keys(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {APPLICATION}":
            return httpx.Response(401, json={"error": "invalid_token", "error_description": "No."})
        assert dict(request.url.params) == {"algorithm": "RSA_OAEP_256", "scope": "PAYLOAD_ENCRYPTION"}
        asked = [e for e in self.exchanges if KEYS in e.url]
        key = self.published[min(len(asked), len(self.published)) - 1] if self.published else self.private
        return httpx.Response(200, json=key_answer(key))

    @property
    def private(self) -> rsa.RSAPrivateKey:
        """The key that this server decrypts with."""
        return self.key or fake_jose.private_key()

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
        return self._verify(request, token, method, position)

    def _verify(
        self, request: httpx.Request, token: dict[str, Any], method: str, position: int
    ) -> httpx.Response:
        key, secret, wrong = SECRETS[method]
        if key == "otpCode" and method not in token["triggered"]:
            return problem(400, "otp.not.triggered")
        body, content_key = request.content, None
        if method in SEALABLE and request.headers["content-type"] == "application/jose+json":
            assert request.headers.items() >= JOSE_HEADERS.items()
            try:
                opened = fake_jose.unseal(body, self.private)
            except ValueError:
                return copy_of(self.not_opened or httpx.Response(400, json={"error": "jwe_error"}))
            self.unsealed.append(opened)
            body, content_key = opened.payload, opened.content_key if self.answers_sealed else None
        elif method in SEALABLE and self.jose == "required":
            return problem(415, "media.type.unsupported")
        if json.loads(body) != {key: secret}:
            token["failures"] += 1
            return sealed(problem(400, wrong, [self.attempts - token["failures"]]), content_key)
        token["passed"][position] = True
        return sealed(self._state(request.headers["one-time-token"], token, slim=True), content_key)

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


def copy_of(answer: httpx.Response) -> httpx.Response:
    """Return another one, since a response is bound to the request that it answered."""
    return httpx.Response(answer.status_code, headers=answer.headers.raw, content=answer.content)


def key_answer(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """Return what the key endpoint answers."""
    material = {"algorithm": "RSA_OAEP_256", "keyMaterial": base64.b64encode(fake_jose.spki(key)).decode()}
    return {"version": 1, "keyMaterial": material, "scope": "PAYLOAD_ENCRYPTION"}


def sealed(answer: httpx.Response, content_key: bytes | None) -> httpx.Response:
    """Return an answer encrypted, if there is a key for that."""
    if content_key is None:
        return answer
    return httpx.Response(
        answer.status_code,
        headers={"content-type": "application/jose+json;charset=UTF-8"},
        content=fake_jose.seal_answer(answer.content, content_key),
    )


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
    types: list[str | bytes | Instead]
    choices: list[Choice] = field(default_factory=list)
    questions: list[SecretQuestion] = field(default_factory=list)

    def choose(self, choice: Choice, /) -> str:
        """Pick the next method."""
        self.choices.append(choice)
        return self.picks.pop(0)

    def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
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

    async def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
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
        resolver: Resolver | AsyncResolver | None = None,
        method: str = "POST",
        url: str = f"{HOME}/v3/payments?a=%7e1",
        *,
        token: str | None = BEARER,
        base_url: str | None = None,
        follow_redirects: bool = False,
        chunks: Sequence[bytes] | None = None,
        jose: Jose | None = None,
        signing_key: Any = None,
        **options: Any,
    ) -> httpx.Response:
        """Send, and return the answer."""
        how: dict[str, Any] = {"token": token, "base_url": base_url, "jose": jose, "signing_key": signing_key}
        if self.mode == "requests":
            if chunks is not None:
                options["content"] = iterate(chunks)
            if "content" in options:
                options["data"] = options.pop("content")
            assert not isinstance(resolver, AsyncPerson)
            with session_for(server, RequestsAuth(resolver, **how)) as session:  # type: ignore[arg-type]
                answer = session.request(method, url, allow_redirects=follow_redirects, **options)
                response = httpx.Response(
                    answer.status_code, headers=dict(answer.headers), content=answer.content
                )
                if answer.next is not None:
                    headers = text_headers(answer.next.headers)
                    response.next_request = httpx.Request(
                        str(answer.next.method), str(answer.next.url), headers=headers
                    )
                return response
        transport = httpx.MockTransport(server)
        settings: dict[str, Any] = {"transport": transport, "follow_redirects": follow_redirects}
        if self.mode == "sync":
            auth = Auth(resolver, **how)
            if chunks is not None:
                options["content"] = iterate(chunks)
            with httpx.Client(auth=auth, **settings) as client:
                return client.request(method, url, **options)

        async def send() -> httpx.Response:
            waiting = AsyncPerson(resolver) if isinstance(resolver, Person) else resolver
            auth = Auth(waiting, **how)
            if chunks is not None:
                options["content"] = iterate_async(chunks)
            async with httpx.AsyncClient(auth=auth, **settings) as client:
                return await client.request(method, url, **options)

        return anyio.run(send)


class FakeAdapter(requests.adapters.BaseAdapter):
    """Carries requests of another library to a fake server."""

    def __init__(self, server: Handler) -> None:
        """Talk to *server*."""
        super().__init__()
        self._server = server

    def send(  # type: ignore[override] # the library's own adapters differ from its base as well
        self, request: requests.PreparedRequest, *, timeout: Any = None, **_: Any
    ) -> requests.Response:
        """Carry one request."""
        body = request.body
        assert isinstance(body, (str, bytes, type(None))), "a body that can be sent once cannot be repeated"
        answer = self._server(
            httpx.Request(
                str(request.method),
                str(request.url),
                headers=text_headers(request.headers),
                content=body,
                extensions={"timeout": {"read": timeout}},
            )
        )
        response = requests.Response()
        response.status_code = answer.status_code
        response.headers.update(answer.headers)
        response._content = answer.read()  # noqa: SLF001 - there is no other way to make one
        response.url = str(request.url)
        response.request = request
        response.connection = self  # type: ignore[assignment] # as good as its own
        response.raw = None
        return response

    def close(self) -> None:
        """Hold nothing open."""


def text_headers(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    """Return headers as text."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in headers.items()}


def session_for(server: Handler, auth: RequestsAuth) -> requests.Session:
    """Return a session that knows no server but that one."""
    session = requests.Session()
    session.trust_env = False
    for prefix in ("http://", "https://"):
        session.mount(prefix, FakeAdapter(server))
    session.auth = auth
    return session


def iterate(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Stream a body that can be read only once."""
    yield from chunks


async def iterate_async(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Stream a body that can be read only once."""
    for chunk in chunks:
        yield chunk
