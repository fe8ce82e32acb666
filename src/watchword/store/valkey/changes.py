"""
How a change is made: within one slot by one call, and over several by intents.

An intent is held by a record that a change under way reaches. It holds what the record is to become,
and says where that is decided: in one of the slots, or in another store that the change reaches too.
Whoever meets it sees it settled before he goes on.
"""

import asyncio
import os
import time
from binascii import crc32
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from watchword.store.base import StoreUnavailableError
from watchword.store.valkey.layout import (
    BUCKETS,
    CONTROL,
    DECIDED,
    EVENTS,
    MARK,
    Key,
    Write,
    with_version,
)
from watchword.store.valkey.link import Link

PATIENCE_SECONDS: Final = 0.25
"""How long a change over several slots may stay undecided in the way of others before they end it."""

ELSEWHERE_SECONDS: Final = 0.5
"""The same where it is decided in another store."""

Outcome: TypeAlias = Literal[b"open", b"done", b"undone"]
Decide: TypeAlias = Callable[[bytes, bytes], Awaitable[bool]]
"""Decides a change, told its id and the records that hold its intents; says whether it is to be."""

_ELSEWHERE: Final = b""
"""What stands in an intent for a bucket where that is not decided in any."""
_DONE, _UNDONE = b"done", b"undone"


class Elsewhere(Protocol):
    """Another store, where it is decided what becomes of changes that reach it too."""

    async def outcome(self, commit: bytes, *, end: bool) -> Outcome:
        """Return what was decided; with *end*, an open change ends undone, and can never be done."""
        ...

    async def settled(self, commit: bytes) -> None:
        """Learn that no intent of a change that was done is left, nor can come back."""
        ...


class Changes:
    """
    Reads records as the changes left them that reach them, and changes them.

    Attributes:
        elsewhere: The other store, where there is one.
    """

    def __init__(
        self,
        link: Link,
        *,
        alone: bytes,
        later: Callable[[Coroutine[Any, Any, None]], object],
        heard: Callable[[int, bytes], None],
    ) -> None:
        """
        Be ready.

        Args:
            alone: What the functions are told of the lineage.
            later: Sees to what nobody waits for.
            heard: Is told in which lineage a bucket is.
        """
        self._link = link
        self._names = link.names
        self._alone = alone
        self._later = later
        self._heard = heard
        self.elsewhere: Elsewhere | None = None
        self._loop = asyncio.get_running_loop()
        self._epochs: dict[int, bytes] = {}
        self._name = b""
        self._commits = 0

    async def stored(self, key: Key) -> bytes | None:
        """Return the stored form of a record; None where there is none, or a token of another lineage."""
        while True:
            lineage, version, written_in, body, held, *_ = await self._read(key)
            if held:
                await self.resolve(key)
            elif not version:
                return None
            elif written_in == lineage:
                return body
            elif key.kind == b"t":
                return None  # Void: it may have been spent in what a failover lost.
            else:
                await self._adopt(key)

    async def _read(self, key: Key) -> Sequence[bytes]:
        found: Sequence[bytes] = await self._link.call("read", [self._names(key)], [self._alone])
        self._heard(key.bucket, found[0])
        return found

    async def _adopt(self, key: Key) -> None:
        """
        Take a record over that was written in another lineage.

        Its version leaps to where no other lineage has been: of what a failover lost, somebody may
        still remember versions, and what was decided from those shall not fit.
        """
        lineage, version, written_in, body, *_ = await self._read(key)
        if version and written_in != lineage:
            leapt = leap(int(version), lineage)
            arguments = [self._alone, version, written_in, b"%d" % leapt, with_version(key, body, leapt)]
            await self._link.call("adopt", [self._names(key)], arguments)

    async def together(self, bucket: int, records: Sequence[Write], events: Sequence[bytes]) -> bool:
        """Store a change with one call."""
        while True:
            code, detail = await self._decide(bucket, records, events)
            match code:
                case b"ok":
                    await self._link.replicated(bucket, detail)
                    return True
                case b"moved":
                    return False
                case _:
                    await self._clear_away(code, detail)

    async def _decide(
        self,
        bucket: int,
        records: Sequence[Write],
        events: Sequence[bytes],
        *,
        commit: bytes = b"",
        epoch: bytes = b"",
        elsewhere: bytes = b"",
    ) -> tuple[bytes, bytes]:
        of = self._names.of
        keys = [of(bucket, CONTROL), of(bucket, EVENTS), of(bucket, DECIDED)]
        arguments = [self._alone, commit, epoch, elsewhere, b"%d" % len(records)]
        for each in records:
            keys += self._keys(each)
            arguments += each.arguments()
        answer: tuple[bytes, bytes] = await self._link.call("commit", keys, [*arguments, *events])
        return answer

    async def apart(
        self, bucket: int, here: Sequence[Write], elsewhere: Sequence[Write], events: Sequence[bytes]
    ) -> bool:
        """
        Store a change over several slots.

        1. Each record elsewhere takes an intent, which holds what it is to become and says where
           that is decided. Always in the same order, so that of two who want the same one goes on.
        2. The intents reach the replicas.
        3. One call in the change's own slot decides: it writes everything that is there, and that it
           was decided. What it compares besides versions is the epoch of the bucket, which whoever
           found the intents and lost patience has raised.
        4. The intents are settled, by whoever is first: this one, who meets them, or a sweep.

        Dying anywhere before the third step has changed nothing, and after it everything.
        """
        elsewhere, reach = self._in_order(elsewhere)
        while True:
            commit = await self.next_commit()
            epoch = self._epochs.get(bucket) or await self.epoch(bucket)
            code, detail, taken = await self._prepare(elsewhere, commit, b"%d" % bucket, epoch)
            if code == b"ok":
                code, detail = await self._decide(
                    bucket, here, events, commit=commit, epoch=epoch, elsewhere=reach
                )
            if code == b"ok":
                await self._link.replicated(bucket, detail)
                _ = self._later(self._settle_all(bucket, commit, [each.key for each in elsewhere]))
                return True
            await self._undo(taken, commit)
            if code == b"moved":
                return False
            if code == b"epoch":
                self._epochs[bucket] = detail
            else:
                await self._clear_away(code, detail)

    async def decided_by(self, decide: Decide, records: Sequence[Write]) -> bool:
        """
        Store the part that is here of a change which another store decides.

        As in ``apart``, but that all records take intents, and that *decide* is the third step: its
        store keeps what was decided, where whoever meets an intent looks. Where *decide* raises,
        nobody here knows, and the intents stay for those who meet them.
        """
        records, reach = self._in_order(records)
        while True:
            commit = await self.next_commit()
            code, detail, taken = await self._prepare(records, commit, _ELSEWHERE, b"")
            if code == b"ok":
                if await decide(commit, reach):
                    _ = self._later(self.settle(commit, reach))
                    return True
                code = b"moved"
            await self._undo(taken, commit)
            if code == b"moved":
                return False
            await self._clear_away(code, detail)

    async def settle(self, commit: bytes, reach: bytes) -> None:
        """Settle the intents of a change that the other store decided, and tell it so."""
        await self._settle_done(commit, self._keys_in(reach))
        await self._other().settled(commit)

    def _other(self) -> Elsewhere:
        if self.elsewhere is None:
            raise StoreUnavailableError(
                "a change under way was decided in a store that is not open here: tokens and users are split"
            )
        return self.elsewhere

    def _in_order(self, records: Sequence[Write]) -> tuple[list[Write], bytes]:
        """Put records into the order in which they take intents; also name them."""
        ordered = sorted(records, key=lambda each: (each.key.bucket, each.key.name))
        return ordered, b" ".join(self._names(each.key) for each in ordered)

    def _keys_in(self, reach: bytes) -> list[Key]:
        return [self._names.key(name) for name in reach.split(b" ")]

    async def _undo(self, taken: Sequence[Write], commit: bytes) -> None:
        await asyncio.gather(*(self._settle(each.key, commit, _UNDONE) for each in taken))

    async def _prepare(
        self, elsewhere: Sequence[Write], commit: bytes, bucket: bytes, epoch: bytes
    ) -> tuple[bytes, bytes, Sequence[Write]]:
        """Let the records take intents; says how far that went, and which have one."""
        taken: list[Write] = []
        written: list[tuple[int, bytes]] = []
        for each in elsewhere:
            arguments = [self._alone, commit, bucket, epoch, *each.arguments()]
            code, detail = await self._link.call("prepare", self._keys(each), arguments)
            if code != b"ok":
                return code, detail, taken
            taken.append(each)
            written.append((each.key.bucket, detail))
        await asyncio.gather(*(self._link.replicated(*each) for each in written))
        return b"ok", b"", taken

    def _keys(self, write: Write) -> list[bytes]:
        name = self._names(write.key)
        return [name, self._names.of(write.key.bucket, write.index) if write.index else name]

    async def next_commit(self) -> bytes:
        """Return an id that no other change has: the lineage, the store's number in it, and its own."""
        if not self._name:
            control = self._names.of(0, CONTROL)
            epoch = await self.epoch(0)
            [number] = await self._link.send([b"HINCRBY", control, b"stores", b"1"])
            # Of a server that was emptied the number says nothing, so the process speaks for itself as well.
            self._name = b"%s-%d-%d-%d" % (epoch, number, os.getpid(), time.monotonic_ns())
        self._commits += 1
        return b"%s-%d" % (self._name, self._commits)

    async def epoch(self, bucket: int) -> bytes:
        """Ask for a bucket's epoch, and so for its lineage."""
        epoch: Any = await self._link.call("epoch", [self._names.of(bucket, CONTROL)], [self._alone])
        assert isinstance(epoch, bytes)
        self._heard(bucket, epoch.rpartition(b":")[0])
        self._epochs[bucket] = epoch
        return epoch

    async def _clear_away(self, code: bytes, name: bytes) -> None:
        """See to a record that nothing can be compared with as it is."""
        key = self._names.key(name)
        if code == b"held":
            await self.resolve(key)
        else:
            await self._adopt(key)

    async def resolve(self, key: Key) -> None:
        """See an intent settled, however the change that it belongs to ended; if need be, end it."""
        patience, waited_for = 0.0, b""
        while True:
            _, _, _, _, commit, bucket, epoch = await self._read(key)
            if not commit:
                return
            if commit != waited_for:
                seconds = ELSEWHERE_SECONDS if bucket == _ELSEWHERE else PATIENCE_SECONDS
                patience, waited_for = self._loop.time() + seconds, commit
            end = self._loop.time() >= patience
            if bucket == _ELSEWHERE:
                code = await self._other().outcome(commit, end=end)
            else:
                code = await self._outcome(int(bucket), commit, epoch, end=end)
            if code != b"open":
                await self._settle(key, commit, code)
                return
            await asyncio.sleep(0.01)

    async def _outcome(self, bucket: int, commit: bytes, epoch: bytes, *, end: bool) -> Outcome:
        keys = [self._names.of(bucket, CONTROL), self._names.of(bucket, DECIDED)]
        arguments = [self._alone, commit, epoch, b"1" if end else b"0"]
        found: tuple[Outcome, bytes] = await self._link.call("outcome", keys, arguments)
        code, replid = found
        if code != b"open":
            # Of a server that was cut off neither answer counts.
            await self._link.replicated(bucket, replid)
        return code

    async def _settle(self, key: Key, commit: bytes, code: bytes) -> bytes:
        answer: tuple[bytes, bytes] = await self._link.call("settle", [self._names(key)], [commit, code])
        return answer[1]

    async def _settle_all(self, bucket: int, commit: bytes, keys: Sequence[Key]) -> None:
        """Settle what was decided, and forget the decision once no intent can come back."""
        await self._settle_done(commit, keys)
        await self._link.send([b"HDEL", self._names.of(bucket, DECIDED), commit])

    async def _settle_done(self, commit: bytes, keys: Sequence[Key]) -> None:
        for key in keys:
            await self._link.replicated(key.bucket, await self._settle(key, commit, _DONE))

    async def settle_what_is_left(self) -> None:
        """Settle what was decided by those who died before they had."""
        there: list[Any] = await self._link.send(
            *([b"HGETALL", self._names.of(bucket, DECIDED)] for bucket in range(BUCKETS))
        )
        for bucket in (bucket for bucket, some in enumerate(there) if some):
            replid, found = await self._link.call("decided", [self._names.of(bucket, DECIDED)], [])
            # What a server said that was cut off is not believed: it knows nothing that others decided since.
            await self._link.replicated(bucket, replid)
            for commit, reach in zip(found[::2], found[1::2], strict=True):
                await self._settle_all(bucket, commit, self._keys_in(reach))

    async def alive(self, bucket: int) -> None:
        """Find out whether a bucket's primary takes a write and has its replicas."""
        replid, _ = await self._link.call("mark", [self._names.of(bucket, MARK)], [])
        await self._link.replicated(bucket, replid)


def leap(version: int, of: bytes) -> int:
    """Return a later version that nobody has given before who leapt for something else than *of*."""
    return version + (1 + crc32(of) % (1 << 20) << 20)
