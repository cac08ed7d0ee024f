from __future__ import annotations

import json
import logging
from base64 import b64decode

import pytest

from bridge.aws.invoke import InvokeReply
from bridge.rpc.buffers import Account
from bridge.rpc.compression import deflate
from bridge.rpc.envelope import COMPRESSED, envelope
from bridge.rpc.errors import (
    BadReply,
    FunctionFailed,
    ReplyTooLarge,
    RpcError,
    Throttled,
    UnsupportedCall,
)
from bridge.rpc.events import Headers, Message, Phase, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.status import Status, StatusCode
from bridge.targets.raw_backend import DROPS_LOGGED_EVERY
from tests.support.fakes import FakeCarrier, FakeClock, RecordingCall
from tests.support.targets import raw_target

REQUEST_ID = ("x-amzn-requestid", "id-1")
HELLO = envelope(b"hello")


class Reversing:
    """A Transcode whose JSON is the message backwards."""

    async def to_json(self, path: str, message: bytes, *, max_size: int, account: Account) -> bytes:
        return message[::-1]

    async def from_json(self, path: str, text: bytes, *, max_size: int, account: Account) -> bytes:
        if text == b"?":
            raise BadReply("no JSON")
        return text[::-1]


class Bench:
    def __init__(self, *script: bytes | RpcError) -> None:
        self.clock = FakeClock()
        replies = [InvokeReply(each, "id-1") if isinstance(each, bytes) else each for each in script]
        self.carrier = FakeCarrier(*replies, clock=self.clock, takes=0.25)
        self.target = raw_target(self.carrier, transcode=Reversing(), clock=self.clock)

    def custom(self, number: int = -1) -> dict[str, str]:
        context = self.carrier.headers[number].get("x-amz-client-context")
        assert context is not None
        found: dict[str, str] = json.loads(b64decode(context))["custom"]
        return found


def raising(error_type: str, message: str) -> FunctionFailed:
    error = FunctionFailed(f"f failed: {error_type}: {message}")
    error.error_type, error.error_message, error.request_id = error_type, message, "id-1"
    return error


async def test_the_message_is_the_event_and_the_result_the_reply() -> None:
    bench, call = Bench(b"dlrow"), RecordingCall(body=HELLO, metadata=(("x-a", "1"),))

    await bench.target.handle(call)

    assert [b"olleh"] == bench.carrier.payloads
    assert ("/test.v1.Echo/Say", "1") == (bench.custom()["grpc-method"], bench.custom()["x-a"])
    assert [
        Headers(),
        Message(envelope(b"world")),
        Trailers(Status(StatusCode.OK), (REQUEST_ID,)),
    ] == call.events
    assert ("id-1", 0.25) == (call.request_id, call.upstream_seconds)


async def test_a_byte_order_mark_is_no_part_of_the_result() -> None:
    bench, call = Bench(b"\xef\xbb\xbfdlrow"), RecordingCall(body=HELLO)

    await bench.target.handle(call)

    assert [b"world"] == call.messages


async def test_deadline_goes_beside_it() -> None:
    bench = Bench(b"")

    await bench.target.handle(RecordingCall(body=HELLO, deadline=bench.clock() + 1.5))

    assert "1500m" == bench.custom()["grpc-timeout"]


async def test_compressed_messages_are_inflated() -> None:
    """And the function is told of no compression."""
    metadata = (("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"))
    bench = Bench(b"")
    call = RecordingCall(body=envelope(deflate(b"hello", "gzip"), flags=COMPRESSED), metadata=metadata)

    await bench.target.handle(call)

    assert [b"olleh"] == bench.carrier.payloads
    assert {"grpc-method", "x-forwarded-for"} == bench.custom().keys()


async def test_a_raised_code_is_the_answer() -> None:
    """No error of ours: it is sent, trailers-only, with AWS's request id."""
    bench, call = Bench(raising("errors.NotFound", "no such order")), RecordingCall(body=HELLO)

    await bench.target.handle(call)

    assert [Trailers(Status(StatusCode.NOT_FOUND, "no such order"), (REQUEST_ID,))] == call.events
    assert "id-1" == call.request_id


@pytest.mark.parametrize("error", [raising("KeyError", "x"), Throttled("busy")])
async def test_other_errors_stay_errors(error: RpcError) -> None:
    bench, call = Bench(error), RecordingCall(body=HELLO)

    with pytest.raises(type(error)):
        await bench.target.handle(call)

    assert Phase.NEW is call.phase
    assert 0.25 == call.upstream_seconds


async def test_nothing_is_sent_of_a_bad_reply() -> None:
    call = RecordingCall(body=HELLO)

    with pytest.raises(BadReply):
        await Bench(b"?").target.handle(call)

    assert [] == call.events


async def test_limits_hold() -> None:
    """A reply above max_response, a stream of requests."""
    with pytest.raises(ReplyTooLarge):
        await Bench(b"1234567").target.handle(RecordingCall(body=HELLO, limits=Limits(max_response=6)))
    with pytest.raises(UnsupportedCall):
        await Bench().target.handle(RecordingCall(body=HELLO * 2))


async def test_dropped_metadata_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Clients choose its size: not a line for each call."""
    bench = Bench(*[b""] * 3)
    metadata = (("x-a", "v" * 3000),)

    with caplog.at_level(logging.WARNING):
        await bench.target.handle(RecordingCall(body=HELLO, metadata=metadata))
        await bench.target.handle(RecordingCall(body=HELLO, metadata=metadata))
        bench.clock.advance(DROPS_LOGGED_EVERY)
        await bench.target.handle(RecordingCall(body=HELLO, metadata=metadata))

    assert ["/test.v1.Echo/Say" in line for line in caplog.messages] == [True, True]
    assert "vvv" not in caplog.text
