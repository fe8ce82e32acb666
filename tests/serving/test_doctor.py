"""What ``watchword doctor`` finds out about whom the server depends on."""

from pathlib import Path

import pytest

from tests.auth.support import P256, RSA, FakeIssuer, Reply
from tests.serving.support import installation, put_private
from watchword.serving.doctor import Finding, examine


async def finding(config: Path, check: str) -> Finding:
    (found,) = [each for each in await examine(config) if each.check.startswith(check)]
    return found


def trusting(folder: Path, issuer: FakeIssuer, more: str = "") -> Path:
    return installation(folder / "i", f'[[issuers]]\nissuer = "{issuer.url}"\naudience = "us"\n{more}')


async def test_an_issuer_with_keys_is_well(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer:
        issuer.publish(RSA, P256)
        found = await finding(trusting(tmp_path, issuer), "issuer")
        assert (found.ok, found.found) == (True, "2 keys")


@pytest.mark.parametrize("body", [b"{}", b'{"keys":[]}', b"no JSON"])
async def test_an_issuer_without_keys_is_found(tmp_path: Path, body: bytes) -> None:
    async with FakeIssuer() as issuer:
        issuer.replies["/jwks"] = Reply(body)
        found = await finding(trusting(tmp_path, issuer), "issuer")
        assert not found.ok


async def test_an_issuer_that_speaks_for_another_is_found(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer:
        issuer.publish(RSA)
        issuer.discover(issuer="https://other.example")
        found = await finding(trusting(tmp_path, issuer), "issuer")
        assert found.advice is not None
        assert "as the discovery document has it" in found.advice


async def test_keys_for_other_algorithms_than_those_taken_are_found(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer:
        issuer.publish(P256)
        found = await finding(trusting(tmp_path, issuer, 'algorithms = ["RS256"]'), "issuer")
        assert found.advice is not None
        assert "no key fits algorithms = ['RS256']" in found.advice


@pytest.mark.parametrize(("status", "well"), [(200, True), (401, False), (500, False)])
async def test_introspection_is_asked_with_our_own_secret(tmp_path: Path, status: int, well: bool) -> None:
    async with FakeIssuer() as issuer:
        issuer.replies["/introspect"] = Reply(b'{"active":false}', status=status)
        config = installation(
            tmp_path / "i",
            f'[introspection]\nurl = "{issuer.url}/introspect"\nclient_id = "w"\n'
            'client_secret_file = "introspection.secret"',
        )
        put_private(tmp_path / "i" / "introspection.secret", b"secret")
        assert (await finding(config, "introspection")).ok is well
        assert issuer.count("/introspect") == 1


async def test_a_query_is_not_shown_for_it_may_hold_a_key(tmp_path: Path) -> None:
    private = "hunter" + "2"
    config = installation(
        tmp_path / "i",
        f'[[issuers]]\nissuer = "http://127.0.0.1:1"\naudience = "us"\njwks_url = "http://127.0.0.1:1/?k={private}"',
        f'[introspection]\nurl = "http://127.0.0.1:1/?k={private}"\nclient_id = "w"\naudience = "us"\n'
        'client_secret_file = "introspection.secret"',
        f'[delivery]\nwebhook = "http://127.0.0.1:1/?k={private}"\nsecret_file = "webhook.secret"',
    )
    put_private(tmp_path / "i" / "introspection.secret", b"0123456789abcdef")
    found = await examine(config)
    assert len([each for each in found if "127.0.0.1:1/" in str(each)]) == 3
    assert private not in str(found)


async def test_introspection_without_its_secret_is_found(tmp_path: Path) -> None:
    config = installation(
        tmp_path / "i",
        '[introspection]\nurl = "http://127.0.0.1:1/"\nclient_id = "w"\nclient_secret_file = "none"',
    )
    found = await finding(config, "introspection")
    assert found.advice is not None
    assert "cannot be read" in found.advice


async def test_a_face_server_is_connected_to_and_asked_nothing(tmp_path: Path) -> None:
    async with FakeIssuer() as server:
        table = (
            f'[face]\nprovider = "http"\nurl = "{server.url}"\napi_key_file = "face.key"\nmatch_level = 10\n'
        )
        config = installation(tmp_path / "i", table)
        put_private(tmp_path / "i" / "face.key", b"key\n")
        assert (await finding(config, "faces")).ok
        assert server.asked == []
    assert not (await finding(config, "faces")).ok


async def test_an_application_is_looked_for_and_not_run(tmp_path: Path) -> None:
    config = installation(tmp_path / "i", '[app]\ntarget = "bank:app"\ndescribe = "books:describe"')
    (tmp_path / "i" / "books.py").write_text("raise SystemExit\n", encoding="utf-8")
    found = [each.found for each in await examine(config) if each.check == "application"]
    assert found == [
        f"{module} is there; what is in it is looked at by `watchword serve`" for module in ("bank", "books")
    ]
