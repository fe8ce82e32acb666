"""
The settings of a server: all tables of ``watchword.toml``, with what is wrong in each of them.

What a table says is read here; whether it may go into production is decided in ``refusals``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

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
from watchword.config import Config, read, table_of, text_of
from watchword.delivery.webhook import TIMEOUT_SECONDS, secret_of
from watchword.domain.limits import Limits
from watchword.faces.settings import FaceTable
from watchword.page.brand import BrandError, name_fault, styles_of
from watchword.page.settings import openers_faults, origin_fault
from watchword.server.settings import STOP_SECONDS

PORT_MAX = 65_535
WORKERS_MAX = 64
DRAIN_SECONDS_MAX = 300
STOP_SECONDS_MAX = 600
WEBHOOK_SECONDS_MAX = 30
AT_ONCE_MAX = 1_000
TOKENS_DAYS_MAX = 3_650
AUDIT_DAYS_MIN, AUDIT_DAYS_MAX = 400, 36_500
STORE_FILE = "watchword.db"
_NAME_MAX = 255
_SCHEMES = {
    "url": ("postgresql", "valkey", "valkeys"),
    "tokens": ("valkey", "valkeys"),
    "users": ("postgresql",),
}
"""How the URL of a store may begin, by the member that names it."""
_PASSWORDS = {name: "password_file" if name == "url" else f"{name}_password_file" for name in _SCHEMES}
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class ServerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[server]`` table.

    Attributes:
        host: The address to listen on.
        port: 0 for any that is free.
        behind_tls_proxy: That TLS is ended in front of this server, and nothing else reaches it.
        workers: How many processes serve, on one address and one store.
        drain_seconds: For how long a server that is told to stop goes on serving, and says at
            ``/readyz`` that nobody should be sent to it any more.
        stop_seconds: How long what is in flight may take after that.
        probes: Whether ``/healthz`` and ``/readyz`` are ours. Without a word they are in ``watchword
            serve``, and are left to the application in ``protect``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    behind_tls_proxy: bool = False
    workers: int = 1
    drain_seconds: float = 0.0
    stop_seconds: float = STOP_SECONDS
    probes: bool | None = None

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not self._is_address() and not _HOST.fullmatch(self.host):
            yield "host: must be an address or a host's name; 127.0.0.1 is this machine alone"
        if not 0 <= self.port <= PORT_MAX:
            yield f"port: must be from 0 to {PORT_MAX}, not {self.port}"
        if not 1 <= self.workers <= WORKERS_MAX:
            yield f"workers: must be from 1 to {WORKERS_MAX}, not {self.workers}"
        # Written so that NaN is refused too.
        if not 0 <= self.drain_seconds <= DRAIN_SECONDS_MAX:
            yield f"drain_seconds: must be from 0 to {DRAIN_SECONDS_MAX}, not {self.drain_seconds:g}"
        if not 1 <= self.stop_seconds <= STOP_SECONDS_MAX:
            yield f"stop_seconds: must be from 1 to {STOP_SECONDS_MAX}, not {self.stop_seconds:g}"

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


class StoreServer(NamedTuple):
    """
    A server that ``[store]`` names.

    Attributes:
        name: By which member.
        password_file: Where its password is.
    """

    name: str
    url: str
    password_file: str | None

    @property
    def password_name(self) -> str:
        """The member that names the file with its password."""
        return _PASSWORDS[self.name]

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL, and not Valkey."""
        return self.url.startswith("postgresql:")

    @property
    def has_password(self) -> bool:
        """Whether the URL itself holds a password."""
        return _parts_of(self.url)[2] is not None

    def url_with(self, password: str | None) -> str:
        """Return the URL with *password* in it."""
        if password is None:
            return self.url
        scheme, user, _, hosts, rest = _parts_of(self.url)
        return f"{scheme}://{user}:{quote(password, safe='')}@{hosts}{rest}"

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        scheme, user, _, hosts, rest = _parts_of(self.url)
        if scheme not in _SCHEMES[self.name]:
            known = [f"{each}://" for each in _SCHEMES[self.name]]
            if self.name == "url":
                yield f"url: must begin with one of {', '.join(known)}; an SQLite file is named in path"
            else:
                yield (
                    f"{self.name}: must begin with {' or '.join(known)}; tokens in Valkey and users in"
                    " PostgreSQL are the only two stores that work together"
                )
        elif not hosts and not (scheme == "postgresql" and "host=" in rest):  # A socket's stands there.
            yield f"{self.name}: must name a host, {scheme}://host"
        elif user is None or "@" in rest.partition("?")[0]:
            yield f"{self.name}: an @ is left over; in a name or a password write it as %40"
        if self.has_password and self.password_file is not None:
            yield f"{self.password_name}: the URL holds a password already; take one of them out"


class StoreTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[store]`` table: one file, a server, or two that share the work.

    Attributes:
        path: The SQLite file, on a local disk; without a word ``watchword.db``.
        url: The database server. It may hold a password only where others cannot read this file.
        password_file: Where the password for *url* is.
        tokens: Valkey, for what comes and goes, as in *url*; together with *users*.
        tokens_password_file: Where the password for *tokens* is.
        users: PostgreSQL, for what is kept, likewise.
        users_password_file: Where the password for *users* is.
        postgresql: How PostgreSQL is spoken to; the extra that does so knows the members.
        valkey: How Valkey is spoken to, likewise.
    """

    path: str | None = None
    url: str | None = None
    password_file: str | None = None
    tokens: str | None = None
    tokens_password_file: str | None = None
    users: str | None = None
    users_password_file: str | None = None
    postgresql: dict[str, Any] = {}
    valkey: dict[str, Any] = {}

    @property
    def servers(self) -> tuple[StoreServer, ...]:
        """The servers that are named: none, one, or that of tokens and that of users."""
        return tuple(StoreServer(name, url, file) for name, url, file in self._named() if url is not None)

    def _named(self) -> tuple[tuple[str, str | None, str | None], ...]:
        return (
            ("url", self.url, self.password_file),
            ("tokens", self.tokens, self.tokens_password_file),
            ("users", self.users, self.users_password_file),
        )

    @property
    def is_split(self) -> bool:
        """Whether two servers share the work."""
        return self.tokens is not None and self.users is not None

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if self.path == "":
            yield "path: must name a file on a local disk; it is made at the first start"
        yield from self._faults_of_passwords()
        for name, table in (("postgresql", self.postgresql), ("valkey", self.valkey)):
            if table and not any(server.url.startswith(name) for server in self.servers):
                yield f"{name}: is for a url that begins with {name}://"
        if (self.tokens is None) != (self.users is None):
            yield "tokens, users: belong together, as Valkey and PostgreSQL; one store for all is url"
        elif self.url is not None and self.is_split:
            yield "url, tokens: name one store for all in url, or two in tokens and users"
        if self.servers and self.path is not None:
            yield f"path, {self.servers[0].name}: name one store: a file, or a server"
        for server in self.servers:
            yield from server.faults()

    def _faults_of_passwords(self) -> Iterator[str]:
        for name, url, file in self._named():
            if file is not None and url is None:
                yield f"{_PASSWORDS[name]}: is for {name} alone; SQLite has no password"
            if file == "":
                yield f"{_PASSWORDS[name]}: must name a file, which its owner alone may read"


def _parts_of(url: str) -> tuple[str, str | None, str | None, str, str]:
    """Take a URL apart: scheme, user (None where that cannot be told), password, hosts, the rest."""
    scheme, _, behind = url.partition("://")
    authority = re.split(r"[/?#]", behind, maxsplit=1)[0]
    who, _, hosts = authority.rpartition("@")
    user, colon, password = who.partition(":")
    return scheme, None if "@" in who else user, password if colon else None, hosts, behind[len(authority) :]


class RetentionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[retention]`` table: how long is kept what is over.

    Attributes:
        tokens_days: How long a token stays after its expiry.
        audit_days: How long an event stays in the audit trail; 0 for ever.
    """

    tokens_days: int = 1
    audit_days: int = 0

    def faults(self) -> Iterator[str]:
        """Name what is out of bounds."""
        if not 1 <= self.tokens_days <= TOKENS_DAYS_MAX:
            yield f"tokens_days: must be from 1 to {TOKENS_DAYS_MAX}, not {self.tokens_days}"
        if self.audit_days and not AUDIT_DAYS_MIN <= self.audit_days <= AUDIT_DAYS_MAX:
            yield (
                f"audit_days: must be from {AUDIT_DAYS_MIN} to {AUDIT_DAYS_MAX}, not {self.audit_days}; or 0,"
                " for ever: a customer may dispute a payment for 13 months (PSD2 art. 71)"
            )


class ApplicationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One ``[[applications]]`` entry: an application that its issuer of access tokens knows too.

    Attributes:
        id: Its client id there.
        issuer: Whose client it is: an issuer, as ``[[issuers]]`` or ``[introspection]`` has it, ``gateway``,
            or ``tokens`` for one that ``[[tokens]]`` alone names. Must stand where several could name it.
        jose: Whether its calls that carry a PIN or a device fingerprint must be JOSE.
        manages_users: Whether it may enrol and remove users' credentials with its own access token.
        name: As customers know it; the approval page says who asks.
        openers: The origins whose pages may open the approval page for its users; without them, those of
            ``[page]``.
    """

    id: str
    issuer: str | None = None
    jose: Literal["required", "optional"] = "optional"
    manages_users: bool = False
    name: str | None = None
    openers: list[str] | None = None

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not 1 <= len(self.id) <= _NAME_MAX:
            yield f"id: must be the application's client id, of 1 to {_NAME_MAX} characters"
        if self.name is not None and (wrong := name_fault(self.name)) is not None:
            yield f"name: {wrong}"
        for wrong in openers_faults(self.openers or ()):
            yield f"openers{wrong}"


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


class PageTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The ``[page]`` table: the approval page, as customers see it.

    Attributes:
        origin: Where browsers find this server.
        openers: The origins whose pages may open it in a frame, and are told how it ended.
        name: Whose it is, as customers know it.
        logo: A picture in place of the name.
        colour: What buttons and links are coloured with.
        frame_high_risk: Whether what is of high risk may be approved in a frame.
        templates: A directory whose templates take the place of ours.
    """

    origin: str | None = None
    openers: list[str] = []
    name: str = "Watchword"
    logo: str | None = None
    colour: str | None = None
    frame_high_risk: bool = True
    templates: str | None = None

    def faults(self) -> Iterator[str]:
        """Name what is unsafe or cannot work, and what to write instead; files are looked at by refusals."""
        if self.origin is not None and (wrong := origin_fault(self.origin)) is not None:
            yield f"origin: {wrong}"
        for wrong in openers_faults(self.openers):
            yield f"openers{wrong}"
        if (wrong := name_fault(self.name)) is not None:
            yield f"name: {wrong}"
        if self.logo == "":
            yield "logo: must name a file; leave it out, and the name stands in its place"
        if self.colour is not None:
            try:
                styles_of(self.colour)
            except BrandError as error:
                yield f"colour: {error}"
        if self.templates == "":
            yield "templates: must name a directory; leave it out, and the page is drawn with ours"


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
        describe: Where the function is that says what a request is about, ``module:function``.
    """

    target: str
    describe: str | None = None

    def faults(self) -> Iterator[str]:
        """Name what cannot work."""
        if not _TARGET.fullmatch(self.target):
            yield 'target: must be "module:attribute", such as "bank:app"'
        if self.describe is not None and not _TARGET.fullmatch(self.describe):
            yield 'describe: must be "module:function", such as "bank:describe"'


class _Table(Protocol):
    __struct_fields__: ClassVar[tuple[str, ...]]

    def faults(self) -> Iterator[str]: ...


T = TypeVar("T", bound=_Table)


class UnusableDeploymentError(Exception):
    """The settings are well written, and the server cannot start; says why."""


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
    page: PageTable
    retention: RetentionTable
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
    def logo_file(self) -> Path | None:
        """The picture of the approval page."""
        return None if self.page.logo is None else self.folder / self.page.logo

    @property
    def templates_folder(self) -> Path | None:
        """The operator's own templates."""
        return None if self.page.templates is None else self.folder / self.page.templates

    @property
    def store_shown(self) -> str:
        """What the store is called where people read it: never by a URL, which may hold a password."""
        if self.store_file is not None:
            return str(self.store_file)
        named = " and ".join(f"store.{server.name}" for server in self.store.servers)
        return f"the servers of {named}" if self.store.is_split else f"the server of {named}"

    @property
    def store_file(self) -> Path | None:
        """The SQLite file; None where the store is a server."""
        return None if self.store.servers else self.folder / (self.store.path or STORE_FILE)


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
        page=reader.one("page", PageTable) or PageTable(),
        retention=reader.one("retention", RetentionTable) or RetentionTable(),
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
        table, wrong = table_of(entry, kind)
        members = () if table is None else kind.__struct_fields__
        # No file, no header and no URL has one, and what opens files raises what nobody expects.
        with_nul = [key for key in members if "\0" in str(getattr(table, key))]
        wrong += (f".{key}: holds a NUL character; leave it out" for key in with_nul)
        self._mistakes += (f"{where}{each}" for each in wrong)
        if table is not None and not with_nul:
            # What a member would be if it were not wrong is not judged.
            judged = (fault for fault in faults(table) if not _is_of(fault, wrong))
            self._mistakes += (f"{where}.{fault}" for fault in judged)
        if wrong:
            self.broken.add(name)
            return None
        return table


def _is_of(fault: str, wrong: list[str]) -> bool:
    """Tell whether a fault is of a member that was left out."""
    left_out = {re.split(r"[.:\[]", each[1:])[0] for each in wrong}
    return not left_out.isdisjoint(re.split(r"[.:\[]", fault)[0].split(", "))


def _repeated(name: str, key: str, values: list[str], why: str = "") -> Iterator[str]:
    for number, value in enumerate(values, start=1):
        if value in values[: number - 1]:
            yield f"{name}[{number}].{key}: stands in an earlier entry already{why}"
