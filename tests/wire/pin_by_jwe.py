"""
A client of the protocol with nothing but Python and `cryptography`.

    python pin_by_jwe.py ORIGIN USER_TOKEN APPLICATION_TOKEN PROFILE PIN

enrols a PIN, asks for a statement, answers the PIN challenge, and prints the statement. The PIN
travels encrypted both times (RSA-OAEP-256, A256GCM), and the answer comes back encrypted under the
request's own content key (`dir`).
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key

origin, user, application, profile, pin = sys.argv[1:]
JOSE = {"Content-Type": "application/jose+json", "Accept": "application/jose+json", "X-TW-JOSE-Method": "jwe"}


def call(
    method: str, path: str, token: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, Message, bytes]:
    """Make a request; return status, headers and body, whatever the status."""
    # Whoever runs this says where to.
    request = urllib.request.Request(origin + path, data=body, method=method)  # noqa: S310
    for name, value in {"Authorization": f"Bearer {token}", **(headers or {})}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def b64(data: bytes) -> bytes:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unb64(text: bytes) -> bytes:
    """Read base64url without padding."""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def encrypt(key: RSAPublicKey, content_key: bytes, message: object) -> bytes:
    """Encrypt a JSON message: a JWE in compact serialization (RFC 7516)."""
    header = b64(b'{"enc":"A256GCM","alg":"RSA-OAEP-256"}')
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    iv = os.urandom(12)
    sealed = AESGCM(content_key).encrypt(iv, json.dumps(message).encode(), header)
    return b".".join([header, *map(b64, (key.encrypt(content_key, oaep), iv, sealed[:-16], sealed[-16:]))])


def decrypt(content_key: bytes, token: bytes) -> Any:
    """Decrypt an answer under the content key of its request."""
    header, nothing, iv, ciphertext, tag = token.split(b".")
    assert json.loads(unb64(header)) == {"enc": "A256GCM", "alg": "dir"}
    assert nothing == b""
    return json.loads(AESGCM(content_key).decrypt(unb64(iv), unb64(ciphertext) + unb64(tag), header))


# 1. The key to encrypt to.
status, _, body = call(
    "GET",
    "/v1/auth/jose/response/public-keys?algorithm=RSA_OAEP_256&scope=PAYLOAD_ENCRYPTION",
    application,
)
assert status == 200, body
key = load_der_public_key(base64.b64decode(json.loads(body)["keyMaterial"]["keyMaterial"]))
assert isinstance(key, RSAPublicKey)

# 2. Enrol the PIN.
status, _, body = call(
    "POST", f"/v2/profiles/{profile}/pin", user, JOSE, encrypt(key, os.urandom(32), {"pin": pin})
)
assert (status, body) == (200, b""), (status, body)

# 3. The protected call: refused, with an OTT.
statement = f"/v1/profiles/{profile}/balance-statements/200001/statement.json"
status, headers, body = call("GET", statement, user)
assert (status, headers["x-2fa-approval-result"]) == (403, "REJECTED"), status
ott = headers["x-2fa-approval"]

# 4. Answer its PIN challenge, and read the encrypted answer: nothing is left to pass.
content_key = os.urandom(32)
status, headers, body = call(
    "POST",
    "/v1/one-time-token/pin/verify",
    user,
    {**JOSE, "One-Time-Token": ott},
    encrypt(key, content_key, {"pin": pin}),
)
assert (status, headers["content-type"]) == (200, "application/jose+json"), (status, body)
token = decrypt(content_key, body)["oneTimeTokenProperties"]
assert (token["oneTimeToken"], token["challenges"]) == (ott, []), token

# 5. The protected call once more.
status, headers, body = call("GET", statement, user, {"x-2fa-approval": ott})
assert (status, headers["x-2fa-approval-result"]) == (200, "APPROVED"), status
sys.stdout.buffer.write(body + b"\n")
