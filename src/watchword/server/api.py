"""The API: every operation of the public protocol, in all three generations, as routes."""

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import Route

from watchword.engine.engine import Engine
from watchword.engine.principal import Authenticator
from watchword.jose.keys import ServerKeys
from watchword.server.applications import ApplicationKeys
from watchword.server.endpoint import Endpoint, Operation, StepUp
from watchword.server.enrolment import Enrolments
from watchword.server.envelope import Envelope
from watchword.server.one_time_tokens import OneTimeTokens
from watchword.server.settings import Settings

CALENDAR_PATTERN = r"20[0-9]{2}Q[1-4]"
"""A calendar version, ``2026Q3``: an opaque alias of the unversioned API."""


class _Calendar(StringConvertor):
    regex = CALENDAR_PATTERN


register_url_convertor("calendar", _Calendar())


class Api:
    """The operations, over one engine."""

    def __init__(
        self, engine: Engine, authenticator: Authenticator, *, keys: ServerKeys, settings: Settings
    ) -> None:
        """
        Make the table of operations.

        Args:
            keys: Our own keys for JOSE.
        """
        self._authenticator = authenticator
        self._settings = settings
        self._envelope = Envelope(engine, keys)
        self.operations = [
            *OneTimeTokens(engine).operations(),
            *Enrolments(engine, settings, StepUp(engine, settings)).operations(),
            *ApplicationKeys(engine, keys).operations(),
        ]

    def routes(self) -> list[Route]:
        """Return one route for each path; those of a payment's usual way come first."""
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            for path in operation.paths:
                by_path.setdefault(path, {})[operation.method] = operation
        return [
            Route(
                path,
                Endpoint(self._authenticator, operations, envelope=self._envelope, settings=self._settings),
            )
            for path, operations in by_path.items()
        ]
