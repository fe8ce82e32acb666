"""The documentation hangs together, and speaks of the project alone."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.docs.documents import NAMES, ROOT, prose, read

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SVG = "{http://www.w3.org/2000/svg}"
# A path of somebody's machine; what a reader is told about is relative, or the system's own.
_MACHINE = re.compile(r"/(?:home|root|Users|work|tmp|var|opt)/[\w.-]")


def _anchor(heading: str) -> str:
    """Make the anchor of a heading, as the usual renderers do."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _anchors(name: str) -> set[str]:
    return {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", prose(read(name)), re.MULTILINE)}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    lost = []
    for target in _LINK.findall(prose(read(name))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        # An anchor is looked up only in a document that is there.
        if not file.exists() or (
            anchor and anchor not in _anchors(file.resolve().relative_to(ROOT).as_posix())
        ):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_every_document_can_be_reached_from_the_readme(name: str) -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = (
            target.partition("#")[0] for target in _LINK.findall(prose(page.read_text(encoding="utf-8")))
        )
        waiting += ((page.parent / target).resolve() for target in targets if target and ":" not in target)
    assert ROOT / name in seen


@pytest.mark.parametrize("name", NAMES)
def test_no_document_names_a_path_of_somebodys_machine(name: str) -> None:
    assert _MACHINE.findall(read(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_document_has_one_title(name: str) -> None:
    assert len(re.findall(r"^# ", prose(read(name)), re.MULTILINE)) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "docs/img").glob("*.svg")), ids=lambda path: path.name)
def test_every_picture_says_in_words_what_it_shows(path: Path) -> None:
    picture = ET.parse(path).getroot()  # noqa: S314 - a file of ours.
    for part in ("title", "desc"):
        said = picture.find(f"{_SVG}{part}")
        assert said is not None
        assert said.text
