"""What both engines do alike."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hpack import Decoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    PingAcknowledged,
    RequestReceived,
    StreamReset,
    Violation,
    ViolationKind,
    WindowOpened,
)
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.preface import HTTP1_ANSWER
from tests.support.frames import (
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    Client,
    FrameFactory,
    body_of,
    increments,
    parse,
    raw,
    received,
    violations,
)
from tests.unit.http2.conftest import EngineClass

WINDOW = EngineLimits().stream_window


def _pairs(fields: Iterable[Sequence[object]]) -> tuple[tuple[str, str], ...]:
    return tuple([(str(name), str(value)) for name, value in fields])


def answer(engine: Engine, stream_id: int, body: bytes = b"answer") -> None:
    engine.send(stream_id, head=RESPONSE)
    engine.send(stream_id, body=body)
    engine.send(stream_id, end=TRAILERS)


# -- handshake ---------------------------------------------------------------------------------------------------------


def test_engine_is_silent_until_the_preface_has_arrived(engine_class: EngineClass) -> None:
    """Before that it may still be an HTTP/1 client, which must not be sent frames."""
    engine = engine_class(EngineLimits())
    engine.receive(PREFACE[:-1], now=0.0)

    assert b"" == engine.bytes_to_send()


def test_settings_come_first_and_say_the_limits(engine_class: EngineClass) -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE and _MAX_HEADER_LIST_SIZE are the configured ones."""
    limits = EngineLimits(max_concurrent_streams=7, max_header_list=5000, stream_window=100_000)
    client = Client(engine_class(limits))
    settings, window = client.greeting[:2]

    assert isinstance(settings, SettingsFrame)
    assert (7, 5000, 100_000) == tuple(settings.settings[key] for key in (3, 6, 4))
    assert isinstance(window, WindowUpdateFrame)
    assert limits.connection_window == 65535 + window.window_increment


def test_settings_of_the_client_are_acknowledged(either: Client) -> None:
    either.say(either.make.settings({4: 1000}))
    (ack,) = either.hear()

    assert isinstance(ack, SettingsFrame)
    assert {"ACK"} == set(ack.flags)


def test_handshake_is_over_with_the_first_settings(engine_class: EngineClass) -> None:
    engine = engine_class(EngineLimits())
    received(engine, PREFACE, now=0.0)
    before = engine.has_handshaken
    received(engine, FrameFactory().settings(), now=0.0)

    assert (False, True) == (before, engine.has_handshaken)


def test_max_header_list_of_the_client_is_kept(either: Client) -> None:
    before = either.engine.peer_max_header_list
    either.say(either.make.settings({6: 8192}))

    assert (None, 8192) == (before, either.engine.peer_max_header_list)


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1\r\n", b"POST ", b"PUT /x HTTP/1.0\r\n\r\n"])
def test_http1_request_gets_an_http1_answer(engine_class: EngineClass, request_line: bytes) -> None:
    engine = engine_class(EngineLimits())
    events = received(engine, request_line, now=0.0)

    assert [
        Violation(ViolationKind.HTTP1),
        ConnectionFailed(ErrorCode.HTTP_1_1_REQUIRED, "an HTTP/1.x request"),
    ] == events
    assert HTTP1_ANSWER == engine.bytes_to_send()


def test_http1_answer_is_whole() -> None:
    """It says that it closes, and its length is right."""
    head, _, body = HTTP1_ANSWER.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"this port speaks gRPC over HTTP/2" in body


@pytest.mark.parametrize(
    ("first_bytes", "reason"),
    [(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS client"), (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP/2")],
)
def test_anything_else_than_http_gets_goaway(engine_class: EngineClass, first_bytes: bytes, reason: str) -> None:
    """It is said what it looks like: a TLS client has to learn something else than a client of SSH."""
    engine = engine_class(EngineLimits())
    events = engine.receive(first_bytes, now=0.0)
    settings, _, goaway = parse(engine.bytes_to_send())

    assert ConnectionFailed(ErrorCode.PROTOCOL_ERROR, reason) == events[-1]
    assert isinstance(settings, SettingsFrame)
    assert isinstance(goaway, GoAwayFrame)
    assert reason.encode() == goaway.additional_data


def test_nothing_is_received_or_said_after_the_end(engine_class: EngineClass) -> None:
    engine = engine_class(EngineLimits())
    engine.receive(b"GET /", now=0.0)
    engine.bytes_to_send()
    engine.announce_goaway()
    engine.goaway()
    engine.ping(bytes(8))
    engine.credit(1, 5)

    assert [] == received(engine, FrameFactory().start(), now=0.0)
    assert b"" == engine.bytes_to_send()


# -- calls -------------------------------------------------------------------------------------------------------------


def test_unary_call(either: Client) -> None:
    """HEADERS and DATA in; HEADERS, DATA and trailers out; nothing remains."""
    make, engine = either.make, either.engine
    events = either.say(make.headers(1), make.data(1, b"question", flags=["END_STREAM"]))
    answer(engine, 1)
    head, data, trailers = either.hear()

    assert [RequestReceived(1, REQUEST, ended=False), DataReceived(1, b"question", ended=True)] == events
    assert RESPONSE == either.fields(head)
    assert isinstance(data, DataFrame)
    assert b"answer" == data.data
    assert TRAILERS == either.fields(trailers)
    assert "END_STREAM" in trailers.flags
    assert [] == list(engine.open_streams)


def test_trailers_only_answer(either: Client) -> None:
    either.say(either.make.request(1))
    either.engine.send(1, end=(*RESPONSE, ("grpc-status", "12")))
    (head,) = either.hear()

    assert {"END_HEADERS", "END_STREAM"} == set(head.flags)
    assert (*RESPONSE, ("grpc-status", "12")) == either.fields(head)


def test_early_answer_is_followed_by_a_reset_without_error(either: Client) -> None:
    """RFC 9113 8.1: the client has not ended its side, and need not any more."""
    either.say(either.make.headers(1))
    either.engine.send(1, end=(*RESPONSE, *TRAILERS))
    _, reset = either.hear()

    assert isinstance(reset, RstStreamFrame)
    assert (1, ErrorCode.NO_ERROR) == (reset.stream_id, reset.error_code)
    assert not either.engine.is_open(1)


def test_late_data_is_forgiven_and_its_window_given_back(engine_class: EngineClass) -> None:
    """What the client sent before it learned of our reset counts only for the connection."""
    client = Client(engine_class(EngineLimits(connection_window=70_000)))
    client.say(client.make.headers(1))
    client.engine.reset(1, ErrorCode.CANCEL)
    client.hear()
    events = client.say(*[client.make.data(1, bytes(16_000)) for _ in range(3)])
    given_back = increments(client.hear())

    assert [] == events
    assert [0] == [stream_id for stream_id, _ in given_back]
    assert not client.goaways()


def test_calls_interleave(either: Client) -> None:
    make = either.make
    events = either.say(make.headers(1), make.headers(3), make.data(1, b"one"), make.data(3, b"three"))

    assert [1, 3] == [event.stream_id for event in events if isinstance(event, RequestReceived)]
    assert [(1, b"one"), (3, b"three")] == [
        (event.stream_id, event.data) for event in events if isinstance(event, DataReceived)
    ]
    assert {1, 3} == set(either.engine.open_streams)


def test_trailers_of_the_client_end_the_body(either: Client) -> None:
    make = either.make
    either.say(make.headers(1), make.data(1, b"question"))
    events = either.say(make.headers(1, [("x-checksum", "1")], flags=["END_HEADERS", "END_STREAM"]))

    assert [DataReceived(1, b"", ended=True)] == events


def test_pseudo_header_in_trailers_ends_the_stream(either: Client) -> None:
    make = either.make
    either.say(make.headers(1))
    events = either.say(make.headers(1, [(":path", "/")], flags=["END_HEADERS", "END_STREAM"]))

    assert [
        Violation(ViolationKind.MALFORMED_HEADERS),
        StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False),
    ] == events
    assert [(1, ErrorCode.PROTOCOL_ERROR)] == either.resets()


def test_reset_by_the_client(either: Client) -> None:
    either.say(either.make.headers(1))
    events = either.say(either.make.rst_stream(1, ErrorCode.CANCEL))

    assert [StreamReset(1, ErrorCode.CANCEL, by_peer=True)] == events
    assert not either.engine.is_open(1)


def test_reset_in_the_same_read_as_its_request(either: Client) -> None:
    events = either.say(either.make.headers(1), either.make.rst_stream(1))

    assert [RequestReceived, StreamReset] == [type(event) for event in events]


def test_reset_by_us_brings_no_event(either: Client) -> None:
    either.say(either.make.headers(1))
    either.engine.reset(1, ErrorCode.CANCEL)

    assert [(1, ErrorCode.CANCEL)] == either.resets()
    assert [] == either.say(either.make.ping())


def test_sends_on_a_stream_that_is_over_are_ignored(either: Client) -> None:
    """The client may have reset it a moment ago."""
    either.say(either.make.headers(1), either.make.rst_stream(1))
    has_room = either.engine.send(1, body=b"answer")
    answer(either.engine, 1)
    either.engine.reset(1, ErrorCode.CANCEL)

    assert has_room
    assert [] == either.hear()


def test_header_block_in_parts(either: Client) -> None:
    block = either.make.split_headers(1, 3)
    begun = either.say(block[:40])
    was_open = either.engine.has_open_block
    events = either.say(block[40:])

    assert ([], True, False) == (begun, was_open, either.engine.has_open_block)
    assert [RequestReceived(1, REQUEST, ended=False)] == events


def test_header_block_that_trickles_in_is_open(either: Client) -> None:
    """From the type byte of its first frame to the last byte of its last one."""
    block = either.make.headers(1)
    open_at = []
    for at in range(len(block)):
        either.say(block[at : at + 1])
        open_at.append(either.engine.has_open_block)

    assert [False] * 3 + [True] * (len(block) - 4) + [False] == open_at


def test_spaces_around_values_are_taken_off(either: Client) -> None:
    """RFC 9113 8.2.1 forbids them; a gRPC call must not fail over them (PROTOCOL-HTTP2, "ASCII-Value")."""
    (event,) = either.say(either.make.request(1, [*REQUEST, ("x-name", " Ada \t")]))

    assert isinstance(event, RequestReceived)
    assert ("x-name", "Ada") == event.fields[-1]


def test_latin_1_values_survive(either: Client) -> None:
    block = either.make.block(REQUEST) + b"\x00\x06x-name\x04Zo\xeb!"
    (event,) = either.say(raw(1, 5, 1, block))

    assert isinstance(event, RequestReceived)
    assert ("x-name", "Zo\xeb!") == event.fields[-1]


# -- pings -------------------------------------------------------------------------------------------------------------


def test_ping_is_answered(either: Client) -> None:
    either.say(either.make.ping(b"abcdefgh"))
    (pong,) = either.hear()

    assert isinstance(pong, PingFrame)
    assert ({"ACK"}, b"abcdefgh") == (set(pong.flags), pong.opaque_data)


def test_answer_to_our_ping_is_reported(either: Client) -> None:
    either.engine.ping(b"are you?")
    (ping,) = either.hear()
    events = either.say(either.make.ping(b"are you?", flags=["ACK"]))

    assert set() == set(ping.flags)
    assert [PingAcknowledged(b"are you?")] == events


# -- windows -----------------------------------------------------------------------------------------------------------


def test_windows_stay_reduced_until_the_consumer_credits(either: Client) -> None:
    make = either.make
    either.say(make.headers(1), *[make.data(1, bytes(16_000)) for _ in range(40)])
    before = increments(either.hear())
    either.engine.credit(1, 600_000)

    assert [] == before
    assert [(1, 600_000)] == increments(either.hear())


def test_padding_is_credited_at_once(engine_class: EngineClass) -> None:
    """No consumer ever sees it."""
    client = Client(engine_class(EngineLimits(stream_window=1000, connection_window=70_000)))
    make = client.make
    client.say(make.headers(1), *[make.data(1, b"x", padding=250) for _ in range(2)])

    assert [(1, 2 * 251)] == increments(client.hear())


def test_credit_for_an_ended_stream_opens_the_connection(engine_class: EngineClass) -> None:
    client = Client(engine_class(EngineLimits(connection_window=70_000)))
    make = client.make
    client.say(make.headers(1), *[make.data(1, bytes(16_000)) for _ in range(3)])
    client.say(make.rst_stream(1))
    client.engine.credit(1, 48_000)

    assert [(0, 48_000)] == increments(client.hear())


def test_answer_waits_for_the_window_of_its_stream(either: Client) -> None:
    """What does not fit is queued, trailers behind it; WINDOW_UPDATE moves it on."""
    either.say(either.make.settings({4: 10}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    has_room = either.engine.send(1, body=b"0123456789abcdef")
    queued = either.engine.queued_bytes
    either.engine.send(1, end=TRAILERS)
    first = either.hear()
    either.say(either.make.window_update(1, 100))
    second = either.hear()

    assert (False, 6) == (has_room, queued)
    assert b"0123456789" == body_of(first, 1)
    assert b"abcdef" == body_of(second, 1)
    assert isinstance(second[-1], HeadersFrame)
    assert 0 == either.engine.queued_bytes
    assert [] == list(either.engine.open_streams)


def test_stream_with_queued_trailers_takes_no_more(either: Client) -> None:
    either.say(either.make.settings({4: 1}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    either.engine.send(1, body=b"ab")
    either.engine.send(1, end=TRAILERS)

    assert not either.engine.is_open(1)
    assert [1] == list(either.engine.open_streams)


def test_window_opened_is_said_once_all_is_sent(either: Client) -> None:
    either.say(either.make.settings({4: 1}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    either.engine.send(1, body=b"abc")
    some = either.say(either.make.window_update(1, 1))
    rest = either.say(either.make.window_update(1, 1))

    assert [] == some
    assert [WindowOpened(1)] == rest


def test_window_shrunk_below_zero_must_be_paid_back_first(either: Client) -> None:
    """RFC 9113 6.9.2: an INITIAL_WINDOW_SIZE that shrinks may leave a stream with less than nothing."""
    either.say(either.make.settings({4: 10}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    either.engine.send(1, body=b"0123456789")
    either.say(either.make.settings({4: 3}))
    either.engine.send(1, body=b"ab")
    either.hear()
    either.say(either.make.window_update(1, 7))
    at_zero = body_of(either.hear(), 1)
    events = either.say(either.make.window_update(1, 2))

    assert b"" == at_zero
    assert b"ab" == body_of(either.hear(), 1)
    assert [WindowOpened(1)] == events


def test_larger_initial_window_moves_waiting_streams_on(either: Client) -> None:
    either.say(either.make.settings({4: 1}), either.make.request(1), either.make.request(3))
    for stream_id in (1, 3):
        either.engine.send(stream_id, head=RESPONSE)
        either.engine.send(stream_id, body=b"ab")
    either.hear()
    events = either.say(either.make.settings({4: 2}))
    frames = either.hear()

    assert [WindowOpened(1), WindowOpened(3)] == events
    assert (b"b", b"b") == (body_of(frames, 1), body_of(frames, 3))


def test_windows_above_their_maximum_end_the_connection(either: Client) -> None:
    """Of a stream by INITIAL_WINDOW_SIZE, RFC 9113 6.9.2."""
    either.say(either.make.request(1), either.make.window_update(1, 2**31 - 1 - 65535))
    events = either.say(either.make.settings({4: 65536}))

    assert isinstance(events[-1], ConnectionFailed)
    assert ErrorCode.FLOW_CONTROL_ERROR == events[-1].code


def test_answer_waits_for_the_window_of_the_connection(either: Client) -> None:
    either.say(either.make.settings({4: 2**20}), either.make.request(1), either.make.request(3))
    for stream_id in (1, 3):
        either.engine.send(stream_id, head=RESPONSE)
        either.engine.send(stream_id, body=bytes(60_000))
    sent = either.hear()
    events = either.say(either.make.window_update(0, 60_000))

    assert (60_000, 5535) == (len(body_of(sent, 1)), len(body_of(sent, 3)))
    assert 60_000 - 5535 == len(body_of(either.hear(), 3))
    assert [WindowOpened(3)] == events


def test_answers_keep_to_the_frame_size_of_the_client(either: Client) -> None:
    either.say(either.make.settings({4: 2**20, 5: 20_000}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    either.engine.send(1, body=bytes(50_000))
    sizes = [len(frame.data) for frame in either.hear() if isinstance(frame, DataFrame)]

    assert [20_000, 20_000, 10_000] == sizes


def test_reset_frees_what_was_queued(either: Client) -> None:
    either.say(either.make.settings({4: 1}), either.make.request(1))
    either.engine.send(1, head=RESPONSE)
    either.engine.send(1, body=b"abcdef")
    either.say(either.make.rst_stream(1))

    assert 0 == either.engine.queued_bytes


# -- header blocks out -------------------------------------------------------------------------------------------------


def test_client_without_a_table_reads_every_answer(either: Client) -> None:
    """RFC 9113 4.3.1: after SETTINGS_HEADER_TABLE_SIZE 0 a block must begin with a table size update; this decoder
    insists.
    """
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    either.say(either.make.settings({1: 0}), either.make.request(1), either.make.request(3))
    answer(either.engine, 1)
    answer(either.engine, 3)
    blocks = [frame.data for frame in either.hear() if isinstance(frame, HeadersFrame)]

    assert [RESPONSE, TRAILERS] * 2 == [_pairs(decoder.decode(block)) for block in blocks]
    assert 0 == len(decoder.header_table.dynamic_entries)


def test_long_header_block_is_continued(either: Client) -> None:
    either.say(either.make.request(1))
    message = "x" * 40_000
    either.engine.send(1, end=(*RESPONSE, ("grpc-message", message)))
    frames = either.hear()
    decoder = Decoder()
    decoder.max_header_list_size = 1 << 20
    parts = [frame for frame in frames if isinstance(frame, HeadersFrame | ContinuationFrame)]
    fields = _pairs(decoder.decode(b"".join([part.data for part in parts])))

    assert parts == frames
    assert 16_384 == max(frame.body_len for frame in frames)
    assert ("END_STREAM" in frames[0].flags, "END_HEADERS" in frames[-1].flags) == (True, True)
    assert ("grpc-message", message) == fields[-1]


# -- refusing, draining ------------------------------------------------------------------------------------------------


def test_streams_above_the_maximum_are_refused(engine_class: EngineClass) -> None:
    """Refused, not failed: the client may try again, and the others go on."""
    client = Client(engine_class(EngineLimits(max_concurrent_streams=2)))
    events = client.say(*[client.make.headers(stream_id) for stream_id in (1, 3, 5)])

    assert [RequestReceived, RequestReceived, Violation] == [type(event) for event in events]
    assert ["too_many_streams"] == violations(events)
    assert [(5, ErrorCode.REFUSED_STREAM)] == client.resets()

    client.say(client.make.rst_stream(1))
    assert [RequestReceived(7, REQUEST, ended=True)] == client.say(client.make.request(7))


def test_malformed_request_costs_its_stream_only(either: Client) -> None:
    """RFC 9113 8.1.1."""
    events = either.say(either.make.request(1, [*REQUEST, ("connection", "close")]), either.make.request(3))

    assert [Violation(ViolationKind.MALFORMED_HEADERS), RequestReceived(3, REQUEST, ended=True)] == events
    assert [(1, ErrorCode.PROTOCOL_ERROR)] == either.resets()


def test_drain_in_two_steps(either: Client) -> None:
    """The first GOAWAY loses nothing under way, the second counts; what has begun goes on to its end."""
    either.say(either.make.headers(1))
    either.engine.announce_goaway(b"max_age")
    announced = either.goaways()
    between = either.say(either.make.request(3))
    either.engine.goaway()
    counted = either.goaways()
    after = either.say(either.make.request(5), either.make.data(1, b"x", flags=["END_STREAM"]))
    answer(either.engine, 1)
    frames = either.hear()

    assert [(2**31 - 1, ErrorCode.NO_ERROR, b"max_age")] == announced
    assert [RequestReceived(3, REQUEST, ended=True)] == between
    assert [(3, ErrorCode.NO_ERROR, b"")] == counted
    assert [DataReceived(1, b"x", ended=True)] == after
    assert isinstance(frames[0], RstStreamFrame)
    assert (5, ErrorCode.REFUSED_STREAM) == (frames[0].stream_id, frames[0].error_code)
    assert b"answer" == body_of(frames, 1)
    assert {3} == set(either.engine.open_streams)


def test_goaway_of_the_client_ends_nothing(either: Client) -> None:
    """It opens no more streams; those it has opened are answered."""
    either.say(either.make.request(1), either.make.goaway())
    answer(either.engine, 1)

    assert b"answer" == body_of(either.hear(), 1)


def test_fault_of_the_connection_ends_every_stream(either: Client) -> None:
    """Its GOAWAY names the last stream seen and says why; what is sent afterwards goes nowhere."""
    events = either.say(either.make.headers(1), raw(0, 0, 0, b"DATA on stream 0"))
    answer(either.engine, 1)
    frames = either.hear()

    assert isinstance(events[0], RequestReceived)
    assert isinstance(events[-1], ConnectionFailed)
    assert [] == list(either.engine.open_streams)
    assert [GoAwayFrame] == [type(frame) for frame in frames]
    assert isinstance(frames[0], GoAwayFrame)
    assert (1, ErrorCode.PROTOCOL_ERROR) == (frames[0].last_stream_id, frames[0].error_code)
    assert b"" != frames[0].additional_data


def test_frame_size_is_judged_by_the_head_alone(either: Client) -> None:
    """Nothing is buffered for a frame that is too large (protocol-defined default: 16,384 bytes)."""
    head = (16_385).to_bytes(3, "big") + b"\0\0\0\0\0\1"
    events = either.say(either.make.headers(1), head)

    assert isinstance(events[-1], ConnectionFailed)
    assert ErrorCode.FRAME_SIZE_ERROR == events[-1].code


# -- chunking ----------------------------------------------------------------------------------------------------------


def conversation() -> bytes:
    make = FrameFactory()
    return b"".join(
        [
            make.start({4: 100_000, 6: 9999}),
            make.settings_ack(),
            make.headers(1),
            make.data(1, b"first"),
            make.split_headers(3, 2),
            make.data(3, b"padded", padding=20),
            make.ping(),
            make.data(1, b"", flags=["END_STREAM"]),
            make.request(5, [*REQUEST, ("upgrade", "h2c")]),
            make.window_update(0, 5000),
            raw(0xBE, 0xFF, 77, b"an unknown frame"),
            make.headers(3, [("x-trailer", "1")], flags=["END_HEADERS", "END_STREAM"]),
            make.request(7),
            make.rst_stream(7),
            make.priority(9),
            make.data(7, b"late"),
            make.headers(9),
            make.data(11, b"a stream that has not begun"),
            make.ping(),
        ]
    )


def cut(data: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [data]
    if how == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    points = sorted(random.Random(how).sample(range(len(data)), 12))
    return [data[start:end] for start, end in zip([0, *points], [*points, len(data)], strict=True)]


@pytest.mark.parametrize("how", ["bytes", "seed 1", "seed 2", "seed 3", "seed 4"])
def test_any_chunking_gives_the_same(engine_class: EngineClass, how: str) -> None:
    """Events and answers depend on the bytes, not on where reads cut them."""
    whole, parts = engine_class(EngineLimits()), engine_class(EngineLimits())
    expected = received(whole, conversation(), now=0.0)
    actual = [event for part in cut(conversation(), how) for event in received(parts, part, now=0.0)]

    assert isinstance(expected[-1], ConnectionFailed)
    assert expected == actual
    assert whole.bytes_to_send() == parts.bytes_to_send()
