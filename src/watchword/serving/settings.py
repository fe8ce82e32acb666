"""
The settings of a server: all tables of ``watchword.toml``, with what is wrong in each of them.

What a table says is read here; whether it may go into production is decided in ``refusals``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from watchword.auth.egress import url_fault
from watchword.auth.settings import (
    GatewayTable,
    IntrospectionTable,
    IssuerTable,
    SecretFileError,
    TokenTable,
    check_random,
    read_secrets,
    repeated_tokens,
)
from watchword.config import Config, read, text_of
from watchword.delivery.webhook import TIMEOUT_SECONDS, secret_of
from watchword.domain.limits import Limits
from watchword.faces.settings import FaceTable

PORT_MAX = 65_535
WEBHOOK_SECONDS_MAX = 30
AT_ONCE_MAX = 1_000
_NAME_MAX = 255
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class ServerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[server]`` table.

    Attributes:
        host: The address to listen on.
        port: 0 for any that is free.
        behind_tls_proxy: That TLS is ended in front of this server, and nothing else reaches it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    behind_tls_proxy: bool = False

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not self._is_address() and not _HOST.fullmatch(self.host):
            yield "host: must be an address or a host's name; 127.0.0.1 is this machine alone"
        if not 0 <= self.port <= PORT_MAX:
            yield f"port: must be from 0 to {PORT_MAX}, not {self.port}"

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can connect."""
        return ip_address(self.host).is_loopback if self._is_address() else self.host == "localhost"

    def _is_address(self) -> bool:
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True


class KeysTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[keys]`` table.

    Attributes:
        file: The master keys, as ``watchword init`` writes them.
        jose_file: Our own keys for JOSE, in PEM.
    """

    file: str = "keys.json"
    jose_file: str = "jose.pem"

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        for name, value in (("file", self.file), ("jose_file", self.jose_file)):
            if not value:
                yield f"{name}: must name a file; `watchword init` makes it"


class StoreTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[store]`` table.

    Attributes:
        path: The SQLite file, on a local disk.
    """

    path: str = "watchword.db"

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not self.path:
            yield "path: must name a file on a local disk; it is made at the first start"


class ApplicationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One ``[[applications]]`` entry: an application that its issuer of access tokens knows too.

    Attributes:
        id: Its client id there.
        issuer: Whose client it is: an issuer, as ``[[issuers]]`` or ``[introspection]`` has it, ``gateway``,
            or ``tokens`` for one that ``[[tokens]]`` alone names. Must stand where several could name it.
        jose: Whether its calls that carry a PIN or a device fingerprint must be JOSE.
        manages_users: Whether it may enrol and remove users' credentials with its own access token.
    """

    id: str
    issuer: str | None = None
    jose: Literal["required", "optional"] = "optional"
    manages_users: bool = False

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not 1 <= len(self.id) <= _NAME_MAX:
            yield f"id: must be the application's client id, of 1 to {_NAME_MAX} characters"


class DeliveryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[delivery]`` table: who carries codes to phones; without it none are offered.

    Attributes:
        webhook: The operator's own URL that is told what to send.
        secret_file: What its calls are signed with, ``whsec_…``; a second line signs too.
        timeout_seconds: How long one message may take.
        at_once: How many messages may be under way.
    """

    webhook: str
    secret_file: str
    timeout_seconds: float = TIMEOUT_SECONDS
    at_once: int = 20

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead."""
        wrong = url_fault(self.webhook)
        if wrong is not None:
            yield f"webhook: {wrong.replace('an issuer', 'a server')}"
        if not self.secret_file:
            yield "secret_file: must name a file; a secret does not belong in this one"
        # Written so that NaN is refused too.
        if not 1 <= self.timeout_seconds <= WEBHOOK_SECONDS_MAX:
            yield f"timeout_seconds: must be from 1 to {WEBHOOK_SECONDS_MAX}, not {self.timeout_seconds:g}"
        if not 1 <= self.at_once <= AT_ONCE_MAX:
            yield f"at_once: must be from 1 to {AT_ONCE_MAX}, not {self.at_once}"


class PersonalTokensTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[personal_tokens]`` table.

    Attributes:
        signature_suffices: That one signature of a user's program lets any request through is
            known, and accepted. Without it there are no personal tokens.
    """

    signature_suffices: bool = False

    def faults(self) -> Iterator[str]:
        """Name nothing: whatever can be written works."""
        return iter(())


class AppTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[app]`` table: an application to protect, in this process.

    Attributes:
        target: Where it is, ``module:attribute``; modules are also looked for beside the file.
    """

    target: str

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not _TARGET.fullmatch(self.target):
            yield 'target: must be "module:attribute", such as "bank:app"'


class _Table(Protocol):
    __struct_fields__: ClassVar[tuple[str, ...]]

    def faults(self) -> Iterator[str]: ...


T = TypeVar("T", bound=_Table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """
    All that a file says of a server.

    Attributes:
        source: How the file is called where a mistake is told.
        folder: Where it is: relative paths begin there.
        broken: The tables that could not be read; what depends on them is not judged.
    """

    source: str
    folder: Path
    policy: Config
    server: ServerTable
    keys: KeysTable
    store: StoreTable
    personal_tokens: PersonalTokensTable
    applications: tuple[ApplicationTable, ...] = ()
    issuers: tuple[IssuerTable, ...] = ()
    tokens: tuple[TokenTable, ...] = ()
    introspection: IntrospectionTable | None = None
    gateway: GatewayTable | None = None
    delivery: DeliveryTable | None = None
    face: FaceTable | None = None
    app: AppTable | None = None
    broken: frozenset[str] = frozenset()

    @property
    def limits(self) -> Limits:
        """The limits, with the defaults for what the file does not say."""
        limits: dict[str, Any] = dict(self.policy.limits)
        return Limits(**limits)

    @property
    def key_file(self) -> Path:
        """The master keys."""
        return self.folder / self.keys.file

    @property
    def jose_file(self) -> Path:
        """Our own keys for JOSE."""
        return self.folder / self.keys.jose_file

    @property
    def store_file(self) -> Path:
        """The SQLite file."""
        return self.folder / self.store.path


def load(path: Path) -> tuple[Deployment, list[str]]:
    """
    Read a configuration file; return what could be read, and what is wrong with the rest.

    Raises:
        ConfigError: It cannot be read, or is not TOML.
    """
    return parse(text_of(path), folder=path.absolute().parent, source=str(path))


def parse(text: str, *, folder: Path, source: str = "configuration") -> tuple[Deployment, list[str]]:
    """
    Read a configuration; return what could be read, and what is wrong with the rest.

    Raises:
        ConfigError: It is not TOML.
    """
    policy, mistakes = read(text, source=source)
    reader = _Reader(policy.serving, mistakes)
    deployment = Deployment(
        source=source,
        folder=folder,
        policy=policy,
        server=reader.one("server", ServerTable) or ServerTable(),
        keys=reader.one("keys", KeysTable) or KeysTable(),
        store=reader.one("store", StoreTable) or StoreTable(),
        personal_tokens=reader.one("personal_tokens", PersonalTokensTable) or PersonalTokensTable(),
        applications=reader.several("applications", ApplicationTable),
        issuers=reader.several("issuers", IssuerTable),
        tokens=reader.several("tokens", TokenTable),
        introspection=reader.one("introspection", IntrospectionTable),
        gateway=reader.one("gateway", GatewayTable),
        delivery=reader.one("delivery", DeliveryTable),
        # Its faults are also about files, so that they are looked for by whoever starts a server.
        face=reader.one("face", FaceTable, faults=lambda _: ()),
        app=reader.one("app", AppTable),
        broken=frozenset(reader.broken),
    )
    mistakes += _repeated(
        "applications",
        "id",
        [each.id for each in deployment.applications],
        ", which is one application: keys and settings are kept by its id, and two issuers' cannot share it",
    )
    mistakes += _repeated("issuers", "issuer", [each.issuer for each in deployment.issuers])
    mistakes += repeated_tokens(deployment.tokens)
    return deployment, mistakes


def webhook_secrets(path: Path) -> tuple[bytes, ...]:
    """
    Return the secrets that messages are signed with.

    Raises:
        SecretFileError: The file cannot be used, holds something else, or what could be guessed.
    """
    try:
        secrets = tuple(secret_of(line) for line in read_secrets(path))
    except ValueError as error:
        raise SecretFileError(f"{path}: {error}") from error
    check_random(path, secrets, make='echo "whsec_$(openssl rand -base64 32)"')
    return secrets


def _faults(table: _Table) -> Iterator[str]:
    return table.faults()


class _Reader:
    """Reads tables, and keeps what is wrong with them."""

    def __init__(self, tables: Any, mistakes: list[str]) -> None:  # noqa: ANN401 - TOML's.
        self._tables = tables
        self._mistakes = mistakes
        self.broken: set[str] = set()

    def one(self, name: str, kind: type[T], faults: Callable[[T], Iterable[str]] = _faults) -> T | None:
        if name not in self._tables:
            return None
        return self._read(name, name, self._tables[name], kind, faults)

    def several(self, name: str, kind: type[T]) -> tuple[T, ...]:
        try:
            entries = msgspec.convert(self._tables.get(name, []), list[Any])
        except msgspec.ValidationError:
            self._mistakes.append(f"{name}: must be tables, [[{name}]]")
            self.broken.add(name)
            return ()
        found = [
            self._read(name, f"{name}[{number}]", entry, kind, _faults)
            for number, entry in enumerate(entries, start=1)
        ]
        return tuple(each for each in found if each is not None)

    def _read(
        self,
        name: str,
        where: str,
        entry: Any,  # noqa: ANN401 - TOML's.
        kind: type[T],
        faults: Callable[[T], Iterable[str]],
    ) -> T | None:
        try:
            table = msgspec.convert(entry, kind)
            with_nul = [key for key in kind.__struct_fields__ if "\0" in str(getattr(table, key))]
        except msgspec.ValidationError as error:
            self._mistakes.append(f"{where}: {error}")
            self.broken.add(name)
            return None
        if with_nul:
            # No file, no header and no URL has one, and what opens files raises what nobody expects.
            self._mistakes += (f"{where}.{key}: holds a NUL character; leave it out" for key in with_nul)
            self.broken.add(name)
            return None
        self._mistakes += (f"{where}.{fault}" for fault in faults(table))
        return table


def _repeated(name: str, key: str, values: list[str], why: str = "") -> Iterator[str]:
    for number, value in enumerate(values, start=1):
        if value in values[: number - 1]:
            yield f"{name}[{number}].{key}: stands in an earlier entry already{why}"
