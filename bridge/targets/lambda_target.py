"""The target for a function behind Invoke. A whole request becomes one event, and the reply becomes the response.

Nothing is sent before the function has answered, so that the retry layer may run a call again. The client gets the
reply up to its first fault, as with a streamed reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import Protocol

from bridge.aws.events.event_body import message_format_of
from bridge.aws.events.reply_reader import ReplyReader
from bridge.aws.invoke import InvokeReply
from bridge.codecs.codec import ReplyOptions
from bridge.codecs.content_coding import content_codings
from bridge.config.formats import EventShape
from bridge.rpc.buffers import Account
from bridge.rpc.call import Call
from bridge.rpc.errors import RpcError
from bridge.rpc.events import ResponseEvent
from bridge.rpc.figures import TargetFigures
from bridge.targets.payload import GRPC_WEB_PAYLOAD, HTTP_V2, Payload
from bridge.targets.reply import read_decoded, read_in_slices, send_in_slices, strip_cold_start_mark, with_request_id
from bridge.targets.request import CompressionMode, read_whole_request


class Carrier(Protocol):
    """Takes an event to the function."""

    async def invoke(
        self,
        payload: bytes,
        *,
        client_context: str | None = None,
        account: Account | None = None,
    ) -> InvokeReply:
        """Invoke the function and return its reply. Raises an RpcError for any other outcome. Cancellation aborts the
        request.
        """
        ...


class LambdaTarget:
    """Serves invoke mode `buffered`, with any payload, for every event shape that is an HTTP request."""

    __slots__ = (
        "_carrier",
        "_clock",
        "_codec",
        "_compression",
        "_convert",
        "_events",
        "_figures",
        "_large",
        "_replies",
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
        self._replies = ReplyReader(event.decode_reply)

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        metadata, body = await read_whole_request(call, self._compression, self._large)
        message_format = message_format_of(call.content_type)
        body = self._codec.encode(call.path, message_format, body)
        if self._convert is not None:
            body = await self._convert(call.path, body, call)
        started = self._clock()
        timeout = None if call.deadline is None else call.deadline - started
        event = self._events.encode(call, metadata, body, timeout=timeout, now=self._wall_clock())
        try:
            reply = await self._carrier.invoke(event, account=call)
        finally:
            call.upstream_seconds += self._clock() - started
        call.request_id = reply.request_id
        found = self._replies.read(reply.payload)
        headers = strip_cold_start_mark(found.headers, self._figures)
        options = ReplyOptions(
            call.path,
            message_format,
            metadata,
            call.route.limits.max_response,
            call,
        )
        # Nothing below waits for a slow client: bytes it has not read count in the process's buffers, and the target's
        # place is free.
        read = self._codec.read(found.http_status, headers, found.body, options)
        if isinstance(read, list):
            call.send_all(with_request_id(read, reply.request_id))
            return
        events: list[ResponseEvent] = []
        codings = content_codings(found.headers)
        status = found.http_status
        try:
            if codings:
                await read_decoded(read, codings, found.body, call, http_status=status, into=events)
            else:
                await read_in_slices(read, found.body, into=events)
        except RpcError:
            await send_in_slices(call, events)
            raise
        await send_in_slices(call, with_request_id(events, reply.request_id))
