"""The bridge with the example functions, started once for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    folder: Path = tmp_path_factory.mktemp("bridge")
    with running_bridge(folder, EXAMPLES) as running:
        yield running


@pytest.fixture
def channel(bridge: RunningBridge) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(bridge.address, options) as opened:
        yield opened
