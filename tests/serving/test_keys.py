"""Key files, and whether a ring is the one that a store was written with."""

import json
import stat
from pathlib import Path

import pytest

from tests.factories import (
    ADA,
    GRACE,
    KEYRING,
    NOW,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.domain.credential import DeviceFingerprint, Pin
from watchword.domain.user import UserId
from watchword.methods.keyring import Keyring, Purpose
from watchword.serving.in_use import going_by
from watchword.serving.keys import (
    ForeignKeysError,
    UnusableKeysError,
    check_ring,
    new_key,
    new_key_file,
    read_key_file,
    read_keyring,
    write_private,
)

FOREIGN = Keyring({1: bytes(32)}, active=1)


async def world_with_ada() -> World:
    world = make_world()
    await world.enrol(ADA, enrolled_pin(), enrolled_phone(), enrolled_fingerprint())
    return world


async def test_a_store_opens_with_the_keys_that_it_was_written_with() -> None:
    world = await world_with_ada()
    await check_ring(world.store, KEYRING)


@pytest.mark.attack(182)
async def test_a_store_is_not_opened_with_the_keys_of_another_installation() -> None:
    world = await world_with_ada()
    with pytest.raises(ForeignKeysError, match="made with other keys"):
        await check_ring(world.store, FOREIGN)


@pytest.mark.attack(182)
async def test_a_ring_that_lost_a_key_too_early_names_it() -> None:
    world = await world_with_ada()
    with pytest.raises(ForeignKeysError, match=r"key 1 is not in the ring.*put it back"):
        await check_ring(world.store, Keyring({2: new_key()}, active=2))


@pytest.mark.attack(182)
async def test_a_ring_that_was_rotated_opens_what_its_old_key_made() -> None:
    world = await world_with_ada()
    await check_ring(world.store, Keyring({1: bytes(range(32)), 2: new_key()}, active=2))


async def test_a_store_in_which_nobody_enrolled_anything_fits_any_keys() -> None:
    world = make_world()
    await check_ring(world.store, FOREIGN)
    await world.enrol(ADA, only_digested())  # There is nothing to open.
    await check_ring(world.store, FOREIGN)
    await world.enrol(GRACE, enrolled_fingerprint(GRACE))
    with pytest.raises(ForeignKeysError):
        await check_ring(world.store, FOREIGN)


def only_digested() -> DeviceFingerprint:
    """Return a device as an earlier version left it."""
    digest = KEYRING.digest(Purpose.DEVICE_FINGERPRINT, str(ADA).encode(), b"a device")
    return DeviceFingerprint(id="device", sealed=digest, enrolled_at=NOW)


async def test_one_damaged_record_among_others_does_not_keep_a_server_from_starting() -> None:
    world = await world_with_ada()
    damaged = enrolled_pin(GRACE)
    await world.enrol(
        GRACE, Pin(id=damaged.id, sealed=damaged.sealed[:-1] + b"\0", enrolled_at=damaged.enrolled_at)
    )
    await check_ring(world.store, KEYRING)


async def test_people_who_left_are_passed_over() -> None:
    world = make_world()
    for number in range(1, 40):
        await world.enrol(UserId(number), enrolled_phone(UserId(number)))
        await world.enrol(UserId(number))
    await check_ring(world.store, FOREIGN)
    await world.enrol(ADA, enrolled_phone())
    with pytest.raises(ForeignKeysError):
        await check_ring(world.store, FOREIGN)


def test_a_fresh_key_file_makes_a_ring_and_no_two_are_alike(tmp_path: Path) -> None:
    file, other = tmp_path / "keys.json", tmp_path / "other.json"
    for each in (file, other):
        write_private(each, new_key_file())
    sealed = read_keyring(file).digest
    assert sealed is not None
    assert file.read_bytes() != other.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".json"] == []


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, b"content")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == b"content"


def test_a_private_file_replaces_nothing_and_follows_no_link(tmp_path: Path) -> None:
    victim, taken, leads, nowhere = (tmp_path / name for name in ("victim", "taken", "leads", "nowhere"))
    victim.write_bytes(b"victim")
    taken.write_bytes(b"mine")
    leads.symlink_to(victim)
    nowhere.symlink_to(tmp_path / "made")
    for file in (taken, leads, nowhere):
        with pytest.raises(FileExistsError):
            write_private(file, b"content")
    assert (victim.read_bytes(), taken.read_bytes()) == (b"victim", b"mine")
    assert {each.name for each in tmp_path.iterdir()} == {"victim", "taken", "leads", "nowhere"}


@pytest.mark.attack(109)
def test_what_was_planted_beside_it_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    for name in ("keys.new", ".keys.json", "keys.json.new"):
        (tmp_path / name).symlink_to(victim)
    write_private(tmp_path / "keys.json", b"content")
    assert victim.read_bytes() == b"victim"
    assert not (tmp_path / "keys.json").is_symlink()


@pytest.mark.parametrize(
    "content",
    [
        {"active": 1, "keys": {"1": "AAAA"}},
        {"active": 2, "keys": {"1": "A" * 43 + "="}},
        {"active": 256, "keys": {"256": "A" * 43 + "="}},
        {"active": -1, "keys": {"-1": "A" * 43 + "="}},
    ],
)
def test_a_file_that_makes_no_ring_is_refused_however_it_is_read(tmp_path: Path, content: object) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UnusableKeysError):
        read_key_file(file)
    with pytest.raises(UnusableKeysError):
        read_keyring(file)
    with pytest.raises(UnusableKeysError), going_by(file):
        pass
