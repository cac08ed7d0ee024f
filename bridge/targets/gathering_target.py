"""The target for every backend that takes a whole request: a function behind Invoke, or an HTTP server.

A call's request is read whole and becomes one request of the backend, whose reply becomes the response. How a request
is sent is the backend's: bridge/targets/lambda_backend.py, raw_backend.py and http_backend.py.

A reply that has arrived whole is sent only once all of it is known to be good, so that the retry layer may run the call
again. A reply that is still arriving is passed on: its headers leave at once, and each message when it is whole. A
client that does not read slows the backend down. Such a call may be run again only until its headers have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from msgspec import Struct

from bridge.aws.events.event_body import message_format_of
from bridge.codecs.codec import Encode, ReplyOptions
from bridge.codecs.content_coding import content_codings
from bridge.rpc.buffers import SMALL
from bridge.rpc.call import Call
from bridge.rpc.errors import HttpRefusal, RpcError
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.targets.payload import Payload
from bridge.targets.reply import (
    UntilEnd,
    decoded,
    largest_message,
    one_part,
    read_decoded,
    read_in_slices,
    send_in_slices,
    stream_reply,
    strip_cold_start_mark,
    with_request_id,
)
from bridge.targets.request import CompressionMode, read_inflated


class Parts(Protocol):
    """The body of a reply that is still arriving, in parts of any size."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes:
        """Return the next part. Raises an RpcError if the reply ends too early, or with a failure."""
        ...

    def close(self) -> None:
        """Stop reading. Before the end this aborts the request."""
        ...


class BackendReply(Struct, frozen=True):
    """The reply to one request."""

    http_status: int
    headers: Metadata
    """Names in lower case."""
    body: bytes
    """The whole body, or the part of it that has arrived."""
    request_id: str
    """AWS's id of the invocation, or empty."""
    rest: Parts | None = None
    """The parts that follow. None: the reply has arrived whole. The target closes it."""
    end: Trailers | None = None
    """The end of the call, from a backend that gives no reply. The other fields are then empty."""
    trailing: Metadata = EMPTY
    """What follows the request id in the trailing metadata, for a reply that has arrived whole."""
    explain: Callable[[HttpRefusal], RpcError] | None = None
    """Returns an error that says more than the HTTP status. None: the status says all."""


class Backend(Protocol):
    """Takes requests to one function or server."""

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """Send a request and return the reply, or its beginning.

        `metadata` and `body` are those of the call, as the backend shall see them. `seconds_left` is the time until the
        deadline, if there is one. Raises an RpcError for any other outcome. Cancellation aborts the request.
        """
        ...


class GatheringTarget:
    """Serves any payload format over one backend."""

    __slots__ = ("_backend", "_clock", "_codec", "_compression", "_encode", "_figures", "_large")

    def __init__(
        self,
        backend: Backend,
        *,
        payload: Payload,
        compression: CompressionMode,
        large: asyncio.Lock,
        figures: TargetFigures,
        clock: Callable[[], float],
    ) -> None:
        """`compression` is how the backend takes messages, where the payload format leaves a choice. All targets share
        `large`: see read_inflated. `clock` reads the monotonic time (seconds).
        """
        self._backend = backend
        self._codec = payload.codec
        self._encode = payload.codec.encode
        self._compression = payload.compression(compression)
        self._large = large
        self._figures = figures
        self._clock = clock

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        if self._compression == "pass":
            metadata, body = call.metadata, await call.read_all()
        else:
            metadata, body = await read_inflated(call, self._large)
        if self._encode is not None:
            body = await self._encoded(call, body, self._encode)
        started = self._clock()
        seconds_left = None if call.deadline is None else call.deadline - started
        try:
            reply = await self._backend.send(call, metadata, body, seconds_left)
            call.request_id = reply.request_id
            if reply.rest is not None:
                await self._pass_on(call, metadata, reply, reply.rest)
                return
        finally:
            call.upstream_seconds += self._clock() - started
        # Nothing below waits for a slow client: bytes it has not read count in the process's buffers, and the target's
        # place is free.
        if reply.end is not None:
            call.send_all((reply.end,))
            return
        headers = reply.headers if len(reply.headers) < 2 else strip_cold_start_mark(reply.headers, self._figures, call)
        read = self._codec.read(
            reply.http_status,
            headers,
            reply.body,
            ReplyOptions(
                call.path, message_format_of(call.content_type), metadata, call.route.limits.max_response, call
            ),
        )
        if isinstance(read, list):
            call.send_all(with_request_id(read, reply.request_id, reply.trailing))
            return
        events: list[ResponseEvent] = []
        codings = content_codings(reply.headers)
        try:
            if codings:
                await read_decoded(read, codings, reply.body, call, http_status=reply.http_status, into=events)
            else:
                await read_in_slices(read, reply.body, into=events)
        except RpcError:
            await send_in_slices(call, events)  # the client gets the reply up to its first fault
            raise
        await send_in_slices(call, with_request_id(events, reply.request_id, reply.trailing))

    async def _encoded(self, call: Call, body: bytes, encode: Encode) -> bytes:
        """Return the body in the payload format. The call holds it."""
        encoded = encode(call.path, message_format_of(call.content_type), body)
        if self._codec.convert is not None:
            return await self._codec.convert(call.path, encoded, call)
        if len(encoded) > SMALL:
            call.hold(len(encoded))
        return encoded

    async def _pass_on(self, call: Call, metadata: Metadata, reply: BackendReply, rest: Parts) -> None:
        """Pass the reply on while it arrives."""
        try:
            limit = largest_message(call.route.limits.max_response)
            reader = self._codec.reader(
                reply.http_status,
                strip_cold_start_mark(reply.headers, self._figures, call),
                ReplyOptions(call.path, message_format_of(call.content_type), metadata, limit, call),
            )
            arriving = UntilEnd(rest, reader)
            codings = content_codings(reply.headers)
            if not codings:
                await stream_reply(call, reader, arriving, begun=reply.body, request_id=reply.request_id)
                return
            coded = one_part(reply.body, arriving)
            async with aclosing(decoded(codings, coded, http_status=reply.http_status)) as parts:
                await stream_reply(call, reader, parts, request_id=reply.request_id)
        except RpcError as error:
            cause: RpcError = error
            if reply.explain is not None and isinstance(error, HttpRefusal):
                cause = reply.explain(error)
            cause.request_id = reply.request_id
            if cause is error:
                raise
            raise cause from error
        finally:
            rest.close()
