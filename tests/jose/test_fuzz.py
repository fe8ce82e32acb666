"""Bodies that were changed at random, or made to be hostile: refused, each of them, and at no higher cost."""

import gc
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings, strategies as st

from tests.jose import fuzz, oracle
from tests.jose.support import URL, Client, fault, open_nested, verify
from watchword.jose.compact import JoseError, JoseFault
from watchword.jose.envelope import open_jwe
from watchword.jose.keys import ServerKeys

Take = Callable[[str, bytes], object]


@pytest.fixture(scope="module")
def sender(to_us: rsa.RSAPublicKey, client: Client) -> fuzz.Keys:
    """Have the worst sender: a client whose keys we know."""
    return fuzz.Keys(server=to_us, client=client.private, algorithm="ES512", kid=client.key.id, url=URL)


@pytest.fixture(scope="module")
def take(keys: ServerKeys, client: Client) -> Take:
    """Do what the server does with a body."""

    def taken(method: str, body: bytes) -> object:
        match method:
            case "jwe":
                return open_jwe(body, keys=keys)
            case "jws":
                return verify(body, client.key)
            case _:
                return open_nested(body, keys, client.key)

    return taken


@pytest.mark.parametrize("method", fuzz.METHODS)
def test_what_the_fuzzer_starts_from_is_taken(take: Take, sender: fuzz.Keys, method: str) -> None:
    """Were honest bodies refused, refusing the others would show nothing."""
    take(method, fuzz.honest(random.Random(1), sender, method))


@pytest.mark.parametrize("method", fuzz.METHODS)
def test_whatever_the_fuzzer_makes_is_refused(take: Take, sender: fuzz.Keys, method: str) -> None:
    rng = random.Random(f"hostile {method}")
    kinds: Counter[str] = Counter()
    for number in range(700):
        kind, body = fuzz.make(rng, sender, method)
        kinds[kind] += 1
        try:
            take(method, body)
        except JoseError:
            continue
        pytest.fail(f"number {number} was taken: {kind}, {body[:300]!r}")
    assert len(kinds) > 20  # Each kind had its turn, or nearly.


def test_hostile_bodies_cost_no_more_than_honest_ones_and_leave_nothing_behind(
    take: Take, sender: fuzz.Keys
) -> None:
    rng = random.Random("cost")
    bodies = [(method, fuzz.make(rng, sender, method)) for method in fuzz.METHODS * 200]

    def cost(method: str, body: bytes) -> float:
        started = time.thread_time()
        with suppress(JoseError):
            take(method, body)
        return time.thread_time() - started

    honest = {method: fuzz.honest(rng, sender, method) for method in fuzz.METHODS}
    fair = {method: min(cost(method, body) for _ in range(20)) for method, body in honest.items()}
    # Twice each, the better one: what the machine does meanwhile is nobody's body's fault.
    costs = [(min(cost(method, body), cost(method, body)), kind) for method, (kind, body) in bodies]
    worst, kind = max(costs)
    assert worst < 0.05, kind
    mean = sum(each for each, _ in costs) / len(costs)
    assert mean <= max(fair.values())

    gc.collect()
    tracemalloc.start()
    try:
        for method, (_, body) in bodies:
            cost(method, body)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


# --- at random ------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("method", fuzz.METHODS)
def test_a_body_that_was_cut_short_is_refused(
    take: Take, sender: fuzz.Keys, method: str, data: st.DataObject
) -> None:
    body = fuzz.honest(random.Random(1), sender, method)
    length = data.draw(st.integers(0, len(body) - 1))
    assert fault(take, method, body[:length]) in set(JoseFault)


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("method", fuzz.METHODS)
def test_a_body_with_any_byte_changed_is_refused(
    take: Take, sender: fuzz.Keys, method: str, data: st.DataObject
) -> None:
    body = bytearray(fuzz.honest(random.Random(1), sender, method))
    index = data.draw(st.integers(0, len(body) - 1))
    body[index] = data.draw(st.integers(0, 255).filter(lambda value: value != body[index]))
    assert fault(take, method, bytes(body)) in set(JoseFault)


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("method", fuzz.METHODS)
def test_a_body_with_any_segment_exchanged_is_refused(
    take: Take, sender: fuzz.Keys, method: str, data: st.DataObject
) -> None:
    segments = fuzz.honest(random.Random(1), sender, method).split(b".")
    index = data.draw(st.integers(0, len(segments) - 1))
    other = oracle.b64(data.draw(st.binary(max_size=300)))
    if other != segments[index]:
        segments[index] = other
        assert fault(take, method, b".".join(segments)) in set(JoseFault)


@settings(max_examples=150)
@given(body=st.binary(max_size=200) | st.text(alphabet='eyJhbGci0.-_={}" ', max_size=200).map(str.encode))
@pytest.mark.parametrize("method", fuzz.METHODS)
def test_whatever_comes_is_refused_and_nothing_else_is_raised(take: Take, method: str, body: bytes) -> None:
    assert fault(take, method, body) in set(JoseFault)
