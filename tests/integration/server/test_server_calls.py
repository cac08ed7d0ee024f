"""Calls over a loopback socket: from grpcio's own client, and from h2 where a client must misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import grpc
import pytest

from bridge.http2.events import ErrorCode
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.layers.deadline import Deadlines, deadline
from bridge.rpc.call import Call, Handler
from bridge.rpc.envelope import data_of, envelope
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import encode_binary, value_of
from bridge.rpc.status import Status, StatusCode
from bridge.server.server import Server
from tests.support.byte_methods import stream_stream, stream_unary, unary_stream, unary_unary
from tests.support.h2_client import H2Client
from tests.support.listening import dialled, eventually, listening, port_of
from tests.support.serving import echo, echo_each, serving

_METHOD = "/a.B/C"
_HELLO = envelope(b"hello")
_ENGINES: list[Callable[[EngineLimits], Engine]] = [H2Engine, NativeEngine]


@pytest.fixture(params=_ENGINES, ids=["h2", "native"])
def new_engine(request: pytest.FixtureRequest) -> Callable[[EngineLimits], Engine]:
    engine: Callable[[EngineLimits], Engine] = request.param
    return engine


def _channel(server: Server, **options: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        f"127.0.0.1:{port_of(server)}",
        options=[(f"grpc.{name}", value) for name, value in options.items()],
    )


class Waiting:
    """A handler that waits until it is cancelled, and says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.causes: list[str] = []

    async def __call__(self, call: Call) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.causes.append(type(call.cause).__name__)


# -- grpcio's client --------------------------------------------------------------------------------------------------


async def test_unary_call(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """Message, metadata both ways, binary among it, trailing metadata, OK."""
    seen: list[Call] = []

    async def greet(call: Call) -> None:
        seen.append(call)
        body = await call.read_all()
        call.send(Headers((("x-initial", "1"), ("x-bytes-bin", encode_binary(b"\x00\xff")))))
        call.send(Message(body))
        call.send(Trailers(Status(StatusCode.OK), (("x-trailing", "2"),)))

    async with (
        listening(serving(greet, new_engine=new_engine)) as server,
        _channel(server) as channel,
    ):
        call = unary_unary(channel, _METHOD)(b"hello", metadata=(("x-id", "7"), ("x-raw-bin", b"\x01\x02")), timeout=5)
        answer = await call
        initial = await call.initial_metadata()
        trailing = await call.trailing_metadata()

    assert b"hello" == answer
    assert "1" == initial["x-initial"]
    assert b"\x00\xff" == initial["x-bytes-bin"]
    assert "2" == trailing["x-trailing"]
    assert ("7", "AQI") == tuple(value_of(seen[0].metadata, name) for name in ("x-id", "x-raw-bin"))
    assert (_METHOD, "127.0.0.1") == (seen[0].path, seen[0].peer.address)
    assert seen[0].deadline is not None


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_message_of_any_size_comes_back(size: int, new_engine: Callable[[EngineLimits], Engine]) -> None:
    """Across frames and windows, both ways."""
    async with listening(serving(new_engine=new_engine)) as server, _channel(server) as channel:
        message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        answer = await unary_unary(channel, _METHOD)(message, timeout=10)

    assert message == answer


async def test_server_streaming(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """A thousand messages, in order."""

    async def count(call: Call) -> None:
        await call.read_all()
        call.send(EMPTY_HEADERS)
        for number in range(1000):
            if not call.send(Message(envelope(b"%d" % number * 50))):
                await call.writable()
        call.send(OK_TRAILERS)

    async with (
        listening(serving(count, new_engine=new_engine)) as server,
        _channel(server) as channel,
    ):
        answers = [answer async for answer in unary_stream(channel, _METHOD)(b"", timeout=10)]

    assert [b"%d" % number * 50 for number in range(1000)] == answers


async def test_bidirectional_streaming(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """Each answer comes before the next question is sent."""
    async with (
        listening(serving(echo_each, new_engine=new_engine)) as server,
        _channel(server) as channel,
    ):
        call = stream_stream(channel, _METHOD)(timeout=10)
        answers = []
        for number in range(50):
            await call.write(b"%d" % number)
            answers.append(await call.read())
        await call.done_writing()
        end = await call.read()
        code = await call.code()

    assert [b"%d" % number for number in range(50)] == answers
    assert (grpc.aio.EOF, grpc.StatusCode.OK) == (end, code)


async def test_client_streaming(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """Gathered until the client half-closes."""

    async def join(call: Call) -> None:
        body = await call.read_all()
        call.send(EMPTY_HEADERS)
        call.send(Message(envelope(b"%d in %d bytes" % (call.messages_received, len(body)))))
        call.send(OK_TRAILERS)

    async def messages() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    async with (
        listening(serving(join, new_engine=new_engine)) as server,
        _channel(server) as channel,
    ):
        answer = await stream_unary(channel, _METHOD)(messages(), timeout=10)

    assert b"100 in 100500 bytes" == answer


async def test_many_concurrent_calls_on_one_connection(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """Each gets its own answer; nothing is left behind."""
    served = serving(new_engine=new_engine)
    async with listening(served) as server, _channel(server) as channel:
        method = unary_unary(channel, _METHOD)
        answers = await asyncio.gather(*(method(b"%d" % number) for number in range(300)))
        await eventually(lambda: served.figures.streams_open == 0)

    assert [b"%d" % number for number in range(300)] == answers
    assert (1, 0) == (served.figures.connections_accepted, served.figures.buffers.held)


async def test_failure_reaches_the_client_whole() -> None:
    """Code, message in any script, details."""
    details = b"\x08\x05\x12\x03abc"

    async def fail(call: Call) -> None:
        call.send(Trailers(Status(StatusCode.NOT_FOUND, "100% weg: größer\n😀", details)))

    async with listening(serving(fail)) as server, _channel(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary_unary(channel, _METHOD)(b"", timeout=5)

    assert grpc.StatusCode.NOT_FOUND is caught.value.code()
    assert "100% weg: größer\n😀" == caught.value.details()
    assert details == caught.value.trailing_metadata()["grpc-status-details-bin"]


async def test_failure_after_messages_keeps_the_messages() -> None:
    """What came before is the client's."""

    async def break_off(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        call.send(Message(_HELLO))
        raise FunctionFailed("ValueError: no")

    async with listening(serving(break_off)) as server, _channel(server) as channel:
        call = unary_stream(channel, _METHOD)(b"", timeout=5)
        first = await call.read()
        code, text = await call.code(), await call.details()

    assert (b"hello", grpc.StatusCode.INTERNAL, "ValueError: no") == (first, code, text)


async def test_request_above_the_limit_is_refused(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """With the limit's name and both sizes; the connection goes on."""
    served = serving(limits=Limits(max_request=1000), new_engine=new_engine)
    async with listening(served) as server, _channel(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary_unary(channel, _METHOD)(b"x" * 1_000_000, timeout=5)
        answer = await unary_unary(channel, _METHOD)(b"x" * 1000, timeout=5)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
    assert "1000000 bytes is above max_request (1000 bytes)" in (caught.value.details() or "")
    assert b"x" * 1000 == answer
    assert 1 == served.figures.connections_accepted


async def test_trailers_fit_what_grpc_core_takes() -> None:
    """It announces a limit and fails calls above it; the status comes through."""

    async def talk(call: Call) -> None:
        call.send(Trailers(Status(StatusCode.ABORTED, "m" * 50_000, b"d" * 50_000)))

    served = serving(talk, limits=Limits(max_trailers=1 << 20))
    async with (
        listening(served) as server,
        _channel(server, max_metadata_size=6000, absolute_max_metadata_size=6000) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary_unary(channel, _METHOD)(b"", timeout=5)

    assert grpc.StatusCode.ABORTED is caught.value.code()
    assert (caught.value.details() or "").endswith(" [cut]")
    assert 1 == served.figures.shortened_trailers


async def test_initial_metadata_fits_what_grpc_core_takes() -> None:
    """What a function says before its first message cannot cost the call."""

    async def talk(call: Call) -> None:
        call.send(Headers((("small", "1"), ("large", "m" * 50_000))))
        call.send(Message(await call.read_all()))
        call.send(OK_TRAILERS)

    served = serving(talk)
    async with listening(served) as server, _channel(server) as channel:
        invoked = unary_unary(channel, _METHOD)(b"hello", timeout=5)
        answer = await invoked
        initial = dict(await invoked.initial_metadata())

    assert b"hello" == answer
    assert "1" == initial["small"]
    assert "large" not in initial
    assert 1 == served.figures.shortened_headers


# -- how calls end early ----------------------------------------------------------------------------------------------


async def test_cancelled_call_cancels_its_handler(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """The function's work is given up with it."""
    waiting = Waiting()
    async with (
        listening(serving(waiting, new_engine=new_engine)) as server,
        _channel(server) as channel,
    ):
        call = unary_unary(channel, _METHOD)(b"")
        await waiting.begun.wait()
        call.cancel()
        await eventually(lambda: waiting.causes)

    assert ["ClientGone"] == waiting.causes


async def test_lost_connection_cancels_its_handler() -> None:
    """The client's process died."""
    waiting = Waiting()
    served = serving(waiting)
    async with listening(served) as server, dialled(server) as client:
        client.h2.call(_HELLO)
        client.flush()
        await waiting.begun.wait()
        client.writer.transport.abort()
        await eventually(lambda: waiting.causes)
        await eventually(lambda: served.figures.connections_open == 0)

    assert ["ClientGone"] == waiting.causes


def _bounded(inner: Handler) -> Handler:
    deadlines = Deadlines(asyncio.get_running_loop())
    return deadline(inner, deadlines=deadlines, clock=monotonic)


async def test_client_deadline_ends_the_handler() -> None:
    """The client has its answer by itself; the handler is not left running."""
    waiting = Waiting()
    async with listening(serving(_bounded(waiting))) as server, _channel(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary_unary(channel, _METHOD)(b"", timeout=0.1)
        await eventually(lambda: waiting.causes)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    assert waiting.causes[0] in ("DeadlineExceeded", "ClientGone")  # whichever came first


async def test_routes_timeout_ends_the_call() -> None:
    """Also if the client would wait for ever, and also while its request is gathered."""
    waiting = Waiting()
    for handler in (waiting, echo):
        served = serving(_bounded(handler), timeout=0.05)
        async with listening(served) as server, _channel(server) as channel:
            call = stream_unary(channel, _METHOD)()
            await call.write(b"never followed by an end")
            code = await call.code()

        assert grpc.StatusCode.DEADLINE_EXCEEDED is code
    assert ["DeadlineExceeded"] == waiting.causes


async def test_reset_in_the_read_of_its_headers(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """A hundred of them wake no handler and leave nothing open."""
    woken: list[Call] = []

    async def note(call: Call) -> None:
        woken.append(call)

    served = serving(note, new_engine=new_engine)
    async with listening(served) as server, dialled(server) as client:
        await client.until(lambda: client.h2.has_server_settings)
        for _ in range(100):
            stream = client.h2.call(ended=False)
            client.h2.h2.reset_stream(stream, ErrorCode.CANCEL)
        last = client.h2.call(b"", content_type="text/plain")
        await client.until(lambda: client.h2.replies[last].has_ended)
        await eventually(lambda: served.figures.streams_open == 0)

    assert [] == woken


# -- flow control -----------------------------------------------------------------------------------------------------


async def test_slow_client_holds_the_handler_back(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """Its windows are wide open but it does not read its socket: what waits for it stays bounded."""
    sent: list[int] = []
    chunk = envelope(b"x" * (64 << 10))

    async def pour(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        for number in range(256):  # 16 MiB
            sent.append(number)
            if not call.send(Message(chunk)):
                await call.writable()
            await asyncio.sleep(0)
        call.send(OK_TRAILERS)

    wide = H2Client(window=(1 << 31) - 1)
    wide.h2.increment_flow_control_window(1 << 30)
    wide.takes_data = False
    served = serving(pour, new_engine=new_engine)
    async with listening(served) as server, dialled(server, wide, read_buffer=1 << 16) as client:
        stream = client.h2.call(_HELLO)
        client.flush()
        (connection,) = await _connections(server)
        await eventually(lambda: connection.is_choked)
        held = len(sent)
        await client.until(lambda: client.h2.replies[stream].has_ended)
        received = len(client.h2.replies[stream].data)

    assert held < 200  # the kernel's buffers, ours and one message
    assert len(chunk) * 256 == received


async def _connections(server: Server) -> set[Any]:
    """The server's, with what its interface does not promise."""
    await eventually(lambda: server.connections)
    return set(server.connections)


async def test_aborted_uploads_do_not_starve_the_connection(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """Hundreds of uploads, each broken off half-way, three times what the connection's window holds in all."""
    waiting = Waiting()
    limits = EngineLimits(connection_window=1 << 20, stream_window=1 << 18)
    served = serving(waiting, new_engine=new_engine, engine=limits)
    half = b"\x00\x00\x10\x00\x00" + bytes(29_995)
    async with listening(served) as server, dialled(server) as client:
        await client.until(lambda: client.h2.has_server_settings)
        for _ in range(100):
            stream = client.h2.call(ended=False)
            client.h2.send(stream, half)
            client.flush()
            await eventually(lambda: served.figures.buffers.held == len(half))
            client.h2.h2.reset_stream(stream, ErrorCode.CANCEL)
            client.flush()
            await eventually(lambda: served.figures.streams_open == 0)
            await client.until(lambda: client.h2.h2.outbound_flow_control_window > 300_000)
        served.resolve("").handler = echo
        stream = client.h2.call(ended=False)
        body = envelope(bytes(200_000))
        client.h2.send(stream, body, ended=True)
        await client.until(lambda: client.h2.replies[stream].has_ended)

    assert body == client.h2.replies[stream].data


async def test_upload_that_nobody_reads_stops_at_its_window(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """And its neighbours go on."""
    waiting = Waiting()
    limits = EngineLimits(stream_window=100_000)
    served = serving(waiting, new_engine=new_engine, engine=limits)
    async with listening(served) as server, dialled(server) as client:
        await client.until(lambda: client.h2.has_server_settings)
        stuck = client.h2.call(ended=False)
        client.h2.send(stuck, bytes(100_000))
        client.flush()
        await eventually(lambda: served.figures.buffers.held == 100_000)
        served.resolve("").handler = echo
        quick = client.h2.call(_HELLO)
        await client.until(lambda: client.h2.replies[quick].has_ended)
        window = client.h2.h2.local_flow_control_window(stuck)

    assert 0 == window
    assert b"hello" == data_of(bytes(client.h2.replies[quick].data))
