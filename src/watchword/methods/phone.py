"""
Phone codes over SMS, WhatsApp and voice: something the user has.

Six digits from uniform randomness, good for one token, one channel and one number. Stored is a
keyed digest over all of these: a slow hash would not help a million codes, and a digest that
names its place cannot be moved (NIST SP 800-63B-4 section 3.1.3, attacks 178 and 179).
"""

from dataclasses import replace

from watchword.domain.credential import Phone
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import LiveCode, OneTimeToken, Pending
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.base import Started, row
from watchword.methods.keyring import Keyring, Purpose

CODE_DIGITS = 6
_MASK = "*" * 9
_DIGITS_SHOWN = 4


class PhoneMethod:
    """Enrols numbers, starts and compares codes over one channel."""

    slow = False

    def __init__(self, keyring: Keyring, method: Method) -> None:
        """Take the keys and the channel."""
        self._keyring = keyring
        self._method = method

    def start(
        self, digits: str, *, user: UserSecurity, token: OneTimeToken, limits: Limits, now: Instant
    ) -> Started:
        """
        Prepare *digits* for sending to the user's number.

        Raises:
            LookupError: The user has no number; the policy offers no code to such a user.
        """
        phone = self.phone(user)
        code = LiveCode(
            method=self._method,
            credential_id=phone.id,
            digest=self._digest(digits, user=user, token=token, phone=phone),
            expires_at=after(now, limits.code_seconds),
        )
        return Started(code=code, digits=digits, to=self.number(user.id, phone))

    def verify(self, answer: str, *, user: UserSecurity, token: OneTimeToken) -> bool:
        """Compare *answer* with the token's live code."""
        if not isinstance(token.state, Pending) or token.state.code is None:
            return False
        code = token.state.code
        phone = next(
            (
                entry
                for entry in user.credentials
                if isinstance(entry, Phone) and entry.id == code.credential_id
            ),
            None,
        )
        if phone is None or phone.disabled:
            return False
        return self._keyring.matches(
            Purpose.CODE, code.digest, *self._fields(answer, user=user, token=token, phone=phone)
        )

    def number(self, user_id: UserId, phone: Phone) -> str:
        """Decrypt a number."""
        return number(self._keyring, phone, user_id=user_id)

    @staticmethod
    def phone(user: UserSecurity) -> Phone:
        """
        Find the number to send to.

        Raises:
            LookupError: The user has none.
        """
        for phone in user.phones():
            return phone
        message = "the user has no phone number"
        raise LookupError(message)

    def _digest(self, digits: str, *, user: UserSecurity, token: OneTimeToken, phone: Phone) -> bytes:
        return self._keyring.digest(Purpose.CODE, *self._fields(digits, user=user, token=token, phone=phone))

    def _fields(
        self, digits: str, *, user: UserSecurity, token: OneTimeToken, phone: Phone
    ) -> tuple[bytes, ...]:
        return (
            str(user.id).encode(),
            token.id,
            self._method.value.encode(),
            # Not its digest, which a change of keys makes anew while a code is on its way.
            self.number(user.id, phone).encode(),
            digits.encode(),
        )


def number(keyring: Keyring, phone: Phone, *, user_id: UserId) -> str:
    """
    Decrypt a number.

    Raises:
        KeyMissingError, Tampered: It cannot be read.
    """
    return keyring.open(Purpose.PHONE, phone.sealed, bound_to=row(user_id, phone.id)).decode()


def enrol(keyring: Keyring, number: str, *, user_id: UserId, credential_id: str, now: Instant) -> Phone:
    """Make the stored form of a phone number."""
    return Phone(
        id=credential_id,
        sealed=keyring.seal(Purpose.PHONE, number.encode(), bound_to=row(user_id, credential_id)),
        digest=keyring.digest(Purpose.PHONE_DIGEST, number.encode()),
        enrolled_at=now,
    )


def renewed(keyring: Keyring, phone: Phone, *, user_id: UserId) -> Phone:
    """
    Seal and digest a number anew under the active key.

    Raises:
        KeyMissingError, Tampered: It cannot be read.
    """
    plain = number(keyring, phone, user_id=user_id)
    made = enrol(keyring, plain, user_id=user_id, credential_id=phone.id, now=phone.enrolled_at)
    return replace(made, disabled=phone.disabled)


def obfuscated(number: str) -> str:
    """Show the last four digits behind a mask of fixed length, so that its length tells nothing."""
    return _MASK + number[-_DIGITS_SHOWN:]
