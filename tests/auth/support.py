"""An issuer that does what a test wants, and tokens that no honest issuer would sign."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.factories import NOW, FixedClock
from tests.listening import listening
from watchword.auth.claims import ClaimRules, NumericSubjects
from watchword.auth.egress import Egress
from watchword.auth.jwt import JwtTokens
from watchword.auth.keys import ALGORITHMS, IssuerKeys

Key = RSAKey | ECKey | OKPKey
AUDIENCE = "https://api.watchword.example"
APPLICATION = "bank-app"
SECONDS = NOW // 1000

# Made once: an RSA key takes a while.
RSA = RSAKey.generate_key(2048)
OTHER_RSA = RSAKey.generate_key(2048)
P256 = ECKey.generate_key("P-256")
P384 = ECKey.generate_key("P-384")
P521 = ECKey.generate_key("P-521")
ED25519 = OKPKey.generate_key("Ed25519")


@dataclass
class Reply:
    """One answer; it waits for *gate* first."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None


@dataclass
class Asked:
    """One request that the issuer got."""

    path: str
    headers: dict[str, str]
    body: bytes


class FakeIssuer:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()
        self.url = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        host, port = await self._stack.enter_async_context(listening(self._serve))
        self.url = f"http://{host}:{port}"
        self.discover()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Listen no more: who asks now is refused the connection."""
        await self._stack.aclose()

    def discover(self, **changes: Any) -> None:
        """Publish the discovery document."""
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **changes}
        self.replies["/.well-known/openid-configuration"] = Reply(json.dumps(document).encode())

    def publish(self, *keys: Key | dict[str, Any]) -> None:
        """Publish a key set."""
        entries = [key if isinstance(key, dict) else jwk(key) for key in keys]
        self.replies["/jwks"] = Reply(json.dumps({"keys": entries}).encode())

    def count(self, path: str) -> int:
        """Return how often *path* was asked for."""
        return sum(asked.path == path for asked in self.asked)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = request.split(" ")[1]
        self.asked.append(Asked(path, headers, body))
        self.arrived.set()
        reply = self.replies.get(path, Reply(status=404))
        if reply.gate is not None:
            await reply.gate.wait()
        answer = {"connection": "close", "content-length": len(reply.body), **reply.headers}
        said = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in answer.items())]
        writer.write("\r\n".join([*said, "", ""]).encode() + reply.body)
        await writer.drain()


def jwk(key: Key, **changes: Any) -> dict[str, Any]:
    """Return a public key as an issuer publishes it; its id is its thumbprint."""
    entry = {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", **changes}
    return {name: value for name, value in entry.items() if value is not None}


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a good access token of user 7; None as a value leaves a claim out."""
    good = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "7",
        "client_id": APPLICATION,
        "iat": SECONDS,
        "exp": SECONDS + 300,
        "jti": "1",
        "scope": "payments",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def sign(
    payload: Mapping[str, Any] | bytes,
    key: Key = RSA,
    algorithm: str = "RS256",
    **header: Any,
) -> str:
    """Sign a token; a header of None is left out."""
    head = {"alg": algorithm, "typ": "at+jwt", "kid": key.thumbprint(), **header}
    return sign_raw(
        json.dumps({name: value for name, value in head.items() if value is not None}).encode(),
        payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
        key,
        algorithm,
    )


def sign_raw(header: bytes, payload: bytes, key: Key = RSA, algorithm: str = "RS256") -> str:
    """Sign what is not even JSON, perhaps."""
    signed = f"{b64(header)}.{b64(payload)}"
    model = JWSRegistry(algorithms=ALGORITHMS).get_alg("Ed25519" if algorithm == "EdDSA" else algorithm)
    return f"{signed}.{b64(model.sign(signed.encode(), key))}"


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def tokens_of(
    issuer: FakeIssuer,
    egress: Egress,
    clock: FixedClock,
    *,
    applications: Sequence[str] = (APPLICATION,),
    url: str | None = None,
    user_claim: str = "sub",
    **settings: Any,
) -> JwtTokens:
    """Make the authenticator of an issuer whose subjects are numbers."""
    rules = ClaimRules(
        users=NumericSubjects(issuer.url), applications=frozenset(applications), user_claim=user_claim
    )
    keys = IssuerKeys(issuer.url, egress, clock, url=url)
    return JwtTokens(issuer.url, AUDIENCE, keys, rules, clock, **settings)
