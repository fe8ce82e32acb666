"""``--config`` and the approval page: its looks can be tried; who may open it stays the sandbox's affair."""

from pathlib import Path

import pytest

from tests.page.forms import Customer
from tests.sandbox.support import Person, client_of, new_ott
from watchword.config import ConfigError
from watchword.sandbox.app import create, look_of


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "watchword.toml"
    file.write_text(text, encoding="utf-8")
    return file


async def test_name_colour_and_templates_can_be_tried(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pin.html").write_text(
        '{% extends "base.html" %}{% block form %}<p>Ours.</p>{{ parts.answer(view, _("PIN"), "") }}'
        "{% endblock %}",
        encoding="utf-8",
    )
    page = look_of(
        written(
            tmp_path,
            '[page]\nname = "Bob’s Bank"\ncolour = "#7a1fa2"\ntemplates = "own"\n'
            'origin = "https://sca.example.com"\nopeners = ["https://shop.example.com"]\n',
        )
    )
    async with create(page=page) as sandbox, client_of(sandbox) as client:
        seen = await Customer(client).open(new_ott(await Person(client, "demo-ada", 435036).pay()))
    assert "Bob’s Bank" in seen.text
    assert "Ours." in seen.text
    assert "#7a1fa2" in seen.answer.text
    assert "http://localhost:*" in seen.answer.headers["content-security-policy"]
    assert "shop.example.com" not in seen.answer.headers["content-security-policy"]
    assert "strict-transport-security" not in seen.answer.headers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[page]\ncolour = "#ffffff"', "page.colour: #ffffff cannot be read"),
        ('[page]\nlogo = "none.png"', "none.png: No such file"),
        ('[page]\nname = ""', "page.name: must be a name"),
        ('[page]\nopeners = ["http://shop.example"]', "page.openers"),
        ('[page]\ncolor = "#000000"', "page.color: unknown; known are colour, "),
    ],
)
def test_what_cannot_be_shown_is_told_before_the_start(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        look_of(written(tmp_path, text))
    assert told in str(raised.value)


def test_a_template_that_cannot_be_read_is_told_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pin.html").write_text("{% if %}", encoding="utf-8")
    with pytest.raises(ConfigError, match="page"):
        look_of(written(tmp_path, '[page]\ntemplates = "own"'))
