"""The same client against both engines, through real calls: it must be answered alike, and nothing may stay behind.

What is compared is all that a client can tell: header lists, bytes, ends and resets of each stream; what handlers read
and counted; and the process's figures, which are 0 once the connection is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from bridge.http2 import frames
from bridge.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
)
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.call import Call, Handler
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import DeadlineExceeded
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.limits import Limits
from bridge.rpc.status import Status, StatusCode
from bridge.server.connection import Connection
from tests.support.frames import REQUEST, FrameFactory, raw
from tests.support.serving import MemoryTransport, serving

_LIMITS = EngineLimits(max_concurrent_streams=4, stream_window=3000, connection_window=70_000, min_ping_interval=0.0)
_MOST_BUFFERED = 150_000

_METADATA = (("x-some", "thing"), ("x-some", "else"), ("x-long", "v" * 300))
_WHOLE_REPLIES: dict[str, list[ResponseEvent]] = {
    "usual": [EMPTY_HEADERS, Message(envelope(b"reply")), OK_TRAILERS],
    "empty": [EMPTY_HEADERS, Message(envelope(b"")), OK_TRAILERS],
    "metadata": [Headers(_METADATA), Message(envelope(b"m" * 100)), Trailers(Status(StatusCode.OK), _METADATA)],
    "failure": [Trailers(Status(StatusCode.NOT_FOUND, "not here"), _METADATA)],
    "late-failure": [EMPTY_HEADERS, Message(envelope(b"x")), Trailers(Status(StatusCode.ABORTED, "a" * 500))],
    "frame": [EMPTY_HEADERS, Message(envelope(b"f" * 16_379)), OK_TRAILERS],
    "more": [EMPTY_HEADERS, Message(envelope(b"f" * 16_380)), OK_TRAILERS],
    "large": [EMPTY_HEADERS, Message(envelope(b"l" * 90_000)), OK_TRAILERS],
    "several": [EMPTY_HEADERS, *(Message(envelope(b"s" * size)) for size in (10, 4000, 0)), OK_TRAILERS],
    "many": [EMPTY_HEADERS, *(Message(envelope(b"y" * (size % 7))) for size in range(300)), OK_TRAILERS],
    "none": [EMPTY_HEADERS, OK_TRAILERS],
}

_CALLS = st.integers(0, 5)
_PLANS = st.sampled_from([*_WHOLE_REPLIES, "each", "ignore"])
_BODIES = st.sampled_from(
    [b"", envelope(b"q"), envelope(b"q" * 2000), envelope(b"a") * 3, envelope(b"cut")[:-1], b"\x02"]
)
_STEPS = st.one_of(
    st.tuples(st.just("call"), _PLANS, _BODIES, st.booleans(), st.booleans()),
    st.tuples(st.just("call"), _PLANS, _BODIES, st.just(True), st.booleans()),
    st.tuples(st.just("send"), _CALLS, _BODIES, st.booleans()),
    st.tuples(st.just("trailers"), _CALLS),
    st.tuples(st.just("reset"), _CALLS),
    st.tuples(st.just("go"), _CALLS),
    st.tuples(st.just("abort"), _CALLS),
    st.tuples(st.just("credit"), st.sampled_from([0, 1, 3, 5, 7]), st.sampled_from([1, 5, 1000, 100_000])),
    st.tuples(st.just("credit"), st.sampled_from([0, 1, 3, 5, 7]), st.sampled_from([1, 5, 1000, 100_000])),
    st.tuples(st.just("set"), st.just(INITIAL_WINDOW_SIZE), st.sampled_from([0, 1, 5, 65_535, 1 << 20])),
    st.tuples(st.just("set"), st.just(MAX_FRAME_SIZE), st.sampled_from([16_384, 20_000, 1 << 20])),
    st.tuples(st.just("set"), st.just(MAX_HEADER_LIST_SIZE), st.sampled_from([0, 60, 400, 1 << 20])),
    st.tuples(st.just("goaway")),
    st.tuples(st.just("drain")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("settle")),
)


@dataclass
class _Outcome:
    replies: list[object] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    figures: list[object] = field(default_factory=list)


class _Client:
    """Raw frames out; what comes in is held against the client's windows and the order of a response."""

    def __init__(self, window: int, *, takes_data: bool) -> None:
        self._make = FrameFactory()
        self._decoder = Decoder()
        self._takes_data = takes_data
        self._initial = window
        self._shrinks: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        """What each SETTINGS not acknowledged yet takes from which windows."""
        self._windows: dict[int, int] = {0: 65_535}
        self.replies: dict[int, list[tuple[object, ...]]] = {}
        """By stream: header lists, DATA joined, and the end, in the order they came."""
        self._has_ended: set[int] = set()
        """Streams on which the client has nothing more to say."""
        self._is_over: set[int] = set()
        self._room: dict[int, int] = {}
        """Bytes that the client may send on each stream without credit. Too many end a stream for one engine, the
        connection for the other.
        """
        self.goaways = 0
        self._credits = 0
        self._in = b""
        self.out = self._make.start({INITIAL_WINDOW_SIZE: window})

    @property
    def count(self) -> int:
        return len(self.replies)

    @property
    def may_credit(self) -> bool:
        """Within the native engine's budget (abuse.py), which h2 has not."""
        self._credits += 1
        return self._credits <= 5 + 2 * self.count

    def call(self, path: str, body: bytes, *, ended: bool) -> None:
        stream = 2 * self.count + 1
        self.replies[stream] = []
        self._windows[stream] = self._initial
        fields = [(name, path if name == ":path" else value) for name, value in REQUEST]
        flags = ["END_HEADERS", "END_STREAM"] if ended and not body else ["END_HEADERS"]
        self.out += self._make.headers(stream, fields, flags=flags)
        if body:
            self.send(stream, body, ended=ended)
        elif ended:
            self._has_ended.add(stream)

    def send(self, stream: int, body: bytes, *, ended: bool) -> None:
        if self._may_speak(stream) and len(body) <= self._room.get(stream, _LIMITS.stream_window):
            self._room[stream] = self._room.get(stream, _LIMITS.stream_window) - len(body)
            self.out += self._make.data(stream, body, flags=["END_STREAM"] if ended else [])
            if ended:
                self._has_ended.add(stream)

    def trailers(self, stream: int) -> None:
        if self._may_speak(stream):
            self._has_ended.add(stream)
            flags = ["END_HEADERS", "END_STREAM"]
            self.out += self._make.headers(stream, [("x-checksum", "1")], flags=flags)

    def reset(self, stream: int) -> None:
        if stream in self.replies and stream not in self._is_over:
            self._is_over.add(stream)
            self.out += self._make.rst_stream(stream)

    def credit(self, stream: int, size: int) -> None:
        if stream in self._windows and stream not in self._is_over:
            self._windows[stream] += size
            self.out += self._make.window_update(stream, size)

    def set(self, setting: int, value: int) -> None:
        change = 0
        if setting == INITIAL_WINDOW_SIZE:
            change, self._initial = value - self._initial, value
            for stream in self.replies if change > 0 else ():
                self._windows[stream] += change
        self._shrinks.append((min(0, change), tuple(self.replies)))
        self.out += self._make.settings({setting: value})

    def goaway(self) -> None:
        self.out += self._make.goaway()

    def _may_speak(self, stream: int) -> bool:
        return stream in self.replies and stream not in self._has_ended | self._is_over

    def receive(self, data: bytes) -> None:
        data = self._in + data
        while len(data) >= HEAD_SIZE and len(data) >= (size := HEAD_SIZE + int.from_bytes(data[:3], "big")):
            self._take(data[3], data[4], int.from_bytes(data[5:HEAD_SIZE], "big"), data[HEAD_SIZE:size])
            data = data[size:]
        self._in = data

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case frames.HEADERS:
                assert flags & END_HEADERS
                fields = self._decoder.decode(payload)
                self._answer(stream, ("fields", *fields), ends=flags & END_STREAM != 0)
            case frames.DATA:
                self._windows[0] -= len(payload)
                self._windows[stream] -= len(payload)
                assert stream in self._is_over or self._windows[stream] >= 0
                assert self._windows[0] >= 0
                self._answer(stream, ("data", payload), ends=flags & END_STREAM != 0)
                if self._takes_data and payload:
                    self.credit(0, len(payload))
                    self.credit(stream, len(payload))
            case frames.RST_STREAM:
                if stream not in self._is_over or payload == bytes(4):
                    self.replies[stream].append(("reset", payload))
                self._is_over.add(stream)
            case frames.SETTINGS if flags & ACK:
                shrink, streams = self._shrinks.pop(0)
                for each in streams:
                    self._windows[each] += shrink
            case frames.PING if not flags & ACK:
                self.out += raw(frames.PING, ACK, 0, payload)
            case frames.GOAWAY:
                self.goaways += 1

    def _answer(self, stream: int, part: tuple[object, ...], *, ends: bool) -> None:
        if stream in self._is_over:
            return
        reply = self.replies[stream]
        assert not reply or reply[-1][0] != "end"
        if part[0] == "data" and reply and reply[-1][0] == "data":
            reply[-1] = ("data", reply[-1][1] + part[1])  # type: ignore[operator]  # both bytes
        else:
            assert part[0] == "fields" or reply
            reply.append(part)
        if ends:
            reply.append(("end",))
            if stream in self._has_ended:
                self._is_over.add(stream)


class _Conversation:
    """One client and one engine."""

    def __init__(self, new_engine: Callable[[EngineLimits], Engine], *, takes_data: bool, window: int) -> None:
        self.outcome = _Outcome()
        self._gates: dict[str, asyncio.Event] = {}
        self._begun: dict[str, Call] = {}
        self._client = _Client(window, takes_data=takes_data)
        served = serving(
            self._serve,
            new_engine=new_engine,
            engine=_LIMITS,
            limits=Limits(max_request=2500, max_buffered=5000, half_close=None),
            max_buffered=_MOST_BUFFERED,
            layer=self._watched,
        )
        self._figures = served.figures
        self._connection = Connection(served, set())
        self._transport = MemoryTransport(self._connection)
        self._connection.connection_made(self._transport)

    def _watched(self, inner: Handler) -> Handler:
        async def watched(call: Call) -> None:
            await inner(call)
            counted = (call.messages_received, call.messages_sent, call.bytes_received, call.bytes_sent)
            self.outcome.calls.append((call.path, call.status, call.phase, *counted))

        return watched

    async def _serve(self, call: Call) -> None:
        _, plan, name = call.path[1:].split("/")
        self._begun[name] = call
        if plan == "each":
            call.send(EMPTY_HEADERS)
            while (message := await call.read_envelope()) is not None:
                if not call.send(Message(message * 3)):
                    await call.writable()
            call.send(OK_TRAILERS)
            return
        if plan != "ignore":
            await call.read_all()
        await self._gates[name].wait()
        call.send_all(_WHOLE_REPLIES.get(plan, [OK_TRAILERS]))

    def _take(self, step: tuple[object, ...]) -> None:
        client = self._client
        match step:
            case ("call", str(plan), bytes(body), bool(ended), bool(is_open)):
                name = str(client.count)
                self._gates[name] = asyncio.Event()
                if is_open:
                    self._gates[name].set()
                client.call(f"/a.B/{plan}/{name}", body, ended=ended)
            case ("send", int(at), bytes(body), bool(ended)):
                client.send(2 * at + 1, body, ended=ended)
            case ("trailers", int(at)):
                client.trailers(2 * at + 1)
            case ("reset", int(at)):
                client.reset(2 * at + 1)
            case ("go", int(at)) if str(at) in self._gates:
                self._gates[str(at)].set()
            case ("abort", int(at)) if str(at) in self._begun:
                self._begun[str(at)].abort(DeadlineExceeded("late"))
            case ("credit", int(stream), int(size)) if client.may_credit:
                client.credit(stream, size)
            case ("set", int(setting), int(value)):
                client.set(setting, value)
            case ("goaway",):
                client.goaway()
            case ("drain",):
                self._connection.leave()

    async def run(self, steps: list[tuple[object, ...]]) -> _Outcome:
        for step in steps:
            if step == ("settle",):
                await self._settle()
            else:
                self._take(step)
        await self._settle()
        await self._end()
        return self.outcome

    async def _settle(self) -> None:
        """Let both sides have their turns until nothing more comes."""
        for _ in range(12):
            data, self._client.out = self._client.out, b""
            if data and not self._transport.is_closing():
                self._connection.received(data)
            for _ in range(4):
                await asyncio.sleep(0)
            self._client.receive(self._transport.take())
        replies = {stream: list(reply) for stream, reply in self._client.replies.items()}
        self.outcome.replies.append((replies, self._client.goaways, self._transport.is_closing()))

    async def _end(self) -> None:
        """All that runs ends, and the client wants nothing more; then nothing is left."""
        for gate in self._gates.values():
            gate.set()
        await self._settle()
        for stream in tuple(self._client.replies):
            self._client.reset(stream)
        await self._settle()
        figures, engine = self._figures, self._connection.engine
        self.outcome.figures.append((figures.streams_open, figures.buffers.held))
        self.outcome.figures.append((engine.queued_bytes, len(engine.open_streams)))
        self._transport.close()
        await self._settle()
        self.outcome.figures.append((figures.streams_open, figures.buffers.held, figures.connections_open))


_TWO_IN_TURN: list[tuple[object, ...]] = [
    ("call", "usual", envelope(b"q"), True, True),
    ("settle",),
] * 2
"""The second reply on a connection may go out in one step."""


@given(
    steps=st.lists(_STEPS, max_size=25).map(lambda steps: _TWO_IN_TURN + steps),
    takes_data=st.booleans(),
    window=st.sampled_from([0, 1, 5, 65_535]),
)
def test_a_client_cannot_tell_the_engines_apart(steps: list[tuple[object, ...]], takes_data: bool, window: int) -> None:
    """Whatever it does, and whatever its windows are."""

    async def both() -> tuple[_Outcome, _Outcome]:
        native = _Conversation(NativeEngine, takes_data=takes_data, window=window)
        reference = _Conversation(H2Engine, takes_data=takes_data, window=window)
        return await native.run(steps), await reference.run(steps)

    native, reference = asyncio.run(both())

    assert [(0, 0), (0, 0), (0, 0, 0)] == native.figures
    assert native.figures == reference.figures
    assert native.replies == reference.replies
    assert sorted(native.calls, key=str) == sorted(reference.calls, key=str)
