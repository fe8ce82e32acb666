"""Which servers they are, and whether they are set up so that the store can keep what it promises."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import msgspec
from glide import GlideError

from watchword.store.base import StoreUnavailableError, UnusableStoreError
from watchword.store.valkey.client import Client, Target
from watchword.store.valkey.link import unavailable

PORT: Final = 6379
OLDEST: Final = 8
"""The oldest major version of Valkey: before it, functions know no ``server``."""

_log = logging.getLogger(__name__)


class ValkeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What an operator decides.

    Attributes:
        prefix: What every key begins with.
        replicas: How many replicas must have a change before it counts as stored; None for 1, or for 0
            where one server is named that is none of a cluster and knows of no replica, now or before.
        wait_milliseconds: How long they have for that.
        fsync: Whether a primary must have it on its disk before it answers (``appendfsync always``).
        timeout_seconds: How long anything may take; of a change this means that its outcome is unknown.
        root_certificate: A file with the authorities that a server's certificate may come from; None
            for those that the system trusts.
        plaintext: Whether servers on other machines may be spoken to without TLS.
    """

    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.:-]{1,64}$")] = "watchword"
    replicas: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    wait_milliseconds: Annotated[int, msgspec.Meta(ge=1, le=1500)] = 50
    fsync: bool = True
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.1, lt=2)] = 1.5
    root_certificate: str | None = None
    plaintext: bool = False


@dataclass(frozen=True, slots=True)
class Servers:
    """
    What was found when the store was opened.

    Attributes:
        replicas: How many replicas must have a change.
    """

    target: Target
    clustered: bool
    replicas: int

    async def connect(self) -> Client:
        """Make a client of these servers."""
        return await self.target.connect(clustered=self.clustered)


async def look_at(target: Target, settings: ValkeySettings) -> Servers:
    """
    See what servers these are, and whether they are set up for the store.

    Raises:
        UnusableStoreError: They are not.
        StoreUnavailableError: They do not answer.
    """
    try:
        clustered = await _is_cluster(target)
        client = await target.connect(clustered=clustered)
        try:
            found = await client.everywhere("INFO")
            primaries = {name: _lines(text) for name, text in found.items()}
            replicas = settings.replicas
            if replicas is None:
                several = clustered or len(target.servers) > 1
                replicas = int(several or any(_has_had_replicas(about) for about in primaries.values()))
                if not replicas:
                    _log.warning("one Valkey server without a replica: what is stored is as safe as its disk")
            for name, about in primaries.items():
                _check(name, about, replicas)
            if settings.fsync:
                await _check_sync(client)
            return Servers(target, clustered, replicas)
        finally:
            await client.close()
    except GlideError as error:
        raise unavailable(error) from error


async def _is_cluster(target: Target) -> bool:
    """Ask the first server that answers whether it is one of a cluster, and whether that is whole."""
    *some, last = target.servers
    for server in some:
        try:
            state = await _cluster(replace(target, servers=[server]))
            break
        except GlideError as error:
            _log.warning("%s:%d does not answer: %s", *server, error)
    else:
        state = await _cluster(replace(target, servers=[last]))
    if state is None:
        return False
    if state.get("cluster_state") != "ok":
        raise StoreUnavailableError(
            f"the Valkey cluster is not whole, {state.get('cluster_slots_ok')} of 16384 slots are served: see"
            " `CLUSTER INFO` and `CLUSTER NODES`"
        )
    return True


async def _cluster(target: Target, *, reads: bool = False) -> Mapping[str, str] | None:
    """Ask a server, which may be a replica, what it knows of its cluster; None for one that is of none."""
    client = await target.connect(clustered=False, reads=reads)
    try:
        [about] = (await client.everywhere("INFO", "cluster")).values()
        if _lines(about).get("cluster_enabled") != "1":
            return None
        [state] = (await client.everywhere("CLUSTER", "INFO")).values()
        return _lines(state)
    except GlideError as error:
        # The other way is not tried first: a wrong password is not told by it.
        if reads or "No primary node" not in str(error):
            raise
    finally:
        await client.close()
    return await _cluster(target, reads=True)


def _check(name: str, about: Mapping[str, str], replicas: int) -> None:
    """Check what a primary says of itself."""
    version = about.get("valkey_version", "")
    if not version or int(version.split(".")[0]) < OLDEST:
        found = f"Valkey {version}" if version else f"Redis {about.get('redis_version')}"
        raise UnusableStoreError(f"{name} is {found}: Watchword needs Valkey {OLDEST} or later")
    if about.get("role") != "master":
        raise UnusableStoreError(
            f"{name} is a replica, and takes no writes: name its primary, {about.get('master_host')}:"
            f"{about.get('master_port')}"
        )
    if about.get("loading") == "1":
        raise StoreUnavailableError(f"{name} is still loading its data")
    if about.get("aof_last_write_status", "ok") != "ok":
        raise StoreUnavailableError(f"{name} cannot write its append-only file: see its log")
    if (policy := about.get("maxmemory_policy")) != "noeviction":
        raise UnusableStoreError(
            f"{name} has `maxmemory-policy {policy}`, which throws records away where memory runs"
            " short, those of locked users among them: set `maxmemory-policy noeviction`"
        )
    if (there := _replicas(about)) < replicas:
        raise UnusableStoreError(
            f"{name} has {there} replicas and every change is to reach {replicas}: start more, or set"
            " `replicas` to what there is; with 0, a failover can lose what was acknowledged"
        )


async def _check_sync(client: Client) -> None:
    """Check that a primary answers only what is on its disk."""
    try:
        answers = await client.everywhere("CONFIG", "GET", "append*", "no-appendfsync-on-rewrite")
    except GlideError as error:
        raise UnusableStoreError(
            "whether the servers have `appendfsync always` cannot be seen: allow the user `+config|get`, or"
            f" set `fsync` to false if a power failure may lose what was acknowledged ({error})"
        ) from error
    for name, found in answers.items():
        append, sync = found[b"appendonly"].decode(), found[b"appendfsync"].decode()
        if (append, sync) != ("yes", "always"):
            raise UnusableStoreError(
                f"{name} has `appendonly {append}` and `appendfsync {sync}`: set `appendonly yes` and"
                " `appendfsync always`, or set `fsync` to false if a power failure may lose what was"
                " acknowledged; waiting for `everysec` would cost every change up to a second"
            )
        if found[b"no-appendfsync-on-rewrite"] != b"no":
            raise UnusableStoreError(
                f"{name} has `no-appendfsync-on-rewrite yes`, and answers before its disk has it while it"
                " rewrites its file: set it to `no`, or set `fsync` to false"
            )


def _replicas(about: Mapping[str, str]) -> int:
    return int(about.get("connected_slaves", "0"))


def _has_had_replicas(about: Mapping[str, str]) -> bool:
    """Tell whether a primary knows of a replica: one it has, has had lately, or has been itself."""
    return bool(
        _replicas(about)
        or about.get("repl_backlog_active", "0") != "0"
        or about.get("master_replid2", "").strip("0")
    )


def _lines(text: bytes) -> dict[str, str]:
    parts = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in parts if colon}


# --- the URL ----------------------------------------------------------------------------------


def target_of(url: str, settings: ValkeySettings) -> Target:
    """
    Return whom a URL names.

    Raises:
        UnusableStoreError: It names nobody, or would send everything readable over a network.
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    tls = parts.scheme == "valkeys"
    if (
        parts.scheme not in {"valkey", "valkeys"}
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise UnusableStoreError(
            "a store on Valkey is named `valkey://host:port`, or `valkeys://…` for TLS; more servers follow"
            " after commas, and `user:password@` stands before the first"
        )
    servers = [_server(each) for each in hosts.split(",")]
    for host, _ in servers:
        if not tls and not settings.plaintext and not _is_here(host):
            raise UnusableStoreError(
                f"{host} is another machine, and `valkey://` is not encrypted: use `valkeys://`, or set"
                " `plaintext` to true if nobody else is on that network"
            )
    name, _, password = user.partition(":") if at else ("", "", "")
    return Target(
        servers=servers,
        tls=tls,
        user=unquote(name) or None,
        password=unquote(password) or None,
        certificates=None if settings.root_certificate is None else _certificates(settings.root_certificate),
        timeout=round(settings.timeout_seconds * 1000),
    )


def _server(text: str) -> tuple[str, int]:
    try:
        one = urlsplit(f"//{text}")
        host, port = one.hostname, PORT if one.port is None else one.port
    except ValueError:
        host, port = None, 0
    if not host or not port:
        raise UnusableStoreError(f"{text!r} is no server: a name and a port are, `valkey.example:6379`")
    return host, port


def _certificates(file: str) -> bytes:
    try:
        ssl.create_default_context(cafile=file)
        return Path(file).read_bytes()
    except (OSError, ssl.SSLError) as error:
        raise UnusableStoreError(f"{file} has no certificates: {error}") from error


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
