"""`serve`: the same service as a plain grpcio server, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc, helloworld_pb2, helloworld_pb2_grpc

ROOT = Path(__file__).parents[2]

PROGRAM = """
from lambda_fn.examples import {module}
{module}.server.serve("127.0.0.1:0", grace=5)
print("stopped")
"""


@contextmanager
def served(program: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The program's server: its address and process."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "serving gRPC" in line)
        port = line.rpartition("port ")[2].rstrip(")\n")
        yield f"127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


def test_a_sync_service_is_served_and_stops_on_sigterm() -> None:
    """The call in flight finishes; then the program goes on after `serve`."""
    with served(PROGRAM.format(module="greeter")) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub: Any = helloworld_pb2_grpc.GreeterStub(channel)
            replies = stub.SayHelloStreamReply(helloworld_pb2.HelloRequest(name="you"))
            first = next(replies)
            process.send_signal(signal.SIGTERM)
            rest = list(replies)
        stdout, _ = process.communicate(timeout=20)

    assert "Hello number 0, you!" == first.message
    assert 9 == len(rest)
    assert (0, "stopped\n") == (process.returncode, stdout)


def test_a_service_with_async_methods_is_served_by_aio() -> None:
    """Sync methods of the same service too, and reflection."""
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with served(PROGRAM.format(module="echo")) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub: Any = echo_pb2_grpc.EchoStub(channel)
            requests = [echo_pb2.EchoRequest(text=text) for text in ("a", "b")]
            each = [reply.text for reply in stub.BidiStream(iter(requests))]
            one = stub.Unary(requests[0]).text
            streamed = [reply.text for reply in stub.ServerStream(echo_pb2.EchoRequest(text="s", count=2))]
            texts = (echo_pb2.EchoRequest(text=text) for text in ("j", "k"))
            gathered = stub.ClientStream(texts).text
            with pytest.raises(grpc.RpcError) as caught:
                stub.Fail(echo_pb2.FailRequest(code=5, message="not here"))
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            ask: Any = reflection_pb2.ServerReflectionRequest
            (answer,) = reflection.ServerReflectionInfo(iter([ask(list_services="*")]))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

    failed: Any = caught.value
    assert (["a", "b"], "a") == (each, one)
    assert (grpc.StatusCode.NOT_FOUND, "not here") == (failed.code(), failed.details())
    assert "grpc-status-details-bin" in dict(failed.trailing_metadata())
    assert ["s", "s"] == streamed
    assert "j k" == gathered
    assert ["dev.Echo"] == [each.name for each in answer.list_services_response.service]
    assert 0 == process.returncode


def test_a_method_may_ask_for_its_peer_when_its_call_is_over() -> None:
    """A deadline ends the call, and not the thread that runs the method: whatever that asks then must not end the
    process.
    """
    with served(LATE) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub: Any = echo_pb2_grpc.EchoStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.ServerStream(echo_pb2.EchoRequest(text="s"), timeout=0.3))
            late = stub.Unary(echo_pb2.EchoRequest(text="u"), timeout=20).text
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

    failed: Any = caught.value
    assert grpc.StatusCode.DEADLINE_EXCEEDED is failed.code()
    peer, secured, *others = late.split("|")
    assert peer.startswith(("ipv4:127.0.0.1:", "ipv6:"))
    assert "transport_security_type" in secured
    assert ["None", "None", "False"] == others
    assert 0 == process.returncode


LATE = """
import asyncio, threading, time
from lambda_fn import LambdaServer
from lambda_fn.examples import echo_pb2, echo_pb2_grpc

ended = threading.Event()
found = []

class Servicer(echo_pb2_grpc.EchoServicer):
    def ServerStream(self, request, context):
        yield echo_pb2.EchoReply(text="first")
        while context.is_active():
            time.sleep(0.05)
        time.sleep(0.3)
        found.extend([context.peer(), context.auth_context(), context.peer_identities()])
        found.extend([context.peer_identity_key(), context.is_active()])
        ended.set()

    async def Unary(self, request, context):
        await asyncio.to_thread(ended.wait, 15)
        return echo_pb2.EchoReply(text="|".join(map(str, found)))

server = LambdaServer()
echo_pb2_grpc.add_EchoServicer_to_server(Servicer(), server)
server.serve("127.0.0.1:0")
"""


MIXED = """
from lambda_fn import LambdaServer
from tests.function.test_interceptors import AsyncMark, SyncMark
from tests.support.behaviours import SYNC, add
notes = []
marks = [SyncMark("0", notes), AsyncMark("1", notes), SyncMark("2", notes)]
server = LambdaServer(interceptors=marks)
add(server, {"Echo": SYNC["Echo"]})
server.serve("127.0.0.1:0")
print(*notes, sep=",")
"""


def test_mixed_interceptors_work_there_too() -> None:
    """grpc.aio itself takes no sync ones."""
    with served(MIXED) as (address, process):
        with grpc.insecure_channel(address) as channel:
            call: Any = channel.unary_unary("/test.Test/Echo")
            reply = call(b"hi", timeout=10)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=20)

    assert b"echo hi" == reply
    assert "0 in,1 in,2 in,2 out True,1 out True,0 out True\n" == stdout


def test_a_port_in_use_is_an_error() -> None:
    """Before anything is served."""
    from lambda_fn import LambdaServer

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = LambdaServer(options=[("grpc.so_reuseport", 0)])
        with pytest.raises(RuntimeError, match="Failed to bind"):
            server.serve(f"127.0.0.1:{taken.getsockname()[1]}")
        server.close()
