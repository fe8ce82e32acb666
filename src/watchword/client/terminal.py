"""A resolver that asks a person at the terminal."""

from __future__ import annotations

import base64
import binascii
import getpass
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchword import wire
from watchword.client.errors import DeclinedError
from watchword.client.protocol import Choice, Instead, Problem, SecretQuestion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_TEXT_MAX: Final = 200
_DIGITS_MAX: Final = 3
# What servers take at most, in base64; and no device or pipe that never ends.
_FILE_BYTES_MAX: Final = 4 * 1024 * 1024

_METHODS: Final[Mapping[str, str]] = {
    "PIN": "your PIN",
    "PARTNER_DEVICE_FINGERPRINT": "the fingerprint of this device",
    "SMS": "a code by text message (SMS)",
    "WHATSAPP": "a code by WhatsApp",
    "VOICE": "a code by phone call",
    "FACE_MAP": "a face map, from a file",
}
_LABELS: Final[Mapping[str, str]] = {
    "PIN": "PIN",
    "PARTNER_DEVICE_FINGERPRINT": "Device fingerprint",
    "FACE_MAP": "File with the face map",
}
_PROBLEMS: Final[Mapping[str, str]] = {
    wire.Code.PIN_INCORRECT: "That PIN is wrong.",
    wire.Code.OTP_INCORRECT: "That code is wrong.",
    wire.Code.DEVICE_FINGERPRINT_INCORRECT: "That device fingerprint is not known.",
    wire.Code.FACEMAP_INCORRECT: "That face was not recognised.",
    wire.Code.FACEMAP_UNUSABLE: "There is no usable face in that file.",
    wire.Code.OTP_EXPIRED: "That code has expired.",
    wire.Code.OTP_NOT_TRIGGERED: "There is no code to check against.",
    wire.Code.OTP_RESEND_TOO_SOON: "It is too soon for another code.",
    wire.Code.OTP_SENDS_EXHAUSTED: "No more codes can be sent for now.",
    wire.Code.OTP_DELIVERY_FAILED: "The code could not be delivered.",
    wire.Code.REQUEST_MALFORMED: "That does not have the right form.",
}


class TerminalResolver:
    """
    Asks on a terminal, in plain words.

    Secrets that stay valid (the PIN, the fingerprint) are not echoed; a code that is spent at once is, and
    the name of a file with a face map. Such a file holds the map as bytes, or as base64 in text.
    What the server says is stripped of control characters before it is shown.
    """

    def __init__(self, *, reads: TextIO | None = None, writes: TextIO | None = None) -> None:
        """
        Set up.

        Args:
            reads: Where answers come from; standard input by default.
            writes: Where questions go; standard error by default, so that standard output stays clean.
        """
        self._reads = reads
        self._writes = writes
        self._action_shown: str | None = None

    def choose(self, choice: Choice, /) -> str:
        """Have the person pick a method. A PIN alone needs no picking; a message is never sent unasked."""
        self._show_action(choice.action)
        self._show_problem(choice.problem)
        if len(choice.methods) == 1 and choice.problem is None and not _sends_message(choice.methods[0]):
            return choice.methods[0]
        left = f" ({choice.remaining} steps left)" if choice.remaining > 1 else ""
        self._say(f"How do you want to confirm{left}?")
        for number, method in enumerate(choice.methods, start=1):
            self._say(f"  {number}  {_words(method)}")
        while True:
            text = self._read("Number, or q to give up [1]: ").strip().lower() or "1"
            if text == "q":
                raise _gave_up()
            # Few digits alone are converted: thousands of them cost time, and int() refuses the most.
            number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0
            if 1 <= number <= len(choice.methods):
                return choice.methods[number - 1]
            self._say("Please type one of the numbers.")

    def secret(self, question: SecretQuestion, /) -> str | bytes | Instead:
        """Ask for the secret, or hear what is wanted instead."""
        self._show_action(question.action)
        self._show_problem(question.problem)
        wishes: dict[str, Instead] = {}
        hints: list[str] = []
        if question.sent_to is not None:
            if question.problem is None:
                self._say(f"Code sent to {_plain(question.sent_to)}.")
            wishes["r"] = Instead.SEND_AGAIN
            hints.append("r to send again")
        if question.alternatives:
            wishes["m"] = Instead.ANOTHER_METHOD
            hints.append("m for another method")
        hints.append("q to give up")
        is_file = question.method == "FACE_MAP"
        label = "Code" if question.sent_to is not None else _label(question.method)
        prompt = f"{label} ({', '.join(hints)}): "
        is_echoed = is_file or question.sent_to is not None
        while True:
            text = (self._read if is_echoed else self._read_hidden)(prompt).strip()
            if text.lower() == "q":
                raise _gave_up()
            if text.lower() in wishes:
                return wishes[text.lower()]
            if not is_file:
                if text:
                    return text
            elif (found := self._file(text)) is not None:
                return found

    def _file(self, name: str) -> str | bytes | None:
        """Return the face map in a file. None, with a word to the person, if there is none."""
        if not name:
            return None
        try:
            path = Path(name).expanduser()
            found = path.stat()
            if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= _FILE_BYTES_MAX:
                self._say(f"{_plain(name)} is no file of up to {_FILE_BYTES_MAX // 1024 // 1024} MiB.")
                return None
            return _face_map(path.read_bytes())
        except (OSError, RuntimeError, ValueError) as error:  # besides: no such home, a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else None
            self._say(f"Cannot read {_plain(name)}: {reason or 'not a file name'}.")
            return None

    def _show_action(self, action: str) -> None:
        if action != self._action_shown:
            self._action_shown = action
            self._say(f"Confirmation needed for {_plain(action) or 'this request'}.")

    def _show_problem(self, problem: Problem | None) -> None:
        if problem is None:
            return
        text = _PROBLEMS.get(problem.reason) or _plain(problem.message) or _plain(problem.reason)
        if problem.attempts_left is not None:
            text += f" Attempts left: {problem.attempts_left}."
        if problem.retry_after is not None:
            text += f" Try again in {problem.retry_after} s."
        self._say(text)

    def _say(self, text: str) -> None:
        print(text, file=self._output, flush=True)

    def _read(self, prompt: str) -> str:
        self._output.write(prompt)
        self._output.flush()
        line = self._input.readline()
        if not line:
            self._say("")
            raise _gave_up()
        return line

    def _read_hidden(self, prompt: str) -> str:
        if not self._input.isatty():
            return self._read(prompt)  # nothing echoes, so there is nothing to hide
        try:
            return getpass.getpass(prompt, stream=self._output)
        except EOFError:
            raise _gave_up() from None

    @property
    def _input(self) -> TextIO:
        return self._reads or sys.stdin

    @property
    def _output(self) -> TextIO:
        return self._writes or sys.stderr


def _sends_message(method: str) -> bool:
    return method in {"SMS", "WHATSAPP", "VOICE"}


def _words(method: str) -> str:
    return _METHODS.get(method, _plain(method))


def _label(method: str) -> str:
    return _LABELS.get(method, _plain(method))


def _face_map(content: bytes) -> str | bytes:
    """Cameras export base64. What is not that goes out as the bytes that it is."""
    text = b"".join(content.split())
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return content
    return text.decode("ascii")


def _plain(text: str) -> str:
    """Return what is safe to show: a server must not be able to move the cursor or hide a line."""
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_MAX])


def _gave_up() -> DeclinedError:
    return DeclinedError("given up")
