"""Attacks on JOSE, over the wire: what the functions refuse, the server has to refuse as well."""

import base64
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.factories import GRACE
from tests.jose import fuzz, oracle
from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire
from tests.wire.strict import PROFILE, make_strict
from tests.wire.support import (
    JOSE,
    JWE,
    UNKNOWN_OTT,
    WRONG_PIN,
    encryption_key,
    refusal,
    seal,
)
from tests.wire.test_fuzz import Worker
from tests.wire.test_table import key_body, signing_key
from watchword.domain.application import KeyScope
from watchword.domain.enrolment import StepUpFor
from watchword.jose.keys import Algorithm, ServerKeys
from watchword.server.settings import ApplicationSettings, Settings

PLAY = "/v1/auth/jose/playground"
MESSAGE = b'{"message":"hello"}'
TEN_MINUTES = 600


@pytest.fixture
def key(wire: Wire) -> rsa.RSAPublicKey:
    return encryption_key(wire)


@pytest.fixture
def sender(wire: Wire, application: Person, key: rsa.RSAPublicKey) -> fuzz.Keys:
    """Have a client in good standing, whose keys are uploaded."""
    for number, signing in enumerate((True, False), start=1):
        body = key_body(f"00000000-0000-4000-8000-00000000000{number}", signing=signing)
        path = "/v1/auth/jose/request/public-keys"
        assert application.send(application.request("POST", path, body=body)).status == 201
    return fuzz.Keys(
        server=key,
        client=signing_key(),
        algorithm="ES512",
        kid="00000000-0000-4000-8000-000000000001",
        url=f"{PLAY}/jws",
    )


def play(application: Person, name: str, method: str, body: bytes) -> Answer:
    headers = JOSE | {"X-TW-JOSE-Method": method}
    return application.send(application.request("POST", f"{PLAY}/{name}", headers=headers, body=body))


def verify_pin(person: Person, ott: str, body: bytes) -> Answer:
    headers = JWE | {"One-Time-Token": ott}
    return person.send(person.request("POST", "/v1/one-time-token/pin/verify", headers=headers, body=body))


# --- what form a body has ----------------------------------------------------------------------------

SECRET_CALLS = (
    "/v1/user/pin",
    f"/v2/profiles/{PROFILE}/pin",
    f"/2026Q3/profiles/{PROFILE}/pin",
    "/v1/user/partner-device-fingerprints",
    f"/v2/profiles/{PROFILE}/device-fingerprints",
    "/v1/one-time-token/pin/verify",
    f"/v2/profiles/{PROFILE}/pin/verify",
    "/v1/one-time-token/partner-device-fingerprint/verify",
    f"/2026Q3/profiles/{PROFILE}/device-fingerprints/verify",
)


@pytest.mark.attack(98)
@pytest.mark.parametrize("path", SECRET_CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {},
        {"content-type": "text/plain"},
        JWE | {"Content-Type": "application/json"},
        JWE | {"Content-Type": "text/plain"},
        JWE | {"Content-Encoding": "gzip"},
        JOSE | {"X-TW-JOSE-Method": "jws"},
    ],
    ids=["JSON", "untyped", "text", "JWE as JSON", "JWE as text", "compressed", "signed alone"],
)
async def test_where_jose_is_required_nothing_else_is_parsed(path: str, headers: dict[str, str]) -> None:
    settings = Settings(applications={"app": ApplicationSettings(jose_required=True)})
    strict = await make_strict(settings=settings)
    for body in (b'{"pin":"1234"}', b'{"deviceFingerprint":"x"}', b"[" * 100, b"\xff", b""):
        answer = await strict.call(
            "POST", path, headers={"one-time-token": UNKNOWN_OTT, **headers}, body=body
        )
        assert (answer.status, answer.code) == (415, "media.type.unsupported")


@pytest.mark.attack(98)
async def test_where_jose_is_required_a_sealed_body_is_taken(strict_keys: ServerKeys) -> None:
    strict_application = {"app": ApplicationSettings(jose_required=True)}
    settings = Settings(step_up=StepUpFor.NOTHING, applications=strict_application)
    strict = await make_strict(settings=settings, keys=strict_keys)
    sealed = seal(public(strict_keys), {"deviceFingerprint": "new"})
    answer = await strict.sealed("POST", "/v1/user/partner-device-fingerprints", sealed.body, token="grace")
    assert answer.status == 200


@pytest.mark.attack(98)
@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "a"])
def test_an_envelope_that_is_called_something_else_is_not_opened(
    wire: Wire, ada: Person, key: rsa.RSAPublicKey, kind: str
) -> None:
    ott = ada.pay().ott
    headers = {"X-TW-JOSE-Method": "jwe", "Content-Type": kind, "One-Time-Token": ott}
    body = seal(key, {"pin": "1234"}).body
    answer = ada.send(ada.request("POST", "/v1/one-time-token/pin/verify", headers=headers, body=body))
    assert (answer.status, answer.code) == (415, "media.type.unsupported")
    assert ada.challenges(ott)[0][0] == "PIN"


@pytest.mark.attack(101)
def test_an_envelope_of_another_kind_is_refused(
    application: Person, sender: fuzz.Keys, key: rsa.RSAPublicKey
) -> None:
    rng = random.Random(1)
    signed, sealed = fuzz.honest(rng, sender, "jws"), fuzz.honest(rng, sender, "jwe")
    nested = oracle.jwe(sealed, key)
    for name, method, body, expected in (
        ("jws", "jws", sealed, (400, "jws_error")),
        ("jws", "jwe", sealed, (415, "media.type.unsupported")),
        ("jws", "jws+jwe", sealed, (415, "media.type.unsupported")),
        ("jwe", "jwe", signed, (400, "jwe_error")),
        ("jwe", "jws", signed, (415, "media.type.unsupported")),
        ("jwsjwe", "jws+jwe", sealed, (400, "jws_error")),  # It opens, and nothing in it is signed.
        ("jwsjwe", "jws+jwe", nested, (400, "jws_error")),
        ("jwsjwe", "jws+jwe", signed, (400, "jwe_error")),
        ("jwsjwe", "jwe", sealed, (415, "media.type.unsupported")),
    ):
        answer = play(application, name, method, body)
        assert (answer.status, refusal(answer)) == expected, (name, method)


@pytest.mark.attack(101)
@pytest.mark.parametrize("content_type", ["JWE", "application/json", "", "jwt jwt"])
def test_a_signed_body_in_an_envelope_of_another_content_type_is_refused(
    application: Person, sender: fuzz.Keys, key: rsa.RSAPublicKey, content_type: str
) -> None:
    url = {"url": f"{PLAY}/jwsjwe"}
    signed = oracle.jws(MESSAGE, sender.client, sender.signed() | url)
    right = play(
        application, "jwsjwe", "jws+jwe", oracle.jwe(signed, key, oracle.JWE_HEADER | {"cty": "JWT"})
    )
    assert right.status == 200
    wrong = oracle.jwe(signed, key, oracle.JWE_HEADER | {"cty": content_type})
    answer = play(application, "jwsjwe", "jws+jwe", wrong)
    assert (answer.status, refusal(answer)) == (400, "jws_error")


# --- algorithms --------------------------------------------------------------------------------------

FORGED = {
    "unsigned": 30,
    "keyed_with_a_public_key": 60,
    "another_algorithm_claimed": 40,
    "signed_by_a_stranger": 30,
}


@pytest.mark.attack(100)
def test_no_algorithm_but_the_keys_own_is_taken(application: Person, sender: fuzz.Keys) -> None:
    rng = random.Random("forged")
    left = dict(FORGED)
    while left:
        kind, body = fuzz.make(rng, sender, "jws")
        if kind not in left:
            continue
        answer = play(application, "jws", "jws", body)
        assert (answer.status, refusal(answer)) == (400, "jws_error"), kind
        left[kind] -= 1
        if not left[kind]:
            del left[kind]
    assert play(application, "jws", "jws", fuzz.honest(rng, sender, "jws")).status == 200


@pytest.mark.attack(103)
def test_a_point_that_is_on_no_curve_is_no_key(application: Person) -> None:
    good = oracle.spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    point = good[-64:]
    off = good[:-64] + point[:-1] + bytes([point[-1] ^ 1])
    infinity = good[:-65] + b"\x00" * 65
    other = oracle.spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    for material in (off, infinity, other, good[:-1], good + b"\x00"):
        body = key_body("00000000-0000-4000-8000-000000000009")
        body["publicKeyMaterial"] = {
            "algorithm": "ES256",
            "keyMaterial": base64.b64encode(material).decode(),
        }
        path = "/v1/auth/jose/request/public-keys"
        answer = application.send(application.request("POST", path, body=body))
        assert (answer.status, answer.code) == (400, "jose.key.invalid")


@pytest.mark.attack(103)
@pytest.mark.attack(104)
@pytest.mark.parametrize(
    "header",
    [
        {"alg": "PBES2-HS512+A256KW", "p2c": 2**31 - 1, "p2s": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"p2c": 2**31 - 1, "p2s": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"alg": "ECDH-ES+A256KW", "epk": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": "", "y": ""}},
        {"zip": "DEF"},
        {"alg": "RSA1_5"},
        {"alg": "RSA-OAEP"},
        {"alg": "dir"},
        {"enc": "A128CBC-HS256"},
        {"crit": ["exp"], "exp": 1},
    ],
    ids=lambda header: " ".join(str(part) for part in header.values())[:24],
)
def test_another_algorithm_is_refused_before_anything_is_computed(
    server: Running, wire: Wire, ada: Person, key: rsa.RSAPublicKey, header: dict[str, object]
) -> None:
    ott = ada.pay().ott
    body = seal(key, {"pin": "1234"}, **header).body
    worker = Worker(server)
    costs = []
    for _ in range(3):
        before = worker.seconds()
        answer = verify_pin(ada, ott, body)
        costs.append(worker.seconds() - before)
        assert (answer.status, refusal(answer)) == (400, "jwe_error")
    assert min(costs) < 0.010


@pytest.mark.attack(106)
def test_a_payload_that_is_not_encoded_is_refused(application: Person, sender: fuzz.Keys) -> None:
    for member in ({"b64": False, "crit": ["b64"]}, {"b64": False}, {"b64": True}):
        header = oracle.to_json(sender.signed() | member)
        signed = oracle.b64(header) + b"." + MESSAGE
        signature = oracle.raw_signature(signed, "ES512", sender.client)
        answer = play(application, "jws", "jws", signed + b"." + oracle.b64(signature))
        assert (answer.status, refusal(answer)) == (400, "jws_error")


# --- who is trusted, and what is fetched -------------------------------------------------------------


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """Listen where a header says that the key is; nobody may come."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.attack(107)
def test_a_header_that_says_where_the_key_is_brings_nobody_there(
    application: Person, ada: Person, sender: fuzz.Keys, key: rsa.RSAPublicKey, canary: socket.socket
) -> None:
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/keys"
    thief = ec.generate_private_key(ec.SECP521R1())
    numbers = thief.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-521",
        "x": oracle.b64(numbers.x.to_bytes(66, "big")).decode(),
        "y": oracle.b64(numbers.y.to_bytes(66, "big")).decode(),
    }
    ott = ada.pay().ott
    for member in (
        {"jku": url},
        {"x5u": url},
        {"jwk": jwk},
        {"x5c": [base64.b64encode(oracle.spki(thief.public_key())).decode()]},
        {"kid": url},
        {"kid": "../../../../dev/null"},
        {"kid": "/proc/self/environ"},
        {"kid": "x' OR '1'='1"},
        {"kid": "x\r\nSet-Cookie: a=b"},
        {"kid": "${jndi:ldap://127.0.0.1/a}"},
    ):
        answer = play(application, "jws", "jws", oracle.jws(MESSAGE, thief, sender.signed() | member))
        assert (answer.status, refusal(answer)) == (400, "jws_error"), member
        sealed = verify_pin(ada, ott, seal(key, {"pin": WRONG_PIN}, **member).body)
        # A `kid` is a name, and one that nobody knows is no reason to refuse; the PIN is.
        expected = "pin.incorrect" if "kid" in member else "jwe_error"
        assert refusal(sealed) in {expected, "sca.locked"}, member
        for text in (answer.body, sealed.body):
            assert url.encode() not in text
            assert b"Set-Cookie" not in text
    with pytest.raises(BlockingIOError):
        canary.accept()


@pytest.mark.attack(109)
def test_a_weak_key_is_not_taken(application: Person) -> None:
    path = "/v1/auth/jose/request/public-keys"
    small = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - to be refused.
    for scope, algorithm in (("PAYLOAD_ENCRYPTION", "RSA_OAEP_256"), ("PAYLOAD_SIGNING", "PS256")):
        material = {"algorithm": algorithm, "keyMaterial": base64.b64encode(oracle.spki(small)).decode()}
        body = key_body("00000000-0000-4000-8000-000000000009", scope=scope, publicKeyMaterial=material)
        answer = application.send(application.request("POST", path, body=body))
        assert (answer.status, answer.code) == (400, "jose.key.invalid")


@pytest.mark.attack(110)
def test_a_token_has_one_spelling(ada: Person, key: rsa.RSAPublicKey) -> None:
    ott = ada.pay().ott
    body = seal(key, {"pin": "1234"}).body
    protected, encrypted, iv, ciphertext, tag = (part.decode() for part in body.split(b"."))
    flat = {
        "protected": protected,
        "encrypted_key": encrypted,
        "iv": iv,
        "ciphertext": ciphertext,
        "tag": tag,
    }
    shared = {name: flat[name] for name in ("protected", "iv", "ciphertext", "tag")}
    twice = b'{"enc":"A256GCM","alg":"RSA-OAEP-256","alg":"RSA-OAEP-256"}'
    for spelling in (
        oracle.to_json(flat),
        oracle.to_json({**shared, "recipients": [{"encrypted_key": encrypted}] * 2}),
        oracle.to_json({**flat, "unprotected": {"alg": "dir"}}),
        body.replace(b".", b"=.", 1),
        body + b"=",
        body + b"\n",
        b" " + body,
        body[:-1] + (b"B" if body[-1:] == b"A" else b"A"),
        oracle.jwe(b'{"pin":"1234"}', key, twice),
        b'"' + body + b'"',
    ):
        answer = verify_pin(ada, ott, spelling)
        assert (answer.status, refusal(answer)) == (400, "jwe_error"), spelling[:80]
    assert verify_pin(ada, ott, body).status == 200


# --- whose body it is --------------------------------------------------------------------------------


@pytest.mark.attack(112)
def test_a_body_that_says_for_which_token_it_is_is_good_for_no_other(
    wire: Wire, ada: Person, key: rsa.RSAPublicKey
) -> None:
    one, other = ada.pay().ott, ada.pay().ott
    person = Person.make(wire, pin="1234")
    foreign = person.pay().ott
    body = seal(key, {"pin": "1234"}, ott=one).body
    for caller, ott in ((ada, other), (person, foreign)):
        answer = verify_pin(caller, ott, body)
        assert (answer.status, refusal(answer)) == (400, "jwe_error")
    assert verify_pin(ada, one, body).status == 200
    assert refusal(verify_pin(ada, one, body)) == "challenge.not.offered"
    # A refusal of the envelope is no wrong answer.
    for _ in range(6):
        verify_pin(person, foreign, body)
    assert verify_pin(person, foreign, seal(key, {"pin": "1234"}, ott=foreign).body).status == 200


@pytest.mark.attack(112)
@pytest.mark.parametrize(
    ("age", "taken"),
    [(0, True), (TEN_MINUTES - 5, True), (TEN_MINUTES + 5, False), (-TEN_MINUTES - 5, False)],
)
def test_a_body_that_says_when_it_was_sealed_is_good_for_ten_minutes(
    ada: Person, key: rsa.RSAPublicKey, age: int, taken: bool
) -> None:
    ott = ada.pay().ott
    answer = verify_pin(ada, ott, seal(key, {"pin": "1234"}, iat=int(time.time()) - age).body)
    assert (answer.status, refusal(answer)) == ((200, "") if taken else (400, "jwe_error"))


@pytest.mark.attack(112)
@pytest.mark.parametrize("member", [{"ott": 1}, {"iat": "now"}, {"iat": True}, {"iat": 1e3}, {"iat": -1}])
def test_a_binding_of_another_type_is_refused(
    ada: Person, key: rsa.RSAPublicKey, member: dict[str, object]
) -> None:
    answer = verify_pin(ada, ada.pay().ott, seal(key, {"pin": "1234"}, **member).body)
    assert (answer.status, refusal(answer)) == (400, "jwe_error")


@pytest.mark.attack(112)
def test_a_signed_body_is_good_for_one_path(application: Person, sender: fuzz.Keys) -> None:
    for url in (f"{PLAY}/jwsjwe", "/2026Q3/auth/jose/playground/jws", f"{PLAY}/jws?x=1", f"{PLAY}/jws/", ""):
        signed = oracle.jws(MESSAGE, sender.client, sender.signed() | {"url": url})
        answer = play(application, "jws", "jws", signed)
        assert (answer.status, refusal(answer)) == (400, "jws_error"), url
    assert play(application, "jws", "jws", oracle.jws(MESSAGE, sender.client, sender.signed())).status == 200


# --- rotation ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict_keys() -> ServerKeys:
    return ServerKeys.generate(rsa_bits=2048)


def public(keys: ServerKeys, version: int | None = None) -> rsa.RSAPublicKey:
    published = keys.published(Algorithm.RSA_OAEP_256, KeyScope.PAYLOAD_ENCRYPTION, version)
    assert published is not None
    loaded = load_der_public_key(published.spki)
    assert isinstance(loaded, rsa.RSAPublicKey)
    return loaded


KEY = "/v1/auth/jose/response/public-keys?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION"


@pytest.mark.attack(182)
async def test_an_older_key_decrypts_until_it_is_taken_out(strict_keys: ServerKeys) -> None:
    rotated = strict_keys.rotated(Algorithm.RSA_OAEP_256, rsa_bits=2048)
    texts = rotated.to_pem().decode().split("# ")
    removed = "# ".join(text for text in texts if not text.startswith("RSA_OAEP_256 version 1"))
    after = ServerKeys.from_pem(removed.encode())
    old = await make_strict(keys=strict_keys)
    for keys, versions, opens in ((rotated, {1: 200, 2: 200}, True), (after, {1: 404, 2: 200}, False)):
        strict = await make_strict(keys=keys, world=old.world, settings=Settings(step_up=StepUpFor.NOTHING))
        newest = await strict.call("GET", KEY, token="app")
        assert newest.json()["version"] == 2
        for version, status in versions.items():
            assert (await strict.call("GET", f"{KEY}&version={version}", token="app")).status == status
        sealed = seal(public(strict_keys), {"deviceFingerprint": f"with the old key {opens}"})
        answer = await strict.sealed(
            "POST", "/v1/user/partner-device-fingerprints", sealed.body, token="grace"
        )
        assert answer.status == (200 if opens else 400)
        if not opens:
            assert json.loads(answer.body)["error"] == "jwe_error"
        named = seal(
            public(keys, 2), {"deviceFingerprint": f"with the new key {opens}"}, kid=newest.json()["keyId"]
        )
        assert (
            await strict.sealed("POST", "/v1/user/partner-device-fingerprints", named.body, token="grace")
        ).status == 200
    user = await old.world.engine.store.user(GRACE)
    assert user is not None
    assert len(user.credentials) == 1 + 3


@pytest.mark.attack(182)
async def test_an_answer_is_signed_with_the_newest_key_and_says_its_version(strict_keys: ServerKeys) -> None:
    signs = "/v1/auth/jose/response/public-keys?algorithm=ES512&scope=PAYLOAD_SIGNING"
    old = await make_strict(keys=strict_keys)
    body = json.dumps(key_body("00000000-0000-4000-8000-000000000001")).encode()
    headers = {"content-type": "application/json"}
    uploaded = await old.call(
        "POST", "/v1/auth/jose/request/public-keys", token="app", headers=headers, body=body
    )
    assert uploaded.status == 201
    signed = oracle.jws(MESSAGE, signing_key(), {"alg": "ES512", "url": f"{PLAY}/jws"})
    for keys, version in ((strict_keys, 1), (strict_keys.rotated(Algorithm.ES512), 2)):
        strict = await make_strict(keys=keys, world=old.world)
        answer = await strict.sealed(
            "POST", f"{PLAY}/jws", signed, token="app", headers={"X-TW-JOSE-Method": "jws"}
        )
        assert oracle.header_of(answer.body) == {"version": version, "alg": "ES512"}
        told = await strict.call("GET", f"{signs}&version={version}", token="app")
        loaded = load_der_public_key(base64.b64decode(told.json()["keyMaterial"]["keyMaterial"]))
        assert isinstance(loaded, ec.EllipticCurvePublicKey)
        oracle.verify_jws(answer.body, loaded)
