"""What a server for production refuses to start with, and that it says what to write instead."""

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import watchword
from tests.serving.support import ADA, HIGH, PAYMENT, installation, put_private
from watchword.config import ConfigError
from watchword.sandbox.people import DEMO_APPLICATION
from watchword.sandbox.world import prepare
from watchword.serving.app import checked
from watchword.serving.keys import KeyFile
from watchword.serving.refusals import README_TOKEN, TEST_FILE, TEST_TOKENS
from watchword.serving.settings import UnusableDeploymentError
from watchword.serving.stores import open_store

APP = '[app]\ntarget = "bank:app"\n'
CHANGE = '[[actions]]\nname = "CREDENTIAL__CHANGE"\n'


def refused(folder: Path, *tables: str) -> list[str]:
    """Return what is refused of an installation that else could be served."""
    config = installation(folder / "installation", *tables)
    return refused_now(config)


def refused_now(config: Path) -> list[str]:
    try:
        checked(config)
    except ConfigError as error:
        return error.mistakes
    return []


def test_a_sound_installation_is_not_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, ADA, APP, PAYMENT, "[session]\nseconds = 300") == []


def test_a_server_that_could_know_nobody_is_refused(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, "")
    assert found.startswith("nobody can tell who calls: add [[issuers]]")


def test_what_rests_on_a_table_with_a_mistake_is_not_judged_too(tmp_path: Path) -> None:
    found, missing = refused(tmp_path, "[[issuers]]\nissuer = 1")
    assert found.startswith("issuers[1].issuer: Expected `str`")
    assert missing == "issuers[1].audience: must be there"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "bank.example.com"])  # noqa: S104
def test_plain_http_for_others_than_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    (found,) = refused(tmp_path, ADA, f'[server]\nhost = "{host}"')
    assert found.startswith(f"server.host: {host} would carry access tokens and PINs in the clear")
    assert "behind_tls_proxy = true" in found
    assert refused(tmp_path, ADA, f'[server]\nhost = "{host}"\nbehind_tls_proxy = true') == []


@pytest.mark.attack(174)
@pytest.mark.parametrize(
    ("table", "name", "taken", "beyond"),
    [
        ("session", "seconds", 300, 301),
        ("limits", "token_seconds", 900, 901),
        ("limits", "resend_seconds", 30, 29),
        ("limits", "disable_pin_after", 1, 0),
        ("limits", "disable_possession_after", 1, 0),
        ("limits", "disable_face_after", 1, 0),
    ],
)
def test_a_limit_that_is_weaker_than_its_floor_is_refused(
    tmp_path: Path, table: str, name: str, taken: int, beyond: int
) -> None:
    assert refused(tmp_path, ADA, f"[{table}]\n{name} = {taken}") == []
    (found,) = refused(tmp_path, ADA, f"[{table}]\n{name} = {beyond}")
    assert found.startswith(f"{table}.{name}: must be ")
    assert f"not {beyond}:" in found


# --- actions --------------------------------------------------------------------------------------


def test_an_application_of_which_nothing_is_protected_is_refused(tmp_path: Path) -> None:
    for actions in ("", '[[actions]]\nname = "A__B"\nrisk = "low"\n'):
        (found,) = refused(tmp_path, ADA, APP, actions)
        assert found.startswith("actions: none has a match")


def test_names_that_read_alike_are_refused(tmp_path: Path) -> None:
    twin = PAYMENT.replace("PAYMENT__MAKE", "Payment__Make").replace("/payments", "/payouts")
    (found,) = refused(tmp_path, ADA, PAYMENT, twin)
    assert found.startswith("actions: Payment__Make: reads like PAYMENT__MAKE")


@pytest.mark.parametrize(
    ("risk", "challenges"),
    [("low", '[["SMS"]]'), ("low", '[["FACE_MAP"]]'), ("high", '[["PIN"], ["SMS", "VOICE"]]')],
)
def test_an_action_that_nobody_could_pass_here_is_refused(tmp_path: Path, risk: str, challenges: str) -> None:
    action = PAYMENT.replace('"low"', f'"{risk}"') + f"challenges = {challenges}\n"
    (found,) = refused(tmp_path, ADA, action)
    assert found.startswith("actions: PAYMENT__MAKE: nobody can pass its challenges here")


def test_codes_can_be_passed_where_somebody_carries_them(tmp_path: Path) -> None:
    action = HIGH + 'challenges = [["PIN"], ["SMS"]]\n'
    delivery = '[delivery]\nwebhook = "http://127.0.0.1:1/"\nsecret_file = "webhook.secret"\n'
    assert refused(tmp_path, ADA, action, delivery) == []


def test_a_change_of_credentials_of_low_risk_is_refused_while_it_is_asked_for(tmp_path: Path) -> None:
    for enrolment in ("", '[enrolment]\nstep_up = "everything"\n'):
        (found,) = refused(tmp_path, ADA, CHANGE, 'risk = "low"', enrolment)
        assert found.startswith('actions: CREDENTIAL__CHANGE: must be of risk = "high"')
    assert refused(tmp_path, ADA, CHANGE, 'risk = "low"', '[enrolment]\nstep_up = "nothing"') == []
    assert refused(tmp_path, ADA, CHANGE, 'risk = "high"') == []


def test_a_change_of_credentials_is_no_request_of_the_application(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, ADA, CHANGE, 'risk = "high"\nmatch = ["POST /x"]')
    assert found.startswith("actions: CREDENTIAL__CHANGE: means changes of credentials here")


# --- test doors -----------------------------------------------------------------------------------


@pytest.mark.attack(187)
@pytest.mark.parametrize("token", TEST_TOKENS)
def test_a_token_that_the_documentation_tells_everybody_is_refused(tmp_path: Path, token: str) -> None:
    digest = sha256(token.encode()).hexdigest()
    for text in (digest, digest.upper()):
        found = refused(tmp_path, f'[[tokens]]\nsha256 = "{text}"\nkind = "user"\nuser_id = 7')
        assert [each.partition(" which")[0] for each in found] == [f"tokens[1].sha256: is that of {token},"]


@pytest.mark.attack(187)
def test_the_readmes_token_is_good_for_a_first_try_alone(tmp_path: Path) -> None:
    token = (
        f'[[tokens]]\nsha256 = "{sha256(README_TOKEN.encode()).hexdigest()}"\nkind = "user"\nuser_id = 7\n'
    )
    assert README_TOKEN in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert refused(tmp_path, token) == []
    for more in (
        ADA,
        '[[issuers]]\nissuer = "https://login.example"\naudience = "us"',
        "[server]\nbehind_tls_proxy = true",
    ):
        (found,) = refused(tmp_path, token, more)
        assert found.startswith("tokens[1].sha256: is that of «carol», which the README tells everybody")


def test_the_tokens_that_are_refused_are_those_of_the_sandbox() -> None:
    assert {"demo-ada", "demo-grace", "demo-signer", DEMO_APPLICATION} == {*TEST_TOKENS}


@pytest.mark.attack(187)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[sandbox]", "sandbox: unknown"),
        ("[clock]\nadvance = 900", "clock: unknown"),
        (
            "[delivery]\nwebhook = 'https://sms.example'\nsecret_file = 'webhook.secret'\noutbox = true",
            "delivery.outbox: unknown; known are ",
        ),
        ("[limits]\ncode = '111111'", "limits.code: unknown"),
        ("[enrolment]\nfixed_code = '111111'", "enrolment.fixed_code: unknown"),
        (
            f'{PAYMENT}[app]\ntarget = "watchword.sandbox.app:create"',
            "app.target: watchword.sandbox.app is for",
        ),
        (f'{PAYMENT}[app]\ntarget = "watchword.testing:app"', "app.target: watchword.testing is for tests"),
    ],
)
def test_a_test_door_cannot_be_opened(tmp_path: Path, text: str, found: str) -> None:
    (only,) = refused(tmp_path, ADA, text)
    assert only.startswith(found), only


@pytest.mark.attack(187)
def test_what_a_sandbox_left_behind_is_not_served(tmp_path: Path) -> None:
    prepare(tmp_path / "data")
    assert (tmp_path / "data" / TEST_FILE).exists()
    found = refused(tmp_path, ADA, f'[store]\npath = "{tmp_path}/data/watchword.db"')
    assert [each.partition(": ")[0] for each in found] == ["store.path"]
    keys = f'[keys]\nfile = "{tmp_path}/data/keys.json"'
    assert [each.partition(": ")[0] for each in refused(tmp_path, ADA, keys)] == ["keys.file"]


def test_an_environment_variable_can_open_no_door() -> None:
    """
    A server asks the environment for nothing.

    The terminal's client does, for an access token; the matcher of faces only sets what its process gets.
    """
    package = Path(watchword.__file__).parent
    asks = {
        file.relative_to(package).parts[0]
        for file in package.rglob("*.py")
        if re.search(r"\b(environ|getenv)\b", file.read_text(encoding="utf-8"))
    }
    assert asks == {"client", "faces"}


# --- personal tokens, applications ------------------------------------------------------------------


def test_a_personal_token_is_refused_unless_its_signature_shall_be_enough(tmp_path: Path) -> None:
    personal = ADA.replace('"user"', '"personal"')
    for table in ("", "[personal_tokens]", "[personal_tokens]\nsignature_suffices = false"):
        (found,) = refused(tmp_path, personal, table)
        assert found.startswith("tokens[1].kind: one signature of a personal token's program clears any risk")
    assert refused(tmp_path, personal, "[personal_tokens]\nsignature_suffices = true") == []


def test_a_token_of_an_application_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    token = f'[[tokens]]\nsha256 = "{sha256(b"x").hexdigest()}"\nkind = "application"\napplication = "back"\n'
    (found,) = refused(tmp_path, token)
    assert found.startswith("tokens[1].application: is none of [[applications]]")
    assert refused(tmp_path, token, '[[applications]]\nid = "back"') == []


# --- keys and secrets -------------------------------------------------------------------------------


@pytest.mark.attack(109)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"", "not a key file"),
        (b"{}", "not a key file"),
        (msgspec.json.encode(KeyFile(active=1, keys={})), "the active key, 1, is not in the ring"),
        (msgspec.json.encode(KeyFile(active=1, keys={1: b""})), "must be 32 bytes"),
        (msgspec.json.encode(KeyFile(active=1, keys={1: bytes(range(31))})), "must be 32 bytes"),
        (msgspec.json.encode(KeyFile(active=1, keys={1: bytes(range(33))})), "must be 32 bytes"),
        (msgspec.json.encode(KeyFile(active=2, keys={1: bytes(range(32))})), "the active key, 2, is not"),
        (msgspec.json.encode(KeyFile(active=1, keys={1: bytes(32)})), "key 1 is not random"),
        (
            msgspec.json.encode(
                KeyFile(active=1, keys={1: bytes(range(32)), 2: b"watchword" * 3 + b"12345"})
            ),
            "key 2 is not random",
        ),
    ],
)
def test_master_keys_that_are_none_or_weak_are_refused(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    config = installation(tmp_path / "installation", ADA)
    file = config.with_name("keys.json")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    (only,) = refused_now(config)
    assert only.startswith(f"keys.file: {file}: "), only
    assert found in only


@pytest.mark.attack(109)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"", "no key for ES256"),
        (b"-----BEGIN PRIVATE KEY-----\n", "each key needs a line above it"),
    ],
)
def test_jose_keys_that_are_none_or_weak_are_refused(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    config = installation(tmp_path / "installation", ADA)
    file = config.with_name("jose.pem")
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    (only,) = refused_now(config)
    assert only.startswith(f"keys.jose_file: {file}: {found}"), only


@pytest.mark.attack(109)
def test_an_rsa_key_of_1024_bits_among_our_own_is_refused(tmp_path: Path) -> None:
    config = installation(tmp_path / "installation", ADA)
    file = config.with_name("jose.pem")
    title = b"# RSA_OAEP_256 version 1\n"
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is what must not pass.
    pem = weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(file.read_bytes().partition(title)[0] + title + pem)
    (only,) = refused_now(config)
    assert only.startswith(
        f"keys.jose_file: {file}: RSA_OAEP_256 version 1: an RSA key has 2048 to 8192 bits"
    )


@pytest.mark.parametrize("name", ["keys.json", "jose.pem", "webhook.secret", "face.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    delivery = '[delivery]\nwebhook = "http://127.0.0.1:1/"\nsecret_file = "webhook.secret"\n'
    face = (
        '[face]\nprovider = "http"\nurl = "http://127.0.0.1:1"\nmatch_level = 10\napi_key_file = "face.key"'
    )
    config = installation(tmp_path / "installation", ADA, delivery, face)
    put_private(config.with_name("face.key"), b"key\n")
    file = config.with_name(name)
    file.chmod(mode)
    (found,) = refused_now(config)
    assert f"chmod 600 {file}" in found
    file.chmod(0o600)
    assert refused_now(config) == []


def test_a_configuration_that_others_could_change_is_refused(tmp_path: Path) -> None:
    config = installation(tmp_path / "installation", ADA)
    for mode in (0o660, 0o606, 0o622):
        config.chmod(mode)
        (found,) = refused_now(config)
        assert found == f"others than its owner may change it; run: chmod go-w {config}"
    config.chmod(0o644)
    assert refused_now(config) == []


@pytest.mark.parametrize("name", ["watchword.db", "watchword.db-wal", "watchword.db-shm"])
def test_a_store_that_others_can_reach_is_refused(tmp_path: Path, name: str) -> None:
    config = installation(tmp_path / "installation", ADA)
    file = config.with_name(name)
    file.touch()
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        (found,) = refused_now(config)
        assert found.startswith(f"store.path: {file}: others")
        assert f"chmod 600 {file}" in found
    file.chmod(0o600)
    assert refused_now(config) == []


def test_a_store_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, ADA, '[store]\npath = "/dev/null"')
    assert found == "store.path: /dev/null: is not a plain file"


@pytest.mark.parametrize(
    "name", ["watchword.toml", "keys.json", "jose.pem", "webhook.secret", "watchword.db"]
)
def test_what_belongs_to_somebody_else_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = '[delivery]\nwebhook = "http://127.0.0.1:1/"\nsecret_file = "webhook.secret"\n'
    config = installation(tmp_path / "installation", ADA, delivery)
    put_private(config.with_name("watchword.db"), b"")
    stat, file = Path.stat, config.with_name(name)

    def of_another(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = stat(path, follow_symlinks=follow_symlinks)
        if path != file:
            return found
        return os.stat_result((*found[:4], os.geteuid() + 4711, *found[5:]))

    monkeypatch.setattr(Path, "stat", of_another)
    (only,) = refused_now(config)
    assert f"belongs to user {os.geteuid() + 4711}, who can change it at any time" in only
    assert f"if it shall be yours: chown {os.geteuid()} {file}" in only


@pytest.mark.parametrize(
    ("table", "name", "contents"),
    [
        (
            "delivery]\nwebhook = 'http://127.0.0.1:1/'",
            "secret_file",
            [None, "", "hunter2", "whsec_YQ=="],
        ),
        ("gateway]", "secret_file", [None, "", "hunter2"]),
        (
            "introspection]\nurl = 'http://127.0.0.1:1/'\nclient_id = 'w'\naudience = 'us'",
            "client_secret_file",
            [None, "", "hunter2"],
        ),
    ],
)
def test_a_secret_that_is_missing_or_could_be_guessed_is_refused(
    tmp_path: Path, table: str, name: str, contents: Sequence[str | None]
) -> None:
    for content in contents:
        config = installation(tmp_path / "installation", ADA, f"[{table}\n{name} = 'secret'")
        secret = config.with_name("secret")
        secret.unlink(missing_ok=True)
        if content is not None:
            secret.write_text(content, encoding="utf-8")
            secret.chmod(0o600)
        (found,) = refused_now(config)
        assert found.startswith(f"{table.partition(']')[0]}.{name}: {secret}: "), found
        assert not content or content not in found


def test_faces_without_liveness_are_refused_unless_that_is_accepted(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, ADA, '[face]\nprovider = "local"')
    assert "has no liveness" in found
    assert "accept_no_liveness = true" in found


def test_all_of_it_is_said_at_once(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        "[server]\nhost = '192.0.2.1'\nport = 70000\n[session]\nseconds = 301\n[sandbox]",
        "[keys]\nfile = 'none'",
        "[delivery]\nwebhook = 'http://example.com/'\nsecret_file = 'none'",
    )
    assert [each.partition(":")[0] for each in found] == [
        "sandbox",
        "server.port",
        "delivery.webhook",
        "nobody can tell who calls",
        "server.host",
        "session.seconds",
        "keys.file",
        "delivery.secret_file",
    ]


URL = '[store]\nurl = "postgresql://watchword:hunter2@db.example/watchword"'
SPLIT = '[store]\ntokens = "valkeys://{}v.example"\nusers = "postgresql://{}db.example/watchword"'


@pytest.mark.parametrize(
    ("store", "member", "file"),
    [
        (URL, "url", "password_file"),
        (SPLIT.format("w:hunter2@", ""), "tokens", "tokens_password_file"),
        (SPLIT.format("", "w:hunter2@"), "users", "users_password_file"),
    ],
)
def test_a_password_in_a_file_that_others_may_read_is_refused(
    tmp_path: Path, store: str, member: str, file: str
) -> None:
    config = installation(tmp_path / "i", ADA, store)
    config.chmod(0o640)
    (found,) = refused_now(config)
    assert found.startswith(f"store.{member}: holds a password, and others may read this file")
    assert f"named in store.{file}," in found
    assert "hunter2" not in found
    config.chmod(0o600)
    assert refused_now(config) == []


def test_a_configuration_without_a_password_may_be_read_by_others(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", ADA, URL.replace(":hunter2", ""), 'password_file = "password"')
    config.chmod(0o644)
    put_private(tmp_path / "i" / "password", b"hunter2\n")
    assert refused_now(config) == []


@pytest.mark.parametrize(("content", "mode"), [(b"hunter2\n", 0o640), (b"\n", 0o600), (None, 0)])
def test_a_password_file_that_others_may_read_or_that_holds_none_is_refused(
    tmp_path: Path, content: bytes | None, mode: int
) -> None:
    config = installation(tmp_path / "i", ADA, URL.replace(":hunter2", ""), 'password_file = "password"')
    if content is not None:
        put_private(tmp_path / "i" / "password", content)
        (tmp_path / "i" / "password").chmod(mode)
    (found,) = refused_now(config)
    assert found.startswith("store.password_file: ")
    assert "hunter2" not in found


@pytest.mark.parametrize("member", ["tokens_password_file", "users_password_file"])
def test_each_side_of_a_split_store_has_a_password_file_that_others_may_not_read(
    tmp_path: Path, member: str
) -> None:
    members = ("tokens_password_file", "users_password_file")
    store = SPLIT.format("", "") + "".join(f'\n{each} = "{each}"' for each in members)
    config = installation(tmp_path / "i", ADA, store)
    for each in members:
        put_private(tmp_path / "i" / each, b"hunter2\n")
    assert refused_now(config) == []
    (tmp_path / "i" / member).chmod(0o640)
    (found,) = refused_now(config)
    assert found.startswith(f"store.{member}: ")
    assert "hunter2" not in found


def test_mistakes_in_how_both_sides_of_a_split_store_are_spoken_to_are_named(tmp_path: Path) -> None:
    tables = "[store.valkey]\nreplicas = 6\n[store.postgresql]\npool_size = 0"
    found = refused(tmp_path, ADA, f"{SPLIT.format('', '')}\n{tables}")
    assert [each.partition(": ")[0] for each in found] == [
        "store.valkey.replicas",
        "store.postgresql.pool_size",
    ]


@pytest.mark.parametrize(
    ("url", "member", "said"),
    [
        ("postgresql://h/d", "[store.postgresql]\npool_size = 0", "store.postgresql.pool_size: "),
        ("postgresql://h/d", "[store.postgresql]\npool_size = 101", "store.postgresql.pool_size: "),
        ("postgresql://h/d", "[store.postgresql]\nmispelt = 1", "store.postgresql.mispelt: unknown"),
        ("valkey://h", "[store.valkey]\nmispelt = 1", "store.valkey.mispelt: unknown"),
        ("valkey://h", "[store.valkey]\nreplicas = 6", "store.valkey.replicas: Expected `int` <= 5"),
        ("valkeys://h", '[store.valkey]\npassword = "hunter2"', "store.valkey.password: unknown; known are"),
    ],
)
def test_a_mistake_in_how_a_server_is_spoken_to_is_named(
    tmp_path: Path, url: str, member: str, said: str
) -> None:
    (found,) = refused(tmp_path, ADA, f'[store]\nurl = "{url}"\n{member}')
    assert found.startswith(said)
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:1/d", "valkey://127.0.0.1:1", "valkeys://127.0.0.1:1"]
)
async def test_a_server_that_nobody_answers_for_is_told_of_as_what_cannot_start(
    tmp_path: Path, url: str
) -> None:
    config = installation(tmp_path / "i", ADA, f'[store]\nurl = "{url}"\npassword_file = "p"')
    put_private(tmp_path / "i" / "p", b"hunter2\n")
    deployment = checked(config)
    with pytest.raises(UnusableDeploymentError, match=r"^store\.url: ") as caught:
        await open_store(deployment)
    assert "hunter2" not in str(caught.value)
