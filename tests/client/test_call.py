"""`watchword call`: exit codes, output, and what may stand on its command line."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.client import fake_jose
from tests.client.fake import APPLICATION, BEARER, CODE, FACE, HOME, MASKED, PIN, FakeServer, Person, problem
from watchword.client import Instead, StaticResolver, call

URL = f"{HOME}/v3/payments"


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHWORD_TOKEN", raising=False)
    monkeypatch.delenv("WATCHWORD_APPLICATION_TOKEN", raising=False)


def make_call(server: FakeServer, url: str = URL, **options: Any) -> int:
    options.setdefault("resolver", StaticResolver(pin=PIN))
    return call.call(
        url, token=options.pop("token", BEARER), transport=httpx.MockTransport(server), **options
    )


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    call.add_parser(parser.add_subparsers())
    return parser.parse_args(["call", *arguments])


def test_the_body_goes_to_standard_output_as_it_came(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    server = FakeServer(scripts={"/v3/payments": [None, httpx.Response(200, content=b"\x00\xff\n")]})
    assert make_call(server) == 0
    assert capfdbinary.readouterr() == (b"\x00\xff\n", b"")


def test_json_output_is_one_object_with_status_headers_and_body(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_call(FakeServer(), data='{"amount":1}', as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == 201
    assert shown["approval"] == "APPROVED"
    assert shown["body"] == {"ran": True}
    assert shown["headers"]["content-type"] == "application/json"


def test_json_output_holds_a_body_that_is_no_json_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(scripts={"/v3/payments": [httpx.Response(200, text="a,b")]})
    assert make_call(server, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) | {"headers": {}} == {
        "status": 200,
        "approval": None,
        "headers": {},
        "body": "a,b",
    }


def test_a_person_at_the_terminal_clears_the_challenge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"2\n{CODE}\n"))
    server = FakeServer([["PIN", "SMS"]])
    assert make_call(server, resolver=None) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"ran": True}
    assert f"Code sent to {MASKED}." in shown.err


def test_a_person_may_ask_for_many_codes() -> None:
    server = FakeServer([["SMS"]])
    assert make_call(server, resolver=Person(["SMS"], [*[Instead.SEND_AGAIN] * 30, CODE])) == 0
    assert len(server.exchanges) == 35


def test_on_a_terminal_the_prompt_does_not_stick_to_the_body(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert make_call(FakeServer()) == 0
    assert capsys.readouterr().out == '{"ran":true}\n'


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [(None, None, "GET"), (None, "{}", "POST"), ("put", "{}", "PUT"), ("POST", None, "POST")],
)
def test_the_method_follows_from_the_data_if_it_is_not_given(
    method: str | None, data: str | None, expected: str
) -> None:
    server = FakeServer([])
    assert make_call(server, method=method, data=data) == 0
    assert server.exchanges[-1].method == expected
    assert server.exchanges[-1].body == (data or "").encode()


def test_data_is_json_unless_a_header_says_otherwise() -> None:
    server = FakeServer([])
    make_call(server, data="{}")
    make_call(server, data="<a/>", headers=["Content-Type: application/xml", "X-Empty:"])
    assert server.exchanges[0].headers["content-type"] == "application/json"
    assert server.exchanges[-1].headers["content-type"] == "application/xml"
    assert server.exchanges[-1].headers["x-empty"] == ""


def test_data_may_come_from_a_file_or_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer([])
    path = tmp_path / "body"
    path.write_bytes(b"from \xff file")
    make_call(server, data=f"@{path}")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from \xff input")))
    make_call(server, data="@-")
    assert [server.exchanges[i].body for i in (0, -1)] == [b"from \xff file", b"from \xff input"]


def test_the_token_may_come_from_the_environment_or_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer([])
    assert make_call(server, token=None, headers=[f"authorization: Bearer {BEARER}"]) == 0
    monkeypatch.setenv("WATCHWORD_TOKEN", BEARER)
    assert make_call(server, token=None) == 0
    assert {e.headers["authorization"] for e in server.exchanges} == {f"Bearer {BEARER}"}


def test_a_header_of_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHWORD_TOKEN", "another")
    server = FakeServer([])
    assert make_call(server, token=None, headers=[f"Authorization: Bearer {BEARER}"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": None}, "no token: give --token, or set WATCHWORD_TOKEN"),
        ({"token": "a\nb"}, "the token holds characters that no header may have"),
        ({"url": "bank.example/pay"}, "not an http or https URL: bank.example/pay"),
        ({"url": "ftp://bank.example"}, "not an http or https URL: ftp://bank.example"),
        ({"url": "http://"}, "not an http or https URL: http://"),
        ({"url": "http://[::1"}, "not an http or https URL: http://[::1"),
        ({"base_url": "/sca"}, "not an http or https URL: /sca"),
        ({"method": "G T"}, "not an HTTP method: G T"),
        ({"headers": ["X-Secret"]}, "not a header of the form 'Name: value': X-Secret"),
        ({"headers": ["X: a\r\nY: b"]}, "not a header of the form 'Name: value': X"),
        ({"data": "@/no/such/file"}, "cannot read /no/such/file: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line_with_exit_code_2(
    options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer()
    assert make_call(server, **options) == 2
    assert capsys.readouterr() == ("", f"watchword call: {said}\n")
    assert server.exchanges == []


def test_a_refusal_is_said_in_one_line_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    locked = problem(429, "sca.locked", retry_after="900", x_2fa_approval_result="REJECTED")
    assert make_call(FakeServer(scripts={"/v3/payments": [locked]})) == 1
    assert capsys.readouterr() == (
        "",
        "watchword call: sca.locked: About sca.locked. (try again in 900 s)\n",
    )


def test_a_wait_that_the_server_put_into_words_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    words = {"errors": [{"code": "sca.locked", "message": "Try again in 900 seconds."}]}
    headers = {"x-2fa-approval-result": "REJECTED", "retry-after": "900"}
    locked = httpx.Response(429, headers=headers, json=words)
    assert make_call(FakeServer(scripts={"/v3/payments": [locked]})) == 1
    assert capsys.readouterr().err == "watchword call: sca.locked: Try again in 900 seconds.\n"


def test_an_error_status_is_a_failure_and_its_body_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(scripts={"/v3/payments": [httpx.Response(404, text="no such payment")]})
    assert make_call(server) == 1
    assert capsys.readouterr() == ("no such payment", "watchword call: the server answered 404 Not Found\n")


def test_a_server_that_cannot_be_reached_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    assert make_call(FakeServer(scripts={"/v3/payments": [unreachable]})) == 1
    assert capsys.readouterr().err == f"watchword call: {HOME}: Connection refused\n"


def test_a_servers_words_cannot_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = {"errors": [{"code": "a\nb", "message": "\x1b[2J"}]}
    answer = httpx.Response(403, headers={"x-2fa-approval-result": "REJECTED"}, json=words)
    assert make_call(FakeServer(scripts={"/v3/payments": [answer]})) == 1
    assert capsys.readouterr().err == "watchword call: a b:  [2J\n"


def test_giving_up_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_call(FakeServer(), resolver=StaticResolver()) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupt_ends_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(call, "call", interrupted)
    assert call.run(parse(URL)) == 1
    assert capsys.readouterr().err == "watchword call: interrupted\n"


def test_the_one_time_token_endpoints_may_be_elsewhere() -> None:
    server = FakeServer(prefix="/sca")
    person = Person(["PIN"], [PIN])
    assert make_call(server, base_url="https://sca.example/sca", resolver=person) == 0
    assert server.exchanges[1].url == "https://sca.example/sca/v1/one-time-token/status"


def test_the_command_line_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def remember(url: str, **options: Any) -> int:
        seen.append((url, options))
        return 0

    monkeypatch.setattr(call, "call", remember)
    options = ["--token", "T", "--data", "{}", "--header", "A: 1", "--header", "B: 2", "--json"]
    options += ["--sign", "k.pem", "--jose", "auto", "--server-key", "s.pem", "--application-token", "A"]
    arguments = parse("PUT", URL, *options, "--ott-url", "http://sca.example")
    assert arguments.run(arguments) == 0
    arguments = parse(URL)
    assert arguments.run(arguments) == 0
    assert seen == [
        (
            URL,
            {
                "method": "PUT",
                "token": "T",
                "data": "{}",
                "headers": ["A: 1", "B: 2"],
                "base_url": "http://sca.example",
                "sign": "k.pem",
                "jose": "auto",
                "server_key": "s.pem",
                "application_token": "A",
                "as_json": True,
            },
        ),
        (
            URL,
            {
                "method": None,
                "token": None,
                "data": None,
                "headers": [],
                "base_url": None,
                "sign": None,
                "jose": "off",
                "server_key": None,
                "application_token": None,
                "as_json": False,
            },
        ),
    ]


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    assert "watchword call http://127.0.0.1:8000" in capsys.readouterr().out


KEY = fake_jose.private_key()


def test_a_key_file_signs(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(fake_jose.private_pem(KEY))
    server = FakeServer([["SIGNATURE"]], signers=[KEY.public_key()])
    assert make_call(server, resolver=StaticResolver(), sign=str(file)) == 0
    assert server.lines == ["GET /v3/payments", "GET /v1/one-time-token/status", "GET /v3/payments"]


def test_a_refused_signature_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(fake_jose.private_pem(fake_jose.private_key(1)))
    assert make_call(FakeServer([["SIGNATURE"]], signers=[KEY.public_key()]), sign=str(file)) == 1
    assert capsys.readouterr().err == "watchword call: signature.incorrect: About signature.incorrect.\n"


def test_a_pin_is_encrypted_to_a_key_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server.pem"
    file.write_bytes(fake_jose.public_pem(KEY))
    server = FakeServer(jose="required")
    assert make_call(server, jose="required", server_key=str(file)) == 0
    assert len(server.unsealed) == 1


def test_a_pin_is_encrypted_to_a_key_that_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(jose="required")
    assert make_call(server, jose="auto", application_token=APPLICATION) == 0
    monkeypatch.setenv("WATCHWORD_APPLICATION_TOKEN", APPLICATION)
    assert make_call(server, jose="required") == 0
    assert len(server.unsealed) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sign": "/no/such/key"}, "cannot read /no/such/key: No such file or directory"),
        ({"sign": "{public}"}, "--sign: not a private key in PEM, or not its password"),
        (
            {"jose": "auto", "server_key": "/no/such/key"},
            "cannot read /no/such/key: No such file or directory",
        ),
        (
            {"jose": "auto", "server_key": "{empty}"},
            "--jose: not a public key in PEM, JWK, DER or base64 DER",
        ),
        (
            {"jose": "required"},
            "--jose: encryption needs the server's key, or an application's token to fetch it with",
        ),
        (
            {"jose": "auto", "application_token": "a\nb"},
            "the token holds characters that no header may have",
        ),
    ],
)
def test_a_key_that_will_not_do_is_said_before_anything_is_sent(
    tmp_path: Path, options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "public").write_bytes(fake_jose.public_pem(KEY))
    (tmp_path / "empty").write_bytes(b"")
    files = {"public": tmp_path / "public", "empty": tmp_path / "empty"}
    server = FakeServer()
    assert make_call(server, **{name: value.format(**files) for name, value in options.items()}) == 2
    assert capsys.readouterr() == ("", f"watchword call: {said}\n")
    assert server.exchanges == []


def test_a_face_map_is_asked_for_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "face").write_bytes(FACE)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tmp_path / 'face'}\n"))
    assert make_call(FakeServer([["FACE_MAP"]]), resolver=None) == 0
    assert "File with the face map" in capsys.readouterr().err
