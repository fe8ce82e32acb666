"""
One world of the sandbox: a store, a clock, people, what was sent and what ran.

A reset throws it away and makes the next one. With a data directory a world goes on where the
one before it in that directory ended, but for the outbox, which is kept in memory only.
"""

import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from watchword.config import Config
from watchword.domain.action import AUTHORISE_SESSION, Action, Actions, Bind, Risk, Route
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.token import TokenId
from watchword.engine.engine import Engine
from watchword.jose.keys import ServerKeys
from watchword.methods.keyring import KEY_BYTES, Keyring
from watchword.methods.registry import Methods
from watchword.sandbox.clock import MovableClock
from watchword.sandbox.entropy import SandboxEntropy
from watchword.sandbox.faces import SandboxFaces
from watchword.sandbox.ledger import Ledger
from watchword.sandbox.outbox import Outbox
from watchword.sandbox.people import DEMO_APPLICATION, People
from watchword.server.settings import ApplicationSettings, Settings
from watchword.store.base import Store, StoreUnavailableError
from watchword.store.memory import MemoryStore
from watchword.store.sqlite import SqliteStore, UnusableFileError

ACTIONS = (
    Action(
        name="BALANCE__GET_STATEMENT",
        risk=Risk.LOW,
        routes=(
            Route.parse("GET /v1/profiles/{profileId}/balance-statements/{balanceId}/statement.json"),
            Route.parse("GET /v1/profiles/{profileId}/balance-statements/{balanceId}/statement.csv"),
            Route.parse("GET /v3/profiles/{profileId}/borderless-accounts/{accountId}/statement.json"),
        ),
    ),
    Action(
        name="TRANSFER__FUND",
        risk=Risk.HIGH,
        routes=(Route.parse("POST /v3/profiles/{profileId}/transfers/{transferId}/payments"),),
        bind=Bind.REQUEST,
    ),
    Action(
        name="BATCH__FUND",
        risk=Risk.HIGH,
        routes=(Route.parse("POST /v3/profiles/{profileId}/batch-payments/{batchGroupId}/payments"),),
        bind=Bind.REQUEST,
    ),
)

LIMITS = Limits(
    token_seconds=3600,
    spend_within_seconds=None,
    sends_per_number=1000,
    # A tester locks the same user over and over, and must not have to enrol him again.
    disable_pin_after=0,
    disable_possession_after=0,
    disable_face_after=0,
)

_RSA_BITS = 2048
"""The least that is taken: a sandbox starts quickly, and keeps no secret."""

_STORE, _LEDGER, _KEYS, _JOSE = "watchword.db", "sandbox.db", "keys.json", "jose.pem"


class UnusableDataError(Exception):
    """The data directory cannot be used; says why."""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys as a file: 32 bytes each in Base64, by number."""

    active: int
    keys: dict[int, bytes]

    def __repr__(self) -> str:
        """Name the numbers, never the keys."""
        return f"KeyFile({sorted(self.keys)}, active={self.active})"


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a reset makes anew."""

    clock: MovableClock
    entropy: SandboxEntropy
    outbox: Outbox
    ledger: Ledger
    actions: Actions
    engine: Engine
    people: People
    keys: ServerKeys
    settings: Settings

    @classmethod
    async def open(cls, config: Config | None = None, data: Path | None = None) -> "World":
        """
        Make a world, or go on with the one in *data*.

        Args:
            config: What replaces the sandbox's own actions and limits.
            data: A directory that is prepared.

        Raises:
            UnusableDataError: What lies in *data* is not the sandbox's, or cannot be read.
        """
        keyring, keys, store, ledger = _in_memory() if data is None else _on_disk(data)
        clock = MovableClock(moved_ms=ledger.moved_ms())
        limits: dict[str, Any] = {} if config is None else dict(config.limits)
        entropy = SandboxEntropy()
        outbox = Outbox(clock)
        engine = Engine(
            store=store,
            clock=clock,
            entropy=entropy,
            methods=Methods(keyring),
            delivery=outbox,
            faces=SandboxFaces(),
            limits=replace(LIMITS, **limits),
        )
        # Beside the rest: the first who asks for a key shall not wait for its making.
        Thread(target=keys.warm, daemon=True).start()
        people = People(engine, ledger)
        await people.start()
        table = Actions(ACTIONS if config is None or config.actions is None else config.actions)
        return cls(clock, entropy, outbox, ledger, table, engine, people, keys, _settings(table))

    def advance(self, seconds: float) -> Instant:
        """
        Move the clock forward and return the new time.

        Raises:
            ValueError: It cannot be moved that way.
        """
        now = self.clock.advance(seconds)
        self.ledger.save_moved_ms(self.clock.moved_ms)
        return now

    def executions(self, token_id: TokenId | None = None) -> dict[str, int]:
        """Return how often each action's handlers ran, in all or under one OTT; 0 for never."""
        never = {name: 0 for name, action in self.actions.by_name.items() if action is not AUTHORISE_SESSION}
        return never | self.ledger.executions(token_id)


def _settings(actions: Actions) -> Settings:
    """Leave enrolment open, as the public API does, unless the configuration names its action."""
    change = actions.by_name.get(CREDENTIAL_CHANGE.name)
    return Settings(
        step_up=StepUpFor.NOTHING if change is None else StepUpFor.TWO_FACTORS,
        credential_change=change or CREDENTIAL_CHANGE,
        applications={DEMO_APPLICATION: ApplicationSettings(manages_users=True)},
    )


def prepare(data: Path) -> None:
    """
    Make the directory and its keys, where they are not there yet; read them where they are.

    Raises:
        UnusableDataError: *data* is no place to keep anything, or its keys are broken.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = data / _KEYS
        if not keys.exists():
            if (data / _STORE).exists():
                raise UnusableDataError(f"{keys} is missing: nothing in {data} can be read without it")
            _write_keys(keys)
        _read_keys(keys)
        if not (data / _JOSE).exists():
            _write_private(data / _JOSE, ServerKeys.generate(rsa_bits=_RSA_BITS).to_pem())
        _read_jose(data / _JOSE)
        # Made here for its mode: SQLite takes an empty file for a new one, and its companions follow it.
        os.close(os.open(data / _LEDGER, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnusableDataError(f"{error.filename or data}: {reason}") from error


def _in_memory() -> tuple[Keyring, ServerKeys, Store, Ledger]:
    return (
        Keyring({1: _new_key()}, active=1),
        ServerKeys.generate(rsa_bits=_RSA_BITS),
        MemoryStore(),
        Ledger(),
    )


def _on_disk(data: Path) -> tuple[Keyring, ServerKeys, Store, Ledger]:
    keyring, keys = _read_keys(data / _KEYS), _read_jose(data / _JOSE)
    try:
        ledger = Ledger(data / _LEDGER)
    except sqlite3.Error as error:
        raise UnusableDataError(f"{data / _LEDGER}: {error}") from error
    try:
        return keyring, keys, SqliteStore.open(data / _STORE), ledger
    except (UnusableFileError, StoreUnavailableError) as error:
        ledger.close()
        raise UnusableDataError(str(error)) from error


def wipe(data: Path) -> None:
    """Forget all that is kept in *data*, but for the keys."""
    # The ledger goes first: without it the next start enrols the demo people anew.
    for name in (_LEDGER, _STORE):
        for suffix in ("", "-wal", "-shm"):
            (data / (name + suffix)).unlink(missing_ok=True)


def _new_key() -> bytes:
    return os.urandom(KEY_BYTES)  # noqa: TID251 - a master key decides nothing that a test must steer.


def _write_keys(path: Path) -> None:
    _write_private(path, msgspec.json.encode(KeyFile(active=1, keys={1: _new_key()})))


def _write_private(path: Path, content: bytes) -> None:
    # Written beside and moved, so that no half of a key file is ever found.
    partial = path.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_jose(path: Path) -> ServerKeys:
    try:
        return ServerKeys.from_pem(path.read_bytes())
    except OSError as error:
        raise UnusableDataError(f"{path}: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        raise UnusableDataError(f"{path}: {error}") from error


def _read_keys(path: Path) -> Keyring:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=KeyFile)
        return Keyring(kept.keys, active=kept.active)
    except OSError as error:
        raise UnusableDataError(f"{path}: {error.strerror or type(error).__name__}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise UnusableDataError(f"{path}: not a key file of the sandbox") from error
