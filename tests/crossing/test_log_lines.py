"""The log as a machine reads it: every line of the bridge and of its functions has one shape."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import running_bridge
from tests.support.byte_methods import unary_unary

pytestmark = pytest.mark.slow

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
HEALTH = "/grpc.health.v1.Health/Check"


def logged(folder: Path, access: object) -> list[dict[str, Any]]:
    """What a bridge writes while it answers a health check and two greetings."""
    (folder / "app.py").write_text("from lambda_fn.examples.greeter import handler\nprint('it begins')\n")
    config = {
        "services": {"helloworld.Greeter": "local:greeter"},
        "functions": {"greeter": {"handler": "app.handler"}},
        "log": {"access": access},
    }
    with running_bridge(folder, config) as bridge:
        with grpc.insecure_channel(bridge.address) as channel:
            unary_unary(channel, HEALTH)(b"", timeout=20)
            greeter = helloworld_pb2_grpc.GreeterStub(channel)
            for name in ("Ada", "Grace"):
                greeter.SayHello(helloworld_pb2.HelloRequest(name=name), timeout=30)
        bridge.stop()
    return [json.loads(line) for line in bridge.lines]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return logged(tmp_path_factory.mktemp("all"), access=True)


def test_every_line_begins_alike(lines: list[dict[str, Any]]) -> None:
    """Time, level, logger; also those of calls and of functions."""
    assert {"bridge.access", "function.greeter", "bridge.commands.serve"} <= {line["logger"] for line in lines}
    for line in lines:
        assert ["time", "level", "logger"] == list(line)[:3]
        assert TIME.fullmatch(line["time"])
        assert line["level"] in {"debug", "info", "warning", "error"}


def test_calls_name_their_target_and_cold_starts(lines: list[dict[str, Any]]) -> None:
    """The first call starts the instance. The bridge itself answers health checks."""
    health, first, second = [line for line in lines if line["logger"] == "bridge.access"]

    assert (HEALTH, None) == (health["method"], health.get("target"))
    assert ("local:greeter", True) == (first["target"], first["cold_start"])
    assert ("local:greeter", None) == (second["target"], second.get("cold_start"))


def test_health_checks_may_have_no_lines(tmp_path: Path) -> None:
    """Nothing else is left out."""
    lines = logged(tmp_path, access={"health": False, "reflection": False})

    assert ["/helloworld.Greeter/SayHello"] * 2 == [
        line["method"] for line in lines if line["logger"] == "bridge.access"
    ]
