from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.codecs.enveloped import INFLATED_AT_ONCE
from bridge.codecs.grpc_web import MAX_TRAILERS, MOST_LINES, GrpcWeb, GrpcWebReader
from bridge.codecs.inflation import MAX_INFLATED
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.compression import INFLATED_PIECE
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

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/grpc_web_trailers.json").read_text())

WEB: Metadata = (("content-type", "application/grpc-web+proto"),)
TEXT: Metadata = (("content-type", "application/grpc-web-text+proto"),)
HELLO = envelope(b"hello")
OK = envelope(b"grpc-status:0\r\n", flags=TRAILERS)
OK_END = Trailers(Status(StatusCode.OK))


def read(
    body: bytes,
    headers: Metadata = WEB,
    *,
    http_status: int = 200,
    accept_encoding: str | None = None,
    max_response: int | None = None,
    message_format: str = "proto",
) -> list[ResponseEvent]:
    """What the reader makes of it, and, if the codec needs none, what the codec makes of it as well."""
    options = reply_options(accept_encoding=accept_encoding, max_response=max_response, message_format=message_format)
    glanced = GrpcWeb().read(http_status, headers, body, options)
    reader = GrpcWebReader(http_status, headers, options)
    try:
        events = fed(reader, body)
        events += reader.finish()
    except RpcError:
        assert isinstance(glanced, GrpcWebReader)
        raise
    assert isinstance(glanced, GrpcWebReader) or glanced == events
    return events


# -- messages and their end --------------------------------------------------------------------------------------------


def test_unary() -> None:
    """A message and an OK."""
    assert [Headers(), Message(HELLO), OK_END] == read(HELLO + OK)


@pytest.mark.parametrize("headers", [WEB, (*WEB, ("x-a", "1"), ("date", "today"))])
def test_most_replies_need_no_reader(headers: Metadata) -> None:
    """One message and an OK, whatever initial metadata comes with them (and `read` compares what both make of a
    reply).
    """
    glanced = GrpcWeb().read(200, headers, HELLO + OK, reply_options(max_response=5))

    assert read(HELLO + OK, headers) == glanced


@pytest.mark.parametrize(
    "body",
    [
        b"",
        HELLO[:-1] + OK,
        OK,
        HELLO,
        HELLO + HELLO + OK,
        HELLO + OK + b"\0",
        HELLO + OK[:-1],
        envelope(b"x", flags=COMPRESSED) + OK,
        HELLO + envelope(b"grpc-status:5\r\n", flags=TRAILERS),
    ],
)
def test_other_replies_need_one(body: bytes) -> None:
    assert isinstance(GrpcWeb().read(200, WEB, body, reply_options()), GrpcWebReader)


def test_glance_knows_the_limits() -> None:
    """The HTTP status, the client's message format, the size of a message, a type that is no gRPC-Web."""
    for status, headers, limit, kind in (
        (500, WEB, None, "proto"),
        (200, WEB, None, "json"),
        (200, WEB, 4, "proto"),
        (200, TEXT, None, "proto"),
        (200, (*WEB, ("grpc-encoding", "gzip")), None, "proto"),
    ):
        options = reply_options(max_response=limit, message_format=kind)

        assert isinstance(GrpcWeb().read(status, headers, HELLO + OK, options), GrpcWebReader)


def test_stream() -> None:
    """Messages keep their order and their bytes, the empty one among them."""
    messages = [envelope(b"a"), envelope(b""), envelope(b"c" * 70_000)]

    events = read(b"".join(messages) + OK)

    assert [Headers(), *map(Message, messages), OK_END] == events


def test_initial_metadata() -> None:
    """The reply's headers are the initial metadata."""
    events = read(HELLO + OK, (*WEB, ("x-a", "1"), ("x-a", "2"), ("access-control-allow-origin", "*")))

    assert Headers((("x-a", "1"), ("x-a", "2"), ("access-control-allow-origin", "*"))) == events[0]


@pytest.mark.parametrize("code", CODES)
def test_every_status_survives(code: StatusCode) -> None:
    """Code, message and details come through from the trailers."""
    block = b"grpc-status:%d\r\ngrpc-message:so%%21\r\ngrpc-status-details-bin:CAMSA2JhZA\r\n" % code

    events = read(HELLO + envelope(block, flags=TRAILERS))

    assert Trailers(Status(code, "so!", b"\x08\x03\x12\x03bad")) == events[-1]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_trailers(vector: dict[str, Any]) -> None:
    """What servers write in the trailers' envelope, each in its own way."""
    block = vector["block"].encode()
    expected = Trailers(
        Status(CODES[vector["code"]], vector.get("message", ""), b64decode(vector.get("details", ""))),
        tuple((name, value) for name, value in vector.get("metadata", [])),
    )

    events = read(HELLO + envelope(block, flags=TRAILERS))

    assert expected == events[-1]


def test_error_before_the_first_message_is_trailers_only() -> None:
    """A reply that shows the client nothing before its end becomes a single Trailers."""
    events = read(envelope(b"grpc-status:12\r\n", flags=TRAILERS))

    assert [Trailers(Status(StatusCode.UNIMPLEMENTED))] == events


def test_grpc_fields_alone_still_make_trailers_only() -> None:
    """What the server accepts goes with the trailers then."""
    headers = (*WEB, ("grpc-accept-encoding", "gzip"), ("grpc-encoding", "gzip"))

    events = read(envelope(b"grpc-status:12\r\n", flags=TRAILERS), headers)

    assert [Trailers(Status(StatusCode.UNIMPLEMENTED), (("grpc-accept-encoding", "gzip"),))] == events


def test_initial_metadata_is_not_lost_before_an_error() -> None:
    """Metadata that the service sent first stays initial."""
    events = read(envelope(b"grpc-status:9\r\nx-b:2\r\n", flags=TRAILERS), (*WEB, ("x-a", "1")))

    assert [
        Headers((("x-a", "1"),)),
        Trailers(Status(StatusCode.FAILED_PRECONDITION), (("x-b", "2"),)),
    ] == events


# -- status in the headers ---------------------------------------------------------------------------------------------


def test_trailers_only_in_headers() -> None:
    """With an empty body the headers are the trailers, all of them."""
    headers = (*WEB, ("grpc-status", "5"), ("grpc-message", "no%20such"), ("x-a", "1"))

    assert [Trailers(Status(StatusCode.NOT_FOUND, "no such"), (("x-a", "1"),))] == read(b"", headers)


GONE: Metadata = (
    ("grpc-status", "5"),
    ("grpc-message", "g%20one"),
    ("grpc-status-details-bin", "CAU"),
    ("x-a", "1"),
)
IS_GONE = Status(StatusCode.NOT_FOUND, "g one", b"\x08\x05")
both_forms = pytest.mark.parametrize("form", [WEB, TEXT], ids=["binary", "text"])


def read_as(form: Metadata, body: bytes, headers: Metadata = ()) -> list[ResponseEvent]:
    return read(b64encode(body) if form is TEXT else body, (*form, *headers))


@both_forms
@pytest.mark.parametrize(("block", "trailing"), [(b"", ()), (b"\r\n", ()), (b"x-b: 2\r\n", (("x-b", "2"),))])
def test_status_in_headers_counts_where_the_trailers_have_none(
    form: Metadata, block: bytes, trailing: Metadata
) -> None:
    """What Traefik sends for each error without a message: the status in the headers, then an empty block."""
    events = read_as(form, envelope(block, flags=TRAILERS), GONE)

    assert [Trailers(IS_GONE, (("x-a", "1"), *trailing))] == events


@both_forms
@pytest.mark.parametrize("end", [b"", envelope(b"", flags=TRAILERS)], ids=["none", "empty"])
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
def test_status_in_headers_counts_behind_messages(form: Metadata, end: bytes, code: StatusCode) -> None:
    """The server knew it before it began; what else the headers hold is initial metadata then."""
    headers = (("grpc-status", str(int(code))), ("x-a", "1"))

    events = read_as(form, HELLO + HELLO + end, headers)

    assert [Headers((("x-a", "1"),)), Message(HELLO), Message(HELLO), Trailers(Status(code))] == events


@both_forms
def test_trailers_are_believed_more_than_headers(form: Metadata) -> None:
    """They are written when the call is over."""
    block = b"grpc-status: 9\r\nx-b: 2\r\n"

    events = read_as(form, envelope(block, flags=TRAILERS), GONE)

    assert [Trailers(Status(StatusCode.FAILED_PRECONDITION), (("x-a", "1"), ("x-b", "2")))] == events


def test_trailers_without_a_message_take_that_of_the_headers() -> None:
    """If both say the same code: the rest belongs to it. And the other way round."""
    same = read(envelope(b"grpc-status: 5\r\n", flags=TRAILERS), (*WEB, *GONE))
    other = read(envelope(b"grpc-message: why\r\n", flags=TRAILERS), (*WEB, ("grpc-status", "5")))

    assert [Trailers(IS_GONE, (("x-a", "1"),))] == same
    assert [Trailers(Status(StatusCode.NOT_FOUND, "why"))] == other


@pytest.mark.parametrize("http_status", [200, 404, 503])
@pytest.mark.parametrize("content_type", ["text/html", "application/json", ""])
def test_status_in_headers_explains_a_body_that_is_none(content_type: str, http_status: int) -> None:
    """A page that something on the way added says less."""
    headers = (("content-type", content_type), *GONE)

    assert [Trailers(IS_GONE, (("x-a", "1"),))] == read(b"<html>", headers, http_status=http_status)


def test_ok_in_headers_does_not_explain_a_body_that_is_none() -> None:
    with pytest.raises(NoStatus, match="text/html"):
        read(b"<html>", (("content-type", "text/html"), ("grpc-status", "0")))


@both_forms
def test_status_in_headers_does_not_heal_a_message_that_is_cut(form: Metadata) -> None:
    with pytest.raises(BadReply, match="middle of a message"):
        read_as(form, HELLO + HELLO[:-3], (("grpc-status", "0"),))


@pytest.mark.parametrize("http_status", [200, 404, 503])
def test_status_in_headers_counts_whatever_http_says(http_status: int) -> None:
    """A function's own gRPC status reaches the client under any HTTP status, even without a content type."""
    events = read(b"", (("grpc-status", "7"),), http_status=http_status)

    assert [Trailers(Status(StatusCode.PERMISSION_DENIED))] == events


# -- compression -------------------------------------------------------------------------------------------------------


def compressed(message: bytes) -> bytes:
    return envelope(gzip.compress(message), flags=COMPRESSED)


def test_offered_compression_passes() -> None:
    """A message in an encoding that the client lists is not touched, and the client is told the encoding."""
    message = compressed(b"hello")

    events = read(message + OK, (*WEB, ("grpc-encoding", "gzip")), accept_encoding="identity, gzip")

    assert [Headers((("grpc-encoding", "gzip"),)), Message(message), OK_END] == events


@pytest.mark.parametrize("accept_encoding", [None, "identity", "deflate"])
def test_compression_that_was_not_offered_is_undone(accept_encoding: str | None) -> None:
    """A client may not be answered in an encoding that it did not list (gRPC compression.md)."""
    body = compressed(b"hello") + envelope(b"plain") + OK

    events = read(body, (*WEB, ("grpc-encoding", "gzip")), accept_encoding=accept_encoding)

    assert [Headers(), Message(HELLO), Message(envelope(b"plain")), OK_END] == events


def test_unknown_compression_passes_if_offered() -> None:
    """What the client and the function agree on is not the bridge's business."""
    message = envelope(b"\x28\xb5", flags=COMPRESSED)

    events = read(message + OK, (*WEB, ("grpc-encoding", "zstd")), accept_encoding="zstd")

    assert Message(message) == events[1]


def test_unknown_compression_that_was_not_offered() -> None:
    """Neither end can read it."""
    body = envelope(b"\x28\xb5", flags=COMPRESSED) + OK

    with pytest.raises(BadReply, match="zstd"):
        read(body, (*WEB, ("grpc-encoding", "zstd")), accept_encoding="gzip")


@pytest.mark.parametrize("encoding", [(), (("grpc-encoding", "identity"),)])
def test_compressed_flag_without_an_encoding(encoding: Metadata) -> None:
    """gRPC compression.md: that is an internal error."""
    with pytest.raises(BadReply, match="names no grpc-encoding"):
        read(compressed(b"x") + OK, (*WEB, *encoding), accept_encoding="gzip")


def test_message_that_does_not_inflate() -> None:
    with pytest.raises(BadReply, match="does not decode as gzip"):
        read(envelope(b"nonsense", flags=COMPRESSED) + OK, (*WEB, ("grpc-encoding", "gzip")))


def test_inflated_message_above_max_response() -> None:
    """The limit is on the message, not on what it was squeezed into."""
    with pytest.raises(ReplyTooLarge, match="1000 bytes"):
        read(compressed(b"x" * 1001) + OK, (*WEB, ("grpc-encoding", "gzip")), max_response=1000)


def test_many_messages_cannot_inflate_without_end() -> None:
    """What one reply may inflate to is bounded as a whole, without any limit of the route."""
    bomb = envelope(zlib.compress(bytes(MAX_INFLATED // 4)), flags=COMPRESSED)

    with pytest.raises(ReplyTooLarge):
        read(bomb * 5 + OK, (*WEB, ("grpc-encoding", "deflate")))


@pytest.mark.parametrize("size", [1, INFLATED_AT_ONCE, INFLATED_AT_ONCE + 1, 5 * INFLATED_AT_ONCE])
@pytest.mark.parametrize("cut", [1 << 20, 100])
def test_a_large_message_is_inflated_in_steps(size: int, cut: int) -> None:
    """One `feed` does a bounded amount of work; the messages behind it wait their turn."""
    account = OpenAccount(Buffers(1 << 30))
    body = compressed(b"x" * size) + HELLO + compressed(b"y" * size) + OK
    headers = (*WEB, ("grpc-encoding", "gzip"))
    reader = GrpcWebReader(200, headers, reply_options(account=account))
    events: list[ResponseEvent] = []
    steps = [0]
    for at in range(0, len(body), cut):
        data = body[at : at + cut]
        while data or reader.is_behind:
            before = account.held
            events += reader.feed(data)
            steps.append(account.held - before)
            data = b""

    assert max(steps) <= INFLATED_AT_ONCE + INFLATED_PIECE
    assert 2 * size == sum(steps)
    assert [
        Headers(),
        Message(envelope(b"x" * size)),
        Message(HELLO),
        Message(envelope(b"y" * size)),
        OK_END,
    ] == events + reader.finish()


def test_many_small_messages_are_inflated_in_steps() -> None:
    """Each costs something, even if it is empty."""
    reader = GrpcWebReader(200, (*WEB, ("grpc-encoding", "gzip")), reply_options())

    first = reader.feed(compressed(b"") * 5000)

    assert reader.is_behind
    assert len(first) <= 1 + INFLATED_AT_ONCE // 256
    assert 5001 == len(first) + len(fed(reader, b""))


def test_a_message_that_breaks_in_a_later_step_ends_the_reply_there() -> None:
    body = compressed(b"a") + envelope(gzip.compress(b"x" * (1 << 20))[:-8], flags=COMPRESSED) + OK
    reader = GrpcWebReader(200, (*WEB, ("grpc-encoding", "gzip")), reply_options())

    assert [Headers(), Message(envelope(b"a"))] == reader.feed(body)
    assert reader.is_behind
    with pytest.raises(BadReply, match="cut off"):
        fed(reader, b"")
    assert not reader.is_behind


def test_compressed_trailers() -> None:
    """Envelope 0x81: trailers in the reply's encoding, whatever the client lists."""
    end = envelope(gzip.compress(b"grpc-status:5\r\n"), flags=TRAILERS | COMPRESSED)

    events = read(HELLO + end, (*WEB, ("grpc-encoding", "gzip")), accept_encoding="gzip")

    assert Trailers(Status(StatusCode.NOT_FOUND)) == events[-1]


def test_compressed_trailers_without_an_encoding() -> None:
    with pytest.raises(BadReply, match="does not name"):
        read(HELLO + envelope(gzip.compress(b"grpc-status:5\r\n"), flags=TRAILERS | COMPRESSED))


def test_trailers_that_inflate_beyond_bounds() -> None:
    bomb = envelope(gzip.compress(bytes(MAX_TRAILERS + 1)), flags=TRAILERS | COMPRESSED)

    with pytest.raises(ReplyTooLarge):
        read(HELLO + bomb, (*WEB, ("grpc-encoding", "gzip")))


@pytest.mark.parametrize("line", [b"a:b\r\n", b"\n"])
def test_trailers_of_too_many_lines(line: bytes) -> None:
    """Each line costs; a million of them would hold up other calls."""
    status = b"grpc-status:5\r\n"
    events = read(HELLO + envelope(line * (MOST_LINES - 1) + status, flags=TRAILERS))
    end = events[-1]

    assert isinstance(end, Trailers)
    assert StatusCode.NOT_FOUND is end.status.code
    with pytest.raises(BadReply, match="more than 1000 lines"):
        read(HELLO + envelope(line * MOST_LINES + status, flags=TRAILERS))


# -- limits ------------------------------------------------------------------------------------------------------------


def test_message_at_the_limit() -> None:
    assert Message(HELLO) == read(HELLO + OK, max_response=5)[1]


def test_message_above_the_limit() -> None:
    """The text names the limit and both sizes."""
    with pytest.raises(ReplyTooLarge, match=r"6 bytes is above max_response \(5 bytes\)"):
        read(envelope(b"hello!") + OK, max_response=5)


def test_limit_counts_on_the_declared_size() -> None:
    """Before any of the message is held."""
    reader = GrpcWebReader(200, WEB, reply_options(max_response=1000))

    with pytest.raises(ReplyTooLarge):
        reader.feed(b"\0\xff\xff\xff\xff")


def test_declared_trailers_beyond_bounds() -> None:
    with pytest.raises(ReplyTooLarge):
        read(b"\x80\xff\xff\xff\xff")


# -- replies that are none ---------------------------------------------------------------------------------------------


def test_bytes_behind_the_trailers() -> None:
    """The trailers must come last (PROTOCOL-WEB)."""
    with pytest.raises(BadReply, match="behind its trailers"):
        read(HELLO + OK + HELLO)


@pytest.mark.parametrize("flags", [0x02, 0x40, 0x41, 0x82, 0xFF])
def test_unknown_flags(flags: int) -> None:
    with pytest.raises(BadReply, match=f"0x{flags:02x}"):
        read(HELLO + envelope(b"", flags=flags))


def test_base64_that_nobody_marked() -> None:
    """The usual slip gets a hint."""
    with pytest.raises(BadReply, match="isBase64Encoded"):
        read(b64encode(HELLO + OK))


@pytest.mark.parametrize("size", range(len(HELLO + OK)))
@pytest.mark.parametrize("is_text", [False, True])
def test_a_reply_that_ends_too_early(size: int, is_text: bool) -> None:
    """It came whole: the carrier tells of connections that are cut. Between messages it lacks a status, in one it is a
    bad one.

    Neither is UNAVAILABLE, by which clients repeat a call.
    """
    body = (HELLO + OK)[:size]
    kind, code = (NoStatus, StatusCode.UNKNOWN) if size in (0, len(HELLO)) else (BadReply, StatusCode.INTERNAL)

    with pytest.raises(kind) as raised:
        read(b64encode(body) if is_text else body, TEXT if is_text else WEB)

    assert code is raised.value.code


@pytest.mark.parametrize("characters", [1, 2, 3])
def test_text_that_ends_within_a_group(characters: int) -> None:
    with pytest.raises(BadReply, match="middle of a message"):
        read(b64encode(envelope(b"a")) + b"gAAA"[:characters], TEXT)


def test_trailers_without_a_status() -> None:
    with pytest.raises(NoStatus):
        read(envelope(b"grpc-message: error\r\n", flags=TRAILERS))


def test_line_without_a_colon() -> None:
    with pytest.raises(BadReply, match="name: value"):
        read(envelope(b"grpc-status 5\r\n", flags=TRAILERS))


def test_headers_with_a_message_but_no_status() -> None:
    with pytest.raises(NoStatus):
        read(b"", (*WEB, ("grpc-message", "error")))


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "application/json", "application/grpcfoo", "text/html; charset=utf-8"],
)
def test_other_content_types(content_type: str) -> None:
    """HTTP 200 with anything else has no status (http-grpc-status-mapping.md: UNKNOWN)."""
    with pytest.raises(NoStatus, match=content_type.partition(";")[0]):
        read(b"hello", (("content-type", content_type),))


def test_no_content_type() -> None:
    with pytest.raises(NoStatus, match="without a content-type"):
        read(HELLO + OK, ())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web+proto; charset=utf-8",
        "Application/GRPC-Web",
        "application/grpc",
        "application/grpc+proto",
    ],
)
def test_content_types_that_are_grpc_web(content_type: str) -> None:
    assert Message(HELLO) == read(HELLO + OK, (("content-type", content_type),))[1]


def test_other_message_format() -> None:
    """The client would take the bytes for its own format."""
    with pytest.raises(BadReply, match="answered in json messages, the client speaks proto"):
        read(HELLO + OK, (("content-type", "application/grpc-web+json"),))


@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, StatusCode.INTERNAL),
        (401, StatusCode.UNAUTHENTICATED),
        (403, StatusCode.PERMISSION_DENIED),
        (404, StatusCode.UNIMPLEMENTED),
        (405, StatusCode.UNKNOWN),
        (413, StatusCode.RESOURCE_EXHAUSTED),
        (429, StatusCode.UNAVAILABLE),
        (500, StatusCode.UNKNOWN),
        (502, StatusCode.UNAVAILABLE),
        (503, StatusCode.UNAVAILABLE),
        (504, StatusCode.UNAVAILABLE),
        (302, StatusCode.UNKNOWN),
    ],
)
@pytest.mark.parametrize("headers", [(), WEB, (("content-type", "text/plain"),)])
def test_http_errors(headers: Metadata, http_status: int, code: StatusCode) -> None:
    """An HTTP error without a gRPC status gets the code that gRPC's mapping gives it."""
    with pytest.raises(HttpRefusal, match=f"HTTP {http_status}") as caught:
        read(b"", headers, http_status=http_status)

    assert code is caught.value.code


def test_http_error_quotes_a_line_of_text() -> None:
    with pytest.raises(HttpRefusal, match=r"HTTP 404: no such page$"):
        read(b"\nno such page\nand more", (("content-type", "text/plain"),), http_status=404)


@pytest.mark.parametrize("body", [b"\x89PNG\r\n\x1a\n", b"\xff\xfe", b"a\0b", b"\x1b[31mred"])
def test_http_error_quotes_nothing_but_text(body: bytes) -> None:
    with pytest.raises(HttpRefusal, match=r"HTTP 500$"):
        read(body, (), http_status=500)


def test_http_error_quotes_little() -> None:
    with pytest.raises(HttpRefusal) as caught:
        read(b"x" * 100_000, (), http_status=500)

    assert len(str(caught.value)) < 300


def test_http_error_with_grpc_web_inside() -> None:
    """A reply whose trailers say it all is read under any HTTP status."""
    events = read(envelope(b"grpc-status:16\r\n", flags=TRAILERS), http_status=401)

    assert [Trailers(Status(StatusCode.UNAUTHENTICATED))] == events


@pytest.mark.parametrize("body", [b"Bad Gateway", HELLO, envelope(b"x-a:1\r\n", flags=TRAILERS), OK + HELLO])
def test_http_error_explains_a_bad_body(body: bytes) -> None:
    with pytest.raises(HttpRefusal):
        read(body, http_status=502)


# -- streams that failed in the runtime --------------------------------------------------------------------------------


def error_text(error_type: str = "Runtime.StreamError", body: str | None = None) -> bytes:
    text = f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n"
    if body is not None:
        text += f"Lambda-Runtime-Function-Error-Body: {b64encode(body.encode()).decode()}\r\n"
    return text.encode()


@pytest.mark.parametrize(
    "before",
    [b"", HELLO, envelope(bytes(1000))[:500]],
    ids=["nothing", "a message", "half a message"],
)
def test_error_text_in_place_of_trailers(before: bytes) -> None:
    """Runtimes report a failed stream in HTTP trailers, which arrive as text."""
    text = error_text(body='{"errorType": "Broken", "errorMessage": "disk is gone\\nat line 5"}')

    with pytest.raises(FunctionFailed, match=r"Runtime\.StreamError: disk is gone$"):
        read(before + text)


@pytest.mark.parametrize("body", [None, "", "no json", "[1]", '{"errorMessage": 5}', "[" * 100_000])
def test_error_text_with_any_body(body: str | None) -> None:
    """The type alone is told if the body says nothing."""
    with pytest.raises(FunctionFailed, match=r"while it answered: Runtime\.StreamError$"):
        read(HELLO + error_text(body=body))


def test_error_text_that_is_cut() -> None:
    with pytest.raises(BadReply, match="middle of a message"):
        read(HELLO + error_text()[:20])


def test_text_that_only_begins_like_an_error() -> None:
    with pytest.raises(BadReply, match="0x4c"):
        read(HELLO + b"Lambda is great, is it not? Yes, it certainly is.")


# -- grpc-web-text -----------------------------------------------------------------------------------------------------


def test_text() -> None:
    assert [Headers(), Message(HELLO), OK_END] == read(b64encode(HELLO + OK), TEXT)


def test_text_with_padding_inside() -> None:
    """Servers encode each flush by itself (PROTOCOL-WEB)."""
    text = b64encode(HELLO[:7]) + b64encode(HELLO[7:]) + b64encode(OK[:1]) + b64encode(OK[1:])

    assert [Headers(), Message(HELLO), OK_END] == read(text, TEXT)


@pytest.mark.parametrize("text", [b"AA", b"AAA", b"!!!!", b"====", b"A===", b"AA=A", b"\xff\xff\xff\xff"])
def test_text_that_is_not_base64(text: bytes) -> None:
    """Behind good text too."""
    with pytest.raises(BadReply, match="not base64"):
        read(b64encode(HELLO + OK) + text, TEXT)


# -- standing properties -----------------------------------------------------------------------------------------------

Outcome = tuple[list[ResponseEvent], type[Exception] | None]


def run(chunks: list[bytes], headers: Metadata, http_status: int = 200) -> Outcome:
    reader = GrpcWebReader(http_status, headers, reply_options(accept_encoding="gzip", max_response=1 << 16))
    events: list[ResponseEvent] = []
    try:
        for chunk in chunks:
            events += fed(reader, chunk)
        events += reader.finish()
    except RpcError as error:
        return events, type(error)
    return events, None


REPLIES: dict[str, tuple[Metadata, bytes]] = {
    "unary": (WEB, HELLO + OK),
    "stream": (WEB, HELLO * 20 + OK),
    "error": (WEB, HELLO + envelope(b"grpc-status:5\r\ngrpc-message:x\r\nx-a:1\r\n", flags=TRAILERS)),
    "inflated": ((*WEB, ("grpc-encoding", "deflate")), envelope(zlib.compress(b"x"), flags=1) + OK),
    "text": (TEXT, b64encode(HELLO) + b64encode(b"\0") + b64encode(HELLO[1:] + OK)),
    "broken text": (TEXT, b64encode(HELLO) + b"!" + b64encode(HELLO + OK)),
    "bad flags": (WEB, HELLO + b"\x07" + HELLO),
    "cut": (WEB, HELLO + OK[:-3]),
    "behind": (WEB, HELLO + OK + b"\0"),
    "error text": (WEB, HELLO + error_text(body='{"errorMessage": "m"}')),
    "status in headers": ((*WEB, *GONE), HELLO + envelope(b"x-b:2\r\n", flags=TRAILERS)),
    "opaque": ((("content-type", "text/html"),), b"<html>" * 300),
    "too large": (WEB, HELLO + b"\0\0\x01\0\x01" + bytes(1 << 16)),
}


@pytest.mark.parametrize("name", REPLIES)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_chunking_gives_the_same(name: str, cuts: list[int]) -> None:
    """Events and outcome do not depend on where the body was cut."""
    headers, body = REPLIES[name]

    assert run([body], headers) == run(in_chunks(body, cuts), headers)


@pytest.mark.parametrize("name", [name for name in REPLIES if name != "too large"])
def test_byte_by_byte_gives_the_same(name: str) -> None:
    headers, body = REPLIES[name]

    assert run([body], headers) == run([body[at : at + 1] for at in range(len(body))], headers)


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "grpc-status", "grpc-message", "grpc-encoding", "x-a", "x-bin", "connection"])
        | st.text(max_size=8),
        st.sampled_from(["application/grpc-web", "application/grpc-web-text", "0", "gzip", "AA=="])
        | st.text(st.characters(max_codepoint=255), max_size=20),
    ),
    max_size=6,
)
PIECES = st.lists(
    st.sampled_from([HELLO, OK, b"\0", b"\x80", b"\x81", b64encode(HELLO), b"Lambda-Runtime-Function-Error-Type:"])
    | st.binary(max_size=30),
    max_size=6,
)


@given(
    http_status=st.sampled_from([200, 204, 404, 502]),
    headers=FIELDS,
    body=PIECES.map(b"".join),
    is_web=st.booleans(),
)
def test_garbage_has_a_documented_outcome(
    http_status: int, headers: list[tuple[str, str]], body: bytes, is_web: bool
) -> None:
    """Events that end in one Trailers, or one of the documented errors; clean metadata in any case."""
    fields: Metadata = (*(WEB if is_web else ()), *headers)

    events, error = run([body], fields, http_status)

    assert error in {None, BadReply, ReplyTooLarge, FunctionFailed, NoStatus, HttpRefusal}
    assert error is not None or [Trailers] == [type(event) for event in events if isinstance(event, Trailers)]
    for event in events:
        for name, value in () if isinstance(event, Message) else event.metadata:
            assert name == name.lower()
            assert value.isascii()
            assert value == "" or value.isprintable()


# -- heads that can leave early ----------------------------------------------------------------------------------------


def reader_of(headers: Metadata, http_status: int = 200) -> GrpcWebReader:
    return GrpcWebReader(http_status, headers, reply_options())


def test_head_leaves_before_the_body() -> None:
    """A streamed reply's Headers go out once, at once."""
    reader = reader_of((*WEB, ("x-a", "1")))

    assert [Headers((("x-a", "1"),))] == reader.open()
    assert [Message(HELLO)] == reader.feed(HELLO + OK)
    assert [Trailers(Status(StatusCode.OK))] == reader.finish()


@pytest.mark.parametrize(
    "reader",
    [
        lambda: reader_of((*WEB, ("grpc-status", "5"))),
        lambda: reader_of(WEB, http_status=502),
        lambda: reader_of((("content-type", "text/html"),)),
        lambda: reader_of((("content-type", "application/grpc-web+json"),)),
    ],
    ids=["trailers-only", "HTTP error", "no gRPC-Web", "other message format"],
)
def test_head_that_may_still_become_a_failure(reader: Callable[[], GrpcWebReader]) -> None:
    """It waits for the body, so that the client gets trailers-only."""
    assert not reader().open()
