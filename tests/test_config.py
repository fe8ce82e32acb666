"""Configuration: every mistake is named, and all of them together."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from watchword.config import ConfigError, load, parse
from watchword.domain.action import Bind, Risk, Spend
from watchword.domain.enrolment import StepUpFor
from watchword.domain.limits import Limits
from watchword.domain.method import Method
from watchword.sandbox.world import ACTIONS

CONTRACT = """
[session]
seconds = 300                 # 0: no low-risk window

[[actions]]
name = "TRANSFER__FUND"
risk = "high"                 # or "low"
match = ["POST /v3/profiles/{profileId}/transfers/{transferId}/payments"]
challenges = [["PIN"], ["SMS", "WHATSAPP", "VOICE"]]   # optional
bind = "request"              # or "action"
spend = "before"              # or "on-success"
"""
TEN_YEARS = 10 * 365 * 24 * 60 * 60
LEAST = {
    "resend_seconds": 0,
    "disable_pin_after": 0,
    "disable_possession_after": 0,
    "disable_face_after": 0,
    "lock_seconds": 60,
    "pin_digits": 4,
    "high_risk_after_seconds": 0,
}
MOST = {
    "failures": 5,
    "code_tries": 5,
    "code_seconds": 600,
    "disable_pin_after": 10,
    "disable_possession_after": 100,
    "disable_face_after": 50,
    "tokens_live": 1_000,
    "sends_per_token": 100,
    "sends_per_number": 10_000,
    "pin_digits": 12,
    "device_fingerprints": 100,
    "public_keys": 5,
    "keys_per_application": 1_000,
}
NAMES = [
    field.name for field in fields(Limits) if field.name not in {"session_seconds", "spend_within_seconds"}
]


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, source="watchword.toml")
    assert str(caught.value).startswith("watchword.toml: ")
    assert "\n" not in str(caught.value)
    for mistake in caught.value.mistakes:
        assert mistake in str(caught.value)
    return caught.value.mistakes


def action(**members: Any) -> str:
    shown = {"name": "A__B", "risk": "low", "match": ["GET /a"]} | members
    lines = [f"{name} = {value!r}" for name, value in shown.items() if value is not None]
    return "[[actions]]\n" + "\n".join(lines).replace("True", "true") + "\n"


def test_the_contract_s_example_is_read_as_it_says() -> None:
    config = parse(CONTRACT)
    assert config.limits == {"session_seconds": 300}
    assert config.actions is not None
    (only,) = config.actions
    assert (only.name, only.risk, only.bind, only.spend) == (
        "TRANSFER__FUND",
        Risk.HIGH,
        Bind.REQUEST,
        Spend.BEFORE,
    )
    assert only.challenges == ((Method.PIN,), (Method.SMS, Method.WHATSAPP, Method.VOICE))
    (route,) = only.routes
    assert (route.method, route.template) == (
        "POST",
        "/v3/profiles/{profileId}/transfers/{transferId}/payments",
    )


def test_nothing_is_said_by_an_empty_file() -> None:
    config = parse("")
    assert config.actions is None
    assert config.limits == {}


def test_an_empty_list_of_actions_is_not_no_list() -> None:
    assert parse("actions = []").actions == ()


@pytest.mark.parametrize(("risk", "bind"), [("high", Bind.REQUEST), ("low", Bind.ACTION)])
def test_the_default_binding_goes_by_risk(risk: str, bind: Bind) -> None:
    (only,) = parse(action(risk=risk)).actions or ()
    assert only.bind is bind
    (other,) = parse(action(risk=risk, bind="request", spend="on-success")).actions or ()
    assert (other.bind, other.spend) == (Bind.REQUEST, Spend.ON_SUCCESS)


def test_all_mistakes_are_reported_together() -> None:
    found = mistakes(
        """
        sesion = 1
        [session]
        seconds = -1
        [limits]
        failures = 6
        code_trys = 5
        lock_seconds = "long"
        [[actions]]
        name = "ONE"
        risk = "medium"
        [[actions]]
        name = "TWO"
        risk = "high"
        challenges = [["SMS"], ["VOICE"]]
        [[actions]]
        name = "THREE"
        risk = "low"
        match = ["GET a"]
        [[actions]]
        name = "FOUR"
        risk = "low"
        [[actions]]
        name = "FOUR"
        risk = "low"
        """
    )
    for words in (
        "sesion: unknown",
        "session.seconds: must be from 0",
        "limits.failures: must be from 1 to 5, not 6",
        "limits.code_trys: unknown",
        "limits.lock_seconds: must be a whole number",
        "actions: ONE: risk: Invalid enum value 'medium'",
        "actions: TWO: ",
        "actions: THREE: 'GET a'",
        "actions: FOUR: stands twice",
    ):
        assert sum(mistake.startswith(words) for mistake in found) == 1, (words, found)
    assert len(found) == 9


@pytest.mark.parametrize(
    "challenges",
    [
        [["SMS"], ["VOICE"]],
        [["SMS", "WHATSAPP"], ["VOICE", "PARTNER_DEVICE_FINGERPRINT"]],
        [["PIN"]],
        [["PIN", "SMS"]],
        [["PIN"], ["PIN"]],
        [["SMS"], ["SMS", "VOICE"]],
    ],
)
@pytest.mark.attack(174)
def test_a_high_risk_action_that_can_never_ask_for_two_factors_is_refused_by_name(
    challenges: list[list[str]],
) -> None:
    (found,) = mistakes(action(name="PAY__OUT", risk="high", challenges=challenges))
    assert found.startswith("actions: PAY__OUT: ")


@pytest.mark.parametrize(
    "challenges",
    [
        [["PIN"], ["SMS"]],
        [["PIN", "SMS"], ["VOICE", "PARTNER_DEVICE_FINGERPRINT"]],
        [["FACE_MAP"], ["SMS"]],
        [["SMS", "PIN"], ["SMS", "PIN"]],
        [["PIN"], ["SMS"], ["FACE_MAP"]],
    ],
)
def test_one_that_can_is_taken(challenges: list[list[str]]) -> None:
    assert parse(action(risk="high", challenges=challenges)).actions


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"name": ""}, "actions, entry 1: its name is empty"),
        ({"name": None}, "actions, entry 1: name: must be there"),
        ({"name": 7}, "actions, entry 1: name: Expected `str`, got `int`"),
        ({"risk": None}, "actions: A__B: risk: must be there"),
        ({"risk": "High"}, "actions: A__B: risk: Invalid enum value 'High'"),
        ({"matches": ["GET /a"]}, "actions: A__B: matches: unknown; known are bind, "),
        ({"bind": "body"}, "actions: A__B: bind: Invalid enum value 'body'"),
        ({"spend": "after"}, "actions: A__B: spend: Invalid enum value 'after'"),
        ({"match": "GET /a"}, "actions: A__B: match: Expected `array`, got `str`"),
        ({"match": ["get /a"]}, "actions: A__B: 'get /a' is not of the form"),
        ({"match": ["GET /a/{b"]}, "actions: A__B: 'GET /a/{b' has a brace"),
        ({"match": ["GET  /a"]}, "actions: A__B: 'GET  /a' is not of the form"),
        ({"match": ["GET /a?b=1"]}, "actions: A__B: 'GET /a?b=1' cannot match"),
        ({"challenges": []}, "actions: A__B: challenges must hold"),
        ({"challenges": [[]]}, "actions: A__B: challenges must hold"),
        ({"challenges": [["PIN"], []]}, "actions: A__B: challenges must hold"),
        ({"challenges": [["pin"]]}, "actions: A__B: challenges[1][1]: Invalid enum value 'pin'"),
        ({"challenges": ["PIN"]}, "actions: A__B: challenges[1]: Expected `array`, got `str`"),
        ({"challenges": [["SIGNATURE"]]}, "actions: A__B: SIGNATURE cannot be listed"),
        ({"challenges": [["SMS"], ["VOICE"]]}, "actions: A__B: its challenges can never all be passed"),
    ],
)
def test_a_mistake_in_an_action_is_named(members: dict[str, Any], words: str) -> None:
    (found,) = mistakes(action(**members))
    assert found.startswith(words), found


def test_one_route_belongs_to_one_action() -> None:
    text = action(name="ONE", match=["GET /a/{x}"]) + action(name="TWO", match=["GET /a/{y}"])
    (found,) = mistakes(text)
    assert found.startswith("actions: TWO: GET /a/{y} belongs to ONE")
    assert parse(action(name="ONE", match=["GET /a/{x}"]) + action(name="TWO", match=["POST /a/{y}"])).actions


@pytest.mark.attack(174)
@pytest.mark.parametrize(
    ("broad", "narrow"),
    [
        ("POST /x/{r:path}", "POST /x/pay"),
        ("POST /x/{r:path}", "POST /x/{id}/pay"),
        ("POST /{r:path}", "POST /x/{q:path}"),
        ("POST /x{r:path}", "POST /x/{q:path}"),
        ("POST /{r:path}/pay", "POST /x/{id}/pay"),
        ("POST /x/{id}", "POST /x/pay"),
        ("POST /x/{id}", "POST /x/{name}.json"),
        ("POST /{a}/{b}", "POST /x/{b}"),
        ("GET /x/{id}", "HEAD /x/pay"),
        ("GET /x", "HEAD /x"),
    ],
)
def test_an_action_that_a_broader_one_would_hide_is_refused_and_comes_first(broad: str, narrow: str) -> None:
    """Otherwise ``low "POST /x/{r:path}"`` would decide for ``high "POST /x/pay"``, and nobody would know."""
    low, high = action(name="WIDE", match=[broad]), action(name="PAY", risk="high", match=[narrow])
    (found,) = mistakes(low + high)
    assert found.startswith(
        f"actions: PAY: {narrow} is never reached, since {broad} of WIDE stands before it"
    )
    assert "put the narrower one, PAY, first" in found
    assert parse(high + low).actions


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("POST /x/{id}", "POST /y/{id}"),
        ("POST /x/{r:path}", "GET /x/pay"),
        ("HEAD /x/{r:path}", "GET /x/pay"),
        ("POST /x/{r:path}", "POST /x"),
        ("POST /x/{id}", "POST /x/{id}/pay"),
    ],
)
def test_actions_that_hide_nothing_stand_in_any_order(first: str, second: str) -> None:
    one, two = action(name="ONE", match=[first]), action(name="TWO", match=[second])
    assert parse(one + two).actions
    assert parse(two + one).actions


def test_an_action_may_have_a_broad_and_a_narrow_route_in_any_order() -> None:
    assert parse(action(match=["GET /{r:path}", "GET /x/{id}", "GET /x/pay"])).actions


def test_the_sandbox_s_own_actions_are_a_policy_that_loads() -> None:
    text = "".join(
        action(
            name=each.name,
            risk=each.risk.value,
            match=[f"{route.method} {route.template}" for route in each.routes],
        )
        for each in ACTIONS
    )
    assert [each.routes for each in parse(text).actions or ()] == [each.routes for each in ACTIONS]


def test_a_name_of_ours_cannot_be_taken() -> None:
    """An action so called would be cleared by any low-risk session's token."""
    (found,) = mistakes(action(name="IDENTITY__AUTHORISE_SESSION"))
    assert found.startswith("actions: IDENTITY__AUTHORISE_SESSION: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("actions = 1", "actions: must be tables"),
        ("actions = [1]", "actions, entry 1: Expected `object`, got `int`"),
        ("limits = 1", "limits: must be a table"),
        ("session = 1", "session: Expected `object`, got `int`"),
        ("[session]\nsecond = 1", "session.second: unknown; known are seconds"),
        ("[session]\nseconds = 1.5", "session.seconds: Expected `int`, got `float`"),
        ("[session]\nseconds = true", "session.seconds: Expected `int`, got `bool`"),
        ("[limits]\nsession_seconds = 1", "limits.session_seconds: unknown"),
        ("[limits]\nfailures = true", "limits.failures: must be a whole number"),
        ("[limits]\nfailures = 4.0", "limits.failures: must be a whole number"),
        ("[limits]\nfailures = '4'", "limits.failures: must be a whole number"),
        ("[stores]", "stores: unknown; known are actions, app, applications, delivery, enrolment, face, "),
        ("enrolment = 1", "enrolment: Expected `object`, got `int`"),
        ("[enrolment]\nstep_up = 'always'", "enrolment.step_up: Invalid enum value 'always'"),
        (
            "[enrolment]\nrefuse_trivial_pins = 1",
            "enrolment.refuse_trivial_pins: Expected `bool | null`, got `int`",
        ),
        (
            "[enrolment]\nstepup = 'nothing'",
            "enrolment.stepup: unknown; known are refuse_trivial_pins, step_up",
        ),
        ("[", "not TOML: "),
        ("[session]\nseconds = " + "1" * 5_000, "not TOML: Exceeds the limit"),
        ("x = " + "[" * 100_000, "not TOML that can be read: it is nested too deeply"),
        ("[session]\nseconds = 1\nseconds = 2", "not TOML: "),
    ],
)
def test_a_mistake_elsewhere_is_named(text: str, words: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(words), found


@pytest.mark.attack(174)
@pytest.mark.parametrize("name", NAMES)
def test_each_limit_is_taken_at_its_bounds_and_refused_beyond(name: str) -> None:
    least, most = LEAST.get(name, 1), MOST.get(name, TEN_YEARS)
    for value in (least, most):
        assert parse(f"[limits]\n{name} = {value}").limits == {name: value}
    for value in (least - 1, most + 1, 2**70):
        (found,) = mistakes(f"[limits]\n{name} = {value}")
        assert found == f"limits.{name}: must be from {least} to {most}, not {value}"


@pytest.mark.parametrize(
    ("value", "taken"), [(-1, False), (0, True), (1, True), (TEN_YEARS, True), (TEN_YEARS + 1, False)]
)
def test_the_session_is_taken_at_its_bounds(value: int, taken: bool) -> None:
    text = f"[session]\nseconds = {value}"
    if taken:
        assert parse(text).limits == {"session_seconds": value}
    else:
        assert mistakes(text) == [f"session.seconds: must be from 0 to {TEN_YEARS}, not {value}"]


@pytest.mark.parametrize("asked", StepUpFor)
def test_what_is_asked_for_before_credentials_change_is_as_the_file_says(asked: StepUpFor) -> None:
    enrolment = parse(f"[enrolment]\nstep_up = '{asked}'\nrefuse_trivial_pins = true").enrolment
    assert all(enrolment.when(otherwise) is asked for otherwise in StepUpFor)
    assert not enrolment.trivial_pins(otherwise=True)
    assert parse("[enrolment]\nrefuse_trivial_pins = false").enrolment.trivial_pins(otherwise=False)


def test_what_a_file_does_not_say_of_enrolment_is_left_to_whoever_reads_it() -> None:
    for enrolment in (parse("").enrolment, parse("[enrolment]").enrolment):
        assert [enrolment.when(otherwise) for otherwise in StepUpFor] == list(StepUpFor)
        assert enrolment.trivial_pins(otherwise=True)
        assert not enrolment.trivial_pins(otherwise=False)


def test_tables_about_a_server_are_kept_for_whoever_composes_one() -> None:
    assert parse("[server]\nport = 1\n[[issuers]]\n[session]").serving == {
        "server": {"port": 1},
        "issuers": [{}],
    }


def test_no_time_to_spend_within_is_as_long_as_the_token_lives() -> None:
    assert parse("[limits]\nspend_within_seconds = 0").limits == {"spend_within_seconds": None}
    assert parse("[limits]\nspend_within_seconds = 1").limits == {"spend_within_seconds": 1}
    assert mistakes("[limits]\nspend_within_seconds = -1")


def test_what_is_read_makes_limits() -> None:
    """Each name is a field of ``Limits``, and each default of ours within its bounds."""
    for name in NAMES:
        value = getattr(Limits(), name)
        read: dict[str, Any] = dict(parse(f"[limits]\n{name} = {value}").limits)
        assert Limits(**read) == Limits()


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "watchword.toml"
    path.write_text(CONTRACT, encoding="utf-8")
    assert load(path).actions == parse(CONTRACT).actions


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, words in (
        (missing, "No such file"),
        (tmp_path, "directory"),
        (binary, "not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)


# --- what the customer is shown -------------------------------------------------------------------

KEYS = (
    "must be one of amount, currency, payee, account, reference, or a word of your own: small letters, digits"
    " and _, 32 at the most"
)


def shows(**members: Any) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in members.items())
    return f'[[actions]]\nname = "A__B"\nrisk = "high"\nmatch = ["POST /a"]\n{lines}\n'


def test_a_title_is_for_every_language_or_by_language() -> None:
    assert (parse(shows()).actions or ())[0].title == ()
    assert (parse(shows(title='"Pay"')).actions or ())[0].title == (("", "Pay"),)
    several = '{ en = "Pay", de = "Bezahlen", ar = "ادفع", zh-Hant = "付款" }'
    assert (parse(shows(title=several)).actions or ())[0].title == (
        ("en", "Pay"),
        ("de", "Bezahlen"),
        ("ar", "ادفع"),
        ("zh-Hant", "付款"),
    )


@pytest.mark.parametrize(("length", "fits"), [(0, False), (1, True), (119, True), (120, True), (121, False)])
def test_a_title_is_as_long_as_one(length: int, *, fits: bool) -> None:
    text = shows(title=repr("a" * length))
    if fits:
        assert parse(text).actions
    else:
        assert mistakes(text) == [
            "actions: A__B: title: must be what the customer calls it, of 1 to 120 characters"
        ]


@pytest.mark.attack(125)
@pytest.mark.parametrize("title", ['"a\\u0000"', '"a\\nb"', '"a\\u202eb"', '"a\\u2028b"', '"a\\ue000b"'])
def test_a_title_has_no_character_that_nobody_sees(title: str) -> None:
    assert mistakes(shows(title=title)) == [
        "actions: A__B: title: holds a control character; write letters that everybody sees"
    ]


def test_a_title_s_mistakes_are_named_by_language() -> None:
    assert mistakes(shows(title='{ EN = "Pay", "<b>" = "Pay", de = "", fr = "  ", es = "a\\u0001" }')) == [
        'actions: A__B: title.EN: is no language; write one as browsers do, { en = "Pay", de = "Bezahlen" }',
        'actions: A__B: title.<b>: is no language; write one as browsers do, { en = "Pay", de = "Bezahlen" }',
        "actions: A__B: title.de: must be what the customer calls it, of 1 to 120 characters",
        "actions: A__B: title.fr: must be what the customer calls it, of 1 to 120 characters",
        "actions: A__B: title.es: holds a control character; write letters that everybody sees",
    ]


def test_what_is_shown_is_kept_in_its_order() -> None:
    table = '{ payee = "/to/0/name", amount = "/amount", a_1 = "/a~1b/~0", currency = "/" }'
    assert (parse(shows(show=table)).actions or ())[0].show == (
        ("payee", "/to/0/name"),
        ("amount", "/amount"),
        ("a_1", "/a~1b/~0"),
        ("currency", "/"),
    )


@pytest.mark.parametrize("bind", ['risk = "low"', 'risk = "high"\nbind = "action"'])
def test_only_what_a_token_is_bound_to_is_shown(bind: str) -> None:
    text = shows(show='{ amount = "/amount" }').replace('risk = "high"', bind)
    assert mistakes(text) == [
        'actions: A__B: show: what is shown must be what is approved; write bind = "request" too'
    ]


def test_nothing_is_shown_of_a_body_that_is_not_there() -> None:
    text = shows(show='{ amount = "/amount" }').replace('["POST /a"]', '["POST /a", "GET /b"]')
    assert mistakes(text) == [
        "actions: A__B: show: reads the body, and GET /b has none; give that one an action of its own"
    ]


@pytest.mark.parametrize("pointer", ["", "amount", "#/amount", "/a~", "/a~2", "$.amount", "/" + "a" * 512])
def test_a_pointer_that_is_none_is_named(pointer: str) -> None:
    assert mistakes(shows(show=f'{{ amount = "{pointer}" }}')) == [
        'actions: A__B: show.amount: must be a JSON Pointer (RFC 6901) into the body, such as "/amount/value"'
    ]


def test_a_key_that_is_none_is_named() -> None:
    assert mistakes(shows(show='{ "Amount" = "/a", "<b>" = "b" }')) == [
        f"actions: A__B: show.Amount: {KEYS}",
        f"actions: A__B: show.<b>: {KEYS}",
        'actions: A__B: show.<b>: must be a JSON Pointer (RFC 6901) into the body, such as "/amount/value"',
    ]


@pytest.mark.parametrize(("count", "fits"), [(15, True), (16, True), (17, False)])
def test_sixteen_details_are_shown_at_the_most(count: int, *, fits: bool) -> None:
    table = ", ".join(f'k{number} = "/{number}"' for number in range(count))
    text = shows(show=f"{{ {table} }}")
    if fits:
        assert parse(text).actions
    else:
        assert mistakes(text) == ["actions: A__B: show: 16 details at the most can be shown, not 17"]


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("title = 1", "title"),
        ("title = [1]", "title"),
        ("title = { en = 1 }", "title.en"),
        ("show = 1", "show"),
        ("show = { a = 1 }", "show.a"),
    ],
)
def test_what_is_shown_is_text(member: str, place: str) -> None:
    name, _, value = member.partition(" = ")
    (only,) = mistakes(shows(**{name: value}))
    assert only.startswith(f"actions: A__B: {place}: Expected ")


def test_each_member_of_an_action_that_is_wrong_is_named_at_once() -> None:
    found = mistakes(
        """
        [[actions]]
        name = "ONE"
        match = ["GET a", "POST /b", "PUT c"]
        shows = { amount = "/amount" }
        show = { amount = 1, payee = "/to", account = true }
        title = { en = "Pay", de = 7 }
        challenges = [["PIN"], ["SMS", "sms"], "VOICE"]
        """
    )
    assert [each.partition(" Expected")[0].partition(" Invalid")[0] for each in found] == [
        ("actions: ONE: shows: unknown; known are bind, challenges, match, name, risk, show, spend, title"),
        "actions: ONE: show.amount:",
        "actions: ONE: show.account:",
        "actions: ONE: title.de:",
        "actions: ONE: challenges[2][2]:",
        "actions: ONE: challenges[3]:",
        "actions: ONE: risk: must be there",
    ]


def test_each_route_that_is_none_is_named() -> None:
    first, second = mistakes(action(match=["GET a", "POST /b", "PUT c"]))
    assert first.startswith("actions: A__B: 'GET a' is not of the form")
    assert second.startswith("actions: A__B: 'PUT c' is not of the form")
