"""An application that says what its requests are about: given to ``protect``, or named in the file."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.serving.support import ADA, ADA_TOKEN, PAYMENT, installation, served
from tests.serving.test_protect import client_of
from tests.serving.test_refusals import refused
from watchword.asgi import Scope
from watchword.domain.action import Action
from watchword.domain.details import Details
from watchword.engine.engine import identify
from watchword.methods.details import SealedDetails
from watchword.serving import protect
from watchword.serving.app import Server, checked, description
from watchword.serving.keys import read_keyring
from watchword.serving.settings import UnusableDeploymentError
from watchword.store.sqlite import SqliteStore

AUTHORISED = {"authorization": f"Bearer {ADA_TOKEN}"}
BOUND = PAYMENT + 'bind = "request"\nshow = { amount = "/amount" }\n'
DESCRIBE = """
async def describe(action, scope, body):
    return (("payee", "Charles Babbage"), ("path", scope["path"]))


class Books:
    async def __call__(self, action, scope, body):
        return ()


books = Books()


def at_once(action, scope, body):
    return ()


async def of_two(action, scope):
    return ()


nothing = None
"""


async def pay(_request: Request) -> JSONResponse:
    return JSONResponse({}, 201)


async def describe(_action: Action, scope: Scope, _body: bytes) -> Details:
    return (("payee", "Charles Babbage"), ("path", scope["path"]))


async def kept_with(ott: str, config: Path) -> Details:
    """Return what is kept with a token, from the file and the keys alone."""
    store = SqliteStore.open(config.parent / "watchword.db")
    try:
        token = await store.token(identify(ott))
    finally:
        await store.close()
    assert token is not None
    return SealedDetails(read_keyring(config.parent / "keys.json")).open(token)


def named(folder: Path, target: str) -> Path:
    config = installation(folder, ADA, BOUND, f'[app]\ntarget = "bank:app"\ndescribe = "{target}"')
    # A module is imported once a process: each installation has one of its own.
    module = target.partition(":")[0]
    (folder / f"{module}.py").write_text(DESCRIBE, encoding="utf-8")
    return config


async def test_protect_asks_what_a_request_is_about(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", ADA, BOUND)
    app = Starlette(routes=[Route("/payments/{id}", pay, methods=["POST"])])
    async with protect(app, config=config, describe=describe) as server, client_of(server) as client:
        enrolled = await client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED)
        assert enrolled.status_code == 204
        answer = await client.post("/payments/1", content=b'{"amount":150.00}', headers=AUTHORISED)
    assert answer.status_code == 403
    assert await kept_with(answer.headers["x-2fa-approval"], config) == (
        ("amount", "150.00"),
        ("payee", "Charles Babbage"),
        ("path", "/payments/1"),
    )


async def test_a_server_asks_the_function_that_the_file_names(tmp_path: Path) -> None:
    config = named(tmp_path / "i", "described_by_a_server:describe")
    config.write_text(config.read_text(encoding="utf-8") + "\n[server]\nport = 0\n", encoding="utf-8")
    with served(config) as running:
        enrolled = running.client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED)
        assert enrolled.status_code == 204
        answer = running.client.post("/payments/7", content=b'{"amount":1}', headers=AUTHORISED)
    assert answer.status_code == 403
    assert (await kept_with(answer.headers["x-2fa-approval"], config))[2] == ("path", "/payments/7")


def test_an_object_that_is_called_is_taken_too(tmp_path: Path) -> None:
    found = description(checked(named(tmp_path / "i", "described_by_an_object:books")))
    assert type(found).__name__ == "Books"


def test_without_a_name_there_is_none(tmp_path: Path) -> None:
    assert description(checked(installation(tmp_path / "i", ADA))) is None
    app = '[app]\ntarget = "bank:app"'
    assert description(checked(installation(tmp_path / "j", ADA, PAYMENT, app))) is None


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("describes_nothing:nothing", "is no function"),
        ("describes_at_once:at_once", "is no coroutine function; write it with async def"),
        ("describes_of_two:of_two", "must take three arguments: the action, the ASGI scope and the body"),
        (
            "describes_missing:missing",
            ": AttributeError: module 'describes_missing' has no attribute",
        ),
    ],
)
def test_what_is_no_such_function_is_told_before_anything_is_served(
    tmp_path: Path, target: str, found: str
) -> None:
    deployment = checked(named(tmp_path / "i", target))
    with pytest.raises(UnusableDeploymentError) as caught:
        description(deployment)
    assert str(caught.value).startswith(f"app.describe: {target}")
    assert found in str(caught.value)


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = installation(tmp_path, ADA, PAYMENT, '[app]\ntarget = "bank:app"\ndescribe = "no_such:thing"')
    with pytest.raises(UnusableDeploymentError, match=r"app\.describe: no_such:thing: ModuleNotFoundError"):
        description(checked(config))


def test_protect_says_at_once_what_is_no_such_function(tmp_path: Path) -> None:
    something: Any = lambda action, scope, body: ()  # noqa: ARG005, E731 - what a caller might write.
    deployment = checked(installation(tmp_path / "i", ADA))
    with pytest.raises(UnusableDeploymentError, match="describe is no coroutine function"):
        Server(deployment, describe=something)


@pytest.mark.parametrize("target", ["describe", "bank:", ":describe", "../bank:describe"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, target: str) -> None:
    (found,) = refused(tmp_path, ADA, PAYMENT, f'[app]\ntarget = "bank:app"\ndescribe = "{target}"')
    assert found == 'app.describe: must be "module:function", such as "bank:describe"'


def test_the_sandbox_s_own_is_not_for_production(tmp_path: Path) -> None:
    (found,) = refused(
        tmp_path, ADA, PAYMENT, '[app]\ntarget = "bank:app"\ndescribe = "watchword.sandbox.bank:describe"'
    )
    assert found.startswith("app.describe: watchword.sandbox.bank is for tests")
