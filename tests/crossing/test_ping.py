"""One function of the local Lambda, by REST at its URL and by gRPC through the bridge."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lambda_fn.examples import ping_pb2, ping_pb2_grpc
from tests.support.bridge_process import RunningBridge, running_bridge

ROOT = Path(__file__).parents[2]

pb: Any = ping_pb2


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    config = yaml.safe_load((ROOT / "lambda_fn/examples/ping.yaml").read_text())
    with running_bridge(tmp_path_factory.mktemp("ping"), config) as running:
        yield running


@pytest.fixture(scope="module")
def url(bridge: RunningBridge) -> str:
    """The function's, by path."""
    found = re.search(r"http://[\w.:]+/lambda-url/ping/", "\n".join(bridge.lines))
    assert found is not None, bridge.lines
    return found[0]


def get(url: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"user-agent": "curl/8"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, json.load(response)


def test_rest_at_the_url_and_grpc_through_the_bridge_reach_one_function(bridge: RunningBridge, url: str) -> None:
    """The same method answers both, and its interceptor logs both."""
    rest = get(f"{url}v1/ping?message=hello")
    with grpc.insecure_channel(bridge.address, [("grpc.primary_user_agent", "native")]) as channel:
        stub: Any = ping_pb2_grpc.PingStub(channel)
        native = stub.Send(pb.PingRequest(message="hello"), timeout=20)
    bridge.wait_for_line("call of /dev.Ping/Send by curl/8")
    bridge.wait_for_line("call of /dev.Ping/Send by native")

    assert ((200, {"message": "hello"}), "hello") == (rest, native.message)


def test_ping_without_a_message(url: str) -> None:
    """GET /v1/ping."""
    assert (200, {"message": "pong"}) == get(f"{url}v1/ping")
