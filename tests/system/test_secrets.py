"""
What a thief of the data directory, of the logs, or of error answers learns: no secret.

A whole story is run with secrets that nothing else looks like; then every file but the keys,
both output streams and all answers that say no are searched, in every form a program might write.
"""

import base64
import hmac
import json
import re
import signal
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import md5, sha1, sha256, sha512
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from argon2.low_level import Type, hash_secret_raw

from tests.system.processes import Running
from tests.system.wire import CODE, Answer, Person, Wire
from watchword.domain.credential import Credential, DeviceFingerprint, Phone, Pin
from watchword.domain.method import Method
from watchword.domain.token import OneTimeToken, Pending
from watchword.domain.user import UserSecurity
from watchword.methods.keyring import Keyring, Purpose, Tampered
from watchword.methods.phone import PhoneMethod
from watchword.store import codec

PIN, WRONG_PIN = "7391", "8264"
WRONG_CODE = "482913"
FINGERPRINT = "c5f0a9d2-7b1e-4e0f-9a34-61d8f2b7e053"
WRONG_FINGERPRINT = "0e6d41b8-93fc-4a27-b5d0-f8127ce39a64"
PHONE = "+447911123987"
BEARER = "bearer-Zk39xQv7Lr2TsW8p"
WRONG_BEARER = "bearer-Hn51cYd4Me6JbU0g"
STATEMENT = "/v1/profiles/435999/balance-statements/200001/statement.json"
PAYMENT = "/v3/profiles/435999/transfers/16521632/payments"
SENT_IN_BODY = "payee-Qw83RtZ5"

# --- searching --------------------------------------------------------------------------------


def written(secret: bytes) -> Iterator[bytes]:
    """Yield the forms in which a program might write *secret*."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):  # Base64 looks different at each of three places.
        encoded = base64.b64encode(bytes(shift) + secret)
        yield encoded[-(-shift * 8 // 6) : (shift + len(secret)) * 8 // 6]
    yield secret.decode("latin-1").encode("utf-16-le")


def long_forms(secret: str) -> Iterator[bytes]:
    yield from written(secret.encode())
    try:
        parsed = uuid.UUID(secret)
    except ValueError:
        return
    yield from written(parsed.bytes)


def finds(secret: str, text: bytes) -> bool:
    """
    Tell whether *text* holds *secret*.

    Few digits stand in many a UUID and digest by chance: they count where no hexadecimal digit is
    their neighbour.
    """
    if len(secret) <= 6:
        digits = re.escape(secret.encode())
        if re.search(rb"(?<![0-9A-Fa-f-])" + digits + rb"(?![0-9A-Fa-f-])", text):
            return True
        return any(
            form in text
            for form in written(secret.encode())
            if form.decode("latin-1") != secret and len(form) > 4
        )
    return any(form in text for form in long_forms(secret))


@pytest.mark.parametrize("secret", [PIN, WRONG_CODE, FINGERPRINT, PHONE[3:], BEARER])
def test_the_search_finds_a_secret_in_every_form(secret: str) -> None:
    forms = [form for form in long_forms(secret) if len(form) > 4 or form == secret.encode()]
    assert len(forms) >= 6
    for form in forms:
        assert finds(secret, b"\x00\x81" + form + b"\xa7z"), form
    for prefix in ("", "xyz", "xyzxy"):
        assert finds(secret, base64.b64encode(f"{prefix}{secret}yz".encode())), prefix
    assert not finds(secret, bytes(range(256)) * 20)


# --- the story --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What is left of it."""

    secrets: Mapping[str, str]
    files: Mapping[str, bytes]
    output: str
    refusals: tuple[Answer, ...]
    folder: Path
    pending: str


class Teller:
    """Tells the story over one connection, and keeps every answer that says no."""

    def __init__(self, wire: Wire) -> None:
        made = wire.control(
            "POST",
            "/sandbox/users",
            {
                "token": BEARER,
                "userId": 6199999,
                "profileIds": [435999],
                "pin": PIN,
                "phoneNumber": PHONE,
                "deviceFingerprints": [FINGERPRINT],
            },
        )
        self.person = Person(wire, BEARER, made["userId"], 435999)
        self.refusals: list[Answer] = []
        self.otts: list[str] = []

    def send(self, request: bytes) -> Answer:
        answer = self.person.send(request)
        if answer.status >= 400:
            self.refusals.append(answer)
        return answer

    def issue(self, body: object = None) -> str:
        content = body or {"type": "BALANCE", "payee": SENT_IN_BODY}
        ott = self.send(self.person.request("POST", PAYMENT, body=content)).ott
        self.otts.append(ott)
        return ott

    def answer(self, ott: str, path: str, body: object) -> Answer:
        return self.send(self.person.about("POST", path, ott, body))

    def tell(self) -> str:
        """Tell it all; return an OTT whose code is live."""
        self.pay()
        self.fail()
        self.send_nonsense()
        pending = self.issue()
        self.person.trigger(pending)
        return pending

    def pay(self) -> None:
        ott = self.issue()
        assert self.answer(ott, "pin/verify", {"pin": PIN}).status == 200
        self.person.trigger(ott)
        assert self.answer(ott, "sms/verify", {"otpCode": CODE}).status == 200
        body = {"type": "BALANCE", "payee": SENT_IN_BODY}
        assert self.send(self.person.request("POST", PAYMENT, ott=ott, body=body)).status == 201
        self.otts.append(self.send(self.person.request("POST", PAYMENT, ott=ott, body=body)).ott)
        ott = self.send(self.person.request("GET", STATEMENT + "?currency=EUR", ott=ott)).ott
        self.otts.append(ott)
        path = "partner-device-fingerprint/verify"
        assert self.answer(ott, path, {"deviceFingerprint": FINGERPRINT}).status == 200
        assert self.send(self.person.request("GET", STATEMENT, ott=ott)).status == 200

    def fail(self) -> None:
        ott = self.issue()
        self.person.trigger(ott)
        wrong: list[tuple[str, dict[str, str]]] = [
            ("pin/verify", {"pin": WRONG_PIN}),
            ("sms/verify", {"otpCode": WRONG_CODE}),
            ("partner-device-fingerprint/verify", {"deviceFingerprint": WRONG_FINGERPRINT}),
            ("/v2/profiles/435999/pin/verify", {"pin": WRONG_PIN}),
        ]
        for path, body in wrong:
            assert self.answer(ott, path, body).status == 400
        assert self.answer(ott, "pin/verify", {"pin": PIN}).status == 200

    def send_nonsense(self) -> None:
        ott = self.issue()
        nonsense: list[object] = [
            {"pin": int(PIN)},
            {"pin": PIN, "otpCode": WRONG_CODE},
            {"pin": {PIN: BEARER}, "device": FINGERPRINT},
            [PIN, PHONE],
            PIN,
            f'{{"pin": "{PIN}", "pin": "{PIN}"}}'.encode(),
            f'{{"pin": {PIN}, "{PHONE}'.encode(),
            f'{{"pin": "\\ud800{PIN}"}}'.encode(),
        ]
        for body in nonsense:
            for path in ("pin/verify", "sms/verify"):
                assert self.answer(ott, path, body).status == 400
        person = self.person
        for request, status in (
            (
                person.request(
                    "GET", "/v1/one-time-token/status", headers={"One-Time-Token": FINGERPRINT + PIN}
                ),
                400,
            ),
            (
                person.request(
                    "GET", "/v1/one-time-token/status", headers={"One-Time-Token": WRONG_FINGERPRINT}
                ),
                404,
            ),
            (person.request("GET", f"/v1/one-time-token/{ott}"), 404),
            (person.request("GET", STATEMENT, ott=ott.upper()), 400),
            (person.request("POST", f"{PAYMENT}/", ott=ott), 400),
            (
                person.request(
                    "POST",
                    PAYMENT,
                    ott=ott,
                    body=b'{"a":1,"a":2}',
                    headers={"Content-Type": "application/json"},
                ),
                400,
            ),
            (replace(person, token=WRONG_BEARER).request("GET", STATEMENT), 401),
            (replace(person, token=f"{BEARER}, {BEARER}").request("GET", STATEMENT), 401),
            (
                person.request(
                    "POST", "/sandbox/users", body={"token": BEARER, "pin": PIN + "1", "phoneNumber": PHONE}
                ),
                400,
            ),
            (
                person.request("POST", "/sandbox/users", body={"token": BEARER, "phone": PHONE, "pins": PIN}),
                400,
            ),
        ):
            answer = self.send(request)
            assert answer.status == status, (request, answer)


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "keys.json"}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Tell the story once; its files are taken as they are while it runs, and after its end."""
    folder = tmp_path_factory.mktemp("secrets") / "data"
    with Running("--data", folder, umask=0) as server, Wire(server.address) as wire:
        teller = Teller(wire)
        pending = teller.tell()
        files = {f"running/{name}": content for name, content in read(folder).items()}
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert {"watchword.db-wal", "sandbox.db-wal", "keys.json"} <= modes.keys()
        assert set(modes.values()) == {0o600}, modes
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.wait_for_all()
        output = server.stdout + server.stderr
    secrets = {
        "PIN": PIN,
        "wrong PIN": WRONG_PIN,
        "code": CODE,
        "wrong code": WRONG_CODE,
        "fingerprint": FINGERPRINT,
        "wrong fingerprint": WRONG_FINGERPRINT,
        "phone number": PHONE[3:],  # In whatever way its beginning is written.
        "bearer": BEARER,
        "wrong bearer": WRONG_BEARER,
        "body": SENT_IN_BODY,
    } | {f"OTT {number}": ott for number, ott in enumerate(teller.otts)}
    return Story(secrets, files | read(folder), output, tuple(teller.refusals), folder, pending)


def test_no_file_but_the_keys_holds_a_secret(story: Story) -> None:
    assert len(story.files["running/watchword.db-wal"]) > 10_000
    assert len(story.secrets) > 15
    found = [
        (name, file)
        for name, secret in story.secrets.items()
        for file, content in story.files.items()
        if finds(secret, content)
    ]
    assert found == []


def test_nothing_that_is_printed_or_logged_holds_a_secret(story: Story) -> None:
    # The banner says what every code is; that is the sandbox's own.
    secrets = {name: secret for name, secret in story.secrets.items() if name != "code"}
    assert [name for name, secret in secrets.items() if finds(secret, story.output.encode())] == []


def test_no_answer_that_says_no_holds_a_secret(story: Story) -> None:
    assert len(story.refusals) > 25
    for answer in story.refusals:
        # A refusal brings a new OTT to its owner, in one header and nowhere else.
        headers = [pair for pair in answer.headers if pair[0] != "x-2fa-approval"]
        text = answer.body + json.dumps(headers).encode()
        assert [name for name, secret in story.secrets.items() if finds(secret, text)] == [], answer
        assert b"Traceback" not in text
        assert b"watchword/" not in text


# --- guessing from a dump ---------------------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """What a dump says about one user and one OTT of his."""

    user: UserSecurity
    token: OneTimeToken
    bodies: bytes

    @classmethod
    def read(cls, folder: Path, ott: str, user_id: int) -> "Records":
        with closing(apsw.Connection(str(folder / "watchword.db"))) as database:
            user: bytes = database.execute("SELECT body FROM user WHERE id = ?", (user_id,)).get
            token: bytes = database.execute("SELECT body FROM token WHERE id = ?", (identified(ott),)).get
        return cls(codec.decode_user(user), codec.decode_token(token), user + token)

    @property
    def phone(self) -> Phone:
        return next(entry for entry in self.user.credentials if isinstance(entry, Phone))

    @property
    def pin(self) -> Pin:
        return next(entry for entry in self.user.credentials if isinstance(entry, Pin))


def identified(ott: str) -> bytes:
    return sha256(ott.encode()).digest()


def guesses(secret: str, around: Iterable[bytes]) -> Iterator[bytes]:
    """Yield digests of *secret* that need no key but what stands beside it."""
    known = [b"", *around]
    for beside in known:
        for key in known:
            for message in (beside + secret.encode(), secret.encode() + beside):
                for algorithm in (md5, sha1, sha256, sha512):
                    yield algorithm(message + key, usedforsecurity=False).digest()
                yield hmac.digest(key or bytes(32), message, "sha256")


def test_guessing_would_find_a_digest_that_needs_no_key() -> None:
    salt = b"0123456789abcdef"
    for stored in (
        sha256(PIN.encode()).digest(),
        sha256(salt + PIN.encode()).digest(),
        hmac.digest(salt, PIN.encode(), "sha256"),
    ):
        assert any(guess in b"row" + stored for guess in guesses(PIN, [salt]))


@pytest.mark.attack(178)
def test_a_dump_without_the_keys_gives_no_pin_and_no_code_away(story: Story) -> None:
    # A match could stand at the true value only: to try that one is to try all 10^4 and all 10^6.
    records = Records.read(story.folder, story.pending, 6199999)
    state = records.token.state
    assert isinstance(state, Pending)
    assert state.code is not None
    around = [
        b"6199999",
        records.token.id,
        records.phone.digest,
        records.phone.id.encode(),
        records.pin.id.encode(),
        PHONE.encode(),
        story.pending.encode(),
        Method.SMS.value.encode(),
    ]
    for secret in (PIN, CODE, FINGERPRINT, PHONE):
        assert not any(guess in records.bodies for guess in guesses(secret, around))
    sealed = records.pin.sealed
    for at in range(len(sealed) - 15):  # Argon2id, with whatever may be a salt.
        salt = sealed[at : at + 16]
        hashed = hash_secret_raw(PIN.encode(), salt, 2, 19 * 1024, 1, 32, Type.ID)
        assert hashed[:16] not in records.bodies

    # The code is there, for whoever has the keys and for nobody else.
    kept: dict[str, Any] = msgspec.json.decode((story.folder / "keys.json").read_bytes())
    keys = {int(number): base64.b64decode(key) for number, key in kept["keys"].items()}
    phone = PhoneMethod(Keyring(keys, active=1), Method.SMS)
    assert phone.verify(CODE, user=records.user, token=records.token)
    fields = str(records.user.id).encode(), records.token.id, b"SMS", PHONE.encode(), CODE.encode()
    assert Keyring(keys, active=1).digest(Purpose.CODE, *fields) == state.code.digest
    for guessed in (bytes(32), bytes(range(32))):
        ring = Keyring({1: guessed}, active=1)
        assert ring.digest(Purpose.CODE, *fields) != state.code.digest
        with pytest.raises(Tampered):
            PhoneMethod(ring, Method.SMS).verify(CODE, user=records.user, token=records.token)


# --- a thief who can write --------------------------------------------------------------------


@dataclass(frozen=True)
class Victims:
    """Two users with everything enrolled, and an OTT with a live code each."""

    folder: Path
    people: tuple[tuple[int, str], tuple[int, str]]


PINS = (PIN, WRONG_PIN)
FINGERPRINTS = (FINGERPRINT, WRONG_FINGERPRINT)
TOKENS = ("first-bearer", "second-bearer")


@pytest.fixture
def victims(tmp_path: Path) -> Victims:
    folder = tmp_path / "data"
    people = []
    with Running("--data", folder) as server, Wire(server.address) as wire:
        for number in (0, 1):
            person = Person.make(
                wire, token=TOKENS[number], pin=PINS[number], deviceFingerprints=[FINGERPRINTS[number]]
            )
            ott = person.pay().ott
            person.trigger(ott)
            people.append((person.user_id, ott))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    return Victims(folder, (people[0], people[1]))


def with_the_secret_of(other: Credential, mine: Credential) -> Credential:
    match mine:
        case Pin() | Phone():
            assert isinstance(other, Pin | Phone)
            return replace(mine, sealed=other.sealed)
        case DeviceFingerprint():
            assert isinstance(other, DeviceFingerprint)
            return replace(mine, sealed=other.sealed)
        case _:
            raise TypeError(mine)


class Thief:
    """Writes into the file as if it were his; checksums and all."""

    def __init__(self, victims: Victims) -> None:
        self._file = apsw.Connection(str(victims.folder / "watchword.db"))
        self._people = victims.people

    def close(self) -> None:
        self._file.close()

    def user(self, number: int) -> UserSecurity:
        row = (self._people[number][0],)
        return codec.decode_user(self._file.execute("SELECT body FROM user WHERE id = ?", row).get)

    def token(self, number: int) -> OneTimeToken:
        row = (identified(self._people[number][1]),)
        return codec.decode_token(self._file.execute("SELECT body FROM token WHERE id = ?", row).get)

    def swap_credentials(self, kind: type, *, whole: bool) -> None:
        """Swap two users' credentials of a kind, or only what is secret in them."""
        users = [self.user(0), self.user(1)]
        theirs = [next(entry for entry in user.credentials if isinstance(entry, kind)) for user in users]
        for number, user in enumerate(users):
            mine, other = theirs[number], theirs[1 - number]
            put = other if whole else with_the_secret_of(other, mine)
            credentials = tuple(put if entry is mine else entry for entry in user.credentials)
            self._write(replace(user, credentials=credentials))

    def move_code(self) -> None:
        """Put the second user's live code into the first user's token."""
        mine, theirs = self.token(0), self.token(1)
        assert isinstance(mine.state, Pending)
        assert isinstance(theirs.state, Pending)
        assert mine.state.code is not None
        assert theirs.state.code is not None
        code = replace(mine.state.code, digest=theirs.state.code.digest)
        body = codec.encode_token(replace(mine, state=replace(mine.state, code=code)))
        self._file.execute("UPDATE token SET body = ? WHERE id = ?", (body, mine.id))

    def swap_rows(self) -> None:
        bodies = [codec.encode_user(self.user(0)), codec.encode_user(self.user(1))]
        for (user_id, _), body in zip(self._people, reversed(bodies), strict=True):
            self._file.execute("UPDATE user SET body = ? WHERE id = ?", (body, user_id))

    def _write(self, user: UserSecurity) -> None:
        self._file.execute("UPDATE user SET body = ? WHERE id = ?", (codec.encode_user(user), user.id))


@pytest.fixture
def thief(victims: Victims) -> Iterator[Thief]:
    opened = Thief(victims)
    try:
        yield opened
    finally:
        opened.close()


def attempts(victims: Victims, path: str, field: str, answers: Iterable[str]) -> list[Answer]:
    """Start the sandbox on what the thief left; the first user answers, and the demo people go on."""
    user_id, ott = victims.people[0]
    with Running("--data", victims.folder) as server, Wire(server.address) as wire:
        person = Person(wire, TOKENS[0], user_id, 0)
        sent = [
            person.send(person.about("POST", path, ott, {field: answer} if field else None))
            for answer in answers
        ]
        assert wire.control("GET", f"/sandbox/outbox?userId={user_id}") == []
        ada = Person(wire, "demo-ada", 6146956, 435036)
        assert ada.pay(ott=ada.ready_payment("1234")).status == 201
        assert wire.executions("TRANSFER__FUND") == 1
        assert not any(finds(secret, server.stderr.encode()) for secret in (*PINS, *FINGERPRINTS, *TOKENS))
    return sent


@pytest.mark.attack(179)
def test_who_writes_nothing_fails_nobody(victims: Victims) -> None:
    (answer,) = attempts(victims, "sms/verify", "otpCode", [CODE])
    assert answer.status == 200


NOT_OURS = (503, "service.unavailable")
"""A sealed value that does not open is no wrong answer of the user's: somebody was at the file."""


@pytest.mark.attack(179)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("kind", "path", "field", "answers", "refusal"),
    [
        (Pin, "pin/verify", "pin", PINS, NOT_OURS),
        (Phone, "whatsapp/trigger", "", ("",), NOT_OURS),
        (
            DeviceFingerprint,
            "partner-device-fingerprint/verify",
            "deviceFingerprint",
            FINGERPRINTS,
            NOT_OURS,
        ),
    ],
)
def test_what_was_enrolled_for_one_user_is_nothing_in_anothers_row(
    victims: Victims,
    thief: Thief,
    kind: type,
    path: str,
    field: str,
    answers: Iterable[str],
    refusal: tuple[int, str],
    whole: bool,
) -> None:
    thief.swap_credentials(kind, whole=whole)
    thief.close()
    sent = attempts(victims, path, field, answers)
    assert {(answer.status, answer.code) for answer in sent} == {refusal}


@pytest.mark.attack(179)
def test_a_code_of_one_token_is_nothing_in_another(victims: Victims, thief: Thief) -> None:
    thief.move_code()
    thief.close()
    (answer,) = attempts(victims, "sms/verify", "otpCode", [CODE])
    assert (answer.status, answer.code) == (400, "otp.incorrect")


@pytest.mark.attack(179)
def test_a_row_under_another_users_id_is_no_answer_at_all(victims: Victims, thief: Thief) -> None:
    thief.swap_rows()
    thief.close()
    (answer,) = attempts(victims, "sms/verify", "otpCode", [CODE])
    assert (answer.status, answer.code) == (503, "service.unavailable")
