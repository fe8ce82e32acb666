"""
Tokens in compact serialization, read in one way only.

Two readings of one token are an attack (docs/attacks.md: 106, 107, 110), so a token is taken apart
here, and no library parses it again: strict base64url, one spelling for each string of bytes, a
header that is one JSON object without a key that stands twice, and limits before all of it. What
is refused here is refused before any key is touched.
"""

import base64
import binascii
from enum import StrEnum
from typing import Any, cast

from watchword import strict_json

BODY_MAX = 64 * 1024
"""The longest token, in bytes."""
HEADER_MAX = 4 * 1024
"""The longest protected header, in bytes of JSON."""

_HEADER_SEGMENT_MAX = -(-HEADER_MAX * 4 // 3)

# What would have us decompress, derive, fetch, trust or ignore something: none has a use here, and
# each has been a hole somewhere. `crit` names what must be understood, and there is nothing of it.
_REFUSED = frozenset({"b64", "crit", "epk", "jku", "jwk", "p2c", "p2s", "x5c", "x5u", "zip"})
# What is read, here or by the caller, must be what its specification says.
_STRINGS = frozenset({"alg", "cty", "enc", "kid", "ott", "typ", "url"})


class JoseFault(StrEnum):
    """Why a token is refused; never holds a part of it."""

    TOO_LARGE = "the token or its header is too large"
    MALFORMED = "not a token of this kind in compact serialization"
    HEADER = "the header has a member that is not allowed, or one of a wrong type"
    ALGORITHM = "the algorithm is not one of those that this call takes"
    URL = "the header's url is not the path that was called"
    CONTENT_TYPE = "the header's cty does not fit what is inside"
    UNVERIFIED = "the signature cannot be verified with any key of this application"
    UNDECRYPTABLE = "the content cannot be decrypted"


class JoseError(Exception):
    """
    A token is refused.

    Attributes:
        fault: Why; for the log, and to tell 413 from 400.
        inside: What is refused is the JWS inside a JWE, which did open.
    """

    def __init__(self, fault: JoseFault, *, inside: bool = False) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.inside = inside


Header = dict[str, Any]


def split(body: bytes, count: int) -> list[bytes]:
    """
    Take *body* apart into its *count* segments.

    Raises:
        JoseError: It is too large, or has another number of them.
    """
    if len(body) > BODY_MAX:
        raise JoseError(JoseFault.TOO_LARGE)
    segments = body.split(b".", count)
    if len(segments) != count:
        raise JoseError(JoseFault.MALFORMED)
    return segments


def decode(segment: bytes) -> bytes:
    """
    Decode base64url as RFC 7515 writes it: no padding, no white space, no stray bits at the end.

    Raises:
        JoseError: It is anything else.
    """
    try:
        decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        raise JoseError(JoseFault.MALFORMED) from None
    # The decoder skips what it does not know. Only the one right spelling comes back as it was.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise JoseError(JoseFault.MALFORMED)
    return decoded


def header(segment: bytes) -> Header:
    """
    Read a protected header. Members that nobody knows are ignored, as RFC 7515 section 4 asks.

    Raises:
        JoseError: It is too large, no JSON object that means one thing only, or has a member
            that is never allowed, or one of another type than its specification says.
    """
    if len(segment) > _HEADER_SEGMENT_MAX:
        raise JoseError(JoseFault.TOO_LARGE)
    try:
        parsed = strict_json.loads(decode(segment))
    except strict_json.MalformedJsonError:
        raise JoseError(JoseFault.MALFORMED) from None
    if not isinstance(parsed, dict):
        raise JoseError(JoseFault.MALFORMED)
    members = cast("Header", parsed)
    if not _REFUSED.isdisjoint(members):
        raise JoseError(JoseFault.HEADER)
    if not all(isinstance(members[name], str) for name in _STRINGS.intersection(members)):
        raise JoseError(JoseFault.HEADER)
    if type(members.get("iat", 0)) is not int:  # Not True, which is one, nor 1.0.
        raise JoseError(JoseFault.HEADER)
    return members
