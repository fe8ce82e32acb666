"""
Machines that can be cut off from each other: network namespaces of the kernel, joined by a switch.

Nothing of it outlives this process: each namespace is held by a process that ends with it, and a cable
goes with either of its ends.
"""

import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress

from tests.store.valkey import Host

PROGRAMS = ("ip", "nsenter", "unshare")
NETWORKS = 256
"""How many may be there at once: each has an octet of 198.18.0.0/16, which leads nowhere else."""


class NoNetworkError(Exception):
    """This machine does not let us have one."""


class Network:
    """So many hosts, all of which this process can reach, until some are cut off."""

    def __init__(self, count: int) -> None:
        """
        Build it.

        Raises:
            NoNetworkError: It takes root, and a kernel that lets it.
        """
        if os.geteuid() != 0:
            raise NoNetworkError("it takes root")
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        assert not missing, f"missing: {', '.join(missing)}; install iproute2 and util-linux"
        self._namespaces: list[subprocess.Popen[bytes]] = []
        self.hosts: list[Host] = []
        try:
            self._build(count)
        except subprocess.CalledProcessError as error:
            self.close()
            raise NoNetworkError(str(error.stderr, "utf-8", "replace").strip()) from error

    def _build(self, count: int) -> None:
        self._switch = self._namespace()
        # Two switches in one: hosts at the second are cut off from us.
        for switch in ("near", "far"):
            _ip(self._switch, f"link add {switch} type bridge", f"link set {switch} up")
        net = self._plug_ourselves_in()
        for number in range(count):
            host = self._namespace()
            _ip(
                self._switch,
                f"link add host{number} type veth peer name cable netns {host}",
                f"link set host{number} master near up",
            )
            address = f"198.18.{net}.{number + 1}"
            _ip(host, "link set lo up", f"address add {address}/24 dev cable", "link set cable up")
            self.hosts.append(Host(address, ("nsenter", f"--target={host}", "--net")))

    def _plug_ourselves_in(self) -> int:
        for net in range(NETWORKS):
            with suppress(subprocess.CalledProcessError):
                _ip(None, f"link add faults{net} type veth peer name ours netns {self._switch}")
                break
        else:
            raise NoNetworkError("there are as many as there can be")
        _ip(None, f"address add 198.18.{net}.254/24 dev faults{net}", f"link set faults{net} up")
        _ip(self._switch, "link set ours master near up")
        return net

    def _namespace(self) -> int:
        """Make a namespace; returns the process that holds it until its input ends."""
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._namespaces.append(holder)
        assert holder.stdout is not None
        assert holder.stderr is not None
        if not holder.stdout.readline():
            raise subprocess.CalledProcessError(holder.wait(), "unshare", stderr=holder.stderr.read())
        return holder.pid

    def cut_off(self, hosts: Collection[Host]) -> None:
        """Part *hosts* from us, and from all others; they reach each other."""
        self._move(hosts, "far")

    def mend(self) -> None:
        """Join all again."""
        self._move(self.hosts, "near")

    def _move(self, hosts: Collection[Host], switch: str) -> None:
        numbers = [number for number, host in enumerate(self.hosts) if host in hosts]
        _ip(self._switch, *(f"link set host{number} master {switch}" for number in numbers))

    def close(self) -> None:
        """Take it down."""
        for holder in self._namespaces:
            for end in (holder.stdin, holder.stdout, holder.stderr):
                assert end is not None
                end.close()
            holder.wait()
        self._namespaces.clear()


def _ip(namespace: int | None, *commands: str) -> None:
    """Run commands of ``ip`` in a namespace; in none, where we are."""
    inside: Sequence[str] = () if namespace is None else ("nsenter", f"--target={namespace}", "--net")
    subprocess.run(
        [*inside, "ip", "-batch", "-"], input="\n".join(commands).encode(), capture_output=True, check=True
    )
