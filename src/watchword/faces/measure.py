"""
How well the local matcher tells people apart: ``python -m watchword.faces.measure DIRECTORY``.

The directory holds one directory for each person, with photographs of nobody else in it. Every
photograph is compared with every other one, as at a verification; printed is, for some thresholds,
how many pairs of two people match and how many pairs of one person do not.
"""

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from watchword.faces.settings import THRESHOLD, THRESHOLD_LEAST
from watchword.faces.worker import Faces, cosine

SHOWN = (0.40, THRESHOLD_LEAST, THRESHOLD, 0.55, 0.60)


def report(directory: Path) -> Iterator[str]:
    """Measure, and return the lines to print."""
    faces = Faces()
    people: list[tuple[str, bytes]] = []
    seen = 0
    for file in sorted(directory.glob("*/*")):
        if file.is_file():
            seen += 1
            embedding = faces.embed(file.read_bytes())
            if embedding:
                people.append((file.parent.name, embedding))
    yield f"{len(people)} of {seen} photographs are usable, of {len({name for name, _ in people})} people"
    same: list[float] = []
    different: list[float] = []
    for (name, one), (other_name, other) in combinations(people, 2):
        (same if name == other_name else different).append(cosine(one, other))
    for threshold in SHOWN:
        accepted = sum(likeness >= threshold for likeness in different)
        rejected = sum(likeness < threshold for likeness in same)
        yield (
            f"threshold {threshold:.2f}: {_share(accepted, len(different))} false accepts,"
            f" {_share(rejected, len(same))} false rejects"
        )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.4%})" if whole else "0 of 0"


def main() -> None:
    """Print the report about the directory on the command line."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():  # noqa: PLR2004 - the program, and one argument.
        raise SystemExit("usage: python -m watchword.faces.measure DIRECTORY, one directory a person in it")
    for line in report(Path(sys.argv[1])):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
