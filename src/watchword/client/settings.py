"""What an `Auth` is made of, whichever HTTP library carries it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from watchword.client import protocol
from watchword.client._http import httpx
from watchword.client.envelope import Envelope, Jose

if TYPE_CHECKING:
    from watchword.client.exchange import Answer
    from watchword.client.resolver import AsyncResolver, Resolver
    from watchword.client.signing import SigningKey


class Settings:
    """Who answers, for whom, where, and how secrets travel; and what was learned about each server."""

    def __init__(
        self,
        resolver: Resolver | AsyncResolver | None,
        *,
        token: str | None,
        base_url: str | None,
        jose: Jose | None,
        signing_key: SigningKey | None,
    ) -> None:
        if resolver is None and signing_key is None:
            raise ValueError("an Auth needs a resolver to ask, or a key to sign with")
        self._resolver = resolver
        self.authorization = None if token is None else f"Bearer {token}"
        self._base_url = None if base_url is None else httpx.URL(base_url)
        if self._base_url is not None and not self._base_url.is_absolute_url:
            raise ValueError("base_url must be absolute")
        self._jose = jose
        self._envelopes: dict[tuple[str, str, int | None], Envelope] = {}
        self._sign: Callable[[str], str] | None = None
        if signing_key is not None:
            # Not above: applications that sign nothing do without the library.
            from watchword.client.signing import Signer  # noqa: PLC0415

            self._sign = Signer(signing_key)

    def step_up(self, first: Answer, refused: httpx.URL) -> Generator[protocol.Step, protocol.Result, None]:
        """Clear what the answer to a request for the URL *refused* asks for."""
        place = origin(self._base_url or refused)
        # Each server has its own key.
        envelope = self._envelopes.setdefault(place, Envelope(self._jose))
        return protocol.step_up(first, envelope=envelope, sign=self._sign, asks=self._resolver is not None)

    @property
    def is_elsewhere(self) -> bool:
        """Whether side calls go to another place than the protected ones."""
        return self._base_url is not None

    def side_url(self, refused: httpx.URL, path: str) -> str:
        """Return where a side call goes."""
        base = refused if self._base_url is None else self._base_url
        prefix = "" if self._base_url is None else base.path.rstrip("/")
        # Not `copy_with`: a user and password in the URL have no business in a side call.
        return f"{base.scheme}://{base.netloc.decode('ascii')}{prefix}{path}"

    def ask(self, question: protocol.Question) -> protocol.Reply:
        """Have the resolver answer."""
        reply: protocol.Reply | Coroutine[Any, Any, protocol.Reply] = self._method_for(question)(question)
        if isinstance(reply, Coroutine):
            reply.close()
            raise TypeError("an asynchronous resolver cannot serve a synchronous client")
        return reply

    async def ask_async(self, question: protocol.Question) -> protocol.Reply:
        """Have the resolver answer, and let others work meanwhile."""
        method = self._method_for(question)
        reply: protocol.Reply
        if inspect.iscoroutinefunction(method):
            reply = await method(question)
        else:
            # A resolver that waits for a person would stop the event loop, hence the thread.
            reply = await anyio.to_thread.run_sync(method, question, abandon_on_cancel=True)
        return reply

    def _method_for(self, question: protocol.Question) -> Callable[[Any], Any]:
        assert self._resolver is not None, "without a resolver nothing is asked"
        match question:
            case protocol.Choice():
                return self._resolver.choose
            case protocol.SecretQuestion():
                return self._resolver.secret


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return what decides whether two URLs are one server's."""
    return url.scheme, url.host, url.port
