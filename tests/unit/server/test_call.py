"""ServedCall: gathering, reading, sending, limits, and what it gives back; through a real engine, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import pytest

from bridge.http2.events import ErrorCode
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.call import Call
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import DeadlineExceeded, RpcError
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, Phase, Trailers
from bridge.rpc.limits import ConnectionLimits, Limits
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode
from bridge.server.call import SEND_STALL
from tests.support.h2_client import H2Client
from tests.support.serving import MemoryWire, echo, echo_each, serving, wait_for_ever

_ENGINES: list[Callable[[EngineLimits], Engine]] = [H2Engine, NativeEngine]
_HELLO = envelope(b"hello")


@pytest.fixture(params=_ENGINES, ids=["h2", "native"])
def new_engine(request: pytest.FixtureRequest) -> Callable[[EngineLimits], Engine]:
    engine: Callable[[EngineLimits], Engine] = request.param
    return engine


def _wire(handler: Callable[[Call], object] = echo, **options: object) -> MemoryWire:
    return MemoryWire(serving(handler, **options))  # type: ignore[arg-type]  # the options of `serving`


# -- gathering --------------------------------------------------------------------------------------------------------


async def test_body_is_gathered_and_answered(new_engine: object) -> None:
    """In whatever pieces it comes; each message counts."""
    wire = _wire(new_engine=new_engine)
    client = await wire.open()
    body = _HELLO + envelope(b"x" * 100) + envelope(b"")
    stream = client.call(ended=False)
    for at in range(0, len(body), 7):
        client.send(stream, body[at : at + 7], ended=at + 7 >= len(body))
        await wire.settle()

    assert body == client.replies[stream].data
    assert (0, "") == client.replies[stream].status
    assert (0, 0) == (wire.figures.buffers.held, wire.figures.streams_open)
    await wire.close()


async def test_body_can_be_gathered_again() -> None:
    """A retry asks for it once more and gets the same bytes."""
    seen: list[object] = []

    async def twice(call: Call) -> None:
        seen.extend([await call.read_all(), await call.read_all(), call.messages_received])
        call.send(OK_TRAILERS)

    wire = _wire(twice)
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()

    assert [_HELLO, _HELLO, 1] == seen
    await wire.close()


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"\x00\x00\x00\x00\x09short", StatusCode.INTERNAL, "middle of a message"),
        (b"\x80\x00\x00\x00\x00", StatusCode.INTERNAL, "flag byte 0x80"),
        (
            b"\x00\x00\x00\x00\xff",
            StatusCode.RESOURCE_EXHAUSTED,
            "255 bytes is above max_request (100 bytes)",
        ),
        (_HELLO * 30, StatusCode.RESOURCE_EXHAUSTED, "larger than max_buffered (200 bytes)"),
        (envelope(b"x", flags=1), StatusCode.INTERNAL, "names no grpc-encoding"),
    ],
)
async def test_request_above_a_limit_or_against_the_protocol_is_refused(
    body: bytes, code: StatusCode, text: str
) -> None:
    """Each with its reason; nothing stays held."""
    wire = _wire(limits=Limits(max_request=100, max_buffered=200))
    client = await wire.open()
    stream = client.call(body)
    await wire.settle()
    status = client.replies[stream].status

    assert code == status[0]
    assert text in status[1]
    assert 0 == wire.figures.buffers.held
    await wire.close()


async def test_declared_length_refuses_before_the_message_comes() -> None:
    """The client is told while it has sent five bytes, and that it may stop (RST_STREAM NO_ERROR)."""
    wire = _wire(limits=Limits(max_request=100))
    client = await wire.open()
    stream = client.call(b"\x00\x00\x00\x00\xff", ended=False)
    await wire.settle()

    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[stream].status[0]
    assert ErrorCode.NO_ERROR == client.replies[stream].reset
    await wire.close()


async def test_first_reason_to_refuse_counts() -> None:
    """What follows a message that is too large is not looked at, whatever it looks like."""
    go = asyncio.Event()

    async def late(call: Call) -> None:
        await go.wait()
        await echo(call)

    wire = _wire(late, limits=Limits(max_request=100))
    client = await wire.open()
    stream = client.call(b"\x00\x00\x00\x00\xff", ended=False)
    client.send(stream, b"\x99" * 10)
    await wire.settle()
    go.set()
    await wire.settle()

    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[stream].status[0]
    await wire.close()


async def test_compressed_message_with_a_named_encoding_passes() -> None:
    """What the encoding is, the function must know."""
    wire = _wire()
    client = await wire.open()
    stream = client.call(envelope(b"x", flags=1), ("grpc-encoding", "snappy"))
    await wire.settle()

    assert 0 == client.replies[stream].status[0]
    await wire.close()


@pytest.mark.parametrize("read_first", [False, True])
async def test_messages_are_read_one_by_one_after_all(read_first: bool, new_engine: object) -> None:
    """Of a body that came whole. Once it has been read in one go nothing is left, and the client's window is not opened
    twice.
    """
    seen: list[object] = []

    async def read(call: Call) -> None:
        if read_first:
            seen.append(await call.read_all())
        seen.extend([await call.read_envelope(), await call.read_envelope()])
        seen.append(call.messages_received)
        call.send(OK_TRAILERS)

    wire = _wire(read, new_engine=new_engine)
    client = await wire.open()
    await wire.settle()
    window = client.h2.outbound_flow_control_window
    for _ in range(1200):
        client.call(envelope(b"x" * 16_000))
        await wire.settle()

    big = envelope(b"x" * 16_000)
    assert ([big, None, None, 1] if read_first else [big, None, 1]) == seen[: 4 if read_first else 3]
    assert client.h2.outbound_flow_control_window <= window
    assert 0 == wire.figures.buffers.held
    await wire.close()


@pytest.mark.parametrize("is_gathered", [True, False])
async def test_a_request_that_has_been_taken_is_not_refused_later(is_gathered: bool) -> None:
    """Whatever others have filled the buffers with since it came: what is too much is refused when it comes."""
    go = asyncio.Event()

    async def late(call: Call) -> None:
        await go.wait()
        if is_gathered:
            await call.read_all()
        else:
            while await call.read_envelope() is not None:
                pass
        call.send(OK_TRAILERS)

    wire = _wire(late, max_buffered=10_000)
    client = await wire.open()
    taken = client.call(envelope(b"x" * 2000) * 2)
    await wire.settle()
    too_much = client.call(envelope(b"x" * 4000) * 2)
    await wire.settle()
    wire.figures.buffers.held += 10_000
    go.set()
    await wire.settle()
    wire.figures.buffers.held -= 10_000

    assert 0 == client.replies[taken].status[0]
    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[too_much].status[0]
    assert 0 == wire.figures.buffers.held
    await wire.close()


async def test_process_that_holds_too_much_refuses() -> None:
    """`buffers` counts the bytes of all calls; the call that passes it is refused and gives its own back."""
    wire = _wire(wait_for_ever, max_buffered=150)
    client = await wire.open()
    client.call(b"\x00\x00\x00\x00\x64" + b"x" * 95, ended=False)
    await wire.settle()
    held = wire.figures.buffers.held
    wire.serving.resolve("").handler = echo
    second = client.call(b"\x00\x00\x00\x00\x64" + b"x" * 95, ended=False)
    await wire.settle()

    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[second].status[0]
    assert (100, 100) == (held, wire.figures.buffers.held)
    client.h2.reset_stream(1)
    await wire.settle()
    assert 0 == wire.figures.buffers.held
    await wire.close()


class _Answers:
    """A handler whose calls answer 100 bytes, one at a time as they are let."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)

    async def __call__(self, call: Call) -> None:
        await call.read_all()
        await self.let.acquire()
        call.send(EMPTY_HEADERS)
        if not call.send(Message(envelope(b"x" * 95))):
            await call.writable()
        call.send(OK_TRAILERS)


async def test_replies_that_a_client_does_not_take_count_as_held(new_engine: object) -> None:
    """With its windows shut it cannot fill the memory: beyond `buffers` replies are dropped, and at its end all is
    given back.
    """
    answers = _Answers()
    served = serving(answers, max_buffered=250, new_engine=new_engine)  # type: ignore[arg-type]  # a parameter of the test
    wire = MemoryWire(served, H2Client(window=0))
    client = await wire.open()
    streams = [client.call(envelope(b"")) for _ in range(4)]
    held = []
    for _ in streams:
        answers.let.release()
        await wire.settle()
        held.append(wire.figures.buffers.held)

    assert held[-1] == held[-2] - 5, "the last call keeps nothing, and has given its request back"
    assert 300 <= held[-1] < 400
    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[streams[-1]].status[0]
    await wire.close()
    assert 0 == wire.figures.buffers.held


async def test_replies_that_a_client_does_not_take_leave_room_for_other_calls(
    new_engine: object,
) -> None:
    """Calls are refused while the buffers are full, those of all clients. One client that reads nothing must not keep
    them so.
    """
    answers = _Answers()
    served = serving(answers, max_buffered=1680, new_engine=new_engine)  # type: ignore[arg-type]  # a parameter of the test
    wire = MemoryWire(served, H2Client(window=0))
    client = await wire.open()
    streams = [client.call(envelope(b"")) for _ in range(30)]
    held = []
    for _ in streams:
        answers.let.release()
        await wire.settle()
        held.append(wire.figures.buffers.held)

    assert 1400 < max(held) < 1680
    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[streams[-1]].status[0]
    await wire.close()
    assert 0 == wire.figures.buffers.held


async def test_a_reply_that_its_client_gives_up_is_held_no_longer(new_engine: object) -> None:
    """At once: until the next look at the clock, other calls would be refused for bytes that are gone."""
    wire = MemoryWire(
        serving(echo, new_engine=new_engine),  # type: ignore[arg-type]  # a parameter of the test
        H2Client(window=0),
    )
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    held = wire.figures.buffers.held
    client.h2.reset_stream(stream, ErrorCode.CANCEL)
    await wire.settle()

    assert len(_HELLO) == held
    assert 0 == wire.figures.buffers.held
    await wire.close()


async def test_a_client_that_takes_its_replies_gets_them_while_another_does_not() -> None:
    """Who fills the buffers loses replies, nobody else."""
    answers = _Answers()
    served = serving(answers, max_buffered=250, new_engine=NativeEngine)
    slow, fast = MemoryWire(served, H2Client(window=0)), MemoryWire(served)
    slow_client, fast_client = await slow.open(), await fast.open()
    for _ in range(3):
        slow_client.call(envelope(b""))
    await slow.settle()
    stream = fast_client.call(envelope(b""))
    await fast.settle()
    for _ in range(4):
        answers.let.release()
        await slow.settle()
        await fast.settle()

    assert served.figures.buffers.held > 250
    assert 0 == fast_client.replies[stream].status[0]
    await slow.close()
    await fast.close()


async def test_what_the_socket_does_not_take_counts_too() -> None:
    """The windows may be wide open: bytes then wait behind a client that does not read."""
    wire = _wire()
    client = await wire.open()
    wire.transport.unsent = 1000
    wire.later(1)
    held = wire.figures.buffers.held
    wire.transport.unsent = 0
    client.call(_HELLO)
    await wire.settle()

    assert (1000, 0) == (held, wire.figures.buffers.held)
    await wire.close()


async def test_nothing_is_kept_of_what_a_lost_client_did_not_take() -> None:
    """Its replies go with its connection, not some time later."""
    answers = _Answers()
    wire = MemoryWire(serving(answers, new_engine=NativeEngine), H2Client(window=0))
    client = await wire.open()
    client.call(envelope(b""))
    answers.let.release()
    await wire.settle()
    waiting = wire.connection.engine.queued_bytes
    await wire.close()

    assert (100, 0) == (waiting, wire.connection.engine.queued_bytes)
    assert [] == list(wire.connection.engine.open_streams)


# -- reading message by message ---------------------------------------------------------------------------------------


async def test_messages_are_read_as_they_come(new_engine: object) -> None:
    """The answer to the first is there before the second is sent."""
    wire = _wire(echo_each, new_engine=new_engine)
    client = await wire.open()
    stream = client.call(_HELLO, ended=False)
    await wire.settle()
    first = bytes(client.replies[stream].data)
    client.send(stream, envelope(b"again"), ended=True)
    await wire.settle()

    assert _HELLO == first
    assert _HELLO + envelope(b"again") == client.replies[stream].data
    assert 0 == wire.figures.buffers.held
    await wire.close()


async def test_partial_message_counts_as_held() -> None:
    """It waits in memory, wherever exactly."""
    wire = _wire(echo_each)
    client = await wire.open()
    stream = client.call(_HELLO[:7], ended=False)
    await wire.settle()
    held = wire.figures.buffers.held
    client.send(stream, _HELLO[7:] + _HELLO[:3])
    await wire.settle()

    assert (7, 3) == (held, wire.figures.buffers.held)
    await wire.close()
    assert 0 == wire.figures.buffers.held


async def test_stream_that_ends_inside_a_message_fails() -> None:
    """After the whole ones have been answered."""
    wire = _wire(echo_each)
    client = await wire.open()
    stream = client.call(_HELLO + b"\x00\x00")
    await wire.settle()

    assert _HELLO == client.replies[stream].data
    assert StatusCode.INTERNAL == client.replies[stream].status[0]
    await wire.close()


# -- windows ----------------------------------------------------------------------------------------------------------


async def test_client_that_filled_its_window_before_anybody_read_goes_on(
    new_engine: object,
) -> None:
    """The credit for what is gathered late leaves by itself: the client, its window shut, sends nothing that would
    carry it.
    """
    go = asyncio.Event()

    async def late(call: Call) -> None:
        await go.wait()
        await echo(call)

    wire = _wire(late, new_engine=new_engine, engine=EngineLimits(stream_window=1000))
    client = await wire.open()
    body = envelope(b"x" * 1995)
    stream = client.call(body[:1000], ended=False)
    await wire.settle()
    shut = client.h2.local_flow_control_window(stream)
    go.set()
    await wire.settle()
    client.send(stream, body[1000:], ended=True)
    await wire.settle()

    assert 0 == shut
    assert 0 == client.replies[stream].status[0]
    await wire.close()


@pytest.mark.parametrize("handler", [echo, echo_each, wait_for_ever])
async def test_body_of_an_aborted_call_is_credited_once(handler: Callable[[Call], object], new_engine: object) -> None:
    """Gathered, cut up or never read: after the reset the connection's window is what it was, no less and no more."""
    limits = EngineLimits(connection_window=70_000, stream_window=20_000)
    wire = _wire(handler, new_engine=new_engine, engine=limits)
    client = await wire.open()
    for _ in range(20):
        stream = client.call(b"\x00\x00\x01\x00\x00" + b"x" * 15_995, ended=False)
        await wire.settle()
        client.h2.reset_stream(stream)
        await wire.settle()
    window = client.h2.outbound_flow_control_window

    assert limits.connection_window // 2 <= window <= limits.connection_window
    assert 0 == wire.figures.buffers.held
    await wire.close()


async def test_data_after_the_answer_is_credited(new_engine: object) -> None:
    """A client that goes on sending after our trailers does not use up its neighbours' window."""

    async def answer_at_once(call: Call) -> None:
        call.send(OK_TRAILERS)

    limits = EngineLimits(connection_window=70_000, stream_window=20_000)
    wire = _wire(answer_at_once, new_engine=new_engine, engine=limits)
    client = await wire.open()
    for number in range(20):
        stream = client.call(ended=False)
        frame = (16_000).to_bytes(3, "big") + b"\x00\x00" + stream.to_bytes(4, "big") + bytes(16_000)
        if number % 2:
            await wire.settle()  # late: the trailers are out
        client.raw(frame)
        await wire.settle()

    assert all(reply.status == (0, "") for reply in client.replies.values())
    # h2 does not know of the raw frames, so what the server credits shows as growth over what h2 saw spent.
    assert client.h2.outbound_flow_control_window >= limits.connection_window + 20 * 16_000 - 35_000
    await wire.close()


async def test_shut_window_holds_the_handler_back(new_engine: object) -> None:
    """One message waits in the engine, not a hundred."""
    sent: list[bool] = []

    async def pour(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        for _ in range(100):
            sent.append(call.send(Message(envelope(b"x" * 995))))
            if not sent[-1]:
                await call.writable()
        call.send(OK_TRAILERS)

    wire = MemoryWire(
        serving(pour, new_engine=new_engine),  # type: ignore[arg-type]  # an engine's class
        H2Client(window=1500),
    )
    wire.client.takes_data = False
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    before, queued = list(sent), wire.connection.engine.queued_bytes
    client.takes_data = True
    client.h2.acknowledge_received_data(1500, stream)
    for _ in range(10):
        await wire.settle()

    assert ([True, False], 500) == (before, queued)
    assert (100_000, 0) == (len(client.replies[stream].data), client.replies[stream].status[0])
    await wire.close()


async def test_choked_socket_holds_every_handler_back() -> None:
    """The windows are open, the socket is not: `send` says wait, and the client is not read from."""
    said: list[bool] = []

    async def one_more(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        said.append(call.send(Message(_HELLO)))
        await call.writable()
        call.send(OK_TRAILERS)

    wire = _wire(one_more)
    client = await wire.open()
    stream = client.call(_HELLO, ended=True)
    wire.connection.received(client.bytes_to_send())
    wire.connection.pause_writing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    held = (wire.transport.takes_bytes, len(wire.connection.calls.tasks))
    wire.connection.resume_writing()
    await wire.settle()

    assert ([False], (False, 1)) == (said, held)
    assert 0 == client.replies[stream].status[0]
    await wire.close()


async def test_client_that_never_reads_is_given_up() -> None:
    """Its stream is reset and its call ends."""
    ends: list[RpcError] = []

    async def pour(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        call.send(Message(envelope(b"x" * 1000)))
        try:
            await call.writable()
        except RpcError as error:
            ends.append(error)
            raise

    wire = MemoryWire(serving(pour), H2Client(window=100))
    wire.client.takes_data = False
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    await asyncio.sleep(SEND_STALL - 0.1)
    before = list(ends)
    await asyncio.sleep(0.1)
    await wire.settle()

    assert [] == before
    assert ["ClientGone"] == [error.reason for error in ends]
    assert ErrorCode.CANCEL == client.replies[stream].reset
    assert 0 == wire.connection.engine.queued_bytes
    await wire.close()


# -- rule 12: full duplex towards a target that takes its input whole --------------------------------------------------


async def test_silence_after_a_message_ends_the_call() -> None:
    """Counted from the last byte, to the second, saying what to use instead."""
    wire = _wire(limits=Limits(half_close=60.0))
    client = await wire.open()
    stream = client.call(ended=False)
    await wire.settle()
    await asyncio.sleep(50)
    client.send(stream, _HELLO)
    await wire.settle()
    await asyncio.sleep(59)
    await wire.settle()
    early = client.replies[stream].has_ended
    await asyncio.sleep(1)
    await wire.settle()

    assert not early
    assert StatusCode.UNIMPLEMENTED == client.replies[stream].status[0]
    assert "full duplex needs a grpc:// target" in client.replies[stream].status[1]
    await wire.close()


@pytest.mark.parametrize(("first", "allowed"), [(b"", 60.0), (_HELLO, None)])
async def test_silence_is_allowed(first: bytes, allowed: float | None) -> None:
    """Before the first message, and with `half_close: null`: the deadline decides."""
    wire = _wire(limits=Limits(half_close=allowed))
    client = await wire.open()
    stream = client.call(first, ended=False)
    await wire.settle()
    for _ in range(10):
        await asyncio.sleep(600)
        await wire.settle()

    assert not client.replies[stream].has_ended
    client.send(stream, _HELLO, ended=True)
    await wire.settle()
    assert 0 == client.replies[stream].status[0]
    await wire.close()


# -- the response -----------------------------------------------------------------------------------------------------


async def test_failure_before_headers_is_trailers_only(new_engine: object) -> None:
    """One block opens and ends the response, with the content type that was sent."""

    async def refuse(call: Call) -> None:
        call.send(Trailers(Status(StatusCode.NOT_FOUND, "no such order"), (("x-reason", "gone"),)))

    wire = _wire(refuse, new_engine=new_engine)
    client = await wire.open()
    stream = client.call(_HELLO, content_type="application/grpc+proto")
    await wire.settle()
    reply = client.replies[stream]

    assert {
        ":status": "200",
        "content-type": "application/grpc+proto",
        "grpc-status": "5",
        "grpc-message": "no such order",
        "x-reason": "gone",
    } == reply.fields
    assert (None, True) == (reply.trailers, reply.has_ended)
    await wire.close()


async def test_events_out_of_order_are_errors() -> None:
    """And change nothing: the call can still be ended."""
    outcomes: list[Phase | str] = []

    async def hasty(call: Call) -> None:
        for event in (Message(_HELLO), EMPTY_HEADERS, EMPTY_HEADERS, OK_TRAILERS, OK_TRAILERS):
            try:
                call.send(event)
            except KeyError:
                outcomes.append("refused")
            outcomes.append(call.phase)

    wire = _wire(hasty)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()

    assert [
        *("refused", Phase.NEW, Phase.OPEN),
        *("refused", Phase.OPEN, Phase.DONE),
        *("refused", Phase.DONE),
    ] == outcomes
    assert 0 == client.replies[stream].status[0]
    await wire.close()


@pytest.mark.parametrize("begun", [False, True])
async def test_trailers_that_cannot_be_sent_still_end_the_call(
    begun: bool, new_engine: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that is no text is a bug of ours; the client gets INTERNAL instead of waiting for ever."""

    async def stumble(call: Call) -> None:
        if begun:
            call.send(Headers())
        call.send(Trailers(Status(StatusCode.OK), (("x", None),)))  # type: ignore[arg-type]  # the bug

    wire = _wire(stumble, new_engine=new_engine)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()

    assert StatusCode.INTERNAL == client.replies[stream].status[0]
    assert "a bug in the bridge" in caplog.text
    await wire.close()


@pytest.mark.parametrize(("max_trailers", "client_limit"), [(300, None), (8192, 300)])
async def test_trailers_are_cut_to_the_smaller_limit(
    max_trailers: int, client_limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The configuration's or the client's own; counted and logged. The head of a trailers-only block counts too."""

    async def talk(call: Call) -> None:
        call.send(Trailers(Status(StatusCode.ABORTED, "m" * 1000, b"d" * 1000)))

    wire = MemoryWire(
        serving(talk, limits=Limits(max_trailers=max_trailers)),
        H2Client(max_header_list=client_limit),
    )
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    fields = client.replies[stream].fields
    size = sum(len(name) + len(value) + 32 for name, value in fields.items())

    assert StatusCode.ABORTED == int(fields["grpc-status"])
    assert fields["grpc-message"].endswith(" [cut]")
    assert (300 if client_limit is None else 299) == size  # gRPC-core drops a call that reaches its limit
    assert 1 == wire.figures.shortened_trailers
    assert "trailers cut to" in caplog.text
    await wire.close()


@pytest.mark.parametrize(("max_trailers", "client_limit"), [(300, None), (8192, 300)])
async def test_initial_metadata_is_cut_to_the_smaller_limit(
    max_trailers: int, client_limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the client would drop the call, its messages and its status; counted and logged."""

    async def talk(call: Call) -> None:
        call.send(Headers((("a", "1"), ("huge", "h" * 1000), ("b", "2"))))
        call.send(Message(_HELLO))
        call.send(OK_TRAILERS)

    wire = MemoryWire(
        serving(talk, limits=Limits(max_trailers=max_trailers)),
        H2Client(max_header_list=client_limit),
    )
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    fields = client.replies[stream].fields

    assert ("1", "2", None) == (fields["a"], fields["b"], fields.get("huge"))
    assert 0 == client.replies[stream].status[0]
    assert 1 == wire.figures.shortened_headers
    assert "initial metadata cut to" in caplog.text
    await wire.close()


async def test_the_log_is_told_of_cuts_once_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A client that allows no fields at all would fill it, a line a call; each is counted."""

    async def talk(call: Call) -> None:
        call.send(Trailers(Status(StatusCode.ABORTED, "m" * 100)))

    wire = MemoryWire(serving(talk), H2Client(max_header_list=1))
    client = await wire.open()
    for _ in range(5):
        client.call(_HELLO)
    await wire.settle()

    assert 5 == wire.figures.shortened_trailers
    assert 1 == caplog.text.count("trailers cut to 0 bytes")
    await wire.close()


# -- a whole response of one message -----------------------------------------------------------------------------------


def _unary(size: int = 5, initial: Metadata = (), end: Trailers = OK_TRAILERS) -> Callable[[Call], Awaitable[None]]:
    """A handler that answers so."""

    async def answer(call: Call) -> None:
        await call.read_all()
        call.send_all((Headers(initial), Message(envelope(b"x" * size)), end))

    return answer


async def test_whole_response_is_sent(new_engine: object) -> None:
    """All its parts, whether it is the connection's first or not; counted, and given to nobody's charge once it has
    been taken.
    """
    calls: list[Call] = []
    end = Trailers(Status(StatusCode.OK), (("x-end", "2"),))

    async def answer(call: Call) -> None:
        calls.append(call)
        await _unary(5, (("x-begin", "1"),), end)(call)

    wire = _wire(answer, new_engine=new_engine)
    client = await wire.open()
    for _ in range(3):
        stream = client.call(_HELLO)
        await wire.settle()
        reply = client.replies[stream]

        assert ("1", "2", envelope(b"xxxxx")) == (
            reply.fields["x-begin"],
            (reply.trailers or {})["x-end"],
            bytes(reply.data),
        )
        assert (0, "") == reply.status
        assert (1, 10, Phase.DONE, end.status) == (
            calls[-1].messages_sent,
            calls[-1].bytes_sent,
            calls[-1].phase,
            calls[-1].status,
        )
        assert (0, 0) == (wire.figures.buffers.held, wire.figures.streams_open)
    await wire.close()


async def test_whole_responses_count_as_held_until_the_turn_ends() -> None:
    """Of calls that end in one turn of the loop; the last one sends for all of them."""
    held: list[int] = []

    async def answer(call: Call) -> None:
        await _unary(1000)(call)
        held.append(wire.figures.buffers.held)

    wire = _wire(answer, max_buffered=1 << 20, new_engine=NativeEngine)
    client = await wire.open()
    client.call(_HELLO)
    await wire.settle()
    held.clear()
    for _ in range(3):
        client.call(_HELLO)
    await wire.settle()

    assert [1005 + 30, 2 * 1005 + 20, 10] == held, "replies, and requests of 10 bytes whose calls have not ended"
    assert 0 == wire.figures.buffers.held
    await wire.close()


@pytest.mark.parametrize("max_trailers", [300, 8192])
@pytest.mark.parametrize("client_limit", [None, 300])
async def test_whole_response_is_cut_to_the_limits(
    max_trailers: int, client_limit: int | None, new_engine: object
) -> None:
    """As one that is sent in turn."""
    large = (("a", "1"), ("huge", "h" * 1000), ("b", "2"))
    served = serving(
        _unary(5, large, Trailers(Status(StatusCode.OK), large)),
        limits=Limits(max_trailers=max_trailers),
        new_engine=new_engine,  # type: ignore[arg-type]  # a parameter of the test
    )
    wire = MemoryWire(served, H2Client(max_header_list=client_limit))
    client = await wire.open()
    is_cut = 2 if max_trailers == 300 or client_limit is not None else 0
    for _ in range(2):
        stream = client.call(_HELLO)
        await wire.settle()

        assert ("h" * 1000 if not is_cut else None) == client.replies[stream].fields.get("huge")
        assert ("1", "2") == (
            client.replies[stream].fields["a"],
            client.replies[stream].fields["b"],
        )
        assert 0 == client.replies[stream].status[0]
    assert (is_cut, is_cut) == (wire.figures.shortened_headers, wire.figures.shortened_trailers)
    await wire.close()


async def test_whole_response_is_dropped_where_the_buffers_are_full() -> None:
    """Of a client that has not taken what was sent before; it is dropped whole, and the client is told."""
    go = asyncio.Event()

    async def answer(call: Call) -> None:
        await call.read_all()
        await go.wait()
        await _unary(100)(call)

    wire = _wire(answer, max_buffered=250, new_engine=NativeEngine)
    client = await wire.open()
    go.set()
    first = client.call(_HELLO)
    await wire.settle()
    go.clear()
    second = client.call(_HELLO)
    await wire.settle()
    wire.transport.unsent = 1000
    wire.later(1)
    go.set()
    await wire.settle()
    wire.transport.unsent = 0
    wire.later(1)
    third = client.call(_HELLO)
    await wire.settle()

    codes = [client.replies[stream].status[0] for stream in (first, second, third)]
    assert [0, StatusCode.RESOURCE_EXHAUSTED, 0] == codes
    assert b"" == client.replies[second].data
    await wire.close()


async def test_whole_response_out_of_order_is_an_error() -> None:
    """Behind headers that have left, and behind the end."""
    outcomes: list[object] = []

    async def stumble(call: Call) -> None:
        await call.read_all()
        for _ in range(2):
            call.send(EMPTY_HEADERS) if call.phase is Phase.NEW else call.send(OK_TRAILERS)
            try:
                call.send_all((EMPTY_HEADERS, Message(_HELLO), OK_TRAILERS))
            except KeyError:
                outcomes.append(call.phase)

    wire = _wire(stumble, new_engine=NativeEngine)
    client = await wire.open()
    for _ in range(2):
        stream = client.call(_HELLO)
        await wire.settle()

        assert (0, b"") == (client.replies[stream].status[0], bytes(client.replies[stream].data))
    assert [Phase.OPEN, Phase.DONE] * 2 == outcomes
    await wire.close()


# -- its end ----------------------------------------------------------------------------------------------------------


async def test_first_abort_counts() -> None:
    """And none after the status."""
    calls: list[Call] = []

    async def remember(call: Call) -> None:
        calls.append(call)
        await wait_for_ever(call)

    wire = _wire(remember)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    (call,) = calls
    call.abort(DeadlineExceeded("first"))
    call.abort(DeadlineExceeded("second"))
    await wire.settle()
    call.abort(DeadlineExceeded("third"))

    assert (StatusCode.DEADLINE_EXCEEDED, "first") == client.replies[stream].status
    assert "first" == str(call.cause)
    await wire.close()


async def test_handler_that_ends_without_rescue_resets_the_stream(new_engine: object) -> None:
    """Whatever broke, the client does not wait for a status that nobody will send."""
    wire = _wire(wait_for_ever, new_engine=new_engine)
    client = await wire.open()
    stream = client.call(_HELLO)
    await wire.settle()
    (task,) = wire.connection.calls.tasks
    task.cancel()
    await wire.settle()

    assert ErrorCode.INTERNAL_ERROR == client.replies[stream].reset
    assert 0 == wire.figures.streams_open
    await wire.close()


async def test_call_without_a_deadline_ends_when_its_target_must_have() -> None:
    """Its handler is told of no deadline, and one whose client has set one is left to that."""
    deadlines: list[float | None] = []

    async def wait(call: Call) -> None:
        deadlines.append(call.deadline)
        await wait_for_ever(call)

    wire = _wire(wait, max_call_seconds=1810.0)
    client = await wire.open()
    stream, patient = client.call(_HELLO), client.call(_HELLO, ("grpc-timeout", "1H"))
    await wire.settle()
    now = monotonic()
    wire.connection.check_time(now + 1809)
    await wire.settle()
    had_ended = client.replies[stream].has_ended
    wire.connection.check_time(now + 1811)
    await wire.settle()

    assert deadlines[0] is None
    assert (False, False) == (had_ended, client.replies[patient].has_ended)
    assert StatusCode.DEADLINE_EXCEEDED == client.replies[stream].status[0]
    await wire.close()


async def test_a_deadline_too_far_for_a_timer_bounds_no_more_than_none() -> None:
    """Clients that mean `never` say years; the call must end when its target must have."""
    wire = _wire(wait_for_ever, max_call_seconds=1810.0)
    client = await wire.open()
    stream = client.call(_HELLO, ("grpc-timeout", "48H"))
    await wire.settle()
    wire.connection.check_time(monotonic() + 1811)
    await wire.settle()

    assert StatusCode.DEADLINE_EXCEEDED == client.replies[stream].status[0]
    await wire.close()


async def test_deadline_is_the_earlier_of_the_clients_and_the_routes() -> None:
    """Counted from the headers."""
    left: list[float | None] = []

    async def note(call: Call) -> None:
        left.append(None if call.deadline is None else round(call.deadline - call.started, 6))
        call.send(OK_TRAILERS)

    for timeout in (None, 3.0, 9.0):
        wire = _wire(note, timeout=timeout)
        client = await wire.open()
        client.call(_HELLO)
        client.call(_HELLO, ("grpc-timeout", "5S"))
        await wire.settle()
        await wire.close()

    assert [None, 5.0, 3.0, 3.0, 9.0, 5.0] == left


# -- requests that do not come ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [echo, echo_each])
async def test_a_call_without_a_message_ends(handler: Callable[[Call], object], new_engine: object) -> None:
    """Naming the key; what a call counts for is given back."""
    wire = _wire(
        handler,
        new_engine=new_engine,
        connection=ConnectionLimits(stream_idle=300, keepalive_interval=None),
    )
    client = await wire.open()
    stream = client.call(ended=False)
    await wire.settle()
    wire.later(299)
    await wire.settle()
    before = client.replies[stream].has_ended
    wire.later(302)
    await wire.settle()

    assert not before
    assert StatusCode.DEADLINE_EXCEEDED == client.replies[stream].status[0]
    assert "300 s (http2.stream_idle)" in client.replies[stream].status[1]
    assert (0, 0, 0) == (
        wire.figures.buffers.held,
        wire.serving.uploads.held,
        wire.figures.streams_open,
    )
    await wire.close()


@pytest.mark.parametrize(
    ("options", "ended"),
    [
        ({"streams": True, "connection": ConnectionLimits(keepalive_interval=None)}, False),
        ({"connection": ConnectionLimits(stream_idle=None, keepalive_interval=None)}, False),
        ({"connection": ConnectionLimits(keepalive_interval=None)}, True),
    ],
    ids=["its target streams", "no limit", "half-closed"],
)
async def test_a_call_may_be_silent_for_as_long_as_it_likes(options: dict[str, Any], ended: bool) -> None:
    """Where its target streams, or its client has ended its side."""
    wire = _wire(wait_for_ever, **options)
    client = await wire.open()
    stream = client.call(b"", ended=ended)
    await wire.settle()
    wire.later(100_000)
    await wire.settle()

    assert not client.replies[stream].has_ended
    await wire.close()


@pytest.mark.parametrize("handler", [echo, echo_each])
@pytest.mark.parametrize("begun", [b"\0", b"\0\0\0\x08\0", b"\0\0\0\x08\0" + b"x" * 500, _HELLO + b"\0\0\0"])
async def test_a_message_that_has_begun_must_grow(begun: bytes, handler: Callable[[Call], object]) -> None:
    """By a KiB in ten seconds, from its first byte on."""
    wire = _wire(
        handler,
        limits=Limits(half_close=None),
        connection=ConnectionLimits(keepalive_interval=None),
    )
    client = await wire.open()
    stream = client.call(begun, ended=False)
    await wire.settle()
    for seconds in (1, 10):
        wire.later(seconds)
        await wire.settle()
    before = client.replies[stream].has_ended
    wire.later(12)
    await wire.settle()

    assert not before
    assert StatusCode.DEADLINE_EXCEEDED == client.replies[stream].status[0]
    assert "less than 1024 bytes in 10 s" in client.replies[stream].status[1]
    assert (0, 0) == (wire.figures.buffers.held, wire.serving.uploads.held)
    await wire.close()


@pytest.mark.parametrize("streams", [False, True])
async def test_a_message_that_grows_or_a_target_that_streams_is_left_alone(streams: bool) -> None:
    wire = _wire(
        echo,
        streams=streams,
        limits=Limits(half_close=None),
        connection=ConnectionLimits(keepalive_interval=None),
    )
    client = await wire.open()
    stream = client.call(b"\0\0\0\x40\0", ended=False)
    await wire.settle()
    for second in range(1, 60):
        wire.later(second)
        if not streams:
            client.send(stream, b"x" * 110)
        await wire.settle()

    assert not client.replies[stream].has_ended
    await wire.close()


async def test_the_time_between_two_messages_is_not_a_stall() -> None:
    """It belongs to half_close."""
    wire = _wire(echo, limits=Limits(half_close=None), connection=ConnectionLimits(keepalive_interval=None))
    client = await wire.open()
    stream = client.call(_HELLO, ended=False)
    await wire.settle()
    for seconds in (1, 100, 1000):
        wire.later(seconds)
        await wire.settle()
    client.send(stream, _HELLO, ended=True)
    await wire.settle()

    assert 0 == client.replies[stream].status[0]
    await wire.close()


# -- requests under way while the buffers run short --------------------------------------------------------------------


async def test_a_request_waits_for_window_while_the_buffers_run_short(new_engine: object) -> None:
    """And goes on when others have ended."""
    wire = _wire(echo, max_buffered=8 << 20, new_engine=new_engine)
    client = await wire.open()
    large, last = envelope(b"x" * 1_400_000), envelope(b"x" * 900_000)
    requests = [(client.call(ended=False), large, 1_000_000) for _ in range(5)]
    requests.append((client.call(ended=False), last, 200_000))
    for stream, message, begun in requests:
        client.send(stream, message[:begun])
        for _ in range(5):
            await wire.settle()
    held, is_awaited = wire.serving.uploads.held, wire.figures.buffers.is_awaited
    for stream, message, begun in requests:
        client.send(stream, message[begun:], ended=True)
        for _ in range(20):
            await wire.settle()

    assert (5_200_000, True) == (held, is_awaited)
    assert [0] * 6 == [client.replies[stream].status[0] for stream, _, _ in requests]
    assert (0, 0, False) == (
        wire.figures.buffers.held,
        wire.serving.uploads.held,
        wire.figures.buffers.is_awaited,
    )
    await wire.close()


async def test_a_request_that_waited_too_long_is_refused() -> None:
    """With its memory given back at once; the connection goes on."""
    wire = _wire(echo, max_buffered=2 << 20, limits=Limits(max_request=4 << 20, half_close=None))
    client = await wire.open()
    message = envelope(b"x" * 1_400_000)
    streams = [client.call(ended=False) for _ in range(2)]
    for stream in streams:
        for at in range(0, 700_000, 100_000):
            client.send(stream, message[at : at + 100_000])
            await wire.settle()
    client.send(streams[0], message[700_000:700_100])  # the other sends on, so this one waits
    await wire.settle()
    wire.serving.uploads.check(asyncio.get_running_loop().time() + 13)
    await wire.settle()
    ended = [stream for stream in streams if client.replies[stream].has_ended]

    assert [streams[0]] == ended
    assert StatusCode.RESOURCE_EXHAUSTED == client.replies[streams[0]].status[0]
    assert "waited 10 s for room" in client.replies[streams[0]].status[1]
    assert 700_000 <= wire.serving.uploads.held < 800_000
    hello = client.call(_HELLO)
    await wire.settle()
    assert 0 == client.replies[hello].status[0]
    await wire.close()
    assert 0 == wire.figures.buffers.held
