"""The httpx `Auth` that clears step-ups: it carries what `protocol` asks for, and keeps secrets at home."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from watchword import wire
from watchword.client import protocol
from watchword.client._http import httpx
from watchword.client.errors import RedirectedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from watchword.client.resolver import AsyncResolver, Resolver

# What a side call takes over from the request that was refused.
_CARRIED_HEADERS = ("authorization", "user-agent", wire.CORRELATION_ID)


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
        self, resolver: Resolver | AsyncResolver, *, token: str | None = None, base_url: str | None = None
    ) -> None:
        """
        Set up.

        Args:
            resolver: Who is asked for the method and the secret.
            token: Bearer token for every request made with this object. Without it the request's own
                `Authorization` header is left alone and used for the side calls as well.
            base_url: Where the one-time token endpoints are, if not at the origin of the request.
        """
        self._resolver = resolver
        self._authorization = None if token is None else f"Bearer {token}"
        self._base_url = None if base_url is None else httpx.URL(base_url)
        if self._base_url is not None and not self._base_url.is_absolute_url:
            raise ValueError("base_url must be absolute")

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
                result = self._ask(step)
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
                result = await self._ask_async(step)
            try:
                step = flow.send(result)
            except StopIteration:
                return

    def _flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request | protocol.Question, httpx.Response | protocol.Reply, None]:
        """Translate between the protocol's steps and requests. Questions pass through."""
        if self._authorization is not None:
            request.headers["authorization"] = self._authorization
        response = _response((yield request))
        refused = response.request
        if _origin(refused.url) != _origin(request.url):
            return  # a redirect led elsewhere: whoever answered there gets nothing from us
        steps = protocol.step_up(_facts(response))
        try:
            step = next(steps)
            while True:
                match step:
                    case protocol.Call():
                        side_call = self._side_call(refused, step)
                        step = steps.send(_facts(_response((yield side_call))))
                    case protocol.Repeat():
                        repetition = _repetition(refused, step.token)
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

    def _side_call(self, refused: httpx.Request, call: protocol.Call) -> httpx.Request:
        carried = _CARRIED_HEADERS if self._base_url is not None else (*_CARRIED_HEADERS, "host")
        headers = {name: refused.headers[name] for name in carried if name in refused.headers}
        headers["accept"] = "application/json"
        headers[wire.ONE_TIME_TOKEN] = call.token
        if call.body is not None:
            headers["content-type"] = "application/json"
        request = httpx.Request(
            call.method,
            self._side_url(refused.url, call.path),
            headers=headers,
            content=call.body,
            extensions=_timeout_of(refused),
        )
        request.url = _WatchedURL(request.url, _refuse_redirect)
        return request

    def _side_url(self, refused: httpx.URL, path: str) -> str:
        base = refused if self._base_url is None else self._base_url
        prefix = "" if self._base_url is None else base.path.rstrip("/")
        # Not `copy_with`: a user and password in the URL have no business in a side call.
        return f"{base.scheme}://{base.netloc.decode('ascii')}{prefix}{path}"

    def _ask(self, question: protocol.Question) -> protocol.Reply:
        reply: protocol.Reply | Coroutine[Any, Any, protocol.Reply] = self._method_for(question)(question)
        if isinstance(reply, Coroutine):
            reply.close()
            raise TypeError("an asynchronous resolver cannot serve a synchronous client")
        return reply

    async def _ask_async(self, question: protocol.Question) -> protocol.Reply:
        method = self._method_for(question)
        reply: protocol.Reply
        if inspect.iscoroutinefunction(method):
            reply = await method(question)
        else:
            # A resolver that waits for a person would stop the event loop, hence the thread.
            reply = await anyio.to_thread.run_sync(method, question, abandon_on_cancel=True)
        return reply

    def _method_for(self, question: protocol.Question) -> Callable[[Any], Any]:
        match question:
            case protocol.Choice():
                return self._resolver.choose
            case protocol.SecretQuestion():
                return self._resolver.secret


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


def _repetition(refused: httpx.Request, token: str) -> httpx.Request:
    """
    Return the refused request once more, with the one-time token.

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
    request.headers[wire.APPROVAL] = token
    request.url = _WatchedURL(refused.url, lambda: _forget_token(request))
    return request


def _forget_token(request: httpx.Request) -> None:
    request.headers.pop(wire.APPROVAL, None)


def _timeout_of(request: httpx.Request) -> dict[str, Any]:
    # Timeouts travel as an extension. Others, such as a custom request target, are for that request alone.
    return {name: value for name, value in request.extensions.items() if name == "timeout"}


def _must_be_read(response: httpx.Response) -> bool:
    """Whether the protocol needs the body. All others stay unread, so that they can be streamed."""
    is_side_call = wire.ONE_TIME_TOKEN in response.request.headers
    return is_side_call or protocol.is_refusal(response.status_code, response.headers)


def _facts(response: httpx.Response) -> protocol.Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.content if _must_be_read(response) else b""
    return protocol.Answer(response.status_code, headers, body)


def _response(result: httpx.Response | protocol.Reply) -> httpx.Response:
    assert isinstance(result, httpx.Response), "a request wants a response"
    return result


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
