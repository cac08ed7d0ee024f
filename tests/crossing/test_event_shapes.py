"""A LambdaServer behind every event shape that it reads, called by grpcio: the shape makes no difference to the
call.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import running_bridge
from tests.support.byte_methods import trailers_of

pytestmark = pytest.mark.slow

FAILING_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
DETAILS_NAME = "grpc-status-details-bin"


@pytest.fixture(scope="module", params=["http-v2", "http-v1", "alb"])
def stub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[echo_pb2_grpc.EchoStub]:
    config = {
        "services": {"dev.Echo": {"target": "local:echo", "event": request.param}},
        "functions": {
            "echo": {
                "handler": "lambda_fn.examples.echo.handler",
                "timeout": "10s",
                "memory": "512MiB",
            }
        },
    }
    folder = tmp_path_factory.mktemp(request.param)
    with (
        running_bridge(folder, config) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        yield echo_pb2_grpc.EchoStub(channel)


def test_metadata_both_ways(stub: echo_pb2_grpc.EchoStub) -> None:
    """Repeated names, commas inside values, binary values, in order."""
    sent = (
        ("echo-initial-a", "1"),
        ("echo-initial-a", "2, 3"),
        ("echo-initial-b-bin", b"\x00\xff"),
        ("echo-trailing-c-bin", b"\x01"),
        ("echo-trailing-c-bin", b"\x02"),
    )

    reply, call = stub.Unary.with_call(echo_pb2.EchoRequest(text="hi"), metadata=sent, timeout=20)

    assert "hi" == reply.text
    assert list(sent[:3]) == [tuple(pair) for pair in call.initial_metadata() if pair.key.startswith("echo-")]
    assert list(sent[3:]) == [tuple(pair) for pair in call.trailing_metadata() if pair.key.startswith("echo-")]


def test_the_function_sees_its_caller(stub: echo_pb2_grpc.EchoStub) -> None:
    """The peer's address and the time left."""
    reply = stub.Unary(echo_pb2.EchoRequest(text="hi"), timeout=20)

    assert "127.0.0.1" in reply.peer
    assert 0 < reply.time_remaining <= 20


@pytest.mark.parametrize("code", FAILING_CODES, ids=lambda code: code.name)
def test_every_status(stub: echo_pb2_grpc.EchoStub, code: grpc.StatusCode) -> None:
    """Code, message and details."""
    request = echo_pb2.FailRequest(code=code.value[0], message="näh: 100%", details=["one"])

    with pytest.raises(grpc.RpcError) as raised:
        stub.Fail(request, timeout=20)

    assert (code, "näh: 100%") == (raised.value.code(), raised.value.details())
    assert DETAILS_NAME in trailers_of(raised.value)


def test_every_kind_of_method(stub: echo_pb2_grpc.EchoStub) -> None:
    requests = [echo_pb2.EchoRequest(text=text) for text in ("a", "b")]

    served = [reply.text for reply in stub.ServerStream(requests[0], timeout=20)]
    gathered = stub.ClientStream(iter(requests), timeout=20).text
    both = [reply.text for reply in stub.BidiStream(iter(requests), timeout=20)]

    assert (["a"] * 3, "a b", ["a", "b"]) == (served, gathered, both)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(stub: echo_pb2_grpc.EchoStub, compression: grpc.Compression) -> None:
    text = "x" * 10_000

    reply = stub.Unary(echo_pb2.EchoRequest(text=text), compression=compression, timeout=20)

    assert text == reply.text
