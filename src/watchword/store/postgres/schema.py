"""
The schema of the PostgreSQL store, and how it is brought up to date.

Steps are numbered and go forward only. Two releases can share a database while one takes over from the
other: a step first *expands* (a new table, a column that may be empty, what the older release does not
see), and a later release *contracts* once nobody needs the old form. So the database keeps two numbers:
the schema it has, and the oldest one whose releases can still work with it. A release that knows less is
refused. A step that expands says which one that is (``-- needs: 4``); one that says nothing is for nobody
who does not know it.
"""

from collections.abc import Sequence

import asyncpg  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

from watchword.store.base import UnusableStoreError
from watchword.store.migrations import needed_by, steps as migration_steps
from watchword.store.postgres.connection import Connection, state
from watchword.store.postgres.settings import PostgresSettings

_VERSION = "SELECT version, oldest FROM schema_version WHERE id = 1"
_BEGIN = """
CREATE TABLE IF NOT EXISTS schema_version (
  id      bigint NOT NULL PRIMARY KEY,
  version bigint NOT NULL,
  oldest  bigint NOT NULL
);
INSERT INTO schema_version (id, version, oldest) VALUES (1, 0, 1) ON CONFLICT (id) DO NOTHING
"""
_TAKEN = "UPDATE schema_version SET version = $1, oldest = greatest(oldest, $2) WHERE id = 1"
_NO_SUCH_TABLE = "42P01"
_NOT_ALLOWED = "42501"
# What the loser of two that make a table at once may be told.
_MADE_BY_ANOTHER = {"23505", "42710", "42P06", "42P07"}
_TRIES = 5
_STEP_SECONDS = 600


def known() -> list[str]:
    """Return the steps that this release knows, in order."""
    return list(migration_steps("postgres").values())


async def pending(connection: Connection, steps: Sequence[str] | None = None) -> int:
    """
    Return how many steps the database is behind.

    Raises:
        UnusableStoreError: It is too new for this release.
    """
    steps = known() if steps is None else steps
    try:
        row = await connection.fetchrow(_VERSION)
    except asyncpg.PostgresError as error:
        if state(error) != _NO_SUCH_TABLE:
            raise
        return len(steps)
    version, oldest = row or (0, 1)
    if oldest > len(steps):
        raise UnusableStoreError(
            f"the database has schema {version}, for releases that know schema {oldest}, and this one knows"
            f" schemas up to {len(steps)}: start a newer one"
        )
    return max(0, len(steps) - version)


async def migrate(
    connection: Connection, settings: PostgresSettings, steps: Sequence[str] | None = None
) -> int:
    """
    Bring the database to the newest schema; of processes that start at once one does it.

    Returns:
        How many steps were taken.

    Raises:
        UnusableStoreError: It is too new for this release, or the user may not change it.
    """
    steps = known() if steps is None else steps
    if not await pending(connection, steps):
        return 0
    try:
        await _begin(connection, settings.schema)
        # A step may take as long as it takes, and waits for whoever takes one.
        await connection.execute(
            f"SET statement_timeout = '{_STEP_SECONDS}s'; SET lock_timeout = '{_STEP_SECONDS}s'"
        )
        async with connection.transaction():
            # The row is the lock; what it says counts once we have it.
            await connection.execute(f"{_VERSION} FOR UPDATE")
            behind = await pending(connection, steps)
            for number, step in list(enumerate(steps, start=1))[len(steps) - behind :]:
                await connection.execute(step)
                await connection.execute(_TAKEN, number, needed_by(step, number))
    except asyncpg.PostgresError as error:
        if state(error) != _NOT_ALLOWED:
            raise
        raise UnusableStoreError(
            f"the database has to be brought to schema {len(steps)}, which this user may not do ({error}):"
            " run `watchword migrate` as one who may, or GRANT CREATE"
        ) from error
    return behind


async def _begin(connection: Connection, schema: str) -> None:
    """Make the schema and the table that tells its version, if they are not there."""
    for attempt in range(_TRIES):
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
                # Asked first: it takes a right that a user may lack whose schema is there already.
                await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            await connection.execute(_BEGIN)
        except asyncpg.PostgresError as error:
            if state(error) not in _MADE_BY_ANOTHER or attempt == _TRIES - 1:
                raise
        else:
            return
