"""
Ten thousand hostile bodies, one after the other, to a server in a process of its own.

What a request costs is the processor time of the server's worker: all of its threads, in
nanoseconds, as the kernel counts it. Unlike time on a clock it does not grow when others use the
machine. Nothing else is asked of the worker meanwhile, so that a batch is one request.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.jose import fuzz, oracle
from tests.system.processes import Running
from tests.system.wire import Address, Answer, Person, Wire, encode
from tests.wire.support import JOSE, PIN, encryption_key, refusal, seal
from tests.wire.test_table import key_body, signing_key

BODIES = 10_000
WARM_UP = 2_000
CPU_SECONDS = 0.050
GROWTH_BYTES = 4 * 1024 * 1024
"""About 500 bytes for each body after the warm-up: what an allocator shuffles, and no more."""


class Worker:
    """The process that answers."""

    def __init__(self, server: Running) -> None:
        (self._pid,) = server.workers()

    def seconds(self) -> float:
        """Return the processor time that its threads have used."""
        tasks = Path(f"/proc/{self._pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def resident(self) -> int:
        """Return how many bytes of it are in memory."""
        status = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


class Target:
    """A call that takes an envelope, and the worst sender that it can have."""

    def __init__(
        self, address: Address, person: Person, path: str, method: str, payload: object, ott: str = ""
    ) -> None:
        self._head = [
            ("Authorization", f"Bearer {person.token}"),
            *JOSE.items(),
            ("X-TW-JOSE-Method", method),
            *((("One-Time-Token", ott),) if ott else ()),
        ]
        self._address = address
        self._wire: Wire | None = None
        self._path = path
        self.method = method
        self.keys = fuzz.Keys(
            server=encryption_key(person.wire),
            client=signing_key(),
            algorithm="ES512",
            kid="00000000-0000-4000-8000-000000000001",
            url=path,
            payload=oracle.to_json(payload),
        )

    def send(self, body: bytes) -> Answer:
        wire = self._wire or Wire(self._address)
        with suppress(BrokenPipeError):
            wire.send(encode("POST", self._path, self._head, body))
        answer = wire.receive()
        self._wire = wire
        if answer.status == 413:  # Refused unread: what is left of it cannot be told from a next request.
            self.close()
        return answer

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


@pytest.fixture
def targets(server: Running, wire: Wire, application: Person) -> Iterator[list[Target]]:
    for number, signing in enumerate((True, False), start=1):
        body = key_body(f"00000000-0000-4000-8000-00000000000{number}", signing=signing)
        path = "/v1/auth/jose/request/public-keys"
        assert application.send(application.request("POST", path, body=body)).status == 201
    person = Person.make(wire, pin=PIN)
    ott = person.pay().ott
    play = "/v1/auth/jose/playground/"
    message = {"message": "hello"}
    there = server.address
    made = [
        Target(there, application, f"{play}jws", "jws", message),
        Target(there, application, f"{play}jwe", "jwe", message),
        Target(there, application, f"{play}jwsjwe", "jws+jwe", message),
        Target(there, application, f"{play}jwe-direct-encryption", "jwe", message),
        Target(there, person, "/v1/one-time-token/pin/verify", "jwe", {"pin": PIN}, ott),
        Target(there, Person.make(wire), "/v1/user/pin", "jwe", {"pin": PIN}),
    ]
    yield made
    for target in made:
        target.close()


@pytest.mark.attack(95)
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_hostile_bodies_are_refused_and_cost_nothing_that_lasts(
    server: Running, targets: list[Target]
) -> None:
    worker = Worker(server)
    rng = random.Random("ten thousand")
    statuses: Counter[int] = Counter()
    kinds: set[str] = set()
    dear: list[tuple[float, str]] = []
    resident = 0

    def cost(target: Target, body: bytes) -> float:
        before = worker.seconds()
        answer = target.send(body)
        used = worker.seconds() - before
        assert answer.status in {400, 413}, (answer, body)
        assert refusal(answer) in {"jwe_error", "jws_error", "request.malformed", "request.too.large"}, answer
        statuses[answer.status] += 1
        return used

    for number in range(BODIES):
        if number == WARM_UP:
            resident = worker.resident()
        target = targets[number % len(targets)]
        kind, body = fuzz.make(rng, target.keys, target.method)
        kinds.add(kind)
        used = cost(target, body)
        if used > CPU_SECONDS:
            # The garbage of thousands may have been collected meanwhile: a body that is dear is so again.
            used = min(cost(target, body) for _ in range(3))
        dear.append((used, kind))

    grown = worker.resident() - resident
    print(statuses, f"{grown / 1024:.0f} KiB,", f"at most {max(dear)[0] * 1e3:.1f} ms ({max(dear)[1]}),")
    print(f"{sum(used for used, _ in dear) / BODIES * 1e3:.2f} ms on average")
    assert max(dear)[0] < CPU_SECONDS
    assert grown < GROWTH_BYTES
    assert len(kinds) > 40
    assert "unexpected" not in server.stderr
    assert "Traceback" not in server.stderr
    # After all that an honest body is taken, and no failure of the user's was counted.
    for target in targets:
        answer = target.send(fuzz.honest(rng, target.keys, target.method))
        assert answer.status in {200, 204}, answer


@pytest.mark.attack(106)
def test_a_token_of_a_mebibyte_is_refused_unread_and_leaves_no_long_line(
    server: Running, targets: list[Target]
) -> None:
    worker = Worker(server)
    logged = len(server.stderr)
    for target in targets:
        before = worker.seconds()
        answer = target.send(b"A" * (1 << 20))
        assert (answer.status, answer.code) == (413, "request.too.large")
        assert worker.seconds() - before < CPU_SECONDS
    assert len(server.stderr) - logged < 1000


def test_what_was_sealed_by_hand_is_read_as_what_the_client_seals(wire: Wire, application: Person) -> None:
    """Were honest bodies refused, refusing the others would show nothing."""
    sealed = seal(encryption_key(wire), {"message": "hello"})
    path = "/v1/auth/jose/playground/jwe-direct-encryption"
    headers = JOSE | {"X-TW-JOSE-Method": "jwe"}
    answer = application.send(application.request("POST", path, headers=headers, body=sealed.body))
    assert sealed.read(answer) == {"message": "jose-playground-response-hello", "method": "POST"}
