"""PINs and fingerprints encrypted on their way, against a server that uses `cryptography` alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx2 as httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.client import fake_jose
from tests.client.fake import (
    APPLICATION,
    BEARER,
    CODE,
    ELSEWHERE,
    FINGERPRINT,
    HOME,
    JOSE_HEADERS,
    KEYS,
    PIN,
    FakeServer,
    Handler,
    Person,
    Sender,
    key_answer,
    problem,
    redirect,
    sealed,
)
from watchword.client import Jose, RedirectedError, RefusedError, ServerError, StaticResolver

PIN_VERIFY = "/v1/one-time-token/pin/verify"
PAYMENT = "POST /v3/payments?a=%7e1"
STATUS = "GET /v1/one-time-token/status"
FETCH = f"GET {KEYS}?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION"


def with_key(mode: Any = "required", **options: Any) -> Jose:
    return Jose(mode, server_key=fake_jose.public_pem(fake_jose.private_key()), **options)


@pytest.mark.parametrize(
    ("method", "secret", "plain"),
    [
        ("PIN", PIN, {"pin": PIN}),
        ("PARTNER_DEVICE_FINGERPRINT", FINGERPRINT, {"deviceFingerprint": FINGERPRINT}),
    ],
)
def test_a_secret_is_encrypted_to_the_servers_key_and_the_answer_read(
    send: Sender, method: str, secret: str, plain: dict[str, str]
) -> None:
    server = FakeServer([[method]], jose="required")
    assert send(server, Person([method], [secret]), jose=with_key()).status_code == 201
    assert [json.loads(unsealed.payload) for unsealed in server.unsealed] == [plain]
    verify = server.exchanges[2]
    assert verify.headers.items() >= JOSE_HEADERS.items()
    assert verify.headers["one-time-token"] in server.issued
    assert verify.headers["authorization"] == f"Bearer {BEARER}"
    assert secret.encode() not in verify.body
    assert not any(secret.encode() in exchange.body for exchange in server.exchanges)


def test_the_protected_header_has_the_two_documented_members_and_no_more(send: Sender) -> None:
    server = FakeServer(jose="required")
    send(server, StaticResolver(pin=PIN), jose=with_key())
    protected = server.exchanges[2].body.partition(b".")[0]
    assert fake_jose.unsegment(protected) == b'{"enc":"A256GCM","alg":"RSA-OAEP-256"}'


@pytest.mark.attack(112)
def test_on_request_the_message_is_bound_to_its_token_and_to_the_time(send: Sender) -> None:
    server = FakeServer(jose="required")
    send(server, StaticResolver(pin=PIN), jose=with_key(binds=True, now=lambda: 1_700_000_000.9))
    assert server.unsealed[0].header == {
        "enc": "A256GCM",
        "alg": "RSA-OAEP-256",
        "ott": next(iter(server.issued)),
        "iat": 1_700_000_000,
    }


def test_no_two_messages_have_a_key_or_a_nonce_in_common(send: Sender) -> None:
    server = FakeServer([["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]], jose="required")
    send(server, StaticResolver(pin=PIN, device_fingerprint=FINGERPRINT), jose=with_key())
    first, second = server.unsealed
    assert first.content_key != second.content_key
    assert server.exchanges[2].body.split(b".")[1:] != server.exchanges[3].body.split(b".")[1:]
    assert server.exchanges[2].body.split(b".")[2] != server.exchanges[3].body.split(b".")[2]


def test_what_has_no_encrypted_form_stays_plain(send: Sender) -> None:
    server = FakeServer([["SMS"], ["FACE_MAP"]])
    resolver = StaticResolver(otp_code=CODE, face_map=b"\x00\xff a face map")
    assert send(server, resolver, jose=with_key()).status_code == 201
    assert server.unsealed == []


@pytest.mark.parametrize("is_sealed", [True, False], ids=["encrypted", "plain"])
def test_a_wrong_pin_is_asked_for_again_however_the_server_says_so(send: Sender, is_sealed: bool) -> None:
    server = FakeServer(jose="required")
    wrong = problem(400, "pin.incorrect", [4])

    def refuse(request: httpx.Request) -> httpx.Response:
        opened = fake_jose.unseal(request.content, server.private)
        return sealed(wrong, opened.content_key if is_sealed else None)

    server.scripts = {PIN_VERIFY: [refuse]}
    person = Person(["PIN"], ["0000", PIN])
    assert send(server, person, jose=with_key()).status_code == 201
    assert person.questions[1].problem is not None
    assert person.questions[1].problem.attempts_left == 4


# ------------------------------------------------------------------------------- the modes


@pytest.mark.parametrize("jose", [None, Jose("off"), Jose("auto"), with_key("off"), with_key("auto")])
def test_plain_json_is_the_rule_where_nobody_insists(send: Sender, jose: Jose | None) -> None:
    server = FakeServer()
    assert send(server, StaticResolver(pin=PIN), jose=jose).status_code == 201
    assert server.exchanges[2].body == b'{"pin":"4711"}'
    assert server.exchanges[2].headers["accept"] == "application/json"
    assert "x-tw-jose-method" not in server.exchanges[2].headers
    assert len(server.exchanges) == 4


def test_a_server_that_refuses_plain_json_gets_it_encrypted_from_then_on(send: Sender) -> None:
    server = FakeServer([["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]], jose="required")
    resolver = StaticResolver(pin=PIN, device_fingerprint=FINGERPRINT)
    assert send(server, resolver, jose=with_key("auto")).status_code == 201
    assert server.lines == [
        PAYMENT,
        STATUS,
        f"POST {PIN_VERIFY}",
        f"POST {PIN_VERIFY}",
        "POST /v1/one-time-token/partner-device-fingerprint/verify",
        PAYMENT,
    ]
    assert server.exchanges[2].body == b'{"pin":"4711"}'
    assert len(server.unsealed) == 2


@pytest.mark.parametrize("jose", [None, Jose("off"), Jose("auto"), with_key("off")])
def test_without_a_key_the_refusal_of_plain_json_is_told(send: Sender, jose: Jose | None) -> None:
    server = FakeServer(jose="required")
    with pytest.raises(RefusedError) as caught:
        send(server, StaticResolver(pin=PIN), jose=jose)
    assert (caught.value.reason, caught.value.status) == ("media.type.unsupported", 415)
    assert server.lines.count(f"POST {PIN_VERIFY}") == 1


def test_where_encryption_is_required_a_success_in_the_clear_is_none(send: Sender) -> None:
    server = FakeServer(answers_sealed=False)
    with pytest.raises(ServerError, match="in the clear"):
        send(server, StaticResolver(pin=PIN), jose=with_key())
    assert server.executions == []


def test_where_it_is_not_required_a_success_in_the_clear_will_do(send: Sender) -> None:
    server = FakeServer(jose="required", answers_sealed=False)
    assert send(server, StaticResolver(pin=PIN), jose=with_key("auto")).status_code == 201


def test_a_server_that_still_refuses_what_is_encrypted_is_not_asked_for_ever(send: Sender) -> None:
    refusals: list[Any] = [problem(415, "media.type.unsupported") for _ in range(9)]
    server = FakeServer(scripts={PIN_VERIFY: refusals})
    with pytest.raises(RefusedError):
        send(server, StaticResolver(pin=PIN), jose=with_key("auto"))
    assert server.lines.count(f"POST {PIN_VERIFY}") == 2


# ------------------------------------------------------------------------------- the server's key


def test_the_key_is_fetched_with_the_applications_token_and_kept(send: Sender) -> None:
    server = FakeServer([["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]], jose="required")
    resolver = StaticResolver(pin=PIN, device_fingerprint=FINGERPRINT)
    jose = Jose("required", application_token=APPLICATION)
    assert send(server, resolver, jose=jose).status_code == 201
    assert server.lines[2] == FETCH
    assert [line for line in server.lines if KEYS in line] == [FETCH]
    fetch = server.exchanges[2]
    assert fetch.headers["authorization"] == f"Bearer {APPLICATION}"
    assert fetch.headers["accept"] == "application/json"
    assert "one-time-token" not in fetch.headers
    others = [e.headers["authorization"] for e in server.exchanges if e is not fetch]
    assert set(others) == {f"Bearer {BEARER}"}


def test_the_key_is_not_fetched_before_it_is_needed(send: Sender) -> None:
    server = FakeServer([["SMS"]])
    send(server, StaticResolver(otp_code=CODE), jose=Jose("required", application_token=APPLICATION))
    assert not [line for line in server.lines if KEYS in line]


def test_the_key_comes_from_where_the_one_time_token_endpoints_are(send: Sender) -> None:
    server = FakeServer(jose="required", prefix="/sca")
    jose = Jose("auto", application_token=APPLICATION)
    assert send(server, StaticResolver(pin=PIN), jose=jose, base_url=f"{ELSEWHERE}/sca").status_code == 201
    seen_by = {e.url.partition("/sca")[0] for e in server.exchanges if APPLICATION in str(e.headers)}
    assert seen_by == {ELSEWHERE}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={"error": "invalid_token"}), RefusedError),
        (problem(403, "principal.not.allowed"), RefusedError),
        (httpx.Response(500), ServerError),
        (httpx.Response(200, content=b"<html>"), ServerError),
        (httpx.Response(200, json=[key_answer(fake_jose.private_key())]), ServerError),
        (httpx.Response(200, json={"keyMaterial": {"keyMaterial": "bm8ga2V5"}}), ServerError),
        (httpx.Response(200, json=key_answer(fake_jose.private_key(9, 1024))), ServerError),
        (redirect(f"{ELSEWHERE}{KEYS}"), RedirectedError),
    ],
    ids=["401", "403", "500", "html", "a list", "no key", "1024 bits", "redirect"],
)
def test_without_the_servers_key_no_secret_leaves(
    send: Sender, answer: httpx.Response, kind: type[Exception]
) -> None:
    server = FakeServer(scripts={KEYS: [answer]})
    with pytest.raises(kind):
        send(server, StaticResolver(pin=PIN), jose=Jose("required", application_token=APPLICATION))
    assert server.lines == [PAYMENT, STATUS, FETCH]


NOT_OPENED = [
    httpx.Response(400, json={"error": "jwe_error", "error_description": "No."}),
    httpx.Response(500, json={"message": "An unexpected error occurred", "request_id": "0" * 32}),
]


@pytest.mark.parametrize("answer", NOT_OPENED, ids=["400", "500"])
def test_a_key_that_was_replaced_is_fetched_again_once(send: Sender, answer: httpx.Response) -> None:
    old, new = fake_jose.private_key(), fake_jose.private_key(1)
    server = FakeServer(
        [["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]],
        jose="required",
        key=old,
        published=[old, new],
        not_opened=answer,
    )

    class Rotates(StaticResolver):
        def secret(self, question: Any, /) -> str | bytes:
            server.key = new if question.method != "PIN" else old
            return super().secret(question)

    resolver = Rotates(pin=PIN, device_fingerprint=FINGERPRINT)
    jose = Jose("required", application_token=APPLICATION)
    assert send(server, resolver, jose=jose).status_code == 201
    assert server.lines.count(FETCH) == 2
    assert len(server.unsealed) == 2


@pytest.mark.parametrize("answer", NOT_OPENED, ids=["400", "500"])
def test_a_key_that_is_still_the_same_is_not_tried_twice(send: Sender, answer: httpx.Response) -> None:
    server = FakeServer(
        [["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]],
        jose="required",
        not_opened=answer,
        published=[fake_jose.private_key()],
    )

    class Confuses(StaticResolver):
        def secret(self, question: Any, /) -> str | bytes:
            server.key = fake_jose.private_key(1) if question.method != "PIN" else None
            return super().secret(question)

    resolver = Confuses(pin=PIN, device_fingerprint=FINGERPRINT)
    with pytest.raises((RefusedError, ServerError)):
        send(server, resolver, jose=Jose("required", application_token=APPLICATION))
    assert len([e for e in server.exchanges if e.url.endswith("device-fingerprint/verify")]) == 1
    assert server.executions == []


def test_a_key_that_was_fetched_just_now_is_not_fetched_again(send: Sender) -> None:
    server = FakeServer(jose="required", published=[fake_jose.private_key(1), fake_jose.private_key()])
    with pytest.raises(RefusedError, match="jwe_error"):
        send(server, StaticResolver(pin=PIN), jose=Jose("required", application_token=APPLICATION))
    assert server.lines.count(FETCH) == 1


def test_a_key_that_was_given_is_not_replaced(send: Sender) -> None:
    server = FakeServer(jose="required", key=fake_jose.private_key(1))
    with pytest.raises(RefusedError, match="jwe_error"):
        send(server, StaticResolver(pin=PIN), jose=with_key())
    assert not [line for line in server.lines if KEYS in line]


# ------------------------------------------------------------------------------- answers


def answer_of(body: bytes) -> Handler:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/jose+json"}, content=body)

    return answer


def under(content_key: bytes, header: Mapping[str, Any]) -> bytes:
    return fake_jose.seal_answer(b"{}", content_key, dict(header))


@pytest.mark.parametrize(
    "body",
    [
        b"no message",
        b"....",
        under(bytes(32), {"enc": "A256GCM", "alg": "dir"}),
        fake_jose.seal_to(b"{}", fake_jose.private_key().public_key()),
    ],
    ids=["no message", "empty", "another key", "to the server itself"],
)
def test_an_answer_that_cannot_be_opened_is_none(send: Sender, body: bytes) -> None:
    server = FakeServer(scripts={PIN_VERIFY: [answer_of(body)]})
    with pytest.raises(ServerError, match="cannot be opened"):
        send(server, StaticResolver(pin=PIN), jose=with_key())
    assert server.executions == []


def test_one_bit_changed_on_the_way_back_is_noticed(send: Sender) -> None:
    server = FakeServer(jose="required")

    def flip(request: httpx.Request) -> httpx.Response:
        server.scripts = {}
        answer = server(request)
        head, _, tag = answer.content.rpartition(b".")
        changed = fake_jose.segment(bytes([fake_jose.unsegment(tag)[0] ^ 1]) + fake_jose.unsegment(tag)[1:])
        return httpx.Response(200, headers=answer.headers, content=head + b"." + changed)

    server.scripts = {PIN_VERIFY: [flip]}
    with pytest.raises(ServerError, match="cannot be opened"):
        send(server, StaticResolver(pin=PIN), jose=with_key())


def test_an_encrypted_answer_of_another_shape_is_a_fault_of_the_server(send: Sender) -> None:
    server = FakeServer()

    def nonsense(request: httpx.Request) -> httpx.Response:
        opened = fake_jose.unseal(request.content, server.private)
        return sealed(httpx.Response(200, content=b"[]"), opened.content_key)

    server.scripts = {PIN_VERIFY: [nonsense]}
    with pytest.raises(ServerError, match="cannot be read"):
        send(server, StaticResolver(pin=PIN), jose=with_key())


# ------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "always"}, "off, auto or required"),
        ({"mode": "required"}, "needs the server's key"),
        ({"mode": "required", "application_token": ""}, "needs the server's key"),
        ({"mode": "auto", "server_key": "no key"}, "not a public key"),
        ({"mode": "auto", "server_key": fake_jose.spki(fake_jose.private_key(9, 1024))}, "2048 bits"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Jose(**options)


def test_each_server_has_its_own_key(send: Sender) -> None:
    """An object serves calls to several places, and what it learns about one is not used at another."""
    if send.mode != "sync":
        return
    from watchword.client import Auth  # noqa: PLC0415

    jose = Jose("required", application_token=APPLICATION)
    auth = Auth(StaticResolver(pin=PIN), token=BEARER, jose=jose)
    keys: list[rsa.RSAPrivateKey] = [fake_jose.private_key(), fake_jose.private_key(1)]
    for place, key in zip((HOME, ELSEWHERE), keys, strict=True):
        server = FakeServer(jose="required", key=key)
        with httpx.Client(auth=auth, transport=httpx.MockTransport(server)) as client:
            assert client.post(f"{place}/v3/payments").status_code == 201
            assert client.post(f"{place}/v3/payments").status_code == 201
        assert len([e for e in server.exchanges if KEYS in e.url]) == 1
        assert len([e for e in server.exchanges if e.url.endswith(PIN_VERIFY)]) == 2


def test_no_secret_shows_in_its_text() -> None:
    jose = Jose("required", application_token=APPLICATION)
    assert APPLICATION not in repr(jose)
    assert base64.b64encode(fake_jose.spki(fake_jose.private_key())).decode() not in repr(with_key())
