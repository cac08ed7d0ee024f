"""Streams reach the client message by message: each while the function still waits to write the next one."""

from __future__ import annotations

import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
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

def wait_until_taken(number):
    for _ in range(6000):
        if os.path.exists(f"taken-{number}"):
            return b"in time"
        time.sleep(0.005)
    return b"late"

def messages(method):
    if method == "Tick":
        for _ in range(10):
            yield repr(time.time()).encode()
            time.sleep(0.1)
    elif method == "Step":
        yield b"begin"
        for number in range(9):
            yield wait_until_taken(number)
    else:
        yield from [b"message"] * 4
        time.sleep(30)

def reply(method):
    head = {"statusCode": 200, "headers": {"content-type": "application/grpc-web+proto"}, "cookies": []}
    yield json.dumps(head).encode() + bytes(8)
    for message in messages(method):
        yield envelope(0, message)
    yield envelope(0x80, b"grpc-status:0\\r\\n")

while True:
    connection = http.client.HTTPConnection(host)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    method = json.loads(response.read())["rawPath"].rpartition("/")[2]
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.close()
    connection = http.client.HTTPConnection(host)
    path = f"/2018-06-01/runtime/invocation/{request_id}/response"
    connection.request("POST", path, reply(method), HEADERS, encode_chunked=True)
    connection.getresponse().read()
    connection.close()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def bridge(folder: Path) -> Iterator[RunningBridge]:
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


@pytest.fixture
def taken(folder: Path) -> Iterator[Callable[[int], None]]:
    """Tells the function that the client has a message."""
    files: list[Path] = []

    def tell(number: int) -> None:
        files.append(folder / f"taken-{number}")
        files[-1].touch()

    yield tell
    for file in files:
        file.unlink()


def ages(channel: grpc.Channel, service: str) -> list[float]:
    """How old each message is when the client has it (seconds)."""
    stream = unary_stream(channel, f"/{service}/Tick")(b"", timeout=20)
    return [time.time() - float(message) for message in stream]  # noqa: TID251 - both ends of the call read it


@pytest.mark.parametrize("service", ["t.Streamed", "t.Url"])
def test_messages_arrive_when_they_are_written(
    bridge: RunningBridge, taken: Callable[[int], None], service: str
) -> None:
    """Through Invoke with response stream, and through a URL: the function waits until the client has each one."""
    found: list[bytes] = []
    with grpc.insecure_channel(bridge.address) as channel:
        for number, message in enumerate(unary_stream(channel, f"/{service}/Step")(b"", timeout=60)):
            taken(number)
            found.append(message)

    assert [b"begin"] + [b"in time"] * 9 == found


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
        stream = unary_stream(channel, "/t.Streamed/Stop")(b"", timeout=2)
        with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - what comes before the error counts
            for message in stream:
                received.append(message)  # noqa: PERF402 - the error must not take them along

    assert grpc.StatusCode.DEADLINE_EXCEEDED == caught.value.code()
    assert [b"message"] * 4 == received
