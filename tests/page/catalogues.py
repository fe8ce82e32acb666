"""
The page's texts, gathered from templates and code, and the catalogues that hold them in other languages.

``python -m tests.page.catalogues`` brings every catalogue up to date: new texts come in empty, to be
translated by hand, and those that nobody uses any more go.
"""

from io import BytesIO, StringIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from watchword.page import language

PAGE = Path(language.__file__).parent
TRANSLATED = tuple(tag for tag in language.TAGS if tag != language.SOURCE)

_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "message": None}
_WIDTH = 110
_NOISE = tuple(
    f'"{name}: '
    for name in (
        "Project-Id-Version",
        "Report-Msgid-Bugs-To",
        "POT-Creation-Date",
        "PO-Revision-Date",
        "Last-Translator",
        "Language-Team",
        "Generated-By",
    )
)


def texts() -> Catalog:
    """Gather the texts of the templates and of the code beside them."""
    found = Catalog()
    for folder, pattern, kind in (
        ("templates", "*.html", "jinja2.ext:babel_extract"),
        (".", "*.py", "python"),
    ):
        for path in sorted((PAGE / folder).glob(pattern)):
            entries = extract_from_file(kind, path, keywords=_KEYWORDS, options={"silent": "false"})
            for _line, text, _comments, _context in entries:
                found.add(text, locations=[(path.name, 0)])
    return found


def path_of(tag: str) -> Path:
    """Return where the catalogue of a language lies."""
    return PAGE / "locale" / f"{tag}.po"


def catalogue(tag: str) -> Catalog:
    """Read the catalogue of a language."""
    return read_po(StringIO(path_of(tag).read_text(encoding="utf-8")), locale=tag)


def update() -> None:
    """Bring every catalogue up to date."""
    gathered = texts()
    for tag in TRANSLATED:
        old = catalogue(tag)
        new = Catalog(locale=tag, charset="utf-8", fuzzy=False, header_comment="")
        for entry in gathered:
            if entry.id:
                kept = old.get(entry.id)
                files = sorted({name for name, _ in entry.locations})
                new.add(entry.id, kept.string if kept else None, auto_comments=[", ".join(files)])
        write(tag, new)


def write(tag: str, catalog: Catalog) -> None:
    """Write a catalogue, without the parts of its head that say nothing, or change with every run."""
    out = BytesIO()
    write_po(out, catalog, width=_WIDTH, no_location=True)
    lines = out.getvalue().decode().lstrip().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(_NOISE)]
    path_of(tag).write_text("".join(kept), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    update()
