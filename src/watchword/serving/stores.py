"""Which store: from the settings of a server to a store that is open."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from watchword.auth.settings import read_secrets
from watchword.config import table_of
from watchword.serving.settings import Deployment, StoreServer, UnusableDeploymentError
from watchword.store.base import Store, StoreUnavailableError, UnusableStoreError
from watchword.store.sqlite import SqliteStore, UnusableFileError, pending

if TYPE_CHECKING:
    from watchword.store.postgres import PostgresSettings, PostgresStore
    from watchword.store.valkey import ValkeySettings, ValkeyStore


async def open_store(deployment: Deployment, *, migrate: bool = True) -> Store:
    """
    Open the store that the settings name.

    Args:
        migrate: Whether the schema of a server may be brought up to date; a file's always is.

    Raises:
        UnusableDeploymentError: It cannot be used, or not now.
        SecretFileError: Its password cannot be read.
    """
    file = deployment.store_file
    if file is not None:
        with _named("path"):
            return SqliteStore.open(file)
    servers = deployment.store.servers
    if deployment.store.is_split:
        tokens, users = servers
        from watchword.store.split import SplitStore  # noqa: PLC0415 - of an extra.

        async with AsyncExitStack() as opened:
            kept = await _open_postgresql(deployment, users, migrate=migrate)
            opened.push_async_callback(kept.close)
            passing = await _open_valkey(deployment, tokens)
            opened.push_async_callback(passing.close)
            with _named(tokens.name):
                store = await SplitStore.of(passing, kept)
            opened.pop_all()
            return store
    [server] = servers
    if server.is_postgresql:
        return await _open_postgresql(deployment, server, migrate=migrate)
    return await _open_valkey(deployment, server)


async def _open_postgresql(deployment: Deployment, server: StoreServer, *, migrate: bool) -> "PostgresStore":
    from watchword.store.postgres import PostgresStore  # noqa: PLC0415 - of an extra.

    settings, _ = _postgresql(deployment)
    with _named(server.name):
        return await PostgresStore.open(_url(deployment, server), settings=settings, migrate=migrate)


async def _open_valkey(deployment: Deployment, server: StoreServer) -> "ValkeyStore":
    from watchword.store.valkey import ValkeyStore  # noqa: PLC0415 - of an extra.

    settings, _ = _valkey(deployment)
    with _named(server.name):
        return await ValkeyStore.open(_url(deployment, server), settings=settings)


@contextmanager
def _named(member: str) -> Generator[None]:
    """Say by which member the store is named that cannot be used."""
    try:
        yield
    except (UnusableFileError, UnusableStoreError, StoreUnavailableError) as error:
        raise UnusableDeploymentError(f"store.{member}: {error}") from error


@runtime_checkable
class _Succeeded(Protocol):
    """A store on a server that another one may take over from."""

    on_new_lineage: Callable[[], None] | None


def watch_lineage(store: Store, begin_anew: Callable[[], None]) -> None:
    """Have it told when another server takes over, which may have lost what this process remembers."""
    if isinstance(store, _Succeeded):
        store.on_new_lineage = begin_anew


async def pending_steps(deployment: Deployment) -> list[str]:
    """
    Name the migrations that the store lacks, in order; changes nothing.

    Raises:
        UnusableDeploymentError: It cannot be used by this version, or not now.
        SecretFileError: Its password cannot be read.
    """
    file = deployment.store_file
    if file is not None:
        with _named("path"):
            return pending(file)
    for server in deployment.store.servers:
        if server.is_postgresql:
            from watchword.store.postgres import PostgresStore  # noqa: PLC0415 - of an extra.

            settings, _ = _postgresql(deployment)
            with _named(server.name):
                return await PostgresStore.pending(_url(deployment, server), settings=settings)
    return []  # Valkey has no schema; what the servers are to run is loaded at each start.


def _url(deployment: Deployment, server: StoreServer) -> str:
    password = server.password_file
    return server.url_with(None if password is None else read_secrets(deployment.folder / password)[0])


def server_faults(deployment: Deployment) -> Iterator[str]:
    """Name what is wrong with how database servers are spoken to, or that nothing here can speak to them."""
    for server in deployment.store.servers:
        name = "postgresql" if server.is_postgresql else "valkey"
        try:
            _, wrong = (_postgresql if server.is_postgresql else _valkey)(deployment)
        except ImportError:
            yield f"store.{server.name}: needs the extra for it: pip install 'watchword[{_EXTRAS[name]}]'"
        else:
            yield from (f"store.{name}{each}" for each in wrong)


_EXTRAS = {"postgresql": "postgres", "valkey": "valkey"}


def _postgresql(deployment: Deployment) -> "tuple[PostgresSettings | None, list[str]]":
    from watchword.store.postgres import PostgresSettings  # noqa: PLC0415 - of an extra.

    settings, wrong = table_of(deployment.store.postgresql, PostgresSettings)
    return settings and msgspec.structs.replace(
        settings, **_file(deployment, settings.root_certificate)
    ), wrong


def _valkey(deployment: Deployment) -> "tuple[ValkeySettings | None, list[str]]":
    from watchword.store.valkey import ValkeySettings  # noqa: PLC0415 - of an extra.

    settings, wrong = table_of(deployment.store.valkey, ValkeySettings)
    return settings and msgspec.structs.replace(
        settings, **_file(deployment, settings.root_certificate)
    ), wrong


def _file(deployment: Deployment, name: str | None) -> dict[str, str | None]:
    """Name a file as seen from here, which the configuration names as seen from itself."""
    return {"root_certificate": None if name is None else str(deployment.folder / name)}
