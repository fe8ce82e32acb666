"""Enrolment when many do it at once: what holds for one after the other holds for all together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire, volley
from tests.wire.support import FACE, OTHER_FACE, PIN, refusal
from tests.wire.test_table import key_body

RACERS = 32


@pytest.fixture
def wires(server: Running) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(server.address)) for _ in range(RACERS)]


def told(answers: Sequence[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status, refusal(answer)) for answer in answers)


def fingerprint(person: Person, value: str, *, ott: str | None = None) -> bytes:
    path = "/v1/user/partner-device-fingerprints"
    return person.request("POST", path, ott=ott, body={"deviceFingerprint": value})


def test_of_many_pins_at_once_one_is_enrolled(wire: Wire, wires: list[Wire]) -> None:
    person = Person.make(wire)
    pins = [f"{7000 + number}" for number in range(RACERS)]
    answers = volley(wires, [person.request("POST", "/v1/user/pin", body={"pin": pin}) for pin in pins])
    busy = told(answers).pop((503, "service.unavailable"), 0)
    assert told(answers)[204, ""] == 1
    assert told(answers)[409, "pin.already.setup"] == RACERS - 1 - busy
    (enrolled,) = (pin for pin, answer in zip(pins, answers, strict=True) if answer.status == 204)
    person.clear_pin(person.pay().ott, enrolled)


def test_of_many_fingerprints_at_once_three_are_enrolled(
    wire: Wire, wires: list[Wire], application: Person
) -> None:
    person = Person.make(wire)
    answers = volley(wires, [fingerprint(person, f"device {number}") for number in range(RACERS)])
    limit = (400, "device.fingerprint.limit.reached")
    assert told(answers) == {(200, ""): 3, limit: RACERS - 3}
    listed = application.get(f"/v1/users/{person.user_id}/partner-device-fingerprints").json()
    made = {answer.json()["deviceFingerprintId"] for answer in answers if answer.status == 200}
    assert {each["deviceFingerprintId"] for each in listed} == made


def test_of_one_fingerprint_many_times_at_once_one_is_enrolled(wire: Wire, wires: list[Wire]) -> None:
    person = Person.make(wire)
    answers = volley(wires, [fingerprint(person, "device")] * RACERS)
    assert told(answers) == {(200, ""): 1, (409, "device.fingerprint.repeated"): RACERS - 1}


def test_of_many_users_who_claim_one_number_at_once_one_gets_it(
    wire: Wire, wires: list[Wire], application: Person
) -> None:
    people = [Person.make(wire, phoneNumber=None) for _ in range(RACERS)]
    paths = [f"/v1/application/users/{person.user_id}/phone-numbers" for person in people]
    body = {"phoneNumber": "+447700900321"}
    answers = volley(wires, [application.request("POST", path, body=body) for path in paths])
    assert told(answers) == {(200, ""): 1, (422, "phone.number.repeated"): RACERS - 1}
    assert sum(len(application.get(path).json()) for path in paths) == 1


def test_of_many_numbers_for_one_user_at_once_one_is_enrolled(
    wire: Wire, wires: list[Wire], application: Person
) -> None:
    person = Person.make(wire, phoneNumber=None)
    path = f"/v1/application/users/{person.user_id}/phone-numbers"
    requests = [
        application.request("POST", path, body={"phoneNumber": f"+4477009004{number:02d}"})
        for number in range(RACERS)
    ]
    answers = volley(wires, requests)
    assert told(answers) == {(200, ""): 1, (422, "phone.number.limit.reached"): RACERS - 1}
    (phone,) = application.get(path).json()
    # The numbers that were not taken are nobody's.
    other = Person.make(wire, phoneNumber=None)
    free = next(f"+4477009004{n:02d}" for n in range(RACERS) if f"+4477009004{n:02d}" != phone["phoneNumber"])
    claimed = application.send(
        application.request(
            "POST", f"/v1/application/users/{other.user_id}/phone-numbers", body={"phoneNumber": free}
        )
    )
    assert claimed.status == 200


def test_of_many_deletions_at_once_one_deletes(wire: Wire, wires: list[Wire]) -> None:
    person = Person.make(wire, pin=PIN)
    answers = volley(wires, [person.request("DELETE", f"/v2/profiles/{person.profile}/pin")] * RACERS)
    assert told(answers) == {(204, ""): 1, (404, "pin.not.setup"): RACERS - 1}


def test_of_many_keys_uploaded_at_once_no_more_are_kept_than_are_allowed(
    wires: list[Wire], application: Person
) -> None:
    def upload(number: int) -> bytes:
        body = key_body(f"00000000-0000-4000-8000-{number:012d}")
        return application.request("POST", "/v1/auth/jose/request/public-keys", body=body)

    answers = volley(wires, [upload(number) for number in range(RACERS)])
    assert told(answers) == {(201, ""): 20, (400, "jose.key.limit.reached"): RACERS - 20}


@pytest.mark.attack(43)
def test_of_many_wrong_faces_at_once_five_are_compared(wire: Wire, wires: list[Wire]) -> None:
    person = Person.make(wire)
    enrolled = person.send(person.request("POST", "/v1/user/facemap/enrol", body={"faceMap": FACE}))
    assert enrolled.status == 204
    ott = person.pay().ott
    wrong = person.about("POST", "facemap/verify", ott, {"faceMap": OTHER_FACE})
    answers = volley(wires, [wrong] * RACERS)
    assert told(answers) == {(400, "facemap.incorrect"): 5, (429, "sca.locked"): RACERS - 5}
    right = person.send(person.about("POST", "facemap/verify", ott, {"faceMap": FACE}))
    assert (right.status, right.code) == (429, "sca.locked")


@pytest.mark.attack(25)
@pytest.mark.attack(164)
def test_of_many_changes_at_once_with_one_approval_one_is_made(tmp_path: Path) -> None:
    config = tmp_path / "watchword.toml"
    config.write_text('[enrolment]\nstep_up = "two-factors"\n[limits]\ndevice_fingerprints = 100\n', "utf-8")
    with Running("--config", config) as server, ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(RACERS)]
        person = Person.make(wires[0], pin=PIN)
        ott = person.send(fingerprint(person, "device")).ott
        person.clear_pin(ott, PIN)
        person.clear_code(ott)
        answers = volley(wires, [fingerprint(person, "device", ott=ott)] * RACERS)
        assert [answer.header("x-2fa-approval-result") for answer in answers].count("APPROVED") == 1
        assert sum(answer.status == 200 for answer in answers) == 1
        assert {answer.status for answer in answers} <= {200, 403, 409}
