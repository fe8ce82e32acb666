import json
import re
import subprocess
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.page.installed import MODULES, NODE
from watchword.domain.instant import Instant
from watchword.domain.method import Method
from watchword.page import render, screens
from watchword.page.assets import Assets
from watchword.page.language import TAGS, Language
from watchword.page.render import Renderer, UnusableTemplatesError, plain_trouble
from watchword.page.view import Detail, Outcome, Progress, Screen, Step, View, Way

PATH = "/approve-api-action/"
STATIC = Path(render.__file__).parent / "static"
PAGE_MAX, SCRIPT_MAX = 40_000, 16_000
VOID = {"meta", "link", "input", "img", "br"}
EVIL = "\"'><img src=x onerror=alert(1)></script><i>{{ 7*7 }}"


@dataclass(frozen=True)
class OurBrand:
    name: str = "Example Bank"
    logo: str = ""
    styles: str = ":root{--accent:#063}"


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: tuple["Element", ...]
    text: str = ""

    def within(self, **attributes: str) -> bool:
        """Whether it stands in an element with these attributes."""
        return any(parent.attributes.items() >= attributes.items() for parent in self.parents)


class Document(HTMLParser):
    """What a browser would read; nothing may be left open, or closed twice."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open[-1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Find elements; `class_` stands for `class`, and `_` for `-`."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and element.attributes.items() >= wanted.items()
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        """Find the only such element; there must be one."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of <{tag} {attributes}>"
        return found[0]


DETAILS = (
    Detail("Amount", "1,250.00 EUR", strong=True),
    Detail("To", "Grace Hopper", strong=True),
    Detail("Reference", "Invoice…2026", full="Invoice 114 of the year 2026"),
)
WAYS = (Way(Method.SMS, "Text message", "••• 8888"), Way(Method.VOICE, "Phone call", "••• 8888", failed=True))


def a_view(screen: Screen, **changes: Any) -> View:
    ended = screen in {Screen.BARE, Screen.DONE, Screen.LOCKED, Screen.OVER, Screen.UNABLE, Screen.CANCELLED}
    view = View(
        screen=screen,
        heading="The heading",
        text=("The first paragraph.", "The second."),
        page="" if ended else "the-pages-own-token",
        action="Fund a transfer",
        asked_by="Example Shop",
        details=DETAILS,
        steps=(Step("PIN", Progress.DONE), Step("Code", Progress.CURRENT), Step("Face", Progress.TODO)),
        ways=WAYS if screen in {Screen.CHOOSE, Screen.CODE, Screen.PIN} else (),
        method={Screen.CODE: Method.SMS, Screen.PIN: Method.PIN}.get(screen),
        resend_seconds=25,
        ends_at=Instant(1_767_225_600_000),
        ends_in_seconds=300,
        on_close=Outcome.CLOSED,
        openers=("https://shop.example", "http://localhost:*"),
    )
    return replace(view, **changes)


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets()


@pytest.fixture(scope="module")
def renderer(assets: Assets) -> Renderer:
    return Renderer(OurBrand(), None, assets)


def drawn(renderer: Renderer, view: View, *, tag: str = "en", flow: str = "popup") -> Document:
    return Document(renderer.render(view, language=Language.by_tag(tag), nonce="the-nonce", flow=flow))


def main_of(document: Document) -> dict[str, str]:
    return document.one("main").attributes


# --- every screen -----------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("screen", Screen)
def test_every_screen_is_a_whole_document_in_every_language(
    renderer: Renderer, screen: Screen, tag: str
) -> None:
    document = drawn(renderer, a_view(screen), tag=tag)
    root = document.one("html").attributes
    assert (root["lang"], root["dir"]) == (tag, "rtl" if tag == "ar" else "ltr")
    assert document.one("title").text == "The heading – Example Bank"
    assert document.one("h1").text == "The heading"
    assert document.one("meta", name="referrer").attributes["content"] == "no-referrer"
    assert document.one("meta", name="robots").attributes["content"] == "noindex"
    assert (
        document.one("meta", name="viewport").attributes["content"] == "width=device-width, initial-scale=1"
    )
    assert "The second." in document.one("main").text
    ids = [element.attributes["id"] for element in document.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.attack(116)
@pytest.mark.parametrize("screen", Screen)
def test_no_screen_has_a_script_or_style_that_the_policy_would_refuse(
    renderer: Renderer, screen: Screen
) -> None:
    document = drawn(renderer, a_view(screen, error="Wrong.", attempts_left=1))
    for element in document.elements:
        assert not [name for name in element.attributes if name == "style" or name.startswith("on")], element
        if element.tag in {"script", "style"} or element.attributes.get("rel") == "stylesheet":
            assert element.attributes["nonce"] == "the-nonce"
    script = document.one("script")
    assert script.text == ""
    assert script.attributes["type"] == "module"


@pytest.mark.parametrize("screen", Screen)
def test_every_form_goes_to_the_page_and_says_what_to_do(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen))
    known = {"choose", "send", "answer", "ways", "cancel", "again", "window"}
    for form in document.all("form"):
        assert (form.attributes["method"], form.attributes["action"]) == ("post", PATH)
        fields = {
            element.attributes["name"]: element.attributes["value"]
            for element in document.all("input", type="hidden")
            if form in element.parents
        }
        if "data-back" in form.attributes:
            assert fields == {}
            assert "hidden" in form.attributes  # A script shows it where it has an effect.
        else:
            assert fields["page"] == "the-pages-own-token"
            assert fields["do"] in known
            assert set(fields) <= {"page", "do", "method"}


@pytest.mark.parametrize("screen", Screen)
def test_the_script_is_told_who_is_to_be_told_what(renderer: Renderer, screen: Screen) -> None:
    openers = ("https://shop.example", "http://localhost:*", EVIL)
    told = a_view(
        screen, openers=openers, outcome=Outcome.SUCCESS, on_close=Outcome.FAILED, must_be_seen=True
    )
    found = main_of(drawn(renderer, told, flow="iframe"))
    assert json.loads(found["data-openers"]) == list(openers)
    assert found["data-outcome"] == "tw-approve-api-action-success"
    assert found["data-on-close"] == "tw-approve-api-action-failed"
    assert found["data-flow"] == "iframe"
    assert found["data-screen"] == screen
    assert "data-must-be-seen" in found
    nobody = main_of(drawn(renderer, a_view(screen, openers=(), on_close=None)))
    assert (nobody["data-openers"], nobody["data-outcome"], nobody["data-on-close"]) == ("[]", "", "")
    assert "data-must-be-seen" not in nobody


@pytest.mark.attack(125)
@pytest.mark.parametrize("screen", Screen)
def test_texts_of_others_are_only_text(screen: Screen, assets: Assets) -> None:
    view = a_view(
        screen,
        heading=EVIL,
        text=(EVIL,),
        error=EVIL,
        notice=EVIL,
        page="" if screen is Screen.BARE else EVIL,
        action=EVIL,
        asked_by=EVIL,
        details=(Detail(EVIL, EVIL, full=EVIL, odd=True),),
        stranger=EVIL,
        steps=(Step(EVIL, Progress.CURRENT),),
        ways=(Way(Method.SMS, EVIL, EVIL),),
    )
    renderer = Renderer(OurBrand(name=EVIL, logo=EVIL), None, assets)
    html = renderer.render(view, language=Language.by_tag("fr"), nonce="n", flow=EVIL)
    assert "<i>" not in html
    assert "<img src=x" not in html
    assert "{{ 7*7 }}" in html
    document = Document(html)
    assert len(document.all("script")) == 1
    assert document.one("h1").text == EVIL
    assert main_of(document)["data-flow"] == EVIL
    assert document.one("link", rel="icon").attributes["href"] == EVIL


@pytest.mark.parametrize("screen", Screen)
def test_a_screen_weighs_less_than_it_may(renderer: Renderer, screen: Screen) -> None:
    view = a_view(screen, error="Wrong. Try again.", attempts_left=2, notice="Note.", page="p" * 600)
    html = renderer.render(view, language=Language.by_tag("ar"), nonce="n" * 36, flow="popup")
    files = [(STATIC / name).stat().st_size for name in ("page.css", "page.js")]
    assert len(html.encode()) + sum(files) < PAGE_MAX
    assert files[1] < SCRIPT_MAX


# --- what is approved -------------------------------------------------------------------------


@pytest.mark.parametrize("screen", [Screen.CHOOSE, Screen.CODE, Screen.PIN, Screen.WINDOW])
def test_what_is_approved_comes_before_what_is_asked(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen))
    order = [element.tag for element in document.elements]
    assert order.index("section") < order.index("h1") < order.index("form")
    assert document.one("section").attributes["aria-label"] == "What you are asked to confirm"
    assert [value.text.split("\n")[0] for value in document.all("dd")] == [
        "1,250.00 EUR",
        "Grace Hopper",
        "Invoice…2026",
    ]
    assert "Asked for by Example Shop" in document.one("section").text


@pytest.mark.attack(127)
def test_a_value_that_was_cut_can_be_seen_in_full_and_an_odd_one_is_marked(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.PIN))
    assert "Invoice 114 of the year 2026" in document.one("details").text
    assert "unusual characters" not in document.one("main").text
    odd = (Detail("To", "Grаce", odd=True),)  # noqa: RUF001  # A Cyrillic letter.
    marked = drawn(renderer, a_view(Screen.PIN, details=odd))
    assert "This holds unusual characters" in marked.one("dd").text
    assert not marked.all("details")


@pytest.mark.attack(127)
def test_no_text_of_others_turns_the_direction_of_what_stands_around_it(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CHOOSE, stranger="evil.example"), tag="ar")
    isolated = {element.text for element in document.all("bdi")}
    assert isolated >= {
        "Fund a transfer",
        "1,250.00 EUR",
        "Grace Hopper",
        "Invoice…2026",
        "Invoice 114 of the year 2026",
        "Example Shop",
        "Example Bank",
        "evil.example",
        "••• 8888",
    }


def test_an_action_that_is_not_known_takes_no_room(renderer: Renderer) -> None:
    assert not drawn(renderer, a_view(Screen.PIN, action="", details=())).all("section")


def test_steps_say_which_are_done_and_which_comes_now(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CODE))
    steps = document.all("li")
    assert ["aria-current" in step.attributes for step in steps] == [False, True, False]
    assert "(done)" in steps[0].text
    assert not drawn(renderer, a_view(Screen.CODE, steps=())).all("ol")


def test_a_stranger_who_opened_the_page_is_named(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CHOOSE, stranger="evil.example"))
    assert "evil.example opened this page" in document.one("main").text


# --- answering --------------------------------------------------------------------------------


def test_a_code_can_be_pasted_and_filled_in(renderer: Renderer) -> None:
    field = drawn(renderer, a_view(Screen.CODE)).one("input", name="answer").attributes
    assert (field["type"], field["inputmode"], field["autocomplete"]) == ("text", "numeric", "one-time-code")
    assert "maxlength" not in field  # It would cut «111 111».
    assert "pattern" not in field


def test_a_pin_is_not_shown_and_not_remembered(renderer: Renderer) -> None:
    field = drawn(renderer, a_view(Screen.PIN)).one("input", name="answer").attributes
    assert (field["type"], field["inputmode"], field["autocomplete"]) == ("password", "numeric", "off")


@pytest.mark.parametrize("screen", [Screen.CODE, Screen.PIN])
def test_what_was_wrong_is_said_in_title_and_at_the_field(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen, error="That is wrong. Try again.", attempts_left=1))
    assert document.one("title").text == "Error: The heading – Example Bank"
    assert "That is wrong" in document.one("p", role="alert").text
    field = document.one("input", id="answer").attributes
    assert field["aria-invalid"] == "true"
    described = field["aria-describedby"].split()
    assert described[0] == "answer-error"
    assert "That is wrong. Try again. You have 1 try left." in document.one("p", id=described[0]).text
    document.one("label", for_="answer")


def test_an_error_that_belongs_to_no_field_links_to_none(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CHOOSE, error="Could not be delivered."))
    assert "Could not be delivered." in document.one("div", role="alert").text
    assert not document.all("a")


@pytest.mark.parametrize("screen", [Screen.CODE, Screen.PIN])
def test_where_nothing_was_wrong_nothing_says_so(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen))
    assert not document.all("p", role="alert")
    field = document.one("input", id="answer").attributes
    assert "aria-invalid" not in field
    assert "answer-error" not in field["aria-describedby"]


@pytest.mark.parametrize("screen", [Screen.CODE, Screen.PIN])
def test_a_field_is_described_by_what_stands_before_it(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen, stranger="evil.example", notice="Note."))
    described = document.one("input", id="answer").attributes["aria-describedby"].split()
    assert described == ["what", "stranger", "notice", "text-1", "text-2"]
    texts = [
        element.text
        for name in described
        for element in document.elements
        if element.attributes.get("id") == name
    ]
    for text, part in zip(
        texts,
        ["1,250.00 EUR", "evil.example opened this page", "Note.", "The first paragraph.", "The second."],
        strict=True,
    ):
        assert part in text
    assert document.one("h1").attributes["aria-describedby"] == "what stranger"
    plain = drawn(renderer, a_view(screen, action="", details=(), text=()))
    assert "aria-describedby" not in plain.one("input", id="answer").attributes
    assert "aria-describedby" not in plain.one("h1").attributes


@pytest.mark.attack(118)
def test_small_things_are_watched_so_that_small_windows_can_show_them(renderer: Renderer) -> None:
    def watched(view: View) -> list[str]:
        return [
            element.attributes.get("id", element.tag)
            for element in drawn(renderer, view).elements
            if "data-watch" in element.attributes
        ]

    assert watched(a_view(Screen.PIN)) == ["bdi", "bdi", "answer", "button"]
    assert watched(a_view(Screen.CHOOSE)) == ["bdi", "bdi", "button", "button"]
    odd = (Detail("To", "Grace", odd=True, strong=True),)
    assert watched(a_view(Screen.PIN, details=odd)) == ["bdi", "p", "answer", "button"]
    weak = (Detail("Reference", "Invoice"),)
    assert watched(a_view(Screen.PIN, details=weak)) == ["p", "answer", "button"]


def test_ways_are_buttons_that_name_their_method(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CHOOSE))
    assert [way.attributes["value"] for way in document.all("button", name="method")] == ["SMS", "VOICE"]
    assert "Could not be delivered" not in document.all("button")[0].text
    assert "Could not be delivered" in document.all("button")[1].text


def test_another_code_counts_down_and_can_be_asked_for_without_a_script(renderer: Renderer) -> None:
    document = drawn(renderer, a_view(Screen.CODE))
    hint = document.one("p", data_wait="25")
    assert "25 seconds" in hint.text
    assert "disabled" not in document.one("button", id=hint.attributes["data-button"]).attributes
    ready = drawn(renderer, a_view(Screen.CODE, resend_seconds=0))
    ready.one("button", id="resend")
    assert not [element for element in ready.elements if "data-wait" in element.attributes]
    assert not drawn(renderer, a_view(Screen.CODE, resend_seconds=None)).all("button", id="resend")


@pytest.mark.parametrize("screen", [Screen.CODE, Screen.PIN])
def test_another_way_is_offered_where_there_is_one(renderer: Renderer, screen: Screen) -> None:
    drawn(renderer, a_view(screen)).one("input", name="do", value="ways")
    assert not drawn(renderer, a_view(screen, ways=())).all("input", name="do", value="ways")


@pytest.mark.parametrize("screen", [Screen.CHOOSE, Screen.CODE, Screen.PIN, Screen.WINDOW, Screen.TROUBLE])
def test_one_can_always_cancel(renderer: Renderer, screen: Screen) -> None:
    drawn(renderer, a_view(screen)).one("input", name="do", value="cancel")


def test_a_new_window_can_tell_the_frame_how_it_ended(renderer: Renderer) -> None:
    form = drawn(renderer, a_view(Screen.WINDOW)).one("form", target="_blank").attributes
    assert form["rel"] == "opener"


def test_times_are_for_people_and_for_programs(renderer: Renderer) -> None:
    time = drawn(renderer, a_view(Screen.PIN)).one("time")
    assert (time.text, time.attributes["datetime"]) == ("00:00 UTC", "2026-01-01T00:00:00Z")
    locked = drawn(renderer, a_view(Screen.LOCKED, ends_in_seconds=871))
    assert "at 00:00 UTC, in 15 minutes" in locked.one("p", data_wait="871").text
    assert not drawn(renderer, a_view(Screen.LOCKED, ends_at=None)).all("time")


@pytest.mark.parametrize("screen", [Screen.DONE, Screen.LOCKED, Screen.OVER, Screen.UNABLE, Screen.CANCELLED])
def test_without_a_script_the_end_says_how_to_go_back(renderer: Renderer, screen: Screen) -> None:
    document = drawn(renderer, a_view(screen))
    assert "Close it and go on where you came from" in document.one("noscript").text


def test_trouble_offers_to_try_again_only_where_a_form_could(renderer: Renderer) -> None:
    drawn(renderer, a_view(Screen.TROUBLE)).one("input", name="do", value="again")
    nothing = drawn(renderer, a_view(Screen.TROUBLE, page=""))
    assert [form for form in nothing.all("form") if "data-back" not in form.attributes] == []


# --- brand and templates ----------------------------------------------------------------------


def test_the_brand_is_its_picture_or_its_name(renderer: Renderer, assets: Assets) -> None:
    plain = drawn(renderer, a_view(Screen.PIN))
    assert plain.one("link", rel="icon").attributes["href"] == "data:,"
    assert plain.one("style").text == ":root{--accent:#063}"
    assert "Example Bank" in plain.one("header").text
    branded = drawn(Renderer(OurBrand(logo="/logo.svg"), None, assets), a_view(Screen.PIN))
    assert branded.one("img", src="/logo.svg").attributes["alt"] == "Example Bank"
    assert branded.one("link", rel="icon").attributes["href"] == "/logo.svg"


def test_a_template_of_the_operator_takes_the_place_of_ours(tmp_path: Path, assets: Assets) -> None:
    (tmp_path / "pin.html").write_text(
        '{% extends "base.html" %}{% block form %}Ours: {{ view.heading }}{% endblock %}'
    )
    own = Renderer(OurBrand(), tmp_path, assets)
    assert "Ours: The heading" in drawn(own, a_view(Screen.PIN)).one("main").text
    assert "Ours:" not in drawn(own, a_view(Screen.CODE)).one("main").text


def test_a_template_that_cannot_be_read_is_found_at_the_start(tmp_path: Path, assets: Assets) -> None:
    (tmp_path / "done.html").write_text("{% if %}")
    with pytest.raises(UnusableTemplatesError, match=r"done\.html, line 1: Expected an expression"):
        Renderer(OurBrand(), tmp_path, assets)


@pytest.mark.parametrize(
    "name", ["settings", "request", "ott", "view.secret", "language", "view.ends_at.year", "none.name"]
)
def test_a_template_gets_nothing_but_what_it_needs(tmp_path: Path, assets: Assets, name: str) -> None:
    (tmp_path / "pin.html").write_text(f"\n\n{{{{ {name} }}}}")
    with pytest.raises(UnusableTemplatesError) as caught:
        Renderer(OurBrand(), tmp_path, assets)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{tmp_path}/pin.html, line 3: ")
    assert f"{name.rpartition('.')[2]}'" in mistake


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("done.html", '{% if lang == "ar" %}{{ gone }}{% endif %}'),
        ("locked.html", "{% if view.details %}{{ gone }}{% endif %}"),
        ("code.html", "{% if view.resend_seconds is none %}{{ gone }}{% endif %}"),
        ("choose.html", "{% for way in view.ways %}{% if way.failed %}{{ gone }}{% endif %}{% endfor %}"),
    ],
    ids=["one language", "with details", "without another code", "a way that failed"],
)
def test_each_screen_is_tried_with_much_and_with_little_in_every_language(
    tmp_path: Path, assets: Assets, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UnusableTemplatesError) as caught:
        Renderer(OurBrand(), tmp_path, assets)
    assert caught.value.mistakes == (f"{tmp_path / name}, line 1: 'gone' is undefined",)


def test_a_template_that_extends_itself_is_found_at_the_start(tmp_path: Path, assets: Assets) -> None:
    (tmp_path / "done.html").write_text('{% extends "done.html" %}')
    with pytest.raises(UnusableTemplatesError, match="recursion"):
        Renderer(OurBrand(), tmp_path, assets)


@pytest.mark.parametrize("folder", ["", "more/"])
@pytest.mark.parametrize(
    "tag",
    [
        '{% include "NAME" %}',
        '{% import "NAME" as more %}',
        '{% from "NAME" import x %}',
        '{% extends "NAME" %}',
    ],
)
def test_a_file_that_a_template_names_is_no_stray(
    tmp_path: Path, assets: Assets, folder: str, tag: str
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / f"{folder}mine.html").write_text('{% macro x() %}{% endmacro %}{% include "last.txt" %}')
    (tmp_path / "last.txt").write_text("")
    (tmp_path / "done.html").write_text(tag.replace("NAME", f"{folder}mine.html"))
    Renderer(OurBrand(), tmp_path, assets)


def test_names_that_are_made_as_a_template_is_drawn_are_not_guessed(tmp_path: Path, assets: Assets) -> None:
    (tmp_path / "in-en.html").write_text("")
    (tmp_path / "done.html").write_text('{% include ["in-" ~ lang ~ ".html", "in-en.html"] %}')
    (tmp_path / "in-de.html").write_text("")
    Renderer(OurBrand(), tmp_path, assets)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("chose.html", "did you mean choose.html?"),
        ("Pin.html", "did you mean pin.html?"),
        ("pin.htm", "did you mean pin.html?"),
        ("old/base.html", "did you mean base.html?"),
        ("logo.svg", "name it in one of yours, or take it away"),
    ],
)
def test_a_file_that_nothing_is_drawn_with_is_told(
    tmp_path: Path, assets: Assets, name: str, meant: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(UnusableTemplatesError) as caught:
        Renderer(OurBrand(), tmp_path, assets)
    (mistake,) = caught.value.mistakes
    assert mistake == f"{tmp_path / name}: takes no template's place, and no template names it; {meant}"


def test_a_directory_without_any_template_changes_nothing(tmp_path: Path, assets: Assets) -> None:
    (tmp_path / ".gitkeep").write_text("")
    own = Renderer(OurBrand(), tmp_path, assets)
    assert main_of(drawn(own, a_view(Screen.PIN)))["data-screen"] == "pin"


def test_times_are_in_the_language_of_the_page_also_where_they_are_constant(
    tmp_path: Path, assets: Assets
) -> None:
    (tmp_path / "done.html").write_text("<main>{{ 120 | duration }}</main>")
    own = Renderer(OurBrand(), tmp_path, assets)
    assert [drawn(own, a_view(Screen.DONE), tag=tag).one("main").text for tag in ("en", "de", "es")] == [
        "2 minutes",
        "2 Minuten",
        "2 minutos",
    ]


# --- without templates ------------------------------------------------------------------------


@pytest.mark.attack(125)
@pytest.mark.parametrize("tag", TAGS)
def test_trouble_with_templates_is_shown_without_any(assets: Assets, tag: str) -> None:
    language = Language.by_tag(tag)
    view = replace(screens.trouble(language), openers=("https://shop.example", EVIL))
    html = plain_trouble(view, language=language, nonce="the-nonce", flow=EVIL, assets=assets)
    document = Document(html)
    assert document.one("html").attributes["lang"] == tag
    assert document.one("h1").text == document.one("title").text == view.heading
    assert view.text[0] in document.one("main").text
    told = main_of(document)
    assert json.loads(told["data-openers"]) == ["https://shop.example", EVIL]
    assert (told["data-screen"], told["data-on-close"]) == ("trouble", "tw-approve-api-action-failed")
    assert {
        element.attributes["nonce"] for element in document.elements if "nonce" in element.attributes
    } == {"the-nonce"}
    assert document.one("script").attributes["src"] == assets.urls["page.js"]
    document.one("p", id="live")
    assert "hidden" in document.one("form").attributes  # A script shows it where it has an effect.
    assert not document.all("img")


# --- static files -----------------------------------------------------------------------------


def test_a_static_file_is_found_by_the_address_that_pages_name(renderer: Renderer, assets: Assets) -> None:
    document = drawn(renderer, a_view(Screen.PIN))
    named = {
        document.one("script").attributes["src"],
        document.one("link", rel="stylesheet").attributes["href"],
    }
    assert named == set(assets.urls.values())
    for name, url in assets.urls.items():
        found = assets.get(url.removeprefix("/approve-api-action/static/"))
        assert found is not None
        assert found.body == (STATIC / name).read_bytes()
        assert found.content_type.startswith("text/")
        assert re.fullmatch(r".*/page\.[0-9a-f]{16}\.(css|js)", url)


@pytest.mark.parametrize("name", ["page.css", "page.0000000000000000.css", "../view.py", ""])
def test_no_other_name_finds_a_static_file(assets: Assets, name: str) -> None:
    assert assets.get(name) is None


def test_another_content_is_another_address() -> None:
    one, other = Assets({"logo.svg": b"<svg/>"}), Assets({"logo.svg": b"<svg />"})
    assert one.urls["logo.svg"] != other.urls["logo.svg"]
    assert one.urls["page.css"] == other.urls["page.css"]


def test_a_file_that_no_page_can_use_is_refused() -> None:
    with pytest.raises(ValueError, match=r"logo\.exe does not end in"):
        Assets({"logo.exe": b""})


@pytest.mark.usefixtures("node_modules")
def test_the_script_has_no_type_error() -> None:
    options = ("--strict", "--noEmit", "--allowJs", "--checkJs", "--target", "es2022")
    done = subprocess.run(
        [
            NODE,
            MODULES / "typescript/bin/tsc",
            *options,
            "--lib",
            "es2023,dom,dom.iterable",
            STATIC / "page.js",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
