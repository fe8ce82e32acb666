"""``protect``: the same server in somebody else's process, with his application's life in ours."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tests.factories import make_world
from tests.serving.support import ADA, ADA_TOKEN, HIGH, PAYMENT, Receiver, installation, put_private
from watchword.asgi import ASGIApp, ASGIMessage, Receive, Scope, Send
from watchword.config import ConfigError
from watchword.domain.decision import EventName
from watchword.domain.user import UserId
from watchword.engine.applications import Applications
from watchword.engine.ports import SystemEntropy
from watchword.serving import protect
from watchword.serving.app import Server, application, checked
from watchword.serving.keys import new_key_file
from watchword.serving.settings import UnusableDeploymentError
from watchword.serving.users import LinkedUsers
from watchword.store.sqlite import SqliteStore

GATEWAY_SECRET = "0123456789abcdef0123456789abcdef"
AUTHORISED = {"authorization": f"Bearer {ADA_TOKEN}"}


async def pay(request: Request) -> JSONResponse:
    return JSONResponse({"state": dict(request.scope["state"])}, 201)


async def free(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("free")


ROUTES = [Route("/payments/{id}", pay, methods=["POST"]), Route("/free", free)]


@asynccontextmanager
async def client_of(server: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=server)
    async with httpx2.AsyncClient(transport=transport, base_url="http://server.test") as client:
        yield client


async def cleared(client: httpx2.AsyncClient, headers: dict[str, str]) -> httpx2.Response:
    """Enrol a PIN, pass it, and make a payment."""
    enrolled = await client.post("/v1/user/pin", json={"pin": "4713"}, headers=headers)
    assert enrolled.status_code == 204, enrolled.text
    refused = await client.post("/payments/1", headers=headers)
    assert refused.status_code == 403, refused.text
    ott = refused.headers["x-2fa-approval"]
    verified = await client.post(
        "/v1/one-time-token/pin/verify", json={"pin": "4713"}, headers={**headers, "one-time-token": ott}
    )
    assert verified.status_code == 200, verified.text
    return await client.post("/payments/1", headers={**headers, "x-2fa-approval": ott})


# --- requests -------------------------------------------------------------------------------------


async def test_what_the_actions_name_is_guarded_and_the_rest_is_not(tmp_path: Path) -> None:
    server = protect(Starlette(routes=ROUTES), config=installation(tmp_path / "i", ADA, PAYMENT))
    async with server, client_of(server) as client:
        untouched = await client.get("/free")
        assert (untouched.text, len(untouched.headers["x-trace-id"])) == ("free", 32)
        assert (await client.post("/payments/1")).status_code == 401
        paid = await cleared(client, AUTHORISED)
        assert (paid.status_code, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")


async def test_a_file_with_mistakes_is_refused_at_once(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", PAYMENT, "[session]\nseconds = 301")
    with pytest.raises(ConfigError) as caught:
        protect(Starlette(), config=str(config))
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == [
        "nobody can tell who calls",
        "session.seconds",
    ]


async def test_an_application_of_which_nothing_is_protected_is_refused_here_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none has a match"):
        protect(Starlette(), config=installation(tmp_path / "i", ADA))


async def test_without_a_started_server_nothing_passes(tmp_path: Path) -> None:
    server = protect(Starlette(routes=ROUTES), config=installation(tmp_path / "i", ADA, PAYMENT))
    async with client_of(server) as client:
        for path in ("/free", "/openapi.json"):
            assert (await client.get(path)).status_code == 503
    async with server:
        pass
    async with client_of(server) as client:
        assert (await client.get("/free")).status_code == 503


async def test_it_starts_again_after_it_was_stopped(tmp_path: Path) -> None:
    server = protect(Starlette(routes=ROUTES), config=installation(tmp_path / "i", ADA, PAYMENT))
    for _ in range(2):
        async with server, client_of(server) as client:
            assert (await client.get("/free")).status_code == 200


async def test_trivial_pins_and_jose_are_as_the_file_says(tmp_path: Path) -> None:
    application_token = ADA + 'application = "bank"\n'
    config = installation(
        tmp_path / "i",
        application_token,
        PAYMENT,
        '[[applications]]\nid = "bank"\njose = "required"\n[enrolment]\nrefuse_trivial_pins = true',
    )
    server = protect(Starlette(routes=ROUTES), config=config)
    async with server, client_of(server) as client:
        plain = await client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED)
        assert plain.status_code == 415
    config.write_text(config.read_text().replace('"required"', '"optional"'))
    server = protect(Starlette(routes=ROUTES), config=config)
    async with server, client_of(server) as client:
        trivial = await client.post("/v1/user/pin", json={"pin": "1111"}, headers=AUTHORISED)
        assert trivial.status_code == 400
        assert (await client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED)).is_success


async def test_codes_are_offered_where_somebody_carries_them_and_nowhere_else(tmp_path: Path) -> None:
    with Receiver() as receiver:
        for delivery, offered in (("", False), (receiver.table, True)):
            config = installation(tmp_path / ("with" if offered else "without"), ADA, HIGH, delivery)
            server = protect(Starlette(routes=ROUTES), config=config)
            async with server, client_of(server) as client:
                answer = await client.post("/payments/1", headers=AUTHORISED)
                would_do = answer.json()["errors"][0]["arguments"]
                assert ("SMS" in would_do) is offered


async def test_a_delivery_that_fails_is_503_and_the_token_stays_good(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.status = 500
        manager = ADA.replace("user_id = 7", 'application = "back"').replace('"user"', '"application"')
        back = "a-token-of-the-back-office-0123456789"
        digest = sha256(ADA_TOKEN.encode()).hexdigest()
        manager = manager.replace(digest, sha256(back.encode()).hexdigest())
        config = installation(
            tmp_path / "i",
            ADA,
            manager,
            '[[applications]]\nid = "back"\nmanages_users = true',
            PAYMENT,
            receiver.table,
        )
        server = protect(Starlette(routes=ROUTES), config=config)
        async with server, client_of(server) as client:
            added = await client.post(
                "/v1/application/users/7/phone-numbers",
                json={"phoneNumber": "+447700900123"},
                headers={"authorization": f"Bearer {back}"},
            )
            assert added.status_code == 200, added.text
            refused = await client.post("/payments/1", headers=AUTHORISED)
            about = {**AUTHORISED, "one-time-token": refused.headers["x-2fa-approval"]}
            failed = await client.post("/v1/one-time-token/sms/trigger", headers=about)
            assert (failed.status_code, failed.json()["errors"][0]["code"]) == (503, "otp.delivery.failed")
            receiver.status = 200
            assert (await client.post("/v1/one-time-token/sms/trigger", headers=about)).status_code == 200


# --- a gateway ------------------------------------------------------------------------------------


def gateway(folder: Path, *tables: str) -> Path:
    config = installation(folder, PAYMENT, '[gateway]\nsecret_file = "gateway.secret"\n', *tables)
    put_private(folder / "gateway.secret", GATEWAY_SECRET.encode())
    return config


def told(**headers: str) -> dict[str, str]:
    return {f"x-watchword-{name.replace('_', '-')}": value for name, value in headers.items()}


async def test_a_gateway_with_its_secret_tells_who_calls_and_nobody_else_does(tmp_path: Path) -> None:
    server = protect(Starlette(routes=ROUTES), config=gateway(tmp_path / "i"))
    ada = told(gateway_secret=GATEWAY_SECRET, user="7")
    async with server, client_of(server) as client:
        assert (await client.post("/payments/1", headers=told(user="7"))).status_code == 401
        wrong = told(gateway_secret="0" * 32, user="7")
        assert (await client.post("/payments/1", headers=wrong)).status_code == 401
        assert (await cleared(client, ada)).status_code == 201


@pytest.mark.parametrize("suffices", [False, True])
async def test_a_gateways_personal_tokens_are_refused_unless_a_signature_shall_be_enough(
    tmp_path: Path, suffices: bool
) -> None:
    table = f"[personal_tokens]\nsignature_suffices = {str(suffices).lower()}"
    server = protect(Starlette(routes=ROUTES), config=gateway(tmp_path / "i", table))
    headers = told(gateway_secret=GATEWAY_SECRET, user="7", kind="personal")
    async with server, client_of(server) as client:
        for path in ("/payments/1", "/v1/one-time-token/pin/trigger"):
            answer = await client.post(path, headers=headers)
            assert (answer.status_code == 401) is not suffices, path


# --- lives ----------------------------------------------------------------------------------------


class Life:
    """An application that remembers how it lived."""

    def __init__(self, *, fails: str | None = None) -> None:
        self.seen: list[str] = []
        self.fails = fails

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[dict[str, Any]]:
        if self.fails is not None:
            raise RuntimeError(self.fails)
        self.seen.append("up")
        yield {"pool": "open"}
        self.seen.append("down")

    def app(self) -> Starlette:
        return Starlette(routes=ROUTES, lifespan=self._lifespan)


async def test_the_application_lives_within_the_server_and_gets_its_state(tmp_path: Path) -> None:
    life = Life()
    server = protect(life.app(), config=installation(tmp_path / "i", ADA, PAYMENT))
    async with server, client_of(server) as client:
        assert life.seen == ["up"]
        paid = await cleared(client, AUTHORISED)
        assert paid.json() == {"state": {"pool": "open"}}
    assert life.seen == ["up", "down"]


async def talk(server: ASGIApp) -> list[ASGIMessage]:
    """Start and stop *server* as a server does; return what it said."""
    said: list[ASGIMessage] = []
    coming = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        return next(coming)

    async def send(message: ASGIMessage) -> None:
        said.append(message)

    await server({"type": "lifespan"}, receive, send)
    return said


async def test_it_speaks_lifespan(tmp_path: Path) -> None:
    life = Life()
    server = protect(life.app(), config=installation(tmp_path / "i", ADA, PAYMENT))
    said = await talk(server)
    assert [message["type"] for message in said] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert life.seen == ["up", "down"]


async def test_an_application_that_does_not_start_is_told_and_the_store_is_let_go(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", ADA, PAYMENT)
    (said,) = await talk(protect(Life(fails="no database").app(), config=config))
    assert said["type"] == "lifespan.startup.failed"
    assert "the application did not start" in said["message"]
    assert "no database" in said["message"]
    assert not (tmp_path / "i" / "watchword.db-wal").exists()
    assert (await talk(protect(Life().app(), config=config)))[0]["type"] == "lifespan.startup.complete"


async def test_an_application_without_a_lifespan_is_served_all_the_same(tmp_path: Path) -> None:
    async def bare(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})

    server = protect(bare, config=installation(tmp_path / "i", ADA, PAYMENT))
    async with server, client_of(server) as client:
        assert (await client.get("/free")).text == "bare"


async def test_an_application_that_fails_as_it_stops_does_not_keep_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("with a secret")

    server = protect(stubborn, config=installation(tmp_path / "i", ADA, PAYMENT))
    async with server:
        pass
    assert "the application failed as it stopped: RuntimeError" in caplog.text
    assert "with a secret" not in caplog.text


@pytest.mark.attack(182)
async def test_a_store_of_another_ring_is_refused_at_start(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", ADA, PAYMENT)
    async with (server := protect(Starlette(routes=ROUTES), config=config)), client_of(server) as client:
        await cleared(client, AUTHORISED)
    put_private(tmp_path / "i" / "keys.json", new_key_file())
    with pytest.raises(UnusableDeploymentError, match="made with other keys"):
        await Server(checked(config)).start()


async def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", ADA, '[store]\npath = "none/watchword.db"')
    with pytest.raises(UnusableDeploymentError, match=r"store\.path: .*watchword\.db cannot be opened"):
        await Server(checked(config)).start()


# --- the application that a file names --------------------------------------------------------------


def test_what_a_file_names_is_imported_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    config = installation(tmp_path / "i", ADA, PAYMENT, '[app]\ntarget = "own_bank:app"')
    (tmp_path / "i" / "own_bank.py").write_text("async def app(scope, receive, send): pass\n")
    assert callable(application(checked(config)))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no_such_module_here:app", "No module named 'no_such_module_here'"),
        ("own_bank_2:app", "has no attribute 'app'"),
        ("own_bank_2:number", "is no application"),
        ("own_bank_2:wsgi", "two arguments, so it is WSGI"),
        ("own_bank_2:make", "without arguments, so it makes an application"),
        ("own_bank_2:Old", "scope, receive and send"),
        ("own_bank_3:app", r"KeyError: 'DATABASE' \(.*own_bank_3\.py, line 2\)"),
    ],
)
def test_what_is_no_application_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, why: str
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    config = installation(tmp_path / "i", ADA, PAYMENT, f'[app]\ntarget = "{target}"')
    (tmp_path / "i" / "own_bank_2.py").write_text(
        "number = 7\n"
        "def wsgi(environ, start_response): ...\n"
        "def make(): ...\n"
        "class Old:\n"
        "    def __init__(self, scope): ...\n"
    )
    (tmp_path / "i" / "own_bank_3.py").write_text("import os\napp = os.environ['DATABASE']\n")
    with pytest.raises(UnusableDeploymentError, match=why):
        application(checked(config))


def test_what_is_no_application_is_not_protected(tmp_path: Path) -> None:
    def wsgi(environ: object, start_response: object) -> None: ...

    with pytest.raises(UnusableDeploymentError, match="the application is called with two arguments"):
        protect(wsgi, config=installation(tmp_path / "i", ADA, PAYMENT))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("named", ["keys.json", "jose.pem", "gateway.secret"])
async def test_a_secret_that_goes_between_two_looks_is_told(tmp_path: Path, named: str) -> None:
    put_private(tmp_path / "gateway.secret", b"a-gateway's-secret-of-32-characters-or-more")
    table = f'[gateway]\nsecret_file = "{tmp_path / "gateway.secret"}"'
    deployment = checked(installation(tmp_path / "i", ADA, PAYMENT, table))
    (tmp_path / ("gateway.secret" if named == "gateway.secret" else f"i/{named}")).unlink()
    with pytest.raises(UnusableDeploymentError, match=named):
        await Server(deployment).start()


async def test_an_application_that_takes_long_to_start_is_waited_for_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await asyncio.sleep(0.05)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    monkeypatch.setattr("watchword.serving.lifespan.SLOW_SECONDS", 0.01)
    said = await talk(protect(slow, config=installation(tmp_path / "i", ADA, PAYMENT)))
    assert said[0]["type"] == "lifespan.startup.complete"
    assert "has not started after 0.01 s" in caplog.text


# --- users ----------------------------------------------------------------------------------------


class CountingApplications(Applications):
    """The real use cases, with a count of the questions."""

    asked = 0

    async def user_id(self, issuer: str, subject: str) -> Any:
        self.asked += 1
        return await super().user_id(issuer, subject)


def counting() -> CountingApplications:
    return CountingApplications(make_world().engine.decider, entropy=SystemEntropy())


async def test_a_subject_is_one_user_and_the_store_is_asked_once() -> None:
    applications = counting()
    users = LinkedUsers(applications)
    first = await users.user_id("https://one.example", "ada")
    assert await users.user_id("https://one.example", "ada") == first
    assert applications.asked == 1
    assert await LinkedUsers(applications).user_id("https://one.example", "ada") == first
    assert await users.user_id("https://two.example", "ada") != first
    assert await users.user_id("https://one.example", "grace") != first


async def test_of_many_users_the_longest_unused_are_looked_up_again() -> None:
    applications = counting()
    users = LinkedUsers(applications, remembered=2)
    for subject in ("ada", "grace", "ada", "hopper", "ada"):
        await users.user_id("i", subject)
    assert applications.asked == 3
    await users.user_id("i", "grace")
    assert applications.asked == 4


async def test_an_answer_of_before_everything_was_forgotten_is_not_remembered() -> None:
    class Forgetting(CountingApplications):
        async def user_id(self, issuer: str, subject: str) -> UserId:
            found: UserId = await super().user_id(issuer, subject)
            users.forget()
            return found

    applications = Forgetting(make_world().engine.decider, entropy=SystemEntropy())
    users = LinkedUsers(applications)
    assert await users.user_id("i", "ada") == await users.user_id("i", "ada")
    assert applications.asked == 2


def test_it_can_be_served_from_any_thread(tmp_path: Path) -> None:
    """Nothing of it belongs to an event loop before it starts."""
    server = protect(Starlette(routes=ROUTES), config=installation(tmp_path / "i", ADA, PAYMENT))
    said: list[ASGIMessage] = []
    thread = threading.Thread(target=lambda: said.extend(asyncio.run(talk(server))))
    thread.start()
    thread.join(30)
    assert [message["type"] for message in said][:1] == ["lifespan.startup.complete"]


# --- applications that manage users -----------------------------------------------------------------

BACK_OFFICE = "a-token-of-the-back-office-0123456789"
OTHER_OFFICE = "a-token-of-another-office-0123456789"


def office(name: str, token: str) -> str:
    digest = sha256(token.encode()).hexdigest()
    return f'[[tokens]]\nsha256 = "{digest}"\nkind = "application"\napplication = "{name}"\n'


@pytest.mark.attack(166)
async def test_an_application_can_remove_a_pin_and_never_pick_one(tmp_path: Path) -> None:
    """Not even one that manages users; and the trail says which one removed it."""
    config = installation(
        tmp_path / "i",
        ADA,
        office("back", BACK_OFFICE),
        office("other", OTHER_OFFICE),
        '[[applications]]\nid = "back"\nmanages_users = true\n[[applications]]\nid = "other"\n',
        PAYMENT,
    )
    back = {"authorization": f"Bearer {BACK_OFFICE}"}
    other = {"authorization": f"Bearer {OTHER_OFFICE}"}
    server = protect(Starlette(routes=ROUTES), config=config)
    async with server, client_of(server) as client:
        await cleared(client, AUTHORISED)
        for headers in (back, other):
            for path in ("/v1/user/pin", "/v2/profiles/7/pin"):
                answer = await client.post(path, json={"pin": "9573"}, headers=headers)
                assert answer.status_code == 403
        assert (await client.delete("/v1/users/7/pin", headers=other)).status_code == 403
        assert (await client.delete("/v1/users/7/pin", headers=back)).status_code == 204
        refused = await client.post("/payments/1", headers=AUTHORISED)
        assert refused.json()["errors"][0]["code"] == "sca.enrolment.required"
    store = SqliteStore.open(tmp_path / "i" / "watchword.db")
    changes = [
        event.details for _, event in await store.events() if event.name is EventName.CREDENTIALS_CHANGED
    ]
    await store.close()
    assert changes[-1] == {"what": "removed", "credential": "pin", "application": "back"}
