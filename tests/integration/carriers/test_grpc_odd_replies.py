"""One odd reply of a gRPC server fails its own call, or none: other clients' calls on the same connection and all later
calls succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bridge.carriers.grpc.carrier import GrpcCarrier
from bridge.config.target import GrpcTargetSpec as Server
from bridge.http2.client_responses import MAX_INTERIM
from bridge.rpc.address import TcpAddress
from bridge.rpc.call import Handler
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import RpcError
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, Trailers
from bridge.rpc.status import OK, Status, StatusCode
from bridge.targets.grpc_target import GrpcTarget, with_headers
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.frames import RESPONSE, TRAILERS, raw
from tests.support.http2_server import END, ServerConnection, Stream, frame_server
from tests.support.served import StreamedCall

HELLO = envelope(b"hello")
Fields = list[tuple[str, str]]
Odd = Callable[[ServerConnection, int], object]


def head(*fields: tuple[str, str], end: Fields | None = None) -> Odd:
    """A whole reply, with further fields in its head; in its trailers as well, if `end` is given."""

    def answer(server: ServerConnection, stream: int) -> None:
        server.write(
            server.make.headers(stream, [*RESPONSE, *fields]),
            server.make.data(stream, HELLO),
            server.make.headers(stream, [*TRAILERS, *(end or [])], flags=END),
        )

    return answer


def end(*fields: tuple[str, str]) -> Odd:
    """A whole reply with these trailers in place of the usual ones."""

    def answer(server: ServerConnection, stream: int) -> None:
        server.write(
            server.make.headers(stream, RESPONSE),
            server.make.data(stream, HELLO),
            server.make.headers(stream, fields, flags=END),
        )

    return answer


def only(*fields: tuple[str, str]) -> Odd:
    """One header block and nothing else."""
    return lambda server, stream: server.write(server.make.headers(stream, fields, flags=END))


def body(data: bytes) -> Odd:
    """A whole reply with this body."""

    def answer(server: ServerConnection, stream: int) -> None:
        server.write(
            server.make.headers(stream, RESPONSE),
            server.make.data(stream, data),
            server.make.headers(stream, TRAILERS, flags=END),
        )

    return answer


def _reply_twice(server: ServerConnection, stream: int) -> None:
    for _ in range(2):
        server.reply(stream)


def frames(make: Callable[[ServerConnection, int], bytes]) -> Odd:
    return lambda server, stream: server.write(make(server, stream))


def large(count: int, size: int) -> Fields:
    return [(f"x-{number}", "x" * size) for number in range(count)]


def split(fields: Fields, parts: int) -> Odd:
    """A whole reply whose head takes several frames."""

    def answer(server: ServerConnection, stream: int) -> None:
        block = bytes(server.make.encoder.encode([*RESPONSE, *fields], huffman=False))
        step = -(-len(block) // parts)
        pieces = [block[at : at + step] for at in range(0, len(block), step)]
        server.write(
            raw(1, 0, stream, pieces[0]),
            *[raw(9, 0, stream, piece) for piece in pieces[1:]],
            raw(9, 4, stream, b""),
            server.make.data(stream, HELLO),
            server.make.headers(stream, TRAILERS, flags=END),
        )

    return answer


BAD_BASE64 = ["a_b-c", "!!", "a", "AA=A", "=", "äöü", "AAEC, !!"]

HARMLESS: dict[str, Odd] = {
    **{f"x-data-bin: {value}": head(("x-data-bin", value), end=[("x-end-bin", value)]) for value in BAD_BASE64},
    "grpc-encoding: foo": head(("grpc-encoding", "foo")),
    "grpc-encoding: empty": head(("grpc-encoding", "")),
    "grpc-encoding twice": head(("grpc-encoding", "gzip"), ("grpc-encoding", "deflate")),
    "grpc-accept-encoding: foo": head(("grpc-accept-encoding", "foo,,;"), end=[("grpc-accept-encoding", "")]),
    "grpc-retry-pushback-ms: abc": head(
        ("grpc-retry-pushback-ms", "abc"), end=[("grpc-retry-pushback-ms", "99999999999999")]
    ),
    "grpc-timeout in a reply": head(("grpc-timeout", "never")),
    "grpc-tags-bin": head(("grpc-tags-bin", "*"), end=[("grpc-server-stats-bin", "*"), ("grpc-trace-bin", "*")]),
    "lb-cost-bin": head(("lb-cost-bin", "*"), end=[("endpoint-load-metrics-bin", "*")]),
    "hop by hop": head(("connection", "close"), ("keep-alive", "x"), ("te", "x"), ("transfer-encoding", "chunked")),
    "a content-length that lies": head(("content-length", "3")),
    "a content-length that is none": head(("content-length", "many")),
    "content types with parameters": frames(
        lambda server, stream: (
            server.make.headers(stream, [(":status", "200"), ("content-type", "Application/GRPC+proto; x=y")])
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "no content type": frames(
        lambda server, stream: (
            server.make.headers(stream, [(":status", "200")])
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "te, host and user-agent": head(("te", "trailers"), ("host", "x"), ("user-agent", "x"), (":status", "200")[::-1]),
    "bytes beyond ASCII": head(("x-a", "h\xe4"), end=[("x-b", "\xff")]),
    "an empty value": head(("x-a", ""), end=[("x-b", "")]),
    "metadata of 100 KB": split(large(100, 1000), 10),
    "metadata of 1,500 fields": split(large(1500, 1), 4),
    "one value of 200 KB": split(large(1, 200_000), 20),
    "interim responses": frames(
        lambda server, stream: (
            server.make.headers(stream, [(":status", "103"), ("link", "x")])
            + server.make.headers(stream, [(":status", "100")])
            + server.make.headers(stream, RESPONSE)
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "unknown frames": frames(
        lambda server, stream: (
            raw(0xBE, 0xFF, stream, b"?") * 100
            + server.make.headers(stream, RESPONSE)
            + raw(0xBE, 0, stream, b"")
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "unknown settings": frames(
        lambda server, stream: (
            raw(4, 0, 0, b"\xfe\x03\0\0\0\1\xaa\xaa\xff\xff\xff\xff")
            + server.make.headers(stream, RESPONSE)
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "padding": frames(
        lambda server, stream: (
            server.make.headers(stream, RESPONSE, flags=("END_HEADERS", "PADDED"), padding=20)
            + server.make.data(stream, HELLO, padding=200)
            + server.make.headers(stream, TRAILERS, flags=(*END, "PADDED"), padding=3)
        )
    ),
    "empty DATA": frames(
        lambda server, stream: (
            server.make.headers(stream, RESPONSE)
            + server.make.data(stream, b"") * 20
            + server.make.data(stream, HELLO)
            + server.make.data(stream, b"")
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "a message byte by byte": frames(
        lambda server, stream: (
            server.make.headers(stream, RESPONSE)
            + b"".join([server.make.data(stream, HELLO[at : at + 1]) for at in range(len(HELLO))])
            + server.make.headers(stream, TRAILERS, flags=END)
        )
    ),
    "a reset behind the end": frames(
        lambda server, stream: (
            server.make.headers(stream, RESPONSE)
            + server.make.data(stream, HELLO)
            + server.make.headers(stream, TRAILERS, flags=END)
            + server.make.rst_stream(stream, 0)
        )
    ),
    "a second reply behind the end": _reply_twice,
    "a grpc-message that is no escape": end(("grpc-status", "0"), ("grpc-message", "%zz%")),
    "details that are no base64": end(("grpc-status", "0"), ("grpc-status-details-bin", "!")),
    "grpc-status twice": end(("grpc-status", "0"), ("grpc-status", "13")),
}
"""What a call survives: it is OK all the same."""

FAILING: dict[str, tuple[StatusCode, Odd]] = {
    "grpc-status: abc": (StatusCode.UNKNOWN, end(("grpc-status", "abc"))),
    "grpc-status: -1": (StatusCode.UNKNOWN, end(("grpc-status", "-1"))),
    "grpc-status: 17": (StatusCode.UNKNOWN, end(("grpc-status", "17"))),
    "grpc-status: 99999999999": (StatusCode.UNKNOWN, end(("grpc-status", "99999999999"))),
    "grpc-status: empty": (StatusCode.UNKNOWN, end(("grpc-status", ""))),
    "trailers without a status": (StatusCode.UNKNOWN, end(("x-a", "1"))),
    "a block without a status": (StatusCode.UNKNOWN, only(*RESPONSE)),
    "an end without trailers": (
        StatusCode.UNKNOWN,
        frames(
            lambda server, stream: (
                server.make.headers(stream, RESPONSE) + server.make.data(stream, HELLO, flags=["END_STREAM"])
            )
        ),
    ),
    "an end within a message": (
        StatusCode.INTERNAL,
        frames(
            lambda server, stream: (
                server.make.headers(stream, RESPONSE) + server.make.data(stream, HELLO[:7], flags=["END_STREAM"])
            )
        ),
    ),
    "an OK within a message": (StatusCode.INTERNAL, body(HELLO[:7])),
    "a flag byte of 2": (StatusCode.INTERNAL, body(b"\2" + HELLO[1:])),
    "gRPC-Web's trailers": (StatusCode.INTERNAL, body(HELLO + b"\x80\0\0\0\x10grpc-status: 0\r\n")),
    "a compressed message without encoding": (StatusCode.INTERNAL, body(b"\1" + HELLO[1:])),
    "a message of 4 GB": (StatusCode.RESOURCE_EXHAUSTED, body(b"\0\xff\xff\xff\xff")),
    "HTML": (
        StatusCode.UNKNOWN,
        frames(
            lambda server, stream: (
                server.make.headers(stream, [(":status", "200"), ("content-type", "text/html")])
                + server.make.data(stream, b"<html>", flags=["END_STREAM"])
            )
        ),
    ),
    "JSON messages": (
        StatusCode.INTERNAL,
        frames(
            lambda server, stream: (
                server.make.headers(stream, [(":status", "200"), ("content-type", "application/grpc+json")])
                + server.make.data(stream, HELLO)
                + server.make.headers(stream, TRAILERS, flags=END)
            )
        ),
    ),
    "HTTP 404": (StatusCode.UNIMPLEMENTED, only((":status", "404"))),
    "HTTP 800": (StatusCode.UNKNOWN, only((":status", "800"))),
    "HTTP 500 with a body": (
        StatusCode.UNKNOWN,
        frames(
            lambda server, stream: (
                server.make.headers(stream, [(":status", "500"), ("content-type", "text/plain")])
                + server.make.data(stream, bytes(100), flags=["END_STREAM"])
            )
        ),
    ),
    "HTTP 503, its body never ends": (
        StatusCode.UNAVAILABLE,
        frames(lambda server, stream: server.make.headers(stream, [(":status", "503")])),
    ),
    "HTTP 000": (StatusCode.INTERNAL, only((":status", "000"))),
    "HTTP abc": (StatusCode.INTERNAL, only((":status", "abc"))),
    "no :status": (StatusCode.INTERNAL, only(("grpc-status", "0"))),
    "a request's field": (StatusCode.INTERNAL, only((":status", "200"), (":path", "/"), ("grpc-status", "0"))),
    "an upper-case name": (StatusCode.INTERNAL, head(("X-Upper", "x"))),
    "an upper-case name in trailers": (StatusCode.INTERNAL, end(("grpc-status", "0"), ("X-Upper", "x"))),
    "an empty name": (StatusCode.INTERNAL, head(("", "x"))),
    "a line break in a value": (StatusCode.INTERNAL, head(("x-a", "1\r\nx-b: 2"))),
    "NUL in a value": (StatusCode.INTERNAL, head(("x-a", "1\x002"))),
    "DATA before the head": (StatusCode.INTERNAL, frames(lambda server, stream: server.make.data(stream, HELLO))),
    "interim responses without end": (
        StatusCode.INTERNAL,
        frames(
            lambda server, stream: b"".join(
                [server.make.headers(stream, [(":status", "100")]) for _ in range(MAX_INTERIM + 1)]
            )
        ),
    ),
    "metadata of 2 MB": (StatusCode.RESOURCE_EXHAUSTED, split(large(200, 10_000), 140)),
    "3,000 fields": (StatusCode.RESOURCE_EXHAUSTED, split(large(3000, 1), 4)),
    "a window update of 0": (StatusCode.INTERNAL, frames(lambda server, stream: server.make.window_update(stream, 0))),
    "RST NO_ERROR": (StatusCode.INTERNAL, frames(lambda server, stream: server.make.rst_stream(stream, 0))),
    "RST PROTOCOL_ERROR": (StatusCode.INTERNAL, frames(lambda server, stream: server.make.rst_stream(stream, 1))),
    "RST REFUSED_STREAM": (StatusCode.UNAVAILABLE, frames(lambda server, stream: server.make.rst_stream(stream, 7))),
    "RST CANCEL": (StatusCode.CANCELLED, frames(lambda server, stream: server.make.rst_stream(stream, 8))),
    "RST ENHANCE_YOUR_CALM": (
        StatusCode.RESOURCE_EXHAUSTED,
        frames(lambda server, stream: server.make.rst_stream(stream, 11)),
    ),
    "RST INADEQUATE_SECURITY": (
        StatusCode.PERMISSION_DENIED,
        frames(lambda server, stream: server.make.rst_stream(stream, 12)),
    ),
    "RST of an unknown code": (
        StatusCode.INTERNAL,
        frames(lambda server, stream: server.make.rst_stream(stream, 0xFFFF)),
    ),
    "HEADERS, then REFUSED_STREAM": (
        StatusCode.UNAVAILABLE,
        frames(lambda server, stream: server.make.headers(stream, RESPONSE) + server.make.rst_stream(stream, 7)),
    ),
}

ODD = HARMLESS | {name: odd for name, (_, odd) in FAILING.items()}


def target_for(address: str) -> tuple[GrpcCarrier, Handler]:
    host, _, port = address.rpartition(":")
    carrier = GrpcCarrier(Server(TcpAddress(host, int(port))))
    return carrier, GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle


GOOD = [
    ("x-data-bin", "AAAA"),
    ("x-end-bin", "AAAA"),
    ("grpc-encoding", "identity"),
    ("grpc-accept-encoding", "gzip"),
    ("grpc-retry-pushback-ms", "5"),
    ("grpc-timeout", "1S"),
    ("grpc-tags-bin", "AAAA"),
    ("grpc-server-stats-bin", "AAAA"),
    ("grpc-trace-bin", "AAAA"),
    ("lb-cost-bin", "AAAA"),
    ("endpoint-load-metrics-bin", "AAAA"),
    ("te", "trailers"),
    ("x-a", "1"),
]
"""Honest values under the names that odd replies use: what an odd one leaves behind must not spoil them."""


def honest(server: ServerConnection, stream: int) -> None:
    server.write(
        server.make.headers(stream, [*RESPONSE, *GOOD]),
        server.make.data(stream, HELLO),
        server.make.headers(stream, [*TRAILERS, *GOOD], flags=END),
    )


def answer(server: ServerConnection, stream: Stream) -> None:
    """By the last part of the path: an odd reply, an echo of each message as it comes, or an honest reply."""
    if stream.method != "chat" and not stream.has_ended:
        return
    if stream.method.isdigit():
        list(ODD.values())[int(stream.method)](server, stream.stream_id)
    elif stream.method != "chat":
        honest(server, stream.stream_id)
    elif stream.has_ended:
        server.write(server.make.headers(stream.stream_id, TRAILERS, flags=END))
    else:
        server.write(server.make.headers(stream.stream_id, RESPONSE))


async def outcome(handler: Handler, method: Any) -> StatusCode:
    """The one status of a call."""
    call = RecordingCall(f"/test.Odd/{method}", body=envelope(b"x"))
    async with asyncio.timeout(60):
        try:
            await handler(call)
        except RpcError as error:
            assert call.status is None
            return error.status.code
    assert call.status is not None
    return call.status.code


@pytest.mark.parametrize("number", range(len(ODD)), ids=list(ODD))
async def test_an_odd_reply_is_its_own_calls_matter(number: int) -> None:
    """While it comes another client's stream stays open on the connection, and further calls are on their way."""
    name = list(ODD)[number]
    expected = FAILING[name][0] if name in FAILING else StatusCode.OK
    async with frame_server(answer, is_early=True) as server:
        carrier, handler = target_for(server.address)
        chat = StreamedCall("/test.Odd/chat")
        task = chat.serve(handler)
        while not chat.events:
            await asyncio.sleep(0.001)
        found = await asyncio.gather(
            *[outcome(handler, "honest") for _ in range(5)],
            outcome(handler, number),
            *[outcome(handler, "honest") for _ in range(5)],
        )
        later = await outcome(handler, "honest")
        await chat.end()
        await task
        await carrier.close()

    assert [StatusCode.OK] * 5 + [expected] + [StatusCode.OK] * 5 == found
    assert StatusCode.OK is later
    assert OK == chat.status
    assert 1 == len(server.connections)


@pytest.mark.parametrize("number", range(len(ODD)), ids=list(ODD))
async def test_the_first_reply_of_a_connection_may_be_odd(number: int) -> None:
    """The server's header compression refers to its fields in all that it sends later (grpc/grpc#34721)."""
    async with frame_server(answer) as server:
        carrier, handler = target_for(server.address)
        await outcome(handler, number)
        later = [await outcome(handler, "honest") for _ in range(3)]
        await carrier.close()

    assert [StatusCode.OK] * 3 == later
    assert 1 == len(server.connections)


async def test_all_odd_replies_at_once() -> None:
    """On one connection, next to honest calls."""
    async with frame_server(answer) as server:
        carrier, handler = target_for(server.address)
        methods = [method for number in range(len(ODD)) for method in (number, "honest")]
        found = await asyncio.gather(*[outcome(handler, method) for method in methods])
        await carrier.close()
    expected = [FAILING[name][0] if name in FAILING else StatusCode.OK for name in ODD]

    assert expected == found[::2]
    assert {StatusCode.OK} == set(found[1::2])
    assert 1 == len(server.connections)


async def events_of(odd: Odd) -> list[object]:
    def answer(server: ServerConnection, stream: Stream) -> None:
        odd(server, stream.stream_id)

    async with frame_server(answer) as server:
        carrier, handler = target_for(server.address)
        call = RecordingCall("/test.Odd/one", body=envelope(b"x"))
        await handler(call)
        await carrier.close()
    return list(call.events)


async def test_binary_values_that_nobody_could_read_are_left_out() -> None:
    """The others pass, each by itself and without padding."""
    odd = head(("a-bin", "AAE="), ("a-bin", "a_b-c"), ("a-bin", "AQ==,AAEC,!"), end=[("b-bin", "x"), ("b-bin", "AA")])

    assert [
        Headers((("a-bin", "AAE"), ("a-bin", "AQ"), ("a-bin", "AAEC"))),
        Message(HELLO),
        Trailers(OK, (("b-bin", "AA"),)),
    ] == await events_of(odd)


async def test_a_pushback_that_is_no_number_says_do_not_repeat() -> None:
    """As gRFC A6 reads it; a client never meets what could break it."""
    odd = only(*RESPONSE, ("grpc-status", "14"), ("grpc-retry-pushback-ms", "abc"))

    assert [Trailers(Status(StatusCode.UNAVAILABLE), (("grpc-retry-pushback-ms", "-1"),))] == await events_of(odd)


async def test_a_status_in_headers_that_nothing_follows_is_trailers_only() -> None:
    """Proxies split what a server sent as one block."""

    def odd(server: ServerConnection, stream: int) -> None:
        fields = [*RESPONSE, ("grpc-status", "5"), ("grpc-message", "n%C3%A4h"), ("x-a", "1")]
        server.write(
            server.make.headers(stream, fields),
            server.make.data(stream, b"", flags=["END_STREAM"]),
        )

    assert [Trailers(Status(StatusCode.NOT_FOUND, "näh"), (("x-a", "1"),))] == await events_of(odd)


async def test_a_status_in_headers_gives_way_to_that_of_the_trailers() -> None:
    odd = head(("grpc-status", "5"), ("x-a", "1"))

    assert [Headers((("x-a", "1"),)), Message(HELLO), OK_TRAILERS] == await events_of(odd)


async def test_what_came_before_the_fault_is_the_clients() -> None:
    """Messages, then the failure."""

    def odd(server: ServerConnection, stream: int) -> None:
        server.write(
            server.make.headers(stream, RESPONSE),
            server.make.data(stream, HELLO + b"\7"),
            server.make.data(stream, bytes(10)),
        )

    def answer(server: ServerConnection, stream: Stream) -> None:
        odd(server, stream.stream_id)

    async with frame_server(answer) as server:
        carrier, handler = target_for(server.address)
        call = RecordingCall("/test.Odd/one", body=envelope(b"x"))
        with pytest.raises(RpcError, match="flag byte 0x07"):
            await handler(call)
        await carrier.close()

    assert [EMPTY_HEADERS, Message(HELLO)] == call.events
