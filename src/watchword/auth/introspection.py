"""
Access tokens that only their issuer can read: it is asked about each (RFC 7662).

What it said is believed for a short while, since a step-up is several calls with one token; so long,
and no longer, a token that was revoked goes on. A «no» is remembered too, for less, in a bounded
memory: made-up tokens cost a request each, and never more at once than a fixed number.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast

from watchword import strict_json
from watchword.auth.claims import ClaimRules, NobodysTokenError, check_audience, check_times, refuse
from watchword.auth.egress import Egress, EgressError
from watchword.auth.jwt import TOKEN_MAX
from watchword.auth.recent import Recent, digest
from watchword.auth.refused import RefusalLog
from watchword.domain.instant import after
from watchword.engine.ports import Clock
from watchword.engine.principal import AuthenticatorUnavailableError, Principal
from watchword.strict_json import MalformedJsonError

REMEMBER_SECONDS = 30
REMEMBER_NO_SECONDS = 5
LEEWAY_SECONDS = 30
_AT_ONCE = 16
_WAITING_MAX = 256
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)  # RFC 6750 section 2.1.


class IntrospectedTokens:
    """The access tokens of the issuer behind one introspection endpoint."""

    def __init__(
        self,
        url: str,
        egress: Egress,
        rules: ClaimRules,
        clock: Clock,
        *,
        client_id: str,
        client_secret: str,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: int = LEEWAY_SECONDS,
        remember: int = REMEMBER_SECONDS,
        remember_no: int = REMEMBER_NO_SECONDS,
        at_once: int = _AT_ONCE,
        waiting_max: int = _WAITING_MAX,
    ) -> None:
        """
        Set up.

        Args:
            client_id: As whom we ask, under HTTP Basic authentication.
            issuer: Whose users they are; by default *url* stands for it. Name the same one as for JWT
                access tokens, and a user is the same by either.
            audience: What a token must name as its audience; None: the issuer knows whom it tells.
            remember: Seconds for which an answer is believed, and never past the token's end.
            remember_no: Seconds for which a token is known to be nobody's.
            at_once: How many requests may be on their way.
            waiting_max: How many more may wait for that; the next is told to come back.
        """
        self._url = url
        self._egress = egress
        self._rules = rules
        self._clock = clock
        self._client = (client_id, client_secret)
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._remember = remember
        self._remember_no = remember_no
        self._recent = Recent()
        # Without the query: some endpoints have a key in it.
        called = issuer or url.partition("?")[0]
        self._log = RefusalLog(f"an introspected access token of {called} is refused", clock)
        self._log_asking = RefusalLog(f"the introspection endpoint of {called} cannot be asked", clock)
        self._slots = asyncio.Semaphore(at_once)
        self._asking_max = at_once + waiting_max
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}

    async def authenticate(self, token: str) -> Principal | None:
        """
        Return the holder of *token*.

        Raises:
            AuthenticatorUnavailableError: The issuer does not answer, or too many wait for it.
        """
        if len(token) > TOKEN_MAX or not _TOKEN.fullmatch(token):
            self._log.refused("it is too long, or of characters that access tokens do not have")
            return None
        known = digest(token)
        found = self._recent.get(known, self._clock.now())
        if found is not None:
            return found[0]
        asking = self._asking.get(known)
        if asking is None:
            if len(self._asking) >= self._asking_max:
                raise AuthenticatorUnavailableError("too many wait for the introspection endpoint")
            # A task of its own: it must not end with the one request that happened to start it.
            asking = asyncio.create_task(self._ask(token, known))
            self._asking[known] = asking
            asking.add_done_callback(lambda task: self._asked(known, task))
        return await asyncio.shield(asking)

    def _asked(self, known: bytes, task: "asyncio.Task[Principal | None]") -> None:
        del self._asking[known]
        if not task.cancelled():
            task.exception()  # Seen, even where all who waited for it have gone.

    async def _ask(self, token: str, known: bytes) -> Principal | None:
        async with self._slots:
            claims = await self._claims(token)
        now = self._clock.now()
        try:
            if claims.get("active") is not True:
                refuse("it is not active")
            expires = check_times(claims, now, self._leeway)
            if self._audience is not None:
                check_audience(claims, self._audience)
            # Users are kept by this name, so it must not hang on whether an answer repeats it.
            if self._issuer is not None and claims.get("iss", self._issuer) != self._issuer:
                refuse("its issuer is another")
            principal = await self._rules.principal(self._issuer or self._url, claims)
        except NobodysTokenError as error:
            self._log.refused(error)
            self._recent.put(known, None, now=now, until=after(now, self._remember_no))
            return None
        until = after(now, self._remember)
        self._recent.put(known, principal, now=now, until=until if expires is None else min(until, expires))
        return principal

    async def _claims(self, token: str) -> Mapping[str, Any]:
        user, password = self._client
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            claims = strict_json.loads(await self._egress.post(self._url, form, user=user, password=password))
        except (EgressError, MalformedJsonError) as error:
            self._log_asking.refused(error)
            raise AuthenticatorUnavailableError("the introspection endpoint does not answer") from error
        if not isinstance(claims, dict):
            self._log_asking.refused("its answer is no JSON object")
            raise AuthenticatorUnavailableError("the introspection endpoint answers something else")
        return cast("dict[str, Any]", claims)
