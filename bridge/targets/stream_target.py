"""The target for a function behind InvokeWithResponseStream. A whole request becomes one event. The reply is passed on
as it arrives.

Headers leave when the reply's head has arrived, and each message when it is whole. A client that does not read slows
the function down. A call may be run again only until its headers have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from secrets import token_hex
from typing import Protocol

from bridge.aws.events.event_body import message_format_of
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.events.streamed_reply import StreamedReply
from bridge.codecs.codec import ReplyOptions
from bridge.codecs.content_coding import content_codings
from bridge.config.formats import EventShape
from bridge.rpc.buffers import SMALL, Account, Portion
from bridge.rpc.call import Call
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import Metadata
from bridge.targets.payload import GRPC_WEB_PAYLOAD, HTTP_V2, Payload
from bridge.targets.reply import decoded, largest_message, one_part, stream_reply, strip_cold_start_mark
from bridge.targets.request import CompressionMode, read_whole_request


class StreamedInvocation(Protocol):
    """A reply that is still arriving."""

    chunks: AsyncIterator[bytes]
    """Yields the bytes that the function writes. Raises an RpcError at the end if the function failed."""
    request_id: str


class Carrier(Protocol):
    """Takes an event to the function."""

    def invoke(
        self,
        payload: bytes,
        *,
        client_context: str | None = None,
        account: Account | None = None,
    ) -> AbstractAsyncContextManager[StreamedInvocation]:
        """Invoke the function. The reply is valid inside the block. Raises an RpcError for any other outcome. Leaving
        the block aborts it.
        """
        ...


class StreamTarget:
    """Serves invoke mode `response_stream`, with any payload, for every event shape that is an HTTP request."""

    __slots__ = (
        "_carrier",
        "_clock",
        "_codec",
        "_compression",
        "_convert",
        "_decode_reply",
        "_events",
        "_figures",
        "_large",
        "_wall_clock",
    )

    def __init__(
        self,
        carrier: Carrier,
        *,
        figures: TargetFigures,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        compression: CompressionMode = "pass",
        large: asyncio.Lock | None = None,
        payload: Payload = GRPC_WEB_PAYLOAD,
        event: EventShape = HTTP_V2,
    ) -> None:
        self._carrier = carrier
        self._large = large or asyncio.Lock()
        self._figures = figures
        self._clock = clock
        self._wall_clock = wall_clock
        self._codec = payload.codec
        self._convert = payload.codec.convert
        self._compression = payload.compression(compression)
        self._events = event.new_encoder(token_hex(6), payload.kind)
        self._decode_reply = event.decode_reply

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        metadata, body = await read_whole_request(call, self._compression, self._large)
        body = self._codec.encode(call.path, message_format_of(call.content_type), body)
        if self._convert is not None:
            body = await self._convert(call.path, body, call)
        started = self._clock()
        timeout = None if call.deadline is None else call.deadline - started
        event = self._events.encode(call, metadata, body, timeout=timeout, now=self._wall_clock())
        try:
            async with self._carrier.invoke(event, account=call) as invocation:
                await self._relay(call, metadata, invocation)
        finally:
            call.upstream_seconds += self._clock() - started

    async def _relay(self, call: Call, metadata: Metadata, invocation: StreamedInvocation) -> None:
        call.request_id = invocation.request_id
        head, begun = await _head_of(call, invocation.chunks, StreamedReply(self._decode_reply))
        reader = self._codec.reader(
            head.http_status,
            strip_cold_start_mark(head.headers, self._figures),
            ReplyOptions(
                path=call.path,
                metadata=metadata,
                max_response=largest_message(call.route.limits.max_response),
                message_format=message_format_of(call.content_type),
                account=call,
            ),
        )
        codings = content_codings(head.headers)
        if not codings:
            await stream_reply(call, reader, invocation.chunks, begun=begun, request_id=invocation.request_id)
            return
        coded = one_part(begun, invocation.chunks)
        async with aclosing(decoded(codings, coded, http_status=head.http_status)) as parts:
            await stream_reply(call, reader, parts, request_id=invocation.request_id)


async def _head_of(call: Call, chunks: AsyncIterator[bytes], reply: StreamedReply) -> tuple[HttpReply, bytes]:
    """Read the reply's head. Returns it and the first bytes of the body. `chunks` has the rest. Raises BadReply,
    BuffersFull.
    """
    held = Portion(call)
    async for chunk in chunks:
        begun = reply.feed(chunk)
        if reply.head is not None:
            return reply.head, begun
        held.become(reply.held if reply.held > SMALL else 0)
    call.hold(held.size)  # counts the events that are read from it
    begun = reply.finish()
    assert reply.head is not None
    return reply.head, begun
