import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

import pytest
from babel.messages.catalog import Message
from hypothesis import assume, given, strategies as st

from tests.page.catalogues import TRANSLATED, catalogue, texts
from watchword.domain.instant import Instant
from watchword.page.language import ACCEPT_MAX, SOURCE, TAGS, Language, iso, message, negotiate

MINUTE = 60
PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]")


def _forms(text: str | Sequence[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def _entries(tag: str) -> Iterator[Message]:
    return (entry for entry in catalogue(tag) if entry.id)


# --- catalogues -------------------------------------------------------------------------------


def test_texts_are_found_in_templates_and_in_code() -> None:
    found = {entry.id for entry in texts() if entry.id}
    assert "Cancel" in found
    assert ("You have %(num)d try left.", "You have %(num)d tries left.") in found
    assert "Phone call" in found


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_catalogue_has_every_text_and_no_other(tag: str) -> None:
    wanted = {entry.id for entry in texts() if entry.id}
    there = {entry.id for entry in _entries(tag)}
    assert there == wanted, "python -m tests.page.catalogues brings them up to date"
    assert not catalogue(tag).obsolete


@pytest.mark.parametrize("tag", TRANSLATED)
def test_every_text_of_a_catalogue_is_translated_for_certain(tag: str) -> None:
    plurals = catalogue(tag).num_plurals
    for entry in _entries(tag):
        assert not entry.fuzzy, entry.id
        forms = _forms(entry.string)
        assert all(form.strip() for form in forms), entry.id
        assert len(forms) == (plurals if entry.pluralizable else 1), entry.id


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_translation_has_the_placeholders_of_its_text(tag: str) -> None:
    for entry in _entries(tag):
        for form in _forms(entry.string):
            wanted = sorted(PLACEHOLDER.findall(_forms(entry.id)[-1]))
            assert sorted(PLACEHOLDER.findall(form)) == wanted, form
            assert "%" not in PLACEHOLDER.sub("", form), form
            # It is text, and is escaped where it is shown.
            assert not set("<>&") & set(form), form


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_language_says_what_its_catalogue_does(tag: str) -> None:
    translated = catalogue(tag).get("Cancel")
    assert translated is not None
    assert Language.by_tag(tag).gettext(message("Cancel")) == translated.string != "Cancel"


def test_a_text_that_nobody_translated_stays_as_it_is() -> None:
    assert Language.by_tag("de").gettext("An operator's own text") == "An operator's own text"


def test_arabic_counts_in_its_own_plurals() -> None:
    arabic = Language.by_tag("ar")
    said = {
        arabic.ngettext("You have %(num)d try left.", "You have %(num)d tries left.", count)
        for count in (0, 1, 2, 3, 11)
    }
    assert len(said) == 5


# --- which language ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "accept", "tag"),
    [
        (None, None, "en"),
        (None, "", "en"),
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "EN;q=0.5, fr-CA;q=0.7", "fr"),
        (None, "en;q=0.5,ar;q=0.5", "en"),
        (None, "pt-BR, es;q=0.3", "es"),
        (None, "zh-Hant-TW,ja", "en"),
        (None, "de;q=0,fr;q=0.1", "fr"),
        (None, "*", "en"),
        (None, "de ; q=0.4 ,\tes", "es"),
        (None, "de;q=5,fr;q=1.0", "fr"),
        (None, "de;q=abc,fr;q=", "en"),
        ("de", "fr", "de"),
        ("DE-de", "fr", "de"),
        ("ar_EG", None, "ar"),
        ("xx", "fr", "fr"),
        ("", "fr", "fr"),
        ("../../etc/passwd", "fr", "fr"),
        ("de" + "x" * ACCEPT_MAX, "fr", "fr"),
        ("dé", "fr", "fr"),
    ],
)
def test_a_language_is_negotiated(wanted: str | None, accept: str | None, tag: str) -> None:
    assert negotiate(wanted, accept).tag == tag


def test_a_header_without_end_is_read_to_a_bound() -> None:
    assert negotiate(None, "xx," * ACCEPT_MAX + "de").tag == SOURCE
    assert negotiate(None, "a-" * 100_000).tag == SOURCE


@given(wanted=st.none() | st.text(), accept=st.none() | st.text(alphabet="deafrsn-;q=01.,* \t") | st.text())
def test_whatever_a_browser_sends_there_is_a_language(wanted: str | None, accept: str | None) -> None:
    assert negotiate(wanted, accept).tag in TAGS


@pytest.mark.parametrize(
    ("tag", "found"), [("de", "de"), ("fr-CA", "fr"), ("tlh", "en"), ("", "en"), ("💥", "en")]
)
def test_a_tag_names_a_language_or_the_source(tag: str, found: str) -> None:
    assert Language.by_tag(tag) is Language.by_tag(found)
    assert Language.by_tag(tag).tag == found


def test_only_arabic_is_written_from_the_right() -> None:
    assert {tag: Language.by_tag(tag).dir for tag in TAGS if Language.by_tag(tag).dir == "rtl"} == {
        "ar": "rtl"
    }


# --- amounts, times ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "amount", "currency", "shown"),
    [
        ("en", "1250", "EUR", "1,250.00 EUR"),
        ("de", "1250", "EUR", "1.250,00 EUR"),
        ("es", "1250.5", "EUR", "1.250,50 EUR"),
        ("fr", "1250.5", "EUR", "1\u202f250,50 EUR"),
        ("ar", "1250.5", "EUR", "1,250.50 EUR"),
        ("en", "150.0", "GBP", "150.00 GBP"),
        ("en", "0.0", "GBP", "0.00 GBP"),
        ("en", "150.005", "GBP", "150.005 GBP"),
        ("en", "0.1250", "BHD", "0.125 BHD"),
        ("de", "1.2300", "EUR", "1,23 EUR"),
        ("en", "1000.0", "JPY", "1,000 JPY"),
        ("en", "1000.5", "JPY", "1,000.5 JPY"),
        ("en", "12345678901234567890.1234567890123", "USD", "12,345,678,901,234,567,890.1234567890123 USD"),
        ("en", "007.5", "USD", "7.50 USD"),
        ("en", "1", "XQX", "1.00 XQX"),
    ],
)  # fmt: skip
def test_an_amount_is_written_exactly(tag: str, amount: str, currency: str, shown: str) -> None:
    assert Language.by_tag(tag).money(amount, currency) == shown.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("-5", "EUR"),
        ("1e3", "EUR"),
        ("1,5", "EUR"),
        ("NaN", "EUR"),
        ("٣", "EUR"),
        ("1.", "EUR"),
        ("", "EUR"),
        ("1" * 37, "EUR"),
        ("5", "eur"),
        ("5", "€"),
        ("5\n", "EUR"),
    ],
)
def test_an_amount_that_is_odd_is_shown_as_it_is(amount: str, currency: str) -> None:
    shown = Language.by_tag("de").money(amount, currency)
    assert shown == f"{amount}\u00a0{currency}".strip("\u00a0")


def test_an_amount_without_a_currency_stands_alone() -> None:
    assert Language.by_tag("en").money("5", "") == "5"


@given(amount=st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=6))
def test_no_digit_of_an_amount_is_lost(amount: Decimal) -> None:
    text = format(amount, "f")
    assume(len(text.partition(".")[0]) <= 36)
    number = Language.by_tag("de").money(text, "EUR").removesuffix("\u00a0EUR")
    assert Decimal(number.replace(".", "").replace(",", ".")) == amount


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (0.2, "1 second"),
        (59, "59 seconds"),
        (MINUTE, "1 minute"),
        (MINUTE + 1, "2 minutes"),
        (15 * MINUTE, "15 minutes"),
        (90 * MINUTE, "90 minutes"),
        (120 * MINUTE, "2 hours"),
        (47 * 60 * MINUTE, "47 hours"),
        (48 * 60 * MINUTE, "2 days"),
    ],
)
def test_a_duration_is_never_written_too_short(seconds: float, shown: str) -> None:
    assert Language.by_tag("en").duration(seconds) == shown


@pytest.mark.parametrize(
    ("tag", "shown"),
    [("de", "15 Minuten"), ("es", "15 minutos"), ("fr", "15 minutes"), ("ar", "15 دقيقة")],
)
def test_a_duration_is_written_in_each_language(tag: str, shown: str) -> None:
    assert Language.by_tag(tag).duration(15 * MINUTE) == shown


def test_an_instant_is_a_time_of_day_and_a_date_for_programs() -> None:
    instant = Instant(1_767_225_600_000 + 14 * 3_600_000 + 5 * 60_000 + 999)
    assert Language.by_tag("en").clock(instant) == "14:05 UTC"
    assert iso(instant) == "2026-01-01T14:05:00Z"
