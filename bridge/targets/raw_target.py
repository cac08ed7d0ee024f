"""The target for a plain function behind Invoke. The message's JSON is the whole event, and the whole result is the
reply.

Method and metadata travel in the client context. If an error is named after a gRPC code, it is the function's answer.
Any other error is a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bridge.aws.events.event_body import message_format_of
from bridge.aws.events.raw import encode_client_context, raised_status
from bridge.aws.invoke import MAX_REQUEST, InvokeReply
from bridge.codecs.codec import ReplyOptions
from bridge.codecs.json import Json, Transcode
from bridge.rpc.call import Call
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.events import ResponseEvent, Trailers
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.targets.lambda_target import Carrier
from bridge.targets.reply import read_in_slices, with_request_id
from bridge.targets.request import read_whole_request

DROPS_LOGGED_EVERY = 60.0
"""Seconds between two log lines about metadata that does not fit. Clients choose its size, so they must not fill the
log.
"""

_logger = logging.getLogger(__name__)


class RawTarget:
    """Serves event `raw` with payload `json` in invoke mode `buffered`."""

    __slots__ = ("_carrier", "_clock", "_codec", "_large", "_silent_until")

    def __init__(
        self,
        carrier: Carrier,
        *,
        transcode: Transcode,
        clock: Callable[[], float],
        large: asyncio.Lock | None = None,
    ) -> None:
        self._carrier = carrier
        self._large = large or asyncio.Lock()
        self._codec = Json(transcode, max_request=MAX_REQUEST - 1)
        self._clock = clock
        self._silent_until = 0.0

    async def handle(self, call: Call) -> None:
        """Handle the call. Raises RpcError."""
        metadata, body = await read_whole_request(call, "identity", self._large)
        message = self._codec.encode(call.path, message_format_of(call.content_type), body)
        event = await self._codec.convert(call.path, message, call)
        try:
            events = await self._read(call, await self._invoke(call, metadata, event))
        except FunctionFailed as error:
            status = raised_status(error)
            if status is None:
                raise
            call.request_id = error.request_id
            events = [Trailers(status, error.trailing)]
        call.send_all(events)

    async def _invoke(self, call: Call, metadata: Metadata, event: bytes) -> InvokeReply:
        started = self._clock()
        timeout = None if call.deadline is None else call.deadline - started
        context = encode_client_context(call, metadata, timeout=timeout)
        if not context.has_metadata and started >= self._silent_until:
            self._silent_until = started + DROPS_LOGGED_EVERY
            _logger.warning("the metadata of a call to %.200s is too large for the client context: dropped", call.path)
        try:
            return await self._carrier.invoke(event, client_context=context.text, account=call)
        finally:
            call.upstream_seconds += self._clock() - started

    async def _read(self, call: Call, reply: InvokeReply) -> list[ResponseEvent]:
        call.request_id = reply.request_id
        reader = self._codec.reader(
            200,
            EMPTY,
            ReplyOptions(
                path=call.path,
                metadata=EMPTY,
                max_response=call.route.limits.max_response,
                message_format="proto",
                account=call,
            ),
        )
        events: list[ResponseEvent] = []
        await read_in_slices(reader, reply.payload, into=events)
        return with_request_id(events, reply.request_id)
