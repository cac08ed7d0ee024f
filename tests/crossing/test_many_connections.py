"""More connections than a bridge takes: others go on being served, the admin port among them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.echo_api import AWS, EchoApi, echo_api
from tests.support.frames import REQUEST, FrameFactory

pytestmark = pytest.mark.slow

FILES = 200
KEPT = 64


@pytest.fixture
def api() -> Iterator[EchoApi]:
    with echo_api() as serving:
        yield serving


@pytest.fixture
def bridge(api: EchoApi, tmp_path: Path) -> Iterator[RunningBridge]:
    """One that may have few files open."""
    config: dict[str, Any] = {
        "services": {"t.Echo": "function:echo"},
        "aws": {"endpoint_url": f"http://127.0.0.1:{api.port}"},
    }
    with running_bridge(tmp_path, config, environ=AWS, files=FILES) as bridge:
        bridge.wait_for_line("AWS credentials found")
        yield bridge


def figure(bridge: RunningBridge, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(bridge.get("/metrics"))
    found = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found)


def echoed(bridge: RunningBridge) -> bytes:
    with grpc.insecure_channel(bridge.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return bytes(unary_unary(channel, "/t.Echo/Method")(b"x", timeout=10))


def connected(bridge: RunningBridge, opened: ExitStack, sent: bytes = b"") -> socket.socket:
    host, _, port = bridge.address.rpartition(":")
    sock = opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
    sock.sendall(sent)
    return sock


def refusals(bridge: RunningBridge) -> list[str]:
    return [line for line in bridge.lines if "connections are refused" in line]


def test_idle_connections_make_room(bridge: RunningBridge) -> None:
    """Twice as many as the process may have files: probes, metrics and calls go on, and the log has no line for
    each.
    """
    with ExitStack() as opened:
        for _ in range(2 * FILES):
            connected(bridge, opened)
        assert "ok\n" == bridge.get("/healthz")
        assert b"x" == echoed(bridge)
        assert figure(bridge, "bridge_connections") <= FILES - KEPT
        made_room = figure(bridge, "bridge_connections_refused_total", reason="idle")

    assert made_room >= FILES
    assert not any("traceback" in line for line in bridge.lines)
    assert any("takes 136 connections" in line for line in bridge.lines)
    assert len(refusals(bridge)) <= 1


def test_busy_connections_keep_new_ones_out(bridge: RunningBridge) -> None:
    """One line in the log, the rest is counted; the admin port answers, and when they have gone there is room again."""
    frames = FrameFactory()
    head = [(name, "/t.Echo/Method" if name == ":path" else value) for name, value in REQUEST]
    begun = frames.start() + frames.headers(1, head)
    with ExitStack() as opened:
        for _ in range(FILES - KEPT):
            connected(bridge, opened, begun)
        bridge.wait_until(lambda: figure(bridge, "bridge_streams") > 100)
        for _ in range(100):
            with ExitStack() as refused:
                connected(bridge, refused)
        bridge.wait_until(lambda: figure(bridge, "bridge_connections_refused_total") >= 50)
        assert "ok\n" == bridge.get("/healthz")
        assert 1 == len(refusals(bridge))
    bridge.wait_until(lambda: figure(bridge, "bridge_streams") == 0)

    assert b"x" == echoed(bridge)
