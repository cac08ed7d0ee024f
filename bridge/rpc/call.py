"""Call: one RPC from its first HEADERS to its trailers, as handlers and layers see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Literal, Protocol

from bridge.rpc.buffers import Account
from bridge.rpc.errors import RpcError
from bridge.rpc.events import Phase, ResponseEvent
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status
from bridge.rpc.value import FrozenValue


class ClientCertificate(FrozenValue, frozen=True):
    """A verified client certificate, in the terms of API Gateway's `clientCert`."""

    pem: str
    subject: str
    issuer: str
    serial_number: str
    not_before: str
    not_after: str
    uris: tuple[str, ...] = ()
    """The URIs in its subjectAltName, at most two: more than one names nobody."""
    common_names: tuple[str, ...] = ()
    """Those in its subject, at most two."""


CONSOLE = "console"
"""The address of the peer of a call that the call console makes."""


class Peer(FrozenValue, frozen=True):
    """Who calls."""

    address: str
    """An IP address without port, `unix`, or `console`."""
    certificate: ClientCertificate | None = None


class CallFacts(Account, Protocol):
    """What events tell of a call besides its metadata. They may be read only."""

    @property
    def path(self) -> str:
        """`/package.Service/Method`, as sent."""
        ...

    @property
    def content_type(self) -> str:
        """As sent: `application/grpc` or `application/grpc+…`, parameters and all."""
        ...

    @property
    def authority(self) -> str: ...

    @property
    def peer(self) -> Peer: ...


class Call(Account, Protocol):
    """One RPC. Code that sees a fact counts it in the call's figures, which are read once, at the end. A call is also
    an account: code that keeps more than buffers.SMALL bytes for it must call `hold`.
    """

    path: str
    """`/package.Service/Method`, as sent."""
    metadata: Metadata
    """The client's metadata. Without pseudo-headers, `te`, `content-type`, `content-length`, `grpc-timeout` and
    hop-by-hop names; with the `grpc-*` names of metadata.PASSED_GRPC_REQUEST, in the order sent.
    """
    content_type: str
    """As sent: `application/grpc` or `application/grpc+…`, parameters and all."""
    authority: str
    peer: Peer
    deadline: float | None
    """Monotonic seconds."""
    started: float
    route: Route
    phase: Phase
    status: Status | None
    """None until the call has ended."""
    cause: RpcError | None
    """Why the call was aborted, if it was. Once it has failed in the bridge: why."""

    has_ended: bool
    """Whether the client has ended its side: the request is complete."""
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    attempts: int
    """How often the call was sent, throttled attempts among them."""
    throttles: int
    """Attempts that AWS throttled."""
    upstream_seconds: float
    queued_seconds: float
    """How long the call has waited for its turn."""
    request_id: str
    """AWS's id of the last attempt."""
    is_cold_start: bool
    """Whether the call started a new instance of a function."""
    tenant: str
    """Whose call it is, as the layer `tenant` has found out. Empty: the target has no tenants."""
    execution_name: str
    """The name of the durable execution that the call becomes. Empty: it is an ordinary call."""
    invoke_headers: tuple[tuple[str, str], ...]
    """Headers of the Invoke API that the call adds: its tenant, its execution's name."""

    @property
    def messages_received(self) -> int: ...

    @property
    def connection(self) -> Hashable:
        """The same for all calls of one client connection."""
        ...

    def send(self, event: ResponseEvent) -> bool:
        """Queue an event. False: the client's window is full; await `writable()` before the next one."""
        ...

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        """Send a whole response, or the next part of one, without waiting. Bytes that the client has not read count in
        the process's buffers.
        """
        ...

    async def writable(self) -> None:
        """Return when the client has room again. Raises what aborted the call."""
        ...

    async def read_all(self) -> bytes:
        """Gather the request body until the client half-closes; the same bytes every time it is asked.

        Raises MalformedRequest, MessageTooLarge, Overloaded, FullDuplexNeeded.
        """
        ...

    async def arrival(self, of: Arrival) -> None:
        """Return when this much of the request has arrived, or its end. Nothing is read: `read_all` and `read_envelope`
        begin with the first byte.

        Raises MalformedRequest, MessageTooLarge, BuffersFull.
        """
        ...

    def pass_messages(self, *, singly: bool) -> None:
        """Say that the target takes messages as they come (`singly`), so that the client may be silent for as long as
        it likes, or that it takes the request whole. The route says it at first.
        """
        ...

    async def read_envelope(self) -> bytes | None:
        """Return the next request message with its prefix, or None after the last. Not to be mixed with `read_all`."""
        ...

    def unread(self, envelopes: Sequence[bytes]) -> None:
        """Put back everything that `read_envelope` returned, in order. The next server of the call reads it again.

        Raises BuffersFull, and then puts nothing back.
        """
        ...

    def abort(self, cause: RpcError) -> None:
        """End the call from outside: deadline, reset, lost connection, drain. The handler sees a cancellation, `rescue`
        the cause.
        """
        ...


Arrival = Literal["bytes", "message", "end"]
"""How much of a request: anything of it, its first message whole, all of it."""

Handler = Callable[[Call], Awaitable[None]]
"""Takes a call, sends its events, returns after Trailers; raises RpcError instead of sending a failure."""


class Route:
    """The result of looking up a call's path: its handler, its limits, and its figures."""

    __slots__ = (
        "figures",
        "handler",
        "is_logged",
        "limits",
        "max_call_seconds",
        "name",
        "streams",
        "target",
        "timeout",
    )

    def __init__(  # noqa: PLR0913 - all that is known of a call before it begins
        self,
        name: str,
        handler: Handler,
        figures: MethodFigures,
        limits: Limits,
        timeout: float | None = None,
        max_call_seconds: float | None = None,
        *,
        streams: bool = False,
        target: str = "",
        is_logged: bool = True,
    ) -> None:
        self.name = name
        """The configuration's key, or the built-in service."""
        self.handler = handler
        self.figures = figures
        self.limits = limits
        self.timeout = timeout
        """Seconds: the configuration's upper bound on the call."""
        self.max_call_seconds = max_call_seconds
        """Seconds after which a call without a deadline ends. It is not a deadline: the function does not learn of it.
        """
        self.streams = streams
        """Whether messages pass as they come, so that a client may be silent for as long as it likes."""
        self.target = target
        """The target's name, as the configuration writes it. Empty: the bridge itself answers."""
        self.is_logged = is_logged
        """Whether its calls have lines in the access log."""


Resolve = Callable[[str], Route]
"""From `:path` to its route; never fails: unknown paths share one route."""
