"""Each attack that is tried is told of, and each that is told of is tried."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _tried() -> set[int]:
    return {
        int(number)
        for file in (ROOT / "tests").rglob("*.py")
        for number in re.findall(r"mark\.attack\((\d+)\)", file.read_text(encoding="utf-8"))
    }


def _told() -> set[int]:
    rows = re.findall(
        r"^\| ([\d, ]+) \|", (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return {int(number) for row in rows for number in row.split(",")}


def test_every_attack_that_is_tried_is_in_the_list() -> None:
    assert sorted(_tried() - _told()) == []


def test_every_attack_in_the_list_is_tried() -> None:
    assert sorted(_told() - _tried()) == []
