"""
The languages of the page: which one a browser asks for, its texts, and how it writes amounts and times.

Texts are plain English in templates and code, and in ``locale/<tag>.po`` in the others. Catalogues are
read where they lie, so that nothing has to be built; a test holds them complete.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO, StringIO
from typing import Literal

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_currency_precision, get_decimal_symbol, get_group_symbol
from babel.units import format_unit

from watchword.domain.instant import Instant

SOURCE = "en"
"""The language that templates and code are written in; spoken where nothing else is asked for."""
TAGS = (SOURCE, "de", "es", "fr", "ar")

ACCEPT_MAX = 1024
"""Characters of ``Accept-Language`` that are read; browsers send a tenth of that."""
_RANGES_MAX = 32
_RANGE = re.compile(r"([A-Za-z]{2,8})(?:-[A-Za-z0-9]{1,8}){0,8}(?:\s*;\s*q=([01](?:\.[0-9]{1,3})?))?")
_TAG = re.compile(r"([A-Za-z]{2,8})(?:[-_][A-Za-z0-9]{1,8}){0,8}")

_AMOUNT = re.compile(r"[0-9]{1,36}(?:\.[0-9]{1,36})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def message(text: str) -> str:
    """Mark *text* for the catalogues; it is translated where it is shown."""
    return text


@dataclass(frozen=True, slots=True)
class Language:
    """
    One language; made by ``negotiate`` and ``Language.by_tag``.

    Attributes:
        tag: ``de``, as in ``<html lang>``.
        dir: Which way it is written.
    """

    tag: str
    dir: Literal["ltr", "rtl"]
    _translations: NullTranslations = field(repr=False, compare=False)

    @staticmethod
    def by_tag(tag: str) -> "Language":
        """Return the language of a tag such as ``de`` or ``de-AT``; English where there is no such."""
        asked = _TAG.fullmatch(tag[:ACCEPT_MAX])
        primary = asked[1].lower() if asked else SOURCE
        return _language(primary if primary in TAGS else SOURCE)

    def gettext(self, text: str) -> str:
        """Translate *text*."""
        return self._translations.gettext(text)

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """Translate a text that counts something."""
        return self._translations.ngettext(singular, plural, count)

    def money(self, amount: str, currency: str) -> str:
        """
        Write an amount: exactly what is given, never rounded, with the currency's code.

        A code is the same for everybody; ``$`` is a different currency in each country. Zeros at the
        end are dropped beyond the digits that the currency has: in half the languages ``1.230`` is
        more than a thousand. An amount that is no plain number is shown as it is.
        """
        if not _AMOUNT.fullmatch(amount) or not _CURRENCY.fullmatch(currency):
            return f"{amount}{_NO_BREAK_SPACE}{currency}".strip(_NO_BREAK_SPACE)
        whole, _, fraction = amount.partition(".")
        fraction = fraction.rstrip("0").ljust(get_currency_precision(currency), "0")
        # Text to text: decimal arithmetic rounds to its context's precision.
        number = f"{int(whole):,}".replace(",", get_group_symbol(self.tag))
        point = get_decimal_symbol(self.tag) if fraction else ""
        return f"{number}{point}{fraction}{_NO_BREAK_SPACE}{currency}"

    def duration(self, seconds: float) -> str:
        """Write how long something takes, rounded up: ``15 minutes``."""
        for unit, size in _UNITS:
            # Two of a unit are fine; «90 minutes» says more than «2 hours».
            if seconds >= 2 * size or (unit == "minute" and seconds >= size):
                return self._unit(-int(-seconds // size), unit)
        return self._unit(max(0, -int(-seconds // 1)), "second")

    def clock(self, instant: Instant) -> str:
        """Write a time of day, ``14:05 UTC``; the page's script puts the person's own in its place."""
        return f"{_moment(instant):%H:%M} UTC"

    def _unit(self, count: int, unit: str) -> str:
        return format_unit(count, f"duration-{unit}", locale=self.tag)


def negotiate(wanted: str | None, accept: str | None) -> Language:
    """
    Find the language for a browser; whatever it sends, there is one.

    Args:
        wanted: The query's ``lang``; counts where we speak it.
        accept: The ``Accept-Language`` header.
    """
    asked = _TAG.fullmatch(wanted) if wanted and len(wanted) <= ACCEPT_MAX else None
    if asked and asked[1].lower() in TAGS:
        return _language(asked[1].lower())
    # A sort keeps the order of equals: the browser's.
    ranked = sorted(_accepted(accept or ""), key=lambda entry: entry[1], reverse=True)
    return _language(ranked[0][0] if ranked else SOURCE)


def iso(instant: Instant) -> str:
    """Write an instant for ``<time datetime>``."""
    return _moment(instant).isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(instant: Instant) -> datetime:
    return datetime.fromtimestamp(instant // 1000, UTC)


def _accepted(header: str) -> Iterator[tuple[str, float]]:
    """Read RFC 9110 section 12.5.4, as far as we speak what it lists."""
    for entry in header[:ACCEPT_MAX].split(",")[:_RANGES_MAX]:
        match = _RANGE.fullmatch(entry.strip())
        if match is None:
            continue
        tag, quality = match[1].lower(), float(match[2] or 1)
        if tag in TAGS and quality > 0:
            yield tag, min(quality, 1)


@cache
def _language(tag: str) -> Language:
    direction: Literal["ltr", "rtl"] = "rtl" if Locale.parse(tag).text_direction == "rtl" else "ltr"
    return Language(tag, direction, _translations(tag))


def _translations(tag: str) -> NullTranslations:
    if tag == SOURCE:
        return NullTranslations()
    text = files("watchword.page").joinpath("locale", f"{tag}.po").read_text(encoding="utf-8")
    compiled = BytesIO()
    write_mo(compiled, read_po(StringIO(text), locale=tag))
    compiled.seek(0)
    return GNUTranslations(compiled)
