"""The calls beside the protected one: what goes out, what comes back, and what an error means. No I/O."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from watchword import wire
from watchword.client.errors import (
    EnrolmentRequiredError,
    LockedError,
    RefusedError,
    ServerError,
    TokenGoneError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"
JOSE_JSON: Final = "application/jose+json"

T = TypeVar("T")

_OK: Final = 200
_REDIRECTION: Final = 300
_BAD_REQUEST: Final = 400
_SERVER_FAULT: Final = 500
_SECONDS: Final = re.compile(r"[0-9]{1,9}")

# Codes that say more than "no".
KINDS: Final[Mapping[str, type[RefusedError]]] = {
    wire.Code.SCA_LOCKED: LockedError,
    wire.Code.PIN_BLOCKED: LockedError,
    wire.Code.SCA_ENROLMENT_REQUIRED: EnrolmentRequiredError,
    wire.Code.OTT_NOT_FOUND: TokenGoneError,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as far as the protocol cares. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the server did what was asked. A redirect is no success: it is not followed."""
        return _OK <= self.status < _REDIRECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    A call to make.

    Attributes:
        method: HTTP method.
        path: Path and query.
        token: The one-time token that it is about, if any.
        body: The body, JSON or already sealed.
        sealed: Whether the body is a JWE and the answer shall be one. Without a body: the latter.
        bearer: Access token to use in place of the user's.
    """

    method: str
    path: str
    token: str | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    sealed: bool = False
    bearer: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the protocol wants, names in lower case. They win over the caller's own."""
        media_type = JOSE_JSON if self.sealed else JSON
        headers = {"accept": media_type}
        if self.bearer is not None:
            headers["authorization"] = f"Bearer {self.bearer}"
        if self.token is not None:
            headers[wire.ONE_TIME_TOKEN] = self.token
        if self.body is not None:
            headers["content-type"] = media_type
        if self.sealed:
            headers |= {
                wire.JOSE_METHOD: "jwe",
                "accept-encoding": "identity",
                "content-encoding": "identity",
            }
        return headers


Exchange = Generator[Call, Answer, T]


def decode(answer: Answer, shape: type[T]) -> T:
    """
    Return the body of an answer.

    Raises:
        ServerError: It does not have that shape.
    """
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Without the cause: it may quote the body.
        raise ServerError("the server's answer cannot be read", status=answer.status) from None


def error_of(answer: Answer) -> wire.ErrorItem:
    """Return the first error of an answer. One without any known shape has no code."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        errors = msgspec.json.decode(answer.body, type=wire.ErrorAnswer).errors
        if errors:
            return errors[0]
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        bearer = msgspec.json.decode(answer.body, type=wire.BearerErrorAnswer)
        return wire.ErrorItem(code=bearer.error, message=bearer.error_description)
    return wire.ErrorItem(code="")


def refusal(
    answer: Answer, error: wire.ErrorItem | None = None, kind: type[RefusedError] | None = None
) -> RefusedError | ServerError:
    """Return the exception for an answer that ends it."""
    error = error or error_of(answer)
    seconds = retry_after(answer)
    if answer.status >= _SERVER_FAULT or answer.status < _BAD_REQUEST:
        message = error.message or "the server failed"
        return ServerError(message, status=answer.status, reason=error.code, retry_after=seconds)
    return (kind or KINDS.get(error.code, RefusedError))(
        error.code,
        status=answer.status,
        message=error.message,
        arguments=error.arguments or (),
        retry_after=seconds,
    )


def retry_after(answer: Answer) -> int | None:
    """Return after how many seconds it is worth trying again, if the server said so."""
    value = answer.headers.get(wire.RETRY_AFTER, "")
    return int(value) if _SECONDS.fullmatch(value) else None
