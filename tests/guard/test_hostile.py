"""Requests that no honest client sends, and applications that are not to be believed."""

import asyncio
import gzip
from typing import Any

import pytest

from tests.app import (
    BATCH_PATH,
    JSON,
    KEY,
    KEY_PATH,
    PAYMENT_PATH,
    PROFILE,
    STATEMENT_PATH,
    Answer,
    Product,
    call,
    make_product,
)
from tests.factories import BATCH, PAYMENT, STATEMENT
from tests.test_strict_json import BAD
from watchword.asgi import ASGIMessage, Receive, Scope, Send
from watchword.domain.action import Action, Actions, Risk, Route, Spend
from watchword.guard.asgi import Guard
from watchword.protected import timestamp

BODY = b'{"amount":10.0}'
BEARER = ("authorization", "Bearer ada")


async def nothing_happened(product: Product) -> None:
    """Assert that nothing was executed and nothing was issued."""
    assert not product.bank.executions
    assert "token.issued" not in await product.world.event_names()


# --- paths ------------------------------------------------------------------------------------

LOOKALIKES = [
    "/public/..{0}",
    "/%2e%2e{0}",
    "/x/%2e%2e{0}",
    "/./{1}",
    "//{1}",
    "/%2f{1}",
    "{0}/",
    "{0}//",
    "{0}%2f",
    "{0}%2F",
    "{0};x=1",
    "{0}%3bx=1",
    "{0}%00",
    "{0}%20",
    "{0}%09",
    "{0}%0a",
    "{0}/.",
    "{0}/x/..",
    "{0}%3f",
    "{0}%23",
    "/%5c{1}",
    "/%252e%252e{0}",
    "{0}%252f",
    "/%25%32%66{1}",
]


def spellings(path: str) -> list[str]:
    """Spell a path as some router somewhere would still read it."""
    made = [form.format(path, path[1:]) for form in LOOKALIKES]
    head, _, tail = path.rpartition("/")
    made += [
        path.upper(),
        path.title(),
        f"{head}%2f{tail}",
        f"{head}%5c{tail}",
        f"{head}/./{tail}",
        f"{head}//{tail}",
        f"{head};a=b/{tail}",
        f"{head}%EF%BC%8F{tail}",
        f"{head}%c0%af{tail}",
        f"{head}%252f{tail}",
        f"{head}/%{ord(tail[0]):02x}{tail[1:]}",
        f"{head}/%25{ord(tail[0]):02x}{tail[1:]}",
        f"{head}/{chr(ord(tail[0]) - 0x20 + 0xFF00)}{tail[1:]}".encode().decode("latin-1"),
    ]
    return made


@pytest.mark.attack(139)
@pytest.mark.parametrize(("method", "path"), [("POST", PAYMENT_PATH), ("GET", STATEMENT_PATH)])
async def test_no_spelling_of_a_protected_path_reaches_its_handler(method: str, path: str) -> None:
    reached: list[str] = []

    async def anything(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(str(scope["path"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    product = await make_product()
    guard = Guard(
        anything,
        engine=product.world.engine,
        actions=Actions((STATEMENT, PAYMENT)),
        authenticator=product.tokens,
    )
    let_by = []
    for spelling in spellings(path):
        answer = await call(guard, method, spelling, [BEARER])
        assert answer.status in {200, 400, 403}
        if answer.status == 200:
            let_by.append(spelling)
    # Bytes that are no UTF-8 are read as no slash by anybody who is still served.
    assert let_by == [path.rpartition("/")[0] + "%c0%af" + path.rpartition("/")[2]]


@pytest.mark.attack(139)
async def test_no_spelling_reaches_the_bank_unapproved(product: Product) -> None:
    for method, path in (("POST", PAYMENT_PATH), ("GET", STATEMENT_PATH), ("POST", KEY_PATH)):
        for spelling in spellings(path):
            answer = await product.raw(method, spelling)
            assert answer.status in {400, 403, 404, 405}, spelling
    assert not product.bank.executions


@pytest.mark.attack(139)
@pytest.mark.parametrize("slash", ["%2F", "%2f"])
async def test_an_encoded_slash_in_a_parameter_is_no_way_round(product: Product, slash: str) -> None:
    """A router that splits the raw path takes it for the protected one."""
    for path in (
        PAYMENT_PATH.replace("/9/", f"/9{slash}x/"),
        PAYMENT_PATH.replace("tran", "%74ran").replace("/9/", f"/{slash}9/"),
    ):
        answer = await call(product.guard, "POST", path, [BEARER])
        assert answer.status == 400, path
    await nothing_happened(product)


@pytest.mark.parametrize("root", ["/bank", "/bank/"])
async def test_a_root_path_is_no_way_round(product: Product, root: str) -> None:
    """A server that is told its root path puts it before each path; the router takes it off again."""
    for path in (PAYMENT_PATH, f"/bank{PAYMENT_PATH}"):
        answer = await call(product.guard, "POST", path, [BEARER], scope={"root_path": root.rstrip("/")})
        assert answer.status == 403
    assert not product.bank.executions


@pytest.mark.attack(140)
@pytest.mark.parametrize("query", ["?x=/v1/profiles", "?path=/public", "?/../v1/profiles", "?a#b"])
async def test_a_query_is_no_part_of_the_path(product: Product, query: str) -> None:
    assert (await product.raw("POST", PAYMENT_PATH + query)).status == 403
    assert not product.bank.executions


@pytest.mark.attack(143)
@pytest.mark.parametrize("host", ["a?b", "a/x", "a#", "bank.test/v1/profiles", "", "x y", "127.0.0.1:1/../"])
async def test_the_host_says_nothing_about_the_path(product: Product, host: str) -> None:
    assert (await product.raw("POST", PAYMENT_PATH, [("host", host)])).status == 403


@pytest.mark.attack(136)
@pytest.mark.attack(142)
@pytest.mark.parametrize(
    "name",
    [
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-forwarded-prefix",
        "x-forwarded-method",
        "user-agent",
    ],
)
async def test_no_header_says_what_is_called(product: Product, name: str) -> None:
    assert (await product.raw("POST", PAYMENT_PATH, [(name, "/v1/profiles")])).status == 403
    assert (await product.raw("GET", "/v1/profiles", [(name, PAYMENT_PATH)])).status == 200


@pytest.mark.attack(7)
@pytest.mark.parametrize("method", ["post", "Post", "POST "])
async def test_a_method_in_other_letters_runs_nothing(product: Product, method: str) -> None:
    answer = await product.raw(method, PAYMENT_PATH)
    assert answer.status in {400, 403, 405}
    assert not product.bank.executions


async def test_head_runs_no_protected_get(product: Product) -> None:
    assert (await product.raw("HEAD", STATEMENT_PATH)).status == 403
    assert not product.bank.executions


# --- bodies -----------------------------------------------------------------------------------


async def pay(product: Product, body: Any, headers: dict[str, str] = JSON, **more: Any) -> Answer:
    return await product.raw("POST", PAYMENT_PATH, list(headers.items()), body=body, **more)


@pytest.mark.attack(8)
@pytest.mark.attack(85)
@pytest.mark.attack(86)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "application/vnd.bank.v1+json"},
        {"content-type": "APPLICATION/JSON"},
        {"content-type": "text/json"},
        # A framework's ``request.json()`` asks for no media type, and curl sends a form's by default.
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {},
    ],
    ids=lambda headers: headers.get("content-type", "none"),
)
async def test_a_key_that_stands_twice_is_400_at_issue_and_at_retry(headers: dict[str, str]) -> None:
    product = await make_product()
    twice = b'{"amount":10,"amount":9999}'
    answer = await pay(product, twice, headers)
    assert (answer.status, answer.code) == (400, "request.malformed")
    await nothing_happened(product)

    ott = await product.cleared_payment(b'{"amount":10}')
    answer = await pay(product, twice, {**headers, "x-2fa-approval": ott})
    assert (answer.status, answer.code) == (400, "request.malformed")
    assert not product.bank.executions


@pytest.mark.attack(85)
@pytest.mark.attack(86)
async def test_json_that_means_two_things_or_none_is_400(product: Product) -> None:
    for name, body in BAD.items():
        if body:
            answer = await pay(product, body)
            assert (answer.status, answer.code) == (400, "request.malformed"), name
    await nothing_happened(product)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/plain", b"[see attachment]"),
        ("text/csv", b"{;};\n1;2;3\n"),
        ("application/xml", b"<a/>"),
        ("application/x-www-form-urlencoded", b"amount=10&payee=[x]"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n{\r\n--x--\r\n"),
        ("application/octet-stream", bytes(range(256))),
        ("application/jose+json", b"eyJhbGciOiJkaXIifQ..a.b.c"),
        ("", b""),
    ],
)
async def test_what_is_no_json_is_bound_as_it_is(product: Product, media_type: str, body: bytes) -> None:
    assert (await pay(product, body, {"content-type": media_type})).status == 403


@pytest.mark.attack(10)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZip", "gzip, identity", "identity, gzip"])
async def test_a_compressed_body_is_415(product: Product, encoding: str) -> None:
    ott = await product.cleared_payment(BODY)
    for body in (gzip.compress(BODY), BODY):
        headers = {**JSON, "content-encoding": encoding, "x-2fa-approval": ott}
        answer = await pay(product, body, headers)
        assert (answer.status, answer.code) == (415, "media.type.unsupported")
    assert not product.bank.executions
    assert (await product.pay(ott, BODY)).status_code == 201


@pytest.mark.attack(10)
@pytest.mark.parametrize("values", [("identity", "gzip"), ("gzip", "identity")])
async def test_one_of_two_encodings_is_enough_for_415(product: Product, values: tuple[str, str]) -> None:
    pairs = [*JSON.items(), *(("content-encoding", value) for value in values)]
    answer = await product.raw("POST", PAYMENT_PATH, pairs, body=BODY)
    assert (answer.status, answer.code) == (415, "media.type.unsupported")
    await nothing_happened(product)


@pytest.mark.attack(10)
@pytest.mark.parametrize(
    "pairs",
    [
        [("content-type", "application/json"), ("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "application/json"), ("content-type", "application/json")],
        [("content-type", "application/json; charset=utf-7")],
        [("content-type", "application/json;charset=UTF-16")],
        [("content-type", 'application/json; charset="utf-32"')],
        [("content-type", "application/json; charset=utf-8; charset=utf-7")],
        [("content-type", "application/json; charset = utf-7")],
        [("content-type", "application/vnd.bank+json; Charset=UTF-7")],
    ],
)
async def test_json_is_utf_8_and_nothing_else_beside(product: Product, pairs: list[tuple[str, str]]) -> None:
    answer = await product.raw("POST", PAYMENT_PATH, pairs, body=b'{"a":"+ACIAOg-"}')
    assert answer.status in {400, 415}
    await nothing_happened(product)


@pytest.mark.attack(10)
@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/merge-patch+json",
        "application/vnd.bank.v2+json",
    ],
)
async def test_the_same_bytes_as_a_form_are_another_request(product: Product, media_type: str) -> None:
    """Read as a form, this pays 9999."""
    body = b'{"amount":10,"note":"&amount=9999&"}'
    ott = await product.cleared_payment(body)
    answer = await pay(product, body, {"content-type": media_type, "x-2fa-approval": ott})
    assert answer.status == 403
    assert not product.bank.executions


@pytest.mark.attack(10)
async def test_the_same_bytes_between_other_boundaries_are_another_request(product: Product) -> None:
    body = b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n--b\r\n--a--\r\n--b--\r\n'
    first = await pay(product, body, {"content-type": "multipart/form-data; boundary=a"})
    ott = first.header("x-2fa-approval") or ""
    await product.pass_pin(ott)
    await product.pass_sms(ott)
    headers = {"content-type": "multipart/form-data; boundary=b", "x-2fa-approval": ott}
    assert (await pay(product, body, headers)).status == 403
    assert not product.bank.executions


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "text/plain",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset= utf-8; x=y",
        "application/octet-stream",
    ],
)
async def test_a_retry_may_leave_the_media_type_of_json_out(product: Product, media_type: str | None) -> None:
    ott = await product.cleared_payment(BODY)
    headers = {"x-2fa-approval": ott} | ({} if media_type is None else {"content-type": media_type})
    assert (await pay(product, BODY, headers)).status == 201


@pytest.mark.attack(11)
@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize(("size", "status"), [(999, 403), (1000, 403), (1001, 413), (5000, 413)])
async def test_a_body_may_be_as_large_as_is_allowed(size: int, status: int, pieces: int) -> None:
    product = await make_product(body_max=1000)
    step = -(-size // pieces)
    body = [b"x" * len(range(at, min(at + step, size))) for at in range(0, size, step)]
    answer = await pay(product, body, {})
    assert answer.status == status
    if status == 413:
        assert answer.code == "request.too.large"
        await nothing_happened(product)


@pytest.mark.attack(11)
async def test_what_follows_the_limit_is_bound_too() -> None:
    product = await make_product(body_max=1000)
    body = b"1" + b" " * 999
    ott = await product.cleared_payment(body)
    assert (await pay(product, [body, b"2"], {"x-2fa-approval": ott})).status == 413
    assert (await pay(product, body[:-1] + b"\n", {"x-2fa-approval": ott})).status == 403
    assert not product.bank.executions


@pytest.mark.attack(91)
async def test_a_body_that_says_it_is_too_large_is_not_read(product: Product) -> None:
    async def never() -> ASGIMessage:
        pytest.fail("it was read")

    for length in (str(2**20 + 1), "9" * 5000):
        answer = await pay(product, b"", {"content-length": length}, receive=never)
        assert (answer.status, answer.code) == (413, "request.too.large")


@pytest.mark.attack(91)
async def test_a_body_that_comes_too_slowly_is_408() -> None:
    product = await make_product(body_seconds=0.02)
    pieces = [b'{"amount"', b":"]

    async def slow() -> ASGIMessage:
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    answer = await pay(product, b"", receive=slow)
    assert (answer.status, answer.code) == (408, "request.timed.out")
    await nothing_happened(product)


async def test_who_hangs_up_while_sending_has_executed_and_been_issued_nothing(product: Product) -> None:
    ott = await product.cleared_payment(BODY)
    issued = len(await product.world.event_names())
    for headers in (JSON, {**JSON, "x-2fa-approval": ott}):
        messages: list[ASGIMessage] = [
            {"type": "http.request", "body": BODY, "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def hang_up() -> ASGIMessage:
            return messages.pop(0)  # noqa: B023 - used within the loop.

        assert (await pay(product, b"", headers, receive=hang_up)).status == 400
    assert len(await product.world.event_names()) == issued
    assert not product.bank.executions


async def test_nothing_is_read_of_a_body_before_its_sender_is_known(product: Product) -> None:
    async def never() -> ASGIMessage:
        pytest.fail("it was read")

    for headers in ([], [("authorization", "Bearer nobody")], [("authorization", "Bearer application")]):
        answer = await call(product.app, "POST", PAYMENT_PATH, headers, receive=never)
        assert answer.status in {401, 403}
    answer = await pay(product, b"", {"x-2fa-approval": "x"}, receive=never)
    assert answer.status == 400


# --- what the application gets ----------------------------------------------------------------


async def test_the_handler_reads_the_whole_body_and_then_the_disconnect() -> None:
    product = await make_product()
    seen: list[ASGIMessage] = []

    async def reads(_scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        seen.append(await receive())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(
        reads, engine=product.world.engine, actions=Actions((PAYMENT,)), authenticator=product.tokens
    )
    ott = await product.cleared_payment(BODY)
    pieces = [BODY[at : at + 1] for at in range(len(BODY))]
    answer = await call(guard, "POST", PAYMENT_PATH, [BEARER, ("x-2fa-approval", ott)], body=pieces)
    assert answer.status == 204
    assert seen == [{"type": "http.request", "body": BODY, "more_body": False}, {"type": "http.disconnect"}]


async def test_a_streamed_answer_leaves_piece_by_piece(product: Product) -> None:
    """Each piece is out before the next one is made."""
    events: list[str] = []
    go_on = asyncio.Event()

    async def streams(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        events.append("first is out")
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    guard = Guard(
        streams,
        engine=product.world.engine,
        actions=Actions((STATEMENT, BATCH)),
        authenticator=product.tokens,
    )
    await product.cleared_statement()
    sent: list[ASGIMessage] = []

    async def client(message: ASGIMessage) -> None:
        sent.append(message)
        if len(sent) == 2:
            go_on.set()

    async def empty() -> ASGIMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": STATEMENT_PATH,
        "raw_path": STATEMENT_PATH.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer ada")],
    }
    async with asyncio.timeout(5):
        await guard(scope, empty, client)
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n", b"data: 2\n\n"]
    assert (b"x-app", b"1") in sent[0]["headers"]
    assert events == ["first is out"]


async def test_a_decorated_handler_streams_too(product: Product) -> None:
    await product.cleared_statement()
    answer = await product.raw("GET", "/stream")
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert len([message for message in answer.sent if message.get("body")]) == 3
    assert answer.header("x-2fa-approval-result") == "APPROVED"


async def test_an_exception_after_the_answer_has_begun_gives_nothing_back() -> None:
    product = await make_product()

    async def breaks(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})
        raise RuntimeError

    guard = Guard(
        breaks, engine=product.world.engine, actions=Actions((BATCH,)), authenticator=product.tokens
    )
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    headers = [BEARER, ("x-2fa-approval", ott), *JSON.items()]
    with pytest.raises(RuntimeError):
        await call(guard, "POST", BATCH_PATH, headers, body=BODY)
    assert type((await product.world.token(ott)).state).__name__ == "Spent"


async def test_a_handler_that_answers_nothing_leaves_the_ott_reserved() -> None:
    product = await make_product()

    async def mute(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    guard = Guard(mute, engine=product.world.engine, actions=Actions((BATCH,)), authenticator=product.tokens)
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    headers = [BEARER, ("x-2fa-approval", ott), *JSON.items()]
    assert (await call(guard, "POST", BATCH_PATH, headers, body=BODY)).status == 0
    assert type((await product.world.token(ott)).state).__name__ == "Reserved"


@pytest.mark.parametrize("path", [PAYMENT_PATH, STATEMENT_PATH])
async def test_a_websocket_on_a_protected_path_is_refused(product: Product, path: str) -> None:
    sent: list[ASGIMessage] = []

    async def receive() -> ASGIMessage:
        return {"type": "websocket.connect"}

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", b"Bearer ada")],
        "subprotocols": [],
        "scheme": "ws",
    }
    for spelled in (path, path + "/", path.upper()):
        await product.guard({**scope, "path": spelled}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"] * 3
    assert not product.bank.executions
    await product.guard({**scope, "path": "/socket"}, receive, send)
    assert product.bank.executions == {"socket": 1}


async def test_lifespan_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    product = await make_product()
    guard = Guard(app, engine=product.world.engine, actions=Actions(()), authenticator=product.tokens)

    async def never() -> ASGIMessage:
        raise AssertionError

    async def nowhere(_message: ASGIMessage) -> None:
        raise AssertionError

    await guard({"type": "lifespan"}, never, nowhere)
    assert seen == ["lifespan"]


# --- the decorator ----------------------------------------------------------------------------


async def test_a_decorator_names_an_action_that_exists(product: Product) -> None:
    with pytest.raises(KeyError):
        product.guard.protects("NO__SUCH")


async def test_a_decorator_behind_a_middleware_asks_once() -> None:
    """One OTT is enough where both protect the same action, and spent once."""
    both = Action(name=KEY.name, risk=Risk.HIGH, routes=(Route.parse("POST /keys"),), bind=KEY.bind)
    product = await make_product(actions=(STATEMENT, both))
    ott = await product.cleared_payment(BODY, path=KEY_PATH)
    assert (await product.pay(ott, BODY, path=KEY_PATH)).status_code == 201
    assert (await product.pay(ott, BODY, path=KEY_PATH)).status_code == 403
    assert product.bank.executions == {"key": 1}


async def test_a_decorator_of_another_action_asks_for_its_own() -> None:
    """What the middleware let through by the low-risk session, the decorator still holds back."""
    low = Action(name="KEY__LIST", risk=Risk.LOW, routes=(Route.parse("POST /keys"),))
    product = await make_product(actions=(STATEMENT, low, KEY))
    await product.cleared_statement()
    answer = await product.pay(None, BODY, path=KEY_PATH)
    assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (403, "REJECTED")
    assert not product.bank.executions


async def test_a_decorated_handler_is_protected_whatever_its_path(product: Product) -> None:
    ott = await product.cleared_payment(BODY, path=KEY_PATH)
    assert (await product.pay(ott, b"[]", path=KEY_PATH)).status_code == 403
    assert (await product.pay(ott, BODY, path=KEY_PATH)).status_code == 403
    assert not product.bank.executions


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (1578054896789, "2020-01-03T12:34:56.789+0000"),
        (0, "1970-01-01T00:00:00.000+0000"),
        (1, "1970-01-01T00:00:00.001+0000"),
    ],
)
def test_a_moment_is_written_as_the_public_api_does(now: Any, text: str) -> None:
    assert timestamp(now) == text


async def test_profiles_are_the_application_s_affair(product: Product) -> None:
    """The guard asks for a proof; who may touch what is decided behind or before it."""
    path = PAYMENT_PATH.replace(str(PROFILE), "1")
    assert (await product.raw("POST", path)).status == 403


# --- leases, and what two gates make of one answer --------------------------------------------


async def test_a_lease_is_given_back_once_and_never_another_s() -> None:
    """A handler that failed twice over would otherwise free the lease of the retry."""
    product = await make_product()
    failed, retried = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def fails(_scope: Scope, _receive: Receive, send: Send) -> None:
        runs.append("run")
        if failed.is_set():
            retried.set()
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 500, "headers": []})
        failed.set()
        await retried.wait()
        raise RuntimeError

    guard = Guard(fails, engine=product.world.engine, actions=Actions((BATCH,)), authenticator=product.tokens)
    ott = await product.cleared_payment(BODY, path=BATCH_PATH)
    headers = [BEARER, ("x-2fa-approval", ott), *JSON.items()]
    first = asyncio.create_task(call(guard, "POST", BATCH_PATH, headers, body=BODY))
    await failed.wait()
    second = asyncio.create_task(call(guard, "POST", BATCH_PATH, headers, body=BODY))
    await retried.wait()
    with pytest.raises(RuntimeError):
        await first
    assert type((await product.world.token(ott)).state).__name__ == "Reserved"
    assert (await call(guard, "POST", BATCH_PATH, headers, body=BODY)).status == 403
    second.cancel()
    assert runs == ["run", "run"]


async def test_an_inner_gate_s_refusal_spends_nothing_of_an_outer_one() -> None:
    outer = Action(
        name="KEY__LIST", risk=Risk.LOW, routes=(Route.parse("POST /keys"),), spend=Spend.ON_SUCCESS
    )
    product = await make_product(actions=(STATEMENT, outer, KEY))
    ott = await product.ott("POST", KEY_PATH)
    await product.pass_sms(ott)
    answer = await product.pay(ott, BODY, path=KEY_PATH)
    assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (403, "REJECTED")
    assert answer.headers["x-2fa-approval"] != ott
    assert type((await product.world.token(ott)).state).__name__ == "Cleared"
    assert not product.bank.executions


async def test_an_application_s_own_headers_are_replaced_in_any_case_of_letters(product: Product) -> None:
    async def forges(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [
            (b"X-2FA-Approval", b"00000000-0000-4000-8000-000000000000"),
            (b"X-2fa-Approval-Result", b"REJECTED"),
            (b"x-2fa-approval-result", b"REJECTED"),
            (b"Cache-Control", b"public, max-age=3600"),
            (b"X-App", b"1"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(
        forges, engine=product.world.engine, actions=Actions((STATEMENT,)), authenticator=product.tokens
    )
    await product.cleared_statement()
    answer = await call(guard, "GET", STATEMENT_PATH, [BEARER])
    assert answer.all("x-2fa-approval") == []
    assert answer.all("x-2fa-approval-result") == ["APPROVED"]
    assert answer.all("cache-control") == ["no-store"]
    assert answer.all("x-app") == ["1"]
