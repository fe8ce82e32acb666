"""One product a test."""

from collections.abc import AsyncIterator

import pytest

from tests import stores
from tests.app import Product, make_product


@pytest.fixture(autouse=True)
async def _stores(anyio_backend: str) -> AsyncIterator[None]:
    """Let go of what a test kept its records in."""
    yield
    await stores.close_opened()


@pytest.fixture
async def product() -> Product:
    """Return a product of its own."""
    return await make_product()
