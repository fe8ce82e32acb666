"""The client against servers that ask for more than the sandbox does, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest

from tests.sandbox.support import ADA_FINGERPRINT, ORIGIN
from watchword.client import Auth, Enrolment, Jose, RefusedError, StaticResolver, perform_async
from watchword.domain.enrolment import StepUpFor
from watchword.sandbox.app import create
from watchword.server.settings import ApplicationSettings, Settings

APPLICATION = "demo-application"
ADA_PAYS = "/v3/profiles/435036/transfers/1/payments"

Client = Callable[[httpx.Auth | None], httpx.AsyncClient]


@asynccontextmanager
async def serve(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Client]:
    """Run the sandbox with these settings; yields what makes clients of it."""
    monkeypatch.setattr("watchword.sandbox.world._settings", lambda *_: settings)
    async with create() as sandbox:
        transport = httpx.ASGITransport(app=sandbox.app)
        headers = {"authorization": "Bearer demo-ada"}
        yield lambda auth: httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers, auth=auth)


async def test_a_server_that_insists_gets_it_encrypted_and_is_asked_in_the_clear_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = StaticResolver(pin="1234", otp_code="111111")
    types: list[str] = []

    async def remember(request: httpx.Request) -> None:
        if request.url.path.endswith("pin/verify"):
            types.append(request.headers["content-type"])

    insists = Settings(others=ApplicationSettings(jose_required=True))
    async with serve(monkeypatch, insists) as client_with:
        async with client_with(Auth(resolver)) as client:
            with pytest.raises(RefusedError) as caught:
                await client.post(ADA_PAYS)
            assert (caught.value.status, caught.value.reason) == (415, "media.type.unsupported")
        async with client_with(Auth(resolver, jose=Jose("auto", application_token=APPLICATION))) as client:
            client.event_hooks = {"request": [remember]}
            assert (await client.post(ADA_PAYS)).status_code == 201
            assert (await client.post(ADA_PAYS)).status_code == 201
    assert types == ["application/json", "application/jose+json", "application/jose+json"]


@pytest.mark.parametrize(
    "jose", [None, Jose("required", application_token=APPLICATION, binds=True)], ids=["plain", "encrypted"]
)
async def test_a_change_of_credentials_that_asks_for_a_step_up_gets_it(
    monkeypatch: pytest.MonkeyPatch, jose: Jose | None
) -> None:
    enrolment = Enrolment(jose=jose)
    async with serve(monkeypatch, Settings(step_up=StepUpFor.TWO_FACTORS)) as client_with:
        async with client_with(None) as client:
            with pytest.raises(RefusedError) as caught:
                await perform_async(client, enrolment.create_device_fingerprint("a laptop"))
            assert (caught.value.status, caught.value.reason) == (403, "sca.required")
        auth = Auth(
            StaticResolver(pin="1234", device_fingerprint=ADA_FINGERPRINT), token="demo-ada", jose=jose
        )
        async with client_with(auth) as client:
            added = await perform_async(client, enrolment.create_device_fingerprint("a laptop"))
            assert added.device_fingerprint_id
            steps = enrolment.delete_device_fingerprint(added.device_fingerprint_id, profile_id=435036)
            await perform_async(client, steps)
