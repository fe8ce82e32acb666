"""
The audit trail: events wait in the bucket of their change, and are moved to one log when somebody reads.

An event is written by the function that writes its change, into the same slot. There it has a number
that grows and is given once, whatever fails over; so whoever takes events on, into the log here or
into another store, keeps in one transaction with them how far he has come, and doubles nothing.
Nobody is given an event that too few replicas have: after a failover it would not have happened.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeAlias

from watchword.domain.decision import Event
from watchword.domain.instant import Instant
from watchword.store import codec
from watchword.store.valkey.layout import BUCKETS, EVENTS, LOG, LOG_CONTROL
from watchword.store.valkey.link import Link

PARCEL_MAX: Final = 1000
"""How many events are moved at once."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    An event that waits in its bucket.

    Attributes:
        source: The bucket.
        number: Its number there.
        at: When it was committed, by the clock of the server, in microseconds.
    """

    source: int
    number: int
    at: int
    event: Event


class Trail:
    """Events on their way, and where they arrive."""

    def __init__(self, link: Link) -> None:
        """Use *link*."""
        self._link = link
        self._log = link.names.of(0, LOG)
        self._control = link.names.of(0, LOG_CONTROL)

    async def waiting(self, *, limit: int, arrived: Mapping[int, int] | None = None) -> list[Waiting]:
        """Return the first events that wait, of each bucket those beyond what has *arrived* of it."""
        arrived = arrived or {}
        count = min(limit, PARCEL_MAX)
        firsts = [arrived.get(bucket, 0) + 1 for bucket in range(BUCKETS)]
        heads: list[Mapping[bytes, Any]] = await self._link.send(
            *(
                [b"XRANGE", self._events(bucket), b"%d" % first, b"+", b"COUNT", b"1"]
                for bucket, first in enumerate(firsts)
            )
        )
        buckets = [bucket for bucket, head in enumerate(heads) if head]
        pages = await asyncio.gather(
            *(self._range(self._events(bucket), firsts[bucket], count) for bucket in buckets)
        )
        sources = [list(_waiting(*each)) for each in zip(buckets, (page for _, page in pages), strict=True)]
        events = list(islice(merge(*sources, key=attrgetter("at")), count))
        told = {each.source for each in events}
        # Buckets of one primary wait together.
        primaries = {
            replid: bucket for bucket, (replid, _) in zip(buckets, pages, strict=True) if bucket in told
        }
        await asyncio.gather(*(self._link.replicated(bucket, replid) for replid, bucket in primaries.items()))
        return events

    async def _range(self, stream: bytes, first: int, count: int) -> tuple[bytes, "_Page"]:
        """Read a stream; says which primary it was."""
        replid, page = await self._link.call("range", [stream], [b"%d" % first, b"%d" % count])
        return replid, page

    async def taken(self, events: Sequence[Waiting]) -> None:
        """Remove what has arrived elsewhere. What a failover brings back is let by, by its number."""
        if events:
            await self._link.send(
                *(
                    [b"XTRIM", self._events(source), b"MINID", b"%d" % (last + 1)]
                    for source, last in _last(events).items()
                )
            )

    async def read(self, *, after: int, limit: int) -> Sequence[tuple[int, Event]]:
        """Return events of the log, once what waits has been moved there."""
        if limit < 1:
            return []
        moved = 0
        while moved < limit and (some := await self._move(limit)):
            moved += some
        replid, page = await self._range(self._log, after + 1, limit)
        if page:
            await self._link.replicated(0, replid)
        return [(_number(id_), codec.decode_event(_fields(pairs)[b"e"])) for id_, pairs in page]

    async def forget(self, before: Instant, *, limit: int) -> int:
        """Remove the oldest events of the log."""
        oldest = await self.read(after=0, limit=limit + 1)
        gone = 0
        while gone < min(limit, len(oldest) - 1) and oldest[gone][1].at < before:
            gone += 1
        if not gone:
            return 0
        [removed] = await self._link.send([b"XTRIM", self._log, b"MINID", b"%d" % oldest[gone][0]])
        return int(removed)

    async def _move(self, limit: int) -> int:
        """
        Move what waits into the log; returns how many events waited.

        The log has, for each bucket, how far it has come there, and all of it moves together: of two
        who do this at once one comes too late, and one who dies leaves nothing half done.
        """
        [control] = await self._link.send([b"HGETALL", self._control])
        arrived = {int(source): int(number) for source, number in control.items() if source.isdigit()}
        events = await self.waiting(limit=limit, arrived=arrived)
        if not events:
            return 0
        last = _last(events)
        arguments = [b"%d" % len(last)]
        for source, number in last.items():
            arguments += (b"%d" % source, b"%d" % arrived.get(source, 0), b"%d" % number)
        arguments += [codec.encode_event(each.event) for each in events]
        code, replid = await self._link.call("append", [self._log, self._control], arguments)
        if code == b"ok":
            # Not before: they would be nowhere if the log's server were lost.
            await self._link.replicated(0, replid)
            await self.taken(events)
        return len(events)

    def _events(self, bucket: int) -> bytes:
        return self._link.names.of(bucket, EVENTS)


_Page: TypeAlias = Sequence[tuple[bytes, Sequence[bytes]]]
"""Of each entry its id, and the names and contents of its fields."""


def _waiting(bucket: int, page: _Page) -> Iterator[Waiting]:
    at = 0
    for id_, pairs in page:
        fields = _fields(pairs)
        # A server's clock may be set back; the order within a bucket stays.
        at = max(at, int(fields[b"t"]))
        yield Waiting(bucket, _number(id_), at, codec.decode_event(fields[b"e"]))


def _fields(pairs: Iterable[bytes]) -> Mapping[bytes, bytes]:
    each = iter(pairs)
    return dict(zip(each, each, strict=True))


def _last(events: Sequence[Waiting]) -> dict[int, int]:
    """Return, for each source, the number of its last event among these."""
    return {each.source: each.number for each in events}


def _number(id_: bytes) -> int:
    return int(id_.partition(b"-")[0])
