"""Health and reflection with the stubs that clients use, and descriptors from files, for which no function is woken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from lambda_fn.examples import echo_pb2, helloworld_pb2
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary

pytestmark = pytest.mark.slow

Serving = health_pb2.HealthCheckResponse


@pytest.fixture
def health(channel: grpc.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(channel)


# -- health ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", "helloworld.Greeter", "grpc.health.v1.Health"])
def test_check(health: health_pb2_grpc.HealthStub, service: str) -> None:
    """The bridge itself, a service with a route, and a built-in one."""
    reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)

    assert Serving.SERVING == reply.status


def test_check_of_a_service_without_a_route(health: health_pb2_grpc.HealthStub) -> None:
    """NOT_FOUND, as the protocol says."""
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="no.Such"), timeout=5)

    assert grpc.StatusCode.NOT_FOUND is caught.value.code()


def test_list(health: health_pb2_grpc.HealthStub) -> None:
    """All that is served, by name."""
    statuses = health.List(health_pb2.HealthListRequest(), timeout=5).statuses

    assert {"dev.Echo", "helloworld.Greeter"} <= set(statuses)
    assert {Serving.SERVING} == {each.status for each in statuses.values()}


def test_watch_sees_the_drain(tmp_path: Path) -> None:
    """SERVING at once, SERVICE_UNKNOWN for a stranger, NOT_SERVING when the bridge is told to end."""
    config = {
        "services": {"a.B": "function:b"},
        "aws": {"region": "eu-west-1"},
        "drain_delay": "30s",
    }
    with (
        running_bridge(tmp_path, config) as bridge,
        grpc.insecure_channel(bridge.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="a.B"), timeout=20)
        stranger = stub.Watch(health_pb2.HealthCheckRequest(service="no.Such"), timeout=20)
        first, unknown = next(watched).status, next(stranger).status
        bridge.process.terminate()
        after = next(watched).status
        bridge.stop()

    assert (Serving.SERVING, Serving.SERVICE_UNKNOWN) == (first, unknown)
    assert Serving.NOT_SERVING == after


# -- reflection --------------------------------------------------------------------------------------------------------


def test_reflection_asks_the_function(channel: grpc.Channel) -> None:
    """grpcio's own descriptor database finds services, messages and what they import."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)

    assert {"dev.Echo", "helloworld.Greeter", "grpc.health.v1.Health"} <= set(database.get_services())
    found = pool.FindServiceByName("dev.Echo")
    own = echo_pb2.DESCRIPTOR.services_by_name["Echo"]
    assert [method.name for method in own.methods] == [method.name for method in found.methods]
    assert "text" in pool.FindMessageTypeByName("dev.EchoRequest").fields_by_name


def test_reflection_of_what_is_not_there(channel: grpc.Channel) -> None:
    """Not found, and the stream goes on."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    with pytest.raises(KeyError):
        pool.FindServiceByName("no.Such")

    assert "helloworld.Greeter" == pool.FindServiceByName("helloworld.Greeter").full_name


# -- descriptors -------------------------------------------------------------------------------------------------------

SLEEPING = "def handler(event, context):\n    print('woken')\n    return None\n"


@pytest.fixture(params=["a file", "a folder"])
def described(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBridge]:
    """One function, described by a FileDescriptorSet or by the folder of its .proto files."""
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    if request.param == "a file":
        file = descriptor_pb2.FileDescriptorProto()
        helloworld_pb2.DESCRIPTOR.CopyToProto(file)
        whole = descriptor_pb2.FileDescriptorSet(file=[file])
        (tmp_path / "hello.binpb").write_bytes(whole.SerializeToString())
        name = "hello.binpb"
    else:
        examples = Path(helloworld_pb2.__file__).parent
        (tmp_path / "protos").mkdir()
        (tmp_path / "protos" / "helloworld.proto").write_text((examples / "helloworld.proto").read_text())
        name = "protos"
    config: dict[str, Any] = {
        "services": {"helloworld.Greeter": {"target": "local:sleeping", "descriptors": name}},
        "functions": {"sleeping": {"handler": "sleeping.handler"}},
    }
    with running_bridge(tmp_path, config) as bridge:
        yield bridge


def test_descriptors_answer_reflection_and_name_the_kind(described: RunningBridge) -> None:
    """No function is woken to describe itself, and metrics know a unary method from a stream."""
    with grpc.insecure_channel(described.address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        methods = [method.name for method in pool.FindServiceByName("helloworld.Greeter").methods]
        assert not any("woken" in line for line in described.lines)
        unary_unary(channel, "/helloworld.Greeter/SayHello").future(b"", timeout=10).exception()

    assert "SayHello" in methods
    assert 'grpc_type="unary"' in described.get("/metrics")
