"""The sandbox's matcher: the same bytes match, anything else does not."""

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from watchword.faces.base import FaceMatcher, FaceUnavailableError, FaceUnusableError
from watchword.sandbox.faces import LEAST_BYTES, SandboxFaces

FACE = b"the face of ada lovelace"


@pytest.fixture
def faces() -> SandboxFaces:
    return SandboxFaces()


async def test_the_same_bytes_match_and_one_bit_less_does_not(faces: SandboxFaces) -> None:
    matcher: FaceMatcher = faces
    template = await matcher.enrol("ref", FACE)
    assert await matcher.match(template, FACE)
    for number in range(len(FACE)):
        changed = bytearray(FACE)
        changed[number] ^= 1
        assert not await matcher.match(template, bytes(changed))
    assert not await matcher.match(template, FACE + b"\0")


async def test_a_template_outlives_the_process_that_made_it(faces: SandboxFaces) -> None:
    template = await faces.enrol("ref", FACE)
    assert await SandboxFaces().match(template, FACE)


@pytest.mark.parametrize("face_map", [b"", b"x" * (LEAST_BYTES - 1), b"unusable", b"unusable" + FACE])
async def test_what_holds_no_usable_face_is_neither_enrolled_nor_matched(
    faces: SandboxFaces, face_map: bytes
) -> None:
    template = await faces.enrol("ref", FACE)
    with pytest.raises(FaceUnusableError):
        await faces.enrol("ref", face_map)
    with pytest.raises(FaceUnusableError):
        await faces.match(template, face_map)


async def test_the_shortest_face_is_one(faces: SandboxFaces) -> None:
    face = b"x" * LEAST_BYTES
    assert await faces.match(await faces.enrol("ref", face), face)


async def test_a_template_of_another_matcher_is_no_answer(faces: SandboxFaces) -> None:
    with pytest.raises(FaceUnavailableError):
        await faces.match(b"3d\x01ref", FACE)


async def test_what_is_forgotten_was_never_kept(faces: SandboxFaces) -> None:
    template = await faces.enrol("ref", FACE)
    await faces.forget(template)
    assert await faces.match(template, FACE)


def test_its_key_is_one_and_stays_the_same_for_the_process(faces: SandboxFaces) -> None:
    assert faces.public_key.startswith("-----BEGIN PUBLIC KEY-----\n")
    key = load_pem_public_key(faces.public_key.encode())
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2048
    assert faces.public_key == faces.public_key
    assert faces.public_key != SandboxFaces().public_key
