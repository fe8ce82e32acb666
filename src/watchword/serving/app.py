"""The composition root of production: from the settings of a server to one ASGI application."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from inspect import Signature, iscoroutinefunction, signature
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, Self, cast

from jinja2 import TemplateError

from watchword import problems
from watchword.asgi import ASGIApp, ASGIMessage, Receive, Scope, Send
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
from watchword.domain.limits import Retention
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemClock, SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.faces.base import FaceMatcher
from watchword.guard.asgi import Guard
from watchword.guard.details import Describe
from watchword.methods.registry import Methods
from watchword.page.brand import BrandError
from watchword.page.routes import ApprovalPage
from watchword.server.app import api_routes, compose
from watchword.server.edge import Edge
from watchword.server.settings import ApplicationSettings, Settings
from watchword.serving.callers import applications_by_source
from watchword.serving.in_use import going_by
from watchword.serving.keys import (
    ForeignKeysError,
    UnusableKeysError,
    check_ring,
    read_jose_keys,
    read_keyring,
)
from watchword.serving.lifespan import AppStartError, living
from watchword.serving.page import page_settings
from watchword.serving.probes import Probes, never_started
from watchword.serving.refusals import of_the_file, refusals
from watchword.serving.settings import Deployment, UnusableDeploymentError, load, webhook_secrets
from watchword.serving.stores import open_store, watch_lineage
from watchword.serving.users import LinkedUsers
from watchword.store.base import StoreUnavailableError
from watchword.store.timed import TimedStore


def _never() -> bool:
    return False


class Server:
    """
    The server as an ASGI application with a life: it opens its store at start, and closes it.

    A server that speaks ASGI's lifespan starts and stops it; elsewhere use ``async with``.
    """

    def __init__(
        self,
        deployment: Deployment,
        app: ASGIApp | None = None,
        *,
        describe: Describe | None = None,
        probes: bool = False,
        is_draining: Callable[[], bool] = _never,
    ) -> None:
        """
        Read the keys; nothing else is opened yet.

        Args:
            deployment: Settings without mistakes.
            app: What to protect; without it the API is served alone.
            describe: Says what a request-bound call is about; see ``Guard``.
            probes: Whether ``/healthz`` and ``/readyz`` are answered here, before the application.
            is_draining: Tells whether the server will stop soon, so that it is not ready any more.

        Raises:
            UnusableDeploymentError: A key file cannot be used, or the application or *describe* is none.
        """
        if app is not None and (what := _no_asgi(app)) is not None:
            raise UnusableDeploymentError(f"the application {what}")
        if describe is not None and (what := _no_description(describe)) is not None:
            raise UnusableDeploymentError(f"describe {what}")
        self._deployment = deployment
        self._app = app
        self._describe = describe
        try:
            self._keyring = read_keyring(deployment.key_file)
            self._jose = read_jose_keys(deployment.jose_file)
        except UnusableKeysError as error:
            raise UnusableDeploymentError(f"keys: {error}") from error
        self._chance = SystemEntropy()
        self._opened = AsyncExitStack()
        self._served: ASGIApp = _not_started
        self._ping = never_started
        self._probes = Probes(self._ping_store, is_draining=is_draining) if probes else None
        self._is_draining = is_draining
        self._under_way = 0
        self._idle = asyncio.Event()
        self._edge = Edge(self._serve, trace_id=self._chance.trace_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or live."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self._under_way += 1
        try:
            await self._edge(scope, receive, _closing(send) if self._is_draining() else send)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

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
        except StoreUnavailableError as error:
            raise UnusableDeploymentError(f"store: {error}") from error
        except ForeignKeysError as error:
            raise UnusableDeploymentError(f"keys.file: {self._deployment.key_file}: {error}") from error
        except UnusableKeysError as error:
            raise UnusableDeploymentError(f"keys: {error}") from error
        except SecretFileError as error:
            raise UnusableDeploymentError(str(error)) from error
        except AppStartError as error:
            raise UnusableDeploymentError(f"the application did not start: {error}") from error
        except (BrandError, TemplateError) as error:
            raise UnusableDeploymentError(f"page: {error}") from error

    async def stop(self) -> None:
        """
        Stop the application, and let go of everything.

        What is under way ends before: also what nobody waits for any more, since a handler may hold a
        token reserved whose caller hung up.
        """
        self._served, self._ping = _not_started, never_started
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deployment.server.stop_seconds):
                while self._under_way:
                    self._idle.clear()
                    await self._idle.wait()
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
        probe = None if self._probes is None or scope["type"] != "http" else self._probes.at(scope["path"])
        await (probe or self._served)(scope, receive, send)

    async def _ping_store(self) -> None:
        await self._ping()

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
        # Read once more, and from here on seen to go by them.
        self._keyring = opening.enter_context(going_by(deployment.key_file))
        applications = applications_by_source(deployment)
        egress = await opening.enter_async_context(Egress())
        opened = await open_store(deployment)
        store = TimedStore(opened)
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
                retention=Retention(
                    tokens_days=deployment.retention.tokens_days, audit_days=deployment.retention.audit_days
                ),
            )
            users = LinkedUsers(engine.applications)

            def begin_anew() -> None:
                engine.decider.recent.begin_anew()
                users.forget()

            watch_lineage(opened, begin_anew)
            authenticator = chain(
                users=users,
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
            page = ApprovalPage(engine, page_settings(deployment))
            routes = api_routes(engine, authenticator, keys=self._jose, settings=settings)
            front = compose([*routes, *page.routes()], engine)
            # From here on the front closes the store as it ends.
            await opening.enter_async_context(front.router.lifespan_context(front))
            until_alive.pop_all()
        self._ping = store.ping
        if self._app is not None:
            state = await opening.enter_async_context(living(self._app))
            front.router.default = Guard(
                _with_state(self._app, state),
                engine=engine,
                actions=actions,
                authenticator=authenticator,
                describe=self._describe,
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


def protect(app: ASGIApp, *, config: str | Path, describe: Describe | None = None) -> Server:
    """
    Put the product in front of *app*: the API, and a guard before whatever the actions name.

    The answer is one ASGI application with a lifespan, for any server that speaks it. ``[app]`` of the
    file means nothing here, and of ``[server]`` only ``probes`` and ``stop_seconds`` do: the caller
    serves, and has brought his application.

    Args:
        config: ``watchword.toml``.
        describe: Says of each request-bound call, and again of its retry, what the person is shown beside
            what the action's ``show`` names. It is called with the action, the ASGI scope and the body.

    Raises:
        ConfigError: It has mistakes, or what is unsafe; all of it is named.
    """
    deployment = checked(Path(config), with_app=True)
    return Server(deployment, app, describe=describe, probes=deployment.server.probes is True)


def checked(config: Path, *, with_app: bool = False) -> Deployment:
    """
    Read the settings of a server for production.

    Args:
        with_app: An application is there, whatever ``[app]`` says.

    Raises:
        ConfigError: They have mistakes, or what is unsafe; all of it is named.
    """
    deployment, mistakes = load(config)
    mistakes += of_the_file(config, deployment)
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
    found = _imported("target", deployment.app.target, deployment.folder)
    if (what := _no_asgi(found)) is not None:
        raise UnusableDeploymentError(f"app.target: {deployment.app.target} {what}")
    return cast("ASGIApp", found)


def description(deployment: Deployment) -> Describe | None:
    """
    Import what ``app.describe`` names; None where it names nothing.

    Raises:
        UnusableDeploymentError: It cannot be imported, or is no such function.
    """
    if deployment.app is None or deployment.app.describe is None:
        return None
    found = _imported("describe", deployment.app.describe, deployment.folder)
    if (what := _no_description(found)) is not None:
        raise UnusableDeploymentError(f"app.describe: {deployment.app.describe} {what}")
    return cast("Describe", found)


def _imported(key: str, target: str, folder: Path) -> object:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module, _, attribute = target.partition(":")
    try:
        found: Any = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except Exception as error:
        # The last line of it that is not ours nor importlib's: where the operator has to look.
        place = [each for each in extract_tb(error.__traceback__)[1:] if not each.filename.startswith("<")]
        where = f" ({place[-1].filename}, line {place[-1].lineno})" if place else ""
        why = f"{type(error).__name__}: {error}{where}"
        raise UnusableDeploymentError(f"app.{key}: {target}: {why}") from error
    return cast("object", found)


def _no_description(found: object) -> str | None:
    """Tell why *found* cannot say what a request is about; None where it may."""
    if not callable(found):
        return "is no function"
    if not (iscoroutinefunction(found) or iscoroutinefunction(getattr(found, "__call__", None))):  # noqa: B004 - it is called.
        return "is no coroutine function; write it with async def"
    try:
        takes = signature(found)
    except (TypeError, ValueError):
        return None  # It is not written in Python.
    return None if _fits(takes, 3) else "must take three arguments: the action, the ASGI scope and the body"


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


def _closing(send: Send) -> Send:
    """Have connections that stay open end with an answer, and not in the middle of a next request."""

    async def closing(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return closing


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
