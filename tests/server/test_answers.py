"""What each situation is answered with, one by one, and what every answer carries."""

import asyncio
import re
from traceback import format_exception
from typing import Any

import pytest

from tests.app import (
    GRACE_PROFILE,
    JSON,
    OTHER_PROFILE,
    PAYMENT_PATH,
    PROFILE,
    STATEMENT_PATH,
    Faulty,
    Product,
    call,
    make_product,
)
from tests.factories import (
    ADA,
    CODE,
    FINGERPRINT,
    GRACE,
    PIN,
    UNKNOWN_OTT,
    enrolled_fingerprint,
    enrolled_phone,
)
from watchword.asgi import Receive, Scope, Send
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.engine.recent import Recent
from watchword.methods.keyring import KeyMissingError, Keyring
from watchword.server.edge import BrokenOffError, Edge

WRONG = {"pin": "0000"}
V2_PIN = f"/v2/profiles/{PROFILE}/pin/verify"
V2_DEVICE = f"/v2/profiles/{PROFILE}/device-fingerprints/verify"
CALENDAR_PIN = f"/2026Q3/profiles/{PROFILE}/pin/verify"
AUTHORISE = f"/v2/profiles/{PROFILE}/sca-sessions/authorise"

# Each operation with a body that it takes: what is true of all of them is tried on all of them.
OPERATIONS: tuple[tuple[str, str, dict[str, str] | None], ...] = (
    ("GET", "/v1/one-time-token/status", None),
    ("GET", "/v1/identity/one-time-token/status", None),
    ("GET", "/2026Q3/one-time-token/status", None),
    *(
        (
            "POST",
            f"/{version}/one-time-token/{channel}/{verb}",
            {"otpCode": "999999"} if verb == "verify" else None,
        )
        for version in ("v1", "2026Q3", "2027Q1")
        for channel in ("sms", "whatsapp", "voice")
        for verb in ("trigger", "verify")
    ),
    ("POST", "/v1/one-time-token/pin/verify", WRONG),
    ("POST", V2_PIN, WRONG),
    ("POST", CALENDAR_PIN, WRONG),
    ("POST", "/v1/one-time-token/partner-device-fingerprint/verify", {"deviceFingerprint": "x"}),
    ("POST", V2_DEVICE, {"deviceFingerprint": "x"}),
)
SESSIONS = (
    ("POST", AUTHORISE, None),
    ("POST", f"/2027Q1/profiles/{PROFILE}/sca-sessions/authorise", None),
    ("POST", "/v1/mfa-session/authorise", None),
)
PATHS = [path for _, path, _ in OPERATIONS]


def error(answer: Any) -> dict[str, Any]:
    (only,) = answer.json()["errors"]
    assert answer.json().keys() == {"errors"}
    assert isinstance(only["message"], str)
    assert answer.headers["cache-control"] == "no-store"
    return dict(only)


def is_refused(answer: Any) -> None:
    """Assert that the answer says no to the action, and gives no token to clear."""
    assert answer.headers["x-2fa-approval-result"] == "REJECTED"
    assert "x-2fa-approval" not in answer.headers


# --- who is calling ---------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "body"), [*OPERATIONS, *SESSIONS, ("POST", PAYMENT_PATH, None)])
async def test_no_or_a_bad_access_token_is_401(
    product: Product, method: str, path: str, body: object
) -> None:
    for authorization in (None, "Bearer nobody", "Bearer ", "Basic YWRh", "ada", "bearer", "Bearer ada x"):
        headers = {"one-time-token": UNKNOWN_OTT}
        if authorization is not None:
            headers["authorization"] = authorization
        answer = await product.call(method, path, token=None, headers=headers, json=body)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json().keys() == {"error", "error_description"}
        assert answer.json()["error"] == "invalid_token"


@pytest.mark.attack(88)
async def test_an_access_token_beyond_ascii_is_401(product: Product) -> None:
    for value in ("Bearer adä".encode(), "Bearer adä".encode("latin-1"), b"Bearer \xff\xfe", b"\xc3\xa9"):
        answer = await product.call("GET", STATEMENT_PATH, token=None, headers={b"authorization": value})
        assert answer.status_code == 401


@pytest.mark.parametrize(("method", "path", "body"), [*OPERATIONS, *SESSIONS, ("POST", PAYMENT_PATH, None)])
async def test_an_application_makes_no_user_s_call(
    product: Product, method: str, path: str, body: object
) -> None:
    answer = await product.call(
        method, path, token="application", headers={"one-time-token": UNKNOWN_OTT}, json=body
    )
    assert (answer.status_code, error(answer)["code"]) == (403, "principal.not.allowed")
    assert "x-2fa-approval" not in answer.headers
    assert "x-2fa-approval-result" not in answer.headers


@pytest.mark.parametrize(
    "profile",
    [str(GRACE_PROFILE), str(OTHER_PROFILE), f"0{PROFILE}", "x", "-1", str(2**70), f"{PROFILE}.0", "%20"],
)
@pytest.mark.parametrize(
    ("stem", "operation"),
    [("/v2", "pin/verify"), ("/2026Q3", "device-fingerprints/verify"), ("/v2", "sca-sessions/authorise")],
)
async def test_another_s_profile_and_nobody_s_look_the_same(
    product: Product, stem: str, operation: str, profile: str
) -> None:
    answer = await product.on(await product.ott(), f"{stem}/profiles/{profile}/{operation}", WRONG)
    assert (answer.status_code, error(answer)["code"]) == (403, "profile.not.allowed")


# --- the One-Time-Token header ----------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_the_ott_header_must_be_there(product: Product, method: str, path: str, body: object) -> None:
    answer = await product.call(method, path, json=body)
    assert (answer.status_code, error(answer)["code"]) == (400, "ott.header.invalid")


@pytest.mark.attack(88)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        UNKNOWN_OTT.replace("0", "A"),
        UNKNOWN_OTT.replace("-", ""),
        f"{{{UNKNOWN_OTT}}}",
        f"{UNKNOWN_OTT} SIGNATURE",
        f"{UNKNOWN_OTT}, {UNKNOWN_OTT}",
        UNKNOWN_OTT + "0",
        UNKNOWN_OTT.replace("0", "\u0660"),
        UNKNOWN_OTT.replace("0", "\uff10", 1),
        "ä" * 36,
        "0" * 65536,
    ],
    ids=[
        "empty",
        "short",
        "upper-case",
        "without-hyphens",
        "braces",
        "with-a-type",
        "two-in-one",
        "longer",
        "arabic-digits",
        "full-width",
        "letters",
        "huge",
    ],
)
async def test_a_malformed_ott_is_400(product: Product, path: str, value: str) -> None:
    method = "GET" if path.endswith("status") else "POST"
    answer = await product.raw(method, path, [("one-time-token", value.encode())])
    assert (answer.status, answer.code) == (400, "ott.header.invalid")


@pytest.mark.parametrize("path", PATHS)
async def test_two_ott_headers_are_400_even_if_they_agree(product: Product, path: str) -> None:
    ott = await product.ott()
    method = "GET" if path.endswith("status") else "POST"
    answer = await product.raw(method, path, [("one-time-token", ott), ("one-time-token", ott)])
    assert (answer.status, answer.code) == (400, "ott.header.invalid")


@pytest.mark.attack(22)
@pytest.mark.parametrize(
    "path", ["/v1/one-time-token/status?One-Time-Token={}", "/v1/one-time-token/status?ott={}"]
)
async def test_an_ott_in_the_query_is_no_ott(product: Product, path: str) -> None:
    answer = await product.call("GET", path.format(await product.ott()))
    assert (answer.status_code, error(answer)["code"]) == (400, "ott.header.invalid")


# --- one answer for every token that is not to be had -----------------------------------------


@pytest.mark.attack(74)
@pytest.mark.attack(37)
@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_unknown_expired_spent_voided_and_another_s_look_the_same(
    method: str, path: str, body: object
) -> None:
    product = await make_product(limits=Limits(session_seconds=0))
    expired = await product.ott()
    product.world.clock.advance(900)
    foreign = await product.ott(token="grace")
    spent = await product.cleared_statement()
    assert (await product.call("GET", STATEMENT_PATH, headers={"x-2fa-approval": spent})).status_code == 200
    voided = await product.payment_ott()
    assert (await product.pay(voided, b"[]")).status_code == 403

    sent = len(product.world.outbox.messages)
    failures = (await product.world.user()).attempts
    seen: dict[tuple[Any, ...], Any] = {}
    for ott in (UNKNOWN_OTT, expired, foreign, spent, voided):
        answer = await product.on(ott, path, body)
        headers = {name: value for name, value in answer.headers.items() if name != "x-trace-id"}
        seen[answer.status_code, tuple(sorted(headers.items())), answer.content] = answer
    (only,) = seen.values()
    assert (only.status_code, error(only)["code"]) == (404, "ott.not.found")
    assert len(product.world.outbox.messages) == sent
    assert (await product.world.user()).attempts == failures


@pytest.mark.attack(53)
async def test_nobody_fails_another_user_s_factors(product: Product) -> None:
    ott = await product.ott()
    for _ in range(10):
        assert (await product.on(ott, "pin/verify", WRONG, token="grace")).status_code == 404
    assert (await product.world.user()).attempts.consecutive == 0
    assert (await product.world.user(GRACE)).attempts.consecutive == 0
    assert product.world.methods.compared[Method.PIN] == 0


# --- challenges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [("pin/verify", WRONG), (V2_PIN, WRONG), (CALENDAR_PIN, WRONG)],
)
async def test_a_pin_that_is_passed_is_not_offered_again(product: Product, path: str, body: object) -> None:
    ott = await product.payment_ott()
    await product.pass_pin(ott)
    answer = await product.on(ott, path, body)
    assert (answer.status_code, error(answer)["code"]) == (400, "challenge.not.offered")
    assert (await product.world.user()).attempts.consecutive == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sms/trigger", None),
        ("/2026Q3/one-time-token/whatsapp/trigger", None),
        ("voice/verify", {"otpCode": "000000"}),
        ("partner-device-fingerprint/verify", {"deviceFingerprint": "x"}),
    ],
)
async def test_no_alternative_of_a_passed_challenge_is_offered(
    product: Product, path: str, body: object
) -> None:
    ott = await product.payment_ott()
    await product.pass_sms(ott)
    answer = await product.on(ott, path, body)
    assert (answer.status_code, error(answer)["code"]) == (400, "challenge.not.offered")
    assert len(product.world.outbox.messages) == 1


async def test_a_method_that_the_token_does_not_offer_is_400(product: Product) -> None:
    issued = await product.call("POST", "/v1/mfa-session/authorise", token="grace")
    ott = issued.json()["oneTimeTokenProperties"]["oneTimeToken"]
    for path, body in (
        ("pin/verify", WRONG),
        ("partner-device-fingerprint/verify", {"deviceFingerprint": "x"}),
    ):
        answer = await product.on(ott, path, body, token="grace")
        assert (answer.status_code, error(answer)["code"]) == (400, "challenge.not.offered")


@pytest.mark.parametrize("stem", ["/v2", "/2026Q3"])
@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("pin/verify", WRONG, "pin.not.setup"),
        ("device-fingerprints/verify", {"deviceFingerprint": "x"}, "device.fingerprint.not.setup"),
    ],
)
async def test_the_second_generation_says_404_of_what_was_never_enrolled(
    product: Product, stem: str, operation: str, body: object, code: str
) -> None:
    issued = await product.call("POST", "/v1/mfa-session/authorise", token="grace")
    ott = issued.json()["oneTimeTokenProperties"]["oneTimeToken"]
    answer = await product.on(ott, f"{stem}/profiles/{GRACE_PROFILE}/{operation}", body, token="grace")
    assert (answer.status_code, error(answer)["code"]) == (404, code)


@pytest.mark.parametrize("channel", ["sms", "whatsapp", "voice"])
async def test_a_code_is_not_verified_before_it_was_asked_for(product: Product, channel: str) -> None:
    ott = await product.ott()
    answer = await product.on(ott, f"{channel}/verify", {"otpCode": CODE})
    assert (answer.status_code, error(answer)["code"]) == (400, "otp.not.triggered")
    assert (await product.world.user()).attempts.consecutive == 0


async def test_a_code_is_good_on_its_own_channel_only(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    assert error(await product.on(ott, "voice/verify", {"otpCode": CODE}))["code"] == "otp.not.triggered"


async def test_a_code_dies_after_five_minutes(product: Product) -> None:
    early, late = await product.ott(), await product.ott()
    await product.on(early, "sms/trigger")
    await product.on(late, "sms/trigger")
    product.world.clock.advance(299.999)
    assert (await product.on(early, "sms/verify", {"otpCode": CODE})).status_code == 200
    product.world.clock.advance(0.001)
    answer = await product.on(late, "sms/verify", {"otpCode": CODE})
    assert (answer.status_code, error(answer)["code"]) == (400, "otp.expired")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("pin/verify", WRONG, "pin.incorrect"),
        (V2_PIN, WRONG, "pin.incorrect"),
        (CALENDAR_PIN, WRONG, "pin.incorrect"),
        ("sms/verify", {"otpCode": "999999"}, "otp.incorrect"),
        ("whatsapp/verify", {"otpCode": "999999"}, "otp.incorrect"),
        ("/2026Q3/one-time-token/voice/verify", {"otpCode": "999999"}, "otp.incorrect"),
        ("partner-device-fingerprint/verify", {"deviceFingerprint": "x"}, "device.fingerprint.incorrect"),
        (V2_DEVICE, {"deviceFingerprint": "x"}, "device.fingerprint.incorrect"),
    ],
)
async def test_a_wrong_secret_is_400_with_the_attempts_left(
    product: Product, path: str, body: dict[str, str], code: str
) -> None:
    ott = await product.ott()
    if "otpCode" in body:
        path = path if path.startswith("/") else f"/v1/one-time-token/{path}"
        assert (await product.on(ott, path.replace("verify", "trigger"))).status_code == 200
    left = []
    for _ in range(5):
        answer = await product.on(ott, path, body)
        assert (answer.status_code, error(answer)["code"]) == (400, code)
        left += error(answer)["arguments"]
    assert left == [4, 3, 2, 1, 0]


async def test_the_token_stays_usable_after_a_wrong_secret(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "pin/verify", WRONG)
    assert (await product.pass_pin(ott)).status_code == 200


@pytest.mark.attack(32)
@pytest.mark.parametrize(
    "code",
    [" 111111", "111 111", "\uff11" * 6, "\u0661" * 6, "+111111", "111111\u200b", "111111\n", "1111111", ""],
)
async def test_a_code_in_other_clothes_is_wrong(product: Product, code: str) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    answer = await product.on(ott, "sms/verify", {"otpCode": code})
    assert (answer.status_code, error(answer)["code"]) == (400, "otp.incorrect")


@pytest.mark.attack(28)
async def test_a_code_is_good_once(product: Product) -> None:
    ott = await product.payment_ott()
    assert (await product.pass_sms(ott)).status_code == 200
    answer = await product.on(ott, "sms/verify", {"otpCode": CODE})
    assert (answer.status_code, error(answer)["code"]) == (400, "challenge.not.offered")


@pytest.mark.attack(29)
async def test_a_code_for_one_token_is_wrong_on_another(product: Product) -> None:
    product = await make_product()
    product.world.entropy._codes = iter(["123456", "654321"])  # noqa: SLF001
    first, second = await product.ott(), await product.ott()
    await product.on(first, "sms/trigger")
    await product.on(second, "sms/trigger")
    answer = await product.on(second, "sms/verify", {"otpCode": "123456"})
    assert (error(answer)["code"], error(answer)["arguments"]) == ("otp.incorrect", [4])


# --- locked -----------------------------------------------------------------------------------


async def test_a_locked_user_is_429_with_what_is_left_to_wait(product: Product) -> None:
    open_before, triggered = await product.payment_ott(), await product.payment_ott()
    await product.on(triggered, "sms/trigger")
    await product.lock()
    calls: list[tuple[str, object]] = [
        ("pin/verify", {"pin": PIN}),
        ("sms/trigger", None),
        ("/2026Q3/one-time-token/voice/trigger", None),
        ("partner-device-fingerprint/verify", {"deviceFingerprint": FINGERPRINT}),
        (V2_DEVICE, {"deviceFingerprint": FINGERPRINT}),
    ]
    for waited, left in ((0, "900"), (0.001, "900"), (0.999, "899"), (898.5, "1"), (0.499, "1")):
        product.world.clock.advance(waited)
        answers = [await product.on(open_before, path, body) for path, body in calls]
        answers += [
            await product.on(triggered, "sms/verify", {"otpCode": CODE}),
            await product.pay(),
            await product.call("GET", STATEMENT_PATH),
            await product.call("POST", AUTHORISE),
        ]
        for answer in answers:
            if answer.status_code == 404:
                continue  # The token's own time has run out first.
            assert (answer.status_code, error(answer)["code"]) == (429, "sca.locked")
            assert answer.headers["retry-after"] == left
            assert answer.headers["x-rate-limited-by"]
            is_refused(answer)
    product.world.clock.advance(0.001)
    assert (await product.pay()).status_code == 403
    assert not product.bank.executions


@pytest.mark.parametrize("path", [V2_PIN, CALENDAR_PIN])
async def test_the_second_generation_says_that_the_pin_is_blocked(product: Product, path: str) -> None:
    ott = await product.ott()
    await product.lock()
    product.world.clock.advance(1)
    answer = await product.on(ott, path, {"pin": PIN})
    assert (answer.status_code, error(answer)["code"]) == (400, "pin.blocked")
    assert answer.headers["retry-after"] == "899"


@pytest.mark.attack(52)
@pytest.mark.attack(79)
async def test_right_and_wrong_look_the_same_while_locked(product: Product) -> None:
    ott = await product.ott()
    await product.lock()
    right, wrong = [await product.on(ott, "pin/verify", {"pin": pin}) for pin in (PIN, "0000")]
    assert right.content == wrong.content
    assert product.world.methods.compared[Method.PIN] == 5


async def test_the_fifth_failure_over_all_methods_locks(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    for path, body in (
        ("pin/verify", WRONG),
        (V2_PIN, WRONG),
        ("sms/verify", {"otpCode": "000000"}),
        ("partner-device-fingerprint/verify", {"deviceFingerprint": "x"}),
        ("/2027Q1/one-time-token/sms/verify", {"otpCode": "000000"}),
    ):
        assert (await product.on(ott, path, body)).status_code == 400
    assert (await product.on(ott, "pin/verify", {"pin": PIN})).status_code == 429


@pytest.mark.attack(44)
async def test_a_new_token_for_each_guess_is_no_way_round_the_lock(product: Product) -> None:
    otts = [await product.ott() for _ in range(8)]
    seen = [(await product.on(ott, "pin/verify", WRONG)).status_code for ott in otts]
    assert seen == [400] * 5 + [429] * 3
    assert product.world.methods.compared[Method.PIN] == 5


@pytest.mark.attack(46)
async def test_other_spellings_of_a_path_share_one_counter_or_do_not_exist(product: Product) -> None:
    ott = await product.ott()
    found = missing = 0
    for path in (
        "//v1//one-time-token/pin/verify",
        "/v1/one-time-token/pin/verify/",
        "/V1/one-time-token/pin/verify",
        "/v1/one-time-token/PIN/verify",
        "/v1/./one-time-token/pin/verify",
        "/v1/one-time-token/pin%2Fverify",
        "/v1/one-time-token/pin/verify;x=1",
        "/v1/one-time-token/p%69n/verify",
        "///v1/one-time-token/pin/verify",
        f"//v2/profiles/{PROFILE}//pin/verify",
        f"/2026Q3//profiles/{PROFILE}/pin/verify",
        "/v1/one-time-token/pin/verify?x=1",
    ):
        answer = await product.raw(
            "POST", path, [("one-time-token", ott), *JSON.items()], body=b'{"pin":"0000"}'
        )
        if answer.status == 404:
            missing += 1
        else:
            found += 1
            assert (answer.code == "pin.incorrect") is (found <= 5), path
    assert found >= 6
    assert found + missing == 12
    assert product.world.methods.compared[Method.PIN] == 5


@pytest.mark.attack(47)
async def test_no_address_that_a_client_claims_moves_a_counter(product: Product) -> None:
    ott = await product.ott()
    names = ("x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip")
    for number in range(5):
        claimed = dict.fromkeys(names, f"for=10.0.0.{number}")
        assert (await product.on(ott, "pin/verify", WRONG, headers=claimed)).status_code == 400
    answer = await product.on(ott, "pin/verify", {"pin": PIN}, headers=dict.fromkeys(names, "2001:db8::99"))
    assert answer.status_code == 429


@pytest.mark.attack(43)
async def test_of_many_guesses_at_once_five_are_compared(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    answers = await asyncio.gather(
        *(product.on(ott, "sms/verify", {"otpCode": f"{number:06}"}) for number in range(200))
    )
    seen = sorted(answer.status_code for answer in answers)
    assert seen == [400] * 5 + [429] * 195
    assert product.world.methods.compared[Method.SMS] == 5


async def test_what_is_spent_or_cleared_already_needs_no_new_token_while_locked(product: Product) -> None:
    ott = await product.cleared_payment()
    product.world.clock.advance(30)
    other = await product.payment_ott()
    for _ in range(5):
        await product.on(other, "pin/verify", WRONG)
    assert (await product.pay()).status_code == 429
    assert (await product.pay(ott)).status_code == 201


# --- sends ------------------------------------------------------------------------------------


@pytest.mark.attack(61)
async def test_a_resend_waits_thirty_seconds(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "sms/trigger")
    for waited, left in ((0, "30"), (0.5, "30"), (0.5, "29"), (28, "1"), (0.999, "1")):
        product.world.clock.advance(waited)
        answer = await product.on(ott, "sms/trigger")
        assert (answer.status_code, error(answer)["code"]) == (429, "otp.resend.too.soon")
        assert (answer.headers["retry-after"], bool(answer.headers["x-rate-limited-by"])) == (left, True)
    product.world.clock.advance(0.001)
    assert (await product.on(ott, "sms/trigger")).status_code == 200
    assert len(product.world.outbox.messages) == 2


async def test_a_token_sends_five_codes(product: Product) -> None:
    ott = await product.ott()
    for _ in range(5):
        assert (await product.on(ott, "sms/trigger")).status_code == 200
        product.world.clock.advance(30)
    answer = await product.on(ott, "voice/trigger")
    assert (answer.status_code, error(answer)["code"]) == (429, "otp.sends.exhausted")
    assert answer.headers["retry-after"] == "750"


@pytest.mark.attack(62)
async def test_a_number_receives_ten_codes_a_day(product: Product) -> None:
    for _ in range(10):
        assert (await product.on(await product.ott(), "sms/trigger")).status_code == 200
    product.world.clock.advance(1)
    answer = await product.on(await product.ott(), "whatsapp/trigger")
    assert (answer.status_code, error(answer)["code"]) == (429, "otp.sends.exhausted")
    assert answer.headers["retry-after"] == "86399"
    product.world.clock.advance(86398.999)
    assert (await product.on(await product.ott(), "sms/trigger")).status_code == 429
    product.world.clock.advance(0.001)
    assert (await product.on(await product.ott(), "sms/trigger")).status_code == 200


@pytest.mark.attack(71)
async def test_what_nobody_could_deliver_is_503_and_can_be_asked_for_again(product: Product) -> None:
    ott = await product.ott()
    product.world.outbox.down = True
    answer = await product.on(ott, "sms/trigger")
    assert (answer.status_code, error(answer)["code"]) == (503, "otp.delivery.failed")
    assert answer.headers["retry-after"] == "1"
    product.world.outbox.down = False
    assert (await product.pass_sms(ott)).status_code == 200


# --- enrolment --------------------------------------------------------------------------------


async def test_who_has_not_enrolled_enough_hears_what_would_do(product: Product) -> None:
    path = PAYMENT_PATH.replace(str(PROFILE), str(GRACE_PROFILE))
    answer = await product.call("POST", path, token="grace")
    assert (answer.status_code, error(answer)["code"]) == (403, "sca.enrolment.required")
    assert error(answer)["arguments"] == ["PIN"]  # No matcher of faces here.
    is_refused(answer)


async def test_locked_comes_before_not_enrolled(product: Product) -> None:
    ott = await product.ott(token="grace")
    await product.on(ott, "sms/trigger", token="grace")
    for _ in range(5):
        await product.on(ott, "sms/verify", {"otpCode": "000000"}, token="grace")
    answer = await product.call("POST", PAYMENT_PATH, token="grace")
    assert (answer.status_code, error(answer)["code"]) == (429, "sca.locked")


@pytest.mark.attack(20)
async def test_new_credentials_void_what_is_open_and_end_the_session(product: Product) -> None:
    ready, pending = await product.cleared_payment(), await product.payment_ott()
    assert (await product.call("GET", STATEMENT_PATH)).status_code == 200
    await product.world.enrol(ADA, enrolled_phone(), enrolled_fingerprint())
    assert (await product.call("GET", STATEMENT_PATH)).status_code == 403
    for ott in (ready, pending):
        assert (await product.on(ott, "status")).status_code == 404
        assert (await product.pay(ott)).status_code == 403
    assert not product.bank.executions["payment"]


# --- the store is away ------------------------------------------------------------------------


@pytest.mark.attack(155)
@pytest.mark.parametrize("what", ["token", "user", "commit"])
@pytest.mark.parametrize(("method", "path", "body"), [*OPERATIONS, *SESSIONS])
async def test_a_store_that_cannot_answer_is_503(
    method: str, path: str, body: object, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Faulty()
    product = await make_product(store=store)
    ott = await product.ott()
    if "otpCode" in str(body):
        await product.on(ott, path.replace("verify", "trigger"))
    # As a server that has just started: one that stored a record itself need not look it up again.
    monkeypatch.setattr(product.world.engine.decider, "recent", Recent(store))
    store.down.add(what)
    answer = await product.on(ott, path, body)
    if "status" in path and what != "token":
        assert answer.status_code == 200
        return
    if "authorise" in path and what == "token":
        assert answer.status_code == 200
        return
    assert (answer.status_code, error(answer)["code"]) == (503, "service.unavailable")
    assert answer.headers["retry-after"] == "1"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-trace-id"])


async def test_a_key_that_is_not_there_decides_nothing_and_the_log_names_it(
    product: Product, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object, **__: object) -> bytes:
        raise KeyMissingError(gone_key)

    gone_key = "key 1 is not in the ring"

    ott = await product.ott()
    monkeypatch.setattr(Keyring, "open", gone)
    answer = await product.on(ott, "pin/verify", {"pin": "1234"})
    assert (answer.status_code, error(answer)["code"]) == (503, "service.unavailable")
    assert f"{answer.headers['x-trace-id']}: KeyMissingError: {gone_key}" in caplog.text


async def test_a_mistake_of_ours_tells_nothing_but_a_trace_id(
    product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter" + "2"

    async def broken(_token: str) -> None:
        raise RuntimeError(secret)

    product.tokens.authenticate = broken  # type: ignore[method-assign, assignment]
    answer = await product.on(UNKNOWN_OTT, "status")
    assert answer.status_code == 500
    assert error(answer)["code"] == "internal.error"
    assert answer.headers["x-trace-id"] in error(answer)["message"]
    assert answer.headers["x-trace-id"] in caplog.text
    assert "in broken" in caplog.text
    assert secret not in answer.text + caplog.text


# --- every answer -----------------------------------------------------------------------------


async def answers_of_every_kind(product: Product, headers: dict[str, str]) -> list[Any]:
    ott = await product.ott()
    return [
        await product.call(
            method, path, headers={"one-time-token": chosen, **headers}, token=token, json=body
        )
        for method, path, body in (
            *OPERATIONS,
            *SESSIONS,
            ("GET", "/nowhere", None),
            ("DELETE", "/v1/one-time-token/status", None),
            ("POST", PAYMENT_PATH, None),
            ("GET", "/v1/profiles", None),
            ("GET", "/openapi.json", None),
        )
        for chosen in (ott, "x")
        for token in ("ada", None)
    ]


async def test_every_answer_has_a_trace_id_of_its_own(product: Product) -> None:
    answers = await answers_of_every_kind(product, {})
    ids = [answer.headers["x-trace-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in ids)
    assert len(set(ids)) == len(answers)
    assert not any("x-external-correlation-id" in answer.headers for answer in answers)


@pytest.mark.parametrize("length", [1, 36, 37])
async def test_a_correlation_id_is_echoed_up_to_36_characters(product: Product, length: int) -> None:
    sent = "c" * length
    for answer in await answers_of_every_kind(product, {"X-External-Correlation-Id": sent}):
        assert answer.headers.get("x-external-correlation-id") == (sent if length <= 36 else None)


@pytest.mark.attack(83)
async def test_no_answer_about_a_token_is_ever_stored(product: Product) -> None:
    for answer in await answers_of_every_kind(product, {}):
        if answer.url.path not in {"/openapi.json", "/v1/profiles"}:
            assert answer.headers["cache-control"] == "no-store", answer.url
            assert "etag" not in answer.headers


@pytest.mark.attack(80)
async def test_a_number_is_masked_wherever_it_could_show(product: Product) -> None:
    ott = await product.ott()
    shown = [
        await product.on(ott, "status"),
        await product.on(ott, "sms/trigger"),
        await product.on(ott, "sms/trigger"),
    ]
    for answer in shown:
        assert "6588" not in answer.text + str(answer.headers)


@pytest.mark.attack(94)
async def test_a_message_whose_length_is_told_twice_is_400(product: Product) -> None:
    for doubled in (
        [("content-length", "2"), ("transfer-encoding", "chunked")],
        [("content-length", "2"), ("content-length", "2")],
        [("content-length", "2"), ("content-length", "9")],
        [("transfer-encoding", "xchunked"), ("content-length", "2")],
    ):
        answer = await product.raw("POST", PAYMENT_PATH, doubled, body=b"{}")
        assert (answer.status, answer.code) == (400, "request.malformed")


async def test_two_authorization_headers_are_400(product: Product) -> None:
    for path in (PAYMENT_PATH, "/v1/one-time-token/status", "/v1/profiles"):
        answer = await product.raw("GET", path, [("authorization", "Bearer ada")])
        assert (answer.status, answer.code) == (400, "request.malformed")
    assert not product.bank.executions


async def test_an_exception_after_the_answer_began_breaks_it_off_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = str(4700 + 11)  # A traceback quotes the lines that it passes.

    async def fails(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(f"pin={secret}")

    with pytest.raises(BrokenOffError) as caught:
        await call(Edge(fails, trace_id=lambda: "f" * 32), "GET", "/")
    said = "".join(format_exception(caught.value)) + caplog.text
    assert secret not in said
    assert "f" * 32 in caplog.text
