"""What the sandbox shares with a server for production: the file, and the suspicion of foreign keys."""

from pathlib import Path

import pytest

from tests.sandbox.support import Person, client_of, new_ott
from tests.serving.support import ADA, PAYMENT, put_private, run
from watchword.config import parse
from watchword.sandbox.app import UnusableDataError, create
from watchword.serving.keys import new_key_file


@pytest.mark.attack(182)
async def test_a_data_directory_with_the_key_file_of_another_is_refused_at_start(tmp_path: Path) -> None:
    async with create(data=tmp_path):
        pass
    own = (tmp_path / "keys.json").read_bytes()
    put_private(tmp_path / "keys.json", new_key_file())
    with pytest.raises(UnusableDataError, match=r"keys\.json: what is in the store was made with other keys"):
        await create(data=tmp_path).start()
    put_private(tmp_path / "keys.json", own)
    async with create(data=tmp_path):
        pass


async def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    async with create(data=tmp_path):
        pass
    put_private(tmp_path / "keys.json", new_key_file())
    ended = run("sandbox", "--port", "0", "--data", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert "made with other keys" in ended.stderr


async def test_of_a_servers_file_the_sandbox_takes_the_policy_and_leaves_the_rest() -> None:
    """Even where the rest could not be served at all."""
    policy = parse("[server]\nport = 99999\n[store]\npath = 1\n" + ADA + PAYMENT)
    async with create(policy) as sandbox, client_of(sandbox) as client:
        ada = Person(client, "demo-ada", 435036)
        new_ott(await ada.call("POST", "/payments/1"))


@pytest.mark.parametrize(
    ("table", "asked"),
    [
        ("", False),
        ('[enrolment]\nstep_up = "nothing"', False),
        ('[enrolment]\nstep_up = "two-factors"', True),
        ('[enrolment]\nstep_up = "everything"', True),
        ('[[actions]]\nname = "CREDENTIAL__CHANGE"\nrisk = "high"', True),
        ('[enrolment]\nstep_up = "nothing"\n[[actions]]\nname = "CREDENTIAL__CHANGE"\nrisk = "high"', False),
    ],
)
async def test_what_is_asked_for_before_credentials_change_is_as_the_file_says(
    table: str, asked: bool
) -> None:
    async with create(parse(table)) as sandbox, client_of(sandbox) as client:
        ada = Person(client, "demo-ada", 435036)
        answer = await ada.call("DELETE", "/v2/profiles/435036/pin")
        assert (answer.status_code == 403) is asked, answer.text


@pytest.mark.parametrize(("refused", "status"), [("true", 400), ("false", 200)])
async def test_trivial_pins_are_refused_where_the_file_says_so(refused: str, status: int) -> None:
    table = f"[enrolment]\nrefuse_trivial_pins = {refused}"
    async with create(parse(table)) as sandbox, client_of(sandbox) as client:
        grace = Person(client, "demo-grace", 435037)
        answer = await grace.call("POST", "/v2/profiles/435037/pin", json={"pin": "1111"})
        assert answer.status_code == status, answer.text
