"""A function behind Invoke: a gathered call becomes one event, the reply becomes the call's response.

Nothing is sent before the whole reply is known to be good, so that the retry layer may run a call again.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Literal, Protocol

from bridge.aws.http_reply import decode_reply
from bridge.aws.http_v2 import EventEncoder, message_format_of
from bridge.aws.invoke import InvokeReply
from bridge.codecs import grpc_web
from bridge.codecs.identity import uncompressed
from bridge.rpc.call import Call
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.figures import TargetFigures
from bridge.rpc.metadata import REQUEST_ID, Metadata, value_of

COLD_START = "x-lambda-fn-cold-start"
"""lambda_fn sets this header once per instance; it is counted here and goes no further."""


class Carrier(Protocol):
    """Takes an event to the function."""

    async def invoke(self, payload: bytes, *, client_context: str | None = None) -> InvokeReply:
        """The function's reply. Raises an RpcError for all that is none; being cancelled aborts the request."""
        ...


class LambdaTarget:
    """Event `http-v2`, payload `grpc-web`, invoke mode `buffered`."""

    __slots__ = ("_carrier", "_clock", "_compression", "_events", "_figures", "_wall_clock")

    def __init__(
        self,
        carrier: Carrier,
        *,
        figures: TargetFigures,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        compression: Literal["pass", "identity"] = "pass",
    ) -> None:
        self._carrier = carrier
        self._figures = figures
        self._clock = clock
        self._wall_clock = wall_clock
        self._compression = compression
        self._events = EventEncoder(instance=token_hex(6))

    async def handle(self, call: Call) -> None:
        """A Handler. Raises RpcError."""
        metadata, body = call.metadata, await call.read_all()
        if self._compression == "identity":
            limits = call.route.limits
            metadata, body = uncompressed(
                metadata, body, max_message=limits.max_request, max_body=limits.max_buffered
            )
        reply = await self._invoke(call, metadata, body)
        call.request_id = reply.request_id
        for event in self._read(call, metadata, reply):
            if not call.send(event):
                await call.writable()

    async def _invoke(self, call: Call, metadata: Metadata, body: bytes) -> InvokeReply:
        started = self._clock()
        timeout = None if call.deadline is None else call.deadline - started
        event = self._events.encode(call, metadata, body, timeout=timeout, now=self._wall_clock())
        try:
            return await self._carrier.invoke(event)
        finally:
            call.upstream_seconds += self._clock() - started

    def _read(self, call: Call, metadata: Metadata, reply: InvokeReply) -> list[ResponseEvent]:
        found = decode_reply(reply.payload)
        headers = found.headers
        if len(headers) > 1 and value_of(headers, COLD_START) is not None:
            self._figures.cold_starts += 1
            headers = tuple([field for field in headers if field[0] != COLD_START])
        events = grpc_web.decode(
            found.http_status,
            headers,
            found.body,
            accept_encoding=value_of(metadata, "grpc-accept-encoding"),
            max_response=call.route.limits.max_response,
            message_format=message_format_of(call.content_type),
        )
        end = events[-1]
        if reply.request_id and isinstance(end, Trailers):
            events[-1] = Trailers(end.status, (*end.metadata, (REQUEST_ID, reply.request_id)))
        return events
