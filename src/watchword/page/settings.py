"""What an operator decides about the page: whose it is, who may open it, and what actions are called."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from watchword.domain.action import Action
from watchword.page.brand import DEFAULT, Brand

OPENERS_MAX = 32
"""Origins in one list: those of one host name stand in one header together."""

_ORIGIN = re.compile(r"(https?)://([^/?#\\]*)")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_MAX = 65_535
_HOST_MAX = 253
_DEFAULT_PORTS = {"https": "443", "http": "80"}
_HERE = frozenset({"localhost", "127.0.0.1"})

Titles = Mapping[str, Mapping[str, str]]
"""What each action is called, by its name, then by language tag; under no tag, in every language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageApplication:
    """
    One application whose users are sent to the page.

    Attributes:
        name: As customers know it; empty for none.
        openers: The origins whose pages may open it for this application's users; None for those of
            all others.
    """

    name: str = ""
    openers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """
    Settings of the page.

    Attributes:
        origin: Its own origin, as browsers see it; empty where that is not configured.
        openers: The origins whose pages may open it, for users of applications that name none.
        secure: Browsers reach it over TLS.
        brand: Whose page it is.
        frame_high_risk: What is of high risk may be approved in a frame, while the frame is in view.
        templates: A directory whose templates take the place of ours.
        applications: By client id.
        titles: What actions are called.
    """

    origin: str = ""
    openers: tuple[str, ...] = ()
    secure: bool = True
    frame_high_risk: bool = True
    brand: Brand = DEFAULT
    templates: Path | None = None
    applications: Mapping[str, PageApplication] = field(default_factory=dict[str, PageApplication])
    titles: Titles = field(default_factory=dict[str, Mapping[str, str]])

    @property
    def host(self) -> str:
        """The page's own host, which codes are bound to; empty where it is not configured."""
        return urlsplit(self.origin).hostname or ""

    def openers_of(self, application: str | None) -> tuple[str, ...]:
        """Return who may open the page for a user of *application*."""
        found = None if application is None else self.applications.get(application)
        return self.openers if found is None or found.openers is None else found.openers

    @property
    def all_openers(self) -> tuple[str, ...]:
        """Everybody who may open the page for anybody."""
        listed = [*self.openers, *(each for app in self.applications.values() for each in app.openers or ())]
        return tuple(dict.fromkeys(listed))

    def asked_by(self, application: str | None) -> str:
        """Return what customers call *application*; empty where nobody says."""
        found = None if application is None else self.applications.get(application)
        return "" if found is None else found.name

    def title(self, action: str, language: str) -> str:
        """Return what an action is called in a language; empty where nobody says."""
        titles = self.titles.get(action, {})
        for tag in (language, language.partition("-")[0], "", "en"):
            if tag in titles:
                return titles[tag]
        return next(iter(titles.values()), "")


def titles_of(actions: Iterable[Action]) -> Titles:
    """Return what *actions* are called, where the policy says."""
    return {action.name: dict(action.title) for action in actions if action.title}


def origin_fault(origin: str) -> str | None:
    """
    Say why *origin* is not one as browsers write it, and what to write instead; None where it is.

    It is compared letter by letter, and written into a header: what a browser would write in another way
    would never match, and what stands for more than one origin would let strangers in.
    """
    found = _ORIGIN.match(origin.lower())
    if found is None:
        return 'must be an origin: scheme and host, such as "https://shop.example.com"'
    if "@" in origin:
        return "holds a user name, behind which the host stands; write scheme and host alone"
    scheme, authority = found[1], found[2]
    host, colon, port = authority.partition(":")
    wrong = _host_fault(host, authority)
    if wrong is not None:
        return wrong
    if colon and not (_PORT.fullmatch(port) and int(port) <= _PORT_MAX):
        return f"has no port that can be; write one from 1 to {_PORT_MAX}, or none"
    if scheme == "http" and host not in _HERE:
        return f'is not encrypted, so that anybody on the way could be it; write "https://{authority}"'
    browsers = f"{scheme}://{host}" + ("" if not colon or port == _DEFAULT_PORTS[scheme] else f":{port}")
    return None if origin == browsers else f'is written by browsers in another way; write "{browsers}"'


def _host_fault(host: str, authority: str) -> str | None:
    if "*" in authority:
        return "stands for more than one origin; write each one out"
    if not host.isascii():
        return "has a name that is not ASCII; write it as browsers send it, in Punycode: xn--…"
    if authority.startswith("["):
        return 'names an IPv6 address; write a name, or "http://127.0.0.1" for this machine'
    labels = host.split(".")
    if len(host) > _HOST_MAX or not all(map(_LABEL.fullmatch, labels)):
        return 'has no host that can be; write its name, such as "https://shop.example.com"'
    if _NUMBER.fullmatch(labels[-1]) and not _IPV4.fullmatch(host):
        return "has an address that browsers write in another way; write four numbers, such as 10.0.0.7"
    return None


def openers_faults(openers: Iterable[str]) -> Iterable[str]:
    """Name what is wrong in a list of openers, each by its number."""
    listed = list(openers)
    if len(listed) > OPENERS_MAX:
        yield f": must be {OPENERS_MAX} origins at the most, not {len(listed)}; give applications their own"
    for number, origin in enumerate(listed, start=1):
        wrong = origin_fault(origin)
        if wrong is not None:
            yield f"[{number}]: {wrong}"
        elif origin in listed[: number - 1]:
            yield f"[{number}]: stands twice; leave one out"
