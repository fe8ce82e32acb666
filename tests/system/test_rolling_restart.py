"""A rolling restart: two servers behind one address are replaced while customers pay."""

from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP, SIGTERM
from threading import Event
from time import monotonic

import pytest

from tests.system.fleet import (
    PATIENCE_SECONDS,
    Balancer,
    Fleet,
    await_payments,
    customers,
    how_many,
    rolling_restart,
)
from tests.system.wire import Wire


@pytest.mark.timeout(300)
def test_two_servers_are_replaced_under_load_and_no_request_fails_that_cannot_be_made_again(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path / "fleet", server="workers = 2\ndrain_seconds = 1")
    running = [fleet.start(), fleet.start()]
    try:
        fleet.enrol(running[0].address)
        with Balancer() as balancer:
            for server in running:
                balancer.add(server.address)
            with customers(fleet, balancer.address) as paying:
                await_payments(paying, 3)
                rolling_restart(fleet, balancer, running)
                await_payments(paying, 3)
        print(how_many(paying))
        # Whoever drains before it stops loses nobody: no client noticed.
        assert how_many(paying)["again"] == {}
        assert how_many(paying)["lost"] == 0
    finally:
        for server in running:
            server.kill()


def test_servers_that_share_no_store_are_found_out(tmp_path: Path) -> None:
    """The customers notice: a payment that one server knows is unknown to the other."""
    fleets = [Fleet(tmp_path / name) for name in ("one", "two")]
    with ExitStack() as stack:
        balancer = stack.enter_context(Balancer())
        for fleet in fleets:
            server = stack.enter_context(fleet.start())
            fleet.enrol(server.address)
            balancer.add(server.address)
        with pytest.raises(AssertionError, match=r"ott\.not\.found"):
            until_somebody_fails(fleets[0], balancer)


def until_somebody_fails(fleet: Fleet, balancer: Balancer) -> None:
    with customers(fleet, balancer.address, 2) as paying:
        end = monotonic() + PATIENCE_SECONDS
        while not any(customer.failed for customer in paying):
            assert monotonic() < end, "nobody noticed"
            Event().wait(0.05)


@pytest.mark.timeout(300)
def test_a_hangup_replaces_each_worker_under_load_and_all_go_by_the_new_file(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet", server="workers = 2")
    with fleet.start() as server:
        fleet.enrol(server.address)
        before = set(server.workers())
        assert len(before) == 2
        with customers(fleet, server.address, 4) as paying:
            await_payments(paying, 3)
            # The bank's own path is protected from now on.
            fleet.config.write_text(
                fleet.config.read_text()
                + '[[actions]]\nname = "WHO__ASK"\nrisk = "low"\nmatch = ["GET /who"]\n'
            )
            server.signal(SIGHUP)
            end = monotonic() + PATIENCE_SECONDS
            while before & set(server.workers()):
                assert monotonic() < end, "not all workers were replaced"
                Event().wait(0.05)
            await_payments(paying, 3)
        print(how_many(paying))
        for _ in range(20):  # Each a connection of its own, to any of the workers.
            with Wire(server.address) as wire:
                assert wire.call("GET", "/who").status == 401
        server.signal(SIGTERM)
        assert server.wait() == 0
        assert server.wait_for_all()
        assert "rror" not in server.stderr
