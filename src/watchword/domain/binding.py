"""
What a one-time token is good for: one request, byte for byte.

RTS art. 5(1): the authentication code is specific to what the payer agreed to, and any change
invalidates it. Bound are the method, the raw path and query, the SHA-256 of the body, and with it
the details that the person is shown; user and action stand on the token itself. The path is also kept
to be shown; query and body are kept as digests only, for they may hold what nobody should read in a
store.
"""

from dataclasses import dataclass
from hashlib import blake2b, sha256

from watchword.domain.details import Details, digest

PATH_SHOWN_MAX = 256
NO_BODY = sha256(b"").digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The request that a token was issued for."""

    method: str
    path: str
    target: bytes
    body: bytes

    def difference(self, other: "Binding") -> str | None:
        """Name the first part in which *other* is another request; None where it is the same."""
        if self.method != other.method:
            return "method"
        if self.target != other.target:
            return "target"
        if self.body != other.body:
            return "body"
        return None


def bind(
    method: str, raw_path: bytes, query: bytes, body: bytes = NO_BODY, *, details: Details = ()
) -> Binding:
    """
    Bind a request.

    Args:
        method: The HTTP method.
        raw_path: The path as it was sent, percent-encoding and all.
        query: The query as it was sent, without the question mark.
        body: The SHA-256 of the body.
        details: What the person is shown; some of it may come from the application's own books, so that
            the same body with other details is another request.
    """
    if details:
        # Another function than any that a body is digested with, so that no body can be made to match.
        body = blake2b(body + digest(details), digest_size=32, person=b"details").digest()
    # The length keeps «/a» with query «b» apart from a path that holds the separator itself.
    target = sha256(len(raw_path).to_bytes(4, "big") + raw_path + query).digest()
    return Binding(method=method, path=raw_path[:PATH_SHOWN_MAX].decode("latin-1"), target=target, body=body)
