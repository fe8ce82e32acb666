"""
What a method is to the engine.

A method holds keys and no state: it makes the stored form of a credential, and compares an
answer with it. Counting, timing and storing are the domain's and the engine's.
"""

from dataclasses import dataclass
from typing import Protocol

from watchword.domain.token import LiveCode, OneTimeToken
from watchword.domain.user import UserSecurity


class Verifier(Protocol):
    """Compares a user's answer with what is on record."""

    slow: bool
    """Whether a comparison takes long enough to be kept off the event loop."""

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """
        Compare *answer* with what *user* enrolled, or was sent for *token*.

        Takes the same time whether it is right or wrong. Decides nothing and counts nothing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """
    A code that is ready to be sent.

    Attributes:
        code: What is stored of it.
        digits: The code itself; it exists in memory only, and only until it is sent.
        to: The number to send it to.
    """

    code: LiveCode
    digits: str
    to: str

    def __repr__(self) -> str:
        """Hide the digits and the number."""
        return f"Started({self.code.method})"


def row(user_id: int, credential_id: str) -> bytes:
    """Name a credential's row, to bind its sealed form to it."""
    return f"{user_id}/{credential_id}".encode()
