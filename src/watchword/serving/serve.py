"""``watchword serve``: the server for production, as a process."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from watchword.asgi import ASGIApp
from watchword.config import ConfigError
from watchword.server.run import IsDraining, run
from watchword.serving.app import Server, application, checked, description
from watchword.serving.settings import UnusableDeploymentError


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
    server = deployment.server
    run(
        partial(_application, config),
        host=server.host,
        port=server.port,
        workers=server.workers,
        drain_seconds=server.drain_seconds,
        stop_seconds=server.stop_seconds,
    )


async def _rehearse(server: Server) -> None:
    async with server:
        pass


def _application(config: Path, is_draining: IsDraining) -> ASGIApp:
    try:
        deployment = checked(config)
        return Server(
            deployment,
            application(deployment),
            describe=description(deployment),
            probes=deployment.server.probes is not False,
            is_draining=is_draining,
        )
    except (ConfigError, UnusableDeploymentError) as error:
        _say(str(error))
        os._exit(1)


def _say(what: str) -> None:
    print(f"watchword serve: {what}", file=sys.stderr, flush=True)  # noqa: T201 - it is for a person.
