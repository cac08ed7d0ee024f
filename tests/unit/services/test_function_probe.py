"""What the health service hears of functions that AWS would or would not let the bridge call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bridge.rpc.errors import Unreachable
from bridge.services.function_probe import FunctionProbe
from tests.unit.services.test_health import NOT_SERVING, SERVING, Routed


@dataclass
class Function:
    """A function and, as its own carrier, what AWS says of it."""

    key: str
    fault: Unreachable | None = None
    times_asked: int = 0

    @property
    def carrier(self) -> Function:
        return self

    async def dry_run(self) -> None:
        self.times_asked += 1
        if self.fault is not None:
            raise self.fault


async def test_a_service_is_serving_only_with_all_its_functions() -> None:
    routed = Routed("a.Whole", "a.Half")
    probe = FunctionProbe(routed.health)
    refused = Unreachable("access denied")

    probe.watch([Function("a.Whole"), Function("a.Half", refused), Function("a.Half")])
    await _probed()

    assert (SERVING, NOT_SERVING) == (await routed.check("a.Whole"), await routed.check("a.Half"))
    probe.stop()


async def test_the_functions_of_a_former_configuration_are_not_asked() -> None:
    routed = Routed("a.B")
    probe, former, present = FunctionProbe(routed.health), Function("a.B"), Function("a.B")

    probe.watch([former])
    probe.watch([present])
    await _probed()

    assert (0, 1) == (former.times_asked, present.times_asked)
    probe.stop()


async def _probed() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
