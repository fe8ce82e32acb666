"""The small parts: clock, chance, outbox, ledger."""

import math
import sqlite3
from collections.abc import Callable

import pytest

from tests.factories import make_token
from watchword.delivery.base import Message
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Reserved
from watchword.domain.user import UserId
from watchword.engine.engine import identify
from watchword.engine.principal import PrincipalKind
from watchword.sandbox.clock import MovableClock, iso
from watchword.sandbox.entropy import REMEMBERED, SandboxEntropy
from watchword.sandbox.ledger import Bearer, Ledger
from watchword.sandbox.outbox import Outbox
from watchword.sandbox.people import ADA
from watchword.sandbox.tokens import show
from watchword.serving.keys import KeyFile
from watchword.store.base import StoreUnavailableError


class _Stopped:
    def now(self) -> Instant:
        return Instant(1_700_000_000_123)


def _message(user: int, code: str = "111111") -> Message:
    return Message(channel=Method.SMS, user_id=UserId(user), to="+6588888888", text=code, code=code)


def test_a_moved_clock_is_ahead_by_the_sum_of_its_moves() -> None:
    clock = MovableClock(real=_Stopped(), moved_ms=1000)
    clock.advance(1.5)
    assert clock.advance(0) == clock.now() == Instant(1_700_000_002_623)
    assert clock.moved_ms == 2500


@pytest.mark.parametrize("seconds", [-1, -1e-9, math.nan, math.inf, -math.inf, 1e300])
def test_a_clock_refuses_what_is_no_way_forward(seconds: float) -> None:
    clock = MovableClock(real=_Stopped())
    with pytest.raises(ValueError, match="clock moves"):
        clock.advance(seconds)
    assert clock.moved_ms == 0


def test_moments_are_written_in_utc_to_the_millisecond() -> None:
    assert iso(Instant(1_700_000_000_007)) == "2023-11-14T22:13:20.007Z"


def test_codes_are_all_ones_and_otts_are_not() -> None:
    entropy = SandboxEntropy()
    assert entropy.code(6) == "111111"
    assert len({entropy.uuid() for _ in range(100)}) == 100


def test_the_last_thousand_otts_are_remembered() -> None:
    entropy = SandboxEntropy()
    drawn = [entropy.uuid() for _ in range(REMEMBERED + 1)]
    assert entropy.ott(identify(drawn[0])) is None
    assert entropy.ott(identify(drawn[1])) == drawn[1]
    assert entropy.ott(identify(drawn[-1])) == drawn[-1]


async def test_the_outbox_keeps_the_newest_and_forgets_the_oldest() -> None:
    outbox = Outbox(_Stopped(), kept=3)
    for user, code in ((1, "a"), (2, "b"), (1, "c"), (1, "d")):
        await outbox.send(_message(user, code))
    assert [sent.message.code for sent in outbox.messages()] == ["b", "c", "d"]
    assert [sent.message.code for sent in outbox.messages(UserId(1))] == ["c", "d"]
    assert [sent.message.code for sent in outbox.latest(2)] == ["d", "c"]
    for _ in range(3):
        await outbox.send(_message(3))
    assert outbox.messages(UserId(1)) == outbox.messages(UserId(2)) == []


def test_a_token_that_a_handler_holds_is_shown_with_its_lease() -> None:
    token = make_token(state=Reserved(cleared_at=Instant(5000), lease_until=Instant(9000)))
    shown = show(token, limits=Limits(), now=Instant(6000))
    assert shown.state == "reserved"
    assert (shown.cleared_at, shown.lease_until) == (iso(Instant(5000)), iso(Instant(9000)))


def test_nothing_secret_is_in_what_a_log_would_print() -> None:
    assert repr(ADA) == "NewUser(user_id=6146956)"
    file = KeyFile(active=1, keys={1: b"secret"})
    assert repr(file) == "KeyFile([1], active=1)"


def test_a_ledger_takes_all_of_a_change_or_nothing() -> None:
    ledger = Ledger()
    ledger.save_user(UserId(1), (10,))
    nobody = Bearer(b"digest", PrincipalKind.USER, UserId(2))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.save_user(UserId(1), (20,), nobody)
    assert ledger.users() == {UserId(1): (10,)}
    assert ledger.bearers() == []
    ledger.close()


def test_a_full_ledger_says_that_nothing_was_kept_and_goes_on_once_there_is_room() -> None:
    ledger = Ledger()
    db = ledger._db  # noqa: SLF001 - there is no other way to fill it.
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailableError):
        ledger.save_user(UserId(1), tuple(range(10_000)))
    assert ledger.users() == {}
    db.execute("PRAGMA max_page_count = 1000")
    ledger.save_user(UserId(1), (10,))
    assert ledger.users() == {UserId(1): (10,)}
    ledger.close()


def test_a_closed_ledger_refuses_everything() -> None:
    ledger = Ledger()
    ledger.close()
    bearer = Bearer(b"digest", PrincipalKind.USER, UserId(1))
    calls: list[Callable[[], object]] = [
        lambda: ledger.save_user(UserId(1), (10,), bearer),
        lambda: ledger.save_bearer(bearer),
        lambda: ledger.count("A__B", None),
        lambda: ledger.save_moved_ms(1),
        ledger.users,
        ledger.bearers,
        ledger.executions,
        ledger.moved_ms,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            call()
