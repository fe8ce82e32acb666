"""
Configuration: TOML, read strictly, every mistake reported together.

An unknown key is a mistake, since a limit that is misspelt is a limit that is not there. Here is read
what a policy says: actions, session, limits, enrolment. The other tables of the file are about a
server, and are kept as they stand for whoever composes one (``watchword.serving``).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from watchword.domain.action import AUTHORISE_SESSION, Action, Bind, Risk, Route, Spend
from watchword.domain.details import DETAILS_MAX, WELL_KNOWN, has_controls, is_key
from watchword.domain.enrolment import StepUpFor
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.policy import fault

TITLE_MAX = 120
POINTER_MAX = 512
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
# RFC 6901, but for the empty pointer: a whole document is nothing that a person is shown.
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")


T = TypeVar("T")


class ConfigError(Exception):
    """The configuration cannot be used; names every mistake."""

    def __init__(self, source: str, mistakes: list[str]) -> None:
        super().__init__(f"{source}: " + "; ".join(mistakes))
        self.source = source
        self.mistakes = mistakes


class ActionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[actions]]`` entry."""

    name: str
    risk: Literal["low", "high"]
    match: list[str] = []
    challenges: list[list[Method]] | None = None
    bind: Literal["request", "action"] | None = None
    spend: Literal["before", "on-success"] = "before"
    title: str | dict[str, str] | None = None
    show: dict[str, str] = {}


class SessionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[session]`` table."""

    seconds: int = 300


class EnrolmentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The ``[enrolment]`` table.

    Attributes:
        step_up: Which changes of credentials a user has to confirm; None where the file does not say.
        refuse_trivial_pins: Whether 1111 and 1234 are refused as PINs; None where it does not say.
    """

    step_up: Literal["nothing", "two-factors", "everything"] | None = None
    refuse_trivial_pins: bool | None = None

    def when(self, otherwise: StepUpFor) -> StepUpFor:
        """Return which changes ask for a step-up; *otherwise* where the file does not say."""
        return otherwise if self.step_up is None else StepUpFor(self.step_up)

    def trivial_pins(self, *, otherwise: bool) -> bool:
        """Tell whether trivial PINs are taken; *otherwise* where the file does not say."""
        return otherwise if self.refuse_trivial_pins is None else not self.refuse_trivial_pins


@dataclass(frozen=True, slots=True)
class Config:
    """
    What a file says.

    Attributes:
        actions: The actions; None where the file names none.
        limits: The settings of ``[limits]`` and ``[session]`` that the file names, by field of ``Limits``.
        enrolment: What is asked for before credentials change.
        serving: The tables of ``SERVING``, as they stand.
    """

    actions: tuple[Action, ...] | None
    limits: Mapping[str, int | None]
    enrolment: EnrolmentTable = field(default_factory=EnrolmentTable)
    serving: Mapping[str, Any] = field(default_factory=dict[str, Any])


POLICY = ("actions", "session", "limits", "enrolment")
SERVING = (
    "app",
    "applications",
    "delivery",
    "face",
    "gateway",
    "introspection",
    "issuers",
    "keys",
    "page",
    "personal_tokens",
    "retention",
    "server",
    "store",
    "tokens",
)
"""The tables that are about a server."""


# The least that each limit may be: a lock that is over at once is none.
_AT_LEAST = dict.fromkeys((field.name for field in fields(Limits)), 1) | {
    "session_seconds": 0,
    "resend_seconds": 0,
    "lock_seconds": 60,
    "disable_pin_after": 0,
    "disable_possession_after": 0,
    "disable_face_after": 0,
    "pin_digits": 4,
    "high_risk_after_seconds": 0,
}
# RTS art. 4(3)(b): no more than five failures before a lock. NIST SP 800-63B-4: ten minutes for a
# code (section 3.1.3.2), a hundred failures at the most, ten with a PIN, fifty with a face.
_AT_MOST = {
    "failures": 5,
    "code_tries": 5,
    "code_seconds": 600,
    "disable_pin_after": 10,
    "disable_possession_after": 100,
    "disable_face_after": 50,
    "tokens_live": 1_000,
    "sends_per_token": 100,
    "sends_per_number": 10_000,
    "pin_digits": 12,
    "device_fingerprints": 100,
    # Each of them may be tried for each signature.
    "public_keys": 5,
    "keys_per_application": 1_000,
}
_SECONDS_MAX = 10 * 365 * 24 * 60 * 60


def load(path: Path) -> Config:
    """
    Read a configuration file.

    Raises:
        ConfigError: It cannot be read, or has mistakes.
    """
    return parse(text_of(path), source=str(path))


def text_of(path: Path) -> str:
    """
    Return the text of a configuration file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise ConfigError(str(path), [f"cannot be read: {reason}"]) from error


def parse(text: str, *, source: str = "configuration") -> Config:
    """
    Read a configuration; of the tables that are about a server, the names alone.

    Raises:
        ConfigError: It has mistakes; all of them are named.
    """
    config, mistakes = read(text, source=source)
    if mistakes:
        raise ConfigError(source, mistakes)
    return config


def read(text: str, *, source: str = "configuration") -> tuple[Config, list[str]]:
    """
    Read a configuration; return what could be read, and what is wrong with the rest.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(source, ["not TOML that can be read: it is nested too deeply"]) from error
    except ValueError as error:
        # Beside what is no TOML: a number of more digits than Python reads.
        raise ConfigError(source, [f"not TOML: {error}"]) from error
    known = sorted({*POLICY, *SERVING})
    mistakes = [f"{name}: unknown; known are {', '.join(known)}" for name in tables if name not in known]
    limits: dict[str, int | None] = {}
    actions: list[Action] | None = None
    enrolment = EnrolmentTable()
    if "session" in tables:
        session, wrong = table_of(tables["session"], SessionTable)
        mistakes += (f"session{each}" for each in wrong)
        if session is not None and not wrong:
            limits["session_seconds"] = session.seconds
    if "limits" in tables:
        mistakes += _read_limits(tables["limits"], limits)
    mistakes += _out_of_bounds(limits)
    if "enrolment" in tables:
        changes, wrong = table_of(tables["enrolment"], EnrolmentTable)
        mistakes += (f"enrolment{each}" for each in wrong)
        enrolment = enrolment if changes is None or wrong else changes
    if "actions" in tables:
        actions = []
        mistakes += _read_actions(tables["actions"], actions)
    serving = {name: table for name, table in tables.items() if name in SERVING}
    return Config(None if actions is None else tuple(actions), limits, enrolment, serving), mistakes


def table_of(entry: Any, kind: type[T]) -> tuple[T | None, list[str]]:  # noqa: ANN401 - TOML's.
    """
    Read a table; return it as far as it can be read, and all that is wrong with its members.

    What is wrong begins with its place in the table: ``.openers[2]: …``. What is wrong is left out of
    the table; there is none where it cannot be without.
    """
    try:
        return msgspec.convert(entry, kind), []
    except msgspec.ValidationError as error:
        whole = str(error)
    if not isinstance(entry, dict):
        return None, [f": {whole}"]
    members = {each.name: each for each in msgspec.structs.fields(cast("type[msgspec.Struct]", kind))}
    found: list[str] = []
    sound: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", entry).items():
        if name not in members:
            found.append(f".{name}: unknown; known are {', '.join(sorted(members))}")
            continue
        wrong = [f".{name}{each}" for each in _wrong_in(value, members[name].type)]
        found += wrong
        if not wrong:
            sound[name] = value
    found += (
        f".{name}: must be there" for name, each in members.items() if each.required and name not in entry
    )
    try:
        return msgspec.convert(sound, kind), found
    except msgspec.ValidationError:
        return None, found or [f": {whole}"]


def _wrong_in(value: Any, kind: Any) -> Iterator[str]:  # noqa: ANN401 - TOML's, and what types are made of.
    """Say where a value is not of *kind*: in which of its items, if it has any."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        whole = str(error)
    else:
        return
    for option in (kind, *get_args(kind)):
        if get_origin(option) is list and isinstance(value, list):
            for number, item in enumerate(value, start=1):  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
                yield from (f"[{number}]{each}" for each in _wrong_in(item, get_args(option)[0]))
            return
        if get_origin(option) is dict and isinstance(value, dict):
            for name, item in cast("dict[str, Any]", value).items():
                yield from (f".{name}{each}" for each in _wrong_in(item, get_args(option)[1]))
            return
    yield f": {whole}"


def _read_limits(table: Any, limits: dict[str, int | None]) -> Iterator[str]:  # noqa: ANN401 - TOML's.
    if not isinstance(table, dict):
        yield "limits: must be a table, [limits]"
        return
    known = {field.name for field in fields(Limits)} - {"session_seconds"}
    for name, value in cast("dict[str, Any]", table).items():
        if name not in known:
            yield f"limits.{name}: unknown; known are {', '.join(sorted(known))}"
        elif isinstance(value, bool) or not isinstance(value, int):
            yield f"limits.{name}: must be a whole number"
        elif name == "spend_within_seconds" and value == 0:
            limits[name] = None  # TOML has no null: 0 is «as long as the token lives».
        else:
            limits[name] = value


def _out_of_bounds(limits: Mapping[str, int | None]) -> Iterator[str]:
    for name, value in limits.items():
        where = "session.seconds" if name == "session_seconds" else f"limits.{name}"
        least, most = _AT_LEAST[name], _AT_MOST.get(name, _SECONDS_MAX)
        if value is not None and not least <= value <= most:
            yield f"{where}: must be from {least} to {most}, not {value}"


def _read_actions(entries: Any, actions: list[Action]) -> Iterator[str]:  # noqa: ANN401 - TOML's.
    if not isinstance(entries, list):
        yield "actions: must be tables, [[actions]]"
        return
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
        name = cast("dict[str, Any]", entry).get("name") if isinstance(entry, dict) else None
        where = f"actions: {name}" if isinstance(name, str) and name else f"actions, entry {number}"
        table, wrong = table_of(entry, ActionTable)
        yield from (f"{where}: {each.lstrip('.: ')}" for each in wrong)
        routes: list[Route] = []
        for text in () if table is None else table.match:
            try:
                routes.append(Route.parse(text))
            except ValueError as error:
                wrong.append(text)
                yield f"{where}: {error}"
        if table is None or wrong:
            continue
        action = Action(
            name=table.name,
            risk=Risk(table.risk),
            routes=tuple(routes),
            challenges=None
            if table.challenges is None
            else tuple(tuple(listed) for listed in table.challenges),
            bind=Bind(table.bind or ("request" if table.risk == "high" else "action")),
            spend=Spend(table.spend),
            title=_titles(table.title),
            show=tuple(table.show.items()),
        )
        unfit = fault(action)
        if not table.name:
            yield f"{where}: its name is empty"
        elif unfit is not None:
            yield f"{where}: {unfit}"
        elif table.name == AUTHORISE_SESSION.name:
            # A token that only opens the low-risk session would let this action through.
            yield f"{where}: this name is that of the session's own tokens"
        elif table.name in seen:
            yield f"{where}: stands twice"
        yield from (f"{where}: {each}" for each in (*_of_title(action), *_of_show(action)))
        seen.add(table.name)
        actions.append(action)
    yield from _overlaps(actions)


def _titles(title: str | Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    if title is None:
        return ()
    return (("", title),) if isinstance(title, str) else tuple(title.items())


def _of_title(action: Action) -> Iterator[str]:
    for tag, text in action.title:
        where = f"title.{tag}" if tag else "title"
        if tag and not _LANGUAGE.fullmatch(tag):
            yield f'{where}: is no language; write one as browsers do, {{ en = "Pay", de = "Bezahlen" }}'
        if not 1 <= len(text) <= TITLE_MAX or text.isspace():
            yield f"{where}: must be what the customer calls it, of 1 to {TITLE_MAX} characters"
        elif has_controls(text):
            yield f"{where}: holds a control character; write letters that everybody sees"


def _of_show(action: Action) -> Iterator[str]:
    if not action.show:
        return
    if action.bind is not Bind.REQUEST:
        yield 'show: what is shown must be what is approved; write bind = "request" too'
    without = sorted({f"{route.method} {route.template}" for route in action.routes if route.covers("HEAD")})
    if without:
        yield f"show: reads the body, and {without[0]} has none; give that one an action of its own"
    if len(action.show) > DETAILS_MAX:
        yield f"show: {DETAILS_MAX} details at the most can be shown, not {len(action.show)}"
    for key, pointer in action.show:
        if not is_key(key):
            yield (
                f"show.{key[:40]}: must be one of {', '.join(WELL_KNOWN)}, or a word of your own: small"
                " letters, digits and _, 32 at the most"
            )
        if not _POINTER.fullmatch(pointer) or len(pointer) > POINTER_MAX:
            yield f'show.{key[:40]}: must be a JSON Pointer (RFC 6901) into the body, such as "/amount/value"'


def _overlaps(actions: list[Action]) -> Iterator[str]:
    """Find routes that an earlier action takes whole: theirs could never decide."""
    owners: dict[tuple[str, str], str] = {}
    earlier: list[tuple[Route, str]] = []
    for action in actions:
        for route in action.routes:
            owner = owners.setdefault((route.method, route.pattern.pattern), action.name)
            where = f"actions: {action.name}: {route.method} {route.template}"
            if owner != action.name:
                yield f"{where} belongs to {owner} already"
                continue
            broader, name = next(
                ((each, name) for each, name in earlier if name != action.name and each.includes(route)),
                (None, ""),
            )
            if broader is not None:
                yield (
                    f"{where} is never reached, since {broader.method} {broader.template} of {name} stands"
                    f" before it: put the narrower one, {action.name}, first"
                )
            earlier.append((route, action.name))
