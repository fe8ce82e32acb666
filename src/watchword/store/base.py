"""
The contract of every store: look-ups, and one write.

A store keeps versioned records and compares versions. It knows no rule of the product: which
change is allowed is decided in the domain, and only whether it may still happen is decided
here. The suite in ``tests/store`` holds every store to this contract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from watchword.domain.application import Application, ApplicationId
from watchword.domain.decision import Change, Event
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity


class StoreUnavailableError(Exception):
    """
    The store did not answer.

    Of a write this means that the outcome is unknown: it may be stored. Tell nobody that it
    worked, let nobody through.
    """


class StoreCorruptError(StoreUnavailableError):
    """What is stored is not what was stored: damaged, mixed up, or of a newer version of Watchword."""


class UnusableStoreError(Exception):
    """This cannot be the store, and trying again will not help; the message says why, and what would."""


@dataclass(frozen=True, slots=True)
class UnreadableUser:
    """A user whose record is damaged, as what goes through all users meets him."""

    id: UserId


class Store(Protocol):
    """
    Versioned records: tokens, users, destinations, applications, owners; and the events of their changes.

    Every method raises ``StoreUnavailableError`` when the store cannot answer.
    """

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up, whatever its state; None for one that was never stored, or swept."""
        ...

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        ...

    async def destination(self, destination_id: bytes) -> Destination | None:
        """Look up what was sent to a number."""
        ...

    async def application(self, application_id: ApplicationId) -> Application | None:
        """Look an application up."""
        ...

    async def owner(self, owner_id: bytes) -> Owner | None:
        """Look up whose something is; also found is what was given back."""
        ...

    async def users(
        self, *, after: UserId | None = None, limit: int = 1000
    ) -> Sequence[UserSecurity | UnreadableUser]:
        """
        Read users page by page, as what goes through all of them does; one who cannot be read stops nobody.

        Args:
            after: The last user already seen; None to begin.
            limit: How many to return at the most.

        Returns:
            Users in the order of their ids.
        """
        ...

    async def commit(self, change: Change) -> bool:
        """
        Store *change*, its records and its events together, or do nothing.

        This is the only write. When it returns True the change is as durable as the store gets.
        A caller that gets False loads again and decides again, since what it decided from is no
        longer true. A change of events alone always succeeds.

        Returns:
            False if a stored version is not the one *change* was made from: one less than the
            record's own, where a record that is not stored counts as version 0; or the own version
            of one that was only seen.
        """
        ...

    async def sweep(self, now: Instant, *, limit: int) -> int:
        """
        Remove tokens that are past their expiry and destinations of yesterday.

        Correctness never depends on it: what it removes would be refused all the same. Owners stay,
        also of what was given back: a record that began anew would pass the same versions with other
        contents, and what was decided from the old ones would fit. They are few for each user.

        Args:
            now: The time; a token goes a day after its expiry, so that late retries are still
                told apart in the audit.
            limit: How many records to remove at the most, so that no write waits long.

        Returns:
            How many were removed.
        """
        ...

    async def events(self, *, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, Event]]:
        """
        Read the audit trail in the order in which it was committed.

        Args:
            after: The sequence number of the last event already seen.
            limit: How many to return at the most.

        Returns:
            Events with their sequence numbers, which grow.
        """
        ...

    async def forget(self, before: Instant, *, limit: int) -> int:
        """
        Remove the oldest events, up to the first that is not from before *before*.

        The newest event stays however old it is, so that numbers go on where they were.

        Args:
            before: The first instant whose events stay.
            limit: How many to remove at the most, so that no write waits long.

        Returns:
            How many were removed.
        """
        ...

    async def ping(self) -> None:
        """Find out whether the store answers, and would take a write; costs next to nothing."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of files and connections."""
        ...
