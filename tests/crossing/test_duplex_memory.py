"""Calls in full duplex whose one side does not read: what the bridge and the function hold of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import stream_unary, unary_stream, unary_unary
from tests.support.duplex_chat import all_of, configured
from tests.support.duplex_function import resident

pytestmark = pytest.mark.slow

STREAMS = 20
MEBIBYTE = 1 << 20
MESSAGES = 200
"""Of a mebibyte, in each stream: 4 GB in all."""
HELD_BY_BRIDGE = 128 * MEBIBYTE
HELD_BY_FUNCTION = 256 * MEBIBYTE
"""At most, for all streams together."""
UNREAD: Any = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with running_bridge(tmp_path, configured(calls=2 * STREAMS)) as running:
        yield running


class Memory:
    """What the bridge and the function hold more than at the beginning."""

    def __init__(self, bridge: RunningBridge, channel: grpc.aio.Channel) -> None:
        self._bridge = bridge
        self._function = unary_unary(channel, "/test.Test/Memory")
        self._before = (0, 0)

    async def begin(self) -> None:
        self._before = await self._now()

    async def grown(self) -> tuple[int, int]:
        """The bridge's and the function's, once neither grows any more."""
        last = (-1, -1)
        while (now := await self._now()) != last:
            last = now
            await asyncio.sleep(0.5)
        return now[0] - self._before[0], now[1] - self._before[1]

    async def _now(self) -> tuple[int, int]:
        """In steps of four mebibytes: the function's own work goes on."""
        found: bytes = await self._function(b"")
        step = 4 * MEBIBYTE
        return resident(self._bridge.process.pid) // step * step, int(found) // step * step


async def test_clients_that_do_not_read_hold_the_function_back(bridge: RunningBridge) -> None:
    async with (
        grpc.aio.insecure_channel(bridge.address) as asking,
        grpc.aio.insecure_channel(bridge.address, UNREAD) as channel,
    ):
        memory = Memory(bridge, asking)
        await memory.begin()
        calls = [unary_stream(channel, "/test.Test/Flood")(b"%d" % MESSAGES) for _ in range(STREAMS)]
        assert {MEBIBYTE} == {len(each) for each in await all_of(call.read() for call in calls)}
        of_bridge, of_function = await memory.grown()
        print(f"clients do not read: bridge {of_bridge >> 20} MiB, function {of_function >> 20} MiB")
        assert of_bridge < HELD_BY_BRIDGE
        assert of_function < HELD_BY_FUNCTION
        assert {MEBIBYTE} == {len(each) for each in await all_of(call.read() for call in calls)}
        for call in calls:
            call.cancel()


async def test_a_function_that_does_not_read_holds_its_clients_back(bridge: RunningBridge) -> None:
    async def uploads(call: Any) -> None:
        for number in range(MESSAGES):
            await call.write(b"30" if not number else bytes(MEBIBYTE))
            sent[call] = number

    sent: dict[Any, int] = {}
    async with (
        grpc.aio.insecure_channel(bridge.address) as asking,
        grpc.aio.insecure_channel(bridge.address, UNREAD) as channel,
    ):
        memory = Memory(bridge, asking)
        await memory.begin()
        calls = [stream_unary(channel, "/test.Test/Hold")() for _ in range(STREAMS)]
        uploading = [asyncio.get_running_loop().create_task(uploads(call)) for call in calls]
        await asyncio.sleep(2)
        of_bridge, of_function = await memory.grown()
        print(f"servicers do not read: bridge {of_bridge >> 20} MiB, function {of_function >> 20} MiB")
        assert of_bridge < HELD_BY_BRIDGE
        assert of_function < HELD_BY_FUNCTION
        assert max(sent.values()) < MESSAGES / 4
        for task, call in zip(uploading, calls, strict=True):
            task.cancel()
            call.cancel()
