"""The servicer that sends a call on: bytes in, bytes out, metadata and status in both directions.

It is a plain method of LambdaServer's, of every name. That it streams both ways says nothing about the method behind:
on the wire a unary call is a stream of one message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import grpc

from lambda_fn import metadata
from lambda_fn.forwarding.channel import KeptChannel
from lambda_fn.forwarding.process import NotServing, ServerProcess
from lambda_fn.interceptors import Handler
from lambda_fn.library_internals import tells_of_no_connection, tells_of_unreadable_headers
from lambda_fn.status import Metadata


class Upstream(NamedTuple):
    """The way to the server."""

    channel: KeptChannel
    process: ServerProcess | None = None
    """The server's, if it is ours to start."""

    def ready(self, timeout: float | None) -> None:
        """Return when the server can be reached. `timeout` is what the call has left (seconds). Raises NotServing."""
        if self.process is not None and self.process.ensure(timeout):
            self.channel.reach(self.process.target)  # it waits to reconnect to the process that ended


def forwarding_handlers(upstream: Upstream, services: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    """Return a handler for every method there is, and one more for each service known by name, which is how JSON
    callers find it.
    """
    return [*(_Named(upstream, service) for service in services), _Everything(upstream)]


class _Everything(grpc.GenericRpcHandler):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method: Any = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(partial(_forward, self._upstream, method))


class _Named(_Everything, grpc.ServiceRpcHandler):
    def __init__(self, upstream: Upstream, name: str) -> None:
        super().__init__(upstream)
        self._name = name

    def service_name(self) -> str:
        return self._name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method: Any = handler_call_details.method
        is_ours = method.startswith(f"/{self._name}/")
        return super().service(handler_call_details) if is_ours else None


def _forward(upstream: Upstream, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    try:
        upstream.ready(context.time_remaining())
    except NotServing as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    with upstream.channel.use() as channel:
        call = _begin(channel, method, requests, context)
        if not context.add_callback(call.cancel):
            call.cancel()
        yield from _messages(call, context)
    context.set_trailing_metadata(call.trailing_metadata())
    context.set_code(call.code())
    context.set_details(_described(call, upstream.channel.target.address))


def _begin(channel: Any, method: str, requests: Iterator[bytes], context: Any) -> Any:
    how = {"metadata": _passed(context.invocation_metadata()), "timeout": context.time_remaining()}
    first = list(islice(requests, 2))
    # grpcio reads a stream of requests in a thread of its own; the one message of most calls needs none.
    if len(first) == 1:
        return channel.unary_stream(method)(first[0], **how)
    return channel.stream_stream(method)(_whole(chain(first, requests), context), **how)


def _whole(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    """Yield the requests. Raises instead of ending if the call failed over one: the server must not take the rest for
    the whole.
    """
    yield from requests
    if not context.is_active():
        raise grpc.RpcError


def _messages(call: Any, context: Any) -> Iterator[bytes]:
    if initial := call.initial_metadata():
        context.send_initial_metadata(initial)
    try:
        yield from call
    except grpc.RpcError:
        return  # the call itself tells its status


def _passed(pairs: Metadata) -> Metadata:
    """Return what gRPC can carry on. HTTP headers of browsers and load balancers may hold more."""
    return tuple(pair for pair in pairs if _is_carried(pair))


def _is_carried(pair: tuple[str, str | bytes]) -> bool:
    try:
        metadata.of_servicer((pair,))
    except metadata.InvalidMetadata:
        return False
    return True


def _described(call: Any, address: str) -> str:
    details: str = call.details() or ""
    if tells_of_no_connection(call.code(), details):
        return f"the gRPC server at {address} cannot be reached: {details}"
    if tells_of_unreadable_headers(call.code(), details):
        return f"the gRPC server at {address} sent a header that is not gRPC's: {details}"
    return details
