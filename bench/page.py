"""
The first screen of the approval page: how heavy it is, and how long it takes to answer.

One customer after another opens the page of a fresh token, as an opener's form does. The weight is what
a browser loads that has nothing yet: the document, its style and its script, uncompressed, without
headers. The time is from the first byte of the form to the last one of the document, on one connection;
it holds one durable write. Style and script are asked for once, and then kept.
"""

import http.client
import re
import time
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlencode

from bench.load import BenchError, percentile

PATH = "/approve-api-action/"
CUSTOMERS = 200
_FILE = re.compile(rb'(?:href|src)="(/approve-api-action/static/[^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstScreen:
    """What the first screen weighs in bytes, and takes in milliseconds."""

    html_bytes: int
    files_bytes: int
    p50_ms: float
    p99_ms: float

    def line(self) -> str:
        """Say it in a line."""
        html, files = self.html_bytes / 1000, self.files_bytes / 1000
        return (
            f"first screen of the approval page: {html + files:.1f} kB (document {html:.1f}, style and script"
            f" {files:.1f}); from form to document p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
        )


def first_screen(port: int, *, customers: int = CUSTOMERS) -> FirstScreen:
    """
    Open the page for *customers*, one after the other.

    Raises:
        BenchError: An answer is not the expected one.
        OSError: Nobody answers.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        took: list[float] = []
        document = b""
        for person in range(customers):
            ott = _refused(connection, person)
            form = urlencode({"ott": ott, "flow": "iframe", "parentHostname": "shop.example"})
            begun = time.perf_counter()
            document = _read(
                connection, "POST", PATH, form, {"Content-Type": "application/x-www-form-urlencoded"}
            )
            took.append((time.perf_counter() - begun) * 1000)
        files = [_read(connection, "GET", path.decode()) for path in sorted(set(_FILE.findall(document)))]
    finally:
        connection.close()
    if not files:
        raise BenchError("the approval page names no files")
    return FirstScreen(
        html_bytes=len(document),
        files_bytes=sum(map(len, files)),
        p50_ms=median(took),
        p99_ms=percentile(sorted(took), 0.99),
    )


def _refused(connection: http.client.HTTPConnection, person: int) -> str:
    path = f"/v1/profiles/{person}/balance-statements/{person}/statement.json?currency=GBP"
    connection.request("GET", path, headers={"Authorization": f"Bearer bench-{person}"})
    answer = connection.getresponse()
    content = answer.read()
    ott = answer.headers["x-2fa-approval"]
    if ott is None:
        raise BenchError(f"GET {path}: {answer.status} without a token: {content[:300]!r}")
    return str(ott)


def _read(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.client.OK:
        raise BenchError(f"{method} {path}: {answer.status}: {content[:300]!r}")
    return content
