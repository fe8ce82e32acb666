"""The keys that applications upload: which are good now, and how many there may be."""

from dataclasses import replace

import pytest

from tests.factories import NOW
from watchword.domain.application import (
    Application,
    ApplicationId,
    ClientKey,
    KeyScope,
    revoke_key,
    upload_key,
)
from watchword.domain.decision import Change, EventName, Reason, Refusal
from watchword.domain.instant import Instant, after
from watchword.domain.limits import Limits

LIMITS = Limits(keys_per_application=3)
ACME = Application(id=ApplicationId("acme"))
SIGNING, ENCRYPTION = KeyScope.PAYLOAD_SIGNING, KeyScope.PAYLOAD_ENCRYPTION


def key(name: str, scope: KeyScope = SIGNING, *, since: float = 0, till: float = 3600) -> ClientKey:
    return ClientKey(
        id=name,
        scope=scope,
        algorithm="ES256",
        spki=name.encode(),
        valid_from=after(NOW, since),
        valid_till=after(NOW, till),
    )


def upload(application: Application, new: ClientKey, *, now: Instant = NOW) -> Application | Refusal:
    decision = upload_key(application, new, limits=LIMITS, now=now)
    if isinstance(decision, Refusal):
        return decision
    assert decision.application is not None
    return decision.application


def holding(*keys: ClientKey) -> Application:
    return replace(ACME, version=1, keys=keys)


def test_a_key_is_good_from_its_first_millisecond_to_the_one_before_its_last() -> None:
    first, last = after(NOW, 60), after(NOW, 120)
    entry = key("a", since=60, till=120)
    moments = (Instant(first - 1), first, Instant(last - 1), last)
    assert [entry.is_valid(moment) for moment in moments] == [False, True, True, False]
    assert [bool(holding(entry).valid_keys(SIGNING, moment)) for moment in moments] == [0, 1, 1, 0]


def test_the_newest_upload_comes_first_and_scopes_are_apart() -> None:
    application = holding(
        key("a"), key("b", ENCRYPTION), key("later", since=1), key("c"), key("over", till=0)
    )
    assert [entry.id for entry in application.valid_keys(SIGNING, NOW)] == ["c", "a"]
    assert [entry.id for entry in application.valid_keys(ENCRYPTION, NOW)] == ["b"]


def test_an_upload_leaves_the_others_and_says_what_it_was() -> None:
    decision = upload_key(holding(key("a")), key("b", ENCRYPTION), limits=LIMITS, now=NOW)
    assert isinstance(decision, Change)
    assert decision.application == replace(ACME, version=2, keys=(key("a"), key("b", ENCRYPTION)))
    (event,) = decision.events
    assert (event.name, event.user_id, event.at) == (EventName.KEY_UPLOADED, None, NOW)
    assert event.details == {"application": "acme", "key": "b", "scope": "PAYLOAD_ENCRYPTION"}


def test_the_same_key_once_more_is_no_second_one_even_where_there_is_no_room() -> None:
    application = holding(key("a"), key("b"), key("c"))
    again = upload(application, key("a"))
    assert isinstance(again, Application)
    assert [entry.id for entry in again.keys] == ["b", "c", "a"]


@pytest.mark.parametrize(
    "other", [key("a", ENCRYPTION), key("a", till=7200), replace(key("a"), spki=b"another key")]
)
def test_an_id_stands_for_one_key_for_as_long_as_that_is_good(other: ClientKey) -> None:
    application = holding(key("a"))
    assert upload(application, other) == Refusal(Reason.ALREADY_ENROLLED)
    assert upload(application, other, now=Instant(after(NOW, 3600) - 1)) == Refusal(Reason.ALREADY_ENROLLED)
    renewed = upload(application, other, now=after(NOW, 3600))
    assert isinstance(renewed, Application)
    assert renewed.keys == (other,)


def test_keys_that_ran_out_make_room_and_nothing_else_does() -> None:
    two, three = holding(key("a"), key("b")), holding(key("a"), key("b", since=60), key("c", ENCRYPTION))
    assert isinstance(upload(two, key("d")), Application)
    assert upload(three, key("d")) == Refusal(Reason.TOO_MANY)
    over = holding(key("a", till=60), key("b"), key("c"))
    assert upload(over, key("d"), now=Instant(after(NOW, 60) - 1)) == Refusal(Reason.TOO_MANY)
    made = upload(over, key("d"), now=after(NOW, 60))
    assert isinstance(made, Application)
    assert [entry.id for entry in made.keys] == ["b", "c", "d"]


def test_a_revoked_key_is_good_no_longer_and_its_id_free_again() -> None:
    decision = revoke_key(holding(key("a"), key("b")), "a", now=NOW)
    assert isinstance(decision, Change)
    assert decision.application == replace(ACME, version=2, keys=(key("b"),))
    (event,) = decision.events
    assert (event.name, event.user_id, event.at) == (EventName.KEY_REVOKED, None, NOW)
    assert event.details == {"application": "acme", "key": "a"}
    assert isinstance(upload(decision.application, key("a", ENCRYPTION)), Application)


def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    for application in (ACME, holding(key("b"))):
        assert revoke_key(application, "a", now=NOW) == Refusal(Reason.NOT_SET_UP)
