"""Which action a request carries out, and which paths only look as if it did."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tests.factories import PAYMENT, STATEMENT
from watchword.domain.action import (
    AUTHORISE_SESSION,
    Action,
    Actions,
    AmbiguousPathError,
    Bind,
    Risk,
    Route,
    Spend,
)

ADMIN = Action(name="ADMIN", risk=Risk.HIGH, routes=(Route.parse("GET /admin/{area}"),))
ACTIONS = Actions([PAYMENT, STATEMENT, ADMIN])
PATH = "/v3/profiles/435036/transfers/9/payments"


# --- route templates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET",
        "GET ",
        "get /a",
        "GET a",
        "/a",
        "GET/a",
        "G3T /a",
        "GET /{",
        "GET /a}",
        "GET /{1}",
        "GET /{a:b}",
    ],
)
def test_a_route_that_cannot_be_read_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Route.parse(text)


@pytest.mark.parametrize(
    "template",
    [
        "/x?y=1",
        "/x?",
        "/x#y",
        "/a%20b",
        "/a%2520b",
        "//x",
        "/x//",
        "//",
        "/x;y",
        "/{x};y/z",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/a\\b",
        "/x ",
        "/x\t",
        "/x\n",
        "/ /x",
        "/{x:path} ",
        "/x\0",
    ],
)
def test_a_template_that_no_request_can_match_is_refused_and_shown(template: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{f'GET {template}'!r} cannot match")):
        Route.parse(f"GET {template}")


@pytest.mark.parametrize(
    "template",
    ["/", "/a/", "/.well-known/x", "/a b", "/caf\u00e9", "/a..b", "/100%", "/{x}:pay", "/{x:path}/"],
)
def test_a_template_may_be_any_decoded_path(template: str) -> None:
    route = Route.parse(f"GET {template}")
    filled = re.sub(r"\{[^}]*\}", "1", template)
    only = Action(name="ONLY", risk=Risk.LOW, routes=(route,))
    assert Actions([only]).match("GET", filled) is only


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/a", "/a", True),
        ("/a", "/ab", False),
        ("/a.b", "/axb", False),
        ("/{x}", "/a", True),
        ("/{x}", "/", False),
        ("/{x}", "/a/b", False),
        ("/{x}.json", "/a.json", True),
        ("/{x}.json", "/a.csv", False),
        ("/{x}/{y}", "/a/b", True),
        ("/files/{rest:path}", "/files/a/b/c", True),
        ("/files/{rest:path}", "/files/", True),
        ("/files/{rest:path}", "/file", False),
        ("/{x}/end", "/a\n/end", True),
    ],
)
def test_a_parameter_stands_for_a_part_of_a_segment_or_for_the_rest(
    template: str, path: str, matches: bool
) -> None:
    assert (Route.parse(f"GET {template}").pattern.fullmatch(path) is not None) == matches


@given(
    segments=st.lists(st.sampled_from(["v1", "profiles", "{p}", "{t}", "pay.json"]), min_size=1, max_size=5),
    values=st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=8),
)
def test_a_template_matches_itself_filled_in(segments: list[str], values: str) -> None:
    template = "/" + "/".join(segments)
    path = re.sub(r"\{\w\}", lambda _: values, template)
    assert Route.parse(f"GET {template}").pattern.fullmatch(path)


# --- matching ---------------------------------------------------------------------------------


def test_a_request_is_matched_by_method_and_path() -> None:
    assert ACTIONS.match("POST", PATH) is PAYMENT
    assert ACTIONS.match("GET", PATH) is None
    assert ACTIONS.match("POST", "/v3/profiles/435036/transfers/9") is None
    assert ACTIONS.match("GET", "/v1/rates") is None


def test_a_method_in_lower_case_is_the_same_method() -> None:
    assert ACTIONS.match("post", PATH) is PAYMENT


def test_head_is_protected_as_get_is() -> None:
    assert ACTIONS.match("HEAD", "/admin/users") is ADMIN
    assert ACTIONS.match("OPTIONS", "/admin/users") is None


def test_a_route_for_head_does_not_protect_get() -> None:
    actions = Actions([replace(ADMIN, routes=(Route.parse("HEAD /admin/{area}"),))])
    assert actions.match("GET", "/admin/users") is None


def test_of_two_actions_that_match_the_first_decides() -> None:
    general = replace(ADMIN, name="GENERAL", routes=(Route.parse("GET /{rest:path}"),))
    assert Actions([ADMIN, general]).match("GET", "/admin/users") is ADMIN
    assert Actions([general, ADMIN]).match("GET", "/admin/users") is general


def test_actions_are_found_by_name_and_the_session_has_one_of_its_own() -> None:
    assert ACTIONS.by_name["TRANSFER__FUND"] is PAYMENT
    assert ACTIONS.by_name["IDENTITY__AUTHORISE_SESSION"] is AUTHORISE_SESSION
    assert (AUTHORISE_SESSION.risk, AUTHORISE_SESSION.bind, AUTHORISE_SESSION.spend) == (
        Risk.LOW,
        Bind.ACTION,
        Spend.BEFORE,
    )


# --- lookalikes -------------------------------------------------------------------------------

LOOKALIKES = [
    "//v3/profiles/1/transfers/9/payments",
    "/v3//profiles/1/transfers/9/payments",
    "/./v3/profiles/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/./payments",
    "/public/../v3/profiles/1/transfers/9/payments",
    "/../v3/profiles/1/transfers/9/payments",
    "/public/..;/v3/profiles/1/transfers/9/payments",
    "/public/%2e%2e/v3/profiles/1/transfers/9/payments",
    "/public/%252e%252e/v3/profiles/1/transfers/9/payments",
    "/v3%2fprofiles%2f1%2ftransfers%2f9%2fpayments",
    "/v3\\profiles\\1\\transfers\\9\\payments",
    "/v3%5cprofiles/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/payments;x=1",
    "/v3;x=1/profiles/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/payments/",
    "/v3/profiles/1/transfers/9/payments//",
    "/V3/profiles/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/PAYMENTS",
    "/v3/prof\u0131les/1/transfers/9/payments",
    "/v3/profile\u017f/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/payments\0",
    "/v3/profiles/1/transfers/9/payments\0.html",
    "/v3/profiles/1/transfers/9/payments%00/x",
    "/v3/profiles/1/transfers/9/payments?x",
    "/v3/profiles/1/transfers/9/payments%3Fx/y",
    "/v3/profiles/1/transfers/9/payments#x",
    "/v3/profiles/1/transfers/9/payments ",
    "/v3/profiles/1/transfers/9/payments%20",
    "/v3\uff0fprofiles/1/transfers/9/payments",
    "/v3/profiles/1/transfers/9/\uff50ayments",
]


@pytest.mark.attack(139)
@pytest.mark.parametrize("path", LOOKALIKES)
def test_what_resembles_a_protected_path_is_refused(path: str) -> None:
    with pytest.raises(AmbiguousPathError):
        ACTIONS.match("POST", path)


@pytest.mark.attack(139)
@pytest.mark.parametrize("path", LOOKALIKES)
def test_what_resembles_the_path_of_another_method_is_let_be(path: str) -> None:
    assert ACTIONS.match("DELETE", path) is None


@pytest.mark.attack(139)
@pytest.mark.parametrize("path", ["/Admin/users", "/admin//users", "/files/../admin/users", "/admin/users/"])
def test_a_path_of_one_action_that_resembles_anothers_is_refused(path: str) -> None:
    everything = replace(STATEMENT, name="ANY", routes=(Route.parse("GET /{rest:path}"),))
    with pytest.raises(AmbiguousPathError):
        Actions([ADMIN, everything]).match("GET", path)


@pytest.mark.attack(139)
def test_a_template_with_a_trailing_slash_has_lookalikes_too() -> None:
    actions = Actions([replace(ADMIN, routes=(Route.parse("GET /admin/"),))])
    assert actions.match("GET", "/admin/") is not None
    for path in ("/admin", "/admin//", "//admin/"):
        with pytest.raises(AmbiguousPathError):
            actions.match("GET", path)


@pytest.mark.parametrize("value", ["A", "a b", "x;y", "%41", "..", "a%2Fb"])
def test_a_parameter_may_hold_what_elsewhere_would_be_doubtful_and_stays_protected(value: str) -> None:
    assert ACTIONS.match("POST", f"/v3/profiles/{value}/transfers/9/payments") is PAYMENT


@pytest.mark.parametrize("path", ["/v1/Rates", "/v1//rates", "/", "", "//", "/..", "/admin", "/administer/x"])
def test_doubtful_paths_that_resemble_nothing_protected_are_let_be(path: str) -> None:
    assert ACTIONS.match("GET", path) is None


sloppy = st.lists(
    st.sampled_from(["//", "/./", "/x/../", "/%2e/", "/;a/", "\\", "/%2F"]), min_size=5, max_size=5
)


@pytest.mark.attack(139)
@given(separators=sloppy, upper=st.booleans(), tail=st.sampled_from(["", "/", "?x", "\0", ";x"]))
def test_no_mixture_of_sloppiness_leads_past_a_protected_path(
    separators: list[str], upper: bool, tail: str
) -> None:
    words = ["/v3", "profiles", "1", "transfers", "9", "payments"]
    path = "".join(word + separator for word, separator in zip(words, [*separators, tail], strict=True))
    with pytest.raises(AmbiguousPathError):
        ACTIONS.match("POST", path.upper() if upper else path)


@pytest.mark.parametrize(
    ("wide", "narrow", "within"),
    [
        ("POST /a/{x}", "POST /a/b", True),
        ("POST /a/{x}", "POST /a/{y}", True),
        ("POST /a/{x:path}", "POST /a/b/c", True),
        ("POST /a/{x:path}", "POST /a/{y}/c", True),
        ("POST /a/{x}", "POST /a/{y:path}", False),
        ("POST /a/b", "POST /a/{x}", False),
        ("POST /a/{x}", "PUT /a/b", False),
        ("GET /a/{x}", "HEAD /a/b", True),
    ],
)
def test_a_route_includes_another_whose_requests_are_all_among_its_own(
    wide: str, narrow: str, *, within: bool
) -> None:
    assert Route.parse(wide).includes(Route.parse(narrow)) is within
