"""What the person is shown of a request, is what it does: taken by the guard, bound, and kept sealed."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.app import ACTIONS, JSON, KEY_PATH, PAYMENT_PATH, Product, make_product
from tests.factories import PAYMENT
from watchword.asgi import Scope
from watchword.domain.action import Action
from watchword.domain.details import DETAILS_MAX, VALUE_MAX, Details
from watchword.domain.token import Revoked, Spent
from watchword.guard import details as module
from watchword.guard.details import Describe

SHOW = (("amount", "/amount"), ("payee", "/to/0/name"), ("fast", "/fast"))
BODY = b'{"amount":150.00,"to":[{"name":"Charles Babbage"}],"fast":true}'
SHOWN = (("amount", "150.00"), ("payee", "Charles Babbage"), ("fast", "true"))
BANK: Details = (("account", "GB29 \u2022\u2022\u2022\u2022 6819"),)


async def product_that(*show: tuple[str, str], describe: Describe | None = None) -> Product:
    actions = (*(each for each in ACTIONS if each is not PAYMENT), replace(PAYMENT, show=show))
    return await make_product(actions=actions, describe=describe)


async def shown(product: Product, ott: str) -> Details:
    """Return what is kept with a token."""
    return product.world.engine.methods.details.open(await product.world.token(ott))


def saying(details: Any) -> Describe:
    async def describe(_action: Action, _scope: Scope, _body: bytes) -> Details:
        said: Details = details() if callable(details) else details
        return said

    return describe


async def nothing_was_issued(product: Product) -> None:
    assert not product.bank.executions
    assert "token.issued" not in await product.world.event_names()


# --- out of the body ------------------------------------------------------------------------------


async def test_what_the_action_shows_is_taken_from_the_body_and_kept() -> None:
    product = await product_that(*SHOW)
    ott = await product.payment_ott(BODY)
    assert await shown(product, ott) == SHOWN
    assert b"Babbage" not in (await product.world.token(ott)).details


async def test_an_action_that_shows_nothing_keeps_nothing() -> None:
    product = await make_product()
    ott = await product.payment_ott(BODY)
    assert (await product.world.token(ott)).details == b""


async def test_a_call_with_details_is_approved_as_any_other() -> None:
    product = await product_that(*SHOW, describe=saying(BANK))
    ott = await product.cleared_payment(BODY)
    answer = await product.pay(ott, BODY)
    assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (201, "APPROVED")
    assert product.bank.bodies == [BODY]
    assert isinstance((await product.world.token(ott)).state, Spent)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"150.0", "150.0"),
        (b"150.00", "150.00"),
        (b"0.1", "0.1"),
        (b"1e2", "1e2"),
        (b"1E+2", "1E+2"),
        (b"-0", "-0"),
        (b"9007199254740992", "9007199254740992"),
        (b"0.30000000000000004441", "0.30000000000000004441"),
        (b"123456789.123456789123456789", "123456789.123456789123456789"),
        (b'"."', "."),
        (b'"\\u00e9"', "é"),
        (b'" a "', " a "),
        (b'"' + b"a" * VALUE_MAX + b'"', "a" * VALUE_MAX),
        (b"0." + b"1" * (VALUE_MAX - 2), "0." + "1" * (VALUE_MAX - 2)),
    ],
    ids=range(14),
)
async def test_a_value_is_shown_as_it_is_written(value: bytes, text: str) -> None:
    product = await product_that(("amount", "/amount"))
    ott = await product.payment_ott(b'{"amount":' + value + b"}")
    assert await shown(product, ott) == (("amount", text),)


@pytest.mark.parametrize("value", ["true", "false"])
async def test_a_boolean_that_is_no_amount_is_shown_too(value: str) -> None:
    product = await product_that(("fast", "/fast"))
    ott = await product.payment_ott(b'{"fast":' + value.encode() + b"}")
    assert await shown(product, ott) == (("fast", value),)


@pytest.mark.attack(127)
@pytest.mark.parametrize("key", ["currency", "payee", "reference"])
async def test_nothing_that_is_shown_may_be_blank(key: str) -> None:
    product = await product_that((key, "/text"))
    answer = await product.pay(None, json.dumps({"text": "\u00a0\u200b"}).encode())
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "/text")
    await nothing_was_issued(product)


async def test_pointers_are_read_as_their_standard_says() -> None:
    """RFC 6901 section 5, as far as its values are any that can be shown."""
    document = {
        "foo": ["bar", "baz"],
        "": "0",
        "a/b": "1",
        "c%d": "2",
        "e^f": "3",
        "g|h": "4",
        "i\\j": "5",
        'k"l': "6",
        " ": "7",
        "m~n": "8",
        "~1": "9",
    }
    pointers = ["/foo/0", "/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", '/k"l', "/ ", "/m~0n", "/~01"]
    product = await product_that(*((f"k{number}", pointer) for number, pointer in enumerate(pointers)))
    ott = await product.payment_ott(json.dumps(document).encode())
    assert [value for _, value in await shown(product, ott)] == ["bar", *"0123456789"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"1",
        b"null",
        b'"amount"',
        b'{"amount":1}',
        b'{"Amount":{"value":1}}',
        b'{"amount":{"value":null}}',
        b'{"amount":{"value":{}}}',
        b'{"amount":{"value":[1]}}',
        b'{"amount":[1]}',
        b'{"amount":{"value":"' + b"a" * (VALUE_MAX + 1) + b'"}}',
        b'{"amount":{"value":0.' + b"1" * VALUE_MAX + b"}}",
        b'{"amount":{"value":true}}',
        b'{"amount":{"value":false}}',
        b'{"amount":{"value":""}}',
        b'{"amount":{"value":" \\t\\n"}}',
        b'{"amount":{"value":"\\u200b\\u202e\\u3164"}}',
    ],
    ids=range(19),
)
async def test_a_body_without_what_is_to_be_shown_is_malformed(body: bytes) -> None:
    product = await product_that(("amount", "/amount/value"))
    answer = await product.pay(None, body)
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["code"], error["path"]) == ("request.malformed", "/amount/value")
    await nothing_was_issued(product)


@pytest.mark.parametrize("item", ["2", "-", "01", "-1", "1e0", "\u0661", "99999999999999999999"])
async def test_an_item_that_is_not_there_is_not_shown(item: str) -> None:
    product = await product_that(("payee", f"/to/{item}"))
    answer = await product.pay(None, b'{"to":["a","b"]}')
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, f"/to/{item}")
    await nothing_was_issued(product)


@pytest.mark.attack(8)
@pytest.mark.parametrize(
    "body",
    [
        b'{"to":{"name":"Ann","Name":"Mallory"}}',
        b'{"to":{"name":"Ann"},"TO":{"name":"Mallory"}}',
        b'{"to":{"name":"Ann"},"T\\u004f":{"name":"Mallory"}}',
    ],
)
async def test_a_member_that_stands_twice_but_for_case_is_malformed(body: bytes) -> None:
    product = await product_that(("payee", "/to/name"))
    answer = await product.pay(None, body)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "/to/name")
    await nothing_was_issued(product)


@pytest.mark.parametrize(
    "media_type",
    ["application/x-www-form-urlencoded", "text/plain", "application/xml", "application/jose+json"],
)
async def test_a_body_of_another_type_cannot_be_shown(media_type: str) -> None:
    product = await product_that(*SHOW)
    answer = await product.pay(None, BODY, headers={"content-type": media_type})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (415, "media.type.unsupported")
    await nothing_was_issued(product)


async def test_clients_that_leave_the_type_out_are_read_where_they_sent_json() -> None:
    product = await product_that(*SHOW)
    assert (await product.raw("POST", PAYMENT_PATH, body=BODY)).status == 403
    answer = await product.raw("POST", PAYMENT_PATH, body=b"amount=150.00")
    assert (answer.status, answer.code) == (415, "media.type.unsupported")


async def test_other_actions_take_any_body() -> None:
    product = await product_that(*SHOW)
    answer = await product.pay(None, b"key=1", path=KEY_PATH, headers={"content-type": "text/plain"})
    assert answer.status_code == 403


async def test_a_large_body_is_shown_too() -> None:
    product = await product_that(*SHOW)
    ott = await product.payment_ott(BODY[:-1] + b',"note":"' + b"a" * 100_000 + b'"}')
    assert await shown(product, ott) == SHOWN


# --- what the application says --------------------------------------------------------------------


async def test_what_the_application_says_stands_after_what_the_body_has() -> None:
    heard: list[tuple[str, str, bytes]] = []

    async def describe(action: Action, scope: Scope, body: bytes) -> Details:
        heard.append((action.name, scope["path"], body))
        return BANK

    product = await product_that(*SHOW, describe=describe)
    ott = await product.payment_ott(BODY)
    assert await shown(product, ott) == (*SHOWN, *BANK)
    assert heard == [(PAYMENT.name, PAYMENT_PATH, BODY)]


async def test_the_application_is_asked_of_an_action_at_its_handler_too() -> None:
    product = await product_that(describe=saying(BANK))
    ott = await product.ott("POST", KEY_PATH, content=b"{}", headers=JSON)
    assert await shown(product, ott) == BANK


async def test_the_application_is_not_asked_where_a_token_is_good_for_any_request() -> None:
    def never() -> Details:
        raise AssertionError

    product = await product_that(describe=saying(never))
    assert await product.ott()


async def test_nobody_is_described_to_who_is_not_known() -> None:
    def never() -> Details:
        raise AssertionError

    product = await product_that(*SHOW, describe=saying(never))
    assert (await product.pay(None, BODY, token=None)).status_code == 401


@pytest.mark.attack(3)
async def test_a_payment_that_changed_in_the_books_is_another_one() -> None:
    books = [("amount", "150.00")]
    product = await product_that(describe=saying(lambda: tuple(books)))
    ott = await product.cleared_payment(b"{}")
    books[0] = ("amount", "1500.00")
    answer = await product.pay(ott)
    assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (403, "REJECTED")
    assert answer.headers["x-2fa-approval"] != ott
    assert not product.bank.executions
    assert isinstance((await product.world.token(ott)).state, Revoked)
    assert await shown(product, answer.headers["x-2fa-approval"]) == (("amount", "1500.00"),)
    books[0] = ("amount", "150.00")
    assert (await product.pay(ott)).status_code == 403


async def fails() -> Details:
    raise RuntimeError("the books are closed")


async def hangs() -> Details:
    await asyncio.Event().wait()
    return ()


async def is_cancelled() -> Details:
    raise asyncio.CancelledError


async def waits_for_what_is_cancelled() -> Details:
    task = asyncio.ensure_future(hangs())
    task.cancel()
    return await task


async def says(details: Any) -> Details:
    said: Details = details
    return said


@pytest.mark.parametrize(
    "answer",
    [
        fails,
        hangs,
        is_cancelled,
        waits_for_what_is_cancelled,
        lambda: says(None),
        lambda: says((("amount", 150),)),
        lambda: says((("amount", ["1", "5"]),)),
        lambda: says((("amount",),)),
        lambda: says((("Amount", "150"),)),
        lambda: says((("a", "1"), ("a", "1"))),
        lambda: says((("amount", "150"),)),
        lambda: says((("payee", "a" * (VALUE_MAX + 1)),)),
        lambda: says((("payee", "\ud800"),)),
        lambda: says((("payee", ""),)),
        lambda: says((("payee", " \u200b"),)),
        lambda: says(tuple((f"k{number}", "1") for number in range(DETAILS_MAX))),
    ],
    ids=range(16),
)
async def test_where_the_application_cannot_say_nothing_is_decided(
    answer: Callable[[], Awaitable[Details]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DESCRIBE_SECONDS", 0.01)

    async def describe(_action: Action, _scope: Scope, _body: bytes) -> Details:
        return await answer()

    product = await product_that(("amount", "/amount"), describe=describe)
    with caplog.at_level(logging.ERROR):
        refused = await product.pay(None, BODY)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (503, "service.unavailable")
    assert "x-2fa-approval" not in refused.headers
    assert [record.message for record in caplog.records] == [
        "TRANSFER__FUND: it was not described, so that nothing was decided"
    ]
    await nothing_was_issued(product)


async def test_a_request_that_is_given_up_while_it_is_described_just_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    async def describe(_action: Action, _scope: Scope, _body: bytes) -> Details:
        asked.set()
        return await hangs()

    product = await product_that(describe=describe)
    with caplog.at_level(logging.ERROR):
        call = asyncio.create_task(product.pay(None, BODY))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert not caplog.records
    await nothing_was_issued(product)


async def test_a_token_outlives_an_application_that_cannot_say() -> None:
    broken = False

    def say() -> Details:
        if broken:
            raise RuntimeError
        return BANK

    product = await product_that(describe=saying(say))
    ott = await product.cleared_payment(b"{}")
    broken = True
    assert (await product.pay(ott)).status_code == 503
    assert not product.bank.executions
    broken = False
    assert (await product.pay(ott)).status_code == 201


# --- who asks -------------------------------------------------------------------------------------


async def test_the_application_that_the_access_token_was_issued_to_is_kept() -> None:
    product = await make_product()
    holder = await product.tokens.authenticate("ada")
    assert holder is not None
    product.tokens.add("shop", replace(holder, application="the-shop"))
    ott = await product.payment_ott(token="shop")
    assert (await product.world.token(ott)).application == "the-shop"
    assert (await product.world.token(await product.payment_ott())).application is None
    started = await product.call("POST", "/v1/mfa-session/authorise", token="shop")
    ott = started.json()["oneTimeTokenProperties"]["oneTimeToken"]
    assert (await product.world.token(ott)).application == "the-shop"
