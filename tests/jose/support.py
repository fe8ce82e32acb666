"""What the tests of JOSE share."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.jose import oracle
from watchword.domain.application import ClientKey
from watchword.domain.instant import Instant
from watchword.jose.compact import JoseError, JoseFault
from watchword.jose.envelope import Opened, open_jws_jwe, verify_jws
from watchword.jose.keys import Algorithm, PublishedKey, ServerKeys

NOW = Instant(1_700_000_000_000)
FROM, TILL = Instant(1_690_000_000_000), Instant(1_710_000_000_000)
URL = "/v1/auth/jose/playground/jws"
PAYLOAD = b'{"message":"hello"}'


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client's private key, and what we keep of it."""

    private: oracle.Private
    key: ClientKey

    def sign(self, payload: bytes = PAYLOAD, /, **header: Any) -> bytes:
        """Sign as a client does; what is given here stands in the header beside what belongs there."""
        members = {"alg": self.key.algorithm, "typ": "JWT", "url": URL} | header
        return oracle.jws(payload, self.private, members, self.key.algorithm)


def client_key(private: oracle.Private, algorithm: str, **changes: Any) -> ClientKey:
    """Make the record of an uploaded key."""
    members: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "scope": Algorithm(algorithm).scope,
        "algorithm": algorithm,
        "spki": oracle.spki(private.public_key()),
        "valid_from": FROM,
        "valid_till": TILL,
    }
    return ClientKey(**(members | changes))


def published(keys: ServerKeys, algorithm: Algorithm, version: int | None = None) -> PublishedKey:
    """Look up a public key that is there."""
    found = keys.published(algorithm, algorithm.scope, version)
    assert found is not None
    return found


def verify(body: bytes, *keys: ClientKey, url: str = URL, now: Instant = NOW) -> bytes:
    """Verify as the server does."""
    return verify_jws(body, url=url, keys=keys, now=now)


def open_nested(body: bytes, server: ServerKeys, *keys: ClientKey, url: str = URL) -> Opened:
    """Decrypt and verify as the server does."""
    return open_jws_jwe(body, url=url, keys=server, client_keys=keys, now=NOW)


def fault(call: Callable[..., object], *arguments: Any, **named: Any) -> JoseFault:
    """Return why *call* is refused; fail if it is not."""
    with pytest.raises(JoseError) as raised:
        call(*arguments, **named)
    assert str(raised.value) == raised.value.fault.value
    return raised.value.fault
