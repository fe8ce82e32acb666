"""
Which servers of this machine go by which key file, told by locks that end with their process.

Beside the key file lies an empty one. A server holds a shared lock on one byte of it, whose place is a
digest of the keys that it read: so a rotation sees that somebody still goes by another file than the
one that is there, be it copied over in place or renamed. Nothing is left behind by a server that dies.
"""

import fcntl
import logging
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from watchword.methods.keyring import Keyring
from watchword.serving.keys import KeyFile, read_key_file, ring_of

_FLOCK = "hhqqi4x"
"""``struct flock`` of Linux on 64 bits: type, whence, start, length, process."""
_PLACE_BYTES = 7
_END = 0
_log = logging.getLogger("watchword")


class Servers(StrEnum):
    """The servers of this machine that were seen."""

    NONE = "none"
    SAME = "same"
    """All go by the file that is there."""
    OTHER = "other"
    """One at least goes by another file than the one that is there."""


class RotationUnderWayError(Exception):
    """Another command is changing the key file."""


@contextmanager
def going_by(path: Path) -> Generator[Keyring]:
    """
    Read the master keys, and be seen to go by them meanwhile.

    Raises:
        UnusableKeysError: They cannot be read, or are none.
    """
    while True:
        kept = read_key_file(path)
        with _marked(path, kept):
            # A step may have been taken between reading and marking, which nobody was seen in the way of.
            if read_key_file(path) == kept:
                yield ring_of(path, kept)
                return


def allow_to_be_seen(path: Path) -> None:
    """
    Make the file beside *path* that servers lock: where one may not write, it has to be there.

    Raises:
        OSError: It cannot be made.
    """
    os.close(os.open(_beside(path), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def _marked(path: Path, kept: KeyFile) -> Generator[None]:
    try:
        descriptor = os.open(_beside(path), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _log.warning("%s: %s: `watchword keys` cannot see this server", _beside(path), error.strerror)
        yield
        return
    try:
        _set(descriptor, fcntl.F_RDLCK, place_of(kept), 1)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Generator[None]:
    """
    Be the only command that changes the key file.

    Raises:
        RotationUnderWayError: Another one is at it.
        OSError: The file beside it cannot be made.
    """
    descriptor = os.open(_beside(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            _set(descriptor, fcntl.F_WRLCK, 0, 1)
        except OSError as error:
            raise RotationUnderWayError(f"{path}: another command is changing it") from error
        yield
    finally:
        os.close(descriptor)


def servers(path: Path, kept: KeyFile) -> Servers:
    """Look for the servers of this machine that go by *path*, which holds *kept*."""
    try:
        descriptor = os.open(_beside(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Servers.NONE
    try:
        place = place_of(kept)
        if _held(descriptor, 1, place - 1) or _held(descriptor, place + 1, _END):
            return Servers.OTHER
        return Servers.SAME if _held(descriptor, place, 1) else Servers.NONE
    finally:
        os.close(descriptor)


def place_of(kept: KeyFile) -> int:
    """Return the byte that stands for these keys; never the first, which is for commands."""
    return 2 + int.from_bytes(digest_of(kept)[:_PLACE_BYTES])


def digest_of(kept: KeyFile) -> bytes:
    """Return what two files have in common that hold the same keys."""
    parts = [bytes([number]) + key for number, key in sorted(kept.keys.items())]
    return sha256(b"watchword/key file/" + bytes([kept.active]) + b"".join(parts)).digest()


def _beside(path: Path) -> Path:
    resolved = path.resolve()
    return resolved.with_name(f"{resolved.name}.lock")


def _set(descriptor: int, kind: int, start: int, length: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0))


def _held(descriptor: int, start: int, length: int) -> bool:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    kind: int = struct.unpack(_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK
