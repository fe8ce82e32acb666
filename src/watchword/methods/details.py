"""
What is approved, sealed: a payee and an amount are nobody's to read in a store.

No method, but beside them, since it holds keys and no state as they do. A sealed value is bound to its
token, so that another's cannot be shown in its place (RTS art. 5(2)).
"""

import msgspec

from watchword.domain.details import Details
from watchword.domain.token import OneTimeToken, TokenId
from watchword.methods.keyring import Keyring, Purpose

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Details).decode


class SealedDetails:
    """Seals and opens what a token's user is shown."""

    def __init__(self, keyring: Keyring) -> None:
        """Take the keys."""
        self._keyring = keyring

    def seal(self, details: Details, token_id: TokenId) -> bytes:
        """Return the stored form of *details* of the token by that id."""
        return self._keyring.seal(Purpose.DETAILS, _encode(details), bound_to=token_id)

    def open(self, token: OneTimeToken) -> Details:
        """
        Return what a token's user is shown; nothing where the action has nothing to show.

        Raises:
            KeyMissingError, Tampered: It cannot be told; show nothing, and approve nothing.
        """
        if not token.details:
            return ()
        return _decode(self._keyring.open(Purpose.DETAILS, token.details, bound_to=token.id))
