"""Users of issuers, by our numbers."""

from collections import OrderedDict

from watchword.domain.user import UserId
from watchword.engine.applications import Applications

REMEMBERED = 10_000


class LinkedUsers:
    """
    Knows whom an issuer's subject stands for, asking the store once for each.

    Whom a subject stands for never changes once it is stored, so that remembering it is safe as long
    as the store keeps what it acknowledged: ``forget`` is for when it may not have. The longest unused make
    room.
    """

    def __init__(self, applications: Applications, *, remembered: int = REMEMBERED) -> None:
        """Remember nobody yet."""
        self._applications = applications
        self._most = remembered
        self._known: OrderedDict[tuple[str, str], UserId] = OrderedDict()
        self._era = 0

    async def user_id(self, issuer: str, subject: str) -> UserId | None:
        """
        Return the user that *issuer* calls *subject*; one whom nobody has met is a new one.

        Raises:
            StoreUnavailableError, StoreContendedError: It cannot be told now.
        """
        key = (issuer, subject)
        known = self._known.get(key)
        if known is None:
            era = self._era
            known = await self._applications.user_id(issuer, subject)
            if era != self._era:
                return known  # Known to a server that another took over from meanwhile.
            self._known[key] = known
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known

    def forget(self) -> None:
        """Look everybody up again: a store that another took over from may have lost whom it knew."""
        self._era += 1
        self._known.clear()
