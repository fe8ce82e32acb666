"""The use cases of enrolment: what a user can prove from now on."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from watchword.domain import enrolment
from watchword.domain.action import Action
from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone, Pin, PublicKey
from watchword.domain.decision import Change, Reason, Refusal
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import Instant
from watchword.domain.method import CredentialKind, Method
from watchword.domain.owner import Owner
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import Decider, StoreContendedError
from watchword.engine.ports import Entropy
from watchword.engine.recent import Records
from watchword.engine.turns import Turns
from watchword.faces.base import FaceMatcher, FaceUnavailableError
from watchword.methods import phone
from watchword.methods.keyring import KeyMissingError, Purpose, Tampered
from watchword.methods.registry import Methods

_ID_BITS_DRAWN = 48

C = TypeVar("C", bound=Credential)


class Enrolment:
    """
    Enrols and removes credentials; each call is one change, or a ``Refusal`` and nothing.

    ``application`` names the application that acts for the user; None is the user himself, who
    changes nothing while he is locked. ``unasked`` is the rule by which he was asked for no step-up;
    where others were faster and it asks for one by now, ``StoreContendedError`` tells him to begin anew.
    """

    def __init__(
        self, decider: Decider, *, methods: Methods, entropy: Entropy, faces: FaceMatcher | None
    ) -> None:
        """Take what is shared with the other use cases."""
        self._decider = decider
        self._methods = methods
        self._entropy = entropy
        self._faces = faces
        # Costly preparations, one at a time for each user: nobody takes all places of the others.
        self._preparing = Turns()

    # --- looking ------------------------------------------------------------------------------

    async def user(self, user_id: UserId) -> UserSecurity | None:
        """Return what is stored of a user."""
        return await self._decider.store.user(user_id)

    def number(self, user_id: UserId, credential: Phone) -> str:
        """Decrypt a phone number, for an application that may see it."""
        return self._methods.phone[Method.SMS].number(user_id, credential)

    async def can_add(
        self,
        user_id: UserId,
        kind: CredentialKind,
        *,
        application: str | None = None,
    ) -> Refusal | None:
        """
        Say why an addition would be refused; None where it would not.

        Asked before a step-up is, so that nobody confirms what cannot happen, and before any
        slow work is done for nothing.
        """
        user = await self._decider.user(self._decider.store, user_id)
        return enrolment.can_add(
            user,
            kind,
            application=application,
            limits=self._decider.limits,
            now=self._decider.clock.now(),
        )

    async def step_up(
        self,
        user_id: UserId,
        *,
        adds: CredentialKind | None,
        when: StepUpFor,
        action: Action = CREDENTIAL_CHANGE,
    ) -> Action | None:
        """Say what the user must be asked for before he changes his credentials."""
        user = await self._decider.user(self._decider.store, user_id)
        return enrolment.step_up(user, adds=adds, when=when, action=action)

    # --- adding -------------------------------------------------------------------------------

    async def add_pin(
        self,
        user_id: UserId,
        pin: str,
        *,
        application: str | None = None,
        unasked: StepUpFor = StepUpFor.NOTHING,
    ) -> Pin | Refusal:
        """
        Enrol a PIN.

        Raises:
            BusyError: Too much slow work is under way.
        """
        async with self._preparing.of(user_id):
            refusal = await self.can_add(user_id, CredentialKind.PIN, application=application)
            if refusal is not None:
                return refusal
            new = await self.make_pin(user_id, pin)
            return await self._add(user_id, new, application=application, unasked=unasked)

    async def make_pin(self, user_id: UserId, pin: str) -> Pin:
        """Make the stored form of a PIN, off the event loop."""
        credential_id, now = self._entropy.uuid(), self._decider.clock.now()
        return await self._decider.slowly(
            lambda: self._methods.pin.enrol(pin, user_id=user_id, credential_id=credential_id, now=now)
        )

    async def add_device_fingerprint(
        self,
        user_id: UserId,
        fingerprint: str,
        *,
        application: str | None = None,
        unasked: StepUpFor = StepUpFor.NOTHING,
    ) -> DeviceFingerprint | Refusal:
        """Enrol a device fingerprint."""
        new = self._methods.device_fingerprint.enrol(
            fingerprint, user_id=user_id, credential_id=self._entropy.uuid(), now=self._decider.clock.now()
        )
        return await self._add(
            user_id,
            new,
            repeated=lambda user: self._has(fingerprint, user),
            application=application,
            unasked=unasked,
        )

    async def add_face_map(
        self,
        user_id: UserId,
        face_map: bytes,
        *,
        application: str | None = None,
        unasked: StepUpFor = StepUpFor.NOTHING,
    ) -> FaceMap | Refusal:
        """
        Enrol a face.

        Raises:
            FaceUnusableError: There is no usable face in it.
            FaceUnavailableError: There is no matcher, or it cannot answer.
        """
        if self._faces is None:
            raise FaceUnavailableError
        async with self._preparing.of(user_id):
            refusal = await self.can_add(user_id, CredentialKind.FACE_MAP, application=application)
            if refusal is not None:
                return refusal
            credential_id = self._entropy.uuid()
            template = await self._faces.enrol(credential_id, face_map)
            new = self._methods.face_map.enrol(
                template, user_id=user_id, credential_id=credential_id, now=self._decider.clock.now()
            )
            try:
                added = await self._add(user_id, new, application=application, unasked=unasked)
            except StoreContendedError:
                await self._forget(new, user_id=user_id)
                raise
            if isinstance(added, Refusal):
                await self._forget(new, user_id=user_id)
            return added

    async def add_public_key(
        self, user_id: UserId, pem: str, *, application: str | None = None
    ) -> PublicKey | Refusal:
        """
        Enrol a public key.

        Raises:
            UnfitKeyError: It is none that signatures can be checked with.
        """
        new = self._methods.signature.enrol(
            pem, credential_id=self._entropy.uuid(), now=self._decider.clock.now()
        )

        def repeated(user: UserSecurity) -> bool:
            return any(
                isinstance(each, PublicKey) and each.spki == new.spki and not each.disabled
                for each in user.credentials
            )

        return await self._add(user_id, new, repeated=repeated, application=application)

    async def add_phone(
        self, user_id: UserId, number: str, *, application: str | None = None
    ) -> Phone | Refusal:
        """Enrol a phone number (E.164), which no other user may have."""
        new = self._phone(user_id, self.number_id(), number)
        names = {phone_name(digest) for digest in self._digests(number)}

        def repeated(user: UserSecurity) -> bool:
            return any(phone_name(each.digest) in names for each in user.phones())

        return await self._add(user_id, new, repeated=repeated, number=number, application=application)

    # --- replacing and removing ---------------------------------------------------------------

    async def replace_phone(
        self, user_id: UserId, credential_id: str, number: str, *, application: str | None = None
    ) -> Phone | Refusal:
        """Put another number in the place of a phone's; it keeps its id, and counts as newly enrolled."""
        new = self._phone(user_id, credential_id, number)

        async def decide(user: UserSecurity, now: Instant) -> Change | Refusal:
            return enrolment.substitute(
                user,
                credential_id,
                new,
                owners=await self._claims(number, user_id),
                given_back=await self._of_phone(user, credential_id),
                open_tokens=await self._decider.open_tokens(user, now=now),
                application=application,
                now=now,
            )

        decision = await self._settle(user_id, decide)
        return decision if isinstance(decision, Refusal) else new

    async def remove(
        self,
        user_id: UserId,
        kind: CredentialKind,
        credential_id: str | None = None,
        *,
        application: str | None = None,
    ) -> Refusal | None:
        """Remove a credential; of a kind that has one only, that one."""

        async def decide(user: UserSecurity, now: Instant) -> Change | Refusal:
            is_phone = kind is CredentialKind.PHONE
            return enrolment.remove(
                user,
                kind,
                credential_id,
                given_back=await self._of_phone(user, credential_id) if is_phone else (),
                open_tokens=await self._decider.open_tokens(user, now=now),
                application=application,
                now=now,
            )

        decision = await self._settle(user_id, decide)
        return decision if isinstance(decision, Refusal) else None

    async def set(
        self,
        user_id: UserId,
        credentials: tuple[Credential, ...],
        *,
        preferred: Method | None = None,
    ) -> None:
        """Replace all that a user has enrolled, whoever else has the same number."""

        async def decide(user: UserSecurity, now: Instant) -> Change:
            return enrolment.change(
                user,
                credentials=credentials,
                preferred=preferred,
                owners=await self._owners(user, credentials),
                open_tokens=await self._decider.open_tokens(user, now=now),
                now=now,
            )

        await self._settle(user_id, decide)

    # ------------------------------------------------------------------------------------------

    async def _add(
        self,
        user_id: UserId,
        new: C,
        *,
        repeated: Callable[[UserSecurity], bool] = lambda _: False,
        number: str | None = None,
        application: str | None,
        unasked: StepUpFor = StepUpFor.NOTHING,
    ) -> C | Refusal:
        async def decide(user: UserSecurity, now: Instant) -> Change | Refusal:
            owners = () if number is None else await self._claims(number, user_id)
            return enrolment.add(
                user,
                new,
                repeated=repeated(user),
                owners=owners,
                given_back=await self._disabled_numbers(user) if owners else (),
                open_tokens=await self._decider.open_tokens(user, now=now),
                application=application,
                unasked=unasked,
                limits=self._decider.limits,
                now=now,
            )

        decision = await self._settle(user_id, decide)
        if not isinstance(decision, Refusal):
            return new
        if decision.reason is Reason.NOT_READY:
            raise StoreContendedError
        return decision

    async def _settle(
        self, user_id: UserId, decide: Callable[[UserSecurity, Instant], Awaitable[Change | Refusal]]
    ) -> Change | Refusal:
        """Change what a user has enrolled, in his turn; faces that he has no longer the matcher forgets."""
        before: list[Credential] = []

        async def from_records(records: Records) -> Change | Refusal:
            user = await self._decider.user(records, user_id)
            before[:] = user.credentials
            return await decide(user, self._decider.clock.now())

        async with self._decider.turn(user_id):
            decision = await self._decider.settle(from_records)
        if isinstance(decision, Change) and decision.user is not None:
            kept = {each.id for each in decision.user.credentials}
            for gone in before:
                if isinstance(gone, FaceMap) and gone.id not in kept:
                    await self._forget(gone, user_id=user_id)
        return decision

    async def _claims(self, number: str, user_id: UserId) -> tuple[Owner, ...]:
        """Find who owns a number: the one who claimed it under any key, or what there is to claim."""
        names = list(map(phone_name, self._digests(number)))
        found = [await self._decider.store.owner(name) for name in names]
        for at, owner in enumerate(found):
            if owner is None or owner.user_id is None or owner.user_id == user_id:
                continue
            other = await self._decider.store.user(owner.user_id)
            if other is not None and any(phone_name(each.digest) in names for each in other.phones_too(None)):
                return (owner,)
            # Given back by a server that did not know this name yet; its version is compared all the same.
            found[at] = replace(owner, user_id=None)
        lasting = map(phone_name, self._methods.keyring.lasting(Purpose.PHONE_DIGEST, number.encode()))
        known = {owner.id: owner for owner in found if owner is not None}
        return tuple(known.get(name) or Owner(id=name) for name in lasting)

    async def _of_phone(self, user: UserSecurity, credential_id: str | None) -> tuple[Owner, ...]:
        """Find the records by which a user owns the number of one of his phones."""
        entry = next(user.phones_too(credential_id), None)
        return () if entry is None else await self._owned(entry, user.id)

    async def _owned(self, credential: Phone, user_id: UserId) -> tuple[Owner, ...]:
        """Find the records by which a user owns his number; none where it is another's who shares it."""
        names = {phone_name(credential.digest)}
        with suppress(KeyMissingError, Tampered):
            number = phone.number(self._methods.keyring, credential, user_id=user_id)
            names.update(map(phone_name, self._digests(number)))
        found = [await self._decider.store.owner(name) for name in sorted(names)]
        return tuple(owner for owner in found if owner is not None and owner.user_id == user_id)

    async def _disabled_numbers(self, user: UserSecurity) -> tuple[Owner, ...]:
        disabled = [each for each in user.phones_too(None) if each.disabled]
        return tuple([owner for each in disabled for owner in await self._owned(each, user.id)])

    async def _owners(self, user: UserSecurity, credentials: tuple[Credential, ...]) -> tuple[Owner, ...]:
        before = {phone_name(each.digest) for each in user.credentials if isinstance(each, Phone)}
        since = {phone_name(each.digest) for each in credentials if isinstance(each, Phone)}
        changed: list[Owner] = []
        for name in sorted(before ^ since):
            owner = await self._decider.store.owner(name) or Owner(id=name)
            if name in before and owner.user_id == user.id:
                changed.append(owner.taken(None))
            elif name in since and owner.user_id is None:
                changed.append(owner.taken(user.id))
        return tuple(changed)

    def _phone(self, user_id: UserId, credential_id: str, number: str) -> Phone:
        keyring, now = self._methods.keyring, self._decider.clock.now()
        return phone.enrol(keyring, number, user_id=user_id, credential_id=credential_id, now=now)

    def _digests(self, number: str) -> list[bytes]:
        return self._methods.keyring.digests(Purpose.PHONE_DIGEST, number.encode())

    def _has(self, fingerprint: str, user: UserSecurity) -> bool:
        return self._methods.device_fingerprint.is_enrolled(fingerprint, user=user)

    def number_id(self) -> str:
        """Draw the id of a phone number, which the wire has as an integer."""
        return str(int(self._entropy.uuid().replace("-", "")[: _ID_BITS_DRAWN // 4], 16) + 1)

    async def _forget(self, face: FaceMap, *, user_id: UserId) -> None:
        # Nothing refers to it any more: what a matcher that is away still keeps compares with nobody.
        # Nor is what no key of ours opens any template that it could be told of.
        if self._faces is not None:
            with suppress(FaceUnavailableError, KeyMissingError, Tampered):
                await self._faces.forget(self._methods.face_map.open(face, user_id=user_id))


def phone_name(digest: bytes) -> bytes:
    """Name a phone number, as its owner is stored."""
    return b"phone/" + digest
