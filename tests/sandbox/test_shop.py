"""The demo shop's page, as it is sent; what it does in a browser is tested with the approval page."""

from base64 import b64encode
from hashlib import sha256

import httpx2
import pytest

from tests.sandbox.test_page import Markup


async def _shop(client: httpx2.AsyncClient, **headers: str) -> tuple[Markup, httpx2.Response]:
    answer = await client.get("/sandbox/shop", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    return Markup(answer.text), answer


async def test_the_shop_says_who_pays_what_and_with_which_secrets(client: httpx2.AsyncClient) -> None:
    page, _ = await _shop(client)
    for shown in ("Charles Babbage", "150.00\u00a0GBP", "Ada", "1234", "111111", "No money moves"):
        assert shown in page.text


async def test_the_shop_may_run_only_what_is_its_own_and_the_module(client: httpx2.AsyncClient) -> None:
    page, answer = await _shop(client)
    policy = dict(
        directive.split(" ", maxsplit=1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    digests = {
        tag: b64encode(sha256(page.raw[tag].encode()).digest()).decode() for tag in ("style", "script")
    }
    assert policy["style-src"] == f"'sha256-{digests['style']}'"
    assert policy["script-src"] == f"'sha256-{digests['script']}' 'self'"
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == policy["frame-src"] == policy["form-action"] == "'self'"


async def test_the_shop_loads_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page, _ = await _shop(client)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert attributes.get("src") is None
        assert attributes.get("href", "/sandbox") in {"data:,", "/sandbox"}


async def test_the_sandbox_page_leads_to_the_shop_and_the_shop_back(client: httpx2.AsyncClient) -> None:
    assert 'href="/sandbox/shop"' in (await client.get("/sandbox")).text
    assert 'href="/sandbox"' in (await client.get("/sandbox/shop")).text


@pytest.mark.parametrize(
    ("host", "origin"),
    [("localhost:8123", "http://localhost:8123"), ('"><script>', "http://127.0.0.1:8000")],
)
async def test_the_lines_to_copy_name_the_address_that_was_asked(
    client: httpx2.AsyncClient, host: str, origin: str
) -> None:
    page, _ = await _shop(client, host=host)
    assert f'from "{origin}/watchword.js"' in page.text
