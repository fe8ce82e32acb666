"""
Our own keys: what clients encrypt to, and what our signatures are verified with.

Each algorithm has a key for each version. We sign with the newest; an older one still decrypts, and
is still published by its number, until it is taken out of the key file. So rotation is: add a
version, wait until clients have fetched it, remove the old one.

RSA keys that we make have 3072 bits: the strength of AES-128, where 2048 bits are those of 112
(NIST SP 800-57 part 1, table 2) and end with the year 2030. To decrypt costs 0.9 ms of a core
rather than 0.4 ms; a PIN that is compared afterwards costs 20 ms.
"""

import base64
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from threading import Lock

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key as generate_ec_key,
)
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key as generate_rsa_key,
)
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from watchword.domain.application import KeyScope

RSA_BITS = 3072
"""The size of the RSA keys that we make."""
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192
TRIED_MAX = 2
"""How many keys are tried, ours or a client's, where a token does not name one: the newest, and one older."""
VERSION_MAX = 2**31 - 1

# FIPS 186-5 section 5.4(e) has the lower bound; the upper one keeps a verification quick.
_EXPONENT_MIN, _EXPONENT_MAX = 65537, 2**32
# Names our keys: the same key has the same id in every process, and nobody has to store it.
_NAMESPACE = uuid.UUID("0b9df0ad-6a5c-4f0e-9f6c-6d6f2b9c0a57")


class Algorithm(StrEnum):
    """What a key is used with, as the wire writes it."""

    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    RSA_OAEP_256 = "RSA_OAEP_256"

    @property
    def scope(self) -> KeyScope:
        """What its keys are for."""
        if self is Algorithm.RSA_OAEP_256:
            return KeyScope.PAYLOAD_ENCRYPTION
        return KeyScope.PAYLOAD_SIGNING


SIGNING = frozenset(each for each in Algorithm if each.scope is KeyScope.PAYLOAD_SIGNING)

_CURVES: dict[Algorithm, type[EllipticCurve]] = {
    Algorithm.ES256: SECP256R1,
    Algorithm.ES384: SECP384R1,
    Algorithm.ES512: SECP521R1,
}
# One RSA key signs for all three; RFC 7518 section 3.5 has them differ by the hash alone.
_FAMILIES: tuple[tuple[Algorithm, ...], ...] = (
    (Algorithm.ES256,),
    (Algorithm.ES384,),
    (Algorithm.ES512,),
    (Algorithm.PS256, Algorithm.PS384, Algorithm.PS512),
    (Algorithm.RSA_OAEP_256,),
)

PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey
PublicKey = EllipticCurvePublicKey | RSAPublicKey

_BLOCK = re.compile(
    rb"^\#[ ](?P<algorithms>[A-Z0-9_]+(?:[ ][A-Z0-9_]+)*)[ ]version[ ](?P<version>[0-9]{1,10})\n"
    rb"(?P<pem>-----BEGIN[ ][A-Z ]+-----\n(?s:.*?)-----END[ ][A-Z ]+-----)[ ]*$",
    re.MULTILINE | re.VERBOSE,
)


class KeyFileError(ValueError):
    """A key file holds something that is not safe to use, or no key where there must be one; says which."""


class UnfitKeyError(ValueError):
    """A key does not fit its algorithm, or is too weak; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """
    The public half of one of our keys.

    Attributes:
        id: A UUID; the ``kid`` by which a client may name the key.
        spki: DER SubjectPublicKeyInfo.
    """

    id: str
    algorithm: Algorithm
    version: int
    spki: bytes

    @property
    def scope(self) -> KeyScope:
        """What it is for."""
        return self.algorithm.scope

    @property
    def material(self) -> str:
        """The key as the wire writes it: base64 of the DER."""
        return base64.b64encode(self.spki).decode()


def check_public_key(key: PublicKeyTypes, algorithm: Algorithm) -> PublicKey:
    """
    Return *key*, which is fit for *algorithm*.

    Raises:
        UnfitKeyError: It is of another kind, on another curve, too weak, or too costly to use.
    """
    curve = _CURVES.get(algorithm)
    if curve is not None:
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, curve):
            raise UnfitKeyError(f"{algorithm} takes a key on the curve {curve.name}")
        return key
    if not isinstance(key, RSAPublicKey):
        raise UnfitKeyError(f"{algorithm} takes an RSA key")
    if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise UnfitKeyError(f"an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, this one {key.key_size}")
    numbers = key.public_numbers()
    if not _EXPONENT_MIN <= numbers.e < _EXPONENT_MAX or not numbers.n % 2:
        raise UnfitKeyError("the RSA key's exponent or modulus is none that anybody should use")
    return key


def spki(key: PublicKey) -> bytes:
    """Write *key* as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class _Pair:
    """One private key, which may be made only when it is first asked for."""

    def __init__(
        self, algorithms: tuple[Algorithm, ...], version: int, make: Callable[[], PrivateKey]
    ) -> None:
        self.algorithms = algorithms
        self.version = version
        self._make = make
        self._made: PrivateKey | None = None
        self._ids: dict[Algorithm, str] = {}
        self._making = Lock()

    def private(self) -> PrivateKey:
        # Two threads that ask at once must be given one key.
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def spki(self) -> bytes:
        return spki(self.private().public_key())

    def id(self, algorithm: Algorithm) -> str:
        # Not over the name and the key's bytes alone where one key serves three: each has its own.
        known = self._ids.get(algorithm)
        if known is None:
            known = str(uuid.uuid5(_NAMESPACE, f"{algorithm} {self.spki().hex()}"))
            self._ids[algorithm] = known
        return known


class ServerKeys:
    """Our private keys, by algorithm and version. Shows none of them."""

    def __init__(self, pairs: Iterable[_Pair]) -> None:
        """Take what ``generate`` or ``from_pem`` made."""
        self._pairs: dict[Algorithm, list[_Pair]] = {algorithm: [] for algorithm in Algorithm}
        for pair in sorted(pairs, key=lambda each: -each.version):
            for algorithm in pair.algorithms:
                self._pairs[algorithm].append(pair)

    @classmethod
    def generate(cls, *, rsa_bits: int = RSA_BITS) -> "ServerKeys":
        """
        Start with fresh keys, version 1 of each; they are made when they are first asked for.

        An RSA key takes a good part of a second, so that whoever must start quickly lets a thread
        call ``warm``: the interpreter's lock is free meanwhile.

        Raises:
            ValueError: *rsa_bits* are too few or too many.
        """
        if not RSA_BITS_MIN <= rsa_bits <= RSA_BITS_MAX:
            raise ValueError(f"an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
        return cls(_Pair(family, 1, partial(_generate, family[0], rsa_bits)) for family in _FAMILIES)

    @classmethod
    def from_pem(cls, text: bytes) -> "ServerKeys":
        """
        Read a key file: what ``to_pem`` writes.

        Each private key stands in PEM below a line that says what it is for and its version, such
        as ``# ES512 version 2`` or ``# PS256 PS384 PS512 version 1``; ``openssl genpkey`` makes more.

        Raises:
            KeyFileError: A key is too weak, of the wrong kind, encrypted, or there twice; a line is
                missing, or an algorithm without any key. Names the line, never the key.
        """
        text = text.replace(b"\r\n", b"\n")
        blocks = list(_BLOCK.finditer(text))
        if len(blocks) != text.count(b"-----BEGIN"):
            raise KeyFileError("each key needs a line above it such as: # ES512 version 1")
        pairs = [_read(*block.group("algorithms", "version", "pem")) for block in blocks]
        versions = [(algorithm, pair.version) for pair in pairs for algorithm in pair.algorithms]
        for algorithm, version in versions:
            if versions.count((algorithm, version)) > 1:
                raise KeyFileError(f"{algorithm} version {version} stands there twice")
        if len({pair.spki() for pair in pairs}) < len(pairs):
            raise KeyFileError("one key stands there twice: each use and each version needs its own")
        missing = [algorithm for algorithm in Algorithm if algorithm not in dict(versions)]
        if missing:
            raise KeyFileError(f"no key for {', '.join(missing)}")
        return cls(pairs)

    def to_pem(self) -> bytes:
        """Write all private keys, for a file that only its owner may read."""
        return b"\n".join(
            b"# %s version %d\n%s"
            % (
                " ".join(pair.algorithms).encode(),
                pair.version,
                pair.private().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            )
            for pair in self._each()
        )

    def rotated(self, algorithm: Algorithm, *, rsa_bits: int = RSA_BITS) -> "ServerKeys":
        """Return the keys with a fresh one for *algorithm* (for all three of PS256, PS384 and PS512)."""
        newest = self._pairs[algorithm][0]
        make = partial(_generate, algorithm, rsa_bits)
        return ServerKeys([*self._each(), _Pair(newest.algorithms, newest.version + 1, make)])

    def warm(self) -> None:
        """Make what is not made yet."""
        for pair in self._each():
            pair.private()

    def published(
        self, algorithm: Algorithm, scope: KeyScope, version: int | None = None
    ) -> PublishedKey | None:
        """
        Look up the public half of a key.

        Args:
            version: The newest, if None.

        Returns:
            None if there is no such version, or the algorithm is not for *scope*.
        """
        if algorithm.scope is not scope:
            return None
        for pair in self._pairs[algorithm]:
            if version in {None, pair.version}:
                return PublishedKey(
                    id=pair.id(algorithm), algorithm=algorithm, version=pair.version, spki=pair.spki()
                )
        return None

    def signing_key(self, algorithm: Algorithm) -> tuple[int, PrivateKey]:
        """Return the version and the private key of the newest key for *algorithm*."""
        newest = self._pairs[algorithm][0]
        return newest.version, newest.private()

    def decryption_keys(self, kid: str | None) -> Sequence[RSAPrivateKey]:
        """
        Return the keys to try: the one that *kid* names, else the newest and one older.

        How many there are depends on nothing but *kid* and on how many versions we have.
        """
        pairs = self._pairs[Algorithm.RSA_OAEP_256]
        named = [pair for pair in pairs if pair.id(Algorithm.RSA_OAEP_256) == kid]
        privates = [pair.private() for pair in named or pairs[:TRIED_MAX]]
        return [private for private in privates if isinstance(private, RSAPrivateKey)]

    def _each(self) -> list[_Pair]:
        return [pair for family in _FAMILIES for pair in reversed(self._pairs[family[0]])]

    def __repr__(self) -> str:
        """Name the versions, never the keys."""
        held = (f"{'/'.join(pair.algorithms)} {pair.version}" for pair in self._each())
        return f"ServerKeys({', '.join(held)})"


def _generate(algorithm: Algorithm, rsa_bits: int) -> PrivateKey:
    curve = _CURVES.get(algorithm)
    return generate_rsa_key(_EXPONENT_MIN, rsa_bits) if curve is None else generate_ec_key(curve())


def _read(algorithms: bytes, version: bytes, pem: bytes) -> _Pair:
    title = f"{algorithms.decode()} version {version.decode()}"
    family = tuple(algorithms.decode().split())
    known = next((each for each in _FAMILIES if tuple(each) == family), None)
    if known is None or not 1 <= int(version) <= VERSION_MAX:
        raise KeyFileError(f"«{title}» is no use of a key that we know")
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise KeyFileError(f"{title}: the key is encrypted; it must stand there without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{title}: no private key in PEM") from None
    if not isinstance(private, EllipticCurvePrivateKey | RSAPrivateKey):
        raise KeyFileError(f"{title}: neither an RSA key nor one on an elliptic curve")
    try:
        check_public_key(private.public_key(), known[0])
    except UnfitKeyError as error:
        raise KeyFileError(f"{title}: {error}") from None
    return _Pair(known, int(version), lambda: private)
