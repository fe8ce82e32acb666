"""``watchword migrate``, ``backup`` and ``restore``: what they say, and what no copy lets through."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.factories import ADA, NOW, make_token, make_user
from tests.serving.support import (
    ADA as ADA_CALLS,
    ADA_TOKEN,
    PAYMENT,
    environment,
    installation,
    put_private,
    run,
    served,
)
from tests.store.support import event, ready, spend
from watchword.domain.credential import Pin
from watchword.domain.decision import Change, EventName
from watchword.domain.instant import NEVER, after
from watchword.domain.token import TokenId
from watchword.domain.user import OpenToken, UserId
from watchword.methods.base import row
from watchword.methods.keyring import Keyring, Purpose
from watchword.serving.in_use import going_by
from watchword.serving.keys import KeyFile, new_key
from watchword.serving.upkeep import RefusedError, run_backup, run_migrate, run_restore
from watchword.store.backup import CopyError, copy
from watchword.store.sqlite import SqliteStore, UnusableFileError, migrate, migrations, pending

SERVER = "[server]\nport = 0\n"
APP = '[app]\ntarget = "bank:app"\n'
ANY_TIME = "[session]\nseconds = 300\n"
AUTHORISED = {"authorization": f"Bearer {ADA_TOKEN}"}
PIN = {"pin": "4713"}
STEPS = [f"{number:04}" for number in range(1, len(migrations()) + 1)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = installation(tmp_path / "i", SERVER, ADA_CALLS)
    # What `make_user` makes is sealed under these, by its first byte.
    with_keys(made, active=1, keys={number: new_key() for number in (1, *b"sd")})
    return made


def store_of(config: Path) -> Path:
    return config.parent / "watchword.db"


def in_store(file: Path, work: Callable[[SqliteStore], Any]) -> Any:
    async def doing() -> Any:
        store = SqliteStore.open(file)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(doing())


def with_steps(file: Path, count: int, *more: str) -> None:
    """Make a file of an earlier schema, or of a later one."""
    with closing(_opened(file)) as connection:
        migrate(connection, [*migrations()[:count], *more])


def _opened(file: Path) -> Any:
    import apsw  # noqa: PLC0415 - the one place that opens a file as no store does.

    return apsw.Connection(str(file))


def asked(config: Path, *, check: bool) -> bool:
    return asyncio.run(run_migrate(config, check=check))


# --- migrate --------------------------------------------------------------------------------------


def test_a_check_names_the_steps_and_takes_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_steps(store_of(config), 2)
    assert not asked(config, check=True)
    said = capsys.readouterr().out
    assert "2 steps to take: 0003_pages, 0004_shared_by_two_releases" in said
    assert pending(store_of(config)) == ["0003_pages", "0004_shared_by_two_releases"]
    assert asked(config, check=False)
    assert "took 0003_pages, 0004_shared_by_two_releases" in capsys.readouterr().out
    for check in (True, False):
        assert asked(config, check=check)
        assert "its schema is the newest" in capsys.readouterr().out


def test_a_store_that_is_not_there_yet_needs_every_step_and_is_not_made_by_a_check(config: Path) -> None:
    assert not asked(config, check=True)
    assert not store_of(config).exists()
    assert asked(config, check=False)
    assert asked(config, check=True)
    assert stat.S_IMODE(store_of(config).stat().st_mode) == 0o600


def test_as_a_command_it_exits_with_0_where_nothing_is_to_do_and_else_with_1(config: Path) -> None:
    with_steps(store_of(config), 1)
    check = ("migrate", "--config", config, "--check")
    assert (run(*check).returncode, run(*check).returncode) == (1, 1)
    assert run("migrate", "--config", config).returncode == 0
    assert run(*check).returncode == 0
    with_steps(store_of(config), len(STEPS), "CREATE TABLE later (a)")
    ended = run(*check)
    assert ended.returncode == 1
    assert "start the newer version that wrote it" in ended.stderr


@pytest.mark.parametrize(("content", "said"), [(b"no database at all" * 100, "is not an SQLite database")])
def test_what_is_no_store_is_a_clear_error(config: Path, content: bytes, said: str) -> None:
    store_of(config).write_bytes(content)
    for check in (True, False):
        with pytest.raises(RefusedError, match=said):
            asked(config, check=check)
    assert store_of(config).read_bytes() == content


def test_a_step_that_older_versions_can_live_with_lets_them_share_the_file(config: Path) -> None:
    """A rolling restart: the newer release takes its step while the older one serves, and may start again."""
    file = store_of(config)
    token, user = make_token(), make_user()
    in_store(file, lambda store: store.commit(Change(token=token, user=user)))
    older = len(migrations())
    shared = f"-- needs: {older}\nALTER TABLE user ADD COLUMN later TEXT"
    with_steps(file, older, shared)
    assert in_store(file, lambda store: store.user(ADA)) == user  # The older version, started once more.
    assert pending(file) == []
    with_steps(file, older, shared, "CREATE TABLE not_shared (a)")
    with pytest.raises(UnusableFileError, match="newer version"):
        SqliteStore.open(file)
    with pytest.raises(UnusableFileError, match="newer version"):
        pending(file)


@pytest.mark.parametrize(("needs", "opens"), [(-1, True), (0, True), (1, False)])
def test_a_version_shares_what_needs_no_newer_one_than_itself(config: Path, needs: int, opens: bool) -> None:
    with_steps(store_of(config), len(STEPS), f"-- needs: {len(STEPS) + needs}\nCREATE TABLE later (a)")
    if opens:
        in_store(store_of(config), lambda store: store.ping())
    else:
        with pytest.raises(UnusableFileError):
            SqliteStore.open(store_of(config))


def test_a_server_whose_file_gets_a_step_goes_on_and_starts_again(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", SERVER, APP, ADA_CALLS, PAYMENT, ANY_TIME)
    with served(config) as server:
        assert server.client.post("/v1/user/pin", json=PIN, headers=AUTHORISED).is_success
        with_steps(
            store_of(config), len(STEPS), f"-- needs: {len(STEPS)}\nALTER TABLE user ADD COLUMN later TEXT"
        )
        assert step_up(server.client) == 201
    with served(config) as server:
        assert server.client.post("/payments/1", headers=AUTHORISED).status_code in {201, 403}


def step_up(client: Any) -> int:
    ott = client.post("/payments/1", headers=AUTHORISED).headers["x-2fa-approval"]
    there = {**AUTHORISED, "One-Time-Token": ott}
    assert client.post("/v1/one-time-token/pin/verify", json=PIN, headers=there).status_code == 200
    status: int = client.post("/payments/1", headers={**AUTHORISED, "x-2fa-approval": ott}).status_code
    return status


# --- backup ---------------------------------------------------------------------------------------


def test_a_token_that_was_spent_after_a_backup_cannot_be_spent_after_the_restore(config: Path) -> None:
    file, target = store_of(config), config.parent / "copy.db"

    async def before(store: SqliteStore) -> None:
        await ready(store, b"spent later")
        await ready(store, b"never spent")
        open_ = (OpenToken(b"never spent", after(NOW, 900)),)
        user = replace(make_user(), open_tokens=open_, session_until=after(NOW, 300))
        assert await store.commit(Change(user=user))

    in_store(file, before)
    assert run_backup(config, target)
    assert in_store(file, lambda store: spend(store, TokenId(b"spent later")))
    for each in config.parent.glob("watchword.db*"):
        each.rename(config.parent / f"former-{each.name}")
    assert run_restore(config, target)

    async def after_it(store: SqliteStore) -> None:
        assert [await store.token(TokenId(each)) for each in (b"spent later", b"never spent")] == [None, None]
        user = await store.user(ADA)
        assert user is not None
        assert (user.session_until, user.open_tokens) == (NEVER, ())
        assert user.credentials == make_user().credentials

    in_store(file, after_it)


def test_neither_a_backup_nor_its_free_pages_hold_a_token(config: Path) -> None:
    names = [f"a token, number {number:04}".encode() for number in range(200)]

    async def issue(store: SqliteStore) -> None:
        for name in names:
            await ready(store, name)

    in_store(store_of(config), issue)
    assert names[0] in store_of(config).read_bytes()
    assert run_backup(config, config.parent / "copy.db")
    held = (config.parent / "copy.db").read_bytes()
    assert [name for name in names if name in held] == []


def test_a_backup_is_for_its_owner_alone_and_replaces_nothing(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_store(store_of(config), lambda store: store.commit(Change(user=make_user(), events=(event(),))))
    target = config.parent / "copy.db"
    assert run_backup(config, target)
    said = capsys.readouterr().out
    assert "1 users, 1 events; no tokens and no sessions" in said
    assert "the keys are not in it: keep keys.json and jose.pem too, but not beside it" in said
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = target.read_bytes()
    with pytest.raises(RefusedError, match="there already, and left as it is"):
        run_backup(config, target)
    assert target.read_bytes() == before
    link = config.parent / "link.db"
    link.symlink_to(config.parent / "nowhere.db")
    with pytest.raises(RefusedError, match="there already"):
        run_backup(config, link)
    left = {each.name for each in config.parent.iterdir() if "copy" in each.name or "nowhere" in each.name}
    assert left == {"copy.db"}


def test_a_backup_of_an_earlier_schema_can_be_made_before_it_is_upgraded(config: Path) -> None:
    with_steps(store_of(config), 1)
    assert run_backup(config, config.parent / "copy.db")
    assert len(pending(config.parent / "copy.db")) == len(STEPS) - 1
    assert len(pending(store_of(config))) == len(STEPS) - 1


async def test_a_backup_while_others_write_is_of_one_moment(tmp_path: Path) -> None:
    """Each change writes a user and an event together: a copy holds as many of the one as of the other."""
    store = SqliteStore.open(tmp_path / "store.db")
    begun, ended = asyncio.Event(), threading.Event()

    async def write() -> int:
        number = 0
        while not ended.is_set():
            number += 1
            user = make_user(id=UserId(number))
            assert await store.commit(Change(user=user, events=(event(),)))
            if number == 20:
                begun.set()
        return number

    writing = asyncio.create_task(write())
    await begun.wait()
    copies = [
        await asyncio.to_thread(copy, tmp_path / "store.db", tmp_path / f"copy{number}.db")
        for number in range(5)
    ]
    ended.set()
    written = await writing
    await store.close()
    assert all(20 <= each.users == each.events <= written for each in copies)
    assert len({each.users for each in copies}) > 1
    for number, each in enumerate(copies):
        reopened = SqliteStore.open(tmp_path / f"copy{number}.db")
        assert len(await reopened.users(limit=10**6)) == len(await reopened.events(limit=10**6)) == each.users
        await reopened.close()


@pytest.mark.parametrize("damage", ["missing", "foreign", "newer", "torn"])
def test_what_cannot_be_copied_leaves_nothing(config: Path, damage: str) -> None:
    file, target = store_of(config), config.parent / "copy.db"
    if damage == "foreign":
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE other (a)")
    elif damage != "missing":
        in_store(file, at_length)
    if damage == "newer":
        with_steps(file, len(STEPS), "CREATE TABLE later (a)")
    if damage == "torn":
        with file.open("r+b") as pages:
            pages.seek(4096 * 3)
            pages.write(os.urandom(4096 * 12))
    with pytest.raises(RefusedError):
        run_backup(config, target)
    assert list(config.parent.glob("*copy*")) == []


async def at_length(store: SqliteStore) -> None:
    for number in range(200):
        await store.commit(Change(user=make_user(id=UserId(number)), events=(event(),)))


def test_a_damaged_user_keeps_nobody_else_from_having_a_copy(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_store(store_of(config), at_length)
    with closing(sqlite3.connect(store_of(config))) as connection, connection:
        connection.execute("UPDATE user SET body = x'00' WHERE id = 7")
    assert not run_backup(config, config.parent / "copy.db")
    assert "WRONG: of 1 users what is stored is damaged" in capsys.readouterr().out
    assert in_store(config.parent / "copy.db", lambda store: store.user(UserId(8)))


CUT_OFF = """
import os, sys
from pathlib import Path
from watchword.store.backup import copy

left = int(sys.argv[3])

def counted(work):
    def counting(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return work(*args, **kwargs)
    return counting

os.fsync, os.link, os.unlink = map(counted, (os.fsync, os.link, os.unlink))
copy(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_backup_that_is_cut_off_anywhere_is_whole_or_not_there(config: Path) -> None:
    in_store(store_of(config), at_length)
    seen: set[bool] = set()
    ended = None
    for moment in range(10):
        target = config.parent / f"copy{moment}.db"
        arguments = [sys.executable, "-c", CUT_OFF, str(store_of(config)), str(target), str(moment)]
        ended = subprocess.run(arguments, env=environment(), capture_output=True, check=False, timeout=60)
        seen.add(target.exists())
        if target.exists():
            assert len(in_store(target, lambda store: store.users())) == 200
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert seen == {False, True}
    assert ended is not None
    assert ended.returncode == 0


# --- restore --------------------------------------------------------------------------------------


def put_away(config: Path) -> None:
    for each in config.parent.glob("watchword.db*"):
        each.rename(config.parent / f"former-{each.name}")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_is_restored_beside_what_is_left_of_the_former_store(config: Path, suffix: str) -> None:
    in_store(store_of(config), at_length)
    run_backup(config, config.parent / "copy.db")
    put_away(config)
    left = store_of(config).with_name(f"watchword.db{suffix}")
    left.write_bytes(b"what is left")
    with pytest.raises(RefusedError, match="move the former store away"):
        run_restore(config, config.parent / "copy.db")
    assert left.read_bytes() == b"what is left"
    left.unlink()
    assert run_restore(config, config.parent / "copy.db")


def test_nothing_is_restored_while_a_server_runs_or_without_keys(config: Path) -> None:
    in_store(store_of(config), at_length)
    run_backup(config, config.parent / "copy.db")
    put_away(config)
    with going_by(config.parent / "keys.json"), pytest.raises(RefusedError, match="stop every one first"):
        run_restore(config, config.parent / "copy.db")
    (config.parent / "keys.json").unlink()
    with pytest.raises(RefusedError, match="put back the keys"):
        run_restore(config, config.parent / "copy.db")
    assert not store_of(config).exists()


def with_keys(config: Path, **kept: Any) -> None:
    put_private(config.parent / "keys.json", msgspec.json.encode(KeyFile(**kept)))


def test_a_copy_whose_key_is_missing_is_not_restored_and_the_key_is_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a rotation: of two users one is sealed anew, and the older key is retired later."""
    file, target = store_of(config), config.parent / "copy.db"
    keys = {1: new_key(), 2: new_key()}

    for number in keys:
        bound_to = row(UserId(number), "pin")
        sealed = Keyring(keys, active=number).seal(Purpose.PIN, b"of no matter", bound_to=bound_to)
        pin = Pin(id="pin", sealed=sealed, enrolled_at=NOW)
        change = Change(user=replace(make_user(id=UserId(number)), credentials=(pin,)))
        in_store(file, lambda store: store.commit(change))  # noqa: B023 - called at once.
    assert run_backup(config, target)
    assert "of keys.json it takes key 1 and key 2 to open" in capsys.readouterr().out
    put_away(config)
    for kept, missing in (({2: keys[2]}, 1), ({1: keys[1]}, 2)):
        with_keys(config, active=next(iter(kept)), keys=kept)
        said = (
            rf"keys\.json: key {missing} is not in it.* from keys\.retired-{missing}\.json or the keys\.json"
        )
        with pytest.raises(RefusedError, match=said):
            run_restore(config, target)
        assert list(config.parent.glob("*watchword.db*")) == list(config.parent.glob("former-*"))
    with_keys(config, active=2, keys=keys)
    assert run_restore(config, target)
    assert in_store(file, lambda store: store.user(UserId(1))) is not None


@pytest.mark.parametrize("how", ["cp", "sqlite"])
def test_a_copy_that_was_made_in_another_way_is_restored_without_its_tokens(config: Path, how: str) -> None:
    file, other = store_of(config), config.parent / "other.db"
    in_store(file, ready)
    if how == "cp":
        other.write_bytes(file.read_bytes())
    else:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(other)) as copied:
            source.backup(copied)
    assert in_store(other, lambda store: store.token(TokenId(b"token"))) is not None
    put_away(config)
    assert run_restore(config, other)
    assert in_store(file, lambda store: store.token(TokenId(b"token"))) is None


def test_the_trail_says_that_it_was_restored_and_its_numbers_are_new(config: Path) -> None:
    file = store_of(config)
    in_store(file, at_length)
    run_backup(config, config.parent / "copy.db")
    in_store(file, lambda store: store.commit(Change(events=(event(), event()))))
    newest = in_store(file, lambda store: store.events(limit=1000))[-1][0]
    put_away(config)
    run_restore(config, config.parent / "copy.db")
    in_store(file, lambda store: store.commit(Change(events=(event(),))))
    since = in_store(file, lambda store: store.events(after=newest))
    assert [each.name for _, each in since] == [EventName.STORE_RESTORED, EventName.TOKEN_ISSUED]


def test_a_restore_from_nothing_makes_no_store(config: Path) -> None:
    with pytest.raises(RefusedError, match="there is no store"):
        run_restore(config, config.parent / "nowhere.db")
    assert not store_of(config).exists()


def test_a_copy_onto_itself_is_refused(tmp_path: Path) -> None:
    in_store(tmp_path / "store.db", ready)
    with pytest.raises(CopyError, match="there already"):
        copy(tmp_path / "store.db", tmp_path / "store.db")
    assert in_store(tmp_path / "store.db", lambda store: store.token(TokenId(b"token"))) is not None


# --- as commands ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_was_backed_up_while_it_was_served_is_served_again(tmp_path: Path) -> None:
    """And the token that was open then, and was spent since, lets nobody through."""
    config = installation(tmp_path / "i", SERVER, APP, ADA_CALLS, PAYMENT, "[session]\nseconds = 0\n")
    copied = tmp_path / "monday.db"
    with served(config) as server:
        assert server.client.post("/v1/user/pin", json=PIN, headers=AUTHORISED).is_success
        ott = server.client.post("/payments/1", headers=AUTHORISED).headers["x-2fa-approval"]
        there = {**AUTHORISED, "One-Time-Token": ott}
        passed = server.client.post("/v1/one-time-token/pin/verify", json=PIN, headers=there)
        assert passed.status_code == 200
        assert run("backup", "--config", config, copied).returncode == 0
        assert run("restore", "--config", config, copied).returncode == 1
        retry = {**AUTHORISED, "x-2fa-approval": ott}
        assert server.client.post("/payments/1", headers=retry).status_code == 201
    put_away(config)
    ended = run("restore", "--config", config, copied)
    assert ended.returncode == 0, ended.stderr
    with served(config) as server:
        assert server.client.post("/payments/1", headers=retry).status_code == 403
        assert server.client.get("/ran").json() == {"ran": 0}
        assert step_up(server.client) == 201


@pytest.mark.parametrize(
    "arguments", [("migrate",), ("backup", "--config", "x"), ("restore", "--config", "x")]
)
def test_what_makes_no_sense_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", ["keys", "migrate", "backup", "restore"])
def test_help_has_an_example(command: str) -> None:
    ended = run(command, "--help")
    assert ended.returncode == 0
    assert f"example: watchword {command} " in ended.stdout
