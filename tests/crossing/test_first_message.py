"""Time to first message: a stream of ten, one every 100 ms, each reaching the client when the function wrote it.

Every message is the wall time at which it was written; client and function share a clock.
"""

from __future__ import annotations

import socket
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_stream

pytestmark = pytest.mark.slow

FUNCTION = """
import http.client, json, os, time

host = os.environ["AWS_LAMBDA_RUNTIME_API"]
HEADERS = {
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Transfer-Encoding": "chunked",
}

def envelope(flags, data):
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data

def reply():
    head = {"statusCode": 200, "headers": {"content-type": "application/grpc-web+proto"}, "cookies": []}
    yield json.dumps(head).encode() + bytes(8)
    for number in range(10):
        yield envelope(0, repr(time.time()).encode())
        time.sleep(0.1)
    yield envelope(0x80, b"grpc-status:0\\r\\n")

while True:
    connection = http.client.HTTPConnection(host)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    response.read()
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.close()
    connection = http.client.HTTPConnection(host)
    path = f"/2018-06-01/runtime/invocation/{request_id}/response"
    connection.request("POST", path, reply(), HEADERS, encode_chunked=True)
    connection.getresponse().read()
    connection.close()
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("first")
    (folder / "ticker.py").write_text(textwrap.dedent(FUNCTION))
    with socket.create_server(("127.0.0.1", 0)) as free:
        emulator = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "emulator": emulator,
        "services": {
            "t.Url": f"http://{emulator}/lambda-url/ticker",
            "t.Streamed": {"target": "local:ticker", "invoke_mode": "response_stream"},
            "t.Buffered": "local:ticker",
        },
        "functions": {
            "ticker": {
                "command": [sys.executable, "ticker.py"],
                "timeout": "30s",
                "url": {"invoke_mode": "response_stream"},
            }
        },
    }
    with running_bridge(folder, config) as running:
        with grpc.insecure_channel(running.address) as channel:
            ages(channel, "t.Streamed")  # the cold start
        yield running


def ages(channel: grpc.Channel, service: str) -> list[float]:
    """How old each message is when the client has it (seconds)."""
    stream = unary_stream(channel, f"/{service}/Tick")(b"", timeout=20)
    return [time.time() - float(message) for message in stream]  # noqa: TID251 - both ends of the call read it


@pytest.mark.parametrize("service", ["t.Streamed", "t.Url"])
def test_messages_arrive_when_they_are_written(bridge: RunningBridge, service: str) -> None:
    """The first within 20 ms, and so the others: through Invoke with response stream, and through a URL."""
    with grpc.insecure_channel(bridge.address) as channel:
        found = ages(channel, service)

    assert 10 == len(found)
    assert found[0] < 0.020
    assert sorted(found)[5] < 0.020


def test_a_buffered_reply_waits_for_its_end(bridge: RunningBridge) -> None:
    """What response_stream spares: the first message is as old as the whole stream."""
    with grpc.insecure_channel(bridge.address) as channel:
        found = ages(channel, "t.Buffered")

    assert 10 == len(found)
    assert found[0] > 0.9


def test_a_cancelled_stream_ends(bridge: RunningBridge) -> None:
    """The client goes after the first message; the next call is served as ever."""
    with grpc.insecure_channel(bridge.address) as channel:
        stream = unary_stream(channel, "/t.Streamed/Tick")(b"", timeout=20)
        next(iter(stream))
        stream.cancel()

        assert 10 == len(ages(channel, "t.Streamed"))


def test_a_deadline_in_the_middle_keeps_what_came(bridge: RunningBridge) -> None:
    """Trailers with DEADLINE_EXCEEDED behind the messages."""
    received: list[bytes] = []
    with grpc.insecure_channel(bridge.address) as channel:
        stream = unary_stream(channel, "/t.Streamed/Tick")(b"", timeout=0.45)
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - what comes before the error counts
            for message in stream:
                received.append(message)  # noqa: PERF402 - the error must not take them along

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert 4 <= len(received) <= 5
