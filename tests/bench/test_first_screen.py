"""The bench's look at the approval page, on a real server."""

from pathlib import Path

import pytest

from bench.load import BenchError
from bench.page import FirstScreen, first_screen
from bench.process import serving
from bench.server import prefill


def test_the_first_screen_is_weighed_and_timed(tmp_path: Path) -> None:
    database = tmp_path / "page.db"
    prefill(database, people=4, tokens=0)
    place = f"sqlite {database.parent} {database.name}"
    with serving("bench.server:create_app", place, log=database.with_suffix(".log")) as server:
        screen = first_screen(server.port, customers=3)
        with pytest.raises(BenchError, match="without a token"):
            first_screen(server.port, customers=5)  # The fifth has no phone.
    assert 0 < screen.html_bytes + screen.files_bytes < 40_000
    assert 0 < screen.p50_ms <= screen.p99_ms


def test_the_line_says_all_of_it() -> None:
    screen = FirstScreen(html_bytes=3_000, files_bytes=20_000, p50_ms=2.5, p99_ms=9.0)
    assert screen.line() == (
        "first screen of the approval page: 23.0 kB (document 3.0, style and script 20.0);"
        " from form to document p50 2.5 ms, p99 9.0 ms"
    )
