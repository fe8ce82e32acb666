"""
The contract of every store (``watchword.store.base``).

Each test takes a store that can be opened again, and nothing else: ``test_broken_stores`` runs
them on stores that are broken on purpose, and expects them to fail.
"""

import asyncio
from dataclasses import replace
from itertools import pairwise

from tests.factories import (
    ADA,
    GRACE,
    NOW,
    make_code,
    make_credential,
    make_destination,
    make_token,
    make_user,
    opened,
)
from tests.store.support import (
    LIMITS,
    PARTNER,
    Stores,
    answer_wrongly,
    at_once,
    claim,
    event,
    make_application,
    make_key,
    make_owner,
    next_user,
    next_version,
    ready,
    spend,
    with_user,
)
from watchword.domain.application import Application, ApplicationId, KeyScope
from watchword.domain.credential import FaceMap
from watchword.domain.decision import Change, Event, EventName
from watchword.domain.destination import Destination
from watchword.domain.instant import Instant, after
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.lockout import Attempts, Tally
from watchword.domain.method import CredentialKind, Method
from watchword.domain.owner import Owner
from watchword.domain.token import Cleared, Pending, Reserved, Revoked, Sends, Spent, State, TokenId
from watchword.domain.user import UserId, UserSecurity
from watchword.store.base import StoreUnavailableError

STATES: tuple[State, ...] = (
    Pending(),
    Pending(make_code(Method.VOICE)),
    Pending(replace(make_code(), wrong=4)),
    Cleared(NOW),
    Reserved(NOW, after(NOW, 60)),
    Spent(NOW),
    Revoked(NOW, "too-many"),
)
# Not all kinds: these are among the bytes that were released.
ENROLLED = (
    CredentialKind.PIN,
    CredentialKind.PHONE,
    CredentialKind.DEVICE_FINGERPRINT,
    CredentialKind.PUBLIC_KEY,
)
USERS = (
    UserSecurity(id=ADA, version=1),
    make_user(*ENROLLED, preferred=Method.WHATSAPP),
    replace(
        make_user(),
        attempts=Attempts(failures=Tally(1, 2, 3), consecutive=4, streak=Tally(5, 6, 7), locked_until=NOW),
        session_until=after(NOW, 300),
        open_tokens=opened(make_token(id=b"a"), make_token(id=b"b")),
        credentials=tuple(replace(make_credential(kind), disabled=True) for kind in ENROLLED),
    ),
    replace(
        make_user(),
        credentials=(
            FaceMap(id="face", sealed=b"sealed", enrolled_at=NOW),
            FaceMap(id="old", sealed=b"", enrolled_at=NOW, disabled=True),
        ),
    ),
)
APPLICATIONS = (
    make_application(),
    make_application(
        make_key("one"),
        make_key("two", KeyScope.PAYLOAD_ENCRYPTION),
        replace(make_key("0"), algorithm="RSA_OAEP_256", spki=bytes(range(256)), valid_till=after(NOW, 1)),
    ),
)
OWNERS = (make_owner(), make_owner(GRACE), make_owner(None))
EVENTS = (
    *(Event(name=name, at=NOW, user_id=ADA) for name in EventName),
    Event(name=EventName.KEY_UPLOADED, at=NOW, user_id=None, details={"application": "partner-1"}),
    Event(
        name=EventName.TOKEN_SPENT,
        at=after(NOW, 1),
        user_id=GRACE,
        token_id=TokenId(bytes(range(32))),
        details={"action": "TRANSFER__FUND", "left": 3, "größe": "ß€𝄞"},
    ),
)


async def test_a_token_comes_back_as_it_was_stored_in_every_state(stores: Stores) -> None:
    store = await stores.open()
    for number, state in enumerate(STATES):
        token = replace(
            make_token(state, id=number.to_bytes(32)), sends=(Sends(Method.SMS, 2, NOW),) * (number % 3)
        )
        assert await store.commit(Change(token=token))
        assert await store.token(token.id) == token


async def test_a_user_comes_back_as_it_was_stored(stores: Stores) -> None:
    store = await stores.open()
    for number, user in enumerate(USERS, start=1):
        stored = replace(user, id=UserId(number))
        assert await store.commit(Change(user=stored))
        assert await store.user(stored.id) == stored


async def test_a_destination_comes_back_as_it_was_stored(stores: Stores) -> None:
    store = await stores.open()
    for destination in (
        Destination(id=b"one", sent_at=(NOW,), version=1),
        Destination(id=b"ten", sent_at=tuple(after(NOW, second) for second in range(10)), version=1),
    ):
        assert await store.commit(Change(destination=destination))
        assert await store.destination(destination.id) == destination


async def test_an_application_comes_back_as_it_was_stored(stores: Stores) -> None:
    store = await stores.open()
    for number, application in enumerate(APPLICATIONS):
        stored = replace(application, id=ApplicationId(f"partner-{number}"))
        assert await store.commit(Change(application=stored))
        assert await store.application(stored.id) == stored


async def test_applications_whose_names_only_look_alike_are_different_ones(stores: Stores) -> None:
    store = await stores.open()
    names = ("7", "7.0", "07", "partner", "Partner", "partner ", "partner\0", "", "caf\xe9", "cafe\u0301")
    stored = [make_application(make_key(str(n)), id=ApplicationId(name)) for n, name in enumerate(names)]
    for application in stored:
        assert await store.application(application.id) is None
        assert await store.commit(Change(application=application))
    assert [await store.application(application.id) for application in stored] == stored


async def test_an_owner_comes_back_as_it_was_stored(stores: Stores) -> None:
    store = await stores.open()
    owners = [replace(owner, id=number.to_bytes(32)) for number, owner in enumerate(OWNERS)]
    assert await store.commit(Change(owners=(owners[0],)))
    assert await store.commit(Change(owners=tuple(owners[1:])))
    assert [await store.owner(owner.id) for owner in owners] == owners


async def test_what_was_never_stored_is_not_found(stores: Stores) -> None:
    store = await stores.open()
    await ready(store)
    await with_user(store)
    assert await store.commit(Change(application=make_application(), owners=(make_owner(),)))
    assert await store.token(TokenId(b"other")) is None
    assert await store.user(GRACE) is None
    assert await store.destination(b"other") is None
    assert await store.application(ApplicationId("other")) is None
    assert await store.owner(b"other") is None


async def test_a_change_replaces_what_it_was_made_from(stores: Stores) -> None:
    store = await stores.open()
    token, user = await ready(store), await with_user(store)
    spent = replace(next_version(token), state=Spent(NOW))
    moved = replace(next_user(user), session_until=after(NOW, 300))
    assert await store.commit(Change(token=spent, user=moved))
    assert await store.token(token.id) == spent
    assert await store.user(user.id) == moved


async def test_a_token_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    store = await stores.open()
    token = await ready(store)
    for version in (0, 1, 3, 4):
        stale = replace(token, version=version, state=Spent(NOW))
        assert not await store.commit(Change(token=stale, events=(event(),)))
    assert await store.token(token.id) == token


async def test_a_revoked_token_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    store = await stores.open()
    token, user = await ready(store), await with_user(store)
    stale = replace(token, version=3, state=Revoked(NOW, "too-many"))
    assert not await store.commit(Change(user=next_user(user), revoked=(stale,)))
    assert await store.token(token.id) == token
    assert await store.user(user.id) == user


async def test_a_user_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    store = await stores.open()
    user = await with_user(store)
    for version in (0, 1, 3, 4):
        stale = replace(user, version=version, session_until=after(NOW, 300))
        assert not await store.commit(Change(user=stale, events=(event(),)))
    assert await store.user(user.id) == user


async def test_what_rests_on_a_user_that_moved_on_is_not_stored(stores: Stores) -> None:
    store = await stores.open()
    user = await with_user(store)
    for version in (user.version - 1, user.version + 1, user.version + 2):
        stale = replace(user, version=version)
        assert not await store.commit(Change(seen=stale, events=(event(),)))
    assert await store.commit(Change(seen=user, events=(event(number=7),)))
    assert await store.user(user.id) == user
    assert await store.commit(Change(user=replace(user, version=user.version + 1)))
    assert not await store.commit(Change(seen=user))


async def test_a_destination_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    store = await stores.open()
    destination = Destination(id=b"digest", sent_at=(NOW,), version=1)
    assert await store.commit(Change(destination=destination))
    for version in (0, 1, 3, 4):
        stale = replace(destination, version=version, sent_at=(NOW, NOW))
        assert not await store.commit(Change(destination=stale, events=(event(),)))
    assert await store.destination(destination.id) == destination


async def test_an_application_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    store = await stores.open()
    application = make_application(make_key())
    assert await store.commit(Change(application=application))
    for version in (0, 1, 3, 4):
        stale = replace(application, version=version, keys=())
        assert not await store.commit(Change(application=stale, events=(event(),)))
    assert await store.application(PARTNER) == application
    assert await store.commit(Change(application=replace(application, version=2, keys=())))
    assert await store.application(PARTNER) == Application(id=PARTNER, version=2)


async def test_an_owner_that_moved_on_is_not_overwritten(stores: Stores) -> None:
    """Nor is any other of the same change, wherever in it the one stands that moved on."""
    store = await stores.open()
    owner, other = make_owner(), make_owner(id=b"other")
    assert await store.commit(Change(owners=(owner,)))
    for version in (0, 1, 3, 4):
        stale = replace(owner, version=version, user_id=GRACE)
        for owners in ((stale,), (stale, other), (other, stale)):
            assert not await store.commit(Change(owners=owners, events=(event(),)))
    assert await store.owner(owner.id) == owner
    assert await store.owner(other.id) is None
    assert await store.events() == []


async def test_what_was_given_back_can_be_taken_by_another(stores: Stores) -> None:
    store = await stores.open()
    assert await claim(store, ADA, b"number")
    assert not await claim(store, GRACE, b"number")
    owner = await store.owner(b"number")
    assert owner == make_owner()
    assert await store.commit(Change(owners=(owner.taken(None),)))
    assert await store.owner(b"number") == Owner(id=b"number", version=2)
    assert await claim(store, GRACE, b"number")
    assert await store.owner(b"number") == Owner(id=b"number", user_id=GRACE, version=3)


async def test_a_record_that_is_not_stored_can_only_be_begun(stores: Stores) -> None:
    store = await stores.open()
    for version in (0, 2, 3):
        assert not await store.commit(Change(token=replace(make_token(), version=version)))
        assert not await store.commit(Change(user=replace(make_user(), version=version)))
        assert not await store.commit(Change(destination=replace(make_destination(), version=version)))
        assert not await store.commit(Change(application=replace(make_application(), version=version)))
        assert not await store.commit(Change(owners=(replace(make_owner(), version=version),)))
    assert await store.token(make_token().id) is None
    assert await store.user(ADA) is None
    assert await store.destination(make_destination().id) is None
    assert await store.application(PARTNER) is None
    assert await store.owner(make_owner().id) is None


async def test_several_records_are_stored_together_or_not_at_all(stores: Stores) -> None:
    store = await stores.open()
    token, user = await ready(store), await with_user(store)
    other = await ready(store, b"other")
    good = Change(
        token=replace(next_version(token), state=Spent(NOW)),
        user=next_user(user),
        destination=Destination(id=b"digest", sent_at=(NOW,), version=1),
        application=make_application(make_key()),
        owners=(make_owner(id=b"one"), make_owner(id=b"two")),
        revoked=(replace(next_version(other), state=Revoked(NOW, "why")),),
        events=(event(),),
    )
    assert good.token is not None
    assert good.user is not None
    assert good.destination is not None
    assert good.application is not None
    for stale in (
        replace(good, token=next_version(good.token)),
        replace(good, user=next_user(good.user)),
        replace(good, destination=replace(good.destination, version=2)),
        replace(good, application=replace(good.application, version=2)),
        replace(good, owners=(good.owners[0], good.owners[1].taken(GRACE))),
        replace(good, revoked=(next_version(good.revoked[0]),)),
    ):
        assert not await store.commit(stale)
        assert await store.token(token.id) == token
        assert await store.token(other.id) == other
        assert await store.user(user.id) == user
        assert await store.destination(b"digest") is None
        assert await store.application(PARTNER) is None
        assert [await store.owner(owner.id) for owner in good.owners] == [None, None]
    assert await store.commit(good)
    assert await store.token(token.id) == good.token
    assert await store.token(other.id) == good.revoked[0]
    assert await store.user(user.id) == good.user
    assert await store.destination(b"digest") == good.destination
    assert await store.application(PARTNER) == good.application
    assert tuple([await store.owner(owner.id) for owner in good.owners]) == good.owners


async def test_one_of_many_users_who_claim_the_same_at_once_gets_it(stores: Stores) -> None:
    """Who does not get it has nothing: no record, no event; and each of two things has one owner."""
    store = await stores.open()
    users = [UserId(number) for number in range(8)]
    for number in range(10):
        this, that = b"this %d" % number, b"that %d" % number
        claims = [claim(store, user, *((this, that) if user % 2 else (that, this))) for user in users]
        won = await at_once(*claims)
        assert sum(won) == 1
        winner = users[won.index(True)]
        assert [await store.owner(id_) for id_ in (this, that)] == [
            make_owner(winner, this),
            make_owner(winner, that),
        ]
    winners = [entry.details["user"] for _, entry in await store.events()]
    assert len(winners) == 10
    for user in users:
        stored = await store.user(user)
        assert (0 if stored is None else stored.version) == winners.count(user)


async def test_one_of_many_concurrent_spendings_wins(stores: Stores) -> None:
    """Eight clients spend the same token at once; exactly one succeeds."""
    store = await stores.open()
    for number in range(10):
        token = await ready(store, number.to_bytes(32))
        assert sum(await at_once(*(spend(store, token.id) for _ in range(8)))) == 1
    assert [entry.name for _, entry in await store.events()] == [EventName.TOKEN_SPENT] * 10


async def test_fifty_wrong_answers_at_once_spend_no_more_than_the_limit(stores: Stores) -> None:
    store = await stores.open()
    await with_user(store)
    tokens = [make_token(id=number.to_bytes(32)) for number in range(10)]
    for token in tokens:
        assert await store.commit(Change(token=token))
    looked_at = await at_once(*(answer_wrongly(store, token.id) for token in tokens for _ in range(5)))
    assert sum(looked_at) == LIMITS.failures
    user = await store.user(ADA)
    assert user is not None
    assert user.attempts.is_locked(NOW)


async def test_changes_of_different_records_do_not_hinder_each_other(stores: Stores) -> None:
    store = await stores.open()
    issued = [make_token(id=number.to_bytes(32)) for number in range(300)]
    users = [make_user(id=UserId(number)) for number in range(300)]
    stored = await at_once(
        *(store.commit(Change(token=token, user=user)) for token, user in zip(issued, users, strict=True))
    )
    assert all(stored)
    assert [await store.token(token.id) for token in issued] == issued
    assert [await store.user(user.id) for user in users] == users


async def test_a_change_meets_what_those_before_it_left(stores: Stores) -> None:
    """Of changes that wait together each is compared with what the one before it wrote."""
    store = await stores.open()
    versions = [replace(make_token(), version=version) for version in range(1, 41)]
    stored = await at_once(
        *(store.commit(Change(token=token, events=(event(version=token.version),))) for token in versions)
    )
    assert all(stored)
    assert await store.token(versions[-1].id) == versions[-1]
    assert [entry.details["version"] for _, entry in await store.events()] == list(range(1, 41))


async def test_a_claim_meets_what_those_before_it_left(stores: Stores) -> None:
    """Of claims that wait together each is compared with what the one before it wrote."""
    store = await stores.open()
    owners = [make_owner()]
    for number in range(20):
        owners.append(owners[-1].taken(UserId(number) if number % 2 else None))
    rival = make_owner(GRACE)
    claims = [owner for taken in owners for owner in (taken, rival)]
    stored = await at_once(*(store.commit(Change(owners=(owner,), events=(event(),))) for owner in claims))
    assert stored == [True, False] * len(owners)
    assert await store.owner(rival.id) == owners[-1]
    assert len(await store.events()) == len(owners)


async def test_events_come_back_as_they_were_stored(stores: Stores) -> None:
    store = await stores.open()
    assert await store.commit(Change(events=EVENTS))
    assert tuple(entry for _, entry in await store.events()) == EVENTS


async def test_a_refused_change_leaves_no_event(stores: Stores) -> None:
    store = await stores.open()
    token = await ready(store)
    assert not await store.commit(Change(token=token, events=(event(),)))
    assert await store.events() == []


async def test_events_stand_in_the_order_of_their_changes(stores: Stores) -> None:
    store = await stores.open()
    token = make_token()
    for number in range(20):
        change = Change(token=replace(token, version=number + 1), events=(event(a=number), event(b=number)))
        assert await store.commit(change)
        assert not await store.commit(change)
    assert [dict(entry.details) for _, entry in await store.events()] == [
        {name: number} for number in range(20) for name in "ab"
    ]


async def test_a_change_of_events_alone_is_always_stored(stores: Stores) -> None:
    store = await stores.open()
    stored = await at_once(*(store.commit(Change(events=(event(number=number),))) for number in range(50)))
    assert all(stored)
    assert {entry.details["number"] for _, entry in await store.events()} == set(range(50))


async def test_events_are_read_page_by_page(stores: Stores) -> None:
    store = await stores.open()
    for number in range(10):
        assert await store.commit(Change(events=(event(number=number),)))
    pages: list[list[int | str]] = []
    last = 0
    while page := await store.events(after=last, limit=4):
        pages.append([entry.details["number"] for _, entry in page])
        assert all(one < other for (one, _), (other, _) in pairwise(page))
        assert page[0][0] > last
        last = page[-1][0]
    assert pages == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert await store.commit(Change(events=(event(number=10),)))
    assert [entry.details["number"] for _, entry in await store.events(after=last)] == [10]


async def test_users_are_read_page_by_page(stores: Stores) -> None:
    store = await stores.open()
    assert list(await store.users()) == []
    users = [make_user(id=UserId(number)) for number in (-(2**63), -1, 0, 1, 9, 10, 2**63 - 1)]
    for user in users[::-1]:
        assert await store.commit(Change(user=user))
    assert list(await store.users()) == users
    assert list(await store.users(limit=2)) == users[:2]
    assert list(await store.users(after=UserId(-1), limit=2)) == users[2:4]
    assert list(await store.users(after=UserId(2), limit=9)) == users[4:]
    assert list(await store.users(after=users[-1].id)) == []
    assert list(await store.users(limit=0)) == []
    assert await store.commit(Change(user=next_user(users[0])))
    assert (await store.users(limit=1))[0] == next_user(users[0])


async def test_old_events_are_forgotten_and_the_others_keep_their_numbers(stores: Stores) -> None:
    store = await stores.open()
    assert await store.forget(after(NOW, 9), limit=9) == 0
    told = tuple(replace(event(), at=after(NOW, second)) for second in (0, 1, 5, 2, 6))
    assert await store.commit(Change(events=told))
    trail = list(await store.events())
    assert [await store.forget(before, limit=9) for before in (NOW, after(NOW, 1))] == [0, 1]
    assert await store.forget(after(NOW, 2), limit=0) == 0
    assert list(await store.events()) == trail[1:]
    # The third is not old enough; the fourth is, and stands behind it.
    assert await store.forget(after(NOW, 3), limit=9) == 1
    assert list(await store.events()) == trail[2:]
    assert await store.forget(after(NOW, 7), limit=1) == 1
    assert await store.forget(after(NOW, 7), limit=9) == 1
    assert await store.forget(after(NOW, 7), limit=9) == 0
    store = await stores.reopen(store)
    assert list(await store.events()) == trail[4:]
    assert await store.commit(Change(events=(event(),)))
    assert [number for number, _ in await store.events(after=trail[4][0])] > [trail[4][0]]
    assert len(await store.events()) == 2


async def test_a_store_that_works_answers_and_changes_nothing(stores: Stores) -> None:
    store = await stores.open()
    token = await ready(store)
    await store.ping()
    assert await store.token(token.id) == token
    assert len(await store.events()) == 0


async def test_reopening_loses_nothing(stores: Stores) -> None:
    store = await stores.open()
    token, user = await ready(store), await with_user(store)
    destination = Destination(id=b"digest", sent_at=(NOW,), version=1)
    application, owner = make_application(make_key()), make_owner()
    assert await store.commit(
        Change(destination=destination, application=application, owners=(owner,), events=EVENTS)
    )
    spent = replace(next_version(token), state=Spent(NOW))
    assert await store.commit(Change(token=spent))
    store = await stores.reopen(store)
    assert await store.token(token.id) == spent
    assert await store.user(user.id) == user
    assert await store.destination(b"digest") == destination
    assert await store.application(PARTNER) == application
    assert await store.owner(owner.id) == owner
    assert not await claim(store, GRACE, owner.id)
    assert tuple(entry for _, entry in await store.events()) == EVENTS
    assert not await spend(store, token.id)
    assert not await store.commit(Change(token=spent))


async def test_closing_finishes_what_was_accepted(stores: Stores) -> None:
    store = await stores.open()
    users = [make_user(id=UserId(number)) for number in range(100)]
    waiting = [asyncio.ensure_future(store.commit(Change(user=user))) for user in users]
    await asyncio.sleep(0)
    store = await stores.reopen(store)
    assert all(await asyncio.gather(*waiting))
    assert [await store.user(user.id) for user in users] == users


async def test_a_closed_store_refuses_everything(stores: Stores) -> None:
    store = await stores.open()
    token, user = await ready(store), await with_user(store)
    await store.close()
    refused = await asyncio.gather(
        store.token(token.id),
        store.user(user.id),
        store.destination(b"digest"),
        store.application(PARTNER),
        store.owner(b"number"),
        store.commit(Change(token=next_version(token))),
        store.sweep(NOW, limit=1),
        store.events(),
        store.users(),
        store.forget(NOW, limit=1),
        store.ping(),
        return_exceptions=True,
    )
    assert [type(answer) for answer in refused] == [StoreUnavailableError] * 11
    assert await (await stores.open()).token(token.id) == token


async def test_a_caller_that_goes_away_hinders_nobody(stores: Stores) -> None:
    store = await stores.open()
    gone = [
        asyncio.ensure_future(store.commit(Change(user=make_user(id=UserId(number))))) for number in range(20)
    ]
    stays = [
        asyncio.ensure_future(store.commit(Change(user=make_user(id=UserId(number)))))
        for number in range(20, 40)
    ]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    assert all(await asyncio.gather(*stays))
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*gone, return_exceptions=True)
    )
    assert await store.commit(Change(token=make_token()))


async def test_a_sweep_takes_what_is_over_since_a_day(stores: Stores) -> None:
    """One millisecond less than a day after its expiry a token stays; a day after it, it goes."""
    store = await stores.open()
    await with_user(store)
    owners = make_owner(), make_owner(None, b"given back")
    assert await store.commit(Change(application=make_application(), owners=owners))
    day = Instant(NOW + DAY_SECONDS * 1000)
    for late in (-1, 0, 1):
        token = replace(make_token(id=b"token %d" % late), expires_at=Instant(NOW + late))
        sent = Destination(id=b"number %d" % late, sent_at=(Instant(0), Instant(NOW + late)), version=1)
        assert await store.commit(Change(token=token, destination=sent, events=(event(),)))
    assert await store.sweep(day, limit=100) == 4
    for late, stays in ((-1, False), (0, False), (1, True)):
        assert (await store.token(TokenId(b"token %d" % late)) is not None) is stays
        assert (await store.destination(b"number %d" % late) is not None) is stays
    assert await store.sweep(day, limit=100) == 0
    assert await store.user(ADA) is not None
    assert await store.application(PARTNER) is not None
    assert tuple([await store.owner(owner.id) for owner in owners]) == owners
    assert len(await store.events()) == 3


async def test_a_sweep_takes_no_more_than_it_may(stores: Stores) -> None:
    store = await stores.open()
    for number in range(10):
        sent = Destination(id=number.to_bytes(32), sent_at=(NOW,), version=1)
        assert await store.commit(Change(token=make_token(id=number.to_bytes(32)), destination=sent))
    week = after(NOW, 7 * DAY_SECONDS)
    assert [await store.sweep(week, limit=limit) for limit in (0, 1, 7, 7, 7)] == [0, 1, 7, 7, 5]


async def test_a_token_that_was_swept_is_unknown_and_can_be_stored_anew(stores: Stores) -> None:
    store = await stores.open()
    token = await ready(store)
    assert await store.sweep(after(token.expires_at, DAY_SECONDS), limit=100) == 1
    assert await store.token(token.id) is None
    assert not await store.commit(Change(token=replace(next_version(token), state=Spent(NOW))))
    assert await store.commit(Change(token=token))
