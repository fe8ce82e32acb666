"""
Two releases share a store: it is migrated, and the servers are replaced by those of the next one, under load.

The next release is the one that is installed with one thing changed, in a folder of its own.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

import watchword
from tests import stores
from tests.serving.support import run
from tests.store.valkey import shared_cluster, shared_server
from tests.system import fleet as fleets
from tests.system.fleet import (
    PATIENCE_SECONDS,
    Balancer,
    Customer,
    Fleet,
    await_payments,
    customers,
    how_many,
    rolling_restart,
)
from tests.system.processes import Running
from tests.system.wire import Wire
from watchword.store.migrations import steps

INSTALLED = Path(watchword.__file__).parent


@dataclass(frozen=True)
class Kind:
    """
    A kind of store, and what a next release may change about it.

    Attributes:
        migrations: The folder of its schema.
        shared: A step that the release before can live with.
        unshared: One that it cannot live with.
    """

    place: str
    migrations: str
    shared: str
    unshared: str


SQLITE = Kind(
    place="sqlite",
    migrations="sqlite",
    shared="ALTER TABLE user ADD COLUMN later TEXT; CREATE INDEX later ON user (later)",
    unshared="ALTER TABLE token RENAME COLUMN body TO record",
)
POSTGRES = Kind(
    place="postgres",
    migrations="postgres",
    shared="ALTER TABLE user_security ADD COLUMN later text; CREATE INDEX later ON user_security (later)",
    unshared="ALTER TABLE token RENAME COLUMN body TO record",
)


@contextmanager
def table_of(kind: str) -> Iterator[tuple[str, stores.Place]]:
    """Run what a store needs; yields the ``[store]`` that leads there."""
    with stores.running(kind) as place:
        url = f'[store]\nurl = "{place.where}"\n'
        apart = f'[store.valkey]\nprefix = "{stores.fresh_name()}"\n' if kind.startswith("valkey") else ""
        yield ("" if kind == "sqlite" else url + apart), place


def next_release(folder: Path) -> Path:
    """Make a folder from which another release is run."""
    shutil.copytree(INSTALLED, folder / "watchword", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def with_step(kind: Kind, folder: Path, step: str, *, needs: int | None) -> tuple[Path, str]:
    """Make a release whose schema has one step more; returns its folder, and the step's name."""
    known = len(steps(kind.migrations))
    name = f"{known + 1:04}_later"
    release = next_release(folder)
    says = "" if needs is None else f"-- needs: {needs}\n"
    (release / f"watchword/store/migrations/{kind.migrations}/{name}.sql").write_text(says + step)
    return release, name


def release_of(server: Running) -> Path:
    with Wire(server.address) as wire:
        return Path(wire.call("GET", "/release").body.decode()).parents[1]


@contextmanager
def two_servers(folder: Path, store: str) -> Iterator[tuple[Fleet, Balancer, list[Running]]]:
    """Run two servers of the installed release behind one address."""
    fleet = Fleet(folder, store=store, server="workers = 2\ndrain_seconds = 1")
    running = [fleet.start(), fleet.start()]
    try:
        fleet.enrol(running[0].address)
        with Balancer() as balancer:
            for server in running:
                balancer.add(server.address)
            yield fleet, balancer, running
    finally:
        for server in running:
            server.kill()


def nobody_noticed(what: str, paying: list[Customer]) -> None:
    print(f"{what}: {how_many(paying)}")
    assert how_many(paying)["again"] == {}
    assert how_many(paying)["lost"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "migrated_by"),
    [(SQLITE, "command"), (POSTGRES, "command"), (POSTGRES, "first server")],
    ids=lambda value: value.place if isinstance(value, Kind) else value,
)
def test_a_store_is_migrated_and_two_servers_are_replaced_and_no_customer_notices(
    kind: Kind, migrated_by: str, tmp_path: Path
) -> None:
    later, step = with_step(kind, tmp_path / "later", kind.shared, needs=len(steps(kind.migrations)))
    with (
        table_of(kind.place) as (store, _),
        two_servers(tmp_path / "fleet", store) as (fleet, balancer, running),
        customers(fleet, balancer.address) as paying,
    ):
        await_payments(paying, 3)
        check = ("migrate", "--config", fleet.config, "--check")
        assert f"1 steps to take: {step}" in run(*check, release=later).stdout
        if migrated_by == "command":
            took = run("migrate", "--config", fleet.config, release=later)
            assert f"took {step}" in took.stdout, took.stderr
            await_payments(paying, 3)  # Served by the older release, on the newer schema.
            assert run(*check).returncode == 0
            fleet.start().kill()  # Which may even be started again.

        def both() -> None:
            assert [release_of(server) for server in running] == [later, INSTALLED.parent]
            assert run(*check, release=later).returncode == 0
            await_payments(paying, 3)

        rolling_restart(fleet, balancer, running, release=later, between=both)
        assert [release_of(server) for server in running] == [later, later]
        await_payments(paying, 3)
    nobody_noticed(f"{kind.place}, migrated by the {migrated_by}", paying)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["valkey", "valkey-cluster"])
def test_two_releases_have_each_their_functions_in_valkey_and_no_customer_notices(
    kind: str, tmp_path: Path
) -> None:
    later = next_release(tmp_path / "later")
    with (later / "watchword/store/valkey/library.lua").open("a") as library:
        library.write("-- Of the next release.\n")
    with (
        table_of(kind) as (store, place),
        two_servers(tmp_path / "fleet", store) as (fleet, balancer, running),
        customers(fleet, balancer.address) as paying,
    ):
        known = libraries(place)
        await_payments(paying, 3)

        def both() -> None:
            assert len(libraries(place) - known) == 1
            await_payments(paying, 3)

        rolling_restart(fleet, balancer, running, release=later, between=both)
        assert [release_of(server) for server in running] == [later, later]
        await_payments(paying, 3)
    nobody_noticed(kind, paying)


def libraries(place: stores.Place) -> set[bytes]:
    """Return the names of the libraries that a server has."""
    server = shared_server() if place.kind == "valkey" else shared_cluster().primaries()[0]
    return {
        dict(zip(each[::2], each[1::2], strict=True))[b"library_name"]
        for each in server.tell("FUNCTION", "LIST")
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [SQLITE, POSTGRES], ids=lambda kind: kind.place)
def test_a_step_that_two_releases_cannot_share_is_noticed_and_the_older_one_starts_no_more(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PATIENCE_SECONDS", 10.0)
    later, _ = with_step(kind, tmp_path / "later", kind.unshared, needs=None)
    with table_of(kind.place) as (store, _), two_servers(tmp_path / "fleet", store) as (fleet, balancer, _):
        with pytest.raises(AssertionError, match=r"nobody answers|status=500"):
            migrate_under_load(fleet, balancer, later)
        refused = run("serve", "--config", fleet.config)
        assert refused.returncode == 1
        assert "start " in refused.stderr
        assert "newer" in refused.stderr


def migrate_under_load(fleet: Fleet, balancer: Balancer, release: Path) -> None:
    with customers(fleet, balancer.address) as paying:
        await_payments(paying, 1)
        assert run("migrate", "--config", fleet.config, release=release).returncode == 0
        until_somebody_has_to_come_again(paying)


def until_somebody_has_to_come_again(paying: list[Customer]) -> None:
    end = monotonic() + PATIENCE_SECONDS
    while not any(customer.again or customer.failed for customer in paying):
        assert monotonic() < end, "nobody noticed"
        Event().wait(0.05)


@pytest.mark.timeout(600)
def test_releases_that_do_not_find_each_others_records_in_valkey_are_found_out(tmp_path: Path) -> None:
    later = next_release(tmp_path / "later")
    layout = later / "watchword/store/valkey/layout.py"
    written = layout.read_text()
    layout.write_text(written.replace('b"%s:{%s}:"', 'b"%s;{%s};"'))
    assert layout.read_text() != written
    with (
        table_of("valkey") as (store, _),
        two_servers(tmp_path / "fleet", store) as (fleet, balancer, running),
        ExitStack() as stack,
    ):
        stack.enter_context(pytest.raises(AssertionError, match=r"ott\.not\.found|sca\.enrolment\.required"))
        paying = stack.enter_context(customers(fleet, balancer.address))
        await_payments(paying, 1)
        rolling_restart(
            fleet, balancer, running, release=later, between=lambda: until_somebody_has_to_come_again(paying)
        )
