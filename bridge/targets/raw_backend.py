"""The backend that is a plain function behind Invoke: the message's JSON is the whole event, and the whole result is
the reply.

Method and metadata travel in the client context. If an error is named after a gRPC code, it is the function's answer.
Any other error is a failure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.aws.events.raw import CLIENT_CONTEXT, ClientContext, encode_client_context, raised_status
from bridge.rpc.call import Call, CallFacts
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.events import Trailers
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.targets.gathering_target import BackendReply
from bridge.targets.lambda_backend import InvokeCarrier, trailing_of

DROPS_LOGGED_EVERY = 60.0
"""Seconds between two log lines about metadata that does not fit. Clients must not fill the log."""

_logger = logging.getLogger(__name__)


class RawBackend:
    """Calls a function by Invoke, with event `raw`."""

    __slots__ = ("_carrier", "_clock", "_silent_until")

    def __init__(self, carrier: InvokeCarrier, *, clock: Callable[[], float]) -> None:
        """`clock` reads the monotonic time (seconds)."""
        self._carrier = carrier
        self._clock = clock
        self._silent_until = 0.0

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """See Backend.send."""
        return await self._send(call, encode_client_context(call, metadata, timeout=seconds_left), body)

    async def send_repeatable(self, call: Call, facts: CallFacts, metadata: Metadata, body: bytes) -> BackendReply:
        """See RepeatableBackend.send_repeatable."""
        return await self._send(call, encode_client_context(facts, metadata, timeout=None), body)

    async def _send(self, call: Call, context: ClientContext, body: bytes) -> BackendReply:
        if not context.has_metadata:
            self._tell_dropped(call)
        headers = call.invoke_headers
        if context.text is not None:
            headers = (*headers, (CLIENT_CONTEXT, context.text))
        try:
            reply = await self._carrier.invoke(body, headers=headers, account=call)
        except FunctionFailed as error:
            status = raised_status(error)
            if status is None:
                raise
            return BackendReply(0, EMPTY, b"", error.request_id, end=Trailers(status, error.trailing))
        return BackendReply(200, EMPTY, reply.payload, reply.request_id, trailing=trailing_of(reply))

    def _tell_dropped(self, call: Call) -> None:
        """Log that a call's metadata does not fit, at a limited rate."""
        now = self._clock()
        if now >= self._silent_until:
            self._silent_until = now + DROPS_LOGGED_EVERY
            _logger.warning("the metadata of a call to %.200s is too large for the client context: dropped", call.path)
