"""Small web sites on loopback: shops that open the approval page, and one that plays its part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

HTML = "text/html; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"


@dataclass(frozen=True)
class Call:
    """A request that came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of a posted form."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True)
class Answer:
    """What to answer."""

    body: str = ""
    media: str = HTML
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


NOTHING = Answer("Nothing is here.", "text/plain", 404)


class Site:
    """A site that runs in a thread; its calls are kept."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        """Serve what *answer* says, on a free port."""
        self.calls: list[Call] = []
        self._answer = answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def origin(self, host: str = "127.0.0.1") -> str:
        """Return the origin under one of its names: this machine's, or any ``….test``."""
        return f"http://{host}:{self._server.server_port}"

    def to(self, path: str) -> list[Call]:
        """Return the calls of one path."""
        return [call for call in self.calls if call.path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout: ClassVar[float | None] = 20

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # A browser that leaves says no good-bye.
                    self.close_connection = True

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                call = Call(self.command, parts.path, parts.query, dict(self.headers.items()), body)
                if self.command != "OPTIONS":
                    site.calls.append(call)
                answer = site._answer(call)
                content = answer.body.encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", answer.media)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_OPTIONS = _serve  # noqa: N815  # The base class's names.

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The base class's name.
                pass

        return Handler
