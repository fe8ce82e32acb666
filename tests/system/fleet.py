"""
Several servers over one store behind one address, customers who pay all the while, and a ledger.

Nothing here knows which store it is: ``Fleet(folder, store='[store]…')`` takes any.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from signal import SIGTERM
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Self

from tests.listening import listening
from tests.serving.support import installation
from tests.system.processes import Running
from tests.system.wire import Address, Answer, Person, Wire

PIN = "4713"
PEOPLE = 8
PATIENCE_SECONDS = 30.0
PROBE_SECONDS = 0.05

BANK = """
import asyncio
import os
from pathlib import Path

import watchword
from watchword.guard.asgi import approval

here = Path(__file__).parent
log = os.open(here / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


async def app(scope, receive, send):
    assert scope["type"] == "http"
    status, body, path = 201, b"paid", scope["path"]
    if path == "/who":
        status, body = 200, str(os.getpid()).encode()
    elif path == "/release":
        status, body = 200, os.fsencode(watchword.__file__)
    elif (found := approval(scope)) is not None:
        os.write(log, f"{found.action} {found.ott}\\n".encode())  # One write appends whole lines.
        if path.endswith("/slow"):
            while not (here / "go").exists():
                await asyncio.sleep(0.02)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

TABLES = """
[app]
target = "fleet_bank:app"

[session]
seconds = {session_seconds}

[[actions]]
name = "PAYMENT__MAKE"
risk = "low"
match = ["POST /payments/{{id}}"]
bind = "request"

[[actions]]
name = "ORDER__PLACE"
risk = "low"
match = ["POST /orders/{{id}}", "POST /orders/{{id}}/slow"]
spend = "on-success"
"""


def _token(number: int) -> str:
    return f"the-token-of-person-{number}-of-the-fleet"


class Fleet:
    """An installation that several servers share."""

    def __init__(
        self,
        folder: Path,
        *,
        store: str = "",
        server: str = "",
        session_seconds: int = 0,
        tables: str = "",
        people: int = PEOPLE,
    ) -> None:
        """
        Write it; no server runs yet.

        Args:
            store: The ``[store]`` table; without it a file beside the configuration.
            server: Settings of ``[server]``.
            session_seconds: 0: every call needs a token of its own.
        """
        self.folder = folder
        users = "".join(
            f'[[tokens]]\nsha256 = "{sha256(_token(number).encode()).hexdigest()}"\n'
            f'kind = "user"\nuser_id = {number}\n'
            for number in range(1, people + 1)
        )
        self.config = installation(
            folder,
            f"[server]\nport = 0\n{server}\n",
            store,
            TABLES.format(session_seconds=session_seconds),
            users,
            tables,
        )
        (folder / "fleet_bank.py").write_text(BANK, encoding="utf-8")

    def start(self, release: Path | None = None) -> Running:
        """Start one more server, of the release that is installed or of another one."""
        return Running("--config", self.config, command=("serve",), release=release)

    def person(self, number: int, wire: Wire) -> Person:
        """Return one of those who hold an access token."""
        return Person(wire, _token(number), number, number)

    def enrol(self, address: Address, people: int = PEOPLE) -> None:
        """Give everybody a PIN."""
        with Wire(address) as wire:
            for number in range(1, people + 1):
                person = self.person(number, wire)
                answer = person.send(person.request("POST", "/v1/user/pin", body={"pin": PIN}))
                assert answer.status == 204, answer

    def ran(self) -> Counter[str]:
        """Return how often a handler ran, by the OTT that let it."""
        ledger = self.folder / "ledger"
        lines = ledger.read_text(encoding="ascii").splitlines() if ledger.exists() else []
        return Counter(line.split(" ")[1] for line in lines)


@contextmanager
def workers_of(server: Running, count: int) -> Iterator[list[Wire]]:
    """Open a connection to each worker: one stays with the worker that took it."""
    found: dict[bytes, Wire] = {}
    others: list[Wire] = []
    end = monotonic() + PATIENCE_SECONDS
    try:
        while len(found) < count:
            assert monotonic() < end, f"{len(found)} workers answer"
            wire = Wire(server.address)
            who = wire.call("GET", "/who").body
            if who in found:
                others.append(wire)
            else:
                found[who] = wire
        yield list(found.values())
    finally:
        for wire in (*found.values(), *others):
            wire.close()


# --- one address ----------------------------------------------------------------------------------


class Balancer:
    """One address; each connection goes to a server whose ``/readyz`` says 200."""

    def __init__(self) -> None:
        self._ready: dict[Address, bool] = {}
        self._lock = Lock()
        self._turn = 0
        self._started = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.address: Address = ("127.0.0.1", 0)

    def add(self, address: Address) -> None:
        """Send to this server too, from when it is ready."""
        with self._lock:
            self._ready[address] = False
        self._await(lambda: self._ready[address])

    def remove(self, address: Address) -> None:
        """Forget a server."""
        with self._lock:
            del self._ready[address]

    def _await(self, is_so: Callable[[], bool]) -> None:
        end = monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert monotonic() < end, "it never became ready"
            Event().wait(PROBE_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._balance())

    async def _balance(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with listening(self._serve) as self.address:
            watching = asyncio.create_task(self._watch())
            self._started.set()
            await self._over.wait()
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            with self._lock:
                known = list(self._ready)
            for address, ready in zip(known, await asyncio.gather(*map(_is_ready, known)), strict=True):
                with self._lock:
                    if address in self._ready:
                        self._ready[address] = ready
            await asyncio.sleep(PROBE_SECONDS)

    def _pick(self) -> Address | None:
        with self._lock:
            ready = [address for address, is_ready in self._ready.items() if is_ready]
        self._turn += 1
        return ready[self._turn % len(ready)] if ready else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (address := self._pick()) is not None:
            # Where that fails, the client sees its connection end.
            behind, before = await asyncio.open_connection(*address)
            try:
                await asyncio.gather(_pipe(reader, before), _pipe(behind, writer))
            finally:
                before.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _is_ready(address: Address) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: probe.test\r\nConnection: close\r\n\r\n")
                return (await reader.read()).startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
    return False


# --- who pays -------------------------------------------------------------------------------------


@dataclass
class Customer:
    """
    Pays again and again, and comes again where he got no answer or a 503, as any client may.

    Attributes:
        keeps: Whether his connection stays open from call to call, as a proxy's do.
        paid: The OTTs whose payment was acknowledged.
        lost: Those whose payment was not, and which are spent by now.
        again: How often he had to come again, by why.
        failed: What could not be made good by coming again.
    """

    fleet: Fleet
    number: int
    address: Address
    keeps: bool = False
    paid: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    failed: list[object] = field(default_factory=list)
    _wire: Wire | None = None

    def run(self, over: Event) -> None:
        """Pay until it is over."""
        try:
            while not over.is_set():
                self.pay()
        except Exception as error:  # noqa: BLE001 - it is reported where it can be seen.
            self.failed.append(error)
        finally:
            self._let_go()

    def pay(self) -> None:
        """Make one payment."""
        target = f"/payments/{len(self.paid)}"
        refused, _ = self._ask("POST", target)
        if refused.status != 403:
            self.failed.append(refused)
            return
        ott = refused.ott
        about = {"One-Time-Token": ott}
        verified, times = self._ask("POST", "/v1/one-time-token/pin/verify", about, {"pin": PIN})
        # Where the first answer was lost it may be passed already.
        if verified.status != 200 and not (times > 1 and verified.code == "challenge.not.offered"):
            self.failed.append(verified)
            return
        answer, times = self._ask("POST", target, {"x-2fa-approval": ott})
        if answer.status == 201:
            self.paid.append(ott)
        elif answer.status == 403 and times > 1:
            self.lost.append(ott)
        else:
            self.failed.append(answer)

    def _ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: object = None
    ) -> tuple[Answer, int]:
        """Call until there is an answer that is not 503; returns it, and how many calls it took."""
        end, times = monotonic() + PATIENCE_SECONDS, 0
        while True:
            times += 1
            try:
                self._wire = self._wire or Wire(self.address)
                person = self.fleet.person(self.number, self._wire)
                answer = person.send(person.request(method, target, headers=headers, body=body))
                if not self.keeps or answer.header("connection") == "close":
                    self._let_go()
                if answer.status != 503:
                    return answer, times
                self.again["503"] += 1
            except OSError as error:
                self._let_go()
                self.again[type(error).__name__] += 1
            assert monotonic() < end, "nobody answers"
            Event().wait(0.05)

    def _let_go(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


@contextmanager
def customers(fleet: Fleet, address: Address, count: int = PEOPLE) -> Iterator[list[Customer]]:
    """Have customers pay at *address* meanwhile, every other over one connection; check what came of it."""
    over = Event()
    paying = [Customer(fleet, number, address, keeps=not number % 2) for number in range(1, count + 1)]
    threads = [Thread(target=customer.run, args=(over,), daemon=True) for customer in paying]
    for thread in threads:
        thread.start()
    try:
        yield paying
    finally:
        over.set()
        for thread in threads:
            thread.join(2 * PATIENCE_SECONDS)
    failed = [fault for customer in paying for fault in customer.failed]
    assert not failed, failed[:3]
    ran = fleet.ran()
    assert set(ran.values()) <= {1}, "an OTT let two requests through"
    paid = {ott for customer in paying for ott in customer.paid}
    assert paid <= ran.keys(), "a payment was acknowledged that never ran"


def how_many(paying: list[Customer]) -> dict[str, object]:
    """Return what came of it, to be printed."""
    again: Counter[str] = sum((customer.again for customer in paying), Counter())
    return {
        "paid": sum(len(customer.paid) for customer in paying),
        "lost": sum(len(customer.lost) for customer in paying),
        "again": dict(again),
    }


def await_payments(paying: list[Customer], more: int) -> None:
    """Wait until everybody has paid some times more."""
    wanted = [(customer, len(customer.paid) + more) for customer in paying]
    end = monotonic() + 2 * PATIENCE_SECONDS
    while any(len(customer.paid) < count for customer, count in wanted):
        assert monotonic() < end, json.dumps(how_many(paying))
        assert not any(customer.failed for customer in paying)
        Event().wait(PROBE_SECONDS)


# --- a restart ------------------------------------------------------------------------------------


def rolling_restart(
    fleet: Fleet,
    balancer: Balancer,
    running: list[Running],
    *,
    release: Path | None = None,
    between: Callable[[], None] = lambda: None,
) -> None:
    """
    Replace servers one after the other, each told to stop and waited for.

    Args:
        running: The servers, replaced in place.
        release: That of their successors.
        between: Done before the last one is replaced, while two releases run.
    """
    for place, old in enumerate(running):
        if place == len(running) - 1:
            between()
        old.signal(SIGTERM)
        assert old.wait() == 0, old.stderr
        balancer.remove(old.address)
        running[place] = fleet.start(release)
        balancer.add(running[place].address)
