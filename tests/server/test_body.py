"""Bodies that no honest client sends: never a 500, never a comparison."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.app import JSON, PROFILE, Answer, Product
from tests.factories import PIN
from tests.test_strict_json import BAD
from watchword.asgi import ASGIMessage
from watchword.server import body as server_body

PIN_VERIFY = "/v1/one-time-token/pin/verify"
VERIFIES = (
    ("/v1/one-time-token/sms/verify", "otpCode"),
    ("/2026Q3/one-time-token/voice/verify", "otpCode"),
    (PIN_VERIFY, "pin"),
    (f"/v2/profiles/{PROFILE}/pin/verify", "pin"),
    ("/v1/one-time-token/partner-device-fingerprint/verify", "deviceFingerprint"),
    (f"/2027Q1/profiles/{PROFILE}/device-fingerprints/verify", "deviceFingerprint"),
)
KIB64 = 64 * 1024


async def send(
    product: Product, path: str, body: bytes | Sequence[bytes], headers: dict[str, str] = JSON, ott: str = ""
) -> Answer:
    pairs = [("one-time-token", ott or await product.ott()), *headers.items()]
    return await product.raw("POST", path, pairs, body=body)


async def untouched(product: Product) -> None:
    """Assert that nothing was compared, and nothing counted."""
    assert not product.world.methods.compared
    assert (await product.world.user()).attempts.consecutive == 0


def padded(size: int) -> bytes:
    """Return a right answer of exactly *size* bytes."""
    body = b'{"pin":"' + PIN.encode() + b'"}'
    return body + b" " * (size - len(body))


@pytest.mark.attack(85)
@pytest.mark.attack(86)
@pytest.mark.attack(88)
@pytest.mark.attack(89)
@pytest.mark.parametrize(("path", "field"), VERIFIES)
async def test_what_is_not_one_meaning_of_json_is_400(product: Product, path: str, field: str) -> None:
    ott = await product.ott()
    for name, body in BAD.items():
        answer = await send(product, path, body.replace(b'"a"', f'"{field}"'.encode()), ott=ott)
        # 100,000 braces with their keys are more than 64 KiB.
        expected = (413, "request.too.large") if len(body) > KIB64 else (400, "request.malformed")
        assert (answer.status, answer.code) == expected, name
    await untouched(product)


@pytest.mark.attack(85)
async def test_as_many_brackets_as_fit_are_400(product: Product) -> None:
    answer = await send(product, PIN_VERIFY, b"[" * KIB64)
    assert (answer.status, answer.code) == (400, "request.malformed")


@pytest.mark.parametrize(("path", "field"), VERIFIES)
@pytest.mark.parametrize(
    "value", ["1234", "null", "true", "1.5", "1e3", "-1", "[]", "{}", '["1234"]', "9007199254740992"]
)
async def test_a_wrong_type_is_400_and_names_its_place(
    product: Product, path: str, field: str, value: str
) -> None:
    answer = await send(product, path, f'{{"{field}":{value}}}'.encode())
    assert (answer.status, answer.code) == (400, "request.malformed")
    assert answer.json()["errors"][0]["path"] == field
    await untouched(product)


@pytest.mark.parametrize(("path", "field"), VERIFIES)
@pytest.mark.parametrize("name", ["extra", "Pin", "PIN", "otp_code", "x" * 1000, "a.b", "`", "ä"])
async def test_an_unknown_key_is_400_and_named(product: Product, path: str, field: str, name: str) -> None:
    answer = await send(product, path, f'{{"{field}":"1","{name}":"2"}}'.encode())
    assert (answer.status, answer.code) == (400, "request.malformed")
    path_named = answer.json()["errors"][0].get("path", "")
    assert name.startswith(path_named) or name == "`"
    assert len(answer.body) < 500
    await untouched(product)


@pytest.mark.parametrize("body", [b"[]", b'"1234"', b"1234", b"null", b"{}", b"true"])
async def test_another_shape_is_400(product: Product, body: bytes) -> None:
    answer = await send(product, PIN_VERIFY, body)
    assert (answer.status, answer.code) == (400, "request.malformed")
    await untouched(product)


async def test_a_missing_key_is_named(product: Product) -> None:
    answer = await send(product, PIN_VERIFY, b"{}")
    assert answer.json()["errors"][0]["path"] == "pin"


@pytest.mark.attack(88)
@pytest.mark.parametrize(("path", "field"), VERIFIES)
async def test_a_secret_beyond_ascii_is_wrong_or_malformed_and_never_an_error(
    product: Product, path: str, field: str
) -> None:
    ott = await product.ott()
    if field == "otpCode":
        await product.on(ott, path.replace("verify", "trigger"))
    for value in ("é", "\uff11\uff12\uff13\uff14", "\u202e4321", "\\u0000"):
        answer = await send(product, path, f'{{"{field}":"{value}"}}'.encode(), ott=ott)
        assert answer.status == 400
        assert answer.code in {"pin.incorrect", "otp.incorrect", "device.fingerprint.incorrect"}


async def test_a_secret_is_never_repeated_in_an_error(product: Product) -> None:
    for body in (
        b'{"pin":["s3cr3t"]}',
        b'{"pin":"s3cr3t"',
        b'{"pin":"s3cr3t","pin":"s3cr3t"}',
        b'{"pin":"s3cr3t"}',
    ):
        answer = await send(product, PIN_VERIFY, body)
        assert answer.status == 400
        assert b"s3cr3t" not in answer.body


# --- size -------------------------------------------------------------------------------------


@pytest.mark.attack(91)
@pytest.mark.parametrize("length", ["honest", "absent", "too small", "nonsense"])
@pytest.mark.parametrize(("size", "status"), [(KIB64 - 1, 200), (KIB64, 200), (KIB64 + 1, 413)])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_body_may_have_64_kib(
    product: Product, size: int, status: int, length: str, pieces: int
) -> None:
    body = padded(size)
    declared = {"honest": str(size), "too small": "2", "nonsense": "x"}.get(length)
    headers = JSON if declared is None else JSON | {"content-length": declared}
    step = -(-size // pieces)
    answer = await send(product, PIN_VERIFY, [body[at : at + step] for at in range(0, size, step)], headers)
    assert answer.status == status
    if status == 413:
        assert answer.code == "request.too.large"
        await untouched(product)


@pytest.mark.attack(91)
@pytest.mark.parametrize("declared", [str(KIB64 + 1), "9" * 5000, str(2**70)])
async def test_a_body_that_says_it_is_too_large_is_not_read(product: Product, declared: str) -> None:
    ott = await product.ott()

    async def never() -> ASGIMessage:
        pytest.fail("it was read")

    for path in (PIN_VERIFY, "/v1/one-time-token/sms/trigger", "/v1/mfa-session/authorise"):
        headers = [("one-time-token", ott), *JSON.items(), ("content-length", declared)]
        answer = await product.raw("POST", path, headers, receive=never)
        assert (answer.status, answer.code) == (413, "request.too.large")


@pytest.mark.attack(91)
@pytest.mark.parametrize("path", ["/v1/one-time-token/sms/trigger", "/v1/mfa-session/authorise"])
async def test_a_body_that_nobody_wants_is_bounded_too(product: Product, path: str) -> None:
    assert (await send(product, path, b"x" * KIB64, {})).status == 200
    assert (await send(product, path, [b"x"] * 10 + [b"y" * KIB64], {})).status == 413


@pytest.mark.attack(91)
async def test_a_body_that_does_not_come_is_408(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_body, "BODY_SECONDS", 0.01)
    ott = await product.ott()

    async def never() -> ASGIMessage:
        await asyncio.Event().wait()
        raise AssertionError

    for path in (PIN_VERIFY, "/v1/one-time-token/sms/trigger", "/v1/mfa-session/authorise"):
        answer = await product.raw("POST", path, [("one-time-token", ott), *JSON.items()], receive=never)
        assert (answer.status, answer.code) == (408, "request.timed.out")
    await untouched(product)


async def test_a_client_that_hangs_up_while_it_sends_changes_nothing(product: Product) -> None:
    ott = await product.ott()
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"pin":"0000"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def hang_up() -> ASGIMessage:
        return messages.pop(0)

    answer = await product.raw("POST", PIN_VERIFY, [("one-time-token", ott), *JSON.items()], receive=hang_up)
    assert answer.status in {0, 400}
    await untouched(product)


async def test_a_body_in_many_pieces_is_one_body(product: Product) -> None:
    body = b'{"pin":"1234"}'
    answer = await send(product, PIN_VERIFY, [bytes([byte]) for byte in body] + [b""])
    assert answer.status == 200


# --- media types ------------------------------------------------------------------------------


@pytest.mark.attack(92)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "gzip, identity", "zstd", "x"])
@pytest.mark.parametrize(("path", "field"), VERIFIES)
async def test_a_compressed_body_is_415(product: Product, path: str, field: str, encoding: str) -> None:
    answer = await send(product, path, f'{{"{field}":"x"}}'.encode(), JSON | {"content-encoding": encoding})
    assert (answer.status, answer.code) == (415, "media.type.unsupported")
    await untouched(product)


@pytest.mark.attack(98)
@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/jsonp",
        "x",
        "",
        ";",
    ],
)
@pytest.mark.parametrize(("path", "field"), VERIFIES)
async def test_another_media_type_is_415(product: Product, path: str, field: str, media_type: str) -> None:
    answer = await send(product, path, f'{{"{field}":"x"}}'.encode(), {"content-type": media_type})
    assert (answer.status, answer.code) == (415, "media.type.unsupported")
    await untouched(product)


@pytest.mark.parametrize(("path", "field"), VERIFIES)
async def test_an_envelope_without_a_word_on_its_kind_is_told_what_to_send(
    product: Product, path: str, field: str
) -> None:
    jose = field in {"pin", "deviceFingerprint"}
    answer = await send(
        product, path, f'{{"{field}":"x"}}'.encode(), {"content-type": "application/jose+json"}
    )
    expected = (400, "request.malformed") if jose else (415, "media.type.unsupported")
    assert (answer.status, answer.code) == expected
    assert not jose or answer.json()["errors"][0]["path"] == "X-TW-JOSE-Method"
    await untouched(product)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "Application/JSON"},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": 'application/json;charset="UTF-8"'},
        {"content-type": "application/json", "content-encoding": "identity"},
    ],
)
async def test_json_is_taken_however_it_is_called(product: Product, headers: dict[str, str]) -> None:
    assert (await send(product, PIN_VERIFY, b'{"pin":"1234"}', headers)).status == 200


async def test_a_trigger_reads_no_meaning_into_its_body(product: Product) -> None:
    for body in (b"[" * 1000, b"\xff", b'{"otpCode":1}'):
        assert (
            await send(product, "/v1/one-time-token/sms/trigger", body, {"content-type": "x"})
        ).status == 200


async def test_ten_thousand_headers_change_nothing(product: Product) -> None:
    pairs = [("one-time-token", await product.ott()), *JSON.items()]
    pairs += [(f"x-{number}", "y") for number in range(10_000)]
    assert (await product.raw("POST", PIN_VERIFY, pairs, body=b'{"pin":"1234"}')).status == 200
