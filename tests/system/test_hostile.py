"""Hostile bytes on real sockets: nothing runs unapproved, nobody else has to wait, nothing breaks."""

import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.serving.support import environment
from tests.system.conftest import ADA_PIN
from tests.system.processes import COMMAND, Running
from tests.system.wire import CODE, Person, Wire, encode

PAYMENT = "/v3/profiles/435036/transfers/16521632/payments"
STATEMENT = "/v1/profiles/435036/balance-statements/200001/statement.json"
HEAD = "Host: sandbox.test\r\nAuthorization: Bearer demo-ada\r\n"
ACTIONS = ("TRANSFER__FUND", "BATCH__FUND", "BALANCE__GET_STATEMENT")
END_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _nothing_runs_unapproved(request: pytest.FixtureRequest, server: Running, wire: Wire) -> Iterator[None]:
    """After each test: nothing ran but what the test itself had approved, and the server is well."""
    yield
    allowed: int = getattr(request.node, "approved_runs", 0)
    with Wire(server.address) as after:
        assert after.call("GET", "/v1/me", [("Authorization", "Bearer demo-ada")]).status == 200
        assert sum(after.executions(action) for action in ACTIONS) == allowed
    assert "Traceback" not in server.stderr


def one_run(request: pytest.FixtureRequest) -> None:
    """Let the test have one approved run."""
    request.node.approved_runs = 1


def raw(head: str, body: bytes = b"") -> bytes:
    return head.encode("latin-1") + b"\r\n" + body


def post(*headers: str, body: bytes = b"{}") -> bytes:
    return raw(f"POST {PAYMENT} HTTP/1.1\r\n{HEAD}" + "".join(f"{line}\r\n" for line in headers), body)


def get(*headers: str, target: str = "/v1/me") -> bytes:
    return raw(f"GET {target} HTTP/1.1\r\n{HEAD}" + "".join(f"{line}\r\n" for line in headers))


CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"

# --- framing ----------------------------------------------------------------------------------


@pytest.mark.attack(94)
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post("Content-Length: 2", "Content-Length: 3"), id="two lengths"),
        pytest.param(post("Content-Length: 2, 2"), id="a list of lengths"),
        pytest.param(post("Content-Length: +2"), id="a length with a sign"),
        pytest.param(post("Content-Length: 0x2"), id="a length in hexadecimal"),
        pytest.param(post("Content-Length: -2"), id="a negative length"),
        pytest.param(post("Content-Length: 99999999999999999999"), id="a length beyond 64 bits"),
        pytest.param(post("Content-Length: 2", "Transfer-Encoding : chunked"), id="a space before the colon"),
        pytest.param(post("Content-Length: 2", "Transfer-Encoding: xchunked"), id="an unknown coding"),
        pytest.param(
            post("Content-Length: 13", "Transfer-Encoding: chunked", body=CHUNKED), id="length and chunks"
        ),
        pytest.param(
            post("Transfer-Encoding: chunked", "Content-Length: 13", body=CHUNKED), id="chunks and length"
        ),
        pytest.param(
            post("Transfer-Encoding: chunked", body=b"2\r\n{}XX0\r\n\r\n"), id="a bad end of a chunk"
        ),
        pytest.param(get("X-A: b", " c"), id="obs-fold"),
        pytest.param(get("X-A: b\rX-B: c"), id="a bare CR"),
        pytest.param(get("X-A: b\0c"), id="a NUL"),
        pytest.param(get("X A: b"), id="a space in a name"),
        pytest.param(get(": b"), id="no name"),
        pytest.param(get(target="v1/me"), id="no slash"),
        pytest.param(get(target="/v1/me x"), id="a space in the target"),
        pytest.param(get(target="/v1/\xff"), id="a raw byte in the target"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
    ],
)
def test_a_message_that_two_parsers_might_frame_differently_is_400_and_the_end(
    wire: Wire, request_: bytes
) -> None:
    wire.send(request_ + get())
    assert wire.receive().status == 400
    assert wire.at_end(), "what followed was taken for another request"


@pytest.mark.attack(94)
def test_chunks_alone_are_refused_and_the_next_request_is_the_next_request(wire: Wire) -> None:
    wire.send(post("Transfer-Encoding: chunked", body=CHUNKED) + get())
    refused = wire.receive()
    assert (refused.status, refused.code) == (400, "request.malformed")
    assert wire.receive().status == 200


@pytest.mark.attack(94)
def test_two_equal_lengths_and_bare_line_feeds_are_one_message_and_protected_as_any(ada: Person) -> None:
    # RFC 9110 section 8.6 and RFC 9112 section 2.2 let a server take these.
    assert ada.send(post("Content-Length: 2", "Content-Length: 2")).ott
    assert ada.send(post("Content-Length: 2", body=b"").replace(b"\r\n", b"\n") + b"{}").ott


@pytest.mark.parametrize(
    "headers",
    [
        ("Authorization: Bearer demo-ada",),
        ("authorization: Bearer demo-grace",),
        ("AUTHORIZATION: Basic x",),
    ],
)
@pytest.mark.parametrize("target", ["/v1/me", STATEMENT, "/v1/one-time-token/status", "/nowhere"])
def test_two_authorizations_are_400(wire: Wire, target: str, headers: Sequence[str]) -> None:
    wire.send(get(*headers, target=target))
    answer = wire.receive()
    assert (answer.status, answer.code) == (400, "request.malformed")


@pytest.mark.attack(91)
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(get(*(f"X-{n}: a" for n in range(10_000))), 431, id="10,000 headers"),
        pytest.param(get(target="/v1/me?" + "a" * 100 * 1024), 414, id="a URL of 100 KiB"),
        pytest.param(
            get(f"One-Time-Token: {'a' * 64 * 1024}", target="/v1/one-time-token/status"),
            400,
            id="an OTT of 64 KiB",
        ),
        pytest.param(
            get(f"x-2fa-approval: {'a' * 64 * 1024}", target=STATEMENT), 400, id="an approval of 64 KiB"
        ),
        pytest.param(
            get("x-2fa-approval: \xff\xfe", target=STATEMENT), 400, id="an approval that is no ASCII"
        ),
        pytest.param(get(*["x-2fa-approval: a"] * 2, target=STATEMENT), 400, id="two approvals"),
        pytest.param(
            get("X-External-Correlation-Id: " + "\xff" * 36), 200, id="a correlation id that is no ASCII"
        ),
        pytest.param(
            post(f"Content-Length: {(1 << 20) + 1}", body=bytes((1 << 20) + 1)), 413, id="1 MiB and 1 byte"
        ),
    ],
)
def test_what_is_too_much_is_refused(wire: Wire, request_: bytes, status: int) -> None:
    wire.send(request_)
    assert wire.receive().status == status


def test_requests_in_one_segment_are_each_judged_by_themselves(
    ada: Person, request: pytest.FixtureRequest
) -> None:
    ott = ada.ready_payment(ADA_PIN)
    ada.wire.send(ada.pay_request(ott=ott) * 3)
    first, second, third = (ada.wire.receive() for _ in range(3))
    assert first.status == 201
    assert len({ott, second.ott, third.ott}) == 3
    one_run(request)


# --- targets and methods ----------------------------------------------------------------------

SPELLINGS = [
    f"{PAYMENT}/",
    f"{PAYMENT};a=b",
    f"{PAYMENT}/.",
    f"{PAYMENT}/x/..",
    f"{PAYMENT}%00",
    f"{PAYMENT}%20",
    f"{PAYMENT}%2F",
    f"{PAYMENT}%3Fa=b",
    f"{PAYMENT}%23a",
    f"{PAYMENT}.json",
    PAYMENT.upper(),
    PAYMENT.replace("payments", "Payments"),
    PAYMENT.replace("payments", "%2570ayments"),
    PAYMENT.replace("/profiles", "\\profiles"),
    PAYMENT.replace("/payments", "\\payments"),
    PAYMENT.replace("/v3", "/v3/%2e%2e/v3"),
    PAYMENT.replace("/v3", "/v3/../v3"),
    PAYMENT.replace("/v3", "/%2e/v3"),
    PAYMENT.replace("/v3", "/v3;x"),
    PAYMENT.replace("/transfers", "/./transfers"),
    PAYMENT.replace("/transfers", "/%2F/transfers"),
    PAYMENT.replace("/payments", "%2Fpayments"),
    PAYMENT.replace("435036", "0435036"),
    PAYMENT.replace("payments", "\N{FULLWIDTH LATIN SMALL LETTER P}".encode().decode("latin-1") + "ayments"),
]
AS_ITSELF = [
    f"http://sandbox.test{PAYMENT}",
    f"http://elsewhere.test{PAYMENT}",
    f"{PAYMENT}#a",
    f"{PAYMENT}?_method=GET",
    PAYMENT.replace("payments", "%70ayments"),
    PAYMENT.replace("/v3", "/%76%33"),
]


@pytest.mark.parametrize("target", SPELLINGS)
def test_no_other_spelling_of_a_protected_path_runs_anything(ada: Person, target: str) -> None:
    ott = ada.ready_payment(ADA_PIN)
    for approval in (None, ott):
        answer = ada.send(ada.request("POST", target, ott=approval, body={"type": "BALANCE"}))
        assert 400 <= answer.status < 500, answer


@pytest.mark.parametrize("target", AS_ITSELF)
def test_what_reaches_the_handler_is_protected_however_it_is_spelt(ada: Person, target: str) -> None:
    assert ada.send(ada.request("POST", target, body={"type": "BALANCE"})).ott


def test_repeated_slashes_are_folded_before_anything_is_judged_or_bound(
    ada: Person, request: pytest.FixtureRequest
) -> None:
    ott = ada.send(ada.request("POST", f"//{PAYMENT[1:].replace('/', '///')}", body={"type": "BALANCE"})).ott
    ada.clear_pin(ott, ADA_PIN)
    ada.send(ada.about("POST", "//v1//one-time-token///sms//trigger", ott))
    verified = ada.send(ada.about("POST", "/v1//one-time-token/sms/verify", ott, {"otpCode": CODE}))
    assert verified.status == 200
    assert ada.pay(ott=ott).status == 201
    one_run(request)


@pytest.mark.attack(7)
@pytest.mark.parametrize("target", [PAYMENT, STATEMENT])
@pytest.mark.parametrize(
    "method",
    ["HEAD", "head", "get", "post", "Post", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "CONNECT"],
)
def test_no_method_runs_anything_unapproved(ada: Person, method: str, target: str) -> None:
    answer = ada.send(ada.request(method, target, body=b"{}" if method.upper() == "POST" else None))
    assert answer.status in {400, 403, 404, 405}, answer
    assert answer.header("x-2fa-approval-result") in {"REJECTED", None}


@pytest.mark.attack(7)
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "post"])
def test_an_approval_of_post_is_none_of_another_method(ada: Person, method: str) -> None:
    ott = ada.ready_payment(ADA_PIN)
    answer = ada.send(ada.request(method, PAYMENT, ott=ott, body={"type": "BALANCE"}))
    assert answer.status in {403, 405}
    assert answer.header("x-2fa-approval-result") in {"REJECTED", None}


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"]
)
def test_no_header_overrides_the_method(ada: Person, header: str) -> None:
    for method, target, other in (("GET", PAYMENT, "POST"), ("POST", STATEMENT, "GET")):
        answer = ada.send(ada.request(method, target, headers={header: other}))
        assert answer.status in {400, 405}, answer


# --- time -------------------------------------------------------------------------------------


def test_half_open_connections_stop_nobody(ada: Person, server: Running) -> None:
    held = []
    for number in range(300):
        wire = Wire(server.address)
        wire.send(post("Content-Length: 100")[: 20 + number])  # Ends in the head, or in the body.
        held.append(wire)
    try:
        started = time.monotonic()
        for _ in range(20):
            assert ada.status(ada.pay().ott).status == 200
        assert time.monotonic() - started < 20
    finally:
        for wire in held:
            wire.close()


@pytest.mark.attack(91)
@pytest.mark.slow
def test_what_comes_a_byte_a_second_is_given_up_and_delays_nobody(ada: Person, server: Running) -> None:
    """Two bodies and a head that never end: 30 seconds each, while others are served."""
    ott = ada.pay().ott
    slow = [
        (408, ada.pay_request(body=b"0" * 500)[:-500]),
        (408, ada.about("POST", "sms/verify", ott, b"0" * 500)[:-500]),
        (None, b"GET /v1/me HTTP/1.1\r\nHost: sandbox.test\r\nX-A: "),
    ]
    waiting: dict[socket.socket, int | None] = {}
    for status, head in slow:
        opened = socket.create_connection(server.address, timeout=END_SECONDS)
        opened.sendall(head)
        waiting[opened] = status
    started = time.monotonic()
    longest = 0.0
    while waiting:
        answered, _, _ = select.select(list(waiting), [], [], 1.0)
        for connection in answered:
            status = waiting.pop(connection)
            first = connection.recv(12)
            # A head that never came has nobody to be answered: it is closed, or told why.
            assert first == f"HTTP/1.1 {status}".encode() or (
                status is None and first in {b"", b"HTTP/1.1 408"}
            )
            connection.close()
        for connection in waiting:
            connection.sendall(b"0")
        before = time.monotonic()
        assert ada.status(ott).status == 200
        longest = max(longest, time.monotonic() - before)
        assert time.monotonic() - started < 45, f"still open: {waiting}"
    assert longest < 5


def test_who_ends_his_side_before_his_body_does_is_answered_400(ada: Person, server: Running) -> None:
    ott = ada.pay().ott
    for request in (
        ada.pay_request(),
        ada.about("POST", "sms/verify", ott, {"otpCode": "000000"}),
        ada.about("POST", "sms/trigger", ott, b"ignored"),
        encode("POST", "/sandbox/users", [("Content-Type", "application/json")], b'{"token":"x"}'),
    ):
        with socket.create_connection(server.address, timeout=END_SECONDS) as connection:
            connection.sendall(request[:-1])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(12) == b"HTTP/1.1 400"
    assert ada.wire.control("GET", "/sandbox/outbox") == []


def test_bytes_that_make_no_sense_break_nothing(server: Running, ada: Person) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ott = ada.pay().ott
    valid = [
        ada.pay_request(),
        ada.get_request(STATEMENT),
        ada.about("POST", "sms/verify", ott, {"otpCode": "000000"}),
        ada.about("GET", "status", ott),
        encode("POST", "/sandbox/users", [("Content-Type", "application/json")], b'{"token":"x"}'),
    ]
    for _ in range(2000):
        request = bytearray(chance.choice(valid))
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(request))
            match chance.randrange(3):
                case 0:
                    request[at] = chance.randrange(256)
                case 1:
                    del request[at : at + chance.randrange(1, 10)]
                case _:
                    request[at:at] = chance.choice(
                        [b"\r\n", b"\0", b"\xff", b" ", b"%", b"{", b'"', b"9" * 20]
                    )
        with socket.create_connection(server.address, timeout=END_SECONDS) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(12)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.0 ")), bytes(
            request
        )


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Running("--data", data) as running, Wire(running.address) as wire, Wire(running.address) as other:
        ada = Person(wire, "demo-ada", 6146956, 435036)
        ott, another = ada.ready_payment(ADA_PIN), ada.pay(body={"type": "BALANCE", "amount": 2.5}).ott
        payment, guess = ada.pay_request(ott=ott), ada.about("POST", "pin/verify", another, {"pin": ADA_PIN})
        wire.send(payment[:-1])
        other.send(guess[:-1])
        with Wire(running.address) as idle:
            # Once this is answered the server has seen the two before it.
            assert idle.call("GET", "/v1/me", [("Authorization", "Bearer demo-ada")]).status == 200
            running.signal(number)
            assert idle.at_end()
        with pytest.raises(OSError, match="refused"):
            Wire(running.address)
        wire.send(payment[-1:])
        other.send(guess[-1:])
        assert wire.receive().status == 201
        assert other.receive().status == 200
        assert running.wait() == 0
        assert running.wait_for_all()
        assert running.stdout.splitlines() == [f"Ready: {running.origin}"]
        assert "rror" not in running.stderr
    with Running("--data", data) as again, Wire(again.address) as wire:
        assert wire.executions("TRANSFER__FUND", ott) == 1
        assert Person(wire, "demo-ada", 6146956, 435036).challenges(another)[0][0] == "SMS"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "sandbox", *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        timeout=END_SECONDS,
    )


def test_a_port_in_use_is_one_line_and_exit_1(server: Running) -> None:
    ended = run("--port", str(server.address[1]))
    assert (ended.returncode, ended.stdout) == (1, "")
    last = ended.stderr.splitlines()[-1]
    assert (
        last == f"watchword sandbox: cannot listen on 127.0.0.1:{server.address[1]}: Address already in use"
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--port", "x"), ("--port", "65536"), ("--port", "-1"), ("--prot", "1"), ("--data",), ("extra",)],
)
def test_an_option_that_makes_no_sense_is_one_line_and_exit_2(arguments: Sequence[str]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("watchword")


def test_what_cannot_be_used_is_one_line_and_exit_1(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("[limits]\nfailures = 6\n", encoding="utf-8")
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "keys.json").write_text("{}", encoding="utf-8")
    for arguments in (
        ("--data", file),
        ("--data", keys),
        ("--config", tmp_path / "missing"),
        ("--config", file),
        ("--host", "192.0.2.1"),
        ("--host", "no such host"),
    ):
        ended = run("--port", "0", *arguments)
        assert (ended.returncode, ended.stdout) == (1, ""), (arguments, ended)
        said = [line for line in ended.stderr.splitlines() if line.startswith("watchword sandbox: ")]
        assert len(said) == 1, (arguments, ended)
        assert "Traceback" not in ended.stderr
