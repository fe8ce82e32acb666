"""
The envelope of a body: plain JSON, or JOSE as ``X-TW-JOSE-Method`` says.

Whatever it came in, what was meant goes through the same strict reader. An error is answered in
plain JSON, also to whoever encrypts: it tells nothing that was sealed, and whoever sealed a body
wrongly must be able to read why.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchword import problems, protected, wire
from watchword.domain.application import ApplicationId, ClientKey, KeyScope
from watchword.jose import compact
from watchword.jose.compact import JoseError
from watchword.jose.envelope import (
    JoseMethod,
    open_jwe,
    open_jws_jwe,
    seal_direct,
    seal_to,
    sign,
    signature_algorithm,
    verify_jws,
)
from watchword.server.body import BODY_MAX, BadRequestError, Large, check_json_headers, decode, read

if TYPE_CHECKING:
    from watchword.asgi import Headers
    from watchword.engine.engine import Engine
    from watchword.jose.keys import Algorithm, ServerKeys
    from watchword.server.endpoint import Call, Operation

_METHOD = wire.JOSE_METHOD.encode()
_JOSE_TYPE = re.compile(rb"application/jose(?:\+json)?\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_ASKS_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
BOUND_SECONDS = 600
"""How old a body may be that says when it was encrypted (``iat``)."""


@dataclass(slots=True, kw_only=True)
class Sealed:
    """
    How a body came, and so how its answer leaves.

    Attributes:
        content_key: Of the request; the answer is encrypted under it.
        to: The key that the application uploaded; the answer is encrypted to it.
        signed_by: The algorithm that the answer is signed with.
    """

    content_key: bytes | None = field(default=None, repr=False)
    to: ClientKey | None = None
    signed_by: Algorithm | None = None


class Envelope:
    """Opens bodies and seals answers."""

    def __init__(self, engine: Engine, keys: ServerKeys) -> None:
        """
        Take what is needed for it.

        Args:
            keys: Our own; the applications' are the engine's to find.
        """
        self._engine = engine
        self._keys = keys
        self._large = Large()

    async def open(self, call: Call, operation: Operation, *, required: bool) -> None:
        """
        Read the body into *call*.

        Args:
            required: Plain JSON is refused where the operation takes an envelope.

        Raises:
            BadRequestError: It cannot be read, or not in that form.
        """
        headers = call.scope["headers"]
        method = None if operation.jose is None else _method(headers)
        if operation.jose is not None and operation.jose.only not in {None, method}:
            raise _unsupported(f"Send X-TW-JOSE-Method: {operation.jose.only}.")
        if method is None:
            if required and operation.jose is not None:
                raise _unsupported("Send the body as application/jose+json, with X-TW-JOSE-Method: jwe.")
            check_json_headers(headers)
            large = operation.body_max > BODY_MAX and not _is_small(headers)
            with self._large.one(call.user_id) if large else nullcontext():
                call.payload = await read(call.request, limit=operation.body_max)
        else:
            if (
                required
                and method is JoseMethod.JWS
                and operation.jose is not None
                and not operation.jose.only
            ):
                raise _unsupported(
                    "A signed body can be read: encrypt it, by X-TW-JOSE-Method: jwe or jws+jwe."
                )
            _check_jose_headers(headers, has_body=operation.body is not None)
            body = await read(call.request, limit=operation.body_max)
            sealed = await self._unseal(call, method, body, operation)
            only = None if operation.jose is None else operation.jose.only
            call.sealed = sealed if only is not None or _wants_jose(headers) else None
        if operation.body is not None:
            call.body = decode(call.payload, operation.body)

    async def _unseal(self, call: Call, method: JoseMethod, body: bytes, operation: Operation) -> Sealed:
        now = self._engine.clock.now()
        url = protected.path_as_called(call.scope)
        sealed = Sealed()
        if operation.body is None:
            # A GET: the headers ask for an encrypted answer, and there is nothing to open.
            sealed.to = await self._answer_key(call, None)
            return sealed
        try:
            if method is JoseMethod.JWS:
                call.payload = verify_jws(body, url=url, keys=await self._signers(call), now=now)
                sealed.signed_by = signature_algorithm(body)
                header = compact.header(body.partition(b".")[0])
                self._check_bound(call, header.get("ott"), header.get("iat"), signed=True)
                return sealed
            if method is JoseMethod.JWE:
                opened = open_jwe(body, keys=self._keys)
            else:
                signers = await self._signers(call)
                opened = open_jws_jwe(body, url=url, keys=self._keys, client_keys=signers, now=now)
                sealed.signed_by = opened.signed_by
        except JoseError as error:
            raise BadRequestError(
                problems.jose_refused(str(error), signed=error.inside or method is JoseMethod.JWS)
            ) from None
        self._check_bound(call, opened.ott, opened.issued_at, signed=False)
        call.payload = opened.payload
        if operation.jose is not None and operation.jose.to_uploaded_key:
            sealed.to = await self._answer_key(call, opened.kid)
        else:
            sealed.content_key = opened.content_key
        return sealed

    def _check_bound(self, call: Call, ott: str | None, issued_at: int | None, *, signed: bool) -> None:
        """Refuse a body that was sealed for another token, or long ago, where its header says so itself."""
        age = 0 if issued_at is None else self._engine.clock.now() // 1000 - issued_at
        if ott is not None:
            # A change of credentials brings the token of its approval.
            known = call.ott or protected.presented_ott(call.scope["headers"])
            ott = None if ott == known else ott
        if ott is not None or not -BOUND_SECONDS <= age <= BOUND_SECONDS:
            raise BadRequestError(
                problems.jose_refused("the body was sealed for another call", signed=signed)
            )

    async def seal(self, body: bytes, call: Call) -> bytes:
        """Put an answer into the envelope that its request asked for."""
        sealed = call.sealed
        assert sealed is not None
        if sealed.signed_by is not None:
            body = sign(body, sealed.signed_by, keys=self._keys)
        if sealed.content_key is not None:
            body = seal_direct(body, sealed.content_key)
        elif sealed.to is not None:
            body = seal_to(body, sealed.to)
        return body

    async def _signers(self, call: Call) -> tuple[ClientKey, ...]:
        return await self._uploaded(call, KeyScope.PAYLOAD_SIGNING)

    async def _answer_key(self, call: Call, kid: str | None) -> ClientKey:
        """Choose the key to encrypt an answer to: the one that the request names, else the newest."""
        uploaded = await self._uploaded(call, KeyScope.PAYLOAD_ENCRYPTION)
        if not uploaded:
            raise BadRequestError(
                problems.problem(
                    400, wire.Code.JOSE_KEY_NOT_FOUND, "Upload a public key for PAYLOAD_ENCRYPTION first."
                )
            )
        return next((key for key in uploaded if key.id == kid), uploaded[0])

    async def _uploaded(self, call: Call, scope: KeyScope) -> tuple[ClientKey, ...]:
        application = call.principal.application
        if application is None:
            return ()
        return await self._engine.applications.keys(ApplicationId(application), scope)


def _method(headers: Headers) -> JoseMethod | None:
    named = [value.strip().lower() for name, value in headers if name == _METHOD]
    if len(named) > 1:
        raise BadRequestError(problems.malformed("There are two X-TW-JOSE-Method headers."))
    if named:
        known = next((each for each in JoseMethod if each.encode() == named[0]), None)
        if known is None:
            raise BadRequestError(
                problems.malformed("X-TW-JOSE-Method is jwe, jws or jws+jwe.", path="X-TW-JOSE-Method")
            )
        return known
    if any(name == b"content-type" and _JOSE_TYPE.fullmatch(value.strip()) for name, value in headers):
        raise BadRequestError(
            problems.malformed("Say how the body is sealed: X-TW-JOSE-Method.", path="X-TW-JOSE-Method")
        )
    return None


def _is_small(headers: Headers) -> bool:
    """Tell whether a body says of itself that it is no larger than most."""
    lengths = [value for name, value in headers if name == b"content-length"]
    return (
        len(lengths) == 1
        and lengths[0].isdigit()
        and len(lengths[0]) <= len(str(BODY_MAX))
        and (int(lengths[0]) <= BODY_MAX)
    )


def _wants_jose(headers: Headers) -> bool:
    """Tell whether an answer in an envelope is acceptable; only who asks for JSON alone gets JSON."""
    accepted = b",".join(value for name, value in headers if name == b"accept")
    return not accepted or b"jose" in accepted.lower() or _ASKS_JSON.search(accepted) is None


def _check_jose_headers(headers: Headers, *, has_body: bool) -> None:
    if has_body and any(
        name == b"content-type" and not _JOSE_TYPE.fullmatch(value.strip()) for name, value in headers
    ):
        raise _unsupported("Send the body as application/jose+json.")
    if any(
        name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}
        for name, value in headers
    ):
        raise _unsupported("Send the body without Content-Encoding.")


def _unsupported(message: str) -> BadRequestError:
    return BadRequestError(problems.problem(415, wire.Code.MEDIA_TYPE_UNSUPPORTED, message))
