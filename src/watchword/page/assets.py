"""The page's static files, each under a name that changes with what is in it: cached for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath

PATH = "/approve-api-action/static/"

_OURS = ("page.css", "page.js")
_FINGERPRINT_LENGTH = 16
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """
    One file.

    Attributes:
        name: With its fingerprint: ``page.0123456789abcdef.css``.
    """

    name: str
    body: bytes
    content_type: str

    @property
    def url(self) -> str:
        """Where it is served."""
        return PATH + self.name


class Assets:
    """
    All of them, read once.

    Args:
        more: Files of the operator's, by name; the ending says what they are.

    Raises:
        ValueError: An ending is not one of those that a page can use.
    """

    def __init__(self, more: Mapping[str, bytes] | None = None) -> None:
        here = files("watchword.page").joinpath("static")
        bodies = {name: here.joinpath(name).read_bytes() for name in _OURS} | dict(more or {})
        made = {name: _asset(name, body) for name, body in bodies.items()}
        self.urls: Mapping[str, str] = {name: asset.url for name, asset in made.items()}
        """Where each is served, by its plain name: ``urls["page.css"]``."""
        self._by_name = {asset.name: asset for asset in made.values()}

    def get(self, name: str) -> Asset | None:
        """Return the file of a name with its fingerprint; None where there is no such."""
        return self._by_name.get(name)


def _asset(name: str, body: bytes) -> Asset:
    path = PurePosixPath(name)
    if path.suffix not in _TYPES:
        raise ValueError(f"{name} does not end in {', '.join(_TYPES)}")
    fingerprint = sha256(body).hexdigest()[:_FINGERPRINT_LENGTH]
    return Asset(f"{path.stem}.{fingerprint}{path.suffix}", body, _TYPES[path.suffix])
