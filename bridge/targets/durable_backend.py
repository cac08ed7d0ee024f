"""The backend for calls that are durable executions: equal calls become equal bytes.

AWS compares the payload of a repeat with that of the execution. So everything that differs from one sending to the next
has a fixed value here or is left out: times, request ids, deadlines, addresses of clients, trace contexts. Metadata is
sorted by name, because clients (grpc-go among them) send it in any order.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol

from bridge.rpc.buffers import OpenAccount
from bridge.rpc.call import Call, CallFacts, Peer
from bridge.rpc.metadata import Metadata
from bridge.targets.gathering_target import Backend, BackendReply

NO_ADDRESS = "0.0.0.0"  # noqa: S104 - written into events, not bound
"""The client's address in events."""

_LEFT_OUT = frozenset(
    (
        # trace contexts
        "traceparent",
        "tracestate",
        "baggage",
        "x-amzn-trace-id",
        "grpc-trace-bin",
        "grpc-tags-bin",
        "b3",
        "uber-trace-id",
        "sentry-trace",
        "x-cloud-trace-context",
        # what clients, and proxies in front of the bridge, say of one sending
        "grpc-previous-rpc-attempts",
        "date",
        "x-request-id",
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
        "true-client-ip",
    )
)
_LEFT_OUT_PREFIXES = ("x-b3-", "x-datadog-", "ot-tracer-", "x-envoy-")


class RepeatableBackend(Backend, Protocol):
    """A backend that can also send calls so that a repeat is equal."""

    async def send_repeatable(self, call: Call, facts: CallFacts, metadata: Metadata, body: bytes) -> BackendReply:
        """Send a request made of `facts` and `metadata`, without time, deadline and request id. Otherwise see
        Backend.send.
        """
        ...


class DurableBackend:
    """Sends calls with an execution name as repeatable ones, and all others as they are."""

    __slots__ = ("_backend",)

    def __init__(self, backend: RepeatableBackend) -> None:
        self._backend = backend

    async def send(self, call: Call, metadata: Metadata, body: bytes, seconds_left: float | None) -> BackendReply:
        """See Backend.send."""
        if not call.execution_name:
            return await self._backend.send(call, metadata, body, seconds_left)
        facts = RepeatableFacts(call)
        try:
            return await self._backend.send_repeatable(call, facts, steady_part_of(metadata), body)
        finally:
            facts.close()


def steady_part_of(metadata: Metadata) -> Metadata:
    """Return the metadata that is the same in a repeat, in an order that is the same too."""
    kept = [pair for pair in metadata if pair[0] not in _LEFT_OUT and not pair[0].startswith(_LEFT_OUT_PREFIXES)]
    return tuple(sorted(kept, key=itemgetter(0)))


class RepeatableFacts(OpenAccount):
    """What events tell of a call, without its client's address. The certificate stays: it says who the client is.

    It counts what is held for the event, until that was sent.
    """

    __slots__ = ("authority", "content_type", "path", "peer")

    def __init__(self, call: Call) -> None:
        super().__init__(call.buffers)
        self.path = call.path
        self.content_type = call.content_type
        self.authority = call.authority
        self.peer = Peer(NO_ADDRESS, call.peer.certificate)
