"""How what is approved is worded on the page: an amount with its currency, and what looks odd marked."""

import pytest

from watchword.domain.details import CURRENCY_SHOWN_MAX, SHOWN_MAX, VALUE_MAX, Details
from watchword.page.language import Language
from watchword.page.screens import details_in
from watchword.page.view import Detail

ENGLISH = Language.by_tag("en")


def amount_of(details: Details) -> Detail:
    (only,) = details_in(ENGLISH, details)
    return only


@pytest.mark.parametrize(
    "details",
    [(("amount", "1250.5"), ("currency", "EUR")), (("currency", "EUR"), ("amount", "1250.5"))],
)
def test_an_amount_stands_with_its_currency(details: Details) -> None:
    assert amount_of(details) == Detail("Amount", "1,250.50\u00a0EUR", strong=True)


@pytest.mark.attack(127)
@pytest.mark.parametrize(
    ("currency", "seen"),
    [
        ("G\u0412P", "G\u0412P"),
        ("GBP\u202e", "GBP⟨U+202E⟩"),
        ("C" * (CURRENCY_SHOWN_MAX + 1), "CCCC…CCC"),
        ("C" * VALUE_MAX, "CCCC…CCC"),
    ],
)
def test_an_odd_currency_is_marked_beside_its_amount(currency: str, seen: str) -> None:
    shown = amount_of((("amount", "1"), ("currency", currency)))
    assert (shown.value, shown.odd) == (f"1\u00a0{seen}", True)


def test_a_currency_alone_stands_for_itself() -> None:
    assert amount_of((("currency", "GBP"),)) == Detail("Currency", "GBP")


@pytest.mark.attack(127)
def test_the_longest_value_is_cut_in_the_middle_and_can_be_seen_whole() -> None:
    value = "A" + "x" * (VALUE_MAX - 2) + "Z"
    shown = amount_of((("payee", value),))
    assert (len(shown.value), shown.value[0], shown.value[-1], shown.full) == (SHOWN_MAX, "A", "Z", value)
