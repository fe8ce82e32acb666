"""``watchword serve``, ``init`` and ``doctor`` as commands: what they print, and how they end."""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving.support import (
    ADA,
    ADA_TOKEN,
    COMMAND,
    PAYMENT,
    READY_SECONDS,
    Receiver,
    environment,
    installation,
    put_private,
    run,
    served,
)
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.instant import after
from watchword.engine.ports import SystemClock
from watchword.serving.doctor import examine
from watchword.serving.keys import new_key_file
from watchword.store.sqlite import SqliteStore

SERVER = "[server]\nport = 0\n"
APP = '[app]\ntarget = "bank:app"\n'
AUTHORISED = {"authorization": f"Bearer {ADA_TOKEN}"}


# --- serve ----------------------------------------------------------------------------------------


def test_it_serves_what_the_file_says_and_ends_well_when_told(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        assert server.client.get("/ran").json() == {"ran": 0}
        assert server.client.post("/payments/1").status_code == 401
        answer = server.client.post("/payments/1", headers=AUTHORISED)
        assert answer.json()["errors"][0]["code"] == "sca.enrolment.required"
        assert "x-watchword-sandbox" not in answer.headers
        assert server.client.get("/sandbox").status_code == 404
        assert server.client.post("/sandbox/clock", json={"advanceSeconds": 1}).status_code == 404
    assert server.log == ""


def test_without_an_application_the_api_is_served_alone(tmp_path: Path) -> None:
    with served(installation(tmp_path / "i", SERVER, ADA)) as server:
        assert server.client.get("/openapi.json").status_code == 200
        assert server.client.get("/anything").status_code == 404


def test_every_mistake_is_a_line_of_its_own(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", "[server]\nport = -1\n[session]\nseconds = 301\n[sandbox]")
    ended = run("serve", "--config", config)
    assert (ended.returncode, ended.stdout) == (1, "")
    lines = ended.stderr.splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"watchword serve: {config}: ") for line in lines)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ((PAYMENT, '[app]\ntarget = "no_such_module_here:app"'), "app.target: no_such_module_here:app: "),
        (('[store]\npath = "keys.json"',), "is not an SQLite database"),
        (('[server]\nhost = "192.0.2.1"\nbehind_tls_proxy = true',), "cannot listen on 192.0.2.1"),
    ],
)
def test_what_does_not_start_is_one_readable_line(tmp_path: Path, tables: tuple[str, ...], said: str) -> None:
    config = installation(tmp_path / "i", *tables, ADA, *(() if "[server]" in tables[0] else (SERVER,)))
    ended = run("serve", "--config", config)
    assert (ended.returncode, ended.stdout) == (1, "")
    ours = [line for line in ended.stderr.splitlines() if line.startswith("watchword serve: ")]
    assert len(ours) == 1, ended.stderr
    assert said in ours[0]
    assert "Traceback" not in ended.stderr


def test_an_application_that_does_not_start_ends_the_server(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA, PAYMENT, '[app]\ntarget = "broken:app"')
    (tmp_path / "i" / "broken.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    ended = run("serve", "--config", config)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the application did not start: no database" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.attack(182)
def test_a_foreign_key_file_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        assert server.client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED).is_success
    put_private(tmp_path / "i" / "keys.json", new_key_file())
    ended = run("serve", "--config", config)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "made with other keys" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [("serve",), ("doctor",), ("serve", "--config"), ("init", "a", "b"), ("serve", "--port", "1")],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", ["serve", "init", "doctor"])
def test_help_has_an_example(command: str) -> None:
    ended = run(command, "--help")
    assert ended.returncode == 0
    assert f"example: watchword {command} " in ended.stdout


def test_what_is_in_flight_is_finished_when_it_is_told_to_stop(tmp_path: Path) -> None:
    """The handler says that it runs; only then the server is told to stop, and still answers it."""
    config = installation(tmp_path / "i", SERVER, ADA, PAYMENT, '[app]\ntarget = "slow:app"')
    (tmp_path / "i" / "slow.py").write_text(
        "import asyncio, pathlib\n"
        "here = pathlib.Path(__file__).parent\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    (here / 'runs').touch()\n"
        "    while not (here / 'go').exists():\n"
        "        await asyncio.sleep(0.02)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'done'})\n"
    )
    process = subprocess.Popen(
        [COMMAND, "serve", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        origin = process.stdout.readline().removeprefix("Ready: ").strip()
        call = subprocess.Popen(
            ["curl", "-s", "--max-time", "30", f"{origin}/anything"], stdout=subprocess.PIPE, text=True
        )
        end = time.monotonic() + READY_SECONDS
        while not (tmp_path / "i" / "runs").exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        (tmp_path / "i" / "go").touch()
        assert call.communicate(timeout=READY_SECONDS)[0] == "done"
        process.communicate(timeout=READY_SECONDS)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Ask again and again: a process that takes over tells nobody when it has."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_hangup_makes_it_read_the_file_anew(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        assert server.client.get("/ran").status_code == 200
        config.write_text(
            config.read_text()
            + PAYMENT.replace("PAYMENT", "COUNT").replace("POST /payments/{id}", "GET /ran")
        )
        server.process.send_signal(signal.SIGHUP)
        url = f"{str(server.client.base_url).rstrip('/')}/ran"

        def is_protected_now() -> bool:
            try:
                return httpx2.get(url, trust_env=False).status_code == 401
            except httpx2.TransportError:  # met the process that goes
                return False

        assert _within(READY_SECONDS, is_protected_now)


def test_a_hangup_with_an_application_that_cannot_be_imported_changes_nothing(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        (tmp_path / "i" / "bank.py").write_text("def", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        said = [server.process.stderr.readline() for _ in range(2)]
        assert "app.target: bank:app: SyntaxError" in said[0]
        assert said[1] == "watchword: not reloaded, the server goes on as it was\n"
        assert server.client.get("/ran").status_code == 200


def test_a_hangup_with_a_file_that_cannot_be_served_changes_nothing(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        keys = (tmp_path / "i" / "keys.json").read_bytes()
        (tmp_path / "i" / "keys.json").unlink()
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        said = [server.process.stderr.readline() for _ in range(2)]
        assert said[0].startswith("watchword serve: ")
        assert "keys.json" in said[0]
        assert said[1] == "watchword: not reloaded, the server goes on as it was\n"
        assert server.client.get("/ran").status_code == 200
        (tmp_path / "i" / "keys.json").write_bytes(keys)


# --- init -----------------------------------------------------------------------------------------


def test_a_new_installation_is_written_and_nothing_of_it_is_for_others(tmp_path: Path) -> None:
    place = tmp_path / "etc" / "watchword"
    ended = run("init", place)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {
        "watchword.toml": 0o600,
        "keys.json": 0o600,
        "keys.json.lock": 0o600,  # Where a server may not write, it is seen by this.
        "jose.pem": 0o600,
    }
    assert "watchword doctor --config" in ended.stdout
    refused = run("serve", "--config", place / "watchword.toml")
    assert refused.returncode == 1
    (only,) = refused.stderr.splitlines()
    assert "nobody can tell who calls: add [[issuers]]" in only


def test_a_new_installation_is_served_once_it_is_filled_in(tmp_path: Path) -> None:
    assert run("init", tmp_path).returncode == 0
    config = tmp_path / "watchword.toml"
    config.write_text(config.read_text().replace("port = 8000", "port = 0") + ADA)
    with served(config) as server:
        assert server.client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("name", ["watchword.toml", "keys.json", "jose.pem"])
def test_nothing_that_is_there_is_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    ended = run("init", tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{tmp_path / name}: there already" in ended.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run("init", tmp_path / "file" / "dir")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "file" in ended.stderr


def test_what_was_written_is_told_as_json_too(tmp_path: Path) -> None:
    said = json.loads(run("init", "--json", tmp_path / "new").stdout)
    assert [Path(name).name for name in said["written"]] == ["watchword.toml", "keys.json", "jose.pem"]
    assert len(said["next"]) == 5


def test_two_installations_share_no_key(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("init", tmp_path / name).returncode == 0
    for name in ("keys.json", "jose.pem"):
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


# --- doctor ---------------------------------------------------------------------------------------


def doctor(config: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return how it ended, and what it found, by what it looked at."""
    ended = run("doctor", "--json", "--config", config)
    said = json.loads(ended.stdout)
    assert said["ok"] is (ended.returncode == 0)
    return ended.returncode, {each["check"]: each for each in said["checks"]}


def test_all_is_well_with_an_installation_that_can_be_served(tmp_path: Path) -> None:
    with Receiver() as receiver:
        config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT, receiver.table)
        status, found = doctor(config)
        assert status == 0
        looked_at = {"configuration", "application", "keys", "disk", "space", "store", "delivery"}
        looked_at |= {"page", "openers", "clock"}
        assert found.keys() == looked_at
        assert receiver.received == []  # nobody is sent anything
    assert not (tmp_path / "i" / "watchword.db").exists()


def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path) -> None:
    with Receiver() as receiver:
        table = receiver.table
    issuer = '[[issuers]]\nissuer = "http://127.0.0.1:1"\naudience = "us"\n'
    config = installation(tmp_path / "i", "[session]\nseconds = 301", issuer, table)
    ended = run("doctor", "--config", config)
    assert ended.returncode == 1
    assert "WRONG configuration" in ended.stdout
    assert "session.seconds: must be 300 at the most" in ended.stdout
    assert "WRONG issuer http://127.0.0.1:1" in ended.stdout
    assert "WRONG delivery" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_file_that_is_no_configuration_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[")
    for name in ("broken.toml", "none.toml"):
        status, found = doctor(tmp_path / name)
        assert status == 1
        assert list(found) == ["configuration"]


def test_keys_that_others_may_read_or_that_are_gone_are_found(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA)
    (tmp_path / "i" / "keys.json").chmod(0o644)
    status, found = doctor(config)
    assert status == 1
    assert "chmod 600" in found["configuration"]["advice"]
    (tmp_path / "i" / "keys.json").unlink()
    assert doctor(config)[1]["keys"]["ok"] is False


@pytest.mark.attack(182)
def test_keys_of_another_installation_are_found(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT)
    with served(config) as server:
        assert server.client.post("/v1/user/pin", json={"pin": "4713"}, headers=AUTHORISED).is_success
    assert doctor(config)[1]["keys and store"]["ok"] is True
    put_private(tmp_path / "i" / "keys.json", new_key_file())
    status, found = doctor(config)
    assert status == 1
    assert "made with other keys" in found["keys and store"]["advice"]


def test_an_application_that_is_not_there_is_found_and_one_that_is_is_not_run(tmp_path: Path) -> None:
    target = '[app]\ntarget = "my_bank.web:app"'
    config = installation(tmp_path / "i", SERVER, ADA, PAYMENT, target)
    status, found = doctor(config)
    assert (status, found["application"]["found"]) == (1, "there is no module my_bank")
    package = tmp_path / "i" / "my_bank"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it ran')")
    assert doctor(config)[1]["application"]["ok"] is True


def test_a_store_that_is_none_is_found(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA)
    (tmp_path / "i" / "watchword.db").write_bytes(b"not a database" * 1000)
    status, found = doctor(config)
    assert (status, found["store"]["ok"]) == (1, False)


def test_a_folder_that_is_not_there_is_found(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA, '[store]\npath = "none/watchword.db"')
    status, found = doctor(config)
    assert (status, found["disk"]["ok"]) == (1, False)
    assert "make" in found["disk"]["advice"]


async def test_a_clock_that_is_behind_the_store_is_found(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA)
    for ahead, well in ((30, True), (3600, False)):
        store = SqliteStore.open(tmp_path / "i" / "watchword.db")
        at = after(SystemClock().now(), ahead)
        await store.commit(Change(events=(Event(name=EventName.CREDENTIALS_CHANGED, at=at, user_id=None),)))
        await store.close()
        (clock,) = [finding for finding in await examine(config) if finding.check == "clock"]
        assert clock.ok is well, clock


async def test_a_store_of_an_older_schema_is_left_to_the_start(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, ADA)
    (tmp_path / "i" / "watchword.db").touch(mode=0o600)  # an empty file is a database without a schema
    (store,) = [finding for finding in await examine(config) if finding.check == "store"]
    assert store.ok
    assert "the next start upgrades its schema" in store.found
    assert (tmp_path / "i" / "watchword.db").stat().st_size == 0


def test_ctrl_c_before_anything_is_served_ends_without_a_word(tmp_path: Path) -> None:
    config = tmp_path / "watchword.toml"
    os.mkfifo(config, 0o600)  # As long as nobody writes, the command reads.
    with subprocess.Popen(
        [COMMAND, "serve", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            writer = os.open(config, os.O_WRONLY)  # Waits until it does.
            process.send_signal(signal.SIGINT)
            os.close(writer)  # It may have been just about to read, which no signal would end.
            assert process.communicate(timeout=READY_SECONDS) == ("", "")
            assert process.returncode == 130
        finally:
            process.kill()
