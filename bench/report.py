"""Medians of the rounds, the targets, and the table that a person reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Cycles

RATIO_MIN = 0.5
TAIL_MAX = 4.0
GROWTH_MAX = 0.15
GENERATOR_MAX = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """
    One server under load once.

    Attributes:
        server: ``floor`` or ``product``.
        tokens: How many tokens its database held at the start.
        round: Which round it belongs to; a pair of one round ran one after the other.
        cpu_us_per_cycle: The server's processor time, all its threads and processes.
        peak_memory_mib: The largest resident size of its processes, added up.
        generator_cores: How many cores the load generator kept busy; at 1 it would be the limit.
        answer_bytes: The sizes of the five answers.
    """

    server: str
    tokens: int
    round: int
    cycles: Cycles
    cpu_us_per_cycle: float
    peak_memory_mib: float
    generator_cores: float
    answer_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The medians over the rounds of one server at one size."""

    server: str
    tokens: int
    cycles_per_second: float
    p50_ms: float
    p99_ms: float
    ratio_to_floor: float | None
    cpu_us_per_cycle: float
    peak_memory_mib: float
    generator_cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was aimed at and what came out."""

    name: str
    goal: str
    value: float
    met: bool


def _of(measurements: Iterable[Measurement], server: str, tokens: int) -> list[Measurement]:
    return [one for one in measurements if (one.server, one.tokens) == (server, tokens)]


def _paired(above: Sequence[Measurement], below: Sequence[Measurement]) -> float | None:
    """Return the median ratio of cycles/s of what ran in the same round."""
    rates = {one.round: one.cycles.per_second for one in below}
    ratios = [one.cycles.per_second / rates[one.round] for one in above if one.round in rates]
    return median(ratios) if ratios else None


def summarise(measurements: Sequence[Measurement]) -> list[Summary]:
    """Reduce the rounds to one line for each server and size, in the order of sizes."""
    lines = sorted({(one.tokens, one.server) for one in measurements})
    return [
        Summary(
            server=server,
            tokens=tokens,
            cycles_per_second=median(one.cycles.per_second for one in rounds),
            p50_ms=median(one.cycles.p50_ms for one in rounds),
            p99_ms=median(one.cycles.p99_ms for one in rounds),
            ratio_to_floor=None if server == "floor" else _paired(rounds, _of(measurements, "floor", tokens)),
            cpu_us_per_cycle=median(one.cpu_us_per_cycle for one in rounds),
            peak_memory_mib=max(one.peak_memory_mib for one in rounds),
            generator_cores=max(one.generator_cores for one in rounds),
        )
        for tokens, server in lines
        for rounds in [_of(measurements, server, tokens)]
    ]


def targets(measurements: Sequence[Measurement]) -> list[Target]:
    """Compare the product with what was aimed at."""
    product = [line for line in summarise(measurements) if line.server == "product"]
    found: list[Target] = []
    for line in product:
        if line.ratio_to_floor is not None:
            ratio = line.ratio_to_floor
            goal = f"at least {RATIO_MIN}"
            name = f"cycles/s to the floor's, {line.tokens:,} tokens"
            found.append(Target(name=name, goal=goal, value=ratio, met=ratio >= RATIO_MIN))
        tail = line.p99_ms / line.p50_ms
        name = f"p99 to p50, {line.tokens:,} tokens"
        found.append(Target(name=name, goal=f"at most {TAIL_MAX}", value=tail, met=tail <= TAIL_MAX))
    if len(product) > 1:
        fewest, most = product[0], product[-1]
        slowdown = _paired(
            _of(measurements, "product", fewest.tokens), _of(measurements, "product", most.tokens)
        )
        growths = {"CPU a cycle": most.cpu_us_per_cycle / fewest.cpu_us_per_cycle}
        if slowdown is not None:
            growths["time a cycle"] = slowdown
        for what, growth in growths.items():
            name = f"{what}, {most.tokens:,} to {fewest.tokens:,} tokens"
            goal = f"at most {1 + GROWTH_MAX}"
            found.append(Target(name=name, goal=goal, value=growth, met=growth <= 1 + GROWTH_MAX))
    return found


def table(summaries: Sequence[Summary]) -> str:
    """Lay the summaries out for a terminal."""
    head = (
        "tokens",
        "server",
        "cycles/s",
        "p50 ms",
        "p99 ms",
        "to floor",
        "CPU µs/cycle",
        "peak MiB",
        "wrk cores",
    )
    rows = [
        (
            f"{line.tokens:,}",
            line.server,
            f"{line.cycles_per_second:,.0f}",
            f"{line.p50_ms:.1f}",
            f"{line.p99_ms:.1f}",
            "" if line.ratio_to_floor is None else f"{line.ratio_to_floor:.2f}",
            f"{line.cpu_us_per_cycle:.0f}",
            f"{line.peak_memory_mib:.0f}",
            f"{line.generator_cores:.2f}",
        )
        for line in summaries
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    )


def verdicts(found: Sequence[Target]) -> str:
    """Lay the targets out, a line each."""
    return "\n".join(
        f"{'met   ' if target.met else 'MISSED'}  {target.name}: {target.value:.2f} ({target.goal})"
        for target in found
    )
