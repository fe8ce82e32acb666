"""Which methods there are, made once from the keys."""

from watchword.domain.method import Method
from watchword.methods.base import Verifier
from watchword.methods.details import SealedDetails
from watchword.methods.device_fingerprint import DeviceFingerprintMethod
from watchword.methods.face_map import FaceMapMethod
from watchword.methods.keyring import Keyring
from watchword.methods.phone import PhoneMethod
from watchword.methods.pin import PinMethod
from watchword.methods.signature import SignatureMethod


class Methods:
    """The methods that this server can verify, by name."""

    def __init__(self, keyring: Keyring) -> None:
        """Make every method from *keyring*."""
        self.keyring = keyring
        self.pin = PinMethod(keyring)
        self.device_fingerprint = DeviceFingerprintMethod(keyring)
        self.phone = {
            method: PhoneMethod(keyring, method) for method in (Method.SMS, Method.WHATSAPP, Method.VOICE)
        }
        self.face_map = FaceMapMethod(keyring)
        self.signature = SignatureMethod()
        self.details = SealedDetails(keyring)
        self._verifiers: dict[Method, Verifier] = {
            Method.PIN: self.pin,
            Method.PARTNER_DEVICE_FINGERPRINT: self.device_fingerprint,
            Method.SIGNATURE: self.signature,
            **self.phone,
        }

    def verifier(self, method: Method) -> Verifier | None:
        """Return who compares answers by *method*; None for FACE_MAP, which a matcher compares."""
        return self._verifiers.get(method)
