"""``--config`` and ``--data``: other policies, and what outlives a restart."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.sandbox.support import ADA_FINGERPRINT, PIN_AND_SMS, SMS, Person, client_of, error_code, new_ott
from watchword.config import parse
from watchword.sandbox.app import Sandbox, UnusableDataError, create
from watchword.sandbox.bank import OUTAGE


def _ada(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-ada", 435036)


# --- policy -----------------------------------------------------------------------------------

OWN_POLICY = """
[session]
seconds = 0

[[actions]]
name = "PROFILE__LIST"
risk = "low"
match = ["GET /v1/profiles", "POST /v1/no/such/thing"]
challenges = [["WHATSAPP"]]

[[actions]]
name = "MONEY__MOVE"
risk = "high"
match = ["POST /v3/profiles/{profileId}/transfers/{transferId}/payments"]
challenges = [["PARTNER_DEVICE_FINGERPRINT"], ["PIN"]]
spend = "on-success"
"""


async def test_actions_of_a_configuration_replace_the_sandboxs_own() -> None:
    async with create(parse(OWN_POLICY)) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        assert (await client.get("/sandbox/executions")).json() == {"PROFILE__LIST": 0, "MONEY__MOVE": 0}
        assert (await ada.get(ada.statement)).status_code == 200  # no action of this policy covers it
        ott = new_ott(await ada.get("/v1/profiles"))
        assert await ada.challenges(ott) == [["WHATSAPP"]]
        await ada.clear(ott, [("WHATSAPP", "111111")])
        answer = await ada.get("/v1/profiles", ott=ott)
        assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (200, "APPROVED")
        new_ott(await ada.get("/v1/profiles"))  # this policy has no session


async def test_a_protected_path_that_the_bank_does_not_have_is_404_once_approved() -> None:
    async with create(parse(OWN_POLICY)) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        ott = new_ott(await ada.call("POST", "/v1/no/such/thing"))
        await ada.clear(ott, [("WHATSAPP", "111111")])
        answer = await ada.call("POST", "/v1/no/such/thing", ott=ott)
        assert (answer.status_code, error_code(answer)) == (404, "not.found")
        assert set((await client.get("/sandbox/executions")).json().values()) == {0}


async def test_a_handler_that_fails_gives_its_token_back_where_the_policy_says_so() -> None:
    async with create(parse(OWN_POLICY)) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        path = f"/v3/profiles/435036/transfers/{OUTAGE}/payments"
        ott = new_ott(await ada.call("POST", path))
        await ada.clear(ott, [("PARTNER_DEVICE_FINGERPRINT", ADA_FINGERPRINT), ("PIN", "1234")])
        for ran in (1, 2):
            assert (await ada.call("POST", path, ott=ott)).status_code == 503
            assert (await client.get(f"/sandbox/tokens/{ott}")).json()["state"] == "cleared"
            counts = (await client.get("/sandbox/executions", params={"ott": ott})).json()
            assert counts["MONEY__MOVE"] == ran


async def test_a_configuration_without_actions_keeps_the_sandboxs_own() -> None:
    async with (
        create(parse("[session]\nseconds = 10\n[limits]\nresend_seconds = 0")) as sandbox,
        client_of(sandbox) as client,
    ):
        ada = _ada(client)
        ott = new_ott(await ada.get(ada.statement))
        for _ in range(3):
            assert (await ada.about("POST", "sms/trigger", ott)).status_code == 200
        await ada.about("POST", "sms/verify", ott, {"otpCode": "111111"})
        assert (await ada.get(ada.statement)).status_code == 200
        await client.post("/sandbox/clock", json={"advanceSeconds": 10})
        new_ott(await ada.get(ada.statement))


async def test_the_sandboxs_own_limits(sandbox: Sandbox) -> None:
    limits = sandbox.engine.limits
    assert (limits.token_seconds, limits.spend_within_seconds, limits.session_seconds) == (3600, None, 300)
    assert (limits.sends_per_number, limits.sends_per_token, limits.resend_seconds) == (1000, 5, 30)
    assert (limits.failures, limits.lock_seconds, limits.code_seconds) == (5, 900, 300)


# --- what is kept -----------------------------------------------------------------------------


async def test_with_a_data_directory_everything_but_the_outbox_outlives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "new" / "directory"
    async with create(data=data) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        await client.post(
            "/sandbox/users",
            json={"token": "mine", "profileIds": [8], "pin": "4321", "phoneNumber": "+6591234567"},
        )
        mine = Person(client, "mine", 8)
        spent = new_ott(await ada.pay())
        await ada.clear(spent, PIN_AND_SMS)
        assert (await ada.pay(ott=spent)).status_code == 201
        ready = new_ott(await mine.pay())
        await mine.clear(ready, [("PIN", "4321"), ("SMS", "111111")])
        moved = (await client.post("/sandbox/clock", json={"advanceSeconds": 1000})).json()["now"]

    async with create(data=data) as sandbox, client_of(sandbox) as client:
        ada, mine = _ada(client), Person(client, "mine", 8)
        new_ott(await ada.pay(ott=spent))
        assert (await client.get(f"/sandbox/tokens/{spent}")).json()["state"] == "spent"
        assert (await mine.pay(ott=ready)).status_code == 201
        counts = await client.get("/sandbox/executions")
        under = await client.get("/sandbox/executions", params={"ott": spent})
        assert (counts.json()["TRANSFER__FUND"], under.json()["TRANSFER__FUND"]) == (2, 1)
        assert (await client.post("/sandbox/clock", json={"advanceSeconds": 0})).json()["now"] >= moved
        assert (await client.get("/sandbox/outbox")).json() == []
        application = await Person(client, "demo-application", 0).get("/v1/me")
        assert application.status_code == 403
        assert (await client.get("/sandbox")).status_code == 200


async def test_a_replaced_demo_user_stays_replaced_over_a_restart(tmp_path: Path) -> None:
    async with create(data=tmp_path) as sandbox, client_of(sandbox) as client:
        await client.post("/sandbox/users", json={"token": "demo-ada", "pin": "7777"})
    async with create(data=tmp_path) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        assert await ada.challenges(new_ott(await ada.get(ada.statement))) == [["PIN"]]


async def test_a_first_start_that_was_cut_short_begins_anew(tmp_path: Path) -> None:
    async with create(data=tmp_path):
        pass
    with sqlite3.connect(tmp_path / "sandbox.db") as ledger:
        ledger.execute("DELETE FROM bearers WHERE kind = 'application' OR user_id = 6146957")
    async with create(data=tmp_path) as sandbox, client_of(sandbox) as client:
        grace = Person(client, "demo-grace", 435037)
        new_ott(await grace.get(grace.statement))


async def test_reset_empties_a_data_directory_but_for_its_keys(tmp_path: Path) -> None:
    async with create(data=tmp_path) as sandbox, client_of(sandbox) as client:
        keys = (tmp_path / "keys.json").read_bytes()
        ada = _ada(client)
        ott = new_ott(await ada.get(ada.statement))
        await client.post("/sandbox/users", json={"token": "mine"})
        assert (await client.post("/sandbox/reset")).status_code == 200
        assert (await client.get(f"/sandbox/tokens/{ott}")).status_code == 404
        assert (await Person(client, "mine", 1).get("/v1/me")).status_code == 401
        await ada.clear(new_ott(await ada.get(ada.statement)), SMS)
        assert (tmp_path / "keys.json").read_bytes() == keys


@pytest.mark.parametrize("kept", [True, False])
async def test_requests_around_a_reset_are_answered_by_one_world_or_the_other(
    tmp_path: Path, *, kept: bool
) -> None:
    policy = parse("[session]\nseconds = 0")
    async with create(policy, tmp_path if kept else None) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)

        async def read() -> int:
            ott = new_ott(await ada.get(ada.statement))
            verified = await ada.answer("PIN", ott, "1234")
            answer = await ada.get(ada.statement, ott=ott)
            assert verified.status_code in {200, 404}
            assert answer.status_code in {200, 403}
            return answer.status_code

        async def reset() -> int:
            return (await client.post("/sandbox/reset")).status_code

        for _ in range(3):
            done = await asyncio.gather(*(read() if number % 5 else reset() for number in range(20)))
            assert done[::5] == [200] * 4
        counts = (await client.get("/sandbox/executions")).json()
        assert counts["BALANCE__GET_STATEMENT"] <= 16


async def test_a_reset_waits_for_what_is_under_way(sandbox: Sandbox, ada: Person) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncGenerator[bytes]:
        arrived.set()
        await go_on.wait()
        yield b"{}"

    async with asyncio.TaskGroup() as tasks:
        payment = tasks.create_task(
            ada.call("POST", ada.payment, content=slow_body(), headers={"content-length": "2"})
        )
        await arrived.wait()
        old = sandbox.world
        resetting = tasks.create_task(ada.client.post("/sandbox/reset"))
        later = tasks.create_task(ada.get(ada.statement))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not resetting.done()
        assert not later.done()
        assert sandbox.world is old
        go_on.set()
    assert sandbox.world is not old
    assert resetting.result().status_code == 200
    new_ott(payment.result())
    new_ott(later.result())


@pytest.mark.parametrize("kept", [True, False])
async def test_what_outlasts_the_world_it_came_to_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """A reset waits for a slow upload, but not for ever; what comes late then was not done."""
    monkeypatch.setattr("watchword.sandbox.app.DRAIN_SECONDS", 0.01)
    arrived, go_on = asyncio.Barrier(3), asyncio.Event()

    async def slowly(body: bytes) -> AsyncGenerator[bytes]:
        yield body[:-1]
        await arrived.wait()
        await go_on.wait()
        yield body[-1:]

    async with create(data=tmp_path if kept else None) as sandbox, client_of(sandbox) as client:
        ada, user = _ada(client), b'{"token":"late"}'
        ott = new_ott(await ada.call("POST", ada.payment, content=b"{}"))
        await ada.clear(ott, PIN_AND_SMS)
        async with asyncio.TaskGroup() as tasks:
            length = {"content-length": "2"}
            payment = tasks.create_task(
                ada.call("POST", ada.payment, ott=ott, content=slowly(b"{}"), headers=length)
            )
            length = {"content-length": str(len(user)), "content-type": "application/json"}
            making = tasks.create_task(client.post("/sandbox/users", content=slowly(user), headers=length))
            await arrived.wait()
            assert (await client.post("/sandbox/reset")).status_code == 200
            go_on.set()
        for late in (payment.result(), making.result()):
            assert (late.status_code, error_code(late)) == (503, "service.unavailable")
        assert (await Person(client, "late", 1).get("/v1/me")).status_code == 401
        assert set((await client.get("/sandbox/executions")).json().values()) == {0}


async def test_nothing_secret_is_kept_in_clear_text_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with create(data=data) as sandbox, client_of(sandbox) as client:
        ada = _ada(client)
        await client.post("/sandbox/users", json={"token": "my-own-secret-token", "pin": "8642"})
        ott = new_ott(await ada.get(ada.statement))
        await ada.clear(ott, SMS)
        await ada.get(ada.statement, ott=ott)
        # While it runs, so that the write-ahead logs are looked through as well.
        kept = {path.name: path.read_bytes() for path in data.iterdir()}
        modes = {path.name: path.stat().st_mode & 0o077 for path in (data, *data.iterdir())}
    for secret in ("demo-ada", "my-own-secret-token", "+6588888888", "88888888", ADA_FINGERPRINT, ott):
        for name, content in kept.items():
            assert secret.encode() not in content, name
    assert set(modes.values()) == {0}, modes


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"active":1,"keys":{}}',
        '{"active":1,"keys":{"1":"c2hvcnQ="}}',
        '{"active":1,"keys":{"1":"?"}}',
    ],
)
async def test_a_broken_key_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(content)
    with pytest.raises(UnusableDataError, match=r"keys\.json"):
        await create(data=tmp_path).start()
    assert keys.read_text() == content


@pytest.mark.parametrize("content", [None, "{"])
async def test_a_reset_that_could_not_start_again_leaves_everything_as_it_is(
    tmp_path: Path, content: str | None
) -> None:
    keys = tmp_path / "keys.json"
    async with create(data=tmp_path) as sandbox, client_of(sandbox) as client:
        ada, kept = _ada(client), keys.read_bytes()
        ott = new_ott(await ada.get(ada.statement))
        if content is None:
            keys.unlink()
        else:
            keys.write_text(content)
        assert (await client.post("/sandbox/reset")).status_code == 500
        await ada.clear(ott, SMS)
        assert (await ada.get(ada.statement, ott=ott)).status_code == 200
        keys.write_bytes(kept)
        assert (await client.post("/sandbox/reset")).status_code == 200
        assert (await client.get(f"/sandbox/tokens/{ott}")).status_code == 404


async def test_a_key_file_that_is_gone_is_missed_and_no_other_takes_its_place(tmp_path: Path) -> None:
    async with create(data=tmp_path):
        pass
    (tmp_path / "keys.json").unlink()
    with pytest.raises(UnusableDataError, match="missing"):
        await create(data=tmp_path).start()
    assert not (tmp_path / "keys.json").exists()


async def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()
    with pytest.raises(UnusableDataError, match=r"keys\.json: Is a directory"):
        await create(data=tmp_path).start()


async def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(UnusableDataError, match="file"):
        await create(data=place).start()


@pytest.mark.parametrize("name", ["watchword.db", "sandbox.db"])
async def test_a_file_that_is_no_database_is_named(tmp_path: Path, name: str) -> None:
    async with create(data=tmp_path):
        pass
    (tmp_path / name).write_bytes(b"no database" * 1000)
    with pytest.raises(UnusableDataError, match=name):
        await create(data=tmp_path).start()


# --- life -------------------------------------------------------------------------------------


async def test_a_server_starts_and_stops_it_by_lifespan(tmp_path: Path) -> None:
    sandbox = create(data=tmp_path)
    said: list[Any] = []
    coming = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        said.append("waits")
        return next(coming)

    async def send(message: Any) -> None:
        said.append(message["type"])

    await sandbox.app({"type": "lifespan"}, receive, send)
    assert said == ["waits", "lifespan.startup.complete", "waits", "lifespan.shutdown.complete"]


async def test_a_start_that_fails_is_told_to_the_server(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with pytest.raises(UnusableDataError):
        await create(data=tmp_path).app({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in told] == ["lifespan.startup.failed"]
