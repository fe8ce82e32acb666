"""
Stores that are broken on purpose, each in the one way that its name tells.

All of them are the reference store with one thing done as a careless store would do it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import anyio.lowlevel

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.token import OneTimeToken, Pending, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.memory import MemoryStore

# --- versions ---------------------------------------------------------------------------------


class ComparesNoToken(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, token=None))


class ComparesNoRevokedToken(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, revoked=()))


class ComparesNoUser(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, user=None))


class ComparesNothingThatWasSeen(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, seen=None))


class ComparesNoDestination(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, destination=None))


class ComparesNoApplication(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, application=None))


class ComparesNoOwner(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, owners=()))


class ComparesTheFirstOwnerOnly(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return super()._versions(replace(change, owners=change.owners[:1]))


class ComparesNothingThatIsNew(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return ((made_from, stored) for made_from, stored in super()._versions(change) if stored)


class TakesWhateverIsNewer(MemoryStore):
    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        return ((min(made_from, stored), stored) for made_from, stored in super()._versions(change))


class ComparesBeforeItWaits(MemoryStore):
    async def commit(self, change: Change) -> bool:
        if any(made_from != stored for made_from, stored in self._versions(change)):
            return False
        await anyio.lowlevel.checkpoint()
        self._write(change)
        return True

    def _write(self, change: Change) -> None:
        for token in (change.token, *change.revoked):
            if token is not None:
                self._tokens[token.id] = token
        if change.user is not None:
            self._users[change.user.id] = change.user
        if change.destination is not None:
            self._destinations[change.destination.id] = change.destination
        if change.application is not None:
            self._applications[change.application.id] = change.application
        self._owners.update({owner.id: owner for owner in change.owners})
        self._events.extend(change.events)


# --- all or nothing ---------------------------------------------------------------------------


class WritesWhateverFits(MemoryStore):
    async def commit(self, change: Change) -> bool:
        done = True
        for part in (
            Change(token=change.token),
            Change(user=change.user),
            Change(destination=change.destination),
            Change(application=change.application),
            *(Change(owners=(owner,)) for owner in change.owners),
            *(Change(token=token) for token in change.revoked),
        ):
            done = await super().commit(part) and done
        return done and await super().commit(Change(events=change.events))


class ForgetsRevokedTokens(MemoryStore):
    async def commit(self, change: Change) -> bool:
        return await super().commit(replace(change, revoked=()))


class ForgetsApplications(MemoryStore):
    async def commit(self, change: Change) -> bool:
        return await super().commit(replace(change, application=None))


class KeepsTheFirstOwnerOnly(MemoryStore):
    async def commit(self, change: Change) -> bool:
        return await super().commit(replace(change, owners=change.owners[:1]))


class LetsGoOfWhatNobodyOwns(MemoryStore):
    async def commit(self, change: Change) -> bool:
        done = await super().commit(change)
        for owner in change.owners if done else ():
            if owner.user_id is None:
                del self._owners[owner.id]
        return done


class TellsThatItWorkedWhenItDidNot(MemoryStore):
    async def commit(self, change: Change) -> bool:
        await super().commit(change)
        return True


class RefusesWhileAnotherIsUnderWay(MemoryStore):
    _busy = False

    async def commit(self, change: Change) -> bool:
        if self._busy:
            return False
        self._busy = True
        try:
            return await super().commit(change)
        finally:
            self._busy = False


class DropsWhatWaitsWhenItCloses(MemoryStore):
    _closed = 0

    async def commit(self, change: Change) -> bool:
        before = self._closed
        await anyio.lowlevel.checkpoint()
        return before == self._closed and await super().commit(change)

    async def close(self) -> None:
        self._closed += 1


class StaysBrokenAfterACancelledCaller(MemoryStore):
    _cancelled = False

    async def commit(self, change: Change) -> bool:
        try:
            return await super().commit(change) and not self._cancelled
        except asyncio.CancelledError:
            self._cancelled = True
            raise


class ForgetsWhatItHeldWhenItCloses(MemoryStore):
    async def close(self) -> None:
        self._tokens.clear()


class ForgetsOwnersWhenItCloses(MemoryStore):
    async def close(self) -> None:
        self._owners.clear()


class ForgetsEventsWhenItCloses(MemoryStore):
    async def close(self) -> None:
        self._events.clear()


# --- records ----------------------------------------------------------------------------------


class ForgetsHowOftenACodeWasWrong(MemoryStore):
    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        token = await super().token(token_id)
        if token is not None and isinstance(token.state, Pending) and token.state.code is not None:
            return replace(token, state=Pending(replace(token.state.code, wrong=0)))
        return token


class ForgetsStreaks(MemoryStore):
    async def user(self, user_id: UserId) -> UserSecurity | None:
        user = await super().user(user_id)
        return user and replace(
            user, attempts=replace(user.attempts, streak=type(user.attempts.streak)(0, 0, 0))
        )


class RemembersOneSend(MemoryStore):
    async def destination(self, destination_id: bytes) -> Destination | None:
        destination = await super().destination(destination_id)
        return destination and replace(destination, sent_at=destination.sent_at[-1:])


class TurnsKeysAround(MemoryStore):
    async def application(self, application_id: ApplicationId) -> Application | None:
        application = await super().application(application_id)
        return application and replace(application, keys=application.keys[::-1])


class FoldsNamesOfApplications(MemoryStore):
    async def application(self, application_id: ApplicationId) -> Application | None:
        folded = {name.casefold().strip(): stored for name, stored in self._applications.items()}
        return folded.get(application_id.casefold().strip())


class FindsWhatIsNotThere(MemoryStore):
    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        return await super().token(token_id) or next(iter(self._tokens.values()), None)


class ReadsTheFirstVersionOnly(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self._first: dict[TokenId, OneTimeToken] = {}

    async def commit(self, change: Change) -> bool:
        done = await super().commit(change)
        if done and change.token is not None:
            self._first.setdefault(change.token.id, change.token)
        return done

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        return self._first.get(token_id)


# --- events -----------------------------------------------------------------------------------


class KeepsEventsOfRefusedChanges(MemoryStore):
    async def commit(self, change: Change) -> bool:
        done = await super().commit(change)
        if not done:
            self._events.extend(change.events)
        return done


class KeepsOneEventOfAChange(MemoryStore):
    async def commit(self, change: Change) -> bool:
        return await super().commit(replace(change, events=change.events[:1]))


class KeepsNoEventWithoutARecord(MemoryStore):
    async def commit(self, change: Change) -> bool:
        alone = change == Change(events=change.events)
        return await super().commit(replace(change, events=()) if alone else change)


class TurnsEventsAround(MemoryStore):
    async def commit(self, change: Change) -> bool:
        return await super().commit(replace(change, events=change.events[::-1]))


class KnowsNoEventWithoutAUser(MemoryStore):
    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        page = await super().events(after=after, limit=limit)
        return [(number, replace(event, user_id=event.user_id or UserId(0))) for number, event in page]


class ForgetsWhoseEventItWas(MemoryStore):
    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        page = await super().events(after=after, limit=limit)
        return [(number, replace(event, token_id=None)) for number, event in page]


class RepeatsTheLastEvent(MemoryStore):
    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        return await super().events(after=max(0, after - 1), limit=limit)


class NumbersEventsAnewOnEachPage(MemoryStore):
    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        return list(enumerate(islice(self._events, after, after + limit), start=1))


class ReadsUsersAsTheyCame(MemoryStore):
    async def users(self, *, after: UserId | None = None, limit: int = 1000) -> Sequence[UserSecurity]:
        return [user for id_, user in self._users.items() if after is None or id_ > after][:limit]


class ReadsTheLastUserAgain(MemoryStore):
    async def users(self, *, after: UserId | None = None, limit: int = 1000) -> Sequence[UserSecurity]:
        return await super().users(after=None if after is None else UserId(after - 1), limit=limit)


class ForgetsAMomentTooMuch(MemoryStore):
    async def forget(self, before: Instant, *, limit: int) -> int:
        return await super().forget(Instant(before + 1), limit=limit)


class ForgetsWhateverIsOld(MemoryStore):
    async def forget(self, before: Instant, *, limit: int) -> int:
        self._events.sort(key=lambda event: event.at)
        return await super().forget(before, limit=limit)


class ForgetsWithoutLimit(MemoryStore):
    async def forget(self, before: Instant, *, limit: int) -> int:
        return await super().forget(before, limit=10**6)


class NumbersEventsAnewOnceSomeAreForgotten(MemoryStore):
    async def forget(self, before: Instant, *, limit: int) -> int:
        gone = await super().forget(before, limit=limit)
        self._forgotten = 0
        return gone


class AnswersThatItWorksWithAnEvent(MemoryStore):
    async def ping(self) -> None:
        self._events.append(Event(name=EventName.KEY_REVOKED, at=Instant(0), user_id=None))


# --- the sweep --------------------------------------------------------------------------------


class SweepsAtExpiry(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        return await super().sweep(later(now, DAY_SECONDS), limit=limit)


class SweepsAMomentTooEarly(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        return await super().sweep(Instant(now + 1), limit=limit)


class SweepsAMomentTooLate(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        return await super().sweep(Instant(now - 1), limit=limit)


class SweepsWithoutLimit(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        return await super().sweep(now, limit=10**6)


class SweepsByTheFirstSend(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        for destination in tuple(self._destinations.values()):
            if now >= later(destination.sent_at[0], DAY_SECONDS):
                del self._destinations[destination.id]
        return await super().sweep(now, limit=limit)


class SweepsUsers(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        self._users.clear()
        return await super().sweep(now, limit=limit)


class SweepsWhatNobodyOwns(MemoryStore):
    async def sweep(self, now: Instant, *, limit: int) -> int:
        self._owners = {id_: owner for id_, owner in self._owners.items() if owner.user_id is not None}
        return await super().sweep(now, limit=limit)


class RemembersVersionsOfWhatItSwept(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self._swept: dict[TokenId, int] = {}

    async def sweep(self, now: Instant, *, limit: int) -> int:
        before = dict(self._tokens)
        removed = await super().sweep(now, limit=limit)
        self._swept |= {key: token.version for key, token in before.items() if key not in self._tokens}
        return removed

    def _versions(self, change: Change) -> Iterator[tuple[int, int]]:
        if change.token is not None and change.token.id in self._swept:
            return iter([(change.token.version - 1, self._swept[change.token.id])])
        return super()._versions(change)
