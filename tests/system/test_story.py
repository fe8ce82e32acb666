"""
The main job, from outside and step by step: with curl, with our client, and with a stranger's.

Each of them clears Ada's challenges over the public protocol, against a sandbox that runs in
processes of its own.
"""

import http.client
import json
import os
import pty
import re
import select
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving.support import environment
from tests.system.conftest import ADA_PIN
from tests.system.processes import COMMAND, Running
from tests.system.wire import CODE, Person, Wire
from watchword.client import Auth, Choice, SecretQuestion, StaticResolver

STATEMENT = "/v1/profiles/435036/balance-statements/200001/statement.json"
PAYMENT = "/v3/profiles/435036/transfers/16521632/payments"
BODY = '{"type":"BALANCE"}'
PIN_BODY = json.dumps({"pin": ADA_PIN})
CODE_BODY = json.dumps({"otpCode": CODE})
POSSESSION = ["SMS", "WHATSAPP", "VOICE", "PARTNER_DEVICE_FINGERPRINT"]
TERMINAL_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _from_the_start(wire: Wire) -> None:
    """Put the sandbox back to the start, for those too who never look at the connection."""


# --- curl -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What ``curl -i`` printed."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def ott(self) -> str:
        assert (self.status, self.headers["x-2fa-approval-result"]) == (403, "REJECTED"), self
        return self.headers["x-2fa-approval"]

    def json(self) -> Any:
        return json.loads(self.body)


Curl = Callable[..., Shown]


@pytest.fixture
def call(curl: Path, server: Running) -> Curl:
    """Return curl, with whatever a person would type after it."""

    def run(path: str, *options: str, token: str = "demo-ada") -> Shown:
        line = [str(curl), "-qsSi", "-m", "30", server.origin + path, "-H", f"Authorization: Bearer {token}"]
        printed = subprocess.run(
            [*line, *options], check=True, capture_output=True, env=environment(), encoding="utf-8"
        ).stdout
        head, _, body = printed.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Shown(int(first.split(" ")[1]), headers, body)

    return run


def about(call: Curl, method: str, path: str, ott: str, body: str | None = None) -> Shown:
    """Call about an OTT, as a person types it."""
    options = ["-X", method, "-H", f"One-Time-Token: {ott}"]
    if body is not None:
        options += ["-H", "Content-Type: application/json", "-d", body]
    return call(f"/v1/one-time-token/{path}", *options)


def pay(call: Curl, *, ott: str | None = None, body: str = BODY, token: str = "demo-ada") -> Shown:
    approval = [] if ott is None else ["-H", f"x-2fa-approval: {ott}"]
    return call(PAYMENT, "-H", "Content-Type: application/json", "-d", body, *approval, token=token)


def challenges(status: Shown) -> list[list[str]]:
    assert status.status == 200, status
    return [
        [entry["primaryChallenge"]["type"], *(other["type"] for other in entry["alternatives"])]
        for entry in status.json()["oneTimeTokenProperties"]["challenges"]
    ]


def ready(call: Curl) -> str:
    """Return an OTT of Ada's that is ready for her payment."""
    ott = pay(call).ott
    assert about(call, "POST", "pin/verify", ott, PIN_BODY).status == 200
    assert about(call, "POST", "sms/trigger", ott).status == 200
    assert about(call, "POST", "sms/verify", ott, CODE_BODY).status == 200
    return ott


@pytest.mark.attack(1)
def test_curl_reads_a_statement_after_one_challenge_and_then_within_the_session(
    call: Curl, wire: Wire
) -> None:
    refused = call(STATEMENT)
    ott = refused.ott
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ott)
    assert refused.headers["cache-control"] == "no-store"
    assert refused.headers["x-watchword-sandbox"] == "true"
    assert re.fullmatch(r"[0-9a-f]{32}", refused.headers["x-trace-id"])
    assert refused.json()["path"] == STATEMENT

    status = about(call, "GET", "status", ott)
    assert challenges(status) == [["PIN", *POSSESSION]]
    properties = status.json()["oneTimeTokenProperties"]
    assert (properties["oneTimeToken"], properties["actionType"], properties["userId"]) == (
        ott,
        "BALANCE__GET_STATEMENT",
        6146956,
    )
    assert 3590 < properties["validity"] <= 3600

    assert about(call, "POST", "sms/trigger", ott).body == '{"obfuscatedPhoneNo":"*********8888"}'
    verified = about(call, "POST", "sms/verify", ott, CODE_BODY)
    assert (verified.status, challenges(verified)) == (200, [])
    assert wire.executions("BALANCE__GET_STATEMENT") == 0

    approved = call(STATEMENT, "-H", f"x-2fa-approval: {ott}")
    assert (approved.status, approved.headers["x-2fa-approval-result"]) == (200, "APPROVED")
    assert "x-2fa-approval" not in approved.headers
    assert approved.json()["accountHolder"]["firstName"] == "Ada"
    assert wire.executions("BALANCE__GET_STATEMENT", ott) == 1

    within = call(STATEMENT)
    assert (within.status, within.headers["x-2fa-approval-result"]) == (200, "APPROVED")
    wire.advance(301)
    assert call(STATEMENT).ott != ott
    assert wire.executions("BALANCE__GET_STATEMENT") == 2


@pytest.mark.attack(1)
def test_curl_pays_once_after_two_factors_of_different_kinds(call: Curl, wire: Wire) -> None:
    ott = pay(call).ott
    assert challenges(about(call, "GET", "status", ott)) == [["PIN"], POSSESSION]
    assert challenges(about(call, "POST", "pin/verify", ott, PIN_BODY)) == [POSSESSION]
    assert about(call, "POST", "sms/trigger", ott).status == 200
    assert challenges(about(call, "POST", "sms/verify", ott, CODE_BODY)) == []

    paid = pay(call, ott=ott)
    assert (paid.status, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")
    assert "x-2fa-approval" not in paid.headers
    assert paid.json() == {"type": "BALANCE", "status": "COMPLETED", "errorCode": None}

    again = pay(call, ott=ott)
    assert again.ott != ott
    assert about(call, "GET", "status", ott).json()["errors"][0]["code"] == "ott.not.found"
    assert wire.executions("TRANSFER__FUND") == wire.executions("TRANSFER__FUND", ott) == 1


@pytest.mark.attack(2)
@pytest.mark.attack(4)
@pytest.mark.attack(23)
@pytest.mark.attack(38)
def test_curl_pays_with_no_other_ott(call: Curl, wire: Wire) -> None:
    seen = {ready(call)}

    def refused(answer: Shown) -> str:
        assert answer.ott not in seen
        seen.add(answer.ott)
        return answer.ott

    (spent,) = seen
    assert pay(call, ott=spent).status == 201
    refused(pay(call, ott=spent))

    other_body = ready(call)
    refused(pay(call, ott=other_body, body='{"type":"BALANCE","amount":1}'))
    refused(pay(call, ott=other_body))  # A changed request voids it.

    stranger = Person.make(wire, pin="7391")
    others = stranger.ready_payment("7391")
    refused(pay(call, ott=others))
    assert stranger.pay(ott=others).status == 201  # Her attempt left it as it was.

    unfinished = pay(call).ott
    refused(pay(call, ott=unfinished))
    assert about(call, "POST", "pin/verify", unfinished, PIN_BODY).status == 200
    refused(pay(call, ott=unfinished))

    refused(pay(call, ott="00000000-0000-4000-8000-000000000000"))

    expired = ready(call)
    wire.advance(3600)
    refused(pay(call, ott=expired))
    assert wire.executions("TRANSFER__FUND") == 2  # Hers, and the stranger's own.
    assert wire.executions("TRANSFER__FUND", spent) == 1


# --- our client -------------------------------------------------------------------------------


class Asked:
    """A resolver that remembers what it was asked, and picks SMS."""

    def __init__(self) -> None:
        self.offered: list[tuple[str, ...]] = []
        self.sent_to: list[str | None] = []

    def choose(self, choice: Choice, /) -> str:
        self.offered.append(choice.methods)
        return "SMS" if "SMS" in choice.methods else choice.methods[0]

    def secret(self, question: SecretQuestion, /) -> str:
        self.sent_to.append(question.sent_to)
        return ADA_PIN if question.method == "PIN" else CODE


def test_our_client_clears_a_payment(server: Running, wire: Wire) -> None:
    asked = Asked()
    with httpx2.Client(base_url=server.origin, auth=Auth(asked, token="demo-ada")) as client:
        paid = client.post(PAYMENT, json={"type": "BALANCE"})
        assert (paid.status_code, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")
        assert asked.offered == [("PIN",), tuple(POSSESSION)]
        assert asked.sent_to == [None, "*********8888"]
        assert client.get("/v1/profiles").json()[0]["id"] == 435036
    assert wire.executions("TRANSFER__FUND") == 1
    sent = wire.control("GET", "/sandbox/outbox?userId=6146956")
    assert [(message["channel"], message["code"]) for message in sent] == [("SMS", CODE)]


async def test_our_client_clears_a_statement_asynchronously(server: Running, wire: Wire) -> None:
    auth = Auth(StaticResolver(otp_code=CODE), token="demo-ada")
    async with httpx2.AsyncClient(base_url=server.origin, auth=auth) as client:
        for _ in range(2):
            answer = await client.get(STATEMENT, params={"currency": "EUR"})
            assert (answer.status_code, answer.headers["x-2fa-approval-result"]) == (200, "APPROVED")
    assert wire.executions("BALANCE__GET_STATEMENT") == 2
    assert len(wire.control("GET", "/sandbox/outbox")) == 1  # The second passed within the session.


class Terminal:
    """A terminal with ``watchword call`` on it, and a person before it."""

    def __init__(self, *arguments: str) -> None:
        self._screen, ours = pty.openpty()
        self.process = subprocess.Popen(
            [COMMAND, "call", *arguments],
            stdin=ours,
            stdout=subprocess.PIPE,
            stderr=ours,
            start_new_session=True,  # So that it has no terminal but this one.
            env=environment(),
        )
        os.close(ours)
        self._shown = ""

    def await_text(self, text: str) -> str:
        """Read the screen until *text* stands there; return all up to it."""
        while text not in self._shown:
            readable, _, _ = select.select([self._screen], [], [], TERMINAL_SECONDS)
            assert readable, f"{text!r} never came; the screen shows {self._shown!r}"
            self._shown += os.read(self._screen, 4096).decode()
        before, _, self._shown = self._shown.partition(text)
        return before

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._screen)


@pytest.fixture
def terminal(server: Running) -> Iterator[Terminal]:
    opened = Terminal("POST", server.origin + PAYMENT, "--token", "demo-ada", "--data", BODY)
    try:
        yield opened
    finally:
        opened.close()


def test_a_person_at_a_terminal_is_walked_through_a_payment(terminal: Terminal, wire: Wire) -> None:
    terminal.await_text("Confirmation needed for TRANSFER__FUND")
    terminal.await_text("PIN (")
    terminal.await_text("): ")
    terminal.type("9999")
    assert "9999" not in terminal.await_text("That PIN is wrong. Attempts left: 4.")
    terminal.await_text("PIN (")
    terminal.await_text("): ")
    terminal.type(ADA_PIN)
    terminal.await_text("a code by text message (SMS)")
    terminal.await_text("Number, or q to give up [1]: ")
    assert wire.control("GET", "/sandbox/outbox") == []  # Nothing is sent unasked.
    terminal.type("1")
    terminal.await_text("Code sent to *********8888.")
    terminal.await_text("): ")
    terminal.type(CODE)
    printed, _ = terminal.process.communicate(timeout=TERMINAL_SECONDS)
    assert json.loads(printed) == {"type": "BALANCE", "status": "COMPLETED", "errorCode": None}
    assert terminal.process.returncode == 0
    assert wire.executions("TRANSFER__FUND") == 1


def test_giving_up_at_a_terminal_pays_nothing(terminal: Terminal, wire: Wire) -> None:
    terminal.await_text("PIN (")
    terminal.await_text("): ")
    terminal.type("q")
    printed, _ = terminal.process.communicate(timeout=TERMINAL_SECONDS)
    assert (printed, terminal.process.returncode) == (b"", 1)
    assert wire.executions("TRANSFER__FUND") == 0


# --- a stranger's client ----------------------------------------------------------------------


class Stranger:
    """
    A client written by somebody who only ever read the public protocol.

    It looks at two headers and at nothing else of a refusal; it writes header names in whatever
    case it likes; its retry shares no header with the first call but the access token.
    """

    def __init__(self, server: Running) -> None:
        host, port = server.address
        self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {"aUTHORIZATION": "bearer demo-ada", **headers}.items():
            self._connection.putheader(name, value)
        if body is not None or method == "POST":
            self._connection.putheader("cONTENT-lENGTH", str(len(body or b"")))
        self._connection.endheaders(body)
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def solve(self, ott: str) -> None:
        """Pass challenges until none is left, by phone where that is offered."""
        for _ in range(4):
            status, _, body = self.exchange(
                "GET", "/v1/identity/one-time-token/status", {"ONE-TIME-TOKEN": ott}
            )
            assert status == 200, body
            left = [
                challenge
                for challenge in json.loads(body)["oneTimeTokenProperties"]["challenges"]
                if challenge["required"] and not challenge["passed"]
            ]
            if not left:
                return
            offered = {left[0]["primaryChallenge"]["type"]}
            offered |= {
                other["type"] if isinstance(other, dict) else other for other in left[0]["alternatives"]
            }
            if "WHATSAPP" in offered:
                self._by_phone(ott)
            else:
                self._json("/2027Q1/profiles/435036/pin/verify", ott, {"pin": ADA_PIN})
        pytest.fail("it never ended")

    def _by_phone(self, ott: str) -> None:
        status, _, body = self.exchange(
            "POST", "/v1/one-time-token/whatsapp/trigger", {"oNe-tImE-tOkEn": ott}
        )
        assert (status, json.loads(body)) == (200, {"obfuscatedPhoneNo": "*********8888"})
        self._json("/2026Q3/one-time-token/whatsapp/verify", ott, {"otpCode": CODE})

    def _json(self, target: str, ott: str, document: object) -> None:
        status, _, body = self.exchange(
            "POST",
            target,
            {"One-time-Token": ott, "content-TYPE": "application/json; charset=UTF-8"},
            json.dumps(document).encode(),
        )
        assert status == 200, body


@pytest.fixture
def stranger(server: Running) -> Iterator[Stranger]:
    opened = Stranger(server)
    try:
        yield opened
    finally:
        opened.close()


def test_a_strangers_client_pays(stranger: Stranger, wire: Wire) -> None:
    body = b'{"type": "BALANCE"}'
    status, headers, _ = stranger.exchange(
        "POST", PAYMENT, {"Content-Type": "application/json", "X-First": "1", "Accept": "*/*"}, body
    )
    assert (status, headers["X-2FA-Approval-Result"]) == (403, "REJECTED")
    ott = headers["X-2FA-APPROVAL"]
    stranger.solve(ott)
    status, headers, _ = stranger.exchange("POST", PAYMENT, {"X-2FA-aPPROVAL": ott, "X-Second": "2"}, body)
    assert (status, headers["x-2fa-approval-result"]) == (201, "APPROVED")
    assert wire.executions("TRANSFER__FUND", ott) == 1


def test_a_strangers_client_retries_a_statement_with_another_query(stranger: Stranger, wire: Wire) -> None:
    status, headers, _ = stranger.exchange("GET", f"{STATEMENT}?currency=EUR", {})
    assert status == 403
    ott = headers["x-2fa-approval"]
    stranger.solve(ott)
    status, headers, body = stranger.exchange("GET", f"{STATEMENT}?currency=GBP&t=1", {"X-2Fa-Approval": ott})
    assert (status, headers["x-2fa-approval-result"]) == (200, "APPROVED")
    assert json.loads(body)["query"]["currency"] == "GBP"
    wire.advance(300)
    status, headers, _ = stranger.exchange("GET", f"{STATEMENT}?currency=GBP", {"X-2Fa-Approval": ott})
    assert (status, headers["x-2fa-approval-result"]) == (403, "REJECTED")
    assert headers["x-2fa-approval"] != ott


def test_a_stale_ott_on_an_open_endpoint_is_ignored(stranger: Stranger) -> None:
    stale = {"x-2fa-approval": "00000000-0000-4000-8000-000000000000", "X-Signature": "c3RhbGU="}
    status, headers, _ = stranger.exchange("GET", "/v1/profiles", stale)
    assert status == 200
    assert "x-2fa-approval-result" not in headers


# --- the clock --------------------------------------------------------------------------------


def test_the_session_lasts_exactly_as_long_as_it_says(ada: Person) -> None:
    ott = ada.get(ada.statement).ott
    ada.clear_code(ott)
    ada.wire.advance(290)
    assert ada.get(ada.statement).status == 200
    ada.wire.advance(10)
    ada.get(ada.statement).ott  # noqa: B018 - reading it asserts that it is a refusal.


def test_the_clock_never_goes_back(wire: Wire) -> None:
    before = wire.advance(10)
    for seconds in (-1, -0.001, "10", None, [1]):
        answer = wire.call(
            "POST",
            "/sandbox/clock",
            [("Content-Type", "application/json")],
            json.dumps({"advanceSeconds": seconds}).encode(),
        )
        assert (answer.status, answer.code) == (400, "request.malformed"), answer
    assert wire.advance(0) >= before
