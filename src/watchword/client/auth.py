"""The httpx `Auth` that clears step-ups: it carries what `protocol` asks for, and keeps secrets at home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watchword import wire
from watchword.client import protocol
from watchword.client._http import httpx
from watchword.client.errors import RedirectedError
from watchword.client.exchange import Answer, Call
from watchword.client.settings import Settings, origin

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from watchword.client.envelope import Jose
    from watchword.client.resolver import AsyncResolver, Resolver
    from watchword.client.signing import SigningKey

# What a side call takes over from the request that was refused.
CARRIED_HEADERS = ("authorization", "user-agent", wire.CORRELATION_ID)


class Auth(httpx.Auth):
    """
    Clears the challenges of a protected call and repeats it once.

    Works with synchronous and asynchronous clients alike. Request bodies are held in memory, streamed
    ones too, since a refused request has to be repeated byte for byte.

    One-time tokens, secrets and the bearer token go to the origin of the refused request, or to
    *base_url*, and nowhere else. They are not carried along by a redirect to another place, and a
    refusal that came from another origin than the one called is handed on as an ordinary answer.

    The client's request methods then raise `WatchwordError` (see `watchword.client.errors`). A network
    that fails raises the library's own errors.
    """

    requires_request_body = True

    def __init__(
        self,
        resolver: Resolver | AsyncResolver | None = None,
        *,
        token: str | None = None,
        base_url: str | None = None,
        jose: Jose | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        """
        Set up.

        Args:
            resolver: Who is asked for the method and the secret. None where *signing_key* is all it takes.
            token: Bearer token for every request made with this object. Without it the request's own
                `Authorization` header is left alone and used for the side calls as well.
            base_url: Where the one-time token endpoints are, if not at the origin of the request.
            jose: Whether PINs and device fingerprints are encrypted on their way; plain JSON by default.
            signing_key: A private RSA key, PEM or loaded, that passes a `SIGNATURE` challenge. With it and
                without a resolver a refused request is signed and repeated at once.

        Raises:
            ImportError: A signature is wanted, and the extra `client-jose` is not installed.
            ValueError: There is neither resolver nor key, the key is unfit, or *base_url* is not absolute.
        """
        self._settings = Settings(
            resolver, token=token, base_url=base_url, jose=jose, signing_key=signing_key
        )

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Drive the flow for a synchronous client."""
        request.read()
        flow = self._flow(request)
        step = next(flow)
        while True:
            result: httpx.Response | protocol.Reply
            if isinstance(step, httpx.Request):
                result = yield step
                if _must_be_read(result):
                    result.read()
            else:
                result = self._settings.ask(step)
            try:
                step = flow.send(result)
            except StopIteration:
                return

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Drive the flow for an asynchronous client."""
        await request.aread()
        flow = self._flow(request)
        step = next(flow)
        while True:
            result: httpx.Response | protocol.Reply
            if isinstance(step, httpx.Request):
                result = yield step
                if _must_be_read(result):
                    await result.aread()
            else:
                result = await self._settings.ask_async(step)
            try:
                step = flow.send(result)
            except StopIteration:
                return

    def _flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request | protocol.Question, httpx.Response | protocol.Reply, None]:
        """Translate between the protocol's steps and requests. Questions pass through."""
        if self._settings.authorization is not None:
            request.headers["authorization"] = self._settings.authorization
        response = _response((yield request))
        refused = response.request
        if origin(refused.url) != origin(request.url):
            return  # a redirect led elsewhere: whoever answered there gets nothing from us
        steps = self._settings.step_up(_facts(response), refused.url)
        try:
            step = next(steps)
            while True:
                match step:
                    case Call():
                        side_call = self._side_call(refused, step)
                        step = steps.send(_facts(_response((yield side_call))))
                    case protocol.Repeat():
                        repetition = _repetition(refused, step)
                        response = _response((yield repetition))
                        if response.request is not repetition:
                            return  # it was answered with a redirect: what lies behind is another matter
                        step = steps.send(_facts(response))
                    case protocol.Choice() | protocol.SecretQuestion():
                        reply = yield step
                        assert not isinstance(reply, httpx.Response), "a question wants a reply"
                        step = steps.send(reply)
        except StopIteration:
            return

    def _side_call(self, refused: httpx.Request, call: Call) -> httpx.Request:
        carried = CARRIED_HEADERS if self._settings.is_elsewhere else (*CARRIED_HEADERS, "host")
        headers = {name: refused.headers[name] for name in carried if name in refused.headers}
        request = _SideCall(
            call.method,
            self._settings.side_url(refused.url, call.path),
            headers=headers | call.headers,
            content=call.body,
            extensions=_timeout_of(refused),
        )
        request.url = _WatchedURL(request.url, _refuse_redirect)
        return request


class _SideCall(httpx.Request):
    """A request that is ours alone: its answer is read whatever it is."""


class _WatchedURL(httpx.URL):
    """
    The URL of a request that carries a secret, which hears of it when the request is redirected.

    The library follows redirects underneath an `Auth` and copies our headers to wherever they lead. It
    reads the fragment of a request's URL (which is never sent) just before that copy and at no other
    time. Tests hold this down for redirects to another origin, followed and not.
    """

    def __init__(self, url: httpx.URL, on_redirect: Callable[[], None]) -> None:
        super().__init__(url)
        self._on_redirect = on_redirect

    @property
    def fragment(self) -> str:
        self._on_redirect()
        return super().fragment


def _refuse_redirect() -> None:
    """Side calls hold a one-time token in a header, and maybe a secret in the body."""
    raise RedirectedError("a one-time token endpoint answered with a redirect, which was not followed")


def _repetition(refused: httpx.Request, repeat: protocol.Repeat) -> httpx.Request:
    """
    Return the refused request once more, with the one-time token and what belongs to it.

    That is the request as it was refused: if a redirect led there, the redirect is not gone through again.
    A redirect that answers it is the application's business, so it may be followed, without the token.
    """
    request = httpx.Request(
        refused.method,
        refused.url,
        headers=refused.headers,
        stream=refused.stream,
        extensions=refused.extensions,
    )
    # A header that the caller brought is not added to: two are refused.
    request.headers.update(repeat.headers)
    request.url = _WatchedURL(refused.url, lambda: _forget_token(request))
    return request


def _forget_token(request: httpx.Request) -> None:
    request.headers.pop(wire.APPROVAL, None)
    request.headers.pop(wire.SIGNATURE, None)


def _timeout_of(request: httpx.Request) -> dict[str, Any]:
    # Timeouts travel as an extension. Others, such as a custom request target, are for that request alone.
    return {name: value for name, value in request.extensions.items() if name == "timeout"}


def _must_be_read(response: httpx.Response) -> bool:
    """Whether the protocol needs the body. All others stay unread, so that they can be streamed."""
    is_side_call = isinstance(response.request, _SideCall)
    return is_side_call or protocol.is_refusal(response.status_code, response.headers)


def _facts(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.content if _must_be_read(response) else b""
    return Answer(response.status_code, headers, body)


def _response(result: httpx.Response | protocol.Reply) -> httpx.Response:
    assert isinstance(result, httpx.Response), "a request wants a response"
    return result
