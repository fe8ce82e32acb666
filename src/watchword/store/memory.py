"""
The reference store: dictionaries.

It keeps nothing across a restart, and shows what every other store must do. It yields to the
scheduler before it compares, so that races which a real store would show are seen here too.
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import StoreUnavailableError


class MemoryStore:
    """A ``Store`` in the memory of one process."""

    def __init__(self) -> None:
        """Start empty."""
        self._tokens: dict[TokenId, OneTimeToken] = {}
        self._users: dict[UserId, UserSecurity] = {}
        self._destinations: dict[bytes, Destination] = {}
        self._applications: dict[ApplicationId, Application] = {}
        self._owners: dict[bytes, Owner] = {}
        self._events: list[Event] = []
        self._forgotten = 0
        self._shut = False

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        self._refuse_if_shut()
        return self._tokens.get(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        self._refuse_if_shut()
        return self._users.get(user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        self._refuse_if_shut()
        return self._destinations.get(destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        self._refuse_if_shut()
        return self._applications.get(application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        self._refuse_if_shut()
        return self._owners.get(owner_id)

    async def users(self, *, after: UserId | None = None, limit: int = 1000) -> Sequence[UserSecurity]:
        """Read users page by page."""
        self._refuse_if_shut()
        ids = sorted(id_ for id_ in self._users if after is None or id_ > after)
        return [self._users[id_] for id_ in ids[:limit]]

    async def commit(self, change: Change) -> bool:
        """Store a change, or do nothing."""
        self._refuse_if_shut()
        await asyncio.sleep(0)
        if any(expected != stored for expected, stored in self._versions(change)):
            return False
        for token in _tokens(change):
            self._tokens[token.id] = token
        if change.user is not None:
            self._users[change.user.id] = change.user
        if change.destination is not None:
            self._destinations[change.destination.id] = change.destination
        if change.application is not None:
            self._applications[change.application.id] = change.application
        for owner in change.owners:
            self._owners[owner.id] = owner
        self._events.extend(change.events)
        return True

    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        """Yield, for each record, the version it was made from and the one that is stored."""
        for token in _tokens(change):
            stored = self._tokens.get(token.id)
            yield token.version - 1, 0 if stored is None else stored.version
        if change.user is not None:
            user = self._users.get(change.user.id)
            yield change.user.version - 1, 0 if user is None else user.version
        if change.seen is not None:
            user = self._users.get(change.seen.id)
            yield change.seen.version, 0 if user is None else user.version
        if change.destination is not None:
            destination = self._destinations.get(change.destination.id)
            yield change.destination.version - 1, 0 if destination is None else destination.version
        if change.application is not None:
            application = self._applications.get(change.application.id)
            yield change.application.version - 1, 0 if application is None else application.version
        for owner in change.owners:
            owned = self._owners.get(owner.id)
            yield owner.version - 1, 0 if owned is None else owned.version

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day."""
        self._refuse_if_shut()
        # Others run between one sweep and the next; and none looks further than it removes.
        await asyncio.sleep(0)
        day_ago = later(now, -DAY_SECONDS)
        over = (token.id for token in self._tokens.values() if token.expires_at <= day_ago)
        tokens = list(islice(over, limit))
        for token_id in tokens:
            del self._tokens[token_id]
        quiet = (
            destination.id
            for destination in self._destinations.values()
            if destination.sent_at[-1] <= day_ago
        )
        destinations = list(islice(quiet, limit - len(tokens)))
        for destination_id in destinations:
            del self._destinations[destination_id]
        return len(tokens) + len(destinations)

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail."""
        self._refuse_if_shut()
        first = max(0, after - self._forgotten)
        return list(enumerate(islice(self._events, first, first + limit), start=self._forgotten + first + 1))

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events."""
        self._refuse_if_shut()
        gone = 0
        while gone < min(limit, len(self._events) - 1) and self._events[gone].at < before:
            gone += 1
        del self._events[:gone]
        self._forgotten += gone
        return gone

    async def ping(self) -> None:
        """Find out whether the store is open."""
        self._refuse_if_shut()

    async def close(self) -> None:
        """Answer nobody any more; what was accepted is finished all the same."""
        self._shut = True

    def _refuse_if_shut(self) -> None:
        if self._shut:
            raise StoreUnavailableError("the store is closed")


def _tokens(change: Change) -> tuple[OneTimeToken, ...]:
    return change.revoked if change.token is None else (change.token, *change.revoked)
