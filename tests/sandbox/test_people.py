"""Making users over the control API."""

from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.sandbox.support import SMS, Person, error_code, new_ott
from watchword.domain.credential import PublicKey
from watchword.domain.user import UserId
from watchword.sandbox.app import Sandbox
from watchword.sandbox.people import PUBLISHED_KEY

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
SPKI = KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PKCS1 = KEY.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - to be refused.
CURVE = ec.generate_private_key(ec.SECP256R1()).public_key()


def _pem(key: Any) -> str:
    text: str = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return text


async def _made(client: httpx2.AsyncClient, **body: object) -> dict[str, Any]:
    answer = await client.post("/sandbox/users", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_made_user_can_do_what_he_enrolled_for(client: httpx2.AsyncClient) -> None:
    made = await _made(
        client,
        token="mine",
        userId=42,
        profileIds=[1, 2],
        pin="0000",
        phoneNumber="+6591234567",
        deviceFingerprints=["first", "second"],
    )
    assert made == {
        "token": "mine",
        "userId": 42,
        "profileIds": [1, 2],
        "kind": "user",
        "phoneNumber": "+6591234567",
        "methods": ["PIN", "SMS", "WHATSAPP", "VOICE", "PARTNER_DEVICE_FINGERPRINT"],
    }
    for profile, second in ((1, "first"), (2, "second")):
        mine = Person(client, "mine", profile)
        ott = new_ott(await mine.pay())
        await mine.clear(ott, [("PIN", "0000"), ("PARTNER_DEVICE_FINGERPRINT", second)])
        assert (await mine.pay(ott=ott)).status_code == 201
    (message, *_) = [await client.get("/sandbox/outbox?userId=42")]
    assert message.json() == []


async def test_what_is_left_out_is_made_up_and_never_anothers(client: httpx2.AsyncClient) -> None:
    first = await _made(client, token="first", pin="1234")
    second = await _made(client, token="second", pin="1234")
    assert first["userId"] != second["userId"]
    assert set(first["profileIds"]).isdisjoint(second["profileIds"])
    stranger = Person(client, "second", first["profileIds"][0])
    assert error_code(await stranger.get(stranger.statement)) == "profile.not.allowed"


async def test_what_is_made_up_is_a_number_that_every_json_reader_can_hold(
    client: httpx2.AsyncClient,
) -> None:
    highest = 2**53 - 1
    await _made(client, token="highest", userId=highest, profileIds=[highest])
    made = [await _made(client, token=token) for token in ("first", "second")]
    assert [(each["userId"], each["profileIds"]) for each in made] == [
        (7_000_001, [700_001]),
        (7_000_002, [700_002]),
    ]


async def test_two_users_do_not_share_what_either_passed(client: httpx2.AsyncClient) -> None:
    first = Person(
        client, "first", (await _made(client, token="first", phoneNumber="+6591234567"))["profileIds"][0]
    )
    second = Person(
        client, "second", (await _made(client, token="second", phoneNumber="+6591234568"))["profileIds"][0]
    )
    await first.clear(new_ott(await first.get(first.statement)), SMS)
    assert (await first.get(first.statement)).status_code == 200
    new_ott(await second.get(second.statement))


async def test_a_user_without_anything_can_be_made(client: httpx2.AsyncClient) -> None:
    made = await _made(client, token="bare")
    assert (made["kind"], made["methods"]) == ("user", [])
    bare = Person(client, "bare", made["profileIds"][0])
    answer = await bare.get(bare.statement)
    assert (answer.status_code, error_code(answer)) == (403, "sca.enrolment.required")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"publicKeys": [SPKI]}, "personal"),
        ({"publicKeys": [SPKI], "pin": "1234"}, "user"),
        ({"publicKeys": [SPKI], "phoneNumber": "+6591234567"}, "user"),
        ({"publicKeys": [SPKI], "deviceFingerprints": ["x"]}, "user"),
        ({"publicKeys": [SPKI], "kind": "user"}, "user"),
        ({"pin": "1234", "kind": "personal"}, "personal"),
        ({"pin": "1234"}, "user"),
        ({}, "user"),
    ],
)
async def test_a_token_is_personal_by_default_when_there_are_public_keys_and_nothing_else(
    client: httpx2.AsyncClient, body: dict[str, object], kind: str
) -> None:
    assert (await _made(client, token="mine", **body))["kind"] == kind


async def test_public_keys_are_taken_in_both_forms(client: httpx2.AsyncClient, sandbox: Sandbox) -> None:
    stored = []
    for pem in (SPKI, PKCS1):
        await _made(client, token="mine", userId=42, publicKeys=[pem])
        user = await sandbox.store.user(UserId(42))
        assert user is not None
        (key,) = user.credentials
        assert isinstance(key, PublicKey)
        stored.append(key.spki)
    assert stored[0] == stored[1] == KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def test_a_made_personal_token_is_asked_for_a_signature(client: httpx2.AsyncClient) -> None:
    made = await _made(client, token="mine", publicKeys=[SPKI, PUBLISHED_KEY])
    assert made["methods"] == ["SIGNATURE"]
    mine = Person(client, "mine", made["profileIds"][0])
    assert await mine.challenges(new_ott(await mine.pay())) == [["SIGNATURE"]]


async def test_replacing_a_user_voids_his_tokens_and_ends_his_session(
    client: httpx2.AsyncClient, ada: Person
) -> None:
    await ada.clear(new_ott(await ada.get(ada.statement)), SMS)
    waiting = new_ott(await ada.pay())
    made = await _made(client, token="demo-ada", pin="7777")
    assert (made["userId"], made["profileIds"]) == (6146956, [435036])
    assert (await ada.about("GET", "status", waiting)).status_code == 404
    assert await ada.challenges(new_ott(await ada.get(ada.statement))) == [["PIN"]]


async def test_replacing_a_user_ends_no_lock(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    for _ in range(5):
        await ada.answer("PIN", ott, "9999")
    await _made(client, token="demo-ada", pin="1234")
    assert error_code(await ada.get(ada.statement)) == "sca.locked"


async def test_one_user_may_hold_several_tokens(client: httpx2.AsyncClient, ada: Person) -> None:
    made = await _made(
        client,
        token="adas-other",
        userId=6146956,
        profileIds=[435036, 500],
        pin="1234",
        phoneNumber="+6588888888",
    )
    assert made["profileIds"] == [435036, 500]
    ott = new_ott(await ada.get(ada.statement))
    await Person(client, "adas-other", 500).clear(ott, SMS)
    assert (await ada.get(ada.statement, ott=ott)).status_code == 200
    assert (await Person(client, "demo-ada", 500).get("/v4/profiles/500/balances")).status_code == 200


async def test_a_token_can_be_given_to_another_user(client: httpx2.AsyncClient, grace: Person) -> None:
    await _made(client, token="demo-grace", userId=42, profileIds=[7], pin="1234")
    assert (await grace.get("/v1/me")).json()["id"] == 42
    assert error_code(await grace.get(grace.statement)) == "profile.not.allowed"


GOOD: dict[str, object] = {"token": "mine", "pin": "1234"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"token": None}, "token"),
        ({"token": ""}, "token"),
        ({"token": "two words"}, "token"),
        ({"token": "line\n"}, "token"),
        ({"token": "ünïcode"}, "token"),
        ({"token": "x" * 513}, "token"),
        ({"token": 1}, "token"),
        ({"userId": 0}, "userId"),
        ({"userId": -1}, "userId"),
        ({"userId": 2**53}, "userId"),
        ({"userId": "42"}, "userId"),
        ({"userId": 4.5}, "userId"),
        ({"userId": True}, "userId"),
        ({"profileIds": []}, "profileIds"),
        ({"profileIds": [1, 1]}, "profileIds"),
        ({"profileIds": [2**53]}, "profileIds"),
        ({"profileIds": ["1"]}, "profileIds"),
        ({"profileIds": 1}, "profileIds"),
        ({"profileIds": list(range(1, 60))}, "profileIds"),
        ({"pin": "123"}, "pin"),
        ({"pin": "12345"}, "pin"),
        ({"pin": "12e4"}, "pin"),
        ({"pin": "١٢٣٤"}, "pin"),
        ({"pin": "1234\n"}, "pin"),
        ({"pin": 1234}, "pin"),
        ({"phoneNumber": "6588888888"}, "phoneNumber"),
        ({"phoneNumber": "+65 8888 8888"}, "phoneNumber"),
        ({"phoneNumber": "+0588888888"}, "phoneNumber"),
        ({"phoneNumber": "+12345"}, "phoneNumber"),
        ({"phoneNumber": "+1234567890123456"}, "phoneNumber"),
        ({"deviceFingerprints": ["a", "a"]}, "deviceFingerprints"),
        ({"deviceFingerprints": ["a", "b", "c", "d"]}, "deviceFingerprints"),
        ({"deviceFingerprints": [""]}, "deviceFingerprints"),
        ({"deviceFingerprints": "a"}, "deviceFingerprints"),
        ({"publicKeys": ["not a key"]}, "publicKeys"),
        ({"publicKeys": [SPKI.replace("PUBLIC", "PRIVATE")]}, "publicKeys"),
        ({"publicKeys": [_pem(SHORT)]}, "publicKeys"),
        ({"publicKeys": [_pem(CURVE)]}, "publicKeys"),
        ({"publicKeys": [SPKI, PKCS1]}, "publicKeys"),
        ({"publicKeys": [PUBLISHED_KEY] * 6}, "publicKeys"),
        ({"kind": "application"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"admin": True}, "admin"),
    ],
)
async def test_what_does_not_fit_makes_nobody_and_is_named(
    client: httpx2.AsyncClient, sandbox: Sandbox, change: dict[str, object], path: str
) -> None:
    before = dict(sandbox.world.people.profiles())
    answer = await client.post("/sandbox/users", json=GOOD | change)
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")
    assert answer.json()["errors"][0]["path"].startswith(path)
    assert sandbox.world.people.profiles() == before
    assert (await Person(client, "mine", 1).get("/v1/me")).status_code == 401


async def test_a_user_without_a_token_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/sandbox/users", json={"pin": "1234"})
    assert (answer.status_code, error_code(answer)) == (400, "request.malformed")
    assert answer.json()["errors"][0]["path"] == "token"


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        ("token=mine", "application/x-www-form-urlencoded", 415),
        ('{"token":"mine"}', "text/plain", 415),
        ('{"token":"mine","token":"other"}', "application/json", 400),
        ('{"token":"mine","pin":"1234"', "application/json", 400),
        ('{"token":"\\ud800"}', "application/json", 400),
        ("[" * 40 + "]" * 40, "application/json", 400),
        (f'{{"token":"{"x" * 70_000}"}}', "application/json", 413),
    ],
)
async def test_a_body_that_cannot_be_read_makes_nobody(
    client: httpx2.AsyncClient, content: str, media_type: str, status: int
) -> None:
    answer = await client.post("/sandbox/users", content=content, headers={"content-type": media_type})
    assert answer.status_code == status
    error_code(answer)


async def test_no_answer_repeats_a_secret(client: httpx2.AsyncClient) -> None:
    good = await client.post(
        "/sandbox/users", json={"token": "mine", "pin": "8642", "deviceFingerprints": ["hush"]}
    )
    bad = await client.post(
        "/sandbox/users", json={"token": "mine", "pin": "86420", "deviceFingerprints": ["hush"] * 2}
    )
    for answer in (good, bad):
        assert "8642" not in answer.text
        assert "hush" not in answer.text
