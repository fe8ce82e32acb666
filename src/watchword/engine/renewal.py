"""
Sealing anew, under the active key, all that users have enrolled: what a change of keys ends with.

It goes through all users while servers serve them, and changes each as everybody else does: by a
compared write, made again where another was faster. What is done is recognised, so that it can be
ended at any time, and begun again. Where another server took over, what was read before it is read
again: it may have lost what was read, and give the same versions other contents.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from watchword.domain.credential import Credential, Phone
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.destination import Destination
from watchword.domain.instant import NEVER, Instant
from watchword.domain.owner import Owner
from watchword.domain.token import TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import CONFLICTS_MAX
from watchword.engine.enrolment import phone_name
from watchword.engine.ports import Clock
from watchword.methods import phone
from watchword.methods.keyring import KeyMissingError, Purpose, Tampered
from watchword.methods.registry import Methods
from watchword.methods.renewal import is_current, renewed, token_is_current
from watchword.store.base import Store, StoreCorruptError, UnreadableUser

PAGE = 200
AT_ONCE = 20
"""How many users are changed at the same time, so that a store may commit them together."""


@dataclass(slots=True)
class Renewed:
    """
    How far it came.

    Attributes:
        users: How many were looked at.
        changed: How many of them had something under another key.
        unreadable: Who has something enrolled that no key of the ring opens.
        damaged: Of whom a record cannot be read.
        contended: Whom others kept changing; to be tried again.
    """

    users: int = 0
    changed: int = 0
    unreadable: tuple[UserId, ...] = ()
    damaged: tuple[UserId, ...] = ()
    contended: tuple[UserId, ...] = ()


@dataclass(slots=True)
class Remaining:
    """
    What still needs another key than the active one.

    Attributes:
        users: Who has something enrolled that does, the first of them.
        count: How many do.
        tokens: How many open tokens do.
        until: When the last of these expires.
        damaged: Of whom a record cannot be read, so that nobody knows; the first of them.
    """

    users: tuple[UserId, ...] = ()
    count: int = 0
    tokens: int = 0
    until: Instant = NEVER
    damaged: tuple[UserId, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any, or may be."""
        return bool(self.count or self.tokens or self.damaged)


class Renewal:
    """Brings a store to the active key."""

    NAMED_MAX = 20

    def __init__(self, store: Store, methods: Methods, clock: Clock) -> None:
        """Take the store, and the keys."""
        self._store = store
        self._methods = methods
        self._keyring = methods.keyring
        self._clock = clock
        self._era = 0

    def begin_anew(self) -> None:
        """Write nothing that was made from what was read until now: another server took over."""
        self._era += 1

    async def run(self, *, per_second: int, told: Callable[[Renewed], None] = lambda _: None) -> Renewed:
        """
        Go through all users.

        Args:
            per_second: How many to change in a second at the most: others want to write too.
            told: Is told how far it is, every few hundred users.

        Raises:
            StoreUnavailableError: The store does not answer; begin again when it does.
        """
        done = Renewed()
        async for era, page in self._pages():
            for start in range(0, len(page), AT_ONCE):
                part = page[start : start + AT_ONCE]
                changed = await self._renew_all(part, done, era=era)
                done.users += len(part)
                done.changed += changed
                await asyncio.sleep(changed / per_second)
            told(done)
        return done

    async def remaining(self) -> Remaining:
        """Find out what still needs another key, by looking at everybody, in one server's lineage."""
        while (found := await self._remaining()) is None:
            pass
        return found

    async def _remaining(self) -> Remaining | None:
        """Look at everybody; None where another server took over, to which what was seen may be news."""
        found, began = Remaining(), self._era
        async for era, page in self._pages():
            if era != began:
                break
            for user in page:
                try:
                    await self._look_at(user, found)
                except StoreCorruptError:
                    found.damaged = (*found.damaged, user.id)[: self.NAMED_MAX]
            await asyncio.sleep(0)
        return found if began == self._era else None

    async def _look_at(self, user: UserSecurity | UnreadableUser, found: Remaining) -> None:
        if isinstance(user, UnreadableUser):
            raise StoreCorruptError
        if await self._needs_another(user):
            found.count += 1
            found.users = (*found.users, user.id)[: self.NAMED_MAX]
        for entry in user.still_open(self._clock.now()):
            token = await self._store.token(TokenId(entry.id))
            if token is not None and not token_is_current(token, self._methods):
                found.tokens += 1
                found.until = max(found.until, token.expires_at)

    async def _pages(self) -> AsyncIterator[tuple[int, list[UserSecurity | UnreadableUser]]]:
        """Read all users; with each page the era in which it was read."""
        after: UserId | None = None
        while True:
            era = self._era
            page = list(await self._store.users(after=after, limit=PAGE))
            if not page:
                return
            yield era, page
            after = page[-1].id

    async def _needs_another(self, user: UserSecurity) -> bool:
        if not all(is_current(each, self._methods) for each in user.credentials):
            return True
        for each in user.phones_too(None):
            if any(owner.user_id == user.id for owner in await self._former(each, user.id)):
                return True
        return False

    async def _renew_all(self, users: list[UserSecurity | UnreadableUser], done: Renewed, *, era: int) -> int:
        # All are waited for, so that nothing writes any more once one has failed.
        work = [self._renew(user, done, era=era) for user in users]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        for user, outcome in zip(users, outcomes, strict=True):
            if isinstance(outcome, StoreCorruptError):
                done.damaged = (*done.damaged, user.id)
            elif isinstance(outcome, BaseException):
                raise outcome
        return outcomes.count(True)

    async def _renew(self, user: UserSecurity | UnreadableUser, done: Renewed, *, era: int) -> bool:
        """Bring one user, as read in *era*, to the active key; tells whether anything had to change."""
        if isinstance(user, UnreadableUser):
            raise StoreCorruptError
        changed = False
        for _ in range(CONFLICTS_MAX):
            credentials, unreadable = renewed(user, self._methods)
            change = await self._change(user, credentials)
            if change is None:
                if unreadable:
                    done.unreadable = (*done.unreadable, user.id)
                return changed
            if era == self._era and await self._store.commit(change):
                changed = True
                user = change.user or user
            else:
                era = self._era
                stored = await self._store.user(user.id)
                if stored is None:
                    return changed  # No store lets go of a user, but a failover may.
                user = stored
        done.contended = (*done.contended, user.id)
        return changed

    async def _change(self, user: UserSecurity, credentials: tuple[Credential, ...]) -> Change | None:
        """Return the next change that brings a user nearer; one phone at a time, None for no more."""
        wanted: list[Credential] = []
        owners: tuple[Owner, ...] = ()
        destination: Destination | None = None
        with_phone = False
        for old, new in zip(user.credentials, credentials, strict=True):
            if not isinstance(old, Phone) or not isinstance(new, Phone):
                wanted.append(new)
                continue
            claims = () if with_phone else await self._claims(new, user.id)
            if with_phone or (old is new and not claims):
                wanted.append(old)
                continue
            with_phone, owners = True, claims
            destination = await self._moved(old.digest, new.digest)
            wanted.append(new)
        now = self._clock.now()
        resealed = Event(
            name=EventName.CREDENTIALS_RESEALED,
            at=now,
            user_id=user.id,
            details={"key": self._keyring.active},
        )
        if all(new is old for new, old in zip(wanted, user.credentials, strict=True)):
            if not owners:
                return None
            return Change(seen=user, owners=owners, events=(resealed,))
        return Change(
            user=replace(user, version=user.version + 1, credentials=tuple(wanted)),
            owners=owners,
            destination=destination,
            events=(resealed,),
        )

    async def _claims(self, entry: Phone, user_id: UserId) -> tuple[Owner, ...]:
        """Return what has to change for a user to own his number by its name under the active key alone."""
        former = [owner for owner in await self._former(entry, user_id) if owner.user_id == user_id]
        if not former:
            return ()
        name = phone_name(entry.digest)
        owner = await self._store.owner(name) or Owner(id=name)
        mine = () if owner.user_id is not None else (owner.taken(user_id),)
        return (*(each.taken(None) for each in former), *mine)

    async def _former(self, entry: Phone, user_id: UserId) -> list[Owner]:
        """Find the records of a number by its names under other keys than the active one."""
        try:
            number = phone.number(self._keyring, entry, user_id=user_id)
        except (KeyMissingError, Tampered):
            return []
        digests = self._keyring.digests(Purpose.PHONE_DIGEST, number.encode())[1:]
        found = [await self._store.owner(phone_name(digest)) for digest in digests]
        return [owner for owner in found if owner is not None]

    async def _moved(self, old: bytes, new: bytes) -> Destination | None:
        """Return what was sent to a number by its new name, with what was counted by its old one."""
        before = None if old == new else await self._store.destination(old)
        if before is None:
            return None
        counted = await self._store.destination(new) or Destination(id=new)
        sent_at = tuple(sorted({*counted.sent_at, *before.sent_at}))
        if sent_at == counted.sent_at:
            return None
        return Destination(id=new, sent_at=sent_at, version=counted.version + 1)
