from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.http2 import headers
from bridge.http2.events import Fields
from bridge.http2.headers import (
    checked_request,
    flaw_in,
    name_flaw,
    stripped,
    trailers_fault,
    value_flaw,
)
from tests.support.frames import REQUEST

GET: Fields = ((":method", "GET"), (":scheme", "http"), (":path", "/"))


def test_grpc_request_is_sound() -> None:
    request = checked_request(REQUEST)

    assert (REQUEST, None, None) == (request.fields, request.fault, request.content_length)


@pytest.mark.parametrize(
    "fields",
    [
        GET,
        (*GET, (":authority", "x")),
        (*GET, ("te", "trailers")),
        (*GET, ("te", "Trailers")),
        (*GET, ("x", "")),
        (*GET, ("cookie", "a"), ("cookie", "b")),
        (*GET, ("content-length", "5"), ("content-length", "5")),
        ((":method", "CONNECT"), (":authority", "x:1")),
    ],
)
def test_sound_requests(fields: Fields) -> None:
    assert checked_request(fields).fault is None


@pytest.mark.parametrize(
    "fields",
    [
        (),
        GET[1:],
        GET[:1] + GET[2:],
        GET[:2],
        (*GET, GET[0]),
        (*GET[:2], (":path", "")),
        ((":method", ""), *GET[1:]),
        (*GET[:2], ("x", "y"), GET[2]),
        (*GET, ("x", "y"), (":authority", "x")),
        (*GET, (":status", "200")),
        (*GET, ("connection", "close")),
        (*GET, ("proxy-connection", "x")),
        (*GET, ("keep-alive", "x")),
        (*GET, ("transfer-encoding", "chunked")),
        (*GET, ("upgrade", "h2c")),
        (*GET, ("te", "gzip")),
        (*GET, ("te", "trailers, gzip")),
        (*GET, ("content-length", "")),
        (*GET, ("content-length", "-1")),
        (*GET, ("content-length", "1, 1")),
        (*GET, ("content-length", "9" * 30)),
        (*GET, ("content-length", "1"), ("content-length", "2")),
        ((":method", "CONNECT"), (":path", "/")),
    ],
)
def test_malformed_requests(fields: Fields) -> None:
    """RFC 9113 8.2.2, 8.3 and 8.3.1."""
    assert checked_request(fields).fault is not None


def test_content_length_is_read() -> None:
    assert 1234 == checked_request((*GET, ("content-length", "1234"))).content_length


@pytest.mark.parametrize(
    "name",
    ["", "X-Name", "x name", "x\tname", "x:name", ":", ":protocol", "x\x7f", "n\xe4me", "x\0"],
)
def test_names_that_no_field_may_have(name: str) -> None:
    """RFC 9113 8.2.1."""
    assert name_flaw(name) is not None


@pytest.mark.parametrize("name", ["x", "x-name", "grpc_tags.bin", ":path", "!#$%&'*+-.^_`|~0"])
def test_names_that_fields_may_have(name: str) -> None:
    assert name_flaw(name) is None


@pytest.mark.parametrize("value", ["a\0", "a\rb", "a\nb", "\x01", "\x7f", "\x1b[0m"])
def test_values_that_no_field_may_have(value: str) -> None:
    assert value_flaw(value) is not None


@pytest.mark.parametrize("value", ["", "a b", "a\tb", "Zo\xeb", "\xa0\xad\xff", "\x80", '"%2C"'])
def test_values_that_fields_may_have(value: str) -> None:
    assert value_flaw(value) is None


def test_only_spaces_and_tabs_are_taken_off() -> None:
    assert "\xa0a b\x0b" == stripped(" \t\xa0a b\x0b\t ")


def test_flaw_of_any_field_is_found() -> None:
    assert flaw_in(REQUEST) is None
    assert flaw_in((*REQUEST, ("X", "y"))) is not None
    assert flaw_in((*REQUEST, ("x", "\0"))) is not None


def test_flaw_makes_a_request_malformed() -> None:
    request = checked_request(REQUEST, "a flaw")

    assert ("a flaw", "a flaw") == (request.flaw, request.fault)


@pytest.mark.parametrize("field", [(":path", "/"), (":status", "200"), ("connection", "close")])
def test_fields_that_trailers_may_not_have(field: tuple[str, str]) -> None:
    assert trailers_fault((("x", "y"), field)) is not None


def test_trailers() -> None:
    assert trailers_fault((("x", "y"), ("content-length", "0"))) is None


def test_reasons_name_only_what_is_known() -> None:
    """They go into GOAWAY and logs: nothing that a client made up, no value."""
    fault = checked_request((*GET, ("te", "secret"))).fault

    assert "a field that has no place in a request: te" == fault


_SOME_FIELDS = st.sampled_from(
    [
        (":method", "POST"),
        (":method", ""),
        (":path", "/a"),
        (":scheme", "http"),
        (":authority", "a"),
        (":authority", ""),
        ("te", "trailers"),
        ("te", "Trailers"),
        ("te", "gzip"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("content-length", "5"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
    ]
)
_AS_USUAL = [(":method", "POST"), (":scheme", "http"), (":path", "/a")]


@given(
    st.one_of(
        st.lists(_SOME_FIELDS, max_size=6),
        st.lists(_SOME_FIELDS, max_size=4).map(lambda more: [*_AS_USUAL, *more]),
        st.permutations([*_AS_USUAL, (":authority", "a"), ("x-a", "1")]),
    )
)
def test_glance_sees_what_a_closer_look_sees(fields: list[tuple[str, str]]) -> None:
    """Usual lists are not looked through field by field. The verdict must not depend on that."""
    assert headers._looked_through(tuple(fields)) == checked_request(tuple(fields))


def test_usual_names_are_known_at_a_glance() -> None:
    """As gRPC clients send them, with an authority and without."""
    more = ("content-type", "te", "x-a", "x-a")
    pseudo = (":method", ":scheme", ":path")

    assert headers._SHAPES[(*pseudo, ":authority", *more)].is_usual
    assert headers._SHAPES[(*pseudo, *more)].is_usual


@pytest.mark.parametrize(
    "names",
    [
        (),
        (":method", ":scheme"),
        (":method", ":scheme", ":path", "x", ":authority"),
        (":method", ":scheme", ":path", ":path"),
        (":method", ":scheme", ":path", ":authority", ":authority"),
        (":method", ":scheme", ":authority", "x"),
        (":method", ":scheme", ":path", "te", "te"),
        (":method", ":scheme", ":path", "content-length"),
        (":method", ":scheme", ":path", "connection"),
        (":method", ":scheme", ":path", ":status"),
    ],
)
def test_other_names_need_a_closer_look(names: tuple[str, ...]) -> None:
    assert not headers._SHAPES[names].is_usual


@pytest.mark.parametrize("name", ["", "X", "x y", ":new"])
def test_a_bad_name_is_seen_each_time(name: str) -> None:
    """The second time its list of names is remembered."""
    fields = (*REQUEST, (name, "1"))
    found = [checked_request(fields).flaw, checked_request(fields).flaw]

    assert [name_flaw(name)] * 2 == found


def test_memory_for_names_is_bounded() -> None:
    """256 lists of names, each of at most 2 KiB, however many a client makes up."""
    for number in range(1000):
        checked_request((*REQUEST, (f"x-{number}", "1")))
    checked_request((*REQUEST, ("x" * 3000, "1")))

    assert len(headers._SHAPES) <= 256
    assert max(map(headers.size_of_names, headers._SHAPES)) <= 2048
