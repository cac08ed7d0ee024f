"""Messages of AWS's event stream, written."""

from __future__ import annotations

import pytest
from botocore.eventstream import EventStreamBuffer

from bridge.aws.event_stream_encoder import encode_event


@pytest.mark.parametrize("payload", [b"", b"a", bytes(70_000)], ids=len)
def test_botocore_reads_what_is_written(payload: bytes) -> None:
    """Lengths, headers and both checksums are right."""
    buffer = EventStreamBuffer()
    buffer.add_data(encode_event("PayloadChunk", payload, content_type="application/octet-stream"))
    message = next(buffer)

    assert payload == message.payload
    assert message.headers == {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }


def test_messages_follow_one_another() -> None:
    buffer = EventStreamBuffer()
    for payload in (b"1", b"2"):
        buffer.add_data(encode_event("PayloadChunk", payload, content_type="text/plain"))

    assert [message.payload for message in buffer] == [b"1", b"2"]
