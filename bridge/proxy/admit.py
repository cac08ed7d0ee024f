"""admit: takes a call on only while its target and the process have room; what is too much is refused before it costs."""

from __future__ import annotations

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.rpc.figures import BridgeFigures, TargetFigures


def admit(
    inner: Handler,
    *,
    target: TargetFigures,
    max_concurrency: int,
    process: BridgeFigures,
    buffers: int,
) -> Handler:
    """`buffers`: bytes that all calls of the process may hold gathered."""

    async def admitted(call: Call) -> None:
        if target.in_flight >= max_concurrency:
            raise Overloaded(
                f"{target.name} has {max_concurrency} calls in flight (max_concurrency); try again later",
                kind="max_concurrency",
            )
        if process.buffered_bytes >= buffers:
            raise Overloaded(
                f"the bridge holds {buffers} bytes for calls (buffers); try again later",
                kind="buffers",
            )
        target.in_flight += 1
        try:
            await inner(call)
        finally:
            target.in_flight -= 1

    return admitted
