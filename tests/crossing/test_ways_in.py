"""The same function by every way that leads to it: Invoke, Invoke with response stream, its URL in both modes, signed
and not.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import RunningBridge, running_bridge

pytestmark = pytest.mark.slow

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret-of-ours",
    "AWS_REGION": "us-east-1",
}

HANDLER = """
from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2_grpc
from lambda_fn.examples.echo import Echo

def served(stream_replies):
    server = LambdaServer(stream_replies=stream_replies)
    echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
    return server.handler

by_method, buffered, streamed = served(None), served(False), served(True)
"""
"""What each way wants: Invoke takes either form, a URL only that of its invoke mode."""

WAYS = ("invoke", "stream", "url", "url-stream", "url-signed")


@pytest.fixture(scope="module")
def bridges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningBridge]]:
    """A bridge that runs the functions, and one more for each other way to them: all serve the same gRPC service."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        emulator = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("invoke")
    (folder / "ways.py").write_text(HANDLER)
    usual: dict[str, Any] = {"timeout": "10s", "memory": "512MiB"}
    urls = f"http://{emulator}/lambda-url"
    signed = {"target": f"{urls}/signed", "auth": {"iam": {"service": "lambda", "region": "us-east-1"}}}
    targets: dict[str, Any] = {
        "invoke": "local:plain",
        "stream": {"target": "local:plain", "invoke_mode": "response_stream"},
        "url": f"{urls}/buffered",
        "url-stream": f"{urls}/streaming",
        "url-signed": signed,
    }
    functions = {
        "plain": {**usual, "handler": "ways.by_method"},
        "buffered": {**usual, "handler": "ways.buffered", "url": {}},
        "streaming": {
            **usual,
            "handler": "ways.streamed",
            "url": {"invoke_mode": "response_stream"},
        },
        "signed": {**usual, "handler": "ways.buffered", "url": {"auth": "iam"}},
    }
    with running_bridge(
        folder,
        {"emulator": emulator, "services": {"dev.Echo": targets["invoke"]}, "functions": functions},
        environ=AWS,
    ) as first:
        running = {"invoke": first}
        with ExitStack() as others:
            for way in WAYS[1:]:
                config = {"emulator": f"http://{emulator}", "services": {"dev.Echo": targets[way]}}
                other = running_bridge(tmp_path_factory.mktemp(way), config, environ=AWS)
                running[way] = others.enter_context(other)
            running["url-signed"].wait_for_line("AWS credentials found")
            yield running


@pytest.fixture(params=WAYS)
def stub(request: pytest.FixtureRequest, bridges: dict[str, RunningBridge]) -> Iterator[echo_pb2_grpc.EchoStub]:
    with grpc.insecure_channel(bridges[request.param].address) as channel:
        yield echo_pb2_grpc.EchoStub(channel)


def test_unary_with_metadata(stub: echo_pb2_grpc.EchoStub) -> None:
    """The client's authorization arrives as such even where that of the request is the bridge's own."""
    metadata = (("x-word", "a, b"), ("x-word-bin", b"\0\1"), ("authorization", "Bearer x"))
    reply, call = stub.Unary.with_call(echo_pb2.EchoRequest(text="hi"), timeout=20, metadata=metadata)

    seen = {each.name: each.text or each.binary for each in reply.metadata}

    assert "hi" == reply.text
    assert grpc.StatusCode.OK == call.code()
    assert ("a, b", b"\0\1", "Bearer x") == (
        seen["x-word"],
        seen["x-word-bin"],
        seen["authorization"],
    )


def test_server_streaming(stub: echo_pb2_grpc.EchoStub) -> None:
    replies = stub.ServerStream(echo_pb2.EchoRequest(text="hi", count=5), timeout=20)

    assert ["hi"] * 5 == [reply.text for reply in replies]


def test_client_streaming(stub: echo_pb2_grpc.EchoStub) -> None:
    requests = (echo_pb2.EchoRequest(text=text) for text in ("a", "b", "c"))

    assert "a b c" == stub.ClientStream(requests, timeout=20).text


def test_a_status(stub: echo_pb2_grpc.EchoStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Fail(echo_pb2.FailRequest(code=5, message="no such: caf\u00e9"), timeout=20)

    assert (grpc.StatusCode.NOT_FOUND, "no such: caf\u00e9") == (
        caught.value.code(),
        caught.value.details(),
    )


def test_the_request_id_of_aws(stub: echo_pb2_grpc.EchoStub) -> None:
    """Whatever the way, the operator can find the invocation in the function's log."""
    _, call = stub.Unary.with_call(echo_pb2.EchoRequest(text="hi"), timeout=20)

    assert dict(call.trailing_metadata()).get("x-amzn-requestid")
