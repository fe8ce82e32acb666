"""Challenges that a signature passes."""

from __future__ import annotations

import base64
from typing import Any

import httpx2 as httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.client import fake_jose
from tests.client.fake import BEARER, ELSEWHERE, PIN, FakeServer, Person, Sender, problem, redirect, refusal
from watchword.client import (
    Auth,
    NotApprovedError,
    RefusedError,
    ServerError,
    StaticResolver,
    UnsupportedChallengeError,
)
from watchword.client.signing import Signer

KEY = fake_jose.private_key()
PEM = fake_jose.private_pem(KEY)
OTT = "be2f6579-9426-480b-9cb7-d8f1116cc8b9"
PAYMENT = "POST /v3/payments?a=%7e1"
STATUS = "GET /v1/one-time-token/status"
PIN_VERIFY = "POST /v1/one-time-token/pin/verify"


def signing_server(*challenges: list[str], **options: Any) -> FakeServer:
    return FakeServer(challenges or [["SIGNATURE"]], signers=[KEY.public_key()], **options)


@pytest.mark.parametrize("key", [PEM, PEM.decode(), KEY], ids=["PEM", "PEM text", "loaded"])
def test_without_anybody_to_ask_a_refused_call_is_signed_and_repeated_at_once(send: Sender, key: Any) -> None:
    server = signing_server()
    response = send(server, signing_key=key, content=b"pay")
    assert response.headers["x-2fa-approval-result"] == "APPROVED"
    assert server.lines == [PAYMENT, PAYMENT]
    first, again = server.exchanges
    token = next(iter(server.issued))
    added = {"x-2fa-approval": token, "x-signature": again.headers["x-signature"]}
    assert again.headers == first.headers | added
    assert server.executions == [b"pay"]


def test_the_signature_is_of_the_tokens_text_alone() -> None:
    signature = Signer(KEY)(OTT)
    KEY.public_key().verify(base64.b64decode(signature, validate=True), OTT.encode(), PKCS1v15(), SHA256())
    assert len(signature) == 344
    assert Signer(PEM)(OTT) == signature


def test_with_somebody_to_ask_the_server_is_asked_first_what_it_wants(send: Sender) -> None:
    server = signing_server()
    assert send(server, Person([], []), signing_key=PEM).status_code == 201
    assert server.lines == [PAYMENT, STATUS, PAYMENT]


def test_what_a_signature_does_not_pass_is_asked_for(send: Sender) -> None:
    server = signing_server(["SIGNATURE"], ["PIN"])
    person = Person(["PIN"], [PIN])
    assert send(server, person, signing_key=PEM).status_code == 201
    assert server.lines == [PAYMENT, STATUS, PIN_VERIFY, PAYMENT]
    assert person.choices[0].remaining == 1
    assert "x-signature" in server.exchanges[-1].headers


def test_a_signature_is_preferred_where_it_would_do(send: Sender) -> None:
    server = signing_server(["PIN", "SIGNATURE"])
    assert send(server, Person([], []), signing_key=PEM).status_code == 201


def test_nothing_is_signed_where_no_signature_is_wanted(send: Sender) -> None:
    server = signing_server(["PIN"])
    assert send(server, Person(["PIN"], [PIN]), signing_key=PEM).status_code == 201
    assert "x-signature" not in server.exchanges[-1].headers


def test_without_a_key_a_signature_is_a_method_that_is_not_known(send: Sender) -> None:
    server = signing_server()
    with pytest.raises(UnsupportedChallengeError, match="signing_key") as caught:
        send(server, StaticResolver(pin=PIN))
    assert caught.value.methods == ("SIGNATURE",)
    assert server.lines == [PAYMENT, STATUS]


@pytest.mark.parametrize("resolver", [None, StaticResolver(pin=PIN)], ids=["alone", "with a resolver"])
def test_a_wrong_signature_is_an_error_and_no_loop(send: Sender, resolver: StaticResolver | None) -> None:
    server = signing_server()
    with pytest.raises(RefusedError) as caught:
        send(server, resolver, signing_key=fake_jose.private_key(1))
    assert caught.value.reason == "signature.incorrect"
    assert server.lines.count(PAYMENT) == 2
    assert server.executions == []


def test_a_server_that_answers_a_signature_with_a_new_token_is_not_signed_for_again(send: Sender) -> None:
    server = signing_server(scripts={"/v3/payments": [None, refusal(OTT)]})
    with pytest.raises(NotApprovedError):
        send(server, signing_key=PEM)
    assert server.lines == [PAYMENT, PAYMENT]


def test_what_is_no_token_is_not_signed(send: Sender) -> None:
    server = signing_server(scripts={"/v3/payments": [refusal(f"{OTT} SIGNATURE")]})
    with pytest.raises(ServerError):
        send(server, signing_key=PEM)
    assert server.lines == [PAYMENT]


def test_an_answer_that_asks_for_nothing_is_not_signed_for(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [problem(403, "forbidden", x_2fa_approval=OTT)]})
    assert send(server, signing_key=PEM).status_code == 403
    assert server.lines == [PAYMENT]


@pytest.mark.parametrize("location", [f"{ELSEWHERE}/after", "/after"])
def test_a_redirect_that_answers_a_signed_call_is_followed_without_the_signature(
    send: Sender, location: str
) -> None:
    after = httpx.Response(200, text="done")
    server = signing_server(scripts={"/v3/payments": [None, redirect(location)], "/after": [after]})
    assert send(server, signing_key=PEM, follow_redirects=True, content=b"pay").text == "done"
    assert "x-signature" in server.exchanges[-2].headers
    assert "x-signature" not in server.exchanges[-1].headers
    assert "x-2fa-approval" not in server.exchanges[-1].headers


def test_a_refusal_from_where_a_redirect_led_gets_no_signature(send: Sender) -> None:
    server = FakeServer(scripts={"/v3/payments": [redirect(f"{ELSEWHERE}/trap")], "/trap": [refusal(OTT)]})
    assert send(server, signing_key=PEM, follow_redirects=True).status_code == 403
    assert len(server.exchanges) == 2
    assert not [e for e in server.exchanges if "x-signature" in e.headers]


ENCRYPTED = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"open sesame"),
)
EC_PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "not a private key"),
        (PEM[:-40], "not a private key"),
        (fake_jose.public_pem(KEY), "not a private key"),
        (ENCRYPTED, "password of the key is missing"),
        (EC_PEM, "an RSA key"),
        (fake_jose.private_pem(fake_jose.private_key(9, 1024)), "at least 2048 bits, this one has 1024"),
    ],
    ids=["nothing", "cut off", "public", "encrypted", "no RSA", "1024 bits"],
)
def test_an_unfit_key_is_refused_at_once_and_not_repeated(key: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Auth(signing_key=key, token=BEARER)
    assert caught.value.__cause__ is None
    assert "BEGIN" not in str(caught.value)


def test_an_encrypted_key_is_read_with_its_password() -> None:
    assert Signer(ENCRYPTED, password=b"open sesame")(OTT) == Signer(KEY)(OTT)
    with pytest.raises(ValueError, match="not its password"):
        Signer(ENCRYPTED, password=b"sesame")


def test_an_auth_with_nobody_to_ask_and_nothing_to_sign_with_is_none() -> None:
    with pytest.raises(ValueError, match="a resolver to ask, or a key to sign with"):
        Auth(token=BEARER)


def test_the_key_does_not_show() -> None:
    auth = Auth(signing_key=PEM)
    assert PEM.decode() not in repr(auth)
    assert "PRIVATE" not in repr(Signer(PEM))
