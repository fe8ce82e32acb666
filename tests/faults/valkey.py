"""Valkey under torture: one server, and a cluster of primaries with a replica each."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

from tests.faults.history import FaultKind
from tests.faults.network import Network, NoNetworkError
from tests.faults.promises import FENCES, KEEPS, UNWAITED, Promises
from tests.faults.proxy import Proxy
from tests.faults.under_test import Fault, Processes
from tests.store.valkey import ALWAYS, HERE, Cluster, Host, Server, patient, until
from watchword.store.base import Store
from watchword.store.valkey import ValkeyStore

COMMIT = rb"watchword_\w+_(commit|prepare)"
PROXIES = "127.0.0.2"
"""Where the proxies of a cluster listen, each on the port of its server: that is what clients are told."""
SERVERS = 6
WAIT_MILLISECONDS = 500
"""How long replicas have: longer than the default, since all of them share a few cores here."""
LAG_SECONDS = 0.7
"""For how long a replica that is about to take over has heard nothing."""


def _url(addresses: Sequence[tuple[str, int]]) -> str:
    return "valkey://" + ",".join(f"{host}:{port}" for host, port in addresses)


def _settings(*settings: str) -> str:
    return "\n".join(("[store.valkey]", f"wait_milliseconds = {WAIT_MILLISECONDS}", *settings, ""))


def _fault(make: Callable[[], None], mend: Callable[[], None]) -> Fault:
    """Return a fault that is made and mended by what waits."""

    @asynccontextmanager
    async def made() -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(make)
            yield
        finally:
            await asyncio.to_thread(mend)

    return made


class Valkey:
    """One server without a replica, which answers what is on its disk."""

    name = "valkey"
    promises = KEEPS

    def __init__(self) -> None:
        """Make it; it does not run yet."""
        self._running = AsyncExitStack()

    async def start(self, _folder: Path) -> None:
        """Start it, in a folder of its own."""
        self._server = await asyncio.to_thread(partial(Server, **ALWAYS))
        self._running.callback(self._server.remove)
        proxy = Proxy((self._server.host.address, self._server.port), commit=COMMIT)
        self._proxy = await self._running.enter_async_context(proxy)

    async def stop(self) -> None:
        """End it."""
        await self._running.aclose()

    def table(self) -> str:
        """Name the proxy."""
        return f'[store]\nurl = "{_url([self._proxy.address])}"\n{_settings()}'

    async def open(self) -> Store:
        """Open it."""
        return await ValkeyStore.open(self._server.url, settings=patient("watchword"))

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Kill it, freeze it, break the link to it."""
        valkey = self._server
        return {
            **self._proxy.faults(),
            FaultKind.STORE_KILLED: _fault(valkey.kill, valkey.start),
            FaultKind.STORE_FROZEN: _fault(
                partial(valkey.send, signal.SIGSTOP), partial(valkey.send, signal.SIGCONT)
            ),
        }


class ValkeyCluster:
    """Three primaries with a replica each, which every change waits for, or not."""

    def __init__(self, *, waits: bool = True) -> None:
        """Make it; it does not run yet."""
        self._waits = waits
        self._running = AsyncExitStack()
        self._network: Network | None = None
        self._turns = cycle(range(SERVERS // 2))

    @property
    def name(self) -> str:
        """What the table calls it."""
        return "valkey-cluster" if self._waits else "valkey-without-wait"

    @property
    def promises(self) -> Promises:
        """What it promises: of two that lose nothing each, one that is waited for."""
        return FENCES if self._waits else UNWAITED

    async def start(self, _folder: Path) -> None:
        """Start all of it, on hosts that can be cut off where this machine lets us have some."""
        self._cluster = await asyncio.to_thread(self._start)
        self._running.callback(self._cluster.remove)
        self._proxies = [
            await self._running.enter_async_context(
                Proxy((each.host.address, each.port), commit=COMMIT, at=(PROXIES, each.port))
            )
            for each in self._cluster.servers
        ]

    def _start(self) -> Cluster:
        hosts: Sequence[Host] = (HERE,) * SERVERS
        try:
            self._network = Network(SERVERS)
            self._running.callback(self._network.close)
            hosts = self._network.hosts
        except NoNetworkError as error:
            print(f"no partitions here: {error}", flush=True)
        options = {
            "cluster-node-timeout": "2000",
            "cluster-require-full-coverage": "no",
            "cluster-announce-client-ipv4": PROXIES,
            "protected-mode": "no",
        }
        return Cluster(hosts, **ALWAYS, **options)

    async def stop(self) -> None:
        """End all of it."""
        await self._running.aclose()

    @property
    def url(self) -> str:
        """Name the proxies."""
        return _url([proxy.address for proxy in self._proxies])

    @property
    def settings(self) -> str:
        """Say what the server's file says besides."""
        return _settings(f"replicas = {int(self._waits)}")

    def table(self) -> str:
        """Name the proxies."""
        return f'[store]\nurl = "{self.url}"\n{self.settings}'

    async def open(self) -> ValkeyStore:
        """Open it, by the same way: nothing is broken while this is done."""
        return await ValkeyStore.open(self.url, settings=patient("watchword"))

    # --- its faults ---------------------------------------------------------------------------

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Kill, freeze and cut off what there is of it, and let replicas take over that lag."""
        faults = {
            **self._links(),
            FaultKind.STORE_KILLED: _fault(self._kill, self._start_again),
            FaultKind.STORE_FROZEN: self._frozen,
            FaultKind.FAIL_OVER: self._failing_over,
        }
        return faults if self._network is None else {**faults, FaultKind.PARTITION: self._partition}

    def _links(self) -> Mapping[FaultKind, Fault]:
        """Return what breaks the links to all of it at once."""
        each = [proxy.faults() for proxy in self._proxies]

        def of_all(kind: FaultKind) -> Fault:
            @asynccontextmanager
            async def broken() -> AsyncIterator[None]:
                async with AsyncExitStack() as links:
                    for faults in each:
                        await links.enter_async_context(faults[kind]())
                    yield

            return broken

        return {kind: of_all(kind) for kind in each[0]}

    def _kill(self) -> None:
        for each in self._cluster.servers:
            each.kill()

    def _start_again(self) -> None:
        for each in self._cluster.servers:
            each.start()
        until(self._cluster.whole)

    def _next(self) -> tuple[Server, Server]:
        """Return another primary each time, and its replica."""
        primary = self._cluster.primaries()[next(self._turns)]
        return primary, self._cluster.replica_of(primary)

    @asynccontextmanager
    async def _frozen(self) -> AsyncIterator[None]:
        """Stop a primary; if that lasts, its replica takes over, and it learns of that later."""
        primary, _ = await asyncio.to_thread(self._next)
        primary.send(signal.SIGSTOP)
        try:
            yield
        finally:
            primary.send(signal.SIGCONT)
            await asyncio.to_thread(until, self._cluster.whole)

    @asynccontextmanager
    async def _failing_over(self) -> AsyncIterator[None]:
        """Kill a primary whose replica lags; it comes back once that has taken over."""
        primary, replica = await asyncio.to_thread(self._next)

        def hold_back() -> None:
            # It cannot connect again: its primary knows no password.
            replica.tell("CONFIG", "SET", "primaryauth", "unknown")
            replica.tell("CLIENT", "KILL", "TYPE", "primary")

        try:
            await asyncio.to_thread(hold_back)
            await asyncio.sleep(LAG_SECONDS)
            primary.kill()
            await asyncio.to_thread(until, partial(_leads, replica))
            await asyncio.to_thread(replica.tell, "CONFIG", "SET", "primaryauth", "")
            yield
        finally:
            await asyncio.to_thread(primary.start)
            await asyncio.to_thread(until, self._cluster.whole)

    @asynccontextmanager
    async def _partition(self) -> AsyncIterator[None]:
        """Leave the server one primary, until its replica has taken over beyond; for a while both go on."""
        assert self._network is not None
        primary, replica = await asyncio.to_thread(self._next)
        self._network.cut_off([each.host for each in self._cluster.servers if each is not primary])
        try:
            await asyncio.to_thread(until, partial(_leads, replica))
            yield
        finally:
            self._network.mend()
            await asyncio.to_thread(until, self._cluster.whole)


def _leads(server: Server) -> bool:
    return server.info("replication").get("role") == "master"
