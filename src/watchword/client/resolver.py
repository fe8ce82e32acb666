"""Who answers the questions of a step-up: the interface, and a resolver with fixed answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from watchword.client.encoding import ROUTES
from watchword.client.errors import DeclinedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchword.client.protocol import Choice, Instead, SecretQuestion


class Resolver(Protocol):
    """
    Answers for the person, and may wait for them.

    Raise `DeclinedError` to give up; any exception ends the request that asked.
    With an asynchronous client the methods run in a worker thread.
    """

    def choose(self, choice: Choice, /) -> str:
        """Return one of `choice.methods`. Only now may a phone message be sent."""
        ...

    def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
        """Return the PIN, code, fingerprint or face map, or what is wanted instead."""
        ...


class AsyncResolver(Protocol):
    """`Resolver` for asynchronous applications. It cannot serve a synchronous client."""

    async def choose(self, choice: Choice, /) -> str:
        """Return one of `choice.methods`. Only now may a phone message be sent."""
        ...

    async def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
        """Return the PIN, code, fingerprint or face map, or what is wanted instead."""
        ...


class StaticResolver:
    """
    Answers from values given beforehand: for scripts and tests.

    It picks the first method offered for which it has a value, and gives up on the first problem
    instead of spending the user's attempts on the same wrong value.
    """

    def __init__(
        self,
        *,
        pin: str | None = None,
        device_fingerprint: str | None = None,
        otp_code: str | Callable[[SecretQuestion], str] | None = None,
        face_map: bytes | str | Callable[[SecretQuestion], bytes | str] | None = None,
    ) -> None:
        """
        Keep the answers.

        Args:
            pin: For `PIN`.
            device_fingerprint: For `PARTNER_DEVICE_FINGERPRINT`.
            otp_code: For the phone methods: the code, or a function that fetches it once it was sent.
                Without it no phone message is ever asked for.
            face_map: For `FACE_MAP`: bytes, or what is base64 already, or a function that takes the picture.
        """
        self._pin = pin
        self._device_fingerprint = device_fingerprint
        self._otp_code = otp_code
        self._face_map = face_map

    def choose(self, choice: Choice, /) -> str:
        """Return the first method that there is a value for."""
        if choice.problem is not None:
            raise DeclinedError(_refused(choice.problem.reason))
        for method in choice.methods:
            if self._answer_for(method) is not None:
                return method
        raise DeclinedError(f"no answer was given for any of: {', '.join(choice.methods)}")

    def secret(self, question: SecretQuestion, /) -> str | bytes:
        """Return the value for the method picked."""
        if question.problem is not None:
            raise DeclinedError(_refused(question.problem.reason))
        answer = self._answer_for(question.method)
        if answer is None:
            raise DeclinedError(f"no answer was given for {question.method}")
        return answer if isinstance(answer, (str, bytes)) else answer(question)

    def _answer_for(self, method: str) -> str | bytes | Callable[[SecretQuestion], str | bytes] | None:
        if method == "PIN":
            return self._pin
        if method == "PARTNER_DEVICE_FINGERPRINT":
            return self._device_fingerprint
        if method == "FACE_MAP":
            return self._face_map
        if method in ROUTES and ROUTES[method].trigger_path is not None:
            return self._otp_code
        return None


def _refused(reason: str) -> str:
    return f"the fixed answer was refused: {reason}"
