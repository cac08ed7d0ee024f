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

from bridge.carriers.http1.connection import MAX_FIELDS, Http1Connection
from bridge.carriers.http1.exchange import Gathering, Response
from bridge.carriers.http1.framing import declared_length, ends_with_connection
from bridge.rpc.errors import BadReply, ConnectionLost, ReplyTooLarge, RpcError
from bridge.rpc.url import Origin

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

    def opened(self, connection: Http1Connection) -> None:
        self.heard.append("opened")

    def keeps_alive(self, seconds: float) -> None:
        self.heard.append(f"keeps alive for {seconds:g} s")

    def released(self, connection: Http1Connection) -> None:
        self.heard.append("released")

    def lost(self, connection: Http1Connection) -> None:
        self.heard.append("lost")


class Bench:
    """A connection between a fake transport and a fake owner."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.owner, self.transport = FakeOwner(), FakeTransport()
        buffer = memoryview(bytearray(BUFFER_SIZE))
        self.connection = Http1Connection(self.owner, cast("socket.socket", None), buffer)
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
        (
            b"HTTP/1.1 200 OK\r\nx-a: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n"
            b"x-late: 2\r\n\r\n"
        ),
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
    """Whatever a server sends, a caller gets a response or an RpcError, and after the end of the connection one of them
    for sure.
    """
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
        ([(b"content-length", b"12 ")], 12, False),
        ([(b"content-length", b"0" * 5000 + b"12")], 12, False),
        ([(b"content-length", b"000")], 0, False),
        ([(b"transfer-encoding", b"chunked")], None, False),
        ([(b"transfer-encoding", b"gzip, Chunked")], None, False),
        ([(b"transfer-encoding", b"gzip")], None, True),
        ([(b"transfer-encoding", b"identity")], None, True),
        ([(b"transfer-encoding", b"xchunked")], None, True),
        ([(b"transfer-encoding", b"chunked "), (b"transfer-encoding", b"")], None, False),
    ],
)
def test_head_says_where_the_body_ends(fields: list[tuple[bytes, bytes]], length: int | None, is_open: bool) -> None:
    """RFC 9112 6.3: by its length, by its chunks, or with the connection."""
    assert (length, is_open) == (declared_length(fields), ends_with_connection(fields))


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 001 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 -20 OK\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"ICY 200 OK\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 0x10\r\n\r\n",
        HEAD + b"Content-Length: 18446744073709551615\r\n\r\n",
        HEAD + b"Content-Length: 18446744073709551616\r\n\r\n",
        HEAD + b"Content-Length: 9223372036854775808\r\n\r\n",
        HEAD + b"Content-Length: " + b"0" * 3000 + b"9223372036854775808\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 1, 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nab",
        HEAD + b"A: b\r\n c\r\n\r\n",
        HEAD + b"A: b\0c\r\n\r\n",
        HEAD + b"A\0: b\r\n\r\n",
        HEAD + b"A : b\r\n\r\n",
        HEAD + b"A: b\nB: c\r\n\r\n",
        CHUNKED + b"ffffffffffffffff\r\n",
        CHUNKED + b"FFFFFFFFFFFFFFFF;a=b\r\n",
        CHUNKED + b"0000000000ffffffffffffffff\r\nabc",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"8000000000000000\r\nabc",
        CHUNKED + b"7fffffffffffffff\r\nabc",
        CHUNKED + b"1\r\na\r\nffffffffffffffff\r\nabc",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"0x1\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"1\r\nab\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4000,
    ],
    ids=lambda wire: repr(wire[-40:]),
)
def test_http_that_does_not_exist_is_refused_at_once(wire: bytes) -> None:
    """However it is cut: one error, and the end of the connection, without waiting for more."""
    for cut in (BUFFER_SIZE, 1, 7):
        bench = Bench()
        answer = bench.ask()
        for at in range(0, len(wire), cut):
            bench.receive(wire[at : at + cut])
        bench.close()

        assert answer.done(), f"cut every {cut} bytes"
        assert isinstance(answer.exception(), BadReply)
        assert bench.transport.is_broken
        assert "released" not in bench.owner.heard


@pytest.mark.parametrize("cut", [BUFFER_SIZE, 1, 7])
@pytest.mark.parametrize("sizes", [b"65", b"0000000000000065", b"fffff;x=" + b"y" * 100])
def test_a_chunk_above_the_limit_is_refused_by_its_size(sizes: bytes, cut: int) -> None:
    """As a declared length is: before any of its bytes."""
    bench = Bench()
    answer = bench.ask()
    wire = CHUNKED + b"3\r\nabc\r\n" + sizes + b"\r\n"
    for at in range(0, len(wire), cut):
        bench.receive(wire[at : at + cut])
    bench.close()

    assert isinstance(answer.exception(), ReplyTooLarge)


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    extension=st.sampled_from([b"", b";a", b";ff=" + b"f" * 300]),
    trailer=st.sampled_from([b"", b"ffffffffffffffffff: 1\r\n"]),
    cuts=st.lists(st.integers(0, 2500), max_size=20),
)
def test_any_cut_of_a_chunked_body_is_whole(
    parts: list[bytes], extension: bytes, trailer: bytes, cuts: list[int]
) -> None:
    """The look at the chunks' sizes takes neither bytes of a body nor trailers for a size."""
    bench = Bench()
    answer = bench.ask(max_body=1000)
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    wire = CHUNKED + chunks + b"0\r\n" + trailer + b"\r\n"
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, end in pairwise(edges):
        bench.receive(wire[start:end])
    bench.close()

    assert b"".join(parts) == answer.result().body
    assert ["opened", "released"] == bench.owner.heard


@given(body=st.text("0123456789abcdef\r\n;", max_size=60), cut=st.integers(1, 9))
def test_a_body_that_looks_like_sizes_is_whole(body: str, cut: int) -> None:
    bench = Bench()
    answer = bench.ask()
    wire = CHUNKED + (b"%x\r\n%b\r\n" % (len(body), body.encode()) if body else b"") + b"0\r\n\r\n"
    for at in range(0, len(wire), cut):
        bench.receive(wire[at : at + cut])
    bench.close()

    assert body.encode() == answer.result().body
