"""The documentation as data: its files, and the fenced blocks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda path: path.relative_to(ROOT).as_posix()
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w-]+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    """
    A fenced block.

    Attributes:
        language: The word behind the fence.
        line: Where it begins.
        file: The name under which the reader is told to save it, in a comment on its first line.
    """

    language: str
    line: int
    text: str

    @property
    def file(self) -> str | None:
        named = _FILE_NAME.match(self.text)
        return None if named is None else named[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[Block]:
    for fence in _FENCE.finditer(text):
        yield Block(fence[1], text.count("\n", 0, fence.start()) + 1, fence[2])


def prose(text: str) -> str:
    """Return a document without its blocks."""
    return _FENCE.sub("", text)
