"""A hangup: new workers take over once all of them serve, or those before go on as if nothing had been."""

from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM
from threading import Event
from time import monotonic

import pytest

from tests.system.fleet import PATIENCE_SECONDS, Fleet, await_payments, customers, how_many
from tests.system.processes import Running
from tests.system.wire import Wire

NOT_RELOADED = "watchword: not reloaded, the server goes on as it was"

# What the bank does as it starts, depending on a file beside it.
LIFE = """
from pathlib import Path as _Path

_bank = app
_here = _Path(__file__).parent


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await _bank(scope, receive, send)
    await receive()
    with (_here / "starts").open("a") as starts:
        starts.write("x")
    how = (_here / "how").read_text()
    if how == "fails" or how == "fails later" and len((_here / "starts").read_text()) > 1:
        await send({"type": "lifespan.startup.failed", "message": "no ledger today"})
        return
    if how == "hangs":
        import asyncio
        await asyncio.sleep(3600)
    if how == "dies":
        import os
        os._exit(3)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


def starting(fleet: Fleet, how: str) -> None:
    """Say how the bank starts from now on."""
    (fleet.folder / "how").write_text(how)
    (fleet.folder / "starts").write_text("")


@pytest.fixture(params=[1, 2])
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Fleet:
    made = Fleet(tmp_path / "fleet", server=f"workers = {request.param}\nstop_seconds = 5")
    with (made.folder / "fleet_bank.py").open("a") as bank:
        bank.write(LIFE)
    starting(made, "well")
    return made


@pytest.fixture
def server(fleet: Fleet) -> Iterator[Running]:
    with fleet.start() as started:
        yield started


def until(is_so: Callable[[], object], otherwise: str) -> None:
    end = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < end, otherwise
        Event().wait(0.02)


def ends_well(server: Running) -> None:
    server.signal(SIGTERM)
    assert server.wait() == 0, server.stderr
    assert server.wait_for_all()


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_an_application_that_does_not_start_any_more_leaves_the_old_workers_in_their_place(
    fleet: Fleet, server: Running, how: str
) -> None:
    before = server.workers()
    fleet.enrol(server.address)
    with customers(fleet, server.address, 3) as paying:
        await_payments(paying, 1)
        starting(fleet, how)
        server.signal(SIGHUP)
        until(lambda: NOT_RELOADED in server.stderr, "it said nothing")
        assert (fleet.folder / "starts").read_text() == "x"  # One tried for all.
        assert server.workers() == before
        await_payments(paying, 1)
    assert how_many(paying)["again"] == {}
    assert server.stderr.count("no ledger today") == (how == "fails")
    starting(fleet, "well")
    server.signal(SIGHUP)
    until(lambda: server.workers() and not set(before) & set(server.workers()), "the next one was lost")
    ends_well(server)


@pytest.mark.parametrize("fleet", [2], indirect=True)
def test_where_one_of_several_does_not_start_none_takes_over(fleet: Fleet, server: Running) -> None:
    before = server.workers()
    starting(fleet, "fails later")
    server.signal(SIGHUP)
    until(lambda: NOT_RELOADED in server.stderr, "it said nothing")
    until(lambda: server.workers() == before, "a new one stayed")
    assert (fleet.folder / "starts").read_text() == "xx"
    ends_well(server)


def test_two_hangups_at_once_and_one_in_the_middle_are_lost_to_nobody(fleet: Fleet, server: Running) -> None:
    """The last is told after the file changed for the last time: what is served then goes by that."""
    fleet.enrol(server.address)
    text = fleet.config.read_text()
    with customers(fleet, server.address, 3) as paying:
        await_payments(paying, 1)
        for last in range(5):
            action = f'[[actions]]\nname = "WHO__ASK_{last}"\nrisk = "low"\nmatch = ["GET /who/{last}"]\n'
            whole = fleet.config.with_suffix(".new")
            whole.write_text(text + action)
            whole.replace(fleet.config)  # Nobody reads half of it.
            server.signal(SIGHUP)
            server.signal(SIGHUP)

        def goes_by_the_last() -> bool:
            with Wire(server.address) as wire:
                return wire.call("GET", "/who/4").status == 401

        until(goes_by_the_last, "a hangup was lost")
        await_payments(paying, 1)
    assert how_many(paying)["lost"] == 0
    assert NOT_RELOADED not in server.stderr
    ends_well(server)


def test_told_to_stop_while_new_workers_start_it_ends_well_and_at_once(fleet: Fleet, server: Running) -> None:
    starting(fleet, "hangs")
    server.signal(SIGHUP)
    until((fleet.folder / "starts").read_text, "no new worker starts")
    began = monotonic()
    ends_well(server)
    assert monotonic() - began < 15
    assert NOT_RELOADED not in server.stderr


def test_after_many_hangups_it_rests(fleet: Fleet, server: Running) -> None:
    before = server.workers()
    for _ in range(50):
        server.signal(SIGHUP)
    until(lambda: not set(before) & set(server.workers()), "it never reloaded")
    until(lambda: busy_seconds(server) < 0.2, "it is busy with nothing")
    ends_well(server)


def busy_seconds(server: Running) -> float:
    """Return how much processor time the main process takes in a second."""

    def taken() -> int:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = taken()
    Event().wait(1.0)
    return (taken() - before) / 100
