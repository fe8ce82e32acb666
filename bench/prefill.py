"""
What the product's database holds before a measurement: people to walk, and tokens of the past.

It goes in through the contract of all stores, so it is what the product itself would have stored.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import islice

from watchword.domain import verbs
from watchword.domain.action import Action, Risk
from watchword.domain.binding import bind
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.instant import Instant
from watchword.domain.limits import Limits
from watchword.domain.policy import required
from watchword.domain.token import OneTimeToken, Spent, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.methods.keyring import KEY_BYTES, Keyring
from watchword.methods.phone import enrol
from watchword.store.base import Store

FIRST_USER = 1_000_000
"""User of the bearer token ``bench-0``; ``bench-<n>`` is the n-th after it."""

KEYRING = Keyring({1: sha256(b"bench").digest()[:KEY_BYTES]}, active=1)
"""Under which both the people enrolled here and the server under measurement seal."""

STATEMENT = Action(name="BALANCE__GET_STATEMENT", risk=Risk.LOW)

_PAST_USER = 9_000_000
_TOKENS_A_COMMIT = 100
_COMMITS_AT_ONCE = 16


async def fill(store: Store, *, people: int, tokens: int, now: Instant) -> None:
    """
    Enrol *people*, each with a phone number, and store *tokens* that were spent before *now*.

    Raises:
        RuntimeError: The store held some of it already.
    """
    await _commit_all(store, _enrolments(people, now))
    await _commit_all(store, _past(tokens, now))


async def _commit_all(store: Store, changes: Iterable[Change]) -> None:
    waiting = iter(changes)
    while group := list(islice(waiting, _COMMITS_AT_ONCE)):
        if not all(await asyncio.gather(*map(store.commit, group))):
            raise RuntimeError("the store was not empty")


def _person(user_id: UserId, number: str, now: Instant) -> UserSecurity:
    phone = enrol(KEYRING, number, user_id=user_id, credential_id=f"phone-{user_id}", now=now)
    return UserSecurity(id=user_id, version=1, credentials=(phone,))


def _enrolments(people: int, now: Instant) -> Iterator[Change]:
    for index in range(people):
        # Each a number of its own, or its daily limit would be met.
        user = _person(UserId(FIRST_USER + index), f"+4477{index:08d}", now)
        enrolled = Event(name=EventName.CREDENTIALS_CHANGED, at=now, user_id=user.id)
        yield Change(user=user, events=(enrolled,))


def _past(tokens: int, now: Instant) -> Iterator[Change]:
    """Put many tokens into one change: the contract lets one revoke any number, so it takes them."""
    spent = _spent(now)
    for begun in range(0, tokens, _TOKENS_A_COMMIT):
        batch: list[OneTimeToken] = []
        events: list[Event] = []
        for index in range(begun, min(begun + _TOKENS_A_COMMIT, tokens)):
            token_id = TokenId(sha256(b"past" + index.to_bytes(8, "big")).digest())
            token = replace(spent, id=token_id, user_id=UserId(_PAST_USER + index // 20))
            batch.append(token)
            # The first and the last line of its audit trail.
            events += (
                Event(name=name, at=now, user_id=token.user_id, token_id=token_id, details=details)
                for name, details in (
                    (EventName.TOKEN_ISSUED, {"action": token.action, "risk": token.risk.value}),
                    (EventName.TOKEN_SPENT, {"action": token.action}),
                )
            )
        yield Change(revoked=tuple(batch), events=tuple(events))


def _spent(now: Instant) -> OneTimeToken:
    """Issue one token by the rules and spend it by hand, as the form of all others."""
    user = _person(UserId(_PAST_USER), "+447700900123", now)
    needed = required(STATEMENT, user)
    assert isinstance(needed, tuple)
    path = b"/v1/profiles/435036/balance-statements/1234567/statement.json"
    issued = verbs.issue(
        TokenId(bytes(32)),
        action=STATEMENT,
        required=needed,
        binding=bind("GET", path, b"currency=GBP"),
        user=user,
        limits=Limits(),
        now=now,
    )
    assert isinstance(issued, Change)
    assert issued.token is not None
    passed = tuple(replace(one, passed_by=one.primary) for one in issued.token.challenges)
    return replace(issued.token, challenges=passed, state=Spent(at=now))
