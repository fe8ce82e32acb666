"""
Credentials: one enrolled proof of a user each.

Records hold only sealed or digested forms: how they are made is the affair of ``methods``.
A credential that is ``disabled`` stays on record, for the audit, and counts as not enrolled.
"""

from dataclasses import dataclass

from watchword.domain.instant import Instant
from watchword.domain.method import CredentialKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A PIN: its Argon2id output, encrypted."""

    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A phone number: encrypted, to send to; digested, to count sends and to bind codes to it."""

    id: str
    sealed: bytes
    digest: bytes
    enrolled_at: Instant
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFingerprint:
    """A device fingerprint: digested, and the digest encrypted."""

    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The public half of a signing key, as DER SubjectPublicKeyInfo."""

    id: str
    spki: bytes
    enrolled_at: Instant
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceMap:
    """A face: the template that the matcher gave for it, encrypted."""

    id: str
    sealed: bytes
    enrolled_at: Instant
    disabled: bool = False


Credential = Pin | Phone | DeviceFingerprint | PublicKey | FaceMap

KINDS: dict[type[Credential], CredentialKind] = {
    Pin: CredentialKind.PIN,
    Phone: CredentialKind.PHONE,
    DeviceFingerprint: CredentialKind.DEVICE_FINGERPRINT,
    PublicKey: CredentialKind.PUBLIC_KEY,
    FaceMap: CredentialKind.FACE_MAP,
}
