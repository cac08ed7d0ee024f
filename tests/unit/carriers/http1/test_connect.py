"""Connecting: addresses are raced, the first wins, and no socket is left over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from bridge.carriers.http1.connect import race
from bridge.carriers.http1.resolver import SocketAddress

STAGGER = 0.001


def address(name: str) -> SocketAddress:
    return (socket.AF_INET, (name, 443))


class FakeNetwork:
    """Addresses that answer, fail, or swallow everything."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.opened: dict[str, socket.socket] = {}
        self.refusing: set[str] = set()
        self.silent: dict[str, asyncio.Event] = {}

    async def open(self, place: SocketAddress) -> socket.socket:
        name = place[1][0]
        self.tried.append(name)
        if name in self.silent:
            try:
                await self.silent[name].wait()
            except asyncio.CancelledError:
                if not self.silent[name].is_set():
                    raise
        if name in self.refusing:
            raise ConnectionRefusedError(111, name)
        self.opened[name] = socket.socket()
        return self.opened[name]

    def is_closed(self, name: str) -> bool:
        return self.opened[name].fileno() == -1


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    made = FakeNetwork()
    yield made
    for opened in made.opened.values():
        opened.close()


async def test_first_address_wins_alone(network: FakeNetwork) -> None:
    won = await race([address("a"), address("b")], network.open, stagger=STAGGER)

    assert network.opened["a"] is won
    assert ["a"] == network.tried


async def test_failure_brings_the_next_address_at_once(network: FakeNetwork) -> None:
    """A refusal is not waited on."""
    network.refusing = {"a", "b"}
    async with asyncio.timeout(1):
        won = await race([address("a"), address("b"), address("c")], network.open, stagger=60)

    assert network.opened["c"] is won


async def test_blackhole_is_overtaken(network: FakeNetwork) -> None:
    """An address that swallows everything costs one stagger, and its attempt is ended."""
    network.silent["a"] = asyncio.Event()
    won = await race([address("a"), address("b")], network.open, stagger=STAGGER)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert network.opened["b"] is won
    assert ["a", "b"] == network.tried
    assert 1 == len(asyncio.all_tasks())


async def test_loser_that_connects_after_all_is_closed(network: FakeNetwork) -> None:
    """An attempt that succeeds in the turn in which it is ended leaves no socket open."""
    network.silent = {"a": asyncio.Event()}
    racing = asyncio.get_running_loop().create_task(race([address("a"), address("b")], network.open, stagger=STAGGER))
    while "b" not in network.tried:
        await asyncio.sleep(0)
    network.silent["a"].set()
    won = await racing
    for _ in range(3):
        await asyncio.sleep(0)
    lost = "a" if won is network.opened["b"] else "b"

    assert {"a", "b"} == set(network.opened)
    assert network.is_closed(lost)


async def test_all_failures_raise_the_last(network: FakeNetwork) -> None:
    network.refusing = {"a", "b"}
    with pytest.raises(ConnectionRefusedError, match="b"):
        await race([address("a"), address("b")], network.open, stagger=STAGGER)


async def test_no_address_is_an_error(network: FakeNetwork) -> None:
    with pytest.raises(OSError, match="no address"):
        await race([], network.open)


async def test_cancelling_ends_every_attempt(network: FakeNetwork) -> None:
    network.silent = {"a": asyncio.Event(), "b": asyncio.Event()}
    racing = asyncio.get_running_loop().create_task(race([address("a"), address("b")], network.open, stagger=STAGGER))
    await asyncio.sleep(STAGGER)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert 1 == len(asyncio.all_tasks())
