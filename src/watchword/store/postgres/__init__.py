"""
The store for several machines: PostgreSQL, and what speaks its language.

A change is one statement (``statements``), over one of a few connections (``lanes``), to a server that
was looked at first (``connection``). Changes of one process that meet on a record are sent one after
the other, as they came; those of several processes meet in the database, on versions as everywhere.

Only the primary is asked, for look-ups too: a standby may not have seen yet that a token was spent.
"""

from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec
from watchword.store.base import StoreUnavailableError, UnreadableUser, UnusableStoreError
from watchword.store.migrations import steps as migration_steps
from watchword.store.postgres import schema, statements
from watchword.store.postgres.connection import (
    FAULTS,
    Fence,
    Session,
    Target,
    connect,
    fence,
    message,
    state,
    target,
)
from watchword.store.postgres.lanes import Lanes, hang_up, jitter
from watchword.store.postgres.settings import ANSWER_MARGIN_SECONDS, PostgresSettings
from watchword.store.rows import Key, Record, Rows, record, user as user_of

TRIES = 3
"""How often a statement is tried that lost against another through no fault of its own."""

SWEPT_AT_ONCE = 100
"""How many records one transaction removes, so that no change waits long behind it."""

NUMBERED_AT_ONCE = 1000
"""How many events one transaction numbers."""

TIMELINE_EVENTS = 1 << 40
"""
How far apart the numbers of events of two timelines are.

After a failover that lost some, numbers go on past any that a reader may have seen.
"""

_TRY_AGAIN = {"40001", "40P01"}  # Serialization failure, deadlock.
# A standby, a read-only or a stopping server: another connection may lead to a better one.
_NOT_OUR_SERVER = {"25006", "55000", "57P01", "57P02", "57P03"}

T = TypeVar("T")

__all__ = ["PostgresSettings", "PostgresStore"]


class PostgresStore:
    """
    A ``Store`` in a PostgreSQL database.

    Attributes:
        on_new_lineage: Called before anything is asked of a server that was promoted since, and may have
            lost what this process remembers.
    """

    def __init__(self, where: Target, settings: PostgresSettings, fence_: Fence) -> None:
        """Use ``PostgresStore.open``."""
        self.on_new_lineage: Callable[[], None] | None = None
        self._where = where
        self._settings = settings
        self._fence = fence_
        self._lineage = ""
        self._lanes = Lanes[Session](
            self._connect,
            size=settings.pool_size,
            answer_seconds=settings.statement_seconds + ANSWER_MARGIN_SECONDS,
            what=str(where),
        )

    @classmethod
    async def open(
        cls, url: str, *, settings: PostgresSettings | None = None, migrate: bool = True
    ) -> "PostgresStore":
        """
        Open the store, bringing the schema up to date where that is needed.

        Args:
            url: ``postgresql://user:password@host:port/database``; several hosts, with commas between,
                are those of which one is the primary.
            settings: How to connect, and how long to wait.
            migrate: Whether to change the schema; if not, one that is behind is refused.

        Raises:
            UnusableStoreError: The database cannot be the store.
            StoreUnavailableError: It cannot be reached now.
        """
        settings = PostgresSettings() if settings is None else settings
        where = target(url, settings)
        session = await connect(where, settings)
        try:
            if migrate:
                await schema.migrate(session.sql, settings)
            elif behind := await schema.pending(session.sql):
                raise UnusableStoreError(
                    f"{where} is {behind} schema steps behind this release: run `watchword migrate`"
                )
            store = cls(where, settings, fence(session, settings))
        except FAULTS as error:
            raise _unavailable(where, error) from error
        finally:
            await hang_up(session)
        return store

    @classmethod
    async def pending(cls, url: str, *, settings: PostgresSettings | None = None) -> list[str]:
        """
        Name the steps that the schema lacks, in order; changes nothing.

        Raises:
            UnusableStoreError: The database cannot be the store.
            StoreUnavailableError: It cannot be reached now.
        """
        settings = PostgresSettings() if settings is None else settings
        where = target(url, settings)
        session = await connect(where, settings)
        try:
            behind = await schema.pending(session.sql)
        except FAULTS as error:
            raise _unavailable(where, error) from error
        finally:
            await hang_up(session)
        names = list(migration_steps("postgres"))
        return names[len(names) - behind :]

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up; one of another lineage is not found."""
        return await self._record("token", codec.decode_token, token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        return await self._record("user", codec.decode_user, user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        return await self._record("destination", codec.decode_destination, destination_id)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        return await self._record("application", codec.decode_application, application_id)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        return await self._record("owner", codec.decode_owner, owner_id)

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """Read users page by page."""

        async def read(session: Session) -> Sequence[Any]:
            if after is None:
                return await session.sql.fetch(statements.ALL_USERS, limit)
            return await session.sql.fetch(statements.USERS, after, limit)

        return [user_of(id_, body) for id_, body in await self.do(read)]

    async def commit(self, change: Change) -> bool:
        """
        Store a change, or do nothing.

        Cancelling does not take the change back: the outcome is unknown then.
        """
        return await self.write(Rows(change))

    async def write(self, rows: Rows) -> bool:
        """Write rows with their events, or nothing."""
        statement, arguments = statements.commit(rows, self._fence)

        async def write(session: Session) -> bool:
            try:
                stored: int = await session.sql.fetchval(statement, *arguments)
            except asyncpg.PostgresError as error:
                if state(error) == statements.PARTLY_WRITTEN:
                    return False
                raise
            return stored == statements.STORED

        return await self.surely(write, statements.keys(rows))

    async def surely(self, job: Callable[[Session], Awaitable[T]], keys: Sequence[tuple[str, Key]] = ()) -> T:
        """Do something as ``do`` does, where it counts that what was written stays."""

        async def sure(session: Session) -> T:
            session.warning = None
            done = await job(session)
            if session.warning is not None:
                # Such as that no standby has it yet: a success that a failover may take back.
                raise StoreUnavailableError(f"{self._where} answered a change in doubt: {session.warning}")
            return done

        return await self.do(sure, keys)

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day, a little at a time."""
        day_ago = later(now, -DAY_SECONDS)
        removed = await self._remove(statements.sweep("token"), day_ago, limit=limit)
        return removed + await self._remove(statements.sweep("destination"), day_ago, limit=limit - removed)

    async def _remove(self, statement: str, last: int, *, limit: int) -> int:
        removed = 0
        while removed < limit:
            asked = min(SWEPT_AT_ONCE, limit - removed)
            gone: int = await self.do(lambda session: session.sql.fetchval(statement, last, asked))  # noqa: B023 - done at once.
            removed += gone
            if gone < asked:
                break
        return removed

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail; what was committed since the last reading is numbered first."""
        await self._number(limit)
        rows = await self.do(lambda session: session.sql.fetch(statements.EVENTS, after, limit))
        return [(seq, codec.decode_event(body)) for seq, body in rows]

    async def _number(self, enough: int) -> None:
        """
        Give numbers to events that have none, in the order of their ids.

        Whoever numbers holds the one row that tells the last number until his transaction ends. So any
        reader sees numbers without a gap up to the last one it sees, and what is numbered later gets
        a higher number: nobody who goes on from there misses anything. Of two changes where one was
        decided from the other, the other was committed before the one drew its ids, and comes first.
        """

        async def number(session: Session) -> int:
            connection = session.sql
            if not await connection.fetchval(statements.UNNUMBERED):
                return 0
            async with connection.transaction():
                last: int = await connection.fetchval(statements.LAST)
                # The first timeline begins at 1.
                first = max(last, (int(session.lineage or "1", 16) - 1) * TIMELINE_EVENTS)
                numbered: int = await connection.fetchval(statements.NUMBER, first, NUMBERED_AT_ONCE)
                await connection.execute(statements.MOVE_LAST, first + numbered)
            return numbered

        while enough > 0 and (numbered := await self.do(number)) == NUMBERED_AT_ONCE:
            enough -= numbered

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events, a little at a time."""
        # The newest of those that are read stays, so that one is left.
        oldest = await self.events(limit=limit + 1)
        last = 0
        for seq, event in oldest[:-1]:
            if event.at >= before:
                break
            last = seq
        return await self._remove(statements.FORGET, last, limit=limit) if last else 0

    async def ping(self) -> None:
        """Find out whether a primary answers."""
        if not await self.do(lambda session: session.sql.fetchval(statements.PING)):
            raise StoreUnavailableError(f"{self._where} takes no writes")

    async def close(self) -> None:
        """Finish what was accepted, then let go of the connections."""
        await self._lanes.close()

    async def _record(self, table: str, decode: Callable[[bytes], Record], key: Key) -> Record | None:
        statement = statements.look_up(table, self._fence)
        stored = statements.stored_key(table, key)
        body: bytes | None = await self.do(lambda session: session.sql.fetchval(statement, stored))
        return record(decode, key, body)

    async def _connect(self) -> Session:
        session = await connect(self._where, self._settings)
        if session.lineage < self._lineage:  # Eight hexadecimal digits: in order as text.
            session.terminate()
            raise StoreUnavailableError(f"{self._where}: this server was replaced by another")
        if self._lineage not in {"", session.lineage}:
            # What waits may rest on what the other server had, as may what this process remembers.
            self._lanes.refuse_waiting(f"{self._where}: the server was replaced by another")
            if self.on_new_lineage is not None:
                self.on_new_lineage()
        self._lineage = session.lineage
        return session

    async def do(self, job: Callable[[Session], Awaitable[T]], keys: Sequence[tuple[str, Key]] = ()) -> T:
        """
        Do something over a connection; again where it lost against another through no fault of its own.

        Args:
            keys: On what it meets others of this process.
        """

        async def tried(session: Session) -> T:
            if session.lineage != self._lineage:
                # It still answers, and knows nothing of what the other has stored since.
                session.terminate()
                raise StoreUnavailableError(f"{self._where}: the server was replaced by another")
            for attempt in range(TRIES):
                try:
                    return await job(session)
                except FAULTS as error:
                    if attempt == TRIES - 1 or state(error) not in _TRY_AGAIN:
                        # What is no answer of the server's may have left half of one behind.
                        if state(error) in _NOT_OUR_SERVER or not isinstance(error, asyncpg.PostgresError):
                            session.terminate()
                        raise _unavailable(self._where, error) from error
                    await sleep(jitter(0.01 * 2**attempt))
            raise AssertionError  # Not reached: the last try returns or raises.

        return await self._lanes.do(tried, keys)


def _unavailable(where: Target, error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"{where} cannot be read or written: {message(error)}")
