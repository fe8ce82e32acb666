"""The demo bank: open to its customers, each in his own profiles, in the public API's shapes."""

import csv
import io
import json
from typing import NoReturn

import httpx2
import pytest

from tests.sandbox.support import ORIGIN, SMS, Person, error_code, new_ott
from watchword.engine.engine import identify
from watchword.sandbox.app import Sandbox
from watchword.sandbox.bank import OUTAGE
from watchword.sandbox.ledger import Ledger
from watchword.sandbox.world import ACTIONS

OPEN = (
    "/v1/profiles",
    "/v2/profiles",
    "/v1/me",
    "/v1/borderless-accounts?profileId=435036",
    "/v4/profiles/435036/balances?types=STANDARD",
    "/v1/transfers/16521632",
    "/v1/rates",
)
STATEMENTS = (
    "/v1/profiles/{}/balance-statements/200001/statement.json",
    "/v1/profiles/{}/balance-statements/200001/statement.csv",
    "/v3/profiles/{}/borderless-accounts/64/statement.json",
)
PAYMENTS = (
    "/v3/profiles/{}/transfers/16521632/payments",
    "/v3/profiles/{}/batch-payments/54a6bc09-cef9-49a8-9041-f1f0c654cd88/payments",
)
PROTECTED = [*(("GET", path) for path in STATEMENTS), *(("POST", path) for path in PAYMENTS)]


@pytest.mark.parametrize("path", OPEN)
async def test_open_endpoints_ask_for_no_step_up(ada: Person, path: str) -> None:
    answer = await ada.get(path)
    assert answer.status_code == 200
    assert "x-2fa-approval-result" not in answer.headers


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer nobody"}, {"authorization": "Basic ZGVtbw=="}]
)
async def test_open_endpoints_are_for_customers_only(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_token"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_protected_endpoints_without_a_token_are_unauthenticated(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path.format(435036))
    assert answer.status_code == 401
    assert "x-2fa-approval" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [*PROTECTED, ("GET", "/v4/profiles/{}/balances")])
@pytest.mark.parametrize("profile", ["435037", "1", "0435036", "435036 ", "-435036", "x", "9" * 5000])
async def test_another_profile_is_forbidden_before_anybody_is_asked_for_a_code(
    ada: Person, method: str, path: str, profile: str
) -> None:
    answer = await ada.call(method, path.format(profile))
    assert answer.status_code == 403
    assert error_code(answer) == "profile.not.allowed"
    assert "x-2fa-approval-result" not in answer.headers


async def test_another_profile_is_forbidden_in_the_query_too(ada: Person) -> None:
    answer = await ada.get("/v1/borderless-accounts?profileId=435037")
    assert (answer.status_code, error_code(answer)) == (403, "profile.not.allowed")


async def test_accounts_need_to_be_asked_for_by_profile(ada: Person) -> None:
    answer = await ada.get("/v1/borderless-accounts")
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")
    assert answer.json()["errors"][0]["path"] == "profileId"


@pytest.mark.parametrize("path", OPEN)
async def test_an_application_is_no_customer(client: httpx2.AsyncClient, path: str) -> None:
    application = Person(client, "demo-application", 435036)
    answer = await application.get(path)
    assert answer.status_code == 403
    assert "x-2fa-approval" not in answer.headers


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_every_protected_endpoint_asks_for_step_up(ada: Person, method: str, path: str) -> None:
    new_ott(await ada.call(method, path.format(ada.profile)))


async def test_repeated_slashes_are_no_way_round_the_guard(ada: Person, grace: Person) -> None:
    path = f"{ORIGIN}//v1///profiles//{ada.profile}/balance-statements/200001//statement.json"
    new_ott(await ada.get(path))
    answer = await grace.get(path)
    assert error_code(answer) == "profile.not.allowed"


async def test_head_of_a_statement_is_protected_as_the_statement_is(ada: Person) -> None:
    answer = await ada.call("HEAD", ada.statement)
    assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (403, "REJECTED")


async def test_profiles_are_the_callers_own_in_both_shapes(ada: Person, grace: Person) -> None:
    assert [(entry["id"], entry["type"]) for entry in (await ada.get("/v1/profiles")).json()] == [
        (435036, "personal")
    ]
    (profile,) = (await grace.get("/v2/profiles")).json()
    assert (profile["id"], profile["userId"], profile["type"]) == (435037, 6146957, "PERSONAL")
    assert (await ada.get("/v1/me")).json()["id"] == 6146956


async def test_amounts_are_numbers_with_a_decimal_point(ada: Person) -> None:
    for path in ("/v4/profiles/435036/balances?types=STANDARD", "/v1/transfers/7"):
        text = (await ada.get(path)).text
        assert ":0.0" in text
        assert all(isinstance(amount, float) for amount in _amounts(json.loads(text)))
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, SMS)
    assert all(
        isinstance(amount, float) for amount in _amounts((await ada.get(ada.statement, ott=ott)).json())
    )


def _amounts(document: object) -> list[object]:
    match document:
        case dict():
            inner = [amount for value in document.values() for amount in _amounts(value)]
            return [
                document[key] for key in ("value", "sourceValue", "targetValue") if key in document
            ] + inner
        case list():
            return [amount for value in document for amount in _amounts(value)]
        case _:
            return []


async def test_a_statement_adds_up(ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, SMS)
    statement = (await ada.get(ada.statement, ott=ott)).json()
    running = 0.0
    for transaction in statement["transactions"]:
        running = round(running + transaction["amount"]["value"], 2)
        assert transaction["runningBalance"]["value"] == running
    assert statement["endOfStatementBalance"] == {"value": running, "currency": "EUR"}
    assert statement["accountHolder"]["firstName"] == "Ada"
    assert statement["query"]["accountId"] == 200001


async def test_the_table_says_what_the_statement_says(ada: Person) -> None:
    await ada.clear(new_ott(await ada.get(ada.statement)), SMS)
    statement = (await ada.get(ada.statement)).json()
    answer = await ada.get(ada.statement.replace(".json", ".csv"))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [float(row["Amount"]) for row in rows] == [
        transaction["amount"]["value"] for transaction in statement["transactions"]
    ]


async def test_a_currency_is_three_capital_letters(ada: Person) -> None:
    await ada.clear(new_ott(await ada.get(ada.statement)), SMS)
    answer = await ada.get(f"{ada.statement}?currency=%3Cb%3E")
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("?source=EUR&target=GBP", {("EUR", "GBP")}),
        ("?source=EUR", {("EUR", other) for other in ("GBP", "USD", "SGD")}),
    ],
)
async def test_rates_are_those_asked_for(ada: Person, query: str, pairs: set[tuple[str, str]]) -> None:
    listed = (await ada.get(f"/v1/rates{query}")).json()
    assert {(entry["source"], entry["target"]) for entry in listed} == pairs
    assert all(isinstance(entry["rate"], float) for entry in listed)


async def test_a_profile_has_no_balances_of_other_types(ada: Person) -> None:
    assert (await ada.get("/v4/profiles/435036/balances?types=SAVINGS")).json() == []


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1/transfers/abc",
        "/v1/transfers/" + "9" * 5000,
        "/v1/profiles/",
        "/sandbox/nope",
        "/v1/one-time-token",
    ],
)
async def test_unknown_paths_are_404_in_the_error_shape(
    client: httpx2.AsyncClient, ada: Person, path: str
) -> None:
    for answer in (await client.get(path), await ada.get(path)):
        assert (answer.status_code, error_code(answer)) == (404, "not.found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/me", "GET, HEAD"),
        ("GET", "/v3/profiles/435036/transfers/1/payments", "POST"),
        ("PUT", "/v3/profiles/435036/transfers/1/payments", "POST"),
        ("GET", "/sandbox/clock", "POST"),
    ],
)
async def test_unknown_methods_are_405_in_the_error_shape(
    ada: Person, method: str, path: str, allow: str
) -> None:
    answer = await ada.call(method, path)
    assert (answer.status_code, error_code(answer)) == (405, "method.not.allowed")
    assert answer.headers["allow"] == allow


async def test_a_payment_can_be_made_to_fail(ada: Person) -> None:
    path = f"/v3/profiles/{ada.profile}/transfers/{OUTAGE}/payments"
    ott = new_ott(await ada.call("POST", path))
    await ada.clear(ott, [("PIN", "1234"), ("SMS", "111111")])
    answer = await ada.call("POST", path, ott=ott)
    assert (answer.status_code, error_code(answer)) == (503, "service.unavailable")


async def test_a_handler_that_breaks_is_an_error_document_too(
    sandbox: Sandbox, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, SMS)

    def break_down(*_: object) -> NoReturn:
        raise RuntimeError("demo-ada 1234")

    monkeypatch.setattr(Ledger, "count", break_down)
    transport = httpx2.ASGITransport(app=sandbox.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        answer = await Person(client, "demo-ada", 435036).get(ada.statement, ott=ott)
    assert (answer.status_code, error_code(answer)) == (500, "internal.error")
    assert "1234" not in answer.text


# --- what a customer is shown ---------------------------------------------------------------------


async def test_a_payment_is_shown_as_the_bank_has_it_in_its_books(sandbox: Sandbox, ada: Person) -> None:
    transfer = (await ada.get("/v1/transfers/16521632")).json()
    token = await sandbox.store.token(identify(new_ott(await ada.pay())))
    assert token is not None
    assert sandbox.engine.methods.details.open(token) == (
        ("amount", f"{transfer['targetValue']:.2f}"),
        ("currency", transfer["targetCurrency"]),
        ("payee", "Charles Babbage"),
        ("account", "GB29 •••• 6819"),
        ("reference", transfer["reference"]),
    )


async def test_of_all_else_the_bank_has_nothing_to_show(sandbox: Sandbox, ada: Person) -> None:
    for method, path in (("POST", PAYMENTS[1]), ("GET", STATEMENTS[0])):
        ott = new_ott(await ada.call(method, path.format(ada.profile)))
        token = await sandbox.store.token(identify(ott))
        assert token is not None
        assert token.details == b""


def test_the_bank_s_actions_have_a_title_in_every_language_of_the_page() -> None:
    for action in ACTIONS:
        assert [tag for tag, _ in action.title] == ["en", "de", "es", "fr", "ar"]
        assert len({text for _, text in action.title}) == 5
