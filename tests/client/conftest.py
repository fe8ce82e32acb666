"""One suite for all ways of calling."""

from __future__ import annotations

import pytest

from tests.client.fake import Sender


@pytest.fixture(params=["sync", "async", "requests"])
def send(request: pytest.FixtureRequest) -> Sender:
    """Return what makes a request through the `Auth`."""
    return Sender(request.param)
