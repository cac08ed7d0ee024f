"""The client's engine: what a server may say, what it may not, and how much of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived as H2Data
from h2.events import RequestReceived as H2Request
from h2.events import StreamEnded as H2Ended
from h2.events import StreamReset as H2Reset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from bridge.http2.client import (
    MAX_FRAME_IN,
    ClientEngine,
)
from bridge.http2.client_events import (
    CapacityChanged,
    ClientEvent,
    ConnectionReady,
    GoingAway,
    ResponseReceived,
    StreamFailed,
    StreamNotProcessed,
    TrailersReceived,
)
from bridge.http2.client_limits import ClientLimits
from bridge.http2.client_responses import MAX_INTERIM
from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    Fields,
    PingAcknowledged,
    StreamReset,
    WindowOpened,
)
from bridge.http2.preface import PREFACE
from tests.support.fakes import in_chunks
from tests.support.frames import (
    REQUEST,
    RESPONSE,
    TRAILERS,
    FrameFactory,
    increments,
    parse,
    raw,
)

END = ("END_HEADERS", "END_STREAM")


class Server:
    """The other end of an engine, in frames."""

    def __init__(self, limits: ClientLimits | None = None, settings: dict[int, int] | None = None) -> None:
        self.engine = ClientEngine(limits or ClientLimits())
        self.make = FrameFactory()
        self.now = 0.0
        greeting = self.engine.bytes_to_send()
        assert greeting.startswith(PREFACE)
        self.greeting = parse(greeting.removeprefix(PREFACE))
        assert [ConnectionReady()] == self.say(self.make.settings(settings))
        self.hear()

    def say(self, *frames: bytes) -> list[ClientEvent]:
        return self.engine.receive(b"".join(frames), now=self.now)

    def hear(self) -> list[Frame]:
        return parse(self.engine.bytes_to_send())

    def open(self, count: int = 1) -> list[int]:
        """So many requests, which the server has heard."""
        opened = [self.engine.open(REQUEST) for _ in range(count)]
        for stream_id in opened:
            self.engine.end(stream_id)
        self.hear()
        return opened

    def reply(self, stream_id: int, body: bytes = b"12345") -> bytes:
        """A whole response."""
        return (
            self.make.headers(stream_id, RESPONSE)
            + self.make.data(stream_id, body)
            + self.make.headers(stream_id, TRAILERS, flags=END)
        )

    def replied(self, stream_id: int, body: bytes = b"12345") -> list[ClientEvent]:
        """What the engine makes of it."""
        return [
            ResponseReceived(stream_id, RESPONSE, ended=False),
            DataReceived(stream_id, body, ended=False),
            TrailersReceived(stream_id, TRAILERS),
        ]


def failures(events: Iterable[ClientEvent]) -> list[int]:
    return [event.code for event in events if isinstance(event, ConnectionFailed)]


def test_it_begins_with_preface_settings_and_window() -> None:
    """No push, a window for each stream, a larger one for all."""
    server = Server(ClientLimits(stream_window=1000, connection_window=70_000))
    settings, window = server.greeting

    assert isinstance(settings, SettingsFrame)
    assert {2: 0, 4: 1000, 6: 1 << 20} == dict(settings.settings)
    assert [(0, 70_000 - 65_535)] == increments([window])


def test_nothing_is_opened_before_the_servers_settings() -> None:
    engine = ClientEngine(ClientLimits())

    assert 0 == engine.capacity
    engine.receive(FrameFactory().settings({3: 5}), now=0.0)
    assert 5 == engine.capacity


def test_a_call_and_its_reply() -> None:
    server = Server()
    stream_id = server.engine.open(REQUEST)
    assert server.engine.send_data(stream_id, b"hello")
    server.engine.end(stream_id)
    head, body = server.hear()

    assert isinstance(head, HeadersFrame)
    assert (stream_id, {"END_HEADERS"}) == (head.stream_id, set(head.flags))
    assert isinstance(body, DataFrame)
    assert (b"hello", {"END_STREAM"}) == (body.data, set(body.flags))
    assert server.replied(stream_id) == server.say(server.reply(stream_id))
    assert not server.engine.open_streams
    assert [] == server.hear()


def test_the_end_comes_alone_where_the_last_data_has_left() -> None:
    server = Server()
    (stream_id,) = [server.engine.open(REQUEST)]
    server.engine.send_data(stream_id, b"hello")
    server.hear()
    server.engine.end(stream_id)
    (end,) = server.hear()

    assert isinstance(end, DataFrame)
    assert (b"", {"END_STREAM"}) == (end.data, set(end.flags))


def test_only_the_end_of_the_same_stream_joins_its_data() -> None:
    server = Server()
    one, two = server.engine.open(REQUEST), server.engine.open(REQUEST)
    server.engine.send_data(one, b"1")
    server.engine.send_data(two, b"2")
    server.engine.end(one)
    ends = [
        (frame.stream_id, frame.data)
        for frame in server.hear()
        if isinstance(frame, DataFrame) and "END_STREAM" in frame.flags
    ]

    assert [(one, b"")] == ends


def test_a_reply_before_the_request_is_over_ends_both() -> None:
    """RFC 9113 8.1: what is still to come of the request is not wanted."""
    server = Server()
    stream_id = server.engine.open(REQUEST)
    server.hear()
    server.say(server.reply(stream_id))

    assert raw(3, 0, stream_id, bytes(4)) == server.engine.bytes_to_send()
    assert server.engine.send_data(stream_id, b"late")
    assert [] == server.hear()


def test_interim_responses_are_left_out() -> None:
    server = Server()
    (stream_id,) = server.open()
    link, go_on = [(":status", "103"), ("link", "x")], [(":status", "100")]

    assert [] == server.say(server.make.headers(stream_id, link))
    assert [] == server.say(server.make.headers(stream_id, go_on))
    assert server.replied(stream_id) == server.say(server.reply(stream_id))


BLOCKS: dict[str, list[tuple[str, str]]] = {
    "no status": [("content-type", "application/grpc")],
    "a status twice": [(":status", "200"), (":status", "200")],
    "a status behind a field": [("a", "b"), (":status", "200")],
    "a status that is no number": [(":status", "abc")],
    "status 000": [(":status", "000")],
    "status 2000": [(":status", "2000")],
    "an empty status": [(":status", "")],
    "a request's pseudo-header": [(":status", "200"), (":path", "/")],
    "an unknown pseudo-header": [(":status", "200"), (":what", "x")],
    "an upper-case name": [(":status", "200"), ("X-Upper", "x")],
    "an empty name": [(":status", "200"), ("", "x")],
    "a name with a space": [(":status", "200"), ("a b", "x")],
    "a name with a line break": [(":status", "200"), ("a\r\nb", "x")],
    "a value with a line break": [(":status", "200"), ("a", "x\r\ny")],
    "a value with NUL": [(":status", "200"), ("a", "x\0")],
}

Odd = Callable[[Server, int], bytes]


def _headers(fields: list[tuple[str, str]], server: Server, stream_id: int) -> bytes:
    return server.make.headers(stream_id, fields)


ODD: dict[str, Odd] = {
    **{name: partial(_headers, fields) for name, fields in BLOCKS.items()},
    "DATA before headers": lambda server, stream: server.make.data(stream, b"12345"),
    "too large a header list": lambda server, stream: server.make.split_headers(
        stream, 80, [*RESPONSE, *((f"n{n}", "x" * 1000) for n in range(1030))]
    ),
    "too many fields": lambda server, stream: server.make.split_headers(
        stream, 4, [*RESPONSE, *((f"n{n}", "") for n in range(2100))]
    ),
    "interim responses without end": lambda server, stream: b"".join(
        [server.make.headers(stream, [(":status", "100")]) for _ in range(MAX_INTERIM + 1)]
    ),
    "an interim response that ends the stream": lambda server, stream: server.make.headers(
        stream, [(":status", "100")], flags=END
    ),
    "a second header block without end": lambda server, stream: (
        server.make.headers(stream, RESPONSE) + server.make.headers(stream, TRAILERS)
    ),
    "a pseudo-header in trailers": lambda server, stream: (
        server.make.headers(stream, RESPONSE) + server.make.headers(stream, [(":status", "200"), *TRAILERS], flags=END)
    ),
    "more than the stream's window": lambda server, stream: (
        server.make.headers(stream, RESPONSE)
        + b"".join([server.make.data(stream, bytes(MAX_FRAME_IN)) for _ in range(17)])
    ),
    "a window update of 0": lambda server, stream: server.make.window_update(stream, 0),
    "a window beyond 2^31": lambda server, stream: server.make.window_update(stream, 2**31 - 1),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_malformed_reply_fails_its_own_stream_alone(odd: Odd) -> None:
    """All other streams of the connection go on, and new ones as well."""
    server = Server()
    before, spoiled, after = server.open(3)
    events = server.say(odd(server, spoiled))
    failed = [event for event in events if not isinstance(event, ResponseReceived | DataReceived)]

    (failure,) = failed
    assert isinstance(failure, StreamFailed)
    assert spoiled == failure.stream_id
    assert ("too " in failure.reason) is failure.is_too_large
    assert [3] == [frame.type for frame in server.hear() if frame.stream_id == spoiled]
    assert server.replied(before) == server.say(server.reply(before))
    assert server.replied(after) == server.say(server.reply(after))
    (new,) = server.open()
    assert server.replied(new) == server.say(server.reply(new))


FATAL: dict[str, tuple[ErrorCode, Callable[[Server, int], bytes]]] = {
    "too large a frame": (
        ErrorCode.FRAME_SIZE_ERROR,
        lambda server, stream: raw(0, 0, stream, bytes(MAX_FRAME_IN + 1)),
    ),
    "HEADERS on a stream never opened": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.headers(99, RESPONSE),
    ),
    "HEADERS on a stream of its own": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.headers(2, RESPONSE),
    ),
    "DATA on a stream never opened": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: server.make.data(99, b"12345")),
    "RST_STREAM on a stream never opened": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.rst_stream(99),
    ),
    "WINDOW_UPDATE on a stream never opened": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.window_update(99, 1),
    ),
    "PUSH_PROMISE": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(5, 4, stream, b"\0\0\0\2\x88")),
    "a broken header block": (
        ErrorCode.COMPRESSION_ERROR,
        lambda server, stream: raw(1, 4, stream, b"\xff\xff\xff\xff\xff"),
    ),
    "another frame within a header block": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: raw(1, 0, stream, b"\x88") + server.make.ping(),
    ),
    "a CONTINUATION of nothing": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(9, 4, stream, b"\x88")),
    "padding beyond its frame": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.headers(stream, RESPONSE) + raw(0, 8, stream, b"\x05123"),
    ),
    "SETTINGS on a stream": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(4, 0, stream, b"")),
    "SETTINGS of a wrong size": (ErrorCode.FRAME_SIZE_ERROR, lambda server, stream: raw(4, 0, 0, b"12345")),
    "push turned on": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: server.make.settings({2: 1})),
    "an initial window beyond 2^31": (
        ErrorCode.FLOW_CONTROL_ERROR,
        lambda server, stream: raw(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
    ),
    "frames too small": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(4, 0, 0, b"\0\5\0\0\0\1")),
    "PING of a wrong size": (ErrorCode.FRAME_SIZE_ERROR, lambda server, stream: raw(6, 0, 0, b"123")),
    "PING on a stream": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(6, 0, stream, bytes(8))),
    "GOAWAY on a stream": (ErrorCode.PROTOCOL_ERROR, lambda server, stream: raw(7, 0, stream, bytes(8))),
    "GOAWAY of a wrong size": (ErrorCode.FRAME_SIZE_ERROR, lambda server, stream: raw(7, 0, 0, bytes(4))),
    "RST_STREAM of a wrong size": (ErrorCode.FRAME_SIZE_ERROR, lambda server, stream: raw(3, 0, stream, b"")),
    "WINDOW_UPDATE of a wrong size": (ErrorCode.FRAME_SIZE_ERROR, lambda server, stream: raw(8, 0, stream, b"")),
    "a window update of 0 for the connection": (
        ErrorCode.PROTOCOL_ERROR,
        lambda server, stream: server.make.window_update(0, 0),
    ),
    "the connection's window beyond 2^31": (
        ErrorCode.FLOW_CONTROL_ERROR,
        lambda server, stream: server.make.window_update(0, 2**31 - 1),
    ),
}


@pytest.mark.parametrize(("code", "odd"), FATAL.values(), ids=FATAL)
def test_what_breaks_the_connection_ends_it(code: ErrorCode, odd: Odd) -> None:
    """With GOAWAY that says why; nothing follows."""
    server = Server()
    (stream_id,) = server.open()
    events = server.say(odd(server, stream_id))

    assert [code] == failures(events)
    assert isinstance(events[-1], ConnectionFailed)
    last = server.hear()[-1]
    assert isinstance(last, GoAwayFrame)
    assert code == last.error_code
    assert [] == server.say(server.make.ping())
    assert 0 == server.engine.capacity


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it answers in HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "the first frame is not SETTINGS"),
        (FrameFactory().ping(), "the first frame is not SETTINGS"),
        (FrameFactory().settings_ack(), "the first frame is not SETTINGS"),
    ],
)
def test_who_does_not_speak_http2_is_found_out(first: bytes, reason: str) -> None:
    engine = ClientEngine(ClientLimits())
    (failed,) = engine.receive(first, now=0.0)

    assert isinstance(failed, ConnectionFailed)
    assert reason == failed.reason


FLOODS: dict[str, Odd] = {
    "PING": lambda server, stream: server.make.ping(),
    "answers to PINGs never sent": lambda server, stream: server.make.ping(flags=["ACK"]),
    "SETTINGS": lambda server, stream: server.make.settings({}),
    "acknowledgements": lambda server, stream: server.make.settings_ack(),
    "PRIORITY": lambda server, stream: server.make.priority(stream),
    "unknown frames": lambda server, stream: raw(0xEE, 0, stream, b"x"),
    "WINDOW_UPDATE": lambda server, stream: server.make.window_update(stream, 1),
    "WINDOW_UPDATE for all": lambda server, stream: server.make.window_update(0, 1),
    "GOAWAY": lambda server, stream: server.make.goaway(stream),
    "RST_STREAM for a stream that is over": lambda server, stream: server.make.rst_stream(1),
    "header blocks for a stream that is over": lambda server, stream: server.make.headers(1, TRAILERS, flags=END),
    "DATA for a stream that is over": lambda server, stream: server.make.data(1, b"12345"),
    "empty DATA": lambda server, stream: server.make.data(stream, b""),
    "DATA of one byte": lambda server, stream: server.make.data(stream, b"1"),
    "empty DATA for a stream that is over": lambda server, stream: server.make.data(1, b""),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods_end_the_connection(flood: Odd) -> None:
    """What is legal once and brings nothing; what the engine queues meanwhile is bounded."""
    server = Server(ClientLimits(patience=1000, stream_window=10_000))
    over, stream_id = server.open(2)
    server.say(server.reply(over), server.make.headers(stream_id, RESPONSE))
    server.hear()
    frame = flood(server, stream_id)
    failed: list[int] = []
    sent = 0
    while not failed and sent < 2500:
        failed = failures(server.say(frame * 50))
        sent += 50

    assert failed
    assert len(server.engine.bytes_to_send()) < 40_000


def test_a_header_block_without_end_is_bounded() -> None:
    server = Server(ClientLimits(max_header_block=100_000))
    (stream_id,) = server.open()
    events = server.say(raw(1, 0, stream_id, b""), raw(9, 0, stream_id, bytes(MAX_FRAME_IN)) * 7)

    assert [ErrorCode.ENHANCE_YOUR_CALM] == failures(events)


def test_empty_parts_of_a_header_block_are_bounded() -> None:
    server = Server(ClientLimits(patience=1000))
    (stream_id,) = server.open()
    events = server.say(raw(1, 0, stream_id, b""), raw(9, 0, stream_id, b"") * 1100)

    assert [ErrorCode.ENHANCE_YOUR_CALM] == failures(events)


def test_an_honest_server_may_ask_for_signs_of_life_with_each_message() -> None:
    """gRPC servers measure the path by a PING for some DATA, and open windows for each message they take."""
    server = Server(ClientLimits(patience=100))
    (stream_id,) = server.open()
    server.say(server.make.headers(stream_id, RESPONSE))
    for _ in range(5000):
        server.say(
            server.make.ping(),
            server.make.window_update(0, 5),
            server.make.data(stream_id, b"12345"),
        )
        server.engine.credit(stream_id, 5)
        server.hear()

    assert server.engine.is_open(stream_id)


def test_patience_comes_back_with_time() -> None:
    server = Server(ClientLimits(patience=100, patience_rate=10.0))
    server.open()
    for _ in range(10):
        assert [] == server.say(server.make.ping() * 90)
        server.now += 10.0

    assert server.engine.capacity


# -- windows -----------------------------------------------------------------------------------------------------------


def test_the_window_of_a_stream_opens_when_its_reader_takes() -> None:
    """The connection's opens when bytes arrive: a reader that takes nothing holds nobody up."""
    server = Server(ClientLimits(stream_window=1000, connection_window=70_000))
    streams = server.open(80)
    for stream_id in streams:
        server.say(server.make.headers(stream_id, RESPONSE), server.make.data(stream_id, bytes(1000)))
    heard = increments(server.hear())

    assert {0} == {stream_id for stream_id, _ in heard}
    assert sum(size for _, size in heard) >= 70_000
    assert not server.engine.credit(streams[0], 499)
    assert server.engine.credit(streams[0], 1)
    assert [(streams[0], 500)] == increments(server.hear())
    assert not server.engine.credit(999, 1000)


def test_a_padded_frame_takes_as_much_of_the_windows_as_it_is_long() -> None:
    """And what is padding is given back at once."""
    server = Server(ClientLimits(stream_window=400, connection_window=70_000))
    (stream_id,) = server.open()
    server.say(server.make.headers(stream_id, RESPONSE))
    events = server.say(server.make.data(stream_id, b"12345", padding=200))

    assert [DataReceived(stream_id, b"12345", ended=False)] == events
    assert [(stream_id, 201)] == increments(server.hear())


def test_a_message_waits_for_the_servers_windows() -> None:
    server = Server(settings={4: 10})
    stream_id = server.engine.open(REQUEST)
    server.hear()

    assert not server.engine.send_data(stream_id, bytes(25))
    server.engine.end(stream_id)
    assert [10] == [len(frame.data) for frame in server.hear() if isinstance(frame, DataFrame)]
    assert 15 == server.engine.queued_bytes
    assert [] == server.say(server.make.window_update(stream_id, 10))
    assert [] == server.say(server.make.window_update(stream_id, 10))
    frames = [frame for frame in server.hear() if isinstance(frame, DataFrame)]
    assert [10, 5] == [len(frame.data) for frame in frames]
    assert "END_STREAM" in frames[-1].flags
    assert 0 == server.engine.queued_bytes


def test_room_is_told_when_all_has_left() -> None:
    server = Server(settings={4: 10})
    stream_id = server.engine.open(REQUEST)
    server.engine.send_data(stream_id, bytes(25))

    assert [] == server.say(server.make.window_update(stream_id, 10))
    assert [WindowOpened(stream_id)] == server.say(server.make.window_update(stream_id, 5))


def test_a_changed_initial_window_counts_for_streams_under_way() -> None:
    """Smaller: they owe; larger: what waits leaves behind the acknowledgement (RFC 9113 6.9.2, 6.5.3)."""
    server = Server(settings={4: 100})
    stream_id = server.engine.open(REQUEST)
    assert server.engine.send_data(stream_id, bytes(80))
    server.say(server.make.settings({4: 50}))
    assert not server.engine.send_data(stream_id, bytes(10))
    server.say(server.make.window_update(stream_id, 30))
    server.hear()
    assert 10 == server.engine.queued_bytes
    assert [WindowOpened(stream_id)] == server.say(server.make.settings({4: 60}))
    ack, data = server.hear()

    assert isinstance(ack, SettingsFrame)
    assert isinstance(data, DataFrame)


def test_the_connections_window_is_shared() -> None:
    """One frame each in turn."""
    server = Server(settings={4: 2**31 - 1})
    one, two, three = (server.engine.open(REQUEST) for _ in range(3))
    for stream_id in (one, two, three):
        server.engine.send_data(stream_id, bytes(60_000))
    server.hear()
    server.say(server.make.window_update(0, 4 * 16_384))
    order = [frame.stream_id for frame in server.hear() if isinstance(frame, DataFrame)]

    assert [two, three, two, three] == order


def test_a_stream_that_ends_gives_up_what_waits() -> None:
    server = Server(settings={4: 10})
    streams = [server.engine.open(REQUEST) for _ in range(3)]
    for stream_id in streams:
        server.engine.send_data(stream_id, bytes(25))
    server.engine.reset(streams[0], ErrorCode.CANCEL)
    server.say(server.make.rst_stream(streams[1]), server.reply(streams[2]))

    assert 0 == server.engine.queued_bytes
    server.hear()
    assert [] == server.say(server.make.settings({4: 100}))


def test_frames_are_as_large_as_the_server_takes() -> None:
    server = Server(settings={4: 2**31 - 1, 5: 1 << 20})
    stream_id = server.engine.open(REQUEST)

    assert server.engine.send_data(stream_id, bytes(60_000))
    assert [60_000] == [len(frame.data) for frame in server.hear() if isinstance(frame, DataFrame)]


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_reset_is_told_with_its_code() -> None:
    server = Server()
    (stream_id,) = server.open()

    assert [StreamReset(stream_id, 7, by_peer=True)] == server.say(server.make.rst_stream(stream_id, 7))


def test_what_comes_late_on_a_stream_that_we_gave_up_is_let_pass() -> None:
    """As much as its window allowed; the table of the header compression goes on."""
    server = Server(ClientLimits(stream_window=1000))
    gone, stays = server.open(2)
    server.engine.reset(gone, ErrorCode.CANCEL)
    fields: Fields = (*RESPONSE, ("x-new", "1"))

    assert [] == server.say(server.make.headers(gone, fields), server.make.data(gone, bytes(1000)))
    assert [ResponseReceived(stays, fields, ended=False)] == server.say(server.make.headers(stays, fields))
    assert [ErrorCode.STREAM_CLOSED] == failures(server.say(server.make.data(gone, b"1")))


def test_goaway_says_which_streams_were_never_begun() -> None:
    server = Server()
    one, two, three = server.open(3)
    events = server.say(server.make.goaway(one))

    assert [StreamNotProcessed(two), StreamNotProcessed(three), GoingAway(0, b"")] == events
    assert 0 == server.engine.capacity
    assert server.replied(one) == server.say(server.reply(one))


def test_the_first_goaway_of_a_drain_refuses_nothing() -> None:
    """2^31-1, and the true one later (RFC 9113 6.8)."""
    server = Server()
    one, two = server.open(2)
    first = server.say(server.make.goaway(2**31 - 1))
    second = server.say(server.make.goaway(one))

    assert [GoingAway(0, b"")] == first
    assert [StreamNotProcessed(two), GoingAway(0, b"")] == second


def test_capacity_follows_the_server() -> None:
    server = Server(settings={3: 2})
    one, _ = server.open(2)
    assert 0 == server.engine.capacity
    assert [CapacityChanged()] == server.say(server.make.settings({3: 5}))
    assert 3 == server.engine.capacity
    server.say(server.reply(one))
    assert 4 == server.engine.capacity


def test_pings_are_answered_and_answers_told() -> None:
    server = Server()
    server.say(server.make.ping(b"abcdefgh"))
    (answer,) = server.hear()
    assert isinstance(answer, PingFrame)
    assert (b"abcdefgh", {"ACK"}) == (answer.opaque_data, set(answer.flags))
    server.engine.ping(b"ours....")
    server.hear()
    answered = server.say(server.make.ping(b"ours....", flags=["ACK"]))

    assert [PingAcknowledged(b"ours....")] == answered


def test_a_long_header_list_takes_several_frames() -> None:
    server = Server()
    server.engine.open((*REQUEST, ("x-long", "x" * 40_000)))

    assert [1, 9, 9] == [frame.type for frame in server.hear()]


# -- properties --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_garbage_never_raises(garbage: bytes) -> None:
    """It ends the connection, or is waited for."""
    server = Server()
    server.open(2)
    events = server.say(garbage)

    assert len(failures(events)) <= 1


FRAMES = st.lists(
    st.one_of(
        st.tuples(
            st.integers(0, 10),
            st.sampled_from([0, 1, 4, 5, 8, 9, 12, 0x29]),
            st.sampled_from([0, 1, 2, 3, 5]),
            st.one_of(st.binary(max_size=12), st.sampled_from([b"\x88", bytes(4), bytes(8), b"\0\0\0\1"])),
        )
    ),
    max_size=12,
)


@given(FRAMES, st.lists(st.integers(1, 300), max_size=8))
def test_any_chunking_gives_the_same_events(frames: list[tuple[int, int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join([raw(*frame) for frame in frames])

    def outcome(chunks: list[bytes]) -> tuple[list[ClientEvent], bytes]:
        server = Server()
        server.open(2)
        events = [event for chunk in chunks for event in server.say(chunk)]
        return events, server.engine.bytes_to_send()

    assert outcome([data]) == outcome(in_chunks(data, cuts))


class Oracle:
    """A server of python-hyper's h2, which echoes each request when it is over."""

    def __init__(self, settings: dict[SettingCodes, int]) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.left: dict[int, bytes] = {}

    def receive(self, data: bytes) -> None:
        events = self.h2.receive_data(data)
        gone = {event.stream_id for event in events if isinstance(event, H2Reset)}
        for event in events:
            if isinstance(event, H2Request):
                assert list(REQUEST) == [(str(name), str(value)) for name, value in event.headers]
                self.bodies[event.stream_id] = b""
                if event.stream_id not in gone:
                    self.h2.send_headers(event.stream_id, RESPONSE)
            elif isinstance(event, H2Data):
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, H2Ended):
                self.left[event.stream_id] = self.bodies[event.stream_id]
        for stream_id in gone:
            self.left.pop(stream_id, None)
        for stream_id in list(self.left):
            self._send(stream_id)

    def _send(self, stream_id: int) -> None:
        while self.left[stream_id]:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size, 700)
            if room <= 0:
                return
            part, self.left[stream_id] = self.left[stream_id][:room], self.left[stream_id][room:]
            self.h2.send_data(stream_id, part)
        self.h2.send_headers(stream_id, TRAILERS, end_stream=True)
        del self.left[stream_id]


@given(
    bodies=st.lists(st.integers(0, 40_000), min_size=1, max_size=6),
    window=st.sampled_from([1, 100, 65_535, 1 << 20]),
    own_window=st.sampled_from([1000, 70_000]),
    chunk=st.sampled_from([7, 1000, 1 << 20]),
    cancelled=st.sets(st.integers(0, 5), max_size=2),
)
def test_calls_mean_the_same_to_h2(
    bodies: list[int], window: int, own_window: int, chunk: int, cancelled: set[int]
) -> None:
    """Whole conversations, through windows of all sizes, in chunks of any size."""
    if window == 1:
        bodies = [size % 200 for size in bodies]
    engine = ClientEngine(ClientLimits(stream_window=own_window, connection_window=own_window + 65_535, patience=10**6))
    server = Oracle({SettingCodes.INITIAL_WINDOW_SIZE: window})
    sent: dict[int, bytes] = {}
    received: dict[int, bytes] = {}
    ended: set[int] = set()

    def hear() -> bool:
        to_server, to_client = engine.bytes_to_send(), server.h2.data_to_send()
        for at in range(0, len(to_server), chunk):
            server.receive(to_server[at : at + chunk])
        for at in range(0, len(to_client), chunk):
            for event in engine.receive(to_client[at : at + chunk], now=0.0):
                assert not isinstance(event, ConnectionFailed | StreamFailed), event
                if isinstance(event, DataReceived):
                    received[event.stream_id] += event.data
                    engine.credit(event.stream_id, len(event.data))
                elif isinstance(event, TrailersReceived):
                    ended.add(event.stream_id)
        return bool(to_server or to_client)

    while not engine.capacity:
        hear()
    for number, size in enumerate(bodies):
        stream_id = engine.open(REQUEST)
        body = bytes([number]) * size
        sent[stream_id], received[stream_id] = body, b""
        engine.send_data(stream_id, body)
        engine.end(stream_id)
        if number in cancelled:
            engine.reset(stream_id, ErrorCode.CANCEL)
    while hear():
        pass

    kept = {each for each in sent if (each - 1) // 2 not in cancelled}
    assert ended == kept
    assert {each: sent[each] for each in kept} == {each: received[each] for each in kept}
    assert not engine.open_streams
    assert not server.left
