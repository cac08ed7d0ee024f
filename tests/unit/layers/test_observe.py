"""observe: each call is counted and logged once, however it ends."""

import asyncio
import os
from collections.abc import Iterator

import msgspec
import pytest

from bridge.layers.access_log import AccessLog
from bridge.layers.notable import NotableCalls
from bridge.layers.observe import observe
from bridge.layers.rescue import rescue
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import ClientGone, FunctionFailed
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.status import StatusCode
from tests.support.fakes import FakeClock
from tests.support.running import RunningCall


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


async def _observed(
    inner: Handler, pipe: tuple[int, int], *, abort: str = ""
) -> tuple[RunningCall, list[dict[str, object]]]:
    """The call after the layers `observe` and `rescue`, and the log lines. `abort`: "early", "late" or not."""
    reader, writer = pipe
    clock = FakeClock(10.0)
    log = AccessLog(loop=asyncio.get_running_loop(), wall_clock=lambda: 1_700_000_000.0, descriptor=writer)
    call = RunningCall()
    call.started = 8.5
    task = call.run(
        observe(
            rescue(inner, figures=BridgeFigures()), log=log, notable=NotableCalls(wall_clock=FakeClock()), clock=clock
        )
    )
    if abort == "late":
        await asyncio.sleep(0)
    if abort:
        call.abort(ClientGone("gone"))
    await asyncio.wait([task])
    log.flush()
    return call, [msgspec.json.decode(line) for line in os.read(reader, 1 << 16).splitlines()]


async def _succeed(call: Call) -> None:
    call.send(OK_TRAILERS)


async def _fail(call: Call) -> None:
    raise FunctionFailed("ValueError: no")


async def _break(call: Call) -> None:
    raise ZeroDivisionError


async def _wait_for_ever(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("inner", "abort", "code"),
    [
        (_succeed, "", StatusCode.OK),
        (_fail, "", StatusCode.INTERNAL),
        (_break, "", StatusCode.INTERNAL),
        (_wait_for_ever, "late", StatusCode.CANCELLED),
        (_wait_for_ever, "early", StatusCode.CANCELLED),
    ],
)
async def test_every_outcome_is_counted_and_logged_once(
    inner: Handler, abort: str, code: StatusCode, pipe: tuple[int, int]
) -> None:
    """Good, failed, broken, cancelled while it ran, cancelled before it began."""
    call, lines = await _observed(inner, pipe, abort=abort)
    figures = call.route.figures
    figures.tally()

    assert [code.name] == [line["code"] for line in lines]
    assert (1, 1) == (figures.started, sum(figures.handled))
    assert 1 == figures.handled[code]


async def test_duration_runs_from_the_headers(pipe: tuple[int, int]) -> None:
    """From when the call began to when it ended, by the clock that was given."""
    call, (line,) = await _observed(_succeed, pipe)
    call.route.figures.tally()

    assert 1_500_000 == line["duration_us"]
    assert pytest.approx(1.5) == call.route.figures.seconds.total


async def test_call_without_a_status_counts_as_cancelled(pipe: tuple[int, int]) -> None:
    """The process stops before the call has an end: it is still counted and logged."""
    reader, writer = pipe
    log = AccessLog(loop=asyncio.get_running_loop(), wall_clock=lambda: 0.0, descriptor=writer)
    call = RunningCall()
    task = call.run(observe(_wait_for_ever, log=log, notable=NotableCalls(wall_clock=FakeClock()), clock=FakeClock()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    log.flush()
    call.route.figures.tally()

    assert task.cancelled()
    assert 1 == call.route.figures.handled[StatusCode.CANCELLED]
    assert b'"CANCELLED"' in os.read(reader, 1 << 16)
