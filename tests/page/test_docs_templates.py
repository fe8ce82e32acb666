"""What the documentation says of templates is so, and the one that it shows can be used as it stands."""

import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from tests.docs.documents import NAMES, Block, blocks, read
from tests.page.test_render import a_view, drawn
from watchword.page.assets import Assets
from watchword.page.brand import DEFAULT, logo_fault
from watchword.page.render import Renderer
from watchword.page.view import Screen, View

HOW_TO = "docs/how-to/use-the-approval-page.md"
NAMED = re.compile(r"\{# (\w+)\.html #\}\n")
SHOWN: list[Block] = [block for name in NAMES for block in blocks(read(name)) if block.language == "jinja"]


def _row(begin: str) -> str:
    (found,) = [line for line in read(HOW_TO).splitlines() if line.startswith(f"| {begin} |")]
    return found


@pytest.mark.parametrize("block", SHOWN, ids=[str(block.line) for block in SHOWN])
def test_a_template_that_is_shown_takes_the_place_of_ours(tmp_path: Path, block: Block) -> None:
    named = NAMED.match(block.text)
    assert named is not None
    (tmp_path / f"{named[1]}.html").write_text(block.text, encoding="utf-8")
    own = Renderer(DEFAULT, tmp_path, Assets())
    texts = {
        tag: drawn(own, a_view(Screen(named[1])), tag=tag).one("main").text.split("\n")
        for tag in ("en", "de")
    }
    assert "Forgot your PIN? 0800 123456" in texts["en"]
    assert "PIN vergessen? 0800 123456" in texts["de"]


def test_there_is_one_to_draw() -> None:
    assert SHOWN


def test_every_field_of_a_view_is_named_and_no_other() -> None:
    named = re.findall(r"`(\w+)`", _row("`view`"))
    assert named[1:] == [field.name for field in fields(View)]


def test_every_part_that_is_named_is_there() -> None:
    source = files("watchword.page").joinpath("templates/parts.html").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", _row("`parts.…`"))) - {"view"} <= set(
        re.findall(r"{% macro (\w+)\(", source)
    )


def test_every_block_that_is_named_is_there() -> None:
    source = files("watchword.page").joinpath("templates/base.html").read_text(encoding="utf-8")
    named = re.findall(r"^\| `{% block (\w+) %}`", read(HOW_TO), re.MULTILINE)
    assert sorted(named) == sorted(re.findall(r"{% block (\w+) %}", source))


def test_a_logo_for_dark_mode_as_it_is_shown_is_taken() -> None:
    (style,) = re.findall(r"`(<style>.*?</style>)`", read(HOW_TO))
    assert "prefers-color-scheme: dark" in style
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{style}<path d="M0 0h9v9H0z"/></svg>'
    assert logo_fault("logo.svg", svg.encode()) is None
