"""
What a user has enrolled, sealed anew under the active key, without the user.

Public keys are no secret, and stay as they are. What lives no longer than a token (codes, what is
approved, bindings, forms of the page) is never sealed anew: its key stays in the ring until it is over.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone, Pin, PublicKey
from watchword.domain.token import OneTimeToken, Pending
from watchword.domain.user import UserId, UserSecurity
from watchword.methods import phone
from watchword.methods.base import row
from watchword.methods.keyring import KeyMissingError, Purpose, Tampered
from watchword.methods.registry import Methods

_PLAIN_DIGEST_BYTES = 32


def renewed(user: UserSecurity, methods: Methods) -> tuple[tuple[Credential, ...], bool]:
    """Return what a user has enrolled under the active key, and whether some of it could not be read."""
    credentials: list[Credential] = []
    unreadable = False
    for each in user.credentials:
        try:
            if isinstance(each, PublicKey) or is_current(each, methods):
                credentials.append(each)
            else:
                credentials.append(_renewed(each, user.id, methods))
        except (KeyMissingError, Tampered):
            credentials.append(each)
            unreadable = True
    return tuple(credentials), unreadable


def is_current(credential: Credential, methods: Methods) -> bool:
    """Tell whether a credential needs no other key than the active one."""
    return all(methods.keyring.is_current(value) for value in _sealed_of(credential))


def token_is_current(token: OneTimeToken, methods: Methods) -> bool:
    """Tell whether a token needs no other key than the active one."""
    return all(methods.keyring.is_current(value) for value in _sealed_of_token(token))


def _sealed_of(credential: Credential) -> tuple[bytes, ...]:
    match credential:
        case Pin(sealed=sealed) | FaceMap(sealed=sealed) | DeviceFingerprint(sealed=sealed):
            return (sealed,)
        case Phone(sealed=sealed, digest=digest):
            return (sealed, digest)
        case PublicKey():
            return ()
        case _:
            assert_never(credential)


def _sealed_of_token(token: OneTimeToken) -> Iterator[bytes]:
    if token.details:
        yield token.details
    if isinstance(token.state, Pending) and token.state.code is not None:
        yield token.state.code.digest
    # A binding is keyed where the body is a credential; other bodies have a digest without a number.
    if len(token.binding.body) > _PLAIN_DIGEST_BYTES:
        yield token.binding.body


def _renewed(
    credential: Pin | FaceMap | DeviceFingerprint | Phone, user_id: UserId, methods: Methods
) -> Credential:
    keyring, bound_to = methods.keyring, row(user_id, credential.id)
    match credential:
        case Pin():
            return replace(
                credential, sealed=keyring.reseal(Purpose.PIN, credential.sealed, bound_to=bound_to)
            )
        case FaceMap():
            sealed = keyring.reseal(Purpose.FACE_MAP, credential.sealed, bound_to=bound_to)
            return replace(credential, sealed=sealed)
        case DeviceFingerprint():
            return methods.device_fingerprint.renewed(credential, user_id=user_id)
        case Phone():
            return phone.renewed(keyring, credential, user_id=user_id)
        case _:
            assert_never(credential)
