"""Each unsafe or contradictory setting of faces is named, with what to write instead."""

import importlib.util
import re
import ssl
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.faces.drawings import ADA, picture, png
from tests.faces.matching_server import MatchingServer, Reply, scanned
from watchword.domain.instant import Instant
from watchword.faces.http import FaceServer
from watchword.faces.local import LocalFaces
from watchword.faces.settings import (
    AT_ONCE,
    KEY_HEADER,
    SCAN_FIELD,
    THRESHOLD,
    THRESHOLD_LEAST,
    FaceTable,
)

DOCUMENT = (Path(__file__).parents[2] / "docs/how-to/verify-faces.md").read_text(encoding="utf-8")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HTTP: dict[str, Any] = {
    "provider": "http",
    "url": "https://faces.example.org",
    "api_key_file": "face.key",
    "match_level": 10,
    "public_key_file": "face.pem",
}
LOCAL: dict[str, Any] = {"provider": "local", "accept_no_liveness": True}


def now() -> Instant:
    return Instant(0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "face.key").write_text("dZpS-key\n")
    (tmp_path / "face.pem").write_bytes(PUBLIC)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "two lines").write_bytes(b"one\ntwo\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "text").write_text("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n")
    (tmp_path / "private.pem").write_bytes(
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return tmp_path


def read(**settings: Any) -> FaceTable:
    return msgspec.convert(settings, FaceTable)


def faults(directory: Path, **settings: Any) -> list[str]:
    return list(read(**settings).faults(directory))


@pytest.mark.parametrize("settings", [HTTP, LOCAL], ids=["http", "local"])
def test_what_the_documentation_shows_has_no_fault(directory: Path, settings: dict[str, Any]) -> None:
    assert faults(directory, **settings) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_itself_may_be_asked_in_the_clear(directory: Path, host: str) -> None:
    assert faults(directory, **HTTP | {"url": f"http://{host}:8080/facetec"}) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no url": (HTTP | {"url": None}, "face.url: missing"),
    "in the clear": (HTTP | {"url": "http://faces.example.org"}, "write https://"),
    "in the clear, nearly here": (HTTP | {"url": "http://127.0.0.1.example.org"}, "write https://"),
    "another scheme": (HTTP | {"url": "ftp://faces.example.org"}, "must be https://"),
    "no host": (HTTP | {"url": "https:///x"}, "must be https://"),
    "no url at all": (HTTP | {"url": "faces"}, "must be https://"),
    "a broken host": (HTTP | {"url": "https://[::1"}, "must be https://"),
    "a broken port": (HTTP | {"url": "https://x:99999"}, "must be https://"),
    "a password": (HTTP | {"url": "https://me:secret@faces.example.org"}, "belongs into api_key_file"),
    "a query": (HTTP | {"url": "https://faces.example.org/?key=secret"}, "belongs into api_key_file"),
    "no key": (HTTP | {"api_key_file": None}, "face.api_key_file: missing"),
    "no such key": (HTTP | {"api_key_file": "nowhere"}, "face.api_key_file: cannot be read: No such file"),
    "a key that is a directory": (HTTP | {"api_key_file": "."}, "face.api_key_file: cannot be read"),
    "an empty key": (HTTP | {"api_key_file": "empty"}, "face.api_key_file: must hold the key alone"),
    "two keys": (HTTP | {"api_key_file": "two lines"}, "face.api_key_file: must hold the key alone"),
    "a key of bytes": (HTTP | {"api_key_file": "bytes"}, "face.api_key_file: is not plain ASCII"),
    "no level": (HTTP | {"match_level": None}, "one false match in 10,000"),
    "level 0": (HTTP | {"match_level": 0}, "face.match_level: must be from 1 to 15, not 0"),
    "level 16": (HTTP | {"match_level": 16}, "face.match_level: must be from 1 to 15, not 16"),
    "no such public key": (HTTP | {"public_key_file": "nowhere"}, "face.public_key_file: cannot be read"),
    "a broken public key": (HTTP | {"public_key_file": "text"}, "face.public_key_file: must be a public key"),
    "a private key": (
        HTTP | {"public_key_file": "private.pem"},
        "face.public_key_file: must be a public key",
    ),
    "none at once": (HTTP | {"at_once": 0}, "face.at_once: must be from 1"),
    "a header with a line end": (HTTP | {"key_header": "X-Key\r\nX-Other"}, "face.key_header: must be"),
    "a member without a name": (HTTP | {"scan_field": ""}, "face.scan_field: must be"),
    "too little time": (
        HTTP | {"timeout_seconds": 0.5},
        "face.timeout_seconds: must be from 1 to 60, not 0.5",
    ),
    "too much time": (LOCAL | {"timeout_seconds": 61}, "face.timeout_seconds: must be from 1 to 60, not 61"),
    "no end of time": (LOCAL | {"timeout_seconds": float("nan")}, "face.timeout_seconds: must be"),
    "a threshold for a server": (HTTP | {"threshold": 0.5}, 'means nothing with provider = "http"'),
    "no liveness of a server": (HTTP | {"accept_no_liveness": True}, 'means nothing with provider = "http"'),
    "a url for photographs": (LOCAL | {"url": "https://x"}, 'means nothing with provider = "local"'),
    "a level for photographs": (LOCAL | {"match_level": 10}, 'means nothing with provider = "local"'),
    "liveness not thought of": ({"provider": "local"}, "accept_no_liveness = true"),
    "liveness not accepted": (LOCAL | {"accept_no_liveness": False}, "accept_no_liveness = true"),
    "a low threshold": (LOCAL | {"threshold": THRESHOLD_LEAST - 0.01}, "one stranger in 10,000"),
    "a threshold beyond likeness": (LOCAL | {"threshold": 1.0}, "face.threshold: must be from"),
    "a threshold that is none": (LOCAL | {"threshold": float("nan")}, "face.threshold: must be from"),
}


@pytest.mark.parametrize(("settings", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_once_with_what_to_write(
    directory: Path, settings: dict[str, Any], said: str
) -> None:
    (fault,) = faults(directory, **settings)
    assert fault.startswith("face.")
    assert said in fault
    assert "secret" not in fault


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT, re.MULTILINE))
    assert documented | {"provider"} == set(FaceTable.__struct_fields__)


@pytest.mark.parametrize(
    ("setting", "default"),
    [
        ("key_header", KEY_HEADER),
        ("scan_field", SCAN_FIELD),
        ("timeout_seconds", 10),
        ("at_once", AT_ONCE),
        ("threshold", THRESHOLD),
    ],
)
def test_every_default_is_the_one_of_the_documentation(setting: str, default: object) -> None:
    shown = re.findall(rf"^\| `{setting}` \| `?([^|`]*)`? \|", DOCUMENT, re.MULTILINE)
    assert shown
    assert set(shown) == {str(default)}


def test_every_example_of_the_documentation_has_no_fault(directory: Path) -> None:
    examples = [
        tomllib.loads(text)
        for text in re.findall(r"^```\w+\n(\[face\].*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    ]
    assert [example["face"]["provider"] for example in examples] == ["http", "local"]
    for example in examples:
        assert faults(directory, **example["face"]) == []


def test_all_faults_are_named_together(directory: Path) -> None:
    assert len(faults(directory, provider="http")) == 3


@pytest.mark.parametrize("settings", [{}, {"provider": "sandbox"}, HTTP | {"treshold": 1}])
def test_what_is_no_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(**settings)


def test_without_the_extra_it_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else ssl)
    (fault,) = faults(directory, **LOCAL)
    assert "cv2" in fault
    assert "pip install 'watchword[face]'" in fault


def test_no_matcher_is_made_of_faulty_settings(directory: Path) -> None:
    with pytest.raises(ValueError, match="accept_no_liveness"):
        read(provider="local").matcher(now, directory=directory)


async def test_the_server_is_asked_as_the_settings_say(directory: Path) -> None:
    async with MatchingServer() as server:
        settings = HTTP | {
            "url": server.url + "/facetec/",
            "key_header": "X-Device-License-Key",
            "scan_field": "faceMap",
            "match_level": 15,
        }
        matcher = read(**settings).matcher(now, directory=directory)
        assert isinstance(matcher, FaceServer)
        server.always(Reply.of(scanned(matchLevel=14)))
        template = await matcher.enrol("ref", b"face:ada")
        assert not await matcher.match(template, b"face:ada")
        asked = server.asked[0]
        assert asked.path == "/facetec/enrollment-3d"
        assert asked.headers["x-device-license-key"] == "dZpS-key"
        assert asked.json().keys() == {"externalDatabaseRefID", "faceMap"}
        assert matcher.public_key == PUBLIC.decode()
        await matcher.aclose()


async def test_photographs_are_compared_as_the_settings_say(directory: Path) -> None:
    matcher = read(**LOCAL).matcher(now, directory=directory)
    assert isinstance(matcher, LocalFaces)
    template = await matcher.enrol("ref", png(picture(ADA)))
    assert await matcher.match(template, png(picture(ADA)))
    await matcher.aclose()
