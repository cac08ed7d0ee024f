"""observe: every call is counted and logged exactly once, however it ends. Failed and slow ones are kept a while."""

from __future__ import annotations

from collections.abc import Callable

from bridge.layers.access_log import AccessLog
from bridge.layers.notable import NotableCalls
from bridge.rpc.call import Call, Handler
from bridge.rpc.status import StatusCode


def observe(inner: Handler, *, log: AccessLog, notable: NotableCalls, clock: Callable[[], float]) -> Handler:
    """`clock` reads the monotonic time (seconds)."""

    async def observed(call: Call) -> None:
        figures = call.route.figures
        figures.started += 1
        try:
            await inner(call)
        finally:
            seconds = clock() - call.started
            # A call without a status means that the process itself is being stopped.
            code = StatusCode.CANCELLED if call.status is None else call.status.code
            figures.finished(call, code, seconds)
            log.write(call, code, seconds)
            if code or seconds >= notable.slow_from:
                notable.note(call, code, seconds)

    return observed
