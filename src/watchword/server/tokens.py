"""Static access tokens: the simplest ``Authenticator``, kept as digests only."""

from collections.abc import Mapping
from hashlib import sha256

from watchword.engine.principal import Principal


class StaticTokens:
    """A table of access tokens and their holders."""

    def __init__(self, tokens: Mapping[str, Principal] | None = None) -> None:
        """Take the tokens; only their SHA-256 is kept."""
        self._principals: dict[bytes, Principal] = {}
        for token, principal in (tokens or {}).items():
            self.add(token, principal)

    def add(self, token: str, principal: Principal) -> None:
        """Let *token* stand for *principal* from now on."""
        self._principals[_digest(token)] = principal

    def remove(self, token: str) -> None:
        """Let *token* stand for nobody."""
        self._principals.pop(_digest(token), None)

    def clear(self) -> None:
        """Forget every token."""
        self._principals.clear()

    async def authenticate(self, token: str) -> Principal | None:
        """Return the holder of *token*."""
        return self._principals.get(_digest(token))


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
