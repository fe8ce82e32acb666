"""What the tests of the wire share: who calls, what they encrypt and sign with, and the places they call."""

import base64
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from tests.jose import oracle
from tests.system.wire import Address, Answer, Person, Wire

JOSE = {"Content-Type": "application/jose+json", "Accept": "application/jose+json"}
JWE = JOSE | {"X-TW-JOSE-Method": "jwe"}
UNKNOWN_OTT = "00000000-0000-4000-8000-000000000000"
PIN, WRONG_PIN = "7391", "8264"
FINGERPRINT = "c5f0a9d2-7b1e-4e0f-9a34-61d8f2b7e053"
FACE = base64.b64encode(b"a face that is long enough").decode()
OTHER_FACE = base64.b64encode(b"another face, long enough").decode()
KEY_PATH = "/v1/auth/jose/response/public-keys?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION"


def application(wire: Wire) -> Person:
    """Return the sandbox's application, which may manage users."""
    return Person(wire, "demo-application", 0, 0)


def encryption_key(wire: Wire) -> rsa.RSAPublicKey:
    """Fetch the key that requests are encrypted to."""
    answer = application(wire).get(KEY_PATH)
    assert answer.status == 200, answer
    key = load_der_public_key(base64.b64decode(answer.json()["keyMaterial"]["keyMaterial"]))
    assert isinstance(key, rsa.RSAPublicKey)
    return key


@dataclass(frozen=True)
class Sealed:
    """An encrypted body, and what its answer is read with."""

    body: bytes
    content_key: bytes = field(repr=False)

    def read(self, answer: Answer) -> Any:
        """Read an answer under the request's content key; its header is exactly two members."""
        assert answer.header("content-type") == "application/jose+json", answer
        assert oracle.unb64(answer.body.split(b".", maxsplit=1)[0]) == b'{"enc":"A256GCM","alg":"dir"}'
        return json.loads(oracle.open_direct(answer.body, self.content_key))


def seal(key: rsa.RSAPublicKey, body: object, **header: object) -> Sealed:
    """Encrypt a body to the server, as a client with nothing but ``cryptography`` does."""
    content_key = os.urandom(32)
    members = oracle.JWE_HEADER | header
    return Sealed(oracle.jwe(oracle.to_json(body), key, members, content_key=content_key), content_key)


def sign(key: rsa.RSAPrivateKey, ott: str) -> str:
    """Sign an OTT as the protocol has it: PKCS#1 v1.5, SHA-256, Base64 on one line."""
    return base64.b64encode(key.sign(ott.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


def pem(key: rsa.RSAPrivateKey, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    return key.public_key().public_bytes(Encoding.PEM, form).decode()


def once(address: Address, person: Person, method: str, target: str, **options: Any) -> Answer:
    """Call over a connection of its own: who is refused unread may find it closed."""
    with Wire(address) as wire:
        with suppress(BrokenPipeError):  # The answer is there all the same.
            wire.send(person.request(method, target, **options))
        return wire.receive(method)


def refusal(answer: Answer) -> str:
    """Return the code of an error document, of either shape; nothing of an answer that says yes."""
    if answer.status < 400:
        return ""
    document = answer.json()
    code: str = document["errors"][0]["code"] if "errors" in document else document["error"]
    return code


def lock(person: Person) -> None:
    """Lock somebody who has a phone number: five wrong codes."""
    ott = person.send(person.get_request(person.statement)).ott
    person.trigger(ott)
    for _ in range(5):
        answer = person.verify_code(ott, "000000")
        assert answer.status == 400, answer
