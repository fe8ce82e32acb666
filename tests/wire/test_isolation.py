"""What is another's, and what nobody has, look the same; and neither is touched."""

import re
from typing import Any

import pytest

from tests.system.wire import Answer, Person, Wire
from tests.wire.places import PLACES, VERSION, Place
from tests.wire.support import FACE, FINGERPRINT, PIN, UNKNOWN_OTT

NOBODYS = 987_654_321
BODIES: dict[str, Any] = {
    "pin": {"pin": PIN},
    "device-fingerprints": {"deviceFingerprint": FINGERPRINT},
    "partner-device-fingerprint": {"deviceFingerprint": FINGERPRINT},
    "facemaps": {"faceMap": FACE},
    "facemap": {"faceMap": FACE},
    "sms": {"otpCode": "111111"},
    "whatsapp": {"otpCode": "111111"},
    "voice": {"otpCode": "111111"},
}


def body_of(place: Place) -> object:
    """Return what a right call says; what is refused must not be refused for its body."""
    if place.method != "POST" or place.path.endswith(("trigger", "authorise")):
        return None
    return next(body for name, body in BODIES.items() if f"/{name}/" in f"{place.path}/")


def same(one: Answer, other: Answer) -> bool:
    """Tell whether two answers are one, but for what names the request."""

    def told(answer: Answer) -> object:
        headers = [pair for pair in answer.headers if pair[0] not in {"x-trace-id", "date"}]
        return answer.status, headers, re.sub(rb"[0-9]{6,}", b"", answer.body)

    return told(one) == told(other)


@pytest.fixture
def victim(wire: Wire) -> Person:
    person = Person.make(wire, pin=PIN, deviceFingerprints=[FINGERPRINT])
    enrolled = person.send(person.request("POST", "/v1/user/facemap/enrol", body={"faceMap": FACE}))
    assert enrolled.status == 204
    return person


def passes_everything(person: Person) -> bool:
    """Tell whether somebody's credentials are what they were."""
    ott = person.pay().ott
    person.clear_pin(ott, PIN)
    person.clear_code(ott)
    assert person.pay(ott=ott).status == 201
    for path, body in (
        ("partner-device-fingerprint/verify", {"deviceFingerprint": FINGERPRINT}),
        ("facemap/verify", {"faceMap": FACE}),
    ):
        answer = person.send(person.about("POST", path, person.pay().ott, body))
        assert answer.status == 200, answer
    return True


PROFILES = [place for place in PLACES if place.under_a_profile]
OTTS = [place for place in PLACES if place.takes_ott]


@pytest.mark.attack(160)
@pytest.mark.parametrize("place", PROFILES, ids=lambda place: place.name)
def test_anothers_profile_is_as_nobodys(wire: Wire, victim: Person, place: Place) -> None:
    thief = Person.make(wire, pin=PIN)
    victims_ott = victim.pay().ott
    answers = []
    for profile in (victim.profile, NOBODYS, 0, "x", f"0{thief.profile}", f"{thief.profile}%20"):
        path = place.path.format(version=VERSION, profileId=profile, deviceFingerprintId=UNKNOWN_OTT)
        headers = {"One-Time-Token": victims_ott}
        answers.append(thief.send(thief.request(place.method, path, headers=headers, body=body_of(place))))
    assert (answers[0].status, answers[0].code) == (403, "profile.not.allowed")
    assert answers[0].header("x-2fa-approval-result") is None
    assert all(same(answers[0], answer) for answer in answers[1:])
    assert passes_everything(victim)


@pytest.mark.attack(160)
@pytest.mark.attack(74)
@pytest.mark.parametrize("place", OTTS, ids=lambda place: place.name)
def test_anothers_token_is_as_nobodys(wire: Wire, victim: Person, place: Place) -> None:
    thief = Person.make(wire, pin=PIN, deviceFingerprints=[FINGERPRINT])
    enrolled = thief.send(thief.request("POST", "/v1/user/facemap/enrol", body={"faceMap": FACE}))
    assert enrolled.status == 204
    victims_ott = victim.pay().ott
    path = place.path.format(version=VERSION, profileId=thief.profile)
    answers = [
        thief.send(thief.request(place.method, path, headers={"One-Time-Token": ott}, body=body_of(place)))
        for ott in (victims_ott, UNKNOWN_OTT)
    ]
    assert (answers[0].status, answers[0].code) == (404, "ott.not.found")
    assert same(*answers)
    assert [challenge[0] for challenge in victim.challenges(victims_ott)] == ["PIN", "SMS"]
    assert wire.control("GET", f"/sandbox/outbox?userId={victim.user_id}") == []


@pytest.mark.attack(160)
def test_anothers_credential_is_as_nobodys(wire: Wire, victim: Person, application: Person) -> None:
    thief = Person.make(wire, phoneNumber=None)
    users = "/v1/users/{}/partner-device-fingerprints"
    phones = "/v1/application/users/{}/phone-numbers"
    listed = application.get(users.format(victim.user_id)).json()
    phone = application.get(phones.format(victim.user_id)).json()[0]
    stolen, none = listed[0]["deviceFingerprintId"], UNKNOWN_OTT
    own = f"/v2/profiles/{thief.profile}/device-fingerprints/"
    pairs = [
        [thief.send(thief.request("DELETE", own + each)) for each in (stolen, none)],
        [
            application.send(application.request("DELETE", f"{users.format(thief.user_id)}/{each}"))
            for each in (stolen, none)
        ],
        [
            application.send(application.request("DELETE", f"{phones.format(thief.user_id)}/{each}"))
            for each in (phone["id"], 1)
        ],
        [
            application.send(
                application.request(
                    "PUT", f"{phones.format(thief.user_id)}/{each}", body={"phoneNumber": "+447700900555"}
                )
            )
            for each in (phone["id"], 1)
        ],
    ]
    for pair in pairs:
        assert pair[0].status == 404
        assert same(*pair)
    assert application.get(phones.format(victim.user_id)).json() == [phone]
    assert passes_everything(victim)


@pytest.mark.attack(160)
def test_a_number_that_is_taken_tells_nothing_of_whose_it_is(
    wire: Wire, victim: Person, application: Person
) -> None:
    number = application.get(f"/v1/application/users/{victim.user_id}/phone-numbers").json()[0]["phoneNumber"]
    thief = Person.make(wire, phoneNumber=None)
    path = f"/v1/application/users/{thief.user_id}/phone-numbers"
    for spelling in (number, f"{number[:3]} {number[3:]}", f"{number[:3]}(0){number[3:]}"):
        answer = application.send(application.request("POST", path, body={"phoneNumber": spelling}))
        assert (answer.status, answer.code) == (422, "phone.number.repeated"), spelling
        text = answer.body.decode()
        assert str(victim.user_id) not in text
        assert number[-4:] not in text
