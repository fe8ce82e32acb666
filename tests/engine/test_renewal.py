"""A change of keys: what users enrolled is sealed anew, and nobody notices while it is done."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.engine.stores import OverStore
from tests.factories import (
    ADA,
    CODE,
    FINGERPRINT,
    GRACE,
    KEYRING,
    NOW,
    NUMBER,
    PAY,
    PIN,
    FixedClock,
    WatchedMethods,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_token,
    make_user,
    make_world,
    public_pem,
)
from watchword.domain.action import Action, Bind, Risk
from watchword.domain.credential import Credential, DeviceFingerprint, FaceMap, Phone
from watchword.domain.decision import Change, EventName, Reason, Refusal
from watchword.domain.destination import Destination
from watchword.domain.instant import after
from watchword.domain.method import CredentialKind, Method
from watchword.domain.owner import Owner
from watchword.domain.token import OneTimeToken
from watchword.domain.user import UserId, UserSecurity
from watchword.engine.engine import Approved, Caller, Snapshot, StepUp
from watchword.engine.enrolment import phone_name
from watchword.engine.renewal import PAGE, Remaining, Renewal
from watchword.methods import phone
from watchword.methods.keyring import KeyMissingError, Keyring, Purpose, Tampered
from watchword.methods.registry import Methods
from watchword.methods.renewal import is_current
from watchword.store.base import Store, StoreCorruptError, StoreUnavailableError, UnreadableUser
from watchword.store.memory import MemoryStore

OLD, NEW = bytes(range(32)), bytes([7] * 32)
ADDED = Keyring({1: OLD, 2: NEW}, active=1)
ACTIVATED = Keyring({1: OLD, 2: NEW}, active=2)
RETIRED = Keyring({2: NEW}, active=2)
STEPS = [KEYRING, ADDED, ACTIVATED, RETIRED]
ada, grace = Caller(ADA), Caller(GRACE)
FAST = 1_000_000
TRANSFER = Action(name="TRANSFER__FUND", risk=Risk.HIGH, bind=Bind.REQUEST)


def only_digested(fingerprint: str, *, id: str) -> DeviceFingerprint:
    """Return a device as schemas before the fourth have it."""
    digest = KEYRING.digest(Purpose.DEVICE_FINGERPRINT, str(ADA).encode(), fingerprint.encode())
    return DeviceFingerprint(id=id, sealed=digest, enrolled_at=NOW)


def enrolled_face() -> FaceMap:
    return Methods(KEYRING).face_map.enrol(b"a face", user_id=ADA, credential_id="face", now=NOW)


ALL: tuple[Credential, ...] = (
    enrolled_pin(),
    enrolled_phone(),
    enrolled_fingerprint(),
    only_digested("an older device", id="older"),
    enrolled_face(),
    Methods(KEYRING).signature.enrol(public_pem(), credential_id="key", now=NOW),
)


def world_of(keyring: Keyring, store: Store | None = None, **others: object) -> World:
    return make_world(store=store, methods=WatchedMethods(keyring), codes=[CODE] * 5, **others)  # type: ignore[arg-type]


def renewal(store: Store, keyring: Keyring = ACTIVATED) -> Renewal:
    return Renewal(store, Methods(keyring), FixedClock())


async def with_all() -> World:
    world = world_of(KEYRING)
    await world.enrol(ADA, *ALL)
    return world


@pytest.mark.attack(182)
async def test_afterwards_everything_works_without_the_old_key() -> None:
    store = (await with_all()).store
    assert (await renewal(store).run(per_second=FAST)).changed == 1
    assert not await renewal(store).remaining()
    after_ = world_of(RETIRED, store)
    user, token = await after_.user(), make_token()
    methods = after_.methods
    assert methods.pin.verify(PIN, user=user, token=token)
    assert not methods.pin.verify("0000", user=user, token=token)
    assert methods.device_fingerprint.is_enrolled(FINGERPRINT, user=user)
    assert methods.device_fingerprint.is_enrolled("an older device", user=user)
    assert not methods.device_fingerprint.is_enrolled("another", user=user)
    assert methods.face_map.template(user) == b"a face"
    assert phone.number(RETIRED, next(user.phones()), user_id=ADA) == NUMBER
    assert await after_.engine.enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert await after_.engine.enrolment.remove(ADA, CredentialKind.PHONE) is None
    assert isinstance(await after_.engine.enrolment.add_phone(GRACE, NUMBER), Phone)


async def test_nothing_but_seals_changes_and_the_trail_says_that_they_did() -> None:
    world = await with_all()
    before = await world.user()
    await world.enrol(GRACE)
    await renewal(world.store).run(per_second=FAST)
    user = await world.user()
    assert user.version == before.version + 1
    assert replace(user, version=before.version, credentials=before.credentials) == before
    for old, new in zip(before.credentials, user.credentials, strict=True):
        assert (old.id, old.enrolled_at, type(old)) == (new.id, new.enrolled_at, type(new))
    name, details = [(event.name, event.details) for _, event in await world.store.events()][-1]
    assert (name, details) == (EventName.CREDENTIALS_RESEALED, {"key": 2})


async def test_a_second_time_there_is_nothing_to_do() -> None:
    world = await with_all()
    await renewal(world.store).run(per_second=FAST)
    before = await world.user(), await world.store.events()
    again = await renewal(world.store).run(per_second=FAST)
    assert (again.users, again.changed) == (1, 0)
    assert (await world.user(), await world.store.events()) == before


async def test_it_goes_through_all_pages_and_says_how_far_it_is() -> None:
    world = world_of(KEYRING)
    for number in range(2 * PAGE + 1):
        user_id = UserId(number + 1)
        phone_ = enrolled_phone(user_id, f"+1555{number:07}")
        await world.store.commit(Change(user=replace(make_user(id=user_id), credentials=(phone_,))))
    told: list[tuple[int, int]] = []
    await renewal(world.store).run(per_second=FAST, told=lambda done: told.append((done.users, done.changed)))
    assert told == [(PAGE, PAGE), (2 * PAGE, 2 * PAGE), (2 * PAGE + 1, 2 * PAGE + 1)]


async def test_where_the_store_went_away_it_begins_again_and_ends() -> None:
    world = world_of(KEYRING)
    for user_id in (ADA, GRACE):
        await world.enrol(user_id, enrolled_phone(user_id, f"+1555{user_id:07}"))

    class Away(OverStore):
        """Takes one change; of the second nobody learns whether it was stored."""

        changes = 0

        async def commit(self, change: Change) -> bool:
            self.changes += 1
            if self.changes > 1:
                raise StoreUnavailableError
            return await super().commit(change)

    with pytest.raises(StoreUnavailableError):
        await renewal(Away(world.store)).run(per_second=FAST)
    assert (await renewal(world.store).remaining()).count == 1
    assert (await renewal(world.store).run(per_second=FAST)).changed == 1
    assert not await renewal(world.store).remaining()


async def test_no_more_are_changed_in_a_second_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await with_all()
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("watchword.engine.renewal.asyncio.sleep", sleep)
    monkeypatch.setattr("watchword.store.memory.asyncio.sleep", sleep)
    await renewal(world.store).run(per_second=4)
    assert max(waited) == 0.25


# --- while others write ------------------------------------------------------------------------


async def test_what_a_user_changes_meanwhile_wins() -> None:
    world = await with_all()

    class Overtaken(OverStore):
        """Somebody removes the PIN just before the first change is stored."""

        async def commit(self, change: Change) -> bool:
            if (await world.user()).has(CredentialKind.PIN):
                assert await world.engine.enrolment.remove(ADA, CredentialKind.PIN) is None
            return await super().commit(change)

    done = await renewal(Overtaken(world.store)).run(per_second=FAST)
    assert (done.changed, done.contended) == (1, ())
    user = await world.user()
    assert not user.has(CredentialKind.PIN)
    assert len(user.credentials) == len(ALL) - 1
    assert not await renewal(world.store).remaining()


async def test_whom_others_keep_changing_is_left_for_the_next_time() -> None:
    world = await with_all()

    class Losing(OverStore):
        async def commit(self, change: Change) -> bool:
            del change
            return False

    done = await renewal(Losing(world.store)).run(per_second=FAST)
    assert (done.changed, done.contended) == (0, (ADA,))
    assert (await renewal(world.store).remaining()).users == (ADA,)


@pytest.mark.attack(182)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_code_that_is_on_its_way_stays_right(when: str) -> None:
    """Sealed anew between the code and its answer, by servers before and after their own change."""
    world = world_of(KEYRING)
    await world.enrol(ADA, enrolled_phone())
    issued = await world.engine.protect(ada, TRANSFER_LOW, PAY)
    assert isinstance(issued, StepUp)
    await world.engine.trigger(ada, issued.ott, Method.SMS)
    if when == "after":
        world = world_of(ACTIVATED, world.store)
    await renewal(world.store).run(per_second=FAST)
    world = world_of(ACTIVATED, world.store)
    passed = await world.engine.verify(ada, issued.ott, Method.SMS, CODE)
    assert isinstance(passed, Snapshot)
    assert isinstance(await world.engine.protect(ada, TRANSFER_LOW, PAY, ott=issued.ott), Approved)


TRANSFER_LOW = replace(TRANSFER, risk=Risk.LOW)


async def test_what_was_sent_to_a_number_today_is_not_forgotten() -> None:
    world = world_of(KEYRING)
    await world.enrol(ADA, enrolled_phone())
    old, new = KEYRING.digest(Purpose.PHONE_DIGEST, NUMBER.encode()), enrolled_under(RETIRED).digest
    times = tuple(after(NOW, -60 * minutes) for minutes in (3, 2, 1))
    await world.store.commit(Change(destination=Destination(id=old, sent_at=times[:2], version=1)))
    await world.store.commit(Change(destination=Destination(id=new, sent_at=times[1:], version=1)))
    await renewal(world.store).run(per_second=FAST)
    moved = Destination(id=new, sent_at=times, version=2)
    assert await world.store.destination(new) == moved
    # Grace, who shares it, brings nothing that was not counted.
    await world.enrol(GRACE, enrolled_phone(GRACE))
    await renewal(world.store).run(per_second=FAST)
    assert await world.store.destination(new) == moved


def enrolled_under(keyring: Keyring) -> Phone:
    return phone.enrol(keyring, NUMBER, user_id=ADA, credential_id="phone", now=NOW)


# --- nobody owns a number twice -----------------------------------------------------------------


@pytest.mark.attack(182)
@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 1])
async def test_servers_one_step_apart_never_give_one_number_to_two(step: int, first: int) -> None:
    store = MemoryStore()
    one, other = (world_of(keyring, store) for keyring in STEPS[step : step + 2])
    claims = [one.engine.enrolment.add_phone(ADA, NUMBER), other.engine.enrolment.add_phone(GRACE, NUMBER)]
    if first:
        claims.reverse()
    outcomes = await asyncio.gather(*claims)
    assert sorted(type(each).__name__ for each in outcomes) == ["Phone", "Refusal"]


@pytest.mark.attack(182)
@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_number_that_one_server_gave_back_the_next_can_give_away(step: int) -> None:
    store = MemoryStore()
    one, other = (world_of(keyring, store) for keyring in STEPS[step : step + 2])
    for here, there in ((one, other), (other, one)):
        assert isinstance(await here.engine.enrolment.add_phone(ADA, NUMBER), Phone)
        assert await there.engine.enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
        assert await here.engine.enrolment.remove(ADA, CredentialKind.PHONE) is None
        assert isinstance(await there.engine.enrolment.add_phone(GRACE, NUMBER), Phone)
        assert await there.engine.enrolment.remove(GRACE, CredentialKind.PHONE) is None


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_number_given_back_where_a_key_is_not_known_yet_can_be_given_away(step: int) -> None:
    store = MemoryStore()
    one, other = (world_of(keyring, store) for keyring in STEPS[step : step + 2])
    for here, there in ((other, one), (one, other)):
        assert isinstance(await here.engine.enrolment.add_phone(ADA, NUMBER), Phone)
        assert await there.engine.enrolment.remove(ADA, CredentialKind.PHONE) is None
        assert isinstance(await here.engine.enrolment.add_phone(GRACE, NUMBER), Phone)
        assert await there.engine.enrolment.add_phone(ADA, NUMBER) == Refusal(Reason.TAKEN)
        assert await here.engine.enrolment.remove(GRACE, CredentialKind.PHONE) is None


async def test_names_under_the_old_key_are_given_back_and_nobody_else_s() -> None:
    """One enrols on a server that knows both keys and uses the first; one shares the number."""
    store = MemoryStore()
    world = world_of(ADDED, store)
    assert isinstance(await world.engine.enrolment.add_phone(ADA, NUMBER), Phone)
    await world.enrol(GRACE, enrolled_phone(GRACE))
    old, new = (phone_name(digest) for digest in ADDED.digests(Purpose.PHONE_DIGEST, NUMBER.encode()))
    assert [owner and owner.user_id for owner in (await store.owner(old), await store.owner(new))] == [
        ADA,
        ADA,
    ]
    await renewal(store).run(per_second=FAST)
    assert [owner and owner.user_id for owner in (await store.owner(old), await store.owner(new))] == [
        None,
        ADA,
    ]
    assert not await renewal(store).remaining()
    # Sealed already, but still owned by its old name: as a server leaves it that renews nothing.
    await store.commit(Change(owners=(Owner(id=old, user_id=ADA, version=3),)))
    assert (await renewal(store).remaining()).users == (ADA,)
    await renewal(store).run(per_second=FAST)
    assert not await renewal(store).remaining()


# --- what cannot be read, and what still needs the key ------------------------------------------


@pytest.mark.attack(158)
async def test_what_was_read_before_another_server_took_over_is_not_written_to_it() -> None:
    """There the same version may have other contents, and a user may never have been stored."""
    world = await with_all()
    await world.enrol(GRACE, enrolled_pin(GRACE))
    before = await world.user()
    anew = replace(before, preferred=Method.PIN)

    store = world.store
    assert isinstance(store, MemoryStore)
    kept = store._users  # noqa: SLF001 - what a failover loses.

    class TakenOver(OverStore):
        async def users(
            self, *, after: UserId | None = None, limit: int = 1000
        ) -> Sequence[UserSecurity | UnreadableUser]:
            found = await super().users(after=after, limit=limit)
            if after is None:
                kept[ADA] = anew
                del kept[GRACE]
                renewing.begin_anew()
            return found

    renewing = renewal(TakenOver(store))
    done = await renewing.run(per_second=FAST)
    assert (done.changed, done.contended, done.unreadable) == (1, (), ())
    stored = await world.user()
    assert stored.preferred is Method.PIN
    assert all(is_current(each, Methods(ACTIVATED)) for each in stored.credentials)
    assert await store.user(GRACE) is None


async def look_over_which_another_server_takes_over(at_page: int) -> Remaining:
    """Look at two users, each on a page; while *at_page* is read, one becomes as before the renewal."""
    world = await with_all()
    before = await world.user()
    await world.enrol(GRACE, enrolled_pin(GRACE))
    await renewal(world.store).run(per_second=FAST)

    store = world.store
    assert isinstance(store, MemoryStore)
    kept = store._users  # noqa: SLF001 - what a failover loses.

    class TakenOver(OverStore):
        pages = 0

        async def users(
            self, *, after: UserId | None = None, limit: int = 1000
        ) -> Sequence[UserSecurity | UnreadableUser]:
            found = await super().users(after=after, limit=1)
            self.pages += 1
            if self.pages == at_page:
                kept[ADA] = before
                renewing.begin_anew()
            return found

    renewing = renewal(TakenOver(store))
    return await renewing.remaining()


@pytest.mark.attack(158)
@pytest.mark.parametrize("at_page", [1, 2, 3])
async def test_a_look_at_everybody_over_which_another_server_took_over_begins_anew(at_page: int) -> None:
    """What was sealed anew when it was seen may have been lost since."""
    assert (await look_over_which_another_server_takes_over(at_page)).users == (ADA,)


async def test_of_whom_a_record_is_damaged_is_named_and_the_others_go_on() -> None:
    world = await with_all()
    her_phone = enrolled_phone(GRACE, "+447700900123")
    await world.enrol(GRACE, her_phone)
    third = UserId(GRACE + 1)
    await world.enrol(third, enrolled_pin(third))

    class Damaged(OverStore):
        async def users(
            self, *, after: UserId | None = None, limit: int = 1000
        ) -> Sequence[UserSecurity | UnreadableUser]:
            found = await super().users(after=after, limit=limit)
            return [UnreadableUser(third) if user.id == third else user for user in found]

        async def owner(self, owner_id: bytes) -> Owner | None:
            if owner_id == phone_name(her_phone.digest):
                raise StoreCorruptError
            return await super().owner(owner_id)

    damaged = Damaged(world.store)
    done = await renewal(damaged).run(per_second=FAST)
    left = await renewal(damaged).remaining()
    assert (done.users, done.changed, set(done.damaged)) == (3, 1, {GRACE, third})
    assert (left.users, left.damaged) == ((GRACE,), (third,))
    assert Remaining(damaged=(third,)), "the old key stays"


@pytest.mark.attack(179)
async def test_what_was_moved_to_another_row_is_named_and_the_others_go_on() -> None:
    world = world_of(KEYRING)
    await world.enrol(ADA, enrolled_fingerprint(), replace(enrolled_pin(), id="moved here"))
    await world.enrol(GRACE, enrolled_phone(GRACE))
    done = await renewal(world.store).run(per_second=FAST)
    assert (done.changed, done.unreadable) == (2, (ADA,))
    device, moved = (await world.user()).credentials
    assert isinstance(device, DeviceFingerprint)
    assert device.sealed[0] == 2
    assert moved == replace(enrolled_pin(), id="moved here")
    assert (await renewal(world.store).remaining()).users == (ADA,)


async def test_a_ring_without_the_old_key_changes_nothing() -> None:
    world = await with_all()
    before = await world.user()
    done = await renewal(world.store, RETIRED).run(per_second=FAST)
    assert (done.changed, done.unreadable) == (0, (ADA,))
    assert await world.user() == before


@pytest.mark.parametrize("what", ["details", "code", "binding", "nothing"])
async def test_an_open_token_needs_the_key_that_made_what_it_holds_until_it_expires(what: str) -> None:
    world = world_of(KEYRING)
    await world.enrol(ADA, enrolled_phone())
    binding = PAY
    if what == "binding":
        binding = replace(PAY, body=KEYRING.digest(Purpose.REQUEST, b"a body"))
    details = (("amount", "10.00"),) if what == "details" else ()
    issued = await world.engine.protect(ada, TRANSFER_LOW, binding, details=details)
    assert isinstance(issued, StepUp)
    if what == "code":
        await world.engine.trigger(ada, issued.ott, Method.SMS)
    token = await world.token(issued.ott)
    await renewal(world.store).run(per_second=FAST)
    clock = FixedClock()
    renewal_ = Renewal(world.store, Methods(ACTIVATED), clock)
    remaining = await renewal_.remaining()
    expected = (0, 0, 0) if what == "nothing" else (0, 1, token.expires_at)
    assert (remaining.count, remaining.tokens, remaining.until) == expected
    clock.at = after(token.expires_at, -0.001)
    assert bool(await renewal_.remaining()) == (what != "nothing")
    clock.at = token.expires_at
    assert not await renewal_.remaining()


# --- each seal in its place ---------------------------------------------------------------------

SEALED: dict[Purpose, bytes] = {
    Purpose.PIN: enrolled_pin().sealed,
    Purpose.PHONE: enrolled_phone().sealed,
    Purpose.DEVICE: enrolled_fingerprint().sealed,
    Purpose.FACE_MAP: enrolled_face().sealed,
}


def reads(purpose: Purpose, sealed: bytes, *, id: str, user_id: UserId) -> object:
    """Read a sealed value where *id* of *user_id* should have its own."""
    methods = Methods(KEYRING)
    entry: Credential
    match purpose:
        case Purpose.PIN:
            entry = replace(enrolled_pin(), id=id, sealed=sealed)
            return methods.pin.verify(PIN, user=having(user_id, entry), token=make_token())
        case Purpose.PHONE:
            return phone.number(KEYRING, replace(enrolled_phone(), id=id, sealed=sealed), user_id=user_id)
        case Purpose.DEVICE:
            entry = replace(enrolled_fingerprint(), id=id, sealed=sealed)
            return methods.device_fingerprint.is_enrolled(FINGERPRINT, user=having(user_id, entry))
        case _:
            return methods.face_map.open(replace(enrolled_face(), id=id, sealed=sealed), user_id=user_id)


def having(user_id: UserId, *credentials: Credential) -> UserSecurity:
    return replace(make_user(id=user_id), credentials=credentials)


IDS = {Purpose.PIN: "pin", Purpose.PHONE: "phone", Purpose.DEVICE: "device", Purpose.FACE_MAP: "face"}


@pytest.mark.attack(179)
@pytest.mark.parametrize("purpose", IDS)
def test_a_sealed_value_opens_in_its_own_place_alone(purpose: Purpose) -> None:
    assert reads(purpose, SEALED[purpose], id=IDS[purpose], user_id=ADA)
    for id_, user_id in ((IDS[purpose], GRACE), ("another", ADA)):
        with pytest.raises(Tampered):
            reads(purpose, SEALED[purpose], id=id_, user_id=user_id)
    for other in IDS.keys() - {purpose}:
        with pytest.raises(Tampered):
            reads(purpose, SEALED[other], id=IDS[other], user_id=ADA)
    with pytest.raises((Tampered, KeyMissingError)):
        reads(purpose, b"\x02" + SEALED[purpose][1:], id=IDS[purpose], user_id=ADA)


@pytest.mark.attack(179)
def test_what_is_approved_opens_on_its_own_token_alone() -> None:
    sealer = Methods(KEYRING).details
    mine, other = make_token(id=b"mine"), make_token(id=b"other")
    details = (("amount", "10.00"),)
    sealed = sealer.seal(details, mine.id)
    assert sealer.open(replace(mine, details=sealed)) == details

    def opened(token: OneTimeToken) -> object:
        return sealer.open(replace(token, details=sealed))

    with pytest.raises(Tampered):
        opened(other)
