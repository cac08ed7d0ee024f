"""grpcio -> bridge -> Envoy's grpc_web filter -> grpcio: whatever a server says reaches the client as if nothing stood
between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import stream_unary, unary_stream, unary_unary
from tests.support.envoy import grpc_web_envoy

pytestmark = [pytest.mark.slow, pytest.mark.clients]

gone = threading.Event()
"""Set when the server learns that a client of Wait went away."""


def echo(message: bytes, context: grpc.ServicerContext) -> bytes:
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-down", str(sent["x-up"])), ("x-down-bin", b"\0\xff")))
    context.set_trailing_metadata((("x-last", "end"), ("x-last-bin", sent["x-up-bin"])))
    return message


TAKEN = threading.Semaphore(0)
"""Counts the messages that the client has."""


def ten(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Each is written when the client has the one before it."""
    for number in range(10):
        yield b"%d" % number
        if not TAKEN.acquire(timeout=30):
            yield b"late"


def fail_late(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "half of it: 100 % caf\u00e9")


def fail_with_details(_: bytes, context: grpc.ServicerContext) -> bytes:
    status = status_pb2.Status(code=9, message="not now")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="CLOSED"))
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError


def wait(_: bytes, context: grpc.ServicerContext) -> bytes:
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(20)
    gone.set()
    return b""


def joined(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b",".join(messages)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("envoy")
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Ten": grpc.unary_stream_rpc_method_handler(ten),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
        "FailWithDetails": grpc.unary_unary_rpc_method_handler(fail_with_details),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Join": grpc.stream_unary_rpc_method_handler(joined),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Web", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            grpc_web_envoy(folder, port) as envoy,
            running_bridge(folder, {"services": {"t.Web": f"http://{envoy}"}}) as running,
        ):
            yield running
    finally:
        server.stop(None).wait()


@pytest.fixture
def channel(bridge: RunningBridge) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(bridge.address, options) as opened:
        yield opened


def test_metadata_and_message_both_ways(channel: grpc.Channel) -> None:
    metadata = (("x-up", "1, 2"), ("x-up-bin", b"\1\2\3"))
    response, call = unary_unary(channel, "/t.Web/Echo").with_call(b"hello", timeout=20, metadata=metadata)
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())

    assert b"hello" == response
    assert ("1, 2", b"\0\xff") == (initial["x-down"], initial["x-down-bin"])
    assert ("end", b"\1\2\3") == (trailing["x-last"], trailing["x-last-bin"])


def test_a_large_message(channel: grpc.Channel) -> None:
    metadata = (("x-up", "1"), ("x-up-bin", b"\1"))
    message = bytes(range(256)) * (15 << 10)

    assert message == unary_unary(channel, "/t.Web/Echo")(message, timeout=20, metadata=metadata)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages(channel: grpc.Channel, compression: grpc.Compression) -> None:
    metadata = (("x-up", "1"), ("x-up-bin", b"\1"))
    call = unary_unary(channel, "/t.Web/Echo")

    assert b"a" * 10_000 == call(b"a" * 10_000, timeout=20, metadata=metadata, compression=compression)


def test_messages_arrive_when_they_are_sent(channel: grpc.Channel) -> None:
    stream = unary_stream(channel, "/t.Web/Ten")(b"", timeout=20)
    found: list[bytes] = []
    for message in stream:
        TAKEN.release()
        found.append(message)

    assert [b"%d" % number for number in range(10)] == found


def test_an_error_behind_two_messages(channel: grpc.Channel) -> None:
    received: list[bytes] = []
    stream = unary_stream(channel, "/t.Web/FailLate")(b"", timeout=20)
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - what comes before the error counts
        for message in stream:
            received.append(message)  # noqa: PERF402 - the error must not take them along

    assert [b"one", b"two"] == received
    assert (grpc.StatusCode.DATA_LOSS, "half of it: 100 % caf\u00e9") == _outcome(caught.value)


def test_details_of_an_error(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary_unary(channel, "/t.Web/FailWithDetails")(b"", timeout=20)
    status: Any = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)

    assert (grpc.StatusCode.FAILED_PRECONDITION, "not now") == _outcome(caught.value)
    assert "CLOSED" == info.reason


def test_an_unknown_method(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary_unary(channel, "/t.Web/Nothing")(b"", timeout=20)

    assert grpc.StatusCode.UNIMPLEMENTED == _outcome(caught.value)[0]


def test_client_streaming_by_gathering(channel: grpc.Channel) -> None:
    call = stream_unary(channel, "/t.Web/Join")

    assert b"a,b,c" == call(iter((b"a", b"b", b"c")), timeout=20)


@pytest.mark.parametrize("ended_by", ["cancel", "deadline"])
def test_who_goes_away_ends_the_servers_call(channel: grpc.Channel, ended_by: str) -> None:
    """The connection to Envoy is closed, and Envoy resets the stream."""
    gone.clear()
    future = unary_unary(channel, "/t.Web/Wait").future(b"", timeout=0.5 if ended_by == "deadline" else 20)
    if ended_by == "cancel":
        threading.Timer(0.3, future.cancel).start()
        with pytest.raises(grpc.FutureCancelledError):
            future.result()
    else:
        with pytest.raises(grpc.RpcError) as caught:
            future.result()
        assert grpc.StatusCode.DEADLINE_EXCEEDED == _outcome(caught.value)[0]

    assert gone.wait(10)


def _outcome(error: Any) -> tuple[grpc.StatusCode, str]:
    return error.code(), error.details()
