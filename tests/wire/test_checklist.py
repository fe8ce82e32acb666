"""The checklist of the public protocol for a compatible server, one test a line."""

import json
import re
import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PublicFormat

from tests.system.wire import Answer, Person, Wire
from tests.wire.places import VERSION
from tests.wire.support import (
    FACE,
    JWE,
    PIN,
    UNKNOWN_OTT,
    WRONG_PIN,
    encryption_key,
    pem,
    refusal,
    seal,
    sign,
)

CHANNELS = ("sms", "whatsapp", "voice")
CODE = "111111"


def challenged(answer: Answer) -> str:
    """Return the new OTT of a refusal, in every respect the protocol's."""
    ott = answer.ott
    assert uuid.UUID(ott).version == 4
    assert str(uuid.UUID(ott)) == ott
    assert answer.header("cache-control") == "no-store"
    return ott


def approved(answer: Answer, status: int = 200) -> None:
    assert answer.status == status, answer
    assert answer.header("x-2fa-approval-result") == "APPROVED"
    assert answer.header("x-2fa-approval") is None
    assert answer.header("cache-control") == "no-store"


def test_01_a_protected_call_is_refused_with_a_fresh_uuid_each_time(ada: Person) -> None:
    answers = [ada.pay(), ada.pay(), ada.get(ada.statement), ada.get(ada.statement)]
    assert len({challenged(answer) for answer in answers}) == 4
    body = answers[0].json()
    assert (body["status"], body["error"], body["path"]) == (403, "Forbidden", ada.payment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", body["timestamp"])


def test_02_the_status_is_one_resource_in_all_generations(ada: Person) -> None:
    ott = ada.pay().ott
    paths = (
        "/v1/one-time-token/status",
        "/v1/identity/one-time-token/status",
        *(f"/{version}/one-time-token/status" for version in ("2026Q3", "2026Q4", "2027Q1")),
    )
    answers = [ada.send(ada.about("GET", path, ott)) for path in paths]
    assert {answer.status for answer in answers} == {200}
    # Seconds may pass between them.
    shown = {re.sub(rb'"validity":\d+', b"", answer.body) for answer in answers}
    assert len(shown) == 1
    properties = answers[0].json()["oneTimeTokenProperties"]
    assert properties["oneTimeToken"] == ott
    assert properties["userId"] == ada.user_id
    assert properties["actionType"] == "TRANSFER__FUND"
    assert 3590 <= properties["validity"] <= 3600
    for challenge in properties["challenges"]:
        assert challenge.keys() == {"primaryChallenge", "alternatives", "required", "passed"}
        for method in (challenge["primaryChallenge"], *challenge["alternatives"]):
            assert method["viewData"] == {"attributes": {"userId": ada.user_id}}
    assert ada.send(ada.about("GET", "/2026Q5/one-time-token/status", ott)).status == 404


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("stem", ["/v1/one-time-token", f"/{VERSION}/one-time-token"])
def test_03_a_code_is_triggered_and_verified(ada: Person, channel: str, stem: str) -> None:
    ott = ada.get(ada.statement).ott
    triggered = ada.send(ada.about("POST", f"{stem}/{channel}/trigger", ott))
    assert (triggered.status, triggered.json()) == (200, {"obfuscatedPhoneNo": "*********8888"})
    verified = ada.send(ada.about("POST", f"{stem}/{channel}/verify", ott, {"otpCode": CODE}))
    assert verified.status == 200
    assert verified.json()["oneTimeTokenProperties"]["oneTimeToken"] == ott
    approved(ada.get(ada.statement, ott=ott))


@pytest.mark.parametrize(
    ("path", "body", "left"),
    [
        ("pin/verify", {"pin": "1234"}, ["SMS"]),
        (
            "partner-device-fingerprint/verify",
            {"deviceFingerprint": "3207da22-a0d3-4b6b-a591-6297e646fe32"},
            ["PIN"],
        ),
        ("/v2/profiles/435036/pin/verify", {"pin": "1234"}, ["SMS"]),
        (
            f"/{VERSION}/profiles/435036/device-fingerprints/verify",
            {"deviceFingerprint": "3207da22-a0d3-4b6b-a591-6297e646fe32"},
            ["PIN"],
        ),
    ],
)
def test_04_pin_and_fingerprint_come_encrypted_and_are_answered_under_the_same_key(
    wire: Wire, ada: Person, path: str, body: dict[str, str], left: list[str]
) -> None:
    sealed = seal(encryption_key(wire), body)
    ott = ada.pay().ott
    answer = ada.send(
        ada.request("POST", target(path), headers=JWE | {"One-Time-Token": ott}, body=sealed.body)
    )
    assert answer.status == 200
    read = sealed.read(answer)  # Asserts the header: exactly `enc` and `alg`.
    token = read if path.startswith("/") else read["oneTimeTokenProperties"]
    open_ = [each["primaryChallenge"]["type"] for each in token["challenges"] if not each["passed"]]
    assert (token["oneTimeToken"], open_) == (ott, left)


def target(path: str) -> str:
    return path if path.startswith("/") else f"/v1/one-time-token/{path}"


def test_05_challenges_vanish_and_an_empty_array_means_ready(ada: Person) -> None:
    def left(answer: Answer) -> list[str]:
        challenges = answer.json()["oneTimeTokenProperties"]["challenges"]
        # Readiness: an entry that is required and not passed.
        assert all(each["required"] and not each["passed"] for each in challenges)
        return [each["primaryChallenge"]["type"] for each in challenges]

    ott = ada.pay().ott
    assert left(ada.status(ott)) == ["PIN", "SMS"]
    assert left(ada.verify_pin(ott, "1234")) == ["SMS"]
    assert left(ada.status(ott)) == ["SMS"]
    ada.trigger(ott)
    last = ada.verify_code(ott)
    assert last.json()["oneTimeTokenProperties"].keys() == {"oneTimeToken", "challenges", "validity"}
    assert left(last) == left(ada.status(ott)) == []


def test_06_a_retry_with_a_cleared_token_is_approved(wire: Wire, ada: Person) -> None:
    ott = ada.ready_payment("1234")
    answer = ada.pay(ott=ott)
    approved(answer, 201)
    assert answer.json() == {"type": "BALANCE", "status": "COMPLETED", "errorCode": None}
    assert wire.executions("TRANSFER__FUND", ott) == 1


def test_07_a_retry_with_any_other_token_is_refused_with_a_new_one(wire: Wire, ada: Person) -> None:
    elsewhere = ada.get(ada.statement).ott
    incomplete = ada.pay().ott
    ada.clear_pin(incomplete, "1234")
    spent = ada.ready_payment("1234")
    approved(ada.pay(ott=spent), 201)
    other = Person.make(wire, pin=PIN)
    foreign = other.ready_payment(PIN)
    seen = {incomplete, spent, foreign, elsewhere, UNKNOWN_OTT}
    for ott in tuple(seen):
        new = challenged(ada.pay(ott=ott))
        assert new not in seen
        seen.add(new)
    expired = ada.ready_payment("1234")
    wire.advance(3601)
    assert challenged(ada.pay(ott=expired)) not in seen
    assert wire.executions("TRANSFER__FUND") == 1


def test_08_enrolment_has_its_codes(wire: Wire, application: Person) -> None:
    person = Person.make(wire, phoneNumber=None)
    told: dict[str, list[tuple[int, str]]] = {}

    def say(
        name: str, by: Person, method: str, path: str, body: object = None, times: int = 2
    ) -> list[Answer]:
        answers = [by.send(by.request(method, path, body=body)) for _ in range(times)]
        told[name] = [(answer.status, refusal(answer)) for answer in answers]
        return answers

    user, profile = f"/v1/users/{person.user_id}", f"/v2/profiles/{person.profile}"
    say("PIN v1", person, "POST", "/v1/user/pin", {"pin": PIN})
    say("PIN v1 gone", application, "DELETE", f"{user}/pin")
    say("PIN v2", person, "POST", f"{profile}/pin", {"pin": PIN})
    say("PIN v2 gone", person, "DELETE", f"{profile}/pin")
    say("face v1", person, "POST", "/v1/user/facemap/enrol", {"faceMap": FACE})
    say("face v1 gone", application, "DELETE", f"{user}/facemap/enrol")
    say("face v2", person, "POST", f"{profile}/facemaps", {"faceMap": FACE})
    say("face v2 gone", person, "DELETE", f"{profile}/facemaps")
    prints = f"{profile}/device-fingerprints"
    made = [say(f"print {n}", person, "POST", prints, {"deviceFingerprint": f"{n}"})[0] for n in range(4)]
    ids = [answer.json()["deviceFingerprintId"] for answer in made[:3]]
    say("print v2 gone", person, "DELETE", f"{prints}/{ids[0]}")
    say("print v1 gone", application, "DELETE", f"{user}/partner-device-fingerprints/{ids[1]}")
    phones = f"/v1/application/users/{person.user_id}/phone-numbers"
    taken = say("phone taken", application, "POST", phones, {"phoneNumber": "+6588888888"}, 1)[0]
    phone = say("phone", application, "POST", phones, {"phoneNumber": "+447700900777"}, 1)[0].json()
    say("phone gone", application, "DELETE", f"{phones}/{phone['id']}")
    again, gone = (409, "device.fingerprint.repeated"), (404, "device.fingerprint.not.setup")
    assert told == {
        "PIN v1": [(204, ""), (409, "pin.already.setup")],
        "PIN v1 gone": [(204, ""), (404, "pin.not.setup")],
        "PIN v2": [(200, ""), (409, "pin.already.setup")],
        "PIN v2 gone": [(204, ""), (404, "pin.not.setup")],
        "face v1": [(204, ""), (409, "facemap.already.setup")],
        "face v1 gone": [(204, ""), (404, "facemap.not.setup")],
        "face v2": [(204, ""), (409, "facemap.already.setup")],
        "face v2 gone": [(204, ""), (404, "facemap.not.setup")],
        **{f"print {number}": [(200, ""), again] for number in range(3)},
        "print 3": [(400, "device.fingerprint.limit.reached")] * 2,
        "print v2 gone": [(204, ""), gone],
        "print v1 gone": [(204, ""), gone],
        "phone taken": [(422, "phone.number.repeated")],
        "phone": [(200, "")],
        "phone gone": [(204, ""), (404, "phone.number.not.found")],
    }
    assert "+65" not in taken.body.decode()


@pytest.mark.parametrize("stem", ["/v2", f"/{VERSION}"])
def test_09_a_session_opens_five_minutes_of_low_risk(wire: Wire, ada: Person, stem: str) -> None:
    answer = ada.send(ada.request("POST", f"{stem}/profiles/435036/sca-sessions/authorise"))
    assert answer.status == 200
    properties = answer.json()["oneTimeTokenProperties"]
    assert properties["challenges"] == [{"primaryChallenge": {"type": "PIN"}, "passed": False}]
    assert ada.get(ada.statement).status == 403
    ada.clear_pin(properties["oneTimeToken"], "1234")
    for seconds in (0, 299):
        wire.advance(seconds)
        approved(ada.get(ada.statement))
        challenged(ada.pay())
    wire.advance(1)
    challenged(ada.get(ada.statement))


def test_10_five_failures_block_new_tokens_for_a_quarter_of_an_hour(wire: Wire, ada: Person) -> None:
    ott = ada.pay().ott
    for left in (4, 3, 2, 1, 0):
        answer = ada.verify_pin(ott, WRONG_PIN)
        assert (answer.status, answer.code) == (400, "pin.incorrect")
        assert answer.json()["errors"][0]["arguments"] == [left]

    def blocked(answer: Answer, seconds: int) -> None:
        assert (answer.status, answer.code) == (429, "sca.locked"), answer
        assert answer.header("x-2fa-approval-result") == "REJECTED"
        assert answer.header("x-2fa-approval") is None
        assert abs(int(answer.header("retry-after") or "") - seconds) <= 2

    for answer in (ada.pay(), ada.get(ada.statement), ada.verify_pin(ott, "1234")):
        blocked(answer, 900)
    wire.advance(895)
    blocked(ada.pay(), 5)
    wire.advance(5)
    challenged(ada.pay())


def test_11_a_signature_clears_a_token_with_keys_of_the_right_size_and_form(wire: Wire) -> None:
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(6)]
    forms = (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    for key, form in zip(keys, forms, strict=False):
        person = Person.make(wire, phoneNumber=None, publicKeys=[pem(key, form)])
        ott = person.pay().ott
        assert person.challenges(ott) == [["SIGNATURE"]]
        signed = {"X-Signature": sign(key, ott), "Content-Type": "application/json"}
        body = b'{"type": "BALANCE"}'
        approved(person.send(person.request("POST", person.payment, ott=ott, headers=signed, body=body)), 201)
    small = rsa.generate_private_key(65537, 2047)  # noqa: S505 - to be refused.
    for unfit in ([pem(small)], [pem(key) for key in keys]):
        new = {"token": "unfit", "publicKeys": unfit}
        answer = wire.call("POST", "/sandbox/users", JSON.items(), bytes_of(new))
        assert (answer.status, answer.json()["errors"][0]["path"]) == (400, "publicKeys")
    # The published vector is checked in tests/methods/test_signature.py: its OTT is none of ours.


JSON = {"Content-Type": "application/json"}


def bytes_of(body: Mapping[str, object]) -> bytes:
    return json.dumps(body).encode()


def test_12_the_approval_page_opens_by_a_form_and_is_harmless_without_one(wire: Wire, ada: Person) -> None:
    bare = wire.call("GET", "/approve-api-action/")
    assert bare.status == 200
    form = {
        "ott": ada.pay().ott,
        "libVersion": "0.9.5",
        "parentHostname": "localhost",
        "flow": "iframe",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://localhost:5173"}
    page = wire.call("POST", "/approve-api-action/", headers.items(), urlencode(form).encode())
    assert page.status == 200
    for answer in (bare, page):
        assert (answer.header("content-type") or "").startswith("text/html")
        assert answer.header("x-frame-options") is None
        assert answer.header("cross-origin-opener-policy") is None
    assert (page.header("content-security-policy") or "").endswith("frame-ancestors http://localhost:5173")
    script = re.search(rb'src="(/approve-api-action/static/page\.[^"]+)"', page.body)
    assert script is not None
    text = wire.call("GET", script[1].decode()).body.decode()
    assert 'data-on-close="tw-approve-api-action-closed"' in page.body.decode()
    # The other two stand on the screens that they are about; tests/page has them all, in a browser.
    assert "tw-approve-api-action-" in text
    assert "postMessage" in text


def test_13_every_answer_can_be_traced_and_a_429_says_when_to_come_again(wire: Wire, ada: Person) -> None:
    correlation = "a27eb6d5-2f1c-4f64-8a4f-6f3b4b0b6a11"
    ott = ada.pay().ott
    again = {"One-Time-Token": ott, "X-External-Correlation-Id": correlation}
    trigger = ada.request("POST", "/v1/one-time-token/sms/trigger", headers=again)
    answers = [
        ada.send(trigger),
        ada.send(trigger),
        ada.send(ada.request("GET", "/nowhere", headers=again)),
        ada.send(ada.request("PATCH", "/v1/user/pin", headers=again)),
        ada.send(ada.request("GET", ada.statement, headers=again)),
        ada.send(ada.request("POST", "/v1/user/pin", headers=again, body=b"{")),
        wire.call("GET", "/v1/one-time-token/status", [("X-External-Correlation-Id", correlation)]),
    ]
    assert [answer.status for answer in answers] == [200, 429, 404, 405, 403, 400, 401]
    for answer in answers:
        assert re.fullmatch("[0-9a-f]{32}", answer.header("x-trace-id") or "")
        assert answer.header("x-external-correlation-id") == correlation
    assert len({answer.header("x-trace-id") for answer in answers}) == len(answers)
    assert 0 < int(answers[1].header("retry-after") or "") <= 30
    assert answers[1].header("x-rate-limited-by") == "watchword"
    long = ada.send(ada.request("GET", "/v1/me", headers={"X-External-Correlation-Id": "x" * 37}))
    assert (long.status, long.header("x-external-correlation-id")) == (200, None)


def test_14_a_page_of_this_machine_may_read_the_headers_of_step_up(wire: Wire, ada: Person) -> None:
    ott = ada.pay().ott
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "https://localhost"):
        here = {"Origin": origin, "One-Time-Token": ott}
        for answer in (
            ada.send(ada.request("GET", ada.statement, headers=here)),
            ada.send(ada.request("GET", "/v1/one-time-token/status", headers=here)),
            wire.call("GET", ada.statement, here.items()),
        ):
            assert answer.header("access-control-allow-origin") == origin
            assert answer.header("access-control-allow-credentials") is None
            assert "Origin" in (answer.header("vary") or "")
            exposed = {
                name.strip() for name in (answer.header("access-control-expose-headers") or "").split(",")
            }
            assert exposed == {"x-2fa-approval", "x-2fa-approval-result", "x-trace-id"}
        wanted = (
            "authorization,content-type,one-time-token,x-2fa-approval,x-signature,"
            "x-tw-jose-method,x-external-correlation-id"
        )
        asks = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted,
        }
        asked = wire.call("OPTIONS", ada.payment, asks.items())
        assert asked.status == 200
        allowed = (asked.header("access-control-allow-headers") or "").lower().split(", ")
        assert set(wanted.split(",")) <= set(allowed)
        closed = wire.call("OPTIONS", "/sandbox/users", asks.items())
        assert (closed.status, closed.header("access-control-allow-origin")) == (405, None)
        answer = wire.call("GET", "/sandbox/outbox", here.items())
        assert answer.header("access-control-allow-origin") is None
    for origin in (
        "https://example.com",
        "null",
        "http://localhost.example.com",
        "http://example.com/?http://localhost",
        "http://localhost:3000.example.com",
        "http://xlocalhost:3000",
        "file://",
    ):
        answer = ada.send(ada.request("GET", ada.statement, headers={"Origin": origin}))
        assert answer.header("access-control-allow-origin") is None
        assert answer.header("access-control-expose-headers") is None
