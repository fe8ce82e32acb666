"""
The client: an httpx `Auth` that clears step-ups, and who answers its questions.

    client = httpx2.Client(auth=Auth(TerminalResolver(), token="…"))

`RequestsAuth` is the same for requests and niquests. `Enrolment` has the calls that change credentials.
"""

from __future__ import annotations

from watchword.client.auth import Auth
from watchword.client.enrolment import (
    DeviceFingerprint,
    Enrolment,
    PhoneNumber,
    PublicKey,
    perform,
    perform_async,
)
from watchword.client.envelope import Jose
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
from watchword.client.requests_auth import RequestsAuth
from watchword.client.resolver import AsyncResolver, Resolver, StaticResolver
from watchword.client.terminal import TerminalResolver

__all__ = [
    "AsyncResolver",
    "Auth",
    "Choice",
    "DeclinedError",
    "DeviceFingerprint",
    "Enrolment",
    "EnrolmentRequiredError",
    "Instead",
    "Jose",
    "LockedError",
    "NotApprovedError",
    "PhoneNumber",
    "Problem",
    "PublicKey",
    "RedirectedError",
    "RefusedError",
    "RequestsAuth",
    "Resolver",
    "SecretQuestion",
    "ServerError",
    "StaticResolver",
    "TerminalResolver",
    "TokenGoneError",
    "TransportError",
    "UnsupportedChallengeError",
    "WatchwordError",
    "perform",
    "perform_async",
]
