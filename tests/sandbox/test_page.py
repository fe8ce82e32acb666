"""The page for people."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import httpx2
import pytest

from tests.sandbox.support import SMS, Person, new_ott
from watchword.delivery.base import Message
from watchword.domain.method import Method
from watchword.domain.user import UserId
from watchword.sandbox.app import Sandbox
from watchword.sandbox.page import SHOWN

VOID = {"meta", "link", "input", "br"}
HOSTILE = "<script>alert(1)</script>\"'&"


class Markup(HTMLParser):
    """Reads a page as a browser does, and refuses one that is not well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"script", "style"}:
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.text += data


async def _page(client: httpx2.AsyncClient, **headers: str) -> tuple[Markup, httpx2.Response]:
    answer = await client.get("/sandbox", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Markup(answer.text), answer


async def test_the_page_shows_users_outbox_live_tokens_and_what_to_try(
    client: httpx2.AsyncClient, ada: Person
) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.about("POST", "sms/trigger", ott)
    page, _ = await _page(client)
    for shown in (
        "demo-ada",
        "6146956",
        "435036",
        "demo-grace",
        "demo-signer",
        "demo-application",
        "*********8888",
    ):
        assert shown in page.text
    assert "111111 is your code" in page.text
    assert ott in page.text
    assert "BALANCE__GET_STATEMENT" in page.text
    assert "curl" in page.text
    assert "Not for production" in page.text


async def test_a_token_that_is_over_is_not_live(client: httpx2.AsyncClient, ada: Person) -> None:
    ott = new_ott(await ada.get(ada.statement))
    await ada.clear(ott, SMS)
    assert ott in (await _page(client))[0].text
    await ada.get(ada.statement, ott=ott)
    assert ott not in (await _page(client))[0].text


async def test_locks_and_sessions_are_shown(client: httpx2.AsyncClient, ada: Person, grace: Person) -> None:
    await grace.clear(new_ott(await grace.get(grace.statement)), SMS)
    ott = new_ott(await ada.get(ada.statement))
    for _ in range(5):
        await ada.answer("PIN", ott, "9999")
    page, _ = await _page(client)
    assert re.search(r"locked for \d+\u00a0s", page.text)
    assert re.search(r"in session for \d+\u00a0s", page.text)


async def test_what_callers_send_is_shown_as_text_and_never_run(
    client: httpx2.AsyncClient, sandbox: Sandbox, ada: Person
) -> None:
    message = Message(channel=Method.SMS, user_id=UserId(1), to=HOSTILE, text=HOSTILE, code="111111")
    await sandbox.world.outbox.send(message)
    path = ada.payment.replace("16521632", "<b>bold<")
    new_ott(await ada.call("POST", path))
    before, _ = await _page(client)
    assert HOSTILE in before.text
    assert [tag for tag, _ in before.tags].count("script") == 1
    assert "b" not in {tag for tag, _ in before.tags}


@pytest.mark.parametrize(
    "host", ['"><script>alert(1)</script>', "a;reboot", "$(reboot)", "a b", "`x`", "a/b", "x" * 300]
)
async def test_a_hostile_host_gets_into_no_command(client: httpx2.AsyncClient, host: str) -> None:
    page, answer = await _page(client, host=host)
    assert host not in answer.text
    assert "BANK=http://127.0.0.1:8000" in page.text


@pytest.mark.parametrize("host", ["localhost:8123", "127.0.0.1:8000", "[::1]:8000", "sandbox.example"])
async def test_the_commands_name_the_address_that_was_asked(client: httpx2.AsyncClient, host: str) -> None:
    _, answer = await _page(client, host=host)
    assert f"<code>BANK=http://{host}</code>" in answer.text


async def test_the_page_may_run_only_what_is_its_own(client: httpx2.AsyncClient) -> None:
    page, answer = await _page(client)
    policy = dict(
        directive.split(" ", maxsplit=1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    assert (
        policy["default-src"]
        == policy["base-uri"]
        == policy["form-action"]
        == policy["frame-ancestors"]
        == "'none'"
    )
    for tag in ("style", "script"):
        digest = b64encode(sha256(page.raw[tag].encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert answer.headers["cache-control"] == "no-store"


async def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_handlers(
    client: httpx2.AsyncClient,
) -> None:
    page, _ = await _page(client)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("src") is None
        assert attributes.get("href", "data:,") in {"data:,", "/sandbox", "/sandbox/shop"}, tag


async def test_the_page_can_be_read_without_eyes(client: httpx2.AsyncClient) -> None:
    page, _ = await _page(client)
    names = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"]["lang"] == "en"
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if tag == "th":
            assert attributes["scope"] == "col"
        if attributes.get("role") == "region":
            assert attributes["aria-label"]
            assert attributes["tabindex"] == "0"


async def test_whoever_opens_the_origin_is_led_to_the_page(client: httpx2.AsyncClient) -> None:
    for path in ("/", "/sandbox/"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/sandbox")


async def test_after_many_users_the_demo_people_and_the_newest_are_shown(
    client: httpx2.AsyncClient,
) -> None:
    for number in range(SHOWN + 2):
        await client.post("/sandbox/users", json={"token": f"token-{number}", "userId": 1000 + number})
    page, _ = await _page(client)
    for token in ("demo-ada", "demo-grace", "demo-signer"):
        assert token in page.text
    assert "1001" not in page.text
    assert str(1000 + 2) in page.text
    assert str(1000 + SHOWN + 1) in page.text
    assert "And 2 more" in page.text
