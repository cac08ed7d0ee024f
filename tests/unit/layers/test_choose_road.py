"""Which calls go to a function in full duplex."""

from __future__ import annotations

import asyncio

import pytest

from bridge.layers.choose_road import (
    NOT_DUPLEX_FOR,
    PATIENCE_AFTER_MESSAGE,
    PATIENCE_FOR_MESSAGE,
    Use,
    choose_road,
)
from bridge.rpc.call import Call
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import NotDuplex
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message
from bridge.rpc.limits import Limits
from bridge.rpc.status import StatusCode
from tests.support.h2_client import H2Client
from tests.support.serving import MemoryWire, echo_each, serving

ONE, TWO = envelope(b"one"), envelope(b"two" * 100)


async def gathered(call: Call) -> None:
    """Answers with the whole request."""
    body = await call.read_all()
    call.send(EMPTY_HEADERS)
    call.send(Message(envelope(b"whole")))
    call.send(Message(body))
    call.send(OK_TRAILERS)


class Roads:
    """Both roads of a function, and what it is known to do."""

    def __init__(self, use: Use = "auto", *, streams: bool | None = None, knows_duplex: bool = True) -> None:
        self.streams = streams
        self.knows_duplex = knows_duplex
        self.asked: list[Call] = []
        """Calls that were sent in full duplex."""
        self.now = 0.0
        self._use = use

    async def _duplex(self, call: Call) -> None:
        self.asked.append(call)
        await asyncio.sleep(0)
        if not self.knows_duplex:
            raise NotDuplex("it does not connect")
        await echo_each(call)

    def wire(self, **options: object) -> MemoryWire:
        handler = choose_road(
            gathered,
            self._duplex,
            use=self._use,
            client_streams=lambda path: self.streams,
            clock=lambda: self.now,
        )
        return MemoryWire(serving(handler, **options))  # type: ignore[arg-type]  # the options of `serving`


def whole(body: bytes) -> bytes:
    return envelope(b"whole") + body


async def _after(wire: MemoryWire, seconds: float) -> None:
    await wire.settle()
    await asyncio.sleep(seconds)
    await wire.settle()


# -- a method that is known --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("use", "streams"), [("auto", True), ("always", None), ("always", False), ("always", True)])
async def test_messages_pass_as_they_come(use: Use, streams: bool | None) -> None:
    wire = Roads(use, streams=streams).wire()
    client = await wire.open()
    stream = client.call(ended=False)
    for number in range(3):
        client.send(stream, envelope(b"%d" % number))
        await wire.settle()
        assert b"".join(envelope(b"%d" % each) for each in range(number + 1)) == bytes(client.replies[stream].data)
    client.send(stream, b"", ended=True)
    await wire.settle()
    assert StatusCode.OK == client.replies[stream].status[0]
    await wire.close()


async def test_a_method_whose_client_does_not_stream_is_gathered() -> None:
    """However long its one message takes."""
    roads = Roads(streams=False)
    wire = roads.wire()
    client = await wire.open()
    stream = client.call(ended=False)
    await _after(wire, 2 * PATIENCE_FOR_MESSAGE)
    client.send(stream, ONE)
    await _after(wire, 2 * PATIENCE_AFTER_MESSAGE)
    client.send(stream, b"", ended=True)
    await wire.settle()

    assert (whole(ONE), 0) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


# -- one that nobody has described -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[ONE], [ONE[:3], ONE[3:]], [TWO[:7], TWO[7:100], TWO[100:]], [b""]])
async def test_a_client_that_ends_its_side_is_gathered(pieces: list[bytes]) -> None:
    roads = Roads()
    wire = roads.wire()
    client = await wire.open()
    stream = client.call(ended=False)
    for piece in pieces[:-1]:
        client.send(stream, piece)
        await wire.settle()
    client.send(stream, pieces[-1], ended=True)
    await wire.settle()

    assert (whole(b"".join(pieces)), 0) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


async def test_a_client_that_ends_its_side_a_little_later_is_gathered() -> None:
    """grpc-js and others end their side in a frame of its own."""
    roads = Roads()
    wire = roads.wire()
    client = await wire.open()
    stream = client.call(ended=False)
    client.send(stream, ONE)
    await _after(wire, PATIENCE_AFTER_MESSAGE / 2)
    client.send(stream, TWO)
    client.send(stream, b"", ended=True)
    await wire.settle()

    assert (whole(ONE + TWO), 0) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


async def test_a_client_that_goes_on_after_its_message_gets_full_duplex() -> None:
    """Every message reaches the function, those that had come before too."""
    roads = Roads()
    wire = roads.wire()
    client = await wire.open()
    stream = client.call(ended=False)
    client.send(stream, ONE)
    await _after(wire, 2 * PATIENCE_AFTER_MESSAGE)
    assert ONE == bytes(client.replies[stream].data)
    client.send(stream, TWO, ended=True)
    await wire.settle()

    assert (ONE + TWO, 1) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


async def test_a_client_that_waits_for_the_server_gets_full_duplex() -> None:
    roads = Roads()
    wire = roads.wire()
    client = await wire.open()
    stream = client.call(ended=False)
    await _after(wire, PATIENCE_FOR_MESSAGE / 2)
    assert not roads.asked
    await _after(wire, PATIENCE_FOR_MESSAGE)
    assert 1 == len(roads.asked)
    client.send(stream, ONE, ended=True)
    await wire.settle()

    assert ONE == bytes(client.replies[stream].data)
    await wire.close()


async def test_a_message_larger_than_the_window_is_waited_for() -> None:
    """Looking for the first message lets the client send on, and what it sends is gathered once."""
    large = envelope(bytes(3 << 20))
    roads = Roads()
    wire = roads.wire(limits=Limits(max_request=4 << 20, max_buffered=8 << 20))
    client = await wire.open()
    stream = client.call(ended=False)
    sent = 0
    while sent < len(large):
        room = client.h2.local_flow_control_window(stream)
        client.send(stream, large[sent : sent + room])
        sent += room
        await wire.settle()
    client.send(stream, b"", ended=True)
    while not client.replies[stream].has_ended:
        await wire.settle()

    assert (whole(large), 0) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


async def test_a_message_that_is_too_large_is_refused_before_it_has_come() -> None:
    wire = Roads().wire(limits=Limits(max_request=100))
    client = await wire.open()
    stream = client.call(ended=False)
    client.send(stream, TWO[:50])
    await wire.settle()

    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[stream].status[0]
    await wire.close()


# -- a function that does not connect ----------------------------------------------------------------------------------


async def _streamed(wire: MemoryWire, client: H2Client) -> int:
    stream = client.call(ended=False)
    client.send(stream, ONE)
    await wire.settle()
    client.send(stream, TWO, ended=True)
    await wire.settle()
    return stream


async def test_auto_gathers_for_a_function_that_does_not_connect_and_remembers_it() -> None:
    roads = Roads(streams=True, knows_duplex=False)
    wire = roads.wire()
    client = await wire.open()
    for _ in range(3):
        stream = await _streamed(wire, client)
        assert whole(ONE + TWO) == bytes(client.replies[stream].data)
    assert 1 == len(roads.asked)

    roads.now = NOT_DUPLEX_FOR + 1
    roads.knows_duplex = True
    stream = await _streamed(wire, client)
    assert (ONE + TWO, 2) == (bytes(client.replies[stream].data), len(roads.asked))
    await wire.close()


async def test_always_says_that_the_function_does_not_connect() -> None:
    roads = Roads("always", knows_duplex=False)
    wire = roads.wire()
    client = await wire.open()
    for _ in range(2):
        stream = client.call(ONE)
        await wire.settle()
        assert (StatusCode.UNIMPLEMENTED, "it does not connect") == client.replies[stream].status
    assert 2 == len(roads.asked)
    await wire.close()


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("streams", "ends"), [(True, False), (False, True)])
async def test_only_a_gathered_call_must_send_something(streams: bool, ends: bool) -> None:
    """`http2.stream_idle` holds for requests that are read whole. A client in full duplex may be silent."""
    wire = Roads(streams=streams).wire()
    client = await wire.open()
    stream = client.call(ended=False)
    await wire.settle()
    wire.later(1e4)
    await wire.settle()

    assert ends == client.replies[stream].has_ended
    await wire.close()
