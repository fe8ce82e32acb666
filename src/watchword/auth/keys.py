"""
An issuer's public keys: fetched, kept for a while, fetched again when a token names one that is new.

Whatever tokens come, an issuer is asked at most once in ten seconds: a flood of made-up key ids is no
flood of requests. If it does not answer, the keys that are there stay good for a bounded time.
"""

import asyncio
import logging
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from watchword import strict_json
from watchword.auth.egress import Egress, EgressError
from watchword.domain.instant import NEVER, Instant, after
from watchword.engine.ports import Clock
from watchword.engine.principal import AuthenticatorUnavailableError
from watchword.strict_json import MalformedJsonError

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EDWARDS = frozenset({"Ed25519", "EdDSA"})
_CURVES = {"P-256": frozenset({"ES256"}), "P-384": frozenset({"ES384"}), "P-521": frozenset({"ES512"})}
ALGORITHMS = tuple(sorted(_RSA.union(_EDWARDS, *_CURVES.values())))
"""Signatures that only the holder of a private key can make; no HMAC, and never ``none``."""

MAX_AGE_SECONDS = 300
STALE_SECONDS = 3_600
ASK_AGAIN_SECONDS = 10
_ASK_AGAIN_EMPTY_SECONDS = 1
_DISCOVERY = "/.well-known/openid-configuration"
_KEYS_MAX = 100
_RSA_BITS = range(2048, 8192 + 1)
_EXPONENT_BYTES_MAX = 4
_PRIVATE = ("d", "p", "q", "k")

_log = logging.getLogger("watchword.auth")


class KeysError(Exception):
    """The issuer's document cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """
    One key of an issuer.

    Attributes:
        algorithms: The ones that it may be used with; all others are refused with it.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: RSAKey | ECKey | OKPKey


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self,
        issuer: str,
        egress: Egress,
        clock: Clock,
        *,
        url: str | None = None,
        max_age: int = MAX_AGE_SECONDS,
        stale: int = STALE_SECONDS,
        ask_again: int = ASK_AGAIN_SECONDS,
    ) -> None:
        """
        Fetch nothing yet.

        Args:
            url: Where the key set is; without it the issuer's discovery document tells.
            max_age: Seconds after which the keys are fetched again.
            stale: Seconds beyond that for which they stay good while the issuer cannot be asked.
            ask_again: The least seconds between two requests to the issuer.
        """
        self._issuer = issuer
        self._egress = egress
        self._clock = clock
        self._url = url
        self._max_age = max_age
        self._stale = stale
        self._ask_again = ask_again
        self._keys: tuple[PublicKey, ...] = ()
        self._body: bytes | None = None
        self._fetched_at = NEVER
        self._asked_at = NEVER
        self._failed = False
        self._asking: asyncio.Task[None] | None = None
        self.generation = 0
        """Grows whenever the keys are others than before."""

    async def fitting(self, kid: str | None, algorithm: str) -> Sequence[PublicKey]:
        """
        Return the keys that a token with this header may be signed with.

        Raises:
            AuthenticatorUnavailableError: The issuer does not answer, and what is known of its keys is
                too old, or does not have this one.
        """
        if not self._is_younger(self._max_age):
            await self._ask()
            if not self._is_younger(self._max_age + self._stale):
                raise AuthenticatorUnavailableError(f"the keys of {self._issuer} cannot be had")
        return self._fit(kid, algorithm)

    async def fitting_now(self, kid: str | None, algorithm: str) -> Sequence[PublicKey]:
        """
        Return the same after a look whether the issuer has new keys, for what the known ones do not fit.

        Raises:
            AuthenticatorUnavailableError: The issuer does not answer, so that it cannot be told.
        """
        await self._ask()
        if self._failed:
            raise AuthenticatorUnavailableError(f"whether {self._issuer} has new keys cannot be told")
        return self._fit(kid, algorithm)

    def _fit(self, kid: str | None, algorithm: str) -> Sequence[PublicKey]:
        return [
            key
            for key in self._keys
            if algorithm in key.algorithms and (kid is None or key.kid in {kid, None})
        ]

    def _is_younger(self, seconds: int) -> bool:
        """Tell it of what was fetched; a clock that was set back makes nothing younger."""
        return self._body is not None and self._is_within(self._fetched_at, seconds)

    def _is_within(self, moment: Instant, seconds: int) -> bool:
        return moment <= self._clock.now() < after(moment, seconds)

    async def _ask(self) -> None:
        """Ask the issuer, unless somebody just did; whoever comes meanwhile waits for the same answer."""
        if self._asking is None:
            usable = self._is_younger(self._max_age + self._stale)
            pause = self._ask_again if usable else min(self._ask_again, _ASK_AGAIN_EMPTY_SECONDS)
            if self._is_within(self._asked_at, pause):
                return
            self._asked_at = self._clock.now()
            # A task of its own: it must not end with the one request that happened to start it.
            self._asking = asyncio.create_task(self._fetch())
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    def _asked(self, _: "asyncio.Task[None]") -> None:
        self._asking = None

    async def _fetch(self) -> None:
        self._failed = True  # Until it is known better, also where this is cancelled.
        try:
            body = await self._egress.get(self._url or await self._discover())
            keys = self._keys if body == self._body else read_keys(body)
        except (EgressError, KeysError) as error:
            _log.warning("the keys of %s cannot be had: %s", self._issuer, error)
            return
        if body != self._body:
            self._keys = keys
            self._body = body
            self.generation += 1
        self._fetched_at = self._clock.now()
        self._failed = False

    async def _discover(self) -> str:
        document = _object(await self._egress.get(self._issuer.removesuffix("/") + _DISCOVERY))
        # OpenID Connect Discovery 1.0 section 4.3: or one issuer could speak for another.
        if document.get("issuer") != self._issuer:
            raise KeysError("the discovery document is another issuer's")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise KeysError("the discovery document names no jwks_uri")
        if urlsplit(self._issuer).scheme == "https" and not url.lower().startswith("https:"):
            raise KeysError("the discovery document leads from https to something else")
        return url


def read_keys(body: bytes) -> tuple[PublicKey, ...]:
    """
    Read a JWK set (RFC 7517), leaving out what is not for us: other uses, other kinds, weak keys.

    Raises:
        KeysError: It is no JWK set.
    """
    try:
        listed = msgspec.convert(_object(body).get("keys"), list[dict[str, Any]])
    except msgspec.ValidationError as error:
        raise KeysError("the key set has no list of keys") from error
    keys: list[PublicKey] = []
    for entry in listed[:_KEYS_MAX]:
        try:
            keys.append(_key(entry))
        except (KeysError, JoseError, ValueError) as error:
            _log.warning("a key of the set is left out: %s", error)
    return tuple(keys)


def _key(entry: Mapping[str, Any]) -> PublicKey:
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise KeysError("it is not for signatures")
    if any(member in entry for member in _PRIVATE):
        raise KeysError("it is no public key, or no longer one: the set publishes its secret")
    kid = entry.get("kid")
    if not isinstance(kid, str | None):
        raise KeysError("its id is not text")
    match entry:
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            _check_rsa(modulus, exponent)
            fits = _RSA
            key: RSAKey | ECKey | OKPKey = RSAKey.import_key({"kty": "RSA", "n": modulus, "e": exponent})
        case {"kty": "EC", "crv": str(curve), "x": str(x), "y": str(y)} if curve in _CURVES:
            fits = _CURVES[curve]
            key = ECKey.import_key({"kty": "EC", "crv": curve, "x": x, "y": y})
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            fits = _EDWARDS
            key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
        case _:
            raise KeysError("its kind is none that signs access tokens here")
    only = entry.get("alg")
    if not isinstance(only, str | None):
        raise KeysError("its algorithm is not text")
    if only is not None:
        # Two names of one thing (RFC 9864).
        fits = fits & (_EDWARDS if only in _EDWARDS else {only})
    if not fits:
        raise KeysError("its algorithm is none that signs access tokens here, or not one of its kind")
    return PublicKey(kid, fits, key)


def _check_rsa(modulus: str, exponent: str) -> None:
    bits = int.from_bytes(_decoded(modulus)).bit_length()
    if bits not in _RSA_BITS:
        raise KeysError(f"an RSA key of {bits} bits; 2048 to 8192 are taken")
    if len(_decoded(exponent)) > _EXPONENT_BYTES_MAX:
        raise KeysError("an RSA exponent that only costs time")


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError) as error:
        raise KeysError("a number that is not base64url") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = strict_json.loads(body)
    except MalformedJsonError as error:
        raise KeysError(str(error)) from error
    if not isinstance(document, dict):
        raise KeysError("the document is no JSON object")
    return cast("dict[str, Any]", document)
