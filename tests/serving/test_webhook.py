"""Codes over the operator's own webhook: signed, once, in time; or nobody took it."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from tests.factories import NOW, FixedClock
from tests.serving.support import WEBHOOK_KEY, Receiver, signature_of
from watchword.delivery.base import DeliveryError, Message
from watchword.delivery.webhook import Webhook, secret_of
from watchword.domain.method import Method
from watchword.domain.user import UserId

MESSAGE = Message(
    channel=Method.SMS, user_id=UserId(7), to="+447700900123", text="483920 is your code", code="483920"
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@asynccontextmanager
async def webhook_to(
    url: str, *secrets: bytes, seconds: float = 5.0, at_once: int = 20
) -> AsyncIterator[Webhook]:
    ids = count(1)
    webhook = Webhook(
        url,
        secrets=secrets or (WEBHOOK_KEY,),
        now=FixedClock().now,
        new_id=lambda: f"message-{next(ids)}",
        timeout_seconds=seconds,
        at_once=at_once,
    )
    try:
        yield webhook
    finally:
        await webhook.aclose()


async def test_a_message_is_handed_over_as_it_is_documented(receiver: Receiver) -> None:
    async with webhook_to(receiver.url) as webhook:
        await webhook.send(MESSAGE)
    (received,) = receiver.received
    assert received.path == "/codes"
    assert received.headers["content-type"] == "application/json"
    assert received.message == {
        "channel": "SMS",
        "to": "+447700900123",
        "text": "483920 is your code",
        "code": "483920",
        "messageId": "message-1",
        "sentAt": "2023-11-14T22:13:20.000Z",
    }


async def test_a_message_is_signed_as_standard_webhooks_says(receiver: Receiver) -> None:
    async with webhook_to(receiver.url) as webhook:
        await webhook.send(MESSAGE)
    (received,) = receiver.received
    assert received.headers["webhook-id"] == "message-1"
    assert received.headers["webhook-timestamp"] == str(NOW // 1000)
    assert received.headers["webhook-signature"] == signature_of(received)
    assert received.headers["webhook-signature"] != signature_of(received, bytes(32))


async def test_every_secret_signs_while_one_is_replaced(receiver: Receiver) -> None:
    other = bytes(24)
    async with webhook_to(receiver.url, WEBHOOK_KEY, other) as webhook:
        await webhook.send(MESSAGE)
    (received,) = receiver.received
    signatures = received.headers["webhook-signature"].split(" ")
    assert signatures == [signature_of(received), signature_of(received, other)]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_means_that_it_was_taken(receiver: Receiver, status: int) -> None:
    receiver.status = status
    async with webhook_to(receiver.url) as webhook:
        await webhook.send(MESSAGE)


@pytest.mark.attack(71)
@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
async def test_anything_else_means_that_nobody_took_it_and_it_is_not_tried_again(
    receiver: Receiver, status: int
) -> None:
    receiver.status = status
    receiver.headers = {"location": receiver.url.replace("/codes", "/elsewhere"), "retry-after": "0"}
    async with webhook_to(receiver.url) as webhook:
        with pytest.raises(DeliveryError):
            await webhook.send(MESSAGE)
    assert [received.path for received in receiver.received] == ["/codes"]


async def test_nobody_listening_means_that_nobody_took_it(receiver: Receiver) -> None:
    async with webhook_to("http://127.0.0.1:1/codes") as webhook:
        with pytest.raises(DeliveryError):
            await webhook.send(MESSAGE)


async def test_a_receiver_that_does_not_answer_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with webhook_to(receiver.url, seconds=0.2) as webhook:
        with pytest.raises(DeliveryError):
            await webhook.send(MESSAGE)


async def test_no_more_messages_are_under_way_than_may_be(receiver: Receiver) -> None:
    """The third waits for its turn, and its time runs out while it does: it is never sent."""
    receiver.gate.clear()
    async with webhook_to(receiver.url, seconds=4.0, at_once=2) as webhook:
        answers = await asyncio.gather(*(webhook.send(MESSAGE) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(answer, DeliveryError) for answer in answers)
    assert len(receiver.received) == 2


@pytest.mark.parametrize("status", [200, 500, None])
async def test_neither_code_nor_number_is_logged(
    receiver: Receiver, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = status or 200
    async with webhook_to(receiver.url if status else "http://127.0.0.1:1/") as webhook:
        outcome = (await asyncio.gather(webhook.send(MESSAGE), return_exceptions=True))[0]
    told = caplog.text + repr(outcome) + repr(getattr(outcome, "__cause__", None))
    assert ("483920" in told, "447700900123" in told) == (False, False)


@pytest.mark.parametrize(("size", "taken"), [(23, False), (24, True), (64, True), (65, False)])
def test_a_secret_has_from_24_to_64_bytes(size: int, taken: bool) -> None:
    line = f"whsec_{b64encode(bytes(size)).decode()}"
    if taken:
        assert secret_of(line) == bytes(size)
    else:
        with pytest.raises(ValueError, match="24 to 64 bytes"):
            secret_of(line)


@pytest.mark.parametrize(
    "line",
    ["", "whsec_", b64encode(bytes(32)).decode(), "whsec_***", f"whpk_{b64encode(bytes(32)).decode()}"],
)
def test_what_is_no_secret_is_refused_and_not_shown(line: str) -> None:
    with pytest.raises(ValueError, match=r"^must be whsec_ and Base64") as caught:
        secret_of(line)
    assert len(line) < 10 or line not in str(caught.value)
