"""
A TCP proxy that breaks the link between a server and its store, in the ways in which links break.

It knows nothing of a protocol but how to tell a commit when it sees one go by. Every fault is a
context manager: inside it the link is broken, after it the link is as it was.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Self

from tests.faults.history import FaultKind
from tests.faults.under_test import Fault
from tests.listening import Address, listening

CHUNK = 64 * 1024
DELAY_SECONDS = 5.0
"""How late everything comes on a delayed link: later than a server may wait."""


class Proxy:
    """Passes connections on to *target*, until it is told not to."""

    def __init__(self, target: tuple[str, int], *, commit: bytes, at: Address = ("127.0.0.1", 0)) -> None:
        """
        Stand before *target*.

        Args:
            at: Where to listen.
            commit: A regular expression for the bytes of a commit on their way to the store. What is
                split between two packets is found in what was sent since the last answer.
        """
        self.target = target
        self._at = at
        self.cuts = 0
        self._commit = re.compile(commit)
        self._fault: FaultKind | None = None
        self._healed = asyncio.Event()
        self._healed.set()
        self._links = set[_Link]()
        self._stack = AsyncExitStack()
        self.address = at

    async def __aenter__(self) -> Self:
        """Listen."""
        self.address = await self._stack.enter_async_context(listening(self._pass_on, at=self._at))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        self._healed.set()
        self.cut()
        await self._stack.aclose()

    def faults(self) -> Mapping[FaultKind, Fault]:
        """Return what it can do to the link."""
        kinds = (
            FaultKind.CUT_BEFORE,
            FaultKind.CUT_AFTER,
            FaultKind.DELAYED,
            FaultKind.BLACKHOLE,
        )
        return {kind: self._make(kind) for kind in kinds}

    def cut(self) -> None:
        """Reset each connection that there is."""
        for link in tuple(self._links):
            link.reset()

    def _make(self, kind: FaultKind) -> Fault:
        @asynccontextmanager
        async def broken() -> AsyncIterator[None]:
            self._fault = kind
            self._healed.clear()
            try:
                yield
            finally:
                self._fault = None
                self._healed.set()
                if kind is FaultKind.BLACKHOLE:
                    self.cut()  # What was lost on the way stays lost: no connection goes on as if it had not.

        return broken

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            link.reset()
            self._links.discard(link)

    async def pause(self) -> None:
        """Take as long as the link takes now."""
        if self._fault is FaultKind.BLACKHOLE:
            await self._healed.wait()
        elif self._fault is FaultKind.DELAYED:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._healed.wait(), DELAY_SECONDS)

    def cuts_at(self, kind: FaultKind, sent: bytes) -> bool:
        """Tell whether this is the moment to cut: a commit is on its way."""
        return self._fault is kind and self._commit.search(sent) is not None


class _Link:
    """One connection, and its other half."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._store: asyncio.StreamWriter | None = None
        self._sent = b""
        self._swallow = False

    async def run(self) -> None:
        await self._proxy.pause()
        try:
            answers, self._store = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            return
        halves = [asyncio.create_task(self._there()), asyncio.create_task(self._back(answers))]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _there(self) -> None:
        assert self._store is not None
        with suppress(OSError):
            while data := await self._reader.read(CHUNK):
                await self._proxy.pause()
                self._sent += data
                if self._proxy.cuts_at(FaultKind.CUT_BEFORE, self._sent):
                    self._proxy.cuts += 1
                    return
                # From here on the answer is not passed on: the commit arrived, and nobody will know.
                self._swallow = self._swallow or self._proxy.cuts_at(FaultKind.CUT_AFTER, self._sent)
                self._store.write(data)
                await self._store.drain()

    async def _back(self, answers: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await answers.read(CHUNK):
                if self._swallow:
                    self._proxy.cuts += 1
                    return
                await self._proxy.pause()
                self._sent = b""
                self._writer.write(data)
                await self._writer.drain()

    def reset(self) -> None:
        """End both halves as a broken link does: with a reset, not with a farewell."""
        for writer in (self._writer, self._store):
            if writer is not None and not writer.is_closing():
                end = writer.get_extra_info("socket")
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
