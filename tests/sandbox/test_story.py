"""The main job from end to end, as somebody with curl does it (issue 2, «Done when» 2)."""

import asyncio
from typing import NoReturn

import httpx2
import pytest

from tests.sandbox.support import PIN_AND_SMS, SMS, Person, error_code, new_ott
from watchword.sandbox.app import Sandbox
from watchword.store.base import StoreUnavailableError


async def test_ada_reads_her_statement_and_pays_once(  # noqa: PLR0915 - a story has its length.
    client: httpx2.AsyncClient, ada: Person, grace: Person
) -> None:
    # Her statement asks for step-up; the 403 serves both published shapes.
    refused = await ada.get(ada.statement)
    ott = new_ott(refused)
    assert refused.json()["status"] == 403
    assert refused.json()["error"] == "Forbidden"
    assert refused.json()["path"] == ada.statement

    # Status lists one challenge, which SMS would pass.
    (challenge,) = await ada.challenges(ott)
    assert "SMS" in challenge
    triggered = await ada.about("POST", "sms/trigger", ott)
    assert triggered.json() == {"obfuscatedPhoneNo": "*********8888"}
    verified = await ada.about("POST", "sms/verify", ott, {"otpCode": "111111"})
    assert verified.json()["oneTimeTokenProperties"]["challenges"] == []

    # The same call is let through, and for 300 seconds the next one needs nothing.
    approved = await ada.get(ada.statement, ott=ott)
    assert approved.status_code == 200
    assert approved.headers["x-2fa-approval-result"] == "APPROVED"
    assert "x-2fa-approval" not in approved.headers
    in_session = await ada.get(ada.statement)
    assert in_session.status_code == 200
    assert in_session.headers["x-2fa-approval-result"] == "APPROVED"

    await client.post("/sandbox/clock", json={"advanceSeconds": 301})
    new_ott(await ada.get(ada.statement))

    # A payment asks for two factors of different kinds, and runs once.
    ott = new_ott(await ada.pay())
    assert await ada.challenges(ott) == [
        ["PIN"],
        ["SMS", "WHATSAPP", "VOICE", "PARTNER_DEVICE_FINGERPRINT"],
    ]
    await ada.clear(ott, PIN_AND_SMS)
    paid = await ada.pay(ott=ott)
    assert paid.status_code == 201
    assert paid.headers["x-2fa-approval-result"] == "APPROVED"
    assert paid.json() == {"type": "BALANCE", "status": "COMPLETED", "errorCode": None}

    # Every other token gets a new one in its place, and nothing runs again.
    seen = {ott}

    async def refuse_with_another(answer: httpx2.Response) -> str:
        another = new_ott(answer)
        assert another not in seen
        seen.add(another)
        return another

    await refuse_with_another(await ada.pay(ott=ott))  # spent

    ready = await refuse_with_another(await ada.pay())
    await ada.clear(ready, PIN_AND_SMS)
    await refuse_with_another(await ada.pay(ott=ready, body={"type": "BALANCE", "amount": 1}))  # another body
    await refuse_with_another(await ada.pay(ott=ready))  # which voided it

    graces = new_ott(await grace.get(grace.statement))
    await grace.clear(graces, SMS)
    await refuse_with_another(await ada.pay(ott=graces))  # another user's

    unfinished = await refuse_with_another(await ada.pay())
    await ada.clear(unfinished, [("PIN", "1234")])
    await refuse_with_another(await ada.pay(ott=unfinished))

    expiring = await refuse_with_another(await ada.pay())
    await ada.clear(expiring, PIN_AND_SMS)
    await client.post("/sandbox/clock", json={"advanceSeconds": 3601})
    await refuse_with_another(await ada.pay(ott=expiring))

    executions = (await client.get("/sandbox/executions")).json()
    assert executions == {"BALANCE__GET_STATEMENT": 2, "TRANSFER__FUND": 1, "BATCH__FUND": 0}
    assert (await grace.get(grace.statement, ott=graces)).status_code == 403  # an hour later
    under = await client.get("/sandbox/executions", params={"ott": ott})
    assert under.json() == {"BALANCE__GET_STATEMENT": 0, "TRANSFER__FUND": 1, "BATCH__FUND": 0}


async def test_another_users_attempt_leaves_a_token_as_it_was(ada: Person, grace: Person) -> None:
    ott = new_ott(await ada.pay())
    await ada.clear(ott, PIN_AND_SMS)
    stolen = await grace.pay(ott=ott)
    assert stolen.status_code == 403  # Grace has not enrolled enough to be given a token of her own.
    assert (await ada.pay(ott=ott)).status_code == 201


async def test_a_token_for_one_request_is_not_good_for_the_same_action_elsewhere(ada: Person) -> None:
    ott = new_ott(await ada.pay())
    await ada.clear(ott, PIN_AND_SMS)
    elsewhere = ada.payment.replace("16521632", "16521633")
    new_ott(await ada.call("POST", elsewhere, ott=ott, json={"type": "BALANCE"}))


async def test_a_low_risk_retry_may_have_another_query(ada: Person) -> None:
    ott = new_ott(await ada.get(f"{ada.statement}?currency=EUR"))
    await ada.clear(ott, SMS)
    answer = await ada.get(f"{ada.statement}?currency=GBP", ott=ott)
    assert answer.status_code == 200
    assert answer.json()["query"]["currency"] == "GBP"


async def test_who_lacks_a_second_factor_is_told_what_would_do(grace: Person) -> None:
    answer = await grace.pay()
    assert answer.status_code == 403
    assert answer.headers["x-2fa-approval-result"] == "REJECTED"
    assert "x-2fa-approval" not in answer.headers
    error = answer.json()["errors"][0]
    assert error["code"] == "sca.enrolment.required"
    assert "PIN" in error["arguments"]


async def test_a_personal_token_is_asked_for_a_signature_at_any_risk(signer: Person) -> None:
    for refused in (await signer.get(signer.statement), await signer.pay()):
        assert await signer.challenges(new_ott(refused)) == [["SIGNATURE"]]


async def test_nobody_is_let_through_while_the_store_cannot_answer(
    sandbox: Sandbox, ada: Person, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, SMS)

    async def fail(*_: object) -> NoReturn:
        raise StoreUnavailableError("the disk is gone")

    for name in ("token", "user", "commit"):
        monkeypatch.setattr(sandbox.store, name, fail)
    for answer in (
        await ada.get(ada.statement),
        await ada.get(ada.statement, ott=ott),
        await ada.about("GET", "status", ott),
        await ada.about("POST", "sms/trigger", ott),
        await client.get(f"/sandbox/tokens/{ott}"),
        await client.post("/sandbox/users", json={"token": "mine"}),
    ):
        assert (answer.status_code, error_code(answer)) == (503, "service.unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert set((await client.get("/sandbox/executions")).json().values()) == {0}


async def test_of_many_who_race_with_one_token_one_is_let_through(
    client: httpx2.AsyncClient, ada: Person
) -> None:
    ott = new_ott(await ada.pay())
    await ada.clear(ott, PIN_AND_SMS)
    answers = await asyncio.gather(*(ada.pay(ott=ott) for _ in range(64)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201, *[403] * 63]
    otts = [answer.headers["x-2fa-approval"] for answer in answers if answer.status_code == 403]
    assert len({*otts, ott}) == 64
    under = (await client.get("/sandbox/executions", params={"ott": ott})).json()
    assert under["TRANSFER__FUND"] == 1
