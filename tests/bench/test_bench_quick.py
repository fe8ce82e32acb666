"""The bench's own arithmetic, on samples; no server and no load generator runs here."""

import pytest

from bench.load import BenchError, Cycles, parse, percentile
from bench.prefill import FIRST_USER, KEYRING, fill
from bench.report import Measurement, Summary, summarise, table, targets, verdicts
from watchword.domain.credential import Phone
from watchword.domain.instant import Instant
from watchword.domain.method import Method
from watchword.domain.token import Spent
from watchword.domain.user import UserId
from watchword.methods.phone import PhoneMethod
from watchword.store.memory import MemoryStore

WRK = """\
Running 4s test @ http://127.0.0.1:8000
  1 threads and 32 connections
  5000 requests in 4.00s, 1.70MB read
{cycles}
{failures}sockets {sockets}
"""


def output(*, failures: str = "", sockets: int = 0) -> str:
    """One cycle ends each millisecond from 1 s to 4 s; each took 10 ms, one in fifty 30 ms."""
    lines = [
        f"cycle {1_000_000 + 1000 * index} {30_000 if index % 50 == 0 else 10_000}" for index in range(3001)
    ]
    return WRK.format(cycles="\n".join(lines), failures=failures, sockets=sockets)


def measured(server: str, *, round_: int, rate: float, tokens: int = 1000, cpu: float = 500) -> Measurement:
    return Measurement(
        server=server,
        tokens=tokens,
        round=round_,
        cycles=Cycles(count=1000, per_second=rate, p50_ms=10, p99_ms=30, max_ms=50),
        cpu_us_per_cycle=cpu,
        peak_memory_mib=70 + round_,
        generator_cores=0.3,
        answer_bytes=(1, 2, 3, 4, 5),
    )


def test_the_warm_up_counts_neither_in_the_cycles_nor_in_the_time() -> None:
    cycles = parse(output(), warm_up=1)
    # The first cycle began at 0.97 s, so from 1.97 s on.
    assert cycles.count == 2031
    assert cycles.per_second == pytest.approx(1000, rel=0.01)
    assert (cycles.p50_ms, cycles.p99_ms, cycles.max_ms) == (10, 30, 30)


def test_an_unexpected_answer_voids_the_measurement() -> None:
    with pytest.raises(BenchError, match="7 exchange 3: status 429"):
        parse(output(failures="failure 7 exchange 3: status 429: {}\n"), warm_up=1)


def test_a_broken_connection_voids_the_measurement() -> None:
    with pytest.raises(BenchError, match="2 connections broke"):
        parse(output(sockets=2), warm_up=1)


def test_too_few_cycles_for_a_percentile_are_no_measurement() -> None:
    with pytest.raises(BenchError, match="only 0 cycles"):
        parse(WRK.format(cycles="", failures="", sockets=0), warm_up=1)


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(100, 0.99, 99), (100, 0.5, 50), (3, 0.5, 2), (1, 0.99, 1)]
)
def test_a_percentile_is_the_nearest_rank(count: int, share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, count + 1)], share) == expected


def test_the_ratio_is_the_median_over_pairs_of_the_same_round() -> None:
    measurements = [
        *(measured("floor", round_=number, rate=rate) for number, rate in ((1, 1000), (2, 500), (3, 2000))),
        *(measured("product", round_=number, rate=rate) for number, rate in ((1, 700), (2, 250), (3, 800))),
    ]
    floor, product = summarise(measurements)
    assert (floor.server, floor.cycles_per_second, floor.ratio_to_floor) == ("floor", 1000, None)
    # 0.7, 0.5 and 0.4; the medians of the rates would give 0.7.
    assert (product.cycles_per_second, product.ratio_to_floor) == (700, 0.5)
    assert product.peak_memory_mib == 73


def test_the_targets_say_what_was_missed() -> None:
    measurements = [
        measured("floor", round_=1, rate=1000),
        measured("product", round_=1, rate=450),
        measured("product", round_=1, rate=380, tokens=1_000_000, cpu=550),
    ]
    assert [(target.met, round(target.value, 2)) for target in targets(measurements)] == [
        (False, 0.45),  # to the floor, at 1,000 tokens; at 1,000,000 no floor was measured
        (True, 3.0),
        (True, 3.0),
        (True, 1.1),  # CPU at 1,000,000 to that at 1,000
        (False, 1.18),  # time, likewise
    ]
    assert verdicts(targets(measurements)).startswith("MISSED  cycles/s to the floor's, 1,000 tokens: 0.45")


def test_the_table_has_a_line_for_each_server_and_size() -> None:
    line = Summary(
        server="product",
        tokens=1_000_000,
        cycles_per_second=1234.5,
        p50_ms=10.04,
        p99_ms=30.06,
        ratio_to_floor=0.614,
        cpu_us_per_cycle=700,
        peak_memory_mib=81.6,
        generator_cores=0.25,
    )
    head, row = table([line]).splitlines()
    assert head.split()[:3] == ["tokens", "server", "cycles/s"]
    assert row.split() == ["1,000,000", "product", "1,234", "10.0", "30.1", "0.61", "700", "82", "0.25"]


async def test_the_store_is_filled_with_people_who_can_be_reached_and_with_spent_tokens() -> None:
    store = MemoryStore()
    await fill(store, people=3, tokens=250, now=Instant(1_000_000))
    last = await store.user(UserId(FIRST_USER + 2))
    assert last is not None
    assert isinstance(last.credentials[0], Phone)
    assert PhoneMethod(KEYRING, Method.SMS).number(last.id, last.credentials[0]) == "+447700000002"
    spent = {event.token_id for _, event in await store.events(limit=1000) if event.token_id is not None}
    assert len(spent) == 250
    for token_id in spent:
        token = await store.token(token_id)
        assert token is not None
        assert isinstance(token.state, Spent)


async def test_a_store_that_is_not_empty_is_not_filled_again() -> None:
    store = MemoryStore()
    await fill(store, people=1, tokens=0, now=Instant(1))
    with pytest.raises(RuntimeError, match="not empty"):
        await fill(store, people=1, tokens=0, now=Instant(1))
