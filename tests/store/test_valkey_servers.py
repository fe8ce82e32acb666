"""What the store on Valkey asks of servers before it trusts them, and what it says where they fall short."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.factories import ADA, make_user
from tests.store.support import claim, make_owner
from tests.store.valkey import ALWAYS, PATIENT, Server, empty, shared_cluster, shared_server, until
from watchword.domain.decision import Change
from watchword.store.base import StoreUnavailableError, UnusableStoreError
from watchword.store.valkey import ValkeySettings, ValkeyStore
from watchword.store.valkey.layout import BUCKETS, Key, Names
from watchword.store.valkey.link import LIBRARY
from watchword.store.valkey.servers import target_of

HERE = ValkeySettings()
HOW_TO = Path("docs/how-to/valkey.md")


@pytest.fixture(scope="module")
def changed() -> Iterator[Server]:
    """A server whose settings a test may change; they are set back afterwards."""
    server = Server(**ALWAYS)
    yield server
    server.remove()


async def refusal(url: str, settings: ValkeySettings = HERE) -> str:
    """Return why a store cannot be opened."""
    with pytest.raises(UnusableStoreError) as refused:
        await ValkeyStore.open(url, settings=settings)
    return str(refused.value)


async def test_a_server_that_throws_records_away_is_refused(changed: Server) -> None:
    changed.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "set `maxmemory-policy noeviction`" in await refusal(changed.url)
    changed.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await (await ValkeyStore.open(changed.url)).close()


@pytest.mark.parametrize(("name", "value"), [("appendonly", "no"), ("appendfsync", "everysec")])
async def test_a_server_that_answers_before_its_disk_has_it_is_refused(
    changed: Server, name: str, value: str
) -> None:
    """Unless that is what is wanted."""
    changed.tell("CONFIG", "SET", name, value)
    said = await refusal(changed.url)
    assert f"`{name} {value}`" in said
    assert "set `appendonly yes` and `appendfsync always`" in said
    await (await ValkeyStore.open(changed.url, settings=ValkeySettings(fsync=False))).close()
    changed.tell("CONFIG", "SET", name, ALWAYS[name])


async def test_a_server_that_does_not_sync_while_it_rewrites_its_file_is_refused(changed: Server) -> None:
    changed.tell("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
    assert "`no-appendfsync-on-rewrite yes`" in await refusal(changed.url)
    await (await ValkeyStore.open(changed.url, settings=ValkeySettings(fsync=False))).close()
    changed.tell("CONFIG", "SET", "no-appendfsync-on-rewrite", "no")


async def test_fewer_replicas_than_are_asked_for_are_refused(changed: Server) -> None:
    said = await refusal(changed.url, ValkeySettings(replicas=1))
    assert "has 0 replicas and every change is to reach 1" in said


async def test_a_cluster_has_to_have_replicas_unless_it_is_said_that_it_need_not() -> None:
    cluster = shared_cluster()
    assert "has 1 replicas and every change is to reach 2" in await refusal(
        cluster.url, ValkeySettings(replicas=2)
    )
    for settings in (PATIENT, ValkeySettings(replicas=0)):
        await (await ValkeyStore.open(cluster.url, settings=settings)).close()


@pytest.fixture
def primary() -> Iterator[Server]:
    """A server that may get a replica."""
    server = Server(**ALWAYS)
    yield server
    server.remove()


async def test_a_replica_is_refused_and_its_primary_named(primary: Server) -> None:
    replica = Server()
    try:
        replica.follow(primary)
        # The client alone would take the replica for unreachable; who is asked names it.
        with pytest.raises((UnusableStoreError, StoreUnavailableError), match=r"replica|[Pp]rimary"):
            await ValkeyStore.open(replica.url)
    finally:
        replica.remove()


async def test_replicas_that_are_away_as_a_store_is_opened_are_still_asked_for(primary: Server) -> None:
    """Unless it is said that there are none, which is remembered too."""
    quickly = ValkeySettings(wait_milliseconds=1000)
    replica = Server()
    try:
        replica.follow(primary)
        await (await ValkeyStore.open(primary.url, settings=quickly)).close()
    finally:
        replica.remove()
    until(lambda: not primary.replicas())
    assert "has 0 replicas and every change is to reach 1" in await refusal(primary.url)
    primary.kill()
    primary.start()
    # The server knows nothing of a replica now; the store does.
    said = await refusal(primary.url)
    assert "had to reach 1 replicas, and by what is seen now it would be 0: set `replicas`" in said
    for settings in (ValkeySettings(replicas=0), HERE):
        await (await ValkeyStore.open(primary.url, settings=settings)).close()


async def test_who_names_several_servers_has_replicas(primary: Server) -> None:
    gone = Server()
    gone.remove()
    url = f"{primary.url},127.0.0.1:{gone.port}"
    assert "has 0 replicas and every change is to reach 1" in await refusal(url)


async def test_a_primary_that_was_a_replica_is_taken_to_have_one(primary: Server) -> None:
    heir = Server(**ALWAYS)
    try:
        heir.follow(primary)
        primary.kill()
        heir.tell("REPLICAOF", "NO", "ONE")
        assert "has 0 replicas and every change is to reach 1" in await refusal(heir.url)
    finally:
        heir.remove()


async def test_a_cluster_that_is_not_whole_is_told() -> None:
    server = Server(**{"cluster-enabled": "yes"})
    try:
        with pytest.raises(StoreUnavailableError, match="0 of 16384 slots are served"):
            await ValkeyStore.open(server.url)
    finally:
        server.remove()


async def test_servers_that_do_not_answer_are_told() -> None:
    server = Server()
    server.remove()
    with pytest.raises(StoreUnavailableError):
        await ValkeyStore.open(server.url, settings=ValkeySettings(timeout_seconds=0.5))


async def test_any_server_of_a_cluster_that_answers_will_do() -> None:
    gone = Server()
    gone.remove()
    store = await ValkeyStore.open(
        f"{gone.url},{shared_cluster().url.removeprefix('valkey://')}", settings=PATIENT
    )
    await store.ping()
    await store.close()


async def test_a_cluster_is_found_by_servers_that_have_become_replicas() -> None:
    cluster = shared_cluster()
    primaries = cluster.primaries()
    replicas = ",".join(f"127.0.0.1:{each.port}" for each in cluster.servers if each not in primaries)
    await (await ValkeyStore.open(f"valkey://{replicas}", settings=PATIENT)).close()


async def test_a_user_with_the_documented_permissions_can_do_all_of_it(changed: Server) -> None:
    """And one without the right to read settings is told of it."""
    permissions = _documented_permissions()
    changed.tell("ACL", "SETUSER", "watchword", "reset", "on", ">secret", *permissions)
    url = changed.url.replace("//", "//watchword:secret@")
    store = await ValkeyStore.open(url)
    assert await store.commit(Change(user=make_user()))
    assert await store.user(ADA) is not None
    assert [user.id for user in await store.users()] == [ADA]
    assert await store.events() == []
    assert await store.sweep(make_user().session_until, limit=1) == 0
    await store.close()
    without = [each for each in permissions if each != "+xadd"]
    changed.tell("ACL", "SETUSER", "watchword", "reset", "on", ">secret", *without)
    assert "may not do all that is needed" in await refusal(url)
    without = [each for each in permissions if each != "+config|get"]
    changed.tell("ACL", "SETUSER", "watchword", "reset", "on", ">secret", *without)
    assert "allow the user `+config|get`" in await refusal(url)
    with pytest.raises(StoreUnavailableError, match=r"WRONGPASS|[Aa]uth"):
        await ValkeyStore.open(url.replace("secret", "wrong"))


async def test_the_documented_permissions_are_enough_for_a_cluster() -> None:
    cluster = shared_cluster()
    for each in cluster.servers:
        each.tell("ACL", "SETUSER", "watchword", "reset", "on", ">secret", *_documented_permissions())
    store = await ValkeyStore.open(cluster.url.replace("//", "//watchword:secret@"), settings=PATIENT)
    empty(*cluster.primaries())
    assert await claim(store, ADA, b"one", b"two")
    assert (await store.owner(b"one"), await store.owner(b"two")) == (
        make_owner(id=b"one"),
        make_owner(id=b"two"),
    )
    assert len(await store.events()) == 1
    await store.close()


def test_every_setting_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [field.name for field in msgspec.structs.fields(ValkeySettings)]


def _documented_permissions() -> list[str]:
    text = HOW_TO.read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("user watchword ")]
    words = line.split()
    return words[words.index("~watchword:*") :]


async def test_a_password_may_have_any_character(changed: Server) -> None:
    changed.tell("ACL", "SETUSER", "other", "reset", "on", ">p@ss:/wörd", "~*", "+@all")
    store = await ValkeyStore.open(changed.url.replace("//", "//other:p%40ss%3A%2Fw%C3%B6rd@"))
    await store.ping()
    await store.close()


async def test_releases_that_run_side_by_side_have_functions_of_their_own(changed: Server) -> None:
    changed.tell(
        "FUNCTION", "LOAD", "#!lua name=watchword_00000000\nserver.register_function('old', function() end)"
    )
    store = await ValkeyStore.open(changed.url)
    names = str(changed.tell("FUNCTION", "LIST"))
    assert "watchword_00000000" in names
    assert LIBRARY in names
    await store.close()


async def test_stores_with_another_prefix_have_nothing_in_common() -> None:
    one = await ValkeyStore.open(shared_server().url, settings=ValkeySettings(prefix="one"))
    two = await ValkeyStore.open(shared_server().url, settings=ValkeySettings(prefix="two"))
    assert await one.commit(Change(user=make_user()))
    assert await two.user(ADA) is None
    await one.close()
    await two.close()


# --- TLS ----------------------------------------------------------------------------------------


@asynccontextmanager
async def in_tls(server: Server, folder: Path) -> AsyncIterator[str]:
    """Stand before a server that cannot speak TLS; the URL says who the certificate is good for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(
        pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    front = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FRONT, str(folder / "both.pem"), str(server.port)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert front.stdout is not None
    try:
        yield f"valkeys://localhost:{int(await front.stdout.readline())}"
    finally:
        front.kill()
        await front.communicate()


# A process of its own: what a failed handshake leaves open is gone with it.
FRONT = """
import asyncio, ssl, sys

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1])

async def carry(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def connected(reader, writer):
    from_server, to_server = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(carry(reader, to_server), carry(from_server, writer))

async def main():
    front = await asyncio.start_server(connected, "127.0.0.1", ssl=context)
    print(front.sockets[0].getsockname()[1], flush=True)
    await front.serve_forever()

asyncio.run(main())
"""


async def test_a_server_must_be_who_its_certificate_says(changed: Server, tmp_path: Path) -> None:
    async with in_tls(changed, tmp_path) as url:
        trusting = ValkeySettings(root_certificate=str(tmp_path / "ca.pem"))
        store = await ValkeyStore.open(url, settings=trusting)
        await store.ping()
        await store.close()
        for other, settings in (
            (url, HERE),  # Nobody the system trusts.
            (url.replace("localhost", "127.0.0.1"), trusting),  # Another name than the certificate's.
        ):
            with pytest.raises(StoreUnavailableError):
                await ValkeyStore.open(other, settings=settings)


# --- what needs no server -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "valkey://",
        "valkey://127.0.0.1:0",
        "valkey://127.0.0.1:70000",
        "valkey://127.0.0.1:port",
        "valkey://127.0.0.1,,127.0.0.1",
        "valkey://127.0.0.1/1",
        "valkey://127.0.0.1?tls=no",
    ],
)
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(UnusableStoreError):
        target_of(url, HERE)


def test_a_url_names_servers_and_a_user() -> None:
    target = target_of("valkeys://a%40b:c%3Ad@one.example:1,two.example,[::1]:3", HERE)
    assert target.servers == [("one.example", 1), ("two.example", 6379), ("::1", 3)]
    assert (target.user, target.password, target.tls) == ("a@b", "c:d", True)


@pytest.mark.parametrize("host", ["valkey.example", "10.0.0.1", "127.0.0.1,10.0.0.1", "[fd00::1]"])
def test_what_would_be_readable_on_a_network_is_refused(host: str) -> None:
    with pytest.raises(UnusableStoreError, match="not encrypted"):
        target_of(f"valkey://{host}", HERE)
    assert target_of(f"valkeys://{host}", HERE).tls
    assert not target_of(f"valkey://{host}", ValkeySettings(plaintext=True)).tls


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_this_machine_needs_no_encryption(host: str) -> None:
    assert not target_of(f"valkey://{host}", HERE).tls


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for _ in range(2):
        with pytest.raises(UnusableStoreError, match="has no certificates"):
            target_of("valkeys://127.0.0.1", ValkeySettings(root_certificate=str(file)))
        file.write_text("no certificate")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": ""},
        {"prefix": "a{b"},
        {"prefix": "ü"},
        {"prefix": "x" * 65},
        {"replicas": -1},
        {"replicas": 6},
        {"wait_milliseconds": 0},
        {"wait_milliseconds": 1501},
        {"timeout_seconds": 0.09},
        {"fsnyc": False},
        {"timeout_seconds": 2},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(wrong))):
        msgspec.convert(wrong, ValkeySettings)


def test_settings_at_their_limits_are_taken() -> None:
    for each in (
        {"prefix": "x" * 64, "replicas": 0, "wait_milliseconds": 1, "timeout_seconds": 0.1},
        {"prefix": "x", "replicas": 5, "wait_milliseconds": 1500, "timeout_seconds": 1.999},
    ):
        assert msgspec.to_builtins(msgspec.convert(each, ValkeySettings)).items() >= each.items()


# --- where records lie --------------------------------------------------------------------------


def test_buckets_are_spread_evenly_over_the_slots() -> None:
    names = Names("watchword")
    slots = [
        shared_cluster().servers[0].tell("CLUSTER", "KEYSLOT", names.of(bucket, b"x"))
        for bucket in range(BUCKETS)
    ]
    share = 16384 // BUCKETS
    assert [slot // share for slot in slots] == list(range(BUCKETS))


def test_a_key_is_known_by_its_whole_name() -> None:
    names = Names("watchword")
    for key in (Key(0, b"u:1"), Key(63, b"t:00")):
        assert names.key(names(key)) == key
    with pytest.raises(ValueError, match="other"):
        names.key(b"other:{0}:u:1")
