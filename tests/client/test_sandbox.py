"""The client against the real product, in a process of its own and over a real connection."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.client import fake_jose
from tests.system.processes import Running
from watchword.client import (
    Auth,
    DeclinedError,
    Enrolment,
    Jose,
    RefusedError,
    RequestsAuth,
    StaticResolver,
    call,
    jose,
    perform,
)
from watchword.client.encoding import STATUS_PATH

ADA, GRACE, APPLICATION = "demo-ada", "demo-grace", "demo-application"
ADA_PAYS = "/v3/profiles/435036/transfers/16521632/payments"
ADA_DEVICE = "3207da22-a0d3-4b6b-a591-6297e646fe32"
GRACE_READS = "/v1/profiles/435037/balance-statements/200001/statement.json"
GRACE_PAYS = "/v3/profiles/435037/transfers/16521632/payments"
FACE = b"the face of Grace, as a camera exports it"
MODES = ("sync", "async", "requests")

Send = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.fixture
def origin(server: Running) -> str:
    httpx.post(f"{server.origin}/sandbox/reset").raise_for_status()
    return server.origin


@pytest.fixture(params=MODES)
def send(request: pytest.FixtureRequest, origin: str) -> Send:
    """Return what makes one request, by any of the libraries."""

    def sync(method: str, path: str, **how: Any) -> tuple[int, dict[str, str]]:
        with httpx.Client(auth=Auth(**how), base_url=origin) as client:
            answer = client.request(method, path, json={"type": "BALANCE"} if method == "POST" else None)
            return answer.status_code, dict(answer.headers)

    async def wait(method: str, path: str, **how: Any) -> tuple[int, dict[str, str]]:
        async with httpx.AsyncClient(auth=Auth(**how), base_url=origin) as client:
            answer = await client.request(
                method, path, json={"type": "BALANCE"} if method == "POST" else None
            )
            return answer.status_code, dict(answer.headers)

    def of_requests(method: str, path: str, **how: Any) -> tuple[int, dict[str, str]]:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = RequestsAuth(**how)
            body = {"type": "BALANCE"} if method == "POST" else None
            answer = session.request(method, f"{origin}{path}", json=body, timeout=30)
            return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}

    def asynchronous(method: str, path: str, **how: Any) -> tuple[int, dict[str, str]]:
        return asyncio.run(wait(method, path, **how))

    return {"sync": sync, "async": asynchronous, "requests": of_requests}[request.param]


@dataclass(frozen=True)
class Sandbox:
    """The control API, and credentials changed as the public one has it."""

    origin: str

    def payments(self) -> int:
        """Return how many payments were really made."""
        made: int = httpx.get(f"{self.origin}/sandbox/executions").json()["TRANSFER__FUND"]
        return made

    def make(self, **user: Any) -> int:
        made = httpx.post(f"{self.origin}/sandbox/users", json=user)
        profile: int = made.raise_for_status().json()["profileIds"][0]
        return profile

    def enrol(self, token: str, *steps: Any, auth: Any = None) -> list[Any]:
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self.origin, headers=headers, auth=auth) as client:
            return [perform(client, each) for each in steps]


@pytest.fixture
def sandbox(origin: str) -> Sandbox:
    return Sandbox(origin)


def approved(answer: tuple[int, dict[str, str]], status: int = 201) -> bool:
    return answer[0] == status and answer[1]["x-2fa-approval-result"] == "APPROVED"


# ------------------------------------------------------------------------------- encrypted


@pytest.mark.parametrize("binds", [False, True])
def test_a_pin_that_is_encrypted_clears_a_payment(send: Send, sandbox: Sandbox, binds: bool) -> None:
    encrypted = Jose("required", application_token=APPLICATION, binds=binds)
    resolver = StaticResolver(pin="1234", otp_code="111111")
    assert approved(send("POST", ADA_PAYS, resolver=resolver, token=ADA, jose=encrypted))
    assert sandbox.payments() == 1


def test_a_device_fingerprint_that_is_encrypted_clears_a_payment(send: Send) -> None:
    encrypted = Jose("required", application_token=APPLICATION)
    resolver = StaticResolver(pin="1234", device_fingerprint=ADA_DEVICE)
    assert approved(send("POST", ADA_PAYS, resolver=resolver, token=ADA, jose=encrypted))


def test_a_key_given_in_pem_does_as_well(send: Send, origin: str) -> None:
    published = httpx.get(
        f"{origin}/v1/auth/jose/response/public-keys",
        params={"algorithm": "RSA_OAEP_256", "scope": "PAYLOAD_ENCRYPTION"},
        headers={"authorization": f"Bearer {APPLICATION}"},
    )
    loaded = load_der_public_key(base64.b64decode(published.json()["keyMaterial"]["keyMaterial"]))
    pem = loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    resolver = StaticResolver(pin="1234", otp_code="111111")
    encrypted = Jose("required", server_key=pem)
    assert approved(send("POST", ADA_PAYS, resolver=resolver, token=ADA, jose=encrypted))


def test_a_wrong_pin_that_is_encrypted_is_a_wrong_pin(send: Send, sandbox: Sandbox) -> None:
    encrypted = Jose("required", application_token=APPLICATION)
    with pytest.raises(DeclinedError, match=r"pin\.incorrect"):
        send("POST", ADA_PAYS, resolver=StaticResolver(pin="9999"), token=ADA, jose=encrypted)
    assert sandbox.payments() == 0


def test_a_pin_encrypted_to_another_key_is_refused(send: Send) -> None:
    encrypted = Jose("required", server_key=fake_jose.public_pem(fake_jose.private_key()))
    with pytest.raises(RefusedError) as caught:
        send("POST", ADA_PAYS, resolver=StaticResolver(pin="1234"), token=ADA, jose=encrypted)
    assert (caught.value.status, caught.value.reason) == (400, "jwe_error")


@pytest.mark.attack(112)
def test_a_pin_that_is_bound_to_one_token_does_not_clear_another(origin: str) -> None:
    encrypted = Jose("required", application_token=APPLICATION, binds=True)
    bodies: list[bytes] = []

    def remember(request: httpx.Request) -> None:
        if request.url.path.endswith("pin/verify"):
            bodies.append(request.content)

    auth = Auth(StaticResolver(pin="1234", otp_code="111111"), token=ADA, jose=encrypted)
    with (
        httpx.Client(auth=auth, base_url=origin, event_hooks={"request": [remember]}) as client,
        httpx.Client(base_url=origin, headers={"authorization": f"Bearer {ADA}"}) as thief,
    ):
        refused = thief.post(ADA_PAYS)
        client.post(ADA_PAYS)
        replayed = thief.post(
            "/v1/one-time-token/pin/verify",
            content=bodies[0],
            headers={
                "one-time-token": refused.headers["x-2fa-approval"],
                "content-type": "application/jose+json",
                "accept": "application/jose+json",
                "x-tw-jose-method": "jwe",
            },
        )
    assert replayed.status_code == 400
    assert replayed.json()["error"] == "jwe_error"


@pytest.mark.attack(112)
def test_a_pin_that_says_when_it_was_encrypted_grows_old(send: Send, sandbox: Sandbox) -> None:
    advanced = httpx.post(f"{sandbox.origin}/sandbox/clock", json={"advanceSeconds": 660})
    advanced.raise_for_status()
    encrypted = Jose("required", application_token=APPLICATION, binds=True)
    resolver = StaticResolver(pin="1234", otp_code="111111")
    with pytest.raises(RefusedError, match="jwe_error"):
        send("POST", ADA_PAYS, resolver=resolver, token=ADA, jose=encrypted)
    assert sandbox.payments() == 0


# ------------------------------------------------------------------------------- signed


@pytest.mark.parametrize("resolver", [None, StaticResolver()], ids=["alone", "with a resolver"])
def test_a_key_of_ones_own_clears_a_payment(
    send: Send, sandbox: Sandbox, resolver: StaticResolver | None
) -> None:
    key = fake_jose.private_key()
    profile = sandbox.make(token="robot", publicKeys=[fake_jose.public_pem(key).decode()])
    path = f"/v3/profiles/{profile}/transfers/1/payments"
    assert approved(send("POST", path, resolver=resolver, token="robot", signing_key=key))
    assert sandbox.payments() == 1


def test_somebody_elses_key_clears_nothing_and_is_tried_once(send: Send, sandbox: Sandbox) -> None:
    profile = sandbox.make(token="robot", publicKeys=[fake_jose.public_pem(fake_jose.private_key()).decode()])
    path = f"/v3/profiles/{profile}/transfers/1/payments"
    with pytest.raises(RefusedError) as caught:
        send("POST", path, token="robot", signing_key=fake_jose.private_key(1))
    assert caught.value.reason == "signature.incorrect"
    assert sandbox.payments() == 0


def test_an_enrolled_key_signs_until_it_is_removed(sandbox: Sandbox) -> None:
    key, other = fake_jose.private_key(), fake_jose.private_key(1)
    profile = sandbox.make(token="robot", publicKeys=[fake_jose.public_pem(other).decode()], userId=424242)
    enrolment = Enrolment()
    (added,) = sandbox.enrol(
        APPLICATION, enrolment.create_public_key(fake_jose.public_pem(key).decode(), user_id=424242)
    )
    (listed,) = sandbox.enrol(APPLICATION, enrolment.list_public_keys(user_id=424242))
    assert added in listed
    auth = Auth(signing_key=key, token="robot")
    with httpx.Client(auth=auth, base_url=sandbox.origin) as client:
        assert client.post(f"/v3/profiles/{profile}/transfers/1/payments").status_code == 201
        sandbox.enrol(APPLICATION, enrolment.delete_public_key(added.public_key_id, user_id=424242))
        with pytest.raises(RefusedError, match=r"signature\.incorrect"):
            client.post(f"/v3/profiles/{profile}/transfers/1/payments")


# ------------------------------------------------------------------------------- faces


def test_a_face_clears_a_statement(send: Send, sandbox: Sandbox) -> None:
    sandbox.enrol(GRACE, Enrolment().enrol_face_map(FACE, profile_id=435037))
    assert approved(send("GET", GRACE_READS, resolver=StaticResolver(face_map=FACE), token=GRACE), 200)


def test_another_face_does_not(send: Send, sandbox: Sandbox) -> None:
    sandbox.enrol(GRACE, Enrolment().enrol_face_map(FACE))
    other = StaticResolver(face_map=FACE + b" with a beard")
    with pytest.raises(DeclinedError, match=r"facemap\.incorrect"):
        send("GET", GRACE_READS, resolver=other, token=GRACE)


# ------------------------------------------------------------------------------- enrolment


@pytest.mark.parametrize(
    "encrypted",
    [None, Jose("auto"), Jose("required", application_token=APPLICATION)],
    ids=["plain", "auto", "encrypted"],
)
@pytest.mark.parametrize("profile", [{}, {"profile_id": 435037}], ids=["of a user", "of a profile"])
def test_what_was_enrolled_clears_a_payment(
    sandbox: Sandbox, encrypted: Jose | None, profile: dict[str, int]
) -> None:
    enrolment = Enrolment(jose=encrypted)
    sandbox.enrol(
        GRACE,
        enrolment.create_pin("2580", **profile),
        enrolment.create_device_fingerprint("a laptop", **profile),
    )
    auth = Auth(StaticResolver(pin="2580", device_fingerprint="a laptop"), token=GRACE)
    with httpx.Client(auth=auth, base_url=sandbox.origin) as client:
        assert client.post(GRACE_PAYS).status_code == 201


def refusals(sandbox: Sandbox, token: str, steps: Sequence[Any]) -> list[int]:
    found = []
    for each in steps:
        with pytest.raises(RefusedError) as caught:
            sandbox.enrol(token, each)
        found.append(caught.value.status)
    return found


def test_what_is_there_is_not_enrolled_twice_and_what_is_gone_not_removed_twice(sandbox: Sandbox) -> None:
    enrolment = Enrolment()
    profile = {"profile_id": 435037}
    _, device, _ = sandbox.enrol(
        GRACE,
        enrolment.create_pin("2580"),
        enrolment.create_device_fingerprint("a laptop"),
        enrolment.enrol_face_map(FACE),
    )
    again = [
        enrolment.create_pin("2581"),
        enrolment.create_device_fingerprint("a laptop"),
        enrolment.enrol_face_map(FACE),
    ]
    assert refusals(sandbox, GRACE, again) == [409, 409, 409]
    sandbox.enrol(
        GRACE,
        enrolment.delete_pin(**profile),
        enrolment.delete_device_fingerprint(device.device_fingerprint_id, **profile),
        enrolment.delete_face_map(**profile),
    )
    gone = [
        enrolment.delete_pin(**profile),
        enrolment.delete_device_fingerprint(device.device_fingerprint_id, **profile),
        enrolment.delete_face_map(**profile),
    ]
    assert refusals(sandbox, GRACE, gone) == [404, 404, 404]


def test_an_application_manages_its_users(sandbox: Sandbox) -> None:
    enrolment = Enrolment()
    sandbox.enrol(GRACE, enrolment.create_pin("2580"), enrolment.enrol_face_map(FACE))
    (device,) = sandbox.enrol(GRACE, enrolment.create_device_fingerprint("a laptop"))
    (devices,), (phone,) = sandbox.enrol(
        APPLICATION,
        enrolment.list_device_fingerprints(user_id=6146957),
        enrolment.list_phone_numbers(user_id=6146957),
    )
    assert devices == device
    assert phone.phone_number == "+447700900123"
    (changed,) = sandbox.enrol(
        APPLICATION, enrolment.update_phone_number(phone.id, "+447700900124", user_id=6146957)
    )
    assert changed.phone_number == "+447700900124"
    sandbox.enrol(
        APPLICATION,
        enrolment.delete_phone_number(changed.id, user_id=6146957),
        enrolment.delete_pin(user_id=6146957),
        enrolment.delete_face_map(user_id=6146957),
        enrolment.delete_device_fingerprint(device.device_fingerprint_id, user_id=6146957),
    )
    made, none = sandbox.enrol(
        APPLICATION,
        enrolment.create_phone_number("+447700900125", user_id=6146957),
        enrolment.list_device_fingerprints(user_id=6146957),
    )
    assert made.verified
    assert none == ()


def test_a_camera_gets_the_key_for_its_face_maps(sandbox: Sandbox) -> None:
    (pem,) = sandbox.enrol(GRACE, Enrolment().face_map_key())
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")


# ------------------------------------------------------------------------------- the playground


def upload(origin: str, key: Any, algorithm: str, scope: str) -> str:
    name = str(uuid.uuid4())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    material = {"algorithm": algorithm, "keyMaterial": base64.b64encode(spki).decode()}
    body = {
        "keyId": name,
        "scope": scope,
        "validFrom": "2023-04-27 00:00:00",
        "validTill": "2099-04-01 00:00:00",
        "publicKeyMaterial": material,
    }
    made = httpx.post(
        f"{origin}/v1/auth/jose/request/public-keys",
        json=body,
        headers={"authorization": f"Bearer {APPLICATION}"},
    )
    assert made.status_code == 201, made.text
    return name


def published(origin: str, algorithm: str, scope: str) -> bytes:
    answer = httpx.get(
        f"{origin}/v1/auth/jose/response/public-keys",
        params={"algorithm": algorithm, "scope": scope},
        headers={"authorization": f"Bearer {APPLICATION}"},
    )
    return base64.b64decode(answer.raise_for_status().json()["keyMaterial"]["keyMaterial"])


def play(origin: str, path: str, method: str, body: bytes) -> bytes:
    headers = {
        "authorization": f"Bearer {APPLICATION}",
        "accept": "application/jose+json",
        "content-type": "application/jose+json",
        "x-tw-jose-method": method,
    }
    answer = httpx.post(f"{origin}{path}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/jose+json")
    return answer.content


MESSAGE = b'{"message":"hello"}'
PLAYED = {"message": "jose-playground-response-hello", "method": "POST"}
PLAYGROUND = "/v1/auth/jose/playground"


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512"])
def test_a_signed_request_gets_a_signed_answer(origin: str, algorithm: str) -> None:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    curve = curves.get(algorithm)
    key: Any = fake_jose.private_key() if curve is None else ec.generate_private_key(curve)
    name = upload(origin, key, algorithm, "PAYLOAD_SIGNING")
    path = f"{PLAYGROUND}/jws"
    wanted = algorithm if curve is None else None
    signed = jose.sign(MESSAGE, key, url=path, key_id=name, algorithm=wanted)
    answer = play(origin, path, "jws", signed)
    theirs = load_der_public_key(published(origin, algorithm, "PAYLOAD_SIGNING"))
    assert isinstance(theirs, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey))
    assert json.loads(jose.verify(answer, theirs, algorithm=wanted)) == PLAYED


def test_an_encrypted_request_gets_an_answer_to_the_key_that_was_uploaded(origin: str) -> None:
    ours = fake_jose.private_key()
    upload(origin, ours, "RSA_OAEP_256", "PAYLOAD_ENCRYPTION")
    key = jose.server_key(published(origin, "RSA_OAEP_256", "PAYLOAD_ENCRYPTION"))
    answer = play(origin, f"{PLAYGROUND}/jwe", "jwe", jose.seal(MESSAGE, key).compact)
    assert json.loads(jose.open_normal(answer, ours)) == PLAYED


def test_a_message_is_encrypted_both_ways_under_one_key(origin: str) -> None:
    key = jose.server_key(published(origin, "RSA_OAEP_256", "PAYLOAD_ENCRYPTION"))
    sealed = jose.seal(MESSAGE, key)
    answer = play(origin, f"{PLAYGROUND}/jwe-direct-encryption", "jwe", sealed.compact)
    assert json.loads(jose.open_direct(answer, sealed.content_key)) == PLAYED


def test_a_message_is_signed_then_encrypted_both_ways(origin: str) -> None:
    ours, signer = fake_jose.private_key(), ec.generate_private_key(ec.SECP256R1())
    upload(origin, ours, "RSA_OAEP_256", "PAYLOAD_ENCRYPTION")
    upload(origin, signer, "ES256", "PAYLOAD_SIGNING")
    key = jose.server_key(published(origin, "RSA_OAEP_256", "PAYLOAD_ENCRYPTION"))
    path = f"{PLAYGROUND}/jwsjwe"
    answer = play(origin, path, "jws+jwe", jose.seal(jose.sign(MESSAGE, signer, url=path), key).compact)
    theirs = load_der_public_key(published(origin, "ES256", "PAYLOAD_SIGNING"))
    assert isinstance(theirs, ec.EllipticCurvePublicKey)
    assert json.loads(jose.verify(jose.open_normal(answer, ours), theirs)) == PLAYED


# ------------------------------------------------------------------------------- from a shell


def test_a_shell_signs_and_encrypts(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = fake_jose.private_key()
    (tmp_path / "robot.pem").write_bytes(fake_jose.private_pem(key))
    profile = sandbox.make(token="robot", publicKeys=[fake_jose.public_pem(key).decode()])
    url = f"{sandbox.origin}/v3/profiles/{profile}/transfers/1/payments"
    assert call.call(url, method="POST", token="robot", sign=str(tmp_path / "robot.pem")) == 0
    assert (
        call.call(
            f"{sandbox.origin}{ADA_PAYS}",
            method="POST",
            token=ADA,
            jose="required",
            application_token=APPLICATION,
            resolver=StaticResolver(pin="1234", otp_code="111111"),
        )
        == 0
    )
    assert capsys.readouterr().out.count('"status":"COMPLETED"') == 2


def test_a_token_of_somebody_who_signs_says_so(sandbox: Sandbox) -> None:
    key = fake_jose.private_key()
    profile = sandbox.make(token="robot", publicKeys=[fake_jose.public_pem(key).decode()])
    headers = {"authorization": "Bearer robot"}
    with httpx.Client(base_url=sandbox.origin, headers=headers) as client:
        refused = client.post(f"/v3/profiles/{profile}/transfers/1/payments")
        status = client.get(STATUS_PATH, headers={"one-time-token": refused.headers["x-2fa-approval"]})
    challenges = status.json()["oneTimeTokenProperties"]["challenges"]
    assert [challenge["primaryChallenge"]["type"] for challenge in challenges] == ["SIGNATURE"]
