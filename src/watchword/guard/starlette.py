"""The guard for one handler of a Starlette application (and of FastAPI, by ``add_route``)."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from watchword.asgi import ASGIApp
from watchword.guard.asgi import Guard

Handler = Callable[[Request], Awaitable[Response]]


def protects(guard: Guard, action: str) -> Callable[[Handler], ASGIApp]:
    """
    Protect one handler, whatever its path.

    ``Route("/keys", protects(guard, "KEY__ROTATE")(rotate), methods=["POST"])``

    Raises:
        KeyError: There is no such action.
    """
    decorate = guard.protects(action)

    def decorated(handler: Handler) -> ASGIApp:
        return decorate(request_response(handler))

    return decorated
