"""The HTTP side of `serve` against requests that are none, or that two readers would read differently."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest

from lambda_fn import LambdaServer
from lambda_fn.plain_http import HttpSide
from tests.support import library

_POST = b"POST /a HTTP/1.1\r\nhost: a\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n"


@pytest.fixture(scope="module")
def side() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    events: list[dict[str, Any]] = []

    def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
        events.append(event)
        return {"statusCode": 200, "headers": {}, "body": "answer"}

    with HttpSide(handler, "127.0.0.1:0", grace=0) as side:
        yield side.port, events


@pytest.fixture
def port(side: tuple[int, list[dict[str, Any]]]) -> int:
    return side[0]


@pytest.fixture
def events(side: tuple[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What reaches the handler."""
    side[1].clear()
    return side[1]


def exchange(port: int, request: bytes) -> bytes:
    """All that comes back until the server closes, or has answered the last request of a client that closes its
    side.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=5) as opened:
        opened.sendall(request)
        opened.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: opened.recv(65536), b""))


@pytest.mark.parametrize(
    "request_",
    [
        _CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
        _CHUNKED + b"\r\n3;name=value\r\nabc\r\n2 \r\nde\r\n0\r\nx-late: 1\r\n\r\n",
        _POST + b"content-length: 3\r\n\r\nabc",
        _POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        _POST + b"x-folded: one\r\n two\r\ncontent-length: 3\r\n\r\nabc",
    ],
)
def test_bodies_are_read_to_their_end(port: int, events: list[dict[str, Any]], request_: bytes) -> None:
    """And a second request behind them is the second one."""
    answers = exchange(port, request_ + request_)

    assert (2, 2) == (answers.count(b"HTTP/1.1 200"), len(events))
    assert "\n" not in str(events[0]["headers"].values())


@pytest.mark.parametrize(
    "request_",
    [
        _CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
        _CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
        _CHUNKED + b"\r\n3\r\nabcdef\r\n0\r\n\r\n",
        _CHUNKED + b"\r\n3" + b";" + b"x" * 2000 + b"\r\nabc\r\n0\r\n\r\n",
        _CHUNKED + b"\r\n0\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        _CHUNKED + b"content-length: 3\r\n\r\n0\r\n\r\n",
        _CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
        _POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        _POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        _POST + b"content-length : 3\r\n\r\nabc",
        _POST + b"content-length: -3\r\n\r\nabc",
        _POST + b"content-length: 3, 3\r\n\r\nabc",
    ],
)
def test_a_body_whose_end_is_in_doubt_is_refused(port: int, events: list[dict[str, Any]], request_: bytes) -> None:
    """400, and the connection ends with it: what follows might be another request to somebody else."""
    answers = exchange(port, request_ + _POST + b"content-length: 0\r\n\r\n")

    assert answers.startswith(b"HTTP/1.1 400")
    assert (1, []) == (answers.count(b"HTTP/1.1"), events)


@pytest.mark.parametrize("length", [b"16777217", b"9" * 20, b"9" * 5000])
def test_a_body_too_large_is_refused_before_it_comes(port: int, length: bytes) -> None:
    """By what it declares, however it writes that."""
    assert exchange(port, _POST + b"content-length: " + length + b"\r\n\r\n").startswith(b"HTTP/1.1 413")


def test_a_chunk_of_less_than_nothing_is_refused_at_once(port: int) -> None:
    """It was read until the client closed, whatever came, past every limit."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as opened:
        opened.sendall(_CHUNKED + b"\r\n-1\r\nabc")

        assert opened.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_stream_of_bodies_that_fails_never_looks_whole() -> None:
    """A google.api.HttpBody has no place for an error: the client sees that its body was cut off."""
    server = LambdaServer()
    library.add(server)
    with HttpSide(server.handler, "127.0.0.1:0", grace=0) as side:
        client = HTTPConnection("127.0.0.1", side.port, timeout=30)
        client.request("GET", "/v1/shelves/1:read")
        whole = client.getresponse()
        assert (200, "text/plain", b"The end\n") == (
            whole.status,
            whole.getheader("content-type"),
            whole.read(),
        )
        client.request("GET", "/v1/shelves/1:read?tags=fail")
        with pytest.raises(IncompleteRead) as cut:
            client.getresponse().read()
        client.close()
    server.close()

    assert b"The end\n" == cut.value.partial
