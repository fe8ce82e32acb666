"""The log of refusals: each reason in its turn, and no flood."""

import logging

import pytest

from tests.factories import FixedClock
from watchword.auth.refused import PAUSE_SECONDS, RefusalLog
from watchword.domain.instant import after


def test_each_reason_is_told_once_in_a_while_with_how_many_more_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="watchword.auth")
    clock = FixedClock()
    log = RefusalLog("a token is refused", clock)
    begun = clock.now()

    def told() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    log.refused("it is over")
    log.refused("it is over")
    log.refused("its audience is another")
    assert told() == ["a token is refused: it is over", "a token is refused: its audience is another"]

    clock.at = after(begun, PAUSE_SECONDS - 1)
    log.refused("it is over")
    assert told() == []

    clock.at = after(begun, PAUSE_SECONDS)
    log.refused("it is over")
    log.refused("its audience is another")
    assert told() == [
        "a token is refused: it is over (2 more since this was last said)",
        "a token is refused: its audience is another",
    ]


def test_a_clock_that_was_set_back_silences_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="watchword.auth")
    clock = FixedClock()
    log = RefusalLog("a token is refused", clock)
    begun = clock.now()
    clock.at = after(begun, 3_600)
    log.refused("it is over")
    clock.at = begun
    log.refused("it is over")
    assert len(caplog.records) == 2


def test_of_more_reasons_than_there_are_none_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="watchword.auth")
    log = RefusalLog("a token is refused", FixedClock())
    for number in (*range(200), 0):
        log.refused(number)
    assert len(caplog.records) == 200
    log.refused("one more")  # Makes room by forgetting all.
    log.refused(0)
    assert len(caplog.records) == 202
