"""The approval page's settings: what is taken, what is refused, what the page gets, what doctor says."""

from pathlib import Path

import pytest

from tests.page.test_brand import PNG, SVG
from tests.serving.support import ADA, PAYMENT, installation
from watchword.page.brand import BrandError, styles_of
from watchword.page.settings import PageApplication, PageSettings
from watchword.serving.app import checked
from watchword.serving.doctor import Finding, examine
from watchword.serving.page import page_settings
from watchword.serving.refusals import refusals
from watchword.serving.settings import load

SHOP = '[[applications]]\nid = "shop"\n'


def mistakes(folder: Path, *tables: str) -> list[str]:
    """Return what is wrong with an installation that else could be served."""
    config = folder / "watchword.toml"
    installation(folder, ADA, *tables)
    deployment, found = load(config)
    return [*found, *refusals(deployment)]


def settings_of(folder: Path, *tables: str) -> PageSettings:
    return page_settings(checked(installation(folder, ADA, *tables)))


# --- what is taken --------------------------------------------------------------------------------


def test_without_a_table_the_page_is_ours_and_nobody_opens_it(tmp_path: Path) -> None:
    assert settings_of(tmp_path) == PageSettings()


def test_everything_that_a_file_says_reaches_the_page(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_bytes(SVG)
    (tmp_path / "drawn").mkdir()
    settings = settings_of(
        tmp_path,
        '[page]\norigin = "https://api.example.com"\nopeners = ["https://www.example.com"]',
        'name = "Difference Engines"\nlogo = "logo.svg"\ncolour = "#06c"\ntemplates = "drawn"',
        '[[applications]]\nid = "shop"\nname = "The Shop"\nopeners = ["https://shop.example"]',
        '[[applications]]\nid = "portal"\n[[applications]]\nid = "batch"\nopeners = []',
        PAYMENT + 'title = { en = "Pay", de = "Bezahlen" }\n',
    )
    assert (settings.origin, settings.host, settings.secure) == (
        "https://api.example.com",
        "api.example.com",
        True,
    )
    assert settings.openers == ("https://www.example.com",)
    assert settings.applications == {
        "shop": PageApplication(name="The Shop", openers=("https://shop.example",)),
        "portal": PageApplication(),
        "batch": PageApplication(openers=()),
    }
    assert settings.brand.name == "Difference Engines"
    assert settings.brand.styles == styles_of("#0066cc")
    assert settings.brand.files == {"logo.svg": SVG}
    assert settings.templates == tmp_path / "drawn"
    assert settings.title("PAYMENT__MAKE", "de") == "Bezahlen"


@pytest.mark.parametrize(
    ("origin", "secure"),
    [("https://api.example.com", True), ("http://localhost:8000", False), ("https://localhost", True)],
)
def test_cookies_are_for_tls_alone_but_on_this_machine(tmp_path: Path, origin: str, *, secure: bool) -> None:
    assert settings_of(tmp_path, f'[page]\norigin = "{origin}"').secure is secure


def test_templates_of_the_operator_s_are_taken_where_they_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/done.html").write_text('{% extends "base.html" %}', encoding="utf-8")
    assert mistakes(tmp_path, '[page]\ntemplates = "drawn"') == []


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.attack(116)
@pytest.mark.parametrize("table", ["[page]\n", SHOP])
def test_an_opener_is_one_exact_origin(tmp_path: Path, table: str) -> None:
    where = "page" if table == "[page]\n" else "applications[1]"
    found = mistakes(
        tmp_path,
        table + 'openers = ["*", "https://*.example.com", "http://shop.example", "https://Shop.example/",'
        ' "https://a.example", "https://a.example"]',
    )
    assert found == [
        f'{where}.openers[1]: must be an origin: scheme and host, such as "https://shop.example.com"',
        f"{where}.openers[2]: stands for more than one origin; write each one out",
        (
            f"{where}.openers[3]: is not encrypted, so that anybody on the way could be it;"
            ' write "https://shop.example"'
        ),
        f'{where}.openers[4]: is written by browsers in another way; write "https://shop.example"',
        f"{where}.openers[6]: stands twice; leave one out",
    ]


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ('origin = "https://api.example.com/"', "page.origin: is written by browsers in another way"),
        ('origin = "http://api.example.com"', "page.origin: is not encrypted"),
        ('name = ""', "page.name: must be a name that customers know, of 1 to 60 characters"),
        ('name = "a\\u202eb"', "page.name: holds a control character"),
        ('colour = "red"', 'page.colour: must be a colour of six hexadecimal digits, such as "#1f4fd8"'),
        (
            'colour = "#fc0"',
            "page.colour: #ffcc00 cannot be read: its contrast to white and to the page is 1.3",
        ),
        ('logo = ""', "page.logo: must name a file"),
        ('templates = ""', "page.templates: must name a directory"),
        ("openers = 1", "page.openers: Expected `array`, got `int`"),
        ('color = "#000"', "page.color: unknown; known are colour, frame_high_risk, logo, "),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_to_write(tmp_path: Path, member: str, found: str) -> None:
    (only,) = mistakes(tmp_path, f"[page]\n{member}")
    assert only.startswith(found)


def test_all_that_is_wrong_in_the_table_is_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        '[page]\ncolor = "#000"\norigin = "http://api.example.com"\nname = 7\ncolour = "red"',
        'openers = ["https://a.example", 1]\nframe_high_risk = "no"\nlogos = "logo.svg"',
    )
    assert [each.partition("; ")[0].partition(",")[0] for each in found] == [
        "page.color: unknown",
        "page.name: Expected `str`",
        "page.openers[2]: Expected `str`",
        "page.frame_high_risk: Expected `bool`",
        "page.logos: unknown",
        "page.origin: is not encrypted",
        "page.colour: must be a colour of six hexadecimal digits",
    ]


@pytest.mark.parametrize(("text", "framed"), [("", True), ("true", True), ("false", False)])
def test_what_is_of_high_risk_can_be_kept_out_of_frames(tmp_path: Path, text: str, *, framed: bool) -> None:
    table = f"[page]\nframe_high_risk = {text}" if text else "[page]"
    assert settings_of(tmp_path, table).frame_high_risk is framed


@pytest.mark.attack(125)
@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        ("logo.svg", SVG.replace(b"<path", b"<script/><path"), "has a <script>, which is no picture"),
        ("logo.svg", SVG.replace(b"<path", b"<foreignObject/><path"), "has a <foreignObject>"),
        ("logo.png", b"<html>", "is no PNG inside"),
        ("logo.png", PNG + bytes(10_000_000), "has more than 65536 bytes"),
        ("logo.html", b"<html>", "must be a picture that ends in .svg, .png or .webp"),
    ],
)
def test_a_logo_that_is_more_or_less_than_a_picture_is_refused(
    tmp_path: Path, name: str, body: bytes, found: str
) -> None:
    (tmp_path / name).write_bytes(body)
    (only,) = mistakes(tmp_path, f'[page]\nlogo = "{name}"')
    assert only.startswith(f"page.logo: {tmp_path / name}: {found}")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path, '[page]\nlogo = "logo.svg"\ntemplates = "drawn"') == [
        f"page.logo: {tmp_path}/logo.svg: No such file or directory; put the picture there",
        f"page.templates: {tmp_path}/drawn: is no directory; make it, or leave it out",
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{% if %}", ", line 1: Expected an expression"),
        (b'{% extends "base.html" %}\n{% block x %}', ", line 2: Unexpected end of template"),
        (b"\xff", ": 'utf-8' codec can't decode"),
        (b"\n{{ view.payee }}", ", line 2: 'watchword.page.view.View object' has no attribute 'payee'"),
        (b"{{ view.text + 1 }}", ', line 1: can only concatenate tuple (not "int") to tuple'),
        (b'{% include "foot.html" %}', ", line 1: there is no template foot.html"),
    ],
)
def test_a_template_that_cannot_be_read_or_drawn_is_refused(
    tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/bare.html").write_bytes(content)
    (only,) = mistakes(tmp_path, '[page]\ntemplates = "drawn"')
    assert only.startswith(f"page.templates: {tmp_path}/drawn/bare.html{found}")


def test_every_file_that_takes_no_template_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "drawn/.git").mkdir(parents=True)
    for name in ("chose.html", "shop.css", ".git/HEAD"):
        (tmp_path / "drawn" / name).write_text("", encoding="utf-8")
    assert mistakes(tmp_path, '[page]\ntemplates = "drawn"') == [
        f"page.templates: {tmp_path}/drawn/{name}: takes no template's place, and no template names it;"
        f" {meant}"
        for name, meant in (
            ("chose.html", "did you mean choose.html?"),
            ("shop.css", "name it in one of yours, or take it away"),
        )
    ]


def test_files_that_others_may_change_are_refused_for_they_see_every_pin(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_bytes(SVG)
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/done.html").write_text("", encoding="utf-8")
    for path in ("logo.svg", "drawn", "drawn/done.html"):
        (tmp_path / path).chmod(0o777)
    assert mistakes(tmp_path, '[page]\nlogo = "logo.svg"\ntemplates = "drawn"') == [
        f"page.{key}: {path}: others than its owner may change it; run: chmod go-w {path}"
        for key, path in (
            ("logo", tmp_path / "logo.svg"),
            ("templates", tmp_path / "drawn"),
            ("templates", tmp_path / "drawn/done.html"),
        )
    ]


def test_a_picture_that_went_after_the_start_looked_at_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_bytes(SVG)
    deployment = checked(installation(tmp_path, ADA, '[page]\nlogo = "logo.svg"'))
    (tmp_path / "logo.svg").unlink()
    with pytest.raises(BrandError, match="No such file"):
        page_settings(deployment)


# --- doctor ---------------------------------------------------------------------------------------


async def of_the_page(config: Path) -> list[Finding]:
    return [each for each in await examine(config) if each.check.startswith(("page", "openers"))]


async def test_doctor_says_that_nobody_opens_the_page(tmp_path: Path) -> None:
    assert await of_the_page(installation(tmp_path, ADA)) == [
        Finding("page", "page.origin is not set, so that no code is bound to where it may be typed"),
        Finding("openers", "there are none: the page opens as a window of its own, and tells nobody"),
    ]


async def test_doctor_says_who_opens_the_page(tmp_path: Path) -> None:
    config = installation(
        tmp_path,
        ADA,
        '[page]\norigin = "https://api.example.com"\nopeners = ["https://a.example", "https://b.example"]',
        SHOP + 'openers = ["https://b.example", "https://c.example"]',
        '[[applications]]\nid = "batch"\nopeners = []\n[[applications]]\nid = "portal"',
    )
    assert await of_the_page(config) == [
        Finding("page", "codes are for https://api.example.com"),
        Finding("openers", "in a frame, and told how it ended: https://a.example, https://b.example"),
        Finding("openers of shop", "in a frame, and told how it ended: https://b.example, https://c.example"),
        Finding(
            "openers of batch", "there are none: the page opens as a window of its own, and tells nobody"
        ),
    ]


@pytest.mark.parametrize(
    "member",
    [
        'origin = "http://api.example.com"',
        'openers = ["*"]',
        "openers = 1",
        'color = "#000"',
        'logo = "none.svg"',
        'templates = "none"',
    ],
)
async def test_doctor_calls_nothing_of_a_page_well_that_is_refused(tmp_path: Path, member: str) -> None:
    findings = await examine(installation(tmp_path, ADA, f"[page]\n{member}"))
    assert [each.check for each in findings if each.advice and each.advice.startswith("page")]
    assert not [each for each in findings if each.ok and each.check.startswith(("page", "openers"))]


async def test_doctor_calls_no_openers_of_an_application_well_that_are_refused(tmp_path: Path) -> None:
    found = await of_the_page(installation(tmp_path, ADA, SHOP + 'openers = ["*"]'))
    assert [each.check for each in found] == ["page", "openers"]
