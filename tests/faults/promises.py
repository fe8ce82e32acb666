"""What a store promises when things go wrong: the table of docs/security.md as values."""

from dataclasses import dataclass

from tests.faults.history import FaultKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """
    What a store keeps of what it acknowledged.

    That no token lets two requests through has no switch: every store promises it.

    Attributes:
        voids_at: The faults at which the last of what was acknowledged may be lost. Every token that
            was open is void then, and counts of wrong answers begin anew once for each such fault at
            the most. At all others nothing is lost that was acknowledged.
        fences_at: The faults at which nothing is lost, and yet every token that was open is void.
    """

    voids_at: frozenset[FaultKind]
    fences_at: frozenset[FaultKind] = frozenset()


KEEPS = Promises(voids_at=frozenset())
"""SQLite, PostgreSQL alone, a single Valkey that syncs each write."""

VOIDS = Promises(voids_at=frozenset({FaultKind.FAIL_OVER, FaultKind.PARTITION}))
"""PostgreSQL with asynchronous standbys, replicated Valkey: what is lost is void, never doubled."""

FOLLOWS = Promises(voids_at=frozenset(), fences_at=VOIDS.voids_at)
"""PostgreSQL with a synchronous standby."""

_TAKEN_OVER = frozenset(
    {FaultKind.FAIL_OVER, FaultKind.PARTITION, FaultKind.STORE_KILLED, FaultKind.STORE_FROZEN}
)
"""Where one server of a cluster is silent for long enough, whatever the reason, another takes over."""

FENCES = Promises(voids_at=frozenset(), fences_at=_TAKEN_OVER)
"""A cluster of Valkey that waits for every replica that may take over."""

UNWAITED = Promises(voids_at=_TAKEN_OVER)
"""The same cluster where nothing is waited for."""
