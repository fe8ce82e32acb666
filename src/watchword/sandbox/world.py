"""
One world of the sandbox: a store, a clock, people, what was sent and what ran.

A reset throws it away and makes the next one. With a data directory a world goes on where the
one before it in that directory ended, but for the outbox, which is kept in memory only.
"""

import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

from watchword.config import Config, EnrolmentTable
from watchword.domain.action import AUTHORISE_SESSION, Action, Actions, Bind, Risk, Route
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.token import TokenId
from watchword.engine.engine import Engine
from watchword.jose.keys import ServerKeys
from watchword.methods.keyring import Keyring
from watchword.methods.registry import Methods
from watchword.page.brand import Brand
from watchword.page.openers import LOOPBACK
from watchword.page.settings import PageSettings
from watchword.sandbox.clock import MovableClock
from watchword.sandbox.entropy import SandboxEntropy
from watchword.sandbox.faces import SandboxFaces
from watchword.sandbox.ledger import Ledger
from watchword.sandbox.outbox import Outbox
from watchword.sandbox.people import DEMO_APPLICATION, People
from watchword.server.settings import ApplicationSettings, Settings
from watchword.serving.keys import (
    ForeignKeysError,
    UnusableKeysError,
    check_ring,
    new_key,
    new_key_file,
    read_jose_keys,
    read_keyring,
    write_private,
)
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
        title=(
            ("en", "See an account statement"),
            ("de", "Kontoauszug ansehen"),
            ("es", "Ver un extracto de cuenta"),
            ("fr", "Consulter un relevé de compte"),
            ("ar", "عرض كشف حساب"),
        ),
    ),
    Action(
        name="TRANSFER__FUND",
        risk=Risk.HIGH,
        routes=(Route.parse("POST /v3/profiles/{profileId}/transfers/{transferId}/payments"),),
        bind=Bind.REQUEST,
        title=(
            ("en", "Pay a transfer"),
            ("de", "Überweisung ausführen"),
            ("es", "Pagar una transferencia"),
            ("fr", "Effectuer un virement"),
            ("ar", "دفع حوالة"),
        ),
    ),
    Action(
        name="BATCH__FUND",
        risk=Risk.HIGH,
        routes=(Route.parse("POST /v3/profiles/{profileId}/batch-payments/{batchGroupId}/payments"),),
        bind=Bind.REQUEST,
        title=(
            ("en", "Pay a group of transfers"),
            ("de", "Sammelüberweisung ausführen"),
            ("es", "Pagar un grupo de transferencias"),
            ("fr", "Payer un groupe de virements"),
            ("ar", "دفع مجموعة حوالات"),
        ),
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


OpensStore: TypeAlias = Callable[[], Awaitable[Store]]


class UnusableDataError(Exception):
    """The data directory cannot be used; says why."""


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
    page: PageSettings

    @classmethod
    async def open(
        cls,
        config: Config | None = None,
        data: Path | None = None,
        page: PageSettings | None = None,
        store: OpensStore | None = None,
        keys: ServerKeys | None = None,
    ) -> "World":
        """
        Make a world, or go on with the one in *data*.

        Args:
            config: What replaces the sandbox's own actions and limits.
            data: A directory that is prepared.
            page: How the approval page looks.
            store: Opens an empty store, where nothing else is kept; without it, and without *data*,
                everything lives in memory.
            keys: Our JOSE keys, where none are kept in *data*; without them new ones.

        Raises:
            UnusableDataError: What lies in *data* is not the sandbox's, or cannot be read.
        """
        if data is None:
            keyring, ledger = Keyring({1: new_key()}, active=1), Ledger()
            keys = new_keys() if keys is None else keys
            kept = MemoryStore() if store is None else await store()
        else:
            keyring, keys, kept, ledger = _on_disk(data)
            await _check_ring(kept, keyring, ledger, data)
        clock = MovableClock(moved_ms=ledger.moved_ms())
        limits: dict[str, Any] = {} if config is None else dict(config.limits)
        entropy = SandboxEntropy()
        outbox = Outbox(clock)
        engine = Engine(
            store=kept,
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
        settings = _settings(table, EnrolmentTable() if config is None else config.enrolment)
        page = replace(
            PageSettings(brand=Brand(name="The Demo Bank")) if page is None else page,
            origin="",
            openers=LOOPBACK,
            secure=False,
            applications={},
            titles={action.name: dict(action.title) for action in table.by_name.values()},
        )
        return cls(clock, entropy, outbox, ledger, table, engine, people, keys, settings, page)

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


def _settings(actions: Actions, enrolment: EnrolmentTable) -> Settings:
    """Leave enrolment open, as the public API does, unless the configuration says what to ask for."""
    change = actions.by_name.get(CREDENTIAL_CHANGE.name)
    return Settings(
        step_up=enrolment.when(StepUpFor.NOTHING if change is None else StepUpFor.TWO_FACTORS),
        credential_change=change or CREDENTIAL_CHANGE,
        trivial_pins=enrolment.trivial_pins(otherwise=True),
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
            write_private(keys, new_key_file())
        read_keyring(keys)
        if not (data / _JOSE).exists():
            write_private(data / _JOSE, new_keys().to_pem())
        read_jose_keys(data / _JOSE)
        # Made here for its mode: SQLite takes an empty file for a new one, and its companions follow it.
        os.close(os.open(data / _LEDGER, os.O_CREAT | os.O_RDWR, 0o600))
    except UnusableKeysError as error:
        raise UnusableDataError(str(error)) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnusableDataError(f"{error.filename or data}: {reason}") from error


def new_keys() -> ServerKeys:
    """Return JOSE keys that nobody has seen yet; each is made when it is first asked for."""
    return ServerKeys.generate(rsa_bits=_RSA_BITS)


def _on_disk(data: Path) -> tuple[Keyring, ServerKeys, Store, Ledger]:
    try:
        keyring, keys = read_keyring(data / _KEYS), read_jose_keys(data / _JOSE)
    except UnusableKeysError as error:
        raise UnusableDataError(str(error)) from error
    try:
        ledger = Ledger(data / _LEDGER)
    except sqlite3.Error as error:
        raise UnusableDataError(f"{data / _LEDGER}: {error}") from error
    try:
        return keyring, keys, SqliteStore.open(data / _STORE), ledger
    except (UnusableFileError, StoreUnavailableError) as error:
        ledger.close()
        raise UnusableDataError(str(error)) from error


async def _check_ring(store: Store, keyring: Keyring, ledger: Ledger, data: Path) -> None:
    try:
        await check_ring(store, keyring)
    except (ForeignKeysError, StoreUnavailableError) as error:
        ledger.close()
        await store.close()
        raise UnusableDataError(f"{data / _KEYS}: {error}") from error


def wipe(data: Path) -> None:
    """Forget all that is kept in *data*, but for the keys."""
    # The ledger goes first: without it the next start enrols the demo people anew.
    for name in (_LEDGER, _STORE):
        for suffix in ("", "-wal", "-shm"):
            (data / (name + suffix)).unlink(missing_ok=True)
