"""Large work is spread over the loop's turns."""

from __future__ import annotations

import asyncio

import pytest

from bridge.carriers.http1.large_replies import LargeReplyGate


async def test_each_gets_a_turn_of_its_own() -> None:
    """In the order asked for, and what else is ready is served in between."""
    turns, order = LargeReplyGate(), []

    async def work(name: str) -> None:
        await turns.next()
        order.append(name)

    async def small() -> None:
        for _ in range(8):
            order.append(".")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(work(name))
        tasks.create_task(small())

    assert ["a", "b", "c"] == [name for name in order if name != "."]
    assert not any(pair in "".join(order) for pair in ("ab", "bc", "ac"))


async def test_whoever_gives_up_costs_no_turn() -> None:
    turns = LargeReplyGate()
    loop = asyncio.get_running_loop()
    first, second, third = (loop.create_task(turns.next()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(first, third)

    with pytest.raises(asyncio.CancelledError):
        await second
