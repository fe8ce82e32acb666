"""Reads the public keys that applications upload."""

import base64
import binascii
import re
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from watchword.domain.application import ClientKey, KeyScope
from watchword.domain.instant import Instant
from watchword.jose.keys import Algorithm, UnfitKeyError, check_public_key, spki

# The base64 of an RSA key of 8192 bits has 1,430 characters.
_MATERIAL_MAX = 4096
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


class ClientKeyError(ValueError):
    """
    An uploaded key is refused.

    Attributes:
        path: The member of the body that is wrong, such as ``publicKeyMaterial.algorithm``.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def parse_client_key(
    *, key_id: str, scope: str, algorithm: str, material: str, valid_from: str, valid_till: str
) -> ClientKey:
    """
    Read what an application uploads.

    Args:
        material: Base64 of a DER SubjectPublicKeyInfo, or of the PKCS#1 form of an RSA key; kept is
            the former.
        valid_from: ``yyyy-MM-dd HH:mm:ss``, UTC; so is *valid_till*.

    Raises:
        ClientKeyError: A member is malformed, or the key does not fit its algorithm, is too weak,
            or too costly to use. Repeats nothing that was sent.
    """
    if not _UUID.fullmatch(key_id):
        raise ClientKeyError("keyId", "must be a UUID")
    if scope not in KeyScope.__members__:
        raise ClientKeyError("scope", f"must be {' or '.join(KeyScope)}")
    fitting = [each for each in Algorithm if each.scope is KeyScope(scope)]
    if algorithm not in fitting:
        raise ClientKeyError("publicKeyMaterial.algorithm", f"must be {' or '.join(fitting)} for this scope")
    starts, ends = _read_time("validFrom", valid_from), _read_time("validTill", valid_till)
    if ends <= starts:
        raise ClientKeyError("validTill", "must be after validFrom")
    return ClientKey(
        id=key_id,
        scope=KeyScope(scope),
        algorithm=algorithm,
        spki=_read_material(material, Algorithm(algorithm)),
        valid_from=starts,
        valid_till=ends,
    )


def parse_time(text: str) -> Instant:
    """
    Read ``yyyy-MM-dd HH:mm:ss``, UTC.

    Raises:
        ValueError: It is written otherwise, or there is no such moment since 1970.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("must be written yyyy-MM-dd HH:mm:ss, in UTC")
    moment = datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    if moment.year < 1970:  # noqa: PLR2004 - where an Instant begins.
        raise ValueError("must not be before 1970")
    return Instant(round(moment.timestamp()) * 1000)


def format_time(moment: Instant) -> str:
    """Write *moment* as ``yyyy-MM-dd HH:mm:ss``, UTC; what is less than a second is left out."""
    return datetime.fromtimestamp(moment // 1000, UTC).strftime(_TIME_FORMAT)


def _read_time(path: str, text: str) -> Instant:
    try:
        return parse_time(text)
    except ValueError:
        raise ClientKeyError(path, "must be written yyyy-MM-dd HH:mm:ss, in UTC, from 1970 on") from None


def _read_material(material: str, algorithm: Algorithm) -> bytes:
    path = "publicKeyMaterial.keyMaterial"
    if len(material) > _MATERIAL_MAX:
        raise ClientKeyError(path, "is longer than any key")
    try:
        key = load_der_public_key(base64.b64decode(material, validate=True))
        return spki(check_public_key(key, algorithm))
    except UnfitKeyError as error:
        raise ClientKeyError(path, str(error)) from None
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise ClientKeyError(
            path,
            "must be a public key as base64 of DER SubjectPublicKeyInfo: what stands between the lines"
            " BEGIN PUBLIC KEY and END PUBLIC KEY, in one line",
        ) from None
