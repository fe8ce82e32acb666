"""What somebody tried who had not seen the code, and only wanted money: each way stays shut."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.app import Answer, call
from tests.factories import CODE, GRACE, NOW, PIN, UNKNOWN_OTT, enrolled_pin
from tests.jose import oracle
from tests.wire.strict import GRACE_PROFILE, Strict, make_strict
from watchword.asgi import ASGIMessage
from watchword.domain.action import Bind, Spend
from watchword.domain.application import ApplicationId, ClientKey, KeyScope
from watchword.domain.credential import PublicKey
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import after
from watchword.server.body import BODY_MAX, LARGE_AT_ONCE, LARGE_AT_ONCE_EACH
from watchword.server.settings import ApplicationSettings, Settings

UUID = "00000000-0000-4000-8000-000000000001"
FINGERPRINTS = "/v1/user/partner-device-fingerprints"
FACES = "/v1/user/facemap/enrol"
AS_JSON = {"content-type": "application/json"}


async def create(strict: Strict, fingerprint: str, ott: str | None = None) -> Answer:
    headers = AS_JSON | ({} if ott is None else {"x-2fa-approval": ott})
    body = json.dumps({"deviceFingerprint": fingerprint}).encode()
    return await strict.call("POST", FINGERPRINTS, headers=headers, body=body)


async def approved(strict: Strict, fingerprint: str) -> str:
    """Return a cleared OTT for one change."""
    ott = (await create(strict, fingerprint)).header("x-2fa-approval")
    assert ott is not None
    of = AS_JSON | {"one-time-token": ott}
    stem = "/v1/one-time-token"
    assert (await strict.call("POST", f"{stem}/sms/trigger", headers=of)).status == 200
    for path, member, secret in ((f"{stem}/sms/verify", "otpCode", CODE), (f"{stem}/pin/verify", "pin", PIN)):
        body = json.dumps({member: secret}).encode()
        assert (await strict.call("POST", path, headers=of, body=body)).status == 200
    return ott


# --- confirming a change -----------------------------------------------------------------------------


@pytest.mark.attack(164)
@pytest.mark.parametrize("spend", Spend)
async def test_to_confirm_one_change_is_to_confirm_no_other_whatever_is_configured(spend: Spend) -> None:
    lax = replace(CREDENTIAL_CHANGE, bind=Bind.ACTION, spend=spend)
    strict = await make_strict(settings=Settings(credential_change=lax))
    ott = await approved(strict, "hers")
    assert (await create(strict, "the thief's", ott)).status == 403
    assert (await create(strict, "hers", ott)).status == 403  # RTS art. 5(1)(d): void by now.
    again = await create(strict, "hers", await approved(strict, "hers"))
    assert (again.status, again.header("x-2fa-approval-result")) == (200, "APPROVED")


@pytest.mark.attack(74)
async def test_a_door_that_asks_for_a_step_up_does_not_tell_which_fingerprint_is_enrolled() -> None:
    strict = await make_strict()
    for number in range(2):
        assert (await create(strict, f"{number}", await approved(strict, f"{number}"))).status == 200
    answers = [await create(strict, guess) for guess in ("0", "1", "nobody's")]
    assert {answer.status for answer in answers} == {400}
    assert {answer.code for answer in answers} == {"device.fingerprint.limit.reached"}


async def test_what_cannot_be_added_costs_no_confirmation() -> None:
    strict = await make_strict()
    pin = await strict.call("POST", "/v1/user/pin", headers=AS_JSON, body=b'{"pin":"9876"}')
    assert (pin.status, pin.header("x-2fa-approval")) == (409, None)
    face = await strict.call("POST", FACES, headers=AS_JSON, body=b'{"faceMap":"QUJD"}')
    assert (face.status, face.header("x-2fa-approval")) == (503, None)  # Nobody compares faces here.


async def test_a_key_that_programs_sign_with_is_asked_of_no_person() -> None:
    strict = await make_strict()
    key = PublicKey(id="key", spki=b"der", enrolled_at=NOW)
    await strict.world.enrol(GRACE, key, enrolled_pin(GRACE))
    refused = await strict.call("DELETE", f"/v2/profiles/{GRACE_PROFILE}/pin", token="grace")
    assert (refused.status, refused.code) == (403, "sca.required")  # By her PIN, which she can pass.


# --- what costs us more than them --------------------------------------------------------------------


@pytest.mark.attack(57)
async def test_many_creations_of_a_pin_at_once_cost_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = await make_strict()
    pins, hashed = strict.world.engine.methods.pin, 0
    enrol = pins.enrol

    def counted(*args: object, **named: object) -> object:
        nonlocal hashed
        hashed += 1
        return enrol(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(pins, "enrol", counted)
    body = b'{"pin":"2741"}'
    answers = await asyncio.gather(
        *(strict.call("POST", "/v1/user/pin", token="grace", headers=AS_JSON, body=body) for _ in range(30))
    )
    assert sorted(answer.status for answer in answers) == [204, *[409] * 29]
    assert hashed == 1


@pytest.mark.attack(85)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * (4 * BODY_MAX),
        b'{"faceMap":[' + b"{}," * (2 * BODY_MAX) + b"{}]}",
        b'{"faceMap":[' + b"1," * (2 * BODY_MAX) + b"1]}",
        b'{"faceMap":"AA==",' * BODY_MAX,
        b'{"faceMap":"' + b"\\u0041" * (BODY_MAX // 2) + b'"}',
    ],
    ids=["deep", "wide", "numbers", "repeated", "escaped"],
)
async def test_a_large_body_of_many_parts_is_refused_before_it_is_read(body: bytes) -> None:
    strict = await make_strict()
    begun = time.thread_time()
    answer = await strict.call("POST", FACES, headers=AS_JSON, body=body)
    assert (answer.status, answer.code) == (400, "request.malformed")
    assert time.thread_time() - begun < 0.1  # Some milliseconds; seconds when each part was looked at.


async def test_so_many_large_bodies_are_on_their_way_at_once_and_no_more() -> None:
    strict = await make_strict()
    go_on = asyncio.Event()

    async def slowly() -> ASGIMessage:
        await go_on.wait()
        return {"type": "http.request", "body": b'{"faceMap":"QUJD"}', "more_body": False}

    def start(token: str = "ada") -> asyncio.Task[Answer]:
        headers = [("authorization", f"Bearer {token}"), *AS_JSON.items()]
        return asyncio.create_task(call(strict.app, "POST", FACES, headers, receive=slowly))

    held = [start() for _ in range(LARGE_AT_ONCE_EACH)]
    await asyncio.sleep(0)
    one_more = await start()
    assert (one_more.status, one_more.code) == (503, "service.unavailable")
    assert one_more.header("retry-after") == "1"
    other = start("grace")
    go_on.set()
    assert {answer.code for answer in await asyncio.gather(*held, other)} == {"service.unavailable"}
    assert {(await start()).status} == {503}  # By nobody who compares faces, and no more by the bound:
    assert LARGE_AT_ONCE >= LARGE_AT_ONCE_EACH


# --- names in one spelling ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["06146956", "0", "00", "+1", "1e3", "9007199254740992", "%D9%A3"])
async def test_a_user_is_named_in_one_way_only(name: str) -> None:
    settings = Settings(applications={"app": ApplicationSettings(manages_users=True)})
    strict = await make_strict(settings=settings)
    answer = await strict.call("DELETE", f"/v1/users/{name}/pin", token="app")
    assert (answer.status, answer.code) == (404, "not.found")


@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "%7F", "%1F"])
async def test_a_path_that_some_routers_end_early_is_refused(end: str) -> None:
    strict = await make_strict()
    headers = {"one-time-token": UNKNOWN_OTT}
    answer = await strict.call("GET", f"/v1/one-time-token/status{end}", headers=headers)
    assert (answer.status, answer.code) == (400, "request.malformed")


# --- sealed bodies -----------------------------------------------------------------------------------


async def uploaded(strict: Strict, *, key_id: str = UUID) -> ec.EllipticCurvePrivateKey:
    """Upload a key of the application's, and return its private half."""
    private = ec.generate_private_key(ec.SECP521R1())
    key = ClientKey(
        id=key_id,
        scope=KeyScope.PAYLOAD_SIGNING,
        algorithm="ES512",
        spki=oracle.spki(private.public_key()),
        valid_from=after(NOW, -60),
        valid_till=after(NOW, 3600),
    )
    assert await strict.world.engine.applications.upload_key(ApplicationId("app"), key) is None
    return private


def signed(private: ec.EllipticCurvePrivateKey, **members: object) -> bytes:
    header = {"alg": "ES512", "url": FINGERPRINTS, **members}
    return oracle.jws(json.dumps({"deviceFingerprint": "new"}).encode(), private, header)


JWS = {"content-type": "application/jose+json", "x-tw-jose-method": "jws"}


@pytest.mark.attack(112)
async def test_a_signed_body_that_says_for_which_token_or_when_is_good_for_no_other() -> None:
    strict = await make_strict(settings=Settings(step_up=StepUpFor.NOTHING))
    private = await uploaded(strict)
    for members in ({"ott": UNKNOWN_OTT}, {"iat": 1}, {"ott": UNKNOWN_OTT, "iat": NOW // 1000}):
        answer = await strict.call("POST", FINGERPRINTS, headers=JWS, body=signed(private, **members))
        assert (answer.status, answer.json()["error"]) == (400, "jws_error")
    fresh = signed(private, iat=NOW // 1000)
    assert (await strict.call("POST", FINGERPRINTS, headers=JWS, body=fresh)).status == 200


@pytest.mark.attack(112)
async def test_a_change_that_says_which_approval_it_is_for_is_taken_with_that_one() -> None:
    strict = await make_strict()
    private = await uploaded(strict)
    ott = await approved(strict, "new")
    body = signed(private, ott=ott)
    answer = await strict.call("POST", FINGERPRINTS, headers=JWS | {"x-2fa-approval": ott}, body=body)
    assert (answer.status, answer.header("x-2fa-approval-result")) == (200, "APPROVED")


@pytest.mark.attack(98)
async def test_where_jose_is_required_a_body_that_anybody_can_read_is_not_enough() -> None:
    settings = Settings(applications={"app": ApplicationSettings(jose_required=True)})
    strict = await make_strict(settings=settings)
    body = signed(await uploaded(strict))
    answer = await strict.call("POST", FINGERPRINTS, headers=JWS, body=body)
    assert (answer.status, answer.code) == (415, "media.type.unsupported")


async def test_a_revoked_key_verifies_nothing_from_then_on() -> None:
    strict = await make_strict(settings=Settings(step_up=StepUpFor.NOTHING))
    private = await uploaded(strict)
    path = f"/v1/auth/jose/request/public-keys/{UUID}"
    assert (await strict.call("DELETE", path, token="app")).status == 204
    answer = await strict.call("POST", FINGERPRINTS, headers=JWS, body=signed(private))
    assert (answer.status, answer.json()["error"]) == (400, "jws_error")
    gone = await strict.call("DELETE", path, token="app")
    assert (gone.status, gone.code) == (404, "jose.key.not.found")
    await uploaded(strict)  # Its id is free again.
