"""
Connecting to PostgreSQL: where to, how sealed, and what a server must be like to keep our records.

Nothing that weakens what is promised is left to the role, the database or the server: each session
says itself when a commit is durable and how long anything may take, and a server that could lose
what it acknowledged is refused, with what to do about it.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

from watchword.store.base import StoreUnavailableError, UnusableStoreError
from watchword.store.postgres.settings import PostgresSettings

FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises; that the time is up is an ``OSError`` too."""

OLDEST_SERVER = 15
DEFAULT_PORT = 5432

_FAULTS_OF_ACCESS = {
    "28000": "the server refuses this user: see its pg_hba.conf",
    "28P01": "the password is wrong",
    "3D000": "there is no such database: CREATE DATABASE",
    "42501": "a right is missing: GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn), pg_current_wal_lsn()",
}
# Undefined function, feature not supported. Not a missing right: that would switch the fence off.
_UNKNOWN_FUNCTION = {"42883", "0A000"}
# It changes with a promotion, at once; what the last checkpoint says would come late.
_TIMELINE = "substring(pg_walfile_name(pg_current_wal_lsn()) for 8)"

_FACTS = """
SELECT version() AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') AS read_only,
       current_setting('server_version_num', true) AS number,
       current_setting('fsync', true) AS fsync,
       current_setting('full_page_writes', true) AS full_page_writes,
       current_setting('synchronous_commit', true) AS synchronous_commit
"""


class Connection(Protocol):
    """What is used of a connection of asyncpg, which says nothing about types."""

    async def execute(self, query: str, /, *args: object) -> str:
        """Run statements."""
        ...

    async def fetch(self, query: str, /, *args: object) -> Sequence[Any]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, /, *args: object) -> Any:  # noqa: ANN401 - whatever is stored.
        """Return the first row."""
        ...

    async def fetchval(self, query: str, /, *args: object) -> Any:  # noqa: ANN401 - whatever is stored.
        """Return the first value of the first row."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction to be entered."""
        ...

    def add_log_listener(self, callback: Callable[[Any, Any], None], /) -> None:
        """Tell *callback* of warnings."""
        ...

    def is_closed(self) -> bool:
        """Whether it is of no more use."""
        ...

    async def close(self) -> None:
        """End it in order."""
        ...

    def terminate(self) -> None:
        """Let go of it, whatever it does."""
        ...


# Of asyncpg's own signature too little is known to check anything by it.
_open: Callable[..., Awaitable[Connection]] = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def state(error: Exception) -> str:
    """Return the SQLSTATE of an error, if the server gave one."""
    return getattr(error, "sqlstate", None) or ""


def message(error: Exception) -> str:
    """Return what an error says, which may be nothing but its name."""
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is; its password stands in no representation of it."""

    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    user: str | None
    password: str | None
    database: str
    tls: bool

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in zip(self.hosts, self.ports, strict=True))
        return f"PostgreSQL at {hosts}/{self.database}"

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Fence:
    """
    How tokens are told apart that were issued on a server which is no longer the primary.

    Attributes:
        lineage: The SQL that tells the lineage of the server, in eight characters.
        compared: Whether a token of another lineage is void.
    """

    lineage: str
    compared: bool


def target(url: str, settings: PostgresSettings) -> Target:
    """
    Read a URL: ``postgresql://user:password@host:port,host:port/database``.

    Raises:
        UnusableStoreError: It is none, or asks for what is not offered.
    """
    try:
        parts = urlsplit(url)
        _, _, where = parts.netloc.rpartition("@")
        pairs = [_host(each) for each in where.split(",")] if where else []
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if "host" in options and not pairs:  # A socket, which can stand nowhere else without being quoted.
            pairs = [(options.pop("host"), int(options.pop("port", DEFAULT_PORT)))]
    except ValueError:
        # What it says of itself may hold a part of the password.
        raise UnusableStoreError(
            "the URL of the database cannot be read; in a name or a password write / ? # @ as %2F %3F %23 %40"
        ) from None
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment or "/" in parts.path[1:]:
        raise UnusableStoreError("the URL of the database must be postgresql://user@host:port/database")
    mode = options.pop("sslmode", None)
    if options or mode not in {None, "verify-full"}:
        raise UnusableStoreError(
            f"the URL of the database has parameters that are not offered: {', '.join(options) or 'sslmode'};"
            " the certificate of a server on another machine is always verified, and all else is a setting"
        )
    database = unquote(parts.path[1:])
    if not pairs or not database:
        raise UnusableStoreError("the URL of the database must name a host and a database")
    hosts = tuple(host for host, _ in pairs)
    return Target(
        hosts=hosts,
        ports=tuple(port for _, port in pairs),
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        database=database,
        tls=bool(mode or settings.root_certificate) or not all(map(_is_here, hosts)),
    )


def _host(written: str) -> tuple[str, int]:
    parts = urlsplit(f"//{written}")
    if not parts.hostname:
        raise ValueError("a host has no name")
    return unquote(parts.hostname), parts.port or DEFAULT_PORT


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith(("/", "127."))


def _tls(where: Target, settings: PostgresSettings) -> ssl.SSLContext | bool:
    if not where.tls:
        return False
    try:
        # Verifies the chain and the name, against the system's authorities if no file is named.
        return ssl.create_default_context(cafile=settings.root_certificate)
    except (OSError, ssl.SSLError) as error:
        raise UnusableStoreError(f"{settings.root_certificate} holds no certificates: {error}") from error


class Session:
    """
    A connection, with what is known of its server.

    Attributes:
        sql: The connection.
        lineage: The timeline of the server; empty if it tells none.
        warning: What the server warned of last.
    """

    def __init__(self, connection: Connection, lineage: str) -> None:
        self.sql = connection
        self.lineage = lineage
        self.warning: str | None = None
        connection.add_log_listener(self._warned)

    def _warned(self, _connection: object, warning: Any) -> None:  # noqa: ANN401 - asyncpg's.
        self.warning = str(warning.message)

    def is_closed(self) -> bool:
        """Whether it is of no more use."""
        return self.sql.is_closed()

    async def close(self) -> None:
        """End it in order."""
        await self.sql.close()

    def terminate(self) -> None:
        """Let go of it, whatever it does."""
        self.sql.terminate()


async def connect(where: Target, settings: PostgresSettings) -> Session:
    """
    Open a connection to a server that will keep what it acknowledges: the first of the hosts that does.

    Raises:
        StoreUnavailableError: Nobody answers there now.
        UnusableStoreError: Somebody does, who cannot be our store.
    """
    faults: list[StoreUnavailableError | UnusableStoreError] = []
    for host, port in zip(where.hosts, where.ports, strict=True):
        try:
            # Each in a time of its own: one that is silent must not take that of the others.
            async with asyncio.timeout(settings.connect_seconds):
                return await _connect(where, host, port, settings)
        except TimeoutError as error:
            faults.append(StoreUnavailableError(f"{where} does not answer"))
            faults[-1].__cause__ = error
        except (StoreUnavailableError, UnusableStoreError) as error:
            faults.append(error)
    # Of several a standby is no fault, as long as the primary is only out of reach.
    raise next((fault for fault in faults if isinstance(fault, StoreUnavailableError)), faults[0])


async def _connect(where: Target, host: str, port: int, settings: PostgresSettings) -> Session:
    try:
        connection = await _open(
            host=host,
            port=port,
            user=where.user,
            password=where.password,
            database=where.database,
            ssl=_tls(where, settings),
            timeout=settings.connect_seconds,
            target_session_attrs="any",
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "watchword", "client_min_messages": "warning"},
        )
    except FAULTS as error:
        _refused(where, error)
    try:
        await _prepare(connection, where, settings)
        return Session(connection, await _lineage(connection))
    except BaseException as error:
        connection.terminate()
        if isinstance(error, FAULTS):
            _refused(where, error)
        raise


def _refused(where: Target, error: Exception) -> NoReturn:
    if isinstance(error, ssl.SSLCertVerificationError):
        raise UnusableStoreError(
            f"{where}: the certificate of the server is not trusted ({error.verify_message}): name the file"
            " of its authority in root_certificate, and the server by the name that stands in the certificate"
        ) from error
    if (fault := _FAULTS_OF_ACCESS.get(state(error))) is not None:
        raise UnusableStoreError(f"{where}: {fault}") from error
    if where.tls and isinstance(error, ConnectionError) and "SSL" in str(error):
        raise UnusableStoreError(
            f"{where}: it offers no TLS, and nothing goes to another machine in the clear: set ssl = on"
        ) from error
    raise StoreUnavailableError(f"{where} cannot be reached: {message(error)}") from error


async def _prepare(connection: Connection, where: Target, settings: PostgresSettings) -> None:
    facts = await connection.fetchrow(_FACTS)
    if why := unusable(dict(facts)):
        raise UnusableStoreError(f"{where}: {why}")
    durable = settings.synchronous_commit
    if facts["synchronous_commit"] == "remote_apply":
        durable = "remote_apply"  # Configured: never weaker than that.
    session = {
        "search_path": settings.schema,
        "synchronous_commit": durable,
        "default_transaction_isolation": "read committed",
        "statement_timeout": f"{settings.statement_seconds * 1000:.0f}",
        "lock_timeout": f"{settings.lock_seconds * 1000:.0f}",
        "idle_in_transaction_session_timeout": "10000",
    }
    if is_postgresql(facts["version"]):
        # Every row is found by an index. Plans made while a table was small must not outlive that.
        session |= {"enable_seqscan": "off", "jit": "off"}
        # A link that broke in silence: the server lets go of what was locked over it.
        session |= {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
    await connection.execute("; ".join(f"SET {name} = '{value}'" for name, value in session.items()))


def unusable(facts: dict[str, Any]) -> str | None:
    """Say why a server cannot keep what it acknowledges; None if it can."""
    if facts["number"] is not None and int(facts["number"]) < OLDEST_SERVER * 10_000:
        return (
            f"the server is {facts['version'].split(',')[0]}: PostgreSQL {OLDEST_SERVER} or newer is needed"
        )
    if facts["standby"] or facts["read_only"] == "on":
        return (
            "the server is a standby or read-only: name the primary, or all of them"
            " (postgresql://user@one,two/database)"
        )
    for name in ("fsync", "full_page_writes"):
        if facts[name] == "off":
            return f"the server runs with {name} = off and would lose what it acknowledged: switch it on"
    return None


def is_postgresql(version: str) -> bool:
    """Tell PostgreSQL, and what is built from it, from what only speaks like it."""
    return version.startswith(("PostgreSQL", "EnterpriseDB"))


async def _lineage(connection: Connection) -> str:
    try:
        lineage: str = await connection.fetchval(f"SELECT {_TIMELINE}")
    except asyncpg.PostgresError as error:
        if state(error) not in _UNKNOWN_FUNCTION:
            raise
        return ""
    return lineage


def fence(session: Session, settings: PostgresSettings) -> Fence:
    """
    Return how tokens of another lineage are told apart.

    Raises:
        UnusableStoreError: They are to be, and the server does not tell its lineage.
    """
    if session.lineage:
        return Fence(lineage=_TIMELINE, compared=settings.fence != "off")
    if settings.fence == "on":
        raise UnusableStoreError(
            'the server tells no timeline: set fence = "off" if it cannot lose what it acknowledged'
        )
    return Fence(lineage="''", compared=False)
