"""A store that hangs: somebody else holds the lock on the file, and does not let go."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from tests.system.fleet import PATIENCE_SECONDS, PIN, Fleet, workers_of
from tests.system.wire import Address, Answer, Wire


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the lock on a database."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def timed(address: Address, fleet: Fleet, number: int) -> tuple[float, Answer]:
    """Make a call that must store something; return how long it took, and what came."""
    with Wire(address) as wire:
        person = fleet.person(number, wire)
        began = monotonic()
        answer = person.send(person.request("POST", "/payments/1"))
        return monotonic() - began, answer


@pytest.mark.attack(155)
def test_while_the_store_hangs_all_get_503_in_two_seconds_and_it_is_alive_but_not_ready(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path / "fleet", server="workers = 2")
    with fleet.start() as server, ThreadPoolExecutor(24) as callers, workers_of(server, 2) as wires:
        fleet.enrol(server.address)
        person = fleet.person(1, wires[0])
        ott = person.send(person.request("POST", "/payments/1")).ott
        assert person.send(person.about("POST", "pin/verify", ott, {"pin": PIN})).status == 200
        with held(fleet.folder / "watchword.db"):
            # Eight people with three calls each, so that those of one wait for one another.
            calls = [callers.submit(timed, server.address, fleet, n % 8 + 1) for n in range(24)]
            outcomes = [call.result() for call in calls]
            print(f"the slowest of {len(outcomes)} answers took {max(took for took, _ in outcomes):.2f} s")
            for took, answer in outcomes:
                assert answer.status == 503
                assert answer.header("x-2fa-approval") is None
                assert answer.header("retry-after") is not None
                assert took <= 2
            for wire in wires:
                end = monotonic() + PATIENCE_SECONDS
                while (ready := wire.call("GET", "/readyz")).status != 503:
                    assert monotonic() < end
                assert ready.json() == {"status": "unavailable"}
                began = monotonic()
                assert wire.call("GET", "/healthz").status == 200
                assert monotonic() - began < 0.5
            assert person.send(person.request("POST", "/payments/1", ott=ott)).status == 503
            assert fleet.ran() == {}
        # It comes back by itself.
        end = monotonic() + PATIENCE_SECONDS
        for wire in wires:
            while wire.call("GET", "/readyz").status != 200:
                assert monotonic() < end
                Event().wait(0.05)
        while (answer := timed(server.address, fleet, 2)[1]).status == 503:
            assert monotonic() < end
            Event().wait(0.05)
        assert answer.status == 403
        # Its outcome was unknown: it was never let through, and may be spent or not.
        while (answer := person.send(person.request("POST", "/payments/1", ott=ott))).status == 503:
            assert monotonic() < end
            Event().wait(0.05)
        assert answer.status in {201, 403}
        assert fleet.ran()[ott] <= 1
