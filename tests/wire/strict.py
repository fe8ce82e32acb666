"""The API in this process, for settings that no sandbox has; the engine and its store are the real ones."""

from dataclasses import dataclass
from typing import Any

from tests.app import Answer, call
from tests.factories import ADA, GRACE, World, enrolled_fingerprint, enrolled_phone, enrolled_pin, make_world
from tests.wire.support import JWE
from watchword.asgi import ASGIApp
from watchword.auth.static import StaticTokens
from watchword.engine.ports import SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.jose.keys import ServerKeys
from watchword.server.app import api
from watchword.server.edge import Edge
from watchword.server.settings import ApplicationSettings, Settings

PROFILE = 435036
GRACE_PROFILE = 435037


@dataclass(frozen=True)
class Strict:
    """It, and what it stands on."""

    app: ASGIApp
    world: World

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str = "ada",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        given = {"authorization": f"Bearer {token}", **(headers or {})}
        return await call(self.app, method, path, list(given.items()), body=body)

    async def sealed(self, method: str, path: str, body: bytes, **options: Any) -> Answer:
        return await self.call(method, path, headers=JWE | options.pop("headers", {}), body=body, **options)


async def make_strict(
    *, keys: ServerKeys | None = None, settings: Settings | None = None, world: World | None = None
) -> Strict:
    """Make it, with Ada and Grace; or over the world of another, which has them."""
    if world is None:
        world = make_world()
        await world.enrol(ADA, enrolled_pin(), enrolled_phone(), enrolled_fingerprint())
        await world.enrol(GRACE, enrolled_phone(GRACE, "+447700900123"))
    tokens = StaticTokens(
        {
            "ada": Principal(
                kind=PrincipalKind.USER, user_id=ADA, profile_ids=frozenset({PROFILE}), application="app"
            ),
            "grace": Principal(
                kind=PrincipalKind.USER,
                user_id=GRACE,
                profile_ids=frozenset({GRACE_PROFILE}),
                application="app",
            ),
            "app": Principal(kind=PrincipalKind.APPLICATION, application="app"),
        }
    )
    settings = settings or Settings(applications={"app": ApplicationSettings(manages_users=True)})
    app = api(world.engine, tokens, keys=keys, settings=settings)
    return Strict(Edge(app, trace_id=SystemEntropy().trace_id), world)
