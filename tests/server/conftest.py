"""One product a test."""

import pytest

from tests.app import Product, make_product


@pytest.fixture
async def product() -> Product:
    """Return a product of its own."""
    return await make_product()
