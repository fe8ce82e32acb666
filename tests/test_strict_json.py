"""JSON that means one thing only (attacks 8, 85, 86, 88, 89)."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from watchword.strict_json import MalformedJsonError, Number, is_ambiguous, loads

BAD: dict[str, bytes] = {
    "nothing": b"",
    "space": b" \n\t ",
    "100,000 open brackets": b"[" * 100_000,
    "100,000 open braces": b'{"a":' * 100_000,
    "an object never closed": b'{"a":1',
    "closed too often": b"{}}",
    "two values": b"{} {}",
    "a comma too many": b'{"a":1,}',
    "a comment": b"{} // no",
    "single quotes": b"{'a':1}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":-Infinity}',
    "1e999": b'{"a":1e999}',
    "-1e999": b'{"a":-1e999}',
    "5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "minus 5,000 digits": b'{"a":-' + b"9" * 5000 + b"}",
    "2^53 + 1": b'{"a":9007199254740993}',
    "-2^53 - 1": b'{"a":-9007199254740993}',
    "2^70": b'{"a":1180591620717411303424}',
    "a leading zero": b'{"a":01}',
    "hexadecimal": b'{"a":0x10}',
    "a plus sign": b'{"a":+1}',
    "a bare point": b'{"a":.5}',
    "a key twice": b'{"amount":10,"amount":9999}',
    "a key twice, deep": b'[{"x":{"a":1,"b":2,"a":1}}]',
    "a key twice, once escaped": b'{"a":1,"\\u0061":2}',
    "a high surrogate": b'{"a":"\\ud800"}',
    "a low surrogate": b'{"a":"\\udc00"}',
    "a pair the wrong way round": b'{"a":"\\udc00\\ud800"}',
    "a surrogate in a key": b'{"\\ud800":1}',
    "an encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "overlong": b'{"a":"\xc0\xaf"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a control character": b'{"a":"\x01"}',
    "a newline in a string": b'{"a":"\n"}',
    "NUL": b'{"a":1}\x00',
    "an unknown escape": b'{"a":"\\x41"}',
    "a string cut off": b'{"a":"',
    "a string cut off in an escape": b'{"a":"\\',
}


@pytest.mark.attack(8)
@pytest.mark.attack(85)
@pytest.mark.attack(86)
@pytest.mark.attack(88)
@pytest.mark.parametrize("name", BAD)
def test_what_programs_read_differently_is_malformed(name: str) -> None:
    with pytest.raises(MalformedJsonError):
        loads(BAD[name])
    with pytest.raises(MalformedJsonError):
        loads(BAD[name], as_written=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":9007199254740992}', {"a": 2**53}),
        (b'{"a":-9007199254740992}', {"a": -(2**53)}),
        (b'{"a":0.0,"b":-0,"c":1.5e3}', {"a": 0.0, "b": 0, "c": 1500.0}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"ä":"ß"}'.encode(), {"ä": "ß"}),
        (b'[{"a":1},{"a":1}]', [{"a": 1}, {"a": 1}]),
        (b' "x" ', "x"),
        (b'{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": "[" * 40}),
        (b'{"a":"\\"' + b"[" * 40 + b'"}', {"a": '"' + "[" * 40}),
        (b'["\\\\",' + b"[]," * 40 + b"1]", ["\\", *([[]] * 40), 1]),
    ],
)
def test_what_means_one_thing_is_read(text: bytes, value: object) -> None:
    assert loads(text) == value


def test_a_number_can_be_read_as_it_is_written() -> None:
    text = b'{"a":150.00,"b":-0,"c":[1e2,"150.00",true,null]}'
    read = loads(text, as_written=True)
    assert read == {"a": "150.00", "b": "-0", "c": ["1e2", "150.00", True, None]}
    assert [type(value) for value in (read["a"], read["b"], *read["c"][:2])] == [Number, Number, Number, str]


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_goes_32_deep_and_no_deeper(pair: tuple[bytes, bytes]) -> None:
    opening, closing = pair
    loads(opening * 32 + b"1" + closing * 32)
    with pytest.raises(MalformedJsonError, match="deeper than 32"):
        loads(opening * 33 + b"1" + closing * 33)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 33 + b'\\"' * 500_000,
        b"[" * 33 + b'"' + b'\\"' * 500_000,
        b"[" * 33 + b'"' + b'\\"' * 500_000 + b"\\",
        b"[" * 33 + b"\\" * 1_000_000,
        b"[" * 33 + b'"' * 1_000_001,
        b'["' + b"\\u0061" * 160_000 + b'"]',
        b"[" + b'{"a":1},' * 120_000 + b"1]",
        b"[" + b"1," * 500_000 + b"1]",
        b"{" + b",".join(b'"%d":0' % number for number in range(100_000)) + b"}",
        b'{"a":0.' + b"1" * 1_000_000 + b"}",
    ],
    ids=range(10),
)
@pytest.mark.attack(85)
def test_a_mebibyte_of_anything_is_read_in_no_time(text: bytes) -> None:
    begun = time.process_time()
    with suppress(MalformedJsonError):
        loads(text)
    assert time.process_time() - begun < 2.0


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(plain, st.booleans())
def test_it_agrees_with_the_standard_library_where_there_is_one_meaning(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert loads(text.encode()) == json.loads(text)


@given(st.binary(max_size=64))
def test_bytes_are_read_or_malformed_and_nothing_else(text: bytes) -> None:
    with suppress(MalformedJsonError):
        loads(text)


@pytest.mark.attack(8)
@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        (b'{"a":1,"a":2}', True),
        (b' \r\n\t[{"a":1,"a":2}]', True),
        (b'{"a":NaN}', True),
        (b'\xef\xbb\xbf{"a":1}', True),
        ('{"a":1}'.encode("utf-16"), True),
        ('{"a":1}'.encode("utf-16-be"), True),
        ('{"a":1}'.encode("utf-32-le"), True),
        (b"[" * 100_000, True),
        (b'{"a":' + b"9" * 5000 + b"}", True),
        (b'{"a":9007199254740993}', True),
        (b'{"a":1}', False),
        (b"[see below]", False),
        (b"{;};", False),
        (b"a=[1,1]", False),
        (b"[\xff]", False),
        (b"", False),
    ],
    ids=range(16),
)
def test_text_is_ambiguous_json_where_some_parser_takes_it(text: bytes, ambiguous: bool) -> None:
    assert is_ambiguous(text) is ambiguous
