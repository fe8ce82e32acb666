"""
The client: an httpx `Auth` that clears step-ups, and who answers its questions.

    client = httpx2.Client(auth=Auth(TerminalResolver(), token="…"))
"""

from __future__ import annotations

from watchword.client.auth import Auth
from watchword.client.errors import (
    DeclinedError,
    EnrolmentRequiredError,
    LockedError,
    NotApprovedError,
    RedirectedError,
    RefusedError,
    ServerError,
    TokenGoneError,
    TransportError,
    UnsupportedChallengeError,
    WatchwordError,
)
from watchword.client.protocol import Choice, Instead, Problem, SecretQuestion
from watchword.client.resolver import AsyncResolver, Resolver, StaticResolver
from watchword.client.terminal import TerminalResolver

__all__ = [
    "AsyncResolver",
    "Auth",
    "Choice",
    "DeclinedError",
    "EnrolmentRequiredError",
    "Instead",
    "LockedError",
    "NotApprovedError",
    "Problem",
    "RedirectedError",
    "RefusedError",
    "Resolver",
    "SecretQuestion",
    "ServerError",
    "StaticResolver",
    "TerminalResolver",
    "TokenGoneError",
    "TransportError",
    "UnsupportedChallengeError",
    "WatchwordError",
]
