"""One server under torture: its files, its users, its processes, and the faults that can be made in them."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Self

from tests.faults.bank import SOCKET
from tests.faults.history import Effect, FaultKind, History, Outcome, Run, Verb
from tests.faults.server import write_offset
from tests.faults.under_test import Fault, StoreUnderTest
from tests.listening import listening
from tests.serving.support import environment, installation
from watchword.domain.decision import EventName
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.user import UserId
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemClock, SystemEntropy
from watchword.methods.phone import enrol as enrol_phone
from watchword.methods.registry import Methods
from watchword.serving.keys import read_keyring

PIN = "7391"
READY_SECONDS = 90.0
STOP_SECONDS = 30.0
FIRST_USER = 1000
LIMITS = Limits(sends_per_number=10_000, session_seconds=0)
POLICY = """
[session]
seconds = 0

[limits]
sends_per_number = 10000

[enrolment]
step_up = "nothing"

[app]
target = "tests.faults.bank:app"

[[actions]]
name = "STATEMENT__GET"
risk = "low"
challenges = [["PARTNER_DEVICE_FINGERPRINT"]]
match = ["GET /statements/{id}"]

[[actions]]
name = "PAYMENT__MAKE"
risk = "low"
bind = "request"
challenges = [["SMS"]]
match = ["POST /payments/{id}"]

[[actions]]
name = "BATCH__MAKE"
risk = "high"
spend = "on-success"
challenges = [["PIN"], ["PARTNER_DEVICE_FINGERPRINT"]]
match = ["POST /batches/{id}"]
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with an access token, a phone, a device and a PIN."""

    user: int
    bearer: str
    number: str
    device: str


def holders(count: int) -> list[Holder]:
    """Name so many people."""
    return [
        Holder(
            FIRST_USER + each,
            f"a-token-that-user-{each}-alone-holds-{sha256(str(each).encode()).hexdigest()}",
            f"+4477009{each:05d}",
            f"3207da22-a0d3-4b6b-a591-{each:012d}",
        )
        for each in range(count)
    ]


class Provider:
    """Whom the server's webhook calls: it takes codes, fails, or takes its time."""

    def __init__(self) -> None:
        """Have taken nothing yet."""
        self.codes: dict[str, str] = {}
        self.status = 204
        self.seconds = 0.0
        self._stack = AsyncExitStack()
        self._port = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        _, self._port = await self._stack.enter_async_context(listening(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        await self._stack.aclose()

    @property
    def table(self) -> str:
        """The server's ``[delivery]``."""
        return (
            f'[delivery]\nwebhook = "http://127.0.0.1:{self._port}/codes"\nsecret_file = "webhook.secret"\n'
            "timeout_seconds = 2\n"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            message = json.loads(await reader.readexactly(length))
            await asyncio.sleep(self.seconds)
            if self.status == 204:
                self.codes[message["to"]] = message["code"]
            writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\n\r\n".encode())

    def faults(self) -> Mapping[FaultKind, Fault]:
        """Return what can go wrong with it."""

        @asynccontextmanager
        async def down() -> AsyncIterator[None]:
            self.status = 500
            try:
                yield
            finally:
                self.status = 204

        @asynccontextmanager
        async def slow() -> AsyncIterator[None]:
            self.seconds = 3.0  # Longer than the server waits.
            try:
                yield
            finally:
                self.seconds = 0.0

        return {FaultKind.PROVIDER_DOWN: down, FaultKind.PROVIDER_SLOW: slow}


class Ledger:
    """Where handlers write what they are about to do: in a file, synced, and in the history."""

    def __init__(self, folder: Path, history: History, chance: Random) -> None:
        """Write to *folder*; *chance* says what becomes of each run."""
        self.path = folder / "ledger.sock"
        self._file = (folder / "ledger.jsonl").open("ab", buffering=0)
        self._history, self._chance = history, chance
        self._server: asyncio.Server | None = None
        self._serving = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the book."""
        assert self._server is not None
        self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._file.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if line := await reader.readline():
                run = self._begin(line)
                # Only what is reserved may fail: what is spent before it runs is spent.
                fails = run.action == "BATCH__MAKE" and self._chance.random() < 0.3
                fate = {"seconds": self._chance.random() * 0.02, "fails": fails}
                writer.write(json.dumps(fate).encode() + b"\n")
                if await reader.readline():
                    self._write(b"ended " + line)
                    self._history.ran(run, failed=fails)
                    writer.write(b"{}\n")
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _begin(self, line: bytes) -> Run:
        self._write(line)
        return self._history.run(**json.loads(line))

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        os.fdatasync(self._file.fileno())


class Deployment:
    """A server, installed and running over one store."""

    def __init__(self, folder: Path, store: StoreUnderTest, history: History, chance: Random) -> None:
        """Prepare to install it in *folder*."""
        self.folder, self.store, self.history = folder, store, history
        self.holders: list[Holder] = []
        self.log: list[bytes] = []
        self.starts = 0
        self._chance = chance
        self._offset = 0
        self._clock = folder / "clock"
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._port = _free_port()
        self.up = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Where it serves."""
        return "127.0.0.1", self._port

    def now(self) -> Instant:
        """Return what its clock shows."""
        return Instant(time.time_ns() // 1_000_000 + self._offset)

    async def install(self, provider: Provider, people: int) -> None:
        """Write its files, and enrol its users."""
        self.holders = holders(people)
        tokens = [
            f'[[tokens]]\nsha256 = "{sha256(each.bearer.encode()).hexdigest()}"\nkind = "user"\n'
            f"user_id = {each.user}\n"
            for each in self.holders
        ]
        server = f'[server]\nhost = "127.0.0.1"\nport = {self._port}\n'
        installation(self.folder, server, self.store.table(), provider.table, POLICY, *tokens)
        write_offset(self._clock, 0)
        keyring = read_keyring(self.folder / "keys.json")
        methods = Methods(keyring)
        opened = await self.store.open()
        engine = Engine(
            store=opened,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            methods=methods,
            delivery=None,
            limits=LIMITS,
        )
        for each in self.holders:
            user, now = UserId(each.user), self.now()
            await engine.enrolment.set(
                user,
                (
                    methods.pin.enrol(PIN, user_id=user, credential_id="pin", now=now),
                    enrol_phone(keyring, each.number, user_id=user, credential_id="phone", now=now),
                    methods.device_fingerprint.enrol(
                        each.device, user_id=user, credential_id="device", now=now
                    ),
                ),
            )
            changed = Effect(EventName.CREDENTIALS_CHANGED, each.user)
            operation = self.history.begin(Verb.ENROL, each.user, now=now)
            self.history.end(operation, Outcome.OK, "enrolled", now=now, certain=[changed])
        await opened.close()

    # --- its processes ------------------------------------------------------------------------

    async def start(self, ledger: Ledger, weakness: str | None = None) -> None:
        """Start it, and wait until it answers."""
        self._ledger, self._weakness = ledger, weakness
        await self._start()

    async def _start(self) -> None:
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.server", str(self.folder / "watchword.toml"), str(self._clock)),
            *([self._weakness] if self._weakness else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
            env={**environment(), SOCKET: str(self._ledger.path)},
        )
        assert self._process.stdout is not None
        ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read(self._process.stdout, ready))
        async with asyncio.timeout(READY_SECONDS):
            await ready.wait()
        if self._process.returncode is not None:
            raise RuntimeError(f"the server did not start:\n{self.said}")
        self.up.set()

    async def _read(self, stream: asyncio.StreamReader, ready: asyncio.Event) -> None:
        async for line in stream:
            self.log.append(line)
            del self.log[:-200]
            if line.startswith(b"Ready: "):
                ready.set()
        ready.set()

    @property
    def said(self) -> str:
        """What it said last."""
        return b"".join(self.log).decode(errors="replace")

    def pids(self) -> list[int]:
        """Return its processes, the main one first."""
        if self._process is None or self._process.returncode is not None:
            return []
        main = self._process.pid
        with suppress(OSError):
            children = Path(f"/proc/{main}/task/{main}/children").read_text(encoding="ascii")
            return [main, *map(int, children.split())]
        return [main]

    async def stop(self) -> None:
        """Tell it to stop, and see that it does."""
        assert self._process is not None
        self.up.clear()
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            status = await self._process.wait()
        if status != 0:
            raise RuntimeError(f"the server ended with {status}:\n{self.said}")

    async def kill(self) -> None:
        """Kill whatever is left of it."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    # --- its faults ---------------------------------------------------------------------------

    def faults(self) -> Mapping[FaultKind, Fault]:
        """Return what can be made to go wrong with it."""

        @asynccontextmanager
        async def killed() -> AsyncIterator[None]:
            self.up.clear()
            await self.kill()
            await self._start()
            yield

        @asynccontextmanager
        async def frozen() -> AsyncIterator[None]:
            self._signal(signal.SIGSTOP)
            try:
                yield
            finally:
                self._signal(signal.SIGCONT)

        def stepped(*seconds: float) -> Fault:
            @asynccontextmanager
            async def step() -> AsyncIterator[None]:
                self._offset += int(self._chance.choice(seconds) * 1000)
                write_offset(self._clock, self._offset)
                self.history.tick(self.now())
                yield

            return step

        return {
            FaultKind.SERVER_KILLED: killed,
            FaultKind.SERVER_FROZEN: frozen,
            FaultKind.CLOCK_BACK: stepped(-0.5, -1, -5, -31, -301, -901),
            FaultKind.CLOCK_FORWARD: stepped(1, 31, 301, 901),
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
