"""Enrolment over HTTP, where a user confirms what he changes himself."""

import asyncio

import pytest

from tests.app import GRACE_PROFILE, PAYMENT_PATH, PROFILE, Product, make_product
from tests.factories import GRACE, Faces


@pytest.fixture
async def product() -> Product:
    """Return a product that takes faces, too."""
    return await make_product(faces=Faces())


# --- one factor, and an access token alone ----------------------------------------------------

FINGERPRINTS = "/v1/user/partner-device-fingerprints"


async def enrols(product: Product, path: str, body: dict[str, str]) -> int:
    """Enrol something as Grace, who has a phone and nothing else."""
    return (await product.call("POST", path, token="grace", json=body)).status_code


@pytest.mark.attack(20)
async def test_an_access_token_alone_does_not_come_to_two_factors_of_its_holders_own(
    product: Product,
) -> None:
    assert await enrols(product, FINGERPRINTS, {"deviceFingerprint": "mine"}) == 403
    assert await enrols(product, "/v1/user/pin", {"pin": "4711"}) == 204
    assert await enrols(product, FINGERPRINTS, {"deviceFingerprint": "mine"}) == 403
    kinds = [type(each).__name__ for each in (await product.world.user(GRACE)).credentials]
    assert kinds == ["Phone", "Pin"]
    path = PAYMENT_PATH.replace(str(PROFILE), str(GRACE_PROFILE))
    ott = await product.ott("POST", path, token="grace")
    passed = await product.on(ott, "pin/verify", {"pin": "4711"}, token="grace")
    assert passed.status_code == 200
    answer = await product.call("POST", path, token="grace", headers={"x-2fa-approval": ott})
    assert answer.status_code == 403
    assert not product.bank.executions


@pytest.mark.attack(20)
async def test_nor_by_two_additions_at_once_that_would_each_be_free(product: Product) -> None:
    statuses = await asyncio.gather(
        enrols(product, "/v1/user/pin", {"pin": "4711"}),
        enrols(product, "/v1/user/facemap/enrol", {"faceMap": "ZmFjZSBvZiBzb21lYm9keQ=="}),
    )
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 403, 503}
    assert len((await product.world.user(GRACE)).credentials) == 2


async def test_the_factor_that_is_there_lets_another_of_its_kind_be_enrolled(product: Product) -> None:
    asked = await product.call("POST", FINGERPRINTS, token="grace", json={"deviceFingerprint": "mine"})
    ott = asked.headers["x-2fa-approval"]
    assert (await product.pass_sms(ott, token="grace")).status_code == 200
    made = await product.call(
        "POST",
        FINGERPRINTS,
        token="grace",
        json={"deviceFingerprint": "mine"},
        headers={"x-2fa-approval": ott},
    )
    assert made.status_code == 200
    assert made.headers["x-2fa-approval-result"] == "APPROVED"
