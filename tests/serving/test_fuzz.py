"""Whatever a file holds: it is read, or its mistakes are told; nothing else is raised."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from tests.serving.support import installation
from watchword.config import SERVING, ActionTable, ConfigError, EnrolmentTable, SessionTable
from watchword.serving.app import checked
from watchword.serving.initial import template

NAMES = sorted({*SERVING, "actions", "session", "limits", "enrolment", "unknown"})
KEYS = sorted(
    {
        *ActionTable.__struct_fields__,
        *EnrolmentTable.__struct_fields__,
        *SessionTable.__struct_fields__,
        *(
            "host",
            "port",
            "file",
            "jose_file",
            "path",
            "id",
            "jose",
            "webhook",
            "secret_file",
            "target",
            "url",
        ),
        *("issuer", "audience", "sha256", "kind", "user_id", "client_id", "client_secret_file", "provider"),
        *(
            "api_key_file",
            "match_level",
            "timeout_seconds",
            "at_once",
            "signature_suffices",
            "leeway_seconds",
        ),
    }
)
ODD = [
    "",
    "\0",
    "/",
    "..",
    "\ud7ff",
    "http://",
    "https://[",
    "http://[::1",
    "a" * 300,
    "bank:app",
    "127.0.0.1",
    "user",
]
SCALARS = st.one_of(
    st.sampled_from(ODD),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda text: f"x{text}"),
    st.integers(-(2**70), 2**70),
    st.booleans(),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=3)
)
TABLES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)


def toml(value: Any) -> str:
    """Write a value; JSON's strings, numbers and lists are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    # TOML wants DEL escaped, which JSON does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def told(folder: Path, text: str) -> list[str]:
    config = folder / "watchword.toml"
    if not config.exists():
        installation(folder)
    config.write_text(text, encoding="utf-8")
    try:
        checked(config)
    except ConfigError as error:
        return error.mistakes or ["a mistake that is not told"]
    return []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=st.dictionaries(st.sampled_from(NAMES), st.one_of(VALUES, TABLES, st.lists(TABLES, max_size=2)))
)
def test_whatever_is_written_is_read_or_told(tmp_path: Path, written: dict[str, Any]) -> None:
    text = "".join(f"{name} = {toml(value)}\n" for name, value in written.items())
    assert all("\n" not in mistake for mistake in told(tmp_path, text))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_template_with_a_slip_is_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    text = template()
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.sampled_from(["", "\n", "#", "[", '"', "=", "\x01"])) + text[at + 1 :]
    assert told(tmp_path, text)  # that nobody can tell who calls, at the least
