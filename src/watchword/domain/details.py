"""
What is being approved, as the person is shown it: amount, payee, and what else matters.

RTS art. 5(1)(a) and (b): the payer is told amount and payee, and the authentication code is specific
to them. So details are part of what a token is bound to, and only what the server holds is shown.
A value is text of anybody's making. Where it is shown, characters that nobody sees are made
visible, and what could look like another text is marked (attack 127).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from typing import NamedTuple

Details = tuple[tuple[str, str], ...]
"""Keys and values, in the order in which they are shown; each key once."""

AMOUNT, CURRENCY, PAYEE, ACCOUNT, REFERENCE = "amount", "currency", "payee", "account", "reference"
WELL_KNOWN = (AMOUNT, CURRENCY, PAYEE, ACCOUNT, REFERENCE)
"""The keys that have a label in every language; any other stands for itself."""

DETAILS_MAX = 16
VALUE_MAX = 1_024
SHOWN_MAX = 120
"""Characters of a value that are shown at once."""

CURRENCY_SHOWN_MAX = 8
"""Characters of a currency beside its amount; codes have three."""

AMOUNT_IN_BRIEF = 24
PAYEE_IN_BRIEF = 40
"""Characters of them in a message to a phone, whose words are ours and not a caller's (attack 70)."""

MARKS_MAX = 4
"""Combining marks on one letter; languages need three, and more of them cover the lines around."""

_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
_WORD = re.compile(r"\w+")
# What is cut is a whole escape, or a letter.
_UNIT = re.compile(r"⟨U\+[0-9A-F]{4,6}⟩|.", re.DOTALL)
_CUT = "…"

# Seen by nobody, or as an end of line: controls, formats, private, unassigned, half surrogate pairs.
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Letters and marks that are drawn as nothing, or as a space, and spaces that are not one: but for
# the two that stand within numbers.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    chr(selector) for selectors in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for selector in selectors
)
_SPACES = frozenset("\u0020\u00a0\u202f")
# Our own escapes begin with it: one in the text would pass for an escape.
_BRACKET = "⟨"
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Scripts whose letters pass for those of another; by the first word of a character's name.
_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE", "FULLWIDTH"})
_NEVER = "MATHEMATICAL"  # Whole alphabets of letters for formulas, that read as Latin.


def is_key(text: str) -> bool:
    """Tell whether *text* can be the key of a detail."""
    return _KEY.fullmatch(text) is not None


def fault(details: Details) -> str | None:
    """Say what is wrong with *details*; None where nothing is."""
    if len(details) > DETAILS_MAX:
        return f"there are {len(details)} details, and {DETAILS_MAX} at the most can be shown"
    seen: set[str] = set()
    for key, value in details:
        if not is_key(key):
            return f"the key {key[:40]!r} is not of the form {_KEY.pattern}"
        if key in seen:
            return f"{key} stands twice"
        seen.add(key)
        if len(value) > VALUE_MAX:
            return f"{key} has {len(value)} characters, and {VALUE_MAX} at the most can be shown"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return f"{key} is no valid Unicode"
        if is_blank(value):
            return f"{key} has nothing that could be seen"
    return None


def digest(details: Details) -> bytes:
    """Digest *details*: what they say, which says what, and in which order it is shown."""
    hashed = sha256(len(details).to_bytes(4, "big"))
    for key, value in details:
        for text in (key, value):
            # Lengths keep «ab» and «c» apart from «a» and «bc».
            encoded = text.encode("utf-8", "surrogatepass")
            hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return hashed.digest()


def has_controls(text: str) -> bool:
    """
    Tell whether *text*, which an operator wrote, has characters that no honest name has.

    Controls, ends of lines, what turns the order of reading, and what is not assigned; joiners are letters
    in some languages.
    """
    return any(
        character in _BIDI_CONTROLS or unicodedata.category(character) in {"Cc", "Cn", "Co", "Cs", "Zl", "Zp"}
        for character in text
    )


# --- to be shown ----------------------------------------------------------------------------------


def is_blank(value: str) -> bool:
    """Tell whether there is nothing in *value* that a person could see."""
    return all(_looked_at(character).blank for character in set(value))


def shown(value: str) -> str:
    """Make visible what nobody would see: a reversed reading order becomes ``⟨U+202E⟩``."""
    if value.isascii() and value.isprintable():
        return value
    signs = {character: _looked_at(character) for character in set(value)}
    written = {
        character: _escaped(character) if sign.unseen else character for character, sign in signs.items()
    }
    if not any(sign.mark for sign in signs.values()):
        return "".join([written[character] for character in value])
    parts: list[str] = []
    marks = 0
    for character in value:
        marks = marks + 1 if signs[character].mark else 0
        parts.append(_escaped(character) if marks > MARKS_MAX else written[character])
    return "".join(parts)


def odd(value: str) -> bool:
    """
    Tell whether *value* may look like another text.

    It has characters that nobody sees or that change the order of reading, or one word of it mixes
    alphabets or digits that look alike. A word that is wholly of one alphabet is not odd, whatever it
    resembles: that is how most of the world is called.
    """
    if value.isascii() and value.isprintable():
        return False
    signs = {character: _looked_at(character) for character in set(value)}
    if any(sign.unseen for sign in signs.values()):
        return True
    if any(sign.mark for sign in signs.values()) and shown(value) != value:
        return True
    # Where all of it is of one alphabet, each word is.
    return _is_mixed(value) and any(map(_is_mixed, set(_WORD.findall(value))))


def cut(value: str, most: int = SHOWN_MAX) -> str:
    """
    Cut the middle out of what is longer than *most* letters; beginning and end are what people compare.

    Give it what ``shown`` returned: an escape is one letter, and marks stay with their letter.
    """
    if len(value) <= most:
        return value
    letters = _letters(value)
    if len(letters) <= most:
        return value
    tail = (most - 1) // 2
    head = most - 1 - tail
    return "".join((*letters[:head], _CUT, *letters[len(letters) - tail :]))


def in_brief(details: Details, amount: Callable[[str, str], str] = "{} {}".format) -> tuple[str, ...]:
    """
    Return amount and payee, as far as they are known: what a short message has room for.

    RTS art. 5(1)(a): the payer is made aware of both. Of their characters no more is written than
    ``AMOUNT_IN_BRIEF``, ``CURRENCY_SHOWN_MAX`` and ``PAYEE_IN_BRIEF``, escapes and marks counted too:
    whoever makes the call words a value, and shall not word the message.

    Args:
        amount: Words an amount and its currency.
    """
    known = dict(details)
    worded = _fitted(known.get(AMOUNT, ""), AMOUNT_IN_BRIEF)
    currency = _fitted(known.get(CURRENCY, ""), CURRENCY_SHOWN_MAX)
    if worded and currency:
        worded = amount(worded, currency)
    return tuple(part for part in (worded, _fitted(known.get(PAYEE, ""), PAYEE_IN_BRIEF)) if part)


def _fitted(value: str, most: int) -> str:
    """Show *value* in *most* characters; where it has more, the middle is cut out between letters."""
    text = shown(value)
    if len(text) <= most:
        return text
    letters = _letters(text)
    tail = (most - len(_CUT)) // 2
    end = _as_many(letters[::-1], tail)
    begin = _as_many(letters, most - len(_CUT) - tail)
    return "".join((*begin, _CUT, *end[::-1]))


def _as_many(letters: list[str], room: int) -> list[str]:
    ends = accumulate(map(len, letters))
    return [letter for letter, end in zip(letters, ends, strict=True) if end <= room]


def _letters(value: str) -> list[str]:
    """Part what ``shown`` returned: an escape is one letter, and marks stay with theirs."""
    letters: list[str] = []
    for unit in _UNIT.findall(value):
        if letters and _looked_at(unit[0]).joins:
            letters[-1] += unit
        else:
            letters.append(unit)
    return letters


class _Sign(NamedTuple):
    """
    What there is to know of one character.

    Attributes:
        unseen: It must be made visible.
        blank: It is drawn as nothing, or as a space.
        mark: It is drawn over another.
        joins: It stays with the one before.
        script: The alphabet, where it is one that passes for another; empty otherwise.
        zero: Where its digits begin, if it is one.
    """

    unseen: bool
    blank: bool
    mark: bool
    joins: bool
    script: str
    zero: int | None


# Bounded, since anybody may send any character; many times what a language writes with.
@lru_cache(maxsize=16_384)
def _looked_at(character: str) -> _Sign:
    category = unicodedata.category(character)
    nothing = category in _UNSEEN or character in _BLANK
    digit = unicodedata.decimal(character, None)
    script = unicodedata.name(character, "").partition(" ")[0]
    return _Sign(
        unseen=nothing or character == _BRACKET or (category == "Zs" and character not in _SPACES),
        blank=nothing or category == "Zs",
        mark=category in {"Mn", "Me"},
        joins=category in {"Mn", "Me", "Mc"},
        script=script if script == _NEVER or (digit is None and script in _SCRIPTS) else "",
        zero=None if digit is None else ord(character) - digit,
    )


def _escaped(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def _is_mixed(text: str) -> bool:
    signs = [_looked_at(character) for character in set(text)]
    scripts = {sign.script for sign in signs if sign.script}
    zeros = {sign.zero for sign in signs if sign.zero is not None}
    return _NEVER in scripts or len(scripts) > 1 or len(zeros) > 1
