"""
What PostgreSQL keeps for a store that is split: decisions, and how far events have arrived.

A decision is a row by the id of its change, which is inserted once: by the change itself, in the one
transaction that does all of it here, or by somebody who met its intents and lost patience, and then it
is undone for ever. Which of the two it is, the primary key decides.
"""

from collections.abc import Sequence

from watchword.domain.decision import Change
from watchword.store import codec
from watchword.store.postgres import PostgresStore
from watchword.store.postgres.connection import Session
from watchword.store.rows import Row, Rows
from watchword.store.valkey import Waiting
from watchword.store.valkey.changes import Outcome

# Written, not only read: a server that was replaced unawares, or has lost its standby, cannot.
_FOUND = "UPDATE decision SET version = version WHERE id = $1 RETURNING body"
_PROOF = (
    "INSERT INTO decision (id, version, body, made_at)"
    " VALUES (convert_to(gen_random_uuid()::text, 'UTF8'), 1, '', '-infinity')"
)
_END = "INSERT INTO decision (id, version, body) VALUES ($1, 1, '') ON CONFLICT (id) DO NOTHING"
_SETTLED = "DELETE FROM decision WHERE id = $1"
_DONE = "SELECT id, body FROM decision WHERE body <> '' ORDER BY made_at LIMIT $1"
# Nobody who was so slow is still about to commit: what he waited for has been refused him long since.
_FORGET_UNDONE = (
    "DELETE FROM decision WHERE id IN (SELECT id FROM decision"
    " WHERE body = '' AND made_at < now() - interval '1 day' LIMIT $1)"
)

_NAME = "SELECT name FROM database_name WHERE id = 1"

_BEGIN = (
    "INSERT INTO arrival (source, number) SELECT source, 0 FROM unnest($1::bigint[]) AS new (source)"
    " ORDER BY source ON CONFLICT (source) DO NOTHING"
)
_ARRIVED = "SELECT source, number FROM arrival WHERE source = ANY ($1::bigint[]) ORDER BY source FOR UPDATE"
_APPEND = (
    "INSERT INTO event_inbox (body) SELECT body FROM unnest($1::bytea[]) WITH ORDINALITY AS new (body, place)"
    " ORDER BY place"
)
_ARRIVE = (
    "UPDATE arrival SET number = new.number FROM unnest($1::bigint[], $2::bigint[]) AS new (source, number)"
    " WHERE arrival.source = new.source"
)


class Ledger:
    """Decisions and arrivals, in the database of *users*."""

    def __init__(self, users: PostgresStore) -> None:
        """Use that database."""
        self._users = users

    async def name(self) -> bytes:
        """Return what this database alone is called, and its copies."""
        name: bytes = await self._users.do(lambda session: session.sql.fetchval(_NAME))
        return name

    async def decide(self, change: Change, commit: bytes, reach: bytes) -> bool:
        """Do what is to be done here of a change, unless it was ended or a version moved; all or nothing."""
        rows = Rows(change)
        rows.rows.append(("decision", Row(commit, 1, 0, reach)))
        return await self._users.write(rows)

    async def outcome(self, commit: bytes, *, end: bool) -> Outcome:
        """Return what was decided; with *end*, an open change ends undone, and can never be done."""

        async def look(session: Session) -> Outcome:
            if end:
                await session.sql.execute(_END, commit)
            reach: bytes | None = await session.sql.fetchval(_FOUND, commit)
            if reach is None:
                return b"open"
            return b"done" if reach else b"undone"

        return await self._users.surely(look)

    async def prove(self) -> None:
        """Find out that what is written here stays, so that what is read here is what there is."""
        await self._users.surely(lambda session: session.sql.execute(_PROOF))

    async def settled(self, commit: bytes) -> None:
        """Forget a change that was done and of which no intent is left, nor can come back."""
        await self._users.do(lambda session: session.sql.execute(_SETTLED, commit))

    async def unsettled(self, *, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Return changes that were done, and the records that hold their intents."""
        rows = await self._users.do(lambda session: session.sql.fetch(_DONE, limit))
        return [(commit, reach) for commit, reach in rows]

    async def forget_undone(self, *, limit: int) -> None:
        """Forget those that came to nothing a day ago."""
        await self._users.do(lambda session: session.sql.execute(_FORGET_UNDONE, limit))

    async def arrive(self, events: Sequence[Waiting]) -> None:
        """Append events to the trail, but for those that have arrived already."""
        sources = sorted({each.source for each in events})

        async def arrive(session: Session) -> None:
            async with session.sql.transaction():
                # Whoever brings events of a source holds its row to the end.
                await session.sql.execute(_BEGIN, sources)
                arrived: dict[int, int] = dict(await session.sql.fetch(_ARRIVED, sources))
                new = [each for each in events if each.number > arrived[each.source]]
                if new:
                    last = {each.source: each.number for each in new}
                    await session.sql.execute(_APPEND, [codec.encode_event(each.event) for each in new])
                    await session.sql.execute(_ARRIVE, list(last), list(last.values()))

        # They are let go of in Valkey then.
        await self._users.surely(arrive)
