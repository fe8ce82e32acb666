"""The bounded torture of a split store: both sides of it die, fail over and are cut off under load."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults import load
from tests.faults.checker import Rule
from tests.faults.history import FaultKind, Outcome, Verb
from tests.faults.split import Split
from tests.faults.torture import Chapter, report, torture

pytestmark = [pytest.mark.slow, pytest.mark.attack(158)]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let people change their PIN all the time, which is what reaches both sides."""
    monkeypatch.setattr(load, "NEW_PIN", 0.5)


def _changes(chapter: Chapter) -> int:
    return sum(each.verb is Verb.ENROL and each.outcome is Outcome.OK for each in chapter.history.operations)


@pytest.mark.attack(155)
def test_a_split_store_loses_nothing_whichever_side_of_it_fails(tmp_path: Path) -> None:
    kinds = {FaultKind.STORE_KILLED, FaultKind.FAIL_OVER, FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER}
    seed = random.randrange(2**32)
    chapter = asyncio.run(torture(Split(), tmp_path, seed=seed, seconds=4, before=10, only=frozenset(kinds)))
    print(report([chapter]))
    told = "\n".join([f"seed {seed}", *map(str, chapter.violations), *chapter.unexpected])
    assert not chapter.violations, told
    assert not chapter.unexpected, told
    assert not chapter.lost
    assert chapter.faults.total() > 3
    assert _changes(chapter) > 50


def test_a_standby_of_users_that_lags_is_caught(tmp_path: Path) -> None:
    """The negative control."""
    chapter = asyncio.run(
        torture(
            Split(synchronous=False),
            tmp_path,
            seed=1,
            seconds=1,
            before=10,
            only=frozenset({FaultKind.FAIL_OVER}),
        )
    )
    assert _changes(chapter) > 50
    assert Rule.MISSING_EVENT in {violation.rule for violation in chapter.violations}
