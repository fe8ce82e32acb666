"""What the tests of access tokens share: an issuer to command, a real one, a clock, a way out."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests import issuer as real
from tests.auth.support import RSA, FakeIssuer, tokens_of
from tests.factories import FixedClock
from watchword.auth.egress import Egress
from watchword.auth.jwt import JwtTokens


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(scope="module")
async def egress() -> AsyncIterator[Egress]:
    async with Egress() as way_out:
        yield way_out


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as fake:
        fake.publish(RSA)
        yield fake


@pytest.fixture
def tokens(issuer: FakeIssuer, egress: Egress, clock: FixedClock) -> JwtTokens:
    return tokens_of(issuer, egress, clock)


@pytest.fixture(scope="module")
def provider() -> Iterator[real.Issuer]:
    """A real OpenID provider."""
    with real.started() as running:
        yield running
