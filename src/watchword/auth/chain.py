"""Several kinds of access tokens side by side: one look at a token tells who is to be asked."""

from collections.abc import Sequence

from watchword.auth.introspection import IntrospectedTokens
from watchword.auth.jwt import JwtTokens, issuer_of
from watchword.auth.refused import RefusalLog
from watchword.auth.static import StaticTokens
from watchword.engine.ports import Clock, SystemClock
from watchword.engine.principal import Principal


class Chain:
    """
    Static tokens, then the issuer that a JWT names, then introspection for all that is left.

    A JWT of a configured issuer goes to that issuer alone: what it refuses, nobody else may allow.
    """

    def __init__(
        self,
        *,
        static: StaticTokens | None = None,
        issuers: Sequence[JwtTokens] = (),
        introspected: IntrospectedTokens | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        Set up.

        Args:
            clock: Tells when a refusal may be logged again; by default the machine's.

        Raises:
            ValueError: Two of the issuers are one.
        """
        self._static = static
        self._issuers = {each.issuer: each for each in issuers}
        if len(self._issuers) != len(issuers):
            raise ValueError("an issuer stands twice")
        self._only = issuers[0] if len(issuers) == 1 and introspected is None else None
        self._introspected = introspected
        self._log = RefusalLog("an access token is refused", clock or SystemClock())

    async def authenticate(self, token: str) -> Principal | None:
        """
        Return the holder of *token*.

        Raises:
            AuthenticatorUnavailableError: Its issuer cannot be asked.
        """
        if self._static is not None:
            principal = await self._static.authenticate(token)
            if principal is not None:
                return principal
        if self._only is not None:
            return await self._only.authenticate(token)
        issuer = issuer_of(token) if self._issuers else None
        signed = None if issuer is None else self._issuers.get(issuer)
        if signed is not None:
            return await signed.authenticate(token)
        if self._introspected is not None:
            return await self._introspected.authenticate(token)
        self._log.refused("nothing that is configured knows it, or its issuer")
        return None
