"""The use cases of applications: the keys they upload, and whom an issuer's subject stands for."""

from collections.abc import Callable
from hashlib import sha256

from watchword.domain.application import (
    Application,
    ApplicationId,
    ClientKey,
    KeyScope,
    revoke_key,
    upload_key,
)
from watchword.domain.decision import Change, Event, EventName, Refusal
from watchword.domain.owner import Owner
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.deciding import Decider, StoreContendedError
from watchword.engine.ports import Entropy
from watchword.engine.turns import Turns

_ID_DIGITS_DRAWN = 12
_DRAWS_MAX = 8


class Applications:
    """Keeps what applications tell us."""

    def __init__(self, decider: Decider, *, entropy: Entropy) -> None:
        """Take what is shared with the other use cases."""
        self._decider = decider
        self._entropy = entropy
        self._turns = Turns()

    async def upload_key(self, application_id: ApplicationId, key: ClientKey) -> Refusal | None:
        """Keep an application's public key."""
        return await self._change(
            application_id,
            lambda application: upload_key(
                application, key, limits=self._decider.limits, now=self._decider.clock.now()
            ),
        )

    async def revoke_key(self, application_id: ApplicationId, key_id: str) -> Refusal | None:
        """Let a key of an application's be good no longer."""
        return await self._change(
            application_id,
            lambda application: revoke_key(application, key_id, now=self._decider.clock.now()),
        )

    async def _change(
        self, application_id: ApplicationId, verb: Callable[[Application], Change | Refusal]
    ) -> Refusal | None:
        async with self._turns.of(application_id):
            for _ in range(_DRAWS_MAX):
                era = self._decider.recent.era
                decision = verb(await self._application(application_id))
                if isinstance(decision, Refusal):
                    return decision
                if era == self._decider.recent.era and await self._decider.store.commit(decision):
                    return None
        raise StoreContendedError

    async def keys(self, application_id: ApplicationId, scope: KeyScope) -> tuple[ClientKey, ...]:
        """Return the keys of an application that are good now, the newest first."""
        return (await self._application(application_id)).valid_keys(scope, self._decider.clock.now())

    async def user_id(self, issuer: str, subject: str) -> UserId:
        """
        Return the user that an issuer's subject stands for; the first time a new one.

        The wire has users as integers, issuers have them as text. An id is drawn at random, and who
        owns the subject is stored in one commit with the user, so that no two share either.
        """
        name = subject_name(issuer, subject)
        for _ in range(_DRAWS_MAX):
            era = self._decider.recent.era
            owner = await self._decider.store.owner(name)
            if owner is not None and owner.user_id is not None:
                return owner.user_id
            drawn = UserId(int(self._entropy.uuid().replace("-", "")[:_ID_DIGITS_DRAWN], 16) + 1)
            user = UserSecurity(id=drawn, version=1)
            linked = Event(name=EventName.SUBJECT_LINKED, at=self._decider.clock.now(), user_id=drawn)
            owners = ((owner or Owner(id=name)).taken(drawn),)
            change = Change(user=user, owners=owners, events=(linked,))
            if era == self._decider.recent.era and await self._decider.store.commit(change):
                return drawn
        raise StoreContendedError

    async def _application(self, application_id: ApplicationId) -> Application:
        return await self._decider.store.application(application_id) or Application(id=application_id)


def subject_name(issuer: str, subject: str) -> bytes:
    """Name a subject of an issuer, as its owner is stored."""
    fields = (issuer.encode(), subject.encode())
    return b"subject/" + sha256(b"".join(len(each).to_bytes(4, "big") + each for each in fields)).digest()
