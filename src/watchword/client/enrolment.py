"""
Enrol and remove what a user proves himself with.

A method of `Enrolment` makes no call: it returns the calls to make, for `perform` or `perform_async` to make
with a client, or for a driver of your own. Whose token the client needs depends on the call:

    of a profile, by `profile_id`       the user's own
    of a user, by `user_id`             an application's
    created with neither                the user's own

Where a change of credentials is itself protected, give the client an `Auth`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar
from urllib.parse import quote

import msgspec

from watchword import wire
from watchword.client._http import httpx
from watchword.client.encoding import as_base64
from watchword.client.envelope import Envelope, Jose
from watchword.client.exchange import Answer, Call, Exchange, decode, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class DeviceFingerprint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An enrolled device. Its fingerprint is never told again."""

    device_fingerprint_id: str
    created_at: str


class PhoneNumber(wire.Discreet, frozen=True, kw_only=True, rename="camel"):
    """A phone number that codes can be sent to."""

    id: int
    phone_number: str
    type: str = "PRIMARY"
    verified: bool = True
    client_id: str | None = None


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key that a user's programs sign with; `sha256` is the hash of its DER form."""

    public_key_id: str
    created_at: str
    sha256: str


class Enrolment:
    """
    The calls that change credentials.

    All raise `RefusedError` where the server says no: `status` 409 for what is enrolled already, 404 for
    what is not. PINs and device fingerprints are encrypted on their way if a `Jose` says so.
    """

    def __init__(self, *, jose: Jose | None = None) -> None:
        """
        Set up. An object is for one server, whose key it keeps.

        Args:
            jose: Whether PINs and device fingerprints are encrypted on their way; plain JSON by default.
        """
        self._envelope = Envelope(jose)

    def create_pin(self, pin: str, *, profile_id: int | None = None) -> Exchange[None]:
        """Set the PIN."""
        path = "/v1/user/pin" if profile_id is None else f"/v2/profiles/{profile_id}/pin"
        yield from self._sealed(path, {"pin": pin})

    def delete_pin(self, *, profile_id: int | None = None, user_id: int | None = None) -> Exchange[None]:
        """Remove the PIN."""
        yield from _plain("DELETE", _of(profile_id, "pin", user_id, "pin"))

    def create_device_fingerprint(
        self, fingerprint: str, *, profile_id: int | None = None
    ) -> Exchange[DeviceFingerprint]:
        """Add a device."""
        path = (
            "/v1/user/partner-device-fingerprints"
            if profile_id is None
            else f"/v2/profiles/{profile_id}/device-fingerprints"
        )
        answer = yield from self._sealed(path, {"deviceFingerprint": fingerprint})
        return decode(answer, DeviceFingerprint)

    def list_device_fingerprints(self, *, user_id: int) -> Exchange[tuple[DeviceFingerprint, ...]]:
        """Return the devices."""
        answer = yield from _plain("GET", f"/v1/users/{user_id}/partner-device-fingerprints")
        return decode(answer, tuple[DeviceFingerprint, ...])

    def delete_device_fingerprint(
        self, device_fingerprint_id: str, *, profile_id: int | None = None, user_id: int | None = None
    ) -> Exchange[None]:
        """Remove a device, by the identifier that it got."""
        path = _of(profile_id, "device-fingerprints", user_id, "partner-device-fingerprints")
        yield from _plain("DELETE", f"{path}/{quote(device_fingerprint_id, safe='')}")

    def face_map_key(self) -> Exchange[str]:
        """Return the public key, in PEM, to which a camera encrypts its face maps."""
        answer = yield from _plain("GET", "/v1/facetec/public-key")
        return answer.body.decode("ascii", errors="replace")

    def enrol_face_map(self, face_map: bytes | str, *, profile_id: int | None = None) -> Exchange[None]:
        """Enrol a face: bytes, or what is base64 already."""
        path = "/v1/user/facemap/enrol" if profile_id is None else f"/v2/profiles/{profile_id}/facemaps"
        yield from _plain("POST", path, {"faceMap": as_base64(face_map)})

    def delete_face_map(self, *, profile_id: int | None = None, user_id: int | None = None) -> Exchange[None]:
        """Remove the face."""
        yield from _plain("DELETE", _of(profile_id, "facemaps", user_id, "facemap/enrol"))

    def list_phone_numbers(self, *, user_id: int) -> Exchange[tuple[PhoneNumber, ...]]:
        """Return the phone numbers."""
        answer = yield from _plain("GET", _phones(user_id))
        return decode(answer, tuple[PhoneNumber, ...])

    def create_phone_number(self, number: str, *, user_id: int) -> Exchange[PhoneNumber]:
        """Add a phone number, which the application has verified."""
        answer = yield from _plain("POST", _phones(user_id), {"phoneNumber": number})
        return decode(answer, PhoneNumber)

    def update_phone_number(
        self, phone_number_id: int, number: str, *, user_id: int
    ) -> Exchange[PhoneNumber]:
        """Put another number in the place of one."""
        answer = yield from _plain("PUT", f"{_phones(user_id)}/{phone_number_id}", {"phoneNumber": number})
        return decode(answer, PhoneNumber)

    def delete_phone_number(self, phone_number_id: int, *, user_id: int) -> Exchange[None]:
        """Remove a phone number, by the identifier that it got."""
        yield from _plain("DELETE", f"{_phones(user_id)}/{phone_number_id}")

    def list_public_keys(self, *, user_id: int) -> Exchange[tuple[PublicKey, ...]]:
        """Return the keys that signatures are checked with. The public API has no such call."""
        answer = yield from _plain("GET", _public_keys(user_id))
        return decode(answer, tuple[PublicKey, ...])

    def create_public_key(self, pem: str, *, user_id: int) -> Exchange[PublicKey]:
        """Add a public RSA key, in PEM. The public API has no such call."""
        answer = yield from _plain("POST", _public_keys(user_id), {"publicKey": pem})
        return decode(answer, PublicKey)

    def delete_public_key(self, public_key_id: str, *, user_id: int) -> Exchange[None]:
        """Remove a key, by the identifier that it got. The public API has no such call."""
        yield from _plain("DELETE", f"{_public_keys(user_id)}/{quote(public_key_id, safe='')}")

    def _sealed(self, path: str, body: Mapping[str, str]) -> Exchange[Answer]:
        call = Call(method="POST", path=path, body=msgspec.json.encode(body))
        return _done((yield from self._envelope.deliver(call)))


def perform(client: httpx.Client, steps: Exchange[T]) -> T:
    """
    Make the calls and return what came of them.

    Args:
        client: With the server's `base_url`, and the token in a header or an `auth`.
        steps: From a method of `Enrolment`.

    Raises:
        WatchwordError: See `watchword.client.errors`.
    """
    try:
        call = next(steps)
        while True:
            call = steps.send(_answer(client.request(call.method, call.path, **_options(call))))
    except StopIteration as done:
        result: T = done.value
        return result


async def perform_async(client: httpx.AsyncClient, steps: Exchange[T]) -> T:
    """Do as `perform`, with an asynchronous client."""
    try:
        call = next(steps)
        while True:
            call = steps.send(_answer(await client.request(call.method, call.path, **_options(call))))
    except StopIteration as done:
        result: T = done.value
        return result


class _Options(TypedDict, total=False):
    headers: dict[str, str]
    content: bytes | None
    follow_redirects: bool
    auth: None


def _options(call: Call) -> _Options:
    options = _Options(headers=call.headers, content=call.body, follow_redirects=False)
    if call.bearer is not None:
        options["auth"] = None  # an `Auth` would put the user's token in its place
    return options


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content)


def _plain(method: str, path: str, body: Mapping[str, str] | None = None) -> Exchange[Answer]:
    content = None if body is None else msgspec.json.encode(body)
    return _done((yield Call(method=method, path=path, body=content)))


def _done(answer: Answer) -> Answer:
    if not answer.succeeded:
        raise refusal(answer)
    return answer


def _of(profile_id: int | None, profiles: str, user_id: int | None, users: str) -> str:
    """Return the path of a profile's credential, or of a user's."""
    if profile_id is not None and user_id is None:
        return f"/v2/profiles/{profile_id}/{profiles}"
    if user_id is not None and profile_id is None:
        return f"/v1/users/{user_id}/{users}"
    raise ValueError("say whose: either profile_id or user_id")


def _phones(user_id: int) -> str:
    return f"/v1/application/users/{user_id}/phone-numbers"


def _public_keys(user_id: int) -> str:
    return f"/v1/application/users/{user_id}/public-keys"
