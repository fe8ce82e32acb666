"""Two servers of two workers each over a database server: what one does all know, and none is missed."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests import stores
from tests.serving.support import run
from tests.system.fleet import (
    PIN,
    Balancer,
    Fleet,
    await_payments,
    customers,
    how_many,
    rolling_restart,
    workers_of,
)
from tests.system.wire import Wire, volley

RACERS = 32


@pytest.fixture(scope="module", params=["postgres", "valkey", "split"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The ``[store]`` of a server that runs."""
    with stores.running(request.param) as place:
        if request.param == "split":
            tokens, users = place.where.split("+")
            yield f'[store]\ntokens = "{tokens}"\nusers = "{users}"\n'
        else:
            yield f'[store]\nurl = "{place.where}"\n'


@pytest.mark.attack(25)
@pytest.mark.attack(43)
@pytest.mark.timeout(300)
def test_over_a_database_server_processes_share_everything_and_a_restart_is_not_noticed(
    store: str, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path / "fleet", store=store, server="workers = 2\ndrain_seconds = 1", people=11)
    running = [fleet.start(), fleet.start()]
    try:
        fleet.enrol(running[0].address, 11)
        with ExitStack() as stack:
            for server in running:
                stack.enter_context(workers_of(server, 2))
            wires = [stack.enter_context(Wire(server.address)) for server in islice(cycle(running), RACERS)]
            for number in (9, 10):
                person = fleet.person(number, wires[0])
                ott = person.send(person.request("POST", "/payments/1")).ott
                assert (
                    person.over(wires[1]).send(person.about("POST", "pin/verify", ott, {"pin": PIN})).status
                    == 200
                )
                answers = volley(wires, [person.request("POST", "/payments/1", ott=ott)] * RACERS)
                assert [answer.status for answer in answers].count(201) == 1
                assert fleet.ran()[ott] == 1
            person = fleet.person(11, wires[0])
            ott = person.send(person.request("POST", "/payments/1")).ott
            guesses = [person.about("POST", "pin/verify", ott, {"pin": f"{n:04}"}) for n in range(RACERS)]
            answers = volley(wires, guesses)
            assert [answer.status for answer in answers].count(400) == 5
        looked = run("doctor", "--config", fleet.config)
        assert looked.returncode == 0, looked.stdout
        named = (
            "the servers of store.tokens and store.users" if "tokens" in store else "the server of store.url"
        )
        assert f"ok    store: {named} opens and can be written" in looked.stdout
        assert "ok    keys and store: what is stored opens with these keys" in looked.stdout
        with Balancer() as balancer:
            for server in running:
                balancer.add(server.address)
            with customers(fleet, balancer.address) as paying:
                await_payments(paying, 3)
                rolling_restart(fleet, balancer, running)
                await_payments(paying, 3)
        print(how_many(paying))
        assert how_many(paying)["again"] == {}
        assert how_many(paying)["lost"] == 0
    finally:
        for server in running:
            server.kill()
