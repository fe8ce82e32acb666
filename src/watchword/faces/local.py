"""
Ordinary photographs, compared on this machine.

**There is no liveness: a photograph of a photograph passes.** Whoever has a picture of the user has
this factor. It is for trials, and for where somebody stands beside the camera; NIST SP 800-63B-4
section 3.2.3 asks for presentation attack detection, and so should whoever protects money. The
server refuses it unless the settings accept that in so many words.

Faces are found and described by two models of OpenCV's collection, YuNet and SFace, in a process
of its own: see ``worker.py``. Here embeddings are only compared.
"""

import asyncio
import math
import os
import struct
import sys
from typing import Final

from watchword.faces.base import FaceUnavailableError, FaceUnusableError

_TEMPLATE: Final = b"ph\x01"
"""What a template begins with: whose it is, and in which format; the embedding follows."""
_FRAME: Final = struct.Struct("!I")
_EMBEDDING: Final = struct.Struct("<128f")
_PHOTOGRAPH_BYTES_MAX: Final = 8 * 1024 * 1024
_END_SECONDS: Final = 5.0
# All that the process is told of ours: it meets what strangers send, and needs no secret.
_ENVIRONMENT: Final = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH")


class LocalFaces:
    """
    A ``FaceMatcher`` for photographs, without liveness.

    One photograph is looked at at a time, by one process for each process of the server; it is
    started with the first photograph.
    """

    public_key: str | None = None

    def __init__(self, *, threshold: float, timeout_seconds: float = 10.0) -> None:
        """
        Start nothing yet.

        Args:
            threshold: The least likeness that is a match: the cosine between two embeddings.
            timeout_seconds: How long a photograph may take; and how long it may wait for its turn before.
        """
        self._threshold = threshold
        self._seconds = timeout_seconds
        self._turn = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None

    async def aclose(self) -> None:
        """End the process."""
        await self._end()

    async def enrol(self, reference: str, face_map: bytes) -> bytes:
        """Describe the face; nothing is kept here, so that *reference* is not needed."""
        return _TEMPLATE + await self._embed(face_map)

    async def match(self, template: bytes, face_map: bytes) -> bool:
        """Describe the face, and compare it with that of *template*."""
        enrolled = _numbers(template)
        shown: tuple[float, ...] = _EMBEDDING.unpack(await self._embed(face_map))
        return sum(one * other for one, other in zip(enrolled, shown, strict=True)) >= self._threshold

    async def forget(self, template: bytes) -> None:
        """Do nothing: nothing is kept here."""
        _numbers(template)

    async def _embed(self, photograph: bytes) -> bytes:
        if len(photograph) > _PHOTOGRAPH_BYTES_MAX:
            raise FaceUnusableError
        try:
            async with asyncio.timeout(self._seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise FaceUnavailableError("no turn came in time") from None
        whole = False
        try:
            async with asyncio.timeout(self._seconds):
                embedding = await self._ask(photograph)
            whole = len(embedding) in {0, _EMBEDDING.size}
        except (TimeoutError, OSError, EOFError) as error:
            raise FaceUnavailableError(f"the process did not answer: {type(error).__name__}") from None
        finally:
            # Also where the caller is gone: the next one must not read the answer to this one.
            if not whole:
                await self._end()
            self._turn.release()
        if not whole:
            raise FaceUnavailableError("the process answered nonsense")
        if not embedding:
            raise FaceUnusableError
        return embedding

    async def _ask(self, photograph: bytes) -> bytes:
        worker = self._worker
        if worker is None or worker.returncode is not None:
            worker = self._worker = await _start()
            await _read(worker)
        assert worker.stdin is not None
        worker.stdin.write(_FRAME.pack(len(photograph)) + photograph)
        await worker.stdin.drain()
        return await _read(worker)

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.returncode is None:
            worker.kill()
        # Shielded: who is cancelled here leaves no process behind that nobody waits for.
        await asyncio.shield(worker.wait())


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "watchword.faces.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        | {"OPENBLAS_NUM_THREADS": "1"},
    )


async def _read(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None
    (length,) = _FRAME.unpack(await worker.stdout.readexactly(_FRAME.size))
    return await worker.stdout.readexactly(min(length, _EMBEDDING.size + 1))


def _numbers(template: bytes) -> tuple[float, ...]:
    """
    Return the embedding in *template*.

    Raises:
        FaceUnavailableError: It is another matcher's.
    """
    embedding = template.removeprefix(_TEMPLATE)
    if not template.startswith(_TEMPLATE) or len(embedding) != _EMBEDDING.size:
        raise FaceUnavailableError("the template is of another matcher: the face must be enrolled anew")
    numbers = _EMBEDDING.unpack(embedding)
    if not math.isclose(math.hypot(*numbers), 1, abs_tol=1e-3):
        raise FaceUnavailableError("the template is not one that was made here")
    return numbers
