"""Calls that the bridge makes itself, directly to a target. Reflection asks functions for descriptors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from bridge.aws.tenancy import tenant_header
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.call import Arrival, Handler, Peer, Route
from bridge.rpc.envelope import EnvelopeReader, data_of, envelope
from bridge.rpc.errors import RpcError
from bridge.rpc.events import NEXT_PHASE, Message, Phase, ResponseEvent, Trailers
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import EMPTY, Metadata
from bridge.rpc.status import Status, StatusCode

_MAX_GATHERED = 32 << 20
"""Most bytes of response that an internal call holds."""


class InternalCall(OpenAccount):
    """A call without a client. Its request is given, and its response is collected."""

    def __init__(
        self,
        path: str,
        body: bytes,
        *,
        route: Route,
        deadline: float,
        started: float,
        buffers: Buffers,
        tenant: str = "",
    ) -> None:
        super().__init__(buffers)
        self.path = path
        self.metadata: Metadata = EMPTY
        self.content_type = "application/grpc"
        self.authority = "localhost"
        self.peer = Peer("127.0.0.1")
        self.connection: Hashable = self
        self.has_ended = True
        self.deadline: float | None = deadline
        self.started = started
        self.route = route
        self.phase = Phase.NEW
        self.status: Status | None = None
        self.cause: RpcError | None = None
        self.messages_received = self.messages_sent = 0
        self.bytes_received = len(body)
        self.bytes_sent = self.attempts = self.throttles = 0
        self.upstream_seconds = self.queued_seconds = 0.0
        self.request_id = ""
        self.is_cold_start = False
        self.tenant = tenant
        self.execution_name = ""
        self.invoke_headers = tenant_header(tenant) if tenant else ()
        self.messages: list[bytes] = []
        self._body = body
        self._reader = EnvelopeReader(max_message=len(body))
        self._reader.feed(body)

    def send(self, event: ResponseEvent) -> bool:
        self.phase = NEXT_PHASE[self.phase][type(event)]
        if isinstance(event, Message):
            self.bytes_sent += len(event.envelope)
            if self.bytes_sent > _MAX_GATHERED:
                raise OwnCallFailed(Status(StatusCode.RESOURCE_EXHAUSTED, "the answer is too large"))
            self.hold(len(event.envelope))
            self.messages.append(data_of(event.envelope))
        elif isinstance(event, Trailers):
            self.status = event.status
        return True

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        for event in events:
            self.send(event)

    async def writable(self) -> None:
        return

    async def read_all(self) -> bytes:
        return self._body

    async def arrival(self, of: Arrival) -> None:  # noqa: ARG002 - the request is whole
        return

    def pass_messages(self, *, singly: bool) -> None: ...

    async def read_envelope(self) -> bytes | None:
        return self._reader.next_envelope()

    def unread(self, envelopes: Sequence[bytes]) -> None:
        self._reader.put_back(envelopes)

    def abort(self, cause: RpcError) -> None:
        self.cause = cause


class OwnCallFailed(RpcError):
    """The target answered an internal call with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message or status.code.name)
        self.code = status.code


async def exchange(
    handler: Handler,
    path: str,
    messages: Sequence[bytes],
    *,
    seconds: float,
    clock: Callable[[], float],
    buffers: Buffers,
    tenant: str = "",
) -> list[bytes]:
    """Send the messages and return those of the response. Raises RpcError. The caller bounds the time as well.

    `seconds`: what the function is told of its time; `clock` reads the monotonic time; `buffers` count what comes back;
    `tenant` is for a function that has tenants.
    """
    service, _, method = path[1:].rpartition("/")
    route = Route(service, handler, MethodFigures(service, method), Limits())
    now = clock()
    body = b"".join([envelope(message) for message in messages])
    call = InternalCall(path, body, route=route, deadline=now + seconds, started=now, buffers=buffers, tenant=tenant)
    try:
        await handler(call)
    finally:
        call.close()
    if call.status is None or call.status.code is not StatusCode.OK:
        raise OwnCallFailed(call.status or Status(StatusCode.INTERNAL, "no status"))
    return call.messages
