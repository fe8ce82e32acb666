"""
Drawing a view: one template for each screen, ours or the operator's.

Everything is escaped where it is written. A template is given what it needs and nothing else: no
settings, no request, no secret but the page's own token, which its forms carry.

Templates of the operator's are tried when the server starts: each screen is drawn in each language, so
that no customer is the first who sees that one cannot be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from html import escape
from json import dumps
from pathlib import Path, PurePosixPath
from traceback import extract_tb
from types import CodeType
from typing import Any, Protocol, cast

from jinja2 import (
    BaseLoader,
    BytecodeCache,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplatesNotFound,
    TemplateSyntaxError,
    pass_context,
)
from jinja2.bccache import Bucket
from jinja2.meta import find_referenced_templates

from watchword.domain.instant import Instant
from watchword.domain.method import Method
from watchword.page.assets import Assets
from watchword.page.language import SOURCE, TAGS, Language, iso
from watchword.page.view import Detail, Outcome, Progress, Screen, Step, View, Way

_PATH = "/approve-api-action/"


class Brand(Protocol):
    """Whose page it is."""

    @property
    def name(self) -> str:
        """As customers know it."""
        ...

    @property
    def logo(self) -> str:
        """Where its picture is served; empty for none."""
        ...

    @property
    def styles(self) -> str:
        """CSS custom properties, in rules."""
        ...


class UnusableTemplatesError(TemplateError):
    """Templates of the operator's cannot be used; names each mistake, with the file and the line."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class Renderer:
    """
    Draws views as HTML documents.

    Args:
        templates: A directory of the operator's; a template in it takes the place of ours of that name.

    Raises:
        UnusableTemplatesError: A template cannot be read or drawn, or a file takes no template's place.
    """

    def __init__(self, brand: Brand, templates: Path | None, assets: Assets) -> None:
        self._brand = brand
        self._assets = assets
        ours = PackageLoader("watchword.page", "templates")
        self._loader: BaseLoader = (
            ours if templates is None else ChoiceLoader([FileSystemLoader(templates), ours])
        )
        self._compiled = _Compiled()
        self._environments: dict[str, Environment] = {}
        environment = self._environment(Language.by_tag(SOURCE))
        if templates is not None:
            # All that is wrong with files first: what cannot be read cannot be drawn either.
            mistakes = tuple(_mistakes_of(templates, set(ours.list_templates()), environment))
            mistakes = mistakes or tuple(dict.fromkeys(self._mistakes_in_drawing()))
            if mistakes:
                raise UnusableTemplatesError(mistakes)
        for screen in Screen:
            environment.get_template(_file(screen))

    def render(self, view: View, *, language: Language, nonce: str, flow: str) -> str:
        """
        Draw *view*.

        Args:
            nonce: What the answer's Content-Security-Policy allows scripts and styles by.
            flow: How the page was opened: ``iframe``, ``popup``, ``tab``; empty where nobody said.
        """
        template = self._environment(language).get_template(_file(view.screen))
        context: Mapping[str, object] = {
            "view": view,
            "brand": self._brand,
            "lang": language.tag,
            "dir": language.dir,
            "nonce": nonce,
            "flow": flow,
            "assets": self._assets.urls,
        }
        return template.render(context)

    def _mistakes_in_drawing(self) -> Iterator[str]:
        for tag in TAGS:
            for view in _examples():
                try:
                    self.render(view, language=Language.by_tag(tag), nonce="nonce", flow="popup")
                except Exception as error:  # noqa: BLE001 - whatever a template does.
                    yield _told(error, otherwise=_file(view.screen))

    def _environment(self, language: Language) -> Environment:
        """Return the environment of a language; the texts and filters of each are its own."""
        found = self._environments.get(language.tag)
        if found is not None:
            return found
        environment = Environment(
            loader=self._loader,
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=self._compiled,
        )
        # The extension put the method there, and filters are of any type: neither can types tell.
        texts = cast("Any", environment)
        texts.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)

        # With a context they are not worked out as a template is compiled, which is once for all languages.
        @pass_context
        def clock(_context: object, instant: Instant) -> str:
            return language.clock(instant)

        @pass_context
        def duration(_context: object, seconds: float) -> str:
            return language.duration(seconds)

        texts.filters.update(clock=clock, duration=duration, iso=iso)
        self._environments[language.tag] = environment
        return environment


def plain_trouble(view: View, *, language: Language, nonce: str, flow: str, assets: Assets) -> str:
    """
    Draw heading and text of *view* without any template: for when the templates themselves fail.

    Args:
        view: Says that something is not working; nothing else of it is shown.
        nonce: As for ``Renderer.render``, and *flow* too.
    """
    told = {
        "screen": view.screen,
        "outcome": view.outcome or "",
        "on-close": view.on_close or "",
        "openers": dumps(view.openers),
        "flow": flow,
    }
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in told.items())
    text = "\n".join(f"<p>{escape(each)}</p>" for each in view.text)
    heading, nonce = escape(view.heading), escape(nonce)
    css, script = (escape(assets.urls[name]) for name in ("page.css", "page.js"))
    return f"""<!doctype html>
<html lang="{language.tag}" dir="{language.dir}" data-flow="{escape(flow)}">
<head>
<meta charset="utf-8">
<title>{heading}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{css}" nonce="{nonce}">
<script type="module" src="{script}" nonce="{nonce}"></script>
</head>
<body>
<div class="card">
<main id="main" {data}>
<h1 tabindex="-1">{heading}</h1>
{text}
<form class="end" method="post" action="{_PATH}" hidden data-back>
<button class="main" data-close>{escape(language.gettext("Close"))}</button>
</form>
</main>
</div>
<p id="live" class="unseen" role="status"></p>
</body>
</html>
"""


def _file(screen: Screen) -> str:
    return f"{screen.value}.html"


class _Compiled(BytecodeCache):
    """Keeps what templates were compiled to, in memory: it is the same in every language."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._code[bucket.key, bucket.checksum] = bucket.code


# --- trying templates -----------------------------------------------------------------------------


def _mistakes_of(templates: Path, ours: set[str], environment: Environment) -> Iterator[str]:
    """Name the files that cannot be read, and those that no screen is drawn with."""
    # What begins with a dot belongs to the tools that put files there.
    found = {name for name in _names(templates) if not any(part[0] == "." for part in name.split("/"))}
    used = sorted(found & ours)
    anything = False
    for name in used:
        try:
            read = environment.parse((templates / name).read_text("utf-8"), name, str(templates / name))
        except (TemplateError, UnicodeError, OSError) as error:
            yield _told(error, otherwise=str(templates / name))
            continue
        for other in find_referenced_templates(read):
            # None is a name that is made as the template is drawn.
            anything = anything or other is None
            if other in found and other not in used:
                used.append(other)
    for name in sorted(found - set(used)) if not anything else ():
        near = get_close_matches(PurePosixPath(name).name, sorted(ours), 1)
        meant = f"did you mean {near[0]}?" if near else "name it in one of yours, or take it away"
        yield f"{templates / name}: takes no template's place, and no template names it; {meant}"


def _names(templates: Path) -> list[str]:
    return FileSystemLoader(templates).list_templates()


def _told(error: Exception, *, otherwise: str) -> str:
    """Say in which file and line something went wrong, and what."""
    what = " ".join(f"{error}".split()) or type(error).__name__
    if isinstance(error, TemplateNotFound) and not isinstance(error, TemplatesNotFound):
        what = f"there is no template {error.name}"
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or otherwise}, line {error.lineno}: {what}"
    # Jinja puts the lines of templates into the traceback.
    drawn = [
        each for each in extract_tb(error.__traceback__) if not each.filename.endswith((".py", ">", ".pyc"))
    ]
    return f"{drawn[-1].filename}, line {drawn[-1].lineno}: {what}" if drawn else f"{otherwise}: {what}"


def _examples() -> Iterator[View]:
    """Make up two views of each screen: with all that it may have, and with no more than it must."""
    now = Instant(1_767_225_600_000)
    for screen in Screen:
        least = View(
            screen=screen,
            heading="A heading",
            text=() if screen is Screen.PIN else ("A paragraph.",),
            page="a-page" if screen in _GOING_ON else "",
            ways=(_PIN,) if screen is Screen.CHOOSE else (),
            method={Screen.CODE: Method.SMS, Screen.PIN: Method.PIN}.get(screen),
            destination="••• 8888" if screen is Screen.CODE else "",
            ends_at=None if screen in _TIMELESS else now,
            ends_in_seconds=0 if screen in _TIMELESS else 300,
        )
        yield least
        yield replace(
            least,
            text=("A paragraph.", "Another one."),
            error="That is wrong.",
            notice="That was sent already.",
            page=least.page or ("a-page" if screen is Screen.TROUBLE else ""),
            action="Pay a transfer",
            asked_by="A Shop",
            details=(
                Detail("Amount", "1,250.00 EUR", strong=True),
                Detail("To", "Grace Hopper", odd=True, strong=True),
                Detail("Reference", "Invoice…2026", full="Invoice 114 of the year 2026"),
            ),
            stranger="shop.example",
            steps=tuple(Step(progress.value, progress) for progress in Progress),
            ways=(_PIN, Way(Method.SMS, "Text message", "••• 8888", failed=True)),
            resend_seconds=25,
            attempts_left=2,
            ends_at=now,
            ends_in_seconds=300,
            outcome=Outcome.FAILED,
            on_close=Outcome.CLOSED,
            openers=("https://shop.example",),
            must_be_seen=True,
        )


_PIN = Way(Method.PIN, "Your PIN")
_GOING_ON = frozenset({Screen.CHOOSE, Screen.CODE, Screen.PIN, Screen.WINDOW})
"""They carry the page's own token, always."""
_TIMELESS = frozenset({Screen.BARE, Screen.OVER, Screen.TROUBLE})
"""They may be shown of no token."""
