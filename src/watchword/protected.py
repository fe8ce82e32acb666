"""
What every protected call has in common, whoever protects it: its headers and its 403.

The guard protects an application's endpoints, the server its own ones that change credentials.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from watchword import problems, wire
from watchword.asgi import OTT_PATTERN, Headers, Scope
from watchword.domain.instant import Instant
from watchword.engine.engine import StepUp, Wrong
from watchword.problems import Problem

_APPROVAL = wire.APPROVAL.encode()
_SIGNATURE = wire.SIGNATURE.encode()
# Base64 of a signature by the longest key that is enrolled, and room for a careless client's padding.
_SIGNATURE_PATTERN = re.compile(rb"[!-~]{1,2048}")


class HeaderError(Exception):
    """A header cannot be read; carries the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


class SpringError(msgspec.Struct, frozen=True, kw_only=True):
    """The 403 body, in both shapes of the public API at once: errors by code, and the framework's own."""

    timestamp: str
    status: int = 403
    error: str = "Forbidden"
    message: str
    path: str
    errors: tuple[wire.ErrorItem, ...]


def presented_ott(headers: Headers) -> str | None:
    """
    Return the OTT that a request brings.

    Raises:
        HeaderError: It brings two, or what is not a lower-case UUID.
    """
    presented = [value for name, value in headers if name == _APPROVAL]
    if not presented:
        return None
    if len(presented) > 1 or not OTT_PATTERN.fullmatch(presented[0]):
        raise HeaderError(problems.ott_header_invalid(wire.APPROVAL))
    return presented[0].decode("ascii")


def presented_signature(headers: Headers) -> str | None:
    """
    Return the signature that a request brings; whether it is one is for the engine to say.

    Raises:
        HeaderError: It brings two, or what cannot stand in any signature.
    """
    presented = [value for name, value in headers if name == _SIGNATURE]
    if not presented:
        return None
    if len(presented) > 1 or not _SIGNATURE_PATTERN.fullmatch(presented[0]):
        raise HeaderError(problems.malformed("Send one X-Signature header, in Base64 on one line."))
    return presented[0].decode("ascii")


def refused(decision: StepUp | Wrong, scope: Scope, *, now: Instant) -> Problem:
    """Answer a call that may not run yet: with a token to clear, or of a signature that is wrong."""
    if isinstance(decision, Wrong):
        return problems.signature_incorrect(decision)
    message = "This action needs your confirmation. Clear the one-time token, then repeat the request."
    answer = SpringError(
        timestamp=timestamp(now),
        message=message,
        path=path_as_called(scope),
        errors=(wire.ErrorItem(code=wire.Code.SCA_REQUIRED, message=message),),
    )
    headers = {wire.APPROVAL_RESULT: wire.REJECTED, wire.APPROVAL: decision.ott}
    return problems.document(403, answer, headers)


def raw_path(scope: Scope) -> bytes:
    """Return the path as it was sent; some servers leave the query in."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0]


def path_as_called(scope: Scope) -> str:
    """Return the path as it was sent, as text."""
    return raw_path(scope).decode("latin-1")


def timestamp(now: Instant) -> str:
    """Write a moment as the public API does: ``2020-01-03T12:34:56.789+0000``."""
    return f"{_second(now // 1000)}.{now % 1000:03d}+0000"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
