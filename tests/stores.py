"""
Every kind of store, run for real: what each needs, and places where an empty one is to be had.

A place can be told to another process: to one of several that share a store, or to the sandbox that
``python -m tests.stores`` runs, which forgets everything by going on to another empty place.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from tests.store.postgres import Programs, Server
from tests.store.valkey import patient, shared_cluster, shared_server
from watchword.asgi import ASGIApp
from watchword.config import load
from watchword.sandbox.app import Sandbox
from watchword.server.run import IsDraining, run
from watchword.store.base import Store
from watchword.store.memory import MemoryStore
from watchword.store.postgres import PostgresSettings, PostgresStore
from watchword.store.split import SplitStore
from watchword.store.sqlite import SqliteStore
from watchword.store.valkey import ValkeyStore

KINDS = ("memory", "sqlite", "postgres", "valkey", "valkey-cluster", "split")

_numbers = itertools.count()


def fresh_name() -> str:
    """Return a name that nobody else uses, in whatever process."""
    return f"test_{os.getpid()}_{next(_numbers)}"


def _schema(name: str) -> PostgresSettings:
    """Return settings for tests that are about something else than time: the machine may be busy."""
    return PostgresSettings(schema=name, connect_seconds=20, statement_seconds=20, lock_seconds=20)


def fresh_schema() -> PostgresSettings:
    """Return settings that lead to a schema of their own."""
    return _schema(fresh_name())


class Place(NamedTuple):
    """
    Where one store is.

    Attributes:
        where: A folder, or the URL of a server; of a split store those of both, with a plus between.
        name: A file there, a schema, or what every key begins with.
    """

    kind: str
    where: str = ""
    name: str = ""

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read what ``str`` writes."""
        return cls(*written.split(" "))

    def __str__(self) -> str:
        return " ".join(self)

    def empty(self) -> "Place":
        """Return another place beside this one, where nothing is yet."""
        return self._replace(name=fresh_name())

    async def open(self) -> Store:
        """Open what is there; of what is kept in memory nothing is."""
        match self.kind:
            case "memory":
                return MemoryStore()
            case "sqlite":
                return SqliteStore.open(Path(self.where) / self.name)
            case "postgres":
                return await PostgresStore.open(self.where, settings=_schema(self.name))
            case "split":
                tokens, users = self.where.split("+")
                return SplitStore(
                    await ValkeyStore.open(tokens, settings=patient(self.name)),
                    await PostgresStore.open(users, settings=_schema(self.name)),
                )
            case _:
                return await ValkeyStore.open(self.where, settings=patient(self.name))


@contextmanager
def running(kind: str) -> Iterator[Place]:
    """Run what stores of *kind* need."""
    match kind:
        case "memory":
            yield Place(kind)
        case "sqlite":
            with tempfile.TemporaryDirectory(prefix="stores-") as folder:
                yield Place(kind, folder)
        case "postgres":
            with Programs() as programs, Server(programs) as server:
                server.create()
                server.start()
                yield Place(kind, server.url)
        case "split":
            with running("postgres") as users:
                yield Place(kind, f"{shared_server().url}+{users.where}")
        case _:
            # They end with this process.
            yield Place(kind, (shared_server() if kind == "valkey" else shared_cluster()).url)


# --- what --store asks for --------------------------------------------------------------------

_chosen = Place("memory")
_opened: list[Store] = []


def chosen() -> Place:
    """Return where the tests of the server have their stores."""
    return _chosen


@contextmanager
def choose(kind: str) -> Iterator[None]:
    """Run what *kind* needs, and let the tests of the server have their stores there."""
    global _chosen  # noqa: PLW0603 - one for the whole run: it is what the command line says.
    with running(kind) as _chosen:
        yield
    _chosen = Place("memory")


async def open_chosen() -> Store:
    """Open an empty store of the kind that was chosen."""
    store = await chosen().empty().open()
    _opened.append(store)
    return store


async def close_opened() -> None:
    """Close what ``open_chosen`` opened."""
    while _opened:
        await _opened.pop().close()


# --- a sandbox over it ------------------------------------------------------------------------


def sandbox_command() -> Sequence[str]:
    """Return what is run instead of ``watchword sandbox``, as the arguments of Python."""
    return ("-m", "tests.stores", str(chosen()), "--port", "0")


def _sandbox(place: Place, config: Path | None, _is_draining: IsDraining) -> ASGIApp:
    return Sandbox(None if config is None else load(config), store=lambda: place.empty().open()).app


def main() -> None:
    """Run a sandbox that keeps its world in another store than its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Place.parse)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    run(partial(_sandbox, given.place, given.config), host="127.0.0.1", port=given.port)


if __name__ == "__main__":
    main()
