"""A gateway on a unix socket, told from anybody on a port, by the server that runs us."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
TOLD = {
    "x-watchword-user": "7",
    "forwarded": "for=unix:/run/gateway.sock;host=/run/gateway.sock",
    "x-forwarded-host": "/run/gateway.sock",
    "x-forwarded-for": "/run/gateway.sock",
}


@contextmanager
def _served(*where: str) -> Iterator[None]:
    command = [sys.executable, "-m", "granian", "--interface", "asginl", *where, "tests.auth.socket_app:app"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if "Started worker" in line:
                    break
            else:
                pytest.fail("".join(said))
            yield
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_who_comes_by_the_socket_is_believed(tmp_path: Path) -> None:
    file = str(tmp_path / "s")
    with (
        _served("--uds", file),
        httpx2.Client(transport=httpx2.HTTPTransport(uds=file, retries=3)) as http,
    ):
        assert http.get("http://watchword/", headers=TOLD).json() == 7
        assert http.get("http://watchword/").json() is None


@pytest.mark.parametrize("host", [None, "/run/gateway.sock"])
def test_who_comes_by_a_port_is_not_whatever_he_says(host: str | None) -> None:
    headers = TOLD if host is None else {**TOLD, "host": host}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    transport = httpx2.HTTPTransport(retries=3)
    with _served("--port", port), httpx2.Client(trust_env=False, transport=transport) as http:
        answer = http.get(f"http://127.0.0.1:{port}/", headers=headers)
        assert answer.status_code == 400 or answer.json() is None
