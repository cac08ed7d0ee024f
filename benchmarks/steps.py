"""Count the bytecodes of the bridge that a call runs through: the same on every machine, however busy it is.

Nearly all of the path's time is the interpreter's, so a step more is time more; what one step of C costs, only a clock
can tell. Batches are counted one by one, and their median counts: what happens once a second disturbs only a few.
"""

from __future__ import annotations

import sys
from statistics import median
from types import FrameType
from typing import Any

from benchmarks.in_process import InProcess, run

_BATCHES = 101
_AT_ONCE = 16
"""Calls that arrive in one read, which is a batch."""
_OURS = "/bridge/"
"""In the file names of what counts."""


def steps(*, varies: bool) -> float:
    """Bytecodes of one call. `varies`: no two header blocks are the same."""

    async def counted(bridge: InProcess) -> float:
        await bridge.serve(_BATCHES)
        counter, found = _Counter(), []
        # Python 3.12 asks only here whether any frame wants opcodes.
        sys._getframe().f_trace_opcodes = True  # noqa: SLF001 - public but for its name
        sys.settrace(counter.enter)
        try:
            for _ in range(_BATCHES):
                counter.steps = 0
                await bridge.serve(1, at_once=_AT_ONCE)
                found.append(counter.steps)
        finally:
            sys.settrace(None)
        return median(found) / _AT_ONCE

    cost: float = run(counted, varies=varies)
    return cost


class _Counter:
    """A trace function; see sys.settrace."""

    def __init__(self) -> None:
        self.steps = 0

    def enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if _OURS not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "opcode":
            self.steps += 1
        return self._step
