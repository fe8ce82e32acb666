"""Chance as the sandbox has it: OTTs are random as ever, codes are always the same."""

from collections import OrderedDict

from watchword.domain.token import TokenId
from watchword.engine.engine import identify
from watchword.engine.ports import SystemEntropy

CODE_DIGIT = "1"
REMEMBERED = 1000


class SandboxEntropy(SystemEntropy):
    """
    Draws OTTs from the operating system, and ``111111`` for every code.

    It remembers the last thousand OTTs that it drew, in memory, so that the page for people can
    show them: a store knows their digests only.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        super().__init__()
        self._drawn: OrderedDict[TokenId, str] = OrderedDict()

    def uuid(self) -> str:
        """Return a random UUID v4."""
        drawn = super().uuid()
        self._drawn[identify(drawn)] = drawn
        if len(self._drawn) > REMEMBERED:
            self._drawn.popitem(last=False)
        return drawn

    def code(self, digits: int) -> str:
        """Return the code that the sandbox always sends."""
        return CODE_DIGIT * digits

    def ott(self, token_id: TokenId) -> str | None:
        """Return the OTT of a token that was issued lately; None for one that is forgotten."""
        return self._drawn.get(token_id)
