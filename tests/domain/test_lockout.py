"""Counting failures: what locks, what resets, what disables."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from tests.factories import NOW
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.lockout import NO_ATTEMPTS, Attempts, Tally, disable_after
from watchword.domain.method import Factor

LIMITS = Limits()
K, P, INHERENCE = Factor.KNOWLEDGE, Factor.POSSESSION, Factor.INHERENCE

steps = st.lists(st.tuples(st.sampled_from(Factor), st.booleans()), max_size=60)


def failed(*factors: Factor, since: Attempts = NO_ATTEMPTS, now: Instant = NOW) -> Attempts:
    for factor in factors:
        since = since.failed(factor, limits=LIMITS, now=now)
    return since


def test_four_failures_do_not_lock_the_fifth_does_and_a_sixth_is_never_counted() -> None:
    assert not failed(K, K, K, K).is_locked(NOW)
    assert failed(K, K, K, K).left(K, LIMITS) == 1
    assert failed(K, K, K, K, K).is_locked(NOW)


def test_five_failures_of_different_factors_in_a_row_lock() -> None:
    assert not failed(K, P, K, P).is_locked(NOW)
    assert failed(K, P, K, P, INHERENCE).is_locked(NOW)


def test_a_lock_ends_by_time_alone_to_the_millisecond() -> None:
    attempts = failed(K, K, K, K, K)
    end = after(NOW, LIMITS.lock_seconds)
    assert attempts.locked_until == end
    assert attempts.is_locked(Instant(end - 1))
    assert not attempts.is_locked(end)
    assert not attempts.is_locked(Instant(end + 1))


@pytest.mark.attack(50)
def test_four_wrong_one_right_four_wrong_does_not_lock_and_the_next_wrong_one_does() -> None:
    attempts = failed(K, K, K, K, since=failed(K, K, K, K).succeeded(K))
    assert not attempts.is_locked(NOW)
    assert failed(K, since=attempts).is_locked(NOW)


@pytest.mark.attack(49)
def test_a_success_of_one_factor_between_failures_of_another_does_not_save_it() -> None:
    attempts = failed(K, K, K, K).succeeded(P)
    assert attempts.left(K, LIMITS) == 1
    assert failed(K, since=attempts).is_locked(NOW)


def test_a_lock_consumes_the_counts_that_led_to_it_but_not_the_streak() -> None:
    attempts = failed(K, K, K, K, K)
    assert (attempts.failures, attempts.consecutive) == (Tally(), 0)
    assert attempts.streak.of(K) == 5
    later = after(NOW, LIMITS.lock_seconds)
    assert not failed(K, K, K, K, since=attempts, now=later).is_locked(later)
    assert failed(K, K, K, K, K, since=attempts, now=later).is_locked(later)


@pytest.mark.attack(49)
def test_a_lock_leaves_the_counts_that_did_not_lead_to_it() -> None:
    attempts = failed(K, K, K, K, K, since=failed(P, P, P, P).succeeded(K))
    assert attempts.failures == Tally(possession=4)
    later = after(NOW, LIMITS.lock_seconds)
    assert failed(P, since=attempts, now=later).is_locked(later)


@pytest.mark.attack(55)
def test_the_streak_of_a_factor_ends_with_its_success_alone() -> None:
    attempts = failed(K, K, P).succeeded(P)
    assert (attempts.streak.of(K), attempts.streak.of(P)) == (2, 0)


def test_each_factor_has_its_own_cap() -> None:
    assert [disable_after(factor, LIMITS) for factor in (K, P, INHERENCE)] == [10, 100, 50]


@given(factor=st.sampled_from(Factor), other=st.sampled_from(Factor), count=st.integers(0, 200))
def test_a_tally_changes_the_count_of_one_factor_only(factor: Factor, other: Factor, count: int) -> None:
    before = Tally(7, 8, 9)
    assert before.with_(factor, count).of(other) == (count if other is factor else before.of(other))


@dataclass
class Model:
    """The rule in plain words: the plain history, counted anew at every step."""

    history: list[tuple[Factor, bool]] = field(default_factory=list[tuple[Factor, bool]])
    consumed: dict[Factor | None, int] = field(default_factory=dict[Factor | None, int])

    def since_success(self, factor: Factor | None) -> int:
        """Count the failures of *factor* since its last success; of all since any, where it is None."""
        count = 0
        for tried, right in reversed(self.history[self.consumed.get(factor, 0) :]):
            if factor is None or tried is factor:
                if right:
                    break
                count += 1
        return count

    def locks(self) -> bool:
        return any(self.since_success(factor) >= 5 for factor in (*Factor, None))

    def consume(self) -> None:
        """Forget what led to the lock, and nothing else."""
        for factor in (*Factor, None):
            if factor is None or self.since_success(factor) >= 5:
                self.consumed[factor] = len(self.history)


@pytest.mark.attack(44)
@given(steps=steps)
def test_the_user_is_locked_exactly_when_the_contract_says_so(steps: list[tuple[Factor, bool]]) -> None:
    attempts, now, model = NO_ATTEMPTS, NOW, Model()
    for factor, right in steps:
        before = attempts
        attempts = attempts.succeeded(factor) if right else attempts.failed(factor, limits=LIMITS, now=now)
        model.history.append((factor, right))
        for other in set(Factor) - {factor}:
            if right:
                assert attempts.failures.of(other) == before.failures.of(other)
                assert attempts.streak.of(other) == before.streak.of(other)
        assert attempts.is_locked(now) == model.locks()
        if attempts.is_locked(now):
            now = attempts.locked_until
            model.consume()
        else:
            counted = [attempts.failures.of(each) for each in Factor]
            assert counted == [model.since_success(each) for each in Factor]
            assert attempts.consecutive == model.since_success(None)
            assert all(attempts.left(each, LIMITS) >= 1 for each in Factor)
