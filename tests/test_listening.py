"""The server of a test's own: whoever connects while it ends leaves nothing behind."""

import asyncio
import gc
import socket
from contextlib import suppress

import pytest

from tests.listening import listening


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_comes_as_it_ends_is_closed(turns: int) -> None:
    """What is left open fails this test: the garbage collector tells of it."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def connect() -> socket.socket:
        async with listening(serve) as at:
            client = socket.create_connection(at)
            for _ in range(turns):
                await asyncio.sleep(0)
        return client

    with asyncio.run(connect()) as client:
        gc.collect()
        client.settimeout(5)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
