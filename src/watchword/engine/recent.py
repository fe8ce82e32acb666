"""
What this process stored last: a first guess at what is stored now.

A change counts only if no record moved since the version that it was made from, so it may be
decided from a guess: a wrong one is found out by the commit, and costs one more try. Nothing else
may rest on it. A refusal stores nothing that could find the guess out, so it is decided again
from the store; what is shown, and who is let through by a session, is read from the store.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from watchword.domain.decision import Change
from watchword.domain.token import OneTimeToken, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import Store

REMEMBERED = 4096
"""How many tokens, and how many users, are remembered."""

K = TypeVar("K")
V = TypeVar("V")


class Records(Protocol):
    """Where a decision finds the records that it is made from."""

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Look a token up."""
        ...

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Look a user's security state up."""
        ...


class Recent:
    """
    The records that this process stored last, and the store for all others.

    Attributes:
        era: Grows when the store may have lost what it acknowledged. Numbers of versions come again then,
            with other contents: what was decided in an earlier era must not be stored.
    """

    def __init__(self, store: Store, *, remembered: int = REMEMBERED) -> None:
        """Remember nothing yet."""
        self.era = 0
        self._store = store
        self._tokens = _Latest[TokenId, OneTimeToken](remembered)
        self._users = _Latest[UserId, UserSecurity](remembered)

    async def token(self, token_id: TokenId) -> OneTimeToken | None:
        """Guess at a token."""
        return self._tokens.get(token_id) or await self._store.token(token_id)

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Guess at a user's security state."""
        return self._users.get(user_id) or await self._store.user(user_id)

    async def commit(self, change: Change) -> bool:
        """
        Store *change*, and remember what it left.

        Raises:
            StoreUnavailableError: The outcome is unknown, so nothing of it is remembered.
        """
        era = self.era
        self._forget(change)
        stored = await self._store.commit(change)
        if stored and era == self.era:
            if change.token is not None:
                self._tokens.put(change.token.id, change.token)
            if change.user is not None:
                self._users.put(change.user.id, change.user)
        return stored

    def begin_anew(self) -> None:
        """Forget everything: another server took over from the one that had it."""
        self.era += 1
        self._tokens.clear()
        self._users.clear()

    def _forget(self, change: Change) -> None:
        for token in change.revoked if change.token is None else (change.token, *change.revoked):
            self._tokens.drop(token.id)
        if change.user is not None:
            self._users.drop(change.user.id)


class _Latest(Generic[K, V]):
    """A bounded table that lets go of what was put first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()
