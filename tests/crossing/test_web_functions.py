"""gRPC clients call a Connect server, unmodified, that the local Lambda runs as a Web Function."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_status import rpc_status
from grpc_tools import protoc

from lambda_fn.examples.echo_pb2 import BigRequest, EchoRequest, ExitRequest, FailRequest, SleepRequest
from lambda_fn.examples.echo_pb2_grpc import EchoStub
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.clients import NODE, ROOT, node_program

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@pytest.fixture(scope="module")
def web_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    command = node_program("connect_server.js", needs=("@connectrpc/connect-node", "@bufbuild/protobuf"))
    folder = tmp_path_factory.mktemp("web")
    descriptors = folder / "echo.binpb"
    source = "lambda_fn/examples/echo.proto"
    assert 0 == protoc.main(["", f"-I{ROOT}", "--include_imports", f"--descriptor_set_out={descriptors}", source])
    config = {
        "functions": {
            "shop": {
                "web": {"command": command},
                "code": str(NODE),
                "timeout": "3s",
                "env": {"DESCRIPTORS": str(descriptors)},
            }
        },
        "services": {"dev.Echo": "local:shop"},
    }
    with running_bridge(folder, config) as running:
        yield running


@pytest.fixture
def stub(web_bridge: RunningBridge) -> Iterator[EchoStub]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(web_bridge.address, options) as channel:
        yield EchoStub(channel)


def test_a_unary_call(stub: EchoStub) -> None:
    """With metadata in both directions. Headers of the platform go neither way."""
    metadata = (("x-up", "1"), ("lambda-web-forged", "1"))
    reply, call = stub.Unary.with_call(EchoRequest(text="hello"), timeout=20, metadata=metadata)

    assert "hello" == reply.text
    got = {each.name: each.text for each in reply.metadata}
    assert {"x-up": "1", "lambda-web-endpoint-name": "default"}.items() <= got.items()
    assert "lambda-web-forged" not in got
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert ("one", "two") == (initial["x-initial"], trailing["x-trailing"])
    assert not [name for name in (*initial, *trailing) if name.startswith("lambda-web")]
    assert trailing["x-amzn-requestid"]


def test_the_request_id_is_in_the_access_log(web_bridge: RunningBridge, stub: EchoStub) -> None:
    _, call = stub.Unary.with_call(EchoRequest(text="hello"), timeout=20)
    request_id = dict(call.trailing_metadata())["x-amzn-requestid"]

    web_bridge.wait_for_line(request_id)


def test_a_server_stream(stub: EchoStub) -> None:
    """Each message arrives when it is sent: the second is far away when the first is here."""
    call = stub.ServerStream(EchoRequest(text="s", count=2, delay=1), timeout=20)
    assert "s" == next(call).text
    assert call.is_active()
    assert [1] == [reply.index for reply in call]


def test_a_server_stream_that_fails(stub: EchoStub) -> None:
    call = stub.ServerStream(EchoRequest(text="s", count=3, fail_after=2), timeout=20)
    texts: list[str] = []
    with pytest.raises(grpc.RpcError):
        texts.extend(reply.text for reply in call)

    assert (grpc.StatusCode.ABORTED, "enough") == (call.code(), call.details())


def test_a_client_stream_is_gathered(stub: EchoStub) -> None:
    assert "a b c" == stub.ClientStream((EchoRequest(text=text) for text in "abc"), timeout=20).text


def test_an_error_with_details(stub: EchoStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Fail(FailRequest(code=9, message="später", details=["one", "two"]), timeout=20)
    status = rpc_status.from_call(caught.value)

    assert (grpc.StatusCode.FAILED_PRECONDITION, "später") == (caught.value.code(), caught.value.details())
    values = [StringValue.FromString(each.value).value for each in status.details]
    assert ["one", "two"] == values


def test_a_method_that_the_server_lacks(stub: EchoStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.SleepAsync(SleepRequest(), timeout=20)

    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()


def test_replies_may_be_large(stub: EchoStub) -> None:
    """Larger than what Invoke takes."""
    assert 20 << 20 == len(stub.Big(BigRequest(size=20 << 20), timeout=60).data)


def test_a_call_beyond_the_functions_timeout(stub: EchoStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Sleep(SleepRequest(seconds=30), timeout=60)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    assert "ran out of its own time" in str(caught.value.details())
    assert "x-amzn-requestid" in str(caught.value.trailing_metadata())


def test_a_process_that_dies(stub: EchoStub) -> None:
    """The next call has a new one."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Exit(ExitRequest(code=1), timeout=20)

    assert grpc.StatusCode.INTERNAL is caught.value.code()
    assert "Runtime.ExitError" in str(caught.value.details())
    assert "again" == stub.Unary(EchoRequest(text="again"), timeout=20).text
