"""Somebody who calls the sandbox over HTTP, and what its answers are held to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from watchword.sandbox.app import Sandbox

ORIGIN = "http://sandbox.test"
ADA_FINGERPRINT = "3207da22-a0d3-4b6b-a591-6297e646fe32"


def client_of(sandbox: Sandbox) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=sandbox.app), base_url=ORIGIN)


@dataclass(frozen=True)
class Person:
    """Somebody with an access token, and what he does with it."""

    client: httpx2.AsyncClient
    token: str
    profile: int

    @property
    def statement(self) -> str:
        return f"/v1/profiles/{self.profile}/balance-statements/200001/statement.json"

    @property
    def payment(self) -> str:
        return f"/v3/profiles/{self.profile}/transfers/16521632/payments"

    async def call(
        self, method: str, path: str, *, ott: str | None = None, **options: Any
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if ott is not None:
            headers["x-2fa-approval"] = ott
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, *, ott: str | None = None) -> httpx2.Response:
        return await self.call("GET", path, ott=ott)

    async def pay(self, *, ott: str | None = None, body: object = None) -> httpx2.Response:
        return await self.call("POST", self.payment, ott=ott, json=body or {"type": "BALANCE"})

    async def about(self, method: str, path: str, ott: str, body: object = None) -> httpx2.Response:
        """Call the OTT API about *ott*."""
        return await self.call(
            method, f"/v1/one-time-token/{path}", headers={"one-time-token": ott}, json=body
        )

    async def challenges(self, ott: str) -> list[list[str]]:
        """Return the methods of each challenge that is left, primary first."""
        answer = await self.about("GET", "status", ott)
        assert answer.status_code == 200, answer.text
        return [
            [challenge["primaryChallenge"]["type"], *(other["type"] for other in challenge["alternatives"])]
            for challenge in answer.json()["oneTimeTokenProperties"]["challenges"]
            if not challenge["passed"]
        ]

    async def answer(self, method: str, ott: str, secret: str) -> httpx2.Response:
        """Answer a challenge, after a trigger where that is needed."""
        match method:
            case "PIN":
                return await self.about("POST", "pin/verify", ott, {"pin": secret})
            case "PARTNER_DEVICE_FINGERPRINT":
                return await self.about(
                    "POST", "partner-device-fingerprint/verify", ott, {"deviceFingerprint": secret}
                )
            case _:
                triggered = await self.about("POST", f"{method.lower()}/trigger", ott)
                assert triggered.status_code == 200, triggered.text
                return await self.about("POST", f"{method.lower()}/verify", ott, {"otpCode": secret})

    async def clear(self, ott: str, answers: Sequence[tuple[str, str]]) -> None:
        for method, secret in answers:
            answer = await self.answer(method, ott, secret)
            assert answer.status_code == 200, answer.text


SMS = (("SMS", "111111"),)
PIN_AND_SMS = (("PIN", "1234"), ("SMS", "111111"))


def new_ott(answer: httpx2.Response) -> str:
    """Assert that *answer* asks for step-up, and return the OTT that it gives."""
    assert answer.status_code == 403, answer.text
    assert answer.headers["x-2fa-approval-result"] == "REJECTED"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["errors"][0]["code"] == "sca.required"
    ott: str = answer.headers["x-2fa-approval"]
    return ott


def error_code(answer: httpx2.Response) -> str:
    """Return the code of an error document, and assert that it is one of ours."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-watchword-sandbox"] == "true"
    assert "x-2fa-approval" not in answer.headers
    code: str = answer.json()["errors"][0]["code"]
    return code
