"""
A 3D matching server, asked over HTTP.

It speaks the REST shape of FaceTec's server, version 9: ``POST /enrollment-3d``,
``POST /match-3d-3d`` and ``DELETE /enrollment-3d/{externalDatabaseRefID}``. The server keeps the
faces; the template is only the name under which it does. Who speaks otherwise is put behind a
gateway that translates.

No answer counts unless it says so itself: processed without error, liveness proven, and a match
level that is high enough. An answer that contradicts itself, or that leaves one of these out, is
none. What was sent and what came back are never logged: both are of a face.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import httpx2 as httpx
import msgspec

from watchword.domain.instant import Instant
from watchword.faces.base import FaceUnavailableError, FaceUnusableError
from watchword.faces.breaker import Breaker, OpenError
from watchword.quiet import hide_queries

_TEMPLATE: Final = b"3d\x01"
"""What a template begins with: whose it is, and in which format; the reference follows."""
_REFERENCE: Final = re.compile(r"[0-9A-Za-z_-]{1,128}", re.ASCII)
_ANSWER_BYTES_MAX: Final = 1024 * 1024
_CONNECTIONS_IDLE_SECONDS: Final = 30.0
_OK: Final = 200
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_REFUSED: Final = range(400, 500)
# What the server says, with status 200, of a reference that it does not know: releases differ.
_UNKNOWN: Final = re.compile(r"no (entry|records?) (was |were )?found|does not exist", re.IGNORECASE)


class _Checks(msgspec.Struct, frozen=True):
    """What the server found out about the scan; each is absent where it was not looked at."""

    live: bool | None = msgspec.field(default=None, name="faceScanLivenessCheckSucceeded")
    no_replay: bool | None = msgspec.field(default=None, name="replayCheckSucceeded")
    own_session: bool | None = msgspec.field(default=None, name="sessionTokenCheckSucceeded")


class _Answer(msgspec.Struct, frozen=True):
    """The part of an answer that decides; what else it holds is not looked at."""

    success: bool
    error: bool
    was_processed: bool | None = msgspec.field(default=None, name="wasProcessed")
    checks: _Checks | None = msgspec.field(default=None, name="faceScanSecurityChecks")
    match_level: int | None = msgspec.field(default=None, name="matchLevel")
    error_message: str | None = msgspec.field(default=None, name="errorMessage")


_DECODER: Final = msgspec.json.Decoder(_Answer)


class _FaultyError(Exception):
    """The server is not well: no answer, or none that could be one."""


class FaceServer:
    """A ``FaceMatcher`` that leaves everything to a 3D matching server."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        match_level: int,
        now: Callable[[], Instant],
        public_key: str | None = None,
        key_header: str = "X-Device-Key",
        scan_field: str = "faceScan",
        connect_seconds: float = 2.0,
        timeout_seconds: float = 10.0,
        at_once: int = 8,
        breaker_failures: int = 5,
        breaker_seconds: float = 30.0,
    ) -> None:
        """
        Prepare to ask the server at *url*; nothing is sent yet.

        Args:
            url: Where its paths begin.
            api_key: What it knows us by.
            match_level: The least level that is a match.
            now: Tells the time, to the breaker.
            public_key: What clients encrypt face maps to, as PEM.
            key_header: The header of the key; releases differ.
            scan_field: The member of the body that holds the face map; releases differ.
            connect_seconds: How long to wait for a connection.
            timeout_seconds: How long one call may take; and how long it may wait for its turn before.
            at_once: How many calls may run at once; more of them wait.
            breaker_failures: How many failures in a row make us leave the server alone.
            breaker_seconds: For how long.
        """
        self.public_key = public_key
        self._match_level = match_level
        self._scan_field = scan_field
        self._seconds = timeout_seconds
        self._turns = asyncio.Semaphore(at_once)
        self._breaker = Breaker(now, failures=breaker_failures, open_seconds=breaker_seconds)
        hide_queries()
        self._http = httpx.AsyncClient(
            base_url=url,
            # Compressed, an answer could be larger than it looks.
            headers={
                key_header: api_key,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "watchword",
            },
            # The authorities that this machine trusts, a company's own among them.
            verify=ssl.create_default_context(),
            timeout=httpx.Timeout(timeout_seconds, connect=connect_seconds),
            limits=httpx.Limits(
                max_connections=at_once,
                max_keepalive_connections=at_once,
                keepalive_expiry=_CONNECTIONS_IDLE_SECONDS,
            ),
            # A redirect could carry a face, and the key, to anybody; so could a proxy of the environment.
            follow_redirects=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def enrol(self, reference: str, face_map: bytes) -> bytes:
        """Have the server keep the face, under *reference*."""
        if not _REFERENCE.fullmatch(reference):
            raise ValueError("a reference is 1 to 128 letters, digits, dashes or underscores")
        answer = await self._scanned("/enrollment-3d", reference, face_map)
        if not answer.success:
            raise FaceUnusableError
        return _TEMPLATE + reference.encode()

    async def match(self, template: bytes, face_map: bytes) -> bool:
        """Ask the server whether it is the face of *template*."""
        answer = await self._scanned("/match-3d-3d", _reference(template), face_map)
        if not answer.success:
            return False
        if answer.match_level is None:
            raise FaceUnavailableError("the answer has no match level")
        return answer.match_level >= self._match_level

    async def forget(self, template: bytes) -> None:
        """Have the server delete the face of *template*."""
        status, answer = await self._ask("DELETE", "/enrollment-3d/" + quote(_reference(template), safe=""))
        if status == _NOT_FOUND:
            return
        if answer is None:
            raise FaceUnavailableError(f"the server answered {status}")
        unknown = answer.error_message is not None and _UNKNOWN.search(answer.error_message)
        if not unknown and (answer.error or not answer.success):
            raise FaceUnavailableError("the server did not delete the face")

    async def _scanned(self, path: str, reference: str, face_map: bytes) -> _Answer:
        """Send a face map; return the answer about a living face."""
        scan = base64.b64encode(face_map).decode()
        body = {"externalDatabaseRefID": reference, self._scan_field: scan}
        status, answer = await self._ask("POST", path, body)
        if answer is None:
            raise FaceUnavailableError(f"the server answered {status}")
        if answer.error or answer.was_processed is False:
            raise FaceUnavailableError("the server could not process the face map")
        checks = answer.checks
        if checks is None or checks.live is None:
            raise FaceUnavailableError("the answer says nothing of liveness")
        if not checks.live or checks.no_replay is False or checks.own_session is False:
            raise FaceUnusableError
        return answer

    async def _ask(
        self, method: str, path: str, body: dict[str, str] | None = None
    ) -> tuple[int, _Answer | None]:
        """
        Return the status, and the answer where the status is 200.

        Raises:
            FaceUnavailableError: Neither came.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        request = self._http.build_request(method, path, content=content, headers=headers)
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise FaceUnavailableError("no turn came in time") from None
        try:
            # Asked only now: while we waited for our turn, others may have found out how the server is.
            with self._breaker.call(_FaultyError):
                return await self._sent(request)
        except OpenError:
            raise FaceUnavailableError("the server is left alone after many failures") from None
        except _FaultyError as error:
            raise FaceUnavailableError(str(error)) from None
        finally:
            self._turns.release()

    async def _sent(self, request: httpx.Request) -> tuple[int, _Answer | None]:
        """
        Send *request*, and read what comes back.

        Raises:
            _FaultyError: It says that the server is not well. Nothing of the cause is passed on,
                since that could quote what was sent.
        """
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.send(request, stream=True)
                try:
                    return await _read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _FaultyError("no answer in time") from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise _FaultyError(f"no answer: {type(error).__name__}") from None


async def _read(response: httpx.Response) -> tuple[int, _Answer | None]:
    status = response.status_code
    if status != _OK:
        # What a 4xx finds fault with is this request: it says that the server is well.
        if status in _REFUSED and status != _TOO_MANY:
            return status, None
        raise _FaultyError(f"the server answered {status}")
    if "content-encoding" in response.headers:
        raise _FaultyError("the answer is compressed")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _ANSWER_BYTES_MAX:
            raise _FaultyError("the answer is too large")
    try:
        return status, _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _FaultyError("the answer is not one of a matching server") from None


def _reference(template: bytes) -> str:
    """
    Return the reference that *template* is made of.

    Raises:
        FaceUnavailableError: It is another matcher's.
    """
    reference = template.removeprefix(_TEMPLATE).decode("ascii", errors="replace")
    if not template.startswith(_TEMPLATE) or not _REFERENCE.fullmatch(reference):
        raise FaceUnavailableError("the template is of another matcher: the face must be enrolled anew")
    return reference
