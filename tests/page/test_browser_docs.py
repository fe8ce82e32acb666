"""The page that the documentation shows, opened in a browser."""

import pytest
from playwright.sync_api import expect

from tests.docs.documents import NAMES, Block, blocks, read
from tests.page.conftest import Visit
from tests.page.sites import NOTHING, Answer, Call, Site
from tests.page.support import Bank, framed

SANDBOX = "http://127.0.0.1:8000"
SHOWN: list[tuple[str, Block]] = [
    (name, block) for name in NAMES for block in blocks(read(name)) if block.language == "html"
]


@pytest.mark.parametrize(("name", "block"), SHOWN, ids=[f"{name}:{block.line}" for name, block in SHOWN])
def test_a_page_that_is_shown_pays(visit: Visit, bank: Bank, name: str, block: Block) -> None:
    html = block.text.replace(SANDBOX, bank.origin)
    assert html != block.text, name

    def answer(call: Call) -> Answer:
        return Answer(html) if call.path == "/" else NOTHING

    with Site(answer) as site:
        visitor = visit()
        page = visitor.page
        page.goto(site.origin())
        page.get_by_role("button", name="Pay").click()
        framed(visitor).pay()
        expect(page.get_by_role("status")).to_have_text("Paid")
        page.get_by_role("button", name="Pay").click()
        framed(visitor).at("pin").press("Cancel")
        expect(page.get_by_role("status")).to_have_text("Not paid: closed")
    assert bank.runs() == {"TRANSFER__FUND": 1}


def test_there_is_one_to_try() -> None:
    assert SHOWN
