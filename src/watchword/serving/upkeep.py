"""``watchword migrate``, ``backup`` and ``restore``: what is done with a store from outside a server."""

from functools import partial
from pathlib import Path

from watchword.auth.settings import SecretFileError
from watchword.config import ConfigError
from watchword.domain.user import UserSecurity
from watchword.engine.ports import SystemClock
from watchword.serving.in_use import Servers, servers
from watchword.serving.keys import KeyFile, UnusableKeysError, keys_of, read_key_file, retired_beside
from watchword.serving.settings import Deployment, UnusableDeploymentError, load
from watchword.serving.stores import open_store, pending_steps, server_faults
from watchword.store.backup import CopyError, copy


class RefusedError(Exception):
    """A command would do harm, or cannot be carried out; says why, and what to do."""


def deployment_of(config: Path) -> Deployment:
    """
    Read the settings of an installation, as far as a command needs them.

    Raises:
        ConfigError: The configuration has mistakes.
    """
    deployment, mistakes = load(config)
    if deployment.store_file is None:
        mistakes += server_faults(deployment)
    if mistakes:
        raise ConfigError(str(config), mistakes)
    return deployment


async def steps_to_take(deployment: Deployment) -> list[str]:
    """
    Name the migrations that the store lacks, in order; changes nothing.

    Raises:
        RefusedError: The store cannot be used by this version, or does not answer.
    """
    try:
        return await pending_steps(deployment)
    except (UnusableDeploymentError, SecretFileError) as error:
        raise RefusedError(str(error)) from error


async def take_steps(deployment: Deployment) -> None:
    """
    Take the migrations that the store lacks, all of them or none.

    Raises:
        RefusedError: The store cannot be used by this version, or does not answer.
    """
    try:
        store = await open_store(deployment)
    except (UnusableDeploymentError, SecretFileError) as error:
        raise RefusedError(str(error)) from error
    await store.close()


async def run_migrate(config: Path, *, check: bool) -> bool:
    """
    Bring the store to the newest schema, or say what that would take.

    Returns:
        Whether the store is of the newest schema now.

    Raises:
        ConfigError: The configuration has mistakes.
        RefusedError: The store cannot be used by this version, or does not answer.
    """
    deployment = deployment_of(config)
    steps = await steps_to_take(deployment)
    if not steps:
        _say(f"{deployment.store_shown}: its schema is the newest")
        return True
    if check:
        _say(f"{deployment.store_shown}: {len(steps)} steps to take: {', '.join(steps)}")
        return False
    await take_steps(deployment)
    _say(f"{deployment.store_shown}: took {', '.join(steps)}")
    return True


def run_backup(config: Path, target: Path) -> bool:
    """
    Copy the store, which may be served meanwhile, to *target*.

    Returns:
        Whether all of it could be read.

    Raises:
        ConfigError: The configuration has mistakes.
        RefusedError: There is no backup; says why.
    """
    deployment = deployment_of(config)
    needed: set[int] = set()
    try:
        copied = copy(_file_of(deployment), target, look=lambda user: needed.update(keys_of(user)))
    except CopyError as error:
        raise RefusedError(str(error)) from error
    _say(f"{target}: {copied.users} users, {copied.events} events; no tokens and no sessions, on purpose")
    keys = f"{deployment.key_file.name} and {deployment.jose_file.name}"
    _say(f"the keys are not in it: keep {keys} too, but not beside it; without them it opens nothing")
    if needed:
        which = " and ".join(f"key {number}" for number in sorted(needed))
        _say(f"of {deployment.key_file.name} it takes {which} to open what is enrolled in it")
    return _all_were_read(copied.damaged)


def run_restore(config: Path, source: Path) -> bool:
    """
    Put a copy of the store where a server will look for it; no server may run.

    Returns:
        Whether all of it could be read.

    Raises:
        ConfigError: The configuration has mistakes.
        RefusedError: Nothing was restored; says why.
    """
    deployment = deployment_of(config)
    kept = _keys_of_no_server(deployment)
    file = _file_of(deployment)
    # A log of the former store would be played into the restored one.
    for suffix in ("", "-wal", "-shm", "-journal"):
        each = file.with_name(f"{file.name}{suffix}")
        if each.exists():
            raise RefusedError(f"{each}: is there; move the former store away, {file.name} and {file.name}-*")
    try:
        copied = copy(
            source, file, restored_at=SystemClock().now(), look=partial(_refuse_without, kept, deployment)
        )
    except CopyError as error:
        raise RefusedError(str(error)) from error
    _say(f"{file}: {copied.users} users, {copied.events} events; every token and every session is void")
    _say("what happened since that copy was made is lost: credentials removed since are there again")
    _say(f"next: watchword doctor --config {config}; then start the server")
    return _all_were_read(copied.damaged)


def _file_of(deployment: Deployment) -> Path:
    if deployment.store_file is None:
        raise RefusedError(
            f"{deployment.store_shown}: a database server has tools of its own for this: pg_dump, base"
            " backups, snapshots"
        )
    return deployment.store_file


def _keys_of_no_server(deployment: Deployment) -> KeyFile:
    """Read the keys, by which no server may go now."""
    try:
        kept = read_key_file(deployment.key_file)
    except UnusableKeysError as error:
        raise RefusedError(f"keys.file: {error}; put back the keys that the copy was made under") from error
    if servers(deployment.key_file, kept) is not Servers.NONE:
        raise RefusedError("a server of this machine runs: stop every one first")
    return kept


def _refuse_without(kept: KeyFile, deployment: Deployment, user: UserSecurity) -> None:
    if missing := sorted(keys_of(user) - kept.keys.keys()):
        name, number = deployment.key_file, missing[0]
        raise RefusedError(
            f"keys.file: {name}: key {number} is not in it, and what is enrolled in that copy is sealed under"
            f" it; put key {number} into `keys` there, from {retired_beside(name, number).name} or the"
            f" {name.name} of that time"
        )


def _all_were_read(damaged: int) -> bool:
    if damaged:
        _say(f"WRONG: of {damaged} users what is stored is damaged: they get no answer but an error")
    return not damaged


def _say(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - it talks to the person who started it.
