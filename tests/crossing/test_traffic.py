"""Where calls go: a service moved between Lambda and a real gRPC server, traffic split between both, roles, health."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lambda_fn.examples import helloworld_pb2 as pb
from lambda_fn.examples import helloworld_pb2_grpc
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.lambda_api import answer, lambda_api
from tests.support.sts import fake_sts

pytestmark = pytest.mark.slow

SERVICE = "helloworld.Greeter"

FUNCTION = """
import os
from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):  # type: ignore[misc]  # generated code has no types
    def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=os.environ["VERSION"])

server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler
"""


class Greeter(helloworld_pb2_grpc.GreeterServicer):  # type: ignore[misc]  # generated code has no types
    def SayHello(self, request: Any, context: Any) -> Any:
        return pb.HelloReply(message="a server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a grpcio server, sync, with reflection."""
    with futures.ThreadPoolExecutor(4) as threads:
        running = grpc.server(threads)
        helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), running)
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), running)
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        yield f"grpc://127.0.0.1:{port}"
        running.stop(None).wait()


def functions(folder: Path) -> dict[str, Any]:
    (folder / "greet.py").write_text(FUNCTION)
    return {
        name: {
            "handler": "greet.handler",
            "code": str(folder),
            "timeout": "10s",
            "env": {"VERSION": name},
        }
        for name in ("v1", "v2")
    }


def greetings(bridge: RunningBridge, count: int) -> Counter[str]:
    with grpc.insecure_channel(bridge.address) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        return Counter(stub.SayHello(pb.HelloRequest(name="x"), timeout=20).message for _ in range(count))


def test_one_line_moves_a_service(tmp_path: Path, server: str) -> None:
    """From a function to a server and back to both by weight, on one client channel."""
    config = {"services": {SERVICE: "local:v1"}, "functions": functions(tmp_path)}
    with (
        running_bridge(tmp_path, config) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        stub = helloworld_pb2_grpc.GreeterStub(channel)

        def greeting() -> str:
            text: str = stub.SayHello(pb.HelloRequest(name="x"), timeout=20).message
            return text

        def move_to(entry: object) -> None:
            file = tmp_path / "bridge.yaml"
            whole = yaml.safe_load(file.read_text())
            whole["services"][SERVICE] = entry
            file.write_text(yaml.safe_dump(whole))
            bridge.process.send_signal(signal.SIGHUP)

        assert "v1" == greeting()
        move_to(server)
        bridge.wait_until(lambda: greeting() == "a server")
        move_to({"split": {"local:v1": 1, server: 1}})
        bridge.wait_until(lambda: len({greeting() for _ in range(20)}) == 2)

        assert {"v1", "a server"} == {greeting() for _ in range(60)}


def test_weights_divide_the_calls(tmp_path: Path) -> None:
    """90 to 10, with a margin that chance leaves about once in a million runs."""
    split = {"local:v1": 90, "local:v2": 10}
    config = {"services": {SERVICE: {"split": split}}, "functions": functions(tmp_path)}
    with running_bridge(tmp_path, config) as bridge:
        found = greetings(bridge, 400)

    assert 400 == found.total()
    assert 12 <= found["v2"] <= 75


def test_reflection_asks_the_server(tmp_path: Path, server: str) -> None:
    """A native target describes its services over its own full-duplex reflection."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    with (
        running_bridge(tmp_path, {"services": {SERVICE: server}}) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        database = ProtoReflectionDescriptorDatabase(channel)
        found = database.FindFileContainingSymbol(SERVICE)

    assert "helloworld" == found.package


def test_health_follows_the_connection(tmp_path: Path, server: str) -> None:
    """health.functions: a native target is SERVING while a connection to it stands."""
    config = {
        "services": {SERVICE: server, "gone.Service": "grpc://127.0.0.1:1"},
        "health": {"functions": True},
    }
    with (
        running_bridge(tmp_path, config) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)

        def status(service: str) -> int:
            request = health_pb2.HealthCheckRequest(service=service)
            found: int = stub.Check(request, timeout=10).status
            return found

        bridge.wait_until(lambda: status("gone.Service") == health_pb2.HealthCheckResponse.NOT_SERVING)

        assert health_pb2.HealthCheckResponse.SERVING == status(SERVICE)


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    """After the attempts that rule out that anything ran."""
    with (
        running_bridge(tmp_path, {"services": {SERVICE: "grpc://127.0.0.1:1"}}) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.SayHello(pb.HelloRequest(name="x"), timeout=20)
        (entry,) = bridge.wait_for_log("/helloworld.Greeter/SayHello")

    assert grpc.StatusCode.UNAVAILABLE is raised.value.code()
    assert "cannot connect to 127.0.0.1:1 (ECONNREFUSED)" == raised.value.details()
    assert 3 == entry["attempts"]


def test_roles(tmp_path: Path) -> None:
    """Each distinct role is assumed once, whoever calls under it; an entry's own comes before aws.role_arn."""
    role = "arn:aws:iam::123456789012:role/"
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:"
    reply = b'{"statusCode":200,"headers":{"grpc-status":"0"},"body":""}'
    names = ("one", "two", "three")
    answers = {f"{arn}{name}".replace(":", "%3A"): answer(200, reply) for name in names}
    with fake_sts() as sts, lambda_api(answers) as api:
        config = {
            "aws": {"role_arn": f"{role}usual", "endpoint_url": f"http://127.0.0.1:{api.port}"},
            "services": {
                "a.One": f"{arn}one",
                "a.Two": f"{arn}two",
                "a.Three": {
                    "target": f"{arn}three",
                    "role_arn": {"arn": f"{role}other", "external_id": "partner"},
                },
            },
        }
        environ = {
            "AWS_ACCESS_KEY_ID": "AKIAOWN",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL_STS": sts.url,
        }
        with (
            running_bridge(tmp_path, config, environ=environ) as bridge,
            grpc.insecure_channel(bridge.address) as channel,
        ):
            bridge.wait_until(lambda: bridge.get_whole("/readyz")[0] == 200)
            for name in ("One", "Two", "Three"):
                unary_unary(channel, f"/a.{name}/Call")(b"", timeout=20)

    assert 3 == api.requests.total()
    assert sorted([f"{role}usual", f"{role}other"]) == sorted(asked["RoleArn"] for asked in sts.asked)


def test_awss_local_emulator(tmp_path: Path) -> None:
    """`quirks: rie`: one function at its own path, no credentials needed, and a time-out that comes as HTTP 200."""
    late = b"Task timed out after 3.00 seconds"
    with lambda_api({"function": answer(200, late)}) as api:
        entry = {
            "target": "function:orders:live",
            "quirks": "rie",
            "endpoint_url": f"http://127.0.0.1:{api.port}",
        }
        with (
            running_bridge(tmp_path, {"services": {SERVICE: entry}}) as bridge,
            grpc.insecure_channel(bridge.address) as channel,
        ):
            stub = helloworld_pb2_grpc.GreeterStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                stub.SayHello(pb.HelloRequest(name="x"), timeout=20)
            ready, _ = bridge.get_whole("/readyz")

    assert grpc.StatusCode.DEADLINE_EXCEEDED is raised.value.code()
    assert "orders:live ran out of its own time after 3 s" in str(raised.value.details())
    assert 200 == ready
