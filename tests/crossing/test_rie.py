"""`quirks: rie` against AWS's own emulator: functions of three kinds behind it, called by grpcio."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2 as pb
from tests.crossing.matrix.crossings import SCENARIOS, Crossing, outcome_of
from tests.crossing.matrix.playing import play
from tests.crossing.test_matrix import write_descriptors
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.clients import ROOT, tool
from tests.support.rie import runtime_interface_emulator

pytestmark = [pytest.mark.slow, pytest.mark.clients]

CROSSINGS = (
    Crossing("GrpcWebHttpV2Invoke", "grpc-web", "http-v2", "invoke", "servicer"),
    Crossing("JsonRawInvoke", "json", "raw", "invoke", "plain"),
    Crossing("RustInvoke", "grpc-web", "http-v2", "invoke", "rust"),
)
PLAYED = [
    scenario
    for scenario in SCENARIOS
    if not scenario.cancelled
    and scenario.timeout > 1
    and scenario.id.endswith(("-ok", "metadata", "-error", "details", "two", "compressed"))
]
"""Those that reach the function and come back: it is alone, and whoever leaves it busy disturbs the next."""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder = tmp_path_factory.mktemp("rie")
    write_descriptors(folder / "protos")
    python = [sys.executable, "-m", "lambda_fn.runtime"]
    commands = {
        "servicer": [*python, "tests.crossing.matrix.servicer.usual"],
        "plain": [*python, "tests.crossing.matrix.plain.handler"],
        "rust": [tool("lambda-grpc-web-function")],
    }
    services: dict[str, Any] = {}
    with ExitStack() as stack:
        for crossing in CROSSINGS:
            url = stack.enter_context(runtime_interface_emulator(commands[crossing.function], folder=ROOT, timeout=2))
            services[crossing.service] = {
                "target": f"function:{crossing.function}",
                "quirks": "rie",
                "endpoint_url": url,
                "payload": crossing.payload,
                "event": crossing.event,
            } | ({"descriptors": "protos"} if crossing.payload == "json" else {})
        yield stack.enter_context(running_bridge(folder, {"services": services}))


@pytest.fixture(scope="module")
def channel(bridge: RunningBridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bridge.address) as opened:
        yield opened


@pytest.mark.parametrize("scenario", PLAYED, ids=lambda scenario: scenario.id)
@pytest.mark.parametrize("crossing", CROSSINGS, ids=lambda crossing: crossing.function)
def test_a_call_comes_back_as_from_lambda(channel: grpc.Channel, crossing: Crossing, scenario: Any) -> None:
    """The matrix's own outcome: streams of functions come whole, errors raised in them with HTTP 200."""
    had = play(scenario, crossing.service, channel, comes_one_by_one=False, wait_until_under_way=lambda: None)

    assert outcome_of(crossing, scenario) == had


def test_a_function_that_runs_out_of_time(channel: grpc.Channel) -> None:
    """The emulator says so with HTTP 200 and a text; the next call is answered."""
    failure = failed(channel, "JsonRawInvoke/Sleep", pb.SleepRequest(seconds=10))

    assert failure == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "plain ran out of its own time after 2 s: raise the function's timeout",
    )
    assert "on" == answered(channel, "JsonRawInvoke", "on")


@pytest.mark.parametrize("name", ["GrpcWebHttpV2Invoke", "RustInvoke"])
def test_a_function_that_crashes(channel: grpc.Channel, name: str) -> None:
    """The emulator says so with HTTP 502; the next call is answered."""
    code, told = failed(channel, f"{name}/Exit", pb.ExitRequest(code=3))

    assert grpc.StatusCode.INTERNAL is code
    assert told.endswith("failed: Runtime.ExitError: Runtime exited with error: exit status 3")
    assert "on" == answered(channel, name, "on")


def failed(channel: grpc.Channel, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        unary_unary(channel, f"/matrix.{method}")(request.SerializeToString(), timeout=20)
    return caught.value.code(), str(caught.value.details())


def answered(channel: grpc.Channel, name: str, text: str) -> str:
    call: Any = channel.unary_unary(f"/matrix.{name}/Unary", response_deserializer=pb.EchoReply.FromString)
    reply: pb.EchoReply = call(pb.EchoRequest(text=text).SerializeToString(), timeout=20)
    return str(reply.text)
