"""
How a secret travels to a server: as plain JSON within TLS, or encrypted once more to the server's own key.

`Jose` is what a caller wants, `Envelope` what became of it with one server: its key, and whether it
insists. No I/O: whoever drives `Envelope.deliver` makes the calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from watchword.client.errors import ServerError
from watchword.client.exchange import JOSE_JSON, Answer, Call, Exchange, decode, error_of, refusal

if TYPE_CHECKING:
    from watchword.client.jose import KeyMaterial, ServerKey

JoseMode = Literal["off", "auto", "required"]

KEY_PATH: Final = "/v1/auth/jose/response/public-keys?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION"

_UNSUPPORTED_MEDIA_TYPE: Final = 415
_SERVER_FAULT: Final = 500
# What servers say who could not decrypt. The public API is documented to say nothing but 500.
_NOT_OPENED: Final = frozenset({"jwe_error", "jws_error"})


class Jose:
    """
    Whether and how PINs and device fingerprints are encrypted on their way.

    The modes:

    - `off`: plain JSON, as without any `Jose`.
    - `auto`: plain JSON; a server that answers 415 gets it encrypted, then and from then on.
    - `required`: always encrypted, and a success must come back encrypted too.
    """

    def __init__(
        self,
        mode: JoseMode,
        *,
        server_key: KeyMaterial | None = None,
        application_token: str | None = None,
        binds: bool = False,
        now: Callable[[], float] = time.time,  # noqa: TID251 - as an argument, which has a default
    ) -> None:
        """
        Set up.

        Args:
            mode: See the class.
            server_key: The server's public RSA key: PEM, a JWK, DER, or DER in base64.
            application_token: Access token of the application, with which the key is fetched if it was
                not given. It goes to where the one-time token endpoints are.
            binds: Write the one-time token and the time into the encrypted message's protected header, so
                that it is good for nothing but that token. Watchword reads them. The public API documents
                a header of two members and might refuse more, so this is off unless asked for.
            now: Seconds since 1970.

        Raises:
            ImportError: The extra `client-jose` is not installed.
            ValueError: *server_key* is no public RSA key of at least 2048 bits, or encryption is required
                and neither a key nor a token to fetch it with was given.
        """
        if mode not in {"off", "auto", "required"}:
            raise ValueError("the mode must be off, auto or required")
        if mode == "required" and server_key is None and not application_token:
            raise ValueError("encryption needs the server's key, or an application's token to fetch it with")
        self.mode: JoseMode = mode
        self.application_token = application_token
        self.binds = binds
        self.now = now
        self.server_key: ServerKey | None = None
        if mode != "off":
            # Not above: applications that need no JOSE do without its libraries.
            from watchword.client import jose  # noqa: PLC0415

            self.server_key = None if server_key is None else jose.server_key(server_key)

    def __repr__(self) -> str:
        """Hide the token."""
        return f"{type(self).__name__}({self.mode!r})"


class Envelope:
    """How secrets travel to one server. Keep it: it remembers the server's key."""

    def __init__(self, jose: Jose | None = None) -> None:
        self._jose = jose or Jose("off")
        self._key = self._jose.server_key
        self._seals = self._jose.mode == "required"

    def deliver(self, call: Call) -> Exchange[Answer]:
        """
        Make a call that has a secret in its body.

        Returns the answer in the clear, whichever way it came.

        Raises:
            RefusedError: The server does not give its key.
            ServerError: What came back is not what it must be.
        """
        if self._seals:
            return (yield from self._deliver_sealed(call))
        answer = yield call
        if answer.status != _UNSUPPORTED_MEDIA_TYPE or not self._may_seal:
            return answer
        self._seals = True  # A refused media type was not read, so this has cost no attempt.
        return (yield from self._deliver_sealed(call))

    @property
    def _may_seal(self) -> bool:
        has_key = self._key is not None or bool(self._jose.application_token)
        return self._jose.mode != "off" and has_key

    def _deliver_sealed(self, call: Call) -> Exchange[Answer]:
        key, is_old = self._key, self._key is not None
        if key is None:
            key = yield from self._fetch_key()
        answer, opened = yield from self._seal_and_send(call, key)
        if not opened and is_old and self._jose.application_token:
            # The key may have been replaced since. If it was not, another try could only spend an attempt.
            renewed = yield from self._fetch_key()
            if renewed != key:
                answer, _ = yield from self._seal_and_send(call, renewed)
        return answer

    def _seal_and_send(self, call: Call, key: ServerKey) -> Exchange[tuple[Answer, bool]]:
        """Return the answer in the clear, and whether the server seems to have read what was sent."""
        from watchword.client import jose  # noqa: PLC0415 - as above

        assert call.body is not None, "without a body there is nothing to seal"
        sealed = jose.seal(call.body, key, self._header(call))
        answer = yield replace(call, body=sealed.compact, sealed=True)
        if answer.body and _media_type(answer) == JOSE_JSON:
            try:
                body = jose.open_direct(answer.body, sealed.content_key)
            except ValueError as error:
                raise ServerError(str(error), status=answer.status) from None
            return replace(answer, body=body), True
        if answer.succeeded and answer.body and self._jose.mode == "required":
            raise ServerError("the server answered in the clear", status=answer.status)
        opened = answer.status < _SERVER_FAULT and error_of(answer).code not in _NOT_OPENED
        return answer, opened

    def _header(self, call: Call) -> dict[str, Any]:
        if not self._jose.binds:
            return {}
        bound = {} if call.token is None else {"ott": call.token}
        return {**bound, "iat": int(self._jose.now())}

    def _fetch_key(self) -> Exchange[ServerKey]:
        from watchword.client import jose  # noqa: PLC0415 - as above

        answer = yield Call(method="GET", path=KEY_PATH, bearer=self._jose.application_token)
        if not answer.succeeded:
            raise refusal(answer)
        material = decode(answer, _KeyAnswer).key_material
        try:
            self._key = jose.server_key(material.key_material)
        except ValueError as error:
            raise ServerError(f"the server's key: {error}", status=answer.status) from None
        return self._key


class _KeyMaterial(msgspec.Struct, frozen=True, rename="camel"):
    key_material: str


class _KeyAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The server's key: one object, for all that some clients took it for a list."""

    key_material: _KeyMaterial


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()
