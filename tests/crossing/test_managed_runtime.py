"""docker/runtime: plain zips run behind lambda_fn.runtime, in the places where Lambda puts a runtime and a zip."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lambda_fn.examples.helloworld_pb2 import HelloRequest
from lambda_fn.examples.helloworld_pb2_grpc import GreeterStub
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.rie import as_a_runtime, runtime_in_the_emulator

pytestmark = [pytest.mark.slow]

APP = """
import os, sys, time
from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

    def SayHelloStreamReply(self, request, context):
        for number in range(2):
            yield helloworld_pb2.HelloReply(message=str(number))
            time.sleep(1.5)

server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler

def where(event, context):
    import shared
    told = {"python": sys.executable, "folder": os.getcwd(), "shared": shared.__file__}
    return {**told, "traced": os.environ.get("TRACED")}
"""
"""All that the zip holds, besides a module that has the name of another one."""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zip")
    (folder / "app.py").write_text(APP)
    (folder / "shared.py").touch()
    (folder / "tracer").write_text('#!/bin/sh\nexport TRACED=yes\nexec "$@"\n')
    (folder / "tracer").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory, task: Path) -> Iterator[RunningBridge]:
    start = "export _HANDLER=app.handler LAMBDA_TASK_ROOT=/var/task; exec /var/runtime/bootstrap"
    command = as_a_runtime("sh", "-c", start)
    config = {
        "functions": {"greeter": {"command": command, "code": str(task), "timeout": "20s", "memory": "512MiB"}},
        "services": {"helloworld.Greeter": {"target": "local:greeter", "invoke_mode": "response_stream"}},
    }
    with running_bridge(tmp_path_factory.mktemp("bridge"), config) as running:
        yield running


@pytest.fixture
def stub(bridge: RunningBridge) -> Iterator[GreeterStub]:
    with grpc.insecure_channel(bridge.address) as channel:
        yield GreeterStub(channel)


def test_a_plain_zip_is_called(stub: GreeterStub) -> None:
    assert "Hello, zip!" == stub.SayHello(HelloRequest(name="zip"), timeout=30).message


def test_a_plain_zip_streams(stub: GreeterStub) -> None:
    """The first message is here long before the second: AWS's own Python runtime sends both at the end."""
    call = stub.SayHelloStreamReply(HelloRequest(), timeout=30)
    arrived = [(reply.message, time.monotonic()) for reply in call]

    assert ["0", "1"] == [message for message, _ in arrived]
    assert arrived[1][1] - arrived[0][1] > 1


@pytest.mark.clients
@pytest.mark.parametrize(
    ("wrapper", "traced"), [("", None), ("/var/task/tracer", "yes"), ("/var/task/lambda_fn_wrapper", None)]
)
def test_aws_own_emulator_starts_the_runtime(task: Path, wrapper: str, traced: str | None) -> None:
    """The code is where Lambda puts it, and comes before what the runtime brings. A wrapper of the function is asked to
    start the runtime, unless it would only put lambda_fn.runtime in its place.
    """
    environment = {"AWS_LAMBDA_EXEC_WRAPPER": wrapper}
    with runtime_in_the_emulator(task, "app.where", timeout=10, environment=environment) as url:
        request = urllib.request.Request(url, data=b"{}")
        with urllib.request.urlopen(request, timeout=30) as response:
            told = json.load(response)

    expected = {"python": "/var/lang/bin/python", "folder": "/var/task", "shared": "/var/task/shared.py"}
    assert expected | {"traced": traced} == told
