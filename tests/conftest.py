"""What holds for every test: one event loop, no way out to the network, no haste from hypothesis."""

import socket
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from hypothesis import settings

from tests import stores

LOOPBACK = ("127.", "::1", "localhost", "198.18.")  # The last leads to namespaces of this machine alone.

# Tests share cores with servers and with each other: how long an example takes says nothing about it.
settings.register_profile("watchword", settings(), deadline=None)
settings.load_profile("watchword")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """
    Run on asyncio, as the server does; for the session, so that a fixture may outlive one test.

    But not its module: what one broken test does to the event loop must not reach those of the others.
    """
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=stores.KINDS,
        default="memory",
        help="what the tests of the server keep their records in",
    )


@pytest.fixture(scope="session", autouse=True)
def _store(pytestconfig: pytest.Config) -> Iterator[None]:
    with stores.choose(pytestconfig.getoption("--store")):
        yield


def _check(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and not name.startswith(LOOPBACK):
        pytest.fail(f"the test tried to reach {name}: only loopback is allowed")


@pytest.fixture(scope="session", autouse=True)
def _stay_on_this_machine() -> Iterator[None]:
    """
    Fail whoever leaves the machine: a test that needs the world says nothing about our code.

    An audit hook would see it as well, but it runs whenever a thread begins to be traced, and while it
    runs no other thread can.
    """

    def checked(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
        @wraps(connect)
        def connecting(end: socket.socket, address: Any) -> Any:
            if end.family in {socket.AF_INET, socket.AF_INET6}:
                _check(address[0])
            return connect(end, address)

        return connecting

    getaddrinfo = socket.getaddrinfo

    @wraps(getaddrinfo)
    def looking_up(host: Any, *arguments: Any, **options: Any) -> Any:
        _check(host)
        return getaddrinfo(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", looking_up)
        patch.setattr(socket.socket, "connect", checked(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", checked(socket.socket.connect_ex))
        yield
