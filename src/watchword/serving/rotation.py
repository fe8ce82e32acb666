"""
``watchword keys``: a new master key in the place of an old one, while servers serve.

A server that meets what was made under a key it has not read cannot open it. So a new key is there
before it is used, and an old one stays until nothing needs it; each step waits until every server has
taken the one before. A step is taken by ``rotate``, which says what has to happen before the next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from watchword.auth.settings import SecretFileError
from watchword.domain.instant import Instant
from watchword.engine.ports import SystemClock
from watchword.engine.renewal import Remaining, Renewal, Renewed
from watchword.methods.registry import Methods
from watchword.serving.in_use import RotationUnderWayError, Servers, alone, digest_of, servers
from watchword.serving.keys import (
    KeyFile,
    UnusableKeysError,
    file_fault,
    new_key,
    read_key_file,
    replace_private,
    retired_beside,
    ring_of,
    write_private,
)
from watchword.serving.settings import Deployment, UnusableDeploymentError
from watchword.serving.stores import open_store, pending_steps, watch_lineage
from watchword.serving.upkeep import RefusedError, deployment_of
from watchword.store.base import Store, StoreUnavailableError

NUMBER_MAX = 255
PER_SECOND = 200
"""How many users are changed in a second: a tenth of what one server writes besides."""
_SHOWN_EVERY = 5_000

T = TypeVar("T")


class RotationRefusedError(RefusedError):
    """A step would not be safe now, or cannot be taken; says why, and what to do."""


def run_status(config: Path) -> bool:
    """
    Say where a rotation is; tells whether none is, and every server that is seen goes by the file.

    Raises:
        ConfigError: The configuration has mistakes.
        RotationRefusedError: The key file or the store cannot be used.
    """
    deployment = deployment_of(config)
    kept = _read(deployment.key_file)
    seen = servers(deployment.key_file, kept)
    _say(f"{deployment.key_file}: {_in_words(kept)}")
    _say(f"check: {digest_of(kept).hex()[:8]}, the same wherever the same keys are")
    _say(_SEEN[seen])
    if _older(kept):
        remaining = asyncio.run(_with_store(deployment, kept, lambda renewal: renewal.remaining()))
        _say("; ".join(_needs(remaining, kept)) or f"store: nothing needs another key than {kept.active}")
    if seen is Servers.OTHER:
        _say(f"next: {_RELOAD}")
        return False
    if not _is_under_way(kept):
        return True
    _say(f"next: watchword keys rotate --config {config}")
    return False


def run_rotate(config: Path, *, begin: bool, reloaded: bool, per_second: int = PER_SECOND) -> None:
    """
    Take the next step of a rotation, and say what has to happen before the one after it.

    Args:
        begin: Begin one; without it a rotation that is under way goes on.
        reloaded: The caller knows that every server has read the key file as it is, where none is seen.

    Raises:
        ConfigError: The configuration has mistakes.
        RotationRefusedError: The step would not be safe now.
    """
    deployment = deployment_of(config)
    path = deployment.key_file
    wrong = file_fault(path)
    if wrong is not None:
        raise RotationRefusedError(wrong)
    try:
        with alone(path):
            kept = _read(path)
            needed = _is_under_way(kept) and not reloaded
            _refuse_unless_all_follow(path, kept, needed=needed, elsewhere=deployment.store_file is None)
            if not _is_under_way(kept):
                _add(path, kept, config, begin=begin)
            elif begin:
                raise RotationRefusedError(f"a rotation is under way already: {_in_words(kept)}")
            elif max(kept.keys) > kept.active:
                _activate(path, kept)
            else:
                _finish(deployment, kept, per_second=per_second)
    except RotationUnderWayError as error:
        raise RotationRefusedError(str(error)) from error
    except OSError as error:
        raise RotationRefusedError(f"{error.filename or path}: {error.strerror or error}") from error


def _add(path: Path, kept: KeyFile, config: Path, *, begin: bool) -> None:
    if not begin:
        raise RotationRefusedError(
            f"no rotation is under way; begin one: watchword keys rotate --config {config} --begin"
        )
    number = kept.active + 1
    if number > NUMBER_MAX:
        raise RotationRefusedError(f"{path}: there is no number after {NUMBER_MAX}")
    replace_private(path, _encoded(KeyFile(active=kept.active, keys={**kept.keys, number: new_key()})))
    _say(f"step 1 of 3: key {number} is there, and nothing is made under it yet")
    _say(f"keep {path.name} in your secret store too: without it what is enrolled is lost")
    _say(f"next: {_RELOAD}")


def _activate(path: Path, kept: KeyFile) -> None:
    number = max(kept.keys)
    replace_private(path, _encoded(KeyFile(active=number, keys=kept.keys)))
    _say(f"step 2 of 3: key {number} is active, and makes what is new")
    _say(f"next: {_RELOAD}")


def _finish(deployment: Deployment, kept: KeyFile, *, per_second: int) -> None:
    path = deployment.key_file

    async def renew(renewal: Renewal) -> tuple[Renewed, Remaining]:
        return await renewal.run(per_second=per_second, told=_tell), await renewal.remaining()

    renewed, remaining = asyncio.run(_with_store(deployment, kept, renew))
    _say(f"{renewed.users} users: {renewed.changed} sealed anew under key {kept.active}")
    if remaining:
        needs = "; ".join(_needs(remaining, kept))
        if renewed.unreadable:
            named = ", ".join(str(user_id) for user_id in renewed.unreadable[: Renewal.NAMED_MAX])
            needs += f"; what users {named} have enrolled no key opens: have it removed, or enrolled anew"
        raise RotationRefusedError(f"{needs}; run this again then")
    if deployment.store_file is None and not renewed.users:
        raise RotationRefusedError(f"{deployment.store_shown} holds nobody: is it the one that serves?")
    # The file of the retired ones is there before they go: no power cut loses a key.
    retired = [_retire(path, kept, number) for number in _older(kept)]
    replace_private(path, _encoded(KeyFile(active=kept.active, keys={kept.active: kept.keys[kept.active]})))
    _say(f"step 3 of 3: nothing needs another key than {kept.active}, which is alone in {path.name} now")
    for file in retired:
        _say(f"{file}: what backups of before open with; move it to where they cannot be reached from")
    _say(f"next: {_RELOAD}; then the rotation is done")


def _retire(path: Path, kept: KeyFile, number: int) -> Path:
    file = retired_beside(path.resolve(), number)
    content = KeyFile(active=number, keys={number: kept.keys[number]})
    if file.exists():
        if _read(file) != content:
            raise RotationRefusedError(f"{file}: holds another key; move it to a safe place first")
    else:
        write_private(file, _encoded(content))
    return file


async def _with_store(deployment: Deployment, kept: KeyFile, work: Callable[[Renewal], Awaitable[T]]) -> T:
    store = await _open(deployment)
    try:
        renewal = Renewal(store, Methods(ring_of(deployment.key_file, kept)), SystemClock())
        watch_lineage(store, renewal.begin_anew)
        return await work(renewal)
    except StoreUnavailableError as error:
        raise RotationRefusedError(f"store: {error}") from error
    finally:
        await store.close()


async def _open(deployment: Deployment) -> Store:
    # An empty one would be made there, which needs no key at all.
    if deployment.store_file is not None and not deployment.store_file.exists():
        raise RotationRefusedError(f"store.path: {deployment.store_file}: there is no store")
    try:
        if await pending_steps(deployment):
            raise RotationRefusedError(f"{deployment.store_shown}: run watchword migrate first")
        return await open_store(deployment, migrate=False)
    except (UnusableDeploymentError, SecretFileError) as error:
        raise RotationRefusedError(str(error)) from error


def _refuse_unless_all_follow(path: Path, kept: KeyFile, *, needed: bool, elsewhere: bool) -> None:
    """Refuse a step that a server has not made room for; of those *elsewhere* a person must know."""
    seen = servers(path, kept)
    if seen is Servers.OTHER:
        raise RotationRefusedError(
            f"a server of this machine still goes by an older {path.name}; {_RELOAD}, then run this again"
        )
    if needed and (elsewhere or seen is Servers.NONE):
        which = (
            "servers of other machines are not seen from here"
            if elsewhere
            else "no server of this machine is seen to go by this file"
        )
        raise RotationRefusedError(
            f"{which}; if every server, wherever it is, has read it as it is now, or none runs,"
            " add --reloaded"
        )


def _read(path: Path) -> KeyFile:
    try:
        return read_key_file(path)
    except UnusableKeysError as error:
        raise RotationRefusedError(str(error)) from error


def _encoded(kept: KeyFile) -> bytes:
    return msgspec.json.encode(kept)


def _is_under_way(kept: KeyFile) -> bool:
    return len(kept.keys) > 1


def _older(kept: KeyFile) -> list[int]:
    return sorted(number for number in kept.keys if number < kept.active)


def _in_words(kept: KeyFile) -> str:
    coming = sorted(number for number in kept.keys if number > kept.active)
    words = [f"key {kept.active} is active"]
    words += (f"key {number} is there for when it is activated" for number in coming)
    words += (f"key {number} is to be retired" for number in _older(kept))
    return ", ".join(words)


def _needs(remaining: Remaining, kept: KeyFile) -> Iterator[str]:
    if remaining.count:
        yield f"{remaining.count} users have something that needs another key than {kept.active}"
    if remaining.tokens:
        yield (
            f"{remaining.tokens} open tokens need another key than {kept.active}, the last of them until"
            f" {_time(remaining.until)}"
        )

    if remaining.damaged:
        named = ", ".join(map(str, remaining.damaged))
        yield f"of users {named} a record is damaged, so that nobody knows: restore the store, or delete it"


def _time(moment: Instant) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%H:%M:%S UTC")


def _tell(done: Renewed) -> None:
    if done.users % _SHOWN_EVERY == 0:
        _say(f"{done.users} users looked at, {done.changed} sealed anew")


def _say(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - it talks to the person who started it.


_RELOAD = "have every server reload the key file: SIGHUP, or a restart"
_SEEN = {
    Servers.NONE: "servers of this machine: none is seen",
    Servers.SAME: "servers of this machine: all go by this file",
    Servers.OTHER: "servers of this machine: one at least goes by an older file",
}
