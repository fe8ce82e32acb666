"""What applications tell us: their keys, and whom an issuer's subject stands for."""

import asyncio
from uuid import UUID

import pytest

from tests.engine.stores import Conflicting, OverStore, Unavailable
from tests.factories import ADA, NOW, FixedClock, ScriptedEntropy, World, enrolled_fingerprint, make_world
from watchword.domain.application import Application, ApplicationId, ClientKey, KeyScope
from watchword.domain.decision import Change, Reason, Refusal
from watchword.domain.instant import after
from watchword.domain.limits import Limits
from watchword.domain.owner import Owner
from watchword.domain.user import UserId
from watchword.engine.applications import subject_name
from watchword.engine.deciding import StoreContendedError
from watchword.engine.engine import Engine
from watchword.store.base import StoreUnavailableError

ACME, OTHER = ApplicationId("acme"), ApplicationId("other")
ISSUER = "https://issuer.example"
SIGNING = KeyScope.PAYLOAD_SIGNING


def key(name: str) -> ClientKey:
    return ClientKey(
        id=name,
        scope=SIGNING,
        algorithm="ES256",
        spki=name.encode(),
        valid_from=NOW,
        valid_till=after(NOW, 3600),
    )


def another_process(world: World) -> Engine:
    return Engine(
        store=world.store,
        clock=world.clock,
        entropy=world.entropy,
        methods=world.methods,
        delivery=world.outbox,
        limits=world.engine.limits,
    )


# --- keys -------------------------------------------------------------------------------------


async def test_a_key_is_found_by_its_application_alone_and_until_it_runs_out() -> None:
    world = make_world()
    applications = world.engine.applications
    for name in ("a", "b"):
        assert await applications.upload_key(ACME, key(name)) is None
    assert await applications.keys(ACME, SIGNING) == (key("b"), key("a"))
    assert await applications.keys(ACME, KeyScope.PAYLOAD_ENCRYPTION) == ()
    assert await applications.keys(OTHER, SIGNING) == ()
    world.clock.advance(3600)
    assert await applications.keys(ACME, SIGNING) == ()
    assert await world.event_names() == ["key.uploaded"] * 2


async def test_a_refused_upload_changes_nothing() -> None:
    world = make_world(limits=Limits(keys_per_application=1))
    applications = world.engine.applications
    await applications.upload_key(ACME, key("a"))
    assert await applications.upload_key(ACME, key("b")) == Refusal(Reason.TOO_MANY)
    assert await applications.keys(ACME, SIGNING) == (key("a"),)
    assert await applications.upload_key(OTHER, key("b")) is None


async def test_a_revoked_key_is_found_no_more_and_only_its_own_application_revokes_it() -> None:
    applications = make_world().engine.applications
    for name in ("a", "b"):
        await applications.upload_key(ACME, key(name))
    assert await applications.revoke_key(OTHER, "a") == Refusal(Reason.NOT_SET_UP)
    assert await applications.revoke_key(ACME, "a") is None
    assert await applications.revoke_key(ACME, "a") == Refusal(Reason.NOT_SET_UP)
    assert await applications.keys(ACME, SIGNING) == (key("b"),)


async def test_uploads_at_once_are_all_kept_and_no_more_than_are_allowed() -> None:
    world = make_world(limits=Limits(keys_per_application=3))
    engines = [world.engine, another_process(world)]
    answers = await asyncio.gather(
        *(engines[number % 2].applications.upload_key(ACME, key(f"{number}")) for number in range(6))
    )
    assert answers.count(None) == 3
    assert answers.count(Refusal(Reason.TOO_MANY)) == 3
    assert len(await world.engine.applications.keys(ACME, SIGNING)) == 3


# --- subjects ---------------------------------------------------------------------------------


async def test_a_subject_is_one_user_for_ever_and_two_subjects_are_two() -> None:
    world = make_world()
    applications = world.engine.applications
    first = await applications.user_id(ISSUER, "ada")
    assert 0 < first <= 2**53 - 1
    assert await applications.user_id(ISSUER, "ada") == first
    others = {
        await applications.user_id(ISSUER, "grace"),
        await applications.user_id("https://other.example", "ada"),
        await applications.user_id(ISSUER + "a", "da"),
    }
    assert len({first, *others}) == 4
    linked = [event for _, event in await world.store.events()]
    assert [event.name.value for event in linked] == ["subject.linked"] * 4
    assert linked[0].user_id == first
    assert not linked[0].details, "whose subject it is stands nowhere in the clear"


async def test_a_user_of_a_subject_enrols_as_anybody() -> None:
    world = make_world()
    user_id = await world.engine.applications.user_id(ISSUER, "ada")
    await world.enrol(user_id, enrolled_fingerprint(user_id))
    assert await world.engine.applications.user_id(ISSUER, "ada") == user_id
    assert len((await world.user(user_id)).credentials) == 1


@pytest.mark.parametrize("at_once", [2, 16])
async def test_processes_that_meet_a_new_subject_at_once_come_to_one_user(at_once: int) -> None:
    world = make_world()
    engines = [another_process(world) for _ in range(at_once)]
    found = await asyncio.gather(*(engine.applications.user_id(ISSUER, "ada") for engine in engines))
    assert len(set(found)) == 1
    assert await world.event_names() == ["subject.linked"]


class Drawing(ScriptedEntropy):
    """Draws these ids, one after the other."""

    def __init__(self, *ids: int) -> None:
        super().__init__()
        self._ids = list(ids)

    def uuid(self) -> str:
        return str(UUID(int=((self._ids.pop(0) - 1) << 80) | 1))


async def test_an_id_that_somebody_has_is_drawn_again() -> None:
    world = make_world(entropy=Drawing(ADA, ADA, 77))
    await world.enrol(ADA, enrolled_fingerprint())
    before = await world.user()
    assert await world.engine.applications.user_id(ISSUER, "somebody") == UserId(77)
    assert await world.user() == before, "Ada is nobody else's"


class TakenOver(OverStore):
    """Another server takes over as something is read first, and knows something else."""

    world: World
    applied: Change | None

    async def owner(self, owner_id: bytes) -> Owner | None:
        found = await super().owner(owner_id)
        await self._take_over()
        return found

    async def application(self, application_id: ApplicationId) -> Application | None:
        found = await super().application(application_id)
        await self._take_over()
        return found

    async def _take_over(self) -> None:
        change, self.applied = self.applied, None
        if change is not None:
            for table in (self.inner._owners, self.inner._users, self.inner._applications):  # type: ignore[attr-defined] # noqa: SLF001 - what a failover loses.
                table.clear()
            assert await self.inner.commit(change)
            self.world.engine.decider.recent.begin_anew()


@pytest.mark.attack(158)
async def test_a_key_that_was_added_before_another_server_took_over_is_added_to_what_that_one_has() -> None:
    """Though it is of the same version there."""
    store = TakenOver()
    store.world = world = make_world(store=store)
    store.applied = None
    assert await world.engine.applications.upload_key(ACME, key("lost")) is None
    store.applied = Change(application=Application(id=ACME, version=1, keys=(key("kept"),)))
    assert await world.engine.applications.upload_key(ACME, key("new")) is None
    assert {each.id for each in await world.engine.applications.keys(ACME, SIGNING)} == {"kept", "new"}


@pytest.mark.attack(158)
async def test_a_subject_that_was_looked_up_before_another_server_took_over_is_looked_up_there() -> None:
    """Though what is given back has the same version there, and is somebody's else."""
    store = TakenOver()
    store.world = world = make_world(store=store)
    name = subject_name(ISSUER, "ada")
    given_back = Owner(id=name).taken(None)
    assert await store.commit(Change(owners=(given_back,)))
    store.applied = Change(owners=(Owner(id=name).taken(UserId(77)),))
    assert await world.engine.applications.user_id(ISSUER, "ada") == UserId(77)
    assert await store.owner(name) == Owner(id=name).taken(UserId(77))


async def test_who_finds_no_free_id_is_told_to_come_back_and_nothing_is_stored() -> None:
    world = make_world(entropy=Drawing(*[ADA] * 100))
    await world.enrol(ADA, enrolled_fingerprint())
    with pytest.raises(StoreContendedError):
        await world.engine.applications.user_id(ISSUER, "somebody")
    assert await world.store.owner(subject_name(ISSUER, "somebody")) is None


async def test_conflicts_without_end_are_given_up() -> None:
    store = Conflicting()
    world = make_world(store=store)
    store.conflicts = 1000
    with pytest.raises(StoreContendedError):
        await world.engine.applications.upload_key(ACME, key("a"))
    with pytest.raises(StoreContendedError):
        await world.engine.applications.user_id(ISSUER, "ada")
    assert store.refused < 100
    assert await world.event_names() == []


async def test_a_lost_reply_is_made_good_by_asking_again() -> None:
    store = Unavailable()
    world = make_world(store=store, clock=FixedClock())
    store.down = store.loses_replies = True
    with pytest.raises(StoreUnavailableError):
        await world.engine.applications.user_id(ISSUER, "ada")
    store.down = False
    owner = await world.store.owner(subject_name(ISSUER, "ada"))
    assert owner is not None
    assert await world.engine.applications.user_id(ISSUER, "ada") == owner.user_id


def test_a_subject_is_named_by_a_digest_in_which_nothing_runs_together() -> None:
    assert len({subject_name(*pair) for pair in (("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""))}) == 4
    assert b"ada" not in subject_name(ISSUER, "ada")
