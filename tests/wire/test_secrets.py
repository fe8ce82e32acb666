"""
What enrolment, JOSE, signatures and faces leave behind: in files, logs and answers, no secret.

A whole story is told with secrets that nothing else looks like, the right way and every wrong way;
then every file but the keys, both output streams and all answers that say no are searched, in
every form in which a program might write them.
"""

import base64
import json
import signal
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.jose import oracle
from tests.system.processes import Running
from tests.system.test_secrets import finds
from tests.system.wire import Answer, Person, Wire
from tests.wire.support import JOSE, JWE, Sealed, encryption_key, pem, seal, sign
from watchword.domain.credential import FaceMap
from watchword.domain.user import UserId
from watchword.methods.face_map import FaceMapMethod
from watchword.methods.keyring import Keyring, Tampered
from watchword.store import codec

PIN, WRONG_PIN = "7391", "8264"
FINGERPRINT, WRONG_FINGERPRINT = "device-Kd82MzQp71Xv", "device-Rt55LwBn09Ye"
FACE, WRONG_FACE = b"face-Hq61-of-nobody-in-particular", b"face-Vb27-of-somebody-else-again"
PHONE, WRONG_PHONE = "+447911123987", "+447911456321"
MESSAGE = "playground-Nn38DfGj"
USER, PROFILE = 6199998, 435998
BEARER = "bearer-Pq47xRv2Ls6TmW9k"
KEYS = {"keys.json", "jose.pem"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Story:
    """What is left of it."""

    secrets: Mapping[str, str]
    files: Mapping[str, bytes]
    output: str
    refusals: tuple[Answer, ...]
    folder: Path


class Teller:
    """Tells the story, and keeps every answer that says no."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.key = encryption_key(wire)
        self.signing = rsa.generate_private_key(65537, 2048)
        made = wire.control(
            "POST", "/sandbox/users", {"token": BEARER, "userId": USER, "profileIds": [PROFILE]}
        )
        self.person = Person(wire, BEARER, made["userId"], PROFILE)
        self.application = Person(wire, "demo-application", 0, 0)
        self.refusals: list[Answer] = []
        self.sealed: list[Sealed] = []
        self.otts: list[str] = []
        self.signatures: list[str] = []

    def send(
        self, person: Person, status: int, method: str, path: str, body: object = None, **headers: str
    ) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = person.send(person.request(method, path, headers=given, body=body))
        assert answer.status == status, (path, answer)
        if status >= 400:
            self.refusals.append(answer)
        return answer

    def seal(
        self, status: int, path: str, body: object, *, ott: str = "", person: Person | None = None
    ) -> Answer:
        sealed = seal(self.key, body)
        self.sealed.append(sealed)
        headers = JWE | ({"One-Time-Token": ott} if ott else {})
        return self.send(person or self.person, status, "POST", path, sealed.body, **headers)

    def ott(self) -> str:
        ott = self.person.pay().ott
        self.otts.append(ott)
        return ott

    def tell(self) -> None:
        self.enrol()
        self.fail()
        self.nonsense()
        self.program()

    def enrol(self) -> None:
        self.seal(200, f"/v2/profiles/{PROFILE}/pin", {"pin": PIN})
        self.seal(409, "/v1/user/pin", {"pin": WRONG_PIN})
        self.seal(200, "/v1/user/partner-device-fingerprints", {"deviceFingerprint": FINGERPRINT})
        self.seal(409, "/v1/user/partner-device-fingerprints", {"deviceFingerprint": FINGERPRINT})
        self.send(self.person, 204, "POST", "/v1/user/facemap/enrol", {"faceMap": b64(FACE)})
        self.send(self.person, 409, "POST", "/v1/user/facemap/enrol", {"faceMap": b64(WRONG_FACE)})
        phones = f"/v1/application/users/{USER}/phone-numbers"
        phone = self.send(self.application, 200, "POST", phones, {"phoneNumber": PHONE}).json()
        self.send(self.application, 422, "POST", phones, {"phoneNumber": WRONG_PHONE})
        self.send(self.application, 422, "POST", phones, {"phoneNumber": f"{PHONE}x"})
        other = f"/v1/application/users/{USER + 1}/phone-numbers"
        self.send(self.application, 422, "POST", other, {"phoneNumber": PHONE})
        self.send(self.application, 200, "PUT", f"{phones}/{phone['id']}", {"phoneNumber": PHONE})
        # What is removed must be gone: it is enrolled once more.
        self.send(self.application, 204, "DELETE", f"/v1/users/{USER}/pin")
        self.seal(204, "/v1/user/pin", {"pin": PIN})

    def fail(self) -> None:
        ott = self.ott()
        self.seal(400, "/v1/one-time-token/pin/verify", {"pin": WRONG_PIN}, ott=ott)
        self.seal(
            400,
            "/v1/one-time-token/partner-device-fingerprint/verify",
            {"deviceFingerprint": WRONG_FINGERPRINT},
            ott=ott,
        )
        self.send(
            self.person,
            400,
            "POST",
            "/v1/one-time-token/facemap/verify",
            {"faceMap": b64(WRONG_FACE)},
            One_Time_Token=ott,
        )
        self.seal(200, "/v1/one-time-token/pin/verify", {"pin": PIN}, ott=ott)
        self.send(
            self.person,
            200,
            "POST",
            "/v1/one-time-token/facemap/verify",
            {"faceMap": b64(FACE)},
            One_Time_Token=ott,
        )

    def nonsense(self) -> None:
        """Send what is malformed, and full of secrets."""
        ott = self.ott()
        pin, face = "/v1/one-time-token/pin/verify", "/v1/one-time-token/facemap/verify"
        pins: tuple[object, ...] = (
            {"pin": int(PIN)},
            {"pin": PIN, "also": FINGERPRINT},
            {"pin": {PIN: BEARER}},
            [PIN, PHONE],
        )
        for body in pins:
            self.seal(400, pin, body, ott=ott)
            self.send(self.person, 400, "POST", pin, body, One_Time_Token=ott)
        faces: tuple[object, ...] = (
            {"faceMap": b64(FACE) + "%"},
            {"faceMap": [b64(FACE)]},
            {"faceMap": b64(FACE), "with": b64(WRONG_FACE)},
        )
        for body in faces:
            self.send(self.person, 400, "POST", face, body, One_Time_Token=ott)
            self.send(self.person, 400, "POST", "/v1/user/facemap/enrol", body)
        sealed = seal(self.key, {"pin": PIN})
        self.sealed.append(sealed)
        text = oracle.to_json({"pin": PIN})
        header = oracle.b64(oracle.to_json(oracle.JWE_HEADER | {"jku": f"https://{FINGERPRINT}", "kid": PIN}))
        for broken in (
            sealed.body[:-2],
            text,
            oracle.b64(text),
            header + sealed.body[sealed.body.index(b".") :],
        ):
            self.send(self.person, 400, "POST", pin, broken, **(JWE | {"One-Time-Token": ott}))
        signed = oracle.jws(text, self.signing, {"alg": "PS256", "url": FINGERPRINT, "kid": PHONE})
        self.send(
            self.person,
            400,
            "POST",
            pin,
            signed,
            **(JOSE | {"X-TW-JOSE-Method": "jws", "One-Time-Token": ott}),
        )
        self.send(
            self.person, 400, "POST", pin, signed, **(JOSE | {"X-TW-JOSE-Method": PIN, "One-Time-Token": ott})
        )
        play = "/v1/auth/jose/playground/jwe-direct-encryption"
        self.seal(200, play, {"message": MESSAGE}, person=self.application)
        self.seal(400, play, {"message": MESSAGE * 20}, person=self.application)
        keys = "/v1/auth/jose/request/public-keys"
        material = {"algorithm": "ES512", "keyMaterial": b64(FACE)}
        unfit = {"keyId": FINGERPRINT, "scope": PIN, "validFrom": PHONE, "validTill": BEARER}
        self.send(self.application, 400, "POST", keys, unfit | {"publicKeyMaterial": material})
        private = oracle.b64(self.private()).decode()
        self.send(
            self.application, 400, "POST", f"/v1/application/users/{USER}/public-keys", {"publicKey": private}
        )

    def private(self) -> bytes:
        numbers = self.signing.private_numbers()
        return numbers.d.to_bytes(256, "big")

    def program(self) -> None:
        """Sign, rightly and wrongly."""
        body = {"token": f"{BEARER}-program", "userId": USER + 2, "profileIds": [PROFILE + 2]}
        self.wire.control("POST", "/sandbox/users", body | {"publicKeys": [pem(self.signing)]})
        program = Person(self.wire, f"{BEARER}-program", USER + 2, PROFILE + 2)
        for right in (False, True):
            ott = program.pay().ott
            self.otts.append(ott)
            self.signatures.append(sign(self.signing, ott if right else f"{ott}x"))
            headers = {"X_Signature": self.signatures[-1], "x_2fa_approval": ott}
            status = 201 if right else 403
            self.send(program, status, "POST", program.payment, {"type": "BALANCE"}, **headers)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Tell it to a sandbox that keeps everything, with its files as they are while it runs and after."""
    folder = tmp_path_factory.mktemp("secrets") / "data"

    def read(when: str) -> dict[str, bytes]:
        return {
            f"{when}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.name not in KEYS
        }

    with Running("--data", folder, umask=0) as server, Wire(server.address) as wire:
        teller = Teller(wire)
        teller.tell()
        files = read("running")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.wait_for_all()
        output = server.stdout + server.stderr
    secrets = {
        "PIN": PIN,
        "wrong PIN": WRONG_PIN,
        "fingerprint": FINGERPRINT,
        "wrong fingerprint": WRONG_FINGERPRINT,
        "face": FACE.decode(),
        "wrong face": WRONG_FACE.decode(),
        "phone number": PHONE[3:],
        "wrong phone number": WRONG_PHONE[3:],
        "bearer": BEARER,
        "message": MESSAGE,
        "private key": teller.private().decode("latin-1"),
        **{f"OTT {number}": ott for number, ott in enumerate(teller.otts)},
        **{f"signature {number}": each[:40] for number, each in enumerate(teller.signatures)},
        **{
            f"content key {number}": sealed.content_key.decode("latin-1")
            for number, sealed in enumerate(teller.sealed)
        },
        **{f"body {number}": sealed.body[-60:].decode() for number, sealed in enumerate(teller.sealed)},
    }
    for number, block in enumerate((folder / "jose.pem").read_bytes().split(b"# ")[1:]):
        lines = block.split(b"\n")
        key = load_pem_private_key(b"\n".join(lines[1:]), None)
        secret = (
            key.private_numbers().d.to_bytes(384, "big")
            if isinstance(key, rsa.RSAPrivateKey)
            else lines[2]  # The first line of an EC key's PEM.
        )
        secrets[f"our key {number}"] = secret.decode("latin-1")
    return Story(secrets, files | read("after"), output, tuple(teller.refusals), folder)


@pytest.mark.attack(178)
def test_no_file_but_the_keys_holds_a_secret(story: Story) -> None:
    assert len(story.files["running/watchword.db-wal"]) > 10_000
    assert len(story.secrets) > 45
    found = [
        (name, file)
        for name, secret in story.secrets.items()
        for file, content in story.files.items()
        if _finds(secret, content)
    ]
    assert found == []


def test_nothing_that_is_printed_or_logged_holds_a_secret(story: Story) -> None:
    assert "Ready: " in story.output
    text = story.output.encode()
    assert [name for name, secret in story.secrets.items() if _finds(secret, text)] == []
    assert "Traceback" not in story.output


@pytest.mark.attack(97)
def test_no_answer_that_says_no_holds_a_secret(story: Story) -> None:
    assert len(story.refusals) > 30
    for answer in story.refusals:
        headers = [pair for pair in answer.headers if pair[0] != "x-2fa-approval"]
        text = answer.body + json.dumps(headers).encode()
        assert [name for name, secret in story.secrets.items() if _finds(secret, text)] == [], answer
        assert b"Traceback" not in text
        assert b"watchword/" not in text


def test_our_private_keys_are_for_their_owner_alone(story: Story) -> None:
    assert {stat.S_IMODE((story.folder / name).stat().st_mode) for name in KEYS} == {0o600}


def _finds(secret: str, text: bytes) -> bool:
    """Search for text in all its forms, and for what is no text by its bytes."""
    if secret.isascii():
        return finds(secret, text)
    raw = secret.encode("latin-1")
    forms = [raw, raw.hex().encode(), base64.b64encode(raw)[4:-4], oracle.b64(raw)[4:-4]]
    return any(form in text for form in forms)


@pytest.mark.attack(178)
@pytest.mark.attack(179)
def test_a_face_opens_with_the_keys_and_in_its_own_row_only(story: Story) -> None:
    with closing(apsw.Connection(str(story.folder / "watchword.db"))) as database:
        stored: bytes = database.execute("SELECT body FROM user WHERE id = ?", (USER,)).get
    user = codec.decode_user(stored)
    face = next(each for each in user.credentials if isinstance(each, FaceMap))
    kept = msgspec.json.decode((story.folder / "keys.json").read_bytes())
    keys = {int(number): base64.b64decode(key) for number, key in kept["keys"].items()}
    assert FaceMapMethod(Keyring(keys, active=kept["active"])).template(user) is not None
    for ring, owner in ((Keyring({1: bytes(32)}, active=1), user.id), (Keyring(keys, active=1), USER + 1)):
        with pytest.raises(Tampered):
            FaceMapMethod(ring).open(face, user_id=UserId(owner))
