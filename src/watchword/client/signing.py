"""The signature of a personal token's owner, over the one-time token: RSA PKCS#1 v1.5 with SHA-256."""

from __future__ import annotations

import base64
from typing import Final

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError as error:  # pragma: no cover - the test environment has every extra
    message = "a signature needs cryptography: pip install 'watchword[client-jose]'"
    raise ImportError(message) from error

__all__ = ["Signer"]

KEY_BITS_MIN: Final = 2048

# A private RSA key: PEM, or loaded already.
SigningKey = str | bytes | rsa.RSAPrivateKey


class Signer:
    """Signs one-time tokens with a private key."""

    def __init__(self, key: SigningKey, *, password: bytes | None = None) -> None:
        """
        Load the key.

        Args:
            key: A private RSA key, in PEM or loaded already.
            password: Of an encrypted PEM.

        Raises:
            ValueError: It is none, is shorter than 2048 bits, or the password is missing or wrong.
        """
        loaded = key if isinstance(key, rsa.RSAPrivateKey) else _load(key, password)
        if not isinstance(loaded, rsa.RSAPrivateKey):
            raise ValueError("a one-time token is signed with an RSA key")  # noqa: TRY004 - a PEM may hold any
        if loaded.key_size < KEY_BITS_MIN:
            raise ValueError(
                f"the key must have at least {KEY_BITS_MIN} bits, this one has {loaded.key_size}"
            )
        self._key = loaded

    def __call__(self, token: str) -> str:
        """Return the value of `X-Signature` for a one-time token: base64 on one line."""
        signature = self._key.sign(token.encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode("ascii")


def _load(pem: str | bytes, password: bytes | None) -> object:
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        return serialization.load_pem_private_key(data, password)
    except TypeError:
        raise ValueError("the password of the key is missing, or there is none") from None
    except (ValueError, UnsupportedAlgorithm):
        # Without the cause: it may quote the key.
        raise ValueError("not a private key in PEM, or not its password") from None
