"""trace: makes a span for each call, and a child span for each attempt. They follow OpenTelemetry's conventions for RPC
and FaaS.

The client's trace context is the call's parent. The target gets the context of its attempt in the same metadata:
`traceparent` and `tracestate`, or what OTEL_PROPAGATORS says. Needs the extra `otel`; this module is not imported while
traces are off.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanKind, Tracer

from bridge.config.target import TargetKind
from bridge.logs import encodable
from bridge.rpc.call import CONSOLE, Call, Handler
from bridge.rpc.errors import RpcError
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode

_SERVER_ERRORS = frozenset(
    (
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    ),
)
"""The codes that mean a server failure. Any other may be the client's fault (semantic conventions for gRPC)."""
_CLIENT_ERRORS = frozenset(StatusCode) - {StatusCode.OK}
_LONGEST_TEXT = 500
"""Characters of a status message."""
_LONGEST_HOST = 255

Attributes = dict[str, str | int]


def traced(inner: Handler, *, tracer: Tracer, propagator: TextMapPropagator) -> Handler:
    """Return a handler that gives each call a span of kind SERVER, as a child of the client's traceparent."""
    fields = _Fields(propagator)

    async def traced_call(call: Call) -> None:
        figures = call.route.figures  # clients choose paths, so all unknown ones share one span name
        with tracer.start_as_current_span(
            f"{figures.service}/{figures.method}",
            context=fields.extract(call.metadata),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": figures.service,
                "rpc.method": figures.method,
                **_ends_of(call),
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            call.metadata = fields.inject(call.metadata)
            try:
                await inner(call)
            finally:
                # A call without a status means that the process itself is being stopped.
                _tell(span, call.status or Status(StatusCode.CANCELLED), errors=_SERVER_ERRORS)
                _tell_request_id(span, call.request_id)
                _tell_tenant(span, call)

    return traced_call


def traced_attempt(inner: Handler, *, target: TargetKind, tracer: Tracer, propagator: TextMapPropagator) -> Handler:
    """Return a handler that gives each attempt a span of kind CLIENT, and the target its traceparent."""
    fields = _Fields(propagator)
    name, attributes = target.span

    async def traced_target(call: Call) -> None:
        if not trace.get_current_span().is_recording():
            return await inner(call)  # the target then gets the context of the call's span
        with tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            call.metadata = fields.inject(call.metadata)
            failure: RpcError | None = None
            try:
                await inner(call)
            except RpcError as error:
                failure = error
                raise
            finally:
                _tell_attempt(span, call, call.cause or failure)
                _tell_tenant(span, call)

    return traced_target


class _Fields:
    """The metadata that carries trace context: all that the propagator knows, without baggage. Baggage passes
    unchanged.
    """

    def __init__(self, propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._names = {field.lower(): field for field in propagator.fields if field != "baggage"}
        self._root = Context()

    def extract(self, metadata: Metadata) -> Context:
        """Return the client's trace context, or the root if it sent none."""
        carrier: dict[str, list[str]] = {}
        for name, value in metadata:
            field = self._names.get(name)
            if field is not None:
                carrier.setdefault(field, []).append(value)
        return self._propagator.extract(carrier, self._root)

    def inject(self, metadata: Metadata) -> Metadata:
        """Return the metadata with its trace context replaced by that of the running span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        kept = [pair for pair in metadata if pair[0] not in self._names]
        return (*kept, *[(field.lower(), value) for field, value in carrier.items()])


def _ends_of(call: Call) -> Attributes:
    """Attributes for the server, as the client named it, and for the client."""
    host, _, port = call.authority.rpartition(":")
    ends: Attributes = {"server.address": call.authority[:_LONGEST_HOST]}
    if host and port.isascii() and port.isdigit() and len(port) <= 5:
        ends = {"server.address": host.strip("[]")[:_LONGEST_HOST], "server.port": int(port)}
    if call.peer.address in ("unix", CONSOLE):
        ends["network.transport"] = "unix"
    else:
        ends["network.peer.address"] = call.peer.address
    return ends


def _tell(span: Span, status: Status, *, errors: frozenset[StatusCode]) -> None:
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", int(status.code))
    if status.code in errors:
        description = encodable(status.message[:_LONGEST_TEXT])
        span.set_status(trace.Status(trace.StatusCode.ERROR, description))


def _tell_attempt(span: Span, call: Call, failure: RpcError | None) -> None:
    if failure is None:
        # If the call has no status either, this is a bug, or the process is being stopped.
        _tell(span, call.status or Status(StatusCode.UNKNOWN), errors=_CLIENT_ERRORS)
        _tell_request_id(span, call.request_id)
        return
    _tell(span, failure.status, errors=_CLIENT_ERRORS)
    span.set_attribute("error.type", failure.reason)
    _tell_request_id(span, failure.request_id)


def _tell_tenant(span: Span, call: Call) -> None:
    if call.tenant:
        span.set_attribute("aws.lambda.tenant_id", call.tenant)


def _tell_request_id(span: Span, request_id: str) -> None:
    if request_id:
        span.set_attribute("aws.request_id", request_id)
