"""A native client, the bridge, a function of the local Lambda, and behind forward() a gRPC server that knows of none of
them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc, helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import RunningBridge, running_bridge

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / ".cache/tools/bin"

OBJECT = """
from concurrent.futures import ThreadPoolExecutor
import grpc
from lambda_fn import forward
from lambda_fn.examples import helloworld_pb2_grpc
from lambda_fn.examples.greeter import Greeter

class Log(grpc.ServerInterceptor):
    def intercept_service(self, continuation, details):
        print("intercepted", details.method)
        return continuation(details)

server = grpc.server(ThreadPoolExecutor(4), interceptors=[Log()])
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = forward("unix:greeter.sock", server=server)
"""

AIO = """
import grpc
from lambda_fn import forward
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        context.set_trailing_metadata((("x-from", "aio"),))
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

server = grpc.aio.server()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = forward("unix:greeter.sock", server=server)
"""

COMMAND = '''
import sys
from lambda_fn import forward

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from lambda_fn.examples import echo_pb2_grpc
from lambda_fn.examples.echo import Echo
server = grpc.server(ThreadPoolExecutor(4))
echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
server.add_insecure_port(sys.argv[1])
server.start()
print("the program listens", file=sys.stderr, flush=True)
server.wait_for_termination()
"""
handler = forward("unix:echo.sock", command=[sys.executable, "-c", PROGRAM, "{address}"])
'''

GO = """
import os
from lambda_fn import forward

handler = forward("localhost:0", command=[os.environ["GREETER"], "-port", "{port}"])
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("forward")
    programs = {"object": OBJECT, "aio": AIO, "command": COMMAND}
    for name, program in programs.items():
        (folder / f"{name}_app.py").write_text(program)
    functions: dict[str, Any] = {
        name: {
            "handler": f"{name}_app.handler",
            "code": str(folder),
            "timeout": "20s",
            "concurrency": 2,
        }
        for name in programs
    }
    services = {
        "helloworld.Greeter": "local:object",
        "helloworld.Greeter/SayHello": "local:aio",
        "dev.Echo": "local:command",
    }
    with running_bridge(folder, {"services": services, "functions": functions}) as running:
        yield running


@pytest.fixture
def channel(bridge: RunningBridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bridge.address) as opened:
        yield opened


def _go_greeter() -> str | None:
    """grpc-go's helloworld server: built by .ci/tools, or found on the path."""
    built = TOOLS / "greeter_server"
    return str(built) if built.exists() else shutil.which("greeter_server")


def test_a_server_object_behind_its_interceptors(bridge: RunningBridge, channel: grpc.Channel) -> None:
    """All that grpc.server has is there: the interceptor sees the call before the servicer."""
    stub: Any = helloworld_pb2_grpc.GreeterStub(channel)
    request = helloworld_pb2.HelloRequest(name="you")
    streamed = [reply.message for reply in stub.SayHelloStreamReply(request, timeout=20)]
    names = (helloworld_pb2.HelloRequest(name=name) for name in ("a", "b"))
    gathered = stub.SayHelloToAll(names, timeout=20).message

    assert "Hello number 9, you!" == streamed[9]
    assert "Hello, a, b!" == gathered
    bridge.wait_for_line("intercepted /helloworld.Greeter/SayHelloToAll")


def test_an_aio_server_object(channel: grpc.Channel) -> None:
    """Its trailing metadata arrives as trailers."""
    stub: Any = helloworld_pb2_grpc.GreeterStub(channel)
    reply, call = stub.SayHello.with_call(helloworld_pb2.HelloRequest(name="you"), timeout=20)

    assert "Hello, you!" == reply.message
    assert ("x-from", "aio") in [tuple(pair) for pair in call.trailing_metadata()]


def test_a_program(bridge: RunningBridge, channel: grpc.Channel) -> None:
    """Metadata both ways, binary and text; rich statuses; what the program writes is in the log."""
    stub: Any = echo_pb2_grpc.EchoStub(channel)
    sent = (("echo-initial-a", "one, two"), ("echo-trailing-b-bin", b"\x00\x01,\xff"))
    reply, call = stub.Unary.with_call(echo_pb2.EchoRequest(text="x"), metadata=sent, timeout=20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Fail(echo_pb2.FailRequest(code=9, message="ünd", details=["d"]), timeout=20)

    failed: Any = caught.value
    assert ("echo-initial-a", "one, two") in [tuple(pair) for pair in call.initial_metadata()]
    assert (b"\x00\x01,\xff") == dict(call.trailing_metadata())["echo-trailing-b-bin"]
    assert 0 < reply.time_remaining <= 20
    assert (grpc.StatusCode.FAILED_PRECONDITION, "ünd") == (failed.code(), failed.details())
    assert "grpc-status-details-bin" in dict(failed.trailing_metadata())
    bridge.wait_for_line("the program listens")


def test_a_deadline_through_all_of_it(channel: grpc.Channel) -> None:
    """In time, whatever the program does."""
    stub: Any = echo_pb2_grpc.EchoStub(channel)
    stub.Unary(echo_pb2.EchoRequest(text="warm"), timeout=20)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Sleep(echo_pb2.SleepRequest(seconds=5), timeout=0.5)

    failed: Any = caught.value
    assert grpc.StatusCode.DEADLINE_EXCEEDED == failed.code()


@pytest.mark.clients
@pytest.mark.skipif(_go_greeter() is None, reason="grpc-go's greeter_server is built by .ci/tools")
def test_a_stock_go_server(tmp_path: Path) -> None:
    """grpc-go's own example, unchanged, on a port of its instance."""
    routed = {
        "services": {"helloworld.Greeter": "local:go"},
        "functions": {
            "go": {
                "handler": "go_app.handler",
                "code": str(tmp_path),
                "timeout": "20s",
                "env": {"GREETER": _go_greeter()},
            }
        },
    }
    (tmp_path / "go_app.py").write_text(GO)
    with running_bridge(tmp_path, routed) as own, grpc.insecure_channel(own.address) as channel:
        stub: Any = helloworld_pb2_grpc.GreeterStub(channel)
        reply = stub.SayHello(helloworld_pb2.HelloRequest(name="gopher"), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.SayHelloStreamReply(helloworld_pb2.HelloRequest(), timeout=20))

    failed: Any = caught.value
    assert "Hello gopher" == reply.message
    assert grpc.StatusCode.UNIMPLEMENTED == failed.code()
