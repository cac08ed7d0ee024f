"""StreamedCall: a Call whose client is the test itself, message by message, with a window that can be shut."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any

from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.call import Arrival, Handler, Peer, Route
from bridge.rpc.envelope import data_of, envelope
from bridge.rpc.errors import RpcError
from bridge.rpc.events import NEXT_PHASE, Message, Phase, ResponseEvent, Trailers
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.status import Status


async def refuse(call: object) -> None:
    raise AssertionError("the route's handler is not what is tested")


class StreamedCall(OpenAccount):
    """Requests are pushed in, events gather in `events`. As a context it runs a handler in a task."""

    def __init__(self, path: str, *messages: bytes, metadata: Metadata = EMPTY, limits: Limits | None = None) -> None:
        super().__init__(Buffers(1 << 40))
        self.path = path
        self.metadata = metadata
        self.content_type = "application/grpc"
        self.authority = "localhost"
        self.peer = Peer("127.0.0.1")
        self.connection: Hashable = self
        self.has_ended = True
        self.deadline: float | None = None
        self.started = 0.0
        self.route = Route(path, refuse, MethodFigures("", ""), limits or Limits())
        self.phase = Phase.NEW
        self.status: Status | None = None
        self.cause: RpcError | None = None
        self.messages_received = self.messages_sent = self.bytes_received = self.bytes_sent = 0
        self.attempts = self.throttles = 0
        self.upstream_seconds = self.queued_seconds = 0.0
        self.request_id = ""
        self.is_cold_start = False
        self.tenant = self.execution_name = ""
        self.invoke_headers: tuple[tuple[str, str], ...] = ()
        self.events: list[ResponseEvent] = []
        self.is_window_open = True
        self._envelopes = deque(envelope(message) for message in messages)
        self._has_ended = bool(messages)
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    # -- the test's end ------------------------------------------------------------------------------------------------

    async def push(self, message: bytes) -> None:
        await self.push_envelope(envelope(message))

    async def push_envelope(self, framed: bytes) -> None:
        async with self._changed:
            self._envelopes.append(framed)
            self._changed.notify_all()

    async def end(self) -> None:
        async with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    async def open_window(self) -> None:
        async with self._changed:
            self.is_window_open = True
            self._changed.notify_all()

    async def messages(self, count: int) -> list[bytes]:
        """The data of the first `count` response messages, once they are there."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._sent()) >= count or self._is_over())
        return self._sent()[:count]

    async def settled(self) -> list[bytes]:
        """The data of all response messages so far, when the handler has had its turns."""
        for _ in range(10):
            await asyncio.sleep(0)
        return self._sent()

    def serve(self, handler: Handler) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(_run(handler, self))
        return self._task

    async def finish(self) -> None:
        """Ends the call from outside, as a lost client does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _sent(self) -> list[bytes]:
        return [data_of(event.envelope) for event in self.events if isinstance(event, Message)]

    def _is_over(self) -> bool:
        return self._task is not None and self._task.done()

    # -- the handler's end ---------------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bool:
        self.phase = NEXT_PHASE[self.phase][type(event)]
        self.events.append(event)
        if isinstance(event, Trailers):
            self.status = event.status
        asyncio.get_running_loop().create_task(self._notify())
        return self.is_window_open

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        for event in events:
            self.send(event)

    async def writable(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_window_open)

    async def read_all(self) -> bytes:
        raise AssertionError("a built-in service reads message by message")

    async def arrival(self, of: Arrival) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_ended or (of != "end" and self._envelopes))

    def pass_messages(self, *, singly: bool) -> None: ...

    async def read_envelope(self) -> bytes | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._envelopes or self._has_ended)
        return self._envelopes.popleft() if self._envelopes else None

    def unread(self, envelopes: Sequence[bytes]) -> None:
        self._envelopes.extendleft(reversed(envelopes))

    def abort(self, cause: RpcError) -> None:
        self.cause = cause
        if self._task is not None:
            self._task.cancel()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _run(handler: Handler, call: StreamedCall) -> None:
    await handler(call)


async def answers(handler: Handler, path: str, *requests: Any) -> StreamedCall:
    """The call after the handler is done with these request messages."""
    call = StreamedCall(path, *(request.SerializeToString() for request in requests))
    await handler(call)
    return call
