"""
A disk that can be watched, broken, and lose its power.

It stands between SQLite and the real files. Of each file it knows what was synced and what was
only written since. When the power fails, what was not synced is gone, or any part of it is: a
real disk promises nothing about it, not even the order. Everything after that moment fails too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path
from random import Random
from threading import RLock
from types import TracebackType
from typing import Self

import apsw

SECTOR = 512


class Fault(Enum):
    """What may be wrong with a disk."""

    FULL = auto()
    UNWRITABLE = auto()
    UNSYNCABLE = auto()
    UNREADABLE = auto()


@dataclass(slots=True)
class _File:
    """What of a file is safe, and what was done to it since; None is what cutting it does."""

    durable: bytearray
    exists: bool
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        """Make safe what was done to it, and that it is there."""
        _apply(self.durable, self.since)
        self.since.clear()
        self.exists = True

    def after_power_loss(self, chance: Random | None) -> bytes:
        """Return what is left: none of what was not synced, or, by *chance*, parts of it."""
        left = bytearray(self.durable)
        if chance is not None:
            _apply(left, [part for part in _torn(self.since, chance) if chance.random() < 0.5])
        return bytes(left)


def _apply(content: bytearray, writes: list[tuple[int, bytes | None]]) -> None:
    for offset, data in writes:
        if data is None:
            del content[offset:]
            continue
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data


def _torn(writes: list[tuple[int, bytes | None]], chance: Random) -> list[tuple[int, bytes | None]]:
    parts: list[tuple[int, bytes | None]] = []
    for offset, data in writes:
        if data is None:
            parts.append((offset, None))
        else:
            parts += ((offset + start, data[start : start + SECTOR]) for start in range(0, len(data), SECTOR))
    chance.shuffle(parts)
    return parts


class PowerLostError(apsw.IOError):
    """The power is off."""


class Disk(apsw.VFS):
    """A disk, to be named to SQLite as ``disk.name``; to be used in a ``with`` block."""

    _numbers = count()

    def __init__(self, folder: Path) -> None:
        """Hold what is in *folder*."""
        self.name = f"disk-{next(self._numbers)}"
        self.fault: Fault | None = None
        self.syncs = 0
        self.operations = 0
        self.on_operation: Callable[[], None] = lambda: None
        self._files = {
            str(file): _File(bytearray(file.read_bytes()), exists=True)
            for file in folder.iterdir()
            if not file.name.endswith("-shm")  # Memory that processes share.
        }
        # Deleted, but only in memory yet: the folder was not synced since.
        self._ghosts: dict[str, _File] = {}
        self._powered = True
        self._lock = RLock()
        super().__init__(self.name, "unix")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()

    def cut_power(self) -> None:
        """Let everything fail from now on; what was not synced is lost."""
        self._powered = False

    def salvage(self, folder: Path, chance: Random | None = None) -> None:
        """Leave in *folder* what survived, and nothing else."""
        assert not self._powered, "cut the power first"
        for old in folder.iterdir():
            old.unlink()
        there = {path: file for path, file in self._files.items() if file.exists}
        for path, file in (self._ghosts | there).items():
            (folder / Path(path).name).write_bytes(file.after_power_loss(chance))

    # --- what SQLite asks for -----------------------------------------------------------------

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        self.operate()
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None
        with self._lock:
            file = self._files.setdefault(path, _File(bytearray(), exists=Path(path).exists()))
            return _Handle(self, file, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.operate()
        with self._lock:
            super().xDelete(filename, syncdir)
            file = self._files.pop(filename, None)
            if syncdir:
                self._ghosts.clear()
            elif file is not None and file.exists:
                self._ghosts[filename] = file

    def sync(self, file: _File) -> None:
        """Make a file safe."""
        with self._lock:
            self.syncs += 1
            if not file.exists:
                # SQLite syncs the folder with a new log or journal.
                self._ghosts.clear()
            file.sync()

    def operate(self, *, writing: bool = False, syncing: bool = False) -> None:
        """Do one thing, if it can be done."""
        with self._lock:
            self.operations += 1
            self.on_operation()
            if not self._powered:
                raise PowerLostError
            if self.fault is Fault.FULL and writing:
                raise apsw.FullError
            if self.fault is Fault.UNWRITABLE and writing:
                raise apsw.IOError
            if self.fault is Fault.UNSYNCABLE and syncing:
                raise apsw.IOError

    def readable(self) -> None:
        """Fail if nothing can be read."""
        if self.fault is Fault.UNREADABLE:
            raise apsw.IOError


class _Handle(apsw.VFSFile):
    """One opening of a file."""

    def __init__(
        self, disk: Disk, file: _File, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.readable()
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.operate(writing=True)
        super().xWrite(data, offset)
        self._file.since.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.operate(writing=True)
        super().xTruncate(newsize)
        self._file.since.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802
        # The real disk need not: what counts is what would be there.
        self._disk.operate(syncing=True)
        self._disk.sync(self._file)
