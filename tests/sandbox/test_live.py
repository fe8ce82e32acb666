"""The command itself: what it prints, how it ends, what survives when it is killed."""

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import httpx2
import pytest

from tests.sandbox.support import new_ott
from watchword.sandbox.world import prepare

COMMAND = (sys.executable, "-m", "watchword.cli", "sandbox", "--port", "0")
STATEMENT = "/v1/profiles/435036/balance-statements/1/statement.json"


@contextmanager
def running(*options: str | Path) -> Generator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """Run the sandbox until it is left; yields the process, and a client of it."""
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("Ready: http://127.0.0.1:"), ready
            with httpx2.Client(base_url=ready.removeprefix("Ready: ").strip(), trust_env=False) as client:
                yield process, client
        finally:
            process.kill()


def _ott(client: httpx2.Client) -> str:
    return new_ott(client.get(STATEMENT, headers={"authorization": "Bearer demo-ada"}))


def test_it_says_what_it_is_and_ends_well_when_told(tmp_path: Path) -> None:
    with running("--data", tmp_path / "data") as (process, client):
        _ott(client)
        process.send_signal(signal.SIGTERM)
        _, banner = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "NOT FOR PRODUCTION" in banner
    assert "Traceback" not in banner


def test_every_command_on_the_page_does_what_it_says() -> None:
    examples = files("watchword.sandbox").joinpath("examples.sh").read_text(encoding="utf-8")
    with running() as (_, client):
        page = client.get("/sandbox").text
        bank = str(client.base_url).rstrip("/")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"BANK={bank}\n{examples}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    printed = done.stdout
    assert printed.count("x-2fa-approval-result: REJECTED") == 1
    assert printed.count("x-2fa-approval-result: APPROVED") == 2
    assert printed.count('{"obfuscatedPhoneNo":"*********8888"}') == 2
    assert '"TRANSFER__FUND":1' in printed
    assert '"state":"spent"' in printed
    assert '"userId":7000001' in printed
    assert '"errors":[{"code":"sca.required"' in printed
    assert printed.count('"errors"') == 1
    assert page.count("<h3>") == examples.count("\n# ") + 1


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    headers = {"authorization": "Bearer demo-ada"}
    with running("--data", tmp_path) as (process, client):
        ott = _ott(client)
        about = {**headers, "one-time-token": ott}
        verified = client.post("/v1/one-time-token/pin/verify", json={"pin": "1234"}, headers=about)
        assert verified.status_code == 200
        assert client.get(STATEMENT, headers={**headers, "x-2fa-approval": ott}).status_code == 200
        assert client.post("/sandbox/users", json={"token": "mine"}).status_code == 201
        process.kill()
    with running("--data", tmp_path) as (_, client):
        assert client.get("/sandbox/executions", params={"ott": ott}).json()["BALANCE__GET_STATEMENT"] == 1
        assert client.get(f"/sandbox/tokens/{ott}").json()["state"] == "spent"
        assert client.get("/v1/me", headers={"authorization": "Bearer mine"}).status_code == 200
        assert new_ott(client.get(STATEMENT, headers={**headers, "x-2fa-approval": ott})) != ott


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--config", "{}/none.toml"], "none.toml"),
        (["--config", "{}/bad.toml"], "risk"),
        (["--data", "{}/bad.toml"], "bad.toml"),
        (["--data", "{}/foreign"], "watchword.db"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "bad.toml").write_text('[[actions]]\nname = "A__B"\nrisk = "huge"\n')
    prepare(tmp_path / "foreign")
    (tmp_path / "foreign" / "watchword.db").write_bytes(b"not a database" * 1000)
    done = subprocess.run(
        [*COMMAND, *(option.format(tmp_path) for option in options)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line


def test_an_address_of_nobody_is_refused() -> None:
    done = subprocess.run(
        [*COMMAND, "--host", "192.0.2.1"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr
