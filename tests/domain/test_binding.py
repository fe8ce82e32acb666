"""A request is bound byte for byte: method, path, query, body."""

from hashlib import sha256

import pytest
from hypothesis import given, strategies as st

from watchword.domain.binding import NO_BODY, PATH_SHOWN_MAX, Binding, bind

Request = tuple[str, bytes, bytes, bytes]
requests = st.tuples(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.binary(max_size=6),
    st.binary(max_size=6),
    st.binary(max_size=6),
)


def bound(request: Request) -> Binding:
    method, path, query, body = request
    return bind(method, path, query, sha256(body).digest())


@given(request=requests)
def test_the_same_request_is_no_other(request: Request) -> None:
    assert bound(request).difference(bound(request)) is None


@pytest.mark.attack(3)
@given(one=requests, other=requests)
def test_another_request_is_another(one: Request, other: Request) -> None:
    assert (bound(one).difference(bound(other)) is None) == (one == other)


@pytest.mark.attack(7)
@given(request=requests, method=st.sampled_from(["PATCH", "post", "DELETE"]))
def test_another_method_is_named(request: Request, method: str) -> None:
    assert bound(request).difference(bound((method, *request[1:]))) == "method"


@given(path=st.binary(max_size=20), query=st.binary(max_size=20), data=st.data())
def test_bytes_that_move_between_path_and_query_are_noticed(
    path: bytes, query: bytes, data: st.DataObject
) -> None:
    whole = path + query
    cut = data.draw(st.integers(0, len(whole)).filter(lambda at: at != len(path)))
    assert bind("GET", path, query).difference(bind("GET", whole[:cut], whole[cut:])) == "target"


@pytest.mark.attack(4)
@pytest.mark.parametrize("flipped", range(8))
def test_one_bit_of_the_body_is_noticed(flipped: int) -> None:
    body = b'{"amount": 100.0}'
    other = body[:12] + bytes([body[12] ^ 1 << flipped]) + body[13:]
    assert bound(("POST", b"/pay", b"", body)).difference(bound(("POST", b"/pay", b"", other))) == "body"


def test_no_body_is_an_empty_body() -> None:
    assert bind("GET", b"/a", b"") == bind("GET", b"/a", b"", NO_BODY) == bound(("GET", b"/a", b"", b""))


def test_a_path_longer_than_what_is_shown_is_bound_to_its_end() -> None:
    path = b"/" + b"a" * 1000
    binding = bind("GET", path, b"")
    assert binding.path == path[:PATH_SHOWN_MAX].decode()
    assert binding.difference(bind("GET", path + b"b", b"")) == "target"


def test_neither_query_nor_body_can_be_read_from_a_binding() -> None:
    binding = bind("POST", b"/pay", b"iban=DE02120300000000202051", sha256(b"secret").digest())
    assert "DE02120300000000202051" not in repr(binding)
    assert binding.path == "/pay"


def test_a_path_that_is_no_text_can_still_be_shown() -> None:
    assert bind("GET", b"/\xff\xfe", b"").path == "/\xff\xfe"
