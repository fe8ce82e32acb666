"""What CONTRIBUTING.md says about commands and dependencies is so."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
ROWS = {
    row[1]: row.groups()
    for row in re.finditer(r"^\| `([a-z0-9-]+)` \| (\S+) \| (\d{4}-\d\d-\d\d) \|", CONTRIBUTING, re.MULTILINE)
}
IN_THE_STANDARD_FORM = r"[a-z0-9-]+"


def _declared() -> set[str]:
    requirements = [
        *PYPROJECT["project"]["dependencies"],
        *(line for extra in PYPROJECT["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in PYPROJECT["dependency-groups"].values() for line in group),
    ]
    return {re.match(IN_THE_STANDARD_FORM, line)[0] for line in requirements}  # type: ignore[index]


def test_every_declared_dependency_is_explained() -> None:
    assert _declared() - ROWS.keys() == set()


def test_every_explained_dependency_is_locked_at_the_version_and_date_given() -> None:
    wrong = {}
    for name, version, released in ROWS.values():
        package = LOCK[name]
        file = package.get("sdist") or package["wheels"][0]
        if (package["version"], file["upload-time"][:10]) != (version, released):
            wrong[name] = (package["version"], file["upload-time"][:10])
    assert wrong == {}


def test_every_target_that_help_lists_is_described() -> None:
    targets = re.findall(r"^([a-z]+):.*##", MAKEFILE, re.MULTILINE)
    assert [target for target in targets if f"`make {target}`" not in CONTRIBUTING] == []


def test_every_command_described_is_a_target() -> None:
    targets = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
    assert set(re.findall(r"`make ([a-z]+)", CONTRIBUTING)) - set(targets) == set()


@pytest.mark.parametrize("path", re.findall(r"^\| `([a-z./]+/[a-z]*)` \|", CONTRIBUTING, re.MULTILINE))
def test_every_place_in_the_table_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_rule_left_out_names_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("ignore = [")
    rules = lines[start + 1 : lines.index("]", start)]
    # A rule without a comment shares that of the one above it: only the first must have one.
    families = {re.match(r'\s+"([A-Z]+)', line)[1] for line in rules}  # type: ignore[index]
    explained = {re.match(r'\s+"([A-Z]+)', line)[1] for line in rules if "#" in line}  # type: ignore[index]
    assert families - explained == set()
