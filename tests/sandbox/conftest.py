"""A started sandbox, and the demo people."""

from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.sandbox.support import Person, client_of
from watchword.sandbox.app import Sandbox, create


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with create() as started:
        yield started


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_of(sandbox) as opened:
        yield opened


@pytest.fixture
def ada(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-ada", 435036)


@pytest.fixture
def grace(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-grace", 435037)


@pytest.fixture
def signer(client: httpx2.AsyncClient) -> Person:
    return Person(client, "demo-signer", 435038)
