"""The signature variant over the wire: a program signs the OTT, and its retry is the whole step-up."""

import base64
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.system.processes import Running
from tests.system.wire import Answer, Person, Wire, volley
from tests.wire.support import FINGERPRINT, UNKNOWN_OTT, pem, refusal, sign

BODY = {"type": "BALANCE"}
RACERS = 64


@cache
def key(number: int = 0) -> rsa.RSAPrivateKey:
    """Make a key once; *number* tells one from another."""
    assert number < 6
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def signer(wire: Wire) -> Person:
    return Person.make(wire, phoneNumber=None, publicKeys=[pem(key())])


def pay_request(person: Person, ott: str, signature: str, body: object = None) -> bytes:
    return person.request(
        "POST", person.payment, ott=ott, headers={"X-Signature": signature}, body=body or BODY
    )


def pay(person: Person, ott: str, signature: str, body: object = None) -> Answer:
    return person.send(pay_request(person, ott, signature, body))


def approved(answer: Answer, status: int = 201) -> None:
    assert answer.status == status, answer
    assert answer.header("x-2fa-approval-result") == "APPROVED"


def wrong(answer: Answer, *, left: int) -> None:
    """Assert that the signature was wrong, and that the client is not asked to sign once more."""
    assert (answer.status, answer.code) == (403, "signature.incorrect"), answer
    assert answer.json()["errors"][0]["arguments"] == [left]
    assert answer.header("x-2fa-approval-result") == "REJECTED"
    assert answer.header("x-2fa-approval") is None


@pytest.mark.parametrize("public", [["-pubout"], ["-RSAPublicKey_out"]], ids=["SPKI", "PKCS#1"])
def test_what_openssl_signs_clears_a_protected_call(wire: Wire, tmp_path: Path, public: list[str]) -> None:
    private, told, ott_file, signed = (tmp_path / name for name in ("key.pem", "pub.pem", "ott", "signature"))

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

    openssl("genrsa", "-out", private, "2048")
    openssl("rsa", "-in", private, *public, "-out", told)
    person = Person.make(wire, phoneNumber=None, publicKeys=[told.read_text(encoding="ascii")])
    ott = person.pay(body=BODY).ott
    ott_file.write_text(ott, encoding="ascii")
    openssl("dgst", "-sha256", "-sign", private, "-out", signed, ott_file)
    approved(pay(person, ott, base64.b64encode(signed.read_bytes()).decode()))
    assert wire.executions("TRANSFER__FUND", ott) == 1


def test_a_signature_is_all_that_is_asked_for_at_any_risk(wire: Wire, signer: Person) -> None:
    ott = signer.get(signer.statement).ott
    assert signer.challenges(ott) == [["SIGNATURE"]]
    answer = signer.send(
        signer.request("GET", signer.statement, ott=ott, headers={"X-Signature": sign(key(), ott)})
    )
    approved(answer, 200)
    # The session is open now, and is no help for what is of high risk.
    approved(signer.get(signer.statement), 200)
    ott = signer.pay(body=BODY).ott
    approved(pay(signer, ott, sign(key(), ott)))
    assert wire.executions("TRANSFER__FUND") == 1


def test_a_retry_without_its_signature_is_asked_for_a_new_one(signer: Person) -> None:
    ott = signer.pay(body=BODY).ott
    new = signer.pay(ott=ott, body=BODY).ott
    assert new != ott
    approved(pay(signer, ott, sign(key(), ott)))


def test_a_signature_over_another_ott_is_wrong_and_counted(wire: Wire, signer: Person) -> None:
    one, other = (signer.pay(body=BODY).ott for _ in range(2))
    wrong(pay(signer, one, sign(key(), other)), left=4)
    wrong(pay(signer, one, sign(key(1), one)), left=3)
    wrong(pay(signer, one, "AAAA"), left=2)
    approved(pay(signer, one, sign(key(), one)))
    assert wire.executions("TRANSFER__FUND") == 1


def test_five_wrong_signatures_lock_the_user_whatever_they_are_for(wire: Wire, signer: Person) -> None:
    otts = [signer.pay(body=BODY).ott for _ in range(5)]
    for ott, left in zip(otts, (4, 3, 2, 1, 0), strict=True):
        wrong(pay(signer, ott, sign(key(1), ott)), left=left)
    ott = otts[0]
    for answer in (pay(signer, ott, sign(key(), ott)), signer.pay(body=BODY), signer.get(signer.statement)):
        assert (answer.status, answer.code) == (429, "sca.locked")
        assert answer.header("x-2fa-approval-result") == "REJECTED"
        assert answer.header("x-2fa-approval") is None
        assert 0 < int(answer.header("retry-after") or "") <= 900
    wire.advance(900)
    approved(pay(signer, ott, sign(key(), ott)))
    assert wire.executions("TRANSFER__FUND") == 1


@pytest.mark.parametrize("why", ["spent", "expired", "unknown", "foreign"])
def test_a_stale_pair_is_refused_with_a_fresh_ott(wire: Wire, signer: Person, why: str) -> None:
    ott = signer.pay(body=BODY).ott
    match why:
        case "spent":
            approved(pay(signer, ott, sign(key(), ott)))
        case "expired":
            wire.advance(3601)
        case "unknown":
            ott = UNKNOWN_OTT
        case _:
            ott = Person.make(wire, phoneNumber=None, publicKeys=[pem(key())]).pay(body=BODY).ott
    ran = wire.executions("TRANSFER__FUND")
    stale = [pay(signer, ott, sign(key(), ott)).ott for _ in range(6)]
    assert len({ott, *stale}) == 7
    # Nothing of it was counted: the newest is cleared at once.
    approved(pay(signer, stale[-1], sign(key(), stale[-1])))
    assert wire.executions("TRANSFER__FUND") == ran + 1


def test_a_pair_on_an_open_endpoint_is_ignored(signer: Person) -> None:
    ott = signer.pay(body=BODY).ott
    for signature in (sign(key(), ott), sign(key(1), ott), "no signature"):
        answer = signer.send(
            signer.request("GET", "/v1/profiles", ott=ott, headers={"X-Signature": signature})
        )
        assert answer.status == 200
        assert answer.header("x-2fa-approval-result") is None
    approved(pay(signer, ott, sign(key(), ott)))


def test_a_signature_without_an_ott_is_ignored(signer: Person) -> None:
    answer = signer.send(
        signer.request("POST", signer.payment, headers={"X-Signature": "nonsense"}, body=BODY)
    )
    assert answer.ott


def test_a_user_who_does_not_sign_gains_nothing_by_a_signature(wire: Wire, ada: Person) -> None:
    ott = ada.pay(body=BODY).ott
    for _ in range(6):  # Neither a failure of his nor a success.
        assert pay(ada, ott, sign(key(), ott)).ott != ott
    ada.clear_pin(ott, "1234")
    ada.clear_code(ott)
    approved(pay(ada, ott, "whatever"))
    assert wire.executions("TRANSFER__FUND") == 1


@pytest.mark.attack(88)
@pytest.mark.parametrize(
    "values",
    [["é" * 10], ["aaaa bbbb"], [""], ["A" * 2049], ["AAAA", "AAAA"], ["AAAA", "right"], ["AAAA, BBBB"]],
    ids=["not ASCII", "a space", "empty", "too long", "twice", "twice, one right", "a list"],
)
def test_a_header_that_no_signature_can_stand_in_is_malformed(signer: Person, values: list[str]) -> None:
    ott = signer.pay(body=BODY).ott
    right = sign(key(), ott)
    lines = "".join(f"X-Signature: {right if value == 'right' else value}\r\n" for value in values)
    request = signer.request("POST", signer.payment, ott=ott, body=BODY).decode("latin-1")
    answer = signer.send(request.replace("Host:", f"{lines}Host:", 1).encode("latin-1"))
    assert (answer.status, answer.code) == (400, "request.malformed"), answer
    approved(pay(signer, ott, right))


@pytest.mark.attack(3)
def test_a_right_signature_over_a_request_that_changed_voids_the_token(wire: Wire, signer: Person) -> None:
    first = {"type": "BALANCE", "amount": 10.0}
    ott = signer.pay(body=first).ott
    changed = pay(signer, ott, sign(key(), ott), {"type": "BALANCE", "amount": 1000.0})
    assert changed.ott != ott
    assert pay(signer, ott, sign(key(), ott), first).ott not in {ott, changed.ott}
    assert wire.executions("TRANSFER__FUND") == 0


@pytest.mark.attack(2)
def test_anothers_signature_over_his_own_ott_is_nothing_to_him(wire: Wire, signer: Person) -> None:
    other = Person.make(wire, phoneNumber=None, publicKeys=[pem(key(1))])
    ott = signer.pay(body=BODY).ott
    assert pay(other, ott, sign(key(1), ott)).ott != ott
    approved(pay(signer, ott, sign(key(), ott)))
    assert wire.executions("TRANSFER__FUND") == 1


@pytest.mark.attack(25)
def test_of_many_retries_with_one_right_signature_one_runs(
    server: Running, wire: Wire, signer: Person
) -> None:
    ott = signer.pay(body=BODY).ott
    request = pay_request(signer, ott, sign(key(), ott))
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(RACERS)]
        answers = volley(wires, [request] * RACERS)
    assert sorted(answer.status for answer in answers) == [201] + [403] * (RACERS - 1)
    assert len({answer.ott for answer in answers if answer.status == 403} | {ott}) == RACERS
    assert wire.executions("TRANSFER__FUND", ott) == 1


@pytest.mark.attack(43)
def test_of_many_wrong_signatures_at_once_five_are_compared(server: Running, signer: Person) -> None:
    ott = signer.pay(body=BODY).ott
    request = pay_request(signer, ott, sign(key(1), ott))
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(RACERS)]
        answers = volley(wires, [request] * RACERS)
    told = sorted((answer.status, answer.code) for answer in answers)
    assert told == [(403, "signature.incorrect")] * 5 + [(429, "sca.locked")] * (RACERS - 5)


# --- keys --------------------------------------------------------------------------------------------


def sandbox_user(wire: Wire, **enrolled: object) -> Answer:
    anyone = Person(wire, "", 0, 0)
    return anyone.send(anyone.request("POST", "/sandbox/users", body={"token": "new", **enrolled}))


@pytest.mark.attack(109)
def test_a_key_that_is_unfit_is_refused_on_both_ways(wire: Wire, application: Person) -> None:
    person = Person.make(wire)
    path = f"/v1/application/users/{person.user_id}/public-keys"
    short = rsa.generate_private_key(65537, 2047)  # noqa: S505 - to be refused.
    long = rsa.RSAPublicNumbers(65537, (1 << 8193) - 1).public_key()
    texts = [
        pem(short),
        pem(short, PublicFormat.PKCS1),
        long.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        "\x00",
    ]
    for text in texts:
        answer = sandbox_user(wire, publicKeys=[text])
        assert (answer.status, refusal(answer)) == (400, "request.malformed"), answer
        answer = application.send(application.request("POST", path, body={"publicKey": text}))
        assert (answer.status, refusal(answer)) == (400, "public.key.invalid"), answer
        assert "PRIVATE" not in answer.body.decode()
    assert application.get(path).json() == []


def test_a_sixth_key_is_refused_on_both_ways(wire: Wire, application: Person) -> None:
    person = Person.make(wire, phoneNumber=None, publicKeys=[pem(key(number)) for number in range(4)])
    path = f"/v1/application/users/{person.user_id}/public-keys"
    fifth, sixth = (
        application.send(application.request("POST", path, body={"publicKey": pem(key(number))}))
        for number in (4, 5)
    )
    assert fifth.status == 201
    assert (sixth.status, sixth.code) == (400, "public.key.limit.reached")
    assert len(application.get(path).json()) == 5
    answer = sandbox_user(wire, publicKeys=[pem(key(number)) for number in range(6)])
    assert (answer.status, refusal(answer)) == (400, "request.malformed")
    for number in range(5):
        ott = person.pay(body=BODY).ott
        approved(pay(person, ott, sign(key(number), ott)))
    ott = person.pay(body=BODY).ott
    wrong(pay(person, ott, sign(key(5), ott)), left=4)


def test_a_key_that_was_deleted_signs_nothing_any_more(wire: Wire, application: Person) -> None:
    person = Person.make(wire, phoneNumber=None, publicKeys=[pem(key(0)), pem(key(1))])
    path = f"/v1/application/users/{person.user_id}/public-keys"
    ott = person.pay(body=BODY).ott
    first = application.get(path).json()[0]["publicKeyId"]
    assert application.send(application.request("DELETE", f"{path}/{first}")).status == 204
    # What was issued before is void, signed with whichever key.
    new = pay(person, ott, sign(key(1), ott)).ott
    wrong(pay(person, new, sign(key(0), new)), left=4)
    approved(pay(person, new, sign(key(1), new)))


def test_a_user_with_other_credentials_is_no_program_unless_he_is_called_one(wire: Wire) -> None:
    both = {"publicKeys": [pem(key())], "deviceFingerprints": [FINGERPRINT]}
    user = Person.make(wire, **both)
    assert ["SIGNATURE"] not in user.challenges(user.get(user.statement).ott)
    program = Person.make(wire, kind="personal", **both)
    assert program.challenges(program.get(program.statement).ott) == [["SIGNATURE"]]
