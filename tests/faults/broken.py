"""
Stores and engines that are broken on purpose, each as one careless line would break it.

The checker has to catch each of them, by the rule that is meant for it; and the simulation has to
find each of them within a few seeds.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.store.broken import KeepsEventsOfRefusedChanges
from watchword.domain.action import Action
from watchword.domain.binding import Binding
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Change, EventName, Refusal
from watchword.domain.instant import NEVER
from watchword.domain.lockout import NO_ATTEMPTS
from watchword.domain.token import Cleared, OneTimeToken, Pending, Spent, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.engine import Approved, Caller, Engine, StepUp, Wrong, identify
from watchword.engine.recent import Recent, Records
from watchword.store.base import StoreUnavailableError
from watchword.store.memory import MemoryStore

__all__ = ["KeepsEventsOfRefusedChanges"]

# --- stores -----------------------------------------------------------------------------------


class ComparesNoVersions(MemoryStore):
    """Writes whatever it is given."""

    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return iter(())


class ForgetsSpendings(MemoryStore):
    """Holds each spent token as cleared, as after a fail-over to a copy that lags."""

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        token = await super().token(token_id)
        if token is not None and isinstance(token.state, Spent):
            return replace(token, state=Cleared(token.state.at))
        return token


class TakesPendingForCleared(MemoryStore):
    """Holds each token as cleared that has one of its challenges passed."""

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        token = await super().token(token_id)
        if (
            token is not None
            and isinstance(token.state, Pending)
            and any(challenge.passed_by for challenge in token.challenges)
        ):
            return replace(token, state=Cleared(token.issued_at))
        return token


class ForgetsFailures(MemoryStore):
    """Keeps no count of wrong answers."""

    async def commit(self, change: Change) -> bool:
        if change.user is not None and change.user.attempts.locked_until == NEVER:
            change = replace(change, user=replace(change.user, attempts=NO_ATTEMPTS))
        return await super().commit(change)


class ForgetsLocks(MemoryStore):
    """Keeps no lock."""

    async def user(self, user_id: UserId) -> UserSecurity | None:
        user = await super().user(user_id)
        return user and replace(user, attempts=replace(user.attempts, locked_until=NEVER))


class ForgetsPasses(MemoryStore):
    """Loses that a challenge was passed, now and then, and says that it is stored."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._passes = 0

    async def commit(self, change: Change) -> bool:
        if any(event.name is EventName.CHALLENGE_PASSED for event in change.events):
            self._passes += 1
            if self._passes % 3 == 0 and change.token is not None:
                lost: tuple[Challenge, ...] = tuple(
                    replace(challenge, passed_by=None) for challenge in change.token.challenges
                )
                change = replace(change, token=replace(change.token, challenges=lost, state=Pending()))
        return await super().commit(change)


class AcknowledgesFirst(MemoryStore):
    """Says that a change is stored, and loses one of ten as it dies."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._commits = 0

    async def commit(self, change: Change) -> bool:
        self._commits += 1
        if self._commits % 10 == 0 and not any(a != b for a, b in self._versions(change)):
            return True
        return await super().commit(change)


class DropsEventsOfFailures(MemoryStore):
    """Stores each wrong answer without its event."""

    async def commit(self, change: Change) -> bool:
        kept = tuple(event for event in change.events if event.name is not EventName.CHALLENGE_FAILED)
        return await super().commit(replace(change, events=kept))


class WritesEventsTwice(MemoryStore):
    """Stores the event of each code that was sent twice."""

    async def commit(self, change: Change) -> bool:
        again = tuple(event for event in change.events if event.name is EventName.CODE_SENT)
        return await super().commit(replace(change, events=(*change.events, *again)))


class VoidsNothing(MemoryStore):
    """Stores a change of credentials, and not that it voids what is open."""

    async def commit(self, change: Change) -> bool:
        if any(event.name is EventName.CREDENTIALS_CHANGED for event in change.events):
            change = replace(change, revoked=(), events=change.events[:1])
        return await super().commit(change)


class CountsNoSends(MemoryStore):
    """Keeps no count of what was sent to a number."""

    async def commit(self, change: Change) -> bool:
        if change.destination is not None:
            self._destinations.pop(change.destination.id, None)
            change = replace(change, destination=None)
        return await super().commit(change)


# --- engines ----------------------------------------------------------------------------------


class _Swapped(Recent):
    """In place of what an engine commits through."""

    def __init__(self, engine: Engine) -> None:
        """Break *engine*."""
        super().__init__(engine.store)
        engine.decider.recent = self


class RevealsBeforeItCommits(_Swapped):
    """Answers whatever became of the commit."""

    async def commit(self, change: Change) -> bool:
        try:
            return await super().commit(change)
        except StoreUnavailableError:
            return True


class AnswersLostRaces(_Swapped):
    """Answers from a decision that another was faster than."""

    async def commit(self, change: Change) -> bool:
        await super().commit(change)
        return True


class TriesUnknownOutcomesAgain(_Swapped):
    """Takes what is unknown for what did not happen."""

    async def commit(self, change: Change) -> bool:
        try:
            return await super().commit(change)
        except StoreUnavailableError:
            return False


def refuses_from_memory(engine: Engine) -> None:
    """Refuse from what this process remembers, without asking the store again."""

    async def settle(decide: Callable[[Records], Awaitable[Change | Refusal]]) -> Change | Refusal:
        while True:
            decision = await decide(engine.decider.recent)
            if isinstance(decision, Refusal) or await engine.decider.recent.commit(decision):
                return decision

    engine.decider.settle = settle  # type: ignore[method-assign]


def compares_without_counting(engine: Engine) -> None:
    """Count a wrong answer only now and then."""
    commit, seen = engine.decider.recent.commit, defaultdict[str, int](int)

    async def careless(change: Change) -> bool:
        if any(event.name is EventName.CHALLENGE_FAILED for event in change.events):
            seen["failed"] += 1
            if seen["failed"] % 2:
                return True
        return await commit(change)

    engine.decider.recent.commit = careless  # type: ignore[method-assign]


def lets_any_request_through(engine: Engine) -> None:
    """Take each request for the one that its OTT was issued for."""
    protect = engine.protect

    async def careless(
        caller: Caller, action: Action, binding: Binding, *, ott: str | None = None, **more: Any
    ) -> Approved | StepUp | Wrong | Refusal:
        token = None if ott is None else await engine.store.token(identify(ott))
        return await protect(caller, action, binding if token is None else token.binding, ott=ott, **more)

    engine.protect = careless  # type: ignore[method-assign]


def lets_anybody_through(engine: Engine) -> None:
    """Take each caller for the one that the OTT was issued to."""

    async def anybodys(records: Records, caller: Caller, token_id: TokenId) -> OneTimeToken | None:
        return await records.token(token_id)

    engine._owned = anybodys  # type: ignore[method-assign]  # noqa: SLF001 - that is where it looks.
