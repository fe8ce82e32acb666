"""Taking tokens apart: one reading, or none."""

import pytest
from hypothesis import given, strategies as st

from tests.jose import oracle
from tests.jose.support import fault
from watchword.jose import compact
from watchword.jose.compact import BODY_MAX, HEADER_MAX, JoseFault


@given(st.binary(max_size=100))
def test_what_is_encoded_as_rfc_7515_says_decodes(data: bytes) -> None:
    assert compact.decode(oracle.b64(data)) == data


@given(st.binary(max_size=12))
def test_whatever_decodes_has_this_one_spelling(segment: bytes) -> None:
    """No two segments mean the same bytes: who compares tokens compares what is in them."""
    try:
        decoded = compact.decode(segment)
    except compact.JoseError:
        return
    assert oracle.b64(decoded) == segment


@pytest.mark.attack(110)
@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(b"QUI=", id="padded"),
        pytest.param(b"QQ==", id="padded-twice"),
        pytest.param(b"QUJD=", id="padded-without-need"),
        pytest.param(b"QR", id="stray-bits-of-two"),
        pytest.param(b"QUJ", id="stray-bits-of-three"),
        pytest.param(b"QUJDR", id="one-too-many"),
        pytest.param(b"Q", id="one-alone"),
        pytest.param(b" QUJD", id="space-before"),
        pytest.param(b"QUJD\n", id="line-end"),
        pytest.param(b"QU\r\nJD", id="folded"),
        pytest.param(b"+_AA", id="other-alphabet-plus"),
        pytest.param(b"/_AA", id="other-alphabet-slash"),
        pytest.param(b"QU\x00JD", id="nul"),
        pytest.param(b"QU!JD", id="skipped-by-lenient-decoders"),
        pytest.param("QUJ\uff24".encode(), id="full-width"),
    ],
)
def test_base64_in_any_other_spelling_is_refused(segment: bytes) -> None:
    assert fault(compact.decode, segment) is JoseFault.MALFORMED


@pytest.mark.parametrize("count", [3, 5])
def test_a_token_has_exactly_its_parts(count: int) -> None:
    assert compact.split(b".".join([b"a"] * count), count) == [b"a"] * count
    for other in {0, 1, 2, 3, 4, 5, 6, 20_000} - {count}:
        body = b".".join([b"a"] * other)
        assert fault(compact.split, body, count) is JoseFault.MALFORMED


@pytest.mark.attack(106)
def test_a_token_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert len(compact.split(b"." * 2 + b"a" * (BODY_MAX - 2), 3)) == 3
    assert fault(compact.split, b"." * 2 + b"a" * (BODY_MAX - 1), 3) is JoseFault.TOO_LARGE
    assert fault(compact.split, b"a" * 2**20, 3) is JoseFault.TOO_LARGE


def _of_size(size: int) -> bytes:
    return oracle.b64(b'{"x":"' + b"a" * (size - 8) + b'"}')


def test_a_header_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert len(compact.header(_of_size(HEADER_MAX))["x"]) == HEADER_MAX - 8
    # The limit is compared with the base64, which is exact to two bytes.
    assert fault(compact.header, _of_size(HEADER_MAX + 2)) is JoseFault.TOO_LARGE


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut-short"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"alg"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"alg":"none","alg":"ES512"}', id="key-twice", marks=pytest.mark.attack(110)),
        pytest.param(b'{"alg":"none","\\u0061lg":"ES512"}', id="key-twice-escaped"),
        pytest.param(b'{"x":' + b"[" * 1000 + b"]" * 1000 + b"}", id="deep"),
        pytest.param(b'{"iat":NaN}', id="nan"),
        pytest.param(b'{"iat":' + b"9" * 4000 + b"}", id="long-integer"),
        pytest.param(b'{"x":"\\ud800"}', id="half-a-surrogate-pair"),
        pytest.param(b'\xef\xbb\xbf{"alg":"ES512"}', id="byte-order-mark"),
        pytest.param('{"alg":"ES512"}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"alg":"ES\xff12"}', id="not-utf-8"),
        pytest.param(b'{"alg":"ES512"}{}', id="two-objects"),
        pytest.param(b'{"alg":"ES512"}\x00', id="nul-after"),
    ],
)
def test_a_header_is_one_json_object_that_means_one_thing(text: bytes) -> None:
    assert fault(compact.header, oracle.b64(text)) is JoseFault.MALFORMED


def test_members_that_nobody_knows_are_ignored() -> None:
    members = {"alg": "RSA-OAEP-256", "url": "/somewhere", "x5t": "AAAA", "vendor": {"deep": [1]}}
    assert compact.header(oracle.b64(oracle.to_json(members))) == members


@pytest.mark.parametrize("name", ["b64", "crit", "epk", "jku", "jwk", "p2c", "p2s", "x5c", "x5u", "zip"])
@pytest.mark.parametrize("value", [None, False, "", "DEF", 2**31 - 1, ["exp"], {"kty": "EC"}])
def test_members_that_would_have_us_do_something_are_refused_whatever_they_say(
    name: str, value: object
) -> None:
    segment = oracle.b64(oracle.to_json({"alg": "RSA-OAEP-256", name: value}))
    assert fault(compact.header, segment) is JoseFault.HEADER


@pytest.mark.parametrize("name", ["alg", "cty", "enc", "kid", "ott", "typ", "url"])
@pytest.mark.parametrize("value", [None, False, 0, 1.5, ["ES512"], {"a": 1}])
def test_members_that_are_read_must_be_strings(name: str, value: object) -> None:
    segment = oracle.b64(oracle.to_json({name: value}))
    assert fault(compact.header, segment) is JoseFault.HEADER


@pytest.mark.parametrize("value", [None, False, True, "1700000000", 1.5, 1e9, [1]])
def test_the_time_of_issue_must_be_a_whole_number(value: object) -> None:
    segment = oracle.b64(oracle.to_json({"iat": value}))
    assert fault(compact.header, segment) is JoseFault.HEADER


def test_a_refusal_repeats_nothing_of_what_was_sent() -> None:
    segment = oracle.b64(b'{"pin":"4711", "pin":"4711"}')
    with pytest.raises(compact.JoseError) as raised:
        compact.header(segment)
    error = raised.value
    assert str(error) == "not a token of this kind in compact serialization"
    assert error.__cause__ is None
    assert error.__suppress_context__
