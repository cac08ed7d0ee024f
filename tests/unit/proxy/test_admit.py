"""admit: a target's and the process's room."""

import asyncio

import pytest

from bridge.proxy.admit import admit
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import TargetFigures
from tests.support.fakes import RecordingCall
from tests.support.running import RunningCall


def _layer(inner: Handler, target: TargetFigures, buffers: Buffers | None = None) -> Handler:
    return admit(inner, target=target, max_concurrency=2, buffers=buffers or Buffers(1000))


async def _answer(call: Call) -> None:
    call.send(OK_TRAILERS)


async def _wait_for_ever(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


async def test_calls_beyond_the_limit_are_refused_at_once() -> None:
    """Naming the target and the setting; the calls in flight are left alone."""
    target = TargetFigures("orders")
    layer = _layer(_wait_for_ever, target)
    tasks = [RunningCall().run(layer) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded, match="orders has 2 calls in flight") as caught:
        await layer(RecordingCall())
    assert "max_concurrency" == caught.value.reason
    assert 2 == target.in_flight
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert 0 == target.in_flight


async def test_place_is_given_back_however_a_call_ends() -> None:
    """By returning or by raising."""

    async def fail(call: Call) -> None:
        raise ZeroDivisionError

    target = TargetFigures("orders")
    for _ in range(5):
        await _layer(_answer, target)(RecordingCall())
        with pytest.raises(ZeroDivisionError):
            await _layer(fail, target)(RecordingCall())

    assert 0 == target.in_flight


async def test_process_that_holds_too_much_takes_no_new_call() -> None:
    """The limit `buffers` counts gathered bytes of all calls."""
    target, buffers = TargetFigures("orders"), Buffers(1000)
    buffers.held = 1000

    with pytest.raises(Overloaded, match="1000 bytes \\(buffers\\)") as caught:
        await _layer(_answer, target, buffers)(RecordingCall())
    assert "buffers" == caught.value.reason
    assert 0 == target.in_flight
