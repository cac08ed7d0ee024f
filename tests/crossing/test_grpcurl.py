"""grpcurl, unmodified, through the bridge to a function in the local Lambda."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.bridge_process import RunningBridge
from tests.support.clients import run, tool

pytestmark = [pytest.mark.clients, pytest.mark.slow]


def grpcurl(bridge: RunningBridge, *arguments: str) -> Any:
    *options, last = arguments
    return run([tool("grpcurl"), "-plaintext", *options, bridge.address, *last.split()])


def test_list_names_the_routes_and_the_built_in_services(bridge: RunningBridge) -> None:
    """`list` answers from routes, without waking a function."""
    listed = grpcurl(bridge, "list")

    assert [
        "dev.Echo",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "helloworld.Greeter",
    ] == listed.stdout.split()


def test_describe_shows_the_functions_own_service(bridge: RunningBridge) -> None:
    """`describe` gets the descriptors from the function."""
    described = grpcurl(bridge, "describe helloworld.Greeter")

    assert "rpc SayHello ( .helloworld.HelloRequest ) returns ( .helloworld.HelloReply );" in described.stdout


def test_a_call_is_answered(bridge: RunningBridge) -> None:
    """The README's first call."""
    called = grpcurl(bridge, "-d", '{"name": "world"}', "helloworld.Greeter/SayHello")

    assert {"message": "Hello, world!"} == json.loads(called.stdout)


def test_an_error_brings_code_message_and_details(bridge: RunningBridge) -> None:
    """A rich status of the function reaches grpcurl whole."""
    asked = json.dumps({"code": 9, "message": "näh: 100%", "details": ["one"]})
    called = grpcurl(bridge, "-format-error", "-d", asked, "dev.Echo/Fail")

    assert 64 + 9 == called.returncode
    assert {
        "code": 9,
        "message": "näh: 100%",
        "details": [{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "one"}],
    } == json.loads(called.stderr)


def test_a_deadline_ends_the_call(bridge: RunningBridge) -> None:
    """The call ends DEADLINE_EXCEEDED long before the function would have answered."""
    called = grpcurl(bridge, "-max-time", "0.5", "-d", '{"seconds": 5}', "dev.Echo/Sleep")

    assert 64 + 4 == called.returncode


def test_metadata_crosses_both_ways(bridge: RunningBridge) -> None:
    """ASCII and -bin metadata, repeated names in order, come back as headers and trailers."""
    binary = base64.b64encode(b"\x00\xff\x01").decode()
    called = grpcurl(
        bridge,
        "-v",
        "-H",
        "echo-initial-a: one",
        "-H",
        "echo-initial-a: two, three",
        "-H",
        f"echo-trailing-b-bin: {binary}",
        "-d",
        '{"text": "x"}',
        "dev.Echo/Unary",
    )

    headers, trailers = called.stdout.split("Response trailers received:")
    assert "echo-initial-a: one\necho-initial-a: two, three" in headers
    assert f"echo-trailing-b-bin: {binary.rstrip('=')}" in trailers


@pytest.mark.parametrize(
    ("method", "requests", "texts"),
    [
        ("ServerStream", '{"text": "x", "count": 3}', ["x", "x", "x"]),
        ("ClientStream", '{"text": "a"}{"text": "b"}', ["a b"]),
        ("BidiStream", '{"text": "a"}{"text": "b"}', ["a", "b"]),
    ],
)
def test_streams_cross(bridge: RunningBridge, method: str, requests: str, texts: list[str]) -> None:
    """All kinds of method, the request side gathered."""
    called = grpcurl(bridge, "-d", requests, f"dev.Echo/{method}")

    replies = [json.loads(part) for part in called.stdout.replace("}\n{", "}\0{").split("\0")]
    assert texts == [reply["text"] for reply in replies]


def test_describing_an_unknown_service_says_so(bridge: RunningBridge) -> None:
    """No route, no descriptors: grpcurl's message names the service."""
    described = grpcurl(bridge, "describe no.Such")

    assert 0 != described.returncode
    assert "no.Such" in described.stderr
