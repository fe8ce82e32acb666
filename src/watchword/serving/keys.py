"""
Key files: our master keys and our JOSE keys, read with suspicion and written with care.

The sandbox and the server for production share the formats. What production refuses besides is
``file_fault`` and ``weak_key``: a test world may lie about in the open, a bank's keys may not.
"""

import os
import re
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from watchword.domain.credential import DeviceFingerprint, FaceMap, Phone, Pin
from watchword.domain.user import UserSecurity
from watchword.jose.keys import KeyFileError, ServerKeys
from watchword.methods.base import row
from watchword.methods.device_fingerprint import is_only_digested
from watchword.methods.keyring import KEY_BYTES, KeyMissingError, Keyring, Purpose, Tampered
from watchword.store.base import Store, StoreCorruptError

# How far into the trail a start looks for something to open, and how many users it asks for it.
_EVENTS_AT_ONCE = 1_000
_EVENTS_MAX = 20_000
_USERS_MAX = 20
# 32 random bytes have 30 different ones, give or take two; under 16 in no run of the universe.
_DIFFERENT_BYTES_MIN = 16

_SEALED = {
    Pin: Purpose.PIN,
    Phone: Purpose.PHONE,
    FaceMap: Purpose.FACE_MAP,
    DeviceFingerprint: Purpose.DEVICE,
}


class UnusableKeysError(Exception):
    """A key file cannot be used; says why, and never with what it holds."""


class ForeignKeysError(Exception):
    """What lies in the store was made with other keys."""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The master keys as a file: 32 bytes each in Base64, by number."""

    active: int
    keys: dict[int, bytes]

    def __repr__(self) -> str:
        """Name the numbers, never the keys."""
        return f"KeyFile({sorted(self.keys)}, active={self.active})"


def new_key() -> bytes:
    """Draw a master key."""
    return os.urandom(KEY_BYTES)  # noqa: TID251 - a master key decides nothing that a test must steer.


def new_key_file() -> bytes:
    """Return a key file with one fresh key."""
    return msgspec.json.encode(KeyFile(active=1, keys={1: new_key()}))


def write_private(path: Path, content: bytes) -> None:
    """
    Write a new file that its owner alone may read, whole or not at all.

    Raises:
        FileExistsError: Something has this name already, be it a link that leads nowhere.
        OSError: It cannot be written.
    """
    # Written beside, and then given its name, so that no half of a key file is ever found. Nobody can
    # foresee the name beside it and put a link there; and a name that is taken is never taken over.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path, follow_symlinks=False)
    finally:
        os.unlink(partial)  # noqa: PTH108 - it is a name, not a Path.
    _sync_folder(path.parent)


def replace_private(path: Path, content: bytes) -> None:
    """
    Put *content* in the place of a file that its owner alone may read: the old one, or the new one, whole.

    Raises:
        OSError: It cannot be written; the old one is as it was.
    """
    path = path.resolve()
    _forget_partial(path)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105 - it is a name, not a Path.
    except BaseException:
        os.unlink(partial)  # noqa: PTH108
        raise
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _forget_partial(path: Path) -> None:
    """Remove what a write left that the power ended: it has keys in it."""
    for left in path.parent.iterdir():
        # As `tempfile` names what it makes: a person's own copies are named otherwise.
        if re.fullmatch(re.escape(f".{path.name}.") + "[a-z0-9_]{8}", left.name):
            left.unlink(missing_ok=True)


def read_key_file(path: Path) -> KeyFile:
    """
    Read the master keys.

    Raises:
        UnusableKeysError: They cannot be read, or one has another length than it must.
    """
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except OSError as error:
        raise UnusableKeysError(f"{path}: {error.strerror or type(error).__name__}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise UnusableKeysError(
            f'{path}: not a key file, which is {{"active": 1, "keys": {{"1": "32 bytes in Base64"}}}}'
        ) from error
    ring_of(path, kept)
    return kept


def read_keyring(path: Path) -> Keyring:
    """
    Read the master keys, as the ring that they make.

    Raises:
        UnusableKeysError: They cannot be read, or one has another length than it must.
    """
    return ring_of(path, read_key_file(path))


def ring_of(path: Path, kept: KeyFile) -> Keyring:
    """
    Return the ring that a key file makes.

    Raises:
        UnusableKeysError: One of its keys has another length than it must.
    """
    try:
        return Keyring(kept.keys, active=kept.active)
    except ValueError as error:
        raise UnusableKeysError(f"{path}: not a key file: {error}") from error


def read_jose_keys(path: Path) -> ServerKeys:
    """
    Read our JOSE keys.

    Raises:
        UnusableKeysError: They cannot be read, or one of them is not safe to use.
    """
    try:
        return ServerKeys.from_pem(path.read_bytes())
    except OSError as error:
        raise UnusableKeysError(f"{path}: {error.strerror or type(error).__name__}") from error
    except KeyFileError as error:
        raise UnusableKeysError(f"{path}: {error}") from error


def file_fault(path: Path) -> str | None:
    """Say why a file with a secret is not safe where it lies; None where it is, or is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: is not a plain file"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path}: others than its owner may read or change it; run: chmod 600 {path}"
    return owner_fault(path)


def owner_fault(path: Path) -> str | None:
    """Say that a file belongs to somebody who could change it under us; None where nobody could."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    if owner in {0, os.geteuid()}:
        return None
    return (
        f"{path}: belongs to user {owner}, who can change it at any time;"
        f" run this as that user, or, if it shall be yours: chown {os.geteuid()} {path}"
    )


def changeable(path: Path) -> str | None:
    """Say that others can change a file that is no secret; None where nobody can."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others than its owner may change it; run: chmod go-w {path}"
    wrong = owner_fault(path)
    return None if wrong is None else wrong.removeprefix(f"{path}: ")


def weak_key(path: Path) -> str | None:
    """Say which master key nobody drew at random; None where each may have been."""
    for number, key in read_key_file(path).keys.items():
        if len(set(key)) < _DIFFERENT_BYTES_MIN:
            return (
                f"{path}: key {number} is not random; take the one of `watchword init`, or of"
                " `openssl rand -base64 32`"
            )
    return None


async def check_ring(store: Store, keyring: Keyring) -> None:
    """
    Open some of what the store holds, to find out now whether these keys made it.

    With the keys of another installation everything would seem well, until the first person who is
    asked for his PIN meets an error. The first people of the trail are asked; a store in which
    nobody has enrolled anything fits any keys.

    Raises:
        ForeignKeysError: A key is missing from the ring, or nothing opens.
        StoreUnavailableError: The store cannot be read.
    """
    opened, failed = 0, 0
    async for user in _first_users(store):
        for purpose, sealed, bound_to in _sealed(user):
            try:
                keyring.open(purpose, sealed, bound_to=bound_to)
            except KeyMissingError as error:
                raise ForeignKeysError(f"{error}, and what it made is in the store: put it back") from error
            except Tampered:
                failed += 1
            else:
                opened += 1
    if failed and not opened:
        raise ForeignKeysError("what is in the store was made with other keys: put its own key file back")


def retired_beside(path: Path, number: int) -> Path:
    """Return where a rotation puts the key that it takes out of *path*."""
    return path.with_name(f"{path.stem}.retired-{number}{path.suffix}")


def keys_of(user: UserSecurity) -> set[int]:
    """Return the numbers of the keys that what *user* enrolled is sealed under."""
    return {sealed[0] for _, sealed, _ in _sealed(user) if sealed}


async def _first_users(store: Store) -> AsyncIterator[UserSecurity]:
    seen: set[int] = set()
    found = looked = after = 0
    while found < _USERS_MAX and looked < _EVENTS_MAX:
        events = await store.events(after=after, limit=_EVENTS_AT_ONCE)
        if not events:
            return
        after, looked = events[-1][0], looked + len(events)
        for _, event in events:
            if event.user_id is None or event.user_id in seen:
                continue
            seen.add(event.user_id)
            try:
                user = await store.user(event.user_id)
            except StoreCorruptError:
                # One row that somebody damaged keeps one user out, and not all of them.
                continue
            if user is not None and any(True for _ in _sealed(user)):
                found += 1
                yield user
            if found == _USERS_MAX:
                return


def _sealed(user: UserSecurity) -> Iterator[tuple[Purpose, bytes, bytes]]:
    for credential in user.credentials:
        if isinstance(credential, DeviceFingerprint) and is_only_digested(credential):
            continue  # As an earlier version left it: nothing that opens.
        if isinstance(credential, Pin | Phone | FaceMap | DeviceFingerprint):
            yield _SEALED[type(credential)], credential.sealed, row(user.id, credential.id)
