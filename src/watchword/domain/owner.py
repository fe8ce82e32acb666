"""
Owners: what belongs to one user and to nobody else.

A phone number cannot be enrolled by two users, and a subject of an issuer is one user of ours. The
record that says so is written in the same commit as the user's own, so that of two who claim at
once one is refused.
"""

from dataclasses import dataclass

from watchword.domain.user import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """
    Whose something is; version 0 is something that nobody ever claimed.

    Attributes:
        id: A digest of what is owned, so that the record tells nothing of it.
        user_id: The user; None for what was given back.
    """

    id: bytes
    user_id: UserId | None = None
    version: int = 0

    def taken(self, user_id: UserId | None) -> "Owner":
        """Return the record with *user_id* as the owner."""
        return Owner(id=self.id, user_id=user_id, version=self.version + 1)
