"""The composition root of production: from the settings of a server to one ASGI application."""

import sys
from contextlib import AsyncExitStack
from importlib import import_module
from inspect import Signature, signature
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, Self, cast

from watchword import problems
from watchword.asgi import ASGIApp, Receive, Scope, Send
from watchword.auth.compose import behind_gateway, chain
from watchword.auth.egress import Egress
from watchword.auth.gateway import ISSUER as GATEWAY
from watchword.auth.settings import SecretFileError
from watchword.caller import SCOPE_KEY
from watchword.config import ConfigError
from watchword.delivery.base import Delivery
from watchword.delivery.webhook import Webhook
from watchword.domain.action import Actions
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemClock, SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.faces.base import FaceMatcher
from watchword.guard.asgi import Guard
from watchword.methods.registry import Methods
from watchword.server.app import api_routes, compose
from watchword.server.edge import Edge
from watchword.server.settings import ApplicationSettings, Settings
from watchword.serving.callers import applications_by_source
from watchword.serving.keys import (
    ForeignKeysError,
    UnusableKeysError,
    check_ring,
    read_jose_keys,
    read_keyring,
)
from watchword.serving.lifespan import AppStartError, living
from watchword.serving.refusals import of_the_file, refusals
from watchword.serving.settings import Deployment, load, webhook_secrets
from watchword.serving.users import LinkedUsers
from watchword.store.base import StoreUnavailableError
from watchword.store.sqlite import SqliteStore, UnusableFileError


class UnusableDeploymentError(Exception):
    """The server cannot start; says why."""


class Server:
    """
    The server as an ASGI application with a life: it opens its store at start, and closes it.

    A server that speaks ASGI's lifespan starts and stops it; elsewhere use ``async with``.
    """

    def __init__(self, deployment: Deployment, app: ASGIApp | None = None) -> None:
        """
        Read the keys; nothing else is opened yet.

        Args:
            deployment: Settings without mistakes.
            app: What to protect; without it the API is served alone.

        Raises:
            UnusableDeploymentError: A key file cannot be used, or the application is none.
        """
        if app is not None and (what := _no_asgi(app)) is not None:
            raise UnusableDeploymentError(f"the application {what}")
        self._deployment = deployment
        self._app = app
        try:
            self._keyring = read_keyring(deployment.key_file)
            self._jose = read_jose_keys(deployment.jose_file)
        except UnusableKeysError as error:
            raise UnusableDeploymentError(f"keys: {error}") from error
        self._chance = SystemEntropy()
        self._opened = AsyncExitStack()
        self._served: ASGIApp = _not_started
        self._edge = Edge(self._serve, trace_id=self._chance.trace_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or live."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._edge(scope, receive, send)

    async def start(self) -> None:
        """
        Open the store, and start the application.

        Raises:
            UnusableDeploymentError: The store or the application cannot be used.
        """
        try:
            async with AsyncExitStack() as opening:
                self._served = await self._open(opening)
                self._opened = opening.pop_all()
        except (UnusableFileError, StoreUnavailableError) as error:
            raise UnusableDeploymentError(f"store.path: {error}") from error
        except ForeignKeysError as error:
            raise UnusableDeploymentError(f"keys.file: {self._deployment.key_file}: {error}") from error
        except SecretFileError as error:
            raise UnusableDeploymentError(str(error)) from error
        except AppStartError as error:
            raise UnusableDeploymentError(f"the application did not start: {error}") from error

    async def stop(self) -> None:
        """Stop the application, and let go of everything."""
        self._served = _not_started
        await self._opened.aclose()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._served(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Speak ASGI's lifespan: start, wait for the end, stop."""
        await receive()
        try:
            await self.start()
        except UnusableDeploymentError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self, opening: AsyncExitStack) -> ASGIApp:
        deployment, clock = self._deployment, SystemClock()
        applications = applications_by_source(deployment)
        egress = await opening.enter_async_context(Egress())
        store = SqliteStore.open(deployment.store_file)
        async with AsyncExitStack() as until_alive:
            until_alive.push_async_callback(store.close)
            await check_ring(store, self._keyring)
            engine = Engine(
                store=store,
                clock=clock,
                entropy=self._chance,
                methods=Methods(self._keyring),
                delivery=self._delivery(clock, opening),
                faces=self._faces(clock, opening),
                limits=deployment.limits,
            )
            authenticator = chain(
                users=LinkedUsers(engine.applications),
                applications=applications,
                egress=egress,
                clock=clock,
                issuers=deployment.issuers,
                introspection=deployment.introspection,
                tokens=deployment.tokens,
                folder=deployment.folder,
            )
            actions = Actions(deployment.policy.actions or ())
            settings = _settings(deployment, actions)
            front = compose(api_routes(engine, authenticator, keys=self._jose, settings=settings), engine)
            # From here on the front closes the store as it ends.
            await opening.enter_async_context(front.router.lifespan_context(front))
            until_alive.pop_all()
        if self._app is not None:
            state = await opening.enter_async_context(living(self._app))
            front.router.default = Guard(
                _with_state(self._app, state), engine=engine, actions=actions, authenticator=authenticator
            )
        if deployment.gateway is None:
            return front
        return behind_gateway(
            front if deployment.personal_tokens.signature_suffices else _without_personal(front),
            deployment.gateway,
            users=None,
            applications=applications[GATEWAY],
            clock=clock,
            folder=deployment.folder,
        )

    def _delivery(self, clock: SystemClock, opening: AsyncExitStack) -> Delivery | None:
        table = self._deployment.delivery
        if table is None:
            return None
        webhook = Webhook(
            table.webhook,
            secrets=webhook_secrets(self._deployment.folder / table.secret_file),
            now=clock.now,
            new_id=self._chance.uuid,
            timeout_seconds=table.timeout_seconds,
            at_once=table.at_once,
        )
        opening.push_async_callback(webhook.aclose)
        return webhook

    def _faces(self, clock: SystemClock, opening: AsyncExitStack) -> FaceMatcher | None:
        table = self._deployment.face
        if table is None:
            return None
        matcher = table.matcher(clock.now, directory=self._deployment.folder)
        opening.push_async_callback(matcher.aclose)
        return matcher


def protect(app: ASGIApp, *, config: str | Path) -> Server:
    """
    Put the product in front of *app*: the API, and a guard before whatever the actions name.

    The answer is one ASGI application with a lifespan, for any server that speaks it. ``[server]``
    and ``[app]`` of the file mean nothing here: the caller serves, and has brought his application.

    Args:
        config: ``watchword.toml``.

    Raises:
        ConfigError: It has mistakes, or what is unsafe; all of it is named.
    """
    return Server(checked(Path(config), with_app=True), app)


def checked(config: Path, *, with_app: bool = False) -> Deployment:
    """
    Read the settings of a server for production.

    Args:
        with_app: An application is there, whatever ``[app]`` says.

    Raises:
        ConfigError: They have mistakes, or what is unsafe; all of it is named.
    """
    deployment, mistakes = load(config)
    mistakes += of_the_file(config)
    mistakes += refusals(deployment, with_app=with_app)
    if mistakes:
        raise ConfigError(str(config), mistakes)
    return deployment


def application(deployment: Deployment) -> ASGIApp | None:
    """
    Import what ``[app]`` names; None where there is nothing to protect.

    Raises:
        UnusableDeploymentError: It cannot be imported.
    """
    if deployment.app is None:
        return None
    if str(deployment.folder) not in sys.path:
        sys.path.insert(0, str(deployment.folder))
    module, _, attribute = deployment.app.target.partition(":")
    try:
        found: Any = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except Exception as error:
        # The last line of it that is not ours nor importlib's: where the operator has to look.
        place = [each for each in extract_tb(error.__traceback__)[1:] if not each.filename.startswith("<")]
        where = f" ({place[-1].filename}, line {place[-1].lineno})" if place else ""
        why = f"{type(error).__name__}: {error}{where}"
        raise UnusableDeploymentError(f"app.target: {deployment.app.target}: {why}") from error
    if (what := _no_asgi(found)) is not None:
        raise UnusableDeploymentError(f"app.target: {deployment.app.target} {what}")
    return cast("ASGIApp", found)


def _no_asgi(found: object) -> str | None:
    """Tell why *found* cannot be an ASGI application; None where it may be one."""
    if not callable(found):
        return "is no application"
    try:
        takes = signature(found, follow_wrapped=False)
    except (TypeError, ValueError):
        return None  # It is not written in Python.
    if _fits(takes, 3):
        return None
    if _fits(takes, 2):
        return (
            "is called with two arguments, so it is WSGI; name an ASGI application, or wrap this one in one"
        )
    if _fits(takes, 0):
        return "is called without arguments, so it makes an application; name the application that it makes"
    return "is no ASGI application: that is called with scope, receive and send"


def _fits(takes: Signature, count: int) -> bool:
    try:
        takes.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _settings(deployment: Deployment, actions: Actions) -> Settings:
    enrolment = deployment.policy.enrolment
    return Settings(
        step_up=enrolment.when(StepUpFor.TWO_FACTORS),
        credential_change=actions.by_name.get(CREDENTIAL_CHANGE.name, CREDENTIAL_CHANGE),
        trivial_pins=enrolment.trivial_pins(otherwise=True),
        applications={
            each.id: ApplicationSettings(
                jose_required=each.jose == "required", manages_users=each.manages_users
            )
            for each in deployment.applications
        },
    )


def _with_state(app: ASGIApp, state: dict[str, Any]) -> ASGIApp:
    """Give the requests of *app* what it put into their state as it started, and nothing of ours."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


def _without_personal(app: ASGIApp) -> ASGIApp:
    """Refuse the personal tokens that a gateway tells of, where one signature shall not be enough."""

    async def without_personal(scope: Scope, receive: Receive, send: Send) -> None:
        told: Principal | None = scope.get(SCOPE_KEY)
        if told is not None and told.kind is PrincipalKind.PERSONAL and scope["type"] == "http":
            await problems.unauthenticated()(scope, receive, send)
        else:
            await app(scope, receive, send)

    return without_personal


async def _not_started(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise StoreUnavailableError("the server is not started: serve it with ASGI's lifespan on")
