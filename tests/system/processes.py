"""A real sandbox, or server, in processes of its own: started, signalled and killed as from a shell."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

from tests.serving.support import environment
from tests.stores import chosen, sandbox_command

COMMAND = Path(sys.executable).with_name("watchword")
READY_SECONDS = 60.0
END_SECONDS = 30.0


class Running:
    """
    One ``watchword sandbox``, or another command that serves, in a process group of its own.

    Both streams are read as they come, so that no pipe fills up. Standard output ends when the
    last process of the group has: that is how an orphan would show.
    """

    def __init__(
        self,
        *options: str | Path,
        command: Sequence[str] = ("sandbox", "--port", "0"),
        release: Path | None = None,
        umask: int = -1,
    ) -> None:
        """
        Start it on a free port, and wait until it says that it is ready.

        Args:
            command: Which command; ``serve`` has its port in its file.
            release: Where another release is to be found than the one that is installed.
            umask: What the processes may not give away of their files; by default as ours.
        """
        program: Sequence[str | Path] = (COMMAND, *command)
        if command[0] == "sandbox" and "--data" not in options and chosen().kind != "memory":
            program = (sys.executable, *sandbox_command())
        self._process = subprocess.Popen(
            [*program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=umask,
            env=environment(release),
        )
        self._lines: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._announced = Event()
        self._ended = Event()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._threads = [
            Thread(target=self._read_stdout, args=(self._process.stdout,), daemon=True),
            Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.origin = self._await_ready()
        except BaseException:
            self.kill()
            raise
        parts = urlsplit(self.origin)
        assert parts.hostname is not None
        assert parts.port is not None
        self.address = (parts.hostname, parts.port)

    @property
    def pid(self) -> int:
        """The main process."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """All that was printed so far."""
        return b"".join(self._lines["stdout"]).decode()

    @property
    def stderr(self) -> str:
        """All that was logged so far."""
        return b"".join(self._lines["stderr"]).decode()

    def workers(self) -> list[int]:
        """Return the children of the main process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def signal(self, number: signal.Signals) -> None:
        """Signal the main process, as a person or a service manager does."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the main process; return its exit status."""
        return self._process.wait(END_SECONDS)

    def wait_for_all(self) -> bool:
        """Wait until no process of the group is left; tell whether that came to be."""
        return self._ended.wait(END_SECONDS)

    def kill(self) -> None:
        """Kill whatever is left of the whole group, at once."""
        if not self._ended.is_set():  # Else the number may be another group's by now.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(END_SECONDS)
        for thread in self._threads:
            thread.join(END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def _await_ready(self) -> str:
        assert self._announced.wait(READY_SECONDS), "it never said that it is ready"
        ready = [line for line in self.stdout.splitlines() if line.startswith("Ready: ")]
        assert ready, f"it ended with {self._process.wait(END_SECONDS)}: {self.stdout}{self.stderr}"
        return ready[0].removeprefix("Ready: ")

    def _read_stdout(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._lines["stdout"].append(line)
                if line.startswith(b"Ready: "):
                    self._announced.set()
        self._ended.set()
        self._announced.set()

    def _read_stderr(self, stream: IO[bytes]) -> None:
        with stream:
            self._lines["stderr"].extend(stream)
