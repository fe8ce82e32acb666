"""How a server ends: what is in flight finishes, reservations are settled; and it ends in any case."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from threading import Event
from time import monotonic

import pytest

from tests.system.fleet import PATIENCE_SECONDS, PIN, Fleet, workers_of
from tests.system.processes import Running
from tests.system.wire import Answer, Wire
from watchword.domain.token import OneTimeToken, Reserved, Spent
from watchword.engine.engine import identify
from watchword.store.sqlite import SqliteStore

SLOW = "/orders/1/slow"


def ordered(fleet: Fleet, wires: Sequence[Wire]) -> list[str]:
    """Have a handler run on each connection, which goes on until it may end; return the OTTs."""
    otts = []
    for number, wire in enumerate(wires, start=1):
        person = fleet.person(number, wire)
        ott = person.send(person.request("POST", SLOW)).ott
        assert person.send(person.about("POST", "pin/verify", ott, {"pin": PIN})).status == 200
        wire.send(person.request("POST", SLOW, ott=ott))
        otts.append(ott)
    end = monotonic() + PATIENCE_SECONDS
    while not set(otts) <= fleet.ran().keys():
        assert monotonic() < end, "not every handler runs"
        Event().wait(0.02)
    return otts


async def stored(fleet: Fleet, otts: Sequence[str]) -> list[OneTimeToken]:
    store = SqliteStore.open(fleet.folder / "watchword.db")
    try:
        found = [await store.token(identify(ott)) for ott in otts]
    finally:
        await store.close()
    return [token for token in found if token is not None]


def refuses(server: Running) -> bool:
    try:
        Wire(server.address).close()
    except OSError:
        return True
    return False


def eventually(server: Running) -> None:
    """Wait until nobody can connect any more."""
    end = monotonic() + PATIENCE_SECONDS
    while not refuses(server):
        assert monotonic() < end, "it goes on taking connections"
        Event().wait(0.02)


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Fleet:
    return Fleet(tmp_path / "fleet", server=f"workers = 2\n{getattr(request, 'param', '')}")


@pytest.mark.parametrize("signal", [SIGTERM, SIGINT])
async def test_what_is_in_flight_in_every_worker_ends_well_and_no_reservation_is_left(
    fleet: Fleet, signal: Signals
) -> None:
    with fleet.start() as server, ExitStack() as stack:
        fleet.enrol(server.address)
        wires = [wire for _ in range(3) for wire in stack.enter_context(workers_of(server, 2))]
        otts = ordered(fleet, wires)
        assert all(isinstance(token.state, Reserved) for token in await stored(fleet, otts))
        server.signal(signal)
        eventually(server)
        (fleet.folder / "go").touch()
        assert [wire.receive("POST").status for wire in wires] == [201] * len(wires)
        assert server.wait() == 0, server.stderr
        assert server.wait_for_all()
        assert server.stderr == ""
    assert all(isinstance(token.state, Spent) for token in await stored(fleet, otts))
    assert set(fleet.ran().values()) == {1}


async def test_a_handler_whose_caller_hung_up_is_waited_for_and_its_reservation_settled(fleet: Fleet) -> None:
    with fleet.start() as server:
        fleet.enrol(server.address)
        with workers_of(server, 2) as wires:
            otts = ordered(fleet, wires)
        server.signal(SIGTERM)
        eventually(server)
        assert all(isinstance(token.state, Reserved) for token in await stored(fleet, otts))
        (fleet.folder / "go").touch()
        assert server.wait() == 0, server.stderr
    assert all(isinstance(token.state, Spent) for token in await stored(fleet, otts))


@pytest.mark.parametrize("fleet", ["stop_seconds = 1"], indirect=True)
async def test_what_does_not_end_in_time_is_ended_and_its_token_lets_nobody_through_again(
    fleet: Fleet,
) -> None:
    with fleet.start() as server, ExitStack() as stack:
        fleet.enrol(server.address)
        wires = stack.enter_context(workers_of(server, 2))
        otts = ordered(fleet, wires)
        began = monotonic()
        server.signal(SIGTERM)
        assert server.wait() == 1
        assert monotonic() - began < 15
        assert server.wait_for_all()
        assert "ended at once: what was in flight did not end within 1 s" in server.stderr
    assert all(isinstance(token.state, Reserved) for token in await stored(fleet, otts))
    (fleet.folder / "go").touch()
    with fleet.start() as again, Wire(again.address) as wire:
        for number, ott in enumerate(otts, start=1):
            person = fleet.person(number, wire)
            assert person.send(person.request("POST", SLOW, ott=ott)).status == 403
    assert set(fleet.ran().values()) == {1}


@pytest.mark.parametrize("fleet", ["stop_seconds = 600", "drain_seconds = 300"], indirect=True)
def test_told_a_second_time_it_ends_at_once(fleet: Fleet) -> None:
    with fleet.start() as server, ExitStack() as stack:
        fleet.enrol(server.address)
        ordered(fleet, stack.enter_context(workers_of(server, 2)))
        began = monotonic()
        server.signal(SIGTERM)
        server.signal(SIGTERM)  # As a Ctrl-C does that comes twice: that is one.
        while monotonic() - began < 1.2:
            assert server.workers(), "it did not wait for what is in flight"
            Event().wait(0.1)
        server.signal(SIGTERM)
        assert server.wait() == 1
        assert monotonic() - began < 15
        assert server.wait_for_all()
        assert "ended at once: told to stop a second time" in server.stderr


@pytest.mark.parametrize("fleet", ["drain_seconds = 3"], indirect=True)
def test_while_it_drains_it_says_so_and_serves_on_but_keeps_no_connection(fleet: Fleet) -> None:
    with fleet.start() as server, ExitStack() as stack:
        fleet.enrol(server.address)
        wires = stack.enter_context(workers_of(server, 2))
        assert [wire.call("GET", "/readyz").status for wire in wires] == [200, 200]
        server.signal(SIGTERM)
        for wire in wires:  # Each worker's.
            end = monotonic() + PATIENCE_SECONDS
            while (ready := wire.call("GET", "/readyz")).status != 503:
                assert monotonic() < end, "it never drained"
            assert ready.json() == {"status": "draining"}
            assert ready.header("connection") == "close"
            assert wire.at_end()
        for _ in range(4):
            with Wire(server.address) as wire:
                assert wire.call("GET", "/healthz").status == 200

        def said(request: bytes) -> Answer:
            with Wire(server.address) as wire:
                return fleet.person(1, wire).send(request)

        person = fleet.person(1, wires[0])
        ott = said(person.request("POST", "/payments/1")).ott
        assert said(person.about("POST", "pin/verify", ott, {"pin": PIN})).status == 200
        assert said(person.request("POST", "/payments/1", ott=ott)).status == 201
        assert server.wait() == 0, server.stderr
        assert refuses(server)


def test_told_to_stop_as_soon_as_it_answers_it_ends_well(tmp_path: Path) -> None:
    """Some of its workers have not begun to serve then."""
    fleet = Fleet(tmp_path / "fleet", server="workers = 6")
    with fleet.start() as server:
        server.signal(SIGTERM)
        began = monotonic()
        assert server.wait() == 0, server.stderr
        assert monotonic() - began < 15
        assert server.wait_for_all()


def test_told_to_stop_in_the_middle_of_a_reload_it_ends_well(fleet: Fleet) -> None:
    with fleet.start() as server:
        before = server.workers()
        server.signal(SIGHUP)
        end = monotonic() + PATIENCE_SECONDS
        while server.workers() == before:  # Until the first of the new ones is there.
            assert monotonic() < end
            Event().wait(0.01)
        server.signal(SIGTERM)
        assert server.wait() == 0, server.stderr
        assert server.wait_for_all()
