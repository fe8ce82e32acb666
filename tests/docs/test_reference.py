"""Whatever a user can set, meet or type is in the reference; and nothing that is not there any more."""

import argparse
import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields

import msgspec
import pytest

from tests.docs.documents import ROOT, prose, read
from watchword import cli, wire
from watchword.auth.settings import GatewayTable, IntrospectionTable, IssuerTable, TokenTable
from watchword.auth.static import StaticTokens
from watchword.config import SERVING, ActionTable, ConfigError, EnrolmentTable, SessionTable, parse
from watchword.domain.decision import EventName, Reason
from watchword.domain.limits import Limits
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemClock, SystemEntropy
from watchword.faces.settings import FaceTable
from watchword.jose.keys import ServerKeys
from watchword.methods.keyring import Keyring
from watchword.methods.registry import Methods
from watchword.sandbox.control import Control
from watchword.sandbox.people import ADA, GRACE, SIGNER, NewUser
from watchword.sandbox.world import ACTIONS, LIMITS
from watchword.server.api import Api
from watchword.server.settings import Settings
from watchword.serving.probes import ALIVE, READY
from watchword.serving.settings import (
    ApplicationTable,
    AppTable,
    DeliveryTable,
    KeysTable,
    PageTable,
    PersonalTokensTable,
    RetentionTable,
    ServerTable,
    StoreTable,
)
from watchword.store.memory import MemoryStore

CONFIGURATION = read("docs/reference/configuration.md")
ERRORS = read("docs/reference/errors.md")
EVENTS = read("docs/reference/events.md")
HTTP_API = read("docs/reference/http-api.md")
SANDBOX = read("docs/reference/sandbox.md")
CLI = read("docs/reference/cli.md")


def _rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in prose(text).splitlines()
        if line.startswith("| ")
    ]


def _first_cells(text: str) -> set[str]:
    return {name for row in _rows(text) for name in re.findall(r"^`([^`]+)`$", row[0])}


# --- settings ---------------------------------------------------------------------------------

TABLES: dict[str, type[msgspec.Struct]] = {
    "enrolment": EnrolmentTable,
    "server": ServerTable,
    "keys": KeysTable,
    "store": StoreTable,
    "applications": ApplicationTable,
    "issuers": IssuerTable,
    "introspection": IntrospectionTable,
    "tokens": TokenTable,
    "gateway": GatewayTable,
    "personal_tokens": PersonalTokensTable,
    "delivery": DeliveryTable,
    "face": FaceTable,
    "app": AppTable,
    "page": PageTable,
    "retention": RetentionTable,
}

SETTINGS = {
    row[0].strip("`"): row[1:]
    for row in _rows(CONFIGURATION)
    if re.match(r"`[a-z_]+\.[a-z_0-9]+`$", row[0]) and not row[0].startswith("`watchword.")
}


def _settings() -> Iterator[str]:
    for name in ActionTable.__struct_fields__:
        yield f"actions.{name}"
    for name in SessionTable.__struct_fields__:
        yield f"session.{name}"
    for field in fields(Limits):
        if field.name != "session_seconds":
            yield f"limits.{field.name}"
    for table, struct in TABLES.items():
        for name in struct.__struct_fields__:
            yield f"{table}.{name}"


BOUNDED = [name for name in _settings() if name.startswith(("session.", "limits."))]


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    assert set(SETTINGS) == set(_settings())


def test_every_table_of_a_server_is_among_them() -> None:
    assert {"enrolment", *SERVING} == TABLES.keys()


@pytest.mark.parametrize(
    "name", [f"{table}.{name}" for table in TABLES for name in TABLES[table].__struct_fields__]
)
def test_a_default_that_is_a_number_or_a_name_is_the_one_that_is_documented(name: str) -> None:
    table, _, key = name.partition(".")
    struct = TABLES[table]
    field = next(field for field in msgspec.structs.fields(struct) if field.name == key)
    shown = SETTINGS[name][0]
    if field.required:
        assert shown.startswith("required"), name
    elif isinstance(field.default, bool):
        assert shown.startswith(f"`{str(field.default).lower()}`"), name
    elif isinstance(field.default, int | float):
        assert shown == f"{field.default:g}", name
    elif isinstance(field.default, str):
        assert shown == f"`{field.default}`", name


@pytest.mark.parametrize("name", BOUNDED)
def test_a_settings_defaults_are_those_of_the_table(name: str) -> None:
    field = "session_seconds" if name == "session.seconds" else name.partition(".")[2]
    shown = [int(cell) for cell in SETTINGS[name][:2]]
    assert shown == [getattr(limits, field) or 0 for limits in (Limits(), LIMITS)]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_settings_bounds_are_those_of_the_table(name: str) -> None:
    table, _, key = name.partition(".")
    least, most = (int(cell) for cell in SETTINGS[name][2:4])
    for value in (least, most):
        parse(f"[{table}]\n{key} = {value}")
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError):
            parse(f"[{table}]\n{key} = {value}")


# --- errors and reasons -----------------------------------------------------------------------

# Dotted names in the code at the border that are no error codes.
OTHER_NAMES = re.compile(
    r"(http|lifespan|websocket|watchword|session)\..*|.*\.(py|sh|css|html|js|json|db|toml|pem)"
)
BORDER = ("problems.py", "server/*.py", "guard/*.py", "sandbox/*.py")


def _codes() -> set[str]:
    """Return every error code that stands in the code, whether the client knows it or not."""
    package = ROOT / "src/watchword"
    files = [file for place in BORDER for file in package.glob(place)]
    found = {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"[a-z]+(\.[a-z]+)+", node.value) and not OTHER_NAMES.fullmatch(node.value)
    }
    return found | {code.value for code in wire.Code}


def test_every_error_code_is_documented_and_every_documented_code_exists() -> None:
    documented = {name for name in _first_cells(ERRORS) if "." in name}
    assert documented == _codes()


def test_every_code_says_its_status() -> None:
    statuses = {row[0].strip("`"): row[1] for row in _rows(ERRORS) if row[0].strip("`") in _codes()}
    assert [code for code, status in statuses.items() if not re.fullmatch(r"[45]\d\d", status)] == []


def test_every_reason_is_documented_and_every_documented_reason_exists() -> None:
    table = ERRORS.partition("| reason |")[2]
    assert _first_cells(table) == {reason.value for reason in Reason}


# --- events -----------------------------------------------------------------------------------


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    assert _first_cells(EVENTS) == {event.value for event in EventName}


def test_every_detail_of_an_event_is_documented() -> None:
    keys = {
        key.value
        for module in (ROOT / "src/watchword/domain").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    assert keys
    assert [key for key in keys if f"`{key}`" not in EVENTS] == []


# --- the command line -------------------------------------------------------------------------


class _Parsed(Exception):  # noqa: N818 - it carries what was asked for.
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def _parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """Return the parser, as it is when somebody types a command."""

    def parse_args(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _Parsed(self)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(_Parsed) as caught:
        cli.main([])
    return caught.value.parser


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse shows its options nowhere else.
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above.
            found |= action.choices
    return found


def _options(parser: argparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:  # noqa: SLF001 - as above.
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above.
            for nested in action.choices.values():
                yield from _options(nested)
        elif "--help" not in action.option_strings:
            yield from action.option_strings or (str(action.metavar or action.dest),)


def test_every_command_and_option_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = _commands(_parser(monkeypatch))
    sections = dict(re.findall(r"^## `watchword (\w+)`\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL))
    assert sections.keys() == commands.keys()
    for name, parser in commands.items():
        documented = {cell.split()[0] for cell in _first_cells(sections[name])}
        assert documented == set(_options(parser)), name
        for nested in _commands(parser):
            assert f"`watchword {name} {nested}`" in sections[name]


def test_every_option_of_the_program_itself_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [option for option in _options(_parser(monkeypatch)) if option.startswith("--")]
    assert "--version" in options
    assert [option for option in options if option not in CLI] == []


# --- HTTP -------------------------------------------------------------------------------------


def _engine() -> Engine:
    return Engine(
        store=MemoryStore(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        methods=Methods(Keyring({1: bytes(32)}, active=1)),
        delivery=_Nobody(),
        limits=Limits(),
    )


class _Nobody:
    async def send(self, message: object) -> None:
        raise AssertionError("nothing is sent here")


def test_every_call_of_the_api_is_documented_and_every_documented_call_exists() -> None:
    served = {
        f"{operation.method} {path.replace(':calendar', '')}"
        for operation in Api(
            _engine(), StaticTokens(), keys=ServerKeys.generate(), settings=Settings()
        ).operations
        for path in operation.paths
    }
    documented = {name for name in _first_cells(HTTP_API) if re.match(r"(GET|POST|PUT|DELETE) ", name)}
    assert documented == served | {f"GET {ALIVE}", f"GET {READY}"}


def test_every_header_is_documented() -> None:
    headers = {wire.APPROVAL, wire.APPROVAL_RESULT, wire.ONE_TIME_TOKEN, wire.CORRELATION_ID, wire.TRACE_ID}
    headers |= {wire.SIGNATURE, wire.RETRY_AFTER, "x-rate-limited-by"}
    assert [name for name in headers if f"`{name}`" not in HTTP_API.lower()] == []


# --- the sandbox ------------------------------------------------------------------------------


def test_every_call_of_the_control_api_is_documented() -> None:
    source = (ROOT / "src/watchword/sandbox/control.py").read_text(encoding="utf-8")
    served = re.findall(r'Route\("(/sandbox[/\w{}]*)", guarded\(.*methods=\["(\w+)"\]', source)
    assert len(served) > 5
    assert Control.__name__ in source
    missing = [
        f"{method} {path}"
        for path, method in served
        if not re.search(f"`{method} {re.escape(path)}[`?]", SANDBOX)
    ]
    assert missing == []


def test_every_member_of_a_new_user_is_documented() -> None:
    members = set(NewUser.__struct_encode_fields__)
    table = SANDBOX.partition("| member |")[2]
    assert _first_cells(table) == members


@pytest.mark.parametrize("person", [ADA, GRACE, SIGNER], ids=lambda person: str(person.user_id))
def test_every_person_is_documented_as_he_is(person: NewUser) -> None:
    row = next(cells for cells in _rows(SANDBOX) if cells[0] == f"`{person.token}`")
    assert f"user {person.user_id}" in row[1]
    assert all(f"profile {profile}" in row[1] for profile in person.profile_ids or ())
    enrolled = [person.pin, person.phone_number, *person.device_fingerprints]
    assert [secret for secret in enrolled if secret is not None and f"`{secret}`" not in row[2]] == []


def test_every_action_of_the_sandbox_is_documented() -> None:
    table = {cell for row in _rows(SANDBOX) for cell in row}
    for action in ACTIONS:
        assert any(f"`{action.name}`" in cell and f"{action.risk.value} risk" in cell for cell in table)
        for route in action.routes:
            template = re.sub(r"\.csv$", ".json", route.template)
            assert f"{route.method} {template}" in SANDBOX


# --- the house --------------------------------------------------------------------------------


def test_the_tree_of_the_architecture_is_that_of_the_code() -> None:
    tree = read("docs/architecture.md").partition("```text\nsrc/watchword/\n")[2].partition("```")[0]
    package = ROOT / "src/watchword"
    shown = set(re.findall(r"^  ([\w.]+)/?(?: |$)", tree, re.MULTILINE))
    assert shown == {
        entry.name for entry in package.iterdir() if not entry.name.startswith(("_", "py.typed"))
    }
    inner = re.findall(r"^    ([\w.]+) ", tree, re.MULTILINE)
    assert [name for name in inner if not list(package.glob(f"*/{name}"))] == []
    domain = {entry.name for entry in (package / "domain").glob("*.py")} - {"__init__.py"}
    assert domain <= set(inner)
