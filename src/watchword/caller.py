"""Who makes a request: what a trusted gateway said of it, else the bearer of its access token."""

from watchword.asgi import Scope, bearer
from watchword.engine.principal import Authenticator, Principal

SCOPE_KEY = "watchword.principal"
"""Where a trusted gateway leaves the caller in an ASGI scope; no header reaches it."""


class AmbiguousCallerError(Exception):
    """There are two ``Authorization`` headers: whose request it is depends on who reads it. A 400."""


async def who(scope: Scope, authenticator: Authenticator) -> Principal | None:
    """
    Return who makes a request; None where nobody known does.

    Raises:
        AmbiguousCallerError: The request names two.
        AuthenticatorUnavailableError: Whoever could tell cannot be asked now.
    """
    known: Principal | None = scope.get(SCOPE_KEY)
    if known is not None:
        return known
    presented: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if presented is not None:
                raise AmbiguousCallerError
            presented = value
    token = None if presented is None else bearer(presented)
    return None if token is None else await authenticator.authenticate(token)
