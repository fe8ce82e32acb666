"""
What tests are made of: a clock that moves when told, chance that is scripted, a world in memory.

Records come complete and valid; a test names only what it is about.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.delivery.base import DeliveryError, Message
from watchword.domain.action import Action, Bind, Risk, Route, Spend
from watchword.domain.binding import Binding, bind
from watchword.domain.challenge import Challenge
from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone, Pin, PublicKey
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.method import CredentialKind, Method
from watchword.domain.token import LiveCode, OneTimeToken, Pending, State, TokenId
from watchword.domain.user import OpenToken, UserId, UserSecurity
from watchword.engine.engine import Caller, Engine, identify
from watchword.faces.base import FaceUnavailableError, FaceUnusableError
from watchword.methods.base import Verifier
from watchword.methods.keyring import Keyring
from watchword.methods.phone import enrol as enrol_phone
from watchword.methods.registry import Methods
from watchword.store.base import Store
from watchword.store.memory import MemoryStore

NOW = Instant(1_700_000_000_000)
ADA = UserId(6146956)
GRACE = UserId(6146957)
PIN = "1234"
NUMBER = "+6588888888"
FINGERPRINT = "3207da22-a0d3-4b6b-a591-6297e646fe32"
CODE = "111111"
UNKNOWN_OTT = "00000000-0000-4000-8000-000000000000"

STATEMENT = Action(
    name="BALANCE__GET_STATEMENT",
    risk=Risk.LOW,
    routes=(Route.parse("GET /v1/profiles/{p}/balance-statements/{b}/statement.json"),),
)
PAYMENT = Action(
    name="TRANSFER__FUND",
    risk=Risk.HIGH,
    routes=(Route.parse("POST /v3/profiles/{p}/transfers/{t}/payments"),),
    bind=Bind.REQUEST,
)
BATCH = Action(
    name="BATCH__FUND",
    risk=Risk.HIGH,
    routes=(Route.parse("POST /v3/profiles/{p}/batch-payments/{g}/payments"),),
    bind=Bind.REQUEST,
    spend=Spend.ON_SUCCESS,
)

READ = bind("GET", b"/v1/profiles/435036/balance-statements/7/statement.json", b"type=COMPACT")
PAY = bind("POST", b"/v3/profiles/435036/transfers/9/payments", b"")


# --- records ----------------------------------------------------------------------------------


def make_credential(kind: CredentialKind) -> Credential:
    """Make a credential of *kind*; its stored form opens nothing."""
    match kind:
        case CredentialKind.PIN:
            return Pin(id="pin", sealed=b"sealed", enrolled_at=NOW)
        case CredentialKind.PHONE:
            return Phone(id="phone", sealed=b"sealed", digest=b"digest", enrolled_at=NOW)
        case CredentialKind.DEVICE_FINGERPRINT:
            return DeviceFingerprint(id="device", sealed=b"digest", enrolled_at=NOW)
        case CredentialKind.PUBLIC_KEY:
            return PublicKey(id="key", spki=b"der", enrolled_at=NOW)
        case CredentialKind.FACE_MAP:
            return FaceMap(id="face", sealed=b"sealed", enrolled_at=NOW)


PERSONAL = tuple(kind for kind in CredentialKind if kind is not CredentialKind.PUBLIC_KEY)


def make_user(*kinds: CredentialKind, id: UserId = ADA, preferred: Method | None = None) -> UserSecurity:
    """Make a user who has enrolled *kinds*; everything a person can have where none is named."""
    return UserSecurity(
        id=id,
        version=1,
        credentials=tuple(make_credential(kind) for kind in kinds or PERSONAL),
        preferred=preferred,
    )


def make_code(method: Method = Method.SMS, *, seconds: int = 300, digest: bytes = b"code") -> LiveCode:
    """Make a live code, sent now."""
    return LiveCode(method=method, credential_id="phone", digest=digest, expires_at=after(NOW, seconds))


def make_token(
    state: State = Pending(),  # noqa: B008 - frozen.
    *,
    action: Action = PAYMENT,
    challenges: tuple[Challenge, ...] | None = None,
    binding: Binding = PAY,
    id: bytes = b"token",
    user_id: UserId = ADA,
    limits: Limits = Limits(),  # noqa: B008 - frozen.
) -> OneTimeToken:
    """Make a token issued now: by default a payment's, whose challenges fit its state."""
    if challenges is None:
        passed = not isinstance(state, Pending)
        challenges = (
            Challenge(Method.PIN, passed_by=Method.PIN if passed else None),
            Challenge(Method.SMS, (Method.WHATSAPP, Method.VOICE), passed_by=Method.SMS if passed else None),
        )
    return OneTimeToken(
        id=TokenId(id),
        user_id=user_id,
        action=action.name,
        risk=action.risk,
        bind=action.bind,
        spend_mode=action.spend,
        binding=binding,
        challenges=challenges,
        factors=2 if action.risk is Risk.HIGH else 1,
        issued_at=NOW,
        expires_at=after(NOW, limits.token_seconds),
        state=state,
    )


def make_destination(number: bytes = b"digest") -> Destination:
    """Make a number to which nothing was sent yet."""
    return Destination(id=number)


def opened(*issued: OneTimeToken) -> tuple[OpenToken, ...]:
    """List *issued* as a user's open tokens."""
    return tuple(OpenToken(token.id, token.expires_at) for token in issued)


# --- ports ------------------------------------------------------------------------------------


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: Instant = NOW) -> None:
        self.at = now

    def now(self) -> Instant:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at = after(self.at, seconds)


class ScriptedEntropy:
    """OTTs that count up, and codes as they were ordered: ``111111`` once the order is used up."""

    def __init__(self, codes: Iterable[str] = ()) -> None:
        self._codes: Iterator[str] = iter(codes)
        self._issued = 0

    def uuid(self) -> str:
        self._issued += 1
        # Above, too, for ids are drawn from the digits that come first.
        return str(UUID(int=(self._issued << 80) | self._issued, version=4))

    def code(self, digits: int) -> str:
        return next(self._codes, CODE[:digits])


class Faces:
    """
    A matcher to which a face is its bytes.

    Those that begin with ``unusable`` hold none; while it is *down* it cannot answer.
    """

    public_key = None

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.matched = 0
        self.down = False

    async def enrol(self, reference: str, face_map: bytes) -> bytes:
        self._look_at(face_map)
        template = reference.encode() + b"/" + face_map
        self.kept.append(template)
        return template

    async def match(self, template: bytes, face_map: bytes) -> bool:
        self.matched += 1
        self._look_at(face_map)
        return template.partition(b"/")[2] == face_map

    async def forget(self, template: bytes) -> None:
        self._look_at(template)
        self.kept.remove(template)

    def _look_at(self, face_map: bytes) -> None:
        if self.down:
            raise FaceUnavailableError
        if face_map.startswith(b"unusable"):
            raise FaceUnusableError


class Outbox:
    """Takes messages and keeps them; or, while it is *down*, nobody can be reached."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.down = False

    async def send(self, message: Message) -> None:
        if self.down:
            raise DeliveryError
        self.messages.append(message)


# --- methods ----------------------------------------------------------------------------------

KEYRING = Keyring({1: bytes(range(32))}, active=1)


@cache
def enrolled_pin(user_id: UserId = ADA, pin: str = PIN) -> Pin:
    """Enrol a PIN; once, for it is slow."""
    return Methods(KEYRING).pin.enrol(pin, user_id=user_id, credential_id="pin", now=NOW)


def enrolled_phone(user_id: UserId = ADA, number: str = NUMBER) -> Phone:
    """Enrol a phone number."""
    return enrol_phone(KEYRING, number, user_id=user_id, credential_id="phone", now=NOW)


def enrolled_fingerprint(
    user_id: UserId = ADA, fingerprint: str = FINGERPRINT, id: str = "device"
) -> DeviceFingerprint:
    """Enrol a device fingerprint."""
    return Methods(KEYRING).device_fingerprint.enrol(fingerprint, user_id=user_id, credential_id=id, now=NOW)


@cache
def signing_key(number: int = 0) -> rsa.RSAPrivateKey:
    """Return a program's private key; the same one for the same *number*."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(number: int = 0) -> str:
    """Return the public half of a program's key, as it would be enrolled."""
    public = signing_key(number).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signature_of(ott: str, number: int = 0) -> str:
    """Sign an OTT with a program's key."""
    return b64encode(signing_key(number).sign(ott.encode(), PKCS1v15(), SHA256())).decode()


class Watched:
    """A verifier that counts what it compares."""

    def __init__(self, inner: Verifier, method: Method, compared: Counter[Method]) -> None:
        self.slow = inner.slow
        self._inner = inner
        self._method = method
        self._compared = compared

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        self._compared[self._method] += 1
        return self._inner.verify(answer, user=user, token=token)


class WatchedMethods(Methods):
    """The real methods, with a count of their comparisons."""

    def __init__(self, keyring: Keyring = KEYRING) -> None:
        super().__init__(keyring)
        self.compared: Counter[Method] = Counter()

    def verifier(self, method: Method) -> Verifier | None:
        inner = super().verifier(method)
        return None if inner is None else Watched(inner, method, self.compared)


# --- the engine -------------------------------------------------------------------------------


@dataclass(kw_only=True)
class World:
    """An engine with all that it was given, to be moved and looked into."""

    engine: Engine
    store: Store
    clock: FixedClock
    entropy: ScriptedEntropy
    outbox: Outbox
    faces: Faces | None
    methods: WatchedMethods

    async def enrol(
        self, user_id: UserId, *credentials: Credential, preferred: Method | None = None
    ) -> Caller:
        """Give a user these credentials."""
        await self.engine.enrolment.set(user_id, credentials, preferred=preferred)
        return Caller(user_id)

    async def user(self, user_id: UserId = ADA) -> UserSecurity:
        """Return a user's stored state."""
        return await self.store.user(user_id) or UserSecurity(id=user_id)

    async def token(self, ott: str) -> OneTimeToken:
        """Return a stored token."""
        token = await self.store.token(identify(ott))
        assert token is not None
        return token

    async def event_names(self) -> list[str]:
        """Return what happened, in order."""
        return [event.name.value for _, event in await self.store.events()]


def make_world(
    *,
    store: Store | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen.
    codes: Iterable[str] = (),
    methods: WatchedMethods | None = None,
    clock: FixedClock | None = None,
    entropy: ScriptedEntropy | None = None,
    faces: Faces | None = None,
    slow_at_once: int = 2,
) -> World:
    """Make an engine over a store in memory, with nobody enrolled."""
    store = store or MemoryStore()
    clock = clock or FixedClock()
    entropy, outbox = entropy or ScriptedEntropy(codes), Outbox()
    methods = methods or WatchedMethods()
    engine = Engine(
        store=store,
        clock=clock,
        entropy=entropy,
        methods=methods,
        delivery=outbox,
        faces=faces,
        limits=limits,
        slow_at_once=slow_at_once,
    )
    return World(
        engine=engine,
        store=store,
        clock=clock,
        entropy=entropy,
        outbox=outbox,
        faces=faces,
        methods=methods,
    )
