"""Who fails many times in a row is left alone for a while."""

import pytest

from watchword.domain.instant import Instant, after
from watchword.faces.breaker import Breaker, OpenError


class Fault(Exception):  # noqa: N818 - a name of the test.
    pass


class Clock:
    def __init__(self) -> None:
        self.moment = Instant(1_000_000)

    def now(self) -> Instant:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment = after(self.moment, seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock.now, failures=3, open_seconds=30)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Fault), breaker.call(Fault):
            raise Fault


def succeed(breaker: Breaker) -> None:
    with breaker.call(Fault):
        pass


def is_open(breaker: Breaker) -> bool:
    try:
        succeed(breaker)
    except OpenError:
        return True
    return False


def test_one_failure_short_of_the_limit_leaves_it_closed(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert not is_open(breaker)


def test_it_opens_at_the_limit(breaker: Breaker) -> None:
    fail(breaker, 3)
    assert is_open(breaker)


def test_a_success_between_failures_starts_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert not is_open(breaker)


def test_it_stays_open_until_its_time_is_over(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.advance(29.999)
    assert is_open(breaker)
    clock.advance(0.001)
    assert not is_open(breaker)


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.advance(30)
    succeed(breaker)
    fail(breaker, 2)
    assert not is_open(breaker)


def test_a_probe_that_fails_opens_it_again_at_once(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.advance(30)
    fail(breaker)
    assert is_open(breaker)
    clock.advance(30)
    assert not is_open(breaker)


def test_while_one_probes_nobody_else_may_call(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.advance(30)
    with breaker.call(Fault):
        assert is_open(breaker)
    assert not is_open(breaker)


def test_a_probe_that_was_given_up_makes_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.advance(30)
    with pytest.raises(KeyboardInterrupt), breaker.call(Fault):
        raise KeyboardInterrupt
    assert not is_open(breaker)


def test_another_exception_counts_for_nothing(breaker: Breaker) -> None:
    fail(breaker, 2)
    with pytest.raises(ValueError, match="ours"), breaker.call(Fault):
        raise ValueError("ours")
    fail(breaker)
    assert is_open(breaker)


def test_a_call_that_began_before_it_opened_counts_when_it_ends(breaker: Breaker) -> None:
    with breaker.call(Fault):
        fail(breaker, 3)
        assert is_open(breaker)
    assert not is_open(breaker)
