"""Many messages are no reason to hold the loop: whatever waits gets its turns in between."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable

import pytest

from bridge.aws.invoke import InvokeReply
from bridge.codecs.grpc_web import GrpcWeb
from bridge.rpc.envelope import COMPRESSED, TRAILERS, envelope
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from bridge.rpc.status import OK
from bridge.targets.reply import stream_reply
from bridge.targets.request import read_inflated
from tests.support.fakes import FakeCarrier, FakeClock, RecordingCall, reply_options
from tests.support.targets import invoke_target

_COUNT = 20_500
_TURNS = 15
_REPLY = envelope(b"") * _COUNT + envelope(b"grpc-status:0\r\n", flags=TRAILERS)
_HEADERS = {"content-type": "application/grpc-web+proto"}


async def _turns_during(work: Awaitable[object]) -> int:
    """Turns of the loop that another task gets while this work is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.get_running_loop().create_task(count())
    await work
    counting.cancel()
    return turns


async def test_a_reply_of_many_messages_is_read_and_sent_in_turns() -> None:
    """It came whole, and nothing of it is sent before all of it is known to be good."""
    body = b64encode(_REPLY).decode()
    payload = {"headers": _HEADERS, "body": body, "isBase64Encoded": True}
    target = invoke_target(
        FakeCarrier(InvokeReply(json.dumps(payload).encode(), "")),
        figures=TargetFigures("many"),
        clock=FakeClock(),
        wall_clock=FakeClock(),
    )
    call = RecordingCall(body=envelope(b""))
    turns = await _turns_during(target.handle(call))

    assert (_COUNT, OK) == (call.messages_sent, call.status)
    assert turns > _TURNS + 5


async def test_a_part_of_a_stream_with_many_messages_is_passed_on_in_turns() -> None:
    """A client with wide windows holds nobody back."""

    async def parts() -> AsyncIterator[bytes]:
        yield _REPLY

    reader = GrpcWeb().reader(
        200,
        tuple(_HEADERS.items()),
        reply_options(),
    )
    call = RecordingCall()
    turns = await _turns_during(stream_reply(call, reader, parts(), request_id=""))

    assert (_COUNT, OK) == (call.messages_sent, call.status)
    assert turns > _TURNS


async def test_a_request_of_many_messages_is_inflated_in_turns() -> None:
    """Any client can send it."""
    packed = envelope(gzip.compress(b"a"), flags=COMPRESSED)
    limits = Limits(max_buffered=len(packed) * _COUNT)
    call = RecordingCall(body=packed * _COUNT, metadata=(("grpc-encoding", "gzip"),), limits=limits)
    bodies = []

    async def gather() -> None:
        bodies.append((await read_inflated(call, asyncio.Lock()))[1])

    turns = await _turns_during(gather())

    assert [envelope(b"a") * _COUNT] == bodies
    assert turns > _TURNS


async def test_one_large_message_is_inflated_in_turns() -> None:
    """Four kilobytes of gzip that hold four megabytes."""
    message = bytes(4 << 20)
    packed = envelope(gzip.compress(message), flags=COMPRESSED)
    call = RecordingCall(body=packed, metadata=(("grpc-encoding", "gzip"),))
    whole: list[bytes] = []

    async def gather() -> None:
        whole.append((await read_inflated(call, asyncio.Lock()))[1])

    turns = await _turns_during(gather())

    assert [envelope(message)] == whole
    assert turns >= 60


_LARGE = 4 << 20
_SQUEEZED = envelope(gzip.compress(bytes(_LARGE)), flags=COMPRESSED) + envelope(b"grpc-status:0\r\n", flags=TRAILERS)
_GZIP = _HEADERS | {"grpc-encoding": "gzip"}


@pytest.mark.parametrize("coding", ["", "deflate"])
async def test_one_large_message_of_a_reply_is_inflated_in_turns(coding: str) -> None:
    """For a client that lists no encoding, whether the body has a content coding as well or not."""
    body = zlib.compress(_SQUEEZED) if coding else _SQUEEZED
    headers = _GZIP | ({"content-encoding": coding} if coding else {})
    payload = {"headers": headers, "body": b64encode(body).decode(), "isBase64Encoded": True}
    target = invoke_target(FakeCarrier(InvokeReply(json.dumps(payload).encode(), "")))
    call = RecordingCall(body=envelope(b""))
    turns = await _turns_during(target.handle(call))

    assert [bytes(_LARGE)] == call.messages
    assert OK == call.status
    assert turns >= 15


async def test_one_large_message_of_a_stream_is_inflated_in_turns() -> None:
    """And what it held of the buffers is given back once it has been sent."""

    async def parts() -> AsyncIterator[bytes]:
        yield _SQUEEZED

    call = RecordingCall()
    reader = GrpcWeb().reader(200, tuple(_GZIP.items()), reply_options(account=call))
    turns = await _turns_during(stream_reply(call, reader, parts(), request_id=""))

    assert [bytes(_LARGE)] == call.messages
    assert OK == call.status
    assert turns >= 15
    assert 0 == call.held
