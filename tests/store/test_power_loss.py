"""
Power loss: what was acknowledged is there again, and nothing that was spent is ready once more.

The disk of ``tests.store.disk`` forgets what was not synced. The power goes at a random moment of
a running load, be it in the middle of a commit or of copying the log; the next round goes on with
what survived. The same test must lose something where SQLite is told to sync less: if it did
not, it would prove nothing.
"""

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import apsw
import pytest

from tests.factories import NOW, PAY, PAYMENT, make_token, make_user
from tests.store.disk import Disk
from tests.store.support import LIMITS, event, next_user
from watchword.domain import verbs
from watchword.domain.decision import Change
from watchword.domain.instant import after
from watchword.domain.owner import Owner
from watchword.domain.token import Cleared, OneTimeToken, Spent, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import StoreUnavailableError
from watchword.store.sqlite import SqliteStore, Synchronous

# Closing a file fails in several ways on a disk without power, and SQLite can report but one.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)

ROUNDS = 200
ROUNDS_WITH_ONE_FILE = 20
CLIENTS = 6
CHECKPOINT_PAGES = 40
"""So few that the log is copied several times in a round."""


@dataclass(slots=True)
class Acknowledged:
    """What clients were told is stored: of each record the newest version."""

    tokens: dict[TokenId, OneTimeToken] = field(default_factory=dict)
    users: dict[UserId, UserSecurity] = field(default_factory=dict)


@dataclass(slots=True)
class Lost:
    """What was acknowledged and is not there."""

    tokens: int = 0
    users: int = 0
    owners: int = 0
    spendings: int = 0

    def __bool__(self) -> bool:
        return bool(self.tokens or self.users or self.owners or self.spendings)


async def _client(store: SqliteStore, user: UserSecurity, acknowledged: Acknowledged, chance: Random) -> None:
    """Clear and spend one token after the other, until the store does not answer any more."""
    while True:
        token = make_token(Cleared(NOW), id=chance.randbytes(32), user_id=user.id)
        for version in (1, 2, 3):
            if version < 3:
                token = replace(token, version=version)
                claim = Owner(id=token.id, version=version - 1).taken(user.id)
                change = Change(token=token, owners=(claim,), events=(event(),))
            else:
                spending = verbs.spend(token, action=PAYMENT, binding=PAY, limits=LIMITS, now=after(NOW, 1))
                assert isinstance(spending, Change)
                assert spending.token is not None
                token, change = spending.token, spending
            user = next_user(user)
            assert await store.commit(replace(change, user=user))
            acknowledged.tokens[token.id] = token
            acknowledged.users[user.id] = user


async def _until_the_power_goes(
    folder: Path, acknowledged: Acknowledged, *, chance: Random, synchronous: Synchronous, torn: bool
) -> None:
    """Run clients over the file in *folder*, cut the power, and leave there what survived."""
    moment = chance.randrange(2_000) if chance.random() < 0.5 else chance.randrange(100)
    with Disk(folder) as disk:

        def perhaps() -> None:
            if disk.operations >= moment:
                disk.cut_power()

        disk.on_operation = perhaps
        with suppress(StoreUnavailableError):
            store = SqliteStore.open(
                folder / "store.db",
                vfs=disk.name,
                synchronous=synchronous,
                checkpoint_pages=CHECKPOINT_PAGES,
            )
            clients = [
                _client(store, await _user(store, UserId(number)), acknowledged, chance)
                for number in range(CLIENTS)
            ]
            ends = await asyncio.gather(*clients, return_exceptions=True)
            assert all(isinstance(end, StoreUnavailableError) for end in ends), ends
            await store.close()
        disk.cut_power()
        disk.salvage(folder, chance if torn else None)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


async def _user(store: SqliteStore, user_id: UserId) -> UserSecurity:
    return await store.user(user_id) or replace(make_user(id=user_id), version=0)


async def _compare(folder: Path, acknowledged: Acknowledged) -> Lost:
    """Open what survived, and compare it with what was acknowledged."""
    lost = Lost()
    store = SqliteStore.open(folder / "store.db")
    for token in acknowledged.tokens.values():
        stored = await store.token(token.id)
        lost.tokens += stored is None or stored.version < token.version
        owner = await store.owner(token.id)
        lost.owners += (
            owner is None or owner.version < min(token.version, 2) or owner.user_id != token.user_id
        )
        lost.spendings += isinstance(token.state, Spent) and (stored is None or stored.state != token.state)
    for user in acknowledged.users.values():
        found = await store.user(user.id)
        lost.users += found is None or found.version < user.version
    # Each change wrote a user and one event: both, or neither.
    users = [await _user(store, UserId(number)) for number in range(CLIENTS)]
    assert len(await store.events(limit=10**6)) == sum(user.version for user in users)
    await store.close()
    connection = apsw.Connection(str(folder / "store.db"))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
    return lost


async def _lose_power(
    folder: Path, *, rounds: int, seed: int, synchronous: Synchronous, torn: bool
) -> tuple[int, int]:
    """Lose power *rounds* times; return how often something was lost, and how much was acknowledged."""
    chance = Random(seed)
    acknowledged, lossy, total = Acknowledged(), 0, 0
    for number in range(rounds):
        if not number % ROUNDS_WITH_ONE_FILE:
            _empty(folder)
            total += len(acknowledged.tokens)
            acknowledged = Acknowledged()
        await _until_the_power_goes(
            folder, acknowledged, chance=chance, synchronous=synchronous, torn=torn and bool(number % 2)
        )
        if await _compare(folder, acknowledged):
            lossy += 1
            acknowledged = Acknowledged()  # Counted; the next round starts from what is there.
    return lossy, total + len(acknowledged.tokens)


@pytest.mark.slow
async def test_no_acknowledged_change_is_lost_with_the_power(tmp_path: Path) -> None:
    lossy, acknowledged = await _lose_power(
        tmp_path / "disk", rounds=ROUNDS, seed=1, synchronous="FULL", torn=True
    )
    print(f"{acknowledged} tokens acknowledged over {ROUNDS} power losses")
    assert lossy == 0
    assert acknowledged > ROUNDS


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
async def test_the_same_loses_acknowledged_changes_where_less_is_synced(
    tmp_path: Path, synchronous: Synchronous
) -> None:
    lossy, _ = await _lose_power(tmp_path / "disk", rounds=10, seed=2, synchronous=synchronous, torn=False)
    assert lossy > 0
