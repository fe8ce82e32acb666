"""How a server starts: it says Ready once all of its workers serve, whatever these do first."""

from pathlib import Path

import pytest

from tests.serving.support import run
from tests.system.fleet import Fleet
from tests.system.wire import Wire

# What a bank imports as it is made, in a worker: names of hosts, as they are looked up.
IMPORTS = "\nimport encodings.idna, stringprep, http.client, email.parser\n"

LATE = """
_bank = app


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await _bank(scope, receive, send)
    await receive()
    os.close(os.open(here / "first", os.O_CREAT))
    try:
        os.close(os.open(here / "only one", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        await asyncio.sleep(1)
        (here / "second").touch()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


def test_a_worker_imports_what_it_likes(tmp_path: Path) -> None:
    """A worker is a fork: a module that another thread imported at that moment would stay locked for ever."""
    fleet = Fleet(tmp_path)
    with (tmp_path / "fleet_bank.py").open("a") as bank:
        bank.write(IMPORTS)
    for _ in range(4):
        with fleet.start():
            pass


def test_it_is_ready_once_every_worker_serves(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, server="workers = 2")
    with (tmp_path / "fleet_bank.py").open("a") as bank:
        bank.write(LATE)
    with fleet.start():
        assert (tmp_path / "second").exists()


def test_the_name_of_a_host_is_looked_up(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, server='host = "localhost"')
    with fleet.start() as server:
        assert server.address[0] == "localhost"
        with Wire(server.address) as wire:
            assert wire.call("GET", "/openapi.json").status == 200


@pytest.mark.parametrize("host", ["nobody.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_named(tmp_path: Path, host: str) -> None:
    config = Fleet(tmp_path, server=f'host = "{host}"\nbehind_tls_proxy = true').config
    outcome = run("serve", "--config", config)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"watchword serve: cannot listen on {host}")
    assert len(outcome.stderr.splitlines()) == 1
