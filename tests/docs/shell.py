"""A shell that repeats a transcript, and says where what it prints is not what the transcript shows."""

import os
import re
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

COMMAND_SECONDS = 30.0
_END = "\x1e"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARIES = re.compile(rf"{_UUID.pattern}|…")


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which our commands are found, and nothing of the person's own is set."""
    bin_ = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHWORD", "COV"))}
    return kept | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"} | more


class Transcript:
    """
    Runs commands in one bash, in order.

    In what a document shows, «…» stands for anything, and a UUID for one that is made anew each
    time: the first that stands in its place is taken for it from then on, in commands too.
    """

    def __init__(self, folder: Path, replacements: dict[str, str]) -> None:
        self._replacements = replacements
        self._uuids: dict[str, str] = {}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._bash.stdout is not None
        os.set_blocking(self._bash.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bash.stdout, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._selector.close()
        self._bash.kill()
        self._bash.communicate()

    def repeat(self, transcript: str) -> str | None:
        """Run the commands of a block; returns what went another way than it shows."""
        for command, shown in _steps(transcript):
            printed = self._run(self._made_real(command))
            if not self._fits(shown, printed):
                return f"$ {command}\n--- shown\n{shown}\n--- printed\n{printed}"
        return None

    def _made_real(self, text: str) -> str:
        for written, real in {**self._replacements, **self._uuids}.items():
            text = text.replace(written, real)
        return text

    def _fits(self, shown: str, printed: str) -> bool:
        new: list[str] = []

        def vary(found: re.Match[str]) -> str:
            if found[0] == "…":
                return "\0any\0"
            if found[0] in self._uuids:
                return self._uuids[found[0]]
            if found[0] in new:
                return f"\0again{new.index(found[0])}\0"
            new.append(found[0])
            return f"\0uuid{len(new) - 1}\0"

        pattern = re.escape(self._made_real(_VARIES.sub(vary, shown)))
        pattern = pattern.replace(re.escape("\0any\0"), ".*?")
        for index in range(len(new)):
            pattern = pattern.replace(re.escape(f"\0uuid{index}\0"), f"(?P<u{index}>{_UUID.pattern})")
            pattern = pattern.replace(re.escape(f"\0again{index}\0"), f"(?P=u{index})")
        match = re.fullmatch(pattern, printed, re.DOTALL)
        if match is None:
            return False
        self._uuids |= {uuid: match[f"u{index}"] for index, uuid in enumerate(new)}
        return True

    def _run(self, command: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\nprintf '\\036'\n".encode())
        self._bash.stdin.flush()
        printed = b""
        deadline = time.monotonic() + COMMAND_SECONDS
        while not printed.endswith(_END.encode()):
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{command}\n{printed.decode()}")
            chunk = self._bash.stdout.read()
            if not chunk:
                raise EOFError(f"{command}\n{printed.decode()}")
            printed += chunk
        return printed.decode().removesuffix(_END).replace("\r", "").strip()


def _steps(transcript: str) -> list[tuple[str, str]]:
    """Take a transcript apart: what stands behind «$ », with lines that continue it, and what follows."""
    steps: list[tuple[list[str], list[str]]] = []
    continues = False
    for line in transcript.splitlines():
        if line.startswith("$ "):
            steps.append(([line[2:]], []))
        elif line.startswith("> ") and not steps[-1][1]:
            steps[-1][0].append(line[2:])
        elif continues:
            steps[-1][0].append(line)
        else:
            steps[-1][1].append(line)
        continues = steps[-1][0][-1].endswith("\\") and not steps[-1][1]
    return [("\n".join(command), "\n".join(shown).strip()) for command, shown in steps]
