"""The approval page over HTTP, without a script: forms, headers, and what must not work."""

import logging
import re
from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.page.forms import PATH, Customer, Seen
from tests.sandbox.support import Person, client_of, new_ott
from watchword.engine.engine import identify
from watchword.page.ticket import IDLE_SECONDS, TICKET_MAX, TOTAL_SECONDS
from watchword.sandbox.app import Sandbox, create
from watchword.server.body import BODY_MAX
from watchword.store.base import StoreUnavailableError

SHOP = "http://localhost:5173"
UNKNOWN = "9f5f5812-2609-4e48-8418-b64437c0c7cd"


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with create() as started:
        yield started


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_of(sandbox) as opened:
        yield opened


@pytest.fixture
def ada(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-ada", 435036)


@pytest.fixture
def grace(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-grace", 435037)


@pytest.fixture
def customer(client: httpx2.AsyncClient) -> Customer:
    return Customer(client)


async def a_payment(person: Person) -> str:
    return new_ott(await person.pay())


async def a_statement(person: Person) -> str:
    return new_ott(await person.get(person.statement))


async def wait(client: httpx2.AsyncClient, seconds: float) -> None:
    await client.post("/sandbox/clock", json={"advanceSeconds": seconds})


async def sent(client: httpx2.AsyncClient, user: int = 6146956) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = (await client.get(f"/sandbox/outbox?userId={user}")).json()
    return messages


async def all_sent(client: httpx2.AsyncClient, customer: Customer, seen: Seen) -> Seen:
    """Ask for as many codes as a token may have, beginning where the first was sent."""
    for _ in range(4):
        await wait(client, 31)
        seen = await customer.send(seen, "send")
    return seen


# --- the way through --------------------------------------------------------------------------


async def test_a_payment_is_confirmed_by_pin_and_code(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    ott = await a_payment(ada)
    seen = await customer.open(ott, libVersion="0.9.5", parentHostname="localhost", flow="iframe")
    assert (seen.status, seen.screen) == (200, "pin")
    seen = await customer.send(seen, "answer", answer="1234")
    assert (seen.status, seen.screen) == (200, "choose")
    assert await sent(client) == []
    seen = await customer.send(seen, "choose", method="SMS")
    assert (seen.status, seen.screen) == (200, "code")
    assert "8888" in seen.text
    assert "6588888888" not in seen.text
    seen = await customer.send(seen, "answer", answer="111111")
    assert (seen.status, seen.screen, seen.outcome) == (200, "done", "tw-approve-api-action-success")
    paid = await ada.pay(ott=ott)
    assert (paid.status_code, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")
    assert (await ada.pay(ott=ott)).status_code == 403
    assert (await client.get(f"/sandbox/executions?ott={ott}")).json()["TRANSFER__FUND"] == 1


async def test_the_customer_sees_what_is_approved_before_anything_is_asked(
    ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    assert "150.00\N{NO-BREAK SPACE}GBP" in seen.answer.text
    assert seen.text.index("Charles Babbage") < seen.text.index("Enter your PIN")


async def test_the_message_says_what_it_is_for_and_where_it_may_be_typed(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    seen = await customer.send(seen, "answer", answer="1234")
    await customer.send(seen, "choose", method="SMS")
    message = (await sent(client))[-1]
    assert message["text"].startswith("111111 is your code.")
    assert "150.00\N{NO-BREAK SPACE}GBP, Charles Babbage" in message["text"]


async def test_a_bare_get_is_harmless(client: httpx2.AsyncClient) -> None:
    for path in (PATH, PATH.rstrip("/")):
        seen = Seen(await client.get(path))
        assert (seen.status, seen.screen, seen.forms) == (200, "bare", [])
        assert "set-cookie" not in seen.answer.headers
    assert (await client.head(PATH)).status_code == 200
    assert (await client.put(PATH)).status_code == 405


async def test_the_address_without_its_slash_takes_the_form_too(
    client: httpx2.AsyncClient, ada: Person
) -> None:
    answer = await client.post(PATH.rstrip("/"), data={"ott": await a_payment(ada)})
    assert Seen(answer).screen == "pin"


@pytest.mark.parametrize(
    ("query", "accept", "tag", "heading"),
    [
        ("", "de-AT,de;q=0.9", "de", "Geben Sie Ihre PIN ein"),
        ("?lang=de", "fr", "de", "Geben Sie Ihre PIN ein"),
        ("?lang=xx", "", "en", "Enter your PIN"),
        ("", "ar", "ar", ""),
    ],
)
async def test_the_page_speaks_the_customers_language_to_the_end(
    client: httpx2.AsyncClient, ada: Person, query: str, accept: str, tag: str, heading: str
) -> None:
    ott = await a_payment(ada)
    headers = {"accept-language": accept} if accept else {}
    seen = Seen(await client.post(PATH + query, data={"ott": ott}, headers=headers))
    assert seen.answer.headers["content-language"] == tag
    assert f'<html lang="{tag}" dir="{"rtl" if tag == "ar" else "ltr"}"' in seen.answer.text
    assert heading in seen.heading
    # Later forms go to the plain address, without the query and maybe from another place.
    seen = Seen(await client.post(PATH, data=seen.form("answer", answer="1234")))
    assert seen.answer.headers["content-language"] == tag


@pytest.mark.parametrize("typed", ["111 111", " 111-111 ", "１１１１１１", "١١١١١١", "111\u200b111"])  # noqa: RUF001
async def test_a_code_may_be_pasted_and_typed_as_people_do(
    ada: Person, customer: Customer, typed: str
) -> None:
    seen = await customer.open(await a_payment(ada))
    seen = await customer.send(seen, "answer", answer="1234")
    seen = await customer.send(seen, "choose", method="VOICE")
    assert (await customer.send(seen, "answer", answer=typed)).screen == "done"


@pytest.mark.parametrize(
    "typed", ["111111a", "+111111", "0x111111", "1111111", "11111", "1e5", "\N{ROMAN NUMERAL ONE}11111"]
)
async def test_nothing_else_is_read_as_the_code(ada: Person, customer: Customer, typed: str) -> None:
    seen = await customer.open(await a_payment(ada))
    seen = await customer.send(seen, "answer", answer="1234")
    seen = await customer.send(seen, "choose", method="VOICE")
    seen = await customer.send(seen, "answer", answer=typed)
    assert (seen.status, seen.screen) == (400, "code")


# --- what goes wrong --------------------------------------------------------------------------


async def test_a_wrong_pin_says_how_many_tries_are_left_and_the_fifth_locks(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    for left in (4, 3, 2, 1):
        seen = await customer.send(seen, "answer", answer="0000")
        assert (seen.status, seen.screen) == (400, "pin")
        assert f"{left} {'try' if left == 1 else 'tries'} left" in seen.text
    seen = await customer.send(seen, "answer", answer="0000")
    assert (seen.status, seen.screen) == (429, "locked")
    assert seen.answer.headers["retry-after"] == "900"
    assert "15 minutes" in seen.text
    assert not any(form.fields.get("do") == "answer" for form in seen.forms)


async def test_a_page_that_is_opened_while_locked_says_so(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    open_before = await a_payment(ada)
    seen = await customer.open(await a_payment(ada))
    for _ in range(5):
        seen = await customer.send(seen, "answer", answer="0000")
    seen = await customer.open(open_before)
    assert (seen.status, seen.screen) == (429, "locked")
    await wait(client, 901)
    assert (await customer.open(open_before)).screen == "pin"


async def test_an_empty_answer_costs_nothing(ada: Person, customer: Customer) -> None:
    seen = await customer.open(await a_payment(ada))
    for nothing in ("", "   ", "\u200b"):
        seen = await customer.send(seen, "answer", answer=nothing)
        assert (seen.status, seen.screen) == (400, "pin")
        assert "left" not in seen.text
    assert (await customer.send(seen, "answer", answer="1234")).screen == "choose"


async def test_another_code_can_be_had_once_the_first_had_its_time(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace))
    seen = await customer.send(seen, "choose", method="SMS")
    assert "30 seconds" in seen.text
    early = await customer.send(seen, "send")
    assert (early.status, early.screen) == (429, "code")
    assert early.answer.headers["retry-after"]
    await wait(client, 30)
    late = await customer.send(early, "send")
    assert (late.status, late.screen) == (200, "code")
    assert len(await sent(client, 6146957)) == 2


async def test_when_no_more_can_be_sent_the_page_stays_where_the_code_is_typed(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace))
    seen = await customer.send(seen, "choose", method="SMS")
    seen = await all_sent(client, customer, seen)
    assert len(await sent(client, 6146957)) == 5
    assert not any(form.fields.get("do") == "send" for form in seen.forms)
    refused = await customer.post({**seen.form("answer", answer=""), "do": "send"})
    assert (refused.status, refused.screen) == (429, "code")
    assert "Use the last one" in refused.text
    assert not any(form.fields.get("do") == "ways" for form in refused.forms)
    assert (await customer.send(refused, "answer", answer="111111")).screen == "done"


async def test_when_the_last_code_is_over_the_page_says_that_it_is(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace))
    seen = await customer.send(seen, "choose", method="SMS")
    seen = await all_sent(client, customer, seen)
    await wait(client, 300)
    seen = await customer.send(seen, "answer", answer="111111")
    assert (seen.screen, seen.heading) == ("over", "No more codes can be sent")
    assert "start again" in seen.text


async def test_where_no_code_can_be_sent_any_more_another_way_is_left(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    seen = await customer.send(await customer.open(await a_statement(ada)), "choose", method="SMS")
    seen = await all_sent(client, customer, seen)
    await wait(client, 300)
    seen = await customer.send(seen, "answer", answer="111111")
    assert seen.screen == "pin"
    assert "Confirm in another way" in seen.text
    assert (await customer.send(seen, "answer", answer="1234")).screen == "done"


async def test_a_code_that_came_too_late_asks_for_a_new_one(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace))
    seen = await customer.send(seen, "choose", method="SMS")
    await wait(client, 300)
    seen = await customer.send(seen, "answer", answer="111111")
    assert (seen.status, seen.screen) == (400, "code")
    assert "no longer valid" in seen.text
    seen = await customer.send(seen, "send")
    assert (await customer.send(seen, "answer", answer="111111")).screen == "done"


async def test_another_way_is_offered_and_a_code_under_way_is_not_sent_twice(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace))
    seen = await customer.send(seen, "choose", method="SMS")
    seen = await customer.send(seen, "ways")
    assert seen.screen == "choose"
    seen = await customer.send(seen, "choose", method="SMS")
    assert seen.screen == "code"
    assert len(await sent(client, 6146957)) == 1
    seen = await customer.send(await customer.send(seen, "ways"), "choose", method="WHATSAPP")
    assert [message["channel"] for message in await sent(client, 6146957)] == ["SMS", "WHATSAPP"]
    assert (await customer.send(seen, "answer", answer="111111")).screen == "done"


async def test_a_message_that_nobody_delivers_says_so_and_offers_another_way(
    sandbox: Sandbox, grace: Person, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await customer.open(await a_statement(grace))
    monkeypatch.setattr(sandbox.engine, "delivery", None)
    seen = await customer.send(seen, "choose", method="SMS")
    assert (seen.status, seen.screen) == (503, "choose")
    assert "could not be delivered" in seen.text
    monkeypatch.undo()
    assert (await customer.send(seen, "choose", method="SMS")).screen == "code"


@pytest.mark.parametrize("ott", [UNKNOWN, "", "x", UNKNOWN.upper(), f"{UNKNOWN} ", "é", "\ud7ff"])
async def test_an_unknown_token_is_not_found(customer: Customer, ott: str) -> None:
    seen = await customer.open(ott)
    assert (seen.status, seen.screen) == (404, "over")
    assert "not found" in seen.heading
    assert "set-cookie" not in seen.answer.headers


async def test_an_expired_token_says_that_nothing_was_approved(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    ott = await a_payment(ada)
    await wait(client, 3600)
    seen = await customer.open(ott)
    assert (seen.status, seen.screen) == (404, "over")
    assert "expired" in seen.heading
    assert "Nothing was approved" in seen.text


async def test_cancel_ends_the_page_and_leaves_the_token(ada: Person, customer: Customer) -> None:
    ott = await a_payment(ada)
    first = await customer.open(ott)
    seen = await customer.send(first, "cancel")
    assert (seen.status, seen.screen, seen.outcome) == (200, "cancelled", "tw-approve-api-action-closed")
    for do, fields in (("answer", {"answer": "1234"}), ("cancel", {})):
        dead = await customer.post(first.form(do, **fields))
        assert (dead.status, dead.screen) == (404, "over")
    assert (await customer.open(ott)).screen == "pin"


async def test_what_is_confirmed_already_cannot_be_cancelled(grace: Person, customer: Customer) -> None:
    ott = await a_statement(grace)
    seen = await customer.send(await customer.open(ott), "choose", method="SMS")
    assert (await customer.send(seen, "answer", answer="111111")).screen == "done"
    late = await customer.send(seen, "cancel")
    assert (late.screen, late.outcome) == ("done", "tw-approve-api-action-success")


async def test_a_page_that_is_loaded_anew_asks_for_the_code_that_is_on_its_way(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    ott = await a_statement(grace)
    await customer.send(await customer.open(ott), "choose", method="WHATSAPP")
    seen = await customer.open(ott)
    assert seen.screen == "code"
    assert "WhatsApp" in seen.text
    await wait(client, 300)
    assert (await customer.open(ott)).screen == "choose"


async def test_what_a_page_cannot_carry_out_is_said(client: httpx2.AsyncClient, customer: Customer) -> None:
    await client.post(
        "/sandbox/users",
        json={"token": "device", "userId": 5, "profileIds": [6], "deviceFingerprints": ["x"]},
    )
    device = Person(client, "device", 6)
    seen = await customer.open(await a_statement(device))
    assert seen.screen == "unable"


async def test_a_store_that_is_away_is_trouble_and_the_form_can_be_sent_again(
    sandbox: Sandbox, ada: Person, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailableError

    seen = await customer.open(await a_payment(ada))
    form = seen.form("answer", answer="1234")
    monkeypatch.setattr(sandbox.store, "token", away)
    trouble = await customer.post(form)
    assert (trouble.status, trouble.screen) == (503, "trouble")
    assert trouble.answer.headers["retry-after"] == "1"
    assert (await customer.open(UNKNOWN)).status == 503
    monkeypatch.undo()
    assert (await customer.send(trouble, "again")).screen == "pin"


# --- replays ----------------------------------------------------------------------------------


@pytest.mark.attack(128)
async def test_a_form_that_is_sent_again_sends_no_second_message(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    form = (await customer.open(await a_statement(grace))).form("choose", method="SMS")
    await customer.post(form)
    await wait(client, 60)
    again = await customer.post(form)
    assert (again.status, again.screen) == (200, "code")
    assert len(await sent(client, 6146957)) == 1
    later = await customer.post({**form, "do": "send", "method": "SMS"})
    assert len(await sent(client, 6146957)) == 1
    assert later.status in {200, 400}


@pytest.mark.attack(128)
async def test_a_form_that_is_sent_again_costs_no_second_attempt(ada: Person, customer: Customer) -> None:
    seen = await customer.open(await a_payment(ada))
    form = seen.form("answer", answer="0000")
    again = first = await customer.post(form)
    for _ in range(6):
        again = await customer.post(form)
        assert (again.status, again.screen) == (200, "pin")
    assert "4 tries left" in first.text
    assert "3 tries left" in (await customer.send(again, "answer", answer="0000")).text


@pytest.mark.attack(128)
async def test_a_page_is_dead_once_its_token_is_opened_in_another_browser(
    sandbox: Sandbox, ada: Person, customer: Customer
) -> None:
    ott = await a_payment(ada)
    first = await customer.open(ott)
    async with client_of(sandbox) as elsewhere:
        second = await Customer(elsewhere).open(ott)
        dead = await customer.send(first, "answer", answer="1234")
        assert (dead.status, dead.screen) == (404, "over")
        assert "somewhere else" in dead.heading
        assert (await Customer(elsewhere).send(second, "answer", answer="1234")).screen == "choose"


@pytest.mark.attack(128)
async def test_a_form_that_is_carried_to_another_browser_is_refused(
    sandbox: Sandbox, ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    seen = await customer.send(seen, "answer", answer="0000")  # The browser showed its cookie.
    form = seen.form("answer", answer="1234")
    async with client_of(sandbox) as elsewhere:
        stolen = await Customer(elsewhere).post(form)
    assert (stolen.status, stolen.screen) == (404, "over")
    other = {"cookie": f"{customer.client.cookies.jar.__iter__().__next__().name}=another"}
    async with client_of(sandbox) as elsewhere:
        assert (await Customer(elsewhere).post(form, headers=other)).status == 404
    assert (await customer.post(form)).screen == "choose"


async def test_a_browser_that_keeps_no_cookies_gets_through(sandbox: Sandbox, ada: Person) -> None:
    ott = await a_payment(ada)
    form: dict[str, str] = {"ott": ott}
    for do, answer in (("answer", "1234"), ("", ""), ("answer", "111111")):
        async with client_of(sandbox) as fresh:
            seen = await Customer(fresh).post(form)
            form = seen.form(do, answer=answer) if do else seen.form("choose", method="SMS")
    async with client_of(sandbox) as fresh:
        assert (await Customer(fresh).post(form)).screen == "done"


@pytest.mark.attack(128)
async def test_nothing_can_be_done_on_the_page_of_a_spent_token(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    ott = await a_statement(grace)
    seen = await customer.send(await customer.open(ott), "choose", method="SMS")
    form = seen.form("answer", answer="111111")
    assert (await customer.post(form)).screen == "done"
    back = await customer.post(form)
    assert (back.screen, back.outcome) == ("done", "tw-approve-api-action-success")
    await grace.get(grace.statement, ott=ott)
    for again in (await customer.post(form), await customer.open(ott)):
        assert (again.status, again.screen) == (404, "over")
        assert "already used" in again.heading


@pytest.mark.parametrize(
    ("pauses", "lives"),
    [
        ((IDLE_SECONDS - 1,), True),
        ((IDLE_SECONDS,), False),
        ((IDLE_SECONDS + 1,), False),
        ((TOTAL_SECONDS - 400, 399), True),
        ((TOTAL_SECONDS - 400, 400), False),
        ((TOTAL_SECONDS - 400, 401), False),
    ],
)
async def test_a_page_lives_ten_minutes_without_a_form_and_fifteen_in_all(
    client: httpx2.AsyncClient,
    ada: Person,
    customer: Customer,
    sandbox: Sandbox,
    pauses: tuple[int, ...],
    lives: bool,
) -> None:
    moment = sandbox.engine.clock.now()
    sandbox.engine.clock = type("Standing", (), {"now": lambda _: moment})()
    seen = await customer.open(await a_payment(ada))
    for pause in pauses:
        moment = type(moment)(moment + pause * 1000)
        seen = await customer.send(seen, "answer", answer="")
    assert seen.screen == ("pin" if lives else "over")


# --- who may send what ------------------------------------------------------------------------


async def test_only_the_opening_form_may_come_from_another_site(ada: Person, customer: Customer) -> None:
    cross = {"origin": SHOP, "sec-fetch-site": "cross-site"}
    seen = await customer.open(await a_payment(ada), headers=cross)
    assert seen.screen == "pin"
    form = seen.form("answer", answer="1234")
    for headers in (
        cross,
        {"origin": SHOP},
        {"origin": "http://sandbox.test.evil.test"},
        {"origin": "http://["},
        {"origin": "sandbox.test"},
        {"origin": "http://sandbox.test/"},
        {"origin": ""},
        {"origin": "https://evil.test"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
    ):
        refused = await customer.post(form, headers=headers)
        assert (refused.status, refused.screen) == (400, "over"), headers
    own = {"origin": "null", "sec-fetch-site": "same-origin"}
    assert (await customer.post(form, headers=own)).screen == "choose"


async def test_a_form_of_another_page_or_none_is_refused(
    ada: Person, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    page = seen.form("answer", answer="")["page"]
    flipped = page[:60] + ("A" if page[60] != "A" else "B") + page[61:]
    for wrong in ("", "x", flipped, page[:-8], page + "AAAA", "A" * TICKET_MAX, "é", UNKNOWN):
        refused = await customer.post({"page": wrong, "do": "answer", "answer": "1234"})
        assert (refused.status, refused.screen) == (400, "over")
    assert (await customer.send(seen, "answer", answer="1234")).screen == "choose"


async def test_a_method_that_is_not_offered_is_refused(
    client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada))
    form = seen.form("answer", answer="")
    for method in ("SMS", "FACE_MAP", "PARTNER_DEVICE_FINGERPRINT", "SIGNATURE", "x", ""):
        refused = await customer.post({"page": form["page"], "do": "choose", "method": method})
        assert refused.screen == "pin"
    assert await sent(client) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"ott=x", "application/json", 415),
        (b"ott=x", "multipart/form-data; boundary=x", 415),
        (b"ott=x", "text/plain", 415),
        (b"ott=x", "application/x-www-form-urlencoded; charset=utf-16", 415),
        (b"", "", 415),
        (b"ott=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"ott=\xff", "application/x-www-form-urlencoded", 400),
        (b"ott=a&ott=b", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f%d=x" % number for number in range(17)), "application/x-www-form-urlencoded", 400),
        (b"ott=" + b"x" * 2049, "application/x-www-form-urlencoded", 400),
        (b"ott=" + b"x" * BODY_MAX, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 404),
        (b"ott=" + b"x" * 2048, "application/x-www-form-urlencoded", 404),
        (b"&".join(b"f%d=x" % number for number in range(16)), "application/x-www-form-urlencoded", 404),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused_as_a_page(
    client: httpx2.AsyncClient, body: bytes, content_type: str, status: int
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await client.post(PATH, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "x" * 100 not in answer.text


@pytest.mark.attack(122)
async def test_a_page_that_says_approved_approves_nothing(ada: Person, customer: Customer) -> None:
    ott = await a_payment(ada)
    await customer.open(ott)
    forged = await customer.open(ott, outcome="tw-approve-api-action-success", passed="true")
    assert forged.outcome == ""
    assert (await ada.pay(ott=ott)).status_code == 403


@pytest.mark.attack(124)
async def test_the_page_gives_no_access_that_its_token_does_not(
    client: httpx2.AsyncClient, ada: Person, grace: Person, customer: Customer
) -> None:
    """Somebody opens his own approval in another's browser: it says what it is, and clears his own alone."""
    ott = await a_statement(grace)
    stranger = {"origin": "https://evil.test", "sec-fetch-site": "cross-site"}
    seen = await customer.open(ott, headers=stranger)
    assert "evil.test" in seen.text
    assert "we do not know that site" in seen.text
    assert seen.openers == "[]"
    assert "frame-ancestors 'none'" in seen.answer.headers["content-security-policy"]
    seen = await customer.send(seen, "choose", method="SMS")
    await customer.send(seen, "answer", answer="111111")
    assert (await ada.get(ada.statement, ott=ott)).status_code == 403
    assert (await client.get(grace.statement, headers={"x-2fa-approval": ott})).status_code == 401


# --- headers ----------------------------------------------------------------------------------


@pytest.mark.attack(116)
async def test_every_answer_says_what_it_may_do(
    sandbox: Sandbox, client: httpx2.AsyncClient, ada: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_payment(ada), headers={"origin": SHOP})
    answers = [
        (await client.get(PATH), ()),
        (seen.answer, (SHOP,)),
        ((await customer.send(seen, "answer", answer="0")).answer, (SHOP,)),
        ((await customer.send(seen, "cancel")).answer, (SHOP,)),
        ((await customer.open(UNKNOWN)).answer, ()),
        ((await customer.open(UNKNOWN, headers={"origin": SHOP})).answer, (SHOP,)),
        (await client.post(PATH, content=b"x", headers={"content-type": "text/plain"}), ()),
    ]
    nonces: set[str] = set()
    for answer, ancestors in answers:
        headers = answer.headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
        nonces.add(nonce)
        assert len(nonce) >= 22
        assert policy["style-src"] == policy["script-src"]
        assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert policy["frame-ancestors"].split()[: len(ancestors) or 1] == list(ancestors or ("'none'",))
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "camera=()" in headers["permissions-policy"]
        assert "x-frame-options" not in headers
        assert "cross-origin-opener-policy" not in headers
        assert set(re.findall(r'nonce="([^"]*)"', answer.text)) == {nonce}
        assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
        assert not re.search(r"\s(?:on[a-z]+|style)=", answer.text)
    assert len(nonces) == len(answers)
    del sandbox


@pytest.mark.attack(116)
async def test_the_token_stands_in_no_answer_and_in_no_log(
    ada: Person, customer: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ott = await a_payment(ada)
    seen = await customer.open(ott)
    texts = [seen.answer.text]
    for do, name, value in (
        ("answer", "answer", "1234"),
        ("choose", "method", "SMS"),
        ("answer", "answer", "111111"),
    ):
        seen = await customer.post(seen.form(do, **{name: value}))
        texts.append(seen.answer.text)
    watched = [*texts, *(record.getMessage() for record in caplog.records if "httpx" not in record.name)]
    for secret in (ott, ott.replace("-", ""), identify(ott).hex(), "6588888888"):
        assert not any(secret in text for text in watched)


@pytest.mark.attack(130)
@pytest.mark.parametrize("origin", [SHOP, "http://127.0.0.1:3000", "https://evil.test", "null"])
async def test_no_other_page_may_read_the_page(client: httpx2.AsyncClient, ada: Person, origin: str) -> None:
    answers = [
        await client.post(PATH, data={"ott": await a_payment(ada)}, headers={"origin": origin}),
        await client.get(PATH, headers={"origin": origin}),
        await client.options(PATH, headers={"origin": origin, "access-control-request-method": "POST"}),
    ]
    for answer in answers:
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers


async def test_files_are_kept_for_ever_under_names_that_change_with_them(
    client: httpx2.AsyncClient,
) -> None:
    page = await client.get(PATH)
    urls = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
    assert len(urls) >= 2
    weight = len(page.content)
    for url in urls:
        answer = await client.get(url)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        weight += len(answer.content)
    assert weight < 40_000
    assert (await client.get("/approve-api-action/static/page.css")).status_code == 404
    assert (await client.get("/approve-api-action/static/..%2fticket.py")).status_code == 404


async def test_the_module_may_be_imported_from_anywhere(client: httpx2.AsyncClient) -> None:
    for path in ("/watchword.js", "/watchword.d.ts"):
        for headers in ({}, {"origin": SHOP}, {"origin": "https://shop.example"}):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 200
            # The sandbox names the origins of this machine one by one.
            assert answer.headers["access-control-allow-origin"] in {"*", headers.get("origin")}
        etag = (await client.get(path)).headers["etag"]
        again = await client.get(path, headers={"if-none-match": etag})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_text_message_binds_its_code_to_the_page(
    sandbox: Sandbox, ada: Person, grace: Person
) -> None:
    here = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=sandbox.app), base_url="http://localhost:8000"
    )
    async with here as client:
        customer = Customer(client)
        framed = await customer.open(await a_statement(grace), headers={"origin": SHOP}, flow="iframe")
        await customer.send(framed, "choose", method="SMS")
        tab = await customer.open(await a_statement(grace), headers={"origin": SHOP}, flow="tab")
        await customer.send(tab, "choose", method="SMS")
        called = await customer.open(await a_statement(grace), flow="tab")
        await customer.send(called, "choose", method="VOICE")
        texts = [message["text"] for message in await sent(client, 6146957)]
    assert texts[0].endswith("\n\n@localhost #111111 @localhost")
    assert texts[1].endswith("\n\n@localhost #111111")
    assert "@" not in texts[2]
    del ada


async def test_no_code_is_bound_to_a_host_that_a_request_made_up(
    client: httpx2.AsyncClient, grace: Person, customer: Customer
) -> None:
    seen = await customer.open(await a_statement(grace), headers={"host": "evil.test"})
    await customer.send(seen, "choose", method="SMS")
    assert "@" not in (await sent(client, 6146957))[-1]["text"]
