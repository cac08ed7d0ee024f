"""admit: takes a call on only while its target and the process have room; what is too much is refused before it costs."""

from __future__ import annotations

from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.rpc.figures import TargetFigures


def admit(
    inner: Handler,
    *,
    target: TargetFigures,
    max_concurrency: int,
    buffers: Buffers,
) -> Handler:
    """`buffers`: those of the process."""

    async def admitted(call: Call) -> None:
        if target.in_flight >= max_concurrency:
            raise Overloaded(
                f"{target.name} has {max_concurrency} calls in flight (max_concurrency); try again later",
                kind="max_concurrency",
            )
        if buffers.held >= buffers.limit:
            raise buffers.full(0)
        target.in_flight += 1
        try:
            await inner(call)
        finally:
            target.in_flight -= 1

    return admitted
