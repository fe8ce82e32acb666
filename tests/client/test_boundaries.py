"""What the client may import, and what it lets others import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import watchword
from watchword import client

SOURCES = Path(watchword.__file__).parent


def test_an_application_gets_the_client_without_any_server_code() -> None:
    script = (
        "import sys, watchword.client.call; print(*(m for m in sys.modules if m.startswith('watchword.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    packages = {name.split(".")[1] for name in done.stdout.split()}
    assert packages == {"client", "wire"}


def test_the_http_library_is_named_in_one_module_only() -> None:
    importing = re.compile(r"^\s*(?:import|from)\s+httpx2?\b", re.MULTILINE)
    sources = (SOURCES / "client").rglob("*.py")
    named_in = [path.name for path in sources if importing.search(path.read_text())]
    assert named_in == ["_http.py"]


def test_every_public_name_is_there_and_every_error_is_public() -> None:
    assert sorted(client.__all__) == client.__all__
    assert all(hasattr(client, name) for name in client.__all__)
    errors = {name for name in vars(client.errors) if name.endswith("Error")}
    assert errors <= set(client.__all__)
