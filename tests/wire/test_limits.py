"""How large a body may be: the last byte that fits, and the first that does not."""

import base64
import json

import pytest

from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire
from tests.wire.support import JWE, PIN, encryption_key, once, seal

BODY_MAX, FACE_MAX = 64 * 1024, 4 * 1024 * 1024
JSON = {"Content-Type": "application/json"}


def padded(body: object, size: int) -> bytes:
    """Write a body down in so many bytes."""
    text = json.dumps(body).encode()
    return text + b" " * (size - len(text))


@pytest.mark.attack(91)
@pytest.mark.parametrize(
    ("path", "body", "limit", "taken"),
    [
        ("/v1/user/pin", {"pin": PIN}, BODY_MAX, 204),
        ("/v1/user/partner-device-fingerprints", {"deviceFingerprint": "d"}, BODY_MAX, 200),
        ("/v1/user/facemap/enrol", {"faceMap": base64.b64encode(bytes(16)).decode()}, FACE_MAX, 204),
    ],
)
def test_the_last_byte_that_fits_is_taken_and_one_more_is_not(
    server: Running, wire: Wire, path: str, body: object, limit: int, taken: int
) -> None:
    person = Person.make(wire)

    def send(size: int) -> Answer:
        return once(server.address, person, "POST", path, headers=JSON, body=padded(body, size))

    over = send(limit + 1)
    assert (over.status, over.code) == (413, "request.too.large")
    assert send(limit).status == taken


@pytest.mark.attack(91)
def test_a_face_map_may_fill_its_body(wire: Wire) -> None:
    face = base64.b64encode(bytes(FACE_MAX * 3 // 4 - 30)).decode()
    body = {"faceMap": face}
    assert FACE_MAX - 100 < len(json.dumps(body)) <= FACE_MAX
    person = Person.make(wire)
    for path in ("/v1/user/facemap/enrol",):
        assert person.send(person.request("POST", path, body=body)).status == 204
    ott = person.pay().ott
    answer = person.send(person.about("POST", "facemap/verify", ott, body))
    assert answer.status == 200


@pytest.mark.attack(91)
def test_an_encrypted_body_is_measured_as_it_was_sent(server: Running, wire: Wire) -> None:
    key = encryption_key(wire)

    def sealed(size: int) -> bytes:
        return seal(key, {"deviceFingerprint": "x" * size}).body

    # Base64 grows by three or four characters for three bytes: the last that fits is near the limit.
    size = next(size for size in range(48_300, 48_900) if len(sealed(size + 1)) > BODY_MAX)
    assert BODY_MAX - 2 <= len(sealed(size)) <= BODY_MAX
    for more, expected in ((0, (400, "request.malformed")), (1, (413, "request.too.large"))):
        person = Person.make(wire)
        path = "/v1/user/partner-device-fingerprints"
        answer = once(server.address, person, "POST", path, headers=JWE, body=sealed(size + more))
        # The first is opened; a fingerprint of so many characters is what it is refused for.
        assert (answer.status, answer.code) == expected
