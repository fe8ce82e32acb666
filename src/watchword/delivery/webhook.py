"""
Delivery by the operator's own webhook: it is told what to send, and to whom.

One signed POST for each message (https://www.standardwebhooks.com, symmetric signatures), one attempt,
within the request that asked for the code: a person who waits asks again sooner than a queue would.
Whatever is not a plain 2xx in time is «nobody took it». What was sent is never logged.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import httpx2
import msgspec

from watchword.delivery.base import DeliveryError, Message
from watchword.domain.instant import Instant
from watchword.quiet import hide_queries

TIMEOUT_SECONDS = 5.0
AT_ONCE = 20
SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 64 + 1)

_log = logging.getLogger("watchword.delivery")


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    channel: str
    to: str
    text: str
    code: str
    message_id: str
    sent_at: str


_ENCODER = msgspec.json.Encoder()


class Webhook:
    """A ``Delivery`` that leaves the sending to whoever answers at a URL."""

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[bytes],
        now: Callable[[], Instant],
        new_id: Callable[[], str],
        timeout_seconds: float = TIMEOUT_SECONDS,
        at_once: int = AT_ONCE,
    ) -> None:
        """
        Prepare to call *url*; nothing is sent yet.

        Args:
            secrets: Each signs, so that one can be replaced without a gap.
            now: Tells when a message is sent.
            new_id: Draws the ids of messages.
            timeout_seconds: How long one message may take, its turn included.
            at_once: How many messages may be under way; more of them wait.
        """
        self._url = url
        self._secrets = tuple(secrets)
        self._now = now
        self._new_id = new_id
        self._seconds = timeout_seconds
        self._turns = asyncio.Semaphore(at_once)
        hide_queries()
        self._http = httpx2.AsyncClient(
            headers={"content-type": "application/json", "user-agent": "watchword"},
            # The authorities that this machine trusts, a company's own among them.
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=timeout_seconds,
            limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
        )

    async def send(self, message: Message) -> None:
        """
        Hand *message* over.

        Raises:
            DeliveryError: It was not taken.
        """
        now = self._now()
        body, headers = self._signed(message, self._new_id(), now)
        try:
            # A deadline for all of it: the library's own are for each read.
            async with (
                asyncio.timeout(self._seconds),
                self._turns,
                self._http.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                taken, status = answer.is_success, answer.status_code
        except TimeoutError:
            _log.warning("the delivery webhook did not answer within %g s", self._seconds)
            raise DeliveryError from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            _log.warning("the delivery webhook cannot be reached: %s", type(error).__name__)
            raise DeliveryError from None
        if not taken:
            _log.warning("the delivery webhook answered %d", status)
            raise DeliveryError

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    def _signed(self, message: Message, message_id: str, now: Instant) -> tuple[bytes, dict[str, str]]:
        sent_at = datetime.fromtimestamp(now / 1000, UTC)
        body = _ENCODER.encode(
            _Body(
                channel=message.channel.value,
                to=message.to,
                text=message.text,
                code=message.code,
                message_id=message_id,
                sent_at=sent_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            )
        )
        seconds = str(now // 1000)
        content = f"{message_id}.{seconds}.".encode() + body
        signatures = (hmac.digest(secret, content, "sha256") for secret in self._secrets)
        return body, {
            "webhook-id": message_id,
            "webhook-timestamp": seconds,
            "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
        }


def secret_of(line: str) -> bytes:
    """
    Read a secret as Standard Webhooks writes it: ``whsec_`` and Base64 of 24 to 64 bytes.

    Raises:
        ValueError: It is none; says why, and not what it is.
    """
    try:
        secret = base64.b64decode(line.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not line.startswith(SECRET_PREFIX) or len(secret) not in SECRET_BYTES:
        raise ValueError(
            f"must be {SECRET_PREFIX} and Base64 of {SECRET_BYTES.start} to {SECRET_BYTES.stop - 1} bytes;"
            f' make one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return secret
