"""Backends that are functions behind Invoke: a request becomes one event, and the payload is an HTTP reply."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Protocol

from bridge.aws.events.event_body import BodyKind
from bridge.aws.events.http_reply import HttpReply
from bridge.aws.events.reply_reader import ReplyReader
from bridge.aws.events.streamed_reply import StreamedReply
from bridge.aws.invoke import InvokeReply
from bridge.aws.sigv4 import HeaderPairs
from bridge.config.formats import EventShape
from bridge.rpc.buffers import SMALL, Account, Portion
from bridge.rpc.call import Call, CallFacts
from bridge.rpc.metadata import EMPTY, EXECUTION_ARN, Metadata
from bridge.targets.gathering_target import BackendReply, Parts

_REPEATED = "durable"
"""What the request ids in events of durable executions begin with."""


class InvokeCarrier(Protocol):
    """Takes an event to the function."""

    async def invoke(
        self,
        payload: bytes,
        *,
        headers: HeaderPairs = (),
        account: Account | None = None,
    ) -> InvokeReply:
        """Invoke the function and return its reply. `headers`: more of the API. Raises an RpcError for any other
        outcome. Cancellation aborts the request.
        """
        ...


class StreamedInvocation(Parts, Protocol):
    """A payload that is still arriving: the bytes that the function writes."""

    request_id: str
    """AWS's id of the invocation."""


class StreamCarrier(Protocol):
    """Takes an event to the function, for a reply that arrives in parts."""

    async def open(
        self, payload: bytes, *, headers: HeaderPairs = (), account: Account | None = None
    ) -> StreamedInvocation:
        """Invoke the function. The caller closes the reply. Raises an RpcError for any other outcome."""
        ...


class InvokeBackend:
    """Calls a function by Invoke, for every event shape that is an HTTP request."""

    __slots__ = ("_carrier", "_encoder", "_event", "_kind", "_replies", "_wall_clock")

    def __init__(
        self, carrier: InvokeCarrier, *, event: EventShape, kind: BodyKind, wall_clock: Callable[[], float]
    ) -> None:
        """`kind` is what an event says of its body. `wall_clock` reads the time of day (Unix seconds)."""
        self._carrier = carrier
        self._event = event
        self._kind = kind
        self._encoder = event.new_encoder(token_hex(6), kind)
        self._replies = ReplyReader(event.decode_reply)
        self._wall_clock = wall_clock

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """See Backend.send."""
        event = self._encoder.encode(call, metadata, body, timeout=seconds_left, now=self._wall_clock())
        reply = await self._carrier.invoke(event, headers=call.invoke_headers, account=call)
        found = self._replies.read(reply.payload)
        return BackendReply(found.http_status, found.headers, found.body, reply.request_id)

    async def send_repeatable(self, call: Call, facts: CallFacts, metadata: Metadata, body: bytes) -> BackendReply:
        """See RepeatableBackend.send_repeatable."""
        # A new encoder counts its request ids from the beginning, so that each is the first.
        encoder = self._event.new_encoder(_REPEATED, self._kind)
        event = encoder.encode(facts, metadata, body, timeout=None, now=0.0)
        reply = await self._carrier.invoke(event, headers=call.invoke_headers, account=call)
        found = self._replies.read(reply.payload)
        return BackendReply(found.http_status, found.headers, found.body, reply.request_id, trailing=trailing_of(reply))


class StreamBackend:
    """Calls a function by InvokeWithResponseStream, for every event shape that is an HTTP request."""

    __slots__ = ("_carrier", "_decode_reply", "_encoder", "_wall_clock")

    def __init__(
        self, carrier: StreamCarrier, *, event: EventShape, kind: BodyKind, wall_clock: Callable[[], float]
    ) -> None:
        """Take what InvokeBackend takes."""
        self._carrier = carrier
        self._encoder = event.new_encoder(token_hex(6), kind)
        self._decode_reply = event.decode_reply
        self._wall_clock = wall_clock

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """See Backend.send."""
        event = self._encoder.encode(call, metadata, body, timeout=seconds_left, now=self._wall_clock())
        invocation = await self._carrier.open(event, headers=call.invoke_headers, account=call)
        call.request_id = invocation.request_id  # the log has it, even if the head never comes
        try:
            head, begun = await _head_of(call, invocation, StreamedReply(self._decode_reply))
        except BaseException:
            invocation.close()
            raise
        return BackendReply(head.http_status, head.headers, begun, invocation.request_id, rest=invocation)


def trailing_of(reply: InvokeReply) -> Metadata:
    """Return the trailing metadata that a call gets with its reply."""
    return ((EXECUTION_ARN, reply.execution_arn),) if reply.execution_arn else EMPTY


async def _head_of(call: Call, chunks: Parts, reply: StreamedReply) -> tuple[HttpReply, bytes]:
    """Read the reply's head. Returns it and the first bytes of the body. `chunks` has more. Raises BadReply,
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
