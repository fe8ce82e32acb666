"""Reading the page's forms: few fields, each once, none of them long."""

import re
from urllib.parse import parse_qsl

from starlette.requests import Request

from watchword.asgi import Headers
from watchword.server.body import BODY_MAX, read

FIELDS_MAX = 16
VALUE_MAX = 2048
_FORM = re.compile(rb"application/x-www-form-urlencoded\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class BadFormError(Exception):
    """The form cannot be read; carries the status of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_form(request: Request) -> dict[str, str]:
    """
    Read a form.

    Raises:
        BadFormError: 400 where a field stands twice, is too long or is no text; 415.
        BadRequestError: 413, or 408 where it took too long.
    """
    _check(request.scope["headers"])
    body = await read(request, limit=BODY_MAX)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        raise BadFormError(400) from error
    form = dict(pairs)
    if len(form) < len(pairs) or any(len(value) > VALUE_MAX for value in form.values()):
        raise BadFormError(400)
    return form


def _check(headers: Headers) -> None:
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or not _FORM.fullmatch(types[0].strip()):
        raise BadFormError(415)
    if any(
        name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}
        for name, value in headers
    ):
        raise BadFormError(415)


def cookies(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request; of two by one name the first, which is the more specific path's."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, separator, content = pair.strip().partition("=")
                if separator:
                    found.setdefault(key, content)
    return found
