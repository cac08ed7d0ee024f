"""Connection: its states, its time limits, its calls; the clock is passed in and the socket is a list of bytes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bridge.http2.events import ErrorCode
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.http2.preface import HTTP1_ANSWER
from bridge.rpc.call import Call, Handler
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import Draining
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message
from bridge.rpc.limits import ConnectionLimits
from bridge.rpc.status import StatusCode
from bridge.server.connection import Connection
from bridge.server.timeouts import ConnectionState
from tests.support.h2_client import H2Client
from tests.support.serving import MemoryTransport, MemoryWire, echo, serving, wait_for_ever

_HELLO = envelope(b"hello")
_ALL_STREAMS = (1 << 31) - 1
_ENGINES: list[Callable[[EngineLimits], Engine]] = [H2Engine, NativeEngine]


@pytest.fixture(params=_ENGINES, ids=["h2", "native"])
def new_engine(request: pytest.FixtureRequest) -> Callable[[EngineLimits], Engine]:
    engine: Callable[[EngineLimits], Engine] = request.param
    return engine


def _wire(
    handler: Callable[[Call], object] = echo,
    client: H2Client | None = None,
    engine: Callable[[EngineLimits], Engine] = H2Engine,
    **limits: float | None,
) -> MemoryWire:
    return MemoryWire(
        serving(handler, connection=ConnectionLimits(**limits), new_engine=engine),  # type: ignore[arg-type]  # floats by name
        client,
    )


# -- requests that are no calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replaced", "http_status", "kind"),
    [
        ({"method": "GET"}, "405", "bad_method"),
        ({"content_type": "application/json"}, "415", "bad_content_type"),
        ({"content_type": "application/grpc-web"}, "415", "bad_content_type"),
    ],
)
async def test_request_that_is_no_call_is_answered_and_counted(
    replaced: dict[str, Any],
    http_status: str,
    kind: str,
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """In HTTP and in gRPC; the connection goes on."""
    wire = _wire(engine=new_engine)
    client = await wire.open()
    odd = client.call(b"", **replaced)
    good = client.call(_HELLO)
    await wire.settle()

    assert http_status == client.replies[odd].fields[":status"]
    assert client.replies[odd].data.endswith(b"\n")
    assert StatusCode.INTERNAL == client.replies[odd].status[0]
    assert 0 == client.replies[good].status[0]
    assert 1 == wire.figures.protocol_errors[kind]
    await wire.close()


async def test_request_that_is_no_call_is_answered_when_it_has_ended() -> None:
    """Its body is taken and dropped; one that does not end is answered after a while, one that is reset is not."""
    wire = _wire(engine=NativeEngine)
    client = await wire.open()
    ended, endless, reset = [client.call(b"{", method="PUT", ended=False) for _ in range(3)]
    client.h2.reset_stream(reset)
    await wire.settle()
    before = [client.replies[stream].fields for stream in (ended, endless)]
    client.send(ended, b"}" * 20_000, ended=True)
    await wire.settle()
    between = client.replies[endless].fields
    wire.later(11)
    await wire.settle()

    assert ([{}, {}], {}) == (before, between)
    for stream in (ended, endless):
        assert "405" == client.replies[stream].fields[":status"]
        assert StatusCode.INTERNAL == client.replies[stream].status[0]
    assert ErrorCode.NO_ERROR == client.replies[endless].reset
    assert {} == client.replies[reset].fields
    assert (set(), 0) == (set(wire.connection.engine.open_streams), wire.figures.streams_open)
    await wire.close()


async def test_repeated_header_block_is_read_once_and_right() -> None:
    """Calls that look alike share what was read; calls that differ do not."""
    paths: list[str] = []

    async def note(call: Call) -> None:
        paths.append(call.path)
        call.send(OK_TRAILERS)

    wire = _wire(note, engine=NativeEngine)
    client = await wire.open()
    for path in ("/a.B/C", "/a.B/C", "/a.B/D", "/a.B/C"):
        client.call(_HELLO, path=path)
        await wire.settle()

    assert ["/a.B/C", "/a.B/C", "/a.B/D", "/a.B/C"] == paths
    await wire.close()


async def test_http1_request_gets_an_http1_answer(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """And the connection is closed."""
    wire = _wire(engine=new_engine)
    wire.connection.received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = wire.transport.take()

    assert HTTP1_ANSWER == answer
    assert wire.transport.is_closing()
    assert 1 == wire.figures.protocol_errors["http1"]
    await wire.close()


# -- the ends of calls -------------------------------------------------------------------------------------------------


async def test_reset_in_the_read_of_its_headers_ends_the_call_once(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """The handler's layers run and see it; the handler does not."""
    seen: list[object] = []

    async def never(call: Call) -> None:
        seen.append("handler")

    def watched(inner: Callable[[Call], object]) -> Callable[[Call], object]:
        async def outer(call: Call) -> None:
            await inner(call)  # type: ignore[misc]  # a handler
            seen.append(call.status)

        return outer

    wire = MemoryWire(serving(never, layer=watched, new_engine=new_engine))  # type: ignore[arg-type]  # a layer
    client = await wire.open()
    stream = client.call(ended=False)
    client.h2.reset_stream(stream, ErrorCode.CANCEL)
    await wire.settle()

    assert [StatusCode.CANCELLED] == [status.code for status in seen]  # type: ignore[attr-defined]  # a Status
    assert 0 == wire.figures.streams_open
    await wire.close()


async def test_lost_connection_cancels_every_call(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """And is forgotten."""
    ends: list[str] = []

    async def wait(call: Call) -> None:
        try:
            await wait_for_ever(call)
        finally:
            ends.append(str(call.cause))

    wire = _wire(wait, engine=new_engine)
    client = await wire.open()
    for _ in range(3):
        client.call(_HELLO)
    await wire.settle()
    open_before = (wire.figures.connections_open, wire.figures.streams_open)
    wire.connection.connection_lost(ConnectionResetError())
    await asyncio.wait(tuple(wire.connection.calls.tasks))

    assert ["the connection was lost"] * 3 == ends
    assert ((1, 3), (0, 0)) == (
        open_before,
        (wire.figures.connections_open, wire.figures.streams_open),
    )
    assert set() == wire.connections
    assert wire.connection.closed.done()


async def test_broken_connection_cancels_its_calls_at_once(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """A frame against the rules: GOAWAY, close, and no call runs on for a socket that nobody reads."""
    causes: list[str] = []

    async def wait(call: Call) -> None:
        try:
            await wait_for_ever(call)
        finally:
            causes.append(str(call.cause))

    wire = _wire(wait, engine=new_engine)
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()
    client.raw(b"\x00\x00\x01\x06\x00\x00\x00\x00\x00x")  # a PING of one byte
    await wire.settle()

    assert [ErrorCode.FRAME_SIZE_ERROR] == [code for _, code, _ in client.goaways]
    assert ["the client broke the protocol"] == causes
    assert 0 == wire.figures.streams_open
    await wire.close()


async def test_bytes_after_the_end_are_ignored() -> None:
    """What was already on its way when we closed."""
    wire = _wire()
    client = await wire.open()
    wire.connection.close()
    client.call(_HELLO)
    wire.connection.received(client.bytes_to_send())

    assert 0 == wire.figures.streams_open
    await wire.close()


# -- leaving -----------------------------------------------------------------------------------------------------------


async def test_drain_says_goaway_twice_and_loses_no_call(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """A call that crosses the first GOAWAY is served; after the PING's answer the last stream is named."""
    wire = _wire(engine=new_engine)
    client = await wire.open()
    client.answers_pings = False
    first = client.call(ended=False)
    await wire.settle()
    wire.connection.leave()
    crossing = client.call(_HELLO)
    await wire.settle()
    told = list(client.goaways)
    client.raw(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + client.pings[-1])
    await wire.settle()
    state = wire.connection.state
    client.send(first, _HELLO, ended=True)
    await wire.settle()

    assert [(_ALL_STREAMS, 0, b"")] == told
    assert (crossing, 0, b"") == client.goaways[-1]
    assert ConnectionState.DRAINING is state
    assert [(0, ""), (0, "")] == [client.replies[each].status for each in (crossing, first)]
    assert wire.transport.is_closing()
    await wire.close()


async def test_drain_goes_on_without_an_answer_to_its_ping() -> None:
    """After five seconds, as grpc-go waits."""
    wire = _wire()
    client = await wire.open()
    client.answers_pings = False
    client.call(ended=False)
    await wire.settle()
    wire.connection.leave()
    wire.later(4.9)
    still = wire.connection.state
    wire.later(5.1)
    await wire.settle()

    assert (ConnectionState.LEAVING, ConnectionState.DRAINING) == (still, wire.connection.state)
    assert 2 == len(client.goaways)
    await wire.close()


async def test_call_after_the_second_goaway_is_refused(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """REFUSED_STREAM or silence: the client knows that it was not processed and goes elsewhere."""
    wire = _wire(engine=new_engine)
    client = await wire.open()
    client.call(ended=False)
    await wire.settle()
    wire.connection.leave()
    await wire.settle()
    late = client.call(_HELLO)
    await wire.settle()

    assert ConnectionState.DRAINING is wire.connection.state
    assert client.goaways[-1][0] < late
    assert {} == client.replies[late].fields
    assert 1 == wire.figures.streams_open
    await wire.close()


async def test_connection_that_never_spoke_is_hardly_waited_for() -> None:
    """It has no call to lose, but its first one may be on its way."""
    wire = _wire(client=H2Client())
    wire.connection.leave()
    wire.later(0.4)
    early = wire.transport.is_closing()
    wire.later(0.6)
    await wire.settle()

    assert (False, True) == (early, wire.transport.is_closing())
    await wire.close()


async def test_first_call_that_crosses_the_drain_is_served(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """The client connected, and the drain began before its first bytes arrived."""
    wire = _wire(client=H2Client(), engine=new_engine)
    wire.client.answers_pings = False
    wire.connection.leave()
    client = await wire.open()
    first = client.call(_HELLO)
    await wire.settle()

    assert (0, "") == client.replies[first].status
    assert [(_ALL_STREAMS, 0, b"")] == client.goaways
    await wire.close()


# -- time --------------------------------------------------------------------------------------------------------------


async def test_handshake_has_its_time() -> None:
    """A connection that says nothing costs little, and not for ever."""
    wire = _wire(handshake=10.0)
    wire.later(9.9)
    early = wire.transport.is_closing()
    wire.later(10.1)

    assert (False, True) == (early, wire.transport.is_closing())
    assert 1 == wire.figures.protocol_errors["handshake_timeout"]
    await wire.close()


async def test_header_block_has_its_time(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """HEADERS without END_HEADERS stop the whole connection."""
    wire = _wire(engine=new_engine, handshake=10.0)
    client = await wire.open()
    client.raw(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83")
    await wire.settle()
    wire.later(10.1)

    assert wire.transport.is_closing()
    assert 1 == wire.figures.protocol_errors["header_timeout"]
    await wire.close()


async def test_silent_client_is_pinged_and_then_given_up() -> None:
    """Its calls are cancelled with it."""
    wire = _wire(wait_for_ever, keepalive_interval=300.0, keepalive_timeout=20.0)
    client = await wire.open()
    client.answers_pings = False
    client.call(_HELLO)
    await wire.settle()
    wire.later(299)
    await wire.settle()
    quiet = list(client.pings)
    wire.later(301)
    await wire.settle()
    wire.later(320)
    patient = wire.transport.is_closing()
    wire.later(322)
    await wire.settle()

    assert ([], 1, False) == (quiet, len(client.pings), patient)
    assert [(0, b"keepalive_timeout")] == [(code, reason) for _, code, reason in client.goaways]
    assert 0 == wire.figures.streams_open
    await wire.close()


async def test_client_that_answers_its_ping_stays(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """Any byte from it will do."""
    wire = _wire(wait_for_ever, engine=new_engine)
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()
    wire.later(301)
    await wire.settle()
    wire.connection._times.last_received += 301  # the answer's time, as the clock would have it
    wire.later(322)

    assert 1 == len(client.pings)
    assert not wire.transport.is_closing()
    await wire.close()


async def test_old_connection_is_asked_to_leave() -> None:
    """Within 10 % of its age; its calls have the grace to finish, then end UNAVAILABLE, then it closes."""
    wire = _wire(wait_for_ever, max_age=100.0, grace=25.0, keepalive_interval=1e9)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    wire.later(89)
    young = list(client.goaways)
    wire.later(111)
    await wire.settle()
    wire.later(24)
    patient = client.replies[stream].has_ended
    wire.later(26)
    await wire.settle()

    assert ([], False) == (young, patient)
    assert (_ALL_STREAMS, 0, b"max_age") == client.goaways[0]
    assert StatusCode.UNAVAILABLE == client.replies[stream].status[0]
    assert wire.transport.is_closing()
    await wire.close()


async def test_old_connection_closes_even_if_its_reply_is_not_read() -> None:
    """After the grace nothing is waited for."""

    async def answer(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        call.send(Message(envelope(b"x" * 1000)))
        call.send(OK_TRAILERS)

    wire = _wire(answer, H2Client(window=100), grace=25.0)
    wire.client.takes_data = False
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()
    wire.connection.leave()
    await wire.settle()
    waiting = wire.transport.is_closing()
    wire.later(26)

    assert (False, True) == (waiting, wire.transport.is_closing())
    await wire.close()


async def test_idle_connection_is_asked_to_leave() -> None:
    """Counted from the end of its last call; one with a call in flight is not idle."""
    wire = _wire(wait_for_ever, idle=60.0)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    wire.later(61)
    await wire.settle()
    busy = list(client.goaways)
    client.h2.reset_stream(stream)
    await wire.settle()
    wire.later(61)
    await wire.settle()

    assert [] == busy
    assert (_ALL_STREAMS, 0, b"max_idle") == client.goaways[0]
    assert wire.transport.is_closing()
    await wire.close()


async def test_client_that_takes_no_bytes_is_cut_off() -> None:
    """The socket's buffer was full for a minute: nothing queued would leave by waiting longer."""
    wire = _wire(wait_for_ever, write_stall=60.0)
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()
    wire.connection.pause_writing()
    wire.later(59)
    early = wire.transport.was_aborted
    wire.later(61)
    await wire.settle()

    assert (False, True) == (early, wire.transport.was_aborted)
    assert 1 == wire.figures.protocol_errors["write_stall"]
    assert 0 == wire.figures.streams_open
    await wire.close()


async def test_client_that_takes_not_even_the_last_bytes_is_cut_off() -> None:
    """A closed connection does not wait for ever to be gone."""
    wire = _wire(write_stall=60.0)
    await wire.open()
    wire.connection.close()
    wire.later(59)
    early = wire.transport.was_aborted
    wire.later(61)

    assert (False, True) == (early, wire.transport.was_aborted)
    await wire.close()


async def test_reply_that_nobody_reads_is_dropped(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """The call is over and counts no more; its last message leaves the client's window or, in time, the memory."""

    async def answer(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        call.send(Message(envelope(b"x" * 1000)))
        call.send(OK_TRAILERS)

    wire = _wire(answer, H2Client(window=100), engine=new_engine, keepalive_interval=1e9)
    wire.client.takes_data = False
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    queued = wire.connection.engine.queued_bytes
    wire.later(0)
    wire.later(299)
    await wire.settle()
    patient = client.replies[stream].reset
    wire.later(301)
    await wire.settle()

    assert (905, None) == (queued, patient)
    assert ErrorCode.CANCEL == client.replies[stream].reset
    assert (0, 1) == (
        wire.connection.engine.queued_bytes,
        wire.figures.protocol_errors["unread_reply"],
    )
    await wire.close()


# -- the rest ----------------------------------------------------------------------------------------------------------


async def test_calls_can_be_ended_from_outside() -> None:
    """As the drain does when its time is over."""
    wire = _wire(wait_for_ever)
    client = await wire.open()
    streams = [client.call(_HELLO) for _ in range(3)]
    await wire.settle()
    wire.connection.calls.abort(Draining("stopping"))
    await wire.settle()

    assert [(StatusCode.UNAVAILABLE, "stopping")] * 3 == [client.replies[stream].status for stream in streams]
    await wire.close()


class CountingTransport(MemoryTransport):
    writes = 0

    def write(self, data: bytes) -> None:  # type: ignore[override]  # bytes are what the connection writes
        self.writes += 1
        super().write(data)


async def _echo_whole(call: Call) -> None:
    call.send_all([EMPTY_HEADERS, Message(await call.read_all()), OK_TRAILERS])


@pytest.mark.parametrize("handler", [echo, _echo_whole])
async def test_replies_of_one_turn_leave_in_one_write(handler: Handler) -> None:
    """A write costs more than a reply."""
    wire = _wire(handler, engine=NativeEngine)
    wire.transport = CountingTransport(wire.connection)
    wire.connection.outflow.start(wire.transport)
    client = await wire.open()
    for _ in range(20):
        client.call(_HELLO)
    wire.transport.writes = 0
    wire.connection.received(client.bytes_to_send())
    for _ in range(5):
        await asyncio.sleep(0)

    assert wire.transport.writes <= 2
    client.receive(wire.transport.take())
    assert all(reply.status == (0, "") for reply in client.replies.values())
    await wire.close()


async def test_whole_reply_to_the_only_call_leaves_at_once() -> None:
    """With no other to wait for, a turn of the loop would only make it late."""
    wire = _wire(_echo_whole, engine=NativeEngine)
    client = await wire.open()
    stream = client.call(_HELLO)
    wire.connection.received(client.bytes_to_send())
    await asyncio.sleep(0)
    client.receive(wire.transport.take())

    assert (0, "") == client.replies[stream].status
    await wire.close()


async def test_connections_share_one_buffer() -> None:
    """Each read is copied out before the next one overwrites it."""
    bodies: list[bytes] = []

    async def note(call: Call) -> None:
        bodies.append(await call.read_all())
        call.send(OK_TRAILERS)

    served = serving(note)
    connections = [Connection(served, set()) for _ in range(2)]
    for number, connection in enumerate(connections):
        connection.connection_made(MemoryTransport(connection))
        client = H2Client()
        client.call(envelope(b"%d" % number * 100))
        data = client.bytes_to_send()
        connection.get_buffer(-1)[: len(data)] = data
        connection.buffer_updated(len(data))
    await asyncio.wait([task for each in connections for task in each.calls.tasks])

    assert [envelope(b"0" * 100), envelope(b"1" * 100)] == bodies
    for connection in connections:
        connection.connection_lost(None)
