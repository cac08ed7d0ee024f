from __future__ import annotations

from typing import Any

from bridge.carriers.http2.sending import MAX_CHOKED, REMEMBERED_FLUSHES, Backpressure, SentStreams
from bridge.rpc.errors import BadReply, ConnectionLost, NotProcessed, Unreachable


class UnixTransport:
    """A transport whose system tells nothing about arrival; it holds `size` bytes."""

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.size


LOST: dict[str, Any] = {"name": "grpc://server:1", "error": None, "cause": None}


def test_a_call_that_has_not_left_may_be_sent_again() -> None:
    sent = SentStreams()

    sent.wrote(100, last_stream=3)

    assert isinstance(sent.loss_of(3, **LOST), ConnectionLost)
    assert isinstance(sent.loss_of(5, **LOST), NotProcessed)


def test_nothing_is_known_of_arrival_where_the_system_does_not_tell() -> None:
    sent = SentStreams()
    sent.wrote(100, last_stream=1)

    sent.closed_by_server(UnixTransport())  # type: ignore[arg-type]  # a double of the transport

    assert isinstance(sent.loss_of(1, **LOST), ConnectionLost)


def test_only_remembered_writes_prove_that_a_call_has_not_arrived() -> None:
    sent = SentStreams()
    for stream_id in range(1, 2 * REMEMBERED_FLUSHES + 4, 2):
        sent.wrote(10, last_stream=stream_id)
    sent._arrived = 0

    assert isinstance(sent.loss_of(1, **LOST), ConnectionLost)
    assert isinstance(sent.loss_of(2 * REMEMBERED_FLUSHES + 3, **LOST), NotProcessed)


def test_each_call_gets_an_error_of_its_own() -> None:
    sent, cause = SentStreams(), OSError("reset")
    sent.wrote(10, last_stream=3)
    error = BadReply("broke HTTP/2")

    found = [sent.loss_of(number, "grpc://server:1", error, cause) for number in (1, 3)]

    assert [BadReply, BadReply] == [type(each) for each in found]
    assert len({id(each) for each in (*found, error)}) == 3
    assert all(str(each) == "broke HTTP/2" and each.__cause__ is cause for each in found)


def test_a_call_that_was_sent_may_have_run_whatever_ended_its_connection() -> None:
    """An error that says the server was never reached is true for calls that wait, and for no other."""
    sent = SentStreams()
    sent.wrote(10, last_stream=1)
    error = Unreachable("it never came")

    assert isinstance(sent.loss_of(1, "greeter", error, None), ConnectionLost)
    assert isinstance(sent.loss_of(3, "greeter", error, None), NotProcessed)


def test_what_is_written_while_choked_is_bounded() -> None:
    backpressure = Backpressure()
    assert backpressure.wrote(2 * MAX_CHOKED)  # the transport takes it

    backpressure.begin(UnixTransport(5), 0)  # type: ignore[arg-type]  # a double of the transport

    assert backpressure.wrote(MAX_CHOKED)
    assert not backpressure.wrote(1)


def test_what_the_server_asks_for_while_choked_does_not_count() -> None:
    """A server that opens its windows reads, though the transport is slow."""
    backpressure = Backpressure()
    backpressure.begin(UnixTransport(5), 0)  # type: ignore[arg-type]  # a double of the transport
    for _ in range(3):
        backpressure.allowed(MAX_CHOKED)
        assert backpressure.wrote(MAX_CHOKED)

    assert not backpressure.wrote(MAX_CHOKED + 1)


def test_a_stall_begins_anew_when_the_server_takes_something() -> None:
    backpressure, transport = Backpressure(), UnixTransport(10)
    assert backpressure.stalled_for(transport, 0) == 0  # type: ignore[arg-type]  # a double of the transport
    backpressure.begin(transport, 100)  # type: ignore[arg-type]  # a double of the transport

    assert backpressure.stalled_for(transport, 105) == 5  # type: ignore[arg-type]  # a double of the transport
    transport.size = 9
    assert backpressure.stalled_for(transport, 110) == 0  # type: ignore[arg-type]  # a double of the transport
    assert backpressure.stalled_for(transport, 112) == 2  # type: ignore[arg-type]  # a double of the transport
    backpressure.end()
    assert backpressure.stalled_for(transport, 120) == 0  # type: ignore[arg-type]  # a double of the transport
