"""What import-linter cannot say about who imports what."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def _importers(library: str) -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            if any(module.split(".")[0] == library for module in modules):
                yield path.relative_to(SOURCE).as_posix()
                break


def test_the_http_client_is_known_where_calls_leave_and_nowhere_else() -> None:
    """Another one can then take its place in few lines, and who looks for what calls out finds it."""
    assert set(_importers("httpx2")) == {
        "watchword/auth/egress.py",
        "watchword/client/_http.py",
        "watchword/delivery/webhook.py",
        "watchword/faces/http.py",
    }


def test_the_database_library_is_known_to_the_sqlite_store_alone() -> None:
    assert set(_importers("apsw")) == {f"watchword/store/{name}.py" for name in ("backup", "group", "sqlite")}
