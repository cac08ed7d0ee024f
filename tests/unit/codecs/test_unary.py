"""The formats of one bare message: protobuf and json."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.codec import Codec
from bridge.codecs.json import Json
from bridge.codecs.protobuf import Protobuf
from bridge.codecs.unary import MAX_BODY, UnaryReader
from bridge.rpc.buffers import Account, Buffers, OpenAccount
from bridge.rpc.envelope import COMPRESSED, envelope
from bridge.rpc.errors import (
    BadReply,
    HttpRefusal,
    NoStatus,
    ReplyTooLarge,
    UnsupportedCall,
    UnsupportedCompression,
)
from bridge.rpc.events import Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import CODES, Status, StatusCode
from tests.support.fakes import reply_options

ACCOUNT = OpenAccount(Buffers(1 << 30))
OK = Trailers(Status(StatusCode.OK))


class Quoting:
    """A Transcode whose JSON is the message in quotes, with the path before it."""

    async def to_json(self, path: str, message: bytes, *, max_size: int, account: Account) -> bytes:
        return b'"%b %b"' % (path.encode(), message)

    async def from_json(self, path: str, text: bytes, *, max_size: int, account: Account) -> bytes:
        if not text.startswith(b'"'):
            raise BadReply("no quotes")
        return text.strip(b'"').removeprefix(path.encode() + b" ")


def done(awaitable: Awaitable[Any]) -> Any:
    """The result of what never waits."""
    try:
        next(awaitable.__await__())
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it waits")


CODECS: dict[str, Codec] = {"protobuf": Protobuf(), "json": Json(Quoting())}
both = pytest.mark.parametrize("payload", CODECS)


def read(
    payload: str,
    body: bytes,
    headers: Metadata = (),
    *,
    http_status: int = 200,
    max_response: int | None = None,
) -> list[ResponseEvent]:
    reader = CODECS[payload].reader(
        http_status,
        headers,
        reply_options(accept_encoding="gzip", max_response=max_response, account=ACCOUNT),
    )
    events = reader.feed(body[:1]) + reader.feed(body[1:])
    if reader.convert is not None:
        done(reader.convert())
    return events + reader.finish()


def sent_as(payload: str, message_format: str, body: bytes) -> bytes:
    """The body for the backend, before it is converted."""
    encode = CODECS[payload].encode
    assert encode is not None
    return encode("/S/M", message_format, body)


@pytest.mark.parametrize(("payload", "body"), [("protobuf", b"hi"), ("json", b'"/S/M hi"')])
def test_one_message_each_way(payload: str, body: bytes) -> None:
    """Bare in the request, bare in the reply."""
    codec = CODECS[payload]

    sent = sent_as(payload, "proto", envelope(b"hi"))
    assert body == (sent if codec.convert is None else done(codec.convert("/S/M", sent, ACCOUNT)))
    assert [Headers((("x-a", "1"),)), Message(envelope(b"hi")), OK] == read(
        payload, body, (("content-type", "application/x-protobuf"), ("x-a", "1"))
    )


@both
@pytest.mark.parametrize(
    ("body", "message_format", "told"),
    [
        (b"", "proto", "unary, and this call has no message"),
        (envelope(b"a") * 2, "proto", "unary, and this call has several messages"),
        (envelope(b"a"), "thrift", "protobuf messages, this call has thrift"),
    ],
)
def test_calls_that_do_not_fit(payload: str, body: bytes, message_format: str, told: str) -> None:
    with pytest.raises(UnsupportedCall, match=told) as raised:
        sent_as(payload, message_format, body)

    assert StatusCode.UNIMPLEMENTED is raised.value.code
    assert not raised.value.may_have_run


@both
def test_compressed_messages_do_not_fit(payload: str) -> None:
    with pytest.raises(UnsupportedCompression):
        sent_as(payload, "proto", envelope(b"a", flags=COMPRESSED))


@both
@pytest.mark.parametrize("code", CODES[1:])
def test_a_status_in_the_headers(payload: str, code: StatusCode) -> None:
    """It counts whatever the body and the HTTP status are; all metadata is trailing."""
    headers = (
        ("grpc-status", str(int(code))),
        ("grpc-message", "n%C3%A4h"),
        ("grpc-status-details-bin", "CAk"),
        ("x-a", "1"),
    )
    expected = [Trailers(Status(code, "näh", b"\x08\x09"), (("x-a", "1"),))]

    assert expected == read(payload, b"whatever", headers)
    assert expected == read(payload, b"", headers, http_status=500)


@both
@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, StatusCode.INTERNAL),
        (401, StatusCode.UNAUTHENTICATED),
        (403, StatusCode.PERMISSION_DENIED),
        (404, StatusCode.UNIMPLEMENTED),
        (429, StatusCode.UNAVAILABLE),
        (503, StatusCode.UNAVAILABLE),
        (500, StatusCode.UNKNOWN),
        (302, StatusCode.UNKNOWN),
    ],
)
def test_http_errors(payload: str, http_status: int, code: StatusCode) -> None:
    """gRPC's table, with a line of what was said."""
    with pytest.raises(HttpRefusal, match=f"HTTP {http_status}: no such order") as raised:
        read(payload, b"no such order\nat line 1", http_status=http_status)

    assert code is raised.value.code


@pytest.mark.parametrize("http_status", [200, 201, 204])
def test_successes_of_http_are_ok(http_status: int) -> None:
    assert [Headers(), Message(envelope(b"")), OK] == read("protobuf", b"", http_status=http_status)


def test_an_ok_in_the_headers_comes_before_the_http_status() -> None:
    assert OK == read("protobuf", b"x", (("grpc-status", "0"),), http_status=500)[-1]


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/json", "application/problem+json"])
def test_bodies_that_are_no_protobuf(content_type: str) -> None:
    """A page in place of a message must not be decoded as one."""
    with pytest.raises(NoStatus, match="in place of application/x-protobuf"):
        read("protobuf", b"<html>", (("content-type", content_type),))


def test_bad_json() -> None:
    with pytest.raises(BadReply, match="no quotes"):
        read("json", b"{}")


@both
def test_messages_above_the_limit(payload: str) -> None:
    with pytest.raises(ReplyTooLarge, match="7 bytes is above max_response"):
        read(payload, b'"1234567"' if payload == "json" else b"1234567", max_response=6)


def test_what_is_held_is_bounded() -> None:
    """Of a message, and of a page that is none."""
    page = Protobuf().reader(500, (), reply_options())
    message = UnaryReader(200, (), decode=lambda body, _: body, max_response=None)
    for _ in range(10):
        page.feed(b"x" * 1000)

    assert not page.wants_more
    held: bytes = page._body  # type: ignore[attr-defined]  # of a page of any kind
    assert len(held) <= 800
    message.feed(bytes(MAX_BODY))
    with pytest.raises(ReplyTooLarge):
        message.feed(b"x")


@given(st.binary(max_size=50))
def test_protobuf_round_trip(message: bytes) -> None:
    body = Protobuf().encode("/S/M", "proto", envelope(message))

    assert Message(envelope(message)) == read("protobuf", body)[1]
