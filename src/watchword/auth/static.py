"""Static access tokens: the simplest ``Authenticator``, kept as digests only."""

from collections.abc import Mapping
from dataclasses import dataclass

from watchword.auth.recent import digest
from watchword.engine.ports import Entropy
from watchword.engine.principal import Principal

DIGEST_BYTES = 32
_MARK = "wwt_"  # So that whoever searches code and logs for leaked tokens finds ours.


@dataclass(frozen=True, slots=True)
class NewToken:
    """
    A token that was just made.

    Attributes:
        token: For its holder, shown once and kept nowhere.
        sha256: For the configuration.
    """

    token: str
    sha256: str

    def __repr__(self) -> str:
        return f"NewToken(sha256={self.sha256!r})"


def new_token(entropy: Entropy) -> NewToken:
    """Draw a token of 244 random bits."""
    token = _MARK + "".join(entropy.uuid().replace("-", "") for _ in range(2))
    return NewToken(token, digest(token).hex())


class StaticTokens:
    """A table of access tokens and their holders."""

    def __init__(self, tokens: Mapping[str, Principal] | None = None) -> None:
        """Take the tokens; only their SHA-256 is kept."""
        self._principals: dict[bytes, Principal] = {}
        for token, principal in (tokens or {}).items():
            self.add(token, principal)

    def add(self, token: str, principal: Principal) -> None:
        """Let *token* stand for *principal* from now on."""
        self._principals[digest(token)] = principal

    def add_digest(self, sha256: str, principal: Principal) -> None:
        """
        Let the token with this SHA-256, in hexadecimal digits, stand for *principal*.

        Raises:
            ValueError: It is no SHA-256.
        """
        value = bytes.fromhex(sha256)
        if len(value) != DIGEST_BYTES:
            raise ValueError("a SHA-256 has 64 hexadecimal digits")
        self._principals[value] = principal

    def remove(self, token: str) -> None:
        """Let *token* stand for nobody."""
        self._principals.pop(digest(token), None)

    def clear(self) -> None:
        """Forget every token."""
        self._principals.clear()

    async def authenticate(self, token: str) -> Principal | None:
        """Return the holder of *token*."""
        return self._principals.get(digest(token))
