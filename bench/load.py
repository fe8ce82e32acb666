"""The load: wrk walking the cycle, and what its samples say."""

import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("cycle.lua")


class BenchError(Exception):
    """A measurement that would mean nothing, with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """What the load generator saw, its warm-up left out."""

    count: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Take the smallest value that *share* of all are not above; *ordered* ascends."""
    # Ceiling without floating point's surprises: 0.99 of 100 values is the 99th.
    rank = -(-len(ordered) * round(share * 10_000) // 10_000)
    return ordered[max(rank, 1) - 1]


def parse(output: str, *, warm_up: float) -> Cycles:
    """
    Read what ``cycle.lua`` printed.

    Args:
        output: All that wrk wrote to its standard output.
        warm_up: Seconds from the first request on whose cycles do not count.

    Raises:
        BenchError: An exchange was answered otherwise than expected, a connection broke, or
            too few cycles ended for a 99th percentile.
    """
    samples: list[tuple[float, float]] = []
    failures: list[str] = []
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        match kind:
            case "cycle":
                ended, took = rest.split()
                samples.append((float(ended), float(took)))
            case "failure":
                failures.append(rest)
            case "sockets" if rest != "0":
                failures.append(f"{rest} connections broke or timed out")
            case _:  # wrk's own summary
                pass
    if failures:
        raise BenchError("not every exchange went as it should:\n  " + "\n  ".join(failures))
    counted_from = min((ended - took for ended, took in samples), default=0.0) + warm_up * 1e6
    kept = [(ended, took) for ended, took in samples if ended >= counted_from]
    if len(kept) < 100:
        raise BenchError(f"only {len(kept)} cycles ended after the warm-up")
    window = (max(ended for ended, _ in kept) - counted_from) / 1e6
    durations = sorted(took / 1e3 for _, took in kept)
    return Cycles(
        count=len(kept),
        per_second=len(kept) / window,
        p50_ms=percentile(durations, 0.5),
        p99_ms=percentile(durations, 0.99),
        max_ms=durations[-1],
    )


def ensure_wrk() -> None:
    """
    Install wrk where it is missing and we may.

    Raises:
        BenchError: It is missing still.
    """
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for command in (["update"], ["install", "--yes", "wrk"]):
            subprocess.run(["apt-get", "--quiet", *command], stdout=subprocess.DEVNULL, check=False)
    if shutil.which("wrk") is None:
        raise BenchError("the load generator wrk is missing: install it, e.g. `sudo apt-get install wrk`")


def drive(port: int, *, users: int, people: int, seconds: int, warm_up: float) -> tuple[Cycles, float]:
    """
    Let *users* at once walk cycles for *seconds* after the warm-up.

    Returns:
        The cycles, and how many cores the load generator itself kept busy.

    Raises:
        BenchError: As ``parse``, or wrk failed.
    """
    whole = round(seconds + warm_up)
    command = ["wrk", "-t1", f"-c{users}", f"-d{whole}s", "--timeout", "10s", "-s", str(SCRIPT)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [*command, f"http://127.0.0.1:{port}", "--", str(users), str(people)],
        capture_output=True,
        text=True,
        timeout=whole + 60,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if finished.returncode != 0 or "PANIC" in finished.stderr:
        raise BenchError(f"wrk failed: {(finished.stderr or finished.stdout).strip()[-500:]}")
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return parse(finished.stdout, warm_up=warm_up), busy / whole
