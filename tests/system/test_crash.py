"""
Crashes: ``kill -9`` of the server at random moments under load, round after round on one directory.

Clients note what they sent, and what was answered once it was. After each restart the notes are
held against the server: what was acknowledged is there, what was spent is spent, and no OTT let
two requests through, whatever was under way. This proves where transactions begin and end, and
that recovery works; what a loss of power takes is another test's matter.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import apsw
import pytest

from tests.system.processes import Running
from tests.system.wire import CODE, Address, Answer, AsyncWire, Person, Wire

ROUNDS = 200
LANES = 4
PAYERS, BATCH_PAYERS, GUESSERS = 14, 4, 8
LOAD_SECONDS = 0.3
MAIN_PROCESS_ALONE = 0.3
PIN = "7391"

CONFIG = """\
[session]
seconds = 0

[[actions]]
name = "TRANSFER__FUND"
risk = "low"
bind = "request"
challenges = [["SMS"]]
match = ["POST /v3/profiles/{profileId}/transfers/{transferId}/payments"]

[[actions]]
name = "BATCH__FUND"
risk = "high"
spend = "on-success"
match = ["POST /v3/profiles/{profileId}/batch-payments/{batchGroupId}/payments"]
"""
"""Two kinds of payment: a quick one that spends before the handler, a slow one that reserves."""

Step = Literal["issue", "pin", "trigger", "verify", "spend"]


@dataclass
class Noted:
    """What a client knows of one OTT: what was acknowledged, and what was not answered any more."""

    ott: str
    acknowledged: set[Step] = field(default_factory=lambda: {"issue"})
    unanswered: Step | None = None


@dataclass
class Client:
    """A person who pays, again and again; what he noted is all that he goes by."""

    person: Person
    target: str
    steps: tuple[Step, ...]
    action: str
    notes: list[Noted] = field(default_factory=list)
    unanswered: Step | None = None

    def request(self, step: Step, ott: str = "") -> bytes:
        match step:
            case "issue":
                return self.person.request("POST", self.target, body={"type": "BALANCE"})
            case "pin":
                return self.person.about("POST", "pin/verify", ott, {"pin": PIN})
            case "trigger":
                return self.person.about("POST", "sms/trigger", ott)
            case "verify":
                return self.person.about("POST", "sms/verify", ott, {"otpCode": CODE})
            case "spend":
                return self.person.request("POST", self.target, ott=ott, body={"type": "BALANCE"})

    async def pay_until_it_dies(self, address: Address) -> None:
        self.notes, self.unanswered = [], None
        try:
            wire = await AsyncWire.open(address)
        except ConnectionError:
            return
        try:
            while True:
                await self._pay(wire)
        except ConnectionError:
            if self.notes:
                self.notes[-1].unanswered = self.unanswered
        finally:
            wire.close()

    async def _pay(self, wire: AsyncWire) -> None:
        self.unanswered = "issue"
        noted = Noted((await wire.send(self.request("issue"))).ott)
        self.notes.append(noted)
        for step in self.steps:
            self.unanswered = step
            answer = await wire.send(self.request(step, noted.ott))
            assert answer.status == (201 if step == "spend" else 200), (step, answer)
            noted.acknowledged.add(step)
        self.unanswered = "issue"

    # --- after the restart --------------------------------------------------------------------

    async def compare(self, address: Address) -> None:
        """Hold the last of what was noted against what the server knows."""
        wire = await AsyncWire.open(address)
        try:
            for noted in self.notes[-3:]:
                await self._compare(wire, noted)
        finally:
            wire.close()

    async def _compare(self, wire: AsyncWire, noted: Noted) -> None:
        ott = noted.ott
        if "spend" in noted.acknowledged:
            assert await self._executions(wire, ott) == 1, noted
        elif noted.unanswered == "spend":
            # It ran or it did not. In the time between reserved and confirmed it may have run, too.
            retried = await wire.send(self.request("spend", ott))
            if retried.status != 201:
                assert retried.ott != ott
            assert await self._executions(wire, ott) <= 1, noted
        else:
            await self._finish(wire, noted)
            assert (await wire.send(self.request("spend", ott))).status == 201, noted
            assert await self._executions(wire, ott) == 1, noted
        again = await wire.send(self.request("spend", ott))
        assert again.ott != ott
        gone = await wire.send(self.person.about("GET", "status", ott))
        assert (gone.status, gone.code) == (404, "ott.not.found"), noted
        assert await self._executions(wire, ott) <= 1, noted

    async def _finish(self, wire: AsyncWire, noted: Noted) -> None:
        """Clear what is open, after a look at whether what was acknowledged is still passed."""
        ott = noted.ott
        status = await wire.send(self.person.about("GET", "status", ott))
        assert status.status == 200, (noted, status)
        listed = status.json()["oneTimeTokenProperties"]["challenges"]
        left = {challenge["primaryChallenge"]["type"] for challenge in listed}
        for step, method in (("pin", "PIN"), ("verify", "SMS")):
            if step in noted.acknowledged:
                assert method not in left, (noted, left)
            elif step in self.steps and noted.unanswered != step:
                assert method in left, (noted, left)
        if "PIN" in left:
            assert (await wire.send(self.request("pin", ott))).status == 200, noted
        if "SMS" not in left:
            return
        verified = await wire.send(self.request("verify", ott))
        if verified.status == 400 and "trigger" not in noted.acknowledged:
            assert verified.code == "otp.not.triggered", (noted, verified)
            assert (await wire.send(self.request("trigger", ott))).status == 200, noted
            verified = await wire.send(self.request("verify", ott))
        assert verified.status == 200, (noted, verified)

    async def _executions(self, wire: AsyncWire, ott: str) -> int:
        answer = await wire.send(self.person.request("GET", f"/sandbox/executions?ott={ott}"))
        count: int = answer.json()[self.action]
        return count


@dataclass
class Guesser:
    """Somebody who guesses codes until he is locked, crash or no crash."""

    person: Person
    ott: str = ""
    triggered: bool = False
    compared: int = 0
    locked: bool = False

    async def guess(self, wire: AsyncWire) -> None:
        """Go on guessing until locked; an OTT or a code that was lost on the way is asked for again."""
        while not self.locked:
            if not self.ott:
                answer = await wire.send(self.person.pay_request())
                if answer.status == 403:
                    self.ott = answer.ott
                self._note(answer, issued=True)
            elif not self.triggered:
                answer = await wire.send(self.person.about("POST", "sms/trigger", self.ott))
                # One that was sent and not answered makes the next one come too soon.
                self.triggered = answer.status == 200 or answer.code == "otp.resend.too.soon"
                self._note(answer, issued=True)
            else:
                guess = {"otpCode": f"{200000 + self.compared}"}
                self._note(await wire.send(self.person.about("POST", "sms/verify", self.ott, guess)))

    def _note(self, answer: Answer, *, issued: bool = False) -> None:
        if answer.status == 429 and answer.code == "sca.locked":
            self.locked = True
        elif not issued:
            assert (answer.status, answer.code) == (400, "otp.incorrect"), answer
            self.compared += 1


@dataclass
class Lane:
    """One directory, and everybody who pays there; several lanes keep both cores busy."""

    number: int
    folder: Path
    rounds: int
    seed: int
    clients: list[Client] = field(default_factory=list)
    guessers: list[Guesser] = field(default_factory=list)
    spare: list[Guesser] = field(default_factory=list)
    interrupted: Counter[str] = field(default_factory=Counter)
    paid: set[bytes] = field(default_factory=set)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self) -> None:
        chance = random.Random(self.seed)
        config = self.folder / "watchword.toml"
        config.write_text(CONFIG, encoding="utf-8")
        with asyncio.Runner() as runner:
            for number in range(self.rounds + 1):
                with Running("--data", self.data, "--config", config) as server:
                    runner.run(self._compare(server.address))
                    self._prepare(server.address)
                    if number == self.rounds:
                        return
                    runner.run(self._load_and_kill(server, chance))
                    assert server.wait_for_all(), "a process outlived its parent"
                self._inspect_files()

    def _prepare(self, address: Address) -> None:
        with Wire(address) as wire:
            if not self.clients:
                self.clients = [make_payer(wire) for _ in range(PAYERS)]
                self.clients += [make_batch_payer(wire) for _ in range(BATCH_PAYERS)]
            self.spare = [Guesser(Person.make(wire)) for _ in range(GUESSERS)]

    async def _compare(self, address: Address) -> None:
        await asyncio.gather(*(client.compare(address) for client in self.clients))
        if self.guessers:
            wire = await AsyncWire.open(address)
            for guesser in self.guessers:
                was_locked, compared = guesser.locked, guesser.compared
                guesser.locked = False
                await guesser.guess(wire)
                assert guesser.compared <= 5, "more guesses were compared than the lock allows"
                assert not was_locked or guesser.compared == compared, "a lock was lost"
            wire.close()
        self.guessers = []

    async def _load_and_kill(self, server: Running, chance: random.Random) -> None:
        load = [asyncio.create_task(client.pay_until_it_dies(server.address)) for client in self.clients]
        load.append(asyncio.create_task(self._guess_until_it_dies(server.address)))
        # A random moment is what this is about: there is no event to wait for.
        await asyncio.sleep(chance.uniform(0, LOAD_SECONDS))
        if chance.random() < MAIN_PROCESS_ALONE:
            os.kill(server.pid, signal.SIGKILL)
        else:
            os.killpg(server.pid, signal.SIGKILL)
        await asyncio.gather(*load)
        self.interrupted.update(client.unanswered for client in self.clients if client.unanswered)
        self.interrupted["guess"] += sum(not guesser.locked for guesser in self.guessers)

    async def _guess_until_it_dies(self, address: Address) -> None:
        try:
            wire = await AsyncWire.open(address)
        except ConnectionError:
            return
        try:
            for guesser in self.spare:
                self.guessers.append(guesser)
                await guesser.guess(wire)
        except ConnectionError:
            pass
        finally:
            wire.close()

    def _inspect_files(self) -> None:
        """Look into copies, so that the server has to recover the files by itself."""
        copies = self.folder / "copies"
        shutil.copytree(self.data, copies)
        for name in ("watchword.db", "sandbox.db"):
            with closing(apsw.Connection(str(copies / name))) as database:
                assert database.execute("PRAGMA integrity_check").get == "ok"
        self.paid |= {
            sha256(noted.ott.encode()).digest()
            for client in self.clients
            for noted in client.notes
            if "spend" in noted.acknowledged
        }
        with closing(sqlite3.connect(copies / "sandbox.db")) as ledger:
            runs = dict(ledger.execute("SELECT ott, count FROM executions WHERE ott != x''"))
        shutil.rmtree(copies)
        assert set(runs.values()) <= {1}, "an OTT let two requests through"
        assert runs.keys() >= self.paid, "a payment was acknowledged that never ran"


def make_payer(wire: Wire) -> Client:
    person = Person.make(wire)
    return Client(person, person.payment, ("trigger", "verify", "spend"), "TRANSFER__FUND")


def make_batch_payer(wire: Wire) -> Client:
    person = Person.make(wire, pin=PIN)
    target = f"/v3/profiles/{person.profile}/batch-payments/54a6bc09-cef9-49a8-9041-f1f0c654cd88/payments"
    return Client(person, target, ("pin", "trigger", "verify", "spend"), "BATCH__FUND")


@pytest.mark.slow
@pytest.mark.attack(152)
@pytest.mark.timeout(900)
def test_no_crash_lets_a_second_request_through_or_loses_what_was_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    lanes = []
    for number in range(LANES):
        folder = tmp_path / f"lane-{number}"
        folder.mkdir()
        rounds = len(range(number, ROUNDS, LANES))
        lanes.append(Lane(number, folder, rounds, seed + number))
    with ThreadPoolExecutor(LANES) as threads:
        for running in [threads.submit(lane.run) for lane in lanes]:
            running.result()

    interrupted = sum((lane.interrupted for lane in lanes), Counter[str]())
    paid = sum(len(lane.paid) for lane in lanes)
    print(f"{ROUNDS} kills, {paid} payments acknowledged before them; unanswered: {dict(interrupted)}")
    # A kill that interrupts nothing proves nothing.
    for step in ("issue", "pin", "trigger", "verify", "spend", "guess"):
        assert interrupted[step] > 0, interrupted
    assert paid > ROUNDS


def test_no_process_outlives_a_killed_main_process(tmp_path: Path) -> None:
    with Running("--data", tmp_path / "data") as server, Wire(server.address) as wire:
        ada = Person(wire, "demo-ada", 6146956, 435036)
        assert ada.get("/v1/me").status == 200
        assert len(server.workers()) == 1
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait_for_all()
        with socket.socket() as late:
            assert late.connect_ex(server.address) != 0


def test_the_sandbox_ends_when_the_process_that_serves_was_killed() -> None:
    with Running() as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        assert server.wait() == 1
        assert server.wait_for_all()


def test_the_next_start_takes_the_same_port_and_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Running("--data", data) as server, Wire(server.address) as wire:
        ada = Person(wire, "demo-ada", 6146956, 435036)
        ott = ada.ready_payment("1234")
        now = wire.advance(1000)
        server.kill()
        with Running("--data", data, "--port", str(server.address[1])) as again:
            assert again.address == server.address
            with Wire(again.address) as new_wire:
                assert new_wire.advance(0) >= now
                assert ada.over(new_wire).challenges(ott) == []
                assert ada.over(new_wire).pay(ott=ott).status == 201
                assert new_wire.executions("TRANSFER__FUND") == 1
