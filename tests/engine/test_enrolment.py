"""Enrolment through the engine: stored forms, whose a number is, what a matcher keeps, and the cool-down."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.engine.stores import Conflicting, Unavailable
from tests.factories import (
    ADA,
    CODE,
    FINGERPRINT,
    GRACE,
    NOW,
    NUMBER,
    PAY,
    PAYMENT,
    PIN,
    READ,
    STATEMENT,
    Faces,
    FixedClock,
    WatchedMethods,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
    public_pem,
)
from watchword.domain.action import Action, Risk
from watchword.domain.credential import FaceMap, Phone, Pin, PublicKey
from watchword.domain.decision import Reason, Refusal
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.lockout import Attempts
from watchword.domain.method import CredentialKind, Method
from watchword.domain.user import UserSecurity, disable
from watchword.engine.deciding import StoreContendedError
from watchword.engine.engine import Approved, Caller, Snapshot, StepUp, Wrong
from watchword.faces.base import FaceUnavailableError, FaceUnusableError
from watchword.methods.keyring import Keyring, Tampered
from watchword.methods.registry import Methods
from watchword.methods.signature import UnfitKeyError
from watchword.store.base import StoreUnavailableError

ada, grace = Caller(ADA), Caller(GRACE)
K = CredentialKind
FACE, OTHER_FACE = b"a face of ada's", b"a face of grace's"
OTHER_NUMBER = "+447700900123"
FINGERPRINTS = [f"device {number}" for number in range(4)]


@pytest.fixture
def world() -> World:
    """Nobody has anything; there is a matcher."""
    return make_world(faces=Faces())


def faces_of(world: World) -> Faces:
    assert world.faces is not None
    return world.faces


async def stepped_up(world: World, action: Action = STATEMENT, caller: Caller = ada) -> str:
    issued = await world.engine.protect(caller, action, PAY if action.risk is Risk.HIGH else READ)
    assert isinstance(issued, StepUp), issued
    return issued.ott


def ids(user: UserSecurity) -> list[str]:
    return [credential.id for credential in user.credentials]


ADDITIONS: dict[CredentialKind, Callable[[World, str | None], Awaitable[object]]] = {
    K.PIN: lambda world, by: world.engine.enrolment.add_pin(ADA, PIN, application=by),
    K.PHONE: lambda world, by: world.engine.enrolment.add_phone(ADA, NUMBER, application=by),
    K.DEVICE_FINGERPRINT: lambda world, by: world.engine.enrolment.add_device_fingerprint(
        ADA, FINGERPRINT, application=by
    ),
    K.FACE_MAP: lambda world, by: world.engine.enrolment.add_face_map(ADA, FACE, application=by),
    K.PUBLIC_KEY: lambda world, by: world.engine.enrolment.add_public_key(ADA, public_pem(), application=by),
}


# --- adding and removing ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ADDITIONS)
@pytest.mark.parametrize("application", [None, "acme"])
async def test_what_is_enrolled_is_stored_and_can_be_removed(
    world: World, kind: CredentialKind, application: str | None
) -> None:
    added = await ADDITIONS[kind](world, application)
    user = await world.user()
    assert user.credentials == (added,)
    assert user.credentials[0].enrolled_at == NOW
    assert await world.engine.enrolment.user(ADA) == user
    removed = await world.engine.enrolment.remove(ADA, kind, ids(user)[0], application=application)
    assert removed is None
    assert (await world.user()).credentials == ()
    again = await world.engine.enrolment.remove(ADA, kind, application=application)
    assert again == Refusal(Reason.NOT_SET_UP)
    assert await world.event_names() == ["credentials.changed"] * 2


@pytest.mark.parametrize("kind", ADDITIONS)
async def test_the_same_once_more_is_refused(world: World, kind: CredentialKind) -> None:
    await ADDITIONS[kind](world, None)
    before = await world.user()
    refusal = await ADDITIONS[kind](world, None)
    assert refusal == Refusal(Reason.TAKEN if kind is K.PHONE else Reason.ALREADY_ENROLLED)
    assert await world.user() == before


@pytest.mark.parametrize("kind", ADDITIONS)
async def test_who_is_locked_changes_nothing_and_an_application_does(
    world: World, kind: CredentialKind
) -> None:
    await world.enrol(ADA, enrolled_fingerprint(fingerprint="there", id="there"))
    ott = await stepped_up(world)
    for _ in range(5):
        await world.engine.verify(ada, ott, Method.PARTNER_DEVICE_FINGERPRINT, "wrong")
    locked = Refusal(Reason.LOCKED, retry_after=900)
    before = await world.user()
    assert await ADDITIONS[kind](world, None) == locked
    assert await world.engine.enrolment.can_add(ADA, kind) == locked
    assert await world.engine.enrolment.remove(ADA, K.DEVICE_FINGERPRINT, "there") == locked
    assert await world.user() == before
    assert faces_of(world).kept == [], "a face that cannot be enrolled never comes to the matcher"
    added = await ADDITIONS[kind](world, "acme")
    assert not isinstance(added, Refusal)
    assert (await world.user()).attempts == before.attempts


async def test_the_fourth_fingerprint_and_the_sixth_key_are_too_many(world: World) -> None:
    enrolment = world.engine.enrolment
    for fingerprint in FINGERPRINTS[:3]:
        assert await enrolment.can_add(ADA, K.DEVICE_FINGERPRINT) is None
        await enrolment.add_device_fingerprint(ADA, fingerprint)
    assert await enrolment.add_device_fingerprint(ADA, FINGERPRINTS[3]) == Refusal(Reason.TOO_MANY)
    assert await enrolment.can_add(ADA, K.DEVICE_FINGERPRINT) == Refusal(Reason.TOO_MANY)
    again = await enrolment.add_device_fingerprint(ADA, FINGERPRINTS[1])
    assert again == Refusal(Reason.ALREADY_ENROLLED)
    assert await enrolment.remove(ADA, K.DEVICE_FINGERPRINT, ids(await world.user())[1]) is None
    assert not isinstance(await enrolment.add_device_fingerprint(ADA, FINGERPRINTS[3]), Refusal)
    limited = make_world(limits=Limits(public_keys=1))
    assert isinstance(await limited.engine.enrolment.add_public_key(ADA, public_pem()), PublicKey)
    more = await limited.engine.enrolment.add_public_key(ADA, public_pem(1))
    assert more == Refusal(Reason.TOO_MANY)


async def test_what_is_no_key_is_refused_before_anything_is_looked_up(world: World) -> None:
    with pytest.raises(UnfitKeyError):
        await world.engine.enrolment.add_public_key(ADA, "no key")
    assert await world.event_names() == []


async def test_a_new_credential_is_answered_with_and_an_old_one_no_longer(world: World) -> None:
    enrolment = world.engine.enrolment
    await enrolment.add_device_fingerprint(ADA, FINGERPRINT)
    old = await stepped_up(world)
    pin = await enrolment.add_pin(ADA, PIN)
    assert isinstance(pin, Pin)
    ott = await stepped_up(world)
    method = Method.PARTNER_DEVICE_FINGERPRINT
    assert await world.engine.verify(ada, old, method, FINGERPRINT) == Refusal(Reason.REVOKED)
    assert await world.engine.verify(ada, ott, Method.PIN, "0000") == Wrong(Method.PIN, 4)
    assert isinstance(await world.engine.verify(ada, ott, Method.PIN, PIN), Snapshot)
    assert await enrolment.remove(ADA, K.PIN) is None
    assert isinstance(await world.engine.protect(ada, STATEMENT, READ), StepUp), "the session is over"
    assert await enrolment.remove(ADA, K.DEVICE_FINGERPRINT, "unknown") == Refusal(Reason.NOT_SET_UP)


@pytest.mark.parametrize("conflicts", [1, 3])
@pytest.mark.parametrize("kind", ADDITIONS)
async def test_who_was_not_the_fastest_enrols_all_the_same_and_once(
    kind: CredentialKind, conflicts: int
) -> None:
    store = Conflicting()
    world = make_world(store=store, faces=Faces())
    store.conflicts = conflicts
    assert not isinstance(await ADDITIONS[kind](world, None), Refusal)
    assert store.refused == conflicts
    assert len((await world.user()).credentials) == 1


# --- phone numbers ----------------------------------------------------------------------------


async def test_a_number_is_one_users_until_he_gives_it_back(world: World) -> None:
    enrolment = world.engine.enrolment
    mine = await enrolment.add_phone(ADA, NUMBER)
    assert isinstance(mine, Phone)
    assert mine.id.isdecimal()
    assert 0 < int(mine.id) <= 2**53
    assert enrolment.number(ADA, mine) == NUMBER
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert await enrolment.add_phone(ADA, OTHER_NUMBER) == Refusal(Reason.ALREADY_ENROLLED)
    assert isinstance(await enrolment.add_phone(GRACE, OTHER_NUMBER), Phone)
    assert await enrolment.remove(ADA, K.PHONE, mine.id) is None
    theirs = await enrolment.add_phone(GRACE, NUMBER)
    assert theirs == Refusal(Reason.ALREADY_ENROLLED)
    assert await enrolment.remove(GRACE, K.PHONE) is None
    assert isinstance(await enrolment.add_phone(GRACE, NUMBER), Phone)
    assert await enrolment.add_phone(ADA, NUMBER) == Refusal(Reason.TAKEN)


async def test_a_number_in_anothers_place_keeps_the_id_and_gives_the_old_one_back(world: World) -> None:
    enrolment = world.engine.enrolment
    mine = await enrolment.add_phone(ADA, NUMBER)
    assert isinstance(mine, Phone)
    world.clock.advance(60)
    put = await enrolment.replace_phone(ADA, mine.id, OTHER_NUMBER)
    assert isinstance(put, Phone)
    assert (put.id, put.enrolled_at) == (mine.id, after(NOW, 60))
    assert enrolment.number(ADA, put) == OTHER_NUMBER
    assert (await world.user()).credentials == (put,)
    assert await enrolment.add_phone(GRACE, OTHER_NUMBER) == Refusal(Reason.TAKEN)
    theirs = await enrolment.add_phone(GRACE, NUMBER)
    assert isinstance(theirs, Phone)
    assert await enrolment.replace_phone(ADA, mine.id, NUMBER) == Refusal(Reason.TAKEN)
    assert await enrolment.replace_phone(ADA, "7", "+4915700000000") == Refusal(Reason.NOT_SET_UP)
    assert isinstance(await enrolment.replace_phone(ADA, mine.id, OTHER_NUMBER), Phone), "the same again"
    assert await enrolment.add_phone(GRACE, OTHER_NUMBER) == Refusal(Reason.TAKEN)


async def test_the_number_of_a_disabled_phone_is_given_back_by_the_one_that_takes_its_place(
    world: World,
) -> None:
    enrolment = world.engine.enrolment
    await enrolment.add_phone(ADA, NUMBER)
    await disabled(world, K.PHONE)
    assert isinstance(await enrolment.add_phone(ADA, OTHER_NUMBER), Phone)
    assert isinstance(await enrolment.add_phone(GRACE, NUMBER), Phone)


async def test_a_disabled_number_may_be_enrolled_again_by_its_own_user_only(world: World) -> None:
    enrolment = world.engine.enrolment
    await enrolment.add_phone(ADA, NUMBER)
    await disabled(world, K.PHONE)
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert isinstance(await enrolment.add_phone(ADA, NUMBER), Phone)
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert len((await world.user()).credentials) == 1


async def disabled(world: World, kind: CredentialKind) -> None:
    """Disable what Ada has of *kind*, as her hard cap does."""
    user = await world.user()
    await world.engine.enrolment.set(ADA, disable(user.credentials, [kind]))


OLD_RING = Keyring({1: bytes(range(32))}, active=1)
NEW_RING = Keyring({1: bytes(range(32)), 2: bytes([7] * 32)}, active=2)


@pytest.mark.attack(182)
async def test_a_number_that_was_claimed_under_an_old_key_is_seen_under_the_new_one() -> None:
    before = make_world(methods=WatchedMethods(OLD_RING))
    mine = await before.engine.enrolment.add_phone(ADA, NUMBER)
    assert isinstance(mine, Phone)
    rotated = make_world(store=before.store, methods=WatchedMethods(NEW_RING))
    enrolment = rotated.engine.enrolment
    assert enrolment.number(ADA, mine) == NUMBER
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert await enrolment.add_phone(ADA, NUMBER) == Refusal(Reason.TAKEN)
    theirs = await enrolment.add_phone(GRACE, OTHER_NUMBER)
    assert isinstance(theirs, Phone)
    assert await enrolment.replace_phone(GRACE, theirs.id, NUMBER) == Refusal(Reason.TAKEN)
    # Put again in its own place it is claimed under the new key, and let go under the old one.
    put = await enrolment.replace_phone(ADA, mine.id, NUMBER)
    assert isinstance(put, Phone)
    assert put.digest[0] == 2
    assert await enrolment.replace_phone(GRACE, theirs.id, NUMBER) == Refusal(Reason.TAKEN)
    assert await enrolment.remove(ADA, K.PHONE) is None
    assert isinstance(await enrolment.replace_phone(GRACE, theirs.id, NUMBER), Phone)


@pytest.mark.attack(182)
async def test_a_number_that_was_claimed_under_an_old_key_is_given_back_under_it() -> None:
    before = make_world(methods=WatchedMethods(OLD_RING))
    await before.engine.enrolment.add_phone(ADA, NUMBER)
    rotated = make_world(store=before.store, methods=WatchedMethods(NEW_RING))
    assert await rotated.engine.enrolment.remove(ADA, K.PHONE) is None
    assert isinstance(await rotated.engine.enrolment.add_phone(GRACE, NUMBER), Phone)


@pytest.mark.attack(182)
async def test_a_fingerprint_under_an_old_key_is_still_the_same_one() -> None:
    before = make_world(methods=WatchedMethods(OLD_RING))
    await before.engine.enrolment.add_device_fingerprint(ADA, FINGERPRINT)
    rotated = make_world(store=before.store, methods=WatchedMethods(NEW_RING))
    again = await rotated.engine.enrolment.add_device_fingerprint(ADA, FINGERPRINT)
    assert again == Refusal(Reason.ALREADY_ENROLLED)


# --- all at once, as the sandbox does ---------------------------------------------------------


async def test_set_shares_numbers_and_gives_back_only_what_was_its_own(world: World) -> None:
    enrolment, mobile = world.engine.enrolment, "+4915700000000"
    await world.enrol(ADA, enrolled_phone(ADA))
    await world.enrol(GRACE, enrolled_phone(GRACE))
    assert await enrolment.add_phone(ADA, mobile) == Refusal(Reason.ALREADY_ENROLLED)
    # Grace shares Ada's number; what she puts down is still Ada's.
    await world.enrol(GRACE)
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    # And what Ada puts down is free.
    await world.enrol(ADA, enrolled_pin())
    assert isinstance(await enrolment.add_phone(GRACE, NUMBER), Phone)
    assert await enrolment.remove(GRACE, K.PHONE) is None


async def test_whoever_shares_a_number_removes_or_replaces_it_without_letting_it_go(world: World) -> None:
    enrolment = world.engine.enrolment
    await world.enrol(ADA, enrolled_phone(ADA))
    for _ in range(2):
        await world.enrol(GRACE, enrolled_phone(GRACE))
        assert await enrolment.remove(GRACE, K.PHONE, "phone") is None
        assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    await world.enrol(GRACE, enrolled_phone(GRACE))
    assert isinstance(await enrolment.replace_phone(GRACE, "phone", OTHER_NUMBER), Phone)
    assert await enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)
    assert await enrolment.add_phone(ADA, OTHER_NUMBER) == Refusal(Reason.TAKEN)


async def test_set_once_more_changes_nobodys_numbers(world: World) -> None:
    for _ in range(3):
        await world.enrol(ADA, enrolled_phone(ADA))
    assert await world.engine.enrolment.add_phone(GRACE, NUMBER) == Refusal(Reason.TAKEN)


# --- faces ------------------------------------------------------------------------------------


async def clear_face(world: World, ott: str, face: bytes) -> object:
    return await world.engine.verify(ada, ott, Method.FACE_MAP, face)


async def test_the_face_that_was_enrolled_passes_and_another_is_a_wrong_answer(world: World) -> None:
    assert isinstance(await world.engine.enrolment.add_face_map(ADA, FACE), FaceMap)
    ott = await stepped_up(world)
    assert await clear_face(world, ott, OTHER_FACE) == Wrong(Method.FACE_MAP, 4)
    assert isinstance(await clear_face(world, ott, FACE), Snapshot)


async def test_a_face_map_without_a_face_is_refused_at_enrolment_and_wrong_at_a_match(world: World) -> None:
    with pytest.raises(FaceUnusableError):
        await world.engine.enrolment.add_face_map(ADA, b"unusable")
    assert await world.event_names() == []
    await world.engine.enrolment.add_face_map(ADA, FACE)
    ott = await stepped_up(world)
    assert await clear_face(world, ott, b"unusable") == Wrong(Method.FACE_MAP, 4)
    assert (await world.user()).attempts.failures.inherence == 1


async def test_while_the_matcher_is_away_nothing_is_enrolled_and_nothing_counted(world: World) -> None:
    faces = faces_of(world)
    await world.engine.enrolment.add_face_map(ADA, FACE)
    ott = await stepped_up(world)
    faces.down, before = True, await world.user()
    for answer in (FACE, OTHER_FACE, b"unusable"):
        with pytest.raises(FaceUnavailableError):
            await clear_face(world, ott, answer)
    assert await world.user() == before
    with pytest.raises(FaceUnavailableError):
        await world.engine.enrolment.add_face_map(GRACE, OTHER_FACE)
    faces.down = False
    assert isinstance(await clear_face(world, ott, FACE), Snapshot)


async def test_a_locked_user_or_a_stranger_never_comes_to_the_matcher(world: World) -> None:
    await world.engine.enrolment.add_face_map(ADA, FACE)
    ott = await stepped_up(world)
    stranger = await world.engine.verify(grace, ott, Method.FACE_MAP, FACE)
    assert stranger == Refusal(Reason.UNKNOWN)
    for _ in range(5):
        await clear_face(world, ott, OTHER_FACE)
    assert faces_of(world).matched == 5
    assert await clear_face(world, ott, FACE) == Refusal(Reason.LOCKED, retry_after=900)
    assert faces_of(world).matched == 5


async def test_without_a_matcher_no_face_is_enrolled_offered_or_matched() -> None:
    with_faces = make_world(faces=Faces())
    await with_faces.engine.enrolment.add_face_map(ADA, FACE)
    ott = await stepped_up(with_faces)
    without = make_world(store=with_faces.store)
    with pytest.raises(FaceUnavailableError):
        await without.engine.enrolment.add_face_map(GRACE, FACE)
    assert isinstance(await without.engine.protect(ada, STATEMENT, READ), Refusal)
    # A token from before cannot be answered now, and it is not the user who failed.
    with pytest.raises(FaceUnavailableError):
        await without.engine.verify(ada, ott, Method.FACE_MAP, FACE)
    assert (await without.user()).attempts == Attempts()
    assert await without.engine.enrolment.remove(ADA, K.FACE_MAP) is None


async def test_the_matcher_forgets_what_is_removed_replaced_or_made_room(world: World) -> None:
    enrolment, faces = world.engine.enrolment, faces_of(world)
    await enrolment.add_face_map(ADA, FACE)
    assert await enrolment.remove(ADA, K.FACE_MAP) is None
    assert faces.kept == []
    await enrolment.add_face_map(ADA, FACE)
    await disabled(world, K.FACE_MAP)
    assert len(faces.kept) == 1, "a disabled one stays on record"
    await enrolment.add_face_map(ADA, OTHER_FACE)
    assert [template.partition(b"/")[2] for template in faces.kept] == [OTHER_FACE]
    await disabled(world, K.FACE_MAP)
    assert await enrolment.remove(ADA, K.FACE_MAP) is None
    assert faces.kept == []
    await enrolment.add_face_map(ADA, FACE)
    await world.enrol(ADA, enrolled_pin())
    assert faces.kept == []


async def test_another_change_leaves_the_face_with_the_matcher(world: World) -> None:
    await world.engine.enrolment.add_face_map(ADA, FACE)
    await world.engine.enrolment.add_pin(ADA, PIN)
    await world.engine.enrolment.remove(ADA, K.PIN)
    assert len(faces_of(world).kept) == 1
    assert isinstance(await clear_face(world, await stepped_up(world), FACE), Snapshot)


async def test_what_the_matcher_cannot_be_told_is_removed_all_the_same(world: World) -> None:
    faces = faces_of(world)
    await world.engine.enrolment.add_face_map(ADA, FACE)
    faces.down = True
    assert await world.engine.enrolment.remove(ADA, K.FACE_MAP) is None
    assert (await world.user()).credentials == ()


@pytest.mark.attack(182)
async def test_a_face_that_no_key_opens_any_more_can_be_removed() -> None:
    world = make_world(faces=Faces())
    await world.engine.enrolment.add_face_map(ADA, FACE)
    other = Methods(Keyring({9: bytes(32)}, active=9))
    keyless = make_world(store=world.store, faces=Faces(), methods=WatchedMethods(other.keyring))
    assert await keyless.engine.enrolment.remove(ADA, K.FACE_MAP) is None
    assert (await world.user()).credentials == ()


async def test_an_addition_that_comes_to_nothing_is_forgotten_unless_nobody_knows_whether_it_did() -> None:
    for store, error, kept in (
        (Conflicting(), StoreContendedError, 0),
        (Unavailable(), StoreUnavailableError, 1),
    ):
        world = make_world(store=store, faces=Faces())
        if isinstance(store, Conflicting):
            store.conflicts = 1000
        else:
            store.down = store.loses_replies = True
        with pytest.raises(error):
            await world.engine.enrolment.add_face_map(ADA, FACE)
        assert len(faces_of(world).kept) == kept
        assert len((await world.user()).credentials) == kept


async def test_a_face_that_another_process_was_faster_with_is_forgotten() -> None:
    class Slow(Faces):
        async def enrol(self, reference: str, face_map: bytes) -> bytes:
            template = await super().enrol(reference, face_map)
            assert isinstance(await other.engine.enrolment.add_face_map(ADA, FACE), FaceMap)
            return template

    slow = Slow()
    world = make_world(faces=slow)
    other = make_world(store=world.store, faces=Faces())
    refusal = await world.engine.enrolment.add_face_map(ADA, OTHER_FACE)
    assert refusal == Refusal(Reason.ALREADY_ENROLLED)
    assert slow.kept == []
    assert len(faces_of(other).kept) == len((await world.user()).credentials) == 1


@pytest.mark.attack(179)
async def test_a_face_that_was_moved_to_another_user_or_row_does_not_open(world: World) -> None:
    mine = await world.engine.enrolment.add_face_map(ADA, FACE)
    theirs = await world.engine.enrolment.add_face_map(GRACE, OTHER_FACE)
    assert isinstance(mine, FaceMap)
    assert isinstance(theirs, FaceMap)
    for moved in (theirs, replace(theirs, id=mine.id), replace(mine, id="another row")):
        await world.enrol(ADA, moved)
        ott = await stepped_up(world)
        with pytest.raises(Tampered):
            await clear_face(world, ott, OTHER_FACE)
        assert (await world.user()).attempts.consecutive == 0


# --- a new credential counts for low risk only ------------------------------------------------

COOL = 3600


@pytest.fixture
async def cool() -> World:
    """Ada has a PIN and a device for a long time, in a world where new ones cool down."""
    world = make_world(limits=Limits(high_risk_after_seconds=COOL, tokens_live=100), faces=Faces())
    await world.enrol(ADA, enrolled_pin(), enrolled_fingerprint())
    world.clock.advance(COOL)
    return world


DEVICE = Method.PARTNER_DEVICE_FINGERPRINT


async def test_a_new_device_beside_an_old_one_passes_at_low_risk_only(cool: World) -> None:
    await cool.engine.enrolment.add_device_fingerprint(ADA, "new")
    low, high = await stepped_up(cool), await stepped_up(cool, PAYMENT)
    assert await cool.engine.verify(ada, high, DEVICE, "new") == Wrong(DEVICE, 4)
    assert isinstance(await cool.engine.verify(ada, low, DEVICE, "new"), Snapshot)
    assert isinstance(await cool.engine.verify(ada, high, DEVICE, FINGERPRINT), Snapshot)


async def test_it_counts_from_the_millisecond_in_which_its_time_is_over(cool: World) -> None:
    await cool.engine.enrolment.add_device_fingerprint(ADA, "new")
    cool.clock.at = Instant(after(cool.clock.at, COOL) - 1)
    ott = await stepped_up(cool, PAYMENT)
    assert isinstance(await cool.engine.verify(ada, ott, DEVICE, "new"), Wrong)
    cool.clock.advance(0.001)
    assert isinstance(await cool.engine.verify(ada, ott, DEVICE, "new"), Snapshot)


@pytest.mark.parametrize("kind", [K.PIN, K.FACE_MAP, K.PHONE])
async def test_nothing_new_is_offered_at_high_risk(cool: World, kind: CredentialKind) -> None:
    await cool.enrol(ADA, enrolled_fingerprint())
    await ADDITIONS[kind](cool, None)
    refused = await cool.engine.protect(ada, PAYMENT, PAY)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOT_ENROLLED
    assert isinstance(await cool.engine.protect(ada, STATEMENT, READ), StepUp)
    cool.clock.advance(COOL)
    both = await cool.engine.protect(ada, PAYMENT, PAY)
    assert isinstance(both, Refusal if kind is K.PHONE else StepUp), "a phone is of the device's own factor"


async def test_a_clock_that_was_set_back_makes_no_new_face_count(cool: World) -> None:
    await cool.engine.enrolment.add_face_map(ADA, FACE)
    cool.clock.advance(COOL)
    ott = await stepped_up(cool, PAYMENT)
    cool.clock.advance(-1)
    assert await cool.engine.verify(ada, ott, Method.FACE_MAP, FACE) == Wrong(Method.FACE_MAP, 4)
    assert faces_of(cool).matched == 0


async def test_a_replaced_number_cools_down_anew(cool: World) -> None:
    await cool.enrol(ADA, enrolled_pin(), enrolled_phone())
    assert isinstance(await cool.engine.protect(ada, PAYMENT, PAY), StepUp)
    await cool.engine.enrolment.replace_phone(ADA, "phone", OTHER_NUMBER)
    assert isinstance(await cool.engine.protect(ada, PAYMENT, PAY), Refusal)
    cool.clock.advance(COOL)
    assert isinstance(await cool.engine.protect(ada, PAYMENT, PAY), StepUp)


async def test_a_change_of_credentials_is_confirmed_with_old_ones_only(cool: World) -> None:
    await cool.engine.enrolment.add_device_fingerprint(ADA, "new")
    change = await cool.engine.protect(ada, CREDENTIAL_CHANGE, PAY)
    assert isinstance(change, StepUp)
    assert isinstance(await cool.engine.verify(ada, change.ott, DEVICE, "new"), Wrong)


# --- what a change asks for -------------------------------------------------------------------


async def test_no_session_lets_a_change_of_credentials_pass(world: World) -> None:
    await world.enrol(ADA, enrolled_fingerprint())
    ott = await stepped_up(world)
    await world.engine.verify(ada, ott, DEVICE, FINGERPRINT)
    assert isinstance(await world.engine.protect(ada, STATEMENT, READ), Approved), "a session is open"
    asked = await world.engine.enrolment.step_up(ADA, adds=None, when=StepUpFor.TWO_FACTORS)
    assert asked is not None
    assert asked.risk is Risk.LOW
    answer = await world.engine.protect(ada, asked, PAY)
    assert isinstance(answer, StepUp), "what guards the way to change it is asked for each time"
    await world.engine.verify(ada, answer.ott, DEVICE, FINGERPRINT)
    assert isinstance(await world.engine.protect(ada, asked, PAY, ott=answer.ott), Approved)


async def test_a_confirmation_is_good_for_the_change_it_was_given_for(world: World) -> None:
    await world.enrol(ADA, enrolled_fingerprint())
    asked = await world.engine.enrolment.step_up(ADA, adds=None, when=StepUpFor.TWO_FACTORS)
    assert asked is not None
    answer = await world.engine.protect(ada, asked, PAY)
    assert isinstance(answer, StepUp)
    await world.engine.verify(ada, answer.ott, DEVICE, FINGERPRINT)
    assert isinstance(await world.engine.protect(ada, asked, READ, ott=answer.ott), StepUp)
    assert isinstance(await world.engine.protect(ada, asked, PAY, ott=answer.ott), StepUp), "and void now"


@pytest.mark.attack(20)
async def test_a_disabled_second_factor_does_not_open_the_way_to_ones_own(world: World) -> None:
    await world.enrol(ADA, *disable([enrolled_pin()], [K.PIN]), enrolled_fingerprint())
    asked = await world.engine.enrolment.step_up(ADA, adds=K.PIN, when=StepUpFor.TWO_FACTORS)
    assert asked is CREDENTIAL_CHANGE
    refused = await world.engine.protect(ada, asked, PAY)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOT_ENROLLED


@pytest.mark.attack(20)
async def test_ten_wrong_pins_do_not_lead_to_a_pin_of_whoever_tried_them() -> None:
    clock = FixedClock()
    world = make_world(clock=clock, faces=Faces())
    await world.enrol(ADA, enrolled_pin())
    for _ in range(2):
        ott = await stepped_up(world)
        for _ in range(5):
            await world.engine.verify(ada, ott, Method.PIN, "0000")
        clock.advance(901)
    assert [credential.disabled for credential in (await world.user()).credentials] == [True]
    for kind in (K.PIN, K.DEVICE_FINGERPRINT, K.FACE_MAP):
        asked = await world.engine.enrolment.step_up(ADA, adds=kind, when=StepUpFor.TWO_FACTORS)
        assert asked is not None, kind
        assert isinstance(await world.engine.protect(ada, asked, PAY), Refusal)
    # His application brings him back.
    assert isinstance(await world.engine.enrolment.add_pin(ADA, "4711", application="acme"), Pin)


async def test_an_addition_that_is_free_no_longer_begins_anew(world: World) -> None:
    enrolment, rule = world.engine.enrolment, StepUpFor.TWO_FACTORS
    await world.enrol(ADA, enrolled_phone())
    assert await enrolment.step_up(ADA, adds=K.PIN, when=rule) is None
    assert await enrolment.step_up(ADA, adds=K.FACE_MAP, when=rule) is None
    assert isinstance(await enrolment.add_pin(ADA, PIN, unasked=rule), Pin)
    with pytest.raises(StoreContendedError):
        await enrolment.add_face_map(ADA, FACE, unasked=rule)
    with pytest.raises(StoreContendedError):
        await enrolment.add_device_fingerprint(ADA, FINGERPRINT, unasked=rule)
    assert faces_of(world).kept == []
    assert len((await world.user()).credentials) == 2
    assert isinstance(await enrolment.add_face_map(ADA, FACE), FaceMap), "one that was confirmed goes on"


async def test_codes_go_to_the_number_that_was_enrolled(world: World) -> None:
    await world.engine.enrolment.add_phone(ADA, NUMBER)
    ott = await stepped_up(world)
    assert await world.engine.trigger(ada, ott, Method.SMS) == "*********8888"
    assert [message.to for message in world.outbox.messages] == [NUMBER]
    assert isinstance(await world.engine.verify(ada, ott, Method.SMS, CODE), Snapshot)
    assert (await world.user()).attempts == Attempts()
