"""The streams of one connection to a server: passes what the engine reports on to the calls that read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bridge.http2.client_events import (
    ClientEvent,
    ResponseReceived,
    StreamFailed,
    StreamNotProcessed,
    TrailersReceived,
)
from bridge.http2.events import DataReceived, Fields, StreamReset, WindowOpened
from bridge.rpc.errors import BadReply, NotProcessed, ReplyTooLarge, RpcError


class Sink(Protocol):
    """Receives what arrives on one stream. Nothing follows a call with `ended`, `trailers`, `reset` or `failed`."""

    def response(self, fields: Fields, *, ended: bool) -> None:
        """Take the header block that opens the response; well-formed, `:status` in front."""
        ...

    def body(self, data: bytes, *, ended: bool) -> None:
        """Body bytes. The server may send as many more once they are credited."""
        ...

    def trailers(self, fields: Fields) -> None: ...

    def reset(self, code: int) -> None:
        """Note that the server reset the stream with this error code."""
        ...

    def failed(self, error: RpcError) -> None:
        """Note that the response will not be completed."""
        ...

    def has_room(self) -> None:
        """All body bytes of the stream have been sent, so more may follow."""
        ...


class Sinks:
    """The Sinks of the open streams. Its length is their number."""

    __slots__ = ("_by_stream", "_name")

    def __init__(self, name: str) -> None:
        """`name` is the server's in messages."""
        self._name = name
        self._by_stream: dict[int, Sink] = {}

    def __len__(self) -> int:
        return len(self._by_stream)

    def add(self, stream_id: int, sink: Sink) -> None:
        self._by_stream[stream_id] = sink

    def remove(self, stream_id: int) -> bool:
        """Tell this Sink nothing more. Returns False if its stream had ended before."""
        return self._by_stream.pop(stream_id, None) is not None

    def fail_all(self, error_of: Callable[[int], RpcError]) -> None:
        """End every stream. `error_of` makes the error of each."""
        ended, self._by_stream = self._by_stream, {}
        for stream_id, sink in ended.items():
            sink.failed(error_of(stream_id))

    # -- what the engine reports of a stream; each returns whether the stream has ended with it ------------------------

    def response(self, event: ResponseReceived) -> bool:
        sink = self._by_stream.get(event.stream_id)
        if sink is None:
            return False
        sink.response(event.fields, ended=event.ended)
        return event.ended and self.remove(event.stream_id)

    def body(self, event: DataReceived) -> bool:
        sink = self._by_stream.get(event.stream_id)
        if sink is None:
            return False
        sink.body(event.data, ended=event.ended)
        return event.ended and self.remove(event.stream_id)

    def trailers(self, event: TrailersReceived) -> bool:
        sink = self._by_stream.pop(event.stream_id, None)
        if sink is None:
            return False
        sink.trailers(event.fields)
        return True

    def reset(self, event: StreamReset) -> bool:
        sink = self._by_stream.pop(event.stream_id, None)
        if sink is None:
            return False
        sink.reset(event.code)
        return True

    def failed(self, event: StreamFailed) -> bool:
        kind = ReplyTooLarge if event.is_too_large else BadReply
        return self._fail(event.stream_id, kind(f"{self._name} answered wrongly: {event.reason}"))

    def not_processed(self, event: StreamNotProcessed) -> bool:
        error = NotProcessed(f"{self._name} closed the connection before it began the call")
        return self._fail(event.stream_id, error)

    def _fail(self, stream_id: int, error: RpcError) -> bool:
        sink = self._by_stream.pop(stream_id, None)
        if sink is None:
            return False
        sink.failed(error)
        return True

    def has_room(self, event: WindowOpened) -> bool:
        sink = self._by_stream.get(event.stream_id)
        if sink is not None:
            sink.has_room()
        return False


STREAM_EVENTS: dict[type[ClientEvent], Callable[[Sinks, Any], bool]] = {
    ResponseReceived: Sinks.response,
    DataReceived: Sinks.body,
    TrailersReceived: Sinks.trailers,
    StreamReset: Sinks.reset,
    StreamFailed: Sinks.failed,
    StreamNotProcessed: Sinks.not_processed,
    WindowOpened: Sinks.has_room,
}
"""The method for each type of event that concerns one stream."""
