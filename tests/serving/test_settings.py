"""The settings of a server: every table strict, every mistake named, the template among them."""

from pathlib import Path

import pytest

from tests.serving.support import ADA
from watchword.config import SERVING, ConfigError
from watchword.domain.limits import Limits
from watchword.serving.initial import template
from watchword.serving.settings import Deployment, load, parse

NOWHERE = Path("/nowhere")
SPLIT = "[store]\ntokens = 'valkey://h'\nusers = 'postgresql://h/d'\n"


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
        found, *missing = mistakes
        assert found.startswith((f"{name}: ", f"{name}.mispelt: ", f"{name}[1].mispelt: ")), (several, found)
        assert all(each.endswith(": must be there") for each in missing)
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
        ("[server]\nport = '80'", "server.port: Expected `int`, got `str`"),
        ("[server]\nworkers = 0", "server.workers: must be from 1 to 64, not 0"),
        ("[server]\nworkers = 65", "server.workers: must be from 1 to 64, not 65"),
        ("[server]\ndrain_seconds = -0.1", "server.drain_seconds: must be from 0 to 300, not -0.1"),
        ("[server]\ndrain_seconds = 300.1", "server.drain_seconds: must be from 0 to 300, not 300.1"),
        ("[server]\nstop_seconds = 0.9", "server.stop_seconds: must be from 1 to 600, not 0.9"),
        ("[server]\nstop_seconds = 600.1", "server.stop_seconds: must be from 1 to 600, not 600.1"),
        ("[server]\nstop_seconds = nan", "server.stop_seconds: must be from 1 to 600, not nan"),
        (
            "[store]\nurl = 'mysql://h/d'",
            "store.url: must begin with one of postgresql://, valkey://, valkeys://;",
        ),
        ("[store]\nurl = ''", "store.url: must begin with one of"),
        ("[store]\nurl = 'postgresql:///d'", "store.url: must name a host, postgresql://host"),
        ("[store]\nurl = 'valkey:///?host=/run'", "store.url: must name a host, valkey://host"),
        ("[store]\nurl = 'postgresql://u@x:p@h/d'", "store.url: an @ is left over"),
        (
            "[store]\nurl = 'postgresql://h/d'\npath = 'w.db'",
            "store.path, url: name one store: a file, or a server",
        ),
        ("[store.valkey]\nprefix = 'w'", "store.valkey: is for a url that begins with valkey://"),
        (
            "[store]\nurl = 'valkey://h'\n[store.postgresql]\npool_size = 1",
            "store.postgresql: is for a url that begins with postgresql://",
        ),
        ("[store]\npassword_file = 'p'", "store.password_file: is for url alone"),
        ("[store]\nurl = 'postgresql://h/d'\npassword_file = ''", "store.password_file: must name a file"),
        (
            "[store]\nurl = 'postgresql://u:p@h/d'\npassword_file = 'p'",
            "store.password_file: the URL holds a password already",
        ),
        ("[store]\ntokens = 'valkey://h'", "store.tokens, users: belong together"),
        ("[store]\nusers = 'postgresql://h/d'", "store.tokens, users: belong together"),
        (
            "[store]\ntokens = 'postgresql://h/d'\nusers = 'postgresql://h/d'",
            "store.tokens: must begin with valkey:// or valkeys://; tokens in Valkey and users in PostgreSQL",
        ),
        (
            "[store]\ntokens = 'valkey://h'\nusers = 'valkey://h'",
            "store.users: must begin with postgresql://; tokens in Valkey and users in PostgreSQL are",
        ),
        (
            "[store]\ntokens = 'valkey://h'\nusers = 'sqlite:///w.db'",
            "store.users: must begin with postgresql://;",
        ),
        (f"{SPLIT}url = 'valkey://h'", "store.url, tokens: name one store for all in url, or two"),
        (f"{SPLIT}path = 'w.db'", "store.path, tokens: name one store: a file, or a server"),
        (f"{SPLIT}password_file = 'p'", "store.password_file: is for url alone"),
        ("[store]\ntokens_password_file = 'p'", "store.tokens_password_file: is for tokens alone"),
        ("[store]\nusers_password_file = 'p'", "store.users_password_file: is for users alone"),
        (f"{SPLIT}users_password_file = ''", "store.users_password_file: must name a file"),
        (
            "[store]\ntokens = 'valkey://:p@h'\nusers = 'postgresql://h/d'\ntokens_password_file = 'p'",
            "store.tokens_password_file: the URL holds a password already",
        ),
        ("[store]\ntokens = 'valkey://'\nusers = 'postgresql://h/d'", "store.tokens: must name a host"),
        ("[keys]\nfile = ''", "keys.file: must name a file"),
        ("[keys]\njose_file = ''", "keys.jose_file: must name a file"),
        ("[store]\npath = ''", "store.path: must name a file"),
        ("[[applications]]\nid = ''", "applications[1].id: must be the application's client id"),
        ("[[applications]]\nid = 'a'\njose = 'never'", "applications[1].jose: Invalid enum value 'never'"),
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


def test_a_split_store_has_two_servers_each_with_what_is_its_own() -> None:
    deployment, mistakes = read(
        f"{SPLIT}tokens_password_file = 't'\nusers_password_file = 'u'\n"
        "[store.valkey]\nprefix = 'w'\n[store.postgresql]\npool_size = 1"
    )
    assert mistakes == []
    assert deployment.store_file is None
    assert deployment.store_shown == "the servers of store.tokens and store.users"
    assert [(each.name, each.is_postgresql, each.password_file) for each in deployment.store.servers] == [
        ("tokens", False, "t"),
        ("users", True, "u"),
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


@pytest.mark.parametrize(
    "member",
    [
        *("workers = 1", "workers = 64", "drain_seconds = 0", "drain_seconds = 300"),
        *("stop_seconds = 1", "stop_seconds = 600", "probes = true", "probes = false"),
    ],
)
def test_a_server_is_taken_at_its_bounds(member: str) -> None:
    assert read(f"[server]\n{member}")[1] == []


@pytest.mark.parametrize(
    ("url", "with_password"),
    [
        ("postgresql://h/d", "postgresql://:a%2Fb%40c%3A@h/d"),
        ("postgresql://u@/d?host=/run", "postgresql://u:a%2Fb%40c%3A@/d?host=/run"),
        ("postgresql://u@h1:5432,h2:5433/d?x=@", "postgresql://u:a%2Fb%40c%3A@h1:5432,h2:5433/d?x=@"),
        ("valkey://[::1]:6379", "valkey://:a%2Fb%40c%3A@[::1]:6379"),
    ],
)
def test_a_password_of_any_characters_is_put_into_the_url(url: str, with_password: str) -> None:
    deployment, mistakes = read(f"[store]\nurl = '{url}'")
    assert mistakes == []
    [server] = deployment.store.servers
    assert not server.has_password
    assert server.url_with("a/b@c:") == with_password
    assert server.url_with(None) == url
    assert deployment.store_file is None


def test_without_a_word_the_store_is_a_file_beside_the_configuration() -> None:
    assert read("")[0].store_file == NOWHERE / "watchword.db"
