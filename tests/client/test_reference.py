"""The client's page of the reference says what there is, and nothing else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.docs.documents import prose, read
from watchword.client import Auth, Enrolment, Jose, RequestsAuth, jose
from watchword.client.encoding import ROUTES
from watchword.client.exchange import Answer, Call

PAGE = prose(read("docs/reference/client.md"))
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROWS = {
    title: [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    for title, text in SECTIONS.items()
}
JOSE = "Bodies that are signed, or encrypted to a key of yours"


def names(rows: list[list[str]]) -> list[str]:
    return [re.findall(r"`(\w+)", row[0])[0] for row in rows]


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("`Auth` and `RequestsAuth`", Auth),
        ("`Auth` and `RequestsAuth`", RequestsAuth),
        ("`Jose`", Jose),
    ],
)
def test_every_argument_is_there_in_its_place(title: str, kind: Callable[..., Any]) -> None:
    assert names(ROWS[title]) == [*inspect.signature(kind).parameters]


def test_every_method_that_the_client_knows_is_there() -> None:
    documented = {name for row in ROWS["Methods"] for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == {*ROUTES, "SIGNATURE"}
    sealable = {row[0].strip("`") for row in ROWS["Methods"] if "encrypted" in row[2]}
    assert sealable == {name for name, route in ROUTES.items() if route.sealable}


def every_call() -> dict[str, list[str]]:
    """Return the calls of each method, as the reference writes them."""
    values: dict[str, Any] = {
        "user_id": 5,
        "profile_id": 7,
        "device_fingerprint_id": "d-1",
        "phone_number_id": 9,
        "public_key_id": "k-1",
    }
    written = {
        "users/5": "users/{userId}",
        "profiles/7": "profiles/{profileId}",
        "d-1": "{deviceFingerprintId}",
        "numbers/9": "numbers/{phoneNumberId}",
        "k-1": "{publicKeyId}",
    }
    found: dict[str, list[str]] = {}
    for name, method in inspect.getmembers(Enrolment(), inspect.ismethod):
        if name.startswith("_"):
            continue
        arguments = {one: values.get(one, "text") for one in inspect.signature(method).parameters}
        owners = [each for each in ("user_id", "profile_id") if each in arguments]
        without: list[set[str]] = [{"profile_id"} & arguments.keys()]
        if "profile_id" in owners:
            without.append({"user_id"} & arguments.keys())
        for left_out in without:
            call = next(method(**{one: arguments[one] for one in arguments.keys() - left_out}))
            line = f"{call.method} {call.path}"
            for value, placeholder in written.items():
                line = line.replace(value, placeholder)
            found.setdefault(name, []).append(line)
    return found


def test_every_call_of_the_enrolment_is_there() -> None:
    documented = {
        re.findall(r"`(\w+)", row[0])[0]: [cell.strip("`") for cell in row[1:] if cell]
        for row in ROWS["`Enrolment`"]
        if re.match(r"`[A-Z]+ /", row[1])
    }
    assert documented == every_call()
    assert names(ROWS["`Enrolment`"])[: len(inspect.signature(Enrolment).parameters)] == ["jose"]


def test_what_goes_out_and_comes_back_is_there() -> None:
    for name in ("method", "path", "headers", "body"):
        assert hasattr(Call, name)
    assert [*inspect.signature(Answer).parameters] == ["status", "headers", "body"]
    assert "`Answer(status, headers, body)`" in SECTIONS["`Enrolment`"]


def test_every_function_on_messages_is_there() -> None:
    functions = {name for name in jose.__all__ if inspect.isfunction(getattr(jose, name))}
    assert {*names(ROWS[JOSE])} == functions
