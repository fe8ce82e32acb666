"""
`Auth` for requests and for libraries made in its likeness, such as niquests.

Neither is imported: what they share is that an auth is called with the prepared request, that a hook on it
sees the answer, and that the answer knows the connection to send more on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from watchword.client import protocol
from watchword.client._http import httpx
from watchword.client.auth import CARRIED_HEADERS
from watchword.client.errors import RedirectedError
from watchword.client.exchange import Answer, Call
from watchword.client.settings import Settings, origin

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from watchword.client.envelope import Jose
    from watchword.client.resolver import Resolver
    from watchword.client.signing import SigningKey

_REDIRECTIONS: Final = range(300, 400)


class PreparedRequest(Protocol):
    """What is used of a request that is ready to be sent."""

    method: Any
    url: Any
    headers: Any
    body: Any

    def prepare(self, *, method: str, url: str, headers: Any, data: Any) -> None:  # noqa: ANN401 - the library's
        """Fill in an empty one."""
        ...

    def copy(self) -> Any:  # noqa: ANN401 - as above
        """Return another of the kind."""
        ...

    def register_hook(self, event: Any, hook: Any) -> None:  # noqa: ANN401 - as above
        """Have *hook* called with what comes back."""
        ...


R = TypeVar("R", bound=PreparedRequest)


class RequestsAuth:
    """
    Clears the challenges of a protected call and repeats it once: `Auth` for another library.

    Works with synchronous sessions. The rules are those of `Auth`: bodies are held in memory, secrets go
    to the origin of the request or to *base_url*, and a redirect takes none of them elsewhere.
    """

    def __init__(
        self,
        resolver: Resolver | None = None,
        *,
        token: str | None = None,
        base_url: str | None = None,
        jose: Jose | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        """Set up; the arguments are those of `Auth`."""
        self._settings = Settings(
            resolver, token=token, base_url=base_url, jose=jose, signing_key=signing_key
        )

    def __call__(self, request: R) -> R:
        """Prepare a request: the library calls this."""
        if self._settings.authorization is not None:
            request.headers["Authorization"] = self._settings.authorization
        if not isinstance(request.body, (str, bytes, type(None))):
            # It may have to be sent twice. The library puts the length in place of the chunks.
            request.body = _read(request.body)
            request.headers.pop("Transfer-Encoding", None)
        request.register_hook("response", _Watch(self._settings, request).see)
        return request

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Watch:
    """Sees what comes back for one request, and for those that redirects make of it."""

    def __init__(self, settings: Settings, request: PreparedRequest) -> None:
        self._settings = settings
        self._request = request
        self._origin = origin(httpx.URL(str(request.url)))
        self._is_over = False

    def see(self, response: Any, *_: Any, **how: Any) -> Any:  # noqa: ANN401 - the library's own types
        """Take a response and return the one that the application gets."""
        refused = response.request
        if refused is self._request:
            self._is_over = False  # the same prepared request, sent once more
        if (
            self._is_over  # it was repeated, and a redirect answered: what lies behind is another matter
            or not protocol.is_refusal(response.status_code, _lower(response.headers))
            or origin(httpx.URL(str(refused.url))) != self._origin
        ):
            return response
        return self._clear(response, how)

    def _clear(self, response: Any, how: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        refused = response.request
        history = [response]
        steps = self._settings.step_up(_facts(response), httpx.URL(str(refused.url)))
        try:
            step = next(steps)
            while True:
                match step:
                    case Call():
                        answer = response.connection.send(self._side_call(refused, step), **how)
                        facts = _facts(answer, read=True)
                        if facts.status in _REDIRECTIONS:
                            raise RedirectedError(
                                "a one-time token endpoint answered with a redirect, which was not followed"
                            )
                        step = steps.send(facts)
                    case protocol.Repeat():
                        repetition = refused.copy()
                        repetition.headers.update(step.headers)
                        self._is_over = True
                        response = response.connection.send(repetition, **how)
                        response.history.extend(history)
                        step = steps.send(_facts(response))
                    case protocol.Choice() | protocol.SecretQuestion():
                        step = steps.send(self._settings.ask(step))
        except StopIteration:
            return response

    def _side_call(self, refused: Any, call: Call) -> Any:  # noqa: ANN401 - as above
        carried = CARRIED_HEADERS if self._settings.is_elsewhere else (*CARRIED_HEADERS, "host")
        headers = {name: refused.headers[name] for name in carried if name in refused.headers}
        request = type(refused)()
        request.prepare(
            method=call.method,
            url=self._settings.side_url(httpx.URL(str(refused.url)), call.path),
            headers=headers | call.headers,
            data=call.body,
        )
        return request


def _read(body: Any) -> bytes:  # noqa: ANN401 - whatever the library lets one send
    read = cast("Callable[[], str | bytes] | None", getattr(body, "read", None))
    parts = cast("Iterable[str | bytes]", [read()] if read is not None else body)
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)


def _facts(response: Any, *, read: bool = False) -> Answer:  # noqa: ANN401 - the library's own type
    headers = _lower(response.headers)
    # What is for the application alone stays unread, so that it can be streamed.
    body = response.content if read or protocol.is_refusal(response.status_code, headers) else b""
    return Answer(response.status_code, headers, body)


def _lower(headers: MutableMapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
