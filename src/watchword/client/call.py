"""`watchword call`: make one request, and walk a person through whatever challenges it meets."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from watchword import wire
from watchword.client._http import httpx
from watchword.client.auth import Auth
from watchword.client.envelope import Jose, JoseMode
from watchword.client.errors import WatchwordError
from watchword.client.terminal import TerminalResolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watchword.client.resolver import Resolver

FAILURE: Final = 1
USAGE: Final = 2

_ERROR_STATUS: Final = 400
_SECONDS: Final = 30.0
# The library counts each exchange of a step-up as a redirect, and a person may mistype often.
_EXCHANGES_MAX: Final = 1000
_TOKEN_VARIABLE: Final = "WATCHWORD_TOKEN"
_APPLICATION_TOKEN_VARIABLE: Final = "WATCHWORD_APPLICATION_TOKEN"
_METHOD: Final = re.compile(r"[A-Za-z]{1,20}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE: Final = re.compile(r"[\x20-\x7e]+")

_EXAMPLE: Final = """\
examples:
  watchword call http://127.0.0.1:8000/v1/profiles --token demo-ada
  watchword call POST http://127.0.0.1:8000/v3/profiles/435036/transfers/1/payments \\
    --token demo-ada --data '{"type":"BALANCE"}'
"""


class UsageError(Exception):
    """The command line does not make sense. Its text is one line for the person."""


class _Order(NamedTuple):
    """A request as ordered on the command line."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    content: bytes | None


def add_parser(
    subparsers: argparse._SubParsersAction[Any],  # pyright: ignore[reportPrivateUsage] - it has no other name
) -> argparse.ArgumentParser:
    """
    Add `call` to the commands.

    The parsed arguments carry `run`, which takes them and returns the exit code.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "call",
        help="make one request and clear its challenges at the terminal",
        description="Make one HTTP request. If it needs confirmation, ask here and repeat it once.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", nargs="?", metavar="METHOD", help="GET, or POST when there is --data")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--token", metavar="T", help=f"bearer token; ${_TOKEN_VARIABLE} by default")
    parser.add_argument("--data", metavar="BODY", help="request body; @FILE or @- reads it")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header; may be repeated"
    )
    parser.add_argument("--ott-url", metavar="URL", help="base of the one-time token endpoints, if elsewhere")
    parser.add_argument("--sign", metavar="KEYFILE", help="private RSA key in PEM that signs one-time tokens")
    parser.add_argument(
        "--jose", choices=["off", "auto", "required"], default="off", help="encrypt PIN and fingerprint"
    )
    parser.add_argument("--server-key", metavar="FILE", help="the server's public key, for --jose")
    parser.add_argument(
        "--application-token",
        metavar="T",
        help=f"token to fetch the server's key with; ${_APPLICATION_TOKEN_VARIABLE} by default",
    )
    parser.add_argument("--json", action="store_true", help="print status, headers and body as JSON")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Make the request and print its answer. Returns the exit code."""
    try:
        return call(
            arguments.url,
            method=arguments.method,
            token=arguments.token,
            data=arguments.data,
            headers=arguments.header,
            base_url=arguments.ott_url,
            sign=arguments.sign,
            jose=arguments.jose,
            server_key=arguments.server_key,
            application_token=arguments.application_token,
            as_json=arguments.json,
        )
    except KeyboardInterrupt:
        return _fail("interrupted")


def call(
    url: str,
    *,
    method: str | None = None,
    token: str | None = None,
    data: str | None = None,
    headers: Sequence[str] = (),
    base_url: str | None = None,
    sign: str | None = None,
    jose: JoseMode = "off",
    server_key: str | None = None,
    application_token: str | None = None,
    as_json: bool = False,
    resolver: Resolver | None = None,
    transport: httpx.BaseTransport | None = None,
) -> int:
    """
    Make one request and print its answer.

    Args:
        url: Where to.
        method: HTTP method; without it GET, or POST when there is *data*.
        token: Bearer token; without it the environment's, or an `Authorization` header given.
        data: Body, `@FILE` or `@-`.
        headers: Lines of `Name: value`.
        base_url: Where the one-time token endpoints are, if not beside *url*.
        sign: File with a private key that signs one-time tokens.
        jose: Whether PIN and device fingerprint are encrypted.
        server_key: File with the server's public key.
        application_token: With which that key is fetched; without it the environment's.
        as_json: Print one JSON object instead of the bare body.
        resolver: Who is asked; by default the person at the terminal.
        transport: For tests: what carries the requests.

    Returns:
        0 for an answer below 400, 1 for any other or none, 2 if the arguments make no sense.
    """
    try:
        order = _order(url, method, data, headers)
        auth = _auth(
            resolver or TerminalResolver(),
            sign,
            token=_token(order, token),
            base_url=_base_url(base_url),
            jose=_jose(jose, server_key, application_token),
        )
    except UsageError as error:
        return _fail(str(error), USAGE)
    try:
        with httpx.Client(
            auth=auth, timeout=_SECONDS, max_redirects=_EXCHANGES_MAX, transport=transport
        ) as client:
            response = client.request(order.method, order.url, headers=order.headers, content=order.content)
    except WatchwordError as error:
        return _fail(str(error))
    except httpx.HTTPError as error:
        return _fail(f"{_host(order.url)}: {str(error) or type(error).__name__}")
    _print(response, as_json=as_json)
    if response.status_code >= _ERROR_STATUS:
        return _fail(f"the server answered {response.status_code} {response.reason_phrase}")
    return 0


def _order(url: str, method: str | None, data: str | None, headers: Sequence[str]) -> _Order:
    _check_url(url)
    content = None if data is None else _body(data)
    chosen = method or ("GET" if content is None else "POST")
    if not _METHOD.fullmatch(chosen):
        raise UsageError(f"not an HTTP method: {chosen}")
    pairs = [_header(line) for line in headers]
    if content is not None and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("content-type", "application/json"))
    return _Order(chosen.upper(), url, pairs, content)


def _token(order: _Order, token: str | None) -> str | None:
    own = any(name.lower() == "authorization" for name, _ in order.headers)
    chosen = token or (None if own else os.environ.get(_TOKEN_VARIABLE))
    if not chosen and not own:
        raise UsageError(f"no token: give --token, or set {_TOKEN_VARIABLE}")
    return _sendable(chosen)


def _sendable(token: str | None) -> str | None:
    if token and not _VISIBLE.fullmatch(token):
        raise UsageError("the token holds characters that no header may have")
    return token or None


def _base_url(base_url: str | None) -> str | None:
    if base_url is not None:
        _check_url(base_url)
    return base_url


def _jose(mode: JoseMode, server_key: str | None, application_token: str | None) -> Jose | None:
    if mode == "off":
        return None
    key = None if server_key is None else _read(server_key)
    fetches_with = _sendable(application_token or os.environ.get(_APPLICATION_TOKEN_VARIABLE))
    try:
        return Jose(mode, server_key=key, application_token=fetches_with)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--jose: {error}") from None


def _auth(
    resolver: Resolver, sign: str | None, *, token: str | None, base_url: str | None, jose: Jose | None
) -> Auth:
    key = None if sign is None else _read(sign)
    try:
        return Auth(resolver, token=token, base_url=base_url, jose=jose, signing_key=key)
    except (ImportError, ValueError) as error:  # everything else was looked at before
        raise UsageError(f"--sign: {error}") from None


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = None
    if parsed is None or parsed.scheme not in {"http", "https"} or not parsed.host:
        raise UsageError(f"not an http or https URL: {url}")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip()
    if not colon or not _HEADER_NAME.fullmatch(name) or (value and not _VISIBLE.fullmatch(value)):
        raise UsageError(f"not a header of the form 'Name: value': {name}")
    return name, value


def _body(data: str) -> bytes:
    if data == "@-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return os.fsencode(data)
    return _read(data[1:])


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None


def _print(response: httpx.Response, *, as_json: bool) -> None:
    if not as_json:
        sys.stdout.buffer.write(response.content)
        if sys.stdout.isatty() and response.content and not response.content.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.flush()
        return
    document = {
        "status": response.status_code,
        "approval": response.headers.get(wire.APPROVAL_RESULT),
        "headers": dict(response.headers.items()),
        "body": _json_or_text(response),
    }
    print(msgspec.json.encode(document).decode())  # noqa: T201 - a command prints


def _json_or_text(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return response.text


def _host(url: str) -> str:
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _fail(reason: str, code: int = FAILURE) -> int:
    # A server's words are part of it: one line, and nothing that a terminal would obey.
    line = "".join(c if c.isprintable() else " " for c in reason)
    print(f"watchword call: {line}", file=sys.stderr)  # noqa: T201 - a command prints
    return code
