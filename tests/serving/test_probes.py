"""What load balancers ask: cheap, short, and true."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.serving.support import ADA, PAYMENT, installation
from watchword.asgi import ASGIApp, Receive, Scope, Send
from watchword.serving import protect
from watchword.serving.app import Server, checked
from watchword.serving.probes import Probes
from watchword.store.base import StoreUnavailableError


class Asked:
    """A store's answer to whether it is well, counted."""

    def __init__(self) -> None:
        self.times = 0
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> None:
        self.times += 1
        await self.answers.wait()
        if self.down:
            raise StoreUnavailableError("10.0.0.7 refuses user watchword")


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://server.test"
    ) as client:
        yield client


@asynccontextmanager
async def probed(
    asked: Asked, *, is_draining: Callable[[], bool] = lambda: False, remember_seconds: float = 60.0
) -> AsyncIterator[httpx2.AsyncClient]:
    probes = Probes(asked, is_draining=is_draining, ping_seconds=0.2, remember_seconds=remember_seconds)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found = probes.at(scope["path"])
        assert found is not None
        await found(scope, receive, send)

    async with client_of(app) as client:
        yield client


async def test_alive_asks_no_store() -> None:
    asked = Asked()
    async with probed(asked) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert answer.headers["cache-control"] == "no-store"
    assert asked.times == 0


async def test_ready_is_what_the_store_says_and_however_many_ask_it_is_asked_once() -> None:
    asked = Asked()
    async with probed(asked) as client:
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        answers.append(await client.get("/readyz"))
    assert {(each.status_code, each.text) for each in answers} == {(200, '{"status":"ready"}')}
    assert answers[0].headers["cache-control"] == "no-store"
    assert asked.times == 1


async def test_a_store_that_is_down_makes_it_unready_without_a_word_of_why() -> None:
    asked = Asked()
    asked.down = True
    async with probed(asked, remember_seconds=0) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, '{"status":"unavailable"}')
        assert (await client.get("/healthz")).status_code == 200
        asked.down = False
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.attack(155)
async def test_a_store_that_hangs_makes_it_unready_in_time_and_whoever_hangs_up_harms_no_other() -> None:
    asked = Asked()
    asked.answers.clear()
    async with probed(asked, remember_seconds=0) as client:
        gone = asyncio.create_task(client.get("/readyz"))
        await asyncio.sleep(0.05)
        other = asyncio.create_task(client.get("/readyz"))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await asyncio.wait_for(other, 1)).status_code == 503
        assert asked.times == 1
        asked.answers.set()
        assert (await client.get("/readyz")).status_code == 200


async def test_whoever_drains_is_not_ready_and_needs_no_store_to_know_it() -> None:
    asked = Asked()
    async with probed(asked, is_draining=lambda: True) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        assert (await client.get("/healthz")).status_code == 200
    assert asked.times == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_is_read_and_nothing_else(path: str) -> None:
    async with probed(Asked()) as client:
        head = await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        answer = await client.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


# --- in the server --------------------------------------------------------------------------------


async def _of_the_application(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"the application's own {request.url.path}")


OWN = Starlette(routes=[Route("/healthz", _of_the_application), Route("/readyz", _of_the_application)])


async def test_a_server_is_alive_before_it_started_and_ready_while_its_store_is_open(tmp_path: Path) -> None:
    server = Server(checked(installation(tmp_path / "i", ADA)), probes=True)
    async with client_of(server) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
    server = Server(checked(tmp_path / "i" / "watchword.toml"), probes=True)
    async with server, client_of(server) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert len(answer.headers["x-trace-id"]) == 32
        assert (await client.get("http://server.test//readyz")).status_code == 200
        assert (await client.get("/readyz/")).status_code == 404


@pytest.mark.parametrize(
    ("setting", "ours"), [("", False), ("probes = false", False), ("probes = true", True)]
)
async def test_in_protect_the_paths_are_the_applications_unless_it_gives_them_away(
    tmp_path: Path, setting: str, *, ours: bool
) -> None:
    config = installation(tmp_path / "i", f"[server]\n{setting}\n", ADA, PAYMENT)
    async with protect(OWN, config=config) as server, client_of(server) as client:
        for path in ("/healthz", "/readyz"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert (answer.text == f"the application's own {path}") is not ours
