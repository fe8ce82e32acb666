"""What is special to `RequestsAuth`; the suites of `Auth` run over it too."""

from __future__ import annotations

import io
from typing import Any

import httpx2 as httpx
import pytest
import requests

from tests.client.fake import (
    BEARER,
    ELSEWHERE,
    HOME,
    PIN,
    AsyncPerson,
    FakeAdapter,
    FakeServer,
    Person,
    iterate,
    redirect,
    session_for,
)
from watchword.client import RequestsAuth, StaticResolver

URL = f"{HOME}/v3/payments"


def auth(**options: Any) -> RequestsAuth:
    return RequestsAuth(StaticResolver(pin=PIN), token=BEARER, **options)


def test_a_single_request_can_have_it() -> None:
    server = FakeServer()
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", FakeAdapter(server))
        assert session.post(URL, json={"a": 1}, auth=auth()).status_code == 201
        assert session.get(URL).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        lambda: iterate([b"one,", b"\x00\xff,", b"three"]),
        lambda: io.BytesIO(b"one,\x00\xff,three"),
    ],
    ids=["chunks", "file"],
)
def test_a_body_that_can_be_read_once_is_sent_twice(body: Any) -> None:
    server = FakeServer()
    with session_for(server, auth()) as session:
        assert session.post(URL, data=body()).status_code == 201
    first, again = server.exchanges[0], server.exchanges[-1]
    assert first.body == again.body == b"one,\x00\xff,three"
    assert first.headers["content-length"] == again.headers["content-length"] == "12"
    assert "transfer-encoding" not in first.headers


def test_a_file_of_text_is_sent_as_text() -> None:
    server = FakeServer()
    with session_for(server, auth()) as session:
        session.post(URL, data=io.StringIO("grüße"))
    assert server.executions == ["grüße".encode()]


def test_a_prepared_request_can_be_sent_many_times() -> None:
    server = FakeServer(scripts={"/v3/payments": [None, redirect("/after", 303)], "/after": [None, None]})
    with session_for(server, auth()) as session:
        prepared = session.prepare_request(requests.Request("POST", URL, data=b"pay"))
        assert session.send(prepared).status_code == 403
        assert session.send(prepared).status_code == 201
        assert session.send(prepared).status_code == 201
    assert server.executions == [b"pay", b"pay"]


def test_the_refusal_stands_in_the_history_of_the_answer() -> None:
    server = FakeServer()
    with session_for(server, auth()) as session:
        answer = session.post(URL)
    assert [response.status_code for response in answer.history] == [403]
    assert answer.request.headers["x-2fa-approval"] in server.issued


def test_cookies_go_with_the_call_and_not_with_what_is_beside_it() -> None:
    server = FakeServer()
    with session_for(server, auth()) as session:
        session.post(URL, cookies={"c": "1"})
    assert ["cookie" in exchange.headers for exchange in server.exchanges] == [True, False, False, True]


def test_verification_and_timeouts_are_the_callers_own() -> None:
    seen: list[dict[str, Any]] = []

    class Watching(FakeAdapter):
        def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:  # type: ignore[override] # as its base
            seen.append(how)
            return super().send(request, **how)

    with session_for(FakeServer(), auth()) as session:
        session.mount("https://", Watching(FakeServer()))
        session.post(URL, timeout=3, verify="/ca.pem", cert="/me.pem", stream=True)
    assert len(seen) == 4
    assert all(how == seen[0] for how in seen)
    assert (seen[0]["timeout"], seen[0]["verify"], seen[0]["cert"]) == (3, "/ca.pem", "/me.pem")


def test_what_is_for_the_application_alone_stays_unread() -> None:
    class Unread(requests.Response):
        @property
        def content(self) -> bytes:
            raise AssertionError("nobody may read this but the application")

    class Streaming(FakeAdapter):
        def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:  # type: ignore[override] # as its base
            answer = super().send(request, **how)
            if answer.status_code == 201:
                answer.__class__ = Unread
            return answer

    with session_for(FakeServer(), auth()) as session:
        session.mount("https://", Streaming(FakeServer()))
        assert session.post(URL, stream=True).status_code == 201


def test_an_asynchronous_resolver_cannot_serve_it() -> None:
    asking: Any = AsyncPerson(Person(["PIN"], [PIN]))
    with (
        session_for(FakeServer(), RequestsAuth(asking, token=BEARER)) as session,
        pytest.raises(TypeError, match="asynchronous resolver"),
    ):
        session.post(URL)


def test_a_redirect_to_elsewhere_loses_the_bearer_token_too() -> None:
    server = FakeServer(
        scripts={"/v3/payments": [redirect(f"{ELSEWHERE}/trap")], "/trap": [httpx.Response(204)]}
    )
    with session_for(server, auth()) as session:
        assert session.post(URL).status_code == 204
    assert BEARER not in str(server.exchanges[-1].headers)
