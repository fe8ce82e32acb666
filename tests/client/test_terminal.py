"""The terminal resolver: what a person reads, and what comes of what they type."""

from __future__ import annotations

import base64
import getpass
import io
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.client.fake import BEARER, CODE, FACE, HOME, MASKED, PIN, FakeServer, problem
from watchword.client import (
    Auth,
    Choice,
    DeclinedError,
    Instead,
    Problem,
    SecretQuestion,
    TerminalResolver,
)

PHONE = ("SMS", "WHATSAPP", "VOICE")


class Terminal(io.StringIO):
    """A standard input that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def at_terminal(typed: str) -> tuple[TerminalResolver, io.StringIO]:
    writes = io.StringIO()
    return TerminalResolver(reads=io.StringIO(typed), writes=writes), writes


def choice(*methods: str, **more: Any) -> Choice:
    return Choice(action="TRANSFER__FUND", methods=methods, remaining=more.pop("remaining", 1), **more)


def question(method: str, **more: Any) -> SecretQuestion:
    return SecretQuestion(
        action="TRANSFER__FUND", method=method, alternatives=more.pop("alternatives", ()), **more
    )


def test_a_person_is_walked_through_a_challenge() -> None:
    server = FakeServer([["PIN"], PHONE])
    resolver, writes = at_terminal(f"0000\n{PIN}\n7\n3\nr\nm\n1\n{CODE}\n")
    auth = Auth(resolver, token=BEARER)
    with httpx.Client(auth=auth, transport=httpx.MockTransport(server)) as client:
        assert client.post(f"{HOME}/v3/payments").status_code == 201
    assert [line for line in server.lines if line.endswith("trigger")] == [
        "POST /v1/one-time-token/voice/trigger",
        "POST /v1/one-time-token/voice/trigger",
        "POST /v1/one-time-token/sms/trigger",
    ]
    assert (
        writes.getvalue()
        == f"""\
Confirmation needed for TRANSFER__FUND.
PIN (q to give up): \
That PIN is wrong. Attempts left: 4.
PIN (q to give up): \
How do you want to confirm?
  1  a code by text message (SMS)
  2  a code by WhatsApp
  3  a code by phone call
Number, or q to give up [1]: \
Please type one of the numbers.
Number, or q to give up [1]: \
Code sent to {MASKED}.
Code (r to send again, m for another method, q to give up): \
Code sent to {MASKED}.
Code (r to send again, m for another method, q to give up): \
How do you want to confirm?
  1  a code by text message (SMS)
  2  a code by WhatsApp
  3  a code by phone call
Number, or q to give up [1]: \
Code sent to {MASKED}.
Code (r to send again, m for another method, q to give up): """
    )


def test_enter_picks_the_first_method() -> None:
    assert at_terminal("\n")[0].choose(choice(*PHONE)) == "SMS"


@pytest.mark.parametrize(
    "typed", ["0", "4", "-1", "x", "²", "0010", "1000", "99999999999999999999", "1" * 5000]
)
def test_what_is_no_number_of_the_list_is_asked_for_again(typed: str) -> None:
    resolver, writes = at_terminal(f"{typed}\n2\n")
    assert resolver.choose(choice(*PHONE)) == "WHATSAPP"
    assert writes.getvalue().count("Please type one of the numbers.") == 1


def test_a_pin_alone_needs_no_picking() -> None:
    resolver, writes = at_terminal("")
    assert resolver.choose(choice("PIN")) == "PIN"
    assert "How do you want" not in writes.getvalue()


def test_a_message_is_not_sent_unasked_even_if_there_is_no_other_way() -> None:
    with pytest.raises(DeclinedError):
        at_terminal("q\n")[0].choose(choice("SMS"))


def test_a_person_is_told_how_many_steps_are_left() -> None:
    resolver, writes = at_terminal("1\n")
    resolver.choose(choice(*PHONE, remaining=2))
    assert "(2 steps left)" in writes.getvalue()


def test_why_a_method_failed_is_said_before_the_next_choice() -> None:
    resolver, writes = at_terminal("1\n")
    resolver.choose(choice("SMS", problem=Problem(reason="otp.resend.too.soon", retry_after=17)))
    assert "It is too soon for another code. Try again in 17 s." in writes.getvalue()


def test_an_unknown_problem_is_told_in_the_servers_words_or_its_code() -> None:
    resolver, writes = at_terminal("1\n1\n")
    resolver.choose(choice("SMS", problem=Problem(reason="moon.full", message="The moon is full.")))
    resolver.choose(choice("SMS", problem=Problem(reason="moon.new")))
    assert "The moon is full.\n" in writes.getvalue()
    assert "moon.new\n" in writes.getvalue()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (f"{CODE}\n", CODE),
        (f"  {CODE} \n", CODE),
        (f"\n\n{CODE}\n", CODE),
        ("r\n", Instead.SEND_AGAIN),
        ("R\n", Instead.SEND_AGAIN),
        ("m\n", Instead.ANOTHER_METHOD),
    ],
)
def test_a_code_or_a_wish_can_be_typed(typed: str, expected: str | Instead) -> None:
    asked = question("SMS", sent_to=MASKED, alternatives=("VOICE",))
    assert at_terminal(typed)[0].secret(asked) == expected


def test_nothing_can_be_sent_again_for_a_pin_and_no_other_method_picked_where_there_is_none() -> None:
    resolver, writes = at_terminal("r\nm\n")
    assert resolver.secret(question("PIN")) == "r"
    assert resolver.secret(question("PIN")) == "m"
    assert "again" not in writes.getvalue()


@pytest.mark.parametrize("typed", ["q\n", "Q\n", ""])
def test_giving_up_and_the_end_of_input_end_it(typed: str) -> None:
    with pytest.raises(DeclinedError):
        at_terminal(typed)[0].secret(question("SMS", sent_to=MASKED))
    with pytest.raises(DeclinedError):
        at_terminal(typed)[0].choose(choice(*PHONE))


def test_a_pin_is_not_echoed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[str] = []

    def typed_hidden(prompt: str, stream: object) -> str:
        hidden.append(prompt)
        assert stream is writes
        return PIN

    writes = io.StringIO()
    monkeypatch.setattr(getpass, "getpass", typed_hidden)
    resolver = TerminalResolver(reads=Terminal("echoed\n"), writes=writes)
    assert resolver.secret(question("PIN")) == PIN
    assert hidden == ["PIN (q to give up): "]
    assert resolver.secret(question("SMS", sent_to=MASKED)) == "echoed"


def test_the_end_of_hidden_input_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_prompt: str, stream: object) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(DeclinedError):
        TerminalResolver(reads=Terminal(), writes=io.StringIO()).secret(question("PIN"))


def test_standard_input_and_error_are_used_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n"))
    assert TerminalResolver().choose(choice(*PHONE)) == "WHATSAPP"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a code by WhatsApp" in shown.err


def test_a_server_cannot_drive_the_terminal() -> None:
    hostile = "\x1b[2J\x07\r\n\u202eevil\x9b"
    resolver, writes = at_terminal("1\n1\n")
    problem_seen = Problem(reason=hostile, message=hostile)
    resolver.choose(Choice(action=hostile, methods=("SMS",), remaining=1, problem=problem_seen))
    resolver.secret(question("SMS", sent_to=hostile * 100))
    shown = writes.getvalue().replace("\n", "")
    assert shown.isprintable()
    assert len(shown) < 2000


def test_two_problems_in_a_row_are_both_told() -> None:
    trigger = "/v1/one-time-token/sms/trigger"
    too_soon = problem(429, "otp.resend.too.soon", retry_after="30")
    server = FakeServer([["SMS"]], scripts={trigger: [None, too_soon]})
    resolver, writes = at_terminal(f"1\nr\n000000\n{CODE}\n")
    with httpx.Client(auth=Auth(resolver, token=BEARER), transport=httpx.MockTransport(server)) as client:
        assert client.post(f"{HOME}/v3/payments").status_code == 201
    told = writes.getvalue()
    assert told.index("Try again in 30 s.") < told.index("That code is wrong. Attempts left: 4.")


# ------------------------------------------------------------------------------- face maps


def test_a_face_map_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "my face.bin"
    file.write_bytes(FACE)
    server = FakeServer([["FACE_MAP", "PIN"]])
    resolver, writes = at_terminal(f"1\n{file}\n")
    with httpx.Client(auth=Auth(resolver, token=BEARER), transport=httpx.MockTransport(server)) as client:
        assert client.post(f"{HOME}/v3/payments").status_code == 201
    assert "  1  a face map, from a file\n" in writes.getvalue()
    assert "File with the face map (m for another method, q to give up): " in writes.getvalue()


def test_a_file_that_holds_base64_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "face.txt"
    file.write_bytes(base64.encodebytes(FACE * 30))
    resolver, _ = at_terminal(f"{file}\n")
    assert resolver.secret(question("FACE_MAP")) == base64.b64encode(FACE * 30).decode()


@pytest.mark.parametrize(
    "name", ["", "no such file", "\0", "~nobody-of-that-name/face", "{folder}", "/dev/zero"]
)
def test_what_is_no_file_is_said_and_asked_for_again(tmp_path: Path, name: str) -> None:
    file = tmp_path / "face.bin"
    file.write_bytes(FACE)
    resolver, writes = at_terminal(f"{name.format(folder=tmp_path)}\n{file}\n")
    assert resolver.secret(question("FACE_MAP")) == FACE
    told = writes.getvalue()
    assert told.count("File with the face map") == 2
    assert ("Cannot read" in told or "is no file" in told) is bool(name)
    assert told.replace("\n", "").isprintable()


def test_a_file_may_be_empty_or_too_large_for_a_face(tmp_path: Path) -> None:
    for size in (0, 4 * 1024 * 1024 + 1):
        file = tmp_path / "face.bin"
        file.write_bytes(bytes(size))
        resolver, writes = at_terminal(f"{file}\nq\n")
        with pytest.raises(DeclinedError):
            resolver.secret(question("FACE_MAP"))
        assert "is no file of up to 4 MiB." in writes.getvalue()


def test_a_face_that_was_not_recognised_is_said() -> None:
    resolver, writes = at_terminal("m\n")
    seen = Problem(reason="facemap.incorrect", attempts_left=4)
    assert (
        resolver.secret(question("FACE_MAP", alternatives=("PIN",), problem=seen)) == Instead.ANOTHER_METHOD
    )
    assert writes.getvalue().startswith(
        "Confirmation needed for TRANSFER__FUND.\nThat face was not recognised."
    )
