"""gRPC clients and durable executions: an answer that was lost is asked for again, and the function runs once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import trailers_of, unary_unary
from tests.support.clients import run, tool
from tests.support.cutting_proxy import CuttingProxy, Moment, cutting_proxy
from tests.support.programs import free_port

pytestmark = pytest.mark.slow

APP = """
import pathlib, time
import grpc
from lambda_fn import LambdaServer

RUNS = pathlib.Path(__file__).with_name("runs")
count = 0

def run(request, context):
    global count
    count += 1
    with RUNS.open("a") as file:
        file.write(request.hex() + "\\n")
    time.sleep(0.2)
    if request == b"fail":
        raise ValueError("no")
    if request == b"abort":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
    text = b"run %d" % count
    return bytes((10, len(text))) + text

server = LambdaServer()
for name in ("d.Durable", "d.Local", "d.V1", "d.Alb"):
    server.add_registered_method_handlers(name, {"Run": grpc.unary_unary_rpc_method_handler(run)})
handler = server.handler
"""

PROTO = """
syntax = "proto3";
package d;
message Request {}
message Reply { string text = 1; }
service Durable { rpc Run(Request) returns (Reply); }
"""

KEY = "idempotency-key"
ARN = re.compile(r"arn:aws:lambda:us-east-1:123456789012:function:f:\$LATEST/durable-execution/[\w-]+/[\w-]+")


@dataclass(frozen=True)
class Served:
    """A bridge whose function is behind a proxy that loses answers."""

    folder: Path
    running: RunningBridge
    proxy: CuttingProxy

    def run(self, request: bytes, *metadata: tuple[str, str], service: str = "d.Durable") -> tuple[str, dict[str, Any]]:
        """Call on a new channel. Return the reply and the trailing metadata."""
        with grpc.insecure_channel(self.running.address) as channel:
            reply, call = unary_unary(channel, f"/{service}/Run").with_call(request, metadata=metadata, timeout=30)
        return reply[2:].decode(), dict(call.trailing_metadata())

    def failure(self, request: bytes, *metadata: tuple[str, str]) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.run(request, *metadata)
        return caught.value

    def runs_of(self, request: bytes) -> int:
        """How often the function has run with this request."""
        file = self.folder / "runs"
        return file.read_text().split("\n").count(request.hex()) if file.exists() else 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("durable")
    (folder / "durable_app.py").write_text(APP)
    (folder / "durable.proto").write_text(PROTO)
    port = free_port()
    with cutting_proxy(port) as proxy:
        durable = {"durable": {"name": {"metadata": KEY}}}
        behind = {"target": "function:f:live", "endpoint_url": f"http://127.0.0.1:{proxy.port}", **durable}
        config = {
            "services": {
                "d.Durable": behind,
                "d.V1": {**behind, "event": "http-v1"},
                "d.Alb": {**behind, "event": "alb"},
                "d.Local": {"target": "local:f", **durable},
            },
            "functions": {"f": {"handler": "durable_app.handler", "code": str(folder), "timeout": "30s"}},
            "emulator": f"127.0.0.1:{port}",
            "aws": {"region": "us-east-1"},
        }
        keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        with running_bridge(folder, config, environ=keys) as running:
            running.wait_until(lambda: running.get_whole("/readyz")[0] == 200)  # it has read its keys
            yield Served(folder, running, proxy)


def _new() -> tuple[bytes, tuple[str, str]]:
    """A request that nobody has sent, and a name for it."""
    name = uuid4().hex
    return name.encode(), (KEY, name)


@pytest.mark.parametrize("service", ["d.Durable", "d.V1", "d.Alb"])
@pytest.mark.parametrize("moments", [("request",), ("head",), ("body",), ("request", "body")])
def test_a_lost_answer_is_asked_for_again(served: Served, service: str, moments: tuple[Moment, ...]) -> None:
    """With the same bytes, so that the function runs once and the client gets its answer."""
    request, key = _new()
    before = len(served.proxy.requests)
    served.proxy.lose(*moments)
    said, trailing = served.run(request, key, service=service)
    bodies = served.proxy.bodies()[before:]

    assert said.startswith("run ")
    assert 1 == served.runs_of(request)
    assert len(moments) + 1 == len(bodies)
    assert 1 == len(set(bodies))
    assert ARN.fullmatch(trailing["x-amzn-durable-execution-arn"])


def test_without_a_name_a_lost_answer_is_lost(served: Served) -> None:
    """The function may have run, so nothing is repeated."""
    request, _ = _new()
    served.proxy.lose("body")
    error = served.failure(request)

    assert grpc.StatusCode.UNAVAILABLE is error.code()
    assert "may have run" in error.details()
    assert 1 == served.runs_of(request)
    assert "x-amzn-durable-execution-arn" not in trailers_of(error)


def test_a_clients_own_repeat_finds_its_execution(served: Served) -> None:
    """From another connection, with another trace, another deadline and its metadata in another order."""
    request, key = _new()
    first = served.run(request, key, ("a", "1"), ("traceparent", f"00-{'1' * 32}-{'1' * 16}-01"))
    again = served.run(
        request,
        ("traceparent", f"00-{'2' * 32}-{'2' * 16}-01"),
        ("grpc-previous-rpc-attempts", "1"),
        ("x-request-id", "7"),
        ("a", "1"),
        key,
    )

    assert first[0] == again[0]
    assert first[1]["x-amzn-durable-execution-arn"] == again[1]["x-amzn-durable-execution-arn"]
    assert 1 == served.runs_of(request)


@pytest.mark.parametrize("more", [(), (("a", "1"),)])
def test_another_request_under_the_same_name_exists_already(served: Served, more: tuple[tuple[str, str], ...]) -> None:
    request, key = _new()
    served.run(request, key)
    error = served.failure(request if more else b"other", key, *more)

    assert grpc.StatusCode.ALREADY_EXISTS is error.code()
    assert "DurableExecutionAlreadyStarted" in error.details()
    assert (1, 0) == (served.runs_of(request), served.runs_of(b"other"))


@pytest.mark.parametrize("values", [["a b"], ["x" * 65], [""], ["a", "b"]])
def test_what_is_no_name_is_refused(served: Served, values: list[str]) -> None:
    request, _ = _new()
    before = len(served.proxy.requests)
    error = served.failure(request, *[(KEY, value) for value in values])

    assert grpc.StatusCode.INVALID_ARGUMENT is error.code()
    assert f"the metadata {KEY} is" in error.details()
    assert before == len(served.proxy.requests)


@pytest.mark.parametrize("request_", [b"fail", b"abort"])
def test_a_failed_execution_stays_failed(served: Served, request_: bytes) -> None:
    """Its answer names the execution, too."""
    _, key = _new()
    before = served.runs_of(request_)
    errors = [served.failure(request_, key) for _ in range(2)]

    assert 1 == len({(error.code(), error.details()) for error in errors})
    assert before + 1 == served.runs_of(request_)
    assert all(ARN.fullmatch(str(trailers_of(error)["x-amzn-durable-execution-arn"])) for error in errors)


def test_a_local_target_is_durable_too(served: Served) -> None:
    request, key = _new()
    said = {served.run(request, key, service="d.Local")[0] for _ in range(2)}
    served.run(request, service="d.Local")
    served.run(request, service="d.Local")

    assert 1 == len(said)
    assert 3 == served.runs_of(request)


def test_grpcurl(served: Served) -> None:
    """A repeat with grpcurl has the same answer."""
    name = uuid4().hex
    served.proxy.lose("body")
    options = ["-plaintext", "-import-path", str(served.folder), "-proto", "durable.proto", "-H", f"{KEY}: {name}"]
    called = [run([tool("grpcurl"), *options, served.running.address, "d.Durable/Run"]) for _ in range(2)]

    assert called[0].stdout, called[0].stderr
    assert json.loads(called[0].stdout) == json.loads(called[1].stdout)
