"""What the tests of a server for production share: an installation, a running server, a receiver of codes."""

import json
import os
import signal
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx2

from watchword.jose.keys import ServerKeys
from watchword.serving.keys import new_key_file, write_private

COMMAND = Path(sys.executable).with_name("watchword")
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
ADA_TOKEN = "a-token-that-ada-alone-holds-0123456789"
ADA = f'[[tokens]]\nsha256 = "{sha256(ADA_TOKEN.encode()).hexdigest()}"\nkind = "user"\nuser_id = 7\n'
PAYMENT = '[[actions]]\nname = "PAYMENT__MAKE"\nrisk = "low"\nmatch = ["POST /payments/{id}"]\n'
HIGH = PAYMENT.replace('"low"', '"high"')
WEBHOOK_KEY = bytes(range(32))
BANK = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

ran = 0


async def pay(request):
    global ran
    ran += 1
    return JSONResponse({"paid": request.path_params["id"]}, 201)


async def count(request):
    return JSONResponse({"ran": ran})


app = Starlette(
    routes=[
        Route("/payments/{id}", pay, methods=["POST"]),
        Route("/payments/{id}/now", pay, methods=["POST"]),
        Route("/ran", count),
    ]
)
"""


@cache
def jose_pem() -> bytes:
    """Make JOSE keys, once: RSA keys take a while."""
    return ServerKeys.generate(rsa_bits=2048).to_pem()


def put_private(file: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, in place of what was there."""
    file.unlink(missing_ok=True)
    write_private(file, content)


def installation(folder: Path, *tables: str) -> Path:
    """Write keys, an application and a configuration with *tables*; return the configuration."""
    folder.mkdir(exist_ok=True)
    put_private(folder / "keys.json", new_key_file())
    put_private(folder / "jose.pem", jose_pem())
    put_private(folder / "webhook.secret", f"whsec_{b64encode(WEBHOOK_KEY).decode()}\n".encode())
    (folder / "bank.py").write_text(BANK, encoding="utf-8")
    config = folder / "watchword.toml"
    config.write_text("\n".join(tables), encoding="utf-8")
    return config


def environment(release: Path | None = None) -> Mapping[str, str]:
    """
    Return an environment that sets nothing of the product's, and measures no coverage.

    Args:
        release: Where another release is to be found than the one that is installed.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHWORD", "COV"))}
    return kept if release is None else {**kept, "PYTHONPATH": str(release)}


def run(*arguments: str | Path, release: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
        env=environment(release),
    )


@dataclass
class Served:
    """A server that runs; what it logged is there once it has ended."""

    client: httpx2.Client
    process: "subprocess.Popen[str]"
    log: str = ""


@contextmanager
def served(config: Path) -> Generator[Served]:
    """Run ``watchword serve``; at the end it is told to stop, and does so well."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    late = threading.Timer(READY_SECONDS, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("Ready: http://127.0.0.1:"), (
            ready,
            process.communicate(timeout=STOP_SECONDS),
        )
        late.cancel()
        origin = ready.removeprefix("Ready: ").strip()
        with httpx2.Client(base_url=origin, trust_env=False, timeout=30) as client:
            running = Served(client, process)
            yield running
        process.send_signal(signal.SIGTERM)
        _, running.log = process.communicate(timeout=STOP_SECONDS)
        assert process.returncode == 0, running.log
        assert "Traceback" not in running.log
    finally:
        late.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=STOP_SECONDS)


@dataclass(frozen=True)
class Received:
    """One call of the webhook."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """What was to be sent."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class Receiver:
    """Whom the webhook calls: takes what comes, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 204
        self.headers: Mapping[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                receiver.gate.wait(STOP_SECONDS)
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/codes"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def table(self) -> str:
        """The ``[delivery]`` that leads here."""
        return f'[delivery]\nwebhook = "{self.url}"\nsecret_file = "webhook.secret"\n'


def signature_of(received: Received, key: bytes = WEBHOOK_KEY) -> str:
    """Compute what Standard Webhooks wants the signature to be."""
    import hmac  # noqa: PLC0415 - so that nothing of the product's is asked how it signs.

    content = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode()
    return "v1," + b64encode(hmac.new(key, content + received.body, sha256).digest()).decode()
