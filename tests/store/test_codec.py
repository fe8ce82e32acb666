"""Stored forms: what comes back is what went in, or a clear error; and what was released stays readable."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.factories import NOW, make_code, make_destination, make_token
from tests.store.support import PARTNER, make_application, make_key, make_owner
from tests.store.test_contract import APPLICATIONS, EVENTS, OWNERS, STATES, USERS
from watchword.domain.action import Bind, Risk, Spend
from watchword.domain.application import Application, ApplicationId, ClientKey, KeyScope
from watchword.domain.binding import Binding
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Event, EventName
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after
from watchword.domain.method import Method
from watchword.domain.owner import Owner
from watchword.domain.token import (
    Cleared,
    LiveCode,
    OneTimeToken,
    Pending,
    Reserved,
    Revoked,
    Sends,
    Spent,
    State,
    TokenId,
)
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import StoreCorruptError
from watchword.store.codec import (
    decode_application,
    decode_destination,
    decode_event,
    decode_owner,
    decode_token,
    decode_user,
    encode_application,
    encode_destination,
    encode_event,
    encode_owner,
    encode_token,
    encode_user,
)

Codec = tuple[Callable[[Any], bytes], Callable[[bytes], object]]

CODECS: dict[type, Codec] = {
    OneTimeToken: (encode_token, decode_token),
    UserSecurity: (encode_user, decode_user),
    Destination: (encode_destination, decode_destination),
    Application: (encode_application, decode_application),
    Owner: (encode_owner, decode_owner),
    Event: (encode_event, decode_event),
}
RECORDS: tuple[object, ...] = (
    *(make_token(state) for state in STATES),
    *USERS,
    Destination(id=b"digest", sent_at=(NOW, NOW), version=2),
    make_destination(),
    *APPLICATIONS,
    *OWNERS,
    *EVENTS,
)

instants = st.integers(0, 2**53).map(Instant)
methods = st.sampled_from(Method)
codes = st.builds(
    LiveCode,
    method=methods,
    credential_id=st.text(),
    digest=st.binary(max_size=64),
    expires_at=instants,
    wrong=st.integers(0, 100),
)
states: st.SearchStrategy[State] = st.one_of(
    st.builds(Pending, st.none() | codes), *(st.just(state) for state in STATES[3:])
)
tokens = st.builds(
    OneTimeToken,
    id=st.binary(max_size=64).map(TokenId),
    user_id=st.integers(0, 2**63 - 1).map(UserId),
    action=st.text(),
    risk=st.sampled_from(Risk),
    bind=st.sampled_from(Bind),
    spend_mode=st.sampled_from(Spend),
    binding=st.builds(
        Binding, method=st.text(), path=st.text(), target=st.binary(max_size=64), body=st.binary(max_size=64)
    ),
    challenges=st.lists(
        st.builds(Challenge, methods, st.lists(methods).map(tuple), st.none() | methods), max_size=3
    ).map(tuple),
    factors=st.integers(0, 3),
    issued_at=instants,
    expires_at=instants,
    state=states,
    sends=st.lists(st.builds(Sends, methods, st.integers(0, 100), instants), max_size=3).map(tuple),
    application=st.none() | st.text(),
    details=st.binary(max_size=64),
    page=st.binary(max_size=64),
    version=st.integers(1, 2**63 - 1),
)


keys = st.builds(
    ClientKey,
    id=st.text(),
    scope=st.sampled_from(KeyScope),
    algorithm=st.text(),
    spki=st.binary(max_size=64),
    valid_from=instants,
    valid_till=instants,
)
applications = st.builds(
    Application,
    id=st.text().map(ApplicationId),
    version=st.integers(1, 2**63 - 1),
    keys=st.lists(keys, max_size=3).map(tuple),
)
owners = st.builds(
    Owner,
    id=st.binary(max_size=64),
    user_id=st.none() | st.integers(0, 2**63 - 1).map(UserId),
    version=st.integers(1, 2**63 - 1),
)


@given(tokens)
def test_any_token_comes_back(token: OneTimeToken) -> None:
    assert decode_token(encode_token(token)) == token


@given(applications)
def test_any_application_comes_back(application: Application) -> None:
    assert decode_application(encode_application(application)) == application


@given(owners)
def test_any_owner_comes_back(owner: Owner) -> None:
    assert decode_owner(encode_owner(owner)) == owner


def test_every_kind_of_record_comes_back() -> None:
    for record in RECORDS:
        encode, decode = CODECS[type(record)]
        assert decode(encode(record)) == record


@pytest.mark.parametrize(
    "record",
    [make_token(Cleared(NOW)), USERS[2], make_application(make_key()), OWNERS[0], RECORDS[-1]],
    ids=lambda r: type(r).__name__,
)
def test_no_bit_can_change_unnoticed(record: object) -> None:
    encode, decode = CODECS[type(record)]
    body = encode(record)
    for position in range(len(body)):
        for bit in range(8):
            damaged = bytearray(body)
            damaged[position] ^= 1 << bit
            with pytest.raises(StoreCorruptError):
                decode(bytes(damaged))
    for length in range(len(body)):
        with pytest.raises(StoreCorruptError):
            decode(body[:length])
    with pytest.raises(StoreCorruptError):
        decode(body + b"\0")


@pytest.mark.parametrize(
    "record",
    [RECORDS[0], USERS[0], make_destination(), APPLICATIONS[0], OWNERS[0], EVENTS[0]],
    ids=lambda r: type(r).__name__,
)
def test_bytes_of_one_kind_never_pass_for_another(record: object) -> None:
    body = CODECS[type(record)][0](record)
    for kind, (_, decode) in CODECS.items():
        if kind is not type(record):
            with pytest.raises(StoreCorruptError):
                decode(body)


@given(st.binary(max_size=100))
def test_bytes_from_anywhere_are_reported(body: bytes) -> None:
    for _, decode in CODECS.values():
        with pytest.raises(StoreCorruptError):
            decode(body)


# Bytes as they lie in files out there, each with the record that wrote them, by the schema of the
# file. A form that must change gets a new number in `codec` and new lines here; these lines stay.
RELEASED_IN_SCHEMA_1: tuple[tuple[str, object], ...] = (
    (
        (
            "a967225b9f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90c093a3534d5392a85748415453415050"
            "a5564f494345c002cf0000018bcfe56800cf0000018bcff323a09200c09001"
        ),
        make_token(),
    ),
    (
        (
            "75e4da599f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90c093a3534d5392a85748415453415050"
            "a5564f494345c002cf0000018bcfe56800cf0000018bcff323a0920095a5564f494345a570686f6e65c404636f6465cf"
            "0000018bcfe9fbe0009001"
        ),
        make_token(Pending(make_code(Method.VOICE))),
    ),
    (
        (
            "76da6c799f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90a350494e93a3534d5392a85748415453"
            "415050a5564f494345a3534d5302cf0000018bcfe56800cf0000018bcff323a09201cf0000018bcfe568009001"
        ),
        make_token(Cleared(NOW)),
    ),
    (
        (
            "a93354f19f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90a350494e93a3534d5392a85748415453"
            "415050a5564f494345a3534d5302cf0000018bcfe56800cf0000018bcff323a09302cf0000018bcfe56800cf0000018b"
            "cfe652609001"
        ),
        make_token(Reserved(NOW, after(NOW, 60))),
    ),
    (
        (
            "9ae1f2e69f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90a350494e93a3534d5392a85748415453"
            "415050a5564f494345a3534d5302cf0000018bcfe56800cf0000018bcff323a09203cf0000018bcfe568009001"
        ),
        make_token(Spent(NOW)),
    ),
    (
        (
            "459bee479f01c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374a662"
            "65666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f706179"
            "6d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298fc1c"
            "149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90a350494e93a3534d5392a85748415453"
            "415050a5564f494345a3534d5302cf0000018bcfe56800cf0000018bcff323a09304cf0000018bcfe56800a8746f6f2d"
            "6d616e799001"
        ),
        make_token(Revoked(NOW, "too-many")),
    ),
    (
        "afec8a019801ce005dcb8c0190c0c00090",
        USERS[0],
    ),
    (
        (
            "1ab1b6c19801ce005dcb8c01949500a370696ec4067365616c6564cf0000018bcfe56800c29601a570686f6e65c40673"
            "65616c6564c406646967657374cf0000018bcfe56800c29502a6646576696365c406646967657374cf0000018bcfe568"
            "00c29503a36b6579c403646572cf0000018bcfe56800c2a85748415453415050c00090"
        ),
        USERS[1],
    ),
    (
        (
            "abef38959801ce005dcb8c01949500a370696ec4067365616c6564cf0000018bcfe56800c39601a570686f6e65c40673"
            "65616c6564c406646967657374cf0000018bcfe56800c39502a6646576696365c406646967657374cf0000018bcfe568"
            "00c39503a36b6579c403646572cf0000018bcfe56800c3c094930102030493050607cf0000018bcfe56800cf0000018b"
            "cfe9fbe09292c40161cf0000018bcff323a092c40162cf0000018bcff323a0"
        ),
        USERS[2],
    ),
    (
        "7f69a12f9401c40664696765737492cf0000018bcfe56800cf0000018bcfe5680002",
        Destination(id=b"digest", sent_at=(NOW, NOW), version=2),
    ),
    (
        "43f4cca79601ac746f6b656e2e697373756564cf0000018bcfe56800ce005dcb8cc080",
        EVENTS[0],
    ),
    (
        (
            "cfaa570d9601ab746f6b656e2e7370656e74cf0000018bcfe56be8ce005dcb8dc420000102030405060708090a0b0c0d"
            "0e0f101112131415161718191a1b1c1d1e1f83a6616374696f6eae5452414e534645525f5f46554e44a46c65667403a7"
            "6772c3b6c39f65a9c39fe282acf09d849e"
        ),
        EVENTS[-1],
    ),
)
RELEASED_IN_SCHEMA_2: tuple[tuple[str, object], ...] = (
    (
        (
            "77ec67849801ce005dcb8c01929504a466616365c4067365616c6564cf0000018bcfe56800c29504a36f6c64c400cf00"
            "00018bcfe56800c3c0c00090"
        ),
        USERS[3],
    ),
    ("39b315089401a9706172746e65722d310190", Application(id=PARTNER, version=1)),
    (
        (
            "4a5646ab9401a9706172746e65722d31019296a36f6e65af5041594c4f41445f5349474e494e47a54553353132c40364"
            "6572cf0000018bcfe56800cf0000018bd01c568096a374776fb25041594c4f41445f454e4352595054494f4ea5455335"
            "3132c403646572cf0000018bcfe56800cf0000018bd01c5680"
        ),
        make_application(make_key("one"), make_key("two", KeyScope.PAYLOAD_ENCRYPTION)),
    ),
    ("879110329401c4066e756d626572ce005dcb8c01", make_owner()),
    ("6a21aabc9401c4066e756d626572c002", Owner(id=b"number", version=2)),
    (
        (
            "fa08d8079601ac6b65792e75706c6f61646564cf0000018bcfe56800c0c081ab6170706c69636174696f6ea970617274"
            "6e65722d31"
        ),
        Event(name=EventName.KEY_UPLOADED, at=NOW, user_id=None, details={"application": PARTNER}),
    ),
)
RELEASED_IN_SCHEMA_3: tuple[tuple[str, object], ...] = (
    (
        (
            "197b80aedc001202c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374"
            "a66265666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f70"
            "61796d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298"
            "fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90c093a3534d5392a8574841545341"
            "5050a5564f494345c002cf0000018bcfe56800cf0000018bcff323a09200c09001a9706172746e65722d31c406736561"
            "6c6564c406646967657374"
        ),
        replace(make_token(), application=PARTNER, details=b"sealed", page=b"digest"),
    ),
    (
        (
            "10b9504bdc001202c405746f6b656ece005dcb8cae5452414e534645525f5f46554e44a468696768a772657175657374"
            "a66265666f726594a4504f5354d9282f76332f70726f66696c65732f3433353033362f7472616e73666572732f392f70"
            "61796d656e7473c420eb83d8fdb8721ba52ef5484a2a4e59fc438a141efc53029e0660f8ec912a847cc420e3b0c44298"
            "fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8559293a350494e90c093a3534d5392a8574841545341"
            "5050a5564f494345c002cf0000018bcfe56800cf0000018bcff323a09200c09001c0c400c406646967657374"
        ),
        replace(make_token(), page=b"digest"),
    ),
    (
        (
            "7eff5f199601ab706167652e6f70656e6564cf0000018bcfe56800ce005dcb8cc081a6616374696f6eae5452414e5346"
            "45525f5f46554e44"
        ),
        Event(
            name=EventName.PAGE_OPENED, at=NOW, user_id=UserId(6146956), details={"action": "TRANSFER__FUND"}
        ),
    ),
)
RELEASED = RELEASED_IN_SCHEMA_1 + RELEASED_IN_SCHEMA_2 + RELEASED_IN_SCHEMA_3


def test_what_was_stored_by_every_version_so_far_can_still_be_read() -> None:
    for stored, record in RELEASED:
        assert CODECS[type(record)][1](bytes.fromhex(stored)) == record


def test_what_is_stored_now_is_what_the_last_version_stored() -> None:
    """A change of a form that nobody meant would lock older versions out, and newer ones too."""
    for stored, record in RELEASED:
        assert CODECS[type(record)][0](record).hex() == stored
