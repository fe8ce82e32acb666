"""How the PostgreSQL store connects, and how long it waits; each setting with its limits."""

from typing import Annotated, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=30)]

ANSWER_MARGIN_SECONDS = 0.4
"""How much longer than the server we wait for an answer: it should be the one to give up."""


class PostgresSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What an operator decides.

    Attributes:
        schema: Where in the database the tables are.
        pool_size: How many connections one process opens at the most; none before it is needed.
        connect_seconds: How long one attempt to connect may take.
        statement_seconds: How long the server may work on one statement. Whoever waits is told 0.4 seconds
            later that the outcome is unknown.
        lock_seconds: How long a statement may wait for another's.
        root_certificate: A file with the authorities that the server's certificate may come from; None
            for those that the system trusts.
        synchronous_commit: ``remote_apply`` waits until synchronous standbys show what was committed.
            Nothing weaker than ``on`` is offered.
        fence: Whether a token is void on a server that was promoted after its issue. ``auto``: wherever
            the server can tell.
    """

    schema: Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "watchword"
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    connect_seconds: Seconds = 2.0
    statement_seconds: Seconds = 1.0
    lock_seconds: Seconds = 0.8
    root_certificate: str | None = None
    synchronous_commit: Literal["on", "remote_apply"] = "on"
    fence: Literal["auto", "on", "off"] = "auto"
