"""``watchword serve``: the server for production, as a process."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from watchword.asgi import ASGIApp
from watchword.config import ConfigError
from watchword.server.run import run
from watchword.serving.app import Server, UnusableDeploymentError, application, checked


def run_serve(config: Path) -> None:
    """
    Serve until SIGINT or SIGTERM; read everything anew at SIGHUP.

    Raises:
        ConfigError: The configuration has mistakes, or what is unsafe.
        UnusableDeploymentError: The store cannot be used.
        CannotListenError: The address is in use, or not one of this machine's.
    """
    deployment = checked(config)
    # Here, where a fault can still be told in one line. The application is not imported: what it
    # opens belongs in the process that serves it.
    asyncio.run(_rehearse(Server(deployment)))
    run(
        partial(_application, config),
        host=deployment.server.host,
        port=deployment.server.port,
        may_reload=partial(_may_reload, config),
    )


def _may_reload(config: Path) -> bool:
    """Tell whether a server could start now; if not, say why, and let the one that runs go on."""
    try:
        asyncio.run(_rehearse(Server(checked(config))))
    except (ConfigError, UnusableDeploymentError) as error:
        _say(f"not reloaded, the server goes on as it was: {error}")
        return False
    return True


async def _rehearse(server: Server) -> None:
    async with server:
        pass


def _application(config: Path) -> ASGIApp:
    try:
        deployment = checked(config)
        return Server(deployment, application(deployment))
    except (ConfigError, UnusableDeploymentError) as error:
        _say(str(error))
        os._exit(1)


def _say(what: str) -> None:
    print(f"watchword serve: {what}", file=sys.stderr, flush=True)  # noqa: T201 - it is for a person.
