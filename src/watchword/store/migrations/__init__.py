"""
The schemas of the stores, a folder each, one numbered file a step; a step that was released never changes.

Nothing goes back: what a step did is undone by a later one, if at all.
"""

import re
from importlib import resources
from typing import Final

_NEEDS: Final = re.compile(r"^-- needs: (\d+)$", re.MULTILINE)


def steps(store: str) -> dict[str, str]:
    """Return the steps of a store's schema by their names, in order."""
    folder = resources.files(__name__).joinpath(store)
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in files}


def needed_by(step: str, number: int) -> int:
    """Return the least schema that a release must know to share a store with *step*, the *number*-th."""
    said = _NEEDS.search(step)
    return number if said is None else int(said[1])
