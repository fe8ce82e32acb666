"""
Who may open the page in a frame, and who is told how it ended: exact origins, listed by the operator.

The opener names its hostname in the form, which anybody can write. Its browser names its whole origin,
which only a page that hides it (``Referrer-Policy: no-referrer``) leaves out. So the browser's word
decides; where there is none, all that are listed under that hostname are meant. Who is not listed can
open a window and is told nothing: being told is no authority, and a window shows what it is about.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

LOOPBACK = ("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*", "https://127.0.0.1:*")
"""What may open the sandbox's page: this machine, at any port."""

_ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_HOSTNAME = re.compile(r"[a-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Opener:
    """
    Who opened a page.

    Attributes:
        told: The origins that may be told, and may frame the page; ``*`` as port stands for any.
        stranger: The host of one that is not listed; empty otherwise.
    """

    told: tuple[str, ...] = ()
    stranger: str = ""

    @classmethod
    def of(cls, listed: Sequence[str], *, origin: str | None, hostname: str) -> Self:
        """
        Find out who opened a page.

        Args:
            listed: The origins that may.
            origin: The origin that the browser named; None where it does not say.
            hostname: The host that the form names; empty for none.
        """
        if origin is not None:
            if any(covers(entry, origin) for entry in listed):
                return cls(told=(origin,))
            return cls(stranger=host_of(origin) or origin)
        return cls(told=tuple(entry for entry in listed if not hostname or host_of(entry) == hostname))


def named_origin(header: str | None) -> str | None:
    """Return the origin of an ``Origin`` header; None where it names none, ``?`` where it is no origin."""
    if header is None or header == "null":
        return None
    return header if _ORIGIN.fullmatch(header) else "?"


def named_host(field: str) -> str:
    """Return the host that a form names; empty where that is none."""
    lower = field.lower()
    return lower if _HOSTNAME.fullmatch(lower) else ""


def covers(listed: str, origin: str) -> bool:
    """Tell whether *origin* is the one that is listed, or one of those at any port."""
    if not listed.endswith(":*"):
        return origin == listed
    stem = listed.removesuffix(":*")
    rest = origin.removeprefix(stem)
    return origin.startswith(stem) and re.fullmatch(r"(?::[0-9]{1,5})?", rest) is not None


def host_of(origin: str) -> str:
    """Return the host's name of an origin."""
    authority = origin.partition("://")[2].removesuffix(":*")
    return authority.partition(":")[0]
