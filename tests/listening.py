"""
A server of a test's own, which leaves nothing open.

What a test leaves open is found later, by the garbage collector, and fails a test that has nothing to
do with it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(
    serve: Serve, *, at: Address = ("127.0.0.1", 0), tls: ssl.SSLContext | None = None
) -> AsyncIterator[Address]:
    """
    Have *serve* answer each connection for as long as the block runs, then cut those that are left.

    A connection that its client ends is over, wherever *serve* was.
    """
    running = set[asyncio.Task[None]]()
    writers = list[asyncio.StreamWriter]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        writers.append(writer)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, *at, ssl=tls)
    host, port = server.sockets[0].getsockname()
    try:
        yield str(host), int(port)
    finally:
        # Who was accepted is let in first: of whoever was not yet when it closes, asyncio forgets the socket.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        await _a_turn()
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running)
        for writer in writers:
            writer.transport.abort()
        await _a_turn()


async def _a_turn() -> None:
    """Let the event loop do what is due, and what that makes due."""
    for _ in range(3):
        await asyncio.sleep(0)
