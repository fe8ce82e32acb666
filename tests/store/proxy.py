"""
A proxy before PostgreSQL: it can lose an answer, and can speak TLS for a server that cannot.

Of a lost answer what was asked has arrived.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from typing import Self

from tests.listening import listening


class Proxy:
    """Stands before a server on this machine."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.sealed = 0
        self._tls = tls
        self.lost = 0
        self._to = port
        self._losing = False
        self._stack = AsyncExitStack()

    def lose_the_next_answer(self) -> None:
        """Cut the connection instead of handing on what the server says next."""
        self._losing = True

    async def __aenter__(self) -> Self:
        _, self.port = await self._stack.enter_async_context(listening(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, asks: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._tls is not None:
            # The client asks for TLS in eight bytes; "S" is yes.
            await asks.readexactly(8)
            client.write(b"S")
            try:
                await client.start_tls(self._tls)
            except (OSError, ssl.SSLError):
                client.transport.abort()
                return
            self.sealed += 1
        answers, server = await asyncio.open_connection("127.0.0.1", self._to)
        both = (client, server)
        try:
            await asyncio.gather(
                self._pipe(asks, server, both), self._pipe(answers, client, both, losing=True)
            )
        finally:
            server.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, ...],
        *,
        losing: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if losing and self._losing:
                    # The server has answered: whatever it was asked is done.
                    self._losing = False
                    self.lost += 1
                    break
                writer.write(data)
                await writer.drain()
        for each in both:
            each.transport.abort()
