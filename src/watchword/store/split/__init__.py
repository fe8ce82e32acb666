"""
Two stores as one: what comes and goes lies in Valkey, what is kept lies in PostgreSQL.

Tokens, destinations and of each user his failures, his session and his open tokens are in Valkey;
credentials, applications, owners and the audit trail are in PostgreSQL. The part of a user in Valkey has
the version of the whole, and names the version of his credentials that belongs to it: so two look-ups
at once tell whether they fit, and whoever compares the one version compares both parts.

- A change that leaves credentials, applications and owners alone is one of Valkey's.
- One that reaches both takes intents in Valkey, and one transaction in PostgreSQL decides it.
- One that reaches PostgreSQL alone is one of its own.

Events of the first kind wait in Valkey until they are moved into the trail, once.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import NEVER, Instant
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import StoreCorruptError, StoreUnavailableError, UnreadableUser
from watchword.store.postgres import PostgresStore
from watchword.store.split.ledger import Ledger
from watchword.store.valkey import ValkeyStore
from watchword.store.valkey.layout import (
    Write,
    decode_state,
    key_of,
    state_key,
    state_seen,
    state_write,
    writes,
)
from watchword.store.valkey.trail import PARCEL_MAX

MOVE_SECONDS: Final = 1.0
"""How often events are moved into the trail when nobody reads it."""

REMEMBERED: Final = 8192
"""Of how many users it is remembered which credentials belong to which version."""

_log = logging.getLogger(__name__)


class _State(NamedTuple):
    """A user, or the part of him in Valkey; and of which version the credentials are that belong to it."""

    user: UserSecurity
    enrolled: int


class SplitStore:
    """
    A ``Store`` on Valkey and PostgreSQL.

    Attributes:
        on_new_lineage: Called before anything is asked of a server that took over, and may have lost what
            this process remembers.
    """

    def __init__(self, tokens: ValkeyStore, users: PostgresStore) -> None:
        """Take both stores, which nobody else uses and which are closed with this one."""
        self.on_new_lineage: Callable[[], None] | None = None
        self._tokens = tokens
        self._users = users
        self._ledger = Ledger(users)
        tokens.decides(self._ledger)
        tokens.on_new_lineage = users.on_new_lineage = self._begin_anew
        self._known: OrderedDict[UserId, _State] = OrderedDict()
        self._era = 0
        self._one_moves = asyncio.Lock()
        self._closed = False
        self._mover = asyncio.create_task(self._keep_moving())

    @classmethod
    async def of(cls, tokens: ValkeyStore, users: PostgresStore) -> "SplitStore":
        """
        Make one store of two that go together, from the first time on.

        Raises:
            UnusableStoreError: *tokens* goes with another database: users by the same ids would be one.
            StoreUnavailableError: One of them does not answer now.
        """
        await tokens.go_with(await Ledger(users).name())
        return cls(tokens, users)

    # --- look-ups -----------------------------------------------------------------------------

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        return await self._tokens.token(token_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        return await self._tokens.destination(destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        return await self._users.application(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        return await self._users.owner(owner_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up, both parts of it."""
        user = (await self._both(user_id)).user
        return user if user.version else None

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """Read users page by page, of whom anything is stored on either side."""
        found: list[UserSecurity | UnreadableUser] = []
        while (more := limit - len(found)) > 0:
            here, there = await asyncio.gather(
                self._tokens.user_ids(after=after, limit=more), self._users.users(after=after, limit=more)
            )
            ids = sorted({*here, *(user.id for user in there)})[:more]
            if not ids:
                break
            read = await asyncio.gather(*(self._user_or_damage(user_id) for user_id in ids))
            found += [user for user in read if user is not None]
            after = ids[-1]
        return found

    async def _user_or_damage(self, user_id: UserId) -> UserSecurity | UnreadableUser | None:
        try:
            return await self.user(user_id)
        except StoreCorruptError:
            return UnreadableUser(user_id)

    async def _both(self, user_id: UserId) -> _State:
        """Read both parts of a user, and remember that they belong together; of nobody, version 0."""
        era = self._era
        state, row = await asyncio.gather(self._state(user_id), self._users.user(user_id))
        while not _fit(state, row):
            # Either a change of both came between the two, or one side has lost what the other has.
            row = await self._users.user(user_id)
            before, state = state, await self._state(user_id)
            if state == before and not _fit(state, row):
                await self._align(user_id, state)
                state = await self._state(user_id)
        known = state or _State(UserSecurity(id=user_id), 0)
        if row is not None:
            user = replace(known.user, credentials=row.credentials, preferred=row.preferred)
            known = known._replace(user=user)
        self._remember(known, era)
        return known

    async def _state(self, user_id: UserId) -> _State | None:
        body = await self._tokens.stored(state_key(user_id))
        if body is None:
            return None
        state = _State(*decode_state(body))
        if state.user.id != user_id:
            raise StoreCorruptError("a user's state is stored under the id of another")
        return state

    async def _align(self, user_id: UserId, state: _State | None) -> None:
        """
        Let a user's part in Valkey belong to the credentials that there are.

        It was lost with all of Valkey, or with the last moments before a failover, on whichever side.
        Credentials are never undone by it. Nor does it take a version that it had before.
        """
        # A PostgreSQL that was replaced unawares still reads, and has credentials that were removed since.
        await self._ledger.prove()
        row = await self._users.user(user_id)
        if _fit(state, row):
            return
        if state is None:
            # What is told of failures stands in PostgreSQL if users were not split before.
            old = UserSecurity(id=user_id) if row is None else replace(row, credentials=(), preferred=None)
            base = replace(old, session_until=NEVER, open_tokens=())
            made_from = 0
        else:
            _log.warning("user %d: a server that failed over has lost a change of credentials", user_id)
            base, made_from = state.user, state.user.version
        leapt = replace(base, version=await self._tokens.leap(base.version))
        enrolled = 0 if row is None else row.version
        write = state_write(leapt, enrolled, self._tokens.lineages, made_from=made_from)
        # Where somebody else was faster, nothing is left to be done.
        await self._tokens.write(Change(), [write])

    def _remember(self, known: _State, era: int) -> None:
        if era != self._era:
            return  # Known to a server that another took over from meanwhile.
        self._known[known.user.id] = known
        self._known.move_to_end(known.user.id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _begin_anew(self) -> None:
        self._era += 1
        self._known.clear()
        if self.on_new_lineage is not None:
            self.on_new_lineage()

    # --- changes ------------------------------------------------------------------------------

    async def commit(self, change: Change) -> bool:
        """
        Store a change, or do nothing.

        Cancelling does not take the change back: the outcome is unknown then.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        records = (change.user, change.seen, change.token, change.destination, change.application)
        keys = [key_of(each) for each in (*records, *change.owners, *change.revoked) if each is not None]
        return await self._tokens.in_turn(keys, partial(self._commit, change, dict(self._tokens.lineages)))

    async def _commit(self, change: Change, lineages: Mapping[int, bytes]) -> bool:
        era = self._era
        passing = replace(change, user=None, seen=None, application=None, owners=(), events=())
        kept = Change(application=change.application, owners=change.owners, events=change.events)
        states: list[Write] = []
        known: _State | None = None
        if (user := change.user) is not None:
            before = await self._as_it_was(user)
            if before is None:
                return False
            known = _State(user, before.enrolled)
            if (user.credentials, user.preferred) != (before.user.credentials, before.user.preferred):
                known = _State(user, before.enrolled + 1)
                enrolled = UserSecurity(
                    id=user.id,
                    version=known.enrolled,
                    credentials=user.credentials,
                    preferred=user.preferred,
                )
                kept = replace(kept, user=enrolled)
            state = replace(user, credentials=(), preferred=None)
            states.append(state_write(state, known.enrolled, lineages, made_from=user.version - 1))
        if (seen := change.seen) is not None:
            states.append(state_seen(seen, lineages))
        stored = await self._store(passing, [*states, *writes(passing, lineages)], kept)
        if stored and known is not None:
            self._remember(known, era)
        return stored

    async def _as_it_was(self, user: UserSecurity) -> _State | None:
        """Return what a user was changed from; None if that is not what is stored."""
        known = self._known.pop(user.id, None)
        if known is None or known.user.version != user.version - 1:
            known = await self._both(user.id)
        return known if known.user.version == user.version - 1 else None

    async def _store(self, passing: Change, records: Sequence[Write], kept: Change) -> bool:
        """Store what a change has for each side."""
        if kept.user is None and kept.application is None and not kept.owners:
            return await self._tokens.write(replace(passing, events=kept.events), records)
        if not records:
            await self.move_events()
            return await self._users.commit(kept)
        return await self._tokens.write(passing, records, decide=partial(self._decide, kept))

    async def _decide(self, kept: Change, commit: bytes, reach: bytes) -> bool:
        """Decide a change of both sides in PostgreSQL, after what was committed before it was moved there."""
        await self.move_events()
        return await self._ledger.decide(kept, commit, reach)

    # --- what runs beside ---------------------------------------------------------------------

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail, after what waits was moved there."""
        await self.move_events()
        return await self._users.events(after=after, limit=limit)

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events."""
        return await self._users.forget(before, limit=limit)

    async def move_events(self) -> None:
        """Move all events into the trail that wait in Valkey when this is called."""
        async with self._one_moves:
            moved = PARCEL_MAX
            while moved == PARCEL_MAX:
                waiting = await self._tokens.waiting()
                moved = len(waiting)
                if waiting:
                    await self._ledger.arrive(waiting)
                    await self._tokens.taken(waiting)

    async def _keep_moving(self) -> None:
        well = True
        while True:
            await asyncio.sleep(MOVE_SECONDS)
            try:
                await self.move_events()
                well = True
            except StoreUnavailableError as error:
                if well:
                    _log.warning("events wait to be moved into the audit trail: %s", error)
                well = False

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day, and settle what was left unsettled."""
        for commit, reach in await self._ledger.unsettled(limit=limit):
            try:
                await self._tokens.settle(commit, reach)
            except ValueError:
                _log.warning("a change awaits its end under another prefix than `store.valkey.prefix`")
        await self._ledger.forget_undone(limit=limit)
        removed = await self._tokens.sweep(now, limit=limit)
        # Before users were split, tokens were here too.
        return removed + await self._users.sweep(now, limit=limit - removed)

    async def ping(self) -> None:
        """Find out whether both sides would take a write."""
        await asyncio.gather(self._tokens.ping(), self._users.ping())

    async def close(self) -> None:
        """Finish what was accepted, then let go of the connections."""
        self._closed = True
        await self._tokens.finish()
        self._mover.cancel()
        with suppress(asyncio.CancelledError):
            await self._mover
        await self._tokens.close()
        await self._users.close()


def _fit(state: _State | None, row: UserSecurity | None) -> bool:
    """Tell whether credentials are those that belong to a user's part in Valkey."""
    if state is None:
        return row is None
    return state.enrolled == (0 if row is None else row.version)
