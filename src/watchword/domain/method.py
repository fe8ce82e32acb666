"""
Method, factor and credential: three words that are never mixed.

A *method* is how a challenge is passed (a code over SMS). A *factor* is the kind of proof it
gives (possession). A *credential kind* is what must be enrolled for it (a phone number). Codes
over SMS, WhatsApp and voice to one number are three methods of one factor and one credential:
passing two of them proves no more than passing one (RTS art. 9, independence of the elements).
"""

from enum import StrEnum


class Factor(StrEnum):
    """The kind of proof (RTS art. 6, 7 and 8)."""

    KNOWLEDGE = "knowledge"
    POSSESSION = "possession"
    INHERENCE = "inherence"


class CredentialKind(StrEnum):
    """What a user enrols."""

    PIN = "pin"
    PHONE = "phone"
    DEVICE_FINGERPRINT = "device-fingerprint"
    FACE_MAP = "face-map"
    PUBLIC_KEY = "public-key"


class Method(StrEnum):
    """How a challenge is passed; the values are the ``type`` of the wire."""

    PIN = "PIN"
    SMS = "SMS"
    WHATSAPP = "WHATSAPP"
    VOICE = "VOICE"
    PARTNER_DEVICE_FINGERPRINT = "PARTNER_DEVICE_FINGERPRINT"
    FACE_MAP = "FACE_MAP"
    SIGNATURE = "SIGNATURE"

    @property
    def factor(self) -> Factor:
        """The kind of proof that passing it gives."""
        return _FACTORS[self]

    @property
    def credential(self) -> CredentialKind:
        """What must be enrolled to pass it."""
        return _CREDENTIALS[self]

    @property
    def is_code(self) -> bool:
        """Whether a code is sent to a phone, so that it must be triggered first."""
        return _CREDENTIALS[self] is CredentialKind.PHONE


_FACTORS = {
    Method.PIN: Factor.KNOWLEDGE,
    Method.SMS: Factor.POSSESSION,
    Method.WHATSAPP: Factor.POSSESSION,
    Method.VOICE: Factor.POSSESSION,
    Method.PARTNER_DEVICE_FINGERPRINT: Factor.POSSESSION,
    Method.FACE_MAP: Factor.INHERENCE,
    Method.SIGNATURE: Factor.POSSESSION,
}

_CREDENTIALS = {
    Method.PIN: CredentialKind.PIN,
    Method.SMS: CredentialKind.PHONE,
    Method.WHATSAPP: CredentialKind.PHONE,
    Method.VOICE: CredentialKind.PHONE,
    Method.PARTNER_DEVICE_FINGERPRINT: CredentialKind.DEVICE_FINGERPRINT,
    Method.FACE_MAP: CredentialKind.FACE_MAP,
    Method.SIGNATURE: CredentialKind.PUBLIC_KEY,
}

PERSONAL_METHODS = tuple(method for method in Method if method is not Method.SIGNATURE)
"""
What a person can pass, in the order in which they are offered when nothing is preferred.

``SIGNATURE`` is apart: it belongs to personal tokens, where a program signs (``policy``).
"""
