"""The machine's clock and chance."""

import gc
import os
import re
import subprocess
import sys
import time
from collections import Counter
from copy import copy
from uuid import UUID
from weakref import ref

import pytest

from watchword.engine.ports import SystemClock, SystemEntropy, forget_all

UUIDS = 5000


def test_the_clock_tells_milliseconds_since_the_epoch() -> None:
    before = time.time_ns()
    now = SystemClock().now()
    assert before // 1_000_000 <= now <= time.time_ns() // 1_000_000


def test_an_ott_is_a_uuid_of_version_4_in_lower_case() -> None:
    entropy = SystemEntropy()
    for _ in range(100):
        ott = entropy.uuid()
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ott)
        assert (UUID(ott).version, str(UUID(ott))) == (4, ott)


def test_no_two_otts_are_the_same_and_each_random_bit_falls_both_ways() -> None:
    entropy = SystemEntropy()
    drawn = [UUID(entropy.uuid()).int for _ in range(UUIDS)]
    assert len(set(drawn)) == UUIDS
    fixed = {76, 77, 78, 79, 62, 63}  # The version, and the variant's two bits.
    for bit in set(range(128)) - fixed:
        ones = sum(number >> bit & 1 for number in drawn)
        # Six standard deviations: one run in four million fails by chance.
        assert abs(ones - UUIDS / 2) < 6 * (UUIDS / 4) ** 0.5


def test_no_randomness_is_used_twice_across_kinds_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[bytes] = []
    draw = os.urandom

    def recorded(count: int) -> bytes:
        blocks.append(draw(count))
        return blocks[-1]

    monkeypatch.setattr(os, "urandom", recorded)
    entropy = SystemEntropy()
    otts = [entropy.uuid() for _ in range(1000)]
    sixteens = [block[start : start + 16] for block in blocks for start in range(0, len(block), 16)]
    assert otts == [str(UUID(bytes=drawn, version=4)) for drawn in sixteens[:1000]]
    assert len(blocks) > 1


def test_a_trace_id_is_32_random_hexadecimal_digits() -> None:
    entropy = SystemEntropy()
    traces = [entropy.trace_id() for _ in range(200)]
    assert len(set(traces)) == 200
    assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces)


def test_a_process_and_its_fork_draw_apart() -> None:
    script = """
import os
from watchword.engine.ports import SystemEntropy
entropy = SystemEntropy()
entropy.uuid()
child = os.fork()
os.write(1, entropy.uuid().encode() + b" ")
if child:
    os.waitpid(child, 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    here, there = ran.stdout.split()
    assert here != there


def test_what_a_fork_made_the_child_forget_is_never_given_out_there() -> None:
    entropy = SystemEntropy()
    entropy.uuid()
    left = {drawn.hex() for drawn in copy(entropy._block)}  # noqa: SLF001 - nothing else shows what lies ready.
    assert len(left) == 63
    forget_all()  # As a fork does; a child counts towards no coverage.
    assert left.isdisjoint(entropy.trace_id() for _ in range(200))


def test_chance_that_nobody_holds_any_more_is_let_go_of() -> None:
    entropy = SystemEntropy()
    gone = ref(entropy)
    del entropy
    gc.collect()
    assert gone() is None


def test_codes_have_their_digits_and_keep_leading_zeros() -> None:
    entropy = SystemEntropy()
    for digits in (1, 6, 8):
        assert all(re.fullmatch(rf"[0-9]{{{digits}}}", entropy.code(digits)) for _ in range(200))
    assert any(entropy.code(6).startswith("0") for _ in range(400))


def test_each_digit_at_each_place_is_equally_likely() -> None:
    entropy, draws = SystemEntropy(), 20_000
    codes = [entropy.code(6) for _ in range(draws)]
    for place in range(6):
        counts = Counter(code[place] for code in codes)
        squares = sum((counts[str(digit)] - draws / 10) ** 2 / (draws / 10) for digit in range(10))
        # Nine degrees of freedom: beyond 50 lies one run in ten million, for each place.
        assert squares < 50
