"""The resolver with fixed answers."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from tests.client.fake import CODE, FACE, FINGERPRINT, MASKED, PIN, FakeServer, Sender
from watchword.client import Choice, DeclinedError, LockedError, Problem, SecretQuestion, StaticResolver


def choice(*methods: str) -> Choice:
    return Choice(action="A", methods=methods, remaining=1)


def test_the_first_method_with_a_value_is_picked() -> None:
    resolver = StaticResolver(device_fingerprint=FINGERPRINT, otp_code=CODE)
    assert resolver.choose(choice("PIN", "VOICE", "SMS", "PARTNER_DEVICE_FINGERPRINT")) == "VOICE"


def test_without_a_code_no_message_is_asked_for() -> None:
    with pytest.raises(DeclinedError, match="SMS, VOICE"):
        StaticResolver(pin=PIN).choose(choice("SMS", "VOICE"))


def test_a_method_it_does_not_know_is_not_picked() -> None:
    with pytest.raises(DeclinedError):
        StaticResolver(pin=PIN, otp_code=CODE).choose(choice("TELEPATHY"))
    with pytest.raises(DeclinedError):
        StaticResolver(pin=PIN).secret(SecretQuestion(action="A", method="TELEPATHY", alternatives=()))


def test_a_value_it_was_not_given_is_not_made_up() -> None:
    with pytest.raises(DeclinedError, match="PIN"):
        StaticResolver(otp_code=CODE).secret(SecretQuestion(action="A", method="PIN", alternatives=()))


def test_a_choice_that_comes_back_is_not_made_again() -> None:
    again = Choice(action="A", methods=("SMS",), remaining=1, problem=Problem(reason="otp.resend.too.soon"))
    with pytest.raises(DeclinedError, match=r"otp\.resend"):
        StaticResolver(otp_code=CODE).choose(again)


def test_device_and_pin_clear_two_challenges(send: Sender) -> None:
    server = FakeServer([["PARTNER_DEVICE_FINGERPRINT"], ["PIN"]])
    assert send(server, StaticResolver(pin=PIN, device_fingerprint=FINGERPRINT)).status_code == 201


def test_a_code_can_be_fetched_once_it_was_sent(send: Sender) -> None:
    asked: list[SecretQuestion] = []

    def fetch(question: SecretQuestion) -> str:
        asked.append(question)
        return CODE

    assert send(FakeServer([["SMS"]]), StaticResolver(otp_code=fetch)).status_code == 201
    assert [question.sent_to for question in asked] == [MASKED]


def test_a_wrong_value_costs_one_attempt_and_no_more(send: Sender) -> None:
    server = FakeServer()
    with pytest.raises(DeclinedError, match=r"pin\.incorrect"):
        send(server, StaticResolver(pin="0000"))
    assert [e.method for e in server.exchanges] == ["POST", "GET", "POST"]


def test_a_wrong_last_attempt_is_a_lock(send: Sender) -> None:
    with pytest.raises(LockedError):
        send(FakeServer(attempts=1), StaticResolver(pin="0000"))


@pytest.mark.parametrize("value", [FACE, base64.b64encode(FACE).decode(), lambda _: FACE])
def test_a_face_map_may_be_bytes_or_base64_or_taken_when_asked_for(
    send: Sender, value: bytes | str | Callable[[SecretQuestion], bytes]
) -> None:
    assert send(FakeServer([["FACE_MAP"]]), StaticResolver(face_map=value)).status_code == 201


def test_without_a_face_map_another_method_is_picked() -> None:
    assert StaticResolver(pin=PIN).choose(choice("FACE_MAP", "PIN")) == "PIN"
    with pytest.raises(DeclinedError, match="FACE_MAP"):
        StaticResolver(pin=PIN).choose(choice("FACE_MAP"))
