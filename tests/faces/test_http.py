"""A matching server is believed when it says everything, and only then."""

import asyncio
import logging
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.faces.matching_server import FOUND_OUT, Asked, Json, MatchingServer, Reply, failed, scanned
from watchword.domain.instant import Instant, after
from watchword.faces.base import FaceMatcher, FaceUnavailableError, FaceUnusableError
from watchword.faces.http import FaceServer

REFERENCE = "6f2f1d77-0c55-4b8e-9a1d-41a3bb1c2d3e"
KEY = "dZpS-key"
ADA, GRACE, PICTURE_OF_ADA = b"face:ada", b"face:grace", b"photo:ada"


class Clock:
    def __init__(self) -> None:
        self.moment = Instant(1_000_000)

    def now(self) -> Instant:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server() -> AsyncIterator[MatchingServer]:
    async with MatchingServer() as server:
        yield server


def connect(server: MatchingServer, clock: Clock, **settings: float) -> FaceServer:
    return FaceServer(
        server.url,
        api_key=KEY,
        match_level=10,
        now=clock.now,
        breaker_failures=int(settings.get("failures", 5)),
        timeout_seconds=settings.get("timeout", 10.0),
        at_once=int(settings.get("at_once", 8)),
    )


@pytest.fixture
async def faces(server: MatchingServer, clock: Clock) -> AsyncIterator[FaceServer]:
    faces = connect(server, clock)
    yield faces
    await faces.aclose()


def is_matcher(matcher: FaceMatcher) -> bool:
    return matcher.public_key is None


# --- what the server is for -------------------------------------------------------------------


async def test_the_enrolled_face_matches_and_another_does_not(faces: FaceServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    assert await faces.match(template, ADA)
    assert not await faces.match(template, GRACE)


async def test_the_server_learns_a_reference_a_face_map_and_our_key(
    faces: FaceServer, server: MatchingServer
) -> None:
    await faces.enrol(REFERENCE, ADA)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/enrollment-3d")
    assert asked.headers["x-device-key"] == KEY
    body = asked.json()
    assert body.keys() == {"externalDatabaseRefID", "faceScan"}
    assert (body["externalDatabaseRefID"], b64decode(body["faceScan"])) == (REFERENCE, ADA)


async def test_a_match_asks_for_the_reference_of_the_template(
    faces: FaceServer, server: MatchingServer
) -> None:
    await faces.match(await faces.enrol(REFERENCE, ADA), GRACE)
    asked = server.asked[-1]
    assert (asked.method, asked.path) == ("POST", "/match-3d-3d")
    assert asked.json()["externalDatabaseRefID"] == REFERENCE


async def test_a_forgotten_face_is_gone_from_the_server(faces: FaceServer, server: MatchingServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    await faces.forget(template)
    assert server.kept == {}
    assert (server.asked[-1].method, server.asked[-1].path) == ("DELETE", f"/enrollment-3d/{REFERENCE}")


async def test_to_forget_a_face_twice_is_no_fault(faces: FaceServer, server: MatchingServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    await faces.forget(template)
    await faces.forget(template)
    server.always(Reply(status=404))
    await faces.forget(template)


@pytest.mark.parametrize("answer", [failed("The database is away."), {"success": False, "error": False}])
async def test_a_face_that_was_not_deleted_is_not_forgotten(
    faces: FaceServer, server: MatchingServer, answer: Json
) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply.of(answer))
    with pytest.raises(FaceUnavailableError, match="did not delete"):
        await faces.forget(template)


async def test_the_template_holds_nothing_of_the_face(faces: FaceServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    assert template == b"3d\x01" + REFERENCE.encode()


async def test_it_is_a_matcher(faces: FaceServer) -> None:
    assert is_matcher(faces)


@pytest.mark.parametrize("reference", ["", "a/b", "..", "ä", "a" * 129])
async def test_a_reference_that_could_steer_the_path_is_refused(faces: FaceServer, reference: str) -> None:
    with pytest.raises(ValueError, match="a reference is"):
        await faces.enrol(reference, ADA)


@pytest.mark.parametrize(
    "template", [b"", b"ph\x01abc", b"3d\x02abc", b"3d\x01", b"3d\x01../x", b"3d\x01\xff"]
)
async def test_a_template_of_another_matcher_is_no_answer(
    faces: FaceServer, server: MatchingServer, template: bytes
) -> None:
    for call in (faces.match(template, ADA), faces.forget(template)):
        with pytest.raises(FaceUnavailableError):
            await call
    assert server.asked == []


# --- liveness, and the level ------------------------------------------------------------------


async def test_a_picture_is_neither_enrolled_nor_matched(faces: FaceServer, server: MatchingServer) -> None:
    with pytest.raises(FaceUnusableError):
        await faces.enrol(REFERENCE, PICTURE_OF_ADA)
    assert server.kept == {}
    template = await faces.enrol(REFERENCE, ADA)
    with pytest.raises(FaceUnusableError):
        await faces.match(template, PICTURE_OF_ADA)


@pytest.mark.parametrize(
    "check", ["faceScanLivenessCheckSucceeded", "replayCheckSucceeded", "sessionTokenCheckSucceeded"]
)
async def test_a_success_beside_a_failed_check_is_none(
    faces: FaceServer, server: MatchingServer, check: str
) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    checks = {"faceScanSecurityChecks": FOUND_OUT | {check: False}}
    server.always(Reply.of(scanned(matchLevel=15) | checks))
    with pytest.raises(FaceUnusableError):
        await faces.match(template, ADA)


@pytest.mark.parametrize(("level", "matches"), [(9, False), (10, True), (15, True), (0, False), (-1, False)])
async def test_only_the_level_that_is_asked_for_matches(
    faces: FaceServer, server: MatchingServer, level: int, matches: bool
) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply.of(scanned(matchLevel=level)))
    assert await faces.match(template, ADA) is matches


async def test_a_high_level_without_success_is_no_match(faces: FaceServer, server: MatchingServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply.of(scanned(success=False, matchLevel=15)))
    assert await faces.match(template, ADA) is False


async def test_an_enrolment_without_success_is_none(faces: FaceServer, server: MatchingServer) -> None:
    server.always(Reply.of(scanned(success=False)))
    with pytest.raises(FaceUnusableError):
        await faces.enrol(REFERENCE, ADA)


async def test_an_older_server_that_leaves_the_word_processed_out_is_believed(
    faces: FaceServer, server: MatchingServer
) -> None:
    answer = scanned(matchLevel=15)
    del answer["wasProcessed"]
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply.of(answer))
    assert await faces.match(template, ADA)


# --- no answer --------------------------------------------------------------------------------

LIVE = scanned(matchLevel=15)
NO_ANSWERS: dict[str, Json] = {
    "an error": failed("An enrollment does not exist for this externalDatabaseRefID."),
    "an error beside success": LIVE | {"error": True},
    "not processed": LIVE | {"wasProcessed": False},
    "no checks": {name: value for name, value in LIVE.items() if name != "faceScanSecurityChecks"},
    "no checks but null": LIVE | {"faceScanSecurityChecks": None},
    "no liveness": LIVE | {"faceScanSecurityChecks": {"replayCheckSucceeded": True}},
    "no level": scanned(),
    "nothing": {},
    "success as a text": LIVE | {"success": "true"},
    "success as a number": LIVE | {"success": 1},
    "liveness as a text": LIVE | {"faceScanSecurityChecks": {"faceScanLivenessCheckSucceeded": "true"}},
    "level as a truth": LIVE | {"matchLevel": True},
    "level as a text": LIVE | {"matchLevel": "15"},
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_an_answer_that_does_not_say_everything_is_none(
    faces: FaceServer, server: MatchingServer, answer: Json
) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply.of(answer))
    with pytest.raises(FaceUnavailableError):
        await faces.match(template, ADA)


REPLIES = {
    "garbage": Reply(body=b"<html>Welcome</html>"),
    "no object": Reply(body=b"[true]"),
    "empty": Reply(body=b""),
    "not UTF-8": Reply(body=b'{"success": true, "error": false, "errorMessage": "\xff"}'),
    "deep": Reply(body=b'{"more":' + b"[" * 100_000),
    "cut short": Reply(body=b'{"success": tr', length=100, hangs_up=True),
    "hangs up": Reply(body=b"", length=100, hangs_up=True),
    "compressed": Reply(body=b"x", headers={"content-encoding": "gzip"}),
    "server error": Reply.of(LIVE, status=500),
    "overloaded": Reply(status=503),
    "too many requests": Reply(status=429),
    "bad request": Reply(status=400),
    "not known to it": Reply(status=401),
    "created": Reply.of(LIVE, status=201),
    "huge": Reply(body=b" " * (1024 * 1024 + 1)),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_what_is_no_answer_is_neither_a_match_nor_a_failure_of_the_person(
    faces: FaceServer, server: MatchingServer, reply: Reply
) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(reply)
    with pytest.raises(FaceUnavailableError):
        await faces.match(template, ADA)
    with pytest.raises(FaceUnavailableError):
        await faces.enrol("another", ADA)
    with pytest.raises(FaceUnavailableError):
        await faces.forget(template)


async def test_an_answer_of_the_greatest_size_is_still_read(
    faces: FaceServer, server: MatchingServer
) -> None:
    answer = Reply.of(LIVE)
    answer.body += b" " * (1024 * 1024 - len(answer.body))
    template = await faces.enrol(REFERENCE, ADA)
    server.always(answer)
    assert await faces.match(template, ADA)


async def test_an_answer_without_end_is_given_up(faces: FaceServer, server: MatchingServer) -> None:
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply(body=b" " * (2 * 1024 * 1024), length=1024**4))
    with pytest.raises(FaceUnavailableError, match="too large"):
        await faces.match(template, ADA)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(clock: Clock, status: int) -> None:
    async with MatchingServer() as elsewhere, MatchingServer() as server:
        server.always(Reply(status=status, headers={"location": elsewhere.url + "/enrollment-3d"}))
        faces = connect(server, clock)
        with pytest.raises(FaceUnavailableError):
            await faces.enrol(REFERENCE, ADA)
        await faces.aclose()
        assert elsewhere.asked == []


async def test_a_proxy_of_the_environment_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, server: MatchingServer, clock: Clock
) -> None:
    async with MatchingServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        faces = connect(server, clock)
        await faces.enrol(REFERENCE, ADA)
        await faces.aclose()
        assert (len(proxy.asked), len(server.asked)) == (0, 1)


async def test_a_server_that_is_not_there_is_no_answer(clock: Clock) -> None:
    async with MatchingServer() as server:
        faces = connect(server, clock)
    with pytest.raises(FaceUnavailableError, match="ConnectError"):
        await faces.enrol(REFERENCE, ADA)
    await faces.aclose()


async def test_a_server_that_is_slow_is_given_up_in_time(server: MatchingServer, clock: Clock) -> None:
    never = asyncio.Event()

    async def hang(_: Asked) -> Reply:
        await never.wait()
        raise AssertionError("nobody sets it")

    server.answer = hang
    faces = connect(server, clock, timeout=0.05)
    with pytest.raises(FaceUnavailableError, match="in time"):
        await faces.enrol(REFERENCE, ADA)
    await faces.aclose()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and the certificate that it signed for itself, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tmp_path / "server.pem"
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


async def test_over_tls_only_a_server_that_this_machine_trusts_is_asked(
    certificate: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with MatchingServer(tls) as server:
        distrustful = connect(server, clock)
        with pytest.raises(FaceUnavailableError, match="ConnectError"):
            await distrustful.enrol(REFERENCE, ADA)
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = connect(server, clock)
        assert await trusting.enrol(REFERENCE, ADA)
        await distrustful.aclose()
        await trusting.aclose()


# --- many at once -----------------------------------------------------------------------------


async def test_no_more_than_allowed_ask_at_once(server: MatchingServer, clock: Clock) -> None:
    asking, most = 0, 0
    arrived = asyncio.Semaphore(0)
    leave = asyncio.Event()

    async def answer(asked: Asked) -> Reply:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        arrived.release()
        await leave.wait()
        asking -= 1
        return await server.play(asked)

    server.answer = answer
    faces = connect(server, clock, at_once=2)
    enrolments = [asyncio.create_task(faces.enrol(f"ref-{number}", ADA)) for number in range(6)]
    await arrived.acquire()
    await arrived.acquire()
    leave.set()
    await asyncio.gather(*enrolments)
    await faces.aclose()
    assert most == 2
    assert len(server.kept) == 6
    assert server.connections == 2


async def test_who_gets_no_turn_in_time_is_told_so_and_it_is_no_failure_of_the_server(
    server: MatchingServer, clock: Clock
) -> None:
    faces = connect(server, clock, at_once=1, timeout=0.05, failures=1)
    async with faces._turns:  # noqa: SLF001 - somebody has it, for as long as this needs.
        with pytest.raises(FaceUnavailableError, match="turn"):
            await faces.enrol(REFERENCE, ADA)
    assert server.asked == []
    faces._seconds = 10  # noqa: SLF001 - so that a slow machine is no failure.
    assert await faces.enrol(REFERENCE, ADA)
    await faces.aclose()


async def test_a_caller_who_is_gone_gives_his_turn_back(server: MatchingServer, clock: Clock) -> None:
    arrived = asyncio.Event()
    never = asyncio.Event()

    async def answer(_: Asked) -> Reply:
        arrived.set()
        await never.wait()
        raise AssertionError("nobody sets it")

    server.answer = answer
    faces = connect(server, clock, at_once=1, failures=1)
    gone = asyncio.create_task(faces.enrol("first", ADA))
    await arrived.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    server.answer = server.play
    assert await faces.enrol("second", ADA)
    await faces.aclose()


# --- the breaker ------------------------------------------------------------------------------


async def test_after_many_failures_the_server_is_left_alone_then_probed(
    server: MatchingServer, clock: Clock
) -> None:
    faces = connect(server, clock, failures=3)
    template = await faces.enrol(REFERENCE, ADA)
    server.always(Reply(status=500))
    for _ in range(3):
        with pytest.raises(FaceUnavailableError, match="500"):
            await faces.match(template, ADA)
    asked = len(server.asked)
    with pytest.raises(FaceUnavailableError, match="left alone"):
        await faces.match(template, ADA)
    assert len(server.asked) == asked

    clock.moment = after(clock.moment, 30)
    with pytest.raises(FaceUnavailableError, match="500"):
        await faces.match(template, ADA)
    with pytest.raises(FaceUnavailableError, match="left alone"):
        await faces.match(template, ADA)
    assert len(server.asked) == asked + 1

    clock.moment = after(clock.moment, 30)
    server.answer = server.play
    assert await faces.match(template, ADA)
    assert await faces.match(template, ADA)
    await faces.aclose()


@pytest.mark.parametrize(
    "reply", [Reply(status=400), Reply.of(failed("unknown")), Reply.of(scanned(live=False))]
)
async def test_what_is_wrong_with_one_face_map_does_not_shut_out_the_others(
    server: MatchingServer, clock: Clock, reply: Reply
) -> None:
    faces = connect(server, clock, failures=1)
    server.always(reply)
    for _ in range(3):
        with pytest.raises((FaceUnavailableError, FaceUnusableError)):
            await faces.enrol(REFERENCE, ADA)
    server.answer = server.play
    assert await faces.enrol(REFERENCE, ADA)
    await faces.aclose()


# --- what is not told -------------------------------------------------------------------------


async def test_neither_face_nor_key_nor_reference_is_logged_or_quoted(
    faces: FaceServer, server: MatchingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    template = await faces.enrol(REFERENCE, ADA)
    await faces.match(template, ADA)
    server.always(Reply.of(failed(f"{REFERENCE} {KEY} face:ada")))
    with pytest.raises(FaceUnavailableError) as caught:
        await faces.match(template, ADA)
    server.always(Reply(body=b"face:ada"))
    with pytest.raises(FaceUnavailableError) as garbage:
        await faces.match(template, ADA)
    told = caplog.text + repr(caught.value) + repr(garbage.value) + repr(faces)
    for secret in ("face:ada", "ZmFjZTphZGE", KEY, REFERENCE):
        assert secret not in told
    assert garbage.value.__cause__ is None
