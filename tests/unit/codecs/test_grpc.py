from __future__ import annotations

import gzip
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.grpc import Grpc, GrpcReader
from bridge.rpc.envelope import COMPRESSED, TRAILERS, envelope
from bridge.rpc.errors import (
    BadReply,
    FunctionFailed,
    HttpRefusal,
    NoStatus,
    ReplyTooLarge,
    RpcError,
)
from bridge.rpc.events import Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import CODES, Status, StatusCode
from tests.support.fakes import in_chunks, reply_options
from tests.support.replies import fed

GRPC: Metadata = (("content-type", "application/grpc+proto"),)
HELLO = envelope(b"hello")
OK = Trailers(Status(StatusCode.OK))


def reader_of(
    headers: Metadata = GRPC,
    *,
    http_status: int = 200,
    accept_encoding: str | None = None,
    max_response: int | None = None,
) -> GrpcReader:
    return Grpc().reader(
        http_status, headers, reply_options(accept_encoding=accept_encoding, max_response=max_response)
    )


def read(body: bytes, headers: Metadata = GRPC, *, http_status: int = 200) -> list[ResponseEvent]:
    reader = reader_of(headers, http_status=http_status)
    return fed(reader, body) + reader.finish()


def test_a_request_is_sent_as_it_is() -> None:
    assert Grpc().encode is None


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", None])
def test_messages_without_a_status_are_ok(content_type: str | None) -> None:
    """The bridge supplies what such functions cannot say."""
    headers = () if content_type is None else (("content-type", content_type),)

    assert [Headers(), Message(HELLO), Message(envelope(b"")), OK] == read(HELLO + envelope(b""), headers)


def test_no_message_is_a_stream_of_none() -> None:
    assert [Headers(), OK] == read(b"")


def test_headers_are_initial_metadata() -> None:
    events = read(HELLO, (*GRPC, ("x-a", "1"), ("x-a", "2"), ("date", "today")))

    assert Headers((("x-a", "1"), ("x-a", "2"))) == events[0]


@pytest.mark.parametrize("code", CODES)
def test_a_status_in_the_headers(code: StatusCode) -> None:
    """Without messages it is trailers-only, behind messages it ends them."""
    status = Status(code, "näh", b"\x08\x09")
    headers = (
        *GRPC,
        ("grpc-status", str(int(code))),
        ("grpc-message", "n%C3%A4h"),
        ("grpc-status-details-bin", "CAk"),
        ("x-a", "1"),
    )

    assert [Trailers(status, (("x-a", "1"),))] == read(b"", headers)
    assert [Headers((("x-a", "1"),)), Message(HELLO), Trailers(status)] == read(HELLO, headers)


@pytest.mark.parametrize(("http_status", "content_type"), [(400, "application/grpc"), (200, "text/plain")])
def test_a_status_explains_a_body_that_is_none(http_status: int, content_type: str) -> None:
    headers = (("content-type", content_type), ("grpc-status", "3"))

    assert [Trailers(Status(StatusCode.INVALID_ARGUMENT))] == read(b"bad request", headers, http_status=http_status)


@pytest.mark.parametrize(
    ("body", "declared", "shown"),
    [
        (b"Hello, world", 1701604463, '"Hello, world"'),
        (b'{"message":"x"}', 577594739, '"{"message":"x"}"'),
        (b"\x0a\x05hello", 90727788, "bytes 0a 05 68 65 6c 6c 6f"),
        (b"\x0a", 0, "bytes 0a"),
        (b"AAAAAAIIAQ==", 1094795585, '"AAAAAAIIAQ=="; is it base64 without isBase64Encoded?'),
    ],
)
def test_a_missing_prefix(body: bytes, declared: int, shown: str) -> None:
    """It is told as what it is, beside what a client would have said."""
    with pytest.raises(BadReply) as raised:
        read(body)

    told = str(raised.value)
    assert f"it begins with {shown}" in told
    assert f"received message larger than max ({declared} vs. 4194304)" in told


def test_messages_before_a_bad_one_are_given_out() -> None:
    reader = reader_of()

    assert [Headers(), Message(HELLO)] == reader.feed(HELLO + b"oops")
    with pytest.raises(BadReply):
        reader.finish()


def test_grpc_web_is_told_its_payload() -> None:
    """By its trailers, or by its content type."""
    with pytest.raises(BadReply, match="payload: grpc-web"):
        read(HELLO + envelope(b"grpc-status:0\r\n", flags=TRAILERS))
    with pytest.raises(NoStatus, match="payload: grpc-web reads it"):
        read(HELLO, (("content-type", "application/grpc-web+proto"),))


def test_http_errors() -> None:
    with pytest.raises(HttpRefusal, match="HTTP 503: out of order") as raised:
        read(b"out of order", (("content-type", "text/plain"),), http_status=503)

    assert StatusCode.UNAVAILABLE is raised.value.code


def test_another_content_type() -> None:
    with pytest.raises(NoStatus, match="application/json in place of application/grpc"):
        read(b"{}", (("content-type", "application/json"),))


def test_another_message_format() -> None:
    with pytest.raises(BadReply, match="json messages, the client speaks proto"):
        read(HELLO, (("content-type", "application/grpc+json"),))


def test_a_cut_message() -> None:
    with pytest.raises(BadReply, match="middle of a message"):
        read(HELLO[:-1])


def test_a_runtime_s_report_of_a_failed_stream() -> None:
    report = b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n"

    with pytest.raises(FunctionFailed, match=r"while it answered: Runtime\.StreamError"):
        read(HELLO + report)


def test_messages_above_the_limit_are_not_awaited() -> None:
    """The declared size is enough."""
    with pytest.raises(ReplyTooLarge, match="1000 bytes is above max_response"):
        reader_of(max_response=999).feed(envelope(bytes(1000))[:5])


def test_compression() -> None:
    """Passed where the client lists it, undone where not."""
    packed = envelope(gzip.compress(b"hello"), flags=COMPRESSED)
    headers = (*GRPC, ("grpc-encoding", "gzip"))

    passing, inflating = reader_of(headers, accept_encoding="gzip"), reader_of(headers)

    assert [Headers((("grpc-encoding", "gzip"),)), Message(packed)] == passing.feed(packed)
    assert [Headers(), Message(HELLO)] == inflating.feed(packed)


def test_a_streamed_reply_opens_at_once() -> None:
    """Unless its headers say how it ends."""
    assert [Headers()] == reader_of().open()
    assert [] == reader_of((*GRPC, ("grpc-status", "5"))).open()
    assert [] == reader_of(http_status=500).open()


@given(
    body=st.lists(st.binary(max_size=8).map(envelope) | st.binary(max_size=8), max_size=5).map(b"".join),
    cuts=st.lists(st.integers(1, 60), max_size=6),
    http_status=st.sampled_from([200, 500]),
)
def test_any_chunks_read_the_same(body: bytes, cuts: list[int], http_status: int) -> None:
    """Events and outcome; garbage raises RpcErrors and nothing else."""

    def outcome(chunks: list[bytes]) -> tuple[list[ResponseEvent], str]:
        reader, events = reader_of(http_status=http_status), []
        try:
            for chunk in chunks:
                events += fed(reader, chunk)
            events += reader.finish()
        except RpcError as error:
            return events, type(error).__name__
        return events, ""

    whole, in_parts = outcome([body]), outcome(in_chunks(body, cuts))

    assert whole == in_parts


@given(st.binary(max_size=40))
def test_an_error_page_is_bounded(page: bytes) -> None:
    reader = reader_of(http_status=502)

    for _ in range(100):
        reader.feed(page * 100)

    assert len(reader._body) <= 800
    assert reader.wants_more is (len(reader._body) < 800)
    with suppress(HttpRefusal):
        reader.finish()
