"""
The bounded torture: a real server, killed and broken under load; and the same where it must be noticed.

``make torture`` is the long version, with every fault many times.
"""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults import load
from tests.faults.checker import Rule, Violation
from tests.faults.history import FaultKind, Outcome
from tests.faults.power import lose_power
from tests.faults.torture import Chapter, cut_power, main, report, results, torture
from tests.faults.under_test import Sqlite
from tests.faults.valkey import ValkeyCluster
from watchword.store.sqlite import Synchronous

# Closing a file fails in several ways on a disk without power, and SQLite can report but one.
without_power = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)
CRASHES = frozenset({FaultKind.SERVER_KILLED})
MARGIN_SECONDS = 3.0
"""What a busy machine takes besides."""


def _told(chapter: Chapter) -> str:
    return "\n".join([f"seed {chapter.seed}", *map(str, chapter.violations), *chapter.unexpected])


@pytest.mark.slow
@pytest.mark.attack(152)
@pytest.mark.attack(154)
@pytest.mark.attack(155)
def test_whatever_fails_nothing_happens_that_must_not(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    chapter = asyncio.run(torture(Sqlite(), tmp_path, seed=seed, seconds=6, least=20))
    print(report([chapter]))
    assert not chapter.violations, _told(chapter)
    assert not chapter.unexpected, _told(chapter)
    assert chapter.outcomes[Outcome.OK] > 50
    assert chapter.runs > 10
    assert chapter.faults.total() > 1


@pytest.mark.slow
@pytest.mark.attack(152)
def test_a_server_that_acknowledges_before_it_writes_is_caught_by_killing_it(tmp_path: Path) -> None:
    """The negative control: what proves the others would prove nothing if this were not noticed."""
    chapter = asyncio.run(
        torture(Sqlite(), tmp_path, seed=1, seconds=1.5, weakness="writes-behind", only=CRASHES)
    )
    assert chapter.faults[FaultKind.SERVER_KILLED] > 0
    broken = {violation.rule for violation in chapter.violations}
    assert Rule.MISSING_EVENT in broken
    assert broken & {Rule.SPENT_TWICE, Rule.LOST_VERIFICATION, Rule.TOO_MANY_GUESSES}


# --- a cluster of Valkey ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.attack(155)
@pytest.mark.attack(158)
def test_a_cluster_that_waits_loses_nothing_whichever_of_it_fails(tmp_path: Path) -> None:
    chapter = asyncio.run(
        torture(
            ValkeyCluster(),
            tmp_path,
            seed=random.randrange(2**32),
            seconds=4,
            before=10,
            only=frozenset(
                {FaultKind.FAIL_OVER, FaultKind.PARTITION, FaultKind.STORE_FROZEN, FaultKind.CUT_AFTER}
            ),
        )
    )
    print(report([chapter]))
    assert not chapter.violations, _told(chapter)
    assert not chapter.unexpected, _told(chapter)
    assert not chapter.lost
    assert chapter.faults.total() > 0
    assert chapter.outcomes[Outcome.OK] > 50


@pytest.mark.slow
@pytest.mark.attack(158)
def test_a_cluster_with_neither_wait_nor_fence_is_caught_at_a_second_spending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what proves the others would prove nothing if this were not noticed."""
    # Many have cleared what they come back to while the replica lags, and come back to all of it.
    monkeypatch.setattr("tests.faults.torture.PAYERS", 20)
    for name, value in {"LATER": 1.0, "KEPT": 4, "REMEMBERED": 30, "NEW_PIN": 0.0}.items():
        monkeypatch.setattr(load, name, value)
    broken = set[Rule]()
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir(mode=0o700)
        chapter = asyncio.run(
            torture(
                ValkeyCluster(waits=False),
                folder,
                seed=seed,
                seconds=2,
                before=40,
                weakness="no-fence",
                only=frozenset({FaultKind.FAIL_OVER}),
            )
        )
        assert chapter.faults[FaultKind.FAIL_OVER] > 0
        assert chapter.lost["token.spent"] + chapter.lost["token.reserved"] > 0
        broken = {violation.rule for violation in chapter.violations}
        if Rule.SPENT_TWICE in broken:
            break  # Mostly it is the first; it may be that nobody came back at that moment.
    assert Rule.SPENT_TWICE in broken


# --- SQLite -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(FaultKind.DISK_FULL, marks=pytest.mark.attack(154)),
        pytest.param(FaultKind.FILE_LOCKED, marks=pytest.mark.attack(155)),
    ],
)
def test_a_store_that_cannot_write_is_told_within_two_seconds_and_recovers_by_itself(
    tmp_path: Path, fault: FaultKind
) -> None:
    # By this seed the one fault comes soon, and lasts longer than a write waits.
    chapter = asyncio.run(torture(Sqlite(), tmp_path, seed=5, seconds=1, only=frozenset({fault})))
    assert not chapter.violations, _told(chapter)
    assert not chapter.unexpected, _told(chapter)
    # The control: it was noticed at all. That the same server paid again afterwards, the chapter saw to.
    assert 0 < max(chapter.slowest.values()) < 2 + MARGIN_SECONDS
    assert chapter.outcomes[Outcome.UNKNOWN] > 0


@without_power
async def test_the_power_may_fail_under_the_engine_at_any_moment(tmp_path: Path) -> None:
    chapter = await cut_power(tmp_path / "power", seed=random.randrange(2**32), losses=15)
    assert not chapter.violations, _told(chapter)
    assert chapter.outcomes[Outcome.UNKNOWN] > 0
    assert chapter.events > 100


@without_power
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
async def test_the_same_is_caught_where_less_is_synced(tmp_path: Path, synchronous: Synchronous) -> None:
    lost = await lose_power(tmp_path / "power", seed=3, losses=15, synchronous=synchronous, torn=False)
    broken = {violation.rule for violation in lost.violations}
    assert broken >= {Rule.MISSING_EVENT, Rule.LOST_VERIFICATION}


def test_the_table_and_the_file_of_results_tell_what_was_done_and_found() -> None:
    chapter = Chapter("sqlite", 17, seconds=60.0, runs=3, events=9)
    chapter.faults[FaultKind.SERVER_KILLED] = 2
    chapter.slowest[FaultKind.SERVER_KILLED] = 1.5
    chapter.outcomes.update({Outcome.OK: 5, Outcome.UNKNOWN: 1})
    chapter.violations = [Violation(Rule.SPENT_TWICE, "here")]
    table = report([chapter, chapter])
    assert table.splitlines()[1].split() == ["sqlite", "server", "killed", "4", "1.50", "s"]
    assert table.splitlines()[-1].split() == ["sqlite", "2.0", "12", "10", "0", "2", "6", "18", "2"]
    (first, _) = results([chapter, chapter])
    assert first["violations"] == ["SPENT_TWICE: an OTT let two requests through: here"]
    assert first["faults"] == {"server killed": 2}


def test_a_violation_makes_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Violation] = []

    def chapters(name: str, folder: Path, seed: int, seconds: float) -> list[Chapter]:
        monkeypatch.setattr("tests.faults.torture.time.monotonic", lambda: float("inf"))
        return [Chapter(name, seed, violations=found)]

    for expected in (0, 1):
        with monkeypatch.context() as patched:
            patched.setattr("tests.faults.torture._chapters", chapters)
            patched.setattr("sys.argv", ["torture", "--seed", "17", "--results", str(tmp_path / "r.json")])
            assert main() == expected
        monkeypatch.undo()
        found.append(Violation(Rule.SPENT_TWICE, "here"))
    out = capsys.readouterr().out
    assert "seed 17" in out
    assert str(tmp_path / "torture-sqlite-17.jsonl") in out
