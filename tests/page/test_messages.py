"""What is written to a phone is ours: what a caller words in it is short, and stays what it is."""

import pytest

from tests.factories import make_token
from watchword.config import TITLE_MAX
from watchword.domain.details import VALUE_MAX, Details
from watchword.domain.method import Method
from watchword.page.language import TAGS, Language
from watchword.page.messages import writer

WORDED_MAX = 84
"""Amount with its currency and payee, each with a comma and a space before it."""


def written(details: Details, *, tag: str = "en", title: str = "Pay") -> str:
    write = writer(
        Method.SMS,
        title=title,
        details=details,
        hosts=("sca.example.com",),
        language=Language.by_tag(tag),
    )
    return write("123456", make_token())


def test_a_message_says_what_the_code_is_for_and_where_it_may_be_typed() -> None:
    details = (("amount", "1250.5"), ("currency", "EUR"), ("payee", "Grace Hopper"))
    assert written(details) == (
        "123456 is your code. It is for: Pay, 1,250.50\u00a0EUR, Grace Hopper. Do not share it with anybody."
        "\n\n@sca.example.com #123456"
    )


@pytest.mark.attack(70)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    "value",
    [
        "Your code is 000000. https://evil.example/ \n@evil.example #000000\n",
        "\u202e",
        "9",
        "9" * 24,
        "e\u0301\u0302\u0301\u0302",
    ],
    ids=["a message", "turned around", "digits", "the largest number", "marks"],
)
def test_a_caller_cannot_word_a_message(tag: str, value: str) -> None:
    value = value if value.isdigit() and len(value) > 1 else value * (VALUE_MAX // len(value))
    details = (("amount", value), ("currency", "EUR"), ("payee", value))
    plain = written((), tag=tag)
    message = written(details, tag=tag)
    assert len(message) <= len(plain) + WORDED_MAX
    assert message.splitlines()[1:] == plain.splitlines()[1:]
    assert "evil.example" not in message
    assert "\u202e" not in message
    loud = written((("amount", value), ("currency", value), ("payee", value)), tag=tag)
    assert len(loud) <= len(plain) + WORDED_MAX


@pytest.mark.attack(70)
@pytest.mark.parametrize("tag", TAGS)
def test_the_longest_message_is_short(tag: str) -> None:
    value = "x" * VALUE_MAX
    details = (("amount", value), ("currency", value), ("payee", value))
    first = written(details, tag=tag, title="t" * TITLE_MAX).splitlines()[0]
    assert len(first) <= 320
