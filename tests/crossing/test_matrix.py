"""The matrix: every crossing of payload, event, carrier and function, with every kind of call and outcome. See
matrix/crossings.py.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from lambda_fn.examples.echo import Echo
from tests.crossing.matrix.crossings import (
    CROSSINGS,
    MAX_BUFFERED,
    MAX_MESSAGE,
    REFUSED,
    SCENARIOS,
    Crossing,
    Scenario,
    outcome_of,
)
from tests.crossing.matrix.playing import play
from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.clients import ROOT, installed, tool
from tests.support.configured import problems
from tests.support.envoy import grpc_web_envoy
from tests.support.programs import free_port, wait_until_listening

pytestmark = [pytest.mark.slow, pytest.mark.clients]

FOLDER = Path(__file__).parent / "matrix"

GO, RUST = "aws-lambda-go-function", "lambda-grpc-web-function"

PROGRAMS: Mapping[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "node": (
        "node",
        (str(FOLDER.parent / "orders" / "bootstrap.js"), str(FOLDER / "plain.js")),
        {},
    ),
    "rust": (RUST, (), {}),
    "rust-envoy": (RUST, (), {"SERVE": "envoy"}),
    "go-url": (GO, (), {"EVENT": "url"}),
    "go-http-v2": (GO, (), {"EVENT": "http-v2"}),
    "go-http-v1": (GO, (), {"EVENT": "http-v1"}),
    "go-alb": (GO, (), {"EVENT": "alb"}),
}
"""Functions of other languages: a program, its arguments, its environment."""

NEEDS = {name: program for name, (program, _, _) in PROGRAMS.items()} | {"envoy": "envoy", "connect": GO}
"""What must be installed for a function to answer; the rest is Python."""

URLS = {
    "whole": "buffered",
    "streamed": "response_stream",
    "joined": "buffered",
    "rust": "response_stream",
    "go-url": "response_stream",
}
"""Functions that have one, with its invoke mode."""


# -- the servers -------------------------------------------------------------------------------------------------------


class AnyName(grpc.GenericRpcHandler):
    """dev.Echo under every name, on a grpcio server."""

    def __init__(self) -> None:
        self._handlers: Any = {}
        echo_pb2_grpc.add_EchoServicer_to_server(SyncEcho(), self)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method.rpartition("/")[2])


class SyncEcho(Echo):  # type: ignore[misc]  # generated code has no types
    def BidiStream(self, request_iterator: Any, context: Any) -> Any:
        for index, request in enumerate(request_iterator):
            yield echo_pb2.EchoReply(text=request.text, index=index)

    def SleepAsync(self, request: Any, context: Any) -> Any:
        return self.Sleep(request, context)


@contextmanager
def grpcio_server() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((AnyName(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def connect_server() -> Iterator[str]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen([tool(GO), address], env={"EVENT": "none"})
    try:
        wait_until_listening(port, process)
        yield address
    finally:
        process.terminate()
        process.wait(10)


# -- the bridge --------------------------------------------------------------------------------------------------------


def functions() -> dict[str, Any]:
    """Of the local Lambda."""
    limits = {"timeout": "10s", "memory": "512MiB", "concurrency": 10}
    python = limits | {"code": str(ROOT)}
    found: dict[str, dict[str, Any]] = {
        "servicer": {"handler": "tests.crossing.matrix.servicer.usual", **python},
        "whole": {"handler": "tests.crossing.matrix.servicer.whole", **python},
        "streamed": {"handler": "tests.crossing.matrix.servicer.streamed", **python},
        "plain": {"handler": "tests.crossing.matrix.plain.handler", **python},
        "joined": {"handler": "tests.crossing.matrix.plain.handler", "env": {"JOINED": "1"}, **python},
    }
    for name, (program, arguments, environ) in PROGRAMS.items():
        found[name] = {"command": [installed(program), *arguments], "env": environ, **limits}
    for name, mode in URLS.items():
        found[name]["url"] = {"invoke_mode": mode}
    return {name: function for name, function in found.items() if can_answer(name)}


def can_answer(function: str) -> bool:
    return function not in NEEDS or installed(NEEDS[function]) is not None


def entry(crossing: Crossing, addresses: Mapping[str, str]) -> dict[str, Any]:
    """The `services` entry of a crossing."""
    match crossing.carrier:
        case "native":
            return {"target": f"grpc://{addresses[crossing.function]}"}
        case "http":
            target = addresses.get(crossing.function) or f"{addresses['emulator']}/lambda-url/{crossing.function}"
            return {"target": f"http://{target}", "payload": crossing.payload}
    mode = "buffered" if crossing.carrier == "invoke" else crossing.carrier
    return {
        "target": f"local:{crossing.function}",
        "payload": crossing.payload,
        "event": crossing.event,
        "invoke_mode": mode,
    }


def write_descriptors(folder: Path) -> None:
    """dev.Echo under the name of each crossing that needs them."""
    text = (ROOT / "lambda_fn" / "examples" / "echo.proto").read_text()
    service = re.search(r"service Echo \{.*?\n\}\n", text, re.DOTALL)
    assert service is not None
    names = [crossing.name for crossing in CROSSINGS if crossing.payload == "json"]
    copies = "".join(service[0].replace("service Echo", f"service {name}") for name in names)
    whole = text.replace(service[0], copies).replace("package dev;", "package matrix;")
    folder.mkdir()
    (folder / "matrix.proto").write_text(whole)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder = tmp_path_factory.mktemp("matrix")
    write_descriptors(folder / "protos")
    with ExitStack() as stack:
        grpcio_port = stack.enter_context(grpcio_server())
        addresses = {
            "emulator": f"127.0.0.1:{free_port()}",
            "grpcio": f"127.0.0.1:{grpcio_port}",
        }
        if can_answer("connect"):
            addresses["connect"] = stack.enter_context(connect_server())
        if can_answer("envoy"):
            addresses["envoy"] = stack.enter_context(grpc_web_envoy(folder, grpcio_port))
        services: dict[str, Any] = {}
        for crossing in filter(lambda one: can_answer(one.function), CROSSINGS):
            described = {"descriptors": "protos"} if crossing.payload == "json" else {}
            services[crossing.service] = entry(crossing, addresses) | described
            if crossing.carrier != "native":
                services[f"{crossing.service}/BidiStream"] = {"half_close": "300ms"}
        config = {
            "emulator": addresses["emulator"],
            "defaults": {
                "max_request": f"{MAX_MESSAGE}B",
                "max_response": f"{MAX_MESSAGE}B",
                "max_buffered": f"{MAX_BUFFERED}B",
            },
            "services": services,
            "functions": functions(),
        }
        yield stack.enter_context(running_bridge(folder, config))


@pytest.fixture(scope="module")
def channel(bridge: RunningBridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(bridge.address) as opened:
        yield opened


# -- the rows ----------------------------------------------------------------------------------------------------------


def rows() -> Iterator[Any]:
    """Crossing by crossing, so that those that leave a function busy are far from each other."""
    for crossing in CROSSINGS:
        for scenario in SCENARIOS:
            yield pytest.param(crossing, scenario, id=f"{crossing.name}-{scenario.id}")


@pytest.mark.parametrize(("crossing", "scenario"), list(rows()))
def test_row(bridge: RunningBridge, channel: grpc.Channel, crossing: Crossing, scenario: Scenario) -> None:
    """What the client has of the call is what stands in the table, as a whole."""
    if crossing.function in NEEDS:
        tool(NEEDS[crossing.function])
    expected = outcome_of(crossing, scenario)

    # On a busy machine a call may be over before it can be cancelled. The log says so, and it is made again.
    for _ in range(5):
        before = len(bridge.access_log())
        had = play(
            scenario,
            crossing.service,
            channel,
            comes_one_by_one=bool(expected.messages),
            wait_until_under_way=lambda: other_call(channel, crossing),
        )
        if not scenario.cancelled or logged_code(bridge, crossing, scenario, before) == "CANCELLED":
            break
    else:
        pytest.fail("the bridge never learnt that the call was cancelled")

    assert expected == (had if expected.message is not None else replace(had, message=None))


def other_call(channel: grpc.Channel, crossing: Crossing) -> None:
    """Begins behind those under way on the connection, and ends at its function."""
    call = unary_unary(channel, f"/{crossing.service}/Unary")
    assert b"" != call(echo_pb2.EchoRequest(text="other").SerializeToString(), timeout=20)


def logged_code(bridge: RunningBridge, crossing: Crossing, scenario: Scenario, before: int) -> str:
    """The code of the last call of this method, logged since there were so many entries."""
    method = f"/{crossing.service}/{scenario.method}"

    def codes() -> list[str]:
        return [entry["code"] for entry in bridge.access_log()[before:] if entry["method"] == method]

    bridge.wait_until(lambda: bool(codes()))
    return codes()[-1]


@pytest.mark.parametrize(
    ("asked", "told"), REFUSED, ids=lambda part: "-".join(part.values()) if isinstance(part, dict) else ""
)
def test_what_the_configuration_refuses(asked: Mapping[str, str], told: str) -> None:
    text = ", ".join(f"{name}: '{value}'" for name, value in asked.items())
    found = problems(f"functions: {{f: {{handler: a.b}}}}\nservices: {{a.B: {{{text}}}}}")

    assert any(line.endswith(told) for line in found), found
