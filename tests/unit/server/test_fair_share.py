"""Connections that send more than is served at once take turns, and those that send little do not wait for them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from itertools import pairwise

import pytest

from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.call import Call
from bridge.rpc.envelope import envelope
from bridge.rpc.events import OK_TRAILERS
from bridge.server import fair_share
from bridge.server.connection import Connection, ServerContext
from bridge.server.fair_share import FairShare
from bridge.server.timeouts import ConnectionState
from tests.support.frames import PREFACE, FrameFactory, raw
from tests.support.serving import MemoryTransport, MemoryWire, echo, serving, wait_for_ever

EMPTY_MESSAGE = raw(0x0, 0, 1, bytes(5))
FLOOD = EMPTY_MESSAGE * 5000
"""70 KB: far more work than a turn has time for."""


def native(handler: object = wait_for_ever) -> ServerContext:
    return serving(handler, new_engine=NativeEngine, engine=EngineLimits())  # type: ignore[arg-type]  # a handler


def connected(served: ServerContext) -> tuple[Connection, MemoryTransport]:
    connection = Connection(served, set())
    transport = MemoryTransport(connection)
    connection.connection_made(transport)
    return connection, transport


def attacking(served: ServerContext) -> tuple[Connection, MemoryTransport]:
    """With one call, whose body does not end."""
    connection, transport = connected(served)
    make = FrameFactory()
    connection.received(PREFACE + make.settings() + make.headers(1))
    return connection, transport


def has_read(connection: Connection) -> int:
    """Bytes of the attacker's body that its call has got."""
    return connection.calls[1].bytes_received


async def ended(*connections: Connection) -> None:
    for connection in connections:
        connection.connection_lost(None)
    await asyncio.wait([task for each in connections for task in each.calls.tasks])


async def test_a_flood_is_served_a_part_in_each_turn() -> None:
    """Nothing is read from the socket meanwhile; in the end all of it has been served, and reading goes on."""
    connection, transport = attacking(native())
    await asyncio.sleep(0)
    connection.received(FLOOD)
    first, takes_bytes = has_read(connection), transport.takes_bytes
    parts = [first]
    while connection._intake.has_work_left:
        await asyncio.sleep(0)
        parts.append(has_read(connection))

    assert 0 < first < 5 * 1000
    assert not takes_bytes
    assert parts == sorted({*parts})
    assert 5 * 5000 == has_read(connection)
    await asyncio.sleep(0)
    assert transport.takes_bytes
    await ended(connection)


@pytest.mark.parametrize("attackers", [1, 50])
async def test_a_call_beside_a_flood_takes_turns_and_no_more(attackers: int) -> None:
    """However many connections attack at once: the neighbour is answered while their bytes wait."""
    served = native(echo)
    floods = [attacking(served)[0] for _ in range(attackers)]
    neighbour = MemoryWire(served)
    client = await neighbour.open()
    for connection in floods:
        connection.received(FLOOD)
    stream = client.call(envelope(b"hello"))
    neighbour.connection.received(client.bytes_to_send())
    for _ in range(4):
        await asyncio.sleep(0)
    client.receive(neighbour.transport.take())

    assert (0, "") == client.replies[stream].status
    assert all(connection._intake.has_work_left for connection in floods)
    await neighbour.close()
    await ended(*floods)


async def test_bytes_that_come_while_a_connection_waits_keep_their_order() -> None:
    """As a TLS layer may hand them over: nothing overtakes, nothing is lost."""
    bodies: list[bytes] = []

    async def note(call: Call) -> None:
        bodies.append(await call.read_all())
        call.send(OK_TRAILERS)

    connection, _ = attacking(native(note))
    messages = [envelope(number.to_bytes(3, "big")) for number in range(3000)]
    frames = b"".join([raw(0x0, number == 2999, 1, message) for number, message in enumerate(messages)])
    for at in range(0, len(frames), 10_001):
        connection.received(frames[at : at + 10_001])
    while connection._intake.has_work_left or connection.calls.tasks:
        await asyncio.sleep(0)

    assert b"".join(messages) == bodies[0]
    connection.connection_lost(None)


async def test_calls_begin_some_in_each_turn() -> None:
    """A header block is short, a call is not."""
    served = native()
    connection, _ = connected(served)
    make = FrameFactory()
    connection.received(PREFACE + make.settings())
    connection.received(b"".join([make.request(number) for number in range(1, 401, 2)]))
    begun = [len(connection.calls.tasks)]
    while connection._intake.has_work_left:
        await asyncio.sleep(0)
        begun.append(len(connection.calls.tasks))
    new = [after - before for before, after in pairwise(begun)]

    assert begun[0] <= fair_share.CALLS_AT_ONCE
    assert max(new) <= fair_share.CALLS_AT_ONCE
    assert 200 == begun[-1]
    await ended(connection)


async def test_calls_are_cancelled_some_in_each_turn() -> None:
    """By resets, which are 13 bytes each, and when their connection is lost: each ends, once."""
    ended_at: list[int] = []
    turn = 0

    async def note_end(call: Call) -> None:
        try:
            await wait_for_ever(call)
        finally:
            ended_at.append(turn)

    connection, _ = connected(native(note_end))
    make = FrameFactory()
    ids = range(1, 1201, 2)
    connection.received(PREFACE + make.settings())
    connection.received(b"".join([make.headers(number) for number in ids]))
    while len(connection.calls.tasks) < 600 or connection._intake.has_work_left:
        await asyncio.sleep(0)
    connection.received(b"".join([make.rst_stream(number) for number in ids[:300]]))
    while len(ended_at) < 300:
        turn += 1
        await asyncio.sleep(0)
    connection.connection_lost(None)
    while connection.calls.tasks:
        turn += 1
        await asyncio.sleep(0)

    assert 600 == len(ended_at)
    assert max(Counter(ended_at).values()) <= 130


async def test_what_waits_is_bounded() -> None:
    """Reads become small while much waits, and what waits is given back when it is served or lost."""
    served = native()
    share = served.share
    floods = [attacking(served)[0] for _ in range(300)]
    whole = len(share.buffer())
    for connection in floods:
        connection.received(FLOOD[: 64 << 10])
    while_much_waits = len(share.buffer())
    held = share.waiting_bytes
    await ended(*floods)

    assert 64 << 10 == whole
    assert 2 << 10 == while_much_waits
    assert held > 16 << 20
    assert 0 == share.waiting_bytes


async def test_a_client_that_takes_nothing_is_not_served_on() -> None:
    """Its backlog waits until it has taken what there is for it."""
    connection, transport = attacking(native())
    await asyncio.sleep(0)
    connection.received(FLOOD)
    connection.pause_writing()
    for _ in range(3):
        await asyncio.sleep(0)
    before = has_read(connection)
    await asyncio.sleep(0)
    after = has_read(connection)
    connection.resume_writing()
    while connection._intake.has_work_left:
        await asyncio.sleep(0)

    assert before == after < 5 * 5000 == has_read(connection)
    await asyncio.sleep(0)
    assert transport.takes_bytes
    await ended(connection)


async def test_a_flood_that_ends_its_connection_is_dropped() -> None:
    connection, _ = attacking(native())
    connection.received(FLOOD + raw(0x0, 0, 0, b"no stream") + FLOOD)
    while connection._intake.has_work_left and connection.state is ConnectionState.OPEN:
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert ConnectionState.CLOSED is connection.state
    assert not connection._intake.has_work_left
    assert 0 == connection._intake._share.waiting_bytes
    await asyncio.wait(connection.calls.tasks or [connection.closed])


# -- the share by itself -----------------------------------------------------------------------------------------------


class Worker:
    """A connection with so many units of work; each step notes its name."""

    def __init__(self, name: str, units: int, steps: deque[str]) -> None:
        self.name = name
        self.units = units
        self.steps = steps
        self.calls = 0

    def go_on(self, until: float) -> int:
        self.units -= 1
        self.steps.append(self.name)
        return self.calls

    @property
    def is_behind(self) -> bool:
        return self.units > 0


async def test_all_that_wait_have_their_turn() -> None:
    steps: deque[str] = deque()
    share = FairShare()
    for name, units in (("a", 3), ("b", 1), ("c", 2)):
        share.wait(Worker(name, units, steps))
    while len(steps) < 6:
        await asyncio.sleep(0)

    assert "abcaca" == "".join(steps)


async def test_a_turn_ends_when_enough_calls_have_begun() -> None:
    steps: deque[str] = deque()
    share = FairShare()
    for name in "abcd":
        worker = Worker(name, 1, steps)
        worker.calls = fair_share.CALLS_AT_ONCE // 2
        share.wait(worker)
    turns = []
    while len(steps) < 4:
        await asyncio.sleep(0)
        turns.append(len(steps))

    assert [2, 4] == [turn for turn in turns if turn]


async def test_a_light_connection_is_served_when_the_turns_time_is_spent() -> None:
    """A heavy one is not, until the loop's next turn."""
    share = FairShare()
    at_first = share.has_time(1e9, now=5.0, began=100.0)
    spent = 100.0 + fair_share.TURN
    heavy = share.has_time(spent + 0.1, now=5.0, began=spent)
    light = share.has_time(0.0, now=5.0, began=spent)
    next_turn = share.has_time(1e9, now=5.002, began=spent)

    assert (True, False, True, True) == (at_first, heavy, light, next_turn)


async def test_calls_count_as_time() -> None:
    """What they cost comes later."""
    share = FairShare()
    share.has_time(0.0, now=5.0, began=100.0)
    share.light_from(100.0, fair_share.CALLS_AT_ONCE)

    assert not share.has_time(1e9, now=5.0, began=100.0)
