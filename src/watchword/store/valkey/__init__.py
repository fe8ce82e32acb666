"""
The store past one machine: Valkey, one server or a cluster, by way of its functions (``library.lua``).

- A change whose records lie in one slot is one call, which compares and writes all of it or nothing.
  Which slot that is, ``layout`` says; over several, ``changes`` does it.
- What is acknowledged has reached the disk of its primary and as many replicas as asked for; where
  that falls short, the outcome is unknown.
- A token carries the lineage that it was written in and is void in any other, so that what a
  failover lost is never spent a second time. All other records go on, with a version that no
  earlier lineage can have given to anything else.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar, TypeVarTuple

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after as later
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store import codec
from watchword.store.base import StoreCorruptError, StoreUnavailableError, UnreadableUser, UnusableStoreError
from watchword.store.valkey.changes import Changes, Decide, Elsewhere, leap
from watchword.store.valkey.layout import (
    BUCKETS,
    CONTROL,
    EXPIRIES,
    PARTNER,
    REPLICAS,
    TRIAL,
    USERS,
    Key,
    Names,
    Write,
    application_key,
    destination_key,
    home,
    key_of,
    owner_key,
    place_key,
    token_key,
    user_key,
    user_member,
    user_of_member,
    writes,
)
from watchword.store.valkey.link import Link
from watchword.store.valkey.servers import Servers, ValkeySettings, look_at, target_of
from watchword.store.valkey.trail import PARCEL_MAX, Trail, Waiting

__all__ = ["ValkeySettings", "ValkeyStore", "Waiting"]

WATCH_SECONDS: Final = 1.0
"""How long it takes at the most until a server that took over is seen, though nobody asks it anything."""

PLACES_REMEMBERED: Final = 65_536
"""Of how many tokens it is remembered whose they are."""

WAITING_MAX: Final = 4096
"""How many changes may wait at once; more are refused, not queued."""

_PLACE_KEPT = 2 * DAY_SECONDS * 1000
_log = logging.getLogger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R", OneTimeToken, UserSecurity, Destination, Application, Owner)


class ValkeyStore:
    """
    A ``Store`` on one Valkey server, or on a cluster.

    Attributes:
        on_new_lineage: Called when it is seen that another primary has taken over a part, and may have lost
            what this process remembers; that is looked for.
    """

    def __init__(self, link: Link, servers: Servers, settings: ValkeySettings) -> None:
        """Use ``ValkeyStore.open``."""
        self.on_new_lineage: Callable[[], None] | None = None
        self.link = link
        self._names = link.names
        self._clustered = servers.clustered
        # Where no other server can take over and what is answered is on the disk, a restart loses nothing.
        self._alone = b"1" if settings.fsync and not servers.replicas else b"0"
        self._seconds = settings.timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._trail = Trail(link)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changes = Changes(link, alone=self._alone, later=self._later, heard=self._heard)
        self._latest: dict[Key, asyncio.Task[bool]] = {}
        self._places: OrderedDict[TokenId, UserId] = OrderedDict()
        self._lineages: dict[int, bytes] = {}
        self._watching = asyncio.create_task(self._watch())
        self._pinged = 0
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, settings: ValkeySettings | None = None) -> "ValkeyStore":
        """
        Open the store, after a look at whether the servers can keep what it promises.

        Args:
            url: ``valkey://[user:password@]host:port[,host:port…]``, or ``valkeys://…`` for TLS; of
                a cluster some of the servers will do.
            settings: What is asked of them.

        Raises:
            UnusableStoreError: They are no such servers, or not set up so.
            StoreUnavailableError: They do not answer now.
        """
        settings = settings or ValkeySettings()
        servers = await look_at(target_of(url, settings), settings)
        link = Link(
            Names(settings.prefix),
            servers.connect,
            replicas=servers.replicas,
            wait_milliseconds=settings.wait_milliseconds,
        )
        store = cls(link, servers, settings)
        try:
            await link.open()
            await store.try_out()
            await store.keep_replicas(servers, said=settings.replicas is not None)
        except BaseException:
            await store.close()
            raise
        return store

    async def try_out(self) -> None:
        """
        Write in every bucket what is written in any, and wait for replicas.

        Raises:
            UnusableStoreError: Something of it is not allowed.
        """
        try:
            await asyncio.gather(*(self._ask(self._try_out, bucket) for bucket in range(BUCKETS)))
        except StoreUnavailableError as error:
            if "NOPERM" in str(error) or "no permissions" in str(error):
                raise UnusableStoreError(f"the user may not do all that is needed: {error}") from error
            raise

    async def _try_out(self, bucket: int) -> None:
        _, replid = await self.link.call("try", [self._names.of(bucket, TRIAL)], [])
        await self.link.replicated(bucket, replid)

    async def keep_replicas(self, servers: Servers, *, said: bool) -> None:
        """
        Write down how many replicas every change reaches; where it was more, less has to be *said*.

        Raises:
            UnusableStoreError: It was more, and nothing is said.
        """
        control = self._names.of(0, CONTROL)
        [kept] = await self._ask(self.link.send, [b"HGET", control, REPLICAS])
        if not said and servers.replicas < int(kept or 0):
            raise UnusableStoreError(
                f"every change here had to reach {int(kept)} replicas, and by what is seen now it would be"
                f" {servers.replicas}: set `replicas`; the fewer, the more a failover can lose of what was"
                " acknowledged"
            )
        if servers.replicas != int(kept or 0):
            await self._ask(self.link.send, [b"HSET", control, REPLICAS, b"%d" % servers.replicas])

    async def go_with(self, database: bytes) -> None:
        """
        Write down with which *database* of users this goes.

        Raises:
            UnusableStoreError: It goes with another.
        """
        control = self._names.of(0, CONTROL)
        [kept] = await self._ask(self.link.send, [b"HGET", control, PARTNER])
        if kept is None:
            await self._ask(self.link.send, [b"HSET", control, PARTNER, database])
        elif kept != database:
            raise UnusableStoreError(
                "what is under this `prefix` in Valkey goes with the users of another database: name that"
                " one, or set another `prefix`, under which nothing is yet"
            )

    @property
    def lineages(self) -> Mapping[int, bytes]:
        """In which lineage each bucket was when it was heard of last."""
        return self._lineages

    # --- look-ups -----------------------------------------------------------------------------

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        self._refuse_if_closed()
        return await self._ask(self._token, token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        self._refuse_if_closed()
        return await self._ask(self._record, user_key(user_id), codec.decode_user)

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        self._refuse_if_closed()
        return await self._ask(self._record, destination_key(destination_id), codec.decode_destination)

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        self._refuse_if_closed()
        return await self._ask(self._record, application_key(application_id), codec.decode_application)

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is."""
        self._refuse_if_closed()
        return await self._ask(self._record, owner_key(owner_id), codec.decode_owner)

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """Read users page by page; each page asks every bucket for as many as all of it may have."""
        self._refuse_if_closed()
        found: list[UserSecurity | UnreadableUser] = []
        while len(found) < limit:
            ids = await self._ask(self._user_ids, after, limit - len(found))
            if not ids:
                break
            read = await asyncio.gather(*(self._user_or_damage(user_id) for user_id in ids))
            # One of whom nothing is stored is of a change over several slots that came to nothing.
            found += [user for user in read if user is not None]
            after = ids[-1]
        return found

    async def _user_or_damage(self, user_id: UserId) -> UserSecurity | UnreadableUser | None:
        try:
            return await self.user(user_id)
        except StoreCorruptError:
            return UnreadableUser(user_id)

    async def _token(self, token_id: TokenId) -> OneTimeToken | None:
        user_id = self._places.get(token_id)
        if user_id is None:
            [place] = await self.link.send([b"GET", self._names(place_key(token_id))])
            if place is None:
                return None
            user_id = UserId(int(place))
        token = await self._record(token_key(token_id, user_id), codec.decode_token)
        if token is not None:
            self._remember(token_id, user_id)
        return token

    def _remember(self, token_id: TokenId, user_id: UserId) -> None:
        self._places[token_id] = user_id
        self._places.move_to_end(token_id)
        if len(self._places) > PLACES_REMEMBERED:
            self._places.popitem(last=False)

    async def stored(self, key: Key) -> bytes | None:
        """Return the stored form of a record; of one that a change holds, once that is settled."""
        self._refuse_if_closed()
        return await self._ask(self._changes.stored, key)

    async def settle(self, commit: bytes, reach: bytes) -> None:
        """Settle the intents of a change that another store decided, and tell it so."""
        self._refuse_if_closed()
        await self._ask(self._changes.settle, commit, reach)

    async def leap(self, version: int) -> int:
        """Return a later version, which no record has had."""
        return leap(version, await self._ask(self._changes.next_commit))

    def decides(self, elsewhere: Elsewhere) -> None:
        """Be told of the other store that decides changes which reach both."""
        self._changes.elsewhere = elsewhere

    async def user_ids(self, *, after: UserId | None, limit: int) -> list[UserId]:
        """Return the ids of users of whom something is stored, or was to be, in order."""
        self._refuse_if_closed()
        return await self._ask(self._user_ids, after, limit)

    async def _record(self, key: Key, decode: Callable[[bytes], R]) -> R | None:
        body = await self._changes.stored(key)
        if body is None:
            return None
        record = decode(body)
        if key_of(record) != key:
            raise StoreCorruptError("a record is stored under the key of another")
        return record

    async def _user_ids(self, after: UserId | None, limit: int) -> list[UserId]:
        start = b"-" if after is None else b"(" + user_member(after)
        count = b"%d" % limit
        page: list[list[bytes]] = await self._of_each(
            b"ZRANGE", USERS, start, b"+", b"BYLEX", b"LIMIT", b"0", count
        )
        return [user_of_member(member) for member in islice(merge(*page), limit)]

    # --- changes ------------------------------------------------------------------------------

    async def commit(self, change: Change) -> bool:
        """
        Store a change, or do nothing.

        Cancelling does not take the change back: the outcome is unknown then.
        """
        records = writes(change, self._lineages)
        return await self.in_turn([each.key for each in records], partial(self.write, change, records))

    async def in_turn(self, keys: Sequence[Key], work: Callable[[], Awaitable[bool]]) -> bool:
        """Do something after all that was begun before it on one of the same *keys*."""
        self._refuse_if_closed()
        if len(self._tasks) >= WAITING_MAX:
            raise StoreUnavailableError("too many changes wait to be stored")
        before = {self._latest[key] for key in keys if key in self._latest}
        task = self._later(self._ask(self._after, before, work))
        self._latest.update(dict.fromkeys(keys, task))
        task.add_done_callback(lambda _: self._leave(keys, task))
        return await asyncio.shield(task)

    def _leave(self, keys: Sequence[Key], task: asyncio.Task[bool]) -> None:
        for key in keys:
            if self._latest.get(key) is task:
                del self._latest[key]

    async def _after(
        self, before: Collection[asyncio.Task[bool]], work: Callable[[], Awaitable[bool]]
    ) -> bool:
        if before:
            # Of the same record the first goes first: a client of a cluster may overtake itself.
            await asyncio.wait(before)
        return await work()

    async def write(self, change: Change, records: Sequence[Write], *, decide: Decide | None = None) -> bool:
        """
        Store the *records* of a change at once, or do nothing.

        Args:
            decide: Decides it in another store, which takes its events too.
        """
        new = [token for token in (change.token, *change.revoked) if token is not None and token.version == 1]
        # First, so that no token is ever stored that nobody finds.
        await asyncio.gather(*map(self._place, new))
        if decide is not None:
            return await self._changes.decided_by(decide, records)
        events = [codec.encode_event(event) for event in change.events]
        bucket = home(change, records)
        elsewhere = [each for each in records if self._clustered and each.key.bucket != bucket]
        if elsewhere:
            here = [each for each in records if each.key.bucket == bucket]
            return await self._changes.apart(bucket, here, elsewhere, events)
        return await self._changes.together(bucket, records, events)

    async def _place(self, token: OneTimeToken) -> None:
        """Write down whose a token is, for a little longer than it can be asked for; replicas have it too."""
        kept, key = max(0, token.expires_at - token.issued_at) + _PLACE_KEPT, place_key(token.id)
        arguments = [b"%d" % token.user_id, b"%d" % kept]
        _, replid = await self.link.call("place", [self._names(key)], arguments)
        await self.link.replicated(key.bucket, replid)
        self._remember(token.id, token.user_id)

    # --- what runs beside ---------------------------------------------------------------------

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """Remove what is over since a day, and settle what was left unsettled."""
        self._refuse_if_closed()
        await self._ask(self._changes.settle_what_is_left)
        removed = 0
        while removed < limit:
            gone = await self._ask(self._sweep, later(now, -DAY_SECONDS), limit - removed)
            removed += gone
            if not gone:
                break
        return removed

    async def _sweep(self, before: Instant, limit: int) -> int:
        """Remove a share of each bucket."""
        share = b"%d" % (limit // BUCKETS + 1)
        over: list[list[bytes]] = await self._of_each(
            b"ZRANGE", EXPIRIES, b"-inf", b"%d" % before, b"BYSCORE", b"LIMIT", b"0", share
        )
        removed = 0
        for bucket, members in enumerate(over):
            some = members[: limit - removed]
            if some:
                of = self._names.of
                keys = [of(bucket, EXPIRIES), *(of(bucket, member) for member in some)]
                gone: Any = await self.link.call("remove", keys, [b"%d" % before, *some])
                removed += gone[0]
                for name in gone[1]:
                    await self._changes.resolve(self._names.key(name))
        return removed

    async def ping(self) -> None:
        """Find out whether one primary, another each time, takes a write and has its replicas."""
        self._refuse_if_closed()
        self._pinged = (self._pinged + 1) % BUCKETS
        await self._ask(self._changes.alive, self._pinged)

    async def close(self) -> None:
        """Finish what was accepted, then let go of the connections."""
        self._closed = True
        self._watching.cancel()
        await self.finish()
        await self.link.close()

    async def finish(self) -> None:
        """Finish what was accepted."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- who has taken over -------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask every primary that is known who it is, for whoever wants to be told."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self.on_new_lineage is not None:
                buckets = {lineage: bucket for bucket, lineage in self._lineages.items()}.values()
                asked = (self._ask(self._changes.epoch, bucket) for bucket in buckets)
                # One that does not answer is asked again.
                await asyncio.gather(*asked, return_exceptions=True)

    def _heard(self, bucket: int, lineage: bytes) -> None:
        """Take in which lineage a bucket is in now."""
        before = self._lineages.get(bucket, lineage)
        if before != lineage:
            # The other buckets of that primary have most likely gone with it.
            self._lineages = {each: kept for each, kept in self._lineages.items() if kept != before}
            if self.on_new_lineage is not None:
                self.on_new_lineage()
        self._lineages[bucket] = lineage

    # --- events -------------------------------------------------------------------------------

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """Read the audit trail, after what waits was moved there."""
        self._refuse_if_closed()
        return await self._ask(partial(self._trail.read, after=after, limit=limit))

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events."""
        self._refuse_if_closed()
        return await self._ask(partial(self._trail.forget, before, limit=limit))

    async def waiting(self, *, limit: int = PARCEL_MAX) -> Sequence[Waiting]:
        """
        Return the first events that wait, for whoever keeps the trail elsewhere, about in their order.

        They come again until ``taken`` is told that they have arrived. Whoever takes them keeps in the
        same transaction how far he has come in each source, and lets by what he has already.
        """
        self._refuse_if_closed()
        return await self._ask(partial(self._trail.waiting, limit=limit))

    async def taken(self, events: Sequence[Waiting]) -> None:
        """Remove what has arrived where it is kept from now on."""
        self._refuse_if_closed()
        await self._ask(self._trail.taken, events)

    # --- what is common -----------------------------------------------------------------------

    async def _ask(self, ask: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Ask something, for as long as anything may take."""
        try:
            async with asyncio.timeout(self._seconds):
                return await ask(*arguments)
        except TimeoutError as error:
            raise StoreUnavailableError("Valkey does not answer in time") from error

    def _later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever waits is told; nobody does where he has gone, or where an intent was to be settled.
            _log.debug("a change in Valkey did not come to its end: %s", error)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise StoreUnavailableError("the store belongs to another event loop")

    async def _of_each(self, command: bytes, name: bytes, *arguments: bytes) -> list[Any]:
        """Ask each bucket about something that it has one of."""
        return await self.link.send(
            *([command, self._names.of(bucket, name), *arguments] for bucket in range(BUCKETS))
        )
