"""
Whose page it is: a name, a picture and a colour.

A theme is this much and no more (attack 125): no style sheet of somebody's, whose ``url()`` would call
elsewhere. One colour becomes three for each of light and dark, and what cannot be read is refused.
"""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Self
from xml.parsers import expat

from watchword.domain.details import has_controls
from watchword.page.assets import Assets

NAME_MAX = 60
LOGO_MAX = 64 * 1024
CONTRAST_MIN = 4.5
"""What text needs (WCAG 2.2, success criterion 1.4.3)."""

CONTRAST_IN_THE_DARK = 7.0
"""What is aimed for where we choose the colour ourselves."""

# Behind text, in the style sheet: --paper, --panel and --ground.
_LIGHT = ("#ffffff", "#f5f7fa", "#eef1f5")
_DARK = ("#161c25", "#1e2631", "#0d1117")
_WHITE = "#ffffff"
_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_STEPS = 400

_SVG = "http://www.w3.org/2000/svg"
# As an image nothing of it runs; who opens it by itself is to be as safe (it also has a policy of its own).
_NO_PICTURE = frozenset(
    {"script", "foreignobject", "iframe", "object", "embed", "handler", "audio", "video", "a"}
)
_LINK = re.compile(r"\s*(?:#|data:image/(?:png|jpeg|webp);base64,)", re.IGNORECASE)
_ELSEWHERE = re.compile(r"@import|url\(\s*[\"']?(?!\s*[#\"'])|expression\(", re.IGNORECASE)


class BrandError(ValueError):
    """It cannot be shown; says why, and what to use instead."""


# --- colours --------------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@dataclass(frozen=True, slots=True)
class Scheme:
    """
    What is coloured, on one of the two grounds.

    Attributes:
        accent: Buttons.
        on_accent: What is written on them.
        link: What is written on the ground.
    """

    accent: str
    on_accent: str
    link: str

    @property
    def properties(self) -> str:
        """The rule's declarations."""
        return f"--accent:{self.accent};--on-accent:{self.on_accent};--link:{self.link}"


def schemes(colour: str) -> tuple[Scheme, Scheme]:
    """
    Make of one colour what is needed on light and on dark ground.

    Raises:
        BrandError: It is none, or white on it and it on our ground cannot be read; names the nearest one
            that can.
    """
    if not _COLOUR.fullmatch(colour):
        raise BrandError('must be a colour of six hexadecimal digits, such as "#1f4fd8"')
    colour = _long(colour)
    if _least(colour, (_WHITE, *_LIGHT)) < CONTRAST_MIN:
        darker = _moved(colour, _LIGHT, CONTRAST_MIN, lighter=False)
        raise BrandError(
            f"{colour} cannot be read: its contrast to white and to the page is"
            f" {_least(colour, _LIGHT):.1f}, and must be {CONTRAST_MIN}; the nearest that can is {darker}"
        )
    light = Scheme(accent=colour, on_accent=_WHITE, link=colour)
    bright = _moved(colour, _DARK, CONTRAST_IN_THE_DARK, lighter=True)
    return light, Scheme(accent=bright, on_accent=_night(bright), link=bright)


def styles_of(colour: str) -> str:
    """
    Return the CSS custom properties of a page in *colour*.

    Raises:
        BrandError: See ``schemes``.
    """
    light, dark = schemes(colour)
    return f":root{{{light.properties}}}@media (prefers-color-scheme:dark){{:root{{{dark.properties}}}}}"


def _long(colour: str) -> str:
    digits = colour[1:].lower()
    return "#" + (digits if len(digits) > 3 else "".join(digit * 2 for digit in digits))  # noqa: PLR2004


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4  # noqa: PLR2004
        for part in _parts(_long(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _least(colour: str, grounds: tuple[str, ...]) -> float:
    return min(contrast(colour, ground) for ground in grounds)


def _moved(colour: str, grounds: tuple[str, ...], wanted: float, *, lighter: bool) -> str:
    """Return the colour itself or the nearest of its hue that is read on all of *grounds*."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(colour))
    end = 1.0 if lighter else 0.0
    for step in range(_STEPS + 1):
        made = _hex(colorsys.hls_to_rgb(hue, lightness + (end - lightness) * step / _STEPS, saturation))
        if _least(made, grounds) >= wanted:
            return made
    return _hex((end, end, end))


def _night(colour: str) -> str:
    """Return the darkest of a hue that is not yet black: what is written on bright buttons."""
    hue, _, saturation = colorsys.rgb_to_hls(*_parts(colour))
    return _hex(colorsys.hls_to_rgb(hue, 0.08, saturation))


def _hex(parts: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


# --- pictures -------------------------------------------------------------------------------------


def logo_fault(name: str, body: bytes) -> str | None:
    """Say why a file cannot be the logo, and what can; None where it can."""
    if len(body) > LOGO_MAX:
        return f"has more than {LOGO_MAX} bytes, which every customer would wait for; make it smaller"
    suffix = PurePath(name).suffix.lower()
    if suffix == ".png":
        wrong = not body.startswith(b"\x89PNG\r\n\x1a\n")
    elif suffix == ".webp":
        wrong = body[:4] != b"RIFF" or body[8:12] != b"WEBP"
    elif suffix == ".svg":
        return _svg_fault(body)
    else:
        return "must be a picture that ends in .svg, .png or .webp"
    return f"is no {suffix[1:].upper()} inside; export it again" if wrong else None


def _svg_fault(body: bytes) -> str | None:
    reader = _SvgReader()
    try:
        reader.read(body)
    except expat.ExpatError as error:
        return f"is no SVG that can be read ({error}); export it again, or as PNG"
    except BrandError as error:
        return f"{error}; export it as plain SVG, or as PNG"
    return None


class _SvgReader:
    """Reads a picture, and refuses what is more than one."""

    def __init__(self) -> None:
        self._is_root = True
        self._in_style = False
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._element
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.ProcessingInstructionHandler = self._instruction
        self._parser.buffer_text = True

    def read(self, body: bytes) -> None:
        self._parser.Parse(body, True)  # noqa: FBT003 - it takes no keywords.

    def _element(self, name: str, attributes: Mapping[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if self._is_root and (namespace, local) != (_SVG, "svg"):
            raise BrandError(f'has no <svg xmlns="{_SVG}"> at its root')
        self._is_root = False
        if local.lower() in _NO_PICTURE:
            raise BrandError(f"has a <{local}>, which is no picture")
        self._in_style = local.lower() == "style"
        for attribute, value in attributes.items():
            plain = attribute.rpartition(" ")[2].lower()
            if plain.startswith("on"):
                raise BrandError(f"has a script in {plain}")
            if plain in {"href", "src"} and not _LINK.match(value):
                raise BrandError(f"refers to something outside it in {plain}")
            # Animations set other attributes: by name, to values of any kind.
            if plain == "attributename" and value.lower().rpartition(":")[2] in {"href", "src"}:
                raise BrandError(f"has an animation of {value}")
            if _ELSEWHERE.search(value):
                raise BrandError(f"refers to something outside it in {plain}")

    def _end(self, _name: str) -> None:
        self._in_style = False

    def _text(self, text: str) -> None:
        if self._in_style and _ELSEWHERE.search(text):
            raise BrandError("refers to something outside it in <style>")

    def _doctype(self, *_: object) -> None:
        raise BrandError("has a <!DOCTYPE>")

    def _instruction(self, target: str, _data: str) -> None:
        raise BrandError(f"has a <?{target}?>")


# --- both, and a name -----------------------------------------------------------------------------


def name_fault(name: str) -> str | None:
    """Say why customers cannot be shown a name; None where they can."""
    if not 1 <= len(name) <= NAME_MAX or name.isspace():
        return f"must be a name that customers know, of 1 to {NAME_MAX} characters"
    if has_controls(name):
        return "holds a control character; write letters that everybody sees"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """
    Whose page it is.

    Attributes:
        name: As customers know it.
        logo: Where its picture is served; empty for none.
        styles: CSS custom properties, in rules; empty for our own colours.
        files: The picture itself, by the name that ``Assets`` takes it under.
    """

    name: str = "Watchword"
    logo: str = ""
    styles: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)

    @classmethod
    def of(
        cls, *, name: str = "Watchword", logo: tuple[str, bytes] | None = None, colour: str | None = None
    ) -> Self:
        """
        Make a brand.

        Args:
            logo: A file's name and content.

        Raises:
            BrandError: Something of it cannot be shown.
        """
        wrong = name_fault(name)
        if wrong is not None:
            raise BrandError(wrong)
        styles = "" if colour is None else styles_of(colour)
        if logo is None:
            return cls(name=name, styles=styles)
        wrong = logo_fault(*logo)
        if wrong is not None:
            raise BrandError(wrong)
        served = "logo" + PurePath(logo[0]).suffix.lower()
        files = {served: logo[1]}
        return cls(name=name, logo=Assets(files).urls[served], styles=styles, files=files)


DEFAULT = Brand()
