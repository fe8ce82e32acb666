"""The settings of a server: every table strict, every mistake named, the template among them."""

from pathlib import Path

import pytest

from tests.serving.support import ADA
from watchword.config import SERVING, ConfigError
from watchword.domain.limits import Limits
from watchword.serving.initial import template
from watchword.serving.settings import Deployment, load, parse

NOWHERE = Path("/nowhere")


def read(text: str) -> tuple[Deployment, list[str]]:
    return parse(text, folder=NOWHERE)


def uncommented() -> str:
    """Return the template with all that it proposes."""
    lines = template().splitlines()
    return "\n".join(line.removeprefix("# ") if " = " in line or "[" in line[:4] else line for line in lines)


def test_what_a_new_installation_begins_with_is_read_without_a_mistake() -> None:
    deployment, mistakes = read(template())
    assert mistakes == []
    assert (deployment.server.host, deployment.server.port) == ("127.0.0.1", 8000)
    assert deployment.key_file == NOWHERE / "keys.json"
    assert deployment.limits == Limits()


def test_all_that_the_template_proposes_is_read_but_for_what_only_the_operator_knows() -> None:
    deployment, mistakes = read(uncommented())
    assert mistakes == [
        "tokens[1].sha256: must be the 64 hexadecimal digits of the token's SHA-256, and not the token"
    ]
    assert deployment.broken == frozenset()
    assert all(getattr(deployment, name) for name in SERVING)


@pytest.mark.parametrize("name", SERVING)
def test_every_table_is_read_strictly(name: str) -> None:
    for text, several in ((f"[{name}]\nmispelt = 1", False), (f"[[{name}]]\nmispelt = 1", True)):
        deployment, mistakes = read(text)
        (found,) = mistakes
        assert found.startswith((f"{name}: ", f"{name}[1]: ")), (several, found)
        assert deployment.broken == {name}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[server]\nhost = ''", "server.host: must be an address or a host's name"),
        ("[server]\nhost = 'no such host'", "server.host: must be an address or a host's name"),
        (f"[server]\nhost = '{'a' * 64}.example'", "server.host: must be an address or a host's name"),
        ('[keys]\nfile = "keys\\u0000.json"', "keys.file: holds a NUL character"),
        ('[[applications]]\nid = "a\\u0000"', "applications[1].id: holds a NUL character"),
        ("[server]\nport = -1", "server.port: must be from 0 to 65535, not -1"),
        ("[server]\nport = 65536", "server.port: must be from 0 to 65535, not 65536"),
        ("[server]\nport = '80'", "server: Expected `int`, got `str` - at `$.port`"),
        ("[keys]\nfile = ''", "keys.file: must name a file"),
        ("[keys]\njose_file = ''", "keys.jose_file: must name a file"),
        ("[store]\npath = ''", "store.path: must name a file"),
        ("[[applications]]\nid = ''", "applications[1].id: must be the application's client id"),
        ("[[applications]]\nid = 'a'\njose = 'never'", "applications[1]: Invalid enum value 'never'"),
        (
            "[[applications]]\nid = 'a'\n[[applications]]\nid = 'b'\n[[applications]]\nid = 'a'",
            "applications[3].id: stands in an earlier entry already",
        ),
        ("[app]\ntarget = 'bank'", 'app.target: must be "module:attribute"'),
        ("[app]\ntarget = 'bank:'", 'app.target: must be "module:attribute"'),
        ("[app]\ntarget = '../bank:app'", 'app.target: must be "module:attribute"'),
        ("[[issuers]]\nissuer = 'http://x.example'\naudience = 'a'", "issuers[1].issuer: write https://"),
        ("[gateway]\nsecret_file = ''", "gateway.secret_file: must name a file"),
        (ADA + ADA, "tokens[2].sha256: stands in an earlier entry already"),
        ("issuers = 1", "issuers: must be tables, [[issuers]]"),
        ("issuers = [1]", "issuers[1]: Expected `object`, got `int`"),
        ("[limits]\nfailures = 6", "limits.failures: must be from 1 to 5, not 6"),
    ],
)
def test_a_mistake_is_named(text: str, found: str) -> None:
    _, mistakes = read(text)
    (only,) = mistakes
    assert only.startswith(found), only


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ("webhook = 'http://messages.example.com/'", "delivery.webhook: write https://"),
        ("webhook = 'http://10.0.0.1/'", "delivery.webhook: write https://"),
        ("webhook = 'https://169.254.169.254/'", "delivery.webhook: not an address of a server"),
        ("webhook = 'file:///etc/passwd'", "delivery.webhook: not a URL with a host"),
        ("webhook = 'https://user:pass@example.com/'", "delivery.webhook: a URL holds no user"),
        ("secret_file = ''", "delivery.secret_file: must name a file"),
        ("timeout_seconds = 0.9", "delivery.timeout_seconds: must be from 1 to 30, not 0.9"),
        ("timeout_seconds = 30.5", "delivery.timeout_seconds: must be from 1 to 30, not 30.5"),
        ("timeout_seconds = nan", "delivery.timeout_seconds: must be from 1 to 30, not nan"),
        ("at_once = 0", "delivery.at_once: must be from 1 to 1000, not 0"),
        ("at_once = 1001", "delivery.at_once: must be from 1 to 1000, not 1001"),
    ],
)
def test_a_delivery_that_is_unsafe_or_cannot_work_is_named(member: str, found: str) -> None:
    members = {"webhook": "'https://messages.example.com/'", "secret_file": "'secret'"}
    name, _, value = member.partition(" = ")
    text = "[delivery]\n" + "\n".join(f"{key} = {each}" for key, each in {**members, name: value}.items())
    _, mistakes = read(text)
    (only,) = mistakes
    assert only.startswith(found), only


@pytest.mark.parametrize(
    "member", ["timeout_seconds = 1", "timeout_seconds = 30", "at_once = 1", "at_once = 1000"]
)
def test_a_delivery_is_taken_at_its_bounds(member: str) -> None:
    assert read(f"[delivery]\nwebhook = 'http://127.0.0.1:1/'\nsecret_file = 's'\n{member}")[1] == []


def test_mistakes_of_the_policy_and_of_the_server_are_reported_together() -> None:
    _, mistakes = read("[limits]\nfailures = 6\n[server]\nport = -1\n[sandbox]\n[session]\nseconds = -1")
    assert [mistake.partition(":")[0] for mistake in mistakes] == [
        "sandbox",
        "session.seconds",
        "limits.failures",
        "server.port",
    ]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - asked about, not bound to.
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_an_address_is_local_or_not(host: str, local: bool) -> None:
    assert read(f"[server]\nhost = '{host}'")[0].server.is_local is local


def test_relative_paths_begin_where_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "watchword.toml"
    file.write_text("[store]\npath = 'data/w.db'\n[keys]\nfile = '/etc/keys.json'", encoding="utf-8")
    deployment, mistakes = load(file)
    assert mistakes == []
    assert deployment.store_file == tmp_path / "data/w.db"
    assert deployment.key_file == Path("/etc/keys.json")
    assert deployment.jose_file == tmp_path / "jose.pem"


@pytest.mark.parametrize("text", ["[", "[server]\nport = 1\nport = 2"])
def test_what_is_not_toml_is_one_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        read(text)
