"""What is approved: bound as it is shown, and shown so that it cannot pass for something else."""

import unicodedata
from hashlib import sha256
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from watchword.domain import details as module
from watchword.domain.binding import NO_BODY, bind
from watchword.domain.details import (
    DETAILS_MAX,
    MARKS_MAX,
    SHOWN_MAX,
    VALUE_MAX,
    WELL_KNOWN,
    Details,
    cut,
    digest,
    fault,
    has_controls,
    is_blank,
    is_key,
    odd,
    shown,
)

PAYMENT: Details = (("amount", "150.00"), ("currency", "GBP"), ("payee", "Charles Babbage"))

texts = st.text(max_size=4)
lists = st.lists(st.tuples(st.sampled_from(["amount", "payee", "a"]), texts), max_size=3).map(tuple)


# --- bound ----------------------------------------------------------------------------------------


def test_without_details_a_request_is_bound_as_ever() -> None:
    body = sha256(b"{}").digest()
    binding = bind("POST", b"/pay", b"", body, details=())
    assert binding == bind("POST", b"/pay", b"", body)
    assert binding.body == body


@given(one=lists, other=lists)
def test_other_details_have_another_digest(one: Details, other: Details) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.attack(3)
@pytest.mark.parametrize(
    "other",
    [
        (),
        PAYMENT[:2],
        PAYMENT[::-1],
        (("amount", "150.01"), *PAYMENT[1:]),
        (("amount", "150.0"), *PAYMENT[1:]),
        (*PAYMENT[:2], ("payee", "Charles Babbage ")),
        (*PAYMENT[:2], ("reference", "Charles Babbage")),
        (*PAYMENT, ("reference", "")),
    ],
)
def test_details_that_changed_make_another_request_of_the_same_body(other: Details) -> None:
    one, two = (bind("POST", b"/pay", b"", NO_BODY, details=each) for each in (PAYMENT, other))
    assert one.difference(two) == "body"
    assert one == bind("POST", b"/pay", b"", NO_BODY, details=PAYMENT)


def test_no_body_can_be_made_to_match_another_one_with_details() -> None:
    content = NO_BODY + digest(PAYMENT)
    made = bind("POST", b"/pay", b"", sha256(content).digest())
    assert made.difference(bind("POST", b"/pay", b"", NO_BODY, details=PAYMENT)) == "body"


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "fits"), [(DETAILS_MAX - 1, True), (DETAILS_MAX, True), (DETAILS_MAX + 1, False)]
)
def test_there_are_sixteen_details_at_the_most(count: int, *, fits: bool) -> None:
    assert DETAILS_MAX == 16
    wrong = fault(tuple((f"key_{number}", "1") for number in range(count)))
    assert (wrong is None) == fits
    if not fits:
        assert wrong == "there are 17 details, and 16 at the most can be shown"


@pytest.mark.parametrize(
    ("length", "fits"), [(VALUE_MAX - 1, True), (VALUE_MAX, True), (VALUE_MAX + 1, False)]
)
def test_a_value_has_1024_characters_at_the_most(length: int, *, fits: bool) -> None:
    assert VALUE_MAX == 1024
    wrong = fault((("payee", "é" * length),))
    assert (wrong is None) == fits
    if not fits:
        assert wrong == "payee has 1025 characters, and 1024 at the most can be shown"


@pytest.mark.parametrize("key", [*WELL_KNOWN, "a", "a0_", "a" * 31, "a" * 32])
def test_a_key_that_is_taken(key: str) -> None:
    assert is_key(key)
    assert fault(((key, "1"),)) is None


@pytest.mark.parametrize("key", ["", "A", "0a", "_a", "a" * 33, "a-b", "a b", "a\n", "é", "<img>", "a.b"])
def test_a_key_that_is_not_taken(key: str) -> None:
    assert not is_key(key)
    assert fault(((key, "1"),)) is not None


def test_a_key_stands_once() -> None:
    assert fault((("amount", "1"), ("payee", "a"), ("amount", "1"))) == "amount stands twice"


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert fault((("payee", "a\ud800"),)) == "payee is no valid Unicode"
    assert len(digest((("payee", "a\ud800"),))) == 32


BLANK = ["", " ", "\t\n", "\u00a0\u2003\u3000", "\u200b\ufeff", "\u202e", "\u3164\u2800\ufe0f", "\u2028"]


@pytest.mark.attack(127)
@pytest.mark.parametrize("value", BLANK)
def test_a_value_that_nobody_could_see_is_none(value: str) -> None:
    assert is_blank(value)
    assert fault((("payee", value),)) == "payee has nothing that could be seen"


@pytest.mark.parametrize("value", [".", " a ", "\u200b1", "⟨", "\u0301", "🎉", "0"])
def test_a_value_with_one_visible_character_is_one(value: str) -> None:
    assert not is_blank(value)
    assert fault((("payee", value),)) is None


# --- shown ----------------------------------------------------------------------------------------

HONEST = [
    "",
    "Charles Babbage",
    "1 234,50",
    "1\u202f234,50",
    "1\u00a0234,50",
    "150.00",
    "GB29 NWBK •••• 6819",
    "Müller & Söhne GmbH",
    "Mu\u0308ller",
    "O’Brien – «Café» №5",
    "Nguyễn Thị Ánh",
    "Nguye\u0302\u0303n",
    "\u041e\u041e\u041e «\u042eлия»",
    "\u041e\u041e\u041e Gazprom",
    "Ελένη Παπαδοπούλου",
    "שלום כהן",
    "شركة الأمل ١٢٣",
    "株式会社トヨタ",
    "ＡＢＣ株式会社",
    "\u03b1-Tocopherol",
    "5 µg",
    "नमस्ते",
    "ภาษาไทย",
    "Zoë 🎉",
]


@pytest.mark.parametrize("value", HONEST)
def test_an_honest_value_is_shown_as_it_is(value: str) -> None:
    assert shown(value) == value
    assert not odd(value)


@pytest.mark.attack(127)
@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("Babbage\u202egnp", "Babbage⟨U+202E⟩gnp"),
        ("\u2066a\u2069", "⟨U+2066⟩a⟨U+2069⟩"),
        ("a\u200fb", "a⟨U+200F⟩b"),
        ("a\u061cb", "a⟨U+061C⟩b"),
        ("Bab\u200bbage", "Bab⟨U+200B⟩bage"),
        ("Bab\u200dbage", "Bab⟨U+200D⟩bage"),
        ("Bab\u2060bage", "Bab⟨U+2060⟩bage"),
        ("\ufeffBabbage", "⟨U+FEFF⟩Babbage"),
        ("Bab\u00adbage", "Bab⟨U+00AD⟩bage"),
        ("a\nAmount: 1", "a⟨U+000A⟩Amount: 1"),
        ("a\r\tb", "a⟨U+000D⟩⟨U+0009⟩b"),
        ("a\0b\x7f\x9b", "a⟨U+0000⟩b⟨U+007F⟩⟨U+009B⟩"),
        ("a\u2028b\u2029", "a⟨U+2028⟩b⟨U+2029⟩"),
        ("a\ue000", "a⟨U+E000⟩"),
        ("a\ufffe", "a⟨U+FFFE⟩"),
        ("a\U000e0041", "a⟨U+E0041⟩"),
        ("a\U0010ffff", "a⟨U+10FFFF⟩"),
        ("a\u3164b\u2800c\u115f", "a⟨U+3164⟩b⟨U+2800⟩c⟨U+115F⟩"),
        ("a\u2003b\u3000", "a⟨U+2003⟩b⟨U+3000⟩"),
        ("a\ufe0e\U000e0100", "a⟨U+FE0E⟩⟨U+E0100⟩"),
        ("a\u034fb", "a⟨U+034F⟩b"),
        ("a\ud800", "a⟨U+D800⟩"),
        # What is written like an escape is none.
        ("⟨U+202E⟩", "⟨U+27E8⟩U+202E⟩"),
    ],
)
def test_what_nobody_would_see_is_made_visible_and_marked(value: str, seen: str) -> None:
    assert shown(value) == seen
    assert odd(value)


@pytest.mark.attack(127)
@pytest.mark.parametrize(
    "value",
    [
        "B\u0430bbage",
        "payee \u0392abbage",
        "\u0391ndreas",
        "\uff22\uff22abbage",
        "\U0001d401\U0001d41a\U0001d41b",
        "1٢3",
        "GB29\u0967",
    ],
)
def test_a_word_that_mixes_what_looks_alike_is_marked(value: str) -> None:
    assert odd(value)
    assert shown(value) == value


@pytest.mark.attack(127)
@pytest.mark.parametrize(
    ("marks", "hidden"), [(MARKS_MAX - 1, 0), (MARKS_MAX, 0), (MARKS_MAX + 1, 1), (100, 96)]
)
def test_marks_do_not_pile_up_over_the_lines_around(marks: int, hidden: int) -> None:
    value = "a" + "\u0301" * marks + "b"
    assert shown(value) == "a" + "\u0301" * min(marks, MARKS_MAX) + "⟨U+0301⟩" * hidden + "b"
    assert odd(value) == bool(hidden)


@pytest.mark.attack(127)
@pytest.mark.parametrize(
    "value",
    ["é" * VALUE_MAX, "é а " * (VALUE_MAX // 4), "a\u0301\u0302\u0301\u0302" * (VALUE_MAX // 5)],  # noqa: RUF001
    ids=["one letter", "two alphabets in turns", "marks"],
)
def test_each_character_is_looked_up_once_however_often_it_stands(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    looked_up: list[str] = []

    def name(character: str, otherwise: str) -> str:
        looked_up.append(character)
        return unicodedata.name(character, otherwise)

    module._looked_at.cache_clear()  # noqa: SLF001 - other tests looked some up.
    monkeypatch.setattr(module, "unicodedata", SimpleNamespace(**{**vars(unicodedata), "name": name}))
    assert not odd(value)
    assert shown(value) == value
    assert sorted(looked_up) == sorted(set(value))


@given(st.text())
def test_whatever_is_shown_has_nothing_left_to_be_made_visible(value: str) -> None:
    for character in shown(value):
        assert shown(character) == character or character == "⟨"


@pytest.mark.parametrize("character", ["\n", "\x7f", "\u202e", "\u2066", "\u2028", "\ue000", "\uffff"])
def test_what_no_honest_name_has_is_found_wherever_it_stands(character: str) -> None:
    for text in (character, f"{character}Bank", f"Ba{character}nk", f"Bank{character}"):
        assert has_controls(text)


@pytest.mark.parametrize("text", ["", "Bank", "بنك", "क्\u200dष", "O’Neil & Søn 🏦"])
def test_an_honest_name_has_no_controls(text: str) -> None:
    assert not has_controls(text)


# --- cut ------------------------------------------------------------------------------------------


@pytest.mark.attack(127)
def test_what_is_too_long_keeps_its_beginning_and_its_end() -> None:
    value = "Ada " * 1000 + "Lovelace"
    assert cut(value) == value[:60] + "…" + value[-59:]
    assert len(cut(value)) == SHOWN_MAX


@pytest.mark.parametrize(
    ("length", "whole"), [(SHOWN_MAX - 1, True), (SHOWN_MAX, True), (SHOWN_MAX + 1, False)]
)
def test_nothing_is_cut_that_can_be_shown(length: int, *, whole: bool) -> None:
    value = "a" * length
    assert (cut(value) == value) == whole


def test_a_cut_goes_through_no_letter() -> None:
    assert cut("e\u0301" * 11, 5) == "e\u0301" * 2 + "…" + "e\u0301" * 2
    assert cut("e\u0301" * 5, 5) == "e\u0301" * 5


@pytest.mark.attack(127)
def test_a_cut_goes_through_no_escape() -> None:
    assert cut(shown("\u202e" * 5000), 5) == "⟨U+202E⟩" * 2 + "…" + "⟨U+202E⟩" * 2
    assert cut(shown("\u202e" * 5), 5) == "⟨U+202E⟩" * 5


@given(value=st.text(max_size=40), most=st.integers(3, 20))
def test_a_cut_value_begins_and_ends_as_the_whole_one(value: str, most: int) -> None:
    result = cut(value, most)
    head, mark, tail = result.partition("…") if result != value else (value, "", "")
    assert value.startswith(head)
    assert not mark or value.endswith(tail)
