"""
The people of the sandbox: who holds which access token, and what he has enrolled.

Four are there from the start; more are made over the control API. What is enrolled goes through
the engine, as it does anywhere else: changing it voids open tokens, and ends no lock.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Annotated, Literal

from msgspec import Meta, Struct

from watchword.domain.credential import Credential, PublicKey
from watchword.domain.user import UserId
from watchword.engine.engine import Engine
from watchword.engine.ports import SystemEntropy
from watchword.engine.principal import Principal, PrincipalKind
from watchword.methods import phone
from watchword.methods.signature import UnfitKeyError
from watchword.sandbox.ledger import Bearer, Ledger

_FIRST_USER_ID = 7_000_001
_FIRST_PROFILE_ID = 700_001

_ID_MAX = 2**53 - 1
"""Beyond it two numbers are one to whoever reads JSON's as doubles (RFC 8259 section 6)."""

Id = Annotated[int, Meta(ge=1, le=_ID_MAX)]
Token = Annotated[str, Meta(pattern=r"\A[!-~]{1,512}\Z")]
PinDigits = Annotated[str, Meta(pattern=r"\A[0-9]{4}\Z")]
PhoneNumber = Annotated[str, Meta(pattern=r"\A\+[1-9][0-9]{6,14}\Z")]
Fingerprint = Annotated[str, Meta(min_length=1, max_length=1024)]
Pem = Annotated[str, Meta(max_length=16 * 1024)]


class NewUser(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """
    A user to be made, or to be put in the place of the one who has that id or that token.

    Attributes:
        token: The access token that will stand for the user.
        user_id: By default that of the token's holder, or a new one.
        profile_ids: By default those that the user has, or one new one.
        kind: By default ``personal`` for a user with public keys and nothing else.
    """

    token: Token
    user_id: Id | None = None
    profile_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=50)] | None = None
    pin: PinDigits | None = None
    phone_number: PhoneNumber | None = None
    device_fingerprints: Annotated[tuple[Fingerprint, ...], Meta(max_length=3)] = ()
    public_keys: Annotated[tuple[Pem, ...], Meta(max_length=5)] = ()
    kind: Literal["user", "personal"] | None = None

    def __repr__(self) -> str:
        """Hide everything that is secret, which is nearly everything."""
        return f"NewUser(user_id={self.user_id})"


class UnfitError(ValueError):
    """What was asked for cannot be made; says why, and which member is at fault."""

    def __init__(self, message: str, member: str) -> None:
        super().__init__(message)
        self.member = member


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A user as he was made."""

    user_id: UserId
    profile_ids: tuple[int, ...]
    kind: PrincipalKind
    credentials: tuple[Credential, ...]


# The public half of the key with which the public API's documentation shows its signature (protocol
# section 7): anybody can check a signature against it, nobody can make one without the private half.
PUBLISHED_KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA3qfjPkhbTPKJQqLm+KfH
P14wJ2U318Rh/4TV8xLi605xFW7rApzXzLLxBb7zSkBc9wFIEH7wU7/BaFivg440
R7ktYR07/QXZi+i0grKbfhEBW1nUjkI2eZxT3vE4VIK7Yt2jr84JiCYmjL2b/w1D
atXZM9Xoa3j9YHda5cKLOfCCIeTsI3beYI9UmSnidYaXpX7q4gfHME+A/1F/19L8
jFvX+c7MXapdCdY/NUHXBCJFfBzgOBlXbPKhdjtEnx+Hg5Sq/Frsld6dKwF1CDMO
96YoeXBdi58JkLL/CLyy1i7UcXTbSRy0Gbd3NWSAamWdpJDDg51UR6yRJdXjtnhp
dQIDAQAB
-----END PUBLIC KEY-----
"""

ADA = NewUser(
    token="demo-ada",
    user_id=6146956,
    profile_ids=(435036,),
    pin="1234",
    phone_number="+6588888888",
    device_fingerprints=("3207da22-a0d3-4b6b-a591-6297e646fe32",),
)
GRACE = NewUser(token="demo-grace", user_id=6146957, profile_ids=(435037,), phone_number="+447700900123")
SIGNER = NewUser(token="demo-signer", user_id=6146958, profile_ids=(435038,), public_keys=(PUBLISHED_KEY,))
DEMO = (ADA, GRACE, SIGNER)
DEMO_APPLICATION = "demo-application"


class People:
    """Everybody who may call; an ``Authenticator``. Access tokens are kept as digests only."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        """
        Start with nobody.

        Args:
            engine: Keeps what is enrolled.
            ledger: Keeps who holds which token.
        """
        self._engine = engine
        self._ledger = ledger
        self._entropy = SystemEntropy()
        self._profiles: dict[UserId, tuple[int, ...]] = {}
        self._bearers: dict[bytes, Bearer] = {}
        self._principals: dict[bytes, Principal] = {}
        self._making = asyncio.Lock()

    async def start(self) -> None:
        """Let in whom the ledger knows; the demo people if it knows nobody."""
        self._profiles = self._ledger.users()
        for bearer in self._ledger.bearers():
            self._admit(bearer)
        application = Bearer(_digest(DEMO_APPLICATION), PrincipalKind.APPLICATION, None)
        if application.digest in self._bearers:
            return
        for new in DEMO:
            await self.make(new)
        # Last, so that a first start which was cut short begins anew.
        self._ledger.save_bearer(application)
        self._admit(application)

    async def authenticate(self, token: str) -> Principal | None:
        """Return the holder of *token*."""
        return self._principals.get(_digest(token))

    def profiles(self) -> Mapping[UserId, tuple[int, ...]]:
        """Return every user's profiles, the users of longest standing first."""
        return self._profiles

    async def make(self, new: NewUser) -> Made:
        """
        Make a user, or replace what he has.

        Other tokens of the same user stay good, as his failures and his lock stay.

        Raises:
            UnfitError: It cannot be made; nothing was changed.
            StoreUnavailableError, StoreContendedError, BusyError: It was not made.
        """
        _refuse_repeats("profileIds", new.profile_ids or ())
        _refuse_repeats("deviceFingerprints", new.device_fingerprints)
        keys = self._keys(new.public_keys)
        _refuse_repeats("publicKeys", [key.spki for key in keys])
        digest = _digest(new.token)
        async with self._making:
            user_id = self._user_id(new, digest)
            profile_ids = new.profile_ids or self._profiles.get(user_id) or (self._free_profile(),)
            credentials = await self._credentials(new, user_id, keys)
            await self._engine.enrolment.set(user_id, credentials)
            bearer = Bearer(digest, _kind(new), user_id)
            self._ledger.save_user(user_id, profile_ids, bearer)
            self._profiles[user_id] = profile_ids
            self._admit(bearer)
            for other in [other for other in self._bearers.values() if other.user_id == user_id]:
                self._admit(other)  # His profiles may be others now.
        return Made(user_id=user_id, profile_ids=profile_ids, kind=bearer.kind, credentials=credentials)

    def _user_id(self, new: NewUser, digest: bytes) -> UserId:
        if new.user_id is not None:
            return UserId(new.user_id)
        holder = self._bearers.get(digest)
        if holder is not None and holder.user_id is not None:
            return holder.user_id
        return UserId(_next_id(_FIRST_USER_ID, self._profiles))

    def _free_profile(self) -> int:
        taken = {profile for profiles in self._profiles.values() for profile in profiles}
        return _next_id(_FIRST_PROFILE_ID, taken)

    def _keys(self, pems: Sequence[str]) -> list[PublicKey]:
        enrol, now = self._engine.methods.signature.enrol, self._engine.clock.now()
        try:
            return [enrol(pem, credential_id=self._entropy.uuid(), now=now) for pem in pems]
        except UnfitKeyError as error:
            raise UnfitError(str(error), "publicKeys") from error

    async def _credentials(
        self, new: NewUser, user_id: UserId, keys: Sequence[PublicKey]
    ) -> tuple[Credential, ...]:
        methods, now = self._engine.methods, self._engine.clock.now()
        credentials: list[Credential] = []
        if new.pin is not None:
            credentials.append(await self._engine.enrolment.make_pin(user_id, new.pin))
        if new.phone_number is not None:
            credentials.append(
                phone.enrol(
                    methods.keyring,
                    new.phone_number,
                    user_id=user_id,
                    credential_id=self._engine.enrolment.number_id(),
                    now=now,
                )
            )
        credentials += (
            methods.device_fingerprint.enrol(
                fingerprint, user_id=user_id, credential_id=self._entropy.uuid(), now=now
            )
            for fingerprint in new.device_fingerprints
        )
        return (*credentials, *keys)

    def _admit(self, bearer: Bearer) -> None:
        self._bearers[bearer.digest] = bearer
        profiles = () if bearer.user_id is None else self._profiles.get(bearer.user_id, ())
        self._principals[bearer.digest] = Principal(
            kind=bearer.kind,
            user_id=bearer.user_id,
            profile_ids=frozenset(profiles),
            application=DEMO_APPLICATION,
        )


def _next_id(first: int, taken: Collection[int]) -> int:
    """Return the number after the highest that is taken; the first free one if that was the last."""
    following = max((first - 1, *taken)) + 1
    return following if following <= _ID_MAX else next(free for free in count(first) if free not in taken)


def _kind(new: NewUser) -> PrincipalKind:
    if new.kind is not None:
        return PrincipalKind(new.kind)
    nothing_else = new.pin is None and new.phone_number is None and not new.device_fingerprints
    return PrincipalKind.PERSONAL if new.public_keys and nothing_else else PrincipalKind.USER


def _refuse_repeats(member: str, values: Sequence[object]) -> None:
    if len(set(values)) < len(values):
        raise UnfitError("An entry stands twice.", member)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
