"""Streams that last as long as the invocation behind them, on a loop whose clock moves by itself."""

from __future__ import annotations

import asyncio

import pytest

from bridge.carriers.duplex.attached import ENDS_EARLY, LEAVES_EARLY_SECONDS
from bridge.carriers.duplex.carrier import DuplexCarrier
from bridge.config.schema import Duplex
from bridge.rpc.call import Call
from bridge.rpc.errors import ConnectionLost, RpcError
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from bridge.rpc.status import StatusCode
from bridge.targets.grpc_target import GrpcTarget, passed_metadata
from tests.support.served import StreamedCall
from tests.support.simulated_invocations import SimulatedInvocations

MINUTE = 60.0
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0])
"""The head of the frame."""


class Function:
    """A function in full duplex, and the calls to it."""

    def __init__(self, invocations: SimulatedInvocations, settings: Duplex | None = None) -> None:
        self.figures = TargetFigures("greeter")
        self.carrier = DuplexCarrier(
            "greeter",
            invocations,
            place=invocations,
            settings=settings or Duplex(),
            limits=Limits(),
            observer=self.figures,
        )
        loop = asyncio.get_running_loop()
        self._target = GrpcTarget(self.carrier, clock=loop.time, metadata_of=passed_metadata)
        self.errors: list[RpcError] = []
        self.calls = 0
        """That have ended well."""

    def call(self) -> StreamedCall:
        """A call whose client streams."""
        call = StreamedCall("/test.Test/Chat")
        call.has_ended = False
        call.serve(self._handle)
        return call

    async def close(self) -> None:
        await self.carrier.close()
        await asyncio.sleep(0.01)  # both ends of the sockets are closed

    async def _handle(self, call: Call) -> None:
        try:
            await self._target.handle(call)
        except RpcError as error:
            self.errors.append(error)


async def _ask(call: StreamedCall, number: int) -> None:
    """Send the message of this number, and wait for its answer."""
    await call.push(b"%d" % number)
    assert b"%d" % number == (await call.messages(number + 1))[-1]


@pytest.mark.parametrize("pause", [1.0, 7.0, 59.0])
async def test_a_stream_of_ten_minutes_is_served_by_one_invocation(pause: float) -> None:
    """Whether its client talks all the time or hardly ever."""
    invocations = SimulatedInvocations()
    function = Function(invocations)
    call, loop = function.call(), asyncio.get_running_loop()
    began, number = loop.time(), 0
    while loop.time() - began < 10 * MINUTE:
        await _ask(call, number)
        await asyncio.sleep(pause)
        number += 1
    await call.end()
    await call.messages(number + 1)

    assert call.status is not None
    assert StatusCode.OK is call.status.code
    assert 1 == len(invocations.began)
    await asyncio.sleep(10)
    assert 1 == len(invocations.ended)
    assert 5 <= invocations.ended[0] - began - 10 * MINUTE <= 2 * pause + 8
    assert 0 == function.figures.attached_instances == function.figures.instance_calls
    await function.close()


async def test_a_silent_stream_of_ten_minutes_is_asked_for_life_and_no_more_often_than_servers_allow() -> None:
    """gRPC servers end connections that ping more often than every five minutes."""
    invocations = SimulatedInvocations()
    function = Function(invocations)
    call = function.call()
    await _ask(call, 0)
    (server,) = invocations.servers
    receive, heard = server.receive, bytearray()

    def listens(data: bytes, now: float) -> int:
        heard.extend(data)
        return receive(data, now)

    server.receive = listens  # type: ignore[method-assign]  # hears what comes on the wire
    await asyncio.sleep(10 * MINUTE)
    assert 1 == heard.count(PING)
    await _ask(call, 1)
    await call.finish()
    await function.close()


async def test_calls_move_to_the_next_instance_ahead_of_the_time_limit() -> None:
    """It is attached before the first one leaves. The old stream goes on there until the limit, and the text says why
    it ends.
    """
    invocations = SimulatedInvocations(seconds=900.0, start=5.0)
    function = Function(invocations, Duplex(calls=2))
    loop = asyncio.get_running_loop()
    old = function.call()
    await _ask(old, 0)
    began = invocations.began[0]

    await asyncio.sleep(900.0 - LEAVES_EARLY_SECONDS - 1 - (loop.time() - began))
    assert 2 == len(invocations.began)
    assert 2 == function.figures.attached_instances
    assert invocations.began[1] + 5.0 < began + 900.0 - LEAVES_EARLY_SECONDS

    await asyncio.sleep(2)  # the first one takes no new calls now
    new = [function.call() for _ in range(2)]
    for call in new:
        before = loop.time()
        await _ask(call, 0)
        assert loop.time() - before < 1  # nobody waits for a start
    assert 2 == len(invocations.began)
    assert ["request-2"] * 2 == [call.request_id for call in new]
    await _ask(old, 1)

    await asyncio.sleep(900.0 - ENDS_EARLY / 2 - (loop.time() - began))
    (error,) = function.errors
    assert isinstance(error, ConnectionLost)
    assert "time limit" in str(error)
    assert invocations.ended
    assert invocations.ended[0] - began < 900.0
    for call in new:
        await _ask(call, 1)
        await call.finish()
    await function.close()


async def test_short_streams_for_an_hour_meet_no_time_limit() -> None:
    """There is always an instance for the next one, and never a pile of them."""
    invocations = SimulatedInvocations(seconds=900.0, start=2.0)
    function = Function(invocations)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 60 * MINUTE:
        call = function.call()
        for number in range(9):
            before = loop.time()
            await _ask(call, number)
            assert loop.time() - before < 1 or not function.calls
            await asyncio.sleep(3)
        await call.end()
        await call.messages(10)
        function.calls += 1
        assert function.figures.attached_instances <= 2
    assert [] == function.errors
    assert 5 == len(invocations.began)
    await function.close()
    assert 0 == function.figures.attached_instances


async def test_a_successor_that_nobody_needs_ends() -> None:
    """The old stream has ended before its instance left, and no other came."""
    invocations = SimulatedInvocations(seconds=900.0)
    function = Function(invocations)
    loop = asyncio.get_running_loop()
    call = function.call()
    await _ask(call, 0)
    began = invocations.began[0]
    await asyncio.sleep(900.0 - 1.5 * LEAVES_EARLY_SECONDS - (loop.time() - began))
    assert 2 == function.figures.attached_instances
    await call.finish()
    await asyncio.sleep(2 * LEAVES_EARLY_SECONDS)
    assert 2 == len(invocations.began) == len(invocations.ended)
    assert 900.0 <= invocations.ended[1] - began < 900.0 + 5 + 2
    await function.close()
