"""The shell that repeats transcripts notices when one is not true."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.shell import Transcript

ONE, OTHER = "5a2a1f6e-3d6e-4ad6-8a50-0d9b1a2f7c11", "0b9b6a6e-9f4b-4d57-a4c4-0e8a4cf1a5d2"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Transcript]:
    with Transcript(tmp_path, {"127.0.0.1:8000": "127.0.0.1:1234"}) as transcript:
        yield transcript


def test_what_is_printed_as_shown_is_fine(shell: Transcript) -> None:
    assert shell.repeat("$ echo one\none\n$ WORD=two\n$ echo \\\n    $WORD\ntwo\n") is None


@pytest.mark.parametrize("shown", ["", "tw", "two\nthree", "one two", "Two"])
def test_what_is_printed_otherwise_is_told(shell: Transcript, shown: str) -> None:
    told = shell.repeat(f"$ echo two\n{shown}\n")
    assert told is not None
    assert "echo two" in told


def test_an_ellipsis_stands_for_anything_but_not_for_what_surrounds_it(shell: Transcript) -> None:
    assert shell.repeat("$ printf 'a\\nb\\nc\\n'\na\n…\nc\n") is None
    assert shell.repeat("$ printf 'a\\nb\\nc\\n'\na\n…\nd\n") is not None


def test_a_uuid_stands_for_the_one_first_printed_in_its_place(shell: Transcript) -> None:
    assert shell.repeat(f"$ echo id=0d0a4a4b-5a1c-4e7e-9d0b-1c8f4fb6c2aa\nid={ONE}\n") is None
    assert shell.repeat(f"$ echo 0d0a4a4b-5a1c-4e7e-9d0b-1c8f4fb6c2aa\n{ONE}\n") is None
    assert shell.repeat(f"$ echo {OTHER}\n{ONE}\n") is not None
    assert shell.repeat(f"$ echo no-uuid\n{OTHER}\n") is not None


def test_addresses_are_those_of_the_server_that_runs(shell: Transcript) -> None:
    assert shell.repeat("$ echo http://127.0.0.1:8000/ | tr 1234 abcd\nhttp://abg.0.0.a:abcd/\n") is not None
    assert shell.repeat("$ echo http://127.0.0.1:8000/\nhttp://127.0.0.1:8000/\n") is None


def test_a_command_over_several_lines_may_be_prompted_for_as_a_shell_does(shell: Transcript) -> None:
    assert shell.repeat('$ for WORD in a b; do\n>   printf "$WORD "\n> done\na b\n') is None
