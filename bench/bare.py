"""
The floor of a store: the same five exchanges, with the product's statements and nothing else.

What the product asks of its store in each exchange is recorded once, over a store in memory. The floor asks
the same for every call, about the caller and his token: the same look-ups, the same rows and functions,
through the client that the product's store uses. Nothing is decided, and nothing of what is found is read.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import apsw
import httpx2
from starlette.applications import Starlette
from starlette.requests import Request

from bench.floor import ROUTES, Step, key
from bench.prefill import FIRST_USER, fill
from bench.server import compose_over
from tests.stores import Place
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.ports import SystemClock
from watchword.store import codec
from watchword.store.group import GroupCommit
from watchword.store.memory import MemoryStore
from watchword.store.rows import Rows
from watchword.store.sqlite import CHECKPOINT_PAGES

CONNECTIONS = 10
"""As many as the product opens to PostgreSQL."""

LookUp: TypeAlias = tuple[str, bytes | int]
"""A table, and the id that is looked for in it."""
Ask: TypeAlias = LookUp | Change
T = TypeVar("T")


# --- what the product asks ----------------------------------------------------------------------


class _Watched(MemoryStore):
    """A store that notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Ask] = []

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        self.asked.append(("token", token_id))
        return await super().token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        self.asked.append(("user", user_id))
        return await super().user(user_id)

    async def destination(self, destination_id: bytes) -> Destination | None:
        self.asked.append(("destination", destination_id))
        return await super().destination(destination_id)

    async def commit(self, change: Change) -> bool:
        self.asked.append(change)
        return await super().commit(change)


async def record() -> list[list[Ask]]:
    """Walk one cycle through the product; return what each exchange asked of the store."""
    store = _Watched()
    await fill(store, people=1, tokens=0, now=SystemClock().now())
    exchanges: list[list[Ask]] = []
    headers = {"Authorization": "Bearer bench-0", "X-External-Correlation-Id": "1"}
    transport = httpx2.ASGITransport(compose_over(store))
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as client:

        async def exchange(method: str, path: str, expected: int, **how: Any) -> httpx2.Response:  # noqa: ANN401
            store.asked = []
            answer = await client.request(method, path, **how)
            assert answer.status_code == expected, answer.text
            exchanges.append(store.asked)
            return answer

        statement = "/v1/profiles/0/balance-statements/0/statement.json?currency=GBP"
        ott = (await exchange("GET", statement, 403)).headers["x-2fa-approval"]
        one, sms = {"One-Time-Token": ott}, "/v1/one-time-token/sms/"
        await exchange("GET", "/v1/one-time-token/status", 200, headers=one)
        await exchange("POST", f"{sms}trigger", 200, headers=one)
        await exchange("POST", f"{sms}verify", 200, headers=one, json={"otpCode": "111111"})
        await exchange("GET", statement, 200, headers={"x-2fa-approval": ott})
    return exchanges


def about(ask: Ask, user_id: UserId, token_id: TokenId) -> Ask:
    """Return the same of another user, another token, another number."""
    destination_id = user_id.to_bytes(32)
    if isinstance(ask, tuple):
        ids: dict[str, bytes | int] = {"token": token_id, "user": user_id, "destination": destination_id}
        return ask[0], ids[ask[0]]
    user = ask.user
    return replace(
        ask,
        token=ask.token and replace(ask.token, id=token_id, user_id=user_id),
        user=user
        and replace(
            user, id=user_id, open_tokens=tuple(replace(each, id=token_id) for each in user.open_tokens)
        ),
        seen=ask.seen and replace(ask.seen, id=user_id),
        destination=ask.destination and replace(ask.destination, id=destination_id),
    )


# --- the statements, by store -------------------------------------------------------------------


class Statements(Protocol):
    """What the floor speaks to a store with."""

    async def look_up(self, table: str, key: bytes | int, user_id: UserId) -> object:
        """Fetch one record, as it is stored."""
        ...

    async def commit(self, change: Change) -> bool:
        """Store a change."""
        ...


async def statements_at(place: str, until: AsyncExitStack) -> Statements:
    """Connect to the store at *place*, for as long as *until*."""
    kind, where, name = place.split(" ")
    match kind:
        case "sqlite":
            sqlite = _Sqlite(Path(where) / name)
            until.push_async_callback(sqlite.writer.close)
            return sqlite
        case "postgres":
            return await _Postgres.connect(where, name, until)
        case "split":
            tokens, users = where.split("+")
            passing = await _Valkey.connect(tokens, name, until)
            return _Split(passing, await _Postgres.connect(users, name, until))
        case _:
            return await _Valkey.connect(where, name, until)


_TABLES = ("token", "user", "destination")
_MOMENTS = {"token": "expires_at", "destination": "last_at"}
_VERSION = {table: f"SELECT version FROM {table} WHERE id = ?" for table in _TABLES}  # noqa: S608 - ours.
_PUT = {
    table: f"INSERT INTO {table} (id, version, body{f', {_MOMENTS[table]}' if table in _MOMENTS else ''})"  # noqa: S608 - ours.
    f" VALUES ({'?, ?, ?, ?' if table in _MOMENTS else '?, ?, ?'})"
    " ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body"
    for table in _TABLES
}


class _Sqlite:
    """A reader, and the product's group commit over the same rows one by one."""

    def __init__(self, file: Path) -> None:
        def connect() -> apsw.Connection:
            connection = apsw.Connection(str(file), statementcachesize=256)
            connection.set_busy_timeout(5_000)
            connection.wal_autocheckpoint(0)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -32768")
            return connection

        self._reader = connect()
        self.writer = GroupCommit[Rows, bool](connect, self._write, checkpoint_pages=CHECKPOINT_PAGES)

    async def look_up(self, table: str, key: bytes | int, user_id: UserId) -> object:
        del user_id
        return self._reader.execute(f"SELECT body FROM {table} WHERE id = ?", (key,)).get  # noqa: S608 - ours.

    async def commit(self, change: Change) -> bool:
        return await self.writer.submit(Rows(change))

    @staticmethod
    def _write(connection: Any, group: Sequence[Rows]) -> list[bool]:  # noqa: ANN401 - apsw's, as a protocol.
        stored: list[bool] = []
        for each in group:
            fits = True
            for table, row in each.rows:
                version = connection.execute(_VERSION[table], (row.key,)).get
                fits = fits and (version or 0) == row.version - 1
                values = (row.key, row.version, row.body, row.at)
                connection.execute(_PUT[table], values if table in _MOMENTS else values[:3])
            for body in each.events:
                connection.execute("INSERT INTO event (body) VALUES (?)", (body,))
            stored.append(fits)
        return stored


class _Postgres:
    """Connections that are taken in turn."""

    def __init__(self, sessions: Sequence[Any], fence: Any) -> None:  # noqa: ANN401 - of an extra.
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for session in sessions:
            self._free.put_nowait(session.sql)
        self._fence = fence

    @classmethod
    async def connect(cls, url: str, schema: str, until: AsyncExitStack) -> "_Postgres":
        from watchword.store.postgres.connection import connect, fence, target  # noqa: PLC0415 - of an extra.
        from watchword.store.postgres.settings import PostgresSettings  # noqa: PLC0415 - as above.

        settings = PostgresSettings(schema=schema)
        where = target(url, settings)
        sessions = [await connect(where, settings) for _ in range(CONNECTIONS)]
        for session in sessions:
            until.push_async_callback(session.close)
        return cls(sessions, fence(sessions[0], settings))

    async def look_up(self, table: str, key: bytes | int, user_id: UserId) -> object:
        from watchword.store.postgres import statements  # noqa: PLC0415 - as above.

        del user_id
        return await self._fetch(statements.look_up(table, self._fence), key)

    async def commit(self, change: Change) -> bool:
        from watchword.store.postgres import statements  # noqa: PLC0415 - as above.

        sql, arguments = statements.commit(Rows(change), self._fence)
        return await self._fetch(sql, *arguments) == statements.STORED

    async def _fetch(self, sql: str, *arguments: object) -> object:
        connection = await self._free.get()
        try:
            return await connection.fetchval(sql, *arguments)
        finally:
            self._free.put_nowait(connection)


class _Valkey:
    """One call for each slot, then the wait for replicas; a change over several slots is not one here."""

    def __init__(self, link: Any, *, alone: bytes) -> None:  # noqa: ANN401 - of an extra.
        self._link = link
        self._alone = alone

    @classmethod
    async def connect(cls, url: str, prefix: str, until: AsyncExitStack) -> "_Valkey":
        from tests.store.valkey import patient  # noqa: PLC0415 - as above.
        from watchword.store.valkey.layout import Names  # noqa: PLC0415 - as above.
        from watchword.store.valkey.link import Link  # noqa: PLC0415 - as above.
        from watchword.store.valkey.servers import look_at, target_of  # noqa: PLC0415 - as above.

        settings = patient(prefix)
        servers = await look_at(target_of(url, settings), settings)
        link = Link(
            Names(prefix),
            servers.connect,
            replicas=servers.replicas,
            wait_milliseconds=settings.wait_milliseconds,
        )
        await link.open()
        until.push_async_callback(link.close)
        return cls(link, alone=b"0" if servers.replicas else b"1")

    async def look_up(self, table: str, key: bytes | int, user_id: UserId) -> object:
        from watchword.store.valkey import layout  # noqa: PLC0415 - as above.

        match table:
            case "token":
                where = layout.token_key(TokenId(bytes(key)), user_id)
            case "user":
                where = layout.user_key(user_id)
            case _:
                where = layout.destination_key(bytes(key))
        return await self.read(where)

    async def read(self, where: Any) -> object:  # noqa: ANN401 - as above.
        return await self._link.call("read", [self._link.names(where)], [self._alone])

    async def commit(self, change: Change) -> bool:
        from watchword.store.valkey import layout  # noqa: PLC0415 - as above.

        return await self.write(change, layout.writes(change, {}))

    async def write(self, change: Change, records: Sequence[Any]) -> bool:
        from watchword.store.valkey import layout  # noqa: PLC0415 - as above.

        home = layout.home(change, records)
        events = [codec.encode_event(event) for event in change.events]
        buckets = {home, *(each.key.bucket for each in records)}
        outcomes = await asyncio.gather(
            *(
                self._commit(
                    bucket,
                    [each for each in records if each.key.bucket == bucket],
                    events if bucket == home else [],
                )
                for bucket in buckets
            ),
            *(self._place(each) for each in (change.token,) if each is not None and each.version == 1),
        )
        return all(outcomes)

    async def _commit(self, bucket: int, records: Sequence[Any], events: Sequence[bytes]) -> bool:
        from watchword.store.valkey.layout import CONTROL, DECIDED, EVENTS  # noqa: PLC0415 - as above.

        names = self._link.names
        keys = [names.of(bucket, name) for name in (CONTROL, EVENTS, DECIDED)]
        arguments = [self._alone, b"", b"", b"", b"%d" % len(records)]
        for each in records:
            name = names(each.key)
            keys += (name, names.of(bucket, each.index) if each.index else name)
            arguments += each.arguments()
        code, replid = await self._link.call("commit", keys, [*arguments, *events])
        await self._link.replicated(bucket, replid)
        return bool(code == b"ok")

    async def _place(self, token: OneTimeToken) -> bool:
        from watchword.store.valkey.layout import place_key  # noqa: PLC0415 - as above.

        where = place_key(token.id)
        arguments = [b"%d" % token.user_id, b"86400000"]
        _, replid = await self._link.call("place", [self._link.names(where)], arguments)
        await self._link.replicated(where.bucket, replid)
        return True


class _Split:
    """A user's two parts, looked up at once; all that a step-up writes is in Valkey."""

    def __init__(self, passing: _Valkey, kept: _Postgres) -> None:
        self._passing = passing
        self._kept = kept

    async def look_up(self, table: str, key: bytes | int, user_id: UserId) -> object:
        from watchword.store.valkey.layout import state_key  # noqa: PLC0415 - as above.

        if table != "user":
            return await self._passing.look_up(table, key, user_id)
        return await asyncio.gather(
            self._passing.read(state_key(user_id)), self._kept.look_up(table, key, user_id)
        )

    async def commit(self, change: Change) -> bool:
        from watchword.store.valkey.layout import state_seen, state_write, writes  # noqa: PLC0415 - as above.

        records = writes(replace(change, user=None, seen=None), {})
        if (user := change.user) is not None:
            state = replace(user, credentials=(), preferred=None)
            records.insert(0, state_write(state, 1, {}, made_from=user.version - 1))
        if change.seen is not None:
            records.insert(0, state_seen(change.seen, {}))
        return await self._passing.write(change, records)


# --- the application ----------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[dict[str, Step]]:
    async with AsyncExitStack() as until:
        statements = await statements_at(os.environ["WATCHWORD_BENCH_PLACE"], until)
        exchanges = await record()

        async def step(request: Request, ott: str, number: int) -> None:
            user_id = UserId(FIRST_USER + int(request.headers["authorization"].rpartition("-")[2]))
            for ask in exchanges[number]:
                match about(ask, user_id, TokenId(key(ott))):
                    case Change() as change:
                        assert await statements.commit(change), "a version was not the expected one"
                    case table, id_:
                        await statements.look_up(table, id_, user_id)

        yield {"step": step}


def create_app() -> Starlette:
    """Compose the floor over the store that the environment names."""
    return Starlette(routes=ROUTES, lifespan=_lifespan)


async def prefill(place: Place, *, people: int) -> None:
    """Enrol *people*, as for the product: their records are at the versions that the changes begin from."""
    store = await place.open()
    await fill(store, people=people, tokens=0, now=SystemClock().now())
    await store.close()
