"""A browser of the plainest kind: reads the page's forms, fills them in and sends them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx2

PATH = "/approve-api-action/"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@dataclass
class Form:
    """One form: its fields as they stand, and the words on its button."""

    fields: dict[str, str] = field(default_factory=dict)
    button: str = ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.main: dict[str, str] = {}
        self.heading = ""
        self.text = ""
        self._in: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form())
        elif tag == "input" and self.forms and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and self.forms and given.get("name"):
            # A form for each button that adds a field of its own.
            own = Form({**self.forms[-1].fields, given["name"]: given.get("value", "")})
            self.forms.append(own)
        elif tag == "main":
            self.main = given
        if tag in {"h1", "button", "script", "style", "title"}:
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        inside = self._in[-1] if self._in else ""
        if inside == "h1":
            self.heading += data.strip()
        elif inside == "button" and self.forms:
            self.forms[-1].button += data.strip()
        if inside not in {"script", "style", "title"}:
            self.text += data


class Seen:
    """A screen as it was answered."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.status = answer.status_code
        reader = _Reader()
        reader.feed(answer.text)
        self.forms = reader.forms
        self.heading = reader.heading
        self.text = " ".join(reader.text.split())
        self.screen = reader.main.get("data-screen", "")
        self.outcome = reader.main.get("data-outcome", "")
        self.openers = reader.main.get("data-openers", "")

    def form(self, do: str, **fields: str) -> dict[str, str]:
        """Return the form that does this, with *fields* filled in."""
        for form in self.forms:
            if form.fields.get("do") == do and all(
                name in form.fields and (name != "method" or form.fields[name] == value)
                for name, value in fields.items()
            ):
                return {**form.fields, **fields}
        message = f"{self.screen} has no form {do} {fields}: {[form.fields for form in self.forms]}"
        raise AssertionError(message)


class Customer:
    """Who sits before the page."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def open(self, ott: str, *, headers: dict[str, str] | None = None, **fields: str) -> Seen:
        """Open the page of a token, as a helper's form does."""
        return await self.post({"ott": ott, **fields}, headers=headers)

    async def send(
        self, seen: Seen, do: str, *, headers: dict[str, str] | None = None, **fields: str
    ) -> Seen:
        """Fill a form of *seen* in, and send it."""
        return await self.post(seen.form(do, **fields), headers=headers)

    async def post(self, form: dict[str, str], *, headers: dict[str, str] | None = None) -> Seen:
        """Send a form."""
        return Seen(await self.client.post(PATH, data=form, headers=headers or {}))
