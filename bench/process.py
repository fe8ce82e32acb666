"""A server in its own session: started, watched, and always ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import BenchError

ROOT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and all its worker processes."""

    session: int
    port: int

    def peak_memory_mib(self) -> float:
        """Sum the largest resident sizes that its processes ever had."""
        peaks = (
            int(line.split()[1])
            for process in self._processes()
            for line in (process / "status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )
        return sum(peaks) / 1024

    def cpu_seconds(self) -> float:
        """Sum the processor time that its processes used so far, in user and in system mode."""
        return sum(sum(map(int, _stat(process)[11:13])) for process in self._processes()) / _TICKS

    def _processes(self) -> list[Path]:
        processes = (path for path in Path("/proc").iterdir() if path.name.isdigit())
        return [process for process in processes if _session(process) == self.session]


def _stat(process: Path) -> list[str]:
    # After the command, which may hold spaces and parentheses: field 3 (state) on.
    return (process / "stat").read_text().rpartition(")")[2].split()


def _session(process: Path) -> int | None:
    # Not its group: a worker stands in one of its own, so that a Ctrl-C reaches its parent alone.
    try:
        return int(_stat(process)[3])
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(application: str, place: str, *, log: Path, workers: int = 1) -> Iterator[Server]:
    """
    Serve *application* over the store at *place*, from when it accepts connections to the end of the block.

    Args:
        place: A kind of store, where it is, and its name there, with spaces between.
        log: The file that takes what it says.

    Raises:
        BenchError: It did not start; with the end of what it said.
    """
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.serve", application, str(port), str(workers)],
            cwd=ROOT,
            env={**os.environ, "WATCHWORD_BENCH_PLACE": place},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_it_accepts(port, process, log)
        yield Server(process.pid, port)
    finally:
        _end(process)


def _wait_until_it_accepts(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"the server did not start: {log.read_text(errors='replace').strip()[-1000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
