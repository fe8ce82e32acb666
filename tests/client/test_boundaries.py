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


# Run where an application runs that has the client and neither extra library.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('cryptography', 'joserfc', 'requests'))); "


def run_without(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", WITHOUT + script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_client_works_without_the_libraries_of_jose_and_of_requests() -> None:
    script = """
import httpx2
import watchword.client.call
from watchword.client import Auth, Enrolment, Jose, RequestsAuth, StaticResolver, perform

def answer(request):
    return httpx2.Response(204)

resolver = StaticResolver(pin="1234")
for jose in (None, Jose("off")):
    RequestsAuth(resolver, jose=jose)
    with httpx2.Client(
        auth=Auth(resolver, jose=jose), base_url="http://bank.example", transport=httpx2.MockTransport(answer)
    ) as client:
        perform(client, Enrolment(jose=jose).create_pin("1234"))
print(*(name for name, module in sys.modules.items() if module and name in {"cryptography", "joserfc"}))
"""
    assert run_without(script) == "\n"


def test_what_needs_them_names_the_extra_to_install() -> None:
    script = """
from watchword.client import Auth, Jose

for needy in (lambda: Jose("auto", application_token="t"), lambda: Auth(signing_key="PEM")):
    try:
        needy()
    except ImportError as error:
        print(error)
"""
    assert run_without(script).splitlines() == [
        "JOSE needs cryptography and joserfc: pip install 'watchword[client-jose]'",
        "a signature needs cryptography: pip install 'watchword[client-jose]'",
    ]


def test_on_the_command_line_the_extra_is_named_in_one_line() -> None:
    script = """
from watchword.client.call import call

print(call("http://bank.example", token="t", jose="auto", application_token="t"))
"""
    command = [sys.executable, "-c", WITHOUT + script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "2\n"
    assert done.stderr == (
        "watchword call: --jose: JOSE needs cryptography and joserfc: pip install 'watchword[client-jose]'\n"
    )


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
