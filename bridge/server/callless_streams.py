"""The streams of a connection that have no call: requests that are not gRPC calls, and replies that the client has not
read although their call is over.
"""

from __future__ import annotations

from collections.abc import Container

from bridge.http2.events import DataReceived, ErrorCode
from bridge.http2.interface import Engine
from bridge.server.request import Refusal


class CalllessStreams:
    """Times are the loop's, in seconds."""

    __slots__ = ("_engine", "_requests", "_unread")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._requests: dict[int, tuple[Refusal, float]] = {}
        """Unfinished requests, by stream: the answer that waits for their end, and since when it waits."""
        self._unread: dict[int, float] = {}
        """Streams with an unread reply, with the time when this was first seen."""

    def refuse(self, stream_id: int, refusal: Refusal, *, ended: bool, now: float) -> None:
        """Answer a request that is not a gRPC call. Its client may be an HTTP client."""
        if not refusal.is_not_grpc:
            self._engine.send(stream_id, end=refusal.fields)
        elif ended:
            self._answer(stream_id, refusal)
        else:
            self._requests[stream_id] = (refusal, now)

    def received(self, event: DataReceived) -> None:
        """Take the body of a request: nobody reads it."""
        if event.data:
            self._engine.credit(event.stream_id, len(event.data))
        if event.ended:
            refusal, _ = self._requests.pop(event.stream_id, (None, 0.0))
            if refusal is not None:
                self._answer(event.stream_id, refusal)

    def forget(self, stream_id: int) -> None:
        """Forget a stream that the client has reset."""
        self._requests.pop(stream_id, None)

    def answer_unfinished(self, now: float, *, after: float) -> bool:
        """Answer requests that have not ended after so many seconds. Returns whether there were any."""
        late = [stream_id for stream_id, (_, since) in self._requests.items() if now - since > after]
        for stream_id in late:
            refusal, _ = self._requests.pop(stream_id)
            self._answer(stream_id, refusal)
        return bool(late)

    def reset_unread(self, now: float, *, calls: Container[int], after: float) -> int:
        """Reset streams that are not among `calls` and whose reply has waited for so many seconds. Returns how many."""
        unread = [stream_id for stream_id in self._engine.open_streams if stream_id not in calls]
        self._unread = {stream_id: self._unread.get(stream_id, now) for stream_id in unread}
        late = [stream_id for stream_id, since in self._unread.items() if now - since > after]
        for stream_id in late:
            self._engine.reset(stream_id, ErrorCode.CANCEL)
        return len(late)

    def _answer(self, stream_id: int, refusal: Refusal) -> None:
        """Answer as HTTP servers do: with a body, once the request has ended. The gRPC status follows it."""
        self._engine.send(stream_id, head=refusal.head, body=refusal.text, end=refusal.end)
