"""``watchword serve`` from outside: a real process, a real OpenID provider, a receiver of codes."""

import json
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests import issuer as real
from tests.serving.support import PAYMENT, Receiver, Served, installation, served, signature_of

TRANSFER = '[[actions]]\nname = "TRANSFER__FUND"\nrisk = "high"\nmatch = ["POST /payments/{id}/now"]\n'
PATIENCE_SECONDS = 40.0


@dataclass(frozen=True)
class Deployment:
    """A server, and whom it believes."""

    server: Served
    provider: real.Issuer
    hasty: real.Issuer
    receiver: Receiver

    def call(self, method: str, path: str, token: str, **headers: str) -> httpx2.Response:
        return self.server.client.request(
            method, path, headers={"authorization": f"Bearer {token}", **headers}
        )

    def send(self, path: str, token: str, body: object, **headers: str) -> httpx2.Response:
        return self.server.client.post(
            path, json=body, headers={"authorization": f"Bearer {token}", **headers}
        )

    def ran(self) -> int:
        return int(self.server.client.get("/ran").json()["ran"])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, real.started() as provider, Receiver() as receiver:
        patch.setattr(real, "TOKEN_SECONDS", 2)
        with real.started() as hasty:
            config = installation(
                tmp_path_factory.mktemp("serve") / "installation",
                '[server]\nport = 0\n[app]\ntarget = "bank:app"\n[enrolment]\nrefuse_trivial_pins = true\n',
                *(
                    f'[[issuers]]\nissuer = "{issuer.url}"\naudience = "{real.AUDIENCE}"\n'
                    f'typ = "at+jwt"\nleeway_seconds = 0\n'
                    for issuer in (provider, hasty)
                ),
                f'[[applications]]\nid = "{real.APPLICATION}"\nissuer = "{provider.url}"\n'
                "manages_users = true\n",
                receiver.table,
                PAYMENT,
                TRANSFER,
            )
            with served(config) as server:
                yield Deployment(server, provider, hasty, receiver)


def new_ott(answer: httpx2.Response) -> str:
    assert answer.status_code == 403, answer.text
    assert answer.headers["x-2fa-approval-result"] == "REJECTED"
    assert answer.json()["errors"][0]["code"] == "sca.required"
    return str(answer.headers["x-2fa-approval"])


def enrolled(deployment: Deployment, subject: str) -> str:
    """Log a user in who has a PIN; return his access token."""
    token = deployment.provider.user(subject).access_token
    answer = deployment.send("/v1/user/pin", token, {"pin": "4713"})
    assert answer.status_code == 204, answer.text
    return token


def eventually(is_so: Callable[[], bool]) -> bool:
    """Ask until it is so: the server may look for new keys once in ten seconds, by its own clock."""
    end, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while not is_so():
        if time.monotonic() > end:
            return False
        pause.wait(0.25)
    return True


def test_a_user_of_a_real_issuer_clears_a_protected_call_and_it_runs_once(deployment: Deployment) -> None:
    token = deployment.provider.user("ada").access_token
    before = deployment.ran()
    nothing_yet = deployment.call("POST", "/payments/1", token)
    assert nothing_yet.json()["errors"][0]["code"] == "sca.enrolment.required"
    refused = deployment.send("/v1/user/pin", token, {"pin": "1234"})
    assert (refused.status_code, deployment.ran()) == (400, before)  # trivial, and this server refuses that
    assert deployment.send("/v1/user/pin", token, {"pin": "4713"}).status_code == 204
    ott = new_ott(deployment.call("POST", "/payments/1", token))
    about = {"one-time-token": ott}
    status = deployment.call("GET", "/v1/one-time-token/status", token, **about).json()
    challenges = status["oneTimeTokenProperties"]["challenges"]
    assert [each["primaryChallenge"]["type"] for each in challenges] == ["PIN"]
    verified = deployment.send("/v1/one-time-token/pin/verify", token, {"pin": "4713"}, **about)
    assert verified.status_code == 200, verified.text
    paid = deployment.call("POST", "/payments/1", token, **{"x-2fa-approval": ott})
    assert (paid.status_code, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")
    assert len(paid.headers["x-trace-id"]) == 32
    assert deployment.ran() == before + 1
    again = deployment.call("POST", "/payments/1", token, **{"x-2fa-approval": ott})
    assert new_ott(again) != ott
    assert deployment.ran() == before + 1


def test_a_code_comes_over_the_signed_webhook_and_clears_a_payment(deployment: Deployment) -> None:
    """The application enrols the phone, by the number that the server gave its user."""
    token = enrolled(deployment, "grace")
    first = new_ott(deployment.call("POST", "/payments/2", token))
    status = deployment.call("GET", "/v1/one-time-token/status", token, **{"one-time-token": first}).json()
    user_id = status["oneTimeTokenProperties"]["userId"]
    added = deployment.send(
        f"/v1/application/users/{user_id}/phone-numbers",
        deployment.provider.application_token(),
        {"phoneNumber": "+447700900123"},
    )
    assert added.status_code == 200, added.text
    ott = new_ott(deployment.call("POST", "/payments/2/now", token))
    about = {"one-time-token": ott}
    triggered = deployment.call("POST", "/v1/one-time-token/sms/trigger", token, **about)
    assert triggered.json() == {"obfuscatedPhoneNo": "*********0123"}
    (received,) = deployment.receiver.received
    assert received.headers["webhook-signature"] == signature_of(received)
    message = received.message
    assert message["channel"] == "SMS"
    assert message["to"] == "+447700900123"
    assert message["code"] in message["text"]
    assert message["messageId"] == received.headers["webhook-id"]
    for method, answer in (("pin", {"pin": "4713"}), ("sms", {"otpCode": message["code"]})):
        verified = deployment.send(f"/v1/one-time-token/{method}/verify", token, answer, **about)
        assert verified.status_code == 200, verified.text
    paid = deployment.call("POST", "/payments/2/now", token, **{"x-2fa-approval": ott})
    assert (paid.status_code, paid.headers["x-2fa-approval-result"]) == (201, "APPROVED")


def test_one_subject_is_one_user_and_two_issuers_users_are_two(deployment: Deployment) -> None:
    token = enrolled(deployment, "hopper")
    other_login = deployment.provider.user("hopper").access_token
    new_ott(deployment.call("POST", "/payments/3", other_login))
    namesake = deployment.hasty.user("hopper").access_token
    assert token != other_login
    answer = deployment.call("POST", "/payments/3", namesake)
    assert answer.json()["errors"][0]["code"] == "sca.enrolment.required"


def test_another_issuers_client_of_the_same_id_is_not_the_application(deployment: Deployment) -> None:
    token = enrolled(deployment, "hamilton")
    ott = new_ott(deployment.call("POST", "/payments/3", token))
    status = deployment.call("GET", "/v1/one-time-token/status", token, **{"one-time-token": ott})
    pin = f"/v1/users/{status.json()['oneTimeTokenProperties']['userId']}/pin"
    for _ in range(3):
        assert deployment.call("DELETE", pin, deployment.hasty.application_token()).status_code == 401
    assert deployment.call("DELETE", pin, deployment.provider.application_token()).status_code == 204
    answer = deployment.call("POST", "/payments/3", token)
    assert answer.json()["errors"][0]["code"] == "sca.enrolment.required"


def test_a_rotated_signing_key_is_picked_up_without_a_restart(deployment: Deployment) -> None:
    enrolled(deployment, "lovelace")
    kid = deployment.provider.rotate(keep=True)
    token = deployment.provider.user("lovelace").access_token
    assert json.loads(urlsafe_b64decode(token.split(".")[0] + "=="))["kid"] == kid
    assert eventually(lambda: deployment.call("POST", "/payments/4", token).status_code == 403)


@pytest.mark.attack(100)
def test_what_the_issuer_did_not_sign_for_us_is_nobodys(deployment: Deployment) -> None:
    honest = deployment.provider.user("noether")
    _, payload, signature = honest.access_token.split(".")
    none = urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    with real.started() as stranger:
        tokens = {
            "alg none": f"{none}.{payload}.",
            "alg none with a signature": f"{none}.{payload}.{signature}",
            "another audience": deployment.provider.user(
                "noether", resource=real.OTHER_AUDIENCE
            ).access_token,
            "another issuer": stranger.user("noether").access_token,
            "an ID token": honest.id_token,
            "another client's own": deployment.provider.application_token(real.STRANGER),
            "no token at all": "x",
        }
        before = deployment.ran()
        for what, token in tokens.items():
            for path in ("/payments/5", "/v1/one-time-token/status"):
                method = "GET" if path.endswith("status") else "POST"
                answer = deployment.call(method, path, token)
                assert answer.status_code == 401, what
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "x-2fa-approval" not in answer.headers
        assert deployment.ran() == before


def test_a_token_that_is_over_is_nobodys(deployment: Deployment) -> None:
    token = deployment.hasty.user("curie").access_token
    assert eventually(lambda: deployment.call("POST", "/payments/6", token).status_code == 401)


def test_an_installation_serves_on_after_a_restart(tmp_path: Path) -> None:
    with real.started() as provider:
        config = installation(
            tmp_path / "installation",
            f'[server]\nport = 0\n[app]\ntarget = "bank:app"\n{PAYMENT}',
            f'[[issuers]]\nissuer = "{provider.url}"\naudience = "{real.AUDIENCE}"\n',
        )
        token = provider.user("ada").access_token
        with served(config) as server, Receiver() as nobody:
            first = Deployment(server, provider, provider, nobody)
            assert first.send("/v1/user/pin", token, {"pin": "4713"}).status_code == 204
        with served(config) as server, Receiver() as nobody:
            second = Deployment(server, provider, provider, nobody)
            ott = new_ott(second.call("POST", "/payments/1", token))
            about = {"one-time-token": ott}
            verified = second.send("/v1/one-time-token/pin/verify", token, {"pin": "4713"}, **about)
            assert verified.status_code == 200
