"""A function's queue of events; what needs processes is in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.schema import FunctionConfig
from bridge.emulator.api import refusals
from bridge.emulator.instances.environment import Interpreters
from bridge.emulator.instances.function import MAX_EVENTS, Function
from bridge.emulator.instances.invocation import Invocation
from bridge.emulator.instances.reaper import Reaper
from bridge.emulator.instances.shared_state import SharedEmulatorState


async def test_events_queue_up_to_a_bound() -> None:
    """Above it the caller is throttled, with AWS's reason for too many events."""
    config = FunctionConfig(name="fn", code=Path("/"), command=("nosuch",))
    function = Function(config, SharedEmulatorState(Reaper(), Interpreters(), 1, 1), lambda _line: None)
    event = Invocation("id", b"{}", "arn", "trace")
    for _ in range(MAX_EVENTS):
        function.enqueue(event)

    with pytest.raises(refusals.TooManyRequests) as caught:
        function.enqueue(event)
    await function.close()
    assert caught.value.fields["Reason"] == "FunctionInvocationRateLimitExceeded"
