"""``/watchword.js``, the module for openers, and its types; at fixed addresses, for other sites name them."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    "/watchword.js": "text/javascript; charset=utf-8",
    "/watchword.d.ts": "text/typescript; charset=utf-8",
}
_HEADERS = {
    # Any origin may import it: it holds no secret, and acts for whoever imports it.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "cache-control": "public, max-age=300",
    "x-content-type-options": "nosniff",
}


class _File:
    """One file that never changes while the server runs."""

    def __init__(self, path: str) -> None:
        self._body = files("watchword.page").joinpath(f"static{path}").read_bytes()
        self._media_type = _TYPES[path]
        self._headers: Mapping[str, str] = {**_HEADERS, "etag": f'"{sha256(self._body).hexdigest()[:16]}"'}

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._headers["etag"]:
            return Response(None, 304, self._headers)
        return Response(self._body, 200, self._headers, self._media_type)


def routes() -> list[BaseRoute]:
    """Return the routes."""
    return [Route(path, _File(path).__call__, methods=["GET"]) for path in _TYPES]
