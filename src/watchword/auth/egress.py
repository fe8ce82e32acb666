"""
The way out: the one place from which we call a token's issuer.

Where a call goes stands in the operator's configuration, or in what an issuer of that configuration
publishes of itself; nothing that a caller sent names an address. So internal hosts are allowed. What
is not allowed is to be led on: no redirects, no proxies from the environment, no plain HTTP beyond
this machine, no answer without an end, in size or in time.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, quote_plus, urlsplit

import httpx2

from watchword.quiet import hide_queries

ANSWER_MAX = 256 * 1024
SECONDS_MAX = 3.0
_CONNECTIONS = 20
_FAMILIAR = "localhost"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z)(?:{_LABEL}\.)*{_LABEL}\.?")


class EgressError(Exception):
    """There was no usable answer; says why, and never with what was sent or received."""


class Egress:
    """Makes requests, each bounded in size and time; one for the whole process."""

    def __init__(self, *, seconds: float = SECONDS_MAX, answer_max: int = ANSWER_MAX) -> None:
        """
        Make no connection yet.

        Args:
            seconds: How long one request may take, from looking up the host to the last byte.
        """
        self._seconds = seconds
        self._answer_max = answer_max
        self._client: httpx2.AsyncClient | None = None

    async def get(self, url: str) -> bytes:
        """
        Fetch what is at *url*.

        Raises:
            EgressError: There is no answer 200 within the bounds.
        """
        return await self._answer("GET", url)

    async def post(self, url: str, form: Mapping[str, str], *, user: str, password: str) -> bytes:
        """
        Send a form as an OAuth client, under HTTP Basic authentication.

        Raises:
            EgressError: There is no answer 200 within the bounds.
        """
        # RFC 6749 section 2.3.1: each is encoded as in a form before Basic joins them with a colon.
        return await self._answer("POST", url, form, httpx2.BasicAuth(quote_plus(user), quote_plus(password)))

    async def aclose(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answer(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        auth: httpx2.BasicAuth | None = None,
    ) -> bytes:
        wrong = url_fault(url)
        if wrong is not None:
            raise EgressError(wrong)
        if self._client is None:
            self._client = self._new_client()
        try:
            # A deadline for all of it: the library's own are for each read, and a peer that sends a
            # byte a second would meet them for hours.
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream(method, url, data=form, auth=auth) as answer,
            ):
                return await self._read(answer)
        except TimeoutError as error:
            raise EgressError(f"no whole answer within {self._seconds:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise EgressError(type(error).__name__) from error

    async def _read(self, answer: httpx2.Response) -> bytes:
        if answer.status_code != HTTPStatus.OK:
            raise EgressError(f"the answer is {answer.status_code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise EgressError("the answer is compressed, unasked")
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > self._answer_max:
                raise EgressError(f"the answer is over {self._answer_max} bytes")
        return bytes(body)

    def _new_client(self) -> httpx2.AsyncClient:
        hide_queries()
        return httpx2.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "watchword"},
            # The authorities that this machine trusts, a company's own among them.
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=self._seconds,
            limits=httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        )


def url_fault(url: str) -> str | None:
    """Tell why *url* may not be called; None where it may."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "not a URL"
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        return "not a URL with a host"
    if parts.username is not None or parts.password is not None:
        return "a URL holds no user and no password"
    if parts.fragment:
        return "a URL to be fetched has no #fragment"
    return _host_fault(parts, host)


def _host_fault(parts: SplitResult, host: str) -> str | None:
    loopback = host == _FAMILIAR
    try:
        address = ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            return "not a URL with a host that can be looked up"
    else:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        loopback = address.is_loopback
        # Where clouds keep their machines' own credentials; no issuer lives there.
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return "not an address of an issuer"
    if parts.scheme == "https" or (parts.scheme == "http" and loopback):
        return None
    return "write https://; plain http:// goes to this machine alone (127.0.0.1, ::1, localhost)"
