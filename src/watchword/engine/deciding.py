"""What every use case does: decide from records, store that, and begin anew where it came too late."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from watchword.domain import verbs
from watchword.domain.decision import Change, Refusal
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.ports import Clock
from watchword.engine.recent import Recent, Records
from watchword.engine.turns import Turns
from watchword.store.base import Store

CONFLICTS_MAX = 32
"""How often one use case decides anew before it gives up; within one process turns see to it."""

DISABLE_TRIES = 4
"""The same for disabling what a user has exhausted; he alone waits, and nobody else for long."""

SLOW_WAIT_SECONDS = 2.0
"""How long slow work waits for its turn before the caller is told to come back."""

T = TypeVar("T")


class StoreContendedError(Exception):
    """Others kept changing the same records; nothing was stored. Try again in a moment."""


class BusyError(Exception):
    """Too many slow comparisons are under way; nothing was looked at. Try again in a moment."""


class Decider:
    """The records and the turns that all use cases of one process share."""

    def __init__(self, *, store: Store, clock: Clock, limits: Limits, slow_at_once: int) -> None:
        """
        Take what is shared.

        Args:
            slow_at_once: How much slow work (a PIN's hash) may run at the same time.
        """
        self.store = store
        self.clock = clock
        self.limits = limits
        self.recent = Recent(store)
        self._users = Turns()
        self._numbers = Turns()
        self._slow = asyncio.Semaphore(slow_at_once)

    def turn(self, user_id: UserId) -> AbstractAsyncContextManager[None]:
        """Wait for this user's turn: what he starts at once is decided one after the other."""
        return self._users.of(user_id)

    def turn_of_number(self, digest: bytes | None) -> AbstractAsyncContextManager[None]:
        """Wait for a number's turn: users who share one meet on what was sent to it."""
        return self._numbers.of(digest)

    async def settle(self, decide: Callable[[Records], Awaitable[Change | Refusal]]) -> Change | Refusal:
        """Decide, first from what this process stored last, then from the store, until it is stored."""
        for attempt in range(CONFLICTS_MAX):
            era = self.recent.era
            decision = await decide(self.store if attempt else self.recent)
            if isinstance(decision, Refusal):
                if attempt:
                    return decision
            elif era == self.recent.era and await self.recent.commit(decision):
                return decision
        raise StoreContendedError

    async def user(self, records: Records, user_id: UserId) -> UserSecurity:
        """
        Return a user's security state, which may be that of one who has none yet.

        What was guessed at too often is disabled first, if whoever counted that could not.

        Raises:
            StoreContendedError: His tokens kept changing meanwhile.
        """
        for _ in range(DISABLE_TRIES):
            era = self.recent.era
            user = await records.user(user_id) or UserSecurity(id=user_id)
            if not user.attempts.exhausted(self.limits):
                return user
            now = self.clock.now()
            open_tokens = await self.open_tokens(user, now=now)
            change = verbs.disable_exhausted(user, open_tokens=open_tokens, limits=self.limits, now=now)
            if era == self.recent.era:
                await self.recent.commit(change)
            records = self.store
        raise StoreContendedError

    async def open_tokens(
        self, user: UserSecurity, *, at_least: int = 0, now: Instant
    ) -> tuple[OneTimeToken, ...]:
        """Look the tokens up that may still be open; none where there are fewer than *at_least*."""
        entries = user.still_open(now)
        if len(entries) < at_least:
            return ()
        found = [await self.store.token(TokenId(entry.id)) for entry in entries]
        return tuple(token for token in found if token is not None)

    async def slowly(self, work: Callable[[], T]) -> T:
        """
        Run CPU-bound *work* off the event loop, a few at a time.

        Raises:
            BusyError: It did not get its turn in time.
        """
        try:
            async with asyncio.timeout(SLOW_WAIT_SECONDS):
                await self._slow.acquire()
        except TimeoutError as error:
            raise BusyError from error
        running = asyncio.ensure_future(asyncio.to_thread(work))
        # A thread cannot be stopped: its place is free when it is done, not when its caller has gone.
        running.add_done_callback(lambda _: self._slow.release())
        return await asyncio.shield(running)
