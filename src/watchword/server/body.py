"""Reading bodies: the one place where what a client sent becomes something that is typed."""

import asyncio
import re
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from starlette.requests import Request

from watchword import problems, strict_json, wire
from watchword.asgi import Headers
from watchword.problems import Problem

BODY_MAX = 64 * 1024
BODY_SECONDS = 30.0
_JSON = re.compile(rb"application/json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_AT = re.compile(r" - at `\$\.?(.*)`$")
_FIELD = re.compile(r"(?:missing required|contains unknown) field `(.*?)`")
_NAME_MAX = 64
_MARKS = (b'"', b",", b":", b"[", b"{", b"\\")
_MARKS_MAX = 64
LARGE_AT_ONCE, LARGE_AT_ONCE_EACH = 32, 2
"""How many bodies larger than 64 KiB may be on their way at once, in all and by one caller."""

S = TypeVar("S", bound=msgspec.Struct)


class Large:
    """
    Bodies larger than most, on their way: each may take 4 MiB of memory for as long as its sender likes.

    Counted before the first byte is read, so that none waits with a part of itself in memory.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._by_caller: Counter[int] = Counter()

    @contextmanager
    def one(self, caller: int) -> Generator[None]:
        """
        Admit one more.

        Raises:
            BadRequestError: 503; there are too many.
        """
        if self._by_caller.total() >= LARGE_AT_ONCE or self._by_caller[caller] >= LARGE_AT_ONCE_EACH:
            raise BadRequestError(problems.busy())
        self._by_caller[caller] += 1
        try:
            yield
        finally:
            self._by_caller[caller] -= 1
            self._by_caller += Counter()  # Forgets those at zero.


class BadRequestError(Exception):
    """The request cannot be served as it is; carries the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status)
        self.problem = problem


async def read_json(request: Request, shape: type[S], *, limit: int = BODY_MAX) -> S:
    """
    Read a JSON body of a given shape.

    Args:
        limit: Bytes; one more is 413.

    Raises:
        BadRequestError: 400 where it is not JSON of that shape, 413, 415, or 408 where it took too long.
    """
    check_json_headers(request.scope["headers"])
    return decode(await read(request, limit=limit), shape)


def check_json_headers(headers: Headers) -> None:
    """
    Check that a body is called JSON, and is not compressed.

    Raises:
        BadRequestError: 415.
    """
    for name, value in headers:
        if name == b"content-type" and not _JSON.fullmatch(value.strip()):
            raise _unsupported("Send the body as application/json, in UTF-8.")
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise _unsupported("Send the body without Content-Encoding.")


def decode(body: bytes, shape: type[S]) -> S:
    """
    Convert JSON to a given shape.

    What is larger than most bodies may be holds one long text and little else: a tree of that size would
    keep everybody waiting while it is read.

    Raises:
        BadRequestError: 400; names the member at fault.
    """
    if len(body) > BODY_MAX and sum(map(body.count, _MARKS)) > _MARKS_MAX:
        raise BadRequestError(problems.malformed("The body has more parts than this call takes."))
    try:
        return msgspec.convert(strict_json.loads(body), shape)
    except strict_json.MalformedJsonError as error:
        raise BadRequestError(problems.malformed(f"The body cannot be read: {error}.")) from error
    except msgspec.ValidationError as error:
        raise _not_of_shape(str(error)) from error


async def read(request: Request, *, limit: int) -> bytes:
    """
    Read a body whole.

    Raises:
        BadRequestError: 413 or 408.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            if value == b"0":
                return b""
            if value.isdigit() and (len(value) > len(str(limit)) or int(value) > limit):
                raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise BadRequestError(problems.malformed("The body ended early."))
                chunk: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError as error:
        raise BadRequestError(
            problems.problem(408, wire.Code.REQUEST_TIMED_OUT, "The body took too long to arrive.")
        ) from error
    return b"".join(chunks)


def _not_of_shape(message: str) -> BadRequestError:
    at = _AT.search(message)
    field = _FIELD.search(message)
    path = ".".join(part[1][:_NAME_MAX] for part in (at, field) if part is not None and part[1])
    what = _FIELD.sub(lambda found: found[0][: _NAME_MAX * 2], _AT.sub("", message))
    return BadRequestError(problems.malformed(f"{what}.", path=path or None))


def _too_large(limit: int) -> BadRequestError:
    return BadRequestError(
        problems.problem(413, wire.Code.REQUEST_TOO_LARGE, f"The body is larger than {limit} bytes.")
    )


def _unsupported(message: str) -> BadRequestError:
    return BadRequestError(problems.problem(415, wire.Code.MEDIA_TYPE_UNSUPPORTED, message))
