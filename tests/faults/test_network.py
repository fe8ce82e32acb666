"""Hosts that are cut off, and joined again."""

import socket
from contextlib import closing

import pytest

from tests.faults.network import Network, NoNetworkError
from tests.store.valkey import Server

SOON = 5.0
NEVER = 0.5


def _answers(server: Server, seconds: float) -> bool:
    try:
        socket.create_connection((server.host.address, server.port), seconds).close()
    except OSError:
        return False
    return True


def test_a_host_that_is_cut_off_cannot_be_reached_until_it_is_joined_again() -> None:
    try:
        network = Network(2)
    except NoNetworkError as error:
        pytest.skip(f"this machine lets us have none: {error}")
    with closing(network):
        servers = [Server(host, **{"protected-mode": "no"}) for host in network.hosts]
        near, far = servers
        assert _answers(near, SOON)
        assert _answers(far, SOON)
        network.cut_off([far.host])
        assert _answers(near, SOON)
        assert not _answers(far, NEVER)
        # Whoever speaks to it from within is not cut off.
        assert far.tell("PING")
        network.mend()
        assert _answers(far, SOON)
        for server in servers:
            server.remove()


def test_who_may_not_have_a_network_is_told_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoNetworkError, match="it takes root"):
        Network(1)
