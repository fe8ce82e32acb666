"""
The table of the wire: every call of the protocol in every generation, with the statuses that were seen.

What a server in a process of its own answers is written down, call after call: what succeeds, and
what is refused as documented. The page `docs/reference/wire-table.md` is made of it, and a test
fails when the page says anything else.
"""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.app import call
from tests.factories import ADA, enrolled_fingerprint, enrolled_pin, make_world
from tests.jose import oracle
from tests.system.processes import Running
from tests.system.wire import Address, Answer, Person, Wire
from tests.wire.places import LEGACY, PLACES, VERSION, Place
from tests.wire.support import (
    FACE,
    FINGERPRINT,
    JOSE,
    JWE,
    OTHER_FACE,
    PIN,
    UNKNOWN_OTT,
    WRONG_PIN,
    Sealed,
    application,
    encryption_key,
    lock,
    once,
    pem,
    refusal,
    seal,
)
from watchword.auth.static import StaticTokens
from watchword.domain.application import ApplicationId
from watchword.engine.principal import Principal, PrincipalKind
from watchword.server.app import api
from watchword.server.settings import ApplicationSettings, Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "wire-table.md"
BODY_MAX, FACE_MAX = 64 * 1024, 4 * 1024 * 1024
UUID = "7b8f4d52-3f7e-4b5e-9d2f-5d9d6f1b2a10"
_numbers = count(1)
# Faster than a real server, and there is none whose applications may not manage users.
PRINCIPALS = {
    "U": Principal(kind=PrincipalKind.USER, user_id=ADA, profile_ids=frozenset({435036})),
    "P": Principal(kind=PrincipalKind.PERSONAL, user_id=ADA, profile_ids=frozenset({435036})),
    "C": Principal(kind=PrincipalKind.APPLICATION, application="caller"),
    "M": Principal(kind=PrincipalKind.APPLICATION, application="manager"),
}

Seen = Mapping[int, frozenset[str]]


@cache
def key(number: int) -> rsa.RSAPrivateKey:
    """Make a key once; *number* tells one from another."""
    assert number < 6
    return rsa.generate_private_key(65537, 2048)


@cache
def signing_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP521R1())


class Scene:
    """A place, and who plays there; keeps what was seen."""

    def __init__(self, place: Place, wire: Wire, address: Address) -> None:
        self.place = place
        self.wire = wire
        self.address = address
        self.application = application(wire)
        self.user = Person.make(wire)
        self.seen: dict[int, set[str]] = defaultdict(set)

    @cached_property
    def server_key(self) -> rsa.RSAPublicKey:
        """The key to encrypt to, which the server makes when it is first asked for."""
        return encryption_key(self.wire)

    @property
    def first(self) -> bool:
        """Whether it is the first generation, which has statuses of its own."""
        return self.place.generation == LEGACY

    @property
    def actor(self) -> Person:
        return self.application if self.place.by_an_application else self.user

    def path(self, user: Person | None = None, **parameters: object) -> str:
        about = user or self.user
        given = {
            "version": VERSION,
            "profileId": about.profile,
            "userId": about.user_id,
            "deviceFingerprintId": UUID,
            "phoneNumberId": 1,
            "publicKeyId": UUID,
            "keyId": UUID,
        }
        return self.place.path.format_map(given | parameters)

    def note(self, answer: Answer) -> Answer:
        assert re.fullmatch("[0-9a-f]{32}", answer.header("x-trace-id") or ""), answer
        if answer.status == 429:
            assert int(answer.header("retry-after") or "") > 0
            assert answer.header("x-rate-limited-by")
        self.seen[answer.status].add(refusal(answer))
        return answer

    def call(
        self,
        body: object = None,
        *,
        as_: Person | None = None,
        about: Person | None = None,
        ott: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        method: str = "",
        alone: bool = False,
        **parameters: object,
    ) -> Answer:
        """Call the place; by its usual caller about himself, unless told otherwise."""
        given = dict(headers or {})
        if ott is not None:
            given["One-Time-Token"] = ott
        caller = as_ or self.actor
        target = self.path(about or (caller if caller is not self.application else None), **parameters)
        method = method or self.place.method
        if alone:
            return self.note(once(self.address, caller, method, target + query, headers=given, body=body))
        return self.note(caller.send(caller.request(method, target + query, headers=given, body=body)))

    def must(self, status: int, *arguments: Any, code: str = "", **options: Any) -> Answer:
        """Call the place, which has to answer just that."""
        answer = self.call(*arguments, **options)
        assert (answer.status, refusal(answer)) == (status, code), (self.place.name, answer)
        return answer

    def sealed(self, body: object) -> Sealed:
        return seal(self.server_key, body)


# --- what each kind of place is told -----------------------------------------------------------------


def refusals(scene: Scene) -> None:
    """Everything that holds everywhere: who calls, how, about whom."""
    place = scene.place
    nobody = Person(scene.wire, "nobody-s-token", 0, scene.user.profile)
    scene.must(401, as_=nobody, code="invalid_token")
    other = scene.user if place.by_an_application else scene.application
    scene.must(403, as_=other, about=scene.user, code="principal.not.allowed")
    scene.must(405, method="PATCH", code="method.not.allowed")
    if place.under_a_profile:
        scene.must(403, profileId=435036, code="profile.not.allowed")
    if "{userId}" in place.path:
        scene.must(404, userId="9" * 17, code="not.found")
    if place.takes_ott:
        for wrong in ({}, {"One-Time-Token": UNKNOWN_OTT.upper() + "A"}, {"One-Time-Token": ""}):
            scene.must(400, headers=wrong, code="ott.header.invalid")


def no_such_token(scene: Scene, body: object) -> None:
    """Unknown, another's, spent: one answer, to the byte."""
    stranger = Person.make(scene.wire)
    answers = [
        scene.must(404, body, ott=ott, code="ott.not.found")
        for ott in (UNKNOWN_OTT, stranger.get(stranger.statement).ott)
    ]
    assert len({answer.body for answer in answers}) == 1


def malformed(scene: Scene, right: dict[str, Any], *, ott: str | None = None, limit: int = BODY_MAX) -> None:
    """Bodies that cannot be read, each in its way."""
    as_json = {"Content-Type": "application/json"}
    member = next(iter(right))
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        json.dumps(right | {"unknown": 1}).encode(),
        json.dumps(right)[:-1].encode() + b"," + json.dumps(right)[1:].encode(),
        json.dumps({member: 1}).encode(),
        json.dumps({member: None}).encode(),
        b"[" * 50_000,
    ):
        scene.must(400, body, ott=ott, headers=as_json, code="request.malformed")
    text = json.dumps(right).encode()
    for headers in ({"Content-Type": "text/plain"}, as_json | {"Content-Encoding": "gzip"}):
        scene.must(415, text, ott=ott, headers=headers, code="media.type.unsupported")
    over = text + b" " * (limit + 1 - len(text))
    scene.must(413, over, ott=ott, headers=as_json, alone=True, code="request.too.large")


def unopened(scene: Scene, right: object, *, ott: str | None = None) -> None:
    """Envelopes that do not open."""
    sealed = scene.sealed(right).body
    for body in (
        b"",
        b"{}",
        json.dumps(right).encode(),
        sealed[:-1],
        sealed + b"A",
        sealed.replace(b".", b"", 1),
    ):
        scene.must(400, body, ott=ott, headers=JWE, code="jwe_error")
    scene.must(400, sealed, ott=ott, headers=JOSE, code="request.malformed")
    scene.must(400, sealed, ott=ott, headers=JOSE | {"X-TW-JOSE-Method": "jwt"}, code="request.malformed")
    scene.must(400, sealed, ott=ott, headers=JOSE | {"X-TW-JOSE-Method": "jws"}, code="jws_error")
    scene.must(413, b"." * (BODY_MAX + 1), ott=ott, headers=JWE, alone=True, code="request.too.large")


def verified(scene: Scene, answer: Any, *, left: list[str]) -> None:
    """Hold what a verification says to its generation."""
    if scene.place.under_a_profile:
        assert answer.keys() == {"oneTimeToken", "challenges", "validity"}, answer
        assert [
            each["primaryChallenge"]["type"] for each in answer["challenges"] if not each["passed"]
        ] == left
        assert all(each.keys() == {"primaryChallenge", "passed"} for each in answer["challenges"])
    else:
        properties = answer["oneTimeTokenProperties"]
        open_ = [each for each in properties["challenges"] if not each["passed"]]
        assert [each["primaryChallenge"]["type"] for each in open_] == left
        if scene.first:
            assert open_ == properties["challenges"]


def status(scene: Scene) -> None:
    ott = scene.user.get(scene.user.statement).ott
    answer = scene.must(200, ott=ott).json()["oneTimeTokenProperties"]
    assert (
        answer["challenges"][0]["primaryChallenge"]["viewData"]["attributes"]["userId"] == scene.user.user_id
    )
    assert answer.keys() == {"oneTimeToken", "challenges", "validity", "actionType", "userId"}
    assert (type(answer["validity"]), type(answer["userId"])) == (int, int)
    no_such_token(scene, None)


METHOD_OF = {
    "pin.incorrect": "PIN",
    "device.fingerprint.incorrect": "PARTNER_DEVICE_FINGERPRINT",
    "facemap.incorrect": "FACE_MAP",
}


def _verify(scene: Scene, person: Person, right: dict[str, Any], wrong: dict[str, Any], code: str) -> None:
    """Tell what PIN, fingerprint and face map have in common."""
    ott = person.pay().ott
    challenges = person.challenges(ott)
    must = scene.must(400, wrong, as_=person, ott=ott, code=code)
    assert must.json()["errors"][0]["arguments"] == [4]
    left = scene.must(200, right, as_=person, ott=ott).json()
    method = METHOD_OF[code]
    verified(scene, left, left=[each[0] for each in challenges if method not in each])
    scene.must(400, right, as_=person, ott=ott, code="challenge.not.offered")
    no_such_token(scene, right)


def _without(scene: Scene, right: dict[str, Any], *, code: str) -> None:
    without = Person.make(scene.wire)
    ott = without.get(without.statement).ott
    if scene.first or code == "facemap.not.setup":
        scene.must(400, right, as_=without, ott=ott, code="challenge.not.offered")
    else:
        scene.must(404, right, as_=without, ott=ott, code=code)


def verify_pin(scene: Scene) -> None:
    person = Person.make(scene.wire, pin=PIN)
    _verify(scene, person, {"pin": PIN}, {"pin": WRONG_PIN}, "pin.incorrect")
    ott = person.pay().ott
    malformed(scene, {"pin": PIN}, ott=ott)
    unopened(scene, {"pin": PIN}, ott=ott)
    sealed = scene.sealed({"pin": PIN})
    verified(scene, sealed.read(scene.must(200, sealed.body, as_=person, ott=ott, headers=JWE)), left=["SMS"])
    _without(scene, {"pin": PIN}, code="pin.not.setup")
    ott = person.pay().ott
    lock(person)
    if scene.first:
        scene.must(429, {"pin": PIN}, as_=person, ott=ott, code="sca.locked")
    else:
        blocked = scene.must(400, {"pin": PIN}, as_=person, ott=ott, code="pin.blocked")
        assert int(blocked.header("retry-after") or "") > 0


def verify_fingerprint(scene: Scene) -> None:
    right = {"deviceFingerprint": FINGERPRINT}
    person = Person.make(scene.wire, pin=PIN, phoneNumber=None, deviceFingerprints=[FINGERPRINT])
    _verify(scene, person, right, {"deviceFingerprint": UUID}, "device.fingerprint.incorrect")
    ott = person.pay().ott
    malformed(scene, right, ott=ott)
    unopened(scene, right, ott=ott)
    sealed = scene.sealed(right)
    sealed.read(scene.must(200, sealed.body, as_=person, ott=ott, headers=JWE))
    _without(scene, right, code="device.fingerprint.not.setup")
    _locked(scene, right)


def verify_face(scene: Scene) -> None:
    right, wrong = {"faceMap": FACE}, {"faceMap": OTHER_FACE}
    person = Person.make(scene.wire)
    enrolled = person.send(person.request("POST", "/v1/user/facemap/enrol", body=right))
    assert enrolled.status == 204
    _verify(scene, person, right, wrong, "facemap.incorrect")
    malformed(scene, right, ott=person.pay().ott, limit=FACE_MAX)
    _without(scene, right, code="facemap.not.setup")
    _locked(scene, right)


def _locked(scene: Scene, body: object) -> None:
    person = Person.make(scene.wire)
    ott = person.get(person.statement).ott
    lock(person)
    answer = scene.must(429, body, as_=person, ott=ott, code="sca.locked")
    assert answer.header("x-2fa-approval-result") == "REJECTED"
    assert answer.header("x-2fa-approval") is None


def trigger_code(scene: Scene) -> None:
    ott = scene.user.get(scene.user.statement).ott
    answer = scene.must(200, b"", ott=ott)
    assert re.fullmatch(r"\*{9}[0-9]{4}", answer.json()["obfuscatedPhoneNo"])
    scene.must(429, ott=ott, code="otp.resend.too.soon")
    no_such_token(scene, None)
    person = Person.make(scene.wire, phoneNumber=None, pin=PIN)
    scene.must(400, as_=person, ott=person.get(person.statement).ott, code="challenge.not.offered")
    scene.must(413, b" " * (BODY_MAX + 1), ott=ott, alone=True, code="request.too.large")
    _locked(scene, None)


def verify_code(scene: Scene) -> None:
    channel = scene.place.path.split("/")[-2]
    right = {"otpCode": "111111"}
    ott = scene.user.get(scene.user.statement).ott
    scene.must(400, right, ott=ott, code="otp.not.triggered")
    scene.user.trigger(ott, channel)
    scene.must(400, {"otpCode": "000000"}, ott=ott, code="otp.incorrect")
    malformed(scene, right, ott=ott)
    verified(scene, scene.must(200, right, ott=ott).json(), left=[])
    scene.must(400, right, ott=ott, code="challenge.not.offered")
    no_such_token(scene, right)
    _locked(scene, right)


def _new(**enrolled: object) -> Callable[[Scene], Person]:
    return lambda scene: Person.make(scene.wire, **enrolled)


def create_pin(scene: Scene) -> None:
    ok = 204 if scene.first else 200
    assert scene.must(ok, {"pin": PIN}).body == b""
    scene.must(409, {"pin": PIN}, code="pin.already.setup")
    sealed = scene.sealed({"pin": PIN})
    assert scene.must(ok, sealed.body, as_=Person.make(scene.wire), headers=JWE).body == b""
    person = Person.make(scene.wire)
    malformed(scene, {"pin": PIN})
    unopened(scene, {"pin": PIN})
    for pin in ("", "123", "12345", "12a4", "١٢٣٤", " 123", "1234\n"):
        scene.must(400, {"pin": pin}, as_=person, code="request.malformed")
    lock(person)
    scene.must(429, {"pin": PIN}, as_=person, code="sca.locked")


def _delete(scene: Scene, person: Person, code: str, **parameters: Any) -> None:
    by: dict[str, Any] = {"about": person} if scene.place.by_an_application else {"as_": person}
    assert scene.must(204, **by, **parameters).body == b""
    scene.must(404, code=code, **by, **parameters)
    scene.must(
        404, code=code, **(by | {"about": Person.make(scene.wire)} if scene.place.by_an_application else by)
    )


def _delete_while_locked(scene: Scene, person: Person, **parameters: Any) -> None:
    lock(person)
    if scene.place.by_an_application:
        scene.must(204, about=person, **parameters)
    else:
        scene.must(429, as_=person, code="sca.locked", **parameters)


def delete_pin(scene: Scene) -> None:
    _delete(scene, Person.make(scene.wire, pin=PIN), "pin.not.setup")
    _delete_while_locked(scene, Person.make(scene.wire, pin=PIN))


def _fingerprints(scene: Scene, *values: str) -> tuple[Person, list[str]]:
    person = Person.make(scene.wire)
    created = [
        person.send(
            person.request("POST", "/v1/user/partner-device-fingerprints", body={"deviceFingerprint": value})
        )
        for value in values
    ]
    return person, [answer.json()["deviceFingerprintId"] for answer in created]


def create_fingerprint(scene: Scene) -> None:
    made = scene.must(200, {"deviceFingerprint": "first"}).json()
    assert made.keys() == {"deviceFingerprintId", "createdAt"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", made["createdAt"])
    scene.must(409, {"deviceFingerprint": "first"}, code="device.fingerprint.repeated")
    sealed = scene.sealed({"deviceFingerprint": "second"})
    assert sealed.read(scene.must(200, sealed.body, headers=JWE)).keys() == made.keys()
    malformed(scene, {"deviceFingerprint": "fourth"})
    unopened(scene, {"deviceFingerprint": "fourth"})
    scene.must(200, {"deviceFingerprint": "third"})
    scene.must(400, {"deviceFingerprint": "fourth"}, code="device.fingerprint.limit.reached")
    for value in ("", "x" * 1025):
        scene.must(400, {"deviceFingerprint": value}, code="request.malformed")
    person = Person.make(scene.wire)
    lock(person)
    scene.must(429, {"deviceFingerprint": "first"}, as_=person, code="sca.locked")


def list_fingerprints(scene: Scene) -> None:
    person, ids = _fingerprints(scene, "one", "two")
    listed = scene.must(200, about=person).json()
    assert [each["deviceFingerprintId"] for each in listed] == ids
    assert all(each.keys() == {"deviceFingerprintId", "createdAt"} for each in listed)
    scene.must(404, userId=987654, code="user.not.found")


def delete_fingerprint(scene: Scene) -> None:
    person, ids = _fingerprints(scene, "one", "two")
    _delete(scene, person, "device.fingerprint.not.setup", deviceFingerprintId=ids[0])
    other, _ = _fingerprints(scene, "one")
    by: dict[str, Any] = {"about": other} if scene.place.by_an_application else {"as_": other}
    scene.must(404, deviceFingerprintId=ids[1], code="device.fingerprint.not.setup", **by)
    _delete_while_locked(scene, person, deviceFingerprintId=ids[1])


def enrol_face(scene: Scene) -> None:
    assert scene.must(204, {"faceMap": FACE}).body == b""
    scene.must(409, {"faceMap": FACE}, code="facemap.already.setup")
    person = Person.make(scene.wire)
    unusable = base64.b64encode(b"unusable picture of nobody").decode()
    scene.must(400, {"faceMap": unusable}, as_=person, code="facemap.unusable")
    for text in ("", "%%%%", "Zg", "Zg==\n"):
        scene.must(400, {"faceMap": text}, as_=person, code="request.malformed")
    malformed(scene, {"faceMap": FACE}, limit=FACE_MAX)
    lock(person)
    scene.must(429, {"faceMap": FACE}, as_=person, code="sca.locked")


def _with_face(scene: Scene) -> Person:
    person = Person.make(scene.wire)
    body = {"faceMap": FACE}
    assert person.send(person.request("POST", "/v1/user/facemap/enrol", body=body)).status == 204
    return person


def delete_face(scene: Scene) -> None:
    _delete(scene, _with_face(scene), "facemap.not.setup")
    _delete_while_locked(scene, _with_face(scene))


def face_key(scene: Scene) -> None:
    answer = scene.must(200)
    assert (answer.header("content-type") or "").startswith("text/plain")
    assert answer.body.startswith(b"-----BEGIN PUBLIC KEY-----\n")


def _number() -> str:
    return f"+4478001{next(_numbers):05d}"


def _phone(scene: Scene, person: Person, number: str) -> Answer:
    path = f"/v1/application/users/{person.user_id}/phone-numbers"
    return scene.application.send(scene.application.request("POST", path, body={"phoneNumber": number}))


def list_phones(scene: Scene) -> None:
    person, number = Person.make(scene.wire, phoneNumber=None), _number()
    assert scene.must(200, about=person).json() == []
    made = _phone(scene, person, number).json()
    assert scene.must(200, about=person).json() == [made]
    assert scene.must(200, userId=987654).json() == []


def create_phone(scene: Scene) -> None:
    person, number = Person.make(scene.wire, phoneNumber=None), _number()
    made = scene.must(200, {"phoneNumber": number}, about=person).json()
    assert made == {
        "id": made["id"],
        "phoneNumber": number,
        "type": "PRIMARY",
        "verified": True,
        "clientId": "demo-application",
    }
    assert type(made["id"]) is int
    assert 0 < made["id"] < 2**53
    scene.must(422, {"phoneNumber": _number()}, about=person, code="phone.number.limit.reached")
    other = Person.make(scene.wire, phoneNumber=None)
    scene.must(422, {"phoneNumber": number}, about=other, code="phone.number.repeated")
    for text in ("", "+", "12345678", "+1", "+999999999999", "+44 " + "9" * 60, "+٤٤7700900123", "+0"):
        scene.must(422, {"phoneNumber": text}, about=other, code="phone.number.invalid")
    malformed(scene, {"phoneNumber": _number()})


def update_phone(scene: Scene) -> None:
    person, other = (Person.make(scene.wire, phoneNumber=None) for _ in range(2))
    taken, number = _number(), _number()
    made = _phone(scene, person, _number()).json()
    _phone(scene, other, taken)
    changed = scene.must(200, {"phoneNumber": number}, about=person, phoneNumberId=made["id"]).json()
    assert changed == made | {"phoneNumber": number}
    at = {"about": person, "phoneNumberId": made["id"]}
    scene.must(422, {"phoneNumber": taken}, code="phone.number.repeated", **at)
    scene.must(422, {"phoneNumber": "+1"}, code="phone.number.invalid", **at)
    scene.must(404, {"phoneNumber": number}, code="phone.number.not.found", **(at | {"about": other}))
    scene.must(404, {"phoneNumber": number}, code="phone.number.not.found", **(at | {"phoneNumberId": "1e3"}))
    malformed(scene, {"phoneNumber": number})


def delete_phone(scene: Scene) -> None:
    person = Person.make(scene.wire, phoneNumber=None)
    made = _phone(scene, person, _number()).json()
    _delete(scene, person, "phone.number.not.found", phoneNumberId=made["id"])
    locked = Person.make(scene.wire)
    path = f"/v1/application/users/{locked.user_id}/phone-numbers"
    listed = scene.application.get(path).json()
    _delete_while_locked(scene, locked, phoneNumberId=listed[0]["id"])


def session(scene: Scene) -> None:
    answer = scene.must(200).json()["oneTimeTokenProperties"]
    assert answer.keys() == {"oneTimeToken", "challenges", "validity"}
    assert answer["challenges"] == [{"primaryChallenge": {"type": "SMS"}, "passed": False}]
    scene.must(413, b" " * (BODY_MAX + 1), alone=True, code="request.too.large")
    nothing = Person.make(scene.wire, phoneNumber=None)
    scene.must(403, as_=nothing, code="sca.enrolment.required")
    lock(scene.user)
    scene.must(429, code="sca.locked")


# --- JOSE --------------------------------------------------------------------------------------------


def response_key(scene: Scene) -> None:
    for algorithm in ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512"):
        made = scene.must(200, query=f"?algorithm={algorithm}&scope=PAYLOAD_SIGNING").json()
        assert made.keys() == {"keyId", "version", "keyMaterial", "scope"}
        assert made["keyMaterial"]["algorithm"] == algorithm
    encryption = "?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION"
    assert scene.must(200, query=f"{encryption}&version=1").json()["version"] == 1
    for query in ("", "?algorithm=ES512", "?scope=PAYLOAD_SIGNING", "?algorithm=none&scope=PAYLOAD_SIGNING"):
        scene.must(400, query=query, code="request.malformed")
    for version in ("", "-1", "1e3", "%D9%A1", "9" * 5000):
        scene.must(400, query=f"{encryption}&version={version}", code="request.malformed")
    for query in (f"{encryption}&version=2", "?algorithm=ES512&scope=PAYLOAD_ENCRYPTION"):
        scene.must(404, query=query, code="jose.key.not.found")


def key_body(key_id: str, *, signing: bool = True, **changed: object) -> dict[str, Any]:
    public = signing_key().public_key() if signing else key(0).public_key()
    return {
        "keyId": key_id,
        "scope": "PAYLOAD_SIGNING" if signing else "PAYLOAD_ENCRYPTION",
        "validFrom": "2023-04-27 00:00:00",
        "validTill": "2099-04-01 00:00:00",
        "publicKeyMaterial": {
            "algorithm": "ES512" if signing else "RSA_OAEP_256",
            "keyMaterial": base64.b64encode(oracle.spki(public)).decode(),
        },
    } | changed


def request_key(scene: Scene) -> None:
    body = key_body(UUID)
    made = scene.must(201, body).json()
    assert made == body | {"clientId": None, "deactivationTimestamp": None}
    scene.must(201, body)
    scene.must(409, key_body(UUID, signing=False), code="jose.key.repeated")
    material = body["publicKeyMaterial"]
    for changed in (
        {"keyId": "1"},
        {"scope": "PAYLOAD_ENCRYPTION"},
        {"validTill": "2023-04-27 00:00:00"},
        {"validFrom": "yesterday"},
        {"publicKeyMaterial": material | {"algorithm": "ES256"}},
        {"publicKeyMaterial": material | {"algorithm": "HS256"}},
        {"publicKeyMaterial": material | {"keyMaterial": "AAAA"}},
    ):
        scene.must(400, body | changed, code="jose.key.invalid")
    malformed(scene, body)
    bodies = (key_body(f"00000000-0000-4000-8000-{number:012d}") for number in range(30))
    refused = next(answer for answer in map(scene.call, bodies) if answer.status != 201)
    assert (refused.status, refusal(refused)) == (400, "jose.key.limit.reached")


def _upload_both(scene: Scene) -> None:
    for number, signing in enumerate((True, False), start=1):
        body = key_body(f"00000000-0000-4000-8000-00000000000{number}", signing=signing)
        answer = scene.application.send(
            scene.application.request("POST", "/v1/auth/jose/request/public-keys", body=body)
        )
        assert answer.status == 201, answer


METHODS = {"jws": "jws", "jwe": "jwe", "jwe-direct-encryption": "jwe", "jwsjwe": "jws+jwe"}


def play(scene: Scene) -> None:
    name = scene.place.path.rpartition("/")[2]
    method = METHODS[name]
    headers = JOSE | {"X-TW-JOSE-Method": method}
    message = {"message": "hello"}
    expected = {"message": "jose-playground-response-hello", "method": "POST"}
    text = oracle.to_json(message)

    def signed(url: str | None = None) -> bytes:
        return oracle.jws(text, signing_key(), {"alg": "ES512", "typ": "JWT", "url": url or scene.path()})

    if name == "jwe":
        scene.must(400, scene.sealed(message).body, headers=headers, code="jose.key.not.found")
    _upload_both(scene)
    match name:
        case "jws":
            answer = scene.must(200, signed(), headers=headers)
            assert json.loads(oracle.verify_jws(answer.body, _published(scene))) == expected
            scene.must(400, signed("/v1/elsewhere"), headers=headers, code="jws_error")
        case "jwe":
            answer = scene.must(200, scene.sealed(message).body, headers=headers)
            assert json.loads(oracle.open_jwe(answer.body, key(0))) == expected
        case "jwe-direct-encryption":
            sealed = scene.sealed(message)
            assert sealed.read(scene.must(200, sealed.body, headers=headers)) == expected
        case _:
            body = oracle.jwe(signed(), scene.server_key)
            answer = scene.must(200, body, headers=headers)
            inner = oracle.open_jwe(answer.body, key(0))
            assert json.loads(oracle.verify_jws(inner, _published(scene))) == expected
            scene.must(400, oracle.jwe(signed("/x"), scene.server_key), headers=headers, code="jws_error")
            scene.must(400, scene.sealed(message).body, headers=headers, code="jws_error")
    wrong = "jws_error" if method == "jws" else "jwe_error"
    scene.must(400, b"a.b.c", headers=headers, code=wrong)
    scene.must(400, text, headers=headers, code=wrong)
    scene.must(415, text, headers={"Content-Type": "application/json"}, code="media.type.unsupported")
    scene.must(413, b"." * (BODY_MAX + 1), headers=headers, alone=True, code="request.too.large")
    if method == "jwe":
        unfit: tuple[object, ...] = ({"message": "x" * 101}, {"message": 1}, {"text": ""}, [])
        for each in unfit:
            scene.must(400, scene.sealed(each).body, headers=headers, code="request.malformed")


def _published(scene: Scene) -> oracle.Public:
    path = "/v1/auth/jose/response/public-keys?algorithm=ES512&scope=PAYLOAD_SIGNING"
    made = scene.application.get(path).json()["keyMaterial"]["keyMaterial"]
    loaded = load_der_public_key(base64.b64decode(made))
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    return loaded


def play_get(scene: Scene) -> None:
    headers = {"Accept": "application/jose+json", "X-TW-JOSE-Method": "jwe"}
    scene.must(400, headers=headers, code="jose.key.not.found")
    _upload_both(scene)
    answer = scene.must(200, headers=headers)
    expected = {"message": "jose-playground-response-", "method": "GET"}
    assert json.loads(oracle.open_jwe(answer.body, key(0))) == expected
    scene.must(415, code="media.type.unsupported")


# --- ours --------------------------------------------------------------------------------------------


def list_keys(scene: Scene) -> None:
    person = Person.make(scene.wire, phoneNumber=None, publicKeys=[pem(key(0))])
    (listed,) = scene.must(200, about=person).json()
    assert listed.keys() == {"publicKeyId", "createdAt", "sha256"}
    assert scene.must(200, userId=987654).json() == []


def create_key(scene: Scene) -> None:
    scene.must(201, {"publicKey": pem(key(0))})
    scene.must(409, {"publicKey": pem(key(0))}, code="public.key.repeated")
    scene.must(400, {"publicKey": "no key"}, code="public.key.invalid")
    for number in range(1, 5):
        scene.must(201, {"publicKey": pem(key(number))})
    scene.must(400, {"publicKey": pem(key(5))}, code="public.key.limit.reached")
    malformed(scene, {"publicKey": pem(key(0))})


def delete_key(scene: Scene) -> None:
    person = Person.make(scene.wire, phoneNumber=None, publicKeys=[pem(key(0))])
    listed = scene.application.get(f"/v1/application/users/{person.user_id}/public-keys").json()
    _delete(scene, person, "public.key.not.found", publicKeyId=listed[0]["publicKeyId"])


def revoke_key(scene: Scene) -> None:
    _upload_both(scene)
    uploaded = "00000000-0000-4000-8000-000000000001"
    scene.must(204, keyId=uploaded)
    scene.must(404, keyId=uploaded, code="jose.key.not.found")


STORIES: Mapping[str, Callable[[Scene], None]] = {
    story.__name__: story
    for story in (
        status,
        verify_pin,
        verify_fingerprint,
        verify_face,
        trigger_code,
        verify_code,
        create_pin,
        delete_pin,
        create_fingerprint,
        list_fingerprints,
        delete_fingerprint,
        enrol_face,
        delete_face,
        face_key,
        list_phones,
        create_phone,
        update_phone,
        delete_phone,
        session,
        response_key,
        request_key,
        play,
        play_get,
        list_keys,
        create_key,
        delete_key,
        revoke_key,
    )
}


# --- the tests ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen() -> dict[Place, Seen]:
    """Collect what the places answered, for the page."""
    return {}


@pytest.fixture(scope="module")
def described(server: Running) -> Mapping[str, Any]:
    with Wire(server.address) as wire:
        document: Mapping[str, Any] = wire.call("GET", "/openapi.json").json()
        return document


def visit(server: Running, place: Place) -> Seen:
    """Tell the story of a place to a sandbox at its start."""
    with Wire(server.address) as wire:
        wire.control("POST", "/sandbox/reset")
        scene = Scene(place, wire, server.address)
        refusals(scene)
        STORIES[place.story](scene)
        return {status: frozenset(codes) for status, codes in sorted(scene.seen.items())}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_call_answers_as_documented(
    server: Running, described: Mapping[str, Any], place: Place, seen: dict[Place, Seen]
) -> None:
    if place not in seen:  # The page may have come first.
        seen[place] = visit(server, place)
    answered = seen[place]
    assert place.documented <= answered.keys()
    assert max(answered) < 500
    told = described["paths"][place.path][place.method.lower()]["responses"]
    # 405 is of the path, not of this operation.
    assert {str(status) for status in answered.keys() - {405}} <= told.keys()


def test_every_call_that_the_server_has_is_in_the_inventory(described: Mapping[str, Any]) -> None:
    assert {place.name for place in PLACES} == {
        f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods
    }


async def served(place: Place) -> tuple[str, dict[str, int]]:
    """Call a place as everybody; return who was served, and how often each record was written."""
    world = make_world()
    await world.enrol(ADA, enrolled_pin(), enrolled_fingerprint())
    settings = Settings(applications={"manager": ApplicationSettings(manages_users=True)})
    app = api(world.engine, StaticTokens(PRINCIPALS), settings=settings)
    given = {
        "version": VERSION,
        "profileId": 435036,
        "userId": ADA,
        "deviceFingerprintId": UUID,
        "phoneNumberId": 1,
        "publicKeyId": UUID,
        "keyId": UUID,
    }
    target = place.path.format_map(given)
    by = ""
    versions: dict[str, int] = {}
    # Those who must not come first: what they are refused must have done nothing.
    for name in sorted(["", *PRINCIPALS], key=lambda each: each != "" and each in place.by):
        headers = [("one-time-token", UNKNOWN_OTT), ("content-type", "application/json")]
        if name:
            headers.append(("authorization", f"Bearer {name}"))
        answer = await call(app, place.method, target, headers, body=b"{}")
        if not name:
            assert answer.status == 401, place.name
        elif answer.status != 403 or answer.code != "principal.not.allowed":
            by += name
        else:
            user = await world.engine.store.user(ADA)
            assert user is not None
            application = await world.engine.store.application(ApplicationId("caller"))
            versions[name] = user.version + (0 if application is None else application.version)
    return by, versions


@pytest.mark.attack(163)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_call_is_served_to_those_in_the_inventory_and_to_nobody_else(place: Place) -> None:
    by, versions = await served(place)
    assert sorted(by) == sorted(place.by)
    assert set(versions.values()) <= {1}


# --- the page ----------------------------------------------------------------------------------------

HEAD = """\
# The wire, as it was seen

Every call of the public one time token protocol, in each generation that has it, and what a running server
answered. A test made this page: it starts `watchword sandbox`, calls each of these paths the right way and
the documented wrong ways, and fails when the page says anything else. After a change that is meant, write it
anew:

```sh
make test ARGS="tests/wire/test_table.py --write-table"
```

`{version}` is a calendar version, such as `2026Q3`. **Who**: `U` a user's access token, `P` a personal token
of his programs, `C` an application's (client credentials), `M` one of an application that may manage users.
Everybody else is answered 401 or 403. Codes: [errors](errors.md); bodies: [HTTP API](http-api.md).

| call | generation | path | who | statuses |
|---|---|---|---|---|
"""
CODES = """
## With their codes

Statuses as above, each with the codes that were seen. `invalid_token`, `jwe_error` and `jws_error` stand in
the shape `{"error": …, "error_description": …}`, all others in `{"errors": [{"code": …}]}`.

| path | statuses and codes |
|---|---|
"""


def page(seen: Mapping[Place, Seen]) -> str:
    """Write the page down."""
    lines: list[str] = []
    codes: list[str] = []
    for place in PLACES:
        statuses = " ".join(str(status) for status in seen[place])
        who = " ".join(place.by)
        lines.append(f"| {place.call} | {place.generation} | `{place.name}` | {who} | {statuses} |")
        told = "; ".join(
            " ".join([str(status), ", ".join(f"`{code}`" for code in sorted(found) if code)]).strip()
            for status, found in seen[place].items()
        )
        codes.append(f"| `{place.name}` | {told} |")
    return HEAD + "\n".join(lines) + "\n" + CODES + "\n".join(codes) + "\n"


def test_the_page_says_what_was_seen(
    server: Running, seen: dict[Place, Seen], pytestconfig: pytest.Config
) -> None:
    for place in PLACES:
        if place not in seen:  # Tests run in any order, and alone.
            seen[place] = visit(server, place)
    written = page(seen)
    if pytestconfig.getoption("--write-table", default=False):
        PAGE.write_text(written, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, (
        'the page is out of date: make test ARGS="tests/wire/test_table.py --write-table"'
    )
