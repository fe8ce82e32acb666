"""
What can go wrong for a client, by whose doing it is.

    WatchwordError
      + RefusedError                the server said no; `reason` is its code
        - LockedError               too many wrong answers; `retry_after` seconds to wait
        - EnrolmentRequiredError    the user lacks the methods that this action needs
        - TokenGoneError            the one-time token is unknown, expired, spent or somebody else's
        - NotApprovedError          everything was cleared, and the repeated request was refused again
      + DeclinedError               the person, or the resolver for them, gave up
      + UnsupportedChallengeError   no method that this client knows would do
      + ServerError                 the server failed, or answered what the protocol does not allow
      + TransportError              an exchange could not be made safely
        - RedirectedError           a call that carries a secret was answered with a redirect

A network that fails raises the HTTP library's own error, as for any other request.
No error holds a secret or a one-time token, in its text or elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class WatchwordError(Exception):
    """Everything that this package raises on purpose."""


class RefusedError(WatchwordError):
    """
    The server refused. A reason that this version does not know is kept as it came.

    Attributes:
        reason: The server's error code, `""` when it gave none.
        message: The server's own words, for people.
        status: The HTTP status.
        arguments: What the server added to the code, for example the methods to enrol.
        retry_after: Seconds after which it is worth trying again, if the server said so.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int,
        message: str = "",
        arguments: Sequence[Any] = (),
        retry_after: int | None = None,
    ) -> None:
        self.reason = reason
        self.status = status
        self.message = message
        self.arguments = tuple(arguments)
        self.retry_after = retry_after
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        """Say it in one line."""
        text = self.reason or f"HTTP {self.status}"
        if self.message:
            text += f": {self.message}"
        if self.retry_after is not None and str(self.retry_after) not in self.message:
            text += f" (try again in {self.retry_after} s)"
        return text


class LockedError(RefusedError):
    """Too many wrong answers. Nothing helps but waiting; a right answer is refused as well."""


class EnrolmentRequiredError(RefusedError):
    """The user has not enrolled enough for this action. `arguments` names the methods that would do."""

    def _sentence(self) -> str:
        methods = ", ".join(str(argument) for argument in self.arguments)
        return super()._sentence() + (f" ({methods})" if methods else "")


class TokenGoneError(RefusedError):
    """The one-time token cannot be used any more. Make the original request again to get a new one."""


class NotApprovedError(RefusedError):
    """
    The repeated request was refused although every challenge was passed.

    The client stops here: asking the person again would most likely end the same way.
    """


class DeclinedError(WatchwordError):
    """The person gave up, or the resolver has no answer to what was asked."""


class UnsupportedChallengeError(WatchwordError):
    """
    A challenge can be passed only by methods that this client does not know.

    Attributes:
        methods: What the server offered.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self.methods = tuple(methods)
        hint = " (a signature needs a signing_key)" if "SIGNATURE" in self.methods else ""
        super().__init__(f"no usable method among: {', '.join(self.methods)}{hint}")


class ServerError(WatchwordError):
    """
    The server failed or broke the protocol.

    Attributes:
        status: The HTTP status of the answer.
        reason: The server's error code, `""` when it gave none.
        retry_after: Seconds after which it is worth trying again, if the server said so.
    """

    def __init__(
        self, message: str, *, status: int, reason: str = "", retry_after: int | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{message} (HTTP {status})")


class TransportError(WatchwordError):
    """An exchange could not be made safely."""


class RedirectedError(TransportError):
    """A call that carries a secret was answered with a redirect, which was not followed."""
