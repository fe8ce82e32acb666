"""
Access tokens that an issuer signed: RFC 9068, read as RFC 8725 advises.

The header of a token says what it wants to be, and anybody may have written it. It never brings a key
or the address of one (``jwk``, ``jku``, ``x5c``, ``x5u`` are not looked at), and an algorithm is taken
only where the configuration, the kind of key and the key's own entry agree on it.

Many issuers write ``typ: JWT``, or nothing, where RFC 9068 wants ``at+jwt``. Those are taken unless the
configuration says otherwise, and then everything counts that tells an access token from an ID token:
our audience, something that only access tokens say, and nothing that only other tokens do.
"""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from watchword import strict_json
from watchword.auth.claims import ClaimRules, NobodysTokenError, check_audience, check_times, refuse
from watchword.auth.keys import ALGORITHMS, IssuerKeys, PublicKey
from watchword.auth.recent import Recent, digest
from watchword.auth.refused import RefusalLog
from watchword.domain.instant import after
from watchword.engine.ports import Clock
from watchword.engine.principal import Principal
from watchword.strict_json import MalformedJsonError

TOKEN_MAX = 16 * 1024
LEEWAY_SECONDS = 30
LEEWAY_SECONDS_MAX = 300
REMEMBER_SECONDS = 60

_TYPES = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 section 4.
_LAX_TYPES = _TYPES | {"jwt", "application/jwt", ""}
_PARTS = 3
_KID_MAX = 256
_KEYS_TRIED = 4
# What an access token says and an ID token does not. Not ``azp``: OpenID Connect gives it to ID tokens.
_ACCESS_CLAIMS = ("scope", "scp", "client_id", "cid", "appid")
# What ID tokens and logout tokens say.
_OTHER_CLAIMS = ("nonce", "at_hash", "c_hash", "s_hash", "events")
# One algorithm under two names (RFC 9864): the library warns of the old one.
_VERIFIERS: Final = {
    name: JWSRegistry(algorithms=ALGORITHMS).get_alg("Ed25519" if name == "EdDSA" else name)
    for name in ALGORITHMS
}


class _Routing(msgspec.Struct):
    """What tells where a token belongs, before anything of it is believed."""

    iss: str | None = None


@dataclass(frozen=True, slots=True)
class _Parsed:
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


_ROUTING = msgspec.json.Decoder(_Routing)


class JwtTokens:
    """The access tokens of one issuer."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        keys: IssuerKeys,
        rules: ClaimRules,
        clock: Clock,
        *,
        algorithms: Collection[str] = ALGORITHMS,
        leeway: int = LEEWAY_SECONDS,
        strict_type: bool = False,
        remember: int = REMEMBER_SECONDS,
    ) -> None:
        """
        Set up.

        Args:
            audience: What tokens for us must name as their audience.
            leeway: Seconds by which the issuer's clock may differ from ours.
            strict_type: Whether to take ``typ: at+jwt`` only.
            remember: Seconds for which a verified token is not verified again; 0 for not at all. So
                long, and no longer, it outlives the key that it was signed with.

        Raises:
            ValueError: An algorithm is none that is ever taken.
        """
        if not algorithms or not set(algorithms) <= set(ALGORITHMS):
            raise ValueError(f"algorithms are some of {', '.join(ALGORITHMS)}")
        self.issuer = issuer
        self._audience = audience
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._types = _TYPES if strict_type else _LAX_TYPES
        self._remember = remember
        self._recent = Recent()
        self._generation = keys.generation
        self._log = RefusalLog(f"an access token of {issuer} is refused", clock)

    async def authenticate(self, token: str) -> Principal | None:
        """
        Return the holder of *token*.

        Raises:
            AuthenticatorUnavailableError: The issuer's keys cannot be had.
        """
        if len(token) > TOKEN_MAX or not token.isascii():
            self._log.refused("it is too long, or not of ASCII characters")
            return None
        now = self._clock.now()
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._recent.clear()
        known = digest(token)
        found = self._recent.get(known, now)
        if found is not None:
            return found[0]
        try:
            parsed = _parse(token)
            self._check_header(parsed.header)
            self._check_claims(parsed)
            expires = check_times(parsed.claims, now, self._leeway)
            if expires is None:
                refuse("it has no end")
            await self._verify(parsed)
            generation = self._keys.generation
            principal = await self._rules.principal(self.issuer, parsed.claims)
        except NobodysTokenError as error:
            self._log.refused(error)
            return None
        # Not if the keys changed meanwhile: what they vouched for may be over.
        if generation == self._generation == self._keys.generation:
            until = min(expires, after(now, self._remember))
            self._recent.put(known, principal, now=now, until=until)
        return principal

    def _check_header(self, header: Mapping[str, Any]) -> None:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            refuse("its algorithm is not taken")
        # RFC 7515 section 4.1.11: who does not understand what is critical refuses. Nothing is here.
        if "crit" in header or "b64" in header or "zip" in header:
            refuse("its header wants something critical")
        kid = header.get("kid")
        if not isinstance(kid, str | None) or len(kid or "") > _KID_MAX:
            refuse("its kid is no short text")
        said = header.get("typ", "")
        if not isinstance(said, str) or said.lower() not in self._types:
            refuse("its typ is not an access token's")

    def _check_claims(self, parsed: _Parsed) -> None:
        claims = parsed.claims
        if claims.get("iss") != self.issuer:
            refuse("its issuer is another")
        check_audience(claims, self._audience)
        if str(parsed.header.get("typ", "")).lower() not in _TYPES:
            if not any(claim in claims for claim in _ACCESS_CLAIMS):
                refuse("nothing tells it from an ID token: no scope, no client_id")
            if any(claim in claims for claim in _OTHER_CLAIMS):
                refuse("it says what only other tokens say: nonce, at_hash or events")

    async def _verify(self, parsed: _Parsed) -> None:
        kid, algorithm = parsed.header.get("kid"), str(parsed.header["alg"])
        keys = await self._keys.fitting(kid, algorithm)
        if _is_signed(parsed, algorithm, keys):
            return
        # A key that is known by its id has said no. One that is not known may be new.
        if kid is None or not keys:
            tried, keys = keys, await self._keys.fitting_now(kid, algorithm)
            if list(keys) != list(tried) and _is_signed(parsed, algorithm, keys):
                return
        refuse("its signature is not the issuer's")


def issuer_of(token: str) -> str | None:
    """Return who a JWT says has issued it, believing nothing; None where *token* is none."""
    if len(token) > TOKEN_MAX or token.count(".") != _PARTS - 1:
        return None
    payload = token.split(".")[1]
    try:
        return _ROUTING.decode(b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_")).iss
    except (Base64Error, ValueError):
        return None


def _parse(token: str) -> _Parsed:
    parts = token.split(".")
    if len(parts) != _PARTS:
        refuse("it is no JWT in compact form")
    header, claims, signature = (_decoded(part) for part in parts)
    return _Parsed(_object(header), _object(claims), token.rpartition(".")[0].encode(), signature)


def _decoded(part: str) -> bytes:
    """Decode base64url, in the one spelling that it has (RFC 7515 section 2)."""
    try:
        data = b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (Base64Error, ValueError):
        refuse("it is not base64url")
    if urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        refuse("it is base64url in another spelling")
    return data


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = strict_json.loads(text)
    except MalformedJsonError:
        refuse("it is not JSON that means one thing only")
    if not isinstance(value, dict):
        refuse("it is no JSON object")
    return cast("dict[str, Any]", value)


def _is_signed(parsed: _Parsed, algorithm: str, keys: Sequence[PublicKey]) -> bool:
    verifier = _VERIFIERS[algorithm]
    for each in keys[:_KEYS_TRIED]:
        try:
            verifier.check_key(each.key)
            if verifier.verify(parsed.signed, parsed.signature, each.key):
                return True
        except (InvalidSignature, JoseError, ValueError):
            continue
    return False
