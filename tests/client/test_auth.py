"""The `Auth` against a small server: every branch of a step-up, synchronously and asynchronously."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator

import anyio
import anyio.from_thread
import httpx2 as httpx
import pytest

from tests.client.fake import (
    BEARER,
    CODE,
    ELSEWHERE,
    FACE,
    FINGERPRINT,
    HOME,
    MASKED,
    PIN,
    AsyncPerson,
    FakeServer,
    Person,
    Sender,
    problem,
    redirect,
    refusal,
    shape,
)
from watchword.client import (
    Auth,
    Choice,
    DeclinedError,
    EnrolmentRequiredError,
    Instead,
    LockedError,
    NotApprovedError,
    Problem,
    RedirectedError,
    RefusedError,
    SecretQuestion,
    ServerError,
    StaticResolver,
    TokenGoneError,
    UnsupportedChallengeError,
    WatchwordError,
)

STATUS = "/v1/one-time-token/status"
PIN_VERIFY = "/v1/one-time-token/pin/verify"
SMS_TRIGGER = "/v1/one-time-token/sms/trigger"
SMS_VERIFY = "/v1/one-time-token/sms/verify"
VOICE_TRIGGER = "/v1/one-time-token/voice/trigger"
PAYMENT = "POST /v3/payments?a=%7e1"
PHONE = ("SMS", "WHATSAPP", "VOICE")
OTT = "9f5f5812-2609-4e48-8418-b64437c0c7cd"


def nobody() -> Person:
    """Return a person who must not be asked: there is nothing to pick or type."""
    return Person([], [])


# ------------------------------------------------------------------------------- what is not ours


def test_an_answer_that_asks_for_nothing_is_handed_on_as_it_is(send: Sender) -> None:
    server = FakeServer(scripts={"/open": [httpx.Response(200, text="hello")]})
    assert send(server, nobody(), "GET", f"{HOME}/open").text == "hello"
    assert server.lines == ["GET /open"]


@pytest.mark.parametrize(
    "answer",
    [
        problem(403, "forbidden"),
        problem(403, "forbidden", x_2fa_approval_result="APPROVED"),
        problem(403, "forbidden", x_2fa_approval=OTT),
        problem(400, "request.malformed", x_2fa_approval=OTT),
        problem(429, "too.many.requests", retry_after="5"),
        problem(503, "store.unavailable", x_2fa_approval_result="REJECTED"),
        httpx.Response(200, headers={"x-2fa-approval-result": "REJECTED", "x-2fa-approval": OTT}),
    ],
    ids=["no header", "approved", "token alone", "400 with token alone", "429", "503", "200"],
)
def test_an_answer_without_the_sign_of_a_step_up_is_handed_on(send: Sender, answer: httpx.Response) -> None:
    server = FakeServer(scripts={"/open": [answer]})
    assert send(server, nobody(), "GET", f"{HOME}/open").status_code == answer.status_code
    assert server.lines == ["GET /open"]


def test_a_body_that_the_protocol_does_not_need_stays_unread() -> None:
    class Stream(httpx.SyncByteStream):
        read = False

        def __iter__(self) -> Iterator[bytes]:
            self.read = True
            yield b"later"

    stream = Stream()
    server = FakeServer(scripts={"/open": [lambda _: httpx.Response(200, stream=stream)]})
    with (
        httpx.Client(auth=Auth(nobody()), transport=httpx.MockTransport(server)) as client,
        client.stream("GET", f"{HOME}/open") as response,
    ):
        assert not stream.read
        assert response.read() == b"later"


# ------------------------------------------------------------------------------- the main path


def test_a_challenge_is_cleared_and_the_same_request_repeated_once(send: Sender) -> None:
    server = FakeServer()
    response = send(server, Person(["PIN"], [PIN]), content=b'{"amount":0.0}', headers={"x-mine": "kept"})
    assert response.status_code == 201
    assert response.headers["x-2fa-approval-result"] == "APPROVED"
    assert server.lines == [PAYMENT, f"GET {STATUS}", f"POST {PIN_VERIFY}", PAYMENT]
    assert server.executions == [b'{"amount":0.0}']
    first, status, verify, again = server.exchanges
    token = next(iter(server.issued))
    assert again.body == first.body
    assert again.url == first.url
    assert again.headers == first.headers | {"x-2fa-approval": token}
    assert "one-time-token" not in again.headers
    assert status.headers["one-time-token"] == verify.headers["one-time-token"] == token
    assert verify.body == b'{"pin":"4711"}'
    assert verify.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_every_method_is_repeated_as_it_was(send: Sender, method: str) -> None:
    server = FakeServer()
    assert send(server, Person(["PIN"], [PIN]), method).status_code == 201
    assert [e.method for e in server.exchanges] == [method, "GET", "POST", method]


def test_a_streamed_body_is_repeated_byte_for_byte(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), chunks=[b"one,", b"\x00\xff,", b"three"])
    assert server.exchanges[0].body == server.exchanges[-1].body == b"one,\x00\xff,three"
    assert server.executions == [b"one,\x00\xff,three"]


def test_a_multipart_body_is_repeated_byte_for_byte(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), files={"file": ("a.bin", b"\x00\x01")}, data={"a": "b"})
    assert server.exchanges[0].body == server.exchanges[-1].body != b""
    assert server.exchanges[0].headers["content-type"] == server.exchanges[-1].headers["content-type"]


def test_a_400_with_both_headers_is_taken_as_the_403_it_stands_for(send: Sender) -> None:
    def as_400(request: httpx.Request) -> httpx.Response:
        answer = FakeServer.__call__(server, request)
        return refusal(answer.headers["x-2fa-approval"], 400)

    server = FakeServer(scripts={"/v3/payments": [as_400]})
    assert send(server, Person(["PIN"], [PIN])).status_code == 201


def test_a_refusal_with_an_empty_body_is_cleared(send: Sender) -> None:
    def emptied(request: httpx.Request) -> httpx.Response:
        answer = FakeServer.__call__(server, request)
        return httpx.Response(403, headers={n: v for n, v in answer.headers.items() if n.startswith("x-")})

    server = FakeServer(scripts={"/v3/payments": [emptied]})
    assert send(server, Person(["PIN"], [PIN])).status_code == 201


def test_a_device_fingerprint_is_sent_under_its_own_key(send: Sender) -> None:
    server = FakeServer([["PARTNER_DEVICE_FINGERPRINT"]])
    send(server, Person(["PARTNER_DEVICE_FINGERPRINT"], [FINGERPRINT]))
    assert server.lines[2] == "POST /v1/one-time-token/partner-device-fingerprint/verify"
    assert server.exchanges[2].body == b'{"deviceFingerprint":"%s"}' % FINGERPRINT.encode()
    assert len(server.executions) == 1


def test_a_face_map_is_sent_as_base64(send: Sender) -> None:
    server = FakeServer([["FACE_MAP"]])
    person = Person(["FACE_MAP"], [b"another face", FACE])
    assert send(server, person).status_code == 201
    assert server.lines[3] == "POST /v1/one-time-token/facemap/verify"
    assert json.loads(server.exchanges[3].body) == {"faceMap": base64.b64encode(FACE).decode()}
    assert server.exchanges[3].headers["content-type"] == "application/json"
    assert person.questions[1].problem is not None
    assert person.questions[1].problem.reason == "facemap.incorrect"


def test_a_face_map_that_is_base64_already_is_sent_as_it_is(send: Sender) -> None:
    server = FakeServer([["FACE_MAP"]])
    assert send(server, Person(["FACE_MAP"], [base64.b64encode(FACE).decode()])).status_code == 201


def test_bytes_are_no_answer_to_a_question_for_words(send: Sender) -> None:
    server = FakeServer()
    with pytest.raises(TypeError, match="answer pin with a string"):
        send(server, Person(["PIN"], [PIN.encode()]))
    assert server.lines == [PAYMENT, f"GET {STATUS}"]


@pytest.mark.parametrize("method", PHONE)
def test_only_the_phone_method_that_was_picked_is_triggered(send: Sender, method: str) -> None:
    server = FakeServer([PHONE])
    person = Person([method], [CODE])
    assert send(server, person).status_code == 201
    assert [line for line in server.lines if line.endswith("/trigger")] == [
        f"POST /v1/one-time-token/{method.lower()}/trigger"
    ]
    assert person.choices == [Choice(action="TRANSFER__FUND", methods=PHONE, remaining=1)]
    assert person.questions == [
        SecretQuestion(
            action="TRANSFER__FUND",
            method=method,
            alternatives=tuple(m for m in PHONE if m != method),
            sent_to=MASKED,
        )
    ]


def test_no_message_is_sent_when_the_person_picks_another_method(send: Sender) -> None:
    server = FakeServer([["SMS", "PIN"]])
    send(server, Person(["PIN"], [PIN]))
    assert not [line for line in server.lines if line.endswith("/trigger")]
    assert len(server.executions) == 1


def test_no_message_is_sent_before_the_person_agreed_to_the_only_method(send: Sender) -> None:
    class Refuses:
        def choose(self, _choice: Choice, /) -> str:
            raise DeclinedError("no")

        def secret(self, _question: SecretQuestion, /) -> str:
            raise AssertionError

    server = FakeServer([["SMS"]])
    with pytest.raises(DeclinedError):
        send(server, Refuses())
    assert server.lines == [PAYMENT, f"GET {STATUS}"]


@pytest.mark.parametrize("drops_solved", [True, False])
def test_two_challenges_are_cleared_one_after_the_other(send: Sender, drops_solved: bool) -> None:
    server = FakeServer([["PIN"], PHONE], drops_solved=drops_solved)
    person = Person(["PIN", "WHATSAPP"], [PIN, CODE])
    assert send(server, person).status_code == 201
    assert server.lines == [
        PAYMENT,
        f"GET {STATUS}",
        f"POST {PIN_VERIFY}",
        "POST /v1/one-time-token/whatsapp/trigger",
        "POST /v1/one-time-token/whatsapp/verify",
        PAYMENT,
    ]
    assert [choice.remaining for choice in person.choices] == [2, 1]
    assert {choice.action for choice in person.choices} == {"TRANSFER__FUND"}


def status_of(*challenges: dict[str, object]) -> Callable[[httpx.Request], httpx.Response]:
    """Answer a status call with these challenges."""

    def answer(request: httpx.Request) -> httpx.Response:
        properties = {"oneTimeToken": request.headers["one-time-token"], "challenges": challenges}
        return httpx.Response(200, json={"oneTimeTokenProperties": properties})

    return answer


def test_challenges_that_are_passed_or_not_required_are_skipped(send: Sender) -> None:
    status = status_of(
        {"primaryChallenge": shape("SMS"), "alternatives": [], "required": True, "passed": True},
        {"primaryChallenge": shape("FACE_MAP"), "alternatives": [], "required": False, "passed": False},
        {"primaryChallenge": {"type": "PIN"}},
    )
    server = FakeServer(scripts={STATUS: [status]})
    person = Person(["PIN"], [PIN])
    assert send(server, person).status_code == 201
    assert [choice.methods for choice in person.choices] == [("PIN",)]


def test_a_token_that_is_ready_already_is_used_without_a_question(send: Sender) -> None:
    server = FakeServer([])
    assert send(server, nobody()).status_code == 201
    assert server.lines == [PAYMENT, f"GET {STATUS}", PAYMENT]


def test_an_alternative_may_be_a_bare_string(send: Sender) -> None:
    server = FakeServer([PHONE], bare_alternatives=True)
    person = Person(["VOICE"], [CODE])
    assert send(server, person).status_code == 201
    assert person.choices[0].methods == PHONE


def test_the_type_of_the_primary_challenge_counts_and_not_one_beside_it(send: Sender) -> None:
    status = status_of({"type": "SMS", "primaryChallenge": shape("PIN"), "alternatives": []})
    server = FakeServer(scripts={STATUS: [status]})
    person = Person(["PIN"], [PIN])
    assert send(server, person).status_code == 201
    assert person.choices[0].methods == ("PIN",)


def test_unknown_methods_are_offered_to_nobody(send: Sender) -> None:
    server = FakeServer([["TELEPATHY", "PIN", "PASSWORD"]])
    person = Person(["PIN"], [PIN])
    assert send(server, person).status_code == 201
    assert person.choices[0].methods == ("PIN",)


def test_a_challenge_without_a_usable_method_ends_it_before_anybody_is_asked(send: Sender) -> None:
    server = FakeServer([["SMS"], ["TELEPATHY", "PASSWORD"]])
    with pytest.raises(UnsupportedChallengeError) as caught:
        send(server, nobody())
    assert caught.value.methods == ("TELEPATHY", "PASSWORD")
    assert server.lines == [PAYMENT, f"GET {STATUS}"]


# ------------------------------------------------------------------------------- things go wrong


def test_a_second_refusal_is_an_error_and_no_second_round(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [None, refusal(OTT)]})
    with pytest.raises(NotApprovedError) as caught:
        send(server, Person(["PIN"], [PIN]))
    assert caught.value.reason == "sca.required"
    assert server.lines == [PAYMENT, f"GET {STATUS}", f"POST {PIN_VERIFY}", PAYMENT]


def test_an_ordinary_403_of_the_handler_is_handed_on_after_approval(send: Sender) -> None:
    answer = problem(403, "transfer.forbidden", x_2fa_approval_result="APPROVED")
    server = FakeServer(scripts={"/v3/payments": [None, answer]})
    assert send(server, Person(["PIN"], [PIN])).status_code == 403


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("signature.incorrect", 403, RefusedError),
        ("sca.locked", 429, LockedError),
        ("sca.enrolment.required", 403, EnrolmentRequiredError),
    ],
)
def test_a_repeated_call_refused_without_a_token_says_why(
    send: Sender, code: str, status: int, kind: type[RefusedError]
) -> None:
    answer = problem(status, code, x_2fa_approval_result="REJECTED")
    server = FakeServer(scripts={"/v3/payments": [None, answer]})
    with pytest.raises(RefusedError) as caught:
        send(server, Person(["PIN"], [PIN]))
    assert type(caught.value) is kind
    assert caught.value.reason == code


def test_a_lock_is_told_even_beside_a_new_token(send: Sender) -> None:
    answer = problem(403, "sca.locked", x_2fa_approval_result="REJECTED", x_2fa_approval=OTT)
    server = FakeServer(scripts={"/v3/payments": [None, answer]})
    with pytest.raises(LockedError):
        send(server, Person(["PIN"], [PIN]))


def test_a_wrong_pin_is_asked_for_again_with_the_attempts_left(send: Sender) -> None:
    server = FakeServer()
    person = Person(["PIN"], ["0000", "0001", PIN])
    assert send(server, person).status_code == 201
    assert [q.problem and q.problem.attempts_left for q in person.questions] == [None, 4, 3]
    assert person.questions[1].problem is not None
    assert person.questions[1].problem.reason == "pin.incorrect"


def test_a_wrong_code_is_asked_for_again_without_another_message(send: Sender) -> None:
    server = FakeServer([["SMS"]])
    person = Person(["SMS"], ["000000", CODE])
    assert send(server, person).status_code == 201
    assert server.lines.count(f"POST {SMS_TRIGGER}") == 1
    assert person.questions[1].sent_to == MASKED


def test_the_last_attempt_ends_it_without_another_question(send: Sender) -> None:
    server = FakeServer(attempts=2)
    with pytest.raises(LockedError) as caught:
        send(server, Person(["PIN"], ["0000", "0001"]))
    assert caught.value.reason == "pin.incorrect"
    assert server.lines.count(f"POST {PIN_VERIFY}") == 2


@pytest.mark.parametrize("path", [STATUS, SMS_TRIGGER, SMS_VERIFY])
def test_a_lock_ends_it_wherever_it_shows(send: Sender, path: str) -> None:
    server = FakeServer([["SMS"]], scripts={path: [problem(429, "sca.locked", retry_after="900")]})
    with pytest.raises(LockedError) as caught:
        send(server, Person(["SMS"], [CODE]))
    assert caught.value.retry_after == 900
    assert caught.value.status == 429
    assert server.executions == []


def test_a_blocked_pin_is_a_lock(send: Sender) -> None:
    server = FakeServer(scripts={PIN_VERIFY: [problem(400, "pin.blocked", retry_after="899")]})
    with pytest.raises(LockedError) as caught:
        send(server, Person(["PIN"], [PIN]))
    assert caught.value.retry_after == 899


def test_a_locked_user_is_told_at_the_first_call(send: Sender) -> None:
    answer = problem(429, "sca.locked", retry_after="12", x_2fa_approval_result="REJECTED")
    server = FakeServer(scripts={"/v3/payments": [answer]})
    with pytest.raises(LockedError) as caught:
        send(server, nobody())
    assert caught.value.retry_after == 12
    assert server.lines == [PAYMENT]


def test_missing_enrolment_names_the_methods_that_would_do(send: Sender) -> None:
    answer = problem(403, "sca.enrolment.required", ["PIN", "SMS"], x_2fa_approval_result="REJECTED")
    server = FakeServer(scripts={"/v3/payments": [answer]})
    with pytest.raises(EnrolmentRequiredError) as caught:
        send(server, nobody())
    assert caught.value.arguments == ("PIN", "SMS")
    assert str(caught.value).endswith(" (PIN, SMS)")
    assert server.lines == [PAYMENT]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"errors":[]}', b'{"errors":{}}', b"[]", b"\xff"])
def test_a_refusal_without_token_or_reason_is_still_a_refusal(send: Sender, body: bytes) -> None:
    answer = httpx.Response(403, headers={"x-2fa-approval-result": "REJECTED"}, content=body)
    server = FakeServer(scripts={"/v3/payments": [answer]})
    with pytest.raises(RefusedError) as caught:
        send(server, nobody())
    assert caught.value.reason == ""
    assert str(caught.value) == "HTTP 403"


@pytest.mark.parametrize("token", ["nonsense", f"{OTT} SIGNATURE", OTT.upper(), f"{OTT}, {OTT}"])
def test_what_is_no_token_is_sent_nowhere(send: Sender, token: str) -> None:
    server = FakeServer(scripts={"/v3/payments": [refusal(token)]})
    with pytest.raises(ServerError) as caught:
        send(server, nobody())
    assert server.lines == [PAYMENT]
    assert token not in str(caught.value)


def test_a_new_code_can_be_asked_for(send: Sender) -> None:
    server = FakeServer([["SMS"]])
    person = Person(["SMS"], [Instead.SEND_AGAIN, CODE])
    assert send(server, person).status_code == 201
    assert server.lines.count(f"POST {SMS_TRIGGER}") == 2
    assert len(person.choices) == 1


def test_a_new_code_may_go_to_a_number_that_has_changed(send: Sender) -> None:
    changed = httpx.Response(200, json={"obfuscatedPhoneNo": "*********0123"})
    server = FakeServer([["SMS"]], scripts={SMS_TRIGGER: [None, changed]})
    person = Person(["SMS"], [Instead.SEND_AGAIN, CODE])
    send(server, person)
    assert [question.sent_to for question in person.questions] == [MASKED, "*********0123"]


@pytest.mark.parametrize("code", ["otp.resend.too.soon", "otp.sends.exhausted"])
def test_a_new_code_that_is_refused_leaves_the_old_one_usable(send: Sender, code: str) -> None:
    server = FakeServer([["SMS"]], scripts={SMS_TRIGGER: [None, problem(429, code, retry_after="17")]})
    person = Person(["SMS"], [Instead.SEND_AGAIN, CODE])
    assert send(server, person).status_code == 201
    about = Problem(reason=code, message=f"About {code}.", retry_after=17)
    assert person.questions[1].problem == about
    assert person.questions[1].sent_to == MASKED


@pytest.mark.parametrize(
    ("code", "status"),
    [("otp.resend.too.soon", 429), ("otp.sends.exhausted", 429), ("otp.delivery.failed", 503)],
)
def test_when_the_first_message_cannot_go_out_another_method_can_be_picked(
    send: Sender, code: str, status: int
) -> None:
    server = FakeServer([PHONE], scripts={SMS_TRIGGER: [problem(status, code, retry_after="30")]})
    person = Person(["SMS", "VOICE"], [CODE])
    assert send(server, person).status_code == 201
    assert person.choices[1].problem == Problem(reason=code, message=f"About {code}.", retry_after=30)
    assert [q.method for q in person.questions] == ["VOICE"]


def test_a_person_who_comes_back_to_a_method_too_soon_may_type_the_code_already_sent(send: Sender) -> None:
    too_soon = problem(429, "otp.resend.too.soon", retry_after="20")
    server = FakeServer([PHONE], scripts={SMS_TRIGGER: [None, too_soon]})
    person = Person(["SMS", "VOICE", "SMS"], [Instead.ANOTHER_METHOD, Instead.ANOTHER_METHOD, CODE])
    assert send(server, person).status_code == 201
    assert server.lines.count(f"POST {VOICE_TRIGGER}") == 1
    assert person.questions[2].problem is not None
    assert person.questions[2].problem.retry_after == 20


@pytest.mark.parametrize("code", ["otp.expired", "otp.not.triggered"])
def test_an_expired_code_can_be_replaced(send: Sender, code: str) -> None:
    server = FakeServer([["SMS"]], scripts={SMS_VERIFY: [problem(400, code)]})
    person = Person(["SMS"], [CODE, Instead.SEND_AGAIN, CODE])
    assert send(server, person).status_code == 201
    assert person.questions[1].problem == Problem(reason=code, message=f"About {code}.")
    assert person.questions[2].problem is None


def test_a_secret_of_the_wrong_form_is_asked_for_again(send: Sender) -> None:
    server = FakeServer(scripts={PIN_VERIFY: [problem(400, "request.malformed", [4])]})
    person = Person(["PIN"], ["four", PIN])
    assert send(server, person).status_code == 201
    assert person.questions[1].problem is not None
    assert person.questions[1].problem.attempts_left is None


def test_a_face_map_without_a_face_is_asked_for_again(send: Sender) -> None:
    unusable = problem(400, "facemap.unusable")
    server = FakeServer([["FACE_MAP"]], scripts={"/v1/one-time-token/facemap/verify": [unusable]})
    person = Person(["FACE_MAP"], [b"a wall", FACE])
    assert send(server, person).status_code == 201
    assert person.questions[1].problem == Problem(
        reason="facemap.unusable", message="About facemap.unusable."
    )


@pytest.mark.parametrize("path", [STATUS, PIN_VERIFY])
def test_a_token_that_is_gone_is_said_to_be(send: Sender, path: str) -> None:
    server = FakeServer(scripts={path: [problem(404, "ott.not.found")]})
    with pytest.raises(TokenGoneError):
        send(server, Person(["PIN"], [PIN]))
    assert server.executions == []


@pytest.mark.parametrize("path", [STATUS, SMS_TRIGGER, SMS_VERIFY])
def test_a_reason_that_is_not_known_is_kept(send: Sender, path: str) -> None:
    server = FakeServer([["SMS"]], scripts={path: [problem(418, "tea.only", ["x"], retry_after="soon")]})
    with pytest.raises(RefusedError) as caught:
        send(server, Person(["SMS"], [CODE]))
    assert type(caught.value) is RefusedError
    assert (caught.value.reason, caught.value.status) == ("tea.only", 418)
    assert caught.value.arguments == ("x",)
    assert caught.value.retry_after is None
    assert str(caught.value) == "tea.only: About tea.only."


@pytest.mark.parametrize("path", [STATUS, SMS_TRIGGER, SMS_VERIFY])
@pytest.mark.parametrize(
    "answer",
    [
        problem(503, "store.unavailable", retry_after="5"),
        httpx.Response(500),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b'{"oneTimeTokenProperties":{"oneTimeToken":"\xff"}}'),
        httpx.Response(200, json={"oneTimeTokenProperties": None}),
        httpx.Response(204),
    ],
    ids=["503", "500", "html", "no utf-8", "other shape", "204"],
)
def test_a_server_that_fails_or_breaks_the_protocol_is_named(
    send: Sender, path: str, answer: httpx.Response
) -> None:
    server = FakeServer([["SMS"]], scripts={path: [answer]})
    with pytest.raises(ServerError) as caught:
        send(server, Person(["SMS"], [CODE]))
    assert caught.value.status == answer.status_code
    assert caught.value.retry_after == (5 if answer.status_code == 503 else None)
    assert server.executions == []


def test_a_bad_bearer_token_is_a_refusal(send: Sender) -> None:
    with pytest.raises(RefusedError) as caught:
        send(FakeServer(), nobody(), token="expired")
    assert (caught.value.reason, caught.value.status) == ("invalid_token", 401)


def test_a_server_that_never_runs_out_of_challenges_is_left(send: Sender) -> None:
    state = status_of({"primaryChallenge": shape("PIN")})
    server = FakeServer(scripts={STATUS: [state], PIN_VERIFY: [state] * 100})
    with pytest.raises(ServerError):
        send(server, Person(["PIN"] * 100, [PIN] * 100))
    assert server.lines.count(f"POST {PIN_VERIFY}") == 16
    assert server.lines.count(PAYMENT) == 1


def test_a_person_who_gives_up_ends_it(send: Sender) -> None:
    server = FakeServer()
    with pytest.raises(DeclinedError):
        send(server, StaticResolver(otp_code=CODE))
    assert server.lines == [PAYMENT, f"GET {STATUS}"]


def test_a_network_that_fails_raises_the_librarys_own_error(send: Sender) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    server = FakeServer(scripts={STATUS: [broken]})
    with pytest.raises(httpx.ReadError):
        send(server, nobody())


def test_a_resolver_must_keep_to_what_was_offered(send: Sender) -> None:
    with pytest.raises(ValueError, match="choose one of SMS, WHATSAPP, VOICE"):
        send(FakeServer([PHONE]), Person(["PIN"], []))
    with pytest.raises(ValueError, match="nothing is sent for PIN"):
        send(FakeServer(), Person(["PIN"], [Instead.SEND_AGAIN]))
    with pytest.raises(TypeError, match="string"):
        send(FakeServer(), Person(["PIN"], [4711]))  # type: ignore[list-item]


# ------------------------------------------------------------------------------- where secrets go


def test_the_bearer_token_goes_with_every_call(send: Sender) -> None:
    server = FakeServer([["PIN"], ["SMS"]])
    send(server, Person(["PIN", "SMS"], [PIN, CODE]))
    assert len(server.exchanges) == 6
    assert {e.headers["authorization"] for e in server.exchanges} == {f"Bearer {BEARER}"}


def test_without_a_token_the_requests_own_authorization_serves_the_side_calls(send: Sender) -> None:
    server = FakeServer()
    own = {"Authorization": f"Bearer {BEARER}", "X-External-Correlation-Id": "abc", "User-Agent": "mine"}
    send(server, Person(["PIN"], [PIN]), token=None, headers=own)
    assert {e.headers["authorization"] for e in server.exchanges} == {f"Bearer {BEARER}"}
    assert {e.headers["x-external-correlation-id"] for e in server.exchanges} == {"abc"}
    assert {e.headers["user-agent"] for e in server.exchanges} == {"mine"}


def test_headers_of_the_application_stay_out_of_the_side_calls(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), headers={"X-Api-Key": "k", "Cookie": "c=1"})
    for side_call in server.exchanges[1:3]:
        assert "x-api-key" not in side_call.headers
        assert "cookie" not in side_call.headers


def test_the_callers_timeout_holds_for_every_call(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), timeout=3.5)
    assert [t["read"] for t in server.timeouts] == [3.5] * 4


def test_side_calls_go_to_the_base_url_if_there_is_one(send: Sender) -> None:
    server = FakeServer(prefix="/sca")
    send(server, Person(["PIN"], [PIN]), base_url=f"{ELSEWHERE}/sca/")
    assert server.lines == [
        PAYMENT,
        f"GET {ELSEWHERE}/sca{STATUS}",
        f"POST {ELSEWHERE}/sca{PIN_VERIFY}",
        PAYMENT,
    ]
    assert server.exchanges[1].headers["host"] == "elsewhere.example"


def test_a_base_url_must_be_absolute() -> None:
    with pytest.raises(ValueError, match="absolute"):
        Auth(nobody(), base_url="/sca")


def test_a_host_header_of_the_callers_own_goes_with_the_side_calls(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), headers={"Host": "front.example"})
    assert {e.headers["host"] for e in server.exchanges} == {"front.example"}


def assert_nothing_leaked(server: FakeServer) -> None:
    """Nobody else may see the bearer token, a one-time token or a secret."""
    guarded = [BEARER, PIN, CODE, *server.issued]
    for exchange in server.exchanges:
        if not exchange.url.startswith(HOME + "/"):
            seen = f"{exchange.url} {exchange.headers} {exchange.body!r}"
            assert not [secret for secret in guarded if secret in seen]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("path", [STATUS, SMS_TRIGGER, SMS_VERIFY, PIN_VERIFY])
def test_a_redirected_side_call_is_not_followed_anywhere(
    send: Sender, path: str, follow: bool, status: int
) -> None:
    server = FakeServer([["PIN"], ["SMS"]], scripts={path: [redirect(f"{ELSEWHERE}/trap", status)]})
    with pytest.raises(RedirectedError):
        send(server, Person(["PIN", "SMS"], [PIN, CODE]), follow_redirects=follow)
    assert server.exchanges[-1].url == HOME + path
    assert server.executions == []


@pytest.mark.parametrize("location", [f"{ELSEWHERE}/after", "/after", "http://bank.example:81/after"])
@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_redirect_that_answers_the_repeated_call_is_followed_without_the_token(
    send: Sender, location: str, status: int
) -> None:
    after = httpx.Response(200, text="done")
    server = FakeServer(scripts={"/v3/payments": [None, redirect(location, status)], "/after": [after]})
    response = send(server, Person(["PIN"], [PIN]), follow_redirects=True, content=b"pay")
    assert response.text == "done"
    assert server.exchanges[-2].headers["x-2fa-approval"] in server.issued
    assert "x-2fa-approval" not in server.exchanges[-1].headers
    assert_nothing_leaked(server)


def test_a_redirect_that_answers_the_repeated_call_is_handed_on_when_nobody_follows(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [None, redirect(f"{ELSEWHERE}/after", 303)]})
    response = send(server, Person(["PIN"], [PIN]))
    assert response.status_code == 303
    assert response.next_request is not None
    assert "x-2fa-approval" not in response.next_request.headers
    assert server.lines[-1] == PAYMENT


def test_a_refusal_from_where_a_redirect_led_gets_nothing(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [redirect(f"{ELSEWHERE}/trap")], "/trap": [refusal(OTT)]})
    response = send(server, nobody(), follow_redirects=True)
    assert response.status_code == 403
    assert server.lines == [PAYMENT, f"POST {ELSEWHERE}/trap"]
    assert_nothing_leaked(server)


def test_a_call_refused_behind_a_redirect_is_repeated_there_and_not_redirected_again(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [redirect("/v4/payments", 307)]})
    response = send(server, Person(["PIN"], [PIN]), follow_redirects=True, content=b"pay")
    assert response.status_code == 201
    assert server.lines == [
        PAYMENT,
        "POST /v4/payments",
        f"GET {STATUS}",
        f"POST {PIN_VERIFY}",
        "POST /v4/payments",
    ]
    assert server.executions == [b"pay"]


@pytest.mark.parametrize("place", ["", ELSEWHERE])
def test_a_refusal_behind_a_redirect_that_answers_the_repeated_call_is_handed_on(
    send: Sender, place: str
) -> None:
    server = FakeServer(
        scripts={"/v3/payments": [None, redirect(f"{place}/after", 303)], "/after": [refusal(OTT)]}
    )
    response = send(server, Person(["PIN"], [PIN]), follow_redirects=True)
    assert response.status_code == 403
    assert server.lines[-2:] == [PAYMENT, f"GET {place}/after"]
    assert_nothing_leaked(server)


def test_user_and_password_in_the_url_stay_out_of_the_side_calls(send: Sender) -> None:
    server = FakeServer()
    send(server, Person(["PIN"], [PIN]), url="https://user:hidden@bank.example/v3/payments")
    assert server.lines[1] == f"GET {STATUS}"


def test_no_secret_shows_in_any_text_of_ours(send: Sender) -> None:
    guarded = [BEARER, PIN, CODE, FINGERPRINT]
    texts: list[str] = []

    class Watching(Person):
        def choose(self, choice: Choice, /) -> str:
            texts.append(repr(choice))
            return super().choose(choice)

        def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
            texts.append(repr(question))
            return super().secret(question)

    server = FakeServer([["PIN"], ["SMS"]], scripts={"/v3/payments": [None, refusal(OTT)]})
    with pytest.raises(WatchwordError) as caught:
        send(server, Watching(["PIN", "SMS"], ["0000", PIN, CODE]))
    texts += [str(caught.value), repr(caught.value), repr(caught.value.args)]
    resolver = StaticResolver(pin=PIN, device_fingerprint=FINGERPRINT, otp_code=CODE)
    texts += [repr(resolver), str(resolver), repr(Auth(resolver, token=BEARER))]
    guarded += [*server.issued, OTT]
    assert not [(secret, text) for text in texts for secret in guarded if secret in text]


# ------------------------------------------------------------------------------- sync and async


SCENARIOS: dict[str, Callable[[], tuple[FakeServer, Person]]] = {
    "pin": lambda: (FakeServer(), Person(["PIN"], [PIN])),
    "two challenges": lambda: (FakeServer([["PIN"], PHONE]), Person(["PIN", "VOICE"], [PIN, CODE])),
    "wrong, then right": lambda: (FakeServer([PHONE]), Person(["SMS"], ["000000", CODE])),
    "wrong to the end": lambda: (FakeServer(attempts=2), Person(["PIN"], ["0000", "0001"])),
    "send again, then another": lambda: (
        FakeServer([PHONE]),
        Person(["SMS", "VOICE"], [Instead.SEND_AGAIN, Instead.ANOTHER_METHOD, CODE]),
    ),
    "refused twice": lambda: (
        FakeServer(scripts={"/v3/payments": [None, refusal(OTT)]}),
        Person(["PIN"], [PIN]),
    ),
    "nothing usable": lambda: (FakeServer([["TELEPATHY"]]), nobody()),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sync_and_async_make_the_same_exchanges(scenario: str) -> None:
    seen: list[object] = []
    for mode in ("sync", "async"):
        server, person = SCENARIOS[scenario]()
        try:
            outcome: object = Sender(mode)(server, person, content=b"pay").status_code
        except WatchwordError as error:
            outcome = repr(error)
        exchanges = [(e.method, e.url, sorted(e.headers.items()), e.body) for e in server.exchanges]
        seen.append((outcome, exchanges, person.choices, person.questions))
    assert seen[0] == seen[1]


def test_a_synchronous_resolver_does_not_hold_up_the_event_loop() -> None:
    async def main() -> httpx.Response:
        asked = anyio.Event()
        released = threading.Event()

        class Waiting(Person):
            def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
                anyio.from_thread.run_sync(asked.set)
                assert released.wait(10), "the event loop stood still while the person was thinking"
                return super().secret(question)

        async def release_once_asked() -> None:
            await asked.wait()
            released.set()

        auth = Auth(Waiting(["PIN"], [PIN]), token=BEARER)
        async with (
            httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(FakeServer())) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(release_once_asked)
            return await client.post(f"{HOME}/v3/payments")
        raise AssertionError

    assert anyio.run(main).status_code == 201


def test_an_asynchronous_resolver_cannot_serve_a_synchronous_client() -> None:
    server = FakeServer()
    auth = Auth(AsyncPerson(Person(["PIN"], [PIN])), token=BEARER)
    with (
        httpx.Client(auth=auth, transport=httpx.MockTransport(server)) as client,
        pytest.raises(TypeError, match="asynchronous resolver"),
    ):
        client.post(f"{HOME}/v3/payments")
