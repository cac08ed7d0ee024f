"""One connection without a network: any cut gives the same response, garbage an error, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.carriers.http_connection import (
    MAX_FIELDS,
    Connection,
    declared_length,
    ends_with_connection,
)
from bridge.carriers.http_exchange import Gathering, Response
from bridge.carriers.origin import Origin
from bridge.rpc.errors import BadReply, ConnectionLost, ReplyTooLarge, RpcError

BUFFER_SIZE = 4096
MAX_BODY = 100


class FakeTransport:
    """Takes what is written; breaks when told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.is_broken = False
        self.breaks_on_write = False

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.is_broken = self.is_broken or self.breaks_on_write

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self.is_broken

    def abort(self) -> None:
        self.is_broken = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> None:
        return None


class FakeOwner:
    origin = Origin("http", "upstream.test", 80)

    def __init__(self) -> None:
        self.heard: list[str] = []

    def opened(self, connection: Connection) -> None:
        self.heard.append("opened")

    def released(self, connection: Connection) -> None:
        self.heard.append("released")

    def lost(self, connection: Connection) -> None:
        self.heard.append("lost")


class Bench:
    """A connection between a fake transport and a fake owner."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.owner, self.transport = FakeOwner(), FakeTransport()
        buffer = memoryview(bytearray(BUFFER_SIZE))
        self.connection = Connection(self.owner, cast("socket.socket", None), buffer)
        self.connection.connection_made(cast("Any", self.transport))

    def ask(self, *, max_body: int = MAX_BODY) -> asyncio.Future[Response]:
        answer: asyncio.Future[Response] = self.loop.create_future()
        assert self.connection.start(Gathering(answer, max_body), b"HEAD", b"")
        return answer

    def receive(self, received: bytes) -> None:
        for at in range(0, len(received), BUFFER_SIZE):
            part = received[at : at + BUFFER_SIZE]
            self.connection.get_buffer(-1)[: len(part)] = part
            self.connection.buffer_updated(len(part))

    def close(self) -> None:
        self.loop.close()


@pytest.fixture
def bench() -> Any:
    made = Bench()
    yield made
    made.close()


FORMS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx-a: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-late: 2\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nx-early: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-a: 1\r\ncontent-length: 5\r\n\r\nhello",
    ]
)


@given(wire=FORMS, cuts=st.lists(st.integers(0, 130), max_size=12))
def test_any_cut_gives_the_same_response(wire: bytes, cuts: list[int]) -> None:
    """Wherever the bytes are cut, the response is the same and the connection free for the next."""
    bench = Bench()
    answer = bench.ask()
    edges = [0, *sorted(cuts), len(wire)]
    for start, end in pairwise(edges):
        bench.receive(wire[start:end])
    bench.close()

    response = answer.result()
    assert (200, b"hello", "1") == (response.status, response.body, response.field(b"x-a"))
    assert ("", "") == (response.field(b"x-early"), response.field(b"x-late"))
    assert ["opened", "released"] == bench.owner.heard


@given(
    wire=FORMS,
    changes=st.lists(st.tuples(st.integers(0, 130), st.binary(max_size=3)), max_size=4),
    cut=st.integers(1, 60),
)
def test_garbage_ends_in_a_response_or_a_documented_error(
    wire: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    """Whatever a server sends, a caller gets a response or an RpcError, and after the end of the connection one of them for sure."""
    for at, change in changes:
        wire = wire[:at] + change + wire[at + 1 :]
    bench = Bench()
    answer = bench.ask()
    for at in range(0, len(wire), cut):
        bench.receive(wire[at : at + cut])
    bench.connection.eof_received()
    bench.connection.connection_lost(None)
    bench.close()

    assert answer.done()
    error = answer.exception()
    assert error is None or isinstance(error, (BadReply, ConnectionLost, ReplyTooLarge))
    assert ["opened", "lost"] == [heard for heard in bench.owner.heard if heard != "released"]


def test_fields_are_bounded_in_number(bench: Bench) -> None:
    """However few bytes they have, and in however many interim responses they come."""
    answer = bench.ask()
    bench.receive(b"HTTP/1.1 103 Early Hints\r\n" + b"a:\r\n" * (MAX_FIELDS + 2))

    assert isinstance(answer.exception(), BadReply)


def test_request_that_cannot_leave_is_not_begun(bench: Bench) -> None:
    """When the first write fails not a byte has left: the caller may use another connection."""
    bench.transport.breaks_on_write = True
    answer: asyncio.Future[Response] = bench.loop.create_future()
    exchange = Gathering(answer, MAX_BODY)
    begun = bench.connection.start(exchange, b"HEAD", b"body")
    bench.connection.connection_lost(BrokenPipeError())

    assert not begun
    assert not answer.done()
    assert ["opened", "lost"] == bench.owner.heard


def test_closed_connection_takes_no_request(bench: Bench) -> None:
    bench.transport.is_broken = True

    assert not bench.connection.start(Gathering(bench.loop.create_future(), 1), b"HEAD", b"")
    assert [] == bench.transport.written


def test_unsent_request_keeps_the_connection_from_the_next_caller(bench: Bench) -> None:
    """A response that came before the request was read leaves bytes that would come before the next request."""
    answer = bench.ask()
    bench.transport.unsent = 1
    bench.receive(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")

    assert 413 == answer.result().status
    assert bench.transport.is_broken
    assert ["opened"] == bench.owner.heard


def test_answer_that_nobody_awaits_frees_no_connection(bench: Bench) -> None:
    """The task that was cancelled is about to close it."""
    answer = bench.ask()
    answer.cancel()
    bench.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    assert bench.transport.is_broken
    assert ["opened"] == bench.owner.heard


def test_lost_connection_keeps_its_cause(bench: Bench) -> None:
    answer = bench.ask()
    cause = ConnectionResetError()
    bench.connection.connection_lost(cause)
    error = answer.exception()

    assert isinstance(error, RpcError)
    assert cause is error.__cause__


def test_bug_in_an_exchange_is_not_blamed_on_the_server(bench: Bench) -> None:
    """It goes to the loop, which logs it and closes the connection."""

    class Broken(Gathering):
        def add(self, body: bytes) -> RpcError | None:
            raise ZeroDivisionError

    bench.connection.start(Broken(bench.loop.create_future(), 9), b"HEAD", b"")
    with pytest.raises(Exception, match="callback") as caught:
        bench.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")

    assert isinstance(caught.value.__context__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("fields", "length", "is_open"),
    [
        ([], None, True),
        ([(b"content-length", b"12")], 12, False),
        ([(b"transfer-encoding", b"chunked")], None, False),
        ([(b"transfer-encoding", b"gzip, Chunked")], None, False),
        ([(b"transfer-encoding", b"gzip")], None, True),
    ],
)
def test_head_says_where_the_body_ends(
    fields: list[tuple[bytes, bytes]], length: int | None, is_open: bool
) -> None:
    """RFC 9112 6.3: by its length, by its chunks, or with the connection."""
    assert (length, is_open) == (declared_length(fields), ends_with_connection(fields))
