"""``watchword keys``: a rotation while servers serve, cut off at each point, begun twice, followed late."""

import asyncio
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.factories import NOW, make_token
from tests.serving.support import (
    ADA,
    ADA_TOKEN,
    PAYMENT,
    READY_SECONDS,
    Served,
    environment,
    installation,
    put_private,
    run,
    served,
)
from watchword.domain.credential import Pin
from watchword.domain.decision import Change
from watchword.domain.instant import after
from watchword.domain.token import TokenId
from watchword.domain.user import OpenToken, UserId, UserSecurity
from watchword.engine.ports import SystemClock
from watchword.methods.keyring import Keyring
from watchword.methods.registry import Methods
from watchword.serving.app import Server, checked
from watchword.serving.in_use import Servers, alone, going_by, place_of, servers
from watchword.serving.keys import KeyFile, new_key, read_key_file, read_keyring
from watchword.serving.rotation import NUMBER_MAX, RotationRefusedError, run_rotate, run_status
from watchword.serving.settings import UnusableDeploymentError
from watchword.store.sqlite import SqliteStore

SERVER = "[server]\nport = 0\n"
AUTHORISED = {"authorization": f"Bearer {ADA_TOKEN}"}
APP = '[app]\ntarget = "bank:app"\n'
BRIEF = "[limits]\ntoken_seconds = 2\n[session]\nseconds = 0\n"
PIN = {"pin": "4713"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An installation with a store in which user 7 has a PIN and a device."""
    config = installation(tmp_path / "i", SERVER, ADA)
    enrol(config)
    return config


def keys_of(config: Path) -> KeyFile:
    return read_key_file(config.parent / "keys.json")


def enrol(config: Path, user_id: int = 7) -> None:
    ring, at = read_keyring(config.parent / "keys.json"), UserId(user_id)
    device = Methods(ring).device_fingerprint.enrol("a device", user_id=at, credential_id="d", now=NOW)
    pin = Methods(ring).pin.enrol(PIN["pin"], user_id=at, credential_id="p", now=NOW)
    user = UserSecurity(version=1, id=at, credentials=(device, pin))
    asyncio.run(in_store(config, lambda store: store.commit(Change(user=user))))


async def in_store(config: Path, work: Callable[[SqliteStore], Any]) -> Any:
    store = SqliteStore.open(config.parent / "watchword.db")
    try:
        return await work(store)
    finally:
        await store.close()


def pin_of(config: Path, user_id: int = 7) -> Pin:
    user = asyncio.run(in_store(config, lambda store: store.user(UserId(user_id))))
    return next(each for each in user.credentials if isinstance(each, Pin))


def rotate(config: Path, *, begin: bool = False, reloaded: bool = True) -> None:
    run_rotate(config, begin=begin, reloaded=reloaded)


# --- the steps, and what they say -----------------------------------------------------------------


@pytest.mark.attack(182)
def test_a_rotation_is_three_steps_and_what_is_stored_opens_with_the_new_key_alone(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keys_of(config)
    rotate(config, begin=True)
    added = keys_of(config)
    assert (added.active, sorted(added.keys), added.keys[1]) == (1, [1, 2], before.keys[1])
    rotate(config)
    assert keys_of(config) == KeyFile(active=2, keys=added.keys)
    rotate(config)
    assert keys_of(config) == KeyFile(active=2, keys={2: added.keys[2]})
    retired = config.parent / "keys.retired-1.json"
    assert read_key_file(retired) == before
    for file in (retired, config.parent / "keys.json", config.parent / "keys.json.lock"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert [f"step {number} of 3" in said for number in (1, 2, 3)] == [True] * 3
    assert "1 users: 1 sealed anew under key 2" in said
    for key in (*before.keys.values(), *added.keys.values()):
        assert key.hex() not in said
    user = asyncio.run(in_store(config, lambda store: store.user(UserId(7))))
    methods = Methods(Keyring({2: added.keys[2]}, active=2))
    assert methods.pin.verify(PIN["pin"], user=user, token=make_token())
    assert methods.device_fingerprint.is_enrolled("a device", user=user)


def test_over_a_database_server_one_that_follows_here_says_nothing_of_those_elsewhere(config: Path) -> None:
    """Nothing is asked of the store before the last step, so that none has to be there."""
    config.write_text(config.read_text() + '[store]\nurl = "postgresql://127.0.0.1:1/d"\n', encoding="utf-8")
    rotate(config, begin=True)
    with going_by(config.parent / "keys.json"):
        with pytest.raises(RotationRefusedError, match="servers of other machines are not seen"):
            rotate(config, reloaded=False)
        assert keys_of(config).active == 1
        rotate(config)
    assert keys_of(config).active == 2


def test_a_rotation_begins_when_it_is_told_to_and_not_when_one_ran_once_too_often(config: Path) -> None:
    with pytest.raises(RotationRefusedError, match="no rotation is under way; begin one"):
        rotate(config)
    rotate(config, begin=True)
    with pytest.raises(RotationRefusedError, match="under way already"):
        rotate(config, begin=True)
    assert sorted(keys_of(config).keys) == [1, 2]


def test_the_status_says_what_is_next(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def status() -> tuple[bool, str]:
        return run_status(config), capsys.readouterr().out

    fine, said = status()
    assert fine
    assert "key 1 is active\n" in said
    assert "next:" not in said
    rotate(config, begin=True)
    assert status()[0] is False
    rotate(config)
    fine, said = status()
    assert not fine
    assert "1 users have something that needs another key than 2" in said
    rotate(config)
    assert status()[0]


def test_one_number_is_left_and_then_none(config: Path) -> None:
    file = config.parent / "keys.json"
    for active, fits in ((NUMBER_MAX - 1, True), (NUMBER_MAX, False)):
        put_private(file, json_of(KeyFile(active=active, keys={active: new_key()})))
        if fits:
            rotate(config, begin=True)
            assert sorted(keys_of(config).keys) == [NUMBER_MAX - 1, NUMBER_MAX]
        else:
            with pytest.raises(RotationRefusedError, match="no number after 255"):
                rotate(config, begin=True)


def json_of(kept: KeyFile) -> bytes:
    from base64 import b64encode  # noqa: PLC0415 - so that nothing of the product's writes it.

    keys = {str(number): b64encode(key).decode() for number, key in kept.keys.items()}
    return json.dumps({"active": kept.active, "keys": keys}).encode()


# --- servers that follow late ---------------------------------------------------------------------


@asynccontextmanager
async def serving(config: Path) -> AsyncGenerator[Server]:
    async with Server(checked(config)) as server:
        yield server


async def stepping(config: Path, *, begin: bool = False, reloaded: bool = False) -> None:
    await asyncio.to_thread(run_rotate, config, begin=begin, reloaded=reloaded)


@pytest.mark.attack(182)
async def test_no_step_is_taken_before_every_server_has_taken_the_one_before(config: Path) -> None:
    async with serving(config), serving(config):
        await stepping(config, begin=True)
        for reloaded in (False, True):
            with pytest.raises(RotationRefusedError, match="still goes by an older keys"):
                await stepping(config, reloaded=reloaded)
    async with serving(config) as stale:
        async with serving(config):
            await stepping(config)
            with pytest.raises(RotationRefusedError, match="still goes by an older"):
                await stepping(config)
        async with serving(config):
            with pytest.raises(RotationRefusedError, match="still goes by an older"):
                await stepping(config)
        assert keys_of(config).keys.keys() == {1, 2}
        await stale.stop()
    async with serving(config):
        await stepping(config)
    assert keys_of(config).keys.keys() == {2}


async def test_where_no_server_is_seen_the_operator_has_to_say_that_all_have_read_it(config: Path) -> None:
    await stepping(config, begin=True)
    for _ in range(2):
        with pytest.raises(RotationRefusedError, match="--reloaded"):
            await stepping(config)
        await stepping(config, reloaded=True)
    assert keys_of(config).keys.keys() == {2}


def test_a_server_is_seen_by_what_it_read_however_the_file_is_replaced(config: Path) -> None:
    file = config.parent / "keys.json"
    kept = read_key_file(file)
    assert servers(file, kept) is Servers.NONE
    with going_by(file):
        assert servers(file, kept) is Servers.SAME
        other = KeyFile(active=2, keys={**kept.keys, 2: new_key()})
        file.write_bytes(json_of(other))  # In place, as scp does.
        assert servers(file, read_key_file(file)) is Servers.OTHER
        with going_by(file):
            assert servers(file, other) is Servers.OTHER
    assert servers(file, other) is Servers.NONE
    assert len({place_of(kept), place_of(other), place_of(KeyFile(active=1, keys=other.keys))}) == 3


def test_a_file_that_changes_as_a_server_starts_is_read_once_more(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config.parent / "keys.json"
    old = read_key_file(file)
    new = KeyFile(active=2, keys={**old.keys, 2: new_key()})
    put_private(file, json_of(new))
    reads = iter([old, new])
    monkeypatch.setattr(
        "watchword.serving.in_use.read_key_file", lambda path: next(reads, read_key_file(path))
    )
    with going_by(file) as ring:
        assert ring.active == 2
        assert servers(file, new) is Servers.SAME


def test_a_server_that_cannot_be_seen_serves_and_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("watchword.serving.in_use.os.open", refuse)
    with going_by(config.parent / "keys.json") as ring:
        assert ring.active == 1
    assert "`watchword keys` cannot see this server" in caplog.text


# --- two at once, and cut off ---------------------------------------------------------------------


def test_of_two_at_once_one_is_refused(config: Path) -> None:
    with (
        alone(config.parent / "keys.json"),
        pytest.raises(RotationRefusedError, match="another command is changing it"),
    ):
        rotate(config, begin=True)
    rotate(config, begin=True)


def test_of_many_that_begin_at_once_one_does(config: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "watchword.cli",
        "keys",
        "rotate",
        "--config",
        config,
        "--begin",
    ]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) for _ in range(4)]
    for each in started:
        each.communicate(timeout=READY_SECONDS)
    assert sorted(each.returncode for each in started) == [0, 1, 1, 1]
    assert sorted(keys_of(config).keys) == [1, 2]


CUT_OFF = """
import os, sys
from pathlib import Path
from watchword.serving.rotation import run_rotate

left = int(sys.argv[2])

def counted(work):
    def counting(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return work(*args, **kwargs)
    return counting

os.fsync, os.replace, os.link, os.unlink = map(counted, (os.fsync, os.replace, os.link, os.unlink))
run_rotate(Path(sys.argv[1]), begin="begin" in sys.argv, reloaded=True)
"""


@pytest.mark.attack(182)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_step_that_is_cut_off_anywhere_loses_no_key_and_can_be_taken_again(config: Path, step: int) -> None:
    for number in range(1, step):
        rotate(config, begin=number == 1)
    began = found = keys_of(config)
    moment = 0
    everything = dict(began.keys)
    for moment in range(20):
        arguments = [sys.executable, "-c", CUT_OFF, str(config), str(moment), "begin" if step == 1 else "on"]
        ended = subprocess.run(arguments, env=environment(), capture_output=True, check=False, timeout=60)
        found = keys_of(config)
        retired = [read_key_file(file) for file in config.parent.glob("keys.retired-*.json")]
        known = dict(found.keys) | {number: key for each in retired for number, key in each.keys.items()}
        assert everything.items() <= known.items()
        assert found.active in found.keys
        Keyring(known, active=found.active)  # Whole, each of 32 bytes.
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        if found != began:
            break  # It was cut off once the file was there: the step is taken.
    assert moment > 1
    assert found != began
    if step < 3:
        rotate(config)
    if step == 1:
        rotate(config)
    assert keys_of(config).keys.keys() == {2}
    assert list(config.parent.glob(".keys.json.*")) == []
    user = asyncio.run(in_store(config, lambda store: store.user(UserId(7))))
    methods = Methods(read_keyring(config.parent / "keys.json"))
    assert methods.pin.verify(PIN["pin"], user=user, token=make_token())


# --- what is not safe -----------------------------------------------------------------------------


def test_a_key_is_not_retired_while_an_open_token_needs_it(config: Path) -> None:
    ring = read_keyring(config.parent / "keys.json")
    until = after(SystemClock().now(), 600)
    sealed = Methods(ring).details.seal((("amount", "10.00"),), TokenId(b"open"))
    token = replace(make_token(id=b"open"), expires_at=until, details=sealed)
    user = UserSecurity(version=1, id=UserId(8), credentials=(), open_tokens=(OpenToken(token.id, until),))
    asyncio.run(in_store(config, lambda store: store.commit(Change(token=token, user=user))))
    rotate(config, begin=True)
    rotate(config)
    with pytest.raises(RotationRefusedError, match="1 open tokens need another key than 2, the last of them"):
        rotate(config)
    assert keys_of(config).keys.keys() == {1, 2}


def test_a_key_is_not_retired_while_a_credential_cannot_be_sealed_anew(config: Path) -> None:
    moved = pin_of(config)
    user = UserSecurity(version=1, id=UserId(9), credentials=(moved,))
    asyncio.run(in_store(config, lambda store: store.commit(Change(user=user))))
    rotate(config, begin=True)
    rotate(config)
    with pytest.raises(RotationRefusedError, match="what users 9 have enrolled no key opens"):
        rotate(config)
    assert pin_of(config).sealed[0] == 2
    assert keys_of(config).keys.keys() == {1, 2}


def test_a_key_is_not_retired_while_a_record_is_damaged(config: Path) -> None:
    user = UserSecurity(version=1, id=UserId(9))
    asyncio.run(in_store(config, lambda store: store.commit(Change(user=user))))
    rotate(config, begin=True)
    rotate(config)
    with sqlite3.connect(config.parent / "watchword.db") as connection:
        connection.execute("UPDATE user SET body = x'00' WHERE id = 9")
    connection.close()
    with pytest.raises(RotationRefusedError, match="of users 9 a record is damaged"):
        rotate(config)
    # The others went on.
    assert pin_of(config).sealed[0] == 2
    assert keys_of(config).keys.keys() == {1, 2}


def test_a_key_is_not_retired_by_what_an_empty_store_needs(config: Path) -> None:
    rotate(config, begin=True)
    rotate(config)
    for file in config.parent.glob("watchword.db*"):
        file.rename(file.with_name(f"elsewhere{file.suffix}"))
    with pytest.raises(RotationRefusedError, match="there is no store"):
        rotate(config)
    assert not (config.parent / "watchword.db").exists()
    assert keys_of(config).keys.keys() == {1, 2}


def test_another_key_in_the_file_for_the_retired_one_is_not_written_over(config: Path) -> None:
    rotate(config, begin=True)
    rotate(config)
    other = json_of(KeyFile(active=1, keys={1: new_key()}))
    put_private(config.parent / "keys.retired-1.json", other)
    with pytest.raises(RotationRefusedError, match="holds another key"):
        rotate(config)
    assert (config.parent / "keys.retired-1.json").read_bytes() == other
    assert keys_of(config).keys.keys() == {1, 2}


def test_a_key_that_was_put_back_for_a_backup_is_retired_again(config: Path) -> None:
    before = json.loads((config.parent / "keys.json").read_bytes())["keys"]["1"]
    for begin in (True, False, False):
        rotate(config, begin=begin)
    file = config.parent / "keys.json"
    kept = json.loads(file.read_bytes())
    kept["keys"]["1"] = before
    put_private(file, json.dumps(kept).encode())
    rotate(config)
    assert keys_of(config).keys.keys() == {2}


def test_a_key_file_that_others_may_read_is_not_rotated_in_the_open(config: Path) -> None:
    (config.parent / "keys.json").chmod(0o640)
    with pytest.raises(RotationRefusedError, match="chmod 600"):
        rotate(config, begin=True)


def test_a_disk_without_room_leaves_the_file_as_it_was(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys_of(config)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watchword.serving.keys.os.fsync", full)
    with pytest.raises(RotationRefusedError, match="No space left on device"):
        rotate(config, begin=True)
    assert keys_of(config) == before
    assert list(config.parent.glob(".keys.json.*")) == []


async def test_a_key_file_that_went_away_between_is_a_clear_error_of_the_start(config: Path) -> None:
    server = Server(checked(config))
    (config.parent / "keys.json").unlink()
    with pytest.raises(UnusableDeploymentError, match="keys: "):
        await server.start()


# --- as commands, with servers that serve ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.attack(182)
def test_two_servers_serve_through_a_whole_rotation(tmp_path: Path) -> None:
    """A PIN is enrolled before, and proves itself after each step at both servers; nothing answers 500."""
    config = installation(tmp_path / "i", SERVER, APP, ADA, PAYMENT, BRIEF)
    with served(config) as one, served(config) as other:
        assert one.client.post("/v1/user/pin", json=PIN, headers=AUTHORISED).is_success
        step_up(one, other)
        for step in range(3):
            ended = rotated(config, *(["--begin"] if step == 0 else []))
            assert ended.returncode == 0, ended.stderr
            assert f"step {step + 1} of 3" in ended.stdout
            step_up(other, one)
            refused = run("keys", "rotate", "--config", config)
            assert (refused.returncode, "still goes by an older" in refused.stderr) == (1, True)
            with following(config, one, other):
                for server in (one, other):
                    server.process.send_signal(signal.SIGHUP)
            step_up(one, other)
        assert run("keys", "status", "--config", config).returncode == 0
    assert sorted(keys_of(config).keys) == [2]


def rotated(config: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Take a step, again and again while open tokens of two seconds keep it from being taken."""
    end = time.monotonic() + READY_SECONDS
    while True:
        ended = run("keys", "rotate", "--config", config, *options)
        if ended.returncode == 0 or "open tokens" not in ended.stderr or time.monotonic() > end:
            return ended
        time.sleep(0.1)


@contextmanager
def following(config: Path, *reloaded: Served) -> Generator[None]:
    """Wait until servers that were told to reload have."""
    yield
    del reloaded
    file = config.parent / "keys.json"
    end = time.monotonic() + READY_SECONDS
    while servers(file, read_key_file(file)) is not Servers.SAME:
        assert time.monotonic() < end
        time.sleep(0.05)


def step_up(one: Served, other: Served) -> None:
    """Pay at one server with a PIN that is answered at the other."""
    ott = ask(one, "/payments/1").headers["x-2fa-approval"]
    passed = ask(other, "/v1/one-time-token/pin/verify", {"One-Time-Token": ott}, PIN)
    assert passed.status_code == 200, passed.text
    assert ask(one, "/payments/1", {"x-2fa-approval": ott}).status_code == 201


def ask(server: Served, path: str, headers: dict[str, str] | None = None, body: object = None) -> Any:
    """Post, once more where the process that answered has just handed over to the next."""
    for _ in range(20):
        try:
            answer = server.client.post(path, json=body, headers={**AUTHORISED, **(headers or {})})
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            assert answer.status_code < 500, answer.text
            return answer
    raise AssertionError


@pytest.mark.parametrize("arguments", [("keys",), ("keys", "rotate"), ("keys", "status", "--begin")])
def test_what_makes_no_sense_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(("number", "status"), [("0", 2), ("1", 1), ("1000000", 1), ("1000001", 2)])
def test_a_pace_is_from_1_to_1000000(config: Path, number: str, status: int) -> None:
    ended = run("keys", "rotate", "--config", config, "--per-second", number)
    assert ended.returncode == status


def test_mistakes_of_the_configuration_are_a_line_each(config: Path) -> None:
    config.write_text("[keys]\nfile = 1\n[store]\npath = 2\n")
    ended = run("keys", "status", "--config", config)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 2)
    assert os.linesep.join(ended.stderr.splitlines()).count("watchword keys status: ") == 2


# --- what a change of credentials is bound to -----------------------------------------------------


@pytest.mark.attack(182)
@pytest.mark.parametrize("back", [False, True])
async def test_a_change_of_credentials_is_confirmed_across_a_change_of_keys(config: Path, back: bool) -> None:
    """Asked for at a server of one key, repeated at one of the next; and the other way round."""
    await stepping(config, begin=True)
    async with serving(config) as before:
        await stepping(config)
        async with serving(config) as since:
            one, other = (since, before) if back else (before, since)
            path, body = "/v1/user/partner-device-fingerprints", {"deviceFingerprint": "a second device"}
            asked = await send(one, path, body)
            ott = asked.headers["x-2fa-approval"]
            there = {"One-Time-Token": ott}
            assert (await send(one, "/v1/one-time-token/pin/verify", PIN, there)).status_code == 200
            mine = {"deviceFingerprint": "a device"}
            method = "/v1/one-time-token/partner-device-fingerprint/verify"
            assert (await send(other, method, mine, there)).status_code == 200
            changed = {"deviceFingerprint": "of somebody else"}
            refused = await send(other, path, changed, {"x-2fa-approval": asked.headers["x-2fa-approval"]})
            assert refused.status_code == 403
            again = await send(one, path, body)
            for answer, proof in (("pin", PIN), ("partner-device-fingerprint", mine)):
                verify = f"/v1/one-time-token/{answer}/verify"
                passed = await send(one, verify, proof, {"One-Time-Token": again.headers["x-2fa-approval"]})
                assert passed.status_code == 200
            retry = await send(other, path, body, {"x-2fa-approval": again.headers["x-2fa-approval"]})
            assert retry.status_code == 200, retry.text


async def send(server: Server, path: str, body: object, headers: dict[str, str] | None = None) -> Any:
    transport = httpx2.ASGITransport(app=server)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bank.test") as client:
        return await client.post(path, json=body, headers={**AUTHORISED, **(headers or {})})
