"""What holds for every test: one event loop, no way out to the network, no haste from hypothesis."""

import socket
import sys

import pytest
from hypothesis import settings

LOOPBACK = ("127.", "::1", "localhost")

# Tests share cores with servers and with each other: how long an example takes says nothing about it.
settings.register_profile("watchword", settings(), deadline=None)
settings.load_profile("watchword")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio, as the server does; for the session, so that a fixture may outlive one test."""
    return "asyncio"


def _stay_on_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    """Fail whoever leaves the machine: a test that needs the world says nothing about our code."""
    match event, arguments:
        case "socket.connect", (socket.socket(family=socket.AF_INET | socket.AF_INET6), (str(host), *_)):
            pass
        case "socket.getaddrinfo", (str(host), *_):
            pass
        case "socket.getaddrinfo", (bytes(name), *_):
            host = name.decode()
        case _:
            return
    if not host.startswith(LOOPBACK):
        pytest.fail(f"the test tried to reach {host}: only loopback is allowed")


sys.addaudithook(_stay_on_this_machine)
