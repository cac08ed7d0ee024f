"""The example services, called by grpcio's client through Lambda's events."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from lambda_fn.examples import echo, echo_pb2, greeter, helloworld_pb2
from lambda_fn.testing.pytest import LambdaChannel
from tests.support.lambda_channel import Outcome, outcome_through

ROOT = Path(__file__).parents[2]
OK = grpc.StatusCode.OK

pb: Any = echo_pb2


@pytest.fixture
def channel(lambda_channel: LambdaChannel) -> Iterator[grpc.Channel]:
    yield lambda_channel(echo.server)
    echo.server.close()


def call(channel: grpc.Channel, method: str, *requests: Any, **arguments: Any) -> Outcome:
    messages = [request.SerializeToString() for request in requests]
    return outcome_through(channel, f"/dev.Echo/{method}", messages, **arguments)


@pytest.mark.parametrize(
    ("method", "names", "greetings"),
    [
        ("SayHello", ["a"], ["Hello, a!"]),
        ("SayHelloStreamReply", ["a"], [f"Hello number {number}, a!" for number in range(10)]),
        ("SayHelloToAll", ["a", "b"], ["Hello, a, b!"]),
        ("SayHelloBidiStream", ["a", "b"], ["Hello, a!", "Hello, b!"]),
    ],
)
def test_the_greeter_greets(lambda_channel: LambdaChannel, method: str, names: list[str], greetings: list[str]) -> None:
    """All four kinds of method."""
    request: Any = helloworld_pb2.HelloRequest
    reply: Any = helloworld_pb2.HelloReply
    messages = [request(name=name).SerializeToString() for name in names]
    outcome = outcome_through(lambda_channel(greeter.server), f"/helloworld.Greeter/{method}", messages)
    greeter.server.close()

    assert greetings == [reply.FromString(message).message for message in outcome.messages]


def test_unary_shows_the_call_and_returns_metadata(channel: grpc.Channel) -> None:
    """What came, and what is asked back as initial and trailing metadata."""
    metadata: Any = (
        ("x-plain", "p"),
        ("echo-initial-one", "1"),
        ("echo-trailing-two-bin", b"\x00\xff"),
        ("x-grpc-test-echo-initial", "3"),
        ("x-grpc-test-echo-trailing-bin", b"\x04"),
    )
    outcome = call(channel, "Unary", pb.EchoRequest(text="hi"), metadata=metadata, timeout=5)
    reply = pb.EchoReply.FromString(outcome.messages[0])

    assert (("echo-initial-one", "1"), ("x-grpc-test-echo-initial", "3")) == outcome.initial
    assert (
        ("echo-trailing-two-bin", b"\x00\xff"),
        ("x-grpc-test-echo-trailing-bin", b"\x04"),
    ) == outcome.trailing
    assert ("hi", "ipv4:127.0.0.1:0") == (reply.text, reply.peer)
    assert reply.request_id
    assert 4 < reply.time_remaining <= 6  # grpcio rounds deadlines up on the wire
    seen = [(each.name, each.binary if each.name.endswith("-bin") else each.text) for each in reply.metadata]
    assert list(metadata) == [pair for pair in seen if pair[0] in dict(metadata)]


def test_streams_carry_their_texts(channel: grpc.Channel) -> None:
    """Down, up, and both ways."""
    down = call(channel, "ServerStream", pb.EchoRequest(text="d", count=2))
    up = call(channel, "ClientStream", pb.EchoRequest(text="a"), pb.EchoRequest(text="b"))
    both = call(channel, "BidiStream", pb.EchoRequest(text="a"), pb.EchoRequest(text="b"))
    texts = [[pb.EchoReply.FromString(message).text for message in outcome.messages] for outcome in (down, up, both)]

    assert [["d", "d"], ["a b"], ["a", "b"]] == texts


def test_a_stream_fails_where_asked(channel: grpc.Channel) -> None:
    """After two of five."""
    outcome = call(channel, "ServerStream", pb.EchoRequest(count=5, fail_after=2))

    assert (grpc.StatusCode.ABORTED, 2) == (outcome.code, len(outcome.messages))


def test_fail_has_rich_details(channel: grpc.Channel) -> None:
    """A google.rpc.Status that Google's own classes read."""
    outcome = call(channel, "Fail", pb.FailRequest(code=9, message="né", details=["one", "two" * 100]))
    (name, value) = outcome.trailing[0]
    status = status_pb2.Status.FromString(value)

    assert (grpc.StatusCode.FAILED_PRECONDITION, "né") == (outcome.code, outcome.details)
    assert "grpc-status-details-bin" == name
    assert (9, "né", 2) == (status.code, status.message, len(status.details))


def test_raise_is_unknown_with_the_text(channel: grpc.Channel) -> None:
    """As grpcio maps an exception."""
    assert Outcome(grpc.StatusCode.UNKNOWN, "Exception calling application: oh no") == call(
        channel, "Raise", pb.RaiseRequest(message="oh no")
    )


@pytest.mark.parametrize("method", ["Sleep", "SleepAsync"])
def test_sleep_tells_the_time_that_was_left(channel: grpc.Channel, method: str) -> None:
    """And misses its deadline if it must."""
    slept = call(channel, method, pb.SleepRequest(seconds=0.01), timeout=5)
    missed = call(channel, method, pb.SleepRequest(seconds=0.3), timeout=0.05)
    reply = pb.SleepReply.FromString(slept.messages[0])

    assert 4 < reply.remaining_after < reply.remaining_before <= 6
    assert grpc.StatusCode.DEADLINE_EXCEEDED is missed.code


def test_big_is_as_big_as_asked(channel: grpc.Channel) -> None:
    """Up to what Lambda takes."""
    fits = call(channel, "Big", pb.BigRequest(size=4_000_000))
    exceeds = call(channel, "Big", pb.BigRequest(size=5_000_000))

    assert 4_000_000 == len(pb.BigReply.FromString(fits.messages[0]).data)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is exceeds.code


def test_exit_ends_the_process() -> None:
    """With the code asked for."""
    program = (
        "from lambda_fn.examples import echo, echo_pb2\n"
        "from lambda_fn.examples import echo_pb2_grpc\n"
        "from lambda_fn.testing import channel\n"
        "with channel(echo.server) as ch:\n"
        "    echo_pb2_grpc.EchoStub(ch).Exit(echo_pb2.ExitRequest(code=9))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60)

    assert 9 == process.returncode


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """What the committed .proto files give with the installed grpcio-tools."""
    protos = ["lambda_fn/examples/helloworld.proto", "lambda_fn/examples/echo.proto"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, *protos],
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    made = {path.name: path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {name: (ROOT / "lambda_fn/examples" / name).read_text() for name in made}

    assert 6 == len(made)
    assert committed == made
