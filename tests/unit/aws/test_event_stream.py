"""Our decoder beside botocore's, on the same bytes."""

from __future__ import annotations

from struct import pack
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.event_stream import MAX_HEADERS, MAX_PAYLOAD, EventStreamReader, StreamedEvent
from bridge.rpc.errors import BadReply, CutReply
from tests.support.event_stream import CHUNK, event, raw_event, string_header
from tests.support.fakes import in_chunks

EVENTS = [
    event({":event-type": "PayloadChunk", ":message-type": "event"}, b"hello"),
    event({}, b""),
    event({":event-type": "InvokeComplete"}, b"{}" * 5000),
]
STREAM = b"".join(EVENTS)


def fed(reader: EventStreamReader, data: bytes) -> list[StreamedEvent]:
    """The events that these bytes complete."""
    reader.feed(data)
    return list(iter(reader.next_event, None))


def read(stream: bytes) -> list[StreamedEvent]:
    reader = EventStreamReader()
    events = fed(reader, stream)
    reader.finish()
    return events


def read_by_botocore(stream: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return [(message.headers, message.payload) for message in buffer]


def test_events_are_botocores() -> None:
    assert read_by_botocore(STREAM) == [(dict(found.headers), found.payload) for found in read(STREAM)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_chunking_gives_the_same_events(cuts: list[int]) -> None:
    reader = EventStreamReader()

    events = [found for chunk in in_chunks(STREAM, cuts) for found in fed(reader, chunk)]
    reader.finish()
    assert read(STREAM) == events


def test_byte_by_byte() -> None:
    """An event is given out with its last byte."""
    reader = EventStreamReader()
    counts = [len(fed(reader, EVENTS[0][at : at + 1])) for at in range(len(EVENTS[0]))]

    assert [0] * (len(EVENTS[0]) - 1) + [1] == counts


def test_headers_of_every_type_are_passed_over() -> None:
    """Only strings are kept; botocore reads the same strings."""
    headers = b"".join(
        (
            b"\x01a\x00",
            b"\x01b\x01",
            b"\x01c\x02\xff",
            b"\x01d\x03\0\1",
            b"\x01e\x04\0\0\0\1",
            b"\x01f\x05" + bytes(8),
            b"\x01g\x06\0\2xy",
            string_header("h", "é"),
            b"\x01i\x08" + bytes(8),
            b"\x01j\x09" + bytes(16),
        )
    )
    stream = raw_event(headers, b"")
    ((theirs, _),) = read_by_botocore(stream)
    (ours,) = read(stream)

    assert 10 == len(theirs)
    assert {name: value for name, value in theirs.items() if isinstance(value, str)} == dict(ours.headers)


@pytest.mark.parametrize("at", range(len(CHUNK)))
def test_a_flipped_bit_is_found(at: int) -> None:
    """Wherever it is, by us as by botocore."""
    broken = bytearray(CHUNK)
    broken[at] ^= 0x10

    with pytest.raises(BadReply):
        read(bytes(broken))
    with pytest.raises(ParserError):
        read_by_botocore(bytes(broken))


def lengths(size: int, headers_size: int) -> bytes:
    """The beginning of an event, its checksum right."""
    start = pack("!II", size, headers_size)
    return start + pack("!I", crc32(start))


@pytest.mark.parametrize(
    ("size", "headers_size"),
    [
        (MAX_PAYLOAD + 17, 0),
        (MAX_HEADERS + 17, MAX_HEADERS + 1),
        (0xFFFFFFFF, 0),
        (0, 0),
        (15, 0),
        (16, 1),
        (100, 0xFFFFFFFF),
    ],
)
def test_what_is_declared_is_refused_before_it_is_held(size: int, headers_size: int) -> None:
    with pytest.raises(BadReply, match=f"declares {size} bytes"):
        fed(EventStreamReader(), lengths(size, headers_size))


def test_the_largest_event_is_read() -> None:
    """As large as AWS's SDKs read."""
    payload = bytes(MAX_PAYLOAD)

    assert [MAX_PAYLOAD] == [len(found.payload) for found in read(raw_event(b"", payload))]


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05a",  # the name is longer than the block
        b"\x01a",  # no type
        b"\x01a\x0a",  # a type that is none
        b"\x01a\x07\x00",  # half a length
        b"\x01a\x07\x00\x05xy",  # the value is longer than the block
        b"\x01a\x04\x00",  # the integer is longer than the block
        b"\x01\xff\x07\x00\x00",  # a name that is no UTF-8
        string_header("a", "1") * 2,  # twice
    ],
)
def test_headers_that_cannot_be_read(headers: bytes) -> None:
    with pytest.raises(BadReply, match="headers"):
        read(raw_event(headers, b""))


@pytest.mark.parametrize("size", [1, 11, 12, len(CHUNK) - 1])
def test_a_stream_that_ends_inside_an_event(size: int) -> None:
    with pytest.raises(CutReply):
        read(CHUNK[:size])


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_reply_and_nothing_else(garbage: bytes) -> None:
    try:
        events = read(garbage)
    except (BadReply, CutReply):
        return
    assert b"" == garbage
    assert [] == events
