"""
The statements of the PostgreSQL store.

A commit is one statement, and so one transaction and one round trip, in the default READ COMMITTED. It
does three things in turn, each resting on the one before:

1. ``held_…``: lock the stored rows of the change, each by id *and* version. A row that another
   transaction is changing is waited for, and its condition is then evaluated again on what was
   committed (EvalPlanQual): a row whose version moved is not held.
2. ``put_…``: if all of them are held, write all rows. The swap compares once more: on a conflict of
   ids it looks at the newest row, locked, and overwrites only the version that the change was made
   from. So what a statement's snapshot does not show yet, a new row of somebody else's, is not
   overwritten either.
3. ``told``: if all rows were written, insert the events.

The answer is 1 if all was written, -1 if nothing was. If only a part was (a record that both of two
changes begin, beside another one) the division fails, and takes the whole statement back.

Rows are locked in one order, by table and then by id, so that two changes wait for each other in one
direction only. One statement changes each table once: some databases that speak PostgreSQL's language
ask for that.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from watchword.store.postgres.connection import Fence
from watchword.store.rows import Key, Row, Rows

PARTLY_WRITTEN = "22012"
"""The state of the statement that fails on purpose: division by zero."""

STORED = 1

_TABLES = ("owner", "application", "destination", "user", "token", "decision")
"""The order in which rows are locked."""
_LOCKED = ("held_owner", "held_application", "held_destination", "held_user", "seen", "held_token")
_NAMES = {table: table for table in _TABLES} | {"user": "user_security"}
_KEYS = dict.fromkeys(_TABLES, "bytea") | {"user": "bigint"}
_MOMENTS = {"token": "expires_at", "destination": "last_at"}
"""What a sweep looks for."""


class Part(NamedTuple):
    """How many rows of one table a change has: such as are stored already, and such as it begins."""

    table: str
    stored: int
    begun: int


def commit(rows: Rows, fence: Fence) -> tuple[str, list[object]]:
    """Return the statement that stores a change, and its arguments."""
    changed: dict[str, list[Row]] = {}
    for table, row in rows.rows:
        changed.setdefault(table, []).append(row)
    shape: list[Part] = []
    arguments: list[object] = []
    for table in _TABLES:
        if table in changed:
            # Those to be locked first, in the order of their ids.
            ordered = sorted(changed[table], key=lambda row: (row.version == 1, row.key))
            begun = sum(row.version == 1 for row in ordered)
            shape.append(Part(table, len(ordered) - begun, begun))
            for row in ordered:
                arguments += (stored_key(table, row.key), row.version, row.body)
                if table in _MOMENTS:
                    arguments.append(row.at)
    if rows.seen is not None:
        arguments += (rows.seen.id, rows.seen.version)
    arguments += rows.events
    return _commit(tuple(shape), rows.seen is not None, len(rows.events), fence), arguments


def keys(rows: Rows) -> list[tuple[str, Key]]:
    """Return what a change meets others on."""
    met = [(table, row.key) for table, row in rows.rows]
    return met if rows.seen is None else [*met, ("user", rows.seen.id)]


def stored_key(table: str, key: Key) -> Key:
    """Return the key that a record is stored under."""
    # Names of applications are told apart by their bytes.
    return key.encode("utf-8", "surrogatepass") if table == "application" and isinstance(key, str) else key


@cache
def _commit(shape: Sequence[Part], seen: bool, events: int, fence: Fence) -> str:  # noqa: FBT001 - one of two statements.
    numbers = iter(range(1, 1 << 15))
    steps: list[str] = []
    held: Counter[str] = Counter()
    rows: dict[str, list[str]] = {}
    for part in shape:
        columns = ["id", "version", "body", *([_MOMENTS[part.table]] if part.table in _MOMENTS else [])]
        types = dict(zip(columns, (_KEYS[part.table], "bigint", "bytea", "bigint"), strict=False))
        rows[part.table] = []
        conditions: list[str] = []
        for index in range(part.stored + part.begun):
            values = {column: f"${next(numbers)}::{type_}" for column, type_ in types.items()}
            rows[part.table].append(f"({', '.join(values.values())})")
            if index < part.stored:
                conditions.append(f"id = {values['id']} AND version = {values['version']} - 1")
        if conditions:
            steps.append(_held(part.table, conditions, fence))
            held[f"held_{part.table}"] = len(conditions)
    if seen:
        steps.append(
            f"seen AS (SELECT 1 FROM user_security WHERE id = ${next(numbers)}::bigint"
            f" AND version = ${next(numbers)}::bigint FOR SHARE)"
        )
        held["seen"] = 1
    # In the order of the tables, a user who is only seen as well as one who is changed.
    ordered = sorted(held.items(), key=lambda each: _LOCKED.index(each[0]))
    fits = " AND ".join(f"(SELECT count(*) FROM {name}) = {count}" for name, count in ordered) or "true"
    steps.append(f"fits AS (SELECT 1 WHERE {fits})")
    steps += [_put(part.table, rows[part.table], fence) for part in shape]
    put = " + ".join(f"(SELECT count(*) FROM put_{part.table})" for part in shape)
    wanted = sum(part.stored + part.begun for part in shape)
    # Without rows of its own a change has only what it saw to rest on.
    put = put or "(SELECT count(*) FROM fits)"
    wanted = wanted or 1
    steps.append(f"put AS (SELECT {put} AS rows)")
    if events:
        bodies = ", ".join(f"({number}, ${next(numbers)}::bytea)" for number in range(events))
        steps.append(
            f"told AS (INSERT INTO event_inbox (body)"
            f" SELECT body FROM put, (VALUES {bodies}) AS new (number, body)"
            f" WHERE put.rows = {wanted} ORDER BY number)"
        )
    told = f"1 / (CASE rows WHEN {wanted} THEN 1 WHEN 0 THEN -1 ELSE 0 END)"
    return f"WITH {', '.join(steps)} SELECT {told} FROM put"


def _held(table: str, conditions: Sequence[str], fence: Fence) -> str:
    where = " OR ".join(conditions)
    if table == "token" and fence.compared:
        where = f"({where}) AND lineage = (SELECT {fence.lineage})"
    order = " ORDER BY id" if len(conditions) > 1 else ""
    return f"held_{table} AS (SELECT 1 FROM {_NAMES[table]} WHERE {where}{order} FOR UPDATE)"


def _put(table: str, rows: Sequence[str], fence: Fence) -> str:
    name = _NAMES[table]
    columns = "id, version, body"
    moved = "version = excluded.version, body = excluded.body"
    if table in _MOMENTS:
        columns += f", {_MOMENTS[table]}"
    values = columns
    if table == "token":
        # It keeps the lineage it was issued on, and its expiry.
        columns += ", lineage"
        values += f", {fence.lineage}"
    elif table in _MOMENTS:
        moved += f", {_MOMENTS[table]} = excluded.{_MOMENTS[table]}"
    return (
        f"put_{table} AS (INSERT INTO {name} AS old ({columns})"
        f" SELECT {values} FROM fits, (VALUES {', '.join(rows)}) AS new ({columns.removesuffix(', lineage')})"
        f" ON CONFLICT (id) DO UPDATE SET {moved} WHERE old.version = excluded.version - 1 RETURNING 1)"
    )


def look_up(table: str, fence: Fence) -> str:
    """Return the statement that finds one record."""
    valid = f" AND lineage = (SELECT {fence.lineage})" if table == "token" and fence.compared else ""
    return f"SELECT body FROM {_NAMES[table]} WHERE id = $1{valid}"


def sweep(table: str) -> str:
    """Return the statement that removes what is over, a little of it, past what others hold."""
    moment = _MOMENTS[table]
    return (
        f"WITH gone AS (DELETE FROM {table} WHERE id IN"
        f" (SELECT id FROM {table} WHERE {moment} <= $1 ORDER BY {moment} LIMIT $2 FOR UPDATE SKIP LOCKED)"
        f" AND {moment} <= $1 RETURNING 1) SELECT count(*) FROM gone"
    )


USERS = "SELECT id, body FROM user_security WHERE id > $1 ORDER BY id LIMIT $2"
ALL_USERS = "SELECT id, body FROM user_security ORDER BY id LIMIT $1"

PING = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"

# --- the trail --------------------------------------------------------------------------------

EVENTS = "SELECT seq, body FROM event WHERE seq > $1 ORDER BY seq LIMIT $2"
UNNUMBERED = "SELECT EXISTS (SELECT 1 FROM event_inbox)"
LAST = "SELECT seq FROM event_last WHERE id = 1 FOR UPDATE"
NUMBER = """
WITH moved AS (
  DELETE FROM event_inbox WHERE id IN (SELECT id FROM event_inbox ORDER BY id LIMIT $2) RETURNING id, body
), numbered AS (
  INSERT INTO event (seq, body)
  SELECT $1::bigint + row_number() OVER (ORDER BY id), body FROM moved
)
SELECT count(*) FROM moved
"""
MOVE_LAST = "UPDATE event_last SET seq = $1 WHERE id = 1"
FORGET = (
    "WITH gone AS (DELETE FROM event"
    " WHERE seq IN (SELECT seq FROM event WHERE seq <= $1 ORDER BY seq LIMIT $2) RETURNING 1)"
    " SELECT count(*) FROM gone"
)
