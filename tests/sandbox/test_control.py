"""The control API: every call, and what it refuses."""

import math
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.sandbox.support import ADA_FINGERPRINT, PIN_AND_SMS, SMS, Person, error_code, new_ott
from watchword.sandbox.app import Sandbox

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ACTIONS = {"BALANCE__GET_STATEMENT", "TRANSFER__FUND", "BATCH__FUND"}


# --- every answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/sandbox", "/sandbox/outbox", "/v1/me", "/nope", "/v1/one-time-token/status", "/openapi.json"]
)
async def test_every_answer_says_that_this_is_the_sandbox(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["x-watchword-sandbox"] == "true"
    assert len(answer.headers["x-trace-id"]) == 32


@pytest.mark.parametrize("path", ["users", "clock", "reset"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_controls_nothing(client: httpx2.AsyncClient, path: str, site: str) -> None:
    answer = await client.post(f"/sandbox/{path}", json={}, headers={"sec-fetch-site": site})
    assert (answer.status_code, error_code(answer)) == (403, "sandbox.cross.site")


# --- outbox -----------------------------------------------------------------------------------


async def test_messages_are_listed_in_order_for_one_user_or_for_all(
    client: httpx2.AsyncClient, ada: Person, grace: Person
) -> None:
    adas = new_ott(await ada.get(ada.statement))
    graces = new_ott(await grace.get(grace.statement))
    await ada.about("POST", "sms/trigger", adas)
    await grace.about("POST", "voice/trigger", graces)
    await ada.about("POST", "whatsapp/trigger", adas)

    everybody = (await client.get("/sandbox/outbox")).json()
    assert [(message["channel"], message["to"]) for message in everybody] == [
        ("SMS", "+6588888888"),
        ("VOICE", "+447700900123"),
        ("WHATSAPP", "+6588888888"),
    ]
    assert all(set(message) == {"channel", "to", "text", "code", "sentAt"} for message in everybody)
    assert all(message["code"] == "111111" and "111111" in message["text"] for message in everybody)
    assert all(datetime.fromisoformat(message["sentAt"]).tzinfo is not None for message in everybody)
    assert (await client.get("/sandbox/outbox?userId=6146957")).json() == [everybody[1]]
    assert (await client.get("/sandbox/outbox?userId=1")).json() == []


@pytest.mark.parametrize("user_id", ["", "x", "-1", "1.5", "٣", "1" * 17])
async def test_the_outbox_of_what_is_no_user_id_is_malformed(
    client: httpx2.AsyncClient, user_id: str
) -> None:
    answer = await client.get("/sandbox/outbox", params={"userId": user_id})
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")


# --- clock ------------------------------------------------------------------------------------


async def test_the_clock_moves_forward_and_says_what_time_it_is(client: httpx2.AsyncClient) -> None:
    before = await client.post("/sandbox/clock", json={"advanceSeconds": 0})
    after = await client.post("/sandbox/clock", json={"advanceSeconds": 901.5})
    assert before.status_code == after.status_code == 200
    moved = datetime.fromisoformat(after.json()["now"]) - datetime.fromisoformat(before.json()["now"])
    assert 901.5 <= moved.total_seconds() < 930


@pytest.mark.parametrize(
    "body",
    [
        '{"advanceSeconds":-1}',
        '{"advanceSeconds":-0.001}',
        '{"advanceSeconds":NaN}',
        '{"advanceSeconds":Infinity}',
        '{"advanceSeconds":1e308}',
        '{"advanceSeconds":1e400}',
        '{"advanceSeconds":9007199254740993}',
        '{"advanceSeconds":9007199254740992}',
        '{"advanceSeconds":"1"}',
        '{"advanceSeconds":true}',
        '{"advanceSeconds":null}',
        '{"advanceSeconds":[1]}',
        '{"advanceSeconds":1,"advanceSeconds":2}',
        '{"advanceSeconds":1,"backwards":true}',
        "{}",
        "[]",
        "1",
        "",
        "{",
    ],
)
async def test_the_clock_is_moved_by_a_sane_number_of_seconds_only(
    client: httpx2.AsyncClient, sandbox: Sandbox, body: str
) -> None:
    answer = await client.post("/sandbox/clock", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")
    assert sandbox.world.clock.moved_ms == 0


async def test_the_clock_stops_before_dates_do(client: httpx2.AsyncClient) -> None:
    century = 100 * 366 * 24 * 60 * 60
    assert (await client.post("/sandbox/clock", json={"advanceSeconds": century})).status_code == 200
    assert (await client.post("/sandbox/clock", json={"advanceSeconds": 1})).status_code == 400
    assert (await client.get("/sandbox")).status_code == 200


async def test_a_lock_ends_by_the_products_clock(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    for left in (4, 3, 2, 1, 0):
        wrong = await ada.answer("PIN", ott, "9999")
        assert wrong.json()["errors"][0]["arguments"] == [left]
    locked = await ada.get(ada.statement)
    assert (locked.status_code, error_code(locked)) == (429, "sca.locked")
    assert locked.headers["retry-after"] == "900"
    await client.post("/sandbox/clock", json={"advanceSeconds": 901})
    new_ott(await ada.get(ada.statement))


# --- executions -------------------------------------------------------------------------------


async def test_what_never_ran_is_counted_as_nought(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/sandbox/executions")).json() == dict.fromkeys(ACTIONS, 0)


async def test_only_what_really_ran_is_counted(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.get("/v1/profiles")
    await ada.get(ada.statement, ott=ott)  # not cleared
    assert set((await client.get("/sandbox/executions")).json().values()) == {0}
    fresh = new_ott(await ada.get(ada.statement))
    await ada.clear(fresh, SMS)
    await ada.get(ada.statement, ott=fresh)
    await ada.get(ada.statement)  # in session, without an OTT
    counts = await client.get("/sandbox/executions")
    under = await client.get("/sandbox/executions", params={"ott": fresh})
    other = await client.get("/sandbox/executions", params={"ott": ott})
    assert counts.json()["BALANCE__GET_STATEMENT"] == 2
    assert under.json()["BALANCE__GET_STATEMENT"] == 1
    assert set(other.json().values()) == {0}


async def test_batches_are_counted_by_themselves(client: httpx2.AsyncClient, ada: Person) -> None:
    path = f"/v3/profiles/{ada.profile}/batch-payments/54a6bc09-cef9-49a8-9041-f1f0c654cd88/payments"
    ott = new_ott(await ada.call("POST", path))
    await ada.clear(ott, PIN_AND_SMS)
    assert (await ada.call("POST", path, ott=ott)).status_code == 201
    counts = (await client.get("/sandbox/executions")).json()
    assert counts == {"BALANCE__GET_STATEMENT": 0, "TRANSFER__FUND": 0, "BATCH__FUND": 1}


@pytest.mark.parametrize("ott", ["", "x", UNKNOWN.upper().replace("0", "A"), f" {UNKNOWN}", f"{UNKNOWN}\n"])
async def test_executions_of_what_is_no_ott_are_malformed(client: httpx2.AsyncClient, ott: str) -> None:
    answer = await client.get("/sandbox/executions", params={"ott": ott})
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")


# --- tokens -----------------------------------------------------------------------------------


async def _shown(client: httpx2.AsyncClient, ott: str) -> dict[str, Any]:
    answer = await client.get(f"/sandbox/tokens/{ott}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_token_is_shown_through_its_life(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.pay())
    issued = await _shown(client, ott)
    assert issued["state"] == "pending"
    assert (issued["userId"], issued["action"], issued["risk"]) == (6146956, "TRANSFER__FUND", "high")
    assert issued["binding"]["to"] == "request"
    assert (issued["binding"]["method"], issued["binding"]["path"]) == ("POST", ada.payment)
    life = datetime.fromisoformat(issued["expiresAt"]) - datetime.fromisoformat(issued["issuedAt"])
    assert life.total_seconds() == 3600
    assert [challenge["passed"] for challenge in issued["challenges"]] == [False, False]

    await ada.about("POST", "sms/trigger", ott)
    triggered = await _shown(client, ott)
    assert triggered["code"]["channel"] == "SMS"
    assert [(sends["channel"], sends["count"]) for sends in triggered["sends"]] == [("SMS", 1)]
    await ada.about("POST", "sms/verify", ott, {"otpCode": "999999"})
    assert (await _shown(client, ott))["code"]["wrongTries"] == 1

    await ada.about("POST", "sms/verify", ott, {"otpCode": "111111"})
    await ada.answer("PIN", ott, "1234")
    cleared = await _shown(client, ott)
    assert cleared["state"] == "cleared"
    assert cleared["clearedAt"] >= issued["issuedAt"]
    assert [challenge["passedBy"] for challenge in cleared["challenges"]] == ["PIN", "SMS"]

    await ada.pay(ott=ott)
    spent = await _shown(client, ott)
    assert spent["state"] == "spent"
    assert spent["spentAt"] >= cleared["clearedAt"]


async def test_a_token_is_shown_as_expired_and_as_revoked(client: httpx2.AsyncClient, ada: Person) -> None:
    changed, left = new_ott(await ada.pay()), new_ott(await ada.pay())
    await ada.pay(ott=changed, body={"type": "OTHER"})
    revoked = await _shown(client, changed)
    assert (revoked["state"], revoked["revokedBecause"]) == ("revoked", "other-request")
    await client.post("/sandbox/clock", json={"advanceSeconds": 3600})
    assert (await _shown(client, left))["state"] == "expired"


async def test_a_shown_token_holds_no_secret(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.pay())
    await ada.about("POST", "sms/trigger", ott)
    text = (await client.get(f"/sandbox/tokens/{ott}")).text
    for secret in ("111111", "1234", "+6588888888", "88888888", ADA_FINGERPRINT, "demo-ada"):
        assert secret not in text
    assert "digest" not in text


@pytest.mark.parametrize("ott", [UNKNOWN, "x", "%F0%9F%98%80", "a" * 3000])
async def test_an_unknown_token_is_404(client: httpx2.AsyncClient, ott: str) -> None:
    answer = await client.get(f"/sandbox/tokens/{ott}")
    assert (answer.status_code, error_code(answer)) == (404, "ott.not.found")


async def test_a_path_with_a_control_character_is_malformed_before_anything_is_looked_up(
    client: httpx2.AsyncClient,
) -> None:
    for ott in ("%00", "x%0A", "%7F"):
        answer = await client.get(f"/sandbox/tokens/{ott}")
        assert (answer.status_code, error_code(answer)) == (400, "request.malformed"), ott


# --- reset ------------------------------------------------------------------------------------


async def test_reset_goes_back_to_the_start(
    client: httpx2.AsyncClient, ada: Person, sandbox: Sandbox
) -> None:
    await client.post("/sandbox/users", json={"token": "mine", "pin": "1234"})
    await client.post("/sandbox/users", json={"token": "demo-ada", "pin": "9999"})
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, [("PIN", "9999")])
    await ada.get(ada.statement, ott=ott)
    await client.post("/sandbox/clock", json={"advanceSeconds": 86400})

    answer = await client.post("/sandbox/reset")
    assert answer.status_code == 200
    assert math.isclose(
        datetime.fromisoformat(answer.json()["now"]).timestamp() * 1000,
        sandbox.engine.clock.now(),
        abs_tol=10_000,
    )
    assert sandbox.world.clock.moved_ms == 0
    assert (await client.get("/sandbox/outbox")).json() == []
    assert set((await client.get("/sandbox/executions")).json().values()) == {0}
    assert (await client.get(f"/sandbox/tokens/{ott}")).status_code == 404
    assert (await Person(client, "mine", 700001).get("/v1/me")).status_code == 401
    fresh = new_ott(await ada.get(ada.statement))  # no session is left
    await ada.clear(fresh, [("PIN", "1234")])  # and her PIN is what it was


async def test_reset_ends_a_lock(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    for _ in range(5):
        await ada.answer("PIN", ott, "9999")
    assert (await ada.get(ada.statement)).status_code == 429
    await client.post("/sandbox/reset")
    new_ott(await ada.get(ada.statement))
