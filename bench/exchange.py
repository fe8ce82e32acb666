"""The five exchanges once, by hand: what they must answer, and how many bytes that takes."""

import http.client
from collections.abc import Mapping

from bench.load import BenchError

STATEMENT = (
    b'{"accountHolder":{"type":"PERSONAL","firstName":"Ada","lastName":"Lovelace"},'
    b'"issuer":{"name":"Demo Bank","city":"London","country":"GB"},"transactions":[],'
    b'"endOfStatementBalance":{"value":0.0,"currency":"GBP"},"query":{"currency":"GBP",'
    b'"intervalStart":"2026-01-01T00:00:00Z","intervalEnd":"2026-01-31T23:59:59Z"}}'
)
"""What the protected handler answers, in both servers."""

_SMS = "/v1/one-time-token/sms/"


def walk(port: int, *, person: int) -> list[int]:
    """
    Walk one cycle as *person* and count the bytes of each answer.

    It proves that the server answers as the load generator will expect, with a readable message
    if not.

    Raises:
        BenchError: An answer is not the expected one.
        OSError: Nobody answers.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    statement = f"/v1/profiles/{person}/balance-statements/{person}/statement.json?currency=GBP"
    sizes: list[int] = []

    def call(
        method: str, path: str, expected: int, headers: Mapping[str, str], body: str | None = None
    ) -> http.client.HTTPResponse:
        common = {"Authorization": f"Bearer bench-{person}", "X-External-Correlation-Id": "1"}
        connection.request(method, path, body, {**common, **headers})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != expected:
            raise BenchError(f"{method} {path}: {answer.status}, not {expected}: {content[:300]!r}")
        if answer.headers["x-external-correlation-id"] != "1":
            raise BenchError(f"{method} {path}: the answer does not echo X-External-Correlation-Id")
        head = sum(len(name) + len(value) + len(": \r\n") for name, value in answer.getheaders())
        sizes.append(len(f"HTTP/1.1 {answer.status} {answer.reason}\r\n\r\n") + head + len(content))
        return answer

    try:
        ott = call("GET", statement, 403, {}).headers["x-2fa-approval"]
        json = {"Content-Type": "application/json"}
        call("GET", "/v1/one-time-token/status", 200, {"One-Time-Token": ott})
        call("POST", _SMS + "trigger", 200, {"One-Time-Token": ott})
        call("POST", _SMS + "verify", 200, {"One-Time-Token": ott, **json}, '{"otpCode":"111111"}')
        call("GET", statement, 200, {"x-2fa-approval": ott})
    finally:
        connection.close()
    return sizes
