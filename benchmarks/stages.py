"""Where a call's time goes: the stages of the path, measured in their places while calls pass, in microseconds.

A stopwatch is put around the functions that make a stage, and counts for each what it spends itself, not what it calls.
What the stopwatch costs is measured and taken off. Layers are coroutines, which a stopwatch would slow too much: they
are measured alone, around a handler that does nothing. "The rest" is the task, turns of the loop, the coroutines
between the stages.

Two columns: header blocks that repeat, as load generators send them, and blocks that all differ, as grpc-go sends them
(a grpc-timeout of its own for each call).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median
from time import monotonic, perf_counter
from typing import Any, cast

import bridge.carriers.lambda_api
from benchmarks.in_process import InProcess, run
from bridge.aws.events.http_v2 import HttpV2EventEncoder
from bridge.aws.events.reply_reader import ReplyReader
from bridge.aws.sigv4 import RequestSigner
from bridge.carriers.http1.connection import Http1Connection as UpstreamConnection
from bridge.http2.native import NativeEngine
from bridge.layers.access_log import AccessLog
from bridge.layers.admit import admit
from bridge.layers.deadline import Deadlines, deadline
from bridge.layers.gate import Gate
from bridge.layers.rescue import rescue
from bridge.layers.retry import retry
from bridge.rpc.call import Call, Handler
from bridge.rpc.events import Phase
from bridge.rpc.figures import BridgeFigures, MethodFigures, TargetFigures
from bridge.rpc.limits import RetryPolicy
from bridge.server.call import ServedCall
from bridge.server.connection import Connection
from bridge.server.outflow import Outflow

AT_ONCE = 16
"""Calls that arrive in one read."""
ROUNDS = 30
BATCHES = 40
"""Reads in one round."""

Functions = tuple[tuple[Any, str], ...]
"""Each by where it is looked up."""

STAGES: Mapping[str, Functions] = {
    "HTTP/2 in": ((NativeEngine, "receive"), (NativeEngine, "credit")),
    "connection, the call's object": (
        (Connection, "received"),
        (Outflow, "flush"),
        (Connection, "forget"),
    ),
    "event encoded": ((HttpV2EventEncoder, "encode"),),
    "signing": ((bridge.carriers.lambda_api, "payload_hash"), (RequestSigner, "head")),
    "HTTP/1.1": ((UpstreamConnection, "start"), (UpstreamConnection, "buffer_updated")),
    "reply decoded": ((ReplyReader, "read"),),
    "response out": ((ServedCall, "send_all"), (NativeEngine, "bytes_to_send")),
    "metrics": ((MethodFigures, "finished"),),
    "access log": ((AccessLog, "write"), (AccessLog, "flush")),
}

REST, WHOLE = "the rest", "the whole path"

Profile = dict[str, float]
"""Microseconds of one call by stage, then REST, then WHOLE."""


def profile(*, varies: bool, rounds: int = ROUNDS) -> Profile:
    """`varies`: no two header blocks are the same."""

    async def whole(bridge: InProcess) -> float:
        await bridge.serve(BATCHES)
        return min([await bridge.serve(BATCHES) for _ in range(rounds)])

    async def watched(bridge: InProcess) -> list[Profile]:
        await bridge.serve(BATCHES)
        found = []
        for _ in range(rounds):
            watch.reset()
            each = await bridge.serve(BATCHES)
            found.append(watch.net((each - in_all) * calls))
        return found

    calls = BATCHES * AT_ONCE
    in_all: float = min([run(whole, varies=varies) for _ in range(3)])
    watch = Stopwatch()
    with watch.around(STAGES):
        rounds_found: list[Profile] = run(watched, varies=varies)
    costs = {stage: median(each[stage] for each in rounds_found) / calls for stage in STAGES}
    costs |= run(_layers)
    costs[REST] = in_all - sum(costs.values())
    costs[WHOLE] = in_all
    return {stage: 1e6 * seconds for stage, seconds in costs.items()}


@contextmanager
def _replaced(replacements: Iterable[tuple[Any, str, object]]) -> Generator[None]:
    """Other attributes until the block ends."""
    with ExitStack() as undo:
        for owner, name, replacement in replacements:
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, replacement)
        yield


async def _layers(_: InProcess) -> Profile:
    target, process = TargetFigures("greeter"), BridgeFigures()
    inner = retry(_answered, policy=RetryPolicy(), target=target, clock=monotonic)
    inner = admit(
        inner,
        target=target,
        gate=Gate(clock=monotonic),
        max_concurrency=1000,
        queue=None,
        buffers=process.buffers,
        gathers=True,
        clock=monotonic,
    )
    deadlines = Deadlines(asyncio.get_running_loop())
    nothing = _alone(_answered)
    return {
        "rescue, admit, retry": _alone(rescue(inner, figures=process)) - nothing,
        "deadline": _alone(deadline(_answered, deadlines=deadlines, clock=monotonic)) - nothing,
    }


def _alone(handler: Handler) -> float:
    """Seconds that the handler takes for a call, if it waits for nothing."""
    call, count, found = cast("Call", _Call()), 1000, []
    for _ in range(ROUNDS):
        began = perf_counter()
        for _ in range(count):
            try:
                cast("Coroutine[Any, Any, None]", handler(call)).send(None)
            except StopIteration:
                continue
        found.append((perf_counter() - began) / count)
    return min(found)


class _Call:
    """As much of a call as layers look at."""

    def __init__(self) -> None:
        self.path = "/bench.Plain/Say"
        self.phase = Phase.DONE
        self.cause = None
        self.has_ended = True
        self.connection = self
        self.attempts = 0
        self.deadline = monotonic() + 60.0


async def _answered(_: Call) -> None:
    pass


def table(same: Profile, varied: Profile) -> str:
    """Markdown."""
    lines = ["| stage | us a call | header blocks differ |", "|---|---:|---:|"]
    lines += [f"| {name} | {same[name]:.1f} | {varied[name]:.1f} |" for name in same]
    return "\n".join(lines)


class Stopwatch:
    """Time spent by stage, each without the stages that it calls."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._overhead: defaultdict[str, float] = defaultdict(float)
        """What the stopwatch adds to each stage, by the calibration; in its place it adds more, in proportion."""
        self._running: list[str] = []
        self._since = 0.0
        self._own_cost = self._callers_cost = 0.0
        self._calibrate()

    def reset(self) -> None:
        self._spent.clear()
        self._overhead.clear()

    def net(self, overhead: float) -> dict[str, float]:
        """Seconds by stage, without the stopwatch, which cost so many seconds in all."""
        scale = overhead / sum(self._overhead.values())
        return {stage: spent - scale * self._overhead[stage] for stage, spent in self._spent.items()}

    def around(self, stages: Mapping[str, Functions]) -> AbstractContextManager[None]:
        """Put itself around what makes the stages, until the block ends."""
        return _replaced(
            [
                (owner, name, self._around(stage, getattr(owner, name)))
                for stage, functions in stages.items()
                for owner, name in functions
            ]
        )

    def _around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._leave(stage)

        return watched

    def _enter(self, stage: str) -> None:
        now = perf_counter()
        if self._running:
            caller = self._running[-1]
            self._spent[caller] += now - self._since
            self._overhead[caller] += self._callers_cost
        else:
            self._overhead[REST] += self._callers_cost
        self._overhead[stage] += self._own_cost
        self._running.append(stage)
        self._since = perf_counter()

    def _leave(self, stage: str) -> None:
        now = perf_counter()
        self._spent[stage] += now - self._since
        self._running.pop()
        self._since = perf_counter()

    def _calibrate(self) -> None:
        """What a stopwatch around nothing adds to what it is around, and to the caller of that."""
        count = 10_000
        nothing = self._around("nothing", int)

        def many() -> None:
            for _ in range(count):
                nothing()

        caller = self._around("caller", many)
        found = []
        for _ in range(5):
            self.reset()
            caller()
            found.append((self._spent["nothing"] / count, self._spent["caller"] / count))
        self.reset()
        self._own_cost, self._callers_cost = min(found)


if __name__ == "__main__":
    print(table(profile(varies=False), profile(varies=True)))
