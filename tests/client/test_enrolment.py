"""The calls that change credentials: what goes out, and what is made of the answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx2 as httpx
import pytest

from tests.client import fake_jose
from tests.client.fake import (
    APPLICATION,
    BEARER,
    FACE,
    FINGERPRINT,
    HOME,
    JOSE_HEADERS,
    KEYS,
    PIN,
    FakeServer,
    copy_of,
    key_answer,
    problem,
    redirect,
    sealed,
)
from watchword.client import (
    Auth,
    DeviceFingerprint,
    Enrolment,
    Jose,
    LockedError,
    PhoneNumber,
    PublicKey,
    RefusedError,
    ServerError,
    StaticResolver,
    perform,
    perform_async,
)
from watchword.client.exchange import Exchange

KEY = fake_jose.private_key()
DEVICE = {"deviceFingerprintId": "d-1", "createdAt": "2024-05-24T07:27:58.273205554Z"}
PHONE = {"id": 1230944, "phoneNumber": "+6588888888", "type": "PRIMARY", "verified": True, "clientId": None}
A_DEVICE = DeviceFingerprint(device_fingerprint_id="d-1", created_at="2024-05-24T07:27:58.273205554Z")
A_PHONE = PhoneNumber(id=1230944, phone_number="+6588888888")
PUBLIC_KEY = {"publicKeyId": "k-1", "createdAt": "2024-05-24T07:27:58.273205554Z", "sha256": "ab"}
A_PUBLIC_KEY = PublicKey(public_key_id="k-1", created_at="2024-05-24T07:27:58.273205554Z", sha256="ab")
PEM = "-----BEGIN PUBLIC KEY-----\n"

Perform = Callable[[Callable[[httpx.Request], httpx.Response], Exchange[Any]], Any]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Perform:
    options: dict[str, Any] = {"base_url": HOME, "headers": {"authorization": f"Bearer {BEARER}"}}

    def sync(server: Callable[[httpx.Request], httpx.Response], steps: Exchange[Any]) -> Any:
        with httpx.Client(transport=httpx.MockTransport(server), **options) as client:
            return perform(client, steps)

    def asynchronous(server: Callable[[httpx.Request], httpx.Response], steps: Exchange[Any]) -> Any:
        async def main() -> Any:
            async with httpx.AsyncClient(transport=httpx.MockTransport(server), **options) as client:
                return await perform_async(client, steps)

        return anyio.run(main)

    return sync if request.param == "sync" else asynchronous


def answering(
    answer: httpx.Response,
) -> tuple[list[httpx.Request], Callable[[httpx.Request], httpx.Response]]:
    seen: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return copy_of(answer)

    return seen, server


E = Enrolment()
NOTHING = httpx.Response(204)
FACE_BODY = {"faceMap": base64.b64encode(FACE).decode()}
CALLS: dict[str, tuple[Callable[[], Exchange[Any]], str, Any, httpx.Response, Any]] = {
    "PIN": (lambda: E.create_pin(PIN), "POST /v1/user/pin", {"pin": PIN}, NOTHING, None),
    "PIN of a profile": (
        lambda: E.create_pin(PIN, profile_id=7),
        "POST /v2/profiles/7/pin",
        {"pin": PIN},
        httpx.Response(200),
        None,
    ),
    "delete PIN": (lambda: E.delete_pin(user_id=5), "DELETE /v1/users/5/pin", None, NOTHING, None),
    "delete PIN of a profile": (
        lambda: E.delete_pin(profile_id=7),
        "DELETE /v2/profiles/7/pin",
        None,
        NOTHING,
        None,
    ),
    "device": (
        lambda: E.create_device_fingerprint(FINGERPRINT),
        "POST /v1/user/partner-device-fingerprints",
        {"deviceFingerprint": FINGERPRINT},
        httpx.Response(200, json=DEVICE),
        A_DEVICE,
    ),
    "device of a profile": (
        lambda: E.create_device_fingerprint(FINGERPRINT, profile_id=7),
        "POST /v2/profiles/7/device-fingerprints",
        {"deviceFingerprint": FINGERPRINT},
        httpx.Response(200, json=DEVICE | {"new": "member"}),
        A_DEVICE,
    ),
    "devices": (
        lambda: E.list_device_fingerprints(user_id=5),
        "GET /v1/users/5/partner-device-fingerprints",
        None,
        httpx.Response(200, json=[DEVICE]),
        (A_DEVICE,),
    ),
    "delete device": (
        lambda: E.delete_device_fingerprint("d-1", user_id=5),
        "DELETE /v1/users/5/partner-device-fingerprints/d-1",
        None,
        NOTHING,
        None,
    ),
    "delete device of a profile": (
        lambda: E.delete_device_fingerprint("a/b?c", profile_id=7),
        "DELETE /v2/profiles/7/device-fingerprints/a%2Fb%3Fc",
        None,
        NOTHING,
        None,
    ),
    "face map key": (
        E.face_map_key,
        "GET /v1/facetec/public-key",
        None,
        httpx.Response(200, text=PEM),
        PEM,
    ),
    "face map": (lambda: E.enrol_face_map(FACE), "POST /v1/user/facemap/enrol", FACE_BODY, NOTHING, None),
    "face map of a profile": (
        lambda: E.enrol_face_map(FACE_BODY["faceMap"], profile_id=7),
        "POST /v2/profiles/7/facemaps",
        FACE_BODY,
        NOTHING,
        None,
    ),
    "delete face map": (
        lambda: E.delete_face_map(user_id=5),
        "DELETE /v1/users/5/facemap/enrol",
        None,
        NOTHING,
        None,
    ),
    "delete face map of a profile": (
        lambda: E.delete_face_map(profile_id=7),
        "DELETE /v2/profiles/7/facemaps",
        None,
        NOTHING,
        None,
    ),
    "phones": (
        lambda: E.list_phone_numbers(user_id=5),
        "GET /v1/application/users/5/phone-numbers",
        None,
        httpx.Response(200, json=[PHONE]),
        (A_PHONE,),
    ),
    "phone": (
        lambda: E.create_phone_number("+6588888888", user_id=5),
        "POST /v1/application/users/5/phone-numbers",
        {"phoneNumber": "+6588888888"},
        httpx.Response(200, json=PHONE),
        A_PHONE,
    ),
    "update phone": (
        lambda: E.update_phone_number(1230944, "+6588888888", user_id=5),
        "PUT /v1/application/users/5/phone-numbers/1230944",
        {"phoneNumber": "+6588888888"},
        httpx.Response(200, json=PHONE),
        A_PHONE,
    ),
    "public keys": (
        lambda: E.list_public_keys(user_id=5),
        "GET /v1/application/users/5/public-keys",
        None,
        httpx.Response(200, json=[PUBLIC_KEY]),
        (A_PUBLIC_KEY,),
    ),
    "public key": (
        lambda: E.create_public_key(PEM, user_id=5),
        "POST /v1/application/users/5/public-keys",
        {"publicKey": PEM},
        httpx.Response(201, json=PUBLIC_KEY),
        A_PUBLIC_KEY,
    ),
    "delete public key": (
        lambda: E.delete_public_key("k-1", user_id=5),
        "DELETE /v1/application/users/5/public-keys/k-1",
        None,
        NOTHING,
        None,
    ),
    "delete phone": (
        lambda: E.delete_phone_number(1230944, user_id=5),
        "DELETE /v1/application/users/5/phone-numbers/1230944",
        None,
        NOTHING,
        None,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_goes_where_it_belongs_and_its_answer_is_read(run: Perform, name: str) -> None:
    steps, line, body, answer, result = CALLS[name]
    seen, server = answering(answer)
    assert run(server, steps()) == result
    assert [f"{request.method} {request.url.raw_path.decode()}" for request in seen] == [line]
    assert (json.loads(seen[0].content) if seen[0].content else None) == body
    assert seen[0].headers["authorization"] == f"Bearer {BEARER}"
    assert ("content-type" in seen[0].headers) == (body is not None)


@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_is_told_as_everywhere(run: Perform, name: str) -> None:
    steps = CALLS[name][0]
    _, conflict = answering(problem(409, "already.there"))
    with pytest.raises(RefusedError) as caught:
        run(conflict, steps())
    assert (caught.value.status, caught.value.reason) == (409, "already.there")
    _, locked = answering(problem(429, "sca.locked", retry_after="900"))
    with pytest.raises(LockedError):
        run(locked, steps())
    _, elsewhere = answering(redirect("https://elsewhere.example/"))
    with pytest.raises(ServerError):
        run(elsewhere, steps())


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call[4] not in {None, PEM}])
def test_an_answer_of_another_shape_is_a_fault_of_the_server(run: Perform, name: str) -> None:
    _, server = answering(httpx.Response(200, json={"id": []}))
    with pytest.raises(ServerError, match="cannot be read"):
        run(server, CALLS[name][0]())


@pytest.mark.parametrize("whose", [{}, {"profile_id": 7, "user_id": 5}])
def test_what_is_removed_belongs_to_a_profile_or_to_a_user(whose: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="either profile_id or user_id"):
        next(E.delete_pin(**whose))


def test_a_phone_number_does_not_show() -> None:
    assert "+6588888888" not in repr(A_PHONE)


# ------------------------------------------------------------------------------- encrypted


class SealedServer:
    """Takes encrypted secrets alone, and hands out its key."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.seen: list[httpx.Request] = []
        self.opened: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if request.url.path == KEYS:
            assert request.headers["authorization"] == f"Bearer {APPLICATION}"
            return httpx.Response(200, json=key_answer(KEY))
        assert request.headers["authorization"] == f"Bearer {BEARER}"
        if request.headers["content-type"] != "application/jose+json":
            return problem(415, "media.type.unsupported")
        assert request.headers.items() >= JOSE_HEADERS.items()
        unsealed = fake_jose.unseal(request.content, KEY)
        self.opened.append(json.loads(unsealed.payload))
        return sealed(copy_of(self.answer), unsealed.content_key if self.answer.content else None)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_secrets_are_encrypted_where_the_server_wants_it(run: Perform, mode: Any) -> None:
    enrolment = Enrolment(jose=Jose(mode, application_token=APPLICATION))
    server = SealedServer(httpx.Response(200, json=DEVICE))
    assert run(server, enrolment.create_device_fingerprint(FINGERPRINT)) == A_DEVICE
    server.answer = NOTHING
    assert run(server, enrolment.create_pin(PIN, profile_id=7)) is None
    assert server.opened == [{"deviceFingerprint": FINGERPRINT}, {"pin": PIN}]
    assert [request.url.path for request in server.seen].count(KEYS) == 1
    assert len(server.seen) == (4 if mode == "auto" else 3)


def test_an_encrypted_refusal_is_read(run: Perform) -> None:
    enrolment = Enrolment(jose=Jose("required", server_key=fake_jose.public_pem(KEY)))
    with pytest.raises(RefusedError, match=r"pin\.there"):
        run(SealedServer(problem(409, "pin.there")), enrolment.create_pin(PIN))


def test_the_applications_token_is_not_replaced_by_the_clients_own_auth() -> None:
    server = SealedServer(NOTHING)
    enrolment = Enrolment(jose=Jose("required", application_token=APPLICATION))
    auth = Auth(StaticResolver(), token=BEARER)
    with httpx.Client(auth=auth, base_url=HOME, transport=httpx.MockTransport(server)) as client:
        perform(client, enrolment.create_pin(PIN))
    assert server.opened == [{"pin": PIN}]


def test_a_change_that_asks_for_a_step_up_is_repeated_as_it_was_sealed() -> None:
    server = FakeServer([["PARTNER_DEVICE_FINGERPRINT"]])
    enrolment = Enrolment(jose=Jose("required", server_key=fake_jose.public_pem(KEY)))
    auth = Auth(StaticResolver(device_fingerprint=FINGERPRINT), token=BEARER)

    def lenient(request: httpx.Request) -> httpx.Response:
        answer = server(request)
        return httpx.Response(204, headers=answer.headers) if answer.status_code == 201 else answer

    with httpx.Client(auth=auth, base_url=HOME, transport=httpx.MockTransport(lenient)) as client:
        perform(client, enrolment.create_pin(PIN))
    assert server.exchanges[0].body == server.exchanges[-1].body
    assert len(server.executions) == 1
