"""admit: a target's and the process's room, without a queue. test_queue.py has the queue."""

import asyncio

import pytest

from bridge.layers.admit import admit, admit_builtin
from bridge.layers.gate import Gate
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Overloaded
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import TargetFigures
from bridge.rpc.places import WANTED_FOR
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.running import RunningCall


def _layer(
    inner: Handler,
    target: TargetFigures,
    buffers: Buffers | None = None,
    *,
    gathers: bool = True,
    clock: FakeClock | None = None,
) -> Handler:
    return admit(
        inner,
        target=target,
        gate=Gate(clock=clock or FakeClock()),
        max_concurrency=2,
        queue=None,
        buffers=buffers or Buffers(1000),
        gathers=gathers,
        clock=clock or FakeClock(),
    )


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


# -- fair shares -------------------------------------------------------------------------------------------------------


class _Clients:
    """Calls of several connections at one target that takes ten at a time; none ends before it is let go."""

    def __init__(self) -> None:
        self.target = TargetFigures("orders")
        self.clock = FakeClock()
        self.layer = admit(
            _wait_for_ever,
            target=self.target,
            gate=Gate(clock=self.clock),
            max_concurrency=10,
            queue=None,
            buffers=Buffers(1 << 20),
            gathers=True,
            clock=self.clock,
        )
        self._running: dict[str, list[asyncio.Task[None]]] = {}

    async def call(self, connection: str) -> bool:
        """Whether the call got a place."""
        call = RunningCall()
        call.connection = connection
        task = call.run(self.layer)
        await asyncio.sleep(0)
        if task.done():
            assert isinstance(task.exception(), Overloaded)
            return False
        self._running.setdefault(connection, []).append(task)
        return True

    async def end(self, connection: str, count: int = 1) -> None:
        for task in [self._running[connection].pop() for _ in range(count)]:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        for connection, tasks in self._running.items():
            await self.end(connection, len(tasks))
        assert 0 == self.target.in_flight


async def test_one_connection_may_use_all_places_while_nobody_else_wants_one() -> None:
    clients = _Clients()
    got = [await clients.call("only") for _ in range(11)]
    await clients.end("only")

    assert [True] * 10 + [False] == got
    assert await clients.call("only")
    await clients.close()


async def test_a_freed_place_goes_to_a_connection_below_its_share() -> None:
    """However often the one that holds them all asks in between."""
    clients = _Clients()
    for _ in range(10):
        await clients.call("greedy")
    assert not await clients.call("new")
    await clients.end("greedy")

    assert [False] * 5 == [await clients.call("greedy") for _ in range(5)]
    assert await clients.call("new")
    await clients.close()


async def test_places_are_shared_until_each_has_its_part() -> None:
    """Two connections that always ask end up with half each."""
    clients = _Clients()
    for _ in range(10):
        await clients.call("greedy")
    have = {"greedy": 10, "new": 0}
    for _ in range(10):
        await clients.call("new")
        await clients.end("greedy")
        have["greedy"] -= 1
        for connection in ("greedy", "new", "greedy", "new"):
            have[connection] += await clients.call(connection)

    assert {"greedy": 5, "new": 5} == have
    await clients.close()


async def test_a_place_is_kept_for_a_moment_only() -> None:
    """A client that does not come back costs the others a place for seconds."""
    clients = _Clients()
    for _ in range(10):
        await clients.call("greedy")
    await clients.call("gone")
    await clients.end("greedy")
    before = await clients.call("greedy")
    clients.clock.advance(WANTED_FOR + 1)

    assert (False, True) == (before, await clients.call("greedy"))
    await clients.close()


async def test_shares_are_forgotten_once_there_is_room() -> None:
    """Nothing stays behind of connections that are gone."""
    clients = _Clients()
    for _ in range(10):
        await clients.call("greedy")
    await clients.call("other")
    await clients.end("greedy")
    await clients.call("other")
    await clients.end("other")
    await clients.end("greedy", 9)

    assert not clients.target.places.is_short
    assert [True] * 10 == [await clients.call("late") for _ in range(10)]
    await clients.close()


# -- requests under way ------------------------------------------------------------------------------------------------


async def test_a_call_takes_its_place_when_its_request_is_complete() -> None:
    """Requests that never come keep nobody out; a target that streams is reached at once."""
    complete = asyncio.Event()

    class Uploading(RunningCall):
        async def read_all(self) -> bytes:
            await complete.wait()
            return b""

    for gathers, taken in ((True, 0), (False, 1)):
        target = TargetFigures("orders")
        call = Uploading()
        call.has_ended = False
        task = call.run(_layer(_wait_for_ever, target, gathers=gathers))
        await asyncio.sleep(0)
        assert taken == target.in_flight
        complete.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 1 == target.in_flight
        task.cancel()
        await asyncio.wait([task])
        complete.clear()


# -- built-in services -------------------------------------------------------------------------------------------------


async def test_open_calls_of_a_builtin_service_are_limited() -> None:
    """On a connection, and in the process; places are given back."""
    layer = admit_builtin(_wait_for_ever, name="a.Watch", calls=3, calls_of_one=2)
    tasks = []
    for connection in ("a", "a", "b"):
        call = RunningCall()
        call.connection = connection
        tasks.append(call.run(layer))
    await asyncio.sleep(0)

    for connection in ("a", "c"):
        refused = RecordingCall()
        refused.connection = connection
        with pytest.raises(Overloaded, match="at most 2 on a connection and 3 in the process") as caught:
            await layer(refused)
        assert "builtin_calls" == caught.value.reason
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = RunningCall().run(layer)
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
    await asyncio.wait([again])
