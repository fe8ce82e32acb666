"""The table of state × verb in the docstring of ``domain.token`` is the truth: the code follows it."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.factories import NOW, PAY, PAYMENT, make_code, make_destination, make_token, make_user
from watchword.domain import verbs
from watchword.domain.action import Spend
from watchword.domain.challenge import Challenge
from watchword.domain.decision import Change, Refusal
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.domain.token import Cleared, OneTimeToken, Pending, Reserved, Revoked, Spent, State

LIMITS = Limits()
USER = make_user()
LATER = after(NOW, 1)


def read_table() -> dict[str, dict[str, frozenset[str]]]:
    """Read the table from the docstring: the states that each verb may lead to, by state and verb."""
    assert verbs.__doc__ is not None
    rule, heading, rule_again, *body = re.findall(
        r"^(?:=+ +)+=+$|^(?!=).*(?=\n)", verbs.__doc__[verbs.__doc__.index("=====") :], re.MULTILINE
    )
    assert rule == rule_again
    columns = [match.span() for match in re.finditer("=+", rule)]

    def cells(line: str) -> list[str]:
        return [
            line[start : columns[index + 1][0] if index + 1 < len(columns) else None].strip()
            for index, (start, _) in enumerate(columns)
        ]

    _, *names = cells(heading)
    table: dict[str, dict[str, frozenset[str]]] = {}
    state = ""
    for line in body[: body.index(rule)]:
        name, *outcomes = cells(line)
        state = name or state  # A cell may go on in the next line.
        row = table.setdefault(state, dict.fromkeys(names, frozenset()))
        for verb, outcome in zip(names, outcomes, strict=True):
            row[verb] |= set(re.findall(r"\w+|-", outcome))
    return table


TABLE = read_table()

STATES: dict[str, tuple[State, ...]] = {
    "Pending": (Pending(make_code()), Pending()),
    "Cleared": (Cleared(NOW),),
    "Reserved": (Reserved(NOW, after(NOW, LIMITS.lease_seconds)),),
    "Spent": (Spent(NOW),),
    "Revoked": (Revoked(NOW, "for a reason"),),
}


def _left(challenges: int) -> tuple[Challenge, ...]:
    """Two challenges, of which so many are left to pass."""
    return (
        Challenge(Method.PIN, passed_by=None if challenges > 1 else Method.PIN),
        Challenge(Method.SMS, passed_by=None if challenges > 0 else Method.SMS),
    )


Decisions = list[Change | Refusal]


def trigger(token: OneTimeToken, now: Instant) -> Decisions:
    codes = [make_code(method) for method in (Method.SMS, Method.WHATSAPP, Method.VOICE)]
    number = make_destination()
    return [
        verbs.trigger(token, code, user=USER, destination=number, limits=LIMITS, now=now) for code in codes
    ]


def verify(token: OneTimeToken, now: Instant) -> Decisions:
    """Answer in every way: right and wrong, with one and with two challenges left."""
    lefts = (1, 2) if isinstance(token.state, Pending) else (0,)
    return [
        verbs.verify(
            replace(token, challenges=_left(left)), method, right=right, user=USER, limits=LIMITS, now=now
        )
        for left in lefts
        for method in (Method.PIN, Method.SMS)
        for right in (True, False)
    ]


def spend(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.spend(token, action=PAYMENT, binding=PAY, limits=LIMITS, now=now)]


def reserve(token: OneTimeToken, now: Instant) -> Decisions:
    return spend(replace(token, spend_mode=Spend.ON_SUCCESS), now)


def confirm(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.confirm(token, now=now)]


def release(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.release(token, now=now)]


def revoke(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.revoke(token, why="asked", limits=LIMITS, now=now)]


def open_page(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.open_page(token, b"handle", limits=LIMITS, now=now)]


def close_page(token: OneTimeToken, now: Instant) -> Decisions:
    return [verbs.close_page(token, limits=LIMITS, now=now)]


VERBS: dict[str, Callable[[OneTimeToken, Instant], Decisions]] = {
    verb.__name__: verb
    for verb in (trigger, verify, open_page, close_page, spend, reserve, confirm, release, revoke)
}


def outcomes(state: str, verb: str, now: Instant) -> set[str]:
    """Return where *verb* leads from *state*, whatever its other arguments; ``-`` where it refuses."""
    reached: set[str] = set()
    for form in STATES[state]:
        token = make_token(form)
        for decision in VERBS[verb](token, now):
            if isinstance(decision, Refusal):
                continue
            assert decision.token is not None or decision.revoked
            after_it = decision.token or decision.revoked[0]
            assert after_it.version == token.version + 1
            assert decision.events, "a change without an event"
            reached.add(type(after_it.state).__name__)
    return reached or {"-"}


def test_the_table_names_every_state_and_every_verb() -> None:
    assert set(TABLE) == {*STATES, "(expired)"}
    assert {state.__name__ for state in State.__args__} == set(STATES)
    for row in TABLE.values():
        assert set(row) == set(VERBS)
        assert all(row.values()), "an empty cell"


@pytest.mark.attack(37)
@pytest.mark.parametrize(("state", "verb"), [(state, verb) for state in STATES for verb in VERBS])
def test_a_verb_leads_where_the_table_says(state: str, verb: str) -> None:
    assert outcomes(state, verb, LATER) == TABLE[state][verb]


def over(state: str) -> list[Instant]:
    """Return the moments at which a token in *state* has just expired."""
    moments = [after(NOW, LIMITS.token_seconds)]
    if state == "Cleared":
        assert LIMITS.spend_within_seconds is not None
        moments.append(after(NOW, LIMITS.spend_within_seconds))
    return moments


@pytest.mark.attack(38)
@pytest.mark.parametrize(("state", "verb"), [(state, verb) for state in STATES for verb in VERBS])
def test_an_expired_token_does_only_what_the_last_row_says(state: str, verb: str) -> None:
    for now in over(state):
        # The row tells what may happen at the most: only what could happen before may happen still.
        assert outcomes(state, verb, now) == (TABLE["(expired)"][verb] & TABLE[state][verb] or {"-"})
