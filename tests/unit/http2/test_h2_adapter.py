"""What h2 would do differently by itself. What both engines do alike is in test_interface.py."""

from __future__ import annotations

import pytest

from bridge.http2.events import ConnectionFailed, ErrorCode, RequestReceived
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import EngineLimits
from tests.support.frames import REQUEST, RESPONSE, TRAILERS, Client, FrameFactory, raw


@pytest.fixture
def client() -> Client:
    return Client(H2Engine(EngineLimits()))


def test_encoder_does_not_follow_the_clients_table(client: Client) -> None:
    """h2 would grow it to any size, and slow down with every answer."""
    client.say(client.make.settings({1: 2**32 - 1}))
    for stream_id in range(1, 101, 2):
        client.say(client.make.request(stream_id))
        client.engine.send(stream_id, end=(*RESPONSE, ("x-id", str(stream_id))))

    assert isinstance(client.engine, H2Engine)
    assert 0 == len(client.engine._h2.encoder.header_table.dynamic_entries)


def test_table_size_said_twice(client: Client) -> None:
    """h2 forgets the size update that must follow (its `resized` goes back to False)."""
    client.decoder.max_allowed_table_size = 0
    client.say(client.make.settings({1: 0}), client.make.settings({1: 0}), client.make.request(1))
    client.hear()
    client.engine.send(1, end=TRAILERS)
    (head,) = client.hear()

    assert TRAILERS == client.fields(head)


def test_events_before_a_fault_are_kept(client: Client) -> None:
    """h2 raises, and loses what it has read in the same call."""
    events = client.say(client.make.request(1), raw(0x6, 0, 0, b"short"))

    assert RequestReceived(1, REQUEST, ended=True) == events[0]
    assert isinstance(events[-1], ConnectionFailed)


def test_goaway_says_why(client: Client) -> None:
    client.say(raw(0x8, 0, 0, bytes(4)))
    ((_, code, reason),) = client.goaways()

    assert ErrorCode.PROTOCOL_ERROR == code
    assert b"" != reason


def test_header_list_above_the_limit_ends_the_connection() -> None:
    """h2 stops reading the block, so its table is lost. The native engine answers."""
    client = Client(H2Engine(EngineLimits(max_header_list=500)))
    events = client.say(client.make.request(1, [*REQUEST, ("x", "v" * 500)]))

    assert isinstance(events[-1], ConnectionFailed)
    assert ErrorCode.ENHANCE_YOUR_CALM == events[-1].code


def test_more_streams_than_h2_likes() -> None:
    """h2 ends the connection over the 101st, and over one above what it has announced."""
    client = Client(H2Engine(EngineLimits(max_concurrent_streams=150)))
    events = client.say(*[client.make.headers(stream_id) for stream_id in range(1, 303, 2)])

    assert 150 == sum(isinstance(event, RequestReceived) for event in events)
    assert [(301, ErrorCode.REFUSED_STREAM)] == client.resets()


def test_bytes_before_the_preface_are_not_frames() -> None:
    engine = H2Engine(EngineLimits())
    engine.receive(FrameFactory().settings(), now=0.0)

    assert b"not HTTP/2" in engine.bytes_to_send()
