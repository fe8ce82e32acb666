"""The file of the SQLite store: its schema, who may read it, and what is refused in its place."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import apsw
import pytest

from tests.factories import ADA, GRACE, NOW, make_token, make_user
from tests.store.support import (
    PARTNER,
    claim,
    event,
    make_application,
    make_key,
    make_owner,
    ready,
    spend,
    with_user,
)
from tests.store.test_codec import RELEASED_IN_SCHEMA_1
from tests.store.test_contract import EVENTS, USERS
from watchword.domain.application import ApplicationId
from watchword.domain.decision import Change
from watchword.domain.destination import Destination
from watchword.domain.token import Cleared, TokenId
from watchword.domain.user import UserId
from watchword.store.base import StoreCorruptError, StoreUnavailableError, UnreadableUser
from watchword.store.group import Database
from watchword.store.sqlite import SqliteStore, UnusableFileError, file_system, migrate, migrations


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def connection(file: Path) -> Iterator[Database]:
    connection = cast("Database", apsw.Connection(str(file)))
    yield connection
    connection.close()


def tables(connection: Database) -> set[str]:
    return {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    }


# --- schema -----------------------------------------------------------------------------------


def test_a_new_file_gets_every_step_once(connection: Database) -> None:
    assert migrate(connection) == len(migrations()) > 0
    assert tables(connection) == {"token", "user", "destination", "event", "application", "owner", "about"}
    assert migrate(connection) == 0


def test_an_older_file_gets_the_steps_that_it_lacks(connection: Database) -> None:
    steps = [*migrations(), "CREATE TABLE later (a); INSERT INTO later VALUES (1)"]
    migrate(connection, steps[:-1])
    connection.execute("INSERT INTO event (body) VALUES (x'00')")
    assert migrate(connection, steps) == 1
    assert migrate(connection, steps) == 0
    assert connection.execute("SELECT count(*) FROM later").get == 1
    assert connection.execute("SELECT count(*) FROM event").get == 1


def released(record: object) -> bytes:
    """Return the bytes that stood for *record* in a file of the first schema."""
    return next(bytes.fromhex(stored) for stored, known in RELEASED_IN_SCHEMA_1 if known == record)


async def test_a_file_of_the_first_schema_is_opened_with_all_that_is_in_it(
    file: Path, connection: Database
) -> None:
    migrate(connection, migrations()[:1])
    assert tables(connection) == {"token", "user", "destination", "event"}
    token, user = make_token(Cleared(NOW)), USERS[2]
    number = Destination(id=b"digest", sent_at=(NOW, NOW), version=2)
    events = [EVENTS[0], EVENTS[-1]]
    row: tuple[object, ...]
    row = token.id, token.version, token.expires_at, released(token)
    connection.execute("INSERT INTO token (id, version, expires_at, body) VALUES (?,?,?,?)", row)
    row = user.id, user.version, released(user)
    connection.execute("INSERT INTO user VALUES (?,?,?)", row)
    row = number.id, number.version, NOW, released(number)
    connection.execute("INSERT INTO destination VALUES (?,?,?,?)", row)
    for each in events:
        connection.execute("INSERT INTO event (body) VALUES (?)", (released(each),))
    store = SqliteStore.open(file)
    assert await store.token(token.id) == token
    assert await store.user(user.id) == user
    assert await store.destination(number.id) == number
    assert [each for _, each in await store.events()] == events
    assert await store.owner(b"number") is None
    assert await store.application(PARTNER) is None
    assert await spend(store, token.id)
    assert not await spend(store, token.id)
    assert await claim(store, ADA, b"number")
    assert not await claim(store, GRACE, b"number")
    assert await store.commit(Change(application=make_application(make_key())))
    await store.close()


def test_an_older_version_refuses_a_file_that_a_newer_one_upgraded(connection: Database) -> None:
    migrate(connection)
    with pytest.raises(UnusableFileError, match="newer version"):
        migrate(connection, migrations()[:-1])


def test_a_step_that_fails_leaves_the_file_as_it_was(connection: Database) -> None:
    migrate(connection)
    before = tables(connection)
    with pytest.raises(apsw.SQLError):
        migrate(connection, [*migrations(), "CREATE TABLE a (a)", "CREATE TABLE b (b); nonsense"])
    assert tables(connection) == before
    assert migrate(connection) == 0


def test_a_file_of_a_newer_version_is_refused(connection: Database, file: Path) -> None:
    migrate(connection, [*migrations(), "SELECT 1", "SELECT 1"])
    with pytest.raises(UnusableFileError, match=f"has schema {len(migrations()) + 2}.*newer version"):
        SqliteStore.open(file)


def test_the_steps_are_numbered_without_a_gap() -> None:
    folder = Path(__file__).parents[2] / "src/watchword/store/migrations/sqlite"
    names = sorted(step.name for step in folder.glob("*.sql"))
    assert [name.split("_")[0] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert len(migrations()) == len(names)


# --- what is refused --------------------------------------------------------------------------


def test_a_database_of_another_program_is_refused_and_left_alone(connection: Database, file: Path) -> None:
    connection.execute("CREATE TABLE theirs (a)")
    content = file.read_bytes()
    with pytest.raises(UnusableFileError, match="another program"):
        SqliteStore.open(file)
    assert file.read_bytes() == content


def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    content = b"Dear diary, " * 1000
    file.write_bytes(content)
    with pytest.raises(UnusableFileError, match="not an SQLite database"):
        SqliteStore.open(file)
    assert file.read_bytes() == content


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        SqliteStore.open(tmp_path / "missing" / "store.db")


MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/export /srv/shared nfs4 rw,vers=4.2 0 0
/dev/vdb /srv/shared/local xfs rw 0 0
//nas/data /mnt/with\\040space cifs rw 0 0
tmpfs /mnt/covered tmpfs rw 0 0
server:/covered /mnt/covered nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/srv/shared", "nfs4"),
        ("/srv/shared/deep/down", "nfs4"),
        ("/srv/shared/local", "xfs"),
        ("/srv/sharedbutnot", "ext4"),
        ("/mnt/with space/here", "cifs"),
        ("/mnt/covered", "nfs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.store.sqlite.file_system", lambda *_: "nfs4")
    with pytest.raises(UnusableFileError, match=r"network file system \(nfs4\)"):
        SqliteStore.open(file)
    assert not file.exists()


# --- who may read it --------------------------------------------------------------------------


async def test_only_its_owner_may_read_the_files(file: Path) -> None:
    store = SqliteStore.open(file)
    await ready(store)
    files = list(file.parent.iterdir())
    assert {path.name for path in files} == {"store.db", "store.db-wal", "store.db-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    await store.close()


async def test_closing_leaves_one_file(file: Path) -> None:
    store = SqliteStore.open(file)
    await ready(store)
    await store.close()
    assert [path.name for path in file.parent.iterdir()] == ["store.db"]


# --- damage -----------------------------------------------------------------------------------


async def test_a_row_that_was_damaged_is_reported(file: Path, connection: Database) -> None:
    store = SqliteStore.open(file)
    token, user = await ready(store), await with_user(store)
    number = Destination(id=b"digest", sent_at=(token.issued_at,), version=1)
    application, owner = make_application(make_key()), make_owner()
    change = Change(destination=number, application=application, owners=(owner,), events=(event(),))
    assert await store.commit(change)
    damage = "SET body = CAST(substr(body, 1, 9) || x'00' || substr(body, 11) AS BLOB)"
    for table in ("token", "user", "destination", "application", "owner", "event"):
        connection.execute(f"UPDATE {table} {damage}")
    for look_up in (
        store.token(token.id),
        store.user(user.id),
        store.destination(number.id),
        store.application(application.id),
        store.owner(owner.id),
        store.events(),
    ):
        with pytest.raises(StoreCorruptError):
            await look_up
    assert await store.commit(Change(user=make_user(id=GRACE)))
    # Who goes through all users is stopped by none.
    expected = {GRACE: make_user(id=GRACE), ADA: UnreadableUser(ADA)}
    assert list(await store.users()) == [expected[id_] for id_ in sorted(expected)]
    await store.close()


async def test_a_row_under_the_key_of_another_is_reported(file: Path, connection: Database) -> None:
    store = SqliteStore.open(file)
    for name in (b"one", b"two"):
        number = Destination(id=name, sent_at=(make_token().issued_at,), version=1)
        assert await store.commit(Change(token=make_token(id=name), destination=number))
        application = make_application(id=ApplicationId(name.decode()))
        assert await store.commit(Change(application=application, owners=(make_owner(id=name),)))
    assert await store.commit(Change(user=make_user(id=ADA)))
    connection.execute("UPDATE token SET body = (SELECT body FROM token WHERE id = CAST('one' AS BLOB))")
    connection.execute("UPDATE destination SET body = (SELECT body FROM destination LIMIT 1)")
    connection.execute("UPDATE application SET body = (SELECT body FROM application WHERE id = 'one')")
    connection.execute("UPDATE owner SET body = (SELECT body FROM owner WHERE id = CAST('one' AS BLOB))")
    connection.execute("UPDATE user SET id = id + 1")
    for look_up in (
        store.token(TokenId(b"two")),
        store.destination(b"two"),
        store.application(ApplicationId("two")),
        store.owner(b"two"),
        store.user(UserId(ADA + 1)),
    ):
        with pytest.raises(StoreCorruptError, match="of another"):
            await look_up
    await store.close()
