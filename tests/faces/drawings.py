"""
Faces that nobody has: drawn, so that no test needs the picture of a person.

They are enough to test the machinery: the detector takes them for faces. To the describer two
drawings are more alike (0.67) than two people, and less than two pictures of one drawing (0.97 and
more). How well people are told apart they do not tell.
"""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Face:
    skin: Colour = (224, 172, 140)
    hair: Colour = (60, 40, 30)
    iris: Colour = (70, 90, 120)
    width: float = 0.30
    height: float = 0.40
    eyes_apart: float = 0.13
    eye: float = 0.045
    brow: float = 0.012
    nose: float = 0.14
    mouth: float = 0.10
    lips: float = 0.022
    beard: bool = False


ADA = Face()
GRACE = Face(
    skin=(141, 95, 70), hair=(15, 12, 12), iris=(50, 30, 20), width=0.34, height=0.38, eyes_apart=0.16,
    eye=0.035, brow=0.02, nose=0.10, mouth=0.14, lips=0.035, beard=True,
)  # fmt: skip


def _shade(colour: Colour, by: float) -> Colour:
    return (min(255, int(colour[0] * by)), min(255, int(colour[1] * by)), min(255, int(colour[2] * by)))


def picture(*faces: Face, side: int = 480, light: float = 1.0) -> Image.Image:
    """Draw *faces* beside each other; none is an empty wall."""
    whole = Image.new("RGB", (side * max(1, len(faces)), side), _shade((170, 180, 190), light))
    for number, face in enumerate(faces):
        whole.paste(_portrait(face, side, light), (side * number, 0))
    return whole


def _portrait(face: Face, side: int, light: float) -> Image.Image:
    image = Image.new("RGB", (side, side), _shade((170, 180, 190), light))
    draw = ImageDraw.Draw(image)

    def oval(x: float, y: float, wide: float, high: float, colour: Colour) -> None:
        box = ((x - wide) * side, (y - high) * side, (x + wide) * side, (y + high) * side)
        draw.ellipse(box, fill=_shade(colour, light))

    dark, pale = _shade(face.skin, 0.72), _shade(face.skin, 1.1)
    oval(0.5, 1.15, 0.48, 0.35, (60, 70, 110))
    draw.rectangle((0.40 * side, 0.72 * side, 0.60 * side, 0.92 * side), fill=_shade(dark, light))
    oval(0.5, 0.44, face.width * 1.12, face.height * 1.08, face.hair)
    oval(0.5, 0.5, face.width, face.height, face.skin)
    if face.beard:
        oval(0.5, 0.72, face.width * 0.8, face.height * 0.42, face.hair)
        oval(0.5, 0.58, face.width * 0.82, face.height * 0.42, face.skin)
    oval(0.5, 0.36, face.width * 0.7, face.height * 0.25, pale)
    for sign in (-1, 1):
        x = 0.5 + sign * face.eyes_apart
        oval(x, 0.45, face.eye * 1.5, face.eye * 1.1, dark)
        oval(x, 0.45, face.eye * 1.2, face.eye * 0.62, (245, 245, 245))
        oval(x, 0.45, face.eye * 0.55, face.eye * 0.58, face.iris)
        oval(x, 0.45, face.eye * 0.28, face.eye * 0.30, (10, 10, 10))
        oval(x, 0.385, face.eye * 1.6, face.brow, face.hair)
        oval(0.5 + sign * 0.028, 0.45 + face.nose, 0.014, 0.009, _shade(face.skin, 0.45))
    oval(0.5, 0.45 + face.nose * 0.55, 0.018, face.nose * 0.5, pale)
    oval(0.5, 0.45 + face.nose * 0.95, 0.045, 0.018, dark)
    oval(0.5, 0.50 + face.nose + 0.07, face.mouth, face.lips, (165, 70, 70))
    draw.line(
        [
            ((0.5 - face.mouth) * side, (0.57 + face.nose) * side),
            ((0.5 + face.mouth) * side, (0.57 + face.nose) * side),
        ],
        fill=(90, 30, 30),
        width=max(1, side // 160),
    )
    return image.filter(ImageFilter.GaussianBlur(side / 160))


def jpeg(image: Image.Image, *, quality: int = 90, exif: Image.Exif | None = None) -> bytes:
    file = BytesIO()
    if exif is None:
        image.save(file, "JPEG", quality=quality)
    else:
        image.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
