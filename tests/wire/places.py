"""
The inventory of the public protocol: every call, in every generation that has it.

Each call is a row; the paths of its generations stand beside each other. ``story`` names what
``test_table`` does with it: the calls that succeed, and those that are refused as documented.
"""

from collections.abc import Iterator
from dataclasses import dataclass

VERSION = "2026Q3"
LEGACY, PROFILE, CALENDAR = "v1", "v2, profile", "calendar"


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    A call of one generation.

    Attributes:
        call: What it is for, as the inventory calls it.
        by: U a user, P his programs, C an application, M one that may manage users.
        story: What is told of it.
        documented: The statuses that the public protocol documents for it.
    """

    call: str
    generation: str
    method: str
    path: str
    by: str
    story: str
    documented: frozenset[int]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def by_an_application(self) -> bool:
        return "M" in self.by

    @property
    def takes_ott(self) -> bool:
        return "one-time-token/" in self.path or self.path.endswith("/verify")

    @property
    def under_a_profile(self) -> bool:
        return "{profileId}" in self.path


def _places(
    call: str,
    method: str,
    story: str,
    *,
    v1: tuple[str, ...] = (),
    profile: str = "",
    calendar: str = "",
    by: str = "UP",
    v1_by: str = "",
    documented: set[int],
    v2_documented: set[int] | None = None,
) -> Iterator[Place]:
    paths = [(LEGACY, path) for path in v1]
    if profile:
        paths.append((PROFILE, f"/v2/profiles/{{profileId}}/{profile}"))
        calendar = f"/profiles/{{profileId}}/{profile}"
    if calendar:
        paths.append((CALENDAR, f"/{{version}}{calendar}"))
    for generation, path in paths:
        # Without a path of a second generation, a calendar path is the first one's twin.
        newer = generation != LEGACY and profile != ""
        yield Place(
            call=call,
            generation=generation,
            method=method,
            path=path,
            by=by if newer or not v1_by else v1_by,
            story=story,
            documented=frozenset(documented if v2_documented is None or not newer else v2_documented),
        )


def _all() -> Iterator[Place]:
    yield from _places(
        "OTT status",
        "GET",
        "status",
        v1=("/v1/one-time-token/status", "/v1/identity/one-time-token/status"),
        calendar="/one-time-token/status",
        documented={200},
    )
    for what, story, first, second in (
        ("PIN", "verify_pin", "pin", "pin"),
        ("fingerprint", "verify_fingerprint", "partner-device-fingerprint", "device-fingerprints"),
        ("face map", "verify_face", "facemap", "facemaps"),
    ):
        yield from _places(
            f"Verify {what}",
            "POST",
            story,
            v1=(f"/v1/one-time-token/{first}/verify",),
            profile=f"{second}/verify",
            documented={200, 429},
            # Of a PIN that is blocked the second generation says 400.
            v2_documented={"PIN": {200, 400, 404}, "fingerprint": {200, 400, 404, 429}}.get(
                what, {200, 400, 429}
            ),
        )
    for channel in ("sms", "whatsapp", "voice"):
        for verb in ("trigger", "verify"):
            path = f"/one-time-token/{channel}/{verb}"
            yield from _places(
                f"{verb.capitalize()} OTP, {channel}",
                "POST",
                f"{verb}_code",
                v1=(f"/v1{path}",),
                calendar=path,
                documented={200, 429},
            )
    yield from _places(
        "Create PIN",
        "POST",
        "create_pin",
        v1=("/v1/user/pin",),
        profile="pin",
        by="U",
        documented={204, 409, 429},
        v2_documented={200, 409, 429},
    )
    yield from _places(
        "Delete PIN",
        "DELETE",
        "delete_pin",
        v1=("/v1/users/{userId}/pin",),
        profile="pin",
        by="U",
        v1_by="M",
        documented={204, 404},
        v2_documented={204, 404, 429},
    )
    fingerprints = "/v1/users/{userId}/partner-device-fingerprints"
    yield from _places(
        "Create fingerprint",
        "POST",
        "create_fingerprint",
        v1=("/v1/user/partner-device-fingerprints",),
        profile="device-fingerprints",
        by="U",
        documented={200, 400, 409, 429},
    )
    yield from _places(
        "List fingerprints", "GET", "list_fingerprints", v1=(fingerprints,), by="M", documented={200, 404}
    )
    yield from _places(
        "Delete fingerprint",
        "DELETE",
        "delete_fingerprint",
        v1=(f"{fingerprints}/{{deviceFingerprintId}}",),
        profile="device-fingerprints/{deviceFingerprintId}",
        by="U",
        v1_by="M",
        documented={204, 404},
        v2_documented={204, 404, 429},
    )
    yield from _places(
        "Enrol face map",
        "POST",
        "enrol_face",
        v1=("/v1/user/facemap/enrol",),
        profile="facemaps",
        by="U",
        documented={204, 409, 429},
    )
    yield from _places(
        "Delete face map",
        "DELETE",
        "delete_face",
        v1=("/v1/users/{userId}/facemap/enrol",),
        profile="facemaps",
        by="U",
        v1_by="M",
        documented={204, 404},
        v2_documented={204, 404, 429},
    )
    yield from _places(
        "FaceTec public key",
        "GET",
        "face_key",
        v1=("/v1/facetec/public-key",),
        calendar="/facetec/public-key",
        documented={200},
    )
    phones = "/application/users/{userId}/phone-numbers"
    one = f"{phones}/{{phoneNumberId}}"
    yield from _places("Phone list", "GET", "list_phones", v1=(f"/v1{phones}",), by="M", documented={200})
    yield from _places(
        "Phone create",
        "POST",
        "create_phone",
        v1=(f"/v1{phones}",),
        calendar=phones,
        by="M",
        documented={200, 422},
    )
    yield from _places(
        "Phone update", "PUT", "update_phone", v1=(f"/v1{one}",), by="M", documented={200, 422}
    )
    yield from _places(
        "Phone delete", "DELETE", "delete_phone", v1=(f"/v1{one}",), calendar=one, by="M", documented={204}
    )
    yield from _places(
        "SCA session",
        "POST",
        "session",
        v1=("/v1/mfa-session/authorise",),
        profile="sca-sessions/authorise",
        documented={200, 429},
    )
    yield from _jose()
    yield from _ours()


def _jose() -> Iterator[Place]:
    for call, method, story, path, documented in (
        ("JOSE keys, ours", "GET", "response_key", "response/public-keys", {200}),
        ("JOSE keys, the application's", "POST", "request_key", "request/public-keys", {201}),
        ("JOSE playground, JWS", "POST", "play", "playground/jws", {200}),
        ("JOSE playground, JWE", "POST", "play", "playground/jwe", {200}),
        ("JOSE playground, JWE", "GET", "play_get", "playground/jwe", {200}),
        ("JOSE playground, direct", "POST", "play", "playground/jwe-direct-encryption", {200}),
        # 400: its one documented error; of undecryptable bodies it says 500, which we do not.
        ("JOSE playground, JWS and JWE", "POST", "play", "playground/jwsjwe", {200, 400}),
    ):
        yield from _places(
            call,
            method,
            story,
            v1=(f"/v1/auth/jose/{path}",),
            calendar=f"/auth/jose/{path}",
            by="CM",
            documented=documented,
        )


def _ours() -> Iterator[Place]:
    """Yield what the public protocol has a web page for."""
    keys = "/v1/application/users/{userId}/public-keys"
    for call, method, story, path, documented in (
        ("Public keys, ours: list", "GET", "list_keys", keys, {200}),
        ("Public keys, ours: create", "POST", "create_key", keys, {201}),
        ("Public keys, ours: delete", "DELETE", "delete_key", f"{keys}/{{publicKeyId}}", {204}),
    ):
        yield from _places(call, method, story, v1=(path,), by="M", documented=documented)
    uploaded = "/auth/jose/request/public-keys/{keyId}"
    yield from _places(
        "JOSE keys, ours: revoke",
        "DELETE",
        "revoke_key",
        v1=(f"/v1{uploaded}",),
        calendar=uploaded,
        by="CM",
        documented={204},
    )


PLACES = tuple(_all())
