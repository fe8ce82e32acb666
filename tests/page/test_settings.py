"""What an operator decides: exact origins, titles in the customer's language, applications by their names."""

import pytest

from watchword.domain.action import Action, Risk
from watchword.page.openers import LOOPBACK, covers
from watchword.page.settings import (
    OPENERS_MAX,
    PageApplication,
    PageSettings,
    openers_faults,
    origin_fault,
    titles_of,
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example.com",
        "https://shop.example.com:8443",
        "https://example.com:80",
        "https://xn--bcher-kva.example",
        "https://10.0.0.7",
        "https://10.0.0.7:1",
        "https://a-b.c_d.example:65535",
        "https://1.example",
        "https://1password.com",
        "https://intranet",
        "https://localhost",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8000",
        f"https://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}",
    ],
)
def test_an_origin_as_browsers_write_it_is_taken(origin: str) -> None:
    assert origin_fault(origin) is None


ORIGIN = 'must be an origin: scheme and host, such as "https://shop.example.com"'
HOST = 'has no host that can be; write its name, such as "https://shop.example.com"'
PORT = "has no port that can be; write one from 1 to 65535, or none"
USER = "holds a user name, behind which the host stands; write scheme and host alone"
PUNYCODE = "has a name that is not ASCII; write it as browsers send it, in Punycode: xn--…"
MANY = "stands for more than one origin; write each one out"
ADDRESS = "has an address that browsers write in another way; write four numbers, such as 10.0.0.7"


def other_way(origin: str) -> str:
    return f'is written by browsers in another way; write "{origin}"'


@pytest.mark.parametrize(
    ("origin", "fault"),
    [
        ("", ORIGIN),
        ("*", ORIGIN),
        ("null", ORIGIN),
        ("'self'", ORIGIN),
        ("shop.example.com", ORIGIN),
        ("//shop.example.com", ORIGIN),
        ("https:shop.example.com", ORIGIN),
        ("ftp://shop.example.com", ORIGIN),
        ("javascript://shop.example.com", ORIGIN),
        (" https://shop.example.com", ORIGIN),
        ("https://*.example.com", MANY),
        ("https://*", MANY),
        ("https://shop.example.com:*", MANY),
        ("https://", HOST),
        ("https:///shop", HOST),
        ("https://.example.com", HOST),
        ("https://shop..example.com", HOST),
        ("https://example.com.", HOST),
        ("https://-shop.example.com", HOST),
        ("https://shop.example.com;script-src *", MANY),
        ("https://a.example https://b.example", HOST),
        ("https://shop.example.com; sandbox", HOST),
        ("https://shop,example.com", HOST),
        ("https://sh%6fp.example.com", HOST),
        ("https://shop.example.com\n", HOST),
        (f"https://{'a' * 64}.example", HOST),
        (f"https://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 62}", HOST),
        ("https://shop.example.com:", PORT),
        ("https://shop.example.com:0", PORT),
        ("https://shop.example.com:080", PORT),
        ("https://shop.example.com:65536", PORT),
        ("https://shop.example.com:443x", PORT),
        ("https://shop.example.com:1:2", PORT),
        (
            "https://bücher.example",
            "has a name that is not ASCII; write it as browsers send it, in Punycode: xn--…",
        ),
        ("https://[::1]", 'names an IPv6 address; write a name, or "http://127.0.0.1" for this machine'),
        ("https://10.7", ADDRESS),
        ("https://167772167", ADDRESS),
        ("https://0x7f.0.0.1", ADDRESS),
        ("https://010.0.0.7", ADDRESS),
        ("https://10.0.0.256", ADDRESS),
        ("https://10.0.0.7.1", ADDRESS),
        ("https://shop.0xff", ADDRESS),
        (
            "http://shop.example.com",
            'is not encrypted, so that anybody on the way could be it; write "https://shop.example.com"',
        ),
        (
            "http://localhost.example.com:80",
            'is not encrypted, so that anybody on the way could be it; write "https://localhost.example.com:80"',
        ),
        ("https://Shop.Example.com", other_way("https://shop.example.com")),
        ("HTTPS://shop.example.com", other_way("https://shop.example.com")),
        ("https://shop.example.com/", other_way("https://shop.example.com")),
        ("https://shop.example.com/pay", other_way("https://shop.example.com")),
        ("https://shop.example.com:443", other_way("https://shop.example.com")),
        ("http://localhost:80", other_way("http://localhost")),
        ("https://shop.example.com?x", other_way("https://shop.example.com")),
        ("https://shop.example.com#x", other_way("https://shop.example.com")),
        ("https://shop.example.com\\x", other_way("https://shop.example.com")),
        ("https://shop.example.com@evil.example", USER),
        ("https://ada:pass@shop.example.com", USER),
    ],
)
def test_whatever_is_not_one_exact_origin_is_refused_with_what_to_write(origin: str, fault: str) -> None:
    assert origin_fault(origin) == fault


@pytest.mark.parametrize(
    ("count", "fits"), [(OPENERS_MAX - 1, True), (OPENERS_MAX, True), (OPENERS_MAX + 1, False)]
)
def test_a_list_has_32_origins_at_the_most(count: int, *, fits: bool) -> None:
    assert OPENERS_MAX == 32
    found = list(openers_faults(f"https://{number}.example" for number in range(count)))
    assert found == (
        [] if fits else [": must be 32 origins at the most, not 33; give applications their own"]
    )


def test_every_mistake_of_a_list_is_named_by_its_number() -> None:
    assert list(openers_faults(["https://a.example", "*", "https://a.example", "https://b.example/"])) == [
        f"[2]: {ORIGIN}",
        "[3]: stands twice; leave one out",
        f"[4]: {other_way('https://b.example')}",
    ]


SETTINGS = PageSettings(
    origin="https://bank.example:8443",
    openers=("https://shop.example", "https://other.example"),
    applications={
        "shop": PageApplication(name="The Shop"),
        "portal": PageApplication(openers=("https://portal.example", "https://shop.example")),
        "batch": PageApplication(name="Batch", openers=()),
    },
)


def test_an_application_s_own_openers_stand_in_place_of_those_of_all_others() -> None:
    for application in (None, "shop", "never-heard-of"):
        assert SETTINGS.openers_of(application) == ("https://shop.example", "https://other.example")
    assert SETTINGS.openers_of("portal") == ("https://portal.example", "https://shop.example")
    assert SETTINGS.openers_of("batch") == ()
    assert SETTINGS.all_openers == ("https://shop.example", "https://other.example", "https://portal.example")


def test_nobody_opens_the_page_by_default() -> None:
    settings = PageSettings()
    assert settings.all_openers == settings.openers_of(None) == settings.openers_of("shop") == ()
    assert (settings.origin, settings.host, settings.secure) == ("", "", True)


def test_an_application_is_called_what_the_operator_says_and_never_by_its_id() -> None:
    assert SETTINGS.asked_by("shop") == "The Shop"
    assert [SETTINGS.asked_by(each) for each in ("portal", "never-heard-of", None)] == ["", "", ""]


def test_codes_are_bound_to_the_host_of_the_page() -> None:
    assert SETTINGS.host == "bank.example"


@pytest.mark.parametrize(
    ("title", "languages", "found"),
    [
        ((("", "Pay"),), ("en", "de", "ar"), "Pay"),
        ((("en", "Pay"), ("de", "Bezahlen")), ("de",), "Bezahlen"),
        ((("en", "Pay"), ("de", "Bezahlen")), ("de-AT",), "Bezahlen"),
        ((("de", "Bezahlen"), ("en", "Pay")), ("fr", "ar"), "Pay"),
        ((("", "Zahl"), ("en", "Pay")), ("fr",), "Zahl"),
        ((("de", "Bezahlen"), ("fr", "Payer")), ("ar", "en"), "Bezahlen"),
        ((), ("en",), ""),
    ],
)
def test_a_title_is_in_the_customer_s_language_or_in_one_that_there_is(
    title: tuple[tuple[str, str], ...], languages: tuple[str, ...], found: str
) -> None:
    action = Action(name="A__B", risk=Risk.HIGH, title=title)
    settings = PageSettings(titles=titles_of([action, Action(name="C__D", risk=Risk.LOW)]))
    assert {settings.title("A__B", language) for language in languages} == {found}
    assert settings.title("C__D", languages[0]) == settings.title("E__F", languages[0]) == ""


def test_the_sandbox_is_opened_from_this_machine_at_any_port_and_from_nowhere_else() -> None:
    settings = PageSettings(openers=LOOPBACK, secure=False)
    allowed = ["http://localhost", "http://localhost:3000", "http://127.0.0.1:8000", "https://localhost:8443"]
    refused = [
        "http://localhost.example",
        "http://localhost:3000.example",
        "http://10.0.0.7",
        "null",
        "http://evil",
    ]
    listed = settings.openers_of(None)
    assert [each for each in allowed + refused if any(covers(entry, each) for entry in listed)] == allowed
