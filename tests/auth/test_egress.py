"""The way out: bounded in size and time, and not to be led on."""

import asyncio
import logging

import pytest

from tests.auth.support import FakeIssuer, Reply
from tests.listening import listening
from watchword.auth.egress import ANSWER_MAX, Egress, EgressError


async def test_an_answer_of_the_largest_size_is_read_and_one_byte_more_is_not(
    issuer: FakeIssuer, egress: Egress
) -> None:
    issuer.replies["/x"] = Reply(b"x" * ANSWER_MAX)
    assert len(await egress.get(f"{issuer.url}/x")) == ANSWER_MAX
    issuer.replies["/x"] = Reply(b"x" * (ANSWER_MAX + 1))
    with pytest.raises(EgressError, match="over"):
        await egress.get(f"{issuer.url}/x")


async def test_an_answer_that_comes_drop_by_drop_is_not_waited_for() -> None:
    """Each drop comes in time; the whole never does."""
    dropped = 0

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dropped
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            dropped += 1
            await asyncio.sleep(0.02)

    async with listening(drip) as (_, port), Egress(seconds=0.3) as egress:
        with pytest.raises(EgressError, match="no whole answer"):
            await egress.get(f"http://127.0.0.1:{port}/")
    assert dropped > 1


async def test_no_proxy_of_the_environment_gets_between(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeIssuer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        issuer.replies["/x"] = Reply(b"right")
        async with Egress() as egress:
            assert await egress.get(f"{issuer.url}/x") == b"right"
        assert proxy.asked == []


async def test_nothing_is_sent_to_a_place_that_is_not_allowed(egress: Egress) -> None:
    for url in ("http://192.0.2.1/", "file:///etc/passwd", "https://169.254.169.254/", "x"):
        with pytest.raises(EgressError):
            await egress.get(url)


async def test_a_reason_never_holds_what_was_sent(issuer: FakeIssuer, egress: Egress) -> None:
    await issuer.stop()
    with pytest.raises(EgressError) as caught:
        await egress.post(f"{issuer.url}/x", {"token": "the-token"}, user="us", password="the-secret")
    assert "the-" not in str(caught.value)


async def test_the_librarys_own_log_has_no_query(
    issuer: FakeIssuer, egress: Egress, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issuer.replies["/jwks?key=of-the-endpoint"] = Reply(b"{}")
    await egress.get(f"{issuer.url}/jwks?key=of-the-endpoint")
    assert f"{issuer.url}/jwks" in caplog.text
    assert "of-the-endpoint" not in caplog.text


async def test_it_can_be_closed_and_used_again(issuer: FakeIssuer) -> None:
    issuer.replies["/x"] = Reply(b"again")
    egress = Egress()
    for _ in range(2):
        assert await egress.get(f"{issuer.url}/x") == b"again"
        await egress.aclose()
    await egress.aclose()
