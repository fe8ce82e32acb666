"""
A gateway that authenticates in front of us, and tells in headers who calls.

Anybody can send a header. These count only beside a secret that the gateway and we share, or over a
unix socket that only the gateway can open. Whether they counted or not, nothing behind this ever sees
them, nor what some servers take for them: ``x_watchword_user`` becomes the same variable in CGI's world.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from watchword import problems
from watchword.asgi import ASGIApp, Headers, Receive, Scope, Send
from watchword.auth.claims import NobodysTokenError, NumericSubjects, Users, numeric_id, refuse
from watchword.auth.refused import RefusalLog
from watchword.caller import SCOPE_KEY
from watchword.engine.ports import Clock, SystemClock
from watchword.engine.principal import Principal, PrincipalKind
from watchword.problems import Problem

SECRET_CHARACTERS_MIN = 32
ISSUER = "gateway"
"""Under which name ``Users`` meets the users whom a gateway names."""

_PROFILES_MAX = 1_000
_NAME_MAX = 255
_POLICY_VIOLATION = 1008  # RFC 6455 section 7.4.1.


@dataclass(frozen=True, kw_only=True)
class GatewayHeaders:
    """
    What the headers are called, in lower case.

    Attributes:
        secret: Holds the secret; needless over a unix socket.
        user: The user's id.
        profiles: His profiles, separated by commas; without it one, of his own number.
        application: The client id of the application that he uses, or that calls for itself.
        kind: ``user`` (the default), ``personal`` or ``application``.
    """

    secret: str = "x-watchword-gateway-secret"
    user: str = "x-watchword-user"
    profiles: str = "x-watchword-profiles"
    application: str = "x-watchword-application"
    kind: str = "x-watchword-kind"

    def names(self) -> tuple[str, ...]:
        """Return all of them."""
        return (self.secret, self.user, self.profiles, self.application, self.kind)


class _NotAcceptedError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class TrustedGateway:
    """
    ASGI middleware that believes a gateway, and nobody else, who calls.

    It stands outside of everything that asks who calls, and inside of what gives answers their trace
    id. A request without these headers passes as it is, to be judged by its access token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        secrets: Sequence[str] = (),
        headers: GatewayHeaders | None = None,
        users: Users | None = None,
        applications: Container[str] = frozenset[str](),
        unix_socket: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """
        Stand before *app*.

        Args:
            secrets: Each of them is good, so that one can be replaced without a gap.
            users: Knows the users by the gateway's names; by default those are numbers already.
            applications: The client ids that are this gateway's to name.
            unix_socket: Whether who connects by a unix socket is the gateway. The file's permissions
                then are the secret.
            clock: Tells when a refusal may be logged again; by default the machine's.

        Raises:
            ValueError: A secret is too short, or nothing could ever tell the gateway.
        """
        if not secrets and not unix_socket:
            raise ValueError("a gateway needs a secret, or a unix socket")
        if any(len(secret) < SECRET_CHARACTERS_MIN or not secret.isascii() for secret in secrets):
            raise ValueError(f"a gateway's secret has {SECRET_CHARACTERS_MIN} ASCII characters or more")
        self._app = app
        self._secrets = [sha256(secret.encode()).digest() for secret in secrets]
        self._names = headers or GatewayHeaders()
        self._ours = frozenset(name.encode("latin-1") for name in self._names.names())
        if len(self._ours) < len(self._names.names()):
            raise ValueError("two of the gateway's headers have one name")
        self._users = users or NumericSubjects(ISSUER)
        self._applications = applications
        self._unix_socket = unix_socket
        self._log = RefusalLog("a request with the gateway's headers is refused", clock or SystemClock())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, without these headers, and with its caller where the gateway told."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        passed = [(name, value) for name, value in scope["headers"] if not self._is_ours(name)]
        within: Scope = {**scope, "headers": passed}
        # Nothing in front of us has a say in this.
        within.pop(SCOPE_KEY, None)
        if len(passed) != len(scope["headers"]):
            try:
                principal = await self._told(scope)
            except _NotAcceptedError as refused:
                await _answer(refused.problem, scope, receive, send)
                return
            if principal is not None:
                within[SCOPE_KEY] = principal
        await self._app(within, receive, send)

    def _is_ours(self, name: bytes) -> bool:
        return name in self._ours or (b"_" in name and name.replace(b"_", b"-") in self._ours)

    async def _told(self, scope: Scope) -> Principal | None:
        """Return whom the gateway names; None where it names nobody, or where it is not the gateway."""
        values = self._values(scope["headers"])
        secret = values.pop(self._names.secret, None)
        if secret is not None and not self._is_secret(secret):
            self._log.refused("its secret is wrong")
            raise _NotAcceptedError(problems.unauthenticated())
        if not values or (secret is None and not (self._unix_socket and _by_unix_socket(scope))):
            return None
        if any(name == b"authorization" and _is_bearer(value) for name, value in scope["headers"]):
            # Two claims of who calls, and each party behind us could believe another one.
            raise _NotAcceptedError(
                problems.malformed("The gateway names the caller, and there is an access token too.")
            )
        try:
            return await self._principal(values)
        except NobodysTokenError as error:
            self._log.refused(error)
            raise _NotAcceptedError(problems.malformed(f"The gateway's headers: {error}.")) from error

    def _values(self, headers: Headers) -> dict[str, str]:
        values: dict[str, str] = {}
        for name, value in headers:
            if name in self._ours:
                known = name.decode("latin-1")
                if known in values:
                    raise _NotAcceptedError(problems.malformed("A header of the gateway stands twice."))
                values[known] = value.decode("latin-1").strip()
        return values

    def _is_secret(self, secret: str) -> bool:
        presented = sha256(secret.encode()).digest()
        # All are compared, so that the time does not tell which one it was.
        return sum(compare_digest(presented, each) for each in self._secrets) > 0

    async def _principal(self, values: dict[str, str]) -> Principal:
        names = self._names
        kind = next((each for each in PrincipalKind if each == values.get(names.kind, "user")), None)
        if kind is None:
            refuse(f"{names.kind} is user, personal or application")
        application = values.get(names.application)
        if application is not None and not _is_name(application):
            refuse(f"{names.application} is no client id")
        listed = application if application is not None and application in self._applications else None
        user = values.get(names.user)
        if kind is PrincipalKind.APPLICATION:
            if user is not None or names.profiles in values:
                refuse("an application that calls for itself has no user")
            if listed is None:
                refuse("the application is not a configured one")
            return Principal(kind=kind, application=listed)
        if user is None or not _is_name(user):
            refuse(f"{names.user} names nobody")
        user_id = await self._users.user_id(ISSUER, user)
        if user_id is None:
            refuse(f"{names.user} is nobody known")
        profiles = frozenset({int(user_id)})
        if names.profiles in values:
            profiles = frozenset(_profiles(values[names.profiles], names.profiles))
        return Principal(kind=kind, user_id=user_id, profile_ids=profiles, application=listed)


async def _answer(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
    else:
        await problem(scope, receive, send)


def _profiles(text: str, header: str) -> Iterator[int]:
    listed = text.split(",", _PROFILES_MAX)
    if len(listed) > _PROFILES_MAX:
        refuse(f"{header} lists too many")
    for each in listed:
        profile = numeric_id(each.strip(" \t"))
        if profile is None:
            refuse(f"{header} is numbers, separated by commas")
        yield profile


def _is_name(value: str) -> bool:
    return 1 <= len(value) <= _NAME_MAX and value.isascii() and value.isprintable()


def _is_bearer(authorization: bytes) -> bool:
    return authorization.lstrip()[:6].lower() == b"bearer"


def _by_unix_socket(scope: Scope) -> bool:
    """Tell whether the server itself listens on a socket file, which no request can make it say."""
    # ASGI: `server` is the socket's path then. A host never begins with a slash.
    server: Sequence[object] | None = scope.get("server")
    return bool(server) and str(server[0] if server else "").startswith("/")
