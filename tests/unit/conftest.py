"""Unit tests run on a loop whose clock they move; those of threads and processes say so with the mark `real_clock`."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support.simulated_time import SimulatedTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("real_clock"):
        return {"real": asyncio.new_event_loop}
    return {"simulated": SimulatedTimeLoop}
