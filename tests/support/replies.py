"""Feeds readers of replies."""

from __future__ import annotations

from bridge.codecs.codec import BodyReader
from bridge.rpc.events import ResponseEvent


def fed(reader: BodyReader, data: bytes) -> list[ResponseEvent]:
    """The events that these bytes complete, however many turns it takes to inflate them. Raises as `feed` does."""
    events = reader.feed(data)
    while reader.is_behind:
        events += reader.feed(b"")
    return events
