"""
Actions: named operations to protect, and the requests that carry them out.

Matching is done on the decoded path, as the application routes it. What resembles a protected
path without being one (``//``, ``/./``, a trailing slash, other case, a backslash, a second
percent-encoding) is called *ambiguous* and is refused, since some application behind the guard
might still route it (attack 139). So is a path of one action that resembles another's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from unicodedata import normalize
from urllib.parse import unquote

from watchword.domain.method import Method

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_HTTP_METHOD = re.compile(r"[A-Z]+")
_END_OF_PATH = re.compile(r"[?#\0]")


# What parameters are tried with, of a character that no template has; the rest of a path may also be
# nothing, or several segments.
_SEGMENT = "\ue000" * 3
_RESTS = ("", _SEGMENT, f"{_SEGMENT}/{_SEGMENT}")

# What reads the same to every router: nothing to decode, no dots to resolve, no slash too many.
_PLAIN = re.compile(r"(?:/[a-z0-9_~-][a-z0-9._~-]*)+")


class Risk(StrEnum):
    """How much is at stake: one challenge, or two of different factors every time."""

    LOW = "low"
    HIGH = "high"


class Bind(StrEnum):
    """What an OTT of the action is good for: this one request, or any request of the action."""

    REQUEST = "request"
    ACTION = "action"


class Spend(StrEnum):
    """When an OTT is spent: before the handler runs, or once the handler succeeded."""

    BEFORE = "before"
    ON_SUCCESS = "on-success"


@dataclass(frozen=True, slots=True)
class Route:
    """
    A method and a path template, ``POST /v3/profiles/{profileId}/payments``.

    ``{name}`` stands for a part of one path segment, ``{name:path}`` for the rest of the path.

    Attributes:
        pattern: Matches the paths of this route.
        lookalike: Matches, once they are made plain, the paths that some application might take
            for one of this route.
    """

    method: str
    template: str
    pattern: re.Pattern[str]
    lookalike: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> "Route":
        """
        Read «METHOD /template».

        Raises:
            ValueError: The text is not of that form, or no request could ever match it.
        """
        method, space, template = text.partition(" ")
        if not space or not _HTTP_METHOD.fullmatch(method) or not template.startswith("/"):
            message = f"{text!r} is not of the form 'POST /path/{{parameter}}'"
            raise ValueError(message)
        if not set("{}").isdisjoint(_PARAMETER.sub("", template)):
            message = f"{text!r} has a brace that is not part of a {{parameter}}"
            raise ValueError(message)
        plain = _plain(template)
        if plain not in {template, template.removesuffix("/")} or "//" in template:
            message = (
                f"{text!r} cannot match: a template is a decoded path, without query, fragment, '%20', ';',"
                f" '\\', '//', '.', '..' or space at an end; perhaps {f'{method} {plain}'!r}"
            )
            raise ValueError(message)
        return cls(
            method=method,
            template=template,
            pattern=re.compile(_regex(template), re.DOTALL),
            lookalike=re.compile(_regex(plain), re.DOTALL | re.IGNORECASE),
        )

    def covers(self, method: str) -> bool:
        """Tell whether *method* carries out this route; frameworks answer HEAD with the GET handler."""
        return method == self.method or (method == "HEAD" and self.method == "GET")

    def includes(self, other: "Route") -> bool:
        """Tell whether the requests of *other* are all among those of this route."""
        return self.covers(other.method) and all(
            self.pattern.fullmatch(_filled(other.template, rest)) for rest in _RESTS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """
    A named operation to protect.

    Attributes:
        name: ``<DOMAIN>__<ACTION>``, the ``actionType`` of the wire.
        challenges: Explicit lists of methods, primary first, one a challenge; None for the default
            by risk.
        title: What it is in the customer's words, by language tag; under no tag, for every language.
        show: Where the JSON body has what the customer is shown: keys of details, and JSON Pointers.
    """

    name: str
    risk: Risk
    routes: tuple[Route, ...] = ()
    challenges: tuple[tuple[Method, ...], ...] | None = None
    bind: Bind = Bind.ACTION
    spend: Spend = Spend.BEFORE
    title: tuple[tuple[str, str], ...] = ()
    show: tuple[tuple[str, str], ...] = ()


AUTHORISE_SESSION = Action(name="IDENTITY__AUTHORISE_SESSION", risk=Risk.LOW)
"""Starts the low-risk session by hand."""


class AmbiguousPathError(ValueError):
    """Some application might take the path for that of a protected action which it is not."""


class Actions:
    """The table of actions, by request and by name."""

    def __init__(self, actions: Iterable[Action]) -> None:
        """Make the table; of two actions that match one request the first one named decides."""
        self.by_name: dict[str, Action] = {AUTHORISE_SESSION.name: AUTHORISE_SESSION}
        self._routes: list[tuple[Route, Action]] = []
        for action in actions:
            self.by_name[action.name] = action
            self._routes += ((route, action) for route in action.routes)

    def match(self, method: str, path: str) -> Action | None:
        """
        Find the action that a request carries out.

        Args:
            method: The HTTP method.
            path: The decoded path.

        Raises:
            AmbiguousPathError: *path* resembles one of an action that it does not match.
        """
        routes = [(route, action) for route, action in self._routes if route.covers(method.upper())]
        matched = next((action for route, action in routes if route.pattern.fullmatch(path)), None)
        plain = path if _PLAIN.fullmatch(path) else _plain(path)
        resembled = next((action for route, action in routes if route.lookalike.fullmatch(plain)), None)
        if resembled is not None and resembled is not matched:
            raise AmbiguousPathError(path)
        return matched


def _regex(template: str) -> str:
    regex, end = "", 0
    for parameter in _PARAMETER.finditer(template):
        regex += re.escape(template[end : parameter.start()]) + (".*" if parameter[2] else "[^/]+")
        end = parameter.end()
    return regex + re.escape(template[end:])


def _filled(template: str, rest: str) -> str:
    return _PARAMETER.sub(lambda parameter: rest if parameter[2] else _SEGMENT, template)


def _plain(path: str) -> str:
    """
    Undo what sloppy routers undo.

    Second encodings, characters that stand for others (full-width ones), backslashes, what
    follows a query, a fragment or a NUL, path parameters, spaces, dots and repeated slashes.
    """
    decoded = normalize("NFKC", unquote(unquote(path))).replace("\\", "/")
    segments: list[str] = []
    for raw in _END_OF_PATH.split(decoded, maxsplit=1)[0].split("/"):
        segment = raw.partition(";")[0].strip()
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(segments)
