"""Changing one's own credentials, where that asks for a step-up."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire
from tests.wire.support import FACE, JWE, PIN, encryption_key, lock, refusal, seal

CONFIG = """
[enrolment]
step_up = "two-factors"
"""
NEW = "another-device"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = tmp_path_factory.mktemp("config") / "watchword.toml"
    config.write_text(CONFIG, encoding="utf-8")
    with Running("--config", config) as running:
        yield running


@pytest.fixture
def key(wire: Wire) -> rsa.RSAPublicKey:
    return encryption_key(wire)


@pytest.fixture
def person(wire: Wire) -> Person:
    """Have somebody with two factors."""
    return Person.make(wire, pin=PIN)


def change(person: Person, method: str, path: str, body: object = None, ott: str | None = None) -> Answer:
    return person.send(person.request(method, path.format(person.profile), ott=ott, body=body))


def cleared(person: Person, answer: Answer) -> str:
    """Clear what a change was refused with: both factors."""
    ott = answer.ott
    assert [challenge[0] for challenge in person.challenges(ott)] == ["PIN", "SMS"]
    person.clear_pin(ott, PIN)
    person.clear_code(ott)
    return ott


def approved(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert answer.header("x-2fa-approval-result") == "APPROVED"
    assert answer.header("x-2fa-approval") is None
    assert answer.header("cache-control") == "no-store"


CHANGES = [
    ("POST", "/v1/user/partner-device-fingerprints", {"deviceFingerprint": NEW}, 200),
    ("POST", "/v2/profiles/{}/device-fingerprints", {"deviceFingerprint": NEW}, 200),
    ("POST", "/2026Q3/profiles/{}/device-fingerprints", {"deviceFingerprint": NEW}, 200),
    ("POST", "/v1/user/facemap/enrol", {"faceMap": FACE}, 204),
    ("POST", "/v2/profiles/{}/facemaps", {"faceMap": FACE}, 204),
    ("DELETE", "/v2/profiles/{}/pin", None, 204),
    ("DELETE", "/2026Q3/profiles/{}/pin", None, 204),
]


@pytest.mark.attack(164)
@pytest.mark.parametrize(("method", "path", "body", "status"), CHANGES)
def test_a_change_is_refused_until_both_factors_are_shown(
    person: Person, method: str, path: str, body: object, status: int
) -> None:
    first = change(person, method, path, body)
    assert person.send(person.about("GET", "status", first.ott)).json()["oneTimeTokenProperties"][
        "actionType"
    ] == ("CREDENTIAL__CHANGE")
    half = change(person, method, path, body)
    person.clear_pin(half.ott, PIN)
    assert change(person, method, path, body, half.ott).ott != half.ott
    ott = cleared(person, first)
    approved(change(person, method, path, body, ott), status)
    again = change(person, method, path, body, ott)
    assert again.status in {403, 404, 409}
    assert again.header("x-2fa-approval-result") != "APPROVED"


@pytest.mark.attack(164)
def test_a_change_is_bound_to_what_it_says_and_not_to_how_it_was_encrypted(
    person: Person, key: rsa.RSAPublicKey
) -> None:
    path = "/v1/user/partner-device-fingerprints"

    def enrol(value: str, ott: str | None = None) -> Answer:
        body = seal(key, {"deviceFingerprint": value}).body
        return person.send(person.request("POST", path, ott=ott, headers=JWE, body=body))

    ott = cleared(person, enrol(NEW))
    approved(enrol(NEW, ott), 200)  # Another ciphertext, one meaning.
    ott = cleared(person, enrol("one"))
    assert enrol("another", ott).ott != ott
    assert enrol("one", ott).ott != ott  # It is void.
    ott = cleared(person, enrol("one"))
    body = {"deviceFingerprint": "one"}
    elsewhere = change(person, "POST", "/v2/profiles/{}/device-fingerprints", body, ott)
    assert elsewhere.ott != ott


@pytest.mark.attack(164)
def test_neither_a_session_nor_a_token_for_something_else_lets_a_change_through(
    wire: Wire, person: Person
) -> None:
    method, path, body, _ = CHANGES[0]
    ott = person.get(person.statement).ott
    person.clear_pin(ott, PIN)
    assert person.get(person.statement, ott=ott).status == 200
    assert person.get(person.statement).status == 200  # The session is open.
    assert change(person, method, path, body).status == 403
    payment = person.ready_payment(PIN)
    assert change(person, method, path, body, payment).ott != payment
    assert person.pay(ott=payment).status == 201  # It was not spent on that.
    other = Person.make(wire, pin=PIN)
    foreign = cleared(other, change(other, method, path, body))
    assert change(person, method, path, body, foreign).ott != foreign
    own = cleared(person, change(person, method, path, body))
    assert person.pay(ott=own).ott != own
    approved(change(person, method, path, body, own), 200)


@pytest.mark.attack(164)
@pytest.mark.attack(20)
def test_a_change_voids_open_tokens_and_ends_the_session(person: Person) -> None:
    method, path, body, _ = CHANGES[0]
    payment = person.ready_payment(PIN)
    assert person.get(person.statement).status == 200
    approved(change(person, method, path, body, cleared(person, change(person, method, path, body))), 200)
    assert person.status(payment).status == 404
    assert person.pay(ott=payment).ott != payment
    assert person.get(person.statement).status == 403


@pytest.mark.attack(164)
def test_what_cannot_be_added_is_refused_before_anybody_is_asked(person: Person) -> None:
    for method, path, body, expected in (
        ("POST", "/v2/profiles/{}/pin", {"pin": "8264"}, (409, "pin.already.setup")),
        ("DELETE", "/v2/profiles/{}/facemaps", None, (404, "facemap.not.setup")),
        ("DELETE", "/v2/profiles/{}/device-fingerprints/none", None, (404, "device.fingerprint.not.setup")),
        (
            "POST",
            "/v2/profiles/{}/device-fingerprints",
            {"deviceFingerprint": ""},
            (400, "request.malformed"),
        ),
    ):
        answer = change(person, method, path, body)
        assert (answer.status, refusal(answer)) == expected
        assert answer.header("x-2fa-approval") is None
    lock(person)
    method, path, body, _ = CHANGES[0]
    answer = change(person, method, path, body)
    assert (answer.status, answer.code) == (429, "sca.locked")
    assert answer.header("x-2fa-approval") is None


@pytest.mark.attack(164)
def test_an_application_changes_credentials_without_being_asked(person: Person, application: Person) -> None:
    deleted = application.send(application.request("DELETE", f"/v1/users/{person.user_id}/pin"))
    assert (deleted.status, deleted.header("x-2fa-approval-result")) == (204, None)


def test_the_first_credential_asks_for_nothing(wire: Wire) -> None:
    nobody = Person.make(wire, phoneNumber=None)
    assert change(nobody, "POST", "/v2/profiles/{}/pin", {"pin": PIN}).status == 200


@pytest.mark.attack(164)
def test_a_header_that_cannot_be_read_is_malformed_here_too(person: Person) -> None:
    method, path, body, _ = CHANGES[0]
    for ott in ("", "A" * 36, "00000000-0000-4000-8000-00000000000G"):
        answer = change(person, method, path, body, ott)
        assert (answer.status, answer.code) == (400, "ott.header.invalid")
