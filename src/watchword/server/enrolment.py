"""
The operations of enrolment: what a user can prove from now on.

A user changes what is his own, under his own access token, and may be asked to confirm it first. An
application changes it for its users, under its own, where it may manage users at all.
"""

import re
from hashlib import sha256

import phonenumbers

from watchword import problems, wire
from watchword.domain.credential import Credential, DeviceFingerprint, Phone, PublicKey
from watchword.domain.decision import Refusal
from watchword.domain.method import CredentialKind
from watchword.domain.user import UserId
from watchword.engine.engine import Engine
from watchword.faces.base import FaceUnavailableError, FaceUnusableError
from watchword.methods.pin import is_trivial
from watchword.methods.signature import UnfitKeyError
from watchword.problems import Problem
from watchword.server import shapes
from watchword.server.body import BadRequestError
from watchword.server.endpoint import Answer, By, Call, Handler, Jose, Operation, StepUp
from watchword.server.one_time_tokens import FACE_MAP_MAX
from watchword.server.settings import Settings

FINGERPRINT_MAX = 1024
"""Characters of a device fingerprint."""

_PROFILE = ("/v2/profiles/{profileId}", "/{version:calendar}/profiles/{profileId}")
_PHONES = (
    "/v1/application/users/{userId}/phone-numbers",
    "/{version:calendar}/application/users/{userId}/phone-numbers",
)
_KEYS = ("/v1/application/users/{userId}/public-keys",)
_NUMBER = re.compile(r"\+[0-9 ().-]{4,31}")
_IDS = {
    CredentialKind.DEVICE_FINGERPRINT: "deviceFingerprintId",
    CredentialKind.PHONE: "phoneNumberId",
    CredentialKind.PUBLIC_KEY: "publicKeyId",
}
_CREATES = (400, 408, 409, 413, 415, 429)


class Enrolments:
    """The operations that change or list credentials, over one engine."""

    def __init__(self, engine: Engine, settings: Settings, step_up: StepUp) -> None:
        """
        Take what they need.

        Args:
            step_up: Asks a user to confirm a change.
        """
        self._engine = engine
        self._enrolment = engine.enrolment
        self._settings = settings
        self._step_up = step_up

    def operations(self) -> list[Operation]:
        """Return the table."""
        return [
            *self._pins(),
            *self._fingerprints(),
            *self._faces(),
            *self._phones(),
            *self._public_keys(),
        ]

    # --- the table ----------------------------------------------------------------------------

    def _pins(self) -> list[Operation]:
        paths = tuple(f"{profile}/pin" for profile in _PROFILE)
        return [
            Operation(
                name="pin-create",
                summary="Enrol a PIN",
                method="POST",
                paths=("/v1/user/pin",),
                handler=self._create_pin,
                by=By.PERSON,
                body=shapes.PinBody,
                jose=Jose.DIRECT,
                answer=None,
                status=204,
                errors=_CREATES,
            ),
            Operation(
                name="pin-create-profile",
                summary="Enrol a PIN, under a profile",
                method="POST",
                paths=paths,
                handler=self._create_pin,
                by=By.PERSON,
                body=shapes.PinBody,
                jose=Jose.DIRECT,
                answer=None,
                errors=_CREATES,
            ),
            self._deletion("pin-delete", ("/v1/users/{userId}/pin",), CredentialKind.PIN, by=By.MANAGER),
            self._deletion("pin-delete-profile", paths, CredentialKind.PIN),
        ]

    def _fingerprints(self) -> list[Operation]:
        kind = CredentialKind.DEVICE_FINGERPRINT
        paths = tuple(f"{profile}/device-fingerprints" for profile in _PROFILE)
        listed = "/v1/users/{userId}/partner-device-fingerprints"
        return [
            Operation(
                name="device-fingerprint-create",
                summary="Enrol a device fingerprint",
                method="POST",
                paths=("/v1/user/partner-device-fingerprints", *paths),
                handler=self._create_fingerprint,
                by=By.PERSON,
                body=shapes.DeviceFingerprintBody,
                jose=Jose.DIRECT,
                answer=shapes.DeviceFingerprintCreated,
                errors=_CREATES,
            ),
            Operation(
                name="device-fingerprint-list",
                summary="List a user's device fingerprints",
                method="GET",
                paths=(listed,),
                handler=self._list_fingerprints,
                by=By.MANAGER,
                answer=list[shapes.DeviceFingerprintCreated],
                errors=(404,),
            ),
            self._deletion(
                "device-fingerprint-delete", (f"{listed}/{{deviceFingerprintId}}",), kind, by=By.MANAGER
            ),
            self._deletion(
                "device-fingerprint-delete-profile",
                tuple(f"{path}/{{deviceFingerprintId}}" for path in paths),
                kind,
            ),
        ]

    def _faces(self) -> list[Operation]:
        paths = tuple(f"{profile}/facemaps" for profile in _PROFILE)
        return [
            Operation(
                name="facemap-enrol",
                summary="Enrol a face map",
                method="POST",
                paths=("/v1/user/facemap/enrol", *paths),
                handler=self._create_face_map,
                by=By.PERSON,
                body=shapes.FaceMapBody,
                body_max=FACE_MAP_MAX,
                answer=None,
                status=204,
                errors=_CREATES,
            ),
            self._deletion(
                "facemap-delete",
                ("/v1/users/{userId}/facemap/enrol",),
                CredentialKind.FACE_MAP,
                by=By.MANAGER,
            ),
            self._deletion("facemap-delete-profile", paths, CredentialKind.FACE_MAP),
            Operation(
                name="facetec-public-key",
                summary="The key that face maps are encrypted to before they leave the device",
                method="GET",
                paths=("/v1/facetec/public-key", "/{version:calendar}/facetec/public-key"),
                handler=self._face_key,
                answer=str,
                errors=(404,),
            ),
        ]

    def _phones(self) -> list[Operation]:
        one = tuple(f"{path}/{{phoneNumberId}}" for path in _PHONES)
        return [
            Operation(
                name="phone-number-list",
                summary="List a user's phone numbers",
                method="GET",
                paths=_PHONES[:1],
                handler=self._list_phones,
                by=By.MANAGER,
                answer=list[shapes.PhoneNumber],
                errors=(404,),
            ),
            Operation(
                name="phone-number-create",
                summary="Enrol a phone number, which the application has verified",
                method="POST",
                paths=_PHONES,
                handler=self._create_phone,
                by=By.MANAGER,
                body=shapes.PhoneNumberBody,
                answer=shapes.PhoneNumber,
                errors=(400, 404, 408, 413, 415, 422),
            ),
            Operation(
                name="phone-number-update",
                summary="Put another number in a phone number's place",
                method="PUT",
                paths=one[:1],
                handler=self._update_phone,
                by=By.MANAGER,
                body=shapes.PhoneNumberBody,
                answer=shapes.PhoneNumber,
                errors=(400, 404, 408, 413, 415, 422),
            ),
            self._deletion("phone-number-delete", one, CredentialKind.PHONE, by=By.MANAGER),
        ]

    def _public_keys(self) -> list[Operation]:
        return [
            Operation(
                name="public-key-list",
                summary="List the keys that a user's programs sign with",
                method="GET",
                paths=_KEYS,
                handler=self._list_public_keys,
                by=By.MANAGER,
                answer=list[shapes.PublicKeyView],
                errors=(404,),
            ),
            Operation(
                name="public-key-create",
                summary="Enrol a key that a user's programs sign with",
                method="POST",
                paths=_KEYS,
                handler=self._create_public_key,
                by=By.MANAGER,
                body=shapes.PublicKeyBody,
                answer=shapes.PublicKeyView,
                status=201,
                errors=(400, 404, 408, 409, 413, 415),
            ),
            self._deletion(
                "public-key-delete",
                tuple(f"{path}/{{publicKeyId}}" for path in _KEYS),
                CredentialKind.PUBLIC_KEY,
                by=By.MANAGER,
            ),
        ]

    def _deletion(
        self, name: str, paths: tuple[str, ...], kind: CredentialKind, *, by: By = By.PERSON
    ) -> Operation:
        return Operation(
            name=name,
            summary=f"Delete: {kind.value.replace('-', ' ')}",
            method="DELETE",
            paths=paths,
            handler=self._delete(kind),
            by=by,
            answer=None,
            status=204,
            errors=(404,) if by is By.MANAGER else (400, 404, 429),
        )

    # --- adding -------------------------------------------------------------------------------

    async def _create_pin(self, call: Call) -> Answer:
        pin = call.read(shapes.PinBody).pin
        digits = self._engine.limits.pin_digits
        if not (pin.isascii() and pin.isdigit() and len(pin) == digits):
            return problems.malformed(f"A PIN has {digits} digits.", path="pin")
        if not self._settings.trivial_pins and is_trivial(pin):
            return problems.problem(
                400, wire.Code.PIN_TOO_SIMPLE, "This PIN is among the first to be guessed.", path="pin"
            )
        refused = await self._before_adding(call, CredentialKind.PIN)
        if refused is not None:
            return refused
        added = await self._enrolment.add_pin(
            call.user_id, pin, application=call.application, unasked=self._step_up.unasked(call)
        )
        return _refused(added, CredentialKind.PIN)

    async def _create_fingerprint(self, call: Call) -> Answer:
        fingerprint = call.read(shapes.DeviceFingerprintBody).device_fingerprint
        if not 0 < len(fingerprint) <= FINGERPRINT_MAX:
            return problems.malformed(
                f"A device fingerprint has 1 to {FINGERPRINT_MAX} characters.", path="deviceFingerprint"
            )
        kind = CredentialKind.DEVICE_FINGERPRINT
        refused = await self._before_adding(call, kind)
        if refused is not None:
            return refused
        added = await self._enrolment.add_device_fingerprint(
            call.user_id,
            fingerprint,
            application=call.application,
            unasked=self._step_up.unasked(call),
        )
        return problems.not_enrolled(added, kind) if isinstance(added, Refusal) else _fingerprint(added)

    async def _create_face_map(self, call: Call) -> Answer:
        face_map = call.read(shapes.FaceMapBody).face_map
        if self._engine.faces is None:
            raise FaceUnavailableError  # Before anybody is asked to confirm what cannot happen.
        refused = await self._before_adding(call, CredentialKind.FACE_MAP)
        if refused is not None:
            return refused
        try:
            added = await self._enrolment.add_face_map(
                call.user_id,
                face_map,
                application=call.application,
                unasked=self._step_up.unasked(call),
            )
        except FaceUnusableError:
            return problems.problem(
                400, wire.Code.FACEMAP_UNUSABLE, "There is no usable face in it.", path="faceMap"
            )
        return _refused(added, CredentialKind.FACE_MAP)

    async def _create_phone(self, call: Call) -> Answer:
        number = _number(call)
        added = await self._enrolment.add_phone(call.user_id, number, application=call.application)
        if isinstance(added, Refusal):
            return problems.not_enrolled(added, CredentialKind.PHONE)
        return self._phone(call, added, number)

    async def _update_phone(self, call: Call) -> Answer:
        number = _number(call)
        credential_id = call.request.path_params["phoneNumberId"]
        changed = await self._enrolment.replace_phone(
            call.user_id, credential_id, number, application=call.application
        )
        if isinstance(changed, Refusal):
            return problems.not_enrolled(changed, CredentialKind.PHONE)
        return self._phone(call, changed, number)

    async def _create_public_key(self, call: Call) -> Answer:
        pem = call.read(shapes.PublicKeyBody).public_key
        try:
            added = await self._enrolment.add_public_key(call.user_id, pem, application=call.application)
        except UnfitKeyError as error:
            return problems.problem(400, wire.Code.PUBLIC_KEY_INVALID, str(error), path="publicKey")
        if isinstance(added, Refusal):
            return problems.not_enrolled(added, CredentialKind.PUBLIC_KEY)
        return _public_key(added)

    async def _before_adding(self, call: Call, kind: CredentialKind) -> Problem | None:
        """
        Ask for a step-up where one is needed, but not for what cannot be added anyway.

        Whether a very credential is there already is told only to whoever may add it: at a door that
        asks for nothing it could be guessed without being counted.
        """
        if not await self._step_up.asks(call, adds=kind):
            return None
        refusal = await self._enrolment.can_add(call.user_id, kind, application=call.application)
        if refusal is not None:
            return problems.not_enrolled(refusal, kind)
        return await self._step_up.refuse(call, adds=kind)

    # --- listing ------------------------------------------------------------------------------

    async def _list_fingerprints(self, call: Call) -> Answer:
        user = await self._enrolment.user(call.user_id)
        if user is None:
            return problems.problem(404, wire.Code.USER_NOT_FOUND, "There is no such user.")
        return [_fingerprint(each) for each in user.credentials if isinstance(each, DeviceFingerprint)]

    async def _list_phones(self, call: Call) -> Answer:
        return [
            self._phone(call, each, self._enrolment.number(call.user_id, each))
            for each in await self._credentials(call.user_id)
            if isinstance(each, Phone)
        ]

    async def _list_public_keys(self, call: Call) -> Answer:
        return [
            _public_key(each) for each in await self._credentials(call.user_id) if isinstance(each, PublicKey)
        ]

    async def _credentials(self, user_id: UserId) -> tuple[Credential, ...]:
        user = await self._enrolment.user(user_id)
        return () if user is None else user.credentials

    async def _face_key(self, call: Call) -> Answer:
        key = None if self._engine.faces is None else self._engine.faces.public_key
        if key is None:
            return problems.problem(404, wire.Code.NOT_FOUND, "Face maps are not encrypted here.")
        return key

    def _phone(self, call: Call, credential: Phone, number: str) -> shapes.PhoneNumber:
        return shapes.PhoneNumber(
            id=int(credential.id),
            phone_number=number,
            type="PRIMARY",
            verified=True,
            client_id=call.application or "",
        )

    # --- removing -----------------------------------------------------------------------------

    def _delete(self, kind: CredentialKind) -> Handler:
        async def delete(call: Call) -> Answer:
            credential_id = call.request.path_params.get(_IDS.get(kind, ""))
            user = await self._enrolment.user(call.user_id)
            if user is None or not user.holds(kind, credential_id):
                return problems.not_set_up(kind)
            refused = await self._step_up.refuse(call, adds=None)
            if refused is not None:
                return refused
            refusal = await self._enrolment.remove(
                call.user_id, kind, credential_id, application=call.application
            )
            return None if refusal is None else problems.not_enrolled(refusal, kind)

        return delete


def _refused(added: Credential | Refusal, kind: CredentialKind) -> Problem | None:
    return problems.not_enrolled(added, kind) if isinstance(added, Refusal) else None


def _number(call: Call) -> str:
    """
    Read a phone number; the application has seen to it that it is its user's.

    Raises:
        BadRequestError: 422; it is none that anybody could have.
    """
    text = call.read(shapes.PhoneNumberBody).phone_number
    try:
        number = phonenumbers.parse(text, None) if _NUMBER.fullmatch(text) else None
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        raise BadRequestError(
            problems.problem(
                422,
                wire.Code.PHONE_NUMBER_INVALID,
                "Send a phone number with its country's code, such as +6588888888.",
                path="phoneNumber",
            )
        )
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _fingerprint(credential: DeviceFingerprint) -> shapes.DeviceFingerprintCreated:
    return shapes.DeviceFingerprintCreated(credential.id, shapes.nanoseconds(credential.enrolled_at))


def _public_key(credential: PublicKey) -> shapes.PublicKeyView:
    return shapes.PublicKeyView(
        credential.id, shapes.nanoseconds(credential.enrolled_at), sha256(credential.spki).hexdigest()
    )
