"""What the PostgreSQL store does beside the contract: connecting, refusing, its schema, its trail."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]
import msgspec
import pytest

from tests.factories import NOW, make_token, make_user
from tests.store.certificates import certificates
from tests.store.postgres import SUPERUSER, Server, until
from tests.store.proxy import Proxy
from tests.store.support import (
    at_once,
    claim,
    event,
    make_owner,
    next_user,
    next_version,
    ready,
    spend,
    with_user,
)
from tests.stores import fresh_schema
from watchword.domain.decision import Change, EventName
from watchword.domain.instant import after
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.token import Cleared, TokenId
from watchword.domain.user import UserId
from watchword.store.base import StoreCorruptError, StoreUnavailableError, UnreadableUser, UnusableStoreError
from watchword.store.postgres import PostgresSettings, PostgresStore, schema
from watchword.store.postgres.connection import connect, target, unusable
from watchword.store.postgres.lanes import Lanes

LOCK_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
HOW_TO = Path(__file__).parents[2] / "docs/how-to/postgresql.md"
HERE = "postgresql://user@127.0.0.1/database"


@pytest.fixture
def settings() -> PostgresSettings:
    return fresh_schema()


@pytest.fixture
async def store(postgres: Server, settings: PostgresSettings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres.url, settings=settings)
    yield store
    await store.close()


@pytest.fixture
async def raw(postgres: Server, settings: PostgresSettings) -> AsyncIterator[Any]:
    """A connection of somebody else's to the same tables."""
    connection = await asyncpg.connect(postgres.url, server_settings={"search_path": settings.schema})
    yield connection
    await connection.close()


# --- where it connects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts", "ports", "tls"),
    [
        (HERE, ("127.0.0.1",), (5432,), False),
        ("postgres://user:p%40ss@localhost:6000/database", ("localhost",), (6000,), False),
        ("postgresql://user@[::1]:6000/database", ("::1",), (6000,), False),
        ("postgresql://user@/database?host=/run/postgresql", ("/run/postgresql",), (5432,), False),
        ("postgresql://user@/database?host=/run&port=6000", ("/run",), (6000,), False),
        ("postgresql://user@%2Frun:6000/database", ("/run",), (6000,), False),
        ("postgresql://user@db.example/database", ("db.example",), (5432,), True),
        ("postgresql://user@one,two:6000/database", ("one", "two"), (5432, 6000), True),
        ("postgresql://user@127.0.0.1,two/database", ("127.0.0.1", "two"), (5432, 5432), True),
        (f"{HERE}?sslmode=verify-full", ("127.0.0.1",), (5432,), True),
    ],
)
def test_a_url_says_where_and_another_machine_is_spoken_to_in_tls_only(
    url: str, hosts: tuple[str, ...], ports: tuple[int, ...], tls: bool
) -> None:
    found = target(url, PostgresSettings())
    assert (found.hosts, found.ports, found.tls) == (hosts, ports, tls)
    assert (found.user, found.database) == ("user", "database")


def test_a_named_authority_asks_for_tls_on_this_machine_too() -> None:
    assert target(HERE, PostgresSettings(root_certificate="ca.pem")).tls


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://user@127.0.0.1/database", "must be postgresql://"),
        ("postgresql://user@127.0.0.1/one/two", "must be postgresql://"),
        ("postgresql://user@127.0.0.1/database#there", "must be postgresql://"),
        ("postgresql://user@127.0.0.1", "must name a host and a database"),
        ("postgresql:///database", "must name a host and a database"),
        ("postgresql://user@127.0.0.1:many/database", "cannot be read"),
        ("postgresql://user@one,,two/database", "cannot be read"),
        (f"{HERE}?sslmode=require", "not offered: sslmode"),
        (f"{HERE}?sslmode=disable", "not offered: sslmode"),
        (f"{HERE}?options=-cfsync%3Doff", "not offered: options"),
        (f"{HERE}?what", "cannot be read"),
        (f"{HERE}?host=/run", "not offered: host"),
        (f"{HERE}?port=6000", "not offered: port"),
        ("postgresql://user@/database?port=6000", "not offered: port"),
        ("postgresql://user@/database?host=/run&port=many", "cannot be read"),
    ],
)
def test_a_url_that_says_something_else_is_refused(url: str, said: str) -> None:
    with pytest.raises(UnusableStoreError, match=said):
        target(url, PostgresSettings())


@pytest.mark.parametrize("password", ["pa/ss", "pa?ss", "pa\u2100ss", "pa[ss"])
def test_a_password_that_breaks_the_url_is_not_told(password: str) -> None:
    with pytest.raises(UnusableStoreError) as caught:
        target(f"postgresql://user:{password}@127.0.0.1/database", PostgresSettings())
    assert "pa" not in str(caught.value).replace("password", "").replace("parameters", "")
    assert caught.value.__cause__ is None


def test_a_password_is_shown_nowhere() -> None:
    found = target("postgresql://user:p%40ss@127.0.0.1/database", PostgresSettings())
    assert found.password == "p@ss"
    assert "p@ss" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("field", "below", "least", "most", "above"),
    [
        ("pool_size", 0, 1, 100, 101),
        ("connect_seconds", 0.09, 0.1, 30, 30.1),
        ("statement_seconds", 0.09, 0.1, 30, 30.1),
        ("lock_seconds", 0.09, 0.1, 30, 30.1),
        ("schema", "", "a", "a" * 63, "a" * 64),
    ],
)
def test_settings_have_limits(field: str, below: Any, least: Any, most: Any, above: Any) -> None:
    for good in (least, most):
        assert getattr(msgspec.convert({field: good}, PostgresSettings), field) == good
    for bad in (below, above):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({field: bad}, PostgresSettings)


@pytest.mark.parametrize("schema", ["Upper", "with space", "1st", 'a"b', "a;b"])
def test_a_schema_has_a_plain_name(schema: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"schema": schema}, PostgresSettings)


# --- what it refuses --------------------------------------------------------------------------

FACTS = {
    "version": "PostgreSQL 18.6 on x86_64-pc-linux-gnu, compiled by gcc",
    "number": "180006",
    "standby": False,
    "read_only": "off",
    "fsync": "on",
    "full_page_writes": "on",
}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"number": "150000"}, None),
        ({"number": "149999"}, "PostgreSQL 15 or newer is needed"),
        # Such as speak the language, and have no such settings.
        ({"version": "CockroachDB CCL v25.1", "fsync": None, "full_page_writes": None}, None),
        ({"fsync": "off"}, "fsync = off"),
        ({"full_page_writes": "off"}, "full_page_writes = off"),
        ({"standby": True}, "name the primary"),
        ({"read_only": "on"}, "name the primary"),
    ],
)
def test_a_server_that_cannot_keep_records_is_told_what_to_change(
    facts: dict[str, Any], why: str | None
) -> None:
    said = unusable(FACTS | facts)
    assert (said is None) if why is None else (said is not None and why in said)


async def test_a_database_that_is_not_there_is_refused(postgres: Server) -> None:
    with pytest.raises(UnusableStoreError, match="CREATE DATABASE"):
        await PostgresStore.open(postgres.url.replace("/postgres", "/nothing"))


async def test_a_server_of_this_machine_is_found_at_its_socket(postgres: Server) -> None:
    folder, settings = postgres.sockets, fresh_schema()
    for url in (
        f"postgresql://{SUPERUSER}@/postgres?host={folder}&port={postgres.port}",
        f"postgresql://{SUPERUSER}@{quote(str(folder), safe='')}:{postgres.port}/postgres",
    ):
        store = await PostgresStore.open(url, settings=settings)
        await store.ping()
        await store.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await PostgresStore.open("postgresql://user@127.0.0.1:1/database")


async def test_each_session_says_itself_what_it_rests_on(
    postgres: Server, settings: PostgresSettings, raw: Any
) -> None:
    """Whatever the role says; only what is stronger than ours is left as it is."""
    where = target(postgres.url, settings)
    for configured, used in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        await raw.execute(f"CREATE ROLE weak LOGIN; ALTER ROLE weak SET synchronous_commit = {configured}")
        await raw.execute("ALTER ROLE weak SET default_transaction_isolation = 'serializable'")
        await raw.execute("ALTER ROLE weak SET statement_timeout = 0")
        session = await connect(replace(where, user="weak"), settings)
        for name, value in {
            "synchronous_commit": used,
            "transaction_isolation": "read committed",
            "statement_timeout": "20s",
            "lock_timeout": "20s",
            "idle_in_transaction_session_timeout": "10s",
            "tcp_keepalives_idle": "30",
            "application_name": "watchword",
        }.items():
            assert await session.sql.fetchval(f"SHOW {name}") == value
        await session.close()
        await raw.execute("DROP ROLE weak")


async def test_every_row_is_found_by_an_index(
    postgres: Server, store: PostgresStore, settings: PostgresSettings, raw: Any
) -> None:
    """Also by plans that were made while there were few: what they cost must not grow with the table."""
    for number in range(10):
        assert await claim(store, UserId(number), b"%d" % number)
        assert await spend(store, (await ready(store, number.to_bytes(32))).id)
    await raw.execute("ANALYZE")
    await raw.execute("SELECT pg_stat_reset()")
    for number in range(10):
        assert not await claim(store, UserId(number), b"%d" % number)
        assert await claim(store, UserId(number), b"more %d" % number)
        assert await spend(store, (await ready(store, b"more %d" % number)).id)
    await store.close()
    # A session counts its scans where others see them when it ends.
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'watchword'"
    await asyncio.to_thread(until, lambda: postgres.psql(sessions) == "0", "sessions are left")
    scans = "SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables WHERE schemaname = $1"
    found = {name: (by_row, by_index) for name, by_row, by_index in await raw.fetch(scans, settings.schema)}
    for table in ("token", "owner", "user_security"):
        by_row, by_index = found[table]
        assert by_row == 0
        assert by_index > 0


async def test_a_user_whose_record_is_damaged_stops_nobody_who_goes_through_all(
    store: PostgresStore, raw: Any
) -> None:
    for id_ in (UserId(1), UserId(2), UserId(3)):
        assert await store.commit(Change(user=make_user(id=id_)))
    await raw.execute("UPDATE user_security SET body = overlay(body PLACING 'x' FROM 9) WHERE id = 2")
    with pytest.raises(StoreCorruptError):
        await store.user(UserId(2))
    expected = [make_user(id=UserId(1)), UnreadableUser(UserId(2)), make_user(id=UserId(3))]
    assert list(await store.users()) == expected
    assert list(await store.users(after=UserId(1))) == expected[1:]


async def test_a_record_under_the_id_of_another_is_not_given_out(store: PostgresStore, raw: Any) -> None:
    await ready(store, b"one")
    await ready(store, b"two")
    await raw.execute("UPDATE token SET body = (SELECT body FROM token WHERE id = 'one') WHERE id = 'two'")
    with pytest.raises(StoreCorruptError):
        await store.token(TokenId(b"two"))
    await raw.execute("UPDATE token SET body = overlay(body PLACING 'x' FROM 9) WHERE id = 'one'")
    with pytest.raises(StoreCorruptError):
        await store.token(TokenId(b"one"))


# --- TLS --------------------------------------------------------------------------------------


async def test_a_server_must_be_who_its_certificate_says(
    postgres: Server, settings: PostgresSettings, tmp_path: Path
) -> None:
    authority, certificate, key = certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    trusting = msgspec.structs.replace(settings, root_certificate=str(authority))
    async with Proxy(postgres.port, tls=tls) as proxy:
        url = f"postgresql://{SUPERUSER}@127.0.0.1:{proxy.port}/postgres"
        store = await PostgresStore.open(url, settings=trusting)
        await store.ping()
        await store.close()
        assert proxy.sealed == 2
        # The certificate is of the address, not of the name.
        with pytest.raises(UnusableStoreError, match=r"not trusted .* name that stands in the certificate"):
            await PostgresStore.open(url.replace("127.0.0.1", "localhost"), settings=trusting)
        # Nobody whom the system trusts has signed it.
        with pytest.raises(UnusableStoreError, match="not trusted"):
            await PostgresStore.open(f"{url}?sslmode=verify-full", settings=settings)
        (empty := tmp_path / "empty.crt").touch()
        with pytest.raises(UnusableStoreError, match="holds no certificates"):
            await PostgresStore.open(url, settings=PostgresSettings(root_certificate=str(empty)))
        assert proxy.sealed == 2


async def test_nothing_goes_in_the_clear_where_tls_is_wanted(postgres: Server) -> None:
    with pytest.raises(UnusableStoreError, match="offers no TLS"):
        await PostgresStore.open(f"{postgres.url}?sslmode=verify-full")


# --- the schema -------------------------------------------------------------------------------


async def test_the_schema_is_made_once_and_kept(postgres: Server, settings: PostgresSettings) -> None:
    with pytest.raises(UnusableStoreError, match="steps behind this release: run `watchword migrate`"):
        await PostgresStore.open(postgres.url, settings=settings, migrate=False)
    session = await connect(target(postgres.url, settings), settings)
    steps = schema.known()
    assert await schema.pending(session.sql) == len(steps) > 0
    assert await schema.migrate(session.sql, settings) == len(steps)
    assert await schema.pending(session.sql) == 0
    assert await schema.migrate(session.sql, settings) == 0
    await session.close()
    store = await PostgresStore.open(postgres.url, settings=settings, migrate=False)
    await store.ping()
    await store.close()


async def test_many_that_start_at_once_make_one_schema(postgres: Server) -> None:
    for _ in range(5):
        settings = fresh_schema()
        opening = (PostgresStore.open(postgres.url, settings=settings) for _ in range(8))
        for store in await asyncio.gather(*opening):
            await store.ping()
            await store.close()


async def test_a_step_that_fails_changes_nothing(
    postgres: Server, settings: PostgresSettings, raw: Any
) -> None:
    session = await connect(target(postgres.url, settings), settings)
    await schema.migrate(session.sql, settings)
    steps = [*schema.known(), "CREATE TABLE later (a bigint)", "CREATE TABLE never (a bigint); nonsense"]
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await schema.migrate(session.sql, settings, steps)
    assert await schema.pending(session.sql) == 0
    assert await raw.fetchval("SELECT to_regclass('later')") is None
    await session.close()


async def test_two_releases_share_a_database_until_one_contracts_it(
    postgres: Server, settings: PostgresSettings
) -> None:
    session = await connect(target(postgres.url, settings), settings)
    known = schema.known()
    expanding = [*known, f"-- needs: {len(known)}\nALTER TABLE token ADD COLUMN note text"]
    assert await schema.migrate(session.sql, settings, expanding) == len(expanding)
    older = await PostgresStore.open(postgres.url, settings=settings)
    assert await spend(older, (await ready(older)).id)
    contracting = [*expanding, f"-- needs: {len(expanding)}\nDROP TABLE application"]
    assert await schema.migrate(session.sql, settings, contracting) == 1
    with pytest.raises(UnusableStoreError, match="start a newer one"):
        await PostgresStore.open(postgres.url, settings=settings)
    assert await schema.pending(session.sql, expanding) == 0
    await older.close()
    await session.close()


async def test_a_step_that_says_nothing_of_older_releases_is_shared_with_none(
    postgres: Server, settings: PostgresSettings
) -> None:
    session = await connect(target(postgres.url, settings), settings)
    known = schema.known()
    silent = [*known, "CREATE TABLE later (a bigint)"]
    expanding = [*silent, f"-- needs: {len(known)}\nCREATE TABLE latest (a bigint)"]
    assert await schema.migrate(session.sql, settings, silent) == len(silent)
    for release, opens in ((known, False), (silent, True)):
        for _ in range(2):  # A later step that asks for less does not undo what an earlier one needs.
            if opens:
                await schema.pending(session.sql, release)
            else:
                with pytest.raises(UnusableStoreError, match="start a newer one"):
                    await schema.pending(session.sql, release)
            await schema.migrate(session.sql, settings, expanding)
    await session.close()


async def test_the_roles_of_the_documentation_have_the_rights_they_need(postgres: Server) -> None:
    """Of the two that ``docs/how-to/postgresql.md`` makes, one keeps the schema and the other one serves."""
    make, grant = re.findall(r"<<'SQL'\n(.*?)^SQL$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)
    superuser = await asyncpg.connect(postgres.url)
    for statement in make.split(";\n")[:-1]:
        await superuser.execute(statement)
    database = postgres.url.replace("/postgres", "/watchword")
    owner, url = (database.replace(SUPERUSER, role) for role in ("watchword", "watchword_server"))
    inside = await asyncpg.connect(database)
    await inside.execute("CREATE ROLE watchword_server LOGIN")
    with pytest.raises(UnusableStoreError, match="as one who may, or GRANT CREATE"):
        await PostgresStore.open(url)
    await inside.execute("DROP ROLE watchword_server")
    await (await PostgresStore.open(owner)).close()
    await inside.execute(grant)
    store = await PostgresStore.open(url)
    assert await spend(store, (await ready(store)).id)
    assert [entry.name for _, entry in await store.events()] == [EventName.TOKEN_SPENT]
    assert await store.sweep(after(NOW, 7 * DAY_SECONDS), limit=10) == 1
    await store.ping()
    await store.close()
    await inside.execute("DROP OWNED BY watchword_server")
    await inside.close()
    await superuser.execute("DROP DATABASE watchword")
    await superuser.execute("DROP ROLE watchword, watchword_server")
    await superuser.close()


# --- races ------------------------------------------------------------------------------------


async def test_sixteen_connections_of_two_stores_spend_each_token_once(
    postgres: Server, settings: PostgresSettings
) -> None:
    wide = msgspec.structs.replace(settings, pool_size=8)
    both = [await PostgresStore.open(postgres.url, settings=wide) for _ in range(2)]
    for number in range(100):
        token = await ready(both[0], number.to_bytes(32))
        # Each in a queue of its own within the store: what keeps them apart is the database alone.
        assert sum(await at_once(*(spend(both[n % 2], token.id) for n in range(16)))) == 1
    for store in both:
        await store.close()


async def test_what_both_begin_one_of_them_begins_and_the_other_leaves_nothing(
    postgres: Server, settings: PostgresSettings
) -> None:
    """A change that begins two records meets one that begins the first of them: all of it, or nothing."""
    both = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    for number in range(60):
        mine, yours = UserId(number * 2), UserId(number * 2 + 1)
        thing = make_owner(id=b"%d" % number)
        won = await at_once(
            *(
                store.commit(
                    Change(
                        user=make_user(id=user),
                        owners=(replace(thing, user_id=user),),
                        events=(event(by=user),),
                    )
                )
                for store, user in zip(both, (mine, yours), strict=True)
            )
        )
        assert sorted(won) == [False, True]
        winner, loser = (mine, yours) if won[0] else (yours, mine)
        owner = await both[0].owner(thing.id)
        assert owner is not None
        assert owner.user_id == winner
        assert await both[0].user(winner) is not None
        assert await both[0].user(loser) is None
        assert [entry.details["by"] for _, entry in (await both[1].events())[number:]] == [winner]
    for store in both:
        await store.close()


async def test_what_rests_on_a_user_is_stored_only_while_he_stays_as_he_was(
    postgres: Server, settings: PostgresSettings
) -> None:
    both = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    user = await with_user(both[0])
    for number in range(60):
        token = make_token(Cleared(NOW), id=number.to_bytes(32))
        moved, rested = await at_once(
            both[0].commit(Change(user=next_user(user), events=(event(moved=number),))),
            both[1].commit(Change(token=token, seen=user, events=(event(rested=number),))),
        )
        assert moved
        user = next_user(user)
        details = [entry.details for _, entry in await both[0].events()]
        trail = [name for each in details for name, value in each.items() if value == number]
        # Either it came first, or it did not happen.
        assert sorted(trail) == (["moved", "rested"] if rested else ["moved"])
        assert (await both[0].token(token.id) is not None) is rested
    for store in both:
        await store.close()


async def test_a_change_may_rest_on_what_it_changes(store: PostgresStore) -> None:
    user = await with_user(store)
    assert await store.commit(Change(user=next_user(user), seen=user))
    assert not await store.commit(Change(user=next_user(user), seen=user))
    assert await store.user(user.id) == next_user(user)


async def test_what_was_seen_cannot_move_while_what_rests_on_it_is_stored(
    postgres: Server, settings: PostgresSettings, raw: Any
) -> None:
    both = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    user, token = await with_user(both[0]), make_token()
    other = raw.transaction()
    await other.start()
    await raw.execute("INSERT INTO token VALUES ($1, 1, 1, '', '')", token.id)
    # It has seen the user, and waits to learn whether somebody else has begun the token.
    rests = asyncio.ensure_future(both[0].commit(Change(token=token, seen=user, events=(event(n=1),))))
    await asyncio.to_thread(until, lambda: postgres.psql(LOCK_WAITS) == "1", "it does not wait")
    moves = asyncio.ensure_future(both[1].commit(Change(user=next_user(user), events=(event(n=2),))))
    await asyncio.to_thread(until, lambda: moves.done() or postgres.psql(LOCK_WAITS) == "2", "nor does it")
    assert not moves.done()
    await other.rollback()
    assert await rests
    assert await moves
    assert [entry.details["n"] for _, entry in await both[0].events()] == [1, 2]
    for store in both:
        await store.close()


async def test_changes_that_meet_on_two_records_wait_in_one_direction_only(
    postgres: Server, settings: PostgresSettings, raw: Any
) -> None:
    """One changes both, the other changes one and rests on the other one: they never wait in a ring."""
    both = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    token, user = await ready(both[0]), await with_user(both[0])
    deadlocks = postgres.log.read_text().count("deadlock detected")
    other = raw.transaction()
    await other.start()
    await raw.execute("SELECT 1 FROM token FOR UPDATE")
    rests = asyncio.ensure_future(both[0].commit(Change(token=next_version(token), seen=user)))
    await asyncio.to_thread(until, lambda: postgres.psql(LOCK_WAITS) == "1", "it does not wait")
    moves = asyncio.ensure_future(both[1].commit(Change(token=next_version(token), user=next_user(user))))
    await asyncio.to_thread(until, lambda: postgres.psql(LOCK_WAITS) == "2", "nor does it")
    await other.rollback()
    assert await rests
    assert not await moves
    assert postgres.log.read_text().count("deadlock detected") == deadlocks
    for store in both:
        await store.close()


async def test_who_comes_too_late_is_told_without_an_error_in_the_log_of_the_server(
    postgres: Server, settings: PostgresSettings
) -> None:
    both = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    failed = postgres.log.read_text().count("division by zero")
    token, user = await ready(both[0]), await with_user(both[0])
    stale = Change(token=next_version(token), user=replace(user, version=4), events=(event(),))
    assert not await both[0].commit(stale)
    for _ in range(100):
        token = next_version(token)
        # One writes another record first, which it must not have done if it comes too late.
        wide, narrow = Change(token=token, user=next_user(user)), Change(token=token)
        won, lost = await at_once(both[0].commit(wide), both[1].commit(narrow))
        assert won is not lost
        user = next_user(user) if won else user
    assert postgres.log.read_text().count("division by zero") == failed
    for store in both:
        await store.close()


# --- the trail --------------------------------------------------------------------------------


async def test_an_event_that_is_committed_late_is_read_late_and_not_missed(
    store: PostgresStore, raw: Any
) -> None:
    """Its id was drawn first: whoever read on by ids alone would never see it."""
    late = raw.transaction()
    await late.start()
    assert await store.commit(Change(events=(event(number=0),)))
    body: bytes = await raw.fetchval("SELECT body FROM event_inbox")
    early_id: int = await raw.fetchval("INSERT INTO event_inbox (body) VALUES ($1) RETURNING id", body)
    assert await store.commit(Change(events=(event(number=1),)))
    assert (await _ids(raw))[-1] > early_id
    first = await store.events()
    assert [entry.details["number"] for _, entry in first] == [0, 1]
    await late.commit()
    second = await store.events(after=first[-1][0])
    assert [entry.details["number"] for _, entry in second] == [0]
    assert second[0][0] > first[-1][0]


async def _ids(raw: Any) -> list[int]:
    return [row["id"] for row in await raw.fetch("SELECT id FROM event_inbox ORDER BY id")]


async def test_a_reader_who_follows_racing_writers_misses_nothing(
    postgres: Server, settings: PostgresSettings
) -> None:
    """Two readers follow two stores that write at once: every event once, and each user's in order."""
    writers = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    readers = [await PostgresStore.open(postgres.url, settings=settings) for _ in range(2)]
    users, each = range(24), 25

    async def write(number: int) -> bool:
        user = make_user(id=UserId(number))
        for step in range(each):
            # Now over one store, now over the other: only the version tells which came first.
            store = writers[(number + step) % 2]
            assert await store.commit(Change(user=user, events=(event(user=number, step=step),)))
            user = next_user(user)
        return True

    async def follow(store: PostgresStore) -> list[tuple[object, object]]:
        seen: list[tuple[object, object]] = []
        last = 0
        while len(seen) < len(users) * each:
            for seq, entry in await store.events(after=last, limit=50):
                assert seq > last
                last = seq
                seen.append((entry.details["user"], entry.details["step"]))
        assert await store.events(after=last) == []
        return seen

    following = [asyncio.ensure_future(follow(reader)) for reader in readers]
    assert all(await at_once(*(write(number) for number in users)))
    trails = await asyncio.gather(*following)
    assert trails[0] == trails[1]
    for number in users:
        assert [step for user, step in trails[0] if user == number] == list(range(each))
    for store in (*writers, *readers):
        await store.close()


# --- lanes ------------------------------------------------------------------------------------


class FakeConnection:
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def is_closed(self) -> bool:
        return self.ended.is_set()

    async def close(self) -> None:
        self.ended.set()

    def terminate(self) -> None:
        self.ended.set()


async def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.store.postgres.lanes.WAITING_MAX", 5)
    go = asyncio.Event()

    async def connect_() -> FakeConnection:
        return FakeConnection()

    async def job(_: FakeConnection) -> bool:
        return await go.wait()

    lanes = Lanes(connect_, size=2, answer_seconds=5, what="it")
    waiting = [asyncio.ensure_future(lanes.do(job)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="overloaded"):
        await lanes.do(job)
    go.set()
    assert all(await asyncio.gather(*waiting))
    assert await lanes.do(job)
    await lanes.close()


async def test_what_waits_behind_another_is_refused_with_all_that_waits() -> None:
    """What it was decided from may be lost: it must not run on the server that took over."""
    go, ran = asyncio.Event(), list[str]()

    async def connect_() -> FakeConnection:
        return FakeConnection()

    async def first(_: FakeConnection) -> None:
        await go.wait()

    async def second(_: FakeConnection) -> None:
        ran.append("second")

    lanes = Lanes(connect_, size=2, answer_seconds=5, what="it")
    waiting = [asyncio.ensure_future(lanes.do(each, ["a user"])) for each in (first, second)]
    await asyncio.sleep(0.01)
    lanes.refuse_waiting("replaced")
    go.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(end) for end in ends] == ["replaced"] * 2
    await lanes.close()
    assert ran == []


async def test_no_more_connections_are_opened_than_allowed_and_none_before_it_is_needed() -> None:
    opened: list[FakeConnection] = []

    async def connect_() -> FakeConnection:
        opened.append(FakeConnection())
        return opened[-1]

    async def job(_: FakeConnection) -> None:
        await asyncio.sleep(0.001)

    lanes = Lanes(connect_, size=3, answer_seconds=5, what="it")
    assert opened == []
    await lanes.do(job)
    await lanes.do(job)
    assert len(opened) == 1
    await asyncio.gather(*(lanes.do(job) for _ in range(20)))
    assert len(opened) == 3
    await lanes.close()
    assert all(connection.is_closed() for connection in opened)


async def test_a_connection_whose_answer_never_comes_is_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("watchword.store.postgres.lanes.OVERDUE_SECONDS", (0.2, 0.4))
    monkeypatch.setattr("watchword.store.postgres.lanes.PAUSE_SECONDS", (0.001, 0.002))
    opened: list[FakeConnection] = []

    async def connect_() -> FakeConnection:
        opened.append(FakeConnection())
        return opened[-1]

    async def never(connection: FakeConnection) -> None:
        await connection.ended.wait()
        raise StoreUnavailableError("cut")

    async def job(_: FakeConnection) -> bool:
        return True

    lanes = Lanes(connect_, size=1, answer_seconds=0.05, what="it")
    with pytest.raises(StoreUnavailableError, match="did not answer within"):
        await lanes.do(never)
    # Known to be in trouble: refused at once, until it is well again.
    with pytest.raises(StoreUnavailableError, match="overdue"):
        await lanes.do(job)
    give_up = time.monotonic() + 5
    answered = False
    while not answered:
        assert time.monotonic() < give_up
        with suppress(StoreUnavailableError):
            answered = await lanes.do(job)
        await asyncio.sleep(0.01)
    assert len(opened) == 2
    assert opened[0].is_closed()
    await lanes.close()
