"""Whose page it is: a name that is text, a picture that is one, and colours that can be read."""

import re
from importlib.resources import files

import pytest
from hypothesis import given, strategies as st
from markupsafe import escape

from watchword.page import brand as module
from watchword.page.assets import Assets
from watchword.page.brand import (
    CONTRAST_MIN,
    DEFAULT,
    LOGO_MAX,
    NAME_MAX,
    Brand,
    BrandError,
    contrast,
    logo_fault,
    name_fault,
    schemes,
    styles_of,
)

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
WEBP = b"RIFF\x08\0\0\0WEBPVP8 "
COLOURS = st.tuples(*[st.integers(0, 255)] * 3).map(lambda parts: "#{:02x}{:02x}{:02x}".format(*parts))


# --- colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        # Examples that WCAG's understanding documents give.
        ("#000000", "#ffffff", 21.0),
        ("#ffffff", "#ffffff", 1.0),
        ("#777777", "#ffffff", 4.48),
        ("#767676", "#ffffff", 4.54),
        ("#f00", "#ffffff", 4.0),
    ],
)
def test_contrast_is_computed_as_the_guidelines_say(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == pytest.approx(ratio, abs=0.005)
    assert contrast(other, one) == contrast(one, other)


@given(COLOURS)
def test_whatever_is_taken_can_be_read_on_every_ground_and_whatever_is_refused_has_a_neighbour(
    colour: str,
) -> None:
    try:
        light, dark = schemes(colour)
    except BrandError as error:
        light, dark = schemes(str(error)[-7:])  # The one that is named instead.
        assert contrast(light.accent, "#ffffff") > contrast(colour, "#ffffff")
    else:
        assert light.accent == colour
    for scheme, grounds in ((light, grounds_of(LIGHT)), (dark, grounds_of(DARK))):
        assert contrast(scheme.accent, scheme.on_accent) >= CONTRAST_MIN
        assert all(contrast(scheme.link, ground) >= CONTRAST_MIN for ground in grounds)
        assert all(contrast(scheme.accent, ground) >= CONTRAST_MIN for ground in grounds)


CSS = files("watchword.page").joinpath("static/page.css").read_text(encoding="utf-8")
LIGHT, _, DARK = CSS.partition("prefers-color-scheme: dark")


def grounds_of(css: str) -> set[str]:
    found = dict(re.findall(r"--(paper|panel|ground): (#[0-9a-f]+)", css))
    assert len(found) == 3
    return {f"#{value[1:] * 2}" if len(value) == 4 else value for value in found.values()}


def test_the_grounds_are_those_of_the_style_sheet() -> None:
    assert set(module._LIGHT) == grounds_of(LIGHT)  # noqa: SLF001 - that they agree is what is tested.
    assert set(module._DARK) == grounds_of(DARK)  # noqa: SLF001 - as above.


def test_a_colour_becomes_three_for_light_and_three_for_dark() -> None:
    assert styles_of("#06C") == (
        ":root{--accent:#0066cc;--on-accent:#ffffff;--link:#0066cc}"
        "@media (prefers-color-scheme:dark){:root{--accent:#6bb5ff;--on-accent:#001429;--link:#6bb5ff}}"
    )


@pytest.mark.parametrize(
    ("colour", "instead"), [("#ffcc00", "#866b00"), ("#fff", "#6e6e6e"), ("#e4002b", "#dd002a")]
)
def test_a_colour_that_cannot_be_read_is_refused_with_the_nearest_that_can(colour: str, instead: str) -> None:
    with pytest.raises(BrandError, match=f"cannot be read.* the nearest that can is {instead}$"):
        styles_of(colour)
    assert instead in styles_of(instead)


@pytest.mark.attack(125)
@pytest.mark.parametrize(
    "colour",
    [
        "",
        "red",
        "#12345",
        "#1234567",
        "#12345g",
        "#000}body{display:none",
        "url(https://evil.example/)",
        "#000;background:url(//evil.example)",
        "@import 'x'",
        "</style><script>alert(1)</script>",
        "#000\n",
        "rgb(0,0,0)",
        "#\u0661\u0662\u0663",
    ],
)
def test_a_theme_is_a_colour_and_no_style_sheet(colour: str) -> None:
    with pytest.raises(BrandError, match="six hexadecimal digits"):
        styles_of(colour)


@pytest.mark.attack(125)
@given(COLOURS.filter(lambda colour: contrast(colour, "#eef1f5") >= CONTRAST_MIN))
def test_no_colour_makes_anything_but_colours(colour: str) -> None:
    styles = styles_of(colour)
    assert escape(styles) == styles
    assert re.sub(r"--(accent|on-accent|link):#[0-9a-f]{6}", "", styles) == (
        ":root{;;}@media (prefers-color-scheme:dark){:root{;;}}"
    )


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"),
    [("logo.svg", SVG), ("LOGO.SVG", SVG), ("a.b.png", PNG), ("folder/logo.webp", WEBP)],
)
def test_a_picture_is_taken_and_served_under_a_name_of_its_own(name: str, body: bytes) -> None:
    assert logo_fault(name, body) is None
    brand = Brand.of(logo=(name, body))
    found = Assets(brand.files).get(brand.logo.rpartition("/")[2])
    assert found is not None
    assert found.body == body
    assert found.content_type == f"image/{name.lower().rpartition('.')[2].replace('svg', 'svg+xml')}"


@pytest.mark.parametrize(("size", "fits"), [(LOGO_MAX - 1, True), (LOGO_MAX, True), (LOGO_MAX + 1, False)])
def test_a_picture_has_64_kib_at_the_most(size: int, *, fits: bool) -> None:
    assert LOGO_MAX == 65_536
    wrong = logo_fault("logo.png", PNG + bytes(size - len(PNG)))
    assert (wrong is None) == fits
    assert fits or wrong == "has more than 65536 bytes, which every customer would wait for; make it smaller"


@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        ("logo.gif", b"GIF89a", "must be a picture that ends in .svg, .png or .webp"),
        ("logo", PNG, "must be a picture that ends in .svg, .png or .webp"),
        ("logo.html", b"<script>", "must be a picture that ends in .svg, .png or .webp"),
        ("logo.png", b"<html>", "is no PNG inside; export it again"),
        ("logo.png", WEBP, "is no PNG inside; export it again"),
        ("logo.webp", b"RIFF\0\0\0\0AVI ", "is no WEBP inside; export it again"),
        ("logo.svg", b"", "is no SVG that can be read"),
        ("logo.svg", PNG, "is no SVG that can be read"),
        ("logo.svg", SVG[:-1], "is no SVG that can be read"),
        ("logo.svg", SVG + b"<svg/>", "is no SVG that can be read"),
        ("logo.svg", b"<svg/>", 'has no <svg xmlns="http://www.w3.org/2000/svg"> at its root'),
        ("logo.svg", b'<html xmlns="http://www.w3.org/1999/xhtml"/>', "has no <svg xmlns="),
    ],
)
def test_a_file_that_is_no_picture_is_refused(name: str, body: bytes, found: str) -> None:
    wrong = logo_fault(name, body)
    assert wrong is not None
    assert wrong.startswith(found)
    with pytest.raises(BrandError):
        Brand.of(logo=(name, body))


@pytest.mark.attack(125)
@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("<script>alert(1)</script>", "has a <script>"),
        ("<SCRIPT/>", "has a <SCRIPT>"),
        ('<x:script xmlns:x="http://www.w3.org/2000/svg"/>', "has a <script>"),
        ('<h:script xmlns:h="http://www.w3.org/1999/xhtml"/>', "has a <script>"),
        ("<g><foreignObject/></g>", "has a <foreignObject>"),
        ('<h:iframe xmlns:h="http://www.w3.org/1999/xhtml"/>', "has a <iframe>"),
        ('<a href="#x"/>', "has a <a>"),
        ('<g onload="alert(1)"/>', "has a script in onload"),
        ('<g ONCLICK="alert(1)"/>', "has a script in onclick"),
        ('<image href="https://evil.example/"/>', "refers to something outside it in href"),
        ('<use href="/other.svg#x"/>', "refers to something outside it in href"),
        (
            '<use xmlns:x="http://www.w3.org/1999/xlink" x:href="javascript:alert(1)"/>',
            "refers to something outside it in href",
        ),
        ('<image href="data:image/svg+xml;base64,AAAA"/>', "refers to something outside it in href"),
        ('<image href="data:text/html,AAAA"/>', "refers to something outside it in href"),
        ('<set attributeName="href" to="javascript:alert(1)"/>', "has an animation of href"),
        ('<animate attributeName="xlink:href" values="x"/>', "has an animation of xlink:href"),
        ('<g style="background:url(https://evil.example/)"/>', "refers to something outside it in style"),
        ("<g fill=\"url( '//evil.example/')\"/>", "refers to something outside it in fill"),
        ('<style>@import "https://evil.example/";</style>', "refers to something outside it in &lt;style>"),
        ("<style>g{fill:url(//evil.example)}</style>", "refers to something outside it in &lt;style>"),
        ("<style><![CDATA[@import 'x']]></style>", "refers to something outside it in &lt;style>"),
        ("<?xml-stylesheet href='https://evil.example/'?>", "has a <?xml-stylesheet?>"),
    ],
)
def test_an_svg_that_is_more_than_a_picture_is_refused(inside: str, found: str) -> None:
    wrong = logo_fault("logo.svg", SVG.replace(b"<path", inside.encode() + b"<path"))
    assert wrong is not None
    assert wrong.startswith(found.replace("&lt;", "<"))
    assert wrong.endswith("export it as plain SVG, or as PNG")


@pytest.mark.attack(125)
@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">',
        '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_an_svg_declares_nothing(doctype: str) -> None:
    wrong = logo_fault("logo.svg", doctype.encode() + SVG)
    assert wrong == "has a <!DOCTYPE>; export it as plain SVG, or as PNG"


@pytest.mark.parametrize(
    "inside",
    [
        '<linearGradient id="a"/><g fill="url(#a)"/>',
        "<g fill=\"url('#a')\"/>",
        '<use href="#a"/>',
        '<image href="data:image/png;base64,iVBORw0KGgo="/>',
        "<style>.a{fill:#123}</style><text>url(https://in.the/text)</text>",
        "<title>A logo</title><desc>@import</desc>",
        '<!-- <script> --><g id="on" style="fill:url(#a)"/>',
    ],
)
def test_what_drawing_programs_write_is_taken(inside: str) -> None:
    assert (
        logo_fault("logo.svg", b'<?xml version="1.0"?>' + SVG.replace(b"<path", inside.encode() + b"<path"))
        is None
    )


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "fits"), [(0, False), (1, True), (NAME_MAX, True), (NAME_MAX + 1, False)])
def test_a_name_is_as_long_as_one(length: int, *, fits: bool) -> None:
    assert (name_fault("a" * length) is None) == fits


@pytest.mark.attack(125)
@pytest.mark.parametrize("name", [" ", "a\nb", "a\0", "a\u202eb", "a\u2028b", "a\ue000", "a\ud800"])
def test_a_name_has_no_character_that_nobody_sees(name: str) -> None:
    assert name_fault(name) is not None
    with pytest.raises(BrandError):
        Brand.of(name=name)


@pytest.mark.parametrize(
    "name", ["Difference Engines", "Müller & Söhne", "بنك الأمل", "\u0645\u06cc\u200c\u062e\u0648", "<b>"]
)
def test_a_name_is_any_text(name: str) -> None:
    assert Brand.of(name=name).name == name


def test_without_settings_the_page_has_our_own_name_and_colours() -> None:
    assert Brand.of() == DEFAULT == Brand(name="Watchword", logo="", styles="", files={})
