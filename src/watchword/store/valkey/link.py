"""
The way to the servers: functions that are called, and replicas that are waited for.

All calls go over one client. Over another goes what finds out how far replicas have come, since
``WAIT`` keeps everything behind it on its connection waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from typing import Any, Final

from glide import ConnectionError, GlideError, TimeoutError  # noqa: A004 - the client's own.

from watchword.store.base import StoreUnavailableError
from watchword.store.valkey.client import Client
from watchword.store.valkey.layout import MARK, Names

_SOURCE: Final = resources.files("watchword.store.valkey").joinpath("library.lua").read_text("utf-8")
LIBRARY: Final = f"watchword_{sha256(_SOURCE.encode()).hexdigest()[:8]}"
"""The library's name: another for each form of it, so that releases side by side have each their own."""
CODE: Final = _SOURCE.replace("@NAME@", LIBRARY)


class Link:
    """Calls functions, and waits for replicas."""

    def __init__(
        self, names: Names, connect: Callable[[], Awaitable[Client]], *, replicas: int, wait_milliseconds: int
    ) -> None:
        """
        Be ready to connect.

        Args:
            connect: Makes a client.
            replicas: How many replicas must have what was written.
            wait_milliseconds: How long they have for it.
        """
        self.names = names
        self._replicas = replicas
        self._wait = wait_milliseconds
        self._calls = _Connection(connect)
        self._waits = _Connection(connect)
        self._groups: dict[bytes, _Group] = {}

    async def open(self) -> None:
        """Connect, and load the functions."""
        await self._calls.client()
        if self._replicas:
            await self._waits.client()
        await self._load()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._calls.close()
        await self._waits.close()

    async def call(self, function: str, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:  # noqa: ANN401
        """
        Call a function of the library; all *keys* lie in one slot.

        Raises:
            StoreUnavailableError: The outcome is unknown. It was called once at the most.
        """
        name = f"{LIBRARY}_{function}"
        for last in (False, True):
            client = await self._calls.client()
            try:
                return await client.call(name, keys, _pack(arguments))
            except GlideError as error:
                if last or "Function not found" not in str(error):
                    self._calls.distrust(client, error)
                    raise unavailable(error) from error
            # A server that took over, or was emptied, may know none; nothing was done.
            await self._load()
        raise AssertionError

    async def send(self, *commands: Sequence[bytes]) -> list[Any]:
        """Send several commands at once, each to where its key lies."""
        client = await self._calls.client()
        try:
            return await client.send(commands)
        except GlideError as error:
            self._calls.distrust(client, error)
            raise unavailable(error) from error

    async def replicated(self, bucket: int, replid: bytes) -> None:
        """
        Wait until what the primary of *bucket* wrote has reached enough replicas.

        All who wait for the same primary meanwhile share one ``WAIT``.

        Args:
            replid: The replication id of the primary when it wrote. Another one means that another
                server has taken over, which may not have what was written.

        Raises:
            StoreUnavailableError: It has not, or not in time.
        """
        if not self._replicas:
            return
        group = self._groups.setdefault(replid, _Group())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        group.waiting.append(future)
        if group.task is None:
            group.task = asyncio.create_task(self._wait_for(group, bucket, replid))
        await future

    async def _wait_for(self, group: "_Group", bucket: int, replid: bytes) -> None:
        waiting: list[asyncio.Future[None]] = []
        try:
            while group.waiting:
                waiting, group.waiting = group.waiting, []
                try:
                    reached = await self._reached(bucket, replid)
                except StoreUnavailableError as error:
                    _fail(waiting, str(error))
                else:
                    if reached < self._replicas:
                        _fail(waiting, f"{reached} of {self._replicas} replicas have what was written")
                    for future in waiting:
                        if not future.done():  # It has failed, or whoever waited is gone.
                            future.set_result(None)
        finally:
            del self._groups[replid]
            _fail([*waiting, *group.waiting], "the replicas could not be asked")

    async def _reached(self, bucket: int, replid: bytes) -> int:
        """
        Count the replicas that have everything that was answered before this was called.

        What ``WAIT`` returns is not relied upon: it speaks of the connection that it came over, which
        may be a new one. Compared is how far each replica has come with a mark that was written after
        everything in question, by the same primary.
        """
        client = await self._waits.client()
        mark = self.names.of(bucket, MARK)
        try:
            marked, _, taken = await client.send(
                [
                    [b"FCALL", f"{LIBRARY}_mark".encode(), b"1", mark, _pack([])],
                    [b"WAIT", b"%d" % self._replicas, b"%d" % self._wait],
                    [b"FCALL_RO", f"{LIBRARY}_taken".encode(), b"1", mark, _pack([])],
                ],
                to=mark,
            )
        except GlideError as error:
            self._waits.distrust(client, error)
            raise unavailable(error) from error
        if marked[0] != replid or taken[0] != replid:
            raise StoreUnavailableError("another Valkey server has taken over")
        return sum(int(offset) >= int(marked[1]) for offset in taken[1:])

    async def _load(self) -> None:
        client = await self._calls.client()
        try:
            await client.load(CODE)
        except GlideError as error:
            if "already exists" not in str(error):
                raise unavailable(error) from error


@dataclass
class _Group:
    """Those who wait for one primary."""

    waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])
    task: asyncio.Task[None] | None = None


class _Connection:
    """A client; made anew once its server is no primary any more, or is gone, where another may be one."""

    def __init__(self, connect: Callable[[], Awaitable[Client]]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._making: asyncio.Task[Client] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def client(self) -> Client:
        """Return the client; all who need it while it is made wait for the same one."""
        if self._client is not None:
            return self._client
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> Client:
        try:
            self._client = await self._connect()
            return self._client
        except GlideError as error:
            raise unavailable(error) from error
        finally:
            self._making = None

    def distrust(self, client: Client, error: GlideError) -> None:
        """Make another client where *error* says that this one's server takes no writes any more."""
        gone = client.others and isinstance(error, ConnectionError | TimeoutError)
        if client is self._client and not client.clustered and (gone or "READONLY" in str(error).upper()):
            self._client = None
            task = asyncio.create_task(client.close())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Let go of it."""
        if self._making is not None:
            self._making.cancel()
        if self._client is not None:
            await self._client.close()
        if self._leaving:
            await asyncio.wait(self._leaving)


def _pack(arguments: Sequence[bytes]) -> bytes:
    """Make one argument of many: their lengths, and all of them."""
    return b",".join([b"%d" % len(each) for each in arguments]) + b"\n" + b"".join(arguments)


def _fail(waiting: Sequence[asyncio.Future[None]], why: str) -> None:
    for future in waiting:
        if not future.done():
            # Each gets an exception of its own: one that is raised grows a traceback.
            future.set_exception(StoreUnavailableError(why))


def unavailable(error: Exception) -> StoreUnavailableError:
    """Say that the servers do not answer, and why."""
    return StoreUnavailableError(f"Valkey does not answer as it should: {error}")
