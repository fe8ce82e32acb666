"""What a short message has room for: amount and payee."""

import pytest
from hypothesis import given, strategies as st

from watchword.domain.details import (
    AMOUNT_IN_BRIEF,
    CURRENCY_SHOWN_MAX,
    PAYEE_IN_BRIEF,
    VALUE_MAX,
    Details,
    in_brief,
)


@pytest.mark.parametrize(
    ("details", "brief"),
    [
        ((), ()),
        ((("reference", "rent"),), ()),
        ((("amount", "150.00"),), ("150.00",)),
        ((("currency", "GBP"),), ()),
        ((("amount", "150.00"), ("currency", "GBP")), ("150.00 GBP",)),
        ((("payee", "Ada"), ("amount", "1")), ("1", "Ada")),
        ((("payee", "Ada\n@evil.test #1"),), ("Ada⟨U+000A⟩@evil.test #1",)),
        ((("payee", "a" * PAYEE_IN_BRIEF),), ("a" * PAYEE_IN_BRIEF,)),
    ],
)
def test_a_message_names_amount_and_payee_where_they_are_known(
    details: Details, brief: tuple[str, ...]
) -> None:
    assert in_brief(details) == brief


def test_a_long_payee_is_cut_in_the_middle() -> None:
    (payee,) = in_brief((("payee", "A" + "x" * 100 + "Z"),))
    assert len(payee) == PAYEE_IN_BRIEF
    assert (payee[0], payee[-1]) == ("A", "Z")


def test_an_amount_is_worded_as_the_language_has_it() -> None:
    details = (("amount", "1.5"), ("currency", "EUR"))
    assert in_brief(details, lambda amount, currency: f"{currency}{amount}") == ("EUR1.5",)


@pytest.mark.parametrize(
    ("key", "most"), [("amount", AMOUNT_IN_BRIEF), ("payee", PAYEE_IN_BRIEF)], ids=["amount", "payee"]
)
def test_what_has_room_is_written_whole(key: str, most: int) -> None:
    assert in_brief(((key, "1" * (most - 1)),)) == ("1" * (most - 1),)
    assert in_brief(((key, "1" * most),)) == ("1" * most,)
    (cut,) = in_brief(((key, "A" + "1" * (most - 1) + "Z"),))
    assert (len(cut), cut[0], cut[-1]) == (most, "A", "Z")
    assert "…" in cut


def test_a_currency_is_cut_too() -> None:
    whole, longer = "C" * CURRENCY_SHOWN_MAX, "C" * (CURRENCY_SHOWN_MAX + 1)
    assert in_brief((("amount", "1"), ("currency", whole))) == (f"1 {whole}",)
    assert in_brief((("amount", "1"), ("currency", longer))) == ("1 CCCC…CCC",)


@pytest.mark.attack(70)
@pytest.mark.parametrize(
    "filler", ["x", "\u202e", "e\u0301\u0301\u0301\u0301", "\n", "a\u0301\u0301\u0301\u0301\u0301"]
)
def test_escapes_and_marks_count_as_what_they_are_in_a_message(filler: str) -> None:
    value = filler * (VALUE_MAX // len(filler))
    brief = in_brief((("amount", value), ("currency", value), ("payee", value)))
    assert len(brief[0]) <= AMOUNT_IN_BRIEF + 1 + CURRENCY_SHOWN_MAX
    assert len(brief[1]) <= PAYEE_IN_BRIEF
    assert all("…" in part for part in brief)


@given(st.text(max_size=100))
def test_a_cut_goes_through_no_escape(value: str) -> None:
    for part in in_brief((("payee", value),)):
        assert part.count("⟨") == part.count("⟩")
        assert len(part) <= PAYEE_IN_BRIEF
