"""Adding, replacing and removing credentials: who may, how many, and what it costs in open tokens."""

from dataclasses import replace

import pytest

from tests.factories import ADA, GRACE, NOW, make_credential, make_token, make_user, opened
from watchword.domain import enrolment
from watchword.domain.action import Bind, Risk
from watchword.domain.credential import (
    KINDS,
    Credential,
    DeviceFingerprint,
    FaceMap,
    Phone,
    Pin,
    PublicKey,
)
from watchword.domain.decision import Change, EventName, Reason, Refusal
from watchword.domain.enrolment import CREDENTIAL_CHANGE, StepUpFor
from watchword.domain.instant import NEVER, Instant, after
from watchword.domain.limits import Limits
from watchword.domain.lockout import Attempts, Tally
from watchword.domain.method import CredentialKind, Method
from watchword.domain.owner import Owner
from watchword.domain.policy import fault
from watchword.domain.token import Cleared, Revoked
from watchword.domain.user import UserSecurity, disable

LIMITS = Limits()
K = CredentialKind
ACTORS = pytest.mark.parametrize("application", [None, "acme"], ids=["himself", "an application"])
NUMBER = Owner(id=b"number")
NOBODY = replace(make_user(), credentials=())


def having(*credentials: Credential) -> UserSecurity:
    return replace(NOBODY, credentials=credentials)


def another(kind: CredentialKind, name: str = "another") -> Credential:
    """Make one more credential of *kind*."""
    match kind:
        case CredentialKind.PIN:
            return Pin(id=name, sealed=b"new", enrolled_at=NOW)
        case CredentialKind.PHONE:
            return Phone(id=name, sealed=b"new", digest=name.encode(), enrolled_at=NOW)
        case CredentialKind.DEVICE_FINGERPRINT:
            return DeviceFingerprint(id=name, sealed=name.encode(), enrolled_at=NOW)
        case CredentialKind.PUBLIC_KEY:
            return PublicKey(id=name, spki=name.encode(), enrolled_at=NOW)
        case CredentialKind.FACE_MAP:
            return FaceMap(id=name, sealed=b"new", enrolled_at=NOW)


def several(kind: CredentialKind, number: int) -> UserSecurity:
    return having(*(another(kind, f"{kind}-{each}") for each in range(number)))


def locked(user: UserSecurity) -> UserSecurity:
    return replace(user, attempts=Attempts(failures=Tally(3), locked_until=after(NOW, 900)))


def busy(user: UserSecurity) -> tuple[UserSecurity, Cleared]:
    """Return *user* in a session and with a ready token."""
    ready = Cleared(NOW)
    return replace(
        user, session_until=after(NOW, 300), open_tokens=opened(make_token(ready)), attempts=COUNTED
    ), ready


COUNTED = Attempts(failures=Tally(2, 1), consecutive=1, streak=Tally(7, 1))


def user_of(decision: Change | Refusal) -> UserSecurity:
    assert isinstance(decision, Change), decision
    assert decision.user is not None
    return decision.user


def ids(decision: Change | Refusal) -> list[str]:
    return [credential.id for credential in user_of(decision).credentials]


def add(user: UserSecurity, kind: CredentialKind, **more: object) -> Change | Refusal:
    return enrolment.add(user, another(kind), **({"limits": LIMITS, "now": NOW} | more))  # type: ignore[arg-type]


# --- what every change does -------------------------------------------------------------------


@ACTORS
@pytest.mark.attack(20)
@pytest.mark.parametrize("kind", CredentialKind)
def test_every_change_voids_what_is_open_and_ends_the_session_and_leaves_the_counts(
    kind: CredentialKind, application: str | None
) -> None:
    user, ready = busy(having(make_credential(kind), make_credential(K.PIN)))
    empty, _ = busy(NOBODY)
    credential_id = make_credential(kind).id
    issued = (make_token(ready),)
    decisions = [
        add(empty, kind, open_tokens=issued, application=application),
        enrolment.remove(user, kind, credential_id, open_tokens=issued, application=application, now=NOW),
        enrolment.substitute(
            user, credential_id, another(kind), open_tokens=issued, application=application, now=NOW
        ),
    ]
    for decision, what in zip(decisions, ("added", "removed", "replaced"), strict=True):
        after_it = user_of(decision)
        assert (after_it.version, after_it.session_until, after_it.open_tokens) == (2, NEVER, ())
        assert after_it.attempts == COUNTED
        assert isinstance(decision, Change)
        (voided,) = decision.revoked
        assert voided.state == Revoked(NOW, "credentials-changed")
        changed, revoked = decision.events
        assert revoked.name is EventName.TOKEN_REVOKED
        assert (changed.name, changed.user_id, changed.at) == (EventName.CREDENTIALS_CHANGED, ADA, NOW)
        named = {} if application is None else {"application": "acme"}
        assert changed.details == {"what": what, "credential": kind.value, **named}


@pytest.mark.parametrize("kind", CredentialKind)
def test_who_is_locked_changes_nothing_himself_and_an_application_may(kind: CredentialKind) -> None:
    user, empty = locked(having(make_credential(kind))), locked(NOBODY)
    credential_id = make_credential(kind).id
    refusal = Refusal(Reason.LOCKED, retry_after=900)
    assert add(empty, kind) == refusal
    assert enrolment.can_add(empty, kind, limits=LIMITS, now=NOW) == refusal
    assert enrolment.remove(user, kind, credential_id, now=NOW) == refusal
    assert enrolment.substitute(user, credential_id, another(kind), now=NOW) == refusal
    for decision in (
        add(empty, kind, application="acme"),
        enrolment.remove(user, kind, credential_id, application="acme", now=NOW),
        enrolment.substitute(user, credential_id, another(kind), application="acme", now=NOW),
    ):
        # The lock and the counts stay, whoever changes what (NIST SP 800-63B-4 section 3.2.2).
        assert user_of(decision).attempts == user.attempts


def test_a_lock_is_told_before_anything_of_what_is_enrolled() -> None:
    user = locked(several(K.PUBLIC_KEY, 5))
    assert add(user, K.PUBLIC_KEY, repeated=True) == Refusal(Reason.LOCKED, retry_after=900)
    taken = add(user, K.PHONE, owners=(Owner(id=b"n", user_id=GRACE, version=1),))
    assert taken == Refusal(Reason.LOCKED, retry_after=900)
    assert enrolment.remove(user, K.PIN, now=NOW) == Refusal(Reason.LOCKED, retry_after=900)


def test_once_the_lock_is_over_he_may_again() -> None:
    user = locked(NOBODY)
    last = Instant(after(NOW, 900) - 1)
    assert add(user, K.PIN, now=last) == Refusal(Reason.LOCKED, retry_after=1)
    assert ids(add(user, K.PIN, now=after(NOW, 900))) == ["another"]


# --- how many ---------------------------------------------------------------------------------


@ACTORS
@pytest.mark.parametrize("kind", [K.PIN, K.PHONE, K.FACE_MAP])
def test_of_these_a_user_has_one(kind: CredentialKind, application: str | None) -> None:
    assert ids(add(NOBODY, kind, application=application)) == ["another"]
    again = add(having(make_credential(kind)), kind, application=application)
    assert again == Refusal(Reason.ALREADY_ENROLLED)


@ACTORS
@pytest.mark.parametrize(("kind", "most"), [(K.DEVICE_FINGERPRINT, 3), (K.PUBLIC_KEY, 5)])
def test_of_these_a_user_has_as_many_as_are_allowed(
    kind: CredentialKind, most: int, application: str | None
) -> None:
    added = add(several(kind, most - 1), kind, application=application)
    assert len(ids(added)) == most
    assert ids(added)[-1] == "another", "in the order of enrolment"
    for there in (most, most + 1):  # More, where the limit was lowered since.
        refusal = add(several(kind, there), kind, application=application)
        assert refusal == Refusal(Reason.TOO_MANY)
        assert enrolment.can_add(several(kind, there), kind, limits=LIMITS, now=NOW) == refusal


def test_the_limits_are_settings_and_each_is_its_own() -> None:
    limits = Limits(device_fingerprints=1, public_keys=2)
    for kind, most in ((K.DEVICE_FINGERPRINT, 1), (K.PUBLIC_KEY, 2)):
        assert isinstance(add(several(kind, most - 1), kind, limits=limits), Change)
        assert add(several(kind, most), kind, limits=limits) == Refusal(Reason.TOO_MANY)
    full = having(*several(K.DEVICE_FINGERPRINT, 3).credentials, *several(K.PUBLIC_KEY, 5).credentials)
    for kind in (K.PIN, K.PHONE, K.FACE_MAP):
        assert len(ids(add(full, kind))) == 9


def test_the_very_same_one_is_refused_as_such_even_where_there_are_too_many() -> None:
    for there in (1, 3):
        user = several(K.DEVICE_FINGERPRINT, there)
        assert add(user, K.DEVICE_FINGERPRINT, repeated=True) == Refusal(Reason.ALREADY_ENROLLED)


@pytest.mark.parametrize("kind", CredentialKind)
def test_disabled_ones_make_room_and_only_those_of_the_same_kind(kind: CredentialKind) -> None:
    there = several(kind, 3).credentials
    other = next(each for each in CredentialKind if each is not kind)
    user = having(*disable(there, [kind]), *disable([make_credential(other)], [other]))
    assert ids(add(user, kind)) == [make_credential(other).id, "another"]
    half = having(*there[:1], replace(there[1], disabled=True))
    if kind in {K.DEVICE_FINGERPRINT, K.PUBLIC_KEY}:
        assert ids(add(half, kind)) == [there[0].id, "another"]
    else:
        assert add(half, kind) == Refusal(Reason.ALREADY_ENROLLED)


def test_a_new_credential_leaves_what_is_preferred() -> None:
    user = replace(having(make_credential(K.PHONE)), preferred=Method.VOICE)
    assert user_of(add(user, K.PIN)).preferred is Method.VOICE


# --- removing and replacing -------------------------------------------------------------------


@ACTORS
@pytest.mark.parametrize("kind", CredentialKind)
def test_what_is_not_there_cannot_be_removed_or_replaced(
    kind: CredentialKind, application: str | None
) -> None:
    others = tuple(make_credential(each) for each in CredentialKind if each is not kind)
    for user in (NOBODY, having(*others), having(*others, make_credential(kind))):
        for credential_id in ("unknown", others[0].id):
            gone = enrolment.remove(user, kind, credential_id, application=application, now=NOW)
            assert gone == Refusal(Reason.NOT_SET_UP)
            put = enrolment.substitute(user, credential_id, another(kind), application=application, now=NOW)
            assert put == Refusal(Reason.NOT_SET_UP)


def test_one_is_removed_and_the_others_stay() -> None:
    user = several(K.DEVICE_FINGERPRINT, 3)
    first, second, third = (credential.id for credential in user.credentials)
    assert ids(enrolment.remove(user, K.DEVICE_FINGERPRINT, second, now=NOW)) == [first, third]


def test_a_kind_that_has_one_needs_no_id_and_a_disabled_one_can_be_removed() -> None:
    user = having(*disable([make_credential(K.PIN)], [K.PIN]), make_credential(K.PHONE))
    assert ids(enrolment.remove(user, K.PIN, now=NOW)) == ["phone"]


def test_what_was_preferred_is_so_no_longer_once_nothing_is_left_to_prove_it() -> None:
    fingerprints = replace(several(K.DEVICE_FINGERPRINT, 2), preferred=Method.PARTNER_DEVICE_FINGERPRINT)
    first, second = (credential.id for credential in fingerprints.credentials)
    one_left = user_of(enrolment.remove(fingerprints, K.DEVICE_FINGERPRINT, first, now=NOW))
    assert one_left.preferred is Method.PARTNER_DEVICE_FINGERPRINT
    assert user_of(enrolment.remove(one_left, K.DEVICE_FINGERPRINT, second, now=NOW)).preferred is None


def test_what_is_replaced_keeps_its_place() -> None:
    user = several(K.DEVICE_FINGERPRINT, 3)
    second = user.credentials[1].id
    put = enrolment.substitute(user, second, another(K.DEVICE_FINGERPRINT), now=NOW)
    assert ids(put) == [user.credentials[0].id, "another", user.credentials[2].id]


# --- whose it is ------------------------------------------------------------------------------


def owned(decision: Change | Refusal) -> dict[bytes, int | None]:
    assert isinstance(decision, Change), decision
    return {owner.id: owner.user_id for owner in decision.owners}


def test_a_number_is_claimed_in_the_change_that_enrols_it() -> None:
    decision = add(NOBODY, K.PHONE, owners=(NUMBER,))
    assert isinstance(decision, Change)
    assert decision.owners == (Owner(id=b"number", user_id=ADA, version=1),)
    again = add(NOBODY, K.PHONE, owners=(Owner(id=b"number", user_id=None, version=4),))
    assert isinstance(again, Change)
    assert again.owners == (Owner(id=b"number", user_id=ADA, version=5),)


def test_a_number_of_anothers_is_taken_and_ones_own_is_not_unless_it_is_enrolled() -> None:
    theirs = Owner(id=b"number", user_id=GRACE, version=1)
    mine = Owner(id=b"number", user_id=ADA, version=1)
    assert add(NOBODY, K.PHONE, owners=(theirs,)) == Refusal(Reason.TAKEN)
    assert owned(add(NOBODY, K.PHONE, owners=(mine,))) == {b"number": ADA}
    has_it = having(make_credential(K.PHONE))
    assert add(has_it, K.PHONE, owners=(mine,), repeated=True) == Refusal(Reason.TAKEN)
    assert add(has_it, K.PHONE, owners=(NUMBER,)) == Refusal(Reason.ALREADY_ENROLLED)


def test_the_number_of_a_disabled_phone_that_makes_room_is_given_back() -> None:
    user = having(*disable([make_credential(K.PHONE)], [K.PHONE]))
    old = Owner(id=b"old", user_id=ADA, version=1)
    assert owned(add(user, K.PHONE, owners=(NUMBER,), given_back=(old,))) == {b"old": None, b"number": ADA}


def test_a_number_is_given_back_with_its_phone() -> None:
    user, mine = having(make_credential(K.PHONE)), Owner(id=b"number", user_id=ADA, version=1)
    gone = enrolment.remove(user, K.PHONE, "phone", given_back=(mine,), now=NOW)
    assert isinstance(gone, Change)
    assert gone.owners == (Owner(id=b"number", user_id=None, version=2),)
    assert owned(enrolment.remove(user, K.PHONE, "phone", now=NOW)) == {}, "one that he only shared"


def test_a_replaced_number_is_given_back_and_the_new_one_claimed() -> None:
    user, old = having(make_credential(K.PHONE)), Owner(id=b"old", user_id=ADA, version=1)

    def put(owner: Owner) -> Change | Refusal:
        new = another(K.PHONE)
        return enrolment.substitute(user, "phone", new, owners=(owner,), given_back=(old,), now=NOW)

    assert owned(put(NUMBER)) == {b"old": None, b"number": ADA}
    assert owned(put(old)) == {b"old": ADA}, "the same number once more"
    assert put(Owner(id=b"number", user_id=GRACE, version=1)) == Refusal(Reason.TAKEN)


# --- what a change asks for -------------------------------------------------------------------

PIN, PHONE, DEVICE, FACE, KEY = (
    make_credential(K.PIN),
    make_credential(K.PHONE),
    make_credential(K.DEVICE_FINGERPRINT),
    make_credential(K.FACE_MAP),
    make_credential(K.PUBLIC_KEY),
)
FREE, ONE, TWO = None, Risk.LOW, Risk.HIGH
SECOND = {
    "nothing": (),
    "PIN": (PIN,),
    "phone": (PHONE,),
    "phone and device": (PHONE, DEVICE),
    "key": (KEY,),
    "PIN and phone": (PIN, PHONE),
    "face and device": (FACE, DEVICE),
    "PIN and key": (PIN, KEY),
    "disabled PIN": disable((PIN,), [K.PIN]),
    "disabled PIN and phone": disable((PIN, PHONE), [K.PIN]),
    "PIN, disabled phone": disable((PIN, PHONE), [K.PHONE]),
}
# What is there; then what adding a PIN, a device fingerprint and a face, and removing ask for.
RULE = {
    "nothing": (FREE, FREE, FREE, FREE),
    "PIN": (ONE, FREE, FREE, ONE),
    "phone": (FREE, ONE, FREE, ONE),
    "phone and device": (FREE, ONE, FREE, ONE),
    # A program's key is asked of nobody else, so it is no factor of a person's.
    "key": (FREE, FREE, FREE, FREE),
    "PIN and phone": (TWO, TWO, TWO, TWO),
    "face and device": (TWO, TWO, TWO, TWO),
    "PIN and key": (ONE, FREE, FREE, ONE),
    "disabled PIN": (ONE, ONE, ONE, ONE),
    "disabled PIN and phone": (TWO, TWO, TWO, TWO),
    "PIN, disabled phone": (TWO, TWO, TWO, TWO),
}
NO_FACTOR = {"nothing", "key"}
CHANGES = (K.PIN, K.DEVICE_FINGERPRINT, K.FACE_MAP, None)


def asks(there: str, adds: CredentialKind | None, when: StepUpFor) -> Risk | None:
    action = enrolment.step_up(having(*SECOND[there]), adds=adds, when=when)
    assert action is None or (action.name, action.bind) == ("CREDENTIAL__CHANGE", Bind.REQUEST)
    return None if action is None else action.risk


@pytest.mark.parametrize("there", RULE)
def test_what_each_change_asks_for(there: str) -> None:
    for adds, risk in zip(CHANGES, RULE[there], strict=True):
        assert asks(there, adds, StepUpFor.TWO_FACTORS) is risk, adds
        assert asks(there, adds, StepUpFor.NOTHING) is None
        strict = asks(there, adds, StepUpFor.EVERYTHING)
        assert strict is (FREE if there in NO_FACTOR else risk or ONE), adds


def test_a_phone_is_of_a_factor_as_anything_else() -> None:
    assert asks("phone", K.PHONE, StepUpFor.TWO_FACTORS) is ONE
    assert asks("PIN", K.PHONE, StepUpFor.TWO_FACTORS) is FREE


@pytest.mark.attack(20)
@pytest.mark.parametrize("there", [name for name in SECOND if name not in NO_FACTOR])
def test_nobody_comes_to_two_factors_of_his_own_beside_one_that_was_there(there: str) -> None:
    """Whoever holds an access token alone takes each change that is free, for as long as one is."""
    theirs = having(*SECOND[there])
    user, stolen = theirs, set[CredentialKind]()
    for _ in range(4):
        for kind in (K.PIN, K.DEVICE_FINGERPRINT, K.FACE_MAP):
            if enrolment.step_up(user, adds=kind, when=StepUpFor.TWO_FACTORS) is not None:
                continue
            decision = enrolment.add(
                user,
                another(kind, f"stolen-{kind}-{user.version}"),
                limits=LIMITS,
                now=NOW,
                unasked=StepUpFor.TWO_FACTORS,
            )
            if isinstance(decision, Change):
                user = user_of(decision)
                stolen.add(kind)
    assert len(stolen) <= 1
    kept = {credential.id for credential in user.credentials}
    assert {credential.id for credential in theirs.credentials} <= kept, "nothing of theirs was taken away"


@pytest.mark.parametrize("there", RULE)
@pytest.mark.parametrize("when", StepUpFor)
def test_an_addition_that_was_free_when_it_was_asked_is_refused_if_it_is_no_longer(
    there: str, when: StepUpFor
) -> None:
    user = having(*SECOND[there])
    for kind in (K.DEVICE_FINGERPRINT, K.FACE_MAP):
        decision = add(user, kind, unasked=when)
        if enrolment.step_up(user, adds=kind, when=when) is None:
            assert decision != Refusal(Reason.NOT_READY)
        elif kind not in {KINDS[type(each)] for each in user.credentials}:
            assert decision == Refusal(Reason.NOT_READY)


def test_the_action_is_as_it_was_configured_but_one_factor_is_not_asked_for_two() -> None:
    configured = replace(
        CREDENTIAL_CHANGE, bind=Bind.ACTION, challenges=((Method.PIN,), (Method.SMS, Method.FACE_MAP))
    )

    def asked(*credentials: Credential) -> object:
        return enrolment.step_up(
            having(*credentials), adds=None, when=StepUpFor.TWO_FACTORS, action=configured
        )

    assert asked(PIN, PHONE) is configured
    assert asked(PIN) == replace(configured, risk=Risk.LOW, challenges=None)


def test_the_action_itself_is_sound() -> None:
    assert (CREDENTIAL_CHANGE.name, CREDENTIAL_CHANGE.risk) == ("CREDENTIAL__CHANGE", Risk.HIGH)
    assert CREDENTIAL_CHANGE.bind is Bind.REQUEST, "or a confirmed change could be made another one"
    assert fault(CREDENTIAL_CHANGE) is None
