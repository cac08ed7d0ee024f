"""The native engine's rules, frame type by frame type, and its limits. What it shares with the reference is in
test_interface.py.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    Event,
    Fields,
    PingAcknowledged,
    RequestReceived,
    StreamReset,
    Violation,
    ViolationKind,
    WindowOpened,
)
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from tests.support.frames import (
    PREFACE,
    REQUEST,
    RESPONSE,
    TRAILERS,
    Client,
    FrameFactory,
    body_of,
    increments,
    raw,
    violations,
)

FLAG_END_STREAM, FLAG_ACK, FLAG_PADDED, FLAG_PRIORITY, FLAG_END_HEADERS = 0x1, 0x1, 0x8, 0x20, 0x4
BLOCK = FrameFactory().block(REQUEST)


def failure(events: list[Event]) -> ConnectionFailed:
    last = events[-1]
    assert isinstance(last, ConnectionFailed), events
    assert isinstance(events[-2], Violation)
    return last


def limited(**limits: int) -> Client:
    return Client(NativeEngine(EngineLimits(**limits)))


# -- what ends the connection ------------------------------------------------------------------------------------------

FATAL = {
    "DATA on stream 0": (raw(0x0, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on a stream that has not begun": (raw(0x0, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA padded with more than its payload": (
        raw(0x0, FLAG_PADDED, 1, b"\x05abcd"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "DATA padded without a length": (raw(0x0, FLAG_PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 0": (raw(0x1, FLAG_END_HEADERS, 0, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even stream": (raw(0x1, FLAG_END_HEADERS, 4, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "HEADERS padded with more than its payload": (
        raw(0x1, FLAG_END_HEADERS | FLAG_PADDED, 5, b"\xff" + BLOCK),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "HEADERS too short for its priority": (
        raw(0x1, FLAG_END_HEADERS | FLAG_PRIORITY, 5, b"\0\0"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "HEADERS that do not decompress": (
        raw(0x1, FLAG_END_HEADERS, 5, b"\x80"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "PRIORITY on stream 0": (raw(0x2, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of a wrong size on a stream that has not begun": (
        raw(0x2, 0, 5, bytes(4)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "RST_STREAM on stream 0": (raw(0x3, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on a stream that has not begun": (
        raw(0x3, 0, 5, bytes(4)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "RST_STREAM of a wrong size": (raw(0x3, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (raw(0x4, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of a wrong size": (raw(0x4, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS acknowledged with a payload": (
        raw(0x4, FLAG_ACK, 0, bytes(6)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "SETTINGS with ENABLE_PUSH 2": (
        raw(0x4, 0, 0, b"\0\x02\0\0\0\x02"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "SETTINGS with INITIAL_WINDOW_SIZE 2^31": (
        raw(0x4, 0, 0, b"\0\x04\x80\0\0\0"),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "SETTINGS with MAX_FRAME_SIZE 16383": (
        raw(0x4, 0, 0, b"\0\x05\0\0\x3f\xff"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "SETTINGS with MAX_FRAME_SIZE 2^24": (
        raw(0x4, 0, 0, b"\0\x05\x01\0\0\0"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "PUSH_PROMISE": (raw(0x5, FLAG_END_HEADERS, 1, bytes(4) + BLOCK), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (raw(0x6, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of a wrong size": (raw(0x6, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (raw(0x7, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of a wrong size": (raw(0x7, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0 on the connection": (raw(0x8, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of a wrong size": (raw(0x8, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE on a stream that has not begun": (
        raw(0x8, 0, 5, b"\0\0\0\1"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "WINDOW_UPDATE above the largest window": (
        raw(0x8, 0, 0, b"\x7f\xff\xff\xff"),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "CONTINUATION that continues nothing": (
        raw(0x9, FLAG_END_HEADERS, 1, BLOCK),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION on another stream": (
        raw(0x1, 0, 5, BLOCK) + raw(0x9, FLAG_END_HEADERS, 7, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "DATA inside a header block": (
        raw(0x1, 0, 5, BLOCK) + raw(0x0, 0, 1, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "an unknown frame inside a header block": (
        raw(0x1, 0, 5, BLOCK) + raw(0xBE, 0, 0, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("frames", "code"), FATAL.values(), ids=FATAL.keys())
def test_fatal_frame(client: Client, frames: bytes, code: ErrorCode) -> None:
    """GOAWAY carries the code and the last stream, and its debug data says why (RFC 9113 5.4.1)."""
    client.say(client.make.headers(1))
    fault = failure(client.say(frames))
    ((last_stream, goaway_code, reason),) = client.goaways()

    assert code == fault.code
    assert (1, code, fault.reason.encode()) == (last_stream, goaway_code, reason)


def test_first_frame_must_be_settings() -> None:
    engine = NativeEngine(EngineLimits())
    fault = failure(engine.receive(PREFACE + FrameFactory().ping(), now=0.0))

    assert (ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS") == (fault.code, fault.reason)


def test_acknowledgement_is_no_first_settings() -> None:
    engine = NativeEngine(EngineLimits())
    events = engine.receive(PREFACE + FrameFactory().settings_ack(), now=0.0)

    assert ErrorCode.PROTOCOL_ERROR == failure(events).code


def test_stream_ids_must_grow(client: Client) -> None:
    """RFC 9113 5.1.1: a new stream closes the unused ones below it."""
    client.say(client.make.request(5))

    assert ErrorCode.STREAM_CLOSED == failure(client.say(client.make.request(3))).code


def test_events_before_the_fault_are_kept(client: Client) -> None:
    events = client.say(client.make.request(1), raw(0x6, 0, 0, b""))

    assert RequestReceived(1, REQUEST, ended=True) == events[0]
    assert ["frame_size"] == violations(events)


# -- what ends one stream ----------------------------------------------------------------------------------------------

WITH_LENGTH = (*REQUEST, ("content-length", "5"))


def test_second_headers_that_do_not_end_the_stream(client: Client) -> None:
    client.say(client.make.headers(1))
    events = client.say(client.make.headers(1, [("x", "y")]))

    assert [
        Violation(ViolationKind.MALFORMED_HEADERS),
        StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False),
    ] == events
    assert [(1, ErrorCode.PROTOCOL_ERROR)] == client.resets()


@pytest.mark.parametrize("kind", ["HEADERS", "DATA"])
def test_frames_after_the_end_of_a_stream(client: Client, kind: str) -> None:
    """RFC 9113 5.1, half-closed: stream error STREAM_CLOSED."""
    client.say(client.make.request(1))
    late = client.make.request(1) if kind == "HEADERS" else client.make.data(1, b"late data")
    events = client.say(late)

    assert [Violation(ViolationKind.STREAM_CLOSED), StreamReset(1, ErrorCode.STREAM_CLOSED, by_peer=False)] == events
    assert [(1, ErrorCode.STREAM_CLOSED)] == client.resets()


def test_data_on_a_stream_that_the_client_has_closed(client: Client) -> None:
    """It knew: the frame is answered by a reset, which is counted, and brings no event of the stream."""
    client.say(client.make.headers(1), client.make.rst_stream(1))
    events = client.say(client.make.data(1, b"late data"))

    assert [Violation(ViolationKind.STREAM_CLOSED)] == events
    assert [(1, ErrorCode.STREAM_CLOSED)] == client.resets()


def test_frames_on_a_stream_that_we_have_reset_are_ignored(client: Client) -> None:
    """They were on their way; the header block is still read, for the next one builds on it."""
    make = client.make
    client.say(make.headers(1))
    client.engine.reset(1, ErrorCode.CANCEL)
    client.hear()
    ignored = client.say(
        make.data(1, b"late data"),
        make.window_update(1, 5),
        make.window_update(1, 0),
        make.rst_stream(1),
        make.headers(1, [("x-new", "entry")], flags=["END_HEADERS", "END_STREAM"]),
    )
    (event,) = client.say(make.request(3, [*REQUEST, ("x-new", "entry")]))

    assert [] == ignored
    assert RequestReceived(3, (*REQUEST, ("x-new", "entry")), ended=True) == event
    assert [] == client.hear()


def test_late_data_is_forgiven_as_far_as_the_window_went() -> None:
    client = limited(stream_window=1000)
    client.say(client.make.headers(1))
    client.engine.reset(1, ErrorCode.CANCEL)
    within = client.say(client.make.data(1, bytes(600)))
    beyond = client.say(client.make.data(1, bytes(600)))

    assert [] == within
    assert ["stream_closed"] == violations(beyond)


@pytest.mark.parametrize(
    ("frame", "code", "kind"),
    [
        (raw(0x8, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR, "protocol"),
        (raw(0x8, 0, 1, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR, "flow_control"),
        (raw(0x2, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR, "frame_size"),
        (raw(0x2, 0, 1, b"\0\0\0\1\0"), ErrorCode.PROTOCOL_ERROR, "protocol"),
    ],
    ids=[
        "WINDOW_UPDATE of 0",
        "window too large",
        "PRIORITY of a wrong size",
        "PRIORITY on itself",
    ],
)
def test_frame_that_spoils_its_stream(client: Client, frame: bytes, code: ErrorCode, kind: str) -> None:
    client.say(client.make.headers(1), client.make.headers(3))
    events = client.say(frame)

    assert [kind] == violations(events)
    assert [StreamReset(1, code, by_peer=False)] == events[1:]
    assert [(1, code)] == client.resets()
    assert [3] == list(client.engine.open_streams)


def test_request_that_depends_on_itself(client: Client) -> None:
    """RFC 7540 5.3.1; later clients send no priorities at all."""
    payload = b"\0\0\0\1\x10" + client.make.block(REQUEST)
    events = client.say(raw(0x1, FLAG_END_HEADERS | FLAG_PRIORITY, 1, payload))

    assert StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False) == events[-1]


def test_more_data_than_the_window_of_a_stream() -> None:
    """One stream's fault; the connection's window is given back."""
    client = limited(stream_window=10_000, connection_window=66_000)
    client.say(client.make.headers(1))
    events = client.say(client.make.data(1, bytes(10_001)))
    others = client.say(client.make.request(3))

    assert [
        Violation(ViolationKind.FLOW_CONTROL),
        StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR, by_peer=False),
    ] == events
    assert [RequestReceived(3, REQUEST, ended=True)] == others


def test_more_data_than_the_window_of_the_connection() -> None:
    client = limited(stream_window=1 << 20, connection_window=65_536)
    client.say(client.make.headers(1))
    events = client.say(*[client.make.data(1, bytes(16_384)) for _ in range(5)])

    assert ErrorCode.FLOW_CONTROL_ERROR == failure(events).code
    assert 4 == sum(isinstance(event, DataReceived) for event in events)


@pytest.mark.parametrize(
    "body",
    [[b"four"], [b"sixsix"], [b"abc", b"def"], [b"abcdef", b""]],
    ids=["short", "long", "long in parts", "long and open"],
)
def test_body_that_breaks_its_content_length(client: Client, body: list[bytes]) -> None:
    """RFC 9113 8.1.1."""
    make = client.make
    events = client.say(
        make.headers(1, WITH_LENGTH),
        *[make.data(1, part) for part in body[:-1]],
        make.data(1, body[-1], flags=["END_STREAM"]),
    )

    assert "content_length" == violations(events)[0]
    assert StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False) in events


def test_body_that_keeps_its_content_length(client: Client) -> None:
    make = client.make
    events = client.say(
        make.headers(1, WITH_LENGTH),
        make.data(1, b"ab"),
        make.data(1, b"cde", flags=["END_STREAM"]),
    )

    assert [] == violations(events)
    assert DataReceived(1, b"cde", ended=True) == events[-1]


def test_content_length_without_a_body(client: Client) -> None:
    assert [Violation(ViolationKind.CONTENT_LENGTH)] == client.say(client.make.request(1, WITH_LENGTH))


def test_trailers_before_the_whole_content_length(client: Client) -> None:
    make = client.make
    client.say(make.headers(1, WITH_LENGTH))
    events = client.say(make.headers(1, [("x", "y")], flags=["END_HEADERS", "END_STREAM"]))

    assert [Violation(ViolationKind.CONTENT_LENGTH), StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False)] == events


# -- what is ignored ---------------------------------------------------------------------------------------------------


def test_unknown_frames_and_settings_are_ignored(client: Client) -> None:
    events = client.say(
        raw(0x2A, 0xFF, 3, b"whatever"),
        raw(0x4, 0, 0, b"\x2a\x2a\0\0\0\1"),
        client.make.priority(9, depends_on=1),
        raw(0x0 | 0x6, 0xFE, 0, bytes(8)),
    )

    assert [] == events


def test_reserved_bits_are_ignored(client: Client) -> None:
    """Of stream ids and window increments (RFC 9113 4.1, 6.9)."""
    block = client.make.block(REQUEST)
    request = raw(0x1, 0x5, 0x8000_0001, block)
    events = client.say(request, raw(0x8, 0, 0x8000_0001, b"\x80\0\0\1"))

    assert [RequestReceived(1, REQUEST, ended=True)] == events


def test_priority_in_headers_is_skipped(client: Client) -> None:
    payload = b"\0\0\0\0\x10" + client.make.block(REQUEST)
    events = client.say(raw(0x1, 0x5 | FLAG_PRIORITY, 1, payload))

    assert [RequestReceived(1, REQUEST, ended=True)] == events


def test_padded_headers(client: Client) -> None:
    payload = b"\x07" + client.make.block(REQUEST) + bytes(7)
    events = client.say(raw(0x1, 0x5 | FLAG_PADDED, 1, payload))

    assert [RequestReceived(1, REQUEST, ended=True)] == events


# -- windows out -------------------------------------------------------------------------------------------------------


def test_waiting_streams_take_turns(client: Client) -> None:
    """When the connection's window opens, one long message does not hold up the others."""
    client.say(client.make.settings({4: 1 << 20}), client.make.request(1), client.make.request(3))
    for stream_id in (1, 3):
        client.engine.send(stream_id, head=RESPONSE)
        client.engine.send(stream_id, body=bytes(100_000))
    client.hear()
    client.say(client.make.window_update(0, 65_536))
    streams = [frame.stream_id for frame in client.hear() if isinstance(frame, DataFrame)]

    assert [1, 3, 1, 3] == streams


def test_small_messages_that_wait_are_held_together(client: Client) -> None:
    """A million of them apart would take ten times the memory that is counted; and they leave in frames of a
    good size.
    """
    sent = b"".join([bytes((number % 251,)) * (number % 9) for number in range(40_000)])
    client.say(client.make.settings({4: 10}), client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    tracemalloc.start()
    try:
        for number in range(40_000):
            client.engine.send(1, body=bytes((number % 251,)) * (number % 9))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    queued = client.engine.queued_bytes
    client.say(client.make.window_update(1, 10))
    client.engine.send(1, body=b"l" * 2000)
    client.engine.send(1, body=b"end")
    client.say(client.make.settings({4: 1 << 20}), client.make.window_update(0, 1 << 20))
    parts = [frame.data for frame in client.hear() if isinstance(frame, DataFrame)]

    assert len(sent) - 10 <= queued
    assert held < 2 * len(sent)
    assert sent + b"l" * 2000 + b"end" == b"".join(parts)
    assert len(parts) < 50
    assert 0 == client.engine.queued_bytes


def test_stream_that_waits_for_both_windows(client: Client) -> None:
    """The connection's window alone moves nothing."""
    client.say(client.make.settings({4: 100_000}), client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    client.engine.send(1, body=bytes(70_000))
    client.hear()
    client.say(client.make.settings({4: 0}), client.make.window_update(0, 10_000))
    stuck = body_of(client.hear(), 1)
    events = client.say(client.make.window_update(1, 70_000))

    assert b"" == stuck
    assert [WindowOpened(1)] == events
    assert 70_000 - 65_535 == len(body_of(client.hear(), 1))


def test_data_that_new_windows_let_go_stands_behind_the_acknowledgement(client: Client) -> None:
    """Before it the client would count the data against its former windows."""
    client.say(client.make.settings({4: 0}), client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    client.engine.send(1, body=b"abc")
    client.hear()
    client.say(client.make.settings({4: 1}))

    assert ["SettingsFrame", "DataFrame"] == [type(frame).__name__ for frame in client.hear()]


def test_room_is_announced_only_by_receive(client: Client) -> None:
    """`send` says so itself: a message of several frames that leaves at once makes no event."""
    client.say(client.make.request(1))
    events = client.say(client.make.ping())
    client.engine.send(1, head=RESPONSE)
    has_room = client.engine.send(1, body=bytes(50_000))

    assert has_room
    assert [] == events


def test_queued_bytes_are_counted_to_the_last(client: Client) -> None:
    client.say(client.make.settings({4: 5}), client.make.request(1), client.make.request(3))
    for stream_id in (1, 3):
        client.engine.send(stream_id, head=RESPONSE)
        client.engine.send(stream_id, body=b"0123456789")
        client.engine.send(stream_id, body=b"abc")
    both = client.engine.queued_bytes
    client.engine.reset(1, ErrorCode.CANCEL)
    one = client.engine.queued_bytes
    client.say(client.make.window_update(3, 100))

    assert (16, 8, 0) == (both, one, client.engine.queued_bytes)


# -- limits ------------------------------------------------------------------------------------------------------------

CALM = ErrorCode.ENHANCE_YOUR_CALM


def too_much(client: Client, kind: ViolationKind, reason: str, events: list[Event]) -> None:
    """The limit was met: counted by its kind, and GOAWAY says which it was."""
    fault = failure(events)

    assert (CALM, reason) == (fault.code, fault.reason)
    assert Violation(kind) == events[-2]
    assert [reason.encode()] == [debug for _, _, debug in client.goaways()]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("x-large", "v" * 17_000)], "bytes, above http2.max_header_list (16384 bytes)"),
        ([("x", "y")] * 100, "the call has 101 metadata entries, above http2.max_metadata (100)"),
    ],
    ids=["bytes", "entries"],
)
def test_header_list_too_large_is_answered_in_words(client: Client, fields: list[tuple[str, str]], said: str) -> None:
    """HTTP 431 and RESOURCE_EXHAUSTED on that stream, naming limit, value and key; the table stays right and the next
    call works.
    """
    make = client.make
    events = client.say(make.headers(1, [*REQUEST, *fields, ("x-last", "in the table")]))
    head, reset = client.hear()
    after = client.say(make.request(3, [*REQUEST, ("x-last", "in the table")]))

    assert [Violation(ViolationKind.HEADER_LIST)] == events
    answer = dict(client.fields(head))
    assert {":status": "431", "grpc-status": "8"}.items() <= answer.items()
    assert said in answer["grpc-message"]
    assert "END_STREAM" in head.flags
    assert isinstance(reset, RstStreamFrame)
    assert ErrorCode.NO_ERROR == reset.error_code
    assert [RequestReceived(3, (*REQUEST, ("x-last", "in the table")), ended=True)] == after


def test_header_list_just_within_the_limits(client: Client) -> None:
    """16 KiB as RFC 9113 6.5.2 counts, and 100 entries of the call's own."""
    used = sum(len(name) + len(value) + 32 for name, value in REQUEST)
    filling = [("x", "y")] * 99
    last = ("x-last", "v" * (16_384 - used - 99 * 34 - 38))
    (event,) = client.say(client.make.request(1, [*REQUEST, *filling, last]))

    assert isinstance(event, RequestReceived)
    assert 100 + len(REQUEST) == len(event.fields)


def test_bomb_of_references_is_refused_without_being_held(client: Client) -> None:
    """CVE-2026-49975: one-byte references to a large table entry."""
    entry = b"\x40\x01x\x7f" + bytes([0x80 + (3900 - 127) % 128, (3900 - 127) // 128]) + b"v" * 3900
    block = client.make.block(REQUEST) + entry + b"\xbe" * 2000
    events = client.say(raw(0x1, 0x5, 1, block))

    assert [Violation(ViolationKind.HEADER_LIST)] == events


def test_trailers_too_large_end_the_stream(client: Client) -> None:
    make = client.make
    client.say(make.headers(1))
    events = client.say(make.headers(1, [("x", "y")] * 101, flags=["END_HEADERS", "END_STREAM"]))

    assert ["malformed_headers"] == violations(events)


def test_continuations(client: Client) -> None:
    """8 are fine, one more is an attack (CVE-2024-27983 and its kin)."""
    fine = client.say(client.make.split_headers(1, 8))
    events = client.say(client.make.split_headers(3, 9))

    assert [RequestReceived(1, REQUEST, ended=False)] == fine
    too_much(client, ViolationKind.CONTINUATIONS, "too_many_continuations", events)


def test_empty_continuations_are_counted(client: Client) -> None:
    events = client.say(raw(0x1, 0, 1, b""), *[raw(0x9, 0, 1, b"")] * 9)

    too_much(client, ViolationKind.CONTINUATIONS, "too_many_continuations", events)


def test_settings_entries(client: Client) -> None:
    fine = client.say(raw(0x4, 0, 0, b"\0\x03\0\0\0\x01" * 32))
    client.hear()
    events = client.say(raw(0x4, 0, 0, b"\0\x03\0\0\0\x01" * 33))

    assert [] == fine
    too_much(client, ViolationKind.SETTINGS, "too_many_settings", events)


def test_settings_frames(client: Client) -> None:
    """CVE-2019-9515: a thousand at once, then 33 a second."""
    for _ in range(999):
        assert [] == client.say(client.make.settings({4: 1}))
        client.hear()
    events = client.say(client.make.settings())

    too_much(client, ViolationKind.SETTINGS, "too_many_settings", events)


def rapid_resets(client: Client, first: int, count: int) -> list[Event]:
    make, events = client.make, list[Event]()
    for stream_id in range(first, first + 2 * count, 2):
        events = client.say(make.request(stream_id), make.rst_stream(stream_id))
    return events


def test_rapid_reset(client: Client) -> None:
    """CVE-2023-44487: the 1,001st reset in one go ends the connection."""
    fine = rapid_resets(client, 1, 1000)
    events = rapid_resets(client, 2001, 1)

    assert [] == violations(fine)
    too_much(client, ViolationKind.RESETS, "too_many_resets", events)


def test_resets_are_forgiven_with_time(client: Client) -> None:
    """33 a second: after 10 s, 330 more."""
    rapid_resets(client, 1, 1000)
    client.now = 10.0
    fine = rapid_resets(client, 2001, 330)
    events = rapid_resets(client, 2001 + 660, 1)

    assert [] == violations(fine)
    assert "too_many_resets" == failure(events).reason


def test_resets_of_finished_streams_cost_nothing_of_that(client: Client) -> None:
    """A client that cancels what has just been answered did no harm."""
    client = limited(reset_burst=1)
    for stream_id in range(1, 21, 2):
        client.say(client.make.request(stream_id))
        client.engine.send(stream_id, end=(*RESPONSE, *TRAILERS))
        events = client.say(client.make.rst_stream(stream_id))

    assert [] == events


def made_to_reset(client: Client, first: int, count: int) -> list[Event]:
    make, events = client.make, list[Event]()
    for stream_id in range(first, first + 2 * count, 2):
        client.hear()
        events = client.say(make.headers(stream_id), make.window_update(stream_id, 0))
    return events


def test_resets_that_we_are_made_to_send() -> None:
    """CVE-2025-8671, MadeYouReset."""
    client = limited(reset_burst=100)
    fine = made_to_reset(client, 1, 100)
    events = made_to_reset(client, 201, 1)

    assert ["protocol"] == violations(fine)
    too_much(client, ViolationKind.OWN_RESETS, "too_many_stream_errors", events)


def test_refused_streams_have_a_bucket_of_their_own() -> None:
    """A client may not have read our SETTINGS yet; one that never does is stopped."""
    client = limited(max_concurrent_streams=2, reset_burst=1)
    client.say(client.make.headers(1), client.make.headers(3))
    for stream_id in range(5, 45, 2):
        fine = client.say(client.make.request(stream_id))
    client.hear()
    events = client.say(client.make.request(45))

    assert [Violation(ViolationKind.TOO_MANY_STREAMS)] == fine
    too_much(client, ViolationKind.TOO_MANY_STREAMS, "too_many_streams", events)


@pytest.mark.parametrize("name", ["ping", "settings"])
def test_unsent_answers(name: str) -> None:
    """CVE-2019-9512 and 9515: what only answers must be fetched before more is asked."""
    client = limited(max_unsent_answers=10, min_ping_interval=0)
    frame = client.make.ping() if name == "ping" else client.make.settings()
    fine = client.say(*[frame] * 10)
    client.hear()
    again = client.say(*[frame] * 10)
    client.hear()
    events = client.say(*[frame] * 11)

    assert ([], []) == (fine, again)
    assert "too_many_unsent_answers" == failure(events).reason
    assert ["unsent_answers"] == violations(events)


def test_pings_too_close_together(client: Client) -> None:
    """gRFC A8: the first is good, two strikes are forgiven, the third is too_many_pings."""
    fine = client.say(*[client.make.ping()] * 3)
    client.hear()
    events = client.say(client.make.ping())

    assert [] == fine
    too_much(client, ViolationKind.PINGS, "too_many_pings", events)


def test_pings_at_their_interval(client: Client) -> None:
    """Every other one half a second early, as the network has it."""
    for number in range(60):
        client.now = number * 10.0 - number % 2 / 2
        assert [] == client.say(client.make.ping())


@pytest.mark.parametrize("what", ["headers", "data"])
def test_strikes_are_forgiven_when_we_send(client: Client, what: str) -> None:
    """A client that measures bandwidth by PINGs beside its data must not be punished."""
    client.say(client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    for stream_id in range(3, 43, 2):
        client.say(client.make.request(stream_id))
        if what == "headers":
            client.engine.send(stream_id, end=(*RESPONSE, *TRAILERS))
        else:
            client.engine.send(1, body=b"message")
        assert [] == client.say(*[client.make.ping()] * 3)


def test_empty_data(client: Client) -> None:
    """CVE-2019-9518: 100 in a row, and no more."""
    client.say(client.make.headers(1))
    fine = client.say(*[client.make.data(1, b"")] * 100)
    events = client.say(client.make.data(1, b""))

    assert 100 == len(fine)
    too_much(client, ViolationKind.EMPTY_DATA, "too_many_empty_data_frames", events)


def test_empty_data_that_ends_its_stream_is_normal(client: Client) -> None:
    for stream_id in range(1, 401, 2):
        events = client.say(client.make.headers(stream_id), client.make.data(stream_id, b"", flags=["END_STREAM"]))
        client.engine.send(stream_id, end=TRAILERS)

    assert [] == violations(events)


def test_data_too_small_for_any_message() -> None:
    """One byte a frame: 1,600 of them use the budget up."""
    client = limited()
    client.say(client.make.headers(1))
    fine = client.say(*[client.make.data(1, b"x")] * 1600)
    events = client.say(*[client.make.data(1, b"x")] * 120)

    assert [] == violations(fine)
    too_much(client, ViolationKind.SMALL_DATA, "too_many_small_data_frames", events)


@pytest.mark.parametrize("message", [b"\0\0\0\0\0", b"\0\0\0\0\1x"], ids=["empty", "one byte"])
def test_small_messages_may_stream_for_ever(client: Client, message: bytes) -> None:
    """gRPC's ping_pong and its like: a frame that carries a whole message costs nothing."""
    client.say(client.make.headers(1))
    frame = client.make.data(1, message)
    for _ in range(200):
        assert [] == violations(client.say(*[frame] * 100))
        client.engine.credit(1, len(message) * 100)


def test_body_pays_for_small_frames(client: Client) -> None:
    """Some libraries write a prefix apart from its message, or a last odd byte."""
    client.say(client.make.headers(1))
    frames = [client.make.data(1, b"x"), client.make.data(1, bytes(20))]
    for _ in range(100):
        assert [] == violations(client.say(*frames * 100))
        client.engine.credit(1, 2100)


@pytest.mark.parametrize("kind", ["PRIORITY", "unknown", "GOAWAY", "PING ACK"])
def test_frames_that_ask_for_nothing(client: Client, kind: str) -> None:
    """CVE-2019-9513, Envoy's formula: 100 and 100 for each stream begun."""
    frame = {
        "PRIORITY": client.make.priority(1),
        "unknown": raw(0x2A, 0, 0, b""),
        "GOAWAY": client.make.goaway(),
        "PING ACK": client.make.ping(flags=["ACK"]),
    }[kind]
    client.say(client.make.request(1))
    fine = client.say(*[frame] * 200)
    events = client.say(frame)

    assert [] == violations(fine)
    too_much(client, ViolationKind.USELESS_FRAMES, "too_many_useless_frames", events)


def test_resets_for_data_that_came_too_late_are_no_flood(client: Client) -> None:
    """python-h2 answers each DATA frame on a stream that it has reset with another reset."""
    client.say(client.make.settings({4: 1 << 20}), client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    for _ in range(1000):
        client.engine.send(1, body=b"\0\0\0\0\0")
    late = client.say(*[client.make.rst_stream(1)] * 1201)
    more = client.say(client.make.rst_stream(1))

    assert [StreamReset(1, 8, by_peer=True)] == late
    too_much(client, ViolationKind.USELESS_FRAMES, "too_many_useless_frames", more)


def test_window_updates(client: Client) -> None:
    """Envoy's formula: 5, 2 for each stream begun, 20 for each DATA frame sent."""
    client.say(client.make.request(1))
    client.engine.send(1, head=RESPONSE)
    client.engine.send(1, body=b"message")
    client.hear()
    fine = client.say(*[client.make.window_update(1, 1)] * 27)
    events = client.say(client.make.window_update(1, 1))

    assert [] == fine
    too_much(client, ViolationKind.WINDOW_UPDATES, "too_many_window_updates", events)


def test_partial_frame_is_all_that_is_held(client: Client) -> None:
    """A connection holds at most one frame that has not arrived whole."""
    client.say(client.make.headers(1), raw(0x0, 0, 1, bytes(16_384))[:-1])
    assert isinstance(client.engine, NativeEngine)
    held = len(client.engine._partial)

    assert 9 + 16_383 == held


def test_answers_to_our_pings_are_no_flood(client: Client) -> None:
    """A keepalive goes on for days without a new stream."""
    for _ in range(500):
        client.engine.ping(b"are you?")
        assert [PingAcknowledged(b"are you?")] == client.say(client.make.ping(b"are you?", flags=["ACK"]))


# -- goaway ------------------------------------------------------------------------------------------------------------


def test_goaway_with_a_code(client: Client) -> None:
    """As the server says it when a client is too slow."""
    client.say(client.make.request(1))
    client.engine.goaway(ErrorCode.ENHANCE_YOUR_CALM, b"stalled")
    (goaway,) = client.hear()

    assert isinstance(goaway, GoAwayFrame)
    assert (1, CALM, b"stalled") == (goaway.last_stream_id, goaway.error_code, goaway.additional_data)


def test_blocks_of_refused_streams_are_read(client: Client) -> None:
    """After GOAWAY too the table must stay right."""
    client.say(client.make.headers(1))
    client.engine.goaway()
    client.say(client.make.request(3, [*REQUEST, ("x-new", "entry")]))
    client.hear()
    events = client.say(client.make.headers(1, [("x-new", "entry")], flags=["END_HEADERS", "END_STREAM"]))

    assert [DataReceived(1, b"", ended=True)] == events


def test_answer_to_a_request_without_fields_of_ours(client: Client) -> None:
    """The first block of a connection says that we use no table, later ones need not."""
    client.say(client.make.request(1), client.make.request(3))
    for stream_id in (1, 3):
        client.engine.send(stream_id, end=TRAILERS)
    first, second = [frame.data for frame in client.hear() if isinstance(frame, HeadersFrame)]

    assert b"\x20" + second == first


def test_credit_is_given_in_halves_of_the_window() -> None:
    client = limited(stream_window=1000, connection_window=70_000)
    client.say(client.make.headers(1), client.make.data(1, bytes(900)))
    client.engine.credit(1, 499)
    few = increments(client.hear())
    client.engine.credit(1, 1)

    assert [] == few
    assert [(1, 500)] == increments(client.hear())


# -- whole responses ---------------------------------------------------------------------------------------------------


def in_turn(client: Client, stream_id: int, body: bytes) -> None:
    client.engine.send(stream_id, head=RESPONSE)
    client.engine.send(stream_id, body=body)
    client.engine.send(stream_id, end=TRAILERS)


def at_once(client: Client, stream_id: int, body: bytes) -> None:
    client.engine.send(stream_id, head=RESPONSE, body=body, end=TRAILERS)


def _frames_of(settings: dict[int, int], frames: str, before: bytes, body: bytes, *, is_whole: bool) -> list[object]:
    """What leaves for a response on stream 3, behind one of another body on stream 1."""
    client = Client(NativeEngine(EngineLimits()), settings)
    client.say(client.make.request(1), getattr(client.make, frames)(3))
    if before:
        in_turn(client, 1, before)
    (at_once if is_whole else in_turn)(client, 3, body)
    seen = [client.engine.bytes_to_send(), client.engine.is_open(3), client.engine.queued_bytes]
    client.say(client.make.window_update(0, 200_000))
    seen += [client.engine.bytes_to_send(), client.engine.queued_bytes]
    if client.engine.queued_bytes:
        client.say(client.make.window_update(3, 200_000))
        seen += [client.engine.bytes_to_send(), client.engine.queued_bytes]
    client.say(client.make.request(5))
    client.engine.send(5, body=bytes(300_000))  # shows what the windows have become
    return [*seen, len(body_of(client.hear(), 5)), *client.engine.open_streams]


@pytest.mark.parametrize(
    ("settings", "frames", "before", "body"),
    [
        ({}, "request", b"12345", b"\0\0\0\0\1x"),
        ({}, "request", b"12345", bytes(16_384)),
        ({}, "request", b"", b"x"),
        ({}, "headers", b"12345", b"x"),  # the client has not ended its side: a reset follows the trailers
        ({4: 5}, "request", b"12345", b"123456"),
        ({4: 100_000}, "request", bytes(65_530), b"123456"),
        ({}, "request", b"12345", bytes(16_385)),
        ({}, "request", b"12345", b""),
    ],
    ids=[
        "small",
        "a whole frame",
        "the first of its connection",
        "open",
        "the stream's window",
        "the connection's window",
        "frame size",
        "empty",
    ],
)
def test_whole_response_is_what_its_parts_are_in_turn(
    settings: dict[int, int], frames: str, before: bytes, body: bytes
) -> None:
    """To the byte, windows and all that is counted included, also if it cannot leave at once."""
    whole = _frames_of(settings, frames, before, body, is_whole=True)

    assert _frames_of(settings, frames, before, body, is_whole=False) == whole


@pytest.mark.parametrize(
    ("head", "end"),
    [(RESPONSE, (*TRAILERS, ("x-id", "v" * 20_000))), ((*RESPONSE, ("x-id", "v" * 20_000)), TRAILERS)],
    ids=["trailers", "headers"],
)
def test_whole_response_with_a_block_of_several_frames(head: Fields, end: Fields) -> None:
    answers = []
    for is_whole in (True, False):
        client = Client(NativeEngine(EngineLimits()))
        client.say(client.make.request(1), client.make.request(3))
        in_turn(client, 1, b"x")
        if is_whole:
            client.engine.send(3, head=head, body=b"x", end=end)
        else:
            client.engine.send(3, head=head)
            client.engine.send(3, body=b"x")
            client.engine.send(3, end=end)
        answers.append(client.engine.bytes_to_send())

    assert answers[0] == answers[1]
    assert len(answers[0]) > 20_000


def test_whole_response_behind_a_part_of_another(client: Client) -> None:
    """It waits its turn on a stream that has something waiting, and is ignored on one that is over."""
    client.say(client.make.settings({4: 5}), client.make.request(1))
    assert not client.engine.send(1, head=RESPONSE, body=b"123456")
    assert not client.engine.send(1, body=b"x", end=TRAILERS)
    assert b"12345" == body_of(client.hear(), 1)
    client.say(client.make.window_update(1, 100))

    assert b"6x" == body_of(client.hear(), 1)
    assert client.engine.send(1, head=RESPONSE, body=b"x", end=TRAILERS)
    assert [] == client.hear()
