"""
The contract of every provider that carries a code to a phone.

A message is sent from memory after the commit that counted it, and never queued: a lost code
is asked for again.
"""

from dataclasses import dataclass
from typing import Protocol

from watchword.domain.method import Method
from watchword.domain.user import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    A code on its way to a phone.

    Attributes:
        channel: ``SMS``, ``WHATSAPP`` or ``VOICE``.
        to: The number, in E.164 form.
        text: What the person reads or hears; it holds the code.
    """

    channel: Method
    user_id: UserId
    to: str
    text: str
    code: str

    def __repr__(self) -> str:
        """Hide the number and the code."""
        return f"Message({self.channel}, user {self.user_id})"


class DeliveryError(Exception):
    """Nobody could deliver the message; the person may ask again."""


class Delivery(Protocol):
    """Sends messages."""

    async def send(self, message: Message) -> None:
        """
        Send *message*.

        Raises:
            DeliveryError: It was not accepted by anybody.
        """
        ...
