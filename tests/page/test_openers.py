"""Who may frame the page and who is told, where an operator lists them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette

from tests.factories import (
    ADA,
    PAY,
    PAYMENT,
    READ,
    STATEMENT,
    World,
    enrolled_phone,
    enrolled_pin,
    make_world,
)
from tests.page.forms import Customer, Seen
from watchword.domain.action import Action
from watchword.domain.binding import Binding
from watchword.domain.decision import Change
from watchword.domain.method import Method
from watchword.engine.engine import Caller, StepUp
from watchword.page.openers import LOOPBACK, Opener, covers, host_of, named_host, named_origin
from watchword.page.render import Renderer
from watchword.page.routes import ApprovalPage
from watchword.page.settings import PageApplication, PageSettings
from watchword.store.base import StoreUnavailableError
from watchword.store.memory import MemoryStore

SHOP, BANK, PARTNER = "https://shop.example", "https://bank.example", "https://not-announced.example"
SETTINGS = PageSettings(
    origin="https://sca.example",
    openers=(BANK,),
    applications={
        "shop": PageApplication(name="The Shop", openers=(SHOP,)),
        "partner": PageApplication(openers=(PARTNER,)),
        "closed": PageApplication(openers=()),
        "plain": PageApplication(name="Plain"),
    },
)
FRAMED = {"sec-fetch-dest": "iframe", "sec-fetch-site": "cross-site"}


@pytest.fixture
async def world() -> World:
    world = make_world()
    await world.enrol(ADA, enrolled_pin(), enrolled_phone())
    return world


@asynccontextmanager
async def served(world: World, settings: PageSettings = SETTINGS) -> AsyncGenerator[Customer]:
    app = Starlette(routes=ApprovalPage(world.engine, settings).routes())
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://sca.example") as client:
        yield Customer(client)


async def issued(
    world: World, application: str | None, action: Action = PAYMENT, binding: Binding = PAY
) -> str:
    answer = await world.engine.protect(Caller(ADA, application=application), action, binding)
    assert isinstance(answer, StepUp)
    return answer.ott


def ancestors(seen: Seen) -> str:
    return seen.answer.headers["content-security-policy"].partition("frame-ancestors ")[2]


@pytest.mark.attack(116)
@pytest.mark.parametrize(
    ("application", "origin", "allowed"),
    [
        (None, BANK, BANK),
        (None, SHOP, "'none'"),
        ("shop", SHOP, SHOP),
        ("shop", BANK, "'none'"),
        ("partner", SHOP, "'none'"),
        ("closed", BANK, "'none'"),
        ("plain", BANK, BANK),
        ("unheard-of", BANK, BANK),
        ("shop", "https://shop.example:8443", "'none'"),
        ("shop", "http://shop.example", "'none'"),
        ("shop", "https://shop.example.evil.test", "'none'"),
        ("shop", "https://evil.test/https://shop.example", "'none'"),
        ("shop", "https://shop.example; script-src *", "'none'"),
        ("shop", None, SHOP),
        ("shop", "null", SHOP),
        ("closed", None, "'none'"),
    ],
)
async def test_only_an_origin_that_is_listed_for_the_application_may_frame_it_and_is_told(
    world: World, application: str | None, origin: str | None, allowed: str
) -> None:
    headers = {} if origin is None else {"origin": origin}
    async with served(world) as customer:
        seen = await customer.open(await issued(world, application), headers=headers)
        again = await customer.send(seen, "answer", answer="0000")
    for screen in (seen, again):
        assert ancestors(screen) == allowed
        assert screen.openers == ("[]" if allowed == "'none'" else f'["{allowed}"]')


async def test_the_page_says_which_application_asks(world: World) -> None:
    async with served(world) as customer:
        assert "The Shop" in (await customer.open(await issued(world, "shop"))).text
        assert "The Shop" not in (await customer.open(await issued(world, "partner"))).text


@pytest.mark.parametrize(
    ("hostname", "told"),
    [("shop.example", SHOP), ("SHOP.example", SHOP), ("evil.test", "'none'"), ("", SHOP), ("\u00e9", SHOP)],
)
async def test_where_the_browser_names_no_origin_the_host_that_the_form_names_narrows_it(
    world: World, hostname: str, told: str
) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), parentHostname=hostname)
    assert ancestors(seen) == told


async def test_who_is_listed_is_told_to_nobody_who_has_no_token(world: World) -> None:
    async with served(world) as customer:
        nobody = await customer.open("9f5f5812-2609-4e48-8418-b64437c0c7cd")
        shop = await customer.open("9f5f5812-2609-4e48-8418-b64437c0c7cd", headers={"origin": SHOP})
    assert "example" not in nobody.answer.text + ancestors(nobody)
    assert ancestors(shop) == SHOP


async def test_a_long_list_of_openers_fits_into_the_forms(world: World) -> None:
    many = tuple(f"https://{'x' * 60}{number}.example" for number in range(32))
    async with served(world, PageSettings(openers=many)) as customer:
        seen = await customer.open(await issued(world, None))
        assert (await customer.send(seen, "answer", answer="0000")).screen == "pin"


async def test_in_production_the_page_is_for_tls_alone(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"))
    assert seen.answer.headers["strict-transport-security"] == "max-age=31536000"
    cookie = seen.answer.headers["set-cookie"]
    assert cookie.startswith("__Host-watchword-")
    for mark in ("Secure", "HttpOnly", "SameSite=None", "Partitioned", "Path=/", "Max-Age=900"):
        assert mark in cookie.split("; ")


async def test_the_cookie_goes_with_the_page(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"))
        cancelled = await customer.send(seen, "cancel")
    assert "Max-Age=0" in cancelled.answer.headers["set-cookie"]


async def test_a_template_that_fails_is_trouble_and_tells_how_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> str:
        message = "a secret"
        raise ValueError(message)

    headers = {"origin": SHOP}
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop", STATEMENT, READ), headers=headers)
        seen = await customer.send(seen, "choose", method="PIN")
        form = seen.form("answer", answer="1234")
        monkeypatch.setattr(Renderer, "render", fail)
        broken = await customer.post(form)
    assert (broken.status, broken.outcome, broken.openers) == (
        500,
        "tw-approve-api-action-success",
        f'["{SHOP}"]',
    )
    assert "not your fault" in broken.text
    assert broken.answer.headers["content-type"].startswith("text/html")
    assert ancestors(broken) == SHOP
    assert "ValueError" in caplog.text
    assert "a secret" not in caplog.text + broken.answer.text


async def test_trouble_is_framed_and_told_as_the_page_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailableError

    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), headers={"origin": SHOP})
        monkeypatch.setattr(type(world.store), "token", away)
        opening = await customer.open("9f5f5812-2609-4e48-8418-b64437c0c7cd", headers={"origin": BANK})
        going_on = await customer.send(seen, "answer", answer="1234")
        stranger = await customer.open("9f5f5812-2609-4e48-8418-b64437c0c7cd", headers={"origin": "http://x"})
    assert [opening.status, going_on.status, stranger.status] == [503, 503, 503]
    assert [ancestors(opening), ancestors(going_on), ancestors(stranger)] == [BANK, SHOP, "'none'"]


# --- frames at high risk ----------------------------------------------------------------------


@pytest.mark.attack(118)
async def test_in_a_frame_at_high_risk_no_form_counts_that_was_not_seen(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), headers={"origin": SHOP, **FRAMED})
        unseen = await customer.send(seen, "answer", answer="1234")
        assert unseen.screen == "window"
        assert world.methods.compared.total() == 0
        form = seen.form("answer", answer="1234") | {"seen": "1"}
        assert (await customer.post(form)).screen == "choose"


@pytest.mark.attack(118)
async def test_where_high_risk_is_never_framed_it_goes_on_in_a_window_whatever_is_said(world: World) -> None:
    async with served(world, PageSettings(openers=(SHOP,), frame_high_risk=False)) as customer:
        seen = await customer.open(await issued(world, None), headers={"origin": SHOP, **FRAMED})
        assert seen.screen == "window"
        page = seen.form("window")["page"]
        forged = await customer.post({"page": page, "do": "answer", "answer": "1234", "seen": "1"})
        assert forged.screen == "window"
        assert world.methods.compared.total() == 0
        window = await customer.send(forged, "window")
        assert window.screen == "pin"
        assert (await customer.send(window, "answer", answer="1234")).screen == "choose"


@pytest.mark.attack(118)
async def test_a_low_risk_can_be_approved_in_any_listed_frame(world: World) -> None:
    async with served(world, PageSettings(openers=(SHOP,), frame_high_risk=False)) as customer:
        ott = await issued(world, None, STATEMENT, READ)
        seen = await customer.open(ott, headers={"origin": SHOP, **FRAMED})
        seen = await customer.send(seen, "choose", method="PIN")
        assert (await customer.send(seen, "answer", answer="1234")).screen == "done"


async def test_a_window_that_was_closed_can_be_opened_again_from_its_frame(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), headers={"origin": SHOP, **FRAMED})
        frame = await customer.send(seen, "answer", answer="1234")
        first = await customer.send(frame, "window")
        second = await customer.send(frame, "window")
        assert (await customer.send(first, "answer", answer="1234")).screen == "over"
        assert (await customer.send(second, "answer", answer="1234")).screen == "choose"


async def test_a_page_that_was_cancelled_opens_no_window(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), headers={"origin": SHOP, **FRAMED})
        frame = await customer.send(seen, "answer", answer="1234")
        await customer.send(frame, "cancel")
        assert (await customer.send(frame, "window")).screen == "over"


@pytest.mark.attack(128)
async def test_no_other_page_can_be_taken_to_a_window(world: World) -> None:
    async with served(world) as customer:
        low = await customer.open(await issued(world, "shop", STATEMENT, READ), headers=FRAMED)
        top = await customer.open(await issued(world, "shop"))
        for seen in (low, top):
            page = next(form.fields["page"] for form in seen.forms)
            answer = await customer.post({"page": page, "do": "window"})
            assert answer.screen == seen.screen
            assert "set-cookie" not in answer.answer.headers


@pytest.mark.attack(118)
async def test_a_window_that_is_itself_framed_is_held_to_the_same(world: World) -> None:
    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"), headers={"origin": SHOP, **FRAMED})
        frame = await customer.send(seen, "answer", answer="1234")
        own = {"sec-fetch-dest": "iframe", "sec-fetch-site": "same-origin"}
        window = await customer.send(frame, "window", headers=own)
        assert (await customer.send(window, "answer", answer="1234")).screen == "window"


# --- races and faults -------------------------------------------------------------------------


@pytest.mark.attack(43)
async def test_of_guesses_on_many_pages_at_once_five_are_compared(world: World) -> None:
    async with served(world) as customer:
        pages = [await customer.open(await issued(world, "shop")) for _ in range(10)]
        guesses = [seen.form("answer", answer="0000") for seen in pages for _ in range(5)]
        answers = await asyncio.gather(*(customer.post(guess) for guess in guesses))
    assert world.methods.compared[Method.PIN] == 5
    assert all(answer.screen in {"pin", "locked"} for answer in answers)
    assert (await world.user()).attempts.is_locked(world.clock.now())


@pytest.mark.attack(157)
async def test_an_answer_that_is_lost_after_its_commit_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = type(world.store).commit

    async def commit_and_fail(store: MemoryStore, change: Change) -> bool:
        await commit(store, change)
        raise StoreUnavailableError

    async with served(world) as customer:
        seen = await customer.open(await issued(world, "shop"))
        with monkeypatch.context() as patched:
            patched.setattr(MemoryStore, "commit", commit_and_fail)
            lost = await customer.send(seen, "answer", answer="1234")
        assert (lost.status, lost.screen) == (503, "trouble")
        assert (await customer.send(lost, "again")).screen == "choose"
        assert (await customer.send(seen, "answer", answer="1234")).screen == "choose"
    assert world.methods.compared[Method.PIN] == 1


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "origin", "is_covered"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://a.example:443", False),
        ("http://localhost:*", "http://localhost", True),
        ("http://localhost:*", "http://localhost:1", True),
        ("http://localhost:*", "http://localhost:65535", True),
        ("http://localhost:*", "http://localhost:123456", False),
        ("http://localhost:*", "http://localhost:", False),
        ("http://localhost:*", "http://localhost.evil.test", False),
        ("http://localhost:*", "https://localhost:1", False),
    ],
)
def test_an_entry_covers_its_origin_and_at_any_port_where_it_says_so(
    listed: str, origin: str, is_covered: bool
) -> None:
    assert covers(listed, origin) is is_covered


def test_origins_and_hosts_are_read_strictly() -> None:
    assert named_origin(None) is None
    assert named_origin("null") is None
    assert named_origin("https://a.example:8443") == "https://a.example:8443"
    for none in ("", "a.example", "https://", "https://A.example", "https://a.example/", "http://[::1]"):
        assert named_origin(none) == "?"
    assert named_host("A.Example") == "a.example"
    assert named_host("a.example:80") == named_host("\u00e9.example") == named_host("") == ""
    assert [host_of(entry) for entry in LOOPBACK[:2]] == ["localhost", "127.0.0.1"]
    assert Opener.of((), origin="?", hostname="").stranger == "?"
