"""A store that fails in every way that the contract allows, as a seed says."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random

from tests.engine.stores import OverStore
from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store, StoreUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """
    How often what happens, each between 0 and 1.

    Attributes:
        unread: A look-up is not answered.
        before: A commit fails before it was written.
        outrun: A commit is told that another was faster, though none was.
        unanswered: A commit is written, and its answer lost.
        late: A commit is given up, and written some time later.
        slow: A call takes a while.
    """

    unread: float = 0.0
    before: float = 0.0
    outrun: float = 0.0
    unanswered: float = 0.0
    late: float = 0.0
    slow: float = 0.0


CALM = Rates()


class FaultyStore(OverStore):
    """Passes everything on, but for what *rates* say; counts what it did."""

    def __init__(self, inner: Store, chance: Random, rates: Rates = CALM) -> None:
        """Stand before *inner*."""
        super().__init__(inner)
        self.rates = rates
        self.made = Counter[str]()
        self._chance = chance
        self._writing = set[asyncio.Task[bool]]()

    def _happens(self, what: str) -> bool:
        rate: float = getattr(self.rates, what)
        if rate and self._chance.random() < rate:
            self.made[what] += 1
            return True
        return False

    async def _wait(self) -> None:
        await asyncio.sleep(0)
        if self._happens("slow"):
            await asyncio.sleep(self._chance.random() * 3)

    async def _look(self) -> None:
        await self._wait()
        if self._happens("unread"):
            raise StoreUnavailableError

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up, if that can be done."""
        await self._look()
        return await self.inner.token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user up, if that can be done."""
        await self._look()
        return await self.inner.user(user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look a number up, if that can be done."""
        await self._look()
        return await self.inner.destination(destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up, if that can be done."""
        await self._look()
        return await self.inner.application(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look an owner up, if that can be done."""
        await self._look()
        return await self.inner.owner(owner_id)

    async def commit(self, change: Change) -> bool:
        """Store a change; or not, or without saying so."""
        await self._wait()
        if self._happens("before"):
            raise StoreUnavailableError
        if self._happens("outrun"):
            return False
        late = self._happens("late")
        # As with a real store, what was sent is written, whether its caller waits for it or not.
        written = asyncio.create_task(self._write(change, self._chance.random() * 9 if late else 0))
        self._writing.add(written)
        written.add_done_callback(self._writing.discard)
        if late:
            raise StoreUnavailableError
        stored = await asyncio.shield(written)
        if stored and self._happens("unanswered"):
            raise StoreUnavailableError
        return stored

    async def _write(self, change: Change, after: float) -> bool:
        await asyncio.sleep(after)
        return await self.inner.commit(change)

    async def settle(self) -> None:
        """Wait for whatever is still being written."""
        while self._writing:
            await asyncio.wait(self._writing)
