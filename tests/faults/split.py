"""
A split store under torture: tokens in a cluster of Valkey, users in PostgreSQL with a synchronous standby.

What either of the two knows is done to it, in turns. Links to both are broken at the same time: the two
ends of one change are what is looked for.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path

from tests.faults.history import FaultKind
from tests.faults.postgres import Postgres
from tests.faults.under_test import Fault, Processes
from tests.faults.valkey import ValkeyCluster
from watchword.store.split import SplitStore

LINKS = frozenset({FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.DELAYED, FaultKind.BLACKHOLE})


class Split:
    """Both, and one server before them."""

    name = "split"

    def __init__(self, *, synchronous: bool = True) -> None:
        """
        Make it; nothing runs yet.

        Args:
            synchronous: Whether the standby of PostgreSQL is, as is promised.
        """
        self._tokens, self._users = ValkeyCluster(), Postgres(synchronous=synchronous)
        # A fail-over of PostgreSQL loses nothing, and tokens are none of its.
        self.promises = self._tokens.promises
        self._running = AsyncExitStack()

    async def start(self, folder: Path) -> None:
        """Start both."""
        for each in (self._tokens, self._users):
            self._running.push_async_callback(each.stop)
            await each.start(folder)

    async def stop(self) -> None:
        """End both."""
        await self._running.aclose()

    def table(self) -> str:
        """Name both."""
        tokens, users = self._tokens, self._users
        return f'[store]\ntokens = "{tokens.url}"\nusers = "{users.url}"\n{tokens.settings}{users.settings}'

    async def open(self) -> SplitStore:
        """Open both."""
        return await SplitStore.of(await self._tokens.open(), await self._users.open())

    def faults(self, server: Processes) -> Mapping[FaultKind, Fault]:
        """Break one or the other, or the links to both."""
        tokens, users = self._tokens.faults(server), self._users.faults(server)
        both = tokens.keys() & users.keys()
        return {
            **tokens,
            **users,
            **{kind: _together(tokens[kind], users[kind]) for kind in both & LINKS},
            **{kind: _in_turns(users[kind], tokens[kind]) for kind in both - LINKS},
        }


def _together(*faults: Fault) -> Fault:
    @asynccontextmanager
    async def made() -> AsyncIterator[None]:
        async with AsyncExitStack() as broken:
            for each in faults:
                await broken.enter_async_context(each())
            yield

    return made


def _in_turns(*faults: Fault) -> Fault:
    turns = cycle(faults)

    @asynccontextmanager
    async def made() -> AsyncIterator[None]:
        async with next(turns)():
            yield

    return made
