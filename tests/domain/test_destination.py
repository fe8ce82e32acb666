"""What one phone number may receive in a day, whoever asks."""

import pytest
from hypothesis import given, strategies as st

from tests.factories import NOW
from watchword.domain.decision import Reason, Refusal
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after
from watchword.domain.limits import DAY_SECONDS, Limits

LIMITS = Limits()


def send(destination: Destination, now: Instant, limits: Limits = LIMITS) -> Destination:
    sent = destination.send(limits=limits, now=now)
    assert isinstance(sent, Destination)
    return sent


def full(limits: Limits = LIMITS) -> Destination:
    """A number that received its share, a second apart."""
    destination = Destination(id=b"number")
    for count in range(limits.sends_per_number):
        destination = send(destination, after(NOW, count), limits)
    return destination


@pytest.mark.attack(62)
def test_the_tenth_code_of_a_day_is_sent_and_the_eleventh_is_not() -> None:
    destination = full()
    assert len(destination.sent_at) == destination.version == 10
    now = after(NOW, 3600)
    refusal = destination.send(limits=LIMITS, now=now)
    assert refusal == Refusal(Reason.SENDS_EXHAUSTED, retry_after=DAY_SECONDS - 3600)


@pytest.mark.parametrize(("offset", "sent"), [(-1, False), (0, True), (1, True)])
def test_there_is_room_again_once_the_oldest_is_a_day_ago(offset: int, sent: bool) -> None:
    moment = Instant(after(NOW, DAY_SECONDS) + offset)
    assert isinstance(full().send(limits=LIMITS, now=moment), Destination) == sent


def test_a_limit_that_was_lowered_waits_until_enough_sends_are_a_day_ago() -> None:
    refusal = full().send(limits=Limits(sends_per_number=3), now=after(NOW, 9))
    # The eighth of ten must leave before fewer than three are left.
    assert refusal == Refusal(Reason.SENDS_EXHAUSTED, retry_after=DAY_SECONDS + 7 - 9)


@given(pauses=st.lists(st.integers(0, 5 * 3600), max_size=80), limit=st.integers(1, 12))
def test_no_window_of_a_day_ever_holds_more_than_the_limit(pauses: list[int], limit: int) -> None:
    limits = Limits(sends_per_number=limit)
    destination, now = Destination(id=b"number"), NOW
    sent: list[Instant] = []
    for pause in pauses:
        now = after(now, pause)
        answer = destination.send(limits=limits, now=now)
        if isinstance(answer, Refusal):
            assert answer.retry_after is not None
            # It may be tried again exactly when it says, and no second earlier.
            assert isinstance(
                destination.send(limits=limits, now=after(now, answer.retry_after)), Destination
            )
            early = destination.send(limits=limits, now=after(now, answer.retry_after - 1))
            assert isinstance(early, Refusal)
        else:
            assert answer.version == destination.version + 1
            assert len(answer.sent_at) <= limit
            destination = answer
            sent.append(now)
    for start in sent:
        assert sum(start <= at < after(start, DAY_SECONDS) for at in sent) <= limit
