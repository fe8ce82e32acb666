"""No secret shows in anything that may come to be printed: records, results, messages, events, errors."""

import asyncio
from traceback import format_exception

import pytest

from tests.factories import (
    ADA,
    GRACE,
    KEYRING,
    PAY,
    PAYMENT,
    READ,
    STATEMENT,
    World,
    enrolled_fingerprint,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from watchword.delivery.base import DeliveryError
from watchword.domain.method import Method
from watchword.engine.engine import Caller, StepUp, identify
from watchword.methods.keyring import Keyring

PIN, CODE, NUMBER = "83615297", "048213", "+6591357924"
FINGERPRINT = "b7c3b1de-3f55-4a5e-9e63-2a7a4a1d2f10"
ada = Caller(ADA)


async def walked(world: World) -> tuple[list[object], list[str]]:
    """Walk every path once; return all that came of it, and the OTTs."""
    await world.enrol(
        ADA,
        enrolled_pin(ADA, PIN),
        enrolled_phone(number=NUMBER),
        enrolled_fingerprint(fingerprint=FINGERPRINT),
    )
    seen: list[object] = [world.engine, world.methods, KEYRING, ada]
    stepped_up = await world.engine.protect(ada, PAYMENT, PAY)
    authorised = await world.engine.authorise(ada, READ)
    assert isinstance(stepped_up, StepUp)
    assert isinstance(authorised, tuple)
    ott = stepped_up.ott
    seen += [stepped_up, authorised, await world.token(ott)]
    seen += [await world.engine.trigger(ada, ott, Method.SMS), await world.token(ott), await world.user()]
    seen += [await world.engine.verify(ada, ott, Method.SMS, "999999")]
    seen += [await world.engine.verify(ada, ott, Method.SMS, CODE)]
    seen += [await world.engine.verify(ada, ott, Method.PIN, "99999999")]
    seen += [await world.engine.verify(ada, ott, Method.PIN, PIN)]
    seen += [await world.engine.status(ada, ott), await world.engine.status(Caller(GRACE), ott)]
    seen += [await world.engine.protect(ada, PAYMENT, PAY, ott=ott)]
    again = await world.engine.protect(ada, STATEMENT, READ, ott=ott)
    assert isinstance(again, StepUp)
    seen += [again, await world.engine.verify(ada, again.ott, Method.PARTNER_DEVICE_FINGERPRINT, FINGERPRINT)]
    seen += [*world.outbox.messages, *[event for _, event in await world.store.events()]]
    seen += [await world.token(each) for each in (ott, authorised[0], again.ott)]
    destination = await world.store.destination(enrolled_phone(number=NUMBER).digest)
    assert destination is not None
    seen += [destination, await world.user()]
    return seen, [ott, authorised[0], again.ott]


@pytest.mark.attack(178)
async def test_no_secret_shows_in_anything_that_the_engine_makes_or_keeps() -> None:
    seen, otts = await walked(make_world(codes=[CODE]))
    for thing in seen:
        for shown in (repr(thing), str(thing), f"{thing}"):
            for secret in (PIN, CODE, NUMBER, NUMBER[1:], NUMBER[:-4], FINGERPRINT, *otts):
                assert secret not in shown, f"{type(thing).__name__} shows a secret"


async def test_the_number_shows_by_its_last_four_digits_to_its_owner_alone() -> None:
    seen, _ = await walked(make_world(codes=[CODE]))
    assert [thing for thing in seen if NUMBER[-4:] in str(thing)] == ["*********7924"]


async def test_no_secret_shows_in_an_error() -> None:
    world = make_world(codes=[CODE])
    await world.enrol(ADA, enrolled_pin(ADA, PIN), enrolled_phone(number=NUMBER))
    issued = await world.engine.protect(ada, STATEMENT, READ)
    assert isinstance(issued, StepUp)
    world.outbox.down = True
    errors: list[BaseException] = []
    with pytest.raises(DeliveryError) as undelivered:
        await world.engine.trigger(ada, issued.ott, Method.SMS)
    errors.append(undelivered.value)
    world.engine.methods = type(world.methods)(Keyring({7: bytes(32)}, active=7))
    for call in (
        world.engine.verify(ada, issued.ott, Method.PIN, PIN),
        world.engine.trigger(ada, issued.ott, Method.VOICE),
    ):
        (error,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(error, Exception)
        errors.append(error)
    for error in errors:
        shown = "".join(format_exception(error)) + repr(error.args)
        for secret in (PIN, CODE, NUMBER[1:], issued.ott):
            assert secret not in shown


async def test_the_store_holds_no_secret_in_any_field() -> None:
    world = make_world(codes=[CODE])
    _, otts = await walked(world)
    user = await world.user()
    records = [user, *[await world.token(ott) for ott in otts]]
    raw = b"".join(_bytes_in(record) for record in records)
    for secret in (PIN, CODE, NUMBER[1:], FINGERPRINT, *otts):
        assert secret.encode() not in raw
    assert raw.count(identify(otts[0])), "nothing was looked at"


def _bytes_in(value: object) -> bytes:
    """Join all bytes and texts that a record holds, however deep."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, tuple):
        return b"".join(map(_bytes_in, value))
    names = getattr(value, "__dataclass_fields__", {})
    return b"".join(_bytes_in(getattr(value, name)) for name in names)
