"""What one `receive` of the native engine does is bounded, whatever a client sends; what is left follows, and nothing
is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.hpack import encode_integer
from hyperframe.frame import DataFrame

from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    Event,
    RequestReceived,
    ViolationKind,
)
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.hpack import Decoder
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from tests.support.frames import PREFACE, REQUEST, RESPONSE, Client, FrameFactory, raw, received
from tests.unit.http2.conftest import EngineClass

HEADERS, SETTINGS, CONTINUATION = 0x1, 0x4, 0x9
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = (1 << 31) - 1
END_HEADERS, END_BOTH = 0x4, 0x5
MAX_FRAME = 1 << 14


def steps_of(act: Callable[[], object]) -> int:
    """Lines of Python that this runs through."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return lines


def opened(streams: int) -> Client:
    """A client with so many open streams, whose HEADERS have been read."""
    client = Client(NativeEngine(EngineLimits()))
    client.say(*[client.make.headers(2 * number + 1) for number in range(streams)])
    client.hear()
    return client


# -- frames and streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 0, 1, 64])
def test_small_frames_are_read_some_hundred_at_a_time(engine_class: EngineClass, size: int) -> None:
    """A read of 256 KiB does not hold up the loop; all frames come in the end, in their order."""
    client = Client(engine_class(EngineLimits(max_empty_data=10**6, small_data_budget=10**9)))
    client.say(client.make.headers(1))
    frames = [raw(0x0, 0, 1, bytes(size))] * ((256 << 10) // (size + 9))
    events = client.engine.receive(b"".join(frames), now=0.0)
    pieces = [len(events)]
    while client.engine.has_backlog:
        pieces.append(len(client.engine.receive(b"", now=0.0)))

    assert max(pieces) <= 500
    assert sum(pieces) in (len(frames), len(frames) + 1)
    assert not isinstance(events[-1], ConnectionFailed)


def test_requests_are_read_some_at_a_time(engine_class: EngineClass) -> None:
    """Each costs a task; a header block of references is ten bytes long."""
    client = Client(engine_class(EngineLimits()))
    data = b"".join([client.make.request(number) for number in range(1, 401, 2)])
    pieces = [client.engine.receive(data, now=0.0)]
    while client.engine.has_backlog:
        pieces.append(client.engine.receive(b"", now=0.0))

    assert max(map(len, pieces)) <= 20
    assert [*range(1, 401, 2)] == [
        each.stream_id for piece in pieces for each in piece if isinstance(each, RequestReceived)
    ]


def test_resets_are_read_some_at_a_time() -> None:
    """Each ends a call, and is thirteen bytes long."""
    client = opened(900)
    data = b"".join([client.make.rst_stream(number) for number in range(1, 1801, 2)])
    pieces = [client.engine.receive(data, now=5.0)]
    while client.engine.has_backlog:
        pieces.append(client.engine.receive(b"", now=5.0))

    assert max(map(len, pieces)) <= 64
    assert 900 == sum(map(len, pieces))


def test_requests_that_are_refused_are_read_some_at_a_time() -> None:
    """They pass the limit on streams, and cost a header block each."""
    client = opened(1000)
    data = b"".join([client.make.request(number) for number in range(2001, 2401, 2)])
    client.engine.receive(data, now=0.0)

    assert len(client.resets()) <= 20
    assert client.engine.has_backlog


def test_bytes_that_come_while_some_are_left_are_read_behind_them(
    engine_class: EngineClass,
) -> None:
    client = Client(engine_class(EngineLimits()))
    client.say(client.make.headers(1))
    numbers = [number.to_bytes(5, "big") for number in range(3000)]
    events: list[Event] = []
    for at in range(0, 3000, 1000):
        data = b"".join([raw(0x0, 0, 1, number) for number in numbers[at : at + 1000]])
        events += client.engine.receive(data[:-7], now=0.0)
        events += client.engine.receive(data[-7:], now=0.0)
    while client.engine.has_backlog:
        events += client.engine.receive(b"", now=0.0)

    assert b"".join(numbers) == b"".join([each.data for each in events if isinstance(each, DataReceived)])


def test_both_engines_stop_at_the_same_frame() -> None:
    """Behind the preface and later: what a client can see must not tell them apart."""
    make = FrameFactory()
    data = PREFACE + make.settings() + make.headers(1) + raw(0x0, 0, 1, bytes(5)) * 1000
    pieces: list[list[int]] = []
    for engine in (NativeEngine(EngineLimits()), H2Engine(EngineLimits())):
        sizes = [len(engine.receive(data, now=0.0))]
        while engine.has_backlog:
            sizes.append(len(engine.receive(b"", now=0.0)))
        pieces.append(sizes)

    assert pieces[0] == pieces[1]


def test_nothing_is_left_after_the_connections_end() -> None:
    """A fault among many frames."""
    client = opened(1)
    client.engine.receive(
        raw(0x0, 0, 1, bytes(5)) * 500 + raw(0x0, 0, 7, b"?") + raw(0x0, 0, 1, bytes(5)) * 500, now=0.0
    )
    events = received(client.engine, b"", now=0.0)

    assert isinstance(events[-1], ConnectionFailed)
    assert not client.engine.has_backlog
    assert [] == client.engine.receive(raw(0x0, 0, 1, bytes(5)), now=0.0)


def test_large_frames_are_read_as_they_are() -> None:
    """An upload of whole frames takes a step for each, and nothing of it is copied twice."""
    client = opened(1)
    events = client.say(*[raw(0x0, 0, 1, bytes(MAX_FRAME))] * 20)

    assert [MAX_FRAME] * 20 == [len(each.data) for each in events if isinstance(each, DataReceived)]


# -- windows -----------------------------------------------------------------------------------------------------------


def test_a_change_of_the_initial_window_costs_the_same_however_many_streams_are_open() -> None:
    changes = {"few": opened(10), "many": opened(1000)}
    cost = {
        name: steps_of(lambda client=client: client.say(client.make.settings({INITIAL_WINDOW_SIZE: 1000})))  # type: ignore[misc]  # bound now
        for name, client in changes.items()
    }

    assert cost["many"] == cost["few"]


def test_a_change_of_the_initial_window_moves_every_streams_window() -> None:
    """Below 0 if need be: what was sent before counts (RFC 9113 6.9.2)."""
    client = opened(2)
    engine = client.engine
    engine.send(1, head=RESPONSE)
    engine.send(1, body=bytes(1000))
    client.say(client.make.settings({INITIAL_WINDOW_SIZE: 500}))
    client.hear()
    has_left = [engine.send(1, body=b"a"), engine.send(3, body=bytes(500)), engine.send(3, body=b"b")]
    sent = [(each.stream_id, len(each.data)) for each in client.hear() if isinstance(each, DataFrame)]
    client.say(client.make.settings({INITIAL_WINDOW_SIZE: 1001}))
    sent_then = [(each.stream_id, each.data) for each in client.hear() if isinstance(each, DataFrame)]

    assert [False, True, False] == has_left
    assert [(3, 500)] == sent
    assert [(1, b"a"), (3, b"b")] == sorted(sent_then)


def flow_faults(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], ConnectionFailed) and events[-1].code == ErrorCode.FLOW_CONTROL_ERROR


def test_no_window_may_pass_the_largest_by_a_change_of_the_initial_one() -> None:
    """RFC 9113 6.9.2. The stream that gained most decides, among a thousand."""
    client = opened(1000)
    client.say(client.make.settings({INITIAL_WINDOW_SIZE: 100}), client.make.window_update(777, LARGEST_WINDOW - 100))

    assert not flow_faults(client.say(client.make.settings({INITIAL_WINDOW_SIZE: 100})))
    assert flow_faults(client.say(client.make.settings({INITIAL_WINDOW_SIZE: 101})))


def test_a_stream_that_gained_most_and_ended_is_forgotten() -> None:
    """Its window is no window any more; one that has used its window counts as it is now."""
    client = opened(3)
    client.say(client.make.window_update(1, LARGEST_WINDOW - 65_535), client.make.rst_stream(1))
    client.say(client.make.window_update(3, 1 << 20), client.make.window_update(0, 1 << 20))
    client.engine.send(3, head=RESPONSE)
    client.engine.send(3, body=bytes(1 << 20))

    largest = client.make.settings({INITIAL_WINDOW_SIZE: LARGEST_WINDOW})
    smallest = client.make.settings({INITIAL_WINDOW_SIZE: 1})
    gain = client.make.window_update(5, 1)

    assert not flow_faults(client.say(largest))
    assert not flow_faults(client.say(smallest, gain))
    assert flow_faults(client.say(largest))


def waiting(replies: int) -> Client:
    """So many streams, each with a reply of 100 bytes behind its shut window."""
    client = Client(NativeEngine(EngineLimits()), {INITIAL_WINDOW_SIZE: 0})
    for number in range(replies):
        client.say(client.make.request(2 * number + 1))
        client.engine.send(2 * number + 1, head=RESPONSE)
        client.engine.send(2 * number + 1, body=bytes(100))
    client.hear()
    return client


def data_sent(client: Client) -> list[int]:
    return [each.stream_id for each in client.hear() if isinstance(each, DataFrame)]


@pytest.mark.parametrize("openings", [1, 50])
def test_replies_that_wait_are_resumed_some_at_a_time(openings: int) -> None:
    """By SETTINGS that open a thousand windows at once, or that open and shut them; all of them go on in the end."""
    client = waiting(600)
    make = client.make
    swings = [make.settings({INITIAL_WINDOW_SIZE: size}) for size in [1, 0] * (openings - 1)]
    client.engine.receive(b"".join([*swings, make.settings({INITIAL_WINDOW_SIZE: 10})]), now=0.0)
    pieces = [data_sent(client)]
    while client.engine.has_backlog:
        client.engine.receive(b"", now=0.0)
        pieces.append(data_sent(client))

    assert max(map(len, pieces)) <= 64
    assert {*range(1, 1201, 2)} == {stream for piece in pieces for stream in piece}


def test_a_connections_window_is_used_some_at_a_time_and_in_turn() -> None:
    """One WINDOW_UPDATE lets a thousand replies go."""
    client = Client(NativeEngine(EngineLimits()))
    client.say(*[client.make.request(2 * number + 1) for number in range(100)])
    client.say(client.make.window_update(0, 100))
    for number in range(100):
        client.engine.send(2 * number + 1, head=RESPONSE)
        client.engine.send(2 * number + 1, body=bytes(60_000))
    client.hear()
    client.engine.receive(client.make.window_update(0, 1 << 30), now=0.0)
    first = data_sent(client)
    left = client.engine.queued_bytes
    received(client.engine, b"", now=0.0)

    assert len(first) == len({*first}) == 64
    assert left > 0 == client.engine.queued_bytes


# -- header blocks -----------------------------------------------------------------------------------------------------


BLOCK = Encoder().encode([NeverIndexedHeaderTuple(*pair) for pair in REQUEST])
"""A usual request, which leaves the table as it is."""


def encoded_size(size: int, flag: int = 0) -> bytes:
    octets = encode_integer(size, 7)
    octets[0] |= flag
    return bytes(octets)


def string(text: str) -> bytes:
    return encoded_size(len(text)) + text.encode()


def literal(name: str, value: str) -> bytes:
    return b"\0" + string(name) + string(value)


def block_frames(stream_id: int, block: bytes) -> bytes:
    parts = [block[at : at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)]
    kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
    ends = [0] * (len(parts) - 1) + [END_HEADERS]
    return b"".join(
        [
            raw(kind, end | (kind == HEADERS), stream_id, part)
            for kind, end, part in zip(kinds, ends, parts, strict=True)
        ]
    )


TINY_FIELDS = {
    "literals": b"\0\x01a\x01b",
    "never indexed": b"\x10\x01a\x01b",
    "table inserts": b"\x41\x01x",
    "references": b"\x82",
    "Huffman-coded literals": b"\0\x81\x1f\x81\x1f",
}


@pytest.mark.parametrize("field", TINY_FIELDS.values(), ids=TINY_FIELDS)
def test_a_block_of_countless_fields_ends_the_connection(field: bytes) -> None:
    """147 KB: reading them all would take as long as hundreds of calls, and the table must be right or the connection
    over.
    """
    client = opened(1)
    block = client.make.block(REQUEST) + field * ((140 << 10) // len(field))
    cost = steps_of(lambda: client.say(block_frames(3, block)))
    events = client.engine.receive(b"", now=0.0)

    assert [] == events
    assert [(ErrorCode.ENHANCE_YOUR_CALM, b"header_list_far_too_large")] == [each[1:] for each in client.goaways()]
    assert cost < 150_000


def test_a_list_too_large_leaves_the_table_right() -> None:
    """What its block inserts behind the limit, the next block refers to."""
    decoder = Decoder(max_list=200, max_metadata=100)
    large = literal("a", "v" * 100) + literal("b", "v" * 100)
    huffman = Encoder().huffman_coder.encode(b"www")
    inserted = b"".join(
        [b"\x40", string("c"), string("d"), b"\x40", string("e"), encoded_size(len(huffman), 0x80), huffman]
    )
    behind = b"\x7e" + string("f")  # inserts with the name of entry 62, the last one
    inserting = decoder.decode(large + inserted + behind + b"\xbe")
    [first, second, third] = decoder.decode(b"\xbe\xbf\xc0" + b"").fields

    assert "above http2.max_header_list (200 bytes)" in inserting.excess
    assert [("e", "f"), ("e", "www"), ("c", "d")] == [first, second, third]


def test_the_size_of_a_list_too_large_is_told() -> None:
    """References, literals and Huffman code behind the limit count like those before it."""
    decoder = Decoder(max_list=100, max_metadata=100)
    fields = [("x-a", "v" * 80), ("x-b", "w" * 50), (":method", "POST"), ("x-c", "abc")]
    block = FrameFactory().block(fields)

    assert f"has {sum(len(n) + len(v) + 32 for n, v in fields)} bytes" in decoder.decode(block).excess


def test_refused_blocks_are_charged_by_their_size() -> None:
    """Forty of the largest end the connection; a client with 20 KB of metadata in each of 90 calls a second goes on."""
    attacker, honest = opened(0), opened(0)
    large = literal("a", "v" * 64_000)
    for number in range(100):
        attacker.say(block_frames(2 * number + 1, BLOCK + large + large))
        attacker.hear()
        if attacker.engine._is_over:  # type: ignore[attr-defined]  # the native engine has it
            break
    assert 10 < number < 40
    for number in range(900):
        honest.now += 1 / 90
        events = honest.say(block_frames(2 * number + 1, BLOCK + literal("x-token", "v" * 20_000)))
        honest.hear()
        assert [ViolationKind.HEADER_LIST] == [each.kind for each in events]  # type: ignore[union-attr]  # a Violation


def test_a_huge_string_of_huffman_code_is_not_decoded() -> None:
    decoder = Decoder(max_list=16 << 10, max_metadata=100)
    huge = b"\0" + string("a") + encoded_size(131_072, 0x80) + b"\x1f" * 131_072

    assert steps_of(lambda: decoder.decode(huge)) < 500
    assert "above http2.max_header_list" in decoder.decode(huge).excess


# -- resets ------------------------------------------------------------------------------------------------------------


def resets_until_closed(client: Client, streams: int, *, age: float, pause: float, together: int = 1) -> int:
    """Begin so many streams and reset each at this age, waiting so long between two; how many were reset before the
    connection ended.
    """
    for first in range(0, streams, together):
        ids = [2 * number + 1 for number in range(first, first + together)]
        client.now += pause * together
        began = client.now
        client.say(*[raw(HEADERS, END_HEADERS, stream_id, BLOCK) for stream_id in ids])
        client.now = began + age
        events = client.say(*[raw(0x3, 0, stream_id, bytes(4)) for stream_id in ids])
        client.now = began
        client.engine.bytes_to_send()
        if isinstance(events[-1], ConnectionFailed):
            return first
    return streams


@pytest.mark.parametrize(("age", "rate"), [(2.0, 100), (1.0, 1000), (0.7, 100)])
def test_calls_that_time_out_close_no_connection(age: float, rate: int) -> None:
    """Deadlines that pass, a hundred a second and for ever."""
    assert 5000 == resets_until_closed(opened(0), 5000, age=age, pause=1 / rate)


@pytest.mark.parametrize("together", [1, 7, 900])
def test_rapid_resets_are_as_bounded_as_before(together: int) -> None:
    """A thousand in one go, in whatever order."""
    assert resets_until_closed(opened(0), 9000, age=0.0, pause=0.0, together=together) <= 1100


def test_a_client_that_cancels_fewer_than_half_of_its_calls_goes_on() -> None:
    """One that hedges, for example; at once, and a thousand a second."""
    client = opened(0)
    for number in range(8000):
        client.now += 0.001
        stream_id = 2 * number + 1
        client.say(raw(HEADERS, END_BOTH, stream_id, BLOCK))
        if number % 5 < 2:
            assert len(client.say(raw(0x3, 0, stream_id, bytes(4)))) == 1
        else:
            client.engine.send(stream_id, end=RESPONSE)
        client.engine.bytes_to_send()

    assert client.engine.receive(client.make.request(16001), now=client.now)


# -- padding -----------------------------------------------------------------------------------------------------------


def test_padding_earns_nothing() -> None:
    """DATA frames of padding alone are as empty as they are without it."""
    client = opened(1)
    padded = client.make.data(1, b"", padding=200)
    events = client.say(*[padded] * 2000)

    assert isinstance(events[-1], ConnectionFailed)
    assert "too_many_empty_data_frames" == events[-1].reason


def test_the_reference_takes_what_it_is_given_as_well() -> None:
    """It says so, too, when it has more to read."""
    engine = H2Engine(EngineLimits())
    make = FrameFactory()
    engine.receive(PREFACE + make.settings() + make.headers(1) + make.data(1, bytes(5)) * 500, now=0.0)

    assert engine.has_backlog
    assert 200 < len(received(engine, b"", now=0.0))
