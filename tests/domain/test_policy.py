"""Which challenges are asked, and that whoever passes them has proven what was asked."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, strategies as st

from tests.factories import PAYMENT, STATEMENT, make_credential, make_user
from watchword.domain.action import Action, Risk
from watchword.domain.challenge import Challenge, all_passed, open_methods, pass_by
from watchword.domain.decision import Reason, Refusal
from watchword.domain.method import PERSONAL_METHODS, CredentialKind, Factor, Method
from watchword.domain.policy import fault, required
from watchword.domain.user import UserSecurity

PIN, PHONE, DEVICE, KEY = (
    CredentialKind.PIN,
    CredentialKind.PHONE,
    CredentialKind.DEVICE_FINGERPRINT,
    CredentialKind.PUBLIC_KEY,
)
M = Method

kinds = st.lists(st.sampled_from(CredentialKind), unique=True)
listed = st.lists(st.sampled_from(PERSONAL_METHODS), min_size=1, max_size=5, unique=True).map(tuple)
explicit = st.lists(listed, min_size=1, max_size=3).map(tuple)
users = st.builds(
    lambda enrolled, preferred: replace(
        make_user(preferred=preferred), credentials=tuple(map(make_credential, enrolled))
    ),
    kinds,
    st.none() | st.sampled_from(Method),
)
actions = st.builds(
    lambda risk, challenges: replace(PAYMENT, risk=risk, challenges=challenges),
    st.sampled_from(Risk),
    st.none() | explicit,
)


def asked(action: Action, user: UserSecurity) -> list[tuple[Method, ...]]:
    """Return the methods of each challenge that *user* is asked."""
    needed = required(action, user)
    assert not isinstance(needed, Refusal), needed
    return [challenge.methods for challenge in needed[0]]


# --- the default by risk ----------------------------------------------------------------------


def test_low_risk_asks_one_challenge_of_everything_enrolled() -> None:
    assert asked(STATEMENT, make_user(PIN, PHONE)) == [(M.PIN, M.SMS, M.WHATSAPP, M.VOICE)]


def test_the_preferred_method_comes_first() -> None:
    user = make_user(PIN, PHONE, preferred=M.WHATSAPP)
    assert asked(STATEMENT, user) == [(M.WHATSAPP, M.PIN, M.SMS, M.VOICE)]
    assert asked(PAYMENT, user) == [(M.WHATSAPP, M.SMS, M.VOICE), (M.PIN,)]


def test_a_preferred_method_that_is_not_enrolled_is_not_asked() -> None:
    assert asked(STATEMENT, make_user(PHONE, preferred=M.PIN)) == [(M.SMS, M.WHATSAPP, M.VOICE)]


def test_a_person_is_never_asked_to_sign_even_when_that_is_preferred() -> None:
    assert asked(STATEMENT, make_user(PIN, KEY, preferred=M.SIGNATURE)) == [(M.PIN,)]


def test_high_risk_asks_two_challenges_grouped_by_factor() -> None:
    assert asked(PAYMENT, make_user(PIN, PHONE, DEVICE)) == [
        (M.PIN,),
        (M.SMS, M.WHATSAPP, M.VOICE, M.PARTNER_DEVICE_FINGERPRINT),
    ]


def test_codes_to_one_number_and_a_device_are_one_factor_and_not_enough_for_high_risk() -> None:
    refusal = required(PAYMENT, make_user(PHONE, DEVICE))
    assert isinstance(refusal, Refusal)
    assert refusal == Refusal(Reason.NOT_ENROLLED, methods=("PIN", "FACE_MAP"))


def test_whoever_has_nothing_is_told_everything_that_would_do() -> None:
    nobody = UserSecurity(id=make_user().id)
    everything = tuple(method.value for method in PERSONAL_METHODS)
    for action in (STATEMENT, PAYMENT):
        assert required(action, nobody) == Refusal(Reason.NOT_ENROLLED, methods=everything)


def test_a_disabled_credential_counts_as_not_enrolled() -> None:
    disabled = replace(make_credential(PIN), disabled=True)
    user = replace(make_user(PHONE), credentials=(disabled, make_credential(PHONE)))
    assert asked(STATEMENT, user) == [(M.SMS, M.WHATSAPP, M.VOICE)]
    assert isinstance(required(PAYMENT, user), Refusal)


# --- an action's own challenges ---------------------------------------------------------------


def test_an_actions_own_lists_are_asked_as_far_as_they_are_enrolled() -> None:
    action = replace(PAYMENT, challenges=((M.PIN, M.FACE_MAP), (M.VOICE, M.SMS)))
    assert asked(action, make_user(PIN, PHONE)) == [(M.PIN,), (M.VOICE, M.SMS)]


def test_what_is_missing_for_an_actions_own_lists_is_named() -> None:
    action = replace(PAYMENT, challenges=((M.PIN, M.FACE_MAP), (M.VOICE, M.SMS)))
    assert required(action, make_user(PHONE)) == Refusal(Reason.NOT_ENROLLED, methods=("PIN", "FACE_MAP"))


def test_where_each_list_has_a_method_but_not_two_factors_the_rest_of_the_lists_is_named() -> None:
    action = replace(PAYMENT, challenges=((M.PARTNER_DEVICE_FINGERPRINT, M.PIN), (M.SMS,)))
    assert required(action, make_user(PHONE, DEVICE)) == Refusal(Reason.NOT_ENROLLED, methods=("PIN",))


# --- personal tokens --------------------------------------------------------------------------


@pytest.mark.parametrize("action", [STATEMENT, PAYMENT, replace(PAYMENT, challenges=((M.PIN,), (M.SMS,)))])
def test_a_personal_token_is_asked_for_a_signature_alone_at_any_risk(action: Action) -> None:
    assert required(action, make_user(PIN, KEY), signs=True) == ((Challenge(M.SIGNATURE),), 1)


def test_a_personal_token_without_a_key_has_not_enrolled_enough() -> None:
    assert required(STATEMENT, make_user(PIN, PHONE), signs=True) == Refusal(
        Reason.NOT_ENROLLED, methods=("SIGNATURE",)
    )


# --- faults of a configuration ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("risk", "challenges", "words"),
    [
        (Risk.LOW, (), "at least one method each"),
        (Risk.LOW, ((M.PIN,), ()), "at least one method each"),
        (Risk.LOW, ((M.SIGNATURE,),), "SIGNATURE cannot be listed"),
        (Risk.LOW, ((M.SMS,), (M.WHATSAPP, M.VOICE)), "can never all be passed"),
        (Risk.HIGH, ((M.PIN,),), "two different factors"),
        (Risk.HIGH, ((M.SMS,), (M.PARTNER_DEVICE_FINGERPRINT,)), "two different factors"),
    ],
)
def test_a_configuration_that_cannot_be_passed_is_a_fault(
    risk: Risk, challenges: tuple[tuple[Method, ...], ...], words: str
) -> None:
    assert words in (fault(replace(PAYMENT, risk=risk, challenges=challenges)) or "")


@pytest.mark.parametrize(
    ("risk", "challenges"),
    [
        (Risk.LOW, None),
        (Risk.HIGH, None),
        (Risk.LOW, ((M.SMS,),)),
        (Risk.LOW, ((M.SMS,), (M.PARTNER_DEVICE_FINGERPRINT,))),
        (Risk.HIGH, ((M.PIN,), (M.SMS, M.WHATSAPP, M.VOICE))),
        (Risk.HIGH, ((M.PIN, M.SMS), (M.SMS, M.PIN))),
    ],
)
def test_a_configuration_that_can_be_passed_has_no_fault(
    risk: Risk, challenges: tuple[tuple[Method, ...], ...] | None
) -> None:
    assert fault(replace(PAYMENT, risk=risk, challenges=challenges)) is None


# --- what holds for every policy and every user -----------------------------------------------


@pytest.mark.attack(23)
@given(action=actions, user=users, data=st.data())
def test_whatever_open_method_is_passed_next_the_token_comes_to_be_passed_with_enough_factors(
    action: Action, user: UserSecurity, data: st.DataObject
) -> None:
    needed = required(action, user)
    assume(not isinstance(needed, Refusal))
    assert not isinstance(needed, Refusal)
    challenges, factors = needed
    passed: list[Method] = []
    while not all_passed(challenges):
        offers = open_methods(challenges, factors=factors)
        for challenge, offer in zip(challenges, offers, strict=True):
            assert set(offer) <= set(challenge.methods)
            # No dead end: each challenge that is left can still be passed; one that is passed cannot again.
            assert bool(offer) == (challenge.passed_by is None)
        method = data.draw(st.sampled_from(sorted({method for offer in offers for method in offer})))
        after = pass_by(challenges, method, factors=factors)
        assert after is not None
        challenges = after
        passed.append(method)
    assert {challenge.passed_by for challenge in challenges} == set(passed)
    assert len({method.factor for method in passed}) >= factors == (2 if action.risk is Risk.HIGH else 1)
    assert len({method.credential for method in passed}) == len(passed) == len(challenges)
    assert {method.credential for method in passed} <= user.enrolled()
    assert open_methods(challenges, factors=factors) == [()] * len(challenges)


@pytest.mark.attack(23)
def test_a_method_that_nothing_asks_for_or_that_passed_already_passes_nothing() -> None:
    asked = (Challenge(Method.PIN),)
    assert pass_by(asked, Method.SMS, factors=1) is None
    passed = pass_by(asked, Method.PIN, factors=1)
    assert passed is not None
    assert pass_by(passed, Method.PIN, factors=1) is None


@pytest.mark.attack(23)
@given(action=actions, user=users, method=st.sampled_from(Method))
def test_a_method_that_is_not_open_passes_nothing(action: Action, user: UserSecurity, method: Method) -> None:
    needed = required(action, user)
    assume(not isinstance(needed, Refusal))
    assert not isinstance(needed, Refusal)
    challenges, factors = needed
    is_open = any(method in offer for offer in open_methods(challenges, factors=factors))
    assert (pass_by(challenges, method, factors=factors) is not None) == is_open


@given(action=actions)
def test_what_has_no_fault_can_be_passed_by_a_user_who_has_everything(action: Action) -> None:
    assume(fault(action) is None)
    # Nobody can enrol a face map yet: an action that rests on it refuses everybody, which is safe.
    without_face = replace(
        action,
        challenges=action.challenges
        and tuple(tuple(m for m in listed if m is not M.FACE_MAP) for listed in action.challenges),
    )
    assume(fault(without_face) is None)
    needed = required(action, make_user())
    assert not isinstance(needed, Refusal)
    challenges, factors = needed
    assert factors == (2 if action.risk is Risk.HIGH else 1)
    assert all(open_methods(challenges, factors=factors))


@given(action=actions.filter(lambda action: fault(action) is None), user=users)
def test_whoever_enrols_the_named_methods_is_no_longer_refused(action: Action, user: UserSecurity) -> None:
    refusal = required(action, user)
    named = {Method(name) for name in refusal.methods} if isinstance(refusal, Refusal) else set[Method]()
    assert bool(named) == isinstance(refusal, Refusal)
    assert not {method.credential for method in named} & user.enrolled()
    if M.FACE_MAP not in named:  # Nobody can enrol one yet.
        more = tuple(make_credential(kind) for kind in {method.credential for method in named})
        assert not isinstance(required(action, replace(user, credentials=user.credentials + more)), Refusal)


def test_of_several_missing_methods_those_that_suffice_alone_are_named() -> None:
    action = replace(PAYMENT, challenges=((M.PIN, M.PARTNER_DEVICE_FINGERPRINT), (M.SMS, M.FACE_MAP)))
    assert required(action, make_user(PIN)) == Refusal(Reason.NOT_ENROLLED, methods=("SMS", "FACE_MAP"))


def test_methods_that_need_one_credential_twice_do_not_suffice_alone() -> None:
    action = replace(STATEMENT, challenges=((M.SMS,), (M.WHATSAPP, M.PIN), (M.PARTNER_DEVICE_FINGERPRINT,)))
    assert required(action, make_user(PHONE)) == Refusal(
        Reason.NOT_ENROLLED, methods=("PIN", "PARTNER_DEVICE_FINGERPRINT")
    )


def test_one_factor_is_never_another() -> None:
    assert {method: method.factor for method in Method if not method.is_code} == {
        M.PIN: Factor.KNOWLEDGE,
        M.PARTNER_DEVICE_FINGERPRINT: Factor.POSSESSION,
        M.FACE_MAP: Factor.INHERENCE,
        M.SIGNATURE: Factor.POSSESSION,
    }
    assert {method for method in Method if method.is_code} == {M.SMS, M.WHATSAPP, M.VOICE}
    assert {(method.factor, method.credential) for method in Method if method.is_code} == {
        (Factor.POSSESSION, PHONE)
    }
