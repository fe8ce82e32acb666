"""The fault proxy, before a store that is three lines long: what it breaks, and what it leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from tests.faults.history import FaultKind
from tests.faults.proxy import Proxy
from tests.listening import listening

WAIT = 0.2


class Book:
    """A store: it answers each line with OK, and keeps those that commit."""

    def __init__(self) -> None:
        self.commits: list[bytes] = []
        self.lines = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines += 1
            if line.startswith(b"COMMIT"):
                self.commits.append(line)
            writer.write(b"OK\n")


class Client:
    """Says a line, and waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01)  # So that pieces are packets.
        return await self.reader.readline()


@dataclass
class Rig:
    """The store, the proxy before it, and whoever is connected."""

    book: Book
    proxy: Proxy
    clients: list[Client] = field(default_factory=list[Client])

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.proxy.address))
        self.clients.append(client)
        return client

    def fault(self, kind: FaultKind) -> AbstractAsyncContextManager[None]:
        return self.proxy.faults()[kind]()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    book = Book()
    async with listening(book.serve) as address, Proxy(address, commit=rb"COMMIT") as proxy:
        rig = Rig(book, proxy)
        yield rig
        for client in rig.clients:
            client.writer.transport.abort()


async def test_a_sound_link_passes_everything_on(rig: Rig) -> None:
    client = await rig.connect()
    assert [await client.say(line) for line in (b"read\n", b"COMMIT 1\n")] == [b"OK\n"] * 2
    assert rig.book.commits == [b"COMMIT 1\n"]
    assert rig.proxy.cuts == 0


@pytest.mark.parametrize("pieces", [(b"COMMIT 1\n",), (b"COM", b"MIT 1\n")])
@pytest.mark.parametrize(("kind", "committed"), [(FaultKind.CUT_BEFORE, False), (FaultKind.CUT_AFTER, True)])
async def test_a_link_is_cut_before_or_after_the_commit_arrived(
    rig: Rig, kind: FaultKind, committed: bool, pieces: tuple[bytes, ...]
) -> None:
    client = await rig.connect()
    async with rig.fault(kind):
        assert await client.say(b"read\n") == b"OK\n"  # It waits for a commit.
        with pytest.raises(ConnectionResetError):
            await client.say(*pieces)
        assert bool(rig.book.commits) is committed
        assert rig.proxy.cuts == 1
    again = await rig.connect()
    assert await again.say(b"COMMIT 2\n") == b"OK\n"
    assert len(rig.book.commits) == 1 + committed


async def test_a_dead_link_says_nothing_and_ends_nothing(rig: Rig) -> None:
    client = await rig.connect()
    async with rig.fault(FaultKind.BLACKHOLE):
        asked = asyncio.create_task(client.say(b"read\n"))
        new = asyncio.create_task((await rig.connect()).say(b"read\n"))
        done, _ = await asyncio.wait([asked, new], timeout=WAIT)
        assert not done
        assert rig.book.lines == 0
    ends = await asyncio.gather(asked, new, return_exceptions=True)
    assert all(isinstance(end, ConnectionResetError) for end in ends), ends
    assert await (await rig.connect()).say(b"read\n") == b"OK\n"


async def test_a_delayed_link_is_late_and_loses_nothing(rig: Rig) -> None:
    client = await rig.connect()
    async with rig.fault(FaultKind.DELAYED):
        asked = asyncio.create_task(client.say(b"COMMIT 1\n"))
        done, _ = await asyncio.wait([asked], timeout=WAIT)
        assert not done
    assert await asked == b"OK\n"
    assert rig.book.commits == [b"COMMIT 1\n"]


async def test_cutting_resets_every_connection_at_once(rig: Rig) -> None:
    clients = [await rig.connect() for _ in range(3)]
    for client in clients:
        await client.say(b"read\n")
    rig.proxy.cut()
    for client in clients:
        with pytest.raises(ConnectionResetError):
            await client.say(b"read\n")
