"""
JSON that means one thing only.

Parsers differ on what JSON leaves open: which of two equal keys wins, what NaN is, how large a
number may be, what half a surrogate pair stands for. Where somebody approves what he sees, a
text that two programs read differently is an attack (docs/attacks.md: 8, 85, 86, 88 and 89),
so all of it is malformed here.
"""

import json
import re
from typing import Any, NoReturn

DEPTH_MAX = 32
INTEGER_MAX = 2**53
_INTEGER_DIGITS_MAX = 16

# A string that is never closed ends with the text: no start of one may be in vain, or the search
# would begin anew at each quotation mark and take the square of the length.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
# White space, and the marks and zeros of other encodings that parsers find out by themselves.
_BEFORE_JSON = b" \t\r\n\0\xef\xbb\xbf\xfe\xff"


class MalformedJsonError(ValueError):
    """The text is not JSON, or not JSON that means one thing only; says what is wrong."""


class Number(str):
    """A number as it is written: ``150.0`` and ``150.00`` are one number, and two texts to read."""

    __slots__ = ()


def loads(text: bytes, *, as_written: bool = False) -> Any:  # noqa: ANN401 - JSON is known once converted.
    """
    Parse *text*.

    Args:
        as_written: Return numbers as ``Number``.

    Raises:
        MalformedJsonError: It is not UTF-8, not JSON, nested deeper than 32, has a key twice, NaN or
            an infinity, an integer beyond 2^53, or half a surrogate pair.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        raise MalformedJsonError(f"nested deeper than {DEPTH_MAX}")
    try:
        value = (_AS_WRITTEN if as_written else _DECODER).decode(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise MalformedJsonError("not valid Unicode") from error
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"not JSON: {error.msg} at character {error.pos}") from error
    return value


def is_ambiguous(text: bytes) -> bool:
    """
    Tell whether *text*, which is not called JSON, is taken for JSON by some and is malformed here.

    Frameworks parse what they are told to parse, whatever its media type says.
    """
    if text.lstrip(_BEFORE_JSON)[:1] not in {b"{", b"["}:
        return False
    try:
        loads(text)
    except MalformedJsonError:
        try:
            json.loads(text)
        except (json.JSONDecodeError, UnicodeDecodeError):
            return False
        except (RecursionError, ValueError):
            return True  # Too deep or too many digits for this parser; another one may take it.
        return True
    return False


def _depth(text: bytes) -> int:
    deepest = depth = 0
    for bracket in _BRACKETS.finditer(_STRING.sub(b"", text)):
        depth += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > DEPTH_MAX:
            break  # As deep as it need be known.
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedJsonError("a key stands twice in one object")
    return members


def _integer(digits: str) -> int:
    # The length first: to convert 5,000 digits is itself an attack.
    if len(digits.lstrip("-")) > _INTEGER_DIGITS_MAX or abs(int(digits)) > INTEGER_MAX:
        raise MalformedJsonError("an integer beyond 2^53")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise MalformedJsonError("a number too large for any program")
    return number


def _integer_as_written(digits: str) -> Number:
    _integer(digits)
    return Number(digits)


def _float_as_written(digits: str) -> Number:
    _float(digits)
    return Number(digits)


def _constant(name: str) -> NoReturn:
    raise MalformedJsonError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
_AS_WRITTEN = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer_as_written,
    parse_float=_float_as_written,
    parse_constant=_constant,
)
