"""Photographs, compared in a process that can be lost."""

import asyncio
import os
import signal
import struct
import sys
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.faces.drawings import ADA, GRACE, jpeg, picture, png
from watchword.faces.base import FaceMatcher, FaceUnavailableError, FaceUnusableError
from watchword.faces.local import LocalFaces
from watchword.faces.worker import PIXELS_MAX

# Drawings are more alike than people: what tells them apart is above what people need.
THRESHOLD = 0.9


@pytest.fixture(scope="module")
async def faces() -> AsyncIterator[LocalFaces]:
    faces = LocalFaces(threshold=THRESHOLD)
    yield faces
    await faces.aclose()


def worker_of(faces: LocalFaces) -> asyncio.subprocess.Process:
    worker = faces._worker  # noqa: SLF001 - there is no other way to the process than to be its parent.
    assert worker is not None
    return worker


# --- what it is for ---------------------------------------------------------------------------


async def test_the_enrolled_face_matches_and_another_does_not(faces: LocalFaces) -> None:
    matcher: FaceMatcher = faces
    template = await matcher.enrol("ref", png(picture(ADA)))
    assert await matcher.match(template, png(picture(ADA)))
    assert not await matcher.match(template, png(picture(GRACE)))


@pytest.mark.parametrize(
    "photograph",
    [
        jpeg(picture(ADA), quality=60),
        jpeg(picture(ADA, light=0.7)),
        jpeg(picture(ADA, side=1500)),
        png(picture(ADA, side=260)),
        png(picture(ADA).convert("P", palette=Image.Palette.ADAPTIVE)),
        png(picture(ADA).convert("RGBA")),
    ],
    ids=["low quality", "dim", "large", "small", "palette", "with transparency"],
)
async def test_another_picture_of_the_same_face_matches(faces: LocalFaces, photograph: bytes) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    assert await faces.match(template, photograph)


async def test_a_picture_of_a_camera_held_sideways_is_turned(faces: LocalFaces) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF's orientation: turn it a quarter clockwise.
    assert await faces.match(template, jpeg(picture(ADA).rotate(90, expand=True), exif=exif))


async def test_the_threshold_decides(faces: LocalFaces) -> None:
    """Two drawings are alike by 0.67: with a threshold below that they match."""
    template = await faces.enrol("ref", png(picture(ADA)))
    lenient = LocalFaces(threshold=0.6)
    assert await lenient.match(template, png(picture(GRACE)))
    assert not await faces.match(template, png(picture(GRACE)))
    await lenient.aclose()


async def test_a_template_is_an_embedding_and_its_format(faces: LocalFaces) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    assert template[:3] == b"ph\x01"
    assert sum(number**2 for number in struct.unpack("<128f", template[3:])) == pytest.approx(1, abs=1e-5)


async def test_what_is_forgotten_was_never_kept(faces: LocalFaces) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    await faces.forget(template)
    assert await faces.match(template, png(picture(ADA)))


async def test_clients_send_photographs_plain(faces: LocalFaces) -> None:
    assert faces.public_key is None


@pytest.mark.parametrize(
    "template",
    [
        b"",
        b"3d\x01" + bytes(512),
        b"ph\x02" + struct.pack("<128f", 1, *[0] * 127),
        b"ph\x01" + struct.pack("<127f", 1, *[0] * 126),
        b"ph\x01" + struct.pack("<128f", *[0] * 128),
        b"ph\x01" + struct.pack("<128f", *[1000] * 128),
        b"ph\x01" + struct.pack("<128f", *[float("nan")] * 128),
    ],
    ids=["empty", "another's", "of a later format", "short", "of nothing", "that likes everybody", "NaN"],
)
async def test_a_template_that_was_not_made_here_is_no_answer(faces: LocalFaces, template: bytes) -> None:
    with pytest.raises(FaceUnavailableError):
        await faces.match(template, png(picture(ADA)))
    with pytest.raises(FaceUnavailableError):
        await faces.forget(template)


# --- pictures without a usable face -----------------------------------------------------------


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))


@cache
def black(width: int, height: int) -> bytes:
    """Return a small file that decodes to many pixels of one colour."""
    rows = zlib.compressobj(9)
    line = bytes(1 + width * 3)
    content = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def _other_format(name: str) -> bytes:
    file = BytesIO()
    picture(ADA).save(file, name)
    return file.getvalue()


BOMB = (9000, 8000)
"""216 MB of pixels in a file of 210 kB."""

UNUSABLE = {
    "nothing": b"",
    "a text": b"a face, I swear",
    "Base64 of a picture": b64encode(png(picture(ADA))),
    "an empty wall": png(picture()),
    "two faces": png(picture(ADA, GRACE)),
    "a face far away": png(picture(ADA, side=100)),
    "half a JPEG": jpeg(picture(ADA))[:4000],
    "half a PNG": png(picture(ADA))[:4000],
    "the head of a JPEG": b"\xff\xd8\xff\xe0",
    "a GIF": _other_format("GIF"),
    "a BMP": _other_format("BMP"),
    "a TIFF": _other_format("TIFF"),
    "a WebP": _other_format("WEBP"),
    "a thin line": png(Image.new("RGB", (20_000, 3))),
    "one pixel": png(Image.new("RGB", (1, 1))),
    "one pixel too many in a row": black(PIXELS_MAX // 1000 + 1, 1000),
    "a bomb": black(*BOMB),
    "many bytes": b"\xff\xd8\xff" + bytes(8 * 1024 * 1024),
}


@pytest.mark.parametrize("photograph", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_shows_no_one_face_is_unusable_and_costs_no_process(
    faces: LocalFaces, photograph: bytes
) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    worker = worker_of(faces).pid
    with pytest.raises(FaceUnusableError):
        await faces.enrol("ref", photograph)
    with pytest.raises(FaceUnusableError):
        await faces.match(template, photograph)
    assert worker_of(faces).pid == worker


async def test_a_bomb_takes_no_memory(faces: LocalFaces) -> None:
    await faces.enrol("ref", png(picture(ADA)))
    status = Path(f"/proc/{worker_of(faces).pid}/status")
    before = _peak_kib(status)
    with pytest.raises(FaceUnusableError):
        await faces.enrol("ref", black(*BOMB))
    assert _peak_kib(status) - before < 20_000


def _peak_kib(status: Path) -> int:
    return int(status.read_text().partition("VmHWM:")[2].split()[0])


async def test_the_largest_picture_that_is_taken_is_decoded(faces: LocalFaces) -> None:
    """Without a face in it it is unusable, and the process has survived it."""
    await faces.enrol("ref", png(picture(ADA)))
    worker = worker_of(faces).pid
    with pytest.raises(FaceUnusableError):
        await faces.enrol("ref", black(6000, 4000))
    assert worker_of(faces).pid == worker


# --- the process ------------------------------------------------------------------------------


async def test_a_process_that_was_killed_is_replaced() -> None:
    faces = LocalFaces(threshold=THRESHOLD)
    template = await faces.enrol("ref", png(picture(ADA)))
    worker_of(faces).kill()
    await worker_of(faces).wait()
    assert await faces.match(template, png(picture(ADA)))
    await faces.aclose()


async def test_a_process_that_hangs_is_killed_and_replaced() -> None:
    faces = LocalFaces(threshold=THRESHOLD, timeout_seconds=5)
    template = await faces.enrol("ref", png(picture(ADA)))
    hanging = worker_of(faces)
    os.kill(hanging.pid, signal.SIGSTOP)
    faces._seconds = 0.1  # noqa: SLF001 - so that nobody waits five seconds.
    with pytest.raises(FaceUnavailableError, match="TimeoutError"):
        await faces.match(template, png(picture(ADA)))
    assert hanging.returncode == -signal.SIGKILL
    faces._seconds = 30  # noqa: SLF001 - as above.
    assert await faces.match(template, png(picture(ADA)))
    await faces.aclose()


async def test_a_process_that_dies_over_a_picture_is_no_failure_of_the_person() -> None:
    faces = LocalFaces(threshold=THRESHOLD)
    template = await faces.enrol("ref", png(picture(ADA)))
    dying = worker_of(faces)
    os.kill(dying.pid, signal.SIGSTOP)
    asked = asyncio.create_task(faces.match(template, png(picture(ADA))))
    await asyncio.sleep(0)
    assert faces._turn.locked()  # noqa: SLF001 - nothing else tells that it has begun.
    os.kill(dying.pid, signal.SIGKILL)
    with pytest.raises(FaceUnavailableError):
        await asked
    assert await faces.match(template, png(picture(ADA)))
    await faces.aclose()


async def test_who_is_gone_leaves_no_answer_for_the_next() -> None:
    faces = LocalFaces(threshold=THRESHOLD)
    template = await faces.enrol("ref", png(picture(ADA)))
    os.kill(worker_of(faces).pid, signal.SIGSTOP)
    gone = asyncio.create_task(faces.match(template, png(picture(ADA))))
    await asyncio.sleep(0)
    assert faces._turn.locked()  # noqa: SLF001 - nothing else tells that it has begun.
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not await faces.match(template, png(picture(GRACE)))
    await faces.aclose()


async def test_many_at_once_take_turns_and_get_their_own_answers(faces: LocalFaces) -> None:
    template = await faces.enrol("ref", png(picture(ADA)))
    shown = [ADA, GRACE] * 4
    answers = await asyncio.gather(*(faces.match(template, png(picture(face))) for face in shown))
    assert answers == [face is ADA for face in shown]


async def test_who_gets_no_turn_in_time_is_told_so() -> None:
    faces = LocalFaces(threshold=THRESHOLD, timeout_seconds=0.01)
    async with faces._turn:  # noqa: SLF001 - somebody has it, for as long as this needs.
        with pytest.raises(FaceUnavailableError, match="turn"):
            await faces.enrol("ref", png(picture(ADA)))
    await faces.aclose()


async def test_the_event_loop_goes_on_meanwhile(faces: LocalFaces) -> None:
    await faces.enrol("ref", png(picture(ADA)))
    large = png(picture(ADA, side=2000))
    asked = asyncio.create_task(faces.enrol("ref", large))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_the_process_is_given_no_secret_and_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHWORD_KEYS", "a secret")
    faces = LocalFaces(threshold=THRESHOLD)
    await faces.enrol("ref", png(picture(ADA)))
    process = Path(f"/proc/{worker_of(faces).pid}")
    assert b"a secret" not in (process / "environ").read_bytes()
    limits = {
        line[:25].strip(): line[26:46].strip() for line in (process / "limits").read_text().splitlines()
    }
    assert (limits["Max core file size"], limits["Max file size"]) == ("0", "0")
    assert int(limits["Max address space"]) <= 2 * 1024**3
    await faces.aclose()


async def test_a_process_that_answers_nonsense_is_not_believed_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nonsense = (
        "import sys; sys.stdout.buffer.write(bytes(4) + b'\\0\\0\\0\\x03abc'); sys.stdout.flush(); input()"
    )

    async def start() -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(sys.executable, "-c", nonsense, stdin=pipe, stdout=pipe)

    faces = LocalFaces(threshold=THRESHOLD)
    with monkeypatch.context() as changed:
        changed.setattr("watchword.faces.local._start", start)
        with pytest.raises(FaceUnavailableError, match="nonsense"):
            await faces.enrol("ref", b"a photograph")
    assert await faces.enrol("ref", png(picture(ADA)))
    await faces.aclose()


async def test_it_ends_with_its_parent() -> None:
    faces = LocalFaces(threshold=THRESHOLD)
    await faces.enrol("ref", png(picture(ADA)))
    worker = worker_of(faces)
    assert worker.stdin is not None
    worker.stdin.close()  # What the end of the parent looks like to it.
    assert await worker.wait() == 0
    await faces.aclose()


async def test_to_close_one_that_was_never_asked_is_no_fault() -> None:
    await LocalFaces(threshold=THRESHOLD).aclose()
