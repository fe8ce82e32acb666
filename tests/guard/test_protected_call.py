"""The protected call, promise by promise."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from tests.app import (
    BATCH_PATH,
    JSON,
    KEY,
    KEY_PATH,
    PAYMENT_PATH,
    PROFILE,
    STATEMENT_PATH,
    Faulty,
    Product,
    call,
    make_product,
)
from tests.factories import BATCH, CODE, NOW, PAYMENT, PIN, STATEMENT, UNKNOWN_OTT, make_world
from watchword.asgi import ASGIMessage, Receive, Scope, Send
from watchword.domain.action import Actions, Risk, Route
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Cleared, Reserved, Revoked, Spent
from watchword.engine.ports import SystemEntropy
from watchword.engine.recent import Recent
from watchword.guard.asgi import Guard
from watchword.server.app import compose
from watchword.server.edge import Edge
from watchword.store.memory import MemoryStore

UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
BODY = b'{"type":"BALANCE","amount":10.0,"payee":"Ann Lee"}'


def stepped_up(answer: Any, *, instead_of: str | None = None) -> str:
    """Assert that the call was refused with a fresh OTT, and return it."""
    assert answer.status_code == 403
    assert answer.headers["x-2fa-approval-result"] == "REJECTED"
    assert answer.headers["cache-control"] == "no-store"
    ott = str(answer.headers["x-2fa-approval"])
    assert UUID.fullmatch(ott)
    assert ott != instead_of
    assert answer.json()["errors"][0]["code"] == "sca.required"
    return ott


def approved(answer: Any, status: int = 201) -> None:
    """Assert that the handler ran, and that its answer says so as the guard does."""
    assert answer.status_code == status, answer.text
    assert answer.headers.get_list("x-2fa-approval-result") == ["APPROVED"]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert "x-2fa-approval" not in answer.headers


# --- without a usable OTT ---------------------------------------------------------------------


async def test_the_403_serves_both_published_shapes(product: Product) -> None:
    answer = await product.call("GET", STATEMENT_PATH + "?currency=EUR&x=%2F")
    stepped_up(answer)
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    message = body["errors"][0].pop("message")
    assert body == {
        "timestamp": "2023-11-14T22:13:20.000+0000",
        "status": 403,
        "error": "Forbidden",
        "message": message,
        "path": STATEMENT_PATH,
        "errors": [{"code": "sca.required"}],
    }
    assert NOW == 1_700_000_000_000  # Which is what the timestamp says.


async def test_the_path_is_shown_as_it_was_called(product: Product) -> None:
    path = STATEMENT_PATH.replace("7", "%37%20x")
    answer = await product.raw("GET", path + "?q=1")
    assert answer.json()["path"] == path


async def test_each_refused_call_has_an_ott_of_its_own(product: Product) -> None:
    assert len({await product.ott() for _ in range(5)}) == 5


async def test_head_is_answered_without_a_body(product: Product) -> None:
    answer = await product.raw("HEAD", STATEMENT_PATH)
    assert (answer.status, answer.header("x-2fa-approval-result"), answer.body) == (403, "REJECTED", b"")
    assert not product.bank.executions


async def test_the_handler_does_not_run_for_a_refused_call(product: Product) -> None:
    for path in (PAYMENT_PATH, BATCH_PATH, KEY_PATH):
        stepped_up(await product.pay(path=path))
    stepped_up(await product.call("GET", STATEMENT_PATH))
    stepped_up(await product.call("GET", "/stream"))
    assert not product.bank.executions


# --- with one that is ready -------------------------------------------------------------------


@pytest.mark.attack(1)
@pytest.mark.parametrize("path", [PAYMENT_PATH, BATCH_PATH, KEY_PATH])
async def test_a_ready_ott_lets_its_request_through_once(product: Product, path: str) -> None:
    ott = await product.cleared_payment(BODY, path=path)
    answer = await product.pay(ott, BODY, path=path)
    approved(answer)
    assert answer.json()["ott"] == ott
    stepped_up(await product.pay(ott, BODY, path=path), instead_of=ott)
    assert sum(product.bank.executions.values()) == 1
    assert product.bank.bodies == [BODY]
    assert isinstance((await product.world.token(ott)).state, Spent)


async def test_an_open_path_is_left_alone(product: Product) -> None:
    answer = await product.call("GET", "/v1/profiles", token=None)
    assert (answer.status_code, answer.json()) == (200, {"ran": "open", "ott": None})
    assert "x-2fa-approval-result" not in answer.headers
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize("ott", [UNKNOWN_OTT, "x", ""])
async def test_a_stale_pair_on_an_open_path_is_ignored(product: Product, ott: str) -> None:
    headers = {"x-2fa-approval": ott, "x-signature": "b2xk", "one-time-token": ott}
    answer = await product.call("GET", "/v1/profiles", headers=headers)
    assert answer.status_code == 200


async def test_retries_may_drop_and_add_other_headers(product: Product) -> None:
    ott = await product.cleared_payment(BODY)
    answer = await product.call(
        "POST",
        PAYMENT_PATH,
        content=BODY,
        headers={"X-2FA-Approval": ott, "accept": "*/*", "user-agent": "other"},
    )
    approved(answer)


async def test_header_names_are_taken_in_any_case(product: Product) -> None:
    ott = await product.cleared_payment(BODY)
    approved(await product.call("POST", PAYMENT_PATH, content=BODY, headers={"X-2FA-APPROVAL": ott}))


async def test_any_access_token_of_the_user_will_do(product: Product) -> None:
    """The token binds to the user, not to one of his access tokens."""
    ott = await product.cleared_payment(BODY)
    product.tokens.add("ada-2", await product.tokens.authenticate("ada"))  # type: ignore[arg-type]
    approved(await product.pay(ott, BODY, token="ada-2"))


# --- every other OTT --------------------------------------------------------------------------


async def unknown(_product: Product) -> str:
    return UNKNOWN_OTT


async def unfinished(product: Product) -> str:
    ott = await product.payment_ott(BODY)
    await product.pass_pin(ott)
    return ott


async def untouched(product: Product) -> str:
    return await product.payment_ott(BODY)


async def expired(product: Product) -> str:
    ott = await product.cleared_payment(BODY)
    product.world.clock.advance(300)
    return ott


async def another_action_s(product: Product) -> str:
    return await product.cleared_payment(BODY, path=BATCH_PATH)


async def a_low_risk_one(product: Product) -> str:
    return await product.cleared_statement()


async def another_user_s(product: Product) -> str:
    ott = await product.ott(token="grace")
    await product.pass_sms(ott, token="grace")
    return ott


@pytest.mark.attack(2)
@pytest.mark.attack(5)
@pytest.mark.attack(23)
@pytest.mark.parametrize(
    "make", [unknown, unfinished, untouched, expired, another_action_s, a_low_risk_one, another_user_s]
)
async def test_every_other_ott_is_refused_with_a_new_one(
    product: Product, make: Callable[[Product], Any]
) -> None:
    ott = await make(product)
    stepped_up(await product.pay(ott, BODY), instead_of=ott)
    assert not product.bank.executions


async def test_no_proof_of_one_action_is_lost_on_another(product: Product) -> None:
    ott = await another_action_s(product)
    stepped_up(await product.pay(ott, BODY))
    approved(await product.pay(ott, BODY, path=BATCH_PATH))


@pytest.mark.attack(2)
async def test_another_user_s_attempt_leaves_an_ott_as_it_is(product: Product) -> None:
    ott = await product.cleared_payment(BODY)
    before = await product.world.token(ott)
    # Grace has not enrolled enough for a payment: she hears that, and no more.
    answer = await product.pay(ott, BODY, token="grace")
    assert answer.json()["errors"][0]["code"] == "sca.enrolment.required"
    answer = await product.call("GET", STATEMENT_PATH, token="grace", headers={"x-2fa-approval": ott})
    stepped_up(answer, instead_of=ott)
    assert await product.world.token(ott) == before
    approved(await product.pay(ott, BODY))
    issued = [event for _, event in await product.world.store.events() if "owner" in event.details]
    assert [event.details["owner"] for event in issued] == [before.user_id]


@pytest.mark.attack(38)
@pytest.mark.parametrize(("waited", "runs"), [(299.999, True), (300, False), (300.001, False)])
async def test_a_cleared_ott_is_good_for_five_minutes_to_the_millisecond(
    product: Product, waited: float, runs: bool
) -> None:
    ott = await product.cleared_payment(BODY)
    product.world.clock.advance(waited)
    answer = await product.pay(ott, BODY)
    approved(answer) if runs else stepped_up(answer)
    product.world.clock.advance(-10)  # A clock that is set back revives nothing that was spent.
    if runs:
        stepped_up(await product.pay(ott, BODY))


@pytest.mark.attack(23)
async def test_both_alternatives_of_one_challenge_are_not_two_challenges(product: Product) -> None:
    ott = await product.payment_ott(BODY)
    await product.pass_sms(ott)
    for path, body in (("voice/trigger", None), ("whatsapp/trigger", None)):
        assert (await product.on(ott, path, body)).status_code == 400
    stepped_up(await product.pay(ott, BODY))


# --- what it is bound to ----------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "an amount": {"body": BODY.replace(b"10.0", b"9999.0")},
    "a digit": {"body": BODY.replace(b"10.0", b"10.1")},
    "a payee by a homoglyph": {"body": BODY.replace(b"Ann", "\u0410nn".encode())},
    "a payee by a zero-width space": {"body": BODY.replace(b"Ann", "Ann\u200b".encode())},
    "a payee by normalisation": {"body": BODY.replace(b"Lee", "Lée".encode())},
    "white space": {"body": BODY + b" "},
    "the order of keys": {"body": b'{"amount":10.0,"type":"BALANCE","payee":"Ann Lee"}'},
    "no body": {"body": b""},
    "a form": {
        "body": b"type=BALANCE&amount=10.0&payee=Ann+Lee",
        "type": "application/x-www-form-urlencoded",
    },
    "a transfer": {"path": PAYMENT_PATH.replace("/9/", "/10/")},
    "an encoding of the path": {"path": PAYMENT_PATH.replace("/9/", "/%39/")},
    "a profile": {"path": PAYMENT_PATH.replace(str(PROFILE), "435037")},
    "a query": {"path": PAYMENT_PATH + "?dryRun=false"},
    "the order of a query": {"path": PAYMENT_PATH + "?b=2&a=1", "was": PAYMENT_PATH + "?a=1&b=2"},
    "an encoding of a query": {"path": PAYMENT_PATH + "?a=%31", "was": PAYMENT_PATH + "?a=1"},
    "a value of a query": {"path": PAYMENT_PATH + "?a=2", "was": PAYMENT_PATH + "?a=1"},
    "a query less": {"was": PAYMENT_PATH + "?a=1"},
}


@pytest.mark.attack(3)
@pytest.mark.attack(4)
@pytest.mark.attack(10)
@pytest.mark.parametrize("name", CHANGES)
async def test_a_retry_that_changes_what_was_bound_is_refused_and_voids_the_ott(
    product: Product, name: str
) -> None:
    change = CHANGES[name]
    was = change.get("was", PAYMENT_PATH)
    ott = await product.cleared_payment(BODY, path=was)
    answer = await product.pay(
        ott,
        change.get("body", BODY),
        path=change.get("path", PAYMENT_PATH),
        headers={"content-type": change.get("type", "application/json")},
    )
    stepped_up(answer, instead_of=ott)
    assert isinstance((await product.world.token(ott)).state, Revoked)
    stepped_up(await product.pay(ott, BODY, path=was))
    assert not product.bank.executions


@pytest.mark.attack(3)
async def test_a_changed_retry_voids_an_ott_that_is_still_pending_too(product: Product) -> None:
    ott = await product.payment_ott(BODY)
    stepped_up(await product.pay(ott, b"[]"))
    assert (await product.on(ott, "status")).status_code == 404
    assert (await product.on(ott, "pin/verify", {"pin": PIN})).status_code == 404


@pytest.mark.attack(7)
async def test_another_method_is_another_request() -> None:
    (post,) = PAYMENT.routes
    both = replace(PAYMENT, routes=(post, Route.parse("PUT " + post.template)))
    product = await make_product(actions=(STATEMENT, both, KEY))
    ott = await product.cleared_payment(BODY)
    stepped_up(await product.pay(ott, BODY, method="PUT"))
    assert not product.bank.executions


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override"]
)
async def test_no_header_overrides_the_method(product: Product, header: str) -> None:
    ott = await product.cleared_payment(BODY)
    for method, path in (("POST", PAYMENT_PATH), ("POST", "/plain"), ("GET", STATEMENT_PATH)):
        answer = await product.call(method, path, headers={header: "DELETE", "x-2fa-approval": ott})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "request.malformed")
    assert not product.bank.executions


async def test_a_low_risk_ott_is_good_for_any_request_of_its_action() -> None:
    product = await make_product(limits=Limits(session_seconds=0))
    ott = await product.cleared_statement()
    path = STATEMENT_PATH.replace("/7/", "/8/") + "?currency=USD"
    approved(await product.call("GET", path, headers={"x-2fa-approval": ott}), 200)


# --- the header itself ------------------------------------------------------------------------

MALFORMED: dict[str, list[bytes]] = {
    "two": [b"00000000-0000-4000-8000-000000000000", b"00000000-0000-4000-8000-000000000001"],
    "two that agree": [b"00000000-0000-4000-8000-000000000000"] * 2,
    "two in one": [b"00000000-0000-4000-8000-000000000000, 00000000-0000-4000-8000-000000000001"],
    "upper case": [b"AAAAAAAA-0000-4000-8000-000000000000"],
    "a type behind it": [b"00000000-0000-4000-8000-000000000000 SIGNATURE"],
    "empty": [b""],
    "no hyphens": [b"00000000000040008000000000000000"],
    "braces": [b"{00000000-0000-4000-8000-000000000000}"],
    "a newline": [b"00000000-0000-4000-8000-000000000000\n"],
    "beyond ASCII": ["\u06600000000-0000-4000-8000-000000000000".encode()],
    "latin-1": [b"\xe90000000-0000-4000-8000-000000000000"],
    "huge": [b"0" * 65536],
}


@pytest.mark.attack(88)
@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", PAYMENT_PATH), ("GET", STATEMENT_PATH), ("POST", KEY_PATH)]
)
async def test_an_approval_that_is_not_one_lower_case_uuid_is_400(
    product: Product, method: str, path: str, name: str
) -> None:
    issued = len(await product.world.event_names())
    answer = await product.raw(method, path, [("x-2fa-approval", value) for value in MALFORMED[name]])
    assert (answer.status, answer.code) == (400, "ott.header.invalid")
    assert answer.header("x-2fa-approval") is None
    assert len(await product.world.event_names()) == issued
    assert not product.bank.executions


@pytest.mark.attack(22)
@pytest.mark.parametrize("name", ["x-2fa-approval", "ott", "One-Time-Token", "oneTimeToken"])
async def test_an_ott_in_query_body_or_cookie_is_not_taken(name: str) -> None:
    product = await make_product(limits=Limits(session_seconds=0))
    ott = await product.cleared_statement()
    for path, headers in (
        (f"{STATEMENT_PATH}?{name}={ott}", {}),
        (STATEMENT_PATH, {"cookie": f"{name}={ott}"}),
        (STATEMENT_PATH, {"one-time-token": ott}),
    ):
        stepped_up(await product.call("GET", path, headers=headers), instead_of=ott)
    assert not product.bank.executions


async def test_a_personal_call_needs_a_user(product: Product) -> None:
    for token, status in ((None, 401), ("nobody", 401), ("application", 403)):
        answer = await product.call("POST", PAYMENT_PATH, token=token)
        assert answer.status_code == status
        assert "x-2fa-approval" not in answer.headers
        assert "x-2fa-approval-result" not in answer.headers


async def test_two_authorization_headers_are_400_without_the_outermost_layer_too(product: Product) -> None:
    headers = [("authorization", "Bearer ada"), ("authorization", "Bearer grace")]
    answer = await call(product.guard, "POST", PAYMENT_PATH, headers)
    assert (answer.status, answer.code) == (400, "request.malformed")


# --- the session ------------------------------------------------------------------------------


async def test_clearing_any_ott_opens_the_low_risk_session(product: Product) -> None:
    await product.cleared_payment(BODY)
    answer = await product.call("GET", STATEMENT_PATH)
    approved(answer, 200)
    assert answer.json()["ott"] is None
    stepped_up(await product.pay())


async def test_the_session_is_the_user_s_own(product: Product) -> None:
    await product.cleared_statement()
    stepped_up(await product.call("GET", STATEMENT_PATH, token="grace"))


async def test_a_bad_ott_is_refused_even_while_the_session_is_open(product: Product) -> None:
    await product.cleared_statement()
    for ott in (UNKNOWN_OTT, await unfinished(product)):
        stepped_up(await product.call("GET", STATEMENT_PATH, headers={"x-2fa-approval": ott}), instead_of=ott)
    approved(await product.call("GET", STATEMENT_PATH), 200)


async def test_a_ready_ott_is_spent_even_while_the_session_is_open(product: Product) -> None:
    ott = await product.cleared_statement()
    approved(await product.call("GET", STATEMENT_PATH, headers={"x-2fa-approval": ott}), 200)
    stepped_up(await product.call("GET", STATEMENT_PATH, headers={"x-2fa-approval": ott}))


async def test_the_session_ends_after_its_time(product: Product) -> None:
    await product.cleared_statement()
    product.world.clock.advance(299.999)
    approved(await product.call("GET", STATEMENT_PATH), 200)
    product.world.clock.advance(0.001)
    stepped_up(await product.call("GET", STATEMENT_PATH))


async def test_a_locked_user_goes_on_in_the_session_but_gets_no_new_ott(product: Product) -> None:
    await product.cleared_statement()
    other = await product.payment_ott()
    for _ in range(5):
        await product.on(other, "pin/verify", {"pin": "0000"})
    approved(await product.call("GET", STATEMENT_PATH), 200)
    for ott in (None, UNKNOWN_OTT):
        headers = {} if ott is None else {"x-2fa-approval": ott}
        answer = await product.call("POST", PAYMENT_PATH, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (429, "sca.locked")
        assert answer.headers["x-2fa-approval-result"] == "REJECTED"
        assert "x-2fa-approval" not in answer.headers


# --- races ------------------------------------------------------------------------------------


@pytest.mark.attack(25)
@pytest.mark.parametrize("path", [PAYMENT_PATH, BATCH_PATH])
async def test_of_64_retries_at_once_one_runs_and_the_others_get_new_otts(
    product: Product, path: str
) -> None:
    ott = await product.cleared_payment(BODY, path=path)
    answers = await asyncio.gather(*(product.pay(ott, BODY, path=path) for _ in range(64)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 63
    fresh = {stepped_up(answer, instead_of=ott) for answer in answers if answer.status_code == 403}
    assert len(fresh) == 63
    assert sum(product.bank.executions.values()) == 1


@pytest.mark.attack(26)
async def test_a_retry_and_a_changed_retry_at_once_let_one_through_at_the_most(product: Product) -> None:
    for _ in range(20):
        before = product.bank.executions["payment"]
        product.world.clock.advance(86400)
        ott = await product.cleared_payment(BODY)
        answers = await asyncio.gather(*(product.pay(ott, body) for body in (BODY, b"[]") * 8))
        assert product.bank.executions["payment"] - before <= 1
        assert {answer.status_code for answer in answers} <= {201, 403}
        assert set(product.bank.bodies) <= {BODY}


@pytest.mark.attack(28)
async def test_of_one_right_code_many_times_at_once_one_is_taken(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    answers = await asyncio.gather(*(product.on(ott, "sms/verify", {"otpCode": CODE}) for _ in range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 15


# --- spend on success -------------------------------------------------------------------------


async def state_of(product: Product, ott: str) -> type:
    return type((await product.world.token(ott)).state)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 404, 409, 499])
async def test_an_answer_below_500_spends(product: Product, status: int) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    product.bank.status = status
    approved(await product.pay(ott, BODY, path=BATCH_PATH), status)
    assert await state_of(product, ott) is Spent


@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_an_answer_of_500_or_more_gives_the_ott_back(product: Product, status: int) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    product.bank.status = status
    approved(await product.pay(ott, BODY, path=BATCH_PATH), status)
    assert await state_of(product, ott) is Cleared
    product.bank.status = 201
    approved(await product.pay(ott, BODY, path=BATCH_PATH))
    assert await state_of(product, ott) is Spent


async def test_spend_before_does_not_give_back(product: Product) -> None:
    ott = await product.cleared_payment(BODY)
    product.bank.status = 503
    approved(await product.pay(ott, BODY), 503)
    assert await state_of(product, ott) is Spent
    stepped_up(await product.pay(ott, BODY))


async def test_an_exception_gives_the_ott_back(product: Product) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    product.bank.error = RuntimeError("no money today")
    answer = await product.pay(ott, BODY, path=BATCH_PATH)
    assert answer.status_code == 500
    assert "no money" not in answer.text
    assert await state_of(product, ott) is Cleared
    product.bank.error = None
    approved(await product.pay(ott, BODY, path=BATCH_PATH))


@pytest.mark.attack(25)
async def test_a_caller_who_hangs_up_gets_nothing_back(product: Product) -> None:
    """A handler that notices may fail after it did its work: the caller must not choose that."""
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    runs = 0

    async def pays_then_looks(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal runs
        await receive()
        runs += 1
        if (await receive())["type"] == "http.disconnect":
            raise ConnectionError
        await PlainTextResponse("paid")(scope, receive, send)

    app = Guard(
        pays_then_looks, engine=product.world.engine, actions=Actions([BATCH]), authenticator=product.tokens
    )
    headers = [(b"authorization", b"Bearer ada"), (b"x-2fa-approval", ott.encode())]
    for _ in range(3):
        scope = {
            "type": "http",
            "method": "POST",
            "path": BATCH_PATH,
            "query_string": b"",
            "headers": [*headers, (b"content-type", b"application/json")],
        }
        messages = iter(({"type": "http.request", "body": BODY}, {"type": "http.disconnect"}))

        async def receive(messages: Iterator[ASGIMessage] = messages) -> ASGIMessage:
            return next(messages)

        async def send(_message: ASGIMessage) -> None:
            """Nobody is left to hear it."""

        with suppress(ConnectionError):
            await app(scope, receive, send)
    assert runs == 1
    assert await state_of(product, ott) is Reserved


async def test_the_state_is_settled_before_the_answer_leaves(product: Product) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    seen: list[type] = []

    async def look() -> None:
        seen.append(await state_of(product, ott))

    product.bank.waits = look
    await product.pay(ott, BODY, path=BATCH_PATH)
    assert seen == [Reserved]
    assert await state_of(product, ott) is Spent


async def test_while_the_handler_runs_nobody_else_gets_in(product: Product) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go_on.wait()

    product.bank.waits = wait
    first = asyncio.create_task(product.pay(ott, BODY, path=BATCH_PATH))
    await begun.wait()
    stepped_up(await product.pay(ott, BODY, path=BATCH_PATH), instead_of=ott)
    assert (await product.on(ott, "status")).status_code == 404
    go_on.set()
    approved(await first)
    assert product.bank.executions["batch"] == 1


async def test_a_cancelled_handler_leaves_the_ott_reserved_and_never_usable(product: Product) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    product.bank.waits = hang
    running = asyncio.create_task(product.pay(ott, BODY, path=BATCH_PATH))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await state_of(product, ott) is Reserved
    product.bank.waits = None
    for waited in (0, 59, 2, 200):
        product.world.clock.advance(waited)
        stepped_up(await product.pay(ott, BODY, path=BATCH_PATH))
    assert product.bank.executions["batch"] == 1


@pytest.mark.parametrize("status", [201, 503])
async def test_a_handler_that_outlives_its_lease_never_gives_the_ott_back(
    product: Product, status: int
) -> None:
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    product.bank.status = status

    async def long() -> None:
        product.world.clock.advance(60)

    product.bank.waits = long
    approved(await product.pay(ott, BODY, path=BATCH_PATH), status)
    assert await state_of(product, ott) is (Spent if status == 201 else Reserved)
    product.bank.waits, product.bank.status = None, 201
    stepped_up(await product.pay(ott, BODY, path=BATCH_PATH))
    assert product.bank.executions["batch"] == 1


# --- the store is away ------------------------------------------------------------------------


@pytest.mark.attack(155)
@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("what", ["token", "user", "commit"])
@pytest.mark.parametrize("lost", [False, True])
async def test_nobody_gets_in_while_the_store_cannot_answer(
    what: str,
    session: bool,
    lost: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Faulty()
    product = await make_product(store=store, limits=Limits(session_seconds=300 if session else 0))
    payment = await product.cleared_payment(BODY)
    # As a server that has just started: one that stored a record itself need not look it up again.
    monkeypatch.setattr(product.world.engine.decider, "recent", Recent(store))
    store.down.add(what)
    store.after_commit = lost
    calls: list[tuple[str, str, str | None]] = [
        ("POST", PAYMENT_PATH, None),
        ("POST", BATCH_PATH, UNKNOWN_OTT),
        ("POST", KEY_PATH, UNKNOWN_OTT),
        ("GET", STATEMENT_PATH, None),
        ("GET", STATEMENT_PATH, UNKNOWN_OTT),
    ]
    if what != "user":
        calls.append(("POST", PAYMENT_PATH, payment))  # A token that is ready says all that matters.
    for method, path, ott in calls:
        answer = await product.pay(ott, BODY, path=path, method=method)
        if what == "token" and ott is None:
            continue  # Without an OTT no token is looked up.
        assert answer.status_code == 503, (method, path, ott)
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["cache-control"] == "no-store"
        assert "x-2fa-approval" not in answer.headers
        assert "x-2fa-approval-result" not in answer.headers
        assert ": nothing was decided: Store" in caplog.text
        caplog.clear()
    if what != "token":
        assert not product.bank.executions
    assert not product.bank.executions["payment"]
    store.down.clear()
    ran = (await product.pay(payment, BODY)).status_code
    # A commit whose answer was lost may have spent it: then it is spent, and nobody got in.
    assert ran == (403 if what == "commit" and lost else 201)


async def test_a_store_that_goes_away_during_the_handler_leaves_the_ott_as_good_as_spent() -> None:
    store = Faulty()
    product = await make_product(store=store)
    for status in (201, 503):
        product.world.clock.advance(86400)
        ott = await product.cleared_payment(BODY, path=BATCH_PATH)
        product.bank.status = status

        async def cut() -> None:
            store.down.add("commit")

        product.bank.waits = cut
        approved(await product.pay(ott, BODY, path=BATCH_PATH), status)
        store.down.clear()
        product.bank.waits = None
        assert await state_of(product, ott) is Reserved
        stepped_up(await product.pay(ott, BODY, path=BATCH_PATH))


# --- several servers, other times -------------------------------------------------------------


@pytest.mark.attack(25)
@pytest.mark.parametrize("path", [PAYMENT_PATH, BATCH_PATH])
async def test_two_servers_on_one_store_let_one_retry_through(path: str) -> None:
    """No turn is shared between them: the store's versions alone decide."""
    store = MemoryStore()
    product = await make_product(store=store)
    other_world = make_world(store=store, clock=product.world.clock)
    other_world.engine.entropy = SystemEntropy()
    other = Edge(
        Guard(
            compose(product.bank.routes(), other_world.engine),
            engine=other_world.engine,
            actions=Actions((STATEMENT, PAYMENT, BATCH)),
            authenticator=product.tokens,
        ),
        trace_id=SystemEntropy().trace_id,
    )
    ott = await product.cleared_payment(BODY, path=path)
    headers = [("authorization", "Bearer ada"), ("x-2fa-approval", ott), *JSON.items()]
    answers = await asyncio.gather(
        *(call(app, "POST", path, headers, body=BODY) for _ in range(32) for app in (product.app, other))
    )
    assert sorted(answer.status for answer in answers) == [201] + [403] * 63
    assert sum(product.bank.executions.values()) == 1


@pytest.mark.attack(19)
async def test_an_ott_cleared_at_low_risk_is_no_good_once_the_action_is_of_high_risk(
    product: Product,
) -> None:
    """A new policy asks for what the old token never proved."""
    low = replace(PAYMENT, risk=Risk.LOW, challenges=((Method.SMS,),))
    before = await make_product(store=product.world.store, actions=(STATEMENT, low, BATCH, KEY))
    before.world.entropy.uuid = SystemEntropy().uuid  # type: ignore[method-assign]
    ott = await before.payment_ott(BODY)
    assert (await before.pass_sms(ott)).status_code == 200
    stepped_up(await product.pay(ott, BODY), instead_of=ott)
    assert not product.bank.executions
