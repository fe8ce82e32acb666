"""Every operation in every generation: what it answers when all is well."""

from typing import Any

import pytest

from tests.app import PROFILE, STATEMENT_PATH, Product
from tests.factories import ADA, CODE, FINGERPRINT, NUMBER, PIN

STATUS = (
    "/v1/one-time-token/status",
    "/v1/identity/one-time-token/status",
    "/2026Q3/one-time-token/status",
    "/2027Q1/one-time-token/status",
)
CHANNELS = ("sms", "whatsapp", "voice")
CODES = ("/v1/one-time-token", "/2026Q3/one-time-token", "/2027Q1/one-time-token")
DIRECT = (
    ("pin/verify", "pin/verify", {"pin": PIN}, "PIN"),
    (
        "partner-device-fingerprint/verify",
        "device-fingerprints/verify",
        {"deviceFingerprint": FINGERPRINT},
        "PARTNER_DEVICE_FINGERPRINT",
    ),
)
PROFILES = (f"/v2/profiles/{PROFILE}", f"/2026Q3/profiles/{PROFILE}", f"/2027Q1/profiles/{PROFILE}")
SESSIONS = (*(f"{stem}/sca-sessions/authorise" for stem in PROFILES), "/v1/mfa-session/authorise")


def method(name: str) -> dict[str, Any]:
    return {"type": name, "viewData": {"attributes": {"userId": ADA}}}


def challenge(primary: str, *alternatives: str, passed: bool = False) -> dict[str, Any]:
    return {
        "primaryChallenge": method(primary),
        "alternatives": [method(name) for name in alternatives],
        "required": True,
        "passed": passed,
    }


PHONE = ("SMS", "WHATSAPP", "VOICE")
POSSESSION = challenge(*PHONE, "PARTNER_DEVICE_FINGERPRINT")


# --- status -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", STATUS)
async def test_status_shows_a_low_risk_token_in_full(product: Product, path: str) -> None:
    ott = await product.ott()
    answer = await product.on(ott, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "oneTimeTokenProperties": {
            "oneTimeToken": ott,
            "challenges": [challenge("PIN", *PHONE, "PARTNER_DEVICE_FINGERPRINT")],
            "validity": 900,
            "actionType": "BALANCE__GET_STATEMENT",
            "userId": ADA,
        }
    }


@pytest.mark.parametrize("path", STATUS)
async def test_status_asks_for_two_factors_at_high_risk(product: Product, path: str) -> None:
    ott = await product.payment_ott()
    properties = (await product.on(ott, path)).json()["oneTimeTokenProperties"]
    assert properties["actionType"] == "TRANSFER__FUND"
    assert properties["challenges"] == [challenge("PIN"), POSSESSION]


async def test_status_lists_no_challenge_once_all_are_passed(product: Product) -> None:
    ott = await product.cleared_statement()
    assert (await product.on(ott, "status")).json()["oneTimeTokenProperties"]["challenges"] == []


async def test_a_code_over_one_channel_is_no_second_factor_after_another(product: Product) -> None:
    ott = await product.payment_ott()
    await product.pass_sms(ott)
    assert (await product.on(ott, "whatsapp/trigger")).json()["errors"][0]["code"] == "challenge.not.offered"
    left = (await product.on(ott, "status")).json()["oneTimeTokenProperties"]["challenges"]
    assert left == [challenge("PIN")]


async def test_validity_is_an_integer_that_counts_down(product: Product) -> None:
    ott = await product.ott()
    seen = []
    for seconds in (0, 1, 0.4, 598.6, 299):
        product.world.clock.advance(seconds)
        seen.append((await product.on(ott, "status")).json()["oneTimeTokenProperties"]["validity"])
    assert seen == [900, 899, 899, 300, 1]
    assert all(type(value) is int for value in seen)
    product.world.clock.advance(1)
    assert (await product.on(ott, "status")).status_code == 404


async def test_a_cleared_token_says_how_long_it_may_be_spent(product: Product) -> None:
    ott = await product.cleared_statement()
    product.world.clock.advance(10)
    assert (await product.on(ott, "status")).json()["oneTimeTokenProperties"]["validity"] == 290


# --- codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("stem", CODES)
async def test_a_trigger_sends_a_code_and_masks_the_number(product: Product, stem: str, channel: str) -> None:
    ott = await product.ott()
    answer = await product.on(ott, f"{stem}/{channel}/trigger")
    assert answer.request.headers["content-length"] == "0"
    assert "content-type" not in answer.request.headers
    assert (answer.status_code, answer.json()) == (200, {"obfuscatedPhoneNo": "*********8888"})
    (message,) = product.world.outbox.messages
    assert (message.channel, message.to, message.code) == (channel.upper(), NUMBER, CODE)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("stem", CODES)
async def test_the_right_code_passes_the_challenge(product: Product, stem: str, channel: str) -> None:
    ott = await product.payment_ott()
    await product.on(ott, f"{stem}/{channel}/trigger")
    answer = await product.on(ott, f"{stem}/{channel}/verify", {"otpCode": CODE})
    assert answer.status_code == 200
    # The first generation drops what is passed; the calendar's keeps it, and says so.
    left = [challenge("PIN")]
    if not stem.startswith("/v1"):
        left.append({**POSSESSION, "passed": True})
    assert answer.json() == {
        "oneTimeTokenProperties": {"oneTimeToken": ott, "challenges": left, "validity": 900}
    }


async def test_a_code_triggered_in_one_generation_is_verified_in_another(product: Product) -> None:
    ott = await product.ott()
    await product.on(ott, "/v1/one-time-token/sms/trigger")
    answer = await product.on(ott, "/2027Q1/one-time-token/sms/verify", {"otpCode": CODE})
    assert answer.status_code == 200
    assert [entry["passed"] for entry in answer.json()["oneTimeTokenProperties"]["challenges"]] == [True]


# --- PIN and device fingerprint ---------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "body", "name"), DIRECT)
async def test_the_first_generation_wraps_and_drops_what_is_passed(
    product: Product, first: str, second: str, body: object, name: str
) -> None:
    ott = await product.payment_ott()
    answer = await product.on(ott, first, body)
    left = POSSESSION if name == "PIN" else challenge("PIN")
    assert (answer.status_code, answer.json()) == (
        200,
        {"oneTimeTokenProperties": {"oneTimeToken": ott, "challenges": [left], "validity": 900}},
    )


@pytest.mark.parametrize("stem", PROFILES)
@pytest.mark.parametrize(("first", "second", "body", "name"), DIRECT)
async def test_the_later_generations_are_slim_unwrapped_and_keep_what_is_passed(
    product: Product, first: str, second: str, body: object, name: str, stem: str
) -> None:
    ott = await product.payment_ott()
    answer = await product.on(ott, f"{stem}/{second}", body)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "oneTimeToken": ott,
            "challenges": [
                {"primaryChallenge": {"type": "PIN"}, "passed": name == "PIN"},
                {"primaryChallenge": {"type": "SMS"}, "passed": name != "PIN"},
            ],
            "validity": 900,
        },
    )


# --- session ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SESSIONS)
async def test_authorise_issues_a_token_that_opens_the_low_risk_session(product: Product, path: str) -> None:
    issued = await product.call("POST", path)
    assert issued.status_code == 200
    token = issued.json()["oneTimeTokenProperties"]
    ott = token.pop("oneTimeToken")
    assert token == {"challenges": [{"primaryChallenge": {"type": "PIN"}, "passed": False}], "validity": 900}

    shown = (await product.on(ott, "status")).json()["oneTimeTokenProperties"]
    assert shown["actionType"] == "IDENTITY__AUTHORISE_SESSION"
    assert (await product.call("GET", STATEMENT_PATH)).status_code == 403

    await product.pass_pin(ott)
    for seconds, status in ((0, 200), (299.999, 200), (0.001, 403)):
        product.world.clock.advance(seconds)
        assert (await product.call("GET", STATEMENT_PATH)).status_code == status


async def test_the_session_never_lets_a_high_risk_call_through(product: Product) -> None:
    await product.pass_pin(
        (await product.call("POST", SESSIONS[0])).json()["oneTimeTokenProperties"]["oneTimeToken"]
    )
    assert (await product.pay()).status_code == 403
    assert not product.bank.executions["payment"]


async def test_a_session_token_lets_no_request_through_by_itself(product: Product) -> None:
    issued = await product.call("POST", SESSIONS[0])
    ott = issued.json()["oneTimeTokenProperties"]["oneTimeToken"]
    await product.pass_pin(ott)
    answer = await product.call("GET", STATEMENT_PATH, headers={"x-2fa-approval": ott})
    assert answer.status_code == 403
    assert answer.headers["x-2fa-approval"] != ott


# --- what no path reaches ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["2026Q0", "2026Q5", "1999Q1", "2026q3", "26Q3", "2026Q33", "v3", "\uff12026Q3"]
)
async def test_an_unknown_calendar_version_is_not_found(product: Product, version: str) -> None:
    ott = await product.ott()
    answer = await product.on(ott, f"/{version}/one-time-token/status")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "not.found"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/one-time-token/status",
        "/v1/profiles/1/pin/verify",
        "/2026Q3/one-time-token/pin/verify",
        "/v3",
        "/",
    ],
)
async def test_an_operation_exists_in_its_own_generations_only(product: Product, path: str) -> None:
    answer = await product.call("POST", path)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not.found")


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("POST", "/v1/one-time-token/status", "GET"),
        ("HEAD", "/2026Q3/one-time-token/status", "GET"),
        ("GET", "/v1/one-time-token/sms/trigger", "POST"),
        ("PUT", f"/v2/profiles/{PROFILE}/pin/verify", "POST"),
        ("DELETE", "/2026Q3/one-time-token/voice/verify", "POST"),
    ],
)
async def test_another_method_is_not_allowed(product: Product, verb: str, path: str, allow: str) -> None:
    answer = await product.call(verb, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    if verb != "HEAD":
        assert answer.json()["errors"][0]["code"] == "method.not.allowed"
