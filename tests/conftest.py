"""What holds for every test: one event loop, no way out to the network, no haste from hypothesis."""

import sys

import pytest
from hypothesis import settings

LOOPBACK = ("127.", "::1", "localhost")

# Two tests may share one core: how long an example takes says nothing about it.
settings.register_profile("watchword", settings(), deadline=None)
settings.load_profile("watchword")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio, as the server does; for the session, so that a fixture may outlive one test."""
    return "asyncio"


def _stay_on_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    """Fail whoever connects beyond loopback: a test that needs the world is no test of ours."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise PermissionError(f"a test tried to connect to {address}")


sys.addaudithook(_stay_on_this_machine)
