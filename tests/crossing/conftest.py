"""The bridge with the example functions, started once for all tests of a file."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge


@pytest.fixture(scope="module", autouse=True)
def _clients_leftovers() -> Iterator[None]:
    """Clients that nobody here wrote leave sockets to the collector: they go here, and not as a failure of a later
    test.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/crossing" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore:.*unclosed <s:ResourceWarning"))


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
