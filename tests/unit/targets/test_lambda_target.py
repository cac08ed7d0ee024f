from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from base64 import b64decode, b64encode
from typing import Any, Literal

import pytest

from bridge.aws.invoke import MAX_REPLY, InvokeReply
from bridge.config.formats import EVENTS
from bridge.rpc.buffers import Account
from bridge.rpc.envelope import COMPRESSED, TRAILERS, envelope
from bridge.rpc.errors import (
    BadReply,
    ConnectionLost,
    FunctionFailed,
    MalformedRequest,
    MessageTooLarge,
    NoStatus,
    PayloadTooLarge,
    ReplyTooLarge,
    RpcError,
    Throttled,
    UnsupportedCompression,
)
from bridge.rpc.events import Headers, Message, Phase, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode
from bridge.targets.payload import payload_of
from tests.support.fakes import FakeCarrier, FakeClock, RecordingCall
from tests.support.targets import invoke_target

HELLO = envelope(b"hello")
WORLD = envelope(b"world")
OK = envelope(b"grpc-status:0\r\n", flags=TRAILERS)
WEB = {"content-type": "application/grpc-web+proto"}
REQUEST_ID = ("x-amzn-requestid", "id-1")


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, so that test ids stay the same."""
    return gzip.compress(data, mtime=0)


def reply(body: bytes, *, headers: dict[str, Any] | None = None, request_id: str = "id-1") -> InvokeReply:
    payload = {
        "statusCode": 200,
        "headers": WEB | (headers or {}),
        "body": b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    return InvokeReply(json.dumps(payload).encode(), request_id)


def prelude(body: bytes) -> InvokeReply:
    head = json.dumps({"statusCode": 200, "headers": WEB, "cookies": []}).encode()
    return InvokeReply(head + bytes(8) + body, "id-1")


class Bench:
    """A target with its carrier and clocks."""

    def __init__(
        self,
        *script: InvokeReply | RpcError,
        compression: Literal["pass", "identity"] = "pass",
        takes: float = 0.0,
    ) -> None:
        self.clock = FakeClock()
        self.carrier = FakeCarrier(*script, clock=self.clock, takes=takes)
        self.figures = TargetFigures("greeter")
        self.target = invoke_target(
            self.carrier,
            figures=self.figures,
            clock=self.clock,
            wall_clock=lambda: 1_773_341_838.25,
            compression=compression,
        )

    def event(self, number: int = -1) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.carrier.payloads[number])
        return event


@pytest.mark.parametrize("answer", [reply(WORLD + OK), prelude(WORLD + OK)], ids=["object", "prelude"])
async def test_unary(answer: InvokeReply) -> None:
    """One event goes up, one response comes down, with AWS's request id behind it."""
    bench, call = Bench(answer), RecordingCall(body=HELLO)

    await bench.target.handle(call)

    assert HELLO == b64decode(bench.event()["body"])
    assert [
        Headers(),
        Message(WORLD),
        Trailers(Status(StatusCode.OK), (REQUEST_ID,)),
    ] == call.events
    assert "id-1" == call.request_id
    assert 1 == call.messages_received


async def test_streams_are_gathered_and_given_back_in_order() -> None:
    """All request messages are one body; all response messages come out of one."""
    bench = Bench(reply(WORLD * 3 + OK))
    call = RecordingCall(body=HELLO * 4)

    await bench.target.handle(call)

    assert HELLO * 4 == b64decode(bench.event()["body"])
    assert [b"world"] * 3 == call.messages


async def test_metadata_both_ways() -> None:
    metadata: Metadata = (("x-up", "1"), ("user-agent", "test"))
    end = envelope(b"grpc-status:0\r\nx-last:3\r\n", flags=TRAILERS)
    bench = Bench(reply(WORLD + end, headers={"x-down": "2"}))
    call = RecordingCall(body=HELLO, metadata=metadata)

    await bench.target.handle(call)

    assert "1" == bench.event()["headers"]["x-up"]
    assert (("x-down", "2"),) == call.initial_metadata
    assert (("x-last", "3"), REQUEST_ID) == call.trailing_metadata


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", packed(WORLD + OK)),
        ("GZIP, identity", packed(WORLD + OK)),
        ("deflate", zlib.compress(WORLD + OK)),
        ("deflate", raw_deflate(WORLD + OK)),
        ("deflate, gzip", packed(zlib.compress(WORLD + OK))),
    ],
)
async def test_encoded_replies_are_decoded(coding: str, body: bytes) -> None:
    """Although the event asks for identity: some functions compress always. Each time, for nothing is learned from
    them.
    """
    answer = reply(body, headers={"Content-Encoding": coding})
    bench = Bench(answer, answer, reply(WORLD + OK))
    for _ in range(3):
        call = RecordingCall(body=HELLO)
        await bench.target.handle(call)

        assert [Headers(), Message(WORLD), Trailers(Status(StatusCode.OK), (REQUEST_ID,))] == call.events
    assert "identity" == bench.event()["headers"]["accept-encoding"]


async def test_an_encoded_reply_without_a_body() -> None:
    headers = {"content-encoding": "br", "grpc-status": "5", "grpc-message": "no such"}
    call = RecordingCall(body=HELLO)
    await Bench(reply(b"", headers=headers)).target.handle(call)

    assert [Trailers(Status(StatusCode.NOT_FOUND, "no such"), (REQUEST_ID,))] == call.events


def zeros(mebibytes: int) -> bytes:
    """So much, as gzip of a thousandth of it."""
    deflater = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    part = bytes(1 << 20)
    return b"".join([deflater.compress(part) for _ in range(mebibytes)]) + deflater.flush()


@pytest.mark.parametrize(
    ("coding", "body", "kind", "told"),
    [
        ("br", b"x", BadReply, "content-encoding br, which the bridge cannot decode"),
        ("gzip", WORLD * 2 + OK, BadReply, "does not decode as content-encoding gzip"),
        ("gzip", packed(WORLD + OK[:-2])[:-9], BadReply, "cut off within"),
        ("gzip", packed(envelope(bytes(11))), ReplyTooLarge, r"max_response \(10 bytes\)"),
        pytest.param(
            "gzip, gzip",
            packed(zeros(8)),
            ReplyTooLarge,
            "decodes to more than 6291556 bytes",
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_encoded_replies_that_are_none(coding: str, body: bytes, kind: type[RpcError], told: str) -> None:
    call = RecordingCall(body=HELLO, limits=Limits(max_response=10))
    with pytest.raises(kind, match=told):
        await Bench(reply(body, headers={"content-encoding": coding})).target.handle(call)

    assert Phase.DONE is not call.phase


async def test_a_bomb_is_bounded_and_others_get_through() -> None:
    """A message of 70 MiB that travels as 70 KB: it ends at Lambda's 6 MiB, and the loop is not held for all of it."""
    head = (70 << 20).to_bytes(4, "big")
    deflater = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    part = bytes(1 << 20)
    body = deflater.compress(b"\0" + head) + b"".join([deflater.compress(part) for _ in range(70)]) + deflater.flush()
    bench = Bench(reply(body, headers={"content-encoding": "gzip"}))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.get_running_loop().create_task(count_turns())
    with pytest.raises(ReplyTooLarge, match=f"decodes to more than {MAX_REPLY} bytes.* response_stream"):
        await bench.target.handle(RecordingCall(body=HELLO))
    counting.cancel()

    assert turns > 20


async def test_function_s_own_status_is_no_error_of_ours() -> None:
    """It reaches the client as the function said it, in trailers-only form."""
    answer = reply(b"", headers={"grpc-status": "5", "grpc-message": "no%20such"})
    bench, call = Bench(answer), RecordingCall(body=HELLO)

    await bench.target.handle(call)

    assert [Trailers(Status(StatusCode.NOT_FOUND, "no such"), (REQUEST_ID,))] == call.events


async def test_deadline_goes_up_as_what_is_left() -> None:
    bench = Bench(reply(WORLD + OK))
    call = RecordingCall(body=HELLO, deadline=bench.clock() + 1.5)

    await bench.target.handle(call)

    assert "1500m" == bench.event()["headers"]["grpc-timeout"]


async def test_upstream_time_adds_up_over_attempts() -> None:
    """Failed attempts count too."""
    bench = Bench(Throttled("busy"), reply(WORLD + OK), takes=0.25)
    call = RecordingCall(body=HELLO)

    with pytest.raises(Throttled):
        await bench.target.handle(call)
    await bench.target.handle(call)

    assert 0.5 == call.upstream_seconds


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ConnectionLost("gone"), ConnectionLost),
        (FunctionFailed("boom"), FunctionFailed),
        (reply(b"\x09"), BadReply),
        (reply(WORLD[:-1]), BadReply),
        (InvokeReply(b"null", "id-1"), BadReply),
    ],
)
async def test_a_failure_without_messages_leaves_a_clean_call(
    answer: InvokeReply | RpcError, error: type[RpcError]
) -> None:
    """The client gets trailers-only, and the retry layer may run the call again if nothing has run."""
    bench, call = Bench(answer), RecordingCall(body=HELLO)

    with pytest.raises(error):
        await bench.target.handle(call)

    assert not call.events
    assert Phase.NEW is call.phase


@pytest.mark.parametrize(
    ("behind", "error", "code"),
    [
        (b"", NoStatus, StatusCode.UNKNOWN),
        (envelope(b"x-a: 1\r\n", flags=TRAILERS), NoStatus, StatusCode.UNKNOWN),
        (WORLD[:-1], BadReply, StatusCode.INTERNAL),
        (OK[:-1], BadReply, StatusCode.INTERNAL),
        (OK + WORLD, BadReply, StatusCode.INTERNAL),
        (b"\x09", BadReply, StatusCode.INTERNAL),
        (envelope(bytes(11)), ReplyTooLarge, StatusCode.RESOURCE_EXHAUSTED),
        (
            b"Lambda-Runtime-Function-Error-Type: Broken\r\n",
            FunctionFailed,
            StatusCode.INTERNAL,
        ),
    ],
)
@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_messages_before_a_fault_are_delivered(
    behind: bytes, error: type[RpcError], code: StatusCode, coding: str
) -> None:
    """As those of a streamed reply. The function ran, so that no fault invites the client to call again
    (UNAVAILABLE).
    """
    body = WORLD * 2 + behind
    answer = reply(packed(body) if coding else body, headers={"content-encoding": coding})
    call = RecordingCall(body=HELLO, limits=Limits(max_response=10))

    with pytest.raises(error) as raised:
        await Bench(answer).target.handle(call)

    assert [Headers(), Message(WORLD), Message(WORLD)] == call.events
    assert code is raised.value.code
    assert raised.value.may_have_run


async def test_request_id_is_known_even_of_a_bad_reply() -> None:
    bench, call = Bench(reply(WORLD)), RecordingCall(body=HELLO)

    with pytest.raises(NoStatus):
        await bench.target.handle(call)

    assert "id-1" == call.request_id


async def test_reply_without_a_request_id() -> None:
    bench, call = Bench(reply(WORLD + OK, request_id="")), RecordingCall(body=HELLO)

    await bench.target.handle(call)

    assert () == call.trailing_metadata


async def test_slow_clients_are_not_waited_for() -> None:
    """The reply is whole: it waits in the engine, where it is counted, and the call is over."""
    bench = Bench(reply(WORLD * 5 + OK))
    call = RecordingCall(body=HELLO, window=2)

    await bench.target.handle(call)

    assert [b"world"] * 5 == call.messages
    assert 0 == call.waits


async def test_response_message_above_the_route_s_limit() -> None:
    bench = Bench(reply(WORLD + OK))
    call = RecordingCall(body=HELLO, limits=Limits(max_response=4))

    with pytest.raises(ReplyTooLarge):
        await bench.target.handle(call)


async def test_event_too_large_never_leaves() -> None:
    bench = Bench()
    call = RecordingCall(body=envelope(bytes(5 << 20)), limits=Limits(max_request=6 << 20))

    with pytest.raises(PayloadTooLarge):
        await bench.target.handle(call)

    assert not bench.carrier.payloads
    assert 0.0 == call.upstream_seconds


async def test_request_that_cannot_be_read_never_leaves() -> None:
    bench, call = Bench(), RecordingCall(read_error=MessageTooLarge("too large"))

    with pytest.raises(MessageTooLarge):
        await bench.target.handle(call)

    assert not bench.carrier.payloads


@pytest.mark.parametrize("answer", [{"x-lambda-fn-cold-start": "1"}, {"X-Lambda-Fn-Cold-Start": "1", "x-a": "2"}])
async def test_cold_starts_are_counted_and_go_no_further(answer: dict[str, str]) -> None:
    bench, call = (
        Bench(reply(WORLD + OK, headers=answer), reply(WORLD + OK)),
        RecordingCall(body=HELLO),
    )

    await bench.target.handle(call)
    await bench.target.handle(RecordingCall(body=HELLO))

    assert 1 == bench.figures.cold_starts
    assert call.is_cold_start
    assert "x-lambda-fn-cold-start" not in dict(call.initial_metadata)


# -- compression -------------------------------------------------------------------------------------------------------

GZIP: Metadata = (("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity,gzip"))


async def test_compression_passes_both_ways() -> None:
    squeezed = envelope(packed(b"hello"), flags=COMPRESSED)
    bench = Bench(reply(squeezed + OK, headers={"grpc-encoding": "gzip"}))
    call = RecordingCall(body=squeezed, metadata=GZIP)

    await bench.target.handle(call)

    assert squeezed == b64decode(bench.event()["body"])
    assert "gzip" == bench.event()["headers"]["grpc-encoding"]
    assert Message(squeezed) in call.events
    assert (("grpc-encoding", "gzip"),) == call.initial_metadata


async def test_identity_undoes_compression_both_ways() -> None:
    """The function sees none and is offered none; should it compress all the same, that is undone too."""
    squeezed = envelope(packed(b"hello"), flags=COMPRESSED)
    bench = Bench(reply(squeezed + OK, headers={"grpc-encoding": "gzip"}), compression="identity")
    call = RecordingCall(body=squeezed, metadata=GZIP)

    await bench.target.handle(call)

    assert HELLO == b64decode(bench.event()["body"])
    assert not [name for name in bench.event()["headers"] if name.startswith("grpc-")]
    assert [Headers(), Message(HELLO)] == call.events[:2]


async def test_identity_refuses_what_does_not_inflate() -> None:
    bench = Bench(compression="identity")
    call = RecordingCall(body=envelope(b"nonsense", flags=COMPRESSED), metadata=GZIP)

    with pytest.raises(MalformedRequest):
        await bench.target.handle(call)

    assert not bench.carrier.payloads


async def test_other_message_formats() -> None:
    """The function answers in the format that the client speaks."""
    bench = Bench(reply(WORLD + OK, headers={"content-type": "application/grpc-web+json"}))
    call = RecordingCall(body=HELLO, content_type="application/grpc+json")

    await bench.target.handle(call)

    assert "application/grpc-web+json" == bench.event()["headers"]["content-type"]
    assert [b"world"] == call.messages


# -- payload x event ---------------------------------------------------------------------------------------------------


class Quoting:
    """A Transcode whose JSON is the message as a string."""

    async def to_json(self, path: str, message: bytes, *, max_size: int, account: Account) -> bytes:
        return json.dumps(message.decode()).encode()

    async def from_json(self, path: str, text: bytes, *, max_size: int, account: Account) -> bytes:
        return str(json.loads(text)).encode()


BODIES = {
    "grpc-web": (HELLO, WORLD + OK),
    "grpc": (HELLO, WORLD),
    "protobuf": (b"hello", b"world"),
    "json": (b'"hello"', b'"world"'),
}
"""What goes up and what comes down."""


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("payload", BODIES)
async def test_every_crossing(payload: str, event: str) -> None:
    """Each payload in each event: one message and its metadata both ways."""
    up, down = BODIES[payload]
    kind = payload_of(payload, Quoting()).kind
    camel = {
        "statusCode": 200,
        "headers": {"content-type": kind.content_type("application/grpc"), "x-down": "2"},
        "body": b64encode(down).decode(),
        "isBase64Encoded": True,
    }
    snake = {"statusCode": "status_code", "isBase64Encoded": "is_base64_encoded"}
    sent = {snake.get(name, name): value for name, value in camel.items()} if event == "envoy" else camel
    carrier = FakeCarrier(InvokeReply(json.dumps(sent).encode(), "id-1"))
    target = invoke_target(
        carrier,
        figures=TargetFigures("f"),
        clock=FakeClock(),
        wall_clock=FakeClock(),
        payload=payload_of(payload, Quoting()),
        event=EVENTS[event],
    )
    call = RecordingCall(body=HELLO, metadata=(("x-up", "1"),))

    await target.handle(call)

    seen = json.loads(carrier.payloads[0])
    is_base64 = seen.get("isBase64Encoded", seen.get("is_base64_encoded"))
    assert up == (b64decode(seen["body"]) if is_base64 else seen["body"].encode())
    assert "1" == seen["headers"]["x-up"]
    assert [
        Headers((("x-down", "2"),)),
        Message(WORLD),
        Trailers(Status(StatusCode.OK), (REQUEST_ID,)),
    ] == call.events


@pytest.mark.parametrize("payload", BODIES)
async def test_unknown_compression_is_refused_where_the_bridge_inflates(payload: str) -> None:
    """Although no message uses it (gRPC compression.md): what is refused does not depend on the messages."""
    carrier = FakeCarrier()
    target = invoke_target(
        carrier,
        figures=TargetFigures("f"),
        clock=FakeClock(),
        wall_clock=FakeClock(),
        compression="identity" if payload in ("grpc-web", "grpc") else "pass",
        payload=payload_of(payload, Quoting()),
    )
    call = RecordingCall(body=HELLO, metadata=(("grpc-encoding", "zstd"),))

    with pytest.raises(UnsupportedCompression, match="zstd"):
        await target.handle(call)

    assert not carrier.payloads


@pytest.mark.parametrize("payload", ["protobuf", "json"])
async def test_bare_messages_are_never_compressed(payload: str) -> None:
    """The bridge inflates the request and tells the function of no compression."""
    carrier = FakeCarrier(Throttled("busy"))
    target = invoke_target(
        carrier,
        figures=TargetFigures("f"),
        clock=FakeClock(),
        wall_clock=FakeClock(),
        payload=payload_of(payload, Quoting()),
    )
    packed = envelope(gzip.compress(b"hello"), flags=COMPRESSED)
    metadata = (("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"))

    with pytest.raises(Throttled):
        await target.handle(RecordingCall(body=packed, metadata=metadata))

    event = json.loads(carrier.payloads[0])
    body = b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    assert BODIES[payload][0] == body
    assert not [name for name in event["headers"] if name.startswith("grpc-")]
