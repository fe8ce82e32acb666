"""The bounded torture of PostgreSQL: real servers that die, fail over and lose their power under load."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults import load
from tests.faults.checker import Rule
from tests.faults.history import FaultKind, Outcome
from tests.faults.postgres import Postgres
from tests.faults.torture import Chapter, report, torture

pytestmark = pytest.mark.slow


def _told(chapter: Chapter) -> str:
    return "\n".join([f"seed {chapter.seed}", *map(str, chapter.violations), *chapter.unexpected])


@pytest.mark.attack(155)
@pytest.mark.attack(157)
@pytest.mark.attack(158)
def test_with_a_synchronous_standby_nothing_acknowledged_is_lost_whatever_dies(tmp_path: Path) -> None:
    kinds = {FaultKind.STORE_KILLED, FaultKind.FAIL_OVER, FaultKind.POWER_LOST, FaultKind.CUT_AFTER}
    seed = random.randrange(2**32)
    chapter = asyncio.run(
        torture(Postgres(), tmp_path, seed=seed, seconds=4, least=20, only=frozenset(kinds))
    )
    print(report([chapter]))
    assert not chapter.violations, _told(chapter)
    assert not chapter.unexpected, _told(chapter)
    assert chapter.faults.total() > 1
    assert chapter.outcomes[Outcome.OK] > 50
    assert chapter.runs > 10


@pytest.mark.attack(158)
def test_a_fail_over_to_a_standby_that_lags_is_caught_without_the_fence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of a fail-over."""
    # Many have cleared what they come back to while the standby lags, and come back to all of it.
    for name, value in {"LATER": 1.0, "KEPT": 4, "REMEMBERED": 30, "NEW_PIN": 0.0}.items():
        monkeypatch.setattr(load, name, value)
    broken = set[Rule]()
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir(mode=0o700)
        store, only = Postgres(synchronous=False, fence="off"), frozenset({FaultKind.FAIL_OVER})
        chapter = asyncio.run(torture(store, folder, seed=seed, seconds=2, before=50, only=only))
        assert chapter.faults[FaultKind.FAIL_OVER] > 0
        broken = {violation.rule for violation in chapter.violations}
        if Rule.SPENT_TWICE in broken:
            break  # Mostly it is the first; it may be that nobody came back at that moment.
    assert Rule.SPENT_TWICE in broken


def test_a_power_loss_is_caught_where_a_commit_is_not_waited_for(tmp_path: Path) -> None:
    """The negative control of losing power: the same with ``synchronous_commit = off``."""
    store, only = Postgres(synchronous=False), frozenset({FaultKind.POWER_LOST})
    chapter = asyncio.run(
        torture(store, tmp_path, seed=1, seconds=1, before=20, weakness="syncs-nothing", only=only)
    )
    broken = {violation.rule for violation in chapter.violations}
    assert broken >= {Rule.MISSING_EVENT, Rule.LOST_VERIFICATION}
