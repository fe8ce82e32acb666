"""
The log of what is refused, for the operator who wonders why.

Anybody can send bad tokens, and as many as he likes: each reason has one line in ten seconds, which
says how many more there were.
"""

import logging
from dataclasses import dataclass

from watchword.domain.instant import Instant, after
from watchword.engine.ports import Clock

PAUSE_SECONDS = 10
_REASONS_MAX = 200

_log = logging.getLogger("watchword.auth")


@dataclass(slots=True)
class _Told:
    at: Instant
    left_out: int = 0


class RefusalLog:
    """Tells of what one source of callers refuses, each reason once in a while."""

    def __init__(self, what: str, clock: Clock) -> None:
        """
        Have told nothing yet.

        Args:
            what: What happens: ``an access token of https://… is refused``.
        """
        self._what = what
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def refused(self, why: object) -> None:
        """
        Tell that it happened, or count it.

        Args:
            why: In words of ours alone, of which there are not many: nothing of what was sent.
        """
        reason, now = str(why), self._clock.now()
        told = self._told.get(reason)
        # A clock that was set back must not silence anything for long.
        if told is not None and told.at <= now < after(told.at, PAUSE_SECONDS):
            told.left_out += 1
            return
        if len(self._told) >= _REASONS_MAX:
            self._told.clear()
        self._told[reason] = _Told(now)
        if told is None or not told.left_out:
            _log.warning("%s: %s", self._what, reason)
        else:
            _log.warning("%s: %s (%d more since this was last said)", self._what, reason, told.left_out)
