"""Converter: what is cheap is converted at once and a little at a time, all else elsewhere; what it makes counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from bridge.conversion.converter import MAX_HERE, Conversions, Converter, LoopShare
from bridge.conversion.pool import ConversionPool
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.errors import (
    BadReply,
    BuffersFull,
    MalformedRequest,
    MessageTooLarge,
    Overloaded,
    ReplyTooLarge,
)
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.message_json import UnusableMessage

pytestmark = pytest.mark.real_clock  # processes answer

ORDERS = load_descriptors(Path(__file__).parents[2] / "crossing" / "orders")
ECHO = "/orders.v1.Orders/Echo"
LARGE = 64 << 20


class Bench:
    def __init__(self, *, buffers: int = 1 << 30) -> None:
        self.account = OpenAccount(Buffers(buffers))
        self.conversions = Conversions(buffers=self.account.buffers)
        self._converter: Converter = self.conversions.converter(ORDERS)

    async def to_json(self, message: bytes, *, max_size: int = LARGE) -> bytes:
        return await self._converter.to_json(ECHO, message, max_size=max_size, account=self.account)

    async def from_json(self, text: bytes, *, max_size: int = LARGE) -> bytes:
        return await self._converter.from_json(ECHO, text, max_size=max_size, account=self.account)

    @property
    def pool(self) -> ConversionPool:
        return self.conversions._pool

    @property
    def has_begun(self) -> bool:
        """Whether a process was needed."""
        return bool(self.pool._workers)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.conversions.close()


def order(**fields: Any) -> bytes:
    message: bytes = GetMessageClass(ORDERS.message("orders.v1.Order"))(**fields).SerializeToString()
    return message


async def test_small_messages_are_converted_at_once(bench: Bench) -> None:
    text = await bench.to_json(order(id="7", note="x" * 9000))
    message = await bench.from_json(text)

    assert "7" == json.loads(text)["id"]
    assert order(id="7", note="x" * 9000) == message
    assert not bench.has_begun


DEAR_MESSAGES = {
    "large": order(note="x" * MAX_HERE),
    "empty messages": order(parts=[{}] * 8000),
    "a Struct": order(extra={"a": list(range(1200))}),
}


@pytest.mark.parametrize("shape", DEAR_MESSAGES)
async def test_dear_messages_are_converted_elsewhere(bench: Bench, shape: str) -> None:
    message = DEAR_MESSAGES[shape]

    text = await bench.to_json(message)

    assert bench.has_begun
    assert shape == "large" or len(message) < MAX_HERE
    assert message == await bench.from_json(text)


DEAR_JSON = {
    "large": b'{"note":"%b"}' % (b"x" * MAX_HERE),
    "empty messages": b'{"parts":[%b{}]}' % (b"{}," * 4000),
    "a map": b'{"itemCounts":{%b"z":1}}' % b"".join(b'"%d":1,' % number for number in range(1600)),
    "numbers": b'{"extra":{"a":[%b1]}}' % (b"1," * 6000),
}


@pytest.mark.parametrize("shape", DEAR_JSON)
async def test_dear_json_is_converted_elsewhere(bench: Bench, shape: str) -> None:
    text = DEAR_JSON[shape]

    assert await bench.from_json(text)

    assert bench.has_begun
    assert shape == "large" or len(text) < MAX_HERE


@pytest.mark.parametrize("size", [10, 2 * MAX_HERE])
async def test_errors_are_the_same_here_and_there(bench: Bench, size: int) -> None:
    """What is wrong with a message does not depend on where that is found."""
    padding = "x" * size
    text = json.dumps({"id": padding}).encode()
    wrong = json.dumps({"id": padding, "totalCents": "x"}).encode()
    with pytest.raises(MalformedRequest, match="the request is not a orders"):
        await bench.to_json(order(id=padding) + b"\xff")
    with pytest.raises(MessageTooLarge, match="more than 9 bytes of JSON, the most that its target"):
        await bench.to_json(order(id=padding), max_size=9)
    with pytest.raises(BadReply, match=r"JSON is no orders\.v1\.Order, in totalCents"):
        await bench.from_json(wrong)
    with pytest.raises(ReplyTooLarge, match=r"is above max_response \(9 bytes\)"):
        await bench.from_json(text, max_size=9)

    assert bench.has_begun is (size > MAX_HERE)


async def test_small_messages_of_a_wide_type_are_converted_elsewhere() -> None:
    """Each two bytes are a message that prints 500 defaults."""
    file = FileDescriptorProto(name="wide.proto", package="wide", syntax="proto3")
    wide = file.message_type.add(name="Wide")
    for number in range(2, 500):
        wide.field.add(name=f"f{number}", number=number, type=FieldDescriptorProto.TYPE_INT32, label=1)
    wide.field.add(name="parts", number=1, type_name=".wide.Wide", label=3, type=FieldDescriptorProto.TYPE_MESSAGE)
    service = file.service.add(name="S")
    service.method.add(name="M", input_type=".wide.Wide", output_type=".wide.Wide")
    account = OpenAccount(Buffers(1 << 30))
    conversions = Conversions(buffers=account.buffers)
    converter = conversions.converter(Descriptors([file.SerializeToString()], name="wide"))
    try:
        message = b"\x0a\x00" * 60
        text = await converter.to_json("/wide.S/M", message, max_size=LARGE, account=account)
        begun = bool(conversions._pool._workers)
        again = await converter.from_json("/wide.S/M", text, max_size=LARGE, account=account)
    finally:
        await conversions.close()

    assert begun
    assert len(text) > 200_000
    assert message == again


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"parts":[' * 100_000,
        b'{"a":' * 100_000,
        b'{"extra":' + b'{"a":' * 3000,
        b'{"totalCents":1e999999999}',
        b'{"totalCents":' + b"9" * 1_000_000 + b"}",
        b'{"totalCents":"' + b"9" * 10_000 + b'"}',
        b'{"leadTime":"' + b"9" * 10_000 + b's"}',
        b'{"createdAt":"' + b"9" * 10_000 + b'Z"}',
        b'{"ratio":' + b"9" * 15_000 + b".1}",
        b'{"weight":1e999999999}',
    ],
    ids=lambda text: f"{text[:12].decode()}-{len(text)}",
)
async def test_hostile_json(bench: Bench, text: bytes) -> None:
    """It is refused with a status of its own, wherever it is read."""
    with pytest.raises(BadReply):
        await bench.from_json(text)


@pytest.mark.parametrize("size", [9000, 2 * MAX_HERE])
async def test_results_count(bench: Bench, size: int) -> None:
    """For the call that holds them; the memory of the conversion does not count any more."""
    text = await bench.to_json(order(note="x" * size))
    message = await bench.from_json(text)

    assert len(text) + len(message) == bench.account.held == bench.account.buffers.held


async def test_a_result_that_does_not_fit() -> None:
    bench = Bench(buffers=8000)
    with pytest.raises(BuffersFull):
        await bench.to_json(order(note="x" * 9000))

    assert 0 == bench.account.held


async def test_a_reply_that_is_refused_may_have_run() -> None:
    """The function has answered: nothing may repeat the call."""
    bench = Bench(buffers=1000)
    with pytest.raises(Overloaded) as refused:
        await bench.from_json(DEAR_JSON["large"])

    assert refused.value.may_have_run


# -- LoopShare ---------------------------------------------------------------------------------------------------------


class Turns:
    """Counts turns of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self._is_over = False

    async def run(self) -> None:
        while not self._is_over:
            await asyncio.sleep(0)
            self.count += 1

    def stop(self) -> None:
        self._is_over = True


async def test_many_conversions_are_spread_over_turns() -> None:
    """A hundred that take half of a turn's time take fifty turns, in the order asked."""
    share, turns, order_done = LoopShare(1000.0), Turns(), list[int]()

    async def convert(number: int) -> None:
        await share.take(500.0)
        order_done.append(number)

    counting = asyncio.get_running_loop().create_task(turns.run())
    await asyncio.gather(*(convert(number) for number in range(100)))
    turns.stop()
    await counting

    assert turns.count >= 49
    assert list(range(100)) == order_done


async def test_small_ones_share_a_turn() -> None:
    share, turns = LoopShare(1000.0), Turns()
    counting = asyncio.get_running_loop().create_task(turns.run())

    await asyncio.gather(*(share.take(1.0) for _ in range(500)))
    turns.stop()
    await counting

    assert turns.count <= 5


async def test_one_that_takes_more_than_a_turn_has_one_for_itself() -> None:
    share = LoopShare(10.0)

    for _ in range(3):
        await share.take(100.0)


async def test_those_that_leave_are_passed_over() -> None:
    share = LoopShare(10.0)
    loop = asyncio.get_running_loop()
    await share.take(10.0)
    leaving = [loop.create_task(share.take(10.0)) for _ in range(3)]
    staying = loop.create_task(share.take(10.0))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()

    await staying

    assert not share._waiting


async def test_a_person_s_messages_are_converted_elsewhere_within_their_memory(bench: Bench) -> None:
    """However small: what they hold may be anything. Their processes know the set until it is closed."""
    messages = bench.conversions.messages(ORDERS)

    message = await messages.read("orders.v1.Order", b'{"id":"7"}', max_size=LARGE)
    text = await messages.print("orders.v1.Order", message, max_size=LARGE)
    details = await messages.print_details(b"")
    with pytest.raises(UnusableMessage, match="no field named"):
        await messages.read("orders.v1.Order", b'{"no":1}', max_size=LARGE)
    messages.close()

    assert (order(id="7"), b'{"id":"7"}', b"[]") == (message, text, details)
    assert bench.has_begun
    assert 0 == bench.account.buffers.held


async def test_a_message_that_takes_too_much_memory_is_refused(bench: Bench) -> None:
    """The process lives on."""
    messages = bench.conversions.messages(ORDERS)
    bomb = b"\x42\x00" * 1_500_000

    with pytest.raises((UnusableMessage, BuffersFull)):
        await messages.print("orders.v1.Order", bomb, max_size=LARGE)

    assert b"{}" == await messages.print("orders.v1.Order", b"", max_size=LARGE)
